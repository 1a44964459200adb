"""The PUE document against its SQL and against raw readings; what one late reading costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from app import config
from app.domain import energy as domain
from app.domain.energy import Series
from app.domain.period import Period
from app.domain.pue import Totals, boundary, pair
from app.domain.reading import Reading, ReadingColumns
from app.jobs import rollup
from app.store import deployment, energy, pue, readings, sites
from app.store.embedded import EmbeddedServer
from app.store.engine import make_engine
from app.store.migrate import upgrade
from app.store.sites import Stored
from bench.table import Row, interleaved_s, median_s

TITLE = "Figures: the PUE document, and what a late reading costs"
START = datetime(2025, 1, 1, tzinfo=UTC)
MONTHS_S = 396 * 86_400
RACKS = 480
_FAST = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "1GB", "max_wal_size": "8GB"}
"""Filling is not what is measured."""


@contextmanager
def served() -> Iterator[str]:
    """The URL of a new database with the current schema."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServer(Path(folder) / "data", settings=_FAST) as server:
            with opened(server.url) as engine:
                upgrade(engine)
            yield server.url


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """The database of a URL, for work of any length."""
    engine = make_engine(url, statement_timeout_s=0)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def database() -> Iterator[sa.Engine]:
    """A new database with the current schema."""
    with served() as url, opened(url) as engine:
        yield engine


def site_text(racks: int) -> str:
    """A site with an incomer, chillers and racks, one register each."""
    meters = [_meter("main", "facility"), *(_meter(f"chiller{n}", "cooling") for n in range(19))]
    meters += [_meter(f"rack{n}", "it_equipment_input") for n in range(racks)]
    bank = "institutions: [{id: b, institution_class: other}]"
    site = "{id: s, institution: b, time_zone: Asia/Shanghai, meters: [" + ", ".join(meters) + "]}"
    return f"{bank}\nsites: [{site}]\n"


def _meter(name: str, role: str) -> str:
    return f"{{id: {name}, points: [{{id: {name}.kwh, role: {role}, kind: register}}]}}"


