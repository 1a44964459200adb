"""What reports are built from, and the frozen ones.

A closed report is a row that nobody can change (a trigger refuses); corrected figures are a new row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from app.domain import capacity
from app.domain.attribution import EnergySplit
from app.domain.evidence import (
    LAST_MONTH,
    LAST_YEAR,
    PERIOD,
    TRAILING,
    YEAR_TO_DATE,
    AlarmRow,
    Basis,
    DeclaredRow,
    Evidence,
    FoundRow,
    Frozen,
    Gauge,
    HeatRemoved,
    Loads,
    PointFigures,
    Water,
)
from app.domain.limits import governing, limits_for
from app.domain.period import (
    QUARTER_HOUR_S,
    Period,
    Step,
    floor,
    midnight,
    month_or_year,
    shift_months,
    starts,
)
from app.domain.pue import CLASSES, Doubt, boundaries
from app.domain.quantity import ReadingKind, Role
from app.domain.reading import OLDEST
from app.domain.site import Site
from app.errors import CoverageTooLow, SeriesError
from app.store import (
    deployment,
    drifts,
    events,
    findings,
    hourly_factors,
    locks,
    plant,
    pue,
    savings,
    site_days,
    sums,
    tables,
    usage,
)
from app.store.engine import store_errors, unhurried
from app.store.sites import Stored
from app.store.sums import PointEnergy

# -- the figures of a period -------------------------------------------------------------------------


def gather(connection: sa.Connection, stored: Stored, site: Site, name: str, now: datetime) -> Evidence:
    """Everything that is known about a month or year of a site.

    Parameters
    ----------
    name : str
        ``2026-10`` or ``2026``.
    now : datetime
        A period that has not ended is reported up to the last closed quarter-hour.

    Raises
    ------
    SeriesError
        If `name` is no month or year, or has not begun.
    StoreUnavailable
        If the database is away.
    """
    period = begun(site, name, now)
    known = Period(period.start, min(period.end, floor(now)))
    always, site = site, site.during(known)
    with unhurried(connection):
        found = _gathered(connection, stored, site, name, period, known, now)
        until = known.end.astimezone(site.zone).date()
        limit = governing(found.limits)
        limit_pue = None if limit is None else limit.pue
        return replace(
            found,
            savings=savings.gather(connection, stored, always, until),
            drift=drifts.figure(connection, stored, always, known.end, limit_pue),
        )


def begun(site: Site, name: str, now: datetime) -> Period:
    """The whole month or year ``2026-10`` or ``2026`` of a site.

    Raises
    ------
    SeriesError
        If `name` is no month or year, or has not begun.
    """
    period = month_or_year(name, site.zone)
    if floor(now) <= period.start:
        raise SeriesError(f"{name} has not begun at {site.id}; ask for a month or year that has")
    return period


def basis(connection: sa.Connection, stored: Stored, site: Site, period: Period, now: datetime) -> Basis:
    """What the indicators of a site rest on, over any period; of one that has not ended, what has passed.

    Raises
    ------
    SeriesError
        If the period has not begun.
    StoreUnavailable
        If the database is away.
    """
    if floor(now) <= period.start:
        raise SeriesError(f"{period.start.isoformat()} is not over yet; ask for a period that has begun")
    known = Period(period.start, min(period.end, floor(now)))
    with unhurried(connection):
        site = site.during(known)
        loads = tuple(_it_loads(connection, stored, site, known))
        return Basis(**_basis(connection, stored, site, period, known, {PERIOD: known}), loads=loads)


def _basis(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    period: Period,
    known: Period,
    spans: Mapping[str, Period],
) -> dict[str, Any]:
    """The fields of a basis but the loads."""
    profiles = deployment.limit_profiles(connection)
    institution = stored.fleet.institution[site.institution]
    last_day = (period.end - timedelta(microseconds=1)).astimezone(site.zone).date()
    number = stored.site_id[site.id]
    return {
        "site": site,
        "institution": institution,
        "profiles": profiles,
        "limits": limits_for(site, institution, dict(profiles), last_day),
        "known": known,
        "month": _month(period, site),
        "pue": {
            window: pue.document(connection, stored, site.id, span, profiles)
            for window, span in spans.items()
        },
        "quarters": _quarters(connection, number, known),
        "history": site_days.days(connection, number, site, known.end),
        "reference": deployment.reference(connection),
        "water": _water(connection, stored, site, known),
        "heat_removed": _heat_removed(connection, stored, site, known),
        "gauges": _gauges(connection, stored, site, known),
        "hourly_factors": hourly_factors.of_period(
            connection, site.emissions.region, site.emissions.basis, known
        ),
    }


def _month(period: Period, site: Site) -> date | None:
    first = period.start.astimezone(site.zone).date().replace(day=1)
    last = (period.end - timedelta(microseconds=1)).astimezone(site.zone).date()
    return first if last.replace(day=1) == first else None


def _gathered(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    name: str,
    period: Period,
    known: Period,
    now: datetime,
) -> Evidence:
    number = stored.site_id[site.id]
    basis = _basis(connection, stored, site, period, known, windows(site, known))
    seen, seen_year = plant.of_report(connection, stored, site, known)
    return Evidence(
        **basis,
        name=name,
        period=period,
        now=now,
        peak_kw=basis["history"]["it_peak_kw"].dropna(),
        splits=_splits(connection, stored, site, name, known),
        loads=tuple(_loads(connection, stored, site, known)),
        points=_points(connection, stored, site, known),
        tags_kwh=_tags(connection, stored, site, known),
        findings=_findings(connection, number, known),
        ledger=_ledger(connection, stored, number, known),
        alarms=_alarms(connection, number, known),
        doubts=_doubts(connection, stored, site, known),
        plant=seen,
        plant_year=seen_year,
        conflicts=_conflicts(connection, stored, site, known),
    )


def _doubts(connection: sa.Connection, stored: Stored, site: Site, known: Period) -> tuple[Doubt, ...]:
    history = Period(OLDEST, known.end)
    parts = [limits for _, limits in boundaries(site, history)]
    return tuple(pue.doubts(connection, stored, site, history, parts))


def windows(site: Site, known: Period) -> dict[str, Period]:
    """Spans of the PUE figures of a report: the period, and the two that end with it."""
    first = (known.end - timedelta(microseconds=1)).astimezone(site.zone).date().replace(month=1, day=1)
    return {
        PERIOD: known,
        YEAR_TO_DATE: Period(midnight(first, site.zone), known.end),
        TRAILING: Period(shift_months(known.end, -12, site.zone), known.end),
    }


_COLUMNS = ("facility_kwh", "it_kwh", *(f"{name}_kwh" for name in CLASSES))
_QUARTERS = f"""
SELECT (extract(epoch FROM at) * 1000000)::bigint AS at_us, {", ".join(_COLUMNS)},
       coverage_ratio, estimated_ratio
