"""How panels and boards are put together, in two languages, on the Grafana foundation SDK.

A panel is described once; every text of it is a :class:`Text` with both languages. Colours that depend on
a limit take the limit from a query of the panel, never from a number written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from grafana.queries import DATABASE, PROMETHEUS, Query, annotation
from grafana.sdk import barchart, bargauge, common, nodegraph, stat, statushistory
from grafana.sdk import common_model as shape
from grafana.sdk import dashboard as db
from grafana.sdk import dashboard_model as model
from grafana.sdk import table as tables
from grafana.sdk import timeseries as lines
from grafana.words import BLUE, CLASSES, GREEN, NO_DATA, STATES, WORDS, Lang, Text

COLUMNS = 24
"""Width of Grafana's grid."""


@dataclass(frozen=True)
class Column:
    """A column or series of a query: how it is called and shown."""

    name: str
    title: Text
    unit: str = ""
    decimals: int | None = None
    color: str = ""
    dashed: bool = False
    right: bool = False
    """On an axis of its own, at the right."""
    width: int = 0
    url: str = ""
    """Where a click leads."""
    bar: bool = False
    """Shown as a bar from 0 to 1 in a table."""
    states: bool = False
    """Its values are words of :data:`STATES`, shown in their colours."""
    words: bool = False
    """Its values are words of any table in ``words.py``."""


@dataclass(frozen=True)
class Panel:
    """One panel, in no language yet."""

    kind: str
    title: Text
    about: Text
    queries: Sequence[Query]
    unit: str
    decimals: int | None = None
    columns: Sequence[Column] = ()
    stacked: bool = False
    bars: bool = False
    """A time series drawn as bars."""
    fill: int = 0
    soft_min: float | None = None
    limit: str = ""
    """Name of the series that is the limit: values from it on turn red (Grafana can colour no other way)."""
    url: str = ""
    by_day: bool = False
    """Days or months at noon: the axis shows their dates in every time zone of a browser."""
    sideways: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Marks:
    """What is marked on every chart of a board."""

    name: Text
    sql: str
    """Answers ``time``, ``timeEnd``, ``text`` and ``tags``."""
    color: str


class Cell(NamedTuple):
    """A panel with its width on the grid of 24 columns."""

    panel: Panel
    width: int


class Row(NamedTuple):
    """Panels beside each other; together 24 columns wide."""

    height: int
    cells: Sequence[Cell]
    heading: Text | None = None


@dataclass(frozen=True)
class Board:
    """One board, in no language yet."""

    uid: str
    title: Text
    about: Text
    rows: Sequence[Row]
    variables: Sequence[str]
    """Of ``site``, ``room`` and ``window``."""
    start: str
    """Beginning of the time range that is shown first, e.g. ``now-7d``."""
    refresh: str = "1m"
    marks: Sequence[Marks] = ()


# -- panels ----------------------------------------------------------------------------------------

_MAKERS: Mapping[str, Any] = {
    "stat": stat.Panel,
    "timeseries": lines.Panel,
    "table": tables.Panel,
    "bargauge": bargauge.Panel,
    "barchart": barchart.Panel,
    "status-history": statushistory.Panel,
    "nodeGraph": nodegraph.Panel,
}


def build_panel(panel: Panel, lang: Lang) -> Any:
    """The SDK's builder of a panel, without its place."""
    made = _MAKERS[panel.kind]()
    made.title(panel.title.in_(lang)).description(panel.about.in_(lang))
    made.unit(panel.unit).no_value(NO_DATA.in_(lang)).datasource(_source(panel))
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        made.with_target(query.target(letter, lang))
    _overrides(made, panel, lang)
    _colour_by_limit(made, panel)
    if panel.url:
        made.data_links([_link(panel.title.in_(lang), panel.url, lang)])
    _LOOKS[panel.kind](made, panel)
    return made


def _source(panel: Panel) -> shape.DataSourceRef:
    kinds = {query.is_sql for query in panel.queries}
    if len(kinds) > 1:
        return shape.DataSourceRef(type_val="datasource", uid="-- Mixed --")
    return DATABASE if kinds == {True} else PROMETHEUS


