"""From stored figures to what the alarm rules see of them: a value, or why there is none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from app.domain.alarms.alarm import Indicator, Observation, Rule, Subject
from app.domain.limits import Limit
from app.domain.period import Period
from app.domain.pue import every_boundary
from app.domain.quality.finding import FindingKind
from app.domain.quantity import Role
from app.domain.site import Point, Site

EXPLAINING = (
    FindingKind.RESET,
    FindingKind.REPLACEMENT_SUSPECTED,
    FindingKind.GAP,
    FindingKind.STUCK,
    FindingKind.SPIKE,
    FindingKind.BAD_MINUTES,
    FindingKind.NEGATIVE_POWER,
    FindingKind.CROSS_TALK,
    FindingKind.CONFLICTING_DUPLICATE,
    FindingKind.UNIT_SUSPECTED,
)
"""Findings after which a high or low figure need not be the data centre's doing."""
SHORT = timedelta(hours=24)
"""In windows up to this any overlap with such a finding counts."""
LONG_SHARE = 0.1
"""Share of a longer window that such findings must cover to count."""
MOST_ESTIMATED = 0.2
"""Above this share of estimates a figure says how it was estimated, not what happened."""

RuleObservation = tuple[Rule, Subject, Observation]


class EdgeSilence(NamedTuple):
    """How long an edge was not heard of."""

    name: str
    silent_s: float
    """By the clock of the database. [s]"""


@dataclass(frozen=True, slots=True)
class ExplainingFinding:
    """A finding that may explain a figure."""

    kind: str
    point: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """What is known about a site over a window."""

    period: Period
    pue: float | None
    reason: str
    """Why there is no PUE."""
    facility_kwh: float
    it_kwh: float
    coverage_ratio: float
    estimated_ratio: float

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> WindowFigures:
        """From a stored PUE document."""
        period = Period(datetime.fromisoformat(document["start"]), datetime.fromisoformat(document["end"]))
        return cls(
            period,
            document["pue"],
            document.get("reason") or "",
            document["facility_kwh"],
            document["it_kwh"],
            document["coverage_ratio"],
            document["estimated_ratio"],
        )

    @property
    def it_kw(self) -> float | None:
        """Mean IT power over the covered part. [kW]"""
        covered_h = self.coverage_ratio * self.period.duration_s / 3600
        return self.it_kwh / covered_h if covered_h > 0 else None


Windows = Mapping[str, WindowFigures]


@dataclass(frozen=True)
class RuleInput:
    """What the rules see of a site that follows from its windows."""

    site: Site
    at: datetime
    windows: Windows
    limit: Limit | None
    known_from: datetime | None
    """Beginning of the site's record."""
    explaining: Sequence[ExplainingFinding] = ()
    """About points that enter the site's ratio."""

    def explanation(self, period: Period) -> str:
        """The finding that explains what a figure over the period says; empty where none does."""
        near = [d for d in self.explaining if overlap_s(d, period) > 0]
        if timedelta(seconds=period.duration_s) > SHORT:
            covered_s = sum(overlap_s(d, period) for d in near)
            near = near if covered_s >= LONG_SHARE * period.duration_s else []
        return f"{near[0].kind} of {near[0].point}" if near else ""


def overlap_s(finding: ExplainingFinding, period: Period) -> float:
    """Time that a finding and a period share; at least a moment where they touch. [s]"""
    if finding.end < period.start or finding.start >= period.end:
        return 0.0
    return max((min(finding.end, period.end) - max(finding.start, period.start)).total_seconds(), 1.0)


def explaining_findings(site: Site, findings: Iterable[Any]) -> tuple[ExplainingFinding, ...]:
    """Those of some findings that explain figures: about points that enter the site's ratio."""
    kinds = {kind.value for kind in EXPLAINING}
    candidates = [f for f in findings if f.kind in kinds]
    if not candidates:
        return ()
    gating = {point for limits in every_boundary(site) for point in limits.gating}
    return tuple(ExplainingFinding(f.kind, f.point, f.start, f.end) for f in candidates if f.point in gating)


