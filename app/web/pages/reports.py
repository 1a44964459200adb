"""Reports: which there are, in every format and language, and what changed between revisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.actions import reports as actions
from app.actions.view import View
from app.domain.evidence import Frozen
from app.domain.period import shift_months
from app.domain.site import Site
from app.errors import NotFound
from app.reports.canonical import changes
from app.store.reports import orders
from app.store.reports.orders import Wanted
from app.store.reports.revisions import Shelf
from app.web import render
from app.web.access import FromOwnPage, PageRoute, Viewer

router = APIRouter(route_class=PageRoute)

FORMATS, TONGUES = ("pdf", "xlsx", "html", "csv", "json"), ("zh", "en")
_MONTHS, _YEARS = 15, 3
_MOST_CHANGES = 300


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
        listed: dict[tuple[str, int], Sequence[Mapping[str, Any]]] = {}
        made = orders.of_site(view.connection, site)
        for period, revision in revised:
            report = shelf.newest(view.connection, period, revision)
            if report is not None:
                listed[period, revision] = report.document["revision"]["changes"]
    context = {
        "nav": "reports",
        "tab": "reports",
        "site": found,
        "frozen": frozen,
        "changes": listed,
        "running": _running(found, caller.now, {period for period, *_ in frozen}),
        "formats": FORMATS,
        "tongues": TONGUES,
        "orders": made,
        "now": caller.now,
        "calendar": _calendar(found, caller.now),
    }
    return render.page(request, "reports.html", context)


def _calendar(site: Site, now: datetime) -> list[str]:
    """Months and years of which a report can be ordered, the newest first."""
    months = [f"{shift_months(now, -i, site.zone).astimezone(site.zone):%Y-%m}" for i in range(_MONTHS)]
    return [*months, *(str(now.astimezone(site.zone).year - i) for i in range(_YEARS))]


@router.post("/sites/{site}/reports/orders", dependencies=[FromOwnPage])
def order(
    site: str,
    caller: Viewer,
    period: Annotated[str, Form(max_length=7)],
    form: Annotated[Literal["pdf", "xlsx", "html", "csv", "json"], Form()] = "pdf",
    tongue: Annotated[Literal["zh", "en"], Form()] = "zh",
) -> Response:
    """Have a report made in the background; the page follows it."""
    with caller.write() as view:
        actions.order(view, Wanted(site, "", period, None, form, tongue))
    caller.context.maker.ring()
    return RedirectResponse(f"/sites/{site}/reports", HTTPStatus.SEE_OTHER)


@router.get("/sites/{site}/reports/{period}/compare")
def compare(
    request: Request,
    site: str,
    period: str,
    caller: Viewer,
    first: Annotated[int, Query(ge=1)],
    second: Annotated[int, Query(ge=1)],
) -> Response:
    """Every figure in which two revisions of a finalised report differ."""
    with caller.read() as view:
        found, shelf = view.site(site), Shelf.of_site(view.stored, site)
        one, other = (_revision(view, shelf, period, number) for number in (first, second))
        known = [r for p, r, *_ in shelf.listing(view.connection) if p == period]
    changed = changes(one.document, other.document)
    context = {
        "nav": "reports",
        "tab": "reports",
        "site": found,
        "period_name": period,
        "one": one,
        "other": other,
        "known": sorted(known),
        "changed": changed[:_MOST_CHANGES],
        "more": max(len(changed) - _MOST_CHANGES, 0),
    }
    return render.page(request, "report_compare.html", context)


def _revision(view: View, shelf: Shelf, period: str, number: int) -> Frozen:
    found = shelf.newest(view.connection, period, number)
    if found is None:
        raise NotFound(f"there is no revision {number} of {period}")
    return found


def _running(site: Site, now: datetime, frozen: Collection[str]) -> list[str]:
    """The month and the year that have not ended, and the last months that are not closed."""
    local = now.astimezone(site.zone)
    months = [f"{shift_months(now, -i, site.zone).astimezone(site.zone):%Y-%m}" for i in range(4)]
    return [*(m for m in months if m not in frozen), f"{local:%Y}"]
