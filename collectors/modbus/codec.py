"""Registers to numbers and back: types, word and byte order, sentinels, scale.

Registers travel as bytes, two per register, as they stood on the wire. "Raw" is the number the type
says; "delivered" is raw times scale, in the channel's house unit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from collectors.profiles.profile import ModbusChannel, delivered

MOD10_BASE = 10_000
NO_SCALE_FACTOR = -32_768
"""SunSpec's "not implemented" for a scale factor."""
LARGEST_SCALE_EXPONENT = 10

Raw = int | float
_FLOATS = {"float32": struct.Struct(">f"), "float64": struct.Struct(">d")}


class NoValue(ValueError):
    """The registers hold no usable number; the text says what they hold."""


def swap_bytes(data: bytes) -> bytes:
    """`data` with the two bytes of every register exchanged."""
    swapped = bytearray(len(data))
    swapped[0::2] = data[1::2]
    swapped[1::2] = data[0::2]
    return bytes(swapped)


def swap_words(data: bytes) -> bytes:
    """`data` with its registers in reverse order."""
    return swap_bytes(data[::-1])


def normalise(channel: ModbusChannel) -> Callable[[bytes], bytes]:
    """What turns the registers of a channel into most significant byte first (its own inverse)."""
    if channel.byte_order == "little" and channel.word_order == "little":
        return lambda data: data[::-1]
    if channel.byte_order == "little":
        return swap_bytes
    return swap_words if channel.word_order == "little" else lambda data: data


def raw_decoder(channel: ModbusChannel) -> Callable[[bytes], Raw]:
    """What turns the registers of a channel into its raw number.

    The function returned takes ``2 * channel.length`` bytes and raises NoValue where the type has no
    number for them (NaN, infinity, a decimal digit group above 9999).
    """
    ordered = normalise(channel)
    if channel.type in _FLOATS:
        unpack = _FLOATS[channel.type].unpack
        return lambda data: _finite(unpack(ordered(data))[0])
    if channel.type == "mod10":
        return lambda data: _from_mod10(ordered(data))
    if channel.type == "bcd":
        return lambda data: _from_bcd(ordered(data))
    signed = channel.type.startswith("int")
    return lambda data: int.from_bytes(ordered(data), "big", signed=signed)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise NoValue(f"holds {value}, which means no value")
    return value


def _from_mod10(data: bytes) -> int:
    digits = struct.unpack(f">{len(data) // 2}H", data)
    if max(digits) >= MOD10_BASE:
        raise NoValue(f"holds digit group {max(digits)}, above 9999")
    value = 0
    for group in digits:
        value = value * MOD10_BASE + group
    return value


def _from_bcd(data: bytes) -> int:
    digits = data.hex()
    if not digits.isdecimal():
        raise NoValue(f"holds 0x{digits.upper()}, which is not a decimal number")
    return int(digits)


def decoder(channel: ModbusChannel) -> Callable[[bytes], float]:
    """What turns the registers of a channel into its delivered value.

    The function returned raises NoValue where they hold a sentinel or no number.
    """
    raw_of = raw_decoder(channel)
    factor, offset = linear(channel)
    sentinels = frozenset(channel.sentinels)
    if not sentinels and not offset:
        return lambda data: raw_of(data) * factor

    def decode(data: bytes) -> float:
        raw = raw_of(data)
        if raw in sentinels:
            raise NoValue(f"holds the sentinel {sentinel_text(raw, channel)}, which means no value")
        return raw * factor + offset

    return decode


def linear(channel: ModbusChannel) -> tuple[float, float]:
    """Factor and offset of a channel's ``delivered = raw * factor + offset``."""
    offset = delivered(0.0, channel.unit)
    return delivered(channel.scale, channel.unit) - offset, offset


def sentinel_text(raw: Raw, channel: ModbusChannel) -> str:
    """A raw value as the vendor's document writes it: hexadecimal for integers."""
    if isinstance(raw, float):
        return f"{raw:g}"
    return f"0x{raw & ((1 << (16 * channel.length)) - 1):0{4 * channel.length}X}"


def scale_factor(data: bytes) -> float:
    """The power of ten in a SunSpec scale-factor register.

    Raises
    ------
    NoValue
        If it is not implemented, or outside -10..10.
    """
    exponent = int.from_bytes(data, "big", signed=True)
    if exponent == NO_SCALE_FACTOR:
        raise NoValue("has no scale factor (0x8000), so the number means nothing")
    if abs(exponent) > LARGEST_SCALE_EXPONENT:
        raise NoValue(f"has scale factor {exponent}; allowed are -10 to 10")
    return float(10.0**exponent)


def factor(data: bytes) -> float:
    """The whole number in a register that multiplies a value.

    Raises
    ------
    NoValue
        If it is 0: the ratio was never set.
    """
    number = int.from_bytes(data, "big")
    if not number:
        raise NoValue("is multiplied by a register that holds 0, so the number means nothing")
    return float(number)


def encode(value: float, channel: ModbusChannel, *, factor: float = 1.0) -> bytes:
    """Registers in which a device holds `value`: what the simulated devices serve.

    Parameters
    ----------
    value : float
        In the channel's delivered unit; a counter wraps at its modulus.
    factor : float
        What a separate scale-factor register multiplies the raw number by.

    Raises
    ------
    OverflowError
        If the type cannot hold the value.
    """
    scale, offset = linear(channel)
    raw = (value - offset) / (scale * factor)
    if channel.type in _FLOATS:
        return normalise(channel)(_FLOATS[channel.type].pack(raw))
    count = round(raw)
    if channel.modulus is not None:
        count %= int(channel.modulus)
    return encode_raw(count, channel)


def encode_raw(raw: Raw, channel: ModbusChannel) -> bytes:
    """Registers that hold this raw number, e.g. a sentinel.

    Raises
    ------
    OverflowError
        If the type cannot hold it.
    """
    ordered = normalise(channel)
    if channel.type in _FLOATS:
        return ordered(_FLOATS[channel.type].pack(raw))
    if channel.type == "mod10":
        return ordered(_to_mod10(int(raw), channel.length))
    if channel.type == "bcd":
        return ordered(_to_bcd(int(raw), channel.length))
    return ordered(int(raw).to_bytes(2 * channel.length, "big", signed=channel.type.startswith("int")))


def _to_mod10(count: int, words: int) -> bytes:
    if not 0 <= count < MOD10_BASE**words:
        raise OverflowError(f"{count} does not fit {words} decimal digit groups")
    groups = [count // MOD10_BASE**power % MOD10_BASE for power in reversed(range(words))]
    return struct.pack(f">{words}H", *groups)


def _to_bcd(count: int, words: int) -> bytes:
    if not 0 <= count < MOD10_BASE**words:
        raise OverflowError(f"{count} does not fit {4 * words} decimal digits")
    return bytes.fromhex(f"{count:0{4 * words}d}")
