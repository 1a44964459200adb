"""PUE and power of a site over a period: as charts, as a table, and as files of exactly what is seen."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from app.actions.view import View
from app.charts import live as charts
from app.charts.live import Bar, ChartFrame, Mark, Span
from app.domain.asked import step_of
from app.domain.period import Step
from app.domain.pue import PueBar
from app.domain.site import Site
from app.store import alarms, events, pue
from app.web import periods, render, svg
from app.web.access import PageRoute, Viewer
from app.web.pages import figures
from app.web.periods import Chosen
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_MOST_MARKS = 60


@dataclass(frozen=True)
class Trend:
    """What is drawn of a site over a period."""

    site: Site
    chosen: Chosen
    span: Span
    step: Step
    bars: Sequence[PueBar]
    ghost: Sequence[Bar]
    """PUE of the compared period, moved onto the axis of the chosen one."""
    marks: Sequence[Mark]
    limit: float | None

    @classmethod
    def of(cls, view: View, site: Site, chosen: Chosen, limit: float | None, words: Words) -> Trend:
        """Read what is to be drawn."""
        span, bars, step = figures.series(view, site, chosen.period)
        marks = sorted(_marks(view, site, span, words), key=lambda mark: mark.at)
        return cls(site, chosen, span, step, bars, _ghost(view, site, chosen), marks[-_MOST_MARKS:], limit)

    @property
    def is_known(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.bars)

    @property
    def powers(self) -> list[Bar]:
        """Mean power by load class. [kW]"""
        return figures.power_bars(self.bars)

    @property
    def compared(self) -> list[float | None]:
        """The compared PUE at the start of each bar."""
        return [
            next((g.values["pue"] for g in self.ghost if g.start <= bar.start < g.end), None)
            for bar in self.bars
        ]

    def pue_chart(self, words: Words) -> Markup:
        """The line of the PUE."""
        names = {"pue": "PUE"}
        return charts.line(
            self.span,
            figures.pue_bars(self.bars),
            ["pue"],
            self._frame("PUE", "", 3, names, words),
            limit=self.limit,
            marks=self.marks,
            ghost=self.ghost,
        )

    def power_chart(self, words: Words) -> Markup:
        """Mean power by load class, on top of each other."""
        names = {name: words(f"class:{name}") for name in figures.SERIES}
        return charts.stack(
            self.span, self.powers, figures.SERIES, self._frame(words("Mean power"), "kW", 1, names, words)
        )

    def _frame(self, title: str, unit: str, digits: int, names: dict[str, str], words: Words) -> ChartFrame:
        at, pattern = figures.labels(self.span, self.site)
        texts = {"gap": words("No data"), "estimated": words("Partly estimated")}
        return ChartFrame(
            title,
            unit,
            150,
            lambda t: t.strftime(pattern),
            at,
            zone=self.site.time_zone,
            names=names,
            digits=digits,
            until=self.chosen.now,
            texts=texts,
        )


def _ghost(view: View, site: Site, chosen: Chosen) -> Sequence[Bar]:
    if chosen.against is None:
        return ()
    bars = pue.bars(view.connection, view.stored, site.id, chosen.against, step_of(chosen.period))
    drawn = [Bar(b.start, b.end, {"pue": b.pue}) for b in bars]
    return figures.moved(drawn, chosen.against, chosen.period)


def _marks(view: View, site: Site, span: Span, words: Words) -> Iterator[Mark]:
    """Alarms that were raised and events that were declared in the time that is drawn."""
    number = view.stored.site_id[site.id]
    for alarm in alarms.listing(view.connection, [number], "all", limit=400):
        if span.start <= alarm.fired_at < span.end:
            said = f"{words(f'rule:{alarm.rule}')} {alarm.subject}".strip()
            yield Mark(alarm.fired_at, "error" if alarm.severity == "critical" else "warning", said)
    for entry in events.listing(view.connection, number):
        if span.start <= entry.start < span.end and entry.withdrawn_at is None:
            yield Mark(entry.start, "event", f"{words(f'event:{entry.kind.value}')}: {entry.note}")


def _read(request: Request, site: str, caller: Viewer, asked: periods.OfPage) -> Trend:
    words = Words(render.language_of(request))
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        _, limit, _ = figures.judged(figures.document(view, found, chosen.period))
        return Trend.of(view, found, chosen, limit, words)


@router.get("/sites/{site}/trend")
def trend_page(request: Request, site: str, caller: Viewer, asked: periods.OfPage) -> Response:
    """The values of the charts as a table."""
    trend = _read(request, site, caller, asked)
    context = {
        "nav": "site",
        "tab": "figures",
        "site": trend.site,
        "chosen": trend.chosen,
        "trend": trend,
        "now": caller.now,
        "rows": list(zip(trend.bars, trend.powers, trend.compared, strict=True)),
    }
    return periods.keep(render.page(request, "trend.html", context), asked)


@router.get("/sites/{site}/trend.csv")
def trend_csv(request: Request, site: str, caller: Viewer, asked: periods.OfPage) -> Response:
    """Exactly what the charts show, one row for each bar."""
    trend = _read(request, site, caller, asked)
    powers = [f"{name}_kw" for name in figures.SERIES]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["start", "end", "pue", *powers, "coverage_ratio", "estimated_ratio", "compared_pue"])
    for bar, power, compared in zip(trend.bars, trend.powers, trend.compared, strict=True):
        values = [power.values.get(name) for name in figures.SERIES]
        writer.writerow(
            [
                *(_text(at, trend.site) for at in (bar.start, bar.end)),
                *map(_number, (bar.pue, *values, bar.coverage_ratio, bar.estimated_ratio, compared)),
            ]
        )
    return _download(out.getvalue(), "text/csv; charset=utf-8", f"{site}-trend.csv")


@router.get("/sites/{site}/trend.svg")
def trend_svg(
    request: Request,
    site: str,
    caller: Viewer,
    asked: periods.OfPage,
    chart: Literal["pue", "power"] = "pue",
) -> Response:
    """One of the charts as a drawing of its own."""
    words = Words(render.language_of(request))
    trend = _read(request, site, caller, asked)
    drawn = trend.pue_chart(words) if chart == "pue" else trend.power_chart(words)
    what = "PUE" if chart == "pue" else f"{words('Mean power')}, kW"
    first, last = trend.chosen.days
    title = f"{trend.site.name or site}: {what}, {first} – {last}"
    keys = [] if chart == "pue" else [(name, words(f"class:{name}")) for name in figures.SERIES]
    return _download(svg.alone(drawn, title, keys), "image/svg+xml", f"{site}-{chart}.svg")


def _text(at: datetime, site: Site) -> str:
    return at.astimezone(site.zone).isoformat()


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _download(text: str, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=media_type, headers=headers)
