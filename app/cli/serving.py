"""``wattline serve``: the worker and the HTTP interface in one process, or one of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from app.actions.site_file import Place
from app.api.app import create_app
from app.api.auth import Authenticator, OpenToLoopback, authenticator_for
from app.api.connection import PatientProtocol
from app.api.oidc import OidcSettings
from app.api.proxies import Proxies
from app.api.single_sign_on import Client
from app.cli import logs
from app.cli.actor import record
from app.cli.console import say
from app.cli.environment import cells_of, settings, site_file
from app.cli.opening import WORK_TIMEOUT_S, Located, kept, located, synchronised
from app.cli.owner import owner_of
from app.cli.stopping import stop_signal
from app.config import Settings, SiteFile
from app.domain.access import Role
from app.domain.hub_message import address
from app.errors import ConfigError, SeriesError, StoreUnavailable, WattlineError
from app.fleet.watch import Watch
from app.hub_link import Link
from app.jobs import memory
from app.jobs.audit_anchor import Sink, Syslog, Webhook
from app.jobs.edge_intake import Intake
from app.jobs.hub_intake import HubIntake
from app.jobs.ingest import Stowed
from app.jobs.worker import Worker
from app.store import administration, identity, roles, sites, versions
from app.store.engine import Connection, Engine, Url, begin, connect, make_engine, wait_until_up
from app.store.workers import session_name
from app.telemetry import CellAnswer, MeterState, Telemetry
from app.web import render
from app.web import router as pages
from app.web.access import missing_page
from collectors import network
from collectors.spool import Limits

ALL, API, WORKER = "all", "api", "worker"
_PATIENCE_S = 1.0
_GRACEFUL_S = 3
"""Time for requests to be answered when stopping; statements of jobs and requests are cancelled then. [s]"""
_STARTER_S = 1.0
_TICK_S = 1.0
"""How often the date that answers bear is renewed. [s]"""

_log = structlog.get_logger(__name__)


def serve(config_path: Path | None, *, host: str, port: int, role: str) -> None:
    """Run until stopped by SIGTERM or SIGINT.

    Raises
    ------
    ConfigError
        If the site file is not understood, or the address cannot be used.
    """
    logs.configure()
    memory.bound()
    environment = settings()
    file = site_file(config_path, environment)
    with stop_signal() as stop, ExitStack() as stack:
        listener = None if role == WORKER else stack.enter_context(listening(host, port))
        place = stack.enter_context(located(environment))
        authenticate = partial(authenticator, environment, host)
        owner = owner_of(environment, config_path)
        service = stack.enter_context(
            Service(
                environment,
                place,
                file,
                role,
                owner=owner,
                authenticate=authenticate,
                site_file=place_of_file(environment, config_path, owner),
            )
        )
        service.start()
        if listener is not None:
            _tell(f"http://{host}:{listener.getsockname()[1]}", asks_keys=service.asks_keys)
        service.run(listener, stop)


def place_of_file(environment: Settings, config_path: Path | None, owner: str) -> Place:
    """Where pages find the site file of this process."""
    path = config_path or environment.config
    return Place(path, owner, environment.config_managed) if path else Place()


def _tell(base: str, *, asks_keys: bool) -> None:
    how = "asks for keys" if asks_keys else "answers everybody on this machine, no keys asked"
    say(f"{base} {how}")


def authenticator(environment: Settings, host: str, engine: Engine) -> Authenticator:
    """Who may ask on an address, by what the environment says.

    Raises
    ------
    ConfigError
        If no keys are to be asked on an address that others can reach.
    """
    oidc = client = None
    if environment.oidc_issuer:
        oidc = OidcSettings(
            issuer=environment.oidc_issuer,
            audience=environment.oidc_audience or environment.oidc_client_id,
            jwks_url=environment.oidc_jwks_url,
            grants_claim=environment.oidc_grants_claim,
        )
    if environment.separate_administration and environment.require_keys is False:
        raise ConfigError(
            "false, but separate administration needs keys to tell administrators apart",
            key="WATTLINE_REQUIRE_KEYS",
        )
    if environment.oidc_client_id:
        if oidc is None:
            raise ConfigError(
                "is missing; it is the address of the provider that knows WATTLINE_OIDC_CLIENT_ID",
                key="WATTLINE_OIDC_ISSUER",
            )
        client = Client(
            id=environment.oidc_client_id,
            secret=environment.oidc_client_secret(),
            public_url=environment.public_url,
        )
    return authenticator_for(
        engine,
        host,
        require_keys=True if environment.separate_administration else environment.require_keys,
        oidc=oidc,
        client=client,
        idle=timedelta(minutes=environment.session_idle_minutes),
    )


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; port 0 takes any that is free.

    Raises
    ------
    ConfigError
        If the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with listener:
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} cannot be used: {error.strerror}; choose another", key="--port"
            ) from None
        yield listener


@dataclass(frozen=True)
class _Engines:
    """One pool for requests and one for jobs, so that neither waits for the other's connections."""

    api: Engine
    work: Engine
    ending: threading.Event
    """Cancels what runs on both."""

    @classmethod
    def on(cls, url: Url, worker_id: str) -> _Engines:
        ending = threading.Event()
        of_api, of_work = (session_name(kind, worker_id) for kind in (API, WORKER))
        api = make_engine(url, application_name=of_api, awaits_tables=True, ending=ending)
        work = make_engine(url, application_name=of_work, statement_timeout_s=WORK_TIMEOUT_S, ending=ending)
        sites.share(api, work)
        return cls(api, work, ending)

    def dispose(self) -> None:
        for engine in (self.api, self.work):
            engine.dispose()


