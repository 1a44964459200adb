"""Overhead, IT load and weather of a site by day or hour: what a baseline is fitted to and compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import sqlalchemy as sa

from app.domain import pue as domain_pue
from app.domain.baseline import Conditions, Resolution, WeatherSource
from app.domain.energy import EventKind
from app.domain.period import QUARTER_HOUR_S, Period, midnight
from app.domain.quantity import Role
from app.domain.site import Meter, Point, Site
from app.domain.weather import WET_BULB_FROM, Floats, Provenance, daily_mean, plausible_c, wet_bulb_c
from app.store import pue
from app.store.engine import store_errors
from app.store.sites import Stored

MOST_ESTIMATED = 0.1
"""A row of which a larger share of the energy is an estimate is left out."""

ABOUT_AS_MUCH = 0.9
"""A source that is to be trusted more goes before one that knows more, if it knows this share of its rows."""

_ROWS = """
    SELECT {start}, sum(facility_kwh), sum(it_kwh), sum(coverage_ratio) * {quarter_s},
           sum(estimated_ratio * coverage_ratio) / nullif(sum(coverage_ratio), 0)
    FROM site_15m WHERE site_id = :site AND room = '' AND at >= :start AND at < :end
    GROUP BY 1 ORDER BY 1
"""
_BY_DAY = sa.text(_ROWS.format(start="(at AT TIME ZONE :zone)::date::text", quarter_s=QUARTER_HOUR_S))
_BY_HOUR = sa.text(
    _ROWS.format(
        start="to_char(date_trunc('hour', at AT TIME ZONE 'UTC'), 'YYYY-MM-DD\"T\"HH24:MI:SS')",
        quarter_s=QUARTER_HOUR_S,
    )
)

_WEATHER = sa.text(
    """
    SELECT point_id, (extract(epoch FROM date_trunc('hour', at)))::bigint AS hour_s, avg(mean)
    FROM gauge_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY 1, 2 ORDER BY 1, 2
    """
)

_DECLARED = sa.text(
    """
    SELECT start_at, end_at FROM events
    WHERE site_id = :site AND withdrawn_at IS NULL AND kind = ANY(:kinds)
      AND start_at < :end AND end_at > :start
    """
)


def of_site(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    period: Period,
    *,
    resolution: Resolution = Resolution.DAY,
    weather: WeatherSource | None = None,
) -> Conditions:
    """Whole days (or hours) of a period that are known well enough; the others are counted by their reason.

    Parameters
    ----------
    weather : WeatherSource, optional
        Whose weather it has to be, such as that of a baseline; by default the source that knows most,
        sensors of the site before imported weather.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    whole = _whole_rows(site, period, resolution)
    if whole is None:
        return Conditions.from_rows(resolution, [])
    period = whole
    table = _energies(connection, stored, site, period, resolution)
    left_out = _why_not(connection, stored, site, period, table)
    source, wet_c = _weather(connection, stored, site, period, table, weather)
    good = (left_out == "").to_numpy()
    covered_h = table["covered_s"].to_numpy()[good] / 3600
    it_kwh, facility_kwh = (table[name].to_numpy()[good] for name in ("it_kwh", "facility_kwh"))
    return Conditions(
        resolution,
        table["start"].to_numpy(dtype="datetime64[s]")[good],
        table["day"].to_numpy(dtype="datetime64[D]")[good],
        table["hours"].to_numpy()[good],
        (facility_kwh - it_kwh) / covered_h,
        it_kwh / covered_h,
        wet_c[good],
        table["coverage_ratio"].to_numpy()[good],
        {str(name): int(n) for name, n in left_out[left_out != ""].value_counts().items()},
        source,
    )


def _whole_rows(site: Site, period: Period, resolution: Resolution) -> Period | None:
    """The part of a period that consists of whole days or hours; None where it holds none."""
    if resolution is Resolution.HOUR:
        return period
    first, last = (at.astimezone(site.zone) for at in (period.start, period.end))
    start, end = midnight(first.date(), site.zone), midnight(last.date(), site.zone)
    if start < period.start:
        start = midnight((first + timedelta(days=1)).date(), site.zone)
    return Period(start, end) if end > start else None


