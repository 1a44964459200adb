"""The verified savings of a site: its statements with the days, prices and factors that they follow from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from app.domain import savings
from app.domain.attribution import Causes, EnergySplit, causes
from app.domain.baseline import Baseline, Bools, Conditions, Floats, NoBaseline, Reason
from app.domain.emissions import EmissionChoice, EmissionFactor, emission_factor
from app.domain.indicators import prices_per_kwh
from app.domain.joint import Statement
from app.domain.measure import Measure
from app.domain.normalised import NormalisedPue, normalised_pue
from app.domain.period import Period, midnight
from app.domain.savings import LEAST_COUNTED_RATIO, Course, Days, Range, Reporting, Saving
from app.domain.tariff import Tariff
from app.errors import NotFound


@dataclass(frozen=True)
class Verified:
    """A statement with what it follows from."""

    statement: Statement
    baseline: Baseline | NoBaseline
    period: Reporting
    saving: Saving

    @classmethod
    def of(cls, statement: Statement, baseline: Baseline | NoBaseline, period: Reporting) -> Verified:
        """The statement, verified."""
        return cls(statement, baseline, period, savings.verify(baseline, period))

    @property
    def course(self) -> Course | None:
        """The cumulative saving; None where there is no figure."""
        if isinstance(self.baseline, NoBaseline) or self.saving.energy_kwh is None:
            return None
        return savings.cusum(self.baseline, self.period)

    def within(self, start: date, end: date) -> Verified | None:
        """The same of the days that lie in a span; None where none do."""
        spans = [(max(a, start), min(b, end)) for a, b in self.statement.spans if a < end and b > start]
        if not spans:
            return None
        mask = in_spans(self.period.rows.local_days, spans)
        part = self.period.take(mask, days_in(spans))
        return Verified.of(replace(self.statement, spans=tuple(spans)), self.baseline, part)

    def months(self) -> list[tuple[date, Saving]]:
        """Its calendar months, by their first day."""
        found = []
        first = self.statement.spans[0][0].replace(day=1)
        while first < self.statement.spans[-1][1]:
            following = next_month(first)
            part = self.within(first, following)
            if part is not None:
                found.append((first, part.saving))
            first = following
        return found


@dataclass(frozen=True)
class PlantBaseline:
    """What the plant of a site is held against, and all its days."""

    baseline: Baseline | NoBaseline
    reference: Conditions
    """Days that it was fitted to."""
    rows: Conditions

    def normalised(self, start: date, end: date) -> NormalisedPue:
        """PUE of a span of local days under the conditions of the reference."""
        return normalised_pue(self.baseline, self.reference, self.between(start, end), (end - start).days)

    def months(self, until: date, count: int) -> list[tuple[date, NormalisedPue]]:
        """Calendar months up to a day, by their first day; of the last one what is over."""
        first = (until - timedelta(days=1)).replace(day=1)
        found = []
        for _ in range(count):
            found.append((first, self.normalised(first, min(next_month(first), until))))
            first = (first - timedelta(days=1)).replace(day=1)
        return [one for one in reversed(found) if one[1].measured_pue is not None]

    def causes(
        self, before: EnergySplit, after: EnergySplit, spans: tuple[tuple[date, date], tuple[date, date]]
    ) -> Causes | tuple[Reason, ...]:
        """Why the PUE changed between two periods, by the whole local days that lie in them."""
        first, second = (self.between(*span) for span in spans)
        return causes(self.baseline, before, after, (first, second))

    def between(self, start: date, end: date) -> Conditions:
        """The days of a span."""
        return self.rows.take(in_spans(self.rows.local_days, [(start, end)]))


@dataclass(frozen=True)
class SiteSavings:
    """All that is known about the savings of a site."""

    until: date
    """First local day of which nothing is said yet."""
    measures: tuple[Measure, ...]
    """Those in force."""
    verified: tuple[Verified, ...]
    plant: PlantBaseline

    @property
    def total_kwh(self) -> Range | None:
        """Savings of all statements that count, each kilowatt-hour once. [kWh]"""
        return savings.total(one.saving for one in self.verified if one.statement.in_total)


def whole_days(period: Period, zone: ZoneInfo) -> tuple[date, date]:
    """The whole local days of a period, half-open; none where both are the same."""
    first, last = (at.astimezone(zone) for at in (period.start, period.end))
    start = first.date() if midnight(first.date(), zone) == period.start else first.date() + timedelta(days=1)
    return start, max(start, last.date())


def next_month(first: date) -> date:
    """First day of the month after."""
    return (first.replace(day=1) + timedelta(days=32)).replace(day=1)


def in_spans(local_days: Days, spans: Sequence[tuple[date, date]]) -> Bools:
    """Rows that lie in one of several half-open spans of days."""
    days = local_days.astype("datetime64[D]")
    inside = [(days >= np.datetime64(start)) & (days < np.datetime64(end)) for start, end in spans]
    return np.any(inside, axis=0) if inside else np.zeros(len(days), np.bool_)


def days_in(spans: Sequence[tuple[date, date]]) -> int:
    """Days of half-open spans that do not overlap."""
    return sum((end - start).days for start, end in spans)


def day_means(
    values: pd.Series[float], local_days: Days, zone: ZoneInfo, least_ratio: float = LEAST_COUNTED_RATIO
) -> Floats:
    """Mean over each local day of values by 15-minute interval; NaN where too little of the day is known.

    Parameters
    ----------
    values : Series of float64
        Indexed by interval start, UTC. NaN: not known.
    local_days : datetime64[D], shape (n,)
        Days that are wanted.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    days = pd.DatetimeIndex(values.index).tz_convert(zone).tz_localize(None).normalize()
    wanted = pd.DatetimeIndex(local_days.astype("datetime64[s]"))
    grouped = values.groupby(days)
    known = (grouped.count() / grouped.size()).reindex(wanted)
    means = grouped.mean().reindex(wanted)
    return np.asarray(means.where(known >= least_ratio), np.float64)


