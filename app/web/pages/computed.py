"""How the figures of a site were computed: every point that counts, its energy, weight and coverage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.actions.view import View
from app.domain import pue as domain
from app.domain.period import Period
from app.domain.pue import Boundary
from app.domain.quantity import load_class
from app.domain.site import Point, Segment
from app.store import findings, sums
from app.store.sums import PointEnergy
from app.web import periods, render
from app.web.access import PageRoute, Viewer
from app.web.pages import figures
from app.web.periods import Chosen

router = APIRouter(route_class=PageRoute)

_SHOWN = 60


@dataclass(frozen=True)
class Term:
    """What one point adds to a sum over a part of the period."""

    point: Point
    meter: str
    weight: float
    energy: PointEnergy
    span: Period
    is_gating: bool
    """Whether an interval counts only where the point has a value."""

    @property
    def coverage_ratio(self) -> float:
        """Share of the part of the period for which the point's energy is known."""
        return min(self.energy.covered_s / self.span.duration_s, 1.0)

    @property
    def estimated_ratio(self) -> float:
        """Share of the part of the period for which it is an estimate."""
        return min(self.energy.estimated_s / self.span.duration_s, 1.0)


@dataclass(frozen=True)
class Sum:
    """One energy of the figure, with the points that make it up."""

    name: str
    terms: list[Term]

    @property
    def total_kwh(self) -> float:
        """The sum of what is known."""
        return sum(t.weight * t.energy.energy_kwh for t in self.terms)


@dataclass(frozen=True)
class Part:
    """A part of the period over which the site is constant."""

    period: Period
    is_sum: bool
    undecided: str | None
    sums: list[Sum]


@router.get("/sites/{site}/computed")
def computed_page(request: Request, site: str, caller: Viewer, asked: periods.OfPage) -> Response:
    """How the PUE of a period and its energies come from the meters."""
    with caller.read() as view:
        found = view.site(site)
        chosen = Chosen.of(asked, caller.now, found.zone)
        document = figures.document(view, found, chosen.period)
        parts = [
            Part(segment.period, limits.is_sum, limits.undecided, list(_sums(view, segment, limits)))
            for segment, limits in domain.boundaries(found, chosen.period)
        ]
        number = view.stored.site_id[site]
        listed = findings.listing(view.connection, number, start=chosen.period.start, end=chosen.period.end)
    context = {
        "nav": "site",
        "tab": "figures",
        "site": found,
        "chosen": chosen,
        "now": caller.now,
        "document": document,
        "judged": figures.judged(document),
        "shares": dict(figures.shares(document)),
        "parts": parts,
        "findings": listed[:_SHOWN],
        "finding_count": len(listed),
        "meter_of": {point: meter.id for point, meter in found.meter_of.items()},
    }
    return periods.keep(render.page(request, "computed.html", context), asked)


def _sums(view: View, segment: Segment, limits: Boundary) -> Iterator[Sum]:
    """The sums of a constant site: facility, IT, each class of overhead, what is reported beside."""
    points, meters = {p.id: p for p in limits.points()}, segment.site.meter_of
    numbers = {view.stored.point_id[p]: p for p in points}
    found = sums.by_point(view.connection, segment.site, list(numbers), segment.period)
    known = {numbers[number]: one for number, one in found.items()}

    def term(name: str, weight: float) -> Term:
        one, is_gating = known.get(name, PointEnergy()), name in limits.gating
        return Term(points[name], meters[name].id, weight, one, segment.period, is_gating)

    for name, weights in _groups(limits).items():
        yield Sum(name, [term(point, weight) for point, weight in weights.items()])


def _groups(limits: Boundary) -> Mapping[str, dict[str, float]]:
    """Signed weights by sum and point."""
    groups: dict[str, dict[str, float]] = {"facility": dict(limits.facility), "it": {}}
    for point in limits.it:
        groups["it"][point.id] = point.weight
    for point in (*limits.overhead, *limits.apart):
        if point.id not in limits.facility:
            groups.setdefault(load_class(point.role), {})[point.id] = point.weight
    return {name: weights for name, weights in groups.items() if weights}
