"""PUE documents from stored sums: the one place where every board, report and alarm gets its figure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from app.domain import formula
from app.domain import pue as domain
from app.domain.limits import LimitProfile, accuracy_percent
from app.domain.period import Period, Step, starts
from app.domain.pue import Boundary, Doubt, PueBar, PueDocument, Totals
from app.domain.site import Segment, Site
from app.errors import NotFound
from app.store import energy, findings, rollup_queue
from app.store.sites import Stored
from app.store.sums import Kept, Sums, by_point, site_totals


def document(
    connection: sa.Connection,
    stored: Stored,
    site_id: str,
    period: Period,
    profiles: Mapping[str, LimitProfile],
    room: str = "",
) -> PueDocument:
    """The PUE of a site (`room` empty) or room over a period.

    Raises
    ------
    NotFound
        If there is no such site or room.
    StoreUnavailable
        If the database is away.
    """
    return documents(connection, stored, site_id, [period], profiles, room)[0]


def documents(
    connection: sa.Connection,
    stored: Stored,
    site_id: str,
    periods: Sequence[Period],
    profiles: Mapping[str, LimitProfile],
    room: str = "",
    kept: Kept | None = None,
) -> list[PueDocument]:
    """The PUE of a site or room over each of some periods; what these share is read once.

    With `kept` sums of earlier months that nothing changed since are not read again.

    Raises
    ------
    NotFound
        If there is no such site or room.
    StoreUnavailable
        If the database is away.
    """
    site = site_named(stored, site_id, room)
    known = _Known.of(connection, stored, site, periods, room, kept)
    return [known.document(connection, period, profiles) for period in periods]


@dataclass(frozen=True)
class _Known:
    """What the database knows of a site or room over some periods."""

    stored: Stored
    site: Site
    room: str
    parts: Mapping[Period, Sequence[tuple[Segment, Boundary]]]
    totals: Mapping[Period, Totals]
    names: Sequence[str]
    """Points that count in any of the periods, in the order of their numbers."""
    sums: Sums
    redefined: Sequence[tuple[datetime, datetime]]
    doubts: Sequence[tuple[str, Doubt]]
    """By the point that a finding is about; empty for the site."""

    @classmethod
    def of(
        cls,
        connection: sa.Connection,
        stored: Stored,
        site: Site,
        periods: Sequence[Period],
        room: str,
        kept: Kept | None,
    ) -> _Known:
        parts = {period: domain.boundaries(site, period, room) for period in periods}
        segments = [part for of_period in parts.values() for part in of_period]
        states = {id(limits): limits for _, limits in segments}.values()
        numbers = {stored.point_id[p.id]: p.id for limits in states for p in limits.points()}
        spans = [*periods, *(segment.period for segment, _ in segments)]
        whole = Period(min(p.start for p in periods), max(p.end for p in periods))
        site_id = stored.site_id[site.id]
        if kept is not None:
            kept.look(connection, site_id, sorted(numbers))
        return cls(
            stored,
            site,
            room,
            parts,
            dict(zip(periods, site_totals(connection, site, site_id, room, periods, kept), strict=True)),
            [numbers[number] for number in sorted(numbers)],
            Sums(connection, site, list(numbers), spans, kept),
            redefined(connection, stored, site, whole),
            _doubts(connection, stored, site, whole, sorted(numbers)),
        )

    def document(
        self, connection: sa.Connection, period: Period, profiles: Mapping[str, LimitProfile]
    ) -> PueDocument:
        """The PUE over one of the periods."""
        totals, parts = self.totals[period], self.parts[period]
        counted = frozenset().union(*(limits.ids for _, limits in parts))
        return domain.document(
            self.site,
            period,
            totals,
            institution=self.stored.fleet.institution[self.site.institution],
            profiles=profiles,
            energy_by_point_kwh=[self._energies_kwh(totals, segment) for segment, _ in parts],
            room=self.room,
            pending=sum(start < period.end and end > period.start for start, end in self.redefined),
            computed_percent=self._computed_percent(connection, period),
            doubts=[doubt for point, doubt in self.doubts if not point or point in counted],
            coverage_by_point=lambda: self._coverages(period, counted),
        )

    def _energies_kwh(self, totals: Totals, segment: Segment) -> dict[str, float]:
        """Energies of all points; 0 where nothing is known."""
        if totals.covered_s <= 0:
            return {}
        return dict(zip(self.names, self.sums.columns(segment.period)[1].tolist(), strict=True))

    def _coverages(self, period: Period, counted: Collection[str]) -> dict[str, float]:
        count, _, covered_s, _ = self.sums.columns(period)
        known = zip(self.names, (covered_s / period.duration_s).tolist(), count.tolist(), strict=True)
        return {p: share for p, share, is_known in known if is_known and p in counted}

    def _computed_percent(self, connection: sa.Connection, period: Period) -> dict[str, float]:
        """Accuracy classes over a period of the points that are computed and state none. [%]"""
        known: dict[str, float] = {}
        for point, one in self.stored.formulas.by_point.items() if self.site.classless else ():
            numbers = {self.stored.point_id[p]: p for p in one.points}
            found = by_point(connection, self.site, list(numbers), period)
            energies = {numbers[n]: e.energy_kwh for n, e in found.items()}
            of_point = self.stored.fleet.point
            classes = {p: known.get(p, accuracy_percent(*of_point[p][1:])) for p in one.points}
            known[point] = formula.class_percent(one, energies, classes)
        return {p: known[p] for p in self.site.classless}


def redefined(
    connection: sa.Connection, stored: Stored, site: Site, period: Period
) -> list[tuple[datetime, datetime]]:
    """Stretches of a period in which the figures of a site are still those of an earlier definition.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers = [stored.point_id[p.id] for p in site.points()]
    return rollup_queue.redefined(connection, numbers, period)


