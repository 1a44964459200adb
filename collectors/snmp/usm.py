"""SNMPv3's user-based security, seen from outside: header, keys, digests (RFC 3414, RFC 7860)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from collectors.snmp.ber import OCTETS, REPORT, SEQUENCE, BerError, Span

AUTH, PRIV, REPORTABLE = 0x01, 0x02, 0x04
"""Bits of msgFlags."""

DIGESTS: dict[str, tuple[str, int]] = {
    "md5": ("md5", 12),
    "sha": ("sha1", 12),
    "sha224": ("sha224", 16),
    "sha256": ("sha256", 24),
    "sha384": ("sha384", 32),
    "sha512": ("sha512", 48),
}
"""Protocol -> hash and bytes of the digest that travel."""

_EXPANDED = 1_048_576


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the scoped PDU of an SNMPv3 message."""

    message_id: int
    flags: int
    engine_id: bytes
    boots: int
    time_s: int
    user: bytes
    digest: Span
    salt: bytes
    body: Span
    """The scoped PDU: a sequence, or an octet string where it is encrypted."""


def read_header(data: bytes) -> Header:
    """Header of an SNMPv3 message.

    Raises
    ------
    BerError
        If it is none, or not one of the user-based security model.
    """
    message = Span(data).take(SEQUENCE)
    if message.integer() != 3:
        raise BerError("not an SNMPv3 message")
    top = message.take(SEQUENCE)
    message_id, _, flags, model = top.integer(), top.integer(), top.take(OCTETS).octets(), top.integer()
    if model != 3 or len(flags) != 1:
        raise BerError("not of the user-based security model")
    usm = message.take(OCTETS).take(SEQUENCE)
    return Header(
        message_id,
        flags[0],
        usm.take(OCTETS).octets(),
        usm.integer(),
        usm.integer(),
        usm.take(OCTETS).octets(),
        usm.take(OCTETS),
        usm.take(OCTETS).octets(),
        message,
    )


def localized_key(protocol: str, password: bytes, engine_id: bytes) -> bytes:
    """Key of a user on one engine (RFC 3414, A.2)."""
    return localized(protocol, master_key(protocol, password), engine_id)


def master_key(protocol: str, password: bytes) -> bytes:
    """Digest of the password repeated to a megabyte.

    Raises
    ------
    ValueError
        If the password is empty.
    """
    if not password:
        raise ValueError("an empty password gives no key")
    repeated = password * (_EXPANDED // len(password) + 1)
    return hashlib.new(DIGESTS[protocol][0], repeated[:_EXPANDED]).digest()


def localized(protocol: str, master: bytes, engine_id: bytes) -> bytes:
    """A master key bound to one engine."""
    return hashlib.new(DIGESTS[protocol][0], master + engine_id + master).digest()


def digest_of(protocol: str, key: bytes, data: bytes, at: int) -> bytes:
    """Digest over a message whose digest field starts at byte `at`."""
    name, size = DIGESTS[protocol]
    blank = data[:at] + bytes(size) + data[at + size :]
    return hmac.digest(key, blank, name)[:size]


def error_status(data: bytes) -> int:
    """Error status of an answer of any version; 0 where there is none, or where it is enciphered."""
    try:
        message = Span(data).take(SEQUENCE)
        if message.integer() != 3:
            message.take(OCTETS)
            return _status(message)
        header = read_header(data)
        if header.flags & PRIV:
            return 0
        scoped = header.body.take(SEQUENCE)
        scoped.take(OCTETS)
        scoped.take(OCTETS)
        return _status(scoped)
    except BerError:
        return 0


def _status(message: Span) -> int:
    _, pdu = message.element()
    pdu.integer()
    return pdu.integer()


class AnswerGuard:
    """Decides whether an answer may be decoded at all: the end of every downgrade.

    An answer must be of the configured level and carry the right digest. Reports pass: they are
    sent in plain before keys are agreed, hold no readings, and only make the session start over.
    """

    def __init__(self, *, protocol: str = "", master: bytes = b"", private: bool = False) -> None:
        self._protocol, self._master = protocol, master
        self.level = (AUTH if protocol else 0) | (PRIV if private else 0)
        """Bits of msgFlags every answer must have; 0 where anything may pass."""
        self._keys: tuple[bytes, bytes] = (b"", b"")
        self.refused = 0
        """Answers dropped so far."""
        self.is_wary = False
        """Whether the agent has made the library panic: its answers are looked at before it may have them."""

    def passes(self, data: bytes) -> bool:
        """True where the library may have this answer."""
        if not self.level:
            return True
        try:
            good = self._is_genuine(data) or _is_report(read_header(data))
        except (BerError, IndexError):
            good = False
        self.refused += not good
        return good

    def _is_genuine(self, data: bytes) -> bool:
        flags, engine_id, at, stop = _seal(data)
        if flags & (AUTH | PRIV) != self.level or stop - at != DIGESTS[self._protocol][1]:
            return False
        expected = digest_of(self._protocol, self._key(engine_id), data, at)
        return hmac.compare_digest(data[at:stop], expected)

    def _key(self, engine_id: bytes) -> bytes:
        if self._keys[0] != engine_id:
            self._keys = (engine_id, localized(self._protocol, self._master, engine_id))
        return self._keys[1]


def _seal(data: bytes) -> tuple[int, bytes, int, int]:
    """Flags, engine, and where the digest starts and stops; every answer of SNMPv3 goes through here."""
    _, at, _ = _element(data, 0)
    _, _, at = _element(data, at)  # version
    _, head, at = _element(data, at)
    _, _, head = _element(data, head)  # message id
    _, _, head = _element(data, head)  # largest message
    _, flags, _ = _element(data, head)
    _, at, _ = _element(data, at)
    _, at, _ = _element(data, at)
    _, engine, at = _element(data, at)
    engine_id = data[engine:at]
    for _ in range(3):  # boots, time, user
        _, _, at = _element(data, at)
    tag, start, stop = _element(data, at)
    if tag != OCTETS:
        raise BerError("no digest where one belongs")
    return data[flags], engine_id, start, stop


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag of the element at a place, and where its content starts and stops."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start], "big")
    if start + length > len(data):
        raise BerError("element is cut off")
    return data[at], start, start + length


def _is_report(header: Header) -> bool:
    """True for a report in plain."""
    if header.flags & PRIV:
        return False
    scoped = Span(header.body.data, header.body.at, header.body.stop).take(SEQUENCE)
    scoped.take(OCTETS)
    scoped.take(OCTETS)
    return scoped.element()[0] == REPORT
