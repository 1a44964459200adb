"""Announces transitions: documents of alarms, and messages for the outbox by channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote

from app.domain.alarms.alarm import Indicator, Observation, Rule, Severity, Subject, Transition, fingerprint
from app.domain.alarms.notification import Channel, Message, Notifications, Silence, What, earliest, what_of
from app.domain.attribution import UNMETERED, Attribution, attribute
from app.domain.limits import LimitProfile, governing, limits_for
from app.domain.period import Period, shift_months, window
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.site import Meter, Site
from app.errors import CoverageTooLow
from app.store import alarms, breakdown, drifts, outbox, sums, usage
from app.store.breakdown import By
from app.store.engine import Connection
from app.store.sites import Stored

__all__ = ["Announcer", "what_of"]

MOST_METERS = 3
_ATTRIBUTED = {Indicator.PUE: "", Indicator.POWER_RATIO_JUMP: "15m", Indicator.YEAR_END_PUE: "30d"}
"""Indicators whose change is attributed to load classes, with the window that shows it; empty: their own."""


@dataclass(frozen=True, slots=True)
class PueChange:
    """What moved a PUE, over which time against which."""

    period: Period
    figure: Attribution
    meters: tuple[str, ...]
    coverage_ratio: float


class Announcer:
    """Makes the documents and messages of one evaluation."""

    def __init__(
        self,
        connection: Connection,
        stored: Stored,
        profiles: Mapping[str, LimitProfile],
        now: datetime,
        settings: Notifications | None = None,
    ) -> None:
        self._connection, self._stored, self._profiles, self._now = connection, stored, profiles, now
        self._settings = alarms.notifications(connection) if settings is None else settings
        self._moved: dict[tuple[str, str], PueChange | None] = {}
        self._messages: list[Message] = []

    @cached_property
    def _silences(self) -> list[Silence]:
        return [one.silence for one in alarms.silences(self._connection, self._now)]

    # -- documents -----------------------------------------------------------------------------------

    def document(self, rule: Rule, subject: Subject, seen: Observation, change: Transition) -> dict[str, Any]:
        """Everything that there is to say about an alarm, JSON-ready."""
        site = self._stored.fleet.site.get(subject.site)
        return {
            "rule": rule.id,
            "indicator": rule.indicator.value,
            "fingerprint": fingerprint(rule.id, subject),
            "site": subject.site,
            "site_name": site.name if site else "",
            "time_zone": site.time_zone if site else "UTC",
            "subject": subject.name,
            "severity": change.severity.value if change.severity else None,
            "value": change.value,
            "threshold": change.threshold,
            "window": rule.window,
            "since": _text(change.started or change.at),
            "at": _text(change.at),
            "reason": change.reason,
            **self._limit(site, seen),
            **self._attributed(site, rule, subject),
            "links": self._links(rule, subject),
        }

    def _limit(self, site: Site | None, seen: Observation) -> dict[str, Any]:
        if site is None or seen.limit is None:
            return {}
        bank = self._stored.fleet.institution[site.institution]
        day = self._now.astimezone(site.zone).date()
        limit = governing(limits_for(site, bank, dict(self._profiles), day))
        return {} if limit is None else {"limit": limit.pue, "profile": limit.profile}

    def _links(self, rule: Rule, subject: Subject) -> dict[str, str]:
        links = {"runbook": f"{self._settings.runbook_url}#{rule.id}"}
        if self._settings.board_url:
            base = self._settings.board_url.rstrip("/")
            links["board"] = f"{base}/?site={quote(subject.site)}" if subject.site else base
        return links

    def _attributed(self, site: Site | None, rule: Rule, subject: Subject) -> dict[str, Any]:
        """What moved, over which window; only the subject's meters where nothing can be attributed."""
        if site is not None and rule.indicator is Indicator.PLANT_DRIFT_RATIO:
            return self._drift(site)
        name = (rule.window or _ATTRIBUTED.get(rule.indicator)) if rule.indicator in _ATTRIBUTED else ""
        if site is None or not name:
            return {"meters": list(_meters(site, rule, subject))}
        key = (site.id, name)
        if key not in self._moved:
            self._moved[key] = self._move(site, name)
        moved = self._moved[key]
        if moved is None:
            return {"meters": []}
        return {
            "start": _text(moved.period.start),
            "end": _text(moved.period.end),
            "moved": moved.figure.moved,
            "parts": moved.figure.parts,
            "baseline_pue": moved.figure.baseline_pue,
            "window_pue": moved.figure.pue,
            "meters": list(moved.meters),
            "coverage_ratio": moved.coverage_ratio,
        }

    def _drift(self, site: Site) -> dict[str, Any]:
        """Since when the plant drifts, by how much, and where from."""
        bank, day = self._stored.fleet.institution[site.institution], self._now.astimezone(site.zone).date()
        limit = governing(limits_for(site, bank, dict(self._profiles), day))
        limit_pue = None if limit is None else limit.pue
        found = drifts.figure(self._connection, self._stored, site, self._now, limit_pue)
        if found.going is None or found.baseline is None:
            return {"meters": []}
        mostly = found.blame.mostly
        more = [name for name, kwh in found.blame.excess_kwh.items() if kwh > 0][:MOST_METERS]
        return {
            "moved": _class_of(site, mostly),
            "meters": [mostly] if mostly else more,
            "drift": {
                "onset": found.going.onset.isoformat(),
                "found_on": found.going.found_on.isoformat(),
                "excess_ratio": found.going.excess_ratio,
                "excess_kwh": found.blame.total_kwh,
                "mostly": mostly,
                "weeks_to_limit": found.weeks_to_limit,
                "baseline": found.baseline.digest,
            },
        }

    def _move(self, site: Site, name: str) -> PueChange | None:
        """What moved the PUE of a window against the time before it; None where that is not known."""
        period = window(name, self._now, site.zone)
        baseline = before(period, site)
        try:
            first = usage.split(self._connection, self._stored, site, baseline)
            second = usage.split(self._connection, self._stored, site, period)
        except CoverageTooLow:
            return None
        figure = attribute(first, second)
        meters = self._involved(site, figure.moved, baseline, period)
        return PueChange(period, figure, meters, second.covered_h * 3600 / period.duration_s)

    def _involved(self, site: Site, moved: str | None, baseline: Period, period: Period) -> tuple[str, ...]:
        """Meters of the class that moved whose power changed most, the largest change first."""
        site = site.at(period.start)
        groups = breakdown.groups_of(site, By.LOAD_CLASS)
        group = groups.get("facility" if moved == UNMETERED else moved or "", {})
        ids = [self._stored.point_id[p] for p in group]
        old, new = (
            {n: e.energy_kwh / e.covered_s for n, e in found.items() if e.covered_s > 0}
            for found in (sums.by_point(self._connection, site, ids, span) for span in (baseline, period))
        )
        change = {
            p: abs(group[p] * (new[n] - old[n]))
            for p in group
            if (n := self._stored.point_id[p]) in old and n in new
        }
        largest = sorted(change, key=lambda p: change[p], reverse=True)
        return tuple(dict.fromkeys(site.meter_of[p].id for p in largest))[:MOST_METERS]

    # -- messages ------------------------------------------------------------------------------------

    def say(
        self, alarm_id: int, rule: Rule, subject: Subject, change: Transition, document: Mapping[str, Any]
    ) -> None:
        """Leave messages about a transition in the outbox."""
        what = what_of(change)
        if what is None:
            return
        payload = {**document, "alarm": alarm_id}
        if what in (What.RESOLVE, What.HANDOVER, What.EASE):
            stored = alarms.one(self._connection, alarm_id)
            payload = {**stored.document, "alarm": alarm_id, "value": change.value, "reason": change.reason}
            payload["severity"] = change.severity.value if change.severity else stored.severity
            payload["previous_severity"] = change.previous_severity and change.previous_severity.value
            payload |= {} if what is What.EASE else {"until": _text(change.at)}
        severity = change.severity or Severity.WARNING
        if what is What.ESCALATE:
            payload["previous_severity"] = Severity.WARNING.value
        channels = self._channels(alarm_id, what, rule, subject, severity)
        key = f"{alarm_id}:{what}:{severity}:{_text(change.at)}"
        self._put(alarm_id, subject, what, severity, payload, channels, key)

    def _channels(
        self, alarm_id: int, what: What, rule: Rule, subject: Subject, severity: Severity
    ) -> list[Channel]:
        """Channels that get the message: the end of an alarm only those that got its beginning."""
        if what in (What.RESOLVE, What.HANDOVER):
            notified = outbox.notified(self._connection, alarm_id)
            return [
                c
                for c in self._settings.channels
                if c.id in notified and (what is What.RESOLVE or c.keeps_state)
            ]
        if any(s.covers(subject.site, rule.id, subject.name, self._now) for s in self._silences):
            return []
        chosen = self._settings.receivers(subject.site, severity, rule.id)
        return [c for c in chosen if what is not What.EASE or c.keeps_state]

    def _put(
        self,
        alarm_id: int,
        subject: Subject,
        what: What,
        severity: Severity,
        payload: dict[str, Any],
        channels: Iterable[Channel],
        key: str,
    ) -> None:
        number = alarms.site_number(self._stored, subject.site)
        self._messages += [
            Message(
                c.id,
                what,
                f"{key}:{c.id}",
                earliest(c, severity, self._now),
                severity,
                payload,
                number,
                alarm_id,
            )
            for c in channels
        ]

    def announce(self, rules: Iterable[Rule]) -> int:
        """Say again what fires and nobody acknowledged; how many messages this evaluation made."""
        new = self._flush()
        if self._settings.channels:
            by_id = {rule.id: rule for rule in rules}
            said = outbox.last_said(self._connection, self._now)
            numbers = [*self._stored.site_key, alarms.DEPLOYMENT]
            for alarm in alarms.listing(self._connection, numbers, limit=10_000):
                rule = by_id.get(alarm.rule)
                if rule is not None and alarm.acknowledged_at is None:
                    self._repeat(alarm, rule, said.get(alarm.id, {}))
        return new + self._flush()

    def _flush(self) -> int:
        new = outbox.put(self._connection, self._messages, self._now)
        self._messages = []
        return new

    def _repeat(self, alarm: alarms.StoredAlarm, rule: Rule, said: Mapping[str, datetime]) -> None:
        subject, severity = Subject(alarm.site, alarm.subject), Severity(alarm.severity)
        due = [
            c
            for c in self._channels(alarm.id, What.REPEAT, rule, subject, severity)
            if c.repeat_s and (c.id not in said or self._now - said[c.id] >= timedelta(seconds=c.repeat_s))
        ]
        payload = {**alarm.document, "alarm": alarm.id, "severity": alarm.severity}
        key = f"{alarm.id}:{What.REPEAT}:{_text(self._now)}"
        self._put(alarm.id, subject, What.REPEAT, severity, payload, due, key)


