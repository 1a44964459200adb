"""What edges send, into the store: acknowledged only after the commit, whatever carried it here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from app import config
from app.config import SiteFile
from app.domain.edge_message import CLOCK_OFF_S, Answer, Claim, Message, State
from app.domain.reading import Reading, refusal
from app.domain.signed import Definitions, sign
from app.errors import EdgeReplaced, WorkTooLarge
from app.jobs.ingest import REFUSED
from app.store import audit, drop_ledger, edges, site_moves, sites
from app.store.audit import Actor
from app.store.drop_ledger import Drop
from app.store.edges import Edge
from app.store.engine import Connection, Engine, begin, connect, glance
from app.store.quarantine import ingest_safely
from app.store.sites import Stored

LEAST_BACKLOG_PER_S = 5.0
"""Every edge may send so many old readings, however many others have a backlog. [1/s]"""
_ADOPTED_AT_ONCE = 20_000

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Intake:
    """Stores what edges send; every method may be called from any thread.

    Parameters
    ----------
    engine : Engine
    backlog_per_s : float
        How many readings that waited all edges together may send. [1/s]
    on_stored : callable
        Told after every commit how many readings of which site were stored, for metrics.
    clock : callable
        The present instant (UTC).
    """

    def __init__(
        self,
        engine: Engine,
        *,
        backlog_per_s: float = 5000.0,
        on_stored: Callable[[Mapping[str, int]], None] = lambda by_site: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._backlog_per_s, self._on_stored = engine, backlog_per_s, on_stored
        self._clock = clock
        self._noted: dict[int, str] = {}

    def take(self, key_id: str, message: Message) -> Answer:
        """Store a batch of the edge with that key; returns after the commit.

        What the edge's sites do not declare waits in the database; what cannot be stored goes to the drop
        ledger.

        Raises
        ------
        EdgeReplaced
            If another process speaks for the edge now.
        NotFound
            If the key is no edge's.
        SiteMoved
            If another cell has one of its sites.
        StoreUnavailable
            If the database is away; the batch may be sent again.
        WorkTooLarge
            If the database refuses so much; the batch may be sent in parts.
        """
        now, state = self._clock(), message.state
        with connect(self._engine) as connection:
            edge, stored = edges.of_key(connection, key_id), sites.load(connection)
            site_moves.refuse(connection, edge.sites)
        own, unknown = _split(message.readings, edge, stored)
        good, drops = _judged(own, stored, now)
        offset_s = _offset_s(state, now)

        def first(connection: Connection) -> None:
            edges.fence(connection, edge, message.claim, state, offset_s)

        self._keep_unknown(edge, unknown, first)
        collector = f"edge:{state.spool}"
        done = ingest_safely(self._engine, stored, good, collector, drops, first=first)
        by_site = Counter(stored.fleet.point[r.point][0].id for r in good)
        by_site.subtract(stored.fleet.point[d.point][0].id for d in done.quarantined)
        self._note(edge, state, stored, offset_s, done.stored.accepted)
        self._on_stored(by_site)
        with begin(self._engine) as connection:
            revision = current_revision(connection, edge, stored)
            pace = self._backlog_per_s / max(edges.with_backlog(connection), 1)
        return Answer(
            cell_at=self._clock(),
            revision=revision,
            backlog_per_s=max(pace, LEAST_BACKLOG_PER_S),
            stored=done.stored.accepted,
            duplicate=done.stored.duplicate,
            conflicting=done.stored.conflicting,
            unknown=len(unknown),
            refused=len(drops) + len(done.quarantined),
        )

    def _keep_unknown(
        self, edge: Edge, readings: Sequence[Reading], first: Callable[[Connection], None]
    ) -> None:
        """Keep readings of undeclared points, in parts where the database refuses all at once."""

        def keep(some: Sequence[Reading]) -> None:
            with begin(self._engine) as connection:
                first(connection)
                edges.keep_unknown(connection, edge, some)

        _in_parts(keep, readings)

    def _note(self, edge: Edge, state: State, stored: Stored, offset_s: float, accepted: int) -> None:
        """Count what the edge dropped itself, and readings that came while its clock was off."""
        is_off = accepted and abs(offset_s) > CLOCK_OFF_S
        if not (is_off or state.dropped):
            return
        named = [d for d in state.dropped if d.point not in stored.point_id or _is_own(d.point, edge, stored)]
        totals = [Drop(d.point, d.reason, d.count) for d in named]

        def add(some: Sequence[Drop]) -> None:
            with begin(self._engine) as connection:
                drop_ledger.add_totals(connection, stored, f"spool:{state.spool}", some)

        _in_parts(add, totals)
        if is_off:
            with begin(self._engine) as connection:
                edges.note_clock_off(connection, edge, accepted)

    def adopt(self) -> int:
        """Store the readings that waited for points which are declared now; how many.

        Raises
        ------
        StoreUnavailable
            If the database is away; they go on waiting.
        """
        with glance(self._engine) as connection:
            waiting = edges.unknown_points(connection)
            if not waiting:
                return 0
            stored, of_id = sites.load(connection), {e.id: e for e in edges.present(connection)}
        taken = 0
        for edge_id, points in waiting.items():
            known = {p for p in points if _is_own(p, of_id[edge_id], stored)}
            while known and (count := self._adopt_some(of_id[edge_id], known, stored)):
                taken += count
        return taken

    def note_revisions(self) -> None:
        """Number the definitions that hold, also of edges that cannot be reached: theirs are shown as old.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        with glance(self._engine) as connection:
            stored, listed = sites.load(connection), edges.present(connection)
        digests = {edge.id: _digest_of(edge, stored) for edge in listed if edge.first_seen_at is not None}
        changed = [edge for edge in listed if self._noted.get(edge.id) != digests.get(edge.id)]
        if changed:
            with begin(self._engine) as connection:
                for edge in changed:
                    edges.revision_of(connection, edge, digests[edge.id])
        self._noted = digests

    def _adopt_some(self, edge: Edge, points: set[str], stored: Stored) -> int:
        with connect(self._engine) as connection:
            some = edges.unknown_readings(connection, edge.id, points, _ADOPTED_AT_ONCE)
        good, drops = _judged(some, stored, self._clock())
        if some:
            collector = f"edge:{edge.name}"
            ingest_safely(self._engine, stored, good, collector)  # in parts, where they are too many
            with begin(self._engine) as connection:
                drop_ledger.add(connection, stored, collector, drops)
                edges.forget_unknown(connection, edge.id, some)
            _log.info("readings of points that are declared now", edge=edge.name, readings=len(some))
        return len(some)


