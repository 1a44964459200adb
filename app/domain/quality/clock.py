"""What the stamps of the readings show: clocks that drift, points that are read too rarely."""

from __future__ import annotations

import numpy as np

from app.domain.energy import Series
from app.domain.pue import CATEGORY_SHARE, LONGEST_INTERVAL_S
from app.domain.quality.finding import (
    DAY_US,
    Bools,
    Evidence,
    Finding,
    FindingKind,
    Floats,
    Ints,
    Severity,
    at,
    finite,
    runs,
)
from app.domain.quality.values import STUCK_READINGS
from app.domain.quantity import CATEGORY_OF_IT_ROLE
from app.domain.register import US
from app.domain.site import Point

PHASE_TOLERANCE_S, DRIFT_S = 5.0, 60.0
"""Stamps off their grid by more than the first begin a drift; it must reach the second. [s]"""
ENOUGH_STAMPS = 4
"""So many tell a day's distance from the grid; half the usual number where that is less."""
ON_BEAT_SHARE = 0.9


def clock_drift(point: Point, series: Series) -> list[Finding]:
    """A device whose own stamps leave the grid of its reading interval.

    Per day, the median distance of the stamps from multiples of the interval; a drift is a stretch
    of days off the usual distance that reaches :data:`DRIFT_S`. Stamps without a steady distance (a
    poller that jitters) tell nothing, nor do those of a day that was read at another beat: quarter-hours
    from files may go on as polls of every minute, which are on no grid of quarter-hours.

    Parameters
    ----------
    point : Point
        With `interval_s`.
    series : Series
        Readings stamped by the device.
    """
    if len(series) < STUCK_READINGS:
        return []
    day, phase_s = _daily_phase_s(series.at_us, point.interval_s)
    off = np.abs(_wrapped(phase_s - _usual_phase_s(phase_s), point.interval_s))
    found = []
    for first, last in runs(off > PHASE_TOLERANCE_S):
        if last > first and off[first : last + 1].max() >= DRIFT_S:
            found.append(_drift(point, day, phase_s, off, first, last))
    return found


def _daily_phase_s(at_us: Ints, interval_s: int) -> tuple[Ints, Floats]:
    """Days (number since 1970) and the median distance of the day's stamps from the grid. [s]

    Days on which the stamps are few, come at another beat or have no steady distance are left out.
    """
    numbers, first, counts = np.unique(at_us // DAY_US, return_index=True, return_counts=True)
    phase_s = _wrapped((at_us % (interval_s * US)) / US, interval_s)
    days = np.split(phase_s, first[1:])
    middle = np.array([_circular_median(part, interval_s) for part in days])
    spread = np.array(
        [np.median(np.abs(_wrapped(p - m, interval_s))) for p, m in zip(days, middle, strict=True)]
    )
    enough = counts >= min(ENOUGH_STAMPS, DAY_US / (interval_s * US) / 2)
    usable = enough & (spread <= PHASE_TOLERANCE_S) & _on_beat(at_us, first, interval_s)
    return numbers[usable], middle[usable]


def _on_beat(at_us: Ints, first: Ints, interval_s: int) -> Bools:
    """Days, by their first stamps, on which nearly every stamp is whole intervals behind the one before."""
    spacing_s = np.diff(at_us, prepend=2 * at_us[0] - at_us[1]) / US
    whole = (spacing_s > interval_s / 2) & (np.abs(_wrapped(spacing_s, interval_s)) <= PHASE_TOLERANCE_S)
    share = np.array([part.mean() for part in np.split(whole, first[1:])])
    on_beat: Bools = share >= ON_BEAT_SHARE
    return on_beat


def _circular_median(phase_s: Floats, interval_s: int) -> float:
    """Median of distances on a circle, seen from the first of them."""
    around = _wrapped(phase_s - phase_s[0], interval_s)
    return float(_wrapped(np.array([np.median(around) + phase_s[0]]), interval_s)[0])


def _wrapped(seconds: Floats, interval_s: int) -> Floats:
    half = interval_s / 2
    wrapped: Floats = (seconds + half) % interval_s - half
    return wrapped


def _usual_phase_s(phase_s: Floats) -> float:
    """The distance that most days have; the first day's where no two agree."""
    values, counts = np.unique(np.rint(phase_s), return_counts=True)
    return (
        float(values[np.argmax(counts)])
        if len(counts) and counts.max() > 1
        else float(phase_s[0])
        if len(phase_s)
        else 0.0
    )


def _drift(point: Point, day: Ints, phase_s: Floats, off: Floats, first: int, last: int) -> Finding:
    per_day = np.polyfit(
        day[first : last + 1] - day[first], np.unwrap(phase_s[first : last + 1], period=point.interval_s), 1
    )
    evidence: Evidence = {
        "largest_s": float(off[first : last + 1].max()),
        "per_day_s": round(float(per_day[0]), 3),
    }
    return Finding(
        FindingKind.CLOCK_DRIFT,
        point.id,
        at(day[first] * DAY_US),
        at((day[last] + 1) * DAY_US),
        Severity.WARNING,
        None,
        evidence,
    )


def interval_too_long(point: Point, series: Series) -> list[Finding]:
    """An IT point that is read too rarely for the category its place would give (ISO/IEC 30134-2).

    Judged by the interval within which :data:`app.domain.pue.CATEGORY_SHARE` of the time was read.
    """
    place = CATEGORY_OF_IT_ROLE.get(point.role, 1)
    series = finite(series)
    if place == 1 or len(series) < 2:
        return []
    spacing_s = np.where(series.interval_s[1:] > 0, series.interval_s[1:], np.diff(series.at_us) / US)
    if _time_share(spacing_s, LONGEST_INTERVAL_S[place]) >= CATEGORY_SHARE:
        return []
    reached = 2 if _time_share(spacing_s, LONGEST_INTERVAL_S[2]) >= CATEGORY_SHARE else 1
    evidence: Evidence = {
        "usual_interval_s": float(np.median(spacing_s)),
        "longest_allowed_s": LONGEST_INTERVAL_S[place],
        "category_by_place": place,
        "category_reached": min(reached, place),
    }
    return [
        Finding(
            FindingKind.INTERVAL_TOO_LONG,
            point.id,
            at(series.at_us[0]),
            at(series.at_us[-1]),
            Severity.INFO,
            0.0,
            evidence,
        )
    ]


def _time_share(spacing_s: Floats, longest_s: float) -> float:
    """Share of the time that was read at most so far apart; gaps are not a reading interval."""
    usual = spacing_s[spacing_s <= 10 * np.median(spacing_s)]
    return float(usual[usual <= longest_s].sum() / usual.sum())
