"""How long each kind of data is kept, and the daily work that keeps it so.

Raw readings go first; 15-minute figures stay for at least ten years, daily ones for ever. Nothing is
dropped that a rollup still has to read, nor what an import brought only lately, however old it is; every
dropped reading is counted in ``dropped_readings``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import compression, deployment, partitions, timescale
from app.store.engine import begin, connect, driver, store_errors, unhurried

TEN_YEARS_DAYS = 3653

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """Days for which each kind of data is kept."""

    readings_days: int | None = None
    """Raw readings, and as long after an import. Default: 395 (13 months) on TimescaleDB, which
    compresses them, else 90."""
    intervals_days: int = TEN_YEARS_DAYS
    """15-minute figures, at least: they go by whole quarter-years."""
    late_days: int = 30
    """Readings may come this late without cost; on TimescaleDB older ones are compressed."""

    def __post_init__(self) -> None:
        if self.intervals_days < TEN_YEARS_DAYS:
            raise ConfigError(
                f"{self.intervals_days} days is too short; 15-minute figures are kept for at least "
                f"{TEN_YEARS_DAYS} days (10 years)",
                key="retention.intervals_days",
            )
        if self.late_days < 1 or (self.readings_days is not None and self.readings_days < self.late_days):
            raise ConfigError(
                f"readings are kept at least as long as late ones may come: {self.late_days} days, 1 or more",
                key="retention.readings_days",
            )

    def compressed_after(self) -> dict[str, timedelta]:
        """When chunks of each hypertable are compressed: figures not before nothing computes them anew."""
        figures = timedelta(days=max(self.kept_readings_days(hypertables=True), self.late_days))
        return {
            compression.READINGS: timedelta(days=self.late_days),
            **dict.fromkeys(compression.FIGURES, figures),
        }

    def kept_readings_days(self, hypertables: bool) -> int:
        """Days for which raw readings are kept in a store of this kind."""
        if self.readings_days is not None:
            return self.readings_days
        return 395 if hypertables else 90


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What one run of :func:`maintain` did."""

    made: tuple[str, ...] = ()
    """Partitions made ahead."""
    dropped: tuple[str, ...] = ()
    """Partitions and chunks of readings dropped, as ``start..end``."""
    dropped_readings: int = 0
    postponed: tuple[str, ...] = ()
    """Those that are due, but a rollup has not read them or somebody uses them."""
    dropped_rows: int = 0
    """Rows of 15-minute figures dropped."""
    trusted: datetime | None = None
    """The time by which they were too old."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One partition or chunk of a table."""

    name: str
    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d}..{self.end:%Y-%m-%d}"


def maintain(engine: sa.Engine, policy: Retention, now: datetime) -> Maintenance:
    """Make partitions ahead, set up compression, drop what is too old. Run daily; harmless at any time.

    What is too old is judged by :func:`trusted_now`, so that a clock that is ahead drops nothing.

    Raises
    ------
    StoreUnavailable
        If the database is away. A table that is in use is left for the next run instead.
    """
    with begin(engine) as connection:
        hypertables = timescale.is_hypertable(connection, "readings")
        made = partitions.ensure_ahead(connection, now)
    if hypertables:
        compression.set_policies(engine, policy.compressed_after())
        with begin(engine) as connection:
            per_day = compression.readings_per_day(connection)
            if per_day is not None:
                compression.fit_chunks(connection, per_day)
        warn_of_compression(engine)
    with begin(engine) as connection:
        trusted = trusted_now(connection, policy, now)
    if now - trusted > DAILY_STEP:
        _log.warning(
            "old data is kept: the clock says %s, upkeep ran up to %s and advances by at most %d days a run",
            f"{now:%Y-%m-%d}",
            f"{trusted:%Y-%m-%d}",
            DAILY_STEP.days,
        )
    dropped, count, postponed = _drop_readings(engine, policy, trusted)
    rows = _drop_intervals(engine, trusted - timedelta(days=policy.intervals_days))
    return Maintenance(tuple(made), tuple(dropped), count, tuple(postponed), rows, trusted)


