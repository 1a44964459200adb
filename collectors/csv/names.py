"""Names of columns in a mapping to the columns of one file: other names, patterns, what may be absent."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import FileNotUnderstood
from collectors.csv.dialect import Sheet
from collectors.csv.mapping import ColumnMapping, Mapping, fits


@dataclass(frozen=True)
class Resolved:
    """The mapping with the names that this file uses; `keys` leads from them to those of the mapping."""

    mapping: Mapping
    keys: dict[str, str]


def resolve(mapping: Mapping, sheet: Sheet, title: str, *, file: str, long: bool) -> Resolved:
    """The mapping for one file (of a workbook, the sheet called `title`).

    Raises
    ------
    FileNotUnderstood
        If a column that is not optional is missing, or a pattern fits several.
    """
    time = mapping.time
    if time.column is not None and time.also and sheet.index(time.column) is None:
        found = [n for name in time.also for n in _fitting(name, sheet, title, file)]
        if found:
            time = time.model_copy(update={"column": found[0], "also": ()})
    told = mapping.model_copy(update={"time": time})
    if long or not mapping.columns:
        return Resolved(told, {})
    columns: dict[str, ColumnMapping] = {}
    keys: dict[str, str] = {}
    for key, column in mapping.columns.items():
        names = list(
            dict.fromkeys(n for name in (key, *column.also) for n in _fitting(name, sheet, title, file))
        )
        if not names and not column.optional and not _of_another_sheet(key, title):
            raise _missing(key, column, sheet, file)
        columns.update(dict.fromkeys(names, column))
        keys.update(dict.fromkeys(names, key))
    if not columns:
        shown = ", ".join(repr(n) for n in sheet.names[:40])
        raise FileNotUnderstood(
            f"none of the mapping's columns stands here; the file has {shown}", file=file, line=sheet.skip + 1
        )
    return Resolved(told.model_copy(update={"columns": columns}), keys)


def _fitting(name: str, sheet: Sheet, title: str, file: str) -> list[str]:
    """The column meant: the name itself where it stands in the file, else the one that fits the pattern."""
    own = name.removeprefix(f"{title}!") if title else name
    if sheet.index(own) is not None:
        return [own]
    found = [n for n in sheet.names if fits(own, n)]
    if len(found) > 1:
        shown = ", ".join(map(repr, found[:10]))
        line = max(sheet.skip + 1, 1)
        problem = f"the pattern {name!r} fits several columns: {shown}"
        raise FileNotUnderstood(problem, file=file, line=line, column=name)
    return found


def _of_another_sheet(key: str, title: str) -> bool:
    return bool(title) and "!" in key and not key.startswith(f"{title}!")


def _missing(key: str, column: ColumnMapping, sheet: Sheet, file: str) -> FileNotUnderstood:
    shown = ", ".join(repr(n) for n in sheet.names[:40])
    others = f" nor as {', '.join(map(repr, column.also))}" if column.also else ""
    return FileNotUnderstood(
        f"the mapping's columns names {key!r}, which is no column here{others}; the file has {shown} "
        "(also: names it had at other times; optional: true reads files without it)",
        file=file,
        line=max(sheet.skip + 1, 1),
        column=key,
    )
