"""A map that is another model's, and values that cannot be, are not proposed; the probe says why."""

from __future__ import annotations

import pytest
import yaml

from collectors.modbus import probe as modbus_probe
from collectors.profiles.profile import ModbusProfile, load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from collectors.snmp.probe import Recognised, probe_agent
from tests.protocol.snmp_objects import Objects, Recorded

JANITZA, UPS, LIEBERT = "1.3.6.1.4.1.34278", "1.3.6.1.2.1.33.1", "1.3.6.1.4.1.476.1.42.3.9.20.1"


def device(object_id: str, objects: Objects) -> Objects:
    system: Objects = {"1.3.6.1.2.1.1.1.0": b"a device", "1.3.6.1.2.1.1.2.0": object_id}
    return {**system, **objects}


async def probed(objects: Objects) -> list[Recognised]:
    return await probe_agent(Recorded(objects), {"host": "192.0.2.7"})


def proposed(one: Recognised) -> set[str]:
    (meter,) = yaml.safe_load(one.yaml)
    return {point["channel"] for point in meter["points"]}


FOUR_CONDUCTORS: Objects = {
    **{f"{JANITZA}.1.{column}.0": watts for column, watts in ((12, 1000), (13, 2000), (14, 3000), (15, 7))},
    f"{JANITZA}.2.1.0": 6000,
    **{f"{JANITZA}.4.{n}.0": tenths for n, tenths in ((1, 500), (2, 600), (3, 700), (4, 3))},
    f"{JANITZA}.5.1.0": 1800,
}


@pytest.mark.parametrize("object_id", [f"{JANITZA}.10.1", f"{JANITZA}.10.4", f"{JANITZA}.10.99", JANITZA])
async def test_a_meter_with_four_conductors_is_not_read_as_its_older_sibling(object_id: str) -> None:
    (one,) = await probed(device(object_id, FOUR_CONDUCTORS))
    assert one.profile == "janitza_umg508_604"
    assert [one.values[f"power_l{n}_kw"] for n in (1, 2, 3)] == [1, 2, 3]
    assert (one.values["power_kw"], one.values["energy_import_kwh"]) == (6, 180)


async def test_a_map_whose_phases_do_not_sum_is_not_proposed() -> None:
    three: Objects = {f"{JANITZA}.1.{13 + n}.0": 1000 * n for n in range(3)}
    tree = {**three, f"{JANITZA}.2.1.0": 6000, f"{JANITZA}.3.5.0": 0, f"{JANITZA}.4.1.0": 50}
    (one,) = await probed(device(f"{JANITZA}.8.7", tree))
    assert (one.profile, one.values) == ("janitza_umg96", {})
    assert one.findings[0] == ("power: the phases sum to 3.000 kW, the total is 6.000 kW")
    assert proposed(one) == set()


async def test_a_temperature_without_a_sensor_is_not_proposed() -> None:
    phase: Objects = {f"{UPS}.4.4.1.{c}.1": v for c, v in ((2, 230), (3, 10), (4, 200))}
    (one,) = await probed(device("1.3.6.1.4.1.99999.1", {**phase, f"{UPS}.2.7.0": -273}))
    assert proposed(one) == {"power_kw"}
    assert "temperature_c of -273 is withheld" in one.findings[0]


def labelled(**cells: bytes) -> Objects:
    """One row of label, value and unit."""
    row = "1.2.1.4208"
    return {f"{LIEBERT}.{column}0.{row}": cell for column, cell in enumerate(cells.values(), 1)}


@pytest.mark.parametrize(
    ("value", "unit", "kw"), [(b"20", b"kW", 20), (b"850", b" W", 0.85), (b"3.5", b"kW\0", 3.5)]
)
async def test_a_row_is_found_by_its_label_and_read_in_its_own_unit(
    value: bytes, unit: bytes, kw: float
) -> None:
    table = labelled(label=b"System Output Power", value=value, unit=unit)
    table |= {f"{LIEBERT}.10.1.2.1.9": b"Output Power Threshold", f"{LIEBERT}.20.1.2.1.9": b"99"}
    (one,) = await probed(device("1.3.6.1.4.1.476.1.42", table))
    assert (one.profile, one.values) == ("liebert_labelled", {"power_kw": pytest.approx(kw)})


async def test_a_row_in_a_unit_of_something_else_has_no_value() -> None:
    row = labelled(label=b"System Output Power", value=b"20", unit=b"A")
    assert await probed(device("1.3.6.1.4.1.476.1.42", row)) == []


async def test_a_small_meter_that_answers_everything_with_zero_is_read_by_its_own_map() -> None:
    profile = load_profile("eastron_sdm120")
    assert isinstance(profile, ModbusProfile)
    shown = {"power_kw": 1.15, "frequency_hz": 50.0, "energy_import_kwh": 765.43, "voltage_l1_v": 230.5}
    served = SimulatedUnit(profile, lambda channel, at: shown.get(channel, 0.0))
    async with SimulatedModbus({1: served}) as server:
        found = await modbus_probe.probe("127.0.0.1", server.port)
    assert found[0].profile == "eastron_sdm120"
    assert found[0].values["power_kw"] == pytest.approx(1.15)
    assert [one.profile for one in found if "power_kw" in one.values] == ["eastron_sdm120"]


