"""The report as a workbook: a sheet per section, real numbers, native charts.

No text of the data can become a formula: strings are written as strings, and those that look like one
are quoted, for whoever saves the sheet as CSV.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import xlsxwriter

from app.charts.report import Bars, Contributions, HeatMap, Lines
from app.reports.document import Document
from app.reports.language import Language
from app.reports.layout import (
    Block,
    Column,
    Cover,
    Facts,
    Kind,
    Layout,
    Picture,
    Prose,
    Section,
    Signatures,
    Table,
    Value,
)
from app.reports.pages import layout_of
from app.reports.safe import cell, line

_LONGEST_TITLE = 31
_NOT_IN_TITLES = str.maketrans(dict.fromkeys("[]:*?/\\'", " "))
_OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "nan_inf_to_errors": False,
}
_TINTS = {"pass": "#e3f2e6", "met": "#e3f2e6", "fail": "#fbe3e1", "missed": "#fbe3e1", "over": "#fbe3e1"}
_LOWEST_FROZEN = 8
"""A head further down is not frozen: it would leave no room to scroll."""
_CHART = {"width": 900, "height": 300}


def render(document: Document, language: Language) -> bytes:
    """The workbook in a language; a provisional report says so at the head and on every printed page."""
    layout = layout_of(document, language)
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, _OPTIONS)
    created = datetime.fromisoformat(document.revision.created_at).replace(tzinfo=None)
    book.set_properties({"title": layout.cover.title, "subject": layout.cover.subject, "created": created})
    _Book(book, layout).write()
    book.close()
    return out.getvalue()


class _Book:
    """The workbook in the making."""

    def __init__(self, book: Any, layout: Layout) -> None:
        self.book, self.layout, self.language = book, layout, layout.language
        self._formats: dict[tuple[str, ...], Any] = {}

    def write(self) -> None:
        """All the sheets."""
        self._cover(self._sheet(self.language.title("summary")), self.layout.cover)
        for number, section in enumerate(self.layout.sections, 1):
            _Sheet(self, self._sheet(f"{number} {section.title}"), section).write()

    def _sheet(self, title: str) -> Any:
        sheet = self.book.add_worksheet(title.translate(_NOT_IN_TITLES)[:_LONGEST_TITLE].strip())
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.set_landscape()
        stamp = f" · {self.language.text('provisional')}" if self.layout.provisional else ""
        head = f"{self.layout.footer}{stamp}".replace("&", "&&")
        sheet.set_header(f"&L{head[:200]}")
        sheet.set_footer("&C&P / &N")
        return sheet

    def style(self, **properties: Any) -> Any:
        """A cell format, made once."""
        key = tuple(f"{k}={v}" for k, v in sorted(properties.items()))
        if key not in self._formats:
            self._formats[key] = self.book.add_format({"font_size": 10, "valign": "top", **properties})
        return self._formats[key]

    def _cover(self, sheet: Any, cover: Cover) -> None:
        sheet.set_column(0, 0, 28)
        sheet.set_column(1, 1, 70)
        sheet.write_string(0, 0, line(cover.title), self.style(font_size=16, font_color="#1b6ca8"))
        sheet.write_string(1, 0, cell(line(cover.subject)), self.style(font_size=13))
        sheet.write_string(2, 0, cover.status, self.style(font_color="#b3261e", bold=True))
        rows: list[tuple[Column, Value]] = [*cover.facts.rows, (Column("SHA-256"), cover.sha256)]
        rows.append((Column("PUE"), f"{cover.headline} {cover.headline_note}"))
        rows += [(Column(b.detail), b.text) for b in cover.badges]
        for i, (column, value) in enumerate(rows, 4):
            sheet.write_string(i, 0, cell(line(column.head)), self.style(font_color="#5d6b73"))
            self.value(sheet, i, 1, column, value)

    def value(self, sheet: Any, row: int, at: int, column: Column, value: Value, **look: Any) -> None:
        """One cell, with its number as a number and its day as a day."""
        if value is None or value == "":
            sheet.write_blank(row, at, None, self.style(**look))
        elif isinstance(value, str):
            self._word(sheet, row, at, column, value, look)
        else:
            look["num_format"] = _number_format(column)
            sheet.write_number(row, at, value, self.style(**look))

    def _word(self, sheet: Any, row: int, at: int, column: Column, value: str, look: dict[str, Any]) -> None:
        when = _when(column, value)
        if when is None:
            sheet.write_string(row, at, cell(line(value))[:32_000], self.style(text_wrap=True, **look))
        else:
            look["num_format"] = "yyyy-mm-dd hh:mm" if column.kind is Kind.INSTANT else "yyyy-mm-dd"
            look["align"] = "left"
            sheet.write_datetime(row, at, when, self.style(**look))


def _number_format(column: Column) -> str:
    places = column.decimals
    if column.kind is Kind.PLAIN:
        return "#,##0." + "#" * places
    digits = "#,##0" + ("." + "0" * places if places else "")
    if column.kind is Kind.PERCENT:
        return "[=1]0%;0.0%"
    return f"+{digits};-{digits};{digits}" if column.kind is Kind.SIGNED else digits


def _when(column: Column, text: str) -> datetime | None:
    """The day or local instant that a text says, if the column holds such; months stay texts."""
    if column.kind not in (Kind.DAY, Kind.INSTANT) or len(text) < 10:
        return None
    try:
        if column.kind is Kind.INSTANT:
            return datetime.fromisoformat(text).replace(tzinfo=None)
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - sheets know no zones
    except ValueError:
        return None


class _Sheet:
    """One section's sheet, written from the top."""

    def __init__(self, book: _Book, sheet: Any, section: Section) -> None:
        self.book, self.sheet, self.section = book, sheet, section
        self.row = 0
        self._places: dict[str, tuple[int, int]] = {}
        self._pictures: list[Picture] = []

    def write(self) -> None:
        """The title and every block; charts stand under what they show."""
        self.sheet.write_string(0, 0, self.section.title, self.book.style(font_size=14, font_color="#1b6ca8"))
        self.row = 2
        for block in self.section.blocks:
            self._block(block)
        for picture in self._pictures:
            self._chart(picture)

    def _block(self, block: Block) -> None:
        if isinstance(block, Table):
            self._table(block)
        elif isinstance(block, Facts):
            if not self._places:
                self.sheet.set_column(0, 1, 28)
            for column, value in block.rows:
                self.sheet.write_string(self.row, 0, column.head, self.book.style(font_color="#5d6b73"))
                self.book.value(self.sheet, self.row, 1, column, value)
                self.row += 1
            self.row += 1
        elif isinstance(block, Picture):
            self._pictures.append(block)
        elif isinstance(block, Prose):
            self.sheet.write_string(self.row, 0, cell(line(block.text)))
            self.row += 2
        elif isinstance(block, Signatures):
            for i, role in enumerate(block.roles):
                self.sheet.write_string(self.row, i * 2, role)
                self.sheet.write_string(self.row + 4, i * 2, block.line, self.book.style(top=1))
            self.row += 6

    def _table(self, table: Table) -> None:
        if table.title:
            self.sheet.write_string(self.row, 0, table.title, self.book.style(bold=True))
            self.row += 1
        head = self.book.style(bold=True, bg_color="#eef3f6", bottom=1, text_wrap=True)
        for i, column in enumerate(table.columns):
            self.sheet.write_string(self.row, i, column.head, head)
            self.sheet.set_column(i, i, 40 if column.wide else 22 if not column.is_number else 15)
        if not self._places and self.row <= _LOWEST_FROZEN:
            self.sheet.freeze_panes(self.row + 1, 0)
        self._places[table.id] = (self.row + 1, len(table.rows) - (1 if table.total else 0))
        for n, row in enumerate(table.rows):
            self.row += 1
            for i, (column, value) in enumerate(zip(table.columns, row, strict=True)):
                self.book.value(self.sheet, self.row, i, column, value, **_look(table, n))
        self.row += 2

    def _chart(self, picture: Picture) -> None:
        """A native chart over the columns of its table; a heat map becomes a coloured table."""
        chart = picture.chart
        if isinstance(chart, HeatMap):
            self._heat(picture, chart)
        elif picture.table in self._places:
            drawn = self._drawn(picture)
            self.sheet.insert_chart(self.row, 0, drawn, {"object_position": 2})
            self.row += 16

    def _drawn(self, picture: Picture) -> Any:
        first, count = self._places[picture.table]
        last = first + count - 1
        kind, columns = _columns(picture)
        drawn = self.book.book.add_chart(kind)
        for column in columns:
            drawn.add_series(
                {
                    "name": [self.sheet.get_name(), first - 1, column],
                    "categories": [self.sheet.get_name(), first, 0, last, 0],
                    "values": [self.sheet.get_name(), first, column, last, column],
                }
            )
        drawn.set_title({"name": picture.title, "name_font": {"size": 11}})
        drawn.set_size(_CHART)
        if picture.table == "days":
            drawn.set_x_axis({"num_format": "mm-dd"})
        if len(columns) == 1:
            drawn.set_legend({"none": True})
        drawn.show_blanks_as("gap")
        return drawn

    def _heat(self, picture: Picture, chart: HeatMap) -> None:
        title = f"{picture.title} [{chart.unit}]"
        self.sheet.write_string(self.row, 0, title, self.book.style(bold=True))
        head = self.book.style(bold=True, bg_color="#eef3f6", bottom=1)
        for i, hour in enumerate(chart.columns, 1):
            self.sheet.write_number(self.row + 1, i, int(hour), head)
        top = self.row + 2
        column = Column("", Kind.NUMBER, 2)
        for n, (name, values) in enumerate(zip(chart.rows, chart.values, strict=True)):
            self._name(top + n, name)
            for i, value in enumerate(values, 1):
                self.book.value(self.sheet, top + n, i, column, value)
        scale = {
            "type": "3_color_scale",
            "min_color": "#440154",
            "mid_color": "#21918c",
            "max_color": "#fde725",
        }
        self.sheet.conditional_format(top, 1, top + len(chart.rows) - 1, len(chart.columns), scale)
        self.row = top + len(chart.rows) + 1

    def _name(self, row: int, name: str) -> None:
        """The head of a row: days of a month are numbers."""
        if name.isdecimal():
            self.sheet.write_number(row, 0, int(name), self.book.style(align="left"))
        else:
            self.sheet.write_string(row, 0, name)


def _columns(picture: Picture) -> tuple[dict[str, str], Sequence[int]]:
    """Kind of native chart, and the columns of the table that it shows."""
    chart = picture.chart
    if isinstance(chart, Lines):
        return {"type": "line"}, [3]
    if isinstance(chart, Contributions):
        return {"type": "bar"}, [1]
    assert isinstance(chart, Bars)
    if len(chart.series) == 1:
        return {"type": "column"}, [1]
    return {"type": "column"}, [1, 2]


def _look(table: Table, n: int) -> dict[str, Any]:
    if table.total and n == len(table.rows) - 1:
        return {"bold": True, "top": 1}
    code = table.marks[n] if n < len(table.marks) else ""
    return {"bg_color": _TINTS[code]} if code in _TINTS else {}
