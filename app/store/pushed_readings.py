"""Readings that somebody sent, row by row: each row is stored, known already, or gets a reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import readings
from app.store.engine import store_errors
from app.store.readings import from_us

_STORED = sa.text(
    """
    SELECT i.row - 1, r.value
    FROM unnest(CAST(:points AS int[]), CAST(:ats AS timestamptz[]), CAST(:values AS float8[]),
                CAST(:intervals AS int[]), CAST(:valids AS int[]))
         WITH ORDINALITY i(point_id, at, value, interval_s, valid_s, row)
    JOIN readings r ON r.at = i.at AND r.point_id = i.point_id
    WHERE r.at BETWEEN :first AND :last
      AND (i.value, i.interval_s, i.valid_s) IS DISTINCT FROM (r.value, r.interval_s, r.valid_s)
    """
)


@dataclass(frozen=True, slots=True)
class IngestOutcome:
    """What became of rows; `conflicts` gives, by row, the value that is stored instead."""

    accepted: int
    duplicate: int
    conflicts: dict[int, float]


def store_rows(connection: sa.Connection, columns: ReadingColumns) -> IngestOutcome:
    """Store rows in the transaction of `connection`, and say which contradict what is stored.

    Raises
    ------
    StoreUnavailable
        If the database is away; the rows may be sent again.
    """
    result = readings.ingest(connection, columns)
    conflicts = _conflicts(connection, columns) if result.conflicting else {}
    return IngestOutcome(result.accepted, result.duplicate, conflicts)


def _conflicts(connection: sa.Connection, columns: ReadingColumns) -> dict[int, float]:
    ats = [from_us(us) for us in columns.at_us]
    values = {
        "points": columns.point_id.tolist(),
        "ats": ats,
        "values": np.asarray(columns.value).tolist(),
        "intervals": columns.interval_s.tolist(),
        "valids": columns.valid_s.tolist(),
        "first": min(ats),
        "last": max(ats),
    }
    with store_errors():
        return {int(row): float(value) for row, value in connection.execute(_STORED, values)}
