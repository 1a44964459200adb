"""Raw readings: one way in for polls, API and import; idempotent, first value wins.

A key, point and instant, is stored once and never changed. The same reading again is a duplicate and
harmless; a *different* value for a stored key is kept aside in ``reading_conflicts`` and counted.

Rows are stored in order of time, then point: two transactions that store the same keys then wait for each
other one way only. The index is by point, then time: whoever reads names the points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import psycopg
import sqlalchemy as sa
from psycopg import sql

from app.domain.period import Period
from app.domain.reading import LATEST, Reading, ReadingColumns
from app.store import binary_copy, partitions
from app.store.engine import driver, store_errors, unhurried

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK_ROWS = 50_000
_NEAR = timedelta(days=32)
_SLACK = 1.25
"""Some readings may be missing, or late."""
_LEAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of a batch; the four add up to its length."""

    accepted: int = 0
    duplicate: int = 0
    conflicting: int = 0
    corrected: int = 0
    """Of a corrected export: readings whose other value now stands in the ledger."""

    def __add__(self, other: IngestResult) -> IngestResult:
        return IngestResult(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.conflicting + other.conflicting,
            self.corrected + other.corrected,
        )


SLOT_US = 2 * 86_400_000_000
"""Readings of one batch that are further apart are computed again by themselves."""
READINGS, _STAGED = "readings", "incoming_readings"


# -- in ----------------------------------------------------------------------------------------------

_STAGING = """
SET LOCAL client_min_messages = warning;
CREATE TEMP TABLE IF NOT EXISTS incoming_readings (
    at timestamptz NOT NULL, point_id int NOT NULL, value double precision NOT NULL,
    interval_s int NOT NULL, valid_s int NOT NULL
) ON COMMIT DELETE ROWS;
TRUNCATE incoming_readings -- a long transaction stages many batches
"""

_MERGE = """
INSERT INTO {table} (at, point_id, value, interval_s, valid_s)
SELECT at, point_id, value, interval_s, valid_s FROM {source} i
ON CONFLICT (at, point_id) DO NOTHING
"""

_KEEP_CONFLICTS = """
    WITH differing AS (
        SELECT i.*, r.value AS stored_value
        FROM {source} i {stored}
        WHERE r.at BETWEEN :first AND :last
          AND (i.value, i.interval_s, i.valid_s) IS DISTINCT FROM (r.value, r.interval_s, r.valid_s)
    ), kept AS (
        INSERT INTO reading_conflicts (at, point_id, value, interval_s, valid_s, stored_value)
        SELECT at, point_id, value, interval_s, valid_s, stored_value FROM differing
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM differing
"""

_STORED = "JOIN {table} r ON r.at = i.at AND r.point_id = i.point_id"
_STORED_EACH = """CROSS JOIN LATERAL (
    SELECT * FROM {table}
    WHERE point_id = i.point_id AND at = i.at AND at BETWEEN :first AND :last OFFSET 0
) r"""

_MERGE_FEW = """
INSERT INTO {table} (at, point_id, value, interval_s, valid_s)
SELECT CAST('epoch' AS timestamptz) + at_us * interval '1 microsecond', point_id, value, interval_s, valid_s
FROM unnest(%s::bigint[], %s::int[], %s::double precision[], %s::int[], %s::int[])
    AS incoming (at_us, point_id, value, interval_s, valid_s)
ON CONFLICT (at, point_id) DO NOTHING
"""

_QUEUE = """
INSERT INTO rollup_queue (point_id, start_at, end_at)
SELECT point_id, CAST('epoch' AS timestamptz) + start_us * interval '1 microsecond',
    CAST('epoch' AS timestamptz) + end_us * interval '1 microsecond'
FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS span (point_id, start_us, end_us)
"""


