"""What runs again and again, and how often: one table.

Jobs are idempotent and take their work from the database, so one that is late, missed or run twice
does no harm: misfires coalesce, and no job runs beside itself. When the wall clock is set back, every job
is timed anew; else none would run until the clock has caught up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from app.errors import StoreUnavailable

MISFIRE_GRACE_S = 3600
"""A job that could not start in time still does within this. [s]"""
THREADS = 6
CLOCK_LOOK_S = 1.0
CLOCK_STEP_S = 1.0
"""A wall clock that goes back by more between two looks was set. [s]"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """One thing that is done again and again."""

    name: str
    work: Callable[[], object]
    every_s: float = 0.0
    """Seconds between starts; 0: once a day instead."""
    daily_at: str = "03:17"
    """UTC, for daily jobs."""


@dataclass(frozen=True, slots=True)
class JobTally:
    """What a job has cost since the start."""

    runs: int = 0
    duration_s: float = 0.0
    """Wall time, the database's work and all waiting within it. [s]"""
    processor_s: float = 0.0
    """Processor time of the job's own thread; the database's is not in it. [s]"""


def _wall_ahead_s() -> float:
    """How far the wall clock is ahead of one that nobody sets. [s]"""
    return time.time() - time.monotonic()


class Scheduler:
    """Runs jobs in a few threads until stopped.

    Parameters
    ----------
    jobs : sequence of Job
    wall_ahead_s : callable
        How far the wall clock is ahead of one that nobody sets. [s]
    """

    def __init__(self, jobs: Sequence[Job], *, wall_ahead_s: Callable[[], float] = _wall_ahead_s) -> None:
        self._jobs, self._wall_ahead_s = jobs, wall_ahead_s
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._watch_clock, name="clock", daemon=True)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_GRACE_S},
            timezone="UTC",
        )
        self._guarded = {job.name: Guarded(job) for job in jobs}
        for job in jobs:
            self._scheduler.add_job(self._guarded[job.name], _trigger(job), id=job.name, name=job.name)

    def tallies(self) -> dict[str, JobTally]:
        """What each job has cost, by name."""
        return {name: guarded.tally for name, guarded in self._guarded.items()}

    def start(self) -> None:
        """Start the clock."""
        self._scheduler.start()
        self._watch.start()

    def stop(self) -> None:
        """Stop; waits for the jobs that run."""
        self._ended.set()
        if self._watch.is_alive():
            self._watch.join()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _watch_clock(self) -> None:
        ahead_s = self._wall_ahead_s()
        while not self._ended.wait(CLOCK_LOOK_S):
            before_s, ahead_s = ahead_s, self._wall_ahead_s()
            if before_s - ahead_s > CLOCK_STEP_S:
                _log.warning("clock went back; jobs are timed anew", by_s=round(before_s - ahead_s))
                self._time_anew()

    def _time_anew(self) -> None:
        for job in self._jobs:
            self._scheduler.reschedule_job(job.name, trigger=_trigger(job))


def _trigger(job: Job) -> IntervalTrigger | CronTrigger:
    if job.every_s:
        return IntervalTrigger(seconds=job.every_s, timezone="UTC")
    hour, minute = job.daily_at.split(":")
    return CronTrigger(hour=hour, minute=minute, timezone="UTC")


class Guarded:
    """A job that says what went wrong and comes again; an absent database is said once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._problem = ""
        self.tally = JobTally()

    def __call__(self) -> None:
        began_s, processor_s = time.perf_counter(), time.thread_time()
        try:
            self._run()
        finally:
            self.tally = JobTally(
                self.tally.runs + 1,
                self.tally.duration_s + time.perf_counter() - began_s,
                self.tally.processor_s + time.thread_time() - processor_s,
            )

    def _run(self) -> None:
        try:
            self._job.work()
        except StoreUnavailable as error:
            self._say(str(error))
        except Exception:  # noqa: BLE001 - one job's fault must not end the others
            _log.exception("job failed; it comes again", job=self._job.name)
        else:
            self._say("")

    def _say(self, problem: str) -> None:
        if problem and not self._problem:
            _log.warning("job waits for the database", job=self._job.name, problem=problem)
        if self._problem and not problem:
            _log.info("job works again", job=self._job.name)
        self._problem = problem
