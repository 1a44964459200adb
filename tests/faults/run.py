"""One fault run: everything under load, fault after fault in the order of a seed, then the reckoning."""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

import httpx
import psycopg

from app.errors import StoreUnavailable
from app.jobs import rollup
from app.jobs.ingest import Ingest
from app.store import audit, audit_key
from app.store.engine import Engine, connect, make_engine
from collectors.polling import spool_path
from collectors.spool import Spool
from tests.faults.account import Account, drawn_up
from tests.faults.collector import read_journals
from tests.faults.senders import Dropper, Poster, Sender, SlowPoster, Uploader
from tests.faults.world import SITES, WATTLINE, World, begun, more_points
from tests.waiting import until

RECOVERY_S = 120.0
"""Longest wait for new readings after a fault; generous, since machines are shared. [s]"""
_HOUR_S = 3600
_OFFSETS_S = (-12 * _HOUR_S, -45, 10 * 60, 30 * _HOUR_S)
KINDS = (
    "collector killed",
    "service killed",
    "postgres killed",
    "no database",
    "database half-open",
    "meters half-open",
    "clock set",
    "clock set without database",
    "disk full",
)
Say = Callable[[str], None]


def in_order(random: Random) -> Iterator[str]:
    """Kinds of faults for ever, each once before any comes again."""
    while True:
        kinds = list(KINDS)
        random.shuffle(kinds)
        yield from kinds


@dataclass
class Outcome:
    """What a run showed."""

    seed: int
    account: Account
    faults: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    """What ``wattline verify`` found."""
    wrong: list[str] = field(default_factory=list)
    """Whatever else must not be: other answers, a broken audit log, a process that does not stop."""

    @property
    def holds(self) -> bool:
        """Whether the invariant does."""
        return not (self.account.wrong or self.breaches or self.wrong)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.faults)} faults: {', '.join(self.faults)}", str(self.account)]
        return "\n".join([*lines, *self.breaches, *self.wrong])


class Run:
    """A run in a world that stands already."""

    def __init__(
        self, world: World, seed: int, say: Say, *, sites: int, patient: bool, recovery_s: float
    ) -> None:
        self._world, self._random, self._say, self._patient = world, Random(seed), say, patient
        self._recovery_s = recovery_s
        self.faults: list[str] = []
        self.senders: list[Sender] = [
            Poster(world, "posted-1.kwh"),
            Poster(world, "posted-2.kwh"),
            Uploader(world, "uploaded.kwh"),
            Dropper(world, "dropped.kwh"),
            *(SlowPoster(world, point) for point in more_points(sites)),
        ]
        for sender in self.senders:
            sender.patience_s *= recovery_s / RECOVERY_S
        faults = (
            self._kill_collector,
            self._kill_service,
            world.kill_postgres,
            self._no_database,
            self._half_open_database,
            self._half_open_meters,
            self._clock_set,
            self._clock_set_without_database,
            self._disk_full,
        )
        self._kinds: dict[str, Callable[[], None]] = dict(zip(KINDS, faults, strict=True))

    def start(self) -> None:
        """Begin to send as soon as the service knows the sites, and wait until everything works."""
        until(self._is_ready, self._recovery_s, "a service that knows the sites")
        for sender in self.senders:
            sender.start()
        self._until_all_work(until(self._try_counts, self._recovery_s, "tables in the database"))

    def _is_ready(self) -> bool:
        try:
            return "pushed" in httpx.get(f"{self._world.service.base}/api/v1/sites", timeout=10).text
        except (httpx.TransportError, httpx.UnsupportedProtocol):
            return False

    def break_things(self, most: int, seconds: float) -> None:
        """Break one thing after the other until that many were broken, or the time is over. [s]"""
        deadline = time.monotonic() + seconds
        for kind in islice(in_order(self._random), most):
            if time.monotonic() > deadline:
                return
            self._say(kind)
            self.faults.append(kind)
            self._kinds[kind]()
            self._until_all_work(until(self._try_counts, self._recovery_s, f"the database, after {kind},"))

    # -- faults --------------------------------------------------------------------------------------

    def _kill_collector(self) -> None:
        self._world.collector.kill()

    def _kill_service(self) -> None:
        self._world.service.kill()

    def _last(self, *, killing: bool = True) -> None:
        """Let a fault last, and perhaps kill somebody meanwhile."""
        victims = (self._kill_collector, self._kill_service, self._world.kill_postgres)
        self._wait()
        if killing and self._random.random() < 0.4:
            self._random.choice(victims)()
            self._wait()

    def _wait(self) -> None:
        threading.Event().wait(self._random.uniform(0.5, 2.5))

    def _no_database(self) -> None:
        with self._world.no_database():
            self._last()

    def _half_open_database(self) -> None:
        with self._world.half_open(self._world.databases, reset=not self._patient):
            self._last()

    def _half_open_meters(self) -> None:
        proxies = list(self._world.meters.values())
        with self._world.half_open(self._random.sample(proxies, 3), reset=False):
            self._last()

    def _clock_set(self) -> None:
        with self._world.clock_set(self._random.choice(_OFFSETS_S)):
            self._last()

    def _clock_set_without_database(self) -> None:
        """The clock is right again before the database is back: readings of the future are refused."""
        with self._world.no_database(), self._world.clock_set(max(_OFFSETS_S)):
            self._last(killing=False)
            self._wait()

    def _disk_full(self) -> None:
        with self._world.full_disk():
            self._last()

    # -- going on ------------------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        """How far each way into the store is."""
        counts = {sender.point: sender.batches for sender in self.senders}
        with psycopg.connect(self._world.direct(), connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT count(*) FROM readings r JOIN points p ON p.id = r.point_id"
                " JOIN sites s ON s.id = p.site_id WHERE s.key = 'sh1'"
            ).fetchone()
        return {**counts, "polled": row[0] if row else 0}

    def _try_counts(self) -> dict[str, int]:
        try:
            return self._counts()
        except (psycopg.Error, StoreUnavailable):
            return {}

    def _until_all_work(self, before: dict[str, int]) -> None:
        """Wait until something new has come in by every way."""

        def all_work() -> bool:
            if any(sender.batches <= before[sender.point] for sender in self.senders):
                return False
            now = self._try_counts()
            return bool(now) and all(now[way] > count for way, count in before.items())

        try:
            until(all_work, self._recovery_s, f"something new by every way, after {self.faults[-1:]},")
        except TimeoutError as error:
            error.add_note(f"before: {before}")
            raise

    def leave(self) -> None:
        """Send no more, confirmed or not."""
        for sender in self.senders:
            sender.leave()

    def last_words(self) -> str:
        """What the processes said last, and how far everybody is."""
        said = [f"{d.log}: {d.last_words()}" for d in (self._world.collector, self._world.service)]
        return "\n".join([*said, str(self._try_counts())])


