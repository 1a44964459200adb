"""Links that several meters share: one for each endpoint, opened by one attempt for all of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from app.errors import DeviceUnreachable
from collectors import network


class _Link(Protocol):
    users: int

    def close(self) -> None: ...


L = TypeVar("L", bound=_Link)
T = TypeVar("T")


class SharedLinks(Generic[L]):
    """The links in use, by event loop and endpoint; equal endpoints share a link.

    Parameters
    ----------
    make : callable
        Makes the link to an endpoint.
    """

    def __init__(self, make: Callable[..., L]) -> None:
        self._make = make
        self._links: WeakValueDictionary[tuple[int, Hashable], L] = WeakValueDictionary()

    def take(self, endpoint: Hashable, **options: Any) -> L:
        """The link to that endpoint, made on first use within the running event loop.

        Give it back with `release`. `options` are those of the first user.
        """
        key = (id(asyncio.get_running_loop()), endpoint)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = self._make(endpoint, **options)
        link.users += 1
        return link

    def release(self, link: L) -> None:
        """Give a link back; the last user closes it."""
        link.users -= 1
        if link.users <= 0:
            link.close()
            for key in [key for key, value in self._links.items() if value is link]:
                self._links.pop(key, None)

    @contextmanager
    def using(self, endpoint: Hashable) -> Iterator[L]:
        """A link for the time of a ``with`` block."""
        link = self.take(endpoint)
        try:
            yield link
        finally:
            self.release(link)


class Opening:
    """Attempts to open a link; the meters behind a dead gateway share one of them.

    Parameters
    ----------
    endpoint : object
        Where it leads, for messages.
    """

    __slots__ = ("_endpoint", "_problem", "_until_s")

    def __init__(self, endpoint: object) -> None:
        self._endpoint = endpoint
        self._until_s, self._problem = 0.0, ""

    async def attempt(self, device: str, timeout_s: float, connect: Callable[[], Awaitable[T]]) -> T:
        """What `connect` gives; after a failure nobody tries again for as long as it took.

        Raises
        ------
        DeviceUnreachable
            If it cannot be opened in time.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        if started_s < self._until_s:
            raise DeviceUnreachable(device, self._problem)
        try:
            async with asyncio.timeout(timeout_s):
                return await connect()
        except OSError as error:
            reason = str(error) or f"no answer within {timeout_s:g} s"
            self._problem = f"cannot open {self._endpoint}: {reason}"
            self._until_s = loop.time() + (loop.time() - started_s)
            raise DeviceUnreachable(device, self._problem) from None


async def connect_to(
    make_protocol: Callable[[], asyncio.Protocol], host: str, port: int, **options: Any
) -> None:
    """Connect to the first address of a host that answers, of those that collectors may reach.

    Raises
    ------
    OSError
        If none does.
    """
    loop = asyncio.get_running_loop()
    *others, last = await network.addresses(host, port, socket.SOCK_STREAM)
    for address in others:
        with suppress(OSError):
            await loop.create_connection(make_protocol, address, port, **options)
            return
    await loop.create_connection(make_protocol, last, port, **options)
