"""Uninterruptible power supplies: efficiency against load, and the split of a load between two of them.

A unit is a meter (or several in parallel) with the stage `ups` that feeds only meters of the same stage: its
input and its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.domain.site import Site, Stage
from app.domain.tree import feeds

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BIN_RATIO = 0.1
"""Width of a region of load, by the rating."""
LEAST_HOURS = 4.0
"""Hours from which the efficiency of a region is given."""
CONFIDENCE_FACTOR = 1.645
"""Standard errors on either side of a 90 % interval."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One UPS with meters at its input and its output."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rated_kw: float
    """Rating at the output. [kW] Infinite: not stated."""
    redundancy: str


@dataclass(frozen=True, slots=True)
class Region:
    """Efficiency over the time in which the load was within some bounds."""

    low_ratio: float
    high_ratio: float
    """Load by the rating."""
    hours: float
    in_kwh: float
    out_kwh: float

    @property
    def efficiency_ratio(self) -> float:
        """Output by input."""
        return self.out_kwh / self.in_kwh


def units(site: Site) -> tuple[Unit, ...]:
    """The UPS of a constant site of which input and output are metered."""
    meters = {m.id: m for m in site.meters}
    found = []
    for feed in feeds(site):
        below = [meters[c] for c in feed.children]
        if feed.stage is Stage.UPS and below and all(m.stage is Stage.UPS for m in below):
            outputs = sum(m.rated_power_kw for m in below)
            inputs = sum(meters[m].rated_power_kw for m in feed.meters)
            found.append(
                Unit(
                    feed.meters,
                    feed.children,
                    outputs if np.isfinite(outputs) else inputs,
                    below[0].redundancy,
                )
            )
    return tuple(found)


def regions(in_kw: Floats, out_kw: Floats, rated_kw: float, hours_each: float) -> tuple[Region, ...]:
    """Efficiency by region of load, of those in which the unit was long enough.

    Parameters
    ----------
    in_kw, out_kw : ndarray of float64, shape (n,)
        Power at input and output over intervals in which both are known. [kW]
    rated_kw : float
        Rating. [kW] Infinite: there are no regions.
    hours_each : float
        Length of an interval. [h]
    """
    if not np.isfinite(rated_kw) or not len(out_kw):
        return ()
    number = np.floor(out_kw / rated_kw / BIN_RATIO + 1e-9).astype(int)
    found = []
    for n in np.unique(number):
        rows = number == n
        if rows.sum() * hours_each >= LEAST_HOURS and in_kw[rows].sum() > 0:
            low, hours = float(n) * BIN_RATIO, float(rows.sum()) * hours_each
            energies = (float(in_kw[rows].sum()) * hours_each, float(out_kw[rows].sum()) * hours_each)
            found.append(Region(low, low + BIN_RATIO, hours, *energies))
    return tuple(found)


def worst(found: Sequence[Region]) -> Region | None:
    """The region with the lowest efficiency."""
    return min(found, key=lambda r: r.efficiency_ratio, default=None)


@dataclass(frozen=True)
class LossCurve:
    """Loss of a unit as a quadratic of its load, fitted over the loads that were seen."""

    coefficients: Floats
    """Constant [kW], linear [ratio] and quadratic [1/kW] part."""
    covariance: Floats
    """Of the coefficients, robust to what the intervals of one day have in common."""
    low_kw: float
    high_kw: float
    """Loads that were seen: the 1st and the 99th percentile. [kW]"""

    def loss_kw(self, load_kw: Floats) -> Floats:
        """Loss at some loads. [kW]"""
        return np.asarray(_terms(load_kw) @ self.coefficients)

    def is_within(self, load_kw: Floats) -> Bools:
        """Which loads lie within what was seen."""
        return (load_kw >= self.low_kw) & (load_kw <= self.high_kw)


def _terms(load_kw: Floats) -> Floats:
    return np.stack([np.ones_like(load_kw), load_kw, load_kw**2], axis=-1)


