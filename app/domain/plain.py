"""Energies of many points at once, where nothing unusual is near: the same figures to the last bit.

Almost every stretch that has to be computed again is plain: a register that rises within its rating, power
or intervals that are plausible, nothing declared. For those the readings of all points stand in columns,
one window after the other, and each rule is one operation on columns. Ranges are found as in
``domain.recalculation``; spans and intervals come from the same functions of ``domain.energy``. What is not
plain is said so, and goes the careful way, point by point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain import energy, register
from app.domain.energy import Event, QuarterHours, Spans
from app.domain.likely import HISTORY, LEAST_FACTOR, Bools, Floats, Ints, count
from app.domain.period import QUARTER_HOUR_US
from app.domain.quantity import ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.register import LOOK_AHEAD, LOOK_BACK_US, QUIET, REACH, STANDSTILL
from app.domain.site import Direction, Falls, Point, Sampling

KINDS = (
    ReadingKind.REGISTER,
    ReadingKind.POWER,
    ReadingKind.INTERVAL_ENERGY,
    ReadingKind.INTERVAL_MEAN_POWER,
)
STEPS_BEFORE = HISTORY + STANDSTILL + 2
"""Readings of a register before a change in which something odd would show, where nothing follows it."""
_NEVER, _EVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def is_plain(point: Point, events: Sequence[Event]) -> bool:
    """Whether a point can go the fast way at all: the one place that says so.

    Not without a rating, where its neighbours judge every reading, nor where it restarts, is turned or is
    written on change.
    """
    return (
        not events
        and point.kind in KINDS
        and math.isfinite(point.max_power_kw)
        and point.falls is Falls.SUSPECT
        and point.direction is Direction.FORWARD
        and point.sampling is Sampling.PERIODIC
    )


class Outcome(IntEnum):
    """What became of a stretch."""

    DONE = 0
    SHORT = 1
    """More readings are needed to tell what it changes."""
    ODD = 2
    """Something unusual is near."""


class Windows(NamedTuple):
    """Readings around stretches of points of one kind, one window after the other; n rows, k windows."""

    offset: Ints
    """First row of each window, and n; shape (k + 1,)."""
    series: ReadingColumns
    """Strictly increasing in time within each window; `point_id` is not looked at."""


class Stretches(NamedTuple):
    """What changed, and what the points mean; columns of length k."""

    start_us: Ints
    end_us: Ints
    """First and last change, both included. [us]"""
    is_start: Bools
    is_end: Bools
    """Whether the window begins with the point's first reading and ends with its last."""
    max_power: Floats
    """Rating in the unit of the readings."""
    modulus: Floats
    multiplier: Floats
    interval_s: Ints


class Computed(NamedTuple):
    """The intervals that the stretches can have changed."""

    outcome: npt.NDArray[np.int8]
    """:class:`Outcome` of each stretch; shape (k,)."""
    start_us: Ints
    end_us: Ints
    """Intervals to replace, half-open; where it is done. [us]"""
    owner: Ints
    """Stretch of each interval; shape (m,)."""
    cells: QuarterHours


def stretches(
    points: Sequence[Point], start_us: Ints, end_us: Ints, is_start: Bools, is_end: Bools
) -> Stretches:
    """Columns of the points' meanings beside what changed."""
    return Stretches(
        start_us,
        end_us,
        is_start,
        is_end,
        np.array([p.max_power_kw / p.multiplier for p in points]),
        np.array([p.modulus_kwh for p in points]),
        np.array([p.multiplier for p in points]),
        np.array([p.interval_s for p in points], np.int64),
    )


def compute(kind: ReadingKind, windows: Windows, asked: Stretches) -> Computed:
    """Compute the intervals around changes of many points of one kind.

    Parameters
    ----------
    kind : ReadingKind
        One of :data:`KINDS`.
    windows : Windows
        Readings around each stretch, the new ones among them.
    asked : Stretches
        The stretches.

    Returns
    -------
    Computed
        Exactly what ``energy.quarter_hours`` says of the whole history, where the outcome is ``DONE``.
    """
    look = _Look(kind, windows, asked)
    start_us, has_start = look.starts()
    end_us, has_end = look.ends()
    outcome = np.where(has_start & has_end, Outcome.DONE, Outcome.SHORT).astype(np.int8)
    outcome[look.is_odd()] = Outcome.ODD
    nothing = (look.count == 0) & asked.is_start & asked.is_end
    outcome[nothing] = Outcome.DONE
    start_us[nothing], end_us[nothing] = _floor(asked.start_us[nothing]), _ceil(asked.end_us[nothing])
    owner, cells = look.cells(start_us, np.where(outcome == Outcome.DONE, end_us, start_us))
    return Computed(outcome, start_us, end_us, owner, cells)


