"""What is wrong, or remarkable, with the readings of a site."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.actions import findings as actions
from app.domain.access import Role
from app.store import findings
from app.web import render
from app.web.access import FromOwnPage, PageRoute, Viewer

router = APIRouter(route_class=PageRoute)

_SHOWN = 200


@router.get("/sites/{site}/findings")
def findings_page(request: Request, site: str, caller: Viewer, state: str = "open") -> Response:
    """Open findings, or all of them, newest first, and those of the deployment for who may see it."""
    with caller.read() as view:
        found = view.site(site)
        listed = findings.listing(view.connection, view.stored.site_id[site], with_cleared=state == "all")
        may_act = view.may(site, Role.OPERATOR)
        of_deployment = actions.of_deployment(view)
    shown = listed if state == "all" else [f for f in listed if f.state == findings.OPEN]
    context = {
        "nav": "site",
        "tab": "findings",
        "site": found,
        "findings": shown[:_SHOWN],
        "count": len(shown),
        "of_deployment": of_deployment,
        "deployment_kind": actions.COMPRESSION_FAILING,
        "state": state,
        "may_act": may_act,
        "now": caller.now,
        "meter_of": {point: meter.id for point, meter in found.meter_of.items()},
    }
    return render.page(request, "findings.html", context)


@router.post("/sites/{site}/findings/{finding}/acknowledge", dependencies=[FromOwnPage])
def acknowledge(site: str, finding: int, caller: Viewer) -> Response:
    """Mark an open finding as seen."""
    with caller.write() as view:
        actions.acknowledge(view, site, finding)
    return RedirectResponse(f"/sites/{site}/findings", HTTPStatus.SEE_OTHER)
