"""The declared fleet as one caller may see it."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

import sqlalchemy as sa

from app.domain.access import Principal
from app.domain.site import Fleet
from app.store import sites
from app.store.sites import Stored

_MOST_VIEWS = 256


class FleetCache:
    """Keeps what callers may see of the last fleet; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: Stored | None = None
        self._views: dict[Hashable, Stored] = {}

    def current(self, connection: sa.Connection) -> Stored:
        """The whole fleet as it is in the database now.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        stored = sites.load(connection)
        with self._lock:
            if stored is not self._stored:
                self._stored, self._views = stored, {}
        return stored

    def visible(self, connection: sa.Connection, principal: Principal) -> Stored:
        """The part of the fleet that `principal` may know of.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        whole = self.current(connection)
        if principal.role_everywhere is not None:
            return whole
        with self._lock:
            key = principal.grants
            if key not in self._views:
                self._views = {} if len(self._views) >= _MOST_VIEWS else self._views
                self._views[key] = _reduced(whole, principal)
            return self._views[key]


def _reduced(whole: Stored, principal: Principal) -> Stored:
    """As if nothing but the caller's own sites had been declared."""
    own = tuple(s for s in whole.fleet.sites if principal.role_at(s) is not None)
    banks = {s.institution for s in own}
    fleet = Fleet(institutions=tuple(i for i in whole.fleet.institutions if i.id in banks), sites=own)
    named = {grant.site for grant in principal.grants}
    moved = {site: move for site, move in whole.moved.items() if site in named}
    return Stored(
        fleet,
        _only(whole.site_id, fleet.site),
        _only(whole.meter_id, fleet.meter),
        _only(whole.point_id, fleet.point),
        moved,
        {point: site for point, site in whole.moved_points.items() if site in moved},
    )


def _only(numbers: Any, known: Any) -> dict[str, int]:
    return {key: number for key, number in numbers.items() if key in known}
