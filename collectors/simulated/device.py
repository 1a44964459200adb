"""What simulated devices share, whatever they speak: a clock, and faults on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


def now_utc() -> datetime:
    """The clock of a simulated device unless it is given another."""
    return datetime.now(UTC)


@dataclass
class DeviceFaults:
    """What is wrong with a device just now; change it while it serves."""

    slow_s: float = 0.0
    """Every answer comes this much late. [s]"""
    silent: bool = False
    """No answers."""
    silent_times: int = 0
    """So many requests get no answer before the next is served."""
    no_value: bool = False
    """Values are the device's sign of "no value": a sentinel, NaN, a text that is no number."""
    stale: bool = False
    """Values stand still."""
    _stands_still_at: datetime | None = field(default=None, init=False, repr=False)

    def ignores_request(self) -> bool:
        """Whether the request that has just come stays without an answer."""
        if self.silent_times:
            self.silent_times -= 1
            return True
        return self.silent

    def value_time(self, clock: Callable[[], datetime]) -> datetime:
        """The instant whose values the device shows."""
        if not self.stale:
            self._stands_still_at = None
            return clock()
        self._stands_still_at = self._stands_still_at or clock()
        return self._stands_still_at
