"""Ask an address what it is, in every protocol that may be spoken there: one probe for all who ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from app.domain.quantity import ReadingKind, Role
from app.errors import CollectError
from collectors.modbus import probe as modbus_probe
from collectors.profiles.profile import broken_profiles, load_profile
from collectors.snmp import probe as snmp_probe
from collectors.snmp.unknown import Unknown

MODBUS_PORT, SNMP_PORT = 502, 161
PATIENCE_S = 30.0
"""Longest time that a probe takes. [s]"""

Protocol = Literal["both", "modbus", "snmp"]


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed; without a port each protocol's usual one."""

    host: str = ""
    protocol: Protocol = "both"
    port: int | None = None
    unit: int = 1
    community: str = "public"
    timeout_s: float | None = None
    """Longest wait for one answer; a probe waits ten times as long in all. None: the usual one. [s]"""
    profile: str = ""
    """Profile through which the device is read, whether it fits or not; empty: those that fit."""
    input_registers: bool = False
    """Whether a Modbus device is asked for input registers only, as some refuse others."""
    snmp: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of SNMP access: ``version``, ``user``, ``auth_protocol``, ``auth_password_file`` ..."""


@dataclass(frozen=True, slots=True)
class Found:
    """A device as a probe recognised it."""

    profile: str
    model: str
    values: dict[str, float]
    """By channel, in the unit its name ends in."""
    notes: tuple[str, ...]
    """Why it is taken for this model, and what the installer should look at."""
    yaml: str
    """A meter for the site file."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What answered, and why the rest did not."""

    found: tuple[Found, ...]
    problems: tuple[str, ...]
    unknown: tuple[Unknown, ...] = ()
    """What a device says of itself of which no profile gives power or energy."""


async def probe(target: Target, *, patience_s: float | None = None) -> Outcome:
    """What answers at an address, by reading only; what does not answer is a problem of the outcome.

    Parameters
    ----------
    patience_s : float or None
        Longest time in all. None: 30 s, or ten times the wait for one answer. [s]

    Raises
    ------
    ConfigError
        If the named profile is not known or broken, or what is said of SNMP is not understood.
    """
    patience_s = patience_s or max(PATIENCE_S, 10 * (target.timeout_s or 0))
    asked = {"Modbus": _modbus, "SNMP": _snmp}
    chosen = [name for name in asked if target.protocol in ("both", name.lower())]
    if target.profile:
        protocol = load_profile(target.profile).protocol
        chosen = [name for name in chosen if name.lower() == protocol]
    patient = [asyncio.wait_for(asked[name](target), patience_s) for name in chosen]
    found: list[Found] = []
    unknown: list[Unknown] = []
    problems: list[str] = [f"own profile left out: {error}" for error in broken_profiles()]
    for name, outcome in zip(chosen, await asyncio.gather(*patient, return_exceptions=True), strict=True):
        if isinstance(outcome, BaseException):
            problems.append(_problem(name, outcome, patience_s))
            continue
        found += outcome.found
        unknown += outcome.unknown
        problems += [] if outcome.found else [_no_profile(name, target)]
    return Outcome(tuple(found), tuple(problems), tuple(unknown))


def _no_profile(protocol: str, target: Target) -> str:
    if target.profile:
        return f"{protocol}: the device answers, but has nothing of profile {target.profile}"
    return f"{protocol}: the device answers, but matches no profile"


def _problem(protocol: str, error: BaseException, patience_s: float) -> str:
    """What a failed probe means; raises what is no answer of a device."""
    if isinstance(error, TimeoutError):
        return f"{protocol}: the device answers too slowly, not finished after {patience_s:g} s"
    if not isinstance(error, CollectError):
        raise error  # a fault of ours, or of what was asked
    return f"{protocol}: {error}"


async def _modbus(target: Target) -> Outcome:
    seen = await modbus_probe.probe(
        target.host,
        target.port or MODBUS_PORT,
        [target.unit],
        timeout_s=target.timeout_s or 1.0,
        profile=target.profile,
        table="input" if target.input_registers else "holding",
    )
    return Outcome(tuple(_from_modbus(one) for one in seen), ())


def _from_modbus(one: modbus_probe.Recognised) -> Found:
    doubt = () if one.certain else ("identification is uncertain: compare the values with the display",)
    problems = tuple(f"{name}: {problem}" for name, problem in one.problems.items())
    model = f"{one.vendor} {one.model} (Modbus {one.device_id})"
    notes = (one.why, *one.contradictions, *doubt, *problems)
    return Found(one.profile, model, one.values, notes, one.yaml)


async def _snmp(target: Target) -> Outcome:
    access = {**target.snmp, **({} if target.timeout_s is None else {"timeout_s": target.timeout_s})}
    where = (target.host, target.port or SNMP_PORT, target.community)
    seen = await snmp_probe.probe(*where, profile=target.profile, **access)
    found = tuple(
        Found(one.profile, f"{one.model} (SNMP)", one.values, (one.sys_descr, *one.findings), one.yaml)
        for one in seen
    )
    if target.profile or any(name.endswith(("_kw", "_kwh")) for one in seen for name in one.values):
        return Outcome(found, ())
    with contextlib.suppress(CollectError):
        return Outcome(found, (), (await snmp_probe.unknown(*where, **access),))
    return Outcome(found, ())


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
        known = {p.get("channel"): p for p in meter["points"] or []}
        meter["points"] = [
            {**known.get(channel, _point(meter["id"], channel)), "role": str(role)}
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
