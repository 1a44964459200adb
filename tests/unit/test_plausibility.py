"""What the values of one device tell about each other."""

from __future__ import annotations

import pytest

from collectors.plausibility import contradictions, impossible, withheld

METER = {
    "power_kw": 60.0,
    "power_l1_kw": 10.0,
    "power_l2_kw": 20.0,
    "power_l3_kw": 30.0,
    "energy_import_kwh": 600.0,
    "energy_import_l1_kwh": 100.0,
    "energy_import_l2_kwh": 200.0,
    "energy_import_l3_kwh": 300.0,
    "voltage_l1_v": 230.0,
    "current_l1_a": 45.0,
    "apparent_power_kva": 66.0,
    "frequency_hz": 50.0,
    "temperature_c": 24.0,
}
"""A meter of which all agrees."""


def out(**changed: float) -> set[str]:
    """Channels of the meter that are not believed after some changes."""
    return withheld(contradictions({**METER, **changed}))


def test_what_agrees_is_believed() -> None:
    assert contradictions(METER) == []
    assert contradictions({}) == []
    assert contradictions({"breaker_1_power_kw": 5.0, "phase_2_power_kw": 0.2, "power_kw": 0.3}) == []


def test_phases_in_a_table_of_their_own_take_no_more_than_the_unit() -> None:
    found = contradictions({"phase_1_power_kw": 0.4, "phase_2_power_kw": 0.6, "power_kw": 0.3})
    assert withheld(found) == {"power_kw"}
    assert "the phases sum to 1.000 kW, the total is 0.300 kW" in found[0].text


@pytest.mark.parametrize(("total_kw", "believed"), [(62.9, True), (63.3, False), (57.2, True), (57.1, False)])
def test_phases_sum_to_the_total_within_a_twentieth(total_kw: float, believed: bool) -> None:
    found = contradictions({**METER, "power_kw": total_kw, "apparent_power_kva": 80.0})
    assert (found == []) is believed
    if not believed:
        assert "the phases sum to 60.000 kW, the total is" in found[0].text
        assert {"power_kw", "power_l1_kw", "energy_import_kwh"} <= withheld(found), (
            "the map is another model's"
        )


def test_energies_of_phases_sum_to_the_total() -> None:
    assert out(energy_import_kwh=640.0) == {n for n in METER if n.startswith("energy_import")}
    assert out(energy_import_kwh=629.0) == set()
    small = {"energy_import_kwh": 3.0, **{f"energy_import_l{n}_kwh": 0.7 for n in (1, 2, 3)}}
    assert contradictions(small) == [], "registers that hardly counted are rounded"


def test_a_fourth_conductor_may_be_in_the_total_or_not() -> None:
    assert out(power_l4_kw=8.0) == set()
    assert out(power_l4_kw=8.0, power_kw=68.0, apparent_power_kva=70.0) == set()
    assert "power_kw" in out(power_l4_kw=8.0, power_kw=64.0, apparent_power_kva=70.0)


def test_phases_that_are_all_zero_or_single_are_not_measured() -> None:
    zero = {f"power_l{n}_kw": 0.0 for n in (1, 2, 3)}
    assert out(**zero) == {"power_l1_kw"}, "zero beside 45 A"
    assert contradictions({"power_kw": 5.0, "power_l1_kw": 1.0}) == []
    assert out(power_kw=0.0) >= {"power_kw"}, "a total of zero beside loaded phases is not measured"


@pytest.mark.parametrize(
    ("power_kw", "believed"), [(2.57, True), (2.6, False), (-2.6, False), (0.047, True), (0.045, False)]
)
def test_power_is_not_more_than_volts_times_amperes_and_not_nothing(power_kw: float, believed: bool) -> None:
    values = {"power_kw": power_kw, "voltage_v": 230.0, "current_a": 10.0}
    assert (contradictions(values) == []) is believed
    by_phase = {"power_l1_kw": power_kw, "voltage_l1_v": 230.0, "current_l1_a": 10.0}
    assert withheld(contradictions(by_phase)) == (set() if believed else {"power_l1_kw"})


def test_zero_amperes_or_volts_are_not_measured() -> None:
    assert contradictions({"power_kw": 1.0, "voltage_v": 230.0, "current_a": 0.0}) == []
    assert contradictions({"power_kw": 1.0, "voltage_v": 0.0, "current_a": 4.0}) == []
    assert contradictions({"power_kw": 1.0, "apparent_power_kva": 0.0}) == []


