"""15-minute energies of points and sites, and their days; see ``sums`` for periods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from psycopg import sql

from app.domain.energy import QuarterHours
from app.domain.period import QUARTER_HOUR_S, QUARTER_HOUR_US, Period, Step, midnight, starts
from app.domain.pue import CLASSES, SiteQuarterHours, Totals
from app.domain.quantity import VOLUME
from app.domain.site import Point, Site
from app.store import binary_copy, partitions
from app.store.binary_copy import FLOAT8, INT2, INT4, TIMESTAMPTZ
from app.store.engine import driver, store_errors
from app.store.period_parts import Piece, pieces
from app.store.readings import from_us, to_us
from app.store.sums import FIGURES_OF_SITE, PointEnergy, totals

Floats = npt.NDArray[np.float64]

AMOUNT = {"energy_15m": "energy_kwh", "volume_15m": "volume_m3"}
"""Column of the amount, by table."""


def table_of(point: Point) -> str:
    """Table that holds the 15-minute amounts of a point: energies, or volumes for water."""
    return "volume_15m" if point.quantity is VOLUME else "energy_15m"


# -- points in ---------------------------------------------------------------------------------------


def replace_quarter_hours(
    connection: sa.Connection,
    point: Point,
    point_id: int,
    start_us: int,
    end_us: int,
    cells: QuarterHours,
    *,
    kept_before_us: int | None = None,
) -> None:
    """Make the intervals of a point between two instants exactly `cells`.

    Parameters
    ----------
    start_us, end_us : int
        On 15-minute boundaries, half-open. [us]
    kept_before_us : int, optional
        Before this instant raw readings are missing: intervals are added, or replaced where more of them
        is covered now, and never removed. [us]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    table = table_of(point)
    exact_from_us = start_us if kept_before_us is None else min(max(start_us, kept_before_us), end_us)
    _clear(connection, table, "point_id = :id", {"id": point_id}, exact_from_us, end_us)
    partitions.ensure_figures(connection, table, cells.at_us)
    recent = cells.at_us >= exact_from_us
    if recent.any():
        copy_in(connection, table, columns_of(table), _packed(point_id, cells, recent))
    if not recent.all():
        _add_better(connection, table, _packed(point_id, cells, ~recent))


def columns_of(table: str) -> str:
    """Columns of a table of 15-minute amounts, in the order in which they are written."""
    return f"point_id, at, {AMOUNT[table]}, coverage_ratio, estimated_ratio, reading_interval_s, tag"


def _packed(point_id: int, cells: QuarterHours, rows: npt.NDArray[np.bool_]) -> bytes:
    return binary_copy.pack_rows(
        (INT4, np.full(int(rows.sum()), point_id)),
        (TIMESTAMPTZ, cells.at_us[rows]),
        (FLOAT8, cells.energy_kwh[rows]),
        (FLOAT8, cells.coverage_ratio[rows]),
        (FLOAT8, cells.estimated_ratio[rows]),
        (INT4, cells.reading_interval_s[rows]),
        (INT2, cells.tag[rows]),
    )


def _add_better(connection: sa.Connection, table: str, rows: bytes) -> None:
    """Add intervals; one that exists gives way only to one of which more is covered."""
    columns, staged = columns_of(table), f"incoming_{table}"
    fresh = ", ".join(f"{c} = excluded.{c}" for c in columns.split(", ")[2:])
    with store_errors():
        connection.exec_driver_sql("SET LOCAL client_min_messages = warning")
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE IF NOT EXISTS {staged} (LIKE {table}) ON COMMIT DELETE ROWS"
        )
        connection.exec_driver_sql(f"TRUNCATE {staged}")
        copy_in(connection, staged, columns, rows)
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}"  # noqa: S608
            f" ON CONFLICT (point_id, at) DO UPDATE SET {fresh}"
            f" WHERE {table}.coverage_ratio < excluded.coverage_ratio - 1e-9"
        )


def _clear(
    connection: sa.Connection, table: str, where: str, key: dict[str, Any], start_us: int, end_us: int
) -> None:
    span = {"start": from_us(start_us), "end": from_us(end_us)}
    with store_errors():
        statement = f"DELETE FROM {table} WHERE {where} AND at >= :start AND at < :end"  # noqa: S608
        connection.execute(sa.text(statement), {**key, **span})


