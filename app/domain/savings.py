"""Verified savings: what the plant of the baseline would have used, less what was used, with an interval.

By IPMVP: saving = baseline energy under the conditions of the reporting period + non-routine adjustments -
measured energy. Days without a figure (not covered, or weather and load that the baseline has not seen)
are left out of all three and counted; nothing is extrapolated to them. A saving whose interval holds zero
is said to be not distinguishable from zero.

Also here: the cumulative saving with control limits (CUSUM).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.domain.baseline import Baseline, Bools, Conditions, Expected, Floats, NoBaseline, Reason
from app.domain.measure import Adjustment

LEVEL = 0.9
"""Probability that the interval of a saving is meant to have."""
LEAST_DAYS = 7
"""Counted days without which there is no figure."""
LEAST_COUNTED_RATIO = 0.75
"""Share of the days that must have a figure."""
YEAR_DAYS = 365

Days = npt.NDArray[np.datetime64]


class Result(StrEnum):
    """What a saving says."""

    SAVED = "saved"
    """The whole interval lies above zero."""
    USED_MORE = "used_more"
    """The whole interval lies below zero."""
    NOT_DISTINGUISHABLE = "not_distinguishable"
    """The interval holds zero."""
    UNKNOWN = "unknown"
    """There is no figure; the reasons say why."""


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with the interval that is meant to hold the truth."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, half: float) -> Range:
        """An interval of a half-width on either side."""
        return cls(value, value - half, value + half)


@dataclass(frozen=True, slots=True)
class Saving:
    """The verified saving of some days."""

    result: Result
    days: int
    """Days that are asked for."""
    counted_days: int
    """Those with a figure; the energies are theirs."""
    level: float = LEVEL
    expected_kwh: float | None = None
    """By the baseline, without adjustments. [kWh] None, as all that follows, where there is no figure."""
    adjustment_kwh: float | None = None
    actual_kwh: float | None = None
    energy_kwh: Range | None = None
    """Expected and adjustments less actual. [kWh]"""
    share: Range | None = None
    """Saving by expected energy with adjustments. [1]"""
    money: Range | None = None
    """[currency] None also where a counted day has no tariff."""
    emissions_kg: Range | None = None
    """[kgCO2e] None also where there is no factor."""
    reasons: tuple[Reason, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Days without a figure, by the reason."""


@dataclass(frozen=True)
class Reporting:
    """The reporting period of a statement, one value a day that is sound."""

    rows: Conditions
    days: int
    """Days of the period; `rows` may have fewer."""
    price_per_kwh: Floats
    """Mean price of each day. [currency/kWh] NaN: no tariff."""
    kg_per_kwh: Floats
    """Emission factor of each day. [kgCO2e/kWh] NaN: none."""
    adjustments: tuple[Adjustment, ...] = ()

    def adjustment_kwh(self) -> Floats:
        """Non-routine adjustments by day. [kWh]"""
        days = self.rows.local_days.astype("datetime64[D]").tolist()
        return np.array([sum(a.share_kwh(day) for a in self.adjustments) for day in days], np.float64)

    def take(self, mask: Bools, days: int) -> Reporting:
        """Some of the rows, which stand for so many days."""
        return Reporting(
            self.rows.take(mask), days, self.price_per_kwh[mask], self.kg_per_kwh[mask], self.adjustments
        )


def verify(baseline: Baseline | NoBaseline, period: Reporting, level: float = LEVEL) -> Saving:
    """The saving of a reporting period against a baseline.

    Parameters
    ----------
    baseline : Baseline or NoBaseline
        One that is not accepted gives no figure.
    period : Reporting
        Its rows have the resolution of the baseline.
    level : float
        Probability of the interval.

    Returns
    -------
    Saving
        `result` is ``unknown`` with the reasons where the baseline is not accepted, or too few days count.
    """
    if isinstance(baseline, NoBaseline) or not baseline.accepted:
        return Saving(Result.UNKNOWN, period.days, 0, level, reasons=baseline.reasons)
    expected = baseline.expected(period.rows)
    counted = int(expected.within_range.sum())
    left_out = _left_out(expected, period.days - len(period.rows))
    if counted < LEAST_DAYS or counted < LEAST_COUNTED_RATIO * period.days:
        needed = max(LEAST_DAYS, int(np.ceil(LEAST_COUNTED_RATIO * period.days)))
        reason = Reason("too_few_days", {"days": counted, "needed": needed})
        return Saving(Result.UNKNOWN, period.days, counted, level, reasons=(reason,), left_out=left_out)
    return _figure(expected, period, level, left_out)


def _left_out(expected: Expected, missing: int) -> dict[str, int]:
    return {**({"not_covered": missing} if missing > 0 else {}), **expected.outside}


