"""Readings to energy per 15-minute UTC interval, by the rules of measurement that peers break.

Two steps. :func:`spans` turns the readings of one point into *spans*: stretches of time over which
the energy is known, with nothing in between where it is not. :func:`quarter_hours` cuts spans at the
15-minute boundaries. The sum of the intervals is the sum of the spans, and the sum of a register's
spans is what the register counted.

- A missing reading is never zero. Between two readings of a register the energy is known, however
  long it took; over a gap it is spread evenly and flagged estimated. Between two power samples that
  stand too far apart it is not known; of a log that is written on change, each value holds until the
  next, but no longer than its longest hold.
- A register that falls wrapped, was reset or replaced, or gave a transient
  wrong value: see ``register.walk``.
- Raw readings are not changed. Replacements, corrections and manual estimates are :class:`Event`s;
  the same readings and events give the same intervals, in whatever order they arrived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.likely import Bools, Floats, Ints, unlikely_values
from app.domain.period import QUARTER_HOUR_S, QUARTER_HOUR_US
from app.domain.quantity import ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.register import NO_RESTARTS, US, StepKind, Walk, walk
from app.domain.restarts import restarts
from app.domain.site import Direction, Point, Sampling
from app.errors import SeriesError

GAP_FACTOR = 1.5
"""Readings further apart than this many reading intervals leave a gap."""
LONGEST_INTERPOLATED_S = 25 * 3600
"""Within readings further apart than a day (with room for a late one) the course is an estimate. [s]"""


class Tag(IntEnum):
    """How an interval's energy is known; the larger, the weaker."""

    MEASURED = 1
    INTERPOLATED = 2
    ESTIMATED = 3
    MANUAL = 4


class EventKind(StrEnum):
    """What people declare about a meter, beside what it says."""

    REPLACED = "replaced"
    RESET = "reset"
    TEST = "test"
    MAINTENANCE = "maintenance"
    CORRECTION = "correction"
    ESTIMATE = "estimate"
    CONFIRMED = "confirmed"
    """What the readings show then is right, however unlikely."""
    WITHHELD = "withheld"
    """No declaration: an open finding says that the readings from its start up to its end count in another
    unit. They do not count until a person has decided."""


BREAKS = (EventKind.REPLACED, EventKind.RESET)
"""Entries with which a register begins anew."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the ledger for one point, in the unit of its readings."""

    kind: EventKind
    start_us: int
    end_us: int
    old_value: float | None = None
    """Last value of the old register (replaced, reset); None: not known."""
    new_value: float | None = None
    """First value of the new register, or the corrected value; None: not known, or reading void."""
    energy_kwh: float | None = None
    """Manual estimate for the whole span. [kWh]"""


@dataclass(frozen=True, slots=True)
class Series:
    """The readings of one point, strictly increasing in time; columns of length n."""

    at_us: Ints
    value: Floats
    interval_s: npt.NDArray[np.int32]
    valid_s: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if len(self.at_us) > 1 and not (np.diff(self.at_us) > 0).all():
            raise SeriesError("readings must be strictly increasing in time")

    def __len__(self) -> int:
        return len(self.at_us)

    def take(self, rows: npt.NDArray[np.intp] | Bools | slice) -> Series:
        """The chosen readings."""
        return Series(self.at_us[rows], self.value[rows], self.interval_s[rows], self.valid_s[rows])


class Spans(NamedTuple):
    """Disjoint stretches of known energy in order of time; arrays of length m."""

    start_us: Ints
    end_us: Ints
    energy_kwh: Floats
    coverage_ratio: Floats
    """Part of the stretch over which the source itself measured."""
    tag: npt.NDArray[np.int8]
    reading_interval_s: Floats
    """Time between the readings that bound it. [s]"""

    def take(self, rows: npt.NDArray[np.intp] | Bools | slice) -> Spans:
        """The chosen ones."""
        return type(self)._make(column[rows] for column in self)


