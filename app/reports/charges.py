"""Charges beside the price of energy: maximum demand, and surcharges by PUE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

import pandas as pd

from app.domain.demand import Demand, demands
from app.domain.evidence import PERIOD, YEAR_TO_DATE, Basis
from app.domain.period import QUARTER_HOUR_S, Period, midnight
from app.domain.pue import PueDocument
from app.domain.surcharge import Surcharge, SurchargeForecast, forecast_year, surcharges
from app.domain.surcharge_rule import SurchargeRule, rules_between
from app.reports.document import DemandRow, SurchargeForecastRow, SurchargeRow, TierRow
from app.reports.energies import KW, RATIO, is_doubtful
from app.reports.load import local_text
from app.reports.rounding import energy_decimals, number, rounded

MONEY = 2


def charges(e: Basis, grid: pd.Series[float], cost: float | None) -> dict[str, Any]:
    """The fields of the money of a period that are about demand and surcharges.

    Parameters
    ----------
    grid : Series of float64
        Energy bought per 15-minute interval. [kWh]
    cost : float or None
        Of that energy by its tariffs. [currency]
    """
    priced = demand(e, grid)
    rows = surcharge_rows(e, PERIOD)
    by_window = [*rows, *(surcharge_rows(e, YEAR_TO_DATE) if YEAR_TO_DATE in e.pue else [])]
    demand_charge = _sum(d.charge for d in priced) if priced else None
    surcharge = _sum(r.amount if r.currency == e.site.currency else None for r in rows) if rows else None
    parts = [cost, *([demand_charge] if priced else []), *([surcharge] if rows else [])]
    return {
        "demands": priced,
        "demand_charge": rounded(demand_charge, MONEY),
        "surcharges": by_window,
        "surcharge": rounded(surcharge, MONEY),
        "total": rounded(_sum(parts), MONEY) if len(parts) > 1 else None,
    }


def _sum(amounts: Iterable[float | None]) -> float | None:
    """The sum; None where one of them is not known."""
    known = list(amounts)
    return None if None in known else sum(a for a in known if a is not None)


def demand(e: Basis, grid: pd.Series[float]) -> list[DemandRow]:
    """Maximum demand of every month of the period in which a tariff has a price for it."""
    least = e.site.minimum_coverage_ratio
    coverage = e.quarters["coverage_ratio"]
    found = demands(grid, coverage, e.site.tariffs, e.known, e.site.zone, minimum_coverage_ratio=least)
    return [_demand(e, d) for d in found if d.tariff and d.tariff.demand_price_per_kw_month is not None]


def _demand(e: Basis, one: Demand) -> DemandRow:
    return DemandRow(
        month=f"{one.month:%Y-%m}",
        first=one.first.isoformat(),
        last=one.last.isoformat(),
        power_kw=rounded(one.power_kw, KW),
        at=local_text(one.at, e.site.zone),
        coverage_ratio=number(one.coverage_ratio, RATIO),
        is_whole=one.is_whole,
        price_per_kw_month=None if one.tariff is None else one.tariff.demand_price_per_kw_month,
        charge=rounded(one.charge, MONEY),
    )


def surcharge_rows(e: Basis, window: str) -> list[SurchargeRow]:
    """What the surcharge rules of the site's place make of a window, each on its own days."""
    document, zone = e.pue[window], e.site.zone
    span = e.known
    if window == YEAR_TO_DATE:
        first_day = e.last_day.replace(month=1, day=1)
        span = Period(midnight(first_day, zone), e.known.end)
    spans = rules_between(
        e.reference.surcharges, e.site.jurisdiction, span.start.astimezone(zone).date(), e.last_day
    )
    if not spans:
        return []
    found = surcharges(
        _days_of_quarters(e) if window == PERIOD else _days_of_history(e),
        spans,
        span,
        zone,
        minimum_coverage_ratio=e.site.minimum_coverage_ratio,
        relative_uncertainty=_relative(document),
        is_withheld=is_doubtful(document),
    )
    return [_row(one, window, energy_decimals(document.facility_kwh)) for one in found]


def _relative(document: PueDocument) -> float | None:
    if document.pue is None or document.uncertainty is None:
        return None
    return document.uncertainty / document.pue


def _days_of_quarters(e: Basis) -> pd.DataFrame:
    """Sums per local day of the period, with the time that is covered."""
    local = pd.DatetimeIndex(e.quarters.index).tz_convert(e.site.zone).tz_localize(None).normalize()
    table = e.quarters[["facility_kwh", "it_kwh"]].copy()
    table["covered_h"] = e.quarters["coverage_ratio"] * (QUARTER_HOUR_S / 3600)
    return table.groupby(local).sum()


def _days_of_history(e: Basis) -> pd.DataFrame:
    table = e.history[["facility_kwh", "it_kwh"]].copy()
    table["covered_h"] = e.history["coverage_ratio"].to_numpy() * [
        _hours(day.date(), e) for day in pd.DatetimeIndex(e.history.index)
    ]
    return table


def _hours(day: date, e: Basis) -> float:
    start, end = (midnight(d, e.site.zone) for d in (day, day + timedelta(days=1)))
    return (end - start).total_seconds() / 3600


def _row(one: Surcharge, window: str, places: int) -> SurchargeRow:
    rule = one.rule
    return SurchargeRow(
        window=window,
        rule=rule.id,
        first=one.first.isoformat(),
        last=one.last.isoformat(),
        limit_pue=rule.limit_pue,
        tiers=[TierRow(above_pue=t.above_pue, price_per_kwh=t.price_per_kwh) for t in rule.tiers],
        marginal=rule.marginal,
        pue=rounded(one.pue, RATIO),
        coverage_ratio=number(min(one.coverage_ratio, 1.0), RATIO),
        excess_kwh=rounded(one.excess_kwh, places),
        amount=rounded(one.amount, MONEY),
        low=rounded(one.low, MONEY),
        high=rounded(one.high, MONEY),
        currency=rule.currency,
        reason=one.reason,
        source=rule.source,
        verified=rule.verified,
        note=rule.note,
    )


def expected(
    history: pd.DataFrame, year: int, rules: Sequence[SurchargeRule], place: str, least: float, places: int
) -> list[SurchargeForecastRow]:
    """The surcharges of a calendar year as they are expected, from whole days."""
    found = forecast_year(history, year, rules, place, minimum_coverage_ratio=least)
    return [forecast_row(one, places) for one in found]


def forecast_row(one: SurchargeForecast, places: int) -> SurchargeForecastRow:
    """A forecast as data, energies to so many decimals."""
    chance = one.chance
    return SurchargeForecastRow(
        rule=one.rule.id,
        first=one.first.isoformat(),
        last=one.last.isoformat(),
        limit_pue=one.rule.limit_pue,
        pue=rounded(one.projection.pue, RATIO),
        excess_kwh=rounded(one.excess_kwh, places),
        amount=rounded(one.amount, MONEY),
        low=rounded(one.low, MONEY),
        high=rounded(one.high, MONEY),
        chance=rounded(chance, RATIO),
        currency=one.rule.currency,
        reason=one.projection.reason or ("unknown_price" if one.amount is None else ""),
        source=one.rule.source,
        verified=one.rule.verified,
    )
