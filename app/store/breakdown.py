"""Energy of a site split by load class, point or room, over a period or bar by bar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from app.domain.period import Period, Step, starts
from app.domain.pue import boundary
from app.domain.quantity import ENERGY_KINDS, IT_ROLES, OVERHEAD_ROLES, Role, load_class
from app.domain.site import Site
from app.store import energy
from app.store.energy import PointEnergy
from app.store.sites import Stored

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

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    groups = {name: group for name, group in groups_of(site, by).items() if group}
    numbers = {stored.point_id[p]: p for group in groups.values() for p in group}
    if step is None:
        known = energy.by_point(connection, site, list(numbers), period)
        by_key = {numbers[n]: e for n, e in known.items()}
        return [_row(period.start, period.end, name, group, by_key) for name, group in groups.items()]
    bars = energy.series_by_point(connection, site, list(numbers), period, step)
    return list(_by_bar(bars, numbers, groups, period, _ends(site, period, step)))


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


def _ends(site: Site, period: Period, step: Step) -> dict[datetime, datetime]:
    return dict(starts(period, step, site.zone))


def _by_bar(
    bars: Iterable[energy.EnergyBar],
    numbers: Mapping[int, str],
    groups: Mapping[str, Group],
    period: Period,
    ends: Mapping[datetime, datetime],
) -> Iterator[EnergyRow]:
    by_start: dict[datetime, dict[str, PointEnergy]] = defaultdict(dict)
    for bar in bars:
        by_start[max(bar.start, period.start)][numbers[bar.point_id]] = bar.energy
    for start, known in by_start.items():
        for name, group in groups.items():
            if set(group) & set(known):
                yield _row(start, ends[start], name, group, known)


def _row(
    start: datetime, end: datetime, name: str, group: Group, known: Mapping[str, PointEnergy]
) -> EnergyRow:
    parts = {p: known.get(p, PointEnergy()) for p in group}
    duration_s = (end - start).total_seconds()
    return EnergyRow(
        start,
        end,
        name,
        sum(group[p] * e.energy_kwh for p, e in parts.items()),
        min(min(e.covered_s for e in parts.values()) / duration_s, 1.0),
        min(max(e.estimated_s for e in parts.values()) / duration_s, 1.0),
    )
