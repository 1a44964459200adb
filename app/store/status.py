"""What the store is made of, how big it is, and when the disk is full: ``wattline db status``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.errors import StoreUnavailable
from app.store import compression, retention, timescale, versions
from app.store.engine import connect
from app.store.migrate import current_status
from app.store.retention import Retention

_INTERVALS_PER_DAY = 96


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """State of the store; sizes in bytes, with indexes."""

    server: str
    """Name and version of the server."""
    kind: str
    """``timescaledb`` or ``native partitions``."""
    timescale_version: str | None
    timescale_note: str
    """Why TimescaleDB is not in use where the server has it, else empty."""
    version_warnings: tuple[str, ...]
    """What of the server's versions is not tested or known to fail."""
    revision: str | None
    head: str
    up_to_date: bool
    slices: int
    """Partitions or chunks of raw readings."""
    compressed_slices: int
    compression: tuple[dict[str, Any], ...]
    """How compression of each hypertable goes; with the problem, or None."""
    readings: int
    """Stored raw readings, as the planner estimates them."""
    readings_bytes: int
    size_bytes: int
    growth_bytes_per_day: int
    """At the present rate of readings, before compression and retention."""
    disk_free_bytes: int | None
    """None where the disk is another machine's."""
    disk_full_on: date | None
    """None where it is unknown or more than 100 years away."""
    queued_rollups: int
    conflicting_readings: int
    raw_horizon: datetime | None
    """Raw readings before this were dropped by retention."""
    kept_readings_days: int
    """Raw readings are kept so long, and as long after an import."""
    next_drop_on: date | None
    """Day on which retention next lets raw readings go."""
    next_drop: str | None
    """Their time, ``start..end``."""

    def document(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return {k: v.isoformat() if isinstance(v, date) else v for k, v in asdict(self).items()}


def status(
    engine: sa.Engine, disk_free_bytes: int | None = None, policy: Retention | None = None
) -> StoreStatus:
    """Look at the store.

    Parameters
    ----------
    engine : Engine
    disk_free_bytes : int, optional
        Free space of the disk that holds the database, where the caller can see it.
    policy : Retention, optional
        How long readings are kept. Default: as long as without any setting.

    Raises
    ------
    StoreUnavailable
        If the database is away or was never migrated.
    """
    with connect(engine) as connection:
        schema = current_status(connection)
        if schema.current is None:
            raise StoreUnavailable("the database is empty; run: wattline db upgrade")
        now = connection.execute(sa.text("SELECT now()")).scalar_one()
        growth = _growth_bytes_per_day(connection, now)
        return StoreStatus(
            **_server(connection),
            **_readings(connection),
            **_counts(connection),
            compression=tuple(map(_compression, compression.states(connection))),
            revision=schema.current,
            head=schema.head,
            up_to_date=schema.up_to_date,
            size_bytes=_scalar(connection, "SELECT pg_database_size(current_database())"),
            growth_bytes_per_day=growth,
            disk_free_bytes=disk_free_bytes,
            disk_full_on=full_on(now.date(), disk_free_bytes, growth),
            raw_horizon=retention.raw_horizon(connection),
            **_outlook(connection, policy or Retention(), now),
        )


def _compression(state: compression.State) -> dict[str, Any]:
    at = state.last_success_at
    return {**asdict(state), "last_success_at": at and at.isoformat(), "problem": state.problem}


def full_on(today: date, free_bytes: int | None, growth_bytes_per_day: int) -> date | None:
    """Day on which the free space is used up; None where unknown or more than 100 years away."""
    if free_bytes is None or growth_bytes_per_day <= 0:
        return None
    days = math.floor(free_bytes / growth_bytes_per_day)
    return today + timedelta(days=days) if days < 36_525 else None


def _scalar(connection: sa.Connection, query: str, **values: Any) -> Any:
    return connection.execute(sa.text(query), values).scalar()


def _server(connection: sa.Connection) -> dict[str, Any]:
    extension = timescale.version(connection)
    hypertables = timescale.is_hypertable(connection, "readings")
    return {
        "server": f"PostgreSQL {_scalar(connection, 'SHOW server_version')}",
        "kind": "timescaledb" if hypertables else "native partitions",
        "timescale_version": extension,
        "timescale_note": "" if hypertables else _note(connection, extension),
        "version_warnings": versions.of(connection).warnings,
    }


def _note(connection: sa.Connection, extension: str | None) -> str:
    if extension:
        return (
            "TimescaleDB came after the tables were made; move to a new database (wattline db move) to use it"
        )
    if timescale.is_offered(connection):
        return (
            "the server offers TimescaleDB but this user may not create it; have a superuser run "
            "CREATE EXTENSION timescaledb in a new database and move there (wattline db move)"
        )
    return ""


def _readings(connection: sa.Connection) -> dict[str, Any]:
    found = retention.slices(connection)
    hypertable = timescale.is_hypertable(connection, "readings")
    sizes = [
        _scalar(connection, "SELECT pg_total_relation_size(CAST(:t AS regclass))", t=s.name) for s in found
    ]
    return {
        "slices": len(found),
        "compressed_slices": timescale.compressed_chunks(connection, "readings") if hypertable else 0,
        "readings": compression.row_estimate(connection, "readings", _HEAP_ROW_BYTES)
        if hypertable
        else _row_estimate(connection),
        "readings_bytes": timescale.size_bytes(connection, "readings") if hypertable else sum(sizes),
    }


def _outlook(connection: sa.Connection, policy: Retention, now: datetime) -> dict[str, Any]:
    """What retention is going to drop next, and when."""
    found = [one for one in retention.outgoing(connection, policy, now) if one.slice.start <= now]
    day = max(found[0].on, now).date() if found else None
    then = [one.slice for one in found if max(one.on, now).date() == day]
    return {
        "kept_readings_days": retention.kept_days(connection, policy),
        "next_drop_on": day,
        "next_drop": f"{then[0].start:%Y-%m-%d}..{then[-1].end:%Y-%m-%d}" if then else None,
    }


def _row_estimate(connection: sa.Connection) -> int:
    """As the planner has it; by the size of partitions that it has not looked at yet."""
    estimate = _scalar(
        connection,
        "SELECT coalesce(sum(CASE WHEN c.reltuples >= 0 AND c.relpages > 0"
        " THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int)"
        " ELSE pg_relation_size(c.oid) / :row_bytes END), 0)"
        " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass('readings')",
        row_bytes=_HEAP_ROW_BYTES,
    )
    return int(estimate)


_HEAP_ROW_BYTES = 70


def _counts(connection: sa.Connection) -> dict[str, Any]:
    return {
        "queued_rollups": _scalar(connection, "SELECT count(*) FROM rollup_queue"),
        "conflicting_readings": _scalar(connection, "SELECT count(*) FROM reading_conflicts"),
    }


# -- growth ------------------------------------------------------------------------------------------

_READING_BYTES = 120
_INTERVAL_BYTES = 150
"""A row with its indexes, measured on PostgreSQL 18 with room for page fill."""


_SAMPLE = 1_000
_LAST_DAY = sa.text(
    """
    SELECT coalesce(sum(n.count), 0), count(*) FILTER (WHERE n.count > 0), count(*),
        (SELECT count(*) FROM points)
    FROM (SELECT id FROM points ORDER BY hashint4(id) LIMIT :sample) p
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM readings WHERE point_id = p.id AND at > :since AND at <= :now
    ) n
    """
)


def _growth_bytes_per_day(connection: sa.Connection, now: datetime) -> int:
    """Readings of the last day, and the 15-minute figures of the points that sent them.

    Of more points than a sample has, as the sample says.
    """
    asked = {"sample": _SAMPLE, "since": now - timedelta(days=1), "now": now}
    readings, sending, sampled, points = connection.execute(_LAST_DAY, asked).one()
    whole_bytes = int(readings) * _READING_BYTES + sending * _INTERVALS_PER_DAY * _INTERVAL_BYTES
    return int(whole_bytes * points / sampled) if sampled else 0
