"""PUE documents from stored sums: the one place where every board, report and alarm gets its figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
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


def document(
    connection: sa.Connection,
    stored: Stored,
    site_id: str,
    period: Period,
    profiles: Mapping[str, LimitProfile],
    room: str = "",
    sums: energy.Sums | None = None,
) -> PueDocument:
    """The PUE of a site (`room` empty) or room over a period.

    `sums` is shared by the documents of one transaction, so that nothing is summed twice.

    Raises
    ------
    NotFound
        If there is no such site or room.
    StoreUnavailable
        If the database is away.
    """
    site = site_named(stored, site_id, room)
    totals = energy.site_totals(connection, stored.site_id[site.id], room, period)
    sums = sums or energy.Sums(connection)
    return _document(connection, stored, site, period, totals, profiles, room, sums)


def _document(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    period: Period,
    totals: Totals,
    profiles: Mapping[str, LimitProfile],
    room: str,
    sums: energy.Sums,
) -> PueDocument:
    covered = totals.covered_s > 0
    parts = domain.boundaries(site, period, room)
    energies = [_energies(sums, stored, *part) if covered else {} for part in parts]
    numbers = {stored.point_id[p.id]: p.id for _, limits in parts for p in limits.points()}
    known = sums.by_point(site, list(numbers), period)
    return domain.document(
        site,
        period,
        totals,
        institution=stored.fleet.institution[site.institution],
        profiles=profiles,
        energy_by_point_kwh=energies,
        room=room,
        pending=len(redefined(connection, stored, site, period)),
        computed_percent=_computed_percent(connection, stored, site, period),
        doubts=doubts(connection, stored, site, period, [limits for _, limits in parts]),
        coverage_by_point={numbers[n]: e.covered_s / period.duration_s for n, e in known.items()},
    )


def _computed_percent(
    connection: sa.Connection, stored: Stored, site: Site, period: Period
) -> dict[str, float]:
    """Accuracy classes over a period of the points of a site that are computed and state none. [%]"""
    wanted = [p.id for p in site.points() if p.formula and p.accuracy_class_percent is None]
    known: dict[str, float] = {}
    for point, one in stored.formulas.by_point.items() if wanted else ():
        numbers = {stored.point_id[p]: p for p in one.points}
        found = energy.by_point(connection, site, list(numbers), period)
        energies = {numbers[n]: e.energy_kwh for n, e in found.items()}
        classes = {p: known.get(p, accuracy_percent(*stored.fleet.point[p][1:])) for p in one.points}
        known[point] = formula.class_percent(one, energies, classes)
    return {p: known[p] for p in wanted}


def redefined(
    connection: sa.Connection, stored: Stored, site: Site, period: Period
) -> list[tuple[datetime, datetime]]:
    """Stretches of a period in which the figures of a site are still those of an earlier definition.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers = {stored.point_id[p.id] for p in site.points()}
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
    found = findings.doubts(connection, stored.site_id[site.id], numbers, period)
    return [Doubt(start, end, f"{point or site.id} ({kind})") for point, kind, start, end in found]


def _energies(sums: energy.Sums, stored: Stored, segment: Segment, limits: Boundary) -> dict[str, float]:
    points = {stored.point_id[p.id]: p.id for p in limits.points()}
    found = sums.by_point(segment.site, list(points), segment.period)
    return {points[n]: e.energy_kwh for n, e in found.items()}


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
