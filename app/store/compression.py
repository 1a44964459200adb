"""Compression by TimescaleDB: which chunks, when, and whether it really happens.

Raw readings are compressed once they come late only rarely; 15-minute figures once the readings behind them
are gone, since until then an edit of the site file or a correction computes them anew. A batch of compressed
rows costs the same whether it is full or not, so slow readings get longer chunks, and compressed chunks of
theirs are merged.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
import sqlalchemy.exc

from app.store import deployment, timescale
from app.store.engine import begin, connect

FIGURES = ("energy_15m", "volume_15m", "gauge_15m")
READINGS = "readings"

_log = logging.getLogger(__name__)


# -- policies ----------------------------------------------------------------------------------------

_POLICY = sa.text(
    """
    SELECT CAST(config->>'compress_after' AS interval) FROM timescaledb_information.jobs
    WHERE proc_name = 'policy_compression' AND hypertable_name = :table
    """
)


def set_policies(engine: sa.Engine, after: Mapping[str, timedelta]) -> None:
    """Let TimescaleDB compress chunks that ended longer ago than `after`, by table.

    Late readings still go into compressed chunks, once each; `after` only keeps that rare. An edition
    of TimescaleDB without compression is left as it is, with a warning.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    for table, wanted in after.items():
        with connect(engine) as connection:
            current = connection.execute(_POLICY, {"table": table}).scalar()
        if current == wanted:
            continue
        try:
            with begin(engine) as connection:
                _replace_policy(connection, table, wanted, enabled=current is not None)
        except sqlalchemy.exc.NotSupportedError as error:
            _log.warning("readings could not be compressed: %s", str(error.orig).splitlines()[0])
            return


def ensure_policies(connection: sa.Connection, after: Mapping[str, timedelta]) -> None:
    """Make the policies that are missing; those that are there stay.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    for table, wanted in after.items():
        if connection.execute(_POLICY, {"table": table}).scalar() is None:
            try:
                with connection.begin_nested():
                    _replace_policy(connection, table, wanted, enabled=False)
            except sqlalchemy.exc.NotSupportedError as error:
                _log.warning("readings could not be compressed: %s", str(error.orig).splitlines()[0])
                return


def _replace_policy(connection: sa.Connection, table: str, after: timedelta, *, enabled: bool) -> None:
    named = {"table": table, "after": after}
    if enabled:
        connection.execute(sa.text("SELECT remove_compression_policy(CAST(:table AS regclass))"), named)
    else:
        connection.exec_driver_sql(
            f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = 'point_id', "
            "timescaledb.compress_orderby = 'at')"
        )
    add = (
        "SELECT add_compression_policy(CAST(:table AS regclass), compress_after => CAST(:after AS interval))"
    )
    connection.execute(sa.text(add), named)


# -- chunks by the interval of the readings ----------------------------------------------------------

CHUNK_DAYS = (7, 14, 28)
"""Time of one chunk of readings. [d]"""
MERGED_DAYS = 168
"""Time of a compressed chunk of slow readings: a multiple of any of them. [d]"""
FEW_ROWS = 2_000
"""Rows of a point in a chunk, below which a longer chunk is taken: a batch of compression has 1000."""
MANY_ROWS = 8_000
"""From here on merging gains nothing."""
_SAMPLE = 200
_KEY = "reading_chunks"


@dataclass(frozen=True, slots=True)
class Spans:
    """How long chunks of readings are."""

    chunk_days: int
    merged_days: int
    """Of compressed ones; as long as the others: they are not merged."""


def spans_for(readings_per_day: float) -> Spans:
    """The spans for points that send so many readings a day, on average."""
    days = next((d for d in CHUNK_DAYS if d * readings_per_day >= FEW_ROWS), CHUNK_DAYS[-1])
    return Spans(days, days if days * readings_per_day >= MANY_ROWS else MERGED_DAYS)


_PER_DAY = sa.text(
    """
    SELECT avg(n) / 2 FROM (
        SELECT (
            SELECT count(*) FROM readings r
            WHERE r.point_id = p.id AND r.at > l.at - interval '2 days' AND r.at <= l.at
        ) AS n
        FROM (SELECT id FROM points WHERE retired_at IS NULL ORDER BY hashint4(id) LIMIT :sample) p
        CROSS JOIN LATERAL (
            SELECT at FROM readings WHERE point_id = p.id ORDER BY at DESC LIMIT 1
        ) l
    ) counted
    """
)


def readings_per_day(connection: sa.Connection) -> float | None:
    """Readings a day of a point, over the newest two days of a sample of points; None without any.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found = connection.execute(_PER_DAY, {"sample": _SAMPLE}).scalar()
    return None if found is None else float(found)


_INTERVAL = sa.text(
    """
    SELECT time_interval FROM timescaledb_information.dimensions
    WHERE hypertable_name = 'readings' AND column_name = 'at'
    """
)


def fit_chunks(connection: sa.Connection, per_day: float) -> Spans:
    """Make chunks that begin from now on as long as the readings want it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    wanted = spans_for(per_day)
    stated = {"chunk_days": wanted.chunk_days, "merged_days": wanted.merged_days}
    if deployment.load(connection, _KEY) != stated:
        days = timedelta(days=wanted.chunk_days)
        if connection.execute(_INTERVAL).scalar() != days:
            change = sa.text("SELECT set_chunk_time_interval('readings', CAST(:span AS interval))")
            connection.execute(change, {"span": days})
        _merge(connection, wanted.merged_days)
        deployment.save(connection, _KEY, stated)
    return wanted


def _merge(connection: sa.Connection, days: int) -> None:
    """Have compressed chunks merged up to so many days, where this version can."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(
                f"ALTER TABLE readings SET (timescaledb.compress_chunk_time_interval = '{days} days')"
            )
    except sqlalchemy.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        _log.info("compressed chunks are not merged: %s", str(error.orig).splitlines()[0])


