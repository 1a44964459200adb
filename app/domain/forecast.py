"""Where the year will end, when a budget will be used up, when a capacity will be reached.

One model: least squares on the site's own days, with a level, the days of the week and, where the
history holds a whole cycle, a trend and two harmonics of the year. For the PUE of a year it is fitted to
the overhead per IT energy and to the logarithm of the IT energy. Intervals grow with the noise of the
days, with its persistence from day to day, and with the uncertainty of the coefficients; they assume
that the rest of the year follows the ways of the past. Where the history is too short for an honest
figure there is none, and the reason says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.errors import SeriesError

Floats = npt.NDArray[np.float64]

LEAST_DAYS = 28
"""Days of history without which nothing is said."""
CYCLE_DAYS = 330
"""Days of history that count as a whole year's cycle."""
SHORT_REACH = 3
"""Without a cycle, at most one day is projected for so many days of history."""
PERSISTENCE_DAYS = 28
"""Days over which one day's deviation may still be felt."""
TROPICAL_YEAR_DAYS = 365.2425
HARMONICS = 2
WEEKDAYS = 6
"""Coefficients of the days of the week; the seventh follows from them."""
EXHAUSTION_DAYS = 90
"""Days of history needed to say when a capacity is reached."""
EXHAUSTION_REACH = 5
"""A capacity is looked for at most so many histories ahead."""
LONGEST_REACH_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Projection:
    """PUE of a calendar year: its measured days, and the others as the site's own history suggests."""

    year: int
    measured_days: int
    projected_days: int
    """Days to come, and past days that are not covered."""
    pue: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.9
    """Probability that the interval from `low` to `high` is meant to have."""
    facility_kwh: float | None = None
    it_kwh: float | None = None
    seasonal: bool = False
    """Whether the season is in the model."""
    reason: str | None = None
    """Why there is no figure, where there is none."""

    def chance_above(self, limit_pue: float) -> float | None:
        """Probability that the year ends above a limit; None where there is no projection. [0..1]"""
        if self.pue is None or self.high is None:
            return None
        spread = (self.high - self.pue) / _quantile(self.level)
        if spread == 0:
            return float(self.pue > limit_pue)
        return 1 - NormalDist(self.pue, spread).cdf(limit_pue)


@dataclass(frozen=True, slots=True)
class Budget:
    """Overhead energy that a limit allows in a year."""

    limit_pue: float
    used_kwh: float
    """Overhead of the measured days. [kWh]"""
    margin_kwh: float
    """Overhead that the IT energy measured so far allows, less what was used; below zero: above the limit."""
    allowed_kwh: float | None
    """(limit - 1) x IT energy of the whole year. [kWh] None without a projection."""
    left_kwh: float | None
    """What may still be used this year; below zero: crossed. [kWh]"""
    crossed_in: date | None
    """First day of the month in which the overhead of the year passes what is allowed; None: not."""


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """When a load reaches a capacity."""

    capacity_kw: float
    on: date | None = None
    earliest: date | None = None
    latest: date | None = None
    """None though `earliest` is known: it may as well never happen within reach."""
    level: float = 0.9
    reason: str | None = None


