"""Readings that come in, many at once: values in house units, and which of them can be stored.

The same rules as :func:`app.domain.quantity.to_house` and :func:`app.domain.reading.refusal` for one reading,
to the last bit. What cannot be stored is only said to be so: the reason is found one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.quantity import UNITS, ReadingKind
from app.domain.reading import FUTURE_ALLOWED, OLDEST
from app.domain.site import Point, Stamp

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STATED = (ReadingKind.INTERVAL_ENERGY, ReadingKind.INTERVAL_MEAN_POWER)
"""Kinds whose readings state an interval."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = 1_000_000


class Intake(NamedTuple):
    """How the readings of points are taken in; columns of length n."""

    factor: Floats
    offset: Floats
    """House value = value x factor + offset."""
    lowest: Floats
    highest: Floats
    """Bounds of the house value, both included."""
    interval_s: Ints
    """Length of the interval where a reading states none; 0 for kinds without one. [s]"""
    is_measured: Bools
    """False for points with a formula, which take no readings."""
    is_stamped_at_start: Bools
    """Whether the time of a reading is the start of its interval."""


class Taken(NamedTuple):
    """Readings as they are stored; columns of the same length."""

    at_us: Ints
    value: Floats
    interval_s: Ints
    is_sound: Bools
    """Those that can be stored."""


def intake(points: Iterable[Point]) -> Intake:
    """Columns of what points say of their readings."""
    rows = [_row(point) for point in points]
    columns = list(zip(*rows, strict=True)) or [()] * len(Intake._fields)
    kinds = (np.float64, np.float64, np.float64, np.float64, np.int64, np.bool_, np.bool_)
    return Intake(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def _row(point: Point) -> tuple[float, float, float, float, int, bool, bool]:
    _, factor, offset = UNITS[point.source_unit]
    interval_s = int(point.interval_s) if point.kind in STATED else 0
    is_at_start = bool(interval_s) and point.stamp is Stamp.START
    lowest, highest = point.quantity.lowest, point.quantity.highest
    return factor, offset, lowest, highest, interval_s, not point.formula, is_at_start


def taken(of: Intake, place: Ints, at_us: Ints, value: Floats, now: datetime) -> Taken:
    """Readings in house units, with their intervals.

    Parameters
    ----------
    of : Intake
    place : int64, shape (k,)
        Row of each reading's point in `of`.
    at_us : int64, shape (k,)
        The time that the source wrote. [us]
    value : float64, shape (k,)
        In the unit of the source.
    now : datetime
        Readings far ahead of it are not sound.
    """
    house = value * of.factor[place] + of.offset[place]
    interval_s = of.interval_s[place]
    end_us = at_us + np.where(of.is_stamped_at_start[place], interval_s * _US, 0)
    is_inside = (house >= of.lowest[place]) & (house <= of.highest[place]) & np.isfinite(house)
    in_time = (end_us >= _us(OLDEST)) & (end_us <= _us(now + FUTURE_ALLOWED))
    return Taken(end_us, house, interval_s, is_inside & in_time & of.is_measured[place])


def _us(at: datetime) -> int:
    delta = at - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * _US + delta.microseconds
