"""Weeks of which nothing is stored yet, loaded by an import: rows first, then their key, then attached.

An index that grows row by row writes more to the log than the rows themselves, and costs more than one that
is made at once. So an import keeps the readings of a week without a partition in a table of its own; as long
as those of every point come later and later, no key can stand twice in it, and it needs no index. The first
row that does not gets the table its key, and goes through the merge that ``readings`` has. At the end of
the import's transaction the tables become partitions.

The rows of each batch lie point by point: whoever reads the history of a point then reads pages that hold
little else. In order of time a minute of all points fills a page, and each reading of one costs a page.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import partitions, readings
from app.store.engine import store_errors, unhurried
from app.store.readings import IngestResult

_NEVER = np.iinfo(np.int64).min


@dataclass
class _Week:
    """The table of one week."""

    start: datetime
    table: str
    has_key: bool = False
    last_us: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Newest reading by number of the point. [us]"""

    def takes(self, columns: ReadingColumns) -> bool:
        """Whether rows in order of time are all later than what the table holds of their points."""
        points, first = np.unique(columns.point_id, return_index=True)
        if len(points) and points[-1] >= len(self.last_us):
            missing = np.full(int(points[-1]) + 1 - len(self.last_us), _NEVER)
            self.last_us = np.concatenate([self.last_us, missing])
        return bool((columns.at_us[first] > self.last_us[points]).all())

    def note(self, columns: ReadingColumns) -> None:
        """Rows in order of time were added."""
        self.last_us[columns.point_id] = columns.at_us  # of several rows of a point the last one stays


class FreshWeeks:
    """The weeks that one transaction loads into tables of their own."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._weeks: dict[datetime, _Week | None] = {}
        self._id = uuid.uuid4().hex[:8]

    def ingest(self, columns: ReadingColumns) -> tuple[IngestResult, ReadingColumns]:
        """Store the readings of fresh weeks and queue their rollups; what became of them, and the others.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        result, others = IngestResult(), []
        with store_errors():
            for start, rows in partitions.by_week(columns.at_us):
                week, own = self._week(start), columns.take(rows)
                if week is None:
                    others.append(own)
                else:
                    result += self._store(week, own)
        return result, ReadingColumns.concat(others)

    def _week(self, start: datetime) -> _Week | None:
        if start not in self._weeks:
            self._weeks[start] = self._made(start) if partitions.is_missing(self._connection, start) else None
        return self._weeks[start]

    def _made(self, start: datetime) -> _Week:
        table = f"{partitions.partition_name(start)}_{self._id}"
        self._connection.exec_driver_sql(f"CREATE TABLE {table} (LIKE readings INCLUDING DEFAULTS)")
        return _Week(start, table)

    def _store(self, week: _Week, columns: ReadingColumns) -> IngestResult:
        first, rest = readings.first_per_key(columns)
        if not week.has_key and week.takes(first) and not len(rest):
            readings.copy_in(self._connection, first.by_point(), week.table)
            week.note(first)
            result = IngestResult(len(first))
        else:
            self._add_key(week)
            result = readings.store(self._connection, first, rest, week.table)
        if result.accepted or result.conflicting:
            readings.queue_rollups(self._connection, first)
        return result

    def _add_key(self, week: _Week) -> None:
        if not week.has_key:
            with unhurried(self._connection):
                partitions.add_key(self._connection, week.table)
            week.has_key = True

    def attach(self) -> IngestResult:
        """Make the tables partitions; by how much that changes what was said of their readings.

        A week that another transaction has made meanwhile takes the readings over, one by one.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        weeks = [week for week in self._weeks.values() if week is not None]
        result = IngestResult()
        with store_errors():
            for week in weeks:
                self._add_key(week)
            for week in weeks:
                if not partitions.attach(self._connection, week.table, week.start):
                    result += self._taken_over(week)
        return result

    def _taken_over(self, week: _Week) -> IngestResult:
        query = f"SELECT extract(epoch FROM at) * 1000000 FROM {week.table} ORDER BY at"  # noqa: S608
        at_us = np.array([int(us) for us in self._connection.exec_driver_sql(query).scalars()], np.int64)
        # in the order of all who store in a week that is there
        in_order = f"(SELECT * FROM {week.table} ORDER BY at, point_id)"  # noqa: S608
        found = readings.merge_from(self._connection, in_order, at_us)
        self._connection.exec_driver_sql(f"DROP TABLE {week.table}")
        return replace(found, accepted=found.accepted - len(at_us))
