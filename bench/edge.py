"""What an edge costs: 500 points of 250 simulated devices every 60 s, to a centre on the same machine.

The devices (150 Modbus TCP, 100 SNMP v2c, two points each) run in this process, ``wattline serve --role
edge`` and the centre in their own. Processor time and memory of the edge are its own, from its ``/metrics``,
over `WATTLINE_EDGE_MINUTES` (default 3) after the first two.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import uvloop
import yaml

from bench.serving import service
from bench.table import Row
from collectors.profiles.profile import ModbusProfile, SnmpProfile, load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from collectors.simulated.snmp_agent import SimulatedSnmp

TITLE = "Edge: 500 points every 60 s"
MODBUS, SNMP, INTERVAL_S = 150, 100, 60
POWER_KW = 5.0
MODBUS_PROFILE, SNMP_PROFILE = "eastron_sdm120", "apc_rpdu2"
CHANNELS = ("energy_import_kwh", "power_kw")
MINUTES = float(os.environ.get("WATTLINE_EDGE_MINUTES", "3"))
SETTLE_S = 120.0
_PATIENCE_S = 300.0


def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as scratch, _devices() as meters:
        folder = Path(scratch)
        file = folder / "site.yaml"
        file.write_text(yaml.safe_dump(_document(meters)))
        with (
            _environment("WATTLINE_REQUIRE_KEYS", "true"),
            service(folder, file, 0) as (_, centre),
            _edge(folder, file, centre) as base,
        ):
            return _measured(base)


def _measured(base: str) -> list[Row]:
    _until(lambda: _metric(base, "wattline_edge_delivered_readings_total") >= 2 * (MODBUS + SNMP))
    time.sleep(SETTLE_S)
    before = _sums(base)
    most_bytes, deadline = 0.0, time.monotonic() + 60 * MINUTES
    while time.monotonic() < deadline:
        time.sleep(5)
        most_bytes = max(most_bytes, _metric(base, "process_resident_memory_bytes"))
    readings, processor_s, took_s = (b - a for a, b in zip(before, _sums(base), strict=True))
    what = f"{MODBUS + SNMP} devices, {2 * (MODBUS + SNMP)} points, every {INTERVAL_S} s"
    note = f"{readings:.0f} readings delivered in {took_s:.0f} s, {processor_s / readings * 1e6:.0f} us each"
    return [
        Row(f"{what}: processor", f"{processor_s / took_s:.2%} of a core", "", None, "<= 5 %", note),
        Row(f"{what}: memory", f"{most_bytes / 1e6:.0f} MB", "", None, "<= 120 MB", "largest seen"),
    ]


def _sums(base: str) -> tuple[float, float, float]:
    names = ("wattline_edge_delivered_readings_total", "process_cpu_seconds_total")
    return _metric(base, names[0]), _metric(base, names[1]), time.monotonic()


def _metric(base: str, name: str) -> float:
    text = httpx.get(f"{base}/metrics").text
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _document(meters: list[dict[str, Any]]) -> dict[str, Any]:
    site = {"id": "s1", "institution": "bank", "time_zone": "Asia/Shanghai", "meters": meters}
    return {"institutions": [{"id": "bank", "institution_class": "joint_stock"}], "sites": [site]}


def _meter(n: int, collector: dict[str, Any]) -> dict[str, Any]:
    kinds = {"energy_import_kwh": "register", "power_kw": "power"}
    points = [
        {
            "id": f"m{n}.{channel}",
            "role": "other" if kind == "register" else "none",
            "kind": kind,
            "channel": channel,
        }
        for channel, kind in kinds.items()
    ]
    return {
        "id": f"m{n}",
        "collector": {**collector, "host": "127.0.0.1", "interval_s": INTERVAL_S},
        "points": points,
    }


@contextmanager
def _devices() -> Iterator[list[dict[str, Any]]]:
    """The devices, in a thread; their meters as a site file has them."""
    meters: list[dict[str, Any]] = []
    started, ended = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with AsyncExitStack() as stack:
            meters.extend(await _started(stack))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(serve()))
    thread.start()
    started.wait(_PATIENCE_S)
    try:
        yield meters
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()


async def _started(stack: AsyncExitStack) -> list[dict[str, Any]]:
    modbus, snmp = load_profile(MODBUS_PROFILE), load_profile(SNMP_PROFILE)
    assert isinstance(modbus, ModbusProfile)
    assert isinstance(snmp, SnmpProfile)
    meters = []
    for n in range(MODBUS):
        unit = SimulatedUnit(modbus, _value, keep_requests=1)
        server = await stack.enter_async_context(SimulatedModbus({1: unit}))
        meters.append(_meter(n, {"kind": "modbus", "port": server.port, "profile": MODBUS_PROFILE}))
    for n in range(MODBUS, MODBUS + SNMP):
        agent = await stack.enter_async_context(SimulatedSnmp(snmp, CHANNELS, _value))
        access = {"version": "2c", "community": "public"}
        meters.append(_meter(n, {"kind": "snmp", "port": agent.port, "profile": SNMP_PROFILE, **access}))
    return meters


def _value(channel: str, at: datetime) -> float:
    return POWER_KW if channel == "power_kw" else at.timestamp() % 1e6 / 3600 * POWER_KW


@contextmanager
def _edge(folder: Path, file: Path, centre: str) -> Iterator[str]:
    """The edge of the site, and its address."""
    wattline = Path(sys.executable).with_name("wattline")
    at_centre = {**os.environ, "WATTLINE_CONFIG": str(file), "WATTLINE_DATA_DIR": str(folder / "data")}
    made = [str(wattline), "edges", "create", "box", "--site", "s1"]
    key = _until(lambda: subprocess.run(made, env=at_centre, capture_output=True, check=False).stdout)
    (folder / "key").write_bytes(key)
    own = {
        "WATTLINE_CENTRE_URL": centre,
        "WATTLINE_CENTRE_KEY_FILE": str(folder / "key"),
        "WATTLINE_DATA_DIR": str(folder / "edge"),
    }
    log = folder / "edge.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [wattline, "serve", "--role", "edge", "--port", "0"],
            env={**os.environ, **own},
            stdout=output,
            stderr=output,
        )
    try:
        yield _until(lambda: next((w for w in log.read_text().split() if w.startswith("http://")), ""))
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)


def _until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE_S
    while not (value := what()):
        if time.monotonic() > deadline:
            raise RuntimeError("it did not happen in time")
        time.sleep(0.5)
    return value
