"""What indicators and reports are built from: the stored figures of one site over a period.

The store gathers it, ``app/reports`` builds the document from it. Nothing here is rounded or worded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd

from app.domain.attribution import EnergySplit
from app.domain.capacity import FeedLoad, Load
from app.domain.drift_figure import DriftFigure
from app.domain.hourly_factors import HourlyFactors
from app.domain.limits import Limit, LimitProfile
from app.domain.period import Period, shift_months
from app.domain.plant_series import PlantSeries
from app.domain.pue import Doubt, PueDocument
from app.domain.reference import BUILT_IN, Reference
from app.domain.site import Institution, Site
from app.domain.verification import SiteSavings

PERIOD, YEAR_TO_DATE, TRAILING = "period", "year_to_date", "trailing_12_months"
"""Windows of a report's PUE figures; the last two end with the period."""

LAST_MONTH, LAST_YEAR = "last_month", "last_year"
"""Periods that a month is compared with; a year only with the last year."""


@dataclass(frozen=True, slots=True)
class PointFigures:
    """Energy of one point, before its weight."""

    energy_kwh: float = 0.0
    covered_s: float = 0.0
    estimated_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Water:
    """Water input of a period, by the points with the role water, with their weights."""

    volume_m3: float
    covered_s: float
    """Time that the worst covered of them covers. [s]"""


@dataclass(frozen=True, slots=True)
class HeatRemoved:
    """Heat that the cooling carried out of the rooms, by the points with that role, with their weights."""

    energy_kwh: float
    """Thermal. [kWh]"""
    covered_s: float
    """Time that the worst covered of them covers. [s]"""


@dataclass(frozen=True, slots=True)
class Gauge:
    """Readings of a temperature, humidity or utilisation over a period, in the house unit."""

    mean: float
    lowest: float
    highest: float
    samples: int


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A finding about the data that touches the period."""

    kind: str
    point: str
    start: datetime
    end: datetime
    severity: str
    state: str
    effect_kwh: float | None


@dataclass(frozen=True, slots=True)
class DeclaredRow:
    """An entry of the ledger that touches the period."""

    kind: str
    point: str
    start: datetime
    end: datetime
    author: str
    note: str
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """An alarm that fired in the period."""

    rule: str
    severity: str
    started_at: datetime
    resolved_at: datetime | None
    value: float | None
    limit: float | None
    cause: str
    """Load class that it named; empty where it named none."""
    subject: str = ""
    """What of the site: a meter, a feed, a room; empty for the site itself."""
    watched: str = ""
    """Indicator that its rule watches."""


@dataclass(frozen=True, slots=True)
class Loads:
    """Use of the capacities over one stretch of the period."""

    span: Period
    it: Load
    rooms: Mapping[str, Load]
    feeds: tuple[FeedLoad, ...]


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What the indicators of a period rest on."""

    site: Site
    institution: Institution
    profiles: Mapping[str, LimitProfile]
    limits: tuple[Limit, ...]
    """Those that hold on the last day."""
    known: Period
    """What has passed of the period."""
    month: date | None
    """First day of the local month in which all of it lies; None: it is longer."""
    pue: Mapping[str, PueDocument]
    """By window: period, and in reports year_to_date and trailing_12_months."""
    quarters: pd.DataFrame
    """Sums of the site per 15-minute interval, indexed by its start in UTC. [kWh], shares [0..1]"""
    history: pd.DataFrame
    """Sums of the site per local day, all its history up to the end of the period, indexed by naive day."""
    loads: tuple[Loads, ...]
    """Month by month; rooms and feeds only in reports."""
    reference: Reference = BUILT_IN
    """Emission factors, targets and scoring bands."""
    water: Water | None = None
    heat_removed: HeatRemoved | None = None
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    hourly_factors: tuple[HourlyFactors, ...] = ()
    """Imported factors by hour of the site's region and basis that touch the period."""

    @property
    def last_day(self) -> date:
        """Local day on which the known part ends."""
        return (self.known.end - timedelta(microseconds=1)).astimezone(self.site.zone).date()


@dataclass(frozen=True, kw_only=True)
class Evidence(Basis):
    """Everything that is known about the period of a report."""

    name: str
    """``2026-10`` or ``2026``."""
    period: Period
    """The whole month or year."""
    now: datetime
    peak_kw: pd.Series[float]
    """Highest IT power of each local day of the history, indexed alike. [kW]"""
    splits: Mapping[str, EnergySplit]
    """By period: ``period``, ``last_month``, ``last_year``; those with too little coverage are absent."""
    points: Mapping[str, PointFigures] = field(default_factory=dict)
    tags_kwh: Mapping[str, float] = field(default_factory=dict)
    """Energy of all points that count, by how it came about. [kWh]"""
    findings: tuple[FoundRow, ...] = ()
    ledger: tuple[DeclaredRow, ...] = ()
    alarms: tuple[AlarmRow, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    """Open findings of the time up to the end of the period for which figures wait."""
    plant: PlantSeries | None = None
    """What the plant measured over the period; None where the site describes none."""
    plant_year: PlantSeries | None = None
    """The same of the 12 months that end with the period."""
    conflicts: int = 0
    """Readings that contradict one that was stored before."""
    savings: SiteSavings | None = None
    """Up to the end of the period."""
    drift: DriftFigure | None = None
    """At the end of the period."""

    def days_of(self, against: str = PERIOD) -> tuple[date, date]:
        """Local days of a period of `splits`, half-open."""
        months = {PERIOD: 0, LAST_MONTH: -1, LAST_YEAR: -12}[against]
        zone = self.site.zone
        ends = (shift_months(at, months, zone) for at in (self.known.start, self.known.end))
        first, last = (at.astimezone(zone).date() for at in ends)
        return first, last


@dataclass(frozen=True, slots=True)
class Frozen:
    """One revision of a report as it was stored."""

    period: str
    revision: int
    document: Mapping[str, Any]
    sha256: str
    created_at: datetime
