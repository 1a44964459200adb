"""Energy by load class, point or room."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last24h, check_bars
from app.domain.period import Step
from app.domain.pue import redefined
from app.store import breakdown, pue
from app.store.breakdown import By

router = APIRouter(tags=["energy"])


@router.get("/sites/{site}/energy", response_model=schemas.EnergyOut)
def get_energy(
    site: SiteId, asked: Last24h, caller: Caller, by: By = By.LOAD_CLASS, step: Step | None = None
) -> JSONResponse:
    """Energy over a period, whole or bar by bar; what is not known is not counted, see coverage_ratio."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        if step is not None:
            groups = max(len(breakdown.groups_of(state, by)) for state in found.states)
            check_bars(period, step, found.zone, groups, caller.limits.cells)
        rows = breakdown.rows(view.connection, view.stored, found, period, by, step)
        pending = len(pue.redefined(view.connection, view.stored, found, period))
    notice = {"pending": pending, "reason": redefined(pending)} if pending else {}
    head = {"site": site, **period.as_dict(), "by": by, "step": step, **notice}
    return JSONResponse({**head, "rows": [row.as_dict() for row in rows]})
