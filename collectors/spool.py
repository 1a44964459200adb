"""Store and forward: readings wait on disk until the store has them.

SQLite in WAL mode with ``synchronous=FULL``: when `Spool.append` returns, the batch survives a power
cut. A reading leaves only by `Spool.ack`, after the store's commit, or into the *ledger*, which counts
every reading that was dropped, by point and reason. What can go wrong, and what happens then:

==================  =====================================================================================
store away          readings stay; draining tries again, ever more slowly
killed, power cut   nothing appended is lost; an unacknowledged batch is sent again, the store knows it
size or age limit   the oldest go into the ledger (``full``, ``too_old``), recording goes on; at half of
                    either it is said
disk full           readings stay in memory up to a limit and are written when there is room; beyond it
                    the oldest go into the ledger (``disk_full``); so it is at the start, too, where the
                    file cannot even be made
file corrupt        set aside under a new name and counted; what can still be read is carried over
==================  =====================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from app.domain.reading import Reading
from app.errors import ConfigError, StoreUnavailable
from collectors.base import Poll

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reading (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    point TEXT NOT NULL, at_us INTEGER NOT NULL, value REAL NOT NULL,
    interval_s INTEGER NOT NULL, valid_s INTEGER NOT NULL, arrived_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS dropped (
    point TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
    oldest_us INTEGER NOT NULL, newest_us INTEGER NOT NULL, PRIMARY KEY (point, reason)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursor (device TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_PRAGMAS = (
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA journal_size_limit=67108864",
)
_INSERT = (
    "INSERT INTO reading (point, at_us, value, interval_s, valid_s, arrived_us) VALUES (?, ?, ?, ?, ?, ?)"
)
_RESCUE = _INSERT.replace("INSERT", "INSERT OR IGNORE", 1)
"""Rows of pages that are gone come back empty."""
_SELECT = "SELECT id, point, at_us, value, interval_s, valid_s, arrived_us FROM reading "
_COUNT = "SELECT point, ?, count(*), min(at_us), max(at_us) FROM reading WHERE id IN ({}) GROUP BY point"
_DELETE = "DELETE FROM reading WHERE id IN ({})"
_LEDGER = (
    "INSERT INTO dropped VALUES (?, ?, ?, ?, ?) ON CONFLICT (point, reason) DO UPDATE SET "
    "count = count + excluded.count, oldest_us = min(oldest_us, excluded.oldest_us), "
    "newest_us = max(newest_us, excluded.newest_us)"
)
_CURSOR = "INSERT INTO cursor VALUES (?, ?) ON CONFLICT (device) DO UPDATE SET position = excluded.position"
_NOT_TAKEN = "id NOT BETWEEN ? AND ? AND id NOT BETWEEN ? AND ?"
_SELECT_LIVE = _SELECT + "WHERE id >= ? ORDER BY id LIMIT ?"
_SELECT_OLD = _SELECT + "WHERE id < ? ORDER BY id LIMIT ?"
_FORGET = "DELETE FROM reading WHERE id BETWEEN ? AND ?"
_NOTHING = (1, 0)

_Row = tuple[str, int, float, int, int, int]
_Entry = tuple[str, str, int, int, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait."""

    age_s: float = 7 * 86_400.0
    """Readings that waited longer are dropped. [s]"""
    max_bytes: int | None = None
    """Most that the file may hold; None: as much as is still free on its disk. [B]"""
    readings: int | None = None
    """Most readings; None: as many as the other limits allow."""
    memory_readings: int = 50_000
    """How many may wait in memory while the disk is full."""


_DEFAULT_LIMITS = Limits()
NOT_OPEN = "not-open"
"""Stands for the name of a spool that waits for room, and says nothing of what it dropped."""
WARN_RATIO, QUIET_RATIO = 0.5, 0.4
"""Above the first it is said that the spool fills; below the second that it has room again. [0..1]"""
BYTES_PER_READING = 64
"""Of a spool that holds too few to be measured. [B]"""
_FULL_BELOW_BYTES = 1 << 20
"""SQLite's errors that have several causes mean a full disk where less than this is free. [B]"""
_MEASURED_FROM = 1000
"""Fewest readings whose size is measured."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Ledger entry: how many readings of a point were dropped for a reason, since the spool was made."""

    point: str
    reason: str
    count: int
    oldest: datetime
    newest: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings taken for sending; give it to `Spool.ack` after the store's commit."""

    readings: tuple[Reading, ...]
    backlog: int = 0
    """How many of them are old ones that waited behind the live readings."""
    live_ids: tuple[int, int] = _NOTHING
    """First and last id of the live readings."""
    old_ids: tuple[int, int] = _NOTHING
    """First and last id of the old readings."""
    memory_up_to: int = 0
    """Number behind the last of the readings that wait in memory."""


