"""Modbus reads a second: ours against a bare asyncio loop on pymodbus, and requests per poll.

Both read the same registers from the same C server (libmodbus) over a hundred connections. The peer is
pymodbus as its documentation shows it, on asyncio's own event loop, and throws the registers away. Ours is
the whole way: request, checks, decode of every channel, scale, readings, poller state, round queue; with
the event loop (uvloop) and the garbage settings of the service. What these two alone do for pymodbus
stands in rows of its own. The time of the C server is in nobody's CPU figure, that of the kernel is.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.table import Row, paired
from collectors.base import Binding, Poll
from collectors.modbus.collector import ModbusConfig
from collectors.poller import Device, Poller, tune_garbage_collection
from collectors.profiles.profile import ModbusChannel, ModbusProfile
from collectors.registry import build, parse
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit

TITLE = "Modbus: reads of a meter a second"
CONNECTIONS = 100
ROLE = {"register": Role.OTHER, "power": Role.OTHER, "gauge": Role.NONE}
TWENTY = 20
SECONDS = 0.5
ROUNDS = 21
SOURCE = Path(__file__).with_name("modbus_server.c")


@dataclass(frozen=True, slots=True)
class _Measured:
    """One run."""

    reads_per_s: float
    cpu_ms_per_1000: float


def _channels(count: int, first: int = 0) -> list[dict[str, Any]]:
    """So many adjacent float32 channels."""
    return [
        {
            "name": f"infeed_{i}_power_kw",
            "kind": "power",
            "unit": "W",
            "address": first + 2 * i,
            "type": "float32",
        }
        for i in range(count)
    ]


@dataclass(frozen=True, slots=True)
class _Meter:
    """What both sides read."""

    name: str
    settings: Mapping[str, object]
    """How ours is told."""
    address: int
    registers: int
    points: int


METERS = (
    _Meter("UMG 96RM, 11 points", {"profile": "janitza_umg96rm"}, 19_020, 58, 11),
    _Meter("25 points", {"channels": _channels(25, 19_000)}, 19_000, 50, 25),
)


def run() -> list[Row]:
    """All rows of this bench."""
    return [*_rates(), _requests()]


def _rates() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wattline-bench-") as folder:
        server = _compiled(Path(folder))
        if server is None:
            return [_absent()]
        with _serving(server) as port:
            return [row for meter in METERS for row in _compare(meter, port)]


def _absent() -> Row:
    return Row("reads a second", "", "skipped: cc or libmodbus-dev is not installed", None, ">= 1.8")


def _compiled(folder: Path) -> Path | None:
    """The C server, or None where compiler or library is absent."""
    if not (shutil.which("cc") and shutil.which("pkg-config")):
        return None
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False
    )
    if flags.returncode:
        return None
    server = folder / "server"
    subprocess.run(["cc", "-O2", str(SOURCE), "-o", str(server), *flags.stdout.split()], check=True)
    return server


@contextlib.contextmanager
def _serving(server: Path) -> Iterator[int]:
    with subprocess.Popen([server], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


OURS, PEER, PEER_SET = "ours", "pymodbus", "pymodbus with uvloop and our garbage settings"


def _compare(meter: _Meter, port: int) -> list[Row]:
    runs: dict[str, list[_Measured]] = {OURS: [], PEER: [], PEER_SET: []}
    for _ in range(ROUNDS):
        runs[PEER].append(asyncio.run(_measured(_pymodbus, meter, port)))
        with as_the_service():
            runs[OURS].append(uvloop.run(_measured(_ours, meter, port)))
            runs[PEER_SET].append(uvloop.run(_measured(_pymodbus, meter, port)))
    where = f"{meter.name} in {meter.registers} registers, {CONNECTIONS} connections"
    rates = [
        _rate_row(f"{where}, reads a second", runs[OURS], name, runs[name], asked)
        for name, asked in ((PEER, ">= 1.8"), (PEER_SET, ""))
    ]
    return [*rates, _cpu_row(f"{where}, CPU per 1000 reads", runs[OURS], runs[PEER])]


def _rate_row(what: str, ours: list[_Measured], name: str, peer: list[_Measured], asked: str) -> Row:
    speed, other = ([one.reads_per_s for one in side] for side in (ours, peer))
    figures = f"{statistics.median(speed):.0f}/s", f"{name} {statistics.median(other):.0f}/s"
    ratio = paired(speed, other)
    return Row(what, *figures, ratio.ratio, asked, str(ratio))


def _cpu_row(what: str, ours: list[_Measured], peer: list[_Measured]) -> Row:
    cpu, other = ([one.cpu_ms_per_1000 for one in side] for side in (ours, peer))
    figures = f"{statistics.median(cpu):.0f} ms", f"{PEER} {statistics.median(other):.0f} ms"
    ratio = paired(other, cpu)
    return Row(what, *figures, ratio.ratio, "", f"peer over ours, decoded points included; {ratio}")


@contextlib.contextmanager
def as_the_service() -> Iterator[None]:
    """With the garbage settings of a process that polls."""
    before = gc.get_threshold()
    tune_garbage_collection()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


Reader = Callable[[_Meter, int, Callable[[], bool], Callable[[], None]], Coroutine[Any, Any, None]]
"""Reads a meter at a port until told to stop, and counts."""


async def _measured(reader: Reader, meter: _Meter, port: int) -> _Measured:
    counted = 0
    loop = asyncio.get_running_loop()
    started, cpu, until = 0.0, 0.0, 0.0

    def more() -> bool:
        nonlocal started, cpu, until
        if not started:
            started, cpu = loop.time(), time.process_time()
            until = started + SECONDS
        return loop.time() < until

    def count() -> None:
        nonlocal counted
        counted += 1

    await reader(meter, port, more, count)
    took_s = loop.time() - started
    return _Measured(counted / took_s, (time.process_time() - cpu) * 1e6 / counted)


async def _pymodbus(meter: _Meter, port: int, more: Callable[[], bool], count: Callable[[], None]) -> None:
    from pymodbus.client import AsyncModbusTcpClient

    clients = [AsyncModbusTcpClient("127.0.0.1", port=port) for _ in range(CONNECTIONS)]
    for client in clients:
        await client.connect()

    async def loop(client: AsyncModbusTcpClient) -> None:
        while more():
            answer = await client.read_holding_registers(meter.address, count=meter.registers)
            assert len(answer.registers) == meter.registers
            count()

    await asyncio.gather(*map(loop, clients))
    for client in clients:
        client.close()


def _device(meter: _Meter, host: str, port: int) -> Device:
    mapping = {"kind": "modbus", "host": host, "port": port, "interval_s": 86_400, **meter.settings}
    config = parse(mapping)
    assert isinstance(config, ModbusConfig)
    points = tuple(
        Point(id=f"{host}-{c.name}", role=ROLE[c.kind], kind=ReadingKind(c.kind), channel=c.name)
        for c in config.device_profile().channels
    )
    return Device(build(config, Binding(host, points)), config)


async def _ours(meter: _Meter, port: int, more: Callable[[], bool], count: Callable[[], None]) -> None:
    # Meters on one address share its connection, so a hundred connections need a hundred addresses.
    devices = [_device(meter, f"127.0.0.{n + 1}", port) for n in range(CONNECTIONS)]
    poller = Poller(devices, _forget)
    running = asyncio.create_task(poller.run())
    at = datetime.now(UTC)
    for device in devices:
        await poller.poll_once(device, at)

    async def loop(device: Device) -> None:
        while more():
            poll = await poller.poll_once(device, at)
            assert len(poll.values) == meter.points
            count()

    await asyncio.gather(*map(loop, devices))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _forget(polls: Sequence[Poll]) -> None:
    """The end of the queue; the spool has a bench of its own."""


def _requests() -> Row:
    """Requests for the points of a poll, planned and one by one."""
    ours, single = (asyncio.run(_requests_of_a_poll(one_by_one)) for one_by_one in (False, True))
    return Row(
        f"requests for {TWENTY} adjacent values",
        str(ours),
        f"one per value {single}",
        ours / single,
        "1 : 20",
        "counted by the simulated meter",
    )


async def _requests_of_a_poll(one_by_one: bool) -> int:
    channels = tuple(ModbusChannel.model_validate(c) for c in _channels(TWENTY))
    profile = ModbusProfile(model="m", vendor="v", protocol="modbus", source="bench", channels=channels)
    points = tuple(
        Point(id=c.name, role=Role.OTHER, kind=ReadingKind.POWER, channel=c.name) for c in channels
    )
    unit = SimulatedUnit(profile, lambda channel, at: 1.0)
    async with SimulatedModbus({1: unit}) as server:
        mapping = {"kind": "modbus", "host": "127.0.0.1", "port": server.port, "channels": _channels(TWENTY)}
        config = parse({**mapping, "blocks": {"single": one_by_one}})
        collector = build(config, Binding("m", points))
        poll = await collector.poll(datetime.now(UTC))
        await collector.close()
    assert len(poll.readings) == TWENTY
    return len(unit.requests)
