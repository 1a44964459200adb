"""When a figure that crosses a threshold becomes an alarm, and when the alarm is over.

::

    inactive -> pending -> firing <-> recovering -> resolved -> inactive
    no_data and error take the place of inactive and pending while the figure is not known

Data that is missing or doubtful never starts an alarm and never ends one: an alarm that fires stays as
it is until the figure is known again. The rules are data, see ``data/alarm_rules.py``.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from app.domain.period import WINDOWS
from app.domain.site import check_id

_STRICT = {"extra": "forbid"}

LONGEST_SILENCE = timedelta(hours=1)
"""After so long without an evaluation a breach that was pending is taken as a new one."""

REPEATED = timedelta(minutes=5)
"""An evaluation older than the last by no more than this came late or twice; else the clock was set back."""


class Severity(StrEnum):
    """How much an alarm matters."""

    WARNING = "warning"
    """Look into it during the day."""
    CRITICAL = "critical"
    """Act now; sent in quiet hours too."""

    @property
    def rank(self) -> int:
        """Place among the severities, the highest last."""
        return list(Severity).index(self)


class State(StrEnum):
    """Where the rule stands for one subject."""

    INACTIVE = "inactive"
    PENDING = "pending"
    """The threshold is crossed, for not long enough yet."""
    FIRING = "firing"
    RECOVERING = "recovering"
    """Back inside, for not long enough yet."""
    RESOLVED = "resolved"
    NO_DATA = "no_data"
    """The figure is not known; never a breach."""
    ERROR = "error"
    """The figure could not be computed; never a breach."""

    @property
    def is_active(self) -> bool:
        """Whether an alarm is going on."""
        return self in (State.FIRING, State.RECOVERING)


class Side(StrEnum):
    """On which side of its thresholds a figure is a breach."""

    ABOVE = "above"
    """A value above the threshold is a breach."""
    BELOW = "below"
    """A value below the threshold is a breach."""


class Indicator(StrEnum):
    """Figures that a rule can watch; see ``docs/decisions/alarms.md`` for how each is made."""

    PUE = "pue"
    """Of a window. Subject: the site."""
    POWER_RATIO_JUMP = "power_ratio_jump"
    """PUE of the newest quarter-hour less that of the last 24 h."""
    YEAR_END_PUE = "year_end_pue"
    """Projected for the end of the local year."""
    OVERHEAD_BUDGET_USED_RATIO = "overhead_budget_used_ratio"
    """Overhead of the year so far, by what the limit allows for the whole year."""
    PLANT_DRIFT_RATIO = "plant_drift_ratio"
    """Overhead beyond the frozen baseline since a drift began, by what was expected; 0 without drift."""
    IT_LOAD_RATIO = "it_load_ratio"
    """Mean IT power of a window by design capacity."""
    FEED_LOAD_RATIO = "feed_load_ratio"
    """Highest quarter-hour of the last hour by what the redundancy lets it carry. Subject: the meters."""
    TEMPERATURE_C = "temperature_c"
    """Mean of the newest quarter-hour. Subject: the point. [C]"""
    HUMIDITY_PERCENT = "humidity_percent"
    """Mean of the newest quarter-hour. Subject: the point. [%]"""
    METER_SILENT_INTERVALS = "meter_silent_intervals"
    """Time since the newest reading of a polled meter, by its interval. Subject: the meter."""
    GATEWAY_SILENT_INTERVALS = "gateway_silent_intervals"
    """Shortest silence of the polled meters behind one address, where there are several, by their intervals.
    Subject: the address."""
    EDGE_SILENT_S = "edge_silent_s"
    """Time since the edge of the site was last heard of. Subject: the edge. [s]"""
    COVERAGE_RATIO = "coverage_ratio"
    """Share of a window over which facility and IT energy are both known."""
    SERIOUS_FINDINGS = "serious_findings"
    """Open findings of severity error that begin in the last week."""
    SPOOL_FILL_RATIO = "spool_fill_ratio"
    """Readings that wait to be stored, by the room for them. No site."""
    COMPRESSION_BROKEN_TABLES = "compression_broken_tables"
    """Tables of TimescaleDB that are not compressed as they should be. No site."""
    EVALUATION_AGE_S = "evaluation_age_s"
    """Time since the site was last evaluated. [s]"""


WINDOWED = (Indicator.PUE, Indicator.IT_LOAD_RATIO, Indicator.COVERAGE_RATIO)
"""Indicators of a window; the others have their own."""
LIMITED = (Indicator.PUE, Indicator.YEAR_END_PUE)
"""Indicators that can be watched against the site's own PUE limit."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One figure, its thresholds, and how long they must be crossed."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier; that of a built-in rule takes its place. E.g. ``hall-warm``."""
    indicator: Indicator
    """The figure that is watched."""
    window: str = ""
    """Of indicators that have one: 15m 1h 24h 7d 30d mtd ytd 12mo. E.g. ``1h``."""
    side: Side = Side.ABOVE
    """On which side of the thresholds a value is a breach."""
    warning: float | None = None
    """Threshold of the warning, in the unit of the indicator; this or `critical` is needed. E.g. ``26``."""
    critical: float | None = None
    """Threshold of the critical alarm; beyond that of the warning. E.g. ``30``."""
    from_limit: bool = False
    """Whether the thresholds count from the PUE limit that governs the site: -0.05 is just below it."""
    hysteresis: float = 0.0
    """How far back inside the figure must go, and stay, for the alarm to end; a recovery that has begun is
    undone only by a value beyond the threshold itself. In its unit. E.g. ``0.01``."""
    for_s: float = 15.0
    """How long a threshold must be crossed. [s] E.g. ``300``."""
    keep_firing_for_s: float = 900.0
    """How long the figure must be back inside for the alarm to end. [s] E.g. ``1800``."""
    quiet_while: tuple[str, ...] = ()
    """Rules whose alarm at the same site says it already; an alarm that goes on is handed over to them.
    E.g. ``[pue_12mo]``."""
    sites: tuple[str, ...] = ()
    """Sites it is evaluated for; empty: all. E.g. ``[sh1]``."""

    def __post_init__(self) -> None:
        check_id(self.id)
        if self.warning is None and self.critical is None:
            raise ValueError(f"rule {self.id} needs a warning or a critical threshold")
        if (self.window not in WINDOWS) if self.indicator in WINDOWED else bool(self.window):
            allowed = ", ".join(WINDOWS) if self.indicator in WINDOWED else "none for this indicator"
            raise ValueError(f"window {self.window!r}; allowed: {allowed}")
        if self.from_limit and self.indicator not in LIMITED:
            raise ValueError(f"from_limit is for {', '.join(LIMITED)} only")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("hysteresis", "for_s", "keep_firing_for_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more")
        if not all(math.isfinite(x) for x in (self.warning, self.critical) if x is not None):
            raise ValueError("warning and critical must be numbers")
        if (
            self.warning is not None
            and self.critical is not None
            and self.is_beyond(self.warning, self.critical)
        ):
            raise ValueError("the critical threshold must lie beyond the warning threshold")

    def is_beyond(self, value: float, threshold: float) -> bool:
        """Whether a value lies further on the side of a breach than a threshold."""
        return value > threshold if self.side is Side.ABOVE else value < threshold

    def threshold(self, severity: Severity, limit: float | None) -> float | None:
        """The threshold of a severity, in the unit of the indicator; None where there is none."""
        own = self.warning if severity is Severity.WARNING else self.critical
        if own is None or not self.from_limit:
            return own
        return None if limit is None else limit + own

    def reached(self, value: float, limit: float | None, *, easier_by: float = 0.0) -> Severity | None:
        """The highest severity whose threshold, moved back by `easier_by`, the value has crossed."""
        back = -easier_by if self.side is Side.ABOVE else easier_by
        for severity in (Severity.CRITICAL, Severity.WARNING):
            threshold = self.threshold(severity, limit)
            if threshold is not None and self.is_beyond(value, threshold + back):
                return severity
        return None


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """The ``alarms`` section of the site file: what differs from the built-in rules."""

    __pydantic_config__ = _STRICT
    rules: tuple[Rule, ...] = ()
    """Own rules; one with the id of a built-in rule takes its place."""
    disabled: tuple[str, ...] = ()
    """Built-in rules that are not wanted. E.g. ``[it_load_low]``."""

    def merged(self, built_in: tuple[Rule, ...]) -> tuple[Rule, ...]:
        """The rules that hold, by the order of the built-in ones."""
        by_id = {rule.id: rule for rule in (*built_in, *self.rules)}
        return tuple(rule for rule in by_id.values() if rule.id not in self.disabled)


