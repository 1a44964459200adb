"""What holds for any history of days."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.forecast import exhaustion, overhead_budget, project_year


@st.composite
def histories(draw: st.DrawFn) -> pd.DataFrame:
    """Days before or in 2026, with noise, holes and badly covered days."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    days = pd.date_range(end=f"2026-{draw(st.integers(1, 12)):02}-15", periods=draw(st.integers(1, 800)))
    days = days[rng.random(len(days)) > draw(st.floats(0, 0.3))]
    it = draw(st.floats(10, 1e6)) * rng.uniform(0.8, 1.2, len(days))
    share = draw(st.floats(0.05, 1.5)) * rng.uniform(0.7, 1.3, len(days))
    coverage = np.where(rng.random(len(days)) < 0.05, 0.5, 1.0)
    columns = {
        "facility_kwh": it * (1 + share) * coverage,
        "it_kwh": it * coverage,
        "coverage_ratio": coverage,
    }
    return pd.DataFrame(columns, index=days)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_projection_is_a_pue_inside_its_interval_or_a_reason(days: pd.DataFrame) -> None:
    found = project_year(days, 2026)
    assert found.measured_days + found.projected_days == 365
    if found.pue is None:
        assert found.reason
        return
    assert found.low is not None
    assert found.high is not None
    assert 1 <= found.low <= found.pue <= found.high
    assert found.chance_above(found.pue) == pytest.approx(0.5, abs=0.51)


@settings(max_examples=60, deadline=None)
@given(histories(), st.floats(1.05, 2.5))
def test_a_budget_is_crossed_exactly_where_the_year_ends_above_its_limit(
    days: pd.DataFrame, limit: float
) -> None:
    budget, year = overhead_budget(days, 2026, limit), project_year(days, 2026)
    assert (budget.allowed_kwh is None) == (year.pue is None)
    if year.pue is not None and abs(year.pue - limit) > 1e-6:
        assert (budget.crossed_in is not None) == (year.pue > limit)


@settings(max_examples=60, deadline=None)
@given(histories(), st.floats(1.01, 3))
def test_dates_of_exhaustion_are_in_order(days: pd.DataFrame, headroom: float) -> None:
    peaks = days["it_kwh"] / 24
    found = exhaustion(peaks, float(peaks.max()) * headroom if len(peaks) else 1.0)
    dates = [d for d in (found.earliest, found.on, found.latest) if d is not None]
    assert dates == sorted(dates)
    assert found.on is not None or found.reason
