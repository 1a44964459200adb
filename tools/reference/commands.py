"""The page of the command line, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from app.cli.commands import app
from tools.reference.markdown import code, table, wrapped
from tools.reference.markdown import page as whole

_ABOUT = """Every command takes `--help`, exits with 0 (done), 1 (tried and failed) or 2 (not understood),
and prints problems of a file as `file:line: key: what is wrong; what is allowed`. `--json` prints one JSON
document on standard output and nothing else."""


def page() -> str:
    """The page."""
    root: Any = typer.main.get_command(app)
    return whole("Commands", wrapped(_ABOUT), *_sections(root, "wattline"))


def _sections(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children:
        yield _section(command, name)
    for child in sorted(children):
        if not children[child].hidden:
            yield from _sections(children[child], f"{name} {child}")


def _section(command: Any, name: str) -> str:
    context = command.context_class(command, info_name=name)
    usage = command.get_usage(context).removeprefix("Usage: ")
    records = [param.get_help_record(context) for param in command.params]
    rows = [[code(names), text] for names, text in filter(None, records)]
    parts = [f"## {name}", wrapped(command.help or ""), f"```\n{usage}\n```"]
    return "\n\n".join([*parts, *([table(["", "meaning"], rows)] if rows else [])])
