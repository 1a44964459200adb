"""``wattline demo``: simulated data centres over real protocols, with a past."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import threading
import time
import webbrowser
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import collectors.simulated
from app import config
from app.actions.site_file import Place
from app.cli import logs
from app.cli.console import progress, say, show
from app.cli.environment import settings
from app.cli.opening import WORK_TIMEOUT_S, Located
from app.cli.serving import Service, listening
from app.cli.stopping import stop_signal
from app.config import Settings, SiteFile
from app.domain.site import Fleet
from app.jobs import demo, memory
from app.jobs.demo import DemoHistory, Progress
from app.jobs.worker import Worker
from app.store import reader
from app.store.embedded.server import EmbeddedServer
from app.store.engine import Engine, make_engine
from collectors import network
from collectors.simulated.devices import SimulatedDevices
from collectors.simulated.history import Simulation

HOST = "127.0.0.1"
NETWORKS = "127.0.0.0/8"
"""What the demo's collectors may reach: its simulated meters are on this machine."""
LATE_FILES_S = 60.0
"""Patience with the watched folders."""
_PAUSE_S = 0.5
SITE_FILE = Path(collectors.simulated.__file__).parent / "demo_site.yaml"


def run(*, port: int, browser: bool) -> None:
    """Run the demo until stopped; started again it goes on where it was.

    Raises
    ------
    ConfigError
        If its folder is in use by another demo or cannot be written.
    """
    logs.configure(logging.WARNING)
    memory.bound()
    environment = settings()
    network.allow(NETWORKS)
    environment = environment.model_copy(update={"data_dir": environment.data_dir / "demo"})
    folder = environment.data_dir
    with stop_signal() as stop, ExitStack() as stack:
        listener = stack.enter_context(_listening(port))
        server = stack.enter_context(EmbeddedServer(folder, bin_dir=environment.postgres_bin))
        place = Located(lambda: server.url, lambda: server.owner_url)
        engine = make_engine(place.url, statement_timeout_s=WORK_TIMEOUT_S)
        stack.callback(engine.dispose)
        place.shape_if_needed(engine)
        world = _World(engine, folder, environment)
        devices = stack.enter_context(demo.running(world.devices()))
        file = SiteFile(institutions=world.file.institutions, sites=devices.patched(world.fleet).sites)
        service = stack.enter_context(
            Service(
                environment,
                place,
                file,
                on_ready=lambda worker: world.load(worker, stop),
                site_file=Place(SITE_FILE, is_managed=True),
            )
        )
        service.start()
        base = f"http://{HOST}:{listener.getsockname()[1]}"
        _tell(base, _reader_url(engine, server.url, folder), folder)
        if browser and sys.stdout.isatty():
            webbrowser.open(base)
        service.run(listener, stop)
        stop.set()


def _listening(port: int) -> AbstractContextManager[socket.socket]:
    """A socket on `port`, or on a free one where it is taken."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return listening(HOST, 0)
    return listening(HOST, port)


class _World:
    """The simulation behind the demo, and what of its past is in the database."""

    def __init__(self, engine: Engine, folder: Path, environment: Settings) -> None:
        self._engine, self._days = engine, environment.demo_days
        self._exports = folder / "exports"
        self.file = config.load(SITE_FILE)
        now = demo.now_utc()
        self._past = DemoHistory.load_or_begin(engine, now)
        self._simulation = Simulation(self._past.anchor)
        self._late: list[Path] = []
        self._since = demo.fill_gap(engine, self.fleet, self._simulation, now) or self._past.anchor

    @property
    def fleet(self) -> Fleet:
        """What the demo measures."""
        return self.file.fleet

    def devices(self) -> SimulatedDevices:
        """The simulated meters, not yet started."""
        return SimulatedDevices(self.fleet, self._simulation, exports=self._exports, since=self._since)

    def load(self, worker: Worker, stop: threading.Event) -> None:
        """Load what of the history is not in the database yet, then put its alarms on record."""
        demo.declare_measures(self._engine, self._past.anchor)
        is_loaded = self._past.is_loaded(self.fleet, self._days)
        if is_loaded and self._past.has_alarms:
            return
        with worker.loading():
            if not is_loaded:
                self._load(stop)
            if not stop.is_set():
                self._record_alarms(stop)
        memory.give_back()

    def _load(self, stop: threading.Event) -> None:
        began = time.monotonic()
        with progress(total_is_bytes=True) as bar:
            tasks = {site.id: bar.add_task(f"history of {site.id}", total=None) for site in self.fleet.sites}

            def show_progress(at: Progress) -> None:
                bar.update(tasks[at.site], completed=at.loaded_days, total=at.total_days)

            self._past = demo.load(
                self._engine,
                self.fleet,
                self._simulation,
                self._past,
                days=self._days,
                on_progress=show_progress,
                is_stopping=stop.is_set,
            )
        if not stop.is_set():
            say(f"history is loaded, in {time.monotonic() - began:.0f} s; the last sums follow in a moment")
            self._late = demo.deliver_late_files(self._exports, self.fleet, self._simulation)

    def _record_alarms(self, stop: threading.Event) -> None:
        """After the late files have come: what they change must not look like an alarm."""
        deadline = time.monotonic() + LATE_FILES_S
        while any(file.exists() for file in self._late) and time.monotonic() < deadline:
            if stop.wait(_PAUSE_S):
                return
        demo.freeze_baseline(self._engine, self.fleet, self._past)
        found = demo.record_alarms(
            self._engine, self.fleet, self._past, days=self._days, is_stopping=stop.is_set
        )
        if found is not None:
            say(f"{found} alarms of the history are on record")


def _reader_url(engine: Engine, url: str, folder: Path) -> str:
    """URL of the database for a reader such as Grafana."""
    file = folder / "reader.password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(16))
    password = file.read_text()
    reader.ensure_reader(engine, password)
    return f"postgresql://{reader.ROLE}:{password}@{url.rpartition('@')[2]}"


def _tell(base: str, reader_url: str, folder: Path) -> None:
    show(f"Wattline demo: {base}")
    show(f"  PUE of the last 24 hours   {base}/api/v1/sites/sh1/pue?window=24h")
    show(f"  all sites                  {base}/api/v1/sites")
    show(f"  Prometheus metrics         {base}/metrics")
    show(f"  OpenAPI document           {base}/openapi.json")
    show(f"  database for Grafana       {reader_url}")
    show(f"  commands in another shell  export WATTLINE_DATA_DIR={folder}")
    show("13 months of history are being loaded, the newest first, then an outline of the year before.")
    show("Stop with Ctrl-C.")
