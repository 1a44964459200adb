"""The formulas of a fleet: which points they take, in which order they are computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from app.domain import formula
from app.domain.formula import Formula
from app.domain.quantity import ENERGY_KINDS, VOLUME
from app.domain.site import Fleet, Point, Site


class FormulaProblem(NamedTuple):
    """A formula that cannot be computed, with the position of its point."""

    site: int
    meter: int
    point: int
    problem: str


def problems(sites: tuple[Site, ...]) -> Iterator[FormulaProblem]:
    """Formulas that are not understood, name what is no energy, or lead back to themselves."""
    points = {p.id: p for s in sites for p in s.points()}
    needs: dict[str, tuple[str, ...]] = {}
    places = []
    for n, site in enumerate(sites):
        for m, meter in enumerate(site.meters):
            for p, point in enumerate(meter.points):
                if point.formula:
                    try:
                        needs[point.id] = formula.parse(point.formula).points
                    except ValueError as error:
                        yield FormulaProblem(n, m, p, str(error))
                        continue
                    places.append((n, m, p, point))
    for n, m, p, point in places:
        problem = _problem(point, points, needs)
        if problem:
            yield FormulaProblem(n, m, p, problem)


def _problem(point: Point, points: Mapping[str, Point], needs: Mapping[str, tuple[str, ...]]) -> str:
    for name in needs[point.id]:
        if name not in points:
            return f"there is no point {name!r}; put spaces around - and name points of this file"
        if points[name].kind not in ENERGY_KINDS or points[name].quantity is VOLUME:
            return f"{name} is no energy or power"
    seen, todo = set[str](), list(needs[point.id])
    while todo:
        name = todo.pop()
        if name == point.id:
            return "formula leads back to itself"
        if name not in seen:
            seen.add(name)
            todo.extend(needs.get(name, ()))
    return ""


@dataclass(frozen=True)
class Formulas:
    """What of a fleet is computed from other points."""

    fleet: Fleet

    @cached_property
    def by_point(self) -> dict[str, Formula]:
        """Formula by the id of its point; each after those that it needs."""
        found = {p.id: formula.parse(p.formula) for s in self.fleet.sites for p in s.points() if p.formula}
        ordered: dict[str, Formula] = {}
        while len(ordered) < len(found):
            ready = {
                name: one
                for name, one in found.items()
                if name not in ordered and not (set(one.points) & found.keys()) - ordered.keys()
            }
            if not ready:
                raise ValueError(f"formulas lead back to themselves: {', '.join(sorted(found))}")
            ordered |= ready
        return ordered
