"""Edges as processes of their own, over TLS and a line that hangs, to a centre that is one, too.

What becomes of many edges while everything around them fails: ``tests/faults/fleet``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.store import edges
from app.store.edges import Edge
from app.store.engine import make_engine
from collectors.profiles.profile import ModbusProfile, read_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.e2e.line import Line
from tests.e2e.processes import PROGRAM, Running, running
from tests.e2e.test_workers import HEAD, PROFILE
from tests.waiting import until

MOST_BYTES = 120e6
RETURN_S = 60.0
"""Within this after the return of the line, live readings are at most `LIVE_S` old. [s]"""
LIVE_S = 5.0
SLACK_S = 5.0
"""The tests share a slow machine. [s]"""


SITES = ("cut", "hang", "small")
SITE = """
  - id: {site}
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: {site}.main
        rated_power_kw: 1000
        collector: {{kind: modbus, host: 127.0.0.1, port: {port}, device_id: {unit}, interval_s: 1, channels:
                    [{{name: energy_kwh, kind: register, unit: kWh, address: 0, type: uint32}}]}}
        points: [{{id: {site}.kwh, role: facility, kind: register, channel: energy_kwh}}]
"""


class Meters:
    """A Modbus gateway with one meter for each site."""

    def __init__(self) -> None:
        self.port = 0
        self._started, self._ended = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def serving(self) -> Iterator[Meters]:
        thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        thread.start()
        assert self._started.wait(30)
        try:
            yield self
        finally:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()

    async def _serve(self) -> None:
        self._loop, profile = asyncio.get_running_loop(), read_profile(PROFILE)
        assert isinstance(profile, ModbusProfile)
        unit = SimulatedUnit(profile, lambda channel, at: at.timestamp() % 1e6)
        async with SimulatedModbus(dict.fromkeys(range(1, len(SITES) + 1), unit)) as server:
            self.port = server.port
            self._started.set()
            await self._ended.wait()


class World:
    """A centre on a database, sites with a Modbus meter each, and a line to the centre."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        meters: Meters,
        stack: ExitStack,
        more: Mapping[str, str] = {},
    ) -> None:
        self.folder, self._url = folder, database_url
        self.database = make_engine(database_url)
        stack.callback(self.database.dispose)
        self.site_file = folder / "site.yaml"
        numbered = enumerate(SITES, 1)
        text = "".join(SITE.format(site=site, port=meters.port, unit=unit) for unit, site in numbered)
        self.site_file.write_text(HEAD + text)
        self.line = stack.enter_context(Line(folder).standing())
        environment = {**self.environment, "WATTLINE_REQUIRE_KEYS": "true", **more}
        self.centre = stack.enter_context(running(["serve", "--port", "0"], environment, folder))
        self.centre.until_status("/readyz", 200, 180)
        self.line.leads_to(self.centre.base)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "WATTLINE_DATABASE_URL": self._url,
            "WATTLINE_DATA_DIR": str(self.folder / "centre"),
            "WATTLINE_CONFIG": str(self.site_file),
        }

    def wattline(self, *arguments: str) -> Any:
        done = subprocess.run(
            [PROGRAM, *arguments, "--json"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def key(self, site: str) -> Path:
        file = self.folder / f"{site}.key"
        file.write_text(self.wattline("edges", "create", site, "--site", site)["key"])
        return file

    def shown(self, name: str) -> Edge:
        with self.database.connect() as connection:
            return edges.named(connection, name)

    @contextmanager
    def edge(self, key: Path, name: str = "", more: Mapping[str, str] = {}) -> Iterator[Running]:
        data = self.data(key, name)
        data.mkdir(exist_ok=True)
        environment = {
            "WATTLINE_CENTRE_URL": self.line.url,
            "WATTLINE_CENTRE_CA_FILE": str(self.line.ca_file),
            "WATTLINE_CENTRE_KEY_FILE": str(key),
            "WATTLINE_DATA_DIR": str(data),
            **more,
        }
        with running(["serve", "--role", "edge", "--port", "0"], environment, data) as edge:
            yield edge

    def data(self, key: Path, name: str = "") -> Path:
        return self.folder / f"edge-{name or key.stem}"

    def rows(self, site: str) -> list[tuple[str, int, float]]:
        query = sa.text(
            "SELECT p.key, (extract(epoch FROM r.at) * 1000000)::bigint, r.value"
            " FROM readings r JOIN points p ON p.id = r.point_id WHERE p.key LIKE :like"
        )
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(query, {"like": f"{site}.%"})]

    def newest_age_s(self, site: str) -> float:
        newest_us = max((at_us for _, at_us, _ in self.rows(site)), default=0)
        return datetime.now(UTC).timestamp() - newest_us / 1e6

    def counted(self, query: str) -> int:
        with self.database.connect() as connection:
            return int(connection.exec_driver_sql(query).scalar() or 0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[World]:
    with ExitStack() as stack:
        meters = stack.enter_context(Meters().serving())
        yield World(tmp_path_factory.mktemp("world"), module_database_url, meters, stack)


def metric(edge: Running, name: str) -> float:
    """The only sample of a metric."""
    (value,) = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", edge.get("/metrics").text, re.MULTILINE)
    return float(value)


def until_delivered(edge: Running, more: int = 2) -> None:
    name = "wattline_edge_delivered_readings_total"
    before = metric(edge, name)
    until(lambda: metric(edge, name) >= before + more, 90, "a delivery")


def until_waiting(edge: Running, count: int) -> None:
    until(lambda: metric(edge, "wattline_spool_readings") >= count, 90, f"{count} that wait")


def test_a_line_that_hangs_is_left_and_readings_go_on(world: World) -> None:
    with world.edge(world.key("hang")) as edge:
        until_delivered(edge)
        world.line.cut()
        until_waiting(edge, 3)
        assert "Connection</th><td class=bad" in edge.get("/").text
        world.line.mend()
        until_delivered(edge)
        world.line.fail(lambda faults: setattr(faults, "half_open", True))
        until_waiting(edge, 5)
        world.line.mend()
        until(lambda: world.newest_age_s("hang") <= LIVE_S, RETURN_S + SLACK_S, "live readings")
    assert world.counted("SELECT sum(readings) FROM dropped_readings") == 0


def test_an_edge_is_small_and_says_what_it_does(world: World) -> None:
    with world.edge(world.key("small")) as edge:
        until_delivered(edge)
        assert metric(edge, "process_resident_memory_bytes") < MOST_BYTES
        page = edge.get("/").text
        assert "small / small.main" in page
        assert "revision 1" in page
        centre = world.wattline("edges", "list")["edges"]
        assert {"small"} <= {e["name"] for e in centre}


def test_an_edge_imports_no_database() -> None:
    program = (
        "import sys, app.cli.edge, app.edge.process, collectors.csv.folder, collectors.modbus.collector\n"
        "names = 'sqlalchemy psycopg pandas pyarrow fastapi uvicorn httpx app.store.engine'\n"
        "sys.exit(', '.join(name for name in names.split() if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({}, [], "WATTLINE_CENTRE_URL: is missing"),
        ({"WATTLINE_CENTRE_URL": "https://a"}, [], "WATTLINE_CENTRE_KEY_FILE: is missing"),
        ({"WATTLINE_CENTRE_URL": "http://centre.example"}, [], "WATTLINE_CENTRE_PLAIN_HTTP=true"),
        ({"WATTLINE_CENTRE_URL": "ftp://a"}, [], "write https://..."),
        ({"WATTLINE_CENTRE_URL": "https://a"}, ["--config", "site.yaml"], "--config: an edge gets"),
        ({"WATTLINE_CENTRE_URL": "https://a"}, ["--host", "0.0.0.0"], "WATTLINE_PAGE_KEY_FILE"),
    ],
)
def test_an_edge_says_what_it_needs(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], said: str
) -> None:
    key = tmp_path / "key"
    key.write_text("wl_000000000000_00000000000000000000000000000000")
    needs_key = "KEY_FILE: is missing" not in said
    done = subprocess.run(
        [PROGRAM, "serve", "--role", "edge", "--port", "0", *arguments],
        env={
            **os.environ,
            "WATTLINE_DATA_DIR": str(tmp_path),
            **({"WATTLINE_CENTRE_KEY_FILE": str(key)} if needs_key else {}),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
