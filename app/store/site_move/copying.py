"""Rows of a site from one database to another, with the numbers that they have there.

A slice is a table, or the part of it between two instants. What both sides hold of a slice is compared by
count and hash; where it differs, the target's is replaced in one transaction. So a copy that was
interrupted is started again, and nothing is doubled. Rows travel from COPY to COPY, a block at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from psycopg import sql

from app.errors import StoreUnavailable
from app.store import partitions
from app.store.engine import driver, unhurried
from app.store.readings import to_us
from app.store.site_move.parts import BY_TABLE, PARTS, Own, Part, condition

_WEEK = timedelta(weeks=1)
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A table, or the part of it between two instants."""

    part: Part
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        return self.part.table if self.start is None else f"{self.part.table} {self.start:%Y-%m-%d}"

    def bounds(self) -> sql.Composable:
        """Condition that selects it, among the rows of a table called ``t``."""
        if self.start is None or self.end is None:
            return sql.SQL("true")
        return sql.SQL("t.at >= {} AND t.at < {}").format(sql.Literal(self.start), sql.Literal(self.end))


class Content(NamedTuple):
    """What a side holds of a slice."""

    rows: int
    hash: str


class Copier:
    """Brings the rows of a site over.

    Parameters
    ----------
    here, there : Connection
        To the databases of source and target. Each is used by one thread at a time.
    move : UUID
    own : Own
        The site at the source.
    """

    def __init__(self, here: sa.Connection, there: sa.Connection, move: uuid.UUID, own: Own) -> None:
        self._here, self._there, self.move, self.own = here, there, move, own
        self._at_target: Own | None = None
        self.sealed_at: datetime | None = None

    # -- numbers ---------------------------------------------------------------------------------------

    def number(self, kinds: Iterable[str]) -> None:
        """Give rows of these tables numbers at the target, in their order; each keeps the one it has."""
        for kind in kinds:
            part = BY_TABLE[kind]
            query = sql.SQL("SELECT t.id::bigint FROM {} t WHERE {} ORDER BY t.id").format(
                sql.Identifier(kind), condition(part.of, self.own)
            )
            there = driver(self._there)
            there.execute("CREATE TEMP TABLE IF NOT EXISTS moving_old (id bigint) ON COMMIT DROP")
            there.execute("TRUNCATE moving_old")
            self._pipe(self._here, query, self._there, sql.SQL("moving_old (id)"))
            there.execute(
                "INSERT INTO site_move_numbers (move, kind, old_id, new_id)"
                " SELECT %s, %s, o.id, nextval(pg_get_serial_sequence(%s, 'id'))"
                " FROM (SELECT id FROM moving_old ORDER BY id) o WHERE NOT EXISTS (SELECT FROM"
                " site_move_numbers n WHERE n.move = %s AND n.kind = %s AND n.old_id = o.id)",
                (self.move, kind, kind, self.move, kind),
            )

    def know(self, kinds: Iterable[str], institution: tuple[int, int] | None = None) -> None:
        """Bring the numbers of the target to the source, for the time of the connection."""
        here = driver(self._here)
        for kind in kinds:
            name = sql.Identifier(f"moving_{kind}")
            here.execute(
                sql.SQL(
                    "CREATE TEMP TABLE IF NOT EXISTS {} (old_id bigint PRIMARY KEY, new_id bigint NOT NULL)"
                ).format(name)
            )
            here.execute(sql.SQL("TRUNCATE {}").format(name))
            query = sql.SQL(
                "SELECT old_id, new_id FROM site_move_numbers WHERE move = {} AND kind = {}"
            ).format(sql.Literal(self.move), sql.Literal(kind))
            self._pipe(self._there, query, self._here, sql.SQL("{} (old_id, new_id)").format(name))
            here.execute(sql.SQL("ANALYZE {}").format(name))
        if institution is not None:
            here.execute("CREATE TEMP TABLE IF NOT EXISTS moving_institutions (old_id bigint, new_id bigint)")
            here.execute("TRUNCATE moving_institutions")
            here.execute("INSERT INTO moving_institutions VALUES (%s, %s)", institution)
        self._here.commit()
        self._at_target = None

    @property
    def at_target(self) -> Own:
        """The site's numbers at the target."""
        if self._at_target is None:
            there = driver(self._there)
            query = "SELECT new_id FROM site_move_numbers WHERE move = %s AND kind = %s ORDER BY new_id"
            found = {
                kind: [int(n) for (n,) in there.execute(query, (self.move, kind)).fetchall()]
                for kind in ("sites", "points")
            }
            self._at_target = Own(self.own.key, found["sites"][0], tuple(found["points"]))
        return self._at_target

    # -- slices ----------------------------------------------------------------------------------------

    def pieces(self) -> list[Piece]:
        """What is brought over while the site goes on, oldest first."""
        return [piece for part in PARTS if part.is_by_time for piece in self._cut(part)]

    def _cut(self, part: Part) -> Iterator[Piece]:
        spans = [span(self._here, part, self.own), span(self._there, part, self.at_target)]
        known = [one for one in spans if one is not None]
        if not known:
            return
        yield from cut(part, min(s for s, _ in known), max(e for _, e in known))

    def copy_if_absent(self, piece: Piece) -> int:
        """Copy a slice of which the target has nothing or something else; how many rows were copied."""
        has_some = driver(self._there).execute(
            sql.SQL("SELECT EXISTS ({})").format(self._plain(piece))
        ).fetchone() == (True,)
        if has_some:
            return self.settle(piece)
        rows = self._replace(piece)
        self._there.commit()
        self._here.rollback()
        return rows

    def settle(self, piece: Piece) -> int:
        """Make a slice the same on both sides; how many rows had to be copied.

        Raises
        ------
        StoreUnavailable
            If it differs all the same; then somebody writes to one side.
        """
        wanted, found = self.compare(piece)
        if wanted == found:
            return 0
        rows = self._replace(piece)
        self.check(piece, wanted)
        self._there.commit()
        return rows

    def compare(self, piece: Piece) -> tuple[Content, Content]:
        """What both sides hold of a slice, looked at on both at the same time."""
        with ThreadPoolExecutor(1, "move") as other:
            found = other.submit(_content, self._there, self._plain(piece))
            wanted = _content(self._here, self._mapped(piece))
            held = found.result()
        self._here.rollback()
        self._there.rollback()
        return wanted, held

    def _replace(self, piece: Piece) -> int:
        there = driver(self._there)
        with unhurried(self._there), unhurried(self._here):
            gone = sql.SQL("DELETE FROM {} t WHERE {} AND {}")
            where = condition(piece.part.of, self.at_target)
            there.execute(gone.format(sql.Identifier(piece.part.table), where, piece.bounds()))
            self._make_room(piece)
            return self.copy(piece)

    def _make_room(self, piece: Piece) -> None:
        if piece.start is None or piece.end is None:
            return
        at_us = np.arange(to_us(piece.start), to_us(piece.end), _DAY_US, dtype=np.int64)
        if piece.part.table == "readings":
            partitions.ensure(self._there, at_us)
        else:
            partitions.ensure_figures(self._there, piece.part.table, at_us)

    def copy(self, piece: Piece) -> int:
        """Add the source's rows of a slice to the target, in the transaction there; how many."""
        into = sql.SQL("{} ({})").format(sql.Identifier(piece.part.table), self._columns(piece.part))
        return self._pipe(self._here, self._mapped(piece), self._there, into)

    def check(self, piece: Piece, wanted: Content | None = None) -> Content:
        """See that the target holds what the source does, in its transaction.

        Raises
        ------
        StoreUnavailable
            If it does not.
        """
        wanted = wanted or _content(self._here, self._mapped(piece))
        found = _content(self._there, self._plain(piece))
        if found != wanted:
            raise StoreUnavailable(
                f"{piece}: {found.rows} rows at the target, {wanted.rows} here, or others; run the move again"
            )
        return wanted

    # -- statements ------------------------------------------------------------------------------------

    def _mapped(self, piece: Piece) -> sql.Composed:
        """The source's rows of a slice as the target is to have them."""
        part, kinds = piece.part, _types(self._here, piece.part.table)
        joins = [_join(column, kind) for column, kind in _numbered(part).items()]
        return sql.SQL("SELECT {} FROM {} t {} WHERE {} AND {}").format(
            sql.SQL(", ").join(self._value(part, column, kind) for column, kind in kinds.items()),
            sql.Identifier(part.table),
            sql.SQL(" ").join(joins),
            condition(part.of, self.own),
            piece.bounds(),
        )

    def _value(self, part: Part, column: str, kind: str) -> sql.Composable:
        name = sql.Identifier(column)
        if column in part.changed:
            said = sql.SQL(part.changed[column].replace("%%", "%"))
            return sql.SQL("({})::{} AS {}").format(
                said.format(sealed_at=sql.Literal(self.sealed_at)), sql.SQL(kind), name
            )
        if column not in _numbered(part):
            return sql.SQL("t.{0}").format(name)
        other = sql.Identifier(f"n_{column}")
        return sql.SQL("CASE WHEN t.{0} = 0 THEN t.{0} ELSE {1}.new_id::{2} END AS {0}").format(
            name, other, sql.SQL(kind)
        )

    def _plain(self, piece: Piece) -> sql.Composed:
        """The target's rows of a slice."""
        return sql.SQL("SELECT {} FROM {} t WHERE {} AND {}").format(
            sql.SQL(", ").join(
                sql.SQL("t.{}").format(sql.Identifier(c)) for c in _types(self._here, piece.part.table)
            ),
            sql.Identifier(piece.part.table),
            condition(piece.part.of, self.at_target),
            piece.bounds(),
        )

    def _columns(self, part: Part) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, _types(self._here, part.table)))

    def _pipe(
        self, source: sa.Connection, query: sql.Composable, target: sa.Connection, into: sql.Composable
    ) -> int:
        """Rows of a query into a table; how many."""
        out = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
        onto = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(into)
        with (
            driver(source).cursor() as reader,
            driver(target).cursor() as writer,
        ):
            with reader.copy(out) as rows, writer.copy(onto) as stream:
                for block in rows:
                    stream.write(block)
            return writer.rowcount


