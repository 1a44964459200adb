"""Readings in native partitions have one index: their key by point, then time

Revision: 0038, after 0037

Before, the key was by time and a second index by point. The new key's index is made week by week, each in a
transaction of its own, so an upgrade that is interrupted keeps the weeks that are done; until the keys are
exchanged, which takes no time, everything is as it was. A hypertable keeps its key.
"""

import logging

import sqlalchemy as sa
from alembic import op

from app.store.engine import begin, unhurried

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

WORK = {"readings": "rekeyed"}
"""What takes time, by table; for ``wattline db upgrade --check``."""

_log = logging.getLogger(__name__)

IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('readings')"
WEEKS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('readings') ORDER BY c.relname
"""
PATIENCE = "SET LOCAL lock_timeout = '5s'"
LONG = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
MAKE = "CREATE UNIQUE INDEX IF NOT EXISTS {week}_key ON {week} (point_id, at)"
USE = "ALTER TABLE {week} ADD CONSTRAINT {week}_pkey PRIMARY KEY USING INDEX {week}_key"


def _weeks() -> list[str]:
    return list(op.get_bind().execute(sa.text(WEEKS)).scalars())


def _make_beforehand() -> None:
    """Make the new index of each week; writers of that week wait meanwhile."""
    weeks = _weeks()
    for number, week in enumerate(weeks, 1):
        _log.info("the new key of readings: %d of %d weeks", number, len(weeks))
        with begin(op.get_bind().engine) as connection, unhurried(connection):
            connection.exec_driver_sql(PATIENCE)
            connection.exec_driver_sql(MAKE.format(week=week))


def upgrade() -> None:
    """Make the new index of each week, then exchange the keys of all of them at once."""
    if not op.get_bind().execute(sa.text(IS_PARTITIONED)).scalar():
        return
    op.execute(LONG)
    op.execute(PATIENCE)
    _make_beforehand()
    op.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
    weeks = _weeks()
    for week in weeks:  # some may have come meanwhile
        op.execute(MAKE.format(week=week))
    op.execute("ALTER TABLE readings DROP CONSTRAINT readings_pkey")
    for week in weeks:
        op.execute(USE.format(week=week))
    op.execute("ALTER TABLE readings ADD CONSTRAINT readings_pkey PRIMARY KEY (point_id, at)")
    op.execute("DROP INDEX readings_point_id_at")


def downgrade() -> None:
    """Have both indexes again; all weeks are locked meanwhile."""
    if not op.get_bind().execute(sa.text(IS_PARTITIONED)).scalar():
        return
    op.execute(LONG)
    op.execute(PATIENCE)
    op.execute("ALTER TABLE readings DROP CONSTRAINT readings_pkey")
    op.execute("ALTER TABLE readings ADD CONSTRAINT readings_pkey PRIMARY KEY (at, point_id)")
    op.execute("CREATE INDEX readings_point_id_at ON readings (point_id, at)")
