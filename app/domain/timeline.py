"""The energy of a point that is not always there, or not always the same.

Its time is cut into :class:`Stretch`\\ es over which it is constant. Each is walked by itself, with a few
readings of its neighbours as context, and what it gives is cut at its ends: an interval between two readings
that spans the end is split by time, each part with the constant in force, and flagged estimated. What lies
outside of every stretch is no energy of the point, and not missing either.

Example: a register reads 100 at 23:00 and 102 at 01:00, and its transformer ratio goes from 40 to 80 at
midnight: 1 x 40 = 40 kWh before and 1 x 80 = 80 kWh after, both estimated. With a reading at midnight
nothing is split, and nothing estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import numpy as np

from app.domain import energy
from app.domain.energy import Event, Series, Spans, Tag
from app.domain.period import QUARTER_HOUR_US
from app.domain.quantity import ReadingKind
from app.domain.recalculation import Recalculation, recalculation
from app.domain.register import LOOK_AHEAD, QUIET, REACH
from app.domain.site import ALWAYS, Fleet, Placement, Point

CONTEXT = 2 * QUIET + LOOK_AHEAD + REACH
"""Readings on each side of a stretch that are walked with it."""
_EARLIEST_US, _LATEST_US = -(2**62), 2**62


class Stretch(NamedTuple):
    """Time over which a point is there and its energy follows from its readings in one way; half-open."""

    start_us: int
    end_us: int
    point: Point
    """Constant, with its meter's rating as the most it can carry."""


def timeline(placements: Sequence[Placement]) -> tuple[Stretch, ...]:
    """The stretches of a point, in order of time.

    Parameters
    ----------
    placements : sequence of Placement
        Where it is and was, in order of time.
    """
    merged: list[Stretch] = []
    for stretch in (s for placed in placements for s in _constant_parts(placed)):
        if merged and merged[-1].end_us == stretch.start_us and _alike(merged[-1].point, stretch.point):
            stretch = stretch._replace(start_us=merged.pop().start_us)
        merged.append(stretch)
    return tuple(merged)


def of_point(fleet: Fleet, point_id: str) -> tuple[Stretch, ...]:
    """The stretches of a point of a fleet, in order of time."""
    return timeline(fleet.placements[point_id])


def is_plain(parts: Sequence[Stretch]) -> bool:
    """Whether the point is always there, always the same, and measured."""
    whole = len(parts) == 1 and parts[0].start_us == _EARLIEST_US and parts[0].end_us == _LATEST_US
    return whole and not parts[0].point.estimates


