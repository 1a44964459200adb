"""What the columns beside the time are: values, valid parts, statuses, the point column of a long file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.domain.site import Site
from collectors.csv.dialect import Sheet, TimeColumns, normal
from collectors.csv.mapping import StatusMapping
from collectors.csv.number import is_no_value, looks_like_number, looks_measured
from collectors.csv.units import bare_name


@dataclass(frozen=True)
class LongColumns:
    point: int
    value: int
    unit: int | None
    more: tuple[int, ...] = ()
    """Further columns that name the point, together with `point`."""

    @property
    def points(self) -> tuple[int, ...]:
        """All columns that name the point."""
        return (self.point, *self.more)

    def texts(self, sheet: Sheet) -> list[str]:
        """The point of each row of the sample."""
        if not self.more:
            return [cell.strip() for cell in sheet.column(self.point)]
        return [joined(cells) for cells in zip(*(sheet.column(i) for i in self.points), strict=True)]


JOIN = " / "
"""Stands between the texts of columns that name a point together."""


def joined(cells: Iterable[str]) -> str:
    """The name that the texts of several columns make together."""
    return JOIN.join(c.strip() for c in cells).strip()


def is_empty(sheet: Sheet, index: int) -> bool:
    return all(is_no_value(c) for c in sheet.column(index))


def may_have_values(sheet: Sheet, index: int) -> bool:
    """Whether the column holds numbers, or nothing at all so far."""
    cells = [c for c in sheet.column(index)[:1000] if not is_no_value(c)]
    numbers = sum(looks_measured(c) or c.strip()[0].isdigit() for c in cells)
    return not cells or numbers >= len(cells) / 2


_VALID_NAMES = {
    "hours": ("nhours", "validhours", "hoursvalid", "nvalidhours", "validh"),
    "minutes": ("nminutes", "validminutes", "minutesvalid", "validmin"),
    "seconds": ("validseconds", "secondsvalid", "valids"),
    "ratio": ("validratio", "coverageratio", "validshare"),
}


def valid_unit(name: str) -> str | None:
    return next((unit for unit, names in _VALID_NAMES.items() if normal(name) in names), None)


def usual_status(sheet: Sheet) -> StatusMapping | None:
    """Status columns of Niagara histories (``{ok}``) and gateway logs (``Error`` 0)."""
    for i, name in enumerate(sheet.names):
        if normal(name) not in ("status", "error"):
            continue
        cells = [c.strip() for c in sheet.column(i) if c.strip()]
        if normal(name) == "status" and _are_most(c.startswith("{") for c in cells):
            return StatusMapping(
                column=name, good=("{ok}", "{alarm}", "{unackedAlarm}", "{alarm,unackedAlarm}")
            )
        if normal(name) == "error" and _are_most(c.lstrip("-").isdecimal() for c in cells):
            return StatusMapping(column=name, good=("0",))
    return None


def _are_most(tests: Iterable[bool]) -> bool:
    """Whether nine of ten are so: a few odd cells do not change what a column is."""
    found = list(tests)
    return bool(found) and sum(found) >= 0.9 * len(found)


_POINT_COLUMNS = {
    *("point", "meter", "tag", "tagname", "name", "series", "channel", "sensor", "pointname", "metername"),
    *("meterid", "pointid", "device", "variable", "objectname", "测点", "测点名称", "点名", "表计", "测量点"),
    *("仪表", "電表", "电表", "設備", "设备", "測點", "名称", "名稱", "表號", "表号"),
}
_VALUE_COLUMNS = {"value", "reading", "val", "data", "值", "数值", "數值", "读数", "讀數", "测量值", "量測值"}


def find_long(sheet: Sheet, where: TimeColumns, site: Site) -> LongColumns | None:
    """Point and value column, if the names of the columns or the site's points in them say so."""
    others = [i for i in range(sheet.width) if i not in where.columns]
    known = {normal(t) for p in site.points() for t in (p.id, p.name) if t}
    points = [i for i in others if normal(sheet.names[i]) in _POINT_COLUMNS and _repeats(sheet, i)]
    points = points or [i for i in others if any(normal(c) in known for c in sheet.column(i)[:200])]
    numeric = [i for i in others if i not in points and _is_numeric(sheet, i)]
    values = [i for i in numeric if normal(bare_name(sheet.names[i])) in _VALUE_COLUMNS] or numeric
    if len(points) != 1 or len(values) != 1:
        return None
    units = [i for i in others if normal(sheet.names[i]) in ("unit", "units", "uom", "单位", "單位")]
    return LongColumns(points[0], values[0], units[0] if len(units) == 1 else None)


def _repeats(sheet: Sheet, index: int) -> bool:
    cells = [c.strip() for c in sheet.column(index)]
    return _are_most(not (looks_like_number(c) and "." in c) for c in cells[:200])


def _is_numeric(sheet: Sheet, index: int) -> bool:
    cells = [c for c in sheet.column(index)[:500] if not is_no_value(c)]
    return bool(cells) and sum(map(looks_measured, cells)) > 0.7 * len(cells)
