"""Alarms: those that fire, their history, acknowledgement and silences."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.actions import alarms as actions
from app.domain.access import Role
from app.domain.alarms.notification import Silence
from app.store import alarms
from app.web import render
from app.web.access import FromOwnPage, PageRoute, Viewer

router = APIRouter(route_class=PageRoute)

_SHOWN = 200
_HOURS = (1, 4, 12, 24, 72, 168)
"""How long a silence may be chosen to last. [h]"""


@router.get("/alarms")
def alarms_page(request: Request, caller: Viewer, state: str = "active", site: str = "") -> Response:
    """Active alarms, or all of them, and the silences in force."""
    chosen = "all" if state == "all" else "active"
    with caller.read() as view:
        listed = actions.listing(view, chosen, site, limit=_SHOWN)
        silenced = actions.silences(view)
        zones = {s.id: s.zone for s in view.stored.fleet.sites}
        names = {s.id: s.name or s.id for s in view.stored.fleet.sites}
        acts = [site_id for site_id in (*names, "") if view.may(site_id, Role.OPERATOR)]
        rules = [rule.id for rule in alarms.rules(view.connection)]
    context = {
        "nav": "alarms",
        "alarms": listed,
        "silences": silenced,
        "state": chosen,
        "chosen_site": site,
        "zones": zones,
        "names": names,
        "acts": acts,
        "rules": rules,
        "hours": _HOURS,
        "now": caller.now,
    }
    return render.page(request, "alarms.html", context)


@router.get("/alarms/{number}")
def alarm_page(request: Request, number: int, caller: Viewer) -> Response:
    """One alarm with its transitions and comments."""
    with caller.read() as view:
        alarm = actions.find(view, number)
        site = view.stored.fleet.site.get(alarm.site)
        context = {
            "nav": "alarms",
            "alarm": alarm,
            "site": site,
            "may_act": view.may(alarm.site, Role.OPERATOR),
            "steps": alarms.history(view.connection, number),
            "comments": alarms.comments(view.connection, number),
            "now": caller.now,
        }
    return render.page(request, "alarm.html", context)


@router.post("/alarms/{number}/acknowledge", dependencies=[FromOwnPage])
def acknowledge(number: int, caller: Viewer, comment: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Say that somebody is on it."""
    with caller.write() as view:
        actions.acknowledge(view, number, comment)
    return RedirectResponse(f"/alarms/{number}", HTTPStatus.SEE_OTHER)


@router.post("/alarms/{number}/comments", dependencies=[FromOwnPage])
def comment(number: int, caller: Viewer, comment: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Say something about an alarm."""
    with caller.write() as view:
        actions.comment(view, number, comment)
    return RedirectResponse(f"/alarms/{number}", HTTPStatus.SEE_OTHER)


@router.post("/silences", dependencies=[FromOwnPage])
def silence(
    caller: Viewer,
    site: Annotated[str, Form(max_length=100)] = "",
    rule: Annotated[str, Form(max_length=100)] = "",
    hours: Annotated[int, Form(ge=1, le=168)] = 4,
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Keep alarms from being notified for some hours; they are still shown."""
    now = caller.now
    with caller.write() as view:
        actions.silence(view, Silence(now, now + timedelta(hours=hours), site, rule, "", comment))
    return RedirectResponse("/alarms", HTTPStatus.SEE_OTHER)


@router.post("/silences/{number}/end", dependencies=[FromOwnPage])
def end_silence(number: int, caller: Viewer) -> Response:
    """End a silence before its time."""
    with caller.write() as view:
        actions.end_silence(view, number)
    return RedirectResponse("/alarms", HTTPStatus.SEE_OTHER)
