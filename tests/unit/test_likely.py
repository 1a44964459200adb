"""What the neighbouring readings say a reading can be, at its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain.likely import HOUR_US, scale_changes, unlikely_rises, unlikely_values


def hours(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * HOUR_US


def rising(rises: dict[int, float], *, usual: float = 1000.0, count: int = 60) -> np.ndarray:
    """A register that rises alike every hour, but for the steps that end at some rows."""
    steps = np.full(count, usual)
    for row, rise in rises.items():
        steps[row] = rise
    return np.cumsum(steps)


@pytest.mark.parametrize(("rise", "rows"), [(20_000.0, []), (20_001.0, [30])])
def test_a_register_rises_at_most_twenty_times_as_fast_as_its_neighbours(
    rise: float, rows: list[int]
) -> None:
    assert unlikely_rises(hours(60), rising({30: rise})).tolist() == rows


@pytest.mark.parametrize(("distance", "is_excused"), [(8, True), (9, False)])
def test_eight_steps_on_each_side_are_looked_at(distance: int, is_excused: bool) -> None:
    others = {30 - distance: 30_000.0, 30 + distance: 30_000.0}
    found = unlikely_rises(hours(60), rising({30: 100_000.0, **others})).tolist()
    assert (30 in found) is not is_excused
    assert {30 - distance, 30 + distance} <= set(found), "one other odd step excuses none"


def test_one_other_odd_step_is_no_excuse_and_two_are() -> None:
    assert unlikely_rises(hours(60), rising({30: 100_000.0, 33: 100_000.0})).tolist() == [30, 33]
    three = rising({30: 100_000.0, 33: 100_000.0, 36: 100_000.0})
    assert unlikely_rises(hours(60), three).tolist() == []


def test_a_slow_register_that_gains_twenty_counts_is_no_jump() -> None:
    slow = dict.fromkeys(range(0, 60, 10), 1.0)
    assert unlikely_rises(hours(60), rising({**slow, 35: 20.0}, usual=0.0)).tolist() == []
    assert unlikely_rises(hours(60), rising({**slow, 35: 40.0}, usual=0.0)).tolist() == [35]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_readings_tell_nothing(count: int) -> None:
    assert unlikely_rises(hours(count), np.arange(count) * 1e6).tolist() == []
    assert unlikely_values(np.arange(count) * 1e6).tolist() == [False] * count


def test_three_readings_tell_of_each_other() -> None:
    assert unlikely_values(np.array([1.0, 60.0, 1.0])).tolist() == [False, True, False]
    assert unlikely_rises(hours(3), np.array([0.0, 1000.0, 101_000.0])).tolist() == [2]


@pytest.mark.parametrize(("value", "is_odd"), [(50.0, False), (50.1, True), (-50.1, True)])
def test_a_value_is_at_most_fifty_times_its_neighbours(value: float, is_odd: bool) -> None:
    values = np.ones(40)
    values[20] = value
    assert unlikely_values(values).tolist() == [n == 20 and is_odd for n in range(40)]


def test_beside_zeros_every_value_is_accepted() -> None:
    values = np.zeros(40)
    values[[10, 11, 30]] = 100.0
    assert not unlikely_values(values).any()


@pytest.mark.parametrize("row", [0, 39])
def test_the_first_and_the_last_value_are_looked_at_too(row: int) -> None:
    values = np.ones(40)
    values[row] = 60.0
    assert np.flatnonzero(unlikely_values(values)).tolist() == [row]


def rescaled(factor: float, rate: float = 1.0) -> np.ndarray:
    """Level and rate of a register change at row 20, the rate by `rate` times as much as the level."""
    before = 1000.0 + 10.0 * np.arange(20)
    return np.concatenate([before, before[-1] * factor + 10.0 * factor * rate * np.arange(20)])


@pytest.mark.parametrize(
    ("factor", "is_change"), [(4.0, True), (3.99, False), (0.25, True), (0.251, False), (1000.0, True)]
)
def test_a_unit_changes_by_a_factor_of_four_at_least(factor: float, is_change: bool) -> None:
    rows, factors = scale_changes(hours(40), rescaled(factor))
    assert rows.tolist() == [20] * is_change
    assert factors == pytest.approx([factor] * is_change)


@pytest.mark.parametrize(
    ("rate", "is_change"), [(1.99, True), (2.0, False), (0.51, True), (0.5, False), (0.0, False)]
)
def test_the_rate_changes_as_the_level_does(rate: float, is_change: bool) -> None:
    rows, _ = scale_changes(hours(40), rescaled(10.0, rate))
    assert rows.tolist() == [20] * is_change
