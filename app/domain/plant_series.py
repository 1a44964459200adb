"""What the points of a plant measured over a period, as columns in intervals of 15 minutes or an hour.

A column sums or averages the points that have one meaning (a role, or a kind of equipment), each time by the
site as it was then. It is unknown (NaN) where one of its points is; a sensor whose value has not changed at
all for two days is taken for stuck, and unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain import weather
from app.domain.limits import accuracy_percent, combined_class_percent
from app.domain.overlap import undecided
from app.domain.period import Period
from app.domain.quantity import ReadingKind, Role
from app.domain.reference import BUILT_IN, Reference
from app.domain.site import Equipment, Point, Site
from app.domain.tree import by_state, inflow_points
from app.domain.typical import PlantAssumption, PlantTypical, assumption_on, typical_on

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STUCK_HOURS = 48
"""Time over which a sensor that shows one and the same mean is taken for stuck."""

IT = "it"


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding that nobody has acknowledged yet, or a definition that is being applied to the past."""

    point: str
    """Empty: of the site."""
    text: str


@dataclass(frozen=True)
class Column:
    """One quantity of the plant in every interval."""

    name: str
    """``role:...``, ``equipment:...``, ``stage:ups`` or ``it``: what is missing where it has no points."""
    values: Floats
    """NaN: not known."""
    points: tuple[str, ...]

    @property
    def known(self) -> Bools:
        """Intervals in which it is known."""
        return ~np.isnan(self.values)


