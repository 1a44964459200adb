"""Plant indicators and opportunities against a plant whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from app.domain.opportunities import Kind, Opportunity, State, opportunities
from app.domain.plant import PlantIndicator, Reason, indicators
from app.domain.plant_series import OpenFinding, PlantSeries
from app.domain.quantity import Role
from app.domain.site import Design, Equipment
from app.domain.typical import Standing
from tests import plants


def by_name(plant: PlantSeries) -> dict[str, PlantIndicator]:
    return {f"{i.name} {i.subject}".strip(): i for i in indicators(plant)}


def by_kind(plant: PlantSeries) -> dict[Kind, Opportunity]:
    return {o.kind: o for o in opportunities(plant) if o.subject != "ups-b-in"}


WHOLE = plants.plant()
SUMMER = plants.plant(30, start="2026-07-01")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cooling_load_factor", (120 + 18 + 12 + 50) / 600),
        ("mechanical_load_component", (120 + 18 + 12 + 50) / 600),
        ("electrical_loss_component", 0.06),
        ("chiller_cop", 5.0),
        ("chiller_kw_per_ton", 3.517 / 5),
        ("ups_efficiency_ratio ups-a-in", 0.96),
        ("ups_efficiency_ratio ups-b-in", 0.94),
        ("chiller_share_ratio", 120 / 200),
        ("pump_share_ratio", 18 / 200),
        ("tower_share_ratio", 12 / 200),
        ("air_handler_share_ratio", 50 / 200),
        ("tower_approach_k", 4.0),
        ("chilled_water_delta_k", 5.0),
        ("rti_percent", 100 * 9 / 12),
        ("rci_hi_percent", 100.0),
        ("rci_lo_percent", 100.0),
        ("free_cooling_ratio", 0.0),
        ("it_load_ratio", 0.6),
        ("idle_share_ratio", 0.25),
    ],
)
def test_every_indicator_of_a_known_plant(name: str, value: float) -> None:
    found = by_name(WHOLE)[name]
    assert found.reason is None
    assert found.value == pytest.approx(value, rel=1e-3, abs=1e-9)
    assert found.coverage_ratio == 1
    assert found.points


def test_values_stand_against_the_dated_typical_ones() -> None:
    found = by_name(WHOLE)
    assert found["cooling_load_factor"].standing is Standing.POOR
    assert found["chiller_cop"].standing is Standing.GOOD
    assert found["ups_efficiency_ratio ups-b-in"].standing is Standing.BETWEEN
    assert found["rti_percent"].standing is None


def test_quarters_and_hours_say_the_same() -> None:
    quarters = by_name(plants.plant(30, step="15min", start="2026-07-01"))
    for name, one in by_name(SUMMER).items():
        if name == "free_cooling_ratio":
            assert one.reason is quarters[name].reason is Reason.IDLE
            continue
        assert one.value == pytest.approx(quarters[name].value, rel=0.01, abs=1e-3), name


@pytest.mark.parametrize(
    ("gone", "name", "missing"),
    [
        ("chiller", "chiller_cop", "equipment:chiller"),
        ("water", "chiller_cop", "role:heat_removed"),
        ("losses", "electrical_loss_component", "role:power_distribution"),
        ("roof", "free_cooling_ratio", "role:outdoor_wet_bulb"),
        ("roof", "tower_approach_k", "role:outdoor_wet_bulb"),
        ("tower-water", "tower_approach_k", "role:condenser_supply"),
        ("crah", "rti_percent", "role:crac_return"),
        ("server", "idle_share_ratio", "role:utilisation"),
        ("fans", "air_handler_share_ratio", "equipment:air_handler"),
    ],
)
def test_what_is_missing_is_named(gone: str, name: str, missing: str) -> None:
    found = by_name(plants.plant(30, plants.without(gone)))[name]
    assert found.value is None
    assert found.reason is Reason.MISSING
    assert missing in found.missing


def test_without_a_design_the_key_is_named() -> None:
    found = by_name(plants.plant(30, plants.site(design=Design())))["it_load_ratio"]
    assert (found.reason, found.missing) == (Reason.MISSING, ("key:design.it_capacity_kw",))


def test_an_open_finding_withholds_what_rests_on_its_point_and_nothing_else() -> None:
    found = by_name(plants.plant(30, findings=(OpenFinding("chiller.kwh", "chiller.kwh (unit_changed)"),)))
    for name in ("cooling_load_factor", "chiller_cop", "chiller_share_ratio"):
        assert found[name].value is None
        assert found[name].waits_for == ("chiller.kwh (unit_changed)",)
    assert found["electrical_loss_component"].value == pytest.approx(0.06)
    assert found["rti_percent"].value is not None


def test_a_finding_of_the_site_withholds_what_counts_into_pue() -> None:
    found = by_name(plants.plant(30, findings=(OpenFinding("", "s (it_missing)"),)))
    assert found["cooling_load_factor"].reason is Reason.WAITS
    assert found["it_load_ratio"].reason is Reason.WAITS
    assert found["chilled_water_delta_k"].value == pytest.approx(5, rel=1e-3)


def test_too_little_coverage_names_the_point() -> None:
    found = by_name(plants.masked(plants.plant(30), "tower.kwh", slice(0, 120)))["tower_share_ratio"]
    assert (found.value, found.reason) == (None, Reason.COVERAGE)
    assert found.poorly_covered == ("tower.kwh",)
    assert found.coverage_ratio == pytest.approx(1 - 120 / 720)


def test_a_sensor_that_never_changes_is_no_sensor() -> None:
    stuck = {"water.chilled_water_return": np.full(720, 20.0)}
    found = by_name(plants.plant(30, values=stuck))["chilled_water_delta_k"]
    assert (found.value, found.reason) == (None, Reason.COVERAGE)
    assert found.poorly_covered == ("water.chilled_water_return",)


@pytest.mark.parametrize(
    ("point", "change", "name"),
    [
        ("ups-a-in", lambda v: v * 0.9, "ups_efficiency_ratio ups-a-in"),
        ("water.chilled_water_return", lambda v: v - 10, "chilled_water_delta_k"),
        ("water.chilled_water_flow", lambda v: v * 60, "chiller_cop"),
        ("tower-water.condenser_supply", lambda v: v - 6, "tower_approach_k"),
        ("rack-1.rack_outlet", lambda v: v - 40, "rti_percent"),
    ],
)
def test_what_no_plant_can_do_has_no_value(
    point: str, change: Callable[[np.ndarray], np.ndarray], name: str
) -> None:
    changed = {point: change(plants.truth(pd.DatetimeIndex(SUMMER.energy_kwh.index))[point])}
    found = by_name(plants.plant(30, start="2026-07-01", values=changed))[name]
    assert (found.value, found.reason) == (None, Reason.IMPOSSIBLE)


def test_flows_that_cannot_be_told_apart_are_no_heat() -> None:
    flow, supply = Role.CHILLED_WATER_FLOW, Role.CHILLED_WATER_SUPPLY
    known = plants.truth(pd.DatetimeIndex(SUMMER.energy_kwh.index))
    values = {
        "water-2.chilled_water_flow": known["water.chilled_water_flow"],
        "water-3.chilled_water_supply": known["water.chilled_water_supply"],
    }
    meters = (*plants.METERS, plants.sensor("water-2", flow), plants.sensor("water-3", supply))
    found = by_name(plants.plant(30, plants.site(*meters), start="2026-07-01", values=values))["chiller_cop"]
    assert (found.value, found.reason) == (None, Reason.AMBIGUOUS)


def test_the_regions_of_a_ups_carry_its_energy_and_name_the_worst() -> None:
    index = pd.DatetimeIndex(plants.plant(90).energy_kwh.index)
    out = plants.truth(index)["ups-a"]
    found = by_name(plants.plant(90, values={"ups-a-in": out + 10 + 0.01 * out}))[
        "ups_efficiency_ratio ups-a-in"
    ]
    assert found.value is not None
    efficiencies = [r.efficiency_ratio for r in found.regions]
    assert len(efficiencies) >= 2
    assert efficiencies == sorted(efficiencies)
    assert sum(r.out_kwh for r in found.regions) == pytest.approx(found.inputs["out_kwh"])


def test_pumps_and_towers_behind_one_meter_have_one_share() -> None:
    meters = [m for m in plants.METERS if m.id != "tower"]
    both = [replace(m, equipment=Equipment.PUMPS_AND_TOWERS) if m.id == "pump" else m for m in meters]
    found = by_name(plants.plant(30, plants.site(*both)))
    assert found["pumps_and_towers_share_ratio"].value == pytest.approx(18 / 188, rel=1e-3)
    assert "pump_share_ratio" not in found


# -- opportunities -----------------------------------------------------------------------------------


def test_free_cooling_missed_is_the_energy_of_the_chiller_in_those_hours() -> None:
    found = by_kind(WHOLE)[Kind.FREE_COOLING]
    index = pd.DatetimeIndex(WHOLE.energy_kwh.index)
    known = plants.truth(index)
    cold = known["roof.outdoor_wet_bulb"] + 7 <= known["water.chilled_water_supply"]
    assert found.state is State.FOUND
    assert found.evidence["missed_h"] == cold.sum()
    assert found.kwh_per_year is not None
    assert found.kwh_per_year.typical == pytest.approx(0.85 * known["chiller"][cold].sum(), rel=1e-6)
    assert found.kwh_per_year.low < found.kwh_per_year.typical < (found.kwh_per_year.high or 0)


def test_a_set_point_saves_by_the_room_that_the_hottest_rack_leaves() -> None:
    found = by_kind(WHOLE)[Kind.SET_POINT]
    assert found.evidence["room_k"] == pytest.approx(27 - 1 - 23, abs=0.1)
    assert found.kwh_per_year is not None
    chiller_kwh = WHOLE.energy_kwh["chiller.kwh"].sum()
    assert found.kwh_per_year.typical == pytest.approx(chiller_kwh * (1 - 0.975**2), rel=1e-6)


def test_racks_at_the_limit_leave_no_set_point() -> None:
    hot = {"rack-2.rack_inlet": 27 + np.random.default_rng(3).normal(0, 0.1, 8760)}
    assert by_kind(plants.plant(values=hot))[Kind.SET_POINT].state is State.NONE


def test_constant_fans_and_lights_at_night_are_found() -> None:
    found = by_kind(WHOLE)
    fans, lights = found[Kind.FANS], found[Kind.LIGHTING]
    assert fans.state is State.FOUND
    assert fans.evidence["fans_night_ratio"] == pytest.approx(1.0)
    assert lights.kwh_per_year is not None
    assert lights.kwh_per_year.typical == pytest.approx((10 - 0.3 * 20) * (365 * 24 - 261 * 16), rel=0.02)


def test_fans_that_follow_the_load_by_the_fan_law_leave_little() -> None:
    index = pd.DatetimeIndex(WHOLE.energy_kwh.index)
    known = plants.truth(index)
    it = known["ups-a"] + known["ups-b"]
    assert by_kind(plants.plant(values={"fans": 50 * (it / it.max()) ** 2}))[Kind.FANS].state is State.NONE


def test_a_ups_in_a_poor_region_saves_up_to_the_typical_good_one() -> None:
    found = {o.subject: o for o in opportunities(WHOLE) if o.kind is Kind.UPS_LOAD}
    poor = found["ups-b-in"]
    assert poor.evidence["load_ratio"] < 0.4
    assert poor.state is State.NONE
    index = pd.DatetimeIndex(WHOLE.energy_kwh.index)
    out = plants.truth(index)["ups-b"]
    worse = {o.subject: o for o in opportunities(plants.plant(values={"ups-b-in": out / 0.88}))}["ups-b-in"]
    assert worse.kwh_per_year is not None
    assert worse.kwh_per_year.typical == pytest.approx(out.sum() * (1 / 0.88 - 1 / 0.94), rel=1e-6)


def test_load_moves_to_the_side_that_loses_less_within_what_was_seen() -> None:
    found = by_kind(WHOLE)[Kind.UPS_SHIFT]
    assert found.state is State.FOUND
    assert found.evidence["share_best_ratio"] > found.evidence["share_now_ratio"] + 0.02
    moved = (found.evidence["share_best_ratio"] - found.evidence["share_now_ratio"]) * 600
    assert found.evidence["saved_kw"] == pytest.approx(moved * (1 / 0.94 - 1 / 0.96), rel=0.15)


def test_two_like_sides_gain_nothing_from_a_shift() -> None:
    index = pd.DatetimeIndex(WHOLE.energy_kwh.index)
    known = plants.truth(index)
    same = {f"ups-{s}-in": known[f"ups-{s}"] * 1.05 + 5 for s in "ab"}
    found = by_kind(plants.plant(values=same))[Kind.UPS_SHIFT]
    assert found.state is not State.FOUND


def test_loads_that_never_moved_do_not_say_what_another_split_loses() -> None:
    flat = {f"ups-{s}": np.full(8760, 300.0) for s in "ab"} | {
        f"ups-{s}-in": np.full(8760, 315.0) for s in "ab"
    }
    found = by_kind(plants.plant(values=flat))[Kind.UPS_SHIFT]
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.UNSEEN)


@pytest.mark.parametrize(
    ("gone", "kind", "missing"),
    [
        ("chiller", Kind.SET_POINT, "equipment:chiller"),
        ("rack-1 rack-2", Kind.SET_POINT, "role:rack_inlet"),
        ("roof", Kind.FREE_COOLING, "role:outdoor_wet_bulb"),
        ("fans", Kind.FANS, "equipment:air_handler"),
        ("lights", Kind.LIGHTING, "role:lighting"),
    ],
)
def test_an_opportunity_says_which_meter_would_tell(gone: str, kind: Kind, missing: str) -> None:
    found = by_kind(plants.plant(of=plants.without(*gone.split())))[kind]
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.MISSING)
    assert missing in found.missing


def test_money_goes_by_the_hours_and_the_tariff_of_the_end() -> None:
    lights = by_kind(WHOLE)[Kind.LIGHTING]
    assert lights.kwh_per_year is not None
    assert lights.amount_per_year is not None
    price = lights.amount_per_year.typical / lights.kwh_per_year.typical
    assert 0.5 < price < 1.0
    without = by_kind(plants.plant(of=plants.site(tariffs=())))[Kind.LIGHTING]
    assert without.amount_per_year is None
    assert without.kwh_per_year == lights.kwh_per_year


def test_a_part_of_a_year_is_scaled_only_where_the_season_does_not_matter() -> None:
    whole, part = by_kind(WHOLE), by_kind(plants.plant(60))
    seasonal = part[Kind.FREE_COOLING]
    assert not seasonal.is_whole_year
    assert seasonal.kwh_per_year is not None
    assert seasonal.kwh_per_year.high is None
    assert seasonal.kwh_per_year.typical < whole[Kind.FREE_COOLING].kwh_per_year.typical  # type: ignore[union-attr]
    lights = part[Kind.LIGHTING].kwh_per_year
    assert lights is not None
    assert lights.typical == pytest.approx(whole[Kind.LIGHTING].kwh_per_year.typical, rel=0.05)  # type: ignore[union-attr]


def test_a_new_sensor_has_no_year_but_a_gap_in_it_counts() -> None:
    young = by_kind(plants.masked(WHOLE, "lights.kwh", slice(0, 8000)))[Kind.LIGHTING]
    assert (young.state, young.coverage_ratio) == (State.FOUND, 1.0)
    few = by_kind(plants.masked(WHOLE, "lights.kwh", slice(0, 8760 - 13 * 24)))[Kind.LIGHTING]
    assert (few.state, few.reason) == (State.UNKNOWN, Reason.COVERAGE)
    dead = by_kind(plants.masked(WHOLE, "lights.kwh", slice(4000, 8760)))[Kind.LIGHTING]
    assert (dead.state, dead.reason, dead.poorly_covered) == (
        State.UNKNOWN,
        Reason.COVERAGE,
        ("lights.kwh",),
    )


def test_the_most_valuable_comes_first_and_the_unknown_last_but_one() -> None:
    found = opportunities(plants.plant(of=plants.without("rack-1", "rack-2")))
    worth = [o.amount_per_year.typical for o in found if o.amount_per_year]
    assert worth == sorted(worth, reverse=True)
    states = [o.state for o in found]
    assert states == sorted(states, key=[State.FOUND, State.UNKNOWN, State.NONE].index)


def test_an_open_finding_makes_an_opportunity_wait() -> None:
    found = by_kind(plants.plant(findings=(OpenFinding("lights.kwh", "lights.kwh (reversed)"),)))
    assert found[Kind.LIGHTING].reason is Reason.WAITS
    assert found[Kind.FANS].state is State.FOUND
