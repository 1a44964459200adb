"""Does a tenth of dead devices make the others late?

Five hundred simulated meters on loopback, each on its own port, are polled every few seconds by one poller.
In turn all are well for a while, and every tenth swallows what it is sent and says nothing for a while; so a
busy machine hits both alike. Lateness is the time from the turn (slot and jitter) of a device that is always
well to its readings, of every poll.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
import uvloop

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.table import Row
from collectors.base import Binding, Poll
from collectors.poller import Device, Poller, Settings, jitter_s
from collectors.profile import ModbusProfile, load_profile
from collectors.registry import build, parse
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit

TITLE = "Poller: 500 devices, every tenth dead"
DEVICES = 500
INTERVAL_S = 5.0
WINDOW_S = 5.0
WINDOWS = 24
PROFILE = "eastron_sdm120"
SETTINGS = Settings(jitter_ratio=0.9, longest_backoff_s=INTERVAL_S)


@dataclass(slots=True)
class _Seen:
    """What the run showed."""

    well_s: list[float] = field(default_factory=list)
    ill_s: list[float] = field(default_factory=list)
    """Lateness of polls while all were well, and while a tenth was dead. [s]"""
    counts: list[tuple[int, int]] = field(default_factory=list)
    """Tasks and objects after the first and the last window with dead devices."""
    dead: bool = False

    def keep(self, late_s: float) -> None:
        """Note the lateness of one poll."""
        (self.ill_s if self.dead else self.well_s).append(late_s)


class _Watched:
    """A collector that notes how late its answers are."""

    def __init__(self, device: Device, seen: _Seen | None) -> None:
        self.device = device.name
        self._collector, self._seen = device.collector, seen
        self._offset = timedelta(seconds=jitter_s(device.name, INTERVAL_S, SETTINGS))

    async def poll(self, at: datetime) -> Poll:
        """The collector's poll; its lateness is kept if it read anything."""
        poll = await self._collector.poll(at)
        if self._seen is not None and poll.points:
            self._seen.keep((datetime.now(UTC) - at - self._offset).total_seconds())
        return poll

    async def close(self) -> None:
        """Close the collector."""
        await self._collector.close()


def run() -> list[Row]:
    """All rows of this bench."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        seen = uvloop.run(_polled())
    finally:
        structlog.reset_defaults()
    well, ill = (statistics.quantiles(late_s, n=100) for late_s in (seen.well_s, seen.ill_s))
    tasks, objects = zip(*seen.counts, strict=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return [
        _row("p99 lateness of the healthy", ill[98], well[98], "<= 1.1"),
        _row("median lateness of the healthy", ill[49], well[49], ""),
        Row("tasks, last to first window", str(tasks[-1]), str(tasks[0]), _ratio(tasks), "flat"),
        Row(
            "objects, last to first window",
            str(objects[-1]),
            str(objects[0]),
            _ratio(objects),
            "flat",
            f"peak memory {memory} MiB, the simulated meters included",
        ),
    ]


def _ratio(counts: Sequence[int]) -> float:
    return counts[-1] / counts[0]


def _row(what: str, ours_s: float, peer_s: float, asked: str) -> Row:
    peer = f"all well {peer_s * 1e3:.2f} ms"
    return Row(what, f"{ours_s * 1e3:.2f} ms", peer, ours_s / peer_s, asked)


async def _polled() -> _Seen:
    profile = load_profile(PROFILE)
    assert isinstance(profile, ModbusProfile)
    units = [SimulatedUnit(profile, lambda channel, at: 50.0) for _ in range(DEVICES)]
    servers = [await SimulatedModbus({1: unit}).start() for unit in units]
    seen = _Seen()
    poller = Poller([_device(n, s.port, seen) for n, s in enumerate(servers)], _forget, SETTINGS)
    running = asyncio.create_task(poller.run())
    try:
        await asyncio.sleep(2 * INTERVAL_S)
        seen.well_s.clear()
        for window in range(WINDOWS):
            seen.dead = window % 2 == 1
            for unit in units[::10]:
                unit.faults.half_open = seen.dead
            await asyncio.sleep(WINDOW_S)
            if window in (1, WINDOWS - 1):
                seen.counts.append((len(asyncio.all_tasks()), len(gc.get_objects())))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in servers))
    return seen


def _device(number: int, port: int, seen: _Seen) -> Device:
    config = parse(
        {
            "kind": "modbus",
            "host": "127.0.0.1",
            "port": port,
            "profile": PROFILE,
            "interval_s": INTERVAL_S,
            "timeout_s": 1.0,
        }
    )
    points = (
        Point(id=f"p{number}", role=Role.OTHER, kind=ReadingKind.REGISTER, channel="energy_import_kwh"),
    )
    device = Device(build(config, Binding(f"meter-{number:03}", points)), config)
    # Every tenth is dead at times: only those that are always well are compared.
    return Device(_Watched(device, seen if number % 10 else None), config)


async def _forget(polls: Sequence[Poll]) -> None:
    """The end of the queue; the spool has a bench of its own."""
