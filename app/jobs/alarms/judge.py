"""Judge every rule on the stored figures; transitions and their messages are kept in one transaction."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import cache, partial
from operator import attrgetter
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
from app.domain.alarms.observation import RuleInput, RuleObservation, WindowFigures
from app.domain.forecast import Budget
from app.domain.gateways import is_polled
from app.domain.limits import Limit, LimitProfile, governing, limits_for
from app.domain.period import WINDOWS, Period, floor
from app.domain.site import Site
from app.errors import StoreUnavailable, WattlineError
from app.jobs.alarms import announce
from app.jobs.alarms.announce import Announcer
from app.store import (
    alarms,
    compression,
    deployment,
    drifts,
    edges,
    evaluations,
    findings,
    gauges,
    outlook,
    readings,
    usage,
)
from app.store.alarms import AlarmMemories, Remembered
from app.store.engine import Connection, Engine, begin
from app.store.findings import StoredFinding
from app.store.fleet_cache import FleetCache
from app.store.outlook import YearOutlook
from app.store.sites import Stored

FINDINGS_REACH = timedelta(days=31)
"""Findings that began or ended longer ago explain no window that alarms judge by them."""
OUTLOOK_EVERY = timedelta(hours=1)
DRIFT_EVERY = timedelta(hours=6)
"""What is not known, such as where no baseline is frozen yet, is looked for as often as loads of feeds."""
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


@dataclass(frozen=True, slots=True)
class Calm:
    """The feeds of a site that call for nothing under a rule, and wait for nothing, and the others."""

    rule: Rule
    loads: tuple[capacity.FeedLoad, ...]
    """Of all feeds, when that was so."""
    keys: frozenset[str]
    """Fingerprints of what is remembered of the calm ones."""
    rest: tuple[capacity.FeedLoad, ...]
    """Of the others."""


@dataclass
class Cache:
    """Figures that cost much and change slowly, by site."""

    years: dict[str, YearFigures] = field(default_factory=dict)
    feeds: dict[str, tuple[datetime, tuple[capacity.FeedLoad, ...]]] = field(default_factory=dict)
    fleet: FleetCache = field(default_factory=FleetCache)
    memories: AlarmMemories = field(default_factory=AlarmMemories)
    windows: dict[tuple[int, str], tuple[tuple[datetime, str], WindowFigures]] = field(default_factory=dict)
    """What was evaluated, by number of the site and window, with its version."""
    calm: dict[tuple[str, str], Calm] = field(default_factory=dict)
    """By rule and site; what is said again of the same loads changes nothing, and is left out."""
    drifts: dict[str, tuple[datetime, float | None, str]] = field(default_factory=dict)
    """When the drift of each site was worked out, the excess, and why there is none."""
    broken_tables: tuple[datetime | None, int | None] = (None, None)
    """Tables that are not compressed as they should be, and when that was asked."""
    memories_read: int = 0
    """Counts with :attr:`AlarmMemories.readings`: what another process remembers may not be calm."""


_COMPRESSION_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class EvaluationContext:
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
class EvaluationResult:
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
) -> EvaluationResult | None:
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
    cache = cache or Cache()
    with cache.memories.kept_if_committed(), begin(engine) as connection:
        if not alarms.lock(connection):
            return None
        context = EvaluationContext(
            connection,
            cache.fleet.current(connection),
            alarms.rules(connection),
            deployment.limit_profiles(connection),
            now,
            cache,
            spool_fill_ratio,
        )
        return _evaluate(context, announcing=announcing)


def _evaluate(context: EvaluationContext, *, announcing: bool) -> EvaluationResult:
    kept = _kept(context)
    seen = list(_everything(context, kept))
    keys = [fingerprint(rule.id, subject) for rule, subject, _ in seen]
    before = {key: kept[key].memory for key in keys if key in kept}
    after, changes = step_rules(seen, before, context.now)
    fresh = {
        key: Remembered(rule.id, alarms.site_number(context.stored, subject.site), subject.name, memory)
        for key, (rule, subject, _), memory in zip(keys, seen, after, strict=True)
    }
    calm = [one.keys for one in context.cache.calm.values()]
    gone = {key for key in set(kept).difference(fresh, *calm) if not _has_moved(context, kept[key])}
    _note_calm(context, seen, keys, fresh)
    announcer = Announcer(context.connection, context.stored, context.profiles, context.now)
    rows = [_record(context, announcer, *change) for change in changes]
    for key in gone:
        rows += _withdraw(context, announcer, kept[key])
    alarms.write_transitions(context.connection, rows)
    written = {k: m for k, m in fresh.items() if _must_be_written(kept.get(k), m)}
    context.cache.memories.replace(context.connection, written, gone)
    messages = announcer.announce(context.rules) if announcing else 0
    return EvaluationResult(len(seen) + sum(map(len, calm)), len(changes), messages)


def _has_moved(context: EvaluationContext, one: Remembered) -> bool:
    """Whether another cell judges it now."""
    return one.site_id in context.stored.moved_ids


def _kept(context: EvaluationContext) -> dict[str, Remembered]:
    """Everything remembered; nothing counts as calm any more where another process wrote to it."""
    cache = context.cache
    kept = cache.memories.current(context.connection)
    if cache.memories.readings != cache.memories_read:
        cache.calm, cache.memories_read = {}, cache.memories.readings
    rules = {rule.id: rule for rule in context.rules}
    for name, site in list(cache.calm):
        rule = rules.get(name)
        is_there = site in context.stored.fleet.site and rule == cache.calm[name, site].rule
        if not is_there or (rule and rule.sites and site not in rule.sites):
            del cache.calm[name, site]
    return kept


def _note_calm(
    context: EvaluationContext,
    seen: Sequence[RuleObservation],
    keys: Sequence[str],
    fresh: Mapping[str, Remembered],
) -> None:
    """Remember the feeds that call for nothing and wait for nothing.

    Their next evaluation leaves them as they are, as long as their loads are the same. Not under a rule that
    is quiet while others fire: it may have something to say as soon as those do not.
    """
    groups: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for (rule, subject, _), key in zip(seen, keys, strict=True):
        if rule.indicator is Indicator.FEED_LOAD_RATIO and not rule.quiet_while:
            own = groups[rule.id, subject.site]
            if fresh[key].memory.state in _CALM:
                own[subject.name] = key
    rules = {rule.id: rule for rule in context.rules}
    for (name, site), own in groups.items():
        loads, before = context.cache.feeds.get(site), context.cache.calm.get((name, site))
        if loads is not None and own:
            others, known = (before.rest, before.keys) if before else (loads[1], frozenset[str]())
            rest = tuple(one for one in others if observing.name_of(one.feed) not in own)
            context.cache.calm[name, site] = Calm(rules[name], loads[1], known | set(own.values()), rest)


_CALM = (State.INACTIVE, State.NO_DATA, State.ERROR)


Change = tuple[Rule, Subject, Observation, Transition]
Cause = tuple[str, str]
"""A rule that fires, and the address that it fires for; empty: all of the site is meant."""


_EXPLAINING = (Indicator.EDGE_SILENT_S, Indicator.GATEWAY_SILENT_INTERVALS)
"""What fails with a whole group of meters behind it."""


def step_rules(
    seen: Iterable[RuleObservation], memories: Mapping[str, Memory], now: datetime
) -> tuple[list[Memory], list[Change]]:
    """Step every rule, in the order given; what to remember of each, and what changed.

    A rule that is quiet while others fire sees their state of this same evaluation. The alarm of an address
    concerns what is behind it, that of an edge all of the site; what is there waits as long as that alarm may
    still come.
    """
    firing: dict[str, set[Cause]] = defaultdict(set)
    waiting: dict[str, set[Cause]] = defaultdict(set)
    after: list[Memory] = []
    changes: list[Change] = []
    for rule, subject, observation in seen:
        before = memories.get(fingerprint(rule.id, subject), Memory())
        causes = _causes(rule, observation, firing[subject.site])
        if causes and before.state.is_active:
            reason = f"continues as alarm {min(causes)}"
            memory, moved = withdrawn(before, rule, observation, reason, is_handed_over=True)
        else:
            if not before.state.is_active:
                causes |= _causes(rule, observation, waiting[subject.site])
            explained = replace(observation, explained_by=f"alarm {min(causes)}") if causes else observation
            memory, moved = step(rule, before, explained)
        cause = (rule.id, subject.name if rule.indicator is Indicator.GATEWAY_SILENT_INTERVALS else "")
        if memory.state.is_active:
            firing[subject.site].add(cause)
        elif rule.indicator in _EXPLAINING and memory.state is State.PENDING:
            waiting[subject.site].add(cause)
        after.append(memory)
        changes += [(rule, subject, observation, change) for change in moved]
    return after, changes


def _causes(rule: Rule, seen: Observation, firing: Iterable[Cause]) -> set[str]:
    """Rules that fire, and for which this one is quiet about what it sees."""
    return {name for name, address in firing if name in rule.quiet_while and address in ("", *seen.within)}


_lasting = attrgetter(*(f.name for f in fields(Memory) if f.name not in ("at", "value")))
"""What a memory holds beside the last observation."""


def _must_be_written(before: Remembered | None, after: Remembered) -> bool:
    """Whether a memory has to be written: its instant alone matters only now and then."""
    if before is None:
        return True
    old, new = before.memory, after.memory
    if _lasting(old) != _lasting(new):
        return True
    waits = new.state in (State.PENDING, State.FIRING, State.RECOVERING)
    return waits and old.at is not None and new.at is not None and new.at - old.at >= KEPT_EVERY


def _record(
    context: EvaluationContext,
    announcer: Announcer,
    rule: Rule,
    subject: Subject,
    observation: Observation,
    change: Transition,
) -> dict[str, Any]:
    """Follow a transition; what is to be written down about it."""
    number = alarms.site_number(context.stored, subject.site)
    says = announce.what_of(change) is not None
    document = announcer.document(rule, subject, observation, change) if says else {}
    alarm_id, row = alarms.record(context.connection, rule.id, subject, number, change, document)
    if alarm_id is not None and says:
        announcer.say(alarm_id, rule, subject, change, document)
    return row


def _withdraw(context: EvaluationContext, announcer: Announcer, old: Remembered) -> list[dict[str, Any]]:
    """End the alarm of a rule or subject that is no longer there."""
    names = context.stored.site_key
    subject = Subject(names.get(old.site_id, ""), old.subject)
    rule = Rule(id=old.rule, indicator=Indicator.SERIOUS_FINDINGS, warning=0.0)
    _, changes = withdrawn(old.memory, rule, Observation(context.now), "no longer watched")
    rows = []
    for change in changes:
        alarm_id, row = alarms.record(context.connection, old.rule, subject, old.site_id, change, {})
        rows.append(row)
        if alarm_id is not None:
            announcer.say(alarm_id, rule, subject, change, {})
    return rows


# -- what is seen ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of all sites, by number."""

    windows: Mapping[int, Mapping[str, tuple[datetime, WindowFigures]]]
    """When each window was evaluated last, and what of it the rules look at."""
    findings: Mapping[int, list[StoredFinding]]
    begins: Mapping[int, datetime | None]
    edges: Mapping[str, observing.EdgeSilence]
    """By site."""

    @classmethod
    def load(cls, context: EvaluationContext) -> Known:
        """As it is in the database now."""
        connection, numbers = context.connection, list(context.stored.site_key)
        since = context.now - FINDINGS_REACH
        return cls(
            _windows(context, numbers),
            findings.listings(connection, numbers, start=since, end=context.now),
            alarms.known_from_of(connection, numbers),
            edges.silences(connection),
        )


