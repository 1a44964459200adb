"""A site that was copied becomes one of the target's: all its small tables in one transaction."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.domain.reading import Reading
from app.store import audit, locks, readings, site_moves, tables
from app.store.audit import Actor
from app.store.engine import Connection, Engine, begin, connect, driver, store_errors, unhurried
from app.store.site_move import sealing
from app.store.site_move.copying import Content, Copier, Piece
from app.store.site_move.parts import PARTS, Own
from app.store.site_moves import IN, OWNER, Move, State

SENT_AT_ONCE = 20_000
_KINDS = tuple(part.table for part in PARTS if part.is_numbered)
_FIRST = ("sites", "points")
"""Kinds that get numbers before history is copied."""


class Opened(NamedTuple):
    """What the target got with the opening."""

    rows: int
    contents: dict[str, Content]
    """What both sides hold of each table that is not copied by time."""


def prepare(copier: Copier, there: Connection) -> None:
    """Give the site and its points numbers at the target."""
    copier.number(_FIRST)
    there.commit()
    copier.know(_FIRST)


def open_there(copier: Copier, here: Connection, there: Connection, move: Move, by: Actor) -> Opened:
    """Bring over all that is small, compare it, and declare the site: all of it, or nothing.

    Raises
    ------
    StoreUnavailable
        If both sides differ; nothing is opened.
    StoreUnavailable
        If either database is away; start the move again.
    """
    with store_errors(), unhurried(there):
        locks.hold(there, locks.SITES)
        copier.number(_KINDS)
        institution = _institution(here, there, copier.own.site)
        copier.know(_KINDS, institution)
        contents = {}
        for part in PARTS:
            if not part.is_by_time:
                copier.copy(Piece(part))
                contents[part.table] = copier.check(Piece(part))
        _take_over(here, there, copier, move)
        site_moves.advance(there, move.id, IN, State.OPEN, is_end=True)
        rows = sum(content.rows for content in contents.values())
        head = audit.head(here)
        detail = {"from": move.cell, "move": str(move.id), "rows": rows}
        if head is not None:
            detail |= {"audit_log": audit.known_log_id(here) or "", "audit_seq": head.seq, "audit": head.hash}
        audit.append(there, by.did("site.move_in", move.site, detail))
        there.commit()
        here.rollback()
    return Opened(rows, contents)


def _institution(here: Connection, there: Connection, site: int) -> tuple[int, int]:
    """Number of the site's institution here and there, where it is made if it is missing."""
    i, s = tables.institutions, tables.sites
    query = sa.select(i).join(s, s.c.institution_id == i.c.id).where(s.c.id == site)
    own = here.execute(query).one()
    values = {name: getattr(own, name) for name in ("key", "position", "name", "institution_class")}
    there.execute(insert(i).values(values).on_conflict_do_nothing(index_elements=["key"]))
    return own.id, int(there.execute(sa.select(i.c.id).where(i.c.key == own.key)).scalar_one())


_LOOK_AGAIN = sa.text(
    """
    INSERT INTO check_queue (meter_id, start_at, end_at)
    SELECT m.id, now() - interval '2 days', now() FROM meters m
    WHERE m.site_id = :site AND m.retired_at IS NULL
    ON CONFLICT (meter_id) DO NOTHING
    """
)
_HORIZON = sa.text(
    """
    INSERT INTO horizons (kind, dropped_before) VALUES (:kind, :at)
    ON CONFLICT (kind) DO UPDATE
    SET dropped_before = greatest(horizons.dropped_before, excluded.dropped_before)
    """
)


def _take_over(here: Connection, there: Connection, copier: Copier, move: Move) -> None:
    """What a site needs at a cell besides its own rows."""
    number = copier.at_target.site
    row = {"site_id": number, "owner": OWNER, "last_at": sa.func.clock_timestamp()}
    there.execute(insert(tables.site_sources).values(row))
    there.execute(_LOOK_AGAIN, {"site": number})
    for kind, at in here.execute(sa.select(tables.horizons.c.kind, tables.horizons.c.dropped_before)):
        there.execute(_HORIZON, {"kind": kind, "at": at})
    m = tables.site_moves
    there.execute(sa.update(m).where(m.c.id == move.id, m.c.direction == IN).values(site_id=number))


# -- readings that come after it -------------------------------------------------------------------------


def send_after(here: Connection, there: Connection, site: str) -> int:
    """Store readings that the source still got at the target, and forget them here; how many.

    Raises
    ------
    StoreUnavailable
        If either database is away; what was sent is not doubled.
    """
    r, p, s = tables.site_move_readings, tables.points, tables.sites
    query = (
        sa.select(r.c.point, r.c.at, r.c.value, r.c.interval_s, r.c.valid_s)
        .join(p, p.c.key == r.c.point)
        .join(s, s.c.id == p.c.site_id)
        .where(s.c.key == site)
        .order_by(r.c.point, r.c.at)
        .limit(SENT_AT_ONCE)
    )
    sent = 0
    with store_errors():
        ids = {row.key: row.id for row in there.execute(sa.select(p.c.key, p.c.id))}
        while found := [Reading(*row) for row in here.execute(query)]:
            readings.ingest_readings(there, found, ids)
            there.commit()
            forget = "DELETE FROM site_move_readings WHERE point = %s AND at = %s"
            with driver(here).cursor() as cursor:
                cursor.executemany(forget, [(one.point, one.at) for one in found])
            here.commit()
            sent += len(found)
    return sent


def is_anything_held(here: Connection) -> bool:
    """Whether readings are kept for a site that goes, or went.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return bool(here.exec_driver_sql("SELECT EXISTS (SELECT FROM site_move_readings)").scalar_one())


def take_back(here: Connection) -> int:
    """Store readings that were kept for a site that did not go after all, or has come back; how many.

    Raises
    ------
    StoreUnavailable
        If the database is away; what was stored is not doubled.
    """
    waiting = site_moves.held(here).keys()
    return sum(send_after(here, here, site) for site in waiting - site_moves.leaving(here)) if waiting else 0


def clear(there: Engine, move: Move, site: str) -> None:
    """Remove what a move that was cancelled has brought over.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    n = tables.site_move_numbers
    with connect(there) as connection:
        query = sa.select(n.c.kind, n.c.new_id).where(n.c.move == move.id, n.c.kind.in_(_FIRST))
        numbers = connection.execute(query).all()
    points = tuple(sorted(number for kind, number in numbers if kind == "points"))
    for number in (number for kind, number in numbers if kind == "sites"):
        own = Own(site, number, points)
        for piece in sealing.pieces_of(there, own):
            with begin(there) as connection, unhurried(connection):
                sealing.remove(connection, piece, own)
    with begin(there) as connection:
        connection.execute(sa.delete(n).where(n.c.move == move.id))
