"""What the site file says about the deployment as a whole

Revision: 0003, after 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """
        CREATE TABLE deployment (
            key text PRIMARY KEY,
            value jsonb NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE deployment IS 'Sections of the site file that belong to no single site';
        """
    )


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE deployment")
