"""A quick look at the database: does it answer, and has it the shape this version needs."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from app.store import migrate, timescale
from app.store.engine import connect


@dataclass(frozen=True, slots=True)
class Readiness:
    """What the look found."""

    engine: str
    """``timescaledb`` or ``postgresql``."""
    revision: str | None
    needed: str

    @property
    def problem(self) -> str | None:
        """Why work cannot begin, in words for the operator; None where it can."""
        if self.revision == self.needed:
            return None
        return (
            f"the database is at revision {self.revision}, this version needs {self.needed}; "
            "run `wattline db upgrade`"
        )


def check(engine: sa.Engine) -> Readiness:
    """Ask the database.

    Raises
    ------
    StoreUnavailable
        If it is away.
    """
    with connect(engine) as connection:
        kind = "timescaledb" if timescale.version(connection) else "postgresql"
        exists = connection.execute(sa.text("SELECT to_regclass('alembic_version')")).scalar()
        query = sa.text("SELECT version_num FROM alembic_version")
        revision = connection.execute(query).scalar() if exists else None
        return Readiness(kind, revision, migrate.head())
