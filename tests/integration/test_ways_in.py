"""The same readings give the same rows, figures and findings, whatever the way in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest
import sqlalchemy as sa

from app import config
from app.domain.period import Period
from app.domain.reading import ReadingColumns
from app.jobs import findings, imports, rollup, site_findings
from app.store import partitions, readings, sites
from app.store.audit import Actor
from app.store.engine import begin, connect
from app.store.imports import Imported, Source, store_source
from app.store.readings import to_us
from app.store.sites import Stored

METERS = 9
START = datetime(2026, 3, 6, 16, tzinfo=UTC)
"""A Friday: the third day begins another week."""
MINUTES = 3 * 1440
TABLES = {
    "readings": "point_id, at",
    "energy_15m": "point_id, at",
    "energy_day": "point_id, day",
    "site_15m": "site_id, room, at",
}
FOUND = "point_id, kind, start_at, end_at, severity, state, effect_kwh, evidence"


@dataclass(frozen=True)
class Part:
    """A part of a file."""

    points: Sequence[str]
    columns: ReadingColumns
    rejects: Sequence[object] = ()
    missing: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0


def declared(engine: sa.Engine) -> Stored:
    lines = ["institutions: [{id: b, institution_class: other}]", "sites:", "  - id: s"]
    lines += ["    institution: b", "    time_zone: Asia/Shanghai", "    meters:"]
    for n in range(METERS):
        role, fed = ("facility", "") if n == 0 else ("it_pdu_output", ", fed_by: [m0]")
        register = f"{{id: m{n}.kwh, role: {role}, kind: register, interval_s: 60, modulus_kwh: 10000}}"
        power = f"{{id: m{n}.kw, role: none, kind: power, interval_s: 60}}"
        energy = f"{{id: m{n}.e, role: none, kind: interval_energy, interval_s: 60}}"
        points = ", ".join((register, power, energy) if n % 4 == 1 else (register, power))
        lines.append(f"      - {{id: m{n}, rated_power_kw: 400{fed}, points: [{points}]}}")
    with begin(engine) as connection:
        sites.sync(connection, config.parse("\n".join(lines) + "\n").fleet)
        return sites.load(connection)


def history(stored: Stored, seed: int) -> ReadingColumns:
    """Three days with wraps, a replacement, a gap, jitter and a reading that does not fit."""
    random = np.random.default_rng(seed)
    parts = []
    for n, (key, number) in enumerate(sorted(stored.point_id.items())):
        at_us = to_us(START) + np.arange(MINUTES) * 60_000_000 + random.integers(0, 5, MINUTES) * 1_000_000
        power = 30 + 5 * np.sin(np.arange(MINUTES) / 230 + n) + random.normal(0, 0.5, MINUTES)
        length = np.zeros(MINUTES, np.int32)
        value = power
        if key.endswith(".kwh"):
            value = np.round((9_000 + 97 * n + np.cumsum(power) / 60) % 10_000, 2)
        elif key.endswith(".e"):
            value, length = power / 60, np.full(MINUTES, 60, np.int32)
        if key == "m2.kwh":
            value[2000:] = np.round(value[2000:] - value[2000] + 12, 2)
        if key == "m3.kwh":
            value[777] = 3.0
        kept = np.ones(MINUTES, np.bool_)
        if key.startswith("m4"):
            kept[900:1300] = False
        point = np.full(MINUTES, number, np.int32)
        parts.append(ReadingColumns(point, at_us, value, length, length).take(kept))
    whole = ReadingColumns.concat(parts)
    return whole.take(np.lexsort((whole.point_id, whole.at_us)))


def emptied(engine: sa.Engine) -> None:
    with begin(engine) as connection:
        for name, *_ in partitions.existing(connection):
            connection.exec_driver_sql(f"DROP TABLE {name}")
        names = (*TABLES, "rollup_queue", "check_queue", "findings", "reading_conflicts", "gauge_15m")
        connection.exec_driver_sql(f"TRUNCATE {', '.join(names)}")


def standing(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    queries = {table: f"TABLE {table} ORDER BY {key}" for table, key in TABLES.items()}
    queries["findings"] = f"SELECT {FOUND} FROM findings WHERE state <> 'cleared' ORDER BY {FOUND}"
    with connect(engine) as connection:
        return {
            name: [tuple(map(str, row)) for row in connection.execute(sa.text(query))]
            for name, query in queries.items()
        }


def file_of(engine: sa.Engine, stored: Stored, batches: Iterator[ReadingColumns]) -> Imported:
    names = [""] * (max(stored.point_id.values()) + 1)
    for key, number in stored.point_id.items():
        names[number] = key
    points = sorted(stored.point_id)
    place = {stored.point_id[key]: n for n, key in enumerate(points)}

    def parts() -> Iterator[Part]:
        for columns in batches:
            index = np.array([place[n] for n in columns.point_id.tolist()], np.int32)
            values = (columns.at_us, columns.value, columns.interval_s, columns.valid_s)
            yield Part(points, ReadingColumns(index, *values))

    return store_source(engine, stored, Source("s", "f.csv", "0"), parts(), by=Actor("test"))


def cut(columns: ReadingColumns, order: npt.NDArray[np.intp], size: int) -> Iterator[ReadingColumns]:
    for begin_row in range(0, len(order), size):
        yield columns.take(order[begin_row : begin_row + size])


@pytest.mark.parametrize("seed", [1, 2])
def test_files_of_any_order_and_live_batches_come_to_the_same(engine: sa.Engine, seed: int) -> None:
    stored = declared(engine)
    columns = history(stored, seed)
    random = np.random.default_rng(seed)
    rows = np.arange(len(columns))

    def by_time() -> None:
        assert file_of(engine, stored, cut(columns, rows, 7_000)).accepted == len(columns)
        imports.settle(engine)

    def by_point() -> None:
        order = np.lexsort((columns.at_us, columns.point_id))
        assert file_of(engine, stored, cut(columns, order, 5_000)).accepted == len(columns)
        imports.settle(engine)

    def shuffled() -> None:
        assert file_of(engine, stored, cut(columns, random.permutation(rows), 9_000)).accepted == len(columns)
        imports.settle(engine)

    def with_late_ones() -> None:
        late = random.random(len(rows)) < 0.02
        assert file_of(engine, stored, cut(columns, rows[~late], 20_000)).accepted == (~late).sum()
        imports.settle(engine)
        assert file_of(engine, stored, cut(columns, rows[late], 20_000)).accepted == late.sum()
        imports.settle(engine)

    def in_batches() -> None:
        for some in cut(columns, rows, 12_000):
            with begin(engine) as connection:
                readings.ingest(connection, some)
            rollup.run(engine)
            findings.run(engine)
        findings.look_at_everything(engine)
        span = Period(START, START + timedelta(minutes=MINUTES))
        site_findings.look_at_months(engine, {stored.site_id["s"]: span}, datetime.now(UTC))

    by_time()
    expected = standing(engine)
    assert len(expected["readings"]) == len(columns)
    assert len(expected["energy_15m"]) > METERS * 200
    assert {"rollover", "transient_zero", "gap"} & {row[1] for row in expected["findings"]}
    for way in (by_point, shuffled, with_late_ones, in_batches):
        emptied(engine)
        way()
        got = standing(engine)
        for table, wanted in expected.items():
            assert got[table] == wanted, (way.__name__, table)


def test_an_import_lays_the_rows_of_a_batch_point_by_point(engine: sa.Engine) -> None:
    stored = declared(engine)
    columns = history(stored, 6).take(np.arange(4_000))
    file_of(engine, stored, cut(columns, np.arange(4_000), 2_000))
    with connect(engine) as connection:
        rows = connection.execute(sa.text("SELECT point_id, at FROM readings ORDER BY tableoid, ctid")).all()
    wanted = np.lexsort((columns.at_us, columns.point_id, np.arange(4_000) // 2_000))
    assert [(point, to_us(at)) for point, at in rows] == [
        (int(columns.point_id[n]), int(columns.at_us[n])) for n in wanted
    ]


def test_repeats_and_contradictions_of_a_fresh_week_are_counted(engine: sa.Engine) -> None:
    stored = declared(engine)
    columns = history(stored, 3).take(np.arange(20_000))
    again = columns.take(np.arange(100, 160))
    other = ReadingColumns(
        again.point_id[:7], again.at_us[:7], again.value[:7] + 1, again.interval_s[:7], again.valid_s[:7]
    )
    once, twice = columns.take(np.arange(10_000)), columns.take(np.arange(10_000, 20_000))
    batches = [once, again, ReadingColumns.concat([twice, twice.take(np.arange(3))]), other]
    found = file_of(engine, stored, iter(batches))
    assert (found.accepted, found.duplicate, found.conflicting) == (20_000, 63, 7)
    with connect(engine) as connection:
        stood = connection.execute(sa.text("SELECT count(*) FROM reading_conflicts")).scalar_one()
        kept = readings.load(connection, int(columns.point_id[0]), START, datetime(2027, 1, 1, tzinfo=UTC))
    assert stood == 7
    own = columns.take(columns.point_id == columns.point_id[0])
    assert kept.value.tolist() == own.value.tolist()


def test_a_week_that_another_makes_meanwhile_takes_the_readings_over(engine: sa.Engine) -> None:
    stored = declared(engine)
    columns = history(stored, 4).take(np.arange(9_000))
    mine = columns.take(np.arange(10))
    theirs = ReadingColumns(
        mine.point_id, mine.at_us, np.where(np.arange(10) < 4, 7.0, mine.value), mine.interval_s, mine.valid_s
    )

    def batches() -> Iterator[ReadingColumns]:
        yield columns
        with begin(engine) as connection:
            readings.ingest(connection, theirs)

    found = file_of(engine, stored, batches())
    assert (found.accepted, found.duplicate, found.conflicting) == (8_990, 6, 4)
    with connect(engine) as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM readings")).scalar_one()
        names = connection.execute(sa.text("SELECT relname FROM pg_class WHERE relname ~ '^readings_2026'"))
        assert count == 9_000
        assert {len(name) for name in names.scalars()} <= {
            len("readings_20260302"),
            len("readings_20260302_pkey"),
            len("readings_20260302_point_id_at_idx"),
        }


def test_a_file_that_breaks_off_leaves_nothing(engine: sa.Engine) -> None:
    stored = declared(engine)
    columns = history(stored, 5).take(np.arange(5_000))

    def batches() -> Iterator[ReadingColumns]:
        yield columns
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk is gone"):
        file_of(engine, stored, batches())
    with connect(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM readings")).scalar_one() == 0
        assert connection.execute(sa.text("SELECT count(*) FROM rollup_queue")).scalar_one() == 0
    assert file_of(engine, stored, iter([columns])).accepted == 5_000