def ingest(connection: sa.Connection, columns: ReadingColumns) -> IngestResult:
    """Store a batch in the transaction of `connection` and queue the rollups it calls for.

    Parameters
    ----------
    connection : Connection
        Nothing counts before its transaction is committed.
    columns : ReadingColumns
        In any order, with any repetition; within the batch the earlier row wins.

    Returns
    -------
    IngestResult
        Rows stored, rows that were there already, rows that contradict a stored one.

    Raises
    ------
    StoreUnavailable
        If the database is away; the whole batch may be sent again.
    """
    if not len(columns):
        return IngestResult()
    first, rest = first_per_key(columns)
    with store_errors():
        partitions.ensure(connection, first.at_us)
        try:
            result = store(connection, first, rest)
        except psycopg.errors.CheckViolation:  # a partition is gone that was there a moment ago
            partitions.forget(connection.engine)
            raise
        if result.accepted or result.conflicting:  # a contradiction is looked at, too
            queue_rollups(connection, first)
    return result


def store(
    connection: sa.Connection, first: ReadingColumns, rest: ReadingColumns, table: str = READINGS
) -> IngestResult:
    """Store a batch split by :func:`first_per_key` in a table with the keys of ``readings``."""
    result = _store(connection, first, table)
    if len(rest):
        stage(connection, rest)
        result += _compare(connection, rest, table)
    return result


def ingest_readings(
    connection: sa.Connection, readings: Sequence[Reading], point_ids: dict[str, int]
) -> IngestResult:
    """Like :func:`ingest`, for readings that name their points by key."""
    return ingest(connection, to_columns(readings, point_ids))


def to_columns(readings: Sequence[Reading], point_ids: Mapping[str, int]) -> ReadingColumns:
    """Columns of `readings`, with the points' numbers from `point_ids`.

    Raises
    ------
    KeyError
        If a reading names a point that is not in `point_ids`.
    """
    return ReadingColumns(
        np.array([point_ids[r.point] for r in readings], np.int32),
        np.array([to_us(r.at) for r in readings], np.int64),
        np.array([r.value for r in readings], np.float64),
        np.array([r.interval_s for r in readings], np.int32),
        np.array([r.valid_s for r in readings], np.int32),
    )


