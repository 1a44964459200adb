"""Frozen baselines of a plant

Revision: 0032, after 0031
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE baselines (
    site_id int NOT NULL REFERENCES sites (id),
    version int NOT NULL,
    sha256 text NOT NULL,
    document text NOT NULL,
    rows jsonb NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, version),
    UNIQUE (site_id, sha256)
);
COMMENT ON TABLE baselines IS 'What a plant would use by load and weather; frozen, never changed';
COMMENT ON COLUMN baselines.version IS '1 is the first of the site';
COMMENT ON COLUMN baselines.sha256 IS 'Of document';
COMMENT ON COLUMN baselines.document IS 'Canonical JSON: form, coefficients, covariances, acceptance';
COMMENT ON COLUMN baselines.rows IS
    'Days or hours it was fitted to: start, local day, hours, overhead kW, IT kW, wet bulb C, coverage';
CREATE FUNCTION refuse_baseline_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a frozen baseline is never changed or deleted; freeze another';
END $$;
CREATE TRIGGER baselines_kept BEFORE UPDATE OR DELETE ON baselines
    FOR EACH ROW EXECUTE FUNCTION refuse_baseline_change();
"""


def upgrade() -> None:
    """Add the table."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE baselines")
    op.execute("DROP FUNCTION refuse_baseline_change()")
