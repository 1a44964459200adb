"""Whose the rows of each table are when a site moves to another cell: a decision for every one.

A test compares :data:`PARTS` and :data:`STAYS` with the schema, so a new table makes it fail until somebody
has decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from psycopg import sql


class Of(StrEnum):
    """How a row names the site it belongs to."""

    ITSELF = "t.id = {site}"
    SITE = "t.site_id = {site}"
    POINT = "t.point_id = ANY({points})"
    EVENT = "t.event_id IN (SELECT id FROM events WHERE site_id = {site})"
    ALARM = "t.alarm_id IN (SELECT id FROM alarms WHERE site_id = {site})"
    MEASURE = "t.measure_id IN (SELECT id FROM measures WHERE site_id = {site})"
    EDGE = "t.edge_id IN (SELECT id FROM edges WHERE sites = ARRAY[{key}])"
    ITS_EDGE = "t.sites = ARRAY[{key}]"
    ITS_KEY = (
        "(t.public_id IN (SELECT key_id FROM edges WHERE sites = ARRAY[{key}]) OR"
        " (t.parent = '' AND t.revoked_at IS NULL AND cardinality(t.grants) > 0"
        " AND NOT EXISTS (SELECT FROM unnest(t.grants) g WHERE split_part(g, ':', 2) <> 'site/' || {key})))"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A table of which a site's rows move."""

    table: str
    of: Of
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Columns that hold numbers of other rows, and the kind of each; they are different at the target."""
    is_numbered: bool = False
    """Whether `id` is made by the database, so that rows get new ones; their kind is the table's name."""
    is_by_time: bool = False
    """Whether there may be so much that it is copied by the month while the site goes on."""
    changed: Mapping[str, str] = field(default_factory=dict)
    """Columns that have another value at the target, and the expression that gives it."""


SITE, METER, POINT = {"site_id": "sites"}, {"meter_id": "meters"}, {"point_id": "points"}

_LIVE = "nullif(t.retired_at, {sealed_at})"
"""What sealing retired is declared at the target."""
_MESSAGE = {
    "state": "CASE t.state WHEN 'moved' THEN 'waiting' ELSE t.state END",
    "dedup_key": "CASE WHEN t.dedup_key LIKE t.alarm_id || ':%%'"
    " THEN n_alarm_id.new_id || substr(t.dedup_key, strpos(t.dedup_key, ':')) ELSE t.dedup_key END",
    "payload": "CASE WHEN t.payload ? 'alarm' AND n_alarm_id.new_id IS NOT NULL"
    " THEN jsonb_set(t.payload, '{{alarm}}', to_jsonb(n_alarm_id.new_id)) ELSE t.payload END",
}

PARTS: Sequence[Part] = (
    Part("sites", Of.ITSELF, {"institution_id": "institutions"}, True, changed={"retired_at": _LIVE}),
    Part("meters", Of.SITE, SITE, True, changed={"retired_at": _LIVE}),
    Part("points", Of.SITE, SITE | METER, True, changed={"retired_at": _LIVE}),
    Part("readings", Of.POINT, POINT, is_by_time=True),
    Part("energy_15m", Of.POINT, POINT, is_by_time=True),
    Part("volume_15m", Of.POINT, POINT, is_by_time=True),
    Part("gauge_15m", Of.POINT, POINT, is_by_time=True),
    Part("site_15m", Of.SITE, SITE, is_by_time=True),
    Part("energy_day", Of.POINT, POINT),
    Part("reading_conflicts", Of.POINT, POINT),
    Part("dropped_readings", Of.SITE, SITE, True),
    Part("imports", Of.SITE, SITE),
    Part("events", Of.SITE, SITE | METER | POINT, True),
    Part("reading_corrections", Of.EVENT, {"event_id": "events"}),
    Part("findings", Of.SITE, SITE | POINT, True),
    Part("reports", Of.SITE, SITE),
    Part("alarms", Of.SITE, SITE, True),
    Part("alarm_memory", Of.SITE, SITE),
    Part("alarm_transitions", Of.SITE, SITE | {"alarm_id": "alarms"}, True),
    Part("alarm_comments", Of.ALARM, {"alarm_id": "alarms"}, True),
    Part("silences", Of.SITE, SITE, True),
    Part("outbox", Of.SITE, SITE | {"alarm_id": "alarms"}, True, changed=_MESSAGE),
    Part("site_months", Of.SITE, SITE),
    Part("site_hours", Of.SITE, SITE),
    Part("declarations", Of.SITE, SITE, True),
    Part("measures", Of.SITE, SITE, True),
    Part("measure_adjustments", Of.MEASURE, {"measure_id": "measures"}, True),
    Part("baselines", Of.SITE, SITE),
    Part("api_keys", Of.ITS_KEY, is_numbered=True),
    Part("edges", Of.ITS_EDGE, is_numbered=True),
    Part("edge_unknown_readings", Of.EDGE, {"edge_id": "edges"}),
)
"""What moves, in the order in which it is written: what others refer to comes first."""

STAYS: Mapping[str, str] = MappingProxyType(
    {
        "institutions": "the cell's: a site joins the one of the same id, which is made where it is missing",
        "institution_reports": "the cell's: about all sites that an institution had here",
        "rollup_queue": "derived: worked off before the site is sealed",
        "check_queue": "derived: the meters are looked at again at the target",
        "evaluations": "derived: evaluated again at the target within seconds, removed here",
        "outlooks": "derived: computed again at the target, removed here",
        "deliveries": "the cell's: what its channels sent",
        "report_orders": "the cell's: reports that somebody waits for here",
        "reading_receipts": "the cell's: batches that its audit log has not got yet",
        "audit": "the cell's: a chain of hashes; both logs say when the site went, and name the other log",
        "horizons": "the cell's: the later one of both holds at the target",
        "hourly_factors": "the cell's: of a region; both cells need the same where the site uses them",
        "site_sources": "the cell's: which of its site files describe a site",
        "site_file_texts": "the cell's: texts of its site file",
        "deployment": "the cell's: sections of its site file; both need the same where the site uses them",
        "fleet_version": "the cell's",
        "workers": "the cell's",
        "leases": "the cell's",
        "site_moves": "the cell's: how far a move is",
        "site_move_numbers": "the target's: made by a move",
        "site_move_readings": "the source's: sent after the site",
    }
)
"""What stays, and why."""

BY_TABLE: Mapping[str, Part] = MappingProxyType({part.table: part for part in PARTS})


@dataclass(frozen=True, slots=True)
class Own:
    """The numbers by which a database knows a site."""

    key: str
    site: int
    points: tuple[int, ...]


def condition(of: Of, own: Own) -> sql.Composed:
    """Which rows of a table, called ``t``, are a site's."""
    values = {
        "site": sql.Literal(own.site),
        "key": sql.Literal(own.key),
        "points": sql.SQL("{}::int[]").format(sql.Literal(list(own.points))),
    }
    return sql.SQL(of.value).format(**values)
