"""The role for Grafana and BI: it may select from the views and do nothing else.

PostgreSQL lets every role change its own settings and password, and go beyond its time limits. So a job
looks (:func:`guard`): sessions beyond the limits are ended, and what was changed is set back.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from app.store import deployment, public_rights
from app.store.engine import begin, driver

ROLE = "wattline_reader"
STATEMENT_TIMEOUT_S = 30
TRANSACTION_TIMEOUT_S = 60
CONNECTION_LIMIT = 20
GRACE_S = 5
"""So much longer than the server's own limits, which a well-behaved session meets first. [s]"""

_SETTINGS = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": f"{TRANSACTION_TIMEOUT_S}s",
    "lock_timeout": "5s",
    "timezone": "UTC",
}
_VERIFIER = "reader_verifier"


def ensure_reader(engine: sa.Engine, password: str, role: str = ROLE) -> list[str]:
    """Create or refresh the reading role; safe to run at every start.

    Parameters
    ----------
    engine : Engine
        Of a user who may create roles.
    password : str
    role : str
        Name of the role; one name serves one database.

    Returns
    -------
    list of str
        What it may do beyond reading, because only a superuser could take that from everybody.

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
        attributes = "ALTER ROLE {} LOGIN NOINHERIT CONNECTION LIMIT {}"
        raw.execute(sql.SQL(attributes).format(name, sql.Literal(CONNECTION_LIMIT)))
        verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        deployment.save(connection, _VERIFIER, verifier)
        _set_back(connection, role, verifier)
        _see_sessions(connection, role)
        grant_views(connection, role)
        public_rights.revoke(connection)
        return public_rights.left(connection, role)


def _set_back(connection: sa.Connection, role: str, verifier: str) -> None:
    """Give the role its password and limits, and nothing else."""
    raw, name = driver(connection), sql.Identifier(role)
    raw.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(verifier)))
    raw.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(name))
    own = sql.Identifier(raw.info.dbname)
    raw.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(name, own))
    for key, value in _SETTINGS.items():
        assign = sql.SQL("ALTER ROLE {} SET {} = {}")
        raw.execute(assign.format(name, sql.Identifier(key), sql.Literal(value)))


def _see_sessions(connection: sa.Connection, role: str) -> None:
    """Members of a role see its sessions and may end them."""
    raw = driver(connection)
    if raw.execute("SELECT pg_has_role(%s, 'USAGE')", (role,)).fetchone() != (True,):
        raw.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))


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


# -- the guard ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guarded:
    """What one look at the role found."""

    ended: int = 0
    """Sessions beyond the limits, which were ended."""
    was_changed: bool = False
    """Whether its settings were others; they are set back."""


_END = sa.text(
    """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename = :role AND datname = current_database() AND (
        (state = 'active' AND query_start < now() - :statement_s * interval '1 s')
        OR xact_start < now() - :transaction_s * interval '1 s'
    )
    """
)
_SETTINGS_NOW = sa.text(
    """
    SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
    WHERE r.rolname = :role
    """
)
"""For every database and for this one."""


def guard(engine: sa.Engine, role: str = ROLE) -> Guarded:
    """End sessions of the role that are beyond its limits; set back settings that it changed.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    longest_s = {"statement_s": STATEMENT_TIMEOUT_S, "transaction_s": TRANSACTION_TIMEOUT_S}
    beyond_s = {name: limit_s + GRACE_S for name, limit_s in longest_s.items()}
    with begin(engine) as connection:
        verifier = _verifier(connection, role)
        if verifier is None:
            return Guarded()
        ended = connection.execute(_END, {"role": role, **beyond_s}).scalar_one()
        was_changed = _is_changed(connection, role)
        if was_changed:
            _set_back(connection, role, verifier)
        return Guarded(ended, was_changed)


def set_back_password(engine: sa.Engine, role: str = ROLE) -> None:
    """Give the role its password again: it may have changed it, which nobody can see.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        verifier = _verifier(connection, role)
        if verifier is not None:
            _set_back(connection, role, verifier)


def _verifier(connection: sa.Connection, role: str) -> str | None:
    """What the role's password is checked with; None where it is not ours to look after."""
    exists = connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    found: str | None = deployment.load(connection, _VERIFIER) if exists.first() else None
    return found


def _is_changed(connection: sa.Connection, role: str) -> bool:
    found = connection.execute(_SETTINGS_NOW, {"role": role}).scalars()
    wanted = {f"{key}={value}".lower() for key, value in _SETTINGS.items()}
    return {text.lower() for text in found} != wanted
