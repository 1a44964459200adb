"""What a report is built from: the stored figures of one site over one month or year.

The store gathers it, ``app/reports`` builds the document from it. Nothing here is rounded or worded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from app.domain.attribution import EnergySplit
from app.domain.capacity import FeedLoad, Load
from app.domain.limits import Limit, LimitProfile
from app.domain.period import Period
from app.domain.pue import PueDocument
from app.domain.reference import BUILT_IN, Reference
from app.domain.site import Institution, Site

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


@dataclass(frozen=True, slots=True)
class Loads:
    """Use of the capacities over one stretch of the period."""

    span: Period
    it: Load
    rooms: Mapping[str, Load]
    feeds: tuple[FeedLoad, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that is known about the period of a report."""

    site: Site
    institution: Institution
    profiles: Mapping[str, LimitProfile]
    limits: tuple[Limit, ...]
    """Those that hold on the last day."""
    name: str
    """``2026-10`` or ``2026``."""
    period: Period
    """The whole month or year."""
    known: Period
    """The part of it that has passed."""
    now: datetime
    pue: Mapping[str, PueDocument]
    """By window: period, year_to_date, trailing_12_months."""
    quarters: pd.DataFrame
    """Sums of the site per 15-minute interval, indexed by its start in UTC. [kWh], shares [0..1]"""
    history: pd.DataFrame
    """Sums of the site per local day, all its history up to the end of the period, indexed by naive day."""
    peak_kw: pd.Series[float]
    """Highest IT power of each local day of the history, indexed alike. [kW]"""
    splits: Mapping[str, EnergySplit]
    """By period: ``period``, ``last_month``, ``last_year``; those with too little coverage are absent."""
    loads: tuple[Loads, ...]
    """Month by month."""
    reference: Reference = BUILT_IN
    """Emission factors, targets and scoring bands."""
    points: Mapping[str, PointFigures] = field(default_factory=dict)
    tags_kwh: Mapping[str, float] = field(default_factory=dict)
    """Energy of all points that count, by how it came about. [kWh]"""
    water: Water | None = None
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    findings: tuple[FoundRow, ...] = ()
    ledger: tuple[DeclaredRow, ...] = ()
    alarms: tuple[AlarmRow, ...] = ()
    conflicts: int = 0
    """Readings that contradict one that was stored before."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """One revision of a report as it was stored."""

    period: str
    revision: int
    document: Mapping[str, Any]
    sha256: str
    created_at: datetime
