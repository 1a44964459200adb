"""Polls every device on its own beat, aligned with the wall clock; no device waits for another.

One task per device, from start to stop. The slots of a device fall on multiples of its interval in
UTC; it is asked a fixed fraction of a few seconds later (its *jitter*), so that five hundred meters
do not speak in the same millisecond. Readings carry the slot, not the moment of the answer. A device
that is silent is asked ever more rarely. Polls behind one gateway wait for each other *before* their
time limit starts to run.

What was read is handed to the sink in rounds: what arrived within `Settings.round_s`, in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import math
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import structlog

from app.errors import CollectError, DeviceUnreachable
from collectors.base import Collector, Poll, Resuming
from collectors.config import CollectorConfig
from collectors.deadline import Deadlines
from collectors.fair_semaphore import FairSemaphore

LONGEST_SLEEP_S = 30.0
"""The wall clock is looked at this often while waiting: it may be set."""
CLOCK_STEP_S = 1.0
"""A wall clock that goes back by more was set."""
SINK_PAUSE_S = 1.0
GARBAGE_OBJECTS = 50_000
"""So many objects more than before are alive when Python next looks for cycles among them."""

_log = structlog.get_logger(__name__)

Sink = Callable[[Sequence[Poll]], Awaitable[object] | object]
"""Takes the polls of a round; a plain function runs in a thread, so that a slow disk delays no poll.

It returns False where they wait in memory only: sources are told that their readings are kept by a later
round, which is on disk together with all before it."""


@dataclass(frozen=True, slots=True)
class Device:
    """A collector and how to ask it."""

    collector: Collector
    config: CollectorConfig
    site: str = ""

    @property
    def name(self) -> str:
        """The meter's id."""
        return self.collector.device


@dataclass(slots=True)
class DeviceState:
    """What is known of one device, for metrics and pages."""

    site: str
    device: str
    up: bool = False
    """True if the last poll read anything."""
    last_reading_at: datetime | None = None
    duration_s: float = 0.0
    """How long the last poll took, without the wait for its gateway. [s]"""
    lateness_s: float = 0.0
    """How long after its slot and jitter the last poll was done. [s]"""
    polls: int = 0
    failures_in_a_row: int = 0
    """Polls without any reading since the last good one."""
    unanswered_in_a_row: int = 0
    """Of those, the ones to which the device said nothing at all: it is left alone ever longer."""
    points_failed: int = 0
    """Points that the last poll could not read."""
    missed_slots: int = 0
    """Slots that passed while the previous poll was still running or the device was left alone."""
    problem: str = ""
    """Why the last poll failed, in whole or in part; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the poller behaves."""

    jitter_ratio: float = 0.2
    """Polls spread over this part of the interval ..."""
    longest_jitter_s: float = 10.0
    """... but over no more than this. [s]"""
    longest_backoff_s: float = 300.0
    """A silent device is asked at least this often, or at every slot if those are rarer. [s]"""
    round_s: float = 0.5
    """Readings are delivered together when the first of them is this old. [s]"""
    round_readings: int = 2000
    """A round is delivered at once when it has grown to this."""
    waiting_readings: int = 200_000
    """Most readings that wait for a sink that is slow or fails; beyond it polling waits."""


_DEFAULT_SETTINGS = Settings()