@dataclass(frozen=True)
class _Fit:
    """Least squares on days, for one or more columns at once."""

    origin: pd.Timestamp
    seasonal: bool
    trend: bool
    weights: Floats
    """Coefficients, shape (features, columns)."""
    inverse: Floats
    """(X'X)^-1, shape (features, features)."""
    noise: Floats
    """Long-run covariance of the daily residuals, shape (columns, columns)."""
    free: float
    """Equivalent degrees of freedom of `noise`: those of the window, less the slow coefficients."""

    def features(self, days: pd.DatetimeIndex) -> Floats:
        return _features(days, self.origin, seasonal=self.seasonal, trend=self.trend)

    def predict(self, days: pd.DatetimeIndex) -> Floats:
        """Expected values, shape (days, columns)."""
        expected: Floats = self.features(days) @ self.weights
        return expected

    def critical(self, level: float) -> float:
        """Standard deviations on either side that hold the probability `level` (Student, to first order)."""
        z = _quantile(level)
        return z * (1 + (z**2 + 1) / (4 * self.free))

    def deviation_of(self, days: pd.DatetimeIndex, effect: Floats) -> float:
        """Standard deviation of a figure that days which were not measured enter linearly.

        Parameters
        ----------
        effect : float64, shape (days, columns)
            Change of the figure per change of each day's value.
        """
        total = effect.T @ self.features(days)
        spread = effect.T @ effect + total @ self.inverse @ total.T
        return math.sqrt(max(float((self.noise * spread).sum()), 0.0))

    def line_deviation(self, days: pd.DatetimeIndex) -> Floats:
        """Standard deviation of the expected value of the first column, shape (days,)."""
        rows = self.features(days)
        variance = np.einsum("ij,jk,ik->i", rows, self.inverse, rows) * self.noise[0, 0]
        deviation: Floats = np.sqrt(np.maximum(variance, 0.0))  # rounding may leave it just below zero
        return deviation


def project_year(
    days: pd.DataFrame,
    year: int,
    *,
    minimum_coverage_ratio: float = 0.9,
    level: float = 0.9,
) -> Projection:
    """PUE of a calendar year with an interval.

    Parameters
    ----------
    days : DataFrame
        Indexed by local day (naive ``datetime64`` at midnight); columns facility_kwh, it_kwh [kWh] over
        the covered part, and coverage_ratio. Only whole days; the site's whole history.
    year : int
        Local calendar year.
    minimum_coverage_ratio : float
        Days covered less are projected like days to come; the others are scaled to the whole day.
    level : float
        Probability of the interval.

    Returns
    -------
    Projection
        `pue` None with a `reason` where the history is too short.

    Raises
    ------
    SeriesError
        If the index is not made of whole naive days in order.
    """
    first, last = date(year, 1, 1), date(year, 12, 31)
    return project_span(days, first, last, minimum_coverage_ratio=minimum_coverage_ratio, level=level)


def project_span(
    days: pd.DataFrame,
    first: date,
    last: date,
    *,
    minimum_coverage_ratio: float = 0.9,
    level: float = 0.9,
) -> Projection:
    """The same for the days from `first` to `last` of one year, both included."""
    known = _whole_days(days, minimum_coverage_ratio)
    wanted = pd.date_range(first, last)
    year = first.year
    measured = known.loc[known.index.isin(wanted)]
    missing = wanted[~wanted.isin(known.index)]
    reason = _too_short(known, missing)
    if reason:
        return Projection(year, len(measured), len(missing), level=level, reason=reason)
    fit = _fitted(known)
    ahead = _expected(fit, missing)
    overhead, it = (measured.sum() + ahead.sum()).to_numpy()
    pue = 1 + float(overhead / it)
    half = fit.critical(level) * fit.deviation_of(missing, _effect(ahead, pue, float(it)))
    return Projection(
        year,
        len(measured),
        len(missing),
        pue,
        max(pue - half, 1.0),
        pue + half,
        level,
        float(overhead + it),
        float(it),
        fit.seasonal,
    )


@dataclass(frozen=True, slots=True)
class YearPoint:
    """PUE of a year from its first day up to a day, with the interval of what is projected of it."""

    day: date
    """Last day that is in it."""
    pue: float
    low: float
    high: float
    overhead_kwh: float
    """From the first day on. [kWh]"""
    is_measured: bool
    """Whether no day of it is projected."""


