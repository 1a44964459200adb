"""The ledger: what people declare about meters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path

from app.actions import ledger
from app.actions.ledger import Declaration
from app.api import schemas
from app.api.context import Caller, MeterId, SiteId
from app.domain.asked import instant
from app.domain.energy import EventKind
from app.store import events
from app.store.engine import Connection
from app.store.events import CorrectedReading, LedgerEntry
from app.store.sites import Stored

router = APIRouter(tags=["data quality"])

_MOST_CORRECTIONS = 100
"""Corrected readings that are listed with an entry."""


@router.get("/sites/{site}/events")
def list_events(site: SiteId, caller: Caller) -> schemas.EventsOut:
    """Every entry, withdrawn ones too, oldest first."""
    with caller.read() as view:
        view.site(site)
        found = events.listing(view.connection, view.stored.site_id[site])
        return schemas.EventsOut(site=site, events=events_out(view.connection, view.stored, found))


@router.post("/meters/{meter}/events", status_code=201)
def post_event(meter: MeterId, body: schemas.EventIn, caller: Caller) -> schemas.EventsOut:
    """Declare a replacement, reset, test, maintenance, correction or estimate, or confirm; figures follow."""
    start = instant(body.start, "start")
    wanted = Declaration(
        meter=meter,
        kind=EventKind(body.kind),
        start=start,
        end=instant(body.end, "end") if body.end is not None else start,
        note=body.note,
        point=body.point,
        old_value=body.old_value,
        new_value=body.new_value,
        energy_kwh=body.energy_kwh,
    )
    with caller.write() as view:
        added = ledger.declare(view, wanted)
        site, _ = view.meter(meter)
        return schemas.EventsOut(site=site.id, events=[event_out(view.stored, entry) for entry in added])


@router.post("/sites/{site}/events/{event}/withdraw")
def withdraw_event(
    site: SiteId, event: Annotated[int, Path(ge=1, le=1 << 62)], caller: Caller
) -> schemas.EventOut:
    """Take an entry back; it stays in the ledger, marked."""
    with caller.write() as view:
        return event_out(view.stored, ledger.withdraw(view, site, event))


def events_out(
    connection: Connection, stored: Stored, entries: Sequence[LedgerEntry], most: int = _MOST_CORRECTIONS
) -> list[schemas.EventOut]:
    """Entries of the ledger as documents, with the first readings that each corrects."""
    corrected = events.corrected_readings(connection, entries, most)
    return [event_out(stored, entry, corrected.get(entry.id, ())) for entry in entries]


def event_out(
    stored: Stored, entry: LedgerEntry, corrected: Sequence[CorrectedReading] = ()
) -> schemas.EventOut:
    """An entry of the ledger as a document."""
    meters = {number: key for key, number in stored.meter_id.items()}
    return schemas.EventOut(
        id=entry.id,
        meter=meters.get(entry.meter_id or 0),
        point=stored.point_key.get(entry.point_id or 0),
        kind=entry.kind.value,
        start=entry.start,
        end=entry.end,
        old_value=entry.old_value,
        new_value=entry.new_value,
        energy_kwh=entry.energy_kwh,
        author=entry.author,
        note=entry.note,
        created_at=entry.created_at,
        withdrawn_at=entry.withdrawn_at,
        withdrawn_by=entry.withdrawn_by,
        corrected_readings=entry.corrected_readings,
        corrections=[
            schemas.CorrectionOut(at=c.at, old_value=c.old_value, new_value=c.new_value) for c in corrected
        ],
    )
