"""The audit log: who did what, when and from where; added to, never changed.

Each entry carries a hash over itself and the entry before. The database refuses to change or delete
entries (a trigger, see the migrations); whoever gets around that breaks the chain, and
:func:`verify` says where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.errors import ConfigError
from app.store import tables
from app.store.engine import store_errors

LEAST_RETENTION_DAYS = 180
"""The regulator's least; the database refuses to delete anything younger."""

_LOCK = 0x57A7_0010
_FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done."""

    actor: str
    """Name of the key or of the signed-in person."""
    action: str
    """E.g. ``readings.add``, ``key.create``, ``login.failed``."""
    target: str = ""
    source: str = ""
    """Address of the request, or the command that was run."""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where; makes the entries about it."""

    actor: str
    source: str = ""
    key: str = ""
    """Public id of the key that was shown; empty: none was."""

    def did(self, action: str, target: str = "", detail: Mapping[str, Any] | None = None) -> Entry:
        """The entry that says so."""
        key = {"key": self.key} if self.key else {}
        return Entry(self.actor, action, target, self.source, {**(detail or {}), **key})


@dataclass(frozen=True, slots=True)
class Written:
    """An entry as it stands in the log."""

    seq: int
    at: datetime
    actor: str
    source: str
    action: str
    target: str
    detail: str
    previous_hash: str
    hash: str

    def expected_hash(self) -> str:
        """The hash that belongs to what it says."""
        parts = [self.seq, self.at.astimezone(UTC).isoformat(), self.actor, self.source]
        parts += [self.action, self.target, self.detail, self.previous_hash]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()


def append(connection: sa.Connection, entry: Entry, at: datetime | None = None) -> None:
    """Add an entry in the transaction of `connection`; do it last, entries are added one at a time.

    Parameters
    ----------
    connection : Connection
    entry : Entry
    at : datetime, optional
        When it was done; default: now.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        last = connection.execute(
            sa.text("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        ).one_or_none()
        seq, previous = (last.seq + 1, last.hash) if last else (1, _FIRST)
        row = _written(entry, at or datetime.now(UTC), seq, previous)
        connection.execute(sa.insert(tables.audit).values(**{c: getattr(row, c) for c in _COLUMNS}))


_COLUMNS = tuple(c.name for c in tables.audit.columns)


def _written(entry: Entry, at: datetime, seq: int, previous: str) -> Written:
    detail = _clean(json.dumps(dict(entry.detail), sort_keys=True, default=str))
    actor, source = _clean(entry.actor), _clean(entry.source)
    action, target = _clean(entry.action), _clean(entry.target)
    bare = Written(seq, at.astimezone(UTC), actor, source, action, target, detail, previous, "")
    return replace(bare, hash=bare.expected_hash())


def _clean(text: str) -> str:
    """What PostgreSQL can hold, and no more than anybody reads."""
    return text.replace("\x00", "").encode(errors="replace").decode()[:10_000]


def listing(connection: sa.Connection, *, before_seq: int | None = None, limit: int = 1000) -> list[Written]:
    """The newest entries, newest first; from `before_seq` back, where it is given.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(tables.audit).order_by(tables.audit.c.seq.desc()).limit(limit)
    query = query if before_seq is None else query.where(tables.audit.c.seq < before_seq)
    with store_errors():
        return [Written(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the chain found."""

    entries: int
    first_seq: int | None
    """1, or higher where old entries were removed."""
    last_hash: str
    """To be written down elsewhere: it fixes everything before it."""
    problems: tuple[str, ...]


def verify(connection: sa.Connection) -> Verification:
    """Walk along the whole chain.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    count, first, previous = 0, None, None
    problems: list[str] = []
    for row in _in_order(connection):
        first = row.seq if first is None else first
        problems += _breaks(row, previous)
        previous, count = row, count + 1
    return Verification(count, first, previous.hash if previous else _FIRST, tuple(problems))


def _in_order(connection: sa.Connection) -> Iterator[Written]:
    query = sa.select(tables.audit).order_by(tables.audit.c.seq)
    with store_errors():
        for row in connection.execution_options(yield_per=5000).execute(query):
            yield Written(*row)


def _breaks(row: Written, previous: Written | None) -> Iterator[str]:
    if row.hash != row.expected_hash():
        yield f"entry {row.seq} of {row.at.isoformat()} was changed"
    if previous is None:
        if row.seq == 1 and row.previous_hash != _FIRST:
            yield "entry 1 does not begin a chain"
        return
    if row.seq != previous.seq + 1:
        yield f"entries {previous.seq + 1} to {row.seq - 1} are missing"
    elif row.previous_hash != previous.hash:
        yield f"entry {row.seq} does not follow entry {previous.seq}"


def check_retention(days: int) -> None:
    """Refuse a retention below the regulator's least.

    Raises
    ------
    ConfigError
        If `days` is too few.
    """
    if days < LEAST_RETENTION_DAYS:
        raise ConfigError(
            f"{days} days are too few; allowed are {LEAST_RETENTION_DAYS} days or more",
            key="audit_retention_days",
        )


def forget(connection: sa.Connection, now: datetime, days: int) -> int:
    """Remove entries older than `days`; how many there were.

    Raises
    ------
    ConfigError
        If `days` is below :data:`LEAST_RETENTION_DAYS`.
    StoreUnavailable
        If the database is away.
    """
    check_retention(days)
    old = tables.audit.c.at < now - timedelta(days=days)
    with store_errors():
        return connection.execute(sa.delete(tables.audit).where(old)).rowcount
