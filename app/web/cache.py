"""Figures that are expensive to compute and change slowly, kept for a few minutes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

LIFE_S = 300.0
_MOST = 512
_T = TypeVar("_T")


class TimedCache:
    """Values by key, least recently used evicted first; safe for threads."""

    def __init__(self, life_s: float = LIFE_S, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._life_s, self._monotonic_s = life_s, monotonic_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[float, object]] = OrderedDict()

    def get(
        self, key: Hashable, compute: Callable[[], _T], *, is_kept: Callable[[_T], bool] = lambda value: True
    ) -> _T:
        """The kept value, or a new one; one that may be there in a moment is not kept: see `is_kept`."""
        now_s = self._monotonic_s()
        with self._lock:
            since_s, value = self._kept.get(key, (-self._life_s, None))
        if now_s - since_s < self._life_s:
            return cast(_T, value)
        fresh = compute()
        if not is_kept(fresh):
            return fresh
        with self._lock:
            self._kept[key] = (now_s, fresh)
            self._kept.move_to_end(key)
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return fresh
