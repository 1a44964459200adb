"""What the rules would have said of the past: the stored quarter-hours, through the same judgement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain import observing, pue
from app.domain.alarm import Memory, Rule, State, Subject, fingerprint
from app.domain.limits import Limit, LimitProfile
from app.domain.observing import Scene, WindowFigures
from app.domain.period import QUARTER_HOUR, QUARTER_HOUR_S, Period, Step, window
from app.domain.pue import Totals
from app.domain.site import Site
from app.jobs.alarms import Change, judged, limit_of
from app.store import alarms, deployment, energy, findings
from app.store.engine import Connection
from app.store.sites import Stored

LOOKS = (timedelta(seconds=5), timedelta(seconds=30))
"""When a closed quarter-hour is judged, after its end."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """An alarm that would have fired."""

    rule: str
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


def replay(
    connection: Connection, stored: Stored, site: Site, period: Period, profiles: Mapping[str, LimitProfile]
) -> list[Replayed]:
    """Alarms about PUE, IT load and coverage that a period would have given, by what is known of it now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    number = stored.site_id[site.id]
    past = _Past.load(connection, site, number, period)
    listed = findings.listing(connection, number, start=past.start, end=period.end)
    found = observing.doubts(site, listed)
    known_from = alarms.known_from(connection, number)
    rules = [r for r in alarms.rules(connection) if not r.sites or site.id in r.sites]
    names = sorted({r.window for r in rules if r.window} | {"15m", "24h"})
    memories: dict[str, Memory] = {}
    changes: list[Change] = []
    limits: dict[Any, Limit | None] = {}
    for at in _ends(period):
        day = at.astimezone(site.zone).date()
        if day not in limits:
            limits[day] = limit_of(stored, profiles, site, at)
        windows = {name: past.figures(window(name, at, site.zone)) for name in names}
        near = [d for d in found if (d.start < at and d.end >= windows["24h"].period.start) or _is_long(d)]
        scene = Scene(site, at, windows, limits[day], known_from, near)
        changes += _look(rules, scene, memories)
    return _alarms(changes)


def _is_long(doubt: observing.Doubt) -> bool:
    """Whether a finding can explain a window longer than a day."""
    return doubt.end - doubt.start > observing.SHORT


def _ends(period: Period) -> Iterator[datetime]:
    at = period.start + QUARTER_HOUR
    while at <= period.end:
        yield at
        at += QUARTER_HOUR


def _look(rules: Sequence[Rule], scene: Scene, memories: dict[str, Memory]) -> list[Change]:
    """Judge a closed quarter-hour; a second time only where something is pending."""
    changes: list[Change] = []
    for after in LOOKS:
        seen = list(observing.of_windows(rules, replace(scene, at=scene.at + after)))
        fresh, moved = judged(seen, memories, scene.at + after)
        memories |= {
            fingerprint(rule.id, subject): memory
            for (rule, subject, _), memory in zip(seen, fresh, strict=True)
        }
        changes += moved
        if not any(memory.state is State.PENDING for memory in fresh):
            break
    return changes


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
                Replayed(rule.id, _level(change), *begin, change.value or 0.0, change.threshold or 0.0)
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


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Past:
    """Running sums of a site's quarter-hours, so that any window is a difference of two."""

    site: Site
    parts: pue.Boundary
    start: datetime
    sums: Floats
    """Facility, IT, covered seconds and estimated energy before each quarter-hour."""

    @classmethod
    def load(cls, connection: Connection, site: Site, number: int, period: Period) -> _Past:
        """The period and the year before it."""
        start = window("12mo", period.start, site.zone).start
        span = Period(start, period.end)
        series = energy.site_series(connection, number, site, "", span, Step.QUARTER_HOUR)
        cells = np.zeros((int(span.duration_s) // QUARTER_HOUR_S + 1, 4))
        for at, t in series:
            slot = int((at - start).total_seconds()) // QUARTER_HOUR_S + 1
            cells[slot] = (t.facility_kwh, t.it_kwh, t.covered_s, t.estimated_kwh)
        return cls(site, pue.boundary(site), start, cells.cumsum(axis=0))

    def figures(self, period: Period) -> WindowFigures:
        """What is known over a window."""
        first = max(int((period.start - self.start).total_seconds()) // QUARTER_HOUR_S, 0)
        last = int((period.end - self.start).total_seconds()) // QUARTER_HOUR_S
        facility, it, covered_s, estimated = (float(x) for x in self.sums[last] - self.sums[first])
        totals = Totals(facility, it, {}, covered_s, estimated)
        bar = pue.bar(self.site, self.parts, period.start, period.end, totals)
        reason = "" if bar.pue is not None else "not known"
        return WindowFigures(period, bar.pue, reason, facility, it, bar.coverage_ratio, bar.estimated_ratio)


def replay_site(connection: Connection, stored: Stored, site: Site, period: Period) -> list[Replayed]:
    """As :func:`replay`, by the profiles of the deployment.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return replay(connection, stored, site, period, deployment.limit_profiles(connection))
