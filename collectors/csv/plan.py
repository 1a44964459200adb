"""What was understood of a file: the plan by which every row becomes readings."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path

from app.domain.quantity import ReadingKind
from app.domain.site import Point, Stamp
from collectors.csv.mapping import Interval, Mapping, mapping_yaml
from collectors.csv.number import NumberStyle
from collectors.csv.time import TimeFormat
from collectors.csv.workbook import SheetText

INTERVAL_KINDS = (ReadingKind.INTERVAL_ENERGY, ReadingKind.INTERVAL_MEAN_POWER)

ASCENDING, DESCENDING, MIXED = "ascending", "descending", "mixed"


@dataclass(frozen=True)
class TimePlan:
    """Where and how the time of a row is written; `place` as in ``csv_dialect.TimeColumns``."""

    place: str
    columns: tuple[int, ...]
    formats: tuple[TimeFormat, ...]
    zone: tzinfo = UTC
    order: str = ASCENDING
    offset_column: int | None = None
    offset_unit_us: int = 0
    inclusive: bool = False
    """Whether the last day that a date names belongs to its interval: the interval ends a day later."""

    @property
    def is_date_only(self) -> bool:
        """Whether the times are whole days."""
        return all(not {"H", "I"} & set(f.names) for f in self.formats) and bool(self.formats[0].names)


@dataclass(frozen=True)
class ColumnPlan:
    """One column (in a long file: one text of the point column) and what becomes of its cells."""

    index: int
    name: str
    point: Point
    unit: str
    factor: float
    offset: float
    numbers: NumberStyle
    stamp: Stamp
    interval: Interval
    allow_negative: bool = False

    @property
    def is_interval(self) -> bool:
        """Whether each value belongs to a stated interval."""
        return self.point.kind in INTERVAL_KINDS


@dataclass(frozen=True)
class SidePlan:
    """A column beside the values: the valid part of the interval, or the row's status."""

    index: int
    name: str
    unit_s: float = 0.0
    good: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Understanding:
    """How a file will be read; :func:`collectors.csv.reader.read` needs nothing else.

    ``columns`` holds what is taken over, ``unused`` the other columns' names, ``warnings`` whatever
    was assumed and should be looked at, ``mapping`` the same as a mapping to be saved.
    """

    path: Path
    layout: str
    encoding: str
    mapping: Mapping
    time: TimePlan
    columns: tuple[ColumnPlan, ...]
    delimiter: str = ","
    decimal: str = "."
    header: tuple[str, ...] = ()
    first_line: int = 1
    width: int = 0
    full_width: int = 0
    long_point: int | None = None
    long_unit: int | None = None
    long_more: tuple[int, ...] = ()
    """Further columns that name the point of a row, together with `long_point`."""
    leaves_out: bool = False
    """Whether texts of the point column that fill no point are left out, not refused: a mapping chose."""
    valid: SidePlan | None = None
    status: SidePlan | None = None
    footer: str = ""
    unused: tuple[str, ...] = ()
    sample: tuple[tuple[str, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)
    """What one of the other formats found out on its first pass."""
    sheet: SheetText | None = None
    """The sheet of a workbook that this is about."""
    others: tuple[Understanding, ...] = ()
    """The workbook's other sheets that are read with this one."""

    @property
    def mapping_yaml(self) -> str:
        """The mapping to save."""
        return mapping_yaml(self.mapping)

    @property
    def points(self) -> tuple[str, ...]:
        """Ids of the points that get readings; a batch's ``point_id`` counts in it."""
        return tuple(c.point.id for c in self.columns)

    @property
    def sheets(self) -> tuple[Understanding, ...]:
        """Every sheet that is read; of a file that is no workbook, the file."""
        return (self, *self.others)

    @property
    def time_format(self) -> str:
        """The time's formats, for people."""
        return " or ".join(f.text for f in self.time.formats)
