"""A batch that the database refuses is split until the rows at fault stand alone, and those are kept aside.

They are counted in the drop ledger together with their values, so that nothing is lost without a trace
and nothing is tried for ever.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

import numpy as np
import psycopg
import sqlalchemy as sa
import sqlalchemy.exc

from app.domain.reading import ReadingColumns
from app.store.engine import begin
from app.store.readings import IngestResult, ingest

_AT_FAULT = (
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.IntegrityError,
    psycopg.DataError,
    psycopg.IntegrityError,
    OverflowError,
)
"""What the data can cause; anything else is ours or the server's and is not blamed on a reading."""

_LEDGER = sa.text(
    """
    INSERT INTO dropped_readings (site_id, collector, reason, readings, detail)
    VALUES (:site_id, :collector, :reason, 1, CAST(:detail AS jsonb))
    """
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SafeResult:
    """What became of a batch; the parts add up to its length."""

    stored: IngestResult = field(default_factory=IngestResult)
    quarantined: int = 0
    """Readings in the drop ledger."""

    def __add__(self, other: SafeResult) -> SafeResult:
        return SafeResult(self.stored + other.stored, self.quarantined + other.quarantined)


def ingest_safely(
    engine: sa.Engine, columns: ReadingColumns, collector: str, site_id: int | None = None
) -> SafeResult:
    """Store a batch in transactions of its own; readings that cannot be stored go to the drop ledger.

    Parameters
    ----------
    engine : Engine
    columns : ReadingColumns
    collector : str
        Who delivered the batch; stands in the ledger.
    site_id : int, optional

    Raises
    ------
    StoreUnavailable
        If the database is away; send the whole batch again, what was stored is not doubled.
    """
    try:
        with begin(engine) as connection:
            return SafeResult(ingest(connection, columns))
    except _AT_FAULT as error:
        if len(columns) == 1:
            return _quarantine(engine, columns, collector, site_id, error)
    first, second = np.array_split(np.arange(len(columns)), 2)
    return ingest_safely(engine, columns.take(first), collector, site_id) + ingest_safely(
        engine, columns.take(second), collector, site_id
    )


def _quarantine(
    engine: sa.Engine, row: ReadingColumns, collector: str, site_id: int | None, error: Exception
) -> SafeResult:
    reason = str(getattr(error, "orig", error)).splitlines()[0]
    detail = {
        "point_id": int(row.point_id[0]),
        "at_us": int(row.at_us[0]),
        "value": repr(float(row.value[0])),
        "interval_s": int(row.interval_s[0]),
        "valid_s": int(row.valid_s[0]),
    }
    _log.warning("a reading of point %s cannot be stored: %s", detail["point_id"], reason)
    with begin(engine) as connection:
        values = {"site_id": site_id, "collector": collector, "reason": reason, "detail": json.dumps(detail)}
        connection.execute(_LEDGER, values)
    return SafeResult(quarantined=1)
