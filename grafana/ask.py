"""Ask what a panel asks, without Grafana: its variables and macros expanded, its queries run.

The macros are those of Grafana's PostgreSQL data source, as far as our boards use them; one that is not
known here is an error, not a query that is sent as it stands.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg

Json = dict[str, Any]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "M": 30 * 86400, "y": 365 * 86400}
STEPS_S = (900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Widths of a step of a chart; the first that gives at most :data:`MOST_STEPS` is taken."""
MOST_STEPS = 1000


@dataclass(frozen=True)
class Span:
    """The time range of a board."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, board: Json, end: datetime) -> Span:
        """The range that a board shows first, e.g. ``now-7d`` to now."""
        found = re.fullmatch(r"now-(\d+)([mhdMy])", board["time"]["from"])
        if found is None:
            raise ValueError(f"time range {board['time']['from']!r}; use now-<number><unit>")
        return cls(end - timedelta(seconds=int(found[1]) * _UNITS[found[2]]), end)

    @property
    def step_s(self) -> int:
        """Width of a chart's step. [s]"""
        length_s = (self.end - self.start).total_seconds()
        return next((s for s in STEPS_S if length_s / s <= MOST_STEPS), STEPS_S[-1])


@dataclass(frozen=True)
class Answer:
    """What one query of a panel gave."""

    panel: Json
    query: Json
    columns: list[str]
    rows: list[tuple[Any, ...]]
    took_s: float


def panels(board: Json) -> list[Json]:
    """The panels of a board that show something; headings are left out."""
    return [p for p in board["panels"] if p["type"] != "row"]


def variables_of(board: Json, connection: psycopg.Connection[Any], site: str) -> dict[str, list[str]]:
    """A value for every variable of a board: `site`, every room of it, and the window shown first."""
    found = {"site": [site], "wattline": ["http://localhost:8080"]}
    by_sql = (v for v in board["templating"]["list"] if "${database}" in str(v.get("datasource")))
    sql = {v["name"]: v["query"] for v in by_sql if v["name"] != "site"}
    for variable in board["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "custom":
            found[name] = [variable["current"]["value"]]
        elif name in sql:
            cursor = connection.execute(filled(sql[name], found).encode())
            found[name] = [row[0] for row in cursor]
    return found


def filled(text: str, values: Mapping[str, list[str]]) -> str:
    """`text` with the variables in place."""

    def place(found: re.Match[str]) -> str:
        name, style = found[1] or found[3], found[2]
        if style == "sqlstring":
            return ",".join("'" + v.replace("'", "''") + "'" for v in values[name])
        return "|".join(values[name])

    return re.sub(r"\$\{(\w+)(?::(\w+))?\}|\$(?!__)([a-z]\w*)", place, text)


def sql_of(text: str, values: Mapping[str, list[str]], span: Span) -> str:
    """A panel's SQL with variables and macros in place.

    Raises
    ------
    ValueError
        If a macro is not known.
    """
    start, end = f"'{span.start.isoformat()}'", f"'{span.end.isoformat()}'"
    out = filled(text, values).replace("$__interval_ms", str(span.step_s * 1000))
    out = out.replace("$__timeFrom()", start).replace("$__timeTo()", end)
    unknown = re.search(r"\$__\w+", out)
    if unknown:
        raise ValueError(f"macro {unknown[0]} is not known; use one of those in {__name__}")
    return out


def _scanned(node: Json) -> Iterator[int]:
    """Rows that every scan of a plan looked at, those that a filter threw away too."""
    if node["Node Type"].endswith("Scan"):
        looked = node["Actual Rows"] + sum(node.get(f"Rows Removed by {why}", 0) for why in _REMOVED)
        yield math.ceil(looked * node["Actual Loops"])
    for child in node.get("Plans", ()):
        yield from _scanned(child)


_REMOVED = ("Filter", "Index Recheck")


@dataclass(frozen=True)
class Asker:
    """Runs the queries of boards against a Prometheus and a database."""

    prometheus: str
    """Base address."""
    connection: psycopg.Connection[Any]
    """Of the reading role, in autocommit."""

    def ask(self, board: Json, site: str, now: datetime | None = None) -> Iterator[Answer]:
        """Every query of every panel of a board, with what it gave."""
        span = Span.of(board, now or datetime.now(UTC))
        values = variables_of(board, self.connection, site)
        for panel in panels(board):
            for query in panel["targets"]:
                yield (
                    self._sql(panel, query, values, span)
                    if "rawSql" in query
                    else self._promql(panel, query, values, span)
                )

    def rows_read(self, board: Json, site: str, now: datetime | None = None) -> dict[str, int]:
        """Rows that each SQL query of a board takes from tables and indexes, by the plan that really ran.

        Unlike a time it does not depend on what else the machine does.
        """
        span = Span.of(board, now or datetime.now(UTC))
        values = variables_of(board, self.connection, site)
        return {
            f"{panel['title']} {query['refId']}": self._rows_read(sql_of(query["rawSql"], values, span))
            for panel in panels(board)
            for query in panel["targets"]
            if "rawSql" in query
        }

    def _rows_read(self, text: str) -> int:
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}"
        row = self.connection.execute(explain.encode()).fetchone()
        return sum(_scanned(row[0][0]["Plan"])) if row else 0

    def _sql(self, panel: Json, query: Json, values: Mapping[str, list[str]], span: Span) -> Answer:
        text = sql_of(query["rawSql"], values, span)
        began = time.perf_counter()
        cursor = self.connection.execute(text.encode())
        rows = cursor.fetchall()
        took_s = time.perf_counter() - began
        return Answer(panel, query, [c.name for c in cursor.description or ()], rows, took_s)

    def _promql(self, panel: Json, query: Json, values: Mapping[str, list[str]], span: Span) -> Answer:
        text = filled(query["expr"].replace("$__rate_interval", "1m"), values)
        began = time.perf_counter()
        rows = list(self.promql(text, instant=query.get("instant", False), now=span.end))
        return Answer(panel, query, ["labels", "at", "value"], rows, time.perf_counter() - began)

    def promql(
        self, text: str, *, instant: bool, now: datetime
    ) -> Iterator[tuple[dict[str, str], float, float]]:
        """Labels, time and value of every sample of a query, over the last 15 minutes unless `instant`."""
        if instant:
            path, when = "query", {"time": now.timestamp()}
        else:
            path, when = "query_range", {"start": now.timestamp() - 900, "end": now.timestamp(), "step": 5}
        reply = httpx.get(f"{self.prometheus}/api/v1/{path}", params={"query": text, **when}, timeout=30)
        if reply.status_code != 200:
            raise ValueError(f"{text}: {reply.text}")
        for series in reply.json()["data"]["result"]:
            for at, value in series.get("values") or [series["value"]]:
                yield series["metric"], float(at), float(value)
