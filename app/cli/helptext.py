"""What ``--help`` and ``--version`` print, answered from a file without importing Typer.

``help.txt`` is what Typer itself prints, written by ``make help-texts``; a test compares the two. Whatever
is not found in it, and a terminal too narrow for it, is left to Typer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from app import __version__

WIDTH = 80
"""Columns of the stored texts: those of a terminal as it opens."""
FILE = os.path.join(os.path.dirname(__file__), "help.txt")
VERSION = f"wattline {__version__}\n"
_MARK = "\f"
"""Begins the line that names the command whose help follows."""


def answer(words: Sequence[str]) -> str | None:
    """The text to print for these arguments; None where Typer has to answer."""
    if list(words) == ["--version"]:
        return VERSION
    if not words or words[-1] not in ("--help", "-h") or _is_narrow() or "_WATTLINE_COMPLETE" in os.environ:
        return None
    return stored().get(" ".join(words[:-1]))


def stored() -> dict[str, str]:
    """Help of every command, by its words; the empty key is that of ``wattline`` itself."""
    with open(FILE, encoding="utf-8") as file:
        sections = file.read().split(_MARK)[1:]
    return dict(section.split("\n", 1) for section in sections)


def joined(texts: Mapping[str, str]) -> str:
    """The contents of the file."""
    return "".join(f"{_MARK}{words}\n{text}" for words, text in texts.items())


def _is_narrow() -> bool:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns < WIDTH
    except (OSError, ValueError, AttributeError):  # no terminal
        return False
