"""Which mark is a file's decimal mark and which one groups its thousands, by the majority of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from collectors.csv.number import EXACT, GAPS


@dataclass(frozen=True, slots=True)
class MarkVotes:
    """Numbers of cells, by what they say about the marks; examples where there are any.

    ``comma`` and ``dot`` can only be read with that decimal mark; ``either_comma`` (``1,234``) and
    ``either_dot`` (``1.234``) may be thousands as well.
    ``grouped`` are the cells with groups of thousands, ``ungrouped`` those of 1000 and more without.
    """

    comma: int = 0
    dot: int = 0
    either_comma: int = 0
    either_dot: int = 0
    grouped: int = 0
    ungrouped: int = 0
    comma_example: str = ""
    dot_example: str = ""
    either_example: str = ""

    def __add__(self, other: MarkVotes) -> MarkVotes:
        return MarkVotes(
            self.comma + other.comma,
            self.dot + other.dot,
            self.either_comma + other.either_comma,
            self.either_dot + other.either_dot,
            self.grouped + other.grouped,
            self.ungrouped + other.ungrouped,
            self.comma_example or other.comma_example,
            self.dot_example or other.dot_example,
            self.either_example or other.either_example,
        )

    @property
    def has_marks(self) -> bool:
        """Whether any number has a comma or a dot."""
        return bool(self.comma or self.dot or self.either_comma or self.either_dot)

    @property
    def is_open(self) -> bool:
        """Whether next to nothing was seen that can be read in one way only."""
        same, other = (self.either_comma, self.either_dot)[:: 1 if self.comma > self.dot else -1]
        telling = max(self.comma, self.dot)
        return telling == 0 or same > _SAME_WEIGHT * telling or other > _OTHER_WEIGHT * telling


def _number_regex(decimal: str, group: str) -> str:
    """What can be read with these marks; a unit or status may stand behind."""
    body = rf"(?:\d+{decimal}?\d*|{decimal}\d+|[1-9]\d{{0,2}}(?:{group}\d{{3}})+(?:{decimal}\d*)?)"
    number = rf"[+\-−]?{body}(?:[eE][+-]?\d+)?[-−]?"
    return rf"""^(?:=")?\(?{number}\)?"?[{GAPS}]*[^0-9.,:;{GAPS}-]*[23]?[{GAPS}]*$"""


_BY_COMMA, _BY_DOT = _number_regex(",", r"\."), _number_regex(r"\.", ",")
_SPACED = rf"(\d)[{GAPS}'’](\d{{3}})"
_GROUPED = r"\d[.,]\d{3}(?:[.,]|$)"
_BIG = r"^\D{0,2}\d{4}"


def count_marks(cells: Any) -> MarkVotes:
    """What the cells (an Arrow string array) say about the marks of their file's numbers."""
    text = pc.replace_substring_regex(pc.utf8_trim_whitespace(cells), _SPACED, r"\1\2")
    text = pc.if_else(pc.match_substring_regex(text, EXACT), "", text)
    comma, dot = pc.match_substring_regex(text, _BY_COMMA), pc.match_substring_regex(text, _BY_DOT)
    only_comma, only_dot = pc.and_not(comma, dot), pc.and_not(dot, comma)
    either = pc.and_(comma, dot)
    either_comma, either_dot = (pc.and_(either, pc.match_substring(text, mark)) for mark in ",.")
    grouped = pc.and_(pc.or_(comma, dot), pc.match_substring_regex(text, _GROUPED))
    ungrouped = pc.and_(pc.or_(comma, dot), pc.match_substring_regex(text, _BIG))
    unmistakable = pc.and_not(grouped, either)
    return MarkVotes(
        _count(only_comma),
        _count(only_dot),
        _count(either_comma),
        _count(either_dot),
        _count(unmistakable),
        _count(ungrouped),
        _first(cells, only_comma),
        _first(cells, only_dot),
        _first(cells, pc.or_(either_comma, either_dot)),
    )


def _count(chosen: Any) -> int:
    return int(pc.sum(chosen).as_py() or 0)


def may_have_marks(data: bytes, delimiter: str) -> bool:
    """Whether a block of a file may hold a number with a comma or a dot; quick, never wrongly no."""
    marks = (b'"',) if delimiter == "," else (b",", b".")
    return any(mark in data for mark in marks)


def _first(cells: Any, chosen: Any) -> str:
    found = cells.filter(chosen).slice(0, 1).to_pylist()
    return found[0].strip() if found else ""


@dataclass(frozen=True, slots=True)
class MarkChoice:
    """Decimal and thousands mark of a file; `examples` are cells whose meaning stays open."""

    decimal: str
    thousands: str
    examples: tuple[str, ...] = ()


_CLEAR = 2
"""One mark is taken for the decimal one if so many times more cells need it than need the other."""


_SAME_WEIGHT, _OTHER_WEIGHT = 50, 4
"""One telling cell (``0,5``) decides for so many others with the same mark (``1,234``), or with the other
(``1.234``): beyond that it may be the odd one."""


def choose_marks(votes: MarkVotes, delimiter: str) -> MarkChoice:
    """The marks by which most cells can be read; a cell of another kind is refused when its row is read.

    ``examples`` is set if both readings (``1,234`` as 1234 or as 1.234) remain possible, or if the
    cells contradict each other in like numbers; the caller then has to ask.
    """
    decimal, other = (".", ",") if votes.is_open or votes.comma <= votes.dot else (",", ".")
    thousands = other if votes.grouped * _GROUPED_SHARE >= votes.ungrouped else ""
    return MarkChoice(decimal, thousands, _open_examples(votes, delimiter))


_GROUPED_SHARE = 4
"""A file that leaves four fifths of its large numbers ungrouped groups none: ``1,234`` is odd then."""


def _open_examples(votes: MarkVotes, delimiter: str) -> tuple[str, ...]:
    """Where no cell decides, a comma stays open, and a dot in files that separate by semicolons."""
    if votes.is_open:
        example = votes.either_example
        is_open = "," in example or ("." in example and (delimiter == ";" or votes.comma > votes.dot))
        return (example,) if is_open else ()
    is_clear = max(votes.comma, votes.dot) >= _CLEAR * min(votes.comma, votes.dot)
    return () if is_clear else (votes.comma_example, votes.dot_example)