def run(
    seed: int,
    most: int = len(KINDS),
    seconds: float = math.inf,
    say: Say = lambda text: None,
    *,
    sites: int = SITES,
    patient: bool = False,
    recovery_s: float = RECOVERY_S,
) -> Outcome:
    """Break things in the order of a seed and draw up the account.

    Parameters
    ----------
    seed : int
    most : int
        How many faults.
    seconds : float
        After this time no other fault begins. [s]
    say : callable
        Told what happens.
    sites : int
        All beyond the first two get the readings of one point each over HTTP.
    patient : bool
        Half-open connections to the database are not broken afterwards: their users give them up.
    recovery_s : float
        Longest wait for new readings after a fault; senders are patient in proportion. [s]

    Raises
    ------
    TimeoutError
        If something does not work again after a fault.
    """
    with ExitStack() as stack:
        world = stack.enter_context(begun(sites))
        one = Run(world, seed, say, sites=sites, patient=patient, recovery_s=recovery_s)
        stack.callback(one.leave)
        try:
            one.start()
            one.break_things(most, seconds)
            say("reckoning")
            for sender in one.senders:
                sender.finish(recovery_s)
        except TimeoutError as error:
            error.add_note(one.last_words())
            raise
        codes = {daemon.name: daemon.stop() for daemon in (world.collector, world.service)}
        return _reckoned(
            world, one, seed, [f"{name} ended with {code}" for name, code in codes.items() if code]
        )


def _reckoned(world: World, one: Run, seed: int, wrong: list[str]) -> Outcome:
    engine = make_engine(lambda: world.server.url)
    try:
        _emptied(engine, world)
        offered, kept = read_journals(world.journals)
        tried = offered.union(*(s.tried for s in one.senders))
        acknowledged = kept.union(*(s.confirmed for s in one.senders))
        account = drawn_up(engine, tried, acknowledged)
        with connect(engine) as connection:
            broken = audit.verify(connection, [audit_key.read(world.audit_key)]).problems
    finally:
        engine.dispose()
    wrong += [text for sender in one.senders for text in sender.wrong]
    wrong += [f"audit log: {broken}"] if broken else []
    return Outcome(seed, account, one.faults, _breaches(world), wrong)


def _emptied(engine: Engine, world: World) -> None:
    """Store what still waits in the spool, bring the ledger up to date, and roll everything up."""
    spool, ingest = Spool(spool_path(world.disk / "collector")), Ingest(engine, "poller")
    while (batch := spool.take()).readings:
        ingest.stow(batch.readings)
        spool.ack(batch)
    ingest.write_ledger(spool)
    spool.close()
    while rollup.run(engine).busy:
        pass


def _breaches(world: World) -> list[str]:
    """What ``wattline verify`` finds."""
    environment = {
        **os.environ,
        "WATTLINE_DATABASE_URL": world.direct(),
        "WATTLINE_DATA_DIR": str(world.folder / "commands"),
    }
    done = subprocess.run(
        [WATTLINE, "verify", "--json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = (
        json.loads(done.stdout) if done.stdout else {"breaches": [done.stderr], "pending": 0}
    )
    waiting = [f"{found['pending']} points wait for their rollup still"] if found["pending"] else []
    return [f"wattline verify: {breach}" for breach in found["breaches"]] + waiting
