"""Keys that need a client certificate

Revision: 0028, after 0027
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        """
        ALTER TABLE api_keys ADD COLUMN certificate_sha256 text NOT NULL DEFAULT '';
        COMMENT ON COLUMN api_keys.certificate_sha256 IS
            'SHA-256 of the client certificate without which the key opens nothing; empty: none is needed';
        """
    )


def downgrade() -> None:
    """Drop it; a key that needed a certificate opens nothing then."""
    op.execute(
        "UPDATE api_keys SET revoked_at = now(), revoked_by = 'downgrade' WHERE certificate_sha256 <> ''"
    )
    op.execute("ALTER TABLE api_keys DROP COLUMN certificate_sha256")
