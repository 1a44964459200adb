"""What jobs took and freed goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Numbers of glibc's mallopt."""
ARENAS = 2
APART_FROM_BYTES = 1 << 20
"""Larger blocks are mapped one by one, and go back as soon as they are free."""


def bound() -> None:
    """Let all threads share few arenas; to be called before they are started.

    glibc gives each thread an arena of its own, which keeps what its jobs once needed at most, and raises the
    size of what is mapped apart with each block that is freed: with many jobs the process grew for hours.
    Where it is another library, nothing is done.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, ARENAS)
        library.mallopt(_MMAP_THRESHOLD, APART_FROM_BYTES)


def give_back() -> None:
    """Have the C library give free memory back, which it keeps in its arenas.

    Where it is another library, nothing is done.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
