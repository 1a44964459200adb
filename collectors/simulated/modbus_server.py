"""Modbus meters on loopback: real frames, any profile's registers, faults on demand.

::

    unit = SimulatedUnit(load_profile("schneider_pm5xxx"), values)
    async with SimulatedModbus({1: unit}) as server:
        ...  # poll 127.0.0.1:server.port, unit 1
        unit.faults.silent = True
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from collectors.modbus.codec import encode, encode_raw
from collectors.modbus.link import ERROR_FLAG, READ_DEVICE_ID, rtu_frame
from collectors.modbus.sunspec import BASES, END, MARK
from collectors.profiles.profile import ModbusChannel, ModbusProfile, Profile
from collectors.simulated.device import DeviceFaults, now_utc
from collectors.simulated.tcp_server import TcpServer

Values = Callable[[str, datetime], float]
"""Value of a channel at an instant, in the unit the channel is delivered in."""

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY, NO_SUCH_UNIT = 1, 2, 3, 6, 11
MOST_REGISTERS = 125
COMMON_MODEL, COMMON_LENGTH = 1, 66
_MBAP = struct.Struct(">HHHB")
_ACCUMULATORS = ("acc32", "acc64")


@dataclass
class Faults(DeviceFaults):
    """What is wrong with a unit just now; change it while it serves."""

    silent_at: frozenset[int] = frozenset()
    """No answer to reads that begin at these registers."""
    refuse: int = 0
    """Every request is answered with this exception code."""
    busy_times: int = 0
    """So many requests are answered "busy" before the next is served."""
    half_open: bool = False
    """The connection stays open, but nothing more comes back on it, ever."""
    wrong_transaction_id: bool = False
    """Answers carry another request's number (TCP only)."""
    truncated: bool = False
    """Only the first half of every frame is sent."""
    short: bool = False
    """Answers hold one register less than was asked."""


@dataclass
class SimulatedUnit:
    """One meter behind a server: a profile, where its values come from, and its faults."""

    profile: Profile
    values: Values
    faults: Faults = field(default_factory=Faults)
    clock: Callable[[], datetime] = now_utc
    max_registers: int = MOST_REGISTERS
    """Longer reads are refused."""
    refuse_holes: bool = False
    """Reads that touch a register no channel has are refused with "illegal address"."""
    words: dict[tuple[str, int], int] = field(default_factory=dict)
    """Registers with fixed contents, by table and address; they go before the profile's."""
    requests: list[tuple[str, int, int]] = field(default_factory=list)
    """What was asked so far: table, address, count."""
    keep_requests: int = 10_000

    def __post_init__(self) -> None:
        assert isinstance(self.profile, ModbusProfile)
        self._channels = tuple(c for c in self.profile.channels if not c.sum_of)
        self._model_at = BASES[0] + 2 + 2 + COMMON_LENGTH if self.profile.sunspec_models else 0
        if self.profile.sunspec_models:
            self._add_sunspec_map(self.profile.sunspec_models[0])

    def _add_sunspec_map(self, model: int) -> None:
        length = max(self._end(channel) for channel in self._channels) - 2
        head = [*struct.unpack(">2H", MARK), COMMON_MODEL, COMMON_LENGTH, *[0] * COMMON_LENGTH, model, length]
        at_end = self._model_at + 2 + length
        self.words |= {("holding", BASES[0] + i): word for i, word in enumerate(head)}
        self.words |= {("holding", at_end): END, ("holding", at_end + 1): 0}

    @staticmethod
    def _end(channel: ModbusChannel) -> int:
        return channel.span[1]

    def read(self, table: str, address: int, count: int) -> list[int] | int:
        """Registers, or the exception code."""
        self.requests[: -self.keep_requests] = []
        self.requests.append((table, address, count))
        if self.faults.refuse:
            return self.faults.refuse
        if self.faults.busy_times:
            self.faults.busy_times -= 1
            return BUSY
        if not 1 <= count <= self.max_registers:
            return ILLEGAL_VALUE
        return self._registers(table, address, count)

    def _registers(self, table: str, address: int, count: int) -> list[int] | int:
        image = self._image(table, address, count)
        wanted = range(address, address + count)
        if wanted.stop > 65_536 or (self.refuse_holes and any(a not in image for a in wanted)):
            return ILLEGAL_ADDRESS
        return [image.get(a, 0) for a in wanted]

    def _image(self, table: str, address: int, count: int) -> dict[int, int]:
        at = self.faults.value_time(self.clock)
        image: dict[int, int] = {}
        for channel in self._channels:
            first = channel.address + self._model_at
            if channel.table == table and first < address + count and address < first + channel.length:
                data = self._encoded(channel, at)
                image |= dict(enumerate(struct.unpack(f">{channel.length}H", data), first))
        image |= {a: word for (t, a), word in self._scale_factors(at).items() if t == table}
        ratios = [c for c in self._channels if c.factor_from is not None and c.table == table]
        image |= {
            (c.factor_from or 0) + n: n == c.factor_words - 1 for c in ratios for n in range(c.factor_words)
        }
        image |= {a: word for (t, a), word in self.words.items() if t == table}
        return image

    def _encoded(self, channel: ModbusChannel, at: datetime) -> bytes:
        if self.faults.no_value:
            return _no_value(channel)
        value = self.values(channel.name, at)
        if math.isnan(value):
            return _no_value(channel)
        return encode(value, channel, factor=10.0 ** self._exponent(channel, at))

    def _scale_factors(self, at: datetime) -> dict[tuple[str, int], int]:
        return {
            (c.table, c.scale_from + self._model_at): _exponent_word(c, self._exponent(c, at))
            for c in self._channels
            if c.scale_from is not None
        }

    def _exponent(self, channel: ModbusChannel, at: datetime) -> int:
        """Power of ten that makes every value sharing the scale factor fit its type."""
        if channel.scale_from is None or channel.type in _ACCUMULATORS:
            return 0
        sharing = [c for c in self._channels if c.scale_from == channel.scale_from]
        return max(_digits_too_many(self.values(c.name, at), c) for c in sharing)

    def device_id(self) -> bytes:
        """Data of the answer to function 43: vendor, product code, revision."""
        texts = [self.profile.vendor.encode(), self.profile.model.encode(), b"1.0"]
        objects = b"".join(bytes([i, len(text)]) + text for i, text in enumerate(texts))
        return bytes([0x0E, 1, 1, 0, 0, len(texts)]) + objects


