"""Alarms: those that fire, their history, acknowledgement and silences."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.access import Role
from app.domain.alarms.notification import Silence
from app.domain.site import Site
from app.store import alarms
from app.store.alarms import StoredAlarm
from app.web import render
from app.web.access import FromOwnPage, PageRoute, View, Viewer

router = APIRouter(route_class=PageRoute)

_SHOWN = 200
_HOURS = (1, 4, 12, 24, 72, 168)
"""How long a silence may be chosen to last. [h]"""
_ACTING = (Role.OPERATOR, Role.ADMIN)


def _may_act(caller: Viewer, site: Site) -> bool:
    return caller.principal.role_at(site) in _ACTING


@router.get("/alarms")
def alarms_page(request: Request, caller: Viewer, state: str = "active", site: str = "") -> Response:
    """Active alarms, or all of them, and the silences in force."""
    chosen = "all" if state == "all" else "active"
    with caller.read() as view:
        numbers = [n for key, n in view.stored.site_id.items() if not site or key == site]
        sees_all = caller.principal.role_everywhere is not None
        numbers += [alarms.DEPLOYMENT] if sees_all and not site else []
        listed = alarms.listing(view.connection, numbers, chosen, limit=_SHOWN)
        silenced = [
            one
            for one in alarms.silences(view.connection, caller.now)
            if one.silence.site in view.stored.site_id or (sees_all and not one.silence.site)
        ]
        zones = {s.id: s.zone for s in view.stored.fleet.sites}
        names = {s.id: s.name or s.id for s in view.stored.fleet.sites}
        acts = [s.id for s in view.stored.fleet.sites if _may_act(caller, s)]
        rules = [rule.id for rule in alarms.rules(view.connection)]
    context = {
        "nav": "alarms",
        "alarms": listed,
        "silences": silenced,
        "state": chosen,
        "chosen_site": site,
        "zones": zones,
        "names": names,
        "acts": [*acts, ""] if caller.principal.role_everywhere in _ACTING else acts,
        "rules": rules,
        "hours": _HOURS,
        "now": caller.now,
    }
    return render.page(request, "alarms.html", context)


@router.get("/alarms/{number}")
def alarm_page(request: Request, number: int, caller: Viewer) -> Response:
    """One alarm with its transitions and comments."""
    with caller.read() as view:
        alarm = alarms.one(view.connection, number)
        _require(view, alarm, Role.VIEWER)
        site = view.stored.fleet.site.get(alarm.site)
        context = {
            "nav": "alarms",
            "alarm": alarm,
            "site": site,
            "may_act": site is None or _may_act(caller, site),
            "steps": alarms.history(view.connection, number),
            "comments": alarms.comments(view.connection, number),
            "now": caller.now,
        }
    return render.page(request, "alarm.html", context)


@router.post("/alarms/{number}/acknowledge", dependencies=[FromOwnPage])
def acknowledge(number: int, caller: Viewer, comment: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Say that somebody is on it."""
    with caller.write() as view:
        _require(view, alarms.one(view.connection, number), Role.OPERATOR)
        name = caller.principal.name
        alarms.acknowledge(view.connection, number, name, caller.now, comment.strip())
        view.audit("alarm.acknowledge", str(number), {"comment": comment[:200]})
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
        _require_at(view, site, Role.OPERATOR)
        wanted = Silence(now, now + timedelta(hours=hours), site, rule, "", comment.strip())
        number = alarms.site_number(view.stored, site)
        made = alarms.add_silence(view.connection, wanted, number, caller.principal.name)
        view.audit("silence.add", site, {"silence": made, "rule": rule, "hours": hours})
    return RedirectResponse("/alarms", HTTPStatus.SEE_OTHER)


@router.post("/silences/{number}/end", dependencies=[FromOwnPage])
def end_silence(number: int, caller: Viewer) -> Response:
    """End a silence before its time."""
    with caller.write() as view:
        own = [s for s in alarms.silences(view.connection, caller.now) if s.id == number]
        _require_at(view, own[0].silence.site if own else "", Role.OPERATOR)
        alarms.end_silence(view.connection, number, caller.now)
        view.audit("silence.end", str(number))
    return RedirectResponse("/alarms", HTTPStatus.SEE_OTHER)


def _require(view: View, alarm: StoredAlarm, role: Role) -> None:
    _require_at(view, alarm.site, role)


def _require_at(view: View, site: str, role: Role) -> None:
    """The role on the site, or everywhere for what belongs to no site."""
    if site:
        view.site(site, role)
    else:
        view.require_everywhere(role)
