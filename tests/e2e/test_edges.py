"""Edges as processes of their own, over TLS and a line that fails, to a centre that is one, too."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
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
from tests.faults.world import _faketime
from tests.waiting import until

MOST_BYTES = 120e6
RETURN_S = 60.0
"""Within this after the return of the line, live readings are at most `LIVE_S` old. [s]"""
LIVE_S = 5.0
SLACK_S = 5.0
"""The tests share a slow machine. [s]"""


SITES = ("cut", "hang", "twice", "ahead", "behind", "north", "south", "small")
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

    def spooled(self, key: Path) -> set[tuple[str, int, float]]:
        """What waits at an edge that does not run."""
        with closing(sqlite3.connect(self.data(key) / "spool" / "readings.sqlite")) as db:
            return set(db.execute("SELECT point, at_us, value FROM reading"))

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


def test_nothing_is_lost_while_the_line_is_down_and_the_edge_restarts_twice(world: World) -> None:
    key = world.key("cut")
    with world.edge(key) as edge:
        until_delivered(edge)
        until(lambda: world.shown("cut").is_current, 60, "the definitions of the centre")
        world.line.cut()
        until_waiting(edge, 3)
        assert "Connection</th><td class=bad" in edge.get("/").text
        edge.stop(signal.SIGKILL)
    first = world.spooled(key)
    assert len(first) >= 3
    with world.edge(key) as edge:  # it knows what to read without the centre
        until_waiting(edge, len(first) + 3)
        assert edge.stop() == 0
    second = world.spooled(key)
    assert second >= first
    with world.edge(key) as edge:
        until_waiting(edge, len(second) + 3)
        world.line.mend()
        until(lambda: world.newest_age_s("cut") <= LIVE_S, RETURN_S + SLACK_S, "live readings")
        until(lambda: second <= set(world.rows("cut")), 60, "all that waited")
        assert edge.stop() == 0
    rows = world.rows("cut")
    assert len({(point, at_us) for point, at_us, _ in rows}) == len(rows)
    assert world.counted("SELECT sum(readings) FROM dropped_readings") == 0
    assert world.counted("SELECT count(*) FROM reading_conflicts") == 0


def test_a_line_that_hangs_is_left_and_readings_go_on(world: World) -> None:
    with world.edge(world.key("hang")) as edge:
        until_delivered(edge)
        world.line.fail(lambda faults: setattr(faults, "half_open", True))
        until_waiting(edge, 5)
        world.line.mend()
        until(lambda: world.newest_age_s("hang") <= LIVE_S, RETURN_S + SLACK_S, "live readings")
    assert world.counted("SELECT sum(readings) FROM dropped_readings") == 0


def test_of_two_edges_with_one_key_the_second_is_refused(world: World) -> None:
    key = world.key("twice")
    with world.edge(key, "one") as one:
        until_delivered(one)
        with world.edge(key, "two") as two:
            problem = until(lambda: _problem(two), 60, "a refusal")
            assert "another process speaks for edge" in problem
            until_delivered(one)
            assert metric(two, "wattline_edge_delivered_readings_total") == 0
            before = world.shown("twice")
            assert before.refused_at is not None
            one.stop(signal.SIGKILL)
            until_delivered(two)
            assert world.shown("twice").epoch == before.epoch + 1


def _problem(edge: Running) -> str:
    found = re.search(r"Connection</th><td class=bad>([^<]*)", edge.get("/").text)
    return found[1] if found and "speaks for" in found[1] else ""


@pytest.mark.parametrize(("site", "shift", "offset_s"), [("ahead", "+10m", 600), ("behind", "-12h", -43_200)])
def test_a_clock_that_is_off_is_flagged(world: World, site: str, shift: str, offset_s: int) -> None:
    clock = {
        "LD_PRELOAD": _faketime(),
        "FAKETIME": shift,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    with world.edge(world.key(site), "", clock) as edge:
        until_delivered(edge)
        until(lambda: world.shown(site).is_clock_off, 60, "a flag")
        until(lambda: world.shown(site).clock_off_readings > 0, 60, "a count")
        assert world.shown(site).clock_offset_s == pytest.approx(offset_s, abs=5)
        assert metric(edge, "wattline_edge_clock_offset_seconds") == pytest.approx(offset_s, abs=5)
    finding = f"""SELECT count(*) FROM findings f JOIN sites s ON s.id = f.site_id
        WHERE s.key = '{site}' AND kind = 'clock_drift' AND state = 'open'"""
    until(lambda: world.counted(finding) == 1, 60, "a finding")


def test_definitions_of_one_site_change_nothing_at_the_other_sites_edge(world: World) -> None:
    with world.edge(world.key("north")) as one, world.edge(world.key("south")) as other:
        until_delivered(one)
        until_delivered(other)
        text = world.site_file.read_text()
        world.site_file.write_text(
            text.replace("south.kwh, role: facility", "south.kwh, role: it_pdu_output")
        )
        world.wattline("pue", "south")  # a command brings the file into the database
        until(lambda: world.shown("south").revision == 2, 90, "the new revision")
        until_delivered(one)
        north = world.shown("north")
        assert (north.revision, north.newest_revision) == (1, 1)
        assert metric(one, "wattline_edge_definitions_revision") == 1
        until_delivered(other)


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
