"""Newest means of temperature, humidity and other gauges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pandas as pd
import sqlalchemy as sa

from app.domain.period import Period
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


_COURSE = sa.text(
    """
    SELECT point_id, array_agg(extract(epoch FROM at)::float8 ORDER BY at), array_agg(mean ORDER BY at)
    FROM gauge_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY point_id
    """
)


def series(
    connection: sa.Connection, stored: Stored, points: Sequence[Point], period: Period
) -> pd.DataFrame:
    """Means of every quarter-hour of a period.

    Returns
    -------
    DataFrame of float64, shape (quarter-hours of the period, points)
        In each point's house unit. NaN where there is no reading.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers = {stored.point_id[p.id]: p.id for p in points}
    index = pd.date_range(period.start, period.end, freq="15min", inclusive="left")
    span = {"points": list(numbers), "start": period.start, "end": period.end}
    with store_errors():
        found = {
            numbers[n]: pd.Series(means, pd.to_datetime(at_s, unit="s", utc=True), dtype=float)
            for n, at_s, means in connection.execute(_COURSE, span)
        }
    return pd.DataFrame(found, index=index, dtype=float).reindex(columns=list(numbers.values()))
