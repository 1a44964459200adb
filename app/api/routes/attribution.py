"""Which part of the data centre moved the PUE between two periods."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import End, Start
from app.domain.asked import instant, whole
from app.domain.attribution import Attribution, Causes, attribute
from app.domain.baseline import Reason
from app.domain.period import Period
from app.store import savings, usage

router = APIRouter(tags=["pue"])


@router.get("/sites/{site}/attribution")
def get_attribution(
    site: SiteId, start: Start, end: End, baseline_start: Start, baseline_end: End, caller: Caller
) -> schemas.AttributionOut:
    """The change of PUE from the baseline to the period, in parts that sum to it."""
    period = whole(Period(instant(start, "start"), instant(end, "end")))
    first = instant(baseline_start, "baseline_start")
    baseline = whole(Period(first, instant(baseline_end, "baseline_end")))
    with caller.read() as view:
        found = view.site(site)
        before = usage.split(view.connection, view.stored, found, baseline)
        now = usage.split(view.connection, view.stored, found, period)
        why = savings.causes(view.connection, view.stored, found, (before, now), (baseline, period))
    return attribution_out(site, baseline, period, attribute(before, now), why)


def attribution_out(
    site: str,
    baseline: Period,
    period: Period,
    figure: Attribution,
    why: Causes | tuple[Reason, ...],
) -> schemas.AttributionOut:
    """The attribution as a document."""
    return schemas.AttributionOut(
        site=site,
        start=period.start,
        end=period.end,
        baseline_start=baseline.start,
        baseline_end=baseline.end,
        baseline_pue=figure.baseline_pue,
        pue=figure.pue,
        change=figure.change,
        parts=figure.parts,
        share_change=figure.share_change,
        moved=figure.moved,
        causes=asdict(why) if isinstance(why, Causes) else None,
        no_causes=[] if isinstance(why, Causes) else [reason.as_dict() for reason in why],
    )
