"""Excel workbooks: real ones, written by xlsxwriter, read as the import reads them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import FileNotUnderstood
from collectors.csv.mapping import Ambiguous, Mapping, parse_mapping
from collectors.csv.reader import Reject, read, understand

NOW = datetime(2026, 12, 1, tzinfo=UTC)
START = datetime(2026, 5, 1)  # noqa: DTZ001 - Excel knows no zones


def site(*points: str, kind: ReadingKind = ReadingKind.REGISTER) -> Site:
    meters = tuple(
        Meter(id=f"meter-{p}", points=(Point(id=p, role=Role.NONE, kind=kind, interval_s=3600),))
        for p in points
    )
    return Site(id="dc", institution="bank", time_zone="UTC", meters=meters)


def workbook(path: Path, fill: Callable[[Any], None]) -> Path:
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm"}) as book:
        fill(book)
    return path


def readings(
    path: Path, of: Site, mapping: Mapping | None = None
) -> tuple[list[tuple[str, str, float]], list[Reject]]:
    plan = understand(path, of, mapping)
    rows, rejects = [], []
    for batch in read(path, plan, now=NOW):
        c = batch.columns
        rejects += batch.rejects
        for n, at_us, value in zip(c.point_id, c.at_us, c.value, strict=True):
            at = datetime.fromtimestamp(int(at_us) / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
            rows.append((batch.points[n], at, round(float(value), 6)))
    return sorted(rows), rejects


def hourly(sheet: Any, names: list[str], top: int = 0, left: int = 0, count: int = 4) -> None:
    sheet.write_row(top, left, ["Time", *names])
    for i in range(count):
        sheet.write_datetime(top + 1 + i, left, START + timedelta(hours=i))
        for j in range(len(names)):
            sheet.write_number(top + 1 + i, left + 1 + j, 1000.5 + 100 * j + i)


def test_a_sheet_is_read_like_a_csv_file(tmp_path: Path) -> None:
    file = workbook(tmp_path / "a.xlsx", lambda b: hourly(b.add_worksheet("Data"), ["main.kwh"]))
    rows, rejects = readings(file, site("main.kwh"))
    assert rows == [("main.kwh", f"2026-05-01 0{i}:00:00", 1000.5 + i) for i in range(4)]
    assert rejects == []


def test_preamble_offset_merged_head_and_footer(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet("能耗")
        sheet.merge_range("C2:E2", "能耗日报表")
        sheet.write("C3", "制表人: 张三")
        sheet.merge_range("C4:C5", "时间")
        sheet.merge_range("D4:E4", "1#进线")
        sheet.write_row("D5", ["有功电能(万kWh)", "功率(kW)"])
        for i in range(4):
            sheet.write_datetime(5 + i, 2, START + timedelta(hours=i))
            sheet.write_row(5 + i, 3, [100 + i / 100, 95.5])
        sheet.write(9, 2, "合计")
        sheet.write(9, 3, 4)

    file = workbook(tmp_path / "a.xlsx", fill)
    mapping = parse_mapping("columns: {有功电能(万kWh): main.kwh}")
    rows, rejects = readings(file, site("main.kwh"), mapping)
    assert rows == [("main.kwh", f"2026-05-01 0{i}:00:00", 1_000_000 + 100 * i) for i in range(4)]
    assert rejects == []


def test_a_bad_cell_costs_itself_and_is_named_as_excel_names_it(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet("Jan 2026")
        hourly(sheet, ["a.kwh", "b.kwh"], top=2, left=1)
        sheet.write("D5", "broken")
        sheet.write("B6", "no time")

    rows, rejects = readings(workbook(tmp_path / "a.xlsx", fill), site("a.kwh", "b.kwh"))
    assert len(rows) == 5
    assert [(r.line, r.column, r.cell) for r in rejects] == [
        (5, "b.kwh", "'Jan 2026'!D5"),
        (6, "Time", "'Jan 2026'!B6"),
    ]


def test_text_numbers_text_dates_formulas_and_errors(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Time", "a.kwh"])
        sheet.write_column(1, 0, [f"2026-05-01 0{i}:00" for i in range(5)])
        sheet.write_string(1, 1, "1,000.5")
        sheet.write_number(2, 1, 1001.25)
        sheet.write_formula(3, 1, "=B3+1", None, 1002.25)
        sheet.write_formula(4, 1, "=1/0", None, "#DIV/0!")
        sheet.write_boolean(5, 1, True)

    rows, rejects = readings(workbook(tmp_path / "a.xlsx", fill), site("a.kwh"))
    assert [v for _, _, v in rows] == [1000.5, 1001.25, 1002.25]
    assert [(r.cell, r.text) for r in rejects] == [("Sheet1!B6", "True")]


def test_text_with_a_decimal_comma_never_turns_a_number_into_thousands(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Time", "a.kwh", "b.kwh"])
        for i in range(6):
            sheet.write_datetime(1 + i, 0, START + timedelta(hours=i))
            sheet.write_string(1 + i, 1, f"{i},5")
            sheet.write_number(1 + i, 2, 1.125 + i)

    rows, rejects = readings(workbook(tmp_path / "a.xlsx", fill), site("a.kwh", "b.kwh"))
    assert [v for p, _, v in rows if p == "a.kwh"] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert [v for p, _, v in rows if p == "b.kwh"] == [1.125, 2.125, 3.125, 4.125, 5.125, 6.125]
    assert rejects == []


def test_date_and_time_of_day_in_two_columns(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        day, clock = book.add_format({"num_format": "yyyy/m/d"}), book.add_format({"num_format": "hh:mm"})
        sheet.write_row(0, 0, ["日期", "时刻", "a.kwh"])
        sheet.merge_range(1, 0, 4, 0, "")
        sheet.write_datetime(1, 0, date(2026, 5, 1), day)
        for i in range(4):
            sheet.write_datetime(1 + i, 1, time(i, 30), clock)
            sheet.write_number(1 + i, 2, 10 + i)

    rows, _ = readings(workbook(tmp_path / "a.xlsx", fill), site("a.kwh"))
    assert rows == [("a.kwh", f"2026-05-01 0{i}:30:00", 10.0 + i) for i in range(4)]


def test_times_that_a_formula_summed_up_are_whole_seconds(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        form = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet.write_row(0, 0, ["Time", "a.kwh"])
        serial = 46143.0
        for i in range(2000):
            sheet.write_number(1 + i, 0, serial, form)
            sheet.write_number(1 + i, 1, i)
            serial = round(serial + 1 / 96, 9)

    rows, rejects = readings(workbook(tmp_path / "a.xlsx", fill), site("a.kwh"))
    assert rejects == []
    assert rows[-1][1] == f"{START + timedelta(minutes=15 * 1999)}"


def test_which_sheet_is_asked_for_where_several_hold_readings(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        book.add_worksheet("说明").write(0, 0, "nothing here")
        hourly(book.add_worksheet("2026-05"), ["a.kwh"])
        later = book.add_worksheet("2026-06")
        hourly(later, ["a.kwh"], top=3)
        hourly(book.add_worksheet("hidden"), ["a.kwh"])
        book.get_worksheet_by_name("hidden").hide()

    file = workbook(tmp_path / "a.xlsx", fill)
    with pytest.raises(Ambiguous, match="2 sheets hold readings") as question:
        understand(file, site("a.kwh"))
    assert [c for c, _ in question.value.choices] == ["'2026-05'", "'2026-06'", "'*'"]
    plan = understand(file, site("a.kwh"), parse_mapping("sheet: 2026-06"))
    assert plan.first_line == 5
    both = understand(file, site("a.kwh"), parse_mapping("sheet: 2026-*"))
    assert [p.sheet.name for p in both.sheets if p.sheet] == ["2026-05", "2026-06"]
    assert both.mapping.sheet == ("2026-*",)
    batches = list(read(file, both, now=NOW))
    assert sum(len(b.columns) for b in batches) == 8
    with pytest.raises(FileNotUnderstood, match="'Data' is no sheet of this workbook; it has '说明'"):
        understand(file, site("a.kwh"), parse_mapping("sheet: Data"))


def test_the_only_sheet_with_readings_is_taken_and_the_others_named(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        book.add_worksheet("Cover").write(0, 0, "Energy report")
        hourly(book.add_worksheet("Data"), ["a.kwh"])

    plan = understand(workbook(tmp_path / "a.xlsx", fill), site("a.kwh"))
    assert plan.warnings == ("only sheet 'Data' is read; the workbook also has 'Cover'",)
    assert plan.mapping.sheet == ("Data",)


def test_a_sheet_per_meter_is_matched_by_the_name_of_the_sheet(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        hourly(book.add_worksheet("meter-a.kwh"), ["Reading (kWh)"])
        hourly(book.add_worksheet("meter-b.kwh"), ["Reading (kWh)"])

    file = workbook(tmp_path / "a.xlsx", fill)
    rows, _ = readings(file, site("a.kwh", "b.kwh"), parse_mapping("sheet: '*'"))
    assert [p for p, _, _ in rows] == ["a.kwh"] * 4 + ["b.kwh"] * 4


def test_what_is_no_table_and_what_is_damaged_is_refused(tmp_path: Path) -> None:
    cover = workbook(tmp_path / "a.xlsx", lambda b: b.add_worksheet("Cover").write(0, 0, "Report"))
    with pytest.raises(FileNotUnderstood, match=r"a\.xlsx\[Cover\]:1: expected rows of a time"):
        understand(cover, site("a.kwh"))
    damaged = tmp_path / "b.xlsx"
    damaged.write_bytes(cover.read_bytes()[:-2000])
    with pytest.raises(FileNotUnderstood):
        understand(damaged, site("a.kwh"))
    ole = tmp_path / "c.xls"
    ole.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(FileNotUnderstood, match="the workbook cannot be read"):
        understand(ole, site("a.kwh"))


def test_a_sheet_as_large_as_excel_allows_is_refused_not_held(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        hourly(sheet, ["a.kwh"])
        sheet.write(1_048_575, 16_383, 1)

    with pytest.raises(FileNotUnderstood, match="too large to be read at once"):
        understand(workbook(tmp_path / "a.xlsx", fill), site("a.kwh"))


def test_the_text_of_a_sheet_is_gone_when_nobody_needs_it(tmp_path: Path) -> None:
    file = workbook(tmp_path / "a.xlsx", lambda b: hourly(b.add_worksheet(), ["a.kwh"]))
    plan = understand(file, site("a.kwh"))
    assert plan.sheet is not None
    text = plan.sheet.text
    assert text.exists()
    del plan
    gc.collect()
    assert not text.parent.exists()


def test_a_meter_calendar_is_read_by_day(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet("2月")
        sheet.write_row(0, 0, ["年", "月", "说明", *["日"] * 31])
        sheet.write_row(1, 0, [2026, 2, "人工抄表", *range(1, 32)])
        sheet.write_row(2, 0, [1, "meter-a.kwh", "A", *[100 + d for d in range(28)]])
        sheet.write_row(3, 0, [2, "meter-b.kwh", "B", *[200 + d for d in range(28)]])
        sheet.write(3, 4, "坏")
        sheet.write(2, 33, 9)

    of = site("a.kwh", "b.kwh", kind=ReadingKind.INTERVAL_ENERGY)
    file = workbook(tmp_path / "a.xlsx", fill)
    rows, rejects = readings(file, of)
    assert [r for r in rows if r[0] == "a.kwh"][:2] == [
        ("a.kwh", "2026-02-02 00:00:00", 100.0),
        ("a.kwh", "2026-02-03 00:00:00", 101.0),
    ]
    assert len(rows) == 28 + 27
    assert [(r.cell, r.text[:10]) for r in rejects] == [("'2月'!3:3", "2026-02-31"), ("'2月'!4:4", "坏")]
    plan = understand(file, of)
    again = understand(file, of, parse_mapping(plan.mapping_yaml))
    assert [c.point.id for c in again.columns] == ["a.kwh", "b.kwh"]


def test_the_offline_meter_workbook_of_myems(shared_data: Path) -> None:
    meter = Point(
        id="m.kwh",
        name="Example Offline Meter",
        role=Role.NONE,
        kind=ReadingKind.INTERVAL_ENERGY,
        interval_s=86_400,
    )
    of = Site(id="dc", institution="bank", time_zone="UTC", meters=(Meter(id="m", points=(meter,)),))
    rows, rejects = readings(shared_data / "csv_dialects" / "myems" / "offline_meter_data.xlsx", of)
    assert rows[0] == ("m.kwh", "2023-03-02 00:00:00", 999.0)
    assert len(rows) == 31
    assert rejects == []


@pytest.mark.parametrize("form", ["xls", "xlsb"])
def test_the_older_and_the_binary_form_are_read_alike(form: str) -> None:
    path = Path(__file__).parent / "workbooks" / f"registers.{form}"
    mapping = parse_mapping("columns: {main (MWh): main.kwh, ups (kWh): ups.kwh}")
    rows, rejects = readings(path, site("main.kwh", "ups.kwh"), mapping)
    hours = [f"2026-05-01 0{i}:00:00" for i in range(6)]
    assert rows == [
        *(("main.kwh", at, 1_000_500.0 + 8 * i) for i, at in enumerate(hours)),
        *(("ups.kwh", at, 2000.0 + 4 * i) for i, at in enumerate(hours) if i != 3),
    ]
    assert [(r.cell, r.text) for r in rejects] == [("'May 2026'!C6", "n/a%")]


@pytest.mark.parametrize("form", ["xlsx", "xls"])
def test_a_workbook_that_libreoffice_saved(form: str) -> None:
    path = Path(__file__).parent / "workbooks" / f"calc.{form}"
    mapping = "columns: {总进线 (MWh): main.kwh, UPS输出 (kWh): ups.kwh}"
    of = site("main.kwh", "ups.kwh")
    with pytest.raises(FileNotUnderstood, match="2 sheets hold readings"):
        readings(path, of, parse_mapping(mapping))
    rows, rejects = readings(path, of, parse_mapping(f"sheet: '*'\n{mapping}"))
    months = (("2026-05-01", 0), ("2026-06-01", 31))
    main = [
        ("main.kwh", f"{day} 0{i}:00:00", pytest.approx(1000 * (100 + 0.7 * i + days)))
        for day, days in months
        for i in range(8)
    ]
    ups = [
        ("ups.kwh", f"{day} 0{i}:00:00", 50_000.0 + 500 * i + 12_000 * days)
        for day, days in months
        for i in range(8)
        if i != 3
    ]
    assert sorted(rows) == [*main, *ups]
    assert [(r.cell, r.text) for r in rejects] == [
        ("'2026年5月'!C7", "通信故障"),
        ("'2026年6月'!C7", "通信故障"),
    ]
