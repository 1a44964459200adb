"""15-minute figures in partitions of a quarter-year where they are no hypertables

Revision: 0012, after 0011
"""

import numpy as np
import sqlalchemy as sa
from alembic import op

from app.store import partitions, timescale

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

WORK = {
    "energy_15m": "rewritten",
    "volume_15m": "rewritten",
    "gauge_15m": "rewritten",
    "site_15m": "rewritten",
}
"""What takes time, by table; for ``wattline db upgrade --check``."""

VIEWS = sa.text(
    """
    SELECT DISTINCT v.oid::regclass::text, pg_get_viewdef(v.oid)
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refobjid = to_regclass(:table) AND d.classid = 'pg_rewrite'::regclass AND v.relkind = 'v'
    """
)
INDEXES = sa.text(
    "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = to_regclass(:table) ORDER BY 1"
)
COMMENTS = sa.text(
    """
    SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a
    WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped
      AND col_description(a.attrelid, a.attnum) IS NOT NULL
    """
)
GRANTS = sa.text(
    "SELECT DISTINCT grantee, privilege_type FROM information_schema.role_table_grants"
    " WHERE table_schema = 'public' AND table_name = :table AND grantee <> current_user"
)
PLAIN = "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(:table)"
DAYS = "SELECT DISTINCT (extract(epoch FROM date_trunc('day', at)) * 1000000)::bigint FROM {}"


def _partition(connection: sa.Connection, table: str) -> None:
    """Put a partitioned table in the place of a plain one, with its rows, views, comments and grants."""
    named = {"table": table}
    views = connection.execute(VIEWS, named).all()
    indexes = connection.execute(INDEXES, named).scalars().all()
    comments = connection.execute(COMMENTS, named).all()
    grants = connection.execute(GRANTS, named).all()
    about = connection.execute(sa.text("SELECT obj_description(to_regclass(:table))"), named).scalar()
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_plain")
    for index in indexes:
        op.execute(f"ALTER INDEX {index} RENAME TO {index}_plain")
    op.execute(f"CREATE TABLE {table} (LIKE {table}_plain INCLUDING DEFAULTS) PARTITION BY RANGE (at)")
    key = "site_id, room, at" if table == "site_15m" else "point_id, at"
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({key})")
    if f"{table}_at" in indexes:
        op.execute(f"CREATE INDEX {table}_at ON {table} (at)")
    days_us = connection.execute(sa.text(DAYS.format(f"{table}_plain"))).scalars().all()
    partitions.ensure_figures(connection, table, np.array(days_us, np.int64))
    op.execute(f"INSERT INTO {table} SELECT * FROM {table}_plain")  # noqa: S608
    for name, definition in views:
        op.execute(f"CREATE OR REPLACE VIEW {name} AS {definition}")
    op.execute(f"DROP TABLE {table}_plain")
    quoted = connection.dialect.identifier_preparer.quote
    for name, privilege in grants:
        op.execute(f"GRANT {privilege} ON {table} TO {quoted(name) if name != 'PUBLIC' else name}")
    _comment(f"TABLE {table}", about)
    for column, words in comments:
        _comment(f"COLUMN {table}.{column}", words)


def _comment(what: str, words: str | None) -> None:
    if words:
        op.execute(
            sa.text(f"COMMENT ON {what} IS :words").bindparams(
                sa.bindparam("words", words, literal_execute=True)
            )
        )


def upgrade() -> None:
    """Partition each of the tables that TimescaleDB has not taken."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = 0")
    connection = op.get_bind()
    for table in partitions.QUARTERLY:
        plain = connection.execute(sa.text(PLAIN), {"table": table}).scalar()
        if plain and not timescale.is_hypertable(connection, table):
            _partition(connection, table)


def downgrade() -> None:
    """Partitions stay: the version before reads and writes them, as far as they were made ahead."""
