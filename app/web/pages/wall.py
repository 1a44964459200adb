"""The wallboard: every site in letters to be read from across the room, as a grid or one after another.

A display gets in without a form: the address ``/wall#wl_...`` carries a viewer's key behind the number
sign, which browsers do not send; the sign-in page takes it from there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.domain.asked import Asked
from app.web import render
from app.web.access import PageRoute, Viewer
from app.web.pages import overview

router = APIRouter(route_class=PageRoute)

_GRID_S = 30
"""How often the grid is shown anew. [s]"""
_MOST = 60
"""Most sites on one wallboard; of more the worst are shown, and how many are not."""


@router.get("/wall")
def wall(
    request: Request,
    caller: Viewer,
    mode: Literal["grid", "rotate"] = "grid",
    every_s: Annotated[int, Query(ge=5, le=600)] = 15,
    at: Annotated[int, Query(ge=0, le=100_000)] = 0,
    institution: str = "",
    region: str = "",
) -> Response:
    """The worst first; `rotate` shows one site at a time, without a script."""
    with caller.read() as view:
        rows = [
            row
            for row in overview.rows(view, caller, Asked())
            if institution in ("", row.institution.id) and region in ("", row.site.region)
        ]
    rows.sort(key=overview.urgency)
    kept = {"institution": institution, "region": region, "mode": mode, "every_s": every_s}
    place = at % len(rows) if rows else 0
    shown = rows[place : place + 1] if mode == "rotate" else rows[:_MOST]
    context = {
        "rows": shown,
        "count": len(rows),
        "place": place,
        "size": next(size for size in (1, 2, 4, 6, 9, 12, 20, 30, _MOST) if len(shown) <= size),
        "mode": mode,
        "query": kept,
        "counts": overview.counts(rows),
        "now": caller.now,
    }
    answer = render.page(request, "wall.html", context)
    further = render.url(render.language_of(request), "/wall", **render.merged(kept, at=place + 1))
    answer.headers["Refresh"] = f"{every_s}; url={further}" if mode == "rotate" else f"{_GRID_S}"
    return answer
