"""Frames of DL/T 645, and the decimal digits in them; pure.

A frame is 68H, six bytes of address, 68H, control, length, data, sum, 16H; low bytes first, and every byte
of data travels with 33H added (DL/T 645-2007, 5; the edition of 1997 has the same frame).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

START, END = 0x68, 0x16
WAKE_UP = b"\xfe"
OFFSET = 0x33
HEAD = 10
"""Bytes of a frame before its data."""

READ_1997, READ, FOLLOW, READ_ADDRESS = 0x01, 0x11, 0x12, 0x13
"""Functions: read (1997), read, read the frames that follow, read the address."""
ANSWER, REFUSED, MORE = 0x80, 0x40, 0x20
"""Bits of the control byte: from the meter, an error, a frame follows."""
WILDCARD = "AAAAAAAAAAAA"
"""Address that every meter takes for its own."""
ADDRESS = re.compile(r"[0-9]{1,12}|A{12}")
SIGN = 0x80

_ADD = bytes((n + OFFSET) & 0xFF for n in range(256))
_SUBTRACT = bytes((n - OFFSET) & 0xFF for n in range(256))
_ERRORS = ("other error", "no such data", "password wrong or not authorised", "speed cannot be changed")


class NoValue(ValueError):
    """The bytes hold no usable number; the text says what they hold."""


class Frame(NamedTuple):
    """A sound frame."""

    address: str
    """Twelve digits, as they stand on the meter's plate."""
    control: int
    data: bytes
    """Without the 33H."""


def frame(address: str, control: int, data: bytes = b"") -> bytes:
    """A frame without wake-up bytes; `address` is twelve digits or the wildcard."""
    body = bytes([START]) + bytes.fromhex(address)[::-1] + bytes([START, control, len(data)])
    body += data.translate(_ADD)
    return body + bytes([sum(body) & 0xFF, END])


@lru_cache(maxsize=4096)
def request(address: str, identifier: str) -> bytes:
    """Frame that reads an identifier of eight hexadecimal digits (2007) or of four (1997)."""
    return frame(address, READ if len(identifier) == 8 else READ_1997, wire_identifier(identifier))


def following(address: str, identifier: str, number: int) -> bytes:
    """Frame that reads the `number`-th frame that follows, counted from 1; 1997 has no number."""
    data = wire_identifier(identifier)
    if len(identifier) == 8:
        return frame(address, FOLLOW, data + bytes([number]))
    return frame(address, READ_1997 + 1, data)


def wire_identifier(identifier: str) -> bytes:
    """An identifier as it travels."""
    return bytes.fromhex(identifier)[::-1]


def frames(data: bytes) -> Iterator[tuple[Frame, int]]:
    """The sound frames in `data`, each with where it ends; noise and wake-up bytes are skipped."""
    start = data.find(START)
    while start >= 0:
        found = _frame_at(data, start)
        if found is None:
            start = data.find(START, start + 1)
        else:
            yield found
            start = data.find(START, found[1])


def _frame_at(data: bytes, start: int) -> tuple[Frame, int] | None:
    if len(data) < start + HEAD + 2 or data[start + 7] != START:
        return None
    sum_at = start + HEAD + data[start + 9]
    if len(data) < sum_at + 2 or data[sum_at + 1] != END or sum(data[start:sum_at]) & 0xFF != data[sum_at]:
        return None
    address = data[start + 1 : start + 7][::-1].hex().upper()
    content = data[start + HEAD : sum_at].translate(_SUBTRACT)
    return Frame(address, data[start + 8], content), sum_at + 2


def refusal(answer: Frame) -> str:
    """What an error answer says."""
    bits = answer.data[0] if answer.data else 0
    said = [text for n, text in enumerate(_ERRORS) if bits >> n & 1]
    return f"answered error {bits:02X}H ({', '.join(said) or 'unknown'})"


def number(data: bytes, *, signed: bool = False) -> int:
    """The decimal digits of `data`, the lowest byte first; two digits a byte.

    Parameters
    ----------
    signed : bool
        Whether the highest bit is a minus.

    Raises
    ------
    NoValue
        If one is no digit: meters fill what they do not measure with FFH.
    """
    text = data[::-1].hex()
    if not signed or not data or not data[-1] & SIGN:
        if not text.isdecimal():
            raise NoValue(f"holds {text.upper()}, which is no number")
        return int(text)
    digits = f"{int(text[0], 16) & 7}{text[1:]}"
    if not digits.isdecimal() or text == "f" * len(text):
        raise NoValue(f"holds {text.upper()}, which is no number")
    return -int(digits)


def digits(value: int, size: int, *, signed: bool = False) -> bytes:
    """`value` as so many bytes of decimal digits, the lowest first.

    Raises
    ------
    OverflowError
        If they cannot hold it.
    """
    text = f"{abs(value):0{2 * size}d}"
    if len(text) > 2 * size or (value < 0 and not signed) or (signed and text[0] in "89"):
        raise OverflowError(f"{value} does not fit {2 * size} digits")
    found = bytearray(bytes.fromhex(text)[::-1])
    found[-1] |= SIGN if value < 0 else 0
    return bytes(found)


def moment(data: bytes, form: str) -> datetime:
    """A time of the meter's clock, which has no zone.

    Parameters
    ----------
    form : str
        `strptime` form of the digits, the highest first, e.g. ``%y%m%d%H%M``.

    Raises
    ------
    NoValue
        If it is none.
    """
    digits_of_time = data[::-1].hex()
    with suppress(ValueError):
        said = datetime.strptime(digits_of_time, form)  # noqa: DTZ007
        if said.strftime(form) == digits_of_time:  # `strptime` takes fewer digits, too
            return said
    raise NoValue(f"holds {digits_of_time.upper()}, which is no time")
