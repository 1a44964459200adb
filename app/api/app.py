"""The HTTP interface: wired together here, served by uvicorn.

Endpoints are plain functions on a synchronous store, run in a thread pool. To add one: a module under
``routes/`` (see ``context.py`` for the pattern) and its line in :data:`ROUTERS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app import __version__
from app.actions.site_file import Place
from app.api import problems, schemas
from app.api.admission import Batches
from app.api.auth import Authenticator, OpenToLoopback
from app.api.compression import Compression
from app.api.context import ApiLimits, Context, caller_of, shared_places
from app.api.guard import Guard
from app.api.pending import PendingNote
from app.api.proxies import Proxies
from app.api.recorder import Recorder
from app.api.report_maker import Maker
from app.api.routes import (
    alarms,
    attribution,
    baseline,
    edges,
    energy,
    events,
    findings,
    fleet,
    health,
    imports,
    indicators,
    keys,
    measures,
    metrics,
    outlook,
    plant,
    probe,
    pue,
    readings,
    report_orders,
    reports,
    sites,
    usage,
)
from app.fleet.watch import Watch
from app.jobs.edge_intake import Intake
from app.store.engine import Engine
from app.telemetry import Telemetry

PREFIX = "/api/v1"

ROUTERS: tuple[APIRouter, ...] = (
    sites.router,
    pue.router,
    fleet.router,
    energy.router,
    usage.router,
    attribution.router,
    indicators.router,
    plant.router,
    outlook.router,
    readings.router,
    imports.router,
    findings.router,
    events.router,
    baseline.router,
    measures.router,
    probe.router,
    alarms.router,
    reports.router,
    report_orders.router,
    keys.router,
    edges.router,
)
"""One router per noun, all under :data:`PREFIX`."""

THREADS = 16
"""Endpoints at work at the same time; fewer than the store has connections. The rest waits."""

_OPEN = ("healthz", "readyz", "get_report_schema")
"""Operations that ask for no key; every other one must have a caller, which a test checks."""

_ABOUT = """Measures a data centre's energy and PUE.

