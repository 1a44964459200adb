"""Packets of BACnet/IP (ASHRAE 135): the few services that reading takes, both ways; pure.

A packet is BVLC (annex J), NPDU (clause 6) and APDU (clause 20). Nothing is segmented: what does not fit one
packet is asked in parts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

LARGEST_PACKET = 1497
BVLC, UNICAST, BROADCAST, FORWARDED = 0x81, 0x0A, 0x0B, 0x04
SUBSCRIBE_COV, READ_PROPERTY, READ_MULTIPLE = 5, 12, 14
I_AM, COV_NOTIFICATION, WHO_IS = 0, 2, 8
"""Unconfirmed services."""
CONFIRMED, UNCONFIRMED, SIMPLE_ACK, COMPLEX_ACK, ERROR, REJECT, ABORT = 0, 1, 2, 3, 5, 6, 7
"""Types of APDU."""
MAX_APDU_1476 = 0x05
_APDU_WITH_ID = (SIMPLE_ACK, COMPLEX_ACK, ERROR, REJECT, ABORT)

OBJECT_TYPES: Final = {
    "analog-input": 0,
    "analog-output": 1,
    "analog-value": 2,
    "device": 8,
    "accumulator": 23,
    "pulse-converter": 24,
    "integer-value": 45,
    "large-analog-value": 46,
    "positive-integer-value": 48,
}
TYPE_NAMES = {number: name for name, number in OBJECT_TYPES.items()}
DESCRIPTION, MAX_PRES_VALUE, OBJECT_LIST, OBJECT_NAME, PRESENT_VALUE = 28, 65, 76, 77, 85
RELIABILITY, STATUS_FLAGS, UNITS, SCALE, MODEL_NAME, VENDOR_NAME = 103, 111, 117, 187, 70, 121
ANY_DEVICE = 4_194_303
"""Instance by which every device takes a question for its own."""

_ENCODINGS = {0: "utf-8", 3: "utf-32-be", 4: "utf-16-be"}

Value = None | bool | int | float | str | bytes | tuple["Value", ...]
"""A value of a property: bit strings are bytes of 0 and 1, object identifiers are pairs in an `ObjectId`."""


class Malformed(ValueError):
    """The bytes are no packet of BACnet."""


class ObjectId(NamedTuple):
    """An object of a device."""

    type: int
    instance: int

    def __str__(self) -> str:
        return f"{TYPE_NAMES.get(self.type, self.type)},{self.instance}"

    @property
    def number(self) -> int:
        """As it travels."""
        return self.type << 22 | self.instance


class Refused(NamedTuple):
    """Error of one property, or of a whole request."""

    error_class: int
    code: int


Read = tuple[ObjectId, int, int | None]
"""Object, property, and index of an array."""


class Station(NamedTuple):
    """A device behind a router: its network, and its address there."""

    network: int
    address: bytes


class Answer(NamedTuple):
    """An APDU that answers a request, or tells a change."""

    type: int
    invoke_id: int
    service: int
    """Service, or the reason of a reject or abort."""
    body: bytes
    source: Station | None


# -- requests ----------------------------------------------------------------------------------------


def packet(apdu: bytes, station: Station | None = None, *, expects_reply: bool = True) -> bytes:
    """An APDU on its way to a device, or to one behind the router."""
    control = (0x04 if expects_reply else 0) | (0x20 if station else 0)
    npdu = bytes([0x01, control])
    if station:
        npdu += struct.pack(">HB", station.network, len(station.address)) + station.address + b"\xff"
    return struct.pack(">BBH", BVLC, UNICAST, 4 + len(npdu) + len(apdu)) + npdu + apdu


def confirmed(invoke_id: int, service: int, body: bytes) -> bytes:
    """APDU of a request."""
    return bytes([CONFIRMED << 4, MAX_APDU_1476, invoke_id, service]) + body


def who_is() -> bytes:
    """APDU that asks a device who it is."""
    return bytes([UNCONFIRMED << 4, WHO_IS])


def read_property(one: Read) -> bytes:
    """Body of ReadProperty."""
    object_id, name, index = one
    return _context_object(0, object_id) + _context(1, name) + (b"" if index is None else _context(2, index))


def read_multiple(wanted: Sequence[Read]) -> bytes:
    """Body of ReadPropertyMultiple; neighbours of one object travel together."""
    body, last = b"", None
    for object_id, name, index in wanted:
        if object_id != last:
            body += (b"\x1f" if last else b"") + _context_object(0, object_id) + b"\x1e"
            last = object_id
        body += _context(0, name) + (b"" if index is None else _context(1, index))
    return body + b"\x1f"


def subscribe(process: int, object_id: ObjectId, lifetime_s: int) -> bytes:
    """Body of SubscribeCOV, without confirmations."""
    return _context(0, process) + _context_object(1, object_id) + b"\x29\x00" + _context(3, lifetime_s)


def unsubscribe(process: int, object_id: ObjectId) -> bytes:
    """Body of SubscribeCOV that ends a subscription."""
    return _context(0, process) + _context_object(1, object_id)


def _context(tag: int, value: int) -> bytes:
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
    return bytes([tag << 4 | 0x08 | len(data)]) + data


def _context_object(tag: int, object_id: ObjectId) -> bytes:
    return struct.pack(">BI", tag << 4 | 0x0C, object_id.number)


# -- answers -----------------------------------------------------------------------------------------


def answer(data: bytes) -> Answer | None:
    """The APDU in a packet; None for one that is no answer (of the network layer, or a request).

    Raises
    ------
    Malformed
        If it is no packet of BACnet/IP, or is cut off.
    """
    try:
        return _answer(data)
    except IndexError:
        raise Malformed("is cut off") from None


def _answer(data: bytes) -> Answer | None:
    if data[0] != BVLC or int.from_bytes(data[2:4], "big") != len(data):
        raise Malformed("is no BACnet/IP")
    if data[1] not in (UNICAST, BROADCAST, FORWARDED):
        return None
    at = 10 if data[1] == FORWARDED else 4
    if data[at] != 1:
        raise Malformed(f"has version {data[at]} of the network layer")
    control, at = data[at + 1], at + 2
    source = None
    if control & 0x20:
        at += 3 + data[at + 2]
    if control & 0x08:
        length = data[at + 2]
        source = Station(int.from_bytes(data[at : at + 2], "big"), data[at + 3 : at + 3 + length])
        at += 3 + length
    at += 1 if control & 0x20 else 0
    return None if control & 0x80 else _apdu(data[at:], source)


def _apdu(data: bytes, source: Station | None) -> Answer | None:
    kind = data[0] >> 4
    if kind == UNCONFIRMED:
        return Answer(kind, 0, data[1], data[2:], source)
    if kind not in _APDU_WITH_ID:
        return None
    if kind == COMPLEX_ACK and data[0] & 0x08:
        raise Malformed("is segmented, which was not offered")
    return Answer(kind, data[1], data[2], data[3:], source)


class _Reader:
    """Goes through tags."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def peek(self) -> tuple[int, bool, int, int]:
        """Number, whether of the context, length (or 6 opening, 7 closing), and where its data begins."""
        try:
            return self._tag()
        except IndexError:
            raise Malformed("is cut off") from None

    def _tag(self) -> tuple[int, bool, int, int]:
        first, at = self.data[self.at], self.at + 1
        number, in_context, length = first >> 4, bool(first & 0x08), first & 0x07
        if number == 15:
            number, at = self.data[at], at + 1
        if length == 5:
            length, at = self.data[at], at + 1
            if length >= 254:
                size = 2 if length == 254 else 4
                length, at = int.from_bytes(self.data[at : at + size], "big"), at + size
            length += 0x100  # not to be taken for opening and closing
        return number, in_context, length, at

    def is_opening(self, number: int) -> bool:
        return self.at < len(self.data) and self.peek()[:3] == (number, True, 6)

    def is_closing(self, number: int) -> bool:
        return self.at < len(self.data) and self.peek()[:3] == (number, True, 7)

    def skip(self, number: int, which: int) -> None:
        """Past an opening (6) or closing (7) tag."""
        found, in_context, length, at = self.peek()
        if (found, in_context, length) != (number, True, which):
            raise Malformed(f"has tag {found} where {number} is expected")
        self.at = at

    def context(self, number: int) -> bytes:
        """Data of a context tag."""
        found, in_context, length, at = self.peek()
        if found != number or not in_context or length in (6, 7):
            raise Malformed(f"has tag {found} where {number} is expected")
        return self._take(length, at)

    def optional(self, number: int) -> int | None:
        """An unsigned of a context tag, if it is there."""
        found, in_context, length, _ = self.peek()
        there = found == number and in_context and length not in (6, 7)
        return int.from_bytes(self.context(number), "big") if there else None

    def object_id(self, number: int) -> ObjectId:
        return _object_id(self.context(number))

    def unsigned(self, number: int) -> int:
        return int.from_bytes(self.context(number), "big")

    def value(self) -> Value:
        """A value of the application, or one whose tags are of a context (then of its parts)."""
        number, in_context, length, at = self.peek()
        if in_context and length == 6:
            self.at = at
            parts = []
            while not self.is_closing(number):
                parts.append(self.value())
            self.skip(number, 7)
            return (number, *parts)
        if in_context:
            return (number, self._take(length, at))
        if number == 1:  # a boolean has its value in place of a length
            self.at = at
            return bool(length & 0xFF)
        return _application(number, self._take(length, at))

    def _take(self, length: int, at: int) -> bytes:
        size = length - 0x100 if length >= 0x100 else length
        if at + size > len(self.data):
            raise Malformed("is cut off")
        self.at = at + size
        return self.data[at : self.at]