class _Memory:
    """Rows that wait while the disk is full, numbered in order of arrival."""

    def __init__(self) -> None:
        self.rows: deque[_Row] = deque()
        self._first = 0

    def peek(self, limit: int) -> tuple[list[_Row], int]:
        """The oldest rows, and the number behind the last of them."""
        rows = list(itertools.islice(self.rows, limit))
        return rows, self._first + len(rows)

    def forget(self, up_to: int) -> None:
        """Remove the rows numbered below `up_to`; those gone already do not matter."""
        while self.rows and self._first < up_to:
            self.rows.popleft()
            self._first += 1

    def clear(self) -> None:
        """Remove all rows."""
        self.forget(self._first + len(self.rows))

    def shrink(self, most: int) -> list[_Row]:
        """Remove and return the oldest rows beyond `most`."""
        surplus, up_to = self.peek(max(len(self.rows) - most, 0))
        self.forget(up_to)
        return surplus


class Spool:
    """A queue of readings on disk; every method may be called from any thread.

    Where the disk is full, the file may be opened later: until then readings wait in memory.

    Parameters
    ----------
    path : Path
        The file; its folder is made. One process may hold it at a time.
    limits : Limits
        How much may wait.
    clock : callable
        Gives the present instant (UTC).

    Raises
    ------
    ConfigError
        If the folder may not be written, or another process holds the file.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits = _DEFAULT_LIMITS,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path, self._limits, self._clock = path, limits, clock
        self._lock = threading.RLock()
        self._memory = _Memory()
        self._owed: dict[tuple[str, str], _Entry] = {}
        self._moved: dict[str, str] = {}
        self._broken = ""
        self._aside: tuple[Path, str] | None = None
        self._count = 0
        self._oldest_arrival_us = 0
        self._taken = (*_NOTHING, *_NOTHING)
        self.disk_full = False
        self.is_open = False
        """False while the file waits for room on its disk."""
        self._fills = False
        self.set_aside = 0
        """Corrupt files set aside since the start."""
        self._db, self._live_from = _stand_in(), 1
        self._open()

    def append(self, readings: Iterable[Reading]) -> None:
        """Keep a poll round: one commit, synced to the disk before this returns.

        Where the disk is full they are kept in memory instead (see `disk_full`).
        """
        now_us = _to_us(self._clock())
        self._keep([_row(reading, now_us) for reading in readings])

    def append_polls(self, polls: Sequence[Poll]) -> bool:
        """The same for polls, without a `Reading` for every value; their cursors move in the same commit.

        Returns False where the disk refuses and all of it waits in memory.
        """
        now_us = _to_us(self._clock())
        rows = [row for poll in polls for row in _rows(poll, now_us)]
        return self._keep(rows, dict(p.cursor for p in polls if p.cursor is not None))

    def _keep(self, rows: list[_Row], cursors: Mapping[str, str] = MappingProxyType({})) -> bool:
        with self._lock:
            self._memory.rows.extend(rows)
            self._moved |= cursors
            self._write()
            return not self.disk_full

    def try_open(self) -> bool:
        """Whether the file is open; one that waits for room is tried again."""
        with self._lock:
            if not self.is_open:
                self._write()
            return self.is_open

    def cursors(self) -> dict[str, str]:
        """Up to where the sources with a memory were read, by device; none before the file is open."""
        with self._lock:
            try:
                written = dict(self._db.execute("SELECT device, position FROM cursor").fetchall())
            except sqlite3.DatabaseError as error:
                self._on_write_error(error)
                written = {}
            return written | self._moved

    def _write(self) -> None:
        """Move what waits in memory to the disk."""
        try:
            self._heal()
            with self._commit():
                self._db.executemany(_INSERT, self._memory.rows)
                self._db.executemany(_LEDGER, self._owed.values())
                self._db.executemany(_CURSOR, self._moved.items())
                self._count += len(self._memory.rows)
                self._enforce()
        except (sqlite3.DatabaseError, OSError) as error:
            self._on_write_error(error)
        else:
            self._memory.clear()
            self._owed.clear()
            self._moved.clear()
            self._say_disk_full(False)
            self._say_fill()

    def _on_write_error(self, error: sqlite3.DatabaseError | OSError) -> None:
        if _is_corrupt(error) and self.is_open:
            self._broken = str(error)
            self._write()
            return
        self._say_disk_full(True, str(error))
        dropped = _entries(self._memory.shrink(self._limits.memory_readings), "disk_full")
        self._owed = _summed([*self._owed.values(), *dropped])

    def _heal(self) -> None:
        """Open the file that waits for room; put a fresh one in the place of one found corrupt."""
        if self._broken:
            with contextlib.suppress(sqlite3.DatabaseError):
                self._db.close()
            self._db, self.is_open, self._count = _stand_in(), False, 0
            self._set_aside(self._broken)
            self._broken = ""
        if not self.is_open:
            self._reach()

    def _say_disk_full(self, full: bool, why: str = "") -> None:
        if full and not self.disk_full:
            _log.error("spool cannot be written; readings wait in memory", path=str(self.path), problem=why)
        if self.disk_full and not full:
            _log.info("spool is writable again", path=str(self.path))
        self.disk_full = full

    def _say_fill(self) -> None:
        """Say once that the spool is half full, and once that it has room again."""
        ratio = self.fill_ratio
        if ratio >= WARN_RATIO and not self._fills:
            self._fills = True
            _log.warning(
                "the spool is half full; when it is full, the oldest readings are dropped",
                path=str(self.path),
                waiting=len(self),
                fill_ratio=round(ratio, 3),
            )
        elif ratio < QUIET_RATIO and self._fills:
            self._fills = False
            _log.info("the spool has free space again", path=str(self.path), fill_ratio=round(ratio, 3))

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _most_bytes(self, used_bytes: int) -> int:
        """Most that the file may hold now: by default half of what it holds and what is free together."""
        if self._limits.max_bytes is not None:
            return self._limits.max_bytes
        return (used_bytes + shutil.disk_usage(self.path.parent).free) // 2

    def _bytes_per_reading(self, used_bytes: int) -> float:
        return used_bytes / self._count if self._count >= _MEASURED_FROM else BYTES_PER_READING

    def room(self) -> int:
        """How many readings may wait in all, as the disk is now."""
        with self._lock:
            if not self.is_open:
                return self._limits.memory_readings
            used = self._used_bytes()
            by_bytes = int(self._most_bytes(used) / self._bytes_per_reading(used))
            return by_bytes if self._limits.readings is None else min(self._limits.readings, by_bytes)

    def _enforce(self) -> None:
        """Drop the oldest beyond the limits."""
        surplus = self._count - self.room()
        if surplus > 0:
            self._drop("full", "1", (), surplus)
        cutoff_us = _to_us(self._clock() - timedelta(seconds=self._limits.age_s))
        if self._oldest_arrival_us < cutoff_us:
            self._drop("too_old", "arrived_us < ?", (cutoff_us,), -1)
            self._oldest_arrival_us = self._first_arrival_us(self._db)

    def _drop(self, reason: str, condition: str, values: tuple[int, ...], most: int) -> None:
        """Move waiting readings into the ledger; those being sent just now are left alone."""
        victims = f"SELECT id FROM reading WHERE {condition} AND {_NOT_TAKEN} ORDER BY id LIMIT ?"  # noqa: S608
        parameters = (*values, *self._taken, most)
        entries = self._db.execute(_COUNT.format(victims), (reason, *parameters)).fetchall()
        self._db.executemany(_LEDGER, entries)
        gone = self._db.execute(_DELETE.format(victims), parameters).rowcount
        self._count -= gone
        if gone:
            _log.warning("readings dropped from the spool", reason=reason, count=gone, path=str(self.path))

    def take(self, limit: int = 2000, backlog: int | None = None) -> Batch:
        """The next readings to send: live ones first, then as many old ones as fit.

        Live are the newest `limit` that arrived since the spool was opened and were not sent yet; what
        else waits is old. While the disk is full, those in memory are sent.

        Parameters
        ----------
        limit : int
            Most readings of the batch.
        backlog : int, optional
            Most old ones of them (the sender's rate limit).
        """
        with self._lock:
            if self._memory.rows:
                rows, up_to = self._memory.peek(limit)
                return Batch(tuple(_reading((0, *row)) for row in rows), memory_up_to=up_to)
            try:
                return self._take_from_disk(limit, limit if backlog is None else backlog)
            except sqlite3.DatabaseError as error:
                self._on_write_error(error)
                return Batch(())

    def _take_from_disk(self, limit: int, backlog: int) -> Batch:
        self._live_from = max(self._live_from, self._next_id() - limit)
        live = self._db.execute(_SELECT_LIVE, (self._live_from, limit)).fetchall()
        room = max(min(limit - len(live), backlog), 0)
        old = self._db.execute(_SELECT_OLD, (self._live_from, room)).fetchall()
        live_ids, old_ids = _range(live), _range(old)
        self._taken = (*live_ids, *old_ids)
        return Batch(tuple(map(_reading, (*live, *old))), len(old), live_ids, old_ids)

    def ack(self, batch: Batch) -> bool:
        """Forget a batch that the store has committed.

        Returns False where the disk refuses: the batch will be sent again, which the store knows.
        """
        with self._lock:
            self._taken = (*_NOTHING, *_NOTHING)
            self._memory.forget(batch.memory_up_to)
            try:
                with self._commit():
                    for ids in (batch.live_ids, batch.old_ids):
                        self._count -= self._db.execute(_FORGET, ids).rowcount
            except sqlite3.DatabaseError as error:
                self._on_write_error(error)
                return bool(batch.memory_up_to)
            self._live_from = max(self._live_from, batch.live_ids[1] + 1)
            return True

    def ledger(self) -> tuple[Dropped, ...]:
        """Everything dropped since the spool was made: totals, so a store that knows them may read again."""
        with self._lock:
            written = self._db.execute("SELECT * FROM dropped").fetchall()
            return _dropped(_summed([*written, *self._owed.values()]).values())

    @property
    def id(self) -> str:
        """Lasting name of this spool, under which the store keeps its ledger; `NOT_OPEN` before it is."""
        with self._lock:
            row = self._db.execute("SELECT value FROM fact WHERE name = 'id'").fetchone()
            return str(row[0]) if row else NOT_OPEN

    def __len__(self) -> int:
        """Readings that wait, on disk and in memory."""
        return self._count + len(self._memory.rows)

    @property
    def fill_ratio(self) -> float:
        """How near a limit is: readings by the room for them, or age of the oldest by the longest. [0..1]

        1 while the disk is full.
        """
        with self._lock:
            if self.disk_full:
                return 1.0
            try:
                room, oldest_us = self.room(), self._first_arrival_us(self._db)
            except (sqlite3.DatabaseError, OSError):
                return 1.0
            waits_s = (_to_us(self._clock()) - oldest_us) / 1e6
        return min(max(len(self) / max(room, 1), waits_s / self._limits.age_s), 1.0)

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest reading that waits on disk arrived; None where none does."""
        with self._lock:
            try:
                row = self._db.execute("SELECT arrived_us FROM reading ORDER BY id LIMIT 1").fetchone()
            except sqlite3.DatabaseError:
                return None
            return _EPOCH + row[0] * _MICROSECOND if row else None

    @property
    def state(self) -> tuple[int, float, bool]:
        """Readings that wait, how near a limit is [0..1], and whether the disk takes them."""
        return len(self), self.fill_ratio, not self.disk_full

    @property
    def limits(self) -> Limits:
        """How much may wait."""
        return self._limits

    def close(self) -> None:
        """Release the file; harmless when repeated."""
        with self._lock:
            if self._memory.rows:
                self._write()
            if self._memory.rows:
                _log.error("the disk is full: readings in memory are lost", readings=len(self._memory.rows))
                self._memory.clear()
            self._db.close()

    def _open(self) -> None:
        try:
            self._reach()
        except (sqlite3.DatabaseError, OSError) as error:
            if self._is_want_of_room(error):
                self._say_disk_full(True, str(error))
                return
            self._db.close()
            problem = f"the spool cannot be opened: {error}; give a folder this process alone may write to"
            if isinstance(error, OSError):
                problem = f"no folder for the spool: {error}"
            raise ConfigError(problem, file=str(self.path)) from None

    def _is_want_of_room(self, error: sqlite3.DatabaseError | OSError) -> bool:
        if isinstance(error, OSError):
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            return code == sqlite3.SQLITE_FULL
        return shutil.disk_usage(self.path.parent).free < _FULL_BELOW_BYTES

    def _reach(self) -> None:
        """Open the file, and carry over what can be read of a corrupt one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = self._opened()
        except sqlite3.DatabaseError as error:
            if not _is_corrupt(error):
                raise
            self._set_aside(str(error))
            db = self._opened()
        self._db.close()
        self._db, self.is_open = db, True
        self._taken = (*_NOTHING, *_NOTHING)
        self._live_from = self._next_id()

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=0.5)
        try:
            _prepare(db)
            self._rescue(db)
            self._count = int(db.execute("SELECT count(*) FROM reading").fetchone()[0])
            self._oldest_arrival_us = self._first_arrival_us(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, why: str) -> None:
        """Move the corrupt file away; what is still to be rescued from one before it comes first."""
        aside = _move_aside(self.path, self._clock())
        self.set_aside += 1
        _pad(aside)
        self._aside = self._aside or (aside, why)

    def _rescue(self, db: sqlite3.Connection) -> None:
        """Carry over whatever can be read of the file set aside, once there is room for it."""
        if self._aside is None:
            return
        aside, why = self._aside
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_RESCUE, _salvaged_readings(aside))
        db.executemany(_LEDGER, _salvaged_ledger(aside))
        db.executemany(_CURSOR, _readable(aside, "SELECT device, position FROM cursor"))
        db.execute("COMMIT")
        self._aside = None
        rescued = int(db.execute("SELECT count(*) FROM reading").fetchone()[0])
        _log.error(
            "spool was corrupt and has been moved aside",
            problem=why,
            kept_as=str(aside),
            readings_rescued=rescued,
        )

    @contextlib.contextmanager
    def _commit(self) -> Iterator[None]:
        count = self._count
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._count = count
            with contextlib.suppress(sqlite3.DatabaseError):
                self._db.execute("ROLLBACK")
            raise

    def _next_id(self) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'reading'").fetchone()
        return int(row[0]) + 1 if row else 1

    def _first_arrival_us(self, db: sqlite3.Connection) -> int:
        row = db.execute("SELECT arrived_us FROM reading ORDER BY id LIMIT 1").fetchone()
        return int(row[0]) if row else _to_us(self._clock())


class _Corrupt(sqlite3.DatabaseError):
    """SQLite can open the file, but its own check finds it damaged."""


def _is_corrupt(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, _Corrupt) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _prepare(db: sqlite3.Connection) -> None:
    """Settings, a check of the file, and the tables; writes only where there is none yet.

    So a file that is there can be opened while its disk is full.
    """
    for pragma in _PRAGMAS:
        db.execute(pragma).fetchall()
    problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise _Corrupt(problem)
    db.executescript(_SCHEMA)
    if db.execute("SELECT 1 FROM fact WHERE name = 'id'").fetchone() is None:
        db.execute("INSERT INTO fact VALUES ('id', ?)", (str(uuid.uuid4()),))


def _stand_in() -> sqlite3.Connection:
    """An empty spool in place of the file that is not open yet; nothing is ever written to it."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.executescript(_SCHEMA)
    return db


def _move_aside(path: Path, now: datetime) -> Path:
    stamp = now.strftime("%Y%m%dT%H%M%S")
    names = (path.with_name(f"{path.name}.corrupt-{stamp}-{n}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    for tail in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{tail}", f"{aside}{tail}")
    return aside


def _pad(path: Path) -> None:
    """Give a file that was cut off its full length, so that SQLite reads what is left of it."""
    with path.open("r+b") as file:
        header = file.read(32)
        pages, page_size = int.from_bytes(header[28:32], "big"), int.from_bytes(header[16:18], "big")
        if header.startswith(b"SQLite format 3") and pages * page_size > path.stat().st_size:
            file.truncate(pages * page_size)


def _salvaged_readings(aside: Path) -> Iterator[_Row]:
    """Readings of a corrupt file: from the first on up to the damage, then from the last back to it."""
    seen = 0
    for row in _readable(aside, _SELECT + "ORDER BY id"):
        seen = row[0]
        yield row[1:]
    for row in _readable(aside, _SELECT + "WHERE id > ? ORDER BY id DESC", seen):
        yield row[1:]


def _salvaged_ledger(aside: Path) -> Iterator[_Entry]:
    yield from _readable(aside, "SELECT * FROM dropped")


def _readable(path: Path, query: str, *parameters: int) -> Iterator[Any]:
    """Rows of a query until the file has no more that can be read."""
    with contextlib.closing(sqlite3.connect(path)) as db, contextlib.suppress(sqlite3.DatabaseError):
        yield from db.execute(query, parameters)


def _range(rows: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    return (rows[0][0], rows[-1][0]) if rows else _NOTHING


def _rows(poll: Poll, now_us: int) -> Iterator[_Row]:
    at_us, zero, now = map(itertools.repeat, (_to_us(poll.at), 0, now_us))
    rows = zip(poll.points, at_us, poll.values, zero, zero, now, strict=False)
    return itertools.chain(rows, (_row(reading, now_us) for reading in poll.dated)) if poll.dated else rows


def _row(reading: Reading, now_us: int) -> _Row:
    return (
        reading.point,
        _to_us(reading.at),
        reading.value,
        reading.interval_s,
        reading.valid_s,
        now_us,
    )


def _reading(row: Sequence[Any]) -> Reading:
    _, point, at_us, value, interval_s, valid_s = row[:6]
    return Reading(point, _EPOCH + timedelta(microseconds=at_us), value, interval_s, valid_s)


def _to_us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _entries(rows: Iterable[_Row], reason: str) -> list[_Entry]:
    return [(row[0], reason, 1, row[1], row[1]) for row in rows]


def _summed(entries: Iterable[_Entry]) -> dict[tuple[str, str], _Entry]:
    """One entry for each point and reason."""
    totals: dict[tuple[str, str], _Entry] = {}
    for entry in entries:
        point, reason, count, oldest, newest = entry
        _, _, before, first, last = totals.get((point, reason), (point, reason, 0, oldest, newest))
        totals[point, reason] = (point, reason, before + count, min(oldest, first), max(newest, last))
    return totals


def _dropped(entries: Iterable[_Entry]) -> tuple[Dropped, ...]:
    return tuple(
        Dropped(p, r, n, _EPOCH + first * _MICROSECOND, _EPOCH + last * _MICROSECOND)
        for p, r, n, first, last in entries
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a spool is drained."""

    batch: int = 2000
    """Readings per commit of the store."""
    backlog_per_s: float = 20_000.0
    """Old readings sent per second at most, so that a returning store is not overrun. [1/s]"""
    idle_s: float = 1.0
    """Wait when nothing waits. [s]"""
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    """Pauses after failures double from the first to the longest. [s]"""


_DEFAULT_PACE = Pace()


async def drain(
    spool: Spool,
    send: Callable[[tuple[Reading, ...]], Awaitable[object]],
    pace: Pace = _DEFAULT_PACE,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Send what the spool holds, for ever; cancel it to stop.

    Parameters
    ----------
    spool : Spool
        The queue; a batch leaves it after `send` has returned.
    send : callable
        Commits readings in the store; raises StoreUnavailable where it cannot just now.
    """
    pause_s = pace.first_pause_s
    while True:
        batch = await asyncio.to_thread(spool.take, pace.batch) if len(spool) else Batch(())
        if not batch.readings:
            await sleep(pace.idle_s)
        elif await _sent(spool, batch, send):
            pause_s = pace.first_pause_s
            await sleep(batch.backlog / pace.backlog_per_s)
        else:
            await sleep(pause_s)
            pause_s = min(2 * pause_s, pace.longest_pause_s)


async def _sent(spool: Spool, batch: Batch, send: Callable[[tuple[Reading, ...]], Awaitable[object]]) -> bool:
    try:
        await send(batch.readings)
    except StoreUnavailable as error:
        _log.warning(
            "database unavailable; readings are kept in the spool", waiting=len(spool), problem=str(error)
        )
        return False
    return await asyncio.to_thread(spool.ack, batch)
