"""Every Modbus profile reads the words its meter was documented to hold.

The words stand here as numbers, worked out from the vendor's type and not by the code under test; a
register that is not listed is refused, so an address that is off by one fails.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from collectors.modbus.collector import ModbusCollector
from collectors.profiles.profile import ModbusChannel, ModbusProfile, load_profile, profile_names
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.protocol.modbus_helpers import AT, collector, plain_profile, read

F32_1500, F32_12_5, F32_123_5 = (0x44BB, 0x8000), (0x4148, 0x0000), (0x42F7, 0x0000)
I64_123456789 = (0x0000, 0x0000, 0x075B, 0xCD15)
"""Words, most significant first, of 1500.0, 12.5 and 123.5 as float32 and of 123 456 789 as 64 bits."""

CASES = [
    ("schneider_pm5xxx", "power_kw", "holding", 3059, F32_12_5, 12.5),
    ("schneider_pm5xxx", "power_l2_kw", "holding", 3055, F32_12_5, 12.5),
    ("schneider_pm5xxx", "energy_import_kwh", "holding", 3203, I64_123456789, 123_456.789),
    ("schneider_pm5xxx", "energy_export_kwh", "holding", 3207, I64_123456789, 123_456.789),
    ("schneider_pm5xxx", "energy_import_float_kwh", "holding", 2699, F32_123_5, 123.5),
    ("schneider_pm8000", "power_kw", "holding", 3059, F32_12_5, 12.5),
    ("schneider_pm8000", "energy_import_kwh", "holding", 3203, I64_123456789, 123_456.789),
    ("schneider_iem3000", "power_kw", "holding", 3059, F32_12_5, 12.5),
    ("schneider_iem3000", "energy_import_kwh", "holding", 3203, I64_123456789, 123_456.789),
    ("schneider_powertag", "power_kw", "input", 3059, F32_1500, 1.5),
    ("schneider_powertag", "energy_import_kwh", "input", 3207, I64_123456789, 123_456.789),
    ("schneider_pm800", "energy_import_kwh", "holding", 1700, (6789, 2345, 1, 0), 123_456_789.0),
    ("janitza_umg96rm", "power_kw", "holding", 19026, F32_1500, 1.5),
    ("janitza_umg96rm", "energy_import_kwh", "holding", 19068, F32_1500, 1.5),
    ("janitza_umg96rm", "energy_net_kwh", "holding", 19060, F32_1500, 1.5),
    ("janitza_umg96rm", "energy_export_kwh", "holding", 19076, F32_1500, 1.5),
    ("janitza_umg604", "power_kw", "holding", 1369, F32_1500, 1.5),
    ("janitza_umg604", "energy_import_kwh", "holding", 9851, F32_1500, 1.5),
    ("janitza_umg604", "energy_export_kwh", "holding", 9863, F32_1500, 1.5),
    ("janitza_umg806", "energy_import_kwh", "holding", 19062, F32_1500, 1.5),
    ("janitza_b23", "power_kw", "holding", 19026, F32_1500, 1.5),
    ("janitza_b23", "energy_import_kwh", "holding", 19068, F32_1500, 1.5),
    ("siemens_pac", "power_kw", "holding", 65, F32_1500, 1.5),
    ("siemens_pac", "energy_import_kwh", "holding", 801, (0x4097, 0x7000, 0, 0), 1.5),
    ("siemens_pac", "energy_import_tariff2_kwh", "holding", 805, (0x4097, 0x7000, 0, 0), 1.5),
    ("siemens_7kt1665", "power_kw", "holding", 57, (0x0002, 0x49F0), 1.5),
    ("siemens_7kt1665", "energy_import_kwh", "holding", 6687, (0xFFFF, 0xFFFF), 4_294_967.295),
    ("abb_a43_b23", "power_kw", "holding", 0x5B14, (0xFFFD, 0xB610), -1.5),
    ("abb_a43_b23", "energy_import_kwh", "holding", 0x5000, I64_123456789, 1_234_567.89),
    ("abb_m2m", "power_kw", "holding", 12322, F32_1500, 1.5),
    ("abb_m2m", "energy_import_kwh", "holding", 12350, F32_123_5, 123.5),
    ("abb_m2m", "energy_total_kwh", "holding", 12416, F32_123_5, 123.5),
    ("eastron_sdm630", "power_kw", "input", 52, F32_1500, 1.5),
    ("eastron_sdm630", "energy_import_kwh", "input", 72, F32_123_5, 123.5),
    ("eastron_sdm120", "power_kw", "input", 12, F32_1500, 1.5),
    ("eastron_sdm120", "energy_import_kwh", "input", 72, F32_123_5, 123.5),
    ("carlo_gavazzi_em340", "power_kw", "holding", 40, (0x3A98, 0x0000), 1.5),
    ("carlo_gavazzi_em340", "energy_import_kwh", "holding", 52, (0xCD15, 0x075B), 12_345_678.9),
    ("carlo_gavazzi_em24", "power_kw", "input", 40, (0xC568, 0xFFFF), -1.5),
    ("carlo_gavazzi_em24", "energy_import_kwh", "input", 62, (0xCD15, 0x075B), 12_345_678.9),
    ("carlo_gavazzi_em540", "power_kw", "input", 40, (0x3A98, 0x0000), 1.5),
    ("carlo_gavazzi_em540", "energy_import_kwh", "input", 52, (0xCD15, 0x075B), 12_345_678.9),
    ("socomec_countis_e", "power_kw", "holding", 50536, (0x0000, 0x0096), 1.5),
    ("socomec_countis_e", "energy_import_kwh", "holding", 50946, (0xFFFF, 0xFFFF), 42_949_672.95),
    ("socomec_diris_a10", "power_kw", "holding", 50536, (0x0000, 0x0096), 1.5),
    ("socomec_diris_a10", "energy_import_kwh", "holding", 50780, (0x075B, 0xCD15), 123_456_789.0),
    ("socomec_diris_b30", "power_kw", "holding", 18476, (0x0000, 0x05DC), 1.5),
    ("socomec_diris_b30", "energy_import_kwh", "holding", 19843, (0x075B, 0xCD15), 123_456_789.0),
    ("acrel_adw300", "power_kw", "holding", 36, (0x0000, 0x05DC), 1.5),
    ("acrel_adw300", "energy_import_kwh", "holding", 62, (0x075B, 0xCD15), 1_234_567.89),
    ("chint_dtsu666", "power_kw", "holding", 0x2012, F32_1500, 0.15),
    ("chint_dtsu666", "energy_import_kwh", "holding", 0x101E, F32_123_5, 123.5),
    ("lovato_dmg610", "power_kw", "input", 0x39, (0xFFFD, 0xB610), -1.5),
    ("lovato_dmg610", "energy_import_kwh", "input", 0x1B1F, I64_123456789, 1_234_567.89),
    ("lovato_dmg610", "current_l3_a", "input", 11, (0x0000, 0xC350), 5.0),
    ("inepro_pro380", "power_kw", "holding", 0x5012, F32_12_5, 12.5),
    ("inepro_pro380", "energy_import_kwh", "holding", 0x600C, F32_123_5, 123.5),
    ("inepro_pro380", "energy_import_l3_kwh", "holding", 0x6016, F32_123_5, 123.5),
    ("wago_879", "energy_import_kwh", "holding", 0x600C, F32_123_5, 123.5),
    ("dzg_dvh4013", "power_kw", "holding", 0, (0x0000, 0x3A98), 1.5),
    ("dzg_dvh4013", "power_export_kw", "holding", 2, (0x0000, 0x3A98), 1.5),
    ("dzg_dvh4013", "energy_import_kwh", "holding", 0x4000, (0x075B, 0xCD15), 123_456.789),
    ("bgetech_ds100", "power_kw", "holding", 0x0420, (0x0000, 0x05DC), 1.5),
    ("bgetech_ds100", "energy_import_kwh", "holding", 0x010E, (0x075B, 0xCD15), 1_234_567.89),
    ("bgetech_ws100", "power_kw", "holding", 0x0104, (0xFFFF, 0xFA24), -1.5),
    ("bgetech_ws100", "energy_export_kwh", "holding", 0x0118, (0x075B, 0xCD15), 1_234_567.89),
    ("eltako_dsz15", "power_kw", "input", 0x34, (0x0000, 0x05DC), 1.5),
    ("eltako_dsz15", "energy_import_kwh", "input", 0x48, (0x075B, 0xCD15), 1_234_567.89),
    ("orno_we514", "power_kw", "holding", 0x0140, (0x0000, 0x05DC), 1.5),
    ("orno_we514", "energy_import_kwh", "holding", 0xA000, (0x075B, 0xCD15), 1_234_567.89),
    ("orno_we516", "power_kw", "holding", 0x1C, F32_12_5, 12.5),
    ("orno_we516", "energy_import_kwh", "holding", 0x0108, F32_123_5, 123.5),
    ("orno_we504", "power_kw", "holding", 3, (0x05DC,), 1.5),
    ("orno_we504", "energy_import_kwh", "holding", 7, (0x075B, 0xCD15), 123_456.789),
    ("bernecker_mpm3pm", "power_kw", "holding", 0x26, (0x0002, 0x49F0), 1.5),
    ("bernecker_mpm3pm", "energy_import_kwh", "holding", 0x02, (0x075B, 0xCD15), 1_234_567.89),
    ("ddm18sd", "power_kw", "input", 0x12, F32_1500, 1.5),
    ("ddm18sd", "energy_import_kwh", "input", 0x0100, F32_123_5, 123.5),
    ("victron_vm3p", "power_kw", "holding", 0x3080, (0xFFFF, 0xFA24), -1.5),
    ("victron_vm3p", "energy_import_kwh", "holding", 0x3034, (0x075B, 0xCD15), 1_234_567.89),
    ("chint_ddsu666", "power_kw", "holding", 0x2004, F32_12_5, 12.5),
    ("chint_ddsu666", "energy_import_kwh", "holding", 0x4000, F32_123_5, 123.5),
    ("eastron_sdm72", "power_kw", "input", 0x34, F32_1500, 1.5),
    ("eastron_sdm72", "energy_import_kwh", "input", 0x48, F32_123_5, 123.5),
    ("carlo_gavazzi_em112", "power_kw", "holding", 4, (0xC568, 0xFFFF), -1.5),
    ("carlo_gavazzi_em112", "energy_import_kwh", "holding", 0x10, (0xCD15, 0x075B), 12_345_678.9),
    ("gossen_energymid", "power_kw", "input", 203, (1500, *[0] * 8, 0x55FF), 0.15),
    ("gossen_energymid", "power_l1_kw", "input", 200, (0xFA24, *[0] * 11, 0x0001), -15.0),
    ("gossen_energymid", "energy_import_kwh", "input", 300, (0, 50_000, *[0] * 6, 0, 200), 10_000.0),
    ("schneider_pm2000", "power_kw", "holding", 3059, F32_12_5, 12.5),
    ("schneider_pm2000", "energy_import_kwh", "holding", 3203, I64_123456789, 123_456.789),
    ("abb_m4m", "energy_import_kwh", "holding", 0x5000, I64_123456789, 1_234_567.89),
    ("finder_7m", "power_kw", "input", 2536, F32_1500, 1.5),
    ("acrel_dtsd1352", "power_kw", "holding", 0x016A, (0x0000, 0x05DC), 1.5),
    ("acrel_dtsd1352", "energy_import_kwh", "holding", 0x000A, (0x075B, 0xCD15), 1_234_567.89),
    ("acrel_dtsd1352", "current_transformer_ratio", "holding", 0x8E, (40,), 40.0),
    ("saia_ale3", "energy_import_kwh", "holding", 27, (0x075B, 0xCD15), 1_234_567.89),
    ("wattnode_semtr3y", "energy_import_kwh", "input", 1002, (0x0000, 0x42F7), 123.5),
]

EMPTY = """\
model: empty
vendor: test
protocol: modbus
source: none
channels: [{name: power_kw, kind: power, unit: W, address: 65535, type: int16}]
"""
SUNSPEC_HEAD = (0x5375, 0x6E53, 1, 66, *[0] * 66)


def holding(table: str, address: int, words: tuple[int, ...]) -> SimulatedUnit:
    """A unit with these registers and no others."""
    served = SimulatedUnit(plain_profile(EMPTY), lambda channel, at: 0.0)
    served.words = {(table, address + i): word for i, word in enumerate(words)}
    served.refuse_holes = True
    return served


async def value_of(name: str, channel: str, served: SimulatedUnit) -> float | None:
    profile = load_profile(name)
    assert isinstance(profile, ModbusProfile)
    one = profile.model_copy(update={"channels": tuple(c for c in profile.channels if c.name == channel)})
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port, model=one, profile=name)
        poll = await meter.poll(AT)
        await meter.close()
    return read(poll).get(channel)


@pytest.mark.parametrize(("name", "channel", "table", "address", "words", "expected"), CASES)
async def test_the_documented_words_give_the_value(
    name: str, channel: str, table: str, address: int, words: tuple[int, ...], expected: float
) -> None:
    assert await value_of(name, channel, holding(table, address, words)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "channel", "offset", "words", "scale", "expected"),
    [
        ("sunspec_meter", "power_kw", 18, (15_000,), (22, 0xFFFF), 1.5),
        ("sunspec_meter", "power_kw", 18, (0xFFFF,), (22, 2), -0.1),
        ("sunspec_meter", "power_kw", 18, (0x8000,), (22, 0), None),
        ("sunspec_meter", "power_kw", 18, (15,), (22, 0x8000), None),
        ("sunspec_meter", "energy_import_kwh", 46, (0x075B, 0xCD15), (54, 1), 1_234_567.89),
        ("sunspec_meter", "energy_import_kwh", 46, (0, 0), (54, 1), None),
        ("sunspec_meter_float", "power_kw", 28, F32_1500, (1, 124), 1.5),
        ("sunspec_meter_float", "energy_import_kwh", 68, F32_1500, (1, 124), 1.5),
        ("sunspec_meter_float", "energy_import_kwh", 68, (0x7FC0, 0x0000), (1, 124), None),
    ],
)
@pytest.mark.parametrize("base", [40_000, 50_000, 0])
async def test_sunspec_words_behind_another_model_give_the_value(
    name: str,
    channel: str,
    offset: int,
    words: tuple[int, ...],
    scale: tuple[int, int],
    expected: float | None,
    base: int,
) -> None:
    model_at = base + len(SUNSPEC_HEAD)
    number, length = (213, 124) if "float" in name else (203, 105)
    served = holding("holding", base, (*SUNSPEC_HEAD, number, length, *[0] * length, 0xFFFF, 0))
    served.words |= {("holding", model_at + offset + i): word for i, word in enumerate(words)}
    served.words[("holding", model_at + scale[0])] = scale[1]
    value = await value_of(name, channel, served)
    assert value == (None if expected is None else pytest.approx(expected))


SENTINELS = [
    ("abb_a43_b23", "power_kw", "holding", 0x5B14, (0x7FFF, 0xFFFF)),
    ("abb_a43_b23", "energy_import_kwh", "holding", 0x5000, (0xFFFF,) * 4),
    ("carlo_gavazzi_em340", "power_kw", "holding", 40, (0xFFFF, 0x7FFF)),
    ("carlo_gavazzi_em340", "energy_import_kwh", "holding", 52, (0xFFFF, 0x7FFF)),
    ("schneider_powertag", "power_kw", "input", 3059, (0xFFC0, 0x0000)),
    ("schneider_powertag", "energy_import_kwh", "input", 3207, (0x8000, 0, 0, 0)),
]


@pytest.mark.parametrize(("name", "channel", "table", "address", "words"), SENTINELS)
async def test_the_documented_sentinel_gives_no_value(
    name: str, channel: str, table: str, address: int, words: tuple[int, ...]
) -> None:
    assert await value_of(name, channel, holding(table, address, words)) is None


def test_every_profile_has_its_words_here() -> None:
    tested = {case[0] for case in CASES} | {"sunspec_meter", "sunspec_meter_float"}
    assert tested == set(profile_names("modbus"))


@pytest.mark.parametrize(
    ("name", "modulus_kwh"),
    [
        ("siemens_7kt1665", 4_294_967.296),
        ("socomec_countis_e", 42_949_672.96),
        ("socomec_diris_a10", 2.0**32),
        ("saia_ale3", 42_949_672.96),
        ("carlo_gavazzi_em340", 214_748_364.7),
        ("carlo_gavazzi_em24", 214_748_364.7),
        ("acrel_adw300", 21_474_836.47),
    ],
)
def test_counters_wrap_where_the_document_says(name: str, modulus_kwh: float) -> None:
    channel = next(c for c in load_profile(name).channels if c.name == "energy_import_kwh")
    assert channel.modulus_delivered == pytest.approx(modulus_kwh)


@pytest.mark.parametrize("name", profile_names("modbus"))
async def test_a_simulated_meter_of_every_model_reads_back(name: str) -> None:
    profile = load_profile(name)
    assert isinstance(profile, ModbusProfile)
    there = {c.name: 20.0 + i for i, c in enumerate(profile.channels)}
    there["frequency_hz"] = 50.0
    async with SimulatedModbus({1: SimulatedUnit(profile, lambda channel, at: there[channel])}) as server:
        meter = collector(server.port, model=profile, profile=name)
        assert isinstance(meter, ModbusCollector)
        meter.check(None)  # a value of its own for every register is no plausible meter
        poll = await meter.poll(AT)
        await meter.close()
    assert not poll.failures
    assert read(poll) == pytest.approx({c.name: there[c.name] for c in profile.channels}, rel=1e-2)


def test_every_address_of_the_table_of_registers_is_in_a_profile(shared_data: Path) -> None:
    """Rows of the shared table: function code, address, type, scale and unit stand in some profile."""
    known = {
        (c.table, c.address, c.type, round(c.scale, 6), c.unit.lower())
        for name in profile_names("modbus")
        for c in load_profile(name).channels
        if isinstance(c, ModbusChannel)
    }
    with (shared_data / "modbus_maps.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["meter"].startswith("SunSpec")]
    for row in rows:
        address = int(re.match(r"\d+", row["address_0based"])[0])  # type: ignore[index]
        kind = "mod10" if row["data_type"].startswith("MOD10") else row["data_type"]
        tables = ["input"] if row["function_code"] == "4" else ["holding", "input"]
        expected = [(t, address, kind, float(row["scale"]), row["unit"].lower()) for t in tables]
        assert any(entry in known for entry in expected), row
