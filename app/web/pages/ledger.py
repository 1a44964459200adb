"""The ledger of a site: what was declared about its meters, and declaring and withdrawing from the page."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.actions import ledger as actions
from app.actions.ledger import Declaration
from app.domain.access import Role
from app.domain.asked import instant_or_day
from app.domain.energy import EventKind
from app.errors import SeriesError
from app.store import events
from app.web import periods, render
from app.web.access import FromOwnPage, PageRoute, Viewer
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)

_SHOWN = 300


@router.get("/sites/{site}/events")
def events_page(
    request: Request, site: str, caller: Viewer, asked: periods.OfFleet, meter: str = ""
) -> Response:
    """Every entry, or those of a period or a meter, the newest first; the form to declare one."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone) if asked.query else None
        meters = {number: key for key, number in view.stored.meter_id.items()}
        points = view.stored.point_key
        listed = [
            entry
            for entry in reversed(events.listing(view.connection, view.stored.site_id[site]))
            if (not meter or meters.get(entry.meter_id or 0) == meter)
            and (chosen is None or (entry.start < chosen.period.end and entry.end >= chosen.period.start))
        ]
        may_act = view.may(site, Role.OPERATOR)
    context = {
        "nav": "site",
        "tab": "events",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "entries": listed[:_SHOWN],
        "count": len(listed),
        "meters": meters,
        "points": points,
        "meter": meter,
        "may_act": may_act,
        "kinds": list(EventKind),
        "names": {m.id: m.name or m.id for m in found.at(caller.now).meters},
    }
    return render.page(request, "events.html", context)


@router.post("/sites/{site}/events", dependencies=[FromOwnPage])
def declare(
    site: str,
    caller: Viewer,
    meter: Annotated[str, Form(max_length=100)],
    kind: Annotated[EventKind, Form()],
    start: Annotated[str, Form(max_length=40)],
    note: Annotated[str, Form(max_length=2000)] = "",
    end: Annotated[str, Form(max_length=40)] = "",
    old_value: Annotated[str, Form(max_length=40)] = "",
    new_value: Annotated[str, Form(max_length=40)] = "",
    energy_kwh: Annotated[str, Form(max_length=40)] = "",
    point: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Write what happened to a meter into the ledger; figures follow."""
    with caller.write() as view:
        zone = view.site(site, Role.OPERATOR).zone
        begin = wall_time(start, "start", zone)
        wanted = Declaration(
            meter=meter,
            kind=kind,
            start=begin,
            end=wall_time(end, "end", zone) if end.strip() else begin,
            note=note,
            point=point.strip() or None,
            old_value=_number(old_value, "old_value"),
            new_value=_number(new_value, "new_value"),
            energy_kwh=_number(energy_kwh, "energy_kwh"),
        )
        actions.declare(view, wanted)
    return RedirectResponse(f"/sites/{site}/events", HTTPStatus.SEE_OTHER)


@router.post("/sites/{site}/events/{entry}/withdraw", dependencies=[FromOwnPage])
def withdraw(site: str, entry: int, caller: Viewer) -> Response:
    """Take an entry back; it stays in the ledger, marked."""
    with caller.write() as view:
        actions.withdraw(view, site, entry)
    return RedirectResponse(f"/sites/{site}/events", HTTPStatus.SEE_OTHER)


def wall_time(text: str, name: str, zone: ZoneInfo) -> datetime:
    """An instant, or a wall time of the site as a browser's field gives it.

    Raises
    ------
    SeriesError
        If it is neither, or the site's clock skipped or repeated it: then say it with its offset.
    """
    try:
        local = datetime.strptime(text.strip(), "%Y-%m-%dT%H:%M")  # noqa: DTZ007 - of the site, below
    except ValueError:
        return instant_or_day(text.strip(), name, zone)
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        raise SeriesError(
            f"{name}: {text} is not once at the site; write it with its offset, as {first.isoformat()}"
        )
    return first.astimezone(UTC)


def _number(text: str, name: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text.strip().replace(" ", ""))
    except ValueError:
        raise SeriesError(f"{name}: {text!r} is no number; write it like 1234.5") from None
