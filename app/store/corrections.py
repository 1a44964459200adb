"""Corrected exports: what they state otherwise than stored readings, as entries of the ledger.

Stored readings stay as they are. For every point one entry says who corrected it, when and why;
``reading_corrections`` keeps both values of each reading. Readings that are new are stored like any.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from app.domain.energy import EventKind
from app.domain.reading import ReadingColumns
from app.store import partitions, readings
from app.store.engine import store_errors
from app.store.readings import IngestResult, from_us


@dataclass(frozen=True, slots=True)
class Correction:
    """On whose word a file corrects what is stored."""

    author: str
    note: str


_DIFFERING_TABLE = """
SET LOCAL client_min_messages = warning;
CREATE TEMP TABLE IF NOT EXISTS differing_readings (
    at timestamptz, point_id int, old_value double precision, new_value double precision,
    PRIMARY KEY (point_id, at)
) ON COMMIT DELETE ROWS;
TRUNCATE differing_readings
"""
"""What the file states otherwise, of all its batches: entries of the ledger are written once, whole."""
_DIFFERING = """
    INSERT INTO differing_readings (at, point_id, old_value, new_value)
    SELECT at, point_id, old_value, value FROM (
        SELECT i.at, i.point_id, i.value,
            CASE WHEN c.id IS NULL THEN r.value ELSE c.new_value END AS old_value
        FROM incoming_readings i {stored}
        LEFT JOIN LATERAL (
            SELECT id, new_value FROM (
                SELECT e.id, rc.new_value FROM reading_corrections rc JOIN events e ON e.id = rc.event_id
                WHERE rc.at = i.at AND e.point_id = i.point_id AND e.withdrawn_at IS NULL
                UNION ALL
                SELECT e.id, e.new_value FROM events e
                WHERE e.point_id = i.point_id AND e.kind = 'correction' AND e.start_at = i.at
                  AND e.corrected_readings = 0 AND e.withdrawn_at IS NULL
            ) held ORDER BY id DESC LIMIT 1
        ) c ON true
        WHERE r.at BETWEEN :first AND :last AND i.interval_s = r.interval_s AND i.valid_s = r.valid_s
    ) compared
    WHERE value IS DISTINCT FROM old_value
    ON CONFLICT (point_id, at) DO NOTHING
"""
"""Against the value that holds: the newest correction of a reading, else the reading."""

_OTHER_INTERVALS = """
    WITH differing AS (
        SELECT i.*, r.value AS stored_value
        FROM incoming_readings i {stored}
        WHERE r.at BETWEEN :first AND :last AND (i.interval_s, i.valid_s) <> (r.interval_s, r.valid_s)
    ), kept AS (
        INSERT INTO reading_conflicts (at, point_id, value, interval_s, valid_s, stored_value)
        SELECT at, point_id, value, interval_s, valid_s, stored_value FROM differing
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM differing
"""
_NEW = sa.text(
    """
    INSERT INTO readings (at, point_id, value, interval_s, valid_s)
    SELECT at, point_id, value, interval_s, valid_s FROM incoming_readings
    ON CONFLICT (at, point_id) DO NOTHING
    """
)
_ENTRIES = sa.text(
    """
    INSERT INTO events
        (site_id, meter_id, point_id, kind, start_at, end_at, author, note, corrected_readings,
         old_value, new_value)
    SELECT :site, p.meter_id, d.point_id, :kind, min(d.at), max(d.at), :author, :note, count(*),
        CASE WHEN count(*) = 1 THEN min(d.old_value) END, CASE WHEN count(*) = 1 THEN min(d.new_value) END
    FROM differing_readings d JOIN points p ON p.id = d.point_id
    GROUP BY d.point_id, p.meter_id ORDER BY d.point_id
    RETURNING id
    """
)
_KEEP = sa.text(
    """
    INSERT INTO reading_corrections (event_id, at, old_value, new_value)
    SELECT e.id, d.at, d.old_value, d.new_value
    FROM differing_readings d JOIN events e ON e.point_id = d.point_id AND e.id = ANY(:entries)
    """
)
_SETTLED = sa.text(
    """
    DELETE FROM reading_conflicts c USING differing_readings d
    WHERE c.at = d.at AND c.point_id = d.point_id AND c.value = d.new_value
    """
)
"""Contradictions of an earlier import that now stand in the ledger."""


@dataclass
class Correcting:
    """One corrected export on its way into the store, in the transaction of `connection`."""

    connection: sa.Connection
    site_id: int
    correction: Correction

    def __post_init__(self) -> None:
        with store_errors():
            self.connection.exec_driver_sql(_DIFFERING_TABLE)

    def ingest(self, columns: ReadingColumns) -> IngestResult:
        """Store what is new, note what differs, and queue the rollups that it calls for.

        Readings with another interval than the stored one correct nothing; they count as conflicts.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        if not len(columns):
            return IngestResult()
        first, rest = readings.first_per_key(columns)
        span = {"first": from_us(first.at_us[0]), "last": from_us(first.at_us[-1])}
        with store_errors():
            partitions.ensure(self.connection, first.at_us)
            readings.stage(self.connection, first)
            stored = readings.beside_stored(len(first))
            other = sa.text(_OTHER_INTERVALS.format(stored=stored))
            conflicting = int(self.connection.execute(other, span).scalar_one())
            corrected = self.connection.execute(sa.text(_DIFFERING.format(stored=stored)), span).rowcount
            accepted = self.connection.execute(_NEW).rowcount
            readings.queue_rollups(self.connection, first)
        same = len(first) - accepted - conflicting - corrected
        return IngestResult(accepted, same + len(rest), conflicting, corrected)

    def finish(self) -> list[int]:
        """Write what differs into the ledger: an entry for every point, with both values of each reading.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        said = {"author": self.correction.author, "note": self.correction.note}
        values = {"site": self.site_id, "kind": EventKind.CORRECTION.value, **said}
        with store_errors():
            entries = list(self.connection.execute(_ENTRIES, values).scalars())
            if entries:
                self.connection.execute(_KEEP, {"entries": entries})
                self.connection.execute(_SETTLED)
        return entries
