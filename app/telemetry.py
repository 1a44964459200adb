"""``/metrics``: figures of the sites by our own writer, figures of the service by prometheus_client.

The figures of the sites are a snapshot, taken after each evaluation; a scrape formats it and asks
nobody. A meter or site that is no longer declared is gone with the next snapshot. What lives in this
process (polls, spools, readings stored) is added at the scrape.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from time import monotonic
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as ServiceCounter
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from app import __version__
from app.exposition import Sample, escape, labels, write_family
from app.store import compression, deployment, edges, metrics_snapshot, outbox, progress
from app.store.compression import State
from app.store.edges import Edge
from app.store.engine import Engine, connect, glance
from app.store.fleet_cache import FleetCache
from app.store.metrics_snapshot import SiteFigures
from app.store.outbox import Tally
from app.store.progress import Progress

JOULES_PER_KWH = 3_600_000.0
WATTS_PER_KW = 1000.0

FRESH_S = 60.0
"""After so long without a look at the queues, figures are taken to be behind since then. [s]"""


@dataclass(frozen=True, slots=True)
class MeterState:
    """What a poller knows about a meter."""

    up: bool
    poll_duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """How another cell of the fleet answered last."""

    is_there: bool
    took_s: float


class HubTally(Protocol):
    """What came through a hub since the start."""

    @property
    def batches(self) -> int:
        """Stored and acknowledged."""

    @property
    def again(self) -> int:
        """Given back, to be delivered again."""

    @property
    def poison(self) -> int:
        """Set aside."""

    @property
    def is_connected(self) -> bool:
        """Whether it is listened to now."""


class JobRecord(Protocol):
    """What a job of this process did since the start."""

    @property
    def runs(self) -> int:
        """How often it ran."""

    @property
    def duration_s(self) -> float:
        """Wall time of all runs. [s]"""

    @property
    def processor_s(self) -> float:
        """Processor time of its thread, without the database's. [s]"""

    @property
    def runs_up_to(self) -> Mapping[float, int]:
        """Runs that took at most so many seconds."""

    @property
    def last_success_s(self) -> float | None:
        """When it last ended well, since 1970; None: not yet. [s]"""


class AuditHead(Protocol):
    """The newest entry of the audit log."""

    @property
    def seq(self) -> int | None:
        """Its number."""

    @property
    def hash(self) -> str:
        """Its hash."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, its kind, what it says, and its samples for one site."""

    name: str
    kind: str
    help: str
    samples: Callable[[Telemetry, SiteFigures], Iterable[Sample]]


