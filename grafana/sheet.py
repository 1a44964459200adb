"""A contact sheet: every panel of every board drawn from real answers, to be looked at without Grafana.

It shows what a panel has to say, with Grafana's grid and names; it does not imitate Grafana to the pixel.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import vl_convert

from grafana.__main__ import FOLDER
from grafana.ask import Answer, Asker, Json
from grafana.demo import Live, live, program_named
from grafana.kit import COLUMNS

ROW_PX, COLUMN_PX = 34, 60
MOST_ROWS = 40
SCALES = {
    "watt": (1000.0, "kW"),
    "kwatt": (1.0, "kW"),
    "kwatth": (1.0, "kWh"),
    "percentunit": (0.01, "%"),
    "celsius": (1.0, "°C"),
    "s": (1.0, "s"),
    "reqps": (1.0, "req/s"),
}
"""Unit of Grafana: what a value is divided by, and what stands behind it."""


def number(value: Any, unit: str, decimals: int | None) -> str:
    """A value as it is read."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    divisor, suffix = SCALES.get(unit, (1.0, ""))
    places = decimals if decimals is not None else (0 if float(value).is_integer() else 2)
    return f"{value / divisor:,.{places}f} {suffix}".strip()


def sheet(asker: Asker, boards: Iterable[Json], site: str) -> str:
    """The page with all boards."""
    parts = "".join(_board(board, list(asker.ask(board, site))) for board in boards)
    return f"<!doctype html><meta charset=utf-8><title>Wattline boards</title><style>{_STYLE}</style>{parts}"


_STYLE = f"""
body {{ background: #111217; color: #ccccdc; margin: 12px;
  font: 13px/1.35 Inter, "Noto Sans CJK SC", sans-serif }}
.board {{ position: relative; width: {COLUMNS * COLUMN_PX}px; margin-bottom: 40px }}
.panel {{ position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid #2a2d33;
  padding: 6px 8px; overflow: hidden }}
h1 {{ font-size: 20px }} h2 {{ font-size: 13px; margin: 0 0 4px }} p {{ margin: 0 0 10px; color: #9a9aa8 }}
.big {{ font-size: 30px; font-weight: 600; text-align: center; padding-top: 14px }}
.red {{ color: #f2495c }} .green {{ color: #73bf69 }} .blue {{ color: #5794f2 }} .orange {{ color: #ff9830 }}
table {{ border-collapse: collapse; width: 100%; font-size: 11.5px }} td, th {{ text-align: left;
  padding: 2px 6px; border-bottom: 1px solid #24272d; white-space: nowrap }}
th {{ color: #8e8e9e; font-weight: 500 }}
.bar {{ background: linear-gradient(90deg, #73bf69, #e0b400, #f2495c); height: 11px }}
.none {{ color: #f2495c }}
"""


def _board(board: Json, answers: Sequence[Answer]) -> str:
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"]) * ROW_PX
    by_panel: dict[int, list[Answer]] = {}
    for answer in answers:
        by_panel.setdefault(answer.panel["id"], []).append(answer)
    chosen = {
        f"${v['name']}": v["current"]["text"]
        for v in board["templating"]["list"]
        if isinstance(v.get("current", {}).get("text"), str)
    }
    drawn = "".join(_panel(found[0].panel, found, chosen) for found in by_panel.values())
    title, about = html.escape(board["title"]), html.escape(board["description"])
    return f'<h1>{title}</h1><p>{about}</p><div class=board style="height:{height}px">{drawn}</div>'


def _panel(panel: Json, answers: Sequence[Answer], variables: dict[str, str]) -> str:
    place = panel["gridPos"]
    box = (
        f"left:{place['x'] * COLUMN_PX}px;top:{place['y'] * ROW_PX}px;"
        f"width:{place['w'] * COLUMN_PX - 6}px;height:{place['h'] * ROW_PX - 6}px"
    )
    has_rows = any(answer.rows for answer in answers)
    body = _DRAW[panel["type"]](panel, answers) if has_rows else _nothing(panel)
    title, about = html.escape(panel["title"]), html.escape(panel["description"], quote=True)
    for name, text in variables.items():
        title = title.replace(name, html.escape(text))
    return f'<div class=panel style="{box}" title="{about}"><h2>{title}</h2>{body}</div>'


