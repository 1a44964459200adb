"""What was found out about a table, and the same as a mapping to be saved."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from app.domain.site import Site
from collectors.csv.columns import LongColumns
from collectors.csv.dialect import Sheet, TimeColumns
from collectors.csv.mapping import (
    VALID_UNITS_S,
    ColumnMapping,
    LongMapping,
    Mapping,
    OffsetColumn,
    StatusMapping,
    TimeMapping,
    ValidMapping,
)
from collectors.csv.match import interval_key
from collectors.csv.number import NumberStyle
from collectors.csv.plan import MIXED, ColumnPlan, SidePlan, TimePlan


@dataclass(frozen=True)
class Findings:
    """Everything about a table but its points."""

    layout: str
    sheet: Sheet
    where: TimeColumns
    time: TimePlan
    long: LongColumns | None
    valid: SidePlan | None
    status: SidePlan | None
    marks: NumberStyle
    offset: OffsetColumn | None

    @cached_property
    def texts(self) -> list[str]:
        """In a long file the point of each row of the sample."""
        return self.long.texts(self.sheet) if self.long else []

    @property
    def beside(self) -> set[int]:
        """Columns that carry times, valid parts or statuses."""
        sides = {s.index for s in (self.valid, self.status) if s}
        offset = self.time.offset_column
        return {*self.where.columns, *sides} | ({offset} if offset is not None else set())

    def unused(self, columns: Sequence[ColumnPlan]) -> tuple[str, ...]:
        """Names of the columns that nothing is taken from."""
        long = (*self.long.points, self.long.value, self.long.unit) if self.long else ()
        used = self.beside | {c.index for c in columns} | set(long)
        return tuple(n for i, n in enumerate(self.sheet.names) if i not in used)


def full_mapping(
    found: Findings,
    columns: Sequence[ColumnPlan],
    given: Mapping,
    site: Site,
    encoding: str,
    keys: MappingOf[str, str],
) -> Mapping:
    """The complete mapping; what was given stays as it was given. `keys`: names here -> in the mapping."""
    return given.model_copy(
        update={
            "encoding": encoding,
            "delimiter": found.sheet.delimiter,
            "decimal": found.marks.decimal,
            "thousands": found.marks.thousands,
            "layout": found.layout,
            "skip": found.sheet.skip,
            "header": found.sheet.header_rows,
            "time": _time(found, columns, given.time, site),
            "columns": {keys.get(c.name, c.name): _column(c, given) for c in columns},
            "valid": _valid(found.valid),
            "status": _status(found.status),
            "long": _long(found),
        }
    )


def _column(column: ColumnPlan, given: Mapping) -> ColumnMapping:
    before = given.columns.get(column.name, ColumnMapping(point=column.point.id))
    return before.model_copy(update={"unit": column.unit})


def _valid(valid: SidePlan | None) -> ValidMapping | None:
    if valid is None:
        return None
    unit = next(name for name, unit_s in VALID_UNITS_S.items() if unit_s == valid.unit_s)
    return ValidMapping.model_validate({"column": valid.name, "unit": unit})


def _status(status: SidePlan | None) -> StatusMapping | None:
    return StatusMapping(column=status.name, good=tuple(sorted(status.good))) if status else None


def _long(found: Findings) -> LongMapping | None:
    long, names = found.long, found.sheet.names
    if long is None:
        return None
    unit = names[long.unit] if long.unit is not None else None
    return LongMapping(point=long_names(long, names), value=names[long.value], unit=unit)


def long_names(long: LongColumns, names: Sequence[str]) -> str | tuple[str, ...]:
    """The column that names the point, or the columns that do so together."""
    return tuple(names[i] for i in long.points) if long.more else names[long.point]


def _time(found: Findings, columns: Sequence[ColumnPlan], given: TimeMapping, site: Site) -> TimeMapping:
    names, place = [found.sheet.names[i] for i in found.where.columns], found.where.place
    is_fixed = place in ("single", "joined")
    stamps = {c.stamp for c in columns if c.is_interval and is_fixed}
    intervals = {interval_key(c.interval) for c in columns if c.is_interval and is_fixed}
    order = found.time.order
    return TimeMapping.model_validate(
        {
            "column": names[0] if place == "single" else None,
            "columns": names if place == "joined" else (),
            "start": names[0] if place == "bounds" else None,
            "end": names[1] if place == "bounds" else None,
            "range": names[0] if place == "range" else None,
            "format": [f.text for f in found.time.formats],
            "zone": given.zone or site.time_zone,
            "offset": found.offset,
            "stamp": stamps.pop() if len(stamps) == 1 else given.stamp,
            "interval": intervals.pop() if len(intervals) == 1 else given.interval,
            "last_day": "included" if found.time.inclusive else given.last_day,
            "order": None if order == MIXED else order,
        }
    )
