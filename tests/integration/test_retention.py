"""Old readings go when everything has been computed from them, and are counted; figures stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import engine as stores
from app.store import partitions, readings, retention, sites, supported, timescale
from app.store.retention import Retention, maintain, raw_horizon
from app.store.status import full_on, status
from tests.integration.plant_helpers import fleet
from tests.integration.test_readings import START, batch, everything, ingest

NOW = START + timedelta(days=200)
FORTNIGHT_MINUTES = 14 * 24 * 60


@pytest.fixture(autouse=True)
def _long_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if upkeep had run every day until now."""
    monkeypatch.setattr(retention, "DAILY_STEP", timedelta(days=10_000))


def roll_up(engine: sa.Engine) -> None:
    """Pretend that the rollup has read everything."""
    with stores.begin(engine) as connection:
        connection.execute(sa.text("DELETE FROM rollup_queue"))


def fill(engine: sa.Engine) -> None:
    """One reading a fortnight, for 200 days."""
    ingest(engine, batch(*((1, m * FORTNIGHT_MINUTES, float(m)) for m in range(15))))


def test_readings_are_dropped_and_counted_once_they_are_old_and_rolled_up(engine: sa.Engine) -> None:
    fill(engine)
    roll_up(engine)
    done = maintain(engine, Retention(readings_days=90), NOW)

    assert done.dropped_readings == 8
    assert everything(engine)[0] == (1, 8.0 * FORTNIGHT_MINUTES, 8.0)
    with stores.connect(engine) as connection:
        ledger = connection.execute(
            sa.text("SELECT sum(readings), min(collector) FROM dropped_readings")
        ).one()
        assert tuple(ledger) == (8, "retention")
        assert raw_horizon(connection) == START + timedelta(weeks=15)
    assert maintain(engine, Retention(readings_days=90), NOW).dropped == ()


def test_readings_that_a_rollup_has_to_read_stay(engine: sa.Engine) -> None:
    fill(engine)
    done = maintain(engine, Retention(readings_days=90), NOW)

    assert done.dropped == ()
    assert len(done.postponed) == 8
    assert len(everything(engine)) == 15


def test_a_week_stays_while_one_of_its_points_waits_and_goes_after(engine: sa.Engine) -> None:
    fill(engine)
    ingest(engine, batch((2, 20, 1.0)))
    with stores.begin(engine) as connection:
        connection.execute(sa.text("DELETE FROM rollup_queue WHERE point_id = 1"))
    done = maintain(engine, Retention(readings_days=90), NOW)
    assert (done.dropped_readings, done.postponed) == (7, ("2026-03-02..2026-03-09",))
    assert everything(engine)[0] == (1, 0.0, 0.0)

    roll_up(engine)
    assert maintain(engine, Retention(readings_days=90), NOW).dropped_readings == 2


def test_a_rollup_that_is_at_work_keeps_its_readings(engine: sa.Engine) -> None:
    fill(engine)
    with stores.begin(engine) as rollup:
        rollup.execute(sa.text("DELETE FROM rollup_queue"))
        done = maintain(engine, Retention(readings_days=90), NOW)
        assert (done.dropped, len(done.postponed)) == ((), 8)
    assert len(maintain(engine, Retention(readings_days=90), NOW).dropped) == 8


def imported(engine: sa.Engine, first: datetime, last: datetime, finished: datetime) -> None:
    """The record of an import of readings of that time."""
    detail = json.dumps({"first_at": first.isoformat(), "last_at": last.isoformat()})
    with stores.begin(engine) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO imports (id, site_id, file_name, sha256, status, accepted, finished_at, detail)"
                " VALUES (gen_random_uuid(), 1, 'f', '', 'done', 1, :finished, CAST(:detail AS jsonb))"
            ),
            {"finished": finished, "detail": detail},
        )


def test_what_an_import_brought_is_kept_as_long_from_then_on(engine: sa.Engine) -> None:
    fill(engine)
    roll_up(engine)
    imported(engine, START, START + timedelta(days=30), finished=NOW - timedelta(days=1))
    done = maintain(engine, Retention(readings_days=90), NOW)
    assert done.dropped_readings == 5
    assert [row[1] for row in everything(engine)[:4]] == [m * FORTNIGHT_MINUTES for m in (0, 1, 2, 8)]

    later = maintain(engine, Retention(readings_days=90), NOW + timedelta(days=89))
    assert later.dropped_readings == 3 + 6


