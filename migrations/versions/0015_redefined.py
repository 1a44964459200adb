"""Stretches of time that wait because a definition changed

Revision: 0015, after 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

WORK = {"rollup_queue": "indexed"}
"""What takes time, by table; for ``wattline db upgrade --check``."""

COLUMN = """
ALTER TABLE rollup_queue ADD COLUMN redefined boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN rollup_queue.redefined IS 'A definition changed; its figures are not to be shown';
CREATE INDEX rollup_queue_redefined ON rollup_queue (point_id) WHERE redefined;
"""


def upgrade() -> None:
    """Add the mark, and an index on the few that bear it."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(COLUMN)


def downgrade() -> None:
    """Drop both."""
    op.execute("ALTER TABLE rollup_queue DROP COLUMN redefined")
