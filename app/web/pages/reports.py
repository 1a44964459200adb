"""Reports: which there are, in every format and language, and what changed between revisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.period import shift_months
from app.domain.site import Site
from app.store.reports.revisions import Shelf
from app.web import render
from app.web.access import PageRoute, Viewer

router = APIRouter(route_class=PageRoute)

FORMATS = ("pdf", "xlsx", "html", "csv", "json")


@router.get("/reports")
def choose_site(request: Request, caller: Viewer) -> Response:
    """Straight to the only site; else the choice of one."""
    with caller.read() as view:
        sites = view.stored.fleet.sites
    if len(sites) == 1:
        return RedirectResponse(f"/sites/{sites[0].id}/reports", HTTPStatus.SEE_OTHER)
    return render.page(request, "choose.html", {"nav": "reports", "sites": sites, "end": "reports"})


@router.get("/sites/{site}/reports")
def reports_page(request: Request, site: str, caller: Viewer) -> Response:
    """The frozen reports of a site with what each revision changed, and the running month."""
    with caller.read() as view:
        found = view.site(site)
        shelf = Shelf.of_site(view.stored, site)
        frozen = shelf.listing(view.connection)
        revised = {(p, r) for p, r, _, _ in frozen if r > 1}
        changes: dict[tuple[str, int], Sequence[Mapping[str, Any]]] = {}
        for period, revision in revised:
            report = shelf.newest(view.connection, period, revision)
            if report is not None:
                changes[period, revision] = report.document["revision"]["changes"]
    context = {
        "nav": "reports",
        "tab": "reports",
        "site": found,
        "frozen": frozen,
        "changes": changes,
        "running": _running(found, caller.now, {period for period, *_ in frozen}),
        "formats": FORMATS,
        "tongues": ("zh", "en"),
    }
    return render.page(request, "reports.html", context)


def _running(site: Site, now: datetime, frozen: Collection[str]) -> list[str]:
    """The month and the year that have not ended, and the last months that are not closed."""
    local = now.astimezone(site.zone)
    months = [f"{shift_months(now, -i, site.zone).astimezone(site.zone):%Y-%m}" for i in range(4)]
    return [*(m for m in months if m not in frozen), f"{local:%Y}"]
