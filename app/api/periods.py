"""Periods in a query: a window, a month, a year, or start and end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import Depends, Query

from app.domain import period as periods
from app.domain.period import Period, Step
from app.errors import SeriesError

Window = Literal["15m", "1h", "24h", "7d", "30d", "mtd", "ytd", "12mo"]

_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


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


@dataclass(frozen=True, slots=True)
class Asked:
    """The period that a query names."""

    window: str | None
    month: str | None
    year: str | None
    start: str | None
    end: str | None
    default: str

    def resolve(self, now: datetime, zone: ZoneInfo) -> Period:
        """The period; its ends are moved outward to the quarter-hours, in which energy is kept.

        Raises
        ------
        SeriesError
            If the query names none, or more than one.
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
        return whole(Period(instant(self.start, "start"), instant(self.end, "end")))


def whole(period: Period) -> Period:
    """The period with its ends moved outward to quarter-hours."""
    return Period(periods.floor(period.start), periods.ceil(period.end))


def _time(description: str, example: str) -> Any:
    return Query(
        description=f"{description}, RFC 3339; extended outward to multiples of 15 minutes",
        examples=[example],
        json_schema_extra={"format": "date-time"},
    )


Start = Annotated[str, _time("First instant", "2026-10-01T00:00:00+08:00")]
End = Annotated[str, _time("First instant after the period", "2026-11-01T00:00:00+08:00")]
_Window = Annotated[
    Window | None,
    Query(description="Window up to the last complete 15-minute interval; the default is a window, too"),
]
_Month = Annotated[
    str | None,
    Query(
        pattern=r"^(19[9][0-9]|2[01][0-9][0-9])-(0[1-9]|1[0-2])$",
        description="Month of the site's own zone",
        examples=["2026-10"],
    ),
]
_Year = Annotated[
    str | None,
    Query(
        pattern=r"^(199[0-9]|2[01][0-9][0-9])$",
        description="Year of the site's own zone",
        examples=["2026"],
    ),
]


def _asked(default: str) -> Callable[..., Asked]:
    def dependency(
        window: _Window = None,
        month: _Month = None,
        year: _Year = None,
        start: Start | None = None,
        end: End | None = None,
    ) -> Asked:
        return Asked(window, month, year, start, end, default)

    return dependency


Last24h = Annotated[Asked, Depends(_asked("24h"))]
Last30d = Annotated[Asked, Depends(_asked("30d"))]
"""Parameters of a query with a period, and what it is without any."""


def check_bars(period: Period, step: Step, zone: ZoneInfo, series: int, most: int) -> None:
    """Refuse an answer that would be too long.

    Raises
    ------
    SeriesError
        With what is allowed.
    """
    shortest_s = {Step.QUARTER_HOUR: 900, Step.HOUR: 3600, Step.DAY: 82_800, Step.MONTH: 28 * 86_400}[step]
    bars = period.duration_s / shortest_s
    if bars * max(series, 1) > most:
        raise SeriesError(
            f"{bars:.0f} bars of {max(series, 1)} series are more than the {most} values of one answer; "
            "ask for a shorter period or a longer step"
        )
