"""Balance of the metering tree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site, Stage
from app.domain.tree import (
    BalanceState,
    FeedBalance,
    Metered,
    StageLoss,
    balances,
    explanations,
    feeds,
    inflow_points,
    meter_flows,
    remainder,
    remainder_course,
    stage_losses,
)
from app.errors import SeriesError


def point(name: str, role: Role, kind: ReadingKind = ReadingKind.REGISTER, **more: float) -> Point:
    return Point(id=name, role=role, kind=kind, **more)  # type: ignore[arg-type]


def meter(
    name: str, role: Role, stage: Stage, *fed_by: str, percent: float = 1.0, weight: float = 1.0
) -> Meter:
    return Meter(
        id=name,
        points=(point(f"{name}.e", role, weight=weight),),
        stage=stage,
        fed_by=fed_by,
        accuracy_class_percent=percent,
    )


def two_sided() -> Site:
    """Two incomers feed two UPS and a chiller shared with an office; each UPS feeds a PDU, one has a rack."""
    return Site(
        id="s",
        institution="b",
        time_zone="UTC",
        meters=(
            meter("in-a", Role.FACILITY, Stage.UTILITY),
            meter("in-b", Role.FACILITY, Stage.UTILITY),
            meter("ups-a", Role.IT_UPS_OUTPUT, Stage.UPS, "in-a", "in-b"),
            meter("ups-b", Role.IT_UPS_OUTPUT, Stage.UPS, "in-b"),
            meter("chiller", Role.COOLING, Stage.LOAD, "in-a", "in-b", weight=0.5),
            meter("pdu-a", Role.IT_PDU_OUTPUT, Stage.PDU, "ups-a"),
            meter("pdu-b", Role.IT_PDU_OUTPUT, Stage.PDU, "ups-b"),
            meter("rack", Role.IT_EQUIPMENT_INPUT, Stage.RACK, "pdu-a"),
        ),
    )


def energies(**kwh: float) -> pd.DataFrame:
    index = pd.date_range("2026-01-01", periods=4, freq="15min", tz="UTC")
    return pd.DataFrame(
        {f"{name.replace('_', '-')}.e": value / 4 for name, value in kwh.items()}, index=index
    )


SOUND = {
    "in_a": 80.0,
    "in_b": 75.0,
    "ups_a": 60.0,
    "ups_b": 40.0,
    "chiller": 40.0,
    "pdu_a": 59.0,
    "pdu_b": 39.9,
    "rack": 59.0,
}


def by_meters(found: tuple[FeedBalance, ...]) -> dict[tuple[str, ...], FeedBalance]:
    return {balance.feed.meters: balance for balance in found}


def test_meters_that_share_a_child_are_one_feed() -> None:
    found = feeds(two_sided())
    assert [feed.meters for feed in found][:3] == [("in-a", "in-b"), ("ups-a",), ("ups-b",)]
    assert found[0].children == ("ups-a", "ups-b", "chiller")
    assert sorted(m for feed in found for m in feed.meters) == sorted(m.id for m in two_sided().meters)


def test_a_shared_chiller_draws_all_of_its_energy_whatever_its_weight() -> None:
    incomers = by_meters(balances(two_sided(), energies(**SOUND)))[("in-a", "in-b")]
    assert incomers.remainder.remainder_kwh == pytest.approx(15)
    assert incomers.remainder.state is BalanceState.REMAINDER


def test_differences_within_accuracy_are_balanced() -> None:
    found = by_meters(balances(two_sided(), energies(**SOUND)))
    assert found[("ups-b",)].remainder.state is BalanceState.BALANCED
    assert found[("pdu-a",)].remainder.state is BalanceState.BALANCED


def test_children_that_take_more_than_goes_in_are_a_breach() -> None:
    found = by_meters(balances(two_sided(), energies(**{**SOUND, "rack": 70.0})))
    assert found[("pdu-a",)].remainder.state is BalanceState.NEGATIVE
    assert found[("pdu-a",)].remainder.remainder_kwh == pytest.approx(-11)


def test_only_the_time_that_all_are_covered_is_compared() -> None:
    frame = energies(**SOUND)
    frame.loc[frame.index[0], "rack.e"] = np.nan
    balance = by_meters(balances(two_sided(), frame))[("pdu-a",)]
    assert balance.coverage_ratio == 0.75
    assert balance.remainder.in_kwh == pytest.approx(59 * 0.75)


def test_a_silent_meter_leaves_its_feed_unknown() -> None:
    frame = energies(**SOUND).drop(columns="rack.e")
    balance = by_meters(balances(two_sided(), frame))[("pdu-a",)]
    assert balance.remainder.state is BalanceState.UNKNOWN
    assert balance.coverage_ratio == 0
    assert Stage.PDU not in {loss.stage for loss in stage_losses((balance,))}


def test_losses_per_stage() -> None:
    losses = {loss.stage: loss for loss in stage_losses(balances(two_sided(), energies(**SOUND)))}
    assert losses[Stage.UPS].efficiency_ratio == pytest.approx(98.9 / 100)
    assert losses[Stage.UTILITY].efficiency_ratio == pytest.approx(140 / 155)
    assert list(losses) == [Stage.UTILITY, Stage.UPS, Stage.PDU]


def test_a_stage_of_which_little_is_metered_has_no_efficiency() -> None:
    balance = by_meters(balances(two_sided(), energies(**{**SOUND, "rack": 5.0})))[("pdu-a",)]
    (loss,) = stage_losses((balance,))
    assert (loss.in_kwh, loss.out_kwh, loss.efficiency_ratio) == (pytest.approx(59), pytest.approx(5), None)


def test_an_inlet_is_not_added_to_its_outlets() -> None:
    rack = Meter(
        id="r",
        points=(
            point("inlet", Role.IT_PDU_OUTPUT),
            point("o1", Role.IT_EQUIPMENT_INPUT),
            point("o2", Role.IT_EQUIPMENT_INPUT),
            point("inlet.kw", Role.IT_PDU_OUTPUT, ReadingKind.POWER),
        ),
    )
    assert [p.id for p in inflow_points(rack)] == ["inlet"]


def test_points_without_a_role_count_only_alone() -> None:
    panel = Meter(
        id="p", points=(point("sum", Role.NONE), point("cooling", Role.COOLING), point("w", Role.WATER))
    )
    spare = Meter(id="q", points=(point("sub", Role.NONE),))
    assert [p.id for p in inflow_points(panel)] == ["cooling"]
    assert [p.id for p in inflow_points(spare)] == ["sub"]


def test_several_circuits_of_one_meter_are_added() -> None:
    panel = Meter(id="p", points=(point("a", Role.COOLING), point("b", Role.LIGHTING)))
    site = Site(id="s", institution="b", time_zone="UTC", meters=(panel,))
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, np.nan]})
    assert meter_flows(site, frame)["p"].tolist() == pytest.approx([4.0, math.nan], nan_ok=True)


def test_a_generator_beside_the_grid_keeps_the_grids_stage() -> None:
    site = Site(
        id="s",
        institution="b",
        time_zone="UTC",
        meters=(
            meter("gen", Role.GENERATOR, Stage.GENERATOR),
            meter("grid", Role.FACILITY, Stage.UTILITY),
            meter("ups", Role.IT_UPS_OUTPUT, Stage.UPS, "grid", "gen"),
        ),
    )
    assert feeds(site)[0].stage is Stage.UTILITY


def test_tolerance_follows_the_accuracy_classes() -> None:
    left = remainder([Metered(100, 1)], [Metered(60, 0.5), Metered(30, 2)])
    assert left.tolerance_kwh == pytest.approx(2 * math.sqrt(1 + 0.09 + 0.36))
    assert left.remainder_kwh == pytest.approx(10)


def test_an_empty_period_is_refused() -> None:
    with pytest.raises(SeriesError, match="choose a period"):
        balances(two_sided(), energies(**SOUND).iloc[:0])


@pytest.mark.parametrize(
    ("in_kwh", "out_kwh", "ratio"),
    [(100, 50, 0.5), (100, 49.9, None), (0, 0, None), (0, 5, None), (1, 1, 1.0)],
)
def test_a_stage_has_an_efficiency_from_a_half_on(in_kwh: float, out_kwh: float, ratio: float | None) -> None:
    assert StageLoss(Stage.UPS, in_kwh, out_kwh).efficiency_ratio == ratio


def test_a_meter_that_hangs_elsewhere_explains_a_remainder() -> None:
    site = Site(
        id="s",
        institution="b",
        time_zone="UTC",
        meters=(
            meter("main", Role.FACILITY, Stage.UTILITY),
            meter("ups", Role.NONE, Stage.UPS, "main"),
            meter("pdu", Role.IT_PDU_OUTPUT, Stage.PDU, "ups"),
            meter("lost", Role.OTHER, Stage.LOAD, "main"),
            meter("big", Role.COOLING, Stage.LOAD, "main"),
        ),
    )
    at = pd.date_range("2026-11-01", periods=96, freq="15min", tz="UTC")
    swing = 2 + np.sin(np.arange(96) / 10)
    energies = {"main.e": 60.0, "ups.e": 20 + swing, "pdu.e": 20.0, "lost.e": swing, "big.e": 30.0}
    table = pd.DataFrame(energies, index=at)
    ups = next(f for f in feeds(site) if f.meters == ("ups",))
    rest = remainder_course(site, table, ups)
    assert np.allclose(rest, swing)
    (found,) = explanations(site, table, ups)
    assert found.meter == "lost"
    assert (found.share_ratio, found.correlation) == pytest.approx((1.0, 1.0))
