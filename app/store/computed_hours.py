"""Which hours of a site were computed again, and in what order: what is kept of their sums is then old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.store.binary_copy import array_text
from app.store.engine import driver, store_errors

Ints = npt.NDArray[np.int64]

_HOUR_US = 3_600_000_000
_HOURS_A_DAY = 24
_FIRST_DAY = date(1970, 1, 1)

_NOTE = """
WITH months AS (
    INSERT INTO site_months AS m (site_id, month, computed)
    SELECT site, month, 1 FROM unnest(%s::int[], %s::date[]) AS given (site, month) ORDER BY site, month
    ON CONFLICT (site_id, month) DO UPDATE SET computed = m.computed + 1
), versions AS (
    SELECT site, 1 + (SELECT coalesce(sum(computed), 0)::bigint FROM site_months WHERE site_id = site) version
    FROM unnest(%s::int[]) AS given (site)
)
INSERT INTO site_hours AS h (site_id, day, version, hours)
SELECT site, date '1970-01-01' + number, version,
    ARRAY(SELECT CASE WHEN mask >> hour & 1 = 1 THEN version ELSE 0 END FROM generate_series(0, 23) hour)
FROM unnest(%s::int[], %s::int[], %s::int[]) AS given (site, number, mask) JOIN versions USING (site)
ORDER BY site, number
ON CONFLICT (site_id, day) DO UPDATE SET version = excluded.version, hours = ARRAY(
    SELECT greatest(old, new) FROM unnest(h.hours, excluded.hours) WITH ORDINALITY AS both_of (old, new, hour)
    ORDER BY hour
)
"""
_SINCE = sa.text(
    """
    SELECT given.site, newest.version, h.day, h.hours
    FROM unnest(CAST(:sites AS int[]), CAST(:seen AS bigint[])) AS given (site, seen)
    CROSS JOIN LATERAL (
        SELECT coalesce(max(version), 0) AS version FROM site_hours WHERE site_id = given.site
    ) newest
    LEFT JOIN site_hours h ON h.site_id = given.site AND h.version > given.seen
    ORDER BY given.site, h.day
    """
)
_NEVER = (1 << 63) - 1


def note(
    connection: sa.Connection, instants_us: Mapping[int, Ints], months: Sequence[tuple[int, date]]
) -> None:
    """Write down that these were computed again, in the transaction that does so, one at a time.

    Parameters
    ----------
    instants_us : mapping of int to int array
        Starts of the intervals, by number of the site; in no certain order, some more than once. [us]
    months : sequence of (int, date)
        Local months that they lie in, each by number of the site and first day; each once.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    sites, days, masks = _by_day(instants_us)
    if not sites:
        return
    values = (
        array_text([site for site, _ in months]),
        [month for _, month in months],
        array_text(list(instants_us)),
        *map(array_text, (sites, days, masks)),
    )
    with store_errors():
        driver(connection).execute(_NOTE, values)


def _by_day(instants_us: Mapping[int, Ints]) -> tuple[list[int], list[int], list[int]]:
    """Sites, days since 1970, and the hours of each as bits."""
    sites: list[int] = []
    days: list[int] = []
    masks: list[int] = []
    for site, at_us in instants_us.items():
        hours = np.unique(at_us // _HOUR_US)
        first = np.flatnonzero(np.diff(hours // _HOURS_A_DAY, prepend=-1))
        sites += [site] * len(first)
        days += (hours[first] // _HOURS_A_DAY).tolist()
        masks += np.bitwise_or.reduceat(1 << hours % _HOURS_A_DAY, first).tolist() if len(first) else []
    return sites, days, masks


def since(connection: sa.Connection, seen: Mapping[int, int | None]) -> dict[int, tuple[int, list[int]]]:
    """Version of the newest note about each site, and the hours that were noted later than one, in order.

    Hours are counted from 1970.

    Parameters
    ----------
    seen : mapping of int to int or None
        Version of an earlier time by number of the site; None: only the newest is asked.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    versions = {site: _NEVER if version is None else version for site, version in seen.items()}
    values = {"sites": array_text(list(versions)), "seen": array_text(list(versions.values()))}
    found: dict[int, tuple[int, list[int]]] = {}
    with store_errors():
        for site, newest, day, hours in connection.execute(_SINCE, values):
            changed = found.setdefault(site, (newest, []))[1]
            if day is not None:
                first = (day - _FIRST_DAY) // timedelta(hours=1)
                changed += (first + n for n, version in enumerate(hours) if version > versions[site])
    return found
