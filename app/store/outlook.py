"""A site's own history by day, and what follows from it: the year's end, the budget, full capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain import capacity, forecast, tree
from app.domain.capacity import INTERVALS_PER_HOUR
from app.domain.forecast import Budget, Exhaustion, Projection
from app.domain.limits import Limit, LimitProfile, limits_for
from app.domain.period import Period, midnight, year
from app.domain.site import Site, Stage
from app.domain.surcharge import SurchargeForecast, forecast_year
from app.domain.tree import Feed, FeedBalance, StageLoss
from app.store import deployment, site_days, usage
from app.store.engine import store_errors
from app.store.site_days import LEAST_COVERAGE
from app.store.sites import Stored

CAPACITY_DAYS = 400
"""History of load that is looked at for the date at which a capacity is reached."""


def days(connection: sa.Connection, stored: Stored, site: Site, end: datetime) -> pd.DataFrame:
    """Every whole local day before `end` of which something is known.

    Returns
    -------
    DataFrame
        As :func:`app.store.site_days.days` gives it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    today = midnight(end.astimezone(site.zone).date(), site.zone)
    return site_days.days(connection, stored.site_id[site.id], site, today)


@dataclass(frozen=True, slots=True)
class YearOutlook:
    """How a calendar year will end, and what each limit leaves of it."""

    projection: Projection
    budgets: tuple[tuple[Limit, Budget], ...]
    surcharges: tuple[SurchargeForecast, ...] = ()


def year_outlook(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    number: int,
    profiles: dict[str, LimitProfile],
    now: datetime,
) -> YearOutlook:
    """Projection, budgets and surcharges of a local calendar year, from the days before `now`.

    Raises
    ------
    SeriesError
        If the year is out of reach.
    StoreUnavailable
        If the database is away.
    """
    end = min(now, year(str(number), site.zone).end)
    history = days(connection, stored, site, end)
    found = from_days(stored, site, number, profiles, history)
    rules = deployment.reference(connection).surcharges if site.jurisdiction else ()
    energies = history[["facility_kwh", "it_kwh", "coverage_ratio"]]
    least = site.minimum_coverage_ratio
    expected = forecast_year(energies, number, rules, site.jurisdiction, minimum_coverage_ratio=least)
    return replace(found, surcharges=expected)


def from_days(
    stored: Stored, site: Site, number: int, profiles: dict[str, LimitProfile], history: pd.DataFrame
) -> YearOutlook:
    """Its projection and budgets, from days as :func:`days` gives them.

    Raises
    ------
    SeriesError
        If the year is out of reach.
    """
    energies = history[["facility_kwh", "it_kwh", "coverage_ratio"]]
    limits = limits_of_year(stored, site, number, profiles)
    least = site.minimum_coverage_ratio
    found = forecast.budgets(energies, number, [x.pue for x in limits], minimum_coverage_ratio=least)
    projection = forecast.project_year(energies, number, minimum_coverage_ratio=least)
    return YearOutlook(projection, tuple(zip(limits, found, strict=True)))


def limits_of_year(
    stored: Stored, site: Site, number: int, profiles: dict[str, LimitProfile]
) -> tuple[Limit, ...]:
    """Limits by which a calendar year is judged: those of its last day.

    Raises
    ------
    SeriesError
        If the year is out of reach.
    """
    period = year(str(number), site.zone)
    last_day = (period.end - timedelta(days=1)).astimezone(site.zone).date()
    return tuple(limits_for(site, stored.fleet.institution[site.institution], profiles, last_day))


def it_exhaustion(connection: sa.Connection, stored: Stored, site: Site, now: datetime) -> Exhaustion | None:
    """When the IT load reaches the design capacity; None where no capacity is declared.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if site.design.it_capacity_kw is None:
        return None
    history = days(connection, stored, site, now)
    return forecast.exhaustion(history["it_peak_kw"], site.design.it_capacity_kw)


@dataclass(frozen=True, slots=True)
class FeedExhaustion:
    """When one feed reaches what its redundancy lets it carry."""

    meters: tuple[str, ...]
    stage: Stage
    exhaustion: Exhaustion


def feed_exhaustions(
    connection: sa.Connection, stored: Stored, site: Site, now: datetime
) -> tuple[FeedExhaustion, ...]:
    """The same for every UPS, PDU and rack with a rating.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    site = site.at(now)
    rated = rated_feeds(site)
    points = _inflows(stored, site, [feed for feed, _ in rated])
    alone_kw = _daily_peaks_alone(connection, site, [p[0] for p in points.values() if len(p) == 1], now)
    found = []
    for feed, usable_kw in rated:
        own = points[feed.meters]
        peaks_kw = alone_kw[own[0]] if len(own) == 1 else _daily_peaks(connection, site, own, now)
        found.append(FeedExhaustion(feed.meters, feed.stage, forecast.exhaustion(peaks_kw, usable_kw)))
    return tuple(found)


