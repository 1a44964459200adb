"""A plant with dates: every figure is the sum over the times in which nothing changed, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import energy, pue, timeline
from app.domain.energy import Series
from app.domain.period import QUARTER_HOUR_US, month
from app.domain.quantity import ReadingKind, Role
from app.domain.site import (
    FacilityIs,
    Fleet,
    Institution,
    InstitutionClass,
    Meter,
    MeterChange,
    Point,
    PointChange,
    Site,
)

T0 = datetime(2026, 10, 1, tzinfo=UTC)
T0_US = int(T0.timestamp()) * 1_000_000
DAYS = 2
END_US = T0_US + DAYS * 86_400_000_000
MINUTE_US = 60_000_000


def at(minute: float) -> datetime:
    return T0 + timedelta(minutes=minute)


# -- the reference: one multiplication and one addition at a time --------------------------------------


class Truth(NamedTuple):
    """What holds for a point between two minutes."""

    start: float
    end: float
    multiplier: float
    weight: float


def energy_by_hand(minutes: list[float], register: list[float], truths: list[Truth]) -> float:
    """Weighted energy of a register: every rise, minute by minute, with the constants of its minute."""
    total = 0.0
    for (m0, r0), (m1, r1) in pairwise(zip(minutes, register, strict=True)):
        for truth in truths:
            shared = min(m1, truth.end) - max(m0, truth.start)
            if shared > 0:
                total += (r1 - r0) * shared / (m1 - m0) * truth.multiplier * truth.weight
    return total


def by_hand(turns: list[tuple[float, str, float]], start: float | None, end: float | None) -> list[Truth]:
    """The truths of a point whose multiplier and weight turn at minutes, there from `start` to `end`."""
    now = {"multiplier": 1.0, "weight": 1.0}
    found, since = [], -1e9
    for minute, what, value in sorted(turns):
        found.append(Truth(since, minute, **now))
        since, now = minute, {**now, what: value}
    found.append(Truth(since, 1e9, **now))
    low, high = -1e9 if start is None else start, 1e9 if end is None else end
    return [t._replace(start=max(t.start, low), end=min(t.end, high)) for t in found]


# -- the same plant for Wattline ------------------------------------------------------------------------


def point_of(
    name: str, role: Role, turns: list[tuple[float, str, float]], start: float | None, end: float | None
) -> Point:
    changes: dict[float, dict[str, float]] = {}
    for minute, what, value in turns:
        changes.setdefault(minute, {})[what] = value
    return Point(
        id=name,
        role=role,
        kind=ReadingKind.REGISTER,
        interval_s=900,
        valid_from=None if start is None else at(start),
        valid_to=None if end is None else at(end),
        changes=tuple(PointChange(at=at(m), **values) for m, values in sorted(changes.items())),  # type: ignore[arg-type]
    )


def series_of(minutes: list[float], register: list[float]) -> Series:
    at_us = np.array([T0_US + round(m * MINUTE_US) for m in minutes], np.int64)
    none = np.zeros(len(minutes), np.int32)
    return Series(at_us, np.array(register), none, none)


def fleet(*meters: Meter) -> Fleet:
    bank = Institution(id="b", institution_class=InstitutionClass.OTHER)
    return Fleet(institutions=(bank,), sites=(Site(id="s", institution="b", time_zone="UTC", meters=meters),))


MINUTES = st.integers(0, DAYS * 1440)
QUARTERS = st.integers(0, DAYS * 96).map(lambda n: n * 15)


@st.composite
def readings(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """A register under load, read from before the period until after it (standstills have own rules)."""
    step = draw(st.sampled_from([15.0, 60.0, 47.0, 1440.0]))
    minutes = [m * step for m in range(-2, int(DAYS * 1440 / step) + 3)]
    rises = draw(st.lists(st.integers(8, 40), min_size=8, max_size=8))
    register = np.cumsum([rises[n % 8] / 8 for n in range(len(minutes))]).tolist()
    return minutes, register


@st.composite
def turns_of(draw: st.DrawFn, instants: st.SearchStrategy[int]) -> list[tuple[float, str, float]]:
    minutes = draw(st.lists(instants, max_size=3, unique=True))
    what = st.tuples(st.sampled_from(["multiplier", "weight"]), st.sampled_from([0.5, 2.0, 40.0]))
    return [(float(m), *draw(what)) for m in minutes]


@st.composite
def validity(draw: st.DrawFn, instants: st.SearchStrategy[int]) -> tuple[float | None, float | None]:
    start, end = draw(st.none() | instants), draw(st.none() | instants)
    if start is not None and end is not None and end <= start:
        return None, float(start)
    return None if start is None else float(start), None if end is None else float(end)


@settings(max_examples=60)
@given(readings(), turns_of(MINUTES), validity(MINUTES))
def test_energy_of_a_point_is_the_sum_over_its_validities(
    read: tuple[list[float], list[float]],
    turns: list[tuple[float, str, float]],
    there: tuple[float | None, float | None],
) -> None:
    turns = [t for t in turns if t[1] == "multiplier"]
    point = point_of("p", Role.FACILITY, turns, *there)
    parts = timeline.of_point(fleet(Meter(id="m", rated_power_kw=900, points=(point,))), "p")
    cells = energy.quarter_hours(timeline.spans(series_of(*read), parts), T0_US, END_US)
    truths = [
        t._replace(start=max(t.start, 0.0), end=min(t.end, DAYS * 1440.0)) for t in by_hand(turns, *there)
    ]
    assert cells.energy_kwh.sum() == pytest.approx(energy_by_hand(*read, truths))
    seconds = sum(max(t.end - t.start, 0.0) for t in truths) * 60
    assert cells.coverage_ratio.sum() * 900 == pytest.approx(seconds, abs=1e-3)


@settings(max_examples=60)
@given(st.data())
def test_energy_of_a_site_is_the_sum_over_the_validities_of_its_points(data: st.DataObject) -> None:
    """Whole 15-minute turns of three meters, IT and cooling, in a facility that is the sum of its classes."""
    roles = {"ups": Role.IT_UPS_OUTPUT, "pdu": Role.IT_UPS_OUTPUT, "chiller": Role.COOLING}
    meters, cells, right = [], {}, dict.fromkeys(roles, 0.0)
    for name, role in roles.items():
        turns, there = data.draw(turns_of(QUARTERS)), data.draw(validity(QUARTERS))
        read = data.draw(readings())
        meters.append(
            Meter(id=name, rated_power_kw=900, points=(point_of(f"{name}.kwh", role, turns, *there),))
        )
        inside = [
            t._replace(start=max(t.start, 0.0), end=min(t.end, DAYS * 1440.0)) for t in by_hand(turns, *there)
        ]
        right[name] = energy_by_hand(*read, inside)
        parts = timeline.of_point(fleet(meters[-1]), f"{name}.kwh")
        cells[f"{name}.kwh"] = energy.quarter_hours(timeline.spans(series_of(*read), parts), T0_US, END_US)
    site = Site(
        id="s",
        institution="b",
        time_zone="UTC",
        facility_is=FacilityIs.SUM_OF_CLASSES,
        meters=(*meters, _always_there()),
    )
    cells["base.kwh"] = _one_kwh_an_interval()
    sums = pue.pair_over(site, "", cells, T0_US, END_US)
    base = DAYS * 96.0
    assert sums.it_kwh.sum() == pytest.approx(right["ups"] + right["pdu"] + base)
    assert sums.classes_kwh["cooling"].sum() == pytest.approx(right["chiller"])
    assert sums.coverage_ratio.sum() == pytest.approx(base)  # nobody waits for a meter that is not there


def _always_there() -> Meter:
    return Meter(id="base", points=(point_of("base.kwh", Role.IT_UPS_OUTPUT, [], None, None),))


def _one_kwh_an_interval() -> energy.QuarterHours:
    count = DAYS * 96
    at_us = T0_US + np.arange(count) * QUARTER_HOUR_US
    return energy.QuarterHours(
        at_us,
        np.ones(count),
        np.ones(count),
        np.zeros(count),
        np.ones(count, np.int8),
        np.full(count, 900, np.int32),
    )


@settings(max_examples=80)
@given(readings(), turns_of(MINUTES), validity(MINUTES), st.data())
def test_what_is_computed_again_around_a_change_is_what_the_whole_gives(
    read: tuple[list[float], list[float]],
    turns: list[tuple[float, str, float]],
    there: tuple[float | None, float | None],
    data: st.DataObject,
) -> None:
    point = point_of("p", Role.FACILITY, turns, *there)
    parts = timeline.of_point(fleet(Meter(id="m", rated_power_kw=900, points=(point,))), "p")
    series = series_of(*read)
    low = data.draw(st.integers(0, len(series) - 1))
    high = data.draw(st.integers(low, min(low + 20, len(series) - 1)))
    reach = data.draw(st.sampled_from([16, 24, 64]))
    first, last = max(low - reach, 0), min(high + reach + 1, len(series))
    found = timeline.redone(
        series.take(slice(first, last)),
        parts,
        int(series.at_us[low]),
        int(series.at_us[high]),
        is_start=first == 0,
        is_end=last == len(series),
    )
    if found is None or found.start_us >= found.end_us:
        return
    whole = energy.quarter_hours(timeline.spans(series, parts), found.start_us, found.end_us)
    part = energy.quarter_hours(found.known, found.start_us, found.end_us)
    np.testing.assert_array_equal(part.at_us, whole.at_us)
    np.testing.assert_allclose(part.energy_kwh, whole.energy_kwh, atol=1e-9)
    np.testing.assert_allclose(part.coverage_ratio, whole.coverage_ratio, atol=1e-9)


def test_a_change_without_readings_nearby_asks_for_more_only_where_it_must() -> None:
    point = point_of("p", Role.FACILITY, [(720.0, "multiplier", 2.0)], None, None)
    parts = timeline.of_point(fleet(Meter(id="m", rated_power_kw=900, points=(point,))), "p")
    minutes = [m * 15.0 for m in range(400)]
    series = series_of(minutes, minutes)
    short = series.take(slice(40, 60))
    found = timeline.redone(
        short, parts, int(series.at_us[50]), int(series.at_us[50]), is_start=False, is_end=False
    )
    assert found is None


@pytest.mark.parametrize(("minute", "estimated"), [(60.0, 0.0), (30.0, 4.0)])
def test_only_an_interval_that_a_change_cuts_is_estimated(minute: float, estimated: float) -> None:
    """Hourly readings: a change on the hour cuts none, one at half past cuts one hour of four intervals."""
    point = point_of("p", Role.FACILITY, [(minute, "multiplier", 2.0)], None, None)
    point = replace(point, interval_s=3600)
    parts = timeline.of_point(fleet(Meter(id="m", rated_power_kw=900, points=(point,))), "p")
    hours = [60.0 * n for n in range(-1, 5)]
    cells = energy.quarter_hours(
        timeline.spans(series_of(hours, [4.0 * n for n in range(6)]), parts),
        T0_US,
        T0_US + 4 * 4 * QUARTER_HOUR_US,
    )
    assert cells.estimated_ratio.sum() == estimated
    assert cells.energy_kwh.sum() == pytest.approx(4.0 * (minute / 60) + 8.0 * (4 - minute / 60))


def test_power_is_scaled_by_the_constant_in_force_at_each_sample() -> None:
    """A ratio that doubles halves the raw value; the load stays 400 kW throughout."""
    point = Point(
        id="p",
        role=Role.FACILITY,
        kind=ReadingKind.POWER,
        multiplier=40.0,
        interval_s=900,
        changes=(PointChange(at=at(60), multiplier=80.0),),
    )
    parts = timeline.of_point(fleet(Meter(id="m", rated_power_kw=900, points=(point,))), "p")
    minutes = [15.0 * n for n in range(9)]
    series = series_of(minutes, [10.0 if m < 60 else 5.0 for m in minutes])
    cells = energy.quarter_hours(timeline.spans(series, parts), T0_US, T0_US + 8 * QUARTER_HOUR_US)
    np.testing.assert_allclose(cells.energy_kwh, 100.0)


def test_what_flowed_while_a_meter_was_nowhere_is_not_spread_over_its_places() -> None:
    """10 kWh between the last reading at one place and the first at the next, a day later."""

    def placed(start: datetime | None, end: datetime | None) -> Meter:
        point = Point(id="p", role=Role.FACILITY, kind=ReadingKind.REGISTER)
        return Meter(id="m", valid_from=start, valid_to=end, points=(point,))

    both = fleet(placed(None, at(60)), placed(at(1500), None))
    parts = timeline.of_point(both, "p")
    cells = energy.quarter_hours(
        timeline.spans(series_of([0.0, 45.0, 1515.0, 1530.0], [0.0, 3.0, 13.0, 14.0]), parts), T0_US, END_US
    )
    assert cells.energy_kwh.sum() == pytest.approx(4.0)


def test_a_meter_is_fed_past_one_that_is_not_there() -> None:
    def meter(name: str, *fed_by: str, until: float | None = None) -> Meter:
        end = None if until is None else at(until)
        return Meter(id=name, fed_by=fed_by, valid_to=end, points=())

    site = fleet(meter("main"), meter("ups", "main", until=60), meter("rack", "ups")).sites[0]
    assert site.at(at(59)).meters[2].fed_by == ("ups",)
    assert site.at(at(60)).meters[1].fed_by == ("main",)


def test_a_closed_month_does_not_see_what_came_after() -> None:
    changes = (MeterChange(at=at(40 * 1440), rated_power_kw=50),)
    new = Meter(id="new", valid_from=at(35 * 1440), points=())
    then, now = fleet(Meter(id="m", points=())), fleet(Meter(id="m", points=(), changes=changes), new)
    october = month("2026-10", then.sites[0].zone)
    assert now.sites[0].during(october) == then.sites[0]
