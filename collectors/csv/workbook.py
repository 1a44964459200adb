"""Excel workbooks: each sheet becomes a text, one line a row, which is read like any CSV file.

The cells are taken out once, by ``workbook_cells`` in a process of its own whose memory is bounded; the
service itself never holds a sheet. ``SheetText`` keeps the text until nobody needs it any more.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import FileNotUnderstood

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"
_CELLS = Path(__file__).with_name("workbook_cells.py")


@dataclass(frozen=True)
class SheetText:
    """One sheet of a workbook as a CSV text of its own."""

    workbook: Path
    name: str
    text: Path
    """File with the sheet's cells, one line a row."""
    first_column: int
    """Column of the sheet that is the text's first; A is 0."""
    _folder: _Folder = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """Workbook and sheet, as errors name them."""
        return f"{self.workbook}[{self.name}]"

    def cell(self, line: int, index: int | None) -> str:
        """A cell as Excel names it, ``Data!C12``; the row where no column is meant."""
        sheet = f"'{self.name}'" if not self.name.isidentifier() else self.name
        where = f"{line}:{line}" if index is None else f"{_letters(self.first_column + index)}{line}"
        return f"{sheet}!{where}"


def _letters(column: int) -> str:
    found = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        found = chr(ord("A") + rest) + found
    return found


class _Folder:
    """A folder that is gone when its last user is."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="wattline-sheets-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class Workbook:
    """The sheets that were taken out of a workbook, and the names of all it has."""

    sheets: tuple[SheetText, ...]
    names: tuple[str, ...]


def is_workbook(path: Path) -> bool:
    """Whether the file is an Excel or OpenDocument workbook, whatever its name.

    Raises
    ------
    FileNotUnderstood
        If it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_OLE))
    except OSError as error:
        raise FileNotUnderstood(f"cannot be opened: {error.strerror}", file=str(path)) from None
    return head == _OLE or (head.startswith(_ZIP) and _has_sheets(path))


def _has_sheets(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as packed:
            names = set(packed.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(n.startswith("xl/workbook.") for n in names) or {"content.xml", "mimetype"} <= names


def open_workbook(path: Path, patterns: Sequence[str] = ()) -> Workbook:
    """The sheets whose names match a pattern, or all that are not hidden.

    Raises
    ------
    FileNotUnderstood
        If the workbook is damaged, encrypted or too large, or no sheet matches.
    """
    folder = _Folder()
    told = _taken_out(path, patterns, folder.path)
    names = tuple(told["sheets"])
    sheets = tuple(
        SheetText(path, s["name"], folder.path / s["file"], s["first_column"], folder)
        for s in told["found"]
        if s["rows"]
    )
    if patterns and not told["found"]:
        wanted, known = ", ".join(map(repr, patterns)), ", ".join(map(repr, names))
        raise FileNotUnderstood(
            f"sheet: {wanted} is no sheet of this workbook; it has {known}", file=str(path)
        )
    return Workbook(sheets, names)


def _taken_out(path: Path, patterns: Sequence[str], folder: Path) -> dict[str, Any]:
    """What the process that takes the cells out reports."""
    done = subprocess.run(
        [sys.executable, "-I", str(_CELLS), str(folder), str(path.absolute()), *patterns],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise FileNotUnderstood(
            "the workbook is damaged, or is too large to be read at once; "
            "save the sheet as CSV (UTF-8) and import that",
            file=str(path),
        ) from None
    if "error" in told:
        raise FileNotUnderstood(_problem(told["error"]), file=str(path))
    return told


def _problem(text: str) -> str:
    if "password" in text.lower() or "encrypted" in text.lower():
        return "the workbook is protected by a password; save it without one"
    return f"the workbook cannot be read: {' '.join(text.split())[:200]}"
