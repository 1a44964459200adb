"""The PUE document against its SQL and against raw readings; what one late reading costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app import config
from app.charts import report as charts
from app.domain import energy as domain
from app.domain.energy import Series
from app.domain.period import Period
from app.domain.pue import Totals, boundary, pair
from app.domain.reading import Reading, ReadingColumns
from app.jobs import rollup
from app.jobs.verify import verify
from app.store import deployment, pue, readings, sites, sums
from app.store.embedded.server import EmbeddedServer
from app.store.engine import make_engine
from app.store.migrate import upgrade
from app.store.sites import Stored
from bench import history
from bench.table import Row, interleaved_s, median_s

TITLE = "Figures: the PUE document, and what a late reading costs"
START = datetime(2025, 1, 1, tzinfo=UTC)
MONTHS_S = 396 * 86_400
RACKS = 480
RAW_DAYS = 31
"""Raw readings are kept for some time, their intervals for ten years."""
CHART = Path(__file__).parent / "figure.svg"
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
        sites.sync(connection, config.parse(site_text(racks)).fleet)
        stored = sites.load(connection)
    put(engine, stored.point_id, seconds)
    return stored


def put(engine: sa.Engine, numbers: Mapping[str, int], seconds: int) -> None:
    """Readings of these points, rolled up; their names say how large they are."""
    at_us = history.quarter_hours(readings.to_us(START), seconds)
    zero = np.zeros(len(at_us), np.int32)
    for point, value in registers(numbers, len(at_us)):
        columns = ReadingColumns(np.full(len(at_us), numbers[point], np.int32), at_us, value, zero, zero)
        with engine.begin() as connection:
            readings.ingest(connection, columns)
    rollup.run(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def registers(points: Iterable[str], count: int) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """What the register of each point shows, quarter-hour by quarter-hour. [kWh]"""
    random = np.random.default_rng(1)
    for point in points:
        mean_kw = 2500.0 if "main" in point else 20.0 if "chiller" in point else 4.0
        yield point, np.cumsum(mean_kw / 4 * random.uniform(0.9, 1.1, count))


def filled_quickly(engine: sa.Engine, racks: int, seconds: int, raw_days: int) -> Stored:
    """What :func:`fill` leaves in the end, with the raw readings of the last days only."""
    text = site_text(racks)
    points = [p.id for p in config.parse(text).fleet.sites[0].points()]
    at_us = history.quarter_hours(readings.to_us(START), seconds)
    return history.write(engine, text, at_us, dict(registers(points, len(at_us))), raw_days * 96)


def run() -> list[Row]:
    """All rows of this bench; the chart beside its table is drawn anew."""
    return [*_large(RACKS, MONTHS_S), *_growing(), _proportional()]


def _large(racks: int, seconds: int) -> list[Row]:
    _check()
    with database() as engine:
        stored = filled_quickly(engine, racks, seconds, RAW_DAYS)
        end = START + timedelta(seconds=seconds)
        rows = [_document(engine, stored, end, days) for days in (1, 30, 365) if days * 86_400 < seconds]
        return [*rows, _from_raw(engine, stored, end)]


def _check() -> None:
    """Refuse to measure a history that does not follow from its readings; a small one of the kind tells."""
    with database() as engine:
        filled_quickly(engine, 0, RAW_DAYS * 86_400, RAW_DAYS)
        found = verify(engine)
    if found.breaches:
        raise AssertionError(f"the history does not follow from its readings: {found.breaches[:3]}")


def _document(engine: sa.Engine, stored: Stored, end: datetime, days: int) -> Row:
    period = Period(end - timedelta(days=days, hours=3), end - timedelta(hours=3))
    site = stored.fleet.site["s"]
    points = [stored.point_id[p.id] for p in boundary(site).points()]
    with engine.connect() as connection:
        profiles = deployment.limit_profiles(connection)

        def ours() -> object:
            return pue.document(connection, stored, "s", period, profiles)

        def only_sql() -> object:
            sums.site_totals(connection, [sums.OfSite(site, stored.site_id["s"], [period])])
            return sums.by_point(connection, site, points, period)

        ours_s, sql_s = interleaved_s([ours, only_sql], 15)
    return Row(
        f"PUE document over {days} d, {(end - START).days} d x {len(points)} points",
        f"{ours_s * 1e3:.1f} ms",
        f"its SQL alone {sql_s * 1e3:.1f} ms",
        ours_s / sql_s,
        "<= 1.5 x SQL + 5 ms",
        "holds" if ours_s <= 1.5 * sql_s + 0.005 else "MISSED",
    )


def _from_raw(engine: sa.Engine, stored: Stored, end: datetime) -> Row:
    period = Period(end - timedelta(days=30), end)
    site = stored.fleet.site["s"]
    with engine.connect() as connection:
        profiles = deployment.limit_profiles(connection)

        def raw() -> Totals:
            cells = {}
            for _, _, point in (stored.fleet.point[p.id] for p in boundary(site).points()):
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


def _growing() -> list[Row]:
    """Cost of one late reading, and of a document, while the history grows thirtyfold; all in turn."""
    with ExitStack() as stack:
        pairs = [_into(stack.enter_context(database()), days) for days in LATE_DAYS]
        medians = interleaved_s([work for pair in pairs for work in pair], 41)
    costs = list(zip(medians[::2], medians[1::2], strict=True))
    _draw(costs)
    first_s = costs[0][0]
    return [
        Row(
            f"one late reading into {days} d of history of 20 points",
            f"{late_s * 1e3:.1f} ms",
            f"into {LATE_DAYS[0]} d: {first_s * 1e3:.1f} ms",
            late_s / first_s,
            "<= 1.2 at 30x",
            f"PUE of the last 7 d beside it {document_s * 1e3:.1f} ms",
        )
        for days, (late_s, document_s) in zip(LATE_DAYS, costs, strict=True)
    ]


def _draw(costs: Sequence[tuple[float, float]]) -> None:
    names = ("one late reading", "PUE document of 7 d")
    lines = [charts.Series(name, [cost[n] * 1e3 for cost in costs]) for n, name in enumerate(names)]
    grown = [costs[0][0] * 1e3 * days / LATE_DAYS[0] for days in LATE_DAYS[:2]]
    lines.append(charts.Series("if it grew with the history", [*grown, None, None]))
    drawn = charts.svg(charts.Lines([f"{days} d" for days in LATE_DAYS], lines, "ms"))
    CHART.write_text(drawn, encoding="utf-8")


def _into(engine: sa.Engine, days: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """What takes in one late reading, and what makes a document, at a history of so many days."""
    stored = fill(engine, 0, days * 86_400)
    middle, end = START + timedelta(days=days / 2), START + timedelta(days=days)
    minutes = iter(range(1, 10_000))

    def late() -> None:
        at = middle + timedelta(minutes=15 * next(minutes), seconds=30)
        with engine.begin() as connection:
            before = readings.load(connection, 1, at - timedelta(minutes=15), at)
            reading = Reading("main.kwh", at, float(before.value[-1]))
            readings.ingest_readings(connection, [reading], dict(stored.point_id))
        rollup.run(engine)

    def document() -> None:
        with engine.connect() as connection:
            profiles = deployment.limit_profiles(connection)
            pue.document(connection, stored, "s", Period(end - timedelta(days=7), end), profiles)

    late()
    document()
    return late, document


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
