"""Windows, months and bars in the site's own calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain import period
from app.domain.period import (
    Period,
    Step,
    ceil,
    floor,
    month,
    month_or_year,
    shift_months,
    starts,
    window,
    year,
)
from app.errors import SeriesError

SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


NOW = utc(2026, 11, 29, 10, 7, 30)
END = utc(2026, 11, 29, 10, 0)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("15m", utc(2026, 11, 29, 9, 45)),
        ("1h", utc(2026, 11, 29, 9, 0)),
        ("24h", utc(2026, 11, 28, 10, 0)),
        ("7d", utc(2026, 11, 22, 10, 0)),
        ("30d", utc(2026, 10, 30, 10, 0)),
        ("mtd", utc(2026, 10, 31, 16, 0)),
        ("ytd", utc(2025, 12, 31, 16, 0)),
        ("12mo", utc(2025, 11, 29, 10, 0)),
    ],
)
def test_every_window_ends_with_the_last_closed_quarter_hour(name: str, start: datetime) -> None:
    assert window(name, NOW, SHANGHAI) == Period(start, END)


def test_there_are_no_other_windows() -> None:
    assert {name for name in period.WINDOWS if window(name, NOW, SHANGHAI)} == set(period.WINDOWS)
    with pytest.raises(SeriesError, match="allowed are 15m, 1h, 24h, 7d, 30d, mtd, ytd, 12mo"):
        window("2d", NOW, SHANGHAI)


def test_to_date_on_the_first_instant_of_a_month_is_the_month_before() -> None:
    assert window("mtd", utc(2026, 10, 31, 16, 0), SHANGHAI).start == utc(2026, 9, 30, 16, 0)
    assert window("ytd", utc(2026, 1, 1, 0, 14), ZoneInfo("UTC")).start == utc(2025, 1, 1)


@pytest.mark.parametrize(
    ("at", "months", "expected"),
    [
        (utc(2026, 1, 31, 12), 1, utc(2026, 2, 28, 12)),
        (utc(2024, 1, 31, 12), 1, utc(2024, 2, 29, 12)),
        (utc(2026, 1, 15), -1, utc(2025, 12, 15)),
        (utc(2026, 12, 15), 1, utc(2027, 1, 15)),
        (utc(2026, 11, 29), -12, utc(2025, 11, 29)),
        (utc(2026, 11, 29), -25, utc(2024, 10, 29)),
    ],
)
def test_months_are_shifted_by_the_calendar(at: datetime, months: int, expected: datetime) -> None:
    assert shift_months(at, months, ZoneInfo("UTC")) == expected


def test_the_wall_time_stays_over_a_change_of_the_clock() -> None:
    assert shift_months(utc(2026, 3, 15, 11), 1, BERLIN) == utc(2026, 4, 15, 10)


def test_months_and_years_are_of_the_zone() -> None:
    october = month("2026-10", BERLIN)
    assert october == Period(utc(2026, 9, 30, 22), utc(2026, 10, 31, 23))
    assert october.duration_s == (31 * 24 + 1) * 3600
    assert month("2026-12", SHANGHAI).end == utc(2026, 12, 31, 16)
    assert year("2026", SHANGHAI) == Period(utc(2025, 12, 31, 16), utc(2026, 12, 31, 16))
    assert month_or_year("2026", BERLIN) == year("2026", BERLIN)
    assert month_or_year("2026-02", BERLIN) == month("2026-02", BERLIN)
    assert month("1990-01", BERLIN).end < month("2200-12", BERLIN).start
    assert year("1990", BERLIN).end < year("2200", BERLIN).start


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "1989-12", "2201-01", "2026-1", "x"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(SeriesError, match="write it like 2026-10"):
        month(text, BERLIN)


@pytest.mark.parametrize("text", ["1989", "2201", "26", "2026 "])
def test_what_is_no_year_is_refused(text: str) -> None:
    with pytest.raises(SeriesError, match="write it like 2026"):
        year(text, BERLIN)


def test_bars_are_clipped_to_the_period() -> None:
    some = Period(utc(2026, 10, 24, 20, 5), utc(2026, 10, 26, 1))
    days = list(starts(some, Step.DAY, BERLIN))
    assert days == [
        (some.start, utc(2026, 10, 24, 22)),
        (utc(2026, 10, 24, 22), utc(2026, 10, 25, 23)),
        (utc(2026, 10, 25, 23), some.end),
    ], "the middle day has 25 hours"
    assert [b - a for a, b in list(starts(some, Step.HOUR, BERLIN))[:2]] == [
        timedelta(minutes=55),
        timedelta(hours=1),
    ]
    assert next(starts(some, Step.QUARTER_HOUR, BERLIN)) == (some.start, utc(2026, 10, 24, 20, 15))
    months = list(starts(Period(utc(2026, 1, 31, 12), utc(2026, 3, 2)), Step.MONTH, ZoneInfo("UTC")))
    assert [a for a, _ in months] == [utc(2026, 1, 31, 12), utc(2026, 2, 1), utc(2026, 3, 1)]


def test_boundaries_of_quarter_hours() -> None:
    assert floor(utc(2026, 1, 1, 0, 14, 59)) == utc(2026, 1, 1)
    assert ceil(utc(2026, 1, 1, 0, 14, 59)) == utc(2026, 1, 1, 0, 15)
    assert ceil(utc(2026, 1, 1, 0, 15)) == floor(utc(2026, 1, 1, 0, 15)) == utc(2026, 1, 1, 0, 15)
    assert Period(utc(2026, 1, 1), utc(2026, 1, 1, 0, 15)).is_whole_quarter_hours()
    assert not Period(utc(2026, 1, 1), utc(2026, 1, 1, 0, 16)).is_whole_quarter_hours()
    assert not Period(utc(2026, 1, 1, 0, 1), utc(2026, 1, 1, 0, 15)).is_whole_quarter_hours()


def test_a_year_is_twelve_months_and_not_a_day_less() -> None:
    assert Period(utc(2025, 3, 1), utc(2026, 3, 1)).is_year_long(ZoneInfo("UTC"))
    assert not Period(utc(2025, 3, 1), utc(2026, 2, 28)).is_year_long(ZoneInfo("UTC"))


def test_a_period_has_a_zone_and_a_length() -> None:
    with pytest.raises(SeriesError, match="with a zone"):
        Period(datetime(2026, 1, 1), utc(2026, 1, 2))  # noqa: DTZ001
    with pytest.raises(SeriesError, match="must be after"):
        Period(utc(2026, 1, 1), utc(2026, 1, 1))
    assert Period(utc(2026, 1, 1), utc(2026, 1, 2)).as_dict() == {
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-02T00:00:00Z",
    }
