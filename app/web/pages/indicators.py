"""Indicators beside PUE, cost and carbon, the compliance matrix, and the balance of the metering tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from app.actions import declarations as actions
from app.actions.view import View
from app.charts import live as charts
from app.charts.live import Bar, ChartFrame, Span
from app.domain import tree
from app.domain.access import Role
from app.domain.asked import step_of
from app.domain.evidence import Basis
from app.domain.indicators import Shared, allotted_kwh, shared_cost, weighted_kwh
from app.domain.limits import limits_for
from app.domain.period import WINDOWS, Period, midnight, shift_months, starts
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.reference import Reference
from app.domain.site import Declared, Site
from app.errors import DataError, NotFound, SeriesError
from app.reports import indicators, regulations
from app.reports.document import Indicators, Regulations
from app.reports.money import grid_kwh
from app.store import declarations, deployment, outlook, site_days
from app.store.reports import revisions
from app.store.reports.revisions import MonthFigures, Shelf
from app.web import periods, render
from app.web.access import FromOwnPage, PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.pages import figures, plant
from app.web.periods import Chosen
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_FIGURES = TimedCache(life_s=60)
_DECLARED = ("maturity_level", "automation_share_percent", "racks_in_use", "gbt44989_grade")
"""Indicators that are declared, beside those that a target names."""
_MOST_EXPLANATIONS = 8
_UNITS = {"wue": "L/kWh", "cue": "kgCO₂/kWh", "iteu_sv_percent": "%"}


def _figures(view: View, site: Site, period: Period) -> tuple[Indicators, Basis] | str:
    """The indicators of a period with what they rest on; or why there are none."""
    key = (id(view.connection.engine), view.stored.site_id[site.id], period, site.declared)

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
    chosen: Chosen = context["chosen"]
    with caller.read() as view:
        months = Shelf.of_site(view.stored, site).months(view.connection)
        limit = _strictest(view, context["site"])
        context["plant"] = plant.plant_rows(view, context["site"], chosen.period)
        then = plant.plant_rows(view, context["site"], chosen.against) if chosen.against else ""
    words = Words(render.language_of(request))
    rows = () if isinstance(then, str) else then.indicators
    context["old_plant"] = {(row.name, row.subject): row.value for row in rows}
    context["names"] = {m.id: m.name or m.id for m in context["site"].meters}
    context |= plant.texts(words)
    context["trends"] = _trends(context["site"], months, limit, words) if len(months) > 1 else []
    return periods.keep(render.page(request, "indicators.html", context), asked)


def _strictest(view: View, site: Site) -> float | None:
    """The strictest limit that applies today."""
    institution, profiles = (
        view.stored.fleet.institution[site.institution],
        deployment.limit_profiles(view.connection),
    )
    found = limits_for(site, institution, profiles, view.now.astimezone(site.zone).date())
    return min((one.pue for one in found), default=None)


def _trends(site: Site, months: Sequence[MonthFigures], limit: float | None, words: Words) -> list[Any]:
    """A small chart of each indicator over the finalised months, with its target."""
    names = [n for n in months[-1].values if any(m.values.get(n) is not None for m in months)]
    firsts = [midnight(date.fromisoformat(f"{m.month}-01"), site.zone) for m in months]
    ends = [shift_months(at, 1, site.zone) for at in firsts]
    made = []
    for name in names:
        least, most = months[-1].targets.get(name, (None, None))
        title = "PUE" if name == "pue" else words(f"indicator:{name}")
        frame = ChartFrame(
            title,
            _UNITS.get(name, ""),
            90,
            lambda at: f"{at.astimezone(site.zone):%Y-%m}",
            firsts[:: max(len(firsts) // 4, 1)],
            site.time_zone,
            {"it": title},
            3,
        )
        bars = [Bar(a, e, {"it": m.values.get(name)}) for a, e, m in zip(firsts, ends, months, strict=True)]
        target = limit if name == "pue" else most if most is not None else least
        span = Span(firsts[0], ends[-1])
        chart = charts.line(
            span, [b for b in bars if b.values["it"] is not None], ["it"], frame, limit=target
        )
        made.append((title, _UNITS.get(name, ""), target, chart))
    return made


@router.get("/sites/{site}/costs")
def costs_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """Cost and emissions of a period, by load class, with tariffs and factor."""
    context = _context(request, site, caller, asked, "costs")
    context["shared"] = _shared(context["found"])
    context["shared_before"] = _shared(context["before"])
    rooms = _rooms(caller, site, context["found"])
    lines = weighted_kwh(rooms, context["site"].business_lines)
    names = {line.id: line.name or line.id for line in context["site"].business_lines}
    context["by_room"] = _shared(context["found"], rooms) if rooms else {}
    context["by_line"] = _shared(context["found"], lines) if lines else {}
    context["line_names"] = names
    return periods.keep(render.page(request, "costs.html", context), asked)


def _rooms(
    caller: Viewer, site: str, found: tuple[Indicators, Basis] | str | None
) -> dict[str, pd.Series[float]]:
    """Energy of the site by the IT energy of its rooms."""
    if found is None or isinstance(found, str):
        return {}
    with caller.read() as view:
        keys = site_days.rooms_it(view.connection, view.stored.site_id[site], found[1].known)
    return allotted_kwh(found[1].quarters["facility_kwh"], keys)


def _shared(
    found: tuple[Indicators, Basis] | str | None, parts: Mapping[str, pd.Series[float]] | None = None
) -> Mapping[str, Shared]:
    """Cost and emissions by `parts`, else by load class; empty where there are none."""
    if found is None or isinstance(found, str):
        return {}
    document, basis = found
    names = ["it", *(role.value for role in OVERHEAD_ROLES)]
    if parts is None:
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
        context["may_act"] = view.may(site, Role.OPERATOR)
        context["declarations"] = declarations.listing(view.connection, view.stored.site_id[site])
        reference = deployment.reference(view.connection)
        told = _told(view, context["site"], reference, documents.get("12mo"))
    coming = [(turn, row) for row in told.rows for turn in row.turns]
    context |= {"told": told, "coming": sorted(coming, key=lambda one: one[0].on)}
    known = reference.indicator_targets
    context["declarable"] = sorted({t.indicator for t in known} | set(_DECLARED))
    columns = {name: documents[name] for name in WINDOWS if name in documents}
    profiles = list(dict.fromkeys(v["profile"] for d in (*columns.values(), document) for v in d["verdicts"]))
    context |= {"columns": columns, "profiles": profiles, "document": document}
    return periods.keep(render.page(request, "compliance.html", context), asked)


def _told(view: View, site: Site, reference: Reference, year: figures.Document | None) -> Regulations:
    """What applies to a site today, and when it changes."""
    institution = view.stored.fleet.institution[site.institution]
    profiles = deployment.limit_profiles(view.connection)
    pue = None if year is None or year["kind"] != "annual" else year["pue"]
    today = view.now.astimezone(site.zone).date()
    return regulations.told(site, institution, profiles, reference, today, pue)


@router.post("/sites/{site}/declarations", dependencies=[FromOwnPage])
def declare(
    site: str,
    caller: Viewer,
    indicator: Annotated[str, Form(min_length=1, max_length=100)],
    value: Annotated[str, Form(max_length=40)],
    dated: Annotated[str, Form(max_length=10)],
    evidence: Annotated[str, Form(max_length=2000)],
) -> Response:
    """Declare an indicator with what supports it."""
    declared = Declared(
        indicator=indicator.strip(), value=_number(value), date=_day(dated), evidence=evidence.strip()
    )
    with caller.write() as view:
        actions.declare(view, site, declared)
    return RedirectResponse(f"/sites/{site}/compliance#declared", HTTPStatus.SEE_OTHER)


@router.post("/sites/{site}/declarations/{number}/withdraw", dependencies=[FromOwnPage])
def withdraw(site: str, number: int, caller: Viewer) -> Response:
    """Take a declaration back."""
    with caller.write() as view:
        actions.withdraw(view, site, number)
    return RedirectResponse(f"/sites/{site}/compliance#declared", HTTPStatus.SEE_OTHER)


def _number(text: str) -> float:
    try:
        return float(text.strip())
    except ValueError:
        raise SeriesError(f"value: {text!r} is no number; write it like 3") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise SeriesError(f"date: {text!r} is no day; write it like 2026-10-01") from None


@router.get("/sites/{site}/balance")
def balance_page(
    request: Request,
    site: str,
    caller: Viewer,
    asked: periods.OfMonth,
    node: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """What goes into every node of the metering tree against what comes out of it; the history of one."""
    words = Words(render.language_of(request))
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        balance: outlook.Balance | str
        try:
            balance = outlook.balance(view.connection, view.stored, found, chosen.period)
        except DataError as error:
            balance = str(error)
        rest = _rest(view, found, chosen, node, words) if node else None
    context = {
        "nav": "site",
        "tab": "balance",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "balance": balance,
        "rest": rest,
        "names": {m.id: m.name or m.id for m in found.meters},
    }
    return periods.keep(render.page(request, "balance.html", context), asked)


@dataclass(frozen=True)
class Rest:
    """The remainder of a node of the tree over a period, and what could be in it."""

    meters: tuple[str, ...]
    chart: Markup
    explanations: list[tree.Explanation]


def _rest(view: View, site: Site, chosen: Chosen, node: str, words: Words) -> Rest:
    """The history of what is not metered behind the meters of a node, named with spaces between."""
    state = site.at(chosen.period.end - timedelta(microseconds=1))
    feed = next((f for f in tree.feeds(state) if f.children and " ".join(f.meters) == node), None)
    if feed is None:
        raise NotFound(f"there is no node {node!r} in the metering tree; choose one of the balance")
    table = outlook.flows(view.connection, view.stored, state, chosen.period)
    step = step_of(chosen.period)
    course = tree.remainder_course(state, table, feed) if len(table) else pd.Series(dtype=float)
    bars = []
    for start, end in starts(chosen.period, step, site.zone):
        part = course[(course.index >= start) & (course.index < end)].dropna() if len(course) else course
        value = float(part.sum()) / (len(part) / 4) if len(part) else None
        bars.append(Bar(start, end, {"unmetered": value}))
    at, pattern = figures.labels(Span(chosen.period.start, chosen.period.end), site)
    title = words("Losses or unmetered")
    frame = ChartFrame(
        title,
        "kW",
        130,
        lambda t: t.strftime(pattern),
        at,
        zone=site.time_zone,
        names={"unmetered": title},
        texts={"gap": words("No data")},
        until=chosen.now,
    )
    chart = charts.line(Span(chosen.period.start, chosen.period.end), bars, ["unmetered"], frame)
    found = tree.explanations(state, table, feed) if len(table) else []
    return Rest(feed.meters, chart, found[:_MOST_EXPLANATIONS])
