"""A heading in the middle of a table: which columns the rows after it have.

An export that was written by two versions of a system, or put together from two files, may hold a second
row of names. Columns that it moves are followed by their names; what it does not name any more is refused
from there on, never read from where it stood before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from collectors.csv.dialect import is_time_name, normal
from collectors.csv.mapping import name_pattern
from collectors.csv.number import looks_like_number
from collectors.csv.plan import ColumnPlan, SidePlan, Understanding
from collectors.csv.rows import Cells, split_record
from collectors.csv.source import Block
from collectors.csv.units import stated_unit

MOST = 50
"""So many other headings of one file are followed."""

_NO_TIME = r"[^\d\s:./\-+,TZ]{2}|\p{Han}"
_NO_VALUE = r"^\s*[^\d\s.,+\-(]|#|\p{Han}"


@dataclass(frozen=True)
class NewHeading:
    """Where a heading stands, and how the rows after it are read."""

    line: int
    text: bytes
    plan: Understanding
    missing: tuple[str, ...] = ()
    """Columns that it does not name any more; their index in the plan is -1."""
    refused: str = ""
    """Why no row after it can be read; empty where some can."""


def find(
    block: Block, cells: Cells, odd: Sequence[tuple[int, list[str]]], plan: Understanding, known: set[bytes]
) -> tuple[int, bytes, list[str]] | None:
    """The first row of names in a block that is none of the known ones: line, text, cells."""
    if block.lines is not None:
        return None
    lines = sorted({*_candidates(cells, plan), *(line for line, _ in odd)})
    texts = block.data.split(b"\n") if lines else []
    for line in lines:
        if not plan.first_line <= line or not 0 <= line - block.first_line < len(texts):
            continue
        text = texts[line - block.first_line].strip()
        names = split_record(text, line, plan.delimiter)[1]
        if text not in known and _is_heading(names, plan):
            return line, text, names
    return None


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


def _is_heading(cells: Sequence[str], plan: Understanding) -> bool:
    """Whether a row is texts only, no two alike, with a name of a time or two names that are known."""
    filled = [c.strip() for c in cells if c.strip()]
    if len(filled) < 2 or len(set(filled)) < len(filled) or any(map(looks_like_number, filled)):
        return False
    known = {normal(name) for name in plan.header}
    return any(map(is_time_name, filled)) or sum(normal(c) in known for c in filled) >= 2


def follow(first: Understanding, line: int, text: bytes, cells: Sequence[str]) -> NewHeading:
    """How the rows after a heading are read, from the plan for those after the first one."""
    names = _Names([" ".join(c.split()) for c in cells])
    time = tuple(names.of(first.header[i], *first.mapping.time.also) for i in first.time.columns)
    if len(time) == 1 and time[0] < 0:
        time = (names.only_time(),)
    columns = tuple(replace(c, index=_column(c, first, names)) for c in first.columns)
    beside = {i: names.of(first.header[i]) for i in _beside(first)}
    width = max((i for i, c in enumerate(names.texts, 1) if c), default=0)
    plan = replace(
        first,
        header=tuple(names.texts[:width]),
        first_line=line + 1,
        width=width,
        full_width=len(cells),
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
    refused = f"the heading in line {line} names no column {shown}" if gone else ""
    return NewHeading(line, text, plan, missing, refused)


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
    """The names of a heading."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def of(self, *wanted: str) -> int:
        """Index of the first of these names (or patterns) that stands for just one column; -1: none does."""
        for name in wanted:
            for found in (self._exactly(name), self._nearly(name), self._by_pattern(name)):
                if len(found) == 1:
                    return found[0]
        return -1

    def _exactly(self, name: str) -> list[int]:
        return [i for i, t in enumerate(self.texts) if t and t == name]

    def _nearly(self, name: str) -> list[int]:
        """Of other case or spacing; mW and MW differ all the same."""
        same = [i for i, t in enumerate(self.texts) if t and normal(t) == normal(name)]
        return [i for i in same if stated_unit(self.texts[i]) == stated_unit(name)]

    def _by_pattern(self, name: str) -> list[int]:
        pattern = name_pattern(name)
        if pattern is None:
            return []
        how = pattern.search if name.startswith("/") else pattern.fullmatch
        return [i for i, t in enumerate(self.texts) if t and how(t)]

    def only_time(self) -> int:
        """Index of the one column that is called like a time; -1: there is not just one."""
        found = [i for i, t in enumerate(self.texts) if is_time_name(t)]
        return found[0] if len(found) == 1 else -1
