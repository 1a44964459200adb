"""Sessions of browsers: of which key they are, and when they were last used

Revision: 0023, after 0022
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        """
        ALTER TABLE api_keys ADD COLUMN parent text NOT NULL DEFAULT '';
        ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;
        COMMENT ON COLUMN api_keys.parent IS 'Key that a session was begun with; it ends with that';
        COMMENT ON COLUMN api_keys.last_used_at IS 'When a session was last used, to the minute';
        """
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE api_keys DROP COLUMN parent, DROP COLUMN last_used_at")
