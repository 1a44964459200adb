"""Everything about the sites that ``/metrics`` shows, collected in a few queries after each evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.domain.alarms.alarm import Severity
from app.domain.limits import Limit, LimitProfile, governing, limits_for
from app.domain.period import Period, floor
from app.domain.quantity import ENERGY_KINDS
from app.domain.reading import FUTURE_ALLOWED, OLDEST
from app.domain.site import Meter, Site
from app.store import alarms, breakdown, evaluations, power
from app.store.alarms import DEPLOYMENT
from app.store.breakdown import By, Group
from app.store.engine import store_errors
from app.store.sites import Stored

ZERO = timedelta(0)
LOOK_AT_ALL_EVERY = timedelta(minutes=5)
"""A meter whose readings come late is seen after this at the latest."""
OVERLAP = timedelta(minutes=2)
HEARD_WITHIN = timedelta(days=31)
"""Points without a reading for longer have none to say."""
FIGURES_EVERY = timedelta(seconds=30)
FRESH_INTERVALS = 3
"""A meter without a poller is up while its newest reading is at most so many intervals old."""


@dataclass(frozen=True)
class MeterFigures:
    """What is known about a meter's readings."""

    meter: str
    last_reading_s: float | None
    """Time of the newest reading, since 1970. [s]"""
    fresh: bool


