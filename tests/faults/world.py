"""A whole installation on loopback, and the ways in which it breaks.

The devices are simulated; collector, service and PostgreSQL are real processes. Database and spool share
one small disk, as on a machine with one. Between the processes and the database, and between the collector
and the Modbus devices, stand fault proxies. The clock of the collector and of the service is libfaketime's;
the database keeps the true one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

from app import config
from app.cli.demo import SITE_FILE
from app.jobs import demo
from app.store import audit_key
from app.store.embedded.server import EmbeddedServer
from collectors.simulated.devices import SimulatedDevices
from collectors.simulated.fault_proxy import FaultProxy
from collectors.simulated.history import Simulation
from tests.integration.test_engine import address, through
from tests.programs import need_program
from tests.waiting import until

_T = TypeVar("_T")
ROOT = Path(__file__).parents[2]
WATTLINE = Path(sys.executable).with_name("wattline")
DISK_MB = 320
POLL_S = 2.0
_SMALL = {"max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "32MB"}
_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
PUSHED = """
id: pushed
institution: jiangnan
time_zone: UTC
meters:
  - {id: posted, points: [{id: posted-1.kwh, role: facility, kind: register},
                          {id: posted-2.kwh, role: it_ups_output, kind: register, weight: 0.5}]}
  - {id: uploaded, points: [{id: uploaded.kwh, role: none, kind: register}]}
  - {id: dropped, points: [{id: dropped.kwh, role: none, kind: register}]}
