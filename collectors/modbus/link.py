"""One line to Modbus devices: a TCP connection or a serial port, shared by the units behind it.

The only module that knows pymodbus. Its PDUs and CRC are used; its client is not, because that one
takes an answer with transaction id 0 for any request, forgets half of a frame that is still arriving
when the next request goes out, and starts its ids afresh on reconnecting. Here:

* an answer counts only if transaction id (or, for RTU, unit, function, length and CRC) is the asked one;
* ids run on over reconnects, so a late answer never meets a request with its number;
* RTU has no ids: after a silence the line is opened anew (or flushed) and the silent unit is left alone
  for a while, the others are not;
* any await may be cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, cast

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerRTU
from pymodbus.pdu import ReadDeviceInformationRequest, ReadHoldingRegistersRequest
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from app.errors import CollectError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors.deadline import Deadlines
from collectors.fair_semaphore import FairSemaphore
from collectors.modbus.tls import Tls
from collectors.serial import Line, SerialPort
from collectors.shared_links import Opening, SharedLinks, connect_to

READ_HOLDING, READ_INPUT, READ_DEVICE_ID = 3, 4, 43
FUNCTION_OF_TABLE = {"holding": READ_HOLDING, "input": READ_INPUT}
ERROR_FLAG = 0x80
LARGEST_BUFFER = 4096
"""A device that sends more than this without a frame in it talks something else. [bytes]"""
SILENCES_BEFORE_RECONNECT = 2
BUSY_PAUSE_S = 0.1

_MBAP = struct.Struct(">HHHB")
_UNREACHABLE_CODES = (ExcCodes.GATEWAY_PATH_UNAVIABLE, ExcCodes.GATEWAY_NO_RESPONSE)
_BUSY_CODES = (ExcCodes.ACKNOWLEDGE, ExcCodes.DEVICE_BUSY)


class ModbusRefused(DeviceRefused):
    """The device answered with a Modbus exception."""

    def __init__(self, device: str, problem: str, code: int) -> None:
        super().__init__(device, problem)
        self.code = code

    @property
    def address_refused(self) -> bool:
        """True where smaller requests may succeed."""
        return self.code in (ExcCodes.ILLEGAL_ADDRESS, ExcCodes.ILLEGAL_VALUE, ExcCodes.DEVICE_FAILURE)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a line leads and how it is spoken; equal endpoints share a line."""

    transport: Literal["tcp", "rtu_over_tcp", "rtu"]
    host: str = ""
    port: int = 502
    line: Line | None = None
    tls: Tls | None = None

    def __str__(self) -> str:
        return self.line.path if self.line else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: the meter's name for errors, its unit number and its patience."""

    device: str
    unit: int
    timeout_s: float
    retries: int = 1


class _Silent(Exception):
    """No answer within the time allowed."""


class _Transport(Protocol):
    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...


class _Wire(asyncio.Protocol, ABC):
    """What both framings share: one transport, a buffer, and a future per request in flight."""

    __slots__ = ("buffer", "loop", "transport", "usable")

    transport: _Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = b""
        self.usable = False
        """False once closed from either side."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.usable = True

    def eof_received(self) -> None:
        self.usable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        for answer in self.waiting():
            if not answer.done():
                answer.set_exception(ConnectionResetError(str(exc or "closed by the device")))

    @abstractmethod
    def waiting(self) -> list[asyncio.Future[bytes]]:
        """Futures of the requests in flight."""

    @abstractmethod
    def send(self, unit: int, pdu: bytes, answer: asyncio.Future[bytes]) -> None:
        """Send a request; its PDU comes as the result of `answer`."""

    @abstractmethod
    def forget(self, answer: asyncio.Future[bytes]) -> None:
        """Nobody waits for that answer any more; should it still come, it is nobody's."""

    def drop(self) -> None:
        """Close at once."""
        self.usable = False
        self.transport.abort()


