"""What to do next: savings that the plant indicators point to, in energy and money a year.

Each opportunity is computed from the site's own meters, over the intervals in which all that it needs is
known, with assumptions that are dated data. Its range comes from the ends of the assumptions' ranges, for a
shift of load between two UPS from the fit and the accuracy of the meters (90 %). Where a meter is missing it
says which one would tell. Opportunities overlap (a chiller that stands still gains nothing from a set point):
their sums are more than what all of them together would save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from app.domain import ups
from app.domain.indicators import prices_per_kwh
from app.domain.limits import is_too_low
from app.domain.plant import LEAST_HOURS, Reason, chillers_on, free_rows, ups_columns
from app.domain.plant_series import (
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
from app.domain.typical import PlantAssumption

HOURS_A_YEAR = 8760.0
WHOLE_YEAR_RATIO = 0.9
"""Known share of a year from which a saving that depends on the season is one of a year."""
LEAST_DAYS = 14.0
"""Known days from which a saving that does not depend on the season is scaled to a year."""
LEAST_SAVED_RATIO = 0.005
"""Saving below this share of the equipment's own energy is none."""
INLET_MARGIN_K = 1.0
"""Distance that the hottest rack intake keeps from the recommended limit. [K]"""
NIGHT_FROM_H, NIGHT_TO_H = 22, 6
DAY_FROM_H, DAY_TO_H = 9, 17


class Kind(StrEnum):
    """What could be done."""

    SET_POINT = "set_point"
    """Raise the set points of the chilled water and the supply air."""
    FREE_COOLING = "free_cooling"
    """Stop the chillers in the hours in which the outdoor air is cold enough."""
    UPS_LOAD = "ups_load"
    """Bring a UPS out of its poor region of load."""
    UPS_SHIFT = "ups_shift"
    """Shift load between the two sides of a 2N pair."""
    FANS = "fans"
    """Let the fans follow the load, by night above all."""
    LIGHTING = "lighting"
    """Switch the lights off where nobody is."""


class State(StrEnum):
    """What is known of an opportunity."""

    FOUND = "found"
    NONE = "none"
    """The meters show that there is nothing to gain."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with its range."""

    low: float
    typical: float
    high: float | None
    """None: not bounded, because a part of the year is not known."""

    def times(self, factor: float) -> Range:
        """Scaled."""
        return Range(
            self.low * factor, self.typical * factor, None if self.high is None else self.high * factor
        )


@dataclass(frozen=True, kw_only=True)
class Opportunity:
    """One opportunity, with its evidence."""

    kind: Kind
    subject: str = ""
    """Meters it is about, where there are several of a kind."""
    state: State = State.UNKNOWN
    kwh_per_year: Range | None = None
    amount_per_year: Range | None = None
    """At the tariff that holds at the end of the period. [currency] None: there is none."""
    is_whole_year: bool = True
    """False: what was seen in the period, not scaled; the rest of the year adds to it."""
    reason: Reason | None = None
    missing: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    poorly_covered: tuple[str, ...] = ()
    coverage_ratio: float = 0.0
    """Share of the time since all of its points were known first in which they are."""
    points: tuple[str, ...] = ()
    evidence: Mapping[str, float] = field(default_factory=dict)
    assumptions: tuple[PlantAssumption, ...] = ()


class Saved(NamedTuple):
    """Power that would have been saved in every interval, and what it rests on."""

    cases_kw: Sequence[Floats]
    """Low, typical and high. [kW]"""
    base_kw: Floats
    """Power of the equipment itself, against which a saving is none."""
    evidence: Mapping[str, float]
    reason: Reason | None = None


def opportunities(plant: PlantSeries) -> tuple[Opportunity, ...]:
    """Every opportunity of a site, the most valuable first, then what is not known, then what is none."""
    found = (
        _set_point(plant),
        _free_cooling(plant),
        *_ups_load(plant),
        *_ups_shift(plant),
        _fans(plant),
        _lighting(plant),
    )
    return tuple(sorted(found, key=_rank))


def _rank(one: Opportunity) -> tuple[int, float, str, str]:
    order = {State.FOUND: 0, State.UNKNOWN: 1, State.NONE: 2}[one.state]
    worth = one.amount_per_year or one.kwh_per_year
    return order, -(worth.typical if worth else 0.0), one.kind.value, one.subject


