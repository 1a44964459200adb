"""All that the command line prints: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from app.errors import SeriesError, WattlineError

if TYPE_CHECKING:  # drawn with Rich, which a command that prints JSON or a line does without
    from rich.console import Console
    from rich.progress import Progress

_WIDTH_OF_FILES = 140


_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
} | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)}
"""What a terminal would act on: escapes, and marks that turn the direction of writing."""


def harmless(text: str) -> str:
    """`text` as a terminal may show it: names come from devices, files and other people."""
    return text.translate(_CONTROLS)


def say(text: str = "") -> None:
    """A line for people, on standard error: never part of a result."""
    sys.stderr.write(harmless(text) + "\n")
    sys.stderr.flush()


def show(text: str = "") -> None:
    """A line of the result, on standard output."""
    sys.stdout.write(harmless(text) + "\n")
    sys.stdout.flush()


def show_json(document: Any) -> None:
    """The one JSON document of a command."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table; columns whose name begins with ``>`` are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.removeprefix(">"), justify="right" if right else "left", no_wrap=right)
    for row in rows:
        table.add_row(*map(harmless, row))
    _out().print(table, markup=False)


def _out() -> Console:
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if is_terminal else _WIDTH_OF_FILES, highlight=False)


def progress(*, total_is_bytes: bool = False) -> Progress:
    """A progress bar on standard error; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(file=sys.stderr)
    parts = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn()]
    extra = [TaskProgressColumn()] if total_is_bytes else []
    return Progress(
        *parts, *extra, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True
    )


def kwh(value: float) -> str:
    """An energy with thousands marks. [kWh]"""
    return f"{value:,.3f}"


def failed(error: WattlineError, *, as_json: bool) -> int:
    """Say on standard error what went wrong, and in a JSON document where one was asked for.

    Returns the exit code: 2 where the options contradict each other or are not understood, else 1.
    """
    say(str(error))
    if as_json:
        show_json({"error": str(error)})
    return 2 if isinstance(error, SeriesError) else 1
