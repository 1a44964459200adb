"""Verified savings, their interval, the cumulative saving, and the normalised PUE."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from app.domain.attribution import Causes, EnergySplit, attribute, causes
from app.domain.baseline import Baseline, Conditions, NoBaseline, fit
from app.domain.measure import Adjustment
from app.domain.normalised import normalised_pue
from app.domain.savings import (
    Range,
    Reporting,
    Result,
    Saving,
    cusum,
    total,
    verify,
)
from app.domain.verification import days_in, in_spans
from tests.unit.plants import Plant, lowered

PLANT = Plant()
YEAR, AFTER = 365, 180


def baseline_of(rows: Conditions) -> Baseline:
    found = fit(rows)
    assert isinstance(found, Baseline)
    assert found.accepted, found.reasons
    return found


def case(
    plant: Plant = PLANT, *, share: float, seed: int = 1, step_kw: float = 0.0
) -> tuple[Baseline, Reporting]:
    """A baseline year, and half a year after a measure that saves a share of the overhead."""
    rows = plant.days(YEAR + AFTER, seed, step_kw=step_kw)
    after = rows.take(np.arange(YEAR, YEAR + AFTER))
    after = lowered(after, share * plant.expected_kw(after.it_kw, after.wet_bulb_c))
    return baseline_of(rows.take(np.arange(YEAR))), reporting(after)


def reporting(rows: Conditions, days: int | None = None) -> Reporting:
    count = len(rows)
    return Reporting(rows, days or count, np.full(count, 0.8), np.full(count, 0.5))


def figure(saving: Saving) -> Range:
    assert saving.energy_kwh is not None
    return saving.energy_kwh


def test_a_plant_without_noise_gives_its_saving_to_the_kilowatt_hour() -> None:
    plant = replace(PLANT, noise_kw=0.0, per_c_kw=0.0)
    baseline, period = case(plant, share=0.1)
    saving = verify(baseline, period)
    within = baseline.expected(period.rows).within_range
    truth = 0.1 * float((plant.expected_kw(period.rows.it_kw, period.rows.wet_bulb_c) * 24)[within].sum())
    assert figure(saving).value == pytest.approx(truth, rel=1e-6)
    assert saving.result is Result.SAVED


def test_the_parts_add_up() -> None:
    saving = verify(*case(share=0.1))
    assert saving.expected_kwh is not None
    assert saving.actual_kwh is not None
    assert saving.adjustment_kwh == 0.0
    assert figure(saving).value == pytest.approx(saving.expected_kwh - saving.actual_kwh)
    assert saving.share is not None
    assert saving.share.value == pytest.approx(figure(saving).value / saving.expected_kwh)
    assert saving.money is not None
    assert saving.money.value == pytest.approx(0.8 * figure(saving).value)
    assert saving.money.low == pytest.approx(0.8 * figure(saving).low)
    assert saving.emissions_kg is not None
    assert saving.emissions_kg.high == pytest.approx(0.5 * figure(saving).high)


@pytest.mark.parametrize(
    ("share", "result"),
    [(0.1, Result.SAVED), (0.0, Result.NOT_DISTINGUISHABLE), (-0.1, Result.USED_MORE)],
)
def test_a_result_says_what_the_interval_holds(share: float, result: Result) -> None:
    assert verify(*case(share=share)).result is result


def test_a_step_of_the_load_is_no_saving() -> None:
    baseline, period = case(share=0.0, step_kw=-20.0)
    assert verify(baseline, period).result is Result.NOT_DISTINGUISHABLE


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """60 plants of known truth; 46 to 60 is what a 90 % interval holds in all but 1 of 1000 such tests."""
    held = 0
    for seed in range(60):
        chance = np.random.default_rng(1000 + seed)
        plant = replace(PLANT, noise_kw=chance.uniform(2, 8), autocorrelation=chance.uniform(0, 0.8))
        share = chance.uniform(0.02, 0.15)
        baseline, period = case(plant, share=share, seed=seed)
        within = baseline.expected(period.rows).within_range
        kwh = 24 * share * plant.expected_kw(period.rows.it_kw, period.rows.wet_bulb_c)
        found = figure(verify(baseline, period))
        held += found.low <= float(kwh[within].sum()) <= found.high
    assert held >= 46


def test_without_an_accepted_baseline_there_is_no_figure() -> None:
    baseline, period = case(share=0.1)
    short = fit(PLANT.days(40, 1))
    assert isinstance(short, NoBaseline)
    for no in (short, replace(baseline, reasons=(short.reasons[0],))):
        saving = verify(no, period)
        assert (saving.result, saving.energy_kwh) == (Result.UNKNOWN, None)
        assert saving.reasons[0].code == "too_little_history"


def test_days_that_were_never_seen_are_left_out_and_too_many_give_no_figure() -> None:
    baseline, period = case(share=0.1)
    hot = replace(period.rows, wet_bulb_c=np.where(np.arange(AFTER) < 30, 35.0, period.rows.wet_bulb_c))
    saving = verify(baseline, reporting(hot))
    assert saving.left_out["weather_above_seen"] >= 30
    assert saving.counted_days <= AFTER - 30
    assert figure(saving).value > 0
    hotter = replace(period.rows, wet_bulb_c=np.where(np.arange(AFTER) < 60, 35.0, period.rows.wet_bulb_c))
    refused = verify(baseline, reporting(hotter))
    assert (refused.result, refused.reasons[0].code) == (Result.UNKNOWN, "too_few_days")


def test_days_that_are_not_covered_count_against_the_figure() -> None:
    baseline, period = case(share=0.1)
    saving = verify(baseline, reporting(period.rows, days=AFTER + 20))
    assert (saving.days, saving.left_out["not_covered"]) == (AFTER + 20, 20)
    assert verify(baseline, reporting(period.rows, days=AFTER + 100)).result is Result.UNKNOWN


def test_an_adjustment_moves_the_baseline_on_its_counted_days() -> None:
    baseline, period = case(share=0.1)
    day = period.rows.local_days[10].astype("datetime64[D]").item()
    far = date(2031, 1, 1)
    notes = (
        Adjustment(
            measure="m", start=day, end=date.fromordinal(day.toordinal() + 4), energy_kwh=400.0, reason="x"
        ),
        Adjustment(measure="m", start=far, end=date(2031, 1, 2), energy_kwh=999.0, reason="later"),
    )
    with_notes = verify(baseline, replace(period, adjustments=notes))
    assert with_notes.adjustment_kwh == pytest.approx(400.0)
    assert figure(with_notes).value == pytest.approx(figure(verify(baseline, period)).value + 400.0)


def test_money_needs_a_tariff_on_every_counted_day() -> None:
    baseline, period = case(share=0.1)
    prices = period.price_per_kwh.copy()
    prices[5] = np.nan
    saving = verify(baseline, replace(period, price_per_kwh=prices))
    assert saving.money is None
    assert saving.emissions_kg is not None


def test_the_total_is_as_wide_as_its_parts_together() -> None:
    one, other = verify(*case(share=0.1)), verify(*case(share=0.05, seed=2))
    both = total([one, other, Saving(Result.UNKNOWN, 3, 0)])
    assert both is not None
    assert both.value == pytest.approx(figure(one).value + figure(other).value)
    assert both.high - both.low == pytest.approx(sum(figure(s).high - figure(s).low for s in (one, other)))
    assert total([Saving(Result.UNKNOWN, 3, 0)]) is None


def test_the_cumulative_saving_ends_at_the_saving_and_its_limit_at_the_interval() -> None:
    baseline, period = case(share=0.1)
    course, saving = cusum(baseline, period), figure(verify(baseline, period))
    assert course.saved_kwh[-1] == pytest.approx(saving.value)
    assert course.limit_kwh[-1] == pytest.approx((saving.high - saving.low) / 2)
    expected = baseline.expected(period.rows)
    some = expected.total(np.arange(AFTER) < 50)[1] * expected.critical()
    assert course.limit_kwh[int(expected.within_range[:50].sum()) - 1] == pytest.approx(some)
    assert course.leaves_on is not None


def test_without_a_measure_the_cumulative_saving_stays_within_its_limits() -> None:
    assert cusum(*case(share=0.0)).leaves_on is None


def test_the_normalised_pue_does_not_move_with_weather_and_load() -> None:
    rows = PLANT.days(2 * YEAR, 3, step_kw=-15.0)
    baseline, reference = baseline_of(rows.take(np.arange(YEAR))), rows.take(np.arange(YEAR))
    found = []
    for start in (YEAR, YEAR + 180):
        month = rows.take(np.arange(start, start + 30))
        one = normalised_pue(baseline, reference, month, 30)
        assert one.pue is not None
        found.append(one)
    winter, summer = found
    assert winter.measured_pue is not None
    assert summer.measured_pue is not None
    assert summer.measured_pue - winter.measured_pue > 0.07
    truth = 1 + float(
        PLANT.expected_kw(reference.it_kw, reference.wet_bulb_c).mean() / reference.it_kw.mean()
    )
    for one in found:
        assert one.pue is not None
        assert one.pue.low < truth < one.pue.high
        assert one.pue.high - one.pue.low < 0.03


def test_a_better_plant_lowers_the_normalised_pue_by_its_saving() -> None:
    baseline, period = case(share=0.0)
    reference = PLANT.days(YEAR, 1)
    before = normalised_pue(baseline, reference, period.rows, AFTER)
    after = normalised_pue(baseline, reference, lowered(period.rows, np.full(AFTER, 10.0)), AFTER)
    assert before.pue is not None
    assert after.pue is not None
    assert before.pue.value - after.pue.value == pytest.approx(10.0 / reference.it_kw.mean(), rel=0.01)


def test_too_few_days_give_no_normalised_pue() -> None:
    baseline, period = case(share=0.0)
    found = normalised_pue(baseline, PLANT.days(YEAR, 1), period.rows.take(np.arange(10)), 30)
    assert (found.pue, found.reasons[0].code) == (None, "too_few_days")
    assert found.measured_pue is not None


def energies(rows: Conditions) -> EnergySplit:
    it, overhead = float((rows.it_kw * rows.hours).sum()), float((rows.overhead_kw * rows.hours).sum())
    return EnergySplit(it + overhead, it, float(rows.hours.sum()), {"cooling": overhead})


def test_the_causes_of_a_change_sum_to_it_and_name_the_right_one() -> None:
    quiet = replace(PLANT, noise_kw=0.5)
    rows = quiet.days(2 * YEAR, 4)
    baseline = baseline_of(rows.take(np.arange(YEAR)))
    spring, summer = rows.take(np.arange(YEAR + 90, YEAR + 120)), rows.take(np.arange(YEAR + 190, YEAR + 220))
    cases = {
        "weather": (spring, summer),
        "plant": (summer, lowered(summer, np.full(30, 12.0))),
        "it_load": (
            summer,
            replace(
                summer,
                it_kw=summer.it_kw * 0.95,
                overhead_kw=summer.overhead_kw - 0.05 * quiet.per_it_kw * summer.it_kw,
            ),
        ),
    }
    for name, (before, after) in cases.items():
        split = (energies(before), energies(after))
        found = causes(baseline, *split, (before, after))
        assert isinstance(found, Causes)
        assert found.change == pytest.approx(attribute(*split).change, abs=1e-12)
        sizes = {cause: abs(getattr(found, cause)) for cause in ("weather", "it_load", "plant")}
        assert max(sizes, key=lambda cause: sizes[cause]) == name, sizes
        assert sum(sizes.values()) - sizes[name] < 0.35 * sizes[name]


def test_causes_are_not_told_apart_where_the_baseline_has_not_seen_the_days() -> None:
    rows = PLANT.days(2 * YEAR, 4)
    baseline = baseline_of(rows.take(np.arange(YEAR)))
    days = rows.take(np.arange(YEAR, YEAR + 30))
    strange = replace(days, it_kw=days.it_kw * 3)
    found = causes(baseline, energies(days), energies(strange), (days, strange))
    assert not isinstance(found, Causes)
    assert found[0].code == "too_few_days"


def test_days_of_spans() -> None:
    spans = [(date(2026, 1, 1), date(2026, 1, 4)), (date(2026, 2, 1), date(2026, 2, 2))]
    days = np.arange("2025-12-31", "2026-02-03", dtype="datetime64[D]")
    assert days_in(spans) == int(in_spans(days, spans).sum()) == 4
    assert not in_spans(days, []).any()
