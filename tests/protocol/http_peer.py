"""An HTTP/1.1 server on loopback that answers as a test says: right, slowly, broken, or too much."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

REASONS = {200: "OK", 201: "Created", 204: "No Content", 401: "Unauthorized", 404: "Not Found"}


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    """Without the query."""
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Said(NamedTuple):
    """A response; `raw` in its place goes out as it is."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None

    def encoded(self) -> bytes:
        """As it travels."""
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"content-length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


Answerer = Callable[[Asked], Awaitable[Said] | Said]


@asynccontextmanager
async def http_peer(answer: Answerer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serves until the block ends; its port."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
                while await _served(answer, reader, writer):
                    pass
        finally:
            writer.transport.abort()
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in (left := set(serving)):
            task.cancel()
        if left:
            await asyncio.wait(left)
        await asyncio.sleep(0)


async def _served(answer: Answerer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; whether the connection stays."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    said = answer(Asked(method, path, query, headers, body))
    said = said if isinstance(said, Said) else await said
    writer.write(said.encoded())
    await writer.drain()
    if said.raw is not None:
        writer.close()
        await writer.wait_closed()
    return said.raw is None