def fit(in_kw: Floats, out_kw: Floats, days: npt.NDArray[np.int64]) -> LossCurve | None:
    """Loss curve of a unit by least squares.

    Parameters
    ----------
    in_kw, out_kw : ndarray of float64, shape (n,)
        Power at input and output. [kW]
    days : ndarray of int64, shape (n,)
        Number of the day of each interval; the errors of one day are taken to belong together.

    Returns
    -------
    LossCurve or None
        None where fewer than five days or too little variation of the load are seen.
    """
    clusters = np.unique(days)
    if len(clusters) < 5 or np.ptp(out_kw) < 0.02 * out_kw.mean():
        return None
    scale = out_kw.mean()
    x, y = _terms(out_kw / scale), in_kw - out_kw
    inverse = np.linalg.pinv(x.T @ x)
    beta = inverse @ (x.T @ y)
    score = x * (y - x @ beta)[:, None]
    by_day = np.stack([score[days == d].sum(axis=0) for d in clusters])
    spread = len(clusters) / (len(clusters) - 1)
    unit = np.diag([1.0, 1 / scale, 1 / scale**2])
    covariance = unit @ (spread * inverse @ (by_day.T @ by_day) @ inverse) @ unit
    low, high = np.percentile(out_kw, [1, 99])
    return LossCurve(unit @ beta, covariance, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Shift:
    """The best share of the load on the first of two units, within what both have carried."""

    share_ratio: float
    now_ratio: float
    saved_kw: float
    """Mean over the intervals, against the split as it was. [kW]"""
    standard_error_kw: float
    """Of the fit and of the meters' accuracy together. [kW]"""
    rows: Bools
    """Intervals in which the best share lies within what was seen."""


SHARES = np.linspace(0.0, 1.0, 101)
LEAST_ROWS_RATIO = 0.8
"""Share of the intervals in which a split must lie within what was seen."""


def best_split(
    loads_kw: tuple[Floats, Floats],
    curves: tuple[LossCurve, LossCurve],
    class_percents: tuple[float, float],
    most_kw: tuple[float, float],
) -> Shift | None:
    """The constant share of the load on the first unit that loses least.

    Parameters
    ----------
    loads_kw : pair of ndarray of float64, shape (n,)
        Output of both units. [kW]
    class_percents : pair of float
        Accuracy of the loss as a share of the output, by unit: input and output meter together. [%]
    most_kw : pair of float
        Most that each unit may carry. [kW]

    Returns
    -------
    Shift or None
        None where no split but that of now lies within what both have carried: a trial would tell.
    """
    total = loads_kw[0] + loads_kw[1]
    now = curves[0].loss_kw(loads_kw[0]) + curves[1].loss_kw(loads_kw[1])
    now_ratio = float(loads_kw[0].sum() / total.sum())
    best: Shift | None = None
    for share in SHARES:
        split = (share * total, (1 - share) * total)
        rows = np.logical_and.reduce(
            [c.is_within(p) & (p <= m) for c, p, m in zip(curves, split, most_kw, strict=True)]
        )
        if rows.mean() < LEAST_ROWS_RATIO:
            continue
        then = curves[0].loss_kw(split[0]) + curves[1].loss_kw(split[1])
        saved = float((now - then)[rows].mean())
        if best is None or saved > best.saved_kw:
            error = _error_kw(loads_kw, split, curves, class_percents, rows)
            best = Shift(float(share), now_ratio, saved, error, rows)
    return best


def _error_kw(
    before: tuple[Floats, Floats],
    after: tuple[Floats, Floats],
    curves: tuple[LossCurve, LossCurve],
    class_percents: tuple[float, float],
    rows: Bools,
) -> float:
    """Standard error of the mean saving: of the coefficients, and of meters that are wrong by their class."""
    total = 0.0
    for old, new, curve, percent in zip(before, after, curves, class_percents, strict=True):
        change = (_terms(old) - _terms(new))[rows].mean(axis=0)
        moved_kw = float((old - new)[rows].mean())
        total += float(change @ curve.covariance @ change) + (moved_kw * percent / 100) ** 2
    return float(np.sqrt(total))
