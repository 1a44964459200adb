"""How far the move of a site is, as both databases know it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from app.domain.reading import Reading
from app.errors import SiteMoved, StoreUnavailable
from app.store import tables
from app.store.engine import store_errors

_TABLE = tables.site_moves
OUT, IN = "out", "in"
OWNER = "moved"
"""Owner of a site that came from another cell, until a site file describes it."""


class State(StrEnum):
    """How far it is."""

    COPYING = "copying"
    """History is brought over; the site goes on at the source."""
    CLOSED = "closed"
    """The source takes no readings of the site any more; what it has is worked off."""
    SEALED = "sealed"
    """Nobody writes anything of the site at the source; the rest is brought over and compared."""
    MOVED = "moved"
    """It is at the target; the source keeps its rows and says where it is."""
    DROPPING = "dropping"
    DROPPED = "dropped"
    CANCELLED = "cancelled"
    OPEN = "open"
    """At the target: the site is here."""


REFUSED = (State.CLOSED, State.SEALED, State.MOVED)
"""States in which the source takes no readings."""
GONE = (State.SEALED, State.MOVED, State.DROPPING, State.DROPPED)
"""States in which a site is the source's no longer."""


@dataclass(frozen=True, slots=True)
class Move:
    """A site's move as one of both databases knows it."""

    id: uuid.UUID
    direction: str
    site: str
    site_id: int
    cell: str
    """The other cell."""
    url: str
    state: State
    began_at: datetime
    sealed_at: datetime | None
    ended_at: datetime | None


def latest(connection: sa.Connection, site: str, direction: str) -> Move | None:
    """The last move of a site in that direction; None where there was none.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = (
        sa.select(_TABLE)
        .where(_TABLE.c.site == site, _TABLE.c.direction == direction)
        .order_by(_TABLE.c.began_at.desc())
        .limit(1)
    )
    with store_errors():
        row = connection.execute(query).one_or_none()
    return None if row is None else _move(row)


def current(connection: sa.Connection) -> list[Move]:
    """Moves that have begun and are not done with, by site.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    done = (State.DROPPED, State.CANCELLED, State.OPEN)
    query = sa.select(_TABLE).where(_TABLE.c.state.not_in(done)).order_by(_TABLE.c.site, _TABLE.c.direction)
    with store_errors():
        return [_move(row) for row in connection.execute(query)]


def leaving(connection: sa.Connection) -> frozenset[str]:
    """Sites of which nothing is stored here, since they go to another cell or went there.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    moves = current(connection)
    return frozenset(m.site for m in moves if m.direction == OUT and m.state is not State.COPYING)


def gone(connection: sa.Connection) -> dict[str, Move]:
    """Sites that went to another cell and have not come back, by id.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    last = (
        sa.select(_TABLE)
        .ext(distinct_on(_TABLE.c.site))
        .where(_TABLE.c.state != State.CANCELLED)
        .order_by(_TABLE.c.site, _TABLE.c.began_at.desc())
    )
    with store_errors():
        moves = map(_move, connection.execute(last))
        return {move.site: move for move in moves if move.direction == OUT and move.state in GONE}


def _move(row: sa.Row[tuple[object, ...]]) -> Move:
    return Move(**{**row._mapping, "state": State(row.state)})


def begin(connection: sa.Connection, move: Move) -> None:
    """Write a move down.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {name: getattr(move, name) for name in Move.__slots__}
    with store_errors():
        connection.execute(insert(_TABLE).values(values).on_conflict_do_nothing())


def advance(
    connection: sa.Connection,
    move: uuid.UUID,
    direction: str,
    state: State,
    *,
    sealed_at: datetime | None = None,
    is_end: bool = False,
) -> None:
    """Note how far a move is.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values: dict[str, object] = {"state": state}
    if sealed_at is not None:
        values["sealed_at"] = sealed_at
    if is_end:
        values["ended_at"] = sa.func.clock_timestamp()
    update = sa.update(_TABLE).where(_TABLE.c.id == move, _TABLE.c.direction == direction)
    with store_errors():
        connection.execute(update.values(values))
        connection.execute(_FLEET_CHANGED)


_FLEET_CHANGED = sa.text(
    "UPDATE fleet_version SET writer = pg_current_xact_id()::text, changes = changes + 1"
)
"""Whoever keeps the fleet keeps what is said of sites that moved with it."""


# -- what the source says meanwhile ----------------------------------------------------------------------


def refuse(connection: sa.Connection, sites: Collection[str]) -> None:
    """Refuse to take anything of sites that go to another cell.

    Asked after a transaction has written something, the answer holds to its end: whoever closes a site waits
    for the transactions that write.

    Raises
    ------
    StoreUnavailable
        If one of them is on its way; ask again.
    SiteMoved
        If one of them is there.
    """
    query = sa.select(_TABLE).where(
        _TABLE.c.direction == OUT, _TABLE.c.state.in_(REFUSED), _TABLE.c.site.in_(list(sites))
    )
    with store_errors():
        found = connection.execute(query).first()
    if found is not None:
        raise elsewhere(_move(found))


def elsewhere(move: Move) -> SiteMoved | StoreUnavailable:
    """What is said to whoever asks for a site that goes to another cell."""
    if move.state in (State.CLOSED, State.SEALED):
        return StoreUnavailable(f"site {move.site} is on its way to cell {move.cell}; try again")
    return SiteMoved(move.site, move.cell, move.url)


def hold(connection: sa.Connection, readings: Sequence[Reading]) -> None:
    """Keep readings of sites that moved, to be sent after them; one that is kept already is left alone.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if readings:
        statement = insert(tables.site_move_readings).on_conflict_do_nothing()
        with store_errors():
            connection.execute(statement, [reading._asdict() for reading in readings])


def held(connection: sa.Connection) -> Mapping[str, int]:
    """How many readings wait to be sent after their site, by site.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    r, p, s = tables.site_move_readings, tables.points, tables.sites
    query = (
        sa.select(s.c.key, sa.func.count())
        .select_from(r.join(p, p.c.key == r.c.point).join(s, s.c.id == p.c.site_id))
        .group_by(s.c.key)
    )
    with store_errors():
        return {site: int(count) for site, count in connection.execute(query)}