FROM site_15m WHERE site_id = :site AND room = '' AND at >= :start AND at < :end ORDER BY at
"""  # noqa: S608 - column names of this module


def _quarters(connection: sa.Connection, number: int, span: Period) -> pd.DataFrame:
    rows = _rows(connection, _QUARTERS, site=number, start=span.start, end=span.end)
    columns = ["at_us", *_COLUMNS, "coverage_ratio", "estimated_ratio"]
    table = pd.DataFrame(rows, columns=columns)
    index = pd.DatetimeIndex(pd.to_datetime(table.pop("at_us").astype("int64"), unit="us", utc=True))
    return table.astype(float).set_index(index)


def _splits(
    connection: sa.Connection, stored: Stored, site: Site, name: str, known: Period
) -> dict[str, EnergySplit]:
    spans = {PERIOD: known, LAST_YEAR: _shifted(site, known, -12)}
    if len(name) > 4:
        spans[LAST_MONTH] = _shifted(site, known, -1)
    found = {key: _split(connection, stored, site, span) for key, span in spans.items()}
    return {key: split for key, split in found.items() if split is not None}


def _shifted(site: Site, known: Period, months: int) -> Period:
    """The same part of an earlier month or year; a whole month if this one is whole."""
    first, last = (shift_months(at, months, site.zone) for at in (known.start, known.end))
    return Period(first, last)


def _split(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> EnergySplit | None:
    try:
        return usage.split(connection, stored, site, span)
    except CoverageTooLow:  # the report says that there is nothing to compare with
        return None


def _loads(connection: sa.Connection, stored: Stored, site: Site, known: Period) -> Iterator[Loads]:
    points = usage.capacity_points(site)
    for start, end in starts(known, Step.MONTH, site.zone):
        span = Period(start, end)
        table = usage.frame(connection, stored, points, span)
        yield Loads(
            span,
            capacity.it_load(usage.it_energy(site, table), site),
            capacity.room_it_loads(site, table),
            capacity.feed_loads(site, table),
        )


def _it_loads(connection: sa.Connection, stored: Stored, site: Site, known: Period) -> Iterator[Loads]:
    for start, end in starts(known, Step.MONTH, site.zone):
        span = Period(start, end)
        table = usage.frame(connection, stored, usage.it_points(site), span)
        yield Loads(span, capacity.it_load(usage.it_energy(site, table), site), {}, ())


def _points(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> dict[str, PointFigures]:
    figures: dict[str, PointEnergy] = {}
    for segment in site.interval_segments(span):
        numbers = {stored.point_id[p.id]: p.id for p in segment.site.points()}
        found = sums.by_point(connection, segment.site, list(numbers), segment.period)
        figures |= {numbers[n]: figures.get(numbers[n], PointEnergy()) + e for n, e in found.items()}
    return {p: PointFigures(e.energy_kwh, e.covered_s, e.estimated_s) for p, e in figures.items()}


_TAGS = """
SELECT (ARRAY['measured', 'interpolated', 'estimated', 'manual'])[tag], sum(energy_kwh)
FROM energy_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY tag ORDER BY tag
"""


def _tags(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> dict[str, float]:
    tags: dict[str, float] = {}
    for segment, limits in boundaries(site, span):
        numbers = [stored.point_id[p.id] for p in limits.points()]
        part = segment.period
        for tag, kwh in _rows(connection, _TAGS, points=numbers, start=part.start, end=part.end):
            tags[tag] = tags.get(tag, 0.0) + kwh
    return tags


_WATER = f"""
SELECT point_id, sum(volume_m3), sum(coverage_ratio) * {QUARTER_HOUR_S}
FROM volume_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY point_id
"""  # noqa: S608 - a constant of the domain


def _water(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> Water | None:
    parts = []
    for segment in site.interval_segments(span):
        weights = {stored.point_id[p.id]: p.weight for p in segment.site.carriers(Role.WATER)}
        if weights:
            inside = {"start": segment.period.start, "end": segment.period.end}
            rows = _rows(connection, _WATER, points=list(weights), **inside)
            covered_s = min((s for *_, s in rows), default=0.0) if len(rows) == len(weights) else 0.0
            parts.append(Water(sum(weights[n] * volume for n, volume, _ in rows), covered_s))
    return Water(sum(p.volume_m3 for p in parts), sum(p.covered_s for p in parts)) if parts else None


def _heat_removed(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> HeatRemoved | None:
    parts = []
    for segment in site.interval_segments(span):
        weights = {stored.point_id[p.id]: p.weight for p in segment.site.carriers(Role.HEAT_REMOVED)}
        if weights:
            found = sums.by_point(connection, segment.site, list(weights), segment.period)
            whole = len(found) == len(weights)
            covered_s = min((e.covered_s for e in found.values()), default=0.0) if whole else 0.0
            parts.append(HeatRemoved(sum(weights[n] * e.energy_kwh for n, e in found.items()), covered_s))
    return HeatRemoved(sum(p.energy_kwh for p in parts), sum(p.covered_s for p in parts)) if parts else None


_GAUGES = """
SELECT point_id, sum(mean * samples) / sum(samples), min(lowest), max(highest), sum(samples)
FROM gauge_15m WHERE point_id = ANY(:points) AND at >= :start AND at < :end GROUP BY point_id
"""


def _gauges(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> dict[str, Gauge]:
    numbers = {stored.point_id[p.id]: p.id for p in site.points() if p.kind is ReadingKind.GAUGE}
    rows = _rows(connection, _GAUGES, points=list(numbers), start=span.start, end=span.end)
    return {numbers[n]: Gauge(mean, low, high, int(samples)) for n, mean, low, high, samples in rows}


def _findings(connection: sa.Connection, number: int, span: Period) -> tuple[FoundRow, ...]:
    listed = findings.listing(connection, number, start=span.start, end=span.end)
    return tuple(
        FoundRow(f.kind, f.point, f.start, min(f.end, span.end), f.severity, f.state, f.effect_kwh)
        for f in sorted(listed, key=lambda f: (f.start, f.point, f.kind))
    )


def _ledger(connection: sa.Connection, stored: Stored, number: int, span: Period) -> tuple[DeclaredRow, ...]:
    keys = stored.point_key
    return tuple(
        DeclaredRow(
            e.kind.value,
            keys.get(e.point_id or 0, ""),
            e.start,
            e.end,
            e.author,
            e.note,
            e.withdrawn_at is not None,
        )
        for e in events.listing(connection, number)
        if e.start < span.end and e.end >= span.start
    )


_ALARMS = """
SELECT rule, severity, started_at, resolved_at, value, limit_value,
       coalesce(document->>'moved', document->>'load_class', ''), subject,
       coalesce(document->>'indicator', '')