# -- does it happen? ---------------------------------------------------------------------------------

PATIENCE = timedelta(days=2)
"""A chunk that has been due for so long should have been compressed: policies run twice a day."""


@dataclass(frozen=True, slots=True)
class State:
    """How compression of one table goes."""

    table: str
    job_id: int | None
    """None: there is no policy."""
    scheduled: bool = True
    after_days: float | None = None
    last_success_at: datetime | None = None
    last_status: str | None = None
    """``Success`` or ``Failed``; None before the first run."""
    failures: int = 0
    overdue_chunks: int = 0
    """Chunks that should have been compressed two days ago or more."""
    error: str = ""
    """What the last failure said, where it can be read."""

    @property
    def problem(self) -> str | None:
        """What is wrong and what to do, for the operator; None where nothing is."""
        if self.job_id is None:
            return "has no compression policy; the next run of upkeep makes one, see its log"
        if not self.scheduled:
            return f"job {self.job_id} is paused; run SELECT alter_job({self.job_id}, scheduled => true);"
        if self.last_status == "Failed":
            said = f": {self.error}" if self.error else ""
            return (
                f"job {self.job_id} failed{said}; see timescaledb_information.job_errors, then CALL "
                f"run_job({self.job_id});"
            )
        if self.overdue_chunks:
            return (
                f"{self.overdue_chunks} chunks are overdue, job {self.job_id} does not run; is timescaledb "
                "in shared_preload_libraries, and timescaledb.max_background_workers large enough?"
            )
        return None


_STATES = sa.text(
    """
    SELECT t.name, j.job_id, coalesce(j.scheduled, true),
           extract(epoch FROM CAST(j.config->>'compress_after' AS interval)) / 86400,
           nullif(s.last_successful_finish, '-infinity'), s.last_run_status,
           coalesce(s.total_failures, 0),
           (SELECT count(*) FROM timescaledb_information.chunks c
            WHERE c.hypertable_name = t.name AND NOT c.is_compressed
              AND c.range_end < now() - CAST(:patience AS interval)
                  - coalesce(CAST(j.config->>'compress_after' AS interval), CAST(:without AS interval)))
    FROM unnest(CAST(:tables AS text[])) WITH ORDINALITY AS t (name, place)
    LEFT JOIN timescaledb_information.jobs j
        ON j.hypertable_name = t.name AND j.proc_name IN ('policy_compression', 'policy_columnstore')
    LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
    ORDER BY t.place
    """
)
_ERROR = sa.text(
    """
    SELECT err_message FROM timescaledb_information.job_errors
    WHERE job_id = :job ORDER BY finish_time DESC LIMIT 1
    """
)


def states(connection: sa.Connection, tables: Collection[str] = (READINGS, *FIGURES)) -> list[State]:
    """How compression goes, by table; nothing where there are no hypertables.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    if not timescale.is_hypertable(connection, READINGS):
        return []
    named = {"tables": list(tables), "patience": PATIENCE, "without": timedelta(days=30)}
    found = [
        State(table, job, on, None if days is None else float(days), at, status, failures, overdue)
        for table, job, on, days, at, status, failures, overdue in connection.execute(_STATES, named).all()
    ]
    return [replace(one, error=_error(connection, one)) for one in found]


def broken(connection: sa.Connection) -> list[State]:
    """Tables that are not compressed as they should be.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return [state for state in states(connection) if state.problem is not None]


def _error(connection: sa.Connection, state: State) -> str:
    """What the last failure said; only some roles may read that."""
    if state.last_status != "Failed":
        return ""
    try:
        with connection.begin_nested():
            said = connection.execute(_ERROR, {"job": state.job_id}).scalar()
    except sqlalchemy.exc.ProgrammingError:
        return ""
    return str(said or "").partition("\n")[0][:200]


# -- rows --------------------------------------------------------------------------------------------

_ROWS = sa.text(
    """
    SELECT coalesce(sum(CASE
        WHEN z.numrows_pre_compression IS NOT NULL THEN z.numrows_pre_compression
        WHEN c.reltuples >= 0 AND c.relpages > 0
            THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int)
        ELSE pg_relation_size(c.oid) / :row_bytes
    END), 0)
    FROM _timescaledb_catalog.hypertable h
    JOIN _timescaledb_catalog.chunk k ON k.hypertable_id = h.id
    JOIN pg_class c ON c.oid = to_regclass(format('%I.%I', k.schema_name, k.table_name))
    LEFT JOIN _timescaledb_catalog.compression_chunk_size z ON z.chunk_id = k.id
    WHERE h.table_name = :table
    """
)


def row_estimate(connection: sa.Connection, table: str, row_bytes: int) -> int:
    """Rows of a hypertable: those counted when a chunk was compressed, else by the planner and the size.

    (``approximate_row_count`` takes 1000 rows for every compressed batch, full or not, and none for a chunk
    that was never analysed.)

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    named = {"table": table, "row_bytes": row_bytes}
    try:
        with connection.begin_nested():
            return int(connection.execute(_ROWS, named).scalar_one())
    except sqlalchemy.exc.ProgrammingError:  # another version's catalog
        return timescale.row_estimate(connection, table)
