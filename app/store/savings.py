"""Verified savings of a site: its measures, their baselines, and the days that are held against them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain import joint, verification
from app.domain.attribution import Causes, EnergySplit
from app.domain.baseline import Baseline, Conditions, NoBaseline, Reason, fit
from app.domain.capacity import INTERVALS_PER_HOUR
from app.domain.emissions import EmissionFactor
from app.domain.joint import Statement
from app.domain.measure import Adjustment, Boundary, Scope
from app.domain.period import Period, midnight
from app.domain.savings import Reporting
from app.domain.site import Site
from app.domain.tree import by_state
from app.domain.verification import PlantBaseline, SiteSavings, Verified
from app.store import conditions, deployment, measures, site_days, usage
from app.store.engine import store_errors
from app.store.measures import MeasureEntry
from app.store.sites import Stored

REFERENCE_DAYS = 365
"""Days that a site's own baseline is fitted to, from the first one on, where no measure names others."""


@dataclass(frozen=True)
class _Source:
    """Where the days of a site come from."""

    connection: sa.Connection
    stored: Stored
    site: Site
    whole: Period
    rows: Conditions

    def at(self, where: Boundary) -> Conditions:
        """The days with the power of a class or of a meter in place of that of the whole overhead."""
        if where.scope is Scope.FACILITY or not len(self.rows):
            return self.rows
        daily_kw = verification.day_means(self._power_kw(where), self.rows.local_days, self.site.zone)
        return verification.with_power(self.rows, daily_kw)

    def quarters_kwh(self, where: Boundary) -> pd.Series[float] | None:
        """Energy in a boundary by 15-minute interval; None where every hour of a day has one price."""
        if not any(tariff.bands for tariff in self.site.tariffs):
            return None
        if where.scope is not Scope.FACILITY:
            return self._power_kw(where) / INTERVALS_PER_HOUR
        values = {"site": self.stored.site_id[self.site.id], "start": self.whole.start, "end": self.whole.end}
        with store_errors():
            found = self.connection.execute(_OVERHEAD, values).all()
        at = pd.DatetimeIndex(pd.to_datetime([row[0] for row in found], unit="us", utc=True))
        return pd.Series([row[1] for row in found], index=at, dtype=float)

    def _power_kw(self, where: Boundary) -> pd.Series[float]:
        """Power of a class or of a meter by 15-minute interval. [kW]"""
        points = {p.id: p for state in self.site.states for p in where.points(state)}
        table = usage.frame(self.connection, self.stored, list(points.values()), self.whole)
        parts = [_power_kw(state, where, part) for state, part in by_state(self.site, table)]
        return pd.concat(parts) if parts else pd.Series(np.nan, table.index)


_OVERHEAD = sa.text(
    "SELECT (extract(epoch FROM at) * 1000000)::bigint, facility_kwh - it_kwh FROM site_15m"
    " WHERE site_id = :site AND room = '' AND at >= :start AND at < :end ORDER BY at"
)


def gather(connection: sa.Connection, stored: Stored, site: Site, until: date) -> SiteSavings:
    """The savings of a site up to a local day.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    source, entries = _source(connection, stored, site, until)
    declared = tuple(entry.measure for entry in entries)
    verified = _verified(source, joint.statements(declared, site, until), entries)
    return SiteSavings(until, declared, verified, _plant(source.rows, entries))


def plant(connection: sa.Connection, stored: Stored, site: Site, until: date) -> PlantBaseline:
    """What the plant of a site is held against, and its days up to a local day.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    source, entries = _source(connection, stored, site, until)
    return _plant(source.rows, entries)


def causes(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    splits: tuple[EnergySplit, EnergySplit],
    periods: tuple[Period, Period],
) -> Causes | tuple[Reason, ...]:
    """Why the PUE changed between two periods: weather, IT load, or the plant itself.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    first, second = (verification.whole_days(one, site.zone) for one in periods)
    found = plant(connection, stored, site, max(first[1], second[1]))
    return found.causes(*splits, (first, second))


def _source(
    connection: sa.Connection, stored: Stored, site: Site, until: date
) -> tuple[_Source, list[MeasureEntry]]:
    entries = measures.in_force(connection, stored.site_id[site.id])
    first = _first_day(connection, stored, site, until)
    whole = Period(midnight(first, site.zone), midnight(max(until, first + timedelta(days=1)), site.zone))
    rows = conditions.of_site(connection, stored, site, whole)
    return _Source(connection, stored, site, whole, rows), entries


def _first_day(connection: sa.Connection, stored: Stored, site: Site, until: date) -> date:
    """The first day of the history."""
    days = site_days.days(connection, stored.site_id[site.id], site, midnight(until, site.zone))
    return min((day.date() for day in days.index), default=until)


def _verified(
    source: _Source, statements: Iterable[Statement], entries: Iterable[MeasureEntry]
) -> tuple[Verified, ...]:
    power: dict[Boundary, Conditions] = {}
    quarters: dict[Boundary, pd.Series[float] | None] = {}
    fits: dict[tuple[Boundary, date, date], Baseline | NoBaseline] = {}
    factors = deployment.reference(source.connection).emission_factors
    found = []
    for one in statements:
        if one.where not in power:
            power[one.where] = source.at(one.where)
            quarters[one.where] = source.quarters_kwh(one.where)
        key = (one.where, one.base.baseline_start, one.base.baseline_end)
        if key not in fits:
            fits[key] = fit(_between(power[one.where], *key[1:]))
        noted = [a for e in entries if e.measure in one.measures for a in e.in_force]
        period = _reporting(source.site, one, power[one.where], quarters[one.where], noted, factors)
        found.append(Verified.of(one, fits[key], period))
    return tuple(found)


def _reporting(
    site: Site,
    statement: Statement,
    rows: Conditions,
    quarters_kwh: pd.Series[float] | None,
    noted: Iterable[Adjustment],
    factors: Iterable[EmissionFactor],
) -> Reporting:
    own = rows.take(verification.in_spans(rows.local_days, statement.spans))
    return Reporting(
        own,
        verification.days_in(statement.spans),
        verification.daily_prices(site.tariffs, own, site.zone, quarters_kwh),
        verification.daily_factors(factors, site.emissions, own),
        tuple(noted),
    )


def _plant(rows: Conditions, entries: Iterable[MeasureEntry]) -> PlantBaseline:
    """The baseline of the earliest measure of the whole facility, else of the first year."""
    whole = [e.measure for e in entries if e.measure.where.scope is Scope.FACILITY]
    base = min(whole, key=lambda m: m.implementation_start, default=None)
    if base is not None:
        reference = _between(rows, base.baseline_start, base.baseline_end)
    else:
        reference = rows.take(rows.local_days < rows.local_days[:1] + np.timedelta64(REFERENCE_DAYS, "D"))
    return PlantBaseline(fit(reference), reference, rows)


def _between(rows: Conditions, start: date, end: date) -> Conditions:
    return rows.take(verification.in_spans(rows.local_days, [(start, end)]))


def _power_kw(state: Site, where: Boundary, table: pd.DataFrame) -> pd.Series[float]:
    weights = pd.Series({p.id: p.weight for p in where.points(state)}, dtype=float)
    if weights.empty:
        return pd.Series(np.nan, table.index)
    energy = (table.reindex(columns=list(weights.index)) * weights).sum(axis=1, skipna=False)
    return energy * INTERVALS_PER_HOUR