def to_us(at: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z, exact."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_us(at_us: int) -> datetime:
    """Instant of a count of microseconds since 1970-01-01T00:00Z."""
    return _EPOCH + timedelta(microseconds=int(at_us))


def first_per_key(columns: ReadingColumns) -> tuple[ReadingColumns, ReadingColumns]:
    """The batch in key order: the first row of every key, and all later ones."""
    later = (columns.at_us[1:] == columns.at_us[:-1]) & (columns.point_id[1:] > columns.point_id[:-1])
    if (later | (columns.at_us[1:] > columns.at_us[:-1])).all():  # as most exports are
        return columns, columns.take(np.empty(0, np.intp))
    order = np.lexsort((columns.point_id, columns.at_us))  # stable: file order within a key
    ordered = columns.take(order)
    repeats = (ordered.at_us[1:] == ordered.at_us[:-1]) & (ordered.point_id[1:] == ordered.point_id[:-1])
    first = np.concatenate([[True], ~repeats])
    return ordered.take(first), ordered.take(~first)


_STRAIGHT_ROWS = 1000
"""From so many rows on it pays to stage them, and to ask whether they all are new."""

_STRAIGHT_ROWS_A_POINT = 4
"""With fewer than so many rows a point it costs as much to ask as to stage them."""

_FREE = """
SELECT NOT EXISTS (
    SELECT FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS asked (point, first_us, last_us)
    CROSS JOIN LATERAL (
        SELECT FROM {table}
        WHERE point_id = asked.point
          AND at >= timestamptz 'epoch' + asked.first_us * interval '1 microsecond'
          AND at <= timestamptz 'epoch' + asked.last_us * interval '1 microsecond'
          AND at >= %s AND at <= %s
        ORDER BY at LIMIT 1
    ) stored
)
"""
"""A step of the index for each point."""


def _store(connection: sa.Connection, columns: ReadingColumns, table: str) -> IngestResult:
    """Store rows in key order, one per key: straight where nothing is stored yet, else through staging."""
    if len(columns) < _STRAIGHT_ROWS:
        return _merge_few(connection, columns, table)
    if _copy_straight(connection, columns, table):
        return IngestResult(len(columns))
    return _stage_and_merge(connection, columns, table)


def _merge_few(connection: sa.Connection, columns: ReadingColumns, table: str) -> IngestResult:
    """Store a small batch in one statement; it is staged only where some keys are stored already."""
    values: Sequence[binary_copy.Column] = (
        columns.at_us,
        columns.point_id,
        columns.value,
        columns.interval_s,
        columns.valid_s,
    )
    statement = _MERGE_FEW.format(table=table)
    accepted = driver(connection).execute(statement, tuple(map(binary_copy.array_text, values))).rowcount
    if accepted == len(columns):
        return IngestResult(accepted)
    stage(connection, columns)
    conflicting = _keep_conflicts(connection, _STAGED, columns.at_us, table)
    return IngestResult(accepted, len(columns) - accepted - conflicting, conflicting)


def _stage_and_merge(connection: sa.Connection, columns: ReadingColumns, table: str) -> IngestResult:
    stage(connection, columns)
    return _merge(connection, columns, table)


def _copy_straight(connection: sa.Connection, columns: ReadingColumns, table: str) -> bool:
    """COPY into `table` if no point has readings within its time; False, and nothing done, if one has."""
    if not _is_free(connection, columns, table):
        return False
    try:
        with connection.begin_nested():
            copy_in(connection, columns, table)
    except psycopg.errors.UniqueViolation:  # another session stored some of them in this moment
        return False
    return True


def _is_free(connection: sa.Connection, columns: ReadingColumns, table: str) -> bool:
    """Whether nothing is stored of any point from its first to its last row; False where nobody asks."""
    points, first = np.unique(columns.point_id, return_index=True)
    if len(points) * _STRAIGHT_ROWS_A_POINT > len(columns):
        return False
    last = len(columns) - 1 - np.unique(columns.point_id[::-1], return_index=True)[1]
    spans: Sequence[binary_copy.Column] = (points, columns.at_us[first], columns.at_us[last])
    whole = (from_us(columns.at_us[0]), from_us(columns.at_us[-1]))
    asked = (*map(binary_copy.array_text, spans), *whole)
    found = driver(connection).execute(_FREE.format(table=table), asked, prepare=False).fetchone()
    return found == (True,)


def stage(connection: sa.Connection, columns: ReadingColumns) -> None:
    """COPY a batch into the session's staging table, in place of what it held."""
    connection.exec_driver_sql(_STAGING)
    copy_in(connection, columns, _STAGED)


def copy_in(connection: sa.Connection, columns: ReadingColumns, table: str) -> None:
    """COPY readings into a table as they are."""
    copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(binary_copy.COLUMNS)
    )
    with driver(connection).cursor() as cursor, cursor.copy(copy) as stream:
        stream.write(binary_copy.pack(columns))


def _merge(connection: sa.Connection, columns: ReadingColumns, table: str) -> IngestResult:
    """Move staged rows, one per key, into `table`."""
    return merge_from(connection, _STAGED, columns.at_us, table)


def merge_from(
    connection: sa.Connection, source: str, at_us: npt.NDArray[np.int64], table: str = READINGS
) -> IngestResult:
    """Take over the rows of another table or subquery, one per key; `at_us` are their instants, in order."""
    accepted = connection.exec_driver_sql(_MERGE.format(table=table, source=source)).rowcount
    if accepted == len(at_us):
        return IngestResult(accepted)
    conflicting = _keep_conflicts(connection, source, at_us, table)
    return IngestResult(accepted, len(at_us) - accepted - conflicting, conflicting)


def _compare(connection: sa.Connection, columns: ReadingColumns, table: str) -> IngestResult:
    """Judge staged rows whose keys are all stored."""
    conflicting = _keep_conflicts(connection, _STAGED, columns.at_us, table)
    return IngestResult(0, len(columns) - conflicting, conflicting)


