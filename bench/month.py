"""A month of a site with the faults that registers have, made up so that the truth is known.

Fifty meters, each with a register and a power point, read every minute by a clock that is a second or two
off: two incomers, PDU outputs, cooling, power distribution, lighting and offices. Six registers wrap, two
are replaced (one shows more than before, one begins at zero), three meters are silent for six hours, and one
reading in a hundred comes after all others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.store.readings import to_us

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

START, END = datetime(2026, 8, 31, 16, tzinfo=UTC), datetime(2026, 9, 30, 16, tzinfo=UTC)
"""September 2026 in Asia/Shanghai."""
INTERVAL_S = 60
MINUTE_US = 60_000_000
JITTER_S = 2
LATE_SHARE = 0.01
MODULUS_KWH = 100_000.0
RESOLUTION_KWH = RESOLUTION_KW = 0.01
LOSS_RATIO = 0.05
"""Share of the consumers' power that is lost on the way to them."""
_GROUPS = (("it", 36, 20.0), ("cooling", 8, 25.0), ("power_distribution", 1, 12.0), ("lighting", 2, 3.0))
_ROLES = {"it": "it_pdu_output", "incomer": "facility"}
WRAPS = ("it0", "it1", "it2", "cooling0", "cooling1", "incomer0")
REPLACED = {"it10": 70_000.0, "cooling5": 0.0}
"""Meters that are replaced in the middle of the month, and what the new register shows at first. [kWh]"""
SILENT = ("it20", "it21", "incomer1")
_SILENT_FROM, _SILENT_MINUTES = 10 * 1440 + 300, 360
_REPLACED_AT = 15 * 1440 + 607


class Replacement(NamedTuple):
    """What the fitter wrote down."""

    meter: str
    at_us: int
    old_kwh: float
    new_kwh: float


class Month(NamedTuple):
    """Readings of all points, and what is true."""

    names: list[str]
    """Ids of the points; `point` counts in them."""
    point: Ints
    at_us: Ints
    value: Floats
    is_late: npt.NDArray[np.bool_]
    energy_kwh: dict[str, float]
    """True energy of each meter from :data:`START` to :data:`END`."""
    replacements: list[Replacement]

    def of_role(self, role: str) -> float:
        """True energy of all meters of a role. [kWh]"""
        return sum(kwh for meter, kwh in self.energy_kwh.items() if role_of(meter) == role)

    @property
    def pue(self) -> float:
        """True PUE of the month."""
        return self.of_role("facility") / self.of_role("it_pdu_output")


def meters(share: float = 1.0) -> list[str]:
    """Ids of all meters; of a smaller site only that share of each group."""
    consumers = [f"{name}{n}" for name, count, _ in _GROUPS for n in range(max(round(count * share), 1))]
    return ["incomer0", "incomer1", *consumers, "other0"]


def role_of(meter: str) -> str:
    """The role of a meter's points."""
    group = meter.rstrip("0123456789")
    return _ROLES.get(group, group)


def modulus_of(meter: str) -> float:
    """Where a register wraps; inf for those that do not. [kWh]"""
    return MODULUS_KWH if meter in WRAPS else np.inf


def generate(minutes: int = 43_200, seed: int = 16) -> Month:
    """The month, or its first `minutes`."""
    random = np.random.default_rng(seed)
    grid_us = to_us(START) + np.arange(-1, minutes + 2, dtype=np.int64) * MINUTE_US
    power = _power(random, meters(), len(grid_us))
    names: list[str] = []
    energy: dict[str, float] = {}
    replaced: list[Replacement] = []
    parts = []
    for meter in meters():
        counted = np.concatenate([[0.0], np.cumsum(power[meter][:-1]) / 60])
        at_us = grid_us + random.integers(-JITTER_S, JITTER_S + 1, len(grid_us)) * 1_000_000
        kept = np.ones(len(at_us), np.bool_)
        if meter in SILENT:
            kept[_SILENT_FROM : _SILENT_FROM + _SILENT_MINUTES] = False
        true_kwh = np.interp(at_us, grid_us, counted)
        energy[meter] = float(counted[-2] - counted[1])
        shown = _shown(random, meter, true_kwh, at_us, replaced)
        now_kw = power[meter][np.clip(np.searchsorted(grid_us, at_us, "right") - 1, 0, None)]
        for kind, value in (("kwh", shown), ("kw", np.round(now_kw, 2))):
            parts.append((np.full(int(kept.sum()), len(names)), at_us[kept], value[kept]))
            names.append(f"{meter}.{kind}")
    point, at_us, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((point, at_us))
    is_late = random.random(len(order)) < LATE_SHARE
    return Month(names, point[order], at_us[order], value[order], is_late, energy, replaced)


