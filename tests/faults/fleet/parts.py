"""Cells, edges, lines and meters of the fleet, and how each of them breaks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import yaml

from app.domain.access import Grant, Role
from app.store import edges, identity
from app.store.embedded.server import EmbeddedServer
from app.store.engine import begin, connect, make_engine
from collectors.polling import spool_path
from collectors.profiles.profile import ModbusProfile, read_profile
from collectors.simulated.fault_proxy import FaultProxy
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from collectors.spool import Spool
from tests.faults.world import ROOT, Background, Daemon, clock_of, set_clock
from tests.integration.test_engine import address
from tests.servers import copy_cluster

CELLS = ("north", "middle", "south")
SITES = ("a", "b", "own")
"""Of each cell: two that an edge each measures, and one of its workers' own."""
BACKLOG_PER_S = 400
"""Pace of what waited, of all edges of a cell. [1/s]"""
_SETTINGS = {
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "track_commit_timestamp": "on",
}
"""Processes are killed here, not machines."""
_PROFILE = """
model: counted
vendor: test
protocol: modbus
source: made up for the tests
channels: [{name: energy_kwh, kind: register, unit: kWh, address: 0, type: uint32}]
"""
_BEGAN_S = time.time() - 30 * 3600
_KWH_PER_S = {"main": 2, "ups": 1}
_STOP_S = 60.0
LOOK_S = 0.2
"""How often it is looked whether something is so. [s]"""


def register_kwh(meter: str, at: datetime) -> float:
    """What a meter shows at a moment. [kWh]"""
    return float(int((at.timestamp() - _BEGAN_S) * _KWH_PER_S[meter]))


def points(site: str) -> list[str]:
    """Points of a site."""
    return [f"{site}.{meter}.kwh" for meter in _KWH_PER_S]


class Meters:
    """A Modbus gateway with the meters of all sites."""

    def __init__(self) -> None:
        profile = read_profile(_PROFILE)
        assert isinstance(profile, ModbusProfile)
        self.unit_of: dict[str, int] = {}
        self._units: dict[int, SimulatedUnit] = {}
        for meter in (f"{cell}-{s}.{m}" for cell in CELLS for s in SITES for m in _KWH_PER_S):
            number = self.unit_of[meter] = len(self._units) + 1
            kind = meter.rpartition(".")[2]
            self._units[number] = SimulatedUnit(profile, lambda _, at, kind=kind: register_kwh(kind, at))
        self.gateway = SimulatedModbus(self._units)

    def silence(self, *sites: str, silent: bool = True) -> None:
        """Let the meters of some sites, default all, answer no more, or again."""
        for meter, number in self.unit_of.items():
            if not sites or meter.partition(".")[0] in sites:
                self._units[number].faults.silent = silent

    def site(self, site: str) -> dict[str, Any]:
        """What a site file says of a site."""
        return {
            "id": site,
            "institution": "bank",
            "time_zone": "UTC",
            "meters": [self._meter(f"{site}.main", "facility"), self._meter(f"{site}.ups", "it_ups_output")],
        }

    def _meter(self, name: str, role: str) -> dict[str, Any]:
        channel = {"name": "energy_kwh", "kind": "register", "unit": "kWh", "address": 0, "type": "uint32"}
        return {
            "id": name,
            "rated_power_kw": 20_000,
            "collector": {
                "kind": "modbus",
                "host": "127.0.0.1",
                "port": self.gateway.port,
                "device_id": self.unit_of[name],
                "interval_s": 1,
                "timeout_s": 1.0,
                "channels": [channel],
            },
            "points": [{"id": f"{name}.kwh", "role": role, "kind": "register", "channel": "energy_kwh"}],
        }


class Process(Daemon):
    """A process of the run; one that does not end shows where it is."""

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(1.0)
            self.process.kill()
            self.process.wait()
            return -signal.SIGKILL

    def last_words(self) -> str:
        """The end of what it said, with the threads of one that did not end."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-80:])

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def freeze(self) -> None:
        """Let it stand still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def memory_mib(self) -> float:
        """What it holds. [MiB]"""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)[0]) / 1024


def wattline(module: str, *words: str) -> list[str]:
    """The command of a process of the run."""
    return [sys.executable, "-m", f"tests.faults.fleet.{module}", *words]


class Progress(NamedTuple):
    """How far the readings of a site are."""

    stored: int
    newest_s: float
    """Of those that are not in the future, since 1970. [s]"""

    @property
    def age_s(self) -> float:
        """How old the newest is. [s]"""
        return time.time() - self.newest_s


