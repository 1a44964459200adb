"""Closed reports can never be changed; reports of institutions

Revision: 0006, after 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and what guards both."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        """
        CREATE TABLE institution_reports (
            institution_id int NOT NULL,
            period text NOT NULL,
            revision int NOT NULL,
            document jsonb NOT NULL,
            sha256 text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            closed boolean NOT NULL,
            PRIMARY KEY (institution_id, period, revision)
        );
        COMMENT ON TABLE institution_reports IS 'As reports, for all sites of an institution together';
        CREATE FUNCTION reports_are_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a frozen report is never changed or deleted; a correction is a new revision';
        END $$;
        """
    )
    for table in ("reports", "institution_reports"):
        op.execute(
            f"""
            CREATE TRIGGER {table}_are_frozen BEFORE UPDATE OR DELETE ON {table}
                FOR EACH ROW WHEN (OLD.closed) EXECUTE FUNCTION reports_are_frozen();
            CREATE TRIGGER {table}_are_not_emptied BEFORE TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION reports_are_frozen();
            """
        )


def downgrade() -> None:
    """Drop what was added."""
    for table in ("reports", "institution_reports"):
        op.execute(f"DROP TRIGGER {table}_are_frozen ON {table}")
        op.execute(f"DROP TRIGGER {table}_are_not_emptied ON {table}")
    op.execute("DROP FUNCTION reports_are_frozen")
    op.execute("DROP TABLE institution_reports")