class Telemetry:
    """Everything that ``/metrics`` shows; threads may share it."""

    def __init__(self) -> None:
        self.service = ServiceMetrics()
        self.meter_states: Callable[[], Mapping[str, MeterState]] = dict
        """Asked at each scrape; set by whoever runs the poller."""
        self.spools: Callable[[], Mapping[str, tuple[int, float, bool]]] = dict
        """Readings that wait, how full the spool is [0..1] and whether it is written, by collector."""
        self.jobs: Callable[[], Mapping[str, JobRecord]] = dict
        """What the jobs of this process did, by name; set by whoever runs them."""
        self.busy_ratio: Callable[[], float | None] = lambda: None
        """Share of the last minutes in which the busiest job was at work; set by whoever runs them."""
        self.cells: Callable[[], Mapping[str, CellAnswer]] = dict
        """What other cells of the fleet answered last, by cell; set by whoever asks them."""
        self.hub: Callable[[], HubTally | None] = lambda: None
        """What came through a hub; set by whoever listens to one."""
        self.audit_head: Callable[[], AuditHead | None] = lambda: None
        """The newest anchor of the audit log; set by whoever takes them."""
        self._progress, self._looked_s = Progress(), monotonic()
        self._edges: Sequence[Edge] = ()
        self._figures: dict[str, SiteFigures] = {}
        self._taken_at: datetime | None = None
        self._deliveries: Mapping[str, Tally] = {}
        self._compression: Sequence[State] = ()
        self._stored: Counter[str] = Counter()
        self._fleet = FleetCache()
        self._known = metrics_snapshot.Known()
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()

    # -- in ------------------------------------------------------------------------------------------

    def stored(self, site: str, readings: int) -> None:
        """Count readings of a site that this process stored."""
        with self._lock:
            self._stored[site] += readings

    def refresh(self, engine: Engine, now: datetime) -> bool:
        """Take a new snapshot; False where another thread is at it.

        Raises
        ------
        StoreUnavailable
            If the database is away; the old snapshot stays.
        """
        if not self._refreshing.acquire(blocking=False):
            return False
        try:
            with connect(engine) as connection:
                stored = self._fleet.current(connection)
                profiles = deployment.limit_profiles(connection)
                self.show(metrics_snapshot.collect(connection, stored, profiles, now, self._known), now)
                self._deliveries = outbox.tallies(connection)
                self._compression = compression.states(connection)
                self._progress, self._looked_s = progress.look(connection), monotonic()
                self._edges = edges.listing(connection)
            return True
        finally:
            self._refreshing.release()

    def look_at_progress(self, engine: Engine) -> None:
        """See how far the figures are behind, and what waits.

        Raises
        ------
        StoreUnavailable
            If the database is away; what was seen last grows older.
        """
        with glance(engine) as connection:
            self._progress, self._looked_s = progress.look(connection), monotonic()
            self._edges = edges.listing(connection)

    def show(self, figures: Iterable[SiteFigures], now: datetime) -> None:
        """Show these figures from now on; counters never fall while the process lives."""
        with self._lock:
            before = self._figures
            self._figures = {f.site: _not_below(f, before.get(f.site)) for f in figures}
            self._taken_at = now

    def figures(self) -> list[SiteFigures]:
        """The snapshot."""
        with self._lock:
            return list(self._figures.values())

    def age_s(self, now: datetime) -> float:
        """Age of the snapshot; infinite before the first. [s]"""
        taken_at = self._taken_at
        return float("inf") if taken_at is None else (now - taken_at).total_seconds()

    # -- out -----------------------------------------------------------------------------------------

    def exposition(self, visible: Collection[str] | None = None) -> bytes:
        """The page; with `visible` only these sites, and nothing about the service."""
        with self._lock:
            figures = [f for f in self._figures.values() if visible is None or f.site in visible]
        parts = [write_family(f.name, f.kind, f.help, self._samples(f, figures)) for f in FAMILIES]
        parts += [self._lag(visible), *self._failed(visible), *self._of_edges(visible)]
        if visible is None:
            parts += [*self._spools(), *self._notifications(), *self._work(), self._audit()]
            parts += [*self._compressed(), *self._cells()]
            parts.append(self.service.exposition())
        return b"".join(parts)

    def _samples(self, family: Family, figures: Iterable[SiteFigures]) -> Iterator[Sample]:
        return chain.from_iterable(family.samples(self, one) for one in figures)

    def stored_of(self, site: str) -> int:
        """Readings of a site that this process stored."""
        with self._lock:
            return self._stored[site]

    def _spools(self) -> list[bytes]:
        spools = {labels(collector=name): one for name, one in self.spools().items()}
        waiting = [(label, float(count)) for label, (count, *_) in spools.items()]
        filled = [(label, ratio) for label, (_, ratio, _) in spools.items()]
        written = [(label, float(is_written)) for label, (*_, is_written) in spools.items()]
        on_disk = "Whether readings that wait are on disk: 0 while it is full, and they wait in memory."
        return [
            write_family("wattline_spool_readings", "gauge", "Readings that wait to be stored.", waiting),
            write_family("wattline_spool_fill_ratio", "gauge", "How full the spool is.", filled),
            write_family("wattline_spool_written", "gauge", on_disk, written),
        ]

    def _lag(self, visible: Collection[str] | None) -> bytes:
        """How far figures are behind; a look that is old itself is no excuse."""
        since_s = monotonic() - self._looked_s
        text = "Time for which the oldest reading that is not in the figures has been stored."
        samples = [
            (labels(site=site), lag_s + since_s if lag_s or since_s > FRESH_S else 0.0)
            for site, lag_s in self._progress.lag_s.items()
            if visible is None or site in visible
        ]
        return write_family("wattline_figures_lag_seconds", "gauge", text, samples)

    def _of_edges(self, visible: Collection[str] | None) -> list[bytes]:
        """Of the edge of each site."""
        by_site = [(s, e) for s, e in edges.by_site(self._edges) if visible is None or s in visible]
        seen = [(labels(site=site), edge) for site, edge in by_site if edge.last_seen_at is not None]
        return [
            write_family(name, kind, text, [(label, value) for label, edge in seen for value in pick(edge)])
            for name, kind, text, pick in _EDGES
        ]

    def _failed(self, visible: Collection[str] | None) -> list[bytes]:
        """What did not succeed and is tried again, by site."""
        failed = (
            (
                "wattline_findings_failed_months",
                "Months whose findings could not be looked for at the last try.",
                self._progress.failed_months,
            ),
            (
                "wattline_import_failed_files",
                "Files that a watched folder set aside, and that were neither imported nor removed since.",
                self._progress.failed_files,
            ),
        )
        return [
            write_family(
                name,
                "gauge",
                text,
                [(labels(site=s), float(n)) for s, n in counts.items() if visible is None or s in visible],
            )
            for name, text, counts in failed
        ]

    def _work(self) -> list[bytes]:
        """What waits, and what the jobs of this process did."""
        waiting = [(labels(queue=name), float(n)) for name, n in self._progress.waiting.items()]
        jobs = {labels(job=name): record for name, record in self.jobs().items()}
        ended = [(k, j.last_success_s) for k, j in jobs.items() if j.last_success_s is not None]
        busy = self.busy_ratio()
        return [
            write_family("wattline_queue_entries", "gauge", "Entries that wait, by queue.", waiting),
            _histogram(jobs),
            write_family(
                "wattline_job_processor_seconds_total",
                "counter",
                "Processor time of the job's thread, without the database's.",
                [(label, job.processor_s) for label, job in jobs.items()],
            ),
            write_family(
                "wattline_job_last_success_timestamp_seconds", "gauge", "When the job last ended well.", ended
            ),
            write_family(
                "wattline_worker_busy_ratio",
                "gauge",
                "Share of the last two minutes in which the busiest job was at work; 1: it does not keep up.",
                [] if busy is None else [("", busy)],
            ),
        ]

    def _audit(self) -> bytes:
        head = self.audit_head()
        text = "Newest entry of the audit log: its number and hash, every ten minutes."
        samples = [] if head is None else [(labels(seq=str(head.seq), hash=head.hash), 1.0)]
        return write_family("wattline_audit_head_info", "gauge", text, samples)

    def _cells(self) -> list[bytes]:
        """How the other cells of the fleet answer."""
        cells = {labels(cell=name): one for name, one in self.cells().items()}
        return [
            write_family(
                "wattline_cell_up",
                "gauge",
                "1 where the cell answered when it was last asked; fleet figures are without it otherwise.",
                [(label, float(one.is_there)) for label, one in cells.items()],
            ),
            write_family(
                "wattline_cell_answer_seconds",
                "gauge",
                "How long the cell took for its last answer.",
                [(label, one.took_s) for label, one in cells.items()],
            ),
        ]

    def _hub(self) -> list[bytes]:
        """What edges sent through a hub."""
        tally = self.hub()
        if tally is None:
            return []
        counts = {"stored": tally.batches, "again": tally.again, "poison": tally.poison}
        return [
            write_family(
                "wattline_hub_up",
                "gauge",
                "1 while the cell listens to its hub.",
                [("", float(tally.is_connected))],
            ),
            write_family(
                "wattline_hub_batches_total",
                "counter",
                "Batches of edges from the hub: stored, given back to come again, or rejected as poison.",
                [(labels(outcome=name), float(n)) for name, n in counts.items()],
            ),
        ]

    def _compressed(self) -> list[bytes]:
        """How compression of each hypertable goes."""
        states = {labels(table=state.table): state for state in self._compression}
        ended = [(k, s.last_success_at.timestamp()) for k, s in states.items() if s.last_success_at]
        return [
            write_family(
                "wattline_compression_last_success_timestamp_seconds",
                "gauge",
                "When the compression policy of the table last ended well.",
                ended,
            ),
            write_family(
                "wattline_compression_failures_total",
                "counter",
                "Runs of the compression policy of the table that failed.",
                [(label, float(state.failures)) for label, state in states.items()],
            ),
            write_family(
                "wattline_compression_overdue_chunks",
                "gauge",
                "Chunks that should have been compressed two days ago or more.",
                [(label, float(state.overdue_chunks)) for label, state in states.items()],
            ),
            write_family(
                "wattline_compression_broken",
                "gauge",
                "1 where the table is not compressed as it should be; `wattline db status` says why.",
                [(label, float(state.problem is not None)) for label, state in states.items()],
            ),
        ]

    def _notifications(self) -> list[bytes]:
        """What became of messages about alarms, by channel."""
        tallies = {labels(channel=name): tally for name, tally in self._deliveries.items()}
        return [
            write_family(name, kind, text, [(label, float(pick(t))) for label, t in tallies.items()])
            for name, kind, text, pick in _NOTIFICATIONS
        ]


