"""From the forms of the period bar to the address that says the same."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.web import periods
from app.web.access import PageRoute

router = APIRouter(route_class=PageRoute)


@router.get("/period")
def choose(
    request: Request,
    to: str,
    window: str = "",
    month: str = "",
    year: str = "",
    start: str = "",
    end: str = "",
    calendar: str = "",
    first: str = "",
    last: str = "",
    compare: str = "",
    compare_first: str = "",
    compare_last: str = "",
) -> Response:
    """To the page `to`, for a calendar month or year, or for days that are both included."""
    return RedirectResponse(periods.address(to, request.query_params), HTTPStatus.SEE_OTHER)
