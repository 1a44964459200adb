"""ESIF's real days: no weather is known there, and the model says what it can and what it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.domain.baseline import Baseline, Conditions, NoBaseline, Resolution, fit

DAYS = Path(__file__).parents[3] / "shared/data/timeseries/esif/esif_daily_2016-06-12_2016-08-28.csv"
OVERHEAD = ["cooling_kw", "hvac_kw", "pump_kw", "plug_kw"]


def conditions(least_hours: float) -> Conditions:
    """Days with so many valid hours; the others are counted."""
    if not DAYS.exists():
        pytest.skip(f"{DAYS} is not here: real days of ESIF are kept apart from the repository")
    table = pd.read_csv(DAYS)
    good = table[table["n_hours"] >= least_hours]
    days = good["day"].to_numpy(dtype="datetime64[D]")
    return Conditions(
        Resolution.DAY,
        days.astype("datetime64[s]") + np.timedelta64(6, "h"),
        days,
        np.full(len(good), 24.0),
        good[OVERHEAD].sum(axis=1).to_numpy(float),
        good["it_kw"].to_numpy(float),
        np.full(len(good), np.nan),
        good["n_hours"].to_numpy(float) / 24,
        {"low_coverage": len(table) - len(good)},
    )


def test_without_weather_the_load_is_all_it_can_tell() -> None:
    found = fit(conditions(21.6))
    assert isinstance(found, Baseline)
    assert found.form == "load"
    assert (found.row_count, found.left_out) == (68, {"low_coverage": 8})
    assert 0 < found.coefficients["per_it_kw"] < 0.05, "the most efficient plant of its time"
    assert found.autocorrelation > 0.5, "what it does not know lasts: the weather"
    assert found.cv_rmse_ratio < 0.3
    assert [r.code for r in found.reasons] == ["weather_not_known"]
    assert not found.accepted


def test_a_month_of_it_is_too_little() -> None:
    rows = conditions(21.6)
    found = fit(rows.take(np.arange(31)))
    assert isinstance(found, NoBaseline)
    assert found.reasons[0].text() == "31 days of history; 60 are needed"
