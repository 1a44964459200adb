"""Readings around many stretches of many points in one query: what a rollup reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import binary_copy
from app.store.binary_copy import array_text
from app.store.engine import driver, store_errors, unhurried

Ints = npt.NDArray[np.int64]

NEAR_DAYS = 32
"""Neighbours are looked for so near at first, then everywhere. [d]"""

_PACKED = """
SELECT string_agg(timestamptz_send(r.at) || int4send(w.number) || float8send(r.value)
    || int4send(r.interval_s) || int4send(r.valid_s), ''::bytea)
"""
_EPOCH = "timestamptz 'epoch' + {} * interval '1 microsecond'"
_WITHIN = f"""
{_PACKED} FROM (
    SELECT n::int - 1 AS number, point, {_EPOCH.format("lo")} AS lo, {_EPOCH.format("hi")} AS hi
    FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS given (point, lo, hi, n)
) w CROSS JOIN LATERAL (
    SELECT at, value, interval_s, valid_s FROM readings
    WHERE point_id = w.point AND at >= w.lo AND at < w.hi OFFSET 0
) r
"""  # noqa: S608
"""OFFSET 0 keeps the planner from joining all readings with the windows: each is a range of the index."""
_BESIDE = f"""
{_PACKED} FROM (
    SELECT n::int - 1 AS number, point, {_EPOCH.format("instant")} AS instant
    FROM unnest(%s::int[], %s::bigint[]) WITH ORDINALITY AS given (point, instant, n)
) w CROSS JOIN LATERAL (
    SELECT at, value, interval_s, valid_s FROM readings
    WHERE point_id = w.point AND {{side}} {{near}} ORDER BY at {{order}} LIMIT %s
) r
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
    values = (array_text(point_ids), array_text(start_us), array_text(end_us))
    return _packed(connection, _WITHIN, values)


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
    with store_errors(), unhurried(connection):
        row = driver(connection).execute(query, values, binary=True).fetchone()
    return binary_copy.unpack_fields(row[0] if row and row[0] else b"")