def fill(engine: sa.Engine, racks: int, seconds: int) -> Stored:
    """Registers every 15 minutes, rolled up."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(site_text(racks)).estate)
        stored = sites.load(connection)
    put(engine, stored.point_id, seconds)
    return stored


def put(engine: sa.Engine, numbers: Mapping[str, int], seconds: int) -> None:
    """Readings of these points, rolled up; their names say how large they are."""
    count = seconds // 900 + 1
    at_us = readings.to_us(START) + np.arange(count) * 900_000_000
    zero = np.zeros(count, np.int32)
    random = np.random.default_rng(1)
    for point, number in numbers.items():
        mean_kw = 2500.0 if "main" in point else 20.0 if "chiller" in point else 4.0
        value = np.cumsum(mean_kw / 4 * random.uniform(0.9, 1.1, count))
        columns = ReadingColumns(np.full(count, number, np.int32), at_us, value, zero, zero)
        with engine.begin() as connection:
            readings.ingest(connection, columns)
    rollup.run(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def run() -> list[Row]:
    """All rows of this bench."""
    with database() as engine:
        stored = fill(engine, RACKS, MONTHS_S)
        rows = [_document(engine, stored, days) for days in (1, 30, 365)]
        rows.append(_from_raw(engine, stored))
    return [*rows, *_late(), _proportional()]


def _document(engine: sa.Engine, stored: Stored, days: int) -> Row:
    period = Period(START + timedelta(days=30), START + timedelta(days=30 + days))
    site = stored.estate.site["s"]
    points = [stored.point_id[p.id] for p in boundary(site).points()]
    with engine.connect() as connection:
        profiles = deployment.limit_profiles(connection)

        def ours() -> object:
            return pue.document(connection, stored, "s", period, profiles)

        def only_sql() -> object:
            energy.site_totals(connection, stored.site_id["s"], "", period)
            return energy.by_point(connection, site, points, period)

        ours_s, sql_s = interleaved_s([ours, only_sql], 15)
    return Row(
        f"PUE document over {days} d, 13 months x {RACKS + 20} points",
        f"{ours_s * 1e3:.1f} ms",
        f"its SQL alone {sql_s * 1e3:.1f} ms",
        ours_s / sql_s,
        "<= 1.5 x SQL + 5 ms",
        "holds" if ours_s <= 1.5 * sql_s + 0.005 else "MISSED",
    )


def _from_raw(engine: sa.Engine, stored: Stored) -> Row:
    period = Period(START + timedelta(days=30), START + timedelta(days=60))
    site = stored.estate.site["s"]
    with engine.connect() as connection:
        profiles = deployment.limit_profiles(connection)

        def raw() -> Totals:
            cells = {}
            for _, _, point in (stored.estate.point[p.id] for p in boundary(site).points()):
                columns = readings.load(connection, stored.point_id[point.id], period.start, period.end)
                series = Series(columns.at_us, columns.value, columns.interval_s, columns.valid_s)
                start_us, end_us = readings.to_us(period.start), readings.to_us(period.end)
                cells[point.id] = domain.quarter_hours(domain.spans(series, point), start_us, end_us)
            return Totals.of(pair(boundary(site), cells, start_us, end_us))

        ours_s = median_s(lambda: pue.document(connection, stored, "s", period, profiles))
        raw_s = median_s(raw, 3)
    return Row(
        "PUE of a month against computing it from raw readings",
        f"{ours_s * 1e3:.1f} ms",
        f"from raw {raw_s * 1e3:.0f} ms",
        raw_s / ours_s,
        ">= 5",
    )


LATE_DAYS = (13, 39, 130, 390)


def _late() -> list[Row]:
    """Cost of one late reading while the history grows thirtyfold."""
    costs = [_late_s(days) for days in LATE_DAYS]
    return [
        Row(
            f"one late reading into {days} d of history of 20 points",
            f"{cost * 1e3:.1f} ms",
            f"into {LATE_DAYS[0]} d: {costs[0] * 1e3:.1f} ms",
            cost / costs[0],
            "<= 1.2 at 30x",
        )
        for days, cost in zip(LATE_DAYS, costs, strict=True)
    ]


def _late_s(days: int) -> float:
    with database() as engine:
        stored = fill(engine, 0, days * 86_400)
        middle = START + timedelta(days=days / 2)
        minutes = iter(range(1, 10_000))

        def late() -> None:
            at = middle + timedelta(minutes=15 * next(minutes), seconds=30)
            with engine.begin() as connection:
                before = readings.load(connection, 1, at - timedelta(minutes=15), at)
                readings.ingest_readings(
                    connection, [Reading("main.kwh", at, float(before.value[-1]))], dict(stored.point_id)
                )
            rollup.run(engine)

        late()
        return median_s(late, 41)


def _proportional() -> Row:
    """Cost of N new readings, for N and 10 N, at the end of a history."""
    with database() as engine:
        fill(engine, 0, 30 * 86_400)
        small, large = _new_s(engine, 96, 0), _new_s(engine, 960, 96)
    return Row(
        "rollup of 960 new intervals of 20 points against 96",
        f"{large * 1e3:.0f} ms",
        f"96: {small * 1e3:.0f} ms",
        large / small,
        "<= 10",
        "in proportion to what is new, or better",
    )


def _new_s(engine: sa.Engine, count: int, offset: int) -> float:
    with engine.begin() as connection:
        stored = sites.load(connection)
        first = START + timedelta(days=30, minutes=15 * (offset + 1))
        at_us = readings.to_us(first) + np.arange(count) * 900_000_000
        zero = np.zeros(count, np.int32)
        for number in stored.point_id.values():
            value = 1e7 + np.arange(offset, offset + count, dtype=np.float64)
            readings.ingest(
                connection, ReadingColumns(np.full(count, number, np.int32), at_us, value, zero, zero)
            )
    return median_s(lambda: rollup.run(engine), 1)
