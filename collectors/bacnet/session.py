"""Asks one BACnet/IP device over a UDP socket of its own.

The socket is connected, so only the asked address is heard; an answer counts if it has the number and the
service of the request. Numbers run on, so a late answer is nobody's. What does not fit one packet is asked in
parts, and a device without ReadPropertyMultiple one property at a time; both is remembered.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.errors import CollectError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors import network
from collectors.bacnet.codec import (
    ABORT,
    ANY_DEVICE,
    COMPLEX_ACK,
    COV_NOTIFICATION,
    ERROR,
    I_AM,
    READ_MULTIPLE,
    READ_PROPERTY,
    REJECT,
    SIMPLE_ACK,
    UNCONFIRMED,
    Answer,
    Malformed,
    ObjectId,
    Read,
    Refused,
    Result,
    Station,
    Value,
    answer,
    confirmed,
    device_in,
    error_in,
    packet,
    properties_in,
    property_in,
    read_multiple,
    read_property,
    size_of,
    who_is,
)
from collectors.fair_semaphore import FairSemaphore

LARGEST_ANSWER = 1000
"""Bytes that an answer is planned to have; devices with less room say so, and are asked for less. [bytes]"""

_ERRORS = {31: "unknown object", 32: "unknown property", 47: "unknown service", 27: "read access denied"}


MISSING = Refused(2, 32)
"""What an answer does not mention."""
UNRECOGNIZED_SERVICE = 9
"""Reason of a reject."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a device is, and how long it is waited for."""

    device: str
    """Name for errors."""
    host: str
    port: int
    station: Station | None
    timeout_s: float
    retries: int


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        self._received, self._failed = received, failed

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._received(data)

    def error_received(self, exc: Exception) -> None:
        self._failed(exc)