def _power(random: np.random.Generator, names: list[str], count: int) -> dict[str, Floats]:
    """True power of each meter in each minute. [kW]"""
    sizes = {"other": 8.0, **{name: kw for name, _, kw in _GROUPS}}
    day = np.sin(np.arange(count) * 2 * np.pi / 1440)
    out: dict[str, Floats] = {}
    for name in names[2:]:
        group = name.rstrip("0123456789")
        swing = 0.05 if group == "it" else 0.25
        wander = np.repeat(random.normal(0, 0.03, count // 30 + 1), 30)[:count]
        noise = random.normal(0, 0.02, count)
        out[name] = sizes[group] * random.uniform(0.7, 1.3) * (1 + swing * day + wander + noise)
    facility = np.sum(list(out.values()), axis=0) * (1 + LOSS_RATIO)
    return {"incomer0": 0.55 * facility, "incomer1": 0.45 * facility, **out}


def _shown(
    random: np.random.Generator, meter: str, true_kwh: Floats, at_us: Ints, replaced: list[Replacement]
) -> Floats:
    """What the register shows at its readings. [kWh]"""
    first = random.uniform(1e4, 6e4)
    if meter in WRAPS:
        first = MODULUS_KWH - true_kwh[-1] * random.uniform(0.3, 0.7) % MODULUS_KWH
    shown = first + true_kwh
    if meter in REPLACED and len(shown) > _REPLACED_AT + 1:
        old_kwh = round(float(shown[_REPLACED_AT]), 2)
        shown[_REPLACED_AT + 1 :] += REPLACED[meter] - old_kwh
        at = int(at_us[_REPLACED_AT]) + 10_000_000
        replaced.append(Replacement(meter, at, old_kwh, REPLACED[meter]))
    counted = np.floor(shown / RESOLUTION_KWH) * RESOLUTION_KWH
    return np.round(counted % MODULUS_KWH if meter in WRAPS else counted, 2)


def site_file(share: float = 1.0) -> str:
    """The site file of the month's site."""
    lines = ["institutions: [{id: b, institution_class: joint_stock}]", "sites:", "  - id: s"]
    lines += ["    institution: b", "    time_zone: Asia/Shanghai", "    meters:"]
    for meter in meters(share):
        fed = "" if meter.startswith("incomer") else ", fed_by: [incomer0, incomer1]"
        rated = 2000 if meter.startswith("incomer") else 63
        modulus = f", modulus_kwh: {MODULUS_KWH:.0f}" if meter in WRAPS else ""
        of = f"role: {role_of(meter)}, interval_s: {INTERVAL_S}"
        register = f"{{id: {meter}.kwh, {of}, kind: register{modulus}}}"
        power = f"{{id: {meter}.kw, role: none, interval_s: {INTERVAL_S}, kind: power}}"
        lines.append(f"      - {{id: {meter}, rated_power_kw: {rated}{fed}, points: [{register}, {power}]}}")
    return "\n".join(lines) + "\n"


def write_csv(file: Path, month: Month, rows: npt.NDArray[np.bool_]) -> None:
    """Some rows of the month as a long export."""
    with file.open("w") as out:
        out.write("time,point,value\n")
        chosen = np.flatnonzero(rows)
        for begin in range(0, len(chosen), 100_000):
            some = chosen[begin : begin + 100_000]
            at = np.datetime_as_string(month.at_us[some].view("datetime64[us]"), unit="s").tolist()
            names = [month.names[n] for n in month.point[some].tolist()]
            values = month.value[some].tolist()
            out.writelines(f"{a}Z,{p},{v:.2f}\n" for a, p, v in zip(at, names, values, strict=True))
