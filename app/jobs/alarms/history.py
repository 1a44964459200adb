"""Figures of a site's past, as the alarm rules would have seen them at the end of every quarter-hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain import capacity, forecast, pue
from app.domain.alarms import observation
from app.domain.alarms.alarm import WINDOWED, Indicator, Observation, Rule, Severity, Side, Subject
from app.domain.alarms.observation import WindowFigures
from app.domain.limits import LimitProfile
from app.domain.period import FIXED, QUARTER_HOUR, QUARTER_HOUR_S, Period, Step, window
from app.domain.pue import Totals
from app.domain.site import Site
from app.jobs.alarms.seen import limit_of
from app.jobs.alarms.watch import YearFigures
from app.store import drifts, energy, gauges, outlook, usage
from app.store.engine import Connection
from app.store.sites import Stored

_HOUR = timedelta(hours=1)
_ROUNDING = 1e-6

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def ends(period: Period) -> Iterator[datetime]:
    """End of every quarter-hour of a period."""
    at = period.start + QUARTER_HOUR
    while at <= period.end:
        yield at
        at += QUARTER_HOUR


@dataclass(frozen=True)
class Windows:
    """Running sums of a site's quarter-hours, so that any window is a difference of two."""

    site: Site
    parts: Sequence[pue.Boundary]
    start: datetime
    sums: Floats
    """Facility, IT, covered seconds and estimated energy before each quarter-hour."""

    @classmethod
    def load(cls, connection: Connection, site: Site, number: int, period: Period) -> Windows:
        """The period and the year before it.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        start = window("12mo", period.start, site.zone).start
        span = Period(start, period.end)
        series = energy.site_series(connection, number, site, "", span, Step.QUARTER_HOUR)
        cells = np.zeros((int(span.duration_s) // QUARTER_HOUR_S + 1, 4))
        for at, t in series:
            slot = int((at - start).total_seconds()) // QUARTER_HOUR_S + 1
            cells[slot] = (t.facility_kwh, t.it_kwh, t.covered_s, t.estimated_kwh)
        return cls(site, pue.every_boundary(site), start, cells.cumsum(axis=0))

    def series(self, rule: Rule, period: Period) -> Floats | None:
        """What a rule watches, at the end of every quarter-hour; None where only each window can tell."""
        if rule.indicator is Indicator.POWER_RATIO_JUMP:
            return self._pues("15m", period) - self._pues("24h", period)
        if rule.window not in FIXED:
            return None
        if rule.indicator is Indicator.PUE:
            return self._pues(rule.window, period)
        _, it_kwh, covered_s, _ = self._over(rule.window, period)
        if rule.indicator is not Indicator.IT_LOAD_RATIO:
            return np.asarray(covered_s / FIXED[rule.window].total_seconds(), np.float64)
        capacity_kw = self.site.design.it_capacity_kw or math.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(it_kwh / (covered_s / 3600) / capacity_kw, np.float64)

    def rolling(self, rule: Rule, period: Period) -> Floats:
        """The same of a window whose length depends on the calendar."""
        return np.array([self._of_window(rule, at) for at in ends(period)], np.float64)

    def _of_window(self, rule: Rule, at: datetime) -> float:
        found = self.figures(window(rule.window, at, self.site.zone))
        if rule.indicator is Indicator.PUE:
            return math.nan if found.pue is None else found.pue
        if rule.indicator is Indicator.COVERAGE_RATIO:
            return found.coverage_ratio
        capacity_kw = self.site.design.it_capacity_kw
        return found.it_kw / capacity_kw if found.it_kw is not None and capacity_kw else math.nan

    def _pues(self, name: str, period: Period) -> Floats:
        facility_kwh, it_kwh, *_ = self._over(name, period)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(facility_kwh / it_kwh, np.float64)

    def _over(self, name: str, period: Period) -> Floats:
        """The sums over a rolling window at the end of every quarter-hour, shape (4, quarter-hours)."""
        count = int(period.duration_s) // QUARTER_HOUR_S
        last = len(self.sums) - count + np.arange(count)
        first = np.maximum(last - FIXED[name] // QUARTER_HOUR, 0)
        return np.asarray((self.sums[last] - self.sums[first]).T, np.float64)

    def figures(self, period: Period) -> WindowFigures:
        """What is known over a window."""
        first = max(int((period.start - self.start).total_seconds()) // QUARTER_HOUR_S, 0)
        last = int((period.end - self.start).total_seconds()) // QUARTER_HOUR_S
        facility, it, covered_s, estimated = (float(x) for x in self.sums[last] - self.sums[first])
        totals = Totals(facility, it, {}, covered_s, estimated)
        bar = pue.bar(self.site, self.parts, period.start, period.end, totals)
        reason = "" if bar.pue is not None else "not known"
        return WindowFigures(period, bar.pue, reason, facility, it, bar.coverage_ratio, bar.estimated_ratio)


@dataclass(frozen=True)
class SubjectSeries:
    """A figure of one subject at the end of every quarter-hour of a period."""

    subject: Subject
    values: Floats
    """NaN: not known."""
    reason: str
    """Why not, where it is not."""

    def observation(self, index: int, at: datetime, limit_pue: float | None) -> Observation:
        """What a rule sees at the end of one quarter-hour."""
        value = float(self.values[index])
        if math.isnan(value):
            return Observation(at, reason=self.reason, limit=limit_pue)
        return Observation(at, value, limit=limit_pue)


def crossings(rule: Rule, values: Floats, lowest_limit_pue: float | None) -> Bools:
    """Where a figure may be beyond a threshold; where it is not, a rule that is calm stays so."""
    found = [rule.threshold(severity, lowest_limit_pue) for severity in Severity]
    thresholds = [threshold for threshold in found if threshold is not None]
    if not thresholds:
        return np.zeros(len(values), np.bool_)
    if rule.side is Side.ABOVE:
        return np.asarray(values > min(thresholds) - _ROUNDING, np.bool_)
    return np.asarray(values < max(thresholds) + _ROUNDING, np.bool_)


class SubjectSeriesLoader:
    """Loads the figures that do not follow from the windows: feeds, rooms, the year's end."""

    def __init__(
        self,
        connection: Connection,
        stored: Stored,
        site: Site,
        period: Period,
        profiles: Mapping[str, LimitProfile],
    ) -> None:
        self._connection, self._stored, self._site = connection, stored, site
        self._period, self._profiles = period, profiles

    def of(self, indicator: Indicator) -> list[SubjectSeries]:
        """What an indicator said of each of its subjects; empty where history cannot tell.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        if indicator is Indicator.FEED_LOAD_RATIO:
            return self._feeds()
        if indicator in observation.GAUGE_ROLES:
            return self._gauges(indicator)
        if indicator is Indicator.PLANT_DRIFT_RATIO:
            return list(self._drift())
        if indicator is Indicator.YEAR_END_PUE:
            return [self._year(lambda year: year.pue)]
        if indicator is Indicator.OVERHEAD_BUDGET_USED_RATIO:
            return [self._year(lambda year: year.used_ratio)]
        return []

    def _feeds(self) -> list[SubjectSeries]:
        if not self._site.is_rated:
            return []
        span = Period(self._period.start - _HOUR, self._period.end)
        points = usage.capacity_points(self._site)
        table = usage.frame(self._connection, self._stored, points, span)
        skipped = capacity.INTERVALS_PER_HOUR
        return [
            self._series("+".join(meters), np.asarray(ratios, np.float64)[skipped:], "load is not known")
            for meters, ratios in capacity.peak_ratios(self._site, table).items()
        ]

    def _gauges(self, indicator: Indicator) -> list[SubjectSeries]:
        points = observation.gauge_points(self._site, indicator)
        if not points:
            return []
        span = Period(self._period.start - gauges.FRESH, self._period.end)
        table = gauges.series(self._connection, self._stored, points, span)
        newest = table.ffill(limit=gauges.FRESH // QUARTER_HOUR - 2)
        skipped = gauges.FRESH // QUARTER_HOUR
        return [
            self._series(p.id, np.asarray(newest[p.id], np.float64)[skipped:], "no reading") for p in points
        ]

    def _drift(self) -> Iterator[SubjectSeries]:
        """What each day knew of drift from the days before it."""
        found = drifts.of_site(self._connection, self._stored, self._site, self._period.end)
        if isinstance(found, drifts.NotWatched):
            return
        days = [at.astimezone(self._site.zone).date() for at in ends(self._period)]
        known = {day: found.course.before(day) for day in set(days)}
        values = np.array([known[day] for day in days], np.float64)
        yield self._series("", values, "the level of the plant is not known")

    def _year(self, figure: Callable[[YearFigures], float | None]) -> SubjectSeries:
        """The figure as it stood on each day."""
        values = []
        for at in ends(self._period):
            known = self._years.get(at.astimezone(self._site.zone).date())
            value = None if known is None else figure(known)
            values.append(math.nan if value is None else value)
        return self._series("", np.array(values), "history is too short")

    @cached_property
    def _years(self) -> dict[date, YearFigures]:
        """How the year went, by local day, from the days before it."""
        site, profiles = self._site, dict(self._profiles)
        history = outlook.days(self._connection, self._stored, site, self._period.end)
        found = {}
        for day, at in {at.astimezone(site.zone).date(): at for at in ends(self._period)}.items():
            before = history.loc[: pd.Timestamp(day) - pd.Timedelta(days=1)]
            if not forecast.is_too_early(pd.DatetimeIndex(before.index), day):
                year = outlook.from_days(self._stored, site, day.year, profiles, before)
                found[day] = YearFigures.of(year, limit_of(self._stored, profiles, site, at), at)
        return found

    def _series(self, name: str, values: Floats, reason: str) -> SubjectSeries:
        return SubjectSeries(Subject(self._site.id, name), values, reason)


def course(
    connection: Connection,
    stored: Stored,
    site: Site,
    rule: Rule,
    subject: str,
    period: Period,
    profiles: Mapping[str, LimitProfile],
) -> list[tuple[datetime, float | None]]:
    """The figure that a rule watches of one subject, at the end of every quarter-hour of a period.

    None where it was not known; an empty list where history cannot tell it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if rule.indicator in WINDOWED or rule.indicator is Indicator.POWER_RATIO_JUMP:
        past = Windows.load(connection, site, stored.site_id[site.id], period)
        values = past.series(rule, period)
        found = past.rolling(rule, period) if values is None else values
    else:
        loader = SubjectSeriesLoader(connection, stored, site, period, profiles)
        of_subject = [one for one in loader.of(rule.indicator) if one.subject.name == subject]
        if not of_subject:
            return []
        found = of_subject[0].values
    known = (float(value) if math.isfinite(value) else None for value in found)
    return list(zip(ends(period), known, strict=False))
