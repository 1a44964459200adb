"""How often somebody may ask: a bucket for each name that fills steadily and is emptied by requests."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from app.errors import TooBusy

_MOST_NAMES = 10_000


class RateLimiter:
    """Token buckets by name; the longest unused are forgotten first."""

    def __init__(
        self, per_minute: int, burst: int, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._monotonic_s = per_minute / 60, burst, monotonic_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, name: str) -> float:
        """Take one request from a bucket; where it is empty, the time until there is one again. [s]"""
        now_s = self._monotonic_s()
        with self._lock:
            left, since_s = self._buckets.pop(name, (float(self._burst), now_s))
            left = min(left + (now_s - since_s) * self._per_s, float(self._burst))
            allowed = left >= 1
            self._buckets[name] = (left - 1 if allowed else left, now_s)
            if len(self._buckets) > _MOST_NAMES:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_s

    def check(self, name: str) -> None:
        """Take one request from the bucket of `name`.

        Raises
        ------
        TooBusy
            If it is empty.
        """
        wait_s = self.wait_s(name)
        if wait_s > 0:
            raise TooBusy("too many requests; try again later", retry_after_s=max(1, math.ceil(wait_s)))
