"""What several pages show about a site: its headline, its newest figures, its series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.actions.view import View
from app.charts.live import Bar, Span
from app.domain.asked import step_of
from app.domain.limits import Outcome
from app.domain.period import Period, Step, midnight, shift_months
from app.domain.proposal import SPAN_DAYS
from app.domain.pue import PueBar
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.site import Site
from app.domain.verification import PlantBaseline
from app.store import baselines, deployment, evaluations, metrics_snapshot, pue, savings
from app.store.metrics_snapshot import SiteFigures
from app.web.cache import TimedCache

CLASSES = (*(role.value for role in OVERHEAD_ROLES), "unmetered")
"""Parts of the overhead, in the order in which they are shown."""
SERIES = ("it", *CLASSES)

_HEADLINES = ("12mo", "ytd", "mtd", "30d", "7d", "24h")
"""Windows for the verdict at the top: the longest of which a PUE can be said."""
_NOW = TimedCache(life_s=10)
_SERIES = TimedCache(life_s=60)
_DOCUMENTS = TimedCache(life_s=60)
_PLANTS = TimedCache()

Document = Mapping[str, Any]
"""A PUE document as it is stored after each evaluation."""


@dataclass(frozen=True)
class Headline:
    """Whether a site keeps its limit, why, and how sure that is."""

    window: str
    document: Document
    verdict: str
    """pass, fail, indeterminate, or unknown where there is no limit or no figure."""
    limit: float | None
    profile: str

    @property
    def margin(self) -> float | None:
        """How far the PUE is below the limit, negative where it is above; None where either is unknown."""
        pue = self.document["pue"]
        return None if pue is None or self.limit is None else self.limit - pue

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Overhead of each class by IT energy; PUE is 1 and their sum."""
        return shares(self.document)

    @property
    def quality(self) -> str:
        """Quality of the data of the figure."""
        return quality(self.document)

    @property
    def largest(self) -> tuple[str, float] | None:
        """The class with the largest share."""
        return max(self.shares, key=lambda part: part[1], default=None)


def shares(document: Document) -> list[tuple[str, float]]:
    """Overhead of each class by IT energy; empty where there is no PUE."""
    if document["pue"] is None:
        return []
    it_kwh = document["it_kwh"]
    energies_kwh = {**document["overhead_kwh"], "unmetered": document["unmetered_kwh"]}
    return [(name, energies_kwh.get(name, 0.0) / it_kwh) for name in CLASSES]


def judged(document: Document) -> tuple[str, float | None, str]:
    """Verdict, limit and profile of the strictest limit; the site's own where there is one."""
    verdicts = document["verdicts"]
    if not verdicts:
        return "unknown", None, ""
    own = [v for v in verdicts if v["profile"] == "site"]
    chosen = own[0] if own else min(verdicts, key=lambda v: v["limit"])
    outcome = "unknown" if document["pue"] is None else chosen["verdict"]
    return str(outcome), chosen["limit"], chosen["profile"]


def headline(documents: Mapping[str, Document]) -> Headline | None:
    """The headline from the documents by window; None where nothing was evaluated yet."""
    said = [w for w in _HEADLINES if w in documents and documents[w]["pue"] is not None]
    window = said[0] if said else next(iter(documents), None)
    if window is None:
        return None
    return Headline(window, documents[window], *judged(documents[window]))


def evaluated(view: View) -> dict[str, dict[str, Document]]:
    """The newest PUE documents of every site, by window."""
    names = view.stored.site_key
    found: dict[str, dict[str, Document]] = {name: {} for name in names.values()}
    for number, window, _, document in evaluations.load(view.connection, list(names)):
        found[names[number]][window] = document
    return found


def now_figures(view: View, now: datetime) -> dict[str, SiteFigures]:
    """Power, meters and alarms of every site as they are now."""

    def collect() -> dict[str, SiteFigures]:
        profiles = deployment.limit_profiles(view.connection)
        return {f.site: f for f in metrics_snapshot.collect(view.connection, view.stored, profiles, now)}

    key = (id(view.connection.engine), tuple(view.stored.site_key.items()))
    return _NOW.get(key, collect)


def quality(document: Document) -> str:
    """Quality of the data of a figure: good, limited or poor, from coverage and estimated share."""
    if document["coverage_ratio"] >= 0.99 and document["estimated_ratio"] <= 0.02:
        return "good"
    return "limited" if document["coverage_ratio"] >= 0.9 else "poor"


# -- series ---------------------------------------------------------------------------------------------