_PROGRESS = """
SELECT s.key, count(*)::int,
    coalesce(max(extract(epoch FROM r.at)::float8) FILTER (WHERE r.at <= clock_timestamp()), 0)
FROM readings r JOIN points p ON p.id = r.point_id JOIN sites s ON s.id = p.site_id GROUP BY 1
"""


class Cell:
    """``wattline serve`` with its database, and what stands by for both."""

    def __init__(self, name: str, folder: Path, port: int, journals: Path) -> None:
        self.name, self.port, self.folder, self.journals = name, port, folder, journals
        folder.mkdir(mode=0o711)
        self.database = EmbeddedServer(folder / "database-1", settings=_SETTINGS)
        self.spare: EmbeddedServer | None = None
        self.site_file = folder / "site.yaml"
        self._of_thread = threading.local()
        self.engine = make_engine(lambda: self.database.url)
        self._environment: dict[str, str] = {}

    @property
    def base(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def sites(self) -> list[str]:
        """Its sites."""
        return [f"{self.name}-{s}" for s in SITES]

    def configure(self, meters: Meters, hub_url: str, url: str, more: Mapping[str, str]) -> None:
        """Write the site file, and prepare the processes."""
        document = {
            "institutions": [{"id": "bank", "institution_class": "joint_stock"}],
            "sites": [meters.site(site) for site in self.sites],
        }
        self.site_file.write_text(yaml.safe_dump(document))
        self._environment = {
            **os.environ,
            "WATTLINE_DATABASE_URL": url,
            "WATTLINE_CONFIG": str(self.site_file),
            "WATTLINE_CELL_ID": self.name,
            "WATTLINE_HUB_URL": f"{hub_url}/{self.name}",
            "WATTLINE_REQUIRE_KEYS": "true",
            "WATTLINE_EDGE_BACKLOG_PER_S": str(BACKLOG_PER_S),
            **more,
        }
        words = ["serve", "--port", str(self.port)]
        self.service = self._process("service", wattline("process", str(self.journals), *words))
        words = ["serve", "--role", "worker"]
        self.standby = self._process("standby", wattline("process", str(self.journals), *words))

    def change_rating(self, site: str) -> None:
        """Let the site file say something else of a meter of a site."""
        document = yaml.safe_load(self.site_file.read_text())
        meter = next(one for one in document["sites"] if one["id"] == site)["meters"][0]
        meter["rated_power_kw"] += 1
        self.site_file.write_text(yaml.safe_dump(document))

    def consumer(self, kills: int) -> Process:
        """A worker that is killed so often between commit and acknowledgement."""
        words = ["serve", "--role", "worker"]
        return self._process("consumer", wattline("consumer", str(self.journals), str(kills), *words))

    def _process(self, name: str, command: list[str]) -> Process:
        data = self.folder / f"data-{name}"
        environment = {**self._environment, "WATTLINE_DATA_DIR": str(data)}
        return Process(command, environment, self.folder, name)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A ``wattline`` command as its operator gives it."""
        environment = {**self._environment, "WATTLINE_DATA_DIR": str(self.folder / "data-service")}
        program = Path(sys.executable).with_name("wattline")
        return subprocess.run(
            [program, *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )

    def spools(self) -> Iterator[Path]:
        """Of its workers."""
        yield from (path for path in map(spool_path, self.folder.glob("data-*")) if path.exists())

    # -- the database ----------------------------------------------------------------------------------

    def stand_by(self) -> str:
        """Let a standby follow the database, synchronously; the URL of both."""
        is_first = self.database.data_dir.name == "database-1"
        place = self.folder / ("database-2" if is_first else "database-1")
        copy_cluster(self.database, place, standby=True)
        owner = self.database.owner_url
        self.spare = EmbeddedServer(place, settings={**_SETTINGS, "primary_conninfo": owner})
        self.spare.start()
        self._administer(self.database, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        (host, port), (_, other) = address(self.database.url), address(self.spare.url)
        return self.database.url.replace(f"@{host}:{port}", f"@{host}:{port},{host}:{other}")

    def lose_primary(self) -> None:
        """The server of the database is gone, as by a power cut."""
        self.database._ask_to_stop(signal.SIGKILL)
        self.database.stop()

    def promote(self) -> None:
        """Its standby becomes the primary, as an operator or Patroni does it."""
        assert self.spare is not None
        self.database, self.spare = self.spare, self.database
        self._administer(self.database, "SELECT pg_promote()")
        self._administer(self.database, "ALTER SYSTEM SET synchronous_standby_names = ''")

    def _administer(self, server: EmbeddedServer, statement: str) -> None:
        with psycopg.connect(server.owner_url, autocommit=True) as connection:
            connection.execute(statement)
            connection.execute("SELECT pg_reload_conf()")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database answers; nothing where it is away."""
        try:
            connection: psycopg.Connection[Any] | None = getattr(self._of_thread, "connection", None)
            if connection is None or connection.closed:
                connection = psycopg.connect(self.database.url, autocommit=True, connect_timeout=5)
                self._of_thread.connection = connection
            return connection.execute(query, values).fetchall()  # type: ignore[call-overload, no-any-return]
        except psycopg.OperationalError:
            self.forget_connection()
            return []

    def forget_connection(self) -> None:
        """End this thread's connection to the database, which may be another one next time."""
        connection = getattr(self._of_thread, "connection", None)
        if connection is not None:
            connection.close()
            self._of_thread.connection = None

    def progress(self) -> dict[str, Progress]:
        """How far each site is."""
        return {row[0]: Progress(row[1], row[2]) for row in self.rows(_PROGRESS)}

    def edge(self, site: str) -> edges.Edge:
        """What the cell knows of the edge of a site."""
        with connect(self.engine) as connection:
            return edges.named(connection, site)

    def key(self, site: str) -> str:
        """A new key for the edge of a site."""
        with begin(self.engine) as connection:
            key = identity.create(connection, f"edge {site}", [Grant(Role.EDGE, site)], created_by="test")
            edges.create(connection, site, identity.public_id_of(key), [site])
        return key

    def viewer(self) -> str:
        """A new key that sees everything."""
        with begin(self.engine) as connection:
            return identity.create(connection, "fleet", [Grant(Role.VIEWER)], created_by="test")


@dataclass
class Line:
    """The ways from one edge to its centre: to the cell, or to each server of the hub."""

    proxies: list[FaultProxy]
    background: Background
    is_cut: bool = field(default=False, init=False)

    def cut(self) -> None:
        """New connections are closed at once, those that are open are broken."""
        self._set(refuse=True)

    def drop_answers(self) -> None:
        """What is sent arrives, and the answers do not."""
        self._set(drop=True)

    def mend(self) -> None:
        """All is well again."""
        self._set()

    def _set(self, *, refuse: bool = False, drop: bool = False) -> None:
        self.is_cut = refuse
        for proxy in self.proxies:
            proxy.faults.refuse, proxy.faults.drop = refuse, drop
        self.background.do(self._reset())

    async def _reset(self) -> None:
        for proxy in self.proxies:
            proxy.reset_connections()


class Edge:
    """``wattline serve --role edge`` of a site."""

    def __init__(self, site: str, cell: Cell, line: Line, url: str, *, folder: Path, journals: Path) -> None:
        self.site, self.cell, self.line, self._folder = site, cell, line, folder
        folder.mkdir()
        self.clock = folder / "clock"
        set_clock(self.clock, 0)
        self._environment = {**os.environ, "WATTLINE_CENTRE_URL": url}
        self._environment |= {"WATTLINE_CENTRE_KEY_FILE": str(folder / "key")}
        self._command = wattline("process", str(journals), "serve", "--role", "edge", "--port", "0")
        more = clock_of(self.clock) if site.endswith("-b") else {}
        self.process = self._process("first", more)

    def _process(self, name: str, more: Mapping[str, str] = {}) -> Process:
        data = {"WATTLINE_DATA_DIR": str(self.data(name))}
        return Process(self._command, {**self._environment, **more, **data}, self._folder, name)

    def data(self, name: str = "first") -> Path:
        """Data directory of one of its processes."""
        return self._folder / name

    def start(self) -> None:
        """Make its key and start it."""
        (self._folder / "key").write_text(self.cell.key(self.site))
        self.process.start()

    def second(self) -> Process:
        """Another process with the same key, and a data directory of its own."""
        return self._process("second")

    def spools(self) -> Iterator[Path]:
        """Of its processes."""
        yield from (path for path in map(spool_path, self._folder.glob("*")) if path.exists())

    def keep_back(self, rows: list[Any]) -> None:
        """Let readings wait in the spool; it must not run."""
        with closing(Spool(spool_path(self.data()))) as spool:
            spool.append(rows)

    def waiting(self) -> int:
        """Readings in the spool of the process that runs; -1 where it does not answer."""
        return int(metric(self.process, "wattline_spool_readings"))


def metric(process: Process, name: str) -> float:
    """The only sample of a metric; -1 where there is no answer."""
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page(process, "/metrics"), re.MULTILINE)
    return float(found[0]) if found else -1.0


def page(process: Process, path: str = "/") -> str:
    """What a process answers; nothing where it does not."""
    if not (process.is_running and process.base):
        return ""
    try:
        with urllib.request.urlopen(f"{process.base}{path}", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
