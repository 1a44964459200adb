"""PUE of a site, as one figure and as a series."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last24h, check_bars
from app.domain.period import Step
from app.store import deployment, pue

router = APIRouter(tags=["pue"])

Room = Annotated[str, Query(max_length=200, description="Room, for partial PUE; empty: the whole site")]


@router.get("/sites/{site}/pue", response_model=schemas.PueOut, response_model_exclude_unset=True)
def get_pue(site: SiteId, asked: Last24h, caller: Caller, room: Room = "") -> dict[str, Any]:
    """PUE over a window, a month, a year, or from start to end."""
    with caller.read() as view:
        period = asked.resolve(caller.now, view.site(site).zone)
        profiles = deployment.limit_profiles(view.connection)
        return pue.document(view.connection, view.stored, site, period, profiles, room).as_dict()


@router.get("/sites/{site}/pue/series", response_model=schemas.PueSeriesOut)
def get_pue_series(
    site: SiteId, asked: Last24h, caller: Caller, step: Step = Step.HOUR, room: Room = ""
) -> JSONResponse:
    """PUE bar by bar; null where too little of the bar is covered."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        check_bars(period, step, found.zone, 1, caller.limits.cells // 10)
        bars = pue.bars(view.connection, view.stored, site, period, step, room)
    return JSONResponse(
        {
            "site": site,
            "room": room,
            **period.as_dict(),
            "step": step,
            "bars": [bar.as_dict() for bar in bars],
        }
    )
