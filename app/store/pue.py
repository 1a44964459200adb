"""PUE documents from stored sums: the one place where every board, report and alarm gets its figure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from app.domain import formula
from app.domain import pue as domain
from app.domain.limits import LimitProfile, accuracy_percent
from app.domain.period import Period, Step, starts
from app.domain.pue import Boundary, Doubt, Floats, Ints, PueBar, PueDocument, Totals
from app.domain.site import Segment, Site
from app.errors import NotFound
from app.store import computed_hours, energy, findings, rollup_queue
from app.store.findings import DoubtRow
from app.store.kept_sums import Kept
from app.store.sites import Stored
from app.store.sums import OfPoints, OfSite, Sums, by_point, read_quarters, site_totals


class Asked(NamedTuple):
    """Periods of a site or room over which the PUE is asked."""

    site_id: str
    periods: Sequence[Period]
    room: str = ""
    kept: Kept | None = None
    """Sums of an earlier time: those that nothing changed since are not read again."""


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
    return documents(connection, stored, [Asked(site_id, [period], room)], profiles)[0][0]


def documents(
    connection: sa.Connection, stored: Stored, asked: Sequence[Asked], profiles: Mapping[str, LimitProfile]
) -> list[list[PueDocument]]:
    """The PUE of sites, or of their rooms of one name, over each of some periods; read together.

    Raises
    ------
    NotFound
        If there is no such site or room.
    StoreUnavailable
        If the database is away.
    """
    found = _Known.of(connection, [_Scope.of(stored, one) for one in asked])
    return [
        [known.document(connection, period, profiles) for period in known.scope.periods] for known in found
    ]


@dataclass(frozen=True)
class _Scope:
    """A site or room, and what counts in it over some periods."""

    stored: Stored
    site: Site
    room: str
    periods: Sequence[Period]
    parts: Mapping[Period, Sequence[tuple[Segment, Boundary]]]
    numbers: Sequence[int]
    """Of the points that count in any of the periods, in order."""
    kept: Kept | None

    @classmethod
    def of(cls, stored: Stored, asked: Asked) -> _Scope:
        site = site_named(stored, asked.site_id, asked.room)
        parts = {period: domain.boundaries(site, period, asked.room) for period in asked.periods}
        states = {id(limits): limits for of_period in parts.values() for _, limits in of_period}.values()
        known = np.unique(np.concatenate([stored.numbers_within(limits) for limits in states]))
        return cls(stored, site, asked.room, asked.periods, parts, known.tolist(), asked.kept)

    @property
    def number(self) -> int:
        """Of the site."""
        return self.stored.site_id[self.site.id]

    @property
    def whole(self) -> Period:
        """From the beginning of the first period to the end of the last."""
        return Period(min(p.start for p in self.periods), max(p.end for p in self.periods))

    @property
    def spans(self) -> list[Period]:
        """The periods, and the stretches of them over which the site is constant."""
        return [*self.periods, *(segment.period for parts in self.parts.values() for segment, _ in parts)]

    @cached_property
    def names(self) -> list[str]:
        """Points, in the order of their numbers."""
        return [self.stored.point_key[number] for number in self.numbers]

    def rows(self, limits: Boundary) -> Ints:
        """Rows of the points of a boundary among all."""
        if id(limits) not in self._rows:
            self._rows[id(limits)] = np.searchsorted(self.numbers, self.stored.numbers_within(limits))
        return self._rows[id(limits)]

    @cached_property
    def _rows(self) -> dict[int, Ints]:
        return {}


@dataclass(frozen=True)
class _Known:
    """What the database knows of a site or room over some periods."""

    scope: _Scope
    totals: Mapping[Period, Totals]
    sums: Sums
    redefined: Sequence[Stretch]
    doubts: Sequence[tuple[str, Doubt]]
    """By the point that a finding is about; empty for the site."""

    @classmethod
    def of(cls, connection: sa.Connection, scopes: Sequence[_Scope]) -> list[_Known]:
        """What is known of each; what was computed again is forgotten first, and doubts are read last."""
        _forget_old(connection, scopes)
        totals = site_totals(
            connection, [OfSite(s.site, s.number, s.periods, s.kept) for s in scopes], scopes[0].room
        )
        read_quarters(
            connection, [OfPoints(s.site, s.numbers, s.spans, s.kept) for s in scopes if s.kept is not None]
        )
        sums = [Sums(connection, s.site, s.numbers, s.spans, s.kept) for s in scopes]
        old, doubts = _redefined(connection, scopes), _doubts(connection, scopes)
        return [
            cls(scope, dict(zip(scope.periods, of_site, strict=True)), sums_of_site, stretches, found)
            for scope, of_site, sums_of_site, stretches, found in zip(
                scopes, totals, sums, old, doubts, strict=True
            )
        ]

    def document(
        self, connection: sa.Connection, period: Period, profiles: Mapping[str, LimitProfile]
    ) -> PueDocument:
        """The PUE over one of the periods."""
        scope, totals, parts = self.scope, self.totals[period], self.scope.parts[period]
        counted = frozenset().union(*(limits.ids for _, limits in parts))
        return domain.document(
            scope.site,
            period,
            totals,
            institution=scope.stored.fleet.institution[scope.site.institution],
            profiles=profiles,
            energies_kwh=[self._energies_kwh(segment, limits) for segment, limits in parts],
            room=scope.room,
            pending=sum(start < period.end and end > period.start for start, end in self.redefined),
            computed_percent=self._computed_percent(connection, period),
            doubts=[doubt for point, doubt in self.doubts if not point or point in counted],
            coverage_by_point=lambda: self._coverages(period, counted),
        )

    def _energies_kwh(self, segment: Segment, limits: Boundary) -> Floats:
        """Energies of the points of a boundary; 0 where nothing is known."""
        energy_kwh: Floats = self.sums.columns(segment.period)[1]
        return energy_kwh[self.scope.rows(limits)]

    def _coverages(self, period: Period, counted: Collection[str]) -> dict[str, float]:
        count, _, covered_s, _ = self.sums.columns(period)
        shares = (covered_s / period.duration_s).tolist()
        known = zip(self.scope.names, shares, count.tolist(), strict=True)
        return {p: share for p, share, is_known in known if is_known and p in counted}

    def _computed_percent(self, connection: sa.Connection, period: Period) -> dict[str, float]:
        """Accuracy classes over a period of the points that are computed and state none. [%]"""
        stored, site = self.scope.stored, self.scope.site
        known: dict[str, float] = {}
        for point, one in stored.formulas.by_point.items() if site.classless else ():
            numbers = {stored.point_id[p]: p for p in one.points}
            found = by_point(connection, site, list(numbers), period)
            energies = {numbers[n]: e.energy_kwh for n, e in found.items()}
            of_point = stored.fleet.point
            classes = {p: known.get(p, accuracy_percent(*of_point[p][1:])) for p in one.points}
            known[point] = formula.class_percent(one, energies, classes)
        return {p: known[p] for p in site.classless}


def _forget_old(connection: sa.Connection, scopes: Sequence[_Scope]) -> None:
    """Forget the sums of an earlier time that hold no longer."""
    of_site = {s.number: (s.kept, s.numbers) for s in scopes if s.kept is not None}
    if of_site:
        seen = {number: kept.seen(points) for number, (kept, points) in of_site.items()}
        for number, (newest, changed) in computed_hours.since(connection, seen).items():
            kept, points = of_site[number]
            kept.forget(points, newest, changed)


Stretch = tuple[datetime, datetime]


def redefined(connection: sa.Connection, stored: Stored, site: Site, period: Period) -> list[Stretch]:
    """Stretches of a period in which the figures of a site are still those of an earlier definition.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = rollup_queue.redefined(connection, stored.numbers_of(site), period)
    return [(start, end) for _, start, end in rows]


