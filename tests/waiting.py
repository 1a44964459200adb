"""Wait for what another process or thread does, no longer than it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_PAUSE_S = 0.05


def until(
    what: Callable[[], _T], timeout_s: float = 60.0, name: str = "it", *, pause_s: float = _PAUSE_S
) -> _T:
    """The first true value of `what`.

    Raises
    ------
    TimeoutError
        If there is none in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        threading.Event().wait(pause_s)
    raise TimeoutError(f"{name} did not happen within {timeout_s} s")