class QuarterHours(NamedTuple):
    """Energy per 15-minute UTC interval; only intervals of which something is known. Length k."""

    at_us: Ints
    """Start of the interval."""
    energy_kwh: Floats
    coverage_ratio: Floats
    """Share of the interval's time for which the energy is known."""
    estimated_ratio: Floats
    """Share of the interval's time for which it is known only by estimate."""
    tag: npt.NDArray[np.int8]
    reading_interval_s: npt.NDArray[np.int32]

    def take(self, rows: npt.NDArray[np.intp] | Bools | slice) -> QuarterHours:
        """The chosen ones."""
        return type(self)._make(column[rows] for column in self)

    @classmethod
    def concat(cls, parts: Iterable[QuarterHours]) -> QuarterHours:
        """One after the other; at least one."""
        return cls._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def spans(series: Series, point: Point, events: Sequence[Event] = ()) -> Spans:
    """Stretches of known energy of one point.

    Parameters
    ----------
    series : Series
        Its readings, in house units before `point.multiplier`.
    point : Point
        What they mean.
    events : sequence of Event
        What people declared about it.

    Returns
    -------
    Spans
        Disjoint, in order. [kWh], or the point's own quantity where that is not energy.
    """
    series = _turned(believable(corrected(series, events), point, events), point)
    if point.kind is ReadingKind.REGISTER:
        known = _register_spans(series, point, events)
    elif point.kind is ReadingKind.POWER:
        known = _power_spans(series, point)
    else:
        known = _interval_spans(series, point)
    scaled = known._replace(energy_kwh=known.energy_kwh * point.multiplier)
    for event in sorted(
        (e for e in events if e.kind is EventKind.ESTIMATE), key=lambda e: (e.start_us, e.end_us)
    ):
        scaled = _with_estimate(scaled, event)
    return scaled


def corrected(series: Series, events: Sequence[Event]) -> Series:
    """The readings with declared corrections applied; NaN where one was declared void, or is withheld."""
    corrections = [e for e in events if e.kind is EventKind.CORRECTION]
    held = [e for e in events if e.kind is EventKind.WITHHELD]
    if not corrections and not held:
        return series
    value = series.value.copy()
    at_us = np.array([e.start_us for e in corrections], np.int64)
    new = np.array([math.nan if e.new_value is None else e.new_value for e in corrections])
    rows = np.searchsorted(series.at_us, at_us)
    known = rows < len(series)
    known[known] = series.at_us[rows[known]] == at_us[known]
    value[rows[known]] = new[known]  # of several for one reading the last one holds
    for event in held:
        value[(series.at_us >= event.start_us) & (series.at_us < event.end_us)] = math.nan
    return replace(series, value=value)


def believable(series: Series, point: Point, events: Sequence[Event] = ()) -> Series:
    """Readings that can be used at all.

    Finite; those of power and of intervals within the rating (without one, within what their neighbours make
    likely), and not negative unless `point.direction` allows it. What a person confirmed is accepted.
    """
    good = np.isfinite(series.value)
    series = series if good.all() else series.take(good)
    if point.kind is ReadingKind.REGISTER:
        return series
    good = possible(series, point) | _confirmed(series, events)
    return series if good.all() else series.take(good)


def possible(series: Series, point: Point) -> Bools:
    """Which readings of power or intervals can be right, by direction, rating and neighbours; shape (n,)."""
    value = -series.value if point.direction is Direction.REVERSED else series.value
    good: Bools = np.ones(len(value), np.bool_) if point.direction is Direction.BOTH else value >= 0
    if not math.isfinite(point.max_power_kw):
        good &= ~unlikely_values(value)
    most = np.full(len(series), min(point.max_power_kw, point.ceiling_kw) / point.multiplier)
    if point.kind is ReadingKind.INTERVAL_ENERGY:
        most *= np.where(series.interval_s > 0, series.interval_s, point.interval_s) / 3600
    return good & (np.abs(value) <= most)


def _confirmed(series: Series, events: Sequence[Event]) -> Bools:
    """Readings within a stretch, or at an instant, that a person confirmed."""
    inside = np.zeros(len(series), np.bool_)
    for event in events:
        if event.kind is EventKind.CONFIRMED:
            inside |= (series.at_us >= event.start_us) & (series.at_us <= event.end_us)
    return inside


def _turned(series: Series, point: Point) -> Series:
    """The readings as they were with the transformer the right way round.

    A register that falls is turned; one that rises counts the other direction and stays as it is.
    """
    if point.direction is not Direction.REVERSED or not len(series):
        return series
    if point.kind is ReadingKind.REGISTER and series.value[-1] >= series.value[0]:
        return series
    return replace(series, value=-series.value)


def _register_spans(series: Series, point: Point, events: Sequence[Event]) -> Spans:
    breaks = sorted((e for e in events if e.kind in BREAKS), key=lambda e: e.start_us)
    parts, left, opening = [], 0, None
    for event in breaks:
        cut = int(np.searchsorted(series.at_us, event.start_us))
        closing = None if event.old_value is None else (event.start_us, event.old_value)
        parts.append(_segment(series, left, cut, opening, closing, point, events))
        new = 0.0 if event.new_value is None and event.kind is EventKind.RESET else event.new_value
        opening, left = (None if new is None else (event.start_us, new)), cut
    parts.append(_segment(series, left, len(series), opening, None, point, events))
    return join(parts)