def test_the_whole_is_compared_with_the_sum_over_its_phases() -> None:
    phases = {f"{q}_l{n}_{u}": v for n in (1, 2) for q, u, v in (("voltage", "v", 230), ("current", "a", 10))}
    power = {"power_l1_kw": 2.0, "power_l2_kw": 2.0}
    assert contradictions({**phases, **power, "power_kw": 4.0}) == []
    assert withheld(contradictions({**phases, **power, "power_kw": 5.2})) >= {"power_kw", "power_l1_kw"}


def test_ten_times_the_voltage_is_not_the_powers_fault() -> None:
    values = {"power_kw": 2.1, "voltage_v": 2300.0, "current_a": 10.0}
    assert withheld(contradictions(values)) == {"voltage_v"}
    assert "a tenth fits the power" in contradictions(values)[0].text
    medium = {"power_kw": 20.0, "voltage_v": 2300.0, "current_a": 10.0}
    assert contradictions(medium) == [], "a meter behind voltage transformers"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("temperature_c", -273.0, "no sensor"),
        ("sensor_3_temperature_c", 6553.5, "no sensor"),
        ("humidity_percent", 255.0, "0 to 100"),
        ("frequency_hz", 500.0, "40 to 70 Hz"),
        ("input_frequency_hz", 5.0, "40 to 70 Hz"),
        ("power_factor_ratio", 98.0, "-1 to 1"),
        ("apparent_power_kva", -0.1, "apparent power is never negative"),
        ("outlet_3_current_a", -0.1, "current is never negative"),
        ("energy_import_kwh", -1.0, "never negative"),
        ("infeed_1_energy_l1_kwh", -1.0, "never negative"),
    ],
)
def test_what_no_sensor_has_is_withheld_alone(name: str, value: float, why: str) -> None:
    assert why in impossible(name, value)
    (one,) = contradictions({**{k: v for k, v in METER.items() if k != name}, name: value})
    assert one.channels == (name,)
    assert name in one.text


def test_what_can_be_is_not_impossible() -> None:
    for name, value in {**METER, "power_kw": -5.0, "frequency_hz": 0.0, "load_percent": 120.0}.items():
        assert impossible(name, value) == ""


def test_an_inlet_that_is_not_measured_gives_no_total() -> None:
    values = {
        "power_kw": 0.0,
        "energy_import_kwh": 0.0,
        "infeed_1_power_kw": 0.0,
        "infeed_1_energy_kwh": 0.0,
        "outlet_1_energy_kwh": 500.0,
        "outlet_2_energy_kwh": 400.0,
    }
    (one,) = contradictions(values)
    assert set(one.channels) == {"power_kw", "energy_import_kwh", "infeed_1_power_kw", "infeed_1_energy_kwh"}
    assert one.text == "outlets sum to 900.000 kWh, the inlet says 0.000 kWh: it is not measured there"
    assert "power_kw" not in withheld(contradictions({**values, "power_kw": 0.4})), "its power is measured"


@pytest.mark.parametrize(("inlet_kw", "believed"), [(1.0, True), (0.951, True), (0.94, False), (0.0, False)])
def test_no_less_comes_in_than_goes_out(inlet_kw: float, believed: bool) -> None:
    values = {"power_kw": inlet_kw, "outlet_1_power_kw": 0.6, "outlet_2_power_kw": 0.4}
    assert withheld(contradictions(values)) == (set() if believed else {"power_kw"})
    chained = {f"unit_2_{name}": value for name, value in values.items()} | {"power_kw": 7.0}
    assert withheld(contradictions(chained)) == (set() if believed else {"unit_2_power_kw"})


def test_energies_that_were_reset_apart_contradict_nothing() -> None:
    assert contradictions({"energy_import_kwh": 30.0, "outlet_1_energy_kwh": 500.0}) == []


def test_phases_of_which_one_is_missing_contradict_only_by_more_than_the_total() -> None:
    two = {"power_l1_kw": 10.0, "power_l3_kw": 30.0}
    assert contradictions({**two, "power_kw": 60.0}) == []
    assert withheld(contradictions({**two, "power_kw": 30.0})) == {*two, "power_kw"}