def year_course(
    days: pd.DataFrame, year: int, *, minimum_coverage_ratio: float = 0.9, level: float = 0.9
) -> tuple[YearPoint, ...]:
    """The PUE of a year month by month, the last point being that of :func:`project_year`.

    Parameters
    ----------
    days : DataFrame
        As for :func:`project_year`.

    Returns
    -------
    tuple of YearPoint
        One for each month of which something is known or projected; measured months only, where the history
        is too short for a projection.
    """
    known = _whole_days(days, minimum_coverage_ratio)
    wanted = pd.date_range(date(year, 1, 1), date(year, 12, 31))
    measured = known.loc[known.index.isin(wanted)]
    missing = wanted[~wanted.isin(known.index)]
    fit = None if _too_short(known, missing) else _fitted(known)
    ahead = _expected(fit, missing) if fit is not None else measured.iloc[:0]
    found = []
    for last in pd.date_range(wanted[0], wanted[-1], freq="ME"):
        past, coming = measured.loc[:last], ahead.loc[:last]
        if fit is None and (not len(past) or past.index[-1] < last - pd.Timedelta(days=31)):
            continue
        overhead, it = (past.sum() + coming.sum()).to_numpy()
        pue = 1 + float(overhead / it)
        half = 0.0
        if fit is not None and len(coming):
            shown = pd.DatetimeIndex(coming.index)
            half = fit.critical(level) * fit.deviation_of(shown, _effect(coming, pue, float(it)))
        found.append(
            YearPoint(last.date(), pue, max(pue - half, 1.0), pue + half, float(overhead), not len(coming))
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """Expected highest power of a day, with its interval. [kW]"""

    day: date
    expected_kw: float
    low_kw: float
    high_kw: float


def growth(
    peak_kw: pd.Series[float], *, days_ahead: int = 365, level: float = 0.9
) -> tuple[GrowthPoint, ...]:
    """The line of :func:`exhaustion` by month, into the days to come; empty where the history is too short.

    Parameters
    ----------
    peak_kw : Series of float64, shape (n,)
        As for :func:`exhaustion`.
    """
    known = peak_kw.dropna()
    _check_days(known.index)
    if len(known) < EXHAUSTION_DAYS:
        return ()
    fit = _fit(known.to_frame(), trend=True)
    ahead = pd.date_range(known.index[-1] + timedelta(days=1), periods=days_ahead)[::30]
    expected = fit.predict(ahead)[:, 0]
    band = fit.critical(level) * fit.line_deviation(ahead)
    return tuple(
        GrowthPoint(at.date(), float(e), float(e - b), float(e + b))
        for at, e, b in zip(ahead, expected, band, strict=True)
    )


def _expected(fit: _Fit, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Overhead and IT energy of days that were not measured. [kWh]"""
    share, log_it = fit.predict(days).T
    it = np.exp(log_it)
    return pd.DataFrame({"overhead_kwh": np.maximum(share, 0.0) * it, "it_kwh": it}, index=days)


def _effect(ahead: pd.DataFrame, pue: float, it_kwh: float) -> Floats:
    """Change of the year's PUE per change of each day's overhead share and log IT energy."""
    overhead, it = ahead["overhead_kwh"].to_numpy(), ahead["it_kwh"].to_numpy()
    effect: Floats = np.stack([it, overhead - (pue - 1) * it], axis=1) / it_kwh
    return effect


def overhead_budget(
    days: pd.DataFrame, year: int, limit_pue: float, *, minimum_coverage_ratio: float = 0.9
) -> Budget:
    """Overhead energy left in a year under a limit, and the month in which it will be used up.

    Parameters
    ----------
    days : DataFrame
        As for :func:`project_year`.
    limit_pue : float
        The limit.
    """
    known = _whole_days(days, minimum_coverage_ratio)
    wanted = pd.date_range(date(year, 1, 1), date(year, 12, 31))
    measured = known.loc[known.index.isin(wanted)]
    used, it_so_far = (float(total) for total in measured.sum())
    margin = (limit_pue - 1) * it_so_far - used
    missing = wanted[~wanted.isin(known.index)]
    if _too_short(known, missing):
        return Budget(limit_pue, used, margin, None, None, None)
    course = measured.reindex(wanted)
    if len(missing):
        course.loc[missing] = _expected(_fitted(known), missing)
    allowed = (limit_pue - 1) * float(course["it_kwh"].sum())
    beyond = wanted[course["overhead_kwh"].cumsum() > allowed * (1 + 1e-12)]
    crossed = beyond[0].date().replace(day=1) if len(beyond) else None
    return Budget(limit_pue, used, margin, allowed, allowed - used, crossed)


def exhaustion(peak_kw: pd.Series[float], capacity_kw: float, *, level: float = 0.9) -> Exhaustion:
    """Date on which a growing load reaches its capacity.

    Parameters
    ----------
    peak_kw : Series of float64, shape (n,)
        Highest power of each local day, indexed like `days` of :func:`project_year`. [kW] NaN: not known.
    capacity_kw : float
        Usable capacity. [kW]
    level : float
        Probability of the interval from `earliest` to `latest`.

    Returns
    -------
    Exhaustion
        `on` None with a `reason` where it does not happen within reach or the history is too short.
    """
    known = peak_kw.dropna()
    _check_days(known.index)
    reached = known.index[known >= capacity_kw]
    if len(reached):
        first = pd.Timestamp(str(reached[0])).date()
        return Exhaustion(capacity_kw, first, first, first, level, "reached already")
    if len(known) < EXHAUSTION_DAYS:
        return Exhaustion(
            capacity_kw, level=level, reason=f"{len(known)} days of history; {EXHAUSTION_DAYS} are needed"
        )
    fit = _fit(known.to_frame(), trend=True)
    span = (known.index[-1] - known.index[0]).days + 1
    reach = min(EXHAUSTION_REACH * span, LONGEST_REACH_DAYS)
    ahead = pd.date_range(known.index[-1] + timedelta(days=1), periods=reach)
    expected = fit.predict(ahead)[:, 0]
    band = fit.critical(level) * fit.line_deviation(ahead)
    on, earliest, latest = (
        _first(ahead, line >= capacity_kw) for line in (expected, expected + band, expected - band)
    )
    reason = None if on else f"not within {reach} days at the current growth"
    return Exhaustion(capacity_kw, on, earliest, latest, level, reason)


def _first(days: pd.DatetimeIndex, reached: npt.NDArray[np.bool_]) -> date | None:
    return days[int(np.argmax(reached))].date() if reached.any() else None


def _whole_days(days: pd.DataFrame, minimum_coverage_ratio: float) -> pd.DataFrame:
    """Overhead and IT energy of the days covered well enough, scaled to the whole day."""
    _check_days(days.index)
    good = days.loc[(days["coverage_ratio"] >= minimum_coverage_ratio) & (days["it_kwh"] > 0)]
    it = good["it_kwh"] / good["coverage_ratio"]
    overhead = good["facility_kwh"] / good["coverage_ratio"] - it
    return pd.DataFrame({"overhead_kwh": overhead, "it_kwh": it}).dropna()


def _check_days(index: pd.Index) -> None:
    days = pd.DatetimeIndex(index)
    if days.tz is not None or not days.is_monotonic_increasing or not days.is_unique:
        raise SeriesError("days must be naive local dates in order, each once")
    instants = days.to_numpy()
    if (instants != instants.astype("datetime64[D]")).any():
        raise SeriesError("days must stand at midnight; sum the intervals of each local day first")


def _too_short(known: pd.DataFrame, missing: pd.DatetimeIndex) -> str | None:
    if not len(missing) and len(known):
        return None
    if len(known) < LEAST_DAYS:
        return f"{len(known)} days of history; {LEAST_DAYS} are needed"
    if not _has_cycle(known.index) and len(missing) * SHORT_REACH > len(known):
        return (
            f"{len(known)} days of history do not show the season; {CYCLE_DAYS} are needed "
            f"to project {len(missing)} days"
        )
    return None


def is_too_early(index: pd.DatetimeIndex, on: date) -> bool:
    """Whether the year of a day cannot be projected from the days before it, whatever they hold.

    Parameters
    ----------
    index : DatetimeIndex
        Days of history before `on`, as for :func:`project_year`.
    """
    if len(index) < LEAST_DAYS:
        return True
    left = (date(on.year, 12, 31) - on).days + 1
    span = (index[-1] - index[0]).days + 1
    return span < CYCLE_DAYS and left * SHORT_REACH > len(index)


def _has_cycle(index: pd.Index) -> bool:
    """Whether the days hold a year's cycle, without a hole that hides a season."""
    days = pd.DatetimeIndex(index)
    months = np.unique(np.asarray(days.month))
    return (days[-1] - days[0]).days + 1 >= CYCLE_DAYS and len(months) >= 11 and len(days) >= CYCLE_DAYS / 2


def _fitted(known: pd.DataFrame) -> _Fit:
    it = known["it_kwh"]
    model = pd.DataFrame({"share": known["overhead_kwh"] / it, "log_it": np.log(it)})
    return _fit(model, trend=_has_cycle(known.index))


def _fit(known: pd.DataFrame, *, trend: bool) -> _Fit:
    days = pd.DatetimeIndex(known.index)
    origin, seasonal = days[-1], _has_cycle(days)
    rows = _features(days, origin, seasonal=seasonal, trend=trend)
    values = known.to_numpy(np.float64)
    weights, *_ = np.linalg.lstsq(rows, values, rcond=None)
    residuals = values - rows @ weights
    slow = rows.shape[1] - WEEKDAYS
    free = max(1.5 * len(values) / PERSISTENCE_DAYS - slow, 1.0)
    noise = _long_run_covariance(days, residuals) / len(values) * (free + slow) / free
    inverse: Floats = np.linalg.pinv(rows.T @ rows).astype(np.float64)
    return _Fit(origin, seasonal, trend, weights, inverse, noise, free)


def _features(days: pd.DatetimeIndex, origin: pd.Timestamp, *, seasonal: bool, trend: bool) -> Floats:
    """Level, days of the week against their mean, and where asked for trend and harmonics of the year."""
    years = np.asarray((days - origin).days, np.float64) / TROPICAL_YEAR_DAYS
    weekday = np.asarray(days.day_of_week)
    columns = [np.ones(len(days))]
    columns += [(weekday == d).astype(np.float64) - (weekday == WEEKDAYS) for d in range(WEEKDAYS)]
    columns += [years] if trend else []
    for k in range(1, HARMONICS + 1) if seasonal else ():
        columns += [np.sin(2 * np.pi * k * years), np.cos(2 * np.pi * k * years)]
    return np.stack(columns, axis=1)


def _long_run_covariance(days: pd.DatetimeIndex, residuals: Floats) -> Floats:
    """Covariance of the residuals, widened by their persistence (Newey and West, Bartlett weights).

    Days that were not measured enter as zero and are made up for by the number of pairs.
    """
    place = np.asarray((days - days[0]).days)
    full = np.zeros((int(place[-1]) + 1, residuals.shape[1]))
    full[place] = residuals
    there = np.zeros(len(full))
    there[place] = 1.0
    total: Floats = full.T @ full
    for lag in range(1, min(PERSISTENCE_DAYS, len(full) - 1) + 1):
        pairs = max(float(there[lag:] @ there[:-lag]), 1.0)
        both = full[lag:].T @ full[:-lag] * len(days) / pairs
        total = total + (1 - lag / (PERSISTENCE_DAYS + 1)) * (both + both.T)
    widened: Floats = total
    return widened


def _quantile(level: float) -> float:
    """Standard deviations on either side that hold the probability `level`."""
    return NormalDist().inv_cdf((1 + level) / 2)


def budgets(
    days: pd.DataFrame, year: int, limits_pue: Sequence[float], *, minimum_coverage_ratio: float = 0.9
) -> tuple[Budget, ...]:
    """:func:`overhead_budget` for each of several limits."""
    return tuple(
        overhead_budget(days, year, limit, minimum_coverage_ratio=minimum_coverage_ratio)
        for limit in limits_pue
    )