def tune_garbage_collection() -> None:
    """Set Python's search for cyclic garbage as a process that polls needs it; harmless when repeated.

    Polls make no cycles, but the readings that wait for their round are searched again and again, which
    takes a tenth of the time. What is alive already is not searched any more.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


def now_utc() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def slot_after(at: datetime, interval_s: float) -> datetime:
    """The first multiple of the interval, counted from 1970 in UTC, that lies after `at`."""
    return datetime.fromtimestamp((math.floor(at.timestamp() / interval_s) + 1) * interval_s, tz=UTC)


def jitter_s(device: str, interval_s: float, settings: Settings) -> float:
    """How long after its slots a device is asked: always the same for the same name. [s]"""
    fraction = zlib.crc32(device.encode()) / 2**32
    return fraction * min(settings.jitter_ratio * interval_s, settings.longest_jitter_s)


def slots_to_skip(failures_in_a_row: int, interval_s: float, settings: Settings) -> int:
    """Slots a silent device is left alone: 0, 1, 3, 7 ... up to the longest backoff."""
    most = max(int(settings.longest_backoff_s / interval_s) - 1, 0)
    doublings = min(max(failures_in_a_row - 1, 0), 30)
    return min((1 << doublings) - 1, most)


class Poller:
    """Asks devices until it is cancelled.

    Parameters
    ----------
    devices : iterable of Device
        Names must differ.
    sink : callable
        Takes the polls of a round, e.g. ``spool.append_polls``; where it raises, the round is kept and
        delivered again.
    clock : callable
        The wall clock (UTC).
    cursors : mapping of str to str
        Up to where sources with a memory were read, by device: ``spool.cursors()``.
    """

    def __init__(
        self,
        devices: Iterable[Device],
        sink: Sink,
        settings: Settings = _DEFAULT_SETTINGS,
        *,
        clock: Callable[[], datetime] = now_utc,
        cursors: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._devices = {device.name: device for device in devices}
        self._cursors = cursors
        self._settings, self._clock = settings, clock
        self._rounds = _Rounds(sink, settings)
        self._deadlines: Deadlines[asyncio.Task[Any]] = Deadlines(self._give_up)
        self._given_up: set[asyncio.Task[Any]] = set()
        self.states: Mapping[str, DeviceState] = {
            d.name: DeviceState(d.site, d.name) for d in self._devices.values()
        }
        """State of every device, by name."""
        lines = {
            d.config.gateway: FairSemaphore(d.config.gateway_concurrency) for d in self._devices.values()
        }
        self._known = {
            d.name: _Known(
                d.collector,
                lines[d.config.gateway] if d.config.gateway else None,
                self.states[d.name],
                d.config.give_up_s,
            )
            for d in self._devices.values()
        }

    @property
    def waiting(self) -> int:
        """Readings not yet delivered."""
        return len(self._rounds)

    async def run(self) -> None:
        """Poll until cancelled; then what was read is delivered and every collector is closed."""
        for device in self._devices.values():
            if isinstance(device.collector, Resuming):
                device.collector.resume(self._cursors.get(device.name, ""))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._rounds.run(), name="poller: rounds")
                for device in self._devices.values():
                    group.create_task(self._beat(device), name=f"poller: {device.name}")
        finally:
            await self._rounds.hand_over()
            for device in self._devices.values():
                await device.collector.close()

    async def _beat(self, device: Device) -> None:
        """One device's polls, one after the other."""
        interval = timedelta(seconds=device.config.interval_s)
        offset = timedelta(seconds=jitter_s(device.name, device.config.interval_s, self._settings))
        last: datetime | None = None
        while True:
            slot = self._next_slot(device, last, offset)
            if not await self._due(slot + offset):
                continue
            slot = max(slot, slot_after(self._clock() - offset, device.config.interval_s) - interval)
            self._count_missed(device, last, slot)
            await self.poll_once(device, slot)
            self.states[device.name].lateness_s = (self._clock() - slot - offset).total_seconds()
            last = slot

    def _next_slot(self, device: Device, last: datetime | None, offset: timedelta) -> datetime:
        interval_s = device.config.interval_s
        interval = timedelta(seconds=interval_s)
        slot = slot_after(self._clock() - offset, interval_s)
        if last is not None and slot + interval <= last:
            _log.warning("clock was set back", device=device.name, last=str(last), next=str(slot))
        elif slot == last:
            slot += interval
        unanswered = self.states[device.name].unanswered_in_a_row
        return slot + slots_to_skip(unanswered, interval_s, self._settings) * interval

    async def _due(self, at: datetime) -> bool:
        """Sleep until the wall clock shows `at`; False if it went back meanwhile."""
        left_s = (at - self._clock()).total_seconds()
        while left_s > 0:
            await asyncio.sleep(min(left_s, LONGEST_SLEEP_S))
            before_s, left_s = left_s, (at - self._clock()).total_seconds()
            if left_s > before_s + CLOCK_STEP_S:
                return False
        return True

    def _count_missed(self, device: Device, last: datetime | None, slot: datetime) -> None:
        if last is None or slot <= last:
            return
        state = self.states[device.name]
        missed = round((slot - last).total_seconds() / device.config.interval_s) - 1
        state.missed_slots += missed
        if missed and not state.unanswered_in_a_row:
            _log.warning(
                "slots missed: the previous poll took too long",
                device=device.name,
                site=device.site,
                missed=missed,
                poll_took_s=round(state.duration_s, 3),
            )

    async def poll_once(self, device: Device, slot: datetime) -> Poll:
        """Ask one device now, note how it went, and pass its readings on."""
        known = self._known[device.collector.device]
        line = known.line
        if line is not None and not line.try_acquire():
            await line.wait()
        try:
            poll = await self._ask(known, slot)
        finally:
            if line is not None:
                line.release()
        if self._rounds.full:
            await self._rounds.room.wait()
        self._rounds.put(poll)
        return poll

    async def _ask(self, known: _Known, slot: datetime) -> Poll:
        """The collector's answer, or a failure in its place should it hang or break its contract."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        started = loop.time()
        self._deadlines.start(task, started + known.give_up_s, loop)
        try:
            poll = await known.collector.poll(slot)
        except asyncio.CancelledError:
            if task not in self._given_up or task.uncancel() > 0:
                raise
            problem = f"the poll was given up after {known.give_up_s:g} s"
            poll = Poll(slot, failures=(DeviceUnreachable(known.state.device, problem),))
        except Exception as error:  # noqa: BLE001 - one collector's bug must not stop the others
            problem = f"fault in the collector: {error!r}"
            poll = Poll(slot, failures=(CollectError(known.state.device, problem),))
        finally:
            self._deadlines.stop(task)
            if self._given_up:
                self._given_up.discard(task)
        known.state.duration_s = loop.time() - started
        _note(known.state, poll, slot)
        return poll

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        """End a poll that its collector does not end itself."""
        self._given_up.add(task)
        task.cancel()


@dataclass(frozen=True, slots=True)
class _Known:
    """A device with all that a poll of it needs, in one place."""

    collector: Collector
    line: FairSemaphore | None
    """Its gateway's, where it has one."""
    state: DeviceState
    give_up_s: float


