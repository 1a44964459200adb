"""Moving a site to another cell with its whole history; interrupted at any moment, it is started again.

1. *copying*: history is brought over by the week while the site goes on at the source.
2. *closed*: the source takes no more readings of it, so that whoever sends keeps them; what it has is worked
   off.
3. *sealed*: nobody writes the site at the source. What changed meanwhile is brought over, both sides are
   compared table by table, and the target declares the site: its small tables in one transaction.
4. *moved*: the source keeps its rows and says where the site is.

What was reached is noted in both databases, so each start goes on from there. The target's note that the
site is open is the turning point: before it nothing of the site is seen there, after it the source can only
give the site up.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.errors import ConfigError, NotFound, StoreUnavailable
from app.store import edges, locks, migrate, site_moves
from app.store.audit import Actor
from app.store.engine import Connection, Engine, begin, connect
from app.store.site_move import obstacles, opening, sealing
from app.store.site_move.copying import Copier
from app.store.site_move.parts import Own
from app.store.site_moves import IN, OUT, Move, State

Progress = Callable[[str, float], None]
"""Gets what is done, and the share of the present step that is done, 0 to 1."""
_WORK_OFF_S = 3600.0
_PAUSE_S = 1.0
_BEGUN = (State.COPYING, State.CLOSED, State.SEALED)


@dataclass(frozen=True, slots=True)
class Way:
    """From where to where a site goes."""

    site: str
    source: str
    """Id of the cell that has it."""
    target: str
    """Id of the cell that gets it."""
    url: str
    """Address of the target, where edges go from then on."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a move would do."""

    state: str
    """How far it is; empty: it has not begun."""
    rows: Mapping[str, int]
    """By table."""
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]
    held: int
    """Readings that the source got after the site had moved."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a run did."""

    copied: int = 0
    """Rows that were brought over."""
    compared: int = 0
    """Slices and tables that are the same on both sides."""
    seconds: float = 0.0
    closed_s: float = 0.0
    """How long the site was closed in this run. [s]"""
    sent_after: int = 0
    """Readings that the source still had."""


def check(here: Engine, there: Engine, way: Way) -> Checked:
    """What stands in the way of a move and how much it would bring over; nothing is changed.

    Raises
    ------
    NotFound
        If this cell has no such site.
    StoreUnavailable
        If either database is away.
    """
    with connect(here) as source, connect(there) as target:
        own, known = _own(source, way), _known(source, way)
        state = known.state if known else None
        found = obstacles.Found((), ())
        if state not in (State.CLOSED, State.SEALED, State.MOVED):
            found = obstacles.look(source, target, own, way.target)
        rows = obstacles.amount(source, own)
        return Checked(
            state or "", rows, found.obstacles, found.notes, site_moves.held(source).get(way.site, 0)
        )


def move(
    here: Engine,
    there: Engine,
    way: Way,
    by: Actor,
    *,
    work_off: Callable[[], object],
    progress: Progress = lambda what, share: None,
) -> Moved:
    """Move a site, or go on with a move that was interrupted.

    Parameters
    ----------
    here, there : Engine
        On the databases of source and target.
    way : Way
    by : Actor
        Stands in the audit logs of both.
    work_off : callable
        Rolls up what waits at the source.
    progress : callable, optional

    Raises
    ------
    ConfigError
        If something stands in the way; one line for each.
    NotFound
        If this cell has no such site.
    StoreUnavailable
        If either database is away, or another process moves the site; start it again.
    """
    began_s = time.monotonic()
    with _alone(there, way.site):
        run = _Run(here, there, way, by, work_off, progress)
        done = run.to_the_end()
    return replace(done, seconds=time.monotonic() - began_s)


