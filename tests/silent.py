"""Plants with one fault over known true energies, and whether the fault stays silent.

Silent is a PUE that is said, is wrong beyond its uncertainty, and has no finding of weight that names
the meter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from app.domain.energy import Series
from app.domain.quality.finding import Finding, Severity
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site, Stage
from tests.plant import Plant, series

T0_US = 1_780_272_000_000_000
HOUR_US = 3_600_000_000
HOURS = 48
TOLERANCE = 0.03
"""Relative error that is no fault: rounding, and readings that are missing around it."""

FAULTS = (
    "none",
    "missing_fed_by",
    "under_one_parent",
    "double_meter",
    "double_facility",
    "unit_slip",
    "replaced",
    "jump",
    "swapped_columns",
    "swapped_feeds",
    "wrong_ct",
    "wrong_ct_beside_power",
    "export",
    "reversed",
    "bypass",
    "stuck",
    "interleaved",
    "unit_slip_power",
    "ct_at_a_date",
    "stuck_catches_up",
    "daily_restart",
    "power_gaps",
)


@dataclass(frozen=True)
class Plan:
    """One plant and what is wrong with it."""

    fault: str
    it_kw: float
    pue: float
    swing: float
    """Relative daily swing of the IT load."""
    noise: float
    per_hour: int
    """Readings in an hour."""
    is_rated: bool
    victim: int
    """Which meter the fault is at."""
    at: float
    """When in the stretch it begins. [0..1]"""
    factor: float
    """Of units and transformers, and by how much a new register differs."""
    seed: int


def power_kw(plan: Plan) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """True mean power between the readings by meter."""
    count = HOURS * plan.per_hour
    rng = np.random.default_rng(plan.seed)
    hour = np.arange(count) / plan.per_hour
    shape = 1 + plan.swing * np.sin(hour * 2 * np.pi / 24) + plan.noise * rng.standard_normal(count)
    it = plan.it_kw * np.clip(shape, 0.2, None)
    share = 0.6 + 0.1 * np.sin(hour / 7)
    return {"main": it * plan.pue, "ups": it, "pdu1": it * 0.97 * share, "pdu2": it * 0.97 * (1 - share)}


class Build:
    """Registers, and powers where they are wanted, of a plant that is in order; faults change them."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.power = plan, power_kw(plan)
        count = HOURS * plan.per_hour + 1
        self.at_us = T0_US + np.arange(count) * (HOUR_US // plan.per_hour)
        self.values = {
            f"{name}.kwh": np.round(1000 * (n + 3) + np.concatenate([[0], np.cumsum(kw)]) / plan.per_hour, 2)
            for n, (name, kw) in enumerate(self.power.items())
        }
        self.fed_by = {"main": (), "ups": ("main",), "pdu1": ("ups",), "pdu2": ("ups",)}
        self.roles = {
            "main": Role.FACILITY,
            "ups": Role.IT_UPS_OUTPUT,
            "pdu1": Role.IT_PDU_OUTPUT,
            "pdu2": Role.IT_PDU_OUTPUT,
        }
        self.kinds: dict[str, ReadingKind] = {}
        self.multiplier: dict[str, float] = {}
        self.beside: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
        self.row = min(max(round(plan.at * (count - 1)), 3), count - 4)

    def plant(self) -> Plant:
        """The site and its readings as they are now."""
        meters = tuple(self._meter(name) for name in self.roles)
        site = Site(id="s", institution="b", time_zone="UTC", meters=meters)
        points = [p.id for m in meters for p in m.points]
        values = {**self.values, **self.beside}
        return Plant(site, {key: self._series(values[key]) for key in points})

    def _series(self, value: np.ndarray) -> Series:  # type: ignore[type-arg]
        return series(self.at_us, value)

    def _meter(self, name: str) -> Meter:
        interval_s = 3600 // self.plan.per_hour
        kind = self.kinds.get(name, ReadingKind.REGISTER)
        key, role = f"{name}.kwh", self.roles[name]
        point = Point(id=key, role=role, kind=kind, interval_s=interval_s)
        points = [replace(point, multiplier=self.multiplier.get(name, 1.0))]
        if f"{name}.kw" in self.beside:
            points.append(Point(id=f"{name}.kw", role=role, kind=ReadingKind.POWER, interval_s=interval_s))
        rated = 2.5 * self.plan.it_kw if self.plan.is_rated else float("inf")
        return Meter(
            id=name,
            points=tuple(points),
            fed_by=self.fed_by[name],
            rated_power_kw=rated,
            accuracy_class_percent=0.5,
            stage={"main": Stage.UTILITY, "ups": Stage.UPS}.get(name, Stage.PDU),
        )


def _missing_fed_by(build: Build) -> str:
    build.fed_by |= {"pdu1": (), "pdu2": ()}
    return "pdu1"


def _under_one_parent(build: Build) -> str:
    build.fed_by |= {"pdu1": ("main",), "pdu2": ("main",)}
    return "pdu1"


def _double_meter(build: Build) -> str:
    _only_pdus(build)
    build.roles["copy"], build.fed_by["copy"] = Role.IT_PDU_OUTPUT, ("main",)
    build.values["copy.kwh"] = np.round(build.values["pdu1.kwh"] * 1.002 + 17, 2)
    return "pdu1"


def _double_facility(build: Build) -> str:
    build.roles["copy"], build.fed_by["copy"] = Role.FACILITY, ()
    build.values["copy.kwh"] = np.round(build.values["main.kwh"] * 0.995 + 17, 2)
    return "main"


def _only_pdus(build: Build) -> None:
    del build.roles["ups"]
    build.fed_by |= {"pdu1": ("main",), "pdu2": ("main",)}


def _only_ups(build: Build) -> None:
    del build.roles["pdu1"], build.roles["pdu2"]


def _gating(build: Build) -> str:
    return ("main", "ups")[build.plan.victim % 2]


def _unit_slip(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    build.values[f"{name}.kwh"][build.row :] *= (1000.0, 0.001, 40.0, 10.0)[build.plan.victim // 2 % 4]
    return name


def _replaced(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    value = build.values[f"{name}.kwh"]
    value[build.row :] += 5 * build.plan.factor - value[build.row]
    return name


def _jump(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    build.values[f"{name}.kwh"][build.row :] += 400 * build.plan.it_kw * (1 + build.plan.factor)
    return name


def _swapped_columns(build: Build) -> str:
    _only_ups(build)
    values = build.values
    values["main.kwh"], values["ups.kwh"] = values["ups.kwh"], values["main.kwh"]
    return "ups"


def _swapped_feeds(build: Build) -> str:
    values = build.values
    values["ups.kwh"], values["pdu1.kwh"] = values["pdu1.kwh"], values["ups.kwh"]
    return "ups"


def _wrong_ct(build: Build) -> str:
    """With meters above and below it: the tree shows it."""
    build.multiplier["ups"] = (0.5, 0.1, 10.0, 0.025)[build.plan.victim % 4]
    return "ups"


def _wrong_ct_beside_power(build: Build) -> str:
    """With the power of the same meter beside it."""
    _only_ups(build)
    name = _gating(build)
    build.multiplier[name] = (2.0, 0.1, 40.0, 0.5)[build.plan.victim // 2 % 4]
    kw = build.power[name]
    build.beside[f"{name}.kw"] = np.round((np.append(kw, kw[-1]) + np.append(kw[0], kw)) / 2, 2)
    return name


def _export(build: Build) -> str:
    """The sun makes more than is used for six hours a day, and the facility's power falls below zero."""
    _only_ups(build)
    build.kinds["main"] = ReadingKind.POWER
    hour = np.arange(len(build.at_us)) / build.plan.per_hour % 24
    kw = np.append(build.power["main"], build.power["main"][-1])
    build.values["main.kwh"] = np.round(np.where((hour >= 10) & (hour < 16), -0.3 * kw, kw), 2)
    return "main"


def _reversed(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    build.values[f"{name}.kwh"] = np.round(1e6 - build.values[f"{name}.kwh"], 2)
    return name


def _bypass(build: Build) -> str:
    _only_ups(build)
    value = build.values["ups.kwh"]
    last = min(build.row + 8 * build.plan.per_hour, len(value) - 1)
    value[last:] -= value[last] - value[build.row]
    value[build.row : last] = value[build.row]
    return "ups"


def _stuck(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    value = build.values[f"{name}.kwh"]
    last = min(build.row + 12 * build.plan.per_hour, len(value) - 1)
    value[build.row : last] = value[build.row]
    return name


def _interleaved(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    rows = build.row + np.array([0, 1, 3, 5, 6])
    rows = rows[rows < len(build.at_us)]
    build.values[f"{name}.kwh"][rows] = 9_000_000 * build.plan.factor + np.arange(len(rows))
    return name


def _as_power(build: Build, name: str) -> np.ndarray:  # type: ignore[type-arg]
    build.kinds[name] = ReadingKind.POWER
    return np.append(build.power[name], build.power[name][-1])


def _unit_slip_power(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    kw = _as_power(build, name)
    kw[build.row :] *= (1000.0, 0.001, 40.0, 0.025)[build.plan.victim // 2 % 4]
    build.values[f"{name}.kwh"] = np.round(kw, 5)
    return name


def _ct_at_a_date(build: Build) -> str:
    """The meter counts by another ratio, between the tenth hour and the tenth before the end."""
    _only_ups(build)
    name = _gating(build)
    row = round((10 + build.plan.at * (HOURS - 20)) * build.plan.per_hour)
    value = build.values[f"{name}.kwh"]
    factor = (0.5, 2.0, 0.2, 4.0)[build.plan.victim // 2 % 4]
    value[row:] = np.round(value[row] + (value[row:] - value[row]) * factor, 2)
    return name


def _stuck_catches_up(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    value = build.values[f"{name}.kwh"]
    value[build.row : min(build.row + 12 * build.plan.per_hour, len(value) - 4)] = value[build.row]
    return name


def _daily_restart(build: Build) -> str:
    _only_ups(build)
    name = _gating(build)
    value = build.values[f"{name}.kwh"]
    day = np.arange(len(value)) // (24 * build.plan.per_hour)
    build.values[f"{name}.kwh"] = np.round(value - value[day * 24 * build.plan.per_hour], 2)
    return name


def _power_gaps(build: Build) -> str:
    """A tenth of the day is not sampled, at the hours of the highest load."""
    _only_ups(build)
    name = _gating(build)
    kw = _as_power(build, name)
    hour = np.arange(len(kw)) / build.plan.per_hour % 24
    kw[(hour > 5) & (hour < 8)] = np.nan
    build.values[f"{name}.kwh"] = kw
    return name


_FAULTS: dict[str, Callable[[Build], str]] = {
    "missing_fed_by": _missing_fed_by,
    "under_one_parent": _under_one_parent,
    "double_meter": _double_meter,
    "double_facility": _double_facility,
    "unit_slip": _unit_slip,
    "replaced": _replaced,
    "jump": _jump,
    "swapped_columns": _swapped_columns,
    "swapped_feeds": _swapped_feeds,
    "wrong_ct": _wrong_ct,
    "wrong_ct_beside_power": _wrong_ct_beside_power,
    "export": _export,
    "reversed": _reversed,
    "bypass": _bypass,
    "stuck": _stuck,
    "interleaved": _interleaved,
    "unit_slip_power": _unit_slip_power,
    "ct_at_a_date": _ct_at_a_date,
    "stuck_catches_up": _stuck_catches_up,
    "daily_restart": _daily_restart,
    "power_gaps": _power_gaps,
}


@dataclass(frozen=True)
class Result:
    """What was said of a plant."""

    pue: float | None
    true_pue: float
    named: tuple[str, ...]
    """Kinds of the findings of weight that name the meter."""

    @property
    def is_silent(self) -> bool:
        """Whether a wrong figure stands there without a word."""
        if self.pue is None or self.named:
            return False
        return abs(self.pue / self.true_pue - 1) > TOLERANCE


def result(plan: Plan) -> Result:
    """Build the plant and see what is said about it."""
    build = Build(plan)
    name = _FAULTS[plan.fault](build) if plan.fault in _FAULTS else ""
    plant = build.plant()
    found = plant.pue()
    names_it = tuple(sorted({f.kind.value for f in plant.findings if name and _names(f, name)}))
    return Result(found.pue, plan.pue / _it_share(build), names_it)


def _it_share(build: Build) -> float:
    """IT energy at the place where it counts, by the energy behind the UPS."""
    return 1.0 if "ups" in build.roles else 0.97


def _names(finding: Finding, name: str) -> bool:
    told = " ".join([finding.point, *(str(v) for v in finding.evidence.values())])
    return finding.severity is not Severity.INFO and f"{name}" in told
