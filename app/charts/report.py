"""Charts of reports, HTML and PDF alike: Vega-Lite, rendered by vl-convert without a browser.

Colours are distinguishable with colour vision deficiency, and lines carry their unit. Nothing is
interpolated: what is None leaves a hole.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

FONTS = ("Noto Sans SC", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif")
COLOURS = ("#1b6ca8", "#e07b39", "#4f9d69", "#9b5fa5", "#c9a227", "#7f8c8d")
LIMIT = "#b3261e"
INK = "#26323a"
GRID = "#e3e8eb"

_NUMBERED = re.compile(r"\bclip(\d+)\b")
"""Ids that the renderer counts on from chart to chart; counted anew the same chart is the same text."""
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


@dataclass(frozen=True)
class Series:
    """One line, or one colour of bars."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Lines:
    """Values over days, months or times; `limits` are drawn across."""

    x: Sequence[str]
    series: Sequence[Series]
    unit: str
    limits: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Bars:
    """Bars per day, month or name; several series stand on top of each other."""

    x: Sequence[str]
    series: Sequence[Series]
    unit: str


@dataclass(frozen=True)
class HeatMap:
    """A value per row and column; None is left white."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    unit: str


@dataclass(frozen=True)
class Contributions:
    """Parts that add up to a change: to the right raises, to the left lowers."""

    names: Sequence[str]
    values: Sequence[float]
    unit: str


Chart = Lines | Bars | HeatMap | Contributions


def svg(chart: Chart, *, width: int = 640, height: int = 200) -> str:
    """The chart as an SVG of its own, with texts as texts.

    Parameters
    ----------
    width, height : int
        Of the plotted area. [px]
    """
    return _drawn(json.dumps(_whole(chart, width, height), ensure_ascii=False))


def forget() -> None:
    """Draw every chart anew, even one that was drawn before."""
    _drawn.cache_clear()


@lru_cache(maxsize=32)
def _drawn(spec: str) -> str:
    """Drawing takes time and memory, and the PDF of a report has the charts of its page."""
    import vl_convert  # a browser engine: only in a process that draws

    _register_fonts()
    drawn: str = vl_convert.vegalite_to_svg(spec)
    numbers: dict[str, int] = {}
    return _NUMBERED.sub(lambda m: f"clip{numbers.setdefault(m[1], len(numbers))}", drawn)


def font_folder() -> Path | None:
    """Folder of the packaged font with Chinese glyphs; None where it is not installed."""
    found = importlib.util.find_spec("pylopdf_fonts_zh_cn")
    return None if found is None or found.origin is None else Path(found.origin).parent


@cache
def _register_fonts() -> None:
    import vl_convert

    folder = font_folder()
    if folder is not None:
        vl_convert.register_font_directory(str(folder))


def _whole(chart: Chart, width: int, height: int) -> dict[str, Any]:
    text = {"font": ", ".join(FONTS), "fontSize": 11}
    label = {"labelFont": text["font"], "titleFont": text["font"], "labelColor": INK, "titleColor": INK}
    axis = {**label, "labelFontSize": 10, "titleFontSize": 11, "titleFontWeight": "normal", "gridColor": GRID}
    config = {
        "font": text["font"],
        "background": "white",
        "view": {"stroke": None},
        "axis": {**axis, "domainColor": "#9aa5ab", "tickColor": "#9aa5ab"},
        "legend": {**label, "labelFontSize": 10, "title": None, "orient": "top", "symbolType": "square"},
        "range": {"category": list(COLOURS)},
    }
    size = {"width": width, "height": _height(chart, height)}
    return {"$schema": _SCHEMA, "config": config, **size, **_spec(chart)}


def _height(chart: Chart, height: int) -> int:
    if isinstance(chart, HeatMap):
        return max(11 * len(chart.rows), 60)
    return 22 * len(chart.names) + 10 if isinstance(chart, Contributions) else height


def _spec(chart: Chart) -> dict[str, Any]:
    if isinstance(chart, Lines):
        return _lines(chart)
    if isinstance(chart, Bars):
        return _bars(chart)
    return _heat(chart) if isinstance(chart, HeatMap) else _contributions(chart)


def _long(x: Sequence[str], series: Sequence[Series]) -> dict[str, Any]:
    return {
        "values": [
            {"x": at, "name": one.name, "value": value, "order": order}
            for order, one in enumerate(series)
            for at, value in zip(x, one.values, strict=True)
        ]
    }


def _x(x: Sequence[str]) -> dict[str, Any]:
    crowded = len(x) > 14
    axis = {"title": None, "labelAngle": -45 if crowded else 0, "labelOverlap": True, "grid": False}
    return {"field": "x", "type": "ordinal", "sort": None, "axis": axis}


def _y(unit: str, *, zero: bool) -> dict[str, Any]:
    scale = {"zero": zero, "nice": True}
    return {
        "field": "value",
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": unit or None, "tickCount": 5},
    }


def _colour(series: Sequence[Series]) -> dict[str, Any]:
    names = [one.name for one in series]
    legend: dict[str, Any] = {} if len(names) > 1 else {"legend": None}
    return {"field": "name", "type": "nominal", "scale": {"domain": names}, **legend}


def _lines(chart: Lines) -> dict[str, Any]:
    line = {
        "data": _long(chart.x, chart.series),
        "mark": {
            "type": "line",
            "point": {"size": 22},
            "strokeWidth": 1.8,
            "invalid": "break-paths-show-domains",
        },
        "encoding": {
            "x": _x(chart.x),
            "y": _y(chart.unit, zero=False),
            "color": _colour(chart.series),
        },
    }
    return {"layer": [line, *(layer for name, at in chart.limits for layer in _limit(name, at))]}


def _limit(name: str, at: float) -> list[dict[str, Any]]:
    data = {"values": [{"value": at, "name": name}]}
    y = {"y": {"field": "value", "type": "quantitative"}}
    mark = {"type": "rule", "color": LIMIT, "strokeDash": [5, 3], "strokeWidth": 1.3}
    text = {"type": "text", "color": LIMIT, "align": "right", "baseline": "bottom", "dy": -2, "fontSize": 10}
    place = {"x": {"value": "width"}, **y, "text": {"field": "name", "type": "nominal"}}
    return [{"data": data, "mark": mark, "encoding": y}, {"data": data, "mark": text, "encoding": place}]


def _bars(chart: Bars) -> dict[str, Any]:
    return {
        "data": _long(chart.x, chart.series),
        "mark": {"type": "bar"},
        "encoding": {
            "x": _x(chart.x),
            "y": {**_y(chart.unit, zero=True), "stack": "zero"},
            "order": {"field": "order", "type": "quantitative"},
            "color": _colour(chart.series),
        },
    }


def _heat(chart: HeatMap) -> dict[str, Any]:
    values = [
        {"row": row, "column": column, "value": value}
        for row, cells in zip(chart.rows, chart.values, strict=True)
        for column, value in zip(chart.columns, cells, strict=True)
        if value is not None
    ]
    legend = {"title": chart.unit, "orient": "right", "gradientLength": 120, "titleFontSize": 10}
    return {
        "data": {"values": values},
        "mark": {"type": "rect", "stroke": "white", "strokeWidth": 0.4},
        "encoding": {
            "x": {
                "field": "column",
                "type": "ordinal",
                "sort": None,
                "axis": {"title": None, "labelAngle": 0},
            },
            "y": {"field": "row", "type": "ordinal", "sort": list(chart.rows), "axis": {"title": None}},
            "color": {
                "field": "value",
                "type": "quantitative",
                "scale": {"scheme": "viridis", "zero": False},
                "legend": legend,
            },
        },
    }


def _contributions(chart: Contributions) -> dict[str, Any]:
    values = [{"x": n, "value": v, "up": v > 0} for n, v in zip(chart.names, chart.values, strict=True)]
    colour = {"condition": {"test": "datum.up", "value": COLOURS[1]}, "value": COLOURS[2]}
    return {
        "data": {"values": values},
        "mark": {"type": "bar", "height": 13},
        "encoding": {
            "y": {"field": "x", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 240}},
            "x": {
                "field": "value",
                "type": "quantitative",
                "axis": {"title": chart.unit or None, "format": "+.3f", "tickCount": 6},
            },
            "color": colour,
        },
    }
