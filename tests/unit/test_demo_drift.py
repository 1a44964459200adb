"""The drift alarm of the demo stands whatever the date on which somebody starts it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from app.domain import baseline, drift
from app.domain.baseline import Baseline, Conditions, Resolution, WeatherSource
from app.domain.drift import Mark, Noise, PlantDays
from app.domain.weather import Provenance, wet_bulb_c
from collectors.simulated import defects, physics

ANCHORS = [datetime(2025, 11, 14, 9, tzinfo=UTC) + timedelta(days=31 * n) for n in range(12)]
"""One in each month of a year."""
OVERHEAD = ("chiller_1", "chiller_2", "crah_1", "crah_2", "pumps", "lighting", "misc", "unmetered")
METERS = OVERHEAD[:5]
STEP_S = 3600.0


@pytest.mark.parametrize("anchor", ANCHORS, ids=[f"{a:%Y-%m}" for a in ANCHORS])
def test_the_fouled_condenser_stands_as_drift_on_the_day_of_the_demo(anchor: datetime) -> None:
    done = defects.retrofit(anchor)
    rows, power_kw = headquarters(anchor)
    fitted = baseline.fit(rows.take(rows.local_days < np.datetime64(done.first.date(), "D")))
    assert isinstance(fitted, Baseline)
    assert fitted.accepted
    marks = [Mark(at.date(), "a measure", is_measure=True) for at in (done.set_point, done.fans)]
    days = PlantDays.of(rows, fitted)
    noise = Noise.stated(fitted.cv_rmse_ratio, fitted.autocorrelation)
    course = drift.watch(days.after(date.fromisoformat(fitted.last_day)), noise, marks)
    assert course.open is not None
    assert course.open.onset >= done.fouling.date()
    assert course.open.excess_ratio > 0.02
    assert drift.blame(days, course, rows.it_kw, power_kw, marks).mostly == "chiller_2"


def headquarters(anchor: datetime) -> tuple[Conditions, dict[str, npt.NDArray[np.float64]]]:
    """Days of the plant from the physics alone, and the power of its meters."""
    start, end = defects.baseline_start(anchor), defects.local_midnight(anchor)
    count = (end - start).days
    t_s = start.timestamp() + STEP_S * (np.arange(24 * count) + 0.5)
    events = defects.lasting("sh1", anchor)
    signals = physics.headquarters(
        physics.Conditions(t_s, defects.origin(anchor).timestamp(), seed=1, events=events)
    )

    def daily(hourly: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(hourly.reshape(count, 24).mean(axis=1), np.float64)

    it_kw = signals["ups_a_out"] + signals["ups_b_out"]
    losses_kw = signals["ups_a_in"] + signals["ups_b_in"] - it_kw
    overhead_kw = losses_kw + sum(signals[name] for name in OVERHEAD)
    wet_c = wet_bulb_c(signals["weather.temperature_c"], signals["weather.humidity_percent"])
    local = np.datetime64(start.astimezone(defects.LOCAL).date(), "D") + np.arange(count)
    weather = WeatherSource(Provenance.MEASURED, "sh1-weather")
    return Conditions(
        Resolution.DAY,
        local.astype("datetime64[s]"),
        local,
        np.full(count, 24.0),
        daily(overhead_kw),
        daily(it_kw),
        daily(np.asarray(wet_c)),
        np.ones(count),
        weather=weather,
    ), {name: daily(signals[name]) for name in METERS}
