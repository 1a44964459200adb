"""Point Wattline at an unknown SNMP device: which model it is, what it says, and the YAML to paste.

TableReader only: sysDescr, sysObjectID and sysName, one GETNEXT for each table a profile asks for, then the
tables of the profiles that fit.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from app.domain.quantity import Role
from app.errors import CollectError, DeviceUnreachable
from collectors.found import Found, Outcome, Target, Unknown
from collectors.plausibility import AGREE_KW, AGREE_RATIO, contradictions, withheld
from collectors.profiles.profile import (
    SnmpProfile,
    SnmpRecognition,
    config_error,
    find_channel,
    load_profile,
    profile_names,
    snmp_profile,
)
from collectors.snmp.session import Agent, SnmpAccess, Value
from collectors.snmp.table import Survey, TableReader, survey
from collectors.snmp.unknown import describe

_SYS_DESCR, _SYS_OBJECT_ID, _SYS_NAME = "1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.2.0", "1.3.6.1.2.1.1.5.0"
_TOTALS = ("energy_import_kwh", "power_kw")
_TOTAL_OF_A_UNIT = re.compile(rf"(unit_\d+_)?({'|'.join(_TOTALS)})")


@dataclass(frozen=True, slots=True)
class Recognised:
    """One profile that fits the device, with what it reads now."""

    profile: str
    model: str
    sys_descr: str
    values: dict[str, float]
    """Channel -> value in the unit its name ends in; without those that contradict each other."""
    findings: tuple[str, ...]
    """What an installer should compare with the panel, and sums that do not agree."""
    yaml: str
    """A meter for the site file."""


async def probe(
    host: str, port: int = 161, community: str = "public", *, profile: str = "", **access: Any
) -> list[Recognised]:
    """Recognise the device at `host`; the best profile first, an empty list where none fits.

    Where no version is given and SNMPv2c is met with silence, SNMPv1 is tried: old cards speak no other.

    Parameters
    ----------
    profile : str
        Read through this profile whether it fits or not; empty: through those that fit.
    access
        Further keys of the ``collector:`` mapping: ``version``, ``user``, ``auth_password`` ...

    Raises
    ------
    CollectError
        If the device does not answer.
    """
    if "version" in access:
        return await _probe_with(host, port, community, access, profile)
    try:
        return await _probe_with(host, port, community, access, profile)
    except DeviceUnreachable as error:
        if "no answer" not in str(error):
            raise
        with contextlib.suppress(CollectError):
            return await _probe_with(host, port, community, {**access, "version": "1"}, profile)
        raise


async def unknown(host: str, port: int = 161, community: str = "public", **access: Any) -> Unknown:
    """What a device that no profile fits says of itself.

    Raises
    ------
    CollectError
        If the device does not answer.
    """
    agent = _agent(host, port, community, access)
    try:
        system = await agent.get([_SYS_DESCR, _SYS_OBJECT_ID])
        return await describe(
            agent, _text(system.get(_SYS_DESCR, "")), str(system.get(_SYS_OBJECT_ID, "")).strip(".")
        )
    finally:
        agent.close()


async def _probe_with(
    host: str, port: int, community: str, access: dict[str, Any], profile: str
) -> list[Recognised]:
    if str(access.get("version", "2c")) != "3":
        access = {"community": community, **access}
    agent = _agent(host, port, community, access)
    try:
        return await probe_agent(agent, access | {"host": host, "port": port}, profile)
    finally:
        agent.close()


def _agent(host: str, port: int, community: str, access: Mapping[str, Any]) -> Agent:
    if str(access.get("version", "2c")) != "3":
        access = {"community": community, **access}
    try:
        settings = SnmpAccess.model_validate({"kind": "snmp", "host": host, "port": port, **access})
    except ValidationError as error:
        raise config_error(error) from None
    return Agent(settings, f"{host}:{port}")


class Probed(TableReader, Protocol):
    """What a probe needs of an agent."""

    async def has(self, oid: str) -> bool:
        """True where the agent has `oid` or anything under it."""


async def probe_agent(agent: Probed, access: Mapping[str, Any], profile: str = "") -> list[Recognised]:
    """The profiles that fit an agent, the best first; `access` goes into the YAML.

    Where a profile is named, the agent is read through it alone, whether it fits or not.

    One that gives power or energy goes before one that gives neither: cards leave their vendor's tables
    half empty and serve a standard MIB instead.

    Raises
    ------
    CollectError
        If the agent cannot be read.
    """
    system = await agent.get([_SYS_DESCR, _SYS_OBJECT_ID, _SYS_NAME])
    found: list[tuple[tuple[float, ...], Recognised]] = []
    fitting = [((), snmp_profile(profile))] if profile else await recognise(agent, system)
    for rank, candidate in fitting:
        seen = await survey(agent, candidate)
        if seen.readings():
            one = _recognised(candidate, seen, system, access)
            carries = any(name.endswith(("_kw", "_kwh")) for name in one.values)
            score = (float(carries), *rank, sum(total in one.values for total in _TOTALS), len(one.values))
            found.append((score, one))
    return [recognised for _, recognised in sorted(found, key=lambda item: item[0], reverse=True)]


async def recognise(
    agent: Probed, system: Mapping[str, Value]
) -> list[tuple[tuple[float, ...], SnmpProfile]]:
    """Profiles whose traits the agent shows, each with how specific they are.

    Presence alone is asked for only where no profile knows the sysObjectID: that costs one read for each
    family.

    Raises
    ------
    CollectError
        If the agent cannot be read.
    """
    profiles = [p for name in profile_names("snmp") if isinstance(p := load_profile(name), SnmpProfile)]
    traits = _AgentTraits(agent, system)
    ranks = [(await traits.rank(p, by_object_id=True), p) for p in profiles]
    if not any(rank and not p.generic for rank, p in ranks):
        ranks += [(await traits.rank(p, by_object_id=False), p) for p in profiles if not p.generic]
    return [(rank, profile) for rank, profile in ranks if rank]


class _AgentTraits:
    """Signs of a model, each read from the agent once."""

    def __init__(self, agent: Probed, system: Mapping[str, Value]) -> None:
        self._agent = agent
        self._object_id = str(system.get(_SYS_OBJECT_ID, "")).strip(".")
        self._descr = _text(system.get(_SYS_DESCR, ""))
        self._present: dict[str, bool] = {}

    async def rank(self, profile: SnmpProfile, *, by_object_id: bool) -> tuple[float, ...]:
        """How specific the best fitting description of the model is; empty where none fits."""
        ranks = []
        for sign in profile.recognise:
            if by_object_id and not (profile.generic or sign.sys_object_id or sign.sys_descr):
                continue
            prefix = self._prefix(sign)
            if prefix is not None and await self._holds(sign):
                ranks.append((float(not profile.generic), float(len(prefix))))
        return max(ranks, default=())

    def _prefix(self, sign: SnmpRecognition) -> str | None:
        """Longest prefix that fits; empty where the sign names none, None where none fits."""
        fitting = [p for p in sign.sys_object_id if f"{self._object_id}.".startswith(f"{p}.")]
        return max(fitting, key=len, default=None if sign.sys_object_id else "")

    async def _holds(self, sign: SnmpRecognition) -> bool:
        if sign.sys_descr is not None and not re.search(sign.sys_descr, self._descr):
            return False
        for oid in sign.present:
            if not await self._has(oid):
                return False
        for oid in sign.absent:
            if await self._has(oid):
                return False
        return True

    async def _has(self, oid: str) -> bool:
        if oid not in self._present:
            self._present[oid] = await self._agent.has(oid)
        return self._present[oid]


def _text(value: Value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _recognised(
    profile: SnmpProfile, seen: Survey, system: Mapping[str, Value], access: Mapping[str, Any]
) -> Recognised:
    read = seen.readings()
    contradicting = contradictions(read)
    out = withheld(contradicting)
    values = {name: value for name, value in read.items() if name not in out}
    return Recognised(
        profile=profile.name,
        model=f"{profile.vendor} {profile.model}",
        sys_descr=_text(system.get(_SYS_DESCR, "")),
        values=values,
        findings=(
            *(one.text for one in contradicting),
            *seen.doubled,
            *_uncertainties(profile, seen),
            *_disagreements(values, read),
        ),
        yaml=_meter_yaml(profile, values, _text(system.get(_SYS_NAME, "")), access),
    )


def _uncertainties(profile: SnmpProfile, seen: Survey) -> Iterable[str]:
    if not profile.verified:
        yield "no recording of this model was at hand when its profile was written: compare every value"
    uncertainties = {s.channel.doubt: name for name, s in reversed(seen.sources.items()) if s.channel.doubt}
    for doubt, name in reversed(uncertainties.items()):
        yield f"{name}: {doubt}"


def _disagreements(values: Mapping[str, float], read: Mapping[str, float]) -> Iterable[str]:
    """What is worth a look: outlets that give less than the inlet takes, and a device without power."""
    total_kw = values.get("power_kw")
    if not any(name.endswith(("_kw", "_kwh")) for name in read):
        yield "the device gives neither active power nor energy: meter its circuit to count it"
    if total_kw is None:
        return
    outlets = [v for name, v in values.items() if re.fullmatch(r"(infeed_\d+_)?outlet_\d+_power_kw", name)]
    if outlets and not _agree(sum(outlets), total_kw):
        yield f"outlets sum to {sum(outlets):.3f} kW, the inlet says {total_kw:.3f} kW"
    if total_kw < -AGREE_KW:
        yield f"power of {total_kw:.3f} kW: energy flows out, or a transformer is the wrong way round"


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= max(AGREE_KW, AGREE_RATIO * abs(other))


def _meter_yaml(
    profile: SnmpProfile, values: Mapping[str, float], name: str, access: Mapping[str, Any]
) -> str:
    meter = re.sub(r"[^A-Za-z0-9]+", "-", f"{profile.name}-{access['host']}").strip("-")
    collector = {"kind": "snmp", **access, "profile": profile.name}
    for secret in ("auth_password", "priv_password"):
        if collector.pop(secret, None) is not None:
            collector[f"{secret}_file"] = f"/etc/wattline/secrets/{meter}.{secret}"
    entry = {
        "id": meter,
        "name": name or f"{profile.vendor} {profile.model}",
        "stage": profile.stage.value,
        "collector": collector,
        "points": [_point(meter, profile, channel) for channel in _proposed(profile, values)],
    }
    return yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=110)


def _proposed(profile: SnmpProfile, values: Mapping[str, float]) -> list[str]:
    """Channels worth a point: the totals of every chained unit, else every power; and the room's climate."""
    totals = sorted(name for name in values if _TOTAL_OF_A_UNIT.fullmatch(name))
    kinds = {name: found[0].kind for name in values if (found := find_channel(profile.channels, name))}
    carriers = totals or [name for name, kind in kinds.items() if kind in ("power", "register")]
    climate = [name for name in values if name.endswith(("temperature_c", "humidity_percent"))]
    return carriers + climate


def _point(meter: str, profile: SnmpProfile, channel: str) -> dict[str, str]:
    found = find_channel(profile.channels, channel)
    kind = found[0].kind if found else "gauge"
    role = profile.role
    if kind == "gauge":
        role = Role.TEMPERATURE if channel.endswith("temperature_c") else Role.HUMIDITY
    return {"id": f"{meter}.{channel}", "role": role.value, "kind": kind, "channel": channel}


async def answers(target: Target, port: int) -> Outcome:
    """What the device at a target is; what it says of itself where no profile gives power or energy."""
    access = {**target.snmp, **({} if target.timeout_s is None else {"timeout_s": target.timeout_s})}
    where = (target.host, target.port or port, target.community)
    seen = await probe(*where, profile=target.profile, **access)
    found = tuple(
        Found(one.profile, f"{one.model} (SNMP)", one.values, (one.sys_descr, *one.findings), one.yaml)
        for one in seen
    )
    if target.profile or any(name.endswith(("_kw", "_kwh")) for one in seen for name in one.values):
        return Outcome(found)
    with contextlib.suppress(CollectError):
        return Outcome(found, unknown=(await unknown(*where, **access),))
    return Outcome(found)
