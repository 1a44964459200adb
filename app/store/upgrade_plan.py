"""What an upgrade of the schema is going to do, and how long that may take; nothing is changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.store import migrate, versions
from app.store.engine import connect

ROWS_PER_S: Mapping[str, float] = {
    "rewritten": 60_000.0,
    "indexed": 300_000.0,
    "rekeyed": 400_000.0,
    "updated": 30_000.0,
}
"""Kind of work -> rows a second, with their indexes: half of what two busy cores did (500,000 in 4.0 s)."""
_STEP_S = 0.1
"""Any revision takes this. [s]"""
_ROOM: Mapping[str, float] = {"rewritten": 2.0, "indexed": 0.5, "rekeyed": 0.5, "updated": 2.0}
"""Kind of work -> free disk that it needs, by the size of the table: the new rows and their log. [1]"""
_ROW_BYTES = 100
"""A row of a table that the server has never counted. [B]"""


@dataclass(frozen=True, slots=True)
class TableWork:
    """What a revision does to the rows of a table."""

    table: str
    kind: str
    """rewritten, indexed, rekeyed or updated."""
    rows: int
    size_bytes: int

    @property
    def takes_s(self) -> float:
        """Estimated time. [s]"""
        return self.rows / ROWS_PER_S[self.kind]

    @property
    def needs_bytes(self) -> int:
        """Free disk that it needs. [B]"""
        return int(self.size_bytes * _ROOM[self.kind])


@dataclass(frozen=True, slots=True)
class Step:
    """A revision that is to be run."""

    revision: str
    words: str
    work: tuple[TableWork, ...] = ()

    @property
    def takes_s(self) -> float:
        """Estimated time. [s]"""
        return _STEP_S + sum(one.takes_s for one in self.work)


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``wattline db upgrade`` would do."""

    current: str | None
    head: str
    problem: str | None
    """Why it cannot be done, with the remedy."""
    steps: tuple[Step, ...] = ()
    sessions: int = 0
    """Other sessions of the database: a step waits 5 s for one that holds a table, then stops."""

    @property
    def takes_s(self) -> float:
        """Estimated time. [s]"""
        return sum(step.takes_s for step in self.steps)

    @property
    def needs_bytes(self) -> int:
        """Free disk that it needs at most. [B]"""
        return sum(one.needs_bytes for step in self.steps for one in step.work)

    def document(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return {
            "current": self.current,
            "head": self.head,
            "possible": self.problem is None,
            "problem": self.problem,
            "steps": [_step(step) for step in self.steps],
            "takes_s": round(self.takes_s, 1),
            "needs_bytes": self.needs_bytes,
            "sessions": self.sessions,
        }


def _step(step: Step) -> dict[str, Any]:
    work = [{"table": w.table, "kind": w.kind, "rows": w.rows, "size_bytes": w.size_bytes} for w in step.work]
    return {
        "revision": step.revision,
        "words": step.words,
        "takes_s": round(step.takes_s, 1),
        "tables": work,
    }


def plan(engine: sa.Engine) -> Plan:
    """Look at the database and say what an upgrade would do.

    Raises
    ------
    StoreUnavailable
        If it is away.
    """
    with connect(engine) as connection:
        found = migrate.current_status(connection)
        if not found.known:
            return Plan(found.current, found.head, migrate.newer(found))
        pending = [revision for revision in migrate.revisions() if revision > (found.current or "")]
        return Plan(
            found.current,
            found.head,
            versions.of(connection).problem,
            tuple(_planned(connection, revision) for revision in pending),
            connection.execute(_SESSIONS).scalar_one(),
        )


_SESSIONS = sa.text(
    """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    """
)


def _planned(connection: sa.Connection, revision: str) -> Step:
    words, work = _described(migrate.script_of(revision))
    return Step(revision, words, tuple(_table_works(connection, work)))


def _described(script: Path) -> tuple[str, Mapping[str, str]]:
    """First line of a migration's docstring, and its ``WORK``; it is read, not run."""
    module = ast.parse(script.read_text(encoding="utf-8"))
    work: Mapping[str, str] = {}
    for statement in module.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "WORK":
            work = ast.literal_eval(statement.value)
    return (ast.get_docstring(module) or "").partition("\n")[0], work


_TABLE = sa.text(
    """
    SELECT t.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = t.oid) AS is_plain,
           t.relkind = 'p' AS is_partitioned,
           sum(CASE WHEN p.relkind = 'p' THEN 0 WHEN p.reltuples >= 0 THEN p.reltuples
               ELSE pg_relation_size(p.oid) / :row_bytes END) AS row_count,
           sum(pg_total_relation_size(p.oid)) AS size_bytes
    FROM pg_class t
    JOIN pg_class p ON p.oid = t.oid OR p.oid IN (SELECT relid FROM pg_partition_tree(t.oid))
    WHERE t.oid = to_regclass(:table) GROUP BY t.oid, t.relkind
    """
)


def _table_works(connection: sa.Connection, work: Mapping[str, str]) -> Iterator[TableWork]:
    """Work on tables that are there; those in partitions or chunks have been rewritten already.

    Only those in partitions get another key: hypertables keep theirs.
    """
    for table, kind in work.items():
        found = connection.execute(_TABLE, {"table": table, "row_bytes": _ROW_BYTES}).one_or_none()
        if found is not None and {"rewritten": found.is_plain, "rekeyed": found.is_partitioned}.get(
            kind, True
        ):
            yield TableWork(table, kind, int(found.row_count), int(found.size_bytes))