def _overrides(made: Any, panel: Panel, lang: Lang) -> None:
    for column in panel.columns:
        made.override_by_name(column.name, list(_properties(column, panel, lang)))


def _properties(column: Column, panel: Panel, lang: Lang) -> list[model.DynamicConfigValue]:
    found: dict[str, Any] = {"displayName": column.title.in_(lang)}
    if column.unit:
        found["unit"] = column.unit
    if column.decimals is not None:
        found["decimals"] = column.decimals
    if column.color:
        found["color"] = {"mode": "fixed", "fixedColor": column.color}
    if column.url:
        found["links"] = [{"title": column.title.in_(lang), "url": _localised(column.url, lang)}]
    if column.right:
        found |= {"custom.axisPlacement": "right"}
    if column.dashed:
        found |= _DASHED
    if column.words:
        found |= {"mappings": [_plain_mapping(lang)]}
    if panel.kind == "table":
        found |= _cell(column, lang)
    return [model.DynamicConfigValue(name, value) for name, value in found.items()]


_DASHED: Mapping[str, Any] = {
    "custom.lineStyle": {"fill": "dash", "dash": [10, 8]},
    "custom.lineWidth": 2,
    "custom.fillOpacity": 0,
    "custom.stacking": {"mode": "none", "group": "A"},
    "custom.drawStyle": "line",
}


def _cell(column: Column, lang: Lang) -> dict[str, Any]:
    found: dict[str, Any] = {"custom.width": column.width} if column.width else {}
    if column.bar:
        found |= {
            "custom.cellOptions": {"type": "gauge", "mode": "gradient", "valueDisplayMode": "text"},
            "color": {"mode": "continuous-GrYlRd"},
            "min": 0,
            "max": 1,
        }
    if column.states:
        found |= {"custom.cellOptions": {"type": "color-text"}, "mappings": [_mapping(lang)]}
    return found


def _plain_mapping(lang: Lang) -> dict[str, Any]:
    known = {**{name: text for name, (text, _) in CLASSES.items()}, **WORDS}
    options = {word: {"text": text.in_(lang), "index": n} for n, (word, text) in enumerate(known.items())}
    return {"type": "value", "options": options}


def _mapping(lang: Lang) -> dict[str, Any]:
    options = {
        word: {"text": text.in_(lang), "color": color, "index": n}
        for n, (word, (text, color)) in enumerate(STATES.items())
    }
    return {"type": "value", "options": options}


def _colour_by_limit(made: Any, panel: Panel) -> None:
    """Thresholds from the series that holds the limit; without one a single neutral colour."""
    base = model.Threshold(value=None, color=GREEN if panel.limit else BLUE)
    made.thresholds(db.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps([base]))
    name = panel.limit
    if not name:
        return
    letter = "ABCDEF"[next(n for n, query in enumerate(panel.queries) if query.legend == name)]
    options = {
        "configRefId": letter,
        "mappings": [{"fieldName": name, "handlerKey": "threshold1", "reducerId": "lastNotNull"}],
    }
    made.with_transformation(model.DataTransformerConfig(id_val="configFromData", options=options))


def _look_stat(made: Any, panel: Panel) -> None:
    made.graph_mode(shape.BigValueGraphMode.AREA if panel.fill else shape.BigValueGraphMode.NONE)
    made.color_mode(shape.BigValueColorMode.VALUE)
    made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def _look_lines(made: Any, panel: Panel) -> None:
    style = shape.GraphDrawStyle.BARS if panel.bars else shape.GraphDrawStyle.LINE
    made.draw_style(style).line_width(1).fill_opacity(80 if panel.bars else panel.fill)
    made.show_points(shape.VisibilityMode.NEVER).legend(_legend()).tooltip(_tooltip())
    made.span_nulls(False)
    if panel.by_day:
        made.timezone(["utc"])
    if panel.soft_min is not None:
        made.axis_soft_min(panel.soft_min)
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(shape.StackingMode.NORMAL).group("A"))


def _look_table(made: Any, panel: Panel) -> None:
    made.cell_height(shape.TableCellHeight.SM).filterable(True)


