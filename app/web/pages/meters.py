"""The meters of a site, and one meter with its register, energy and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from app.actions.view import View
from app.charts import live as charts
from app.charts.live import Bar, ChartFrame, Mark, Span
from app.domain.asked import step_of
from app.domain.period import Period, Step, starts
from app.domain.quantity import ENERGY_KINDS, ReadingKind
from app.domain.site import Meter, Point, Site
from app.store import energy, events, findings, readings, sums
from app.store.events import LedgerEntry
from app.store.findings import StoredFinding
from app.store.readings import Latest, from_us
from app.store.sums import PointEnergy
from app.web import format, periods, render
from app.web.access import PageRoute, Viewer
from app.web.pages import figures
from app.web.periods import Chosen
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

FRESH_INTERVALS, SILENT_INTERVALS = 3, 20
"""A meter is late after so many of its intervals without a reading, and silent after so many."""
SHORTEST_INTERVAL_S = 60
_STATES = ("silent", "never", "late", "fresh")
_PAGE = 100
"""Meters on one page."""
_LEAST_S = {Step.QUARTER_HOUR: 900, Step.HOUR: 3600, Step.DAY: 82_800, Step.MONTH: 28 * 86_400}
"""Length of the shortest whole bar of each step. [s]"""
_LONGEST_RAW_S = 62 * 86_400
"""Longest period of which single readings are drawn; of a longer one its energy is. [s]"""
_DRAWN = 400
"""Most readings in a chart; more cannot be distinguished."""


@dataclass(frozen=True)
class Row:
    """A meter and how it is doing."""

    meter: Meter
    state: str
    """fresh, late, silent, or never where nothing was ever read."""
    last_at: datetime | None
    lateness: timedelta | None
    power_kw: float | None
    findings: int
    energy_kwh: float | None = None
    """Over the period of the page."""


def row(meter: Meter, newest: Mapping[str, Latest], found: Mapping[str, int], now: datetime) -> Row:
    """How a meter is doing at `now`."""
    heard = [(newest[p.id].at, p.interval_s) for p in meter.points if p.id in newest]
    powers = [newest[p.id].value for p in meter.points if p.id in newest and p.kind is ReadingKind.POWER]
    count = sum(found.get(p.id, 0) for p in meter.points)
    if not heard:
        return Row(meter, "never", None, None, None, count)
    last_at, interval_s = max(heard)
    lateness = max(now - last_at, timedelta(0))
    steps = lateness / timedelta(seconds=max(interval_s, SHORTEST_INTERVAL_S))
    state = "fresh" if steps <= FRESH_INTERVALS else "late" if steps <= SILENT_INTERVALS else "silent"
    return Row(meter, state, last_at, lateness, sum(powers) if powers else None, count)


def rows(view: View, site: Site, now: datetime) -> list[Row]:
    """Every meter of a site, those that need a look first."""
    newest = {one.point: one for one in readings.latest(view.connection, site.id)}
    open_findings = findings.listing(view.connection, view.stored.site_id[site.id])
    found = Counter(f.point for f in open_findings if f.state == findings.OPEN)
    made = [row(meter, newest, found, now) for meter in site.at(now).meters]
    return sorted(made, key=lambda one: _STATES.index(one.state))


@router.get("/sites/{site}/meters")
def meters_page(
    request: Request,
    site: str,
    caller: Viewer,
    asked: periods.OfPage,
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    """State, last reading and energy of every meter: those that need a look first, then by their energy."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        known = rows(view, found, caller.now)
        energies = _energies(view, found, [one.meter for one in known], chosen.period)
    listed = [replace(one, energy_kwh=energies.get(one.meter.id)) for one in known]
    listed.sort(key=lambda one: (_STATES.index(one.state), -(one.energy_kwh or 0.0)))
    context = {
        "nav": "site",
        "tab": "meters",
        "site": found,
        "chosen": chosen,
        "rows": listed[_PAGE * (page - 1) : _PAGE * page],
        "count": len(listed),
        "pages": range(1, (len(listed) - 1) // _PAGE + 2),
        "page": page,
        "counts": Counter(one.state for one in listed),
        "now": caller.now,
    }
    return periods.keep(render.page(request, "meters.html", context), asked)


def _energies(view: View, site: Site, meters: Sequence[Meter], period: Period) -> dict[str, float]:
    """Energy of the point of each meter that carries it, where something is covered. [kWh]"""
    main = {m.id: p for m in meters if (p := _main_point(m)) and p.kind in ENERGY_KINDS}
    numbers = {view.stored.point_id[p.id]: m for m, p in main.items()}
    found = sums.by_point(view.connection, site, list(numbers), period)
    return {numbers[n]: one.energy_kwh for n, one in found.items() if one.covered_s}


@router.get("/meters/{meter}")
def meter_page(request: Request, meter: str, caller: Viewer, asked: periods.OfPage) -> Response:
    """One meter: register, energy and events on one axis of time; its points, findings and ledger."""
    words = Words(render.language_of(request))
    with caller.read() as view:
        site, found = view.meter(meter)
        chosen = Chosen.of(asked, caller.now, site.zone)
        newest = {one.point: one for one in readings.latest(view.connection, site.id)}
        own = {p.id for p in found.points}
        number = view.stored.site_id[site.id]
        listed = [f for f in findings.listing(view.connection, number) if f.point in own]
        ledger = _ledger(view, site, found)
        drawn = _drawn(view, site, found, chosen, listed, ledger, words)
        sums = _sums(view, site, found, chosen)
        profile = _profile(view, site, found, chosen.period, words)
    context = {
        "nav": "site",
        "tab": "meters",
        "site": site,
        "meter": found,
        "row": row(found, newest, Counter(f.point for f in listed), caller.now),
        "newest": newest,
        "findings": listed,
        "ledger": ledger,
        "chosen": chosen,
        "sums": sums,
        "profile": profile,
        "now": caller.now,
        **drawn,
    }
    return periods.keep(render.page(request, "meter.html", context), asked)


@dataclass(frozen=True)
class EnergySum:
    """Energy of a point over a period; NaN-free: None where nothing is covered."""

    point: str
    energy_kwh: float | None
    coverage_ratio: float
    estimated_ratio: float
    before_kwh: float | None


def _sums(view: View, site: Site, meter: Meter, chosen: Chosen) -> list[EnergySum]:
    """Energy of each point over the period, and over the one that it is compared with."""
    numbers = {view.stored.point_id[p.id]: p.id for p in meter.points if p.kind in ENERGY_KINDS}
    found = sums.by_point(view.connection, site, list(numbers), chosen.period)
    before = sums.by_point(view.connection, site, list(numbers), chosen.against) if chosen.against else {}
    made = []
    for number, point in numbers.items():
        now, then = found.get(number, PointEnergy()), before.get(number, PointEnergy())
        made.append(
            EnergySum(
                point,
                now.energy_kwh if now.covered_s else None,
                min(now.covered_s / chosen.period.duration_s, 1.0),
                min(now.estimated_s / chosen.period.duration_s, 1.0),
                then.energy_kwh if then.covered_s else None,
            )
        )
    return made


def _profile(view: View, site: Site, meter: Meter, period: Period, words: Words) -> Markup | None:
    """Mean power by hour of the local day; None where the period is too short or long for it."""
    point = _main_point(meter)
    if point is None or point.kind not in ENERGY_KINDS or not 86_400 < period.duration_s <= _LONGEST_RAW_S:
        return None
    number = view.stored.point_id[point.id]
    of_hour: dict[int, list[float]] = {}
    for one in energy.series_by_point(view.connection, site, [number], period, Step.HOUR):
        hours = one.energy.covered_s / 3600
        if hours > 0:
            of_hour.setdefault(one.start.astimezone(site.zone).hour, []).append(one.energy.energy_kwh / hours)
    day = datetime(2026, 1, 1, tzinfo=UTC)  # any day: only its hours are shown
    begins = [day + timedelta(hours=h) for h in range(25)]
    bars = [Bar(begins[h], begins[h + 1], {"power": float(np.mean(of_hour[h]))}) for h in sorted(of_hour)]
    title = words("Mean power by hour of the day")
    frame = ChartFrame(title, "kW", 110, labels=begins[::6], names={"power": title})
    return charts.line(Span(begins[0], begins[24]), bars, ["power"], frame, floor=0.0) if bars else None


def _ledger(view: View, site: Site, meter: Meter) -> list[LedgerEntry]:
    number = view.stored.meter_id[meter.id]
    points = {view.stored.point_id[p.id] for p in meter.points}
    entries = events.listing(view.connection, view.stored.site_id[site.id])
    return [e for e in entries if e.meter_id == number or e.point_id in points]


def _drawn(
    view: View,
    site: Site,
    meter: Meter,
    chosen: Chosen,
    found: Sequence[StoredFinding],
    ledger: Sequence[LedgerEntry],
    words: Words,
) -> dict[str, Any]:
    period = chosen.period
    span, step = Span(period.start, period.end), step_of(period)
    at, pattern = figures.labels(span, site)
    marks = _marks(span, found, ledger, words)
    point = _main_point(meter)

    def frame(title: str, unit: str, name: str) -> ChartFrame:
        return ChartFrame(
            title,
            unit,
            130,
            lambda t: t.strftime(pattern),
            at,
            zone=site.time_zone,
            names={name: title},
            texts={"gap": words("No data"), "estimated": words("Partly estimated")},
            until=chosen.now,
        )

    if point is None:
        return {"raw": None, "energy_chart": None, "point": None}
    raw = _raw(view, point, period) if period.duration_s <= _LONGEST_RAW_S else []
    unit = format.unit(point.quantity.house_unit)
    gap = max(timedelta(seconds=SILENT_INTERVALS * point.interval_s), (period.end - period.start) / 50)
    title = words("Readings of {point}", point=point.id)
    bars = _energy_bars(view, site, point, period, step)
    return {
        "point": point,
        "steps": words(f"step:{step.value}"),
        "is_long": period.duration_s > _LONGEST_RAW_S,
        "raw": charts.curve(span, raw, frame(title, unit, "value"), gap=gap, marks=marks) if raw else None,
        "energy_chart": charts.line(
            span,
            bars,
            ["energy"],
            frame(words("Energy"), "kWh", "energy"),
            floor=0.0,
            marks=marks,
            ghost=_ghost(view, site, point, chosen),
        )
        if bars
        else None,
    }


def _ghost(view: View, site: Site, point: Point, chosen: Chosen) -> list[Bar]:
    """Energy over the compared period, moved onto the axis of the chosen one, in bars of the same width."""
    if chosen.against is None:
        return []
    bars = _energy_bars(view, site, point, chosen.against, step_of(chosen.period))
    return figures.moved(bars, chosen.against, chosen.period)


def _main_point(meter: Meter) -> Point | None:
    """The point to draw: the one that carries the energy, else any."""
    ordered = sorted(meter.points, key=lambda p: ENERGY_KINDS.index(p.kind) if p.kind in ENERGY_KINDS else 99)
    return ordered[0] if ordered else None


def _raw(view: View, point: Point, period: Period) -> list[tuple[datetime, float]]:
    """Readings as they came, thinned to what can be drawn; the extremes of each stretch stay."""
    columns = readings.load(view.connection, view.stored.point_id[point.id], period.start, period.end)
    count = len(columns)
    if count <= _DRAWN:
        keep = np.arange(count)
    else:
        parts = np.array_split(np.arange(count), _DRAWN // 2)
        value = columns.value
        ends = [(part[np.argmin(value[part])], part[np.argmax(value[part])]) for part in parts]
        keep = np.unique(np.array(ends).ravel())
    return [(from_us(int(columns.at_us[i])), float(columns.value[i])) for i in keep]


def _energy_bars(view: View, site: Site, point: Point, period: Period, step: Step) -> list[Bar]:
    if point.kind not in ENERGY_KINDS:
        return []
    number = view.stored.point_id[point.id]
    found = energy.series_by_point(view.connection, site, [number], period, step)
    ends = dict(starts(period, step, site.zone))
    out = []
    for one in found:
        end = ends.get(one.start)
        if end is None or (end == period.end and (end - one.start).total_seconds() < _LEAST_S[step]):
            continue  # only part of the step lies in the period: its energy would look like a fall
        share = one.energy.estimated_s / (end - one.start).total_seconds()
        out.append(Bar(one.start, end, {"energy": one.energy.energy_kwh}, estimated_ratio=share))
    return out


def _marks(
    span: Span, found: Sequence[StoredFinding], ledger: Sequence[LedgerEntry], words: Words
) -> list[Mark]:
    marks = [Mark(f.start, f.severity, words(f"finding:{f.kind}")) for f in found]
    marks += [Mark(e.start, "event", words(f"event:{e.kind.value}")) for e in ledger]
    return [m for m in marks if span.start <= m.at < span.end]
