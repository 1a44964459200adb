"""Units, and what a reading may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.domain import quantity
from app.domain.address import is_in, network, plain
from app.domain.quantity import UNITS, ReadingKind, Role, canonical_unit, load_class, quantity_of, to_house
from app.domain.reading import FUTURE_ALLOWED, LATEST, OLDEST, ReadingColumns, refusal
from app.errors import SeriesError

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "unit", "house"),
    [
        (1500, "Wh", 1.5),
        (2, "kWh", 2),
        (2, "MWh", 2000),
        (3, "GWh", 3_000_000),
        (3, "万kWh", 30_000),
        (3.6e6, "J", 1),
        (3.6e6, "Ws", 1),
        (3600, "kJ", 1),
        (3.6, "MJ", 1),
        (3.6, "GJ", 1000),
        (1500, "W", 1.5),
        (2, "kW", 2),
        (2, "MW", 2000),
        (12, "A", 12),
        (1500, "mA", 1.5),
        (2, "m³", 2),
        (1500, "l", 1.5),
        (120, "m³/h", 120),
        (10, "l/s", 36),
        (100, "l/min", 6),
        (2, "h", 2),
        (90, "min", 1.5),
        (1800, "s", 0.5),
        (21, "°C", 21),
        (212, "°F", 100),
        (32, "F", 0),
        (273.15, "K", 0),
        (45, "%", 45),
        (0.45, "ratio", 45),
        (12, "吨", 12),
        (7, "", 7),
    ],
)
def test_a_value_in_the_house_unit(value: float, unit: str, house: float) -> None:
    assert to_house(value, unit) == pytest.approx(house, abs=1e-9)


def test_every_unit_is_tested_above() -> None:
    cases = test_a_value_in_the_house_unit.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {canonical_unit(unit) for _, unit, _ in cases} == set(UNITS)


def test_an_unknown_unit_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="unknown unit 'furlong'; known are 1, a, c, f"):
        canonical_unit("furlong")


@pytest.mark.parametrize(
    ("role", "kind", "expected"),
    [
        (Role.COOLING, ReadingKind.REGISTER, quantity.ENERGY),
        (Role.COOLING, ReadingKind.INTERVAL_ENERGY, quantity.ENERGY),
        (Role.COOLING, ReadingKind.POWER, quantity.POWER),
        (Role.COOLING, ReadingKind.INTERVAL_MEAN_POWER, quantity.POWER),
        (Role.WATER, ReadingKind.REGISTER, quantity.VOLUME),
        (Role.TEMPERATURE, ReadingKind.GAUGE, quantity.TEMPERATURE),
        (Role.HUMIDITY, ReadingKind.GAUGE, quantity.FRACTION),
        (Role.UTILISATION, ReadingKind.GAUGE, quantity.FRACTION),
        (Role.OUTDOOR_WET_BULB, ReadingKind.GAUGE, quantity.TEMPERATURE),
        (Role.OUTDOOR_RELATIVE_HUMIDITY, ReadingKind.GAUGE, quantity.FRACTION),
        (Role.CHILLED_WATER_FLOW, ReadingKind.GAUGE, quantity.FLOW),
        (Role.CHILLER_RUNNING, ReadingKind.GAUGE, quantity.NUMBER),
        (Role.CHILLER_RUNNING_HOURS, ReadingKind.GAUGE, quantity.DURATION),
        (Role.NONE, ReadingKind.GAUGE, quantity.NUMBER),
    ],
)
def test_the_quantity_of_a_point(role: Role, kind: ReadingKind, expected: quantity.Quantity) -> None:
    assert quantity_of(role, kind) is expected


def test_every_role_of_it_is_one_load_class() -> None:
    assert {load_class(role) for role in quantity.IT_ROLES} == {"it"}
    assert [load_class(role) for role in quantity.OVERHEAD_ROLES] == [
        r.value for r in quantity.OVERHEAD_ROLES
    ]


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [
        (quantity.ENERGY, -1e12, 1e12),
        (quantity.POWER, -1e7, 1e7),
        (quantity.TEMPERATURE, -273.15, 1000),
        (quantity.FRACTION, -1e3, 1e4),
    ],
)
def test_a_value_at_the_bounds_is_stored_and_one_beyond_is_refused(
    kind: quantity.Quantity, lowest: float, highest: float
) -> None:
    assert refusal(NOW, lowest, kind, NOW) is None
    assert refusal(NOW, highest, kind, NOW) is None
    for beyond in (lowest - abs(lowest) * 1e-3, highest * 1.001):
        assert "is outside" in str(refusal(NOW, beyond, kind, NOW))
    assert "finite" in str(refusal(NOW, float("nan"), kind, NOW))


def test_a_time_that_cannot_be_is_refused() -> None:
    second = timedelta(seconds=1)
    assert datetime(1990, 1, 1, tzinfo=UTC) == OLDEST
    assert timedelta(hours=26) == FUTURE_ALLOWED
    assert refusal(OLDEST, 1, quantity.POWER, NOW) is None
    assert "is before 1990" in str(refusal(OLDEST - second, 1, quantity.POWER, NOW))
    assert refusal(NOW + FUTURE_ALLOWED, 1, quantity.POWER, NOW) is None
    assert "in the future" in str(refusal(NOW + FUTURE_ALLOWED + second, 1, quantity.POWER, NOW))
    assert LATEST > NOW + FUTURE_ALLOWED


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("64:ff9b::a00:1", "10.0.0.1"),
        ("2002:a00:1::", "10.0.0.1"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_an_address_inside_another_is_the_one_that_counts(text: str, address: str) -> None:
    assert str(plain(text)) == address


def test_a_network_has_addresses_of_its_own_kind() -> None:
    ours = [network("10.20.0.0/16"), network("fd00::/8")]
    assert is_in(plain("10.20.255.1"), ours)
    assert is_in(plain("fd12::1"), ours)
    assert not is_in(plain("10.21.0.1"), ours)
    assert not is_in(plain("2001:db8::1"), ours)
    with pytest.raises(ValueError, match=r"write it like 10\.20\.0\.0/16"):
        network("10.20")


def test_an_instant_without_a_zone_is_the_callers_fault() -> None:
    naive = NOW.replace(tzinfo=None)
    for at, now in ((naive, NOW), (NOW, naive)):
        with pytest.raises(SeriesError, match="naive datetime"):
            refusal(at, 1, quantity.POWER, now)


def columns(*lengths: int) -> ReadingColumns:
    point, at_us, value, interval, valid = (np.arange(n) for n in lengths)
    return ReadingColumns(
        point.astype(np.int32), at_us, value.astype(float), interval.astype(np.int32), valid.astype(np.int32)
    )


def test_batches_are_joined_in_order_and_none_is_an_empty_one() -> None:
    two, three = columns(2, 2, 2, 2, 2), columns(3, 3, 3, 3, 3)
    joined = ReadingColumns.concat([two, three])
    for name in ("point_id", "at_us", "value", "interval_s", "valid_s"):
        assert getattr(joined, name).tolist() == [0, 1, 0, 1, 2], name
    assert len(ReadingColumns.concat([])) == 0


@pytest.mark.parametrize("short", range(5))
def test_columns_of_different_lengths_are_no_batch(short: int) -> None:
    with pytest.raises(SeriesError, match="differ in length"):
        columns(*(1 if i == short else 2 for i in range(5)))
