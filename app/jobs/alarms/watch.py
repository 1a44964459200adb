"""What a process keeps from one evaluation of the alarm rules to the next, and what of it has to be judged.

A site's own rules (one figure each) are judged together, where anything is new, or time alone may have
changed something; the subjects of which a rule watches many are judged one by one, see
:mod:`app.domain.alarms.resting`. What is left out is as it was, and nothing of it would be written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np

from app.domain.alarms import observation as observing
from app.domain.alarms.alarm import Indicator, Memory, Rule, Side, State, Subject, fingerprint
from app.domain.alarms.notification import Notifications
from app.domain.alarms.observation import WindowFigures
from app.domain.alarms.resting import ALWAYS, NEVER, Floats, Ints, Resting, Subjects, settled_until
from app.domain.alarms.silence import NEVER_US, PolledMeters
from app.domain.capacity import RatedFeeds
from app.domain.forecast import Budget
from app.domain.limits import Limit, LimitProfile
from app.domain.period import QUARTER_HOUR, floor
from app.domain.site import Fleet, Site
from app.store.alarm_inputs import Signs, SiteSigns
from app.store.alarms import AlarmMemories
from app.store.findings import StoredFinding
from app.store.fleet_cache import FleetCache
from app.store.outlook import YearOutlook
from app.store.sites import Stored

OUTLOOK_EVERY = timedelta(hours=1)
DRIFT_EVERY = timedelta(hours=6)
"""What is not known, such as where no baseline is frozen yet, is looked for as often as loads of feeds."""
FEEDS_EVERY = timedelta(minutes=5)
KEPT_EVERY = timedelta(minutes=1)
COMPRESSION_EVERY = timedelta(minutes=1)
_BEFORE = timedelta(milliseconds=1)
"""What is to be judged again from an instant on is taken to rest until shortly before."""

SILENT = (Indicator.METER_SILENT_INTERVALS, Indicator.GATEWAY_SILENT_INTERVALS)
MOVING = (*SILENT, Indicator.EDGE_SILENT_S)
"""Their figures are others in each evaluation."""
WAITING = (State.PENDING, State.FIRING, State.RECOVERING)
"""States that last: the time of their memory is written now and then."""


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


def used_ratio(budget: Budget | None) -> float | None:
    """Overhead used so far by what the limit allows in the year."""
    if budget is None or not budget.allowed_kwh:
        return None
    return budget.used_kwh / budget.allowed_kwh


@dataclass(frozen=True, slots=True)
class DriftExcess:
    """The drift of a plant, worked out once in a while."""

    at: datetime
    ratio: float | None
    reason: str
    """Why there is none."""

    @property
    def until(self) -> datetime:
        """When it is worked out again, on the same day."""
        return self.at + (FEEDS_EVERY if self.ratio is None else DRIFT_EVERY)


class Group:
    """The subjects of which a rule watches many at a site, or one whose figure moves all the time."""

    def __init__(self, rule: Rule, subjects: Subjects) -> None:
        self.rule, self.subjects = rule, subjects
        self.keys = tuple(fingerprint(rule.id, Subject(subjects.site, name)) for name in subjects.names)
        self.resting = Resting(rule, len(self.keys))
        self.values: Floats = np.full(len(self.keys), np.nan)
        self.awake: Ints = np.arange(len(self.keys))
        """Places of the subjects that have to be judged."""

    def look(self, values: Floats) -> None:
        """Take what is seen now."""
        self.values, self.awake = values, self.resting.awake(values)

    def observed(self, at: datetime) -> Iterator[observing.RuleObservation]:
        """What the rule sees of the subjects that have to be judged."""
        return self.subjects.observed(self.rule, at, self.values, self.awake.tolist())

    def fail(self) -> None:
        """Have every subject judged once the figures can be computed again."""
        self.resting.wake()
        self.awake = np.arange(len(self.keys))

    def note(self, after: Mapping[str, Memory]) -> None:
        """Take where the subjects stand that were judged."""
        for number in self.awake.tolist():
            self.resting.note(number, after[self.keys[number]])
        self.awake = self.resting.awake(self.values)


class Columns:
    """A constant site as columns, with the loads of its feeds; as long as its definition is the same."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.loads: tuple[datetime, Floats] | None = None
        """Peak by capacity of each rated feed, and when that was worked out."""

    @cached_property
    def feeds(self) -> RatedFeeds:
        """Feeds that have a rating."""
        return RatedFeeds(self.site)

    @cached_property
    def polled(self) -> PolledMeters:
        """Meters whose silence means something."""
        return PolledMeters(self.site)

    def subjects(self, indicator: Indicator) -> Subjects | None:
        """What a rule watches many of; None where it watches the site as a whole."""
        if indicator is Indicator.FEED_LOAD_RATIO:
            return Subjects(self.site.id, self.feeds.names, "load is not known")
        if indicator in observing.GAUGE_ROLES:
            names = tuple(point.id for point in observing.gauge_points(self.site, indicator))
            return Subjects(self.site.id, names, "no reading in the last 2 h")
        if indicator in SILENT:
            return self.polled.subjects(indicator)
        return Subjects(self.site.id, (), "") if indicator is Indicator.EDGE_SILENT_S else None


