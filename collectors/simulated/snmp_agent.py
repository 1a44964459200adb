"""An SNMP agent that serves any profile from a source of values: v1, v2c and v3 on loopback.

For the demo and the tests. It speaks SNMP with its own small codec, so that a fault of the library on
the other side cannot hide in both. Every datagram is answered within bounds or met with silence; what
is malformed never raises.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from collectors.profiles.profile import SnmpProfile
from collectors.simulated import snmp_aes
from collectors.simulated.device import DeviceFaults, now_utc
from collectors.simulated.snmp_view import Oid, Values, View
from collectors.snmp.ber import (
    COUNTER32,
    END_OF_MIB,
    GET,
    GET_BULK,
    GET_NEXT,
    NO_SUCH_INSTANCE,
    NULL,
    OCTETS,
    REPORT,
    RESPONSE,
    SEQUENCE,
    BerError,
    Span,
    element,
    integer,
    octets,
    oid,
    opaque_float,
)
from collectors.snmp.usm import (
    AUTH,
    DIGESTS,
    PRIV,
    REPORTABLE,
    Header,
    digest_of,
    localized_key,
    read_header,
)

LOOPBACK = "127.0.0.1"
_V1, _V2C = 0, 1
_TOO_BIG, _NO_SUCH_NAME, _GEN_ERR = 1, 2, 5
_MOST_BINDINGS = 128
_MOST_LATE = 1_000
_WINDOW_S = 150
_USM_STATS = (1, 3, 6, 1, 6, 3, 15, 1, 1)
_LEVEL, _IN_TIME, _USER, _ENGINE, _DIGEST, _DECRYPTION = 1, 2, 3, 4, 5, 6


@dataclass
class SnmpFaults(DeviceFaults):
    """What is wrong with an agent just now; change it while it serves."""

    refuse: bool = False
    """Every request is answered with genErr."""
    as_floats: bool = False
    """Numbers come as opaque floats; NaN where there is no value."""
    wrong_request_id: bool = False
    """Answers carry another request's number."""
    malformed: bytes = b""
    """Sent instead of every answer."""
    v1_only: bool = False
    """SNMPv2c is met with silence."""
    most_bytes: int = 8_000
    """Longer answers are "too big"; bulk answers end early instead, unless `bulk_too_big`."""
    bulk_too_big: bool = False
    """Bulk answers that are too long are refused as well, against the RFC."""
    refuse_after: int = -1
    """So many requests are served before every further one is answered with genErr; -1: all are served."""
    endless: bool = False
    """GETNEXT and GETBULK give the same instance again and again."""
    in_plain: bool = False
    """SNMPv3: answers are neither signed nor enciphered, whatever was asked."""
    forged: bool = False
    """SNMPv3: the digest of answers is wrong."""


@dataclass(frozen=True)
class SnmpUser:
    """A user of SNMPv3; privacy is AES-128."""

    name: str
    auth_protocol: str = "sha256"
    auth_password: str = ""
    priv_password: str = ""

    @property
    def level(self) -> int:
        """Bits of msgFlags this user must be met with."""
        return (AUTH if self.auth_password else 0) | (PRIV if self.priv_password else 0)


@dataclass
class _Engine:
    """Identity and clock of an SNMPv3 engine."""

    engine_id: bytes = b"\x80\x00\x1f\x88\x04wattline"
    boots: int = 1
    offset_s: float = 0.0
    keys: dict[tuple[str, str, str], bytes] = field(default_factory=dict)

    def key(self, user: SnmpUser, kind: str) -> bytes:
        """Localized key of a user for ``auth`` or ``priv``."""
        password = user.auth_password if kind == "auth" else user.priv_password
        place = (user.auth_protocol, kind, password)
        if place not in self.keys:
            self.keys[place] = localized_key(user.auth_protocol, password.encode(), self.engine_id)
        return self.keys[place]


