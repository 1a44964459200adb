"""Idempotent ingest against PostgreSQL's own COPY into the same indexed table, in the same server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import migrate, partitions
from app.store.embedded.server import EmbeddedServer
from app.store.engine import begin, driver, make_engine
from app.store.readings import ingest
from bench.series import register_series
from bench.table import Row

TITLE = "Ingest into the store"

_RUNS = 3
_POINTS, _DAYS, _INTERVAL_S = 500, 0.7, 60
_BATCH, _SMALL_BATCH = 50_000, 2_000


def run() -> list[Row]:
    """Measure on an embedded server with full durability; the table is emptied before every load."""
    columns = register_series(_POINTS, _DAYS, _INTERVAL_S)
    with durable_server() as url, _csv(columns) as file:
        engine = make_engine(url)
        copy_s, first_s, replay_s, small_s = _medians(engine, columns, file)
        engine.dispose()
    count = len(columns)
    copy, first = rate(count, copy_s), rate(count, first_s)
    peer = f"`\\copy` {copy}"
    return [
        Row("first load, 50 000-row batches", first, peer, copy_s / first_s, ">= 0.55"),
        Row(
            "replay, 50 000-row batches",
            rate(count, replay_s),
            f"first load {first}",
            first_s / replay_s,
            ">= 1",
        ),
        Row("first load, 2 000-row batches", rate(count, small_s), peer, copy_s / small_s, ""),
    ]


def _medians(engine: sa.Engine, columns: ReadingColumns, file: Path) -> list[float]:
    times: list[list[float]] = [[], [], [], []]
    for _ in range(_RUNS):
        emptied(engine, columns)
        times[0].append(_timed(lambda: copy_csv(engine, file)))
        emptied(engine, columns)
        times[1].append(_timed(lambda: _ingest(engine, columns, _BATCH)))
        times[2].append(_timed(lambda: _ingest(engine, columns, _BATCH)))
        emptied(engine, columns)
        times[3].append(_timed(lambda: _ingest(engine, columns, _SMALL_BATCH)))
    return [statistics.median(one) for one in times]


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rate(rows: int, seconds: float) -> str:
    """Rows per second, as text."""
    return f"{rows / seconds:,.0f} rows/s"


@contextmanager
def durable_server() -> Iterator[str]:
    """URL of a new embedded server with full durability and the current schema."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServer(Path(folder) / "data") as server:
            engine = make_engine(server.url)
            migrate.upgrade(engine)
            engine.dispose()
            yield server.url


@contextmanager
def _csv(columns: ReadingColumns) -> Iterator[Path]:
    """The readings as psql's ``\\copy`` would read them."""
    at = np.datetime_as_string(columns.at_us.view("datetime64[us]"), unit="s")
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.writelines(
            f"{a}Z,{p},{v!r},0,0\n"
            for a, p, v in zip(at, columns.point_id, columns.value.tolist(), strict=True)
        )
        file.flush()
        yield Path(file.name)


def emptied(engine: sa.Engine, columns: ReadingColumns) -> None:
    """Same start for everyone: no rows, the partitions made, nothing left to write back."""
    with begin(engine) as connection:
        connection.execute(sa.text("TRUNCATE readings, rollup_queue, reading_conflicts"))
        partitions.ensure(connection, columns.at_us)


def _ingest(engine: sa.Engine, columns: ReadingColumns, size: int) -> None:
    for start in range(0, len(columns), size):
        with begin(engine) as connection:
            ingest(connection, columns.take(np.arange(start, min(start + size, len(columns)))))


def copy_csv(engine: sa.Engine, file: Path) -> None:
    """What psql's ``\\copy`` does."""
    with (
        begin(engine) as connection,
        driver(connection).cursor() as cursor,
        cursor.copy(
            "COPY readings (at, point_id, value, interval_s, valid_s) FROM STDIN (FORMAT CSV)"
        ) as stream,
        file.open("rb") as source,
    ):
        while block := source.read(1 << 16):
            stream.write(block)
