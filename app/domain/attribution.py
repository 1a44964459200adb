"""Which part of the data centre moved the PUE between two periods."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.quantity import IT_LOAD_CLASS
from app.errors import SeriesError

UNMETERED = "unmetered"
"""Load class of the facility energy that no sub-meter explains."""


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
