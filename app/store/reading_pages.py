"""Stored readings page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.store.engine import store_errors

_PAGE = sa.text(
    """
    SELECT point_id, at, value, interval_s, valid_s FROM readings
    WHERE point_id = ANY(:points) AND at >= :start AND at < :end
    ORDER BY at, point_id LIMIT :limit
    """
)
_NEXT = sa.text(
    """
    SELECT min(r.at) FROM unnest(CAST(:points AS int[])) AS p(id) CROSS JOIN LATERAL (
        SELECT at FROM readings WHERE point_id = p.id AND at >= :start AND at < :end ORDER BY at LIMIT 1
    ) r
    """
)
_FIRST_STRETCH = timedelta(minutes=5)


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
    with store_errors():
        rows = _first(connection, point_ids, start, end, least + len(point_ids))
    cut = next((i for i in range(least, len(rows)) if rows[i].at != rows[i - 1].at), len(rows))
    return rows[:cut], rows[cut].at if cut < len(rows) else None


def _first(
    connection: sa.Connection, point_ids: Sequence[int], start: datetime, end: datetime, limit: int
) -> list[Row]:
    """The first `limit` readings in order of time.

    No index has them in that order: they are looked for in stretches, each twice as long as the one before,
    so that hardly more is read than the page holds.
    """
    rows: list[Row] = []
    asked = {"points": list(point_ids), "end": end}
    stretch = _FIRST_STRETCH
    while len(rows) < limit:
        at = connection.execute(_NEXT, {**asked, "start": start}).scalar()
        if at is None:
            break
        start = min(at + stretch, end)
        part = {**asked, "start": at, "end": start, "limit": limit - len(rows)}
        rows += [Row(*row) for row in connection.execute(_PAGE, part)]
        stretch *= 2
    return rows
