"""PUE of every site over every window, kept for boards, metrics and alarms."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime

from app.domain.limits import LimitProfile
from app.domain.period import WINDOWS, Period, floor, window
from app.errors import StoreUnavailable
from app.store import deployment, evaluations, pue, sites
from app.store.engine import Connection, Engine, begin, connect
from app.store.kept_sums import Kept
from app.store.readings import to_us
from app.store.sites import Stored

AT_ONCE = 16
"""So many sites are evaluated in one transaction."""


class Evaluator:
    """Evaluates the sites whose windows say something else than before; threads may share it.

    Every window ends with the last closed quarter-hour: what comes in for the open one changes none.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._changed_from: dict[str, int] = {}
        self._evaluated_until: datetime | None = None
        self._stored: Stored | None = None
        self._kept: dict[str, Kept] = {}

    def note(self, changed_from: Mapping[str, int]) -> None:
        """Sites of which a figure changed, with the first interval that did. [us]"""
        with self._lock:
            for site, at_us in changed_from.items():
                self._changed_from[site] = min(at_us, self._changed_from.get(site, at_us))

    def run(self, now: datetime) -> bool:
        """Evaluate what is due; whether anything was.

        Raises
        ------
        StoreUnavailable
            If the database is away; what is left to do stays due.
        ExceptionGroup
            What failed, by site, after all others were evaluated; it stays due.
        """
        with connect(self._engine) as connection:
            stored = sites.load(connection)
            due = self._due(stored, now)
            profiles = deployment.limit_profiles(connection) if due else {}
        failed: list[Exception] = []
        for first in range(0, len(due), AT_ONCE):
            failed += self._evaluate_each(stored, due[first : first + AT_ONCE], now, profiles)
        if failed:
            raise ExceptionGroup("sites that could not be evaluated", failed)
        return bool(due)

    def _evaluate_each(
        self, stored: Stored, due: Sequence[str], now: datetime, profiles: Mapping[str, LimitProfile]
    ) -> list[Exception]:
        """Evaluate some sites, each alone where that fails together: one must not hold up the others."""
        try:
            self._evaluate(stored, due, now, profiles)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is that of one site
            if len(due) == 1:
                return [error]
            return [one for site in due for one in self._evaluate_each(stored, [site], now, profiles)]
        return []

    def _evaluate(
        self, stored: Stored, due: Sequence[str], now: datetime, profiles: Mapping[str, LimitProfile]
    ) -> None:
        with self._lock:
            first_us = {site: self._changed_from.pop(site, 0) for site in due}
            kept = {site: self._kept.pop(site, Kept()) for site in due}
        try:
            with begin(self._engine) as connection:
                evaluate_sites(connection, stored, due, now, profiles, kept)
        except BaseException:
            self.note(first_us)
            raise
        with self._lock:
            self._kept.update(kept)

    def _due(self, stored: Stored, now: datetime) -> list[str]:
        with self._lock:
            if stored is not self._stored or floor(now) != self._evaluated_until:
                self._changed_from = dict.fromkeys(stored.fleet.site, 0)
                if stored is not self._stored:
                    self._kept.clear()
                self._stored, self._evaluated_until = stored, floor(now)
            closed_us = to_us(floor(now))
            return [s for s, us in self._changed_from.items() if us < closed_us and s in stored.fleet.site]


def run(engine: Engine, now: datetime) -> int:
    """Evaluate all windows that end with the last closed quarter-hour; how many sites there are.

    Raises
    ------
    StoreUnavailable
        If the database is away; the evaluations before stay.
    """
    with connect(engine) as connection:
        stored, profiles = sites.load(connection), deployment.limit_profiles(connection)
    ids = list(stored.fleet.site)
    for first in range(0, len(ids), AT_ONCE):
        with begin(engine) as connection:
            evaluate_sites(connection, stored, ids[first : first + AT_ONCE], now, profiles)
    return len(stored.fleet.sites)


def evaluate_sites(
    connection: Connection,
    stored: Stored,
    site_ids: Sequence[str],
    now: datetime,
    profiles: Mapping[str, LimitProfile],
    kept: Mapping[str, Kept] | None = None,
) -> None:
    """Evaluate all windows of some sites, in the transaction of `connection`.

    With `kept`, by site, only sums that something changed since are read again.
    """
    asked = [pue.Asked(s, _windows(stored, s, now), kept=(kept or {}).get(s)) for s in site_ids]
    found = zip(site_ids, pue.documents(connection, stored, asked, profiles), strict=True)
    documents = {
        stored.site_id[site]: {name: d.as_dict() for name, d in zip(WINDOWS, of_site, strict=True)}
        for site, of_site in found
    }
    evaluations.save(connection, now, documents)


def _windows(stored: Stored, site_id: str, now: datetime) -> list[Period]:
    zone = stored.fleet.site[site_id].zone
    return [window(name, now, zone) for name in WINDOWS]
