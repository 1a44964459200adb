"""The role for Grafana and BI: it may select from the views and do nothing else."""

from __future__ import annotations

import sqlalchemy as sa
from psycopg import sql

from app.store.engine import begin, driver

ROLE = "wattline_reader"
STATEMENT_TIMEOUT_S = 30
CONNECTION_LIMIT = 20

_LIMITS = (
    f"ALTER ROLE {{role}} SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'",
    "ALTER ROLE {role} SET default_transaction_read_only = on",
    "ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s'",
    "ALTER ROLE {role} SET lock_timeout = '5s'",
    "ALTER ROLE {role} SET timezone = 'UTC'",
)


def ensure_reader(engine: sa.Engine, password: str, role: str = ROLE) -> None:
    """Create or refresh the reading role; safe to run at every start.

    Parameters
    ----------
    engine : Engine
        Of a user who may create roles.
    password : str
    role : str
        Name of the role; one name serves one database.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    sqlalchemy.exc.ProgrammingError
        If the user may not create roles; an administrator must create the role first.
    """
    name = sql.Identifier(role)
    with begin(engine) as connection:
        raw = driver(connection)
        if raw.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
            raw.execute(sql.SQL("CREATE ROLE {}").format(name))
        verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        attributes = "ALTER ROLE {} LOGIN NOINHERIT CONNECTION LIMIT {} PASSWORD {}"
        raw.execute(sql.SQL(attributes).format(name, sql.Literal(CONNECTION_LIMIT), sql.Literal(verifier)))
        for statement in _LIMITS:
            raw.execute(sql.SQL(statement).format(role=name))
        grant_views(connection, role)


def grant_views(connection: sa.Connection, role: str = ROLE) -> None:
    """Let the role select from every view, and from nothing else."""
    name = sql.Identifier(role)
    raw = driver(connection)
    raw.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
    raw.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
    for view in views(connection):
        raw.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(view), name))


def views(connection: sa.Connection) -> list[str]:
    """Names of the views that are made for readers."""
    query = "SELECT viewname FROM pg_views WHERE schemaname = 'public' AND viewname LIKE 'v\\_%' ORDER BY 1"
    return list(connection.execute(sa.text(query)).scalars())
