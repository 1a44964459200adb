"""Many points at once give to the last bit what each gives alone, and what its whole history gives."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import plain
from app.domain.energy import QuarterHours, Series
from app.domain.plain import Outcome, Windows
from app.domain.quantity import ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.site import Point
from tests.property.test_energy import MINUTE_US, T0_US, register_point, registers, series, whole

EXAMPLES = int(os.environ.get("WATTLINE_PLAIN_EXAMPLES", "60"))
"""``WATTLINE_PLAIN_EXAMPLES=100000`` runs the long test."""


@st.composite
def calm(draw: st.DrawFn) -> Series:
    """A series in which nearly everything is in order, at a regular interval with some gaps."""
    count, every = draw(st.integers(1, 90)), draw(st.sampled_from([1.0, 5.0, 15.0, 7.5]))
    gap = draw(st.sampled_from([0, 0, 30, 200]))
    steps = draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3]), min_size=count, max_size=count))
    hole = draw(st.integers(0, count))
    at_min = [every * n + (gap if n >= hole else 0) for n in range(count)]
    level = draw(st.sampled_from([0.0, 100.0, 0.0, 5e6]))
    value = np.cumsum([level, *steps[1:]]) if draw(st.booleans()) else np.full(count, level)
    odd = draw(st.sampled_from([None, None, None, None, -1.0, 900.0, math.nan]))
    if odd is not None:
        value[draw(st.integers(0, count - 1))] += odd
    return series(at_min, list(value), interval_s=draw(st.sampled_from([0, 60, 300, 900])))


KINDS = st.sampled_from([ReadingKind.REGISTER, *plain.KINDS])
MEANINGS = st.fixed_dictionaries(
    {
        "multiplier": st.sampled_from([1.0, 10.0, 1 / 3]),
        "max_power_kw": st.sampled_from([100.0, math.inf]),
        "modulus_kwh": st.sampled_from([math.inf, 1000.0]),
        "interval_s": st.sampled_from([60, 300, 900]),
    }
)


@settings(max_examples=EXAMPLES)
@given(
    KINDS, st.lists(st.tuples(st.one_of(calm(), registers()), MEANINGS), min_size=1, max_size=6), st.data()
)
def test_many_points_at_once_give_what_each_gives_alone(
    kind: ReadingKind, drawn: list[tuple[Series, dict[str, float]]], data: st.DataObject
) -> None:
    points = [replace(register_point(kind=kind), **meaning) for _, meaning in drawn]  # type: ignore[arg-type]
    parts, firsts, lasts, starts, ends = [], [], [], [], []
    for readings, _ in drawn:
        first = data.draw(st.integers(0, len(readings) - 1))
        last = data.draw(st.integers(first, min(first + 10, len(readings) - 1)))
        lo = data.draw(st.integers(0, first))
        hi = len(readings) if data.draw(st.booleans()) else data.draw(st.integers(last, len(readings)))
        parts.append(readings.take(slice(lo, hi)))
        firsts.append(int(readings.at_us[first]))
        lasts.append(int(readings.at_us[last]))
        starts.append(lo == 0)
        ends.append(hi == len(readings))
    found = _computed(kind, points, parts, firsts, lasts, starts, ends)
    for n, point in enumerate(points):
        if found.outcome[n] != Outcome.DONE:
            continue
        everything = whole(drawn[n][0], point)
        inside = (everything.at_us >= found.start_us[n]) & (everything.at_us < found.end_us[n])
        assert _bits(_of(found, n)) == _bits(everything.take(inside))


@settings(max_examples=EXAMPLES)
@given(KINDS, calm(), MEANINGS, st.data())
def test_the_fast_way_gives_what_the_whole_history_gives(
    kind: ReadingKind, readings: Series, meaning: dict[str, float], data: st.DataObject
) -> None:
    point = replace(register_point(kind=kind), **meaning)  # type: ignore[arg-type]
    row = data.draw(st.integers(0, len(readings) - 1))
    at_us = int(readings.at_us[row])
    lo = int(np.searchsorted(readings.at_us, at_us - data.draw(st.sampled_from([30, 180, 1500])) * MINUTE_US))
    found = _computed(kind, [point], [readings.take(slice(lo, None))], [at_us], [at_us], [lo == 0], [True])
    if found.outcome[0] != Outcome.DONE:
        return
    everything = whole(readings, point)
    inside = (everything.at_us >= found.start_us[0]) & (everything.at_us < found.end_us[0])
    assert _bits(_of(found, 0)) == _bits(QuarterHours(*(column[inside] for column in everything)))


def test_a_live_minute_of_an_orderly_register_is_done_at_once() -> None:
    readings = series([float(n) for n in range(60)], [100 + n / 8 for n in range(60)])
    last = int(readings.at_us[-1])
    part = readings.take(slice(25, None))
    point = register_point(interval_s=60)
    found = _computed(ReadingKind.REGISTER, [point], [part], [last], [last], [False], [True])
    assert found.outcome.tolist() == [Outcome.DONE]
    assert found.start_us[0] == T0_US + 30 * MINUTE_US
    assert found.cells.energy_kwh.tolist() == [15 / 8, 14 / 8]


def _computed(
    kind: ReadingKind,
    points: list[Point],
    parts: list[Series],
    firsts: list[int],
    lasts: list[int],
    starts: list[bool],
    ends: list[bool],
) -> plain.Computed:
    columns = [
        ReadingColumns(np.zeros(len(p), np.int32), p.at_us, p.value, p.interval_s, p.valid_s) for p in parts
    ]
    offset = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
    asked = plain.stretches(
        points, np.array(firsts), np.array(lasts), np.array(starts, np.bool_), np.array(ends, np.bool_)
    )
    return plain.compute(kind, Windows(offset, ReadingColumns.concat(columns)), asked)


def _of(found: plain.Computed, n: int) -> QuarterHours:
    return QuarterHours(*(column[found.owner == n] for column in found.cells))


def _bits(cells: QuarterHours) -> list[tuple[str, bytes]]:
    return [(str(column.dtype), column.tobytes()) for column in cells]