def _windows(
    context: EvaluationContext, numbers: Sequence[int]
) -> dict[int, dict[str, tuple[datetime, WindowFigures]]]:
    """The windows of each site; only those that were evaluated since are read."""
    versions, known = evaluations.versions(context.connection, numbers), context.cache.windows
    stale = [key for key, version in versions.items() if key not in known or known[key][0] != version]
    read = evaluations.documents(context.connection, stale) if stale else {}
    known |= {key: (versions[key], WindowFigures.of(document)) for key, document in read.items()}
    found: dict[int, dict[str, tuple[datetime, WindowFigures]]] = defaultdict(dict)
    for (number, window), (at, _) in versions.items():
        if (number, window) in known:
            found[number][window] = (at, known[number, window][1])
    return found


def _everything(context: EvaluationContext, kept: Mapping[str, Remembered]) -> Iterator[RuleObservation]:
    known = Known.load(context)
    for site in context.stored.fleet.at(context.now).sites:
        yield from _of_site(context, site, known, kept)
    for rule in context.rules:
        if rule.indicator is Indicator.SPOOL_FILL_RATIO and context.spool_fill_ratio is not None:
            yield rule, Subject(""), Observation(context.now, context.spool_fill_ratio)
        elif rule.indicator is Indicator.COMPRESSION_BROKEN_TABLES:
            broken = _broken_tables(context)
            if broken is not None:
                yield rule, Subject(""), Observation(context.now, float(broken))


