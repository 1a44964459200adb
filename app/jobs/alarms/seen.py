"""What the alarm rules see now: what is new is read for all sites at once, what rests is left out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import structlog

from app.domain.alarms import observation as observing
from app.domain.alarms.alarm import Indicator, Memory, Observation, Rule, Subject, fingerprint
from app.domain.alarms.observation import RuleInput, RuleObservation, WindowFigures
from app.domain.alarms.resting import ALWAYS, NEVER, Subjects
from app.domain.limits import Limit, LimitProfile, governing, limits_for
from app.domain.period import WINDOWS, Period, floor
from app.domain.site import Site
from app.errors import StoreUnavailable, WattlineError
from app.jobs.alarms.watch import (
    COMPRESSION_EVERY,
    FEEDS_EVERY,
    MOVING,
    OUTLOOK_EVERY,
    WAITING,
    Cache,
    DriftExcess,
    Group,
    SiteWatch,
    Watch,
    YearFigures,
)
from app.store import (
    alarm_inputs,
    alarms,
    compression,
    drifts,
    energy,
    evaluations,
    findings,
    gauges,
    outlook,
)
from app.store.alarm_inputs import Signs, SiteSigns
from app.store.alarms import Remembered
from app.store.engine import Connection
from app.store.readings import to_us
from app.store.sites import Stored
from app.store.usage import LEAST_COVERAGE

FINDINGS_REACH = timedelta(days=31)
"""Findings that began or ended longer ago explain no window that alarms judge by them."""
_LONGEST_S = 1e9
_NO_SIGNS = SiteSigns("", "", "")
_WIDE = (Indicator.SPOOL_FILL_RATIO, Indicator.COMPRESSION_BROKEN_TABLES)

_log = structlog.get_logger(__name__)


@dataclass
class EvaluationContext:
    """One evaluation: what it looks at, and what it judges."""

    connection: Connection
    watch: Watch
    signs: Signs
    now: datetime
    cache: Cache
    kept: Mapping[str, Remembered]
    """What is remembered, by fingerprint."""
    spool_fill_ratio: float | None
    own: dict[str, dict[str, Rule]] = field(default_factory=dict)
    """The own rules of each site that was judged, by fingerprint."""
    judged: list[Group] = field(default_factory=list)
    asked: list[SiteWatch] = field(default_factory=list)
    """Sites of which newest readings were asked for."""
    has_other_subjects: bool = False
    """Whether subjects may have gone."""

    @property
    def stored(self) -> Stored:
        """The fleet."""
        return self.watch.stored


def everything(context: EvaluationContext) -> list[RuleObservation]:
    """What the rules see that do not rest, in the order of the sites and rules."""
    _follow(context)
    _read(context)
    return [
        *(
            one
            for site in context.watch.there.sites
            for one in _of_site(context, context.watch.sites[site.id])
        ),
        *_wide(context),
    ]


def settle(context: EvaluationContext, after: Mapping[str, Memory]) -> None:
    """Take where the subjects stand that were judged, by fingerprint."""
    for group in context.judged:
        group.note(after)
    for one in context.asked:
        one.rest_silence()
    for site, keys in context.own.items():
        one, before = context.watch.sites[site], context.watch.sites[site].own
        one.own = frozenset(keys)
        context.has_other_subjects |= one.own != before


def rest(context: EvaluationContext, before: Mapping[str, Memory], after: Mapping[str, Memory]) -> None:
    """Take how long everything rests, once the memories were written."""
    ahead = {key for key, memory in before.items() if memory.at is not None and memory.at >= context.now}
    for site, own in context.own.items():
        one = context.watch.sites[site]
        judged = own | {
            group.keys[n]: group.rule
            for group in one.groups.values()
            if group.rule.indicator not in MOVING
            for n in group.awake.tolist()
            if group.keys[n] in after
        }
        written = [context.kept[key].memory for key in judged if key in context.kept]
        one.settle(
            context.now,
            [(rule, after[key]) for key, rule in judged.items()],
            written,
            _ends(context, one, after),
        )
        if not ahead.isdisjoint(judged):  # a step that came late or twice: it saw nothing
            one.until = ALWAYS
    if context.has_other_subjects:
        context.watch.subjects = sum(1 for _ in context.watch.keys)
    context.watch.close(context.now, context.signs)


def _ends(context: EvaluationContext, one: SiteWatch, after: Mapping[str, Memory]) -> Iterator[datetime]:
    """When what a site's own rules see may change, if nothing is new."""
    year, drift = context.cache.years.get(one.site.id), context.cache.drifts.get(one.site.id)
    if year is not None:
        yield year.at + OUTLOOK_EVERY
    if drift is not None:
        yield drift.until
    yield from (start + observing.WEEK for start in observing.serious(one.findings, context.now))
    oldest = min((at for at, _ in one.windows.values()), default=None)
    for rule in one.rules:
        if rule.indicator is Indicator.EVALUATION_AGE_S and oldest is not None:
            memory = after.get(fingerprint(rule.id, Subject(one.site.id)))
            is_moving = memory is None or memory.state in WAITING
            thresholds_s = [s for s in (rule.warning, rule.critical) if s is not None]
            yield from (oldest + timedelta(seconds=min(max(s, 0), _LONGEST_S)) for s in thresholds_s)
            yield from [context.now + timedelta(milliseconds=1)] if is_moving else []