def _prepare_keys(engine: Engine, *, is_separate: bool, file: Path | None = None) -> None:
    """At the very first start, make keys of the administrators; show them once, or write them into a file.

    Raises
    ------
    ConfigError
        If administration is to be separate, and somebody has more than one duty; or if the file holds
        something or cannot be written: there are no keys then, and the next start tries again.
    """
    with begin(engine) as connection:
        keys = identity.first_keys(connection, is_separate=is_separate)
        for role in keys:
            record(connection, "key.create", identity.first_name(role), {"grants": [role.value]})
        if is_separate and not administration.is_separate(connection):
            _separate(connection)
        if keys and file is not None:
            _hand_over(keys, file)
    for role, key in keys.items():
        shown = f"is in {file}; keep it and empty the file" if file else f"is {key}; it is not shown again"
        say(f"first start: the {_owner(role)}'s key {shown}")


def _owner(role: Role) -> str:
    return identity.first_name(role).removeprefix("first ")


def _hand_over(keys: Mapping[Role, str], file: Path) -> None:
    """Write the keys into a file, made for its owner alone where it is absent; several with their owners."""
    lines = [key if len(keys) == 1 else f"{_owner(role)}: {key}" for role, key in keys.items()]
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:
            if os.fstat(descriptor).st_size:
                raise ConfigError("is not empty; move it away", file=str(file), key="WATTLINE_FIRST_KEY_FILE")
            out.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        reason = f"cannot be written by user {os.geteuid()}: {error.strerror}; let this user write it"
        raise ConfigError(reason, file=str(file), key="WATTLINE_FIRST_KEY_FILE") from None


def _separate(connection: Connection) -> None:
    try:
        identity.separate(connection, datetime.now(UTC))
    except SeriesError as error:
        raise ConfigError(str(error), key="WATTLINE_SEPARATE_ADMINISTRATION") from None
    record(connection, "administration.separate")


def _anchor_sinks(environment: Settings) -> list[Sink]:
    """Where anchors of the audit log go, by the environment."""
    sinks: list[Sink] = []
    if environment.audit_syslog:
        host, _, port = environment.audit_syslog.partition(":")
        sinks.append(Syslog(host, int(port or 6514), environment.audit_syslog_ca_file))
    if environment.audit_webhook:
        sinks.append(Webhook(environment.audit_webhook))
    return sinks