class _TcpWire(_Wire):
    """Modbus TCP: frames carry the number of the request they answer."""

    __slots__ = ("_numbers", "_pending")

    def __init__(self, loop: asyncio.AbstractEventLoop, numbers: Iterator[int]) -> None:
        super().__init__(loop)
        self._numbers = numbers
        self._pending: dict[int, tuple[int, int, asyncio.Future[bytes]]] = {}

    def waiting(self) -> list[asyncio.Future[bytes]]:
        return [answer for _, _, answer in self._pending.values()]

    def send(self, unit: int, pdu: bytes, answer: asyncio.Future[bytes]) -> None:
        number = next(self._numbers) & 0xFFFF
        self._pending[number] = (unit, pdu[0], answer)
        self.transport.write(_MBAP.pack(number, 0, len(pdu) + 1, unit) + pdu)

    def forget(self, answer: asyncio.Future[bytes]) -> None:
        self._pending = {n: asked for n, asked in self._pending.items() if asked[2] is not answer}

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        while len(buffer) >= _MBAP.size:
            number, protocol, length, unit = _MBAP.unpack_from(buffer)
            if protocol or not 3 <= length <= 254:
                self._not_modbus()
                return
            if len(buffer) < 6 + length:
                break
            self._frame(number, unit, buffer[7 : 6 + length])
            buffer = buffer[6 + length :]
        self.buffer = buffer

    def _frame(self, number: int, unit: int, pdu: bytes) -> None:
        """Give an answer to the one that asked; one that nobody asked for is late, doubled or forged."""
        asked = self._pending.get(number)
        if asked is not None and asked[0] == unit and asked[1] == pdu[0] & ~ERROR_FLAG:
            del self._pending[number]
            if not asked[2].done():
                asked[2].set_result(pdu)

    def _not_modbus(self) -> None:
        self.buffer = b""
        problem = "not a Modbus TCP response; is the transport rtu_over_tcp?"
        self.connection_lost(ConnectionResetError(problem))
        self.drop()


