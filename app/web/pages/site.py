"""One site: PUE of any period, why it is what it is, what it is compared with, its outlook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import pandas as pd
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from app.actions.view import View
from app.charts import live as charts
from app.charts.live import Bar, ChartFrame, Span
from app.domain import capacity, forecast
from app.domain.access import Role
from app.domain.attribution import Attribution, Causes, attribute
from app.domain.baseline import Reason
from app.domain.capacity import Load
from app.domain.forecast import Exhaustion
from app.domain.normalised import NormalisedPue
from app.domain.period import WINDOWS, Period, midnight, window
from app.domain.period import year as year_period
from app.domain.site import Site
from app.domain.verification import whole_days
from app.errors import DataError
from app.reports.charges import forecast_row
from app.store import deployment, outlook, outlook_cache, pue, usage
from app.store.outlook import YearOutlook
from app.web import periods, render
from app.web.access import PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.pages import figures
from app.web.pages.figures import Document
from app.web.pages.trend import Trend
from app.web.periods import Chosen
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_YEAR_BEFORE = Query(ge=1990, le=2199)
_OUTLOOKS = TimedCache()
_CHARTS = TimedCache()
_MOVED = TimedCache(life_s=60)


@router.get("/sites/{site}")
def site_page(request: Request, site: str, caller: Viewer, asked: periods.OfPage) -> Response:
    """The figures of a site over the period that is asked, beside those of all windows."""
    words = Words(render.language_of(request))
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        documents = figures.evaluated(view)[site] or _fresh(view, found, caller.now)
        document = figures.document(view, found, chosen.period, documents.get(chosen.window))
        context: dict[str, Any] = {
            "nav": "site",
            "tab": "figures",
            "site": found,
            "now": caller.now,
            "windows": WINDOWS,
            "chosen": chosen,
            "documents": documents,
            "headline": figures.headline(documents),
            "document": document,
            "judged": figures.judged(document),
            "shares": figures.shares(document),
            "compared": _compared(view, found, chosen),
            "live": figures.now_figures(view, caller.now)[site],
            "moved": _moved(view, found, chosen),
            "normalised": _normalised(view, found, chosen.period),
            "is_unfrozen": view.may(site, Role.OPERATOR) and bool(figures.unfrozen(view, [found])),
            "chart": Trend.of(view, found, chosen, figures.judged(document)[1], words),
            "words": words,
            "series": figures.SERIES,
        }
    return periods.keep(render.page(request, "site.html", context), asked)


def _fresh(view: View, site: Site, now: datetime) -> dict[str, Document]:
    """The documents, computed here: the site is so new that it was never evaluated."""
    profiles = deployment.limit_profiles(view.connection)
    return {
        name: pue.document(
            view.connection, view.stored, site.id, window(name, now, site.zone), profiles
        ).as_dict()
        for name in WINDOWS
    }


@dataclass(frozen=True)
class Compared:
    """The figures of the period that the chosen one is compared with."""

    document: Document

    @property
    def shares(self) -> dict[str, float]:
        """Overhead of each class by IT energy; empty where there is no PUE."""
        return dict(figures.shares(self.document))


def _compared(view: View, site: Site, chosen: Chosen) -> Compared | None:
    if chosen.against is None:
        return None
    return Compared(figures.document(view, site, chosen.against))


def _normalised(view: View, site: Site, period: Period) -> NormalisedPue | None:
    """PUE of the whole days of a period without weather and load; None where there is no such figure."""
    first, last = whole_days(period, site.zone)
    found = figures.plant(view, site).normalised(first, last) if last > first else None
    return None if found is None or found.pue is None else found


def _moved(
    view: View, site: Site, chosen: Chosen
) -> tuple[Attribution, Period, Causes | tuple[Reason, ...]] | str:
    """The change against what is compared, else against the period before; or why it cannot be said."""
    period = chosen.period
    before = chosen.against or chosen.asked.previous(period, site.zone)

    def compute() -> tuple[Attribution, Period, Causes | tuple[Reason, ...]] | str:
        try:
            baseline = usage.split(view.connection, view.stored, site, before)
            now = usage.split(view.connection, view.stored, site, period)
        except DataError as error:
            return str(error)
        days = (whole_days(before, site.zone), whole_days(period, site.zone))
        return attribute(baseline, now), before, figures.plant(view, site).causes(baseline, now, days)

    key = (id(view.connection.engine), view.stored.site_id[site.id], period, before)
    return _MOVED.get(key, compute)


@router.get("/sites/{site}/outlook")
def outlook_page(
    request: Request, site: str, caller: Viewer, year: Annotated[int | None, _YEAR_BEFORE] = None
) -> Response:
    """Where a year is going, this one where none is named: projection, budgets, full capacity."""
    with caller.read() as view:
        found = view.site(site)
        wanted = year or caller.now.astimezone(found.zone).year
        key = (id(view.connection.engine), view.stored.site_id[site], wanted)
        figures_of_year, full, load = _OUTLOOKS.get(key, lambda: _outlook(view, found, wanted, caller.now))
        words = Words(render.language_of(request))
        drawn = _CHARTS.get(
            (*key, words.language), lambda: _charts(view, found, wanted, figures_of_year, words)
        )
    context = {
        "nav": "site",
        "tab": "outlook",
        "site": found,
        "year": figures_of_year,
        "budgets": list({limit.pue: (limit, budget) for limit, budget in figures_of_year.budgets}.values()),
        "profiles": _profiles(figures_of_year),
        "surcharges": [forecast_row(one, 3) for one in figures_of_year.surcharges],
        "full": full,
        "load": load,
        "now": caller.now,
        **drawn,
    }
    return render.page(request, "outlook.html", context)


def _charts(
    view: View, site: Site, wanted: int, found: YearOutlook, words: Words
) -> dict[str, Markup | None]:
    """The year by month with what is projected, the overhead against its budget, and the growing load."""
    whole = year_period(str(wanted), site.zone)
    days = outlook.days(view.connection, view.stored, site, min(view.now, whole.end))
    course = forecast.year_course(
        days[["facility_kwh", "it_kwh", "coverage_ratio"]],
        wanted,
        minimum_coverage_ratio=site.minimum_coverage_ratio,
    )
    span = Span(whole.start, whole.end)
    starts_of = [midnight(date(wanted, month, 1), site.zone) for month in range(1, 13)]

    def bar(point: forecast.YearPoint, values: dict[str, float | None]) -> Bar:
        month = point.day.month
        return Bar(starts_of[month - 1], starts_of[month] if month < 12 else span.end, values)

    def frame(title: str, unit: str, digits: int) -> ChartFrame:
        label = partial(_month_label, zone=site.zone)
        names = {"it": title}
        return ChartFrame(title, unit, 130, label, starts_of[::2], site.time_zone, names, digits)

    strictest = min(found.budgets, key=lambda one: one[0].pue, default=None)
    pue = [bar(p, {"it": p.pue, "low": p.low, "high": p.high}) for p in course]
    used = [bar(p, {"it": p.overhead_kwh / 1000}) for p in course]
    allowed = strictest[1].allowed_kwh if strictest else None
    limit = strictest[0].pue if strictest else None
    title, spent = words("PUE of the year up to each month"), words("Overhead energy of the year, MWh")
    return {
        "course": charts.line(span, pue, ["it"], frame(title, "", 3), limit=limit, band=("low", "high"))
        if pue
        else None,
        "spent": charts.line(
            span, used, ["it"], frame(spent, "MWh", 1), limit=allowed / 1000 if allowed else None, floor=0.0
        )
        if used
        else None,
        "growth": _growth(site, days, words),
    }


def _month_label(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m}"


def _growth(site: Site, days: pd.DataFrame, words: Words) -> Markup | None:
    """Highest IT power of each month, measured and expected, against the design capacity."""
    capacity_kw, peaks = site.design.it_capacity_kw, days["it_peak_kw"].dropna()
    line = forecast.growth(peaks) if capacity_kw is not None else ()
    if not line or capacity_kw is None:
        return None
    measured = peaks.iloc[-400:].resample("MS").max().dropna()
    at = [midnight(day.date(), site.zone) for day in measured.index]
    known = [
        Bar(start, end, {"it": float(value)})
        for start, end, value in zip(
            at, [*at[1:], midnight(line[0].day, site.zone)], measured.to_numpy(), strict=True
        )
        if end > start
    ]
    ahead = [midnight(point.day, site.zone) for point in line]
    expected = [
        Bar(start, end, {"it": p.expected_kw, "low": p.low_kw, "high": p.high_kw})
        for start, end, p in zip(ahead, ahead[1:], line, strict=False)
    ]
    span = Span(known[0].start if known else ahead[0], ahead[-1])
    title = words("Highest IT power, measured and expected")
    labels = [*at, *ahead][:: max(len([*at, *ahead]) // 7, 1)]
    label = partial(_month_label, zone=site.zone)
    frame = ChartFrame(title, "kW", 130, label, labels, site.time_zone, {"it": title})
    return charts.line(span, [*known, *expected], ["it"], frame, limit=capacity_kw, band=("low", "high"))


def _profiles(year: YearOutlook) -> Mapping[float, list[str]]:
    """Names of the profiles that set each limit."""
    found: dict[float, list[str]] = {}
    for limit, _ in year.budgets:
        found.setdefault(limit.pue, []).append(limit.profile)
    return found


def _outlook(view: View, site: Site, year: int, now: datetime) -> tuple[YearOutlook, Exhaustion | None, Load]:
    profiles = deployment.limit_profiles(view.connection)
    if year == now.astimezone(site.zone).year:
        figures_of_year = outlook_cache.this_year(view.connection, view.stored, site, profiles, now)
    else:
        figures_of_year = outlook.year_outlook(view.connection, view.stored, site, year, profiles, now)
    full = outlook_cache.exhaustions(view.connection, view.stored, site, now).it
    span = window("30d", now, site.zone)
    table = usage.frame(view.connection, view.stored, usage.it_points(site), span)
    return figures_of_year, full, capacity.it_load(usage.it_energy(site, table), site)
