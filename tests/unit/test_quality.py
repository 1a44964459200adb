"""Each detector finds what it is for, and only that."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.domain.energy import Event, EventKind, Series
from app.domain.quality.clock import clock_drift, interval_too_long
from app.domain.quality.detect import meter_findings, negative_remainders, point_findings, site_findings
from app.domain.quality.finding import Finding, FindingKind, Severity, at
from app.domain.quality.pairs import dead_register, measured_quarters, unit_suspected
from app.domain.quality.registers import cross_talk, register_findings
from app.domain.quality.values import (
    bad_minutes,
    conflicting_duplicates,
    gaps,
    negative_power,
    power_spikes,
    stuck,
)
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Falls, Meter, Point, Site, Stage
from app.domain.tree import Feed, FeedBalance, Remainder

START = datetime(2026, 3, 2, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
REGISTER = Point(id="r", role=Role.COOLING, kind=ReadingKind.REGISTER, max_power_kw=200, modulus_kwh=1e6)
POWER = Point(id="p", role=Role.COOLING, kind=ReadingKind.POWER, max_power_kw=200)


def series(
    values: list[float] | np.ndarray,
    *,
    step_s: float = 900,
    minutes: list[float] | None = None,
    interval_s: int = 0,
) -> Series:
    offsets_s = np.arange(len(values)) * step_s if minutes is None else np.array(minutes) * 60
    interval = np.full(len(values), interval_s, np.int32)
    return Series(
        START_US + np.rint(offsets_s * 1e6).astype(np.int64), np.array(values, np.float64), interval, interval
    )


def instant(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def busy(n: int, mean_kw: float = 100.0, seed: int = 1) -> np.ndarray:
    """Power that changes with every reading."""
    return mean_kw + np.random.default_rng(seed).normal(0, mean_kw / 20, n).cumsum() % (mean_kw / 4)


def counted(power_kw: np.ndarray, first: float = 1000.0) -> np.ndarray:
    """Register of such a power, read at the same instants."""
    return np.concatenate([[first], first + np.cumsum((power_kw[:-1] + power_kw[1:]) / 8)])


def test_a_rollover_is_explained() -> None:
    found = only(register_findings(REGISTER, series([999_980, 999_990, 15, 30])))
    assert (found.kind, found.severity, found.effect_kwh) == (FindingKind.ROLLOVER, Severity.INFO, 25)
    assert (found.start, found.end) == (instant(15), instant(30))


def test_the_multiplier_scales_the_effect() -> None:
    tens = Point(id="r", role=Role.COOLING, kind=ReadingKind.REGISTER, multiplier=10, modulus_kwh=1e6)
    assert only(register_findings(tens, series([999_980, 999_990, 15, 30]))).effect_kwh == 250


def test_an_undeclared_restart_near_zero_is_a_reset() -> None:
    found = only(register_findings(REGISTER, series([5000, 5010, 5020, 2, 12, 22, 32, 42])))
    assert (found.kind, found.effect_kwh) == (FindingKind.RESET, None)
    assert found.evidence == {"before": 5020, "after": 2}


@pytest.mark.parametrize("after", [3000.0, 9000.0])
def test_another_level_is_a_suspected_replacement(after: float) -> None:
    found = only(register_findings(REGISTER, series([5000, 5010, 5020, *(after + 10 * i for i in range(8))])))
    assert found.kind is FindingKind.REPLACEMENT_SUSPECTED
    assert found.severity is Severity.WARNING


def test_a_clock_set_back_is_no_replacement() -> None:
    ahead = [m + 10 if 100 <= m < 200 else m for m in range(400)]
    stamped = dict(reversed(list(zip(ahead, 1000 + 40 / 60 * np.arange(400), strict=True))))
    minutes = sorted(stamped)
    rated = Point(id="r", role=Role.COOLING, kind=ReadingKind.REGISTER, max_power_kw=100, interval_s=60)
    found = only(register_findings(rated, series([stamped[m] for m in minutes], minutes=minutes)))
    assert found.kind is FindingKind.CLOCK_DRIFT
    assert found.effect_kwh == pytest.approx(11 * 40 / 60)


def test_a_declared_replacement_is_told_as_such() -> None:
    event = Event(
        EventKind.REPLACED, int(instant(40).timestamp() * 1e6), int(instant(40).timestamp() * 1e6), 5025, 7
    )
    found = only(register_findings(REGISTER, series([5000, 5010, 5020, 10, 20, 30]), [event]))
    assert (found.kind, found.severity, found.effect_kwh) == (FindingKind.REPLACED, Severity.INFO, 0)


def test_a_declared_reset_without_values_leaves_energy_unknown() -> None:
    event = Event(EventKind.RESET, int(instant(40).timestamp() * 1e6), int(instant(40).timestamp() * 1e6))
    found = only(register_findings(REGISTER, series([5000, 5010, 5020, 10, 20, 30]), [event]))
    assert (found.kind, found.severity, found.effect_kwh) == (FindingKind.RESET, Severity.WARNING, None)


def test_a_transient_zero_says_what_it_would_have_invented() -> None:
    found = only(register_findings(REGISTER, series([3700, 3710, 0, 3720, 3730, 3740])))
    assert (found.kind, found.effect_kwh) == (FindingKind.TRANSIENT_ZERO, 3710)
    assert found.start == found.end == instant(30)


def test_a_register_spike_says_what_it_would_have_invented() -> None:
    found = only(register_findings(REGISTER, series([3700, 3710, 69_246, 3720, 3730, 3740])))
    assert (found.kind, found.effect_kwh) == (FindingKind.SPIKE, 65_536)


def test_a_declared_correction_takes_the_finding_away() -> None:
    bad_us = START_US + 2 * 900_000_000
    void = Event(EventKind.CORRECTION, bad_us, bad_us)
    assert register_findings(REGISTER, series([3700, 3710, 0, 3720, 3730, 3740]), [void]) == []


def test_a_daily_restart_that_is_declared_is_no_finding() -> None:
    daily = Point(id="r", role=Role.COOLING, kind=ReadingKind.REGISTER, falls=Falls.RESET_TO_ZERO)
    assert register_findings(daily, series([10, 20, 5, 15, 3, 13, 2, 12])) == []


MIXED = [4.0, 53, 791, 4989, 4, 53, 791, 4990, 5, 54, 792, 4990, 5, 54, 792, 4991]


def test_interleaved_registers_are_cross_talk_and_nothing_else() -> None:
    found = only(register_findings(REGISTER, series(MIXED)))
    assert (found.kind, found.severity) == (FindingKind.CROSS_TALK, Severity.ERROR)
    assert found.evidence["tracks"] == 4
    assert found.evidence["levels"] == "4.5, 53.5, 791.5, 4990"


def test_a_few_foreign_values_in_a_sound_column_name_their_donor() -> None:
    own = 10_000 + 2.0 * np.arange(60)
    donor = 52_000 + 3.0 * np.arange(60)
    mixed = own.copy()
    mixed[[20, 23, 24, 29]] = donor[[20, 23, 24, 29]]
    others = {"d": series(donor), "x": series(own / 7)}
    found = only(cross_talk(REGISTER, series(mixed), others))
    assert found.evidence["donors"] == "d"
    assert instant(15 * 18) <= found.start <= instant(15 * 20)
    assert instant(15 * 29) <= found.end <= instant(15 * 31)


def test_the_site_names_the_donor_of_cross_talk() -> None:
    own = 10_000 + 2.0 * np.arange(60)
    donor = 52_000 + 3.0 * np.arange(60)
    mixed = own.copy()
    mixed[[20, 23, 24, 29]] = donor[[20, 23, 24, 29]]
    points = [Point(id=i, role=Role.COOLING, kind=ReadingKind.REGISTER) for i in ("a", "b")]
    site = Site(
        id="s",
        institution="i",
        time_zone="UTC",
        meters=tuple(Meter(id=f"m{p.id}", points=(p,)) for p in points),
    )
    found = only(site_findings(site, {"a": series(mixed), "b": series(donor)}))
    assert (found.kind, found.point, found.evidence["donors"]) == (FindingKind.CROSS_TALK, "a", "b")


def test_two_lone_transients_are_no_cross_talk() -> None:
    values = 5000 + 10.0 * np.arange(60)
    values[[20, 40, 50]] = 0
    kinds = [f.kind for f in register_findings(REGISTER, series(values))]
    assert kinds == [FindingKind.TRANSIENT_ZERO] * 3


def test_a_gap_of_a_register_has_its_energy() -> None:
    found = only(gaps(REGISTER, series([0, 10, 90, 100], minutes=[0, 15, 135, 150])))
    assert (found.kind, found.severity, found.effect_kwh) == (FindingKind.GAP, Severity.INFO, 80)
    assert (found.start, found.end) == (instant(15), instant(135))


def test_a_gap_behind_transformers_has_the_energy_of_the_circuit() -> None:
    tens = replace(REGISTER, multiplier=10)
    assert only(gaps(tens, series([0, 10, 90, 100], minutes=[0, 15, 135, 150]))).effect_kwh == 800


def test_a_gap_of_a_power_point_leaves_energy_unknown() -> None:
    found = only(gaps(POWER, series([40, 40, 60, 60], minutes=[0, 15, 135, 150])))
    assert (found.severity, found.effect_kwh, found.evidence["suggested_kwh"]) == (
        Severity.WARNING,
        None,
        100,
    )


def test_a_gap_of_intervals_ends_where_the_next_one_starts() -> None:
    stated = Point(id="i", role=Role.COOLING, kind=ReadingKind.INTERVAL_ENERGY)
    found = only(gaps(stated, series([1, 1, 1], minutes=[15, 30, 120], interval_s=900)))
    assert (found.start, found.end) == (instant(30), instant(105))


def test_one_missing_reading_is_listed_where_its_energy_is_lost() -> None:
    assert len(gaps(POWER, series([1, 2, 3], minutes=[0, 15, 45]))) == 1
    assert gaps(POWER, series([1, 2, 3], minutes=[0, 1, 3], step_s=60)) == []
    assert gaps(REGISTER, series([1, 2, 3], minutes=[0, 15, 45])) == []
    daily = Point(id="d", role=Role.COOLING, kind=ReadingKind.INTERVAL_MEAN_POWER, interval_s=86_400)
    assert len(gaps(daily, series([1, 2, 3], minutes=[0, 1440, 4320], interval_s=86_400))) == 1


def test_rare_but_regular_readings_are_no_gaps() -> None:
    assert gaps(REGISTER, series([0, 10, 20, 30, 40], minutes=[0, 60, 120, 180, 240])) == []


def test_readings_that_are_no_numbers_are_missing() -> None:
    assert len(gaps(POWER, series([1, 2, math.nan, math.nan, 3]))) == 1


def test_a_gap_in_which_nothing_flowed_is_known_as_well() -> None:
    found = only(gaps(REGISTER, series([0, 10, 10, 20], minutes=[0, 15, 135, 150])))
    assert (found.severity, found.effect_kwh) == (Severity.INFO, 0)


def test_a_value_that_stands_still_is_stuck() -> None:
    power = busy(2000)
    power[500:570] = power[500]
    found = only(stuck(POWER, series(power)))
    assert (found.start, found.end) == (instant(500 * 15), instant(569 * 15))
    assert found.evidence["readings"] == 70
    assert found.effect_kwh == pytest.approx(power[500] * 69 / 4)


def test_two_stuck_times_do_not_excuse_each_other() -> None:
    power = busy(4000)
    power[500:570], power[3000:3080] = power[500], power[3000]
    assert len(stuck(POWER, series(power))) == 2


def repeated(lengths: list[int]) -> np.ndarray:
    """Values of which each is repeated so many times."""
    return np.repeat(1.0 + np.arange(len(lengths)), lengths)


@pytest.mark.parametrize(
    ("habit", "shortest"),
    [
        pytest.param([1] * 50, 12, id="no habit"),
        pytest.param([1, 2, 2, 2, 2, 6] * 20, 16, id="by chance"),
        pytest.param([1, 20] * 60, 80, id="four times as long as the longest usual one"),
        pytest.param([1, 2] * 60 + [1, 10] * 5, 20, id="twice as long as the longest usual one"),
    ],
)
def test_the_length_from_which_a_run_is_stuck_follows_the_habit(habit: list[int], shortest: int) -> None:
    for length in (shortest - 1, shortest):
        found = stuck(POWER, series(repeated([*habit, length, 1])))
        assert [f.evidence["readings"] for f in found] == [length] * (length == shortest)


@pytest.mark.parametrize(("readings", "found"), [(120, 0), (121, 1)])
def test_a_value_is_stuck_only_from_two_hours_on(readings: int, found: int) -> None:
    assert len(stuck(POWER, series(repeated([*[1] * 200, readings, 1]), step_s=60))) == found


def test_as_many_long_runs_as_are_left_out_are_no_habit_and_one_more_is() -> None:
    lone = [1] * 60
    assert len(stuck(POWER, series(repeated([*lone, 30, *lone, 30, *lone, 30, *lone])))) == 3
    assert stuck(POWER, series(repeated([*lone, 30, *lone, 30, *lone, 30, *lone, 30, *lone]))) == []


def test_a_series_that_stands_still_for_most_of_the_time_has_no_habit() -> None:
    assert len(stuck(POWER, series(repeated([*[1] * 20, 20])))) == 1
    assert stuck(POWER, series(repeated([*[1] * 20, 21]))) == []


def test_only_a_register_catches_up_and_only_where_it_goes_on() -> None:
    to_the_end = counted(busy(400))
    to_the_end[370:] = to_the_end[370]
    assert "caught_up_kwh" not in only(stuck(REGISTER, series(to_the_end))).evidence
    stated = Point(id="i", role=Role.COOLING, kind=ReadingKind.INTERVAL_ENERGY)
    found = only(stuck(stated, series(repeated([*[1] * 50, 20, 1]), interval_s=900)))
    assert (found.effect_kwh, "caught_up_kwh" in found.evidence) == (None, False)


def test_what_is_usual_for_the_series_is_not_stuck() -> None:
    lighting = np.tile(np.repeat([12.0, 3.0], 48), 60)
    off = busy(3000)
    off[1000:1500] = 0
    coarse = np.repeat(np.round(busy(400)), 10)
    for values in (lighting, lighting[:140], off, coarse):
        assert stuck(POWER, series(values)) == []


def test_a_register_of_a_load_that_rests_is_not_stuck() -> None:
    generator = counted(np.where(np.arange(9000) % 2880 < 4, 500.0, 0.0))
    assert stuck(REGISTER, series(generator)) == []


def test_a_register_that_never_rests_is_stuck_when_it_does() -> None:
    values = counted(busy(2000))
    values[1000:] -= values[1099] - values[1000]
    values[1000:1100] = values[1099]
    assert only(stuck(REGISTER, series(values))).evidence["readings"] >= 100


def test_a_register_that_catches_up_was_stuck() -> None:
    resting = counted(np.where(np.arange(3000) % 96 < 60, busy(3000), 0.0))
    resting[1000:1200] = resting[1000]
    found = only(stuck(REGISTER, series(resting)))
    assert float(found.evidence["caught_up_kwh"]) > 1000


def test_a_register_that_catches_up_with_its_last_reading_was_stuck() -> None:
    resting = counted(np.where(np.arange(3000) % 96 < 60, busy(3000), 0.0))[:1201]
    resting[1000:1200] = resting[1000]
    found = only(stuck(REGISTER, series(resting)))
    assert found.end == instant(1199 * 15)
    assert found.evidence["caught_up_kwh"] == pytest.approx(resting[1200] - resting[1000])


def test_a_long_rest_after_which_a_register_does_not_catch_up_is_no_finding() -> None:
    power = np.where(np.arange(3000) % 96 < 60, busy(3000), 0.0)
    power[1000:1200] = 0
    assert stuck(REGISTER, series(counted(power))) == []


@pytest.mark.parametrize("quarters", [20, 21])
def test_a_register_is_dead_from_more_than_twenty_counts(quarters: int) -> None:
    values = 1000.0 + 25 * np.arange(200)
    values[50:] -= 25 * quarters
    values[50 : 50 + quarters + 1] = values[49] + 25
    found = dead_register((REGISTER, series(values)), measured_quarters(POWER, series(np.full(200, 100.0))))
    assert [f.effect_kwh for f in found] == [pytest.approx(25 * quarters)] * (quarters > 20)


@pytest.mark.parametrize("quarters", [7, 8])
def test_a_register_that_counts_finely_is_dead_after_two_hours(quarters: int) -> None:
    values = 1000.0 + 25 * np.arange(200)
    values[10:] += 0.25 - 25
    values[50:] -= 25 * quarters
    values[50 : 50 + quarters + 1] = values[49] + 25
    found = dead_register((REGISTER, series(values)), measured_quarters(POWER, series(np.full(200, 100.0))))
    assert [f.effect_kwh for f in found] == [pytest.approx(25 * quarters)] * (quarters == 8)


@pytest.mark.parametrize("n", [0, 1])
def test_power_that_was_hardly_read_proves_nothing(n: int) -> None:
    still = (REGISTER, series(np.full(200, 1000.0)))
    assert dead_register(still, measured_quarters(POWER, series(np.full(n, 100.0)))) == []
    assert unit_suspected(still, POWER, measured_quarters(POWER, series(np.full(n, 100.0)))) == []


def test_a_meter_pairs_the_power_with_the_register_of_the_same_flow() -> None:
    power = busy(960)
    dead = counted(power)
    dead[500:] -= dead[560] - dead[500]
    dead[500:561] = dead[560]
    readings = {"r": series(dead), "p": series(power)}
    found = only(meter_findings(Meter(id="m", points=(REGISTER, POWER)), readings))
    assert (found.kind, found.severity, found.point) == (FindingKind.STUCK, Severity.ERROR, "r")
    assert "power_says_kwh" in found.evidence
    wide = replace(REGISTER, max_power_kw=math.inf)
    readings = {"r": series(counted(power) / 10), "p": series(power)}
    found = only(meter_findings(Meter(id="m", points=(wide, POWER)), readings))
    assert (found.kind, found.point) == (FindingKind.UNIT_SUSPECTED, "r")


def test_power_without_a_role_belongs_to_the_register_that_counts_not_to_that_of_export() -> None:
    power = busy(960)
    wide, shown = replace(REGISTER, max_power_kw=math.inf), replace(POWER, role=Role.NONE)
    sold = replace(REGISTER, id="x", role=Role.EXPORT)
    readings = {"r": series(counted(power) / 10), "p": series(power), "x": series(np.zeros(961))}
    found = meter_findings(Meter(id="m", points=(wide, sold, shown)), readings)
    assert [f.point for f in found if f.kind is FindingKind.UNIT_SUSPECTED] == ["r"]


def test_what_is_consumed_is_judged_by_its_sign_once_and_what_is_produced_is_not() -> None:
    values = busy(200)
    values[100:110] = -50
    energy, renewable = replace(POWER, kind=ReadingKind.INTERVAL_ENERGY), replace(POWER, role=Role.RENEWABLE)
    for point, times in ((energy, 1), (renewable, 0), (POWER, 1)):
        found = meter_findings(Meter(id="m", points=(point,)), {"p": series(values, interval_s=900)})
        assert [f.kind for f in found].count(FindingKind.NEGATIVE_POWER) == times


def test_power_that_flows_proves_a_register_dead() -> None:
    power = np.where(np.arange(3000) % 96 < 60, busy(3000), 0.0)
    values = counted(power)
    values[1056:] -= values[1100] - values[1056]
    values[1056:1101] = values[1100]
    found = only(dead_register((REGISTER, series(values)), measured_quarters(POWER, series(power))))
    assert found.severity is Severity.ERROR
    assert found.effect_kwh == pytest.approx(power[1056:1101].mean() * 44 / 4, rel=0.05)


def test_power_beyond_the_rating_is_a_spike() -> None:
    power = busy(100)
    power[40:42] = [900, 1200]
    found = only(power_spikes(POWER, series(power)))
    assert (found.evidence["highest_kw"], found.evidence["readings"]) == (1200, 2)
    assert found.effect_kwh == pytest.approx(600)


def test_a_spike_lasts_from_the_reading_before_or_as_long_as_a_reading_stands_for() -> None:
    for first, hours in ((0, 0.25), (1, 1.0), (2, 1.0)):
        power = np.full(5, 100.0)
        power[first] = 400
        found = only(power_spikes(POWER, series(power, step_s=3600)))
        assert found.effect_kwh == pytest.approx(400 * hours), first
    stated = replace(POWER, kind=ReadingKind.INTERVAL_MEAN_POWER)
    assert only(power_spikes(stated, series([100, 400, 100], step_s=1, interval_s=1))).effect_kwh == (
        pytest.approx(400 / 3600)
    )


def test_interval_energy_is_judged_by_its_mean_power() -> None:
    stated = Point(id="i", role=Role.COOLING, kind=ReadingKind.INTERVAL_ENERGY, max_power_kw=200)
    assert len(power_spikes(stated, series([40, 51, 49], interval_s=900))) == 1


def test_an_offset_during_an_outage_is_explained_by_a_still_register() -> None:
    power, register = busy(200), counted(busy(200))
    power[100:104] = -26
    register[100:] -= register[103] - register[100]
    register[100:104] = register[103]
    meter = Meter(id="m", points=(REGISTER, POWER))
    found = only(meter_findings(meter, {"r": series(register), "p": series(power)}))
    assert (found.kind, found.severity, found.point) == (FindingKind.NEGATIVE_POWER, Severity.INFO, "p")
    assert found.evidence["register_kwh"] == 0
    assert found.effect_kwh == pytest.approx(-26)


def test_negative_power_while_the_register_counts_points_at_the_wiring() -> None:
    power, register = busy(200), counted(busy(200))
    power[100:120] *= -1
    found = only(negative_power(POWER, series(power), (REGISTER, series(register))))
    assert found.severity is Severity.ERROR
    assert found.evidence["readings"] == 20
    assert found.evidence["register_kwh"] == pytest.approx(register[119] - register[100])


def test_noise_around_zero_is_no_finding() -> None:
    power = busy(200)
    power[100:110] = -0.05
    assert negative_power(POWER, series(power)) == []


def test_a_second_value_for_one_instant_is_a_conflict() -> None:
    stored, offered = np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 2.5, 3.1, 4, 9])
    at_us = START_US + np.array([0, 15, 30, 45, 600], np.int64) * 60_000_000
    first, second = conflicting_duplicates(POWER, at_us, stored, offered)
    assert (first.start, first.end, first.evidence["readings"]) == (instant(15), instant(30), 2)
    assert (first.evidence["stored"], first.evidence["offered"]) == (2, 2.5)
    assert second.start == instant(600)


def test_bad_minutes_inside_a_good_bucket() -> None:
    at_us = START_US + np.arange(3) * 300_000_000
    found = bad_minutes("pue", at_us, np.array([1.0, -31, 1.05]), np.array([1.1, 1.1, 117]), least=1, most=5)
    assert [f.start for f in found] == [instant(5), instant(10)]


@pytest.mark.parametrize(
    ("true_kwh_per_count", "named"),
    [
        (0.000001, "0.000001"),
        (0.001, "0.001"),
        (0.01, "0.01"),
        (0.1, "0.1"),
        (0.27778, "1/3.6 (MJ)"),
        (0.33333, "1/3 (one phase)"),
        (0.5, "0.5"),
        (0.57735, "1/sqrt(3)"),
        (1.73205, "sqrt(3)"),
        (2.0, "2"),
        (3.0, "3 (one phase)"),
        (3.6, "3.6 (MJ)"),
        (10.0, "10"),
        (100.0, "100"),
        (1000.0, "1000"),
        (1000000.0, "1000000"),
    ],
)
def test_a_register_in_another_unit(true_kwh_per_count: float, named: str) -> None:
    power = busy(960)
    values = counted(power) / true_kwh_per_count
    wide = Point(id="r", role=Role.COOLING, kind=ReadingKind.REGISTER)
    found = only(unit_suspected((wide, series(values)), POWER, measured_quarters(POWER, series(power))))
    assert found.evidence["factor"] == pytest.approx(true_kwh_per_count, rel=0.01, abs=1e-4)
    assert found.evidence["likely_factor"] == named


def readings_in_tens(quarters: int, *, first_hour: float = 0) -> tuple[Series, Series]:
    """Register in units of 10 kWh, and power, over so many quarter-hours."""
    power = busy(quarters + 1)
    minutes = [float(m) for m in first_hour * 60 + 15 * np.arange(quarters + 1)]
    return series(counted(power) / 10, minutes=minutes), series(power, minutes=minutes)


@pytest.mark.parametrize(
    ("first_hour", "quarters", "days"),
    [(0, 96, 0), (0, 143, 0), (0, 144, 2), (0, 192, 2), (5, 136, 0), (5, 144, 2)],
)
def test_a_unit_needs_two_days_with_twelve_hours_each(first_hour: float, quarters: int, days: int) -> None:
    register, power = readings_in_tens(quarters, first_hour=first_hour)
    wide = replace(REGISTER, max_power_kw=math.inf)
    found = unit_suspected((wide, register), POWER, measured_quarters(POWER, power))
    assert [f.evidence["days"] for f in found] == [days] * (days > 0)
    end = instant(first_hour * 60 + quarters * 15)
    assert [(f.start, f.end) for f in found] == [(instant(first_hour * 60), end)] * (days > 0)


@pytest.mark.parametrize(
    ("kwh_per_count", "agree"),
    [([2, 2, 3, 3, 3], False), ([2, 2, 2, 3, 3], False), ([2, 3, 3, 3, 3, 9], True), ([0, 0, 0, 0], False)],
)
def test_days_that_do_not_agree_on_a_factor_suspect_no_unit(kwh_per_count: list[float], agree: bool) -> None:
    power_kw = np.repeat(100.0 * np.array(kwh_per_count), 96)
    register = series(1000 + 25.0 * np.arange(len(power_kw) + 1))
    ends = np.arange(1, len(power_kw) + 1) * 15.0
    stated = Point(id="p", role=Role.COOLING, kind=ReadingKind.INTERVAL_MEAN_POWER)
    found = unit_suspected(
        (REGISTER, register),
        stated,
        measured_quarters(stated, series(power_kw, minutes=list(ends), interval_s=900)),
    )
    assert [f.evidence["factor"] for f in found] == [3] * agree


def test_register_and_power_that_agree_are_no_finding() -> None:
    power = busy(960)
    assert (
        unit_suspected((REGISTER, series(counted(power))), POWER, measured_quarters(POWER, series(power)))
        == []
    )


def test_a_clock_that_gains_ten_seconds_a_day() -> None:
    late_s = np.where(np.arange(9600) // 96 < 30, 0, (np.arange(9600) / 96 - 30) * 10)
    late_s[6000:] = 0
    minutes = (np.arange(9600) * 900 + late_s) / 60
    found = only(clock_drift(POWER, series(busy(9600), minutes=list(minutes))))
    assert float(found.evidence["per_day_s"]) == pytest.approx(10, abs=0.5)
    assert found.evidence["per_day_s"] == round(float(found.evidence["per_day_s"]), 3)
    assert float(found.evidence["largest_s"]) == pytest.approx(315, abs=15)
    assert abs(found.start - (START + timedelta(days=31))) <= timedelta(days=1)
    assert abs(found.end - (START + timedelta(days=62.5))) <= timedelta(days=1)


def test_a_clock_that_drifts_all_the_time() -> None:
    minutes = np.arange(4800) * (900 + 5 / 96) / 60
    assert float(
        only(clock_drift(POWER, series(busy(4800), minutes=list(minutes)))).evidence["per_day_s"]
    ) == (pytest.approx(5, abs=0.3))


@pytest.mark.parametrize(("late_s", "days", "found"), [(59, 5, 0), (60, 5, 1), (120, 2, 1), (120, 1, 0)])
def test_a_clock_is_off_from_a_minute_on_more_than_one_day(late_s: int, days: int, found: int) -> None:
    day = np.arange(30 * 96) // 96
    minutes = np.arange(30 * 96) * 15 + np.where((day >= 10) & (day < 10 + days), late_s, 0) / 60
    assert len(clock_drift(POWER, series(busy(30 * 96), minutes=list(minutes)))) == found


def test_a_poller_that_jitters_and_a_source_that_is_always_late_do_not_drift() -> None:
    jitter = np.arange(4800) * 15 + np.random.default_rng(2).uniform(0, 2, 4800)
    late = np.arange(4800) * 15 + 7
    for minutes in (jitter, late):
        assert clock_drift(POWER, series(busy(4800), minutes=list(minutes))) == []


@pytest.mark.parametrize("beat_s", [10, 30, 60, 120, 300, 450])
@pytest.mark.parametrize("kept_share", [1.0, 0.5, 0.002])
def test_readings_that_come_more_often_than_declared_are_no_drift(beat_s: int, kept_share: float) -> None:
    """Months of quarter-hours from files go on as live polls, of which most may be lost."""
    past = np.arange(60 * 96) * 900.0
    live = past[-1] + 420 + np.arange(0, 30 * 86_400, beat_s)
    live = live[np.random.default_rng(beat_s).uniform(size=len(live)) < kept_share]
    minutes = np.concatenate([past, live]) / 60
    assert clock_drift(POWER, series(busy(len(minutes)), minutes=list(minutes))) == []


def test_a_drift_shows_beside_days_that_were_read_more_often() -> None:
    often = np.arange(0, 5 * 86_400, 60.0)
    seldom = 5 * 86_400 + np.arange(60 * 96) * (900 + 5 / 96)
    minutes = np.concatenate([often, seldom]) / 60
    found = only(clock_drift(POWER, series(busy(len(minutes)), minutes=list(minutes))))
    assert float(found.evidence["per_day_s"]) == pytest.approx(5, abs=0.3)


def test_an_it_point_read_too_rarely_for_its_place() -> None:
    outlet = Point(id="o", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.REGISTER)
    found = only(interval_too_long(outlet, series(np.arange(100.0), step_s=3600)))
    assert (found.evidence["category_by_place"], found.evidence["category_reached"]) == (3, 2)
    assert found.effect_kwh == 0
    pdu = Point(id="o", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER)
    assert interval_too_long(pdu, series(np.arange(100.0), step_s=3600)) == []
    assert (
        only(interval_too_long(pdu, series(np.arange(20.0), step_s=7 * 86_400))).evidence["category_reached"]
        == 1
    )


def test_a_gap_does_not_make_the_interval_long() -> None:
    outlet = Point(id="o", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.REGISTER)
    minutes = [*range(0, 1500, 15), *range(6000, 7500, 15)]
    assert interval_too_long(outlet, series(np.arange(200.0), minutes=minutes)) == []


def test_a_negative_remainder_of_the_tree() -> None:
    feed = Feed(("ups",), ("pdu-1", "pdu-2"), Stage.UPS)
    sound, wrong = Remainder(100, 99, 2), Remainder(100, 110, 2)
    balances = [FeedBalance(feed, sound, 1.0), FeedBalance(feed, wrong, 1.0)]
    found = only(negative_remainders(balances, START, instant(60)))
    assert (found.effect_kwh, found.evidence["meters"], found.point) == (-10, "ups", "")


@pytest.mark.parametrize("point", [REGISTER, POWER])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_readings_are_no_finding(point: Point, n: int) -> None:
    assert point_findings(point, series(list(range(n)))) == []


def test_instants_survive_the_way_through_microseconds() -> None:
    assert at(START_US + 1) == START + timedelta(microseconds=1)


# -- bounds ------------------------------------------------------------------------------------------


def test_what_a_register_counted_needs_two_readings_inside_the_stretch() -> None:
    power = busy(20)
    power[5:9] = -26.0
    for minutes, counted_kwh in (([0, 75, 120, 200], 5.0), ([0, 76, 121, 200], None), ([0, 100, 200], None)):
        register = series([10.0 * n for n in range(len(minutes))], minutes=[float(m) for m in minutes])
        register = replace(register, value=register.value / 2)
        found = only(negative_power(POWER, series(power), (REGISTER, register)))
        assert found.evidence.get("register_kwh") == counted_kwh
        assert found.severity is (Severity.WARNING if counted_kwh is None else Severity.ERROR)


def test_a_stretch_is_judged_by_all_of_its_readings_and_no_other() -> None:
    power = busy(20)
    power[5:8] = [-10.0, -20.0, -60.0]
    found = only(negative_power(POWER, series(power)))
    assert (found.evidence["mean_kw"], found.evidence["readings"]) == (pytest.approx(-30), 3)
    assert (found.start, found.end) == (instant(75), instant(105))
    assert found.effect_kwh == pytest.approx(-30 * 0.75)
    for beyond in ([300.0, 400.0, 900.0], [900.0, 400.0, 300.0]):
        power[5:8] = beyond
        spike = only(power_spikes(POWER, series(power)))
        assert (spike.evidence["highest_kw"], spike.evidence["readings"]) == (900, 3)


HALF_MISSED_KWH = 61 * 900 / 512 / 2
"""Half of what a mean rate of 1 kWh in 512 s gives over a rest of 61 quarter-hours."""


def resting(caught_up_kwh: float) -> np.ndarray:
    """A register that often rests, and once for 62 readings; over all it gains 1 kWh in 512 s."""
    values = np.concatenate([[0.0, 7.0], 7.0 + np.cumsum(np.tile([2.0, 0.0], 200))])
    pause = np.full(60, values[-1])
    after = values[-1] + caught_up_kwh + np.concatenate([[0.0], np.cumsum(np.tile([2.0, 0.0], 64))])
    whole = np.concatenate([values, pause, after])[:591]
    whole[-1] = 590 * 900 / 512
    return whole


@pytest.mark.parametrize(("off_by", "found"), [(0.0, 1), (-0.01, 0)])
def test_a_register_that_rests_has_caught_up_with_half_of_what_it_missed(off_by: float, found: int) -> None:
    stretches = stuck(REGISTER, series(resting(HALF_MISSED_KWH + off_by)))
    assert [f.evidence["caught_up_kwh"] for f in stretches] == [HALF_MISSED_KWH] * found


def test_a_register_that_ends_where_it_began_has_no_rate_to_catch_up_with() -> None:
    values = resting(HALF_MISSED_KWH)
    values[-1] = values[0]
    assert stuck(REGISTER, series(values)) == []


@pytest.mark.parametrize(("below", "kind"), [(12, FindingKind.REVERSED), (11, FindingKind.EXPORTING)])
def test_twelve_readings_below_zero_and_none_above_are_reversed(below: int, kind: FindingKind) -> None:
    values = np.concatenate([np.zeros(20), -busy(below)])
    found = only(negative_power(POWER, series(values)))
    assert (found.kind, found.evidence["share"], found.evidence["readings"]) == (kind, 1.0, below)
    assert (found.start, found.end) == (instant(20 * 15), instant((19 + below) * 15))


def test_a_single_reading_below_zero_among_zeros_is_all_of_them() -> None:
    assert only(negative_power(POWER, series([0.0, 0.0, -5.0, 0.0]))).evidence["share"] == 1


def test_a_register_that_was_not_read_meanwhile_may_have_stood_still() -> None:
    values, register = busy(60), series([1000.0, 1500.0], minutes=[0.0, 885.0])
    for first in (10, 20, 30):
        values[first : first + 2] *= -1
    assert [f.kind for f in negative_power(POWER, series(values), (REGISTER, register))] == [
        FindingKind.NEGATIVE_POWER
    ] * 3
    assert only(negative_power(POWER, series(values))).kind is FindingKind.EXPORTING


def test_one_stretch_in_which_the_register_counts_makes_all_of_them_an_export() -> None:
    values, register = busy(60), np.arange(60.0)
    for first in (10, 20, 30):
        values[first : first + 2] *= -1
    register[10:32] = register[10]
    still = (REGISTER, series(register))
    assert {f.kind for f in negative_power(POWER, series(values), still)} == {FindingKind.NEGATIVE_POWER}
    register[31:] += 1
    counting = (REGISTER, series(register))
    assert only(negative_power(POWER, series(values), counting)).kind is FindingKind.EXPORTING


@pytest.mark.parametrize(("above", "kind"), [(2, FindingKind.REVERSED), (3, FindingKind.EXPORTING)])
def test_nine_tenths_below_zero_are_reversed(above: int, kind: FindingKind) -> None:
    """18 of 20 readings that are not zero are below it, or 18 of 21."""
    values = np.concatenate([np.full(above, 1.0), np.zeros(5), -busy(18)])
    found = only(negative_power(POWER, series(values)))
    assert (found.kind, found.evidence["share"]) == (kind, round(18 / (18 + above), 4))


@pytest.mark.parametrize(("runs", "share", "found"), [(2, 0.25, 1), (2, 0.24, 2), (3, 0.03, 1)])
def test_energy_flows_out_from_three_times_or_a_quarter_of_the_time_on(
    runs: int, share: float, found: int
) -> None:
    values = busy(100)
    below = round(share * 100)
    for n in range(runs):
        values[10 + 30 * n : 10 + 30 * n + below // runs + (n < below % runs)] *= -1
    kinds = {f.kind for f in negative_power(POWER, series(values))}
    assert len(negative_power(POWER, series(values))) == found
    assert kinds == {FindingKind.EXPORTING if found == 1 else FindingKind.NEGATIVE_POWER}


@pytest.mark.parametrize(("late", "found"), [(0, 0), (1, 1)])
def test_an_interval_is_long_from_less_than_95_percent_of_the_time_on(late: int, found: int) -> None:
    """95 of 100 hours in quarter-hours, the rest in hours; one quarter-hour more in an hour is too much."""
    outlet = Point(id="o", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.REGISTER)
    steps = [15.0] * (380 - 4 * late) + [60.0] * (5 + late)
    at_min = [0.0, *np.cumsum(steps)]
    assert len(interval_too_long(outlet, series(np.arange(float(len(at_min))), minutes=at_min))) == found


@pytest.mark.parametrize(("days", "reached"), [(247, 2), (246, 1)])
def test_a_category_is_reached_with_95_percent_of_the_time(days: int, reached: int) -> None:
    """247 days and 12 steps of 26 h: exactly 95 % of the time in steps of at most 25 h."""
    outlet = Point(id="o", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.REGISTER)
    at_min = [0.0, *np.cumsum([1440.0] * days + [1560.0] * 12)]
    found = only(interval_too_long(outlet, series(np.arange(float(len(at_min))), minutes=at_min)))
    assert found.evidence["category_reached"] == reached


@pytest.mark.parametrize(("gap", "found"), [(150.0, 1), (150.1, 0)])
def test_a_gap_is_more_than_ten_usual_intervals(gap: float, found: int) -> None:
    """A step of ten usual intervals is still how the point is read."""
    outlet = Point(id="o", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.REGISTER)
    at_min = [0.0, *np.cumsum([15.0] * 20 + [gap])]
    assert len(interval_too_long(outlet, series(np.arange(22.0), minutes=at_min))) == found


@pytest.mark.parametrize(("seconds", "found"), [(960.0, 0), (961.0, 1)])
def test_a_quarter_hour_may_be_a_minute_late(seconds: float, found: int) -> None:
    outlet = Point(id="o", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.REGISTER)
    assert len(interval_too_long(outlet, series(np.arange(20.0), step_s=seconds))) == found


@pytest.mark.parametrize(("hours", "per_day", "found"), [(6, 2, 1), (6, 1, 0), (3, 4, 1), (3, 3, 0)])
def test_a_day_tells_its_clock_by_half_of_its_usual_stamps(hours: int, per_day: int, found: int) -> None:
    """Of a point read every six hours two stamps of a day are enough, of one every three hours four."""
    day = np.repeat(np.arange(30), per_day)
    place = np.tile(np.arange(per_day), 30)
    late_min = np.where((day >= 10) & (day < 15), 2.0, 0.0)
    minutes = day * 1440 + place * hours * 60 + late_min
    slow = replace(POWER, interval_s=hours * 3600)
    assert len(clock_drift(slow, series(busy(len(minutes)), minutes=list(minutes)))) == found


@pytest.mark.parametrize("last", [True, False])
def test_power_counts_from_its_first_quarter_hour_on_and_not_before(last: bool) -> None:
    """A register that stands from its first reading on, beside power that flows from the start."""
    values = np.concatenate([np.full(21 + last, 1000.0), 1000 + 25 * np.arange(1.0, 30)])
    found = dead_register(
        (REGISTER, series(values)), measured_quarters(POWER, series(np.full(len(values), 100.0)))
    )
    assert [f.effect_kwh for f in found] == [pytest.approx(525)] * last


def test_a_rest_before_the_power_was_read_counts_nothing() -> None:
    values = np.concatenate([np.full(30, 1000.0), 1000 + 25 * np.arange(1.0, 60)])
    power = series(np.full(40, 100.0), minutes=[450.0 + 15 * n for n in range(40)])
    assert dead_register((REGISTER, series(values)), measured_quarters(POWER, power)) == []


def test_two_readings_of_power_measure_as_far_as_its_interval_reaches() -> None:
    values = np.concatenate([np.full(9, 1000.0), 1000 + np.arange(1.0, 20)])
    rare = replace(POWER, interval_s=7200)
    power = series([100.0, 100.0], minutes=[0.0, 120.0])
    assert only(
        dead_register((REGISTER, series(values)), measured_quarters(rare, power))
    ).effect_kwh == pytest.approx(200)
