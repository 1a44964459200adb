"""Find the database and the fleet: what almost every command begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.actions import site_file as site_files
from app.actions.view import View
from app.cli.actor import actor, principal, source
from app.cli.console import say
from app.cli.environment import settings, site_file
from app.cli.owner import forget_gone, owner_of
from app.config import Settings, SiteFile
from app.domain.site import Site
from app.errors import NotFound
from app.store import migrate, roles, rollup_queue, site_sources, sites
from app.store.embedded.server import EmbeddedServer
from app.store.engine import Connection, Engine, Url, begin, connect, make_engine, wait_until_up
from app.store.migrate import Status
from app.store.retention import Retention
from app.store.site_moves import elsewhere
from app.store.sites import Stored

WORK_TIMEOUT_S = 3600.0
"""Longest statement of a command; imports and rollups take their time. [s]"""
_COMMAND_WAIT_S = 30.0
_NAMED = 100
"""So many points a change is said to touch; there may be thousands."""


def kept(environment: Settings) -> Retention:
    """How long each kind of data is kept."""
    return Retention(
        environment.retention_readings_days, environment.retention_intervals_days, environment.late_days
    )


@dataclass(frozen=True)
class Located:
    """Where the database is, and how its owner gets there."""

    url: Url
    owner_url: Url | None = None
    """None: the service's own role is the owner."""

    @property
    def widest(self) -> Url:
        """As the owner, where there is one: for what touches every table."""
        return self.owner_url or self.url

    def shape(self) -> Status:
        """Bring the database into the current shape as its owner, and hand it over to the service's role.

        Raises
        ------
        ConfigError
            If the database was made by a newer version.
        StoreUnavailable
            If it is away.
        """
        with engine_at(self.widest) as engine:
            status = migrate.upgrade(engine)
            if self.owner_url is not None:
                roles.hand_over(engine, self.url if isinstance(self.url, str) else self.url())
            return status

    def shape_if_needed(self, engine: Engine) -> None:
        """The same where anything is to be done; `engine` is that of the service's role.

        Raises
        ------
        ConfigError
            If the database was made by a newer version, or only its owner can bring it into shape.
        StoreUnavailable
            If it is away.
        """
        if self.owner_url is not None and not migrate.status(engine).up_to_date:
            self.shape()
        migrate.upgrade(engine)


@contextmanager
def located(environment: Settings) -> Iterator[Located]:
    """Where the database is; an embedded one runs as long as the block, or as another process needs it."""
    url = environment.url()
    if url is not None:
        yield Located(url, environment.owner_url())
        return
    server = EmbeddedServer(environment.data_dir, bin_dir=environment.postgres_bin)
    if not (environment.data_dir / "postgres.json").exists():
        say(f"making a database in {environment.data_dir}")
    with server:
        yield Located(lambda: server.url, lambda: server.owner_url)


@contextmanager
def engine_at(url: Url, *, name: str = "wattline-cli") -> Iterator[Engine]:
    """An engine on a database that answers."""
    engine = make_engine(url, application_name=name, statement_timeout_s=WORK_TIMEOUT_S)
    try:
        wait_until_up(engine, _COMMAND_WAIT_S, say)
        yield engine
    finally:
        engine.dispose()


def has_database() -> bool:
    """Whether the environment names a database, or there is an embedded one already."""
    environment = settings()
    return environment.url() is not None or (environment.data_dir / "postgres.json").exists()


@contextmanager
def database() -> Iterator[Engine]:
    """The database of the environment, as it is: not migrated."""
    with located(settings()) as place, engine_at(place.url) as engine:
        yield engine


@dataclass(frozen=True)
class Opened:
    """The database in its current shape, and what it says is measured."""

    engine: Engine
    stored: Stored

    @contextmanager
    def write(self) -> Iterator[View]:
        """What an action begins with: committed at the end of the block, rolled back if it raises."""
        with begin(self.engine) as connection:
            yield self._view(connection)

    @contextmanager
    def read(self) -> Iterator[View]:
        """The same for what only looks."""
        with connect(self.engine) as connection:
            yield self._view(connection)

    def _view(self, connection: Connection) -> View:
        now = datetime.now(UTC)
        return View(connection, self.stored, principal(connection, now), source(), now)

    def site(self, site_id: str) -> Site:
        """The site of that id.

        Raises
        ------
        NotFound
            If there is none; the text names those that there are.
        SiteMoved
            If another cell has it.
        """
        site = self.stored.fleet.site.get(site_id)
        if site is None and site_id in self.stored.moved:
            raise elsewhere(self.stored.moved[site_id])
        if site is None:
            known = ", ".join(self.stored.fleet.site) or "none; give a site file with --config"
            raise NotFound(f"there is no site {site_id!r}; known are {known}")
        return site


@contextmanager
def opened(config_path: Path | None = None) -> Iterator[Opened]:
    """The database of the environment, migrated, with the site file's fleet where one is given."""
    environment = settings()
    file = site_file(config_path, environment)
    with ExitStack() as stack:
        place = stack.enter_context(located(environment))
        engine = stack.enter_context(engine_at(place.url))
        place.shape_if_needed(engine)
        stored = synchronised(engine, file, owner_of(environment, config_path))
        _recompute(engine)
        yield Opened(engine, stored)


def _recompute(engine: Engine) -> None:
    """Compute again what definitions changed, so that no command shows old figures; or say that it waits."""
    with connect(engine) as connection:
        waiting = rollup_queue.count_redefined(connection)
    if not waiting:
        return
    from app.jobs import rollup  # heavy, and rarely needed

    say(f"definitions changed, {waiting} stretches are recomputed")
    if rollup.run(engine).busy:
        say("another process is at it; what is not computed yet is not shown")


def synchronised(engine: Engine, file: SiteFile | None, owner: str = "") -> Stored:
    """Make the database say what the site file says, if there is one; what it says then.

    Raises
    ------
    ConfigError
        If the file declares what another file's site has.
    """
    if file is not None:
        with begin(engine) as connection:
            forget_gone(connection, owner)
            site_sources.take_over(connection, site_files.IN_DATABASE, file.fleet)
            synced = site_files.bring(connection, file, owner, actor())
            if synced.retired_points:
                _say_retired(synced.retired_points)
            for move in synced.moved_sites:
                say(f"site {move.site} moved to cell {move.cell}; take it out of the site file here")
            if synced.kept_sites:
                say(f"another site file describes these, so they stay: {', '.join(synced.kept_sites)}")
    with connect(engine) as connection:
        return sites.load(connection)


def _say_retired(points: Sequence[str]) -> None:
    named = ", ".join(points[:_NAMED])
    say(f"no longer declared: {named}; their history stays. Of a point that was renamed the new one says")
    say(f"formerly: [{points[0]}]; a meter that was taken away stays in the file with valid_to")
