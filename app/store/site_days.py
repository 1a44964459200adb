"""The stored figures of a site by local day: the one query that projections and reports begin with."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain.capacity import INTERVALS_PER_HOUR
from app.domain.period import QUARTER_HOUR_S, Period, midnight
from app.domain.site import Site
from app.store.engine import store_errors

LEAST_COVERAGE = 0.5
"""An interval of which less is covered says nothing about its power."""

_DAYS = sa.text(
    f"""
    SELECT (at AT TIME ZONE :zone)::date AS day, sum(facility_kwh), sum(it_kwh),
           sum(coverage_ratio) * {QUARTER_HOUR_S},
           max(it_kwh / coverage_ratio) FILTER (WHERE coverage_ratio >= :least) * {INTERVALS_PER_HOUR}
    FROM site_15m WHERE site_id = :site AND room = '' AND at < :end GROUP BY day ORDER BY day
    """  # noqa: S608 - constants of the domain
)


def days(connection: sa.Connection, site_id: int, site: Site, end: datetime) -> pd.DataFrame:
    """Every local day before `end` of which something is known; the last one up to `end`.

    Returns
    -------
    DataFrame, indexed by naive local midnight
        facility_kwh, it_kwh [kWh] over the covered part; coverage_ratio of the whole day; it_peak_kw: highest
        mean power of a quarter-hour, NaN where none is known well enough. [kW]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {"site": site_id, "zone": site.time_zone, "end": end, "least": LEAST_COVERAGE}
    with store_errors():
        rows = connection.execute(_DAYS, values).all()
    index = pd.DatetimeIndex(pd.to_datetime([row[0] for row in rows]))
    names = ["facility_kwh", "it_kwh", "covered_s", "it_peak_kw"]
    table = pd.DataFrame([tuple(row[1:]) for row in rows], index=index, columns=names, dtype=float)
    table["coverage_ratio"] = np.minimum(table.pop("covered_s") / _lengths_s(index, site), 1.0)
    return table


def _lengths_s(index: pd.DatetimeIndex, site: Site) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    starts = [midnight(day.date(), site.zone) for day in index]
    ends = [midnight(day.date() + timedelta(days=1), site.zone) for day in index]
    return np.array([(e - s).total_seconds() for s, e in zip(starts, ends, strict=True)], np.float64)


def rooms_it(connection: sa.Connection, site_number: int, span: Period) -> dict[str, pd.Series[float]]:
    """IT energy of each room per 15-minute interval, indexed by its start in UTC. [kWh]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT room, (extract(epoch FROM at) * 1000000)::bigint AS at_us, it_kwh FROM site_15m"
        " WHERE site_id = :site AND room <> '' AND at >= :start AND at < :end ORDER BY room, at"
    )
    with store_errors():
        rows = connection.execute(query, {"site": site_number, "start": span.start, "end": span.end}).all()
    table = pd.DataFrame(rows, columns=["room", "at_us", "it_kwh"])
    at = pd.DatetimeIndex(pd.to_datetime(table["at_us"].astype("int64"), unit="us", utc=True))
    found = pd.Series(table["it_kwh"].to_numpy(dtype=float), index=at)
    return {str(room): found[(table["room"] == room).to_numpy()] for room in table["room"].unique()}
