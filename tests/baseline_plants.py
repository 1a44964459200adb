"""Plants whose truth is known: weather, IT load and overhead of made-up days, with and without a measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.domain.baseline import Conditions, Resolution, WeatherSource
from app.domain.weather import Provenance

Floats = npt.NDArray[np.float64]

FIRST_DAY = np.datetime64("2024-01-01")


def persistent(rng: np.random.Generator, count: int, autocorrelation: float, sd: float) -> Floats:
    """AR(1) noise with a standard deviation of `sd`."""
    found = rng.normal(size=count) * sd
    for i in range(1, count):
        found[i] = autocorrelation * found[i - 1] + found[i] * np.sqrt(1 - autocorrelation**2)
    return found


def random_weather_c(rng: np.random.Generator, count: int) -> Floats:
    """Daily wet bulbs of a random climate, from a random day of the year on."""
    mean_c, swing_c, first = rng.uniform(8, 18), rng.uniform(7, 13), rng.integers(365)
    season = -swing_c * np.cos(2 * np.pi * (np.arange(count) + first) / 365.25)
    return np.asarray(mean_c + season + persistent(rng, count, 0.75, 3.2), np.float64)


def random_load_kw(rng: np.random.Generator, count: int) -> Floats:
    """IT load with steps."""
    load = np.full(count, rng.uniform(300, 900))
    for _ in range(rng.integers(1, 5)):
        load[rng.integers(count) :] *= rng.uniform(0.9, 1.12)
    return np.asarray(load * (1 + persistent(rng, count, 0.6, 0.008)), np.float64)


@dataclass(frozen=True)
class Plant:
    """How overhead follows from load and weather, in one of four ways that no form of the model is told."""

    kind: str
    base_kw: float
    losses_kw_per_kw: float
    cooling_ratio: float
    slope: float
    change_c: float
    second_c: float
    day_off_kw: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Plant:
        """Any plant."""
        change_c = rng.uniform(6, 16)
        return cls(
            rng.choice(["chiller", "fixed slope", "free cooling", "two stages"]),
            rng.uniform(20, 60),
            rng.uniform(0.05, 0.12),
            rng.uniform(0.06, 0.15),
            rng.uniform(0.006, 0.016),
            change_c,
            change_c + rng.uniform(4, 9),
            rng.choice([0.0, 0.0, rng.uniform(-15, 15)]),
        )

    def overhead_kw(self, it_kw: Floats, wet_c: Floats, saved_ratio: float = 0.0) -> Floats:
        """Overhead power, where a measure saves a share of the cooling."""
        cooling = self._cooling_kw(it_kw, wet_c) * (1 - saved_ratio)
        return self.base_kw + self.losses_kw_per_kw * it_kw + cooling

    def _cooling_kw(self, it_kw: Floats, wet_c: Floats) -> Floats:
        above = np.maximum(wet_c - self.change_c, 0)
        if self.kind == "chiller":
            return it_kw * (self.cooling_ratio + self.slope * above)
        if self.kind == "fixed slope":
            return 600 * self.cooling_ratio + 500 * self.slope * above
        if self.kind == "free cooling":
            share = 1 / (1 + np.exp(-(wet_c - self.change_c) / 2.5))
            chilled = share * (0.08 + self.slope / 2 * (wet_c - self.change_c))
            return np.asarray(it_kw * (self.cooling_ratio + chilled), np.float64)
        below = 0.002 * np.minimum(wet_c - self.change_c, 0)
        steep = self.slope * np.clip(wet_c - self.change_c, 0, self.second_c - self.change_c)
        flat = 0.4 * self.slope * np.maximum(wet_c - self.second_c, 0)
        return np.asarray(it_kw * (self.cooling_ratio + below + steep + flat), np.float64)


def days(overhead_kw: Floats, it_kw: Floats, wet_c: Floats, first: np.datetime64 = FIRST_DAY) -> Conditions:
    """Fully covered days from values of each."""
    count = len(overhead_kw)
    local = first.astype("datetime64[D]") + np.arange(count)
    return Conditions(
        Resolution.DAY,
        local.astype("datetime64[s]"),
        local,
        np.full(count, 24.0),
        overhead_kw,
        it_kw,
        wet_c,
        np.ones(count),
        weather=WeatherSource(Provenance.MEASURED, "roof.wet_bulb"),
    )


@dataclass(frozen=True)
class Story:
    """A year of a plant, and a time after a measure, of which the saving is known."""

    before: Conditions
    after: Conditions
    saved_kw: Floats
    """What the measure saves on each day after it. [kW]"""


def story(seed: int, before_days: int = 365) -> Story:
    """A random plant, its weather, its load, its noise and its measure of 2 to 15 % of the cooling."""
    rng = np.random.default_rng(seed)
    count = before_days + int(rng.choice([30, 90, 180, 365]))
    wet_c, it_kw, plant = random_weather_c(rng, count), random_load_kw(rng, count), Plant.random(rng)
    local = FIRST_DAY + np.arange(count)
    day_off = (local.astype(np.int64) + 3) % 7 >= 5
    expected = plant.overhead_kw(it_kw, wet_c) + plant.day_off_kw * day_off
    saved = expected - plant.overhead_kw(it_kw, wet_c, rng.uniform(0.02, 0.15)) - plant.day_off_kw * day_off
    saved[:before_days] = 0
    noise = persistent(rng, count, rng.uniform(0, 0.8), rng.uniform(0.01, 0.04) * float(expected.mean()))
    whole = days(expected - saved + noise, it_kw, wet_c)
    rows = np.arange(count)
    return Story(whole.take(rows < before_days), whole.take(rows >= before_days), saved[before_days:])
