"""Weather at a site: the wet bulb, and where the figures come from.

The wet bulb decides how much heat a cooling tower or an adiabatic cooler can give away. A site measures it,
or dry bulb and relative humidity, or its readings come from a weather file: whoever uses them says which
(:class:`Provenance`).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain.quantity import Role

Floats = npt.NDArray[np.float64]

STANDARD_PRESSURE_HPA = 1013.25
"""Standard atmosphere at sea level."""
DRY_BULB_C = (-60.0, 60.0)
"""Plausible outdoor air temperatures."""
HUMIDITY_PERCENT = (0.0, 105.0)
"""Plausible relative humidities; a sensor in fog shows a little above 100, which counts as 100."""
PRESSURE_HPA = (450.0, 1100.0)
"""Plausible air pressures: from about 6 000 m to below sea level."""

LEAST_HOURS_RATIO = 0.85
"""Share of the hours of a day that must be known: without its afternoon a day looks cooler than it was."""
WET_BULB_FROM = (
    (Role.OUTDOOR_WET_BULB,),
    (Role.OUTDOOR_DRY_BULB, Role.OUTDOOR_RELATIVE_HUMIDITY),
)
"""Roles from which the wet bulb follows, a measured one first."""

_STEPS = 60
"""Bisections: of 200 C the last is below the resolution of a double."""
_COLDEST_C = -140.0


class Provenance(StrEnum):
    """Who measured the weather."""

    MEASURED = "measured"
    """Sensors of the site."""
    IMPORTED = "imported"
    """A weather file: another station, or a model of the weather."""


def wet_bulb_c(
    dry_bulb_c: npt.ArrayLike,
    relative_humidity_percent: npt.ArrayLike,
    pressure_hpa: npt.ArrayLike = STANDARD_PRESSURE_HPA,
) -> Floats:
    """Thermodynamic wet-bulb temperature of moist air.

    The energy balance of adiabatic saturation (ASHRAE Handbook - Fundamentals, Psychrometrics: over water
    from 0 C, over ice below), solved by bisection; saturation pressure by Hyland and Wexler (1983). The
    approximation of Stull (2011), made for 1013.25 hPa, lies within 1.1 K of it from 0 to 45 C.

    Parameters
    ----------
    dry_bulb_c : array_like of float
        Air temperature, -60 to 60. [C]
    relative_humidity_percent : array_like of float
        0 to 105; above 100 counts as 100. [%]
    pressure_hpa : array_like of float
        Air pressure at the place (not reduced to sea level), 450 to 1100. [hPa]

    Returns
    -------
    ndarray of float64, of the common shape
        [C] NaN where an input is not known or outside of its bounds.
    """
    dry, humidity, pressure = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (dry_bulb_c, relative_humidity_percent, pressure_hpa))
    )
    good = _within(dry, DRY_BULB_C) & _within(humidity, HUMIDITY_PERCENT) & _within(pressure, PRESSURE_HPA)
    found = np.full(dry.shape, np.nan)
    found[good] = _solved(dry[good], np.minimum(humidity[good], 100.0) / 100, pressure[good])
    return found


def _within(values: Floats, bounds: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return (values >= bounds[0]) & (values <= bounds[1])


def _solved(dry_c: Floats, humidity_ratio: Floats, pressure_hpa: Floats) -> Floats:
    """The wet bulb over water, and over ice where that one is below the freezing point."""
    water = _humidity(humidity_ratio * saturation_hpa(dry_c), pressure_hpa)
    wet_c = _bisected(dry_c, water, pressure_hpa, ice=False)
    frozen = wet_c < 0
    wet_c[frozen] = _bisected(dry_c[frozen], water[frozen], pressure_hpa[frozen], ice=True)
    return wet_c


def _bisected(dry_c: Floats, water: Floats, pressure_hpa: Floats, *, ice: bool) -> Floats:
    low = np.full(dry_c.shape, _COLDEST_C)
    high = np.minimum(dry_c, 0.0) if ice else dry_c.copy()
    for _ in range(_STEPS):
        middle = (low + high) / 2
        above = _water_of(middle, dry_c, pressure_hpa, ice=ice) > water
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return np.asarray((low + high) / 2, np.float64)


def _water_of(wet_c: Floats, dry_c: Floats, pressure_hpa: Floats, *, ice: bool) -> Floats:
    """Humidity ratio of air with this wet bulb. [kg/kg]"""
    saturated = _humidity(saturation_hpa(wet_c, ice=ice), pressure_hpa)
    fall_c = 1.006 * (dry_c - wet_c)
    if ice:
        return ((2830 - 0.24 * wet_c) * saturated - fall_c) / (2830 + 1.86 * dry_c - 2.1 * wet_c)
    return ((2501 - 2.326 * wet_c) * saturated - fall_c) / (2501 + 1.86 * dry_c - 4.186 * wet_c)


def _humidity(vapour_hpa: Floats, pressure_hpa: Floats) -> Floats:
    """Humidity ratio at a vapour pressure. [kg/kg]"""
    return 0.621945 * vapour_hpa / (pressure_hpa - vapour_hpa)


def saturation_hpa(temperature_c: Floats, *, ice: bool | None = None) -> Floats:
    """Saturation pressure of water vapour (Hyland and Wexler 1983), over ice below 0 C unless `ice` says.

    Returns
    -------
    ndarray of float64, of the same shape
        [hPa]
    """
    k = temperature_c + 273.15
    over_ice: Floats = (
        -5.6745359e3 / k
        + 6.3925247
        + k * (-9.677843e-3 + k * (6.2215701e-7 + k * (2.0747825e-9 - k * 9.484024e-13)))
        + 4.1635019 * np.log(k)
    )
    over_water: Floats = (
        -5.8002206e3 / k
        + 1.3914993
        + k * (-4.8640239e-2 + k * (4.1764768e-5 - k * 1.4452093e-8))
        + 6.5459673 * np.log(k)
    )
    frozen = temperature_c < 0 if ice is None else np.full(temperature_c.shape, ice)
    return np.asarray(np.exp(np.where(frozen, over_ice, over_water)) / 100, np.float64)


def plausible_c(temperature_c: npt.ArrayLike) -> Floats:
    """Outdoor temperatures; NaN where one cannot be."""
    values = np.asarray(temperature_c, np.float64)
    return np.where(_within(values, DRY_BULB_C), values, np.nan)


def daily_mean(hours: pd.Series[float], starts: pd.DatetimeIndex, lengths_h: Floats) -> Floats:
    """Mean of the hours of each day.

    Parameters
    ----------
    hours : Series of float64
        By the start of each hour, UTC. NaN: not known.
    starts : DatetimeIndex, shape (n,)
        Start of each day, in order, UTC.
    lengths_h : float64, shape (n,)
        Hours of each day, 23 to 25.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where too many hours are not known.
    """
    known = hours.dropna()
    place = starts.searchsorted(known.index, side="right") - 1
    inside = place >= 0
    after_s: pd.Index[float] = (known.index[inside] - starts[place[inside]]).total_seconds()
    inside[inside] &= np.asarray(after_s, np.float64) < lengths_h[place[inside]] * 3600
    counts = np.bincount(place[inside], minlength=len(starts))
    sums = np.bincount(place[inside], weights=known.to_numpy()[inside], minlength=len(starts))
    enough = counts >= LEAST_HOURS_RATIO * lengths_h
    return np.where(enough, sums / np.maximum(counts, 1), np.nan)
