"""Formats, day and month, zones and the doubled hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from collectors.csv.mapping import Interval
from collectors.csv.time import NO_OFFSET, parse_text, parse_times, time_format
from collectors.csv.time_formats import choose_formats, formats_of, is_clock
from collectors.csv.zone import ABSENT, CLEAR, DOUBLED, LocalClock, shift_local, zone_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _us(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("cell", "formats"),
    [
        ("2024-01-31 23:45:00", ("%Y-%m-%d %H:%M:%S",)),
        ("2024-01-31T23:45:00.123Z", ("%Y-%m-%dT%H:%M:%S.%f%z",)),
        ("2024-01-31T23:45+08:00", ("%Y-%m-%dT%H:%M%z",)),
        ("1/31/2024 11:45:00 PM", ("%m/%d/%Y %I:%M:%S %p",)),
        ("31.01.2024 23:45", ("%d.%m.%Y %H:%M",)),
        ("1/2/2024", ("%m/%d/%Y", "%d/%m/%Y")),
        ("22-Sep-26 09:00:01 AM UTC", ("%d-%b-%y %I:%M:%S %p %Z",)),
        ("2024年1月31日 23时45分", ("%Y年%m月%d日 %H时%M分",)),
        ("20240131 23:45", ("%Y%m%d %H:%M",)),
        ("Jan 31, 2024 23:45", ("%b %d, %Y %H:%M",)),
        ("12345.6", ()),
        ("2024-13-01", ()),
        ("hello", ()),
        ("7/30/16 10:00", ("%m/%d/%y %H:%M",)),
    ],
)
def test_formats_of_one_cell(cell: str, formats: tuple[str, ...]) -> None:
    assert formats_of(cell) == formats


@pytest.mark.parametrize(
    ("cell", "form", "local", "offset_s"),
    [
        ("1/2/2024 3:04", "%m/%d/%Y %H:%M", "2024-01-02T03:04", None),
        ("12:00 AM 02.01.2024", "%I:%M %p %d.%m.%Y", "2024-01-02T00:00", None),
        ("2024-01-02 12:30 下午", "%Y-%m-%d %I:%M %p", "2024-01-02T12:30", None),
        ("2024-02-29 24:00", "%Y-%m-%d %H:%M", "2024-03-01T00:00", None),
        ("2024-01-02 03:04:05.5", "%Y-%m-%d %H:%M:%S.%f", "2024-01-02T03:04:05.500", None),
        ("2024-01-02T03:04:05-0330", "%Y-%m-%dT%H:%M:%S%z", "2024-01-02T03:04:05", -12600),
        ("2024-07-02 03:04 PDT", "%Y-%m-%d %H:%M %Z", "2024-07-02T03:04", -25200),
        ("1706744700", "epoch_s", "2024-01-31T23:45", 0),
        ("1706744700123", "epoch_ms", "2024-01-31T23:45:00.123", 0),
        ("45322.5", "excel", "2024-01-31T12:00", None),
        ("99-12-31", "%y-%m-%d", "1999-12-31T00:00", None),
    ],
)
def test_one_cell(cell: str, form: str, local: str, offset_s: int | None) -> None:
    zone = ZoneInfo("America/Los_Angeles")
    expected = (_us(local), None if offset_s is None else offset_s * 1_000_000)
    assert parse_text(cell, time_format(form), zone) == expected
    whole = parse_times(pa.array([cell]), [time_format(form)], zone)
    assert whole.ok.all()
    assert whole.us[0] == expected[0]
    assert whole.offset_us[0] == (NO_OFFSET if offset_s is None else expected[1])


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("2023-02-29 00:00", "%Y-%m-%d %H:%M"),
        ("2024-01-01 24:01", "%Y-%m-%d %H:%M"),
        ("2024-01-01 12:60", "%Y-%m-%d %H:%M"),
        ("2024-01-01  x", "%Y-%m-%d %H:%M"),
        ("2024-01-01 12:00 ", "%Y-%m-%d"),
        ("24-01-01", "%Y-%m-%d"),
        ("13:00 PM 1/1/2024", "%I:%M %p %m/%d/%Y"),
        ("2024-01-01 00:00 XYZ", "%Y-%m-%d %H:%M %Z"),
        ("", "%Y-%m-%d"),
        ("99999999999999999999", "epoch_s"),
        ("2024-Foo-01", "%Y-%b-%d"),
        ("2024-01-01 00:00 +99:00", "%Y-%m-%d %H:%M %z"),
    ],
)
def test_cells_that_are_no_times(cell: str, form: str) -> None:
    assert parse_text(cell, time_format(form)) is None
    assert not parse_times(pa.array([cell, "x"]), [time_format(form)]).ok.any()


@pytest.mark.parametrize("form", ["%Y-%m", "%H:%M", "%Y-%m-%d %I:%M", "%Y-%m-%d %Q"])
def test_formats_that_cannot_be(form: str) -> None:
    with pytest.raises(ValueError, match=r"%"):
        time_format(form)


def test_cells_of_different_lengths_and_shapes_in_one_column() -> None:
    cells = ["1/2/2024 3:04", "11/12/2024 13:14", "x", "", "1/2/2024 3:4:5", "1-2-2024 3:04"]
    got = parse_times(pa.array(cells), [time_format("%m/%d/%Y %H:%M")])
    assert got.ok.tolist() == [True, True, False, False, False, False]
    assert got.us[:2].tolist() == [_us("2024-01-02T03:04"), _us("2024-11-12T13:14")]


def test_a_slice_of_a_column_is_parsed_as_such() -> None:
    cells = pa.array(["zzz", "2024-01-01", "2024-01-02"]).slice(1)
    assert parse_times(cells, [time_format("%Y-%m-%d")]).us.tolist() == [_us("2024-01-01"), _us("2024-01-02")]


def test_clock_only() -> None:
    assert is_clock("00:15:00")
    assert is_clock("1:15 PM")
    assert not is_clock("1.15")


@pytest.mark.parametrize(
    ("cells", "formats", "rivals"),
    [
        (["01/02/2024", "13/02/2024"], ("%d/%m/%Y",), ()),
        (["01/02/2024", "02/13/2024"], ("%m/%d/%Y",), ()),
        (["01/02/2024", "01/03/2024"], ("%m/%d/%Y",), ("%d/%m/%Y",)),
        (["2024-01-02", "2024-02-01"], ("%Y-%m-%d",), ()),
    ],
)
def test_day_or_month_first(cells: list[str], formats: tuple[str, ...], rivals: tuple[str, ...]) -> None:
    choice = choose_formats(cells)
    assert choice is not None
    assert (choice.formats, choice.rivals) == (formats, rivals)


def test_days_that_follow_each_other_tell_day_from_month() -> None:
    hours = [f"0{day}/02/2024 {hour:02d}:00" for day in (1, 2, 3) for hour in range(24)]
    choice = choose_formats(hours)
    assert choice is not None
    assert choice.formats == ("%d/%m/%Y %H:%M",)
    assert "without a break" in choice.reason


def test_no_format_fits_everything() -> None:
    assert choose_formats(["2024-01-01", "hello"]) is None


@pytest.mark.parametrize(
    ("text", "hours"), [("UTC", 0), ("+08:00", 8), ("UTC-3", -3), ("GMT+5:30", 5.5), ("Asia/Tokyo", 9)]
)
def test_zones(text: str, hours: float) -> None:
    assert datetime(2024, 1, 1, tzinfo=zone_of(text)).utcoffset() == timedelta(hours=hours)


def test_states_of_local_times() -> None:
    clock = LocalClock(ZoneInfo("Europe/Berlin"))
    local = ["2024-03-31T01:59", "2024-03-31T02:00", "2024-03-31T02:59", "2024-03-31T03:00"]
    local += ["2024-10-27T01:59", "2024-10-27T02:00", "2024-10-27T02:59", "2024-10-27T03:00"]
    utc, state = clock.to_utc(np.array([_us(t) for t in local]))
    assert state.tolist() == [CLEAR, ABSENT, ABSENT, CLEAR, CLEAR, DOUBLED, DOUBLED, CLEAR]
    assert utc[[0, 3, 4, 5, 7]].tolist() == [
        _us(t)
        for t in (
            "2024-03-31T00:59",
            "2024-03-31T01:00",
            "2024-10-26T23:59",
            "2024-10-27T00:00",
            "2024-10-27T02:00",
        )
    ]


def test_the_doubled_hour_is_remembered_from_block_to_block() -> None:
    clock = LocalClock(ZoneInfo("Europe/Berlin"))
    first, _ = clock.to_utc(np.array([_us("2024-10-27T02:00"), _us("2024-10-27T02:30")]))
    second, _ = clock.to_utc(np.array([_us("2024-10-27T02:00"), _us("2024-10-27T02:30")]))
    assert (second - first).tolist() == [3_600_000_000] * 2


def test_months_and_days_are_moved_by_the_calendar() -> None:
    start = np.array([_us("2024-01-01T06:00"), _us("2024-02-01T06:00")])
    assert shift_local(start, Interval(months=1), 1).tolist() == [
        _us("2024-02-01T06:00"),
        _us("2024-03-01T06:00"),
    ]
    assert shift_local(start, Interval(days=2), -1)[0] == _us("2023-12-30T06:00")


@pytest.mark.parametrize(
    "text", ["01/02/2026 1:00 pm", "01/02/2026 1:00 p.m.", "01/02/2026 1:00 PM.", "01/02/2026 1:00 P.m"]
)
def test_halves_of_the_day_with_and_without_points(text: str) -> None:
    assert parse_text(text, time_format("%d/%m/%Y %I:%M %p")) == parse_text(
        "01/02/2026 13:00", time_format("%d/%m/%Y %H:%M")
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-02-29T23:59:59Z", "2024-12-31T00:00:00Z"],
        ["2024-02-29T23:59:59Z", "2024-2-3T4:05:06Z"],
        ["2024-02-29T23:59:59Z", "2024-02-30T00:00:00Z", "x", ""],
        ["2024-02-29T23:59:59Z", " 2024-02-29T23:59:59Z", "2024-02-29T23:59:59+01:00"],
        ["2024-02-29T24:00:00Z", "２024-02-29T23:59:59Z", "Z"],
    ],
)
def test_times_in_utc_are_the_same_at_once_and_one_by_one(cells: list[str]) -> None:
    form = time_format("%Y-%m-%dT%H:%M:%S%z")
    whole = parse_times(pa.array(cells), [form])
    alone = [parse_text.__wrapped__(cell, form) for cell in cells]
    assert whole.ok.tolist() == [one is not None for one in alone]
    good = [
        (int(us), int(offset))
        for us, offset, ok in zip(whole.us, whole.offset_us, whole.ok, strict=True)
        if ok
    ]
    assert good == [one for one in alone if one is not None]
