"""What to do next: the opportunities of a site, and its plant indicators for the page of indicators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.actions.view import View
from app.domain import plant_text
from app.domain.period import Period
from app.domain.plant_series import PlantSeries
from app.domain.site import Site
from app.errors import DataError
from app.reports import plant as documents
from app.reports.document import Opportunities, OpportunityRow, PlantIndicators, PlantRow
from app.store import plant
from app.web import periods, render
from app.web.access import PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.periods import Chosen
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_FIGURES = TimedCache(life_s=60)
_T = TypeVar("_T")


@router.get("/sites/{site}/opportunities")
def opportunities_page(request: Request, site: str, caller: Viewer, asked: periods.OfYear) -> Response:
    """What could be saved, the most valuable first, with evidence; or which meter would tell."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        now = _of_period(view, found, chosen.period, documents.opportunities)
        before = _of_period(view, found, chosen.against, documents.opportunities) if chosen.against else None
    context = {
        "nav": "site",
        "tab": "opportunities",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "found": now,
        "before": _before(before),
        "names": {m.id: m.name or m.id for m in found.meters},
        **texts(Words(render.language_of(request))),
    }
    return render.page(request, "opportunities.html", context)


def _before(document: Opportunities | str | None) -> dict[tuple[str, str], float | None]:
    if document is None or isinstance(document, str):
        return {}
    return {(o.kind, o.subject): o.kwh_per_year for o in document.opportunities}


def plant_rows(view: View, site: Site, period: Period) -> PlantIndicators | str:
    """The plant indicators of a period; or why there are none."""
    return _of_period(view, site, period, documents.plant_indicators)


def texts(words: Words) -> dict[str, Any]:
    """What the templates need to word plant indicators and opportunities."""

    def why(one: PlantRow | OpportunityRow) -> str:
        return plant_text.why(words.language, one.reason, one.missing, one.waits_for, one.poorly_covered)

    return {
        "why": why,
        "plant_figure": lambda name, value: plant_text.figure(words.language, name, value),
        "plant_inputs": lambda values: plant_text.inputs(words.language, values),
    }


def _of_period(view: View, site: Site, period: Period, build: Callable[[PlantSeries], _T]) -> _T | str:
    engine, number = id(view.connection.engine), view.stored.site_id[site.id]
    key = (engine, number, period, site.declared, build.__name__)

    def compute() -> _T | str:
        try:
            return build(plant.of_site(view.connection, view.stored, site, period, view.now))
        except DataError as error:
            return str(error)

    return _FIGURES.get(key, compute)
