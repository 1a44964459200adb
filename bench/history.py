"""A long history as the rollups leave it, written at the speed of COPY.

Intervals, days and sums of the site come from the product's own functions; only the queue, the indexes
and the deletion of what stood there before are left out. A test compares the rows with the product's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from psycopg import sql

from app import config
from app.domain import energy as domain
from app.domain.energy import QuarterHours, Series
from app.domain.period import QUARTER_HOUR_US, Period
from app.domain.pue import boundary, pair
from app.domain.reading import ReadingColumns
from app.domain.site import Site
from app.store import binary_copy, energy, partitions, sites
from app.store.binary_copy import FLOAT8, INT2, INT4, TIMESTAMPTZ
from app.store.engine import driver
from app.store.readings import from_us
from app.store.sites import Stored

CHUNK = 3168
"""Quarter-hours that are computed together: 33 days."""
_READINGS, _ENERGY = (
    binary_copy.COLUMNS,
    "point_id, at, energy_kwh, coverage_ratio, estimated_ratio, reading_interval_s, tag",
)
_WITHOUT_INDEXES = (
    "TRUNCATE energy_15m",
    "ALTER TABLE energy_15m DROP CONSTRAINT energy_15m_pkey",
)
_WITH_INDEXES = (
    "SET LOCAL maintenance_work_mem = '512MB'",
    "ALTER TABLE energy_15m ADD PRIMARY KEY (point_id, at)",
)


def write(
    engine: sa.Engine,
    text: str,
    at_us: npt.NDArray[np.int64],
    registers: dict[str, npt.NDArray[np.float64]],
    raw: int,
) -> Stored:
    """The site of a file with the readings of its registers, rolled up.

    Parameters
    ----------
    at_us : int64, shape (n,)
        Quarter-hours, one after the other. [us]
    registers : dict of str to float64, shape (n,)
        By point.
    raw : int
        So many of the newest readings are kept, as retention does.
    """
    with engine.begin() as connection:
        sites.sync(connection, config.parse(text).fleet)
        stored = sites.load(connection)
        (site,) = stored.fleet.sites
        _raw(connection, stored, at_us[-raw:], {point: value[-raw:] for point, value in registers.items()})
        for statement in _WITHOUT_INDEXES:
            connection.exec_driver_sql(statement)
        for rows in _chunks(len(at_us)):
            _rolled_up(connection, stored, site, at_us[rows], {p: v[rows] for p, v in registers.items()})
        for statement in _WITH_INDEXES:
            connection.exec_driver_sql(statement)
        span = Period(from_us(int(at_us[0])), from_us(int(at_us[-1])))
        energy.refresh_days(connection, site, list(stored.point_id.values()), span)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    return stored


def _chunks(count: int) -> Iterator[slice]:
    """Stretches of readings, each with the first one of the next."""
    for first in range(0, count - 1, CHUNK):
        yield slice(first, min(first + CHUNK, count - 1) + 1)


def _raw(
    connection: sa.Connection,
    stored: Stored,
    at_us: npt.NDArray[np.int64],
    registers: dict[str, npt.NDArray[np.float64]],
) -> None:
    partitions.ensure(connection, at_us)
    zero = np.zeros(len(at_us), np.int32)
    for point, value in registers.items():
        number = np.full(len(at_us), stored.point_id[point], np.int32)
        _copy(
            connection,
            "readings",
            _READINGS,
            binary_copy.pack(ReadingColumns(number, at_us, value, zero, zero)),
        )
    dropped = {"at": from_us(int(at_us[0])) - timedelta(minutes=15)}
    connection.execute(
        sa.text("INSERT INTO horizons (kind, dropped_before) VALUES ('readings', :at)"), dropped
    )


def _rolled_up(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    at_us: npt.NDArray[np.int64],
    registers: dict[str, npt.NDArray[np.float64]],
) -> None:
    start_us, end_us = int(at_us[0]), int(at_us[-1])
    zero = np.zeros(len(at_us), np.int32)
    cells = {}
    for meter in site.meters:
        for point in meter.points:
            series = Series(at_us, registers[point.id], zero, zero)
            known = domain.spans(series, meter.effective(point))
            cells[point.id] = domain.quarter_hours(known, start_us, end_us)
            partitions.ensure_figures(connection, "energy_15m", cells[point.id].at_us)
            _copy(connection, "energy_15m", _ENERGY, _packed(stored.point_id[point.id], cells[point.id]))
    sums = pair(boundary(site), cells, start_us, end_us)
    energy.replace_site(connection, stored.site_id[site.id], "", start_us, end_us, sums)


def _packed(number: int, cells: QuarterHours) -> bytes:
    return binary_copy.pack_rows(
        (INT4, np.full(len(cells.at_us), number)),
        (TIMESTAMPTZ, cells.at_us),
        (FLOAT8, cells.energy_kwh),
        (FLOAT8, cells.coverage_ratio),
        (FLOAT8, cells.estimated_ratio),
        (INT4, cells.reading_interval_s),
        (INT2, cells.tag),
    )


def _copy(connection: sa.Connection, table: str, columns: str, rows: bytes) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns.split(", ")))
    )
    with driver(connection).cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(rows)


def quarter_hours(start_us: int, seconds: int) -> npt.NDArray[np.int64]:
    """Every quarter-hour from an instant on, the last one included. [us]"""
    return start_us + np.arange(seconds // 900 + 1, dtype=np.int64) * QUARTER_HOUR_US
