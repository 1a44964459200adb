"""Readings go in once, whatever comes and in whatever order, and come out as they went in."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import engine as stores
from app.store import readings

START = datetime(2026, 3, 2, tzinfo=UTC)
LATER = datetime(2030, 1, 1, tzinfo=UTC)


def batch(*rows: tuple[int, float, float], interval_s: int = 0) -> ReadingColumns:
    """Rows of (point, minutes after START, value)."""
    points, minutes, values = zip(*rows, strict=True)
    start_us = readings.to_us(START)
    return ReadingColumns(
        np.array(points, np.int32),
        np.array([start_us + int(m * 60_000_000) for m in minutes], np.int64),
        np.array(values, np.float64),
        np.full(len(rows), interval_s, np.int32),
        np.full(len(rows), interval_s, np.int32),
    )


def ingest(engine: sa.Engine, columns: ReadingColumns) -> tuple[int, int, int]:
    with stores.begin(engine) as connection:
        result = readings.ingest(connection, columns)
    return result.accepted, result.duplicate, result.conflicting


def everything(engine: sa.Engine) -> list[tuple[int, float, float]]:
    """Stored rows as (point, minutes, value), by point and time."""
    with stores.connect(engine) as connection:
        rows = connection.execute(sa.text("SELECT point_id, at, value FROM readings ORDER BY 1, 2")).all()
    return [(r.point_id, (r.at - START) / timedelta(minutes=1), r.value) for r in rows]


def queue(engine: sa.Engine) -> list[tuple[int, float, float]]:
    with stores.connect(engine) as connection:
        rows = connection.execute(
            sa.text("SELECT point_id, start_at, end_at FROM rollup_queue ORDER BY id")
        ).all()
    return [
        (r[0], (r[1] - START) / timedelta(minutes=1), (r[2] - START) / timedelta(minutes=1)) for r in rows
    ]


def test_the_same_batch_again_changes_nothing(engine: sa.Engine) -> None:
    rows = batch((1, 0, 5.0), (2, 0, 6.0), (1, 15, 7.5))

    assert ingest(engine, rows) == (3, 0, 0)
    assert ingest(engine, rows) == (0, 3, 0)
    assert everything(engine) == [(1, 0, 5.0), (1, 15, 7.5), (2, 0, 6.0)]


def test_the_first_value_wins_and_the_other_is_kept_aside(engine: sa.Engine) -> None:
    ingest(engine, batch((1, 0, 5.0)))

    assert ingest(engine, batch((1, 0, 6.0), (1, 15, 7.0))) == (1, 0, 1)
    assert ingest(engine, batch((1, 0, 6.0))) == (0, 0, 1)
    assert everything(engine) == [(1, 0, 5.0), (1, 15, 7.0)]
    with stores.connect(engine) as connection:
        kept = connection.execute(
            sa.text("SELECT point_id, value, stored_value FROM reading_conflicts")
        ).all()
    assert kept == [(1, 6.0, 5.0)]


def test_within_a_batch_the_earlier_row_wins(engine: sa.Engine) -> None:
    rows = batch((1, 15, 1.0), (1, 0, 5.0), (1, 0, 5.0), (1, 0, 4.0))

    assert ingest(engine, rows) == (2, 1, 1)
    assert everything(engine) == [(1, 0, 5.0), (1, 15, 1.0)]


def test_another_interval_for_a_stored_key_is_a_conflict(engine: sa.Engine) -> None:
    ingest(engine, batch((1, 15, 5.0), interval_s=900))

    assert ingest(engine, batch((1, 15, 5.0), interval_s=60)) == (0, 0, 1)


def test_every_touched_point_is_queued_with_its_span(engine: sa.Engine) -> None:
    ingest(engine, batch((1, 15, 1.0), (1, 45, 1.0), (2, 30, 1.0), interval_s=900))
    ingest(engine, batch((1, 15, 1.0), interval_s=900))

    assert queue(engine) == [(1, 0, 45), (2, 15, 30)]


def test_nothing_is_stored_or_queued_if_the_transaction_fails(engine: sa.Engine) -> None:
    connection = engine.connect()
    readings.ingest(connection, batch((1, 0, 1.0)))
    connection.close()

    assert everything(engine) == []
    assert queue(engine) == []


def test_two_batches_in_one_transaction(engine: sa.Engine) -> None:
    with stores.begin(engine) as connection:
        first = readings.ingest(connection, batch((1, 0, 1.0)))
        second = readings.ingest(connection, batch((1, 0, 1.0), (1, 1, 2.0)))

    assert (first.accepted, second.accepted, second.duplicate) == (1, 1, 1)


def test_readings_of_any_year_find_their_partition(engine: sa.Engine) -> None:
    years = [datetime(y, 1, 1, tzinfo=UTC) for y in (1990, 1999, 2000, 2016, 2027)]
    rows = batch(*((1, (at - START) / timedelta(minutes=1), 1.0) for at in years))

    assert ingest(engine, rows) == (5, 0, 0)
    assert len(everything(engine)) == 5


def test_an_empty_batch_is_nothing(engine: sa.Engine) -> None:
    assert ingest(engine, ReadingColumns.concat([])) == (0, 0, 0)


def test_values_and_times_come_back_exactly(engine: sa.Engine) -> None:
    rows = batch((7, 0, 16_800_000.1), (7, 0.0000001, -1e-300), (7, 1 / 3, 0.1 + 0.2), interval_s=60)
    rows.at_us[:] = readings.to_us(START) + np.array([0, 1, 999_999])
    ingest(engine, rows)

    with stores.connect(engine) as connection:
        loaded = readings.load(connection, 7, START, LATER)
    assert loaded.at_us.tolist() == rows.at_us.tolist()
    assert loaded.value.tolist() == rows.value.tolist()
    assert loaded.interval_s.tolist() == rows.valid_s.tolist() == [60, 60, 60]


def test_load_is_half_open_and_ordered(engine: sa.Engine) -> None:
    ingest(engine, batch((1, 30, 3.0), (1, 0, 1.0), (1, 15, 2.0), (2, 0, 9.0)))

    with stores.connect(engine) as connection:
        loaded = readings.load(connection, 1, START, START + timedelta(minutes=30))
    assert loaded.value.tolist() == [1.0, 2.0]


def test_around_brings_neighbours_however_far(engine: sa.Engine) -> None:
    far = 400 * 24 * 60
    ingest(
        engine, batch((1, -far, 0.0), (1, -15, 1.0), (1, 0, 2.0), (1, 15, 3.0), (1, far, 4.0), (2, -1, 9.0))
    )
    end = START + timedelta(minutes=15)

    with stores.connect(engine) as connection:
        one = readings.around(connection, 1, START, end, before=1, after=1)
        two = readings.around(connection, 1, START, end, before=2, after=2)
        none = readings.around(connection, 1, START, end, before=0, after=0)
    assert one.value.tolist() == [1.0, 2.0, 3.0]
    assert two.value.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert none.value.tolist() == [2.0]


def test_copy_out_streams_blocks_by_time(engine: sa.Engine) -> None:
    ingest(engine, batch(*((p, m, float(m)) for p in (1, 2) for m in range(10))))

    with stores.connect(engine) as connection:
        blocks = list(readings.copy_out(connection, [1, 2], START, LATER, block_rows=8))
    assert [len(b) for b in blocks] == [8, 8, 4]
    assert blocks[0].point_id.tolist() == [1, 2] * 4


@pytest.mark.parametrize(("count", "expected"), [(500, 3), (1500, 4)])
def test_a_batch_takes_a_fixed_number_of_statements(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, count: int, expected: int
) -> None:
    ingest(engine, batch((1, 0, 1.0)))
    statements: list[str] = []
    execute = stores.ImpatientConnection.execute

    def noted(self: stores.ImpatientConnection, query: str, *rest: Any, **more: Any) -> Any:
        statements.append(query)
        return execute(self, query, *rest, **more)

    monkeypatch.setattr(stores.ImpatientConnection, "execute", noted)
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    ingest(engine, batch(*((p, 1, 1.0) for p in range(count))))

    # partitions, merge, queue; of many: partitions, staging, merge, queue and one COPY beside them
    assert len(statements) == expected, statements


# -- many rows: straight into the table where its time is free ------------------------------------------


def many(start: int, count: int = 3000) -> ReadingColumns:
    """Two points, a reading a minute from minute `start` on."""
    return batch(*((p, start + m, float(start + m)) for m in range(count // 2) for p in (1, 2)))


def test_many_rows_are_stored_and_repeated_like_few(engine: sa.Engine) -> None:
    assert ingest(engine, many(0)) == (3000, 0, 0)
    assert ingest(engine, many(0)) == (0, 3000, 0)
    assert ingest(engine, many(1000)) == (2000, 1000, 0)
    assert len(everything(engine)) == 5000
    assert queue(engine) == [(1, 0, 1499), (2, 0, 1499), (1, 1000, 2499), (2, 1000, 2499)]


def test_a_batch_that_begins_within_an_instant(engine: sa.Engine) -> None:
    whole = many(0)
    assert ingest(engine, whole.take(np.arange(1501))) == (1501, 0, 0)
    assert ingest(engine, whole.take(np.arange(1501, 3000))) == (1499, 0, 0)
    assert len(everything(engine)) == 3000


def test_many_rows_between_others(engine: sa.Engine) -> None:
    ingest(engine, batch((1, 700, -1.0), (3, 700, 7.0)))

    assert ingest(engine, many(0)) == (2999, 0, 1)
    assert len(everything(engine)) == 3001


def test_two_sessions_store_the_same_new_rows(engine: sa.Engine) -> None:
    """The second waits for the first, and then finds everything stored."""
    started, results = threading.Event(), []

    def second() -> None:
        started.set()
        results.append(ingest(engine, many(0)))

    other = threading.Thread(target=second)
    with stores.begin(engine) as connection:
        first = readings.ingest(connection, many(0))
        other.start()
        started.wait()
        _until_blocked(engine)
    other.join()

    assert (first.accepted, results) == (3000, [(0, 3000, 0)])
    assert len(everything(engine)) == 3000


def _until_blocked(engine: sa.Engine) -> None:
    """Return when some session waits for another."""
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0")
    with stores.connect(engine) as connection:
        while not connection.execute(waiting).scalar():
            connection.rollback()


def test_readings_are_counted_by_point_up_to_what_matters(engine: sa.Engine) -> None:
    ingest(engine, batch(*((1, minute, 5.0) for minute in range(7)), (3, 0, 6.0), (3, 60 * 24 * 400, 6.0)))
    with stores.connect(engine) as connection:
        assert readings.counts(connection, [1, 2, 3]) == {1: 7, 3: 2}
        assert readings.counts(connection, [1, 3], most=5) == {1: 5, 3: 2}
        assert readings.counts(connection, [], most=5) == {}
