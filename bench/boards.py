"""Boards: how long the SQL of every panel takes on 13 months of two sites; the slowest of each board."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench.table import Row
from grafana.__main__ import FOLDER
from grafana.ask import Asker
from grafana.demo import live
from tests.programs import find_program

TITLE = "Boards on 13 months of two sites"
TARGET_S = 0.2
RUNS = 5


def run() -> list[Row]:
    """The slowest panel of each English board, by the median of its times."""
    with (
        live(find_program("prometheus"), days=None) as running,
        psycopg.connect(running.database, autocommit=True) as connection,
    ):
        asker = Asker(running.prometheus, connection)
        return [_slowest(asker, path) for path in sorted((FOLDER / "en").glob("*.json"))]


def _slowest(asker: Asker, path: Path) -> Row:
    board = json.loads(path.read_text("utf-8"))
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(RUNS):
        for answer in asker.ask(board, "sh1", datetime.now(UTC)):
            if "rawSql" in answer.query:
                times[answer.panel["title"]].append(answer.took_s)
    panel, slowest_s = max(
        ((name, statistics.median(took)) for name, took in times.items()), key=lambda one: one[1]
    )
    told = f"{slowest_s * 1000:.0f} ms ({panel})"
    return Row(
        f"board {path.stem}, slowest of {len(times)} panels", told, "", None, f"<= {TARGET_S * 1000:.0f} ms"
    )
