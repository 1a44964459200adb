"""Named layouts: exports whose heading is known, so that little has to be found out about them.

Each entry of :data:`LAYOUTS` says by which cells of its heading an export is recognised and what its
columns are; that fills the keys which a mapping leaves open. ``source`` is the document that the heading
is from. ``transform`` names the shape of an export that is no plain table (see ``reshape``).

To add one, write an entry, and a golden folder of the same name with a hand-made sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from collectors.csv.epw import is_epw
from collectors.csv.mapping import (
    LAYOUT_NAMES,
    LongMapping,
    Mapping,
    OffsetColumn,
    StatusMapping,
    TimeMapping,
)
from collectors.csv.reshape import SHAPES, Shape, are_pairs, calendar_of, is_annotated, is_prometheus
from collectors.csv.rows import MAX_COLUMNS

_SEARCHED_ROWS = 40
"""Rows in which a heading is looked for."""

Rows = Sequence[tuple[int, list[str]]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One export. Columns are regular expressions for the whole heading, whatever its case."""

    name: str
    vendor: str
    title: str
    source: str
    """Document or address that the heading is from."""
    heading: str
    """The heading as an example, for the reference."""
    is_documented: bool = True
    """Whether the heading was compared with `source`; else it is the form in use, and may differ."""
    time: str = ""
    start: str = ""
    end: str = ""
    point: tuple[str, ...] = ()
    """Columns that name the point together; absent: a column a point."""
    value: str = ""
    unit: str = ""
    also: tuple[str, ...] = ()
    """Further headings that tell the export from others."""
    status: str = ""
    good: tuple[str, ...] = ()
    offset: str = ""
    """Column with the difference from UTC. [min]"""
    zone: str | None = None
    footer: str | None = None
    no_value: tuple[str, ...] = ()
    transform: str = ""

    @property
    def shape(self) -> Shape | None:
        """How it becomes a table; None where it is one."""
        return SHAPES[self.transform] if self.transform else None

    @property
    def columns(self) -> tuple[str, ...]:
        """What all must stand in one row of the heading."""
        wanted = (self.time, self.start, self.end, *self.point, self.value, self.offset, *self.also)
        return tuple(w for w in wanted if w)


