"""Hourly emission factors with their source

Revision: 0034, after 0033
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE hourly_factors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    region text NOT NULL,
    basis text NOT NULL,
    source text NOT NULL,
    verified boolean NOT NULL,
    first_at timestamptz NOT NULL,
    kg_per_kwh double precision[] NOT NULL,
    sha256 text NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_by text,
    withdrawn_at timestamptz
);
CREATE INDEX hourly_factors_region ON hourly_factors (region, basis);
COMMENT ON TABLE hourly_factors IS 'Imported emission factors by hour; imports are withdrawn, never changed';
COMMENT ON COLUMN hourly_factors.kg_per_kwh IS
    'kgCO2e per kWh of each hour from first_at on; NULL: the source has none';
COMMENT ON COLUMN hourly_factors.sha256 IS 'Of the file';
COMMENT ON COLUMN hourly_factors.verified IS 'Whether somebody compared the file with its source';
"""


def upgrade() -> None:
    """Add the table."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE hourly_factors")
