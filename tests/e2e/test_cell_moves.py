"""A site moves between two cells while its edge delivers, with everything killed on the way: as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.store.engine import make_engine
from tests.e2e.processes import PROGRAM, Running, running
from tests.e2e.test_edges import SITE, Meters
from tests.e2e.test_workers import HEAD
from tests.waiting import until

_PATIENCE_S = 240.0


class Cell:
    """A cell that serves without a worker: only its edge delivers."""

    def __init__(self, name: str, url: str, folder: Path, stack: ExitStack) -> None:
        self.name, self.database = name, make_engine(url)
        stack.callback(self.database.dispose)
        self.folder = folder / name
        self.folder.mkdir()
        self.environment = {
            "WATTLINE_DATABASE_URL": url,
            "WATTLINE_DATA_DIR": str(self.folder / "data"),
            "WATTLINE_CELL_ID": name,
            "WATTLINE_REQUIRE_KEYS": "true",
        }
        self.api = stack.enter_context(
            running(["serve", "--role", "api", "--port", "0"], self.environment, self.folder)
        )

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments, "--json"],
            env={**os.environ, **self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wattline(self, *arguments: str, **more: str) -> Any:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=_PATIENCE_S)
        assert process.returncode == 0, err
        return json.loads(out)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def readings(self) -> set[tuple[Any, ...]]:
        return set(self.rows("SELECT p.key, at, value FROM readings r JOIN points p ON p.id = r.point_id"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


_DELIVERED = re.compile(r"^wattline_edge_delivered_readings_total(?:{.*})? (\S+)$", re.M)


def delivered(edge: Running) -> int:
    found = _DELIVERED.search(edge.get("/metrics").text)
    return int(float(found[1])) if found else 0


@pytest.mark.timeout(900)
def test_nothing_of_an_edge_is_lost_or_doubled_while_its_site_moves_and_all_is_killed(
    database_url: str, other_database_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    meters = stack.enter_context(Meters().serving())
    south = Cell("south", database_url, tmp_path, stack)
    north = Cell("north", other_database_url, tmp_path, stack)
    site_file = tmp_path / "site.yaml"
    site_file.write_text(HEAD + SITE.format(site="cut", port=meters.port, unit=1))
    made = south.wattline("edges", "create", "box", "--site", "cut", WATTLINE_CONFIG=str(site_file))
    (tmp_path / "box.key").write_text(made["key"])
    edge_environment = {
        "WATTLINE_CENTRE_URL": south.api.base,
        "WATTLINE_CENTRE_KEY_FILE": str(tmp_path / "box.key"),
        "WATTLINE_DATA_DIR": str(tmp_path / "edge"),
    }
    edge = stack.enter_context(
        running(["serve", "--role", "edge", "--port", "0"], edge_environment, tmp_path)
    )
    until(lambda: len(south.readings()) >= 5, _PATIENCE_S, "readings in the source")
    (tmp_path / "north.url").write_text(other_database_url)
    cells = tmp_path / "cells.yaml"
    cells.write_text(
        f"cells: [{{id: north, url: '{north.api.base}', key_file: {tmp_path}/box.key,"
        f" database_url_file: {tmp_path}/north.url}}]"
    )
    move, knows = ["cells", "move", "cut", "--to", "north"], {"WATTLINE_CELLS_FILE": str(cells)}

    for states in ("copying closed sealed moved", "sealed moved"):
        process = south.start(*move, **knows)
        query = "SELECT state FROM site_moves"
        until(
            lambda: south.rows(query)[:1] and south.rows(query)[0][0] in states.split(),  # noqa: B023
            _PATIENCE_S,
            f"the move is {states}",
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
    for cell in (north, south):  # both databases throw out everybody
        cell.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    done = south.wattline(*move, **knows)
    assert done["to"] == "north"

    before = len(north.readings())
    until(lambda: len(north.readings()) >= before + 3, _PATIENCE_S, "readings in the target")
    assert north.api.base in edge.get("/").text
    until(lambda: delivered(edge) == len(north.readings()), _PATIENCE_S, "as many stored as acknowledged")
    assert edge.stop() == 0
    assert south.readings() <= north.readings()
    for cell in (south, north):
        assert cell.rows("SELECT count(*) FROM dropped_readings") == [(0,)]
        assert cell.rows("SELECT count(*) FROM reading_conflicts") == [(0,)]
        assert cell.wattline("verify")["breaches"] == []
