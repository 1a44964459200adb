"""Name of the command that was run, without its arguments, which may be secret."""

from __future__ import annotations

import sys

GROUPS: set[str] = set()
"""Commands that have commands of their own; ``commands`` fills it."""


def command() -> str:
    """The words that name the command: ``wattline import``, ``wattline keys create``."""
    words = sys.argv[1:]
    count = 2 if GROUPS.intersection(words[:1]) else 1
    return " ".join(["wattline", *words[:count]])
