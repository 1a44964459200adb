"""A database that is made for a moment and dropped again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import conninfo, sql

from app.errors import ConfigError
from app.store.engine import connect_parameters, store_errors


@contextmanager
def database(server_url: str, name: str) -> Iterator[str]:
    """A new database on a server, as its connection text; dropped at the end of the block.

    Raises
    ------
    ConfigError
        If the user may not make one.
    StoreUnavailable
        If the server is away.
    """
    given = connect_parameters(server_url, "wattline check")
    try:
        _run(given, "CREATE DATABASE {}", name)
    except psycopg.errors.InsufficientPrivilege as error:
        user = sql.Identifier(str(given.get("user", ""))).as_string()
        raise ConfigError(
            f"user {user} may not make a database for the check; have a superuser run "
            f"ALTER ROLE {user} CREATEDB; or name one in WATTLINE_DATABASE_OWNER_URL"
        ) from error
    try:
        yield conninfo.make_conninfo(**{**given, "dbname": name})
    finally:
        _run(given, "DROP DATABASE {} WITH (FORCE)", name)


def _run(given: dict[str, object], statement: str, name: str) -> None:
    with store_errors(), psycopg.connect(**given, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)).as_bytes(connection))
