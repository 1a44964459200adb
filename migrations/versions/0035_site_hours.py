"""Which hours of a site were computed again

Revision: 0035, after 0034
"""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE site_hours (
    site_id int NOT NULL REFERENCES sites,
    day date NOT NULL,
    version bigint NOT NULL,
    hours bigint[] NOT NULL,
    PRIMARY KEY (site_id, day)
) WITH (fillfactor = 70);
COMMENT ON TABLE site_hours IS 'When the hours of a UTC day were computed last: kept sums of them are old';
COMMENT ON COLUMN site_hours.version IS 'The newest of hours; grows with each rollup that concerns the site';
COMMENT ON COLUMN site_hours.hours IS 'Of each of the 24 hours; 0 where nothing was computed';
"""


def upgrade() -> None:
    """Add the table; what is computed from now on is noted."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLE)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE site_hours")