def document(view: View, site: Site, period: Period, evaluated: Document | None = None) -> Document:
    """The PUE document of a period; the `evaluated` one where that is of the same period."""
    if evaluated is not None and evaluated["end"] == period.as_dict()["end"]:
        return evaluated
    names = (id(view.connection.engine), view.stored.site_id[site.id])

    def compute() -> Document:
        profiles = deployment.limit_profiles(view.connection)
        return pue.document(view.connection, view.stored, site.id, period, profiles).as_dict()

    return _DOCUMENTS.get((*names, period), compute, is_kept=lambda found: found["pue"] is not None)


def plant(view: View, site: Site) -> PlantBaseline:
    """What the plant of a site is held against, with its days up to yesterday."""
    until = view.now.astimezone(site.zone).date()
    key = (id(view.connection.engine), view.stored.site_id[site.id], until)
    return _PLANTS.get(key, lambda: savings.plant(view.connection, view.stored, site, until))


def series(view: View, site: Site, period: Period) -> tuple[Span, list[PueBar], Step]:
    """PUE bars of a period, with the width of the bars."""
    step = step_of(period)
    key = (id(view.connection.engine), view.stored.site_id[site.id], period)
    bars = _SERIES.get(
        key, lambda: pue.bars(view.connection, view.stored, site.id, period, step), is_kept=bool
    )
    return Span(period.start, period.end), bars, step


def moved(bars: Sequence[Bar], own: Period, onto: Period) -> list[Bar]:
    """Bars of one period on the time axis of another, as far as that reaches."""
    by = onto.start - own.start
    return [Bar(b.start + by, min(b.end + by, onto.end), b.values) for b in bars if b.start + by < onto.end]


def pue_bars(bars: Sequence[PueBar]) -> list[Bar]:
    """PUE of each bar."""
    return [Bar(b.start, b.end, {"pue": b.pue}, estimated_ratio=b.estimated_ratio) for b in bars]


def _covered_h(bar: PueBar) -> float:
    return (bar.end - bar.start).total_seconds() / 3600 * bar.coverage_ratio


def power_bars(bars: Sequence[PueBar]) -> list[Bar]:
    """Mean power of IT and of each class of overhead over the covered part of each bar. [kW]"""
    return [Bar(b.start, b.end, _powers_kw(b)) for b in bars]


def _powers_kw(bar: PueBar) -> dict[str, float | None]:
    hours = _covered_h(bar)
    if hours <= 0:
        return {}
    rest_kwh = bar.facility_kwh - bar.it_kwh - sum(bar.overhead_kwh.values())
    energies_kwh = {"it": bar.it_kwh, **bar.overhead_kwh, "unmetered": rest_kwh}
    return {name: energy_kwh / hours for name, energy_kwh in energies_kwh.items()}


def labels(span: Span, site: Site) -> tuple[list[datetime], str]:
    """Instants with a label below a chart, and their format."""
    days = (span.end - span.start) / timedelta(days=1)
    first = span.start.astimezone(site.zone)
    if days <= 2.2:
        hours = 1 if days <= 0.3 else 6 if days <= 1.1 else 12
        begin = first.replace(minute=0, second=0) + timedelta(hours=1)
        found = [begin + timedelta(hours=i) for i in range(math.ceil(24 * days) + 1)]
        return [at for at in found if at.hour % hours == 0], "%H:%M"
    if days <= 100:
        every = max(round(days / 7), 1)
        midnights = (
            midnight(first.date() + timedelta(days=i), site.zone) for i in range(1, int(days) + 1, every)
        )
        return [at.astimezone(site.zone) for at in midnights], "%m-%d" if days <= 60 else "%Y-%m-%d"
    start = midnight(first.date().replace(day=1), site.zone)
    every = max(round(days / 30.4 / 7), 1)
    months = (shift_months(start, i, site.zone) for i in range(0, math.ceil(days / 28) + 1, every))
    return [at.astimezone(site.zone) for at in months], "%Y-%m"


def worst(outcomes: Sequence[str]) -> str:
    """The outcome that asks for attention first."""
    order = (Outcome.FAIL.value, Outcome.INDETERMINATE.value, "unknown", Outcome.PASS.value)
    return min(outcomes, key=order.index, default="unknown")


def unfrozen(view: View, sites: Sequence[Site]) -> list[Site]:
    """Sites of which a year of figures is known and no baseline is frozen."""
    numbers = {view.stored.site_id[site.id]: site for site in sites}
    before = view.now - timedelta(days=SPAN_DAYS)
    return [numbers[number] for number in baselines.long_unfrozen(view.connection, numbers, before)]
