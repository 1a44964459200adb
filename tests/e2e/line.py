"""The line between edges and their centre: TLS before the centre, and a fault proxy before that."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collectors.simulated.fault_proxy import FaultProxy, ProxyFaults
from tests.protocol.test_modbus_tls import Authority


class Line:
    """``https://127.0.0.1:PORT`` of a centre that speaks plain HTTP, through faults.

    Parameters
    ----------
    folder : Path
        For certificates.
    """

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder, "authority")
        self.ca_file = authority.file
        certificate, key = authority.issue("device")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._target_port = 0
        self._proxy: FaultProxy | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started, self._ended = threading.Event(), asyncio.Event()

    @property
    def url(self) -> str:
        """What an edge is told."""
        assert self._proxy is not None
        return f"https://127.0.0.1:{self._proxy.port}"

    @property
    def connections(self) -> int:
        """Accepted so far."""
        assert self._proxy is not None
        return self._proxy.connections

    def leads_to(self, base: str) -> None:
        """Where the centre listens."""
        self._target_port = int(base.rsplit(":", 1)[1])

    def fail(self, change: Callable[[ProxyFaults], None]) -> None:
        """Change the faults, and break the connections that are open."""

        def do() -> None:
            assert self._proxy is not None
            change(self._proxy.faults)
            if not self._proxy.faults.half_open:
                self._proxy.reset_connections()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(do)

    def cut(self) -> None:
        """New connections are closed at once, those that are open are reset."""
        self.fail(lambda faults: setattr(faults, "refuse", True))

    def mend(self) -> None:
        """All is well again."""

        def well(faults: ProxyFaults) -> None:
            faults.refuse = faults.half_open = faults.drop = False
            faults.delay_s = 0.0

        self.fail(well)

    @contextmanager
    def standing(self) -> Iterator[Line]:
        """Serve until the end of the block."""
        thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        thread.start()
        assert self._started.wait(30)
        try:
            yield self
        finally:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        front = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._tls)
        port = front.sockets[0].getsockname()[1]
        async with FaultProxy("127.0.0.1", port) as self._proxy:
            self._started.set()
            await self._ended.wait()
        front.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.wait(
                [asyncio.ensure_future(_copy(a, b)) for a, b in ((reader, up_writer), (up_reader, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            up_writer.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
