"""The page that Prometheus scrapes."""

from __future__ import annotations

from datetime import datetime

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.context import Caller, Context, context_of
from app.errors import StoreUnavailable
from app.exposition import CONTENT_TYPE

router = APIRouter(tags=["health"])
_log = structlog.get_logger(__name__)

OLDEST_S = 60.0
"""A snapshot older than this is taken again by the scrape itself, where no job does it. [s]"""


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_metrics(request: Request, caller: Caller) -> Response:
    """Figures of the sites you may see, and of the service where you may see all, for Prometheus."""
    context = context_of(request)
    if context.telemetry.age_s(caller.now) > OLDEST_S:
        _refresh(context, caller.now)
    page = context.telemetry.exposition(_visible(caller))
    return Response(page, media_type=CONTENT_TYPE)


def _refresh(context: Context, now: datetime) -> None:
    """A new snapshot, where the database has one to give; its age is on the page."""
    try:
        context.telemetry.refresh(context.engine, now)
    except StoreUnavailable as error:
        _log.warning("figures are out of date", problem=str(error))


def _visible(caller: Caller) -> set[str] | None:
    if caller.principal.role_everywhere is not None:
        return None
    with caller.read() as view:
        return set(view.stored.fleet.site)
