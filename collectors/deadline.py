"""Time limits for many short waits, at the price of one timer.

``asyncio.timeout`` makes a timer for every wait; at ten thousand reads a second that is a fifth of the
work. Here a timer runs only as long as something waits, and most waits begin and end without touching it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

RESOLUTION_S = 0.001

_Key = TypeVar("_Key", bound=Hashable)


class Deadlines(Generic[_Key]):
    """Calls `on_late` with the key of every wait that lasts longer than it may.

    Parameters
    ----------
    on_late : callable
        Called once per late wait, from the event loop.
    """

    __slots__ = ("_on_late", "_timer", "_timer_at", "_until")

    def __init__(self, on_late: Callable[[_Key], None]) -> None:
        self._on_late = on_late
        self._until: dict[_Key, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def start(self, key: _Key, until: float, loop: asyncio.AbstractEventLoop) -> None:
        """A wait begins; it may last until the loop's clock shows `until`. [s]"""
        self._until[key] = until
        if self._timer is None or until < self._timer_at - RESOLUTION_S:
            self._set(until, loop)

    def stop(self, key: _Key) -> None:
        """A wait is over."""
        self._until.pop(key, None)

    def close(self) -> None:
        """Forget every wait."""
        self._until.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = loop.call_at(at, self._ring, loop), at

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time() + RESOLUTION_S
        late = [key for key, until in self._until.items() if until <= now]
        for key in late:
            del self._until[key]
        if self._until:
            self._set(min(self._until.values()), loop)
        for key in late:
            self._on_late(key)
