"""The simulated plants keep the laws they stand for, at every instant and with every upset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import SeriesError
from collectors.simulated import defects
from collectors.simulated.physics import ASSEMBLIES, NODE_S, Plant, instants, noise

ANCHOR = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
EPOCH = defects.epoch(ANCHOR)
PLANTS = {
    site: Plant(
        site, EPOCH, (*defects.upsets(site, ANCHOR), *defects.lasting(site, ANCHOR)), defects.origin(ANCHOR)
    )
    for site in ASSEMBLIES
}

moments = st.datetimes(
    EPOCH.replace(tzinfo=None), ANCHOR.replace(tzinfo=None), timezones=st.just(UTC)
)  # EPOCH keeps CST: its digits read as UTC lie eight hours inside the simulation
sites = st.sampled_from(sorted(ASSEMBLIES))

SH1_SOURCES = ("utility_a", "utility_b", "generator", "pv")
SH1_LOADS = (
    *("ups_a_in", "ups_b_in", "chiller_1", "chiller_2", "crah_1", "crah_2", "pumps"),
    *("lighting", "misc", "office", "unmetered"),
)


def value(site: str, at: datetime, *signals: str) -> float:
    return sum(PLANTS[site].value(signal, at) for signal in signals)


@given(moments)
def test_sources_deliver_exactly_what_is_consumed_and_lost(at: datetime) -> None:
    transformer_kw = value("sh1", at, "epms") - value("sh1", at, "ups_and_cable_loss")
    assert value("sh1", at, *SH1_SOURCES) == pytest.approx(value("sh1", at, *SH1_LOADS) + transformer_kw)
    assert transformer_kw > 0


@given(moments)
def test_losses_are_what_goes_in_minus_what_comes_out(at: datetime) -> None:
    it_kw = value("sh1", at, "pdu_a1", "pdu_b1", "pdu_a2", "pdu_b2")
    assert value("sh1", at, "ups_a_in", "ups_b_in") - it_kw == pytest.approx(
        value("sh1", at, "ups_and_cable_loss")
    )


@given(moments)
def test_the_branch_delivers_exactly_what_is_consumed(at: datetime) -> None:
    rest_kw = value("nb1", at, "incomer") - value("nb1", at, "ups_in", "crac_1", "crac_2", "lighting")
    assert 0.5 < rest_kw < 2


@given(moments)
def test_every_meter_reads_no_more_than_the_one_above_it(at: datetime) -> None:
    for child, parent in (("rack_101", "pdu_a1"), ("rack_102", "pdu_b1"), ("rack_201", "pdu_a2")):
        assert 0 < value("sh1", at, child) < value("sh1", at, parent)
    for side in "ab":
        pdu_kw = value("sh1", at, f"pdu_{side}1", f"pdu_{side}2")
        assert pdu_kw < value("sh1", at, f"ups_{side}_out") < value("sh1", at, f"ups_{side}_in")


@given(sites, moments)
def test_no_power_is_negative(site: str, at: datetime) -> None:
    powers = [s for s in PLANTS[site].signals if "." not in s]
    assert min(PLANTS[site].value(s, at) for s in powers) >= 0


@given(sites, st.data(), moments, st.integers(1, 40 * NODE_S))
def test_a_register_is_the_exact_integral_of_its_power(
    site: str, data: st.DataObject, start: datetime, length_s: int
) -> None:
    plant, end = PLANTS[site], start + timedelta(seconds=length_s)
    signal = data.draw(st.sampled_from(plant.signals))
    first, last = instants([start, end]).astype(np.int64)
    nodes = np.arange(-(-first // (NODE_S * 10**6)), last // (NODE_S * 10**6) + 1) * NODE_S * 10**6
    knots_us = np.unique(np.concatenate([[first], nodes, [last]]))
    kw = plant.values(signal, knots_us.view("datetime64[us]"))
    by_hand = np.sum((kw[1:] + kw[:-1]) / 2 * np.diff(knots_us)) / 3.6e9
    assert plant.integral(signal, end) - plant.integral(signal, start) == pytest.approx(by_hand, abs=1e-6)


@given(sites, st.data(), st.lists(moments, min_size=1, max_size=20))
def test_one_instant_gives_what_an_array_gives(site: str, data: st.DataObject, at: list[datetime]) -> None:
    plant = PLANTS[site]
    signal = data.draw(st.sampled_from(plant.signals))
    assert [plant.value(signal, t) for t in at] == plant.values(signal, instants(at)).tolist()
    assert [plant.integral(signal, t) for t in at] == plant.integrals(signal, instants(at)).tolist()


@settings(max_examples=10)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_the_order_of_questions_does_not_matter(days: list[int]) -> None:
    plant = Plant("nb1", EPOCH)
    last = EPOCH + timedelta(days=200)
    step_by_step = [plant.integral("incomer", EPOCH + timedelta(days=d)) for d in days]
    plant.integral("incomer", last)
    assert step_by_step == [plant.integral("incomer", EPOCH + timedelta(days=d)) for d in days]


@given(st.floats(0, 4e9), st.sampled_from([600.0, 2700.0, 86_400.0]), st.integers(0, 99))
def test_noise_is_bounded_and_repeats(t_s: float, period_s: float, stream: int) -> None:
    once = noise(np.array([t_s]), period_s, stream)
    assert -1 <= once[0] <= 1
    assert once == noise(np.array([t_s]), period_s, stream)


def test_before_its_beginning_the_simulation_does_not_answer() -> None:
    with pytest.raises(SeriesError, match="begins at"):
        PLANTS["sh1"].value("pv", EPOCH - timedelta(seconds=1))
    with pytest.raises(SeriesError, match="naive"):
        Plant("sh1", EPOCH.replace(tzinfo=None))
