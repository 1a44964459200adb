"""What the neighbouring readings of a point say a reading can be.

A point without a rating is accepted only within what its own readings make likely. The rule looks at
:data:`HISTORY` steps on each side and at nothing else, so a computation over a part of the history gives
what the whole history gives as soon as it has that many readings beside it; every path that computes
energy asks here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HOUR_US = 3_600_000_000

LEAST_READING = 1e-9
"""Below it a register reads nothing of which a factor could be told."""
HISTORY = 8
"""Steps on each side of a step that say what is likely."""
JUMP_RATIO = 20.0
"""A register without a rating is not believed to rise so many times as fast as its neighbours but one."""
POWER_JUMP_RATIO = 50.0
"""The same for single values of power and of interval energy, which vary more."""
STEEP_RATIO = 2.0
"""A rise at most so many times as steep as the flatter of the two beside it needs no closer look."""
LEAST_FACTOR, SCALE_SPREAD = 4.0, 2.0
"""Smallest factor of a change of unit, and how far those of level and rate may be apart."""
_WINDOW = np.array([*range(-HISTORY, 0), *range(1, HISTORY + 1)], np.intp)
_COUNTS = (0.001, 0.01, 0.1, 0.125, 0.25, 0.5, 1.0)
"""Steps in which registers count, finest first."""


def count(a: Floats, b: Floats) -> Floats:
    """Largest usual step of a register that shows `a` and `b`, at least that of a float32."""
    step = np.spacing(np.abs(b).astype(np.float32)).astype(np.float64)
    for size in _COUNTS:
        off = np.maximum(np.abs(a / size - np.rint(a / size)), np.abs(b / size - np.rint(b / size)))
        step = np.where(off < 1e-6 * np.sqrt(np.maximum(1.0, np.abs(b))), np.maximum(size, step), step)
    return step


def usual_rates(at_us: Ints, register: Floats, rows: npt.NDArray[np.intp]) -> Floats:
    """How fast the register rises around the steps that end at `rows`.

    Parameters
    ----------
    at_us : int64, shape (n,)
        Instants, strictly increasing. [us]
    register : float64, shape (n,)
        Cumulative readings. [any unit]
    rows : int, shape (m,)
        Readings at which the steps end, from 1.

    Returns
    -------
    float64, shape (m,)
        Second steepest of the :data:`HISTORY` rises before and after, each less one count, so that one
        other odd step does not excuse this one (the steepest of only one), and at least the mean of all but
        the largest. inf: there is none. [unit/h]
    """
    steps = rows[:, None] + _WINDOW
    real = (steps >= 1) & (steps < len(register))
    steps = np.clip(steps, 1, max(len(register) - 1, 1))
    rise = register[steps] - register[steps - 1]
    fine = count(register[rows - 1], register[rows])[:, None]
    real &= rise >= 0
    length_us = (at_us[steps] - at_us[steps - 1]).astype(np.float64)
    steep = np.where(real, np.maximum(rise - fine, 0.0) * HOUR_US / length_us, -1.0)
    return np.maximum(_second_largest(steep), _mean_rate(np.where(real, rise, 0.0), length_us * real))


def likely_rises_before(point: npt.NDArray[np.int32], at_us: Ints, register: Floats) -> Floats:
    """What :func:`likely_rise` is at least, whatever is read later: by the steps before each step alone.

    Parameters
    ----------
    point : int, shape (n,)
        Whose readings they are; those of one point stand together, in order of time.
    at_us, register
        As in :func:`usual_rates`.

    Returns
    -------
    float64, shape (n - 1,)
        Per step, without :data:`JUMP_RATIO`: the second steepest of the steps before it over its length, and
        one count. [any unit]
    """
    length_us = np.diff(at_us).astype(np.float64)
    rise, same = np.diff(register), point[1:] == point[:-1]
    fine = count(register[:-1], register[1:])
    steps = np.arange(len(rise))[:, None] + _WINDOW[:HISTORY]
    real = (steps >= 0) & (point[np.clip(steps, 0, None)] == point[:-1, None])
    steps = np.clip(steps, 0, None)
    real &= same[steps] & (rise[steps] >= 0) & (length_us[steps] > 0)
    steep = np.zeros(steps.shape)
    np.divide(np.maximum(rise[steps] - fine[:, None], 0.0), length_us[steps], out=steep, where=real)
    second: Floats = np.sort(steep, axis=1)[:, -2]
    return second * length_us + fine


def _mean_rate(rise: Floats, length_us: Floats) -> Floats:
    """Per row the mean rate without the largest rise: a slow register gains a count now and then. [unit/h]"""
    total_us = length_us.sum(axis=1)
    rest = rise.sum(axis=1) - rise.max(axis=1)
    mean: Floats = np.divide(rest * HOUR_US, total_us, where=total_us > 0, out=np.zeros(len(rise)))
    return mean


def _second_largest(columns: Floats) -> Floats:
    """Per row the second largest value that is not negative, the largest of only one, inf of none."""
    top = np.sort(columns, axis=1)[:, -2:]
    return np.where(top[:, 1] < 0, np.inf, np.where(top[:, 0] < 0, top[:, 1], top[:, 0]))


def unlikely_rises(at_us: Ints, register: Floats) -> npt.NDArray[np.intp]:
    """Readings of a register without a rating to which it rose as its neighbours make unlikely.

    The rise exceeds :data:`JUMP_RATIO` times what the usual rate around it gives plus one count.

    Returns
    -------
    int, shape (m,)
        Rows at which such steps end.
    """
    if len(register) < 3:
        return np.empty(0, np.intp)
    rise = np.diff(register)
    rate = rise / np.diff(at_us)
    beside = np.minimum(np.append(np.inf, rate[:-1]), np.append(rate[1:], np.inf))
    beside[[0, -1]] = 0.0
    rows = np.flatnonzero((rise > 0) & (rate > STEEP_RATIO * np.maximum(beside, 0.0))) + 1
    rows = rows[rise[rows - 1] > JUMP_RATIO * count(register[rows - 1], register[rows])]
    return rows[rise[rows - 1] > likely_rise(at_us, register, rows - 1, rows)]


def likely_rise(
    at_us: Ints, register: Floats, previous: npt.NDArray[np.intp], rows: npt.NDArray[np.intp]
) -> Floats:
    """Largest likely rise from the readings `previous` to `rows`; inf where there is nothing to compare."""
    if not len(rows):
        return np.empty(0)
    hours = (at_us[rows] - at_us[previous]) / HOUR_US
    fine = count(register[previous], register[rows])
    most: Floats = JUMP_RATIO * (usual_rates(at_us, register, rows) * hours + fine)
    return most


def scale_changes(at_us: Ints, register: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Readings from which a register counts by another factor: its level and its rate change alike.

    A new unit (Wh for kWh) or transformer ratio, by a factor of at least :data:`LEAST_FACTOR`; the mean rates
    of :data:`HISTORY` steps before and after change by the same, within :data:`SCALE_SPREAD`.

    Returns
    -------
    int and float64, shape (m,)
        Rows of the first readings on the new scale, and the factors.
    """
    before, after = register[:-1], register[1:]
    positive = (before > LEAST_READING) & (after > LEAST_READING)
    ratio = np.divide(after, before, where=positive, out=np.ones(len(before)))
    rows = np.flatnonzero((ratio >= LEAST_FACTOR) | (ratio <= 1 / LEAST_FACTOR)) + 1
    earlier = _rate(at_us, register, np.maximum(rows - 1 - HISTORY, 0), rows - 1)
    later = _rate(at_us, register, rows, np.minimum(rows + HISTORY, len(register) - 1))
    rows_ratio = ratio[rows - 1]
    flows = (earlier > 0) & (later > 0)
    change = np.divide(later, earlier * rows_ratio, where=flows, out=np.full(len(rows), np.inf))
    alike = flows & (np.maximum(change, 1 / change) < SCALE_SPREAD)
    return rows[alike], rows_ratio[alike]


