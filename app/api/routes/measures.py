"""The measures ledger: what was done to save energy, non-routine adjustments, and what was saved."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.actions import measures as actions
from app.api import schemas
from app.api.context import Caller, SiteId
from app.domain.measure import Adjustment, Boundary, Measure
from app.domain.site import Site
from app.reports.document import Savings
from app.reports.savings import build
from app.store import measures, savings
from app.store.measures import AdjustmentEntry, MeasureEntry

router = APIRouter(tags=["savings"])

_Key = Annotated[str, Path(max_length=60, description="Key of the measure, or its number")]
_Number = Annotated[int, Path(ge=1, le=1 << 62)]


@router.get("/sites/{site}/measures")
def list_measures(site: SiteId, caller: Caller) -> schemas.MeasuresOut:
    """Every measure, withdrawn ones too, by the start of its implementation."""
    with caller.read() as view:
        found = view.site(site)
        entries = measures.listing(view.connection, view.stored.site_id[site])
    return measures_out(found, entries)


@router.get("/sites/{site}/savings")
def get_savings(site: SiteId, caller: Caller) -> Savings:
    """Verified savings up to the last whole day, and the PUE under the conditions of the baseline."""
    with caller.read() as view:
        found = view.site(site)
        until = caller.now.astimezone(found.zone).date()
        figures = savings.gather(view.connection, view.stored, found, until)
    return build(found.id, found.currency, figures)


@router.post("/sites/{site}/measures", status_code=201)
def post_measure(site: SiteId, body: schemas.MeasureIn, caller: Caller) -> schemas.MeasureOut:
    """Declare a measure with its baseline and reporting period."""
    with caller.write() as view:
        stated = {**body.model_dump(), "where": Boundary.parse(body.where)}
        return measure_out(actions.add(view, site, Measure.declared(**stated)))


@router.post("/sites/{site}/measures/{measure}/withdraw")
def withdraw_measure(site: SiteId, measure: _Key, caller: Caller) -> schemas.MeasureOut:
    """Take a measure back; it stays in the ledger, marked."""
    with caller.write() as view:
        return measure_out(actions.withdraw(view, site, measure))


@router.post("/sites/{site}/measures/{measure}/adjustments", status_code=201)
def post_adjustment(
    site: SiteId, measure: _Key, body: schemas.AdjustmentIn, caller: Caller
) -> schemas.MeasureOut:
    """Note a non-routine adjustment, in the caller's name."""
    with caller.write() as view:
        return measure_out(actions.adjust(view, site, Adjustment(measure=measure, **body.model_dump())))


@router.post("/sites/{site}/measures/{measure}/adjustments/{number}/withdraw")
def withdraw_adjustment(site: SiteId, measure: _Key, number: _Number, caller: Caller) -> schemas.MeasureOut:
    """Take an adjustment back; it stays in the ledger, marked."""
    with caller.write() as view:
        return measure_out(actions.withdraw_adjustment(view, site, measure, number))


def measures_out(site: Site, entries: list[MeasureEntry]) -> schemas.MeasuresOut:
    """The ledger as a document."""
    return schemas.MeasuresOut(
        site=site.id, currency=site.currency, measures=[measure_out(entry) for entry in entries]
    )


def measure_out(entry: MeasureEntry) -> schemas.MeasureOut:
    """A measure as a document."""
    one = entry.measure
    return schemas.MeasureOut(
        id=entry.id,
        key=one.key,
        what=one.what,
        where=str(one.where),
        ipmvp_option=one.where.option.value,
        implementation_start=one.implementation_start,
        implementation_end=one.implementation_end,
        baseline_start=one.baseline_start,
        baseline_end=one.baseline_end,
        reporting_start=one.reporting_start,
        reporting_end=one.reporting_end,
        cost=one.cost,
        expected_kwh_per_year=one.expected_kwh_per_year,
        evidence=one.evidence,
        author=entry.author,
        created_at=entry.created_at,
        withdrawn_by=entry.withdrawn_by,
        withdrawn_at=entry.withdrawn_at,
        adjustments=[_adjustment(adjusted) for adjusted in entry.adjustments],
    )


def _adjustment(entry: AdjustmentEntry) -> schemas.AdjustmentOut:
    one = entry.adjustment
    return schemas.AdjustmentOut(
        id=entry.id,
        start=one.start,
        end=one.end,
        energy_kwh=one.energy_kwh,
        reason=one.reason,
        author=one.author,
        created_at=entry.created_at,
        withdrawn_by=entry.withdrawn_by,
        withdrawn_at=entry.withdrawn_at,
    )
