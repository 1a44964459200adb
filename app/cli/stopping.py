"""How a command that runs for long is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_LOOK_S = 1.0


def wait_for(stop: threading.Event) -> None:
    """Wait until somebody asks to stop.

    A signal that another thread receives does not wake the main thread, which alone runs handlers: so that
    wakes by itself now and then.
    """
    while not stop.wait(_LOOK_S):
        pass


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