Times are RFC 3339 with a zone; periods are half-open. Every name carries its unit. Errors are problem
documents (RFC 9457). While definitions of a site are being applied, answers about it carry the header
`Wattline-Pending`: figures may be those of before."""


def create_app(
    engine: Engine,
    *,
    authenticator: Authenticator | None = None,
    telemetry: Telemetry | None = None,
    limits: ApiLimits | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    is_prepared: Callable[[], bool] = lambda: True,
    scratch: Path | None = None,
    extra: tuple[APIRouter, ...] = (),
    missing_page: problems.Page | None = None,
    proxies: Proxies = Proxies(),
    site_file: Place = Place(),
    cell_id: str = "local",
    fleet_watch: Watch | None = None,
    edge_backlog_per_s: float = 5000.0,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    engine : Engine
        The store, with at least as many connections as :data:`THREADS` and two more.
    authenticator : Authenticator, optional
        Default: nobody is asked for a key; only for an address that nobody else can reach.
    telemetry : Telemetry, optional
        Shared with the jobs that refresh it. Default: its own, refreshed by the scrapes.
    limits : ApiLimits, optional
        How much may be asked or sent at once.
    clock : callable
        The time; tests set it.
    is_prepared : callable
        Whether the database has this process's shape and site file; until then it is not ready.
    scratch : Path, optional
        Folder for uploads and exports in the making.
    extra : tuple of APIRouter
        Served beside the interface, without its prefix: the web pages.
    missing_page : callable, optional
        What a browser is shown at an address that nothing has.
    proxies : Proxies
        Reverse proxies whose forwarding headers are trusted.
    site_file : Place
        Where this process has its site file.
    cell_id : str
        What this cell is called among the cells of the fleet.
    fleet_watch : Watch, optional
        Asks the other cells; it runs as long as the application.
    edge_backlog_per_s : float
        How many readings that waited all edges together may send. [1/s]
    """
    bounds, telemetry = limits or ApiLimits(), telemetry or Telemetry()
    is_shared = authenticator is not None and not isinstance(authenticator, OpenToLoopback)
    app = FastAPI(
        title="Wattline",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.context = Context(
        engine=engine,
        authenticator=authenticator or OpenToLoopback(),
        telemetry=telemetry,
        limits=bounds,
        clock=clock,
        is_prepared=is_prepared,
        scratch=scratch,
        imports=shared_places(bounds.imports_at_once, is_shared=is_shared),
        exports=shared_places(bounds.exports_at_once, is_shared=is_shared),
        maker=Maker(engine, clock),
        edges=Intake(
            engine,
            backlog_per_s=edge_backlog_per_s,
            on_stored=lambda by_site: _count(telemetry, by_site),
            clock=clock,
        ),
        batches=Batches(bounds.edge_batches_at_once, bounds.edge_batches_bytes),
        site_file=site_file,
        cell_id=cell_id,
        fleet_watch=fleet_watch or Watch(()),
    )
    app.state.caller_of, app.state.status_of = caller_of, problems.status_of
    app.state.redefined = app.state.context.redefined
    app.state.failed_months = app.state.context.failed_months
    app.state.single_sign_on = app.state.context.authenticator.single_sign_on
    _mount(app, extra)
    problems.install(app, _methods(app), missing_page)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.add_middleware(Compression)
    app.add_middleware(PendingNote, stretches_of=app.state.context.redefined)
    app.add_middleware(
        Guard,
        limits=bounds,
        metrics=telemetry.service,
        authenticator=app.state.context.authenticator,
        proxies=proxies,
        recorder=Recorder(engine, clock),
    )
    return app


def _count(telemetry: Telemetry, by_site: Mapping[str, int]) -> None:
    for site, count in by_site.items():
        telemetry.stored(site, count)


def _mount(app: FastAPI, extra: tuple[APIRouter, ...]) -> None:
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    for router in (health.router, metrics.router):
        app.include_router(router)
        app.include_router(router, prefix=PREFIX, include_in_schema=False)
    app.add_api_route(
        f"{PREFIX}/openapi.json", lambda: app.openapi(), name="openapi", include_in_schema=False
    )
    for router in extra:
        app.include_router(router, include_in_schema=False)


def _methods(app: FastAPI) -> Callable[[str], set[str]]:
    """Finds the methods that a path knows, over all the routes that share it."""

    def methods(path: str) -> set[str]:
        known = app.openapi()["paths"]
        found = [operations for pattern, operations in known.items() if _fits(pattern, path)]
        return {method.upper() for operations in found for method in operations}

    return methods


def _fits(pattern: str, path: str) -> bool:
    parts, own = pattern.split("/"), path.split("/")
    return len(parts) == len(own) and all(
        part.startswith("{") or part == text for part, text in zip(parts, own, strict=True)
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    maker: Maker = app.state.context.maker
    watch: Watch = app.state.context.fleet_watch
    maker.start()
    watch.start()
    yield
    watch.stop()
    await anyio.to_thread.run_sync(maker.stop)


def _operation_id(route: APIRoute) -> str:
    """The endpoint's own name: stable for those who generate clients."""
    return route.name


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, every operation with its problems."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        shapes = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            shapes.pop(unused, None)
        shapes["Problem"] = schemas.Problem.model_json_schema()
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for methods in document["paths"].values():
            for operation in methods.values():
                _say_problems(operation)
                if operation["operationId"] not in _OPEN:
                    operation["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _say_problems(operation: dict[str, Any]) -> None:
    shape = {"schema": {"$ref": "#/components/schemas/Problem"}}
    answer = {"description": "A problem document", "content": {problems.MEDIA_TYPE: shape}}
    operation["responses"].pop("422", None)
    operation["responses"] |= {"4XX": answer, "5XX": answer}
