"""The furthest value of an alarm, beside that of its highest severity

Revision: 0021, after 0020
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

WORK = {"alarms": "updated"}
"""What takes time, by table; for ``wattline db upgrade --check``."""


def upgrade() -> None:
    """Add the columns; of alarms of before the furthest value that a transition kept is taken."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE alarms ADD COLUMN worst_value double precision, ADD COLUMN worst_at timestamptz")
    op.execute("COMMENT ON COLUMN alarms.worst_value IS 'Furthest value since the breach began'")
    op.execute(
        """
        UPDATE alarms a SET worst_value = t.value, worst_at = t.at FROM (
            SELECT DISTINCT ON (s.alarm_id) s.alarm_id, s.value, s.at
            FROM alarm_transitions s WHERE s.value IS NOT NULL AND s.threshold IS NOT NULL
            ORDER BY s.alarm_id, abs(s.value - s.threshold) DESC
        ) t WHERE t.alarm_id = a.id
        """
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE alarms DROP COLUMN worst_value, DROP COLUMN worst_at")
