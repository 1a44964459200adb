"""What holds for any PUE, limit and set of meters."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import Limit, Outcome, combined_class_percent, pue_uncertainty, verdict

_pue, _band, _share = st.floats(1, 5), st.floats(0, 0.5), st.floats(0, 1)


def limit_of(pue: float) -> Limit:
    return Limit("p", pue, None, None, "", True)


@given(_pue, _band, _share, _pue, _share)
def test_a_verdict_never_contradicts_the_plain_comparison(
    pue: float, band: float, coverage: float, limit: float, minimum: float
) -> None:
    found = verdict(pue, band, coverage, limit_of(limit), minimum)
    assert found.plain is (Outcome.PASS if pue <= limit else Outcome.FAIL)
    assert found.verdict in (found.plain, Outcome.INDETERMINATE)
    if coverage < minimum and f"{coverage * 100:.1f}" != f"{minimum * 100:.1f}":  # compared as printed
        assert found.verdict is Outcome.INDETERMINATE


@given(_pue, _band, _band, _pue)
def test_more_uncertainty_never_decides_what_less_left_open(
    pue: float, narrow: float, wider: float, limit: float
) -> None:
    sure = verdict(pue, narrow, 1.0, limit_of(limit), 0.9).verdict
    unsure = verdict(pue, narrow + wider, 1.0, limit_of(limit), 0.9).verdict
    assert unsure in (sure, Outcome.INDETERMINATE)


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(0.1, 5)), min_size=1, max_size=20))
def test_a_sum_of_meters_is_at_least_as_accurate_as_its_worst(meters: list[tuple[float, float]]) -> None:
    energies, classes = [e for e, _ in meters], [c for _, c in meters]
    combined = combined_class_percent(energies, classes)
    assert min(classes) / math.sqrt(len(meters)) * (1 - 1e-9) <= combined <= max(classes) * (1 + 1e-9)


@given(_pue, st.floats(0, 5), st.floats(0, 5))
def test_uncertainty_is_at_least_that_of_either_side(pue: float, facility: float, it: float) -> None:
    assert pue_uncertainty(pue, facility, it) >= pue * max(facility, it) / 100 * (1 - 1e-9)