@dataclass(frozen=True)
class SiteFigures:
    """The newest figures of one site, in house units."""

    site: str
    pue: Mapping[str, float] = field(default_factory=dict)
    """By window."""
    coverage_ratio: Mapping[str, float] = field(default_factory=dict)
    """By window."""
    evaluated_at: datetime | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    """By profile."""
    power_kw: Mapping[str, float] = field(default_factory=dict)
    """Mean of the newest quarter-hour, by load class; absent where a point is not known."""
    energy_kwh: Mapping[str, float] = field(default_factory=dict)
    """Since the beginning, by load class."""
    it_load_ratio: float | None = None
    meters: tuple[MeterFigures, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    """Windows of which no PUE is said, with the reason."""
    findings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Open findings, by kind and severity."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """What imports did not store, by reason: rows that were not understood, readings that contradict one."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Readings in the drop ledger, by reason."""
    alarms: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Alarms that fire, by rule and severity."""
    thresholds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Of the alarm rules in force, by rule and severity, in the unit of each rule's indicator."""


class Known:
    """What is read again only as far as it can have changed, from one snapshot to the next."""

    def __init__(self) -> None:
        self._last_at: dict[int, datetime] = {}
        self._looked_at: datetime | None = None
        self._all_looked_at: datetime | None = None
        self._before: dict[int, float] = {}
        self._computed: tuple[object, ...] | None = None
        self._energy: tuple[datetime, dict[int, float]] | None = None
        self._power: tuple[datetime, dict[int, float]] | None = None

    def last_at(self, connection: sa.Connection, now: datetime) -> dict[int, datetime]:
        """Newest reading by point, at most :data:`FIGURES_EVERY` old.

        Of the last minutes anew, of everything now and then.
        """
        looked_at, all_looked_at = self._looked_at, self._all_looked_at
        if looked_at is not None and ZERO <= now - looked_at < FIGURES_EVERY:
            return self._last_at
        until = now + FUTURE_ALLOWED  # later ones were refused; weeks made ahead need no look
        if looked_at is None or all_looked_at is None or not ZERO <= now - all_looked_at < LOOK_AT_ALL_EVERY:
            rows = connection.execute(_LAST, {"since": now - HEARD_WITHIN, "until": until})
            self._last_at = {number: at for number, at in rows}  # noqa: C416
            self._all_looked_at = now
        else:
            for number, at in connection.execute(_LAST, {"since": looked_at - OVERLAP, "until": until}):
                self._last_at[number] = max(at, self._last_at.get(number, at))
        self._looked_at = now
        return self._last_at

    def powers_kw(self, connection: sa.Connection, now: datetime, stored: Stored) -> dict[int, float]:
        """Mean power of the newest quarter-hour by point, at most :data:`FIGURES_EVERY` old."""
        if self._power is None or not ZERO <= now - self._power[0] < FIGURES_EVERY:
            every = (p for site in stored.fleet.sites for p in site.points())
            points = [stored.point_id[p.id] for p in every if p.kind in ENERGY_KINDS]
            latest = power.latest(connection, now, points)
            self._power = (now, {number: one.power_kw for number, one in latest.items()})
        return self._power[1]

    def energy_kwh(self, connection: sa.Connection, now: datetime) -> dict[int, float]:
        """Energy by point since the beginning, at most :data:`FIGURES_EVERY` old.

        That of past months is summed again where something in them was computed again.
        """
        if self._energy is not None and ZERO <= now - self._energy[0] < FIGURES_EVERY:
            return self._energy[1]
        month = {"month": now.date().replace(day=1)}
        computed = tuple(connection.execute(_COMPUTED, month).one())
        if (month["month"], *computed) != self._computed:
            self._before = {n: e for n, e in connection.execute(_ENERGY_BEFORE, month)}  # noqa: C416
            self._computed = (month["month"], *computed)
        total = dict(self._before)
        for number, energy_kwh in connection.execute(_ENERGY_SINCE, month):
            total[number] = total.get(number, 0.0) + energy_kwh
        self._energy = (now, total)
        return total


def collect(
    connection: sa.Connection,
    stored: Stored,
    profiles: Mapping[str, LimitProfile],
    now: datetime,
    known: Known | None = None,
) -> list[SiteFigures]:
    """The figures of every site, and last those of the deployment itself.

    With `known`, kept by the caller, the cost follows what changed since the last snapshot.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        found = _Found(connection, stored, now, known or Known())
        return [*(found.site(site, profiles) for site in stored.fleet.sites), found.deployment()]


class _Found:
    """Results of the queries, to be dealt out to the sites."""

    def __init__(self, connection: sa.Connection, stored: Stored, now: datetime, known: Known) -> None:
        self._connection, self._stored, self._now = connection, stored, now
        keys, sites = stored.point_key, {**stored.site_key, DEPLOYMENT: ""}
        self._evaluations = defaultdict(list)
        for number, window, at, document in evaluations.load(connection, list(sites)):
            self._evaluations[sites[number]].append((window, at, document))
        self._energy_kwh = {keys[n]: e for n, e in known.energy_kwh(connection, now).items() if n in keys}
        powers_kw = known.powers_kw(connection, now, stored)
        self._power_kw = {keys[n]: kw for n, kw in powers_kw.items() if n in keys}
        self._last_at = {keys[n]: at for n, at in known.last_at(connection, now).items() if n in keys}
        self._dropped = _grouped(connection, _DROPPED, sites)
        self._alarms = _grouped(connection, _ALARMS, sites)
        self._findings = _grouped(connection, _FINDINGS, sites)
        self._refused = _grouped(connection, _REFUSED, sites)
        self._rules = alarms.rules(connection)

    def site(self, site: Site, profiles: Mapping[str, LimitProfile]) -> SiteFigures:
        """What was found about one site."""
        documents = self._evaluations[site.id]
        there = site.at(self._now)
        groups = {n: g for n, g in breakdown.groups_of(there, By.LOAD_CLASS).items() if g}
        power_kw = _sums(groups, self._power_kw, whole=True)
        capacity_kw, it_kw = site.design.it_capacity_kw, power_kw.get("it")
        bank = self._stored.fleet.institution[site.institution]
        limits = limits_for(site, bank, dict(profiles), self._now.astimezone(site.zone).date())
        return SiteFigures(
            site.id,
            {w: d["pue"] for w, _, d in documents if d["pue"] is not None},
            {w: d["coverage_ratio"] for w, _, d in documents},
            max((at for _, at, _ in documents), default=None),
            {limit.profile: limit.pue for limit in limits},
            power_kw,
            self._energies_kwh(site, groups),
            it_kw / capacity_kw if it_kw is not None and capacity_kw else None,
            tuple(self._meter(meter) for meter in there.meters),
            withheld={w: d.get("reason_code", "unknown") for w, _, d in documents if d["pue"] is None},
            findings={(kind, severity): n for (kind, severity), n in self._findings[site.id].items()},
            refused={reason: n for (reason,), n in self._refused[site.id].items() if n},
            dropped=self._drops_of(site.id),
            alarms=self._alarms_of(site.id),
            thresholds=self._thresholds_of(site.id, governing(limits)),
        )

    def _energies_kwh(self, site: Site, groups: Mapping[str, Group]) -> dict[str, float]:
        """Energy since the beginning by load class; each meter's while it was there."""
        if not site.is_dated:
            return _sums(groups, self._energy_kwh, whole=False)
        always = Period(OLDEST, floor(self._now))
        rows = breakdown.rows(self._connection, self._stored, site, always, By.LOAD_CLASS)
        return {row.name: row.energy_kwh for row in rows if row.coverage_ratio > 0}

    def deployment(self) -> SiteFigures:
        """What concerns no single site, under the empty name."""
        return SiteFigures("", dropped=self._drops_of(""), alarms=self._alarms_of(""))

    def _drops_of(self, site: str) -> dict[str, int]:
        return {reason: n for (reason,), n in self._dropped[site].items()}

    def _alarms_of(self, site: str) -> dict[tuple[str, str], int]:
        return {(rule, severity): n for (rule, severity), n in self._alarms[site].items()}

    def _thresholds_of(self, site: str, limit: Limit | None) -> dict[tuple[str, str], float]:
        pue = None if limit is None else limit.pue
        return {
            (rule.id, severity.value): threshold
            for rule in self._rules
            if not rule.sites or site in rule.sites
            for severity in Severity
            if (threshold := rule.threshold(severity, pue)) is not None
        }

    def _meter(self, meter: Meter) -> MeterFigures:
        heard = [(self._last_at[p.id], p) for p in meter.points if p.id in self._last_at]
        fresh = any(
            self._now - at <= timedelta(seconds=FRESH_INTERVALS * max(p.interval_s, 60)) for at, p in heard
        )
        return MeterFigures(meter.id, max((at.timestamp() for at, _ in heard), default=None), fresh)


def _sums(groups: Mapping[str, Group], known: Mapping[str, float], *, whole: bool) -> dict[str, float]:
    """Weighted sums by group; with `whole` only where every point of the group is known."""
    out = {}
    for name, group in groups.items():
        have = [p for p in group if p in known]
        if have and (len(have) == len(group) or not whole):
            out[name] = sum(group[p] * known[p] for p in have)
    return out


def _grouped(
    connection: sa.Connection, query: sa.TextClause, sites: Mapping[int, str]
) -> dict[str, dict[tuple[str, ...], int]]:
    out: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)
    for number, *labels, count in connection.execute(query):
        if number in sites:
            out[sites[number]][tuple(labels)] = int(count)
    return out


