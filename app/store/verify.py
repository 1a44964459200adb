"""Queries for ``wattline verify``: what must add up, and what must belong to something."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from app.domain.site import Site
from app.store.engine import store_errors

_OWNED = (
    ("readings", "point_id", "points"),
    ("energy_15m", "point_id", "points"),
    ("energy_day", "point_id", "points"),
    ("site_15m", "site_id", "sites"),
)
"""Table, column, and the table whose number it holds."""


def orphans(connection: sa.Connection) -> list[tuple[str, int]]:
    """Rows whose point or site does not exist, and is not on its way here: table and number.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return [
            (table, number)
            for table, column, owner in _OWNED
            for number in connection.execute(_orphans_of(table, column, owner)).scalars()
        ]


def _orphans_of(table: str, column: str, owner: str) -> sa.TextClause:
    known = f"SELECT FROM {owner} o WHERE o.id = t.{column}"
    comes = f"SELECT FROM site_move_numbers n WHERE n.kind = '{owner}' AND n.new_id = t.{column}"
    lost = f"NOT EXISTS ({known}) AND NOT EXISTS ({comes})"
    return sa.text(f"SELECT DISTINCT {column} FROM {table} t WHERE {lost}")  # noqa: S608


_DAYS = sa.text(
    """
    WITH quarter AS (
        SELECT point_id, (at AT TIME ZONE :zone)::date AS day, sum(energy_kwh) AS energy_kwh
        FROM energy_15m WHERE point_id = ANY(:points) GROUP BY 1, 2
    )
    SELECT coalesce(q.point_id, d.point_id), coalesce(q.day, d.day), q.energy_kwh, d.energy_kwh
    FROM quarter q
    FULL JOIN (SELECT * FROM energy_day WHERE point_id = ANY(:points)) d
        ON d.point_id = q.point_id AND d.day = q.day
    WHERE abs(q.energy_kwh - d.energy_kwh) > 1e-6 * greatest(1, abs(q.energy_kwh))
       OR q.energy_kwh IS NULL OR d.energy_kwh IS NULL
    ORDER BY 1, 2
    """
)


def days_that_do_not_add_up(
    connection: sa.Connection, site: Site, point_ids: list[int]
) -> list[tuple[int, date, float | None, float | None]]:
    """Point, local day, sum of its quarter-hours, stored sum; only where the two differ.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = connection.execute(_DAYS, {"zone": site.time_zone, "points": point_ids})
        return [(point, day, quarters, stored) for point, day, quarters, stored in rows]


def pending(connection: sa.Connection) -> dict[int, tuple[datetime, datetime]]:
    """Points with readings that are not rolled up yet, and the time concerned.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text("SELECT point_id, min(start_at), max(end_at) FROM rollup_queue GROUP BY point_id")
    with store_errors():
        return {point: (start, end) for point, start, end in connection.execute(query)}


def site_quarter_hours(connection: sa.Connection, site_id: int, room: str, span: Any) -> list[Any]:
    """Stored sums of a site or room: instant [us], facility, IT [kWh], coverage; oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT (extract(epoch FROM at) * 1000000)::bigint, facility_kwh, it_kwh, coverage_ratio"
        " FROM site_15m WHERE site_id = :site AND room = :room AND at >= :start AND at < :end ORDER BY at"
    )
    values = {"site": site_id, "room": room, "start": span.start, "end": span.end}
    with store_errors():
        return list(connection.execute(query, values))
