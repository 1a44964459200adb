"""The audit log: who did what, when and from where; added to, never changed.

Each entry carries a hash over itself and the entry before, signed with a key outside the database
(``audit_key``). The database refuses to change or delete entries (a trigger, see the migrations); whoever
gets around that breaks the chain, and :func:`verify` says where. A chain that is cut off at its end is whole:
that is seen by anchors, hashes of the newest entry that were kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.errors import ConfigError
from app.store import audit_key, deployment, locks, tables
from app.store.audit_key import AuditKey
from app.store.engine import store_errors

LEAST_RETENTION_DAYS = 180
"""The regulator's least; the database refuses to delete anything younger."""

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
    key_id: str = ""
    """Key that signed the hash; empty: none did."""

    def expected_hash(self, key: AuditKey | None) -> str:
        """The hash that belongs to what it says; `key` is that of its id."""
        parts = [self.seq, self.at.astimezone(UTC).isoformat(), self.actor, self.source]
        parts += [self.action, self.target, self.detail, self.previous_hash]
        if key is None:
            return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()
        return key.sign(json.dumps([*parts, self.key_id], ensure_ascii=True).encode())


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
        locks.hold(connection, locks.AUDIT)
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
    key = audit_key.current()
    bare = Written(
        seq, at.astimezone(UTC), actor, source, action, target, detail, previous, "", key.id if key else ""
    )
    return replace(bare, hash=bare.expected_hash(key))


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
class Anchor:
    """An entry's hash as it was kept somewhere else: it fixes that entry and all before it."""

    hash: str
    seq: int | None = None
    """Number of the entry; None where only the hash is known."""
    where: str = ""
    """Where it was kept."""


_SEQ = re.compile(r"\bseq\W{1,4}(\d{1,18})\b")
_HASH = re.compile(r"\b[0-9a-f]{64}\b")


def read_anchors(text: str, where: str) -> list[Anchor]:
    """Anchors in the lines of a file: of the log, of ``/metrics``, of syslog, or our own; others are skipped.

    A line has the entry's number after ``seq`` and one hash of 64 hexadecimal digits.
    """
    found = []
    for line in text.splitlines():
        seq, hashes = _SEQ.search(line), _HASH.findall(line)
        if seq and len(hashes) == 1:
            found.append(Anchor(hashes[0], int(seq[1]), where))
    return found


def head(connection: sa.Connection) -> Anchor | None:
    """The newest entry; None of an empty log.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(tables.audit.c.hash, tables.audit.c.seq).order_by(tables.audit.c.seq.desc()).limit(1)
    with store_errors():
        row = connection.execute(query).one_or_none()
    return None if row is None else Anchor(row.hash, row.seq)


_LOG_ID = "audit_log"


_LOG_ID = "audit_log"


def known_log_id(connection: sa.Connection) -> str | None:
    """The log's name; None where no anchor was ever taken.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found: str | None = deployment.load(connection, _LOG_ID)
    return found


def log_id(connection: sa.Connection) -> str:
    """A name for this log, made when it is first asked for: anchors of another log say nothing about it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found = known_log_id(connection)
    if found is None:
        found = secrets.token_hex(8)
        deployment.save(connection, _LOG_ID, found)
    return found


_FROZEN = sa.text(
    """
    SELECT document #>> '{revision,audit_head}', period, revision FROM reports r WHERE closed
        AND NOT EXISTS (
            SELECT FROM site_moves m WHERE m.direction = 'in' AND m.state = 'open'
                AND m.site_id = r.site_id AND m.ended_at > r.created_at
        )
    UNION ALL
    SELECT document #>> '{revision,audit_head}', period, revision FROM institution_reports WHERE closed
    """
)


def anchors_of_reports(connection: sa.Connection) -> list[Anchor]:
    """What frozen reports say about the log; those that came with their site from another cell tell of its.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = connection.execute(_FROZEN).all()
    texts = ((text, f"report {period}, revision {revision}") for text, period, revision in rows if text)
    return [anchor for text, where in texts for anchor in read_anchors(text, where)]


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the chain found."""

    entries: int
    first_seq: int | None
    """1, or higher where old entries were removed."""
    last_hash: str
    """To be written down elsewhere: it fixes everything before it."""
    problems: tuple[str, ...]
    signed_from: int | None = None
    """First entry that is signed; older ones are only chained."""
    anchors: int = 0
    """Anchors that were compared."""


def verify(
    connection: sa.Connection, keys: Sequence[AuditKey] = (), anchors: Sequence[Anchor] = ()
) -> Verification:
    """Walk along the whole chain.

    Parameters
    ----------
    connection : Connection
    keys : sequence of AuditKey
        Keys that signed entries, beside that of this process.
    anchors : sequence of Anchor
        What the log was, from elsewhere.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    walk = _Walk({key.id: key for key in (*keys, audit_key.current()) if key}, anchors)
    for row in in_order(connection):
        walk.step(row)
    return walk.result()


