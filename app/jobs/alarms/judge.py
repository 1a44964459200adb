"""Judge every rule on the stored figures; transitions and their messages are kept in one transaction."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.domain import capacity
from app.domain.alarms import observation as observing
from app.domain.alarms.alarm import (
    Indicator,
    Memory,
    Observation,
    Rule,
    State,
    Subject,
    Transition,
    fingerprint,
    step,
    withdrawn,
)
from app.domain.alarms.observation import Scene, Seen, WindowFigures
from app.domain.forecast import Budget
from app.domain.limits import Limit, LimitProfile, governing, limits_for
from app.domain.period import WINDOWS, Period, floor
from app.domain.site import Site
from app.errors import StoreUnavailable, WattlineError
from app.jobs.alarms import announce
from app.jobs.alarms.announce import Announcer
from app.store import (
    alarms,
    deployment,
    evaluations,
    findings,
    gauges,
    outlook,
    readings,
    sites,
    usage,
)
from app.store.alarms import Remembered
from app.store.engine import Connection, Engine, begin
from app.store.outlook import YearOutlook
from app.store.sites import Stored

FINDINGS_REACH = timedelta(days=31)
"""Findings that began or ended longer ago explain no window that alarms judge by them."""
OUTLOOK_EVERY = timedelta(hours=1)
FEEDS_EVERY = timedelta(minutes=5)
KEPT_EVERY = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class YearFigures:
    """How the year goes, computed once in a while."""

    at: datetime
    pue: float | None
    reason: str
    used_ratio: float | None

    @classmethod
    def of(cls, year: YearOutlook, limit: Limit | None, at: datetime) -> YearFigures:
        """What of an outlook the rules look at."""
        budget = next((b for x, b in year.budgets if limit and x.profile == limit.profile), None)
        return cls(at, year.projection.pue, year.projection.reason or "", used_ratio(budget))


@dataclass
class Cache:
    """Figures that are dear and move slowly, by site."""

    years: dict[str, YearFigures] = field(default_factory=dict)
    feeds: dict[str, tuple[datetime, tuple[capacity.FeedLoad, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """What all sites' rules are judged on."""

    connection: Connection
    stored: Stored
    rules: tuple[Rule, ...]
    profiles: Mapping[str, LimitProfile]
    now: datetime
    cache: Cache
    spool_fill_ratio: float | None

    def of(self, site: Site, *indicators: Indicator) -> list[Rule]:
        """Rules about some indicators that hold for a site."""
        return [r for r in self.rules if r.indicator in indicators and (not r.sites or site.id in r.sites)]


@dataclass(frozen=True, slots=True)
class Judged:
    """What an evaluation of all rules changed."""

    subjects: int
    transitions: int
    messages: int


def run(
    engine: Engine,
    now: datetime,
    *,
    cache: Cache | None = None,
    spool_fill_ratio: float | None = None,
    announcing: bool = True,
) -> Judged | None:
    """Judge all rules of all sites; None where another process is at it.

    Parameters
    ----------
    engine : Engine
        Whose evaluations are judged.
    now : datetime
        Time of this evaluation; one that is not newer than the last changes nothing.
    cache : Cache, optional
        Kept by the caller from one evaluation to the next.
    spool_fill_ratio : float, optional
        How full this process's spool is. [0..1]
    announcing : bool
        False: keep transitions, but tell nobody.

    Raises
    ------
    StoreUnavailable
        If the database is away; everything is as before.
    """
    with begin(engine) as connection:
        if not alarms.lock(connection):
            return None
        ground = Ground(
            connection,
            sites.load(connection),
            alarms.rules(connection),
            deployment.limit_profiles(connection),
            now,
            cache or Cache(),
            spool_fill_ratio,
        )
        return _judge(ground, announcing=announcing)


def _judge(ground: Ground, *, announcing: bool) -> Judged:
    kept = alarms.memories(ground.connection)
    seen = list(_everything(ground, kept))
    after, changes = judged(seen, {key: one.memory for key, one in kept.items()}, ground.now)
    fresh = {
        fingerprint(rule.id, subject): Remembered(
            rule.id, alarms.site_number(ground.stored, subject.site), subject.name, memory
        )
        for (rule, subject, _), memory in zip(seen, after, strict=True)
    }
    teller = Announcer(ground.connection, ground.stored, ground.profiles, ground.now)
    rows = [_record(ground, teller, *change) for change in changes]
    for key in set(kept) - set(fresh):
        rows += _withdraw(ground, teller, kept[key])
    alarms.write_transitions(ground.connection, rows)
    alarms.forget(ground.connection, set(kept) - set(fresh))
    alarms.remember(ground.connection, {k: m for k, m in fresh.items() if _is_news(kept.get(k), m)})
    messages = teller.announce(ground.rules) if announcing else 0
    return Judged(len(seen), len(changes), messages)