def _broken_tables(context: EvaluationContext) -> int | None:
    """Tables that are not compressed as they should be; None without TimescaleDB. Asked once a minute."""
    asked_at, broken = context.cache.broken_tables
    if asked_at is None or not timedelta(0) <= context.now - asked_at < _COMPRESSION_EVERY:
        states = compression.states(context.connection)
        broken = sum(state.problem is not None for state in states) if states else None
        context.cache.broken_tables = (context.now, broken)
    return broken


def _of_site(
    context: EvaluationContext, site: Site, known: Known, kept: Mapping[str, Remembered]
) -> Iterator[RuleObservation]:
    number = context.stored.site_id[site.id]
    found, listed = known.windows.get(number, {}), known.findings.get(number, [])
    facts = RuleInput(
        site,
        context.now,
        {name: figures for name, (_, figures) in found.items()},
        limit_of(context.stored, context.profiles, site, context.now),
        known.begins[number],
        observing.explaining_findings(site, listed),
    )
    judges = _judges(context, site, known, facts)
    for rule in context.of(site, *Indicator):
        judge = judges.get(rule.indicator)
        if judge is None:
            yield from observing.of_windows([rule], facts)
            continue
        try:
            yield from list(judge(rule))
        except StoreUnavailable:
            raise
        except (WattlineError, ArithmeticError, ValueError, LookupError) as error:
            _log.warning("rule could not be evaluated", rule=rule.id, site=site.id, problem=str(error))
            names = {k.subject for k in kept.values() if (k.rule, k.site_id) == (rule.id, number)}
            yield from observing.uninformed(rule, sorted(names), site.id, context.now, str(error))


