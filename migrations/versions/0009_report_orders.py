"""Reports that are made in the background

Revision: 0009, after 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE report_orders (
    id uuid PRIMARY KEY,
    site text NOT NULL,
    institution text NOT NULL,
    period text NOT NULL,
    revision int,
    format text NOT NULL,
    lang text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting',
    attempts int NOT NULL DEFAULT 0,
    steps_done int NOT NULL DEFAULT 0,
    steps_total int NOT NULL DEFAULT 1,
    touched_at timestamptz NOT NULL,
    finished_at timestamptz,
    problem text NOT NULL DEFAULT '',
    file_name text NOT NULL DEFAULT '',
    media_type text NOT NULL DEFAULT '',
    content bytea
);
CREATE INDEX report_orders_open ON report_orders (asked_at) WHERE state IN ('waiting', 'running');
COMMENT ON TABLE report_orders IS 'Reports ordered over HTTP, made in the background, kept for a day';
COMMENT ON COLUMN report_orders.site IS 'Its key; empty: the report is of all sites of the institution';
COMMENT ON COLUMN report_orders.state IS 'waiting, running, done or failed';
COMMENT ON COLUMN report_orders.touched_at IS 'When whoever makes it last said so';
"""


def upgrade() -> None:
    """Add the table."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLE)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE report_orders")
