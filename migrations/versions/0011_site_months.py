"""Which months of a site were computed again

Revision: 0011, after 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE site_months (
    site_id int NOT NULL REFERENCES sites,
    month date NOT NULL,
    computed bigint NOT NULL,
    PRIMARY KEY (site_id, month)
);
COMMENT ON TABLE site_months IS 'Months of a site, by its own time zone, in which something was measured';
COMMENT ON COLUMN site_months.computed IS 'How often; a frozen report is looked at again where this moved';
INSERT INTO site_months
SELECT p.site_id, date_trunc('month', d.day)::date, 1
FROM energy_day d JOIN points p ON p.id = d.point_id GROUP BY 1, 2;
"""


def upgrade() -> None:
    """Add the table, with the months that are known."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLE)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE site_months")
