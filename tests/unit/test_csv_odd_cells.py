"""One odd cell costs its own row, wherever it stands, and never changes how the others are read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import FileNotUnderstood
from collectors.csv.reader import Reject, Understanding, read, understand

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SITE = Site(
    id="dc",
    institution="bank",
    time_zone="UTC",
    meters=(Meter(id="m", points=(Point(id="e", role=Role.FACILITY, kind=ReadingKind.REGISTER),)),),
)
PAST_THE_SAMPLE = 14_000
"""Rows; the way a file is read is found out from its first 256 KB."""

ODD = ["1.2.3", "1,2,3", "1..5", "1,,5", "12:30", "1-2", "0x1F", "NaN", "9a"]
GERMAN = str.maketrans(",.", ".,")
STYLES: dict[str, Callable[[float], str]] = {
    "dot": lambda v: f"{v:.2f}",
    "comma": lambda v: f"{v:.2f}".translate(GERMAN),
    "dot, grouped": lambda v: f"{v:,.2f}",
    "comma, grouped": lambda v: f"{v:,.2f}".translate(GERMAN),
}


def _values(rows: int) -> list[float]:
    return [900 + 0.25 * i for i in range(rows)]


def _times(rows: int, form: str = "%Y-%m-%d %H:%M") -> list[str]:
    start = datetime(2024, 5, 1, tzinfo=UTC)
    return [f"{start + timedelta(minutes=15 * i):{form}}" for i in range(rows)]


def _taken(path: Path, times: list[str], cells: list[str]) -> tuple[Understanding, list[float], list[Reject]]:
    rows = (f"{at};{cell}" for at, cell in zip(times, cells, strict=True))
    path.write_text("\n".join(["time;e", *rows, ""]), encoding="utf-8")
    plan = understand(path, SITE)
    batches = list(read(path, plan, now=NOW))
    return (
        plan,
        [v for b in batches for v in b.columns.value.tolist()],
        [r for b in batches for r in b.rejects],
    )


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("row", [0, 9])
def test_an_odd_number(tmp_path: Path, style: str, odd: str, row: int) -> None:
    values = _values(20)
    cells = [STYLES[style](v) for v in values]
    cells[row] = odd
    _, stored, rejects = _taken(tmp_path / "f.csv", _times(20), cells)
    assert stored == values[:row] + values[row + 1 :]
    assert [(r.line, r.text, r.reason[:12]) for r in rejects] == [(row + 2, odd, "not a number")]


@pytest.mark.parametrize("style", ["dot", "comma"])
def test_a_number_with_the_other_marks(tmp_path: Path, style: str) -> None:
    values = _values(20)
    other = "7.5" if style == "comma" else "7,5"
    for row in (0, 9):
        cells = [STYLES[style](v) for v in values]
        cells[row] = other
        _, stored, rejects = _taken(tmp_path / "f.csv", _times(20), cells)
        assert stored == values[:row] + values[row + 1 :]
        assert "as this file writes them (decimal mark" in rejects[0].reason


def test_a_lone_thousands_mark_in_a_file_without_is_refused_not_guessed(tmp_path: Path) -> None:
    cells = [f"{1000 + i}.5" for i in range(20)]
    cells[7] = "1,007"
    _, stored, rejects = _taken(tmp_path / "f.csv", _times(20), cells)
    assert len(stored) == 19
    assert "no thousands mark" in rejects[0].reason


@pytest.mark.parametrize("style", STYLES)
def test_odd_numbers_all_over_a_big_file(tmp_path: Path, style: str) -> None:
    values = _values(PAST_THE_SAMPLE)
    cells = [STYLES[style](v) for v in values]
    places = [0, 1, 5000, PAST_THE_SAMPLE - 1000, PAST_THE_SAMPLE - 1]
    for place, odd in zip(places, ODD, strict=False):
        cells[place] = odd
    _, stored, rejects = _taken(tmp_path / "f.csv", _times(PAST_THE_SAMPLE), cells)
    assert stored == [v for i, v in enumerate(values) if i not in places]
    assert [r.line - 2 for r in rejects] == places


@pytest.mark.parametrize("style", STYLES)
def test_marks_that_come_late_in_a_big_file(tmp_path: Path, style: str) -> None:
    values = [float(i % 900) if i < PAST_THE_SAMPLE - 1000 else 900 + i / 8 for i in range(PAST_THE_SAMPLE)]
    cells = [f"{v:.0f}" if v < 900 else STYLES[style](v) for v in values]
    _, stored, rejects = _taken(tmp_path / "f.csv", _times(PAST_THE_SAMPLE), cells)
    assert rejects == []
    assert stored == pytest.approx(values, abs=0.0051)


DATES = [
    ("%d/%m/%Y %H:%M", "05/20/2024 00:00"),
    ("%m/%d/%Y %H:%M", "20/05/2024 00:00"),
    ("%d.%m.%y %H:%M", "05.20.24 00:00"),
    ("%Y-%m-%d %H:%M", "05/06/2024 00:00"),
    ("%Y-%m-%d %H:%M", "1714521600"),
    ("%Y%m%d %H:%M", "2024-13-01 00:00"),
]


@pytest.mark.parametrize(("form", "odd"), DATES)
@pytest.mark.parametrize("row", [0, 900])
def test_an_odd_time(tmp_path: Path, form: str, odd: str, row: int) -> None:
    rows = 28 * 96
    times, values = _times(rows, form), _values(rows)
    times[row] = odd
    _, stored, rejects = _taken(tmp_path / "f.csv", times, [f"{v:.2f}" for v in values])
    assert stored == values[:row] + values[row + 1 :]
    assert [(r.line, r.text) for r in rejects] == [(row + 2, odd)]


def test_seconds_among_milliseconds(tmp_path: Path) -> None:
    times = [str(1_714_521_600_000 + 900_000 * i) for i in range(20)]
    times[0] = "1714521600"
    plan, stored, rejects = _taken(tmp_path / "f.csv", times, [f"{v:.2f}" for v in _values(20)])
    assert plan.time_format == "epoch_ms"
    assert stored == _values(20)[1:]
    assert [r.line for r in rejects] == [2]


def test_a_file_that_contradicts_itself_is_asked_about(tmp_path: Path) -> None:
    cells = ["1.5", "2,5", "3.5", "4,5", "5,5"]
    with pytest.raises(FileNotUnderstood, match="some numbers have a decimal comma, others a decimal point"):
        _taken(tmp_path / "f.csv", _times(5), cells)


def test_days_and_hours_in_columns_of_their_own_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("date,hour,e\n" + "".join(f"2024-05-01,{i},{100 + i}\n" for i in range(1, 25)))
    with pytest.raises(FileNotUnderstood, match=r"columns: \[date, hour\]"):
        understand(path, SITE)


def test_other_columns_do_not_decide_on_marks(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("time;e;version\n" + "".join(f"2024-05-01 {i:02d}:00;{i},5;1.{i}\n" for i in range(24)))
    assert understand(path, SITE).decimal == ","


@pytest.mark.parametrize(
    "odd", ["2024-04-30 23:00;1", "2024-04-30 23:00", "2024-04-30 23:00;1;2;3", "n/a;1;1"]
)
def test_an_odd_first_row_does_not_hide_the_names(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "f.csv"
    rows = "".join(f"2024-05-01 {i:02d}:00;{i},5;x\n" for i in range(24))
    path.write_text(f"time;e;note\n{odd}\n{rows}")
    plan = understand(path, SITE)
    batches = list(read(path, plan, now=NOW))
    assert sum(len(b.columns) for b in batches) == 24
    assert [r.line for b in batches for r in b.rejects] == [2]


@pytest.mark.parametrize("rows", [24, 60_000])
def test_a_damaged_byte_does_not_change_the_encoding(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "f.csv"
    lines = [f"{at};{i},5\n".encode() for i, at in enumerate(_times(rows))]
    lines[-1] = b"2026-05-01 00:00\xff;1,5\n"
    path.write_bytes("时间;e\n".encode() + b"".join(lines))
    plan = understand(path, SITE)
    assert (plan.encoding, plan.header[0]) == ("utf-8", "时间")
    assert [r.line for b in read(path, plan, now=NOW) for r in b.rejects] == [rows + 1]


def test_a_lone_degree_sign_is_no_hanzi(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes("time;e;Temp °C\n2024-05-01 00:00;1,5;20,5\n".encode("cp1252"))
    assert understand(path, SITE).encoding == "cp1252"


def test_a_spreadsheets_days(tmp_path: Path) -> None:
    days = [f"{45_413 + i / 96:.5f}" for i in range(96)]
    plan, stored, _ = _taken(tmp_path / "f.csv", days, [f"{v:.2f}" for v in _values(96)])
    assert plan.warnings[0].startswith("time: its numbers are taken for a spreadsheet's days")
    at = next(b.columns.at_us for b in read(plan.path, plan, now=NOW))
    assert stored == _values(96)
    assert (at[1:] - at[:-1] == 900_000_000).all()