# -- what is new -------------------------------------------------------------------------------------


def _follow(context: EvaluationContext) -> None:
    """Watch the sites that are there now, as they are now."""
    watch = context.watch
    watch.there = watch.stored.fleet.at(context.now)
    there = {site.id: site for site in watch.there.sites}
    for name in watch.sites.keys() - there.keys():
        del watch.sites[name]
        context.has_other_subjects = True
    for name, site in there.items():
        if name not in watch.sites or watch.sites[name].site is not site:
            rules = tuple(
                r for r in watch.rules if r.indicator not in _WIDE and (not r.sites or name in r.sites)
            )
            number = watch.stored.site_id[name]
            watch.sites[name] = SiteWatch(context.cache.columns_of(site), number, rules)
            context.has_other_subjects = True


def _read(context: EvaluationContext) -> None:
    """Read of all sites at once what is new."""
    sites, signs = list(context.watch.sites.values()), context.signs.by_site
    stale = [one for one in sites if one.signs != signs.get(one.number, _NO_SIGNS)]
    fresh = {one.number: signs.get(one.number, _NO_SIGNS) for one in stale}

    def differing(part: str) -> list[SiteWatch]:
        return [
            one
            for one in stale
            if one.signs is None or getattr(one.signs, part) != getattr(fresh[one.number], part)
        ]

    _read_windows(context, differing("evaluations"))
    _read_findings(context, differing("findings"))
    computed = differing("computed")
    _read_begins(context, computed)
    numbers = {one.number for one in computed}
    _read_gauges(context, [one for one in sites if one.number in numbers or one.gauges_until < context.now])
    _read_silence(context, sites)
    for one in stale:
        one.signs, one.until = fresh[one.number], ALWAYS
    for one in sites:
        context.has_other_subjects |= one.take_edge(context.signs.edges.get(one.site.id))


def _read_windows(context: EvaluationContext, sites: Sequence[SiteWatch]) -> None:
    """The windows of some sites; only those that were evaluated since are read."""
    if not sites:
        return
    versions = evaluations.versions(context.connection, [one.number for one in sites])
    known = context.cache.windows
    stale = [key for key, version in versions.items() if key not in known or known[key][0] != version]
    read = evaluations.documents(context.connection, stale) if stale else {}
    known |= {key: (versions[key], WindowFigures.of(document)) for key, document in read.items()}
    found: dict[int, dict[str, tuple[datetime, WindowFigures]]] = defaultdict(dict)
    for (number, window), (at, _) in versions.items():
        if (number, window) in known:
            found[number][window] = (at, known[number, window][1])
    for one in sites:
        one.windows = found[one.number]


def _read_findings(context: EvaluationContext, sites: Sequence[SiteWatch]) -> None:
    if sites:
        since, numbers = context.now - FINDINGS_REACH, [one.number for one in sites]
        listed = findings.listings(context.connection, numbers, start=since, end=context.now)
        for one in sites:
            one.findings = listed.get(one.number, ())


def _read_begins(context: EvaluationContext, sites: Sequence[SiteWatch]) -> None:
    if sites:
        begins = alarms.known_from_of(context.connection, [one.number for one in sites])
        for one in sites:
            one.begins = begins[one.number]


