"""Does a tenth of dead devices make the others late?

Five hundred simulated meters on loopback, each on its own port and all in a process of their own, are polled
twice a second by one poller. In turn all are well for a while, and every tenth swallows what it is sent and
says nothing for a while. Lateness is the time from the turn (slot and jitter) of a device that is always well
to the end of its poll. Its 99th percentile while some are dead is compared with those of the whiles before
and after, so a machine that gets busier or calmer hits both alike.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
import uvloop

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.modbus import as_the_service
from bench.table import Row, paired
from collectors.base import Binding, Collector, Poll
from collectors.poller import Device, Poller, Settings, jitter_s, tune_garbage_collection
from collectors.registry import build, parse

TITLE = "Poller: 500 devices, every tenth dead"
DEVICES = 500
INTERVAL_S = 0.5
SETTLING_S = 1.5
"""After every change: the dead are found dead, the others well again."""
WINDOW_S = 4.0
PAIRS = 18
PROFILE = "eastron_sdm120"
SETTINGS = Settings(jitter_ratio=0.9, longest_backoff_s=INTERVAL_S)
"""No backoff: the dead are a burden at every slot."""
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class _Window:
    """What was seen in one while."""

    p50_s: float
    p99_s: float
    """Percentiles of the lateness of all polls. [s]"""
    cpu_s: float
    """Processor time of the poller in a second. [s]"""
    tasks: int
    objects: int
    memory_mib: float


class _Watched:
    """A collector that notes how late the end of every poll is."""

    def __init__(self, collector: Collector, late_s: list[float]) -> None:
        self.device = collector.device
        self._collector, self._late_s = collector, late_s
        self._offset = timedelta(seconds=jitter_s(self.device, INTERVAL_S, SETTINGS))

    async def poll(self, at: datetime) -> Poll:
        """The collector's poll."""
        poll = await self._collector.poll(at)
        self._late_s.append((datetime.now(UTC) - at - self._offset).total_seconds())
        return poll

    async def close(self) -> None:
        """Close the collector."""
        await self._collector.close()


def run() -> list[Row]:
    """All rows of this bench."""
    with _quiet(), as_the_service():
        windows = uvloop.run(_polled())
    return [
        _time_row("p99 lateness of the healthy", [w.p99_s for w in windows], "<= 1.1"),
        _time_row("median lateness of the healthy", [w.p50_s for w in windows], ""),
        _time_row("CPU of the poller in a second", [w.cpu_s for w in windows], ""),
        _flat_row("tasks", [w.tasks for w in windows]),
        _flat_row("objects made since the start", [w.objects for w in windows]),
        _flat_row("resident memory [MiB]", [w.memory_mib for w in windows]),
    ]


def _time_row(what: str, times_s: Sequence[float], asked: str) -> Row:
    """Windows with dead devices (every second one) against the mean of their neighbours."""
    dead = times_s[1::2]
    well = [(before + after) / 2 for before, after in zip(times_s[::2], times_s[2::2], strict=False)]
    ratio = paired(dead, well)
    ours, peer = (f"{statistics.median(side) * 1e3:.2f} ms" for side in (dead, well))
    return Row(what, ours, f"all well {peer}", ratio.ratio, asked, str(ratio))


def _flat_row(what: str, counts: Sequence[float]) -> Row:
    """The last six windows against the first six: three with dead devices each."""
    first, last = statistics.mean(counts[:6]), statistics.mean(counts[-6:])
    return Row(what, f"in the end {last:.0f}", f"in the beginning {first:.0f}", last / first, "flat")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a log line for every dead device."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()


async def _polled() -> list[_Window]:
    """Windows in turn: all well, some dead, all well ... all well."""
    async with _meters() as meters:
        late_s: list[float] = []
        poller = Poller([_device(n, port, late_s) for n, port in enumerate(meters.ports)], _forget, SETTINGS)
        tune_garbage_collection()
        running = asyncio.create_task(poller.run())
        try:
            await asyncio.sleep(4 * INTERVAL_S)
            return [await _window(meters, late_s, dead=bool(n % 2)) for n in range(2 * PAIRS + 1)]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _window(meters: _Meters, late_s: list[float], *, dead: bool) -> _Window:
    await meters.become("dead" if dead else "well")
    await asyncio.sleep(SETTLING_S)
    late_s.clear()
    cpu_s = time.process_time()
    await asyncio.sleep(WINDOW_S)
    cpu_s = (time.process_time() - cpu_s) / WINDOW_S
    percentiles = statistics.quantiles(late_s, n=100)
    late_s.clear()
    gc.collect()
    counts = len(asyncio.all_tasks()), len(gc.get_objects()), _memory_mib()
    return _Window(percentiles[49], percentiles[98], cpu_s, *counts)


def _memory_mib() -> float:
    """Memory of this process that is in use now; the simulated meters have theirs elsewhere. [MiB]"""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, slots=True)
class _Meters:
    """The process with the simulated meters."""

    process: asyncio.subprocess.Process
    ports: tuple[int, ...]

    async def become(self, state: str) -> None:
        """Every tenth becomes ``dead``, or all ``well``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{state}\n".encode())
        await self.process.stdout.readline()


@asynccontextmanager
async def _meters() -> AsyncIterator[_Meters]:
    command = [sys.executable, "-m", "bench.poller_meters", str(DEVICES), PROFILE]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert process.stdout is not None
    try:
        ports = (await process.stdout.readline()).split()
        yield _Meters(process, tuple(map(int, ports)))
    finally:
        process.kill()
        await process.wait()


def _device(number: int, port: int, late_s: list[float]) -> Device:
    config = parse(
        {
            "kind": "modbus",
            "host": "127.0.0.1",
            "port": port,
            "profile": PROFILE,
            "interval_s": INTERVAL_S,
            "timeout_s": INTERVAL_S,
        }
    )
    points = (
        Point(id=f"p{number}", role=Role.OTHER, kind=ReadingKind.REGISTER, channel="energy_import_kwh"),
    )
    collector = build(config, Binding(f"meter-{number:03}", points))
    # Every tenth is dead at times: only those that are always well are compared.
    return Device(_Watched(collector, late_s) if number % 10 else collector, config)


async def _forget(polls: Sequence[Poll]) -> None:
    """The end of the queue; the spool has a bench of its own."""
