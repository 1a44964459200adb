"""Energy that is sold, beside the other energies of a site

Revision: 0017, after 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no site had such a point before."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE site_15m ADD COLUMN export_kwh double precision NOT NULL DEFAULT 0")
    op.execute("COMMENT ON COLUMN site_15m.export_kwh IS 'Energy sold, no part of facility energy [kWh]'")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE site_15m DROP COLUMN export_kwh")
