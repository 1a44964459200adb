"""Windows, months, days: which quarter-hours belong to a period.

Inside, time is cut into 15-minute UTC intervals; they divide every zone's day and month, so days and
months are the site's own (92 or 100 intervals when daylight saving changes). Everything is half-open.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from app.errors import SeriesError

QUARTER_HOUR = timedelta(minutes=15)
QUARTER_HOUR_S = 900
QUARTER_HOUR_US = 900_000_000

WINDOWS = ("15m", "1h", "24h", "7d", "30d", "mtd", "ytd", "12mo")
"""Rolling and to-date windows, all ending with the last closed quarter-hour."""

FIXED = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""Windows of a fixed length."""


class Step(StrEnum):
    """Width of the bars of a series."""

    QUARTER_HOUR = "15m"
    HOUR = "1h"
    DAY = "1d"
    MONTH = "1mo"


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span of time, `start` to `end`, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise SeriesError("a period needs instants with a zone, e.g. 2026-10-01T00:00:00+08:00")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))
        if self.end <= self.start:
            raise SeriesError(
                f"the end {self.end.isoformat()} must be after the start {self.start.isoformat()}"
            )

    @property
    def duration_s(self) -> float:
        """Length. [s]"""
        return (self.end - self.start).total_seconds()

    def last_day(self, zone: ZoneInfo) -> date:
        """The local day in which it ends."""
        return (self.end - timedelta(microseconds=1)).astimezone(zone).date()

    def as_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {
            "start": self.start.isoformat().replace("+00:00", "Z"),
            "end": self.end.isoformat().replace("+00:00", "Z"),
        }

    def is_whole_quarter_hours(self) -> bool:
        """Whether both ends stand on a 15-minute boundary."""
        return floor(self.start) == self.start and floor(self.end) == self.end

    def is_year_long(self, zone: ZoneInfo) -> bool:
        """Whether at least 12 continuous months are covered, as annual PUE needs."""
        return self.end >= shift_months(self.start, 12, zone)


def floor(at: datetime) -> datetime:
    """The 15-minute boundary at or before `at`."""
    at = at.astimezone(UTC)
    return at - timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond)


def ceil(at: datetime) -> datetime:
    """The 15-minute boundary at or after `at`."""
    down = floor(at)
    return down if down == at else down + QUARTER_HOUR


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Start of the local day, in UTC (the first instant of the day where midnight does not exist)."""
    local = datetime.combine(day, time(0), tzinfo=zone)
    return local.astimezone(UTC)


def shift_months(at: datetime, months: int, zone: ZoneInfo) -> datetime:
    """The same local wall time `months` later (or earlier), clipped to the month's last day, in UTC."""
    local = at.astimezone(zone)
    years, month0 = divmod(local.year * 12 + local.month - 1 + months, 12)
    day = min(local.day, monthrange(years, month0 + 1)[1])
    return local.replace(year=years, month=month0 + 1, day=day, fold=0).astimezone(UTC)


def month(text: str, zone: ZoneInfo) -> Period:
    """The local month ``2026-10``.

    Raises
    ------
    SeriesError
        If `text` is no month.
    """
    match = re.fullmatch(r"(\d{4})-(\d{2})", text)
    if not match or not 1 <= int(match[2]) <= 12 or not 1990 <= int(match[1]) <= 2200:
        raise SeriesError(f"{text!r} is no month; write it like 2026-10")
    first = date(int(match[1]), int(match[2]), 1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Period(midnight(first, zone), midnight(following, zone))


def year(text: str, zone: ZoneInfo) -> Period:
    """The local calendar year ``2026``.

    Raises
    ------
    SeriesError
        If `text` is no year.
    """
    if not re.fullmatch(r"\d{4}", text) or not 1990 <= int(text) <= 2200:
        raise SeriesError(f"{text!r} is no year; write it like 2026")
    return Period(midnight(date(int(text), 1, 1), zone), midnight(date(int(text) + 1, 1, 1), zone))


def month_or_year(text: str, zone: ZoneInfo) -> Period:
    """The period of a report: ``2026-10`` or ``2026``."""
    return year(text, zone) if re.fullmatch(r"\d{4}", text) else month(text, zone)


def window(name: str, now: datetime, zone: ZoneInfo) -> Period:
    """The window that ends with the last quarter-hour closed at `now`.

    Raises
    ------
    SeriesError
        If the name is none of :data:`WINDOWS`.
    """
    end = floor(now)
    if name in FIXED:
        return Period(end - FIXED[name], end)
    if name == "12mo":
        return Period(shift_months(end, -12, zone), end)
    if name in ("mtd", "ytd"):
        last = (end - QUARTER_HOUR).astimezone(zone).date()
        first = last.replace(day=1) if name == "mtd" else last.replace(month=1, day=1)
        return Period(midnight(first, zone), end)
    raise SeriesError(f"{name!r} is no window; allowed are {', '.join(WINDOWS)}")


def starts(period: Period, step: Step, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """Every bar of the period with its end, the first and last clipped to the period."""
    at = period.start
    while at < period.end:
        following = min(_next(at, step, zone), period.end)
        yield at, following
        at = following


def _next(at: datetime, step: Step, zone: ZoneInfo) -> datetime:
    if step is Step.QUARTER_HOUR:
        return floor(at) + QUARTER_HOUR
    if step is Step.HOUR:
        return at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    day = at.astimezone(zone).date()
    if step is Step.DAY:
        return midnight(day + timedelta(days=1), zone)
    return midnight((day.replace(day=1) + timedelta(days=32)).replace(day=1), zone)
