"""How far a change reaches: which intervals to compute again, and from which reading on.

Rolling up costs what changed, not what is stored: a late reading replaces the few intervals around
it. :func:`affected` finds readings before and after the change from which everything else is as it
was, or says that it was shown too little to find them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain import register
from app.domain.energy import BREAKS, Event, Series, corrected
from app.domain.likely import HISTORY, Bools, Ints
from app.domain.period import QUARTER_HOUR_US
from app.domain.quantity import ReadingKind
from app.domain.register import LOOK_AHEAD, LOOK_BACK_US, QUIET, REACH, STANDSTILL, US, ZERO_RUN_US
from app.domain.site import Point


class Recalculation(NamedTuple):
    """What must be computed again after readings or events in a stretch of time."""

    first_row: int
    """Reading from which to walk."""
    start_us: int
    end_us: int
    """Intervals to replace, on 15-minute boundaries, half-open. [us]"""


def recalculation(
    series: Series,
    point: Point,
    dirty_start_us: int,
    dirty_end_us: int,
    events: Sequence[Event] = (),
    *,
    is_start: bool,
    is_end: bool,
) -> Recalculation | None:
    """The intervals that readings or events between two instants can have changed.

    Parameters
    ----------
    series : Series
        Readings around the change, the new ones among them.
    point : Point
        What they mean.
    dirty_start_us, dirty_end_us : int
        Instants of the first and last change, both included. [us]
    events : sequence of Event
        What people declared about the point.
    is_start, is_end : bool
        Whether the series begins with the point's first reading and ends with its last.

    Returns
    -------
    Recalculation or None
        None where the context is too short to tell: ask again with more readings on both sides.
    """
    breaks_us = np.array(sorted(e.start_us for e in events if e.kind in BREAKS), np.int64)
    rows, series = _usable(series, events)
    dirty_start_us, dirty_end_us = _to_breaks(series.at_us, breaks_us, dirty_start_us, dirty_end_us)
    if not len(series):
        return Recalculation(0, _floor(dirty_start_us), _ceil(dirty_end_us)) if is_start and is_end else None
    sound = np.flatnonzero(anchors(series, point) & ~_near(series, breaks_us))
    reach_us = _reach_us(series, point, dirty_end_us)
    left = _left_anchor(series, point, sound, dirty_start_us, dirty_end_us, reach_us, is_start)
    right = _right_anchor(series, point, sound, dirty_end_us, is_end)
    if left is None or right is None:
        return None
    first_us, last_us = _to_breaks(series.at_us, breaks_us, int(series.at_us[0]), int(series.at_us[-1]))
    begins_here = left[0] == 0 and is_start  # else the interval of the first reading began before it
    start_us = min(left[1], _floor(first_us) if begins_here else left[1], _floor(dirty_start_us))
    end_us = max(right, _ceil(last_us) if right >= series.at_us[-1] else right, _ceil(dirty_end_us))
    return Recalculation(int(rows[left[0]]) if left[0] else 0, start_us, end_us)


def _usable(series: Series, events: Sequence[Event]) -> tuple[npt.NDArray[np.intp], Series]:
    """The readings as corrected, without those that are void, and their rows in `series`."""
    series = corrected(series, events)
    rows = np.flatnonzero(np.isfinite(series.value))
    return rows, series if len(rows) == len(series) else series.take(rows)


def _to_breaks(at_us: Ints, breaks_us: Ints, first_us: int, last_us: int) -> tuple[int, int]:
    """The change with the declared exchanges beside it that no reading parts from it."""
    before = at_us[np.searchsorted(at_us, first_us) - 1] if len(at_us) and at_us[0] < first_us else -np.inf
    after = at_us[np.searchsorted(at_us, last_us, "right")] if len(at_us) and at_us[-1] > last_us else np.inf
    left = breaks_us[(breaks_us >= before) & (breaks_us < first_us)]
    right = breaks_us[(breaks_us > last_us) & (breaks_us <= after)]
    return int(left[-1]) if len(left) else first_us, int(right[0]) if len(right) else last_us


def _near(series: Series, breaks_us: Ints) -> Bools:
    """Readings that a walk from a declared exchange on may see otherwise than one across it."""
    near = np.zeros(len(series), np.bool_)
    for at_us in breaks_us.tolist():
        row = int(np.searchsorted(series.at_us, at_us))
        near[max(row - QUIET, 0) : row + QUIET] = True
        until = int(np.searchsorted(series.at_us, at_us + ZERO_RUN_US, "right"))
        near[row:until] |= series.value[row:until] == 0
    return near


def anchors(series: Series, point: Point) -> Bools:
    """Readings from which a computation may start and give what the whole series gives; shape (n,).

    For intervals: those that do not overlap their predecessor; for registers see ``register.anchors``.
    """
    if point.kind is ReadingKind.REGISTER:
        return register.anchors(series.at_us, series.value, point)
    if point.kind is ReadingKind.POWER:
        return np.ones(len(series), np.bool_)
    free = np.zeros(len(series), np.bool_)  # of the first, what came before is not known
    free[1:] = _begins_us(series, point)[1:] >= series.at_us[:-1]
    return free


def _begins_us(series: Series, point: Point) -> Ints:
    """Start of what each reading speaks of: of its interval, for the interval kinds."""
    if point.kind in (ReadingKind.REGISTER, ReadingKind.POWER):
        return series.at_us
    length_s = np.where(series.interval_s > 0, series.interval_s, point.interval_s)
    begins_us: Ints = series.at_us - length_s.astype(np.int64) * US
    return begins_us


def _standstill_begins(series: Series, row: int) -> int:
    """First reading of the standstill around a row: a rise behind it may have been spread over it."""
    row = max(row, 0)
    first = row
    while first and series.value[first - 1] == series.value[row]:
        first -= 1
    return first if row - first >= STANDSTILL else row


def _left_anchor(
    series: Series,
    point: Point,
    sound: Ints,
    dirty_start_us: int,
    dirty_end_us: int,
    reach_us: int,
    is_start: bool,
) -> tuple[int, int] | None:
    """Row from which to walk, and the first interval to replace."""
    changed = int(np.searchsorted(series.at_us, dirty_start_us - reach_us))
    before = changed - LOOK_AHEAD - 2 - REACH
    if point.kind is ReadingKind.REGISTER and series.at_us[-1] > dirty_end_us:
        before = min(before, _standstill_begins(series, changed - HISTORY))
    usable = sound[sound <= before]
    first_us = _floor(int(series.at_us[usable[-1]])) if len(usable) else None
    if first_us is not None:
        earlier = usable[(series.at_us[usable] <= first_us) & (usable <= usable[-1] - HISTORY)]
        if len(earlier):
            return int(earlier[-1]), first_us
    if not is_start:
        return None
    start_us = int(_begins_us(series, point)[0])
    return 0, min(_floor(start_us), first_us if first_us is not None else _floor(start_us))


def _reach_us(series: Series, point: Point, dirty_end_us: int) -> int:
    """How far back the step after the change may have been spread, where it showed a clock set back. [us]"""
    is_rated_register = point.kind is ReadingKind.REGISTER and math.isfinite(point.max_power_kw)
    return LOOK_BACK_US if is_rated_register and series.at_us[-1] > dirty_end_us else 0


def _right_anchor(series: Series, point: Point, sound: Ints, dirty_end_us: int, is_end: bool) -> int | None:
    """End of the last interval to replace."""
    after = int(np.searchsorted(series.at_us, dirty_end_us, "right")) + QUIET + 1 + REACH
    usable = sound[sound >= after]
    if len(usable):
        last_us = _ceil(int(series.at_us[usable[0]]))
        if (_begins_us(series, point)[usable] >= last_us).any():
            return last_us
    return _ceil(int(series.at_us[-1])) if is_end else None


def _floor(at_us: int) -> int:
    return at_us // QUARTER_HOUR_US * QUARTER_HOUR_US


def _ceil(at_us: int) -> int:
    return -(-at_us // QUARTER_HOUR_US) * QUARTER_HOUR_US
