"""Closing a site at its source, so that nobody writes it any more, and giving it up."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa
from psycopg import sql

from app.errors import StoreUnavailable
from app.store import audit, locks, site_moves, tables
from app.store.audit import Actor
from app.store.engine import Engine, begin, connect, driver, store_errors, unhurried
from app.store.site_move.copying import Piece, cut, span
from app.store.site_move.parts import PARTS, Of, Own, condition
from app.store.site_moves import OUT, Move, State

WRITERS_S = 900.0
"""Longest wait for transactions that were writing when a site was closed. [s]"""
_PAUSE_S = 0.2


def own_of(connection: sa.Connection, site: str) -> Own | None:
    """The numbers of a site, also of one that is retired; None where there is none.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    s, p = tables.sites, tables.points
    with store_errors():
        number = connection.execute(sa.select(s.c.id).where(s.c.key == site)).scalar()
        if number is None:
            return None
        points = connection.execute(sa.select(p.c.id).where(p.c.site_id == number).order_by(p.c.id))
        return Own(site, number, tuple(points.scalars()))


def close(engine: Engine, move: Move) -> None:
    """Take no readings of a site any more; returns when none is being stored.

    Raises
    ------
    StoreUnavailable
        If the database is away, or a transaction does not end.
    """
    with begin(engine) as connection:
        site_moves.advance(connection, move.id, OUT, State.CLOSED)
    await_writers(engine)


def await_writers(engine: Engine, *, within_s: float = WRITERS_S) -> None:
    """Wait until every transaction that was writing when this was called has ended.

    Raises
    ------
    StoreUnavailable
        If one does not end in time, or the database is away.
    """
    began_s = time.monotonic()
    awaited = _writers(engine)
    while awaited:
        if time.monotonic() - began_s > within_s:
            raise StoreUnavailable("a transaction that writes does not end; end it and start the move again")
        time.sleep(_PAUSE_S)
        awaited &= _writers(engine)


_WRITERS = """
SELECT w.transactionid::text FROM pg_locks w
WHERE w.locktype = 'transactionid' AND w.granted AND w.mode = 'ExclusiveLock' AND EXISTS (
    SELECT FROM pg_locks r WHERE r.pid = w.pid AND r.locktype = 'relation'
        AND r.database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""
"""Each transaction that writes holds a lock on its own number; those of other databases do not count."""


def _writers(engine: Engine) -> set[str]:
    with connect(engine) as connection:
        return set(connection.exec_driver_sql(_WRITERS).scalars())


def is_worked_off(connection: sa.Connection, own: Own) -> bool:
    """Whether no readings of a site wait for the rollup.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    q = tables.rollup_queue
    with store_errors():
        query = sa.select(q.c.id).where(q.c.point_id.in_(own.points)).limit(1)
        return connection.execute(query).first() is None


def seal(engine: Engine, move: Move, own: Own) -> datetime | None:
    """Retire a site whose readings are all in its figures; when, or None where some wait again.

    What it had waiting for its channels is sent by the target. Returns when nobody writes it any more.

    Raises
    ------
    StoreUnavailable
        If the database is away, or jobs do not end.
    """
    with begin(engine) as connection:
        for name in (locks.SITES, locks.ROLLUP, locks.ALARMS, locks.CLOSING):
            locks.hold(connection, name)
        if not is_worked_off(connection, own_of(connection, move.site) or own):
            return None
        at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        for table, column in ((tables.points, "site_id"), (tables.meters, "site_id"), (tables.sites, "id")):
            live = sa.and_(table.c[column] == move.site_id, table.c.retired_at.is_(None))
            connection.execute(sa.update(table).where(live).values(retired_at=at))
        o = tables.outbox
        waiting = sa.and_(o.c.site_id == move.site_id, o.c.state == "waiting")
        connection.execute(sa.update(o).where(waiting).values(state="moved"))
        site_moves.advance(connection, move.id, OUT, State.SEALED, sealed_at=at)
    await_writers(engine)
    return at