def _segment(
    series: Series,
    left: int,
    right: int,
    opening: tuple[int, float] | None,
    closing: tuple[int, float] | None,
    point: Point,
    events: Sequence[Event],
) -> Spans:
    """Spans of the readings `left` to `right`, with declared values before and after them."""
    at_us, value = series.at_us[left:right], series.value[left:right]
    if opening is not None:
        keep = at_us > opening[0]
        at_us = np.concatenate([[opening[0]], at_us[keep]])
        value = np.concatenate([[opening[1]], value[keep]])
    if closing is not None and (not len(at_us) or at_us[-1] < closing[0]):
        at_us, value = np.append(at_us, closing[0]), np.append(value, closing[1])
    steps = followed(replace(series, at_us=at_us, value=value), point, events)
    known = np.flatnonzero(np.isfinite(steps.energy) & (steps.since_us < at_us))
    start_us = steps.since_us[known]
    measured = steps_of_register(start_us, at_us[known], steps.energy[known], point.interval_s)
    guessed = np.isin(steps.kind[known], (StepKind.CAUGHT_UP, StepKind.CLOCK)) | (
        (steps.kind[known] == StepKind.RESET) & (start_us == at_us[steps.previous[known]])
    )
    measured.tag[guessed] = np.maximum(measured.tag[guessed], Tag.ESTIMATED)
    return _with_restarts(measured, steps, at_us, point)


def followed(series: Series, point: Point, events: Sequence[Event] = ()) -> Walk:
    """The readings of a register followed by the rules that its point declares.

    Parameters
    ----------
    series : Series
        Its readings, finite, without a declared replacement between them.
    """
    confirmed_us = [e.start_us for e in events if e.kind is EventKind.CONFIRMED]
    return walk(
        series.at_us,
        series.value,
        max_power=point.max_power_kw / point.multiplier,
        ceiling=point.ceiling_kw / point.multiplier,
        modulus=point.modulus_kwh,
        falls=point.falls,
        restarts=restarts(series.at_us, point) if len(series) else NO_RESTARTS,
        confirmed_us=np.array(sorted(confirmed_us), np.int64),
    )


def _with_restarts(known: Spans, steps: Walk, at_us: Ints, point: Point) -> Spans:
    """With an estimate from the last reading to a restart by the calendar, at the load that follows it.

    Only where they stand no further apart than readings may; else what fell between is not known.
    """
    rows = np.flatnonzero((steps.kind == StepKind.RESET) & (steps.since_us > at_us[steps.previous]))
    if not len(rows):
        return known
    start_us, end_us = at_us[steps.previous[rows]], steps.since_us[rows]
    before_s, after_s = (end_us - start_us) / US, (at_us[rows] - end_us) / US
    near = (before_s <= GAP_FACTOR * max(point.interval_s, 1)) & (after_s > 0)
    energy = steps.energy[rows] / np.where(after_s > 0, after_s, 1.0) * before_s
    tag = np.full(int(near.sum()), Tag.ESTIMATED, np.int8)
    guess = Spans(start_us[near], end_us[near], energy[near], np.ones(len(tag)), tag, before_s[near])
    both = join((known, guess))
    return both.take(np.argsort(both.start_us, kind="stable"))


def steps_of_register(start_us: Ints, end_us: Ints, energy: Floats, interval_s: float | Ints) -> Spans:
    """Spans of what a register counted from one reading to the next; of any number of series."""
    spacing_s = (end_us - start_us) / US
    tag = np.where(spacing_s > QUARTER_HOUR_S, Tag.INTERPOLATED, Tag.MEASURED)
    longest_s = np.minimum(GAP_FACTOR * np.maximum(interval_s, 1), LONGEST_INTERPOLATED_S)
    tag = np.where(spacing_s > longest_s, Tag.ESTIMATED, tag).astype(np.int8)
    return Spans(start_us, end_us, energy, np.ones(len(energy)), tag, spacing_s)