def _look_bargauge(made: Any, panel: Panel) -> None:
    made.orientation(shape.VizOrientation.HORIZONTAL).display_mode(shape.BarGaugeDisplayMode.GRADIENT)
    made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(True))
    made.min(0)
    if panel.unit == "percentunit":
        made.max(1).color_scheme(db.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_GR_YL_RD))


def _look_bars(made: Any, panel: Panel) -> None:
    made.legend(_legend()).tooltip(_tooltip()).bar_width(0.8).fill_opacity(85)
    horizontal = shape.VizOrientation.HORIZONTAL
    made.orientation(horizontal if panel.sideways else shape.VizOrientation.VERTICAL)
    made.show_value(shape.VisibilityMode.NEVER if panel.by_day else shape.VisibilityMode.AUTO)
    if panel.by_day:
        made.x_tick_label_spacing(100)
    if panel.soft_min is not None:
        made.axis_soft_min(panel.soft_min)
    if panel.stacked:
        made.stacking(shape.StackingMode.NORMAL)


def _look_history(made: Any, panel: Panel) -> None:
    made.min(0).max(1).color_scheme(db.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_RD_YL_GR))
    made.show_value(shape.VisibilityMode.NEVER).row_height(0.9).legend(
        common.VizLegendOptions().show_legend(False)
    )


def _look_graph(made: Any, panel: Panel) -> None:
    """Nothing to set: nodes and edges say themselves how they look."""


_LOOKS: Mapping[str, Any] = {
    "stat": _look_stat,
    "timeseries": _look_lines,
    "table": _look_table,
    "bargauge": _look_bargauge,
    "barchart": _look_bars,
    "status-history": _look_history,
    "nodeGraph": _look_graph,
}


def _legend() -> common.VizLegendOptions:
    options = common.VizLegendOptions().show_legend(True)
    return options.placement(shape.LegendPlacement.BOTTOM).display_mode(shape.LegendDisplayMode.LIST)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(shape.TooltipDisplayMode.MULTI)


def class_columns(*names: str) -> list[Column]:
    """Columns for load classes, named and coloured as everywhere."""
    return [Column(name, CLASSES[name][0], color=CLASSES[name][1]) for name in names]


# -- boards ----------------------------------------------------------------------------------------


def uid(name: str, lang: Lang) -> str:
    """Identifier of a board in a language."""
    return f"wattline-{name}" if lang is Lang.EN else f"wattline-{name}-{lang.value}"


def _localised(url: str, lang: Lang) -> str:
    """`url` with ``board:NAME`` replaced by the address of that board, and ``{lang}`` by the language."""
    url = url.replace("{lang}", lang.value)
    if not url.startswith("board:"):
        return url
    name, _, query = url.removeprefix("board:").partition("?")
    return f"/d/{uid(name, lang)}?{query}"


def _link(title: str, url: str, lang: Lang) -> db.DashboardLink:
    return db.DashboardLink(title).type(model.DashboardLinkType.LINK).url(_localised(url, lang))


