"""The same store on TimescaleDB: migrations, compression, late data, retention, views.

``WATTLINE_TEST_TIMESCALE_URL`` names a native server (its user makes databases); without it,
TimescaleDB in WebAssembly is used, which knows one connection, no COPY and no background jobs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from app.domain.reading import ReadingColumns
from app.store import compression, locks, migrate, reader, readings, retention, timescale
from app.store import engine as stores
from app.store import move as moving
from app.store.move import APPLICATION_NAME, move
from app.store.retention import Retention
from app.store.slices import fingerprint, slices
from app.store.status import status
from bench.series import register_series
from tests.integration.test_migrate import PROMISED
from tests.integration.test_readings import LATER, START, batch, everything, ingest, queue
from tests.integration.timescale import stage_by_insert, wasm_url

NATIVE_URL = os.environ.get("WATTLINE_TEST_TIMESCALE_URL", "")
NOW = START + timedelta(days=100)
DAY = 24 * 60
TABLES = "readings, reading_conflicts, rollup_queue, energy_15m, site_15m, dropped_readings, horizons"


@pytest.fixture(autouse=True)
def _long_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if upkeep had run every day until now."""
    monkeypatch.setattr(retention, "DAILY_STEP", timedelta(days=10_000))


@pytest.fixture(scope="module")
def hyper_engine() -> Iterator[sa.Engine]:
    """Engine on a migrated TimescaleDB."""
    if NATIVE_URL:
        yield from native_engine()
        return
    with wasm_url() as url:
        engine = stores.make_engine(url, prepare_threshold=None, pool_size=1)
        with engine.connect() as connection:  # it has one connection only: nobody else waits for the lock
            locks.ensure(connection)
            migrate._upgrade_locked(connection, "head")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readings, "stage", stage_by_insert)
            yield engine
        engine.dispose()


