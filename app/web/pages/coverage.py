"""Data quality as a map: how much of every day each meter covers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.domain.period import Step, starts
from app.domain.quantity import ENERGY_KINDS, Role
from app.errors import SeriesError
from app.store import energy
from app.web import periods, render
from app.web.access import PageRoute, Viewer
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)

_MOST_DAYS = 93


@dataclass(frozen=True)
class Line:
    """A meter with the covered and estimated share of every day."""

    meter: str
    name: str
    days: list[tuple[float, float]]

    @property
    def coverage_ratio(self) -> float:
        """Mean over the days."""
        return sum(covered for covered, _ in self.days) / max(len(self.days), 1)


@router.get("/sites/{site}/coverage")
def coverage_page(request: Request, site: str, caller: Viewer, asked: periods.OfMonth) -> Response:
    """Coverage of every meter by day; the worst covered first."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        days = list(starts(chosen.period, Step.DAY, found.zone))
        if len(days) > _MOST_DAYS:
            raise SeriesError(f"coverage can be shown for up to {_MOST_DAYS} days; choose a shorter period")
        meters = {m.id: m for m in found.at(min(caller.now, chosen.period.end)).meters}
        points = {
            view.stored.point_id[p.id]: m.id
            for m in meters.values()
            for p in m.points
            if p.kind in ENERGY_KINDS and p.role is not Role.WATER
        }
        bars = energy.series_by_point(view.connection, found, list(points), chosen.period, Step.DAY)
    covered: dict[tuple[str, datetime], list[tuple[float, float]]] = defaultdict(list)
    for bar in bars:
        at = max(bar.start, chosen.period.start)
        covered[points[bar.point_id], at].append((bar.energy.covered_s, bar.energy.estimated_s))
    lines = []
    for meter in dict.fromkeys(points.values()):
        shares = []
        for start, end in days:
            length_s = (min(end, caller.now) - start).total_seconds()
            best = max(covered.get((meter, start), [(0.0, 0.0)]))
            shares.append(tuple(min(part / length_s, 1.0) if length_s > 0 else 0.0 for part in best))
        lines.append(Line(meter, meters[meter].name or meter, [(a, b) for a, b in shares]))
    context = {
        "nav": "site",
        "tab": "findings",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "lines": sorted(lines, key=lambda line: line.coverage_ratio),
        "days": [start.astimezone(found.zone) for start, _ in days],
    }
    return periods.keep(render.page(request, "coverage.html", context), asked)
