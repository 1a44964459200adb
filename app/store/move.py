"""Move everything to another database, e.g. from the embedded server to TimescaleDB.

Tables are compared slice by slice; a slice that differs is replaced in one transaction and compared
again before the commit. So a move that was interrupted is simply started again, nothing is doubled,
and it ends only when both sides say the same. Source and target may store readings differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import LiteralString

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from psycopg import sql

from app.errors import ConfigError, StoreUnavailable
from app.store import migrate, partitions
from app.store.engine import driver, store_errors, unhurried
from app.store.readings import to_us
from app.store.slices import Slice, fingerprint, slices, tables

APPLICATION_NAME = "wattline move"
"""Give the source engine this name, so that a running service can be distinguished from the move itself."""

Progress = Callable[[str, float], None]
"""Gets what was done and the share of all work that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class MoveResult:
    """Outcome of a move."""

    tables: int
    rows: int
    copied_slices: int
    """Slices that differed and were copied; 0 where the target was complete before."""


def move(source: sa.Engine, target: sa.Engine, progress: Progress = lambda what, share: None) -> MoveResult:
    """Make `target` hold exactly what `source` holds. Interrupted, it is started again.

    Parameters
    ----------
    source : Engine
        Made with ``application_name=APPLICATION_NAME``. Nobody may write to it meanwhile: its tables
        are locked against that.
    target : Engine
        A new database, or one left by an interrupted move; it is migrated first.
    progress : callable, optional

    Raises
    ------
    ConfigError
        If the service is still connected to the source, its schema is not up to date, or the target
        holds another deployment.
    StoreUnavailable
        If either database is away; start the move again.
    """
    migrate.upgrade(target)
    with store_errors(), source.connect() as here, target.connect() as there, ExitStack() as stack:
        _check(here, there)
        stack.enter_context(unhurried(here))
        _freeze(here)
        work = list(slices(here))
        copied = 0
        for number, one in enumerate(_children_last(here, work)):
            copied += _settle(here, there, one)
            progress(str(one), (number + 1) / len(work))
        rows = sum(fingerprint(there, one)[0] for one in work)
        there.rollback()
    return MoveResult(len({one.table for one in work}), rows, copied)


# -- checks ------------------------------------------------------------------------------------------


_OTHERS = sa.text(
    """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name <> :own AND backend_type = 'client backend'
    """
)


def _check(here: sa.Connection, there: sa.Connection) -> None:
    if not migrate.current_status(here).up_to_date:
        raise ConfigError("the source is not up to date; run: wattline db upgrade")
    if here.execute(_OTHERS, {"own": APPLICATION_NAME}).scalar_one():
        raise ConfigError("a service is connected to the source; stop it, so that nothing arrives meanwhile")
    sites = sa.text("SELECT id, key FROM sites")
    alien = set(map(tuple, there.execute(sites))) - set(map(tuple, here.execute(sites)))
    if alien:
        raise ConfigError(
            f"the target holds another deployment (site {min(key for _, key in alien)}); name a new database"
        )
    here.rollback()
    there.rollback()


def _freeze(here: sa.Connection) -> None:
    """See one state of the source to the end, and let nobody change it."""
    raw = driver(here)
    names = sql.SQL(", ").join(map(sql.Identifier, tables(here)))
    raw.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))


# -- what there is -----------------------------------------------------------------------------------


def _children_last(connection: sa.Connection, work: list[Slice]) -> list[Slice]:
    """Tables that others refer to come first."""
    query = """
        SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
        WHERE contype = 'f' AND conparentid = 0 AND conrelid <> confrelid
    """
    parents: dict[str, set[str]] = {}
    for child, parent in connection.execute(sa.text(query)):
        parents.setdefault(child, set()).add(parent)

    def depth(table: str) -> int:
        return max((depth(parent) + 1 for parent in parents.get(table, ())), default=0)

    return sorted(work, key=lambda one: depth(one.table))


# -- one slice ---------------------------------------------------------------------------------------


def _settle(here: sa.Connection, there: sa.Connection, one: Slice) -> int:
    """Make the slice the same on both sides; whether it had to be copied."""
    wanted = fingerprint(here, one)
    if fingerprint(there, one) == wanted:
        there.rollback()
        return 0
    there.rollback()
    with unhurried(there), _without_triggers(there, one.table):
        _make_room(here, there, one)
        _copy(here, there, one)
        _restart_identity(there, one)
        if fingerprint(there, one) != wanted:
            raise StoreUnavailable(f"{one} differs after it was copied; start the move again")
    there.commit()
    return 1


_TRIGGERS = sa.text(
    """
    SELECT tgname FROM pg_trigger
    WHERE tgrelid = CAST(:name AS regclass) AND NOT tgisinternal AND tgname <> 'ts_insert_blocker'
    """
)


@contextmanager
def _without_triggers(there: sa.Connection, table: str) -> Iterator[None]:
    """Rows are copied as they are; ledgers that refuse changes are filled, not changed.

    Hypertables have no triggers of ours, and theirs must stay.
    """
    triggers = list(there.execute(_TRIGGERS, {"name": table}).scalars())
    _switch(there, table, triggers, "DISABLE")
    yield
    _switch(there, table, triggers, "ENABLE")


def _switch(there: sa.Connection, table: str, triggers: list[str], state: LiteralString) -> None:
    for trigger in triggers:
        change = sql.SQL("ALTER TABLE {} " + state + " TRIGGER {}")
        driver(there).execute(change.format(sql.Identifier(table), sql.Identifier(trigger)))


def _make_room(here: sa.Connection, there: sa.Connection, one: Slice) -> None:
    table = sql.Identifier(one.table)
    driver(there).execute(sql.SQL("DELETE FROM {} WHERE {}").format(table, one.where()))
    if one.table in ("readings", *partitions.QUARTERLY):
        bounds = sql.SQL("SELECT min(at), max(at) FROM {} WHERE {}").format(table, one.where())
        first, last = driver(here).execute(bounds).fetchone() or (None, None)
        if first is not None and last is not None:
            days = np.arange(to_us(first), to_us(last), 86_400_000_000, dtype=np.int64)
            _make_partitions(there, one.table, np.append(days, to_us(last)))


def _make_partitions(there: sa.Connection, table: str, at_us: npt.NDArray[np.int64]) -> None:
    if table == "readings":
        partitions.ensure(there, at_us)
    else:
        partitions.ensure_figures(there, table, at_us)


def _copy(here: sa.Connection, there: sa.Connection, one: Slice) -> None:
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT BINARY)")
    out = query.format(one.names(), sql.Identifier(one.table), one.where())
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(one.table), one.names())
    with (
        driver(here).cursor() as reader,
        driver(there).cursor() as writer,
        reader.copy(out) as rows,
        writer.copy(into) as stream,
    ):
        for block in rows:
            stream.write(block)


def _restart_identity(there: sa.Connection, one: Slice) -> None:
    """New rows get numbers after the copied ones."""
    raw = driver(there)
    if "id" not in one.columns:
        return
    sequence = raw.execute("SELECT pg_get_serial_sequence(%s, 'id')", (one.table,)).fetchone()
    if sequence and sequence[0]:
        highest = sql.SQL("SELECT setval({}, coalesce(max(id), 0) + 1, false) FROM {}")
        raw.execute(highest.format(sql.Literal(sequence[0]), sql.Identifier(one.table)))
