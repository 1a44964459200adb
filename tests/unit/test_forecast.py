"""Projection of the year, overhead budgets, exhaustion of capacities."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from app.domain.forecast import (
    Projection,
    _Fit,
    _fit,
    _long_run_covariance,
    budgets,
    exhaustion,
    growth,
    is_too_early,
    overhead_budget,
    project_year,
    year_course,
)
from app.errors import SeriesError


def course(
    first: str,
    last: str,
    *,
    base_pue: float = 1.42,
    summer: float = 0.1,
    growth: float = 0.05,
    noise: float = 0.02,
    seed: int = 1,
) -> pd.DataFrame:
    """Days of a site whose overhead follows the season and whose IT load grows."""
    days = pd.date_range(first, last)
    rng = np.random.default_rng(seed)
    years = np.asarray((days - pd.Timestamp("2025-01-01")).days) / 365.25
    weekend = np.asarray(days.day_of_week >= 5)
    it = (
        24_000
        * (1 + growth * years)
        * np.where(weekend, 0.95, 1.0)
        * (1 + noise * rng.normal(size=len(days)))
    )
    weather = np.convolve(rng.normal(size=len(days) + 6), np.ones(7) / np.sqrt(7), "valid")
    share = base_pue - 1 - summer * np.cos(2 * np.pi * (years - 0.05)) + 0.01 * weather
    return pd.DataFrame({"facility_kwh": it * (1 + share), "it_kwh": it, "coverage_ratio": 1.0}, index=days)


def true_pue(days: pd.DataFrame, year: int) -> float:
    of_year = days[pd.DatetimeIndex(days.index).year == year]
    return float(of_year["facility_kwh"].sum() / of_year["it_kwh"].sum())


def test_a_year_of_history_projects_the_season_that_is_still_to_come() -> None:
    whole = course("2025-01-01", "2026-12-31")
    found = project_year(whole[:"2026-04-30"], 2026)
    so_far = true_pue(whole[:"2026-04-30"], 2026)
    assert found.pue is not None
    assert found.low is not None
    assert found.high is not None
    assert so_far < 1.38
    assert found.pue == pytest.approx(true_pue(whole, 2026), abs=0.01)
    assert found.low < true_pue(whole, 2026) < found.high
    assert (found.seasonal, found.measured_days, found.projected_days) == (True, 120, 245)


def test_the_interval_holds_what_it_promises() -> None:
    inside, widths = 0, []
    for seed in range(60):
        whole = course("2025-01-01", "2026-12-31", seed=seed)
        found = project_year(whole[:"2026-06-30"], 2026)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= true_pue(whole, 2026) <= found.high
        widths.append(found.high - found.low)
    assert 48 <= inside <= 60
    assert max(widths) < 0.05


@pytest.mark.parametrize(
    ("free", "level", "student"),
    [(10, 0.9, 1.8125), (10, 0.95, 2.2281), (30, 0.9, 1.6973), (1e9, 0.9, 1.6449)],
)
def test_a_short_history_widens_the_interval_as_student_has_it(
    free: float, level: float, student: float
) -> None:
    """Quantiles from the tables of Student's distribution; the expansion is good to 2 %."""
    nothing = np.zeros((0, 0))
    fit = _Fit(pd.Timestamp("2026-01-01"), False, False, nothing, nothing, nothing, free)
    normal = 1.6449 if level == 0.9 else 1.9600
    assert fit.critical(level) == pytest.approx(student, rel=0.02)
    assert fit.critical(level) - normal == pytest.approx(student - normal, rel=0.15, abs=1e-4)


def test_the_covariance_of_residuals_is_widened_by_every_lag_and_made_up_for_holes() -> None:
    residuals = np.array([[1.0], [2.0], [4.0]])
    days = pd.date_range("2026-01-01", periods=3)
    squares, lags = 21, [(1 * 2 + 2 * 4) * 3 / 2, 1 * 4 * 3]
    widened = squares + 2 * (lags[0] * 28 / 29 + lags[1] * 27 / 29)
    assert _long_run_covariance(days, residuals).item() == pytest.approx(widened)
    days = pd.DatetimeIndex(["2026-01-01", "2026-01-02", "2026-01-04"])
    lags = [1 * 2 * 3, 2 * 4 * 3, 1 * 4 * 3]
    widened = squares + 2 * (lags[0] * 28 / 29 + lags[1] * 27 / 29 + lags[2] * 26 / 29)
    assert _long_run_covariance(days, residuals).item() == pytest.approx(widened)


