"""Several workers on one database: who is there, who measures which site, who runs the jobs of all.

A worker tells the database every few seconds that it is there, and keeps its leases by that. What is free
is taken by the worker that :func:`app.domain.sharing.chosen` names, so no two workers measure one site; the
jobs stay with one worker as long as it is there. A lease that another worker takes gets a larger epoch, and
what its earlier holder read after that is not stored. Sessions of a worker that was not heard of are ended
before others take its leases, and a job's transaction is committed only while its worker still has the jobs.
Only the clock of the database counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from psycopg.types.json import Jsonb

from app.domain.sharing import chosen
from app.errors import StoreUnavailable
from app.store import tables
from app.store.engine import driver, store_errors

LEASE_S = 20.0
"""A worker that was not heard of for so long has lost its leases. [s]"""
_JOBS, _SITE = "jobs", "site:"
_FOR_S = sa.text("make_interval(secs => :lease_s)").bindparams(lease_s=LEASE_S)


class Worker(NamedTuple):
    """A worker that is there."""

    id: str
    """Made anew at each start."""
    name: str
    """Machine and process, for people."""
    sites: frozenset[str] | None = None
    """Sites that its site file names; None: it has no file and measures what the database declares."""


class Share(NamedTuple):
    """What one worker has to do."""

    sites: frozenset[str]
    """Sites that it measures."""
    has_jobs: bool
    """Whether it runs the jobs of all."""


class Member(NamedTuple):
    """A worker, and what it holds."""

    name: str
    started_at: datetime
    seen_at: datetime
    sites: tuple[str, ...]
    has_jobs: bool


def beat(connection: sa.Connection, worker: Worker, sites: Sequence[str]) -> Share:
    """Tell that a worker is there, and find out what is its to do among the `sites` that are declared.

    What it measures and another one is to measure is given up here, so it must end measuring what it no
    longer holds; the other one takes it at its own next beat.

    Raises
    ------
    StoreUnavailable
        If the database is away; the leases last for :data:`LEASE_S`.
    """
    with store_errors():
        _end_sessions(connection, worker)
        there = _be_there(connection, worker)
        wanted = {f"{_SITE}{key}" for key in sites if chosen(key, there) == worker.id}
        _give_up(connection, worker, wanted | {_JOBS})
        held = _take(connection, worker, sorted(wanted | {_JOBS}))
    return Share(frozenset(k.removeprefix(_SITE) for k in held if k != _JOBS), _JOBS in held)


def lost(connection: sa.Connection, worker: Worker) -> dict[str, datetime]:
    """Sites that another worker measures, and since when.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        held = driver(connection).execute(_LOST, (worker.id, _JOBS))
        return {subject.removeprefix(_SITE): taken_at for subject, taken_at in held}


_LOST = """
SELECT subject, taken_at FROM leases
WHERE worker <> %s AND subject <> %s AND expires_at > clock_timestamp()
"""


def session_name(kind: str, worker_id: str) -> str:
    """Name of the sessions of a worker's process, by which another worker finds them."""
    return f"wattline-{kind} {worker_id}"


_HOLD_JOBS = """
SELECT CASE WHEN pg_current_xact_id_if_assigned() IS NULL THEN true
    ELSE EXISTS (SELECT FROM leases WHERE subject = %s AND worker = %s FOR SHARE) END
"""
"""Where nothing is written there is nothing to keep from being stored; to lock the row would be a write."""


def hold_jobs(connection: sa.Connection, worker: Worker) -> None:
    """See that a worker has the jobs of all, and let nobody take them before the transaction has ended.

    Raises
    ------
    StoreUnavailable
        If another worker has taken them, or the database is away; nothing may be stored then.
    """
    with store_errors():
        held = driver(connection).execute(_HOLD_JOBS, (_JOBS, worker.id)).fetchone()
    if held != (True,):
        raise StoreUnavailable("another worker has taken over the jobs; nothing of this one was stored")