Change = tuple[Rule, Subject, Observation, Transition]


def judged(
    seen: Iterable[Seen], memories: Mapping[str, Memory], now: datetime
) -> tuple[list[Memory], list[Change]]:
    """Step every rule, in the order given; what to remember of each, and what changed.

    A rule that is quiet while others fire sees their state of this same evaluation.
    """
    loud: dict[str, set[str]] = defaultdict(set)
    after: list[Memory] = []
    changes: list[Change] = []
    for rule, subject, observation in seen:
        before = memories.get(fingerprint(rule.id, subject), Memory())
        told = loud[subject.site] & set(rule.quiet_while)
        if told and before.state.is_active:
            reason = f"goes on as alarm {min(told)}"
            memory, moved = withdrawn(before, rule, observation, reason, is_handed_over=True)
        else:
            hushed = replace(observation, explained_by=f"alarm {min(told)}") if told else observation
            memory, moved = step(rule, before, hushed)
        if memory.state.is_active:
            loud[subject.site].add(rule.id)
        after.append(memory)
        changes += [(rule, subject, observation, change) for change in moved]
    return after, changes


def _is_news(before: Remembered | None, after: Remembered) -> bool:
    """Whether a memory has to be written: its instant alone matters only now and then."""
    if before is None:
        return True
    old, new = before.memory, after.memory
    if replace(old, at=None, value=None) != replace(new, at=None, value=None):
        return True
    waits = new.state in (State.PENDING, State.FIRING, State.RECOVERING)
    return waits and old.at is not None and new.at is not None and new.at - old.at >= KEPT_EVERY


def _record(
    ground: Ground,
    teller: Announcer,
    rule: Rule,
    subject: Subject,
    observation: Observation,
    change: Transition,
) -> dict[str, Any]:
    """Follow a transition; what is to be written down about it."""
    number = alarms.site_number(ground.stored, subject.site)
    says = announce.what_of(change) is not None
    document = teller.document(rule, subject, observation, change) if says else {}
    alarm_id, row = alarms.record(ground.connection, rule.id, subject, number, change, document)
    if alarm_id is not None and says:
        teller.say(alarm_id, rule, subject, change, document)
    return row


def _withdraw(ground: Ground, teller: Announcer, old: Remembered) -> list[dict[str, Any]]:
    """End the alarm of a rule or subject that is no longer there."""
    names = ground.stored.site_key
    subject = Subject(names.get(old.site_id, ""), old.subject)
    rule = Rule(id=old.rule, indicator=Indicator.SERIOUS_FINDINGS, warning=0.0)
    _, changes = withdrawn(old.memory, rule, Observation(ground.now), "no longer watched")
    rows = []
    for change in changes:
        alarm_id, row = alarms.record(ground.connection, old.rule, subject, old.site_id, change, {})
        rows.append(row)
        if alarm_id is not None:
            teller.say(alarm_id, rule, subject, change, {})
    return rows


# -- what is seen ------------------------------------------------------------------------------------


def _everything(ground: Ground, kept: Mapping[str, Remembered]) -> Iterator[Seen]:
    by_site: dict[int, dict[str, tuple[datetime, WindowFigures]]] = defaultdict(dict)
    for number, window, at, document in evaluations.load(ground.connection, list(ground.stored.site_key)):
        by_site[number][window] = (at, WindowFigures.of(document))
    for site in ground.stored.fleet.sites:
        found = by_site[ground.stored.site_id[site.id]]
        yield from _of_site(ground, site, found, kept)
    for rule in ground.rules:
        if rule.indicator is Indicator.SPOOL_FILL_RATIO and ground.spool_fill_ratio is not None:
            yield rule, Subject(""), Observation(ground.now, ground.spool_fill_ratio)


