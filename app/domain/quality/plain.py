"""Readings without any data quality issue, recognised for many points at once.

Most of what arrives is plain: a register that rises as it did before, power within the rating, no reading
missing. :func:`plain` says where that is so, by rules stricter than those of the detectors; only the rest
has to be looked at with care.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.domain.likely import HISTORY, HOUR_US, likely_rises_before
from app.domain.quality.finding import Bools, Ints
from app.domain.quality.values import SHORTEST_GAP_S
from app.domain.quantity import ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.register import US
from app.domain.site import Point

STEADY_RATIO = 20.0
"""A value is plain while it is at most so many times the one before it, or that many times it."""
LONG_STEP = 2
"""In a step without a rating that is so many times as long as the one before it a whole wrap may hide."""
USUAL_RISE = 4.0
"""A register without a rating is plain while it rises at most so many times what the steps before say."""


def plain(
    points: Sequence[Point], columns: ReadingColumns, new_from_us: Ints, is_start: Bools | None = None
) -> Bools:
    """Whether the new readings of each point, and those just before them, leave nothing to be found.

    True only where no detector of single stretches (gaps, spikes, steps of registers, negative power) could
    report anything, whatever follows. A stretch that begins a series is plain only where that is known and
    the point has a rating, or is a gauge: without one, what came before judges every reading.

    Parameters
    ----------
    points : sequence of Point, length n
        With the ratings of their meters (``site.effective(meter, point)``).
    columns : ReadingColumns
        New readings with those around them, by point and time; `point_id` is the place in `points`.
    new_from_us : int64, shape (n,)
        Instant of the first new reading of each point. [us]
    is_start : bool array, shape (n,), optional
        Points of which nothing is known before these readings.

    Returns
    -------
    bool array, shape (n,)
        Points without any reading here are plain: nothing of theirs changed.
    """
    count = len(points)
    index, at_us = columns.point_id, columns.at_us
    total = np.bincount(index, minlength=count)
    before = np.bincount(index[at_us < new_from_us[index]], minlength=count)
    odd = np.bincount(index[~_sound(points, columns)], minlength=count)
    odd += np.bincount(index[1:][~_sound_steps(points, columns, new_from_us)], minlength=count)
    begins = np.zeros(count, np.bool_) if is_start is None else is_start & ~_unrated(points)
    found: Bools = (odd == 0) & ((before > 1) | (total == 0) | begins)
    return found


def _unrated(points: Sequence[Point]) -> Bools:
    """Points of energy whose meter states no rating."""
    return np.array(
        [math.isinf(p.max_power_kw) and p.kind is not ReadingKind.GAUGE for p in points], np.bool_
    )


def _sound(points: Sequence[Point], columns: ReadingColumns) -> Bools:
    """Readings that are numbers and, of all but registers and gauges, between zero and the rating."""
    free = np.array([p.kind in (ReadingKind.REGISTER, ReadingKind.GAUGE) for p in points], np.bool_)
    energy = np.array([p.kind is ReadingKind.INTERVAL_ENERGY for p in points], np.bool_)
    interval_s = np.array([p.interval_s for p in points], np.float64)
    index = columns.point_id
    length_s = np.where(columns.interval_s > 0, columns.interval_s, interval_s[index])
    hours = np.where(energy[index], length_s / 3600, 1.0)
    power_kw = columns.value * np.array([p.multiplier for p in points], np.float64)[index] / hours
    most_kw = np.array([min(p.max_power_kw, p.ceiling_kw) for p in points], np.float64)
    bounded = (power_kw >= 0) & (power_kw <= most_kw[index])
    sound: Bools = np.isfinite(columns.value) & (free[index] | bounded)
    return sound


def _sound_steps(points: Sequence[Point], columns: ReadingColumns, new_from_us: Ints) -> Bools:
    """Steps from reading to reading that leave no gap and, of registers, rise as the circuit allows."""
    index, same = columns.point_id[1:], columns.point_id[1:] == columns.point_id[:-1]
    is_register = np.array([p.kind is ReadingKind.REGISTER for p in points], np.bool_)
    step_us = np.diff(columns.at_us)
    interval_s = np.array([p.interval_s for p in points], np.int64)
    near = step_us < ((interval_s + np.where(is_register, 2, 1) * SHORTEST_GAP_S) * US)[index]
    rises = _rises(points, columns, new_from_us, index, same, step_us)
    sound: Bools = ~same | (near & np.where(is_register[index], rises, _steady(points, columns)))
    return sound


def _steady(points: Sequence[Point], columns: ReadingColumns) -> Bools:
    """Steps of values by no factor that may be one of units.

    A load that goes off is steady, and so is a rated one that comes back.
    """
    flows = np.array([p.kind is not ReadingKind.GAUGE for p in points])
    size = np.abs(columns.value)
    before, after, index = size[:-1], size[1:], columns.point_id[1:]
    rises = (after > STEADY_RATIO * before) & (_unrated(points)[index] | (before > 0))
    falls = (before > STEADY_RATIO * after) & (after > 0)
    steady: Bools = ~(flows[index] & (rises | falls))
    return steady


def _rises(
    points: Sequence[Point],
    columns: ReadingColumns,
    new_from_us: Ints,
    index: npt.NDArray[np.int32],
    same: Bools,
    step_us: Ints,
) -> Bools:
    rating = np.array([p.max_power_kw / p.multiplier for p in points], np.float64)[index]
    modulus = np.array([p.modulus_kwh for p in points], np.float64)
    rise, unrated = np.diff(columns.value), np.isinf(rating)
    most = np.where(unrated, 0.0, rating) * step_us / HOUR_US
    hides_wrap = np.isfinite(modulus[index]) & ~unrated & (most >= modulus[index])
    if unrated.any():
        likely = likely_rises_before(columns.point_id, columns.at_us, columns.value)
        judged = ~_is_settled(columns, new_from_us)
        most = np.where(unrated, np.where(judged, USUAL_RISE * likely, np.inf), most)
        before_us = np.where(np.append(False, same[:-1]), np.append(0, step_us[:-1]), 0)
        hides_wrap |= unrated & judged & np.isfinite(modulus[index]) & (step_us >= LONG_STEP * before_us)
    ceiling = np.array([p.ceiling_kw / p.multiplier for p in points], np.float64)[index]
    rises: Bools = (rise >= 0) & (rise <= most) & ~hides_wrap & (rise <= ceiling * step_us / HOUR_US)
    return rises


def _is_settled(columns: ReadingColumns, new_from_us: Ints) -> Bools:
    """Steps so far before the new readings that these cannot change what is thought of them."""
    index, at_us = columns.point_id, columns.at_us
    first_new = np.bincount(index[at_us < new_from_us[index]], minlength=len(new_from_us))
    begins = np.searchsorted(index, np.arange(len(new_from_us)))
    place = np.arange(len(index)) - begins[index]
    settled: Bools = place[1:] < (first_new[index] - HISTORY)[1:]
    return settled


def margin_s(point: Point) -> float:
    """How far before and after new readings :func:`plain` wants to see. [s]

    An hour, and at least 16 reading intervals; of points that are read every few seconds no more than 120.
    """
    return max(16.0 * point.interval_s, min(120.0 * point.interval_s, 3600.0))