def _judges(
    context: EvaluationContext, site: Site, known: Known, facts: RuleInput
) -> Mapping[Indicator, Callable[[Rule], Iterator[RuleObservation]]]:
    """How each indicator of a site that is not one of its windows is observed."""
    number = context.stored.site_id[site.id]
    found, listed = known.windows.get(number, {}), known.findings.get(number, [])
    newest = cache(lambda: _newest(context, site))

    def whole_site(observation: Observation, rule: Rule) -> Iterator[RuleObservation]:
        yield rule, Subject(site.id), observation

    serious = Observation(context.now, float(observing.serious(listed, context.now)))
    return {
        Indicator.SERIOUS_FINDINGS: partial(whole_site, serious),
        Indicator.EVALUATION_AGE_S: lambda rule: whole_site(_age(context, found), rule),
        Indicator.YEAR_END_PUE: partial(_year_end, context, facts),
        Indicator.OVERHEAD_BUDGET_USED_RATIO: partial(_year_end, context, facts),
        Indicator.PLANT_DRIFT_RATIO: partial(_plant_drift, context, site),
        Indicator.FEED_LOAD_RATIO: partial(_feed_loads, context, site),
        Indicator.TEMPERATURE_C: partial(_gauges, context, site),
        Indicator.HUMIDITY_PERCENT: partial(_gauges, context, site),
        Indicator.METER_SILENT_INTERVALS: lambda rule: _silence(site, rule, newest),
        Indicator.GATEWAY_SILENT_INTERVALS: lambda rule: _silence(site, rule, newest),
        Indicator.EDGE_SILENT_S: lambda rule: observing.of_edge(
            rule, site, context.now, known.edges.get(site.id)
        ),
    }


def limit_of(stored: Stored, profiles: Mapping[str, LimitProfile], site: Site, at: datetime) -> Limit | None:
    """The PUE limit that governs a site on the day of an instant."""
    bank = stored.fleet.institution[site.institution]
    return governing(limits_for(site, bank, dict(profiles), at.astimezone(site.zone).date()))


def _age(context: EvaluationContext, found: Mapping[str, tuple[datetime, WindowFigures]]) -> Observation:
    """Time since the oldest of the site's windows was evaluated. [s]"""
    if not set(WINDOWS) <= set(found):
        return Observation(context.now, reason="not evaluated yet")
    oldest = min(at for at, _ in found.values())
    return Observation(context.now, max((context.now - oldest).total_seconds(), 0.0))


