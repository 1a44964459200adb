"""Bring the database to the shape this version of Wattline needs, one process at a time.

Every command looks whether there is something to do; Alembic is imported only where there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from app.errors import ConfigError
from app.store import compression, locks, partitions, timescale, versions
from app.store.engine import store_errors, unhurried
from app.store.retention import Retention

_SCRIPTS = Path(__file__).parents[2] / "migrations"


@dataclass(frozen=True, slots=True)
class Status:
    """Where the database stands against this version of Wattline."""

    current: str | None
    """Revision of the database; None where it is empty."""
    head: str
    """Revision this version needs."""
    known: bool
    """Whether this version knows `current`; if not, the database is newer."""

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is to be done."""
        return self.current == self.head


def status(engine: sa.Engine) -> Status:
    """Compare the database with this version.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors(), engine.connect() as connection:
        return current_status(connection)


def upgrade(engine: sa.Engine, revision: str = "head") -> Status:
    """Run the missing migrations up to `revision`; a second process waits until the first is done.

    Raises
    ------
    ConfigError
        If the database was made by a newer version, or the server is too old.
    StoreUnavailable
        If the database is away, or another session holds a table for too long; run it again.
    """
    with store_errors(), engine.connect() as gate, engine.connect() as connection:
        versions.check(gate)
        locks.ensure(gate)
        with unhurried(gate):
            gate.exec_driver_sql("SET LOCAL lock_timeout = 0")
            gate.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            locks.hold(gate, locks.MIGRATION)
            return _upgrade_locked(connection, revision)


def _upgrade_locked(connection: sa.Connection, revision: str) -> Status:
    found = current_status(connection)
    if not found.known:
        raise ConfigError(newer(found), key="WATTLINE_DATABASE_URL")
    connection.rollback()
    if not found.up_to_date:
        with unhurried(connection):
            connection.rollback()
            _run(connection, revision)
    _make_ready(connection)
    return current_status(connection)


def newer(found: Status) -> str:
    """What to say of a database that a newer version made."""
    return (
        f"the database is at revision {found.current}, made by a newer version of Wattline; "
        f"this one ends at {found.head}: install the newer version or restore a backup"
    )


def _make_ready(connection: sa.Connection) -> None:
    now = connection.execute(sa.text("SELECT now()")).scalar_one()
    partitions.ensure_ahead(connection, now)
    if timescale.is_hypertable(connection, "readings"):
        compression.ensure_policies(connection, Retention().compressed_after())
    connection.commit()


@cache
def revisions() -> tuple[str, ...]:
    """Revisions of this version, oldest first: the numbers with which its migration files begin."""
    return tuple(sorted(path.name.partition("_")[0] for path in (_SCRIPTS / "versions").glob("[0-9]*_*.py")))


def script_of(revision: str) -> Path:
    """The migration's file."""
    return next((_SCRIPTS / "versions").glob(f"{revision}_*.py"))


def head() -> str:
    """Revision that this version needs."""
    return revisions()[-1]


def current_status(connection: sa.Connection) -> Status:
    """Like :func:`status`, on an open connection."""
    current = _current(connection)
    return Status(current, head(), current is None or current in revisions())


def _current(connection: sa.Connection) -> str | None:
    if connection.execute(sa.text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _run(connection: sa.Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, revision)
