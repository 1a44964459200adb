"""All pages in one router, to be served beside the HTTP interface."""

from __future__ import annotations

from fastapi import APIRouter

from app.web.pages import (
    alarms,
    capacity,
    computed,
    connect,
    coverage,
    docs,
    findings,
    flow,
    imports,
    indicators,
    ledger,
    meters,
    overview,
    period,
    plant,
    reports,
    runbook,
    savings,
    settings,
    signin,
    site,
    site_file,
    start,
    static,
    trend,
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
    trend,
    capacity,
    flow,
    docs,
    indicators,
    plant,
    savings,
    ledger,
    coverage,
    settings,
    site_file,
    start,
    meters,
    findings,
    alarms,
    reports,
    runbook,
    imports,
    connect,
)

router = APIRouter(include_in_schema=False)
for pages in PAGES:
    router.include_router(pages.router)
