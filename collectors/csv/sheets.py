"""Which sheets of a workbook are read: those a mapping names, else the only one that can be meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import FileNotUnderstood
from collectors.csv.mapping import Ambiguous, Mapping, MappingNeeded
from collectors.csv.plan import Understanding
from collectors.csv.workbook import SheetText, Workbook, open_workbook

Understand = Callable[[SheetText, Mapping], Understanding]
"""How one sheet is read; raises FileNotUnderstood."""

_WILD = ("*", "?")


@dataclass(frozen=True)
class _Tried:
    """What came of looking at each sheet."""

    understood: list[Understanding]
    questions: list[FileNotUnderstood]
    """Of sheets that are tables, but about which something must be said."""
    refused: list[tuple[SheetText, FileNotUnderstood]]


def understand_workbook(path: Path, mapping: Mapping, understand: Understand) -> Understanding:
    """How the workbook is read.

    Raises
    ------
    FileNotUnderstood
        If it is damaged, holds no table of readings, or something must be said in the mapping; if several
        sheets could be meant (``Ambiguous``), which.
    """
    book = open_workbook(path, mapping.sheet)
    tried = _try_all(book.sheets, mapping, understand)
    if mapping.sheet:
        return _all_of(path, mapping, tried)
    if len(tried.understood) == 1:
        return _with_notes(tried.understood[0], book, tried)
    if tried.understood:
        raise _which(path, [u.sheet for u in tried.understood if u.sheet])
    raise _none(path, book, tried)


def _try_all(sheets: Sequence[SheetText], mapping: Mapping, understand: Understand) -> _Tried:
    tried = _Tried([], [], [])
    for sheet in sheets:
        try:
            tried.understood.append(understand(sheet, mapping))
        except (MappingNeeded, Ambiguous) as question:
            tried.questions.append(question)
        except FileNotUnderstood as error:
            tried.refused.append((sheet, error))
    return tried


def _all_of(path: Path, mapping: Mapping, tried: _Tried) -> Understanding:
    """Every sheet that was named; what only fits a pattern may be no table."""
    if tried.questions:
        raise tried.questions[0]
    named = {s.strip().lower() for s in mapping.sheet if not any(w in s for w in _WILD)}
    for sheet, error in tried.refused:
        if sheet.name.strip().lower() in named or not tried.understood:
            raise error
    if not tried.understood:
        raise FileNotUnderstood("the sheets that were chosen are empty", file=str(path))
    first, *others = tried.understood
    notes = [f"sheet {s.name!r} is not read: {e.problem}" for s, e in tried.refused]
    saved = first.mapping.model_copy(update={"sheet": mapping.sheet})
    return replace(first, others=tuple(others), mapping=saved, warnings=(*first.warnings, *notes))


def _with_notes(found: Understanding, book: Workbook, tried: _Tried) -> Understanding:
    """The only sheet that can be meant, and which ones were left out."""
    chosen = found.sheet.name if found.sheet else ""
    others = [name for name in book.names if name != chosen]
    if not others:
        return replace(found, mapping=found.mapping.model_copy(update={"sheet": ()}))
    note = f"only sheet {chosen!r} is read; the workbook also has {', '.join(map(repr, others))}"
    return replace(found, warnings=(*found.warnings, note))


def _which(path: Path, sheets: Sequence[SheetText]) -> Ambiguous:
    names = [s.name for s in sheets]
    choices = [(repr(name), "that sheet") for name in names] + [("'*'", "all of them")]
    return Ambiguous(f"{len(names)} sheets hold readings", "sheet", choices, file=str(path))


def _none(path: Path, book: Workbook, tried: _Tried) -> FileNotUnderstood:
    """The question about the only table there is, or what is wrong with each sheet."""
    errors = tried.questions or [e for _, e in tried.refused]
    if len(errors) == 1:
        return errors[0]
    if not errors:
        hidden = f"; it has {', '.join(map(repr, book.names))}" if book.names else ""
        return FileNotUnderstood(f"no sheet that can be seen holds anything{hidden}", file=str(path))
    if tried.questions:
        return tried.questions[0]
    shown = "; ".join(f"{s.name}: {e.problem}" for s, e in tried.refused[:5])
    return FileNotUnderstood(f"no sheet is a table of readings ({shown})", file=str(path))
