"""Every site against its limit: cards of a few, a table of many, the worst first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.actions.view import View
from app.charts.live import Bar, Span
from app.domain.access import Role
from app.domain.asked import Asked
from app.domain.period import window
from app.domain.site import Institution, Site
from app.fleet.fanout import Answer
from app.fleet.pue import SitePue, Together, together, visible
from app.fleet.watch import WINDOW as WATCHED
from app.fleet.watch import Seen
from app.store.metrics_snapshot import SiteFigures
from app.web import periods, render
from app.web.access import Caller, PageRoute, Viewer
from app.web.pages import figures
from app.web.pages.figures import Document, Headline
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)

MOST_CARDS = 12
"""More sites than this are a table, if nothing else is asked."""
_PAGE = 100
"""Sites on one page of the table."""
VERDICTS = ("fail", "indeterminate", "unknown", "pass")
"""The worst first."""

Sort = Literal["margin", "name", "pue", "it", "alarms", "coverage", "offline"]


@dataclass(frozen=True)
class Row:
    """What the overview says about one site."""

    site: Site
    institution: Institution
    headline: Headline | None
    documents: Mapping[str, Document]
    now: SiteFigures
    before: Document | None = None
    """Of the period that it is compared with."""

    @property
    def bank(self) -> str:
        """Name of its institution."""
        return self.institution.name or self.institution.id

    @property
    def verdict(self) -> str:
        """How it stands to its limit."""
        return self.headline.verdict if self.headline else "unknown"

    @property
    def pue(self) -> float | None:
        """Its figure; None where it is not known."""
        return self.headline.document["pue"] if self.headline else None

    @property
    def it_kw(self) -> float | None:
        """IT power now. [kW]"""
        return self.now.power_kw.get("it")

    @property
    def coverage_ratio(self) -> float | None:
        """Share of the figure's period that is covered."""
        return self.headline.document["coverage_ratio"] if self.headline else None

    @property
    def silent(self) -> int:
        """Meters without a fresh reading."""
        return sum(not m.fresh for m in self.now.meters)

    @property
    def alarms(self) -> int:
        """Alarms that fire."""
        return sum(self.now.alarms.values())


@dataclass(frozen=True)
class Card:
    """A row with the course of its last day."""

    row: Row
    span: Span
    bars: list[Bar]


@dataclass(frozen=True)
class Group:
    """Sites of one institution or region, with what they are together."""

    name: str
    rows: Sequence[Row]

    @property
    def counts(self) -> dict[str, int]:
        """How many of its sites have which verdict."""
        return counts(self.rows)

    @property
    def pue(self) -> float | None:
        """Facility by IT energy of all; None where one is not known or they are of different periods."""
        found = [row.headline for row in self.rows if row.headline]
        documents = [h.document for h in found]
        is_one_period = len({h.window for h in found}) == 1 and len(found) == len(self.rows)
        if not is_one_period or any(d["pue"] is None for d in documents):
            return None
        return float(sum(d["facility_kwh"] for d in documents) / sum(d["it_kwh"] for d in documents))


@dataclass(frozen=True)
class OtherCells:
    """What other cells say of their sites, and all sites together."""

    seen: Seen
    sites: Sequence[SitePue]
    """Those that the caller may see."""
    together: Together

    @property
    def lines(self) -> list[tuple[Answer[tuple[SitePue, ...]], list[tuple[SitePue, Headline]]]]:
        """Each cell with its sites, the worst first."""
        found = []
        for answer in self.seen.answers:
            own = [one for one in self.sites if one.cell == answer.cell.id]
            judged = [
                (one, figures.Headline(WATCHED, one.document, *figures.judged(one.document))) for one in own
            ]
            judged.sort(key=lambda pair: (VERDICTS.index(pair[1].verdict), pair[0].site))
            found.append((answer, judged))
        return found


