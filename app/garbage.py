"""Python's search for garbage, which costs most where many objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unsearched() -> Iterator[None]:
    """No search for garbage within the block: for what builds a fleet.

    Each search goes through all objects that were made so far: of 50,000 points that takes twice as long as
    to build them. Whichever of several blocks at a time began first ends it.
    """
    was_searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_searched:
            gc.enable()
