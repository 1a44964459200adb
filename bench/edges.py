"""Edges that send what they would have read: real spools, senders and transports, many in one process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from app.domain.access import Grant, Role
from app.domain.edge_message import Answer, Claim, Message
from app.domain.reading import Reading
from app.edge.definitions import Definitions
from app.edge.hub import Hub
from app.edge.sender import Habits, Sender
from app.edge.transport import FileAnswer, Https, Transport
from app.errors import StoreUnavailable, TooBusy
from app.store import edges, identity
from app.store.embedded.server import EmbeddedServer
from app.store.engine import Connection, begin, make_engine
from collectors.spool import Spool

_APPENDED_AT_ONCE = 20_000


@dataclass
class Seen:
    """What one way to the centre did; the senders of a group share it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    live: int = 0
    old: int = 0
    batches: int = 0
    refused: int = 0
    """Batches that the centre put off with a time to wait."""
    too_early: int = 0
    """Batches that came before that time was over."""
    ages_s: list[float] = field(default_factory=list)
    """Of each batch with live readings, the age of the oldest of them when the commit was answered. [s]"""
    first_live: set[str] = field(default_factory=set)
    """Processes of which live readings are stored."""
    paces_per_s: list[float] = field(default_factory=list)

    def note(self, message: Message, answer: Answer, live_from: datetime) -> None:
        """A batch was committed."""
        now = datetime.now(UTC)
        ages_s = [(now - r.at).total_seconds() for r in message.readings if r.at >= live_from]
        with self.lock:
            self.batches += 1
            self.live += len(ages_s)
            self.old += len(message.readings) - len(ages_s)
            self.paces_per_s.append(answer.backlog_per_s)
            if ages_s:
                self.ages_s.append(max(ages_s))
                self.first_live.add(message.claim.process)


class Watched:
    """A transport of which is noted what it does."""

    def __init__(
        self, way: Transport, seen: Seen, live_from: Callable[[], datetime], learns: bool = True
    ) -> None:
        self._way, self._seen, self._live_from, self._learns = way, seen, live_from, learns
        self._not_before_s = 0.0

    @property
    def problem(self) -> str:
        """As the transport has it."""
        return self._way.problem

    def send(self, message: Message) -> Answer:
        """As the transport does."""
        self._seen.too_early += time.monotonic() < self._not_before_s
        try:
            answer = self._way.send(message)
        except TooBusy as error:
            self._seen.refused += 1
            self._not_before_s = time.monotonic() + error.retry_after_s
            raise
        self._seen.note(message, answer, self._live_from())
        return answer

    def begin(self, process: str) -> Claim:
        """As the transport does."""
        return self._way.begin(process)

    def send_file(self, claim: Claim, meter: str, file: Path) -> FileAnswer:
        """As the transport does."""
        return self._way.send_file(claim, meter, file)

    def definitions(self) -> Mapping[str, Any]:
        """As the transport does."""
        if not self._learns:
            raise StoreUnavailable("the bench does without")
        return self._way.definitions()

    def release(self, claim: Claim) -> None:
        """As the transport does."""
        self._way.release(claim)

    def close(self) -> None:
        """As the transport does."""
        self._way.close()


