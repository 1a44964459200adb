"""The ledger: what people declared about meters. Entries are added and withdrawn, never changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from app.domain.energy import Event, EventKind
from app.domain.quality.finding import FindingKind
from app.errors import NotFound
from app.store import findings, rollup_queue, tables
from app.store.binary_copy import array_text
from app.store.engine import driver, store_errors
from app.store.readings import to_us


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One declared event, with who said so and why."""

    id: int
    site_id: int
    meter_id: int | None
    point_id: int | None
    kind: EventKind
    start: datetime
    end: datetime
    old_value: float | None
    new_value: float | None
    energy_kwh: float | None
    author: str
    note: str
    created_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    corrected_readings: int = 0
    """Readings that the entry corrects one by one (a corrected export); 0: it is one event."""

    def as_event(self) -> Event:
        """The part that moves energy."""
        return Event(
            self.kind, to_us(self.start), to_us(self.end), self.old_value, self.new_value, self.energy_kwh
        )


def add(
    connection: sa.Connection,
    *,
    site_id: int,
    meter_id: int | None,
    point_ids: Sequence[int],
    event: Event,
    start: datetime,
    end: datetime,
    author: str,
    note: str,
) -> list[int]:
    """Write an event for each point and queue what it changes; numbers of the entries.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "site_id": site_id,
        "meter_id": meter_id,
        "kind": event.kind.value,
        "start_at": start,
        "end_at": end,
        "old_value": event.old_value,
        "new_value": event.new_value,
        "energy_kwh": event.energy_kwh,
        "author": author,
        "note": note,
    }
    insert = sa.insert(tables.events).returning(tables.events.c.id)
    with store_errors():
        ids = [connection.execute(insert.values(**values, point_id=p)).scalar_one() for p in point_ids]
    rollup_queue.add(connection, [rollup_queue.Dirty(p, start, end) for p in point_ids])
    return ids


def withdraw(connection: sa.Connection, entry_id: int, by: str) -> LedgerEntry:
    """Take an entry back; it stays in the ledger, marked, and its effect is computed away.

    Raises
    ------
    NotFound
        If there is no such entry, or it is withdrawn already.
    StoreUnavailable
        If the database is away.
    """
    events = tables.events
    update = (
        sa.update(events)
        .where(events.c.id == entry_id, events.c.withdrawn_at.is_(None))
        .values(withdrawn_at=sa.func.now(), withdrawn_by=by)
        .returning(*events.c)
    )
    with store_errors():
        row = connection.execute(update).one_or_none()
    if row is None:
        raise NotFound(f"event {entry_id} does not exist or is withdrawn already")
    entry = _entry(row)
    if entry.point_id is not None:
        rollup_queue.add(connection, [rollup_queue.Dirty(entry.point_id, entry.start, entry.end)])
    return entry


def listing(connection: sa.Connection, site_id: int) -> list[LedgerEntry]:
    """Every entry of a site, withdrawn ones too, oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    events = tables.events
    query = sa.select(events).where(events.c.site_id == site_id).order_by(events.c.start_at, events.c.id)
    with store_errors():
        return [_entry(row) for row in connection.execute(query)]


def in_force(connection: sa.Connection, point_ids: Sequence[int]) -> defaultdict[int, list[Event]]:
    """Events that hold for each point, in the order they were written.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    events = tables.events
    query = (
        sa.select(events)
        .where(
            events.c.point_id == sa.any_(sa.literal(list(point_ids), ARRAY(sa.Integer))),
            events.c.withdrawn_at.is_(None),
        )
        .order_by(events.c.id)
    )
    out: defaultdict[int, list[Event]] = defaultdict(list)
    with store_errors():
        entries = [_entry(row) for row in connection.execute(query)]
        many = _corrections(connection, [e.id for e in entries if e.corrected_readings])
    for entry in entries:
        if entry.point_id is not None:
            out[entry.point_id] += many[entry.id] if entry.corrected_readings else [entry.as_event()]
    return out


_CORRECTIONS = """
SELECT event_id, (extract(epoch FROM at) * 1000000)::bigint, old_value, new_value
FROM reading_corrections WHERE event_id = ANY(:entries) ORDER BY event_id, at
"""


def _corrections(connection: sa.Connection, entries: Sequence[int]) -> dict[int, list[Event]]:
    """The corrected readings of each entry."""
    out: dict[int, list[Event]] = defaultdict(list)
    if entries:
        for number, at_us, old, new in connection.execute(sa.text(_CORRECTIONS), {"entries": list(entries)}):
            out[number].append(Event(EventKind.CORRECTION, at_us, at_us, old, new))
    return out


@dataclass(frozen=True, slots=True)
class CorrectedReading:
    """A reading that a corrected export states otherwise; both values in house units."""

    at: datetime
    old_value: float | None
    new_value: float | None


_FIRST_CORRECTIONS = """
SELECT c.event_id, c.at, c.old_value, c.new_value
FROM unnest(CAST(:entries AS bigint[])) AS entry (id)
CROSS JOIN LATERAL (
    SELECT * FROM reading_corrections WHERE event_id = entry.id ORDER BY at LIMIT :most
) c ORDER BY c.event_id, c.at
"""


def corrected_readings(
    connection: sa.Connection, entries: Sequence[LedgerEntry], most: int
) -> dict[int, list[CorrectedReading]]:
    """The first readings that each entry corrects, by number of the entry.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    out: dict[int, list[CorrectedReading]] = defaultdict(list)
    wanted = [e.id for e in entries if e.corrected_readings]
    with store_errors():
        rows = connection.execute(sa.text(_FIRST_CORRECTIONS), {"entries": wanted, "most": most})
        for number, *values in rows if wanted else ():
            out[number].append(CorrectedReading(*values))
    return out


_IS_THERE = """
SELECT EXISTS (SELECT FROM events WHERE point_id = ANY(%s::int[]) AND withdrawn_at IS NULL),
    EXISTS (SELECT FROM findings WHERE point_id = ANY(%s::int[]) AND kind = %s AND state = 'open')
"""


def effective(connection: sa.Connection, point_ids: Sequence[int]) -> dict[int, list[Event]]:
    """What the energy of each point follows: its ledger, and readings that open findings keep from counting.

    Nearly always there is nothing, which is asked first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    points = array_text(list(point_ids))
    asked = (points, points, FindingKind.UNIT_CHANGED.value)
    with store_errors():
        row = driver(connection).execute(_IS_THERE, asked).fetchone()
    is_declared, is_withheld = row or (True, True)
    found = in_force(connection, point_ids) if is_declared else defaultdict(list)
    for point, withheld in findings.withheld(connection, point_ids).items() if is_withheld else ():
        found[point] += withheld
    return found


def _entry(row: Any) -> LedgerEntry:
    return LedgerEntry(
        row.id,
        row.site_id,
        row.meter_id,
        row.point_id,
        EventKind(row.kind),
        row.start_at,
        row.end_at,
        row.old_value,
        row.new_value,
        row.energy_kwh,
        row.author,
        row.note,
        row.created_at,
        row.withdrawn_at,
        row.withdrawn_by,
        row.corrected_readings,
    )
