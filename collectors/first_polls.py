"""Whether what a meter says at its first polls can be: readings that contradict each other are not stored.

The points that a meter has are compared with each other, at no further cost for the device. A map that was
chosen by hand for the wrong model shows at once, and not in next month's report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from app.domain.site import Point
from app.errors import DecodeError
from collectors.base import Poll
from collectors.plausibility import contradictions, impossible, rises_too_fast

FIRST_POLLS = 3
"""So many polls in a row must agree before a meter is trusted."""
_CLIMATE = re.compile(r".*(temperature_c|humidity_percent)")


class FirstPolls:
    """Checks the polls of one meter.

    Parameters
    ----------
    device : str
        Name of the meter in messages.
    points : sequence of Point
        What is read.
    channels : mapping of str to str
        Channel of each point, by the point's id.
    """

    __slots__ = ("_began", "_channels", "_climate", "_device", "_left")

    def __init__(self, device: str, points: Sequence[Point], channels: Mapping[str, str]) -> None:
        self._device, self._channels = device, {p.id: channels[p.id] for p in points if p.id in channels}
        self._climate = {p: c for p, c in self._channels.items() if _CLIMATE.fullmatch(c)}
        self._left = FIRST_POLLS if len(self._channels) > 1 else 0
        self._began: tuple[datetime, Mapping[str, float]] | None = None
        """The first poll that said anything, and its values by channel."""

    def checked(self, poll: Poll) -> Poll:
        """The poll without readings that cannot be; each of them is a failure that says why."""
        if not self._left and not self._climate:
            return poll
        wrong = self._wrong(dict(zip(poll.points, poll.values, strict=True)), poll.at)
        if not wrong:
            return poll
        kept = [(p, v) for p, v in zip(poll.points, poll.values, strict=True) if p not in wrong]
        failures = tuple(DecodeError(self._device, text, point=point) for point, text in wrong.items())
        return poll._replace(
            points=tuple(p for p, _ in kept),
            values=tuple(v for _, v in kept),
            failures=(*poll.failures, *failures),
        )

    def _wrong(self, values: Mapping[str, float], at: datetime) -> dict[str, str]:
        wrong = {
            point: f"{channel} of {values[point]:g}: {why}"
            for point, channel in self._climate.items()
            if point in values and (why := impossible(channel, values[point]))
        }
        if self._left and values:
            point_of = {channel: point for point, channel in self._channels.items() if point in values}
            said = {channel: values[point] for channel, point in point_of.items()}
            self._began = self._began or (at, said)
            hours = (at - self._began[0]).total_seconds() / 3600
            found = contradictions(said) + rises_too_fast(self._began[1], said, hours)
            for one in found:
                for channel in one.channels:
                    wrong.setdefault(point_of[channel], f"{one.text}; check profile and wiring")
            self._left -= not found
        return wrong