def _of_site(
    ground: Ground,
    site: Site,
    found: Mapping[str, tuple[datetime, WindowFigures]],
    kept: Mapping[str, Remembered],
) -> Iterator[Seen]:
    number = ground.stored.site_id[site.id]
    since = ground.now - FINDINGS_REACH
    listed = findings.listing(ground.connection, number, start=since, end=ground.now)
    scene = Scene(
        site,
        ground.now,
        {name: figures for name, (_, figures) in found.items()},
        limit_of(ground.stored, ground.profiles, site, ground.now),
        alarms.known_from(ground.connection, number),
        observing.doubts(site, listed),
    )
    rest: dict[Indicator, Callable[[Rule], Iterator[Seen]]] = {
        Indicator.SERIOUS_FINDINGS: lambda rule: iter(
            [(rule, Subject(site.id), Observation(ground.now, float(observing.serious(listed, ground.now))))]
        ),
        Indicator.EVALUATION_AGE_S: lambda rule: iter([(rule, Subject(site.id), _age(ground, found))]),
        Indicator.YEAR_END_PUE: lambda rule: _year_end(ground, scene, rule),
        Indicator.OVERHEAD_BUDGET_USED_RATIO: lambda rule: _year_end(ground, scene, rule),
        Indicator.FEED_LOAD_RATIO: lambda rule: observing.of_feeds(
            rule, site, ground.now, _feeds(ground, site)
        ),
        Indicator.TEMPERATURE_C: lambda rule: _gauges(ground, site, rule),
        Indicator.HUMIDITY_PERCENT: lambda rule: _gauges(ground, site, rule),
        Indicator.METER_SILENT_INTERVALS: lambda rule: _silence(ground, site, rule),
    }
    for rule in ground.of(site, *Indicator):
        judge = rest.get(rule.indicator)
        if judge is None:
            yield from observing.of_windows([rule], scene)
            continue
        try:
            yield from list(judge(rule))
        except StoreUnavailable:
            raise
        except (WattlineError, ArithmeticError, ValueError, LookupError) as error:
            _log.warning("a rule could not be judged", rule=rule.id, site=site.id, problem=str(error))
            names = {k.subject for k in kept.values() if (k.rule, k.site_id) == (rule.id, number)}
            yield from observing.uninformed(rule, sorted(names), site.id, ground.now, str(error))


def limit_of(stored: Stored, profiles: Mapping[str, LimitProfile], site: Site, at: datetime) -> Limit | None:
    """The PUE limit that governs a site on the day of an instant."""
    bank = stored.fleet.institution[site.institution]
    return governing(limits_for(site, bank, dict(profiles), at.astimezone(site.zone).date()))


def _age(ground: Ground, found: Mapping[str, tuple[datetime, WindowFigures]]) -> Observation:
    """Time since the oldest of the site's windows was evaluated. [s]"""
    if not set(WINDOWS) <= set(found):
        return Observation(ground.now, reason="not evaluated yet")
    oldest = min(at for at, _ in found.values())
    return Observation(ground.now, max((ground.now - oldest).total_seconds(), 0.0))


def _year_end(ground: Ground, scene: Scene, rule: Rule) -> Iterator[Seen]:
    site, limit = scene.site, scene.limit
    known = ground.cache.years.get(site.id)
    if known is None or not timedelta(0) <= ground.now - known.at < OUTLOOK_EVERY:
        known = ground.cache.years[site.id] = _year(ground, site, limit)
    is_end = rule.indicator is Indicator.YEAR_END_PUE
    value = known.pue if is_end else known.used_ratio
    reason = known.reason or ("" if limit else "no limit holds for the site; name a profile or a limit")
    if rule.from_limit and limit is None:
        value = None
    yield (
        rule,
        Subject(site.id),
        Observation(ground.now, value, reason=reason, limit=None if limit is None else limit.pue),
    )


def _year(ground: Ground, site: Site, limit: Limit | None) -> YearFigures:
    number = ground.now.astimezone(site.zone).year
    profiles = dict(ground.profiles)
    year = outlook.year_outlook(ground.connection, ground.stored, site, number, profiles, ground.now)
    return YearFigures.of(year, limit, ground.now)


def used_ratio(budget: Budget | None) -> float | None:
    """Overhead used so far by what the limit allows in the year."""
    if budget is None or not budget.allowed_kwh:
        return None
    return budget.used_kwh / budget.allowed_kwh


def _feeds(ground: Ground, site: Site) -> tuple[capacity.FeedLoad, ...]:
    if all(math.isinf(meter.rated_power_kw) for meter in site.meters):
        return ()
    known = ground.cache.feeds.get(site.id)
    if known is None or not timedelta(0) <= ground.now - known[0] < FEEDS_EVERY:
        end = floor(ground.now)
        hour = Period(end - timedelta(hours=1), end)
        table = usage.frame(ground.connection, ground.stored, usage.capacity_points(site), hour)
        known = ground.cache.feeds[site.id] = (ground.now, capacity.feed_loads(site, table))
    return known[1]


def _gauges(ground: Ground, site: Site, rule: Rule) -> Iterator[Seen]:
    points = observing.gauge_points(site, rule.indicator)
    means = gauges.latest(ground.connection, ground.stored, points, ground.now) if points else {}
    return observing.of_gauges(rule, site, ground.now, means)


def _silence(ground: Ground, site: Site, rule: Rule) -> Iterator[Seen]:
    keys = ground.stored.point_key
    latest = readings.latest(ground.connection, site.id, until=ground.now)
    last = {keys[one.point_id]: one.at for one in latest if one.point_id in keys}
    return observing.of_silence(rule, site, ground.now, last, None)
