"""Figures are asked for by point: no index by time alone

Revision: 0026, after 0025
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TABLES = ("energy_15m", "volume_15m", "gauge_15m")


def upgrade() -> None:
    """Drop the indexes: planners take them for the points of one site, and then read those of all others."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in TABLES:
        op.execute(f"DROP INDEX IF EXISTS {table}_at")


def downgrade() -> None:
    """Make them again."""
    for table in TABLES:
        op.execute(f"CREATE INDEX {table}_at ON {table} (at)")
