"""Plant indicators and opportunities as documents, for API, pages, reports and command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.domain import opportunities as domain
from app.domain import ups
from app.domain.plant import PlantIndicator, indicators
from app.domain.plant_series import PlantSeries
from app.reports.document import (
    AssumptionRow,
    Opportunities,
    OpportunityRow,
    PlantIndicators,
    PlantRow,
    RegionRow,
)
from app.reports.energies import RATIO
from app.reports.rounding import instant, number, rounded

_NOTABLE_RATIO = 0.001
"""Differences of efficiency below this name no worst region."""
_MONEY, _ENERGY, _PLAIN = 2, 1, 4


def plant_indicators(plant: PlantSeries) -> PlantIndicators:
    """Every plant indicator of a site over a period."""
    start, end = instant(plant.period.start), instant(plant.period.end)
    annual = plant.period.is_year_long(plant.site.zone)
    return PlantIndicators(
        site=plant.site.id,
        start=start,
        end=end,
        kind="annual" if annual else "interim",
        indicators=[_plant_row(plant, one) for one in indicators(plant)],
    )


def _plant_row(plant: PlantSeries, one: PlantIndicator) -> PlantRow:
    worst = ups.worst(one.regions)
    best = max((r.efficiency_ratio for r in one.regions), default=0.0)
    is_apart = worst is not None and best - worst.efficiency_ratio > _NOTABLE_RATIO
    return PlantRow(
        name=one.name,
        subject=one.subject,
        value=rounded(one.value, RATIO),
        unit=one.unit,
        uncertainty=rounded(one.uncertainty, RATIO),
        standing=None if one.standing is None else one.standing.value,
        good=None if one.typical is None else one.typical.good,
        poor=None if one.typical is None else one.typical.poor,
        source="" if one.typical is None else one.typical.source,
        verified=one.typical is not None and one.typical.verified,
        coverage_ratio=number(one.coverage_ratio, RATIO),
        reason=None if one.reason is None else one.reason.value,
        missing=list(one.missing),
        waits_for=list(one.waits_for),
        poorly_covered=list(one.poorly_covered),
        meters=_meters(plant, one.points),
        points=list(one.points),
        inputs=_numbers(one.inputs),
        regions=[
            RegionRow(
                low_ratio=number(r.low_ratio, 2),
                high_ratio=number(r.high_ratio, 2),
                hours=number(r.hours, 2),
                efficiency_ratio=number(r.efficiency_ratio, RATIO),
                worst=is_apart and r is worst,
            )
            for r in one.regions
        ],
    )


def opportunities(plant: PlantSeries) -> Opportunities:
    """What to do next at a site, from what its meters showed over a period."""
    return Opportunities(
        site=plant.site.id,
        start=instant(plant.period.start),
        end=instant(plant.period.end),
        currency=plant.site.currency,
        opportunities=[_opportunity_row(plant, one) for one in domain.opportunities(plant)],
    )


def _opportunity_row(plant: PlantSeries, one: domain.Opportunity) -> OpportunityRow:
    kwh, amount = _range(one.kwh_per_year, _ENERGY), _range(one.amount_per_year, _MONEY)
    return OpportunityRow(
        kind=one.kind.value,
        subject=one.subject,
        state=one.state.value,
        kwh_low=kwh[0],
        kwh_per_year=kwh[1],
        kwh_high=kwh[2],
        amount_low=amount[0],
        amount_per_year=amount[1],
        amount_high=amount[2],
        whole_year=one.is_whole_year,
        reason=None if one.reason is None else one.reason.value,
        missing=list(one.missing),
        waits_for=list(one.waits_for),
        poorly_covered=list(one.poorly_covered),
        coverage_ratio=number(one.coverage_ratio, RATIO),
        meters=_meters(plant, one.points),
        points=list(one.points),
        evidence=_numbers(one.evidence),
        assumptions=[
            AssumptionRow(
                name=a.name,
                low=a.low,
                typical=a.typical,
                high=a.high,
                source=a.source,
                verified=a.verified,
            )
            for a in one.assumptions
        ],
    )


def _range(one: domain.Range | None, digits: int) -> tuple[float | None, float | None, float | None]:
    if one is None:
        return None, None, None
    return rounded(one.low, digits), rounded(one.typical, digits), rounded(one.high, digits)


def _numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Numbers with as many digits as their size deserves; what is no number is left out."""
    found = {
        name: rounded(value, _ENERGY if name.endswith("kwh") else _PLAIN) for name, value in values.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _meters(plant: PlantSeries, points: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(m for p in points if (m := plant.meter_of(p))))
