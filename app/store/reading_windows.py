"""Readings around many stretches of many points in one query: what a rollup reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.reading import ReadingColumns, order_by_point
from app.store import binary_copy
from app.store.binary_copy import array_text
from app.store.engine import driver, store_errors, unhurried
from app.store.readings import from_us

Ints = npt.NDArray[np.int64]

NEAR_DAYS = 32
"""Neighbours are looked for so near at first, then everywhere. [d]"""

_PACKED = """string_agg(timestamptz_send(at) || int4send(w.number) || float8send(value)
        || int4send(interval_s) || int4send(valid_s), ''::bytea) AS packed"""
_EPOCH = "timestamptz 'epoch' + {} * interval '1 microsecond'"
_WITHIN = f"""
SELECT r.packed FROM (
    SELECT n::int - 1 AS number, point, {_EPOCH.format("lo")} AS lo, {_EPOCH.format("hi")} AS hi
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS given (point, lo, hi, n)
) w CROSS JOIN LATERAL (
    SELECT {_PACKED} FROM readings
    WHERE point_id = w.point AND at >= w.lo AND at < w.hi AND at >= %s AND at < %s
) r WHERE r.packed IS NOT NULL
"""  # noqa: S608
"""A window is a range of the index, and a row of its own: a connection keeps the room of its largest row.

The bounds of all windows together say which partitions it concerns before any is opened.
"""
_EACH = f"""
SELECT coalesce(r.instants, ''), coalesce(r.intervals, '') FROM (
    SELECT n, point, {_EPOCH.format("lo")} AS lo, {_EPOCH.format("hi")} AS hi
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS given (point, lo, hi, n)
) w CROSS JOIN LATERAL (
    SELECT string_agg(timestamptz_send(at) || float8send(value), ''::bytea)
            FILTER (WHERE interval_s = 0 AND valid_s = 0) AS instants,
        string_agg(timestamptz_send(at) || float8send(value) || int4send(interval_s) || int4send(valid_s),
            ''::bytea) FILTER (WHERE interval_s <> 0 OR valid_s <> 0) AS intervals
    FROM readings WHERE point_id = w.point AND at >= w.lo AND at < w.hi AND at >= %s AND at < %s
) r ORDER BY n
"""  # noqa: S608
"""A row a window: of long ones half the cost, since nothing says at each reading whose it is."""
EACH_US = 7 * 86_400_000_000
"""Windows longer than this, on an average, are read so. [us]"""
_IN_TIME = """
SELECT string_agg(timestamptz_send(at) || int4send(point_id) || float8send(value), ''::bytea)
        FILTER (WHERE interval_s = 0 AND valid_s = 0),
    string_agg(timestamptz_send(at) || int4send(point_id) || float8send(value) || int4send(interval_s)
            || int4send(valid_s), ''::bytea)
        FILTER (WHERE interval_s <> 0 OR valid_s <> 0)
FROM readings WHERE point_id = ANY(%s) AND at >= %s AND at < %s GROUP BY point_id
"""
"""Most readings speak of an instant: their lengths of zero need not travel."""
DENSE_WINDOWS = 8
DENSE_US = (6 * 3_600_000_000, 400 * 86_400_000_000)
"""Windows of so many points, of a time not shorter nor longer than this, may be read in one walk. [us]"""
_BESIDE = f"""
SELECT r.packed FROM (
    SELECT n::int - 1 AS number, point, {_EPOCH.format("instant")} AS instant
    FROM unnest(%s::int[], %s::bigint[]) WITH ORDINALITY AS given (point, instant, n)
) w CROSS JOIN LATERAL (
    SELECT {_PACKED} FROM (
        SELECT at, value, interval_s, valid_s FROM readings
        WHERE point_id = w.point AND {{side}} {{near}} ORDER BY at {{order}} LIMIT %s
    ) neighbours
) r WHERE r.packed IS NOT NULL
"""  # noqa: S608
_BEFORE = {"side": "at < w.instant", "order": "DESC"}
_AFTER = {"side": "at >= w.instant", "order": "ASC"}
_NEAR = {
    "DESC": f"AND at >= w.instant - interval '{NEAR_DAYS} days'",
    "ASC": f"AND at < w.instant + interval '{NEAR_DAYS} days'",
}


def within(
    connection: sa.Connection, point_ids: Sequence[int], start_us: Ints, end_us: Ints
) -> ReadingColumns:
    """Readings of each point with ``start <= at < end``; `point_id` is the number of the window.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    numbers, parts, scattered = np.asarray(point_ids, np.int64), [], []
    for rows in _side_by_side(start_us, end_us):
        if _is_dense(start_us[rows], end_us[rows]):
            found = _in_time(connection, numbers[rows], start_us[rows], end_us[rows])
            parts.append(replace(found, point_id=rows[found.point_id].astype(np.int32)))
        else:
            scattered.append(rows)
    if scattered:
        rows = np.sort(np.concatenate(scattered))
        is_long = int((end_us[rows] - start_us[rows]).mean()) > EACH_US
        found = (_each if is_long else _scattered)(connection, numbers[rows], start_us[rows], end_us[rows])
        parts.append(replace(found, point_id=rows[found.point_id].astype(np.int32)))
    return ReadingColumns.concat(parts)


def _scattered(connection: sa.Connection, numbers: Ints, start_us: Ints, end_us: Ints) -> ReadingColumns:
    return _packed(connection, _WITHIN, _values(numbers, start_us, end_us))


