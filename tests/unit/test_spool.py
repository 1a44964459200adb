"""Store and forward: nothing is lost uncounted (failure stories 7 to 10)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.errors import ConfigError, StoreUnavailable
from collectors.base import Poll
from collectors.spool import NOT_OPEN, Limits, Pace, Spool, drain

START = datetime(2026, 11, 23, tzinfo=UTC)


def round_of(first: int, count: int = 1) -> list[Reading]:
    """Readings numbered from `first`; the number is the value."""
    return [
        Reading(f"p{i % 3}", START + timedelta(seconds=i), float(i), 900, 890)
        for i in range(first, first + count)
    ]


def numbers(readings: tuple[Reading, ...]) -> list[int]:
    return [int(reading.value) for reading in readings]


def dropped(spool: Spool) -> dict[str, int]:
    totals: dict[str, int] = {}
    for entry in spool.ledger():
        totals[entry.reason] = totals.get(entry.reason, 0) + entry.count
    return totals


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def test_readings_come_back_as_they_were(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s" / "spool.db")
    spool.append(round_of(0, 5))
    assert list(spool.take().readings) == round_of(0, 5)
    assert len(spool) == 5
    spool.close()
    spool.close()


def test_cursors_move_with_their_readings(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    dated = (Reading("a", START, 1.5, 900, 900), Reading("a", START + timedelta(hours=1), 2.5, 900, 900))
    assert spool.append_polls([Poll(START, dated=dated, cursor=("db", "1")), Poll(START, ("b",), (1.0,))])
    assert spool.append_polls([Poll(START, cursor=("db", "2")), Poll(START, cursor=("mqtt", "x"))])
    assert spool.take().readings == (*dated, Reading("b", START, 1.0))
    spool.close()
    again = Spool(path)
    assert again.cursors() == {"db": "2", "mqtt": "x"}
    again.close()


def test_a_cursor_does_not_move_before_its_readings_are_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    spool.append_polls([Poll(START, cursor=("db", "1"))])
    limit_pages(spool, 0)
    many = [Poll(START, tuple(f"p{n}" for n in range(20_000)), (1.0,) * 20_000, cursor=("db", "2"))]
    assert not spool.append_polls(many)
    assert spool.cursors() == {"db": "2"}, "what waits in memory is not read twice"
    seen = sqlite3.connect(":memory:")
    spool._db.backup(seen)
    assert seen.execute("SELECT position FROM cursor").fetchall() == [("1",)]
    seen.close()
    limit_pages(spool, 100_000)
    assert spool.append_polls([Poll(START, ("a",), (2.0,))])
    spool.close()
    again = Spool(path)
    assert again.cursors() == {"db": "2"}
    assert len(again) == 20_001
    again.close()


def test_polls_come_back_as_their_readings(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    polls = [
        Poll(START, ("a", "b"), (1.5, 2.5)),
        Poll(START),
        Poll(START + timedelta(minutes=1), ("a",), (3.5,)),
    ]
    spool.append_polls(polls)
    assert spool.take().readings == tuple(reading for poll in polls for reading in poll.readings)
    assert len(spool) == 3
    spool.close()


def test_what_was_appended_is_there_after_the_start(tmp_path: Path) -> None:
    """Failure stories 8 and 9: the edge is switched off, or boots without an uplink."""
    for day in range(3):
        spool = Spool(tmp_path / "spool.db")
        spool.append(round_of(10 * day, 10))
        spool.close()
    spool = Spool(tmp_path / "spool.db")
    assert numbers(spool.take().readings) == list(range(30))
    spool.close()


def test_a_batch_is_sent_again_until_it_is_acknowledged_and_then_never(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.append(round_of(0, 5))
    assert numbers(spool.take(3).readings) == numbers(spool.take(3).readings)
    assert spool.ack(spool.take(3))
    rest = spool.take(3)
    assert len(rest.readings) == 2
    spool.ack(rest)
    assert spool.take().readings == ()
    assert len(spool) == 0
    spool.close()


def test_live_readings_go_before_the_backlog(tmp_path: Path) -> None:
    old = Spool(tmp_path / "spool.db")
    old.append(round_of(0, 100))
    old.close()
    spool = Spool(tmp_path / "spool.db")
    spool.append(round_of(1000, 4))
    batch = spool.take(10)
    assert numbers(batch.readings) == [1000, 1001, 1002, 1003, 0, 1, 2, 3, 4, 5]
    assert batch.backlog == 6
    spool.ack(batch)
    spool.append(round_of(2000, 2))
    assert numbers(spool.take(10, backlog=1).readings) == [2000, 2001, 6]
    spool.close()


def test_a_long_outage_turns_live_readings_into_backlog(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    for i in range(10):
        spool.append(round_of(10 * i, 10))
        spool.take(20)
    seen: list[int] = []
    while (batch := spool.take(20)).readings:
        seen += numbers(batch.readings)
        spool.ack(batch)
    assert seen[:20] == list(range(80, 100))
    assert sorted(seen) == list(range(100))
    spool.close()


def test_a_full_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    """Failure story 10: recording goes on, the cap holds, nothing vanishes uncounted."""
    spool = Spool(tmp_path / "spool.db", Limits(readings=50))
    for i in range(20):
        spool.append(round_of(10 * i, 10))
        assert len(spool) <= 50
    assert numbers(spool.take(100).readings) == list(range(150, 200))
    assert dropped(spool) == {"full": 150}
    assert {entry.point for entry in spool.ledger()} == {"p0", "p1", "p2"}
    oldest = min(entry.oldest for entry in spool.ledger())
    newest = max(entry.newest for entry in spool.ledger())
    assert (oldest, newest) == (START, START + timedelta(seconds=149))
    spool.close()


def test_readings_that_waited_too_long_are_dropped_and_counted(tmp_path: Path) -> None:
    clock = Clock()
    spool = Spool(tmp_path / "spool.db", Limits(age_s=3600), clock=clock)
    spool.append(round_of(0, 10))
    clock.now += timedelta(hours=2)
    spool.append(round_of(10, 5))
    assert numbers(spool.take().readings) == list(range(10, 15))
    assert dropped(spool) == {"too_old": 10}
    spool.close()


def long_named(first: int, count: int) -> list[Reading]:
    """Readings as a site of many meters gives them."""
    at = START + timedelta(seconds=first)
    return [
        Reading(f"sh1.hall-2.rack-row-{i % 97:02d}.kwh", at, float(i)) for i in range(first, first + count)
    ]


def test_a_spool_of_so_many_bytes_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(max_bytes=1_000_000))
    for first in range(0, 40_000, 2_000):
        spool.append(long_named(first, 2_000))
    kept = len(spool)
    assert 5_000 < kept < 30_000
    assert (tmp_path / "spool.db").stat().st_size <= 1_300_000
    assert dropped(spool) == {"full": 40_000 - kept}
    assert numbers(spool.take(40_000).readings) == list(range(40_000 - kept, 40_000))
    assert spool.fill_ratio > 0.9
    spool.close()


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Let the disk have so much room."""
    usage = shutil._ntuple_diskusage(10**12, 10**12 - free_bytes, free_bytes)  # type: ignore[attr-defined]
    monkeypatch.setattr("collectors.spool.shutil.disk_usage", lambda path: usage)


