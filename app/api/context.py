"""What every endpoint gets: the caller, and a view of the store with nothing in it but the caller's sites.

An endpoint is a plain function. It takes a :data:`Caller` and opens one view::

    @router.get("/sites/{site}/something")
    def get_something(site: SiteId, caller: Caller) -> Something:
        with caller.read() as view:
            return ...  # view.site(site) raises NotFound outside the caller's sites

    @router.post("/sites/{site}/something")
    def post_something(site: SiteId, body: SomethingIn, caller: Caller) -> Something:
        with caller.write() as view:
            view.site(site, Role.OPERATOR)  # raises Forbidden below that role
            ...
            view.audit("something.add", site, {"note": body.note})

The view's connection is one transaction, committed when the block ends; an answer is made after that.
No connection is held between dependencies and endpoint, so requests cannot starve each other of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Query, Request
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool

from app.actions.site_file import Place
from app.actions.view import View
from app.api.admission import Batches, Places
from app.api.auth import Authenticator, OpenToLoopback, token_of
from app.api.rate import RateLimiter
from app.api.report_maker import Maker
from app.domain.access import Principal, Role
from app.domain.period import Period
from app.domain.reading import LATEST, OLDEST
from app.errors import Forbidden, NotAuthenticated, WattlineError
from app.fleet.cells import Cell
from app.fleet.fanout import Scope
from app.fleet.watch import Watch
from app.jobs.edge_intake import Intake
from app.store import failed_months, pue
from app.store.engine import Connection, Engine, begin, connect
from app.store.fleet_cache import FleetCache
from app.telemetry import Telemetry
from collectors import network


@dataclass(frozen=True, kw_only=True)
class ApiLimits:
    """How much may be asked or sent at once."""

    body_bytes: int = 1 << 20
    """Largest body, where nothing else is said. [B]"""
    readings_body_bytes: int = 256 << 20
    """Largest body of readings, as it streams in. [B]"""
    json_body_bytes: int = 16 << 20
    """Largest JSON document of readings; NDJSON has no such limit. [B]"""
    import_bytes: int = 2 << 30
    """Largest file to import. [B]"""
    cells: int = 400_000
    """Most bars times series in one answer."""
    export_readings: int = 20_000_000
    """Most readings that an export may be expected to have."""
    requests_at_once: int = 128
    """Requests that are answered or wait for their turn."""
    imports_at_once: int = 3
    exports_at_once: int = 4
    edge_batches_at_once: int = 4
    """Batches of edges that are unpacked and stored at the same time."""
    edge_batches_bytes: int = 64 << 20
    """Most bytes of the batches that are being received or wait for that. [B]"""
    work_at_once_each: int = 6
    """Requests of one caller that are worked on; more of them wait, while others' go on."""
    work_at_once_of_tenant: int = 10
    """The same for the callers of one institution."""
    strangers_at_once: int = 32
    """Requests of those who have shown no key, without a body."""
    stranger_bodies: int = 64
    """Sign-in forms that are on their way at the same time."""
    stranger_bodies_each: int = 8
    """Of these, from one address."""
    stranger_body_bytes: int = 64 << 10
    """Largest body that a stranger may send. [B]"""
    stranger_body_s: float = 10.0
    """Longest time for the whole of it. [s]"""
    body_pause_s: float = 30.0
    """Longest time to wait for the next part of a body. [s]"""
    body_grace_s: float = 60.0
    """Time that every body may take, however small. [s]"""
    body_least_bytes_per_s: float = 4096.0
    """Pace that a longer one must keep. [B/s]"""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the application is made of."""

    engine: Engine
    authenticator: Authenticator
    telemetry: Telemetry
    limits: ApiLimits = field(default_factory=ApiLimits)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    is_prepared: Callable[[], bool] = lambda: True
    """Whether the database has this process's shape and site file."""
    scratch: Path | None = None
    """Folder for uploads and exports in the making; None: the system's."""
    fleet: FleetCache = field(default_factory=FleetCache)
    imports: Places = field(default_factory=lambda: Places(3, 3))
    exports: Places = field(default_factory=lambda: Places(4, 4))
    probes: RateLimiter = field(default_factory=lambda: RateLimiter(12, 6))
    """How often one caller may have addresses asked what they are."""
    site_file: Place = field(default_factory=Place)
    """Where this process has its site file."""
    maker: Maker
    """Makes ordered reports."""
    cell_id: str = "local"
    """What this cell is called."""
    fleet_watch: Watch = field(default_factory=lambda: Watch(()))
    """What other cells said last."""
    edges: Intake
    """Takes what edges send."""
    batches: Batches = field(default_factory=lambda: Batches(4, 64 << 20))
    """Of edges, on their way in."""
    health_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    """Threads of their own, so that health answers while all others are busy."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The other cells of the fleet."""
        return self.fleet_watch.cells

    def failed_months(self, site_id: str) -> list[str]:
        """Months of a site whose findings could not be looked for at the last try."""
        with connect(self.engine) as connection:
            return failed_months.of_sites(connection).get(site_id, [])

    def redefined(self, site_id: str) -> int:
        """Stretches of a site whose figures are still those of an earlier definition."""
        with connect(self.engine) as connection:
            stored = self.fleet.current(connection)
            site = stored.fleet.site.get(site_id)
            always = Period(OLDEST, LATEST)
            return 0 if site is None else len(pue.redefined(connection, stored, site, always))