def _object_id(data: bytes) -> ObjectId:
    number = int.from_bytes(data, "big")
    return ObjectId(number >> 22, number & 0x3FFFFF)


def _application(number: int, data: bytes) -> Value:
    if number in (2, 9):
        return int.from_bytes(data, "big")
    if number == 3:
        return int.from_bytes(data, "big", signed=True)
    if number in (4, 5) and len(data) == (4, 8)[number - 4]:
        return float(struct.unpack(">f" if number == 4 else ">d", data)[0])
    if number == 7:
        return _text(data)
    if number == 8:
        return _bits(data)
    if number == 12 and len(data) == 4:
        return _object_id(data)
    return None if number == 0 else data


def _text(data: bytes) -> str:
    return data[1:].decode(_ENCODINGS.get(data[0] if data else 0, "latin-1"), "replace")


def _bits(data: bytes) -> bytes:
    bits = bytes(byte >> shift & 1 for byte in data[1:] for shift in range(7, -1, -1))
    return bits[: len(bits) - data[0]] if data and data[0] < 8 else bits


Result = dict[Read, "Value | Refused"]


def property_in(body: bytes) -> Result:
    """What ReadProperty brought.

    Raises
    ------
    Malformed
        If it is cut off, or of another form.
    """
    reader = _Reader(body)
    one = (reader.object_id(0), reader.unsigned(1), reader.optional(2))
    reader.skip(3, 6)
    return {one: _values(reader, 3)}


