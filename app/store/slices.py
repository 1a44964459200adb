"""The tables of a database in slices of a month, and a fingerprint of what each holds.

Two databases that say the same hold the same, however they store it: moves and backups are compared so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString

import sqlalchemy as sa
from psycopg import sql

from app.store.engine import driver, unhurried


@dataclass(frozen=True, slots=True)
class Slice:
    """A table, or the part of it between two instants."""

    table: str
    columns: tuple[str, ...]
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        if self.start is None or self.end is None:
            return self.table
        if self.start == _EVER:
            return f"{self.table} before {self.end:%Y-%m}"
        return f"{self.table} {self.start:%Y-%m}" + (" and later" if self.end == _FOR_EVER else "")

    def where(self) -> sql.Composable:
        """Condition that selects the slice."""
        if self.start is None:
            return sql.SQL("true")
        bounds = sql.SQL("at >= {} AND at < {}")
        return bounds.format(sql.Literal(self.start), sql.Literal(self.end))

    def names(self) -> sql.Composable:
        """The columns, for a statement."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


_TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relname NOT IN ('alembic_version', 'locks')
ORDER BY c.relname
"""

_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""

_SLICED_BY_TIME = """
SELECT EXISTS (
    SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
    WHERE i.indrelid = CAST(:name AS regclass) AND i.indisprimary AND a.attname = 'at'
)
"""


_EVER, _FOR_EVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def tables(connection: sa.Connection) -> list[str]:
    """Names of our tables, by name; partitions belong to theirs."""
    return list(connection.execute(sa.text(_TABLES)).scalars())


def whole(connection: sa.Connection) -> Iterator[Slice]:
    """Every table as one slice."""
    for table in tables(connection):
        yield Slice(table, tuple(connection.execute(sa.text(_COLUMNS), {"name": table}).scalars()))


def slices(connection: sa.Connection) -> Iterator[Slice]:
    """Every table, those that are sliced by time in months."""
    for one in whole(connection):
        if connection.execute(sa.text(_SLICED_BY_TIME), {"name": one.table}).scalar_one():
            yield from _months(connection, one.table, one.columns)
        else:
            yield one


def _months(connection: sa.Connection, table: str, columns: tuple[str, ...]) -> Iterator[Slice]:
    """Every month that the source has, and the time before and after: an earlier try may have left rows."""
    first, last = _ends(connection, table)
    if first is None or last is None:
        yield Slice(table, columns)
        return
    start: datetime = datetime(first.year, first.month, 1, tzinfo=UTC)
    yield Slice(table, columns, _EVER, start)
    while last >= start:
        end = datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
        yield Slice(table, columns, start, end)
        start = end
    yield Slice(table, columns, start, _FOR_EVER)


_PARTITIONS = """
SELECT c.relname FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class t ON t.oid = i.inhparent
WHERE t.oid = to_regclass(%s) AND t.relkind = 'p' ORDER BY c.relname
"""


def _ends(connection: sa.Connection, table: str) -> tuple[datetime | None, datetime | None]:
    """First and last instant of a table; of native partitions no index says them: two of those are read."""
    found = driver(connection).execute(_PARTITIONS, (table,))
    names = [name for (name,) in found] or [table]
    return _end(connection, "min", names), _end(connection, "max", names[::-1])


def _end(connection: sa.Connection, which: LiteralString, names: Sequence[str]) -> datetime | None:
    query = sql.SQL("SELECT " + which + "(at) FROM {}")  # noqa: S608
    found = (driver(connection).execute(query.format(sql.Identifier(n))).fetchone() or (None,) for n in names)
    return next((at for (at,) in found if at is not None), None)


def fingerprint(connection: sa.Connection, one: Slice) -> tuple[int, int]:
    """Count of the rows and sum of their hashes, whatever their order."""
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text "
        "FROM {} WHERE {}"
    ).format(one.names(), sql.Identifier(one.table), one.where())
    with unhurried(connection):
        count, total = driver(connection).execute(query).fetchone() or (0, "0")
    return int(count), int(total)
