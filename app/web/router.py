"""All pages in one router, to be served beside the HTTP interface."""

from __future__ import annotations

from fastapi import APIRouter

from app.web.pages import (
    alarms,
    computed,
    connect,
    findings,
    imports,
    meters,
    overview,
    period,
    reports,
    signin,
    site,
    static,
    wall,
)

PAGES = (
    static,
    signin,
    overview,
    wall,
    period,
    site,
    computed,
    meters,
    findings,
    alarms,
    reports,
    imports,
    connect,
)

router = APIRouter(include_in_schema=False)
for pages in PAGES:
    router.include_router(pages.router)
