"""Single costs: an evaluation, alarms, a batch, and one reading until its figures and findings stand.

Sites of 500 registers with more than a year of figures on an embedded database with full durability;
``WATTLINE_COSTS_SITES`` (default 5) says how many. Processor time is that of this process and of the database
together, stated for the reference machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app import config
from app.domain.period import WINDOWS, Period, floor, window
from app.domain.reading import ReadingColumns
from app.domain.site import Fleet, Site
from app.jobs import findings, rollup
from app.jobs.alarms import judge
from app.jobs.alarms.watch import Cache
from app.jobs.evaluate import Evaluator
from app.store import partitions, readings, sites
from app.store.engine import begin, make_engine, unhurried
from app.store.fleet_cache import FleetCache
from app.store.sites import Stored
from bench.capacity import POINTS, below, processor_s, site_file, slowness
from bench.ingest import durable_server
from bench.table import Row

TITLE = "Single costs, a site of 500 points"
SITES = int(os.environ.get("WATTLINE_COSTS_SITES", "5"))
TURNS = 20
MINUTES, ROUNDS = 60, 6
"""Live minutes, and rounds of alarms in each."""
QUARTERS = 32
"""Two times four hours: once in four hours more is read."""
HISTORY_MINUTES = 120
"""So long all points of the first site were read before one of them is read alone."""
_MINUTE_US = 60_000_000
FIRST_KWH, KWH_A_MINUTE = 1000.0, 0.01
"""What registers show at the end of all figures, and how they count on."""

_QUARTER_HOURS = """
INSERT INTO energy_15m (point_id, at, energy_kwh, coverage_ratio, estimated_ratio, reading_interval_s, tag)
SELECT p.id, at, 0.1 + p.id % 7 * 0.013, 1, 0, 60, 1
FROM points p, generate_series(CAST(:start AS timestamptz), :last, interval '15 minutes') at
WHERE p.site_id = :site ON CONFLICT DO NOTHING
"""
_DAYS = """
INSERT INTO energy_day (point_id, day, energy_kwh, covered_s, estimated_s)
SELECT p.id, day::date, 9.6, 86400, 0
FROM points p, generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') day
WHERE p.site_id = :site
"""
_OF_SITE = """
INSERT INTO site_15m (site_id, room, at, facility_kwh, it_kwh, coverage_ratio, estimated_ratio, category)
SELECT :site, '', at, 180, 119.76, 1, 0, 2
FROM generate_series(CAST(:start AS timestamptz), :last, interval '15 minutes') at
"""


def run() -> list[Row]:
    """All rows of this bench."""
    slow, began = slowness(), floor(datetime.now(UTC)) - timedelta(hours=12)
    with durable_server() as url:
        engine = make_engine(url)
        with begin(engine) as connection:
            sites.sync(connection, config.parse(site_file(SITES)).fleet)
            stored = sites.load(connection)
            _fill(connection, stored, began + timedelta(hours=12))
        of_readings = _readings(engine, stored, began + timedelta(hours=12))  # first: later there is a gap
        found = [*_evaluations(engine, began), *of_readings]
        engine.dispose()
    return [
        Row(what, f"{1e3 * cost_s / slow:.1f} ms", "", None, asked, f"{1e3 * cost_s:.1f} ms here")
        for what, cost_s, asked in found
    ]


def _fill(connection: sa.Connection, stored: Stored, until: datetime) -> None:
    """Figures of all sites: those that the windows ask for."""
    zone = stored.fleet.sites[0].zone
    spans = [window(name, until, zone) for name in WINDOWS]
    begun, last = min(s.start for s in spans) - timedelta(days=2), until - timedelta(minutes=15)
    at_us = np.arange(int(begun.timestamp()), int(until.timestamp()), 900, dtype=np.int64) * 1_000_000
    with unhurried(connection):
        for table in ("energy_15m", "site_15m"):
            partitions.ensure_figures(connection, table, at_us)
        for number in stored.site_id.values():
            for part in _edges(spans):
                values = {"site": number, "start": part.start, "last": min(part.end, last)}
                connection.execute(sa.text(_QUARTER_HOURS), values)
            connection.execute(sa.text(_OF_SITE), {"site": number, "start": begun, "last": last})
            days: dict[str, int | date] = {"site": number, "first": begun.date(), "last": last.date()}
            connection.execute(sa.text(_DAYS), days)
        connection.execute(sa.text("ANALYZE"))


def _edges(spans: list[Period]) -> list[Period]:
    """The hours around the beginnings of periods, as far as they move, and the newest day."""
    before, after, newest = timedelta(hours=16), timedelta(hours=4), timedelta(hours=36)
    starts = dict.fromkeys(s.start for s in spans)
    edges = [Period(start - before, start + after) for start in starts]
    return [*edges, Period(spans[0].end - newest, spans[0].end)]


def _evaluations(engine: sa.Engine, began: datetime) -> list[tuple[str, float, str]]:
    evaluator, at = Evaluator(engine), began
    quarters, names = iter(range(1, 1000)), [f"s{number}" for number in range(SITES)]

    def moved() -> None:
        evaluator.run(began + timedelta(minutes=15) * next(quarters))

    def again() -> None:
        evaluator.note(dict.fromkeys(names, 0))
        evaluator.run(at)

    moved()
    cost_s = _cost_s(moved, QUARTERS) / SITES
    result = [("evaluation of a site after a quarter-hour", cost_s, "<= 10 ms, with alarms")]
    at = began + timedelta(minutes=15) * (next(quarters) - 1)
    again()
    cost_s = _cost_s(again) / SITES
    result.append(("evaluation of a site where nothing changed", cost_s, "<= 10 ms, with alarms"))
    return [*result, *_alarms(engine, evaluator, at, began + timedelta(hours=12))]


def _alarms(
    engine: sa.Engine, evaluator: Evaluator, begun: datetime, until: datetime
) -> list[tuple[str, float, str]]:
    """Rounds of alarms, ten seconds apart; all meters are polled, so that each may fall silent.

    Registers count on to what they are at the end of all figures.
    """
    with begin(engine) as connection:
        sites.sync(connection, _polled(config.parse(site_file(SITES)).fleet))
        points = np.array(sorted(sites.load(connection).point_id.values()), np.int32)
    cache, at = Cache(), begun

    def judged(rounds: int) -> float:
        nonlocal at
        before_s = _now_s()
        for _ in range(rounds):
            at += timedelta(seconds=10)
            judge.run(engine, at, cache=cache)
        return (_now_s() - before_s) / SITES

    def minute() -> tuple[float, float]:
        """Costs of the first round after new readings, and of those up to the next."""
        _send_minute(engine, points, at, until)
        rollup.run(engine)
        evaluator.run(at)
        return judged(1), judged(ROUNDS - 1)

    for _ in range(MINUTES):  # whatever is to fire does
        minute()
    first_s, further_s = (
        sum(costs) / MINUTES for costs in zip(*(minute() for _ in range(MINUTES)), strict=True)
    )
    of = "alarms of a site, a round"
    return [
        (f"{of} where nothing changed", further_s / (ROUNDS - 1), "<= 1 ms"),
        (f"{of} after a live minute", first_s, ""),
        (f"{of}, mean of an hour", (first_s + further_s) / ROUNDS, "<= 1 ms"),
    ]


def _polled(fleet: Fleet) -> Fleet:
    """The same with collectors: 25 meters behind each gateway."""
    told = {"kind": "modbus", "profile": "schneider_pm5xxx", "interval_s": 60}

    def polled(site: Site) -> Site:
        meters = (
            replace(meter, collector={**told, "host": f"{site.id}-{n // 25}", "device_id": n % 25 + 1})
            for n, meter in enumerate(site.meters)
        )
        return replace(site, meters=tuple(meters))

    return replace(fleet, sites=tuple(map(polled, fleet.sites)))


def _send_minute(engine: sa.Engine, points: npt.NDArray[np.int32], at: datetime, until: datetime) -> None:
    at_us, zero = np.full(len(points), int(at.timestamp()) * 1_000_000), np.zeros(len(points), np.int32)
    kwh = np.full(len(points), FIRST_KWH + KWH_A_MINUTE * ((at - until) / timedelta(minutes=1)))
    with begin(engine) as connection:
        readings.ingest(connection, ReadingColumns(points, at_us, kwh, zero, zero))


def _readings(engine: sa.Engine, stored: Stored, start: datetime) -> list[tuple[str, float, str]]:
    points = np.array(sorted(n for key, n in stored.point_id.items() if key.startswith("s0-")), np.int32)
    fleet = FleetCache()
    start_us = int(start.timestamp()) * 1_000_000

    def send(first: int, minutes: int, count: int) -> None:
        minute = np.repeat(np.arange(first, first + minutes), count)
        at_us, zero = start_us + minute * _MINUTE_US, np.zeros(len(minute), np.int32)
        kwh = np.asarray(FIRST_KWH + KWH_A_MINUTE * minute, np.float64)
        columns = ReadingColumns(np.tile(points[:count], minutes), at_us, kwh, zero, zero)
        with begin(engine) as connection:
            readings.ingest(connection, columns)

    def settle() -> None:
        rollup.run(engine)
        findings.run(engine, fleet=fleet)

    send(0, HISTORY_MINUTES, POINTS)
    settle()
    minutes = iter(range(HISTORY_MINUTES, 10_000))

    def one() -> None:
        send(next(minutes), 1, 1)
        settle()

    def batch() -> None:
        send(next(minutes), 1, 100)

    one()
    first = ("one reading, until figures and findings stand", _cost_s(one), "<= 30 ms")
    return [first, ("a batch of 100 readings into the store", _cost_s(batch), "")]


def _cost_s(work: Callable[[], None], turns: int = TURNS) -> float:
    """Processor time of one turn. [s]"""
    before = _now_s()
    for _ in range(turns):
        work()
    return (_now_s() - before) / turns


def _now_s() -> float:
    return time.process_time() + sum(map(processor_s, below(os.getpid())))