_STATES = ("Value_OK", "Value_InAlarm", "Value_OK, Value_InAlarm", "Value_InAlarm, Value_OK")
_SINCE = "time ?stamp|date ?/? ?time|time|date and time"
_WHEN_ZH = "时间|采集时间|抄表时间|数据时间|记录时间|采样时间|日期时间"

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="schneider_gateway",
        vendor="Schneider Electric",
        title="Com'X, EGX300 and Link150 device logs",
        source="Com'X 510 user manual DOCA0098EN, File Format of CSV Export",
        heading="Error,UTC Offset (Minutes),Local Time Stamp,Real Energy (kWh)",
        time="local time stamp|data e ora locale",
        offset=r"utc offset \(minutes\)|differenza utc \(minuti\)",
        status="error|errore",
        good=("0",),
        also=("error|errore",),
    ),
    Layout(
        name="schneider_pme_long",
        is_documented=False,
        vendor="Schneider Electric",
        title="Power Monitoring Expert, one row a value (data export)",
        source="Power Monitoring Expert user guide, Data Log Viewer; names of its columns Source, Quantity",
        heading="Timestamp,Source,Quantity,Value,Units",
        time="time ?stamp(?: ?\\(?utc\\)?)?|datetime",
        point=("source(?: ?name)?", "quantity(?: ?name)?|measurement(?: ?name)?"),
        value="value",
        unit="units?",
    ),
    Layout(
        name="niagara",
        vendor="Tridium",
        title="Niagara histories (CSV export)",
        source="Niagara Histories Guide, History Table view: Timestamp, Trend Flags, Status, Value",
        heading="Timestamp,Trend Flags,Status,Value (kW-hr)",
        time="time ?stamp",
        status="status",
        good=("{ok}", "{alarm}", "{unackedAlarm}", "{alarm,unackedAlarm}"),
        also=("trend ?flags", "status", r"value(?: ?\(.*\))?"),
    ),
    Layout(
        name="pi_web_api",
        vendor="AVEVA (OSIsoft)",
        title="PI Web API, recorded or interpolated values as CSV",
        source="https://docs.aveva.com/bundle/pi-web-api-reference, Stream GetRecorded",
        heading="Name,Timestamp,Value,UnitsAbbreviation,Good,Questionable,Substituted",
        time="timestamp",
        point=("name|path|webid|tag|point",),
        value="value",
        unit="unitsabbreviation",
        status="good",
        good=("True", "true", "TRUE", "1"),
        also=("good", "unitsabbreviation"),
    ),
    Layout(
        name="pi_datalink",
        is_documented=False,
        vendor="AVEVA (OSIsoft)",
        title="PI DataLink compressed data: time and value side by side for each tag",
        source="PI DataLink user guide, Compressed Data function (show time stamps)",
        heading="MAIN.KWH,,UPS.KWH,",
        no_value=("No Data", "Bad", "Bad Input", "I/O Timeout", "Pt Created", "Shutdown", "Calc Failed"),
        transform="pairs",
    ),
    Layout(
        name="desigo_cc",
        vendor="Siemens",
        title="Desigo CC trend data (CSV export)",
        source="Desigo CC user guide A6V10415471, Trends: states of exported values (Value_OK ...)",
        heading="Data point,Time stamp,Value,State",
        time=_SINCE,
        point=("(?:data ?point|object|trend ?log|series|name|description).*",),
        value="value",
        status="states?|status|quality(?: ?attribute)?|data ?point states?",
        good=_STATES,
        also=("states?|status|quality(?: ?attribute)?|data ?point states?",),
    ),
    Layout(
        name="gridvis",
        vendor="Janitza",
        title="GridVis, list of values with start and end",
        source="https://wiki.janitza.de, Daten-Import - Editieren: start time, stop time, value",
        heading="Startzeit;Endzeit;Wert [Wh]",
        start="start(?:zeit| ?time)",
        end="(?:end|stop|stopp)(?:zeit| ?time)",
        also=(r"(?:wert|value|.*\[k?wh\]).*",),
    ),
    Layout(
        name="abb_ability",
        is_documented=False,
        vendor="ABB",
        title="ABB Ability, CMS and others of this heading, one row a value",
        source="ABB Ability Energy Manager, export of historical data (asset, measurement, value, unit)",
        heading="Timestamp,Asset,Measurement,Value,Unit",
        time="time ?stamp|date ?time|time",
        point=("asset(?: ?name)?|branch(?: ?name)?|sensor(?: ?name)?", "measurement(?: ?name)?|parameter"),
        value="value",
        unit="units?",
    ),
    Layout(
        name="carlo_gavazzi",
        is_documented=False,
        vendor="Carlo Gavazzi",
        title="UWP, VMU-C and others of this heading, one row a variable",
        source="UWP 3.0 and VMU-C EM instruction manuals, data export (instrument, variable, value, unit)",
        heading="datetime;instrument;variable;value;unit",
        time="date ?time|timestamp",
        point=("instrument(?: ?name)?|meter(?: ?name)?|device(?: ?name)?", "variable(?: ?name)?"),
        value="value",
        unit="units?|um",
    ),
    Layout(
        name="neteco",
        is_documented=False,
        vendor="Huawei",
        title="iManager NetEco, historical signals",
        source="iManager NetEco user manual, export of historical performance data",
        heading="Collection Time,Device Name,Signal Name,Signal Value,Unit",
        time="collection time|collected at|statistical time|采集时间|统计时间",
        point=(
            "(?:device|managed object|ne)(?: ?name)?|设备名称|网元名称",
            "(?:signal|counter|kpi)(?: ?name)?|信号名称|指标名称",
        ),
        value="(?:signal |counter |kpi )?value|信号值|采集值|指标值|值",
        unit="(?:signal )?unit|单位",
    ),
    Layout(
        name="infrasuite",
        is_documented=False,
        vendor="Delta",
        title="InfraSuite and others of this heading, one row a point",
        source="InfraSuite Device Master EMS4000 user's manual, History",
        heading="Date Time,Device,Point,Value,Unit",
        time="date ?/? ?time|time|日期时间|时间|時間|日期時間",
        point=(
            "device(?: ?name)?|设备(?:名称)?|設備(?:名稱)?",
            "(?:point|data ?point|item)(?: ?name)?|点位(?:名称)?|測點(?:名稱)?|监测点",
        ),
        value="value|数值|數值|值",
        unit="units?|单位|單位",
    ),
    Layout(
        name="environet",
        is_documented=False,
        vendor="Vertiv",
        title="Environet and others of this heading, one row a value",
        source="Vertiv Environet Alert user manual, trend export (device, data point, value, unit)",
        heading="Time Stamp,Device,Data Point,Value,Units",
        time="time ?stamp|recorded(?: at)?",
        point=("device(?: ?name)?|unit ?name|equipment", "(?:data ?)?point(?: ?name)?|measurement|label"),
        value="value",
        unit="units?",
    ),
    Layout(
        name="geist",
        is_documented=False,
        vendor="Vertiv (Geist)",
        title="Rack PDU data log (upgradeable PDU, IMD)",
        source="Vertiv Geist rPDU installer/user guide, Data log (download as CSV)",
        heading="Time,Total Real Power (W),Total Energy (kWh)",
        time="time|date ?/? ?time|timestamp",
        also=(r"total (?:real )?power.*", r"total energy.*"),
    ),
    Layout(
        name="acrel",
        is_documented=False,
        vendor="Acrel (安科瑞)",
        title="Acrel EMS and other Chinese platforms: meter readings of a period, one row a circuit",
        source="Acrel-3000 电能管理系统 user manual, 集抄报表 (回路, 起始数值, 截止数值, 差值)",
        heading="回路名称,开始时间,结束时间,起始数值,截止数值,差值",
        start="(?:开始|起始)(?:时间|日期)",
        end="(?:结束|截止|终止)(?:时间|日期)",
        point=("(?:回路|仪表|支路|表计|电表|设备|测点)(?:名称|编号)?",),
        value=r"(?:差值|用电量|电量|能耗|用量|耗电量)(?:[(（].*[)）])?",
        unit="单位",
    ),
    Layout(
        name="acrel_log",
        is_documented=False,
        vendor="Acrel (安科瑞)",
        title="Acrel EMS and other Chinese platforms: readings, one row a circuit and time",
        source="Acrel-3000 电能管理系统 user manual, 电参量查询; names in use on Chinese platforms",
        heading="抄表时间,回路名称,参数名称,数值,单位",
        time=_WHEN_ZH,
        point=(
            "(?:回路|仪表|支路|表计|电表|设备)(?:名称|编号)?",
            "(?:参数|参量|指标|变量|采集项|数据项|测点)(?:名称)?",
        ),
        value=r"(?:数值|值|示数|读数|表码|表底|当前值|参数值)(?:[(（].*[)）])?",
        unit="单位",
    ),
    Layout(
        name="calendar_report",
        is_documented=False,
        vendor="Acrel (安科瑞)",
        title="Hourly, daily or monthly report: a row a circuit, a column an hour, day or month",
        source="Acrel-3000 电能管理系统 user manual, 电力逐时报表; the form of Chinese platforms",
        heading="回路名称,0时,1时,2时 ... 23时,合计",
        transform="calendar",
    ),
    Layout(
        name="home_assistant",
        vendor="Home Assistant",
        title="History of entities (download of the history page)",
        source="https://www.home-assistant.io/integrations/history",
        heading="entity_id,state,last_changed",
        time="last_changed|last_updated",
        point=("entity_id",),
        value="state",
        no_value=("unavailable", "unknown"),
        zone="UTC",
    ),
    Layout(
        name="home_assistant_statistics",
        vendor="Home Assistant",
        title="Long-term statistics (statistics table or its export)",
        source="https://data.home-assistant.io/docs/statistics",
        heading="statistic_id,unit,start,state,sum",
        time="start|start_ts",
        point=("statistic_id|metadata_id",),
        also=("sum|mean",),
        transform="statistics",
    ),
    Layout(
        name="home_assistant_energy",
        vendor="Home Assistant",
        title="Energy dashboard (download data): a row an entity, a column an hour or day",
        source="home-assistant/frontend, hui-energy-period-selector: entity_id, type, unit, times",
        heading="entity_id,type,unit,2026-01-05T10:00:00.000Z,...",
        transform="entities",
    ),
    Layout(
        name="influxdb",
        vendor="InfluxData",
        title="Annotated CSV of InfluxDB and Flux",
        source="https://docs.influxdata.com/influxdb/cloud/reference/syntax/annotated-csv/",
        heading="#datatype ... / ,result,table,_start,_stop,_time,_value,_field,_measurement",
        transform="influxdb",
    ),
    Layout(
        name="prometheus",
        vendor="Prometheus",
        title="Answer of a range query (JSON, resultType matrix)",
        source="https://prometheus.io/docs/prometheus/latest/querying/api/, Range queries",
        heading='{"status":"success","data":{"resultType":"matrix","result":[...]}}',
        transform="prometheus",
    ),
    Layout(
        name="epw",
        vendor="EnergyPlus",
        title="EPW weather file, hourly: dry bulb and relative humidity",
        source="EnergyPlus, Auxiliary Programs: EnergyPlus Weather File (EPW) Data Dictionary",
        heading="LOCATION,Shanghai,SHA,CHN,CSWD,583620,31.4,121.5,8.0,5.5",
        transform="epw",
    ),
)
"""Every named layout; of several that fit, the one with the most columns in its heading is meant."""


