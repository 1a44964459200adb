"""What the points of a plant measured over a period, for the plant indicators and the opportunities."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain.period import QUARTER_HOUR_S, Period, floor, shift_months
from app.domain.plant_series import OpenFinding, PlantSeries
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point, Site, Stage
from app.domain.tree import inflow_points
from app.errors import SeriesError
from app.store import deployment, findings, gauges, rollup_queue, usage
from app.store.sites import Stored

LONGEST_QUARTERS_S = 100 * 86_400.0
"""Periods longer than this are looked at by hours: a year of a thousand sensors stays small."""
MOST_CELLS = 20_000_000
"""Values that are held at once: a year of 2 000 sensors by hours, three months of them by 15 minutes."""
_HOUR_S = 3600

ENERGY_ROLES = (Role.COOLING, Role.POWER_DISTRIBUTION, Role.LIGHTING, Role.HEAT_REMOVED)
SENSOR_ROLES = (
    Role.UTILISATION,
    Role.OUTDOOR_DRY_BULB,
    Role.OUTDOOR_WET_BULB,
    Role.OUTDOOR_RELATIVE_HUMIDITY,
    Role.CHILLED_WATER_SUPPLY,
    Role.CHILLED_WATER_RETURN,
    Role.CHILLED_WATER_FLOW,
    Role.CONDENSER_SUPPLY,
    Role.RACK_INLET,
    Role.RACK_OUTLET,
    Role.CRAC_SUPPLY,
    Role.CRAC_RETURN,
    Role.CHILLER_RUNNING,
)


def of_site(
    connection: sa.Connection, stored: Stored, site: Site, period: Period, now: datetime
) -> PlantSeries:
    """Energies, sensors and open findings of a site; of a period that has not ended, what has passed.

    Parameters
    ----------
    period : Period
        On 15-minute boundaries; a long one is cut to whole hours (:data:`LONGEST_QUARTERS_S`).

    Raises
    ------
    SeriesError
        If the period has not begun, or so much would not fit into one answer.
    StoreUnavailable
        If the database is away.
    """
    if floor(now) <= period.start:
        raise SeriesError(f"{period.start.isoformat()} is not over yet; ask for a period that has begun")
    known = Period(period.start, min(period.end, floor(now)))
    site, is_long = site.during(known), known.duration_s > LONGEST_QUARTERS_S
    span = _whole_hours(known) if is_long else known
    energies, sensors = energy_points(site), sensor_points(site)
    _check_size(span, len(energies) * 4 + len(sensors), is_long=is_long)
    table = usage.frame(connection, stored, energies, span)
    if is_long:
        table = _by_hours(table)
        values = gauges.hours(connection, stored, sensors, span)
    else:
        values = gauges.series(connection, stored, sensors, span)
    step_s = _HOUR_S if is_long else QUARTER_HOUR_S
    return PlantSeries(
        site,
        span,
        table,
        held(site, values, step_s),
        _open_findings(connection, stored, site, [*energies, *sensors], span),
        deployment.reference(connection),
    )


def is_described(site: Site) -> bool:
    """Whether the site says what its plant is: kinds of equipment, or sensors of water, air or weather."""
    roles = [p.role for p in sensor_points(site)]
    return any(m.equipment is not None for m in site.meters) or any(r is not Role.UTILISATION for r in roles)


def of_report(
    connection: sa.Connection, stored: Stored, site: Site, known: Period
) -> tuple[PlantSeries | None, PlantSeries | None]:
    """The plant over a report's period and over the 12 months that end with it; None where none is described.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not is_described(site):
        return None, None
    whole = stored.fleet.site.get(site.id, site)
    trailing = Period(shift_months(known.end, -12, site.zone), known.end)
    spans = (known, trailing)
    found = [of_site(connection, stored, whole, span, known.end) for span in spans]
    return found[0], found[1]


def _check_size(span: Period, series: int, *, is_long: bool) -> None:
    cells = span.duration_s / (_HOUR_S if is_long else QUARTER_HOUR_S) * series
    if cells > MOST_CELLS:
        raise SeriesError(
            f"{cells:,.0f} values of {series} meters and sensors are more than the {MOST_CELLS:,} of one "
            "answer; ask for a shorter period"
        )


def energy_points(site: Site) -> list[Point]:
    """Points of which the energy enters a plant indicator at some time."""
    found = [p for state in site.states for p in (*state.it_carriers(), *state.carriers(*ENERGY_ROLES))]
    chain = [
        p
        for state in site.states
        for m in state.meters
        if m.equipment is not None or m.stage is Stage.UPS
        for p in inflow_points(m)
    ]
    return list({p.id: p for p in (*found, *chain)}.values())


def sensor_points(site: Site) -> list[Point]:
    """Sensors that enter a plant indicator."""
    return [p for p in site.points() if p.kind is ReadingKind.GAUGE and p.role in SENSOR_ROLES]


def held(site: Site, values: pd.DataFrame, step_s: int) -> pd.DataFrame:
    """Readings of sensors that are read less often than every interval hold until the next one is due.

    Weather files are hourly at best, whatever their points say.
    """
    longest_s = {
        p.id: max(p.interval_s, _HOUR_S if m.imported_from else 0) for m in site.meters for p in m.points
    }
    for point in values.columns:
        steps = int(np.ceil(longest_s[point] / step_s)) - 1
        if steps > 0:
            values[point] = values[point].ffill(limit=steps)
    return values


def _whole_hours(period: Period) -> Period:
    start = pd.Timestamp(period.start).ceil("h").to_pydatetime()
    return Period(start, pd.Timestamp(period.end).floor("h").to_pydatetime())


def _by_hours(quarters: pd.DataFrame) -> pd.DataFrame:
    """Energies of whole hours; of one that is half known, scaled up."""
    cells = quarters.to_numpy().reshape(len(quarters) // 4, 4, -1)
    count = np.isfinite(cells).sum(axis=1)
    sums = np.nansum(cells, axis=1)
    whole = np.divide(sums * 4, count, where=count >= 2, out=np.full(sums.shape, np.nan))
    return pd.DataFrame(whole, quarters.index[::4], quarters.columns)


def _open_findings(
    connection: sa.Connection, stored: Stored, site: Site, points: Sequence[Point], span: Period
) -> tuple[OpenFinding, ...]:
    """Findings for which figures wait, and points whose past is still that of an earlier definition."""
    numbers = {stored.point_id[p.id]: p.id for p in points}
    rows = findings.doubts(connection, [stored.site_id[site.id]], span)
    found = [
        OpenFinding(row.point or "", f"{row.point or site.id} ({row.kind})")
        for row in rows
        if not row.point_id or row.point_id in numbers
    ]
    if rollup_queue.redefined(connection, set(numbers), span):
        text = f"{site.id} (redefined)"
        found += [OpenFinding(point, text) for point in numbers.values()]
    return tuple(dict.fromkeys(found))