def prepare(engine: sa.Engine, policy: Retention, intervals_s: Sequence[int]) -> None:
    """Before readings come: policies of compression, and chunks by the intervals that are declared.

    Parameters
    ----------
    engine : Engine
    policy : Retention
    intervals_s : sequence of int
        Of the points. [s]

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        if not timescale.is_hypertable(connection, "readings"):
            return
        known = compression.readings_per_day(connection)
    compression.set_policies(engine, policy.compressed_after())
    stated = [86_400 / interval_s for interval_s in intervals_s if interval_s > 0]
    per_day = known or (sum(stated) / len(stated) if stated else None)
    if per_day is not None:
        with begin(engine) as connection:
            compression.fit_chunks(connection, per_day)


def warn_of_compression(engine: sa.Engine) -> None:
    """Say in the log what is wrong with compression.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        for state in compression.states(connection):
            if state.problem:
                _log.warning("compression of %s: %s", state.table, state.problem)


DAILY_STEP = timedelta(days=2)
"""So far the time by which data is dropped advances in a run: after a standstill it catches up day by day."""
_UPKEEP = "upkeep_trusted_at"
_FIRST_RELEASE = datetime(2026, 1, 1, tzinfo=UTC)


def trusted_now(connection: sa.Connection, policy: Retention, now: datetime) -> datetime:
    """The time by which data is dropped: the clock's, unless that is far ahead of the last run; remembered.

    A clock that is years ahead (a dead battery, a wrong time server, a virtual machine that was resumed)
    must not cost more than a step a run, whatever readings it has stamped meanwhile. Before the first run,
    the day on which the oldest slice is due stands for it.
    """
    reached = _reached(connection)
    if reached is None:
        reached = next((one.on for one in outgoing(connection, policy, now)), None)
    trusted = now if reached is None else min(now, reached + DAILY_STEP)
    deployment.save(connection, _UPKEEP, trusted.isoformat())
    return trusted


def trusted_up_to(connection: sa.Connection, now: datetime) -> datetime:
    """The time up to which upkeep has trusted the clock, which is no later than now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return min(now, _reached(connection) or now)


def _reached(connection: sa.Connection) -> datetime | None:
    """The time of the last run; None where there was none but under a clock that was behind."""
    before = deployment.load(connection, _UPKEEP)
    last = datetime.fromisoformat(before) if before else None
    return last if last is not None and last >= _FIRST_RELEASE else None


def slices(connection: sa.Connection) -> list[Slice]:
    """Partitions or chunks of ``readings``, oldest first."""
    if timescale.is_hypertable(connection, "readings"):
        return [Slice(*row) for row in timescale.chunks(connection, "readings")]
    return [Slice(*row) for row in partitions.existing(connection)]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A slice of readings, and when retention lets go of it."""

    slice: Slice
    on: datetime


def kept_days(connection: sa.Connection, policy: Retention) -> int:
    """Days for which this store keeps raw readings."""
    return policy.kept_readings_days(timescale.is_hypertable(connection, "readings"))


_LATELY = sa.text(
    """
    SELECT finished_at, CAST(detail->>'first_at' AS timestamptz), CAST(detail->>'last_at' AS timestamptz)
    FROM imports WHERE status = 'done' AND accepted > 0 AND finished_at > :since
    """
)


def outgoing(connection: sa.Connection, policy: Retention, now: datetime) -> list[Outgoing]:
    """When each slice of readings is to go, first ones first: so long after its end or its last import."""
    kept = timedelta(days=kept_days(connection, policy))
    imports = [tuple(row) for row in connection.execute(_LATELY, {"since": now - kept})]
    found = []
    for one in slices(connection):
        arrived = (done for done, first, last in imports if first < one.end and last >= one.start)
        found.append(Outgoing(one, max([one.end, *arrived]) + kept))
    return sorted(found, key=lambda o: (o.on, o.slice.start))


