"""Verified savings and the normalised PUE as they stand in documents: rounded, with their reasons."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from app.domain.baseline import Baseline, NoBaseline, Reason
from app.domain.measure import Adjustment, Measure
from app.domain.normalised import NormalisedPue
from app.domain.savings import LEVEL, Range, Saving
from app.domain.verification import PlantBaseline, SiteSavings, Verified
from app.reports.document import (
    AdjustmentRow,
    Because,
    Interval,
    MeasureRow,
    MonthSaving,
    NormalisedRow,
    Savings,
    VerifiedDay,
    VerifiedSaving,
)
from app.reports.energies import RATIO
from app.reports.rounding import number, rounded

ENERGY, MONEY, KG = 1, 2, 1
POWER = 6
"""Decimals of the powers and energies of single days, from which a saving can be computed again."""
MONTHS = 24
"""Calendar months of which the normalised PUE is shown."""


def build(site: str, currency: str, found: SiteSavings) -> Savings:
    """All that is known about the savings of a site."""
    baseline = found.plant.baseline
    return Savings(
        site=site,
        currency=currency,
        until=found.until.isoformat(),
        level=LEVEL,
        total_kwh=interval(found.total_kwh, ENERGY),
        statements=[statement(one, months=True) for one in found.verified],
        normalised_pue=normalised_months(found.plant, found.until, MONTHS),
        baseline=None if isinstance(baseline, NoBaseline) else baseline.as_dict(),
        baseline_reasons=because(baseline.reasons),
    )


def statement(one: Verified, *, rows: bool = False, months: bool = False) -> VerifiedSaving:
    """A verified saving as a document; with its days or its months where asked for."""
    said, base, saving = one.statement, one.statement.base, one.saving
    fitted = one.baseline if isinstance(one.baseline, Baseline) else None
    return VerifiedSaving(
        measures=[_measure(m) for m in said.measures],
        where=str(said.where),
        ipmvp_option=said.where.option.value,
        in_total=said.in_total,
        spans=[[start.isoformat(), end.isoformat()] for start, end in said.spans],
        baseline_start=base.baseline_start.isoformat(),
        baseline_end=base.baseline_end.isoformat(),
        result=saving.result.value,
        level=saving.level,
        days=saving.days,
        counted_days=saving.counted_days,
        left_out=dict(saving.left_out),
        expected_kwh=rounded(saving.expected_kwh, ENERGY),
        adjustment_kwh=rounded(saving.adjustment_kwh, ENERGY),
        actual_kwh=rounded(saving.actual_kwh, ENERGY),
        energy_kwh=interval(saving.energy_kwh, ENERGY),
        share=interval(saving.share, RATIO),
        money=interval(saving.money, MONEY),
        emissions_kg=interval(saving.emissions_kg, KG),
        reasons=because(saving.reasons),
        adjustments=[_adjustment(a) for a in one.period.adjustments],
        baseline=None if fitted is None else fitted.as_dict(),
        baseline_sha256="" if fitted is None else fitted.digest,
        rows=_days(one) if rows else [],
        months=[_month(first, of) for first, of in one.months()] if months else [],
    )


def _measure(m: Measure) -> MeasureRow:
    return MeasureRow(
        key=m.key,
        what=m.what,
        where=str(m.where),
        implementation_start=m.implementation_start.isoformat(),
        implementation_end=m.implementation_end.isoformat(),
        cost=m.cost,
        expected_kwh_per_year=m.expected_kwh_per_year,
    )


def _adjustment(a: Adjustment) -> AdjustmentRow:
    return AdjustmentRow(
        measure=a.measure,
        start=a.start.isoformat(),
        end=a.end.isoformat(),
        energy_kwh=a.energy_kwh,
        reason=a.reason,
        author=a.author,
    )


def _month(first: date, saving: Saving) -> MonthSaving:
    return MonthSaving(
        month=f"{first:%Y-%m}",
        result=saving.result.value,
        energy_kwh=interval(saving.energy_kwh, ENERGY),
        days=saving.days,
        counted_days=saving.counted_days,
    )


def _days(one: Verified) -> list[VerifiedDay]:
    """The days that are sound; those that are not counted have no expected energy."""
    rows, adjustment = one.period.rows, one.period.adjustment_kwh()
    expected = one.baseline.expected(rows).expected_kw if isinstance(one.baseline, Baseline) else None
    return [
        VerifiedDay(
            day=str(rows.local_days[i].astype("datetime64[D]")),
            hours=float(rows.hours[i]),
            it_kw=number(rows.it_kw[i], POWER),
            wet_bulb_c=rounded(float(rows.wet_bulb_c[i]), POWER),
            day_off=bool(rows.day_off[i]),
            actual_kwh=number(rows.overhead_kw[i] * rows.hours[i], POWER),
            expected_kwh=None if expected is None else rounded(float(expected[i] * rows.hours[i]), POWER),
            adjustment_kwh=number(adjustment[i], POWER),
        )
        for i in range(len(rows))
    ]


def interval(one: Range | None, decimals: int) -> Interval | None:
    """A figure with its interval, rounded."""
    if one is None:
        return None
    return Interval(**{name: number(getattr(one, name), decimals) for name in ("value", "low", "high")})


def because(reasons: Iterable[Reason]) -> list[Because]:
    """Reasons as a document."""
    return [Because(code=one.code, values=dict(one.values)) for one in reasons]


def normalised(period: str, one: NormalisedPue, plant: PlantBaseline) -> NormalisedRow:
    """A normalised PUE as a document."""
    days = plant.reference.local_days
    ends = ("", "") if not len(days) else (str(days[0]), str(days[-1] + 1))
    return NormalisedRow(
        period=period,
        measured_pue=rounded(one.measured_pue, RATIO),
        pue=interval(one.pue, RATIO),
        level=LEVEL,
        days=one.days,
        counted_days=one.counted_days,
        reference_start=ends[0],
        reference_end=ends[1],
        reasons=because(one.reasons),
    )


def normalised_months(plant: PlantBaseline, until: date, count: int) -> list[NormalisedRow]:
    """The normalised PUE of calendar months up to a day."""
    return [normalised(f"{first:%Y-%m}", one, plant) for first, one in plant.months(until, count)]


def of_report(found: SiteSavings | None, start: date, end: date, *, rows: bool) -> list[VerifiedSaving]:
    """The statements of the days of a report."""
    if found is None:
        return []
    parts = [one.within(start, end) for one in found.verified]
    return [statement(part, rows=rows, months=not rows) for part in parts if part is not None]


def normalised_of_report(found: SiteSavings | None, name: str, start: date, end: date) -> list[NormalisedRow]:
    """The normalised PUE of a report's period and of the months up to its end; none without a baseline."""
    if found is None or isinstance(found.plant.baseline, NoBaseline) or not found.plant.baseline.accepted:
        return []
    period = normalised(name, found.plant.normalised(start, end), found.plant)
    return [period, *normalised_months(found.plant, end, 12)]
