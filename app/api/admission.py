"""Who may come in while many are there: strangers have a small share of their own, callers fair ones.

A *stranger* has shown no valid key. What strangers send is bounded in size and time, and counted
by address; however many of them there are, callers who are known keep their places, and no single caller
can take all of those.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from app.errors import RequestTooLarge, TooBusy


class Places:
    """Places that are shared: so many in all, so many for one name, and so many for one group of names."""

    def __init__(self, most: int, each: int, of_group: int | None = None) -> None:
        self._most, self._each = most, each
        self._of_group = most if of_group is None else of_group
        self._taken: Counter[str] = Counter()
        self._by_group: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, name: str, problem: str, *, group: str = "", retry_after_s: int = 1) -> Iterator[None]:
        """Hold a place while the block lasts; names without a group have no such limit.

        Raises
        ------
        TooBusy
            If there is none, or none for `name` or `group`.
        """
        give_back = self.take(name, problem, group=group, retry_after_s=retry_after_s)
        try:
            yield
        finally:
            give_back()

    def take(self, name: str, problem: str, *, group: str = "", retry_after_s: int = 1) -> Callable[[], None]:
        """Hold a place until what is returned is called.

        Raises
        ------
        TooBusy
            If there is none, or none for `name` or `group`.
        """
        with self._lock:
            if not self._is_free(name, group):
                raise TooBusy(problem, retry_after_s=retry_after_s)
            self._taken[name] += 1
            self._by_group[group] += 1
        return partial(self._give_back, name, group)

    def _give_back(self, name: str, group: str) -> None:
        with self._lock:
            for counted, key in ((self._taken, name), (self._by_group, group)):
                counted[key] -= 1
                if not counted[key]:
                    del counted[key]

    def _is_free(self, name: str, group: str) -> bool:
        if self._taken.total() >= self._most or self._taken[name] >= self._each:
            return False
        return not group or self._by_group[group] < self._of_group


class Turns:
    """How many requests of one caller and of one institution are worked on at once; others wait in order."""

    def __init__(self, each: int, of_group: int) -> None:
        self._each, self._of_group = each, of_group
        self._gates: dict[str, tuple[anyio.CapacityLimiter, int]] = {}

    @asynccontextmanager
    async def taken(self, name: str, group: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block lasts."""
        async with self._turn(f"caller {name}", self._each), self._turn(f"group {group}", self._of_group):
            yield

    @asynccontextmanager
    async def _turn(self, key: str, most: int) -> AsyncIterator[None]:
        gate, users = self._gates.get(key) or (anyio.CapacityLimiter(most), 0)
        self._gates[key] = (gate, users + 1)
        try:
            async with _borrowed(gate):
                yield
        finally:
            gate, users = self._gates.pop(key)
            if users > 1:
                self._gates[key] = (gate, users - 1)


class Batches:
    """Batches that are received and worked on: so many at once, and so many bytes of those that wait.

    However many edges send at the same time, they take no more memory than this.

    Parameters
    ----------
    at_once : int
        Unpacked and stored at the same time; others wait in order.
    most_bytes : int
        Of all bodies that are being received or wait. [B]
    """

    def __init__(self, at_once: int, most_bytes: int) -> None:
        self._gate, self._most_bytes, self._bytes = anyio.CapacityLimiter(at_once), most_bytes, 0

    async def received(self, parts: AsyncIterator[bytes], most_bytes: int) -> bytes:
        """A body; its room is held until :meth:`turn` ends.

        Raises
        ------
        RequestTooLarge
            If it is longer than `most_bytes`.
        TooBusy
            If too many others are here.
        """
        body = bytearray()
        try:
            async for part in parts:
                body += part
                self._bytes += len(part)
                if len(body) > most_bytes:
                    raise RequestTooLarge(f"a batch has at most {most_bytes} bytes")
                if self._bytes > self._most_bytes:
                    raise TooBusy("too many batches at once; send it again", retry_after_s=2)
        except BaseException:
            self._bytes -= len(body)
            raise
        return bytes(body)

    @asynccontextmanager
    async def turn(self, body: bytes) -> AsyncIterator[None]:
        """Wait for a turn with a body that was received, and have it while the block lasts."""
        try:
            async with _borrowed(self._gate):
                yield
        finally:
            self._bytes -= len(body)


@asynccontextmanager
async def _borrowed(gate: anyio.CapacityLimiter) -> AsyncIterator[None]:
    """A token for this request: one task may answer several."""
    borrower = object()
    await gate.acquire_on_behalf_of(borrower)
    try:
        yield
    finally:
        gate.release_on_behalf_of(borrower)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be, and how long it may take."""

    most_bytes: int
    pause_s: float
    """Longest time without a part of it. [s]"""
    grace_s: float
    """Time that any body may take. [s]"""
    least_bytes_per_s: float
    """Pace that a longer one must keep. [B/s]"""

    def deadline_s(self, received_bytes: int) -> float:
        """Time since the request within which the next part must have come. [s]"""
        return self.grace_s + received_bytes / self.least_bytes_per_s