def _histogram(jobs: Mapping[str, JobRecord]) -> bytes:
    """Durations of the jobs, as a histogram."""
    name = "wattline_job_duration_seconds"
    lines = [f"# HELP {name} How long runs of the job took.", f"# TYPE {name} histogram"]
    for label, job in jobs.items():
        lines += [f'{name}_bucket{{{label},le="{le!r}"}} {n}' for le, n in job.runs_up_to.items()]
        lines.append(f'{name}_bucket{{{label},le="+Inf"}} {job.runs}')
        lines.append(f"{name}_sum{{{label}}} {job.duration_s!r}")
        lines.append(f"{name}_count{{{label}}} {job.runs}")
    return ("\n".join(lines) + "\n").encode() if jobs else b""


def _not_below(now: SiteFigures, before: SiteFigures | None) -> SiteFigures:
    """With counters at least as high as before: a correction must not look like a restart."""
    if before is None:
        return now
    floor = before.energy_kwh
    return replace(now, energy_kwh={k: max(v, floor.get(k, v)) for k, v in now.energy_kwh.items()})


# -- families of the sites ---------------------------------------------------------------------------


def _by(
    label: str, pick: Callable[[SiteFigures], Mapping[str, float]], factor: float = 1.0
) -> Callable[[Telemetry, SiteFigures], Iterable[Sample]]:
    def samples(_: Telemetry, one: SiteFigures) -> Iterable[Sample]:
        start = f'{labels(site=one.site)},{label}="'
        return [(f'{start}{escape(name)}"', value * factor) for name, value in pick(one).items()]

    return samples