class _RtuWire(_Wire):
    """RTU frames: one request at a time, its answer known by unit, function, length and CRC."""

    __slots__ = ("_asked",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._asked: tuple[int, int, asyncio.Future[bytes]] | None = None

    def waiting(self) -> list[asyncio.Future[bytes]]:
        return [self._asked[2]] if self._asked else []

    def send(self, unit: int, pdu: bytes, answer: asyncio.Future[bytes]) -> None:
        self.buffer = b""
        self._asked = (unit, pdu[0], answer)
        self.transport.write(rtu_frame(unit, pdu))

    def forget(self, answer: asyncio.Future[bytes]) -> None:
        self._asked = None

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            return
        self.buffer = (self.buffer + data)[-LARGEST_BUFFER:]
        unit, function, answer = self._asked
        pdu = find_rtu_answer(self.buffer, unit, function)
        if pdu:
            self._asked = None
            if not answer.done():
                answer.set_result(pdu)


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """`pdu` with unit number and CRC."""
    return FramerRTU(cast("Any", None)).encode(pdu, unit, 0)


def find_rtu_answer(data: bytes, unit: int, function: int) -> bytes | None:
    """The PDU of the first sound frame from `unit` that answers `function`, noise before it skipped."""
    for start in range(len(data) - 4):
        if data[start] == unit and data[start + 1] & ~ERROR_FLAG == function:
            end = start + _rtu_size(data[start:])
            if end <= len(data) and FramerRTU.check_CRC(
                data[start : end - 2], int.from_bytes(data[end - 2 : end], "big")
            ):
                return data[start + 1 : end - 2]
    return None


def _rtu_size(frame: bytes) -> int:
    """Bytes of an answer, from its beginning."""
    if frame[1] & ERROR_FLAG:
        return 5
    if frame[1] == READ_DEVICE_ID:
        return ReadDeviceInformationResponse.calculateRtuFrameSize(frame)
    return 5 + frame[2]


class Link:
    """A line that opens when first used, and again after it broke.

    Parameters
    ----------
    endpoint : Endpoint
        Where it leads.
    concurrency : int
        Requests in flight at once; RTU always has one.
    """

    __slots__ = (
        "__weakref__",
        "_deadlines",
        "_left_alone_until",
        "_numbers",
        "_one_opens",
        "_opening",
        "_silences",
        "_slots",
        "_wire",
        "connections",
        "endpoint",
        "users",
    )

    def __init__(self, endpoint: Endpoint, concurrency: int = 1) -> None:
        self.endpoint = endpoint
        self.users = 0
        self.connections = 0
        """Times the line was opened."""
        self._slots = FairSemaphore(concurrency if endpoint.transport == "tcp" else 1)
        self._one_opens = asyncio.Lock()
        self._wire: _Wire | None = None
        self._numbers = itertools.count(1)
        self._silences = 0
        self._opening = Opening(endpoint)
        self._left_alone_until: dict[int, float] = {}
        self._deadlines = Deadlines(_give_up)

    @staticmethod
    def time() -> float:
        """The event loop's clock. [s]"""
        return asyncio.get_running_loop().time()

    async def read(self, requester: Requester, table: str, address: int, count: int) -> bytes:
        """`count` registers as ``2 * count`` bytes.

        Raises
        ------
        DeviceUnreachable
            If nothing answered in time, after the retries.
        ModbusRefused
            If the device answered with an exception.
        DecodeError
            If it answered with another number of registers.
        """
        return registers_in(await self.ask(requester, request_pdu(table, address, count)), requester, count)

    async def device_id(self, requester: Requester) -> tuple[str, ...]:
        """Texts of function 43 (vendor, product code, revision), as far as the device tells.

        Raises
        ------
        DeviceUnreachable, ModbusRefused, DecodeError
            As `read`.
        """
        request = ReadDeviceInformationRequest()
        pdu = await self.ask(requester, bytes([READ_DEVICE_ID]) + request.encode())
        response = ReadDeviceInformationResponse()
        try:
            response.decode(pdu[1:])
        except (struct.error, IndexError):
            raise DecodeError(requester.device, "sent a malformed response to function 43") from None
        texts = (value for value in response.information.values() if isinstance(value, bytes))
        return tuple(text.decode("latin-1").strip("\0 ") for text in texts)

    async def ask(self, requester: Requester, pdu: bytes) -> bytes:
        """The PDU that answers `pdu`; silence and a busy device are asked again.

        Raises
        ------
        DeviceUnreachable, ModbusRefused
            As `read`.
        """
        tries_left = requester.retries
        while True:
            wire = self._wire_at_once() or await self._wire_in_turn(requester)
            loop = wire.loop
            answer: asyncio.Future[bytes] = loop.create_future()
            said, problem = b"", ""
            try:
                wire.send(requester.unit, pdu, answer)
                self._deadlines.start(answer, loop.time() + requester.timeout_s, loop)
                said = await answer
            except _Silent:
                limit_s = requester.timeout_s
                problem = f"unit {requester.unit} at {self.endpoint} gave no answer within {limit_s:g} s"
            except ConnectionError as error:
                problem = f"{self.endpoint} closed the connection: {error}"
            finally:
                self._deadlines.stop(answer)
                if said:
                    self._silences = 0
                else:
                    self._after_silence(wire, requester, answer)
                self._slots.release()
            if said and not said[0] & ERROR_FLAG:
                return said
            await self._failed(requester, said, problem, tries_left)
            tries_left -= 1

    async def _failed(self, requester: Requester, said: bytes, problem: str, tries_left: int) -> None:
        """Raise what silence or an exception answer means; returns where asking again may help."""
        if said:
            await self._refused(requester, said, tries_left)
        elif not tries_left:
            raise DeviceUnreachable(requester.device, problem)

    async def _refused(self, requester: Requester, answer: bytes, tries_left: int) -> None:
        """Raise what an exception answer means; returns after a pause where asking again may help."""
        code = answer[1] if len(answer) > 1 else 0
        if not tries_left or code not in _BUSY_CODES:
            raise self._refusal(requester, code)
        await asyncio.sleep(BUSY_PAUSE_S)

    def _refusal(self, requester: Requester, code: int) -> CollectError:
        name = ExcCodes(code).name.replace("_", " ").lower() if code in list(ExcCodes) else "unknown"
        if code in _UNREACHABLE_CODES:
            return DeviceUnreachable(
                requester.device,
                f"gateway {self.endpoint} finds no unit {requester.unit}: exception {code} ({name})",
            )
        return ModbusRefused(
            requester.device, f"unit {requester.unit} answered exception {code} ({name})", code
        )

    def _wire_at_once(self) -> _Wire | None:
        """The wire, and a place on it, where neither has to be waited for."""
        wire = self._wire
        if wire is None or not wire.usable or self._left_alone_until or self.endpoint.line:
            return None
        return wire if self._slots.try_acquire() else None

    async def _wire_in_turn(self, requester: Requester) -> _Wire:
        """The wire, and a place on it, when the others are done, the unit rested and the line is open."""
        if self._left_alone_until:
            await self._leave_alone(requester.unit)
        if not self._slots.try_acquire():
            await self._slots.wait()
        try:
            wire = await self._opened(requester)
            if self.endpoint.line:
                await asyncio.sleep(self.endpoint.line.silence_s)
        except BaseException:
            self._slots.release()
            raise
        return wire

    def _after_silence(self, wire: _Wire, requester: Requester, answer: asyncio.Future[bytes]) -> None:
        """See that a late answer cannot be taken for the next one's."""
        wire.forget(answer)
        self._silences += 1
        if self.endpoint.transport != "tcp":
            self._left_alone_until[requester.unit] = asyncio.get_running_loop().time() + requester.timeout_s
        half_a_frame = bool(wire.buffer)
        stuck = self._silences >= SILENCES_BEFORE_RECONNECT
        if half_a_frame or stuck or self.endpoint.transport != "tcp":
            wire.drop()

    async def _leave_alone(self, unit: int) -> None:
        until = self._left_alone_until.pop(unit, 0.0)
        wait_s = until - asyncio.get_running_loop().time() if until else 0.0
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _opened(self, requester: Requester) -> _Wire:
        if self._wire is not None and self._wire.usable:
            return self._wire
        async with self._one_opens:
            if self._wire is None or not self._wire.usable:
                self._wire = await self._opening.attempt(requester.device, requester.timeout_s, self._connect)
                self.connections += 1
                self._silences = 0
            return self._wire

    async def _connect(self) -> _Wire:
        loop, host, tls = asyncio.get_running_loop(), self.endpoint.host, self.endpoint.tls
        wire = _TcpWire(loop, self._numbers) if self.endpoint.transport == "tcp" else _RtuWire(loop)
        if self.endpoint.line:
            wire.connection_made(SerialPort(self.endpoint.line, wire, loop))
            return wire
        context = None if tls is None else tls.context()
        name = None if tls is None else tls.server_name or host
        await connect_to(lambda: wire, host, self.endpoint.port, ssl=context, server_hostname=name)
        return wire

    def close(self) -> None:
        """Close the line; a later read opens it again."""
        self._deadlines.close()
        if self._wire is not None:
            self._wire.drop()
            self._wire = None


def registers_in(pdu: bytes, requester: Requester, count: int) -> bytes:
    """The `count` registers of an answer as ``2 * count`` bytes.

    Raises
    ------
    DecodeError
        If it holds another number of registers.
    """
    if len(pdu) != 2 + 2 * count or pdu[1] != 2 * count:
        raise DecodeError(requester.device, f"answered {len(pdu) - 2} bytes where {2 * count} were asked")
    return pdu[2:]


def _give_up(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(_Silent())


@lru_cache(maxsize=4096)
def request_pdu(table: str, address: int, count: int) -> bytes:
    """Function code and data of a read of `count` registers."""
    model = ReadHoldingRegistersRequest if table == "holding" else ReadInputRegistersRequest
    return bytes([FUNCTION_OF_TABLE[table]]) + model(address=address, count=count).encode()


LINKS = SharedLinks(Link)