def test_status_says_what_goes_next(engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    first = now - timedelta(days=80)
    minutes = [(at - START) / timedelta(minutes=1) for at in (first, now)]
    ingest(engine, batch(*((1, m, 1.0) for m in minutes)))
    week = partitions.week_starts(np.array([readings.to_us(first)], np.int64))[0]
    found = status(engine, policy=Retention(readings_days=100))
    assert found.kept_readings_days == 100
    assert found.next_drop_on == (week + timedelta(days=107)).date()
    assert found.next_drop == f"{week:%Y-%m-%d}..{week + timedelta(days=7):%Y-%m-%d}"

    imported(engine, first, now, finished=now)
    found = status(engine, policy=Retention(readings_days=100))
    assert found.next_drop_on == (now + timedelta(days=100)).date()


def test_readings_in_use_stay_until_the_next_run(engine: sa.Engine) -> None:
    fill(engine)
    roll_up(engine)
    with stores.begin(engine) as user:
        user.execute(
            sa.text("SELECT count(*) FROM readings WHERE at < :at"), {"at": START + timedelta(days=1)}
        )
        done = maintain(engine, Retention(readings_days=90), NOW)
    assert (done.dropped, len(done.postponed)) == ((), 8)

    assert len(maintain(engine, Retention(readings_days=90), NOW).dropped) == 8


def test_a_dropped_week_takes_late_readings_again(engine: sa.Engine) -> None:
    fill(engine)
    roll_up(engine)
    maintain(engine, Retention(readings_days=90), NOW)

    assert ingest(engine, batch((2, 0, 1.0))) == (1, 0, 0)


def test_a_clock_that_is_years_ahead_costs_no_more_than_a_step(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten days under it, with readings stamped by it; then the clock is right again."""
    fill(engine)
    roll_up(engine)
    maintain(engine, Retention(readings_days=90), NOW)
    assert len(everything(engine)) == 7
    monkeypatch.setattr(retention, "DAILY_STEP", timedelta(days=2))
    ahead = NOW + timedelta(days=5 * 365)
    ingest(engine, batch((1, (ahead - START) / timedelta(minutes=1), 99.0)))
    roll_up(engine)
    for day in range(3):
        done = maintain(engine, Retention(readings_days=90), ahead + timedelta(days=day))
        assert done.trusted == NOW + timedelta(days=2 * (day + 1))
    assert len(everything(engine)) == 8
    assert maintain(engine, Retention(readings_days=90), NOW + timedelta(days=1)).dropped == ()
    assert len(everything(engine)) == 8


def test_the_first_run_of_all_under_such_a_clock_drops_a_step_at_most(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DAILY_STEP", timedelta(days=2))
    fill(engine)
    roll_up(engine)
    maintain(engine, Retention(readings_days=90), NOW + timedelta(days=3650))
    assert len(everything(engine)) == 14


def test_a_clock_that_was_behind_keeps_nothing_for_ever(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DAILY_STEP", timedelta(days=2))
    maintain(engine, Retention(readings_days=90), datetime(1970, 1, 2, tzinfo=UTC))
    fill(engine)
    roll_up(engine)
    dropped = [maintain(engine, Retention(readings_days=90), NOW).dropped_readings for _ in range(6)]
    assert sum(dropped) >= 1


def test_the_coming_weeks_are_made_ahead(engine: sa.Engine) -> None:
    done = maintain(engine, Retention(), datetime(2031, 1, 1, tzinfo=UTC))

    weeks = ("readings_20301230", "readings_20310106", "readings_20310113", "readings_20310120")
    assert done.made == (*weeks, *(f"{table}_20310101" for table in partitions.QUARTERLY))


def figures(engine: sa.Engine, ages: tuple[int, ...]) -> None:
    """One 15-minute energy for each age in days."""
    ats = [NOW - timedelta(days=days) for days in ages]
    with stores.begin(engine) as connection:
        at_us = np.array([readings.to_us(at) for at in ats], np.int64)
        partitions.ensure_figures(connection, "energy_15m", at_us)
        connection.execute(
            sa.text("INSERT INTO energy_15m VALUES (1, :at, 1, 1, 0, 60, 1)"), [{"at": at} for at in ats]
        )


def test_quarter_years_of_figures_that_ended_ten_years_ago_go(engine: sa.Engine) -> None:
    figures(engine, (1, 3652, 3654, 3654 + 92, 5000))
    assert maintain(engine, Retention(), NOW).dropped_rows == 2
    assert maintain(engine, Retention(), NOW).dropped_rows == 0
    with stores.connect(engine) as connection:
        kept = [name for name, *_ in partitions.existing(connection, "energy_15m")]
        whole_from = connection.execute(
            sa.text("SELECT dropped_before FROM horizons WHERE kind = 'energy_15m'")
        ).scalar_one()
    oldest = NOW - timedelta(days=3653)
    assert oldest - timedelta(days=92) < whole_from <= oldest
    assert kept[0] == f"energy_15m_{whole_from:%Y%m%d}"


def test_figures_in_use_stay_until_the_next_run(engine: sa.Engine) -> None:
    figures(engine, (5000,))
    with stores.begin(engine) as user:
        user.execute(sa.text("SELECT count(*) FROM energy_15m"))
        assert maintain(engine, Retention(), NOW).dropped_rows == 0
    assert maintain(engine, Retention(), NOW).dropped_rows == 1


def test_quarter_years_begin_with_their_months() -> None:
    ats = [datetime(1969, 12, 31, 23, 45, tzinfo=UTC), datetime(2026, 3, 31, 23, 45, tzinfo=UTC)]
    ats += [datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)]
    starts = partitions.quarter_starts(np.array([readings.to_us(at) for at in ats], np.int64))
    assert [f"{s:%Y-%m-%d}" for s in starts] == ["1969-10-01", "2026-01-01", "2026-04-01", "2026-10-01"]


@pytest.mark.parametrize(
    "wrong", [{"intervals_days": 3000}, {"readings_days": 7}, {"late_days": 0}, {"readings_days": 0}]
)
def test_a_retention_that_breaks_the_rules_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"retention\."):
        Retention(**wrong)


def test_plain_postgresql_keeps_90_days_and_timescale_13_months() -> None:
    assert (Retention().kept_readings_days(False), Retention().kept_readings_days(True)) == (90, 395)


def test_partitions_are_weeks_from_monday() -> None:
    sunday, monday = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    starts = partitions.week_starts(batch((1, 0, 0)).at_us[[0, 0]] + np.array([-1, 0], np.int64))
    assert [partitions.partition_name(s) for s in starts] == ["readings_20260223", "readings_20260302"]
    assert starts == [monday - timedelta(weeks=1), monday]
    assert sunday.weekday() == 6


# -- status ------------------------------------------------------------------------------------------


def test_status_of_a_store(engine: sa.Engine) -> None:
    with stores.begin(engine) as connection:
        sites.sync(connection, fleet())
    now = datetime.now(UTC)
    minutes = (now - START) / timedelta(minutes=1)
    ingest(engine, batch((1, 0, 1.0), (1, minutes - 5, 2.0), (2, minutes - 1, 2.0)))
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE readings"))
    found = status(engine, disk_free_bytes=10**9)

    assert found.server.startswith("PostgreSQL 1")
    assert found.kind == "native partitions"
    assert found.up_to_date
    # Point 1 waits at both ends of its time, not over the months between.
    assert (found.readings, found.queued_rollups, found.conflicting_readings) == (3, 3, 0)
    assert found.size_bytes > found.readings_bytes > 0
    assert found.growth_bytes_per_day == 2 * 120 + 2 * 96 * 150
    assert found.disk_full_on == now.date() + timedelta(days=10**9 // found.growth_bytes_per_day)
    assert found.document()["disk_full_on"] == found.disk_full_on.isoformat()


def test_status_of_an_empty_store(engine: sa.Engine) -> None:
    found = status(engine)
    assert (found.growth_bytes_per_day, found.disk_full_on, found.raw_horizon) == (0, None, None)


def test_status_of_a_database_that_was_never_migrated(
    empty_database_url: str, make_test_engine: Callable[..., sa.Engine]
) -> None:
    with pytest.raises(StoreUnavailable, match="wattline db upgrade"):
        status(make_test_engine(empty_database_url))


def test_a_server_that_forbids_the_extension_is_used_without_it_and_says_so(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        timescale, "EXTENSION", "amcheck"
    )  # the server has it, and only a superuser may create it
    with stores.begin(engine) as connection:
        assert not timescale.ensure_extension(connection)
    assert "TimescaleDB 1." in caplog.text, "that of amcheck, older than any that is supported"
    monkeypatch.setattr(supported, "is_old", lambda version: False)
    with stores.begin(engine) as connection:
        assert not timescale.ensure_extension(connection)
    assert "have a superuser run CREATE EXTENSION" in caplog.text
    assert "have a superuser run CREATE EXTENSION" in status(engine).timescale_note


def test_the_day_on_which_the_disk_is_full() -> None:
    today = date(2026, 1, 1)
    assert full_on(today, 1000, 100) == date(2026, 1, 11)
    assert full_on(today, 10**15, 1) is None
    assert full_on(today, None, 5) is None


def test_latest_instant_round_trip() -> None:
    assert readings.from_us(readings.to_us(NOW)) == NOW
