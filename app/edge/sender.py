"""Empties the spool of an edge into its cell: live readings first, what waited at the pace the cell sets.

A reading leaves the spool when the cell has committed it, and never before. Whatever goes wrong, the
readings stay and it is tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from app import __version__
from app.domain.edge_message import BEAT_S, MOST_NAMED, Answer, Claim, Dropped, Message, SetAside, State
from app.edge.clock import Offset
from app.edge.definitions import Definitions
from app.edge.transport import Transport
from app.errors import (
    AccessError,
    LineSlow,
    NotFound,
    SeriesError,
    StoreUnavailable,
    TooBusy,
    WorkTooLarge,
)
from collectors.spool import Batch, Spool

SILENT_S = 3.0
"""An answer that takes longer makes doubtful whether the centre is there. [s]"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Habits:
    """How an edge sends."""

    every_s: float = 2.0
    """Live readings are sent together so often. [s]"""
    most: int = 2000
    """Readings of one batch."""
    least: int = 100
    """The same over a line on which larger ones do not get through."""
    lump: int = 500
    """Of those that waited so many are sent at a time, or all that are left: seldom in place of few."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 15.0
    """Pauses while the centre does not answer double from the first to the longest. [s]"""
    refused_pause_s: float = 10.0
    """Pause after another process was found to speak for the edge, or the key to open nothing. [s]"""
    not_understood_pause_s: float = 600.0
    """Pause after definitions that this installation does not understand. [s]"""
    beat_s: float = BEAT_S


@dataclass
class Delivery:
    """What happened so far, for page and metrics."""

    delivered: int = 0
    """Readings that the cell has committed since the start."""
    unknown: int = 0
    """Of these: of points that the cell does not declare; they wait there."""
    refused: int = 0
    """Of these: in the cell's drop ledger."""
    conflicting: int = 0
    last_at: datetime | None = None
    """When the cell last committed readings."""
    heard_at: datetime | None = None
    """When it last answered."""
    problem: str = "not reached yet"
    """Why nothing is sent; empty where it is."""
    asked_s: float | None = None
    """When the batch was sent that is not answered yet, by a clock that nobody sets; None: none is. [s]"""
    heard_s: float | None = None
    """When the cell last answered, by the same clock. [s]"""
    backlog_per_s: float = 0.0
    """The pace that the cell allows. [1/s]"""
    revision: int = 0
    """Of the definitions that hold, as the cell says."""
    claim: Claim | None = None
    """None while this process does not speak for the edge."""

    def problem_at(self, now_s: float) -> str:
        """Why nothing is delivered; a batch that is not answered for long says so before its time is up."""
        if self.problem or self.asked_s is None or now_s - self.asked_s < SILENT_S:
            return self.problem
        return f"the centre has not answered for {now_s - self.asked_s:.0f} s"


@dataclass
class _Allowance:
    """How many readings that waited may be sent now: it grows at the cell's pace."""

    steady: Callable[[], float]
    most: int
    readings: float = 0.0
    _since_s: float = field(default=0.0)

    def grow(self, per_s: float) -> int:
        """What may be sent at this moment."""
        now_s = self.steady()
        self.readings = min(self.readings + per_s * (now_s - self._since_s), float(self.most))
        self._since_s = now_s
        return int(self.readings)