@dataclass(frozen=True)
class PlantSeries:
    """Energies and sensors of a site over a period.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        Energy per interval by point, before weights, indexed by its start in UTC. [kWh] The intervals are of
        15 minutes or, for long periods, of an hour, without gaps.
    gauges : DataFrame of float64, shape (n, points)
        Means of the sensors in their house units; the same index. NaN: not known.
    """

    site: Site
    period: Period
    energy_kwh: pd.DataFrame
    gauges: pd.DataFrame
    findings: tuple[OpenFinding, ...] = ()
    reference: Reference = field(default_factory=lambda: BUILT_IN)

    @cached_property
    def index(self) -> pd.DatetimeIndex:
        """Starts of the intervals, UTC."""
        return pd.DatetimeIndex(self.energy_kwh.index)

    @cached_property
    def local(self) -> pd.DatetimeIndex:
        """The same in the site's zone."""
        return self.index.tz_convert(self.site.zone)

    @property
    def now(self) -> Site:
        """The constant site at the end of the period."""
        return self.site.at(self.index[-1].to_pydatetime())

    @cached_property
    def per_hour(self) -> int:
        """Intervals in an hour: 4 or 1."""
        return 1 if len(self.index) > 1 and (self.index[1] - self.index[0]).total_seconds() >= 3600 else 4

    def hours(self, rows: Bools) -> float:
        """Length of the chosen intervals. [h]"""
        return float(rows.sum()) / self.per_hour

    def kwh(self, power_kw: Floats, rows: Bools) -> float:
        """Energy of a power over the chosen intervals. [kWh]"""
        return float(power_kw[rows].sum()) / self.per_hour

    def sums_kwh(self, columns: Mapping[str, Column], rows: Bools) -> dict[str, float]:
        """Energies of some columns of power over the chosen intervals. [kWh]"""
        return {name: self.kwh(c.values, rows) for name, c in columns.items()}

    @property
    def has_it(self) -> bool:
        """Whether the site has IT meters, whatever the doubt about which of them count."""
        return any(state.it_carriers() for state in self.site.states)

    def has_equipment(self, kind: Equipment) -> bool:
        """Whether a meter says that it supplies equipment of a kind."""
        return any(m.equipment is kind for m in self.site.meters)

    def meter_of(self, point: str) -> str:
        """The meter of a point; empty where the site has no such point."""
        return next((m.id for m in self.site.meters if any(p.id == point for p in m.points)), "")

    # -- columns ------------------------------------------------------------------------------------

    def it_kw(self) -> Column:
        """IT power, weighted, as PUE counts it. [kW]"""
        if any(undecided(state) for state in self.site.states):
            return Column(IT, self._nothing(), ())
        return self._power(IT, Site.it_carriers)

    def role_kw(self, *roles: Role) -> Column:
        """Power of the points that carry some roles, weighted. [kW]"""
        return self._power(f"role:{roles[0].value}", lambda site: site.carriers(*roles))

    def equipment_kw(self, *kinds: Equipment, weighted: bool = False) -> Column:
        """Electric power of some kinds of equipment, as the meters show it unless `weighted`. [kW]"""
        return self._power(
            f"equipment:{kinds[0].value}",
            lambda site: [p for m in site.meters if m.equipment in kinds for p in inflow_points(m)],
            weighted=weighted,
        )

    def meters_kw(self, name: str, meters: Sequence[str]) -> Column:
        """Power that flows into some meters. [kW]"""
        chosen = set(meters)
        return self._power(
            name,
            lambda site: [p for m in site.meters if m.id in chosen for p in inflow_points(m)],
            weighted=False,
        )

    def heat_kw(self) -> Column:
        """Heat that the heat meters saw. [kW] thermal"""
        return self._power(
            f"role:{Role.HEAT_REMOVED.value}",
            lambda site: site.carriers(Role.HEAT_REMOVED),
            weighted=False,
        )

    def sensor(self, role: Role) -> Column:
        """Mean of all sensors of a role; unknown where one of them is."""
        table = self.sensors(role)
        values = table.to_numpy(np.float64).mean(axis=1) if len(table.columns) else self._nothing()
        return Column(f"role:{role.value}", values, tuple(table.columns))

    def sensors(self, role: Role) -> pd.DataFrame:
        """Every sensor of a role in a column of its own; NaN where it is not there or not known."""
        found: dict[str, pd.Series[float]] = {}
        for state, table in by_state(self.site, self.gauges):
            for point in _sensors_of(state, role):
                column = found.setdefault(point.id, pd.Series(np.nan, self.index))
                if point.id in table:
                    column.loc[table.index] = table[point.id]
        if role is not Role.CHILLER_RUNNING:
            found = {
                p: pd.Series(alive(np.asarray(c, np.float64), self.per_hour), c.index)
                for p, c in found.items()
            }
        return pd.DataFrame(found, index=self.index, dtype=float)

    def wet_bulb(self) -> Column:
        """Outdoor wet bulb: as measured, else from dry bulb and relative humidity. [C]"""
        measured = self.sensor(Role.OUTDOOR_WET_BULB)
        if measured.points:
            return measured
        dry, humidity = self.sensor(Role.OUTDOOR_DRY_BULB), self.sensor(Role.OUTDOOR_RELATIVE_HUMIDITY)
        if not (dry.points and humidity.points):
            return measured
        values = weather.wet_bulb_c(dry.values, humidity.values)
        return Column(measured.name, values, (*dry.points, *humidity.points))

    def _power(
        self, name: str, choose: Callable[[Site], Sequence[Point]], *, weighted: bool = True
    ) -> Column:
        """Sum of the chosen points; unknown at times at which the site has none."""
        values, points = self._nothing(), dict[str, None]()
        for state, table in by_state(self.site, self.energy_kwh):
            chosen = {p.id: p.weight if weighted else 1.0 for p in choose(state)}
            if chosen:
                part = (table.reindex(columns=list(chosen)) * pd.Series(chosen)).sum(axis=1, skipna=False)
                first = int(self.index.searchsorted(table.index[0]))
                values[first : first + len(table)] = part.to_numpy() * self.per_hour
                points |= dict.fromkeys(chosen)
        return Column(name, values, tuple(points))

    def _nothing(self) -> Floats:
        return np.full(len(self.index), np.nan)

    # -- what stands beside -------------------------------------------------------------------------

    def waits_for(self, points: Sequence[str], *, counts: bool) -> tuple[str, ...]:
        """Open findings of some points; of the site, too, for what `counts` into PUE."""
        chosen = set(points)
        return tuple(
            dict.fromkeys(f.text for f in self.findings if (f.point in chosen if f.point else counts))
        )

    def poorly_covered(self, points: Sequence[str]) -> tuple[str, ...]:
        """Those of some points that cover less of the period than the site asks for, worst first."""
        shares = {p: self._known_ratio(p) for p in points}
        least = self.site.minimum_coverage_ratio
        return tuple(sorted((p for p, share in shares.items() if share < least), key=lambda p: shares[p]))

    def _known_ratio(self, point: str) -> float:
        if point in self.energy_kwh:
            return float(self.energy_kwh[point].notna().mean())
        if point not in self.gauges:
            return 0.0
        return float(np.isfinite(alive(np.asarray(self.gauges[point], np.float64), self.per_hour)).mean())

    def class_percent(self, points: Sequence[str]) -> float:
        """Accuracy class of the sum of some points of the last site. [%]"""
        known = {p.id: (m, p) for m in self.now.meters for p in m.points}
        kept = [p for p in points if p in known and p in self.energy_kwh]
        energies = [float(self.energy_kwh[p].sum()) for p in kept]
        return combined_class_percent(energies, [accuracy_percent(*known[p]) for p in kept])

    def typical(self, indicator: str) -> PlantTypical | None:
        """The typical values of an indicator on the period's last day."""
        return typical_on(self.reference.plant_typicals, indicator, self.period.last_day(self.site.zone))

    def assumed(self, name: str) -> PlantAssumption:
        """An assumption as it holds on the period's last day.

        Raises
        ------
        NotFound
            If none holds.
        """
        return assumption_on(self.reference.plant_assumptions, name, self.period.last_day(self.site.zone))


def _sensors_of(site: Site, role: Role) -> list[Point]:
    return [p for p in site.points() if p.role is role and p.kind is ReadingKind.GAUGE]


def alive(values: Floats, per_hour: int) -> Floats:
    """Values of a sensor without the stretches in which it did not change for :data:`STUCK_HOURS` or more.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        NaN: not known; it ends a stretch.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    if not len(values):
        return values
    same = np.concatenate([[False], values[1:] == values[:-1]])
    group = np.cumsum(~same)
    length = np.bincount(group)[group]
    return np.where(length >= STUCK_HOURS * per_hour, np.nan, values)


def known_together(columns: Sequence[Column]) -> Bools:
    """Intervals in which all of some columns are known."""
    return np.asarray(np.logical_and.reduce([c.known for c in columns]), np.bool_)


def points_of(columns: Sequence[Column]) -> tuple[str, ...]:
    """The points of some columns, each once."""
    return tuple(dict.fromkeys(p for c in columns for p in c.points))


def missing_of(columns: Sequence[Column]) -> tuple[str, ...]:
    """What some columns lack: those without points."""
    return tuple(c.name for c in columns if not c.points)
