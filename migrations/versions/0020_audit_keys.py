"""Audit entries are signed with a key outside the database; old ones go through a function alone

Revision: 0020, after 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

FORGET = """
CREATE FUNCTION audit_forget(before timestamptz, OUT entries bigint, OUT last_seq bigint, OUT last_hash text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    cut timestamptz := least(before, now() - interval '180 days');
    first_kept bigint;
BEGIN
    SELECT min(seq) INTO first_kept FROM audit WHERE at >= cut;
    SELECT a.seq, a.hash INTO last_seq, last_hash FROM audit a
        WHERE first_kept IS NULL OR a.seq < first_kept ORDER BY a.seq DESC LIMIT 1;
    DELETE FROM audit a WHERE a.seq <= last_seq;
    GET DIAGNOSTICS entries = ROW_COUNT;
END $$;
COMMENT ON FUNCTION audit_forget IS 'Removes the oldest entries, never any younger than 180 days';
REVOKE EXECUTE ON FUNCTION audit_forget FROM PUBLIC;
"""


def upgrade() -> None:
    """Add the column and the function."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE audit ADD COLUMN key_id text NOT NULL DEFAULT ''")
    op.execute("COMMENT ON COLUMN audit.key_id IS 'Name of the key that signed the hash; empty: not signed'")
    op.execute("COMMENT ON COLUMN audit.hash IS 'HMAC-SHA-256 over this entry and previous_hash'")
    op.execute(FORGET)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP FUNCTION audit_forget")
    op.execute("ALTER TABLE audit DROP COLUMN key_id")
