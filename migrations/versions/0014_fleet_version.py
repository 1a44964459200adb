"""A version of what is declared, so that nobody has to look at every point to learn that nothing changed

Revision: 0014, after 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE fleet_version (
    id int PRIMARY KEY CHECK (id = 1),
    writer text NOT NULL,
    changes bigint NOT NULL
);
COMMENT ON TABLE fleet_version IS 'Differs after every change of institutions, sites, meters or points';
COMMENT ON COLUMN fleet_version.writer IS 'Transaction of the last change; none is used twice';
COMMENT ON COLUMN fleet_version.changes IS 'Statements that changed something';
INSERT INTO fleet_version VALUES (1, pg_current_xact_id()::text, 0);
CREATE FUNCTION note_fleet_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet_version SET writer = pg_current_xact_id()::text, changes = changes + 1;
    RETURN NULL;
END
$$;
"""
TABLES = ("institutions", "sites", "meters", "points")


def upgrade() -> None:
    """Add the version, and what keeps it."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLE)
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER note_fleet_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION note_fleet_change()"
        )


def downgrade() -> None:
    """Drop them."""
    for table in TABLES:
        op.execute(f"DROP TRIGGER note_fleet_change ON {table}")
    op.execute("DROP FUNCTION note_fleet_change()")
    op.execute("DROP TABLE fleet_version")