class Session:
    """One device; opens its socket when first used. Use from one event loop."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.changed: Callable[[bytes], None] | None = None
        """Called with the body of every notification of changes."""
        self.requests = 0
        """Packets sent."""
        self._transport: asyncio.DatagramTransport | None = None
        self._place = FairSemaphore(1)
        self._invoke_id = 0
        self._asked: tuple[int, int, asyncio.Future[Answer]] | None = None
        self._who: asyncio.Future[ObjectId] | None = None
        self._one_by_one = False
        self._most = LARGEST_ANSWER

    async def read(self, wanted: Sequence[Read]) -> Result:
        """Values of properties, or why the device refuses each.

        Raises
        ------
        DeviceUnreachable
            If nothing answered in time, after the retries.
        DecodeError
            If it answered nonsense.
        """
        found = Result()
        rest = list(wanted)
        while rest:
            part = self._part(rest)
            said = None if self._one_by_one else await self.ask(READ_MULTIPLE, read_multiple(part))
            if said is None or (len(part) == 1 and said.type != COMPLEX_ACK):
                found |= await self._read_one(part[0])
            elif said.type == COMPLEX_ACK:
                read: Result = self._understood(properties_in, said.body)
                found |= {one: read.get(one, MISSING) for one in part}
            elif self._learn(said, part):
                continue
            else:
                half = len(part) // 2
                found |= await self.read(part[:half]) | await self.read(part[half:])
            rest = rest[len(part) :]
        return found

    def _part(self, wanted: Sequence[Read]) -> list[Read]:
        """As many as fit one answer, at least one."""
        if self._one_by_one:
            return [wanted[0]]
        count = 1
        while count < len(wanted) and size_of(wanted[: count + 1]) <= self._most:
            count += 1
        return list(wanted[:count])

    def _learn(self, said: Answer, part: Sequence[Read]) -> bool:
        """Whether the device would refuse such a request again, and another is to be made."""
        if said.type == REJECT and said.service == UNRECOGNIZED_SERVICE:
            self._one_by_one = True
            return True
        if said.type == ABORT:
            self._most = size_of(part) // 2
            return True
        return False

    async def _read_one(self, one: Read) -> Result:
        said = await self.ask(READ_PROPERTY, read_property(one))
        if said.type == COMPLEX_ACK:
            found: Result = self._understood(property_in, said.body)
            if one not in found and one[0].instance != ANY_DEVICE:
                raise DecodeError(self.access.device, "answered another property than the asked one")
            return {one: next(iter(found.values()))}
        if said.type == ERROR:
            return {one: self._understood(error_in, said.body)}
        return {one: Refused(0, said.service)}

    async def read_alone(self, one: Read) -> Value | Refused:
        """One property by a request of its own, also of whatever device is there; raises as `read`."""
        return (await self._read_one(one))[one]

    async def who(self) -> ObjectId | None:
        """The device that is there, if it says so to the one who asks and not to all; raises as `read`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.access.timeout_s):
                transport = await self._opened(loop)
                self._who = loop.create_future()
                transport.sendto(packet(who_is(), self.access.station, expects_reply=False))
                return await self._who
        except (TimeoutError, OSError):
            return None
        finally:
            self._who = None

    def _understood(self, read: Callable[[bytes], Any], body: bytes) -> Any:
        try:
            return read(body)
        except Malformed as error:
            raise DecodeError(self.access.device, f"answered what {error}") from None

    async def command(self, service: int, body: bytes) -> bool:
        """Whether the device takes a request that has no answer but yes; raises as `read`."""
        return (await self.ask(service, body)).type == SIMPLE_ACK

    async def ask(self, service: int, body: bytes) -> Answer:
        """The APDU that answers; silence is asked again. Raises DeviceUnreachable."""
        for tries_left in range(self.access.retries, -1, -1):
            if not self._place.try_acquire():
                await self._place.wait()
            try:
                return await self._once(service, body)
            except (TimeoutError, OSError) as error:
                problem = str(error) or f"gave no answer within {self.access.timeout_s:g} s"
                self._drop()
            finally:
                self._asked = None
                self._place.release()
            if not tries_left:
                where = f"{self.access.host}:{self.access.port}"
                raise DeviceUnreachable(self.access.device, f"{where}: {problem}")
        raise AssertionError("at least one try is made")

    async def _once(self, service: int, body: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.access.timeout_s):
            transport = await self._opened(loop)
            self._invoke_id = (self._invoke_id + 1) & 0xFF
            future: asyncio.Future[Answer] = loop.create_future()
            self._asked = (self._invoke_id, service, future)
            self.requests += 1
            transport.sendto(packet(confirmed(self._invoke_id, service, body), self.access.station))
            return await future

    async def _opened(self, loop: asyncio.AbstractEventLoop) -> asyncio.DatagramTransport:
        if self._transport is None or self._transport.is_closing():
            self._transport = await self._open(loop)
        return self._transport

    async def _open(self, loop: asyncio.AbstractEventLoop) -> asyncio.DatagramTransport:
        host, port = self.access.host, self.access.port
        address = (await network.addresses(host, port, socket.SOCK_DGRAM))[0]
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Socket(self._received, self._failed), remote_addr=(address, port)
        )
        return transport

    def _received(self, data: bytes) -> None:
        """Give an answer to the one that asked; what is malformed, late, doubled or of others is dropped."""
        try:
            said = answer(data)
        except Malformed:
            return
        if said is None or said.source != self.access.station:
            return
        if said.type == UNCONFIRMED:
            self._told(said)
            return
        if self._asked is None or self._asked[0] != said.invoke_id or self._asked[2].done():
            return
        if said.type in (REJECT, ABORT) or said.service == self._asked[1]:
            self._asked[2].set_result(said)

    def _told(self, said: Answer) -> None:
        if said.service == COV_NOTIFICATION and self.changed is not None:
            self.changed(said.body)
        if said.service == I_AM and self._who is not None and not self._who.done():
            with suppress(Malformed):
                self._who.set_result(device_in(said.body))

    def _failed(self, error: Exception) -> None:
        if self._asked is not None and not self._asked[2].done():
            self._asked[2].set_exception(OSError(str(error)))

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def close(self) -> None:
        """Release the socket; a later read opens it again."""
        self._drop()


def refusal(device: str, why: Refused, *, point: str = "") -> CollectError:
    """What a refused property means."""
    text = _ERRORS.get(why.code, f"error class {why.error_class}, code {why.code}")
    return DeviceRefused(device, f"answered {text}", point=point)
