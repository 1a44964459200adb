"""Do sick devices make the healthy ones late?

Five hundred devices of several kinds on loopback, all real peers in a process of their own, are polled
twice a second by one poller: Modbus TCP, Modbus RTU over TCP behind shared gateways, SNMP v2c and v3,
DL/T 645 meters behind serial servers, BACnet/IP. In turn all are well for a while, and a tenth of the lines
and agents is sick for a while: dead, slow, or answering noise. Lateness is the time from the turn (slot and
jitter) of a device that is always well to the end of its poll. Its 99th percentile while some are sick is
compared with those of the whiles before and after, so a machine that gets busier or calmer hits both alike.

Gateways are sick as a whole, but for one with a single dead meter. Its others have a row of their own: a line
takes one request at a time, so they wait for the dead one's time-outs. In service a silent meter is asked
ever more rarely; here at every slot.

Lateness is wall time: on a machine that others use run ``chrt -f 1 python -m bench poller``, as root, or the
p99 is theirs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
import uvloop

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.modbus import as_the_service
from bench.table import Row, paired
from collectors.base import Binding, Collector, Poll
from collectors.poller import Device, Poller, Settings, jitter_s, tune_garbage_collection
from collectors.registry import build, parse

TITLE = "Poller: 500 mixed devices, a tenth of them sick"
DEVICES = 500
INTERVAL_S = 0.5
TIMEOUT_S = 0.4
SETTLING_S = 1.5
"""After every change: the sick are found sick, or well again."""
WINDOW_S = 3.0
PAIRS = 17
SETTINGS = Settings(jitter_ratio=0.9, longest_backoff_s=INTERVAL_S)
"""No backoff: the sick are a burden at every slot."""
ROOT = Path(__file__).parents[1]


WELL, SICK, NEIGHBOUR = "well", "sick", "neighbour"


@dataclass(slots=True)
class _Seen:
    """What the polls of one kind of device, in one state, were like in one while."""

    late_s: list[float] = field(default_factory=list)
    failed: int = 0


Seen = dict[tuple[str, str], _Seen]
"""By kind, and by whether the devices are always ``well``, at times ``sick``, or a ``neighbour``."""


@dataclass(frozen=True, slots=True)
class _Window:
    """What was seen in one while: figures only, so that keeping them is no growth of the poller's."""

    late_s: dict[tuple[str, str], tuple[float, float]]
    """Median and 99th percentile of the lateness, by state and kind (empty: all kinds). [s]"""
    polls: dict[str, tuple[int, int]]
    """Polls, and those of them that did not read all, by state."""
    cpu_s: float
    """Processor time of the poller in a second. [s]"""
    tasks: int
    objects: int
    memory_mib: float


class _Watched:
    """A collector that notes how every poll was and how late its end."""

    def __init__(self, collector: Collector, seen: _Seen) -> None:
        self.device = collector.device
        self._collector, self._seen = collector, seen
        self._offset = timedelta(seconds=jitter_s(self.device, INTERVAL_S, SETTINGS))

    async def poll(self, at: datetime) -> Poll:
        """The collector's poll."""
        poll = await self._collector.poll(at)
        self._seen.late_s.append((datetime.now(UTC) - at - self._offset).total_seconds())
        self._seen.failed += bool(poll.failures)
        return poll

    async def close(self) -> None:
        """Close the collector."""
        await self._collector.close()


def run() -> list[Row]:
    """All rows of this bench."""
    with _quiet(), as_the_service():
        windows = uvloop.run(_polled())
    return [*_lateness_rows(windows), *_failure_rows(windows), *_cost_rows(windows)]


def _lateness_rows(windows: Sequence[_Window]) -> list[Row]:
    def row(what: str, figure: int, state: str, kind: str = "", asked: str = "") -> Row:
        return _time_row(what, [w.late_s[state, kind][figure] for w in windows], asked)

    median, p99 = 0, 1
    kinds = [kind for state, kind in windows[0].late_s if state == WELL and kind]
    return [
        row("p99 lateness of the healthy", p99, WELL, asked="<= 1.1"),
        row("median lateness of the healthy", median, WELL),
        *(row(f"p99 lateness of the healthy, {kind}", p99, WELL, kind) for kind in kinds),
        row("median lateness behind the gateway of a dead meter", median, NEIGHBOUR),
    ]


def _failure_rows(windows: Sequence[_Window]) -> list[Row]:
    return [
        _failure_row("polls of the healthy that failed", windows, WELL, "0"),
        _failure_row("polls of the sick that failed", windows, SICK, ""),
    ]


def _failure_row(what: str, windows: Sequence[_Window], state: str, asked: str) -> Row:
    ours, peer = (_failed([w.polls[state] for w in side]) for side in (windows[1::2], windows[::2]))
    return Row(what, ours, f"all well {peer}", None, asked)


def _failed(polls: Sequence[tuple[int, int]]) -> str:
    return f"{sum(failed for _, failed in polls)} of {sum(all_ for all_, _ in polls)}"


