"""A workbook's sheets as text, in a process of its own: one CSV file a sheet, and a report as JSON.

``python -I workbook_cells.py FOLDER WORKBOOK [PATTERN...]`` is started by ``workbook`` with a bound on
memory, processor time and file size, because a damaged or hostile workbook can make the reader of
workbooks ask for any amount of memory, and end its process. Imports nothing of the rest, to start fast.

Every line of a file is one row of the sheet, so that the numbers of lines are those of the rows. Date cells
become ``YYYY-MM-DD HH:MM:SS``, or dates where no cell of the column has a time of day; numbers have a
decimal point. A merged text or date stands in all of its cells; a merged number only in the first, since
it is one value.
"""

from __future__ import annotations

import csv
import datetime
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

_LONGEST_TEXT = 1000
_MOST_BYTES = 4 << 30
_MEMORY_BYTES = 3 << 30
_PROCESSOR_S = 300
_MIDNIGHT = " 00:00:00"
_DECIMAL_COMMA = re.compile(r"[-+(]?[\d.\u00a0 ']*\d,\d+\)?")
_HALF_SECOND = datetime.timedelta(milliseconds=500)


@dataclass(frozen=True)
class Extract:
    """One sheet as text. `first_column` is the column of the sheet (from 0) that is the text's first."""

    name: str
    file: str
    rows: int
    first_column: int
    is_hidden: bool


class _MixedMarks(Exception):
    """A text with a decimal comma among cells that hold numbers: those must be told apart."""


@dataclass
class _Columns:
    """What was seen in columns: dates without, and with a time of day."""

    dates: set[int] = field(default_factory=set)
    timed: set[int] = field(default_factory=set)


def main(folder: Path, workbook: Path, patterns: list[str]) -> dict[str, Any]:
    """Write the sheets that are chosen, or all that are not hidden; names of all, and what was written."""
    book = CalamineWorkbook.from_path(workbook)
    kept = [s for s in book.sheets_metadata if s.typ is SheetTypeEnum.WorkSheet]
    found = []
    for number, sheet in enumerate(kept):
        is_hidden = sheet.visible is not SheetVisibleEnum.Visible
        if _is_chosen(sheet.name, patterns) if patterns else not is_hidden:
            found.append(_extract(book, sheet.name, folder / f"{number}.csv", is_hidden))
    return {"sheets": [s.name for s in kept], "found": [asdict(e) for e in found]}


def _is_chosen(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name.strip().lower(), p.strip().lower()) for p in patterns)


def _extract(book: CalamineWorkbook, name: str, file: Path, is_hidden: bool) -> Extract:
    sheet = book.get_sheet_by_name(name)
    start = sheet.start or (0, 0)
    seen = _Columns()
    try:
        rows = _write(file, _texts(sheet, seen, start[1], exact=False))
    except _MixedMarks:
        rows = _write(file, _texts(sheet, seen, start[1], exact=True))
    if seen.dates - seen.timed:
        _write_dates(file, seen.dates - seen.timed)
    return Extract(name, file.name, rows, start[1], is_hidden)


def _write(file: Path, rows: Iterator[list[str]]) -> int:
    count = 0
    with file.open("w", encoding="utf-8", errors="replace", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        for row in rows:
            count += 1
            if not count % 1000 and out.tell() > _MOST_BYTES:
                raise ValueError(f"a sheet of more than {_MOST_BYTES >> 30} GB of text")
            writer.writerow(row)
    return count


def _write_dates(file: Path, columns: set[int]) -> None:
    """The file once more, with dates in these columns."""
    whole = file.with_suffix(".whole")
    file.rename(whole)
    with whole.open(encoding="utf-8", newline="") as text:
        _write(file, ([_as_date(i, c, columns) for i, c in enumerate(row)] for row in csv.reader(text)))
    whole.unlink()


def _as_date(index: int, cell: str, columns: set[int]) -> str:
    return cell.removesuffix(_MIDNIGHT) if index in columns else cell


def _texts(sheet: Any, seen: _Columns, left: int, *, exact: bool) -> Iterator[list[str]]:
    """The rows as texts; `exact` marks numbers, so that nobody takes their point for a thousands mark."""
    merged = _Merged(sheet.merged_cell_ranges or [], left)
    for number, row in enumerate(sheet.iter_rows()):
        cells = merged.filled(number, row) if merged.is_left else row
        out: list[str] = []
        for value in cells:
            kind = type(value)
            if kind is float:
                text = repr(value)
                if text.endswith(".0"):
                    text = text[:-2]
                elif exact and "e" not in text:
                    text += "e0"
                out.append(text)
            elif kind is str:
                if not exact and "," in value and _DECIMAL_COMMA.fullmatch(value.strip()):
                    raise _MixedMarks
                out.append(value if value.isprintable() and len(value) <= _LONGEST_TEXT else _plain(value))
            else:
                out.append(_other(value, len(out), seen))
        yield out


def _plain(text: str) -> str:
    """On one line, without what cannot be seen."""
    return " ".join(text.replace("\ufeff", "").replace("\0", " ").split())[:_LONGEST_TEXT]


def _other(value: Any, column: int, seen: _Columns) -> str:
    """Dates, times of day, lengths of time and truth values."""
    if isinstance(value, datetime.datetime):
        seen.timed.add(column)
        return str((value + _HALF_SECOND).replace(microsecond=0))
    if isinstance(value, datetime.date):
        seen.dates.add(column)
        return f"{value}{_MIDNIGHT}"
    if isinstance(value, datetime.time):
        value = datetime.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
    if isinstance(value, datetime.timedelta):
        seconds = round(value.total_seconds())
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return str(value)


class _Merged:
    """Fills the cells of merged ranges from their first one, row by row."""

    def __init__(self, ranges: list[tuple[tuple[int, int], tuple[int, int]]], left: int) -> None:
        self._left = left
        self._starting: dict[int, list[tuple[int, int, int]]] = {}
        for (top, first), (bottom, last) in ranges:
            self._starting.setdefault(top, []).append((bottom, first - left, last - left))
        self._open: list[tuple[int, int, int, Any]] = []

    @property
    def is_left(self) -> bool:
        """Whether any range is open or still to come."""
        return bool(self._starting or self._open)

    def filled(self, number: int, row: list[Any]) -> list[Any]:
        """The row with the values of the ranges it lies in."""
        for bottom, first, last in self._starting.pop(number, ()):
            value = row[first] if 0 <= first < len(row) else ""
            if value != "" and not isinstance(value, float | bool):
                self._open.append((bottom, first, last, value))
        for _, first, last, value in self._open:
            for column in range(first, min(last + 1, len(row))):
                if row[column] == "":
                    row[column] = value
        self._open = [o for o in self._open if o[0] > number]
        return row


def _bound() -> None:
    """Limits of this process; a workbook that needs more ends it, and nothing else."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for what, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _PROCESSOR_S),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _run(arguments: list[str]) -> dict[str, Any]:
    try:
        return main(Path(arguments[0]), Path(arguments[1]), arguments[2:])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the reader of workbooks raises whatever it likes
        return {"error": str(error) or type(error).__name__}


if __name__ == "__main__":
    _bound()
    json.dump(_run(sys.argv[1:]), sys.stdout)
