"""Who may come in while many are there: strangers have a small share of their own, callers fair ones.

A *stranger* has shown no valid key. What strangers send is bounded in size and time, and counted
by address; however many of them there are, callers who are known keep their places, and no single caller
can take all of those.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.errors import TooBusy


class Places:
    """Places that are shared: so many in all, and so many for one name."""

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, name: str, problem: str, *, retry_after_s: int = 1) -> Iterator[None]:
        """Hold a place while the block lasts.

        Raises
        ------
        TooBusy
            If there is none, or none for `name`.
        """
        with self._lock:
            if self._taken.total() >= self._most or self._taken[name] >= self._each:
                raise TooBusy(problem, retry_after_s=retry_after_s)
            self._taken[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[name] -= 1
                if not self._taken[name]:
                    del self._taken[name]


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