def _in_parts(work: Callable[[Sequence[T]], None], items: Sequence[T]) -> None:
    """Do something with all items, in parts where the database refuses so many in one transaction."""
    if not items:
        return
    try:
        work(items)
    except WorkTooLarge:
        middle = len(items) // 2
        if not middle:
            raise
        _in_parts(work, items[:middle])
        _in_parts(work, items[middle:])


def _split(readings: Sequence[Reading], edge: Edge, stored: Stored) -> tuple[list[Reading], list[Reading]]:
    """Readings of points that the edge's sites declare, and the others."""
    own = {p for p in {r.point for r in readings} if _is_own(p, edge, stored)}
    return [r for r in readings if r.point in own], [r for r in readings if r.point not in own]


def _is_own(point: str, edge: Edge, stored: Stored) -> bool:
    return point in stored.point_id and stored.fleet.point[point][0].id in edge.sites


def _judged(readings: Sequence[Reading], stored: Stored, now: datetime) -> tuple[list[Reading], list[Drop]]:
    """Readings that can be stored, and those that cannot."""
    good, drops = [], []
    for reading in readings:
        quantity = stored.fleet.point[reading.point][2].quantity
        why = refusal(reading.at, reading.value, quantity, now)
        if why is None:
            good.append(reading)
        else:
            which = f"{reading.at.isoformat()} {reading.value!r}"
            drops.append(Drop(reading.point, REFUSED, 1, why, which))
    return good, drops


def _offset_s(state: State, now: datetime) -> float:
    """How far the edge's clock is ahead: as it measured, else by when it says that it sent this. [s]"""
    return (state.sent_at - now).total_seconds() if state.clock_offset_s is None else state.clock_offset_s


# -- who speaks for an edge ----------------------------------------------------------------------------


def speak(engine: Engine, key_id: str, process: str, source: str) -> Claim:
    """Let a process speak for the edge with that key from now on.

    Raises
    ------
    EdgeReplaced
        If another process does.
    NotFound
        If the key is no edge's.
    SiteMoved
        If another cell has one of its sites.
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        edge = edges.of_key(connection, key_id)
        site_moves.refuse(connection, edge.sites)
        epoch = edges.begin(connection, edge, process)
        if not isinstance(epoch, str):
            detail = {"process": process, "epoch": epoch}
            audit.append(connection, _actor(edge, source).did("edge.begin", edge.name, detail))
    if isinstance(epoch, str):
        raise EdgeReplaced(epoch)
    return Claim(process, epoch)


def release(engine: Engine, key_id: str, claim: Claim, source: str) -> None:
    """End speaking for an edge, so that another process need not wait.

    Raises
    ------
    NotFound
        If the key is no edge's.
    SiteMoved
        If another cell has one of its sites.
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        edge = edges.of_key(connection, key_id)
        site_moves.refuse(connection, edge.sites)
        edges.release(connection, edge, claim)
        detail = {"process": claim.process, "epoch": claim.epoch}
        audit.append(connection, _actor(edge, source).did("edge.release", edge.name, detail))


def _actor(edge: Edge, source: str) -> Actor:
    return Actor(f"edge {edge.name}", source, edge.key_id)


# -- definitions ---------------------------------------------------------------------------------------


def definitions(engine: Engine, key_id: str) -> dict[str, object]:
    """The signed definitions of the edge with that key.

    Raises
    ------
    NotFound
        If the key is no edge's.
    SiteMoved
        If another cell has one of its sites.
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        edge, stored = edges.of_key(connection, key_id), sites.load(connection)
        site_moves.refuse(connection, edge.sites)
        text = _site_file(edge, stored)
        revision = edges.revision_of(connection, edge, _digest(text))
        return sign(Definitions(edge.name, revision, text), edges.signing_secret(connection, edge))


def current_revision(connection: Connection, edge: Edge, stored: Stored) -> int:
    """The number of the definitions that hold for an edge.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return edges.revision_of(connection, edge, _digest_of(edge, stored))


def _digest_of(edge: Edge, stored: Stored) -> str:
    cached = _known.get(edge.id)
    if cached is None or cached[0] is not stored or cached[1] != edge.sites:
        cached = _known[edge.id] = (stored, edge.sites, _digest(_site_file(edge, stored)))
    return cached[2]


_known: dict[int, tuple[Stored, tuple[str, ...], str]] = {}
"""Digest of an edge's definitions, for the fleet that it was computed from."""


def _site_file(edge: Edge, stored: Stored) -> str:
    own = tuple(site for site in stored.fleet.sites if site.id in edge.sites)
    banks = {site.institution for site in own}
    institutions = tuple(b for b in stored.fleet.institutions if b.id in banks)
    return config.dump(SiteFile(institutions=institutions, sites=own))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