def _read_gauges(context: EvaluationContext, sites: Sequence[SiteWatch]) -> None:
    """Means of the newest quarter-hour of the points in rooms."""
    names = [name for one in sites for name in one.gauges]
    points = [context.stored.fleet.point[name][2] for name in dict.fromkeys(names)]
    means = gauges.latest(context.connection, context.stored, points, context.now) if points else {}
    for one in sites:
        for group in one.of(*observing.GAUGE_ROLES):
            found = [means.get(name, math.nan) for name in group.subjects.names]
            one.look(group, np.array(found, np.float64))
        one.rest_gauges(context.now)


def _read_silence(context: EvaluationContext, sites: Sequence[SiteWatch]) -> None:
    """Newest readings, of the points on which it depends whether somebody is silent for too long."""
    at_us = to_us(context.now)
    context.asked = [one for one in sites if at_us > one.silent_until_us]
    asked = [(one, places) for one in context.asked if len(places := one.asked_points(at_us))]
    if asked:
        names = [one.columns.polled.points[n] for one, places in asked for n in places]
        ids = np.array([context.stored.point_id[name] for name in names], np.int64)
        known_us = np.concatenate([one.newest_us[places] for one, places in asked])
        found_us = alarm_inputs.newer(context.connection, ids, known_us, context.now)
        parts = np.split(found_us, np.cumsum([len(places) for _, places in asked])[:-1])
        for (one, places), newest_us in zip(asked, parts, strict=True):
            one.newest_us[places] = newest_us
            one.look_at_silence(at_us)


# -- what a site shows -------------------------------------------------------------------------------


def _of_site(context: EvaluationContext, one: SiteWatch) -> Iterator[RuleObservation]:
    """What the rules of a site see that do not rest: subjects of many, and all of its own or none."""
    failing = dict(_failing_loads(context, one))
    context.has_other_subjects |= bool(one.failed or failing)
    one.failed = frozenset(fingerprint(r.id, s) for seen in failing.values() for r, s, _ in seen)
    if one.until >= context.now and not one.is_awake:
        return
    own = context.own[one.site.id] = {}
    judges = _judges(context, one)
    for rule in one.rules:
        group = one.groups.get(rule.id)
        if rule.id in failing:
            yield from failing[rule.id]
        elif group is not None:
            context.judged.append(group)
            yield from group.observed(context.now)
        else:
            seen = _tried(context, one, rule, partial(judges[rule.indicator], rule))
            own |= {fingerprint(rule.id, subject): rule for _, subject, _ in seen}
            yield from seen


def _tried(
    context: EvaluationContext, one: SiteWatch, rule: Rule, judge: Callable[[], Iterable[RuleObservation]]
) -> list[RuleObservation]:
    """What a rule sees; where that cannot be computed, that of every known subject."""
    try:
        return list(judge())
    except StoreUnavailable:
        raise
    except (WattlineError, ArithmeticError, ValueError, LookupError) as error:
        _log.warning("rule could not be evaluated", rule=rule.id, site=one.site.id, problem=str(error))
        names = {k.subject for k in context.kept.values() if (k.rule, k.site_id) == (rule.id, one.number)}
        return list(observing.uninformed(rule, sorted(names), one.site.id, context.now, str(error)))


def _failing_loads(context: EvaluationContext, one: SiteWatch) -> Iterator[tuple[str, list[RuleObservation]]]:
    """Work out old loads of the feeds; the rules for which that fails, with what they see then."""
    if one.feeds_until >= context.now:
        return
    one.feeds_until = NEVER
    for group in one.of(Indicator.FEED_LOAD_RATIO):
        seen = _tried(context, one, group.rule, partial(_take_loads, context, one))
        if seen:
            group.fail()
            yield group.rule.id, seen


def _take_loads(context: EvaluationContext, one: SiteWatch) -> tuple[RuleObservation, ...]:
    """Look at the loads of the feeds: as worked out last, or now."""
    one.feeds_until = ALWAYS
    columns, known = one.columns, one.columns.loads
    if known is None or not timedelta(0) <= context.now - known[0] < FEEDS_EVERY:
        end = floor(context.now)
        hour = Period(end - timedelta(hours=1), end)
        ids = np.array([context.stored.point_id[name] for name in columns.feeds.points], np.int64)
        table = energy.whole_quarter_hours(context.connection, ids, hour, LEAST_COVERAGE)
        known = columns.loads = (context.now, columns.feeds.peak_ratios(table))
    for group in one.of(Indicator.FEED_LOAD_RATIO):
        one.look(group, known[1])
    one.feeds_until = known[0] + FEEDS_EVERY - timedelta(milliseconds=1)
    return ()


