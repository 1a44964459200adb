"""What the register and the power of one meter tell about each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from app.domain.energy import Series, quarter_hours, spans
from app.domain.period import QUARTER_HOUR_US
from app.domain.quality.factors import COMMON_FACTORS
from app.domain.quality.finding import (
    DAY_US,
    Evidence,
    Finding,
    FindingKind,
    Floats,
    Ints,
    Severity,
    at,
    finite,
)
from app.domain.quality.values import STUCK_S, equal_runs, rest_s, standing_still
from app.domain.site import Point

DEAD_COUNTS = 20.0
"""So many counts must have flowed past a register at rest for it to be dead."""
UNIT_DEVIATION = 1.05
"""Register and integrated power may differ by this factor before a unit is suspected."""
UNIT_DAYS = 2
"""Days that must agree on the factor."""
UNIT_QUARTERS = 48
"""Quarter-hours with energy that a day needs; short runs are integrated too roughly from power."""
UNIT_SPREAD = 1.3
"""Largest quotient of the quartiles of the daily factors for them to agree."""


Quarters = tuple[Ints, Floats]
"""Starts of quarter-hours [us], and the energy of each [kWh]."""


def dead_register(register: tuple[Point, Series], flowed: Quarters) -> list[Finding]:
    """A register that stands still while the power of the same meter says that energy flows.

    Parameters
    ----------
    register : tuple of Point and Series
    flowed : tuple of int64 array and float64 array
        What the power of the same meter and flow says, see :func:`measured_quarters`.
    """
    point, series = register[0], finite(register[1])
    if len(series) < 2:
        return []
    starts, lengths = equal_runs(series.value)
    counts = np.abs(np.diff(series.value))
    count_kwh = float(counts[counts > 0].min(initial=math.inf)) * point.multiplier
    cells_us, energy_kwh = flowed
    total = np.concatenate([[0.0], np.cumsum(energy_kwh)])
    first = np.searchsorted(cells_us, series.at_us[starts])
    last = np.searchsorted(cells_us, series.at_us[starts + lengths - 1] - QUARTER_HOUR_US, "right")
    flowed_kwh = total[np.maximum(last, first)] - total[first]
    dead = (flowed_kwh > DEAD_COUNTS * count_kwh) & (rest_s(series, starts, lengths) >= STUCK_S)
    return [
        _dead(
            standing_still(point, series, int(starts[i]), int(starts[i] + lengths[i] - 1)),
            float(flowed_kwh[i]),
        )
        for i in np.flatnonzero(dead)
    ]


def _dead(finding: Finding, flowed_kwh: float) -> Finding:
    evidence: Evidence = {**finding.evidence, "power_says_kwh": flowed_kwh}
    return replace(finding, severity=Severity.ERROR, effect_kwh=flowed_kwh, evidence=evidence)


def unit_suspected(register: tuple[Point, Series], power: Point, flowed: Quarters) -> list[Finding]:
    """A register whose counts are not what the integrated power of the same meter says.

    The factor is the median over stretches of 24 h of integrated power by register, over the
    quarter-hours that both measured; it must agree from one to the next.

    Parameters
    ----------
    register : tuple of Point and Series
    power : Point
        Of the same meter and flow.
    flowed : tuple of int64 array and float64 array
        What the power says, see :func:`measured_quarters`.
    """
    factors, start_us, end_us = _daily_factors(measured_quarters(*register), flowed)
    if len(factors) < UNIT_DAYS:
        return []
    factor = float(np.median(factors))
    low, high = np.quantile(factors, [0.25, 0.75])
    agree = low > 0 and high / low <= UNIT_SPREAD
    if not agree or max(factor, 1 / factor) <= UNIT_DEVIATION:
        return []
    evidence: Evidence = {"factor": round(factor, 4), "days": len(factors), "power_point": power.id}
    likely = min(COMMON_FACTORS, key=lambda known: abs(math.log(known[0] / factor)))
    if abs(math.log(likely[0] / factor)) < 0.1:
        evidence["likely_factor"] = likely[1]
        evidence["hint"] = f"the register seems to count in about {likely[1]} kWh; set multiplier"
    point = register[0].id
    return [
        Finding(FindingKind.UNIT_SUSPECTED, point, at(start_us), at(end_us), Severity.ERROR, None, evidence)
    ]


def _daily_factors(counted: Quarters, integrated: Quarters) -> tuple[Floats, int, int]:
    """Integrated power by register over stretches of 24 h from the first quarter-hour both measured.

    Of any zone, so that every stretch but the last is a whole day. With the stretch they cover. [us]
    """
    common, left, right = np.intersect1d(counted[0], integrated[0], return_indices=True)
    if not len(common):
        return np.empty(0), 0, 0
    day = (common - common[0]) // DAY_US
    counts = np.bincount(day, counted[1][left])
    integral = np.bincount(day, integrated[1][right])
    some = np.bincount(day, counted[1][left] > 0) >= UNIT_QUARTERS
    return integral[some] / counts[some], int(common[0]), int(common[-1]) + QUARTER_HOUR_US


def measured_quarters(point: Point, series: Series) -> Quarters:
    """Fully measured quarter-hours and their energy; nothing that was spread over a gap."""
    if len(series) < 2:
        return np.empty(0, np.int64), np.empty(0)
    start_us = int(series.at_us[0]) // QUARTER_HOUR_US * QUARTER_HOUR_US
    end_us = -(-int(series.at_us[-1]) // QUARTER_HOUR_US) * QUARTER_HOUR_US
    cells = quarter_hours(spans(series, point), start_us, end_us)
    full = (cells.coverage_ratio > 1 - 1e-9) & (cells.estimated_ratio == 0)
    return cells.at_us[full], cells.energy_kwh[full]
