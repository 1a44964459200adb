"""``python -m tools.helptexts``: write what ``--help`` of every command prints to ``app/cli/help.txt``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer.rich_utils

from app.cli import helptext
from app.cli.commands import app


def texts() -> dict[str, str]:
    """Help of every command as Typer prints it to a file, without trailing blanks, by the command's words."""
    with patch.multiple(typer.rich_utils, MAX_WIDTH=helptext.WIDTH, FORCE_TERMINAL=False, COLOR_SYSTEM=None):
        return {words: _printed(words) for words in _commands(typer.main.get_command(app))}


def _commands(command: Any, words: str = "") -> Iterator[str]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{words} {name}".lstrip())


def _printed(words: str) -> str:
    with redirect_stdout(io.StringIO()) as out:
        app([*words.split(), "--help"], prog_name="wattline", standalone_mode=False)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def main() -> None:
    """Write the file."""
    Path(helptext.FILE).write_text(helptext.joined(texts()), encoding="utf-8")


if __name__ == "__main__":
    main()