Judge = Callable[[Rule], Iterable[RuleObservation]]


def _judges(context: EvaluationContext, one: SiteWatch) -> Mapping[Indicator, Judge]:
    """How each of the site's own indicators is observed."""
    facts = RuleInput(
        one.site,
        context.now,
        {name: figures for name, (_, figures) in one.windows.items()},
        limit_of(context.stored, context.watch.profiles, one.site, context.now),
        one.begins,
        observing.explaining_findings(one.site, one.findings),
    )

    def of_windows(rule: Rule) -> Iterable[RuleObservation]:
        return observing.of_windows([rule], facts)

    def whole_site(observation: Observation, rule: Rule) -> Iterable[RuleObservation]:
        return [(rule, Subject(one.site.id), observation)]

    serious = Observation(context.now, float(len(observing.serious(one.findings, context.now))))
    year_end = partial(_year_end, context, facts)
    return {
        **dict.fromkeys(Indicator, of_windows),
        Indicator.SERIOUS_FINDINGS: partial(whole_site, serious),
        Indicator.EVALUATION_AGE_S: partial(whole_site, _age(context, one)),
        Indicator.YEAR_END_PUE: year_end,
        Indicator.OVERHEAD_BUDGET_USED_RATIO: year_end,
        Indicator.PLANT_DRIFT_RATIO: partial(_plant_drift, context, one.site),
    }


def limit_of(stored: Stored, profiles: Mapping[str, LimitProfile], site: Site, at: datetime) -> Limit | None:
    """The PUE limit that governs a site on the day of an instant."""
    bank = stored.fleet.institution[site.institution]
    return governing(limits_for(site, bank, dict(profiles), at.astimezone(site.zone).date()))


def _age(context: EvaluationContext, one: SiteWatch) -> Observation:
    """Time since the oldest of the site's windows was evaluated. [s]"""
    if not set(WINDOWS) <= set(one.windows):
        return Observation(context.now, reason="not evaluated yet")
    oldest = min(at for at, _ in one.windows.values())
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
    year = outlook.year_outlook(
        context.connection, context.stored, site, number, dict(context.watch.profiles), context.now
    )
    return YearFigures.of(year, limit, context.now)


def _plant_drift(context: EvaluationContext, site: Site, rule: Rule) -> Iterator[RuleObservation]:
    known = context.cache.drifts.get(site.id)
    today = context.now.astimezone(site.zone).date()
    is_fresh = known is not None and known.at <= context.now < known.until
    if known is None or not is_fresh or known.at.astimezone(site.zone).date() != today:
        found = drifts.of_site(context.connection, context.stored, site, context.now)
        if isinstance(found, drifts.NotWatched):
            excess, reason = math.nan, found.reason
        else:
            excess, reason = found.course.before(today), "the level of the plant is not known"
        known = DriftExcess(context.now, *((None, reason) if math.isnan(excess) else (excess, "")))
        context.cache.drifts[site.id] = known
    yield rule, Subject(site.id), Observation(context.now, known.ratio, reason=known.reason)


# -- the deployment ----------------------------------------------------------------------------------


def _wide(context: EvaluationContext) -> Iterator[RuleObservation]:
    """What rules about the deployment see."""
    for rule in context.watch.rules:
        if rule.indicator not in _WIDE:
            continue
        is_spool = rule.indicator is Indicator.SPOOL_FILL_RATIO
        value = context.spool_fill_ratio if is_spool else _broken_tables(context)
        names = () if value is None else ("",)
        group = context.watch.wide.get(rule.id)
        if group is None or group.subjects.names != names:
            group = context.watch.wide[rule.id] = Group(rule, Subjects("", names, ""))
            context.has_other_subjects = True
        group.look(np.array([] if value is None else [value], np.float64))
        context.judged += [group] if len(group.awake) else []
        yield from group.observed(context.now)


def _broken_tables(context: EvaluationContext) -> int | None:
    """Tables that are not compressed as they should be; None without TimescaleDB. Asked once a minute."""
    asked_at, broken = context.cache.broken_tables
    if asked_at is None or not timedelta(0) <= context.now - asked_at < COMPRESSION_EVERY:
        states = compression.states(context.connection)
        broken = sum(state.problem is not None for state in states) if states else None
        context.cache.broken_tables = (context.now, broken)
    return broken
