"""What jobs took and freed goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Have the C library give free memory back: glibc keeps it in each thread's arena, and jobs have threads.

    Where it is another library, nothing is done.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