class _Look:
    """The rows of all windows with what is asked of each."""

    def __init__(self, kind: ReadingKind, windows: Windows, asked: Stretches) -> None:
        self.kind, self.asked = kind, asked
        self.offset, self.series = windows
        self.count = np.diff(self.offset)
        self.owner = np.repeat(np.arange(len(self.count)), self.count)
        self.row = np.arange(len(self.owner)) - self.offset[self.owner]
        self.later = np.flatnonzero(self.row > 0)
        self.begins_us = self._begins_us()
        self.sound = self._sound()
        self.last_us = self._each(np.maximum, self.series.at_us, _NEVER)

    def _begins_us(self) -> Ints:
        if self.kind in (ReadingKind.REGISTER, ReadingKind.POWER):
            return self.series.at_us
        return energy.stated_intervals(self.series, self.kind, self.asked.interval_s[self.owner]).start_us

    def _sound(self) -> Bools:
        """Readings from which a computation may start, as long as nothing is odd."""
        if self.kind is ReadingKind.POWER:
            return np.ones(len(self.row), np.bool_)
        if self.kind is not ReadingKind.REGISTER:
            return self.row > 0
        at_us, value = self.series.at_us, self.series.value
        quiet: Bools = (self.row >= QUIET) & (self.row < self.count[self.owner] - QUIET)
        if not (value > 0).all():
            quiet &= (value > 0) | register.is_long_zero(at_us, value, self.offset[self.owner])
        return quiet

    def _each(self, function: np.ufunc, column: npt.NDArray[Any], empty: int) -> Any:
        """A ufunc over the rows of each window; `empty` for those without any."""
        out = np.full(len(self.count), empty, column.dtype if column.dtype != np.bool_ else np.int64)
        filled = self.count > 0
        if filled.any():
            out[filled] = function.reduceat(column, self.offset[:-1][filled], dtype=out.dtype)
        return out

    def _at(self, row: Ints) -> Ints:
        """Instant of a row of each window; of its first where there is no such row. [us]"""
        if not len(self.series):
            return np.zeros(len(row), np.int64)
        return self.series.at_us[np.minimum(self.offset[:-1] + np.maximum(row, 0), len(self.series) - 1)]

    def is_odd(self) -> Bools:
        """Windows in which some reading is not plain."""
        value, before, after = self.series.value, self.later - 1, self.later
        odd = ~np.isfinite(value)
        most = self.asked.max_power[self.owner]
        if self.kind is ReadingKind.REGISTER:
            spacing_us = self.series.at_us[after] - self.series.at_us[before]
            modulus = self.asked.modulus[self.owner[after]]
            odd[after] |= register.is_odd(spacing_us, value[before], value[after], most[after], modulus)
            odd |= self._may_be_spread()
            odd[after] |= self._may_be_rescaled(value[before], value[after])
        else:
            if self.kind is ReadingKind.INTERVAL_ENERGY:
                odd |= self.series.interval_s <= 0
                most = most * (np.maximum(self.series.interval_s, 1) / 3600)
            odd |= ~((value >= 0) & (value <= most))
        if self.kind not in (ReadingKind.REGISTER, ReadingKind.POWER):
            odd[after] |= self.begins_us[after] < self.series.at_us[before]
            odd |= (self.series.interval_s > 0) & (self.series.valid_s <= 0)
        unrated = ~np.isfinite(self.asked.max_power)  # there the neighbours judge every reading
        return np.asarray(unrated | (self._each(np.maximum, odd, 0) > 0))

    def _may_be_spread(self) -> Bools:
        """Readings at which a standstill ends, or may end that reaches beyond the window."""
        value, rows = self.series.value, np.arange(len(self.row))
        rise = np.zeros(len(rows))
        rise[self.later] = value[self.later] - value[self.later - 1]
        begins = (
            np.maximum.accumulate(np.where((rise != 0) | (self.row == 0), rows, 0)) if len(rows) else rows
        )
        stood = np.zeros(len(rows), np.int64)
        stood[self.later] = self.later - 1 - begins[self.later - 1]
        first = np.zeros(len(rows), np.bool_)
        first[self.later] = self.row[begins[self.later - 1]] == 0
        known_start = self.asked.is_start[self.owner]
        ended = (rise > 0) & ((stood >= STANDSTILL) | (first & (stood > 0) & ~known_start))
        late = (self.last_us > self.asked.end_us)[self.owner]
        large = np.zeros(len(rows), np.bool_)
        rows = np.flatnonzero(ended)
        large[rows] = late[rows] | (rise[rows] > 2 * count(value[rows - 1], value[rows]))
        last = self.row == self.count[self.owner] - 1
        open_end = last & (self.row > 0) & (rise == 0) & late & ~self.asked.is_end[self.owner]
        odd: Bools = large | open_end
        return odd

    def _may_be_rescaled(self, before: Floats, after: Floats) -> Bools:
        grew = (before > 0) & (after >= LEAST_FACTOR * before)
        return np.asarray(grew, np.bool_)

    def starts(self) -> tuple[Ints, Bools]:
        """First interval to replace, and whether it is known."""
        asked, at_us = self.asked, self.series.at_us
        is_rated = np.isfinite(asked.max_power) & (self.kind is ReadingKind.REGISTER)
        reach_us = np.where(is_rated & (self.last_us > asked.end_us), LOOK_BACK_US, 0)
        earlier = self._each(np.add, at_us < (asked.start_us - reach_us)[self.owner], 0)
        margin = np.full(len(earlier), LOOK_AHEAD + 2)
        if self.kind is ReadingKind.REGISTER:
            margin += np.where(self.last_us > asked.end_us, REACH, STEPS_BEFORE)
        usable = self.sound & (self.row <= (earlier - margin)[self.owner])
        nearest = self._each(np.maximum, np.where(usable, self.row, -1), -1)
        first_us = _floor(self._at(nearest))
        row = self._each(np.maximum, np.where(usable & (at_us <= first_us[self.owner]), self.row, -1), -1)
        found = row >= 0
        begin_us = np.zeros(len(first_us), np.int64)
        filled = self.count > 0
        begin_us[filled] = _floor(self.begins_us[self.offset[:-1][filled]])
        fallback = np.where(nearest >= 0, np.minimum(begin_us, first_us), begin_us)
        start_us = np.where(found, first_us, fallback)
        start_us = np.where(
            (row == 0) & asked.is_start, np.minimum(start_us, _floor(self._at(row))), start_us
        )
        return np.minimum(start_us, _floor(asked.start_us)), found | (asked.is_start & filled)

    def ends(self) -> tuple[Ints, Bools]:
        """End of the last interval to replace, and whether it is known."""
        asked = self.asked
        past = self._each(np.add, self.series.at_us <= asked.end_us[self.owner], 0)
        margin = QUIET + 1 + (REACH if self.kind is ReadingKind.REGISTER else 0)
        usable = self.sound & (self.row >= (past + margin)[self.owner])
        nearest = self._each(np.minimum, np.where(usable, self.row, _EVER), _EVER)
        has = nearest < _EVER
        until_us = _ceil(self._at(np.where(has, nearest, 0)))
        free_us = self._each(np.maximum, np.where(usable, self.begins_us, _NEVER), _NEVER)
        found = has & (free_us >= until_us)
        filled = self.count > 0
        last_us = _ceil(np.where(filled, self.last_us, 0))
        end_us = np.where(found, until_us, last_us)
        return np.maximum(end_us, _ceil(asked.end_us)), found | (asked.is_end & filled)

    def cells(self, start_us: Ints, end_us: Ints) -> tuple[Ints, QuarterHours]:
        """The intervals between two instants of each window."""
        owner, known = self._spans(start_us, end_us)
        known = known._replace(energy_kwh=known.energy_kwh * self.asked.multiplier[owner])
        return energy.cut(known, owner, start_us, end_us)

    def _spans(self, start_us: Ints, end_us: Ints) -> tuple[Ints, Spans]:
        at_us, value = self.series.at_us, self.series.value
        if self.kind in (ReadingKind.REGISTER, ReadingKind.POWER):
            owner = self.owner[self.later]
            near = (at_us[self.later] > start_us[owner]) & (at_us[self.later - 1] < end_us[owner])
            after, owner = self.later[near], owner[near]
            before, interval_s = after - 1, self.asked.interval_s[owner]
            if self.kind is ReadingKind.REGISTER:
                counted = value[after] - value[before]
                return owner, energy.steps_of_register(at_us[before], at_us[after], counted, interval_s)
            kept, known = energy.steps_of_power(
                at_us[before], at_us[after], value[before], value[after], interval_s
            )
            return owner[kept], known
        near = (at_us > start_us[self.owner]) & (self.begins_us < end_us[self.owner])
        owner = self.owner[near]
        rows = self.series.take(near)
        return owner, energy.stated_intervals(rows, self.kind, self.asked.interval_s[owner])


def _floor(at_us: Ints) -> Ints:
    return at_us // QUARTER_HOUR_US * QUARTER_HOUR_US


def _ceil(at_us: Ints) -> Ints:
    return -(-at_us // QUARTER_HOUR_US) * QUARTER_HOUR_US