def _keep_conflicts(connection: sa.Connection, source: str, at_us: npt.NDArray[np.int64], table: str) -> int:
    span = {"first": from_us(at_us[0]), "last": from_us(at_us[-1])}
    query = sa.text(_KEEP_CONFLICTS.format(source=source, stored=beside_stored(len(at_us), table)))
    return int(connection.execute(query, span).scalar_one())


def beside_stored(count: int, table: str = READINGS) -> str:
    """Join of rows ``i`` with the readings ``r`` of the same keys, all between ``:first`` and ``:last``.

    Few rows are looked up one by one: the planner does not know that they are few, and may read a week.
    """
    return (_STORED_EACH if count < _STRAIGHT_ROWS else _STORED).format(table=table)


def queue_rollups(connection: sa.Connection, columns: ReadingColumns) -> None:
    """One row per touched point and :data:`SLOT_US`, over the time its readings speak of."""
    slots, index = np.unique(
        (columns.point_id.astype(np.int64) << 32) + columns.at_us // SLOT_US, return_inverse=True
    )
    starts = np.full(len(slots), np.iinfo(np.int64).max)
    ends = np.full(len(slots), np.iinfo(np.int64).min)
    np.minimum.at(starts, index, columns.at_us - columns.interval_s.astype(np.int64) * 1_000_000)
    np.maximum.at(ends, index, columns.at_us)
    spans = tuple(map(binary_copy.array_text, (slots >> 32, starts, ends)))
    driver(connection).execute(_QUEUE, spans)


# -- out ---------------------------------------------------------------------------------------------

_OUT = """
SELECT at, point_id, value, interval_s, valid_s FROM readings
WHERE point_id = ANY({points}) AND at >= {start} AND at < {end} ORDER BY at, point_id
"""
_LOAD = """
SELECT string_agg(
    timestamptz_send(at) || int4send(point_id) || float8send(value)
        || int4send(interval_s) || int4send(valid_s),
    ''::bytea ORDER BY at
)
FROM readings WHERE point_id = %s AND at >= %s AND at < %s
GROUP BY date_bin('64 days', at, '2000-01-01Z') ORDER BY min(at)
"""
"""Packed: a row at a time costs twice as much on the way. In pieces: years at once cost memory."""


def load(connection: sa.Connection, point_id: int, start: datetime, end: datetime) -> ReadingColumns:
    """Readings of one point with ``start <= at < end``, oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors(), unhurried(connection), driver(connection).cursor(binary=True) as cursor:
        pieces = cursor.stream(_LOAD, (point_id, start, end), binary=True)
        return ReadingColumns.concat([binary_copy.unpack_fields(packed) for (packed,) in pieces])


_LOAD_MANY = """
SELECT (
    SELECT string_agg(
        timestamptz_send(at) || int4send(w.place) || float8send(value)
            || int4send(interval_s) || int4send(valid_s),
        ''::bytea ORDER BY at)
    FROM readings WHERE point_id = w.point_id AND at >= w.start_at AND at < w.end_at AND at >= %s AND at < %s
)
FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY
    AS s(point_id, start_at, end_at, ordinal)
CROSS JOIN LATERAL (SELECT s.point_id, s.start_at, s.end_at, (s.ordinal - 1)::int AS place OFFSET 0) w
ORDER BY ordinal
"""
"""A scalar subquery: the planner can only walk the index of each point, whatever it thinks of the numbers."""


def load_many(
    connection: sa.Connection, point_ids: Sequence[int], starts: Sequence[datetime], ends: Sequence[datetime]
) -> ReadingColumns:
    """Readings of many points, each within its own stretch, by place in `point_ids`, then time.

    Returns
    -------
    ReadingColumns
        With the place in `point_ids` in place of the number of the point.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors(), driver(connection).cursor(binary=True) as cursor:
        bounds = (min(starts), max(ends))  # which say what partitions it concerns before any is opened
        cursor.execute(_LOAD_MANY, (*bounds, list(point_ids), list(starts), list(ends)), binary=True)
        return binary_copy.unpack_fields(b"".join(packed for (packed,) in cursor if packed))