@router.get("/")
def overview(
    request: Request,
    caller: Viewer,
    asked: periods.OfFleet,
    q: Annotated[str, Query(max_length=200)] = "",
    verdict: Literal["", "fail", "indeterminate", "unknown", "pass"] = "",
    institution: str = "",
    region: str = "",
    group: Literal["", "institution", "region"] = "",
    sort: Sort = "margin",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
    view: Literal["", "cards", "table"] = "",
) -> Response:
    """The first page: every site, the worst first; without any, the way to the first readings."""
    with caller.read() as seen:
        sites = seen.stored.fleet.sites
        if not sites and not caller.context.fleet_watch.cells:
            return render.page(request, "first.html", {"nav": "overview"})
        every = rows(seen, caller, asked)
        wanted = sorted((r for r in every if _fits(r, q, verdict, institution, region)), key=_orders()[sort])
        shape = view or ("cards" if len(every) <= MOST_CARDS else "table")
        first = _PAGE * (page - 1)
        shown = wanted[first : first + _PAGE]
        unfrozen = figures.unfrozen(seen, [r.site for r in every if seen.may(r.site.id, Role.OPERATOR)])
        cards = [_card(seen, row, caller.now) for row in shown[:MOST_CARDS]] if shape == "cards" else []
    context: dict[str, Any] = {
        "nav": "overview",
        "shape": shape,
        "cards": cards,
        "unfrozen": unfrozen,
        "groups": list(_groups(shown, group)),
        "count": len(wanted),
        "pages": range(1, (len(wanted) - 1) // _PAGE + 2),
        "page": page,
        "counts": counts(every),
        "known": _known(every),
        "query": {
            **asked.query,
            "compare": asked.compare or "",
            "q": q,
            "verdict": verdict,
            "institution": institution,
            "region": region,
            "group": group,
            "sort": sort,
            "view": view,
        },
        "chosen": Chosen.of(
            replace(asked, default="12mo"), caller.now, sites[0].zone if sites else ZoneInfo("UTC")
        ),
        "fleet": _fleet(caller, every),
        "verdicts": VERDICTS,
        "now": caller.now,
        "classes": figures.CLASSES,
    }
    return render.page(request, "overview.html", context)


def _fleet(caller: Caller, own: Sequence[Row]) -> OtherCells | None:
    """What the other cells said last, and all together; None where there are none."""
    watch = caller.context.fleet_watch
    if not watch.cells:
        return None
    seen = watch.seen
    others = visible(seen.sites, caller.principal)
    here = [
        SitePue("", row.institution.id, row.documents[WATCHED]) for row in own if WATCHED in row.documents
    ]
    return OtherCells(seen, others, together([*here, *others], seen.missing))


def rows(view: View, caller: Caller, asked: Asked) -> list[Row]:
    """What there is to say of every site, over the period that is asked or the longest window known."""
    documents, now = figures.evaluated(view), figures.now_figures(view, caller.now)
    made = []
    for site in view.stored.fleet.sites:
        found = documents[site.id]
        said = _asked_for(view, site, asked, caller.now, found) if asked.query else figures.headline(found)
        bank = view.stored.fleet.institution[site.institution]
        made.append(
            Row(site, bank, said, found, now[site.id], _compared(view, site, asked, said, caller.now))
        )
    return made


def _compared(view: View, site: Site, asked: Asked, said: Headline | None, now: datetime) -> Document | None:
    """The figure of the period that the one of the page is compared with; None where none is asked for."""
    if asked.compare is None or said is None:
        return None
    wanted = asked if asked.query else replace(asked, window=said.window)
    against = Chosen.of(wanted, now, site.zone).against
    return figures.document(view, site, against) if against else None


def _asked_for(
    view: View, site: Site, asked: Asked, now: datetime, known: Mapping[str, Document]
) -> Headline:
    """The figure of a site over the period that is asked for."""
    chosen = Chosen.of(asked, now, site.zone)
    document = figures.document(view, site, chosen.period, known.get(chosen.window))
    return Headline(chosen.window, document, *figures.judged(document))


def _card(view: View, row: Row, now: datetime) -> Card:
    span, bars, _ = figures.series(view, row.site, window("24h", now, row.site.zone))
    return Card(row, span, [Bar(b.start, b.end, {"pue": b.pue}) for b in bars])


def _fits(row: Row, q: str, verdict: str, institution: str, region: str) -> bool:
    words = f"{row.site.id} {row.site.name} {row.bank} {row.site.region}".casefold()
    return (
        all(word in words for word in q.casefold().split())
        and verdict in ("", row.verdict)
        and institution in ("", row.institution.id)
        and region in ("", row.site.region)
    )


def _known(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """What the table can be filtered by, with its names."""
    return {
        "institution": dict(sorted({row.institution.id: row.bank for row in rows}.items())),
        "region": {name: name for name in sorted({row.site.region for row in rows} - {""})},
    }


def _groups(rows: Sequence[Row], by: str) -> Iterator[Group]:
    """The rows by what they are grouped by, each group where its first row is."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row.bank if by == "institution" else row.site.region if by == "region" else ""
        found.setdefault(name, []).append(row)
    yield from (Group(name, members) for name, members in found.items())


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many sites have which verdict, the worst first."""
    verdicts = [row.verdict for row in rows]
    return {name: verdicts.count(name) for name in VERDICTS}


def urgency(row: Row) -> tuple[int, float, str]:
    """Above the limit first, and there and everywhere the one with the least margin to it."""
    margin = row.headline.margin if row.headline else None
    return VERDICTS.index(row.verdict), math.inf if margin is None else margin, row.site.id


def _orders() -> Mapping[str, Callable[[Row], tuple[Any, ...]]]:
    """Orders of the table; what is not known comes last."""

    def falling(value: float | None) -> float:
        return math.inf if value is None else -value

    return {
        "margin": urgency,
        "name": lambda row: ((row.site.name or row.site.id).casefold(), row.site.id),
        "pue": lambda row: (falling(row.pue), row.site.id),
        "it": lambda row: (falling(row.it_kw), row.site.id),
        "alarms": lambda row: (-row.alarms, row.site.id),
        "coverage": lambda row: (2.0 if row.coverage_ratio is None else row.coverage_ratio, row.site.id),
        "offline": lambda row: (-row.silent, row.site.id),
    }
