"""Does the service get heavier or slower in a day? A day of polls in twenty minutes.

``wattline serve`` runs as a process of its own on a database of its own. One site of simulated meters is
polled 72 times as often as usual, so a day's polls come in twenty minutes; the past day of the other site is
sent to it over HTTP, a quarter-hour after the other, so that a day's intervals are rolled up and evaluated.
Each second /metrics is read. After a first fifth in which everything warms up, the second fifth is compared
with the last, and the slope is that of a straight line through all after the first.

``WATTLINE_SOAK_MINUTES`` (default 20) says how long: a part of the day, or several.

With ``WATTLINE_SOAK_SITES`` so many sites of 500 registers (those of ``bench capacity``) are sent live
readings over HTTP instead, each once a minute, and the lag of their figures is watched too.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

import collectors.simulated
from app import config
from app.domain.site import Site
from app.jobs import demo
from bench import capacity
from bench.serving import service
from bench.table import Row
from collectors.simulated.devices import SimulatedDevices
from collectors.simulated.history import Simulation

TITLE = "Soak: a day of polls in 20 minutes"
FACTOR = 72
MINUTES = float(os.environ.get("WATTLINE_SOAK_MINUTES", "20"))
SITES = int(os.environ.get("WATTLINE_SOAK_SITES", "0"))
SITE_FILE = Path(collectors.simulated.__file__).parent / "demo_site.yaml"
POLLED, PUSHED = "sh1", "nb1"
USUAL_INTERVAL_S = 30.0
LOOK_S = 1.0
DAY_S = 86_400.0
QUARTER_HOUR = timedelta(minutes=15)
FLAT = "flat: <= 1.05"


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
    lag_s: float
    """How far the figures of the worst site are behind what is stored."""
    all_mib: float
    """Memory with the database's processes."""


def run() -> list[Row]:
    """All rows of this bench."""
    if SITES:
        return _of_many_sites()
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
        day = _day(simulation, fleet.site[PUSHED], anchor)
        looks = _soaked(process.pid, base, day, QUARTER_HOUR.total_seconds() / FACTOR)
        return _rows(looks, _counters(base), FACTOR)


def _of_many_sites() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wattline-soak-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "site.yaml").write_text(capacity.site_file(SITES), encoding="utf-8")
        with service(folder, folder / "site.yaml", SITES) as (process, base):
            looks = _soaked(process.pid, base, _live(SITES), 60 / SITES)
            stored, _ = _counters(base)
    note = f"{SITES} sites of {capacity.POINTS} points a minute, {stored:,.0f} readings"
    whole = _row("memory with the database", "MiB", [look.all_mib for look in looks], looks, 1, note)
    lags_s = [look.lag_s for look in looks]
    worst = f"worst {max(lags_s):.0f} s, median {statistics.median(lags_s):.0f} s"
    return [whole, *_rows(looks, (stored, 0), 1), Row("figures behind", worst, "", None, "<= 60 s")]


def _live(sites: int) -> Iterator[list[dict[str, Any]]]:
    """A reading of each point of one site after the other, now."""
    began = time.monotonic()
    while True:
        for site in range(sites):
            minutes, at = (time.monotonic() - began) / 60, datetime.now(UTC).isoformat()
            outlets = [(f"s{site}-p{n}.kwh", 5e4 + minutes * 0.016) for n in range(capacity.POINTS - 1)]
            values = [(f"s{site}-m.kwh", 1e6 + minutes * 12.0), *outlets]
            yield [{"point": point, "at": at, "value": value} for point, value in values]


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


def _day(simulation: Simulation, site: Site, end: datetime) -> Iterator[list[dict[str, Any]]]:
    """The readings of the day before `end`, or of what the soak lasts, a quarter-hour after the other."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for ids, columns in simulation.history(site, end - timedelta(minutes=MINUTES * FACTOR), end):
        for at_us in np.unique(columns.at_us):
            chosen = columns.take(columns.at_us == at_us)
            at = (epoch + timedelta(microseconds=int(at_us))).isoformat()
            values = zip(chosen.point_id.tolist(), chosen.value.tolist(), strict=True)
            yield [{"point": ids[point], "at": at, "value": value} for point, value in values]


def _soaked(pid: int, base: str, day: Iterator[list[dict[str, Any]]], every_s: float) -> list[Look]:
    """Look each second, and send the part of the day that is due, one every so often."""
    looks: list[Look] = []
    began, sent = time.monotonic(), 0
    with httpx.Client(base_url=base, timeout=600) as http:
        while (passed_s := time.monotonic() - began) < MINUTES * 60:
            while sent * every_s <= passed_s:
                http.post("/api/v1/readings", json={"readings": next(day, [])}).raise_for_status()
                sent += 1
                if time.monotonic() - began >= MINUTES * 60:
                    break  # the service does not keep up: what was seen of it says so
            looks.append(_look(pid, http, passed_s))
            time.sleep(LOOK_S)
    return looks


def _look(pid: int, http: httpx.Client, at_s: float) -> Look:
    scrape_s, bare_s = _time_s(http, "/metrics"), _time_s(http, "/healthz")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(os.listdir(f"/proc/{pid}/fd"))
    resident_mib, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
    lag_s = _worst_lag_s(http.get("/metrics").text) if SITES else 0.0
    all_mib = capacity.memory_mib(pid) if SITES else resident_mib
    return Look(at_s, resident_mib, files, threads, scrape_s, bare_s, lag_s, all_mib)


def _worst_lag_s(metrics: str) -> float:
    found = re.findall(r"^wattline_figures_lag_seconds\S* (\S+)$", metrics, re.MULTILINE)
    return max(map(float, found), default=0.0)


def _time_s(http: httpx.Client, path: str) -> float:
    start = time.perf_counter()
    http.get(path).raise_for_status()
    return time.perf_counter() - start


def _counters(base: str) -> tuple[float, int]:
    """Readings stored so far, and meters that answer."""
    lines = httpx.get(f"{base}/metrics", timeout=60).text.splitlines()
    stored = sum(float(x.split()[-1]) for x in lines if x.startswith("wattline_readings_stored_total{"))
    return stored, sum(x.startswith("wattline_meter_up{") and float(x.split()[-1]) == 1 for x in lines)


def _rows(looks: Sequence[Look], counters: tuple[float, int], factor: float) -> list[Row]:
    stored, up = counters
    note = f"{MINUTES:g} min: {stored:,.0f} readings stored, {up} meters answer at the end"
    return [
        _row("resident memory", "MiB", [look.memory_mib for look in looks], looks, factor, note),
        _row("open files", "", [float(look.files) for look in looks], looks, factor),
        _row("threads", "", [float(look.threads) for look in looks], looks, factor),
        _row("scrape of /metrics", "ms", [look.scrape_s * 1e3 for look in looks], looks, factor),
        _row("the same over /healthz", "", [look.scrape_s / look.bare_s for look in looks], looks, factor),
    ]


def _row(
    what: str, unit: str, values: Sequence[float], looks: Sequence[Look], factor: float, note: str = ""
) -> Row:
    """The last fifth against the second; the slope over a simulated day, `factor` times as fast."""
    fifth = len(values) // 5
    early, late = statistics.median(values[fifth : 2 * fifth]), statistics.median(values[-fifth:])
    days = [look.at_s * factor / DAY_S for look in looks]
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
