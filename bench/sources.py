"""Sources beside Modbus and SNMP: values a second of processor time, and requests a poll.

Each is compared with its usual library, which reads one value at a time. Device, library and collector are
processes of their own, so only the reader's processor time counts; ours is the whole collector: requests,
checks, decoding, failures, readings.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.table import Row, paired
from collectors.bacnet.collector import BacnetChannel
from collectors.base import Binding
from collectors.opcua.collector import OpcUaChannel
from collectors.profiles.profile import Channel, load_profile
from collectors.registry import build, parse

TITLE = "Other sources: values a second of processor time"
SECONDS = 1.0
ROUNDS = 7
AT_LEAST = 5.0
HERE = Path(__file__).parent
Figure = tuple[int, float]
"""Values, and processor time that they took. [s]"""


def run() -> list[Row]:
    """All rows of this bench."""
    return [_dlt645(), _bacnet(), _opcua()]


def _dlt645() -> Row:
    """Energies by rate, voltages, currents, powers and frequency of one meter."""
    names = [f"energy_import{rate}_kwh" for rate in ("", "_t1", "_t2", "_t3", "_t4")]
    names += [f"{what}_l{n}_{unit}" for what, unit in (("voltage", "v"), ("current", "a")) for n in (1, 2, 3)]
    names += ["power_kw", "power_l1_kw", "power_l2_kw", "power_l3_kw", "frequency_hz"]
    offered = {channel.name: channel for channel in load_profile("dlt645_2007").channels}
    mapping = {"kind": "dlt645", "address": "202311000042", "wake_up": 0, "gap_s": 0}
    server = [sys.executable, "-m", "tests.protocol.dlt645_meter", "202311000042"]
    with _device(server) as port, _library("dlt645==3.2.0") as python:
        if python is None:
            return Row("DL/T 645", "", "", None, "", "skipped: the package dlt645 cannot be installed")
        points = [_point(offered[name]) for name in names]
        return _compared("DL/T 645, 16 values in 5 requests", "dlt645", mapping, points, port, python)


def _bacnet() -> Row:
    """Twenty present values of one device, ours with their status flags and reliability."""
    channels = [
        {"name": f"infeed_{n}_power_kw", "unit": "kW", "object": f"analog-input,{100 + n}"} for n in range(20)
    ]
    mapping = {"kind": "bacnet", "channels": channels, "timeout_s": 10}
    points = [_point(BacnetChannel.model_validate(channel)) for channel in channels]
    with _device([sys.executable, "-m", "tests.protocol.bacnet_device", "20"]) as port:
        return _compared("BACnet/IP, 20 objects", "bacnet", mapping, points, port, sys.executable)


def _opcua() -> Row:
    """Twenty variables of one server."""
    channels = [
        {"name": f"infeed_{n}_power_kw", "unit": "kW", "node": f"ns=2;s=Main.Feed {n} power"}
        for n in range(20)
    ]
    mapping = {"kind": "opcua", "path": "UA/Server", "channels": channels, "timeout_s": 10}
    points = [_point(OpcUaChannel.model_validate(channel)) for channel in channels]
    with _device([sys.executable, "-m", "tests.protocol.opcua_server", "20"]) as port:
        return _compared("OPC UA, 20 variables", "opcua", mapping, points, port, sys.executable)


def _point(channel: Channel) -> Point:
    role = Role.NONE if channel.kind == "gauge" else Role.OTHER
    return Point(id=channel.name, role=role, kind=ReadingKind(channel.kind), channel=channel.name)


def _compared(
    what: str, name: str, mapping: dict[str, Any], points: Sequence[Point], port: int, python: str
) -> Row:
    """Interleaved runs of ours and the library; medians of values a second of processor time."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours.append(_rate(uvloop.run(_polls({**mapping, "host": "127.0.0.1", "port": port}, points))))
        theirs.append(_rate(_peer(python, name, port)))
    ratio = paired(ours, theirs)
    return Row(
        what,
        f"{statistics.median(ours):,.0f}/s",
        f"{name}, one at a time {statistics.median(theirs):,.0f}/s",
        ratio.ratio,
        f">= {AT_LEAST:g}",
        str(ratio),
    )


def _rate(figure: Figure) -> float:
    return figure[0] / figure[1]


async def _polls(mapping: dict[str, Any], points: Sequence[Point]) -> Figure:
    meter = build(parse(mapping), Binding("m", tuple(points)))
    at = datetime.now(UTC)
    await meter.poll(at)
    began, processor, values = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < SECONDS:
        poll = await meter.poll(at)
        if poll.failures:
            raise RuntimeError(f"a poll failed: {poll.failures}")
        values += len(poll.values)
    spent = time.process_time() - processor
    await meter.close()
    return values, spent


def _peer(python: str, name: str, port: int) -> Figure:
    command = [python, str(HERE / "sources_peers.py"), name, str(port), str(SECONDS)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(said[-2]), float(said[-1])


@contextlib.contextmanager
def _device(command: Sequence[str]) -> Iterator[int]:
    """A device in a process of its own; its port, which it prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextlib.contextmanager
def _library(package: str) -> Iterator[str | None]:
    """A Python with a package that is thrown away afterwards; None where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="wattline-bench-") as folder:
        python = f"{folder}/bin/python"
        venv.create(folder, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", package], check=False, capture_output=True
        )
        yield None if done.returncode else python
