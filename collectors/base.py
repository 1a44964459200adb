"""The contract every collector keeps: one method, readings and failures, no raise for a device's sake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from app.domain.reading import Reading
from app.domain.site import Point
from app.errors import CollectError


@dataclass(frozen=True, slots=True)
class Poll:
    """Outcome of one poll of one device: what was read, and what was not and why."""

    readings: tuple[Reading, ...] = ()
    failures: tuple[CollectError, ...] = ()


class Collector(Protocol):
    """Reads one device.

    ``poll`` stamps every reading with `at` (the wall-clock slot it was asked for), in house units. It
    never raises for a device's sake: a device that is silent, refuses or talks nonsense shows up in
    ``failures``; whatever else could be read stands in ``readings``. It may be cancelled at any await
    and must leave nothing behind. ``close`` is idempotent.
    """

    device: str
    """Name for logs and metrics: the meter's id."""

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once."""

    async def close(self) -> None:
        """Release sockets and tasks."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a collector is built for: one meter and the points it must deliver."""

    meter: str
    points: Sequence[Point] = field(default_factory=tuple)
