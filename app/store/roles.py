"""Two roles: the owner migrates, the service's role works, and the audit log belongs to the owner.

The service's role owns every other table (it makes and drops partitions), but neither the database nor the
schema: so it can add to the audit log and read it, and cannot change, empty, drop or disarm it.
"""

from __future__ import annotations

from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from app.errors import ConfigError
from app.store import public_rights
from app.store.engine import begin, connect, connect_parameters, driver

_KEPT = ("audit", "alembic_version")
_FUNCTIONS = ("audit_forget", "audit_is_append_only")
_SINCE_16 = 160_000
"""From this version on CREATEROLE reaches only roles that were made with it."""

_TO_HAND_OVER = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
      AND c.relname <> ALL(%s) AND pg_get_userbyid(c.relowner) <> %s
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relispartition, c.relname
"""
_TO_KEEP = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%s)
      AND pg_get_userbyid(c.relowner) <> current_user
"""
_FUNCTIONS_TO_KEEP = """
    SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY(%s)
      AND pg_get_userbyid(p.proowner) <> current_user
"""


def owns_the_audit_log(engine: sa.Engine) -> bool:
    """Whether the role of an engine could disarm the audit log: it, or a role it belongs to, owns it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = """
        SELECT coalesce(bool_or(pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE')), false)
        FROM pg_class c, pg_database d
        WHERE c.oid = to_regclass('audit') AND d.datname = current_database()
    """
    with connect(engine) as connection:
        return bool(connection.execute(sa.text(query)).scalar())


def hand_over(owner: sa.Engine, url: str) -> None:
    """Make the service's role where it is missing, and give it what it works with; safe to repeat.

    Parameters
    ----------
    owner : Engine
        As the owner, on a migrated database.
    url : str
        As the service connects, with user and password.

    Raises
    ------
    ConfigError
        If both are the same role, or `url` names no user.
    StoreUnavailable
        If the database is away.
    """
    given = connect_parameters(url)
    role = str(given.get("user", ""))
    with begin(owner) as connection:
        raw = driver(connection)
        if not role or raw.execute("SELECT current_user = %s", (role,)).fetchone() == (True,):
            raise ConfigError(
                "has to name another role than WATTLINE_DATABASE_OWNER_URL", key="WATTLINE_DATABASE_URL"
            )
        _make_role(raw, role, str(given.get("password", "")))
        _keep(raw)
        _give(raw, role)
        public_rights.revoke(connection)
        public_rights.grant(connection, role)


def _make_role(raw: psycopg.Connection[Any], role: str, password: str) -> None:
    name = sql.Identifier(role)
    if raw.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
        verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        more = sql.SQL("CREATEROLE" if raw.info.server_version >= _SINCE_16 else "NOCREATEROLE")
        raw.execute(sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(name, more, sql.Literal(verifier)))
    if raw.execute("SELECT pg_has_role(%s, 'USAGE')", (role,)).fetchone() != (True,):
        raw.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))


def _keep(raw: psycopg.Connection[Any]) -> None:
    """Take what is the owner's, where the service's role made it before there were two."""
    for (table,) in raw.execute(_TO_KEEP, (list(_KEPT),)).fetchall():
        raw.execute(sql.SQL("ALTER TABLE {} OWNER TO CURRENT_USER").format(sql.Identifier(table)))
    for (function,) in raw.execute(_FUNCTIONS_TO_KEEP, (list(_FUNCTIONS),)).fetchall():
        raw.execute(f"ALTER FUNCTION {function} OWNER TO CURRENT_USER".encode())
    mine = "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = current_database()"
    if raw.execute(mine).fetchone() != (True,):
        database = sql.Identifier(raw.info.dbname)
        raw.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))


def _give(raw: psycopg.Connection[Any], role: str) -> None:
    name, database = sql.Identifier(role), sql.Identifier(raw.info.dbname)
    raw.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, name))
    raw.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(name))
    for (table,) in raw.execute(_TO_HAND_OVER, (list(_KEPT), role)).fetchall():
        raw.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), name))
    raw.execute(sql.SQL("REVOKE ALL ON audit, alembic_version FROM {}").format(name))
    raw.execute(sql.SQL("GRANT SELECT, INSERT ON audit TO {}").format(name))
    raw.execute(sql.SQL("GRANT SELECT ON alembic_version TO {}").format(name))
    raw.execute(sql.SQL("GRANT EXECUTE ON FUNCTION audit_forget TO {}").format(name))
