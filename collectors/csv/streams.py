"""What the formats that are no plain table share: named streams of readings, matched to points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from app.domain.quantity import UNITS, ReadingKind, Role
from app.domain.site import Point, Site, Stamp
from app.errors import FileNotUnderstood
from collectors.csv.batch import Bulk
from collectors.csv.mapping import ColumnMapping, Interval, Mapping, MappingNeeded
from collectors.csv.match import Named, column_plan, match_columns, nothing_matches
from collectors.csv.number import NumberStyle
from collectors.csv.plan import ColumnPlan, TimePlan, Understanding
from collectors.csv.proposal import propose
from collectors.csv.time import time_format
from collectors.csv.zone import zone_of


@dataclass(frozen=True)
class Stream:
    """One series of a file. ``aliases`` are other names it may go by in a mapping or the site file."""

    name: str
    unit: str | None
    kinds: tuple[ReadingKind, ...]
    """Kinds of point it can fill."""
    scale: float = 1.0
    aliases: tuple[str, ...] = ()
    flow: str = ""
    """Direction that the file states: delivered, received, net or total; empty where it states none."""

    def suits(self, point: Point) -> bool:
        """Whether it may be taken for the point's unasked: its unit is known, and what is exported is no
        consumption.
        """
        if self.unit is None:
            return False
        return not self.flow or (self.flow == RECEIVED) == (point.role is Role.EXPORT)


DELIVERED, RECEIVED = "delivered", "received"
_FLOW_TEXTS = {
    DELIVERED: "energy delivered to the customer",
    RECEIVED: "energy received from the customer (export)",
    "net": "energy delivered less energy received",
    "total": "energy delivered and received together",
}


def _flow_notes(streams: Sequence[Stream]) -> list[str]:
    """Which way each stream counts, where not all count what was delivered."""
    if all(s.flow in ("", DELIVERED) for s in streams):
        return []
    return [f"{s.name}: {_FLOW_TEXTS[s.flow]}" for s in streams[:20] if s.flow]


@dataclass
class Rows:
    """Readings of one point being collected."""

    line: list[int] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    start_us: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, line: int, start_us: int, at_us: int, value: float) -> None:
        """One more reading; NaN where nothing was measured."""
        self.line.append(line)
        self.start_us.append(start_us)
        self.at_us.append(at_us)
        self.value.append(value)

    def bulk(self, column: ColumnPlan) -> Bulk:
        """What was collected, in house units."""
        at = np.array(self.at_us, np.int64)
        start = np.array(self.start_us, np.int64) if column.is_interval else at
        value = np.array(self.value, np.float64) * column.factor + column.offset
        return Bulk(np.array(self.line, np.int64), at, start, value, np.full(len(at), np.nan))


def understand_streams(
    path: Path, site: Site, mapping: Mapping, streams: Sequence[Stream], layout: str, warnings: Sequence[str]
) -> Understanding:
    """Streams matched to points, as the mapping says or by names that can mean one point only.

    Raises
    ------
    FileNotUnderstood
        If no stream fits a point, or one fits a point of another kind.
    """
    file = str(path)
    if not streams:
        raise FileNotUnderstood(f"it is {layout}, but holds no readings", file=file, line=1)
    found = _matched(streams, site, mapping, file)
    plans, notes = [], [*warnings, *_flow_notes(streams)]
    for stream, named, column in found:
        if stream.unit is None and column.unit is None:
            raise FileNotUnderstood(
                "its unit is not one of energy or power, or is not stated; say in the mapping which it is, "
                f"e.g. columns: {{{named.name!r}: {{point: {column.point}, unit: kwh}}}}",
                file=file,
                column=named.name,
            )
        plan, _ = column_plan(named, column, site, Mapping(), NumberStyle(), None, file=file)
        if plan.point.kind not in stream.kinds:
            raise FileNotUnderstood(
                f"{stream.name} fills points of kind {' or '.join(stream.kinds)}, but {plan.point.id} is "
                f"{plan.point.kind}",
                file=file,
                column=stream.name,
            )
        plans.append(_scaled(plan, stream))
        if stream.flow and not stream.suits(plan.point):
            notes.append(
                f"{stream.name} is energy {stream.flow}, but point {plan.point.id} is {plan.point.role}: "
                "check the mapping"
            )
    names = {s.name for s, _, _ in found}
    full = mapping.model_copy(update={"layout": layout, "columns": {n.name: c for _, n, c in found}})
    return Understanding(
        path=path,
        layout=layout,
        encoding="utf-8",
        mapping=full,
        time=TimePlan("single", (), (time_format("epoch_s"),), zone_of(mapping.time.zone or "UTC")),
        columns=tuple(plans),
        header=tuple(s.name for s in streams),
        unused=tuple(s.name for s in streams if s.name not in names),
        warnings=tuple(notes),
    )


def _scaled(plan: ColumnPlan, stream: Stream) -> ColumnPlan:
    return replace(plan, factor=plan.factor * stream.scale, stamp=Stamp.START, interval=Interval())


_Match = tuple[Stream, Named, ColumnMapping]


def _matched(streams: Sequence[Stream], site: Site, mapping: Mapping, file: str) -> list[_Match]:
    found = [m for s in streams for m in [_match_one(s, site, mapping, file)] if m is not None]
    if not found and not mapping.columns:
        found = _only_pair(streams, site)
    if not found:
        named = [Named(0, s.name, s.unit if any(map(s.suits, site.points())) else None) for s in streams]
        raise MappingNeeded(
            nothing_matches(named, site), propose(named, {}, site, Mapping()).text(site), file=file, line=1
        )
    _refuse_twice(found, file)
    return found


def _refuse_twice(found: Sequence[_Match], file: str) -> None:
    by_point: dict[str, str] = {}
    for stream, _, column in found:
        other = by_point.setdefault(column.point, stream.name)
        if other != stream.name:
            raise FileNotUnderstood(
                f"{other!r} and {stream.name!r} both fit point {column.point!r}; map one of them",
                file=file,
                column=stream.name,
            )


def _match_one(stream: Stream, site: Site, mapping: Mapping, file: str) -> _Match | None:
    for alias in (stream.name, *stream.aliases):
        if mapping.columns and alias not in mapping.columns:
            continue
        named = Named(0, alias, stream.unit)
        only = mapping.model_copy(
            update={"columns": {k: v for k, v in mapping.columns.items() if k == alias}}
        )
        hit = match_columns([named], site, only, file=file)
        if hit and (mapping.columns or stream.suits(_point(site, hit[named]))):
            return stream, named, hit[named]
    return None


def _point(site: Site, column: ColumnMapping) -> Point:
    return next(p for p in site.points() if p.id == column.point)


def _only_pair(streams: Sequence[Stream], site: Site) -> list[_Match]:
    """The file's only stream of the quantity of the site's only point."""
    points = list(site.points())
    if len(points) != 1:
        return []
    fitting = [s for s in streams if s.suits(points[0]) and _is_of(s, points[0])]
    if len(fitting) != 1:
        return []
    named = Named(0, fitting[0].name, fitting[0].unit)
    return [(fitting[0], named, ColumnMapping(point=points[0].id))]


def _is_of(stream: Stream, point: Point) -> bool:
    return bool(stream.unit) and UNITS[str(stream.unit)][0] is point.quantity and point.kind in stream.kinds
