"""Periods as addresses name them: what they mean, what they are compared with, and their neighbours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.asked import Asked, query_of, shifted, step_of, text_of
from app.domain.period import WINDOWS, Period, floor, midnight
from app.errors import SeriesError

NOW = datetime(2026, 11, 30, 1, 7, tzinfo=UTC)
TIMES = st.integers(1_420_070_400, 1_893_456_000).map(lambda s: datetime.fromtimestamp(s, UTC))
SHANGHAI, BERLIN, CAIRO = (ZoneInfo(z) for z in ("Asia/Shanghai", "Europe/Berlin", "Africa/Cairo"))
ZONES = st.sampled_from([SHANGHAI, BERLIN, CAIRO, ZoneInfo("America/Santiago"), ZoneInfo("Asia/Kathmandu")])
DAYS = st.dates(date(2015, 1, 1), date(2030, 12, 31))
LOCAL_MONTHS = st.tuples(st.integers(2015, 2030), st.integers(1, 12)).map(lambda ym: f"{ym[0]}-{ym[1]:02}")


def days(first: str, last: str, zone: ZoneInfo = SHANGHAI) -> Period:
    return Period(*(midnight(date.fromisoformat(day), zone) for day in (first, last)))


@pytest.mark.parametrize(
    ("asked", "period", "previous", "year"),
    [
        (Asked(month="2026-07"), ("2026-07-01", "2026-08-01"), ("2026-06-01", "2026-07-01"), "2025-07-01"),
        (Asked(month="2026-03"), ("2026-03-01", "2026-04-01"), ("2026-02-01", "2026-03-01"), "2025-03-01"),
        (Asked(year="2024"), ("2024-01-01", "2025-01-01"), ("2023-01-01", "2024-01-01"), "2023-01-01"),
        (
            Asked(start="2026-10-03", end="2026-10-10"),
            ("2026-10-03", "2026-10-10"),
            ("2026-09-26", "2026-10-03"),
            "2025-10-03",
        ),
        (
            Asked(start="2026-04-01", end="2026-07-01"),
            ("2026-04-01", "2026-07-01"),
            ("2026-01-01", "2026-04-01"),
            "2025-04-01",
        ),
    ],
)
def test_what_an_address_names(
    asked: Asked, period: tuple[str, str], previous: tuple[str, str], year: str
) -> None:
    for zone in (SHANGHAI, BERLIN):
        found = asked.resolve(NOW, zone)
        assert found == days(*period, zone)
        assert asked.previous(found, zone) == days(*previous, zone)
        before = Asked(**asked.query, compare="year").compared(NOW, zone)
        assert before is not None
        assert before.start == midnight(date.fromisoformat(year), zone)


def test_a_window_that_runs_is_compared_with_the_same_part_before() -> None:
    running = Asked(window="mtd", compare="previous")
    period, before = running.resolve(NOW, SHANGHAI), running.compared(NOW, SHANGHAI)
    assert before == Period(midnight(date(2026, 10, 1), SHANGHAI), datetime(2026, 10, 30, 1, 0, tzinfo=UTC))
    assert period.end == floor(NOW)
    thirty = Asked(window="30d", compare="previous")
    at_midnight = midnight(date(2026, 5, 1), SHANGHAI)
    assert thirty.compared(at_midnight, SHANGHAI) == Period(
        at_midnight - timedelta(days=60), at_midnight - timedelta(days=30)
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(month="2026-13"), "is no month"),
        (Asked(month="2026-7"), "is no month"),
        (Asked(year="26"), "is no year"),
        (Asked(window="25h"), "is no window"),
        (Asked(month="2026-07", window="24h"), "not window and month"),
        (Asked(start="2026-07-01"), "give both"),
        (Asked(start="2026-02-30", end="2026-03-01"), "there is no day 2026-02-30"),
        (Asked(start="0001-01-01", end="2026-03-01"), "out of reach"),
        (Asked(start="2026-07-02", end="2026-07-01"), "must be after the start"),
        (Asked(start="yesterday", end="2026-07-01"), "is no instant"),
        (Asked(compare="before"), "is no comparison"),
        (Asked(compare="2026-05-01.."), "is no instant"),
        (Asked(compare="2026-05-02..2026-05-01"), "must be after the start"),
    ],
)
def test_what_is_none_is_refused(asked: Asked, said: str) -> None:
    with pytest.raises(SeriesError, match=said):
        asked.compared(NOW, SHANGHAI) if asked.compare else asked.resolve(NOW, SHANGHAI)


@given(DAYS, st.integers(1, 800), ZONES, st.integers(-3, 3))
def test_periods_of_whole_days_stay_so_and_adjoin(first: date, length: int, zone: ZoneInfo, by: int) -> None:
    period = Period(midnight(first, zone), midnight(first + timedelta(days=length), zone))
    assert shifted(period, 1, zone).start == period.end
    assert shifted(period, -1, zone).end == period.start
    moved = shifted(period, by, zone)
    for at in (moved.start, moved.end):
        assert at == midnight(at.astimezone(zone).date(), zone)
    assert shifted(moved, -by, zone) == period


@given(LOCAL_MONTHS, ZONES)
def test_the_month_before_a_month_ends_with_it(month: str, zone: ZoneInfo) -> None:
    asked = Asked(month=month)
    period = asked.resolve(NOW, zone)
    before = asked.neighbour(-1, NOW, zone)
    assert before is not None
    earlier = Asked(**before).resolve(NOW, zone)
    assert earlier.end == period.start
    assert asked.previous(period, zone) == earlier


@given(TIMES, st.integers(1, 9_000), ZONES)
def test_a_period_comes_back_from_its_own_address(start: datetime, quarters: int, zone: ZoneInfo) -> None:
    at = floor(start)
    period = Period(at, at + timedelta(minutes=15 * quarters))
    assert Asked(**query_of(period, zone)).resolve(NOW, zone) == period
    assert shifted(period, 1, zone).start >= period.end - timedelta(hours=1)  # a day of 23 hours


@given(st.sampled_from(WINDOWS), TIMES, ZONES)
def test_no_window_reaches_into_the_future_and_each_has_one_before(
    window: str, now: datetime, zone: ZoneInfo
) -> None:
    at, asked = now, Asked(window=window, compare="previous")
    assert asked.neighbour(1, at, zone) is None
    before = asked.neighbour(-1, at, zone)
    assert before is not None
    period, compared = asked.resolve(at, zone), asked.compared(at, zone)
    assert compared is not None
    assert compared.end <= period.end
    assert compared.start < period.start
    assert compared.is_whole_quarter_hours()
    assert len(step_of(period)) > 0


def test_a_period_of_centuries_is_not_drawn() -> None:
    with pytest.raises(SeriesError, match="at most 20 years"):
        step_of(days("1990-01-01", "2190-01-01"))


def test_instants_are_written_as_days_only_at_midnight() -> None:
    assert text_of(midnight(date(2026, 10, 3), SHANGHAI), SHANGHAI) == "2026-10-03"
    assert text_of(datetime(2026, 10, 3, tzinfo=UTC), SHANGHAI) == "2026-10-03T08:00:00+08:00"
