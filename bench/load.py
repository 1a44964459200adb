"""What it costs to load a month of a site until its figures and findings stand, and then 1 % late readings.

The month of :mod:`bench.month`, 4.3 million readings of 100 points, as a CSV file, imported as
``wattline import`` does on an embedded database with full durability. Processor time is that of the importing
process and of the database together, stated for the reference machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from app import config
from app.jobs import imports
from app.store import sites
from app.store.audit import Actor
from app.store.engine import begin, connect, make_engine
from bench import month
from bench.capacity import REFERENCE_LOOP_S, below, processor_s, slowness
from bench.ingest import durable_server
from bench.table import Row

TITLE = "Loading a month: 100 points, 60 s, until figures and findings stand"
MINUTES = int(os.environ.get("WATTLINE_LOAD_MINUTES", "43200"))
SETTLED = ("readings stored", "figures and findings")


@dataclass(frozen=True, slots=True)
class _Cost:
    """Processor time and writing up to a moment."""

    python_s: float
    database_s: float
    wal_bytes: int
    size_bytes: int

    @classmethod
    def now(cls, engine: sa.Engine) -> _Cost:
        with connect(engine) as connection:
            wal = connection.execute(sa.text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one()
            size = connection.execute(sa.text(_HEAP)).scalar_one()
        return cls(time.process_time(), sum(map(processor_s, below(os.getpid()))), int(wal), int(size))

    def since(self, before: _Cost) -> _Cost:
        return _Cost(
            self.python_s - before.python_s,
            self.database_s - before.database_s,
            self.wal_bytes - before.wal_bytes,
            self.size_bytes - before.size_bytes,
        )

    @property
    def total_s(self) -> float:
        """Of both processes. [s]"""
        return self.python_s + self.database_s


_HEAP = """
SELECT coalesce(sum(pg_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = 'public'
"""
"""Heaps of all tables, without their indexes."""


def run() -> list[Row]:
    """All rows of this bench."""
    made = month.generate(MINUTES)
    slow = slowness()
    with durable_server() as url, tempfile.TemporaryDirectory() as folder:
        first, late = Path(folder) / "month.csv", Path(folder) / "late.csv"
        month.write_csv(first, made, ~made.is_late)
        month.write_csv(late, made, made.is_late)
        engine = make_engine(url)
        with begin(engine) as connection:
            sites.sync(connection, config.parse(month.site_file()).fleet)
        whole, tail = (_loaded(engine, file) for file in (first, late))
        engine.dispose()
    return _rows(len(made.point), int(made.is_late.sum()), slow, whole, tail)


def _loaded(engine: sa.Engine, file: Path) -> list[_Cost]:
    """Import one file; the costs of storing it, and of figures and findings."""
    with connect(engine) as connection:
        stored = sites.load(connection)
    marks = [_Cost.now(engine)]
    imports.import_file(engine, stored, stored.fleet.site["s"], file, by=Actor("bench"))
    marks.append(_Cost.now(engine))
    imports.settle(engine)
    marks.append(_Cost.now(engine))
    return [after.since(before) for before, after in pairwise(marks)]


def _rows(count: int, late: int, slow: float, whole: list[_Cost], tail: list[_Cost]) -> list[Row]:
    def per_million(cost: _Cost, readings: int) -> str:
        unit = 1e6 / readings / slow
        return f"{cost.total_s * unit:.1f} s a million (database {cost.database_s * unit:.1f})"

    total_s = sum(cost.total_s for cost in whole)
    tail_s = sum(cost.total_s for cost in tail)
    wal, heap = sum(c.wal_bytes for c in whole), sum(c.size_bytes for c in whole)
    all_of = f"{total_s * 1e6 / (count - late) / slow:.1f} s a million"
    return [
        Row(f"{count - late:,} readings: all", all_of, "", None, "<= 9 s", f"{total_s:.1f} s here"),
        *(
            Row(name, per_million(cost, count - late), "", None, "")
            for name, cost in zip(SETTLED, whole, strict=True)
        ),
        Row("write-ahead log", f"{wal / 1e6:,.0f} MB", f"heap {heap / 1e6:,.0f} MB", wal / heap, "<= 2"),
        Row(
            f"{late:,} late readings",
            f"{tail_s:.1f} s",
            f"whole load {total_s:.1f} s",
            tail_s / total_s,
            "<= 0.05",
            f"spread over all of the month; {tail_s * 1e6 / max(late, 1) / slow:,.0f} us each",
        ),
        *(
            Row(f"late: {name}", f"{cost.total_s:.1f} s", "", None, "")
            for name, cost in zip(SETTLED, tail, strict=True)
        ),
        Row("reference loop", f"{slow * REFERENCE_LOOP_S:.2f} s", f"{REFERENCE_LOOP_S} s", slow, ""),
    ]