def shape_of(name: str) -> Shape | None:
    """The shape of the named layout; None where it is a plain table, or there is no such layout."""
    return BY_NAME[name].shape if name in BY_NAME else None


BY_NAME = {layout.name: layout for layout in LAYOUTS}
assert set(BY_NAME) == set(LAYOUT_NAMES), "collectors.csv.mapping lists the names"


@dataclass(frozen=True)
class Recognised:
    """A layout in a file, and where its heading stands."""

    layout: Layout
    line: int
    cells: tuple[str, ...]

    def is_whole(self, mapping: Mapping) -> bool:
        """Whether it may be taken unasked: a mapping that places things itself knows better."""
        return not (mapping.time.is_placed or mapping.long or mapping.header is not None)

    def column(self, pattern: str) -> str | None:
        """The heading that the pattern means."""
        return next((c.strip() for c in self.cells if pattern and _is(pattern, c)), None)


def _is(pattern: str, cell: str) -> bool:
    return bool(_compiled(pattern).fullmatch(cell.strip().lstrip("\ufeff")))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def of_head(head: bytes) -> str | None:
    """The layout of a file that begins like none other."""
    if is_annotated(head):
        return "influxdb"
    if is_prometheus(head):
        return "prometheus"
    if is_epw(head):
        return "epw"
    start = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip().replace(b'"', b"")
    return "home_assistant_energy" if re.match(rb"entity_id[,;\t]type[,;\t]unit[,;\t]", start) else None


