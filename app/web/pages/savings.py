"""Did it save? Measures with their verified saving, the PUE without weather and load, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from app.actions import baselines as freezing
from app.actions import measures as actions
from app.actions.view import View
from app.charts import live as charts
from app.charts.live import Bar, ChartFrame, Span
from app.domain.access import Role
from app.domain.baseline import Reason, Resolution
from app.domain.measure import Adjustment, Boundary, Measure, Scope
from app.domain.period import Period, midnight
from app.domain.proposal import Proposal, proposal
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.savings import Course
from app.domain.site import Site
from app.domain.verification import SiteSavings, Verified, next_month
from app.errors import SeriesError
from app.reports.document import NormalisedRow, Savings, VerifiedSaving
from app.reports.savings import build
from app.store import alarms, baselines, measures, savings
from app.store.alarms import StoredAlarm
from app.store.baselines import Frozen
from app.web import render
from app.web.access import FromOwnPage, PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.pages import figures
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_SAVINGS = TimedCache(life_s=120)
_OFFERED = TimedCache(life_s=120)
_KWH_PER_MWH = 1000
_MOST_DRIFTS = 5
_HEIGHT, _LABELS = 180, 4


@dataclass(frozen=True)
class Shown:
    """A statement as a document, with its cumulative saving drawn."""

    document: VerifiedSaving
    chart: Markup | None
    leaves_on: date | None
    """From when on the cumulative saving is no longer within what may be chance."""
    expected_kwh: float | None
    """Saving that was expected for the counted days."""


def _drifted(view: View, site: str) -> list[StoredAlarm]:
    """Alarms of a plant that uses more than its own baseline, the newest first."""
    number = view.stored.site_id[site]
    return alarms.listing(view.connection, [number], "all", part="drift", limit=_MOST_DRIFTS)


@router.get("/sites/{site}/savings")
def savings_page(request: Request, site: str, caller: Viewer) -> Response:
    """What the measures saved, in words; the normalised PUE; the ledger with its forms."""
    words = Words(render.language_of(request))
    with caller.read() as view:
        found = view.site(site)
        entries = measures.listing(view.connection, view.stored.site_id[site])
        ledger = tuple((e.id, e.withdrawn_at, len(e.in_force)) for e in entries)
        known = _figures(view, found, ledger)
        may_act = view.may(site, Role.OPERATOR)
        drifted = _drifted(view, site)
        frozen = [one for one in _frozen(view, site) if one.baseline.resolution is Resolution.DAY]
        offered = None if frozen else _offered(view, found, ledger, known)
    document = build(found.id, found.currency, known)
    context = {
        "nav": "site",
        "tab": "savings",
        "site": found,
        "now": caller.now,
        "document": document,
        "shown": _shown(found, known, document, words),
        "normalised": _normalised_chart(found, document.normalised_pue, words),
        "entries": entries,
        "drifted": drifted,
        "frozen": frozen[0] if frozen else None,
        "offered": offered,
        "may_act": may_act,
        "boundaries": _boundaries(found),
        "because": lambda one: Reason(one.code, one.values).text(words.language),
        "where": lambda text: where(words, found, text),
    }
    return render.page(request, "savings.html", context)


def _offered(view: View, site: Site, ledger: tuple[object, ...], known: SiteSavings) -> Proposal | None:
    key = (id(view.connection.engine), view.stored.site_id[site.id], known.until, ledger)
    return _OFFERED.get(key, lambda: proposal(known.plant.rows, known.measures, known.until))


def _frozen(view: View, site: str) -> list[Frozen]:
    return baselines.listing(view.connection, view.stored.site_id[site])


@router.post("/sites/{site}/baseline", dependencies=[FromOwnPage])
def freeze(
    site: str,
    caller: Viewer,
    start: Annotated[str, Form(max_length=10)],
    end: Annotated[str, Form(max_length=10)],
) -> Response:
    """Freeze the baseline of a span of days, as it was shown."""
    first, last = _day(start, "start"), _day(end, "end")
    if first is None or last is None or last <= first:
        raise SeriesError("start, end: both are needed, the end after the start")
    with caller.write() as view:
        zone = view.site(site).zone
        freezing.freeze(view, site, Period(midnight(first, zone), midnight(last, zone)))
    return RedirectResponse(f"/sites/{site}/savings#baseline", HTTPStatus.SEE_OTHER)


def _figures(view: View, site: Site, ledger: tuple[object, ...]) -> SiteSavings:
    until = view.now.astimezone(site.zone).date()
    key = (id(view.connection.engine), view.stored.site_id[site.id], until, ledger)
    return _SAVINGS.get(key, lambda: savings.gather(view.connection, view.stored, site, until))


def _shown(site: Site, known: SiteSavings, document: Savings, words: Words) -> list[Shown]:
    """The statements, those of the newest days first."""
    made = [
        _one(site, verified, one, words)
        for verified, one in zip(known.verified, document.statements, strict=True)
    ]
    return sorted(made, key=lambda one: (one.document.in_total, one.document.spans[-1]), reverse=True)


def _one(site: Site, verified: Verified, document: VerifiedSaving, words: Words) -> Shown:
    course = verified.course
    chart = None if course is None else _course_chart(site, course, words)
    stated = [m.expected_kwh_per_year for m in document.measures]
    known = [kwh for kwh in stated if kwh is not None]
    expected = sum(known) * document.counted_days / 365 if len(known) == len(stated) else None
    return Shown(document, chart, None if course is None else course.leaves_on, expected)


def _course_chart(site: Site, course: Course, words: Words) -> Markup:
    """The saving summed up day by day, with the band within which it may be chance. [MWh]"""
    days = course.days.astype("datetime64[D]").tolist()
    bars = [
        Bar(*_ends(site, day), {"it": kwh / _KWH_PER_MWH, "low": -limit / 1000, "high": limit / 1000})
        for day, kwh, limit in zip(days, course.saved_kwh.tolist(), course.limit_kwh.tolist(), strict=True)
    ]
    span = Span(bars[0].start, bars[-1].end)
    title = words("Saved since the measure, MWh")
    names = {"it": words("saved up to this day"), "high": words("may be chance up to")}
    frame = _frame(site, title, "MWh", span, names, 1)
    return charts.line(span, bars, ["it"], frame, band=("low", "high"), limit=0.0)


def _normalised_chart(site: Site, rows: Sequence[NormalisedRow], words: Words) -> Markup | None:
    """Measured and normalised PUE by month."""
    if not any(row.pue for row in rows):
        return None
    bars = [_month_bar(site, row) for row in rows]
    span = Span(bars[0].start, bars[-1].end)
    names = {"it": words("Normalised PUE"), "unmetered": words("Measured PUE")}
    frame = _frame(site, words("PUE by month"), "", span, names, 3)
    return charts.line(span, bars, ["unmetered", "it"], frame, band=("low", "high"))


def _month_bar(site: Site, row: NormalisedRow) -> Bar:
    first = date.fromisoformat(f"{row.period}-01")
    ends = (midnight(first, site.zone), midnight(next_month(first), site.zone))
    own = row.pue
    known = {} if own is None else {"it": own.value, "low": own.low, "high": own.high}
    return Bar(*ends, {**known, "unmetered": row.measured_pue})


def _ends(site: Site, day: date) -> tuple[datetime, datetime]:
    return midnight(day, site.zone), midnight(day + timedelta(days=1), site.zone)


def _frame(
    site: Site, title: str, unit: str, span: Span, names: Mapping[str, str], digits: int
) -> ChartFrame:
    at, pattern = figures.labels(span, site)
    return ChartFrame(
        title,
        unit,
        _HEIGHT,
        lambda t: f"{t.astimezone(site.zone):{pattern}}",
        at[:: max(len(at) // _LABELS, 1)],
        zone=site.time_zone,
        names=names,
        digits=digits,
    )


def _boundaries(site: Site) -> list[str]:
    """Boundaries that can be chosen: the facility, the classes that are metered, meters of non-IT energy."""
    made = [Boundary(Scope.FACILITY)]
    made += [Boundary(Scope.LOAD_CLASS, role.value) for role in OVERHEAD_ROLES if site.carriers(role)]
    meters = [Boundary(Scope.METER, m.id) for m in site.meters]
    return [str(one) for one in (*made, *(m for m in meters if m.points(site)))]


def where(words: Words, site: Site, text: str) -> str:
    """A measurement boundary in words."""
    boundary = Boundary.parse(text)
    if boundary.scope is Scope.FACILITY:
        return words("whole facility, all non-IT energy")
    if boundary.scope is Scope.LOAD_CLASS:
        return words(f"class:{boundary.name}")
    names = {m.id: m.name or m.id for m in site.meters}
    return words("meter {name}", name=names.get(boundary.name, boundary.name))


@router.post("/sites/{site}/measures", dependencies=[FromOwnPage])
def declare(
    site: str,
    caller: Viewer,
    key: Annotated[str, Form(max_length=60)],
    what: Annotated[str, Form(max_length=500)],
    boundary: Annotated[str, Form(max_length=120)],
    implementation_start: Annotated[str, Form(max_length=10)],
    evidence: Annotated[str, Form(max_length=2000)],
    implementation_end: Annotated[str, Form(max_length=10)] = "",
    baseline_start: Annotated[str, Form(max_length=10)] = "",
    baseline_end: Annotated[str, Form(max_length=10)] = "",
    reporting_end: Annotated[str, Form(max_length=10)] = "",
    cost: Annotated[str, Form(max_length=40)] = "",
    expected_kwh_per_year: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    """Declare a measure."""
    start = _day(implementation_start, "implementation_start")
    if start is None:
        raise SeriesError("implementation_start: is empty; give the first day of the work")
    stated: dict[str, Any] = {
        "key": key.strip(),
        "what": what.strip(),
        "where": Boundary.parse(boundary),
        "implementation_start": start,
        "implementation_end": _day(implementation_end, "implementation_end"),
        "baseline_start": _day(baseline_start, "baseline_start"),
        "baseline_end": _day(baseline_end, "baseline_end"),
        "reporting_end": _day(reporting_end, "reporting_end"),
        "cost": _number(cost, "cost"),
        "expected_kwh_per_year": _number(expected_kwh_per_year, "expected_kwh_per_year"),
        "evidence": evidence.strip(),
    }
    with caller.write() as view:
        actions.add(view, site, Measure.declared(**stated))
    return _back(site)


@router.post("/sites/{site}/measures/{key}/withdraw", dependencies=[FromOwnPage])
def withdraw(site: str, key: str, caller: Viewer) -> Response:
    """Take a measure back."""
    with caller.write() as view:
        actions.withdraw(view, site, key)
    return _back(site)


@router.post("/sites/{site}/measures/{key}/adjustments", dependencies=[FromOwnPage])
def adjust(
    site: str,
    key: str,
    caller: Viewer,
    start: Annotated[str, Form(max_length=10)],
    end: Annotated[str, Form(max_length=10)],
    energy_kwh: Annotated[str, Form(max_length=40)],
    reason: Annotated[str, Form(max_length=2000)],
) -> Response:
    """Note a non-routine adjustment."""
    first, last, energy = _day(start, "start"), _day(end, "end"), _number(energy_kwh, "energy_kwh")
    if first is None or last is None or energy is None:
        raise SeriesError("start, end, energy_kwh: all three are needed")
    wanted = Adjustment(measure=key, start=first, end=last, energy_kwh=energy, reason=reason.strip())
    with caller.write() as view:
        actions.adjust(view, site, wanted)
    return _back(site)


@router.post("/sites/{site}/measures/{key}/adjustments/{number}/withdraw", dependencies=[FromOwnPage])
def withdraw_adjustment(site: str, key: str, number: int, caller: Viewer) -> Response:
    """Take an adjustment back."""
    with caller.write() as view:
        actions.withdraw_adjustment(view, site, key, number)
    return _back(site)


def _back(site: str) -> Response:
    return RedirectResponse(f"/sites/{site}/savings#ledger", HTTPStatus.SEE_OTHER)


def _day(text: str, name: str) -> date | None:
    try:
        return date.fromisoformat(text.strip()) if text.strip() else None
    except ValueError:
        raise SeriesError(f"{name}: {text!r} is no day; write it like 2026-10-01") from None


def _number(text: str, name: str) -> float | None:
    try:
        return float(text.strip().replace(" ", "")) if text.strip() else None
    except ValueError:
        raise SeriesError(f"{name}: {text!r} is no number; write it like 1234.5") from None
