"""Files taken into the store: all of a file or nothing of it, and a record of what became of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.errors import NotFound, WattlineError
from app.store import audit, partitions, readings, tables
from app.store.audit import Actor
from app.store.corrections import Correcting, Correction
from app.store.engine import begin, store_errors
from app.store.fresh_weeks import FreshWeeks
from app.store.readings import IngestResult, from_us
from app.store.sites import Stored

RUNNING, DONE, FAILED = "running", "done", "failed"
"""States of an import; of one that is running or failed nothing is stored."""


class Batch(Protocol):
    """Part of a file as readings; what the readers of files deliver."""

    @property
    def points(self) -> Sequence[str]:
        """Ids of points; ``columns.point_id`` counts in them."""

    @property
    def columns(self) -> ReadingColumns:
        """Readings in house units."""

    @property
    def rejects(self) -> Sequence[object]:
        """Rows and cells that were refused."""

    @property
    def missing(self) -> dict[str, int]:
        """Cells, by column, that say nothing was measured."""

    @property
    def duplicates(self) -> int:
        """Readings that only repeat the one before."""


@dataclass(frozen=True, slots=True)
class Source:
    """The file of an import."""

    site: str
    file_name: str
    sha256: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What became of a file; counts are of readings, `rejected` of rows or cells."""

    id: uuid.UUID
    accepted: int = 0
    duplicate: int = 0
    conflicting: int = 0
    rejected: int = 0
    corrected: int = 0
    """Of a corrected export: readings whose other value now stands in the ledger."""
    missing: dict[str, int] = field(default_factory=dict)
    """Cells, by column, that say nothing was measured."""
    first_at: datetime | None = None
    last_at: datetime | None = None

    def plus(self, batch: Batch, result: IngestResult) -> Imported:
        """With one more batch."""
        at_us = batch.columns.at_us
        firsts = [from_us(at_us.min())] if len(at_us) else []
        lasts = [from_us(at_us.max())] if len(at_us) else []
        return replace(
            self,
            accepted=self.accepted + result.accepted,
            duplicate=self.duplicate + result.duplicate + batch.duplicates,
            conflicting=self.conflicting + result.conflicting,
            corrected=self.corrected + result.corrected,
            rejected=self.rejected + len(batch.rejects),
            missing=dict(Counter(self.missing) + Counter(batch.missing)),
            first_at=min([*firsts, *([self.first_at] if self.first_at else [])], default=None),
            last_at=max([*lasts, *([self.last_at] if self.last_at else [])], default=None),
        )

    def corrected_by(self, by: IngestResult) -> Imported:
        """With what became of readings that were counted otherwise before."""
        return replace(
            self,
            accepted=self.accepted + by.accepted,
            duplicate=self.duplicate + by.duplicate,
            conflicting=self.conflicting + by.conflicting,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        times = {k: v and v.isoformat() for k, v in (("first_at", self.first_at), ("last_at", self.last_at))}
        return {**asdict(self), "id": str(self.id), **times}


def store_source(
    engine: sa.Engine,
    stored: Stored,
    source: Source,
    batches: Iterable[Batch],
    on_batch: Callable[[Batch], None] = lambda batch: None,
    *,
    by: Actor,
    correction: Correction | None = None,
) -> Imported:
    """Store a whole file in one transaction; what was stored before counts as duplicate.

    Parameters
    ----------
    engine : Engine
    stored : Stored
        The fleet; it has the points that the batches name.
    source : Source
        Of which site and file they are.
    batches : iterable of Batch
        Taken one by one, so that memory stays flat.
    on_batch : callable
        Gets every batch once it is staged: for progress, and to write rejects down.
    by : Actor
        Stands in the audit log, by the same transaction.
    correction : Correction, optional
        Readings that differ from stored ones correct them, as entries of the ledger.

    Raises
    ------
    StoreUnavailable
        If the database is away; nothing is stored, the file may be imported again.
    FileNotUnderstood
        If the file turns out to be damaged; nothing is stored.
    """
    import_id = uuid.uuid4()
    _begin(engine, stored, source, import_id)
    try:
        with begin(engine) as connection:
            total = Imported(import_id)
            total = take(engine, connection, stored, source, total, batches, on_batch, correction)
            _write(connection, DONE, total, total.as_dict())
            audit.append(connection, by.did("import", source.site, _detail(source, total)))
        return total
    except WattlineError as error:
        _finish(engine, FAILED, Imported(import_id), {"error": str(error)})
        raise


def take(
    engine: sa.Engine,
    connection: sa.Connection,
    stored: Stored,
    source: Source,
    total: Imported,
    batches: Iterable[Batch],
    on_batch: Callable[[Batch], None],
    correction: Correction | None,
) -> Imported:
    """Take the batches into a transaction, which the caller commits, or only looks at.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    FileNotUnderstood
        If the file turns out to be damaged.
    """
    correcting = correction and Correcting(connection, stored.site_id[source.site], correction)
    fresh = FreshWeeks(connection)
    for batch in batches:
        columns = _numbered(batch, stored)
        if correcting:
            _make_room(engine, columns)
            result = correcting.ingest(columns)
        else:
            result, others = fresh.ingest(columns)
            _make_room(engine, others)
            result += readings.ingest(connection, others)
        total = total.plus(batch, result)
        on_batch(batch)
    if correcting:
        correcting.finish()
    return total.corrected_by(fresh.attach())


def _detail(source: Source, total: Imported) -> dict[str, Any]:
    counts = {"accepted": total.accepted, "duplicate": total.duplicate, "rejected": total.rejected}
    counts |= {"corrected": total.corrected} if total.corrected else {}
    return {"file": source.file_name, "sha256": source.sha256, "import": str(total.id), **counts}


def _numbered(batch: Batch, stored: Stored) -> ReadingColumns:
    numbers = np.array([stored.point_id[p] for p in batch.points], np.int32)
    return replace(batch.columns, point_id=numbers[batch.columns.point_id])


def _make_room(engine: sa.Engine, columns: ReadingColumns) -> None:
    """Make partitions at once, on their own: the long transaction must not hold their lock."""
    if len(columns):
        with begin(engine) as connection:
            partitions.ensure(connection, columns.at_us)


def _begin(engine: sa.Engine, stored: Stored, source: Source, import_id: uuid.UUID) -> None:
    row = {
        "id": import_id,
        "site_id": stored.site_id[source.site],
        "file_name": source.file_name,
        "sha256": source.sha256,
        "status": RUNNING,
        "detail": {"warnings": list(source.warnings)},
    }
    with begin(engine) as connection:
        connection.execute(sa.insert(tables.imports).values(row))


def _finish(engine: sa.Engine, status: str, total: Imported, detail: dict[str, Any]) -> None:
    with begin(engine) as connection:
        _write(connection, status, total, detail)


def _write(connection: sa.Connection, status: str, total: Imported, detail: dict[str, Any]) -> None:
    table = tables.imports
    counts = {name: getattr(total, name) for name in ("accepted", "duplicate", "conflicting", "rejected")}
    kept = {k: v for k, v in detail.items() if k not in (*counts, "id")}
    connection.execute(
        sa.update(table)
        .where(table.c.id == total.id)
        .values(
            status=status,
            finished_at=sa.func.clock_timestamp(),
            detail=table.c.detail.concat(sa.cast(kept, table.c.detail.type)),
            **counts,
        )
    )


@dataclass(frozen=True)
class ImportRecord:
    """One row of the list of imports."""

    id: uuid.UUID
    site_id: int
    file_name: str
    sha256: str
    started_at: datetime
    finished_at: datetime | None
    status: str
    accepted: int
    duplicate: int
    conflicting: int
    rejected: int
    detail: dict[str, Any]


def get(connection: sa.Connection, import_id: uuid.UUID) -> ImportRecord:
    """The record of one import.

    Raises
    ------
    NotFound
        If there is none.
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(tables.imports).where(tables.imports.c.id == import_id)
    with store_errors():
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no import {import_id}")
    return ImportRecord(*row)


def listing(connection: sa.Connection, site_id: int, limit: int = 100) -> list[ImportRecord]:
    """The newest imports of a site, newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    table = tables.imports
    newest = sa.select(table).where(table.c.site_id == site_id).order_by(table.c.started_at.desc())
    with store_errors():
        return [ImportRecord(*row) for row in connection.execute(newest.limit(limit))]
