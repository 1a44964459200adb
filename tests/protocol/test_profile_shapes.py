"""Devices of which only the shape is at hand: small tables from the vendor's MIB, with answers by hand.

Each device is probed as a stranger would: the right profile must come first, say what the table says, and
find nothing that contradicts. Numbers of a recording are cited where a note names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from collectors.snmp.probe import Recognised, probe_agent
from tests.protocol.snmp_objects import Objects, Recorded

E = "1.3.6.1.4.1"
NET_SNMP = f"{E}.8072.3.2.10"


@dataclass(frozen=True)
class Shape:
    """A device: objects by column and row under a root, and what must come out."""

    profile: str
    object_id: str
    root: str
    columns: dict[str, dict[str, Any]]
    right: dict[str, float]
    """Of the values that come out, these must be there and so."""
    absent: tuple[str, ...] = ()
    """Channels that must not be there: the device says nothing usable of them."""
    findings: tuple[str, ...] = field(default=())

    def objects(self) -> Objects:
        system: Objects = {"1.3.6.1.2.1.1.1.0": b"a device", "1.3.6.1.2.1.1.2.0": self.object_id}
        cells = {
            f"{self.root}.{column}.{row}" if row else f"{self.root}.{column}": value
            for column, rows in self.columns.items()
            for row, value in rows.items()
        }
        return {**system, **cells}


CPI_A, CPI_B = "12.48.48.48.69.68.51.48.48.65.68.50.49", "12.48.48.48.69.68.51.48.49.65.68.50.49"
UMG_508 = [2299, 2297, 2299, 254, 3976, 3979, 3987, 218542, 210211, 223938, 8652, 46363, 44088, 47530, 92]
UMG_508 += [-19315, -19714, -19734, -74, 50392, 48425, 51636, 219, 923, 913, 923, 544]
DELL_OUTLETS = [250, 250, 352, 239, 271, 235, 99, 0, 57, 276, 113, 90]
DELL_OUTLETS += [95, 273, 267, 0, 172, 146, 173, 181, 0, 163, 52, 0]

SHAPES = [
    Shape(  # the first two units of a recording, whose watts LibreNMS divides by 100
        "conteg_databus",
        f"{E}.28402.11.1",
        f"{E}.28402.12.1.1.2.6.1.1",
        {
            "2": {"1.1": 85, "2.1": 965},
            "3": {"1.1": 86, "2.1": 3},
            "4": {"1.1": 7836, "2.1": 8751},
            "5": {"1.1": 38, "2.1": 199},
            "7": {"1.1": 23034, "2.1": 22848},
            "9": {"1.1": 90, "2.1": 460},
            "10": {"1.1": 70, "2.1": 400},
        },
        {"power_kw": 0.47, "energy_import_kwh": 1050, "unit_2_infeed_1_voltage_v": 228.48},
    ),
    Shape(  # a recording: unit and phase in tens of watts, outlets in watts
        "dell_rpdu",
        f"{E}.674.10903.200.3.1",
        f"{E}.674.10903.200.2.200",
        {
            "110.2.1.3": {"1": 379},
            "110.2.1.4": {"1": 630139},
            "120.2.1.4": {"1": 193},
            "120.2.1.5": {"1": 205},
            "120.2.1.6": {"1": 381},
            "130.2.2.1.8": {str(n): watts for n, watts in enumerate(DELL_OUTLETS, 1)},
        },
        {
            "power_kw": 3.79,
            "energy_import_kwh": 63013.9,
            "phase_1_power_kw": 3.81,
            "outlet_3_power_kw": 0.352,
        },
    ),
    Shape(  # a recording: one phase of three
        "vertiv_ita2",
        f"{E}.13400.2.54",
        f"{E}.13400.2.54.2.3",
        {
            **{str(n): {"0": v} for n, v in ((1, 2308), (2, 0), (3, 0), (4, 76), (5, 0), (6, 0), (7, 4999))},
            **{str(n): {"0": v} for n, v in ((8, 141), (9, 0), (10, 0), (14, 292))},
        },
        {"power_kw": 1.41, "voltage_l1_v": 230.8, "current_l1_a": 7.6, "frequency_hz": 49.99},
    ),
    Shape(  # a recording: the power of three phases stands in the first row
        "sinetica_ups",
        f"{E}.13891.101",
        f"{E}.13891.101.4",
        {
            "2": {"0": 600},
            "4.1.2": {"1": 208, "2": 208, "3": 209},
            "4.1.3": {"1": 1780, "2": 1540, "3": 1630},
            "4.1.4": {"1": 58500, "2": 0, "3": 0},
            "4.1.5": {"1": 39, "2": 0, "3": 0},
        },
        {"power_kw": 58.5, "current_l2_a": 154, "frequency_hz": 60},
        absent=("power_l1_kw",),
    ),
    Shape(  # a recording of a 3750 W model
        "dell_ups",
        f"{E}.674.10902.2",
        f"{E}.674.10902.2.120.2",
        {"6": {"0": 307}},
        {"power_kw": 0.307},
    ),
    Shape(  # a recording: no name, no number of a vendor, texts with units
        "apc_easy_text",
        f"{E}.0",
        f"{E}.1.1.1",
        {
            **{str(c): {"1": v} for c, v in ((1, b"232.6V"), (2, b"0.30A"), (3, b"0.061kW"), (6, b"0.856"))},
            **{str(c): {"1": v} for c, v in ((7, b"2.28kWh"), (27, b"49.982Hz"), (28, b"-"), (29, b"-"))},
        },
        {"power_kw": 0.061, "energy_import_kwh": 2.28, "voltage_v": 232.6, "current_a": 0.3},
        absent=("sensor_1_temperature_c",),
    ),
    Shape(  # the same card where it shows small values in W and Wh
        "apc_easy_text",
        f"{E}.0",
        f"{E}.1.1.1",
        {"1": {"1": b"230.0V"}, "2": {"1": b"300 mA"}, "3": {"1": b"61 W"}, "7": {"1": b"950 Wh"}},
        {"power_kw": 0.061, "energy_import_kwh": 0.95, "current_a": 0.3},
    ),
    Shape(  # a recording
        "algcom_pdu",
        f"{E}.49136.200",
        f"{E}.49136.200",
        {
            "1.2": {"0": 129100},
            "1.3": {"0": 600},
            "1.4": {"0": 97600},
            "8": {"1.0": 19000, "2.0": 44600, "3.0": 0, "7.0": 34100},
            "7": {"1.0": 100, "2.0": 300, "3.0": 0, "7.0": 200},
        },
        {"power_kw": 0.0976, "voltage_v": 129.1, "current_a": 0.6, "outlet_2_power_kw": 0.0446},
    ),
    Shape(
        "eltek_webpower",
        f"{E}.12148.9",
        f"{E}.12148.9",
        {"3.2": {"0": 5361}, "4.1": {"0": 412}, "5.3": {"0": 420}},
        {"power_kw": 53.61 * 41.2 / 1000, "voltage_v": 53.61, "current_a": 41.2},
    ),
    Shape(  # a recording of a UMG 508, which gives no energies
        "janitza_umg508_604",
        f"{E}.34278.10.1",
        f"{E}.34278",
        {
            **{f"1.{n}": {"0": v} for n, v in enumerate(UMG_508, 1)},
            **{f"2.{n}": {"0": v} for n, v in enumerate((137982, -58764, 150454), 1)},
            "8.1": {"0": 5000},
        },
        {"power_kw": 137.982, "power_l1_kw": 46.363, "voltage_l1_v": 229.9, "current_l1_a": 218.542},
    ),
    Shape(  # a recording: 32 branches of 96 that may be, and 32 that the device does not have
        "abb_cms700",
        NET_SNMP,
        f"{E}.51055.1",
        {"1": {"1": 107, "2": 457, "33": 32767, "97": 0}, "29": {"1": 23032, "2": 23011, "3": 23011}},
        {"branch_1_current_a": 1.07, "branch_2_current_a": 4.57, "voltage_l1_v": 230.32},
        absent=("branch_33_current_a", "power_kw"),
    ),
    Shape(
        "dell_server",
        f"{E}.674.10892.5",
        f"{E}.674.10892.5.4.600.30.1",
        {"6": {"1.1": 12, "1.2": 8, "1.3": 294}, "7": {"1.1": 23, "1.2": 23, "1.3": 26}},
        {"power_kw": 0.294},
        absent=("probe_1_1_power_kw",),
    ),
    Shape(
        "hpe_ilo",
        f"{E}.232.9.4.10",
        f"{E}.232.6.2.9.3.1",
        {"7": {"0.1": 105, "0.2": 95}},
        {"power_kw": 0.2},
    ),
    Shape(
        "cisco_cimc",
        f"{E}.9.1.1634",
        f"{E}.9.9.719.1.9.14.1",
        {"4": {"1": 168}},
        {"power_kw": 0.168},
    ),
    Shape(
        "apc_isx_modular",
        f"{E}.318.1.3.24.1",
        f"{E}.318.1.1.22",
        {
            "4.3.5.1.2": {"1": 61, "2": 58, "3": 64},
            "4.1.15.1.3": {"1": 2301, "2": 2298, "3": 2310},
            "2.6.1.20": {"1.1": 92, "2.1": 45, "2.2": 43, "3.1": -1},
            "2.6.1.21": {"1.1": 123456, "3.1": -1},
        },
        {
            "power_kw": 18.3,
            "module_2_power_kw": 8.8,
            "module_1_output_1_energy_kwh": 12345.6,
            "voltage_l1_v": 230.1,
        },
        absent=("module_3_power_kw", "module_3_output_1_energy_kwh"),
    ),
    Shape(  # a recording of older firmware, of its 54 outlets two: one table, the kind of a meter in column 3
        "rnx_updu",
        f"{E}.55108.1",
        f"{E}.55108.1.3.1.1",
        {
            "3": {"0.0": 1, "0.1": 3, "0.2": 3, "0.3": 3, "1.0": 5, "1.1": 6, "1.2": 6},
            "4": {"0.0": 7_654_321, "1.1": 500_000},
            "7": {"0.0": 1351, "0.1": 397, "0.2": 591, "0.3": 363, "1.0": 363, "1.1": 69, "1.2": 118},
            "9": {"0.0": 1734, "0.1": 507, "0.2": 718, "0.3": 509, "1.0": 447},
            "10": {"0.0": 233499, "0.1": 230749, "0.2": 230667, "0.3": 233499, "1.1": 230543},
            "11": {"0.0": 7365, "0.1": 2187, "0.2": 3079, "0.3": 2099, "1.1": 357},
            "15": {"0.0": 0, "0.1": 0, "0.2": 0, "0.3": 0, "1.0": 0, "1.1": 0, "1.2": 2},
        },
        {
            "power_kw": 1.351,
            "power_l2_kw": 0.591,
            "energy_import_kwh": 7654.321,
            "module_1_power_kw": 0.363,
            "module_1_outlet_1_power_kw": 0.069,
            "voltage_l1_v": 230.749,
            "current_l1_a": 2.187,
        },
        absent=("module_1_outlet_2_power_kw",),
    ),
    Shape(
        "hpe_mapdu",
        f"{E}.232.165.7",
        f"{E}.232.165.7",
        {
            "2.1.1.2": {"1": 500},
            "2.1.1.5": {"1": 1830},
            "2.1.1.8": {"1": 955},
            "2.2.1.3": {"1.1": 231200, "1.2": 230100},
            "2.2.1.11": {"1.1": 4300, "1.2": 4010},
            "2.2.1.21": {"1.1": 950, "1.2": 880},
            "5.1.1.14": {"1.1": 950, "1.2": 880, "1.3": -1},
        },
        {"power_kw": 1.83, "power_l1_kw": 0.95, "voltage_l1_v": 231.2, "current_l2_a": 4.01},
        absent=("outlet_3_power_kw",),
    ),
    Shape(
        "hpe_pdu3",
        f"{E}.232.165.11",
        f"{E}.232.165.11",
        {
            "2.1.1.5": {"1": 1830},
            "2.2.1.3": {"1.1": 2312, "1.2": 2301},
            "2.2.1.11": {"1.1": 430, "1.2": 401},
            "2.2.1.20": {"1.1": 950, "1.2": 880},
            "5.1.1.13": {"1.1": 950, "1.2": 880},
        },
        {"power_kw": 1.83, "power_l1_kw": 0.95, "voltage_l1_v": 231.2, "current_l2_a": 4.01},
    ),
    Shape("mikrotik", f"{E}.14988.1", f"{E}.14988.1.1.3", {"12": {"0": 384}}, {"power_kw": 0.0384}),
    Shape(
        "powerlogic",
        f"{E}.3833.1.7",
        f"{E}.3833.1.7.255.15.1.1.3.1",
        {"2": {"1": 87}},
        {"power_kw": 87},
    ),
    Shape("netonix_switch", f"{E}.46242", f"{E}.46242", {"6": {"0": 287}}, {"power_kw": 0.0287}),
    Shape(
        "ipoman",
        f"{E}.2468.1.4.2.1",
        f"{E}.2468.1.4.2.1.3.2.3.1",
        {"5": {"1": 1250, "2": 900, "3": 0}},
        {"power_kw": 0.215, "outlet_1_power_kw": 0.125},
    ),
    Shape(  # the layout is a recording's, with two units where that has one
        "chatsworth_econnect",
        f"{E}.30932",
        f"{E}.30932.1.10.1.4.10.1",
        {
            "6": {f"1.{CPI_A}": 48, f"1.{CPI_B}": 100, f"2.{CPI_A}": 0},
            "7": {f"1.{CPI_A}": 2072, f"1.{CPI_B}": 2080, f"2.{CPI_A}": 2072},
            "8": {f"1.{CPI_A}": 98, f"1.{CPI_B}": 200, f"2.{CPI_A}": 0},
        },
        {
            "power_kw": 0.098,
            "unit_2_power_kw": 0.2,
            "outlet_1_voltage_v": 207.2,
            "unit_2_outlet_1_current_a": 1,
        },
    ),
    Shape(
        "wti_mpc",
        NET_SNMP,
        f"{E}.2634.3.200.10.1",
        {"4": {"1": 52}, "5": {"1": 208}, "6": {"1": 1070}, "7": {"1": 31}, "8": {"1": 208}, "9": {"1": 630}},
        {"power_kw": 1.7, "infeed_1_power_kw": 1.07, "infeed_2_current_a": 3.1},
    ),
    Shape(
        "eaton_sc200",
        f"{E}.1918.2.13",
        f"{E}.1918.2.13.10",
        {"50.10": {"0": 45}, "50.20": {"0": 22}, "50.30": {"0": 243}, "70.10.20": {"0": 5402}},
        {"power_kw": 2.43, "current_a": 45, "voltage_v": 54.02},
    ),
    Shape(
        "eaton_matrix",
        f"{E}.935.10.2",
        f"{E}.935.10.2.1",
        {
            "2.2.1.6": {"1": 2300, "2": 2301},
            "2.2.1.7": {"1": 3, "2": 4},
            "2.2.1.10": {"1": 700, "2": 800},
            "3.2.1.11": {"1": 2299},
            "3.2.1.12": {"1": 7},
            "3.2.1.13": {"1": 1500},
        },
        {"power_kw": 1.5, "inverter_2_power_kw": 0.8, "switch_1_voltage_v": 229.9},
    ),
    Shape(
        "hpe_mpdu",
        f"{E}.232.165.5",
        f"{E}.232.165.5.2.1.1",
        {
            "6": {"1.1": 2081, "1.2": 2081},
            "7": {"1.1": 512, "1.2": -1},
            "8": {"1.1": 1065, "1.2": -1},
            "9": {"1.1": 1040, "1.2": -1},
            "10": {"1.1": 98, "1.2": -1},
        },
        {"power_kw": 1.04, "segment_1_1_current_a": 5.12, "segment_1_1_voltage_v": 208.1},
    ),
    Shape(
        "rnx_updu",
        f"{E}.55108",
        f"{E}.55108.2",
        {
            **{f"1.2.1.{c}": {"1": v} for c, v in ((50, 0), (53, 1650), (54, 1700), (56, 123456))},
            **{f"9.2.1.{c}": {"1": v, "2": 0} for c, v in ((51, 7600), (52, 230100), (53, 1640), (56, 5000))},
            "9.2.1.50": {"1": 0, "2": 2},
        },
        {
            "power_kw": 1.65,
            "energy_import_kwh": 123.456,
            "outlet_1_power_kw": 1.64,
            "outlet_1_current_a": 7.6,
        },
        absent=("outlet_2_power_kw", "outlet_2_energy_kwh"),
    ),
    Shape(  # values and exponents of a phase are those that a Checkmk plug-in cites
        "bachmann_bluenet2",
        f"{E}.31770.2.1",
        f"{E}.31770.2.2.8",
        {
            f"{column}.{row}": {"": value}
            for row, raw, exponent in (
                ("0.0.255.255.255.255.0.19", 1602, -1),
                ("0.0.255.255.255.255.0.36", 1842643, -4),
                ("0.0.0.1.255.255.0.1", 23410, -2),
                ("0.0.0.1.255.255.0.4", 95, -2),
                ("0.0.0.1.255.255.0.18", 2234, -1),
                ("0.0.0.1.255.255.0.19", 1602, -1),
            )
            for column, value in (("4.1.5", raw), ("2.1.9", exponent))
        },
        {"power_kw": 0.1602, "energy_import_kwh": 184.2643, "voltage_l2_v": 234.1, "current_l2_a": 0.95},
    ),
]


async def first(objects: Objects) -> Recognised:
    found = await probe_agent(Recorded(objects), {"host": "192.0.2.7"})
    assert found, "no profile fits"
    return found[0]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.profile)
async def test_a_device_of_this_shape_is_read_right(shape: Shape) -> None:
    one = await first(shape.objects())
    assert one.profile == shape.profile
    assert {name: one.values.get(name) for name in shape.right} == pytest.approx(shape.right)
    assert not set(shape.absent) & one.values.keys()
    assert not [text for text in one.findings if "withheld" in text or " sum to " in text]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.profile)
async def test_its_vendor_number_without_its_table_is_not_taken_for_it(shape: Shape) -> None:
    bare = {oid: value for oid, value in shape.objects().items() if oid.startswith("1.3.6.1.2.1.1.")}
    assert await probe_agent(Recorded(bare), {"host": "192.0.2.7"}) == []


DOUBLE = "1.3.6.1.4.1.476.1.42.3.9.20.1"


@pytest.mark.parametrize(("second", "kw"), [(b"20.1", 20.0), (b"3", None)])
async def test_a_label_that_stands_twice_counts_only_where_both_say_the_same(
    second: bytes, kw: float | None
) -> None:
    rows: Objects = {}
    for row, value in (("1.2.1.1", b"20"), ("1.2.1.9", second)):
        cells = {"10": b"System Output Power", "20": value, "30": b"kW"}
        rows |= {f"{DOUBLE}.{column}.{row}": cell for column, cell in cells.items()}
    load: Objects = {"10": b"System Output Power Percent Load", "20": b"40", "30": b"%"}
    rows |= {f"{DOUBLE}.{column}.1.2.1.5": cell for column, cell in load.items()}
    system: Objects = {"1.3.6.1.2.1.1.1.0": b"a card", "1.3.6.1.2.1.1.2.0": "1.3.6.1.4.1.476.1.42"}
    found = await probe_agent(Recorded(system | rows), {"host": "192.0.2.7"})
    values = {name: value for one in found for name, value in one.values.items()}
    assert values.get("power_kw") == kw
    assert kw is not None or any("none of them is taken" in text for one in found for text in one.findings)
