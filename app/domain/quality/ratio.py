"""Meters whose ratio changes: from one interval to the next the power ratio is another one and stays there.

IT energy is part of facility energy. Where IT changes in one step and the facility does not, or the facility
changes by a factor and its response to IT by the same one, a transformer ratio changed and not the load. A
chiller that starts changes the facility, but not its response to IT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain.pue import Boundary
from app.domain.quality.finding import GOES_ON, Evidence, Finding, FindingKind, Floats, Severity
from app.domain.site import Point

LEAST_STEP = math.log(1.3)
"""Smallest change of the power ratio in one step that is looked at. [logarithm]"""
ROWS, LEAST_KNOWN = 48, 36
"""Quarter-hours on each side that are compared, and how many of them must be known."""
SHARP, CALM = 0.8, 0.25
"""Least part of the change in one step, and how far the ratio may vary on each side, by the change."""
ALONE = 0.2
"""Largest part of the change by which the other side may move."""
LEAST_SWING, LEAST_CORRELATION, RESPONSE_SPREAD = 0.01, 0.8, 1.25
"""What it takes to see the response of the facility to IT, and how far its factor may be off."""
RATIO_HINT = "its ratio or unit seems to be another one from here on: give multiplier a date, or acknowledge"


class _Side(NamedTuple):
    """Energies of one side of a step. [kWh]"""

    facility: Floats
    it: Floats

    @property
    def ratio(self) -> float:
        return float(np.median(np.log(self.facility / self.it)))


def ratio_changes(
    parts: Boundary,
    table: pd.DataFrame,
    facility: Floats,
    it: Floats,
    *,
    is_now: bool,
    lasting: Sequence[Finding] = (),
) -> list[Finding]:
    """Steps of the power ratio that no load makes, each up to the way back.

    Parameters
    ----------
    parts : Boundary
        What counts for the site.
    table : DataFrame of float64, shape (n, points)
        Energy per quarter-hour, indexed by its start in UTC. [kWh]
    facility, it : float64, shape (n,)
        Its sums. [kWh] NaN: not known.
    is_now : bool
        Whether the time ends now, so that what lasts to its end goes on.
    lasting : sequence of Finding
        Found earlier; one whose step lies before what the table shows goes on up to the way back.
    """
    flows = (facility > 0) & (it > 0)
    log_ratio = np.full(len(it), np.nan)
    log_ratio[flows] = np.log(facility[flows] / it[flows])
    earlier = _at_the_start(lasting, table)
    found = [_lengthened(f, table, is_now=is_now) for f in earlier]
    after, last_factor = 0, _change_of(earlier[0]) if earlier else 0.0
    for row in _steps(log_ratio).tolist():
        if row < after:
            continue
        sides = _sides(facility, it, flows, row)
        change = _moved(log_ratio, row, *sides) if sides else None
        if sides is None or change is None:
            continue
        after = row + ROWS
        if found and abs(last_factor + change) < LEAST_STEP:  # the way back
            found[-1] = _ended(found[-1], table.index[row])
            last_factor = 0.0
            continue
        point = _culprit(parts, table, row, *sides)
        if point is not None:
            found.append(_finding(point, table, row, sides, is_now=is_now))
            last_factor = change
    return found


def _steps(log_ratio: Floats) -> npt.NDArray[np.intp]:
    """Rows in which the ratio goes from one level to another."""
    if len(log_ratio) < 2 * LEAST_KNOWN:
        return np.empty(0, np.intp)
    across = np.abs(log_ratio[2:] - log_ratio[:-2])
    return np.flatnonzero(across >= SHARP * LEAST_STEP) + 1


def _sides(
    facility: Floats, it: Floats, flows: npt.NDArray[np.bool_], row: int
) -> tuple[_Side, _Side] | None:
    sides = []
    for rows in (slice(max(row - ROWS, 0), row), slice(row + 1, row + 1 + ROWS)):
        known = flows[rows]
        if known.sum() < LEAST_KNOWN:
            return None
        sides.append(_Side(facility[rows][known], it[rows][known]))
    return sides[0], sides[1]


def _moved(log_ratio: Floats, row: int, before: _Side, after: _Side) -> float | None:
    """Change of the logarithm of the ratio, if it is sharp and calm on both sides."""
    change = after.ratio - before.ratio
    calm = max(float(np.log(s.facility / s.it).std()) for s in (before, after)) <= CALM * abs(change)
    sharp = abs(float(log_ratio[row + 1] - log_ratio[row - 1])) >= SHARP * abs(change)
    return change if abs(change) >= LEAST_STEP and calm and sharp else None


def _culprit(parts: Boundary, table: pd.DataFrame, row: int, before: _Side, after: _Side) -> Point | None:
    """The point whose ratio changed; None where a load may have."""
    near = slice(max(row - 4, 0), row), slice(row + 1, row + 5)
    moved = {p.id: _step_of(table[p.id].to_numpy(), *near) for p in parts.points() if p.id in table.columns}
    change = after.ratio - before.ratio
    it = math.log(_near(after.it, first=True) / _near(before.it, first=False))
    facility = math.log(_near(after.facility, first=True) / _near(before.facility, first=False))
    if abs(it) >= SHARP * abs(change) and abs(facility) <= ALONE * abs(change):
        return max(parts.it, key=lambda p: abs(moved.get(p.id, 0.0)) * abs(p.weight))
    is_alone = abs(facility) >= SHARP * abs(change) and abs(it) <= ALONE * abs(change)
    if is_alone and _responds_alike(before, after, math.exp(change)):
        carriers = [p for p in parts.points() if p.id in parts.facility]
        return max(carriers, key=lambda p: abs(moved.get(p.id, 0.0)), default=None)
    return None


def _near(energy: Floats, *, first: bool) -> float:
    return float(np.mean(energy[:4] if first else energy[-4:]))


def _step_of(energy: Floats, before: slice, after: slice) -> float:
    sides = [energy[rows][np.isfinite(energy[rows])] for rows in (before, after)]
    return float(sides[1].mean() - sides[0].mean()) if all(map(len, sides)) else 0.0


def _responds_alike(before: _Side, after: _Side, factor: float) -> bool:
    """Whether the response of the facility to IT changed by the factor of the level."""
    slopes = [_slope(side) for side in (before, after)]
    if any(s is None or s <= 0 for s in slopes):
        return False
    off = (slopes[1] or 0.0) / (slopes[0] or 1.0) / factor
    return max(off, 1 / off) <= RESPONSE_SPREAD


def _slope(side: _Side) -> float | None:
    if side.it.std() < LEAST_SWING * side.it.mean() or side.facility.std() == 0:
        return None
    if float(np.corrcoef(side.it, side.facility)[0, 1]) < LEAST_CORRELATION:
        return None
    return float(np.polyfit(side.it, side.facility, 1)[0])


def _finding(
    point: Point, table: pd.DataFrame, row: int, sides: tuple[_Side, _Side], *, is_now: bool
) -> Finding:
    start, end = table.index[row].to_pydatetime(), _end(table).to_pydatetime()
    evidence: Evidence = {
        "before": round(math.exp(sides[0].ratio), 4),
        "after": round(math.exp(sides[1].ratio), 4),
        "hint": RATIO_HINT,
        **({GOES_ON: "yes"} if is_now else {}),
    }
    return Finding(FindingKind.RATIO_CHANGED, point.id, start, end, Severity.ERROR, None, evidence)


def _change_of(finding: Finding) -> float:
    """Change of the logarithm of the ratio."""
    return math.log(float(finding.evidence["after"]) / float(finding.evidence["before"]))


def _at_the_start(lasting: Sequence[Finding], table: pd.DataFrame) -> list[Finding]:
    """The latest finding, if any, that holds where the table begins, too near to it to be seen again."""
    first, seen_from = table.index[0], table.index[min(LEAST_KNOWN, len(table)) - 1]
    return [f for f in lasting if f.start <= seen_from and (f.end > first or GOES_ON in f.evidence)][-1:]


def _lengthened(finding: Finding, table: pd.DataFrame, *, is_now: bool) -> Finding:
    ended = _ended(finding, _end(table))
    return replace(ended, evidence={**ended.evidence, **({GOES_ON: "yes"} if is_now else {})})


def _end(table: pd.DataFrame) -> pd.Timestamp:
    end: pd.Timestamp = table.index[-1] + pd.Timedelta("15min")
    return end


def _ended(finding: Finding, end: pd.Timestamp) -> Finding:
    evidence = {key: value for key, value in finding.evidence.items() if key != GOES_ON}
    return Finding(
        finding.kind, finding.point, finding.start, end.to_pydatetime(), finding.severity, None, evidence
    )
