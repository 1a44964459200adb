"""What holds for any plant: the truth or no value, ranges in order, meters that only change names."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import ups
from app.domain.opportunities import State, opportunities
from app.domain.plant import indicators
from app.domain.plant_series import alive
from app.domain.tariff import Tariff
from tests import plants

DAYS = 30
INDEX = pd.date_range("2026-07-01", periods=DAYS * 24, freq="1h", tz="UTC")
TRUTH = plants.truth(INDEX)
IT_KW = TRUTH["ups-a"] + TRUTH["ups-b"]


def summer(**keys: Any) -> Any:
    return plants.plant(DAYS, start="2026-07-01", **keys)


@settings(deadline=None, max_examples=25)
@given(
    cop=st.floats(1.5, 12),
    efficiency=st.floats(0.6, 0.999),
    approach_k=st.floats(0.5, 15),
    crac_k=st.floats(1, 25),
    rack_k=st.floats(1, 25),
)
def test_every_plant_is_seen_as_it_is(
    cop: float, efficiency: float, approach_k: float, crac_k: float, rack_k: float
) -> None:
    noise = np.random.default_rng(4).normal(0, 0.001, len(INDEX))
    values = {
        "chiller": IT_KW / cop,
        "ups-a-in": TRUTH["ups-a"] / efficiency,
        "tower-water.condenser_supply": TRUTH["roof.outdoor_wet_bulb"] + approach_k,
        "crah.crac_return": TRUTH["crah.crac_supply"] + crac_k,
        "rack-1.rack_outlet": TRUTH["rack-1.rack_inlet"] + rack_k + noise,
        "rack-2.rack_outlet": TRUTH["rack-2.rack_inlet"] + rack_k + noise,
    }
    found = {f"{i.name} {i.subject}".strip(): i.value for i in indicators(summer(values=values))}
    assert found["chiller_cop"] == pytest.approx(cop, rel=0.01)
    assert found["chiller_kw_per_ton"] == pytest.approx(3.517 / cop, rel=0.01)
    assert found["ups_efficiency_ratio ups-a-in"] == pytest.approx(efficiency, rel=1e-9)
    assert found["tower_approach_k"] == pytest.approx(approach_k, rel=1e-6)
    assert found["rti_percent"] == pytest.approx(100 * crac_k / rack_k, rel=0.01)


POINTS = sorted(p.id for p in plants.site().points())
WHOLE = {(i.name, i.subject): i for i in indicators(summer())}


@settings(deadline=None, max_examples=40)
@given(point=st.sampled_from(POINTS), first=st.integers(0, DAYS * 24), count=st.integers(1, DAYS * 24))
def test_what_is_not_read_is_not_guessed(point: str, first: int, count: int) -> None:
    """With a gap in one point every indicator is as before, within little, or says that it is not known."""
    for one in indicators(plants.masked(summer(), point, slice(first, first + count))):
        before = WHOLE[(one.name, one.subject)]
        if point not in one.points:
            assert one.value == before.value
        elif one.value is None:
            assert one.reason is not None
        else:
            assert one.coverage_ratio >= 0.9
            assert one.value == pytest.approx(before.value, rel=0.05, abs=0.05)


@settings(deadline=None, max_examples=25)
@given(
    scale=st.floats(0.1, 3),
    night=st.floats(0, 1),
    wet=st.floats(-15, 15),
    hottest=st.floats(18, 32),
    price=st.floats(0.05, 3),
)
def test_ranges_are_in_order_within_the_equipment_and_cost_what_they_save(
    scale: float, night: float, wet: float, hottest: float, price: float
) -> None:
    values = {
        "chiller": TRUTH["chiller"] * scale,
        "lights": np.where(TRUTH["lights"] > 15, 20.0, 20.0 * night),
        "roof.outdoor_wet_bulb": TRUTH["roof.outdoor_wet_bulb"] + wet,
        "rack-2.rack_inlet": TRUTH["rack-2.rack_inlet"] - 23 + hottest,
    }
    tariff = Tariff(valid_from=date(2026, 7, 20), price_per_kwh=price)
    plant = summer(values=values, of=plants.site(tariffs=(tariff,)))
    found = opportunities(plant)
    used_kwh = float(plant.energy_kwh.sum().sum()) * 8760 / len(INDEX)
    for one in found:
        kwh, amount = one.kwh_per_year, one.amount_per_year
        assert (kwh is not None) == (one.state is State.FOUND)
        assert (one.reason is not None) == (one.state is State.UNKNOWN)
        if kwh is None or amount is None:
            continue
        assert kwh.low <= kwh.typical <= (kwh.typical if kwh.high is None else kwh.high)
        assert 0 < kwh.typical < used_kwh
        assert amount.typical == pytest.approx(kwh.typical * price)
    worth = [o.amount_per_year.typical for o in found if o.amount_per_year]
    assert worth == sorted(worth, reverse=True)


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(len(plants.METERS))))
def test_the_order_of_the_meters_changes_nothing(order: list[int]) -> None:
    meters = plants.site().meters
    turned = summer(of=plants.site(*(meters[i] for i in order)))
    found = {(i.name, i.subject): i.value for i in indicators(turned)}
    for key, one in WHOLE.items():
        assert found[key] == (None if one.value is None else pytest.approx(one.value))


@given(st.lists(st.sampled_from([1.0, 2.0, float("nan")]), max_size=300), st.sampled_from([1, 4]))
def test_only_values_that_stand_still_for_two_days_are_taken_away(values: list[float], per_hour: int) -> None:
    series = np.array(values, np.float64)
    kept = alive(series, per_hour)
    run = 0
    for n, value in enumerate(values):
        run = run + 1 if n and value == values[n - 1] else 1
        if run >= 48 * per_hour:
            assert np.isnan(kept[n])
    gone = np.isnan(kept) & ~np.isnan(series)
    assert not gone.any() or len(values) >= 48 * per_hour
    same = np.isnan(kept) | (kept == series)
    assert same.all()


def test_nine_of_ten_intervals_of_a_load_shift_hold_the_truth() -> None:
    """Meters wrong within their class, noise, two sides with different losses: the truth is in the range."""
    rng = np.random.default_rng(22)
    held, runs = 0, 150
    for _ in range(runs):
        a_loss, b_loss = rng.uniform([5, 0.01, 0], [25, 0.04, 5e-5], (2, 3))
        total = 600 + 40 * np.sin(np.arange(720) / 24 * 2 * np.pi) + rng.normal(0, 5, 720)
        share = 0.5 + 0.12 * np.sin(np.arange(720) / rng.uniform(40, 200))
        loads = (total * share, total * (1 - share))
        losses = [c[0] + c[1] * p + c[2] * p**2 for c, p in zip((a_loss, b_loss), loads, strict=True)]
        gain = 1 + rng.normal(0, 0.005, 4)
        seen_out = tuple(p * gain[i] for i, p in enumerate(loads))
        seen_in = [(p + x) * gain[i + 2] for i, (p, x) in enumerate(zip(loads, losses, strict=True))]
        curves = [
            ups.fit(i + rng.normal(0, 0.5, 720), o, np.arange(720) // 24)
            for i, o in zip(seen_in, seen_out, strict=True)
        ]
        assert curves[0] is not None
        assert curves[1] is not None
        classes = (0.5 * 2**0.5, 0.5 * 2**0.5)
        shift = ups.best_split((seen_out[0], seen_out[1]), (curves[0], curves[1]), classes, (800, 800))
        assert shift is not None
        best = (shift.share_ratio * total, (1 - shift.share_ratio) * total)
        then = [c[0] + c[1] * p + c[2] * p**2 for c, p in zip((a_loss, b_loss), best, strict=True)]
        true_kw = float((losses[0] + losses[1] - then[0] - then[1])[shift.rows].mean())
        held += abs(shift.saved_kw - true_kw) <= ups.CONFIDENCE_FACTOR * shift.standard_error_kw
    assert held / runs >= 0.83, held / runs


def test_meters_that_are_renamed_give_the_same_figures() -> None:
    renamed = tuple(replace(m, name=f"Meter {n}") for n, m in enumerate(plants.METERS))
    found = {(i.name, i.subject): i.value for i in indicators(summer(of=plants.site(*renamed)))}
    assert found == {key: one.value for key, one in WHOLE.items()}
