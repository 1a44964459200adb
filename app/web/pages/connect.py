"""Connect a meter: probe an address, see what answers, pick what to read, copy the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from app.domain import access
from app.domain.quantity import ReadingKind, Role
from app.errors import CollectError
from app.web import render
from app.web.access import Caller, FromOwnPage, PageRoute, Viewer
from collectors import modbus_probe, network, snmp_probe

router = APIRouter(route_class=PageRoute)

MODBUS_PORT, SNMP_PORT = 502, 161
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Found:
    """A device as a probe recognised it."""

    profile: str
    model: str
    values: dict[str, float]
    notes: tuple[str, ...]
    yaml: str


@dataclass(frozen=True)
class Target:
    """What is probed."""

    host: str = ""
    protocol: str = "both"
    port: int | None = None
    unit: int = 1
    community: str = "public"

    @classmethod
    def of(cls, form: FormData) -> Target:
        """What a form asks for; numbers that are none become the usual ones."""
        return cls(
            str(form.get("host", "")).strip()[:253],
            str(form.get("protocol", "both")),
            _number(form, "port", 65_535),
            _number(form, "unit", 255) or 1,
            str(form.get("community", "public"))[:200],
        )


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
    await run_in_threadpool(_require_operator, caller, "")
    form = await request.form()
    target = Target.of(form)
    if not target.host:
        return _page(request, target, problems=["give an address, such as 10.0.0.17"])
    await run_in_threadpool(_require_operator, caller, target.host)
    with network.on_behalf_of_others() if request.app.state.asks_keys else nullcontext():
        found, problems = await _probe(target)
    picks = _picks(form)
    shown = [(one, composed(one.yaml, picks)) for one in found]
    return _page(request, target, found=shown, problems=problems, picks=picks)


def _require_operator(caller: Caller, host: str) -> None:
    """Probing reaches into the network of the meters: not for viewers; it is written down."""
    with caller.write() as view:
        view.require_everywhere(access.Role.OPERATOR)
        if host:
            view.audit("probe", host)


def _page(
    request: Request,
    target: Target,
    *,
    found: list[tuple[Found, str]] | None = None,
    problems: list[str] | None = None,
    picks: Mapping[str, str] | None = None,
) -> Response:
    context = {
        "nav": "connect",
        "target": target,
        "found": found,
        "problems": problems or [],
        "picks": picks or {},
        "roles": [role.value for role in Role],
    }
    return render.page(request, "connect.html", context)


async def _probe(target: Target) -> tuple[list[Found], list[str]]:
    asked = []
    if target.protocol in ("both", "modbus"):
        asked.append(_modbus(target))
    if target.protocol in ("both", "snmp"):
        asked.append(_snmp(target))
    found: list[Found] = []
    problems: list[str] = []
    patient = [asyncio.wait_for(one, _PATIENCE_S) for one in asked]
    for outcome in await asyncio.gather(*patient, return_exceptions=True):
        if isinstance(outcome, (CollectError, TimeoutError)):
            problems.append(str(outcome) or "no answer in time")
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found += outcome
    return found, problems


async def _modbus(target: Target) -> list[Found]:
    seen = await modbus_probe.probe(target.host, target.port or MODBUS_PORT, [target.unit])
    return [_from_modbus(one) for one in seen]


def _from_modbus(one: modbus_probe.Recognised) -> Found:
    doubt = () if one.certain else ("this is not certain: compare the values with the display",)
    problems = tuple(f"{name}: {problem}" for name, problem in one.problems.items())
    model = f"{one.vendor} {one.model} (Modbus {one.device_id})"
    return Found(one.profile, model, one.values, (one.why, *doubt, *problems), one.yaml)


async def _snmp(target: Target) -> list[Found]:
    seen = await snmp_probe.probe(target.host, target.port or SNMP_PORT, target.community)
    return [
        Found(one.profile, f"{one.model} (SNMP)", one.values, (one.sys_descr, *one.findings), one.yaml)
        for one in seen
    ]


def composed(text: str, picks: Mapping[str, str]) -> str:
    """The proposed configuration with the picked channels as points; as it was where none is picked.

    Parameters
    ----------
    picks : mapping of channel to role
        What is to be read, and what it counts as.
    """
    meters = yaml.safe_load(text)
    if not picks or not isinstance(meters, list):
        return text
    for meter in meters:
        known = {p.get("channel"): p for p in meter["points"]}
        meter["points"] = [
            {**known.get(channel, _point(meter["id"], channel)), "role": role}
            for channel, role in picks.items()
        ]
    return str(
        yaml.safe_dump(meters, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    )


def _point(meter: str, channel: str) -> dict[str, str]:
    """A point for a channel, whose name ends in its unit."""
    unit = channel.rpartition("_")[2]
    kind = {"kwh": ReadingKind.REGISTER, "kw": ReadingKind.POWER}.get(unit, ReadingKind.GAUGE)
    return {"id": f"{meter}-{channel}", "role": Role.NONE.value, "kind": kind.value, "channel": channel}


def _picks(form: FormData) -> dict[str, str]:
    """Picked channels with their roles."""
    roles = {role.value for role in Role}
    picked = [str(v) for name, v in form.multi_items() if name == "pick"]
    chosen = {channel: str(form.get(f"role.{channel}", "none")) for channel in picked}
    return {channel: role if role in roles else "none" for channel, role in chosen.items()}