def steps_of_power(
    start_us: Ints, end_us: Ints, start_kw: Floats, end_kw: Floats, interval_s: float | Ints
) -> tuple[Bools, Spans]:
    """Which neighbouring samples of power are near enough to speak of the time between, and those spans."""
    spacing_s = (end_us - start_us) / US
    near: Bools = spacing_s <= GAP_FACTOR * interval_s
    energy = (start_kw + end_kw) / 2 * spacing_s / 3600
    tag = np.where(spacing_s > QUARTER_HOUR_S, Tag.INTERPOLATED, Tag.MEASURED).astype(np.int8)
    return near, Spans(
        start_us[near], end_us[near], energy[near], np.ones(int(near.sum())), tag[near], spacing_s[near]
    )


def _power_spans(series: Series, point: Point) -> Spans:
    at_us, kw = series.at_us, series.value
    if point.sampling is Sampling.ON_CHANGE:
        return _held(at_us[:-1], at_us[1:], kw[:-1], point.longest_hold_s)
    return steps_of_power(at_us[:-1], at_us[1:], kw[:-1], kw[1:], point.interval_s)[1]


def _held(start_us: Ints, next_us: Ints, kw: Floats, longest_hold_s: float) -> Spans:
    """Each value until the next one, or for the longest hold; behind it the power is not known.

    The course is measured, not guessed: a change would have been written.
    """
    end_us = np.minimum(next_us, start_us + int(longest_hold_s * US))
    length_s = (end_us - start_us) / US
    tag = np.full(len(kw), Tag.MEASURED, np.int8)
    known_every_s = np.minimum(length_s, QUARTER_HOUR_S)
    return Spans(start_us, end_us, kw * length_s / 3600, np.ones(len(kw)), tag, known_every_s)


def _interval_spans(series: Series, point: Point) -> Spans:
    """Stated intervals; of two that overlap the one that ends first is kept."""
    stated = stated_intervals(series, point.kind, point.interval_s)
    keep = (stated.coverage_ratio > 0) & _disjoint(stated.start_us, stated.end_us)
    return stated.take(keep)


def stated_intervals(series: Series | ReadingColumns, kind: ReadingKind, interval_s: float | Ints) -> Spans:
    """What each reading of an interval says, overlapping or not; of any number of series."""
    length_s = np.where(series.interval_s > 0, series.interval_s, interval_s).astype(np.float64)
    valid_s = np.where(series.interval_s > 0, series.valid_s, interval_s).astype(np.float64)
    is_mean = kind is ReadingKind.INTERVAL_MEAN_POWER
    tag = np.where(length_s > QUARTER_HOUR_S, Tag.INTERPOLATED, Tag.MEASURED).astype(np.int8)
    tag[length_s > LONGEST_INTERPOLATED_S] = Tag.ESTIMATED
    return Spans(
        series.at_us - (length_s * US).astype(np.int64),
        series.at_us,
        series.value * valid_s / 3600 if is_mean else series.value.copy(),
        np.minimum(valid_s / length_s, 1.0),
        tag,
        length_s,
    )


def _disjoint(start_us: Ints, end_us: Ints) -> Bools:
    keep = np.ones(len(start_us), np.bool_)
    if (start_us[1:] >= end_us[:-1]).all():
        return keep
    last_end = np.iinfo(np.int64).min
    for i in range(len(start_us)):
        keep[i] = start_us[i] >= last_end
        last_end = end_us[i] if keep[i] else last_end
    return keep


def _with_estimate(known: Spans, event: Event) -> Spans:
    """`known` with the manual figure in place of whatever stood in the event's span."""
    if event.energy_kwh is None or event.end_us <= event.start_us:
        return known
    before, after = _clip(known, None, event.start_us), _clip(known, event.end_us, None)
    length_s = (event.end_us - event.start_us) / US
    manual = Spans(
        np.array([event.start_us]),
        np.array([event.end_us]),
        np.array([event.energy_kwh]),
        np.ones(1),
        np.array([Tag.MANUAL], np.int8),
        np.array([length_s]),
    )
    return join((before, manual, after))


def join(parts: Sequence[Spans]) -> Spans:
    """Spans that follow each other, as one; `parts` in order of time."""
    if not parts:
        none = np.empty(0, np.float64)
        return Spans(np.empty(0, np.int64), np.empty(0, np.int64), none, none, np.empty(0, np.int8), none)
    return Spans(
        np.concatenate([p.start_us for p in parts]),
        np.concatenate([p.end_us for p in parts]),
        np.concatenate([p.energy_kwh for p in parts]),
        np.concatenate([p.coverage_ratio for p in parts]),
        np.concatenate([p.tag for p in parts]),
        np.concatenate([p.reading_interval_s for p in parts]),
    )


