"""Every query of every panel and rule against a running demo and a real Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from grafana.__main__ import FOLDER
from grafana.ask import Answer, Asker
from grafana.demo import Live, has_data, live, wait
from tests.programs import need_program
from tests.waiting import until

MOST_ROWS = 200_000
"""A panel's SQL looks at fewer rows than this, with 13 months of two sites in the database."""
NOT_OF_THE_DEMO = {
    *("Phase currents, newest of the last hour", "各相电流，最近一小时最新值"),
    *("Surcharge expected for the year", "全年加价电费预测"),
}
"""Panels of points that the demo's plant lacks, and of rules that do not hold for it; ``test_figures.py`` has
some."""
PATHS = sorted(FOLDER.rglob("*.json"))

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def running() -> Iterator[Live]:
    with live(need_program("prometheus"), days=None, with_alarms=True) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def asker(running: Live) -> Iterator[Asker]:
    with psycopg.connect(running.database, autocommit=True) as connection:
        yield Asker(running.prometheus, connection)


def answers(asker: Asker, board: dict[str, Any]) -> list[Answer]:
    return list(asker.ask(board, "sh1", datetime.now(UTC)))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_query_of_every_panel_returns_data(path: Any, asker: Asker) -> None:
    board = json.loads(path.read_text("utf-8"))
    with suppress(TimeoutError):  # a rate needs two scrapes
        until(lambda: not _empty(asker, board), timeout_s=90)
    assert _empty(asker, board) == set()
    assert answers(asker, board)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_panel_reads_the_whole_history(path: Any, asker: Asker) -> None:
    """Plans, not times: how long a panel takes is in ``bench/boards.py``."""
    read = asker.rows_read(json.loads(path.read_text("utf-8")), "sh1")
    assert sum(read.values()) > 0
    assert {title: rows for title, rows in read.items() if rows > MOST_ROWS} == {}


def _empty(asker: Asker, board: dict[str, Any]) -> set[str]:
    empty = {a.panel["title"] for a in answers(asker, board) if not a.rows}
    return empty - NOT_OF_THE_DEMO


def test_the_address_of_the_pages_is_known(running: Live) -> None:
    """The boards' variable asks Prometheus for it; it is set once, in the service."""
    reply = httpx.get(f"{running.prometheus}/api/v1/label/url/values?match[]=wattline_console_info")
    assert reply.json()["data"] == [running.wattline.replace("127.0.0.1", "localhost")]


def test_columns_that_panels_name_are_in_the_answers(asker: Asker) -> None:
    for path in PATHS:
        board = json.loads(path.read_text("utf-8"))
        for answer in answers(asker, board):
            if "rawSql" not in answer.query or answer.query["format"] != "table":
                continue
            named = {o["matcher"]["options"] for o in answer.panel["fieldConfig"]["overrides"]}
            if len(answer.panel["targets"]) == 1:
                assert named <= set(answer.columns), (answer.panel["title"], named - set(answer.columns))


def test_every_rule_is_evaluated_and_every_recorded_series_exists(running: Live) -> None:
    def healthy() -> list[dict[str, Any]]:
        groups = httpx.get(f"{running.prometheus}/api/v1/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] == "ok" for rule in rules) else []

    rules = wait(healthy, "all rules evaluated")
    assert len([r for r in rules if r["type"] == "alerting"]) >= 7
    for rule in (r for r in rules if r["type"] == "recording"):
        wait(lambda name=rule["name"]: has_data(running.prometheus, name), rule["name"])


def test_what_alerts_compare_has_data(running: Live) -> None:
    """An alert that does not fire gives nothing; its sides must give something."""
    for query in (
        'wattline_site_pue_ratio{window=~"24h|mtd|ytd"}',
        "wattline_site_pue_limit_ratio",
        "wattline_meter_up",
        'wattline_site_coverage_ratio{window=~"24h|mtd"}',
        "wattline_site_evaluation_timestamp_seconds",
        'wattline_alarm_threshold{rule="pue_24h",severity="warning"}',
        'wattline_alarm_threshold{rule="coverage_low",severity="warning"}',
        'wattline_alarm_threshold{rule="no_evaluation",severity="critical"}',
        'up{job="wattline"}',
    ):
        assert has_data(running.prometheus, query), query


def test_the_reading_role_can_do_nothing_else(asker: Asker) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        asker.connection.execute("SELECT * FROM outlooks")
    with pytest.raises(psycopg.Error):
        asker.connection.execute("DELETE FROM v_report")
