"""TimescaleDB where the server has it: hypertables instead of native partitions, and compression.

Which versions: :mod:`app.store.supported`.
"""

from __future__ import annotations

import logging
from datetime import datetime

import sqlalchemy as sa
import sqlalchemy.exc

from app.store import supported

HYPERTABLES = {"readings": "7 days", "energy_15m": "90 days", "volume_15m": "90 days", "gauge_15m": "90 days"}
"""Hypertable -> time span of one chunk."""

EXTENSION = "timescaledb"

_log = logging.getLogger(__name__)


def ensure_extension(connection: sa.Connection) -> bool:
    """Whether TimescaleDB can be used in this database; creates the extension where that is allowed.

    Where the server offers the extension but forbids to create it, a warning says who can.
    """
    if version(connection):
        return True
    return _create(connection) if is_offered(connection) else False


def is_offered(connection: sa.Connection) -> bool:
    """Whether the server has the programs of TimescaleDB."""
    offered = "SELECT 1 FROM pg_available_extensions WHERE name = :name"
    return connection.execute(sa.text(offered), {"name": EXTENSION}).first() is not None


_OFFERED_VERSION = sa.text("SELECT default_version FROM pg_available_extensions WHERE name = :name")


def _create(connection: sa.Connection) -> bool:
    offered = connection.execute(_OFFERED_VERSION, {"name": EXTENSION}).scalar_one()
    if supported.is_old(offered):
        _log.warning(
            "the server offers TimescaleDB %s, which is too old; native partitions are used", offered
        )
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
    except sqlalchemy.exc.DBAPIError as error:
        _log.warning(
            "the server offers TimescaleDB but this user may not create it (%s); native partitions are used. "
            "To use it, have a superuser run CREATE EXTENSION timescaledb in this database before the first "
            "start",
            str(error.orig).splitlines()[0],
        )
        return False
    return True


def version(connection: sa.Connection) -> str | None:
    """Version of TimescaleDB in this database, None where it is not installed."""
    installed = "SELECT extversion FROM pg_extension WHERE extname = :name"
    found: str | None = connection.execute(sa.text(installed), {"name": EXTENSION}).scalar()
    return found


def make_hypertables(connection: sa.Connection) -> None:
    """Turn the empty tables into hypertables."""
    make = sa.text("SELECT create_hypertable(:table, by_range('at', CAST(:span AS interval)))")
    for table, span in HYPERTABLES.items():
        connection.execute(make, {"table": table, "span": span})


def is_hypertable(connection: sa.Connection, table: str) -> bool:
    """Whether `table` is a hypertable (and not natively partitioned or plain)."""
    if version(connection) is None:
        return False
    query = "SELECT 1 FROM timescaledb_information.hypertables WHERE hypertable_name = :table"
    return connection.execute(sa.text(query), {"table": table}).first() is not None


_CHUNKS = sa.text(
    """
    SELECT format('%I.%I', chunk_schema, chunk_name), range_start, range_end
    FROM timescaledb_information.chunks WHERE hypertable_name = :table ORDER BY range_start
    """
)


def chunks(connection: sa.Connection, table: str) -> list[tuple[str, datetime, datetime]]:
    """Name, start and end of every chunk, oldest first."""
    return [(row[0], row[1], row[2]) for row in connection.execute(_CHUNKS, {"table": table})]


def drop_chunks(connection: sa.Connection, table: str, start: datetime, end: datetime) -> None:
    """Drop the chunks that lie wholly in ``[start, end)``."""
    drop = sa.text("SELECT drop_chunks(CAST(:table AS regclass), older_than => :end, newer_than => :start)")
    connection.execute(drop, {"table": table, "start": start, "end": end}).all()


def compressed_chunks(connection: sa.Connection, table: str) -> int:
    """How many chunks are compressed."""
    query = """
        SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = :table AND is_compressed
    """
    return int(connection.execute(sa.text(query), {"table": table}).scalar_one())


def row_estimate(connection: sa.Connection, table: str) -> int:
    """Rows of the hypertable, as the planner estimates them, compressed ones included."""
    query = "SELECT approximate_row_count(CAST(:table AS regclass))"
    return int(connection.execute(sa.text(query), {"table": table}).scalar_one())


def size_bytes(connection: sa.Connection, table: str) -> int:
    """Size of the hypertable with its indexes. [B]"""
    query = "SELECT coalesce(hypertable_size(CAST(:table AS regclass)), 0)"
    return int(connection.execute(sa.text(query), {"table": table}).scalar_one())
