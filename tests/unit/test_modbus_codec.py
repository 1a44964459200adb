"""Registers to numbers: the words of each case were worked out by hand from the type's definition."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.modbus.codec import NoValue, decoder, encode, scale_factor
from collectors.profiles.profile import WORDS_OF_TYPE, ModbusChannel


def channel(**keys: object) -> ModbusChannel:
    settings = {"name": "energy_import_kwh", "kind": "register", "unit": "kWh", "address": 0, **keys}
    return ModbusChannel.model_validate(settings)


def registers(*words: int) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


@pytest.mark.parametrize(
    ("keys", "words", "expected"),
    [
        ({"type": "int16"}, [0xFFFE], -2),
        ({"type": "uint16"}, [0xFFFE], 65_534),
        ({"type": "int32"}, [0xFFFF, 0xFFFF], -1),
        ({"type": "uint32"}, [0x0001, 0x0002], 65_538),
        ({"type": "uint32", "word_order": "little"}, [0x0002, 0x0001], 65_538),
        ({"type": "uint32", "byte_order": "little"}, [0x0100, 0x0200], 65_538),
        ({"type": "uint32", "word_order": "little", "byte_order": "little"}, [0x0200, 0x0100], 65_538),
        ({"type": "uint48"}, [0x0001, 0x0000, 0x0001], 4_294_967_297),
        ({"type": "int64"}, [0, 0, 0x0001, 0x0000], 65_536),
        ({"type": "int64", "word_order": "little"}, [0x0000, 0x0001, 0, 0], 65_536),
        ({"type": "uint64"}, [0x8000, 0, 0, 0], 2.0**63),
        ({"type": "acc32"}, [0xFFFF, 0xFFFF], 4_294_967_295),
        ({"type": "float32"}, [0x42F7, 0x0000], 123.5),
        ({"type": "float32", "word_order": "little"}, [0x0000, 0x42F7], 123.5),
        ({"type": "float32", "byte_order": "little"}, [0xF742, 0x0000], 123.5),
        ({"type": "float64"}, [0x405E, 0xE000, 0x0000, 0x0000], 123.5),
        ({"type": "mod10", "words": 3}, [1, 2345, 6789], 123_456_789),
        ({"type": "mod10", "words": 4, "word_order": "little"}, [6789, 2345, 1, 0], 123_456_789),
        ({"type": "uint32", "scale": 0.1}, [0x0000, 0x000F], 1.5),
        ({"type": "uint32", "unit": "Wh", "scale": 10}, [0x0000, 0x0064], 1.0),
    ],
)
def test_words_become_the_number_they_mean(
    keys: dict[str, object], words: list[int], expected: float
) -> None:
    assert decoder(channel(**keys))(registers(*words)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("keys", "words", "says"),
    [
        ({"type": "float32"}, [0x7FC0, 0x0000], "nan"),
        ({"type": "float32"}, [0xFFC0, 0x0000], "nan"),
        ({"type": "float32"}, [0x7F80, 0x0000], "inf"),
        ({"type": "float64"}, [0x7FF8, 0, 0, 0], "nan"),
        ({"type": "int16", "sentinels": [-0x8000]}, [0x8000], "sentinel 0x8000"),
        ({"type": "int32", "sentinels": [0x7FFFFFFF]}, [0x7FFF, 0xFFFF], "sentinel 0x7FFFFFFF"),
        (
            {"type": "int32", "word_order": "little", "sentinels": [0x7FFFFFFF]},
            [0xFFFF, 0x7FFF],
            "0x7FFFFFFF",
        ),
        ({"type": "uint64", "sentinels": [0xFFFFFFFFFFFFFFFF]}, [0xFFFF] * 4, "sentinel 0xFFFFFFFFFFFFFFFF"),
        ({"type": "acc32", "sentinels": [0]}, [0, 0], "sentinel 0x00000000"),
        ({"type": "mod10", "words": 2}, [10_000, 0], "above 9999"),
    ],
)
def test_what_means_no_value_is_never_a_number(keys: dict[str, object], words: list[int], says: str) -> None:
    with pytest.raises(NoValue, match=says):
        decoder(channel(**keys))(registers(*words))


def test_the_largest_uint64_that_is_no_sentinel_is_a_number() -> None:
    one_less = channel(type="uint64", sentinels=[0xFFFFFFFFFFFFFFFF])
    assert decoder(one_less)(b"\xff" * 7 + b"\xfe") == pytest.approx(2.0**64)


@pytest.mark.parametrize(
    ("word", "expected"), [(0, 1.0), (2, 100.0), (0xFFFE, 0.01), (10, 1e10), (0xFFF6, 1e-10)]
)
def test_a_scale_factor_is_a_signed_power_of_ten(word: int, expected: float) -> None:
    assert scale_factor(registers(word)) == pytest.approx(expected)


@pytest.mark.parametrize(("word", "says"), [(0x8000, "no scale factor"), (11, "allowed are -10 to 10")])
def test_a_scale_factor_outside_the_standard_makes_no_number(word: int, says: str) -> None:
    with pytest.raises(NoValue, match=says):
        scale_factor(registers(word))


@given(
    kind=st.sampled_from(sorted(WORDS_OF_TYPE)),
    orders=st.tuples(st.sampled_from(["big", "little"]), st.sampled_from(["big", "little"])),
    value=st.integers(min_value=0, max_value=30_000),
)
def test_a_simulated_register_reads_back(kind: str, orders: tuple[str, str], value: int) -> None:
    there = channel(type=kind, word_order=orders[0], byte_order=orders[1])
    assert decoder(there)(encode(value, there)) == value


def test_a_simulated_counter_wraps_at_its_modulus() -> None:
    counter = channel(type="uint32", modulus=1_000_000)
    assert decoder(counter)(encode(1_000_025.0, counter)) == 25


def test_a_value_that_does_not_fit_is_not_served() -> None:
    with pytest.raises(OverflowError):
        encode(40_000, channel(type="int16"))


def test_temperature_in_fahrenheit_is_delivered_in_celsius() -> None:
    hot = channel(name="temperature_c", kind="gauge", unit="F", type="int16", scale=0.1)
    assert decoder(hot)(registers(2120)) == pytest.approx(100.0)
    assert math.isclose(decoder(hot)(encode(100.0, hot)), 100.0)