def _figure(expected: Expected, period: Reporting, level: float, left_out: Mapping[str, int]) -> Saving:
    within, hours = expected.within_range, period.rows.hours
    expected_kwh, error_kwh = expected.total()
    half_kwh = expected.critical(level) * error_kwh
    adjusted = np.where(within, period.adjustment_kwh(), 0.0)
    base = np.where(within, expected.expected_kw, 0.0) * hours + adjusted
    saved = base - np.where(within, period.rows.overhead_kw, 0.0) * hours
    energy = Range.around(float(saved.sum()), half_kwh)
    base_kwh = float(base.sum())
    return Saving(
        _result(energy),
        period.days,
        int(within.sum()),
        level,
        expected_kwh,
        float(adjusted.sum()),
        base_kwh - energy.value,
        energy,
        _scaled(energy, 1 / base_kwh) if base_kwh > 0 else None,
        _weighted(saved, half_kwh, base, period.price_per_kwh, within),
        _weighted(saved, half_kwh, base, period.kg_per_kwh, within),
        left_out=left_out,
    )


def _result(energy: Range) -> Result:
    if energy.low > 0:
        return Result.SAVED
    return Result.USED_MORE if energy.high < 0 else Result.NOT_DISTINGUISHABLE


def _scaled(one: Range, factor: float) -> Range:
    return Range(one.value * factor, one.low * factor, one.high * factor)


def _weighted(
    saved_kwh: Floats, half_kwh: float, base_kwh: Floats, weight: Floats, within: Bools
) -> Range | None:
    """A saving by day times a weight by day; the interval by the mean weight of the baseline energy."""
    if not np.isfinite(weight[within]).all() or base_kwh.sum() <= 0:
        return None
    known = np.where(within, weight, 0.0)
    mean = float((base_kwh * known).sum() / base_kwh.sum())
    return Range.around(float((saved_kwh * known).sum()), half_kwh * abs(mean))


def total(savings: Iterable[Saving]) -> Range | None:
    """Savings that share no energy, together; None where none has a figure. [kWh]

    They may rest on one baseline or on one weather, so their errors are taken to go the same way: the
    interval is the sum of the intervals, which is the widest that it can be.
    """
    known = [one.energy_kwh for one in savings if one.energy_kwh is not None]
    if not known:
        return None
    return Range(sum(r.value for r in known), sum(r.low for r in known), sum(r.high for r in known))


@dataclass(frozen=True)
class Course:
    """Cumulative saving of the counted days, with the limits between which it may be chance."""

    days: Days
    """Local days."""
    saved_kwh: Floats
    """Sum from the first day up to each. [kWh]"""
    limit_kwh: Floats
    """Control limit: within ± this the sum is not distinguishable from zero. [kWh]"""

    @property
    def leaves_on(self) -> date | None:
        """First day from which on the sum stays outside of its limits; None: it ends inside."""
        inside = np.abs(self.saved_kwh) <= self.limit_kwh
        if not len(inside) or inside[-1]:
            return None
        last = np.flatnonzero(inside)
        found: date = self.days[last[-1] + 1 if len(last) else 0].astype("datetime64[D]").item()
        return found


def cusum(baseline: Baseline, period: Reporting, level: float = LEVEL) -> Course:
    """The cumulative saving day by day (CUSUM) with control limits that grow with what is summed up."""
    expected = baseline.expected(period.rows)
    within, hours = expected.within_range, period.rows.hours
    base = expected.expected_kw * hours + period.adjustment_kwh()
    saved = np.cumsum((base - period.rows.overhead_kw * hours)[within])
    errors = _running_errors(expected)
    return Course(period.rows.local_days[within], saved, expected.critical(level) * errors)


def _running_errors(expected: Expected) -> Floats:
    """Standard error of the sum of the first n rows, for every n. [kWh]"""
    rows = expected.within_range
    hours, place = expected.hours[rows], expected.place[rows]
    effect = np.cumsum(hours[:, None] * expected.gradient[rows], axis=0)
    ahead, variance = 0.0, np.zeros(len(hours))
    for n, hour in enumerate(hours):
        if n:
            ahead = (ahead + hours[n - 1]) * expected.noise.autocorrelation ** int(place[n] - place[n - 1])
        variance[n] = (variance[n - 1] if n else 0.0) + hour * (hour + 2 * ahead)
    errors = [np.asarray(((effect @ one) * effect).sum(axis=1)) for one in expected.covariances]
    apart = np.cumsum((expected.others_kw - expected.expected_kw)[:, rows] * hours, axis=1)
    forms = (apart**2).sum(axis=0) / (1 + len(apart))
    summed = np.max(errors, axis=0) + variance * expected.noise.sd**2 + forms
    found: Floats = np.sqrt(np.maximum(summed, 0.0))
    return found