def with_power(rows: Conditions, overhead_kw: Floats) -> Conditions:
    """Conditions at another measurement boundary: days on which its power is not known are left out."""
    known = np.isfinite(overhead_kw)
    left_out = {**rows.left_out, **({"boundary_not_covered": int((~known).sum())} if not known.all() else {})}
    return replace(rows.take(known), overhead_kw=overhead_kw[known], left_out=left_out)


def daily_prices(
    tariffs: Sequence[Tariff], rows: Conditions, zone: ZoneInfo, energy_kwh: pd.Series[float] | None = None
) -> Floats:
    """Price of the energy of each day, shape (n,). [currency/kWh] NaN where a part of it has no tariff.

    Parameters
    ----------
    energy_kwh : Series of float64, optional
        Energy in the boundary by 15-minute interval, indexed by its start in UTC: each hour's price counts
        with it. [kWh] NaN: not known. Days of which less than half is known, and all days without it, have
        the plain mean of their hours.
    """
    if not len(rows):
        return np.zeros(0)
    first, last = (midnight(day, zone) for day in (_day(rows, 0), _day(rows, -1) + timedelta(days=1)))
    index = pd.date_range(first, last, freq="15min", inclusive="left").tz_convert("UTC")
    prices = prices_per_kwh(tariffs, index, zone)
    plain = day_means(prices, rows.local_days, zone, 1.0)
    if energy_kwh is None:
        return plain
    energy = energy_kwh.reindex(index)
    paid = day_means(prices * energy, rows.local_days, zone)
    used = day_means(energy, rows.local_days, zone)
    with np.errstate(divide="ignore", invalid="ignore"):
        weighted = paid / used
    is_known = np.isfinite(weighted) & np.isfinite(plain) & (used > 0)
    return np.where(is_known, weighted, plain)


def daily_factors(factors: Iterable[EmissionFactor], choice: EmissionChoice, rows: Conditions) -> Floats:
    """Emission factor of the year of each day, shape (n,). [kgCO2e/kWh] NaN where there is none."""
    known, every = dict[int, float](), tuple(factors)
    years = rows.local_days.astype("datetime64[Y]").astype(np.int64) + 1970
    for year in set(years.tolist()):
        try:
            known[year] = emission_factor(every, choice, year).kg_per_kwh
        except NotFound:  # the saving has no emissions then
            known[year] = np.nan
    return np.array([known[year] for year in years.tolist()], np.float64)


def _day(rows: Conditions, at: int) -> date:
    found: date = rows.local_days[at].astype("datetime64[D]").item()
    return found
