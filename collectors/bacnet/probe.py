"""List what a BACnet/IP device measures, with units and values, and propose the meter; only reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from collectors import registry
from collectors.bacnet.codec import (
    ANY_DEVICE,
    MAX_PRES_VALUE,
    MODEL_NAME,
    OBJECT_LIST,
    OBJECT_NAME,
    OBJECT_TYPES,
    UNITS,
    VENDOR_NAME,
    ObjectId,
    Refused,
    Result,
    Value,
)
from collectors.bacnet.collector import BacnetChannel, BacnetConfig, NoValue, known_of, survey_of, value_in
from collectors.bacnet.session import Session
from collectors.bacnet.units import NO_UNITS
from collectors.bacnet.units import UNITS as UNIT_NAMES
from collectors.found import Found, Outcome, Target
from collectors.profiles.profile import delivered_unit

MOST_OBJECTS = 2000
"""Objects of a device that are looked at."""
MOST_FOUND = 200
_MEASURING = frozenset(number for name, number in OBJECT_TYPES.items() if name != "device")
_POWER_UNITS = frozenset(("kwh", "kw", "kva", "kvar", "kvarh", "kvah", "a", "v", "hz", "ratio"))


async def answers(target: Target, port: int) -> Outcome:
    """The device at a target: its objects that measure power, energy and the like."""
    mapping = target.collector("bacnet", port)
    config = registry.parse({"timeout_s": 1.0, **mapping, "channels": [_ANY]})
    assert isinstance(config, BacnetConfig)
    session = Session(config.access(target.host))
    try:
        return Outcome((await _found(session, mapping),))
    finally:
        session.close()


_ANY = {"name": "probe", "unit": "1", "object": "analog-input,0"}
"""Settings of a collector need a channel; a probe finds them."""


async def _found(session: Session, mapping: Mapping[str, Any]) -> Found:
    device = await _device(session)
    objects = await _objects(session, device)
    named = await session.read([(device, VENDOR_NAME, None), (device, MODEL_NAME, None)])
    model = " ".join(str(v) for v in named.values() if isinstance(v, str)) or str(device)
    counters = [(one, MAX_PRES_VALUE, None) for one in objects if one.type == OBJECT_TYPES["accumulator"]]
    read = await session.read([*survey_of(objects), *counters])
    channels, questions = _channels(objects, read, await _names(session, objects, read))
    values, problems = await _values(session, channels, read)
    notes = [f"{device}: {len(objects)} objects that measure", *questions, *problems]
    return Found("", f"{model} (BACnet {device.instance})", values, tuple(notes), _yaml(mapping, channels))


async def _device(session: Session) -> ObjectId:
    """Identifier of the device itself, which answers to the instance that means any."""
    said = await session.read_alone((ObjectId(OBJECT_TYPES["device"], ANY_DEVICE), _OBJECT_IDENTIFIER, None))
    if isinstance(said, ObjectId):
        return said
    return await session.who() or ObjectId(OBJECT_TYPES["device"], ANY_DEVICE)


_OBJECT_IDENTIFIER = 75


async def _objects(session: Session, device: ObjectId) -> list[ObjectId]:
    """Objects with a present value that is a number; a list that fits no packet is read by index."""
    said = await session.read_alone((device, OBJECT_LIST, None))
    found = list(said) if isinstance(said, tuple) and not isinstance(said, Refused | ObjectId) else [said]
    if isinstance(said, Refused):
        count = await session.read_alone((device, OBJECT_LIST, 0))
        wanted = min(count, MOST_OBJECTS) if isinstance(count, int) else 0
        found = list((await session.read([(device, OBJECT_LIST, n) for n in range(1, wanted + 1)])).values())
    return [one for one in found if isinstance(one, ObjectId) and one.type in _MEASURING][:MOST_OBJECTS]


async def _names(session: Session, objects: Sequence[ObjectId], read: Result) -> dict[ObjectId, str]:
    """Names of the objects in units of power; of the others only a count is told."""
    wanted = [one for one in objects if _unit(one, read) in (None, "1") or _is_power(_unit(one, read))]
    found = await session.read([(one, OBJECT_NAME, None) for one in wanted[:MOST_FOUND]])
    return {one: str(name) for (one, _, _), name in found.items() if isinstance(name, str)}


def _unit(one: ObjectId, read: Result) -> str | None:
    number = read.get((one, UNITS, None))
    return UNIT_NAMES.get(number) if isinstance(number, int) else None


def _is_power(unit: str | None) -> bool:
    return unit is not None and delivered_unit(unit) in _POWER_UNITS


def _channels(
    objects: Iterable[ObjectId], read: Result, names: Mapping[ObjectId, str]
) -> tuple[list[BacnetChannel], list[str]]:
    """A channel for every object in a unit of power; a question for those that only sound like it."""
    found: dict[str, BacnetChannel] = {}
    questions = []
    for one in objects:
        unit, name = _unit(one, read), names.get(one, "")
        if unit is not None and unit != "1" and _is_power(unit):
            channel = _channel(one, unit, name, found, read)
            found[channel.name] = channel
        elif _SOUNDS_LIKE_POWER.search(name):
            said = read.get((one, UNITS, None))
            unit_text = (
                "no unit" if said == NO_UNITS else f"unit {said}" if isinstance(said, int) else "no unit"
            )
            questions.append(f"{one} {name!r} has {unit_text}: what does it measure? Add it with its unit")
    return list(found.values()), questions


_SOUNDS_LIKE_POWER = re.compile(r"power|energy|kwh?\b|watt|电能|功率|电度", re.IGNORECASE)


def _channel(one: ObjectId, unit: str, name: str, taken: Mapping[str, object], read: Result) -> BacnetChannel:
    suffix = delivered_unit(unit)
    stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removesuffix(f"_{suffix}")
    stem = stem if re.match(r"[a-z]", stem) else f"{str(one).replace('-', '_').replace(',', '_')}"
    channel = f"{stem}_{suffix}"
    if channel in taken:
        channel = f"{stem}_{one.instance}_{suffix}"
    highest = read.get((one, MAX_PRES_VALUE, None))
    modulus = {}
    if isinstance(highest, int) and highest > 0:
        modulus = {"modulus": (highest + 1) * known_of(one, read).factor}
    return BacnetChannel.model_validate({"name": channel, "unit": unit, "object": str(one), **modulus})


async def _values(
    session: Session, channels: Sequence[BacnetChannel], read: Result
) -> tuple[dict[str, float], list[str]]:
    """Values of the channels now, and why the rest has none."""
    known = {channel.object_id: known_of(channel.object_id, read) for channel in channels}
    found = await session.read([(one, name, None) for one, k in known.items() for name in k.properties])
    values: dict[str, float] = {}
    problems = []
    for channel in channels:
        there: dict[int, Value | Refused] = {
            name: value for (one, name, _), value in found.items() if one == channel.object_id
        }
        try:
            values[channel.name] = value_in(channel, known[channel.object_id], there)
        except NoValue as error:
            problems.append(f"{channel.object} {error}")
    return values, problems


def _yaml(mapping: Mapping[str, Any], channels: Sequence[BacnetChannel]) -> str:
    """The meter as the site file has it, with points for its energies and powers."""
    name = re.sub(r"[^A-Za-z0-9.-]", "-", str(mapping["host"])).strip("-")
    kept = ("kind", "host", "port", "network", "station")
    collector: dict[str, Any] = {key: mapping[key] for key in kept if key in mapping}
    collector["channels"] = [
        c.model_dump(include={"name", "unit", "object", "modulus"}, exclude_none=True) for c in channels
    ]
    points = [
        {"id": f"{name}-{c.name}", "role": "other", "kind": c.kind, "channel": c.name}
        for c in channels
        if c.kind in ("register", "power")
    ]
    meter = {"id": name, "collector": collector, "points": points}
    return str(
        yaml.safe_dump([meter], allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    )