def _values(numbers: Ints, start_us: Ints, end_us: Ints) -> tuple[Any, ...]:
    """Windows, and the bounds of them all."""
    bounds = (from_us(int(start_us.min())), from_us(int(end_us.max())))
    return (*map(array_text, (numbers, start_us, end_us)), *bounds)


def _each(connection: sa.Connection, numbers: Ints, start_us: Ints, end_us: Ints) -> ReadingColumns:
    values = _values(numbers, start_us, end_us)
    with store_errors(), unhurried(connection):
        rows = driver(connection).execute(_EACH, values, binary=True).fetchall()
    return ReadingColumns.concat([binary_copy.unpack_of(n, *row) for n, row in enumerate(rows)])


def _side_by_side(start_us: Ints, end_us: Ints) -> list[Ints]:
    """Windows in groups that begin at about the same time: within half of their usual length."""
    order = np.argsort(start_us, kind="stable")
    step_us = int(np.median(end_us - start_us)) // 2 if len(order) else 0
    return np.split(order, np.flatnonzero(np.diff(start_us[order]) > step_us) + 1) if len(order) else []


def _is_dense(start_us: Ints, end_us: Ints) -> bool:
    """Whether the windows lie in the same time, mostly, and are long enough for a walk over that time."""
    if len(start_us) < DENSE_WINDOWS:
        return False
    span_us = int(end_us.max()) - int(start_us.min())
    is_long = DENSE_US[0] <= span_us <= DENSE_US[1]
    return is_long and 2 * int((end_us - start_us).sum()) >= len(start_us) * span_us


def _in_time(connection: sa.Connection, point_id: Ints, start_us: Ints, end_us: Ints) -> ReadingColumns:
    """One walk over the time that all windows have in common, then each window's part of it."""
    numbers = np.unique(point_id)
    low, high = from_us(int(start_us.min())), from_us(int(end_us.max()))
    with store_errors(), unhurried(connection):
        asked = (numbers.tolist(), low, high)
        rows = driver(connection).execute(_IN_TIME, asked, binary=True).fetchall()
    instants, intervals = (b"".join(row[n] or b"" for row in rows) for n in (0, 1))
    found = binary_copy.unpack_instants(instants)
    if intervals:
        found = ReadingColumns.concat([found, binary_copy.unpack_fields(intervals)])
    place = np.searchsorted(numbers, found.point_id)
    order = order_by_point(place, found.at_us)
    place, at_us = place[order], found.at_us[order]
    first = np.searchsorted(place, np.arange(len(numbers) + 1))
    windows = []
    for number, begin_us, until_us in zip(
        np.searchsorted(numbers, point_id).tolist(), start_us.tolist(), end_us.tolist(), strict=True
    ):
        own = at_us[first[number] : first[number + 1]]
        begin, until = np.searchsorted(own, [begin_us, until_us])
        windows.append(order[first[number] + begin : first[number] + until])
    kept = found.take(np.concatenate(windows))
    owner = np.repeat(np.arange(len(windows), dtype=np.int32), [len(rows) for rows in windows])
    return replace(kept, point_id=owner)


_ENDS = f"""
SELECT string_agg(
    ((SELECT at FROM readings WHERE point_id = w.point AND at < w.lo ORDER BY at LIMIT 1)
        IS NULL)::int::text
    || ((SELECT at FROM readings WHERE point_id = w.point AND at >= w.hi ORDER BY at DESC LIMIT 1)
        IS NULL)::int::text, '' ORDER BY n)
FROM (
    SELECT n, point, {_EPOCH.format("lo")} AS lo, {_EPOCH.format("hi")} AS hi
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS given (point, lo, hi, n)
) w
"""  # noqa: S608


def reach_ends(
    connection: sa.Connection, point_ids: Sequence[int], start_us: Ints, end_us: Ints
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether nothing of each point is stored before a window, and nothing after it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = (array_text(point_ids), array_text(start_us), array_text(end_us))
    with store_errors(), unhurried(connection):
        row = driver(connection).execute(_ENDS, values).fetchone()
    flags = np.frombuffer((row[0] if row and row[0] else "").encode(), np.uint8) == ord("1")
    return flags[0::2], flags[1::2]


def beside(
    connection: sa.Connection, point_ids: Sequence[int], at_us: Ints, count: int, *, earlier: bool
) -> ReadingColumns:
    """The `count` readings of each point next before an instant, or from it on, however far away.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    side = _BEFORE if earlier else _AFTER
    values = (array_text(point_ids), array_text(at_us), count)
    found = _packed(connection, _BESIDE.format(**side, near=_NEAR[side["order"]]), values)
    few = np.flatnonzero(np.bincount(found.point_id, minlength=len(point_ids)) < count)
    if not len(few):
        return found
    numbers = np.asarray(point_ids)[few].tolist()
    far = _packed(
        connection, _BESIDE.format(**side, near=""), (array_text(numbers), array_text(at_us[few]), count)
    )
    kept = found.take(~np.isin(found.point_id, few))
    return ReadingColumns.concat(
        [
            kept,
            ReadingColumns(
                few[far.point_id].astype(np.int32), far.at_us, far.value, far.interval_s, far.valid_s
            ),
        ]
    )


def _packed(connection: sa.Connection, query: str, values: tuple[Any, ...]) -> ReadingColumns:
    return binary_copy.unpack_fields(_joined(connection, query, values))


def _joined(connection: sa.Connection, query: str, values: tuple[Any, ...]) -> bytes:
    """The rows one after the other; what they were made of is free then."""
    with store_errors(), unhurried(connection):
        rows = driver(connection).execute(query, values, binary=True).fetchall()
    return b"".join(packed for (packed,) in rows)
