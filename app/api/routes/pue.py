"""PUE of a site, as one figure, as a series, and of the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last24h, Window, check_bars
from app.domain import period as periods
from app.domain.indicators import FleetPue
from app.domain.period import Step
from app.domain.pue import PueDocument
from app.store import deployment, fleet_pue, pue

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


@router.get("/fleet/pue", response_model=schemas.FleetPueOut)
def get_fleet_pue(
    caller: Caller, window: Annotated[Window, Query(description="The same for every site")] = "24h"
) -> dict[str, Any]:
    """PUE of all your sites together: the ratio of sums, and the mean weighted by facility energy."""
    with caller.read() as view:
        profiles = deployment.limit_profiles(view.connection)
        spans = {s.id: periods.window(window, caller.now, s.zone) for s in view.stored.fleet.sites}
        documents, figure = fleet_pue.pue(view.connection, view.stored, spans, profiles)
    return fleet_out(window, documents, figure)


def fleet_out(window: str, documents: Sequence[PueDocument], figure: FleetPue) -> dict[str, Any]:
    """The PUE of a fleet as a document."""
    return {
        "window": window,
        "ratio_of_sums": figure.ratio_of_sums,
        "facility_weighted": figure.facility_weighted,
        "facility_kwh": figure.facility_kwh,
        "it_kwh": figure.it_kwh,
        "sites": [d.as_dict() for d in documents],
        "counted": figure.sites,
        "left_out": figure.left_out,
    }
