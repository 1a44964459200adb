"""A site computed in memory from readings: the same domain functions as in service, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from app.domain import energy, tree
from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.energy import Event, QuarterHours, Series
from app.domain.limits import LimitProfile, merged_profiles
from app.domain.period import QUARTER_HOUR_US, Period
from app.domain.pue import Doubt, PueDocument, Totals, boundary, document, pair
from app.domain.quality.detect import negative_remainders, site_findings
from app.domain.quality.finding import GOES_ON, WITHHOLDING, Finding
from app.domain.quality.flows import flow_findings
from app.domain.quality.units import withheld
from app.domain.quantity import ENERGY_KINDS
from app.domain.reading import LATEST
from app.domain.site import Institution, InstitutionClass, Site
from collectors.csv.mapping import Mapping as CsvMapping
from collectors.csv.mapping import parse_mapping
from collectors.csv.reader import read, understand

LEAST_COVERAGE = 0.5
LIMITS = merged_profiles(LIMIT_PROFILES)


def series(at_us: np.ndarray, value: np.ndarray, interval_s: int = 0) -> Series:  # type: ignore[type-arg]
    """Readings of one point."""
    length = np.full(len(at_us), interval_s, np.int32)
    return Series(np.asarray(at_us, np.int64), np.asarray(value, np.float64), length, length)


def read_csv(path: Path, site: Site, mapping: Path | None = None) -> dict[str, Series]:
    """The readings of a file by point, as the import takes them over."""
    told = CsvMapping() if mapping is None else parse_mapping(mapping.read_text(encoding="utf-8"))
    plan = understand(path, site, told)
    parts: dict[str, list[tuple[int, float, int, int]]] = {}
    for batch in read(path, plan, now=datetime(2026, 12, 1, tzinfo=UTC)):
        c = batch.columns
        for n, at_us, value, length, valid in zip(
            c.point_id, c.at_us, c.value, c.interval_s, c.valid_s, strict=True
        ):
            parts.setdefault(batch.points[n], []).append((int(at_us), float(value), int(length), int(valid)))
    return {key: _series(rows) for key, rows in parts.items()}


def _series(rows: list[tuple[int, float, int, int]]) -> Series:
    at_us, value, length, valid = zip(*sorted(rows), strict=True)
    return Series(
        np.array(at_us, np.int64), np.array(value), np.array(length, np.int32), np.array(valid, np.int32)
    )


def _until(finding: Finding) -> datetime:
    return LATEST if GOES_ON in finding.evidence else finding.end


@dataclass
class Plant:
    """A site with its readings and ledger."""

    site: Site
    readings: Mapping[str, Series]
    events: Mapping[str, Sequence[Event]] = field(default_factory=dict)

    @cached_property
    def effective(self) -> Site:
        """The site with its points as their energy is computed."""
        meters = tuple(
            replace(m, points=tuple(self.site.effective(m, p) for p in m.points)) for m in self.site.meters
        )
        return replace(self.site, meters=meters)

    @cached_property
    def span_us(self) -> tuple[int, int]:
        """First and last boundary of quarter-hours around the readings."""
        first = min(int(s.at_us[0]) - int(s.interval_s[0]) * 1_000_000 for s in self.readings.values())
        last = max(int(s.at_us[-1]) for s in self.readings.values())
        return first // QUARTER_HOUR_US * QUARTER_HOUR_US, -(-last // QUARTER_HOUR_US) * QUARTER_HOUR_US

    @cached_property
    def of_readings(self) -> list[Finding]:
        """What the readings of the meters tell."""
        return site_findings(self.effective, self.readings, self.events)

    @cached_property
    def spans(self) -> dict[str, energy.Spans]:
        """Known energy by point."""
        points = {p.id: p for p in self.effective.points() if p.kind in ENERGY_KINDS}
        held = withheld(self.of_readings)
        return {
            key: energy.spans(one, points[key], [*self.events.get(key, ()), *held.get(key, ())])
            for key, one in self.readings.items()
            if key in points
        }

    @cached_property
    def cells(self) -> dict[str, QuarterHours]:
        """15-minute energies by point."""
        return {key: energy.quarter_hours(known, *self.span_us) for key, known in self.spans.items()}

    def kwh(self, point: str) -> float:
        """All that is known of a point."""
        return float(self.spans[point].energy_kwh.sum())

    def known_s(self, point: str) -> float:
        """Time of which it is known."""
        spans = self.spans[point]
        return float(((spans.end_us - spans.start_us) * spans.coverage_ratio).sum()) / 1e6

    @cached_property
    def findings(self) -> list[Finding]:
        """Everything that is found."""
        found = [*self.of_readings]
        found += flow_findings(self.site, boundary(self.site), self._table)
        balances = tree.balances(self.site, self._table.dropna(how="all"))
        return found + negative_remainders(balances, *self._ends)

    @property
    def _ends(self) -> tuple[datetime, datetime]:
        first, last = self.span_us
        return datetime.fromtimestamp(first / 1e6, UTC), datetime.fromtimestamp(last / 1e6, UTC)

    @property
    def _table(self) -> pd.DataFrame:
        start_us, end_us = self.span_us
        index = pd.to_datetime(np.arange(start_us, end_us, QUARTER_HOUR_US), unit="us", utc=True)
        columns = {}
        for key, cells in self.cells.items():
            column = np.full(len(index), np.nan)
            good = cells.coverage_ratio >= LEAST_COVERAGE
            rows = (cells.at_us[good] - start_us) // QUARTER_HOUR_US
            column[rows] = cells.energy_kwh[good] / cells.coverage_ratio[good]
            columns[key] = column
        return pd.DataFrame(columns, index)

    def pue(self, period: Period | None = None, profiles: Mapping[str, LimitProfile] = LIMITS) -> PueDocument:
        """The PUE document, as it stands before anybody acknowledged a finding."""
        parts = boundary(self.site)
        whole = period or Period(*self._ends)
        cells = pair(
            parts, self.cells, round(whole.start.timestamp() * 1e6), round(whole.end.timestamp() * 1e6)
        )
        needed = {"", *(p.id for p in parts.points())}
        waiting = [
            Doubt(f.start, _until(f), f"{f.point or self.site.id} ({f.kind})")
            for f in self.findings
            if f.kind in WITHHOLDING and f.point in needed
        ]
        return document(
            self.site,
            whole,
            Totals.of(cells),
            institution=Institution(id="b", institution_class=InstitutionClass.JOINT_STOCK),
            profiles=profiles,
            energies_kwh=[np.array([self.kwh(p.id) if p.id in self.spans else 0.0 for p in parts.points()])],
            doubts=waiting,
        )
