"""Baselines: what they find, what they refuse, and that a frozen one gives the same figures again."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from app.domain import forms, regression
from app.domain.baseline import Baseline, Conditions, NoBaseline, Resolution, fit
from app.domain.forms import FORMS, Form, Inputs
from app.domain.regression import Noise
from app.errors import SeriesError
from tests.baseline_plants import days, persistent, random_weather_c, story


def year(seed: int = 1, count: int = 365, noise_kw: float = 2.0, swing_kw: float = 40.0) -> Conditions:
    """A plant of 30 kW + 0.1 per kW of IT + 4 kW/K above 12 C wet bulb."""
    rng = np.random.default_rng(seed)
    wet_c = 12 - 10 * np.cos(2 * np.pi * np.arange(count) / 365.25) + persistent(rng, count, 0.7, 3)
    it_kw = 500 + swing_kw * np.sign(np.sin(np.arange(count) / 40)) + rng.normal(size=count)
    clean = 30 + 0.1 * it_kw + 4 * np.maximum(wet_c - 12, 0)
    return days(clean + persistent(rng, count, 0.4, noise_kw), it_kw, wet_c)


def fitted(conditions: Conditions) -> Baseline:
    found = fit(conditions)
    assert isinstance(found, Baseline), found
    return found


def test_a_plant_with_a_change_point_is_found_again() -> None:
    found = fitted(year())
    assert found.form == "load_weather_rise"
    assert found.accepted
    truth = {"base_kw": 30, "per_it_kw": 0.1, "per_c_above": 4, "change_point_c": 12}
    for name, value in truth.items():
        assert abs(found.coefficients[name] - value) < 3.5 * found.standard_errors[name], name
    assert found.change_point_c == pytest.approx(12, abs=0.6)
    assert found.residual_sd_kw == pytest.approx(2, rel=0.15)
    assert found.autocorrelation == pytest.approx(0.4, abs=0.15)
    assert (found.first_day, found.last_day, found.row_count) == ("2024-01-01", "2024-12-30", 365)
    assert found.weather is not None
    assert found.weather.as_dict() == {"provenance": "measured", "source": "roof.wet_bulb"}


def test_days_off_have_a_level_of_their_own_only_where_they_do() -> None:
    plain = year()
    with_days_off = replace(plain, overhead_kw=plain.overhead_kw + 8.0 * plain.day_off)
    assert "day_off_kw" not in fitted(plain).coefficients
    assert fitted(with_days_off).coefficients["day_off_kw"] == pytest.approx(8, abs=0.8)


def test_saturdays_and_sundays_are_days_off() -> None:
    conditions = year(count=14)  # 2024-01-01 is a Monday
    assert conditions.day_off.tolist() == [*[False] * 5, True, True] * 2


def test_too_little_history_gives_no_baseline_and_says_why() -> None:
    found = fit(year(count=59))
    assert isinstance(found, NoBaseline)
    assert [r.text() for r in found.reasons] == ["59 days of history; 60 are needed"]
    assert "59" in found.reasons[0].text("zh")
    nothing = fit(year().take(np.zeros(365, bool)))
    assert isinstance(nothing, NoBaseline)


def test_outside_of_what_was_seen_there_is_no_figure_and_the_reason() -> None:
    found = fitted(year())
    warmest = found.wet_bulb_range_c[1]
    wet_c = np.array([12.0, warmest + 0.1, found.wet_bulb_range_c[0] - 0.1, np.nan, 12.0, 12.0, 12.0, 12.0])
    it_kw = np.array([500.0, 500.0, 500.0, 500.0, 700.0, 300.0, np.nan, 545.0])
    expected = found.expected(days(np.full(8, 80.0), it_kw, wet_c))
    assert expected.within_range.tolist() == [True, *[False] * 6, True]
    assert np.isfinite(expected.expected_kw).tolist() == expected.within_range.tolist()
    assert expected.outside == {
        "weather_above_seen": 1,
        "weather_below_seen": 1,
        "weather_unknown": 1,
        "load_above_seen": 1,
        "load_below_seen": 1,
        "load_unknown": 1,
    }
    kwh, _ = expected.total()
    assert kwh == pytest.approx(24 * expected.expected_kw[[0, 7]].sum())


def test_without_weather_it_says_what_it_cannot() -> None:
    conditions = year()
    found = fitted(replace(conditions, wet_bulb_c=np.full(365, np.nan), weather=None))
    assert found.form.startswith("load")
    assert found.wet_bulb_range_c is None
    assert found.weather is None
    assert "weather_not_known" in [r.code for r in found.reasons]
    assert not found.accepted


def test_days_without_weather_are_left_out_and_counted() -> None:
    conditions = year()
    wet_c = conditions.wet_bulb_c.copy()
    wet_c[10:30] = np.nan
    found = fitted(replace(conditions, wet_bulb_c=wet_c, left_out={"open_finding": 3}))
    assert found.row_count == 345
    assert found.left_out == {"open_finding": 3, "weather_unknown": 20}


def test_values_that_cannot_be_are_left_out() -> None:
    conditions = year()
    overhead, it_kw = conditions.overhead_kw.copy(), conditions.it_kw.copy()
    overhead[5], overhead[6], it_kw[7] = np.nan, -4.0, 0.0
    found = fitted(replace(conditions, overhead_kw=overhead, it_kw=it_kw))
    assert found.left_out == {"not_known": 1, "impossible": 2}


def test_half_of_the_days_missing_is_not_accepted() -> None:
    conditions = year()
    found = fitted(conditions.take(np.random.default_rng(1).random(365) < 0.6))
    assert [r.code for r in found.reasons] == ["coverage"]


def test_overhead_that_follows_nothing_is_not_accepted() -> None:
    conditions = year()
    rng = np.random.default_rng(3)
    found = fitted(replace(conditions, overhead_kw=np.exp(rng.normal(4, 0.8, 365))))
    codes = {r.code for r in found.reasons}
    assert "cv_rmse" in codes
    assert found.cv_rmse_ratio > 0.3
    assert all(r.text() != r.code for r in found.reasons)


def test_a_load_that_never_changes_tells_nothing_of_other_loads() -> None:
    conditions = replace(year(), it_kw=np.full(365, 500.0))
    found = fitted(conditions)
    assert "per_it_kw" not in found.coefficients
    assert not found.expected(conditions.take(np.arange(3))).outside
    other = replace(conditions, it_kw=np.full(365, 520.0))
    assert found.expected(other).outside["load_above_seen"] == 365


def test_a_frozen_baseline_gives_the_same_figures_again() -> None:
    one = story(4)
    found = fitted(one.before)
    again = Baseline.from_json(found.to_json())
    assert again == found
    assert again.digest == found.digest
    assert again.expected(one.after).total() == found.expected(one.after).total()
    assert json.loads(found.to_json())["accepted"] is True
    changed = replace(found, residual_sd_kw=found.residual_sd_kw * 1.0001)
    assert changed.digest != found.digest


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"version": 2}'])
def test_what_is_no_frozen_baseline_is_refused(text: str) -> None:
    with pytest.raises(SeriesError, match="no frozen baseline"):
        Baseline.from_json(text)


def test_a_months_figure_by_hand_from_the_frozen_json() -> None:
    one = story(11)
    found = fitted(one.before)
    after = one.after.take(np.arange(30))
    document = json.loads(found.to_json())
    value = {name: c["value"] for name, c in document["coefficients"].items()}
    expected = found.expected(after)
    by_hand = 0.0
    for it, wet, off, ok in zip(
        after.it_kw, after.wet_bulb_c, after.day_off, expected.within_range, strict=True
    ):
        if ok:
            by_hand += 24 * _by_hand(value, it, wet, off)
    assert expected.total()[0] == pytest.approx(by_hand, rel=1e-12)


def _by_hand(c: dict[str, float], it: float, wet: float, off: bool) -> float:
    scale = it if any(name.endswith("_per_it_kw") for name in c) else 1.0
    slope = {name.removesuffix("_per_it_kw"): v for name, v in c.items()}
    first, last = c.get("change_point_c", 0.0), c.get("second_change_point_c", c.get("change_point_c", 0.0))
    weather = slope.get("per_c", 0.0) * wet + slope.get("per_c_above", 0.0) * max(wet - last, 0)
    weather += slope.get("per_c_below", 0.0) * min(wet - first, 0)
    weather += slope.get("per_c_between", 0.0) * min(max(wet - first, 0), last - first)
    return c["base_kw"] + c.get("per_it_kw", 0.0) * it + c.get("day_off_kw", 0.0) * off + scale * weather


def test_rows_of_another_resolution_are_refused() -> None:
    conditions = year()
    with pytest.raises(SeriesError, match="give rows of a day"):
        fitted(conditions).expected(replace(conditions, resolution=Resolution.HOUR))


def test_columns_of_different_length_or_out_of_order_are_refused() -> None:
    conditions = year(count=10)
    with pytest.raises(SeriesError, match="length"):
        replace(conditions, it_kw=conditions.it_kw[:-1])
    with pytest.raises(SeriesError, match="order"):
        conditions.take(np.array([3, 2]))


def test_hours_have_baselines_too() -> None:
    rng = np.random.default_rng(5)
    count = 24 * 100
    starts = np.datetime64("2024-05-01T00:00:00") + np.arange(count) * np.timedelta64(1, "h")
    wet_c = 15 + 5 * np.sin(np.arange(count) / 24 * 2 * np.pi) + persistent(rng, count, 0.98, 3)
    it_kw = 500 + 20 * np.sign(np.sin(np.arange(count) / 400)) + rng.normal(size=count)
    overhead = 30 + 0.1 * it_kw + 4 * np.maximum(wet_c - 13, 0) + persistent(rng, count, 0.9, 3)
    hours = replace(
        days(overhead, it_kw, wet_c),
        resolution=Resolution.HOUR,
        starts=starts,
        local_days=starts.astype("datetime64[D]"),
        hours=np.ones(count),
    )
    found = fitted(hours)
    assert found.change_point_c == pytest.approx(13, abs=0.7)
    assert found.autocorrelation == pytest.approx(0.9, abs=0.04)
    assert found.accepted
    kwh, error_kwh = found.expected(hours).total()
    assert kwh == pytest.approx(overhead.sum(), rel=1e-3)
    assert error_kwh > math.sqrt(count) * 3  # hours that follow each other are not independent


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_the_gradient_is_that_of_the_expected_power(form: Form) -> None:
    rng = np.random.default_rng(2)
    inputs = Inputs(rng.uniform(300, 500, 200), rng.uniform(-5, 28, 200), rng.random(200) < 0.3)
    values = [*rng.uniform(0.1, 2, len(form.terms)), *[9.0137, 17.0291][: form.change_points]]
    found = forms.gradient(form, inputs, values)
    for i in range(len(values)):
        step = 1e-6 * max(abs(values[i]), 1)
        up, down = ([*values[:i], values[i] + s, *values[i + 1 :]] for s in (step, -step))
        moved = (forms.expected(form, inputs, up) - forms.expected(form, inputs, down)) / (2 * step)
        assert found[:, i] == pytest.approx(moved, rel=1e-5, abs=1e-5), form.parameters[i]
    assert len(form.parameters) == len(values) == len({*form.parameters})
    assert all(forms.unit(name) for name in form.parameters)


def test_a_sum_of_errors_that_follow_each_other() -> None:
    rng = np.random.default_rng(1)
    place = np.cumsum(rng.integers(1, 4, 40))
    effect = rng.normal(size=40)
    correlation = 0.6 ** np.abs(place[:, None] - place)
    assert regression.sum_variance(effect, place, Noise(2.0, 0.6)) == pytest.approx(
        4 * effect @ correlation @ effect
    )
    columns = rng.normal(size=(40, 3))
    assert regression.decayed(columns, place, 0.6) == pytest.approx(correlation @ columns)
    bread = np.linalg.inv(columns.T @ columns)
    found = regression.persistent_covariance(columns, place, Noise(2.0, 0.6))
    assert found == pytest.approx(4 * bread @ columns.T @ correlation @ columns @ bread)


def test_a_hole_in_the_history_is_no_neighbourhood() -> None:
    rng = np.random.default_rng(1)
    columns = np.column_stack([np.ones(60), rng.normal(size=60)])
    residuals = persistent(rng, 60, 0.7, 1.0)
    far = np.concatenate([np.arange(30), np.arange(30) + 1000])
    halves = [
        regression.newey_west(columns, np.where(np.arange(60) // 30 == h, residuals, 0), far, 5)
        for h in (0, 1)
    ]
    assert regression.newey_west(columns, residuals, far, 5) == pytest.approx(sum(halves))


@pytest.mark.parametrize("truth", [0.0, 0.4, 0.8])
def test_noise_is_found_without_bias(truth: float) -> None:
    """Residuals of few rows and many columns are smaller and less correlated than the errors were."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(120):
        columns = np.column_stack([np.ones(120), random_weather_c(rng, 120), np.arange(120) > 60])
        errors = persistent(rng, 120, truth, 3.0)
        residuals = errors - columns @ np.linalg.lstsq(columns, errors)[0]
        found.append(regression.noise(columns, residuals, np.arange(120)))
    assert np.mean([n.autocorrelation for n in found]) == pytest.approx(truth, abs=0.04)
    assert np.mean([n.sd for n in found]) == pytest.approx(3.0, rel=0.05)


def test_no_errors_at_all() -> None:
    assert regression.noise(np.ones((9, 1)), np.zeros(9), np.arange(9)) == Noise(0.0, 0.0)


@pytest.mark.parametrize(("free", "expected"), [(5, 2.015), (10, 1.812), (30, 1.697), (1e6, 1.645)])
def test_quantiles_of_student(free: float, expected: float) -> None:
    assert regression.critical(0.9, free) == pytest.approx(expected, abs=0.01)