def within(known: Spans, start_us: int, end_us: int) -> Spans:
    """The part of `known` between two instants; a span that one of them cuts is an estimate on both sides."""
    cut = (known.start_us < start_us) & (known.end_us > start_us)
    cut |= (known.start_us < end_us) & (known.end_us > end_us)
    tag = np.where(cut, np.maximum(known.tag, Tag.ESTIMATED), known.tag).astype(np.int8)
    return _clip(known._replace(tag=tag), start_us, end_us)


def _clip(known: Spans, start_us: int | None, end_us: int | None) -> Spans:
    start = known.start_us if start_us is None else np.maximum(known.start_us, start_us)
    end = known.end_us if end_us is None else np.minimum(known.end_us, end_us)
    inside = end > start
    share = (end - start)[inside] / (known.end_us - known.start_us)[inside]
    return Spans(
        start[inside],
        end[inside],
        known.energy_kwh[inside] * share,
        known.coverage_ratio[inside],
        known.tag[inside],
        known.reading_interval_s[inside],
    )


def quarter_hours(known: Spans, start_us: int, end_us: int) -> QuarterHours:
    """Cut spans at 15-minute boundaries.

    Parameters
    ----------
    known : Spans
        Disjoint, in order.
    start_us, end_us : int
        Range of intervals wanted, on 15-minute boundaries, half-open. [us]

    Returns
    -------
    QuarterHours
        The intervals of which at least a part is known. Energy is spread evenly over each span.

    Raises
    ------
    SeriesError
        If the range does not stand on 15-minute boundaries.
    """
    if start_us % QUARTER_HOUR_US or end_us % QUARTER_HOUR_US:
        raise SeriesError("the range must stand on 15-minute boundaries")
    owner = np.zeros(len(known.start_us), np.int64)
    return cut(known, owner, np.array([start_us]), np.array([end_us]))[1]


def cut(known: Spans, owner: Ints, start_us: Ints, end_us: Ints) -> tuple[Ints, QuarterHours]:
    """Cut the spans of many series at 15-minute boundaries.

    Each interval is the sum of its own pieces of spans, in order of time: its figures are the same to the
    last bit whatever else is cut with it, and wherever the range begins.

    Parameters
    ----------
    known : Spans
        One series after the other; disjoint and in order within each.
    owner : int64, shape (m,)
        Series of each span: an index into `start_us` and `end_us`, ascending.
    start_us, end_us : int64, shape (series,)
        Range of intervals wanted of each series, on 15-minute boundaries, half-open. [us]

    Returns
    -------
    (int64 array, QuarterHours)
        Series of each interval, and the intervals of which at least a part is known; shape (k,).
    """
    begins_us = np.maximum(known.start_us, start_us[owner])
    ends_us = np.minimum(known.end_us, end_us[owner])
    rows = np.flatnonzero(ends_us > begins_us)
    if not len(rows):
        return np.empty(0, np.int64), _nothing()
    first = begins_us[rows] // QUARTER_HOUR_US
    count = -(-ends_us[rows] // QUARTER_HOUR_US) - first
    rows = np.repeat(rows, count)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    at_us = (np.repeat(first, count) + number) * QUARTER_HOUR_US
    length_us = np.minimum(ends_us[rows], at_us + QUARTER_HOUR_US) - np.maximum(begins_us[rows], at_us)
    owners = owner[rows]
    starts = np.concatenate([[True], (at_us[1:] != at_us[:-1]) | (owners[1:] != owners[:-1])])
    first_piece, cell = np.flatnonzero(starts), np.cumsum(starts) - 1
    covered_us = length_us * known.coverage_ratio[rows]
    guessed_us = np.where(known.tag[rows] >= Tag.ESTIMATED, covered_us, 0.0)
    share = length_us / (known.end_us - known.start_us)[rows]
    spacing_s = np.minimum(known.reading_interval_s[rows], 2**31 - 1)
    return owners[first_piece], QuarterHours(
        at_us[first_piece].astype(np.int64),
        np.bincount(cell, known.energy_kwh[rows] * share).astype(np.float64),
        np.minimum(np.bincount(cell, covered_us) / QUARTER_HOUR_US, 1.0),
        np.minimum(np.bincount(cell, guessed_us) / QUARTER_HOUR_US, 1.0),
        np.maximum.reduceat(known.tag[rows], first_piece),
        np.maximum.reduceat(spacing_s, first_piece).astype(np.int32),
    )


def _nothing() -> QuarterHours:
    none = np.empty(0, np.float64)
    return QuarterHours(np.empty(0, np.int64), none, none, none, np.empty(0, np.int8), np.empty(0, np.int32))