@dataclass
class SiteWatch:
    """What is known of a site, and how far its rules have to be judged again."""

    columns: Columns
    number: int
    rules: tuple[Rule, ...]
    """Those that hold for it."""
    groups: dict[str, Group] = field(default_factory=dict)
    """By rule."""
    signs: SiteSigns | None = None
    """Of what is known; None: of nothing."""
    windows: dict[str, tuple[datetime, WindowFigures]] = field(default_factory=dict)
    """When each window was evaluated last, and what of it the rules look at."""
    findings: Sequence[StoredFinding] = ()
    begins: datetime | None = None
    newest_us: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Newest reading known of each point of the polled meters."""
    own: frozenset[str] = frozenset()
    """Fingerprints of the site's own rules."""
    failed: frozenset[str] = frozenset()
    """Fingerprints of what could not be computed of many subjects."""
    until: datetime = ALWAYS
    """As long as nothing is new, nothing has to be judged until then, inclusive."""
    gauges_until: datetime = ALWAYS
    feeds_until: datetime = ALWAYS
    silent_until_us: float = -math.inf
    """Until when what is known of its gauges, feeds and silent meters holds."""

    def __post_init__(self) -> None:
        for rule in self.rules:
            subjects = self.columns.subjects(rule.indicator)
            if subjects is not None:
                self.groups[rule.id] = Group(rule, subjects)
        is_polled = any(True for _ in self.of(*SILENT))
        self.newest_us = np.full(len(self.columns.polled.points) if is_polled else 0, NEVER_US)

    @property
    def site(self) -> Site:
        """The site as it is now: constant."""
        return self.columns.site

    def of(self, *indicators: Indicator) -> Iterator[Group]:
        """Rules about some indicators that have subjects here."""
        return (g for g in self.groups.values() if g.rule.indicator in indicators and g.keys)

    @property
    def gauges(self) -> list[str]:
        """Points in rooms that a rule watches."""
        return [name for group in self.of(*observing.GAUGE_ROLES) for name in group.subjects.names]

    @property
    def keys(self) -> Iterator[str]:
        """Fingerprints of all that is watched."""
        yield from self.own
        yield from self.failed
        for group in self.groups.values():
            yield from group.keys

    @property
    def is_awake(self) -> bool:
        """Whether a subject has to be judged each time."""
        return bool(self.failed) or any(len(group.awake) for group in self.of(*MOVING))

    def take_edge(self, edge: observing.EdgeSilence | None) -> bool:
        """Take how long the edge of the site was not heard of; whether it is another one than before."""
        is_other = False
        for rule in self.rules:
            if rule.indicator is Indicator.EDGE_SILENT_S:
                group = self.groups[rule.id]
                if group.subjects.names != _names(edge):
                    group, is_other = Group(rule, Subjects(self.site.id, _names(edge), "")), True
                    self.groups[rule.id] = group
                group.look(_silence(edge))
        return is_other

    def is_edge_calm(self, edge: observing.EdgeSilence | None) -> bool:
        """Whether the rules about the edge need not be judged."""
        groups = [g for g in self.groups.values() if g.rule.indicator is Indicator.EDGE_SILENT_S]
        return all(
            g.subjects.names == _names(edge) and not len(g.resting.awake(_silence(edge))) for g in groups
        )

    # -- silence -------------------------------------------------------------------------------------

    def look_at_silence(self, at_us: int) -> None:
        """See who is silent, by what is known of the readings."""
        for group in self.of(*SILENT):
            group.look(self.columns.polled.intervals(group.rule.indicator, at_us, self.newest_us))

    def asked_points(self, at_us: int) -> Ints:
        """Places of the points whose newest readings decide who has to be judged."""
        if at_us <= self.silent_until_us:
            return np.zeros(0, np.int64)
        self.look_at_silence(at_us)
        asked = [np.zeros(0, np.int64)]
        for group in self.of(*SILENT):
            is_unsure = np.isnan(group.values) | (group.rule.side is Side.BELOW)  # a reading may be a breach
            is_unsure[group.awake] = True
            asked.append(self.columns.polled.points_of(group.rule.indicator, np.flatnonzero(is_unsure)))
        return np.unique(np.concatenate(asked))

    def rest_silence(self) -> None:
        """Take until when nobody who rests inside is silent for too long, if nothing more comes."""
        until_us = [math.inf]
        for group in self.of(*SILENT):
            stands, rule = group.resting, group.rule
            if len(group.awake) or stands.has_unknown or rule.side is Side.BELOW:
                until_us.append(-math.inf)
            crossed_us = self.columns.polled.crossed_us(rule.indicator, self.newest_us, stands.threshold)
            until_us += (crossed_us[stands.inside] - 1000).tolist()
        self.silent_until_us = min(until_us)

    # -- until when ----------------------------------------------------------------------------------

    def look(self, group: Group, values: Floats) -> None:
        """Take what is seen of the subjects of a rule; judge the site where one of them does not rest."""
        group.look(values)
        if len(group.awake):
            self.until = ALWAYS

    def settle(
        self,
        now: datetime,
        judged: Iterable[tuple[Rule, Memory]],
        written: Iterable[Memory],
        ends: Iterable[datetime],
    ) -> None:
        """Take until when nothing has to be judged.

        Parameters
        ----------
        judged : iterable of (Rule, Memory)
            Where everything stands that was judged and does not rest by itself.
        written : iterable of Memory
            The same as it was written last.
        ends : iterable of datetime
            When what the site's own rules see may change, if nothing is new.
        """
        quarter = floor(now)
        settled = [settled_until(rule, memory) for rule, memory in judged]
        waits = [one.at + KEPT_EVERY for one in written if one.state in WAITING and one.at is not None]
        until = min([quarter + QUARTER_HOUR, *(end for end in ends if end >= now), *waits, *settled])
        self.until = until - _BEFORE if now < until and quarter < now else ALWAYS

    def rest_gauges(self, now: datetime) -> None:
        """Take until when the newest means are those of now: to the end of the quarter-hour, inclusive."""
        self.gauges_until = floor(now) + (QUARTER_HOUR if floor(now) < now else timedelta(0))


