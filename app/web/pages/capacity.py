"""Rooms and feeds: load, redundancy, what if one fails, what is near its rating, what is stranded."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.domain import capacity
from app.domain.capacity import LoadState
from app.errors import NotFound, SeriesError
from app.store import usage
from app.web import periods, render
from app.web.access import PageRoute, Viewer
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)

_LONGEST_S = 100 * 86_400
"""Longest period whose quarter-hours are read for every feed. [s]"""
_FIRST = (LoadState.OVER, LoadState.TIGHT, LoadState.UNKNOWN, LoadState.NORMAL, LoadState.LOW)


@router.get("/sites/{site}/capacity")
def capacity_page(
    request: Request, site: str, caller: Viewer, asked: periods.OfMonth, without: str = ""
) -> Response:
    """Load of the site, of its rooms and of every feed; `without` asks what fails with a meter."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        if chosen.period.duration_s > _LONGEST_S:
            raise SeriesError("the load of feeds can be shown for up to 100 days; choose a shorter period")
        points = usage.capacity_points(found)
        table = usage.frame(view.connection, view.stored, points, chosen.period)
    names = {m.id: m.name or m.id for m in found.meters}
    if without and without not in names:
        raise NotFound(f"there is no meter {without!r}")
    feeds = capacity.feed_loads(found, table)
    context = {
        "nav": "site",
        "tab": "capacity",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "it_load": capacity.it_load(usage.it_energy(found, table), found),
        "rooms": capacity.room_it_loads(found, table),
        "feeds": sorted(feeds, key=lambda f: (_FIRST.index(f.state), -(f.load.peak_ratio or 0.0))),
        "names": names,
        "without": without,
        "failure": capacity.failure(found, table, without) if without else None,
    }
    return periods.keep(render.page(request, "capacity.html", context), asked)