def _nothing(panel: Json) -> str:
    return f"<div class='big none'>{html.escape(panel['fieldConfig']['defaults']['noValue'])}</div>"


def _defaults(panel: Json) -> tuple[str, int | None]:
    defaults = panel["fieldConfig"]["defaults"]
    return defaults["unit"], defaults.get("decimals")


def _overrides(panel: Json) -> dict[str, Json]:
    return {
        override["matcher"]["options"]: {p["id"]: p.get("value") for p in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }


# -- single values ---------------------------------------------------------------------------------


def _last(answer: Answer) -> Any:
    return answer.rows[-1][-1] if answer.rows else None


def _stat(panel: Json, answers: Sequence[Answer]) -> str:
    unit, decimals = _defaults(panel)
    value = _last(answers[0])
    return f"<div class='big {_colour(panel, answers)}'>{html.escape(number(value, unit, decimals))}</div>"


def _colour(panel: Json, answers: Sequence[Answer]) -> str:
    """Red from the limit on that the panel asked for."""
    if len(answers) < 2 or _last(answers[0]) is None or _last(answers[1]) is None:
        return "blue"
    return "red" if float(_last(answers[0])) >= float(_last(answers[1])) else "green"


def _gauges(panel: Json, answers: Sequence[Answer]) -> str:
    unit, decimals = _defaults(panel)
    rows = [(_name(answer, row), float(row[-1])) for answer in answers for row in answer.rows]
    most = 1.0 if unit == "percentunit" else max(value for _, value in rows)
    cells = (
        f"<tr><td>{html.escape(name)}<td style='width:55%'>"
        f"<div class=bar style='width:{_share(value, most)}%'></div><td>{number(value, unit, decimals)}"
        for name, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _share(value: float, most: float) -> int:
    return round(100 * min(max(value / most, 0), 1)) if most else 0


def _name(answer: Answer, row: tuple[Any, ...]) -> str:
    """Name of a series: its legend with the labels in place, or the first column."""
    if answer.columns[0] != "labels":
        return str(row[0])
    legend = str(answer.query.get("legendFormat", ""))
    for label, value in row[0].items():
        legend = legend.replace("{{" + label + "}}", value)
    return legend


def _hex(color: str) -> str:
    """A colour's name in Grafana's dark palette."""
    return {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}.get(color, color)


# -- tables ----------------------------------------------------------------------------------------


def _table(panel: Json, answers: Sequence[Answer]) -> str:
    (answer, *_) = answers
    named = _overrides(panel)
    heads = "".join(f"<th>{html.escape(str(named.get(c, {}).get('displayName', c)))}" for c in answer.columns)
    lines = []
    for row in answer.rows[:MOST_ROWS]:
        cells = zip(answer.columns, row, strict=True)
        lines.append("<tr>" + "".join(_cell(named.get(column, {}), value) for column, value in cells))
    return f"<table><tr>{heads}{''.join(lines)}</table>"


def _cell(override: Json, value: Any) -> str:
    for mapping in override.get("mappings", ()):
        found = mapping["options"].get(str(value))
        if found:
            color = _hex(found.get("color", "inherit"))
            return f"<td style='color:{color}'>{html.escape(found['text'])}"
    shown = html.escape(number(value, override.get("unit", ""), override.get("decimals")))
    if override.get("custom.cellOptions", {}).get("type") == "gauge" and value is not None:
        width = round(0.9 * _share(float(value), 1.0))
        return f"<td><div class=bar style='width:{width}px;display:inline-block'></div> {shown}"
    return f"<td>{shown}"


def _graph(panel: Json, answers: Sequence[Answer]) -> str:
    """The tree as indented text: feeds with their sub-meters, and the energy."""
    nodes = {row[0]: row for row in answers[0].rows}
    below: dict[str, list[str]] = {}
    for _, source, target, _ in answers[1].rows:
        below.setdefault(source, []).append(target)
    fed = {target for targets in below.values() for target in targets}
    seen: set[str] = set()
    lines = [line for name in nodes if name not in fed for line in _branch(name, 0, nodes, below, seen)]
    return f"<table>{''.join(lines)}</table>"


def _branch(
    name: str, depth: int, nodes: dict[str, Any], below: dict[str, list[str]], seen: set[str]
) -> Iterator[str]:
    _, title, stage, energy_kwh, share, _ = nodes[name]
    yield (
        f"<tr><td style='padding-left:{6 + 18 * depth}px'>{html.escape(title)}<td>{stage}"
        f"<td style='width:130px'><div class=bar style='width:{_share(share, 1)}%'></div>"
        f"<td style='text-align:right'>{number(energy_kwh, 'kwatth', 0)}"
    )
    if name not in seen:
        seen.add(name)
        for child in below.get(name, ()):
            yield from _branch(child, depth + 1, nodes, below, seen) if child not in seen else ()


# -- charts ----------------------------------------------------------------------------------------


def _lines(panel: Json, answers: Sequence[Answer]) -> str:
    named, custom = _overrides(panel), panel["fieldConfig"]["defaults"].get("custom", {})
    points = [point for answer in answers for point in _points(answer)]
    is_stacked = custom.get("stacking", {}).get("mode") == "normal"
    mark: Json = {"type": "line", "strokeWidth": 1.3}
    if is_stacked or custom.get("drawStyle") == "bars":
        mark = {"type": "bar"} if custom.get("drawStyle") == "bars" else {"type": "area", "opacity": 0.75}
    dashed = {name for name, override in named.items() if "custom.lineStyle" in override}
    layers = [_layer([p for p in points if p["series"] not in dashed], mark, panel, stack=is_stacked)]
    if dashed:
        rule = {"type": "line", "strokeDash": [6, 4], "strokeWidth": 1.6}
        layers.append(_layer([p for p in points if p["series"] in dashed], rule, panel, stack=False))
    return _svg(panel, {"layer": layers})


def _points(answer: Answer) -> Iterator[Json]:
    if answer.columns[0] == "labels":
        for row in answer.rows:
            yield {"at": row[1] * 1000, "series": _name(answer, row), "value": row[2]}
        return
    for row in answer.rows:
        at = row[0].timestamp() if isinstance(row[0], datetime) else float(row[0])
        cells = dict(zip(answer.columns, row, strict=True))
        if "metric" in cells:
            yield {"at": at * 1000, "series": str(cells["metric"]), "value": _float(cells["value"])}
        else:
            for name in answer.columns[1:]:
                yield {"at": at * 1000, "series": name, "value": _float(cells[name])}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _layer(points: list[Json], mark: Json, panel: Json, *, stack: bool) -> Json:
    divisor, suffix = SCALES.get(_defaults(panel)[0], (1.0, ""))
    named = _overrides(panel)
    for point in points:
        point["value"] = None if point["value"] is None else point["value"] / divisor
    names = list(dict.fromkeys(point["series"] for point in points))
    scale: Json = {"scheme": "tableau20"}
    if all("color" in named.get(name, {}) for name in names):
        known = [name for name, override in named.items() if "color" in override]
        scale = {
            "domain": [_shown(named, name) for name in known],
            "range": [_hex(named[name]["color"]["fixedColor"]) for name in known],
        }
    times: Json = {}
    if mark["type"] == "bar":
        steps = max(len({point["at"] for point in points}), 1)
        width = max(0.7 * (panel["gridPos"]["w"] * COLUMN_PX - 90) / (steps + 1), 1)
        mark, times = {**mark, "width": width}, {"padding": width / 2 + 4}
    values = [{**point, "series": _shown(named, point["series"])} for point in points]
    is_filled = mark["type"] in ("bar", "area")
    return {
        "data": {"values": values},
        "mark": mark,
        "encoding": {
            "x": {"field": "at", "type": "temporal", "title": None, "scale": times},
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": suffix or None,
                "stack": "zero" if stack else None,
                "scale": _extent(panel, is_filled=is_filled),
            },
            "color": {"field": "series", "type": "nominal", "scale": scale, "title": None},
        },
    }


def _extent(panel: Json, *, is_filled: bool) -> Json:
    lowest = panel["fieldConfig"]["defaults"].get("custom", {}).get("axisSoftMin")
    return {"domainMin": lowest, "clamp": True} if lowest else {"zero": is_filled}


def _shown(named: dict[str, Json], name: str) -> str:
    return str(named.get(name, {}).get("displayName", name))


def _bars(panel: Json, answers: Sequence[Answer]) -> str:
    (answer, *_) = answers
    named = _overrides(panel)
    divisor, suffix = SCALES.get(_defaults(panel)[0], (1.0, ""))
    head, series = named.get(answer.columns[0], {}), answer.columns[1:]
    values = [
        {"name": _word(head, row[0]), "series": _shown(named, column), "value": float(value) / divisor}
        for row in answer.rows
        for column, value in zip(series, row[1:], strict=True)
        if value is not None
    ]
    is_stacked = panel["options"].get("stacking") == "normal"
    across, along = ("y", "x") if panel["options"].get("orientation") == "horizontal" else ("x", "y")
    lowest = panel["fieldConfig"]["defaults"].get("custom", {}).get("axisSoftMin")
    height: Json = {"field": "value", "type": "quantitative", "title": suffix or None}
    if all(float(value or 0).is_integer() for row in answer.rows for value in row[1:]):
        height["axis"] = {"tickMinStep": 1, "format": "d"}
    if lowest is not None:
        height |= {"scale": {"domainMin": lowest, "clamp": True}, "stack": None}
    colors = [_hex(named.get(column, {}).get("color", {}).get("fixedColor", "blue")) for column in series]
    encoding: Json = {
        across: {"field": "name", "type": "nominal", "title": None, "sort": None},
        along: height,
        "color": {
            "field": "series",
            "type": "nominal",
            "title": None,
            "scale": {"domain": [_shown(named, c) for c in series], "range": colors},
        },
    }
    if len(series) > 1 and not is_stacked:
        encoding[f"{across}Offset"] = {"field": "series"}
    return _svg(panel, {"data": {"values": values}, "mark": "bar", "encoding": encoding})


def _word(override: Json, value: Any) -> str:
    """A value as the panel's mappings call it."""
    mapped = (mapping["options"].get(str(value)) for mapping in override.get("mappings", ()))
    return str(next((found["text"] for found in mapped if found), value))


def _history(panel: Json, answers: Sequence[Answer]) -> str:
    points = [point for answer in answers for point in _points(answer)]
    for point in points:
        day = datetime.fromtimestamp(point["at"] / 1000, UTC) + timedelta(hours=12)
        point["day"] = f"{day:%m-%d}"
    scale = {"domain": [0, 0.5, 1], "range": ["#f2495c", "#e0b400", "#37872d"]}
    spec = {
        "data": {"values": points},
        "mark": "rect",
        "encoding": {
            "x": {"field": "day", "type": "ordinal", "title": None},
            "y": {"field": "series", "type": "nominal", "title": None, "axis": {"labelFontSize": 8}},
            "color": {"field": "value", "type": "quantitative", "scale": scale, "legend": None},
        },
    }
    return _svg(panel, spec)


def _svg(panel: Json, spec: Json) -> str:
    place = panel["gridPos"]
    size = {"width": place["w"] * COLUMN_PX - 26, "height": place["h"] * ROW_PX - 46}
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        **size,
        "autosize": {"type": "fit", "contains": "padding"},
        "background": "#181b1f",
        "config": _CONFIG,
        **spec,
    }
    return str(vl_convert.vegalite_to_svg(whole))