def _names(edge: observing.EdgeSilence | None) -> tuple[str, ...]:
    return () if edge is None else (edge.name,)


def _silence(edge: observing.EdgeSilence | None) -> Floats:
    return np.array([] if edge is None else [edge.silent_s], np.float64)


@dataclass
class Watch:
    """All sites, under some rules and definitions, as they were judged last."""

    stored: Stored
    rules: tuple[Rule, ...]
    profiles: Mapping[str, LimitProfile]
    notifications: Notifications
    signs: Signs
    """Of what is known."""
    at: datetime
    """The newest evaluation."""
    there: Fleet
    """What is measured then."""
    sites: dict[str, SiteWatch] = field(default_factory=dict)
    wide: dict[str, Group] = field(default_factory=dict)
    """Rules about the deployment, by id."""
    subjects: int = 0
    """How many rules on how many subjects there are."""
    until: datetime = ALWAYS
    """As long as nothing is new, all of it rests until then, inclusive."""

    @property
    def keys(self) -> Iterator[str]:
        """Fingerprints of all that is watched."""
        yield from (key for one in self.sites.values() for key in one.keys)
        yield from (key for group in self.wide.values() for key in group.keys)

    def close(self, now: datetime, signs: Signs) -> None:
        """Take until when all of it rests."""
        self.at, self.signs = now, signs
        groups = [group for group in self.wide.values() if group.rule.indicator is not _SPOOL]
        is_awake = any(one.is_awake for one in self.sites.values()) or any(len(g.awake) for g in groups)
        self.until = ALWAYS if is_awake else min(map(_rests_until, self.sites.values()), default=NEVER)

    def rests(self, now: datetime, signs: Signs, spool_fill_ratio: float | None) -> bool:
        """Whether another evaluation would change nothing and tell nobody anything."""
        if not self.at < now <= self.until or self.stored.fleet.at(now) is not self.there:
            return False
        if not signs.is_of_same_rules(self.signs) or signs.sites != self.signs.sites:
            return False
        if signs.has_unacknowledged and self.notifications.channels:
            return False  # what was said may have to be said again
        return self._is_spool_calm(spool_fill_ratio) and self._are_edges_calm(signs)

    def _is_spool_calm(self, fill_ratio: float | None) -> bool:
        values = np.array([] if fill_ratio is None else [fill_ratio], np.float64)
        groups = [group for group in self.wide.values() if group.rule.indicator is _SPOOL]
        return all(len(g.keys) == len(values) and not len(g.resting.awake(values)) for g in groups)

    def _are_edges_calm(self, signs: Signs) -> bool:
        if not signs.edges and not self.signs.edges:
            return True
        return all(one.is_edge_calm(signs.edges.get(site)) for site, one in self.sites.items())