def _opportunity(
    plant: PlantSeries,
    kind: Kind,
    columns: Sequence[Column],
    compute: Callable[[Bools], Saved],
    *,
    assumed: Sequence[str] = (),
    subject: str = "",
    is_seasonal: bool = False,
    counts: bool = False,
) -> Opportunity:
    """An opportunity over the intervals in which all of its columns are known, by the rules for all."""
    rows = known_together(columns)
    made = Opportunity(
        kind=kind,
        subject=subject,
        points=points_of(columns),
        coverage_ratio=_coverage_ratio(rows),
        missing=missing_of(columns),
        assumptions=tuple(plant.assumed(name) for name in assumed),
    )
    if made.missing:
        return replace(made, reason=Reason.MISSING)
    waits = plant.waits_for(made.points, counts=counts)
    if waits:
        return replace(made, reason=Reason.WAITS, waits_for=waits)
    if (
        is_too_low(made.coverage_ratio, plant.site.minimum_coverage_ratio)
        or plant.hours(rows) < 24 * LEAST_DAYS
    ):
        return replace(made, reason=Reason.COVERAGE, poorly_covered=plant.poorly_covered(made.points))
    saved = compute(rows)
    made = replace(made, evidence=saved.evidence, reason=saved.reason)
    return made if saved.reason else _valued(plant, made, saved, rows, is_seasonal=is_seasonal)


def _coverage_ratio(rows: Bools) -> float:
    """Known share of the time since all was known first: a new sensor has no year, but may lack nothing."""
    first = int(rows.argmax())
    return float(rows[first:].mean()) if rows.any() else 0.0


def _valued(
    plant: PlantSeries, made: Opportunity, saved: Saved, rows: Bools, *, is_seasonal: bool
) -> Opportunity:
    """With energy and money a year, or none."""
    known_h = plant.hours(rows)
    whole = not is_seasonal or known_h >= WHOLE_YEAR_RATIO * HOURS_A_YEAR
    factor = HOURS_A_YEAR / known_h if whole else 1.0
    kwh = _range(plant, saved, rows, np.ones(len(rows))).times(factor)
    base_kwh = plant.kwh(saved.base_kw, rows) * factor
    if kwh.typical <= LEAST_SAVED_RATIO * base_kwh:
        return replace(made, state=State.NONE)
    price = prices_at_end(plant)
    amount = None if price is None else _range(plant, saved, rows, price).times(factor)
    if not whole:
        kwh, amount = replace(kwh, high=None), amount and replace(amount, high=None)
    return replace(made, state=State.FOUND, kwh_per_year=kwh, amount_per_year=amount, is_whole_year=whole)


def _range(plant: PlantSeries, saved: Saved, rows: Bools, price: Floats) -> Range:
    parts = [plant.kwh(power * price, rows) for power in saved.cases_kw]
    return Range(min(parts), parts[1], max(parts))


