"""Energy saving measures and their non-routine adjustments: entries are withdrawn, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.domain.measure import Adjustment, Boundary, Measure
from app.errors import NotFound, SeriesError
from app.store import tables
from app.store.engine import store_errors

_MEASURES, _ADJUSTMENTS = tables.measures, tables.measure_adjustments
_STATED = (
    "key",
    "what",
    "implementation_start",
    "implementation_end",
    "baseline_start",
    "baseline_end",
    "reporting_start",
    "reporting_end",
    "cost",
    "expected_kwh_per_year",
    "evidence",
)


@dataclass(frozen=True, slots=True)
class AdjustmentEntry:
    """An adjustment with who wrote it, and who took it back."""

    id: int
    adjustment: Adjustment
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None


@dataclass(frozen=True, slots=True)
class MeasureEntry:
    """A measure with who declared it, who took it back, and its adjustments."""

    id: int
    measure: Measure
    author: str
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None
    adjustments: tuple[AdjustmentEntry, ...] = ()

    @property
    def in_force(self) -> tuple[Adjustment, ...]:
        """Its adjustments that hold."""
        return tuple(one.adjustment for one in self.adjustments if one.withdrawn_at is None)


def add(connection: sa.Connection, site_id: int, measure: Measure, author: str) -> int:
    """Write a measure; its number.

    Raises
    ------
    SeriesError
        If a measure of that key is in force.
    StoreUnavailable
        If the database is away.
    """
    known = (_MEASURES.c.site_id == site_id, _MEASURES.c.key == measure.key)
    values = {name: getattr(measure, name) for name in _STATED}
    values |= {"site_id": site_id, "boundary": str(measure.where), "author": author}
    with store_errors():
        connection.execute(sa.select(tables.sites.c.id).where(tables.sites.c.id == site_id).with_for_update())
        if connection.execute(sa.select(_MEASURES.c.id).where(*known, _in_force(_MEASURES))).first():
            raise SeriesError(
                f"key: {measure.key} is taken by another measure; choose another, or withdraw it"
            )
        insert = sa.insert(_MEASURES).values(values).returning(_MEASURES.c.id)
        return int(connection.execute(insert).scalar_one())


def adjust(connection: sa.Connection, entry: MeasureEntry, adjustment: Adjustment) -> int:
    """Write a non-routine adjustment of a measure; its number.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "measure_id": entry.id,
        "start_on": adjustment.start,
        "end_on": adjustment.end,
        "energy_kwh": adjustment.energy_kwh,
        "reason": adjustment.reason,
        "author": adjustment.author,
    }
    with store_errors():
        insert = sa.insert(_ADJUSTMENTS).values(values).returning(_ADJUSTMENTS.c.id)
        return int(connection.execute(insert).scalar_one())


def withdraw(connection: sa.Connection, site_id: int, key: str, by: str) -> MeasureEntry:
    """Take a measure back; it stays, marked, with its adjustments.

    Raises
    ------
    NotFound
        If the site has no such measure in force.
    StoreUnavailable
        If the database is away.
    """
    entry = named(connection, site_id, key)
    _withdrawn(connection, _MEASURES, entry.id, by)
    return entry


def withdraw_adjustment(connection: sa.Connection, entry: MeasureEntry, number: int, by: str) -> None:
    """Take an adjustment back; it stays, marked.

    Raises
    ------
    NotFound
        If the measure has no such adjustment in force.
    StoreUnavailable
        If the database is away.
    """
    if number not in {one.id for one in entry.adjustments if one.withdrawn_at is None}:
        raise NotFound(f"measure {entry.measure.key} has no adjustment {number} in force")
    _withdrawn(connection, _ADJUSTMENTS, number, by)


def _in_force(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.withdrawn_at.is_(None)


def _withdrawn(connection: sa.Connection, table: sa.Table, number: int, by: str) -> None:
    update = sa.update(table).where(table.c.id == number, _in_force(table))
    with store_errors():
        connection.execute(update.values(withdrawn_at=sa.func.now(), withdrawn_by=by))


def named(connection: sa.Connection, site_id: int, key: str) -> MeasureEntry:
    """The measure of that key that is in force; else the one of that number, as :func:`add` gave it.

    Raises
    ------
    NotFound
        If there is none; the text says which there are.
    StoreUnavailable
        If the database is away.
    """
    found = in_force(connection, site_id)
    names = {str(entry.id): entry for entry in found} | {entry.measure.key: entry for entry in found}
    if key in names:
        return names[key]
    known = ", ".join(entry.measure.key for entry in found) or "none is declared"
    raise NotFound(f"there is no measure {key!r} in force; known: {known}")


def in_force(connection: sa.Connection, site_id: int) -> list[MeasureEntry]:
    """The measures of a site that hold, by the start of their implementation.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return [entry for entry in listing(connection, site_id) if entry.withdrawn_at is None]


def listing(connection: sa.Connection, site_id: int) -> list[MeasureEntry]:
    """Every measure of a site, withdrawn ones too, by the start of the implementation.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    columns, own = _MEASURES.c, _MEASURES.c.site_id == site_id
    query = sa.select(_MEASURES).where(own).order_by(columns.implementation_start, columns.id)
    with store_errors():
        rows = connection.execute(query).all()
        adjusted = _adjustments(connection, {row.id: row.key for row in rows})
    return [_entry(row, adjusted.get(row.id, ())) for row in rows]


def _adjustments(connection: sa.Connection, keys: dict[int, str]) -> dict[int, list[AdjustmentEntry]]:
    if not keys:
        return {}
    columns = _ADJUSTMENTS.c
    query = sa.select(_ADJUSTMENTS).where(columns.measure_id.in_(list(keys)))
    found: dict[int, list[AdjustmentEntry]] = {}
    for row in connection.execute(query.order_by(columns.start_on, columns.id)):
        one = Adjustment(
            measure=keys[row.measure_id],
            start=row.start_on,
            end=row.end_on,
            energy_kwh=row.energy_kwh,
            reason=row.reason,
            author=row.author,
        )
        entry = AdjustmentEntry(row.id, one, row.created_at, row.withdrawn_by, row.withdrawn_at)
        found.setdefault(row.measure_id, []).append(entry)
    return found


def _entry(row: sa.Row[Any], adjustments: Sequence[AdjustmentEntry]) -> MeasureEntry:
    stated = {name: getattr(row, name) for name in _STATED}
    measure = Measure(where=Boundary.parse(row.boundary), **stated)
    return MeasureEntry(
        row.id,
        measure,
        row.author,
        row.created_at,
        row.withdrawn_by,
        row.withdrawn_at,
        tuple(adjustments),
    )