_SPOOL = Indicator.SPOOL_FILL_RATIO


def _rests_until(one: SiteWatch) -> datetime:
    rests = min(one.until, one.gauges_until, one.feeds_until)
    if one.silent_until_us >= _LAST_US:
        return rests
    is_asked = one.silent_until_us <= 0
    return ALWAYS if is_asked else min(rests, _EPOCH + timedelta(microseconds=int(one.silent_until_us)))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = (NEVER - _EPOCH) / timedelta(microseconds=1)


@dataclass
class Cache:
    """Figures that cost much and change slowly, by site, and how everything was judged last."""

    years: dict[str, YearFigures] = field(default_factory=dict)
    drifts: dict[str, DriftExcess] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)
    fleet: FleetCache = field(default_factory=FleetCache)
    memories: AlarmMemories = field(default_factory=AlarmMemories)
    windows: dict[tuple[int, str], tuple[tuple[datetime, str], WindowFigures]] = field(default_factory=dict)
    """What was evaluated, by number of the site and window, with its version."""
    broken_tables: tuple[datetime | None, int | None] = (None, None)
    """Tables that are not compressed as they should be, and when that was asked."""
    watch: Watch | None = None
    memories_read: int = 0
    """Counts with :attr:`AlarmMemories.readings`: what another process remembers may stand elsewhere."""

    def forget(self) -> None:
        """Have everything judged at the next evaluation."""
        self.watch = None

    def columns_of(self, site: Site) -> Columns:
        """A constant site as columns."""
        if site.id not in self.columns or self.columns[site.id].site is not site:
            self.columns[site.id] = Columns(site)
        return self.columns[site.id]

    def rests(self, now: datetime, signs: Signs, spool_fill_ratio: float | None) -> bool:
        """Whether another evaluation would change nothing and tell nobody anything."""
        if self.watch is None or signs.memory != self.memories.version:
            return False
        asked_at, _ = self.broken_tables
        if any(
            g.rule.indicator is Indicator.COMPRESSION_BROKEN_TABLES for g in self.watch.wide.values()
        ) and (asked_at is None or now - asked_at >= COMPRESSION_EVERY):
            return False
        return self.watch.rests(now, signs, spool_fill_ratio)
