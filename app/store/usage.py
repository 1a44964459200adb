"""15-minute energies as tables, for the figures about load and capacity, and the split behind attribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain.attribution import EnergySplit
from app.domain.figure import percent
from app.domain.period import QUARTER_HOUR_US, Period
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.site import Point, Site
from app.domain.tree import by_state, inflow_points
from app.errors import CoverageTooLow
from app.store import energy, sums
from app.store.readings import to_us
from app.store.sites import Stored

LEAST_COVERAGE = 0.5
"""An interval of which less is covered says nothing about its load."""
_CELLS_AT_ONCE = 150_000
"""Energies fetched by one query: what comes over the wire takes more room than the table."""


def frame(connection: sa.Connection, stored: Stored, points: Sequence[Point], period: Period) -> pd.DataFrame:
    """Energy per 15-minute interval and point, scaled up to the whole interval.

    Returns
    -------
    DataFrame of float64, shape (intervals of the period, points)
        [kWh] NaN where less than :data:`LEAST_COVERAGE` of the interval is covered.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    index = pd.date_range(period.start, period.end, freq="15min", inclusive="left")
    keys = list(dict.fromkeys(p.id for p in points))
    column = {stored.point_id[key]: n for n, key in enumerate(keys)}
    numbers, start_us = list(column), to_us(period.start)
    table = np.full((len(index), len(column)), np.nan, order="F")
    at_once = max(_CELLS_AT_ONCE // max(len(index), 1), 1)
    for first in range(0, len(numbers), at_once):
        part = numbers[first : first + at_once]
        for number, at_us, whole_kwh in energy.load_whole_quarter_hours(
            connection, part, period, LEAST_COVERAGE
        ):
            table[(at_us - start_us) // QUARTER_HOUR_US, column[number]] = whole_kwh
    return pd.DataFrame(table, index, keys, copy=False)


def capacity_points(site: Site) -> list[Point]:
    """Points from which the load of every feed and of IT follows."""
    return list({p.id: p for p in (*it_points(site), *flow_points(site))}.values())


def flow_points(site: Site) -> list[Point]:
    """Points from which the flow into every meter follows at some time."""
    return [p for state in site.states for m in state.meters for p in inflow_points(m)]


def it_points(site: Site) -> list[Point]:
    """Points that carry the IT energy at some time."""
    return list({p.id: p for state in site.states for p in state.it_carriers()}.values())


def it_energy(site: Site, table: pd.DataFrame) -> pd.Series[float]:
    """IT energy per interval, NaN where a point that carries it is not known. [kWh]"""
    parts = [_it_energy(state, rows) for state, rows in by_state(site, table)]
    return parts[0] if len(parts) == 1 else pd.concat(parts or [pd.Series(np.nan, table.index)])


def _it_energy(site: Site, table: pd.DataFrame) -> pd.Series[float]:
    carriers = site.it_carriers()
    if not carriers:
        return pd.Series(np.nan, table.index)
    weights = pd.Series({p.id: p.weight for p in carriers})
    return (table.reindex(columns=list(weights.index)) * weights).sum(axis=1, skipna=False)


def split(connection: sa.Connection, stored: Stored, site: Site, period: Period) -> EnergySplit:
    """Facility energy of a period by what used it, over the time facility and IT are both covered.

    Raises
    ------
    CoverageTooLow
        If less is covered than the site asks for.
    StoreUnavailable
        If the database is away.
    """
    totals = sums.site_totals(connection, [sums.OfSite(site, stored.site_id[site.id], [period])])[0][0]
    covered_ratio = totals.covered_s / period.duration_s
    if covered_ratio < site.minimum_coverage_ratio or totals.it_kwh <= 0:
        span = f"{period.start:%Y-%m-%d %H:%M} to {period.end:%Y-%m-%d %H:%M} UTC"
        raise CoverageTooLow(
            f"{span} has {percent(covered_ratio)} coverage; at least {percent(site.minimum_coverage_ratio)} "
            "and some IT energy are needed, choose another period"
        )
    return EnergySplit(
        totals.facility_kwh,
        totals.it_kwh,
        totals.covered_s / 3600,
        {r.value: totals.classes_kwh.get(r.value, 0.0) for r in OVERHEAD_ROLES},
    )
