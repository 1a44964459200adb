"""A small BER codec: as much of ASN.1 as SNMP messages need, and no more.

Decoding is bounded: definite lengths of at most four bytes that end inside their parent, no
recursion, numbers of at most nine bytes. Whatever else arrives raises :class:`BerError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

INTEGER, OCTETS, NULL, OID, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
COUNTER32, GAUGE32, TIMETICKS, OPAQUE, COUNTER64 = 0x41, 0x42, 0x43, 0x44, 0x46
NO_SUCH_INSTANCE, END_OF_MIB = 0x81, 0x82
GET, GET_NEXT, RESPONSE, GET_BULK, REPORT = 0xA0, 0xA1, 0xA2, 0xA5, 0xA8

_OPAQUE_FLOAT, _OPAQUE_DOUBLE = b"\x9f\x78\x04", b"\x9f\x79\x08"
_MOST_ARCS = 128
_CONSTRUCTED = 0x20


class BerError(ValueError):
    """The bytes are not a message of the expected form."""


class Span:
    """A piece of a message, read element by element from its front."""

    __slots__ = ("at", "data", "stop")

    def __init__(self, data: bytes, at: int = 0, stop: int | None = None) -> None:
        self.data, self.at, self.stop = data, at, len(data) if stop is None else stop

    def __bool__(self) -> bool:
        return self.at < self.stop

    def element(self) -> tuple[int, Span]:
        """Tag and content of the next element.

        Raises
        ------
        BerError
            If the element is cut off or its length is not definite and inside this piece.
        """
        if self.stop - self.at < 2:
            raise BerError("element is cut off")
        tag, length, start = self.data[self.at], self.data[self.at + 1], self.at + 2
        if length & 0x80:
            size = length & 0x7F
            if not 0 < size <= 4 or start + size > self.stop:
                raise BerError("length is indefinite, too long or cut off")
            length, start = int.from_bytes(self.data[start : start + size], "big"), start + size
        if start + length > self.stop:
            raise BerError("element ends beyond its parent")
        self.at = start + length
        return tag, Span(self.data, start, self.at)

    def take(self, tag: int) -> Span:
        """Content of the next element, which must be of that tag.

        Raises
        ------
        BerError
            If it is another element, or none.
        """
        found, content = self.element()
        if found != tag:
            raise BerError(f"element {found:#04x} where {tag:#04x} belongs")
        return content

    def octets(self) -> bytes:
        """What is left, as bytes."""
        return self.data[self.at : self.stop]

    def integer(self) -> int:
        """The next element, a signed number.

        Raises
        ------
        BerError
            If it is no number, or one of more than nine bytes.
        """
        raw = self.take(INTEGER).octets()
        if not 0 < len(raw) <= 9:
            raise BerError(f"number of {len(raw)} bytes")
        return int.from_bytes(raw, "big", signed=True)

    def oid(self) -> tuple[int, ...]:
        """The next element, an object identifier.

        Raises
        ------
        BerError
            If it is none, is cut off, or has more arcs than SNMP allows.
        """
        return _arcs(self.take(OID).octets())


def require_nested(data: bytes) -> None:
    """See that a message is whole: every element of it ends inside its parent.

    Raises
    ------
    BerError
        If one does not.
    """
    pieces = [Span(data).element()]
    while pieces:
        tag, piece = pieces.pop()
        while tag & _CONSTRUCTED and piece:
            pieces.append(piece.element())


def _arcs(raw: bytes) -> tuple[int, ...]:
    if not raw or raw[-1] & 0x80:
        raise BerError("object identifier is cut off")
    arcs: list[int] = []
    value = 0
    for byte in raw:
        value = (value << 7) | (byte & 0x7F)
        if value > 0xFFFFFFFF:
            raise BerError("arc of an object identifier is too large")
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    if len(arcs) > _MOST_ARCS - 1:
        raise BerError("object identifier is too long")
    first = min(arcs[0] // 40, 2)
    return (first, arcs[0] - 40 * first, *arcs[1:])


def element(tag: int, *content: bytes) -> bytes:
    """One element with its length."""
    body = b"".join(content)
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def integer(value: int, tag: int = INTEGER) -> bytes:
    """A number; unsigned kinds get their leading zero byte where the sign needs it."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return element(tag, value.to_bytes(size, "big", signed=True))


def octets(value: bytes) -> bytes:
    """An octet string."""
    return element(OCTETS, value)


def oid(arcs: tuple[int, ...]) -> bytes:
    """An object identifier."""
    return element(OID, b"".join(_base128((40 * arcs[0] + arcs[1], *arcs[2:]))))


def _base128(arcs: tuple[int, ...]) -> Iterator[bytes]:
    for arc in arcs:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        yield bytes(reversed(groups))


def opaque_float(value: float) -> bytes:
    """A 32-bit float wrapped the way agents send it."""
    return element(OPAQUE, _OPAQUE_FLOAT, struct.pack(">f", value))


def float_in_opaque(raw: bytes) -> float | None:
    """The float or double wrapped in an opaque value, or None where there is none."""
    if raw[:3] == _OPAQUE_FLOAT and len(raw) == 7:
        return float(struct.unpack(">f", raw[3:])[0])
    if raw[:3] == _OPAQUE_DOUBLE and len(raw) == 11:
        return float(struct.unpack(">d", raw[3:])[0])
    return None


def parse_oid(text: str) -> tuple[int, ...]:
    """Arcs of a dotted OID."""
    return tuple(int(arc) for arc in text.strip(".").split("."))
