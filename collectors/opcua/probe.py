"""List what an OPC UA server measures, with units and values, and propose the meter; only reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from app.errors import ConfigError
from collectors import registry
from collectors.found import Found, Outcome, Target
from collectors.opcua.collector import NoValue, OpcUaChannel, OpcUaConfig, value_in
from collectors.opcua.session import Found as Variable
from collectors.opcua.session import Session
from collectors.profiles.profile import delivered_unit

MOST_VARIABLES = 500
"""Variables of a server that are looked at."""
_POWER_UNITS = frozenset(("kwh", "kw", "kva", "kvar", "kvarh", "kvah", "a", "v", "hz", "ratio"))
_SOUNDS_LIKE_POWER = re.compile(r"power|energy|kwh?\b|watt|电能|功率|电度", re.IGNORECASE)
_ANY = {"name": "probe", "unit": "1", "node": "i=2258"}
"""Settings of a collector need a channel; a probe finds them."""


async def answers(target: Target, port: int) -> Outcome:
    """The server at a target: its variables that measure power, energy and the like."""
    mapping = target.collector("opcua", port)
    config = registry.parse({**mapping, "channels": [_ANY]})
    if not isinstance(config, OpcUaConfig):
        raise ConfigError("is not opcua", key="kind")
    session = Session(config.access(target.host))
    try:
        return Outcome((await _found(session, mapping),))
    finally:
        await session.close()


async def _found(session: Session, mapping: Mapping[str, Any]) -> Found:
    variables = await session.variables(MOST_VARIABLES)
    channels, questions = _channels(variables)
    given = await session.read([channel.node for channel in channels])
    values: dict[str, float] = {}
    problems = []
    for channel in channels:
        try:
            values[channel.name] = value_in(channel, given[channel.node], datetime.now(UTC), 0.0)
        except NoValue as error:
            problems.append(f"{channel.node} {error}")
    notes = (f"{len(variables)} variables with a number", *questions, *problems)
    return Found("", f"OPC UA server {mapping['host']}", values, notes, _yaml(mapping, channels))


def _channels(variables: Sequence[Variable]) -> tuple[list[OpcUaChannel], list[str]]:
    """A channel for every variable in a unit of power; a question for those that only sound like it."""
    found: dict[str, OpcUaChannel] = {}
    questions = []
    for one in variables:
        suffix = _suffix(one.unit)
        if suffix in _POWER_UNITS:
            name = _name(one.path, suffix, found)
            found[name] = OpcUaChannel.model_validate({"name": name, "unit": one.unit, "node": one.node})
        elif _SOUNDS_LIKE_POWER.search(one.path):
            unit = f"unit {one.unit!r}" if one.unit else "no unit"
            questions.append(
                f"{one.node} {one.path!r} has {unit}: what does it measure? Add it with its unit"
            )
    return list(found.values()), questions


def _suffix(unit: str) -> str:
    try:
        return delivered_unit(unit)
    except KeyError:
        return ""


def _name(path: str, suffix: str, taken: Mapping[str, object]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "_", path.lower()).strip("_").removesuffix(f"_{suffix}")
    stem = stem if re.match(r"[a-z]", stem) else f"v{stem}"
    name, n = f"{stem}_{suffix}", 2
    while name in taken:
        name, n = f"{stem}_{n}_{suffix}", n + 1
    return name


def _yaml(mapping: Mapping[str, Any], channels: Sequence[OpcUaChannel]) -> str:
    """The meter as the site file has it, with points for its energies and powers; without a password."""
    name = re.sub(r"[^A-Za-z0-9.-]", "-", str(mapping["host"])).strip("-")
    collector = {key: value for key, value in mapping.items() if key not in ("password", "timeout_s")}
    collector["channels"] = [{"name": c.name, "unit": c.unit, "node": c.node} for c in channels]
    points = [
        {"id": f"{name}-{c.name}", "role": "other", "kind": c.kind, "channel": c.name}
        for c in channels
        if c.kind in ("register", "power")
    ]
    how: dict[str, Any] = {"allow_unicode": True, "sort_keys": False, "default_flow_style": None}
    return str(yaml.safe_dump([{"id": name, "collector": collector, "points": points}], width=110, **how))