def cancel(here: Engine, there: Engine, way: Way, by: Actor) -> None:
    """End a move before the target has the site; it goes on at the source.

    Raises
    ------
    ConfigError
        If there is none, or the target has the site already.
    StoreUnavailable
        If either database is away.
    """
    with _alone(there, way.site):
        with connect(here) as source, connect(there) as target:
            known, theirs = _known(source, way), site_moves.latest(target, way.site, IN)
        if known is None or known.state not in _BEGUN:
            raise ConfigError(f"site {way.site} is not on its way to cell {way.target}")
        if theirs is not None and theirs.id == known.id:
            if theirs.state is State.OPEN:
                raise ConfigError(f"cell {way.target} has the site already; let the move go on")
            with begin(there) as target:
                site_moves.advance(target, known.id, IN, State.CANCELLED, is_end=True)
        sealing.reopen(here, known, by)
        with connect(here) as source:
            opening.take_back(source)
        opening.clear(there, known, way.site)


def drop_source(
    here: Engine, there: Engine, way: Way, by: Actor, progress: Progress = lambda what, share: None
) -> int:
    """Remove the rows of a site that moved; how many.

    Raises
    ------
    ConfigError
        If it has not moved, readings wait to be sent after it, or an edge has not been at the target yet.
    StoreUnavailable
        If either database is away; start it again.
    """
    with connect(here) as source, connect(there) as target:
        known = _known(source, way)
        if known is None or known.state not in (State.MOVED, State.DROPPING):
            raise ConfigError(f"site {way.site} has not moved to cell {way.target}; its rows stay")
        problem = "" if known.state is State.DROPPING else _why_kept(source, target, known)
        if problem:
            raise ConfigError(problem)
    return sealing.drop(here, known, by, lambda what: progress(what, 0.0))


def _why_kept(source: Connection, target: Connection, known: Move) -> str:
    theirs = site_moves.latest(target, known.site, IN)
    if theirs is None or theirs.id != known.id or theirs.state is not State.OPEN:
        return f"cell {known.cell} does not say that it has the site; its rows stay"
    if site_moves.held(source).get(known.site):
        return f"readings wait to be sent after the site; run first: wattline cells move {known.site}"
    assert theirs.ended_at is not None
    for edge in edges.listing(target):
        is_away = edge.last_seen_at is None or edge.last_seen_at < theirs.ended_at
        if known.site in edge.sites and not edge.is_revoked and edge.first_seen_at and is_away:
            return f"edge {edge.name} has not been at cell {known.cell} yet; it learns of the move here"
    return ""


@contextmanager
def _alone(there: Engine, site: str) -> Iterator[None]:
    """Be the only process that moves a site."""
    if not migrate.status(there).current:
        raise ConfigError("the target's database is empty; run there first: wattline db upgrade")
    with connect(there) as guard:
        if not locks.try_move(guard, site):
            raise StoreUnavailable(f"another process moves site {site}; wait until it is done")
        guard.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
        guard.rollback()


def _own(source: Connection, way: Way) -> Own:
    own = sealing.own_of(source, way.site)
    if own is None:
        raise NotFound(f"this cell has no site {way.site!r}")
    return own


def _known(source: Connection, way: Way) -> Move | None:
    """The move of a site that has begun; None where there is none.

    Raises
    ------
    ConfigError
        If it goes elsewhere.
    """
    found = site_moves.latest(source, way.site, OUT)
    if found is None or found.state in (State.CANCELLED, State.DROPPED):
        return None
    if found.cell != way.target:
        raise ConfigError(f"site {way.site} goes to cell {found.cell} ({found.state}), not to {way.target}")
    return found