def native_engine() -> Iterator[sa.Engine]:
    name = f"wattline_test_{os.getpid()}"
    with psycopg.connect(NATIVE_URL, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        engine = stores.make_engine(psycopg.conninfo.make_conninfo(NATIVE_URL, dbname=name))
        migrate.upgrade(engine)
        with engine.connect() as connection:  # the tests run the jobs: the scheduler must not come between
            connection.execute(sa.text("SELECT _timescaledb_functions.stop_background_workers()"))
        yield engine
        engine.dispose()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def hyper(hyper_engine: sa.Engine) -> sa.Engine:
    """The same with nothing in it."""
    empty(hyper_engine)
    return hyper_engine


def empty(engine: sa.Engine) -> None:
    with stores.begin(engine) as connection:
        connection.execute(sa.text(f"TRUNCATE {TABLES}"))


def compress(engine: sa.Engine) -> int:
    """Run the compression job as TimescaleDB would; how many chunks of readings are compressed."""
    query = """
        SELECT job_id FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_compression' AND hypertable_name = 'readings'
    """
    with engine.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        plain.execute(sa.text(f"CALL run_job({plain.execute(sa.text(query)).scalar_one()})"))
        return timescale.compressed_chunks(connection, "readings")


def fill(engine: sa.Engine) -> None:
    """Two points, a reading a day, for 100 days."""
    ingest(engine, batch(*((p, d * DAY, float(d)) for p in (1, 2) for d in range(100))))


def test_the_tables_are_hypertables(hyper: sa.Engine) -> None:
    with stores.connect(hyper) as connection:
        assert all(timescale.is_hypertable(connection, name) for name in timescale.HYPERTABLES)
    found = status(hyper)
    assert found.kind == "timescaledb"
    assert found.timescale_version
    assert found.timescale_note == ""


def test_every_view_answers(hyper: sa.Engine) -> None:
    with stores.connect(hyper) as connection:
        assert set(reader.views(connection)) >= PROMISED
        for view in reader.views(connection):
            connection.execute(sa.text(f"SELECT * FROM {view}")).all()


def test_only_what_is_older_than_the_late_window_is_compressed(hyper: sa.Engine) -> None:
    fill(hyper)
    retention.maintain(hyper, Retention(late_days=30), NOW)
    with stores.connect(hyper) as connection:
        old = retention.slices(connection)
        now = connection.execute(sa.text("SELECT now()")).scalar_one()
    assert compress(hyper) == sum(c.end < now - timedelta(days=30) for c in old)


def test_another_late_window_replaces_the_policy(hyper: sa.Engine) -> None:
    for days in (10, 10, 30):
        retention.maintain(hyper, Retention(late_days=days), NOW)
        with stores.connect(hyper) as connection:
            after = connection.execute(compression._POLICY, {"table": "readings"}).scalars().all()
        assert after == [timedelta(days=days)]


def test_late_and_repeated_readings_go_into_compressed_chunks_once(hyper: sa.Engine) -> None:
    fill(hyper)
    retention.maintain(hyper, Retention(), NOW)
    assert compress(hyper) > 10
    again = batch(*((p, d * DAY, float(d)) for p in (1, 2) for d in range(100)))
    late = batch(*((p, d * DAY + 5, 0.5) for p in (1, 2) for d in range(50)))
    other = batch((1, 0, 99.0), (2, DAY, 98.0))

    assert ingest(hyper, again) == (0, 200, 0)
    assert ingest(hyper, late) == (100, 0, 0)
    assert ingest(hyper, late) == (0, 100, 0)
    assert ingest(hyper, other) == (0, 0, 2)
    compress(hyper)
    assert ingest(hyper, late) == (0, 100, 0)
    assert len(everything(hyper)) == 300
    assert len(queue(hyper)) == 2 * (50 + 25) + 2, "an entry for each point and two days"


def test_old_chunks_are_dropped_and_counted_but_not_before_the_rollup(hyper: sa.Engine) -> None:
    fill(hyper)
    policy = Retention(readings_days=60, late_days=10)
    assert retention.maintain(hyper, policy, NOW).dropped == ()
    with stores.begin(hyper) as connection:
        connection.execute(sa.text("DELETE FROM rollup_queue"))
    compress(hyper)

    done = retention.maintain(hyper, policy, NOW)
    left = everything(hyper)
    assert done.dropped_readings == 200 - len(left)
    assert len(left) == pytest.approx(2 * 63, abs=8)
    with stores.connect(hyper) as connection:
        horizon = retention.raw_horizon(connection)
        ledger = connection.execute(sa.text("SELECT sum(readings) FROM dropped_readings")).scalar()
    assert horizon is not None
    assert min(minute for _, minute, _ in left) * 60 >= (horizon - START).total_seconds()
    assert ledger == done.dropped_readings


COMPRESSED_SIZE = """
    SELECT sum(after_compression_total_bytes), (SELECT count(*) FROM readings r JOIN
        (SELECT range_start, range_end FROM timescaledb_information.chunks
         WHERE hypertable_name = 'readings' AND is_compressed) c
        ON r.at >= c.range_start AND r.at < c.range_end)
    FROM chunk_compression_stats('readings')
"""

STEPS = st.lists(
    st.one_of(
        st.just("compress"),
        st.lists(
            st.tuples(
                st.integers(1, 2), st.integers(0, 5).map(lambda d: d * 5 * DAY), st.sampled_from([1.0, 2.0])
            ),
            min_size=1,
            max_size=8,
        ),
    ),
    max_size=6,
)


@settings(
    max_examples=100 if NATIVE_URL else 15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_interleaving_with_compression_keeps_the_first_value_of_every_key(
    hyper_engine: sa.Engine, steps: list[object]
) -> None:
    empty(hyper_engine)
    retention.maintain(hyper_engine, Retention(), NOW)
    expected: dict[tuple[int, float], float] = {}
    for step in steps:
        if step == "compress":
            compress(hyper_engine)
            continue
        rows: list[tuple[int, int, float]] = step  # type: ignore[assignment]
        before = len(expected)
        for point, minute, value in rows:
            expected.setdefault((point, minute), value)
        assert ingest(hyper_engine, batch(*rows))[0] == len(expected) - before
    assert everything(hyper_engine) == [(p, m, v) for (p, m), v in sorted(expected.items())]


@pytest.mark.skipif(not NATIVE_URL, reason="no native TimescaleDB: WATTLINE_TEST_TIMESCALE_URL is not set")
def test_readings_come_back_out_of_compressed_chunks(hyper: sa.Engine) -> None:
    fill(hyper)
    retention.maintain(hyper, Retention(), NOW)
    compress(hyper)
    with stores.connect(hyper) as connection:
        loaded = readings.load(connection, 1, START, LATER)
    assert loaded.value.tolist() == [float(d) for d in range(100)]


def test_hypertables_can_take_part_in_a_move(hyper: sa.Engine) -> None:
    """All of a move that needs no COPY: slices, their fingerprints, room for a slice."""
    fill(hyper)
    with stores.begin(hyper) as connection:
        found = [one for one in slices(connection) if one.table == "readings"]
        assert sum(fingerprint(connection, one)[0] for one in found) == 200
        for one in found:
            with moving._without_triggers(connection, one.table):
                moving._make_room(connection, connection, one)
        assert sum(fingerprint(connection, one)[0] for one in found) == 0


@pytest.mark.skipif(not NATIVE_URL, reason="no native TimescaleDB: WATTLINE_TEST_TIMESCALE_URL is not set")
def test_a_move_from_plain_partitions_into_hypertables(hyper: sa.Engine, database_url: str) -> None:
    source = stores.make_engine(database_url, application_name=APPLICATION_NAME)
    fill(source)
    ingest(source, batch(*((3, m, float(m)) for m in range(3000))))
    done = move(source, hyper)
    same = everything(source) == everything(hyper)
    source.dispose()

    assert same
    assert done.rows >= 3200


def test_policies_are_there_after_the_migration_and_figures_come_later(hyper_engine: sa.Engine) -> None:
    """Figures are computed anew as long as there are readings behind them."""
    with stores.connect(hyper_engine) as connection:
        found = {one.table: one for one in compression.states(connection)}
    assert all(one.job_id for one in found.values())
    assert found["readings"].after_days < found["energy_15m"].after_days  # type: ignore[operator]
    assert found["energy_15m"].after_days == Retention().kept_readings_days(hypertables=True)
    assert set(found) == set(timescale.HYPERTABLES)


QUARTER_HOURLY = """
    INSERT INTO readings SELECT :start + n * interval '15 minutes', p, n / 7.0, 0, 0
    FROM generate_series(1, 3) p, generate_series(0, 70 * 96 - 1) n
"""


def test_slow_readings_get_longer_chunks_that_are_merged(hyper: sa.Engine) -> None:
    with stores.begin(hyper) as connection:
        connection.execute(sa.text("DELETE FROM deployment WHERE key = 'reading_chunks'"))
        compression.fit_chunks(connection, 96.0)
        assert connection.execute(compression._INTERVAL).scalar() == timedelta(days=28)
        connection.execute(sa.text(QUARTER_HOURLY), {"start": START})
    compress(hyper)
    with stores.connect(hyper) as connection:
        chunks = timescale.chunks(connection, "readings")
        assert compression.row_estimate(connection, "readings", 70) == pytest.approx(3 * 70 * 96, rel=0.02)
    assert max(end - start for _, start, end in chunks) > timedelta(days=28), "compressed ones are merged"
    again = batch(*((p, m, m / 105) for p in (1, 2, 3) for m in range(0, 50 * 15, 15)))
    assert ingest(hyper, again) == (0, 150, 0)
    assert ingest(hyper, batch((1, 5, 0.1), (2, 40 * DAY + 5, 0.2))) == (2, 0, 0)
    assert len(everything(hyper)) == 3 * 70 * 96 + 2
    with stores.begin(hyper) as connection:
        compression.fit_chunks(connection, 1440.0)
        assert connection.execute(compression._INTERVAL).scalar() == timedelta(days=7)


def test_a_compression_that_fails_is_named(hyper: sa.Engine) -> None:
    retention.maintain(hyper, Retention(), NOW)
    with stores.begin(hyper) as connection:
        job = next(one.job_id for one in compression.states(connection) if one.table == "readings")
        connection.execute(sa.text("SELECT alter_job(:job, scheduled => false)"), {"job": job})
        paused = compression.states(connection)[0]
        connection.execute(sa.text("SELECT alter_job(:job, scheduled => true)"), {"job": job})
    assert paused.problem == f"job {job} is paused; run SELECT alter_job({job}, scheduled => true);"
    fill(hyper)
    with stores.connect(hyper) as connection:
        late = compression.states(connection)[0]
    assert late.overdue_chunks > 5
    assert "chunks are overdue" in str(late.problem)
    compress(hyper)
    with stores.connect(hyper) as connection:
        assert compression.states(connection)[0].overdue_chunks == 0
    assert status(hyper).compression[0]["table"] == "readings"


@pytest.mark.skipif(not NATIVE_URL, reason="no native TimescaleDB: WATTLINE_TEST_TIMESCALE_URL is not set")
def test_a_realistic_register_series_takes_at_most_12_bytes_a_reading(hyper: sa.Engine) -> None:
    columns = register_series(points=50, days=35, interval_s=60)
    for part in np.array_split(np.arange(len(columns)), len(columns) // 100_000):
        ingest(hyper, columns.take(part))
    retention.maintain(hyper, Retention(), NOW)
    compress(hyper)
    with stores.connect(hyper) as connection:
        size, rows = connection.execute(sa.text(COMPRESSED_SIZE)).one()
    assert size / rows <= 12.0


def test_quarter_hourly_registers_take_at_most_7_bytes_a_reading(hyper: sa.Engine) -> None:
    columns = register_series(points=50, days=182, interval_s=900)
    with stores.begin(hyper) as connection:
        connection.execute(sa.text("DELETE FROM deployment WHERE key = 'reading_chunks'"))
        compression.fit_chunks(connection, 96.0)
        fill_by_sql(connection, columns)
    compress(hyper)
    with stores.connect(hyper) as connection:
        size, rows = connection.execute(sa.text(COMPRESSED_SIZE)).one()
    assert rows > 200_000
    assert size / rows <= 7.0


def fill_by_sql(connection: sa.Connection, columns: ReadingColumns, at_once: int = 2000) -> None:
    """Without COPY, which the WebAssembly server does not know."""
    statement = sa.text(
        "INSERT INTO readings SELECT :start + (n - 1) * interval '15 minutes', :point, value, 0, 0 "
        "FROM unnest(CAST(:values AS float8[])) WITH ORDINALITY AS v (value, n)"
    )
    for point in np.unique(columns.point_id).tolist():
        own = columns.point_id == point
        values, at_us = columns.value[own], columns.at_us[own]
        for first in range(0, len(values), at_once):
            start = readings.from_us(int(at_us[first]))
            part = "{" + ",".join(map(str, values[first : first + at_once])) + "}"
            connection.execute(statement, {"start": start, "point": point, "values": part})