def _exponent_word(channel: ModbusChannel, exponent: int) -> int:
    if channel.scale_byte == "both":
        return exponent & 0xFFFF
    return (exponent & 0xFF) << (8 if channel.scale_byte == "high" else 0)


def _digits_too_many(value: float, channel: ModbusChannel) -> int:
    largest = 2 ** (16 * channel.length - 1) - 1
    for exponent in range(10):
        try:
            encode(value, channel, factor=10.0**exponent)
        except OverflowError:
            continue
        return exponent
    raise OverflowError(f"{value:g} does not fit {channel.type} (at most {largest})")


def _no_value(channel: ModbusChannel) -> bytes:
    if channel.sentinels:
        return encode_raw(channel.sentinels[0], channel)
    if channel.type.startswith("float"):
        return encode_raw(math.nan, channel)
    return encode_raw(0, channel)


class SimulatedModbus(TcpServer):
    """A TCP server with simulated units behind it.

    Parameters
    ----------
    units : Mapping of int to SimulatedUnit
        By unit number; a request to another one is answered as a gateway does (exception 11), or not
        at all where the framing is RTU.
    framing : {'tcp', 'rtu'}
        Frames on the connection: Modbus TCP, or RTU over TCP.
    """

    def __init__(
        self, units: Mapping[int, SimulatedUnit], *, framing: Literal["tcp", "rtu"] = "tcp", port: int = 0
    ) -> None:
        super().__init__(port)
        self.units = units
        self._framing = framing

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer_next = self._answer_tcp if self._framing == "tcp" else self._answer_rtu
        while await answer_next(reader, writer):
            await writer.drain()

    async def _answer_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        number, _, length, unit_number = _MBAP.unpack(await reader.readexactly(_MBAP.size))
        pdu = await reader.readexactly(length - 1)
        unit = self.units.get(unit_number)
        answer = await _answer(unit, pdu) if unit else bytes([pdu[0] | ERROR_FLAG, NO_SUCH_UNIT])
        if unit and unit.faults.wrong_transaction_id:
            number = (number - 1) & 0xFFFF
        return await self._send(
            reader, writer, unit, answer and _MBAP.pack(number, 0, len(answer) + 1, unit_number) + answer
        )

    async def _answer_rtu(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readexactly(2)
        rest = await reader.readexactly(5 if head[1] == READ_DEVICE_ID else 6)
        unit = self.units.get(head[0])
        if unit is None or rtu_frame(head[0], head[1:] + rest[:-2]) != head + rest:
            return True
        answer = await _answer(unit, head[1:] + rest[:-2])
        return await self._send(reader, writer, unit, answer and rtu_frame(head[0], answer))

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        unit: SimulatedUnit | None,
        frame: bytes,
    ) -> bool:
        if unit and unit.faults.half_open:
            await _swallow(reader)
            return False
        writer.write(frame[: len(frame) // 2] if unit and unit.faults.truncated else frame)
        return True


async def _swallow(reader: asyncio.StreamReader) -> None:
    """Read and forget until the other side closes."""
    while await reader.read(65_536):
        continue


async def _answer(unit: SimulatedUnit, pdu: bytes) -> bytes:
    """The unit's answer; empty where it stays silent."""
    if unit.faults.slow_s:
        await asyncio.sleep(unit.faults.slow_s)
    if unit.faults.ignores_request():
        return b""
    if pdu[0] == READ_DEVICE_ID:
        return pdu[:1] + unit.device_id()
    table = {3: "holding", 4: "input"}.get(pdu[0])
    if table is None or len(pdu) != 5:
        return bytes([pdu[0] | ERROR_FLAG, ILLEGAL_FUNCTION])
    address, count = struct.unpack(">HH", pdu[1:])
    if address in unit.faults.silent_at:
        return b""
    result = unit.read(table, address, count)
    if isinstance(result, int):
        return bytes([pdu[0] | ERROR_FLAG, result])
    words = result[:-1] if unit.faults.short else result
    return struct.pack(f">BB{len(words)}H", pdu[0], 2 * len(words), *words)
