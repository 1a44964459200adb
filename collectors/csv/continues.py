"""Whether a file goes on from what is known of its points: questions that its preview asks.

A column of another meter, unit or scale is seldom a wrong number by itself; it shows where the file meets the
readings that are there already, or in its size beside theirs. Nothing here refuses a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from app.domain.energy import BREAKS, GAP_FACTOR, Event
from app.domain.quantity import ENERGY, POWER, ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.site import Direction, Falls, Point, Site
from collectors.csv.match import Named, only_point
from collectors.csv.plan import ColumnPlan
from collectors.csv.time import SECOND_US

KEPT = 200
"""So many readings at each end of a file, or beside it, tell the size of its numbers."""
_OTHER_SIZE = 8
"""Loads change, but seldom so many fold from one file to the next; units and scales differ by 10 and more."""


@dataclass(frozen=True)
class Ends:
    """The first and the last readings of one point in a file, each in order of time."""

    first: ReadingColumns
    last: ReadingColumns

    @classmethod
    def of(cls, columns: ReadingColumns) -> Ends:
        """Of readings of one point in any order."""
        ordered = columns.take(np.argsort(columns.at_us, kind="stable"))
        rows = np.arange(len(ordered))
        return cls(ordered.take(rows[:KEPT]), ordered.take(rows[-KEPT:]))

    def plus(self, columns: ReadingColumns) -> Ends:
        """With more readings of the point."""
        first = Ends.of(ReadingColumns.concat([self.first, columns])).first
        return Ends(first, Ends.of(ReadingColumns.concat([self.last, columns])).last)


@dataclass(frozen=True)
class Beside:
    """What is known of a point beside a file: the readings before it, those after it, its ledger."""

    before: ReadingColumns
    after: ReadingColumns
    events: Sequence[Event] = ()


def questions(site: Site, column: ColumnPlan, ends: Ends, beside: Beside) -> Iterator[str]:
    """What to ask about a column before its readings are stored; nothing where all goes together."""
    if column.point.quantity not in (ENERGY, POWER) or not len(ends.first):
        return
    point = _rated(site, column.point)
    own_kw, known_kw = _size_kw(point, ends.first), _size_kw(point, beside.before, beside.after)
    if _differ(own_kw, known_kw):
        yield (
            f"column {column.name}: its numbers mean about {_kw(own_kw)} kW, the other readings of point "
            f"{point.id} about {_kw(known_kw)} kW; check unit and scale"
        )
    elif _is_unknown(point, own_kw, beside) and not _is_named_so(column, site):
        yield (
            f"column {column.name}: its numbers mean about {_kw(own_kw)} kW; point {point.id} has neither a "
            "rating nor other readings to compare them with, and another name; check point, unit and scale"
        )
    if point.kind is ReadingKind.REGISTER:
        limit_kw = _limit_kw(point, own_kw, known_kw)
        yield from _seam(column.name, point, beside.before, ends.first, beside.events, limit_kw)
        yield from _seam(column.name, point, ends.last, beside.after, beside.events, limit_kw)


def _rated(site: Site, point: Point) -> Point:
    """The point with the rating that holds for it."""
    meter = next(m for m in site.meters if any(p.id == point.id for p in m.points))
    return site.effective(meter, point)


def _size_kw(point: Point, *runs: ReadingColumns) -> float:
    """The usual power that readings mean; NaN where they do not tell. [kW]"""
    found = np.concatenate([_powers_kw(point, run) for run in runs])
    return abs(float(np.median(found))) if len(found) else math.nan


def _powers_kw(point: Point, run: ReadingColumns) -> npt.NDArray[np.float64]:
    if point.kind is ReadingKind.REGISTER:
        hours = np.diff(run.at_us) / 3.6e9
        with np.errstate(over="ignore", invalid="ignore"):
            powers = np.diff(run.value)[hours > 0] / hours[hours > 0]
    elif point.kind is ReadingKind.INTERVAL_ENERGY:
        length_s = np.where(run.interval_s > 0, run.interval_s, point.interval_s)
        powers = run.value * 3600 / length_s
    else:
        powers = run.value
    return np.asarray(powers * point.multiplier, np.float64)


def _differ(own_kw: float, known_kw: float) -> bool:
    small, large = sorted((own_kw, known_kw))
    return bool(small > 0 and large > _OTHER_SIZE * small)


def _is_named_so(column: ColumnPlan, site: Site) -> bool:
    """Whether a column is called like its point and no other."""
    found = only_point(Named(column.index, column.name), site)
    return found is not None and found.id == column.point.id


def _is_unknown(point: Point, own_kw: float, beside: Beside) -> bool:
    has_readings = bool(len(beside.before) or len(beside.after))
    return own_kw > 0 and not has_readings and not math.isfinite(_rated_kw(point))


def _rated_kw(point: Point) -> float:
    """The most that it can carry, by its own rating or by what feeds it. [kW]"""
    return min(point.max_power_kw, point.ceiling_kw)


def _limit_kw(point: Point, own_kw: float, known_kw: float) -> float:
    """The most that a register may rise between two files; infinite where nothing tells. [kW]"""
    if math.isfinite(_rated_kw(point)):
        return _rated_kw(point)
    usual = [kw for kw in (own_kw, known_kw) if kw > 0]
    return _OTHER_SIZE * max(usual) if usual else math.inf


def _seam(
    name: str,
    point: Point,
    before: ReadingColumns,
    after: ReadingColumns,
    events: Sequence[Event],
    limit_kw: float,
) -> Iterator[str]:
    """What to ask about the step of a register from the readings before to those after."""
    if not len(before) or not len(after):
        return
    start_us, end_us, old, new = int(before.at_us[-1]), int(after.at_us[0]), before.value[-1], after.value[0]
    declared = [e for e in events if e.kind in BREAKS and start_us <= e.start_us <= end_us]
    if declared:
        start_us, old = declared[-1].start_us, declared[-1].new_value
    if old is None or end_us <= start_us:
        return
    hours, rise_kwh = (end_us - start_us) / 3.6e9, _rise_kwh(point, float(old), float(new))
    step = (
        f"column {name}: from {old * point.multiplier:,.1f} kWh at {_utc(start_us)} to "
        f"{new * point.multiplier:,.1f} kWh at {_utc(end_us)}"
    )
    if rise_kwh < 0:
        if point.falls is Falls.SUSPECT and point.direction is not Direction.BOTH:
            yield f"{step} point {point.id} would fall; check unit and scale, or declare the replaced meter"
    elif rise_kwh / hours > limit_kw:
        yield (
            f"{step} point {point.id} would rise by {rise_kwh:,.1f} kWh, about {rise_kwh / hours:,.0f} kW: "
            f"more than {limit_kw:,.0f} kW; check unit and scale, or declare the replaced meter"
        )
    elif hours * 3600 > GAP_FACTOR * max(point.interval_s, _spacing_s(before), _spacing_s(after)):
        yield f"{step} point {point.id} has a gap of {hours:,.3g} h, into which {rise_kwh:,.1f} kWh fall"


def _rise_kwh(point: Point, old: float, new: float) -> float:
    """How far a register rose, over its wrap where it has one."""
    wrapped = new < old and math.isfinite(point.modulus_kwh)
    return (new - old + (point.modulus_kwh if wrapped else 0)) * point.multiplier


def _spacing_s(run: ReadingColumns) -> float:
    """How far apart readings usually are. [s]"""
    return float(np.median(np.diff(run.at_us))) / SECOND_US if len(run) > 1 else 0.0


def _kw(power_kw: float) -> str:
    return f"{power_kw:,.0f}" if power_kw >= 100 else f"{power_kw:.3g}"


def _utc(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
