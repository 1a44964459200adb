"""The ledger: what people declare about meters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.api import schemas
from app.api.context import Caller, MeterId, SiteId
from app.api.periods import instant
from app.domain.access import Role
from app.domain.energy import Event, EventKind
from app.domain.quantity import ReadingKind
from app.domain.site import Meter, Point
from app.errors import NotFound, SeriesError
from app.store import events
from app.store.events import LedgerEntry
from app.store.readings import to_us
from app.store.sites import Stored

router = APIRouter(tags=["data quality"])

_ABOUT_REGISTERS = (EventKind.REPLACED, EventKind.RESET)


@router.get("/sites/{site}/events")
def list_events(site: SiteId, caller: Caller) -> schemas.EventsOut:
    """Every entry, withdrawn ones too, oldest first."""
    with caller.read() as view:
        view.site(site)
        found = events.listing(view.connection, view.stored.site_id[site])
        return schemas.EventsOut(site=site, events=[event_out(view.stored, entry) for entry in found])


@router.post("/meters/{meter}/events", status_code=201)
def post_event(meter: MeterId, body: schemas.EventIn, caller: Caller) -> schemas.EventsOut:
    """Declare a replacement, reset, test, maintenance, correction or estimate; figures follow."""
    start = instant(body.start, "start")
    end = instant(body.end, "end") if body.end is not None else start
    if end < start:
        raise SeriesError("end: is before the start")
    with caller.write() as view:
        site, found = view.meter(meter, Role.OPERATOR)
        points = _points(found, body)
        event = Event(
            EventKind(body.kind), to_us(start), to_us(end), body.old_value, body.new_value, body.energy_kwh
        )
        ids = events.add(
            view.connection,
            site_id=view.stored.site_id[site.id],
            meter_id=view.stored.meter_id[meter],
            point_ids=[view.stored.point_id[p.id] for p in points],
            event=event,
            start=start,
            end=end,
            author=view.principal.name,
            note=body.note,
        )
        added = [e for e in events.listing(view.connection, view.stored.site_id[site.id]) if e.id in ids]
        answer = schemas.EventsOut(site=site.id, events=[event_out(view.stored, entry) for entry in added])
        view.audit("event.add", meter, {"kind": body.kind, "entries": ids})
    return answer


@router.post("/sites/{site}/events/{event}/withdraw")
def withdraw_event(
    site: SiteId, event: Annotated[int, Path(ge=1, le=1 << 62)], caller: Caller
) -> schemas.EventOut:
    """Take an entry back; it stays in the ledger, marked."""
    with caller.write() as view:
        view.site(site, Role.OPERATOR)
        own = {e.id for e in events.listing(view.connection, view.stored.site_id[site])}
        if event not in own:
            raise NotFound(f"there is no event {event} at site {site}")
        answer = event_out(view.stored, events.withdraw(view.connection, event, view.principal.name))
        view.audit("event.withdraw", site, {"entry": event})
    return answer


def _points(meter: Meter, body: schemas.EventIn) -> list[Point]:
    """The points an event is about: the named one, or all that it can be about."""
    fitting = [p for p in meter.points if _fits(p, EventKind(body.kind))]
    if body.point is not None:
        fitting = [p for p in fitting if p.id == body.point]
    if not fitting:
        raise SeriesError(f"point: meter {meter.id} has none that a {body.kind} can be about")
    states_value = not (body.old_value is body.new_value is body.energy_kwh is None)
    if len(fitting) > 1 and states_value:
        raise SeriesError(f"point: say which the value is of: {', '.join(p.id for p in fitting)}")
    return fitting


def _fits(point: Point, kind: EventKind) -> bool:
    return point.kind is ReadingKind.REGISTER if kind in _ABOUT_REGISTERS else True


def event_out(stored: Stored, entry: LedgerEntry) -> schemas.EventOut:
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
    )