class Sender:
    """Sends what a spool holds, and learns of new definitions.

    Parameters
    ----------
    transport : Transport
    process : str
        Name of this process, made anew at each start.
    definitions : Definitions
    on_definitions : callable
        Told when others are in force.
    set_aside : callable
        The files that could not be read.
    """

    def __init__(
        self,
        transport: Transport,
        process: str,
        definitions: Definitions,
        *,
        on_definitions: Callable[[], None] = lambda: None,
        set_aside: Callable[[], tuple[SetAside, ...]] = tuple,
        habits: Habits = Habits(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport, self._process, self._definitions = transport, process, definitions
        self._on_definitions, self._set_aside, self._habits = on_definitions, set_aside, habits
        self._clock, self._steady, self._sleep = clock, steady, sleep
        self.delivery = Delivery()
        self.offset = Offset(steady=steady)
        self._allowance = _Allowance(steady, habits.most)
        self._most = habits.most
        self._ease = 1.0
        """Share of the pace that is used: where answers are slow, live readings of all edges go first."""
        self._told_dropped: dict[tuple[str, str], int] = {}
        self._told_aside: tuple[SetAside, ...] | None = None
        self._heard_s = -habits.beat_s
        self._pulling: asyncio.Task[None] | None = None
        self._not_before_s = 0.0

    async def run(self, spool: Spool) -> None:
        """Send for ever; cancel it to stop."""
        pause_s = self._habits.first_pause_s
        try:
            while True:
                try:
                    await self._step(spool)
                    pause_s = self._habits.first_pause_s
                except (StoreUnavailable, WorkTooLarge) as error:
                    self._fail(str(error))
                    self._send_less(error)
                    await self._sleep(pause_s * random.uniform(0.5, 1.0))
                    pause_s = min(2 * pause_s, self._habits.longest_pause_s)
                except TooBusy as error:
                    self._fail(str(error))
                    self._allowance.readings = 0.0  # what is live goes first
                    await self._sleep(error.retry_after_s * random.uniform(1.0, 1.5))
                except (AccessError, NotFound, SeriesError) as error:
                    self._fail(str(error))
                    self.delivery.claim = None
                    await self._sleep(self._habits.refused_pause_s)
        finally:
            if self._pulling is not None:
                self._pulling.cancel()

    def _send_less(self, error: Exception) -> None:
        """After a batch that may have been too large, a smaller one."""
        if isinstance(error, WorkTooLarge):
            self._most = max(self._most // 2, 1)
        elif isinstance(error, LineSlow):
            self._most = max(self._most // 2, min(self._habits.least, self._most))

    def _fail(self, problem: str) -> None:
        if self.delivery.problem != problem:
            _log.warning("readings are kept in the spool", problem=problem)
        self.delivery.problem = problem

    async def _step(self, spool: Spool) -> None:
        """Send one batch, or wait until there is something to say."""
        if self.delivery.claim is None:
            self.delivery.claim = await asyncio.to_thread(self._transport.begin, self._process)
            self._told_aside = None
            self._told_dropped.clear()
            self._heard_s = -self._habits.beat_s
            _log.info("this process speaks for the edge", epoch=self.delivery.claim.epoch)
        allowed = self._allowance.grow(self.delivery.backlog_per_s * self._ease)
        if allowed < min(self._habits.lump, self._most, len(spool)):
            allowed = 0
        batch = await asyncio.to_thread(spool.take, self._most, allowed)
        is_due = self._steady() - self._heard_s >= self._habits.beat_s
        if batch.readings or is_due:
            await self._send(spool, batch, self.delivery.claim)
        self._look_for_definitions()
        await self._sleep(self._pause_s(batch))

    def _pause_s(self, batch: Batch) -> float:
        """Until the next batch: live readings gather, and what waited comes at the cell's pace."""
        if not batch.backlog and not len(batch.readings) >= self._most:
            return self._habits.every_s
        return min(self._habits.every_s, self._most / 2 / max(self.delivery.backlog_per_s, 1.0))

    async def _send(self, spool: Spool, batch: Batch, claim: Claim) -> None:
        state = await asyncio.to_thread(self._state, spool)
        sent = self.offset.sending()
        self.delivery.asked_s = self._steady()
        try:
            answer = await asyncio.to_thread(self._transport.send, Message(claim, state, batch.readings))
        finally:
            took_s = self._steady() - self.delivery.asked_s
            self._ease = min(self._habits.every_s / max(took_s, 0.001), 1.0)
            self.delivery.asked_s = None
        self.offset.answered(sent, answer.cell_at)
        self._heard_s = self._steady()
        self._allowance.readings -= batch.backlog
        self._most = min(2 * self._most, self._habits.most)
        if batch.readings:
            await asyncio.to_thread(spool.ack, batch)
        self._note(answer, len(batch.readings), state)

    def _note(self, answer: Answer, readings: int, state: State) -> None:
        done = self.delivery
        if done.problem:
            _log.info("readings are delivered", waiting=state.waiting)
        done.problem, done.heard_at, done.heard_s = "", self._clock(), self._steady()
        if readings:
            done.last_at = done.heard_at
        done.delivered += readings
        done.unknown += answer.unknown
        done.refused += answer.refused
        done.conflicting += answer.conflicting
        done.backlog_per_s, done.revision = answer.backlog_per_s, answer.revision
        self._told_dropped |= {(d.point, d.reason): d.count for d in state.dropped}
        if state.set_aside is not None:
            self._told_aside = state.set_aside

    def _state(self, spool: Spool) -> State:
        dropped = [
            Dropped(d.point, d.reason, d.count)
            for d in (spool.ledger() if spool.is_open else ())
            if self._told_dropped.get((d.point, d.reason)) != d.count
        ]
        aside = self._set_aside()
        return State(
            spool=spool.id,
            sent_at=self._clock(),
            version=__version__,
            revision=self._definitions.in_force.revision,
            problem=self._definitions.problem,
            clock_offset_s=self.offset.seconds,
            waiting=len(spool),
            oldest_at=spool.oldest_at,
            dropped=tuple(dropped[:MOST_NAMED]),
            set_aside=None if aside == self._told_aside else aside,
        )

    def _look_for_definitions(self) -> None:
        """Pull newer definitions, beside the readings."""
        is_older = self.delivery.revision != self._definitions.in_force.revision
        is_pulling = self._pulling is not None and not self._pulling.done()
        if is_older and not is_pulling and self._steady() >= self._not_before_s:
            self._not_before_s = self._steady() + 2 * self._habits.beat_s
            self._pulling = asyncio.create_task(self._pull(), name="definitions")

    async def _pull(self) -> None:
        try:
            signed = await asyncio.to_thread(self._transport.definitions)
        except (StoreUnavailable, TooBusy, WorkTooLarge, AccessError, NotFound, SeriesError) as error:
            self._definitions.problem = f"the newest definitions cannot be fetched: {error}"
            return
        if await asyncio.to_thread(self._definitions.take, signed):
            self._on_definitions()
        else:
            self._not_before_s = self._steady() + self._habits.not_understood_pause_s
        self._heard_s = -self._habits.beat_s  # the cell learns of it at once
