"""What holds for any fleet and any tariff."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.indicators import allotted_kwh, cost, fleet_pue, saving, shared_cost, weighted_kwh
from app.domain.site import BusinessLine
from app.domain.tariff import Tariff, TariffBand

_sites = st.lists(st.tuples(st.floats(1, 1e6), st.floats(1.0, 3.0)), min_size=1, max_size=8)
_clock = st.integers(0, 95).map(lambda q: f"{q // 4:02}:{q % 4 * 15:02}")


@given(_sites)
def test_a_fleet_lies_between_its_sites_and_the_weighted_mean_is_never_lower(
    sites: list[tuple[float, float]],
) -> None:
    frame = pd.DataFrame({"it_kwh": [it for it, _ in sites], "facility_kwh": [it * pue for it, pue in sites]})
    found = fleet_pue(frame)
    pues = frame["facility_kwh"] / frame["it_kwh"]
    assert found.ratio_of_sums is not None
    assert found.facility_weighted is not None
    assert pues.min() - 1e-9 <= found.ratio_of_sums <= pues.max() + 1e-9
    assert found.facility_weighted >= found.ratio_of_sums - 1e-9


@given(_clock, _clock, st.floats(0, 5), st.floats(0, 5))
def test_two_bands_that_make_a_day_cost_what_the_parts_cost(
    a: str, b: str, first: float, second: float
) -> None:
    zone = ZoneInfo("Europe/Berlin")
    tariff = Tariff(
        valid_from=date(2026, 1, 1),
        price_per_kwh=second,
        bands=(TariffBand(name="x", start=a, end=b, price_per_kwh=first),),
    )
    index = pd.date_range("2026-03-01", periods=96, freq="15min", tz=zone).tz_convert("UTC")
    quarters = (int(b[:2]) * 4 + int(b[3:]) // 15 - int(a[:2]) * 4 - int(a[3:]) // 15) % 96 or 96
    found = cost(pd.Series(1.0, index), [tariff], zone)
    assert found.amount == pytest.approx(quarters * first + (96 - quarters) * second)


@given(st.floats(1, 1e6), st.floats(1, 3), st.floats(1, 3))
def test_saving_brings_the_pue_to_the_target(it_kwh: float, pue: float, target: float) -> None:
    found = saving("x", target, pue * it_kwh, it_kwh, 1.0)
    assert (pue * it_kwh - found.energy_kwh) / it_kwh == pytest.approx(min(pue, target))


_quarters = st.lists(
    st.tuples(st.floats(1, 500), st.floats(0, 1), st.floats(0, 0.5)), min_size=1, max_size=60
)


@given(_quarters, st.floats(0, 3), st.floats(0, 3))
def test_cost_and_emissions_of_the_classes_sum_to_those_of_the_site(
    quarters: list[tuple[float, float, float]], day: float, night: float
) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    tariff = Tariff(
        valid_from=date(2026, 1, 1),
        price_per_kwh=day,
        bands=(TariffBand(name="night", start="22:00", end="06:00", price_per_kwh=night),),
    )
    index = pd.date_range("2026-03-01", periods=len(quarters), freq="15min", tz="UTC")
    facility = pd.Series([kwh for kwh, _, _ in quarters], index)
    grid = facility * pd.Series([share for _, share, _ in quarters], index)
    it, cooling = facility * 0.5, facility * pd.Series([share for _, _, share in quarters], index)
    found = shared_cost(grid, facility, {"it": it, "cooling": cooling}, [tariff], zone, 100.0)
    assert list(found) == ["it", "cooling", "unmetered"]
    assert sum(part.amount for part in found.values()) == pytest.approx(cost(grid, [tariff], zone).amount)
    assert sum(part.energy_kwh for part in found.values()) == pytest.approx(facility.sum())
    assert sum(part.emissions_kg or 0.0 for part in found.values()) == pytest.approx(100.0)
    assert found["it"].amount == pytest.approx(cost(grid, [tariff], zone).amount / 2)


@given(
    keys=st.lists(st.lists(st.floats(0, 500), min_size=4, max_size=4), min_size=1, max_size=4),
    weights=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    price=st.floats(0.1, 2),
)
def test_shares_of_rooms_and_business_lines_add_up_to_the_cost_of_the_site(
    keys: list[list[float]], weights: list[float], price: float
) -> None:
    at = pd.date_range("2026-10-01", periods=4, freq="15min", tz="UTC")
    facility = pd.Series([100.0, 120.0, 0.0, 90.0], index=at)
    rooms = {f"r{n}": pd.Series(row, index=at) for n, row in enumerate(keys)}
    lines = [
        BusinessLine(id="a", weights={f"r{n}": w for n, w in enumerate(weights)}),
        BusinessLine(id="b", weights={f"r{n}": 1 - w for n, w in enumerate(weights)}),
    ]
    tariff, zone = Tariff(valid_from=date(2026, 1, 1), price_per_kwh=price), ZoneInfo("Asia/Shanghai")
    whole = cost(facility, [tariff], zone).amount
    by_room = allotted_kwh(facility, rooms)
    for parts in (by_room, weighted_kwh(by_room, lines)):
        found = shared_cost(facility, facility, parts, [tariff], zone, 50.0)
        assert sum(p.amount for p in found.values()) == pytest.approx(whole)
        assert sum(p.energy_kwh for p in found.values()) == pytest.approx(float(facility.sum()))
        assert all(p.amount >= -1e-6 for p in found.values())
