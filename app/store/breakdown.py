"""Energy of a site split by load class, point or room, over a period or bar by bar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from app.domain.period import Period, Step, starts
from app.domain.pue import boundary
from app.domain.quantity import ENERGY_KINDS, IT_ROLES, OVERHEAD_ROLES, Role, load_class
from app.domain.site import Segment, Site
from app.store import energy, sums
from app.store.sites import Stored
from app.store.sums import PointEnergy

Group = Mapping[str, float]
"""Points of a group with their signed weights."""


class By(StrEnum):
    """What the energy is split by."""

    LOAD_CLASS = "load_class"
    POINT = "point"
    ROOM = "room"


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """Energy of one group over one bar."""

    start: datetime
    end: datetime
    name: str
    energy_kwh: float
    coverage_ratio: float
    """Share of the bar that is covered: by all points of the group."""
    estimated_ratio: float
    """Share of the bar for which some point's energy is an estimate."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        times = {"start": text_of(self.start), "end": text_of(self.end)}
        return {**asdict(self), **times}


def text_of(at: datetime) -> str:
    """An instant as RFC 3339 text, UTC."""
    return at.isoformat().replace("+00:00", "Z")


def rows(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, by: By, step: Step | None = None
) -> list[EnergyRow]:
    """Energy by group; one row per group, or with `step` one per bar and group of which anything is known.

    Over each part of the period in which the site is constant its groups are those of that time.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    bars = None if step is None else dict(starts(period, step, site.zone))
    found: dict[tuple[datetime, str], PointEnergy] = {}
    for segment in site.interval_segments(period):
        groups = {name: group for name, group in groups_of(segment.site, by).items() if group}
        for start, known in _known(connection, stored, segment, groups, step):
            at = period.start if bars is None else _bar_of(bars, start)
            for name, group in groups.items():
                if bars is None or set(group) & set(known):
                    found[at, name] = found.get((at, name), PointEnergy()) + _of_group(group, known)
    ends = {period.start: period.end} if bars is None else bars
    order = found if bars is None else sorted(found, key=_first)
    return [_row(at, ends[at], name, found[at, name]) for at, name in order]


def _known(
    connection: sa.Connection,
    stored: Stored,
    segment: Segment,
    groups: Mapping[str, Group],
    step: Step | None,
) -> Iterator[tuple[datetime, dict[str, PointEnergy]]]:
    """Energies by point of a part of a period, bar by bar where there is a step."""
    numbers = {stored.point_id[p]: p for group in groups.values() for p in group}
    start = segment.period.start
    if step is None:
        known = sums.by_point(connection, segment.site, list(numbers), segment.period)
        yield start, {numbers[n]: e for n, e in known.items()}
        return
    by_start: dict[datetime, dict[str, PointEnergy]] = defaultdict(dict)
    for bar in energy.series_by_point(connection, segment.site, list(numbers), segment.period, step):
        by_start[max(bar.start, start)][numbers[bar.point_id]] = bar.energy
    yield from by_start.items()


def _bar_of(bars: Mapping[datetime, datetime], at: datetime) -> datetime:
    """Start of the bar in which an instant lies."""
    if at in bars:
        return at
    return max(start for start in bars if start <= at)


def _first(item: tuple[datetime, str]) -> datetime:
    return item[0]


def groups_of(site: Site, by: By) -> dict[str, Group]:
    """Points of each group, in the order in which they are shown.

    By load class and by room the points that carry energy count with their weights; by point every
    point that shows energy stands for itself, also those of which another one carries the energy.
    """
    if by is By.POINT:
        return {
            p.id: {p.id: 1.0} for p in site.points() if p.kind in ENERGY_KINDS and p.role is not Role.WATER
        }
    return _load_classes(site) if by is By.LOAD_CLASS else _rooms(site)


def _load_classes(site: Site) -> dict[str, Group]:
    parts = boundary(site)
    classes: dict[str, dict[str, float]] = defaultdict(dict)
    counted = (*parts.it, *parts.overhead)
    classes["facility"] = {p.id: p.weight for p in counted} if parts.is_sum else dict(parts.facility)
    for point in (*counted, *(p for p in parts.apart if p.role is not Role.FACILITY)):
        classes[load_class(point.role)][point.id] = point.weight
    return dict(classes)


def _rooms(site: Site) -> dict[str, Group]:
    rooms: dict[str, dict[str, float]] = defaultdict(dict)
    it = {p.id for p in site.it_carriers()}
    for meter in site.meters:
        for point in meter.carriers():
            if point.role in OVERHEAD_ROLES or (point.role in IT_ROLES and point.id in it):
                rooms[meter.room][point.id] = point.weight
    return dict(sorted(rooms.items()))


def _of_group(group: Group, known: Mapping[str, PointEnergy]) -> PointEnergy:
    """Energy of a group: covered where all of its points are, estimated where one is."""
    parts = {p: known.get(p, PointEnergy()) for p in group}
    return PointEnergy(
        sum(group[p] * e.energy_kwh for p, e in parts.items()),
        min(e.covered_s for e in parts.values()),
        max(e.estimated_s for e in parts.values()),
    )


def _row(start: datetime, end: datetime, name: str, total: PointEnergy) -> EnergyRow:
    duration_s = (end - start).total_seconds()
    return EnergyRow(
        start,
        end,
        name,
        total.energy_kwh,
        min(total.covered_s / duration_s, 1.0),
        min(total.estimated_s / duration_s, 1.0),
    )