def of_rows(rows: Rows) -> str | None:
    """The layout by the form of the first rows, where no heading tells."""
    if calendar_of(rows) is not None:
        return "calendar_report"
    return "pi_datalink" if are_pairs(rows) is not None else None


def reshaped(mapping: Mapping, layout: Layout) -> Mapping:
    """The mapping for the table that a layout's shape gives, where it says nothing itself."""
    assert layout.shape is not None
    bounds = "start" in layout.shape.heading
    told = {"start": "start", "end": "end"} if bounds else {"column": "time"}
    update: dict[str, Any] = {"delimiter": ",", "decimal": mapping.decimal}
    if not mapping.time.is_placed:
        update["time"] = mapping.time.model_copy(update=told)
    if mapping.long is None:
        update["long"] = LongMapping(point="point", value="value", unit="unit")
    if layout.no_value:
        update["no_value"] = tuple(dict.fromkeys([*mapping.no_value, *layout.no_value]))
    return mapping.model_copy(update=update)


def recognise(rows: Rows, name: str = "") -> Recognised | None:
    """The layout whose heading stands in the first rows; only the one called `name` where it is given."""
    wanted = [layout for layout in LAYOUTS if layout.columns and (not name or layout.name == name)]
    found = [hit for line, cells in rows[:_SEARCHED_ROWS] for hit in _in_row(wanted, line, cells)]
    return max(found, key=lambda hit: len(hit.layout.columns), default=None)


def _in_row(wanted: Sequence[Layout], line: int, cells: Sequence[str]) -> Iterator[Recognised]:
    filled = [c for c in cells[:MAX_COLUMNS] if c.strip()]
    if len(filled) < 2:
        return
    for layout in wanted:
        if all(any(_is(pattern, c) for c in filled) for pattern in layout.columns):
            yield Recognised(layout, line, tuple(filled))


def filled(mapping: Mapping, found: Recognised) -> Mapping:
    """The mapping with what the layout knows, where it says nothing itself."""
    layout = found.layout
    update: dict[str, Any] = {}
    if not mapping.time.is_placed:
        update["time"] = _time(mapping.time, found)
    if mapping.long is None and layout.point and layout.value:
        update["long"] = _long(found)
    if mapping.status is None and (status := found.column(layout.status)):
        update["status"] = StatusMapping(column=status, good=layout.good)
    if layout.no_value:
        update["no_value"] = tuple(dict.fromkeys([*mapping.no_value, *layout.no_value]))
    if mapping.footer is None and layout.footer:
        update["footer"] = layout.footer
    return mapping.model_copy(update=update)


def _time(given: TimeMapping, found: Recognised) -> TimeMapping:
    layout = found.layout
    update: dict[str, Any] = {
        "column": found.column(layout.time),
        "start": found.column(layout.start),
        "end": found.column(layout.end),
    }
    offset = found.column(layout.offset)
    if offset and given.offset is None and given.zone is None:
        update["offset"] = OffsetColumn(column=offset, unit="minutes")
    if layout.zone and given.zone is None:
        update["zone"] = layout.zone
    return given.model_copy(update=update)


def _long(found: Recognised) -> LongMapping | None:
    layout = found.layout
    points = tuple(n for p in layout.point if (n := found.column(p)))
    value, unit = found.column(layout.value), found.column(layout.unit)
    if value is None or not points or value in points:
        return None
    return LongMapping(point=points if len(points) > 1 else points[0], value=value, unit=unit)