_ARE_FIRST = """
SELECT (
    SELECT at FROM readings
    WHERE point_id = w.point AND at < timestamptz 'epoch' + w.first_us * interval '1 microsecond'
    ORDER BY at LIMIT 1
) IS NULL
FROM unnest(%s::int[], %s::bigint[]) WITH ORDINALITY AS w (point, first_us, ordinal) ORDER BY ordinal
"""
"""In order: asked whether one exists, the planner may hope to find it soon in a scan."""


def are_first(
    connection: sa.Connection, point_ids: Sequence[int], at_us: npt.NDArray[np.int64]
) -> list[bool]:
    """Whether nothing is stored of each point before an instant of its own.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not len(point_ids):
        return []
    values = (binary_copy.array_text(point_ids), binary_copy.array_text(at_us))
    with store_errors():
        return [is_first for (is_first,) in driver(connection).execute(_ARE_FIRST, values)]


def around(
    connection: sa.Connection,
    point_id: int,
    start: datetime,
    end: datetime,
    before: int = 1,
    after: int = 1,
    *,
    spacing: timedelta | None = None,
) -> ReadingColumns:
    """Readings of one point inside ``[start, end)`` with their neighbours.

    Parameters
    ----------
    point_id : int
    start, end : datetime
    before, after : int
        How many of the last readings before `start` and of the first ones from `end` on come along;
        however far away they are.
    spacing : timedelta, optional
        How far apart they usually are. Where they are no further, one query does.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if spacing is not None:
        found = load(connection, point_id, start - _SLACK * before * spacing, end + _SLACK * after * spacing)
        low, high = np.searchsorted(found.at_us, [to_us(start), to_us(end)]).tolist()
        if low >= before and len(found) - high >= after:
            return found.take(np.arange(low - before, high + after))
    first = _neighbours(connection, point_id, start, before, earlier=True)
    last = _neighbours(connection, point_id, end, after, earlier=False)
    lower = min([start, *first])
    upper = max([end, *(at + timedelta(microseconds=1) for at in last)])
    return load(connection, point_id, lower, upper)


def _neighbours(
    connection: sa.Connection, point_id: int, at: datetime, count: int, *, earlier: bool
) -> list[datetime]:
    """Times of the `count` readings next to `at`: looked for nearby first, then everywhere."""
    if count <= 0:
        return []
    near = at - _NEAR if earlier else at + _NEAR
    found = _next_times(connection, point_id, at, count, near, earlier=earlier)
    if len(found) < count:
        found = _next_times(connection, point_id, at, count, None, earlier=earlier)
    return found


def _next_times(
    connection: sa.Connection,
    point_id: int,
    at: datetime,
    count: int,
    limit: datetime | None,
    *,
    earlier: bool,
) -> list[datetime]:
    limits = {"near": "" if limit is None else "AND at >= :limit" if earlier else "AND at < :limit"}
    side = "at < :at" if earlier else "at >= :at"
    order = "DESC" if earlier else "ASC"
    query = (
        f"SELECT at FROM readings WHERE point_id = :point AND {side} {limits['near']} "  # noqa: S608
        f"ORDER BY at {order} LIMIT :count"
    )
    parameters = {"point": point_id, "at": at, "count": count, "limit": limit}
    return list(connection.execute(sa.text(query), parameters).scalars())


