"""Readings as they travel: one by one from meters, in columns from files.

A reading is what a meter said, never changed afterwards. ``at`` is always the *end* of the stated
interval for the two interval kinds, and the instant of measurement for the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.quantity import Quantity
from app.errors import SeriesError

OLDEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Readings before this are refused: a clock that was never set."""

LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""After every reading that is ever accepted."""

FUTURE_ALLOWED = timedelta(hours=26)
"""Readings further ahead than this are refused; it leaves room for a wrong zone, not for a wrong year."""


class Reading(NamedTuple):
    """One value of one point, in the house unit of its quantity.

    A named tuple, because meters deliver thousands a second and it is made three times as fast as a
    frozen dataclass.
    """

    point: str
    at: datetime
    value: float
    interval_s: int = 0
    """Length of the stated interval; 0 for `register`, `power` and `gauge`. [s]"""
    valid_s: int = 0
    """Valid part of the interval; equals `interval_s` unless the source says less. [s]"""


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """Many readings as columns of equal length n, for import and ingest."""

    point_id: npt.NDArray[np.int32]
    at_us: npt.NDArray[np.int64]
    """Microseconds since 1970-01-01T00:00Z."""
    value: npt.NDArray[np.float64]
    interval_s: npt.NDArray[np.int32]
    valid_s: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if len({len(c) for c in (self.point_id, self.at_us, self.value, self.interval_s, self.valid_s)}) != 1:
            raise SeriesError("columns of a batch differ in length")

    def __len__(self) -> int:
        return len(self.point_id)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> ReadingColumns:
        """The chosen rows, in the order given."""
        return ReadingColumns(
            self.point_id[rows], self.at_us[rows], self.value[rows], self.interval_s[rows], self.valid_s[rows]
        )

    def by_point(self) -> ReadingColumns:
        """The rows by point, then time; rows that stand so already are not copied."""
        later = (self.at_us[1:] >= self.at_us[:-1]) & (self.point_id[1:] == self.point_id[:-1])
        if (later | (self.point_id[1:] > self.point_id[:-1])).all():
            return self
        return self.take(order_by_point(self.point_id, self.at_us))

    @classmethod
    def concat(cls, parts: Sequence[ReadingColumns]) -> ReadingColumns:
        """All parts after each other; an empty sequence gives an empty batch."""
        return cls(
            np.concatenate([np.empty(0, np.int32), *(p.point_id for p in parts)]),
            np.concatenate([np.empty(0, np.int64), *(p.at_us for p in parts)]),
            np.concatenate([np.empty(0, np.float64), *(p.value for p in parts)]),
            np.concatenate([np.empty(0, np.int32), *(p.interval_s for p in parts)]),
            np.concatenate([np.empty(0, np.int32), *(p.valid_s for p in parts)]),
        )


def order_by_point(
    point_id: npt.NDArray[np.integer[Any]], at_us: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Rows by point, then time, as they stood where both are equal; shape (n,).

    As ``numpy.lexsort``, but many times as fast where the rows of each point are nearly in order of time.
    """
    if not len(at_us):
        return np.empty(0, np.intp)
    number = point_id.astype(np.int64) - int(point_id.min())
    since_us = at_us - at_us.min()
    most, bits = int(number.max()), int(since_us.max()).bit_length()
    if most.bit_length() + bits > 63:
        return np.lexsort((at_us, point_id))
    few = most <= np.iinfo(np.uint16).max  # which NumPy sorts without comparing
    order = np.argsort(number.astype(np.uint16) if few else number, kind="stable")
    key = ((number << bits) + since_us)[order]
    return order if (key[1:] >= key[:-1]).all() else order[np.argsort(key, kind="stable")]


def refusal(at: datetime, value: float, quantity: Quantity, now: datetime) -> str | None:
    """Why this reading cannot be stored, or None where it can.

    Raises
    ------
    SeriesError
        If `at` or `now` is naive.
    """
    if at.tzinfo is None or now.tzinfo is None:
        raise SeriesError("naive datetime; every instant needs a zone")
    if not math.isfinite(value):
        return f"not a finite number: {value}"
    if not quantity.lowest <= value <= quantity.highest:
        return f"{value:g} {quantity.house_unit} is outside {quantity.lowest:g}..{quantity.highest:g}"
    if at < OLDEST:
        return f"time {at.isoformat()} is before {OLDEST.isoformat()}"
    if at > now + FUTURE_ALLOWED:
        return f"time {at.isoformat()} is in the future"
    return None
