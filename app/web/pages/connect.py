"""Connect a meter: probe an address, see what answers, pick what to read, copy the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent
from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from app.domain.quantity import Role
from app.errors import ConfigError
from app.web import render
from app.web.access import Caller, FromOwnPage, PageRoute, Viewer
from collectors import probe as probing
from collectors.found import Found, Target
from collectors.profiles.profile import profile_names
from collectors.registry import KINDS
from collectors.snmp.session import AuthProtocol, PrivProtocol

router = APIRouter(route_class=PageRoute)

_LONGEST_WAIT_S = 30
_SNMP_KEYS = ("auth_protocol", "auth_password", "priv_protocol", "priv_password")
_OPTIONS = {name: KINDS[name].options for name in probing.PROTOCOLS}

FIRST_SITE = """\
institutions:
  - {id: bank, name: My bank, institution_class: other}
sites:
  - id: dc1
    name: My data centre
    institution: bank
    time_zone: Asia/Shanghai
    meters:
"""
"""A site file up to its meters, for those who have none."""


def target(form: FormData) -> Target:
    """What a form asks for; what is no choice becomes the usual one."""
    protocol = str(form.get("protocol", probing.BOTH))
    protocol = protocol if protocol in probing.PROTOCOLS else probing.BOTH
    said = {
        key: str(form.get(f"option.{protocol}.{key}", "")).strip()[:500] for key in _OPTIONS.get(protocol, ())
    }
    return Target(
        str(form.get("host", "")).strip()[:253],
        protocol,
        _number(form, "port", 65_535),
        _number(form, "unit", 255) or 1,
        str(form.get("community", "public"))[:200],
        _seconds(form),
        _profile(form),
        form.get("input_registers") == "1",
        _snmp_v3(form),
        probing.allowed(protocol, said),
    )


def _seconds(form: FormData) -> float | None:
    """Longest wait for one answer; None: the usual one. [s]"""
    found = _number(form, "timeout_s", _LONGEST_WAIT_S)
    return None if found is None else float(found)


def _profile(form: FormData) -> str:
    name = str(form.get("profile", ""))
    return name if name in profile_names() else ""


def _snmp_v3(form: FormData) -> dict[str, str]:
    """Keys of SNMPv3 access; empty where no user is named."""
    user = str(form.get("snmp_user", "")).strip()[:64]
    if not user:
        return {}
    keys = {name: str(form.get(f"snmp_{name}", ""))[:200] for name in _SNMP_KEYS}
    return {"version": "3", "user": user, **{name: text for name, text in keys.items() if text}}


def _number(form: FormData, name: str, most: int) -> int | None:
    text = str(form.get(name, "")).strip()
    return int(text) if text.isdecimal() and 0 < int(text) <= most else None


@router.get("/connect")
def connect_page(request: Request, caller: Viewer, host: str = "") -> Response:
    """The form for an address."""
    return _page(request, Target(host=host))


@router.post("/connect", dependencies=[FromOwnPage])
async def probe(request: Request, caller: Viewer) -> Response:
    """Probe an address by reading only, and show what answers with its configuration."""
    await run_in_threadpool(caller.require_operator)
    form = await request.form()
    wanted = target(form)
    if not wanted.host or "://" in wanted.host:  # whole addresses are for the command line
        return _page(request, wanted, problems=["enter an address, such as 10.0.0.17"])
    await run_in_threadpool(caller.begin_probe, wanted.host)
    try:
        with caller.reach():
            if probing.is_range(wanted.host):
                found = await probing.probe_range(wanted)
                return _page(request, wanted, answers=[probing.Answer.of(*one) for one in found.items()])
            outcome = await probing.probe(wanted)
    except ConfigError as error:
        return _page(request, wanted, problems=[str(error)])
    picks = _picks(form)
    is_first = await run_in_threadpool(_has_no_site, caller)
    shown = [(one, _pasted(probing.composed(one.yaml, picks), is_first)) for one in outcome.found]
    problems = list(outcome.problems)
    return _page(request, wanted, found=shown, problems=problems, picks=picks, is_first=is_first)


def choices(target: Target) -> dict[str, Any]:
    """What the fields of a probe offer."""
    return {
        "protocols": [(name, title, KINDS[name].port) for name, title in probing.PROTOCOLS.items()],
        "options": {name: keys for name, keys in _OPTIONS.items() if keys},
        "target": target,
    }


def _has_no_site(caller: Caller) -> bool:
    with caller.read() as view:
        return not view.stored.fleet.sites


def _pasted(meters: str, is_first: bool) -> str:
    """What goes into the site file; all of it, where there is none yet."""
    return FIRST_SITE + indent(meters, " " * 6) if is_first else meters


def _page(
    request: Request,
    target: Target,
    *,
    found: list[tuple[Found, str]] | None = None,
    problems: list[str] | None = None,
    picks: Mapping[str, str] | None = None,
    is_first: bool = False,
    answers: list[probing.Answer] | None = None,
) -> Response:
    context = {
        "answers": answers,
        "profiles": profile_names(),
        "auth_protocols": get_args(AuthProtocol),
        "priv_protocols": get_args(PrivProtocol),
        "is_first": is_first,
        "nav": "connect",
        **choices(target),
        "found": found,
        "problems": problems or [],
        "picks": picks or {},
        "roles": [role.value for role in Role],
    }
    return render.page(request, "connect.html", context)


def _picks(form: FormData) -> dict[str, str]:
    """Picked channels with their roles."""
    roles = {role.value for role in Role}
    picked = [str(v) for name, v in form.multi_items() if name == "pick"]
    chosen = {channel: str(form.get(f"role.{channel}", "none")) for channel in picked}
    return {channel: role if role in roles else "none" for channel, role in chosen.items()}
