"""What need not be judged again: subjects and memories that the same figures leave as they are.

A round of judgement costs what changed, not what there is. A subject rests where another step would change
neither its state nor anything else that is kept of it; see :func:`app.domain.alarms.alarm.step`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from app.domain.alarms.alarm import Memory, Observation, Rule, Side, State, Subject
from app.domain.alarms.observation import RuleObservation

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEVER, ALWAYS = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
"""In place of the end of a rest: it has none, it is over."""
_LONGEST_S = 1e9
_AWAKE, _INSIDE, _UNKNOWN = range(3)
_RESTS = {State.INACTIVE: _INSIDE, State.NO_DATA: _UNKNOWN}


def settled_until(rule: Rule, memory: Memory) -> datetime:
    """Until when the observation just seen, again, changes nothing but the time of the memory; exclusive.

    A figure that could not be computed is to be tried again at once.
    """
    if memory.state is State.PENDING and memory.since is not None:
        return _after(memory.since, rule.for_s)
    if memory.state is State.RECOVERING:
        return NEVER if memory.since is None else _after(memory.since, rule.keep_firing_for_s)
    if memory.state is State.FIRING:
        return NEVER if memory.other_since is None else _moves(rule, memory, memory.other_since)
    return NEVER if memory.state in _RESTS else ALWAYS


def _moves(rule: Rule, memory: Memory, since: datetime) -> datetime:
    """When an alarm may take another severity: a worse one earlier than one that is less bad."""
    moves = (_after(since, span_s) for span_s in (rule.for_s, rule.keep_firing_for_s))
    return min((at for at in moves if memory.at is None or at > memory.at), default=ALWAYS)


def _after(since: datetime, span_s: float) -> datetime:
    return NEVER if span_s > _LONGEST_S else since + timedelta(seconds=span_s)


def nearest_threshold(rule: Rule) -> float:
    """The threshold that a figure from inside crosses first; not for rules that count from a limit."""
    return (
        math.nan if (first := rule.warning if rule.warning is not None else rule.critical) is None else first
    )


@dataclass(frozen=True)
class Subjects:
    """What one rule watches many of at a site: feeds, points in rooms, meters, addresses."""

    site: str
    names: tuple[str, ...]
    unknown: str
    """Why there is no value, where there is none."""
    within: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses that a subject is behind together with others, by its name."""

    def observed(
        self, rule: Rule, at: datetime, values: Floats, numbers: Iterable[int]
    ) -> Iterator[RuleObservation]:
        """What the rule sees of some of them.

        Parameters
        ----------
        values : float64 array, shape (subjects,)
            In the unit of the indicator; NaN: not known.
        numbers : iterable of int
            Places of those that are asked for.
        """
        for n in numbers:
            value, name = float(values[n]), self.names[n]
            is_known = not math.isnan(value)
            seen = Observation(
                at,
                value if is_known else None,
                reason="" if is_known else self.unknown,
                within=self.within.get(name, ()),
            )
            yield rule, Subject(self.site, name), seen


class Resting:
    """Where the subjects of a rule stand, and so which of them have to be judged."""

    def __init__(self, rule: Rule, count: int) -> None:
        self._rule, self._threshold = rule, nearest_threshold(rule)
        self._stands = np.full(count, _AWAKE, np.int8)

    def note(self, number: int, memory: Memory) -> None:
        """Remember where a subject stands after it was judged."""
        self._stands[number] = _RESTS.get(memory.state, _AWAKE)

    def wake(self) -> None:
        """Have every subject judged."""
        self._stands[:] = _AWAKE

    def awake(self, values: Floats) -> Ints:
        """Places of the subjects that have to be judged.

        Parameters
        ----------
        values : float64 array, shape (subjects,)
            What is seen of each; NaN: not known.
        """
        is_known = np.isfinite(values)
        rests = np.where(
            is_known, (self._stands == _INSIDE) & ~self._beyond(values), self._stands == _UNKNOWN
        )
        return np.flatnonzero(~rests)

    def _beyond(self, values: Floats) -> npt.NDArray[np.bool_]:
        is_above = self._rule.side is Side.ABOVE
        return values > self._threshold if is_above else values < self._threshold

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Which subjects rest because their figure is inside."""
        inside: npt.NDArray[np.bool_] = self._stands == _INSIDE
        return inside

    @property
    def has_unknown(self) -> bool:
        """Whether a subject rests because its figure is not known."""
        return bool((self._stands == _UNKNOWN).any())

    @property
    def threshold(self) -> float:
        """The threshold that a figure from inside crosses first."""
        return self._threshold
