"""Corrected exports: ledger entries that correct many readings, both values kept

Revision: 0019, after 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


CORRECTIONS_STAY = """
CREATE FUNCTION corrections_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'corrections are never changed or deleted; withdraw the entry of the ledger';
END $$;
CREATE TRIGGER corrections_stay BEFORE UPDATE OR DELETE ON reading_corrections
    FOR EACH ROW EXECUTE FUNCTION corrections_stay();
"""


def upgrade() -> None:
    """Add the table, and how many readings an entry corrects."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE events ADD COLUMN corrected_readings int NOT NULL DEFAULT 0")
    op.execute(
        "COMMENT ON COLUMN events.corrected_readings IS"
        " 'Readings that the entry corrects, one by one in reading_corrections; 0: it is one event'"
    )
    op.execute(
        """
        CREATE TABLE reading_corrections (
            event_id bigint NOT NULL,
            at timestamptz NOT NULL,
            old_value double precision,
            new_value double precision,
            PRIMARY KEY (event_id, at)
        )
        """
    )
    op.execute(CORRECTIONS_STAY)
    op.execute("CREATE INDEX reading_corrections_at ON reading_corrections (at)")
    op.execute(
        "COMMENT ON TABLE reading_corrections IS"
        " 'Readings that a corrected export states otherwise; they hold while their entry does'"
    )
    op.execute(
        "COMMENT ON COLUMN reading_corrections.old_value IS"
        " 'The value that held before, in the house unit; NULL: it was void'"
    )
    op.execute("COMMENT ON COLUMN reading_corrections.new_value IS 'The corrected value, in the house unit'")


def downgrade() -> None:
    """Withdraw the entries, then drop both."""
    op.execute(
        "UPDATE events SET withdrawn_at = now(), withdrawn_by = 'downgrade of the schema'"
        " WHERE corrected_readings > 0 AND withdrawn_at IS NULL"
    )
    op.execute("DROP TABLE reading_corrections")
    op.execute("DROP FUNCTION corrections_stay")
    op.execute("ALTER TABLE events DROP COLUMN corrected_readings")
