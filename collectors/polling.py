"""The polling thread: an event loop of its own, so that no rollup, scrape or report delays a poll."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import structlog
import uvloop

from app.domain.site import Fleet, Meter, Site
from collectors import registry
from collectors.base import Binding, Resuming
from collectors.poller import Device, DeviceState, Poller, tune_garbage_collection
from collectors.spool import Spool

FILES = "csv_folder"
"""Kind of collector that is not polled but watched."""
_STOP_S = 15.0
_AGAIN_S = 5.0
_LOOK_S = 0.2
_OPEN_EVERY_S = 1.0

_log = structlog.get_logger(__name__)


def devices(fleet: Fleet) -> list[Device]:
    """Every meter that is polled, ready to be asked.

    Raises
    ------
    ConfigError
        If a ``collector:`` section is not understood.
    """
    return [_device(site, meter) for site, meter in polled(fleet)]


def polled(fleet: Fleet) -> Iterator[tuple[Site, Meter]]:
    """Meters with a ``collector:`` section that names a protocol."""
    for site in fleet.sites:
        for meter in site.meters:
            if meter.collector is not None and meter.collector.get("kind") != FILES:
                yield site, meter


def readings_per_s(fleet: Fleet) -> float:
    """How many readings the polled meters give, as configured. [1/s]"""
    return sum(_rate(meter) for _, meter in polled(fleet))


def _rate(meter: Meter) -> float:
    config = registry.parse(meter.collector or {})
    if config.stamps_polls:
        return len(meter.points) / max(config.interval_s, 1e-3)
    return sum(1 / max(point.interval_s, 1) for point in meter.points)


def _device(site: Site, meter: Meter) -> Device:
    config = registry.parse(meter.collector or {})
    binding = Binding(meter.id, meter.read_points, site.id)
    return Device(registry.build(config, binding), config, site.id)


class Polling:
    """Polls a fleet into a spool and drains the spool, in a thread of its own.

    Parameters
    ----------
    spool : Spool
        Keeps readings until whoever they are for has them.
    drain : callable
        Empties the spool, for ever: of the store, or of what sends to the centre.
    may_send : Event, optional
        The spool is drained once it is set: a store that does not know the points yet would drop their
        readings. Default: at once.
    """

    def __init__(
        self,
        spool: Spool,
        drain: Callable[[Spool], Awaitable[None]],
        may_send: threading.Event | None = None,
    ) -> None:
        self._spool, self._empty, self._may_send = spool, drain, may_send
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._lock = threading.Lock()
        self._fleet = Fleet()
        self._ended = threading.Event()
        self._poller: Poller | None = None

    @property
    def states(self) -> Mapping[str, DeviceState]:
        """State of every polled device, by meter."""
        poller = self._poller
        return {} if poller is None else poller.states

    def start(self) -> None:
        """Start the thread; it polls once :meth:`follow` has been called."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="polling", daemon=True)
        self._thread.start()

    def follow(self, fleet: Fleet) -> None:
        """Poll the meters of `fleet` from now on; nothing happens where they are the same as before.

        Raises
        ------
        ConfigError
            If a ``collector:`` section is not understood; what is polled stays as it is.
        """
        if list(polled(fleet)) == list(polled(self._fleet)):
            self._fleet = fleet
            return
        devices(fleet)
        self._fleet = fleet
        self._signal()

    def end(self) -> None:
        """Ask polling to come to an end."""
        self._ended.set()
        self._signal()

    def wait(self, within_s: float) -> bool:
        """Wait for the end of polling, so long at most; whether it came."""
        if self._thread is not None:
            self._thread.join(within_s)
        return self._thread is None or not self._thread.is_alive()

    def stop(self) -> None:
        """Stop polling; what was read lies in the spool then."""
        self.end()
        self.wait(_STOP_S)

    def _signal(self) -> None:
        with self._lock:
            if self._loop is not None and self._wake is not None:
                self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._main())
            except Exception:  # noqa: BLE001 - a fault must not end polling for good
                _log.exception("polling stopped on an error; restarting", after_s=_AGAIN_S)
                self._ended.wait(_AGAIN_S)
            finally:
                with self._lock:
                    self._loop = None

    async def _main(self) -> None:
        with self._lock:
            self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        draining = asyncio.create_task(self._drain(), name="drain")
        try:
            while not self._ended.is_set():
                self._wake.clear()
                await self._poll_until_changed(self._wake, draining)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)

    async def _drain(self) -> None:
        while self._may_send is not None and not self._may_send.is_set():
            await asyncio.sleep(_LOOK_S)
        await self._empty(self._spool)

    async def _poll_until_changed(self, wake: asyncio.Event, draining: asyncio.Task[None]) -> None:
        is_open = await asyncio.to_thread(self._spool.try_open)
        cursors = await asyncio.to_thread(self._spool.cursors)
        asked = [d for d in devices(self._fleet) if is_open or not isinstance(d.collector, Resuming)]
        self._poller = Poller(asked, self._spool.append_polls, cursors=cursors)
        tune_garbage_collection()
        polling = asyncio.create_task(self._poller.run(), name="poller")
        waiting = asyncio.create_task(wake.wait() if is_open else self._woken_or_open(wake), name="wake")
        _log.info("polling", devices=len(self._poller.states))
        try:
            await asyncio.wait({polling, waiting, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (polling, waiting):
                task.cancel()
            results = await asyncio.gather(polling, waiting, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]
        if draining.done():
            draining.result()

    async def _woken_or_open(self, wake: asyncio.Event) -> None:
        """Sources with a memory are asked once the spool is open, which knows how far they were read."""
        while not (wake.is_set() or await asyncio.to_thread(self._spool.try_open)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), _OPEN_EVERY_S)


def spool_path(data_dir: Path) -> Path:
    """Where the spool of this process lies."""
    return data_dir / "spool" / "readings.sqlite"
