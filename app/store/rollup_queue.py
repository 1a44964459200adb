"""Stretches of points' time whose energy has to be computed again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app.domain.period import Period
from app.store import locks
from app.store.binary_copy import EPOCH_SHIFT_US, array_text
from app.store.engine import driver, store_errors

Ints = npt.NDArray[np.int64]

RECENT_S = 7200
"""Changes no older than this go first: what comes in now, not what comes in late. [s]"""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A stretch of a point's time to compute again, both ends included."""

    point_id: int
    start: datetime
    end: datetime


class Waiting(NamedTuple):
    """Entries of the queue as columns, in no certain order."""

    id: Ints
    point_id: Ints
    start_us: Ints
    end_us: Ints
    recent_us: int
    """From here on a change counts as recent: it goes first. [us]"""


def is_anything_queued(connection: sa.Connection) -> bool:
    """Whether anything waits to be computed.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        found = driver(connection).execute("SELECT EXISTS (SELECT FROM rollup_queue)").fetchone()
    return found == (True,)


_WAITING = """
SELECT (extract(epoch FROM now() - %s * interval '1 second') * 1000000)::bigint, string_agg(
    int8send(id) || int4send(point_id) || timestamptz_send(start_at) || timestamptz_send(end_at), ''::bytea)
FROM (
    SELECT id, point_id, start_at, end_at FROM rollup_queue
    ORDER BY end_at < now() - %s * interval '1 second', id LIMIT %s
) first GROUP BY id / 10000
"""
_ROW = np.dtype([("id", ">i8"), ("point", ">i4"), ("start", ">i8"), ("end", ">i8")])


def waiting(connection: sa.Connection, limit: int) -> Waiting:
    """Queued work, recent changes first, then the oldest entries; it stays queued until :func:`done`.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        found = driver(connection).execute(_WAITING, (RECENT_S, RECENT_S, limit), binary=True).fetchall()
    recent_us = found[0][0] if found else 0
    rows = np.frombuffer(b"".join(packed for _, packed in found), _ROW)
    id_, point, start, end = (rows[name].astype(np.int64) for name in ("id", "point", "start", "end"))
    return Waiting(id_, point, start + EPOCH_SHIFT_US, end + EPOCH_SHIFT_US, recent_us)


_DONE = "DELETE FROM rollup_queue WHERE id = ANY(%s::bigint[])"


def done(connection: sa.Connection, ids: Ints) -> None:
    """Remove entries; they come back if the transaction fails.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        driver(connection).execute(_DONE, (array_text(ids),))


def add(connection: sa.Connection, work: Iterable[Dirty]) -> None:
    """Ask for stretches of time to be computed again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = [{"point": w.point_id, "start": w.start, "end": w.end} for w in work]
    if rows:
        query = "INSERT INTO rollup_queue (point_id, start_at, end_at) VALUES (:point, :start, :end)"
        with store_errors():
            connection.execute(sa.text(query), rows)


def redefined(
    connection: sa.Connection, point_ids: Collection[int], span: Period
) -> list[tuple[int, datetime, datetime]]:
    """Points and stretches of a period that wait because a definition changed: their figures are old.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.text(
        "SELECT point_id, start_at, end_at FROM rollup_queue"
        " WHERE redefined AND point_id = ANY(CAST(:points AS int[])) AND start_at < :end AND end_at > :start"
    )
    values = {"points": array_text(list(point_ids)), "start": span.start, "end": span.end}
    with store_errors():
        return [(point, start, end) for point, start, end in connection.execute(query, values)]


def count_redefined(connection: sa.Connection) -> int:
    """How many stretches wait because a definition changed.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return int(
            connection.execute(sa.text("SELECT count(*) FROM rollup_queue WHERE redefined")).scalar_one()
        )


def lock(connection: sa.Connection) -> bool:
    """Whether this transaction is now the only one that rolls up; another one is at work otherwise.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return locks.try_hold(connection, locks.ROLLUP)
