"""What stands on the pages, between document and format: sections of facts, tables, charts and prose.

Cells keep their numbers, so that a sheet gets real numbers; :func:`shown` writes them for people. Every
format renders the same layout, so all show the same figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.charts.report import Chart
from app.reports.language import Language
from app.reports.safe import line

Value = float | int | str | None

_DAY = re.compile(r"\d{4}(-\d\d){1,2}")


class Kind(StrEnum):
    """How a value is written."""

    TEXT = "text"
    NUMBER = "number"
    SIGNED = "signed"
    PLAIN = "plain"
    """A number with no more decimals than it needs."""
    PERCENT = "percent"
    DAY = "day"
    INSTANT = "instant"


@dataclass(frozen=True)
class Column:
    """Head of a column, with the unit and form of its values."""

    title: str
    kind: Kind = Kind.TEXT
    decimals: int = 0
    unit: str = ""
    wide: bool = False
    """Whether it takes what room is left on a page."""

    @property
    def head(self) -> str:
        """Title with unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    @property
    def is_number(self) -> bool:
        """Whether it stands to the right."""
        return self.kind in (Kind.NUMBER, Kind.SIGNED, Kind.PLAIN, Kind.PERCENT)


@dataclass(frozen=True)
class Table:
    """Rows under heads; with `total`, the last row is the sum of the others."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    total: bool = False
    marks: Sequence[str] = ()
    """Per row a code that may be coloured: pass, fail, ...; empty for none."""
    most_rows: int | None = None
    """Rows shown on pages; sheets have all. None: all."""
    more: str = ""
    """Sentence for the rows that are left out, with ``{count}``."""
    collapsed: bool = False
    """Whether a screen may fold it."""


@dataclass(frozen=True)
class Facts:
    """Single values with their labels."""

    id: str
    rows: Sequence[tuple[Column, Value]]


@dataclass(frozen=True)
class Picture:
    """A chart, and the table its numbers stand in."""

    id: str
    title: str
    chart: Chart
    table: str
    """Id of the table of the same section."""


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Badge:
    """A verdict in large."""

    code: str
    text: str
    detail: str


@dataclass(frozen=True)
class Signatures:
    """Lines to sign on."""

    roles: Sequence[str]
    line: str


Block = Table | Facts | Picture | Prose | Signatures


@dataclass(frozen=True)
class Section:
    """A titled part of the report."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Cover:
    """The first page."""

    title: str
    subject: str
    """Site or institution."""
    period: str
    headline: str
    """The PUE, or that there is none."""
    headline_note: str
    badges: Sequence[Badge]
    facts: Facts
    hash_about: str
    sha256: str
    status: str


@dataclass(frozen=True)
class Layout:
    """A whole report, ready to be rendered."""

    language: Language
    cover: Cover
    provisional: bool
    sections: Sequence[Section]
    footer: str = ""
    keywords: Sequence[str] = field(default_factory=tuple)


def shown(language: Language, column: Column, value: Value) -> str:
    """A value as people read it."""
    if value is None or value == "":
        return language.none
    if isinstance(value, str):
        if column.kind is Kind.DAY and _DAY.fullmatch(value):
            return language.short_day(value)
        return language.instant(value) if column.kind is Kind.INSTANT else line(value)
    if column.kind is Kind.PERCENT:
        return language.percent(value)
    decimals = needed(value, column.decimals) if column.kind is Kind.PLAIN else column.decimals
    text = language.number(value, decimals)
    return f"+{text}" if column.kind is Kind.SIGNED and value > 0 else text


def needed(value: float, most: int) -> int:
    """Decimals that a number needs, at most so many."""
    return next((n for n in range(most) if round(value, n) == round(value, most)), most)
