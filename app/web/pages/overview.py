"""Every site against its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.actions.view import View
from app.charts.live import Bar, Span
from app.domain.asked import Asked
from app.domain.period import window
from app.domain.site import Site
from app.store.metrics_snapshot import SiteFigures
from app.web import periods, render
from app.web.access import Caller, PageRoute, Viewer
from app.web.pages import figures
from app.web.pages.connect import FIRST_SITE
from app.web.pages.figures import Document, Headline
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True)
class Card:
    """What the overview says about one site."""

    site: Site
    bank: str
    headline: Headline | None
    documents: dict[str, Document]
    now: SiteFigures
    span: Span
    bars: list[Bar]

    @property
    def silent(self) -> int:
        """Meters without a fresh reading."""
        return sum(not m.fresh for m in self.now.meters)

    @property
    def alarms(self) -> int:
        """Alarms that fire."""
        return sum(self.now.alarms.values())


@router.get("/")
def overview(request: Request, caller: Viewer, asked: periods.OfFleet) -> Response:
    """The first page: every site, the worst first; without any, the way to the first readings."""
    with caller.read() as view:
        if not view.stored.fleet.sites:
            return render.page(request, "first.html", {"nav": "overview", "first_site": FIRST_SITE})
        cards = _cards(view, caller, asked)
    verdicts = [c.headline.verdict if c.headline else "unknown" for c in cards]
    context = {
        "nav": "overview",
        "cards": cards,
        "chosen": Chosen.of(Asked(**asked.query, default="12mo"), caller.now, cards[0].site.zone),
        "counts": {v: verdicts.count(v) for v in ("fail", "indeterminate", "unknown", "pass")},
        "now": caller.now,
        "classes": figures.CLASSES,
    }
    return render.page(request, "overview.html", context)


def _cards(view: View, caller: Caller, asked: Asked) -> Sequence[Card]:
    documents, now = figures.evaluated(view), figures.now_figures(view, caller.now)
    cards = []
    for site in view.stored.fleet.sites:
        day = window("24h", caller.now, site.zone)
        span, bars, _ = figures.series(view, site, day)
        bank = view.stored.fleet.institution[site.institution].name or site.institution
        found = documents[site.id]
        points = [Bar(b.start, b.end, {"pue": b.pue}) for b in bars]
        said = _asked_for(view, site, asked, caller.now, found) if asked.query else figures.headline(found)
        cards.append(Card(site, bank, said, found, now[site.id], span, points))
    return sorted(cards, key=_urgency)


def _asked_for(
    view: View, site: Site, asked: Asked, now: datetime, known: Mapping[str, Document]
) -> Headline:
    """The figure of a site over the period that is asked for."""
    chosen = Chosen.of(asked, now, site.zone)
    document = figures.document(view, site, chosen.period, known.get(chosen.window))
    return Headline(chosen.window, document, *figures.judged(document))


def _urgency(card: Card) -> tuple[int, int, str]:
    verdict = card.headline.verdict if card.headline else "unknown"
    order = ("fail", "indeterminate", "unknown", "pass")
    return order.index(verdict), -card.alarms, card.site.id
