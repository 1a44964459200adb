"""Readings that were sent, counted by caller and hour until they stand in the audit log

Revision: 0016, after 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE reading_receipts (
    actor text NOT NULL,
    source text NOT NULL,
    key text NOT NULL,
    target text NOT NULL,
    hour timestamptz NOT NULL,
    batches bigint NOT NULL,
    accepted bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    digest numeric NOT NULL,
    PRIMARY KEY (actor, source, key, target, hour)
) WITH (fillfactor = 50);
COMMENT ON TABLE reading_receipts IS 'Batches of readings by caller and hour, until the audit log has them';
COMMENT ON COLUMN reading_receipts.target IS 'Sites of the readings';
COMMENT ON COLUMN reading_receipts.digest IS 'Sum of the SHA-256 of the batches, modulo 2^256';
"""


def upgrade() -> None:
    """Add the table."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLE)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE reading_receipts")
