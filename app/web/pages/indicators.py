"""Indicators beside PUE, cost and carbon, the compliance matrix, and the balance of the metering tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.actions.view import View
from app.domain.asked import step_of
from app.domain.evidence import Basis
from app.domain.indicators import Shared, shared_cost
from app.domain.period import WINDOWS, Period
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.site import Site
from app.errors import DataError
from app.reports import indicators
from app.reports.document import Indicators
from app.reports.money import grid_kwh
from app.store import outlook
from app.store.reports import revisions
from app.web import periods, render
from app.web.access import PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.pages import figures
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)

_FIGURES = TimedCache(life_s=60)
_UNITS = {"wue": "L/kWh", "cue": "kgCO₂/kWh", "iteu_sv_percent": "%"}


def _figures(view: View, site: Site, period: Period) -> tuple[Indicators, Basis] | str:
    """The indicators of a period with what they rest on; or why there are none."""
    key = (id(view.connection.engine), view.stored.site_id[site.id], period)

    def compute() -> tuple[Indicators, Basis] | str:
        try:
            basis = revisions.basis(view.connection, view.stored, site, period, view.now)
            return indicators.build(basis), basis
        except DataError as error:
            return str(error)

    return _FIGURES.get(key, compute)


def _context(request: Request, site: str, caller: Viewer, asked: periods.OfMonth, tab: str) -> dict[str, Any]:
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        step_of(chosen.period)
        before = _figures(view, found, chosen.against) if chosen.against else None
        return {
            "nav": "site",
            "tab": tab,
            "site": found,
            "chosen": chosen,
            "now": caller.now,
            "found": _figures(view, found, chosen.period),
            "before": before,
            "units": _UNITS,
        }


@router.get("/sites/{site}/indicators")
def indicators_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """WUE, CUE, REF, ERF, CER and load rate, with their inputs, targets and points."""
    context = _context(request, site, caller, asked, "indicators")
    before = context["before"]
    context["old"] = (
        {} if before is None or isinstance(before, str) else {i.name: i.value for i in before[0].indicators}
    )
    return periods.keep(render.page(request, "indicators.html", context), asked)


@router.get("/sites/{site}/costs")
def costs_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """Cost and emissions of a period, by load class, with tariffs and factor."""
    context = _context(request, site, caller, asked, "costs")
    context["shared"] = _shared(context["found"])
    context["shared_before"] = _shared(context["before"])
    return periods.keep(render.page(request, "costs.html", context), asked)


def _shared(found: tuple[Indicators, Basis] | str | None) -> Mapping[str, Shared]:
    """Cost and emissions by load class; empty where there are none."""
    if found is None or isinstance(found, str):
        return {}
    document, basis = found
    names = ["it", *(role.value for role in OVERHEAD_ROLES)]
    parts = {name: basis.quarters[f"{name}_kwh"] for name in names if f"{name}_kwh" in basis.quarters}
    factor = document.money.factor
    return shared_cost(
        grid_kwh(basis),
        basis.quarters["facility_kwh"],
        parts,
        basis.site.tariffs,
        basis.site.zone,
        None if factor is None or document.money.emissions_kg is None else document.money.emissions_kg,
    )


@router.get("/sites/{site}/compliance")
def compliance_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """Every limit against every window, and declared indicators with their evidence."""
    context = _context(request, site, caller, asked, "compliance")
    with caller.read() as view:
        documents = figures.evaluated(view)[site]
        document = figures.document(view, context["site"], context["chosen"].period)
    columns = {name: documents[name] for name in WINDOWS if name in documents}
    profiles = list(dict.fromkeys(v["profile"] for d in (*columns.values(), document) for v in d["verdicts"]))
    context |= {"columns": columns, "profiles": profiles, "document": document}
    return periods.keep(render.page(request, "compliance.html", context), asked)


@router.get("/sites/{site}/balance")
def balance_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """What goes into every node of the metering tree against what comes out of it."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        balance: outlook.Balance | str
        try:
            balance = outlook.balance(view.connection, view.stored, found, chosen.period)
        except DataError as error:
            balance = str(error)
    context = {
        "nav": "site",
        "tab": "balance",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "balance": balance,
        "names": {m.id: m.name or m.id for m in found.meters},
    }
    return periods.keep(render.page(request, "balance.html", context), asked)
