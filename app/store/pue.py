"""PUE documents from stored sums: the one place where every board, report and alarm gets its figure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from app.domain import pue as domain
from app.domain.limits import LimitProfile
from app.domain.period import Period, Step, starts
from app.domain.pue import PueBar, PueDocument, Totals
from app.domain.site import Site
from app.errors import NotFound
from app.store import energy
from app.store.sites import Stored


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
    site = site_named(stored, site_id, room)
    totals = energy.site_totals(connection, stored.site_id[site.id], room, period)
    return _document(connection, stored, site, period, totals, profiles, room)


def _document(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    period: Period,
    totals: Totals,
    profiles: Mapping[str, LimitProfile],
    room: str,
) -> PueDocument:
    points = {stored.point_id[p.id]: p.id for p in domain.boundary(site, room).points()}
    energies = energy.by_point(connection, site, list(points), period) if totals.covered_s else {}
    return domain.document(
        site,
        period,
        totals,
        institution=stored.fleet.institution[site.institution],
        profiles=profiles,
        energy_by_point_kwh={points[n]: e.energy_kwh for n, e in energies.items()},
        room=room,
    )


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
    parts, ends = domain.boundary(site, room), dict(starts(period, step, site.zone))
    return [
        domain.bar(site, parts, max(at, period.start), ends[max(at, period.start)], totals)
        for at, totals in series(connection, stored, site_id, period, step, room)
    ]


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
    if room and room not in {m.room for m in site.meters}:
        raise NotFound(f"site {site_id} has no room {room!r}")
    return site
