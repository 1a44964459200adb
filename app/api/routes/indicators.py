"""The indicators beside PUE: water, carbon, renewables, reuse, cooling, servers, money, targets."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.context import Caller, SiteId
from app.api.periods import Last30d, check_bars
from app.domain.period import Step
from app.reports import indicators
from app.reports.document import Indicators
from app.store import usage
from app.store.reports import revisions

router = APIRouter(tags=["indicators"])

_MOST_CELLS = 4_000_000


@router.get("/sites/{site}/indicators")
def get_indicators(site: SiteId, asked: Last30d, caller: Caller) -> Indicators:
    """WUE, CUE, REF, ERF, CER, ITEUsv, cost, saving potential, targets and points, as in the reports."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        check_bars(period, Step.QUARTER_HOUR, found.zone, len(usage.it_points(found)), _MOST_CELLS)
        basis = revisions.basis(view.connection, view.stored, found, period, caller.now)
    return indicators.build(basis)