def reopen(engine: Engine, move: Move, by: Actor) -> None:
    """Let a site that has not gone yet go on as before.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        locks.hold(connection, locks.SITES)
        site_moves.advance(connection, move.id, OUT, State.CANCELLED, is_end=True)
        if move.sealed_at is not None:
            for table in (tables.sites, tables.meters, tables.points):
                column = table.c.id if table is tables.sites else table.c.site_id
                sealed = sa.and_(column == move.site_id, table.c.retired_at == move.sealed_at)
                connection.execute(sa.update(table).where(sealed).values(retired_at=None))
            o = tables.outbox
            held = sa.and_(o.c.site_id == move.site_id, o.c.state == "moved")
            connection.execute(sa.update(o).where(held).values(state="waiting"))
        audit.append(connection, by.did("site.move_cancel", move.site, {"cell": move.cell}))


def give_up(engine: Engine, move: Move, by: Actor, detail: dict[str, object]) -> None:
    """The site is the target's: say so from now on, and show no last figures of it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        for table in ("evaluations", "outlooks"):
            driver(connection).execute(
                sql.SQL("DELETE FROM {} WHERE site_id = %s").format(sql.Identifier(table)), (move.site_id,)
            )
        site_moves.advance(connection, move.id, OUT, State.MOVED, is_end=True)
        audit.append(connection, by.did("site.move_out", move.site, {**detail, "move": str(move.id)}))


# -- removing what is left ---------------------------------------------------------------------------------

_MORE = ("site_sources", "check_queue", "rollup_queue", "evaluations", "outlooks")


def drop(engine: Engine, move: Move, by: Actor, progress: Callable[[str], None]) -> int:
    """Remove the rows of a site that is another cell's, slice by slice; how many.

    Interrupted, it goes on where it was.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        site_moves.advance(connection, move.id, OUT, State.DROPPING)
        own = own_of(connection, move.site)
    removed = 0
    if own is not None:
        for piece in pieces_of(engine, own):
            progress(str(piece))
            with begin(engine) as connection, unhurried(connection):
                removed += remove(connection, piece, own)
        with begin(engine) as connection, unhurried(connection):
            removed += _remove_rest(connection, own)
    with begin(engine) as connection:
        site_moves.advance(connection, move.id, OUT, State.DROPPED)
        audit.append(connection, by.did("site.move_drop", move.site, {"cell": move.cell, "rows": removed}))
    return removed


def pieces_of(engine: Engine, own: Own) -> list[Piece]:
    """Slices of the large tables in which a site has rows.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        return [
            piece
            for part in PARTS
            if part.is_by_time and (known := span(connection, part, own)) is not None
            for piece in cut(part, *known)
        ]


def remove(connection: sa.Connection, piece: Piece, own: Own) -> int:
    """Remove the rows of a slice; how many.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sql.SQL("DELETE FROM {} t WHERE {} AND {}").format(
        sql.Identifier(piece.part.table), condition(piece.part.of, own), piece.bounds()
    )
    return driver(connection).execute(query).rowcount


def _remove_rest(connection: sa.Connection, own: Own) -> int:
    """All small tables at once; ledgers that refuse to be emptied are disarmed for this transaction."""
    raw, removed = driver(connection), 0
    meters = sql.SQL("meter_id IN (SELECT id FROM meters WHERE site_id = {})").format(sql.Literal(own.site))
    for table in _MORE:
        where = {
            "check_queue": meters,
            "rollup_queue": sql.SQL("point_id = ANY({}::int[])").format(sql.Literal(list(own.points))),
        }.get(table, sql.SQL("site_id = {}").format(sql.Literal(own.site)))
        raw.execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), where))
    armed = {name for (name,) in raw.execute(_ARMED).fetchall()}
    last_first = PARTS[::-1]
    for part in sorted(last_first, key=lambda part: part.of is Of.ITS_EDGE):  # keys are found by edges
        if part.is_by_time:
            continue
        name = sql.Identifier(part.table)
        if part.table in armed:
            raw.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(name))
        removed += remove(connection, Piece(part), own)
        if part.table in armed:
            raw.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(name))
    return removed


_ARMED = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