def gaps(parts: Sequence[Stretch], start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """Times of a range in which the point is not there. [us]"""
    at_us = start_us
    for part in parts:
        if at_us < min(part.start_us, end_us):
            yield at_us, min(part.start_us, end_us)
        at_us = max(at_us, part.end_us)
    if at_us < end_us:
        yield at_us, end_us


def _constant_parts(placed: Placement) -> Iterator[Stretch]:
    turns = {c.at for c in placed.meter.changes} | {c.at for c in placed.point.changes}
    starts = [placed.start, *sorted(at for at in turns if placed.start < at < placed.end)]
    for start, end in zip(starts, [*starts[1:], placed.end], strict=True):
        if start < end:
            meter, point = placed.meter.at(start), placed.point.at(start)
            yield Stretch(_us(start), _us(end), placed.site.effective(meter, point))


def _us(at: datetime) -> int:
    if at in ALWAYS:
        return _EARLIEST_US if at == ALWAYS[0] else _LATEST_US
    return round(at.timestamp() * 1_000_000)


def _alike(one: Point, other: Point) -> bool:
    """Whether readings of the one mean the same energy as readings of the other."""
    limits = ((p.multiplier, p.max_power_kw, p.ceiling_kw) for p in (one, other))
    return _reads_alike(one, other) and next(limits) == next(limits)


def _reads_alike(one: Point, other: Point) -> bool:
    """Whether both are views of one series, apart from its constant and rating."""
    return _view(one) == _view(other)


def _view(point: Point) -> tuple[object, ...]:
    restart = point.falls, point.restarts, point.clock
    return (
        point.kind,
        point.modulus_kwh,
        *restart,
        point.direction,
        point.sampling,
        point.interval_s,
        point.quantity,
    )


class _Part(NamedTuple):
    """A stretch with the readings that are walked for it."""

    stretch: Stretch
    series: Series
    is_start: bool
    is_end: bool
    """Whether no earlier, no later reading would be walked with it."""


def spans(series: Series, parts: Sequence[Stretch], events: Sequence[Event] = ()) -> Spans:
    """Stretches of known energy of a point over its whole time.

    Parameters
    ----------
    series : Series
        All its readings, in house units before the constants.
    parts : sequence of Stretch
        Its timeline.
    events : sequence of Event
        What people declared about it.

    Returns
    -------
    Spans
        Disjoint, in order. [kWh], or the point's own quantity where that is not energy.
    """
    return energy.join([_energy(part, 0, events) for part in _parts(series, parts, True, True)])


def _energy(part: _Part, first_row: int, events: Sequence[Event]) -> Spans:
    stretch, series = part.stretch, part.series.take(slice(first_row, None))
    known = energy.spans(series, stretch.point, events)
    if stretch.point.estimates:
        known = known._replace(tag=np.maximum(known.tag, Tag.ESTIMATED).astype(np.int8))
    return energy.within(known, stretch.start_us, stretch.end_us)


def _parts(series: Series, parts: Sequence[Stretch], is_start: bool, is_end: bool) -> list[_Part]:
    return [_part(series, parts, n, is_start, is_end) for n in range(len(parts))]


def _part(series: Series, parts: Sequence[Stretch], n: int, is_start: bool, is_end: bool) -> _Part:
    """The readings of stretch `n` with its context.

    Context are the nearest readings on each side, but none of a neighbour that reads otherwise, and none
    from beyond a time in which the point was not there: what flowed across that is not known.
    """
    stretch, at_us = parts[n], series.at_us
    inner = np.searchsorted(at_us, [stretch.start_us, stretch.end_us])
    low, high = 0, len(at_us)
    if n:
        low = _context_from(series, parts[n - 1], stretch)
    if n + 1 < len(parts):
        high = _context_until(series, stretch, parts[n + 1])
    first, last = max(int(inner[0]) - CONTEXT, low), min(int(inner[1]) + CONTEXT, high)
    taken = series.take(slice(first, max(first, last)))
    if stretch.point.kind is ReadingKind.POWER:
        taken = _in_one_constant(taken, stretch, parts)
    return _Part(stretch, taken, is_start or first > 0, is_end or last < len(at_us))


def _context_from(series: Series, before: Stretch, stretch: Stretch) -> int:
    if before.end_us < stretch.start_us:
        return int(np.searchsorted(series.at_us, before.end_us, "right"))
    if not _reads_alike(before.point, stretch.point):
        return int(np.searchsorted(series.at_us, stretch.start_us))
    return 0


def _context_until(series: Series, stretch: Stretch, after: Stretch) -> int:
    if stretch.end_us < after.start_us:
        return int(np.searchsorted(series.at_us, after.start_us))
    if not _reads_alike(stretch.point, after.point):
        return int(np.searchsorted(series.at_us, stretch.end_us))
    return len(series.at_us)


def _in_one_constant(series: Series, stretch: Stretch, parts: Sequence[Stretch]) -> Series:
    """Power samples as a meter with the constant of `stretch` would have given them."""
    factor = np.full(len(series), stretch.point.multiplier)
    for other in parts:
        rows = (series.at_us >= other.start_us) & (series.at_us < other.end_us)
        factor[rows] = other.point.multiplier
    return replace(series, value=series.value * (factor / stretch.point.multiplier))


class Redone(NamedTuple):
    """What must be computed again, and the energy that it has."""

    start_us: int
    end_us: int
    """Intervals to replace, on 15-minute boundaries, half-open. [us]"""
    known: Spans


def redone(
    series: Series,
    parts: Sequence[Stretch],
    dirty_start_us: int,
    dirty_end_us: int,
    events: Sequence[Event] = (),
    *,
    is_start: bool,
    is_end: bool,
) -> Redone | None:
    """The energy around a change, as :func:`recalculation` for a point that is always the same.

    Parameters
    ----------
    series : Series
        Readings around the change, the new ones among them.
    parts : sequence of Stretch
        The point's timeline.
    dirty_start_us, dirty_end_us : int
        Instants of the first and last change, both included. [us]
    is_start, is_end : bool
        Whether the series begins with the point's first reading and ends with its last.

    Returns
    -------
    Redone or None
        None where the context is too short to tell: ask again with more readings on both sides.
    """
    start_us, end_us = _outward(dirty_start_us, dirty_end_us)
    every = _parts(series, parts, is_start, is_end)
    for part in every:
        if not _is_touched(part, dirty_start_us, dirty_end_us):
            continue
        change = _change(part, dirty_start_us, dirty_end_us, events)
        if change is None:
            return None
        first_us, last_us = _outward(part.stretch.start_us, part.stretch.end_us)
        start_us = min(start_us, max(change.start_us, first_us))
        end_us = max(end_us, min(change.end_us, last_us))
    known = []
    for part in every:
        low, high = max(start_us, part.stretch.start_us), min(end_us, part.stretch.end_us)
        if low < high:
            change = _change(part, low, high, events)
            if change is None:
                return None
            known.append(_energy(part, change.first_row, events))
    return Redone(start_us, end_us, energy.join(known))


def _change(part: _Part, start_us: int, end_us: int, events: Sequence[Event]) -> Recalculation | None:
    return recalculation(
        part.series,
        part.stretch.point,
        start_us,
        end_us,
        events,
        is_start=part.is_start,
        is_end=part.is_end,
    )


def _is_touched(part: _Part, dirty_start_us: int, dirty_end_us: int) -> bool:
    """Whether a change lies in a stretch, or among the readings that are walked with it."""
    stretch, at_us = part.stretch, part.series.at_us
    first_us = min(stretch.start_us, int(at_us[0]) if len(at_us) else stretch.start_us)
    last_us = max(stretch.end_us, int(at_us[-1]) if len(at_us) else stretch.end_us)
    return dirty_start_us <= last_us and dirty_end_us >= first_us


def _outward(start_us: int, end_us: int) -> tuple[int, int]:
    return start_us // QUARTER_HOUR_US * QUARTER_HOUR_US, -(-end_us // QUARTER_HOUR_US) * QUARTER_HOUR_US