def raw_horizon(connection: sa.Connection) -> datetime | None:
    """Instant before which raw readings may be missing because retention dropped them; None: never.

    A rollup must not replace or remove figures of intervals before it.
    """
    query = "SELECT dropped_before FROM horizons WHERE kind = 'readings'"
    with store_errors():
        row = driver(connection).execute(query).fetchone()
    return row[0] if row else None


# -- raw readings ------------------------------------------------------------------------------------


def _drop_readings(engine: sa.Engine, policy: Retention, now: datetime) -> tuple[list[str], int, list[str]]:
    with store_errors(), engine.connect() as connection:
        due = [one.slice for one in outgoing(connection, policy, now) if one.on <= now]
    counts: dict[str, int] = {}
    try:
        for one in due:
            count = _drop_slice(engine, one)
            if count is not None:
                counts[str(one)] = count
    except StoreUnavailable as error:  # in use: whoever holds one holds them all
        _log.warning("old readings stay until the next run: %s", error)
    return list(counts), sum(counts.values()), [str(one) for one in due if str(one) not in counts]


_PENDING = sa.text("SELECT 1 FROM rollup_queue WHERE start_at < :end AND end_at >= :start LIMIT 1")
_COUNT = sa.text("SELECT count(*) FROM readings WHERE at >= :start AND at < :end")
_LEDGER = sa.text(
    """
    INSERT INTO dropped_readings (collector, reason, readings, detail)
    VALUES ('retention', 'older than retention keeps', :count, CAST(:detail AS jsonb))
    """
)
_HORIZON = sa.text(
    """
    INSERT INTO horizons (kind, dropped_before) VALUES (:kind, :at)
    ON CONFLICT (kind) DO UPDATE
    SET dropped_before = greatest(horizons.dropped_before, excluded.dropped_before)
    """
)


def _drop_slice(engine: sa.Engine, one: Slice) -> int | None:
    """Drop one slice and count it; None if a rollup still has to read it."""
    span = {"start": one.start, "end": one.end}
    with begin(engine) as connection, unhurried(connection):
        connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
        connection.exec_driver_sql(f"LOCK TABLE {one.name} IN ACCESS EXCLUSIVE MODE")
        if connection.execute(_PENDING, span).first() is not None:
            return None
        count: int = connection.execute(_COUNT, span).scalar_one()
        _drop_table(connection, "readings", one)
        connection.execute(_LEDGER, {"count": count, "detail": json.dumps({"span": str(one)})})
        connection.execute(_HORIZON, {"kind": "readings", "at": one.end})
    return count


def _drop_table(connection: sa.Connection, table: str, one: Slice) -> None:
    if timescale.is_hypertable(connection, table):
        timescale.drop_chunks(connection, table, one.start, one.end)
    else:
        connection.exec_driver_sql(f"DROP TABLE {one.name}")


# -- 15-minute figures -------------------------------------------------------------------------------


def _drop_intervals(engine: sa.Engine, oldest: datetime) -> int:
    return sum(_drop_old(engine, table, oldest) for table in partitions.QUARTERLY)


def _drop_old(engine: sa.Engine, table: str, oldest: datetime) -> int:
    """Drop the quarter-years of a table that ended before `oldest`; how many rows there were."""
    with connect(engine) as connection:
        hypertable = timescale.is_hypertable(connection, table)
        found = timescale.chunks(connection, table) if hypertable else partitions.existing(connection, table)
    count = 0
    try:
        for one in (Slice(*row) for row in found):
            if one.end <= oldest:
                count += _drop_figures(engine, table, one)
    except StoreUnavailable as error:
        _log.warning("old figures stay until the next run: %s", error)
    return count


def _drop_figures(engine: sa.Engine, table: str, one: Slice) -> int:
    with begin(engine) as connection, unhurried(connection):
        connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
        connection.exec_driver_sql(f"LOCK TABLE {one.name} IN ACCESS EXCLUSIVE MODE")
        count: int = connection.exec_driver_sql(f"SELECT count(*) FROM {one.name}").scalar_one()  # noqa: S608
        _drop_table(connection, table, one)
        connection.execute(_HORIZON, {"kind": table, "at": one.end})
    return count