def of_windows(rules: Iterable[Rule], facts: RuleInput) -> Iterator[RuleObservation]:
    """What follows from the windows alone: PUE, its jump, IT load, coverage."""
    for rule in rules:
        if rule.sites and facts.site.id not in rule.sites:
            continue
        judge = OF_WINDOWS.get(rule.indicator)
        seen = judge(rule, facts) if judge is not None else None
        if seen is not None:
            yield rule, Subject(facts.site.id), seen


def _pue(rule: Rule, facts: RuleInput) -> Observation:
    return _ratio(rule, facts, facts.windows.get(rule.window), None)


def _jump(rule: Rule, facts: RuleInput) -> Observation:
    return _ratio(rule, facts, facts.windows.get("15m"), facts.windows.get("24h"))


def _ratio(
    rule: Rule, facts: RuleInput, figures: WindowFigures | None, less: WindowFigures | None
) -> Observation:
    """The PUE of a window, `less` that of another where one is given."""
    if rule.from_limit and facts.limit is None:
        return Observation(facts.at, reason="no limit applies to the site; specify a profile or a limit")
    if figures is None:
        return Observation(facts.at, reason="not evaluated yet")
    base = 0.0 if less is None else less.pue
    if figures.pue is None or base is None:
        return Observation(facts.at, reason=figures.reason or "PUE of the last 24 h is not known")
    mostly = "estimates" if figures.estimated_ratio > MOST_ESTIMATED else ""
    return Observation(
        facts.at,
        figures.pue - base,
        explained_by=facts.explanation(figures.period) or mostly,
        limit=None if facts.limit is None else facts.limit.pue,
    )


def _it_load(rule: Rule, facts: RuleInput) -> Observation | None:
    capacity_kw = facts.site.design.it_capacity_kw
    if not capacity_kw:
        return None
    figures = facts.windows.get(rule.window)
    it_kw = None if figures is None else figures.it_kw
    if figures is None or it_kw is None or figures.coverage_ratio < facts.site.minimum_coverage_ratio:
        return Observation(facts.at, reason="too little of the window is covered")
    return Observation(facts.at, it_kw / capacity_kw, explained_by=facts.explanation(figures.period))


def _coverage(rule: Rule, facts: RuleInput) -> Observation:
    figures = facts.windows.get(rule.window)
    if figures is None:
        return Observation(facts.at, reason="not evaluated yet")
    if facts.known_from is None or facts.known_from > figures.period.start:
        return Observation(facts.at, reason="the recorded history is shorter than the window")
    return Observation(facts.at, figures.coverage_ratio)


OF_WINDOWS = {
    Indicator.PUE: _pue,
    Indicator.POWER_RATIO_JUMP: _jump,
    Indicator.IT_LOAD_RATIO: _it_load,
    Indicator.COVERAGE_RATIO: _coverage,
}
"""Indicators that follow from the windows alone."""


GAUGE_ROLES = {
    Indicator.TEMPERATURE_C: (Role.TEMPERATURE, Role.RACK_INLET),
    Indicator.HUMIDITY_PERCENT: (Role.HUMIDITY,),
}


def gauge_points(site: Site, indicator: Indicator) -> list[Point]:
    """Points of rooms that an indicator is about."""
    roles = GAUGE_ROLES[indicator]
    return [p for m in site.meters if m.room for p in m.points if p.role in roles]


WEEK = timedelta(days=7)


def serious(findings: Iterable[Any], at: datetime) -> list[datetime]:
    """Beginnings of the open findings of severity error that begin in the last week."""
    return [f.start for f in findings if f.severity == "error" and f.state == "open" and f.start >= at - WEEK]


def uninformed(
    rule: Rule, subjects: Collection[str], site: str, at: datetime, reason: str
) -> Iterator[RuleObservation]:
    """The same rule on its known subjects, when its figure could not be computed."""
    for name in subjects or ("",):
        yield rule, Subject(site, name), Observation(at, reason=reason, is_error=True)
