"""Two points that turn out to be one: everything known of the one becomes the other's."""

from __future__ import annotations

import sqlalchemy as sa

from app.store.engine import store_errors

_KEYS = {
    "readings": "at",
    "energy_15m": "at",
    "volume_15m": "at",
    "gauge_15m": "at",
    "energy_day": "day",
}
"""Tables with one row of a point and an instant or day."""
_CONTRADICTED = """
INSERT INTO reading_conflicts (at, point_id, value, interval_s, valid_s, stored_value)
SELECT one.at, :into, one.value, one.interval_s, one.valid_s, other.value
FROM readings one JOIN readings other ON other.at = one.at AND other.point_id = :into
WHERE one.point_id = :number AND one.value <> other.value
ON CONFLICT DO NOTHING
"""
_GONE = ("reading_conflicts", "findings", "rollup_queue", *_KEYS)


def merge_points(connection: sa.Connection, number: int, into: int) -> None:
    """Give readings, figures and ledger of a point to another one, and remove it.

    A reading that contradicts one of the other point at the same instant is kept as a conflict.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {"number": number, "into": into}
    with store_errors():
        connection.execute(sa.text(_CONTRADICTED), values)
        for table, key in _KEYS.items():
            connection.execute(sa.text(_moved(table, key)), values)
        connection.execute(sa.text("UPDATE events SET point_id = :into WHERE point_id = :number"), values)
        for table in _GONE:
            connection.execute(sa.text(f"DELETE FROM {table} WHERE point_id = :number"), values)  # noqa: S608
        connection.execute(sa.text("DELETE FROM points WHERE id = :number"), values)


def _moved(table: str, key: str) -> str:
    return (
        f"UPDATE {table} one SET point_id = :into WHERE one.point_id = :number"  # noqa: S608
        f" AND NOT EXISTS (SELECT FROM {table} o WHERE o.point_id = :into AND o.{key} = one.{key})"
    )
