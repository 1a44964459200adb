"""Refusals in the audit log: enough of each caller, so that no flood fills the log or hides another's.

What is not written is counted, and the next entry of the same address says how many there were.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from app.api.rate import RateLimiter
from app.errors import StoreUnavailable
from app.store import audit
from app.store.audit import Entry
from app.store.engine import Engine, begin

_MOST_NAMES = 10_000
_log = structlog.get_logger(__name__)


def network_of(source: str) -> str:
    """What one sender has: an IPv4 address, or the /64 that an IPv6 address is in."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if address.version == 4:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False))


class Recorder:
    """Writes refusals down, at most so many of one sender and so many in all.

    Parameters
    ----------
    engine : Engine
    clock : callable
    each_per_minute, each_burst, all_per_minute, all_burst : int
        Limits; those for all are far above those of one sender.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        each_per_minute: int = 10,
        each_burst: int = 20,
        all_per_minute: int = 600,
        all_burst: int = 400,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._clock = engine, clock
        self._each = RateLimiter(each_per_minute, each_burst, monotonic_s=monotonic_s)
        self._all = RateLimiter(all_per_minute, all_burst, monotonic_s=monotonic_s)
        self._missed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def record(self, entry: Entry) -> None:
        """Write an entry down, unless its sender has had many; then it is counted."""
        sender = f"{network_of(entry.source)} {entry.actor}"
        if self._each.wait_s(sender) > 0 or self._all.wait_s("") > 0:
            self._miss(sender, entry)
            return
        missed = self._missed_before(sender)
        detail = {**entry.detail, "not_recorded_before": missed} if missed else entry.detail
        try:
            with begin(self._engine) as connection:
                audit.append(connection, replace(entry, detail=detail), self._clock())
        except StoreUnavailable:
            _log.warning("not audited: the database is unavailable", action=entry.action, source=entry.source)

    def _miss(self, sender: str, entry: Entry) -> None:
        _log.warning("not audited: too many", action=entry.action, source=entry.source)
        with self._lock:
            if len(self._missed) < _MOST_NAMES or sender in self._missed:
                self._missed[sender] += 1

    def _missed_before(self, sender: str) -> int:
        with self._lock:
            return self._missed.pop(sender, 0)
