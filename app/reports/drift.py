"""Drift of the plant as it stands in a report: rounded, with its interval."""

from __future__ import annotations

from datetime import date

from app.domain.baseline import Baseline
from app.domain.drift import Episode
from app.domain.drift_figure import DriftFigure
from app.domain.savings import LEVEL
from app.reports.document import Drift, DriftRow, MeterExcess
from app.reports.energies import RATIO
from app.reports.rounding import number, rounded
from app.reports.savings import ENERGY, because, interval

_MOST_METERS = 5


def drift(found: DriftFigure | None, start: date, end: date) -> Drift | None:
    """What is known of drift at the end of a span of local days, half-open."""
    if found is None:
        return None
    base, learned, excess = found.baseline, found.learning_since, found.excess
    return Drift(
        state=found.state.value,
        **_baseline(base),
        known_to=None if found.known_to is None else found.known_to.isoformat(),
        excess_kwh=None if excess is None else interval(excess.kwh, ENERGY),
        days=0 if excess is None else excess.days,
        counted_days=0 if excess is None else excess.counted_days,
        level=LEVEL,
        mostly=found.blame.mostly,
        meters=[
            MeterExcess(meter=name, excess_kwh=number(kwh, ENERGY))
            for name, kwh in list(found.blame.excess_kwh.items())[:_MOST_METERS]
        ],
        limit_pue=rounded(found.limit_pue, RATIO),
        weeks_to_limit=rounded(found.weeks_to_limit, 1),
        learning_since=None if learned is None else learned.on.isoformat(),
        learning_cause="" if learned is None else learned.kind,
        rows=[_row(one) for one in found.between(start, end)],
        reasons=because(() if base is None else base.reasons),
    )


def _baseline(base: Baseline | None) -> dict[str, str]:
    if base is None:
        return {"baseline_first_day": "", "baseline_last_day": "", "baseline_sha256": ""}
    days = {"baseline_first_day": base.first_day, "baseline_last_day": base.last_day}
    return {**days, "baseline_sha256": base.digest}


def _row(one: Episode) -> DriftRow:
    return DriftRow(
        onset=one.onset.isoformat(),
        found_on=one.found_on.isoformat(),
        over_on=None if one.over_on is None else one.over_on.isoformat(),
        over_by=one.over_by,
        excess_ratio=number(one.excess_ratio, RATIO),
    )