class CallerOf:
    """Who asks, from where, and the way to the store."""

    def __init__(self, context: Context, principal: Principal, source: str) -> None:
        self.context, self.principal, self.source = context, principal, source

    @property
    def now(self) -> datetime:
        """The time, by the application's clock."""
        return self.context.clock()

    @property
    def session_idle(self) -> timedelta:
        """A browser's session that is not used for so long is over."""
        return self.context.authenticator.session_idle

    @property
    def limits(self) -> ApiLimits:
        """How much may be asked."""
        return self.context.limits

    def begin_probe(self, host: str) -> None:
        """Allow one probe: it reaches into the network of the meters, so it is rare and written down.

        Raises
        ------
        Forbidden
            If the caller is not operator of the whole deployment.
        TooBusy
            If the caller asks too often.
        """
        self.require_operator()
        self.context.probes.check(self.principal.name)
        with self.write() as view:
            view.audit("probe", host)

    def require_operator(self) -> None:
        """Refuse callers who are not operators of the whole deployment.

        Raises
        ------
        Forbidden
            If they are not.
        """
        with self.read() as view:
            view.require_everywhere(Role.OPERATOR)

    def reach(self) -> AbstractContextManager[None]:
        """While the block lasts, devices are asked on the caller's behalf: see ``collectors.network``."""
        is_local = isinstance(self.context.authenticator, OpenToLoopback)
        return nullcontext() if is_local else network.on_behalf_of_others()

    def refuse_viewers(self) -> None:
        """Refuse, before a body is read, those who may nowhere send anything.

        Raises
        ------
        Forbidden
            If the caller is operator of no site at all.
        """
        if not self.principal.may_send:
            raise Forbidden("sending data needs the role operator; contact an administrator")

    @contextmanager
    def read(self) -> Iterator[View]:
        """A view for reading."""
        with connect(self.context.engine) as connection:
            yield self._view(connection)

    @contextmanager
    def write(self) -> Iterator[View]:
        """A view for writing: committed at the end of the block, rolled back if it raises."""
        with begin(self.context.engine) as connection:
            yield self._view(connection)

    def _view(self, connection: Connection) -> View:
        stored = self.context.fleet.visible(connection, self.principal)
        return View(connection, stored, self.principal, self.source, self.now)


def bounded(gate: Places, principal: Principal, what: str) -> AbstractContextManager[None]:
    """Let only so many at a time do heavy work, and leave places for other callers and institutions.

    Raises
    ------
    TooBusy
        If as many are at it already.
    """
    problem = f"too many {what} at the same time; try again shortly"
    return gate.taken(principal.name, problem, group=principal.tenant, retry_after_s=10)


def shared_places(most: int, *, is_shared: bool) -> Places:
    """Places for heavy work: no caller and no institution can take all of them, where there are several."""
    return Places(most, most - most // 3, most - 1) if is_shared else Places(most, most)


def context_of(request: Request) -> Context:
    """The application's context."""
    context: Context = request.app.state.context
    return context


@dataclass
class Identified:
    """What was found out about the sender of a request before its body was read."""

    token: str
    """What was shown."""
    principal: Principal | None = None
    error: WattlineError | None = None


def source_of(scope: Mapping[str, Any]) -> str:
    """Address that a request came from; empty where it has none."""
    client = scope.get("client")
    return client[0] if client else ""


def caller_of(request: Request) -> CallerOf:
    """The caller of a request.

    Raises
    ------
    NotAuthenticated
        If the caller did not authenticate, or the credentials are invalid.
    """
    context, source = context_of(request), source_of(request.scope)
    known: Identified | None = request.scope.get("identified")
    if known is None or known.token != token_of(request):
        return CallerOf(context, context.authenticator.principal(request, source), source)
    if known.principal is None:
        raise known.error or NotAuthenticated("a key is needed, as: Authorization: Bearer wl_...")
    return CallerOf(context, known.principal, source)


async def _asked_by(request: Request) -> CallerOf:
    """The caller of a request; it takes a thread only where the store has to be asked."""
    known: Identified | None = request.scope.get("identified")
    if known is not None and known.token == token_of(request):
        return caller_of(request)
    return await run_in_threadpool(caller_of, request)


Caller = Annotated[CallerOf, Depends(_asked_by)]
_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"
SiteId = Annotated[str, PathParameter(pattern=_ID, description="Id of the site", examples=["sh1"])]
MeterId = Annotated[str, PathParameter(pattern=_ID, description="Id of the meter", examples=["main"])]
InScope = Annotated[
    Scope, Query(description="all: other cells are asked too; cell: this cell alone, as cells ask each other")
]
