"""Native range partitions: weeks of ``readings``, quarter-years of the 15-minute figures, made when needed.

Weeks start on Monday 00:00 UTC and quarter-years on the first of January, April, July and October; the
partition's name carries that day (``readings_20261102``, ``energy_15m_20261001``). On TimescaleDB a
hypertable makes its own chunks: nothing here applies to it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

WEEK_US = 7 * 86_400 * 1_000_000
_MONDAY_US = 4 * 86_400 * 1_000_000  # 1970-01-05 was a Monday
_FIRST_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)

QUARTERLY = ("energy_15m", "volume_15m", "gauge_15m", "site_15m")
"""Tables that are partitioned by quarter-years, as far as they are no hypertables."""
_QUARTER_MONTHS = 3

_MISSING = sa.text(
    """
    SELECT wanted.name FROM unnest(CAST(:names AS text[])) AS wanted(name)
    WHERE to_regclass(wanted.name) IS NULL
      AND (SELECT relkind FROM pg_class WHERE oid = to_regclass(:table)) = 'p'
    """
)

_known: WeakKeyDictionary[sa.Engine, dict[str, float]] = WeakKeyDictionary()
"""When a partition that time has not left behind was last seen, by name. [s]"""
_KNOWN_S = 60.0

Bounds = tuple[datetime, datetime]
"""Start and end of a partition."""


def ensure(connection: sa.Connection, at_us: npt.NDArray[np.int64]) -> list[str]:
    """Make the partitions that readings at these instants need; returns the names of the new ones.

    Parameters
    ----------
    connection : Connection
        The partitions belong to its transaction.
    at_us : ndarray of int64
        Microseconds since 1970-01-01T00:00Z.
    """
    weeks = {partition_name(start): (start, start + timedelta(weeks=1)) for start in week_starts(at_us)}
    return _ensure(connection, "readings", weeks)


def by_week(at_us: npt.NDArray[np.int64]) -> Iterator[tuple[datetime, npt.NDArray[np.intp]]]:
    """Starts of the weeks that hold these instants, ascending, and the rows in each."""
    weeks, index = np.unique((at_us - _MONDAY_US) // WEEK_US, return_inverse=True)
    for number, week in enumerate(weeks.tolist()):
        yield _FIRST_MONDAY + timedelta(weeks=week), np.flatnonzero(index == number)


def is_missing(connection: sa.Connection, start: datetime) -> bool:
    """Whether the week of readings from `start` on has no partition; False where there are none at all."""
    return bool(_missing(connection, "readings", [partition_name(start)]))


def add_key(connection: sa.Connection, table: str) -> None:
    """Give a table the key of ``readings``, its only index."""
    connection.exec_driver_sql(f"ALTER TABLE {table} ADD PRIMARY KEY (point_id, at)")


def attach(connection: sa.Connection, table: str, start: datetime) -> bool:
    """Make a table with the key of ``readings`` its partition of a week; False where there is one."""
    lock(connection, "readings")
    if not is_missing(connection, start):
        return False
    name = partition_name(start)
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")
    _attach(connection, "readings", name, (start, start + timedelta(weeks=1)))
    return True


Fill = Callable[[str, Bounds], None]
"""Puts the rows between its bounds into a table that is about to become a partition, and has no index yet."""


def ensure_figures(
    connection: sa.Connection, table: str, at_us: npt.NDArray[np.int64], fill: Fill | None = None
) -> list[str]:
    """Make the partitions that 15-minute figures at these instants need; the names of the new ones.

    Parameters
    ----------
    connection : Connection
        The partitions belong to its transaction.
    table : str
        One of :data:`QUARTERLY`.
    at_us : ndarray of int64
        Starts of the intervals, microseconds since 1970-01-01T00:00Z.
    fill : callable, optional
        Gets each new table before it has indexes: made at once, they cost half as much as row by row.
    """
    quarters = {f"{table}_{start:%Y%m%d}": (start, _next_quarter(start)) for start in quarter_starts(at_us)}
    return _ensure(connection, table, quarters, fill)


def ensure_ahead(connection: sa.Connection, now: datetime, weeks: int = 3) -> list[str]:
    """Make the partitions of the coming weeks, so that live readings never wait for one."""
    at = [now + timedelta(weeks=i) for i in range(weeks + 1)]
    at_us = np.array([int(t.timestamp() * 1e6) for t in at], np.int64)
    made = ensure(connection, at_us)
    for table in QUARTERLY:
        made += ensure_figures(connection, table, at_us)
    return made


def week_starts(at_us: npt.NDArray[np.int64]) -> list[datetime]:
    """Starts of the weeks that hold these instants, ascending."""
    weeks = np.unique((at_us - _MONDAY_US) // WEEK_US)
    return [_FIRST_MONDAY + timedelta(weeks=int(week)) for week in weeks]


def quarter_starts(at_us: npt.NDArray[np.int64]) -> list[datetime]:
    """Starts of the quarter-years that hold these instants, ascending."""
    months = np.unique(at_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64))
    return [
        datetime(1970 + quarter // 4, 1 + quarter % 4 * _QUARTER_MONTHS, 1, tzinfo=UTC)
        for quarter in np.unique(months // _QUARTER_MONTHS).tolist()
    ]


def partition_name(start: datetime) -> str:
    """Name of the partition of readings of the week that starts at `start`."""
    return f"readings_{start:%Y%m%d}"


def _next_quarter(start: datetime) -> datetime:
    month = start.month + _QUARTER_MONTHS
    return start.replace(year=start.year + month // 13, month=(month - 1) % 12 + 1)


def _ensure(
    connection: sa.Connection, table: str, wanted: Mapping[str, Bounds], fill: Fill | None = None
) -> list[str]:
    known = _known.setdefault(connection.engine, {})
    since_s = time.monotonic() - _KNOWN_S
    asked = [name for name in wanted if known.get(name, -math.inf) < since_s]
    if not _missing(connection, table, asked):
        _note(known, {name: wanted[name] for name in asked})
        return []
    lock(connection, table)
    missing = _missing(connection, table, asked)
    for name in missing:
        _make(connection, table, name, wanted[name], fill)
    return missing


def _note(known: dict[str, float], found: Mapping[str, Bounds]) -> None:
    """Remember, for a short time, partitions that no retention can be about to drop."""
    now = datetime.now(UTC)
    known |= dict.fromkeys((name for name, (_, end) in found.items() if end > now), time.monotonic())


def forget(engine: sa.Engine) -> None:
    """Look for every partition anew: one was gone."""
    _known.pop(engine, None)


def lock(connection: sa.Connection, table: str) -> None:
    """Be the only one that makes partitions of a table, until the transaction ends.

    Each table has a lock of its own: a long rollup that makes one of figures must not hold up readings.
    """
    connection.exec_driver_sql(f"LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE")


def _missing(connection: sa.Connection, table: str, names: list[str]) -> list[str]:
    return list(connection.execute(_MISSING, {"table": table, "names": names}).scalars()) if names else []


def _make(connection: sa.Connection, table: str, name: str, bounds: Bounds, fill: Fill | None) -> None:
    """Attach a new table: unlike CREATE ... PARTITION OF, readers and writers go on meanwhile."""
    more = "" if fill else " INCLUDING INDEXES"  # what is missing is made as the table is attached
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS{more})")
    if fill:
        fill(name, bounds)
    _attach(connection, table, name, bounds)


def _attach(connection: sa.Connection, table: str, name: str, bounds: Bounds) -> None:
    span = "FROM ('{}') TO ('{}')".format(*(at.isoformat() for at in bounds))
    connection.exec_driver_sql(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {span}")


_EXISTING = sa.text(
    """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass(:table) ORDER BY c.relname
    """
)


def existing(connection: sa.Connection, table: str = "readings") -> list[tuple[str, datetime, datetime]]:
    """Name, start and end of every partition, oldest first."""
    names = connection.execute(_EXISTING, {"table": table}).scalars()
    return [(name, *_bounds_of(table, name)) for name in names]


def _bounds_of(table: str, name: str) -> Bounds:
    start = datetime.strptime(name.removeprefix(f"{table}_"), "%Y%m%d").replace(tzinfo=UTC)
    return start, start + timedelta(weeks=1) if table == "readings" else _next_quarter(start)