def _cost_rows(windows: Sequence[_Window]) -> list[Row]:
    return [
        _time_row("CPU of the poller in a second", [w.cpu_s for w in windows], ""),
        _flat_row("tasks", [w.tasks for w in windows]),
        _flat_row("objects made since the start", [w.objects for w in windows]),
        _flat_row("resident memory [MiB]", [w.memory_mib for w in windows]),
    ]


def _time_row(what: str, times_s: Sequence[float], asked: str) -> Row:
    """Windows with sick devices (every second one) against the mean of their neighbours."""
    sick = times_s[1::2]
    well = [(before + after) / 2 for before, after in zip(times_s[::2], times_s[2::2], strict=False)]
    ratio = paired(sick, well)
    ours, peer = (f"{statistics.median(side) * 1e3:.2f} ms" for side in (sick, well))
    return Row(what, ours, f"all well {peer}", ratio.ratio, asked, str(ratio))


def _flat_row(what: str, counts: Sequence[float]) -> Row:
    """The last six windows against the first six: three with sick devices each."""
    first, last = statistics.mean(counts[:6]), statistics.mean(counts[-6:])
    return Row(what, f"in the end {last:.0f}", f"in the beginning {first:.0f}", last / first, "flat")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a log line for every sick device."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()


async def _polled() -> list[_Window]:
    """Windows in turn: all well, some sick, all well ... all well."""
    async with _peers() as peers:
        seen: Seen = {}
        devices = [_device(n, told, seen) for n, told in enumerate(peers.devices)]
        assert len(devices) == DEVICES
        poller = Poller(devices, _forget, SETTINGS)
        tune_garbage_collection()
        running = asyncio.create_task(poller.run())
        try:
            await asyncio.sleep(4 * INTERVAL_S)
            return [await _window(peers, seen, sick=bool(n % 2)) for n in range(2 * PAIRS + 1)]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _window(peers: _Peers, seen: Seen, *, sick: bool) -> _Window:
    await peers.become(SICK if sick else WELL)
    await asyncio.sleep(SETTLING_S)
    _taken(seen)
    cpu_s = time.process_time()
    await asyncio.sleep(WINDOW_S)
    cpu_s = (time.process_time() - cpu_s) / WINDOW_S
    late_s, polls = _taken(seen)
    gc.collect()
    return _Window(late_s, polls, cpu_s, len(asyncio.all_tasks()), len(gc.get_objects()), _memory_mib())


def _taken(seen: Seen) -> tuple[dict[tuple[str, str], tuple[float, float]], dict[str, tuple[int, int]]]:
    """Lateness and polls since the last time; what was seen is forgotten."""
    late_s: dict[tuple[str, str], list[float]] = {}
    failed: dict[str, int] = {}
    for (kind, state), one in seen.items():
        late_s.setdefault((state, ""), []).extend(one.late_s)
        late_s[state, kind] = one.late_s
        failed[state] = failed.get(state, 0) + one.failed
        one.late_s, one.failed = [], 0
    figures = {key: _median_and_p99(times_s) for key, times_s in late_s.items() if len(times_s) > 1}
    return figures, {state: (len(late_s[state, ""]), count) for state, count in failed.items()}


def _median_and_p99(times_s: Sequence[float]) -> tuple[float, float]:
    percentiles = statistics.quantiles(times_s, n=100)
    return percentiles[49], percentiles[98]


def _memory_mib() -> float:
    """Memory of this process that is in use now; the peers have theirs elsewhere. [MiB]"""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, slots=True)
class _Peers:
    """The process with the devices."""

    process: asyncio.subprocess.Process
    devices: Sequence[dict[str, Any]]
    """What is told of each; see ``poller_meters.py``."""

    async def become(self, state: str) -> None:
        """A tenth becomes ``sick``, or all ``well``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{state}\n".encode())
        await self.process.stdout.readline()


@asynccontextmanager
async def _peers() -> AsyncIterator[_Peers]:
    command = [sys.executable, "-m", "bench.poller_meters"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=2**20)
    assert process.stdout is not None
    try:
        yield _Peers(process, json.loads(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


def _device(number: int, told: dict[str, Any], seen: Seen) -> Device:
    config = parse({**told["collector"], "interval_s": INTERVAL_S, "timeout_s": TIMEOUT_S})
    points = tuple(_point(f"p{number}_{name}", name) for name in told["channels"])
    collector = build(config, Binding(f"meter-{number:03}", points))
    return Device(_Watched(collector, seen.setdefault((told["kind"], told["is"]), _Seen())), config)


def _point(point_id: str, name: str) -> Point:
    kind = ReadingKind.REGISTER if name.startswith("energy") else ReadingKind.POWER
    return Point(id=point_id, role=Role.OTHER, kind=kind, channel=name)


async def _forget(polls: Sequence[Poll]) -> None:
    """The end of the queue; the spool has a bench of its own."""
