"""Stretches of points' time whose energy has to be computed again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from app.store.engine import store_errors


@dataclass(frozen=True, slots=True)
class Dirty:
    """A stretch of a point's time to compute again, both ends included."""

    point_id: int
    start: datetime
    end: datetime


def take(connection: sa.Connection, limit: int) -> list[Dirty]:
    """Remove and return queued work, oldest first; it comes back if the transaction fails.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "DELETE FROM rollup_queue WHERE id IN"
        " (SELECT id FROM rollup_queue ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)"
        " RETURNING point_id, start_at, end_at"
    )
    with store_errors():
        return [Dirty(*row) for row in connection.execute(query, {"limit": limit})]


def add(connection: sa.Connection, work: Iterable[Dirty]) -> None:
    """Ask for stretches of time to be computed again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = [{"point": w.point_id, "start": w.start, "end": w.end} for w in work]
    if rows:
        query = "INSERT INTO rollup_queue (point_id, start_at, end_at) VALUES (:point, :start, :end)"
        with store_errors():
            connection.execute(sa.text(query), rows)


def lock(connection: sa.Connection) -> bool:
    """Whether this transaction is now the only one that rolls up; another one is at work otherwise.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return bool(
            connection.execute(sa.text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar()
        )


_LOCK = 0x57A7_0004
