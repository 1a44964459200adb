"""Named cases of the energy rules, each computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from app.domain import energy
from app.domain.energy import Event, EventKind, Series, Tag
from app.domain.period import QUARTER_HOUR_US
from app.domain.quantity import ReadingKind, Role
from app.domain.register import StepKind, walk
from app.domain.site import Falls, Point, Sampling
from app.errors import SeriesError

T0_US = 1_760_000_400_000_000 // QUARTER_HOUR_US * QUARTER_HOUR_US
REGISTER = Point(id="p", role=Role.FACILITY, kind=ReadingKind.REGISTER, interval_s=900)


def series(
    value: list[float], minutes: float = 15.0, *, interval_s: int = 0, valid_s: int | None = None
) -> Series:
    at_us = T0_US + (np.arange(len(value)) * minutes * 60e6).astype(np.int64)
    length = np.full(len(value), interval_s, np.int32)
    valid = length if valid_s is None else np.full(len(value), valid_s, np.int32)
    return Series(at_us, np.array(value, np.float64), length, valid)


def kinds(value: list[float], **rules: object) -> list[StepKind]:
    steps = walk(series(value).at_us, np.array(value, np.float64), **rules)  # type: ignore[arg-type]
    return [StepKind(k) for k in steps.kind]


def total_kwh(readings: Series, point: Point, *events: Event) -> float:
    return float(energy.spans(readings, point, events).energy_kwh.sum())


def test_one_wrap_of_a_declared_modulus_is_energy() -> None:
    point = replace(REGISTER, modulus_kwh=1_000_000.0)
    assert total_kwh(series([999_990.0, 15.0]), point) == 25.0
    assert kinds([999_990.0, 15.0], modulus=1e6) == [StepKind.FIRST, StepKind.ROLLOVER]


@pytest.mark.parametrize("modulus", [838_860.7, 9_999_000.0, 2.0**31, 2.0**32])
def test_popular_moduli_wrap_without_loss(modulus: float) -> None:
    point = replace(REGISTER, modulus_kwh=modulus, max_power_kw=500.0)
    assert total_kwh(series([modulus - 10.0, 15.0, 30.0]), point) == pytest.approx(40.0)


@pytest.mark.parametrize("under", [429_496_728.0, 42_949_672.95, 4_294_967_295.0])
def test_an_underflow_books_nothing_false(under: float) -> None:
    """A register that fell below zero shows nearly its whole range for a moment."""
    point = replace(REGISTER, max_power_kw=500.0)
    assert total_kwh(series([1.0, under, 1.2, 2.0]), point) <= 1.0
    known = energy.spans(series([1.0, under, 1.2, 2.0]), point)
    assert known.energy_kwh.max() <= 1.0


def test_a_transient_zero_is_dropped_and_books_nothing() -> None:
    assert total_kwh(series([3.7, 0.0, 3.7]), REGISTER) == 0.0
    assert total_kwh(series([3.7, math.nan, 0.0, 3.7]), REGISTER) == 0.0
    assert kinds([100.0, 0.0, 0.0, 101.0]) == [
        StepKind.FIRST,
        StepKind.TRANSIENT,
        StepKind.TRANSIENT,
        StepKind.NORMAL,
    ]


def test_a_dip_of_a_tenth_books_no_wrap() -> None:
    point = replace(REGISTER, modulus_kwh=1000.0)
    assert total_kwh(series([215.1, 215.0, 215.2]), point) == pytest.approx(0.1)


def test_a_register_that_restarts_daily_counts_from_zero() -> None:
    daily = replace(REGISTER, falls=Falls.RESET_TO_ZERO, interval_s=86_400)
    known = energy.spans(series([24, 72, 144, 96, 216], 1440), daily)
    assert list(known.energy_kwh) == [48.0, 72.0, 96.0, 120.0]


def test_energy_across_an_undeclared_reset_is_unknown() -> None:
    known = energy.spans(series([500.0, 510.0, 3.0, 4.0, 5.0, 6.0]), REGISTER)
    assert list(known.energy_kwh) == [10.0, 1.0, 1.0, 1.0]
    assert kinds([500.0, 510.0, 3.0, 4.0, 5.0, 6.0])[2] == StepKind.FALL


def test_a_declared_replacement_closes_the_gap() -> None:
    swap = Event(EventKind.REPLACED, T0_US + 20 * 60_000_000, T0_US + 20 * 60_000_000, 512.0, 2.0)
    assert total_kwh(series([500.0, 510.0, 3.0, 4.0]), REGISTER, swap) == pytest.approx(10 + 2 + 1 + 1)


def test_a_reading_beyond_the_rating_is_no_energy() -> None:
    rated = replace(REGISTER, max_power_kw=100.0)
    assert total_kwh(series([10.0, 5000.0, 20.0, 30.0]), rated) == 20.0
    assert math.isnan(
        walk(series([10.0, 5000.0, 5010.0]).at_us, np.array([10.0, 5000, 5010]), max_power=100).energy[1]
    )


def test_a_lone_spike_without_a_rating_is_dropped() -> None:
    assert kinds([100.0, 101.0, 99_000.0, 102.0, 103.0])[2] == StepKind.SPIKE
    assert total_kwh(series([100.0, 101.0, 99_000.0, 102.0, 103.0]), REGISTER) == 3.0


def test_a_gap_that_can_hide_a_wrap_is_unknown() -> None:
    point = replace(REGISTER, modulus_kwh=100.0, max_power_kw=100.0)
    assert len(energy.spans(series([10.0, 20.0], 120), point).energy_kwh) == 0


def test_energy_over_a_register_gap_is_spread_and_estimated() -> None:
    known = energy.spans(series([0.0, 40.0], 60), REGISTER)
    cells = energy.quarter_hours(known, T0_US, T0_US + 4 * QUARTER_HOUR_US)
    assert cells.energy_kwh == pytest.approx([10.0, 10.0, 10.0, 10.0])
    assert list(cells.estimated_ratio) == [1.0] * 4
    assert set(cells.tag) == {Tag.ESTIMATED}


def test_readings_off_the_boundary_are_interpolated_to_it() -> None:
    readings = replace(series([0.0, 15.0, 30.0, 45.0]), at_us=series([0, 0, 0, 0]).at_us + 5 * 60_000_000)
    cells = energy.quarter_hours(energy.spans(readings, REGISTER), T0_US, T0_US + 4 * QUARTER_HOUR_US)
    assert cells.energy_kwh == pytest.approx([10.0, 15.0, 15.0, 5.0])
    assert cells.coverage_ratio == pytest.approx([2 / 3, 1.0, 1.0, 1 / 3])


def test_power_is_integrated_between_neighbours_only() -> None:
    power = replace(REGISTER, kind=ReadingKind.POWER)
    readings = series([10.0, 20.0, math.nan, 30.0, 30.0])
    known = energy.spans(readings, power)
    assert list(known.energy_kwh) == [3.75, 7.5]


def test_a_value_that_is_written_on_change_holds_until_the_next_but_not_for_ever() -> None:
    log = replace(REGISTER, kind=ReadingKind.POWER, sampling=Sampling.ON_CHANGE, longest_hold_s=7200)
    readings = series([10.0, 20.0, 0.0, 5.0], minutes=60)
    readings = replace(readings, at_us=readings.at_us + np.array([0, 0, 3, 3]) * 3600 * 1_000_000)
    found = energy.spans(readings, log)
    assert ((found.start_us - T0_US) // 3_600_000_000).tolist() == [0, 1, 5]
    assert ((found.end_us - T0_US) // 3_600_000_000).tolist() == [1, 3, 6]
    assert found.energy_kwh.tolist() == [10.0, 40.0, 0.0]
    assert set(found.tag.tolist()) == {Tag.MEASURED}
    with pytest.raises(ValueError, match="sampling on_change is for readings of power"):
        replace(REGISTER, sampling=Sampling.ON_CHANGE)


def test_negative_power_during_an_outage_is_not_energy() -> None:
    power = replace(REGISTER, kind=ReadingKind.POWER)
    assert total_kwh(series([10.0, 10.0, -26.0, -26.0, 10.0, 10.0]), power) == 5.0


def test_the_valid_part_of_an_interval_sets_energy_and_coverage() -> None:
    daily = replace(REGISTER, kind=ReadingKind.INTERVAL_MEAN_POWER, interval_s=86_400)
    known = energy.spans(series([761.569], 1440, interval_s=86_400, valid_s=18 * 3600), daily)
    assert known.energy_kwh[0] == pytest.approx(761.569 * 18)
    assert known.coverage_ratio[0] == 0.75


def test_overlapping_intervals_are_counted_once() -> None:
    point = replace(REGISTER, kind=ReadingKind.INTERVAL_ENERGY)
    assert total_kwh(series([5.0, 5.0, 5.0], 5, interval_s=900), point) == 5.0


def test_a_manual_estimate_stands_in_for_what_is_there() -> None:
    estimate = Event(EventKind.ESTIMATE, T0_US + QUARTER_HOUR_US, T0_US + 3 * QUARTER_HOUR_US, energy_kwh=7.0)
    known = energy.spans(series([0.0, 1.0, 2.0, 3.0, 4.0]), REGISTER, [estimate])
    cells = energy.quarter_hours(known, T0_US, T0_US + 4 * QUARTER_HOUR_US)
    assert list(cells.energy_kwh) == [1.0, 3.5, 3.5, 1.0]
    assert list(cells.tag) == [Tag.MEASURED, Tag.MANUAL, Tag.MANUAL, Tag.MEASURED]


def test_a_correction_replaces_and_voids_readings() -> None:
    at = T0_US + QUARTER_HOUR_US
    wrong = series([0.0, 900.0, 2.0])
    assert total_kwh(wrong, REGISTER, Event(EventKind.CORRECTION, at, at, new_value=1.0)) == 2.0
    assert total_kwh(wrong, REGISTER, Event(EventKind.CORRECTION, at, at)) == 2.0


def test_unsorted_readings_are_the_callers_fault() -> None:
    with pytest.raises(SeriesError, match="increasing"):
        replace(series([1.0, 2.0]), at_us=np.array([5, 5], np.int64))


@pytest.mark.parametrize("count", [1.0, 0.5, 0.125, 0.1, 0.001, 0.03125])
def test_a_coarse_register_read_often_is_believed(count: float) -> None:
    rated = replace(REGISTER, max_power_kw=1.0, interval_s=5)
    level = 300_000.0 + np.floor(np.arange(2000) * 5 / 3600 * 0.8 / count) * count
    known = energy.spans(series(list(level), 5 / 60), rated)
    assert known.energy_kwh.sum() == pytest.approx(level[-1] - level[0])
