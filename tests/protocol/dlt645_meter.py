"""The meters' side of DL/T 645, from the standard; no code is shared with the collector.

Meters on one line, behind a TCP port or on a pseudo terminal, with faults that lines and meters have.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tty
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

Values = dict[str, bytes]
"""Data by identifier (eight or four hexadecimal digits), the highest byte first as the standard prints it."""


def checked(body: bytes) -> bytes:
    """A frame, completed by its sum and end."""
    total = 0
    for byte in body:
        total = (total + byte) % 256
    return body + bytes((total, 0x16))


def answer(address: str, control: int, data: bytes) -> bytes:
    """A frame of a meter; `data` in the order of the line."""
    head = [0x68, *reversed(bytes.fromhex(address)), 0x68, control, len(data)]
    return checked(bytes(head + [(byte + 0x33) % 256 for byte in data]))


@dataclass
class Meter:
    """One meter."""

    address: str
    values: Values
    in_frames_of: int = 200
    """Bytes of data in one frame; what is longer follows in further ones."""
    silent_about: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """Identifiers, in the order they were asked for."""

    def reply(self, control: int, data: bytes) -> bytes | None:
        """The answer to a request, or None for silence."""
        if control == 0x13:
            return answer(self.address, 0x93, bytes.fromhex(self.address)[::-1])
        if control not in (0x11, 0x12, 0x01, 0x02):
            return answer(self.address, control | 0xC0, b"\x01")
        size = 4 if control > 0x10 else 2
        name = data[:size][::-1].hex().upper()
        self.asked.append(name)
        if name in self.silent_about:
            return None
        if name not in self.values:
            return answer(self.address, control | 0xC0, b"\x02")
        return self._part(control, data[:size], self.values[name][::-1], data[size:])

    def _part(self, control: int, name: bytes, value: bytes, number: bytes) -> bytes:
        n = number[0] if control == 0x12 else (1 if control == 0x02 else 0)
        start = n * self.in_frames_of
        part = value[start : start + self.in_frames_of]
        more = 0x20 if start + self.in_frames_of < len(value) else 0
        return answer(self.address, control | 0x80 | more, name + part + number)


class Bus:
    """A line with meters on it.

    Attributes
    ----------
    spoil : callable
        From an answer to the pieces that travel in its place; each piece is written by itself.
    echo : bool
        Whether the line gives requests back, as converters with two wires do.
    """

    def __init__(self, *meters: Meter, echo: bool = False) -> None:
        self.meters = meters
        self.echo = echo
        self.spoil: Callable[[bytes], list[bytes]] = lambda sent: [b"\xfe\xfe" + sent]
        self.silent: set[str] = set()
        self.connections = 0
        self.overlaps = 0
        """Requests that came while another was being answered."""
        self.requests: list[bytes] = []
        self._busy = False
        self._buffer = b""

    async def heard(self, data: bytes, write: Callable[[bytes], None]) -> None:
        """Bytes on the line; answers every request in them."""
        if self.echo:
            write(data)
        self._buffer += data
        while (start := self._buffer.find(b"\x68")) >= 0 and len(self._buffer) >= start + 12:
            length = self._buffer[start + 9]
            if len(self._buffer) < start + 12 + length:
                return
            request = self._buffer[start : start + 12 + length]
            self._buffer = self._buffer[start + 12 + length :]
            await self._asked(request, write)

    async def _asked(self, request: bytes, write: Callable[[bytes], None]) -> None:
        assert checked(request[:-2]) == request, "the request's sum is wrong"
        self.requests.append(request)
        self.overlaps += self._busy
        self._busy = True
        await asyncio.sleep(0)
        address = request[1:7][::-1].hex().upper()
        data = bytes((byte - 0x33) % 256 for byte in request[10:-2])
        for meter in self.meters:
            if address in (meter.address, "A" * 12) and meter.address not in self.silent:
                said = meter.reply(request[8], data)
                for piece in self.spoil(said) if said else []:
                    write(piece)
                    await asyncio.sleep(0.001)
        self._busy = False


class SerialServer:
    """A line behind a TCP port."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.port = bus, 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bus.connections += 1
        self._writers.add(writer)
        with suppress(ConnectionError):
            while data := await reader.read(1000):
                await self.bus.heard(data, writer.write)
        self._writers.discard(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


class SerialLine:
    """A line behind a pseudo terminal; `path` is the collector's end."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._fd, self._other = os.openpty()
        tty.setraw(self._fd)
        self.path = os.ttyname(self._other)
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._tasks:
            await asyncio.wait(self._tasks)
        os.close(self._fd)
        os.close(self._other)

    def _readable(self) -> None:
        data = os.read(self._fd, 1000)
        task = asyncio.create_task(self.bus.heard(data, lambda sent: void(os.write(self._fd, sent))))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def void(_: object) -> None:
    """Nothing."""


def bcd(text: str) -> bytes:
    """Digits as the standard prints them, point and minus left out; a minus is the highest bit."""
    digits = bytearray(bytes.fromhex(text.lstrip("-").replace(".", "")))
    if text.startswith("-"):
        digits[0] |= 0x80
    return bytes(digits)


def block(*texts: str) -> bytes:
    """Values of a block, the first one last: the lowest byte travels first."""
    return b"".join(bcd(text) for text in reversed(texts))


PLAIN: Values = {
    "00010000": bcd("123456.78"),
    "00010100": bcd("023456.78"),
    "00010200": bcd("050000.00"),
    "00010300": bcd("030000.00"),
    "00010400": bcd("020000.00"),
    "0001FF00": block("123456.78", "023456.78", "050000.00", "030000.00", "020000.00"),
    "00020000": bcd("000000.26"),
    "02010100": bcd("230.1"),
    "02010200": bcd("229.9"),
    "02010300": bcd("230.0"),
    "0201FF00": block("230.1", "229.9", "230.0"),
    "02020100": bcd("010.500"),
    "02020200": bcd("-000.250"),
    "02020300": bcd("010.000"),
    "0202FF00": block("010.500", "-000.250", "010.000"),
    "02030000": bcd("04.6000"),
    "02030100": bcd("02.3500"),
    "02030200": bcd("-00.0500"),
    "02030300": bcd("02.3000"),
    "0203FF00": block("04.6000", "02.3500", "-00.0500", "02.3000"),
    "02060000": bcd("0.998"),
    "02800002": bcd("50.01"),
    "01010000": bytes.fromhex("2611301015") + bcd("12.3456"),
    "04000101": bytes.fromhex("26113001"),
    "04000102": bytes.fromhex("101530"),
    "04000306": bytes.fromhex("000040"),
    "04000307": bytes.fromhex("000001"),
}
"""What a three-phase meter of 2007 says."""

OLD: Values = {
    "9010": bcd("006543.21"),
    "9011": bcd("001000.00"),
    "9020": bcd("000001.00"),
    "B611": bcd("0231"),
    "B621": bcd("05.25"),
    "B630": bcd("01.2100"),
    "A010": bcd("02.0000"),
}
"""What a meter of 1997 says."""


async def _serve_for_ever(address: str) -> None:
    positive = {  # the library of the bench knows no signs
        "02020200": bcd("000.250"),
        "0202FF00": block("010.500", "000.250", "010.000"),
        "02030200": bcd("00.0500"),
        "0203FF00": block("04.6000", "02.3500", "00.0500", "02.3000"),
    }
    async with SerialServer(Bus(Meter(address, PLAIN | positive))) as server:
        server.bus.spoil = lambda sent: [sent]
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":  # a process of its own for the bench
    asyncio.run(_serve_for_ever(sys.argv[1]))
