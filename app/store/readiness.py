"""A quick look at the database: does it answer, has it the shape this version needs, do figures keep up."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from app.store import migrate, progress, timescale
from app.store.engine import connect

LONGEST_LAG_S = 3600.0
"""Figures further behind are none to work with. [s]"""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What the look found."""

    engine: str
    """``timescaledb`` or ``postgresql``."""
    revision: str | None
    needed: str
    lag_s: float = 0.0
    """How long the oldest reading that is not in the figures has been stored. [s]"""

    @property
    def problem(self) -> str | None:
        """Why work cannot begin, in words for the operator; None where it can."""
        if self.revision == self.needed:
            return self._lateness
        return (
            f"the database is at revision {self.revision}, this version needs {self.needed}; "
            "run `wattline db upgrade`"
        )

    @property
    def _lateness(self) -> str | None:
        if self.lag_s <= LONGEST_LAG_S:
            return None
        return (
            f"figures are {self.lag_s / 60:.0f} minutes behind the readings; see "
            "wattline_figures_lag_seconds, wattline_queue_entries and "
            "wattline_job_last_success_timestamp_seconds on /metrics"
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
        lag_s = progress.oldest_s(connection) if revision == migrate.head() else 0.0
        return Readiness(kind, revision, migrate.head(), lag_s)
