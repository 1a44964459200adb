"""Coefficients and robust covariances against statsmodels, and the search of change points."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import S_hac_simple

from app.domain import forms, regression
from app.domain.baseline import PERSISTENCE_DAYS, Baseline, fit
from tests.baseline_plants import story


def baseline(seed: int) -> tuple[Baseline, np.ndarray, np.ndarray, np.ndarray]:
    """A baseline with its linear columns, its gradient and what was fitted."""
    rows = story(seed).before
    found = fit(rows)
    assert isinstance(found, Baseline)
    form, values = forms.FORMS[found.form], tuple(found.coefficients.values())
    columns = forms.columns(form, rows.inputs, found.change_points_c)
    return found, columns, forms.gradient(form, rows.inputs, values), rows.overhead_kw


@pytest.mark.parametrize("seed", range(8))
def test_coefficients_are_those_of_ordinary_least_squares(seed: int) -> None:
    found, columns, _, overhead_kw = baseline(seed)
    oracle = OLS(overhead_kw, columns).fit()
    mine = list(found.coefficients.values())[: columns.shape[1]]
    assert mine == pytest.approx(oracle.params, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("lags", [0, 1, 7, 14, 28])
def test_covariance_and_tests_are_those_of_newey_and_west(lags: int) -> None:
    _, columns, _, overhead_kw = baseline(3)
    oracle = OLS(overhead_kw, columns).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}, use_t=True
    )
    place = np.arange(len(columns))
    mine = regression.newey_west(columns, oracle.resid, place, lags)
    scale = np.sqrt(np.outer(np.diag(oracle.cov_params()), np.diag(oracle.cov_params())))
    assert mine / scale == pytest.approx(oracle.cov_params() / scale, abs=1e-9)
    t_values = regression.coefficients(columns, overhead_kw) / np.sqrt(np.diag(mine))
    assert t_values == pytest.approx(oracle.tvalues, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_frozen_covariance_is_the_sandwich_of_the_gradient(seed: int) -> None:
    """With the change points among the parameters; the middle is that of statsmodels."""
    found, columns, gradient, overhead_kw = baseline(seed)
    residuals = overhead_kw - columns @ list(found.coefficients.values())[: columns.shape[1]]
    count, width = gradient.shape
    middle = S_hac_simple(gradient * residuals[:, None], nlags=PERSISTENCE_DAYS)
    bread = regression.inverse_gram(gradient)
    expected = bread @ middle @ bread * count / (count - width)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.array(found.covariance) / scale == pytest.approx(expected / scale, abs=1e-9)
    unscaled = np.linalg.inv((gradient / np.abs(gradient).max(0)).T @ (gradient / np.abs(gradient).max(0)))
    unscaled /= np.outer(np.abs(gradient).max(0), np.abs(gradient).max(0))
    assert bread / np.sqrt(np.outer(np.diag(bread), np.diag(bread))) == pytest.approx(
        unscaled / np.sqrt(np.outer(np.diag(bread), np.diag(bread))), abs=1e-7
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_other_change_point_fits_better(seed: int) -> None:
    rows = story(seed).before
    form = forms.Form("bend")
    values = forms.fitted(form, rows.inputs, rows.overhead_kw)
    assert values is not None
    best = ((rows.overhead_kw - forms.expected(form, rows.inputs, values)) ** 2).sum()
    for point_c in np.quantile(rows.wet_bulb_c, np.linspace(0.1, 0.9, 41)):
        columns = forms.columns(form, rows.inputs, [float(point_c)])
        other = OLS(rows.overhead_kw, columns).fit().ssr
        assert best <= other * (1 + 1e-3)
