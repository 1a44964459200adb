"""Indicators, emission factors, tariffs, saving potential and fleet figures."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from app.domain import indicators
from app.domain.data.emission_factors import EMISSION_FACTORS, FUEL_KWH_PER_UNIT, SOURCE_ENERGY_WEIGHTS
from app.domain.emissions import EmissionChoice, emission_factor
from app.domain.tariff import Tariff, TariffBand
from app.errors import NotFound, SeriesError

SHANGHAI = ZoneInfo("Asia/Shanghai")


def test_ratios_of_the_standard_family() -> None:
    assert indicators.wue(180, 100_000) == pytest.approx(1.8)
    assert indicators.cue(79_590, 100_000) == pytest.approx(0.7959)
    assert indicators.ref(30, 150) == pytest.approx(0.2)
    assert indicators.ref(200, 150) == 1.0
    assert indicators.erf(15, 150) == pytest.approx(0.1)
    assert indicators.cer(400, 100) == pytest.approx(4)


def test_nothing_is_said_without_a_denominator() -> None:
    for function in (indicators.wue, indicators.cue, indicators.ref, indicators.erf, indicators.cer):
        assert function(1.0, 0.0) is None
    assert indicators.overhead_shares(1, 0, {}) is None


def test_server_utilisation_weighs_servers_alike() -> None:
    readings = pd.DataFrame({"a": [10.0, 20.0, 30.0], "b": [60.0, np.nan, np.nan]})
    assert indicators.itee_sv_utilisation(readings) == pytest.approx(40)
    assert indicators.itee_sv_utilisation(pd.DataFrame({"a": [np.nan]})) is None


def test_shares_and_the_unmetered_rest_make_up_the_pue() -> None:
    shares = indicators.overhead_shares(150, 100, {"cooling": 30, "lighting": 5})
    assert shares is not None
    assert shares == pytest.approx({"cooling": 0.3, "lighting": 0.05, "unmetered": 0.15})
    assert 1 + sum(shares.values()) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("year", "basis", "data_year", "value"),
    [
        (2021, "grid_average", 2021, 0.5568),
        (2021, "residual_mix", 2021, 0.5942),
        (2022, "grid_average", 2022, 0.5366),
        (2023, "grid_average", 2023, 0.5306),
        (2026, "grid_average", 2023, 0.5306),
        (2022, "residual_mix", 2021, 0.5942),
    ],
)
def test_the_latest_emission_factor_up_to_the_year(
    year: int, basis: str, data_year: int, value: float
) -> None:
    factor = emission_factor(EMISSION_FACTORS, EmissionChoice(basis=basis), year)
    assert (factor.year, factor.kg_per_kwh) == (data_year, value)


def test_no_emission_factor_says_what_to_do() -> None:
    with pytest.raises(NotFound, match="add one under emission_factors"):
        emission_factor(EMISSION_FACTORS, EmissionChoice(region="DE"), 2025)
    with pytest.raises(NotFound, match="up to 2020"):
        emission_factor(EMISSION_FACTORS, EmissionChoice(), 2020)


def test_emissions_by_source() -> None:
    factor = emission_factor(EMISSION_FACTORS, EmissionChoice(), 2023)
    assert indicators.emissions_kg(1000, factor) == pytest.approx(530.6)
    mixed = indicators.emissions_kg(
        1000, factor, renewable_kwh=100, generator_kwh=100, generator_kg_per_kwh=0.8
    )
    assert mixed == pytest.approx(800 * 0.5306 + 80)
    assert indicators.emissions_kg(1000, factor, generator_kwh=1) is None


def test_fuels_and_source_weights() -> None:
    assert indicators.fuel_kwh(100, "diesel", FUEL_KWH_PER_UNIT) == pytest.approx(990)
    with pytest.raises(NotFound, match="known are bioethanol, diesel"):
        indicators.fuel_kwh(1, "coal", FUEL_KWH_PER_UNIT)
    energies = {"electricity": 140.0, "chilled_water": 100.0}
    assert indicators.source_weighted_pue(energies, 100, SOURCE_ENERGY_WEIGHTS) == pytest.approx(1.71)
    assert not any(weight.verified for weight in SOURCE_ENERGY_WEIGHTS)


TARIFF = Tariff(
    valid_from=date(2026, 1, 1),
    price_per_kwh=0.6,
    bands=(
        TariffBand(name="sharp", start="12:00", end="14:00", months=(7, 8), price_per_kwh=1.5),
        TariffBand(name="peak", start="08:00", end="22:00", weekdays=(1, 2, 3, 4, 5), price_per_kwh=1.0),
        TariffBand(name="valley", start="22:00", end="06:00", price_per_kwh=0.3),
    ),
)


@pytest.mark.parametrize(
    ("local", "price"),
    [
        ("2026-03-02 07:45", 0.6),
        ("2026-03-02 08:00", 1.0),
        ("2026-03-02 12:00", 1.0),
        ("2026-07-01 12:00", 1.5),
        ("2026-07-01 14:00", 1.0),
        ("2026-07-04 13:45", 1.5),
        ("2026-03-07 12:00", 0.6),
        ("2026-03-02 22:00", 0.3),
        ("2026-03-03 05:45", 0.3),
        ("2026-03-03 06:00", 0.6),
    ],
)
def test_time_of_use(local: str, price: float) -> None:
    index = pd.DatetimeIndex([pd.Timestamp(local, tz=SHANGHAI).tz_convert("UTC")])
    assert indicators.prices_per_kwh([TARIFF], index, SHANGHAI).iloc[0] == price


def test_a_band_over_midnight_belongs_to_the_day_it_began() -> None:
    friday = TariffBand(name="n", start="22:00", end="06:00", weekdays=(5,), price_per_kwh=0.1)
    tariff = Tariff(valid_from=date(2020, 1, 1), price_per_kwh=1.0, bands=(friday,))
    hours = pd.date_range("2026-03-05 22:00", periods=40, freq="h", tz=SHANGHAI).tz_convert("UTC")
    cheap = indicators.prices_per_kwh([tariff], hours, SHANGHAI) < 0.5
    assert [str(t.tz_convert(SHANGHAI))[5:16] for t in hours[cheap]][:: int(cheap.sum()) - 1] == [
        "03-06 22:00",
        "03-07 05:00",
    ]


def test_dated_tariffs_follow_each_other_and_the_rest_is_unpriced() -> None:
    old = Tariff(valid_from=date(2026, 1, 2), price_per_kwh=1.0)
    new = Tariff(valid_from=date(2026, 1, 3), price_per_kwh=2.0)
    index = pd.date_range("2026-01-01", periods=3 * 96, freq="15min", tz=SHANGHAI).tz_convert("UTC")
    found = indicators.cost(pd.Series(1.0, index), [new, old], SHANGHAI)
    assert (found.amount, found.priced_kwh, found.unpriced_kwh) == (96 + 192, 192, 96)
    assert found.mean_price_per_kwh == pytest.approx(1.5)


def test_unknown_energy_costs_nothing() -> None:
    index = pd.date_range("2026-03-01", periods=2, freq="15min", tz="UTC")
    found = indicators.cost(pd.Series([np.nan, 1.0], index), [TARIFF], SHANGHAI)
    assert found.priced_kwh == 1.0


def test_without_tariffs_there_is_no_price() -> None:
    index = pd.date_range("2026-03-01", periods=2, freq="15min", tz="UTC")
    assert indicators.cost(pd.Series(1.0, index), [], SHANGHAI).mean_price_per_kwh is None
    with pytest.raises(SeriesError, match="naive"):
        indicators.prices_per_kwh([TARIFF], index.tz_localize(None), SHANGHAI)


def test_a_time_without_its_leading_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="quoted"):
        TariffBand(name="x", start="8:00", end="22:00", price_per_kwh=1)


def test_saving_against_a_limit() -> None:
    found = indicators.saving("cbrc_13fyp", 1.5, 160_000, 100_000, 0.8)
    assert (found.energy_kwh, found.amount) == (pytest.approx(10_000), pytest.approx(8_000))
    assert indicators.saving("cbrc_13fyp", 1.5, 140_000, 100_000, None) == indicators.Saving(
        "cbrc_13fyp", 1.5, 0.0, None
    )


def months(rows: dict[str, tuple[float, float, float]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(
        {pd.Timestamp(k): v for k, v in rows.items()},
        orient="index",
        columns=["facility_kwh", "it_kwh", "coverage_ratio"],
    )


def test_the_best_comparable_month_is_of_the_same_season_and_load() -> None:
    history = months(
        {
            "2024-07-01": (140, 100, 1.0),
            "2025-01-01": (120, 100, 1.0),
            "2025-06-01": (145, 100, 0.5),
            "2025-07-01": (148, 100, 1.0),
            "2025-08-01": (100, 50, 1.0),
            "2026-07-01": (155, 105, 1.0),
        }
    )
    assert indicators.best_comparable_month(history, date(2026, 7, 1)) == (
        date(2024, 7, 1),
        pytest.approx(1.4),
    )
    assert indicators.best_comparable_month(history, date(2025, 1, 1)) is None
    with pytest.raises(NotFound, match="2023-07"):
        indicators.best_comparable_month(history, date(2023, 7, 1))


def test_months_of_other_lengths_compare_by_their_mean_load() -> None:
    """A February of the same mean load has less energy than a March; it compares all the same."""
    history = months({"2026-02-01": (28 * 1.3, 28.0, 1.0), "2026-03-01": (31 * 1.4, 31.0, 1.0)})
    found = indicators.best_comparable_month(history, date(2026, 3, 1), it_load_tolerance=0.01)
    assert found == (date(2026, 2, 1), pytest.approx(1.3))
    history.loc["2026-02-01", ["facility_kwh", "it_kwh"]] *= 1.02
    assert indicators.best_comparable_month(history, date(2026, 3, 1), it_load_tolerance=0.01) is None


def test_fleet_figures_name_their_average() -> None:
    sites = pd.DataFrame(
        {"facility_kwh": [100.0, 260.0, np.nan, 10.0], "it_kwh": [50.0, 200.0, 10.0, 20.0]},
        index=["a", "b", "silent", "impossible"],
    )
    found = indicators.fleet_pue(sites)
    assert found.ratio_of_sums == pytest.approx(1.44)
    assert found.facility_weighted == pytest.approx((2 * 100 + 1.3 * 260) / 360)
    assert (found.sites, found.left_out) == (("a", "b"), ("silent", "impossible"))


def test_an_empty_fleet_has_no_figure() -> None:
    empty = indicators.fleet_pue(pd.DataFrame({"facility_kwh": [], "it_kwh": []}, dtype=float))
    assert (empty.ratio_of_sums, empty.facility_weighted) == (None, None)


@pytest.mark.parametrize(
    ("local", "price"),
    [
        ("07:45", 0.7),
        ("08:00", 1.1),
        ("10:45", 1.1),
        ("11:00", 0.7),
        ("21:45", 0.7),
        ("22:00", 0.3),
        ("05:45", 0.3),
        ("06:00", 0.7),
    ],
)
def test_a_band_holds_from_its_first_quarter_hour_to_its_last(local: str, price: float) -> None:
    bands = (
        TariffBand(name="peak", start="08:00", end="11:00", price_per_kwh=1.1, weekdays=tuple(range(1, 8))),
        TariffBand(name="valley", start="22:00", end="06:00", price_per_kwh=0.3, months=tuple(range(1, 13))),
    )
    tariff = Tariff(valid_from=date(2026, 1, 1), price_per_kwh=0.7, bands=bands)
    index = pd.DatetimeIndex([pd.Timestamp(f"2026-03-04 {local}", tz="Asia/Shanghai").tz_convert("UTC")])
    found = indicators.cost(pd.Series([1.0], index), (tariff,), ZoneInfo("Asia/Shanghai"))
    assert found.amount == pytest.approx(price)
