"""Load against capacity, with redundancy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from app.domain.capacity import (
    FeedLoad,
    LoadState,
    failure,
    feed_loads,
    it_load,
    load,
    peak_ratios,
    room_it_loads,
    usable_kw,
)
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Design, Meter, MeterChange, Point, Site, Stage

INDEX = pd.date_range("2026-01-01", periods=4, freq="15min", tz="UTC")


def meter(name: str, stage: Stage, *fed_by: str, rated_kw: float = math.inf, redundancy: str = "N") -> Meter:
    roles = {Stage.UTILITY: Role.FACILITY, Stage.UPS: Role.IT_UPS_OUTPUT, Stage.PDU: Role.IT_PDU_OUTPUT}
    return Meter(
        id=name,
        points=(Point(id=f"{name}.e", role=roles[stage], kind=ReadingKind.REGISTER),),
        stage=stage,
        room="hall 1" if stage is Stage.UPS else "",
        fed_by=fed_by,
        rated_power_kw=rated_kw,
        redundancy=redundancy,
    )


def site() -> Site:
    return Site(
        id="s",
        institution="b",
        time_zone="UTC",
        design=Design(it_capacity_kw=100, room_it_capacity_kw={"hall 1": 80, "hall 2": 20}),
        meters=(
            meter("grid", Stage.UTILITY, rated_kw=120),
            meter("ups-a", Stage.UPS, "grid", rated_kw=100, redundancy="2N"),
            meter("ups-b", Stage.UPS, "grid", rated_kw=100, redundancy="2N"),
            meter("pdu-1", Stage.PDU, "ups-a", "ups-b", rated_kw=90),
            meter("pdu-2", Stage.PDU, "ups-a", "ups-b", rated_kw=90),
        ),
    )


def frame(**kw: float) -> pd.DataFrame:
    return pd.DataFrame({f"{n.replace('_', '-')}.e": value / 4 for n, value in kw.items()}, index=INDEX)


def found(**kw: float) -> dict[str, FeedLoad]:
    return {feed.feed.meters[0]: feed for feed in feed_loads(site(), frame(**kw))}


LOADS = {"grid": 100.0, "ups_a": 30.0, "ups_b": 40.0, "pdu_1": 30.0, "pdu_2": 38.0}


@pytest.mark.parametrize(
    ("ratings", "redundancy", "usable"),
    [
        ([100, 80], "N", 180),
        ([100, 80, 100], "N+1", 180),
        ([100, 80], "N+1", 80),
        ([100], "N+1", 100),
        ([100, 100], "2N", 100),
        ([100, 80], "2N", 80),
        ([100, 100, 100, 100], "2N", 200),
        ([100], "2N", 50),
    ],
)
def test_usable_part_of_the_ratings(ratings: list[float], redundancy: str, usable: float) -> None:
    assert usable_kw(ratings, redundancy) == usable


def test_a_pair_is_judged_by_what_one_side_can_carry() -> None:
    pair = found(**LOADS)["ups-a"]
    assert pair.feed.meters == ("ups-a", "ups-b")
    assert (pair.rated_kw, pair.load.capacity_kw, pair.redundancy) == (200, 100, "2N")
    assert pair.load.mean_ratio == pytest.approx(0.7)
    assert pair.load.state is LoadState.NORMAL


def test_more_than_one_side_can_carry_is_over() -> None:
    assert found(**{**LOADS, "ups_a": 62.0})["ups-a"].load.state is LoadState.OVER


def test_headroom_below_that_the_feed_cannot_supply_is_stranded() -> None:
    feeds = found(**LOADS)
    assert feeds["ups-a"].stranded_kw == pytest.approx((60 + 52) - 30)
    assert feeds["grid"].stranded_kw == pytest.approx(30 - 20)
    assert feeds["pdu-1"].stranded_kw is None


def test_low_use_is_remarkable_in_the_supply_but_not_of_equipment() -> None:
    chiller = Meter(
        id="chiller",
        points=(Point(id="chiller.e", role=Role.COOLING, kind=ReadingKind.REGISTER),),
        rated_power_kw=400,
    )
    sensor = Meter(id="t", points=(Point(id="t.c", role=Role.TEMPERATURE, kind=ReadingKind.GAUGE),))
    plain = Site(
        id="s",
        institution="b",
        time_zone="UTC",
        meters=(meter("grid", Stage.UTILITY, rated_kw=999), chiller, sensor),
    )
    feeds = feed_loads(plain, frame(grid=100.0, chiller=20.0))
    assert [(f.feed.meters[0], f.state) for f in feeds] == [
        ("grid", LoadState.LOW),
        ("chiller", LoadState.NORMAL),
    ]


def test_unrated_feeds_are_unknown() -> None:
    bare = load(pd.Series(5.0, INDEX), math.inf)
    assert (bare.capacity_kw, bare.mean_ratio, bare.headroom_kw, bare.state) == (
        None,
        None,
        None,
        LoadState.UNKNOWN,
    )


def test_peak_mean_and_coverage() -> None:
    power = pd.Series([10.0, math.nan, 30.0, 20.0], INDEX)
    half = load(power, 40)
    assert (half.mean_kw, half.peak_kw, half.coverage_ratio) == (20, 30, 0.75)
    assert half.peak_at == INDEX[2].to_pydatetime()
    assert (half.mean_ratio, half.peak_ratio, half.headroom_kw) == (0.5, 0.75, 10)


@pytest.mark.parametrize(
    ("kw", "state"),
    [
        (20, "low"),
        (29.9, "low"),
        (30, "normal"),
        (50, "normal"),
        (90, "normal"),
        (90.1, "tight"),
        (95, "tight"),
        (100, "tight"),
        (101, "over"),
    ],
)
def test_it_load_against_design(kw: float, state: str) -> None:
    """What lies on a threshold has not passed it."""
    assert it_load(pd.Series(kw / 4, INDEX), site()).state == state


def test_rooms_by_their_it_meters() -> None:
    rooms = room_it_loads(site(), frame(**LOADS))
    assert rooms["hall 1"].mean_ratio == pytest.approx(70 / 80)
    assert rooms["hall 2"].state is LoadState.UNKNOWN


def test_nothing_measured_is_unknown() -> None:
    silent = load(pd.Series(math.nan, INDEX), 10)
    assert (silent.mean_kw, silent.state, silent.coverage_ratio) == (None, LoadState.UNKNOWN, 0)


def test_the_peak_of_an_hour_is_that_of_the_intervals_that_are_known() -> None:
    index = pd.date_range("2026-01-01", periods=8, freq="15min", tz="UTC")
    kw = pd.Series([60, 30, math.nan, 12, math.nan, math.nan, math.nan, math.nan], index)
    ratios = peak_ratios(site(), pd.DataFrame({"grid.e": kw / 4}))[("grid",)]
    assert ratios.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.25, 0.1, 0.1, math.nan], nan_ok=True)


def dated_site(**then: Any) -> Site:
    """A UPS that was another one until half past midnight."""
    ups = meter("ups", Stage.UPS, rated_kw=100)
    was = replace(ups, **then, changes=(MeterChange(at=TURN, rated_power_kw=100),))
    return Site(id="s", institution="b", time_zone="UTC", meters=(was,))


TURN = INDEX[2].to_pydatetime()


def peak_of(site: Site) -> float | None:
    table = pd.DataFrame({"ups.e": [100.0, 100.0, 10.0, 15.0]}, index=INDEX)
    (found,) = feed_loads(site, table)
    return found.load.peak_kw


def test_load_of_before_another_rating_is_not_held_against_this_one() -> None:
    assert peak_of(dated_site(rated_power_kw=500.0)) == 60
    assert peak_of(dated_site(rated_power_kw=100.0)) == 400, "what was always so counts from the beginning"


def test_load_of_before_another_set_of_points_is_not_held_against_this_one() -> None:
    more = Point(id="ups.b", role=Role.IT_UPS_OUTPUT, kind=ReadingKind.REGISTER, valid_to=TURN)
    ups = meter("ups", Stage.UPS, rated_kw=100)
    site = Site(id="s", institution="b", time_zone="UTC", meters=(replace(ups, points=(*ups.points, more)),))
    table = pd.DataFrame({"ups.e": [100.0, 100.0, 10.0, 15.0], "ups.b": 1.0}, index=INDEX)
    (found,) = feed_loads(site, table)
    assert found.load.peak_kw == 60


def test_load_of_before_a_feed_was_there_is_not_held_against_it() -> None:
    later = replace(meter("ups", Stage.UPS, rated_kw=100), valid_from=TURN)
    other = replace(meter("old", Stage.UPS, rated_kw=100), valid_to=TURN)
    site = Site(id="s", institution="b", time_zone="UTC", meters=(later, other))
    table = pd.DataFrame({"ups.e": [100.0, 100.0, 10.0, 15.0], "old.e": 1.0}, index=INDEX)
    assert [f.load.peak_kw for f in feed_loads(site, table)] == [60]


@pytest.mark.parametrize(("a", "b", "ratio"), [(40.0, 45.0, 0.85), (60.0, 55.0, 1.15)])
def test_the_other_side_takes_over_what_the_lost_one_carried(a: float, b: float, ratio: float) -> None:
    found = failure(site(), frame(grid=120, ups_a=a, ups_b=b, pdu_1=40, pdu_2=40), "ups-a")
    assert found is not None
    assert (found.taking_over, found.rated_kw) == (("ups-b",), 100)
    assert found.load.peak_ratio == pytest.approx(ratio)


def test_two_paths_of_their_own_stand_in_for_each_other_those_of_the_room_first() -> None:
    paths = replace(
        site(),
        meters=(
            *site().meters[:3],
            meter("pdu-1", Stage.PDU, "ups-a", rated_kw=90, redundancy="2N"),
            meter("pdu-2", Stage.PDU, "ups-b", rated_kw=90, redundancy="2N"),
        ),
    )
    powers = frame(grid=120, ups_a=40, ups_b=45, pdu_1=38, pdu_2=43)
    assert getattr(failure(paths, powers, "ups-b"), "taking_over", None) == ("ups-a",)
    assert getattr(failure(paths, powers, "pdu-2"), "taking_over", None) == ("pdu-1",)
    assert failure(paths, powers, "grid") is None
    assert failure(paths, powers, "nothing") is None
