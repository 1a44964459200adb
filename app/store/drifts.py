"""Drift of a site's plant: its stored days against its frozen baseline, and what may explain a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import sqlalchemy as sa

from app.domain import drift, drift_figure, pue
from app.domain.baseline import Baseline, Conditions, Resolution
from app.domain.capacity import INTERVALS_PER_HOUR
from app.domain.drift import Blame, Course, Floats, Mark, Noise, PlantDays
from app.domain.drift_figure import DriftFigure, Watched
from app.domain.energy import EventKind
from app.domain.period import Period, midnight
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.site import Site
from app.store import baselines, breakdown, conditions, events, measures
from app.store.breakdown import By
from app.store.engine import store_errors
from app.store.site_days import LEAST_COVERAGE
from app.store.sites import Stored

RECENT_DAYS = 28
"""Known days from which the PUE is taken that nears its limit."""
AROUND = timedelta(days=7)
"""Time before and after the replacement of a meter in which its readings are compared."""


_WHY = {
    Watched.NO_BASELINE: "no baseline of days is frozen",
    Watched.NOT_ACCEPTED: "the frozen baseline is not accepted",
    Watched.NO_DAYS: "no day after the baseline period is known",
}


@dataclass(frozen=True)
class SiteDrift:
    """How a plant stands against its own baseline."""

    site: Site
    baseline: Baseline
    whole: Conditions
    """From the first day of the baseline period on."""
    days: PlantDays
    """The same days."""
    later: PlantDays
    """Those after the baseline period."""
    course: Course
    """Of `later`."""
    marks: tuple[Mark, ...]

    def weeks_to_limit(self, limit_pue: float) -> float | None:
        """Weeks until the PUE crosses a limit; see :func:`app.domain.drift.weeks_to_limit`."""
        known = np.flatnonzero(np.isfinite(self.days.excess_ratio))[-RECENT_DAYS:]
        it_kw = float(self.whole.it_kw[known].sum())
        if not it_kw:
            return None
        recent = float(self.whole.overhead_kw[known].sum()) / it_kw
        expected = float(self.days.expected_kw[known].sum()) / it_kw
        return drift.weeks_to_limit(self.later, self.course, drift.Limit(1 + recent, limit_pue, expected))


@dataclass(frozen=True)
class NotWatched:
    """Why nothing is known of a plant's drift."""

    why: Watched
    baseline: Baseline | None = None

    @property
    def reason(self) -> str:
        """The same in words, for logs and the alarm's state."""
        return _WHY[self.why]


def of_site(connection: sa.Connection, stored: Stored, site: Site, end: datetime) -> SiteDrift | NotWatched:
    """The drift of a site by the days before an instant, or why nothing is known of it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kept = baselines.listing(connection, stored.site_id[site.id])
    of_days = [one.baseline for one in kept if one.baseline.resolution is Resolution.DAY]
    if not of_days:
        return NotWatched(Watched.NO_BASELINE)
    baseline = of_days[0]
    if not baseline.accepted:
        return NotWatched(Watched.NOT_ACCEPTED, baseline)
    first = midnight(date.fromisoformat(baseline.first_day), site.zone)
    span = Period(
        first, max(midnight(end.astimezone(site.zone).date(), site.zone), first + timedelta(days=1))
    )
    whole = conditions.of_site(connection, stored, site, span, weather=baseline.weather)
    marks = tuple(_marks(connection, stored, site, span))
    return _watched(site, baseline, whole, marks)


def _watched(
    site: Site, baseline: Baseline, whole: Conditions, marks: tuple[Mark, ...]
) -> SiteDrift | NotWatched:
    days = PlantDays.of(whole, baseline)
    later = days.after(date.fromisoformat(baseline.last_day))
    if not len(later.dates):
        return NotWatched(Watched.NO_DAYS, baseline)
    noise = Noise.stated(baseline.cv_rmse_ratio, baseline.autocorrelation)
    return SiteDrift(site, baseline, whole, days, later, drift.watch(later, noise, marks), marks)


def figure(
    connection: sa.Connection, stored: Stored, site: Site, end: datetime, limit_pue: float | None = None
) -> DriftFigure:
    """What is said of the drift of a site by the days before an instant.

    Parameters
    ----------
    limit_pue : float, optional
        PUE that the site must not exceed.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found = of_site(connection, stored, site, end)
    if isinstance(found, NotWatched):
        return DriftFigure(state=found.why, baseline=found.baseline)
    course, going = found.course, found.course.open
    watched = found.whole.take(np.isin(found.days.dates, found.later.dates))
    return DriftFigure(
        state=drift_figure.state_of(course),
        baseline=found.baseline,
        known_to=drift_figure.last_known(found.later),
        going=going,
        excess=drift_figure.excess(found.baseline, watched, course),
        blame=Blame({}, 0.0) if going is None else blame(connection, stored, found),
        weeks_to_limit=None if limit_pue is None else found.weeks_to_limit(limit_pue),
        limit_pue=limit_pue,
        learning_since=course.learning_since,
        episodes=course.episodes,
        days=found.later,
        level_ratio=course.level_ratio,
    )


