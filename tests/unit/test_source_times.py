"""Times of a local clock as instants; the hour that comes twice is told apart or named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from collectors.times import NotATime, Row, Zone, bound, placed, span, time_of

BERLIN = ZoneInfo("Europe/Berlin")
BACK = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
"""The clock goes from 3:00 to 2:00."""
LATER = datetime(2026, 11, 1, tzinfo=UTC)


def local(hour: int, minute: int) -> datetime:
    return datetime(2026, 10, 25, hour, minute)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        ("2026-03-01T12:00:00Z", "", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00:00", "", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        ("01.03.2026 12:00", "%d.%m.%Y %H:%M", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        (1_772_362_800, "epoch_s", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        ("1772362800000", "epoch_ms", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        (local(2, 30), "", local(2, 30)),
    ],
)
def test_times_are_understood(value: object, form: str, expected: datetime) -> None:
    assert time_of(value, form, BERLIN) == expected


@pytest.mark.parametrize(
    ("value", "form", "zone"),
    [
        (local(5, 0), "", None),
        (datetime(2026, 3, 29, 2, 30), "", BERLIN),  # noqa: DTZ001 - does not exist
        (5, "", BERLIN),
        (None, "", BERLIN),
        ("soon", "", BERLIN),
        (True, "epoch_s", BERLIN),
        (1e300, "epoch_s", BERLIN),
    ],
)
def test_what_is_no_time_is_said(value: object, form: str, zone: ZoneInfo | None) -> None:
    with pytest.raises(NotATime):
        time_of(value, form, zone)


@given(st.integers(0, 400 * 96), st.integers(0, 300))
def test_every_local_time_of_a_span_is_within_its_ends(quarter: int, length: int) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarter)
    now = since + timedelta(minutes=15 * length)
    low, high = (bound(at, "", BERLIN) for at in span(since, now, BERLIN))
    for n in range(length + 1):
        at = bound(since + timedelta(minutes=15 * n), "", BERLIN)
        assert low <= at <= high  # type: ignore[operator]


def test_two_rows_of_a_register_are_told_apart_by_their_values() -> None:
    rows = [Row(local(2, 0), 12.0), Row(local(2, 0), 10.0)]
    sure, doubtful = placed(rows, BERLIN, LATER, {}, rises=True, in_order=False)
    assert sure == [(BACK - timedelta(hours=1), 10.0), (BACK, 12.0)]
    assert not doubtful


def test_rows_in_order_are_told_apart_by_it() -> None:
    rows = [Row(local(2, 0), 5.0), Row(local(2, 0), 3.0)]
    sure, _ = placed(rows, BERLIN, LATER, {}, rises=False, in_order=True)
    assert sure == [(BACK - timedelta(hours=1), 5.0), (BACK, 3.0)]
    _, doubtful = placed(rows, BERLIN, LATER, {}, rises=False, in_order=False)
    assert doubtful == [local(2, 0)]


def test_one_row_is_of_the_first_hour_while_the_second_is_to_come() -> None:
    rows = [Row(local(2, 15), 5.0)]
    now = BACK - timedelta(minutes=40)
    assert placed(rows, BERLIN, now, {}, rises=False, in_order=False)[0] == [
        (BACK - timedelta(minutes=45), 5.0)
    ]
    assert placed(rows, BERLIN, LATER, {}, rises=False, in_order=False)[1] == [local(2, 15)]


def test_what_was_read_before_tells_the_second_hour() -> None:
    first = BACK - timedelta(minutes=45)
    rows = [Row(local(2, 15), 9.0), Row(local(2, 15), 5.0)]
    sure, doubtful = placed(rows, BERLIN, LATER, {first: 5.0}, rises=False, in_order=False)
    assert sure == [(first, 5.0), (BACK + timedelta(minutes=15), 9.0)]
    assert not doubtful


def test_a_zone_is_known_or_that_of_the_site() -> None:
    zone = TypeAdapter(Zone)
    assert [zone.validate_python(name) for name in ("", "Asia/Shanghai")] == ["", "Asia/Shanghai"]
    with pytest.raises(ValidationError, match="unknown time zone 'Mars/Base'; use an IANA name"):
        zone.validate_python("Mars/Base")