def _energies(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, resolution: Resolution
) -> pd.DataFrame:
    """Energies of every row of which something is known, with start (UTC), local day, hours and coverage."""
    by_day = resolution is Resolution.DAY
    values = {"site": stored.site_id[site.id], "start": period.start, "end": period.end}
    with store_errors():
        query = _BY_DAY if by_day else _BY_HOUR
        rows = connection.execute(query, {**values, "zone": site.time_zone} if by_day else values).all()
    names = ["at", "facility_kwh", "it_kwh", "covered_s", "estimated_ratio"]
    table = pd.DataFrame([tuple(row) for row in rows], columns=names)
    starts, ends = _bounds(table["at"], site, by_day=by_day)
    table["start"] = starts.tz_convert(None).to_numpy(dtype="datetime64[s]")
    local = starts.tz_convert(site.zone).tz_localize(None)
    table["day"] = local.normalize().to_numpy(dtype="datetime64[s]")
    table["hours"] = (ends - starts).total_seconds().to_numpy() / 3600
    table["coverage_ratio"] = np.minimum(table["covered_s"].astype(float) / 3600 / table["hours"], 1.0)
    return table.astype(dict.fromkeys(names[1:], float))


def _bounds(at: pd.Series[str], site: Site, *, by_day: bool) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Start and end of every row, UTC."""
    if not by_day:
        starts = _index([datetime.fromisoformat(text).replace(tzinfo=UTC) for text in at])
        return starts, starts + pd.Timedelta(hours=1)
    days = [date.fromisoformat(text) for text in at]
    edges = [[midnight(d + timedelta(days=n), site.zone) for d in days] for n in (0, 1)]
    return _index(edges[0]), _index(edges[1])


def _index(instants: Sequence[datetime]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(list(instants), utc=True)).as_unit("s")


# -- rows that are left out --------------------------------------------------------------------------


def _why_not(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, table: pd.DataFrame
) -> pd.Series[str]:
    """Why a row does not count; empty: it does. The first reason that holds is the one that is named."""
    parts = [limits for _, limits in domain_pue.boundaries(site, period)]
    doubts = [(d.start, d.end) for d in pue.doubts(connection, stored, site, period, parts)]
    values = {"site": stored.site_id[site.id], "start": period.start, "end": period.end}
    kinds = [EventKind.TEST.value, EventKind.MAINTENANCE.value]
    with store_errors():
        declared = [(s, e) for s, e in connection.execute(_DECLARED, {**values, "kinds": kinds})]
    reasons: dict[str, npt.NDArray[np.bool_]] = {
        "redefined": _touched(table, pue.redefined(connection, stored, site, period)),
        "open_finding": _touched(table, doubts),
        "declared_event": _touched(table, declared),
        "low_coverage": (table["coverage_ratio"] < site.minimum_coverage_ratio).to_numpy(),
        "estimated": (table["estimated_ratio"] > MOST_ESTIMATED).to_numpy(),
    }
    names = np.select(list(reasons.values()), list(reasons), default="")
    return pd.Series(names, index=table.index, dtype=str)


def _touched(table: pd.DataFrame, spans: Iterable[tuple[datetime, datetime]]) -> npt.NDArray[np.bool_]:
    """Rows that one of some stretches of time touches."""
    starts = table["start"].to_numpy(dtype="datetime64[s]")
    ends = starts + (table["hours"].to_numpy() * 3600).astype("timedelta64[s]")
    found = np.zeros(len(table), np.bool_)
    for start, end in spans:
        found |= (starts < _utc(end)) & (ends > _utc(start))
    return found


def _utc(at: datetime) -> np.datetime64:
    return np.datetime64(pd.Timestamp(at).tz_convert(None))


# -- weather -----------------------------------------------------------------------------------------


def _weather(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    period: Period,
    table: pd.DataFrame,
    wanted: WeatherSource | None,
) -> tuple[WeatherSource | None, Floats]:
    """The source that is taken, and the mean wet bulb of every row. [C] NaN: not known."""
    known = hourly_wet_bulb(connection, stored, site, period)
    by_row = {source: _of_rows(hours, table) for source, hours in known.items()}
    if wanted is not None:
        return wanted, by_row.get(wanted, np.full(len(table), np.nan))
    if not by_row:
        return None, np.full(len(table), np.nan)
    counts = {source: int(np.isfinite(values).sum()) for source, values in by_row.items()}
    most = max(counts.values())
    taken = next(source for source, n in counts.items() if n >= ABOUT_AS_MUCH * most)
    return (taken, by_row[taken]) if most else (None, by_row[taken])


def _of_rows(hours: pd.Series[float], table: pd.DataFrame) -> Floats:
    starts = pd.DatetimeIndex(table["start"]).tz_localize("UTC")
    if len(table) and (table["hours"] == 1).all():
        return np.asarray(hours.reindex(starts), np.float64)
    return daily_mean(hours, starts, table["hours"].to_numpy())


def hourly_wet_bulb(
    connection: sa.Connection, stored: Stored, site: Site, period: Period
) -> dict[WeatherSource, pd.Series[float]]:
    """Wet bulb of every hour by its source, those of the site's own sensors first. [C]

    A measured wet bulb counts before one that is computed from dry bulb and relative humidity. Of several
    sensors of one kind it is the median.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    sensors = list(_sensors(site))
    numbers = {stored.point_id[p.id]: p.id for _, points in sensors for p in points}
    means = _hourly(connection, numbers, period)
    found = {}
    for source, points in sensors:
        wet = _wet_bulb_of(points, means)
        if wet is not None:
            found[source] = wet
    return found