class SimulatedSnmp(asyncio.DatagramProtocol):
    """One agent on a free UDP port of the loopback interface.

    ::

        async with SimulatedSnmp(profile, ["power_kw"], lambda channel, at: 1.5) as agent:
            ...  # poll 127.0.0.1:agent.port
            agent.faults.silent = True
            agent.reboot()
    """

    def __init__(
        self,
        profile: SnmpProfile,
        channels: Iterable[str],
        values: Values,
        *,
        community: str = "public",
        users: Iterable[SnmpUser] = (),
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._source, self._clock = values, clock
        self._view = View(profile, channels, self._value)
        self._community = community.encode()
        self._users = {user.name.encode(): user for user in users}
        self._engine = _Engine()
        self._engine.offset_s = -clock().timestamp()
        self._transport: asyncio.DatagramTransport | None = None
        self._late: set[asyncio.TimerHandle] = set()
        self._salt = 0
        self._arrival: asyncio.Future[None] | None = None
        self.faults = SnmpFaults()
        self.requests = 0
        """Datagrams received so far."""
        self.port = 0

    async def start(self) -> Self:
        """Open the port; ``port`` then says which."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(LOOPBACK, self.port)
        )
        self.port = int(self._transport.get_extra_info("sockname")[1])
        return self

    async def close(self) -> None:
        """Close the port; starting again takes the same one."""
        for handle in self._late:
            handle.cancel()
        self._late.clear()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def reboot(self, *, forgets_boots: bool = False) -> None:
        """Start the engine's clock anew; an agent that forgets its boots counter breaks the protocol."""
        self._engine.boots = 1 if forgets_boots else self._engine.boots + 1
        self._engine.offset_s = -self._clock().timestamp()

    def jump_time(self, seconds: float) -> None:
        """Let the engine's clock jump."""
        self._engine.offset_s += seconds

    async def received(self, requests: int) -> None:
        """Wait until so many datagrams have come in all."""
        while self.requests < requests:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer one datagram, late where the fault says so."""
        self.requests += 1
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        if self.faults.ignores_request():
            return
        answer = self.faults.malformed or self.answer(data)
        if answer is None or len(self._late) >= _MOST_LATE:
            return
        if not self.faults.slow_s:
            self._send(answer, addr)
            return
        handle = asyncio.get_running_loop().call_later(self.faults.slow_s, self._send, answer, addr)
        self._late = {h for h in self._late if not h.cancelled() and h.when() > handle.when() - 60} | {handle}

    def _send(self, answer: bytes, addr: Any) -> None:
        if self._transport is not None:
            self._transport.sendto(answer, addr)

    def answer(self, data: bytes) -> bytes | None:
        """The answer to one datagram, or None where silence is due; never raises."""
        try:
            message = Span(data).take(SEQUENCE)
            version = message.integer()
            if version == 3:
                return self._answer_v3(data)
            community = message.take(OCTETS).octets()
            if (
                version not in ((_V1,) if self.faults.v1_only else (_V1, _V2C))
                or community != self._community
            ):
                return None
            pdu = self._respond(message, version)
            return element(SEQUENCE, integer(version), octets(community), pdu)
        except BerError:
            return None

    # What is asked and what is said.

    def _value(self, channel: str, at: datetime) -> float:
        return math.nan if self.faults.no_value else self._source(channel, at)

    def _respond(self, message: Span, version: int) -> bytes:
        """The response to the PDU that a message holds."""
        tag, pdu = message.element()
        if tag not in (GET, GET_NEXT, GET_BULK) or (tag == GET_BULK and version == _V1):
            raise BerError(f"PDU {tag:#04x} is not served")
        request_id, first, second = pdu.integer(), pdu.integer(), pdu.integer()
        asked = list(_bindings(pdu.take(SEQUENCE)))
        request_id += self.faults.wrong_request_id
        if self.faults.refuse or self.faults.refuse_after == 0:
            return _response(request_id, asked, error=_GEN_ERR)
        self.faults.refuse_after -= self.faults.refuse_after > 0
        found = self._found(tag, asked, first, second)
        missing = next(
            (i for i, (_, value) in enumerate(found, 1) if value[0] in (NO_SUCH_INSTANCE, END_OF_MIB)), 0
        )
        if version == _V1 and missing:
            return _response(request_id, asked, error=_NO_SUCH_NAME, index=missing)
        answer = _response(request_id, [name for name, _ in found], values=[value for _, value in found])
        while (
            tag == GET_BULK
            and not self.faults.bulk_too_big
            and len(answer) > self.faults.most_bytes
            and found
        ):
            found.pop()
            answer = _response(request_id, [name for name, _ in found], values=[value for _, value in found])
        if len(answer) > self.faults.most_bytes:
            return _response(request_id, [] if version != _V1 else asked, error=_TOO_BIG)
        return answer

    def _found(
        self, tag: int, asked: list[Oid], non_repeaters: int, repetitions: int
    ) -> list[tuple[Oid, bytes]]:
        at = self.faults.value_time(self._clock)
        if tag == GET:
            return [(name, self._shown(name, at) or element(NO_SUCH_INSTANCE)) for name in asked]
        if tag == GET_NEXT:
            return [self._next(name, at) for name in asked]
        single, repeated = asked[: max(0, non_repeaters)], asked[max(0, non_repeaters) :]
        found = [self._next(name, at) for name in single]
        for _ in range(max(0, repetitions)):
            if len(found) + len(repeated) > _MOST_BINDINGS or not repeated:
                break
            row = [self._next(name, at) for name in repeated]
            found += row
            repeated = [name for name, _ in row]
        return found

    def _next(self, name: Oid, at: datetime) -> tuple[Oid, bytes]:
        following = name if self.faults.endless and self._view.value(name, at) else self._view.following(name)
        if following is None:
            return name, element(END_OF_MIB)
        return following, self._shown(following, at) or element(NO_SUCH_INSTANCE)

    def _shown(self, name: Oid, at: datetime) -> bytes | None:
        encoded = self._view.value(name, at)
        if not self.faults.as_floats or encoded is None or encoded[0] in (OCTETS, 0x06):
            return encoded
        raw = int.from_bytes(encoded[2:], "big", signed=True)
        return opaque_float(math.nan if self.faults.no_value else float(raw))

    # SNMPv3.

    def _time_s(self) -> int:
        return int(self._clock().timestamp() + self._engine.offset_s)

    def _answer_v3(self, data: bytes) -> bytes | None:
        header = read_header(data)
        user = self._users.get(header.user)
        problem = self._problem(header, user, data)
        if problem:
            return self._report(header, problem, user)
        assert user is not None
        scoped = self._scoped(header, user)
        if scoped is None:
            return self._report(header, _DECRYPTION, user)
        scoped.take(OCTETS)
        context = scoped.take(OCTETS).octets()
        pdu = self._respond(scoped, 3)
        level = 0 if self.faults.in_plain else user.level
        return self._message(header, user, level, context, pdu)

    def _problem(self, header: Header, user: SnmpUser | None, data: bytes) -> int:
        """The first of USM's objections to a message, 0 where there is none."""
        if header.engine_id != self._engine.engine_id:
            return _ENGINE
        if user is None:
            return _USER
        if header.flags & (AUTH | PRIV) != user.level:
            return _LEVEL
        if user.level & AUTH and not self._is_signed(header, user, data):
            return _DIGEST
        outside = abs(header.time_s - self._time_s()) > _WINDOW_S or header.boots != self._engine.boots
        return _IN_TIME if user.level & AUTH and outside else 0

    def _is_signed(self, header: Header, user: SnmpUser, data: bytes) -> bool:
        given = header.digest.octets()
        if len(given) != DIGESTS[user.auth_protocol][1]:
            return False
        return given == digest_of(user.auth_protocol, self._engine.key(user, "auth"), data, header.digest.at)

    def _scoped(self, header: Header, user: SnmpUser) -> Span | None:
        """The scoped PDU of a message, deciphered; None where that gives nonsense."""
        if not user.level & PRIV:
            return header.body.take(SEQUENCE)
        start = header.boots.to_bytes(4, "big") + header.time_s.to_bytes(4, "big") + header.salt
        if len(start) != 16:
            return None
        key = self._engine.key(user, "priv")[:16]
        try:
            return Span(snmp_aes.decrypt(header.body.take(OCTETS).octets(), key, start)).take(SEQUENCE)
        except BerError:
            return None

    def _report(self, header: Header, problem: int, user: SnmpUser | None) -> bytes | None:
        if not header.flags & REPORTABLE and not header.flags & AUTH and problem != _ENGINE:
            return None
        counter = (*_USM_STATS, problem, 0)
        binding = element(SEQUENCE, oid(counter), integer(1, COUNTER32))
        pdu = element(REPORT, integer(0), integer(0), integer(0), element(SEQUENCE, binding))
        signed = problem == _IN_TIME and user is not None
        return self._message(header, user if signed else None, AUTH if signed else 0, b"", pdu)

    def _message(
        self, header: Header, user: SnmpUser | None, level: int, context: bytes, pdu: bytes
    ) -> bytes:
        """A whole message of that level, signed and enciphered as it says."""
        boots, time_s = self._engine.boots, max(0, self._time_s())
        scoped, salt = element(SEQUENCE, octets(self._engine.engine_id), octets(context), pdu), b""
        if level & PRIV and user is not None:
            self._salt += 1
            salt = self._salt.to_bytes(8, "big")
            start = boots.to_bytes(4, "big") + time_s.to_bytes(4, "big") + salt
            scoped = octets(snmp_aes.encrypt(scoped, self._engine.key(user, "priv")[:16], start))
        blank = bytes(DIGESTS[user.auth_protocol][1]) if level & AUTH and user is not None else b""
        identity = octets(self._engine.engine_id), integer(boots), integer(time_s), octets(header.user)
        usm = element(SEQUENCE, *identity, octets(blank), octets(salt))
        flags = octets(bytes((level,)))
        top = element(SEQUENCE, integer(header.message_id), integer(65_507), flags, integer(3))
        message = element(SEQUENCE, integer(3), top, octets(usm), scoped)
        return self._signed(message, user) if blank and user is not None else message

    def _signed(self, message: bytes, user: SnmpUser) -> bytes:
        at = read_header(message).digest.at
        digest = digest_of(user.auth_protocol, self._engine.key(user, "auth"), message, at)
        if self.faults.forged:
            digest = bytes(b ^ 0xFF for b in digest)
        return message[:at] + digest + message[at + len(digest) :]


def _bindings(pairs: Span) -> Iterator[Oid]:
    """Names of a list of variable bindings."""
    count = 0
    while pairs:
        count += 1
        if count > _MOST_BINDINGS:
            raise BerError(f"more than {_MOST_BINDINGS} variables are asked")
        yield pairs.take(SEQUENCE).oid()


def _response(
    request_id: int, names: list[Oid], *, values: list[bytes] | None = None, error: int = 0, index: int = 0
) -> bytes:
    encoded = values if values is not None else [element(NULL)] * len(names)
    bindings = [element(SEQUENCE, oid(name), value) for name, value in zip(names, encoded, strict=True)]
    listed = element(SEQUENCE, *bindings)
    return element(RESPONSE, integer(request_id), integer(error), integer(index), listed)
