"""SNMP polls a second: ours, pysnmp, Debian's prometheus-snmp-exporter and a C net-snmp loop.

All ask the same eight OIDs in one PDU of the same ``snmpd``, in v2c and in v3 authPriv (SHA-256,
AES-128). Ours is the whole collector: request, guard, decode, scale, readings. Ours, pysnmp and the
exporter have many questions under way at once, the C loop one: it is as fast as its round trips, which on
idle cores wait for the cores to wake. A peer that is not installed is left out with a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
import yaml

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.table import Row, paired
from collectors.base import Binding, Collector
from collectors.registry import build, parse

TITLE = "SNMP: polls of eight OIDs a second"
SESSIONS = 100
SECONDS = 1.0
ROUNDS = 7
OIDS = [f"1.3.6.1.2.1.11.{n}.0" for n in (1, 3, 4, 5, 6, 8, 9, 10)]
HERE = Path(__file__).parent
SECRETS = {"user": "bench", "auth_password": "benchauth", "priv_password": "benchpriv"}
LEVELS = {"2": "v2c", "3": "v3 authPriv"}
Peer = Callable[[str], float]


def run() -> list[Row]:
    """All rows of this bench."""
    if shutil.which("snmpd") is None:
        return [_absent("snmpd")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="wattline-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(_snmpd(folder))
        peers, missing = _peers(folder, port, stack)
        for version, label in LEVELS.items():
            rows += _compare(label, version, lambda v: _ours(folder, port, v), peers)
        rows += [_absent(peer) for peer in missing]
    return rows


TARGETS = {"pysnmp": 10.0, "prometheus-snmp-exporter": 1.0, "net-snmp in C, one after another": 0.5}


def _compare(label: str, version: str, ours: Peer, peers: dict[str, Peer]) -> list[Row]:
    """Interleaved runs of ours and every peer; medians."""
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        rates.setdefault("ours", []).append(ours(version))
        for name, peer in peers.items():
            rates.setdefault(name, []).append(peer(version))
    mine = rates.pop("ours")
    figure = f"{statistics.median(mine):.0f}/s"
    what = f"{label}, {SESSIONS} sessions"
    return [_row(what, figure, mine, name, rate) for name, rate in rates.items()] or [
        Row(what, figure, "", None, "")
    ]


def _row(what: str, figure: str, mine: list[float], name: str, rate: list[float]) -> Row:
    ratio = paired(mine, rate)
    peer = f"{name} {statistics.median(rate):.0f}/s"
    return Row(what, figure, peer, ratio.ratio, f">= {TARGETS[name]:g}", str(ratio))


def _absent(what: str) -> Row:
    return Row(f"{what} is absent", "", "", None, "", "skipped; install it to compare")


# Ours.


def _ours(folder: Path, port: int, version: str) -> float:
    profile = folder / "bench.yaml"
    channels = [{"name": f"c{n}", "unit": "1", "kind": "gauge", "oid": oid} for n, oid in enumerate(OIDS)]
    head = {"model": "bench", "vendor": "bench", "protocol": "snmp", "source": "bench"}
    profile.write_text(yaml.safe_dump({**head, "channels": channels}), encoding="utf-8")
    access = {"version": "3", **SECRETS} if version == "3" else {"version": "2c", "community": "public"}
    config = {
        "kind": "snmp",
        "host": "127.0.0.1",
        "port": port,
        "profile": str(profile),
        "timeout_s": 5,
        **access,
    }
    return uvloop.run(_polls(config))


async def _polls(config: dict[str, Any]) -> float:
    points = tuple(
        Point(id=f"p{n}", role=Role.NONE, kind=ReadingKind.GAUGE, channel=f"c{n}") for n in range(len(OIDS))
    )
    meters = [build(parse(config), Binding(f"m{n}", points)) for n in range(SESSIONS)]
    at = datetime.now(UTC)
    await asyncio.gather(*(meter.poll(at) for meter in meters))
    start = time.perf_counter()
    counts = await asyncio.gather(*(_loop(meter, at, start + SECONDS) for meter in meters))
    rate = sum(counts) / (time.perf_counter() - start)
    for meter in meters:
        await meter.close()
    return rate


async def _loop(meter: Collector, at: datetime, end: float) -> int:
    count = 0
    while time.perf_counter() < end:
        poll = await meter.poll(at)
        if len(poll.values) != len(OIDS):
            raise RuntimeError(f"a poll failed: {poll.failures}")
        count += 1
    return count


# The agent and the peers.


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def _snmpd(folder: Path) -> Iterator[int]:
    port = _free_port(socket.SOCK_DGRAM)
    users = "createUser bench SHA-256 benchauth AES benchpriv\nrouser bench priv\n"
    (folder / "kept").mkdir()
    (folder / "snmpd.conf").write_text(f"rocommunity public 127.0.0.1\n{users}", encoding="utf-8")
    command = ["snmpd", "-f", "-C", "-c", str(folder / "snmpd.conf"), "-Ln", f"udp:127.0.0.1:{port}"]
    with _process(command, {"SNMP_PERSISTENT_DIR": str(folder / "kept")}):
        _await_agent(port)
        yield port


@contextlib.contextmanager
def _process(
    command: list[str], environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | (environment or {})
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _await_agent(port: int) -> None:
    """Wait until the agent answers its first GET."""
    request = bytes.fromhex(
        "302602010104067075626c6963a019020101020100020100300e300c06082b060102010103000500"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.2)
        for _ in range(100):
            udp.sendto(request, ("127.0.0.1", port))
            with contextlib.suppress(OSError):
                udp.recv(2000)
                return
            time.sleep(0.05)
    raise RuntimeError("snmpd does not answer")


def _peers(folder: Path, port: int, stack: contextlib.ExitStack) -> tuple[dict[str, Peer], list[str]]:
    """The peers that this machine has, and the names of those it lacks."""
    makers = {
        "pysnmp": _pysnmp,
        "prometheus-snmp-exporter": _exporter,
        "net-snmp in C, one after another": _c_loop,
    }
    made = {name: maker(folder, port, stack) for name, maker in makers.items()}
    return {n: p for n, p in made.items() if p is not None}, [n for n, p in made.items() if p is None]


def _rate_of(command: list[str]) -> float:
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _pysnmp(folder: Path, port: int, _: contextlib.ExitStack) -> Peer | None:
    """pysnmp in a virtual environment that is thrown away afterwards."""
    python = folder / "pysnmp" / "bin" / "python"
    venv.create(folder / "pysnmp", with_pip=True)
    got = subprocess.run(
        [python, "-m", "pip", "install", "-q", "pysnmp", "cryptography"], check=False, capture_output=True
    )
    if got.returncode:
        return None
    script = str(HERE / "snmp_pysnmp.py")
    return lambda version: _rate_of([str(python), script, str(port), version, str(SECONDS), *OIDS])


def _c_loop(folder: Path, port: int, _: contextlib.ExitStack) -> Peer | None:
    program = folder / "snmp_loop"
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    command = [compiler, "-O2", "-o", str(program), str(HERE / "snmp_loop.c"), "-lnetsnmp"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return None
    peer = f"udp:127.0.0.1:{port}"
    return lambda version: _rate_of([str(program), peer, version, str(SECONDS), *OIDS])


def _exporter(folder: Path, port: int, stack: contextlib.ExitStack) -> Peer | None:
    program = shutil.which("prometheus-snmp-exporter")
    if program is None:
        return None
    metrics = [
        {"name": f"m{n}", "oid": oid, "type": "counter", "help": "bench"} for n, oid in enumerate(OIDS)
    ]
    secrets = {
        "security_level": "authPriv", "username": "bench", "password": "benchauth", "auth_protocol": "SHA256",
        "priv_protocol": "AES", "priv_password": "benchpriv",
    }  # fmt: skip
    modules = {
        "two": {"get": OIDS, "metrics": metrics, "version": 2, "auth": {"community": "public"}},
        "three": {"get": OIDS, "metrics": metrics, "version": 3, "auth": secrets},
    }
    (folder / "exporter.yml").write_text(yaml.safe_dump(modules), encoding="utf-8")
    web = _free_port(socket.SOCK_STREAM)
    command = [program, f"--config.file={folder / 'exporter.yml'}", f"--web.listen-address=127.0.0.1:{web}"]
    stack.enter_context(_process(command))
    _await_listener(web)
    return lambda version: uvloop.run(_scrapes(web, port, {"2": "two", "3": "three"}[version]))


def _await_listener(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError("the exporter does not listen")


async def _scrapes(web: int, port: int, module: str) -> float:
    """Scrapes a second over connections that are kept open."""
    end = time.perf_counter() + SECONDS
    counts = await asyncio.gather(*(_scrape_loop(web, port, module, end) for _ in range(16)))
    return sum(counts) / SECONDS


async def _scrape_loop(web: int, port: int, module: str, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", web)
    request = f"GET /snmp?module={module}&target=127.0.0.1:{port} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    count = 0
    while time.perf_counter() < end:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(int(head.lower().split("content-length:")[1].split("\r\n")[0]))
        if b"\nm7 " not in body:
            raise RuntimeError(f"the exporter failed: {body[:200]!r}")
        count += 1
    writer.close()
    return count
