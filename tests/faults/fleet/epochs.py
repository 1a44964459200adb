"""Who has which lease in a cell over time, and whether anything was written by somebody who had none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg

from tests.faults.collector import Said, blocks_of
from tests.faults.fleet.parts import LOOK_S, Cell, Process

_JOBS = "jobs"
_WATCHED = (
    "relname LIKE 'energy%' OR relname IN ('evaluations', 'alarms', 'alarm_memory', 'alarm_transitions',"
    " 'outbox', 'site_months', 'reports', 'institution_reports')"
)
"""Tables that jobs of all write, and nothing else."""
_NOTE = """
CREATE SCHEMA IF NOT EXISTS watched;
CREATE TABLE IF NOT EXISTS watched.written (name text, session text);
CREATE OR REPLACE FUNCTION watched.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watched.written VALUES (TG_TABLE_NAME, current_setting('application_name'));
    RETURN NULL;
END $$
"""
_TABLES = f"""
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND ({_WATCHED})
"""
_TRIGGER = """
CREATE OR REPLACE TRIGGER watched AFTER INSERT OR UPDATE OR DELETE ON {}
FOR EACH STATEMENT EXECUTE FUNCTION watched.note()
"""
_WRITTEN = "SELECT name, session, pg_xact_commit_timestamp(xmin) FROM watched.written"
_STORED = (
    "SELECT p.key, (extract(epoch FROM r.at) * 1000000)::bigint, r.value FROM readings r"
    " JOIN points p ON p.id = r.point_id WHERE p.key LIKE %s"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tenure(NamedTuple):
    """A lease in one worker's hands."""

    subject: str
    epoch: int
    worker: str
    taken_at: datetime


class Leases:
    """What was seen of the leases of a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell, self._own = cell, f"site:{cell.sites[-1]}"
        self._tenures: set[Tenure] = set()
        self._holder: dict[str, str] = {}
        self._worker_of: dict[int, str] = {}
        self._present: set[int] = set()

    def look(self) -> None:
        """See who has what now."""
        members = self._cell.rows("SELECT id, name FROM workers")
        held = self._cell.rows(
            "SELECT subject, epoch, worker, taken_at, expires_at > clock_timestamp() FROM leases"
        )
        if not (members and held):
            return
        self._present = {int(name.rpartition(":")[2]) for _, name in members}
        self._worker_of |= {int(name.rpartition(":")[2]): worker for worker, name in members}
        self._tenures |= {Tenure(*row[:4]) for row in held if row[0] in (_JOBS, self._own)}
        self._holder = {row[0]: row[2] for row in held if row[4]}

    def is_member(self, process: Process) -> bool:
        """Whether a worker is there."""
        return process.process is not None and process.process.pid in self._present

    def is_all_of(self, process: Process) -> bool:
        """Whether one worker has everything."""
        assert process.process is not None
        worker = self._worker_of.get(process.process.pid)
        return all(self._holder.get(subject) == worker for subject in (_JOBS, self._own))

    def problems(self) -> list[str]:
        """What was written or measured without a lease."""
        return [*self._jobs_of_others(), *self._readings_of_others()]

    def _spans(self, subject: str) -> list[tuple[str, datetime, datetime]]:
        """Worker, and from when to when it had a lease."""
        ordered = sorted(t for t in self._tenures if t.subject == subject)
        ends = [*(t.taken_at for t in ordered[1:]), datetime.max.replace(tzinfo=UTC)]
        return [(t.worker, t.taken_at, end) for t, end in zip(ordered, ends, strict=True)]

    def _jobs_of_others(self) -> Iterator[str]:
        spans = self._spans(_JOBS)
        workers = set(self._worker_of.values())
        for table, session, at in self._cell.rows(_WRITTEN):
            worker = session.rpartition(" ")[2]
            is_ours = worker in workers and at is not None and at > spans[0][1]
            if is_ours and not any(w == worker and start <= at <= end for w, start, end in spans):
                yield f"{table} was written at {at:%H:%M:%S.%f} by {session}, without a lease: {spans}"

    def _readings_of_others(self) -> Iterator[str]:
        """All workers read at the same seconds: what the one with the lease read, too, is stored for that."""
        spans = self._spans(self._own)
        stored = {Said(*row) for row in self._cell.rows(_STORED, f"{self._cell.sites[-1]}.%")}
        read = {worker: blocks_of(self._cell.journals, pid) for pid, worker in self._worker_of.items()}
        for worker, readings in read.items():
            for one in readings:
                at = _EPOCH + timedelta(microseconds=one.at_us)
                holders = {w for w, start, end in spans if start <= at < end} - {worker}
                is_theirs = any(one in read.get(holder, ()) for holder in holders)
                if holders and not is_theirs and one in stored:
                    yield f"{one.point} was read at {at:%H:%M:%S.%f} by {worker}, without a lease: {spans}"


def _install(cell: Cell) -> None:
    with psycopg.connect(cell.database.url, autocommit=True) as connection:
        connection.execute(_NOTE)
        for (table,) in connection.execute(_TABLES).fetchall():
            connection.execute(_TRIGGER.format(table))  # type: ignore[call-overload]


@contextmanager
def watched(cell: Cell) -> Iterator[Leases]:
    """See, during the block, who has which lease and who writes."""
    _install(cell)
    found, ended = Leases(cell), threading.Event()
    found.look()

    def look() -> None:
        while not ended.wait(LOOK_S):
            found.look()
        cell.forget_connection()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