class Service:
    """The parts of one process, started and stopped together.

    Parameters
    ----------
    environment : Settings
        The spool lies in its data directory.
    place : Located
        Where the database is, or will be.
    file : SiteFile, optional
        What is measured; absent: what the database says.
    role : str
        ``all``, ``api`` or ``worker``.
    owner : str
        Whose the site file is.
    authenticate : callable
        Makes what finds out who asks; default: everybody on this machine may.
    on_ready : callable
        Called once with the worker, in a thread of its own, when that is at work.
    site_file : Place
        Where pages show and edit the site file.
    """

    def __init__(
        self,
        environment: Settings,
        place: Located,
        file: SiteFile | None,
        role: str = ALL,
        *,
        owner: str = "",
        authenticate: Callable[[Engine], Authenticator] = lambda engine: OpenToLoopback(),
        on_ready: Callable[[Worker], None] = lambda worker: None,
        site_file: Place = Place(),
    ) -> None:
        self._worker_id = secrets.token_hex(8)
        self._engines = _Engines.on(place.url, self._worker_id)
        self._file, self._owner, self._on_ready = file, owner, on_ready
        self._place, self._site_file = place, site_file
        self._first_key_file = environment.first_key_file
        self._edge_backlog_per_s = environment.edge_backlog_per_s
        self._authenticator = authenticate(self._engines.api)
        self._separates = environment.separate_administration
        self._proxies = Proxies(network.parse(environment.trusted_proxies), environment.public_url)
        self.telemetry = Telemetry()
        self._prepared = threading.Event()
        self.worker = None if role == API else self._worker(environment)
        self._cell_id, self._cells = environment.cell_id, cells_of(environment)
        self.hub = None if role == API else self._make_hub(environment)
        self._app = None if role == WORKER else self._make_app()
        self._server: uvicorn.Server | None = None
        self._ended = threading.Event()
        self._problem: WattlineError | None = None
        self._starter = threading.Thread(target=self._prepare, name="starter", daemon=True)

    @property
    def asks_keys(self) -> bool:
        """Whether callers need a key."""
        return not isinstance(self._authenticator, OpenToLoopback)

    def _make_app(self) -> FastAPI:
        watch = Watch(self._cells)
        self.telemetry.cells = lambda: {
            answer.cell.id: CellAnswer(answer.said is not None, answer.took_s)
            for answer in watch.seen.answers
        }
        return create_app(
            self._engines.api,
            telemetry=self.telemetry,
            authenticator=self._authenticator,
            is_prepared=self._prepared.is_set,
            extra=(pages.router,),
            missing_page=missing_page,
            proxies=self._proxies,
            site_file=self._site_file,
            cell_id=self._cell_id,
            fleet_watch=watch,
            edge_backlog_per_s=self._edge_backlog_per_s,
        )

    def _make_hub(self, environment: Settings) -> HubIntake | None:
        """What takes batches from a hub; None where there is none."""
        if not environment.hub_url:
            return None
        at = address(environment.hub_url, "WATTLINE_HUB_URL")
        if "cell_id" in environment.model_fields_set and at.cell != environment.cell_id:
            raise ConfigError(
                f"names the cell {at.cell!r}, and WATTLINE_CELL_ID {environment.cell_id!r}; write the same",
                key="WATTLINE_HUB_URL",
            )
        link = Link(at, environment.hub_seed_file, environment.hub_ca_file)
        intake = Intake(
            self._engines.work,
            backlog_per_s=environment.edge_backlog_per_s,
            on_stored=lambda by_site: self._count(Stowed(Counter(by_site), [])),
        )
        found = HubIntake(link, at.cell, self._engines.work, intake, replicas=environment.hub_replicas)
        self.telemetry.hub = lambda: found.tally
        return found

    def _worker(self, environment: Settings) -> Worker:
        worker = Worker(
            self._engines.work,
            environment.data_dir,
            None if self._file is None else frozenset(self._file.fleet.site),
            on_stowed=self._count,
            on_evaluated=self._refresh_telemetry,
            on_progress=self.telemetry.look_at_progress,
            on_stuck=self._engines.ending.set,
            audit_retention_days=environment.audit_retention_days,
            kept=kept(environment),
            spool_limits=Limits(environment.spool_days * 86_400, environment.spool_max_bytes),
            anchor_sinks=_anchor_sinks(environment),
            owner=self._owner,
            worker_id=self._worker_id,
        )
        self.telemetry.meter_states = lambda: {
            name: MeterState(state.up, state.duration_s) for name, state in worker.polling.states.items()
        }
        self.telemetry.spools = lambda: {"poller": worker.spool.state}
        self.telemetry.jobs = worker.jobs.tallies
        self.telemetry.audit_head = lambda: worker.anchoring.newest
        self.telemetry.busy_ratio = worker.jobs.busy_ratio
        return worker

    def _count(self, stowed: Stowed) -> None:
        for site, count in stowed.by_site.items():
            self.telemetry.stored(site, count)

    def _refresh_telemetry(self) -> None:
        self.telemetry.refresh(self._engines.work, datetime.now(UTC))

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start polling at once, and all else when the database answers."""
        if self.worker is not None and self._file is not None:
            self.worker.poll(self._file.fleet)
        self._starter.start()

    def _prepare(self) -> None:
        """Wait for the database, bring it into shape, start working."""
        try:
            for step in (self._shape_database, self._start_work, self._warm_up, self._say_ready):
                self._retried(step)
        except WattlineError as error:
            self._problem = error
            self._end()

    def _retried(self, step: Callable[[], None]) -> None:
        """Do a step, again and again as long as the database is away."""
        while not self._ended.is_set():
            try:
                step()
                return
            except StoreUnavailable as error:
                _log.warning("waiting for the database", problem=str(error))
                self._ended.wait(_PATIENCE_S)

    def _shape_database(self) -> None:
        wait_until_up(self._engines.work, 0.0)
        self._place.shape_if_needed(self._engines.work)
        with connect(self._engines.work) as connection:
            for warning in versions.of(connection).warnings:
                _log.warning("the database server", problem=warning)
        if roles.owns_the_audit_log(self._engines.work):
            _log.warning(
                "the service's role owns the audit log, so it could be disarmed; set "
                "WATTLINE_DATABASE_OWNER_URL and run: wattline db upgrade"
            )
        stored = synchronised(self._engines.work, self._file, self._owner)
        if self.asks_keys:
            _prepare_keys(self._engines.work, is_separate=self._separates, file=self._first_key_file)
        self._prepared.set()
        if self.worker is not None and self._file is None:
            self.worker.poll(stored.fleet)

    def _start_work(self) -> None:
        if self.worker is not None:
            self.worker.work()
        if self.hub is not None:
            self.hub.start()

    def _warm_up(self) -> None:
        if self._app is not None:
            render.warm_up()

    def _say_ready(self) -> None:
        if self.worker is not None:
            self._on_ready(self.worker)

    def _end(self) -> None:
        """Ask everything to come to an end; jobs need not wait for the last requests."""
        self._ended.set()
        if self.worker is not None:
            self.worker.end()
        if self._server is not None:
            self._server.should_exit = True

    def run(self, listener: socket.socket | None, stop: threading.Event) -> None:
        """Serve until stopped.

        Raises
        ------
        WattlineError
            If the service cannot start for a reason that waiting does not mend.
        """
        if self._app is None or listener is None:
            while not (stop.wait(_PATIENCE_S) or self._ended.is_set()):
                pass
        elif not stop.is_set():
            port = listener.getsockname()[1]
            self.telemetry.service.reached_at(self._proxies.public_url or f"http://localhost:{port}")
            config = uvicorn.Config(
                self._app,
                http=PatientProtocol,
                proxy_headers=False,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_GRACEFUL_S,
            )
            self._server = _Server(config, self._end)
            self._server.run(sockets=[listener])
        if self._problem is not None:
            raise self._problem

    def stop(self) -> None:
        """Stop everything, within ten seconds; what was read and not stored waits in the spool."""
        self._end()
        if self.hub is not None:
            self.hub.stop()
        if self.worker is not None:
            self.worker.stop()
        self._engines.ending.set()
        if self._starter.is_alive():
            self._starter.join(_STARTER_S)
        self._engines.dispose()


class _Server(uvicorn.Server):
    """A server that says at once when it is asked to stop, not only after the last answer.

    It sleeps until then; uvicorn's own looks ten times a second whether it is asked, which is most of what a
    service at rest costs.
    """

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        self._must_exit = False
        self._wake: Callable[[], object] = lambda: None
        super().__init__(config)
        self._on_exit = on_exit

    @property
    def should_exit(self) -> bool:
        """Whether it is asked to stop; any thread may ask."""
        return self._must_exit

    @should_exit.setter
    def should_exit(self, must: bool) -> None:
        self._must_exit = must
        with suppress(RuntimeError):  # its loop has ended
            self._wake()

    async def main_loop(self) -> None:
        """Renew the date that answers bear, until asked to stop."""
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, asked.set)
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), _TICK_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal."""
        self._on_exit()
        super().handle_exit(sig, frame)
