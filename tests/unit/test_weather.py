"""The wet bulb against published values, its bounds, and the approximation of Stull."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.weather import saturation_hpa, wet_bulb_c


def stull_c(dry_c: float, humidity: float) -> float:
    """Stull (2011), for 1013.25 hPa, 5 to 99 % and -20 to 50 C."""
    return float(
        dry_c * np.arctan(0.151977 * (humidity + 8.313659) ** 0.5)
        + np.arctan(dry_c + humidity)
        - np.arctan(humidity - 1.676331)
        + 0.00391838 * humidity**1.5 * np.arctan(0.023101 * humidity)
        - 4.686035
    )


def test_saturation_pressure_as_in_the_steam_tables() -> None:
    """ASHRAE Handbook - Fundamentals, Thermodynamic Properties of Water at Saturation. [kPa]"""
    known = {-20: 0.10326, 0.01: 0.61166, 25: 3.1693, 50: 12.3513}
    found = saturation_hpa(np.array(list(known), float)) / 10
    assert found == pytest.approx(list(known.values()), rel=3e-4)


def test_the_worked_example_of_stull() -> None:
    """20 C and 50 % are 13.7 C."""
    assert float(wet_bulb_c(20, 50)) == pytest.approx(13.7, abs=0.15)


def test_humidity_ratio_of_a_known_state_gives_its_wet_bulb_back() -> None:
    """30 C dry, 25 C wet at 954.61 hPa hold 0.0192281 kg/kg."""
    vapour_hpa = 954.61 * 0.0192281274 / (0.621945 + 0.0192281274)
    humidity = 100 * vapour_hpa / float(saturation_hpa(np.array([30.0]))[0])
    assert float(wet_bulb_c(30, humidity, 954.61)) == pytest.approx(25, abs=0.01)


def test_over_ice_below_the_freezing_point() -> None:
    """-1 C dry, -5 C wet at 954.61 hPa hold 0.00120399 kg/kg."""
    vapour_hpa = 954.61 * 0.00120399819933844 / (0.621945 + 0.00120399819933844)
    humidity = 100 * vapour_hpa / float(saturation_hpa(np.array([-1.0]))[0])
    assert float(wet_bulb_c(-1, humidity, 954.61)) == pytest.approx(-5, abs=0.02)


@given(st.floats(0, 45), st.floats(20, 98))
def test_near_the_approximation_of_stull(dry_c: float, humidity: float) -> None:
    assert float(wet_bulb_c(dry_c, humidity)) == pytest.approx(stull_c(dry_c, humidity), abs=1.1)


@given(st.floats(-60, 60), st.floats(0, 105), st.floats(450, 1100))
def test_never_above_the_dry_bulb_and_at_it_when_saturated(
    dry_c: float, humidity: float, pressure: float
) -> None:
    wet_c = float(wet_bulb_c(dry_c, humidity, pressure))
    assert wet_c <= dry_c + 1e-9
    if dry_c >= 0:
        assert float(wet_bulb_c(dry_c, 100, pressure)) == pytest.approx(dry_c, abs=1e-6)


@given(st.floats(-30, 45), st.floats(1, 99))
def test_moister_air_has_the_higher_wet_bulb(dry_c: float, humidity: float) -> None:
    drier, moister = wet_bulb_c(dry_c, [humidity, humidity + 1])
    assert drier < moister + 1e-9


@pytest.mark.parametrize(
    ("dry_c", "humidity", "pressure"),
    [
        (np.nan, 50, 1013),
        (20, np.nan, 1013),
        (99.9, 50, 1013),
        (20, 999, 1013),
        (20, -1, 1013),
        (20, 50, 101_325),
        (np.inf, 50, 1013),
    ],
)
def test_what_cannot_be_is_not_known(dry_c: float, humidity: float, pressure: float) -> None:
    assert np.isnan(wet_bulb_c(dry_c, humidity, pressure))


def test_columns_of_any_shape() -> None:
    found = wet_bulb_c(np.full((3, 2), 20.0), 50.0)
    assert found.shape == (3, 2)
    assert len(set(found.ravel().tolist())) == 1