def copy_in(connection: sa.Connection, table: str, columns: str, rows: bytes) -> None:
    """COPY packed rows into a table.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns.split(", ")))
    )
    with store_errors(), driver(connection).cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(rows)


_DAYS = """
INSERT INTO energy_day (point_id, day, energy_kwh, covered_s, estimated_s)
SELECT point_id, (at AT TIME ZONE :zone)::date AS day,
       sum(energy_kwh), sum(coverage_ratio) * 900, sum(estimated_ratio) * 900
FROM energy_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end
GROUP BY point_id, day
"""


def refresh_days(connection: sa.Connection, site: Site, point_ids: Sequence[int], span: Period) -> None:
    """Sum again the local days that `span` touches.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    first = span.start.astimezone(site.zone).date()
    days = whole_days(span, site)
    with store_errors():
        connection.execute(
            sa.text("DELETE FROM energy_day WHERE point_id = ANY(:points) AND day >= :first AND day < :last"),
            {"points": list(point_ids), "first": first, "last": days.end.astimezone(site.zone).date()},
        )
        connection.execute(
            sa.text(_DAYS),
            {"points": list(point_ids), "zone": site.time_zone, "start": days.start, "end": days.end},
        )


def whole_days(span: Period, site: Site) -> Period:
    """The local days that `span` touches."""
    last = (span.end - timedelta(microseconds=1)).astimezone(site.zone).date()
    first = span.start.astimezone(site.zone).date()
    return Period(midnight(first, site.zone), midnight(last + timedelta(days=1), site.zone))


# -- points out --------------------------------------------------------------------------------------


def load_quarter_hours(
    connection: sa.Connection, point_ids: Sequence[int], start: datetime, end: datetime
) -> dict[int, QuarterHours]:
    """15-minute energies by point number, oldest first; points without any are left out.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    span = {"points": list(point_ids), "start": start, "end": end}
    with store_errors():
        return {
            point_id: _quarter_hours(packed)
            for point_id, packed in connection.execute(sa.text(_PACKED_QUARTER_HOURS), span)
        }


_PACKED_QUARTER_HOURS = """
SELECT point_id, string_agg(
    timestamptz_send(at) || float8send(energy_kwh) || float8send(coverage_ratio)
    || float8send(estimated_ratio) || int2send(tag) || int4send(reading_interval_s), ''::bytea ORDER BY at)
