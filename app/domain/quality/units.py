"""Instants from which a point counts in another unit, or by another transformer ratio.

A register shows it by its level and its rate, which change by the same factor. Power and interval energy
show a level that the point never had before, and that it keeps: by a thousand in one step, or by another
factor if their fluctuation grows alike, which that of a load that was switched on does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from app.domain.energy import Event, EventKind, Series
from app.domain.likely import HISTORY, scale_changes, unlikely_values
from app.domain.quality.factors import nearest
from app.domain.quality.finding import GOES_ON, Evidence, Finding, FindingKind, Floats, Severity, at
from app.domain.quantity import ReadingKind
from app.domain.site import Falls, Point

UNIT_HINT = "readings from here on count in another unit: correct them, or give multiplier from then on"
FACTOR_SPREAD = 1.3
"""How far the way back of a change of unit may be from the way there, and a step of 1000 from 1000."""
LEAST_STEP = 8.0
"""A step of power or interval energy by less than this is a load's."""
KEPT = 4
"""Readings on the new scale that make a change of it."""
FLUCTUATION = 64
"""Readings on each side whose fluctuation is compared."""
FLUCTUATION_SPREAD = 2.0
"""How far the factor of the fluctuation may be from that of the level."""
_FOREVER_US = 2**62


class _Change(NamedTuple):
    """A change of scale; rows of the series."""

    first: int
    """First reading on the new scale."""
    back: int | None
    """First reading on the old one again; None: there is none yet."""
    factor: float


def unit_changes(point: Point, series: Series) -> list[Finding]:
    """Instants from which a point counts by another factor, each up to the way back.

    Parameters
    ----------
    point : Point
        Of any kind that carries energy.
    series : Series
        Its readings, finite.

    Returns
    -------
    list of Finding
        With the factor; one that has no end yet says so (`goes_on`).
    """
    if point.kind is ReadingKind.REGISTER:
        changes = _of_register(series) if point.falls is Falls.SUSPECT else iter(())
    else:
        changes = _of_values(series.value)
    return [_finding(point, series, change) for change in changes]


def _finding(point: Point, series: Series, change: _Change) -> Finding:
    evidence: Evidence = {
        "factor": nearest(change.factor),
        "before": float(series.value[change.first - 1]),
        "after": float(series.value[change.first]),
        "hint": UNIT_HINT,
    }
    if change.back is None:
        evidence[GOES_ON] = "yes"
    end = len(series) - 1 if change.back is None else change.back
    start_us, end_us = series.at_us[change.first], series.at_us[end]
    return Finding(
        FindingKind.UNIT_CHANGED, point.id, at(start_us), at(end_us), Severity.ERROR, None, evidence
    )


def withheld(findings: Iterable[Finding]) -> dict[str, list[Event]]:
    """The readings that findings of a changed unit keep from counting, by point."""
    found: dict[str, list[Event]] = {}
    for finding in findings:
        if finding.kind is FindingKind.UNIT_CHANGED:
            start_us, end_us = (round(t.timestamp() * 1e6) for t in (finding.start, finding.end))
            event = withholding(start_us, end_us, goes_on=GOES_ON in finding.evidence)
            found.setdefault(finding.point, []).append(event)
    return found


def withholding(start_us: int, end_us: int, *, goes_on: bool) -> Event:
    """The entry that keeps the readings of a finding from counting."""
    return Event(EventKind.WITHHELD, start_us, _FOREVER_US if goes_on else end_us)


def _of_register(series: Series) -> Iterator[_Change]:
    scales = [*zip(*(column.tolist() for column in scale_changes(series.at_us, series.value)), strict=True)]
    while scales:
        row, factor = scales.pop(0)
        back = scales.pop(0)[0] if scales and _is_way_back(factor, scales[0][1]) else None
        yield _Change(row, back, factor)


def _is_way_back(there: float, back: float) -> bool:
    return abs(math.log(there * back)) < math.log(FACTOR_SPREAD)


def _of_values(value: Floats) -> Iterator[_Change]:
    """At most one: a load that changes its level again and again does so by itself."""
    rows = np.flatnonzero((value != 0) & ~unlikely_values(value))
    size = np.abs(value[rows])
    if len(size) < HISTORY + KEPT:
        return
    steps = np.abs(np.diff(np.log(size))) >= math.log(LEAST_STEP)
    for step in (np.flatnonzero(steps) + 1)[:2].tolist():
        change = _kept_change(size, step)
        if change is not None:
            first, back = int(rows[change.first]), None if change.back is None else int(rows[change.back])
            yield _Change(first, back, change.factor)
            return


def _kept_change(size: Floats, step: int) -> _Change | None:
    """The change of scale at a step; None where the level was there before, is not kept, or is a load's."""
    if step < KEPT or len(size) - step < KEPT:
        return None
    before = np.median(size[max(step - HISTORY, 0) : step])
    after = np.median(size[step : step + HISTORY])
    factor = float(after / before)
    is_high = size > math.sqrt(before * after)
    turns = np.flatnonzero(np.diff(is_high)) + 1
    back = int(turns[1]) if len(turns) == 2 else None
    kept = (len(size) if back is None else back) - step
    is_kept = len(turns) in (1, 2) and turns[0] == step and kept >= KEPT
    if not is_kept or max(factor, 1 / factor) < LEAST_STEP:
        return None
    alike = _is_thousand(float(size[step] / size[step - 1])) or _fluctuates_alike(size, step, back, factor)
    return _Change(step, back, factor) if alike else None


def _is_thousand(factor: float) -> bool:
    decades = abs(math.log10(factor))
    nearest_decades = 3 * max(round(decades / 3), 1)
    return abs(decades - nearest_decades) < math.log10(FACTOR_SPREAD)


def _fluctuates_alike(size: Floats, step: int, back: int | None, factor: float) -> bool:
    """Whether the steps from reading to reading changed by the factor of the level as well."""
    earlier = np.abs(np.diff(size[max(step - FLUCTUATION, 0) : step])).mean()
    later = np.abs(np.diff(size[step : min(step + FLUCTUATION, back or len(size))])).mean()
    if not (earlier > 0 and later > 0):
        return False
    off = float(later / earlier) / factor
    return max(off, 1 / off) < FLUCTUATION_SPREAD