def _note(state: DeviceState, poll: Poll, slot: datetime) -> None:
    """Keep how a poll went, and say so where somebody should know."""
    before = state.problem
    state.polls += 1
    state.points_failed = len(poll.failures)
    if poll.points:
        state.last_reading_at = slot
    elif poll.dated:
        state.last_reading_at = max(reading.at for reading in poll.dated)
    if not poll.failures:
        state.up, state.problem = True, ""
        state.unanswered_in_a_row = state.failures_in_a_row = 0
    else:
        _note_failures(state, poll)
    if before or state.problem:
        _say(state, poll, before)


def _note_failures(state: DeviceState, poll: Poll) -> None:
    state.problem = poll.failures[0].problem
    state.up = bool(poll.points or poll.dated)
    silent = not state.up and any(isinstance(f, DeviceUnreachable) for f in poll.failures)
    state.unanswered_in_a_row = state.unanswered_in_a_row + 1 if silent else 0
    state.failures_in_a_row = 0 if state.up else state.failures_in_a_row + 1


def _say(state: DeviceState, poll: Poll, before: str) -> None:
    """Name the culprit: when it fails first, then ever more rarely, and when it is back."""
    times = state.failures_in_a_row
    if _worth_saying(times):
        _log.warning(
            "device returned no reading",
            device=state.device,
            site=state.site,
            times=times,
            problem=state.problem,
            took_s=round(state.duration_s, 3),
        )
    elif not times and state.problem != before:
        say = _log.warning if state.problem else _log.info
        say(
            "some points cannot be read" if state.problem else "device reads well again",
            device=state.device,
            site=state.site,
            points=[failure.point for failure in poll.failures],
            problem=state.problem,
        )


def _switch(event: asyncio.Event, on: bool) -> None:
    if on:
        event.set()
    else:
        event.clear()


def _worth_saying(times: int) -> bool:
    """True for 1, 2, 4, 8 ...: often at first, ever more rarely later."""
    return times > 0 and times & (times - 1) == 0


class _Rounds:
    """Polls on their way to the sink, gathered into rounds; at most so many readings wait."""

    def __init__(self, sink: Sink, settings: Settings) -> None:
        self._sink, self._settings = sink, settings
        self._waiting: list[Poll] = []
        self._readings = 0
        self._threshold = min(settings.round_readings, settings.waiting_readings)
        self._refusals = 0
        self._owed: list[Callable[[], None]] = []
        self._handing = asyncio.Lock()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self.full = False
        """True while as many wait as may."""
        self.room = asyncio.Event()
        self.room.set()

    def __len__(self) -> int:
        return self._readings

    def put(self, poll: Poll) -> None:
        """Put a poll into the present round, if anything was read."""
        weight = poll.weight
        if not weight:
            return
        self._waiting.append(poll)
        self._readings += weight
        if self._readings >= self._threshold or not self._some.is_set():
            self._signal()

    def _signal(self) -> None:
        waiting = self._readings
        _switch(self._some, waiting > 0)
        _switch(self._enough, waiting >= self._settings.round_readings)
        self.full = waiting >= self._settings.waiting_readings
        _switch(self.room, not self.full)

    async def run(self) -> None:
        """Hand over round after round."""
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.round_s):
                    await self._enough.wait()
            if not await self.hand_over():
                await asyncio.sleep(SINK_PAUSE_S)

    async def hand_over(self) -> bool:
        """Give what waits to the sink; False if the sink failed and it waits still."""
        async with self._handing:
            batch, self._waiting = self._waiting, []
            count, self._readings = self._readings, 0
            try:
                is_safe = await self._give(batch)
            except BaseException as error:
                self._waiting[:0] = batch
                self._readings += count
                if not isinstance(error, Exception):
                    raise
                self._refused(error)
                return False
            finally:
                self._signal()
            self._refusals = 0
            self._tell(batch, is_safe)
            return True

    def _tell(self, batch: list[Poll], is_safe: bool) -> None:
        """Let sources go of what is on disk."""
        self._owed += [poll.kept for poll in batch if poll.kept is not None]
        if is_safe and self._owed:
            owed, self._owed = self._owed, []
            for kept in owed:
                kept()

    def _refused(self, error: Exception) -> None:
        self._refusals += 1
        if _worth_saying(self._refusals):
            _log.error(
                "readings were not accepted; they are kept and sent again",
                times=self._refusals,
                waiting=len(self),
                problem=repr(error),
            )

    async def _give(self, batch: list[Poll]) -> bool:
        """Give a round to the sink; whether it is on disk."""
        if not batch:
            return False
        if inspect.iscoroutinefunction(self._sink):
            return await self._sink(batch) is not False
        return await asyncio.to_thread(self._sink, batch) is not False