FROM alarms
WHERE site_id = :site AND fired_at IS NOT NULL AND started_at < :end
  AND (resolved_at IS NULL OR resolved_at >= :start)
ORDER BY started_at, id
"""


def _alarms(connection: sa.Connection, number: int, span: Period) -> tuple[AlarmRow, ...]:
    rows = _rows(connection, _ALARMS, site=number, start=span.start, end=span.end)
    return tuple(AlarmRow(*row) for row in rows)


_CONFLICTS = """
SELECT count(*) FROM reading_conflicts WHERE point_id = ANY(:points) AND at >= :start AND at < :end
"""


def _conflicts(connection: sa.Connection, stored: Stored, site: Site, span: Period) -> int:
    numbers = [stored.point_id[p.id] for p in site.points()]
    return int(_rows(connection, _CONFLICTS, points=numbers, start=span.start, end=span.end)[0][0])


def _rows(connection: sa.Connection, query: str, **values: Any) -> Sequence[Any]:
    with store_errors():
        return connection.execute(sa.text(query), values).all()


# -- what has changed --------------------------------------------------------------------------------


_MARKS = """
SELECT to_char(month, 'YYYY-MM'), computed || ' ' || coalesce(conflicts, 0)
FROM site_months
LEFT JOIN (
    SELECT date_trunc('month', at AT TIME ZONE :zone)::date AS month, count(*) AS conflicts
    FROM reading_conflicts WHERE point_id = ANY(:points) GROUP BY 1
) contradicted USING (month)
WHERE site_id = :site AND month >= (
    SELECT date_trunc('month', min(day))::date FROM energy_day WHERE point_id = ANY(:points)
)
ORDER BY 1
"""
_DEFINITION = """
SELECT md5(s.definition::text || string_agg(p.definition::text || p.role || p.weight, ' ' ORDER BY p.id)
           || (SELECT coalesce(string_agg(value::text, ' ' ORDER BY key), '')
               FROM deployment WHERE key IN ('limit_profiles', 'reference')))