def _meter_up(telemetry: Telemetry, one: SiteFigures) -> Iterable[Sample]:
    states, start = telemetry.meter_states(), f'{labels(site=one.site)},meter="'
    ups = {name: state.up for name, state in states.items()} if states else {}
    return [(f'{start}{m.meter}"', 1.0 if ups.get(m.meter, m.fresh) else 0.0) for m in one.meters]


def _last_reading(_: Telemetry, one: SiteFigures) -> Iterable[Sample]:
    start = f'{labels(site=one.site)},meter="'
    return [(f'{start}{m.meter}"', m.last_reading_s) for m in one.meters if m.last_reading_s is not None]


def _poll_duration(telemetry: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    states, start = telemetry.meter_states(), f'{labels(site=one.site)},meter="'
    for meter in one.meters if states else ():
        state = states.get(meter.meter)
        if state is not None and state.poll_duration_s is not None:
            yield f'{start}{meter.meter}"', state.poll_duration_s


def _it_load(_: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    if one.it_load_ratio is not None:
        yield labels(site=one.site), one.it_load_ratio


def _evaluated(_: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    if one.evaluated_at is not None:
        yield labels(site=one.site), one.evaluated_at.timestamp()


def _alarms(_: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    for (rule, severity), count in one.alarms.items():
        yield labels(site=one.site, rule=rule, severity=severity), float(count)


def _withheld(_: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    for window, reason in one.withheld.items():
        yield labels(site=one.site, window=window, reason=reason), 1.0


def _findings(_: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    for (kind, severity), count in one.findings.items():
        yield labels(site=one.site, kind=kind, severity=severity), float(count)


def _stored(telemetry: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    if one.site:
        yield labels(site=one.site), float(telemetry.stored_of(one.site))


def _thresholds(_: Telemetry, one: SiteFigures) -> Iterator[Sample]:
    for (rule, severity), threshold in one.thresholds.items():
        yield labels(site=one.site, rule=rule, severity=severity), threshold


FAMILIES = (
    Family(
        "wattline_site_pue_ratio",
        "gauge",
        "PUE by window, a ratio of sums; absent where it cannot be said.",
        _by("window", lambda f: f.pue),
    ),
    Family(
        "wattline_site_pue_withheld",
        "gauge",
        "1 for a window without a PUE, by reason; waits: for a person.",
        _withheld,
    ),
    Family("wattline_findings_open", "gauge", "Open data quality issues, by kind and severity.", _findings),
    Family(
        "wattline_site_pue_limit_ratio",
        "gauge",
        "PUE limit that holds today, by profile.",
        _by("profile", lambda f: f.limits),
    ),
    Family(
        "wattline_site_power_watts",
        "gauge",
        "Mean power of the newest quarter-hour, by load class.",
        _by("load_class", lambda f: f.power_kw, WATTS_PER_KW),
    ),
    Family(
        "wattline_site_energy_joules_total",
        "counter",
        "Energy since the beginning of the record, by load class.",
        _by("load_class", lambda f: f.energy_kwh, JOULES_PER_KWH),
    ),
    Family(
        "wattline_site_coverage_ratio",
        "gauge",
        "Share of the window over which facility and IT energy are both known.",
        _by("window", lambda f: f.coverage_ratio),
    ),
    Family("wattline_site_it_load_ratio", "gauge", "IT power by design IT capacity.", _it_load),
    Family("wattline_site_evaluation_timestamp_seconds", "gauge", "When PUE was last evaluated.", _evaluated),
    Family("wattline_meter_up", "gauge", "Whether the meter answers, or its readings are fresh.", _meter_up),
    Family(
        "wattline_meter_last_reading_timestamp_seconds",
        "gauge",
        "Time of the newest reading in the store.",
        _last_reading,
    ),
    Family("wattline_meter_poll_duration_seconds", "gauge", "How long the last poll took.", _poll_duration),
    Family("wattline_readings_stored_total", "counter", "Readings that this process stored.", _stored),
    Family(
        "wattline_readings_dropped_total",
        "counter",
        "Readings in the drop ledger, by reason.",
        _by("reason", lambda f: f.dropped),
    ),
    Family(
        "wattline_import_refused_total",
        "counter",
        "What imports did not store: rows that were not understood (rejected), readings that contradict one.",
        _by("reason", lambda f: f.refused),
    ),
    Family("wattline_alarms_active", "gauge", "Alarms that fire now.", _alarms),
    Family(
        "wattline_alarm_threshold",
        "gauge",
        "Threshold of an alarm rule in force, in the unit of what the rule watches.",
        _thresholds,
    ),
)
"""Every family of the sites, in the order of the page."""


_EDGES: tuple[tuple[str, str, str, Callable[[Edge], Sequence[float]]], ...] = (
    (
        "wattline_edge_last_seen_timestamp_seconds",
        "gauge",
        "When the site's edge was last heard of.",
        lambda e: [e.last_seen_at.timestamp()] if e.last_seen_at else [],
    ),
    (
        "wattline_edge_clock_offset_seconds",
        "gauge",
        "How far the clock of the site's edge is ahead.",
        lambda e: [] if e.clock_offset_s is None else [e.clock_offset_s],
    ),
    (
        "wattline_edge_clock_off_readings_total",
        "counter",
        "Readings of the edge that were stored while its clock was off.",
        lambda e: [float(e.clock_off_readings)],
    ),
    (
        "wattline_edge_spool_readings",
        "gauge",
        "Readings that wait at the site's edge, as it said last.",
        lambda e: [float(e.waiting)],
    ),
    (
        "wattline_edge_unknown_readings",
        "gauge",
        "Readings of the edge that wait for their points to be declared.",
        lambda e: [float(e.unknown_readings)],
    ),
    (
        "wattline_edge_definitions_current",
        "gauge",
        "1 where the site's edge works with the definitions that hold.",
        lambda e: [float(e.is_current)],
    ),
)


_NOTIFICATIONS: tuple[tuple[str, str, str, Callable[[Tally], int]], ...] = (
    ("wattline_notifications_waiting", "gauge", "Messages that wait to be sent.", lambda t: t.waiting),
    ("wattline_notifications_sent_total", "counter", "Deliveries that were taken.", lambda t: t.sent),
    ("wattline_notifications_failed_total", "counter", "Deliveries that failed.", lambda t: t.failed),
)


# -- the service itself ------------------------------------------------------------------------------


class ServiceMetrics:
    """What the process says about itself."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = ServiceCounter(
            "wattline_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._rejected = ServiceCounter(
            "wattline_readings_rejected",
            "Readings sent over HTTP that were not stored, by reason.",
            ["reason"],
            registry=self._registry,
        )
        self._duration = Histogram(
            "wattline_http_request_duration_seconds",
            "Time from a request to its answer.",
            ["route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
            registry=self._registry,
        )
        Gauge("wattline_build_info", "Version of the service.", ["version"], registry=self._registry).labels(
            __version__
        ).set(1)
        self._console = Gauge(
            "wattline_console_info", "Address of the pages, for links.", ["url"], registry=self._registry
        )

    def reached_at(self, url: str) -> None:
        """Say where browsers reach the pages; the boards' links lead there."""
        self._console.labels(url.rstrip("/")).set(1)

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count a request; `route` is its pattern, never the path as sent."""
        self._requests.labels(method, route, str(status)).inc()
        self._duration.labels(route).observe(duration_s)

    def rejected(self, reasons: Mapping[str, int]) -> None:
        """Count readings that were sent and not stored, by reason."""
        for reason, count in reasons.items():
            self._rejected.labels(reason).inc(count)

    def exposition(self) -> bytes:
        """These metrics as text."""
        return generate_latest(self._registry)
