"""The versions of the server at hand, against those that are supported (:mod:`app.store.supported`)."""

from __future__ import annotations

import sqlalchemy as sa

from app.errors import ConfigError
from app.store import timescale
from app.store.engine import driver
from app.store.supported import Server, parse


def of(connection: sa.Connection) -> Server:
    """Versions of the server behind a connection; TimescaleDB's where our tables are, or will be, in it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    number = driver(connection).info.server_version
    extension = timescale.version(connection)
    exists = connection.execute(sa.text("SELECT to_regclass('readings')")).scalar() is not None
    used = extension is not None and (not exists or timescale.is_hypertable(connection, "readings"))
    return Server(divmod(number, 10_000), parse(extension) if extension and used else None)


def check(connection: sa.Connection) -> Server:
    """The same, of a server that Wattline can work with.

    Raises
    ------
    ConfigError
        If it is too old.
    StoreUnavailable
        If the database is away.
    """
    found = of(connection)
    if found.problem is not None:
        raise ConfigError(found.problem, key="WATTLINE_DATABASE_URL")
    return found
