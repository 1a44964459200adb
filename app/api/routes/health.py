"""Whether the process is alive, and whether it can work."""

from __future__ import annotations

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app import __version__
from app.api import problems, schemas
from app.api.context import context_of
from app.errors import StoreUnavailable
from app.store import readiness

router = APIRouter(tags=["health"])

_ANSWER_S = 0.9
"""Longest time to wait for the database, so that the answer itself comes within a second. [s]"""


@router.get("/healthz")
async def healthz() -> schemas.HealthOut:
    """Alive; checks nothing else."""
    return schemas.HealthOut(status="ok", version=__version__)


@router.get("/readyz", response_model=schemas.ReadyOut)
async def readyz(request: Request) -> JSONResponse:
    """Ready: the database has the shape and the sites this process needs; otherwise 503 with the reason."""
    context = context_of(request)
    try:
        with anyio.fail_after(_ANSWER_S):
            found = await anyio.to_thread.run_sync(
                readiness.check, context.engine, limiter=context.health_threads, abandon_on_cancel=True
            )
    except TimeoutError:
        return problems.of_error(request, StoreUnavailable("the database does not answer in time"))
    except StoreUnavailable as error:
        return problems.of_error(request, error)
    if found.problem:
        return problems.of_error(request, StoreUnavailable(found.problem))
    if not context.is_prepared():
        return problems.of_error(request, StoreUnavailable("the site file is being stored; ask again"))
    return JSONResponse({"status": "ready", "database": {"engine": found.engine, "revision": found.revision}})
