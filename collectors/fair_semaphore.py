"""Lets so many in at a time, first come, first served; costs almost nothing while nobody waits."""

from __future__ import annotations

import asyncio
from collections import deque


class FairSemaphore:
    """A semaphore for hot paths.

    ::

        if not semaphore.try_acquire():
            await semaphore.wait()
        try:
            ...
        finally:
            semaphore.release()
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, places: int = 1) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    def try_acquire(self) -> bool:
        """Enter at once; False if there is no place."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def wait(self) -> None:
        """Enter when it is one's turn; a cancelled wait leaves no place taken."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give the place to the next who waits, or back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
