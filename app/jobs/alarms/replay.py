"""What the rules would have said of the past: the stored quarter-hours, through the same judgement.

What a history does not hold cannot be replayed: when a reading came (silent meters), when something
was found out (findings), and how the service itself was doing (spool, evaluations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from app.domain.alarms import observation
from app.domain.alarms.alarm import Memory, Rule, State, Subject, fingerprint
from app.domain.alarms.observation import ExplainingFinding, RuleInput, RuleObservation
from app.domain.limits import LimitProfile
from app.domain.period import QUARTER_HOUR_S, Period, window
from app.domain.site import Site
from app.jobs.alarms.history import Bools, SubjectSeries, SubjectSeriesLoader, Windows, crossings, ends
from app.jobs.alarms.judge import Change, step_rules
from app.jobs.alarms.seen import limit_of
from app.store import alarms, deployment, findings
from app.store.engine import Connection
from app.store.sites import Stored

EVALUATED_AFTER = (timedelta(seconds=5), timedelta(seconds=30))
"""When a closed quarter-hour is judged, after its end."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """An alarm that would have fired."""

    rule: str
    subject: str
    severity: str
    """The worst that it reached."""
    started_at: datetime
    fired_at: datetime
    resolved_at: datetime | None
    value: float
    """When it reached that severity."""
    threshold: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        times = {k: v.isoformat() for k, v in asdict(self).items() if isinstance(v, datetime)}
        return {**asdict(self), **times}


@dataclass
class ReplayResult:
    """What the rules said of a period, and where they stood at its end."""

    changes: list[Change] = field(default_factory=list)
    memories: dict[tuple[str, Subject], Memory] = field(default_factory=dict)
    """By rule and subject."""
    is_whole: bool = True
    """False: it was stopped before the end."""


def replay(
    connection: Connection, stored: Stored, site: Site, period: Period, profiles: Mapping[str, LimitProfile]
) -> list[Replayed]:
    """Alarms that a period would have given, by what is known of it now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return _alarms(evaluate(connection, stored, site, period, profiles).changes)


