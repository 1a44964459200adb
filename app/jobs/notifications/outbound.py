"""Where messages may go: checked at every connection, whoever makes it.

Names are resolved anew for each connection, and libraries follow redirects by themselves; so the check
stands where the socket connects. While :func:`guarded` is entered, the thread can connect, and send
datagrams, only to public addresses and to the networks that the operator allows.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from app.domain.alarms.notification import refusal


class TargetRefused(OSError):
    """The address of a connection is not allowed; libraries treat it as any failure to connect."""


@dataclass
class Watch:
    """What a guarded thread may reach, and what it was refused."""

    allowed_networks: tuple[str, ...]
    refused: list[str] = field(default_factory=list)

    def check(self, address: Any) -> None:
        """Refuse the address of a connection or datagram.

        Raises
        ------
        TargetRefused
            If it is not allowed.
        """
        try:
            problem = refusal(str(address[0]), self.allowed_networks)
        except (ValueError, TypeError, IndexError):
            problem = f"{address!r} is no internet address"
        if problem is not None:
            self.refused.append(problem)
            raise TargetRefused(problem)


_current = threading.local()


@contextmanager
def guarded(allowed_networks: tuple[str, ...]) -> Iterator[Watch]:
    """Check every connection that this thread makes in the block."""
    _install()
    watch = _current.watch = Watch(allowed_networks)
    try:
        yield watch
    finally:
        _current.watch = None


@cache
def _install() -> None:
    """Hear of every connection of the process, once; other threads' are let pass."""
    sys.addaudithook(_on_audit)


_OUTWARD = ("socket.connect", "socket.sendto", "socket.sendmsg")


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _OUTWARD:
        return
    watch: Watch | None = getattr(_current, "watch", None)
    address = arguments[1]
    if watch is not None and address is not None:  # none: a datagram over a socket that is connected
        watch.check(address)
