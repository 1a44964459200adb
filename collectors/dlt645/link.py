"""One line to DL/T 645 meters: a serial server (TCP) or a serial port, shared by the meters on it.

One conversation at a time. An answer counts only if its address, function and identifier are the asked ones;
our own frames, which converters with two wires give back, do not. Frames have no numbers: after a silence the
line is opened anew (or flushed) and the silent meter is left alone for a while, the others are not. Any
await may be cancelled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

from app.errors import DecodeError, DeviceRefused, DeviceUnreachable
from collectors.deadline import Deadlines
from collectors.dlt645.codec import (
    ANSWER,
    MORE,
    READ_ADDRESS,
    REFUSED,
    WAKE_UP,
    WILDCARD,
    Frame,
    following,
    frame,
    frames,
    refusal,
    request,
    wire_identifier,
)
from collectors.fair_semaphore import FairSemaphore
from collectors.serial import Line, SerialPort
from collectors.shared_links import Opening, SharedLinks, connect_to

LARGEST_BUFFER = 1024
"""Of what a line says without a sound frame in it, so much is kept. [bytes]"""
LENGTH_2007 = 4
"""Bytes of an identifier; 1997 has two."""
MOST_FOLLOWING = 16
"""Frames that may follow an answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a line leads; equal endpoints share a line."""

    host: str = ""
    port: int = 0
    line: Line | None = None
    gap_s: float = 0.02
    """Silence before a request. [s]"""

    def __str__(self) -> str:
        return self.line.path if self.line else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: the meter's name for errors, its address and its patience."""

    device: str
    address: str
    timeout_s: float
    retries: int = 1
    wake_up: int = 4
    """Wake-up bytes before a request."""


class _Silent(Exception):
    """No answer within the time allowed."""


class _Asked:
    """What an answer must be: of the asked meter, function and data."""

    __slots__ = ("_address", "_control", "_data", "answer")

    def __init__(self, sent: Frame, answer: asyncio.Future[Frame]) -> None:
        self._address, self._control, self.answer = sent.address, sent.control | ANSWER, answer
        self._data = sent.data[:4]

    def is_answered_by(self, said: Frame) -> bool:
        if said.control & ~(REFUSED | MORE) != self._control or self._address not in (said.address, WILDCARD):
            return False
        return bool(said.control & REFUSED) or said.data.startswith(self._data)


@lru_cache(maxsize=4096)
def _sent(data: bytes) -> Frame:
    """A request of ours, taken apart; meters are asked the same again and again."""
    return next(frames(data))[0]


class _Transport(Protocol):
    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...


