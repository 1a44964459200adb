"""Meters whose readings changed and have to be looked at again for findings

Revision: 0004, after 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """
        CREATE TABLE check_queue (
            meter_id int PRIMARY KEY REFERENCES meters,
            start_at timestamptz NOT NULL,
            end_at timestamptz NOT NULL
        );
        COMMENT ON TABLE check_queue IS 'Meters to look at for findings, with the time that changed';
        """
    )


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE check_queue")