class Subject(NamedTuple):
    """What a rule judges: a site (empty: the deployment), and what of it (empty: as a whole)."""

    site: str
    name: str = ""


@lru_cache(maxsize=16_384)
def fingerprint(rule: str, subject: Subject) -> str:
    """Same for every occurrence of the same rule on the same thing."""
    return hashlib.sha256("\x1f".join((rule, *subject)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Observation:
    """A figure at the time of an evaluation, or why there is none."""

    at: datetime
    value: float | None = None
    reason: str = ""
    """Why there is no value."""
    is_error: bool = False
    """Whether the value is missing because of a fault of the computation."""
    explained_by: str = ""
    """What about the data explains the value, so that it says nothing about the data centre."""
    limit: float | None = None
    """The PUE limit that governs, for rules that count from it."""
    within: tuple[str, ...] = ()
    """Addresses that the subject is behind together with others: an alarm of one of them explains it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What has to be remembered about one rule on one subject between evaluations."""

    state: State = State.INACTIVE
    since: datetime | None = None
    """When the state began."""
    at: datetime | None = None
    """The newest evaluation."""
    started: datetime | None = None
    """When the breach began; None while there is none."""
    severity: Severity | None = None
    """Of the alarm that is going on."""
    other_since: datetime | None = None
    """Since when the figure is at another severity than the alarm."""
    value: float | None = None
    reason: str = ""
    worst: float | None = None
    """Furthest value since the breach began."""
    worst_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, or of the severity of an alarm."""

    at: datetime
    before: State
    after: State
    severity: Severity | None
    previous_severity: Severity | None
    started: datetime | None
    value: float | None
    threshold: float | None
    reason: str = ""
    is_handed_over: bool = False
    """Whether the alarm ends because another one says it now."""
    worst: float | None = None
    """Furthest value since the breach began."""
    worst_at: datetime | None = None

    @property
    def fires(self) -> bool:
        """Whether an alarm begins."""
        return not self.before.is_active and self.after is State.FIRING

    @property
    def resolves(self) -> bool:
        """Whether an alarm ends."""
        return self.after is State.RESOLVED

    @property
    def escalates(self) -> bool:
        """Whether an alarm gets worse."""
        return self._moves(1)

    @property
    def eases(self) -> bool:
        """Whether an alarm gets less bad without being over."""
        return self._moves(-1)

    def _moves(self, sign: int) -> bool:
        if self.severity is None or self.previous_severity is None:
            return False
        return sign * (self.severity.rank - self.previous_severity.rank) > 0


@dataclass
class _Step:
    """One evaluation of one rule on one subject, in the making."""

    rule: Rule
    memory: Memory
    seen: Observation
    done: list[Transition] = field(default_factory=list)

    def go(self, state: State, *, severity: Severity | None = None, reason: str = "") -> None:
        """Change state or severity, and write it down."""
        before = self.memory
        level = severity or before.severity
        threshold = None if level is None else self.rule.threshold(level, self.seen.limit)
        started = before.started if state is not State.PENDING else self.seen.at
        self.done.append(
            Transition(
                self.seen.at,
                before.state,
                state,
                level,
                before.severity,
                started,
                self.seen.value,
                threshold,
                reason,
                worst=before.worst,
                worst_at=before.worst_at,
            )
        )
        moved = state is not before.state or state is State.PENDING
        self.memory = replace(
            before,
            state=state,
            since=self.seen.at if moved else before.since,
            started=started if state.is_active or state is State.PENDING else None,
            severity=level if state.is_active else None,
            other_since=None,
            reason=reason,
        )


def step(rule: Rule, memory: Memory, seen: Observation) -> tuple[Memory, tuple[Transition, ...]]:
    """What an evaluation changes.

    Parameters
    ----------
    rule : Rule
        What is judged.
    memory : Memory
        As the evaluation before left it.
    seen : Observation
        The figure now. One that is not newer than the last changes nothing, so a repeated or late
        evaluation does no harm; where the clock was set back, what lies ahead of it counts as from now.

    Returns
    -------
    Memory
        To be kept for the next evaluation.
    tuple of Transition
        In order; empty where nothing changed.
    """
    if memory.at is not None and seen.at <= memory.at:
        if memory.at - seen.at <= REPEATED:
            return memory, ()
        memory = _set_back(memory, seen.at)
    if seen.value is not None and not math.isfinite(seen.value):
        seen = replace(seen, value=None, reason=seen.reason or "the value is not a number")
    run = _Step(rule, _with_worst(rule, memory, seen), seen)
    if seen.value is None:
        _unknown(run, State.ERROR if seen.is_error else State.NO_DATA, seen.reason)
    elif memory.state.is_active:
        _while_active(run, seen.value)
    else:
        _while_calm(run, seen.value)
    after = replace(run.memory, at=seen.at, value=seen.value)
    if not (after.state.is_active or after.state is State.PENDING):
        after = replace(after, worst=None, worst_at=None)
    return after, tuple(run.done)


def _with_worst(rule: Rule, memory: Memory, seen: Observation) -> Memory:
    """The memory with the furthest value so far; what the data explain is no value of the data centre."""
    if seen.value is None or seen.explained_by:
        return memory
    if memory.worst is not None and not rule.is_beyond(seen.value, memory.worst):
        return memory
    return replace(memory, worst=seen.value, worst_at=seen.at)


def _set_back(memory: Memory, now: datetime) -> Memory:
    """The memory with no instant later than `now`: with those a rule would be deaf until they are reached."""
    names = ("since", "at", "started", "other_since", "worst_at")
    instants = {name: getattr(memory, name) for name in names}
    return replace(memory, **{name: at and min(at, now) for name, at in instants.items()})


def _unknown(run: _Step, state: State, reason: str) -> None:
    """Without a figure nothing begins and nothing ends; a recovery has to last from when it is seen again."""
    if run.memory.state is State.RECOVERING:
        run.memory = replace(run.memory, since=None)
    elif not run.memory.state.is_active and run.memory.state is not state:
        run.go(state, reason=reason)


def _while_calm(run: _Step, value: float) -> None:
    seen, before = run.seen, run.memory
    level = run.rule.reached(value, seen.limit)
    if level is None or seen.explained_by:
        if before.state is not State.INACTIVE:
            run.go(State.INACTIVE, reason=f"explained by {seen.explained_by}" if level else "")
        return
    is_late = before.at is not None and seen.at - before.at > LONGEST_SILENCE
    if before.state is not State.PENDING or is_late:
        run.go(State.PENDING, severity=level)
    if _lasted(run.memory.since, seen.at, run.rule.for_s):
        run.go(State.FIRING, severity=level)


def _while_active(run: _Step, value: float) -> None:
    if run.seen.explained_by:
        _unknown(run, State.FIRING, f"doubtful because of {run.seen.explained_by}")
        return
    held = run.rule.reached(value, run.seen.limit, easier_by=run.rule.hysteresis)
    if run.memory.state is State.RECOVERING:
        _while_recovering(run, value, is_back_inside=held is None)
    elif held is None:
        run.go(State.RECOVERING)
    else:
        _follow_severity(run, value, held)
    if run.memory.state is State.RECOVERING and _lasted(
        run.memory.since, run.seen.at, run.rule.keep_firing_for_s
    ):
        run.go(State.RESOLVED)


def _while_recovering(run: _Step, value: float, *, is_back_inside: bool) -> None:
    """Only a value beyond the threshold is a relapse; one within the hysteresis makes the recovery wait."""
    again = run.rule.reached(value, run.seen.limit)
    if again is not None:
        run.go(State.FIRING)
        _follow_severity(run, value, again)
    elif not is_back_inside:
        run.memory = replace(run.memory, since=None)
    elif run.memory.since is None:
        run.memory = replace(run.memory, since=run.seen.at)


def _follow_severity(run: _Step, value: float, held: Severity) -> None:
    """Worse after `for_s` at the worse level, less bad after `keep_firing_for_s` below it."""
    own = run.memory.severity or held
    reached = run.rule.reached(value, run.seen.limit) or held
    wanted = reached if reached.rank > own.rank else held if held.rank < own.rank else own
    if wanted is own:
        run.memory = replace(run.memory, other_since=None)
        return
    since = run.memory.other_since or run.seen.at
    run.memory = replace(run.memory, other_since=since)
    needed_s = run.rule.for_s if wanted.rank > own.rank else run.rule.keep_firing_for_s
    if _lasted(since, run.seen.at, needed_s):
        run.go(State.FIRING, severity=wanted)


def _lasted(since: datetime | None, at: datetime, needed_s: float) -> bool:
    return since is not None and (at - since).total_seconds() >= needed_s


def withdrawn(
    memory: Memory, rule: Rule, seen: Observation, reason: str, *, is_handed_over: bool = False
) -> tuple[Memory, tuple[Transition, ...]]:
    """End whatever goes on: the rule or its subject is no longer there, or another alarm says it now."""
    if not memory.state.is_active:
        return Memory(at=seen.at), ()
    run = _Step(rule, memory, seen)
    run.go(State.RESOLVED, reason=reason)
    changes = tuple(replace(change, is_handed_over=is_handed_over) for change in run.done)
    return replace(run.memory, at=seen.at), changes