RITTAL = "1.3.6.1.4.1.2606.7.4.2.2.1"


async def test_values_that_are_rows_of_name_unit_and_text_are_read() -> None:
    rows = {
        "2.12": (b"Unit.Power.Active.Value", b"W", b"1637 W"),
        "2.13": (b"Unit.Power.Active.SetPtHighAlarm", b"W", b"9000 W"),
        "2.20": (b"Unit.Energy.Active.Value", b"kWh", b"1234.5 kWh"),
        "2.30": (b"Phase L1.Power.Active.Value", b"W", b"1637 W"),
        "2.31": (b"Phase L1.Voltage.Value", b"V", b"231.4 V"),
        "2.32": (b"Phase L1.Current.Value", b"A", b"7.40 A"),
        "1.4": (b"System.Supply 24V.Value", b"V", b"24.0 V"),
    }
    table: Objects = {
        f"{RITTAL}.{column}.{row}": cell
        for row, cells in rows.items()
        for column, cell in zip((3, 5, 10), cells, strict=True)
    }
    (one,) = await probed(device("1.3.6.1.4.1.2606.7", table))
    assert one.profile == "rittal_cmc3"
    assert one.values == pytest.approx(
        {
            "power_kw": 1.637,
            "energy_import_kwh": 1234.5,
            "device_2_power_kw": 1.637,
            "device_2_energy_import_kwh": 1234.5,
            "device_2_power_l1_kw": 1.637,
            "device_2_voltage_l1_v": 231.4,
            "device_2_current_l1_a": 7.4,
        }
    )
    assert proposed(one) == {"power_kw", "energy_import_kwh"}


@pytest.mark.parametrize(("exponent", "kw"), [(0, 0.42), (3, 420.0), (-3, 0.00042)])
async def test_energy_objects_are_read_with_their_unit_multiplier(exponent: int, kw: float) -> None:
    power: Objects = {"1.3.6.1.2.1.229.1.2.1.1.1001": 420, "1.3.6.1.2.1.229.1.2.1.3.1001": exponent}
    (one,) = await probed(device("1.3.6.1.4.1.9.1.1", power))
    assert (one.profile, one.values) == ("energy_object", {"object_1001_power_kw": pytest.approx(kw)})


PDU = "1.3.6.1.4.1.318.1.1.26"


def rack_pdu(total_tens: int, phases: list[int], energy: int = 12_345) -> Objects:
    """An APC rack PDU: unit, and its phases in a table of their own, both in tens of watts."""
    unit: Objects = {f"{PDU}.4.3.1.5.1": total_tens, f"{PDU}.4.3.1.9.1": energy}
    return unit | {f"{PDU}.6.3.1.7.{n}": tens for n, tens in enumerate(phases, 1)}


async def test_phases_that_sum_to_twice_the_total_withhold_it() -> None:
    (one, *_) = await probed(device("1.3.6.1.4.1.318.1.3.4.5", rack_pdu(300, [200, 200, 200])))
    assert "power_kw" not in one.values
    assert "the phases sum to 6.000 kW, the total is 3.000 kW" in " ".join(one.findings)
    (sound, *_) = await probed(device("1.3.6.1.4.1.318.1.3.4.5", rack_pdu(300, [101, 99, 102])))
    assert (sound.values["power_kw"], sound.values["energy_import_kwh"]) == (3, 1234.5)


async def test_phases_of_a_part_of_the_circuits_contradict_nothing() -> None:
    (one, *_) = await probed(device("1.3.6.1.4.1.318.1.3.4.5", rack_pdu(300, [101])))
    assert one.values["power_kw"] == 3


@pytest.mark.parametrize("raw", [2**31 - 1, -(2**31), 2**32 - 1])
async def test_the_last_number_of_a_type_is_no_energy(raw: int) -> None:
    (one, *_) = await probed(device("1.3.6.1.4.1.318.1.3.4.5", rack_pdu(300, [300], raw)))
    assert "energy_import_kwh" not in one.values
    assert one.values["power_kw"] == 3


async def test_an_outlet_that_would_carry_a_megawatt_is_not_proposed() -> None:
    outlets: Objects = {f"{PDU}.9.4.3.1.7.1": 1_200_000, f"{PDU}.9.4.3.1.7.2": 350}
    (one, *_) = await probed(device("1.3.6.1.4.1.318.1.3.4.5", rack_pdu(300, [300]) | outlets))
    assert "outlet_1_power_kw" not in one.values
    assert one.values["outlet_2_power_kw"] == pytest.approx(0.35)
    assert any("an outlet carries at most 50" in text for text in one.findings)
