"""Plants of which the truth is known: weather and load of a made-up site, and what its plant uses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from app.domain.baseline import Conditions, Floats, Resolution, WeatherSource
from app.domain.weather import Provenance


@dataclass(frozen=True)
class Plant:
    """Overhead power by load and wet bulb; `noise_kw` with the given correlation from day to day."""

    base_kw: float = 60.0
    per_it_kw: float = 0.12
    per_c_kw: float = 4.0
    change_point_c: float = 9.0
    noise_kw: float = 4.0
    autocorrelation: float = 0.5

    def expected_kw(self, it_kw: Floats, wet_bulb_c: Floats) -> Floats:
        """Without noise. [kW]"""
        above = np.maximum(wet_bulb_c - self.change_point_c, 0.0)
        found: Floats = self.base_kw + self.per_it_kw * it_kw + self.per_c_kw * above
        return found

    def days(self, count: int, seed: int, first: str = "2025-01-01", step_kw: float = 0.0) -> Conditions:
        """Days of random weather and load; after a year the load has changed by a step."""
        chance = np.random.default_rng(seed)
        days = np.datetime64(first, "D") + np.arange(count)
        turn = 2 * np.pi * (np.arange(count) - 20 + chance.normal(0, 8)) / 365.25
        wet = 11 + chance.normal(0, 0.6) - 10.5 * np.cos(turn) + correlated(chance, count, 2.6, 0.7)
        it = 500 + 15 * np.sin(turn) + correlated(chance, count, 6, 0.9) + step_kw * (np.arange(count) >= 365)
        overhead = self.expected_kw(it, wet) + correlated(chance, count, self.noise_kw, self.autocorrelation)
        return Conditions(
            Resolution.DAY,
            days.astype("datetime64[us]"),
            days,
            np.full(count, 24.0),
            overhead,
            it,
            wet,
            np.ones(count),
            weather=WeatherSource(Provenance.MEASURED, "weather.wet"),
        )


def correlated(chance: np.random.Generator, count: int, sd: float, r: float) -> Floats:
    """Noise of which neighbours follow each other."""
    drawn = chance.normal(0, 1, count) * np.sqrt(1 - r**2)
    drawn[0] /= np.sqrt(1 - r**2)
    for n in range(1, count):
        drawn[n] += r * drawn[n - 1]
    return sd * drawn


def lowered(rows: Conditions, kw: Floats) -> Conditions:
    """The same days with a measure that saves so much power. [kW]"""
    return replace(rows, overhead_kw=rows.overhead_kw - kw)
