"""Readings to 15-minute energy: the rules hold for every sequence Hypothesis can think of."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import energy
from app.domain.energy import Series
from app.domain.period import QUARTER_HOUR_US
from app.domain.quantity import ReadingKind, Role
from app.domain.recalculation import recalculation
from app.domain.register import DROPPED, StepKind, walk
from app.domain.site import Falls, Point

MINUTE_US = 60_000_000
T0_US = 1_760_000_400_000_000 // QUARTER_HOUR_US * QUARTER_HOUR_US


COUNT = 1.0 + 1e-9
"""A register that stays one count lower takes that count back."""


def register_point(**changes: object) -> Point:
    point = Point(id="p", role=Role.FACILITY, kind=ReadingKind.REGISTER, max_power_kw=100.0, interval_s=300)
    return replace(point, **changes)  # type: ignore[arg-type]


def series(at_min: list[float], value: list[float], interval_s: int = 0) -> Series:
    at_us = np.array([T0_US + round(m * MINUTE_US) for m in at_min], np.int64)
    length = np.full(len(value), interval_s, np.int32)
    return Series(at_us, np.array(value, np.float64), length, length)


def whole(readings: Series, point: Point, events: tuple[energy.Event, ...] = ()) -> energy.QuarterHours:
    known = energy.spans(readings, point, events)
    start = T0_US - 10_000 * QUARTER_HOUR_US
    return energy.quarter_hours(known, start, T0_US + 100_000 * QUARTER_HOUR_US)


@st.composite
def registers(draw: st.DrawFn) -> Series:
    """A register with all that happens to registers: steps, idle, dips, resets, wraps, spikes, gaps."""
    count = draw(st.integers(2, 60))
    minutes, level, at_min, value = 0.0, draw(st.sampled_from([0.0, 50.0, 990.0])), [], []
    for _ in range(count):
        minutes += draw(st.sampled_from([1.0, 5.0, 5.0, 5.0, 15.0, 17.5, 120.0]))
        what = draw(
            st.sampled_from(["on", "on", "on", "on", "idle", "zero", "dip", "reset", "spike", "wrap", "back"])
        )
        if what in ("on", "wrap"):
            level += draw(st.sampled_from([0.5, 1.0, 3.0]))
        if what == "back":
            level += draw(st.sampled_from([8.0, 12.0, 20.0]))
        if what == "reset":
            level = draw(st.sampled_from([0.0, 1.0, 20.0]))
        level = level - 1000.0 if level >= 1000.0 else level
        shown = {"zero": 0.0, "dip": max(level - 0.1, 0.0), "spike": level + 5000.0}.get(what, level)
        at_min.append(minutes)
        value.append(round(shown, 3))
    return series(at_min, value)


POINTS = st.sampled_from(
    [
        register_point(),
        register_point(modulus_kwh=1000.0),
        register_point(max_power_kw=math.inf),
        register_point(max_power_kw=math.inf, modulus_kwh=1000.0),
        register_point(falls=Falls.RESET_TO_ZERO),
        register_point(multiplier=10.0, interval_s=900),
    ]
)


@given(registers(), POINTS)
def test_intervals_sum_to_the_spans_and_take_back_one_count_at_most(readings: Series, point: Point) -> None:
    known = energy.spans(readings, point)
    cells = whole(readings, point)
    assert math.isclose(cells.energy_kwh.sum(), known.energy_kwh.sum(), rel_tol=1e-9, abs_tol=1e-6)
    assert (known.energy_kwh >= -COUNT * point.multiplier).all()
    assert (cells.energy_kwh >= -COUNT * point.multiplier).all()
    assert ((cells.coverage_ratio >= 0) & (cells.coverage_ratio <= 1)).all()
    assert (cells.estimated_ratio <= cells.coverage_ratio + 1e-9).all()


@given(registers(), POINTS)
def test_energy_is_never_invented_beyond_rating_times_time(readings: Series, point: Point) -> None:
    known = energy.spans(readings, point)
    hours = (known.end_us - known.start_us) / 3.6e9
    assert (known.energy_kwh <= point.max_power_kw * hours + 1.0 * point.multiplier + 1e-6).all()


@given(registers(), POINTS)
def test_spans_are_disjoint_and_in_order(readings: Series, point: Point) -> None:
    known = energy.spans(readings, point)
    assert (known.end_us > known.start_us).all()
    assert (known.start_us[1:] >= known.end_us[:-1]).all()


@given(st.lists(st.floats(0, 8), min_size=2, max_size=50), st.sampled_from([1, 5, 15, 40]))
def test_an_orderly_register_gives_exactly_its_difference(steps: list[float], minutes: int) -> None:
    level = np.cumsum([100.0, *(min(s, minutes * 99 / 60) for s in steps)])
    readings = series([minutes * i for i in range(len(level))], list(level))
    cells = whole(readings, register_point())
    assert math.isclose(cells.energy_kwh.sum(), level[-1] - level[0], rel_tol=1e-12, abs_tol=1e-9)


@settings(max_examples=300)
@given(registers(), POINTS, st.data())
def test_any_order_of_arrival_ends_in_the_intervals_of_the_sorted_sequence(
    readings: Series, point: Point, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(readings))))
    batches = data.draw(st.integers(1, 6))
    cells: dict[int, tuple[float, ...]] = {}
    present = np.zeros(len(readings), np.bool_)
    for batch in filter(len, np.array_split(np.array(order), batches)):
        present[batch] = True
        have = readings.take(present)
        _replace_affected(cells, have, point, readings.at_us[batch].min(), readings.at_us[batch].max())
    expected = _as_dict(whole(readings, point))
    assert cells.keys() == expected.keys()
    for at, figures in expected.items():
        assert np.allclose(cells[at], figures, rtol=1e-9, atol=1e-6)


def _replace_affected(
    cells: dict[int, tuple[float, ...]], have: Series, point: Point, first_us: int, last_us: int
) -> None:
    """What the rollup job does: ask with little context, widen until it is enough, replace the range."""
    reach = 2
    while True:
        lo = max(int(np.searchsorted(have.at_us, first_us)) - reach, 0)
        hi = min(int(np.searchsorted(have.at_us, last_us, "right")) + reach, len(have))
        part = have.take(slice(lo, hi))
        change = recalculation(part, point, first_us, last_us, is_start=lo == 0, is_end=hi == len(have))
        if change is not None:
            break
        reach *= 2
    fresh = energy.quarter_hours(
        energy.spans(part.take(slice(change.first_row, None)), point), change.start_us, change.end_us
    )
    for at in [a for a in cells if change.start_us <= a < change.end_us]:
        del cells[at]
    cells.update(_as_dict(fresh))


def _as_dict(cells: energy.QuarterHours) -> dict[int, tuple[float, ...]]:
    return {int(row[0]): tuple(float(x) for x in row[1:]) for row in zip(*cells, strict=True)}


@given(st.lists(st.sampled_from([0, 5, 15, 20, 60]), min_size=3, max_size=40), st.data())
def test_interval_readings_in_any_order_end_the_same(gaps: list[int], data: st.DataObject) -> None:
    at_min = np.cumsum([5 + g for g in gaps])
    readings = series(list(at_min), [float(i % 7) for i in range(len(gaps))], interval_s=900)
    point = register_point(kind=ReadingKind.INTERVAL_MEAN_POWER, interval_s=900)
    order = data.draw(st.permutations(range(len(gaps))))
    cells: dict[int, tuple[float, ...]] = {}
    present = np.zeros(len(readings), np.bool_)
    for row in order:
        present[row] = True
        at = int(readings.at_us[row])
        _replace_affected(cells, readings.take(present), point, at - 900_000_000, at)
    assert cells.keys() == _as_dict(whole(readings, point)).keys()
    assert math.isclose(
        sum(c[0] for c in cells.values()), whole(readings, point).energy_kwh.sum(), abs_tol=1e-6
    )


@given(registers())
def test_reading_kinds_are_consistent(readings: Series) -> None:
    steps = walk(readings.at_us, readings.value, max_power=100.0, modulus=1000.0)
    dropped = np.isin(steps.kind, DROPPED)
    assert steps.kind[0] == StepKind.FIRST or dropped[0]
    assert np.isnan(steps.energy[dropped]).all()
    assert not dropped[steps.previous[steps.previous >= 0]][~dropped[steps.previous >= 0]].any()


@settings(max_examples=80)
@given(
    st.sampled_from([0.5, 1.0, 5.0, 15.0]),
    st.floats(1, 60),
    st.floats(1, 64),
    st.floats(0, 0.3),
    st.integers(0, 2**32 - 1),
)
def test_a_clock_set_back_loses_no_energy(
    every_min: float, back_min: float, load_kw: float, swing: float, seed: int
) -> None:
    random = Random(seed)
    true_min = np.arange(0, 480, every_min)
    power_kw = np.array([load_kw * (1 - swing * random.random()) for _ in true_min])
    register = 1000 + np.cumsum(power_kw) * every_min / 60
    stamped: dict[int, float] = {}
    for at_min, value in zip(true_min, register, strict=True):
        ahead = back_min if at_min < 240 else 0.0
        stamped.setdefault(round((at_min + ahead) * MINUTE_US), float(value))
    at_us = np.array(sorted(stamped), np.int64)
    none = np.zeros(len(at_us), np.int32)
    readings = Series(T0_US + at_us, np.array([stamped[a] for a in at_us.tolist()]), none, none)
    known = energy.spans(readings, register_point(interval_s=round(every_min * 60)))
    assert math.isclose(known.energy_kwh.sum(), readings.value[-1] - readings.value[0], rel_tol=1e-9)
    hours = (known.end_us - known.start_us) / 3.6e9
    assert (known.energy_kwh <= 100.0 * hours + 1.0).all()
