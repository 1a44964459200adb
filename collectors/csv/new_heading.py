"""A heading in the middle of a table: which columns the rows after it have.

An export that was written by two versions of a system, or put together from two files, may hold a second
row of names. Columns that it moves are followed by their names; what it does not name any more is refused
from there on, never read from where it stood before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pyarrow.compute as pc

from collectors.csv.dialect import is_time_name, names_of, normal
from collectors.csv.mapping import fits
from collectors.csv.number import looks_like_number
from collectors.csv.plan import ColumnPlan, SidePlan, Understanding
from collectors.csv.rows import Cells, split_record
from collectors.csv.source import Block
from collectors.csv.time_formats import formats_of
from collectors.csv.units import stated_unit

MOST = 50
"""So many other headings of one file are followed."""
_MOST_ROWS = 4
"""Rows of one heading."""

_NO_TIME = r"[^\d\s:./\-+,TZ]{2}|\p{Han}"
_NO_VALUE = r"^\s*[^\d\s.,+\-(]|#|\p{Han}"


@dataclass(frozen=True)
class Found:
    """Rows of names that stand directly above each other."""

    line: int
    """The first of them."""
    texts: tuple[bytes, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def end(self) -> int:
        """The line after the last of them."""
        return self.line + len(self.rows)


@dataclass(frozen=True)
class NewHeading:
    """Where a heading stands, and how the rows after it are read."""

    found: Found
    plan: Understanding
    missing: tuple[str, ...] = ()
    """Columns that it does not name any more; their index in the plan is -1."""
    refused: str = ""
    """Why no row after it can be read; empty where some can."""

    @property
    def line(self) -> int:
        """Its last line."""
        return self.found.end - 1


def find(
    block: Block,
    cells: Cells,
    odd: Sequence[tuple[int, list[str]]],
    plan: Understanding,
    first: Understanding,
    known: set[bytes],
) -> NewHeading | None:
    """The first heading in a block that is none of the known ones, of one row or several.

    Of the rows of names around it those belong to it with which most columns of the `first` plan are found.
    """
    if block.lines is not None:
        return None
    found_lines = {*_candidates(cells, plan), *(line for line, _ in odd)}
    lines = sorted(line for line in found_lines if line >= plan.first_line)
    texts = [text.strip() for text in block.data.split(b"\n")] if lines else []
    for line in lines:
        at = line - block.first_line
        if not 0 <= at < len(texts) or texts[at] in known:
            continue
        lowest = max(0, at - _MOST_ROWS + 1, plan.first_line - block.first_line)
        rows = _rows_of_names(texts, at, lowest, block.first_line, plan.delimiter)
        found = [
            follow(first, Found(block.first_line + i, tuple(texts[i:j]), tuple(rows[k] for k in range(i, j))))
            for i, j in combinations(range(min(rows, default=at), max(rows, default=at - 1) + 2), 2)
            if _is_heading([rows[k] for k in range(i, j)], plan)
        ]
        if found:
            return min(found, key=lambda f: (bool(f.refused), len(f.missing), len(f.found.rows)))
    return None


def _rows_of_names(
    texts: Sequence[bytes], at: int, lowest: int, first_line: int, delimiter: str
) -> dict[int, tuple[str, ...]]:
    """The row at a place and those directly above and below it, as far as they may be names."""
    found: dict[int, tuple[str, ...]] = {}
    for places in (range(at, lowest - 1, -1), range(at + 1, min(at + _MOST_ROWS, len(texts)))):
        for k in places:
            cells = split_record(texts[k], first_line + k, delimiter)[1]
            if not _may_be_names(cells):
                break
            found[k] = tuple(cells)
        if at not in found:
            break
    return found


def _may_be_names(cells: Sequence[str]) -> bool:
    """Whether a row is texts only."""
    filled = [c.strip() for c in cells if c.strip()]
    return bool(filled) and not any(looks_like_number(c) or formats_of(c) for c in filled)


def _candidates(cells: Cells, plan: Understanding) -> Iterator[int]:
    """Rows whose time may be none and whose values may be names; cheap, since every row is asked."""
    if not len(cells):
        return
    time = cells.columns.get(plan.time.columns[0])
    if time is None:  # a heading without a time: any row may be the next one
        time = next(iter(cells.columns.values()))
    mask = pc.match_substring_regex(time, _NO_TIME)
    if not pc.any(mask).as_py():
        return
    values = {c.index for c in plan.columns if c.index >= 0}
    for index in values:
        named = pc.and_(mask, pc.match_substring_regex(cells.columns[index], _NO_VALUE))
        yield from cells.line[np.flatnonzero(named.to_numpy(zero_copy_only=False))].tolist()


def _is_heading(rows: Sequence[Sequence[str]], plan: Understanding) -> bool:
    """Whether rows of texts name columns, no two alike, with a name of a time or two names that are known."""
    width = max((len(row) for row in rows), default=0)
    names, whole = names_of(rows, width)
    filled = [c for c in names if c]
    if len(filled) < 2 or len(set(filled)) < len(filled) or any(map(looks_like_number, filled)):
        return False
    known = {normal(name) for name in plan.header}
    return any(map(is_time_name, filled)) or sum(normal(c) in known for c in {*filled, *whole}) >= 2


def follow(first: Understanding, found: Found) -> NewHeading:
    """How the rows after a heading are read, from the plan for those after the first one."""
    full_width = max(map(len, found.rows))
    names = _Names(*names_of(found.rows, full_width))
    time = tuple(names.of(first.header[i], *first.mapping.time.also) for i in first.time.columns)
    if len(time) == 1 and time[0] < 0:
        time = (names.only_time(),)
    columns = tuple(replace(c, index=_column(c, first, names)) for c in first.columns)
    beside = {i: names.of(first.header[i]) for i in _beside(first)}
    width = max((i for i, c in enumerate(names.texts, 1) if c), default=0)
    plan = replace(
        first,
        header=tuple(names.texts[:width]),
        first_line=found.end,
        width=width,
        full_width=full_width,
        columns=columns,
        time=replace(first.time, columns=time, offset_column=_moved(first.time.offset_column, beside)),
        long_point=_moved(first.long_point, beside),
        long_unit=_moved(first.long_unit, beside),
        long_more=tuple(beside[i] for i in first.long_more),
        valid=_side(first.valid, beside),
        status=_side(first.status, beside),
    )
    missing = tuple(dict.fromkeys(c.name for c in columns if c.index < 0))
    gone = [
        first.header[i] for i, at in (*zip(first.time.columns, time, strict=True), *beside.items()) if at < 0
    ]
    if not gone and len(missing) == len(columns):
        gone = list(missing)
    shown = ", ".join(map(repr, gone[:10]))
    refused = f"the heading in line {found.end - 1} names no column {shown}" if gone else ""
    return NewHeading(found, plan, missing, refused)


def _beside(plan: Understanding) -> Iterator[int]:
    """Columns that every row needs beside its time and values."""
    sides = (s.index for s in (plan.valid, plan.status) if s)
    others = (plan.time.offset_column, plan.long_point, plan.long_unit, *plan.long_more)
    yield from (i for i in (*sides, *others) if i is not None)


def _moved(index: int | None, to: dict[int, int]) -> int | None:
    return None if index is None else to[index]


def _side(side: SidePlan | None, to: dict[int, int]) -> SidePlan | None:
    return None if side is None else replace(side, index=to[side.index])


def _column(column: ColumnPlan, first: Understanding, names: _Names) -> int:
    """Where a column stands now: by its name, or by another one of the mapping that says no other unit."""
    here = names.of(first.header[column.index])
    if here >= 0 or first.long_point is not None:
        return here
    told = [(key, c) for key, c in first.mapping.columns.items() if c.point == column.point.id]
    found = names.of(*(name for key, c in told for name in (key, *c.also)))
    if found < 0:
        return -1
    before, now = stated_unit(first.header[column.index]), stated_unit(names.texts[found])
    return found if now == before or (now.unit and now.unit == column.unit) else -1


class _Names:
    """The names of a heading, and all that stands above each column."""

    def __init__(self, texts: list[str], whole: list[str]) -> None:
        self.texts, self._whole = texts, whole

    def of(self, *wanted: str) -> int:
        """Index of the first of these names (or patterns) that stands for just one column; -1: none does."""
        for name in wanted:
            for texts in (self.texts, self._whole):
                for how in (_exactly, _nearly, fits):
                    found = [i for i, text in enumerate(texts) if text and how(name, text)]
                    if len(found) == 1:
                        return found[0]
        return -1

    def only_time(self) -> int:
        """Index of the one column that is called like a time; -1: there is not just one."""
        found = [i for i, t in enumerate(self.texts) if is_time_name(t)]
        return found[0] if len(found) == 1 else -1


def _exactly(name: str, text: str) -> bool:
    return text == name


def _nearly(name: str, text: str) -> bool:
    """Of other case or spacing; mW and MW differ all the same."""
    return normal(text) == normal(name) and stated_unit(text) == stated_unit(name)