def _wet_bulb_of(points: Sequence[Point], means: Mapping[str, pd.Series[float]]) -> pd.Series[float] | None:
    roles = {p.role for p in points}
    by_role = {role: _median([p for p in points if p.role is role], means) for role in roles}
    if any(values.empty for values in by_role.values()):
        return None
    if Role.OUTDOOR_WET_BULB in by_role:
        wet = by_role[Role.OUTDOOR_WET_BULB]
        return pd.Series(plausible_c(wet), index=wet.index)
    both = pd.DataFrame(by_role)
    wet_c = wet_bulb_c(both[Role.OUTDOOR_DRY_BULB], both[Role.OUTDOOR_RELATIVE_HUMIDITY])
    return pd.Series(wet_c, index=both.index)


def _median(points: Sequence[Point], means: Mapping[str, pd.Series[float]]) -> pd.Series[float]:
    return pd.DataFrame({p.id: means[p.id] for p in points if p.id in means}).median(axis=1)


def _sensors(site: Site) -> Iterator[tuple[WeatherSource, list[Point]]]:
    """Sources of the wet bulb with their points, the one to trust most first."""
    owners = list(dict.fromkeys(m.imported_from for m in sorted(site.meters, key=_is_imported)))
    for owner in owners:
        points = [p for m in site.meters if m.imported_from == owner for p in m.points]
        for roles in WET_BULB_FROM:
            found = [p for p in points if p.role in roles]
            if {p.role for p in found} == set(roles):
                yield WeatherSource(*_named(owner, found)), found


def _is_imported(meter: Meter) -> bool:
    return bool(meter.imported_from)


def _named(owner: str, points: Sequence[Point]) -> tuple[Provenance, str]:
    ids = ", ".join(dict.fromkeys(p.id for p in points))
    if owner:
        return Provenance.IMPORTED, f"{owner} ({ids})"
    return Provenance.MEASURED, ids


def _hourly(
    connection: sa.Connection, numbers: Mapping[int, str], period: Period
) -> dict[str, pd.Series[float]]:
    """Mean of every hour by point, in its house unit."""
    span = {"points": list(numbers), "start": period.start, "end": period.end}
    with store_errors():
        rows = connection.execute(_WEATHER, span).all() if numbers else []
    table = pd.DataFrame([tuple(row) for row in rows], columns=["point", "hour_s", "mean"])
    at = pd.DatetimeIndex(pd.to_datetime(table["hour_s"].astype("int64"), unit="s", utc=True))
    series = pd.Series(table["mean"].to_numpy(dtype=float), index=at.as_unit("s"))
    return {numbers[int(n)]: series[(table["point"] == n).to_numpy()] for n in table["point"].unique()}
