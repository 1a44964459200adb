"""How well the plant works, part by part, and what to do next."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.context import Caller, SiteId
from app.api.periods import Last12mo, Last30d
from app.reports import plant as documents
from app.reports.document import Opportunities, PlantIndicators
from app.store import plant

router = APIRouter(tags=["indicators"])


@router.get("/sites/{site}/plant-indicators")
def get_plant_indicators(site: SiteId, asked: Last30d, caller: Caller) -> PlantIndicators:
    """Load factors, chillers, UPS, water, air, free cooling: values, or which meter is missing."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        series = plant.of_site(view.connection, view.stored, found, period, caller.now)
    return documents.plant_indicators(series)


@router.get("/sites/{site}/opportunities")
def get_opportunities(site: SiteId, asked: Last12mo, caller: Caller) -> Opportunities:
    """Ways to save energy, the most valuable first: energy and money a year with range and evidence."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        series = plant.of_site(view.connection, view.stored, found, period, caller.now)
    return documents.opportunities(series)
