"""Spool: readings a second that survive a power cut, and how fast they leave it again.

Every append is one commit that is synced to the disk, 2 000 readings each: the whole way from polls of ten
points, as the poller hands them over, to `Reading` objects, as the store takes them.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.table import Row, paired
from collectors.base import Poll
from collectors.spool import Spool

TITLE = "Spool: readings a second, full sync, 2 000 a commit"
BATCH = 2000
POINTS = 10
"""Of one poll."""
COMMITS = 50
ROUNDS = 7
START = datetime(2026, 11, 23, tzinfo=UTC)


def run() -> list[Row]:
    """All rows of this bench."""
    written, drained, bare = [], [], []
    rounds = [_round_of(i) for i in range(COMMITS)]
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="wattline-bench-", dir=_on_disk()) as folder:
            bare.append(_bare(Path(folder) / "bare.db", rounds))
            write_s, drain_s = _spool(Path(folder) / "spool.db", rounds)
            written.append(write_s)
            drained.append(drain_s)
    ours, out, peer = (BATCH * COMMITS / statistics.median(times) for times in (written, drained, bare))
    ratio = paired(bare, written)
    return [
        Row(
            "append",
            f"{ours:.0f}/s",
            f"sqlite3 executemany {peer:.0f}/s",
            ratio.ratio,
            ">= 100 000/s",
            f"the peer writes the same columns from ready tuples and keeps no limits; {ratio}",
        ),
        Row("take and acknowledge", f"{out:.0f}/s", "", None, "", "2 000 a batch"),
    ]


def _on_disk() -> str:
    """A folder on a disk that is really synced, not in memory."""
    return os.environ.get("WATTLINE_BENCH_DIR", str(Path(__file__).parents[1]))


def _round_of(number: int) -> list[Poll]:
    at = START + timedelta(minutes=number)
    return [_poll(at, meter, 1e6 + number * 0.25) for meter in range(BATCH // POINTS)]


def _poll(at: datetime, meter: int, value: float) -> Poll:
    points = tuple(f"site-a-meter-{meter:03}-energy-{n}" for n in range(POINTS))
    return Poll(at, points, tuple(value + n for n in range(POINTS)))


def _spool(path: Path, rounds: list[list[Poll]]) -> tuple[float, float]:
    spool = Spool(path)
    start = time.perf_counter()
    for polls in rounds:
        spool.append_polls(polls)
    written = time.perf_counter()
    taken = 0
    while (batch := spool.take(BATCH)).readings:
        taken += len(batch.readings)
        spool.ack(batch)
    done = time.perf_counter()
    spool.close()
    assert taken == BATCH * COMMITS
    return written - start, done - written


def _bare(path: Path, rounds: list[list[Poll]]) -> float:
    rows = [
        [(r.point, int(r.at.timestamp() * 1e6), r.value, 0, 0, 0) for poll in one for r in poll.readings]
        for one in rounds
    ]
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE reading (id INTEGER PRIMARY KEY, a TEXT, b INT, c REAL, d INT, e INT, f INT)")
    start = time.perf_counter()
    for one in rows:
        db.execute("BEGIN")
        db.executemany("INSERT INTO reading (a, b, c, d, e, f) VALUES (?, ?, ?, ?, ?, ?)", one)
        db.execute("COMMIT")
    took_s = time.perf_counter() - start
    db.close()
    return took_s
