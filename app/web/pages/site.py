"""One site: PUE by window, why it is what it is, its past, what moved, its outlook."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.actions.view import View
from app.charts import live as charts
from app.charts.live import ChartFrame
from app.domain import capacity
from app.domain.attribution import Attribution, attribute
from app.domain.capacity import Load
from app.domain.forecast import Exhaustion
from app.domain.period import WINDOWS, Period, window
from app.domain.site import Site
from app.errors import DataError
from app.store import deployment, outlook_cache, pue, usage
from app.store.outlook import YearOutlook
from app.web import render
from app.web.access import PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.pages import figures
from app.web.pages.figures import Document
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_CHARTS = ("24h", "7d", "13mo")
_OUTLOOKS = TimedCache()
_MOVED = TimedCache(life_s=60)


@router.get("/sites/{site}")
def site_page(request: Request, site: str, caller: Viewer, window: str = "24h") -> Response:
    """The figures of a site over all windows, one of them in full."""
    words = Words(render.language_of(request))
    chosen = window if window in WINDOWS else "24h"
    with caller.read() as view:
        found = view.site(site)
        documents = figures.evaluated(view)[site] or _fresh(view, found, caller.now)
        context: dict[str, Any] = {
            "nav": "site",
            "tab": "figures",
            "site": found,
            "now": caller.now,
            "windows": WINDOWS,
            "chosen": chosen,
            "documents": documents,
            "headline": figures.headline(documents),
            "document": documents[chosen],
            "judged": figures.judged(documents[chosen]),
            "shares": figures.shares(documents[chosen]),
            "live": figures.now_figures(view, caller.now)[site],
            "moved": _moved(view, found, chosen, caller.now),
            "charts_of": [_charts(view, found, name, caller.now, documents, words) for name in _CHARTS],
            "series": figures.SERIES,
        }
    return render.page(request, "site.html", context)


def _fresh(view: View, site: Site, now: datetime) -> dict[str, Document]:
    """The documents, computed here: the site is so new that it was never evaluated."""
    profiles = deployment.limit_profiles(view.connection)
    return {
        name: pue.document(
            view.connection, view.stored, site.id, window(name, now, site.zone), profiles
        ).as_dict()
        for name in WINDOWS
    }


def _charts(
    view: View, site: Site, name: str, now: datetime, documents: Mapping[str, Document], words: Words
) -> dict[str, Any]:
    span, bars = figures.series(view, site, name, now)
    at, pattern = figures.labels(name, span, site)
    title = words({"24h": "24 hours", "7d": "7 days", "13mo": "13 months"}[name])
    unknown = words("verdict:unknown")
    _, limit, _ = figures.judged(documents["24h"])

    def frame(what: str, unit: str, height: int) -> ChartFrame:
        return ChartFrame(f"{what}, {title}", unit, height, lambda t: t.strftime(pattern), at)

    powers = figures.power_bars(bars)
    return {
        "name": name,
        "title": title,
        "steps": words({"24h": "15-minute values", "7d": "Hourly values", "13mo": "Monthly values"}[name]),
        "known": bool(bars),
        "pue": charts.line(
            span, figures.pue_bars(bars, site, unknown), ["pue"], frame("PUE", "", 120), limit=limit
        ),
        "power": charts.stack(span, powers, figures.SERIES, frame(words("Mean power"), "kW", 120)),
    }


def _moved(view: View, site: Site, chosen: str, now: datetime) -> tuple[Attribution, Period] | str:
    """The change against the stretch of equal length before, or why it cannot be said."""
    period = window(chosen, now, site.zone)
    before = Period(period.start - (period.end - period.start), period.start)

    def compute() -> tuple[Attribution, Period] | str:
        try:
            baseline = usage.split(view.connection, view.stored, site, before)
            return attribute(baseline, usage.split(view.connection, view.stored, site, period)), before
        except DataError as error:
            return str(error)

    key = (id(view.connection.engine), view.stored.site_id[site.id], chosen, period.end)
    return _MOVED.get(key, compute)


@router.get("/sites/{site}/outlook")
def outlook_page(request: Request, site: str, caller: Viewer) -> Response:
    """Where the year is going: projection, budget of each limit, full capacity."""
    with caller.read() as view:
        found = view.site(site)
        key = (id(view.connection.engine), view.stored.site_id[site])
        year, full, load = _OUTLOOKS.get(key, lambda: _outlook(view, found, caller.now))
    context = {
        "nav": "site",
        "tab": "outlook",
        "site": found,
        "year": year,
        "budgets": list({limit.pue: (limit, budget) for limit, budget in year.budgets}.values()),
        "profiles": _profiles(year),
        "full": full,
        "load": load,
        "now": caller.now,
    }
    return render.page(request, "outlook.html", context)


def _profiles(year: YearOutlook) -> dict[float, list[str]]:
    """Names of the profiles that set each limit."""
    found: dict[float, list[str]] = {}
    for limit, _ in year.budgets:
        found.setdefault(limit.pue, []).append(limit.profile)
    return found


def _outlook(view: View, site: Site, now: datetime) -> tuple[YearOutlook, Exhaustion | None, Load]:
    profiles = deployment.limit_profiles(view.connection)
    year = outlook_cache.this_year(view.connection, view.stored, site, profiles, now)
    full = outlook_cache.exhaustions(view.connection, view.stored, site, now).it
    span = window("30d", now, site.zone)
    table = usage.frame(view.connection, view.stored, usage.it_points(site), span)
    return year, full, capacity.it_load(usage.it_energy(site, table), site)
