"""A TCP proxy that breaks what passes through it; for any protocol.

::

    async with FaultProxy("127.0.0.1", server.port) as proxy:
        ...  # connect to 127.0.0.1:proxy.port
        proxy.faults.delay_s = 2.0
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

from collectors.simulated.tcp_server import TcpServer

CHUNK = 65_536


@dataclass
class ProxyFaults:
    """What happens to traffic just now; change it while it runs."""

    delay_s: float = 0.0
    """Answers arrive this much late, in order. [s]"""
    drop: bool = False
    """Answers are thrown away; requests still reach the server."""
    half_open: bool = False
    """Nothing passes in either direction, and no end is notified: the other end is gone without a FIN."""
    truncate_after: int | None = None
    """Only so many bytes of every answer pass."""
    duplicate: bool = False
    """Every answer is sent twice."""
    change: Callable[[bytes], bytes] | None = None
    """What becomes of an answer, e.g. `wrong_transaction_id`."""
    refuse: bool = False
    """New connections are closed at once."""


def wrong_transaction_id(answer: bytes) -> bytes:
    """A Modbus TCP answer under the number of another request."""
    number = int.from_bytes(answer[:2], "big")
    return struct.pack(">H", (number + 1) & 0xFFFF) + answer[2:]


class FaultProxy(TcpServer):
    """Listens on loopback and forwards to `host`:`port`, through the faults.

    With `upstream_unix` it forwards to a Unix socket instead.
    """

    def __init__(self, host: str, port: int, *, upstream_unix: str = "") -> None:
        super().__init__()
        self.faults = ProxyFaults()
        self._target = (host, port)
        self._upstream_unix = upstream_unix

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.faults.refuse:
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await self._connect()
        self._open.add(up_writer)
        directions = [
            asyncio.ensure_future(self._requests(reader, up_writer)),
            asyncio.ensure_future(self._answers(up_reader, writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self._open.discard(up_writer)
            up_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._upstream_unix:
            return await asyncio.open_unix_connection(self._upstream_unix)
        return await asyncio.open_connection(*self._target)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if not self.faults.half_open:
                writer.write(data)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.faults.delay_s:
                await asyncio.sleep(self.faults.delay_s)
            for part in self._broken(data):
                writer.write(part)
            await writer.drain()

    def _broken(self, data: bytes) -> list[bytes]:
        """What of an answer is passed on."""
        faults = self.faults
        if faults.drop or faults.half_open:
            return []
        data = faults.change(data) if faults.change else data
        data = data[: faults.truncate_after] if faults.truncate_after is not None else data
        return [data, data] if faults.duplicate else [data]
