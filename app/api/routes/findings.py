"""What is wrong, or remarkable, with the data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.actions import findings as actions
from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import End, Start
from app.domain.asked import instant
from app.domain.quality.finding import Severity
from app.store import findings

router = APIRouter(tags=["data quality"])

_MOST = 10_000


@router.get("/sites/{site}/findings")
def list_findings(
    site: SiteId,
    caller: Caller,
    start: Start | None = None,
    end: End | None = None,
    with_cleared: Annotated[bool, Query(description="Also those that are found no longer")] = False,
) -> schemas.FindingsOut:
    """Findings that touch the period, newest first."""
    first = instant(start, "start") if start is not None else None
    last = instant(end, "end") if end is not None else None
    with caller.read() as view:
        view.site(site)
        number = view.stored.site_id[site]
        found = findings.listing(view.connection, number, start=first, end=last, with_cleared=with_cleared)
        of_deployment = actions.of_deployment(view)
    return schemas.FindingsOut(
        site=site,
        findings=[schemas.FindingOut(**asdict(f)) for f in found[:_MOST]],
        deployment=[
            schemas.DeploymentFindingOut(
                kind=actions.COMPRESSION_FAILING,
                severity=Severity.WARNING.value,
                table=state.table,
                problem=state.problem or "",
                last_success_at=state.last_success_at,
            )
            for state in of_deployment
        ],
    )


@router.post("/sites/{site}/findings/{finding}/acknowledge", status_code=204)
def acknowledge_finding(
    site: SiteId, finding: Annotated[int, Path(ge=1, le=1 << 62)], caller: Caller
) -> None:
    """Mark an open finding as seen."""
    with caller.write() as view:
        actions.acknowledge(view, site, finding)
