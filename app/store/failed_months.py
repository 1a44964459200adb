"""Months whose findings could not be looked for: they are tried again, and shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import sqlalchemy as sa

from app.store import deployment

_KEY = "failed_months"
_LONGEST_PROBLEM = 300


def record(connection: sa.Connection, site: str, month: date, problem: str, now: datetime) -> int:
    """Write down that a month failed; how often it did in a row.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    known = deployment.load(connection, _KEY) or {}
    name = f"{month:%Y-%m}"
    before = known.get(site, {}).get(name, {"times": 0, "since": now.isoformat()})
    fresh = {**before, "times": before["times"] + 1, "problem": problem[:_LONGEST_PROBLEM]}
    deployment.save(connection, _KEY, {**known, site: {**known.get(site, {}), name: fresh}})
    return int(fresh["times"])


def clear(connection: sa.Connection, site: str, month: date) -> None:
    """A month was looked at whole.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    known = deployment.load(connection, _KEY) or {}
    name = f"{month:%Y-%m}"
    if name in known.get(site, {}):
        rest = {key: value for key, value in known[site].items() if key != name}
        deployment.save(connection, _KEY, {**known, site: rest})


def of_sites(connection: sa.Connection) -> Mapping[str, list[str]]:
    """Months that failed at the last try, by site, oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    known = deployment.load(connection, _KEY) or {}
    return {site: sorted(months) for site, months in known.items() if months}
