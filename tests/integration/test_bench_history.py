"""The history that a bench writes at the speed of COPY is the one that ingest and rollup make."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.jobs.verify import verify
from bench import figure

TABLES = {
    "energy_15m": "point_id, at",
    "energy_day": "point_id, day",
    "site_15m": "site_id, room, at",
}
SECONDS = 34 * 86_400


def rows(engine: sa.Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table: [tuple(r) for r in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY {key}")]
            for table, key in TABLES.items()
        }


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Equal, figures but for rounding."""
    return all(abs(a - b) < 1e-6 if isinstance(a, float) else a == b for a, b in zip(one, other, strict=True))


def test_both_ways_leave_the_same_rows(engine: sa.Engine) -> None:
    figure.fill(engine, 0, SECONDS)
    made = rows(engine)
    with engine.begin() as connection:
        for table in (*TABLES, "readings"):
            connection.exec_driver_sql(f"TRUNCATE {table}")
    figure.filled_quickly(engine, 0, SECONDS, raw_days=10)
    written = rows(engine)
    assert {t: len(r) for t, r in written.items()} == {t: len(r) for t, r in made.items()}
    for table, expected in made.items():
        assert all(same(a, b) for a, b in zip(written[table], expected, strict=True)), table
    found = verify(engine)
    assert (found.breaches, found.points) == ((), 20)
    assert found.intervals > 10 * 96 * 19
