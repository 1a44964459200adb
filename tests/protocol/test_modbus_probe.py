"""Recognising unknown Modbus meters."""

from __future__ import annotations

import re
import struct

import pytest
import yaml
from pydantic import TypeAdapter

from app.domain.site import Meter
from app.errors import DeviceUnreachable
from collectors import registry
from collectors.base import Binding
from collectors.modbus.probe import interpretations, probe, try_orders
from collectors.profiles.profile import ModbusProfile, load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.protocol.modbus_helpers import AT, plain_profile, read, values
from tests.protocol.test_modbus_profiles import EMPTY


def plausible(channel: str) -> float:
    """What a meter with 20 kW on each of three phases shows."""
    parts = 1 if re.search(r"_l\d_", channel) else 3
    if channel.startswith(("power_factor", "cos")):
        return 0.9
    sizes = {"kw": 20.0, "kva": 22.0, "kvar": 9.0, "kwh": 200.0, "kvarh": 50.0, "kvah": 220.0}
    whole = {"v": 230.0, "a": 96.0, "hz": 50.0}
    unit = channel.rpartition("_")[2]
    return whole[unit] if unit in whole else sizes.get(unit, 10.0) * parts


def simulated(name: str, identity: str = "") -> SimulatedUnit:
    """A meter of a shipped profile that calls itself `identity`."""
    profile = load_profile(name)
    assert isinstance(profile, ModbusProfile)
    profile = profile.model_copy(update={"model": identity or "meter", "vendor": ""}).named(name)
    there = {c.name: plausible(c.name) for c in profile.channels}
    return SimulatedUnit(profile, lambda channel, at: there[channel], refuse_holes=True)


@pytest.mark.parametrize(
    ("name", "identity", "words"),
    [
        ("schneider_pm5xxx", "METSEPM5560", {}),
        ("schneider_iem3000", "iEM3155", {}),
        ("schneider_iem3000", "A9MEM3155", {}),
        ("siemens_pac", "SENTRON PAC3200", {}),
        ("siemens_7kt1665", "7KT1665", {}),
        ("socomec_countis_e", "COUNTIS E44", {}),
        ("janitza_umg96rm", "UMG 96RM-E", {}),
        ("abb_a43_b23", "", {0x8960: 0x4232, 0x8961: 0x3320}),
        ("carlo_gavazzi_em540", "", {11: 1651}),
        ("sunspec_meter", "", {}),
        ("sunspec_meter_float", "", {}),
    ],
)
async def test_a_meter_is_recognised_and_its_yaml_polls_it(
    name: str, identity: str, words: dict[int, int]
) -> None:
    served = simulated(name, identity)
    served.words |= {("holding", address): word for address, word in words.items()}
    async with SimulatedModbus({1: served}) as server:
        found = await probe("127.0.0.1", server.port)
        assert found[0].profile == name
        assert found[0].certain
        assert found[0].values["energy_import_kwh"] >= 100.0
        (document,) = yaml.safe_load(found[0].yaml)
        meter = TypeAdapter(Meter).validate_python(document)
        assert meter.collector is not None
        collector = registry.build(registry.parse(meter.collector), Binding(meter.id, meter.points))
        poll = await collector.poll(AT)
        await collector.close()
    assert len(read(poll)) == len(meter.points) >= 1


async def test_a_plausible_frequency_is_no_certainty() -> None:
    served = simulated("eastron_sdm630")
    async with SimulatedModbus({1: served}) as server:
        found = await probe("127.0.0.1", server.port)
    assert [(one.profile, one.certain) for one in found] == [("eastron_sdm630", False)]
    assert "plausible 50" in found[0].why


async def test_an_unknown_meter_gives_nothing_and_units_behind_a_gateway_are_told_apart() -> None:
    unknown = SimulatedUnit(plain_profile(EMPTY), values, refuse_holes=True)
    async with SimulatedModbus({1: unknown, 5: simulated("siemens_pac", "SENTRON PAC4200")}) as server:
        assert await probe("127.0.0.1", server.port) == []
        found = await probe("127.0.0.1", server.port, device_ids=(1, 5, 9))
    assert [(one.device_id, one.profile) for one in found] == [(5, "siemens_pac")]


async def test_a_silent_address_is_unreachable() -> None:
    served = simulated("siemens_pac")
    served.faults.silent = True
    async with SimulatedModbus({1: served}) as server:
        with pytest.raises(DeviceUnreachable):
            await probe("127.0.0.1", server.port, timeout_s=0.05)


async def test_a_meter_that_is_silent_once_is_still_recognised() -> None:
    served = simulated("schneider_pm5xxx", "METSEPM5560")
    served.faults.silent_times = 1
    async with SimulatedModbus({1: served}) as server:
        found = await probe("127.0.0.1", server.port)
    assert [one.profile for one in found] == ["schneider_pm5xxx"]


async def test_probing_reads_only_by_harmless_functions() -> None:
    served = simulated("schneider_pm5xxx", "METSEPM5560")
    async with SimulatedModbus({1: served}) as server:
        await probe("127.0.0.1", server.port)
    assert {table for table, _, _ in served.requests} <= {"holding", "input"}


@pytest.mark.parametrize(
    ("words", "shown", "kind", "word_order", "scale"),
    [
        ((0x0000, 0x42F7, 0, 0), 123.5, "float32", "little", 1.0),
        ((0x42F7, 0x0000, 0, 0), 123.4, "float32", "big", 1.0),
        ((0xCD15, 0x075B, 0, 0), 12_345_678.9, "int32", "little", 0.1),
        ((0, 0, 0x075B, 0xCD15), 123_456.789, "int64", "big", 0.001),
        ((0x405E, 0xE000, 0, 0), 123.5, "float64", "big", 1.0),
    ],
)
async def test_the_value_on_the_panel_tells_type_order_and_scale(
    words: tuple[int, ...], shown: float, kind: str, word_order: str, scale: float
) -> None:
    served = SimulatedUnit(plain_profile(EMPTY), values, refuse_holes=True)
    served.words = {("holding", 300 + i): word for i, word in enumerate(words)}
    async with SimulatedModbus({1: served}) as server:
        ways = await try_orders("127.0.0.1", server.port, 1, 300, shown)
    assert (kind, word_order, "big", scale) in [
        (w.type, w.word_order, w.byte_order, w.scale) for w in ways[:4]
    ]


def test_registers_that_fit_nothing_have_no_interpretation() -> None:
    assert interpretations(struct.pack(">4H", 0, 0, 0, 0), 123.0) == []