"""
"""The site whose readings come from outside."""
SITES = 2
"""The polled site and the pushed one."""


def more_points(sites: int) -> list[str]:
    """Points of the sites beyond :data:`SITES`, one each, whose readings are posted."""
    return [f"more-{n}.kwh" for n in range(SITES + 1, sites + 1)]


class Background:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ToDatabase(FaultProxy):
    """A proxy before a database that may come back on another port."""

    def __init__(self, server: EmbeddedServer) -> None:
        super().__init__(*address(server.url))
        self._server_now = server

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*address(self._server_now.url))


class Daemon:
    """A process that is started again whenever it was killed."""

    def __init__(self, command: list[str], environment: dict[str, str], logs: Path, name: str) -> None:
        self._command, self._environment, self._logs, self.name = command, environment, logs, name
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it."""
        self.starts += 1
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> Path:
        """What the process of the last start said."""
        return self._logs / f"{self.name}-{self.starts}.log"

    @property
    def base(self) -> str:
        """Where it answers HTTP; empty as long as it has not said so."""
        words = self.log.read_text(errors="replace").split() if self.log.exists() else []
        return next((word for word in words if word.startswith("http://")), "")

    def last_words(self) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def end(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill(self) -> None:
        """The same, and start it again."""
        self.end()
        self.start()

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class World:
    """The installation; `begun` makes one.

    Parameters
    ----------
    folder : Path
        Empty, and open to the user who runs the database.
    disk : Path
        The small disk.
    """

    def __init__(self, folder: Path, disk: Path, background: Background, sites: int = SITES) -> None:
        self.folder, self.disk, self._background, self._sites = folder, disk, background, sites
        self.journals, self.watched, self._logs = folder / "journals", folder / "watched", folder / "logs"
        for made in (self.journals, self.watched, self._logs):
            made.mkdir()
        self._clock = folder / "clock"
        self.server = EmbeddedServer(disk / "database", settings=_SMALL)
        self._stranger = disk / "stranger"
        self.audit_key = folder / "audit.key"
        self.audit_key.write_text(secrets.token_hex(audit_key.LEAST_BYTES))

    def start(self, stack: ExitStack) -> None:
        """Start everything; `stack` ends it."""
        self.set_clock(0)
        stack.enter_context(self.server)
        devices = stack.enter_context(self._devices())
        self.databases = [self._proxy(stack, ToDatabase(self.server)) for _ in range(2)]
        self.meters = {port: self._proxy(stack, FaultProxy("127.0.0.1", port)) for port in _modbus(devices)}
        site = self.folder / "site.yaml"
        site.write_text(yaml.safe_dump(self._site(devices), allow_unicode=True))
        self.collector = self._daemon(
            "collector",
            [sys.executable, "-m", "tests.faults.collector", str(self.journals)],
            site,
            ["worker"],
        )
        self.service = self._daemon("service", [str(WATTLINE)], site, ["api", "--port", "0"])
        for daemon in (self.collector, self.service):
            stack.callback(daemon.stop)
            daemon.start()

    def _devices(self) -> Any:
        demo_site = config.load(SITE_FILE).fleet
        anchor = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        return demo.running(SimulatedDevices(demo_site, Simulation(anchor)))

    def _proxy(self, stack: ExitStack, proxy: FaultProxy) -> FaultProxy:
        self._background.do(proxy.start())
        stack.callback(lambda: self._background.do(proxy.close()))
        return proxy

    def _site(self, devices: SimulatedDevices) -> dict[str, Any]:
        """The demo's first site, polled every second through the proxies, and the site that is pushed."""
        document = yaml.safe_load(SITE_FILE.read_text(encoding="utf-8"))
        site = next(s for s in document["sites"] if s["id"] == "sh1")
        for meter in site["meters"]:
            if meter["id"] in devices.ports:
                port = devices.ports[meter["id"]]
                real = self.meters[port].port if port in self.meters else port
                meter["collector"] |= {"port": real, "interval_s": POLL_S, "timeout_s": 1.0}
            else:
                meter.pop("collector", None)
        pushed = yaml.safe_load(PUSHED)
        pushed["meters"][-1]["collector"] = {
            "kind": "csv_folder",
            "folder": str(self.watched),
            "pattern": "*.csv",
            "settle_s": 1,
        }
        return {**document, "sites": [site, pushed, *map(_more, more_points(self._sites))]}

    def _daemon(self, name: str, command: list[str], site: Path, role: list[str]) -> Daemon:
        proxy = self.databases[0 if name == "collector" else 1]
        environment = {
            **os.environ,
            "WATTLINE_CONFIG": str(site),
            "WATTLINE_DATA_DIR": str(self.disk / name),
            "WATTLINE_AUDIT_KEY_FILE": str(self.audit_key),
            "WATTLINE_DATABASE_URL": through(self.server.url, proxy.port),
            **clock_of(self._clock),
        }
        return Daemon([*command, "serve", "--role", *role], environment, self._logs, name)

    def direct(self) -> str:
        """URL of the database past the proxies."""
        return self.server.url

    # -- what breaks ---------------------------------------------------------------------------------

    def kill_postgres(self) -> None:
        """End the database server; its supervisor starts it again."""
        if self.server.pid:
            os.kill(self.server.pid, signal.SIGKILL)

    def set_clock(self, offset_s: int) -> None:
        """Set the clock of collector and service this much ahead. [s]"""
        set_clock(self._clock, offset_s)

    @contextmanager
    def clock_set(self, offset_s: int) -> Iterator[None]:
        """The clock is wrong while the block lasts."""
        self.set_clock(offset_s)
        try:
            yield
        finally:
            self.set_clock(0)

    @contextmanager
    def no_database(self) -> Iterator[None]:
        """The database server is down while the block lasts."""
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def half_open(self, proxies: list[FaultProxy], *, reset: bool) -> Iterator[None]:
        """Nothing passes the proxies while the block lasts, and nobody is told.

        With `reset` the connections are broken at the end; else those who wait have to give up themselves.
        """
        for proxy in proxies:
            proxy.faults.half_open = True
        try:
            yield
        finally:
            for proxy in proxies:
                proxy.faults.half_open = False
                if reset:
                    self._background.do(_reset(proxy))

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """A stranger's file takes all room on the disk while the block lasts."""
        try:
            with self._stranger.open("wb", buffering=0) as file:
                _fill(file.write)
            yield
        finally:
            self._stranger.unlink(missing_ok=True)


async def _reset(proxy: FaultProxy) -> None:
    proxy.reset_connections()


def _fill(write: Callable[[bytes], object]) -> None:
    for block in (1 << 20, 4096):
        try:
            while True:
                write(bytes(block))
        except OSError:
            continue


def _modbus(devices: SimulatedDevices) -> list[int]:
    """Ports of the Modbus gateways of the first site."""
    demo_site = config.load(SITE_FILE).fleet.site["sh1"]
    kinds = {m.id: m.collector["kind"] for m in demo_site.meters if m.collector}
    return sorted({port for meter, port in devices.ports.items() if kinds.get(meter) == "modbus"})


def clock_of(file: Path) -> dict[str, str]:
    """Environment of a process whose clock a file sets."""
    return {
        "LD_PRELOAD": _faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(file: Path, offset_s: int) -> None:
    """Set the clocks that a file sets so much ahead. [s]"""
    new = file.with_suffix(".new")
    new.write_text(f"{offset_s:+d}\n")
    new.replace(file)


def _faketime() -> str:
    """The library that gives a process another clock."""
    need_program("faketime")
    return next(str(path) for pattern in _LIBRARIES for path in Path("/").glob(pattern.lstrip("/")))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of `DISK_MB`; a folder of the large one where mounting is not allowed."""
    folder.mkdir()
    options = f"size={DISK_MB}m,mode=0711"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder
    finally:
        if mounted.returncode == 0:
            until(lambda: not subprocess.run(["umount", str(folder)], check=False).returncode, 30, "umount")


def _more(point: str) -> dict[str, Any]:
    """A site with a single point."""
    name = point.removesuffix(".kwh")
    meter = {"id": name, "points": [{"id": point, "role": "facility", "kind": "register"}]}
    return {"id": f"site-{name}", "institution": "jiangnan", "time_zone": "UTC", "meters": [meter]}


@contextmanager
def begun(sites: int = SITES) -> Iterator[World]:
    """A world of so many sites that runs, in folders of its own."""
    with tempfile.TemporaryDirectory(prefix="wattline-faults-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        disk = stack.enter_context(small_disk(folder / "disk"))
        world = World(folder, disk, stack.enter_context(Background()), sites)
        world.start(stack)
        yield world