def _redefined(connection: sa.Connection, scopes: Sequence[_Scope]) -> list[list[Stretch]]:
    numbers = [frozenset(s.stored.numbers_of(s.site)) for s in scopes]
    rows = rollup_queue.redefined(connection, frozenset().union(*numbers), _all_of(scopes))
    return [[(start, end) for point, start, end in rows if point in own] for own in numbers]


def doubts(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, parts: Iterable[Boundary]
) -> list[Doubt]:
    """Open findings about points of some boundaries of a site for which figures of a period wait.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers = {stored.point_id[p.id] for limits in parts for p in limits.points()}
    rows = findings.doubts(connection, [stored.site_id[site.id]], period)
    return [_doubt(site, row) for row in rows if not row.point_id or row.point_id in numbers]


def _doubts(connection: sa.Connection, scopes: Sequence[_Scope]) -> list[list[tuple[str, Doubt]]]:
    rows = findings.doubts(connection, [s.number for s in scopes], _all_of(scopes))
    return [
        [
            (row.point or "", _doubt(scope.site, row))
            for row in rows
            if row.site_id == scope.number and (not row.point_id or row.point_id in scope.numbers)
        ]
        for scope in scopes
    ]


def _doubt(site: Site, row: DoubtRow) -> Doubt:
    return Doubt(row.start, row.end, f"{row.point or site.id} ({row.kind})")


def _all_of(scopes: Sequence[_Scope]) -> Period:
    """From the beginning of the first period of any to the end of the last."""
    return Period(min(s.whole.start for s in scopes), max(s.whole.end for s in scopes))


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
