"""Which baseline of a plant could be frozen now: proposed to people, never frozen without them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from app.domain.baseline import Baseline, Conditions, NoBaseline, fit
from app.domain.measure import Measure

SPAN_DAYS = 365
"""A year holds every season."""


@dataclass(frozen=True)
class Proposal:
    """A span of local days, half-open, and the baseline that was fitted to it."""

    start: date
    end: date
    baseline: Baseline | NoBaseline

    @property
    def is_ready(self) -> bool:
        """Whether it would be accepted, so that drift could be watched from now on."""
        return isinstance(self.baseline, Baseline) and self.baseline.accepted


def proposal(rows: Conditions, measures: Iterable[Measure], until: date) -> Proposal | None:
    """The baseline to propose: of the year before a day, or before the first work that falls into it.

    Parameters
    ----------
    rows : Conditions
        All known days of the site.
    measures : iterable of Measure
        Those in force: a plant is not learned across their work.
    until : date
        First local day that is not over.

    Returns
    -------
    Proposal or None
        None: no day is known.
    """
    if not len(rows):
        return None
    first: date = rows.local_days[0].astype("datetime64[D]").item()
    start = max(first, until - timedelta(days=SPAN_DAYS))
    end = until
    disturbing = [m for m in measures if m.implementation_end > start and m.implementation_start < until]
    if disturbing:
        earliest = min(disturbing, key=lambda m: m.implementation_start)
        start, end = max(first, earliest.baseline_start), earliest.baseline_end
    days = rows.local_days.astype("datetime64[D]")
    inside = (days >= np.datetime64(start, "D")) & (days < np.datetime64(end, "D"))
    return Proposal(start, end, fit(rows.take(inside)))
