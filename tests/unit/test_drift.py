"""Drift of a plant from its own baseline: found, dated, attributed, explained, over."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from app.domain import drift
from app.domain.drift import Course, Limit, Mark, Noise, PlantDays
from app.errors import SeriesError

Floats = npt.NDArray[np.float64]
FIRST = date(2025, 1, 1)
NOISE = Noise(0.02, 0.4)


def wander(days: int, seed: int, noise: Noise = NOISE) -> Floats:
    """Residual of a plant without drift: an autoregressive process of first order."""
    news = np.random.default_rng(seed).standard_normal(days)
    found = np.empty(days)
    found[0] = news[0]
    for t in range(1, days):
        found[t] = noise.persistence * found[t - 1] + math.sqrt(1 - noise.persistence**2) * news[t]
    return found * noise.sd_ratio


def plant(excess_ratio: Floats, first: date = FIRST) -> PlantDays:
    """Days whose expectation follows the season."""
    t = np.arange(len(excess_ratio))
    expected_kw = 200 + 60 * np.sin(2 * np.pi * t / 365)
    return PlantDays(np.datetime64(first, "D") + t, expected_kw * (1 + excess_ratio), expected_kw)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def degraded(seed: int, *, onset: int = 100, excess: float = 0.05, days: int = 200) -> Floats:
    return np.asarray(wander(days, seed) + np.where(np.arange(days) >= onset, excess, 0.0))


def test_a_step_is_found_within_three_weeks_and_dated() -> None:
    course = drift.watch(plant(degraded(1)), NOISE)
    (found,) = course.episodes
    assert course.open is found
    assert day(100) <= found.found_on <= day(121)
    assert abs((found.onset - day(100)).days) <= 5
    assert found.excess_ratio == pytest.approx(0.05, abs=0.01)
    assert course.excess_ratio[-1] == found.excess_ratio
    assert not course.excess_ratio[: (found.found_on - FIRST).days].any()


def test_what_is_said_of_a_day_depends_on_no_later_day() -> None:
    x = degraded(2)
    whole = drift.watch(plant(x), NOISE).excess_ratio
    for end in (90, 110, 130, 170):
        np.testing.assert_array_equal(drift.watch(plant(x[:end]), NOISE).excess_ratio, whole[:end])


def test_a_repaired_plant_is_found_to_be_back() -> None:
    x = degraded(3)
    x[150:] -= 0.05
    (found,) = drift.watch(plant(x), NOISE).episodes
    assert found.over_by == ""
    assert found.over_on is not None
    assert day(150) <= found.over_on <= day(180)


def test_less_use_is_no_drift() -> None:
    assert drift.watch(plant(degraded(4, excess=-0.06)), NOISE).episodes == ()


def test_days_that_are_not_known_change_nothing() -> None:
    x = degraded(5)
    x[120:140] = np.nan
    course = drift.watch(plant(x), NOISE)
    assert np.isnan(course.sums[120:140]).all()
    assert course.open is not None
    assert np.ptp(course.excess_ratio[120:140]) == pytest.approx(0)
    gone = plant(x)
    keep = np.isfinite(x)
    shorter = PlantDays(gone.dates[keep], gone.actual_kw[keep], gone.expected_kw[keep])
    assert drift.watch(shorter, NOISE).episodes == course.episodes


def test_one_day_alone_proves_nothing() -> None:
    x = np.asarray(wander(200, 6))
    x[100] += 5.0
    assert drift.watch(plant(x), NOISE).episodes == ()


def test_a_measure_ends_a_drift_and_the_level_is_learned_anew() -> None:
    x = degraded(7, days=300)
    x[150:] -= 0.10
    measure = Mark(day(150), "measure set-point", is_measure=True)
    course = drift.watch(plant(x), NOISE, [measure])
    (found,) = course.episodes
    assert (found.over_on, found.over_by) == (day(150), "measure set-point")
    assert np.isnan(course.excess_ratio[150:177]).all()
    assert course.learning_since is None
    assert course.level_ratio[-1] == pytest.approx(0.95, abs=0.01)


def test_a_measure_that_saved_does_not_hide_a_later_drift() -> None:
    x = np.asarray(wander(300, 8))
    x[100:] -= 0.10
    x[200:] += 0.06
    course = drift.watch(plant(x), NOISE, [Mark(day(100), "measure fans", is_measure=True)])
    (found,) = course.episodes
    assert abs((found.onset - day(200)).days) <= 5
    assert found.excess_ratio == pytest.approx(0.06 / 0.9, abs=0.012)


def test_while_the_level_is_learned_nothing_is_said() -> None:
    course = drift.watch(plant(wander(20, 9)), NOISE, [Mark(day(5), "measure", is_measure=True)])
    assert course.learning_since is not None
    assert not course.excess_ratio[:5].any()
    assert np.isnan(course.excess_ratio[5:]).all()


@pytest.mark.parametrize("beside", [-6, 0, 6])
def test_a_step_beside_a_replaced_meter_is_not_called_drift(beside: int) -> None:
    mark = Mark(day(100 + beside), "replaced sh1-pdu-b2")
    course = drift.watch(plant(degraded(1)), NOISE, [mark])
    assert course.episodes == ()
    ((onset, named),) = course.explained
    assert named is mark
    assert abs((onset - day(100)).days) <= 5


def test_a_replaced_meter_without_a_step_changes_nothing() -> None:
    x = degraded(1)
    marks = [Mark(day(40), "replaced sh1-pdu-b2")]
    assert drift.watch(plant(x), NOISE, marks).episodes == drift.watch(plant(x), NOISE).episodes


def test_a_replaced_meter_whose_readings_hardly_moved_explains_nothing() -> None:
    still = Mark(day(100), "replaced sh1-pdu-b2", step_kw=2.0)
    moved = Mark(day(100), "replaced sh1-pdu-b2", step_kw=-9.0)
    assert drift.watch(plant(degraded(1)), NOISE, [still]).open is not None
    assert drift.watch(plant(degraded(1)), NOISE, [moved]).open is None


def test_what_was_known_counts_for_some_days() -> None:
    course = drift.watch(plant(degraded(1)), NOISE)
    assert math.isnan(course.before(FIRST))
    assert course.before(day(50)) == 0.0
    assert course.before(day(200)) == course.excess_ratio[-1] > 0.03
    assert course.before(day(210)) == course.excess_ratio[-1]
    assert math.isnan(course.before(day(240)))


def test_the_noise_is_that_of_the_known_days() -> None:
    x = np.asarray(wander(2000, 10, Noise(0.03, 0.5)))
    x[::50] = np.nan
    found = Noise.of(plant(x))
    assert found is not None
    assert found.sd_ratio == pytest.approx(0.03, rel=0.1)
    assert found.persistence == pytest.approx(0.5, abs=0.07)
    assert Noise.of(plant(x[:50])) is None
    assert Noise.of(plant(np.zeros(365))) == Noise(drift.LEAST_SD_RATIO, 0.0)


def test_the_chart_is_the_slower_the_noisier_the_plant() -> None:
    calm, loud = drift.Chart.of(Noise(0.02, 0.2)), drift.Chart.of(Noise(0.04, 0.6))
    assert calm.days_to_find < 8 < 21 < loud.days_to_find
    assert calm.learning_days == 28
    assert loud.learning_days == 56


def test_lengths_and_order_are_checked() -> None:
    good = plant(np.zeros(3))
    with pytest.raises(SeriesError, match="length"):
        PlantDays(good.dates, good.actual_kw[:2], good.expected_kw)
    with pytest.raises(SeriesError, match="increasing"):
        PlantDays(good.dates[[0, 0, 1]], good.actual_kw, good.expected_kw)


# -- loads that the baseline has not seen ---------------------------------------------------------------


def moved(excess_ratio: Floats, it_kw: Floats, highest_seen_kw: float = 660.0) -> PlantDays:
    """A plant whose IT load may leave what was seen; what the baseline expects there is 8 % too little."""
    days, beyond = plant(excess_ratio), it_kw > highest_seen_kw
    actual_kw = np.where(beyond, 1.08, 1.0) * days.actual_kw
    return PlantDays(days.dates, actual_kw, days.expected_kw, np.full(len(it_kw), 0.005), it_kw, ~beyond)


def load(*steps: tuple[int, float], days: int = 200) -> Floats:
    found = np.full(days, 600.0)
    for start, kw in steps:
        found[start:] = kw
    return found


def test_at_a_new_load_the_level_is_learned_and_a_drift_found() -> None:
    course = drift.watch(moved(degraded(1), load((40, 720.0))), NOISE)
    (found,) = course.episodes
    assert day(100) <= found.found_on <= day(121)
    assert found.excess_ratio == pytest.approx(0.05, abs=0.012)
    assert np.isnan(course.excess_ratio[40:67]).all()
    assert course.level_ratio[-1] == pytest.approx(1.08, abs=0.01)


def test_a_new_load_is_no_drift_even_where_the_baseline_is_wrong_there() -> None:
    course = drift.watch(moved(wander(200, 1), load((100, 720.0))), NOISE)
    assert course.episodes == ()


def test_what_comes_with_the_new_load_is_not_told_from_it() -> None:
    course = drift.watch(moved(degraded(1), load((100, 720.0))), NOISE)
    assert course.episodes == ()
    assert course.learning_since is None


def test_while_the_level_at_a_new_load_is_learned_that_is_said() -> None:
    course = drift.watch(moved(wander(60, 1), load((50, 720.0), days=60)), NOISE)
    assert course.learning_since == Mark(day(50), drift.LOAD_BEYOND)
    assert math.isnan(course.before(day(60)))


def test_a_drift_is_not_learned_as_the_level_of_a_new_load() -> None:
    course = drift.watch(moved(degraded(1), load((150, 720.0))), NOISE)
    (found,) = course.episodes
    assert found.is_open
    assert np.ptp(course.excess_ratio[150:]) == pytest.approx(0), "nothing new is known of it"
    back = drift.watch(moved(degraded(1, days=300), load((150, 720.0), (200, 600.0), days=300)), NOISE)
    assert back.episodes[0].onset == found.onset
    assert back.open is not None


def test_a_drift_is_followed_as_far_as_the_baseline_states_figures() -> None:
    days = moved(degraded(1), load((150, 690.0)))
    stated = np.ones(200, np.bool_)
    plain = PlantDays(*(getattr(days, name) for name in ("dates", "actual_kw", "expected_kw")))
    near = PlantDays(
        plain.dates, plain.actual_kw, plain.expected_kw, days.error_ratio, days.it_kw, days.seen, stated
    )
    course = drift.watch(near, NOISE)
    assert course.open is not None
    assert np.ptp(course.excess_ratio[150:]) > 0.001


def test_a_level_holds_when_the_load_comes_again() -> None:
    it_kw = load((40, 720.0), (80, 600.0), (95, 720.0))
    course = drift.watch(moved(degraded(1), it_kw), NOISE)
    (found,) = course.episodes
    assert day(100) <= found.found_on <= day(121)


def test_a_load_to_and_fro_across_what_was_seen_hides_nothing() -> None:
    it_kw = load((40, 680.0))
    it_kw[70::2] = 640.0
    (found,) = drift.watch(moved(degraded(1), it_kw), NOISE).episodes
    assert day(100) <= found.found_on <= day(121)


def test_another_new_load_is_learned_again() -> None:
    course = drift.watch(moved(wander(200, 1), load((40, 700.0), (120, 780.0))), NOISE)
    assert course.episodes == ()
    assert np.isnan(course.excess_ratio[120:147]).all()
    assert course.excess_ratio[-1] == 0


def test_a_measure_at_a_new_load_is_learned_there_and_at_home() -> None:
    x = np.asarray(wander(300, 8))
    x[120:] -= 0.10
    x[250:] += 0.06
    measure = Mark(day(120), "measure fans", is_measure=True)
    it_kw = load((40, 720.0), (180, 600.0), days=300)
    (found,) = drift.watch(moved(x, it_kw), NOISE, [measure]).episodes
    assert abs((found.onset - day(250)).days) <= 5
    assert found.excess_ratio == pytest.approx(0.06 / 0.9, abs=0.015)


def test_a_replaced_meter_at_a_new_load_moves_both_levels() -> None:
    it_kw = load((20, 720.0), (150, 600.0), days=300)
    mark = Mark(day(100), "replaced sh1-pdu-b2")
    course = drift.watch(moved(degraded(1, days=300), it_kw), NOISE, [mark])
    assert course.episodes == ()
    assert [named for _, named in course.explained] == [mark]


def test_meters_are_named_at_a_new_load_too() -> None:
    excess = np.where(np.arange(260) >= 200, 0.06, 0.0)
    it_kw = load((60, 720.0), days=260)
    days = moved(np.asarray(wander(260, 12) + excess), it_kw)
    found = drift.blame(days, drift.watch(days, NOISE), it_kw, machines(days, excess))
    assert found.mostly == "chiller-2"
    assert found.excess_kwh["chiller-2"] == pytest.approx(found.total_kwh, rel=0.35)


def test_loads_that_were_not_seen_need_the_load() -> None:
    days = plant(np.zeros(3))
    with pytest.raises(SeriesError, match="it_kw is needed"):
        PlantDays(days.dates, days.actual_kw, days.expected_kw, seen=np.zeros(3, np.bool_))
    with pytest.raises(SeriesError, match="one value for each day"):
        PlantDays(days.dates, days.actual_kw, days.expected_kw, np.zeros(2))


# -- weeks to the limit --------------------------------------------------------------------------------


def test_weeks_to_the_limit_follow_the_growth_of_the_excess() -> None:
    x = np.asarray(wander(200, 11))
    x[120:] += 0.02 + 0.002 * np.arange(80)
    days = plant(x)
    course = drift.watch(days, NOISE)
    found = drift.weeks_to_limit(days, course, Limit(pue=1.44, limit=1.50, overhead_ratio=0.4))
    assert found == pytest.approx(0.06 / (0.002 * 0.4) / 7, rel=0.25)
    assert drift.weeks_to_limit(days, course, Limit(1.51, 1.50, 0.4)) == 0.0
    assert drift.weeks_to_limit(days, course, Limit(1.10, 1.50, 0.4)) is None


def test_without_growth_no_weeks_are_said() -> None:
    days = plant(degraded(1))
    against = Limit(1.44, 1.5, 0.4)
    assert drift.weeks_to_limit(days, drift.watch(days, NOISE), against) is None
    calm = plant(wander(200, 1))
    assert drift.weeks_to_limit(calm, drift.watch(calm, NOISE), against) is None


# -- the meters ----------------------------------------------------------------------------------------


def machines(days: PlantDays, excess_ratio: Floats) -> dict[str, Floats]:
    """A plant of two chillers and fans; the excess beyond noise comes from the second chiller alone."""
    extra_kw = days.expected_kw * excess_ratio
    return {
        "chiller-1": 0.3 * days.expected_kw,
        "chiller-2": 0.25 * days.expected_kw + extra_kw,
        "fans": np.full(len(extra_kw), 50.0),
    }


def test_the_meter_that_the_excess_comes_from_is_named() -> None:
    excess = np.where(np.arange(200) >= 100, 0.06, 0.0)
    days = plant(np.asarray(wander(200, 12) + excess))
    course = drift.watch(days, NOISE)
    found = drift.blame(days, course, np.full(200, 600.0), machines(days, excess))
    assert found.mostly == "chiller-2"
    assert next(iter(found.excess_kwh)) == "chiller-2"
    assert found.excess_kwh["chiller-2"] == pytest.approx(found.total_kwh, rel=0.2)


def test_no_meter_is_named_where_several_share_or_none_is_known() -> None:
    excess = np.where(np.arange(200) >= 100, 0.06, 0.0)
    days = plant(np.asarray(wander(200, 13) + excess))
    course, it_kw = drift.watch(days, NOISE), np.full(200, 600.0)
    shared = {f"chiller-{n}": 0.25 * days.actual_kw for n in range(1, 4)}
    assert drift.blame(days, course, it_kw, shared).mostly == ""
    unknown = {"chiller-2": np.full(200, np.nan)}
    assert drift.blame(days, course, it_kw, unknown).excess_kwh == {}
    calm = plant(np.zeros(200))
    assert drift.blame(calm, drift.watch(calm, NOISE), it_kw, shared).excess_kwh == {}


def test_a_step_of_a_meter_at_a_measure_is_not_its_excess() -> None:
    excess = np.where(np.arange(300) >= 220, 0.06, 0.0)
    days = plant(np.asarray(wander(300, 14) + excess - np.where(np.arange(300) >= 100, 0.08, 0.0)))
    measure = Mark(day(100), "measure fans", is_measure=True)
    course = drift.watch(days, NOISE, [measure])
    power = machines(days, excess)
    power["fans"] = np.where(np.arange(300) >= 100, 30.0, 50.0)
    found = drift.blame(days, course, np.full(300, 600.0), power, [measure])
    assert found.mostly == "chiller-2"
    assert abs(found.excess_kwh["fans"]) < 0.05 * found.total_kwh


# -- how often it is wrong -----------------------------------------------------------------------------

LOUD = Noise(0.025, 0.45)


def runs(count: int, seed: int, excess: float) -> list[Course]:
    """Plants whose noise is estimated from one year and who are watched in the next."""
    found = []
    for n in range(count):
        year = Noise.of(plant(wander(365, seed + 2 * n, LOUD)))
        assert year is not None
        later = wander(365, seed + 2 * n + 1, LOUD) + np.where(np.arange(365) >= 200, excess, 0.0)
        found.append(drift.watch(plant(np.asarray(later)), year))
    return found


def test_false_alarms_are_rarer_than_one_in_five_site_years() -> None:
    assert sum(len(course.episodes) for course in runs(60, 1000, 0.0)) <= 60 / 5


def test_five_percent_are_found_within_21_days_in_nine_of_ten() -> None:
    late = [not _is_found(course) for course in runs(60, 5000, 0.05)]
    assert sum(late) <= 60 / 10


def _is_found(course: Course) -> bool:
    return any(day(200) <= one.found_on <= day(221) for one in course.episodes)
