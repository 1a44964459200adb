"""Who names points and a time reads their part of the index: no statement walks through a week."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import (
    energy_batch,
    metrics_snapshot,
    partitions,
    pushed_readings,
    reading_pages,
    reading_windows,
    readings,
    status,
)
from app.store import engine as stores
from app.store.corrections import Correcting, Correction
from tests.integration.test_readings import START

STEP, DAYS = timedelta(minutes=10), 14
LAST = START + timedelta(days=DAYS) - STEP
POINTS = list(range(1, 9))
_FILL = sa.text(
    """
    INSERT INTO readings SELECT at, point, extract(epoch FROM at) / 3600, 0, 0
    FROM generate_series(CAST(:first AS timestamptz), CAST(:last AS timestamptz),
        CAST(:step AS interval)) AS at, generate_series(1, :points) AS point
    ORDER BY at, point
    """
)
_POINTS = sa.text(
    """
    WITH i AS (INSERT INTO institutions (key, position, name, institution_class)
               VALUES ('i', 1, 'i', 'rural') RETURNING id),
    s AS (INSERT INTO sites (key, position, institution_id, name, time_zone, definition, definition_hash)
          SELECT 's', 1, id, 's', 'UTC', '{}', '' FROM i RETURNING id),
    m AS (INSERT INTO meters (key, position, site_id, name, definition)
          SELECT 'm', 1, id, 'm', '{}' FROM s RETURNING id, site_id)
    INSERT INTO points (key, position, meter_id, site_id, role, kind, weight, definition, definition_hash)
    SELECT 'p' || n, n, id, site_id, 'it', 'register', 1, '{}', '' FROM m, generate_series(1, :points) AS n
    """
)
_READ = sa.text(
    """
    SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::bigint FROM pg_class
    WHERE relname LIKE 'readings\\_2%' AND relkind IN ('r', 'i')
    """
)


def _batch(points: list[int], count: int, first_us: int, value: float = 1e9) -> ReadingColumns:
    at_us = first_us + np.arange(count, dtype=np.int64) * (STEP // timedelta(microseconds=1))
    zero = np.zeros(count * len(points), np.int32)
    point_id = np.tile(np.array(points, np.int32), count)
    return ReadingColumns(point_id, np.repeat(at_us, len(points)), np.full(len(zero), value), zero, zero)


def _us(before_the_last: timedelta, points: list[int] = POINTS) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.full(len(points), readings.to_us(LAST - before_the_last))


def _all(connection: sa.Connection, points: list[int], days: int) -> object:
    return list(readings.copy_out(connection, points, LAST - timedelta(days=days), LAST))


def _correct(connection: sa.Connection) -> object:
    correcting = Correcting(connection, 1, Correction("a", "n"))
    return correcting.ingest(_batch(POINTS, 3, readings.to_us(LAST - 2 * STEP)))


MOST_ROWS = 15_000
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AFTER_US = readings.to_us(LAST + STEP)
ASKED: dict[str, Callable[[sa.Connection], object]] = {
    "few new": lambda c: readings.ingest(c, _batch(POINTS, 1, AFTER_US)),
    "few that contradict": lambda c: readings.ingest(c, _batch(POINTS, 1, readings.to_us(LAST))),
    "many new": lambda c: readings.ingest(c, _batch(POINTS, 200, AFTER_US)),
    "many, some of them there": lambda c: readings.ingest(c, _batch(POINTS, 200, readings.to_us(LAST))),
    "many late": lambda c: readings.ingest(c, _batch([300], 1200, readings.to_us(LAST - 9 * DAY))),
    "pushed": lambda c: pushed_readings.store_rows(c, _batch(POINTS, 1, readings.to_us(LAST))),
    "corrected": _correct,
    "load": lambda c: readings.load(c, 3, LAST - DAY, LAST),
    "load many": lambda c: readings.load_many(c, POINTS, [LAST - HOUR] * 8, [LAST] * 8),
    "are first": lambda c: readings.are_first(c, POINTS, _us(13 * DAY)),
    "around": lambda c: readings.around(c, 3, LAST - HOUR, LAST),
    "known span": lambda c: readings.known_span(c, POINTS),
    "known spans": lambda c: readings.known_spans(c, POINTS),
    "counts": lambda c: readings.counts(c, POINTS, most=100),
    "latest": lambda c: readings.latest(c, "s"),
    "within": lambda c: reading_windows.within(c, POINTS[:3], _us(HOUR)[:3], _us(0 * DAY)[:3]),
    "within, dense": lambda c: reading_windows.within(c, POINTS, _us(DAY), _us(0 * DAY)),
    "reach ends": lambda c: reading_windows.reach_ends(c, POINTS, _us(13 * DAY), _us(-DAY)),
    "beside": lambda c: reading_windows.beside(c, POINTS, _us(HOUR), 3, earlier=True),
    "beside later": lambda c: reading_windows.beside(c, POINTS, _us(HOUR), 3, earlier=False),
    "page": lambda c: reading_pages.page(c, POINTS, START - 900 * DAY, LAST, 100),
    "page of all time, nothing there": lambda c: reading_pages.page(c, [400], START - 900 * DAY, LAST, 100),
    "export": lambda c: _all(c, POINTS, 1),
    "gauges": lambda c: energy_batch.refresh_gauges(c, POINTS, _us(HOUR), _us(0 * DAY)),
    "metrics": lambda c: metrics_snapshot.Known().last_at(c, LAST),
    "growth": lambda c: status._growth_bytes_per_day(c, LAST),
}


@pytest.fixture(params=[100, 2], ids=["many points", "two points"])
def filled(request: pytest.FixtureRequest, engine: sa.Engine) -> sa.Engine:
    """Two weeks of readings: in order of time, as live ones lie; of two points ten times as often."""
    step = STEP if request.param > 2 else STEP / 20
    with stores.begin(engine) as connection:
        partitions.ensure(connection, np.array([readings.to_us(START), *_us(DAY), AFTER_US], np.int64))
        span = {"first": START, "last": LAST, "step": step, "points": request.param}
        connection.execute(_FILL, span)
        connection.execute(_POINTS, {"points": request.param})
    return engine


@pytest.mark.parametrize("analyzed", [False, True])
def test_no_statement_reads_a_week(filled: sa.Engine, analyzed: bool) -> None:
    if analyzed:
        with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE readings, points")
    # Many rows are joined with all of a week that was not counted yet: as cheap as to look each up.
    names = ASKED.keys() - (set() if analyzed else {"many, some of them there"})
    read = {name: _rows_read(filled, ASKED[name]) for name in names}
    week = f"SELECT count(*) FROM readings WHERE at >= '{START}' AND at < '{START + 7 * DAY}'"
    assert _rows_read(filled, lambda c: c.exec_driver_sql(week)) > 2 * MOST_ROWS
    assert {name: rows for name, rows in read.items() if rows > MOST_ROWS} == {}


def _rows_read(engine: sa.Engine, ask: Callable[[sa.Connection], object]) -> int:
    """Rows of readings that were read in scans, and entries of their indexes."""
    with engine.connect() as connection:
        before = connection.execute(_READ).scalar_one()  # of earlier transactions that are not counted yet
        ask(connection)
        after = connection.execute(_READ).scalar_one()
        connection.rollback()
    return int(after - before)
