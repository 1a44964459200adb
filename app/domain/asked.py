"""What a query asks for: a window, a month, a year, or start and end, and what it is compared with.

The HTTP interface and the pages both read their addresses here, so that the same address means the same
time everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from app.domain import period as periods
from app.domain.period import FIXED, Period, Step, midnight, shift_months
from app.errors import SeriesError

COMPARISONS = ("previous", "year")
"""Comparisons by name; any other is written as ``START..END``."""

LONGEST_YEARS = 20
"""Longest period that is drawn bar by bar. [a]"""

_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_TO_DATE = {"mtd": 1, "ytd": 12, "12mo": 12}
"""Windows that are compared with the same part so many months before. [months]"""


def instant(text: str, name: str) -> datetime:
    """An instant as RFC 3339 writes it, in UTC.

    Raises
    ------
    SeriesError
        If it is none; `name` says which parameter.
    """
    match = _INSTANT.fullmatch(re.sub(r" (?=\d{2}:\d{2}$)", "+", text))  # a bare + in a query is a space
    try:
        if match is None:
            raise ValueError
        fraction = (match[3] or ".0")[:7]
        at = datetime.fromisoformat(f"{match[1]}T{match[2]}{fraction}{match[4].upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise SeriesError(f"{name}: {text!r} is no instant; write 2026-10-01T00:00:00+08:00") from None
    if not _EARLIEST <= at <= _LATEST:
        raise SeriesError(f"{name}: {text!r} is out of reach; years 1990 to 2199 can be asked for")
    return at


def instant_or_day(text: str, name: str, zone: ZoneInfo) -> datetime:
    """An instant, or a day: its midnight at the site; raises as :func:`instant`."""
    if not _DAY.fullmatch(text):
        return instant(text, name)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise SeriesError(f"{name}: there is no day {text}; write it like 2026-10-01") from None
    if not _EARLIEST.date() <= day <= _LATEST.date():
        raise SeriesError(f"{name}: {text!r} is out of reach; years 1990 to 2199 can be asked for")
    return midnight(day, zone)


def whole(period: Period) -> Period:
    """The period with its ends moved outward to quarter-hours, in which energy is kept."""
    return Period(periods.floor(period.start), periods.ceil(period.end))


@dataclass(frozen=True, slots=True)
class Asked:
    """The period that a query names, and the one it is compared with."""

    window: str | None = None
    month: str | None = None
    year: str | None = None
    start: str | None = None
    end: str | None = None
    default: str = "24h"
    """Window that is meant where the query names no period."""
    compare: str | None = None
    """``previous``, ``year`` or ``START..END``."""

    @property
    def query(self) -> dict[str, str]:
        """The period as parameters of an address; empty where none is named."""
        names = ("window", "month", "year", "start", "end")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def resolve(self, now: datetime, zone: ZoneInfo) -> Period:
        """The period; its ends are moved outward to the quarter-hours, in which energy is kept.

        Raises
        ------
        SeriesError
            If the query names more than one, or what it names is none.
        """
        named = [n for n in ("window", "month", "year") if getattr(self, n) is not None]
        if self.start is not None or self.end is not None:
            named.append("start and end")
        if len(named) > 1:
            raise SeriesError(f"give one of window, month, year, or start and end; not {' and '.join(named)}")
        if self.month is not None:
            return periods.month(self.month, zone)
        if self.year is not None:
            return periods.year(self.year, zone)
        if self.start is None and self.end is None:
            return periods.window(self.window or self.default, now, zone)
        if self.start is None or self.end is None:
            raise SeriesError("start and end belong together; give both")
        return _between(self.start, self.end, ("start", "end"), zone)

    def compared(self, now: datetime, zone: ZoneInfo) -> Period | None:
        """The period it is compared with; None where the query names none.

        Raises
        ------
        SeriesError
            As :meth:`resolve`, and if `compare` names no period.
        """
        if self.compare is None:
            return None
        period = self.resolve(now, zone)
        if self.compare == "previous":
            return self.previous(period, zone)
        if self.compare == "year":
            return whole(_months_later(period, -12, zone))
        start, dots, end = self.compare.partition("..")
        if not dots:
            allowed = ", ".join((*COMPARISONS, "2026-05-01..2026-06-01"))
            raise SeriesError(f"compare: {self.compare!r} is no comparison; allowed are {allowed}")
        return _between(start, end, ("compare", "compare"), zone)

    def previous(self, period: Period, zone: ZoneInfo) -> Period:
        """What `period`, as :meth:`resolve` has it, is compared with where nothing else is said.

        The month before a month, the year before a year, the same part of the last month or year before
        one that runs; else as long a stretch directly before.
        """
        window = "" if self.query.keys() - {"window"} else self.window or self.default
        if window in FIXED:
            return Period(period.start - FIXED[window], period.start)
        if window in _TO_DATE:
            return whole(_months_later(period, -_TO_DATE[window], zone))
        return shifted(period, -1, zone)

    def neighbour(self, by: int, now: datetime, zone: ZoneInfo) -> dict[str, str] | None:
        """Address parameters of the period directly before (`by` -1) or after (1); None: it lies ahead.

        Raises
        ------
        SeriesError
            As :meth:`resolve`.
        """
        period = self.resolve(now, zone)
        window = "" if self.query.keys() - {"window"} else self.window or self.default
        if window and by > 0:
            return None
        if window in ("mtd", "ytd"):
            first = shift_months(period.start, -_TO_DATE[window], zone).astimezone(zone)
            return {"month": f"{first:%Y-%m}"} if window == "mtd" else {"year": f"{first:%Y}"}
        moved = self.previous(period, zone) if window else shifted(period, by, zone)
        if (by > 0 and moved.start >= now) or moved.start < _EARLIEST or moved.end > _LATEST:
            return None
        local = moved.start.astimezone(zone)
        if self.month is not None:
            return {"month": f"{local:%Y-%m}"}
        return {"year": f"{local:%Y}"} if self.year is not None else query_of(moved, zone)


def query_of(period: Period, zone: ZoneInfo) -> dict[str, str]:
    """A period as ``start`` and ``end`` of an address: days where both ends are midnights of the site."""
    return {"start": text_of(period.start, zone), "end": text_of(period.end, zone)}


def text_of(at: datetime, zone: ZoneInfo) -> str:
    """An instant as an address has it: the day where it is a midnight of the site."""
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%d}" if _is_midnight(at, zone) else local.isoformat()


def shifted(period: Period, by: int, zone: ZoneInfo) -> Period:
    """The period that lies `by` of its own lengths later.

    One of whole months of the site moves by as many months, one of whole days by as many days.
    """
    months = _whole_months(period, zone)
    if months:
        return _months_later(period, by * months, zone)
    first, last = (at.astimezone(zone).date() for at in (period.start, period.end))
    if _is_midnight(period.start, zone) and _is_midnight(period.end, zone):
        move = by * (last - first)
        return Period(midnight(first + move, zone), midnight(last + move, zone))
    return Period(*(at + by * (period.end - period.start) for at in (period.start, period.end)))


def step_of(period: Period) -> Step:
    """Width of the bars in which a period is drawn.

    Raises
    ------
    SeriesError
        If it is longer than :data:`LONGEST_YEARS`.
    """
    days = period.duration_s / 86_400
    if days > LONGEST_YEARS * 366:
        raise SeriesError(f"the period has {days:.0f} days; at most {LONGEST_YEARS} years can be shown")
    longest = ((2.2, Step.QUARTER_HOUR), (15, Step.HOUR), (190, Step.DAY))
    return next((step for most, step in longest if days <= most), Step.MONTH)


def parameters(given: Mapping[str, str]) -> dict[str, str]:
    """Parameters of an address without those that a form has left empty."""
    return {name: value for name, value in given.items() if value.strip()}


def _between(start: str, end: str, names: tuple[str, str], zone: ZoneInfo) -> Period:
    ends = (instant_or_day(text, name, zone) for text, name in zip((start, end), names, strict=True))
    return whole(Period(*ends))


def _is_midnight(at: datetime, zone: ZoneInfo) -> bool:
    return midnight(at.astimezone(zone).date(), zone) == at


def _whole_months(period: Period, zone: ZoneInfo) -> int:
    """How many months of the site a period has; 0 where it is not made of whole ones."""
    first, last = (at.astimezone(zone) for at in (period.start, period.end))
    is_whole = all(
        at.day == 1 and _is_midnight(end, zone) for at, end in ((first, period.start), (last, period.end))
    )
    return 12 * (last.year - first.year) + last.month - first.month if is_whole else 0


def _months_later(period: Period, months: int, zone: ZoneInfo) -> Period:
    """Both ends at the same wall time so many months later."""
    return Period(*(_month_later(at, months, zone) for at in (period.start, period.end)))


def _month_later(at: datetime, months: int, zone: ZoneInfo) -> datetime:
    moved = shift_months(at, months, zone)
    is_day = at.astimezone(zone).time() == time(0) or _is_midnight(at, zone)
    return midnight(moved.astimezone(zone).date(), zone) if is_day else moved
