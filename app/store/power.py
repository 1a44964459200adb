"""Power of points now: the mean of their newest quarter-hour that is covered well enough."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.period import floor
from app.store.engine import store_errors

POWER_AGE = timedelta(hours=1)
"""A mean power older than this is not shown as that of now."""
LEAST_COVERAGE = 0.5

_LATEST = sa.text(
    """
    SELECT points.id, newest.* FROM unnest(CAST(:points AS int[])) AS points (id)
    CROSS JOIN LATERAL (
        SELECT at, energy_kwh / (0.25 * coverage_ratio), coverage_ratio FROM energy_15m
        WHERE point_id = points.id AND at >= :since AND at < :until AND coverage_ratio >= :coverage
        ORDER BY at DESC LIMIT 1
    ) newest
    """
)


class Power(NamedTuple):
    """Mean power of a quarter-hour."""

    start: datetime
    power_kw: float
    coverage_ratio: float


def latest(connection: sa.Connection, now: datetime, point_ids: Sequence[int]) -> dict[int, Power]:
    """Mean power of the newest quarter-hour that has ended, by number of the point.

    Points of which less than half of every quarter-hour of the last hour is known are absent.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    span = {"since": floor(now) - POWER_AGE, "until": floor(now), "coverage": LEAST_COVERAGE}
    with store_errors():
        rows = connection.execute(_LATEST, {**span, "points": list(point_ids)})
        return {number: Power(*rest) for number, *rest in rows}
