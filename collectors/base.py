"""The contract every collector keeps: one method, readings and failures, no raise for a device's sake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from app.domain.reading import Reading
from app.domain.site import Point
from app.errors import CollectError


class Poll(NamedTuple):
    """Outcome of one poll of one device: what was read, and what was not and why.

    What was read travels as columns, from the decoder to the spool: devices deliver hundreds of thousands
    of values a second at best, and an object for each would cost more than all the rest.
    """

    at: datetime
    """Instant of all readings."""
    points: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    """One per point, in house units."""
    failures: tuple[CollectError, ...] = ()
    dated: tuple[Reading, ...] = ()
    """What a source gives that says itself when it was measured, in house units."""
    cursor: tuple[str, str] | None = None
    """Device, and up to where its source has been read; kept in the same commit as the readings."""
    kept: Callable[[], None] | None = None
    """Called once all of it is on disk; a source that holds readings until then may let go of them."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The columns as readings, and those that the source dated."""
        read = (Reading(p, self.at, value) for p, value in zip(self.points, self.values, strict=True))
        return (*read, *self.dated)

    @property
    def weight(self) -> int:
        """How much there is to keep; 0 where nothing is."""
        return len(self.points) + len(self.dated) + bool(self.cursor or self.kept)


class Collector(Protocol):
    """Reads one device.

    ``poll`` stamps every reading with `at` (the wall-clock slot it was asked for), in house units. It
    never raises for a device's sake: a device that is silent, refuses or talks nonsense shows up in
    ``failures``; whatever else could be read stands in ``points`` and ``values``. It may be cancelled at
    any await and must leave nothing behind. ``close`` is idempotent.
    """

    device: str
    """Name for logs and metrics: the meter's id."""

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once."""

    async def close(self) -> None:
        """Release sockets and tasks."""


@runtime_checkable
class Resuming(Protocol):
    """A collector whose source has a memory, and which goes on where it was when the process ended."""

    def resume(self, cursor: str) -> None:
        """Called before the first poll, with the cursor that was kept last; empty: none.

        Nothing is connected yet. All devices of a poller are resumed before any of them is polled.
        """


def joined(at: datetime, polls: Iterable[Poll]) -> Poll:
    """What several requests to one device brought, as one poll."""
    points: list[str] = []
    values: list[float] = []
    failures: list[CollectError] = []
    for poll in polls:
        points += poll.points
        values += poll.values
        failures += poll.failures
    return Poll(at, tuple(points), tuple(values), tuple(failures))


@dataclass(frozen=True, slots=True)
class Binding:
    """What a collector is built for: one meter and the points it must deliver."""

    meter: str
    points: Sequence[Point] = field(default_factory=tuple)
    site: str = ""
    """Site of the meter, where it is known."""