_ENERGY_BEFORE = sa.text(
    "SELECT point_id, sum(energy_kwh) FROM energy_day WHERE day < :month GROUP BY point_id"
)
_ENERGY_SINCE = sa.text(
    "SELECT point_id, sum(energy_kwh) FROM energy_day WHERE day >= :month GROUP BY point_id"
)
_COMPUTED = sa.text("SELECT count(*), sum(computed) FROM site_months WHERE month < :month")
_LAST = sa.text(
    """
    SELECT p.id, r.at FROM points p CROSS JOIN LATERAL (
        SELECT at FROM readings
        WHERE point_id = p.id AND at > :since AND at <= :until
        ORDER BY at DESC LIMIT 1
    ) r
    WHERE p.retired_at IS NULL
    """
)
_DROPPED = sa.text("SELECT coalesce(site_id, 0), reason, sum(readings) FROM dropped_readings GROUP BY 1, 2")
_FINDINGS = sa.text(
    "SELECT site_id, kind, severity, count(*) FROM findings WHERE state = 'open' GROUP BY 1, 2, 3"
)
_REFUSED = sa.text(
    """
    SELECT site_id, reason, sum(readings) FROM imports
    CROSS JOIN LATERAL (VALUES ('rejected', rejected), ('conflicting', conflicting)) AS r (reason, readings)
    GROUP BY 1, 2
    """
)
_ALARMS = sa.text(
    """
    SELECT site_id, rule, severity, count(*) FROM alarms
    WHERE fired_at IS NOT NULL AND resolved_at IS NULL GROUP BY 1, 2, 3
    """
)