def _year_end(context: EvaluationContext, facts: RuleInput, rule: Rule) -> Iterator[RuleObservation]:
    site, limit = facts.site, facts.limit
    known = context.cache.years.get(site.id)
    if known is None or not timedelta(0) <= context.now - known.at < OUTLOOK_EVERY:
        known = context.cache.years[site.id] = _year(context, site, limit)
    is_end = rule.indicator is Indicator.YEAR_END_PUE
    value = known.pue if is_end else known.used_ratio
    reason = known.reason or ("" if limit else "no limit applies to the site; specify a profile or a limit")
    if rule.from_limit and limit is None:
        value = None
    yield (
        rule,
        Subject(site.id),
        Observation(context.now, value, reason=reason, limit=None if limit is None else limit.pue),
    )


def _year(context: EvaluationContext, site: Site, limit: Limit | None) -> YearFigures:
    number = context.now.astimezone(site.zone).year
    profiles = dict(context.profiles)
    year = outlook.year_outlook(context.connection, context.stored, site, number, profiles, context.now)
    return YearFigures.of(year, limit, context.now)


def _plant_drift(context: EvaluationContext, site: Site, rule: Rule) -> Iterator[RuleObservation]:
    known = context.cache.drifts.get(site.id)
    today = context.now.astimezone(site.zone).date()
    lasts = FEEDS_EVERY if known is None or known[1] is None else DRIFT_EVERY
    is_fresh = known is not None and timedelta(0) <= context.now - known[0] < lasts
    if known is None or not is_fresh or known[0].astimezone(site.zone).date() != today:
        found = drifts.of_site(context.connection, context.stored, site, context.now)
        if isinstance(found, drifts.NotWatched):
            excess, reason = math.nan, found.reason
        else:
            excess, reason = found.course.before(today), "the level of the plant is not known"
        known = (context.now, None, reason) if math.isnan(excess) else (context.now, excess, "")
        context.cache.drifts[site.id] = known
    yield rule, Subject(site.id), Observation(context.now, known[1], reason=known[2])


def used_ratio(budget: Budget | None) -> float | None:
    """Overhead used so far by what the limit allows in the year."""
    if budget is None or not budget.allowed_kwh:
        return None
    return budget.used_kwh / budget.allowed_kwh


def _feed_loads(context: EvaluationContext, site: Site, rule: Rule) -> Iterator[RuleObservation]:
    """The load of every feed but those that were calm under the same loads: see :func:`_note_calm`."""
    calm = context.cache.calm.pop((rule.id, site.id), None)
    loads = _feeds(context, site)
    if calm is not None and calm.loads is loads:
        context.cache.calm[rule.id, site.id] = calm
        loads = calm.rest
    return observing.of_feeds(rule, site, context.now, loads)


def _feeds(context: EvaluationContext, site: Site) -> tuple[capacity.FeedLoad, ...]:
    if not site.is_rated:
        return ()
    known = context.cache.feeds.get(site.id)
    if known is None or not timedelta(0) <= context.now - known[0] < FEEDS_EVERY:
        end = floor(context.now)
        hour = Period(end - timedelta(hours=1), end)
        table = usage.frame(context.connection, context.stored, usage.capacity_points(site), hour)
        known = context.cache.feeds[site.id] = (context.now, capacity.feed_loads(site, table))
    return known[1]


def _gauges(context: EvaluationContext, site: Site, rule: Rule) -> Iterator[RuleObservation]:
    points = observing.gauge_points(site, rule.indicator)
    means = gauges.latest(context.connection, context.stored, points, context.now) if points else {}
    return observing.of_gauges(rule, site, context.now, means)


def _silence(
    site: Site, rule: Rule, newest: Callable[[], tuple[datetime, Mapping[str, datetime]]]
) -> Iterator[RuleObservation]:
    """The silence of polled meters, or of the addresses that several of them share."""
    is_gateway = rule.indicator is Indicator.GATEWAY_SILENT_INTERVALS
    if not (site.gateways if is_gateway else any(map(is_polled, site.meters))):
        return iter(())
    judge = observing.of_gateways if is_gateway else observing.of_silence
    now, last = newest()
    return judge(rule, site, now, last, None)


def _newest(context: EvaluationContext, site: Site) -> tuple[datetime, Mapping[str, datetime]]:
    """The evaluation's time, and the time of the newest reading of each point."""
    keys = context.stored.point_key
    latest = readings.latest(context.connection, site.id, until=context.now)
    return context.now, {keys[one.point_id]: one.at for one in latest if one.point_id in keys}