def in_order(connection: sa.Connection, after_seq: int = 0) -> Iterator[Written]:
    """Entries after one, oldest first, as they are read.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(tables.audit).where(tables.audit.c.seq > after_seq).order_by(tables.audit.c.seq)
    with store_errors():
        for row in connection.execution_options(yield_per=5000).execute(query):
            yield Written(*row)


class _Walk:
    """Along the chain, entry by entry."""

    def __init__(self, keys: Mapping[str, AuditKey], anchors: Sequence[Anchor]) -> None:
        self._keys, self._anchors = keys, anchors
        self._at_seq: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            if anchor.seq is not None:
                self._at_seq.setdefault(anchor.seq, []).append(anchor)
        self._sought = {anchor.hash for anchor in anchors if anchor.seq is None}
        self._count = 0
        self._signed_from: int | None = None
        self._first: Written | None = None
        self._last: Written | None = None
        self._cut: Mapping[str, Any] | None = None
        self._unknown_keys: set[str] = set()
        self._problems: list[str] = []

    def step(self, row: Written) -> None:
        """The next entry."""
        self._first = self._first or row
        self._problems += [*self._breaks(row), *self._differs(row)]
        self._sought.discard(row.hash)
        if row.key_id and self._signed_from is None:
            self._signed_from = row.seq
        if row.action == FORGET:
            self._cut = json.loads(row.detail)
        self._last, self._count = row, self._count + 1

    def _breaks(self, row: Written) -> Iterator[str]:
        yield from self._forged(row)
        if self._last is None:
            if row.seq == 1 and row.previous_hash != _FIRST:
                yield "entry 1 does not begin a chain"
        elif row.seq != self._last.seq + 1:
            yield f"entries {self._last.seq + 1} to {row.seq - 1} are missing"
        elif row.previous_hash != self._last.hash:
            yield f"entry {row.seq} does not follow entry {self._last.seq}"

    def _forged(self, row: Written) -> Iterator[str]:
        if not row.key_id and self._signed_from is not None:
            yield f"entry {row.seq} of {row.at.isoformat()} is not signed, though earlier ones are"
        if row.key_id and row.key_id not in self._keys:
            if row.key_id not in self._unknown_keys:
                yield (
                    f"entry {row.seq} and others name the key {row.key_id}, which is not known here; set "
                    "WATTLINE_AUDIT_KEY_FILE as where the service runs, or give an earlier key with --key"
                )
            self._unknown_keys.add(row.key_id)
        elif row.hash != row.expected_hash(self._keys.get(row.key_id)):
            yield f"entry {row.seq} of {row.at.isoformat()} was changed"

    def _differs(self, row: Written) -> Iterator[str]:
        for anchor in self._at_seq.pop(row.seq, ()):
            if anchor.hash != row.hash:
                yield f"entry {row.seq} is not what {anchor.where} says: it, or one before it, was rewritten"

    def result(self) -> Verification:
        """What was found."""
        problems = [*self._problems, *self._cut_off(), *self._lost()]
        first = self._first.seq if self._first else None
        last_hash = self._last.hash if self._last else _FIRST
        return Verification(
            self._count, first, last_hash, tuple(problems), self._signed_from, len(self._anchors)
        )

    def _cut_off(self) -> Iterator[str]:
        """Whether what is gone at the beginning went by retention, which writes down how far it went."""
        if self._first is None or self._first.seq == 1:
            return
        cut, gone = self._cut or {}, self._first.seq - 1
        is_legacy = bool(cut) and "last_seq" not in cut
        if not is_legacy and (cut.get("last_seq"), cut.get("last_hash")) != (gone, self._first.previous_hash):
            yield f"entries 1 to {gone} were removed, and not by retention"

    def _lost(self) -> Iterator[str]:
        """Entries that existed and are gone."""
        last = self._last.seq if self._last else 0
        removed = int((self._cut or {}).get("last_seq") or 0)
        for seq, anchors in sorted(self._at_seq.items()):
            if seq > last:
                yield f"the log ends with entry {last}, but {anchors[0].where} has {seq}: newer ones are gone"
            elif seq > removed:
                yield f"entry {seq}, which {anchors[0].where} has, is gone"
        for text in sorted(self._sought):
            yield f"no entry has the hash {text}: entries were removed or rewritten"


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


FORGET = "audit.forget"


def forget(connection: sa.Connection, now: datetime, days: int) -> int:
    """Remove entries older than `days`, and write down how far; how many there were.

    Raises
    ------
    ConfigError
        If `days` is below :data:`LEAST_RETENTION_DAYS`.
    StoreUnavailable
        If the database is away.
    """
    check_retention(days)
    query = sa.text("SELECT entries, last_seq, last_hash FROM audit_forget(:before)")
    with store_errors():
        gone = connection.execute(query, {"before": now - timedelta(days=days)}).one()
    if gone.entries:
        append(connection, Actor("wattline").did(FORGET, "", gone._asdict()), now)
    return int(gone.entries)
