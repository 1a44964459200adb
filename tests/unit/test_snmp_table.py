"""Channels over tables: which rows belong, what their raw values mean, what sums and products are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from app.errors import ConfigError
from collectors.profiles.profile import SnmpProfile, read_profile
from collectors.snmp.session import Value
from collectors.snmp.table import NoValue, Survey, number, survey

HEAD = "model: M\nvendor: V\nprotocol: snmp\nsource: test\nchannels:\n"


class Rows:
    """An agent in memory."""

    def __init__(self, values: dict[str, Value]) -> None:
        self.values, self.walked = values, list[str]()

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        return {oid: self.values[oid] for oid in oids if oid in self.values}

    async def walk(self, oid: str) -> dict[str, Value]:
        self.walked.append(oid)
        return {o[len(oid) + 1 :]: v for o, v in self.values.items() if o.startswith(f"{oid}.")}


def profile(*channels: str) -> SnmpProfile:
    read = read_profile(HEAD + "".join(f"  - {{{channel}}}\n" for channel in channels))
    assert isinstance(read, SnmpProfile)
    return read


async def surveyed(values: dict[str, Value], *channels: str, names: list[str] | None = None) -> Survey:
    return await survey(Rows(values), profile(*channels), names)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (5, 5),
        (b"54.01", 54.01),
        (b"54,01", 54.01),
        (b" 12 \0", 12),
        (b"1017 W", 1017),
        ("-3.5e2", -350),
        (b"21\xb0C", 21),
        (1.5, 1.5),
    ],
)
def test_numbers_of_agents(raw: Value, value: float) -> None:
    assert number(raw) == value


@pytest.mark.parametrize(
    "raw", [b"", b"n/a", b"12/09/2019", b"notsupported", math.nan, math.inf, b"1 2", b"0x10"]
)
def test_not_numbers(raw: Value) -> None:
    with pytest.raises(NoValue):
        number(raw)


async def test_rows_name_channels_and_the_first_unit_goes_unnamed() -> None:
    values: dict[str, Value] = {"1.3.9.0.1": 10, "1.3.9.0.2": 20, "1.3.9.1.1": 30, "1.3.9.1.1.7": 99}
    seen = await surveyed(
        values, 'name: "unit_{u}_outlet_{n}_power_kw", unit: w, oid: 1.3.9, index: "{u+1}.{n}"'
    )
    assert seen.readings() == {
        "outlet_1_power_kw": 0.01,
        "outlet_2_power_kw": 0.02,
        "unit_2_outlet_1_power_kw": 0.03,
    }


async def test_other_columns_decide_which_rows_belong() -> None:
    values: dict[str, Value] = {"1.3.9.1": 10, "1.3.9.2": 20, "1.3.5.1": 0, "1.3.5.2": 3}
    seen = await surveyed(
        values, 'name: "power_l{n}_kw", unit: w, oid: 1.3.9, index: "{n}", where: {1.3.5: [0]}'
    )
    assert seen.readings() == {"power_l1_kw": 0.01}


async def test_scale_from_the_device() -> None:
    values: dict[str, Value] = {"1.3.9.1": 1234, "1.3.7.1": 2, "1.3.8.1": 10}
    seen = await surveyed(
        values,
        'name: "a_{n}_power_kw", unit: w, oid: 1.3.9, index: "{n}", digits_oid: 1.3.7',
        'name: "b_{n}_power_kw", unit: w, oid: 1.3.9, index: "{n}", si_oid: 1.3.8',
    )
    assert seen.readings() == pytest.approx({"a_1_power_kw": 0.01234, "b_1_power_kw": 1234.0})


async def test_missing_scale_gives_no_value() -> None:
    seen = await surveyed(
        {"1.3.9.1": 1234}, 'name: "a_{n}_power_kw", unit: w, oid: 1.3.9, index: "{n}", digits_oid: 1.3.7'
    )
    assert seen.readings() == {}


POWERS = 'name: "power_l{n}_kw", unit: w, oid: 1.3.9, index: "{n}", sentinels: [-1]'


async def test_sum_needs_every_part() -> None:
    total = 'name: power_kw, unit: kw, sum_of: ["power_l{n}_kw"]'
    assert (await surveyed({"1.3.9.1": 10, "1.3.9.2": 20}, POWERS, total)).readings()[
        "power_kw"
    ] == pytest.approx(0.03)
    assert "power_kw" not in (await surveyed({"1.3.9.1": 10, "1.3.9.2": -1}, POWERS, total)).readings()


async def test_sum_may_leave_unused_phases_out() -> None:
    total = 'name: power_kw, unit: kw, sum_of: ["power_l{n}_kw"], skip_missing: true'
    assert (await surveyed({"1.3.9.1": 10, "1.3.9.2": -1}, POWERS, total)).readings()["power_kw"] == 0.01
    assert "power_kw" not in (await surveyed({"1.3.9.1": -1, "1.3.9.2": -1}, POWERS, total)).readings()


async def test_sums_by_unit() -> None:
    values: dict[str, Value] = {"1.3.9.1.1": 10, "1.3.9.1.2": 20, "1.3.9.2.1": 5}
    seen = await surveyed(
        values,
        'name: "unit_{u}_infeed_{n}_power_kw", unit: w, oid: 1.3.9, index: "{u}.{n}"',
        'name: "unit_{u}_power_kw", unit: kw, sum_of: ["unit_{u}_infeed_{n}_power_kw"]',
    )
    readings = seen.readings()
    assert (readings["power_kw"], readings["unit_2_power_kw"]) == pytest.approx((0.03, 0.005))


async def test_product_of_volts_and_amperes() -> None:
    seen = await surveyed(
        {"1.1.0": b"54.01", "1.2.0": 1580},
        "name: voltage_v, unit: v, oid: 1.1.0",
        "name: current_a, unit: a, oid: 1.2.0",
        "name: power_kw, unit: w, product_of: [voltage_v, current_a]",
    )
    assert seen.readings()["power_kw"] == pytest.approx(85.3358)


async def test_first_description_with_a_value_is_used() -> None:
    both = ("name: power_kw, unit: w, oid: 1.1.0, sentinels: [-1]", "name: power_kw, unit: w, oid: 1.2.0")
    assert (await surveyed({"1.1.0": 10, "1.2.0": 20}, *both)).readings() == {"power_kw": 0.01}
    assert (await surveyed({"1.1.0": -1, "1.2.0": 20}, *both)).readings() == {"power_kw": 0.02}


async def test_register_does_not_change_its_origin_for_a_passing_lack_of_a_value() -> None:
    both = (
        "name: energy_import_kwh, unit: kwh, oid: 1.1.0, sentinels: [-1]",
        "name: energy_import_kwh, unit: kwh, oid: 1.2.0",
    )
    assert (await surveyed({"1.1.0": -1, "1.2.0": 20}, *both)).readings() == {}


async def test_only_what_is_needed_is_walked() -> None:
    agent = Rows({"1.3.9.1": 10, "1.3.8.1": 7})
    other = 'name: "outlet_{n}_power_kw", unit: w, oid: 1.3.8, index: "{n}"'
    total = 'name: power_kw, unit: kw, sum_of: ["power_l{n}_kw"]'
    seen = await survey(agent, profile(POWERS, other, total), ["power_kw"])
    assert list(seen.sources) == ["power_kw"]
    assert agent.walked == ["1.3.9"]


@pytest.mark.parametrize(
    ("channel", "fault"),
    [
        ("name: power_kw, unit: w", "one of oid, sum_of and product_of"),
        ('name: power_kw, unit: w, oid: 1.3.2, index: "{n}"', "same variables"),
        ("name: power_kw, unit: kw, sum_of: [other_power_kw]", "not described before"),
        ('name: power_kw, unit: w, oid: 1.3.2, index: "x"', "pattern"),
    ],
)
def test_profile_faults_are_named(channel: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        profile(channel)


async def test_value_the_device_calls_invalid_is_none() -> None:
    channel = 'name: "a_{n}_power_kw", unit: w, oid: 1.3.9, index: "{n}", valid: {1.3.6.2: [1]}'
    values: dict[str, Value] = {"1.3.9.1": 10, "1.3.9.2": 0, "1.3.9.3": 30, "1.3.6.2.1": 1, "1.3.6.2.2": 2}
    seen = await surveyed(values, channel)
    assert seen.readings() == {"a_1_power_kw": 0.01, "a_3_power_kw": 0.03}
    assert "1.3.6.2.2" in seen.sources["a_2_power_kw"].oids()
