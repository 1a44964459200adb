"""The working half of the service: polls, files, rollups, findings, evaluations, upkeep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.domain.period import floor
from app.domain.site import Fleet
from app.errors import StoreUnavailable
from app.jobs import close_month, evaluate, findings, outlook, rollup
from app.jobs.alarms import judge
from app.jobs.ingest import Ingest, Stowed
from app.jobs.notifications import send
from app.jobs.poll import Polling, spool_path
from app.jobs.scheduler import Job, JobTally, Scheduler
from app.jobs.watch import Folders
from app.store import audit, retention, sites
from app.store.audit import Actor
from app.store.engine import Engine, begin, connect
from app.store.retention import Retention
from collectors.spool import Spool

ROLLUP_EVERY_S = 3.0
FINDINGS_EVERY_S = 15.0
EVALUATE_EVERY_S = 5.0
ALARMS_EVERY_S = 10.0
NOTIFY_EVERY_S = 3.0
OUTLOOK_EVERY_S = 20.0
FOLDERS_EVERY_S = 2.0
FLEET_EVERY_S = 30.0
LEDGER_EVERY_S = 60.0
LONG_ROLLUP_S = 2.0
"""A rollup that takes longer works off an import. [s]"""

_log = structlog.get_logger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Worker:
    """Everything that goes on without being asked.

    Parameters
    ----------
    engine : Engine
        On a database that may be away; it is waited for.
    data_dir : Path
        Where the spool lies.
    on_stowed : callable
        Told after every commit of readings, for metrics.
    on_evaluated : callable
        Called after evaluations, for metrics and alarms.
    audit_retention_days : int
        How long the audit log is kept. [d]
    kept : Retention, optional
        How long readings and figures are kept.
    """

    def __init__(
        self,
        engine: Engine,
        data_dir: Path,
        *,
        on_stowed: Callable[[Stowed], None] = lambda stowed: None,
        on_evaluated: Callable[[], None] = lambda: None,
        audit_retention_days: int = 365,
        kept: Retention | None = None,
    ) -> None:
        self._engine, self._on_evaluated = engine, on_evaluated
        self._audit_days, self._kept = audit_retention_days, kept or Retention()
        self.spool = Spool(spool_path(data_dir))
        self._ingest = Ingest(engine, "poller", on_stowed=on_stowed)
        self._has_fleet = threading.Event()
        self.polling = Polling(self.spool, self._ingest, self._has_fleet)
        self._folders = Folders()
        self._changed = threading.Event()
        self._evaluated_until: datetime | None = None
        self._is_loading = self._is_held = False
        self._close_again_s = 0.0
        self._alarm_cache = judge.Cache()
        self._scheduler = Scheduler(self._jobs())

    def _jobs(self) -> list[Job]:
        return [
            Job("rollup", self._roll_up, ROLLUP_EVERY_S),
            Job("evaluate", self._evaluate, EVALUATE_EVERY_S),
            Job("alarms", self._judge_alarms, ALARMS_EVERY_S),
            Job("notify", lambda: send.run(self._engine, _now()), NOTIFY_EVERY_S),
            Job("outlook", lambda: outlook.run(self._engine, _now()), OUTLOOK_EVERY_S),
            Job("findings", self._find, FINDINGS_EVERY_S),
            Job("folders", lambda: self._folders.run(self._engine, _now()), FOLDERS_EVERY_S),
            Job("fleet", self._follow_fleet, FLEET_EVERY_S),
            Job("ledger", lambda: self._ingest.write_ledger(self.spool), LEDGER_EVERY_S),
            Job("all findings", lambda: findings.look_at_everything(self._engine), daily_at="02:17"),
            Job("balance", lambda: findings.check_balance(self._engine, _now()), daily_at="02:47"),
            Job("reports", self._close_months, close_month.LOOK_EVERY_S),
            Job("upkeep", lambda: retention.maintain(self._engine, self._kept, _now()), daily_at="03:17"),
            Job("audit", self._forget_audit, daily_at="03:47"),
        ]

    def _close_months(self) -> None:
        """Freeze what is due; while an import comes in, months would be closed half full."""
        if self._is_loading or time.monotonic() < self._close_again_s:
            return
        now = _now()
        is_waiting = close_month.is_waiting(self._engine, now)
        close_month.run(self._engine, now)
        pause_s = close_month.LOOK_EVERY_S if is_waiting else close_month.CLOSE_EVERY_S
        self._close_again_s = time.monotonic() + pause_s

    def _forget_audit(self) -> None:
        with begin(self._engine) as connection:
            gone = audit.forget(connection, _now(), self._audit_days)
            if gone:
                audit.append(connection, Actor("wattline").did("audit.forget", "", {"entries": gone}))

    def poll(self, fleet: Fleet) -> None:
        """Start polling; the database may still be away, readings wait in the spool."""
        self._follow(fleet)
        self.polling.start()

    def work(self) -> None:
        """Start all else; the database has its shape and fleet now."""
        self._has_fleet.set()
        self._changed.set()
        self._follow_fleet()
        self._scheduler.start()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While the block lasts, and until it is rolled up, nothing is concluded from what comes in."""
        self._is_held = self._is_loading = True
        try:
            yield
        finally:
            self._is_held = False

    def tallies(self) -> dict[str, JobTally]:
        """What each job has cost since the start, by name."""
        return self._scheduler.tallies()

    def stop(self) -> None:
        """Stop polling and working; what was read and not stored waits in the spool."""
        self.polling.stop()
        self._scheduler.stop()
        self.spool.close()

    def _follow_fleet(self) -> None:
        with connect(self._engine) as connection:
            stored = sites.load(connection)
        self._ingest.forget_fleet()
        self._follow(stored.fleet)

    def _follow(self, fleet: Fleet) -> None:
        there = fleet.at(datetime.now(UTC))
        self.polling.follow(there)
        self._folders.follow(there)

    def _roll_up(self) -> None:
        began = time.monotonic()
        if rollup.run(self._engine).stretches:
            self._changed.set()
        self._is_loading = self._is_held or time.monotonic() - began > LONG_ROLLUP_S

    def _find(self) -> None:
        """Look for findings, but not while a big import comes in: it would all be looked at again."""
        if not self._is_loading:
            findings.run(self._engine)

    def _judge_alarms(self) -> None:
        """Judge the rules, but not while a big import comes in: it is judged when its findings are known."""
        if not self._is_loading:
            judge.run(self._engine, _now(), cache=self._alarm_cache, spool_fill_ratio=self.spool.fill_ratio)

    def _evaluate(self) -> None:
        """Evaluate where a rollup changed something or a quarter-hour has closed."""
        now = _now()
        if not self._changed.is_set() and floor(now) == self._evaluated_until:
            return
        self._changed.clear()
        try:
            evaluate.run(self._engine, now)
        except StoreUnavailable:
            self._changed.set()
            raise
        self._evaluated_until = floor(now)
        self._on_evaluated()