def build_board(board: Board, lang: Lang) -> model.Dashboard:
    """A board in one language."""
    made = (
        db.Dashboard(board.title.in_(lang))
        .uid(uid(board.uid, lang))
        .description(board.about.in_(lang))
        .tags(["wattline", lang.value])
        .timezone("browser")
        .refresh(board.refresh)
        .time(board.start, "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in _variables(board, lang):
        made.with_variable(variable)
    for link in _board_links(board, lang):
        made.link(link)
    for marks in board.marks:
        made.annotation(_annotation(marks, lang))
    found = made.build()
    found.panels = list(_placed(board, lang))
    return found


def _placed(board: Board, lang: Lang) -> list[Any]:
    found: list[Any] = []
    y = 0
    for row in board.rows:
        if row.heading is not None:
            heading = db.Row(row.heading.in_(lang)).build()
            heading.id_val = len(found) + 1
            heading.grid_pos = model.GridPos(h=1, w=COLUMNS, x=0, y=y)
            found.append(heading)
            y += 1
        x = 0
        for cell in row.cells:
            place = model.GridPos(h=row.height, w=cell.width, x=x, y=y)
            built = build_panel(cell.panel, lang).id(len(found) + 1).grid_pos(place).build()
            if cell.panel.kind == "table":
                built.options.footer = None  # the SDK's default, which Grafana has no more
            found.append(built)
            x += cell.width
        y += row.height
    return found


_LINKS = Text("Boards", "看板")
_REPORTS = Text("Reports", "月报")
_ALARMS = Text("Alarms", "告警")


def _annotation(marks: Marks, lang: Lang) -> db.AnnotationQuery:
    made = db.AnnotationQuery().name(marks.name.in_(lang)).datasource(DATABASE).enable(True)
    return made.icon_color(marks.color).target(annotation(marks.sql, lang))


def _board_links(board: Board, lang: Lang) -> list[db.DashboardLink]:
    boards = db.DashboardLink(_LINKS.in_(lang)).type(model.DashboardLinkType.DASHBOARDS)
    boards.tags(["wattline", lang.value]).as_dropdown(True).keep_time(False).include_vars(True)
    reports = db.DashboardLink(_REPORTS.in_(lang)).type(model.DashboardLinkType.LINK)
    page = "/sites/${site}/reports" if "site" in board.variables else "/reports"
    reports.url(f"${{wattline}}{page}?lang={lang.value}").icon("doc").target_blank(True)
    alarms = db.DashboardLink(_ALARMS.in_(lang)).type(model.DashboardLinkType.LINK)
    return [boards, reports, alarms.url(f"${{wattline}}/alarms?lang={lang.value}").target_blank(True)]


WINDOWS: Mapping[str, Text] = {name: WORDS[name] for name in ("24h", "7d", "30d", "mtd", "ytd", "12mo")}
ADDRESS_QUERY = "label_values(wattline_console_info, url)"
"""Where links to pages lead: the service says it (WATTLINE_PUBLIC_URL), so it is set once for all boards."""


def _variables(board: Board, lang: Lang) -> list[Any]:
    made: list[Any] = [
        _source_variable("prometheus", "prometheus", "Prometheus", lang),
        _source_variable("database", "grafana-postgresql-datasource", "Wattline", lang),
    ]
    made += [_VARIABLES[name](lang) for name in board.variables]
    address = Text("Wattline address", "Wattline 地址").in_(lang)
    hidden = model.VariableHide.HIDE_VARIABLE
    where = db.QueryVariable("wattline").label(address).datasource(PROMETHEUS).query(ADDRESS_QUERY)
    where.refresh(model.VariableRefresh.ON_DASHBOARD_LOAD).sort(model.VariableSort.DISABLED)
    made.append(where.hide(hidden))
    return made


def _source_variable(name: str, plugin: str, label: str, lang: Lang) -> Any:
    text = Text(f"Data source {label}", f"数据源 {label}").in_(lang)
    return db.DatasourceVariable(name).type(plugin).label(text).hide(model.VariableHide.HIDE_VARIABLE)


def _query_variable(name: str, label: Text, sql: str, lang: Lang) -> Any:
    made = db.QueryVariable(name).label(label.in_(lang)).datasource(DATABASE)
    made.query(sql).refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.sort(model.VariableSort.DISABLED)


SITE_SQL = "SELECT site AS __value, name AS __text FROM v_site ORDER BY site"
ROOM_SQL = (
    "SELECT DISTINCT coalesce(nullif(room, ''), '-') AS room FROM v_meter "
    "WHERE site = ${site:sqlstring} ORDER BY 1"
)


def _site_variable(lang: Lang) -> Any:
    return _query_variable("site", Text("Site", "数据中心"), SITE_SQL, lang)


def _room_variable(lang: Lang) -> Any:
    made = _query_variable("room", Text("Room", "机房"), ROOM_SQL, lang).multi(True).include_all(True)
    every = model.VariableOption(selected=True, text=Text("All", "全部").in_(lang), value="$__all")
    return made.current(every)


def _window_variable(lang: Lang) -> Any:
    pairs = ", ".join(f"{text.in_(lang)} : {name}" for name, text in WINDOWS.items())
    first = model.VariableOption(selected=True, text=WINDOWS["ytd"].in_(lang), value="ytd")
    label = Text("Window", "统计时段").in_(lang)
    return db.CustomVariable("window").label(label).values(pairs).current(first)


_VARIABLES: Mapping[str, Any] = {"site": _site_variable, "room": _room_variable, "window": _window_variable}
