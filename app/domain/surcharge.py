"""What surcharge rules make of the energies of a period, and of a year that is still to end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from app.domain.forecast import Projection, project_span
from app.domain.limits import is_too_low
from app.domain.period import Period, midnight
from app.domain.surcharge_rule import RuleSpan, SurchargeRule, excess, rules_between


@dataclass(frozen=True, slots=True)
class Surcharge:
    """What a rule makes of the energies of its days in a period."""

    rule: SurchargeRule
    first: date
    last: date
    pue: float | None
    facility_kwh: float
    it_kwh: float
    coverage_ratio: float
    """Of the time from `first` to `last` that has passed; what was not measured is not in the energies.
    [0..1]"""
    excess_kwh: float | None = None
    amount: float | None = None
    low: float | None = None
    high: float | None = None
    """The amount at PUE less and plus its uncertainty. [currency]"""
    reason: str = ""
    """Code of why there is no amount: `low_coverage`, `no_it_energy`, `below_one`, `withheld`,
    `unknown_price`."""


def surcharges(
    days: pd.DataFrame,
    spans: Sequence[RuleSpan],
    known: Period,
    zone: ZoneInfo,
    *,
    minimum_coverage_ratio: float,
    relative_uncertainty: float | None = None,
    is_withheld: bool = False,
) -> tuple[Surcharge, ...]:
    """The surcharge of each rule on its own days: a change within the period parts it in two.

    Parameters
    ----------
    days : DataFrame
        Indexed by naive local day; columns facility_kwh, it_kwh [kWh] over the covered part, and covered_h,
        that part. [h] Days that are not there count as not covered.
    spans : sequence of RuleSpan
        As :func:`app.domain.surcharge_rule.rules_between` gives them.
    known : Period
        Time by which the coverage is counted: what has passed of the period.
    zone : ZoneInfo
        Of the days.
    relative_uncertainty : float or None
        u(PUE) / PUE; None: not known, so there is no range.
    is_withheld : bool
        Whether the PUE of the period is withheld because its energies may be wrong.
    """
    found = []
    for span in spans:
        rows = days.loc[pd.Timestamp(span.first) : pd.Timestamp(span.last)]
        start = max(midnight(span.first, zone), known.start)
        end = min(midnight(span.last + timedelta(days=1), zone), known.end)
        covered = float(rows["covered_h"].sum()) * 3600 / (end - start).total_seconds()
        sums = Surcharge(*span, None, float(rows["facility_kwh"].sum()), float(rows["it_kwh"].sum()), covered)
        reason = "withheld" if is_withheld else _obstacle(sums, minimum_coverage_ratio)
        found.append(replace(sums, reason=reason) if reason else _priced(sums, relative_uncertainty or 0.0))
    return tuple(found)


def _obstacle(sums: Surcharge, least: float) -> str:
    if sums.coverage_ratio <= 0 or is_too_low(sums.coverage_ratio, least):
        return "low_coverage"
    if sums.it_kwh <= 0:
        return "no_it_energy"
    return "below_one" if sums.facility_kwh < sums.it_kwh else ""


def _priced(sums: Surcharge, relative: float) -> Surcharge:
    rule, facility_kwh, it_kwh = sums.rule, sums.facility_kwh, sums.it_kwh
    amount = rule.amount(facility_kwh, it_kwh)
    low, high = (rule.amount(facility_kwh * (1 + sign * relative), it_kwh) for sign in (-1, 1))
    has_range = relative > 0 and amount is not None
    return replace(
        sums,
        pue=facility_kwh / it_kwh,
        excess_kwh=excess(facility_kwh, it_kwh, rule.limit_pue),
        amount=amount,
        low=low if has_range else None,
        high=high if has_range else None,
        reason="unknown_price" if amount is None else "",
    )


@dataclass(frozen=True, slots=True)
class SurchargeForecast:
    """What a rule is expected to make of its days in a year: measured days, and the others projected."""

    rule: SurchargeRule
    first: date
    last: date
    projection: Projection
    """Of these days alone."""
    excess_kwh: float | None = None
    amount: float | None = None
    """At the projected PUE. [currency] None: no projection (its `reason` says why), or no known price."""
    low: float | None = None
    high: float | None = None
    """At the ends of the projection's interval. [currency]"""

    @property
    def chance(self) -> float | None:
        """Probability that there is a surcharge at all. [0..1]"""
        return self.projection.chance_above(self.rule.limit_pue)


def forecast_year(
    days: pd.DataFrame,
    year: int,
    rules: Iterable[SurchargeRule],
    jurisdiction: str,
    *,
    minimum_coverage_ratio: float = 0.9,
) -> tuple[SurchargeForecast, ...]:
    """The surcharge of a calendar year by each rule that holds in it, on the rule's own days.

    Parameters
    ----------
    days : DataFrame
        As for :func:`app.domain.forecast.project_year`.

    Raises
    ------
    SeriesError
        If the index is not made of whole naive days in order.
    """
    spans = rules_between(rules, jurisdiction, date(year, 1, 1), date(year, 12, 31))
    return tuple(_forecast(days, span, minimum_coverage_ratio) for span in spans)


def _forecast(days: pd.DataFrame, span: RuleSpan, least: float) -> SurchargeForecast:
    found = project_span(days, span.first, span.last, minimum_coverage_ratio=least)
    if found.pue is None or found.low is None or found.high is None or found.it_kwh is None:
        return SurchargeForecast(*span, found)
    amount, low, high = (
        span.rule.amount(pue * found.it_kwh, found.it_kwh) for pue in (found.pue, found.low, found.high)
    )
    excess_kwh = excess(found.pue * found.it_kwh, found.it_kwh, span.rule.limit_pue)
    return SurchargeForecast(*span, found, excess_kwh, amount, low, high)