def known_span(connection: sa.Connection, point_ids: Sequence[int]) -> Period | None:
    """From the first to the last reading of some points; None without any.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT min(first), max(last) FROM unnest(CAST(:points AS int[])) AS p(id), LATERAL ("
        " SELECT (SELECT min(at) FROM readings WHERE point_id = p.id) AS first,"
        " (SELECT max(at) FROM readings WHERE point_id = p.id) AS last) ends"
    )
    with store_errors():
        first, last = connection.execute(query, {"points": list(point_ids)}).one()
    return None if first is None else Period(first, last)


def known_spans(connection: sa.Connection, point_ids: Sequence[int]) -> dict[int, Period]:
    """From the first reading of each point to just after its last, by number; without those that have none.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT * FROM (SELECT id, (SELECT min(at) FROM readings WHERE point_id = p.id) AS first,"
        " (SELECT max(at) FROM readings WHERE point_id = p.id) AS last"
        " FROM unnest(CAST(:points AS int[])) AS p(id)) ends WHERE first IS NOT NULL"
    )
    with store_errors():
        rows = connection.execute(query, {"points": list(point_ids)})
        return {number: Period(first, last + _LEAST) for number, first, last in rows}


def counts(connection: sa.Connection, point_ids: Sequence[int], *, most: int | None = None) -> dict[int, int]:
    """How many readings each point has, by number, up to `most` of them; without those that have none.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT p.id, n.count FROM unnest(CAST(:points AS int[])) AS p(id), LATERAL ("
        " SELECT count(*) AS count FROM ("
        "  SELECT at FROM readings WHERE point_id = p.id ORDER BY at LIMIT :most"  # by the index, always
        " ) AS own"
        ") n WHERE n.count > 0"
    )
    with store_errors():
        rows = connection.execute(query, {"points": list(point_ids), "most": most}).all()
    return {row[0]: row[1] for row in rows}


def copy_out(
    connection: sa.Connection,
    point_ids: Sequence[int],
    start: datetime,
    end: datetime,
    *,
    block_rows: int = _BLOCK_ROWS,
) -> Iterator[ReadingColumns]:
    """Stream readings with ``start <= at < end`` in blocks, for exports of any length; by time, then point.

    Parameters
    ----------
    connection : Connection
        Must stay open, and unused otherwise, until the last block.
    point_ids : sequence of int
    start, end : datetime
    block_rows : int
        Length of a block.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sql.SQL(_OUT).format(
        points=sql.Literal(list(point_ids)),
        start=sql.Literal(start),
        end=sql.Literal(end),
    )
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with (
        store_errors(),
        unhurried(connection),
        driver(connection).cursor() as cursor,
        cursor.copy(copy) as stream,
    ):
        yield from _blocks(stream, block_rows)


def _blocks(stream: psycopg.Copy, block_rows: int) -> Iterator[ReadingColumns]:
    rows: list[bytes] = []
    for row in stream:
        rows.append(bytes(row))
        if len(rows) >= block_rows:
            yield binary_copy.unpack(b"".join(rows))
            rows = []
    if rows:
        yield binary_copy.unpack(b"".join(rows))


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest reading of a point."""

    point_id: int
    point: str
    at: datetime
    value: float


_LATEST = """
SELECT p.id, p.key, r.at, r.value
FROM points p JOIN sites s ON s.id = p.site_id
CROSS JOIN LATERAL (
    SELECT at, value FROM readings
    WHERE point_id = p.id AND at >= :since AND at <= :until ORDER BY at DESC LIMIT 1
) r
WHERE s.key = :site AND p.retired_at IS NULL AND p.id <> ALL(:known)
ORDER BY p.id
"""


def latest(connection: sa.Connection, site: str, until: datetime = LATEST) -> list[Latest]:
    """The newest reading of every point of a site that has one until then, by point.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    now = connection.execute(sa.text("SELECT now()")).scalar_one()
    found: list[Latest] = []
    for since in (now - timedelta(days=2), datetime(1900, 1, 1, tzinfo=UTC)):
        known = [one.point_id for one in found]
        rows = connection.execute(
            sa.text(_LATEST), {"site": site, "since": since, "until": until, "known": known}
        )
        found += [Latest(*row) for row in rows]
    return sorted(found, key=lambda one: one.point_id)
