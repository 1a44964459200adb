"""How an HTTP source is connected to: at an address that may be reached, and to the right certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import httpcore

from collectors import network


class ReachableNetworks(httpcore.AsyncNetworkBackend):
    """Connects to the number that a name leads to now, where it may be reached.

    Parameters
    ----------
    fingerprint : str
        SHA-256 of the only certificate that is trusted, in hexadecimal; empty where its issuer is asked.
    """

    def __init__(self, fingerprint: str = "") -> None:
        self._under, self._fingerprint = httpcore.AnyIOBackend(), fingerprint

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        problem: Exception | None = None
        for number in await network.addresses(host, port, socket.SOCK_STREAM):
            try:
                stream = await self._under.connect_tcp(number, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                problem = error
            else:
                return _Pinned(stream, self._fingerprint) if self._fingerprint else stream
        raise problem or OSError(f"{host}: no address")

    async def sleep(self, seconds: float) -> None:
        await self._under.sleep(seconds)


class _Pinned(httpcore.AsyncNetworkStream):
    """A connection that is not used before the server's certificate was compared."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, fingerprint: str) -> None:
        self._stream, self._fingerprint = stream, fingerprint

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        certificate = stream.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown = sha256(certificate or b"").hexdigest()
        if shown != self._fingerprint:
            await stream.aclose()
            raise OSError(f"the server's certificate has another fingerprint: {shown}")
        return stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