class _Run:
    """One run of a move."""

    def __init__(
        self,
        here: Engine,
        there: Engine,
        way: Way,
        by: Actor,
        work_off: Callable[[], object],
        progress: Progress,
    ) -> None:
        self._here, self._there, self._way, self._by = here, there, way, by
        self._work_off, self._progress = work_off, progress
        self._done = Moved()
        self._closed_s: float | None = None

    def to_the_end(self) -> Moved:
        """From wherever it is."""
        found = self._begun()
        if found.state is State.COPYING:
            self._copy(found)
            self._closed_s = time.monotonic()
            sealing.close(self._here, found)
            found = replace(found, state=State.CLOSED)
        self._closed_s = self._closed_s or time.monotonic()
        if found.state is State.CLOSED:
            found = self._seal(found)
        if found.state is State.SEALED:
            self._hand_over(found)
        self._done = replace(self._done, closed_s=time.monotonic() - self._closed_s)
        with connect(self._here) as source, connect(self._there) as target:
            return replace(self._done, sent_after=opening.send_after(source, target, self._way.site))

    def _begun(self) -> Move:
        way = self._way
        with begin(self._here) as source, begin(self._there) as target:
            own, known = _own(source, way), _known(source, way)
            if known is not None and known.state is not State.COPYING:
                return known
            if way.site in site_moves.gone(source):
                raise NotFound(f"this cell has no site {way.site!r} any more")
            found = obstacles.look(source, target, own, way.target)
            if found.obstacles:
                raise ConfigError("\n".join(found.obstacles))
            theirs = site_moves.latest(target, way.site, IN)
            if known is None:
                number = theirs.id if theirs and theirs.state is State.COPYING else uuid.uuid4()
                now = datetime.now(UTC)
                known = Move(
                    number, OUT, way.site, own.site, way.target, way.url, State.COPYING, now, None, None
                )
        with begin(self._there) as target:
            site_moves.begin(target, replace(known, direction=IN, cell=way.source, url="", site_id=0))
        with begin(self._here) as source:
            site_moves.begin(source, known)
        return known

    def _copy(self, found: Move) -> None:
        """Bring history over, and once more what changed while that took its time."""
        with self._copier(found) as (copier, _, target):
            opening.prepare(copier, target)
            pieces = copier.pieces()
            for number, piece in enumerate(pieces):
                self._progress(f"copying {piece}", number / len(pieces))
                self._add(copied=copier.copy_if_absent(piece))

    def _seal(self, found: Move) -> Move:
        deadline_s = time.monotonic() + _WORK_OFF_S
        with connect(self._here) as source:
            own = _own(source, self._way)
        self._progress("working off what waits", 0.0)
        while True:
            self._work_off()
            if at := sealing.seal(self._here, found, own):
                return replace(found, state=State.SEALED, sealed_at=at)
            if time.monotonic() > deadline_s:
                raise StoreUnavailable(
                    f"readings of {found.site} wait for the rollup and none goes on; see wattline doctor"
                )
            time.sleep(_PAUSE_S)

    def _hand_over(self, found: Move) -> None:
        with connect(self._there) as target:
            theirs = site_moves.latest(target, found.site, IN)
        if theirs is None or theirs.id != found.id:
            raise ConfigError(f"the database is not that of cell {found.cell} to which the move began")
        if theirs.state is not State.OPEN:
            self._open(found)
        sealing.give_up(self._here, found, self._by, {"to": found.cell, "url": found.url})

    def _open(self, found: Move) -> None:
        with self._copier(found) as (copier, source, target):
            opening.prepare(copier, target)
            pieces = copier.pieces()
            for number, piece in enumerate(pieces):
                self._progress(f"comparing {piece}", number / len(pieces))
                self._add(copied=copier.settle(piece), compared=1)
            self._progress("opening", 1.0)
            to_them = replace(found, direction=IN, cell=self._way.source)
            opened = opening.open_there(copier, source, target, to_them, self._by)
            self._add(copied=opened.rows, compared=len(opened.contents))

    @contextmanager
    def _copier(self, found: Move) -> Iterator[tuple[Copier, Connection, Connection]]:
        with connect(self._here) as source, connect(self._there) as target:
            copier = Copier(source, target, found.id, _own(source, self._way))
            copier.sealed_at = found.sealed_at
            yield copier, source, target
            source.rollback()
            target.rollback()

    def _add(self, *, copied: int = 0, compared: int = 0) -> None:
        done = self._done
        self._done = replace(done, copied=done.copied + copied, compared=done.compared + compared)
