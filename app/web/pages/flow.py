"""The energy flow of a site, from the supply to the last meters."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.charts import sankey
from app.charts.sankey import Labels
from app.domain import tree
from app.domain.flow import energy_flow
from app.errors import SeriesError
from app.store import usage
from app.web import format, periods, render
from app.web.access import PageRoute, Viewer
from app.web.periods import Chosen
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_LONGEST_S = 400 * 86_400


@router.get("/sites/{site}/flow")
def flow_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """The metering tree as bands as wide as their energy, with what has no meter at every node."""
    language = render.language_of(request)
    words = Words(language)
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        if chosen.period.duration_s > _LONGEST_S:
            raise SeriesError("the energy flow can be shown for up to 400 days; choose a shorter period")
        points = [p for state in found.states for m in state.meters for p in tree.inflow_points(m)]
        unique = list({p.id: p for p in points}.values())
        table = usage.frame(view.connection, view.stored, unique, chosen.period)
    flow = energy_flow(found, table, chosen.period)
    names = {m.id: m.name or m.id for m in found.meters}
    to = partial(render.url, language)
    labels = Labels(
        name=lambda meter: names.get(meter, meter),
        energy=format.energy,
        address=lambda meter: to(f"/meters/{meter}", **chosen.query),
        unmetered=words("Losses or unmetered"),
        unmetered_address=lambda meters: (
            to(f"/sites/{site}/balance", node=" ".join(meters), **chosen.query) + "#rest"
        ),
        title=words("Energy flow"),
    )
    context = {
        "nav": "site",
        "tab": "flow",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "flow": flow,
        "names": names,
        "drawn": sankey.draw(flow, labels) if flow.nodes else None,
    }
    return periods.keep(render.page(request, "flow.html", context), asked)
