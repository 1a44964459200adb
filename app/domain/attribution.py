"""Which part of the data centre moved the PUE between two periods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from app.domain.baseline import Baseline, Conditions, NoBaseline, Reason
from app.domain.quantity import IT_LOAD_CLASS
from app.errors import SeriesError

UNMETERED = "unmetered"
"""Load class of the facility energy that no sub-meter explains."""


LEAST_KNOWN_RATIO = 0.8
"""Share of a period whose days must have a figure by the baseline for the causes to be told apart."""


@dataclass(frozen=True, slots=True)
class EnergySplit:
    """Facility energy of one period, by what used it, over the time all of it is covered."""

    facility_kwh: float
    it_kwh: float
    covered_h: float
    """Time the energies stand for; periods of different length are compared by mean power. [h]"""
    overhead_kwh: dict[str, float] = field(default_factory=dict)
    """Metered overhead by load class. [kWh]"""

    @property
    def pue(self) -> float:
        """Ratio of the two energies."""
        return self.facility_kwh / self.it_kwh

    @property
    def unmetered_kwh(self) -> float:
        """Facility energy that is neither IT nor metered overhead. [kWh]"""
        return self.facility_kwh - self.it_kwh - sum(self.overhead_kwh.values())

    def mean_kw(self) -> dict[str, float]:
        """Mean power by overhead class, the unmetered remainder included. [kW]"""
        energies = {**self.overhead_kwh, UNMETERED: self.unmetered_kwh}
        return {name: kwh / self.covered_h for name, kwh in energies.items()}


@dataclass(frozen=True, slots=True)
class Attribution:
    """Change of PUE between a baseline and a later period, in parts that sum to it."""

    baseline_pue: float
    pue: float
    change: float
    """`pue` - `baseline_pue`; the sum of `parts`, and also of `share_change`."""
    parts: dict[str, float]
    """By overhead class: effect of its energy. ``it``: effect of the IT load on all classes."""
    share_change: dict[str, float]
    """By overhead class: change of E_c / E_IT, whatever caused it."""
    moved: str | None
    """The load class to look at first; None where nothing pushed PUE in the direction it went."""


def attribute(baseline: EnergySplit, current: EnergySplit) -> Attribution:
    """Split the change of PUE over the load classes and the IT load, without remainder.

    With P_c the mean power of overhead class c (unmetered included) and I that of the IT load,
    ``PUE = 1 + sum(P_c / I)``. Each quotient depends on two quantities; its change is shared between
    them by the mean over both orders of changing them (the Shapley value of two players)::

        energy of c:  (P_c1 - P_c0) * (1/I0 + 1/I1) / 2
        IT load:      sum over c of (P_c0 + P_c1) / 2 * (1/I1 - 1/I0)

    The sum telescopes to the whole change.

    Raises
    ------
    SeriesError
        If a period has no IT energy or no covered time.
    """
    for split in (baseline, current):
        if not (split.it_kwh > 0 and split.covered_h > 0):
            raise SeriesError("attribution needs IT energy and covered time in both periods; choose others")
    before, after = _aligned(baseline.mean_kw(), current.mean_kw())
    it_before, it_after = baseline.it_kwh / baseline.covered_h, current.it_kwh / current.covered_h
    per_kw = (1 / it_before + 1 / it_after) / 2
    parts = {name: (after[name] - before[name]) * per_kw for name in before}
    parts[IT_LOAD_CLASS] = sum((before[n] + after[n]) / 2 for n in before) * (1 / it_after - 1 / it_before)
    shares = {name: after[name] / it_after - before[name] / it_before for name in before}
    change = current.pue - baseline.pue
    return Attribution(baseline.pue, current.pue, change, parts, shares, _moved(change, parts, shares))


@dataclass(frozen=True, slots=True)
class Causes:
    """Change of PUE between two periods by its causes, which sum to it."""

    weather: float
    """Wet bulb and days off: what the baseline expects to differ between the days."""
    it_load: float
    """IT load: overhead that follows it, and the denominator of PUE."""
    plant: float
    """The plant itself: what weather and IT load do not explain."""

    @property
    def change(self) -> float:
        """The whole change."""
        return self.weather + self.it_load + self.plant


def causes(
    baseline: Baseline | NoBaseline,
    before: EnergySplit,
    after: EnergySplit,
    rows: tuple[Conditions, Conditions],
) -> Causes | tuple[Reason, ...]:
    """Split the change of PUE over weather, IT load and the plant itself, without remainder.

    With O and I the mean overhead and IT power of the periods 0 and 1, and M(d, k) what the baseline expects
    of the days of period d with their IT load times k (c = I1 / I0)::

        PUE1 - PUE0 = (O1 - O0) q + (O0 + O1) / 2 (1/I1 - 1/I0),    q = (1/I0 + 1/I1) / 2
        IT load     = (M(0, c) - M(0, 1) + M(1, 1) - M(1, 1/c)) / 2 * q + the second term above
        weather     = (M(1, 1) - M(0, 1)) q, less the first term of the IT load
        plant       = the rest: ((O1 - M(1, 1)) - (O0 - M(0, 1))) q

    Parameters
    ----------
    before, after : EnergySplit
        As for :func:`attribute`, of which these are the same change.
    rows : tuple of Conditions
        The days of both periods.

    Returns
    -------
    Causes or tuple of Reason
        The reasons where the baseline is not accepted, or too few days of a period have a figure.
    """
    if isinstance(baseline, NoBaseline) or not baseline.accepted:
        return baseline.reasons
    it_before, it_after = before.it_kwh / before.covered_h, after.it_kwh / after.covered_h
    ratio = it_after / it_before
    spans_h = (before.covered_h, after.covered_h)
    own = [_expected_kw(baseline, part, 1.0, h) for part, h in zip(rows, spans_h, strict=True)]
    other = [
        _expected_kw(baseline, part, k, h)
        for part, k, h in zip(rows, (ratio, 1 / ratio), spans_h, strict=True)
    ]
    missing = [one for one in (*own, *other) if isinstance(one, Reason)]
    if missing:
        return tuple(missing[:1])
    (first, second), (first_moved, second_moved) = _numbers(own), _numbers(other)
    per_kw = (1 / it_before + 1 / it_after) / 2
    load_kw = (first_moved - first + second - second_moved) / 2
    before_kw, after_kw = (sum(split.mean_kw().values()) for split in (before, after))
    diluted = (before_kw + after_kw) / 2 * (1 / it_after - 1 / it_before)
    weather = (second - first - load_kw) * per_kw
    plant = ((after_kw - second) - (before_kw - first)) * per_kw
    return Causes(weather, load_kw * per_kw + diluted, plant)


def _numbers(found: list[float | Reason]) -> list[float]:
    return [one for one in found if not isinstance(one, Reason)]


def _expected_kw(baseline: Baseline, rows: Conditions, factor: float, span_h: float) -> float | Reason:
    """Mean expected overhead of the days of a period under a changed IT load. [kW]"""
    expected = baseline.expected(replace(rows, it_kw=rows.it_kw * factor))
    within, hours = expected.within_range, rows.hours
    known_h = float(hours[within].sum())
    if known_h < LEAST_KNOWN_RATIO * span_h or known_h <= 0:
        values = {"days": int(within.sum()), "needed": math.ceil(LEAST_KNOWN_RATIO * span_h / 24)}
        return Reason("too_few_days", values)
    return float(np.average(expected.expected_kw[within], weights=hours[within]))


def _aligned(first: dict[str, float], second: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    names = [*first, *(name for name in second if name not in first)]
    return {n: first.get(n, 0.0) for n in names}, {n: second.get(n, 0.0) for n in names}


def _moved(change: float, parts: dict[str, float], shares: dict[str, float]) -> str | None:
    """The class whose own energy and whose share both went the way PUE went, or the IT load.

    A class that only follows the IT load has an unchanged share and is not blamed.
    """
    sign = 1.0 if change >= 0 else -1.0
    scores = {n: min(sign * parts[n], sign * shares[n]) for n in shares}
    scores[IT_LOAD_CLASS] = sign * parts[IT_LOAD_CLASS]
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > 0 else None
