"""What runs again and again, and how often: one table.

Every job has a thread of its own, so none waits for another, however long that takes, and its next run comes
so long after the end of the last one. Jobs are idempotent and take their work from the database, so one that
is late, missed or run twice does no harm. Those that come again within hours sleep in between, by a clock
that nobody sets. APScheduler times the daily ones by the wall clock; when that is set back, they are timed
anew, else none would run until the clock has caught up.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from sys import exc_info
from typing import Any

import structlog
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from app.errors import StoreUnavailable, WorkTooLarge

DURATIONS_S = (0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the histogram of durations. [s]"""
BUSY_WINDOW_S = 120.0
"""Time over which it is said how busy a job is. [s]"""
WALL_CLOCK_LOOK_S = 20.0
"""How often a daily job looks whether its time has come, and whether the clock was set back. [s]"""
_NEVER_SKIPPED = 1_000_000
"""A run is planned at the end of the one before, which APScheduler may still count as running. A run that it
skipped for that would be the last one of its job."""
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
    busy_ratio: float = 1.0
    """Share of the time that the job may be at work: after a long run it rests."""
    longest_rest_s: float = math.inf
    """But never longer than this. [s]"""
    may_rest: Callable[[], bool] = lambda: True
    """Asked after each run; where it may not, the job comes again after its time."""

    def pause_s(self, took_s: float) -> float:
        """Time from the end of a run to the next one. [s]"""
        rest_s = min(took_s * (1 / self.busy_ratio - 1), self.longest_rest_s) if self.may_rest() else 0.0
        return max(self.every_s - took_s, rest_s)


@dataclass(frozen=True, slots=True)
class JobTally:
    """What a job did since the start."""

    runs: int = 0
    duration_s: float = 0.0
    """Wall time, the database's work and all waiting within it. [s]"""
    processor_s: float = 0.0
    """Processor time of the job's own thread; the database's is not in it. [s]"""
    runs_up_to: Mapping[float, int] = field(default_factory=lambda: dict.fromkeys(DURATIONS_S, 0))
    """Runs that took at most so many seconds."""
    last_success_s: float | None = None
    """When it last ended well, since 1970. [s]"""

    def after(self, took_s: float, processor_s: float, succeeded_s: float | None) -> JobTally:
        """With one more run."""
        return JobTally(
            self.runs + 1,
            self.duration_s + took_s,
            self.processor_s + processor_s,
            {most_s: n + (took_s <= most_s) for most_s, n in self.runs_up_to.items()},
            succeeded_s or self.last_success_s,
        )


def _wall_ahead_s() -> float:
    """How far the wall clock is ahead of one that nobody sets. [s]"""
    return time.time() - time.monotonic()


class _OwnThread(BaseExecutor):  # type: ignore[misc]
    """Runs every job in a thread of its own, which keeps no process from ending."""

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        def run() -> None:
            try:
                events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException:  # noqa: BLE001 - as in APScheduler's own executors
                self._run_job_error(job.id, *exc_info()[1:])
            else:
                self._run_job_success(job.id, events)

        threading.Thread(target=run, name=job.id, daemon=True).start()