def before(period: Period, site: Site) -> Period:
    """The time that a window is compared with: the day, week, month or year before it."""
    length = timedelta(seconds=period.duration_s)
    if length >= timedelta(days=60):
        return Period(shift_months(period.start, -12, site.zone), period.start)
    for longest, span in ((1.0, 1), (24.0, 7), (24.0 * 60, 30)):
        if length <= timedelta(hours=longest):
            return Period(period.start - timedelta(days=span), period.start)
    raise AssertionError("every length is one of the above")


def _class_of(site: Site, meter_id: str) -> str | None:
    """Load class of a meter of the overhead."""
    roles = {p.role for m in site.meters if m.id == meter_id for p in m.points}
    return next((role.value for role in OVERHEAD_ROLES if role in roles), None)


def _meters(site: Site | None, rule: Rule, subject: Subject) -> Iterator[str]:
    """Meters that a subject stands for: itself, those of a feed, of an edge, behind an address."""
    if site is None or not subject.name:
        return
    if rule.indicator in (Indicator.EDGE_SILENT_S, Indicator.GATEWAY_SILENT_INTERVALS):
        yield from (meter.id for meter in _behind(site, rule, subject))
        return
    known = {m.id for m in site.meters}
    for name in subject.name.split("+"):
        meter = site.meter_of.get(name)
        if meter is not None or name in known:
            yield meter.id if meter is not None else name


def _behind(site: Site, rule: Rule, subject: Subject) -> Iterable[Meter]:
    """Meters that are reached through an edge or an address."""
    if rule.indicator is Indicator.EDGE_SILENT_S:
        return [meter for meter in site.meters if meter.collector is not None]
    return site.gateways.get(subject.name, ())


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
