"""What a Prometheus server has that looks like power or energy, as channels for the site file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from collectors.found import Found, Outcome, Target
from collectors.http import HttpSession, url_of
from collectors.profiles.profile import config_error, delivered, delivered_unit
from collectors.prometheus.server import Labels, PrometheusAccess, Server

POWER_LIKE = "(?i).*(power|watt|joule|energy|kwh|_wh_|_wh$).*"
"""Names of metrics that may be power or energy."""
_NOT = re.compile(
    r"(?i)powered|power_state|power_on|power_supply_(status|state|health)|_info$|bucket$|_limit"
)
MOST_CHANNELS = 200
_UNITS: tuple[tuple[str, str, float], ...] = (
    (r"DCGM_FI_DEV_TOTAL_ENERGY", "J", 1e-3),
    (r"DCGM_FI_DEV_POWER", "W", 1.0),
    (r"milliwatts?", "W", 1e-3),
    (r"microwatts?", "W", 1e-6),
    (r"microjoules?", "J", 1e-6),
    (r"kilowatts?_?hours?|kwh", "kWh", 1.0),
    (r"watt_?hours?|_wh(_|$)", "Wh", 1.0),
    (r"kilowatts?|_kw(_|$)", "kW", 1.0),
    (r"watts?", "W", 1.0),
    (r"joules?", "J", 1.0),
)
"""What a name says of the unit: pattern, unit, factor; the first that fits."""


class _One(NamedTuple):
    metric: str
    labels: Labels
    unit: str
    """Empty where the name does not tell."""
    scale: float
    value: float


async def answers(target: Target, port: int) -> Outcome:
    """Series that look like power or energy; those whose unit the name tells become channels.

    Raises
    ------
    CollectError
        If no Prometheus answers.
    ConfigError
        If the access is not understood.
    """
    given = {"kind": "prometheus", "url": url_of(target, port, "http"), **target.options}
    try:
        access = PrometheusAccess.model_validate({"timeout_s": target.timeout_s or 10.0, **given})
    except ValidationError as error:
        raise config_error(error) from None
    access.check()
    session = HttpSession(access.host, access)
    try:
        found = await Server(session).instant(f'{{__name__=~"{POWER_LIKE}"}}')
    finally:
        await session.close()
    series = [_one(labels, value) for labels, value in found if not _NOT.search(labels.get("__name__", ""))]
    if not series:
        return Outcome((), ("Prometheus: it answers, but no metric is named like power or energy",))
    return Outcome((_found(series, given),))


def _one(labels: Labels, value: float) -> _One:
    metric = labels.get("__name__", "")
    unit, scale = next(((u, s) for pattern, u, s in _UNITS if re.search(pattern, metric)), ("", 1.0))
    return _One(metric, {k: v for k, v in labels.items() if k != "__name__"}, unit, scale, value)


def _found(series: list[_One], given: Mapping[str, object]) -> Found:
    known = sorted((s for s in series if s.unit), key=lambda s: (s.metric, sorted(s.labels.items())))
    unknown = sorted({s.metric for s in series if not s.unit})
    values: dict[str, float] = {}
    channels: list[dict[str, Any]] = []
    for one in known[:MOST_CHANNELS]:
        number = sum(c["query"] == one.metric for c in channels) + 1
        name = f"{one.metric.lower()}_{number}_{delivered_unit(one.unit)}"
        values[name] = delivered(one.value * one.scale, one.unit)
        channel = {"name": name, "query": one.metric, "labels": _telling(one, known), "unit": one.unit}
        channels.append(channel | ({"scale": one.scale} if one.scale != 1 else {}))
    notes = [f"{len(known)} series whose unit the name tells"]
    if len(known) > MOST_CHANNELS:
        notes.append(f"only the first {MOST_CHANNELS} are listed")
    if unknown:
        notes.append(f"unit unknown, describe them yourself: {', '.join(unknown[:30])}")
    meter = {"id": "prometheus", "collector": {**given, "channels": channels}, "points": []}
    text = yaml.safe_dump([meter], allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    return Found("", "Prometheus", values, tuple(notes), text)


def _telling(one: _One, all_series: Iterable[_One]) -> dict[str, str]:
    """The labels that tell a series from the others of its metric; none where it is the only one."""
    others = [s.labels for s in all_series if s.metric == one.metric and s is not one]
    if not others:
        return {}
    telling = {k: v for k, v in one.labels.items() if any(other.get(k) != v for other in others)}
    return telling if all(not telling.items() <= other.items() for other in others) else dict(one.labels)
