"""Maximum demand: the highest power bought in a month, by which part of a bill is reckoned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pandas as pd

from app.domain.capacity import INTERVALS_PER_HOUR
from app.domain.limits import is_too_low
from app.domain.period import QUARTER_HOUR_S, Period, Step, midnight, starts
from app.domain.tariff import Tariff

LEAST_COVERAGE = 0.5
"""An interval of which less is covered says nothing about its power. [0..1]"""


@dataclass(frozen=True, slots=True)
class Demand:
    """Highest 15-minute mean power of a local month, or of a tariff's days in it."""

    month: date
    """First day of the month."""
    first: date
    last: date
    """Days of the month by which it is reckoned: those of the period and of one tariff, both included."""
    tariff: Tariff | None
    """None: no tariff holds on these days."""
    power_kw: float | None
    """None: no interval is known well enough. [kW]"""
    at: datetime | None
    """Start of the interval with that power. UTC"""
    coverage_ratio: float
    """Share of the intervals whose power is known; below 1 the power is the least that it was. [0..1]"""
    is_whole: bool
    """Whether all days of the tariff in the month are over and in the period."""
    charge: float | None = None
    """price x power x the tariff's days / days of the month; of a month that runs, by its power so far.
    [currency] None: no price, too little is known, or the period begins later than these days."""


def demands(
    bought_kwh: pd.Series[float],
    coverage_ratio: pd.Series[float],
    tariffs: Sequence[Tariff],
    period: Period,
    zone: ZoneInfo,
    *,
    minimum_coverage_ratio: float,
) -> tuple[Demand, ...]:
    """Maximum demand of every local month that a period touches, by tariff where one changes within a month.

    Parameters
    ----------
    bought_kwh, coverage_ratio : Series of float64, shape (n,)
        Energy bought in the covered part of each 15-minute interval [kWh], and that part [0..1], indexed by
        the interval's start in UTC; intervals of which nothing is known may be absent.
    tariffs : sequence of Tariff
        Where two hold on one day, the later `valid_from` counts.
    period : Period
        What has passed of the period that is asked for.
    """
    power_kw = (bought_kwh * INTERVALS_PER_HOUR / coverage_ratio).where(coverage_ratio >= LEAST_COVERAGE)
    found = []
    for start, _ in starts(period, Step.MONTH, zone):
        month = start.astimezone(zone).date().replace(day=1)
        for tariff, first, stop in _by_tariff(tariffs, month, _next_month(month)):
            whole = Period(midnight(first, zone), midnight(stop, zone))
            if whole.start < period.end and period.start < whole.end:
                found.append(_demand(power_kw, month, tariff, whole, period, zone, minimum_coverage_ratio))
    return tuple(found)


def _next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _by_tariff(tariffs: Sequence[Tariff], first: date, stop: date) -> list[tuple[Tariff | None, date, date]]:
    """Days from `first` up to `stop`, parted where the tariff changes: tariff, first day, the day after."""
    turns = {d for t in tariffs for d in (t.valid_from, t.valid_to) if d is not None and first < d < stop}
    parts: list[tuple[Tariff | None, date, date]] = []
    for start, end in pairwise([first, *sorted(turns), stop]):
        tariff = _holding(tariffs, start)
        if parts and parts[-1][0] is tariff:
            parts[-1] = (tariff, parts[-1][1], end)
        else:
            parts.append((tariff, start, end))
    return parts


def _holding(tariffs: Sequence[Tariff], on: date) -> Tariff | None:
    holding = [t for t in tariffs if t.valid_from <= on and (t.valid_to is None or on < t.valid_to)]
    return max(holding, key=lambda t: t.valid_from, default=None)


def _demand(
    power_kw: pd.Series[float],
    month: date,
    tariff: Tariff | None,
    whole: Period,
    period: Period,
    zone: ZoneInfo,
    least: float,
) -> Demand:
    """The demand of a tariff's days in a month, `whole`, as far as the period knows them."""
    part = Period(max(whole.start, period.start), min(whole.end, period.end))
    inside = power_kw[(power_kw.index >= part.start) & (power_kw.index < part.end)].dropna()
    covered = min(len(inside) / (part.duration_s / QUARTER_HOUR_S), 1.0)
    peak_kw = float(inside.max()) if len(inside) else None
    charge = None
    if peak_kw is not None and part.start == whole.start and not is_too_low(covered, least):
        charge = _charge(tariff, peak_kw, whole, month, zone)
    return Demand(
        month,
        part.start.astimezone(zone).date(),
        _last_day(part, zone),
        tariff,
        peak_kw,
        pd.Timestamp(str(inside.idxmax())).to_pydatetime() if len(inside) else None,
        covered,
        part == whole,
        charge,
    )


def _last_day(period: Period, zone: ZoneInfo) -> date:
    return (period.end - timedelta(microseconds=1)).astimezone(zone).date()


def _charge(
    tariff: Tariff | None, peak_kw: float, whole: Period, month: date, zone: ZoneInfo
) -> float | None:
    if tariff is None or tariff.demand_price_per_kw_month is None:
        return None
    days = (_last_day(whole, zone) - whole.start.astimezone(zone).date()).days + 1
    share = days / (_next_month(month) - month).days
    return tariff.demand_price_per_kw_month * max(peak_kw, 0.0) * share