@pytest.mark.parametrize(
    ("n", "trend", "free"), [(280, False, 14), (560, True, 24), (560, False, 25), (28, False, 1)]
)
def test_the_slow_coefficients_take_degrees_of_freedom_of_the_noise(n: int, trend: bool, free: float) -> None:
    """Level, trend and the four of the season are slow; the days of the week are not."""
    days = course("2025-01-01", "2026-12-31")[:n]
    fit = _fit(days[["it_kwh"]], trend=trend)
    assert fit.free == pytest.approx(free)
    residuals = days[["it_kwh"]].to_numpy() - fit.predict(pd.DatetimeIndex(days.index))
    slow = 1 + 5 * trend if n < 330 else 5 + trend
    noise = _long_run_covariance(pd.DatetimeIndex(days.index), residuals) / n * (free + slow) / free
    assert fit.noise.item() == pytest.approx(noise.item())


def test_a_cycle_is_so_many_days_from_the_first_to_the_last() -> None:
    short, enough = course("2025-02-06", "2025-12-31"), course("2025-02-05", "2025-12-31")
    assert (len(short), len(enough)) == (329, 330)
    assert project_year(short, 2026).pue is None
    assert project_year(enough, 2026).seasonal
    assert is_too_early(pd.DatetimeIndex(short.index), date(2026, 1, 1))
    assert not is_too_early(pd.DatetimeIndex(enough.index), date(2026, 1, 1))


def test_the_interval_narrows_as_the_year_goes_on() -> None:
    whole = course("2025-01-01", "2026-12-31")
    widths = []
    for end in ("2026-03-31", "2026-08-31", "2026-11-30"):
        found = project_year(whole[:end], 2026)
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("first", ["2025-01-01", "2025-08-01", "2026-01-20", "2026-06-01"])
def test_where_it_is_too_early_there_is_no_figure(first: str) -> None:
    for last in pd.date_range(first, "2026-12-20", freq="17D"):
        days, on = course(first, str(last.date())), (last + pd.Timedelta(days=1)).date()
        assert not is_too_early(pd.DatetimeIndex(days.index), on) or project_year(days, on.year).pue is None
    assert not is_too_early(pd.date_range("2025-01-01", "2026-02-01"), date(2026, 2, 2))


def test_four_weeks_are_the_least_history() -> None:
    for n, is_early in ((27, True), (28, False)):
        days = pd.date_range(end="2026-12-25", periods=n)
        assert is_too_early(days, date(2026, 12, 26)) == is_early


def test_without_a_cycle_a_third_of_the_history_is_looked_ahead() -> None:
    for on, is_early in ((date(2026, 12, 3), True), (date(2026, 12, 4), False)):
        days = pd.date_range(end=pd.Timestamp(on) - pd.Timedelta(days=1), periods=84)
        assert is_too_early(days, on) == is_early, "28 days are left from the 4th on"


def test_too_little_history_gives_no_figure_and_says_why() -> None:
    found = project_year(course("2026-03-01", "2026-05-31"), 2026)
    assert found.pue is None
    assert found.reason == ("92 days of history do not show the season; 330 are needed to project 273 days")
    assert (
        project_year(course("2026-03-01", "2026-03-10"), 2026).reason == "10 days of history; 28 are needed"
    )
    assert found.chance_above(1.5) is None


def test_near_the_end_of_the_year_a_short_history_is_enough() -> None:
    whole = course("2026-01-01", "2026-12-31")
    found = project_year(whole[:"2026-10-31"], 2026)
    assert found.pue == pytest.approx(true_pue(whole, 2026), abs=0.02)
    assert not found.seasonal


def test_a_whole_measured_year_needs_no_projection() -> None:
    whole = course("2026-01-01", "2026-12-31")
    found = project_year(whole, 2026)
    assert found.pue == pytest.approx(true_pue(whole, 2026))
    assert found.low == found.high == found.pue
    assert (found.chance_above(1.0), found.chance_above(2.0)) == (1.0, 0.0)


def test_days_that_are_hardly_covered_are_projected() -> None:
    whole = course("2025-01-01", "2026-12-31")
    holed = whole.copy()
    holed.loc["2026-07-01":"2026-07-31", "coverage_ratio"] = 0.2
    holed.loc["2026-07-01":"2026-07-31", ["facility_kwh", "it_kwh"]] *= 0.2
    found = project_year(holed, 2026)
    assert found.projected_days == 31
    assert found.pue == pytest.approx(true_pue(whole, 2026), abs=0.005)


