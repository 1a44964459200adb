"""A dropped reading is counted once

Revision: 0010, after 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEX = """
CREATE UNIQUE INDEX dropped_readings_once ON dropped_readings (collector, reason, md5(detail::text))
    WHERE detail ? 'reading';
COMMENT ON INDEX dropped_readings_once IS 'A batch that comes again counts no reading again';
"""


def upgrade() -> None:
    """Add the index."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(INDEX)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX dropped_readings_once")
