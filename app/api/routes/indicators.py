"""Indicators beside PUE: water, carbon, renewables, reuse, cooling, servers, money; and what applies."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last30d, check_bars
from app.domain.period import Step, midnight, window
from app.reports import indicators, regulations
from app.reports.document import Indicators
from app.store import deployment, pue, usage
from app.store.reports import revisions

router = APIRouter(tags=["indicators"])

_MOST_CELLS = 4_000_000
_On = Annotated[
    date | None,
    Query(
        ge=date(1990, 1, 1),
        le=date(2199, 12, 31),
        description="Local day of which it is told; default: today",
    ),
]


@router.get("/sites/{site}/indicators")
def get_indicators(site: SiteId, asked: Last30d, caller: Caller) -> Indicators:
    """WUE, CUE, REF, ERF, CER, ITEUsv, cost, saving potential, targets and points, as in the reports."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        check_bars(period, Step.QUARTER_HOUR, found.zone, len(usage.it_points(found)), _MOST_CELLS)
        basis = revisions.basis(view.connection, view.stored, found, period, caller.now)
    return indicators.build(basis)


@router.get(
    "/sites/{site}/compliance", response_model=schemas.ComplianceOut, response_model_exclude_unset=True
)
def get_compliance(site: SiteId, caller: Caller, on: _On = None) -> dict[str, object]:
    """Regulations that apply to the site on a day, its verdicts and grades, and what is to come."""
    with caller.read() as view:
        found = view.site(site)
        day = on or caller.now.astimezone(found.zone).date()
        profiles = deployment.limit_profiles(view.connection)
        until = min(caller.now, midnight(day + timedelta(days=1), found.zone))
        trailing = pue.document(
            view.connection, view.stored, site, window("12mo", until, found.zone), profiles
        )
        reference = deployment.reference(view.connection)
        institution = view.stored.fleet.institution[found.institution]
        annual = trailing.pue if trailing.kind == "annual" else None
        told = regulations.told(found, institution, profiles, reference, day, annual)
    return {
        "site": site,
        "on": told.on,
        "jurisdiction": told.jurisdiction,
        "pue": trailing.as_dict(),
        "regulations": told.rows,
    }