def test_partly_covered_days_are_scaled_to_the_whole_day() -> None:
    whole = course("2026-01-01", "2026-12-31")
    part = whole.copy()
    part["coverage_ratio"] = 0.95
    part[["facility_kwh", "it_kwh"]] *= 0.95
    assert project_year(part, 2026).it_kwh == pytest.approx(float(whole["it_kwh"].sum()))


def test_without_spread_the_chance_is_yes_or_no() -> None:
    known = Projection(2026, 365, 0, pue=1.4, low=1.4, high=1.4)
    assert [known.chance_above(limit) for limit in (1.39, 1.4, 1.41)] == [1.0, 0.0, 0.0]


def test_a_day_that_is_covered_just_well_enough_counts() -> None:
    whole = course("2025-01-01", "2026-12-31")
    whole.loc["2026-07-01":"2026-07-31", "coverage_ratio"] = 0.9
    assert project_year(whole, 2026).projected_days == 0
    whole.loc["2026-07-01", "coverage_ratio"] = 0.8999
    assert project_year(whole, 2026).projected_days == 1


def test_the_chance_of_ending_above_a_limit() -> None:
    found = Projection(2026, 200, 165, 1.5, 1.45, 1.55)
    assert found.chance_above(1.5) == pytest.approx(0.5)
    assert Projection(2026, 200, 165, 1.5).chance_above(1.4) is None
    assert found.chance_above(1.55) == pytest.approx(0.05)
    assert found.chance_above(1.45) == pytest.approx(0.95)


def test_a_budget_that_lasts_and_one_that_does_not() -> None:
    whole = course("2025-01-01", "2026-12-31")
    wide, tight = budgets(whole[:"2026-04-30"], 2026, (1.5, 1.38))
    assert wide.crossed_in is None
    assert wide.left_kwh is not None
    assert wide.allowed_kwh is not None
    assert wide.left_kwh == pytest.approx(wide.allowed_kwh - wide.used_kwh)
    assert tight.crossed_in is not None
    of_year = whole.loc["2026-01-01":"2026-12-31"]
    overhead = (of_year["facility_kwh"] - of_year["it_kwh"]).cumsum()
    truth = overhead[overhead > 0.38 * of_year["it_kwh"].sum()].index[0]
    assert abs((pd.Timestamp(tight.crossed_in) - truth).days) <= 31


def test_a_budget_without_a_projection_still_tells_the_margin() -> None:
    days = course("2026-03-01", "2026-04-30")
    found = overhead_budget(days, 2026, 1.5)
    assert (found.allowed_kwh, found.left_kwh, found.crossed_in) == (None, None, None)
    assert found.margin_kwh == pytest.approx(float((1.5 * days["it_kwh"] - days["facility_kwh"]).sum()))


def test_a_budget_crossed_in_the_past_names_that_month() -> None:
    whole = course("2026-01-01", "2026-12-31", base_pue=1.8, summer=0)
    found = overhead_budget(whole, 2026, 1.5)
    assert found.crossed_in == date(2026, 8, 1)
    assert found.left_kwh is not None
    assert found.left_kwh < 0


def peaks(days: int, start_kw: float, per_year_kw: float, noise_kw: float = 2.0, seed: int = 3) -> pd.Series:
    index = pd.date_range("2025-01-01", periods=days)
    noise = np.random.default_rng(seed).normal(0, noise_kw, days)
    return pd.Series(start_kw + per_year_kw * np.arange(days) / 365.25 + noise, index)


def test_a_growing_load_reaches_its_capacity() -> None:
    found = exhaustion(peaks(400, 500, 50), 600)
    assert found.on is not None
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest <= found.on <= found.latest
    assert abs((found.on - date(2027, 1, 1)).days) < 40
    assert found.earliest <= date(2027, 1, 1) <= found.latest


def test_a_flat_load_does_not_reach_it() -> None:
    found = exhaustion(peaks(400, 500, 0), 900)
    assert (found.on, found.reason) == (None, "not within 2000 days at the current growth")


def test_a_capacity_that_was_reached_says_when() -> None:
    found = exhaustion(peaks(400, 500, 50, noise_kw=0), 525)
    assert (found.on, found.reason) == (date(2025, 7, 3), "reached already")


def test_a_short_history_says_nothing_about_capacity() -> None:
    assert exhaustion(peaks(60, 500, 50), 900).reason == "60 days of history; 90 are needed"


def test_days_must_be_naive_midnights_in_order() -> None:
    good = course("2026-01-01", "2026-03-31")
    for bad in (good[::-1], good.tz_localize("UTC"), good.set_index(good.index + pd.Timedelta(hours=8))):
        with pytest.raises(SeriesError, match="days must"):
            project_year(bad, 2026)


