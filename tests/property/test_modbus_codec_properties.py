"""What a meter encodes is read back: every type, order, scale and sum, from one answer."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.modbus.codec import NoValue, decoder, encode_raw, raw_decoder
from collectors.modbus.decode import BlockDecoder, item
from collectors.modbus.plan import plan
from collectors.profiles.profile import Blocks, ModbusChannel, ModbusProfile, read_profile

AT = datetime(2026, 10, 1, tzinfo=UTC)
orders = st.sampled_from(["big", "little"])


def channel(**keys: object) -> ModbusChannel:
    settings = {"name": "energy_import_kwh", "kind": "register", "unit": "kWh", "address": 0, **keys}
    return ModbusChannel.model_validate(settings)


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 10 ** (4 * n) - 1))), orders)
def test_decimal_digits_are_read_back(words_and_count: tuple[int, int], word_order: str) -> None:
    words, count = words_and_count
    for kind in ("bcd", "mod10"):
        one = channel(type=kind, words=words, word_order=word_order)
        data = encode_raw(count, one)
        assert len(data) == 2 * words
        assert raw_decoder(one)(data) == count


@given(st.integers(0, 10**12 - 1))
def test_a_bcd_register_shows_its_digits_in_hexadecimal(count: int) -> None:
    assert encode_raw(count, channel(type="bcd", words=3)).hex() == f"{count:012d}"


@given(st.binary(min_size=2, max_size=2).filter(lambda data: any(d > "9" for d in data.hex())))
def test_a_bcd_register_with_another_digit_has_no_value(data: bytes) -> None:
    with pytest.raises(NoValue, match="not a decimal number"):
        decoder(channel(type="bcd", words=1))(data)


SUM = """\
model: sum
vendor: test
protocol: modbus
source: a property
channels:
  - {{name: fraction_kwh, kind: register, unit: Wh, address: {fraction}, type: uint16}}
  - {{name: whole_kwh, kind: register, unit: kWh, address: {whole}, type: uint32, word_order: {order}}}
  - {{name: energy_import_kwh, kind: register, unit: kWh, sum_of: [whole_kwh, fraction_kwh]}}
"""


def profile(text: str) -> ModbusProfile:
    found = read_profile(text)
    assert isinstance(found, ModbusProfile)
    return found


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 999),
    orders,
    st.sampled_from([(0, 2), (2, 0), (0, 120), (90, 3)]),
)
def test_a_whole_and_its_fraction_are_one_value_of_one_request(
    whole: int, fraction: int, order: str, places: tuple[int, int]
) -> None:
    at_fraction, at_whole = places
    made = profile(SUM.format(fraction=at_fraction, whole=at_whole, order=order))
    one = item("energy", made.channels[2])
    (block,) = plan([one.field], Blocks())
    words = {at_fraction: fraction}
    high_first = [whole >> 16, whole & 0xFFFF] if order == "big" else [whole & 0xFFFF, whole >> 16]
    words |= dict(enumerate(high_first, at_whole))
    served = [words.get(a, 0xFFFF) for a in range(block.address, block.address + block.count)]
    poll = BlockDecoder("meter", block, [one]).poll(struct.pack(f">{block.count}H", *served), AT)
    assert poll.values == (pytest.approx(whole + fraction / 1000, abs=1e-6),)


@given(st.integers(0, 2**64 - 1))
def test_watt_hours_in_64_bits_keep_their_precision(wh: int) -> None:
    one = channel(type="uint64", unit="Wh")
    assert decoder(one)(wh.to_bytes(8, "big")) == pytest.approx(wh / 1000, rel=1e-15)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**16 - 1), st.sampled_from([0, 40]))
def test_a_ratio_in_a_register_multiplies(raw: int, ratio: int, at: int) -> None:
    one = item(
        "p", channel(name="power_kw", kind="power", unit="W", type="int32", address=20, factor_from=at)
    )
    size = 2 * one.field.length
    data = bytearray(size)
    data[2 * (20 - one.field.address) : 2 * (22 - one.field.address)] = raw.to_bytes(4, "big", signed=True)
    data[2 * (at - one.field.address) : 2 * (at + 1 - one.field.address)] = ratio.to_bytes(2, "big")
    if not ratio:
        with pytest.raises(NoValue, match="holds 0"):
            one.value_of(bytes(data))
    elif abs(raw * ratio) < 1e9:
        assert one.value_of(bytes(data)) == pytest.approx(raw * ratio / 1000)


@given(st.integers(-32767, 32767), st.integers(-4, 4), st.integers(0, 255), st.sampled_from(["low", "high"]))
def test_a_power_of_ten_may_stand_in_one_byte_of_a_register(
    raw: int, exponent: int, other: int, byte: str
) -> None:
    one = item(
        "p",
        channel(
            name="power_kw", kind="power", unit="W", type="int16", address=3, scale_from=12, scale_byte=byte
        ),
    )
    assert (one.field.address, one.field.length) == (3, 10)
    pair = bytes([exponent & 0xFF, other] if byte == "high" else [other, exponent & 0xFF])
    data = raw.to_bytes(2, "big", signed=True) + bytes(16) + pair
    if abs(raw * 10.0**exponent) < 1e9:
        assert one.value_of(data) == pytest.approx(raw * 10.0**exponent / 1000)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 65_536, 100_000]))
def test_a_ratio_may_have_two_registers(raw: int, ratio: int) -> None:
    one = item("e", channel(unit="Wh", type="uint32", address=300, factor_from=308, factor_words=2))
    data = raw.to_bytes(4, "big") + bytes(12) + ratio.to_bytes(4, "big")
    assert one.field.length == 10
    assert one.value_of(data) == pytest.approx(raw * ratio / 1000, rel=1e-12)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("address: 130, type: uint16", ""), "lie 133 registers apart"),
        (("address: 0, type: uint16", "table: input, address: 0, type: uint16"), "of holding and of input"),
        (("unit: Wh", "unit: W"), "must end in _kw"),
        (("sum_of: [whole_kwh, fraction_kwh]", "sum_of: [whole_kwh, other_kwh]"), "not described before it"),
        (("sum_of: [whole_kwh, fraction_kwh]", "address: 4"), "type is needed, or sum_of"),
        (("sum_of: [", "address: 4, sum_of: ["), "either sum_of or address"),
        (("type: uint16", "type: bcd"), "words: is needed"),
    ],
)
def test_a_sum_that_cannot_be_read_is_refused(changed: tuple[str, str], says: str) -> None:
    text = SUM.format(
        fraction=130 if "130" in changed[0] else 0, whole=261 if "130" in changed[0] else 2, order="big"
    )
    text = text if "130" in changed[0] else text.replace(*changed)
    with pytest.raises(Exception, match=says):
        profile(text)
