"""The parts of an edge, started and stopped together."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.domain.edge_message import SetAside
from app.edge.definitions import Definitions
from app.edge.facts import Device, Facts
from app.edge.folders import Folders
from app.edge.sender import Habits, Sender
from app.edge.transport import Transport
from app.errors import WattlineError
from collectors.polling import Polling, spool_path
from collectors.spool import Limits, Spool

FOLLOW_EVERY_S = 30.0
"""How often it is looked which meters are in service. [s]"""
FOLDERS_EVERY_S = 2.0
_PAUSE_S = 15.0
_STOP_S = 3.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What an edge is made of."""

    data_dir: Path
    centre: Callable[[], str]
    """Its address now, for people."""
    key: str
    limits: Limits = field(default_factory=Limits)
    habits: Habits = field(default_factory=Habits)


class Edge:
    """Polls, watches folders, and sends; goes on without the centre, with what it last learnt from it.

    Parameters
    ----------
    setup : Setup
    transport : Transport
    clock : callable
        The present instant (UTC).

    Raises
    ------
    ConfigError
        If the spool cannot be opened.
    """

    def __init__(
        self,
        setup: Setup,
        transport: Transport,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._setup, self._transport, self._clock = setup, transport, clock
        self.spool = Spool(spool_path(setup.data_dir), setup.limits)
        self.definitions = Definitions(setup.data_dir / "edge" / "definitions.json", setup.key)
        self._folders = Folders()
        self._aside: tuple[SetAside, ...] = ()
        self._changed, self._ended = threading.Event(), threading.Event()
        self.sender = Sender(
            transport,
            secrets.token_hex(8),
            self.definitions,
            on_definitions=self._changed.set,
            set_aside=lambda: self._aside,
            habits=setup.habits,
        )
        self.polling = Polling(self.spool, self.sender.run)
        self._threads = [
            threading.Thread(target=self._follow, name="definitions", daemon=True),
            threading.Thread(target=self._watch, name="folders", daemon=True),
        ]

    def start(self) -> None:
        """Begin at once with the definitions that are kept."""
        self._follow_now()
        self.polling.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, within ten seconds; what was read and not delivered waits in the spool."""
        self._ended.set()
        self._changed.set()
        self.polling.end()
        if self.polling.wait(_STOP_S):
            self._release()
        else:  # something waits for an answer that does not come
            self._transport.close()
            self.polling.wait(_STOP_S)
        self.spool.close()

    def _release(self) -> None:
        claim = self.sender.delivery.claim
        if claim is not None and not self.sender.delivery.problem:
            try:
                self._transport.release(claim)
            except WattlineError as error:
                _log.info("the key could not be released at the centre", problem=str(error))

    def _follow(self) -> None:
        while not self._ended.is_set():
            self._changed.wait(FOLLOW_EVERY_S)
            self._changed.clear()
            if not self._ended.is_set():
                self._follow_now()

    def _follow_now(self) -> None:
        """Measure what is in service now."""
        fleet = self.definitions.in_force.fleet.at(self._clock())
        try:
            self.polling.follow(fleet)
            self._folders.follow(fleet)
        except WattlineError as error:  # a profile or a file that it names is gone from this machine
            _log.error("definitions cannot be followed; going on with those before", problem=str(error))

    def _watch(self) -> None:
        """Send complete files, while this process speaks for the edge."""
        pause_s = FOLDERS_EVERY_S
        while not self._ended.wait(pause_s):
            pause_s = FOLDERS_EVERY_S
            try:
                self._send_files()
                self._aside = self._folders.set_aside()
            except WattlineError as error:
                _log.warning("files stay in their folders", problem=str(error))
                pause_s = _PAUSE_S
            except Exception:  # noqa: BLE001 - a fault must not end the folders for good
                _log.exception("the folders could not be looked at")
                pause_s = _PAUSE_S

    def _send_files(self) -> None:
        claim = self.sender.delivery.claim
        if claim is not None and not self.sender.delivery.problem:
            self._folders.run(
                self._clock(), lambda meter, file: self._transport.send_file(claim, meter, file)
            )

    def facts(self) -> Facts:
        """What page and metrics show."""
        done, now_s = self.sender.delivery, time.monotonic()
        in_force, dropped = self.definitions.in_force, Counter[str]()
        for entry in self.spool.ledger():
            dropped[entry.reason] += entry.count
        return Facts(
            edge=in_force.edge,
            centre=self._setup.centre(),
            sites=tuple(site.id for site in in_force.fleet.sites),
            devices=tuple(self._devices()),
            delivery=done,
            problem=done.problem or self._transport.problem or done.problem_at(now_s),
            heard_ago_s=None if done.heard_s is None else now_s - done.heard_s,
            waiting=len(self.spool),
            oldest_at=self.spool.oldest_at,
            fill_ratio=self.spool.fill_ratio,
            offset_s=self.sender.offset.seconds,
            revision=in_force.revision,
            definitions_problem=self.definitions.problem,
            dropped=dropped,
            files_set_aside=len(self._aside),
        )

    def _devices(self) -> list[Device]:
        polled = [
            Device(s.site, name, s.up, s.last_reading_at, s.duration_s, s.problem)
            for name, s in self.polling.states.items()
        ]
        return polled + self._folders.devices()