def _numbered(part: Part) -> Mapping[str, str]:
    """Columns of which the numbers are others at the target, and the kind of each."""
    return {**part.numbers, **({"id": part.table} if part.is_numbered else {})}


def _join(column: str, kind: str) -> sql.Composed:
    return sql.SQL("LEFT JOIN {0} {1} ON {1}.old_id = t.{2}").format(
        sql.Identifier(f"moving_{kind}"), sql.Identifier(f"n_{column}"), sql.Identifier(column)
    )


_TYPES = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = CAST(%s AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""


def _types(connection: sa.Connection, table: str) -> dict[str, str]:
    """Columns of a table and their types."""
    return dict(driver(connection).execute(_TYPES, (table,)).fetchall())


def _content(connection: sa.Connection, query: sql.Composable) -> Content:
    whole = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(x::text, 0)::numeric), 0)::text FROM ({}) x"
    ).format(query)
    with unhurried(connection):
        row = driver(connection).execute(whole).fetchone() or (0, "0")
    return Content(int(row[0]), str(row[1]))


def cut(part: Part, first: datetime, last: datetime) -> Iterator[Piece]:
    """The slices of a table that hold two instants and all between them, oldest first."""
    step = _WEEK if part.table == "readings" else 4 * _WEEK
    start = _MONDAY + (first - _MONDAY) // step * step
    while start <= last:
        yield Piece(part, start, start + step)
        start += step


def span(connection: sa.Connection, part: Part, own: Own) -> tuple[datetime, datetime] | None:
    """First and last instant of a site's rows; None without any."""
    if "point_id" in part.numbers:
        query = sql.SQL(
            "SELECT min(first), max(last) FROM unnest({}::int[]) AS p(id), LATERAL ("
            " SELECT (SELECT min(at) FROM {} WHERE point_id = p.id) AS first,"
            " (SELECT max(at) FROM {} WHERE point_id = p.id) AS last) ends"
        ).format(sql.Literal(list(own.points)), *[sql.Identifier(part.table)] * 2)
    else:
        query = sql.SQL("SELECT min(t.at), max(t.at) FROM {} t WHERE {}").format(
            sql.Identifier(part.table), condition(part.of, own)
        )
    with unhurried(connection):
        first, last = driver(connection).execute(query).fetchone() or (None, None)
    return None if first is None or last is None else (first, last)
