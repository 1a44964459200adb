"""Newest means of temperature, humidity and other gauges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain.period import QUARTER_HOUR_US, Period
from app.domain.site import Point
from app.store import binary_copy
from app.store.engine import store_errors
from app.store.readings import to_us
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


_PACKED = np.dtype([("at", ">i8"), ("value", ">f8")])
# One value per point instead of one row per interval: a year of intervals takes milliseconds to fetch.
_COURSE = sa.text(
    """
    SELECT point_id, string_agg(timestamptz_send(at) || float8send(mean), ''::bytea ORDER BY at)
    FROM gauge_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY point_id
    """
)
_HOURS = sa.text(
    """
    SELECT point_id, string_agg(timestamptz_send(hour) || float8send(mean), ''::bytea ORDER BY hour)
    FROM (
        SELECT point_id, date_trunc('hour', at, 'UTC') AS hour, sum(mean * samples) / sum(samples) AS mean
        FROM gauge_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY point_id, hour
    ) AS hours GROUP BY point_id
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
    return _table(connection, _COURSE, stored, points, period, "15min")


def hours(connection: sa.Connection, stored: Stored, points: Sequence[Point], period: Period) -> pd.DataFrame:
    """Means of every hour of a period of whole hours, weighted by the readings; as :func:`series`.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return _table(connection, _HOURS, stored, points, period, "1h")


def _table(
    connection: sa.Connection,
    query: sa.TextClause,
    stored: Stored,
    points: Sequence[Point],
    period: Period,
    step: str,
) -> pd.DataFrame:
    numbers = {stored.point_id[p.id]: p.id for p in points}
    index = pd.date_range(period.start, period.end, freq=step, inclusive="left")
    values = np.full((len(index), len(numbers)), np.nan, order="F")
    columns = {number: values[:, n] for n, number in enumerate(numbers)}
    step_us = 4 * QUARTER_HOUR_US if step == "1h" else QUARTER_HOUR_US
    span = {"points": list(numbers), "start": period.start, "end": period.end}
    with store_errors():
        rows = connection.execute(query, span).all()
    for number, packed in rows:
        cells = np.frombuffer(packed, _PACKED)
        at_us = cells["at"].astype(np.int64) + binary_copy.EPOCH_SHIFT_US
        columns[number][(at_us - to_us(period.start)) // step_us] = cells["value"]
    return pd.DataFrame(values, index, list(numbers.values()), copy=False)
