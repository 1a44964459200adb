"""Stored readings page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from app.store.engine import store_errors

_PAGE = sa.text(
    """
    SELECT point_id, at, value, interval_s, valid_s FROM readings
    WHERE point_id = ANY(:points) AND at >= :start AND at < :end
    ORDER BY at, point_id LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True)
class Row:
    """One stored reading."""

    point_id: int
    at: datetime
    value: float
    interval_s: int
    valid_s: int


def page(
    connection: sa.Connection, point_ids: Sequence[int], start: datetime, end: datetime, least: int
) -> tuple[list[Row], datetime | None]:
    """The first readings with ``start <= at < end`` in order of time, and where the next page starts.

    A page has at least `least` rows if there are so many, and never ends between two readings of the
    same instant. The next start is None where nothing is left.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    limit = least + len(point_ids)
    values = {"points": list(point_ids), "start": start, "end": end, "limit": limit}
    with store_errors():
        rows = [Row(*row) for row in connection.execute(_PAGE, values)]
    cut = next((i for i in range(least, len(rows)) if rows[i].at != rows[i - 1].at), len(rows))
    return rows[:cut], rows[cut].at if cut < len(rows) else None
