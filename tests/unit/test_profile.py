"""Device profiles: what is refused, with file and line, and what a point gets from its channel."""

from __future__ import annotations

import math

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import ConfigError
from collectors.profiles.profile import (
    channel_for,
    defaults_for,
    delivered,
    find_channel,
    load_profile,
    profile_names,
    read_profile,
)

GOOD = """\
model: M1
vendor: V
protocol: modbus
source: document 1
channels:
  - {name: energy_import_kwh, kind: register, unit: Wh, address: 10, type: uint32, scale: 10,
     modulus: 4294967296}
  - {name: power_kw, kind: power, unit: W, address: 2, type: int16}
  - name: "outlet_{n}_power_kw"
    kind: power
    unit: W
    address: 20
    type: int16
"""


def point(**keys: object) -> Point:
    settings: dict[str, object] = {"id": "p", "role": Role.COOLING, "kind": ReadingKind.REGISTER, **keys}
    return Point(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_sound(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("type: int16}", "type: int17}", 8, "channels[1].type: Input should be 'int16'"),
        ("kind: power, unit: W, address: 2", "kind: power, unit: Watt, address: 2", 8, "unknown unit 'Watt'"),
        ("name: power_kw", "name: power_w", 8, "the name must end in _kw"),
        ("    unit: W\n", "    unit: W\n    colour: red\n", 12, "channels[2].colour: Extra inputs"),
        ("address: 10", "address: 70000", 6, "channels[0].address"),
        ("name: power_kw, kind: power", "name: power_kw, kind: gauge", 8, "of kind power"),
        ("protocol: modbus", "protocol: opc", 3, "allowed is modbus or snmp"),
        ("source: document 1\n", "", 1, "source: Field required"),
    ],
)
def test_a_broken_profile_is_refused_with_file_line_and_key(old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_profile(GOOD.replace(old, new), file="m1.yaml")
    assert str(caught.value).startswith(f"m1.yaml:{line}: ")
    assert says in str(caught.value)


def test_text_that_is_no_yaml_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"m1\.yaml:2: not valid YAML"):
        read_profile("a: [\n", file="m1.yaml")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="schneider_pm5xxx"):
        load_profile("schneider_pm9999")


def test_a_point_gets_its_modulus_in_house_units() -> None:
    profile = read_profile(GOOD)
    assert defaults_for(point(), profile).modulus_kwh == pytest.approx(42_949_672.96)
    assert defaults_for(point(modulus_kwh=1e6), profile).modulus_kwh == 1e6
    power = point(kind=ReadingKind.POWER, channel="power_kw")
    assert defaults_for(power, profile).modulus_kwh == math.inf


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"channel": "energy_kwh"},
            r"p\.channel: 'energy_kwh' is not offered; allowed are energy_import_kwh",
        ),
        ({"channel": "power_kw"}, r"p\.kind: channel power_kw is power"),
        ({"unit": "Wh"}, r"p\.unit: leave unit out: channel energy_import_kwh is delivered in kwh"),
        ({"role": Role.WATER}, r"p\.channel: channel energy_import_kwh is energy, the point is volume"),
        ({"kind": ReadingKind.GAUGE, "role": Role.NONE}, r"p\.channel: a gauge point must name"),
    ],
)
def test_a_point_that_does_not_fit_its_channel_is_refused(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        channel_for(point(**keys), read_profile(GOOD).channels)


def test_a_table_channel_answers_to_every_index() -> None:
    found = find_channel(read_profile(GOOD).channels, "outlet_17_power_kw")
    assert found is not None
    assert (found[0].name, found[1]) == ("outlet_{n}_power_kw", 17)


@pytest.mark.parametrize(
    ("value", "unit", "expected"), [(1500, "W", 1.5), (2, "MWh", 2000.0), (900, "VA", 0.9), (212, "F", 100.0)]
)
def test_values_are_delivered_in_house_units(value: float, unit: str, expected: float) -> None:
    assert delivered(value, unit) == pytest.approx(expected)