def properties_in(body: bytes) -> Result:
    """What ReadPropertyMultiple brought; raises as `property_in`."""
    reader, found = _Reader(body), Result()
    while reader.at < len(body):
        object_id = reader.object_id(0)
        reader.skip(1, 6)
        while not reader.is_closing(1):
            one = (object_id, reader.unsigned(2), reader.optional(3))
            if reader.is_opening(4):
                reader.skip(4, 6)
                found[one] = _values(reader, 4)
            else:
                reader.skip(5, 6)
                found[one] = Refused(*_two(reader.value(), reader.value()))
                reader.skip(5, 7)
        reader.skip(1, 7)
    return found


def _values(reader: _Reader, closing: int) -> Value:
    """The values up to a closing tag: one, or a tuple of them."""
    values = []
    while not reader.is_closing(closing):
        values.append(reader.value())
    reader.skip(closing, 7)
    return values[0] if len(values) == 1 else tuple(values)


def _two(first: Value, second: Value) -> tuple[int, int]:
    if not isinstance(first, int) or not isinstance(second, int):
        raise Malformed("has an error that is none")
    return first, second


def device_in(body: bytes) -> ObjectId:
    """The device that says who it is; raises as `property_in`."""
    value = _Reader(body).value()
    if not isinstance(value, ObjectId):
        raise Malformed("names no device")
    return value


def error_in(body: bytes) -> Refused:
    """Class and code of an error answer; raises as `property_in`."""
    reader = _Reader(body)
    return Refused(*_two(reader.value(), reader.value()))


def changes_in(body: bytes) -> tuple[int, ObjectId, dict[int, Value]]:
    """Process, object and properties of a notification of changes; raises as `property_in`."""
    reader = _Reader(body)
    process = reader.unsigned(0)
    reader.context(1)
    monitored = reader.object_id(2)
    reader.context(3)
    return process, monitored, dict(_changes(reader))


def _changes(reader: _Reader) -> Iterator[tuple[int, Value]]:
    reader.skip(4, 6)
    while not reader.is_closing(4):
        name = reader.unsigned(0)
        reader.optional(1)
        reader.skip(2, 6)
        yield name, _values(reader, 2)
        if not reader.is_closing(4):
            reader.optional(3)


def size_of(wanted: Iterable[Read]) -> int:
    """About how many bytes the answer takes; each value is taken for a text of a name. [bytes]"""
    return sum(40 if name in (OBJECT_NAME, DESCRIPTION) else 14 for _, name, _ in wanted)
