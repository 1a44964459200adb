"""Periods as parameters of the HTTP interface; ``domain/asked.py`` says what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import Depends, Query

from app.domain.asked import Asked
from app.domain.period import Period, Step
from app.errors import SeriesError

Window = Literal["15m", "1h", "24h", "7d", "30d", "mtd", "ytd", "12mo"]


def _time(description: str, example: str) -> Any:
    return Query(
        description=f"{description}, RFC 3339; extended outward to multiples of 15 minutes",
        examples=[example],
        json_schema_extra={"format": "date-time"},
    )


Start = Annotated[str, _time("First instant", "2026-10-01T00:00:00+08:00")]
End = Annotated[str, _time("First instant after the period", "2026-11-01T00:00:00+08:00")]


def _time_or_day(description: str, example: str) -> Any:
    return Query(
        description=f"{description}, RFC 3339, extended outward to a multiple of 15 minutes; or a day: "
        "its midnight at the site",
        examples=[example],
    )


_Start = Annotated[str | None, _time_or_day("First instant", "2026-10-01T00:00:00+08:00")]
_End = Annotated[str | None, _time_or_day("First instant after the period", "2026-11-01T00:00:00+08:00")]
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
        start: _Start = None,
        end: _End = None,
    ) -> Asked:
        return Asked(window, month, year, start, end, default)

    return dependency


Last24h = Annotated[Asked, Depends(_asked("24h"))]
Last30d = Annotated[Asked, Depends(_asked("30d"))]
Last12mo = Annotated[Asked, Depends(_asked("12mo"))]
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
