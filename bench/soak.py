"""Does the service get heavier or slower in a day? A day of polls in twenty minutes.

``wattline serve`` runs as a process of its own on a database of its own. One site of simulated meters is
polled 72 times as often as usual, so a day's polls come in twenty minutes; the past day of the other site is
sent to it over HTTP, a quarter-hour after the other, so that a day's intervals are rolled up and evaluated.
Each second /metrics is read. After a first fifth in which everything warms up, the second fifth is compared
with the last, and the slope is that of a straight line through all after the first.

``WATTLINE_SOAK_MINUTES`` (default 20) says how long: a part of the day, or several.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import yaml

import collectors.simulated
from app import config
from app.domain.site import Site
from app.jobs import demo
from bench.table import Row
from collectors.simulated.devices import SimulatedDevices
from collectors.simulated.history import Simulation

_T = TypeVar("_T")
TITLE = "Soak: a day of polls in 20 minutes"
FACTOR = 72
MINUTES = float(os.environ.get("WATTLINE_SOAK_MINUTES", "20"))
SITE_FILE = Path(collectors.simulated.__file__).parent / "demo_site.yaml"
POLLED, PUSHED = "sh1", "nb1"
USUAL_INTERVAL_S = 30.0
LOOK_S = 1.0
DAY_S = 86_400.0
QUARTER_HOUR = timedelta(minutes=15)
FLAT = "flat: <= 1.05"
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the service at one moment."""

    at_s: float
    memory_mib: float
    files: int
    threads: int
    scrape_s: float
    bare_s: float
    """Time of an answer that does no work, a moment later: how busy the machine is."""


def run() -> list[Row]:
    """All rows of this bench."""
    with tempfile.TemporaryDirectory(prefix="wattline-soak-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        anchor = datetime.now(UTC).replace(microsecond=0)
        simulation = Simulation(anchor)
        fleet = config.load(SITE_FILE).fleet
        devices = stack.enter_context(demo.running(SimulatedDevices(fleet, simulation)))
        site_file = folder / "site.yaml"
        site_file.write_text(yaml.safe_dump(_document(devices), allow_unicode=True), encoding="utf-8")
        process, base = stack.enter_context(service(folder, site_file))
        looks = _soaked(process.pid, base, _day(simulation, fleet.site[PUSHED], anchor))
        return _rows(looks, _counters(base))


def _document(devices: SimulatedDevices) -> dict[str, Any]:
    """The demo's site file: one site polled at its real ports and often, the other not at all."""
    document: dict[str, Any] = yaml.safe_load(SITE_FILE.read_text(encoding="utf-8"))
    for site in document["sites"]:
        for meter in site["meters"]:
            if site["id"] == POLLED and meter["id"] in devices.ports:
                interval_s = USUAL_INTERVAL_S / FACTOR
                meter["collector"] |= {"port": devices.ports[meter["id"]], "interval_s": interval_s}
            else:
                meter.pop("collector", None)
    return document


@contextmanager
def service(folder: Path, site_file: Path, sites: int = 2) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service and its address, once it knows its sites."""
    environment = {
        **os.environ,
        "WATTLINE_CONFIG": str(site_file),
        "WATTLINE_DATA_DIR": str(folder / "data"),
    }
    environment.pop("WATTLINE_DATABASE_URL", None)
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("wattline"), "serve", "--port", "0"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        base = _until(lambda: _address(log), process)
        _until(lambda: _is_ready(base, sites), process)
        yield process, base
    finally:
        process.terminate()
        process.wait(60)


def _address(log: Path) -> str:
    return next((word for word in log.read_text().split() if word.startswith("http://")), "")


def _is_ready(base: str, sites: int) -> bool:
    try:
        return len(httpx.get(f"{base}/api/v1/sites").json().get("sites", ())) == sites
    except httpx.TransportError:
        return False


def _until(what: Callable[[], _T], process: subprocess.Popen[str]) -> _T:
    deadline = time.monotonic() + _PATIENCE_S
    while not (value := what()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the service did not start")
        time.sleep(0.2)
    return value


def _day(simulation: Simulation, site: Site, end: datetime) -> Iterator[list[dict[str, Any]]]:
    """The readings of the day before `end`, or of what the soak lasts, a quarter-hour after the other."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for ids, columns in simulation.history(site, end - timedelta(minutes=MINUTES * FACTOR), end):
        for at_us in np.unique(columns.at_us):
            chosen = columns.take(columns.at_us == at_us)
            at = (epoch + timedelta(microseconds=int(at_us))).isoformat()
            values = zip(chosen.point_id.tolist(), chosen.value.tolist(), strict=True)
            yield [{"point": ids[point], "at": at, "value": value} for point, value in values]


def _soaked(pid: int, base: str, day: Iterator[list[dict[str, Any]]]) -> list[Look]:
    """Look each second, and send what of the day is due."""
    looks: list[Look] = []
    began, sent = time.monotonic(), 0
    with httpx.Client(base_url=base, timeout=60) as http:
        while (passed_s := time.monotonic() - began) < MINUTES * 60:
            while sent * QUARTER_HOUR.total_seconds() <= passed_s * FACTOR:
                http.post("/api/v1/readings", json={"readings": next(day, [])}).raise_for_status()
                sent += 1
            looks.append(_look(pid, http, passed_s))
            time.sleep(LOOK_S)
    return looks


def _look(pid: int, http: httpx.Client, at_s: float) -> Look:
    scrape_s, bare_s = _time_s(http, "/metrics"), _time_s(http, "/healthz")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Look(at_s, int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]), scrape_s, bare_s)


def _time_s(http: httpx.Client, path: str) -> float:
    start = time.perf_counter()
    http.get(path).raise_for_status()
    return time.perf_counter() - start


def _counters(base: str) -> tuple[float, int]:
    """Readings stored so far, and meters that answer."""
    lines = httpx.get(f"{base}/metrics", timeout=60).text.splitlines()
    stored = sum(float(x.split()[-1]) for x in lines if x.startswith("wattline_readings_stored_total{"))
    return stored, sum(x.startswith("wattline_meter_up{") and float(x.split()[-1]) == 1 for x in lines)


def _rows(looks: Sequence[Look], counters: tuple[float, int]) -> list[Row]:
    stored, up = counters
    note = f"{MINUTES:g} min: {stored:,.0f} readings stored, {up} meters answer at the end"
    return [
        _row("resident memory", "MiB", [look.memory_mib for look in looks], looks, note),
        _row("open files", "", [float(look.files) for look in looks], looks),
        _row("threads", "", [float(look.threads) for look in looks], looks),
        _row("scrape of /metrics", "ms", [look.scrape_s * 1e3 for look in looks], looks),
        _row("the same over /healthz", "", [look.scrape_s / look.bare_s for look in looks], looks),
    ]


def _row(what: str, unit: str, values: Sequence[float], looks: Sequence[Look], note: str = "") -> Row:
    """The last fifth against the second; the slope over a simulated day."""
    fifth = len(values) // 5
    early, late = statistics.median(values[fifth : 2 * fifth]), statistics.median(values[-fifth:])
    days = [look.at_s * FACTOR / DAY_S for look in looks]
    slope = float(np.polyfit(days[fifth:], values[fifth:], 1)[0])
    steep = f"slope {slope:+.1f} {unit} a day".replace("  ", " ")
    return Row(
        what,
        f"{late:.1f} {unit}".strip(),
        f"second fifth {early:.1f} {unit}".strip(),
        late / early,
        FLAT,
        "; ".join(filter(None, [steep, note])),
    )
