"""What the energies of a site's meters tell about each other: loads that vanish, loads counted twice.

The detectors see 15-minute energies of one stretch of time, as a month; what loads usually take is also seen
from some time before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from app.domain.limits import accuracy_percent
from app.domain.pue import Boundary
from app.domain.quality.finding import (
    GOES_ON,
    Bools,
    Evidence,
    Finding,
    FindingKind,
    Floats,
    Severity,
    outside,
    runs,
)
from app.domain.quality.ratio import ratio_changes
from app.domain.quantity import IT_ROLES, Role
from app.domain.site import Point, Site
from app.domain.tree import COVERAGE_FACTOR

AWAY_SHARE = 0.01
"""An IT point below this part of its usual energy takes none."""
LEAST_LOST_SHARE = 0.1
"""Points that carry less than this part of the IT energy are not missed."""
SHORTEST_ROWS, BESIDE_ROWS = 2, 8
"""Fewest quarter-hours of a missing load, and those beside it with which they are compared."""
FOLLOWED_SHARE = 0.5
"""Where IT energy really ends, the facility loses at least this part of it."""
LEAST_HOURS = 24
"""Hours in common that two meters need to be compared."""
LEAST_SWING, LEAST_CORRELATION = 0.02, 0.99
"""Relative deviation below which a load is too even to be recognised, and how the other must follow."""
SAME_RATIO, PART_RATIO = (0.97, 1.03), (0.88, 1.03)
"""Ratio of two meters of one load, and of what stands behind a stage to what goes into it."""

EMPTY_HINT = (
    "the load goes past this meter, or the meter stands: give an estimate, or acknowledge if it is right"
)
SAME_HINT = "they may measure one load: say what feeds them with fed_by, or give one of them the role none"


def flow_findings(
    site: Site,
    parts: Boundary,
    table: pd.DataFrame,
    since: datetime | None = None,
    *,
    is_now: bool = False,
    lasting: Sequence[Finding] = (),
) -> list[Finding]:
    """Everything that the energies of one stretch of time tell.

    Parameters
    ----------
    site : Site
        Whose meters they are.
    parts : Boundary
        What counts for the site.
    table : DataFrame of float64, shape (n, points)
        Energy per quarter-hour, indexed by its start in UTC. [kWh] NaN: not known.
    since : datetime, optional
        Begin of the time that is looked at; what stands before it says what is usual.
    is_now : bool
        Whether the time ends now, so that what lasts to its end goes on.
    lasting : sequence of Finding
        Found earlier, from before `since` on; it may go on where the table no longer shows how it began.
    """
    own = table if since is None else table[table.index >= since]
    if own.empty:
        return []
    missing = it_missing(parts, table, since, is_now=is_now, lasting=lasting)
    changes = ratio_changes(
        parts,
        table,
        _facility(parts, table),
        _sum(parts.it, table),
        is_now=is_now,
        lasting=[f for f in lasting if f.kind is FindingKind.RATIO_CHANGED],
    )
    return [
        *missing,
        *outside([_from(f, since) for f in changes if since is None or f.end > since], missing),
        *it_above_facility(site, parts, own),
        *same_energy(site, parts, own),
    ]


def _from(finding: Finding, since: datetime | None) -> Finding:
    return finding if since is None or finding.start >= since else replace(finding, start=since)


def _sum(points: Sequence[Point], table: pd.DataFrame) -> Floats:
    """Weighted sum; NaN where one of them is not known or there is none. [kWh]"""
    if not points:
        return np.full(len(table), np.nan)
    weights = np.array([p.weight for p in points])
    total: Floats = table.reindex(columns=[p.id for p in points]).to_numpy() @ weights
    return total


def _facility(parts: Boundary, table: pd.DataFrame) -> Floats:
    if not parts.facility:
        return np.full(len(table), np.nan)
    weights = np.array(list(parts.facility.values()))
    total: Floats = table.reindex(columns=list(parts.facility)).to_numpy() @ weights
    return total


def it_missing(
    parts: Boundary,
    table: pd.DataFrame,
    since: datetime | None = None,
    *,
    is_now: bool = False,
    lasting: Sequence[Finding] = (),
) -> list[Finding]:
    """IT points whose energy falls to nothing while the facility goes on, as in a UPS bypass.

    Compared with the quarter-hours before and after: IT energy is missing if the facility lost less than
    :data:`FOLLOWED_SHARE` of what IT lost, or gained less when it came back. A load that
    another IT point took over is not missing. What was found earlier goes on until energy flows again.
    """
    it, facility = _sum(parts.it, table), _facility(parts, table)
    first_own = 0 if since is None else int((table.index < since).sum())
    found: list[Finding] = []
    for point in parts.it:
        energy = table.reindex(columns=[point.id]).to_numpy()[:, 0]
        past = [f for f in lasting if f.kind is FindingKind.IT_MISSING and f.point == point.id]
        usual = max([_usual(energy), *map(_usual_of, past[-1:])])
        if not usual > 0 or not (past or _matters(usual * point.weight, it[energy > 0])):
            continue
        away = energy < AWAY_SHARE * usual
        flows = np.isfinite(energy) & ~away
        known = [f for f in past if not flows[table.index < f.start].any()]  # others are judged here
        for first, last in runs(away):
            earlier = _goes_on_from(known, table, flows, first)
            if last - first + 1 < SHORTEST_ROWS or not (
                earlier or _is_missing(it, facility, away, first, last, usual)
            ):
                continue
            goes_on = is_now and not np.isfinite(energy[last + 1 :]).any()
            own_first = max(first, first_own) if last >= first_own else first
            one = _missing(point, table, own_first, last, usual, goes_on=goes_on)
            known.append(one)
            if last >= first_own:
                is_one = since is None and earlier in past
                found.append(replace(one, start=earlier.start) if earlier and is_one else one)
    return found


def _matters(usual: float, it: Floats) -> bool:
    return usual >= LEAST_LOST_SHARE * float(np.nanmedian(it))


def _usual_of(finding: Finding) -> float:
    """Energy of a quarter-hour that a finding misses. [kWh]"""
    return float(finding.evidence["suggested_kwh"]) / (4 * float(finding.evidence["hours"]))


def _goes_on_from(known: Sequence[Finding], table: pd.DataFrame, flows: Bools, first: int) -> Finding | None:
    """The latest of these findings after which nothing flowed until this row."""
    for finding in reversed(known):
        if finding.start <= table.index[first]:
            return None if flows[:first][table.index[:first] >= finding.end].any() else finding
    return None


def _usual(energy: Floats) -> float:
    flowing = energy[energy > 0]
    return float(np.median(flowing)) if len(flowing) else 0.0


def _is_missing(it: Floats, facility: Floats, away: Bools, first: int, last: int, usual: float) -> bool:
    """Whether, where the load went or where it came back, the facility moved less than half as much as IT."""
    known = np.isfinite(it + facility)
    borders = (
        (range(max(first - BESIDE_ROWS, 0), first), range(first, min(first + BESIDE_ROWS, last + 1))),
        (
            range(last + 1, min(last + 1 + BESIDE_ROWS, len(it))),
            range(max(last + 1 - BESIDE_ROWS, first), last + 1),
        ),
    )
    for around, inside in borders:
        beside = [row for row in around if known[row] and not away[row]]
        within = [row for row in inside if known[row]]
        if beside and within:
            lost_it = float(it[beside].mean() - it[within].mean())
            lost_facility = float(facility[beside].mean() - facility[within].mean())
            if lost_it > FOLLOWED_SHARE * usual and lost_facility < FOLLOWED_SHARE * lost_it:
                return True
    return False


def _missing(
    point: Point, table: pd.DataFrame, first: int, last: int, usual: float, *, goes_on: bool
) -> Finding:
    start, end = _span(table, first, last)
    evidence: Evidence = {
        "hours": (last - first + 1) / 4,
        "suggested_kwh": round(usual * (last - first + 1), 3),
        "hint": EMPTY_HINT,
        **({GOES_ON: "yes"} if goes_on else {}),
    }
    return Finding(FindingKind.IT_MISSING, point.id, start, end, Severity.ERROR, None, evidence)


def _span(table: pd.DataFrame, first: int, last: int) -> tuple[pd.Timestamp, pd.Timestamp]:
    return table.index[first].to_pydatetime(), (table.index[last] + pd.Timedelta("15min")).to_pydatetime()


def it_above_facility(site: Site, parts: Boundary, table: pd.DataFrame) -> list[Finding]:
    """Days on which IT takes more than goes into the facility, beyond the accuracy of the meters."""
    if not parts.facility or not parts.it:
        return []
    both = pd.DataFrame(np.stack([_sum(parts.it, table), _facility(parts, table)], axis=1), table.index)
    both = both.dropna()
    days = both.groupby(pd.DatetimeIndex(both.index).tz_convert(site.zone).normalize()).sum()
    points = {p.id: p for p in site.points()}
    names = [*(p.id for p in parts.it), *parts.facility]
    worst = max(accuracy_percent(site.meter_of[n], points[n]) for n in names)
    above = days[days[0] > days[1] * (1 + COVERAGE_FACTOR * worst / 100)]
    if above.empty:
        return []
    evidence: Evidence = {
        "meters": ", ".join(names),
        "days": len(above),
        "it_kwh": float(above[0].sum()),
        "facility_kwh": float(above[1].sum()),
    }
    start = above.index[0].tz_convert("UTC").to_pydatetime()
    end = (above.index[-1] + pd.DateOffset(days=1)).tz_convert("UTC").to_pydatetime()
    return [Finding(FindingKind.IT_ABOVE_FACILITY, "", start, end, Severity.ERROR, None, evidence)]


def same_energy(site: Site, parts: Boundary, table: pd.DataFrame) -> list[Finding]:
    """Meters that count side by side, but whose energies follow each other like those of one load.

    Two meters with a ratio near 1; or one against the sum of the others, or of another stage. Even loads tell
    nothing, and the two sides of a 2N feed share a load without measuring it twice.
    """
    facility = [p for p in site.carriers(Role.FACILITY) if p.id in parts.facility]
    found: list[Finding] = []
    for group in (list(parts.it), facility):
        hours = _hours(table, group)
        of_point = {p.id: column for p, column in zip(group, hours.to_numpy().T.copy(), strict=True)}
        for left, right, limits in _comparisons(site, group):
            if _follow(_added(of_point, left), _added(of_point, right), limits):
                found.append(_same(table, left, right))
                break
    return found


def _hours(table: pd.DataFrame, group: Sequence[Point]) -> pd.DataFrame:
    """Energy per hour of which all is known. [kWh]"""
    part = table.reindex(columns=[p.id for p in group])
    return part.groupby(pd.DatetimeIndex(part.index).floor("h")).sum(min_count=4)


Comparison = tuple[list[Point], list[Point], tuple[float, float]]


def _comparisons(site: Site, group: Sequence[Point]) -> list[Comparison]:
    """What to compare: pairs first, then one against the others, then stage against stage.

    Meters that are the two sides of one feed (2N), or points of one meter, are no pair.
    """
    sides = {frozenset(pair) for m in site.meters for pair in combinations(set(m.fed_by), 2)}
    meter_of = {p.id: site.meter_of[p.id].id for p in group}
    pairs: list[Comparison] = [
        ([p], [q], SAME_RATIO)
        for p, q in combinations(group, 2)
        if meter_of[p.id] != meter_of[q.id] and frozenset((meter_of[p.id], meter_of[q.id])) not in sides
    ]
    parts: list[Comparison] = [
        ([p], [q for q in group if q is not p], PART_RATIO) for p in group if len(group) > 2
    ]
    by_role = [[p for p in group if p.role is role] for role in IT_ROLES]
    stages = [points for points in by_role if points]
    between: list[Comparison] = [(upper, lower, PART_RATIO) for upper, lower in pairwise(stages)]
    return pairs + parts + between


def _added(of_point: Mapping[str, Floats], points: Sequence[Point]) -> Floats:
    if len(points) == 1:
        return of_point[points[0].id]
    total: Floats = np.sum([of_point[p.id] for p in points], axis=0)
    return total


def _follow(left: Floats, right: Floats, limits: tuple[float, float]) -> bool:
    known = np.isfinite(left + right) & (left > 0) & (right > 0)
    left, right = left[known], right[known]
    if len(left) < LEAST_HOURS or left.std() < LEAST_SWING * left.mean() or right.std() == 0:
        return False
    low, high = limits
    ratio = float(np.median(right / left))
    return low <= ratio <= high and float(np.corrcoef(left, right)[0, 1]) >= LEAST_CORRELATION


def _same(table: pd.DataFrame, left: Sequence[Point], right: Sequence[Point]) -> Finding:
    start, end = _span(table, 0, len(table) - 1)
    evidence: Evidence = {
        "meters": ", ".join(p.id for p in left),
        "others": ", ".join(p.id for p in right),
        "hint": SAME_HINT,
    }
    return Finding(FindingKind.SAME_ENERGY, left[0].id, start, end, Severity.WARNING, None, evidence)