FROM energy_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY point_id
"""
# One value per point instead of one row per interval: a year of intervals takes milliseconds to fetch.
_PACKED = np.dtype(
    [("at", ">i8"), ("kwh", ">f8"), ("coverage", ">f8"), ("estimated", ">f8"), ("tag", ">i2"), ("s", ">i4")]
)


def _quarter_hours(packed: bytes) -> QuarterHours:
    cells = np.frombuffer(packed, _PACKED)
    return QuarterHours(
        cells["at"].astype(np.int64) + binary_copy.EPOCH_SHIFT_US,
        cells["kwh"].astype(np.float64),
        cells["coverage"].astype(np.float64),
        cells["estimated"].astype(np.float64),
        cells["tag"].astype(np.int8),
        cells["s"].astype(np.int32),
    )


_PACKED_WHOLE_QUARTER_HOURS = """
SELECT point_id, string_agg(timestamptz_send(at) || float8send(energy_kwh / coverage_ratio), ''::bytea)
FROM energy_15m
WHERE point_id = ANY(:points) AND at >= :start AND at < :end AND coverage_ratio >= :least GROUP BY point_id
"""
_PACKED_WHOLE = np.dtype([("at", ">i8"), ("kwh", ">f8")])


def load_whole_quarter_hours(
    connection: sa.Connection, point_ids: Sequence[int], span: Period, least_coverage: float
) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Energies scaled up to the whole interval, where at least so much of it is covered.

    Returns
    -------
    iterator of (int, int64 array, float64 array)
        Number of the point, starts of its intervals [us] in no certain order, energies [kWh].

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {"points": list(point_ids), "start": span.start, "end": span.end, "least": least_coverage}
    with store_errors():
        rows = connection.execute(sa.text(_PACKED_WHOLE_QUARTER_HOURS), values).all()
    for number, packed in rows:
        cells = np.frombuffer(packed, _PACKED_WHOLE)
        yield number, cells["at"].astype(np.int64) + binary_copy.EPOCH_SHIFT_US, cells["kwh"]


_ALL_WHOLE_QUARTER_HOURS = """
SELECT string_agg(
    int4send(point_id) || timestamptz_send(at) || float8send(energy_kwh / coverage_ratio), ''::bytea
)
FROM energy_15m
WHERE point_id = ANY(%s::int[]) AND at >= %s AND at < %s AND coverage_ratio >= %s
"""
_ALL_PACKED_WHOLE = np.dtype([("point", ">i4"), ("at", ">i8"), ("kwh", ">f8")])


def whole_quarter_hours(
    connection: sa.Connection, point_ids: npt.NDArray[np.int64], span: Period, least_coverage: float
) -> npt.NDArray[np.float64]:
    """As :func:`load_whole_quarter_hours`, as one table: for short periods of many points.

    Returns
    -------
    float64 array, shape (intervals of the period, points)
        [kWh] NaN where less is covered.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    table = np.full((int(span.duration_s) // QUARTER_HOUR_S, len(point_ids)), np.nan)
    values = (binary_copy.array_text(point_ids), span.start, span.end, least_coverage)
    with store_errors():  # planned by its instants
        row = driver(connection).execute(_ALL_WHOLE_QUARTER_HOURS, values, prepare=False).fetchone()
    if row is not None and row[0] is not None:
        cells, order = np.frombuffer(row[0], _ALL_PACKED_WHOLE), np.argsort(point_ids)
        column = order[np.searchsorted(point_ids, cells["point"].astype(np.int64), sorter=order)]
        at_us = cells["at"].astype(np.int64) + binary_copy.EPOCH_SHIFT_US
        table[(at_us - to_us(span.start)) // QUARTER_HOUR_US, column] = cells["kwh"]
    return table


def by_month(connection: sa.Connection, point_ids: Sequence[int]) -> dict[tuple[int, str], float]:
    """Energy of points by local month ``2026-10``, over all of their history. [kWh]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = (
        "SELECT point_id, to_char(day, 'YYYY-MM'), sum(energy_kwh)"
        " FROM energy_day WHERE point_id = ANY(:points) GROUP BY 1, 2"
    )
    with store_errors():
        rows = connection.execute(sa.text(query), {"points": list(point_ids)})
        return {(number, month): kwh for number, month, kwh in rows}


_BIN = {
    Step.QUARTER_HOUR: "at",
    Step.HOUR: "date_bin('1 hour', at, TIMESTAMPTZ 'epoch')",
    Step.DAY: "date_trunc('day', at, :zone)",
    Step.MONTH: "date_trunc('month', at, :zone)",
}


@dataclass(frozen=True, slots=True)
class EnergyBar:
    """Energy of one point over one bar of a series."""

    point_id: int
    start: datetime
    energy: PointEnergy


def series_by_point(
    connection: sa.Connection, site: Site, point_ids: Sequence[int], span: Period, step: Step
) -> list[EnergyBar]:
    """Energy per point and bar, ordered by bar and point; whole local days come from their sums.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    bars: dict[tuple[datetime, int], PointEnergy] = {}
    for piece in pieces(site.zone, span) if step in _DAY_OF_BAR else [Piece(span.start, span.end)]:
        read = _bars_of_days if piece.is_days else _bars_of_quarter_hours
        for point, bar, *figures in read(connection, site, point_ids, *piece, step):
            bars[bar, point] = bars.get((bar, point), PointEnergy()) + PointEnergy(*figures)
    return [EnergyBar(point, bar, energy) for (bar, point), energy in sorted(bars.items(), key=_first)]


def _first(item: tuple[tuple[datetime, int], PointEnergy]) -> tuple[datetime, int]:
    return item[0]


def _bars_of_quarter_hours(
    connection: sa.Connection, site: Site, point_ids: Sequence[int], start: Any, end: Any, step: Step
) -> list[tuple[Any, ...]]:
    query = (
        f"SELECT point_id, {_BIN[step]} AS bar, sum(energy_kwh), sum(coverage_ratio) * 900,"  # noqa: S608
        " sum(estimated_ratio) * 900 FROM energy_15m WHERE point_id = ANY(:points)"
        " AND at >= :start AND at < :end GROUP BY point_id, bar"
    )
    values = {"points": list(point_ids), "start": start, "end": end, "zone": site.time_zone}
    with store_errors():
        return [tuple(row) for row in connection.execute(sa.text(query), values)]


_DAY_OF_BAR = {Step.DAY: "day", Step.MONTH: "date_trunc('month', day)::date"}


def _bars_of_days(
    connection: sa.Connection, site: Site, point_ids: Sequence[int], start: Any, end: Any, step: Step
) -> list[tuple[Any, ...]]:
    query = (
        f"SELECT point_id, {_DAY_OF_BAR[step]} AS bar, sum(energy_kwh), sum(covered_s),"  # noqa: S608
        " sum(estimated_s) FROM energy_day WHERE point_id = ANY(:points)"
        " AND day >= :start AND day < :end GROUP BY point_id, bar"
    )
    values = {"points": list(point_ids), "start": start, "end": end}
    with store_errors():
        rows = connection.execute(sa.text(query), values).all()
    midnights = {bar: midnight(bar, site.zone) for bar in {row[1] for row in rows}}
    return [(point, midnights[bar], *figures) for point, bar, *figures in rows]


# -- sites -------------------------------------------------------------------------------------------


def replace_site(
    connection: sa.Connection, site_id: int, room: str, start_us: int, end_us: int, cells: SiteQuarterHours
) -> None:
    """Make the intervals of a site (`room` empty) or room between two instants exactly `cells`.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    key = {"id": site_id, "room": room}
    _clear(connection, "site_15m", "site_id = :id AND room = :room", key, start_us, end_us)
    if not len(cells.at_us):
        return
    partitions.ensure_figures(connection, "site_15m", cells.at_us)
    name = room.encode()
    rows = binary_copy.pack_rows(
        (INT4, np.full(len(cells.at_us), site_id)),
        (f"S{len(name)}", np.full(len(cells.at_us), name)),
        (TIMESTAMPTZ, cells.at_us),
        (FLOAT8, cells.facility_kwh),
        (FLOAT8, cells.it_kwh),
        *((FLOAT8, cells.classes_kwh[c]) for c in CLASSES),
        (FLOAT8, cells.coverage_ratio),
        (FLOAT8, cells.estimated_ratio),
        (INT2, cells.category),
    )
    copy_in(connection, "site_15m", ", ".join(SITE_COLUMNS), rows)


SITE_COLUMNS = (
    "site_id",
    "room",
    "at",
    "facility_kwh",
    "it_kwh",
    *(f"{name}_kwh" for name in CLASSES),
    "coverage_ratio",
    "estimated_ratio",
    "category",
)
_SITE_SPAN = "site_id = :id AND room = :room AND at >= :start AND at < :end"


def _site_span(site_id: int, room: str, span: Period) -> dict[str, Any]:
    return {"id": site_id, "room": room, "start": span.start, "end": span.end}


def site_series(
    connection: sa.Connection, site_id: int, site: Site, room: str, span: Period, step: Step
) -> list[tuple[datetime, Totals]]:
    """Sums per bar, oldest first; bars without any covered time are left out.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values: dict[str, Any] = _site_span(site_id, room, span)
    query = f"SELECT {_BIN[step]} AS bar, {FIGURES_OF_SITE} FROM site_15m WHERE {_SITE_SPAN} GROUP BY bar"  # noqa: S608
    if step in (Step.DAY, Step.MONTH):
        bars = list(starts(span, step, site.zone))
        values |= {"starts": [start for start, _ in bars], "ends": [end for _, end in bars]}
        query = _BY_LONG_BAR
    with store_errors():
        rows = connection.execute(sa.text(f"{query} ORDER BY bar"), values).all()
    return [(row[0], totals(row[1:])) for row in rows if row[1]]


_BY_LONG_BAR = (
    "SELECT bar, sums.* FROM"  # noqa: S608
    " unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])) bars(bar, until)"
    f" CROSS JOIN LATERAL (SELECT {FIGURES_OF_SITE} FROM site_15m"
    " WHERE site_id = :id AND room = :room AND at >= bar AND at < until) sums"
)
"""A stretch of the index for each bar: by the calendar of a zone all rows would have to be sorted first."""


def known_span(connection: sa.Connection, point_ids: Sequence[int]) -> Period | None:
    """From the first to the end of the last interval of which energy is known; None without any.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT min(at), max(at) + interval '15 minutes' FROM energy_15m WHERE point_id = ANY(:points)"
    )
    with store_errors():
        first, last = connection.execute(query, {"points": list(point_ids)}).one()
    return None if first is None else Period(first, last)


def extent(connection: sa.Connection, site_number: int) -> tuple[datetime, datetime] | None:
    """First and last instant between which a site has figures; None where it has none.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT (SELECT at FROM site_15m WHERE site_id = :site AND room = '' ORDER BY at LIMIT 1),"
        " (SELECT at FROM site_15m WHERE site_id = :site AND room = '' ORDER BY at DESC LIMIT 1)"
    )
    with store_errors():
        begun, newest = connection.execute(query, {"site": site_number}).one()
    return None if begun is None else (begun, newest + timedelta(minutes=15))