# -- what may explain a step ---------------------------------------------------------------------------


def _marks(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> Iterator[Mark]:
    number = stored.site_id[site.id]
    for entry in measures.in_force(connection, number):
        measure = entry.measure
        for on in sorted({measure.implementation_start, measure.implementation_end - timedelta(days=1)}):
            yield Mark(on, measure.key, is_measure=True)
    for turn in site.turns:
        if span.start <= turn < span.end:
            yield Mark(turn.astimezone(site.zone).date(), drift.SITE_FILE)
    yield from _replacements(connection, stored, site, span)


def _replacements(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> Iterator[Mark]:
    gating = {stored.point_id[p] for limits in pue.every_boundary(site) for p in limits.gating}
    for entry in events.listing(connection, stored.site_id[site.id]):
        is_one = entry.kind is EventKind.REPLACED and entry.withdrawn_at is None
        if is_one and entry.point_id in gating and span.start <= entry.start < span.end:
            point = stored.point_key[entry.point_id]
            on = entry.start.astimezone(site.zone).date()
            yield Mark(on, point, step_kw=_step_kw(connection, site, entry.point_id, on))


def _step_kw(connection: sa.Connection, site: Site, point_id: int, on: date) -> float | None:
    """Mean power of a point in the week after a day, less that in the week before it. [kW]"""
    around = Period(midnight(on - AROUND, site.zone), midnight(on + AROUND + timedelta(days=1), site.zone))
    found = _daily_kw(connection, site, [point_id], around).get(point_id, {})
    before = [kw for day, kw in found.items() if day < on]
    after = [kw for day, kw in found.items() if day > on]
    return float(np.mean(after) - np.mean(before)) if before and after else None


# -- where it comes from -------------------------------------------------------------------------------

_DAILY_KW = sa.text(
    f"""
    SELECT point_id, (at AT TIME ZONE :zone)::date AS day,
           sum(energy_kwh) / sum(coverage_ratio) * {INTERVALS_PER_HOUR}
    FROM energy_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end
    GROUP BY point_id, day HAVING sum(coverage_ratio) >= :least * {24 * INTERVALS_PER_HOUR}
    """  # noqa: S608 - a constant of the domain
)


def _daily_kw(
    connection: sa.Connection, site: Site, points: list[int], span: Period
) -> dict[int, dict[date, float]]:
    """Mean power of points on local days. [kW]"""
    values = {"zone": site.time_zone, "points": points, "least": LEAST_COVERAGE}
    values |= {"start": span.start, "end": span.end}
    with store_errors():
        rows = connection.execute(_DAILY_KW, values).all()
    found: dict[int, dict[date, float]] = {}
    for point, day, power_kw in rows:
        found.setdefault(point, {})[day] = float(power_kw)
    return found


def blame(connection: sa.Connection, stored: Stored, found: SiteDrift) -> Blame:
    """Where the excess of the drift that goes on comes from, by meter of the overhead.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    power_kw = _meters_kw(connection, stored, found)
    measures_of = [mark for mark in found.marks if mark.is_measure]
    return drift.blame(found.days, found.course, found.whole.it_kw, power_kw, measures_of)


def _meters_kw(connection: sa.Connection, stored: Stored, found: SiteDrift) -> Mapping[str, Floats]:
    """Power of each meter of the overhead on the days of a drift. [kW] NaN: not known."""
    site, days = found.site, found.days.dates
    groups = breakdown.groups_of(site, By.LOAD_CLASS)
    weights = {p: w for role in OVERHEAD_ROLES for p, w in groups.get(role.value, {}).items()}
    first, last = (day.astype("datetime64[D]").item() for day in days[[0, -1]])
    span = Period(midnight(first, site.zone), midnight(last + timedelta(days=1), site.zone))
    numbers = {stored.point_id[p]: p for p in weights}
    daily = _daily_kw(connection, site, list(numbers), span)
    power: dict[str, Floats] = {}
    for number, point in numbers.items():
        own = daily.get(number, {})
        kw = weights[point] * np.array([own.get(day, np.nan) for day in days.astype(object)], np.float64)
        name = site.meter_of[point].id
        power[name] = power[name] + kw if name in power else kw
    return power
