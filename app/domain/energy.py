"""Readings to energy per 15-minute UTC interval, by the rules of measurement that peers break.

Two steps. :func:`spans` turns the readings of one point into *spans*: stretches of time over which
the energy is known, with nothing in between where it is not. :func:`quarter_hours` cuts spans at the
15-minute boundaries. The sum of the intervals is the sum of the spans, and the sum of a register's
spans is what the register counted.

- A missing reading is never zero. Between two readings of a register the energy is known, however
  long it took; over a gap it is spread evenly and flagged estimated. Between two power samples that
  stand too far apart it is not known.
- A register that falls wrapped, was reset or replaced, or told a transient untruth: see ``register.walk``.
- Raw readings are not changed. Replacements, corrections and manual estimates are :class:`Event`s;
  the same readings and events give the same intervals, in whatever order they arrived.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.period import QUARTER_HOUR_S, QUARTER_HOUR_US
from app.domain.quantity import ReadingKind
from app.domain.register import US, Bools, Floats, Ints, walk
from app.domain.site import Point
from app.errors import SeriesError

GAP_FACTOR = 1.5
"""Readings further apart than this many reading intervals leave a gap."""


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
    series = _believable(corrected(series, events), point)
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
    """The readings with declared corrections applied; NaN where a reading was declared void."""
    corrections = [e for e in events if e.kind is EventKind.CORRECTION]
    if not corrections:
        return series
    value = series.value.copy()
    for event in corrections:
        value[series.at_us == event.start_us] = math.nan if event.new_value is None else event.new_value
    return replace(series, value=value)


def _believable(series: Series, point: Point) -> Series:
    """Readings that can be used at all: finite; power and interval energy not negative, within rating."""
    good = np.isfinite(series.value)
    if point.kind is not ReadingKind.REGISTER:
        good &= series.value >= 0
        most = np.full(len(series), point.max_power_kw / point.multiplier)
        if point.kind is ReadingKind.INTERVAL_ENERGY:
            most *= series.interval_s / 3600
        good &= series.value <= most
    return series if good.all() else series.take(good)


def _register_spans(series: Series, point: Point, events: Sequence[Event]) -> Spans:
    breaks = sorted((e for e in events if e.kind in BREAKS), key=lambda e: e.start_us)
    parts, left, opening = [], 0, None
    for event in breaks:
        cut = int(np.searchsorted(series.at_us, event.start_us))
        closing = None if event.old_value is None else (event.start_us, event.old_value)
        parts.append(_segment(series, left, cut, opening, closing, point))
        new = 0.0 if event.new_value is None and event.kind is EventKind.RESET else event.new_value
        opening, left = (None if new is None else (event.start_us, new)), cut
    parts.append(_segment(series, left, len(series), opening, None, point))
    return _join(parts)


def _segment(
    series: Series,
    left: int,
    right: int,
    opening: tuple[int, float] | None,
    closing: tuple[int, float] | None,
    point: Point,
) -> Spans:
    """Spans of the readings `left` to `right`, with declared values before and after them."""
    at_us, value = series.at_us[left:right], series.value[left:right]
    if opening is not None:
        keep = at_us > opening[0]
        at_us = np.concatenate([[opening[0]], at_us[keep]])
        value = np.concatenate([[opening[1]], value[keep]])
    if closing is not None and (not len(at_us) or at_us[-1] < closing[0]):
        at_us, value = np.append(at_us, closing[0]), np.append(value, closing[1])
    steps = walk(
        at_us,
        value,
        max_power=point.max_power_kw / point.multiplier,
        modulus=point.modulus_kwh,
        falls=point.falls,
    )
    known = np.flatnonzero(np.isfinite(steps.energy))
    start_us, end_us = at_us[steps.previous[known]], at_us[known]
    spacing_s = (end_us - start_us) / US
    return Spans(
        start_us,
        end_us,
        steps.energy[known],
        np.ones(len(known)),
        _tags(spacing_s, point.interval_s),
        spacing_s,
    )


def _tags(spacing_s: Floats, interval_s: float) -> npt.NDArray[np.int8]:
    tag = np.where(spacing_s > QUARTER_HOUR_S, Tag.INTERPOLATED, Tag.MEASURED)
    return np.where(spacing_s > GAP_FACTOR * max(interval_s, 1), Tag.ESTIMATED, tag).astype(np.int8)


def _power_spans(series: Series, point: Point) -> Spans:
    start_us, end_us = series.at_us[:-1], series.at_us[1:]
    spacing_s = (end_us - start_us) / US
    near = spacing_s <= GAP_FACTOR * point.interval_s
    energy = (series.value[:-1] + series.value[1:]) / 2 * spacing_s / 3600
    tag = np.where(spacing_s > QUARTER_HOUR_S, Tag.INTERPOLATED, Tag.MEASURED).astype(np.int8)
    return Spans(
        start_us[near], end_us[near], energy[near], np.ones(int(near.sum())), tag[near], spacing_s[near]
    )


def _interval_spans(series: Series, point: Point) -> Spans:
    """Stated intervals; of two that overlap the one that ends first is kept."""
    length_s = np.where(series.interval_s > 0, series.interval_s, point.interval_s).astype(np.float64)
    valid_s = np.where(series.interval_s > 0, series.valid_s, point.interval_s).astype(np.float64)
    start_us = series.at_us - (length_s * US).astype(np.int64)
    keep = (valid_s > 0) & _disjoint(start_us, series.at_us)
    energy = series.value.copy()
    if point.kind is ReadingKind.INTERVAL_MEAN_POWER:
        energy = energy * valid_s / 3600
    tag = np.where(length_s > QUARTER_HOUR_S, Tag.INTERPOLATED, Tag.MEASURED).astype(np.int8)
    return Spans(
        start_us[keep],
        series.at_us[keep],
        energy[keep],
        np.minimum(valid_s / length_s, 1.0)[keep],
        tag[keep],
        length_s[keep],
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
    return _join((before, manual, after))


def _join(parts: Sequence[Spans]) -> Spans:
    return Spans(
        np.concatenate([p.start_us for p in parts]),
        np.concatenate([p.end_us for p in parts]),
        np.concatenate([p.energy_kwh for p in parts]),
        np.concatenate([p.coverage_ratio for p in parts]),
        np.concatenate([p.tag for p in parts]),
        np.concatenate([p.reading_interval_s for p in parts]),
    )


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
    known = _clip(known, start_us, end_us)
    if not len(known.start_us):
        return _nothing()
    first = known.start_us[0] // QUARTER_HOUR_US * QUARTER_HOUR_US
    last = -(-known.end_us[-1] // QUARTER_HOUR_US) * QUARTER_HOUR_US
    edges = np.arange(first, last + 1, QUARTER_HOUR_US)
    length_s = (known.end_us - known.start_us) / US
    covered_s = length_s * known.coverage_ratio
    guessed_s = np.where(known.tag >= Tag.ESTIMATED, covered_s, 0.0)
    low, high = _overlapping(known, edges)
    some = high > low
    return QuarterHours(
        edges[:-1][some],
        _shares(known, edges, known.energy_kwh)[some],
        np.minimum(_shares(known, edges, covered_s)[some] / QUARTER_HOUR_S, 1.0),
        np.minimum(_shares(known, edges, guessed_s)[some] / QUARTER_HOUR_S, 1.0),
        _largest(known.tag, low, high)[some].astype(np.int8),
        np.minimum(_largest(known.reading_interval_s, low, high)[some], 2**31 - 1).astype(np.int32),
    )


def _nothing() -> QuarterHours:
    none = np.empty(0, np.float64)
    return QuarterHours(np.empty(0, np.int64), none, none, none, np.empty(0, np.int8), np.empty(0, np.int32))


def _overlapping(known: Spans, edges: Ints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    low = np.searchsorted(known.end_us, edges[:-1], "right")
    high = np.searchsorted(known.start_us, edges[1:], "left")
    return low, high


def _shares(known: Spans, edges: Ints, amount: Floats) -> Floats:
    """`amount` of every span spread evenly over it, summed per interval between the edges."""
    knots = np.stack([known.start_us, known.end_us], axis=1).reshape(-1)
    total = np.cumsum(amount)
    levels = np.stack([total - amount, total], axis=1).reshape(-1)
    return np.diff(np.interp(edges, knots, levels))


def _largest(
    column: npt.NDArray[np.generic], low: npt.NDArray[np.intp], high: npt.NDArray[np.intp]
) -> Floats:
    """Largest value among the spans `low` to `high` of each interval; 0 where there is none."""
    values = np.append(column.astype(np.float64), 0.0)
    pairs = np.stack([low, np.maximum(high, low + 1)], axis=1).reshape(-1)
    pairs = np.minimum(pairs, len(values) - 1)
    top: Floats = np.maximum.reduceat(values, pairs)[::2]
    return np.where(high > low, top, 0.0)
