"""Meters that wait to be looked at, without a reference to their meter

Revision: 0022, after 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the reference: with it every entry locks, and so writes, the row of its meter."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE check_queue DROP CONSTRAINT check_queue_meter_id_fkey")


def downgrade() -> None:
    """Add it again."""
    op.execute("DELETE FROM check_queue WHERE meter_id NOT IN (SELECT id FROM meters)")
    op.execute(
        "ALTER TABLE check_queue ADD CONSTRAINT check_queue_meter_id_fkey"
        " FOREIGN KEY (meter_id) REFERENCES meters (id)"
    )
