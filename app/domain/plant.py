"""Plant indicators: how well cooling and power supply work, part by part, and what is missing to tell.

Every indicator is a value with its unit, period, coverage and points, or no value and why: the meter that is
missing, too little coverage, an open finding of one of its points, or a result that no plant can have.
Formulas and sources are in ``docs/METHOD.md``; typical values are dated data (``data/plant_values.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import hypot
from typing import NamedTuple

import numpy as np

from app.domain import ups
from app.domain.limits import is_too_low
from app.domain.plant_series import (
    IT,
    Bools,
    Column,
    Floats,
    PlantSeries,
    known_together,
    missing_of,
    points_of,
)
from app.domain.quantity import Role
from app.domain.site import Equipment
from app.domain.typical import PlantTypical, Standing

KWH_PER_M3_K = 1.163
"""Heat that a cubic metre of water carries per kelvin. [kWh/(m3 K)]"""
KW_PER_TON = 3.517
"""One ton of refrigeration. [kW]"""
RUNNING_RATIO = 0.1
"""A chiller that draws less than this share of its rating, or of its 95th percentile, stands by."""
LEAST_HOURS = 4.0
"""Hours of operation from which an indicator is given."""
MOST_COP, MOST_KW_PER_K = 25.0, 60.0
"""No chiller does better; no chilled water is warmed by more kelvin."""


class Reason(StrEnum):
    """Why an indicator has no value."""

    MISSING = "missing"
    """A meter, a sensor or a key of the site file is not there."""
    UNDECIDED = "undecided"
    """The site file leaves open which meters count: the same load could be counted twice."""
    COVERAGE = "coverage"
    """The meters cover too little of the period."""
    WAITS = "waits"
    """A finding about one of the meters is open."""
    IDLE = "idle"
    """What it describes did not happen in the period: no chiller ran, no hour was cold enough."""
    IMPOSSIBLE = "impossible"
    """No plant can have this value: a meter, its sign, its place or its role is wrong."""
    AMBIGUOUS = "ambiguous"
    """Several flows whose temperatures cannot be distinguished: put them on the meters of their flows."""
    UNSEEN = "unseen"
    """The loads have hardly varied: what another load would lose has not been seen, a trial would show it."""
    WITHIN_ERROR = "within_error"
    """The saving is not larger than the errors of the meters and the fit."""


@dataclass(frozen=True, kw_only=True)
class PlantIndicator:
    """One indicator over a period."""

    name: str
    unit: str
    """``ratio``, ``percent``, ``K``, ``kW/ton``, ``h`` ..."""
    subject: str = ""
    """Meters it is of, where there are several of a kind."""
    value: float | None = None
    uncertainty: float | None = None
    """Half width by the accuracy classes of the meters, in the unit; None where none is stated."""
    reason: Reason | None = None
    missing: tuple[str, ...] = ()
    """``role:...``, ``equipment:...`` or ``key:...`` of what is not there."""
    waits_for: tuple[str, ...] = ()
    poorly_covered: tuple[str, ...] = ()
    coverage_ratio: float = 0.0
    """Share of the period in which all of its points are known."""
    points: tuple[str, ...] = ()
    inputs: Mapping[str, float] = field(default_factory=dict)
    """What it was computed from; units in the names."""
    regions: tuple[ups.Region, ...] = ()
    """Efficiency by load, of a UPS."""
    typical: PlantTypical | None = None

    @property
    def standing(self) -> Standing | None:
        """The value against the typical ones; None where either is missing."""
        if self.value is None or self.typical is None:
            return None
        return self.typical.standing(self.value)


class Found(NamedTuple):
    """What a computation gives: a value, or why there is none."""

    value: float | None
    inputs: Mapping[str, float] = {}
    reason: Reason | None = None


Compute = Callable[[Bools], Found]


def indicators(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    """Every plant indicator of a site over a period, in the order of its pages and reports."""
    return (
        *_load_factors(plant),
        *_chillers(plant),
        *ups_efficiency(plant),
        *_shares(plant),
        *_water(plant),
        *_air(plant),
        free_cooling(plant),
        *_it(plant),
    )


def _indicator(
    plant: PlantSeries,
    name: str,
    unit: str,
    columns: Sequence[Column],
    compute: Compute,
    *,
    counts: bool = False,
    subject: str = "",
    lacks: Sequence[str] = (),
) -> PlantIndicator:
    """An indicator over the intervals in which all of its columns are known, by the rules for all.

    `counts`: it rests on what counts into PUE, so findings of the site hold it back, too.
    """
    rows = known_together(columns)
    made = PlantIndicator(
        name=name,
        unit=unit,
        subject=subject,
        points=points_of(columns),
        coverage_ratio=float(rows.mean()),
        missing=(*missing_of(columns), *lacks),
        typical=plant.typical(name),
    )
    if made.missing:
        reason = Reason.UNDECIDED if made.missing == (IT,) and plant.has_it else Reason.MISSING
        return replace(made, reason=reason)
    waits = plant.waits_for(made.points, counts=counts)
    if waits:
        return replace(made, reason=Reason.WAITS, waits_for=waits)
    if is_too_low(made.coverage_ratio, plant.site.minimum_coverage_ratio):
        return replace(made, reason=Reason.COVERAGE, poorly_covered=plant.poorly_covered(made.points))
    found = compute(rows)
    value = None if found.reason else found.value
    return replace(made, value=value, inputs=found.inputs, reason=found.reason)


# -- load factors (The Green Grid, ASHRAE 90.4) ------------------------------------------------------


def _load_factors(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    it = plant.it_kw()
    cooling, losses = plant.role_kw(Role.COOLING), plant.role_kw(Role.POWER_DISTRIBUTION)
    return (
        _by_it(plant, "cooling_load_factor", cooling, it, "cooling_kwh"),
        _by_it(plant, "mechanical_load_component", cooling, it, "cooling_kwh"),
        _by_it(plant, "electrical_loss_component", losses, it, "losses_kwh"),
    )


def _by_it(plant: PlantSeries, name: str, part: Column, it: Column, part_name: str) -> PlantIndicator:
    """Energy of a load class by IT energy."""

    def compute(rows: Bools) -> Found:
        kwh = plant.sums_kwh({part_name: part, "it_kwh": it}, rows)
        if kwh["it_kwh"] <= 0:
            return Found(None, kwh, Reason.IDLE)
        return Found(kwh[part_name] / kwh["it_kwh"], kwh, _negative(kwh))

    made = _indicator(plant, name, "ratio", (part, it), compute, counts=True)
    return _with_uncertainty(plant, made, part, it)


def _negative(kwh: Mapping[str, float]) -> Reason | None:
    return Reason.IMPOSSIBLE if min(kwh.values()) < 0 else None


def _with_uncertainty(plant: PlantSeries, made: PlantIndicator, *columns: Column) -> PlantIndicator:
    """With the uncertainty of a quotient of sums of meters whose errors are independent."""
    if made.value is None:
        return made
    percent = hypot(*(plant.class_percent(c.points) for c in columns))
    return replace(made, uncertainty=made.value * percent / 100)


# -- chillers ----------------------------------------------------------------------------------------


def heat_removed_kw(plant: PlantSeries) -> tuple[Column, bool]:
    """Heat that the cooling carries away: by heat meters, else by flow and temperatures; whether it is clear.

    Returns
    -------
    tuple of Column and bool
        [kW] thermal; False where there are several flows whose temperatures cannot be distinguished.
    """
    metered = plant.heat_kw()
    flows = plant.sensors(Role.CHILLED_WATER_FLOW)
    if metered.points or flows.empty:
        return metered, True
    supply, back = (plant.sensors(r) for r in (Role.CHILLED_WATER_SUPPLY, Role.CHILLED_WATER_RETURN))
    if supply.empty or back.empty:
        lacks = Role.CHILLED_WATER_SUPPLY if supply.empty else Role.CHILLED_WATER_RETURN
        return Column(f"role:{lacks.value}", metered.values, ()), True
    points = tuple(str(p) for table in (flows, supply, back) for p in table.columns)
    loops = [_loop(plant, str(flow), list(supply.columns), list(back.columns)) for flow in flows.columns]
    if any(loop is None for loop in loops):
        return Column(metered.name, np.zeros(len(plant.index)), points), False
    heat = sum(
        (
            flows[flow].to_numpy() * (back[loop[1]].to_numpy() - supply[loop[0]].to_numpy()) * KWH_PER_M3_K
            for flow, loop in zip(flows.columns, loops, strict=True)
            if loop is not None
        ),
        np.zeros(len(plant.index)),
    )
    return Column(metered.name, heat, points), True


def _loop(plant: PlantSeries, flow: str, supplies: list[str], returns: list[str]) -> tuple[str, str] | None:
    """Supply and return of a flow: those of its own meter, or the only ones there are."""
    if len(supplies) == len(returns) == 1:
        return supplies[0], returns[0]
    meter = plant.meter_of(flow)
    own = [[p for p in points if plant.meter_of(p) == meter] for points in (supplies, returns)]
    return (own[0][0], own[1][0]) if len(own[0]) == len(own[1]) == 1 else None


def chillers_on(plant: PlantSeries) -> Column:
    """1 where a chiller runs, 0 where none does: by their state, else by their power."""
    states = plant.sensors(Role.CHILLER_RUNNING)
    if len(states.columns):
        runs = np.where(states.isna(), np.nan, states.to_numpy() > 0.5)
        return Column(f"role:{Role.CHILLER_RUNNING.value}", _any(runs), tuple(states.columns))
    meters = [m for m in plant.now.meters if m.equipment is Equipment.CHILLER]
    columns = [plant.meters_kw(m.id, [m.id]) for m in meters]
    if not columns:
        return plant.equipment_kw(Equipment.CHILLER)
    each = [_is_on(c.values, m.rated_power_kw) for c, m in zip(columns, meters, strict=True)]
    return Column(f"equipment:{Equipment.CHILLER.value}", _any(np.stack(each, axis=1)), points_of(columns))


def _is_on(power_kw: Floats, rated_kw: float) -> Floats:
    known = power_kw[~np.isnan(power_kw)]
    usual = float(np.percentile(known, 95)) if len(known) else 0.0
    least = RUNNING_RATIO * (rated_kw if np.isfinite(rated_kw) else usual)
    return np.where(np.isnan(power_kw), np.nan, (power_kw > least) & (power_kw > 0))


def _any(runs: Floats) -> Floats:
    """1 where one runs; unknown where none does and one is unknown."""
    on = (np.nan_to_num(runs) > 0).any(axis=1)
    return np.where(on, 1.0, np.where(np.isnan(runs).any(axis=1), np.nan, 0.0))


def free_heat_rows(plant: PlantSeries) -> Bools:
    """Intervals in which the outdoor air may take part of the heat: the chillers then do not carry all."""
    wet_bulb = plant.wet_bulb()
    back = plant.sensor(Role.CHILLED_WATER_RETURN)
    if not (wet_bulb.points and back.points):
        return np.zeros(len(plant.index), np.bool_)
    approach_k = plant.assumed("free_cooling_approach_k").low
    return np.asarray(wet_bulb.values + approach_k < back.values)


def _chillers(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    power, on = plant.equipment_kw(Equipment.CHILLER), chillers_on(plant)
    heat, is_clear = heat_removed_kw(plant)
    free = free_heat_rows(plant)

    def energies(rows: Bools) -> tuple[dict[str, float], Reason | None]:
        chosen = rows & (on.values > 0) & ~free
        kwh = plant.sums_kwh({"heat_kwh": heat, "chiller_kwh": power}, chosen)
        kwh["hours"] = plant.hours(chosen)
        if not is_clear:
            return {}, Reason.AMBIGUOUS
        if plant.hours(chosen) < LEAST_HOURS:
            return kwh, Reason.IDLE
        good = kwh["chiller_kwh"] > 0 and 0 < kwh["heat_kwh"] <= MOST_COP * kwh["chiller_kwh"]
        return kwh, None if good else Reason.IMPOSSIBLE

    def cop(rows: Bools) -> Found:
        kwh, reason = energies(rows)
        return Found(None if reason else kwh["heat_kwh"] / kwh["chiller_kwh"], kwh, reason)

    def kw_per_ton(rows: Bools) -> Found:
        kwh, reason = energies(rows)
        return Found(None if reason else KW_PER_TON * kwh["chiller_kwh"] / kwh["heat_kwh"], kwh, reason)

    columns = (power, heat, on)
    return (
        _indicator(plant, "chiller_cop", "ratio", columns, cop),
        _indicator(plant, "chiller_kw_per_ton", "kW/ton", columns, kw_per_ton),
    )


# -- UPS ---------------------------------------------------------------------------------------------


def ups_efficiency(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    """Efficiency of every UPS, with its course over the load."""
    found = ups.units(plant.now)
    if not found:
        none = Column("stage:ups", np.full(len(plant.index), np.nan), ())
        return (_indicator(plant, "ups_efficiency_ratio", "ratio", (none,), lambda rows: Found(None)),)
    return tuple(_ups(plant, unit) for unit in found)


def _ups(plant: PlantSeries, unit: ups.Unit) -> PlantIndicator:
    into, out = ups_columns(plant, unit)

    def compute(rows: Bools) -> Found:
        kwh = plant.sums_kwh({"in_kwh": into, "out_kwh": out}, rows)
        if kwh["in_kwh"] <= 0:
            return Found(None, kwh, Reason.IDLE)
        value = kwh["out_kwh"] / kwh["in_kwh"]
        if np.isfinite(unit.rated_kw):
            kwh["load_ratio"] = float(out.values[rows].mean()) / unit.rated_kw
        return Found(value, kwh, None if 0 < value <= 1 else Reason.IMPOSSIBLE)

    subject = ", ".join(unit.inputs)
    made = _indicator(plant, "ups_efficiency_ratio", "ratio", (into, out), compute, subject=subject)
    if made.value is None:
        return made
    rows = known_together((into, out))
    regions = ups.regions(into.values[rows], out.values[rows], unit.rated_kw, 1 / plant.per_hour)
    return _with_uncertainty(plant, replace(made, regions=regions), into, out)


def ups_columns(plant: PlantSeries, unit: ups.Unit) -> tuple[Column, Column]:
    """Power at the input and at the output of a UPS. [kW]"""
    return plant.meters_kw("stage:ups", unit.inputs), plant.meters_kw("stage:ups", unit.outputs)


# -- shares of the cooling ---------------------------------------------------------------------------

_SHARES = (
    ("chiller_share_ratio", (Equipment.CHILLER,)),
    ("pump_share_ratio", (Equipment.PUMP,)),
    ("tower_share_ratio", (Equipment.COOLING_TOWER,)),
    ("pumps_and_towers_share_ratio", (Equipment.PUMPS_AND_TOWERS,)),
    ("air_handler_share_ratio", (Equipment.AIR_HANDLER,)),
)


def _shares(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    """Share of the cooling energy by kind of equipment; a meter of both stands in for its two kinds."""
    together = plant.has_equipment(Equipment.PUMPS_AND_TOWERS)
    apart = plant.has_equipment(Equipment.PUMP) or plant.has_equipment(Equipment.COOLING_TOWER)
    hidden = {Equipment.PUMP, Equipment.COOLING_TOWER} if together and not apart else set[Equipment]()
    if not together:
        hidden = {Equipment.PUMPS_AND_TOWERS}
    return tuple(_share(plant, name, kinds) for name, kinds in _SHARES if kinds[0] not in hidden)


def _share(plant: PlantSeries, name: str, kinds: tuple[Equipment, ...]) -> PlantIndicator:
    part = plant.equipment_kw(*kinds, weighted=True)
    cooling = plant.role_kw(Role.COOLING)

    def compute(rows: Bools) -> Found:
        kwh = plant.sums_kwh({"part_kwh": part, "cooling_kwh": cooling}, rows)
        if kwh["cooling_kwh"] <= 0:
            return Found(None, kwh, Reason.IDLE)
        value = kwh["part_kwh"] / kwh["cooling_kwh"]
        return Found(value, kwh, None if 0 <= value <= 1 + 1e-9 else Reason.IMPOSSIBLE)

    return _indicator(plant, name, "ratio", (part, cooling), compute)


# -- water and air -----------------------------------------------------------------------------------


def _water(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    on = chillers_on(plant)
    supply, back = (plant.sensor(r) for r in (Role.CHILLED_WATER_SUPPLY, Role.CHILLED_WATER_RETURN))
    tower, wet_bulb = plant.sensor(Role.CONDENSER_SUPPLY), plant.wet_bulb()
    return (
        _difference(plant, "tower_approach_k", tower, wet_bulb, on),
        _difference(plant, "chilled_water_delta_k", back, supply, on),
    )


def _difference(plant: PlantSeries, name: str, upper: Column, lower: Column, on: Column) -> PlantIndicator:
    """Mean difference of two temperatures while chillers run, or at all times where nothing tells it."""

    def compute(rows: Bools) -> Found:
        chosen = rows & (on.values > 0) if on.points else rows
        hours = {"hours": plant.hours(chosen)}
        if plant.hours(chosen) < LEAST_HOURS:
            return Found(None, hours, Reason.IDLE)
        means = {"upper_c": float(upper.values[chosen].mean()), "lower_c": float(lower.values[chosen].mean())}
        value = means["upper_c"] - means["lower_c"]
        good = 0 < value <= MOST_KW_PER_K
        return Found(value, {**means, **hours}, None if good else Reason.IMPOSSIBLE)

    columns = (upper, lower, on) if on.points else (upper, lower)
    return _indicator(plant, name, "K", columns, compute)


def _air(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    return (_rti(plant), *_rci(plant))


def _rti(plant: PlantSeries) -> PlantIndicator:
    """Return temperature index: temperature rise over the air conditioners by that over the racks."""
    roles = (Role.CRAC_RETURN, Role.CRAC_SUPPLY, Role.RACK_OUTLET, Role.RACK_INLET)
    columns = back, supply, outlet, inlet = tuple(plant.sensor(r) for r in roles)

    def compute(rows: Bools) -> Found:
        rise = {
            "crac_k": float((back.values - supply.values)[rows].mean()),
            "rack_k": float((outlet.values - inlet.values)[rows].mean()),
        }
        if min(rise.values()) <= 0:
            return Found(None, rise, Reason.IMPOSSIBLE)
        return Found(100 * rise["crac_k"] / rise["rack_k"], rise)

    return _indicator(plant, "rti_percent", "percent", columns, compute)


def _rci(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    """Rack cooling index, high and low side: how far intakes lie outside of the recommended range."""
    column, values = _spread(plant, Role.RACK_INLET)
    good, allowed = plant.assumed("rack_inlet_recommended_c"), plant.assumed("rack_inlet_allowable_c")

    def index(sign: int, bound_c: float, worst_c: float) -> Compute:
        def compute(rows: Bools) -> Found:
            over = np.clip(sign * (values[rows] - bound_c), 0, None)
            value = 100 * (1 - float(np.nanmean(over)) / abs(worst_c - bound_c))
            extreme = float(np.nanmax(sign * values[rows])) * sign
            return Found(value, {"extreme_c": extreme, "limit_c": bound_c, "intakes": float(values.shape[1])})

        return compute

    return tuple(
        _indicator(plant, name, "percent", (column,), index(sign, bound, far))
        for name, sign, bound, far in (
            ("rci_hi_percent", 1, good.high, allowed.high),
            ("rci_lo_percent", -1, good.low, allowed.low),
        )
    )


def _spread(plant: PlantSeries, role: Role) -> tuple[Column, Floats]:
    """All sensors of a role: when enough of them are known, and the values of each."""
    table = plant.sensors(role)
    values = np.asarray(table, np.float64)
    share = np.isfinite(values).mean(axis=1) if len(table.columns) else np.zeros(len(plant.index))
    known = np.where(share >= plant.site.minimum_coverage_ratio, 1.0, np.nan)
    return Column(f"role:{role.value}", known, tuple(table.columns)), values


# -- free cooling ------------------------------------------------------------------------------------


def free_cooling(plant: PlantSeries) -> PlantIndicator:
    """Hours without a chiller while the outdoor air could take all the heat, by all such hours."""
    on, wet_bulb = chillers_on(plant), plant.wet_bulb()
    supply = plant.sensor(Role.CHILLED_WATER_SUPPLY)
    approach_k = plant.assumed("free_cooling_approach_k").typical

    def compute(rows: Bools) -> Found:
        possible = rows & free_rows(wet_bulb, supply, approach_k)
        hours = {
            "possible_h": plant.hours(possible),
            "used_h": plant.hours(possible & (on.values == 0)),
            "approach_k": approach_k,
        }
        if hours["possible_h"] < 1:
            return Found(None, hours, Reason.IDLE)
        return Found(hours["used_h"] / hours["possible_h"], hours)

    return _indicator(plant, "free_cooling_ratio", "ratio", (on, wet_bulb, supply), compute)


def free_rows(wet_bulb: Column, supply: Column, approach_k: float) -> Bools:
    """Intervals in which water cooled to the wet bulb and the approach is as cold as the chilled water."""
    return np.asarray(wet_bulb.values + approach_k <= supply.values)


# -- IT ----------------------------------------------------------------------------------------------


def _it(plant: PlantSeries) -> tuple[PlantIndicator, ...]:
    it, capacity_kw = plant.it_kw(), plant.site.design.it_capacity_kw
    lacks = () if capacity_kw else ("key:design.it_capacity_kw",)

    def load(rows: Bools) -> Found:
        mean_kw = float(it.values[rows].mean())
        return Found(mean_kw / (capacity_kw or 1.0), {"it_kw": mean_kw, "capacity_kw": capacity_kw or 0.0})

    return (
        _indicator(plant, "it_load_ratio", "ratio", (it,), load, counts=True, lacks=lacks),
        _idle(plant),
    )


def _idle(plant: PlantSeries) -> PlantIndicator:
    """Share of the servers' time in which they did next to nothing."""
    column, values = _spread(plant, Role.UTILISATION)
    least = plant.assumed("idle_utilisation_percent").typical

    def compute(rows: Bools) -> Found:
        seen = values[rows][np.isfinite(values[rows])]
        return Found(
            float((seen < least).mean()), {"bound_percent": least, "servers": float(values.shape[1])}
        )

    return _indicator(plant, "idle_share_ratio", "ratio", (column,), compute)
