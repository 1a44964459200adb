"""PUE of every site over every window, kept for boards, metrics and alarms."""

from __future__ import annotations

from datetime import datetime

from app.domain.period import WINDOWS, window
from app.store import deployment, evaluations, pue, sites
from app.store.engine import Connection, Engine, begin, connect
from app.store.sites import Stored


def run(engine: Engine, now: datetime) -> int:
    """Evaluate all windows that end with the last closed quarter-hour; how many sites there are.

    Raises
    ------
    StoreUnavailable
        If the database is away; the evaluations before stay.
    """
    with connect(engine) as connection:
        stored = sites.load(connection)
    for site in stored.fleet.sites:
        with begin(engine) as connection:
            evaluate_site(connection, stored, site.id, now)
    return len(stored.fleet.sites)


def evaluate_site(connection: Connection, stored: Stored, site_id: str, now: datetime) -> None:
    """Evaluate all windows of one site, in the transaction of `connection`."""
    profiles = deployment.limit_profiles(connection)
    zone = stored.fleet.site[site_id].zone
    for name in WINDOWS:
        document = pue.document(connection, stored, site_id, window(name, now, zone), profiles)
        evaluations.save(connection, stored.site_id[site_id], name, now, document.as_dict())
