"""Findings that stand, by point: asked for at every look at new readings

Revision: 0013, after 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WORK = {"findings": "indexed"}
"""What takes time, by table; for ``wattline db upgrade --check``."""


def upgrade() -> None:
    """Add the index."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("CREATE INDEX findings_standing ON findings (point_id, end_at) WHERE state <> 'cleared'")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX findings_standing")
