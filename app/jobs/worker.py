"""The working half of the service: polls, files, rollups, findings, evaluations, upkeep."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from app.domain.site import Fleet
from app.jobs import audit_anchor, close_month, evaluate, findings, memory, outlook, rollup, site_findings
from app.jobs.alarms import judge
from app.jobs.alarms.watch import Cache
from app.jobs.audit_anchor import Anchoring, Sink
from app.jobs.edge_findings import EdgeFindings
from app.jobs.edge_intake import Intake
from app.jobs.findings import Part
from app.jobs.ingest import Ingest, Stowed
from app.jobs.membership import Membership
from app.jobs.notifications import send
from app.jobs.rollup import RollupResult
from app.jobs.scheduler import Job, Scheduler
from app.jobs.watch import Folders
from app.store import audit, edges, reader, receipts, retention, rollup_queue
from app.store.audit import Actor
from app.store.engine import Engine, begin, connect, glance
from app.store.fleet_cache import FleetCache
from app.store.retention import Retention
from app.store.site_move import opening
from app.store.sites import Stored
from collectors.poller import tune_garbage_collection
from collectors.polling import Polling, readings_per_s, spool_path
from collectors.spool import Limits, Spool, drain

ROLLUP_EVERY_S = 3.0
ROLLUP_REST_S = 15.0
"""Longest rest after a rollup of live readings: what comes in meanwhile is computed once. [s]"""
SITE_EVERY_S = 900.0
FINDINGS_EVERY_S = 15.0
EVALUATE_EVERY_S = 5.0
ALARMS_EVERY_S = 10.0
NOTIFY_EVERY_S = 3.0
BEAT_EVERY_S = 5.0
OUTLOOK_EVERY_S = 20.0
FOLDERS_EVERY_S = 2.0
FLEET_EVERY_S = 30.0
SETTLED_AFTER = 10
"""Looks at the fleet after which all is searched for garbage that is to be kept out of the search."""
LARGE_FLEET = 5000
"""Points from which on Python's search for garbage takes noticeably long."""
LEDGER_EVERY_S = 60.0
PROGRESS_EVERY_S = 5.0
RECEIPTS_EVERY_S = 300.0
EDGES_EVERY_S = 10.0
UPKEEP_LEAST_S = 12 * 3600.0
READER_EVERY_S = 10.0
READER_PASSWORD_EVERY_S = 60.0
STOP_S = 3.0
"""Time for jobs and polls to come to an end by themselves when stopping. [s]"""
TELL_EVERY_S = 30.0
"""Whoever shows figures is told at least so often: readings and alarms move without an evaluation. [s]"""

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
    sites : frozenset, optional
        Sites that the site file of this worker names; None: every site of the database.
    on_stowed : callable
        Told after every commit of readings, for metrics.
    on_evaluated : callable
        Called after evaluations, for metrics and alarms.
    on_progress : callable
        Called every few seconds, for metrics: how far figures are behind.
    on_stuck : callable
        Called when stopping, if jobs do not come to an end by themselves: cancels what they wait for.
    audit_retention_days : int
        How long the audit log is kept. [d]
    kept : Retention, optional
        How long readings and figures are kept.
    spool_limits : Limits, optional
        How much may wait in the spool.
    anchor_sinks : sequence of Sink
        Where anchors of the audit log go, besides the data folder and the log.
    owner : str
        Whose the site file is; what it describes is looked up, since pages may edit it.
    worker_id : str
        Made anew at each start, and in the names of the sessions of `engine`; default: any.
    """

    def __init__(
        self,
        engine: Engine,
        data_dir: Path,
        sites: frozenset[str] | None = None,
        *,
        on_stowed: Callable[[Stowed], None] = lambda stowed: None,
        on_evaluated: Callable[[], None] = lambda: None,
        on_progress: Callable[[Engine], None] = lambda engine: None,
        on_stuck: Callable[[], None] = lambda: None,
        audit_retention_days: int = 365,
        kept: Retention | None = None,
        spool_limits: Limits | None = None,
        anchor_sinks: Sequence[Sink] = (),
        owner: str = "",
        worker_id: str = "",
    ) -> None:
        self._engine, self._on_evaluated = engine, on_evaluated
        self._on_progress, self._on_stuck = on_progress, on_stuck
        self._audit_days, self._kept = audit_retention_days, kept or Retention()
        self.spool = Spool(spool_path(data_dir), spool_limits or Limits())
        self._member = Membership(engine, sites, owner, worker_id=worker_id)
        self._ingest = Ingest(engine, "poller", on_stowed=on_stowed, lost=self._member.lost)
        self._has_fleet = threading.Event()
        self._followed: Stored | None = None
        self._looks_left = 0
        self.polling = Polling(self.spool, partial(drain, send=self._ingest.send), self._has_fleet)
        self._edges = Intake(engine, on_stored=lambda by_site: on_stowed(Stowed(Counter(by_site), [])))
        self._folders = Folders()
        self._edge_findings = EdgeFindings(engine)
        self._evaluator = evaluate.Evaluator(engine)
        self._without_outlook: dict[int, datetime] = {}
        self._told_s = -math.inf
        self._had_backlog = False
        self._is_held = self._is_short = False
        self._close_again_s = 0.0
        self._kept_up_s: float | None = None
        self._fleet = FleetCache()
        self._alarm_cache = Cache(fleet=self._fleet)
        self._had_jobs = True
        self.anchoring = Anchoring(engine, data_dir, anchor_sinks)
        self._scheduler = Scheduler(self._jobs())

    def _jobs(self) -> list[Job]:
        """Each has its own time; those that walk over every site rest in proportion to what they took."""
        engine, is_ending = self._engine, lambda: self._scheduler.is_ending
        own = [
            Job("workers", self._take_part, BEAT_EVERY_S),
            Job("folders", lambda: self._folders.run(engine, _now()), FOLDERS_EVERY_S),
            Job("fleet", self._follow_fleet, FLEET_EVERY_S, busy_ratio=0.1),
            Job("ledger", lambda: self._ingest.write_ledger(self.spool), LEDGER_EVERY_S),
            Job("audit anchor", self.anchoring.run, audit_anchor.LOOK_EVERY_S),
            Job("progress", lambda: self._on_progress(engine), PROGRESS_EVERY_S, busy_ratio=0.1),
            Job("evaluate", self._evaluate, EVALUATE_EVERY_S, busy_ratio=0.5),
        ]
        of_all = [
            Job(
                "rollup",
                self._roll_up,
                ROLLUP_EVERY_S,
                busy_ratio=0.005,
                longest_rest_s=ROLLUP_REST_S,
                may_rest=lambda: not self._had_backlog,
            ),
            Job("alarms", self._judge_alarms, ALARMS_EVERY_S, busy_ratio=0.5),
            Job("notify", lambda: send.run(engine, _now()), NOTIFY_EVERY_S),
            Job("outlook", self._look_ahead, OUTLOOK_EVERY_S, busy_ratio=0.03),
            Job("findings", lambda: self._find(Part.LIVE), FINDINGS_EVERY_S, busy_ratio=0.1),
            Job("findings of history", lambda: self._find(Part.HISTORY), FINDINGS_EVERY_S),
            Job("edges", self._look_at_edges, EDGES_EVERY_S),
            Job("receipts", self._settle_receipts, RECEIPTS_EVERY_S),
            Job("all findings", lambda: findings.look_at_everything(engine, is_ending), daily_at="02:17"),
            Job("balance", lambda: findings.check_balance(engine, _now()), daily_at="02:47"),
            Job("site", self._look_at_sites, SITE_EVERY_S),
            Job("month", lambda: site_findings.look_at_this_month(engine, _now()), daily_at="02:57"),
            Job("reports", self._close_months, close_month.LOOK_EVERY_S),
            Job("upkeep", self._keep_up, daily_at="03:17"),
            Job("reader", self._guard_reader, READER_EVERY_S),
            Job("reader password", lambda: reader.set_back_password(engine), READER_PASSWORD_EVERY_S),
            Job("audit", self._forget_audit, daily_at="03:47"),
        ]
        return own + [replace(job, work=self._if_ours(job.work)) for job in of_all]

    def _if_ours(self, work: Callable[[], object]) -> Callable[[], object]:
        """Jobs of all are done by one of the workers."""

        def work_if_ours() -> None:
            if self._member.has_jobs:
                with self._member.doing_jobs():
                    work()

        return work_if_ours

    def _take_part(self) -> None:
        """Keep the leases and measure what is ours; jobs that become ours remember nothing of before."""
        with glance(self._engine) as connection:
            stored = self._fleet.current(connection)
            elsewhere = edges.measured_sites(connection)
        if self._member.beat(sorted(stored.site_id.keys() - elsewhere)):
            self._follow(stored.fleet)
        if self._member.has_jobs and not self._had_jobs:
            self._evaluator = evaluate.Evaluator(self._engine)
            self._alarm_cache = Cache(fleet=self._fleet)
        self._had_jobs = self._member.has_jobs

    def _close_months(self) -> None:
        """Freeze what is due; a month with readings that wait for the rollup is not."""
        if self._is_held or time.monotonic() < self._close_again_s:
            return
        now = _now()
        is_waiting = close_month.is_waiting(self._engine, now, self._fleet)
        close_month.run(self._engine, now, self._fleet)
        pause_s = close_month.LOOK_EVERY_S if is_waiting else close_month.CLOSE_EVERY_S
        self._close_again_s = time.monotonic() + pause_s

    def _look_at_edges(self) -> None:
        self._edges.adopt()
        self._edges.note_revisions()
        self._edge_findings.run(_now())
        with glance(self._engine) as connection:
            is_held = opening.is_anything_held(connection)
        if is_held:
            with connect(self._engine) as connection:
                opening.take_back(connection)

    def _settle_receipts(self) -> None:
        receipts.settle(self._engine, _now().replace(minute=0, second=0, microsecond=0))

    def _guard_reader(self) -> None:
        found = reader.guard(self._engine)
        if found.ended or found.was_changed:
            _log.warning(
                "the reading role went beyond its limits",
                sessions_ended=found.ended,
                settings_restored=found.was_changed,
            )
            detail = {"sessions_ended": found.ended, "settings_restored": found.was_changed}
            with begin(self._engine) as connection:
                audit.append(connection, Actor("wattline").did("reader.limit", reader.ROLE, detail))

    def _look_at_sites(self) -> None:
        site_findings.look_at_last_days(self._engine, _now())
        site_findings.try_failed_months(self._engine, _now())

    def _keep_up(self) -> None:
        """Once a day, by a clock that nobody sets, too: one that jumps from day to day makes no more runs."""
        if self._kept_up_s is None or time.monotonic() - self._kept_up_s > UPKEEP_LEAST_S:
            retention.maintain(self._engine, self._kept, _now())
            self._kept_up_s = time.monotonic()

    def _forget_audit(self) -> None:
        with begin(self._engine) as connection:
            audit.forget(connection, retention.trusted_up_to(connection, _now()), self._audit_days)

    def poll(self, fleet: Fleet) -> None:
        """Start polling; the database may still be away, readings wait in the spool."""
        self._follow(fleet)
        self.polling.start()

    def work(self) -> None:
        """Start all else; the database has its shape and fleet now."""
        self._take_part()
        self._has_fleet.set()
        self._follow_fleet()
        self._scheduler.start()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While the block lasts, nothing is concluded from what comes in."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    @property
    def jobs(self) -> Scheduler:
        """What runs again and again."""
        return self._scheduler

    def end(self) -> None:
        """Ask polls and jobs to come to an end; none begins any more."""
        self.polling.end()
        self._scheduler.end()

    def wait(self, within_s: float) -> list[str]:
        """Wait so long at most for all of them; names of those that still run."""
        deadline = time.monotonic() + within_s
        polls = [] if self.polling.wait(within_s) else ["polling"]
        return polls + self._scheduler.wait(max(deadline - time.monotonic(), 0.0))

    def stop(self) -> None:
        """Stop polling and working; what was read and not stored waits in the spool."""
        self.end()
        running = self.wait(STOP_S)
        if running:
            self._on_stuck()
            running = self.wait(STOP_S)
        self._member.leave()
        if running:
            _log.warning("stopped before these jobs finished; their work stays queued", jobs=running)
        self.spool.close()

    def _follow_fleet(self) -> None:
        with glance(self._engine) as connection:
            stored = self._fleet.current(connection)
        if stored is not self._followed:
            self._ingest.forget_fleet()
            self._followed, self._looks_left = stored, 0
        self._follow(stored.fleet)
        if not self._looks_left:
            if len(stored.point_id) >= LARGE_FLEET:  # never garbage: searching it took a third of a rollup
                tune_garbage_collection()
            memory.give_back()
            self._looks_left = SETTLED_AFTER
        self._looks_left -= 1

    def _follow(self, fleet: Fleet) -> None:
        there = fleet.at(datetime.now(UTC))
        if not all(self._member.measures(site.id) for site in there.sites):
            there = replace(there, sites=tuple(s for s in there.sites if self._member.measures(s.id)))
        self.polling.follow(there)
        self._folders.follow(there)
        self._check_spool(readings_per_s(there))

    def _check_spool(self, per_s: float) -> None:
        """Say where the disk holds less than the time that is asked for."""
        held_s = self.spool.room() / per_s if per_s else math.inf
        is_short = held_s < self.spool.limits.age_s
        if is_short and not self._is_short:
            _log.warning(
                "the disk holds fewer readings than WATTLINE_SPOOL_DAYS requires; enlarge it",
                days=round(held_s / 86_400, 2),
                asked_days=round(self.spool.limits.age_s / 86_400, 2),
                readings_per_s=round(per_s, 2),
            )
        self._is_short = is_short

    def _roll_up(self) -> None:
        with glance(self._engine) as connection:
            waits = rollup_queue.is_anything_queued(connection)
        done = rollup.run(self._engine) if waits else RollupResult()
        self._evaluator.note(done.changed_from)
        self._had_backlog = done.late > 0  # live readings that come beside it do not wait for a rest

    def _find(self, part: Part) -> None:
        if self._is_held:
            return
        changed = site_findings.waiting(self._engine) if part is Part.HISTORY else {}
        findings.run(self._engine, part, lambda: self._scheduler.is_ending, self._fleet)
        site_findings.look_at_months(self._engine, changed, _now())

    def _look_ahead(self) -> None:
        outlook.run(
            self._engine,
            _now(),
            self._fleet,
            at_once_s=outlook.AT_ONCE_S,
            left_out=self._without_outlook,
        )

    def _judge_alarms(self) -> None:
        if not self._is_held:
            judge.run(self._engine, _now(), cache=self._alarm_cache, spool_fill_ratio=self.spool.fill_ratio)

    def _evaluate(self) -> None:
        """Evaluate the sites that are due; whoever shows figures is told now and then all the same."""
        try:
            is_news = self._member.has_jobs and self._evaluator.run(_now())
        except ExceptionGroup:  # of some sites; the others were evaluated
            self._tell()
            raise
        if is_news or time.monotonic() - self._told_s > TELL_EVERY_S:
            self._tell()

    def _tell(self) -> None:
        self._on_evaluated()
        self._told_s = time.monotonic()
