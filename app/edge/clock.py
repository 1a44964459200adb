"""How far this machine's clock is ahead of the cell's, by the answers that come anyway."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

STEP_S = 1.0
"""A wall clock that moves by more against one that nobody sets was set. [s]"""
_KEPT = 16


class Sent(NamedTuple):
    """When something was sent, by the wall clock and by one that nobody sets. [s]"""

    wall_s: float
    steady_s: float


class Offset:
    """Measures with each exchange; of the last ones the quickest counts, its answer was least delayed.

    Parameters
    ----------
    wall : callable
        The wall clock, since 1970. [s]
    steady : callable
        One that nobody sets. [s]
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._steady = wall, steady
        self._seen: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._ahead_s = wall() - steady()

    def sending(self) -> Sent:
        """Note when something is sent; what was measured before the clock was set counts no more."""
        sent = Sent(self._wall(), self._steady())
        ahead_s = sent.wall_s - sent.steady_s
        if abs(ahead_s - self._ahead_s) > STEP_S:
            self._seen.clear()
        self._ahead_s = ahead_s
        return sent

    def answered(self, sent: Sent, cell_at: datetime) -> None:
        """The answer came, with the cell's time; it was read about half way."""
        took_s = self._steady() - sent.steady_s
        middle = datetime.fromtimestamp(sent.wall_s + took_s / 2, UTC)
        self._seen.append((took_s, (middle - cell_at).total_seconds()))

    @property
    def seconds(self) -> float | None:
        """How far the clock is ahead; None: not measured yet. [s]"""
        return min(self._seen)[1] if self._seen else None