class Scheduler:
    """Runs jobs until stopped, each in a thread of its own.

    Parameters
    ----------
    jobs : sequence of Job
    now : callable
        The wall clock (UTC), for daily jobs.
    wall_ahead_s : callable
        How far the wall clock is ahead of one that nobody sets. [s]
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wall_ahead_s: Callable[[], float] = _wall_ahead_s,
    ) -> None:
        self._jobs, self._now, self._wall_ahead_s = {job.name: job for job in jobs}, now, wall_ahead_s
        self._ended = threading.Event()
        self._guarded = {job.name: Guarded(job, self._ended) for job in jobs}
        self._done_days = {job.name: self._day_of(job) for job in jobs if not job.every_s}
        self._at_work: set[str] = set()
        self._changed = threading.Condition()
        self._planning = threading.RLock()
        self._watch = threading.Thread(target=self._watch_clock, name="clock", daemon=True)
        self._scheduler = BackgroundScheduler(
            executors={"default": _OwnThread()},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": _NEVER_SKIPPED},
            timezone="UTC",
        )

    @property
    def is_ending(self) -> bool:
        """Whether jobs are asked to come to an end."""
        return self._ended.is_set()

    def tallies(self) -> Mapping[str, JobTally]:
        """What each job did, by name."""
        return {name: guarded.tally for name, guarded in self._guarded.items()}

    def running(self) -> list[str]:
        """Names of the jobs that are at work."""
        return [name for name, guarded in self._guarded.items() if guarded.busy.is_at_work]

    def busy_ratio(self) -> float:
        """Share of the last minutes in which the busiest job was at work. [0..1]"""
        return max((guarded.busy.ratio() for guarded in self._guarded.values()), default=0.0)

    def start(self) -> None:
        """Start all jobs; each runs for the first time after its interval."""
        for job in self._jobs.values():
            if job.every_s:
                threading.Thread(target=self._repeat, args=(job,), name=job.name, daemon=True).start()
            else:
                self._plan(job, WALL_CLOCK_LOOK_S)
        self._scheduler.start()
        self._watch.start()

    def end(self) -> None:
        """Ask the jobs to come to an end; none begins any more."""
        self._ended.set()
        if self._scheduler.running:
            self._scheduler.pause()
            self._scheduler.get_jobs()  # waits for a look at the jobs that is under way
            self._scheduler.shutdown(wait=False)

    def wait(self, within_s: float) -> list[str]:
        """Wait for the jobs that run; names of those that still do after so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work, within_s)
            return sorted(self._at_work)

    def stop(self) -> None:
        """Stop, and wait as long as it takes for the jobs that run."""
        self.end()
        self.wait(threading.TIMEOUT_MAX / 2)

    def _plan(self, job: Job, after_s: float) -> None:
        """Have the job run once, after so long."""
        with self._planning:  # or a plan by the clock before it was set back could come after all others
            trigger = DateTrigger(datetime.now(UTC) + timedelta(seconds=after_s))
            self._scheduler.add_job(
                self._run, trigger, (job,), id=job.name, name=job.name, replace_existing=True
            )

    def _repeat(self, job: Job) -> None:
        """Run the job until asked to end, with pauses."""
        pause_s = job.every_s
        while not self._ended.wait(min(pause_s, threading.TIMEOUT_MAX)):
            began_s = time.monotonic()
            with self._working(job) as may_work:
                if may_work:
                    self._guarded[job.name]()
            pause_s = job.pause_s(time.monotonic() - began_s)

    def _run(self, job: Job) -> None:
        """Look whether a daily job is due, and plan the next look."""
        with self._working(job) as may_work:
            if may_work:
                self._daily(job)
        if not self._ended.is_set():
            self._plan(job, WALL_CLOCK_LOOK_S)

    @contextmanager
    def _working(self, job: Job) -> Iterator[bool]:
        """Count the job among those that are at work; False where none may begin any more."""
        with self._changed:
            if self._ended.is_set():
                yield False
                return
            self._at_work.add(job.name)
        try:
            yield True
        finally:
            with self._changed:
                self._at_work.discard(job.name)
                self._changed.notify_all()

    def _daily(self, job: Job) -> None:
        """Run when the job's time of a later day has come; a clock that is set back begins no new day."""
        day, done = self._day_of(job), self._done_days[job.name]
        if day is not None and (done is None or day > done):
            self._guarded[job.name]()
        self._done_days[job.name] = day or done

    def _day_of(self, job: Job) -> str | None:
        """The day whose time for the job has come; None before it has."""
        now = self._now()
        return f"{now:%Y-%m-%d}" if f"{now:%H:%M}" >= job.daily_at else None

    def _watch_clock(self) -> None:
        ahead_s = self._wall_ahead_s()
        while not self._ended.wait(WALL_CLOCK_LOOK_S):
            before_s, ahead_s = ahead_s, self._wall_ahead_s()
            if before_s - ahead_s > CLOCK_STEP_S:
                _log.warning("clock was set back; jobs are rescheduled", by_s=round(before_s - ahead_s))
                self._plan_anew()

    def _plan_anew(self) -> None:
        with self._planning:
            for planned in self._scheduler.get_jobs():
                self._plan(self._jobs[planned.id], WALL_CLOCK_LOOK_S)


class Busy:
    """How much of the last minutes something was at work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: deque[tuple[float, float]] = deque()
        self._began_s: float | None = None
        self._lock = threading.Lock()

    @property
    def is_at_work(self) -> bool:
        """Whether work has begun and not ended."""
        return self._began_s is not None

    def begin(self) -> None:
        """Work begins."""
        with self._lock:
            self._began_s = self._clock()

    def end(self) -> None:
        """Work ends."""
        with self._lock:
            if self._began_s is not None:
                self._runs.append((self._began_s, self._clock()))
            self._began_s = None
            self._forget(self._clock() - BUSY_WINDOW_S)

    def ratio(self) -> float:
        """Share of :data:`BUSY_WINDOW_S` up to now. [0..1]"""
        with self._lock:
            now_s = self._clock()
            since_s = now_s - BUSY_WINDOW_S
            self._forget(since_s)
            busy_s = sum(end - max(begin, since_s) for begin, end in self._runs)
            if self._began_s is not None:
                busy_s += now_s - max(self._began_s, since_s)
            return min(busy_s / BUSY_WINDOW_S, 1.0)

    def _forget(self, before_s: float) -> None:
        while self._runs and self._runs[0][1] <= before_s:
            self._runs.popleft()


@dataclass
class Guarded:
    """A job that says what went wrong and comes again; an absent database is said once."""

    job: Job
    ended: threading.Event = field(default_factory=threading.Event)
    """Once set, a database that is away is the service's own doing."""
    tally: JobTally = field(default_factory=JobTally)
    busy: Busy = field(default_factory=Busy)
    _problem: str = ""

    def __call__(self) -> None:
        """Run the job once."""
        began_s, processor_s = time.perf_counter(), time.thread_time()
        self.busy.begin()
        try:
            succeeded = self._run()
        finally:
            self.busy.end()
        self.tally = self.tally.after(
            time.perf_counter() - began_s,
            time.thread_time() - processor_s,
            time.time() if succeeded else None,
        )

    def _run(self) -> bool:
        try:
            self.job.work()
        except StoreUnavailable as error:
            self._say(str(error))
        except WorkTooLarge as error:
            self._say(str(error), "job is refused by the database; it will be retried")
        except Exception:  # noqa: BLE001 - one job's fault must not end the others
            _log.exception("job failed; it will be retried", job=self.job.name)
        else:
            self._say("")
            return True
        return False

    def _say(self, problem: str, event: str = "job waits for the database") -> None:
        if problem and not self._problem and not self.ended.is_set():
            _log.warning(event, job=self.job.name, problem=problem)
        if self._problem and not problem:
            _log.info("job succeeded again", job=self.job.name)
        self._problem = problem
