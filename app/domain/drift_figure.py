"""What is said of a plant's drift at a point in time: for reports, messages, pages and boards."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import numpy as np

from app.domain.baseline import Baseline, Conditions
from app.domain.drift import FURTHEST_LOAD_RATIO, Blame, Course, Episode, Floats, Mark, PlantDays
from app.domain.savings import LEVEL, Range


class Watched(StrEnum):
    """Whether drift is watched, and what is known."""

    DRIFTING = "drifting"
    NONE = "none"
    """The plant uses no more than its own baseline."""
    LEARNING = "learning"
    """The level of the plant is being learned anew: nothing is said."""
    NO_BASELINE = "no_baseline"
    """No baseline of days is frozen."""
    NOT_ACCEPTED = "not_accepted"
    """The frozen baseline is not accepted."""
    NO_DAYS = "no_days"
    """No day after the baseline period is known."""


@dataclass(frozen=True, slots=True)
class Excess:
    """Energy beyond the baseline since the onset of a drift."""

    kwh: Range
    counted_days: int
    """Days that are known; no others are in it."""
    days: int
    """From the onset to the last known day."""


@dataclass(frozen=True, kw_only=True)
class DriftFigure:
    """How a plant stands against its own frozen baseline."""

    state: Watched
    baseline: Baseline | None = None
    known_to: date | None = None
    """Last day of which something is known."""
    going: Episode | None = None
    """The drift that goes on."""
    excess: Excess | None = None
    """Of the drift that goes on."""
    blame: Blame = field(default_factory=lambda: Blame({}, 0.0))
    weeks_to_limit: float | None = None
    limit_pue: float | None = None
    learning_since: Mark | None = None
    episodes: tuple[Episode, ...] = ()
    """All drifts since the baseline period, the last one may go on."""
    days: PlantDays | None = None
    """The days after the baseline period."""
    level_ratio: Floats | None = None
    """Level of the plant on these days; NaN while it is learned."""

    def between(self, start: date, end: date) -> tuple[Episode, ...]:
        """Drifts that touch a span of days, half-open."""
        return tuple(
            one for one in self.episodes if one.onset < end and (one.over_on is None or one.over_on > start)
        )


def state_of(course: Course) -> Watched:
    """What is known of drift at the end of a course."""
    if course.open is not None:
        return Watched.DRIFTING
    return Watched.LEARNING if course.learning_since is not None else Watched.NONE


def last_known(days: PlantDays) -> date | None:
    """Last day with an expectation."""
    known = days.dates[np.isfinite(days.excess_ratio)]
    return known[-1].astype("datetime64[D]").item() if len(known) else None


def excess(baseline: Baseline, rows: Conditions, course: Course, level: float = LEVEL) -> Excess | None:
    """Energy beyond the baseline since the onset of the drift that goes on, with its interval.

    Actual less level x expected energy of the known days. The standard error is that of the expected energy
    (coefficients, form, noise of the days); where the level of the plant was learned, that of the level too.

    Parameters
    ----------
    rows : Conditions
        Those of the watched days, and only those: the same days as the course.
    level : float
        Probability that the interval is meant to have.

    Returns
    -------
    Excess or None
        None: no drift goes on.
    """
    if course.open is None:
        return None
    expected = baseline.expected(rows, load_margin=FURTHEST_LOAD_RATIO)
    days = rows.local_days.astype("datetime64[D]")
    onset = np.datetime64(course.open.onset, "D")
    used = (days >= onset) & expected.within_range & np.isfinite(course.level_ratio)
    if not used.any():
        return None
    ratio, hours = course.level_ratio[used], rows.hours[used]
    expected_kwh, error_kwh = expected.total(used)
    actual_kwh = float(rows.overhead_kw[used] @ hours)
    value = actual_kwh - float((ratio * expected.expected_kw[used]) @ hours)
    is_learned = bool((ratio != 1).any())
    learned_kwh = course.chart.level_error_ratio * expected_kwh if is_learned else 0.0
    half_kwh = expected.critical(level) * float(np.hypot(error_kwh, learned_kwh))
    span = int((days[used][-1] - onset).astype(int)) + 1
    return Excess(Range.around(value, half_kwh), int(used.sum()), span)
