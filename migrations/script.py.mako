"""${message}

Revision: ${up_revision}, after ${down_revision | comma,n}
"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")  # give up rather than queue every reader behind us
    op.execute("SET LOCAL statement_timeout = 0")
    ${upgrades if upgrades else "op.execute(SQL)"}
