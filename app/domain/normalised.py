"""PUE under the weather and IT load of the baseline, beside the measured one: what is left is the plant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.domain import regression
from app.domain.baseline import Baseline, Conditions, Expected, NoBaseline, Reason
from app.domain.savings import LEAST_COUNTED_RATIO, LEVEL, Range


@dataclass(frozen=True, slots=True)
class NormalisedPue:
    """PUE that the plant of a period would have under the weather and the IT load of its baseline."""

    pue: Range | None
    """None where there is no figure."""
    measured_pue: float | None
    """Of the same days, as they were."""
    days: int
    counted_days: int
    reference_days: int = 0
    """Days of the baseline, whose weather and load are the reference."""
    reasons: tuple[Reason, ...] = ()


def normalised_pue(
    baseline: Baseline | NoBaseline, reference: Conditions, rows: Conditions, days: int, level: float = LEVEL
) -> NormalisedPue:
    """PUE under the conditions of the baseline: what differs from the measured one is weather and IT load.

    With D the mean of measured less expected overhead in the period, R the mean expected overhead and I the
    mean IT load of the reference::

        PUE = 1 + (R + D) / I

    Parameters
    ----------
    reference : Conditions
        Rows of the baseline.
    rows : Conditions
        Rows of the period, of the resolution of the baseline.
    days : int
        Days of the period; `rows` may have fewer.
    """
    measured = _ratio(rows)
    if isinstance(baseline, NoBaseline) or not baseline.accepted:
        return NormalisedPue(None, measured, days, 0, reasons=baseline.reasons)
    now, then = baseline.expected(rows), baseline.expected(reference)
    counted, inside = int(now.within_range.sum()), then.within_range
    if counted < LEAST_COUNTED_RATIO * days or not counted or not inside.any():
        needed = int(np.ceil(LEAST_COUNTED_RATIO * days))
        reason = Reason("too_few_days", {"days": counted, "needed": needed})
        return NormalisedPue(None, measured, days, counted, reasons=(reason,))
    it_kw = float(np.average(reference.it_kw[inside], weights=reference.hours[inside]))
    mine = now.within_range
    off_kw = np.average((rows.overhead_kw - now.expected_kw)[mine], weights=rows.hours[mine])
    reference_kw = np.average(then.expected_kw[inside], weights=reference.hours[inside])
    half = now.critical(level) * _difference_error_kw(now, then) / it_kw
    pue = Range.around(1 + float(reference_kw + off_kw) / it_kw, half)
    return NormalisedPue(pue, _ratio(rows.take(mine)), days, counted, int(inside.sum()))


def _difference_error_kw(now: Expected, then: Expected) -> float:
    """Standard error of the mean difference to the expected power, carried over to other conditions. [kW]"""
    mine, inside = now.within_range, then.within_range
    weights = now.hours[mine] / now.hours[mine].sum()
    moved = np.average(then.gradient[inside], axis=0, weights=then.hours[inside])
    effect = moved - weights @ now.gradient[mine]
    variance = max(float(effect @ covariance @ effect) for covariance in now.covariances)
    variance += regression.sum_variance(weights, now.place[mine], now.noise)
    apart_then = np.average(
        (then.others_kw - then.expected_kw)[:, inside], axis=1, weights=then.hours[inside]
    )
    apart = apart_then - (now.others_kw - now.expected_kw)[:, mine] @ weights
    return float(np.sqrt(variance + float(apart @ apart) / (1 + len(apart))))


def _ratio(rows: Conditions) -> float | None:
    it_kwh = float((rows.it_kw * rows.hours).sum())
    return 1 + float((rows.overhead_kw * rows.hours).sum()) / it_kwh if it_kwh > 0 else None