def rated_feeds(site: Site) -> list[tuple[Feed, float]]:
    """Feeds that are metered and rated, with the power that their redundancy lets them carry. [kW]"""
    meters = {m.id: m for m in site.meters}
    found = []
    for feed in tree.feeds(site):
        members = [meters[m] for m in feed.meters]
        usable_kw = capacity.usable_kw([m.rated_power_kw for m in members], capacity.redundancy(members))
        if math.isfinite(usable_kw) and any(tree.inflow_points(m) for m in members):
            found.append((feed, usable_kw))
    return found


def _inflows(stored: Stored, site: Site, feeds: Sequence[Feed]) -> dict[tuple[str, ...], list[int]]:
    """Points that flow into feeds, by the meters of these."""
    own = {m.id: [stored.point_id[p.id] for p in tree.inflow_points(m)] for m in site.meters}
    return {feed.meters: [number for m in feed.meters for number in own[m]] for feed in feeds}


_PEAKS_ALONE = sa.text(
    f"""
    SELECT point_id, (at AT TIME ZONE :zone)::date AS day,
           max(energy_kwh / coverage_ratio) * {INTERVALS_PER_HOUR}
    FROM energy_15m
    WHERE point_id = ANY(:points) AND at >= :start AND at < :end AND coverage_ratio >= :least
    GROUP BY point_id, day ORDER BY point_id, day
    """  # noqa: S608 - a constant of the domain
)


def _daily_peaks_alone(
    connection: sa.Connection, site: Site, points: list[int], now: datetime
) -> dict[int, pd.Series[float]]:
    """Highest power of each point on each whole local day. [kW]"""
    values = {"zone": site.time_zone, "points": points, "least": LEAST_COVERAGE, **_span(site, now)}
    with store_errors():
        rows = connection.execute(_PEAKS_ALONE, values).all()
    table: dict[int, list[tuple[date, float]]] = {point: [] for point in points}
    for point, day, peak in rows:
        table[point].append((day, peak))
    return {point: _by_day(own) for point, own in table.items()}


def _span(site: Site, now: datetime) -> dict[str, datetime]:
    end = midnight(now.astimezone(site.zone).date(), site.zone)
    return {"start": end - timedelta(days=CAPACITY_DAYS), "end": end}


def _by_day(rows: Sequence[tuple[date, float]]) -> pd.Series[float]:
    days = np.array([day for day, _ in rows], "datetime64[D]").astype("datetime64[s]")
    return pd.Series([float(peak) for _, peak in rows], pd.DatetimeIndex(days), dtype=float)


_PEAKS = sa.text(
    f"""
    SELECT (at AT TIME ZONE :zone)::date AS day, max(power_kw) FROM (
        SELECT at, sum(energy_kwh / coverage_ratio) * {INTERVALS_PER_HOUR} AS power_kw
        FROM energy_15m
        WHERE point_id = ANY(:points) AND at >= :start AND at < :end AND coverage_ratio >= :least
        GROUP BY at HAVING count(*) = :count
    ) AS quarters GROUP BY day ORDER BY day
    """  # noqa: S608 - a constant of the domain
)


def _daily_peaks(connection: sa.Connection, site: Site, points: list[int], now: datetime) -> pd.Series[float]:
    """Highest power of all the points together on each whole local day. [kW]"""
    values = {"zone": site.time_zone, "points": points, "count": len(points), "least": LEAST_COVERAGE}
    with store_errors():
        rows = connection.execute(_PEAKS, {**values, **_span(site, now)}).all()
    return _by_day([(day, peak) for day, peak in rows])


@dataclass(frozen=True, slots=True)
class Balance:
    """The metering tree over a period."""

    feeds: tuple[FeedBalance, ...]
    losses: tuple[StageLoss, ...]


def flows(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> pd.DataFrame:
    """Energy per 15-minute interval of the points that carry flows of the tree. [kWh]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return usage.frame(connection, stored, usage.flow_points(site), span).dropna(how="all")


def balance(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> Balance:
    """What goes into every node against what comes out of it.

    Raises
    ------
    SeriesError
        If nothing is known of the period.
    StoreUnavailable
        If the database is away.
    """
    table = flows(connection, stored, site, span)
    feeds = tree.balances(site, table)
    return Balance(feeds, tree.stage_losses(feeds))
