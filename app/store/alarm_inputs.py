"""What alarms are judged on, asked for all sites at once, and one cheap question first: is any of it new?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.alarms.observation import EdgeSilence
from app.domain.alarms.silence import NEVER_US
from app.store import binary_copy, edges
from app.store.binary_copy import array_text
from app.store.engine import driver, store_errors
from app.store.readings import from_us

Ints = npt.NDArray[np.int64]

SECTIONS = ("alarms", "limit_profiles", "notifications")
"""Sections of the deployment that say how alarms are judged and told."""


@dataclass(frozen=True, slots=True)
class SiteSigns:
    """Each differs after every change of what it stands for."""

    evaluations: str
    findings: str
    computed: str
    """What the rollup wrote."""


@dataclass(frozen=True)
class Signs:
    """Differ after every change of what alarms are judged on, except the readings themselves."""

    fleet: str
    sections: str
    memory: str
    has_unacknowledged: bool
    """Whether an alarm goes on that nobody acknowledged."""
    edges_text: str | None
    sites: str

    def is_of_same_rules(self, other: Signs) -> bool:
        """Whether rules and definitions are the same."""
        return (self.fleet, self.sections) == (other.fleet, other.sections)

    @cached_property
    def by_site(self) -> dict[int, SiteSigns]:
        """Signs of each site, by number."""
        return {number: SiteSigns(*signs) for number, *signs in json.loads(self.sites)}

    @cached_property
    def edges(self) -> Mapping[str, EdgeSilence]:
        """For how long the edges that have been at work were not heard of, by site."""
        rows = json.loads(self.edges_text) if self.edges_text else []
        return {site: EdgeSilence(name, silent_s) for site, name, silent_s in rows}


_SIGNS = f"""
SELECT (SELECT writer || ' ' || changes FROM fleet_version),
    (SELECT coalesce(string_agg(key || ' ' || xmin::text, ',' ORDER BY key), '')
     FROM deployment WHERE key = ANY(%s)),
    (SELECT coalesce(max(xmin::text), '') FROM deployment WHERE key = 'alarm_memory'),
    EXISTS (SELECT FROM alarms WHERE resolved_at IS NULL AND acknowledged_at IS NULL),
    (SELECT json_agg(json_build_array(site, name, silent_s))::text FROM ({edges.SILENCES}) e),
    (SELECT coalesce(json_agg(json_build_array(
        s.id, coalesce(e.sign, ''), coalesce(f.sign, ''), coalesce(m.sign, '')) ORDER BY s.id), '[]')::text
     FROM sites s
     LEFT JOIN (
        SELECT site_id, sum(hashtextextended("window" || ' ' || xmin::text, 0))::text AS sign
        FROM evaluations GROUP BY site_id
     ) e ON e.site_id = s.id
     LEFT JOIN (
        SELECT site_id, sum(hashtextextended(id || ' ' || xmin::text, 0))::text AS sign
        FROM findings WHERE state <> 'cleared' AND end_at >= %s AND start_at < %s GROUP BY site_id
     ) f ON f.site_id = s.id
     LEFT JOIN (
        SELECT site_id, sum(computed)::text AS sign FROM site_months GROUP BY site_id
     ) m ON m.site_id = s.id
     WHERE s.retired_at IS NULL)
"""  # noqa: S608


def signs(connection: sa.Connection, since: datetime, now: datetime) -> Signs:
    """Whether anything is new, of findings of that time, in one statement.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        row = driver(connection).execute(_SIGNS, (list(SECTIONS), since, now)).fetchone()
    assert row is not None, "it is one row always"
    return Signs(*row)


_NEWEST = """
SELECT string_agg(int4send(p.number) || timestamptz_send(r.at), ''::bytea)
FROM unnest(%s::int[], %s::int[], %s::bigint[]) AS p (number, id, since_us)
CROSS JOIN LATERAL (
    SELECT at FROM readings
    WHERE point_id = p.id AND at > 'epoch'::timestamptz + p.since_us * interval '1 microsecond'
      AND at > %s AND at <= %s
    ORDER BY at DESC LIMIT 1
) r
"""
_FOUND = np.dtype([("number", ">i4"), ("at", ">i8")])
_BEFORE_ALL = datetime(1900, 1, 1, tzinfo=UTC)
_RECENT = timedelta(days=2)


def newer(connection: sa.Connection, point_ids: Ints, newest_us: Ints, until: datetime) -> Ints:
    """The newest reading of each point until then, where one newer than the known one came.

    Parameters
    ----------
    point_ids : int64 array, shape (n,)
    newest_us : int64 array, shape (n,)
        Newest reading known, :data:`app.domain.alarms.silence.NEVER_US` where there is none. [us]

    Returns
    -------
    int64 array, shape (n,)
        [us]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found_us = newest_us.copy()
    known = np.flatnonzero(newest_us != NEVER_US)
    if len(known):
        least = from_us(int(newest_us[known].min()) - 1)
        _take_newer(connection, point_ids, found_us, known, least, until)
    for least in (until - _RECENT, _BEFORE_ALL):
        unknown = np.flatnonzero(found_us == NEVER_US)
        if len(unknown):
            _take_newer(connection, point_ids, found_us, unknown, least, until)
    return found_us


def _take_newer(
    connection: sa.Connection, ids: Ints, found_us: Ints, which: Ints, least: datetime, until: datetime
) -> None:
    since_us = np.where(found_us[which] == NEVER_US, _NEVER_SINCE_US, found_us[which])
    values = (array_text(which), array_text(ids[which]), array_text(since_us), least, until)
    with store_errors():
        row = driver(connection).execute(_NEWEST, values, prepare=False).fetchone()  # planned by its instants
    if row is not None and row[0] is not None:
        cells = np.frombuffer(row[0], _FOUND)
        found_us[cells["number"]] = cells["at"].astype(np.int64) + binary_copy.EPOCH_SHIFT_US


_NEVER_SINCE_US = -(10**16)
"""Before all readings. [us since 1970]"""