def test_no_history_at_all() -> None:
    empty = course("2026-01-01", "2026-01-02")[:0]
    assert project_year(empty, 2026).reason == "0 days of history; 28 are needed"


def test_the_first_reason_without_a_figure_is_less_than_four_weeks() -> None:
    days = course("2026-11-25", "2026-12-22")
    assert len(days) == 28
    assert project_year(days[1:], 2026).reason == "27 days of history; 28 are needed"
    assert project_year(days, 2026).reason == (
        "28 days of history do not show the season; 330 are needed to project 337 days"
    )


def test_a_third_of_the_history_is_projected_and_no_day_more() -> None:
    """92 days of the year are missing, before the history began."""
    summer = course("2026-04-03", "2026-12-31")
    assert len(summer) == 273
    three, two = (course(first, "2025-12-31") for first in ("2025-12-29", "2025-12-30"))
    assert project_year(pd.concat([three, summer]), 2026).pue is not None
    assert project_year(pd.concat([two, summer]), 2026).pue is None
    assert overhead_budget(pd.concat([two, summer]), 2026, 1.5).allowed_kwh is None


def test_a_cycle_needs_every_second_day_and_eleven_months() -> None:
    year = course("2025-01-01", "2025-12-31")
    scattered = year.iloc[np.unique(np.linspace(0, 364, 165).astype(int))]
    assert len(scattered) == 165
    assert project_year(scattered, 2026).seasonal
    middle = scattered.index[80]
    assert project_year(scattered.drop(middle), 2026).pue is None, "164 days"
    months = pd.DatetimeIndex(year.index).month
    assert project_year(year[months != 6], 2026).seasonal
    assert project_year(year[(months != 6) & (months != 7)], 2026).pue is None, "10 months"


def test_a_capacity_may_be_reached_on_the_first_day_to_come() -> None:
    growing = pd.Series(500.0 + np.arange(90), pd.date_range("2026-01-01", periods=90))
    assert exhaustion(growing, 589.0).on == date(2026, 3, 31)
    assert exhaustion(growing, 589.0).reason == "reached already"
    ahead = exhaustion(growing, 589.5)
    assert (ahead.on, ahead.earliest, ahead.reason) == (date(2026, 4, 1), date(2026, 4, 1), None)
    assert exhaustion(growing, 590.5).on == date(2026, 4, 2)
    growing.iloc[-2:] -= 20
    below = exhaustion(growing, 588.9)
    assert below.on is not None
    assert below.earliest == date(2026, 4, 1), "the day that was measured did not reach it"
    assert exhaustion(growing[:-1], 900.0).reason == "89 days of history; 90 are needed"


def test_the_course_of_a_year_ends_where_the_projection_does() -> None:
    days = course("2025-01-01", "2026-06-30")
    found, whole = year_course(days, 2026), project_year(days, 2026)
    assert [p.day.month for p in found] == list(range(1, 13))
    assert (found[-1].pue, found[-1].low, found[-1].high) == pytest.approx((whole.pue, whole.low, whole.high))
    assert [p.is_measured for p in found] == [True] * 6 + [False] * 6
    assert all(p.low == p.pue == p.high for p in found[:6])
    assert found[6].high - found[6].low < found[-1].high - found[-1].low
    assert found[-1].overhead_kwh > found[0].overhead_kwh
    first = days.loc["2026-01-01":"2026-01-31"].sum()
    assert found[0].pue == pytest.approx(first["facility_kwh"] / first["it_kwh"])


def test_a_short_history_has_a_course_of_what_was_measured() -> None:
    found = year_course(course("2026-03-01", "2026-04-15"), 2026)
    assert [(p.day.month, p.is_measured) for p in found] == [(3, True), (4, True)]


def test_growth_is_the_line_that_exhaustion_follows() -> None:
    days = pd.date_range("2026-01-01", "2026-10-31")
    peaks = pd.Series(500 + 0.5 * np.arange(len(days)) + np.tile([0, 3, -2, 1], 76), index=days)
    line = growth(peaks, days_ahead=400)
    full = exhaustion(peaks, 700.0)
    assert full.on is not None
    beyond = next(p for p in line if p.expected_kw >= 700)
    assert abs((beyond.day - full.on).days) <= 30
    assert all(p.low_kw <= p.expected_kw <= p.high_kw for p in line)
    assert growth(peaks.iloc[:20]) == ()
