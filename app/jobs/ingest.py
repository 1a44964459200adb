"""Readings from the spool into the store: acknowledged only after the commit."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from app.domain.reading import Reading, refusal
from app.errors import StoreUnavailable
from app.store import drop_ledger, site_moves, sites
from app.store.drop_ledger import Drop
from app.store.engine import Engine, begin, connect
from app.store.quarantine import ingest_safely
from app.store.sites import Stored
from collectors.spool import Spool

UNKNOWN_POINT, REFUSED, OTHER_WORKER = "unknown_point", "refused", "other_worker"
"""Reasons for which a reading ends in the drop ledger."""

_log = structlog.get_logger(__name__)


class Stowed(NamedTuple):
    """What became of a batch."""

    by_site: Counter[str]
    """Readings now in the store, by site."""
    drops: list[Drop]


class Ingest:
    """Stores batches of readings of any origin; every method may be called from any thread.

    Parameters
    ----------
    engine : Engine
    collector : str
        Name under which dropped readings are counted.
    on_stowed : callable
        Told after every commit, for metrics.
    clock : callable
        The present instant (UTC); readings far ahead of it are refused.
    lost : callable
        Sites that another worker measures, and since when; what was read after that is its to store.
    """

    def __init__(
        self,
        engine: Engine,
        collector: str,
        *,
        on_stowed: Callable[[Stowed], None] = lambda stowed: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lost: Callable[[], Mapping[str, datetime]] = dict,
    ) -> None:
        self._engine, self._collector, self._lost = engine, collector, lost
        self._on_stowed, self._clock = on_stowed, clock
        self._lock = threading.Lock()
        self._stored: Stored | None = None
        self._leaving: frozenset[str] = frozenset()

    async def send(self, batch: tuple[Reading, ...]) -> None:
        """What ``collectors.spool.drain`` calls: returns after the commit.

        Raises
        ------
        StoreUnavailable
            If the database is away; the batch may be sent again.
        """
        await asyncio.to_thread(self.stow, batch)

    def stow(self, batch: Sequence[Reading]) -> Stowed:
        """Store a batch; what cannot be stored is counted in the ledger.

        Raises
        ------
        StoreUnavailable
            If the database is away; the batch may be sent again.
        """
        stored, lost, now = self._fleet(batch), self._lost(), self._clock()
        batch = self._without_moved(batch, stored)
        drops = [d for r in batch if (d := _refused(r, stored, now, lost)) is not None]
        good = batch if not drops else [r for r in batch if _refused(r, stored, now, lost) is None]
        try:
            result = ingest_safely(self._engine, stored, good, self._collector, drops)
        except StoreUnavailable:
            self._look_for_moves()
            raise
        by_site = Counter(stored.fleet.point[r.point][0].id for r in good)
        by_site.subtract(stored.fleet.point[d.point][0].id for d in result.quarantined)
        stowed = Stowed(by_site, [*drops, *result.quarantined])
        others = sum(drop.reason == OTHER_WORKER for drop in stowed.drops)
        if others:
            _log.warning("readings dropped of sites that another worker measures", readings=others)
        for drop in (d for d in stowed.drops if d.reason != OTHER_WORKER):
            _log.warning("reading dropped", point=drop.point, reason=drop.reason, detail=drop.detail)
        self._on_stowed(stowed)
        return stowed

    def _without_moved(self, batch: Sequence[Reading], stored: Stored) -> Sequence[Reading]:
        """What is of sites that another cell has or gets is kept for it; the others do not wait for that."""
        leaving, known = self._leaving, stored.fleet.point

        def is_moved(point: str) -> bool:
            is_leaving = bool(leaving) and point in known and known[point][0].id in leaving
            return is_leaving or point in stored.moved_points

        moved = [r for r in batch if is_moved(r.point)]
        if not moved:
            return batch
        with begin(self._engine) as connection:
            site_moves.hold(connection, moved)
        _log.info("readings of sites that move wait to be sent after them", readings=len(moved))
        return [r for r in batch if not is_moved(r.point)]

    def _look_for_moves(self) -> None:
        """After a batch was refused: a site may be on its way to another cell."""
        self.forget_fleet()
        with suppress(StoreUnavailable), connect(self._engine) as connection:
            self._leaving = site_moves.leaving(connection)

    def forget_fleet(self) -> None:
        """Ask the database for the points, and what moves, again before the next batch."""
        with self._lock:
            self._stored, self._leaving = None, frozenset()

    def write_ledger(self, spool: Spool) -> int:
        """Bring the store's drop ledger up to the spool's; how many readings were new.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        totals = [Drop(d.point, d.reason, d.count) for d in spool.ledger()]
        if not (totals and spool.is_open):  # the name of one that waits for room is not known yet
            return 0
        with begin(self._engine) as connection:
            return drop_ledger.add_totals(connection, sites.load(connection), f"spool:{spool.id}", totals)

    def _fleet(self, batch: Sequence[Reading]) -> Stored:
        """The fleet as last loaded; loaded anew where the batch names a point it does not know."""
        with self._lock:
            known = self._stored
            if known is None or any(
                r.point not in known.point_id and r.point not in known.moved_points for r in batch
            ):
                with connect(self._engine) as connection:
                    known = self._stored = sites.load(connection)
            return known


def _refused(reading: Reading, stored: Stored, now: datetime, lost: Mapping[str, datetime]) -> Drop | None:
    which = f"{reading.at.isoformat()} {reading.value!r}"
    if reading.point not in stored.point_id:
        return Drop(reading.point, UNKNOWN_POINT, 1, reading=which)
    site, _, point = stored.fleet.point[reading.point]
    if lost and (since := lost.get(site.id)) is not None and reading.at >= since:
        return Drop(reading.point, OTHER_WORKER, 1, "another worker measures the site", which)
    quantity = point.quantity
    why = refusal(reading.at, reading.value, quantity, now)
    return None if why is None else Drop(reading.point, REFUSED, 1, why, which)
