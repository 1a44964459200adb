"""What runs again and again, and how often: one table.

Every job has a thread of its own, so none waits for another, however long that takes. Jobs are idempotent
and take their work from the database, so one that is late, missed or run twice does no harm. Intervals are
measured by a clock that nobody sets; only daily jobs look at the wall clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from app.errors import StoreUnavailable

DURATIONS_S = (0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the histogram of durations. [s]"""
BUSY_WINDOW_S = 120.0
"""Time over which it is said how busy a job is. [s]"""
WALL_CLOCK_LOOK_S = 5.0
"""How often a daily job looks whether its time has come. [s]"""

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

    def pause_s(self, took_s: float) -> float:
        """Time from the end of a run to the next one. [s]"""
        return max(self.every_s - took_s, took_s * (1 / self.busy_ratio - 1))


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


class Scheduler:
    """Runs jobs until stopped, each in a thread of its own.

    Parameters
    ----------
    jobs : sequence of Job
    now : callable
        The wall clock (UTC), for daily jobs.
    """

    def __init__(
        self, jobs: Sequence[Job], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._now = now
        self._ended = threading.Event()
        self._guarded = {job.name: Guarded(job, self._ended) for job in jobs}
        self._threads = [
            threading.Thread(target=self._again, args=(job,), name=job.name, daemon=True) for job in jobs
        ]

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
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Ask the jobs to come to an end; none begins any more."""
        self._ended.set()

    def wait(self, within_s: float) -> list[str]:
        """Wait for the jobs that run; names of those that still do after so long."""
        deadline = time.monotonic() + within_s
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return [thread.name for thread in started if thread.is_alive()]

    def stop(self) -> None:
        """Stop, and wait as long as it takes for the jobs that run."""
        self.end()
        self.wait(threading.TIMEOUT_MAX / 2)

    def _again(self, job: Job) -> None:
        if not job.every_s:
            self._daily(job)
            return
        took_s = 0.0
        while not self._ended.wait(job.pause_s(took_s)):
            began_s = time.monotonic()
            self._guarded[job.name]()
            took_s = time.monotonic() - began_s

    def _daily(self, job: Job) -> None:
        """Run when the job's time of a later day has come; a clock that is set back begins no new day."""
        done = self._day_of(job)
        while not self._ended.wait(WALL_CLOCK_LOOK_S):
            day = self._day_of(job)
            if day is not None and (done is None or day > done):
                self._guarded[job.name]()
            done = day or done

    def _day_of(self, job: Job) -> str | None:
        """The day whose time for the job has come; None before it has."""
        now = self._now()
        return f"{now:%Y-%m-%d}" if f"{now:%H:%M}" >= job.daily_at else None


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
        except Exception:  # noqa: BLE001 - one job's fault must not end the others
            _log.exception("job failed; it comes again", job=self.job.name)
        else:
            self._say("")
            return True
        return False

    def _say(self, problem: str) -> None:
        if problem and not self._problem and not self.ended.is_set():
            _log.warning("job waits for the database", job=self.job.name, problem=problem)
        if self._problem and not problem:
            _log.info("job works again", job=self.job.name)
        self._problem = problem
