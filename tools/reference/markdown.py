"""Pieces of Markdown that all pages share."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120
NOTICE = "Written by `make reference` from the code; do not edit."


def wrapped(text: str) -> str:
    """Paragraphs with lines of at most :data:`WIDTH`; code between backticks is not broken."""
    return "\n\n".join(_paragraph(part) for part in text.split("\n\n"))


def _paragraph(text: str) -> str:
    kept = re.sub(
        r"`[^`]+`|\[[^\]]+\]\([^)]+\)", lambda code: code[0].replace(" ", "\0"), " ".join(text.split())
    )
    return textwrap.fill(kept, WIDTH, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar or a new line inside of a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text between backticks."""
    return f"`{text}`"


def anchor(heading: str) -> str:
    """Where a link to a heading of the same page leads."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page(title: str, *parts: str) -> str:
    """A whole page."""
    return "\n\n".join([f"# {title}", NOTICE, *filter(None, parts)]) + "\n"
