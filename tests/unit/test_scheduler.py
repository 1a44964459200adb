"""What is counted of jobs, and when a daily one is due."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import StoreUnavailable
from app.jobs import scheduler as scheduler_module
from app.jobs.scheduler import BUSY_WINDOW_S, DURATIONS_S, Busy, Guarded, Job, JobTally, Scheduler, _OwnThread
from tests.waiting import until

CALM = Job("calm", lambda: None, 1.0)


def test_a_run_counts_in_every_class_of_duration_that_holds_it() -> None:
    tally = JobTally().after(0.05, 0.01, 100.0).after(20.5, 3.0, None).after(2000.0, 4.0, None)
    assert (tally.runs, tally.duration_s) == (3, 2020.55)
    assert tally.processor_s == pytest.approx(7.01)
    assert tally.last_success_s == 100.0
    assert tally.runs_up_to == dict(zip(DURATIONS_S, (0, 1, 1, 1, 1, 1, 2, 2, 2), strict=True))
    assert JobTally().runs_up_to == dict.fromkeys(DURATIONS_S, 0)
    assert tally.after(1.0, 0.5, 200.0).last_success_s == 200.0


def test_the_classes_of_duration_and_the_default_of_a_job() -> None:
    assert DURATIONS_S == (0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0)
    assert (CALM.busy_ratio, Job("daily", lambda: None).every_s) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("took_s", "pause_s"), [(0.0, 15.0), (3.0, 12.0), (3.1, 12.4), (10.0, 40.0), (100.0, 400.0)]
)
def test_the_pause_of_a_job_that_may_be_busy_a_fifth_of_the_time(took_s: float, pause_s: float) -> None:
    assert Job("j", lambda: None, every_s=15.0, busy_ratio=0.2).pause_s(took_s) == pytest.approx(pause_s)


def test_how_busy_something_was_is_seen_over_a_window_that_moves_on() -> None:
    now_s = [1000.0]
    busy = Busy(lambda: now_s[0])
    for _ in range(3):
        busy.begin()
        assert busy.is_at_work
        now_s[0] += 10
        busy.end()
        assert not busy.is_at_work
        now_s[0] += 20
    assert busy.ratio() == pytest.approx(30 / BUSY_WINDOW_S)
    now_s[0] = 1000.0 + BUSY_WINDOW_S + 4
    assert busy.ratio() == pytest.approx(26 / BUSY_WINDOW_S), "of the first run only the end is in the window"
    now_s[0] = 1000.0 + BUSY_WINDOW_S + 10
    assert busy.ratio() == pytest.approx(20 / BUSY_WINDOW_S)
    busy.end()
    assert busy.ratio() == pytest.approx(20 / BUSY_WINDOW_S), "an end without a beginning counts nothing"
    busy.begin()
    now_s[0] += 15
    assert busy.ratio() == pytest.approx((10 + 10 + 15) / BUSY_WINDOW_S), "what goes on counts as well"
    now_s[0] += 10 * BUSY_WINDOW_S
    assert busy.ratio() == 1.0
    assert BUSY_WINDOW_S == 120.0


def test_the_busiest_job_tells_how_busy_the_scheduler_is() -> None:
    now_s = [0.0]
    scheduler = Scheduler([CALM, Job("busy", lambda: None, 1.0)])
    assert (scheduler.busy_ratio(), scheduler.running(), Scheduler([]).busy_ratio()) == (0.0, [], 0.0)
    for guarded, ran_s in zip(scheduler._guarded.values(), (12.0, 60.0), strict=True):
        guarded.busy = Busy(lambda: now_s[0])
        guarded.busy.begin()
        now_s[0] += ran_s
        guarded.busy.end()
    assert scheduler.busy_ratio() == pytest.approx(60 / BUSY_WINDOW_S)
    scheduler._guarded["busy"].busy.begin()
    assert scheduler.running() == ["busy"]
    assert not scheduler.is_ending
    scheduler.end()
    assert scheduler.is_ending


def test_a_daily_job_is_due_from_its_minute_on() -> None:
    at = [datetime(2026, 3, 1, 3, 16, 59, tzinfo=UTC)]
    daily = Job("daily", lambda: None, daily_at="03:17")
    scheduler = Scheduler([daily], now=lambda: at[0])
    assert scheduler._day_of(daily) is None
    at[0] += timedelta(seconds=1)
    assert scheduler._day_of(daily) == "2026-03-01"


def test_a_run_that_fails_is_counted_and_is_no_success() -> None:
    def fail() -> None:
        raise ValueError("a fault")

    failing, working = Guarded(Job("failing", fail, 1.0)), Guarded(CALM)
    failing()
    working()
    assert (failing.tally.runs, failing.tally.last_success_s) == (1, None)
    assert working.tally.last_success_s is not None


def test_the_time_of_a_run_lies_within_that_around_it() -> None:
    guarded = Guarded(CALM)
    wall_s, processor_s = time.perf_counter(), time.thread_time()
    guarded()
    assert 0 <= guarded.tally.duration_s <= time.perf_counter() - wall_s
    assert 0 <= guarded.tally.processor_s <= time.thread_time() - processor_s


def test_a_database_that_is_away_is_said_once_and_so_is_its_return() -> None:
    outcomes = iter([None, StoreUnavailable("away"), StoreUnavailable("away"), None, None])

    def work() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    guarded = Guarded(Job("j", work, 1.0))
    said_by_run = []
    for _ in range(5):
        with capture_logs() as said:
            guarded()
        said_by_run.append([(line["log_level"], line["event"], line.get("problem")) for line in said])
    waits, works = "job waits for the database", "job succeeded again"
    assert said_by_run == [[], [("warning", waits, "away")], [], [("info", works, None)], []]


def test_a_look_that_is_due_before_the_last_one_is_counted_out_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    counted = _OwnThread._run_job_success

    def late(self: _OwnThread, job_id: str, events: Any) -> None:
        until(lambda: len(looks) > 2 or not jobs._scheduler.get_jobs(), 10, "the next look")
        counted(self, job_id, events)

    def now() -> datetime:
        looks.append(0.0)
        return datetime(2026, 3, 1, tzinfo=UTC)

    monkeypatch.setattr(_OwnThread, "_run_job_success", late)
    monkeypatch.setattr(scheduler_module, "WALL_CLOCK_LOOK_S", 1e-6)
    jobs = Scheduler([Job("daily", lambda: None)], now=now)
    jobs.start()
    try:
        until(lambda: len(looks) > 3, 20, "the third look")
    finally:
        jobs.stop()


def test_a_job_comes_again_after_it_has_ended_not_after_it_has_begun() -> None:
    spans: list[tuple[float, float]] = []

    def work() -> None:
        began_s = time.monotonic()
        threading.Event().wait(0.01)
        spans.append((began_s, time.monotonic()))

    jobs = Scheduler([Job("often", work, every_s=1e-6)])
    jobs.start()
    until(lambda: len(spans) > 3, 20, "runs")
    jobs.stop()
    assert jobs.tallies()["often"].runs == len(spans)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_a_service_that_ends_complains_of_no_database() -> None:
    def fail() -> None:
        raise StoreUnavailable("away")

    guarded = Guarded(Job("j", fail, 1.0))
    guarded.ended.set()
    with capture_logs() as said:
        guarded()
    assert said == []
