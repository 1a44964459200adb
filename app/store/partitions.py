"""Native range partitions of ``readings``: one per week, made when a week is first needed.

Weeks start on Monday 00:00 UTC; the partition's name carries that day (``readings_20261102``). On
TimescaleDB the table is a hypertable and makes its own chunks: nothing here applies.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

WEEK_US = 7 * 86_400 * 1_000_000
_MONDAY_US = 4 * 86_400 * 1_000_000  # 1970-01-05 was a Monday
LOCK = 0x57A7_0002

_MISSING = sa.text(
    """
    SELECT wanted.name FROM unnest(CAST(:names AS text[])) AS wanted(name)
    WHERE to_regclass(wanted.name) IS NULL
      AND (SELECT relkind FROM pg_class WHERE oid = to_regclass('readings')) = 'p'
    """
)


def ensure(connection: sa.Connection, at_us: npt.NDArray[np.int64]) -> list[str]:
    """Make the partitions that readings at these instants need; returns the names of the new ones.

    Parameters
    ----------
    connection : Connection
        The partitions belong to its transaction.
    at_us : ndarray of int64
        Microseconds since 1970-01-01T00:00Z.
    """
    weeks = {partition_name(start): start for start in week_starts(at_us)}
    if not _missing(connection, list(weeks)):
        return []
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    missing = _missing(connection, list(weeks))
    for name in missing:
        _make(connection, name, weeks[name])
    return missing


def ensure_ahead(connection: sa.Connection, now: datetime, weeks: int = 3) -> list[str]:
    """Make the partitions of the coming weeks, so that live readings never wait for one."""
    at = [now + timedelta(weeks=i) for i in range(weeks + 1)]
    return ensure(connection, np.array([int(t.timestamp() * 1e6) for t in at], np.int64))


def week_starts(at_us: npt.NDArray[np.int64]) -> list[datetime]:
    """Starts of the weeks that hold these instants, ascending."""
    weeks = np.unique((at_us - _MONDAY_US) // WEEK_US)
    epoch = datetime(1970, 1, 5, tzinfo=UTC)
    return [epoch + timedelta(weeks=int(week)) for week in weeks]


def partition_name(start: datetime) -> str:
    """Name of the partition of the week that starts at `start`."""
    return f"readings_{start:%Y%m%d}"


def _missing(connection: sa.Connection, names: list[str]) -> list[str]:
    return list(connection.execute(_MISSING, {"names": names}).scalars())


def _make(connection: sa.Connection, name: str, start: datetime) -> None:
    """Attach a new empty table: unlike CREATE ... PARTITION OF, readers and writers go on meanwhile."""
    end = start + timedelta(weeks=1)
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE readings INCLUDING DEFAULTS INCLUDING INDEXES)")
    bounds = f"FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
    connection.exec_driver_sql(f"ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES {bounds}")


_EXISTING = sa.text(
    """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('readings') ORDER BY c.relname
    """
)


def existing(connection: sa.Connection) -> list[tuple[str, datetime, datetime]]:
    """Name, start and end of every partition, oldest first."""
    names = connection.execute(_EXISTING).scalars()
    return [(name, start, start + timedelta(weeks=1)) for name in names for start in [_start_of(name)]]


def _start_of(name: str) -> datetime:
    return datetime.strptime(name.removeprefix("readings_"), "%Y%m%d").replace(tzinfo=UTC)