FROM sites s JOIN points p ON p.site_id = s.id AND p.retired_at IS NULL WHERE s.id = :site GROUP BY s.id
"""


def marks(connection: sa.Connection, stored: Stored, site: Site) -> dict[str, str]:
    """A mark for every month from the first with energy on in which something was measured.

    It changes when a figure of the month was computed again, or contradicted, and when the site or its dated
    data change.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    number = stored.site_id[site.id]
    definition = _rows(connection, _DEFINITION, site=number)
    what = definition[0][0] if definition else ""
    points = [stored.point_id[p.id] for p in site.points()]
    found = _rows(connection, _MARKS, site=number, points=points, zone=site.time_zone)
    return {month: f"{what} {mark}" for month, mark in found}


_WAITING = """
SELECT EXISTS (SELECT FROM rollup_queue WHERE point_id = ANY(:points) AND start_at < :before)
    OR EXISTS (SELECT FROM check_queue WHERE meter_id = ANY(:meters) AND start_at < :before)
"""


def is_settled(connection: sa.Connection, stored: Stored, site: Site, before: datetime) -> bool:
    """Whether no reading of the site before an instant waits for its energy, or for a look at its quality.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    points = [stored.point_id[p.id] for p in site.points()]
    meters = [stored.meter_id[m.id] for m in site.meters]
    return not _rows(connection, _WAITING, points=points, meters=meters, before=before)[0][0]


def lock_closing(connection: sa.Connection) -> None:
    """Let only one transaction at a time freeze reports; it waits for the one before.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    locks.hold(connection, locks.CLOSING)