def evaluate(
    connection: Connection,
    stored: Stored,
    site: Site,
    period: Period,
    profiles: Mapping[str, LimitProfile],
    *,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ReplayResult:
    """The rules on every quarter-hour of a period, or up to where it is stopped.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    number = stored.site_id[site.id]
    past = Windows.load(connection, site, number, period)
    listed = findings.listing(connection, number, start=past.start, end=period.end)
    limits = {day: limit_of(stored, profiles, site, at) for day, at in _days(site, period).items()}
    loader = SubjectSeriesLoader(connection, stored, site, period, profiles)
    rules = [r for r in alarms.rules(connection) if not r.sites or site.id in r.sites]
    lowest = min((limit.pue for limit in limits.values() if limit), default=None)
    watched = [w for rule in rules for w in _watched(rule, past, loader, period, lowest)]
    known_from, found, done = (
        alarms.known_from(connection, number),
        observation.explaining_findings(site, listed),
        ReplayResult(),
    )
    for index, at in enumerate(ends(period)):
        if is_stopping():
            return replace(done, is_whole=False)
        active = [w for w in watched if w.crosses[index] or not _is_calm(done.memories.get(w.key))]
        if active:
            names = {w.rule.window for w in active} - {""} | {"15m", "24h"}
            windows = {name: past.figures(window(name, at, site.zone)) for name in names}
            near = [d for d in found if _is_near(d, at)]
            limit = limits[at.astimezone(site.zone).date()]
            _evaluate_quarter_hour(active, index, RuleInput(site, at, windows, limit, known_from, near), done)
    return done


def _days(site: Site, period: Period) -> dict[date, datetime]:
    """Local days of a period, with an instant of each."""
    return {at.astimezone(site.zone).date(): at for at in ends(period)}


@dataclass(frozen=True)
class _Watched:
    """A rule on one subject."""

    rule: Rule
    key: tuple[str, Subject]
    crosses: Bools
    """At which quarter-hours a threshold may be crossed."""
    series: SubjectSeries | None = None
    """None: the windows say it."""

    def observation(self, index: int, facts: RuleInput) -> Iterator[RuleObservation]:
        """What the rule sees at the end of a quarter-hour."""
        if self.series is None:
            return observation.of_windows([self.rule], facts)
        limit_pue = None if facts.limit is None else facts.limit.pue
        return iter([(self.rule, self.series.subject, self.series.observation(index, facts.at, limit_pue))])


def _watched(
    rule: Rule, past: Windows, loader: SubjectSeriesLoader, period: Period, lowest_limit_pue: float | None
) -> Iterator[_Watched]:
    """The subjects of a rule of which it ever has something to say."""
    key, site = rule.id, past.site.id
    if rule.indicator in observation.OF_WINDOWS:
        values = past.series(rule, period)
        always = np.ones(int(period.duration_s) // QUARTER_HOUR_S, np.bool_)
        crosses = always if values is None else crossings(rule, values, lowest_limit_pue)
        yield from [_Watched(rule, (key, Subject(site)), crosses)] if crosses.any() else []
    for series in loader.of(rule.indicator):
        crosses = crossings(rule, series.values, lowest_limit_pue)
        yield from [_Watched(rule, (key, series.subject), crosses, series)] if crosses.any() else []


def _is_calm(memory: Memory | None) -> bool:
    return memory is None or memory.state in (State.INACTIVE, State.NO_DATA, State.ERROR)


def _is_near(finding: ExplainingFinding, at: datetime) -> bool:
    """Whether a finding can explain what is seen: of a day, or long enough for a longer window."""
    is_long = finding.end - finding.start > observation.SHORT
    return is_long or (finding.start < at and finding.end >= at - observation.SHORT)


def _evaluate_quarter_hour(
    active: Sequence[_Watched], index: int, facts: RuleInput, done: ReplayResult
) -> None:
    """Judge a closed quarter-hour; a second time only where something waits to be seen again."""
    for after in EVALUATED_AFTER:
        now = replace(facts, at=facts.at + after)
        seen = [one for w in active for one in w.observation(index, now)]
        before = {fingerprint(r.id, s): done.memories.get((r.id, s), Memory()) for r, s, _ in seen}
        fresh, moved = step_rules(seen, before, now.at)
        done.memories |= {(r.id, s): memory for (r, s, _), memory in zip(seen, fresh, strict=True)}
        done.changes += moved
        if not any(memory.state is State.PENDING or memory.other_since for memory in fresh):
            break


def _alarms(changes: Sequence[Change]) -> list[Replayed]:
    """Transitions as alarms, in the order in which they fired."""
    done: list[Replayed] = []
    going: dict[tuple[str, Subject], int] = {}
    for rule, subject, _, change in changes:
        key = (rule.id, subject)
        if change.fires:
            going[key] = len(done)
            begin = (change.started or change.at, change.at, None)
            done.append(
                Replayed(
                    rule.id,
                    subject.name,
                    _level(change),
                    *begin,
                    change.value or 0.0,
                    change.threshold or 0.0,
                )
            )
        elif key in going and change.escalates:
            worse = {"severity": _level(change), "value": change.value, "threshold": change.threshold}
            done[going[key]] = replace(done[going[key]], **worse)  # type: ignore[arg-type]
        elif key in going and change.resolves:
            index = going.pop(key)
            done[index] = replace(done[index], resolved_at=change.at)
    return done


def _level(change: Any) -> str:
    return str(change.severity.value)


def replay_site(connection: Connection, stored: Stored, site: Site, period: Period) -> list[Replayed]:
    """As :func:`replay`, by the profiles of the deployment.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return replay(connection, stored, site, period, deployment.limit_profiles(connection))
