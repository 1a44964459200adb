"""How a period is cut into parts whose sums are added up: always in the same way, so to the same last bit.

It is cut where a local day or month begins, and what is left of days into stretches of hours: so periods have
parts in common, whichever are asked together.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.period import QUARTER_HOUR, Period, floor, midnight

EPOCH, _NONE = datetime(1970, 1, 1, tzinfo=UTC), timedelta(0)


class Piece(NamedTuple):
    """A part of a period: whole local days, or quarter-hours; half-open."""

    first: Any
    last: Any
    """Dates, or instants."""

    @property
    def is_days(self) -> bool:
        """Whether it is made of whole local days."""
        return not isinstance(self.first, datetime)


def pieces(zone: ZoneInfo, span: Period) -> Iterator[Piece]:
    """Whole local days of a period, and the quarter-hours before and after them."""
    first = span.start.astimezone(zone).date()
    if midnight(first, zone) < span.start:
        first += timedelta(days=1)
    last = span.end.astimezone(zone).date()
    if last <= first:
        yield Piece(span.start, span.end)
        return
    inner_start, inner_end = midnight(first, zone), midnight(last, zone)
    if span.start < inner_start:
        yield Piece(span.start, inner_start)
    yield Piece(first, last)
    if inner_end < span.end:
        yield Piece(inner_end, span.end)


def _by_month(days: Piece) -> Iterator[Piece]:
    """Whole days, cut where months begin."""
    first = days.first
    while (following := _next_month(first)) < days.last:
        yield Piece(first, following)
        first = following
    yield Piece(first, days.last)


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


STRETCH = timedelta(hours=4)
"""Quarter-hours are summed by so many of UTC, or by hours: a window that moves on finds most sums kept."""
_STRETCHES = (STRETCH, timedelta(hours=1))


def _by_hour(part: Piece) -> Iterator[Piece]:
    """Quarter-hours, in stretches as long as they fit."""
    first = part.first
    while first < part.last:
        fitting = (first + s for s in _STRETCHES if (first - EPOCH) % s == _NONE and first + s <= part.last)
        until = next(fitting, None) or min(floor(first) + QUARTER_HOUR, part.last)
        yield Piece(first, until)
        first = until


@lru_cache(maxsize=512)
def cut(zone: ZoneInfo, span: Period) -> tuple[Piece, ...]:
    """The parts of a period whose sums are added up, oldest first; days and months are those of a zone."""
    return tuple(
        part
        for piece in pieces(zone, span)
        for part in (_by_month(piece) if piece.is_days else _by_hour(piece))
    )


@lru_cache(maxsize=512)
def short_parts(zone: ZoneInfo, span: Period) -> tuple[Piece, ...]:
    """The parts of a period that are made of some of the quarter-hours of a stretch of four hours."""
    return tuple(part for part in cut(zone, span) if _is_short(part))


def _is_short(part: Piece) -> bool:
    if part.is_days or part.last - part.first >= STRETCH:
        return False
    return not any((edge - EPOCH) % QUARTER_HOUR for edge in part)


def stretch(at: datetime) -> datetime:
    """Beginning of the stretch of four hours in which an instant lies."""
    return at - (at - EPOCH) % STRETCH
