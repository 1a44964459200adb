"""A second heading in the middle of a file: its columns are followed by name, or refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import xlsxwriter

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from collectors.csv.mapping import Mapping, parse_mapping
from collectors.csv.reader import Reject, read, understand

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SITE = Site(
    id="s",
    institution="b",
    time_zone="UTC",
    meters=(
        Meter(
            id="m",
            points=tuple(
                Point(id=p, role=Role.NONE, kind=ReadingKind.REGISTER, interval_s=900) for p in ("a", "b")
            ),
        ),
    ),
)
FIRST = "time,a (kWh),b (kWh)\n2026-05-01 00:00,100,9000\n2026-05-01 00:15,101,9001\n"


def taken(
    tmp_path: Path, text: str, mapping: Mapping | None = None, **how: bool | int
) -> tuple[dict[str, list[float]], list[Reject]]:
    path = tmp_path / "f.csv"
    path.write_text(text, encoding="utf-8")
    values: dict[str, list[float]] = {}
    rejects: list[Reject] = []
    for batch in read(path, understand(path, SITE, mapping), now=NOW, **how):  # type: ignore[arg-type]
        rejects += batch.rejects
        for n, value in zip(batch.columns.point_id, batch.columns.value, strict=True):
            values.setdefault(batch.points[n], []).append(float(value))
    return values, rejects


@pytest.mark.parametrize("how", [{}, {"careful_only": True}, {"block_bytes": 64}])
def test_columns_that_change_places_are_followed(tmp_path: Path, how: dict[str, bool | int]) -> None:
    moved = "time,b (kWh),note,a (kWh)\n2026-05-01 00:30,9002,x,102\n2026-05-01 00:45,9003,x,103\n"
    values, rejects = taken(tmp_path, FIRST + moved + FIRST.replace("-01 ", "-02 "), **how)
    assert values == {"a": [100, 101, 102, 103, 100, 101], "b": [9000, 9001, 9002, 9003, 9000, 9001]}
    assert rejects == []


def test_columns_of_the_same_number_change_places(tmp_path: Path) -> None:
    moved = "b (kWh),a (kWh),Time\n9002,102,2026-05-01 00:30\n"
    values, rejects = taken(tmp_path, FIRST + moved)
    assert values == {"a": [100, 101, 102], "b": [9000, 9001, 9002]}
    assert rejects == []


def test_a_column_that_is_renamed_is_refused_by_name(tmp_path: Path) -> None:
    renamed = "time,c (kWh),b (kWh)\n2026-05-01 00:30,7,9002\n2026-05-01 00:45,8,9003\n"
    values, rejects = taken(tmp_path, FIRST + renamed)
    assert values == {"a": [100, 101], "b": [9000, 9001, 9002, 9003]}
    reason = "the heading in line 4 has no such column"
    assert [(r.line, r.column, r.reason) for r in rejects] == [(5, "a (kWh)", reason), (6, "a (kWh)", reason)]


@pytest.mark.parametrize("unit", ["MWh", "mWh", "kVAh"])
def test_a_column_whose_unit_changes_is_refused(tmp_path: Path, unit: str) -> None:
    values, rejects = taken(tmp_path, FIRST + f"time,a ({unit}),b (kWh)\n2026-05-01 00:30,7,9002\n")
    assert values == {"a": [100, 101], "b": [9000, 9001, 9002]}
    assert [r.line for r in rejects] == [5]


def test_another_name_of_the_mapping_is_followed(tmp_path: Path) -> None:
    mapping = parse_mapping("columns: {a (kWh): {point: a, also: Main (kWh)}, b (kWh): b}")
    renamed = "time,b (kWh),Main (kWh)\n2026-05-01 00:30,9002,102\n"
    values, rejects = taken(tmp_path, FIRST + renamed, mapping)
    assert values == {"a": [100, 101, 102], "b": [9000, 9001, 9002]}
    assert rejects == []


def test_without_a_time_every_row_is_refused(tmp_path: Path) -> None:
    lost = "a (kWh),b (kWh)\n102,9002\n"
    again = "b (kWh),a (kWh),time\n9003,103,2026-05-03 00:45\n"
    many = "".join(f"2026-05-02 {i:02d}:00,{110 + i},9100\n" for i in range(24))
    values, rejects = taken(tmp_path, FIRST + many + lost + again)
    assert values["a"] == [100, 101, *range(110, 134), 103]
    assert values["b"] == [9000, 9001, *[9100] * 24, 9003]
    assert [(r.line, r.reason) for r in rejects] == [(29, "the heading in line 28 names no column 'time'")]


def test_a_long_table_is_followed(tmp_path: Path) -> None:
    text = "time,point,value\n" + "".join(f"2026-05-01 0{i}:00,{p},{i}\n" for i in range(3) for p in "ab")
    text += "time,value,point\n2026-05-01 03:00,3,a\n2026-05-01 03:00,30,b\n"
    mapping = parse_mapping("{long: {point: point, value: value}, columns: {a: a, b: b}}")
    values, rejects = taken(tmp_path, text, mapping)
    assert values == {"a": [0, 1, 2, 3], "b": [0, 1, 2, 30]}
    assert rejects == []


@pytest.mark.parametrize("odd", ["error,see log,n/a", "restarted,by,hand", "2026-05-01 00:20,12x4,9y"])
def test_an_odd_row_costs_itself(tmp_path: Path, odd: str) -> None:
    values, rejects = taken(tmp_path, FIRST + odd + "\n2026-05-01 00:30,102,9002\n")
    assert values == {"a": [100, 101, 102], "b": [9000, 9001, 9002]}
    assert {r.line for r in rejects} == {4}


def test_the_same_heading_again_changes_nothing(tmp_path: Path) -> None:
    values, rejects = taken(tmp_path, FIRST + FIRST.replace("-01 ", "-02 "))
    assert values == {"a": [100, 101, 100, 101], "b": [9000, 9001, 9000, 9001]}
    assert rejects == []


def test_more_headings_than_are_followed_end_in_a_refusal(tmp_path: Path) -> None:
    turns = "".join(
        f"time,{order}\n2026-05-{1 + i // 24:02d} {i % 24:02d}:05,100,100\n"
        for i in range(60)
        for order in (("b (kWh),a (kWh)",) if i % 2 else ("a (kWh),b (kWh)",))
    )
    values, rejects = taken(tmp_path, turns)
    assert len(values["a"]) == 51
    assert len(rejects) == 9
    assert "more than 50 other headings" in rejects[0].reason


TWO_ROWS = "time,a,a,b,b\n,kWh,kW,kWh,kW\n2026-05-01 00:00,100,4,9000,4\n2026-05-01 00:15,101,4,9001,4\n"
AGAIN = "2026-05-01 00:30,{}\n"


@pytest.mark.parametrize(
    ("heading", "row", "refused"),
    [
        ("time,b,b,a,a\n,kWh,kW,kWh,kW", "9002,4,102,4", ""),
        ("time,b,,x,a,\n,kWh,kW,,kWh,kW", "9002,4,0,102,4", ""),
        (",b,b,a,a\ntime,kWh,kW,kWh,kW", "9002,4,102,4", ""),
        ("time,b,b,a,a\n,kWh,kW,MWh,kW", "9002,4,102,4", "a kWh"),
    ],
)
@pytest.mark.parametrize("how", [{}, {"careful_only": True}])
def test_a_heading_of_two_rows_is_followed(
    tmp_path: Path, heading: str, row: str, refused: str, how: dict[str, bool | int]
) -> None:
    mapping = parse_mapping("columns: {a kWh: a, b kWh: b}")
    values, rejects = taken(tmp_path, TWO_ROWS + heading + "\n" + AGAIN.format(row), mapping, **how)
    assert values == {"a": [100, 101] if refused else [100, 101, 102], "b": [9000, 9001, 9002]}
    reason = "the heading in line 6 has no such column"
    assert [(r.line, r.column, r.reason) for r in rejects] == ([(7, refused, reason)] if refused else [])


def test_a_note_above_a_heading_does_not_hide_it(tmp_path: Path) -> None:
    text = FIRST + "restarted,by,hand\ntime,b (kWh),a (kWh)\n2026-05-01 00:30,9002,102\n"
    values, rejects = taken(tmp_path, text)
    assert values == {"a": [100, 101, 102], "b": [9000, 9001, 9002]}
    assert [r.line for r in rejects] == [4]


def test_a_reject_names_the_cell_of_a_column_that_moved(tmp_path: Path) -> None:
    path = tmp_path / "f.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Data")
        rows = [line.split(",") for line in FIRST.splitlines()]
        rows += [["time", "b (kWh)", "note", "a (kWh)"], ["2026-05-01 00:30", "9002", "", "oops"]]
        for n, row in enumerate(rows):
            sheet.write_row(n, 0, row)
    found = [r for batch in read(path, understand(path, SITE), now=NOW) for r in batch.rejects]
    assert [(r.cell, r.text) for r in found] == [("Data!D5", "oops")]