def leave(connection: sa.Connection, worker: Worker) -> None:
    """Give everything up, so that others need not wait.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        _give_up(connection, worker, set())
        connection.execute(sa.delete(tables.workers).where(tables.workers.c.id == worker.id))


def members(connection: sa.Connection) -> list[Member]:
    """Workers that are there, by name.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    w, t = tables.workers, tables.leases
    with store_errors():
        rows = connection.execute(sa.select(w).where(_is_there()).order_by(w.c.name, w.c.id)).all()
        held = connection.execute(
            sa.select(t.c.worker, t.c.subject)
            .where(t.c.expires_at > sa.func.clock_timestamp())
            .order_by(t.c.subject)
        ).all()
    subjects: dict[str, list[str]] = {row.id: [] for row in rows}
    for holder, subject in held:
        subjects.setdefault(holder, []).append(subject)
    return [
        Member(
            row.name,
            row.started_at,
            row.seen_at,
            tuple(s.removeprefix(_SITE) for s in subjects[row.id] if s != _JOBS),
            _JOBS in subjects[row.id],
        )
        for row in rows
    ]


def _is_there() -> sa.ColumnElement[bool]:
    return tables.workers.c.seen_at > sa.func.clock_timestamp() - _FOR_S


_END_SESSIONS = """
SELECT count(pg_terminate_backend(a.pid, 2000))
FROM workers w JOIN pg_stat_activity a ON a.application_name LIKE 'wattline-%% ' || w.id
WHERE w.id <> %s AND w.seen_at <= clock_timestamp() - make_interval(secs => %s)
    AND a.usename = current_user AND a.datname = current_database()
"""


def _end_sessions(connection: sa.Connection, worker: Worker) -> None:
    """End the sessions of workers that have lost their leases.

    A process that stands still in the middle of a transaction would keep its locks, and whoever takes over
    would wait for them; and it would commit when it goes on.
    """
    driver(connection).execute(_END_SESSIONS, (worker.id, LEASE_S))


_BE_THERE = """
WITH mine AS (
    INSERT INTO workers (id, name, sites, started_at, seen_at)
    VALUES (%(id)s, %(name)s, %(sites)s, clock_timestamp(), clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, sites = excluded.sites
), gone AS (
    DELETE FROM workers
    WHERE id <> %(id)s AND seen_at <= clock_timestamp() - make_interval(secs => %(lease_s)s)
)
SELECT id, sites FROM workers
WHERE id <> %(id)s AND seen_at > clock_timestamp() - make_interval(secs => %(lease_s)s)
"""


def _be_there(connection: sa.Connection, worker: Worker) -> Mapping[str, frozenset[str] | None]:
    """Enter a worker and forget those that are gone; the sites that each one knows."""
    known = None if worker.sites is None else Jsonb(sorted(worker.sites))
    values = {"id": worker.id, "name": worker.name, "sites": known, "lease_s": LEASE_S}
    others = driver(connection).execute(_BE_THERE, values).fetchall()
    return {worker.id: worker.sites} | {
        key: None if sites is None else frozenset(sites) for key, sites in others
    }


_GIVE_UP = """
UPDATE leases SET expires_at = clock_timestamp()
WHERE worker = %s AND subject <> ALL(%s) AND expires_at > clock_timestamp()
"""


def _give_up(connection: sa.Connection, worker: Worker, kept: set[str]) -> None:
    driver(connection).execute(_GIVE_UP, (worker.id, sorted(kept)))


_TAKE = """
INSERT INTO leases AS held (subject, worker, epoch, taken_at, expires_at)
SELECT subject, %(worker)s, 1, clock_timestamp(), clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM unnest(%(subjects)s::text[]) AS subject
ON CONFLICT (subject) DO UPDATE
SET worker = excluded.worker,
    epoch = held.epoch + (held.worker <> excluded.worker)::int,
    taken_at = CASE WHEN held.worker = excluded.worker THEN held.taken_at ELSE excluded.taken_at END,
    expires_at = excluded.expires_at
WHERE held.worker = excluded.worker OR held.expires_at <= clock_timestamp()
RETURNING subject
"""


def _take(connection: sa.Connection, worker: Worker, subjects: Sequence[str]) -> set[str]:
    """Keep and take the leases that no other worker has; those that are held now.

    A worker that comes back to a site within its own lease of it measured it all the time.
    """
    values = {"worker": worker.id, "subjects": list(subjects), "lease_s": LEASE_S}
    return {subject for (subject,) in driver(connection).execute(_TAKE, values)}
