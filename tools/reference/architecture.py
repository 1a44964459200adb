"""Parts of ``docs/architecture.md`` and of the decisions' index that are made from the code."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.reference.markdown import code, table, wrapped
from tools.reference.markdown import page as whole

ROOT = Path(__file__).parents[2]
_ABOUT = """Why things are as they are, one page each. The third line of a page is its status and day:
`Status: accepted, 2026-11-29`; also `proposed`, or `superseded by NAME`. A later change adds
`, changed 2026-12-01`."""
_DECISIONS = ROOT / "docs" / "decisions"
_STATUS = re.compile(
    r"^Status: (accepted|superseded|proposed)[^,\n]*, (\d{4}-\d\d-\d\d)(?:, changed (\d{4}-\d\d-\d\d))?$"
)


def page() -> str:
    """The page as it stands, with the house drawn anew from the import contracts."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return _filled(_filled(text, "house", _picture()), "rooms", _rooms())


def _filled(text: str, mark: str, part: str) -> str:
    pattern = re.compile(rf"(<!-- {mark}:[^>]*-->).*?(<!-- /{mark} -->)", re.DOTALL)
    filled, count = pattern.subn(lambda found: f"{found[1]}\n\n{part}\n\n{found[2]}", text)
    if not count:
        raise ValueError(f"docs/architecture.md: the marks of {mark!r} are gone; put them back")
    return filled


def floors() -> list[list[str]]:
    """Rooms by floor, the highest first, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    return [re.findall(r"[\w.]+", layer) for layer in layers]


def beside() -> list[str]:
    """Modules of the app that stand on no floor."""
    known = {room for floor in floors() for room in floor}
    names = (f"app.{path.stem}" for path in sorted((ROOT / "app").glob("[a-z]*.py")))
    return [name for name in names if name not in known]


def _picture() -> str:
    lines = ["```mermaid", "flowchart TB"]
    for number, floor in enumerate(floors()):
        lines += [f'  subgraph floor{number}[" "]', "    direction LR"]
        lines += [f'    {room.replace(".", "_")}["{room}"]' for room in floor]
        lines += ["  end"]
    lines += [f"  floor{n} --> floor{n + 1}" for n in range(len(floors()) - 1)]
    return "\n".join([*lines, "```"])


def _rooms() -> str:
    rooms = [room for floor in floors() for room in floor]
    rows = [[code(room), _about(room)] for room in [*rooms, *beside()]]
    return table(["room", "what is in it"], rows)


def _about(module: str) -> str:
    """The first sentence of a package's or module's docstring."""
    base = ROOT / module.replace(".", "/")
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


class Decision(NamedTuple):
    """One page of the decisions."""

    file: str
    title: str
    status: str
    on: str
    changed: str


def decisions() -> Iterator[Decision]:
    """Every decision, the newest first.

    Raises
    ------
    ValueError
        If a page has no line with its status and day.
    """
    found = [_decision(path) for path in _DECISIONS.glob("*.md") if path.name != "README.md"]
    return iter(sorted(found, key=lambda one: (one.on, one.title), reverse=True))


def _decision(path: Path) -> Decision:
    lines = path.read_text(encoding="utf-8").split("\n")
    status = _STATUS.match(lines[2]) if len(lines) > 2 else None
    if status is None:
        raise ValueError(f"{path}:3: write the status and its day, as in: Status: accepted, 2026-11-29")
    return Decision(path.name, lines[0].removeprefix("# "), status[1], status[2], status[3] or "")


def decisions_index() -> str:
    """The index of the decisions."""
    rows = [[f"[{d.title}]({d.file})", d.status, d.on, d.changed] for d in decisions()]
    return whole("Decisions", wrapped(_ABOUT), table(["decision", "status", "since", "changed"], rows))