class _Wire(asyncio.Protocol):
    """A transport, what it said, and the request in flight."""

    __slots__ = ("asked", "buffer", "last", "loop", "transport", "usable")

    transport: _Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = b""
        self.asked: _Asked | None = None
        self.usable = False
        self.last = 0.0
        """When something last travelled, by the loop's clock. [s]"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.usable = True

    def eof_received(self) -> None:
        self.usable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self.asked is not None and not self.asked.answer.done():
            self.asked.answer.set_exception(ConnectionResetError(str(exc or "closed by the serial server")))

    def send(self, data: bytes, wake_up: int, answer: asyncio.Future[Frame]) -> None:
        """Send a frame; what answers it comes as the result of `answer`."""
        self.buffer = b""
        self.asked = _Asked(_sent(data), answer)
        self.transport.write(WAKE_UP * wake_up + data)

    def data_received(self, data: bytes) -> None:
        self.last = self.loop.time()
        if self.asked is None:
            return
        buffer, read_to = self.buffer + data, 0
        for said, end in frames(buffer):
            if self.asked.is_answered_by(said):
                self._answer(said)
                return
            read_to = end
        self.buffer = buffer[read_to:][-LARGEST_BUFFER:]

    def _answer(self, said: Frame) -> None:
        asked, self.asked, self.buffer = self.asked, None, b""
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(said)

    def drop(self) -> None:
        """Close at once."""
        self.usable = False
        self.asked = None
        self.transport.abort()


class Link:
    """A line that opens when first used, and again after it broke."""

    __slots__ = (
        "__weakref__",
        "_deadlines",
        "_left_alone_until",
        "_opening",
        "_place",
        "_wire",
        "connections",
        "endpoint",
        "heard_noise",
        "users",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.users = 0
        self.connections = 0
        """Times the line was opened."""
        self.heard_noise = False
        """Whether the last silence was none: bytes came, but no answer."""
        self._place = FairSemaphore(1)
        self._wire: _Wire | None = None
        self._opening = Opening(endpoint)
        self._left_alone_until: dict[str, float] = {}
        self._deadlines: Deadlines[asyncio.Future[Frame]] = Deadlines(_give_up)

    @staticmethod
    def time() -> float:
        """The event loop's clock. [s]"""
        return asyncio.get_running_loop().time()

    async def read(self, requester: Requester, identifier: str) -> bytes:
        """The data of an identifier, of all frames that it takes.

        Raises
        ------
        DeviceUnreachable
            If nothing answered in time, after the retries.
        DeviceRefused
            If the meter answered an error.
        DecodeError
            If frames follow that do not belong to it, or more than any meter has.
        """
        length = len(wire_identifier(identifier))
        said = await self.ask(requester, request(requester.address, identifier))
        data = said.data[length:]
        for number in range(1, MOST_FOLLOWING + 1):
            if not said.control & MORE:
                return data
            said = await self.ask(requester, following(requester.address, identifier, number))
            more = said.data[length:]
            if length == LENGTH_2007:  # which numbers its frames
                if more[-1:] != bytes([number]):
                    raise DecodeError(requester.device, f"{identifier}: frame {number} does not follow")
                more = more[:-1]
            data += more
        raise DecodeError(requester.device, f"more than {MOST_FOLLOWING} frames follow {identifier}")

    async def address(self, requester: Requester) -> str:
        """Address of the only meter on the line (function 13H).

        Raises
        ------
        DeviceUnreachable, DeviceRefused
            As `read`.
        """
        said = await self.ask(requester, frame(WILDCARD, READ_ADDRESS))
        return said.data[:6][::-1].hex().upper() if len(said.data) >= 6 else said.address

    async def ask(self, requester: Requester, data: bytes) -> Frame:
        """The frame that answers `data`; silence is asked again.

        Raises
        ------
        DeviceUnreachable, DeviceRefused
            As `read`.
        """
        for tries_left in range(requester.retries, -1, -1):
            problem = ""
            try:
                said = await self._once(requester, data)
            except _Silent:
                noise = "; bytes came, but no sound frame of it" if self.heard_noise else ""
                limit_s = requester.timeout_s
                problem = (
                    f"meter {requester.address} at {self.endpoint} gave no answer within {limit_s:g} s{noise}"
                )
            except ConnectionError as error:
                problem = f"{self.endpoint} closed the connection: {error}"
            else:
                if said.control & REFUSED:
                    raise DeviceRefused(requester.device, f"meter {said.address} {refusal(said)}")
                return said
            if not tries_left:
                raise DeviceUnreachable(requester.device, problem)
        raise AssertionError("at least one try is made")

    async def _once(self, requester: Requester, data: bytes) -> Frame:
        """Ask once, when it is one's turn."""
        wire = await self._wire_in_turn(requester)
        loop = wire.loop
        answer: asyncio.Future[Frame] = loop.create_future()
        said: Frame | None = None
        try:
            wire.send(data, requester.wake_up, answer)
            self._deadlines.start(answer, loop.time() + requester.timeout_s, loop)
            said = await answer
        finally:
            self._deadlines.stop(answer)
            if said is None:
                self._after_silence(wire, requester)
            self._place.release()
        return said

    def _after_silence(self, wire: _Wire, requester: Requester) -> None:
        """See that a late answer cannot be taken for the next one's."""
        self.heard_noise = bool(wire.buffer.strip(WAKE_UP))
        if len(self._left_alone_until) > 1000:
            self._left_alone_until.clear()
        self._left_alone_until[requester.address] = wire.loop.time() + requester.timeout_s
        wire.drop()

    async def _wire_in_turn(self, requester: Requester) -> _Wire:
        """The wire, when the others are done, the meter rested, the line is open and silent."""
        loop = asyncio.get_running_loop()
        if self._left_alone_until:
            await _until(self._left_alone_until.pop(requester.address, 0.0), loop)
        if not self._place.try_acquire():
            await self._place.wait()
        try:
            wire = self._wire
            if wire is None or not wire.usable:
                wire = await self._opening.attempt(requester.device, requester.timeout_s, self._connect)
                self._wire = wire
                self.connections += 1
            await _until(wire.last + self.endpoint.gap_s if wire.last else 0.0, loop)
        except BaseException:
            self._place.release()
            raise
        return wire

    async def _connect(self) -> _Wire:
        wire = _Wire(asyncio.get_running_loop())
        if self.endpoint.line:
            wire.connection_made(SerialPort(self.endpoint.line, wire, wire.loop))
        else:
            await connect_to(lambda: wire, self.endpoint.host, self.endpoint.port)
        return wire

    def close(self) -> None:
        """Close the line; a later read opens it again."""
        self._deadlines.close()
        if self._wire is not None:
            self._wire.drop()
            self._wire = None


async def _until(at_s: float, loop: asyncio.AbstractEventLoop) -> None:
    wait_s = at_s - loop.time() if at_s else 0.0
    if wait_s > 0:
        await asyncio.sleep(wait_s)


def _give_up(answer: asyncio.Future[Frame]) -> None:
    if not answer.done():
        answer.set_exception(_Silent())


LINKS = SharedLinks(Link)
