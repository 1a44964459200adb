"""Where new readings are called plain, no detector finds anything in them, whatever came before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.energy import Series
from app.domain.quality.detect import meter_findings
from app.domain.quality.finding import Finding
from app.domain.quality.plain import margin_s, plain
from app.domain.quantity import ReadingKind, Role
from app.domain.reading import ReadingColumns
from app.domain.register import US
from app.domain.site import Meter, Point
from app.jobs.findings import LOCAL_KINDS

KINDS = (ReadingKind.REGISTER, ReadingKind.POWER, ReadingKind.INTERVAL_ENERGY, ReadingKind.GAUGE)
STEPS_S = {
    60: (60, 60, 60, 60, 59, 61, 120, 900, 1020, 1900, 7200),
    2: (2, 2, 2, 2, 1, 3, 4, 30, 470, 490, 905, 1900, 7200),
}
"""By reading interval; of the shorter one an hour is not looked at."""
CHANGES = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 3.0, 50.0, -1.0, -40.0, -1e4, 1e4)


@st.composite
def _points(draw: st.DrawFn) -> tuple[Point, Series]:
    kind = draw(st.sampled_from(KINDS))
    role = Role.TEMPERATURE if kind is ReadingKind.GAUGE else Role.IT_PDU_OUTPUT
    rated, interval_s = draw(st.booleans()), draw(st.sampled_from(sorted(STEPS_S)))
    point = Point(
        id="p",
        role=role,
        kind=kind,
        interval_s=interval_s,
        max_power_kw=600.0 if rated else float("inf"),
        modulus_kwh=draw(st.sampled_from([float("inf"), 1000.0]))
        if kind is ReadingKind.REGISTER
        else float("inf"),
    )
    quiet, busy = draw(st.integers(0, 40)), draw(st.integers(1, 30))
    usual = st.sampled_from(STEPS_S[interval_s])
    steps = [interval_s] * quiet + draw(st.lists(usual, min_size=busy, max_size=busy))
    changes = [1.0] * quiet + draw(st.lists(st.sampled_from(CHANGES), min_size=busy, max_size=busy))
    count = quiet + busy
    at_us = np.cumsum(np.array(steps, np.int64)) * US + 1_700_000_000 * US
    is_register = kind is ReadingKind.REGISTER
    values = np.maximum(np.cumsum(changes) + 990.0, 0) if is_register else np.array(changes)
    length = np.full(count, interval_s * (kind is ReadingKind.INTERVAL_ENERGY), np.int32)
    return point, Series(at_us, values, length, length)


def _looked(point: Point, series: Series, new_from_us: int, *, is_start_known: bool = False) -> bool:
    near = series.at_us >= new_from_us - margin_s(point) * US
    kept = series.take(near)
    columns = ReadingColumns(
        np.zeros(len(kept), np.int32), kept.at_us, kept.value, kept.interval_s, kept.valid_s
    )
    is_start = np.array([is_start_known and bool(near.all())])
    return bool(plain([point], columns, np.array([new_from_us]), is_start)[0])


def _found(point: Point, series: Series, from_us: int) -> list[Finding]:
    found = meter_findings(Meter(id="m", points=(point,)), {"p": series})
    return [f for f in found if f.kind in LOCAL_KINDS and f.end.timestamp() * US >= from_us]


@settings(max_examples=400)
@given(_points(), st.one_of(st.integers(0, 69), st.integers(0, 1)), st.booleans())
def test_nothing_is_found_in_what_is_plain(
    case: tuple[Point, Series], place: int, is_start_known: bool
) -> None:
    point, series = case
    new = int(series.at_us[min(place, len(series) - 1)])
    if _looked(point, series, new, is_start_known=is_start_known):
        assert _found(point, series, new) == []


def test_what_a_steady_meter_sends_is_plain_and_a_jump_is_not() -> None:
    at_us = np.arange(90, dtype=np.int64) * 60 * US
    zero = np.zeros(90, np.int32)
    values = np.arange(90) * 1.0
    point = Point(id="p", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, interval_s=60)
    assert _looked(point, Series(at_us, values, zero, zero), int(at_us[-5]))
    assert not _looked(point, Series(at_us, values, zero, zero), int(at_us[0]))
    for change in (100.0, -2.0, np.nan):
        odd = values.copy()
        odd[-2:] += change
        assert not _looked(point, Series(at_us, odd, zero, zero), int(at_us[-5]))


def test_the_beginning_of_a_steady_series_is_plain_where_it_is_known_to_be_one_and_the_circuit_is_rated() -> (
    None
):
    at_us = np.arange(5, dtype=np.int64) * 60 * US
    zero, values = np.zeros(5, np.int32), np.arange(5) * 1.0
    rated = Point(
        id="p", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, interval_s=60, max_power_kw=600.0
    )
    unrated = replace(rated, max_power_kw=np.inf)
    series = Series(at_us, values, zero, zero)
    assert _looked(rated, series, 0, is_start_known=True)
    assert _looked(rated, series, int(at_us[1]), is_start_known=True)
    assert not _looked(rated, series, 0)
    assert not _looked(unrated, series, 0, is_start_known=True)
    assert not _looked(rated, Series(at_us, values[::-1], zero, zero), 0, is_start_known=True)


def test_a_jump_or_hidden_wrap_that_later_readings_tell_is_not_plain() -> None:
    """Without a rating, what is thought of a step changes with the readings after it."""
    zero = np.zeros(8, np.int32)
    point = Point(id="p", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, interval_s=60)
    minute = np.arange(4, dtype=np.int64) * 60 * US
    jumps = np.array([991.0, 992.0, 10_992.0, 20_992.0])
    assert not _looked(point, Series(minute, jumps, zero[:4], zero[:4]), int(minute[3]))
    seconds = np.array([0, 60, 120, 180, 240, 7440, 7500, 7620], np.int64) * US
    values = np.array([991.0, 992.0, 993.0, 10_993.0, 20_993.0, 20_994.0, 20_995.0, 20_996.0])
    wrapping = Point(
        id="p", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, interval_s=60, modulus_kwh=1000.0
    )
    assert not _looked(wrapping, Series(seconds, values, zero, zero), int(seconds[7]))


def _minutes(values: list[float], length_s: list[int], kind: ReadingKind, modulus: float = math.inf) -> bool:
    """Whether the last of some readings of a point without a rating is plain."""
    point = Point(id="p", role=Role.IT_PDU_OUTPUT, kind=kind, interval_s=60, modulus_kwh=modulus)
    at_us = np.cumsum(np.array(length_s, np.int64)) * US + 1_700_000_000 * US
    zero = np.zeros(len(values), np.int32)
    return _looked(point, Series(at_us, np.array(values), zero, zero), int(at_us[-1]))


@pytest.mark.parametrize(("last", "is_plain"), [(200.0, True), (200.1, False)])
def test_power_without_a_rating_is_plain_up_to_twenty_times_the_value_before(
    last: float, is_plain: bool
) -> None:
    assert _minutes([10.0] * 30 + [last], [60] * 31, ReadingKind.POWER) is is_plain


@pytest.mark.parametrize(("last", "is_plain"), [(4.0, True), (4.1, False)])
def test_a_register_without_a_rating_is_plain_up_to_four_times_its_usual_rise(
    last: float, is_plain: bool
) -> None:
    values = [1000.0 + n for n in range(30)]
    assert _minutes([*values, values[-1] + last], [60] * 31, ReadingKind.REGISTER) is is_plain


@pytest.mark.parametrize(("last_s", "is_plain"), [(119, True), (120, False)])
def test_a_wrap_may_hide_in_a_step_twice_as_long_as_the_one_before(last_s: int, is_plain: bool) -> None:
    values, length_s = [500.0 + n / 2 for n in range(30)], [60] * 30
    assert _minutes([*values, values[-1] + 1], [*length_s, last_s], ReadingKind.REGISTER, 1000) is is_plain


@pytest.mark.parametrize(("before", "is_plain"), [(1, False), (2, True)])
def test_two_readings_before_the_new_one_are_needed(before: int, is_plain: bool) -> None:
    assert _minutes([10.0] * (before + 1), [60] * (before + 1), ReadingKind.POWER) is is_plain
