"""Least squares on days or hours whose errors follow each other.

Errors of a plant persist: a warm day that the model does not explain is followed by another one. Standard
errors that take days for independent are too small. What is here counts with it: the covariance of Newey and
West, which assumes no form of the persistence, and the sum of errors that decay from day to day (AR(1)).

Rows stand at whole numbers (`place`: the day, or the hour, counted from the first), so that a hole in the
history is no neighbourhood.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HIGHEST_PERSISTENCE = 0.98
"""An estimate is kept below it: at 1 no number of days would tell anything."""


class Noise(NamedTuple):
    """Errors around a fit: a standard deviation, and a correlation that decays with the distance of rows."""

    sd: float
    """In the unit of the fitted column."""
    autocorrelation: float
    """Of neighbouring rows. [-1..1]"""


def coefficients(columns: Floats, values: Floats) -> Floats:
    """Least-squares coefficients, shape (k,), of columns with shape (n, k); by singular values."""
    scale = _scale(columns)
    found, *_ = np.linalg.lstsq(columns / scale, values, rcond=None)
    return np.asarray(found / scale, np.float64)


def inverse_gram(columns: Floats) -> Floats:
    """(X'X)^-1, shape (k, k); columns of very different size are no reason to lose digits."""
    scale = _scale(columns)
    scaled = columns / scale
    found = np.linalg.pinv(scaled.T @ scaled, hermitian=True) / np.outer(scale, scale)
    return np.asarray((found + found.T) / 2, np.float64)


def _sandwich(columns: Floats, middle: Floats) -> Floats:
    bread = inverse_gram(columns)
    found = bread @ middle @ bread
    return np.asarray((found + found.T) / 2, np.float64)


def _scale(columns: Floats) -> Floats:
    size = np.sqrt((columns**2).mean(axis=0))
    return np.asarray(np.where(size > 0, size, 1.0), np.float64)


def newey_west(columns: Floats, residuals: Floats, place: Ints, lags: int) -> Floats:
    """Covariance of the coefficients, robust to unequal and autocorrelated errors (HAC).

    Bartlett weights 1 - l / (lags + 1) (Newey and West, 1987) and the factor n / (n - k).

    Parameters
    ----------
    columns : float64, shape (n, k)
    residuals : float64, shape (n,)
    place : int64, shape (n,)
        Strictly increasing.
    lags : int
        Rows over which an error is still felt.

    Returns
    -------
    ndarray of float64, shape (k, k)
    """
    count, width = columns.shape
    scores = np.zeros((int(place[-1] - place[0]) + 1, width))
    scores[place - place[0]] = columns * residuals[:, None]
    middle = scores.T @ scores
    for lag in range(1, min(lags, len(scores) - 1) + 1):
        both = scores[lag:].T @ scores[:-lag]
        middle += (1 - lag / (lags + 1)) * (both + both.T)
    return _sandwich(columns, middle * count / (count - width))


def decayed(columns: Floats, place: Ints, autocorrelation: float) -> Floats:
    """R X, where R holds the correlation of every two rows: ``autocorrelation ** distance``.

    Parameters
    ----------
    columns : float64, shape (n, k)

    Returns
    -------
    ndarray of float64, shape (n, k)
    """
    decay = np.power(autocorrelation, np.diff(place))
    forward, backward = columns.copy(), columns.copy()
    for row in range(1, len(columns)):
        forward[row] += decay[row - 1] * forward[row - 1]
        backward[-1 - row] += decay[-row] * backward[-row]
    return np.asarray(forward + backward - columns, np.float64)


def noise(columns: Floats, residuals: Floats, place: Ints) -> Noise:
    """Standard deviation and autocorrelation of the errors of which a fit left these residuals.

    Residuals are smaller than the errors and less correlated, since the fit follows some of them. The pair
    is the one under which the residuals of these columns are expected to be what they are.

    Parameters
    ----------
    columns : float64, shape (n, k)
        What was fitted.
    residuals : float64, shape (n,)
    place : int64, shape (n,)
    """
    total = float(residuals @ residuals)
    if total <= 0:
        return Noise(0.0, 0.0)
    neighbours = np.diff(place) == 1
    pairs = int(neighbours.sum())
    seen = float((residuals[1:] * residuals[:-1])[neighbours].sum()) / total
    basis, _ = np.linalg.qr(columns / _scale(columns))
    low, high = -HIGHEST_PERSISTENCE, HIGHEST_PERSISTENCE
    for _ in range(24):
        middle = (low + high) / 2
        kept, follows = _expected_moments(basis, place, neighbours, pairs, middle)
        low, high = (middle, high) if follows < seen * kept else (low, middle)
    found = (low + high) / 2
    kept, _ = _expected_moments(basis, place, neighbours, pairs, found)
    return Noise(math.sqrt(total / max(kept, 1e-9)), found)


def _expected_moments(
    basis: Floats, place: Ints, neighbours: npt.NDArray[np.bool_], pairs: int, autocorrelation: float
) -> tuple[float, float]:
    """Expected sum of squares, and of products of neighbours, of residuals of errors with variance 1.

    With M = 1 - QQ' and D the mean of both shifts: tr(MR) and tr(MDMR).
    """
    spread = decayed(basis, place, autocorrelation)
    inner = basis.T @ spread
    kept = len(basis) - float(np.trace(inner))
    shifted = np.zeros_like(basis)
    shifted[1:][neighbours] += basis[:-1][neighbours] / 2
    shifted[:-1][neighbours] += basis[1:][neighbours] / 2
    crossed = 2 * float((shifted * spread).sum())
    return kept, autocorrelation * pairs - crossed + float(((basis.T @ shifted) * inner).sum())


def sum_variance(effect: Floats, place: Ints, error: Noise) -> float:
    """Variance of a weighted sum of errors: ``sd^2 * sum_ij effect_i effect_j r^|place_i - place_j|``.

    Parameters
    ----------
    effect : float64, shape (n,)
    place : int64, shape (n,)
        Strictly increasing.
    """
    if not len(effect):
        return 0.0
    one = effect[:, None]
    return max(float((one * decayed(one, place, error.autocorrelation)).sum()), 0.0) * error.sd**2


def persistent_covariance(columns: Floats, place: Ints, error: Noise) -> Floats:
    """Covariance of the coefficients under errors of this kind, shape (k, k)."""
    return _sandwich(columns, columns.T @ decayed(columns, place, error.autocorrelation) * error.sd**2)


def degrees_of_freedom(count: int, width: int, error: Noise) -> float:
    """Degrees of freedom of the long-run variance of such errors, at least 2.

    Its relative variance is about ``2/n + 4 (1 + r) / ((1 - r) n)`` where r is estimated too.
    """
    r = max(error.autocorrelation, 0.0)
    return max((count - width) / (1 + 2 * (1 + r) / (1 - r)), 2.0)


def critical(level: float, free: float) -> float:
    """Half-width of the two-sided interval of a Student variable that holds `level` (Cornish and Fisher)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
