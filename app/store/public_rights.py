"""What PostgreSQL lets everybody do, and nobody but we should: taken from PUBLIC.

Advisory locks fill the server's table of locks, large objects break backups, jobs of TimescaleDB run SQL,
logical messages fill the write-ahead log.
The functions belong to a superuser; where we are none, they stay, and :func:`left` names them.
"""

from __future__ import annotations

import sqlalchemy as sa

_OURS_ALONE = """
    SELECT p.oid::regprocedure::text AS name FROM pg_proc p
    WHERE (
        p.pronamespace = 'pg_catalog'::regnamespace
        AND (
            p.proname ~ '^(pg_(try_)?advisory_|lo_)'
            OR p.proname IN ('loread', 'lowrite', 'pg_logical_emit_message')
        )
    ) OR (
        p.proname ~ '(job|policy|policies)'
        AND EXISTS (
            SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
            WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND e.extname = 'timescaledb'
        )
    )
"""

REVOKE = f"""
DO $$
DECLARE one text;
BEGIN
    EXECUTE 'REVOKE TEMPORARY ON DATABASE ' || quote_ident(current_database()) || ' FROM PUBLIC';
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    FOR one IN SELECT name FROM ({_OURS_ALONE}) AS ours
        WHERE has_function_privilege('public', name, 'EXECUTE')
    LOOP
        EXECUTE 'REVOKE EXECUTE ON ROUTINE ' || one || ' FROM PUBLIC';
        EXECUTE 'GRANT EXECUTE ON ROUTINE ' || one || ' TO CURRENT_USER';
    END LOOP;
END $$
"""  # noqa: S608 - no value from outside
"""One statement that takes them, as far as who runs it may."""

_LEFT = sa.text(
    f"""
    SELECT name FROM ({_OURS_ALONE}) AS ours WHERE has_function_privilege(:role, name, 'EXECUTE')
    UNION ALL SELECT 'TEMPORARY' WHERE has_database_privilege(:role, current_database(), 'TEMPORARY')
    UNION ALL SELECT 'CREATE' WHERE has_schema_privilege(:role, 'public', 'CREATE')
    ORDER BY 1
    """  # noqa: S608 - no value from outside
)


def revoke(connection: sa.Connection) -> None:
    """Take from PUBLIC what no reader needs, as far as we may."""
    connection.exec_driver_sql(REVOKE)


def grant(connection: sa.Connection, role: str) -> None:
    """Give the service's own role what it needs of it: the compression jobs of TimescaleDB."""
    names = connection.execute(sa.text(_OURS_ALONE)).scalars().all()
    for name in names:
        if not name.startswith(("pg_", "lo_", "loread", "lowrite")):
            quoted = connection.dialect.identifier_preparer.quote(role)
            connection.exec_driver_sql(f"GRANT EXECUTE ON ROUTINE {name} TO {quoted}")


def left(connection: sa.Connection, role: str) -> list[str]:
    """What a role may still do of it."""
    return list(connection.execute(_LEFT, {"role": role}).scalars())
