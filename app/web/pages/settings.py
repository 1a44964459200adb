"""Settings for administrators: keys, sessions, and the audit log."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.actions import edges
from app.actions import keys as actions
from app.actions.view import View
from app.domain.access import Duty, Grant, Role, why_not_separate
from app.store import administration, audit, identity, sites
from app.web import render
from app.web.access import Caller, FromOwnPage, PageRoute, Viewer

router = APIRouter(route_class=PageRoute)

_PAGE = 100
_DAYS = (1, 30, 90, 365)
"""For how long a key may be chosen to open. [d]"""


@router.get("/settings/keys")
def keys_page(request: Request, caller: Viewer) -> Response:
    """Every key with what it opens, and the form for another one."""
    return _keys(request, caller)


@router.post("/settings/keys", dependencies=[FromOwnPage])
def create(
    request: Request,
    caller: Viewer,
    name: Annotated[str, Form(max_length=100)],
    role: Annotated[Role, Form()] = Role.VIEWER,
    scope: Annotated[str, Form(max_length=220)] = "",
    days: Annotated[int, Form(ge=0, le=3650)] = 0,
    certificate: Annotated[str, Form(max_length=16_384)] = "",
) -> Response:
    """Make a key; it is shown once, on the page that answers."""
    expires_at = caller.now + timedelta(days=days) if days else None
    grant = f"{role.value}:{scope}" if scope and role.on_sites and role is not Role.SYSTEM else role.value
    with caller.write() as view:
        made = actions.create(view, name.strip(), [grant], expires_at, certificate)
    return _keys(request, caller, made=made)


@router.post("/settings/keys/{key_id}/revoke", dependencies=[FromOwnPage])
def revoke(key_id: str, caller: Viewer) -> Response:
    """Make a key open nothing from now on."""
    with caller.write() as view:
        actions.revoke(view, key_id)
    return RedirectResponse("/settings/keys", HTTPStatus.SEE_OTHER)


@router.get("/settings/sessions")
def sessions_page(request: Request, caller: Viewer) -> Response:
    """Who is signed in with a browser."""
    with caller.read() as view:
        keys = actions.listing(view)
        sessions = identity.sessions(view.connection, caller.now)
    names = {key.public_id: key.name for key in keys}
    context = {
        "nav": "settings",
        "tab": "sessions",
        "sessions": sessions,
        "open": identity.opening(keys, caller.now, caller.session_idle),
        "names": names,
        "own": caller.principal.key_id,
        "now": caller.now,
    }
    return render.page(request, "sessions.html", context)


@router.post("/settings/sessions/{key_id}/revoke", dependencies=[FromOwnPage])
def end_session(key_id: str, caller: Viewer) -> Response:
    """End a session; the key that it was begun with stays."""
    with caller.write() as view:
        actions.end_session(view, key_id)
    return RedirectResponse("/settings/sessions", HTTPStatus.SEE_OTHER)


def _keys(request: Request, caller: Caller, made: str = "") -> Response:
    with caller.read() as view:
        keys = [key for key in actions.listing(view) if not key.is_session]
        is_separate = administration.is_separate(view.connection)
        context = {
            "nav": "settings",
            "tab": "keys",
            "keys": keys,
            "made": made,
            "scopes": _scopes(view),
            "roles": [r for r in Role if r is not Role.EDGE and _may_be_given(r, is_separate=is_separate)],
            "is_separate": is_separate,
            "days": _DAYS,
            "now": caller.now,
        }
    return render.page(request, "keys.html", context)


def _may_be_given(role: Role, *, is_separate: bool) -> bool:
    return not is_separate or not why_not_separate([Grant(role)])


def _scopes(view: View) -> dict[str, str]:
    """What a key may be made for, with its name."""
    fleet = sites.load(view.connection).fleet  # the security administrator sees none of their figures
    banks = {f"institution/{key}": bank.name or key for key, bank in fleet.institution.items()}
    return banks | {f"site/{site.id}": site.name or site.id for site in fleet.sites}


@router.get("/settings/edges")
def edges_page(request: Request, caller: Viewer) -> Response:
    """The edges of the caller's sites."""
    with caller.read() as view:
        found = edges.listing(view)
    context = {"nav": "settings", "tab": "edges", "edges": found, "now": caller.now}
    return render.page(request, "edges.html", context)


@router.get("/settings/audit")
def audit_page(
    request: Request, caller: Viewer, before: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """Who did what, the newest first."""
    with caller.read() as view:
        view.require_duty(Duty.AUDIT)
        entries = audit.listing(view.connection, before_seq=before, limit=_PAGE)
    context = {
        "nav": "settings",
        "tab": "audit",
        "entries": entries,
        "older": entries[-1].seq if len(entries) == _PAGE else None,
        "now": caller.now,
    }
    return render.page(request, "audit.html", context)