def test_by_default_a_day_of_a_large_site_fits_and_half_of_the_free_disk_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failure story 40: 133 readings a second, as 2,000 meters at 15 s give them."""
    free(monkeypatch, 2_000_000_000)
    spool = Spool(tmp_path / "spool.db")
    spool.append(long_named(0, 20_000))
    assert spool.limits.age_s == 7 * 86_400
    assert spool.room() > 133 * 86_400
    used_by_all = spool.room() * (tmp_path / "spool.db").stat().st_size / 20_000
    assert used_by_all < 1.1e9
    free(monkeypatch, 400_000)
    spool.append(long_named(20_000, 100))
    assert len(spool) < 20_000, "others fill the disk: the spool gives way"
    assert dropped(spool) == {"full": 20_100 - len(spool)}
    spool.close()


def test_a_spool_that_is_half_full_is_said_once(tmp_path: Path) -> None:
    clock = Clock()
    with structlog.testing.capture_logs() as said:
        spool = Spool(tmp_path / "spool.db", Limits(readings=100, age_s=1000), clock=clock)
        for i in range(7):
            spool.append(round_of(10 * i, 10))
        assert [entry["waiting"] for entry in said] == [50]
        assert spool.fill_ratio == 0.7
        spool.ack(spool.take(100))
        spool.append(round_of(70, 1))
        assert [entry["log_level"] for entry in said] == ["warning", "info"]
        clock.now += timedelta(seconds=600)
        spool.append(round_of(71, 1))
        assert spool.fill_ratio == 0.6
        assert [entry["log_level"] for entry in said] == ["warning", "info", "warning"]
    spool.close()


def test_what_is_being_sent_is_not_dropped_meanwhile(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(readings=10))
    spool.append(round_of(0, 10))
    in_flight = spool.take(4)
    spool.append(round_of(10, 5))
    assert dropped(spool) == {"full": 5}
    spool.ack(in_flight)
    left = numbers(spool.take().readings)
    assert len(left) == 15 - 5 - 4
    assert not set(left) & set(numbers(in_flight.readings))
    spool.close()


def test_the_ledger_outlives_the_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(readings=1))
    spool.append(round_of(0, 4))
    name = spool.id
    spool.close()
    again = Spool(tmp_path / "spool.db")
    assert dropped(again) == {"full": 3}
    assert again.id == name
    again.close()


@pytest.mark.parametrize("damage", ["garbage", "header", "middle", "empty_wal", "truncated"])
def test_a_corrupt_file_is_set_aside_and_never_blocks_the_start(tmp_path: Path, damage: str) -> None:
    """Failure story 7."""
    path = tmp_path / "spool.db"
    spool = Spool(path)
    for i in range(50):
        spool.append(round_of(100 * i, 100))
    spool.close()
    _damage(path, damage)
    spool = Spool(path)
    assert spool.set_aside == (damage != "empty_wal")
    assert len(list(tmp_path.glob("*.corrupt-*"))) >= spool.set_aside
    rescued = numbers(spool.take(10_000).readings)
    assert len(rescued) == len(set(rescued))
    assert damage not in ("middle", "truncated", "empty_wal") or len(rescued) > 1000
    spool.append(round_of(90_000, 1))
    assert 90_000 in numbers(spool.take(10_000).readings)
    spool.close()


def _damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "garbage":
        data = bytearray(b"this is no database" * 1000)
    elif how == "header":
        data[0:100] = bytes(100)
    elif how == "middle":
        middle = len(data) // 2 // 4096 * 4096
        data[middle : middle + 4096] = b"\xff" * 4096
    elif how == "truncated":
        data = data[: len(data) * 3 // 4]
    else:
        path.with_name(path.name + "-wal").write_bytes(b"\0" * 100)
    path.write_bytes(bytes(data))


def test_a_file_that_breaks_while_in_use_is_replaced(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.append(round_of(0, 10))

    class Breaks:
        def execute(self, *_: object) -> None:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        def close(self) -> None:
            real.close()

    real, spool._db = spool._db, Breaks()  # type: ignore[assignment]
    spool.append(round_of(10, 1))
    assert spool.set_aside == 1
    assert sorted(numbers(spool.take().readings)) == list(range(11))
    spool.close()


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A small disk; filled by the first call of what it gives, and emptied by the second."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk of its own: mounting is not allowed here")
    stranger = folder / "stranger"

    def fill_or_empty() -> None:
        if stranger.exists():
            stranger.unlink()
            return
        with stranger.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    try:
        yield fill_or_empty
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_spool_for_which_there_is_no_room_waits_for_it(tmp_path: Path) -> None:
    with full_disk(tmp_path) as fill_or_empty:
        fill_or_empty()
        with structlog.testing.capture_logs() as said:
            spool = Spool(tmp_path / "spool.db", Limits(memory_readings=20))
        assert [line["event"] for line in said] == ["spool cannot be written; readings wait in memory"]
        assert not spool.append_polls([Poll(START, ("p",), (1.0,), cursor=("d", "7"))])
        spool.append(round_of(0, 30))
        assert (spool.is_open, spool.disk_full, spool.fill_ratio, spool.room()) == (False, True, 1.0, 20)
        assert not spool.try_open()
        assert spool.id == NOT_OPEN
        spool.ack(spool.take(5))
        assert (len(spool), dropped(spool)) == (15, {"disk_full": 11})
        fill_or_empty()
        assert spool.try_open()
        assert numbers(spool.take().readings) == list(range(15, 30))
        spool.close()
        again = Spool(tmp_path / "spool.db")
        assert (len(again), dropped(again), again.cursors()) == (15, {"disk_full": 11}, {"d": "7"})
        again.close()


def test_a_spool_on_a_full_disk_sends_what_waits_in_it(tmp_path: Path) -> None:
    with full_disk(tmp_path) as fill_or_empty:
        with contextlib.closing(Spool(tmp_path / "spool.db")) as spool:
            spool.append(round_of(0, 5))
            name = spool.id
        fill_or_empty()
        with contextlib.closing(Spool(tmp_path / "spool.db")) as spool:
            assert (spool.is_open, spool.id) == (True, name)
            assert numbers(spool.take().readings) == list(range(5))


def test_a_corrupt_file_on_a_full_disk_is_rescued_when_there_is_room(tmp_path: Path) -> None:
    with full_disk(tmp_path) as fill_or_empty:
        with contextlib.closing(Spool(tmp_path / "spool.db")) as spool:
            spool.append(round_of(0, 2000))
        with (tmp_path / "spool.db").open("r+b") as file:
            file.seek(-4096, 2)
            file.write(bytes(range(256)) * 16)
        fill_or_empty()
        spool = Spool(tmp_path / "spool.db")
        spool.append(round_of(5000, 1))
        assert (spool.is_open, spool.set_aside, len(spool)) == (False, 1, 1)
        fill_or_empty()
        spool.append(round_of(5001, 1))
        assert (spool.is_open, spool.set_aside) == (True, 1)
        assert len(spool) > 1500
        spool.close()


def test_readings_that_a_full_disk_never_took_are_named_at_the_end(tmp_path: Path) -> None:
    with full_disk(tmp_path) as fill_or_empty:
        fill_or_empty()
        spool = Spool(tmp_path / "spool.db")
        spool.append(round_of(0, 3))
        with structlog.testing.capture_logs() as said:
            spool.close()
        assert [(line["event"], line["readings"]) for line in said] == [
            ("the disk is full: readings in memory are lost", 3)
        ]


def test_a_full_disk_keeps_readings_in_memory_and_loses_none_within_its_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(memory_readings=30))
    spool.append(round_of(0, 10))
    limit_pages(spool, 0)
    for i in range(1, 40):
        spool.append(round_of(1000 * i, 1000)[:10])
    assert spool.disk_full
    assert len(spool._memory.rows) <= 30
    lost = dropped(spool)["disk_full"]
    kept = len(spool)
    assert kept + lost == 10 + 39 * 10
    batch = spool.take(5)
    assert len(batch.readings) == 5
    spool.ack(batch)
    limit_pages(spool, 1_000_000)
    spool.append(round_of(90_000, 1))
    assert not spool.disk_full
    assert len(spool) == kept - 5 + 1
    assert dropped(spool) == {"disk_full": lost}
    spool.close()


def limit_pages(spool: Spool, most: int) -> None:
    """Let SQLite meet a full disk: the file may not grow beyond its present size."""
    spool._db.execute(f"PRAGMA max_page_count = {most or 1}")


def test_a_disk_that_is_really_full_loses_nothing_and_recovers(tmp_path: Path) -> None:
    """A file system of 2 MiB, filled by the spool itself and by a stranger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a tmpfs here")
    try:
        spool = Spool(disk / "spool.db")
        spool.append(round_of(0, 100))
        stranger = disk / "stranger"
        with stranger.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        for i in range(1, 20):
            spool.append(round_of(1000 * i, 500))
        assert spool.disk_full
        assert len(spool) == 100 + 19 * 500
        stranger.unlink()
        spool.append(round_of(99_000, 1))
        assert not spool.disk_full
        spool.close()
        again = Spool(disk / "spool.db")
        assert len(again) == 100 + 19 * 500 + 1
        assert again.ledger() == ()
        again.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool.db")
    with pytest.raises(ConfigError, match="this process alone"):
        Spool(tmp_path / "spool.db")
    first.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no folder for the spool"):
        Spool(tmp_path / "file" / "spool.db")


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from collectors.spool import Spool; "
        "from tests.unit.test_spool import round_of; spool = Spool(Path(sys.argv[1]))\n"
        "for i in range(1000):\n    spool.append(round_of(10 * i, 10)); print(i, flush=True)"
    )
    path = tmp_path / "spool.db"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    last = list(itertools.islice(child.stdout, 20))[-1]
    child.kill()
    child.wait()
    child.stdout.close()
    spool = Spool(path)
    kept = numbers(spool.take(100_000).readings)
    assert set(range(10 * (int(last) + 1))) <= set(kept)
    assert len(kept) % 10 == 0
    spool.close()