def _rate(at_us: Ints, register: Floats, first: npt.NDArray[np.intp], last: npt.NDArray[np.intp]) -> Floats:
    """Mean rate between readings, 0 where they are the same. [unit/h]"""
    hours = (at_us[last] - at_us[first]) / HOUR_US
    rise = register[last] - register[first]
    rate: Floats = np.divide(rise, hours, where=hours > 0, out=np.zeros(len(first)))
    return rate


def unlikely_values(value: Floats) -> Bools:
    """Values of power, or of interval energy, far beyond all but one of their neighbours; shape (n,).

    A point that is mostly off tells nothing: beside zeros every value is accepted.
    """
    odd = np.zeros(len(value), np.bool_)
    if len(value) < 3:
        return odd
    size = np.abs(value)
    beside = np.minimum(np.append(np.inf, size[:-1]), np.append(size[1:], np.inf))
    beside[[0, -1]] = 0.0
    rows = np.flatnonzero(size > STEEP_RATIO * beside)
    near = rows[:, None] + _WINDOW
    real = (near >= 0) & (near < len(value))
    usual = _second_largest(np.where(real, size[np.clip(near, 0, len(value) - 1)], -1.0))
    odd[rows] = (usual > 0) & (size[rows] > POWER_JUMP_RATIO * usual)
    return odd