class Edges:
    """A group of edges, one for each site, from :meth:`start` to :meth:`stop`; the spools last.

    Parameters
    ----------
    folder : Path
        Of their spools.
    keys : sequence of str
    points : sequence of sequence of str
        Of each edge.
    live_every_s : float
        Each point is read so often. [s]
    way : callable
        Makes the transport of an edge from its key.
    value : callable
        Of a point at an instant.
    lots : int
        The points of an edge are read in so many parts ...
    spread_s : float, optional
        ... over the first so much of the interval; default: over all of it. [s]
    learns : bool
        Whether edges fetch their definitions.
    """

    def __init__(
        self,
        folder: Path,
        keys: Sequence[str],
        points: Sequence[Sequence[str]],
        *,
        live_every_s: float,
        way: Callable[[str], Transport],
        value: Callable[[str, datetime], float],
        lots: int = 1,
        spread_s: float | None = None,
        learns: bool = True,
    ) -> None:
        self._folder, self._keys, self._points, self._learns = folder, keys, points, learns
        self._lots, self._spread_s = lots, live_every_s if spread_s is None else spread_s
        self._live_every_s, self._way, self._value = live_every_s, way, value
        self.live_from = datetime.now(UTC)
        self.seen = Seen()
        self._spools: list[Spool] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Readings in all spools."""
        return sum(map(len, self._spools))

    def keep_back(self, minutes: int, end: datetime) -> int:
        """Let each spool hold what was read in so many minutes before `end`; how many readings in all."""
        count = 0
        for n, points in enumerate(self._points):
            spool = self._spool(n)
            rows = [
                Reading(point, at, self._value(point, at))
                for at in (end - timedelta(minutes=minutes - m) for m in range(minutes))
                for point in points
            ]
            for first in range(0, len(rows), _APPENDED_AT_ONCE):
                spool.append(rows[first : first + _APPENDED_AT_ONCE])
            count += len(rows)
            spool.close()
        return count

    def start(self) -> None:
        """All at once: what lies in the spools has waited, and live readings come from now on."""
        self.live_from, self.seen = datetime.now(UTC), Seen()
        self._spools = [self._spool(n) for n in range(len(self._keys))]
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="edges")
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is not delivered stays in the spools."""
        self._ended.set()
        assert self._thread is not None
        self._thread.join()
        for spool in self._spools:
            spool.close()

    def _spool(self, n: int) -> Spool:
        return Spool(self._folder / f"{n}.db")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        threads = ThreadPoolExecutor(len(self._keys) + 8)
        asyncio.get_running_loop().set_default_executor(threads)
        ways = [
            Watched(self._way(key), self.seen, lambda: self.live_from, self._learns) for key in self._keys
        ]
        senders = [
            Sender(way, f"bench-{n}", Definitions(self._folder / f"{n}.json", self._keys[n]), habits=Habits())
            for n, way in enumerate(ways)
        ]
        tasks = [
            asyncio.create_task(sender.run(spool))
            for sender, spool in zip(senders, self._spools, strict=True)
        ]
        reading = asyncio.create_task(self._read())
        await asyncio.to_thread(self._ended.wait)
        for task in (*tasks, reading):
            task.cancel()
        await asyncio.gather(*tasks, reading, return_exceptions=True)
        for way, sender in zip(ways, senders, strict=True):
            if sender.delivery.claim is not None:
                await asyncio.to_thread(way.release, sender.delivery.claim)
            way.close()

    async def _read(self) -> None:
        """Live readings: of one edge after the other a part of its points, and so on until the last part."""
        loop, edges = asyncio.get_running_loop(), len(self._keys)
        began, parts, n = loop.time(), edges * self._lots, 0
        while True:
            lot, place, at = n % parts // edges, n % edges, datetime.now(UTC)
            rows = [Reading(p, at, self._value(p, at)) for p in self._points[place][lot :: self._lots]]
            await loop.run_in_executor(None, self._spools[place].append, rows)
            n += 1
            due = began + n // parts * self._live_every_s + n % parts / parts * self._spread_s
            await asyncio.sleep(max(due - loop.time(), 0.0))


def https(centre: str) -> Callable[[str], Transport]:
    """The way straight to a centre."""
    return lambda key: Https(centre, key)


def through_hub(url: str) -> Callable[[str], Transport]:
    """The way through a hub, to the cell that the address names."""
    return lambda key: Hub(url, key)


def made_keys(data: Path, site_ids: Sequence[str]) -> list[str]:
    """Keys of an edge for each site, made in the database of a service; the last one is a viewer's."""
    with ExitStack() as stack:
        engine = make_engine(stack.enter_context(EmbeddedServer(data)).url)
        stack.callback(engine.dispose)
        with begin(engine) as connection:
            keys = [_made(connection, site) for site in site_ids]
            viewer = identity.create(connection, "viewer", [Grant(Role.VIEWER)], created_by="bench")
    return [*keys, viewer]


def _made(connection: Connection, site: str) -> str:
    key = identity.create(connection, f"edge {site}", [Grant(Role.EDGE, site)], created_by="bench")
    edges.create(connection, f"edge-{site}", identity.public_id_of(key), [site])
    return key
