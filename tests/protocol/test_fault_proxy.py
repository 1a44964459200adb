"""The fault proxy does to any TCP traffic what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from collectors.simulated.fault_proxy import FaultProxy


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[FaultProxy]:
    """A proxy before a server that sends back what it gets."""
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    await asyncio.gather(*served)
    server.close()
    await server.wait_closed()


async def asked(proxy: FaultProxy, text: bytes, size: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(text)
        return await reader.readexactly(size)
    finally:
        writer.transport.abort()


async def test_without_faults_it_passes_everything() -> None:
    async with echo() as proxy:
        assert await asked(proxy, b"hello", 5) == b"hello"


@pytest.mark.parametrize(
    ("fault", "value", "answer"),
    [
        ("duplicate", True, b"hellohello"),
        ("truncate_after", 2, b"he"),
        ("change", bytes.upper, b"HELLO"),
        ("delay_s", 0.01, b"hello"),
    ],
)
async def test_answers_are_broken_as_told(fault: str, value: object, answer: bytes) -> None:
    async with echo() as proxy:
        setattr(proxy.faults, fault, value)
        assert await asked(proxy, b"hello", len(answer)) == answer


@pytest.mark.parametrize("fault", ["drop", "half_open"])
async def test_silence_is_silent(fault: str) -> None:
    async with echo() as proxy:
        setattr(proxy.faults, fault, True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asked(proxy, b"hello", 5)


async def test_refused_and_reset_connections_end() -> None:
    async with echo() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        proxy.reset_connections()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.transport.abort()
        proxy.faults.refuse = True
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asked(proxy, b"hello", 5)
