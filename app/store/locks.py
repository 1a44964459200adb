"""Our own locks: rows of a table that no other role may touch.

PostgreSQL's advisory locks belong to everybody who can connect: whoever may only read could hold them for
ever, and with them everything that waits for one. A row of ``locks`` is locked by those who may change it.
Each lock ends with the transaction that holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
import sqlalchemy.exc

from app.store.engine import driver, store_errors

MIGRATION, SITES, ROLLUP, ALARMS = "migration", "sites", "rollup", "alarms"
ORDERS, AUDIT, KEYS, CLOSING = "report orders", "audit", "keys", "closing of reports"
_SINGLE = (MIGRATION, SITES, ROLLUP, ALARMS, ORDERS, AUDIT, KEYS, CLOSING)
_METER_SLOTS = 1024
"""Meters share so many rows: two of one row are looked at one after the other."""
_NAMES = [*_SINGLE, *(f"meter {slot}" for slot in range(_METER_SLOTS))]
_MAKE = """
CREATE TABLE IF NOT EXISTS locks (name text PRIMARY KEY);
COMMENT ON TABLE locks IS 'Rows that are locked while something is done that only one may do at a time';
COMMENT ON COLUMN locks.name IS 'What is done';
"""


def ensure(connection: sa.Connection) -> None:
    """Make the table and its rows where they are missing, and commit.

    Raises
    ------
    StoreUnavailable
        If the database is away, or another session holds the table up; run it again.
    """
    with store_errors():
        if connection.execute(sa.text("SELECT to_regclass('locks')")).scalar() is None:
            _make(connection)
        known = set(connection.execute(sa.text("SELECT name FROM locks")).scalars())
        if not known.issuperset(_NAMES):
            connection.execute(_ADD, {"names": _NAMES})
        connection.commit()


def _make(connection: sa.Connection) -> None:
    """Make the table; where another process makes it at the same moment, that one's is as good."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(_MAKE)
    except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
        if connection.execute(sa.text("SELECT to_regclass('locks')")).scalar() is None:
            raise


_ADD = sa.text("INSERT INTO locks SELECT unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING")
_HOLD = sa.text("SELECT name FROM locks WHERE name = :name FOR UPDATE")
_TRY = "SELECT name FROM locks WHERE name = ANY(%s) ORDER BY name FOR UPDATE SKIP LOCKED"


def hold(connection: sa.Connection, name: str) -> None:
    """Be the only transaction that does this; waits for the one before.

    Raises
    ------
    StoreUnavailable
        If the database is away, or the wait takes too long.
    """
    with store_errors():
        connection.execute(_HOLD, {"name": name}).one()


def try_hold(connection: sa.Connection, name: str) -> bool:
    """Whether this transaction is now the only one that does this; another does it otherwise.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return bool(_tried(connection, [name]))


def try_channel(connection: sa.Connection, channel: str) -> bool:
    """Whether this transaction is the only one that sends over a channel.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    name = f"channel {channel}"
    with store_errors():
        connection.execute(_ADD, {"names": [name]})
    return try_hold(connection, name)


def try_move(connection: sa.Connection, site: str) -> bool:
    """Whether this transaction is the only one that brings a site into this database.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    name = f"move {site}"
    with store_errors():
        connection.execute(_ADD, {"names": [name]})
        connection.commit()
    return try_hold(connection, name)


def try_meters(connection: sa.Connection, meter_ids: Collection[int]) -> set[int]:
    """Those of some meters at which this transaction alone looks now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    slots = {meter_id: f"meter {meter_id % _METER_SLOTS}" for meter_id in meter_ids}
    held = _tried(connection, sorted(set(slots.values())))
    return {meter_id for meter_id, slot in slots.items() if slot in held}


def _tried(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    if not names:
        return set()
    with store_errors():
        return {name for (name,) in driver(connection).execute(_TRY, (list(names),))}