async def test_draining_waits_ever_longer_for_the_store_and_then_sends_everything_once(
    tmp_path: Path,
) -> None:
    """Failure stories 8 and 9: the data arrives, and retries do not overload the receiver."""
    spool = Spool(tmp_path / "spool.db")
    spool.append(round_of(0, 25))
    stored: list[int] = []
    pauses: list[float] = []
    away = iter([True] * 5)

    async def send(readings: tuple[Reading, ...]) -> None:
        if next(away, False):
            raise StoreUnavailable("the database is away")
        stored.extend(numbers(readings))

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(spool) == 0 and seconds == 0.5:
            raise asyncio.CancelledError

    pace = Pace(batch=10, idle_s=0.5, first_pause_s=1, longest_pause_s=4)
    with pytest.raises(asyncio.CancelledError):
        await drain(spool, send, pace, sleep=sleep)
    assert pauses[:5] == [1, 2, 4, 4, 4]
    assert sorted(stored) == list(range(25))
    spool.close()


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["append", "send", "lose", "restart"]), max_size=40),
    limit=st.integers(5, 60),
)
def test_every_reading_is_waiting_sent_or_in_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], limit: int
) -> None:
    """The invariant, whatever happens in whatever order."""
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    spool = Spool(path, Limits(readings=limit))
    appended, stored = 0, set[int]()
    actions: dict[str, Callable[[], None]] = {
        "send": lambda: stored.update(_sent(spool)),
        "lose": lambda: stored.update(numbers(spool.take(7).readings)),
    }
    for step in steps:
        if step == "append":
            spool.append(round_of(appended, 9))
            appended += 9
        elif step == "restart":
            spool.close()
            spool = Spool(path, Limits(readings=limit))
        else:
            actions[step]()
    waiting = set(numbers(spool.take(10_000).readings))
    missing = set(range(appended)) - waiting - stored
    assert len(missing) <= sum(dropped(spool).values())
    assert len(spool) == len(waiting) <= max(limit, 9)
    spool.close()


def _sent(spool: Spool) -> list[int]:
    batch = spool.take(7)
    spool.ack(batch)
    return numbers(batch.readings)