def seen_marks(connection: sa.Connection, of: str) -> dict[str, str]:
    """Marks at which the reports of a site or institution were last looked at, by period.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return dict(deployment.load(connection, f"report_marks:{of}") or {})


def save_marks(connection: sa.Connection, of: str, marks: Mapping[str, str]) -> None:
    """Remember them.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    deployment.save(connection, f"report_marks:{of}", dict(marks))


# -- frozen reports ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MonthFigures:
    """Indicators of a finalised month, and the targets that it was held against."""

    month: str
    values: Mapping[str, float | None]
    targets: Mapping[str, tuple[float | None, float | None]]
    """At least, at most."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the frozen reports of a site, or of an institution, are kept."""

    table: str
    number: int

    @classmethod
    def of_site(cls, stored: Stored, site_id: str) -> Shelf:
        """Those of a site."""
        return cls("reports", stored.site_id[site_id])

    @classmethod
    def of_institution(cls, connection: sa.Connection, institution_id: str) -> Shelf:
        """Those of an institution.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        number = _rows(connection, "SELECT id FROM institutions WHERE key = :key", key=institution_id)
        return cls("institution_reports", number[0][0])

    @property
    def _table(self) -> sa.Table:
        return tables.metadata.tables[self.table]

    def _where(self, period: str | None) -> list[sa.ColumnElement[bool]]:
        columns = self._table.c
        owner = columns["site_id" if self.table == "reports" else "institution_id"]
        here = [owner == self.number, columns.closed.is_(True)]
        return here if period is None else [*here, columns.period == period]

    def newest(self, connection: sa.Connection, period: str, revision: int | None = None) -> Frozen | None:
        """The newest revision of a period, or the one asked for; None where there is none.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        c = self._table.c
        query = sa.select(c.period, c.revision, c.document, c.sha256, c.created_at).where(
            *self._where(period)
        )
        if revision is not None:
            query = query.where(c.revision == revision)
        with store_errors():
            row = connection.execute(query.order_by(c.revision.desc()).limit(1)).one_or_none()
        return None if row is None else Frozen(*row)

    def listing(self, connection: sa.Connection) -> list[tuple[str, int, str, datetime]]:
        """Every frozen revision: period, revision, SHA-256 and when; newest first.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        c = self._table.c
        query = sa.select(c.period, c.revision, c.sha256, c.created_at).where(*self._where(None))
        with store_errors():
            rows = connection.execute(query.order_by(c.period.desc(), c.revision.desc())).all()
        return [(p, r, sha, at) for p, r, sha, at in rows]

    def months(self, connection: sa.Connection, most: int = 13) -> list[MonthFigures]:
        """Indicators of the finalised months by their newest revisions, the oldest first.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        owner = "site_id" if self.table == "reports" else "institution_id"
        query = sa.text(
            "SELECT DISTINCT ON (period) period, (document #>> '{pue,period,pue}')::float8,"  # noqa: S608
            f" document -> 'indicators', document -> 'compliance' FROM {self.table}"
            f" WHERE {owner} = :number AND closed AND length(period) = 7"
            " ORDER BY period DESC, revision DESC LIMIT :most"
        )
        with store_errors():
            rows = connection.execute(query, {"number": self.number, "most": most}).all()
        return [
            MonthFigures(
                period,
                {"pue": pue, **{one["name"]: one["value"] for one in indicators or ()}},
                {one["indicator"]: (one["at_least"], one["at_most"]) for one in compliance or ()},
            )
            for period, pue, indicators, compliance in reversed(rows)
        ]

    def freeze(self, connection: sa.Connection, frozen: Frozen) -> None:
        """Store a revision for good.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        owner = "site_id" if self.table == "reports" else "institution_id"
        row = {
            owner: self.number,
            "period": frozen.period,
            "revision": frozen.revision,
            "document": frozen.document,
            "sha256": frozen.sha256,
            "created_at": frozen.created_at,
            "closed": True,
        }
        with store_errors():
            connection.execute(sa.insert(self._table).values(row))