_CONFIG: Json = {
    "axis": {
        "labelColor": "#9a9aa8",
        "titleColor": "#9a9aa8",
        "gridColor": "#26292f",
        "domainColor": "#3a3d43",
    },
    "legend": {"labelColor": "#ccccdc", "orient": "bottom", "labelFontSize": 10, "columns": 8},
    "view": {"stroke": None},
    "font": "Noto Sans CJK SC, Noto Sans, sans-serif",
}

_DRAW = {
    "stat": _stat,
    "timeseries": _lines,
    "table": _table,
    "bargauge": _gauges,
    "barchart": _bars,
    "status-history": _history,
    "nodeGraph": _graph,
}


def main(arguments: Sequence[str]) -> int:
    """Write the contact sheet; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--site", default="sh1")
    parser.add_argument("--days", type=int, help="days of history; default: all 13 months")
    parser.add_argument("--prometheus", help="one that runs; default: a demo is started")
    parser.add_argument("--database", help="URL of the reading role, with --prometheus")
    chosen = parser.parse_args(arguments)
    boards = [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.rglob("*.json"))]
    with ExitStack() as stack:
        if chosen.prometheus:
            running = Live("", chosen.database, chosen.prometheus)
        else:
            running = stack.enter_context(live(program_named("prometheus"), chosen.days, with_alarms=True))
        connection = stack.enter_context(psycopg.connect(running.database, autocommit=True))
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(sheet(Asker(running.prometheus, connection), boards, chosen.site), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