def doubts(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, parts: Iterable[Boundary]
) -> list[Doubt]:
    """Open findings about points of some boundaries of a site for which figures of a period wait.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers = sorted({stored.point_id[p.id] for limits in parts for p in limits.points()})
    return [doubt for _, doubt in _doubts(connection, stored, site, period, numbers)]


def _doubts(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, numbers: Sequence[int]
) -> list[tuple[str, Doubt]]:
    found = findings.doubts(connection, stored.site_id[site.id], numbers, period)
    return [(point, Doubt(start, end, f"{point or site.id} ({kind})")) for point, kind, start, end in found]


def series(
    connection: sa.Connection, stored: Stored, site_id: str, period: Period, step: Step, room: str = ""
) -> list[tuple[datetime, Totals]]:
    """Sums per bar from which PUE follows; bars of which nothing is known are left out.

    Raises
    ------
    NotFound
        If there is no such site or room.
    StoreUnavailable
        If the database is away.
    """
    site = site_named(stored, site_id, room)
    return energy.site_series(connection, stored.site_id[site.id], site, room, period, step)


def bars(
    connection: sa.Connection, stored: Stored, site_id: str, period: Period, step: Step, room: str = ""
) -> list[PueBar]:
    """PUE per bar; bars of which nothing is known are left out.

    Raises
    ------
    NotFound
        If there is no such site or room.
    StoreUnavailable
        If the database is away.
    """
    site = site_named(stored, site_id, room)
    parts, ends = domain.every_boundary(site, room), dict(starts(period, step, site.zone))
    old = redefined(connection, stored, site, period)
    waits = doubts(connection, stored, site, period, parts)
    found = [
        domain.bar(site, parts, max(at, period.start), ends[max(at, period.start)], totals, waits)
        for at, totals in series(connection, stored, site_id, period, step, room)
    ]
    if not old:
        return found
    return [replace(b, pue=None) if any(s < b.end and e > b.start for s, e in old) else b for b in found]


def site_named(stored: Stored, site_id: str, room: str = "") -> Site:
    """The site, if it and the room exist.

    Raises
    ------
    NotFound
        If there is no such site or room.
    """
    site = stored.fleet.site.get(site_id)
    if site is None:
        raise NotFound(f"there is no site {site_id!r}")
    if room and room not in site.rooms:
        raise NotFound(f"site {site_id} has no room {room!r}")
    return site
