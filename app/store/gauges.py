"""Newest means of temperature, humidity and other gauges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.domain.site import Point
from app.store.engine import store_errors
from app.store.sites import Stored

FRESH = timedelta(hours=2)
"""An older mean is not that of now."""

_LATEST = sa.text(
    """
    SELECT DISTINCT ON (point_id) point_id, mean FROM gauge_15m
    WHERE point_id = ANY(:points) AND at >= :since AND at < :now ORDER BY point_id, at DESC
    """
)


def latest(
    connection: sa.Connection, stored: Stored, points: Sequence[Point], now: datetime
) -> dict[str, float]:
    """Mean of the newest quarter-hour of each point, in its house unit; absent where it is not fresh.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers = {stored.point_id[p.id]: p.id for p in points}
    span = {"points": list(numbers), "since": now - FRESH, "now": now}
    with store_errors():
        return {numbers[n]: float(mean) for n, mean in connection.execute(_LATEST, span)}