def prices_at_end(plant: PlantSeries) -> Floats | None:
    """Price of every interval by the tariff that holds at the end of the period; None where none holds.

    A saving of the next year is paid by the tariff of today, whatever it was when the intervals passed.
    """
    last, zone = plant.period.last_day(plant.site.zone), plant.site.zone
    holding = [
        t for t in plant.site.tariffs if t.valid_from <= last and (t.valid_to is None or last < t.valid_to)
    ]
    if not holding:
        return None
    tariff = max(holding, key=lambda t: t.valid_from)
    first = min(tariff.valid_from, plant.local[0].date())
    always = replace(tariff, valid_from=first, valid_to=None)
    quarters = pd.date_range(plant.index[0], periods=len(plant.index) * 4 // plant.per_hour, freq="15min")
    prices = np.asarray(prices_per_kwh([always], quarters, zone), np.float64)
    return np.asarray(prices.reshape(len(plant.index), -1).mean(axis=1))


# -- cooling -----------------------------------------------------------------------------------------


def _set_point(plant: PlantSeries) -> Opportunity:
    """Chillers use less for every kelvin that the hottest rack intake leaves to the recommended limit."""
    power = _compressors(plant)
    intakes = plant.sensors(Role.RACK_INLET)
    values = intakes.to_numpy(np.float64)
    hottest = values.max(axis=1) if len(intakes.columns) else np.full(len(plant.index), np.nan)
    column = Column(f"role:{Role.RACK_INLET.value}", hottest, tuple(intakes.columns))
    saving, step = plant.assumed("set_point_saving_percent_per_k"), plant.assumed("set_point_step_k")
    limit_c = plant.assumed("rack_inlet_recommended_c").high

    def compute(rows: Bools) -> Saved:
        hot_c = float(np.percentile(hottest[rows], 99))
        room_k = max(limit_c - INLET_MARGIN_K - hot_c, 0.0)
        evidence = {"hottest_inlet_c": hot_c, "limit_c": limit_c, "room_k": room_k}
        shares = [
            1 - (1 - percent / 100) ** min(room_k, step_k)
            for percent, step_k in (
                (saving.low, step.low),
                (saving.typical, step.typical),
                (saving.high, step.high),
            )
        ]
        return Saved([power.values * s for s in shares], power.values, evidence)

    names = ("set_point_saving_percent_per_k", "set_point_step_k", "rack_inlet_recommended_c")
    return _opportunity(plant, Kind.SET_POINT, (power, column), compute, assumed=names, is_seasonal=True)


def _compressors(plant: PlantSeries) -> Column:
    """Power of chillers, and of room air conditioners with compressors."""
    return plant.equipment_kw(Equipment.CHILLER, Equipment.DIRECT_EXPANSION)


def _free_cooling(plant: PlantSeries) -> Opportunity:
    """Energy of the chillers in hours in which the outdoor air could have taken all the heat."""
    power, on, wet_bulb = (
        plant.equipment_kw(Equipment.CHILLER),
        chillers_on(plant),
        plant.wet_bulb(),
    )
    supply = plant.sensor(Role.CHILLED_WATER_SUPPLY)
    approach, share = plant.assumed("free_cooling_approach_k"), plant.assumed("free_cooling_saved_ratio")

    def compute(rows: Bools) -> Saved:
        def missed(approach_k: float) -> Bools:
            return rows & free_rows(wet_bulb, supply, approach_k) & (on.values > 0)

        cases = (
            (approach.high, share.low),
            (approach.typical, share.typical),
            (approach.low, share.high),
        )
        kw = [np.where(missed(k), power.values * part, 0.0) for k, part in cases]
        possible = rows & free_rows(wet_bulb, supply, approach.typical)
        evidence = {
            "possible_h": plant.hours(possible),
            "missed_h": plant.hours(missed(approach.typical)),
        }
        return Saved(kw, power.values, evidence)

    names = ("free_cooling_approach_k", "free_cooling_saved_ratio")
    columns = (power, on, wet_bulb, supply)
    return _opportunity(plant, Kind.FREE_COOLING, columns, compute, assumed=names, is_seasonal=True)


def _fans(plant: PlantSeries) -> Opportunity:
    """Fans that do not slow down when the IT load falls: against the fan laws from the highest load down."""
    fans, it = plant.equipment_kw(Equipment.AIR_HANDLER), plant.it_kw()
    exponent, slowest = plant.assumed("fan_exponent"), plant.assumed("fan_lowest_speed_ratio").typical

    def compute(rows: Bools) -> Saved:
        top = rows & (it.values >= np.percentile(it.values[rows], 90))
        reference_kw, load_kw = float(fans.values[top].mean()), float(it.values[top].mean())
        if reference_kw <= 0 or load_kw <= 0:
            return _nothing(plant, Reason.IDLE)
        speed = np.clip(it.values / load_kw, slowest, 1.0)
        kw = [
            np.maximum(fans.values - reference_kw * speed**n, 0.0)
            for n in (exponent.low, exponent.typical, exponent.high)
        ]
        night = rows & _is_night(plant)
        evidence = {
            "fans_night_ratio": float(fans.values[night].mean()) / reference_kw,
            "it_night_ratio": float(it.values[night].mean()) / load_kw,
            "fans_variation_ratio": float(fans.values[rows].std() / fans.values[rows].mean()),
        }
        return Saved(kw, fans.values, evidence)

    names = ("fan_exponent", "fan_lowest_speed_ratio")
    return _opportunity(plant, Kind.FANS, (fans, it), compute, assumed=names, counts=True)


def _nothing(plant: PlantSeries, reason: Reason) -> Saved:
    zero = np.zeros(len(plant.index))
    return Saved([zero] * 3, zero, {}, reason)


def _is_night(plant: PlantSeries) -> Bools:
    hour = plant.local.hour
    return np.asarray((hour >= NIGHT_FROM_H) | (hour < NIGHT_TO_H))


def _lighting(plant: PlantSeries) -> Opportunity:
    """Lights by night and at weekends beyond what must stay on."""
    power, rest = plant.role_kw(Role.LIGHTING), plant.assumed("lighting_unattended_ratio")
    weekend = np.asarray(plant.local.day_of_week >= 5)
    empty = _is_night(plant) | weekend
    hour = plant.local.hour
    staffed = ~weekend & np.asarray((hour >= DAY_FROM_H) & (hour < DAY_TO_H))

    def compute(rows: Bools) -> Saved:
        if plant.hours(rows & staffed) < LEAST_HOURS:
            return _nothing(plant, Reason.IDLE)
        day_kw = float(power.values[rows & staffed].mean())
        kw = [
            np.where(rows & empty, np.maximum(power.values - r * day_kw, 0.0), 0.0)
            for r in (rest.high, rest.typical, rest.low)
        ]
        evidence = {"day_kw": day_kw, "unattended_kw": float(power.values[rows & empty].mean())}
        return Saved(kw, power.values, evidence)

    return _opportunity(plant, Kind.LIGHTING, (power,), compute, assumed=("lighting_unattended_ratio",))


# -- UPS ---------------------------------------------------------------------------------------------


def _ups_load(plant: PlantSeries) -> tuple[Opportunity, ...]:
    found = ups.units(plant.now)
    if not found:
        return (Opportunity(kind=Kind.UPS_LOAD, reason=Reason.MISSING, missing=("stage:ups",)),)
    return tuple(_of_unit(plant, unit) for unit in found)


def _of_unit(plant: PlantSeries, unit: ups.Unit) -> Opportunity:
    """Losses beyond those of typical units at a good load, where the load is low most of the time."""
    into, out = ups_columns(plant, unit)
    typical = plant.typical("ups_efficiency_ratio")
    least_ratio = plant.assumed("ups_poor_load_ratio").typical
    subject = ", ".join(unit.inputs)
    if not np.isfinite(unit.rated_kw):
        return Opportunity(
            kind=Kind.UPS_LOAD, subject=subject, reason=Reason.MISSING, missing=("key:rated_power_kw",)
        )

    def compute(rows: Bools) -> Saved:
        load, kwh = out.values[rows].mean() / unit.rated_kw, into.values[rows].sum()
        efficiency = float(out.values[rows].sum() / kwh) if kwh > 0 else 0.0
        if not 0 < efficiency <= 1:
            return _nothing(plant, Reason.IMPOSSIBLE)
        error = (plant.class_percent(into.points) ** 2 + plant.class_percent(out.points) ** 2) ** 0.5 / 100
        is_poor = load < least_ratio and typical is not None
        good, poor = (typical.good, typical.poor or typical.good) if typical else (1.0, 1.0)
        evidence = {"load_ratio": float(load), "efficiency_ratio": efficiency, "error_ratio": error}
        goals = (
            (poor, efficiency * (1 + error)),
            ((good + poor) / 2, efficiency),
            (good, efficiency * (1 - error)),
        )
        kw = [
            np.maximum(out.values * (1 / now - 1 / goal), 0.0) if is_poor else np.zeros(len(out.values))
            for goal, now in goals
        ]
        return Saved(kw, into.values - out.values, evidence)

    return _opportunity(
        plant, Kind.UPS_LOAD, (into, out), compute, assumed=("ups_poor_load_ratio",), subject=subject
    )


def _ups_shift(plant: PlantSeries) -> tuple[Opportunity, ...]:
    """Pairs of units with redundancy 2N and about the same rating."""
    found = [u for u in ups.units(plant.now) if u.redundancy == "2N"]
    pairs = [
        (a, b)
        for a, b in combinations(found, 2)
        if np.isfinite(a.rated_kw + b.rated_kw) and 0.5 < a.rated_kw / b.rated_kw < 2
    ]
    if len(found) != 2 or not pairs:
        return ()
    return tuple(_of_pair(plant, pair) for pair in pairs)


def _of_pair(plant: PlantSeries, pair: tuple[ups.Unit, ups.Unit]) -> Opportunity:
    """The constant split of the load that loses least, within what both sides have carried."""
    columns = [ups_columns(plant, unit) for unit in pair]
    (in_a, out_a), (in_b, out_b) = columns
    days = np.unique(plant.index.floor("D"), return_inverse=True)[1]
    subject = " / ".join(", ".join(unit.inputs) for unit in pair)

    def compute(rows: Bools) -> Saved:
        curves = [ups.fit(i.values[rows], o.values[rows], days[rows]) for i, o in columns]
        first, second = curves
        if first is None or second is None:
            return _nothing(plant, Reason.UNSEEN)
        percents = tuple(
            (plant.class_percent(i.points) ** 2 + plant.class_percent(o.points) ** 2) ** 0.5
            for i, o in columns
        )
        shift = ups.best_split(
            (out_a.values[rows], out_b.values[rows]),
            (first, second),
            (percents[0], percents[1]),
            (pair[0].rated_kw, pair[1].rated_kw),
        )
        if shift is None:
            return _nothing(plant, Reason.UNSEEN)
        spread = ups.CONFIDENCE_FACTOR * shift.standard_error_kw
        flat = np.ones(len(plant.index))
        evidence = {
            "share_now_ratio": shift.now_ratio,
            "share_best_ratio": shift.share_ratio,
            "saved_kw": shift.saved_kw,
            "error_kw": spread,
        }
        share = float(shift.rows.mean())
        kw = [flat * share * (shift.saved_kw + d * spread) for d in (-1, 0, 1)]
        lost = in_a.values - out_a.values + in_b.values - out_b.values
        return Saved(kw, lost, evidence, Reason.WITHIN_ERROR if spread >= shift.saved_kw else None)

    return _opportunity(plant, Kind.UPS_SHIFT, (in_a, out_a, in_b, out_b), compute, subject=subject)
