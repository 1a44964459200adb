"""Sums of one site that are kept from one evaluation to the next."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.period import QUARTER_HOUR, QUARTER_HOUR_S, midnight
from app.domain.site import Site
from app.store.period_parts import EPOCH, STRETCH, Piece, stretch

Floats = npt.NDArray[np.float64]
OF_POINTS = "\n"
"""Under this name sums of points are kept; those of a site and its rooms have the room's."""
_HOUR = timedelta(hours=1)


class Kept:
    """Sums of parts of periods of one site, as long as nothing in these parts is computed again.

    What the rollup computes it notes by site and hour in the same transaction; so a sum may be kept until a
    later note touches it. Where a period begins or ends within a stretch of four hours, the quarter-hours of
    the stretch are kept, from which the sums of its parts follow as the period moves on.
    """

    def __init__(self) -> None:
        self._points: tuple[int, ...] = ()
        self._version = -1
        self._known: dict[tuple[str, Piece], Floats] = {}
        self._hours: dict[tuple[str, Piece], tuple[int, int]] = {}
        self._used: set[tuple[str, Piece]] = set()
        self._quarters: dict[datetime, _Quarters] = {}
        self._used_quarters: set[datetime] = set()

    def seen(self, points: Sequence[int]) -> int | None:
        """The newest note of hours that what is kept of some points knows; None where nothing is kept."""
        return self._version if self._known and self._points == tuple(points) else None

    def forget(self, points: Sequence[int], newest: int, changed: Sequence[int]) -> None:
        """Forget what was computed again, or not asked for any more; before anything else is read.

        Parameters
        ----------
        points : sequence of int
            All that will be asked about.
        newest : int
            Version of the newest note there is.
        changed : sequence of int
            Hours since 1970 that were noted after :meth:`seen`, in order.
        """
        seen = self.seen(points)
        is_known = seen is not None and newest >= seen
        self._known = {
            key: sums
            for key, sums in self._known.items()
            if is_known and key in self._used and not (changed and _is_touched(self._hours[key], changed))
        }
        self._hours = {key: self._hours[key] for key in self._known}
        self._quarters = {
            start: left
            for start, known in self._quarters.items()
            if is_known and start in self._used_quarters and (left := known.before(_first(start, changed)))
        }
        self._points, self._version = tuple(points), newest
        self._used, self._used_quarters = set(), set()

    def known(self, room: str, wanted: Iterable[Piece]) -> dict[Piece, Floats]:
        """Those of some parts that are kept."""
        keys = [(room, piece) for piece in wanted]
        self._used.update(keys)
        return {key[1]: self._known[key] for key in keys if key in self._known}

    def keep(self, site: Site, room: str, read: Iterable[tuple[Piece, Floats]]) -> None:
        """Keep what was read; an empty sum takes no room."""
        for piece, sums in read:
            self._hours[room, piece] = _hours(site, piece)
            self._known[room, piece] = sums.copy() if sums.any() else np.broadcast_to(0.0, sums.shape)

    def quarters_to_read(self, parts: Iterable[Piece], until: datetime) -> list[Piece]:
        """Quarter-hours that have to be read so that :meth:`summed` knows some short parts; in order.

        To the end of their stretch of four hours, but not beyond `until`: as a period moves on it begins
        later, or ends later.
        """
        first: dict[datetime, datetime] = {}
        for part in parts:
            start = stretch(part.first)
            self._used_quarters.add(start)
            if (OF_POINTS, part) not in self._known and self.summed(part) is None:
                first[start] = min(part.first, first.get(start, part.first))
        return [
            Piece(at, at + QUARTER_HOUR)
            for start, begin in sorted(first.items())
            for at in self._to_read(start, begin, min(start + STRETCH, until))
        ]

    def _to_read(self, start: datetime, begin: datetime, until: datetime) -> Iterator[datetime]:
        known = self._quarters.get(start)
        at = known.end if known is not None and known.first <= begin <= known.end else begin
        while at < until:
            yield at
            at += QUARTER_HOUR

    def keep_quarters(self, read: Sequence[Piece], figures: Floats) -> None:
        """Keep quarter-hours that were read; shape (quarter-hours, 4, points), ratios of time as they are."""
        at = 0
        while at < len(read):
            start, end = stretch(read[at].first), at + 1
            while end < len(read) and stretch(read[end].first) == start:
                end += 1
            fresh = _Quarters.of(read[at].first, figures[at:end])
            known = self._quarters.get(start)
            follows = known is not None and known.end == fresh.first
            self._quarters[start] = known.followed_by(fresh) if known is not None and follows else fresh
            at = end

    def summed(self, part: Piece) -> Floats | None:
        """Sum of quarter-hours that are kept, in order of time; None where they are not, or of whole days."""
        known = None if part.is_days else self._quarters.get(stretch(part.first))
        if known is None or part.first < known.first or part.last > known.end:
            return None
        return known.sum(part)


@dataclass(frozen=True, slots=True)
class _Quarters:
    """Figures of quarter-hours that follow each other; what is the same for all points takes no room."""

    first: datetime
    figures: tuple[Floats, ...]
    """Whether something is known, energy, covered and estimated share; each (quarter-hours, points)."""

    @classmethod
    def of(cls, first: datetime, figures: Floats) -> _Quarters:
        return cls(first, tuple(map(_compact, figures.swapaxes(0, 1))))

    @property
    def end(self) -> datetime:
        return self.first + len(self.figures[0]) * QUARTER_HOUR

    def before(self, end: datetime | None) -> _Quarters | None:
        """Those before an instant, or all; None where there is none."""
        if end is None:
            return self
        count = (end - self.first) // QUARTER_HOUR
        return _Quarters(self.first, tuple(f[:count] for f in self.figures)) if count > 0 else None

    def followed_by(self, later: _Quarters) -> _Quarters:
        both = zip(self.figures, later.figures, strict=True)
        return _Quarters(self.first, tuple(_compact(np.concatenate(parts)) for parts in both))

    def sum(self, part: Piece) -> Floats:
        """As the database sums a part: one after the other, then shares become times."""
        row, last = ((at - self.first) // QUARTER_HOUR for at in part)
        count, *figures = (f[row:last] for f in self.figures)
        energy, *shares = (reduce(np.add, figure) for figure in figures)
        return np.stack([count.max(axis=0), energy, *(share * QUARTER_HOUR_S for share in shares)])


def _compact(figures: Floats) -> Floats:
    is_one = figures.size and not (figures != figures.flat[0]).any()
    return np.broadcast_to(figures.flat[0], figures.shape) if is_one else np.array(figures)


def _hours(site: Site, piece: Piece) -> tuple[int, int]:
    """The hours since 1970 that a part touches, half-open."""
    first, last = ((instant(site, edge) - EPOCH) / _HOUR for edge in piece)
    return math.floor(first), math.ceil(last)


def instant(site: Site, edge: Any) -> datetime:
    """When a part begins or ends: an instant, or a day of the site."""
    return edge if isinstance(edge, datetime) else midnight(edge, site.zone)


def _is_touched(hours: tuple[int, int], changed: Sequence[int]) -> bool:
    """Whether any of some hours, in order, lies in a range."""
    row = bisect_left(changed, hours[0])
    return row < len(changed) and changed[row] < hours[1]


def _first(start: datetime, changed: Sequence[int]) -> datetime | None:
    """Begin of the first of some hours, in order, that lies in a stretch of four hours."""
    row = bisect_left(changed, (start - EPOCH) // _HOUR)
    if row == len(changed):
        return None
    at = EPOCH + changed[row] * _HOUR
    return at if at < start + STRETCH else None
