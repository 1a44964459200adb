"""The jobs on a real database: ingest with its ledger, watched folders, evaluation, the worker."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from apscheduler.jobstores.base import JobLookupError

from app import config
from app.domain.reading import Reading
from app.domain.site import Fleet
from app.errors import StoreUnavailable
from app.jobs import evaluate, rollup
from app.jobs import scheduler as schedule
from app.jobs.ingest import Ingest
from app.jobs.scheduler import Guarded, Job, Scheduler
from app.jobs.watch import Folders
from app.jobs.worker import Worker
from app.store import evaluations, findings, readings, sites
from app.telemetry import Telemetry
from collectors import polling as polling_module
from collectors import registry
from collectors.base import Poll
from collectors.csv import reader
from collectors.poller import Device
from collectors.polling import Polling, readings_per_s
from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from collectors.spool import Limits, Spool, drain
from tests.unit.test_spool import full_disk
from tests.waiting import until

START = datetime(2026, 3, 1, tzinfo=UTC)

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        points: [{id: ups.kwh, role: it_pdu_output, kind: register}]
"""


@pytest.fixture
def fleet(engine: sa.Engine) -> Fleet:
    """The site, declared."""
    declared = config.parse(SITE).fleet
    with engine.begin() as connection:
        sites.sync(connection, declared)
    return declared


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite", Limits(readings=100))
    yield spool
    spool.close()


def scalar(engine: sa.Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text(query)).scalar_one() or 0)


def register(point: str, count: int, kw: float = 100.0) -> list[Reading]:
    return [Reading(point, START + timedelta(minutes=15 * i), kw / 4 * i) for i in range(count)]


# -- ingest ------------------------------------------------------------------------------------------


def test_what_cannot_be_stored_is_counted_and_the_rest_is_stored(engine: sa.Engine, fleet: Fleet) -> None:
    told: list[int] = []
    ingest = Ingest(engine, "poller", on_stowed=lambda s: told.append(s.by_site["sh1"]))
    bad = [
        Reading("main.kwh", START + timedelta(days=1), math.nan),
        Reading("main.kwh", datetime(1970, 1, 1, tzinfo=UTC), 1.0),
        Reading("gone.kwh", START, 1.0),
    ]
    stowed = ingest.stow([*bad, *register("main.kwh", 10)])
    assert told == [10]
    assert [d.reason for d in stowed.drops] == ["refused", "refused", "unknown_point"]
    assert scalar(engine, "SELECT count(*) FROM readings") == 10
    assert scalar(engine, "SELECT sum(readings) FROM dropped_readings") == 3
    assert scalar(engine, "SELECT count(*) FROM dropped_readings WHERE site_id IS NULL") == 1


def test_a_batch_sent_again_changes_nothing(engine: sa.Engine, fleet: Fleet) -> None:
    ingest = Ingest(engine, "poller")
    gone = [Reading("gone.kwh", START, 1.0), Reading("gone.kwh", START, 2.0)]
    for _ in range(2):
        ingest.stow([*register("main.kwh", 10), *gone])
    assert scalar(engine, "SELECT count(*) FROM readings") == 10
    assert scalar(engine, "SELECT sum(readings) FROM dropped_readings") == 2


def test_a_point_declared_later_is_found(engine: sa.Engine, fleet: Fleet) -> None:
    ingest = Ingest(engine, "poller")
    ingest.stow(register("main.kwh", 1))
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE.replace("ups.kwh", "ups.energy")).fleet)
    ingest.stow(register("ups.energy", 3))
    assert scalar(engine, "SELECT count(*) FROM readings") == 4


def test_the_ledger_of_the_spool_reaches_the_store_once(
    engine: sa.Engine, fleet: Fleet, spool: Spool
) -> None:
    ingest = Ingest(engine, "poller")
    assert ingest.write_ledger(spool) == 0
    spool.append(register("main.kwh", 130))
    assert ingest.write_ledger(spool) == 30
    assert ingest.write_ledger(spool) == 0
    spool.append(register("ups.kwh", 5))
    assert ingest.write_ledger(spool) == 5
    assert scalar(engine, "SELECT sum(readings) FROM dropped_readings WHERE reason = 'full'") == 35


# -- watched folders ---------------------------------------------------------------------------------


def test_a_file_that_makes_the_import_fail_holds_up_no_other(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    section = f"collector: {{kind: csv_folder, folder: {tmp_path}, settle_s: 1}}\n        points: [{{id: main"
    declared = config.parse(SITE.replace("points: [{id: main", section)).fleet
    with engine.begin() as connection:
        sites.sync(connection, declared)
    (tmp_path / "a.csv").write_text("time,main.kwh\n2026-03-01 00:00,1\n2026-03-01 00:15,2\n")
    (tmp_path / "b.csv").write_text("time,main.kwh\n2026-03-01 00:30,3\n2026-03-01 00:45,4\n")
    understand = reader.understand

    def failing(path: Path, *others: Any) -> Any:
        if path.name == "a.csv":
            raise IndexError("a fault of ours")
        return understand(path, *others)

    monkeypatch.setattr(reader, "understand", failing)
    folders = Folders()
    folders.follow(declared)
    folders.run(engine, START)
    assert folders.run(engine, START + timedelta(seconds=2)) == 1
    assert scalar(engine, "SELECT count(*) FROM readings") == 2
    assert "the import failed unexpectedly" in (tmp_path / "refused" / "a.csv.reason.txt").read_text()
    assert "a.csv" in capfd.readouterr().out


def test_a_file_is_done_after_the_commit_and_a_bad_one_is_set_aside(
    engine: sa.Engine, tmp_path: Path
) -> None:
    section = f"collector: {{kind: csv_folder, folder: {tmp_path}, settle_s: 5}}\n        points: [{{id: main"
    declared = config.parse(SITE.replace("points: [{id: main", section)).fleet
    with engine.begin() as connection:
        sites.sync(connection, declared)
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("time,main.kwh\n2026-03-01 00:00,1\n2026-03-01 00:15,2\n2026-03-01 00:30,3\n")
    bad.write_text("no table\n")
    folders = Folders()
    folders.follow(declared)
    assert folders.run(engine, START) == 0
    assert good.exists()
    assert folders.run(engine, START + timedelta(seconds=6)) == 1
    assert sorted(os.listdir(tmp_path)) == ["done", "refused"]
    assert (tmp_path / "done" / "good.csv").exists()
    assert (tmp_path / "refused" / "bad.csv.reason.txt").read_text().startswith(str(bad))
    assert scalar(engine, "SELECT count(*) FROM readings") == 3


def test_a_file_set_aside_is_a_finding_until_it_is_imported_or_removed(
    engine: sa.Engine, tmp_path: Path
) -> None:
    section = f"collector: {{kind: csv_folder, folder: {tmp_path}, settle_s: 5}}\n        points: [{{id: main"
    declared = config.parse(SITE.replace("points: [{id: main", section)).fleet
    with engine.begin() as connection:
        sites.sync(connection, declared)
    folders, telemetry, looks = Folders(), Telemetry(), count(0, 10)
    folders.follow(declared)

    def aside() -> dict[str, str]:
        for _ in range(2):
            folders.run(engine, START + timedelta(seconds=next(looks)))
        with engine.begin() as connection:
            found = findings.listing(connection, sites.load(connection).site_id["sh1"])
        telemetry.look_at_progress(engine)
        assert f'wattline_import_failed_files{{site="sh1"}} {len(found)}.0' in telemetry.exposition().decode()
        assert all((f.kind, f.severity, f.point) == ("import_failed", "warning", "") for f in found)
        return {Path(f.evidence["file"]).name: f.evidence["reason"] for f in found}

    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):
        (tmp_path / name).write_text("no table\n")
    refused, good = tmp_path / "refused", "time,main.kwh\n2026-03-01 00:00,1\n2026-03-01 00:15,2\n"
    found = aside()
    assert sorted(found) == ["a.csv", "b.csv", "c.csv", "d.csv"]
    assert "expected rows of a time" in found["a.csv"]
    assert aside() == found
    (tmp_path / "a.csv").write_text(good)  # the sender delivers it again
    (refused / "b.csv").write_text(good.replace("-01 ", "-02 "))  # somebody mends it where it lies
    (refused / "c.csv").unlink()
    (refused / "d.csv").write_text("still no table\n")
    assert sorted(aside()) == ["d.csv"]
    assert scalar(engine, "SELECT count(*) FROM readings") == 4
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["a.csv", "b.csv"]
    assert sorted(p.name for p in refused.iterdir() if "b.csv" in p.name) == []
    folders = Folders()
    folders.follow(declared)
    assert sorted(aside()) == ["d.csv"]
    folders.follow(config.parse(SITE).fleet)
    assert aside() == {}


def test_an_imported_file_that_cannot_be_moved_holds_up_no_other(engine: sa.Engine, tmp_path: Path) -> None:
    section = f"collector: {{kind: csv_folder, folder: {tmp_path}, settle_s: 1}}\n        points: [{{id: main"
    declared = config.parse(SITE.replace("points: [{id: main", section)).fleet
    with engine.begin() as connection:
        sites.sync(connection, declared)
    (tmp_path / "done").write_text("in the way\n")
    (tmp_path / "a.csv").write_text("time,main.kwh\n2026-03-01 00:00,1\n2026-03-01 00:15,2\n")
    (tmp_path / "b.csv").write_text("time,main.kwh\n2026-03-01 00:30,3\n2026-03-01 00:45,4\n")
    folders = Folders()
    folders.follow(declared)
    for second in (0, 2, 4):
        folders.run(engine, START + timedelta(seconds=second))
    assert scalar(engine, "SELECT count(*) FROM readings") == 4


def test_a_folder_that_is_away_stops_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    section = f"collector: {{kind: csv_folder, folder: {tmp_path / 'no'}}}\n        points: [{{id: main"
    folders = Folders()
    folders.follow(config.parse(SITE.replace("points: [{id: main", section)).fleet)
    assert folders.run(engine, START) == 0


def test_a_first_reading_on_a_quarter_hour_does_not_hold_up_the_rollup(
    engine: sa.Engine, fleet: Fleet
) -> None:
    ingest = Ingest(engine, "poller")
    for reading in register("main.kwh", 3):
        ingest.stow([reading])
        rollup.run(engine)
    assert scalar(engine, "SELECT count(*) FROM energy_15m") == 2
    assert scalar(engine, "SELECT count(*) FROM rollup_queue") == 0


# -- scheduler ---------------------------------------------------------------------------------------


def test_a_job_that_fails_comes_again() -> None:
    outcomes = iter([StoreUnavailable("away"), ValueError("a fault"), None])
    done: list[str] = []

    def work() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        done.append("done")

    guarded = Guarded(Job("test", work, 1.0))
    for _ in range(3):
        guarded()
    assert done == ["done"]


def test_the_scheduler_runs_and_stops() -> None:
    ran: list[int] = []
    scheduler = Scheduler([Job("often", lambda: ran.append(1), 0.05), Job("daily", lambda: ran.append(2))])
    scheduler.start()
    until(lambda: 1 in ran)
    scheduler.stop()
    assert 2 not in ran


def test_no_job_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "WALL_CLOCK_LOOK_S", 0.01)
    at = [datetime(2026, 3, 1, 23, 59, tzinfo=UTC)]
    release, ran = threading.Event(), threading.Event()
    stuck = [Job(f"long {n}", release.wait, 0.01) for n in range(30)]
    stuck += [Job(f"daily {n}", release.wait, daily_at="00:00") for n in range(5)]
    scheduler = Scheduler([*stuck, Job("alarms", ran.set, 0.01)], now=lambda: at[0])
    scheduler.start()
    at[0] += timedelta(minutes=1)
    try:
        until(lambda: len(scheduler.running()) >= len(stuck), name="jobs that hang")
        ran.clear()
        until(ran.is_set, name="the one that does not")
        scheduler.end()
        assert sorted(scheduler.wait(0.05)) == sorted(job.name for job in stuck)
    finally:
        release.set()
        scheduler.stop()
    assert scheduler.wait(0.0) == []


def test_a_daily_job_runs_once_a_day_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "WALL_CLOCK_LOOK_S", 0.01)
    at, seen, ran = [datetime(2026, 3, 1, 4, 0, tzinfo=UTC)], [0], list[datetime]()

    def clock() -> datetime:
        seen[0] += 1
        return at[0]

    def looked_at(now: datetime) -> int:
        at[0], before = now, seen[0]
        until(lambda: seen[0] >= before + 3, name="looks at the clock")
        return len(ran)

    scheduler = Scheduler([Job("daily", lambda: ran.append(at[0]), daily_at="03:17")], now=clock)
    scheduler.start()
    try:
        start = at[0]
        assert looked_at(start) == 0, "its time of this day had passed"
        assert looked_at(start + timedelta(hours=23)) == 0
        assert looked_at(start + timedelta(hours=24)) == 1
        assert looked_at(start + timedelta(hours=25)) == 1
        assert looked_at(start + timedelta(hours=12)) == 1, "a clock set back begins no new day"
        assert looked_at(start + timedelta(days=3)) == 2
        assert looked_at(start + timedelta(days=4000)) == 3
        assert looked_at(start + timedelta(days=4)) == 3
        assert looked_at(start + timedelta(days=5)) == 4, "a clock that was ahead for years stops nothing"
    finally:
        scheduler.stop()


def test_daily_jobs_go_on_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "WALL_CLOCK_LOOK_S", 0.2)
    ahead_s, looked = [0.0], threading.Event()

    def now() -> datetime:
        looked.set()
        return START

    scheduler = Scheduler([Job("daily", lambda: None)], now=now, wall_ahead_s=lambda: ahead_s[0])
    scheduler.start()

    def put_off() -> bool:
        """Have the next look lie far ahead, as it does once the clock was set back."""
        with contextlib.suppress(JobLookupError):  # it is at work
            scheduler._scheduler.modify_job("daily", next_run_time=datetime.now(UTC) + timedelta(hours=12))
        looked.clear()
        return not looked.wait(0.5)

    try:
        until(looked.is_set, name="the first look")
        until(put_off, name="an end of its looks")
        ahead_s[0] = -43_200.0
        until(looked.is_set, name="the job again")
    finally:
        scheduler.stop()


def test_a_job_rests_in_proportion_to_what_it_took() -> None:
    job = Job("findings", lambda: None, every_s=15.0, busy_ratio=0.2)
    assert job.pause_s(0.0) == 15.0
    assert job.pause_s(1.0) == 14.0
    assert job.pause_s(100.0) == pytest.approx(400.0)
    assert Job("rollup", lambda: None, every_s=3.0).pause_s(100.0) == 0.0
    rested = Job("rollup", lambda: None, every_s=3.0, busy_ratio=0.02, longest_rest_s=15.0)
    assert [rested.pause_s(took_s) for took_s in (0.02, 0.2, 100.0)] == pytest.approx([2.98, 9.8, 15.0])
    hurried = replace(rested, may_rest=lambda: False)
    assert [hurried.pause_s(took_s) for took_s in (0.02, 100.0)] == pytest.approx([2.98, 0.0])


def test_what_jobs_did_is_told() -> None:
    outcomes = iter([None, ValueError("a fault"), None])

    def work() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    guarded = Guarded(Job("test", work, 1.0))
    guarded()
    first = guarded.tally
    guarded()
    assert (first.runs, guarded.tally.runs) == (1, 2)
    assert first.last_success_s is not None
    assert guarded.tally.last_success_s == first.last_success_s, "a fault is no success"
    guarded()
    assert list(guarded.tally.runs_up_to.values())[-1] == 3
    assert guarded.tally.last_success_s > first.last_success_s


def test_how_busy_a_job_is() -> None:
    now_s = [1000.0]
    busy = schedule.Busy(lambda: now_s[0])
    assert busy.ratio() == 0.0
    busy.begin()
    now_s[0] += 30.0
    assert busy.ratio() == pytest.approx(30 / schedule.BUSY_WINDOW_S), "a run that has not ended counts"
    busy.end()
    now_s[0] += schedule.BUSY_WINDOW_S - 15.0
    assert busy.ratio() == pytest.approx(15 / schedule.BUSY_WINDOW_S)
    busy.begin()
    now_s[0] += 10 * schedule.BUSY_WINDOW_S
    assert busy.ratio() == 1.0


# -- evaluation and the worker -----------------------------------------------------------------------


def test_all_windows_are_evaluated(engine: sa.Engine, fleet: Fleet) -> None:
    now = START + timedelta(hours=25)
    with engine.begin() as connection:
        numbers = dict(sites.load(connection).point_id)
        rows = [*register("main.kwh", 101, 144.0), *register("ups.kwh", 101)]
        readings.ingest_readings(connection, rows, numbers)
    rollup.run(engine)
    assert evaluate.run(engine, now) == 1
    with engine.connect() as connection:
        found = {name: doc for _, name, _, doc in evaluations.load(connection, [1])}
    assert set(found) == {"15m", "1h", "24h", "7d", "30d", "mtd", "ytd", "12mo"}
    assert found["24h"]["pue"] == pytest.approx(1.44)
    assert found["30d"]["pue"] is None


METERED = """
      - id: {meter}
        collector: {{kind: modbus, host: {host}, port: {port}, device_id: 1, profile: schneider_iem3000,
                     interval_s: 0.2}}
        points: [{{id: {meter}.kwh, role: facility, kind: register, interval_s: 1}}]
"""


def polled(port: int, *meters: str) -> Fleet:
    head = SITE[: SITE.index("      - id: main")]
    hosts = ("127.0.0.1", "localhost")  # one device by two names, for a file may not say it twice
    metered = (METERED.format(meter=m, port=port, host=h) for m, h in zip(meters, hosts, strict=False))
    return config.parse(head + "".join(metered)).fleet


async def test_a_meter_is_polled_into_the_store_and_a_new_one_is_followed(
    engine: sa.Engine, spool: Spool
) -> None:
    unit = SimulatedUnit(load_profile("schneider_iem3000"), lambda channel, at: 1234.0)
    server = await SimulatedModbus({1: unit}).start()
    ingest = Ingest(engine, "poller")
    polling = Polling(spool, partial(drain, send=ingest.send))
    try:
        for meters in (("one",), ("one", "two")):
            fleet = polled(server.port, *meters)
            with engine.begin() as connection:
                sites.sync(connection, fleet)
            polling.follow(fleet)
            if len(meters) == 1:
                polling.start()
            await asyncio.to_thread(until, lambda n=len(meters): _points_read(engine) == n)
        assert {name for name, state in polling.states.items() if state.up} <= {"one", "two"}
    finally:
        await asyncio.to_thread(polling.stop)
        await server.close()


class Remembering:
    """A source that keeps its readings until it is told that they are kept here."""

    device = "r"

    def __init__(self) -> None:
        self.asked_from: list[str] = []
        self._cursor = "nowhere"

    def resume(self, cursor: str) -> None:
        self._cursor = cursor

    async def poll(self, at: datetime) -> Poll:
        self.asked_from.append(self._cursor)
        return Poll(at, ("r.kwh",), (1.0,), cursor=("r", "next"))

    async def close(self) -> None:
        """Nothing is held."""


class Plain:
    """A device that knows the present only."""

    device = "p"

    async def poll(self, at: datetime) -> Poll:
        return Poll(at, ("p.kwh",), (1.0,))

    async def close(self) -> None:
        """Nothing is held."""


def test_while_the_spool_waits_for_room_only_what_remembers_nothing_is_asked(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = polled(1, "one")
    asked_at = registry.parse(fleet.sites[0].meters[0].collector or {})
    source, plain = Remembering(), Plain()
    asked = [Device(source, asked_at), Device(plain, asked_at)]
    monkeypatch.setattr(polling_module, "devices", lambda fleet: asked)
    with full_disk(tmp_path) as fill_or_empty:
        fill_or_empty()
        spool = Spool(tmp_path / "spool.sqlite")
        polling = Polling(spool, lambda spool: drain(spool, Ingest(engine, "poller").send), threading.Event())
        try:
            polling.follow(fleet)
            polling.start()
            until(lambda: len(spool) > 2, name="readings in memory")
            assert (spool.is_open, source.asked_from) == (False, [])
            fill_or_empty()
            until(lambda: source.asked_from, name="the source asked")
            assert spool.is_open
            assert source.asked_from[0] == ""
        finally:
            polling.stop()
            spool.close()


def _points_read(engine: sa.Engine) -> int:
    return scalar(engine, "SELECT count(DISTINCT point_id) FROM readings")


def test_the_worker_computes_by_itself(engine: sa.Engine, fleet: Fleet, tmp_path: Path) -> None:
    evaluated: list[int] = []
    worker = Worker(engine, tmp_path, on_evaluated=lambda: evaluated.append(1))
    worker.poll(fleet)
    worker.work()
    try:
        with engine.begin() as connection:
            numbers = dict(sites.load(connection).point_id)
            readings.ingest_readings(connection, [*register("main.kwh", 9), *register("ups.kwh", 9)], numbers)
        until(lambda: scalar(engine, "SELECT count(*) FROM site_15m") == 8)
        until(lambda: evaluated)
        until(lambda: scalar(engine, "SELECT count(*) FROM evaluations") == 8)
    finally:
        worker.stop()


def test_a_disk_too_small_for_the_days_that_are_asked_for_is_said(engine: sa.Engine, tmp_path: Path) -> None:
    worker = Worker(engine, tmp_path, spool_limits=Limits(age_s=7 * 86_400, max_bytes=6_400_000))
    assert readings_per_s(polled(1, "one", "two")) == 10.0
    with structlog.testing.capture_logs() as said:
        for _ in range(2):
            worker._follow(polled(1, "one", "two"))
    (entry,) = [e for e in said if "WATTLINE_SPOOL_DAYS" in e["event"]]
    assert (entry["days"], entry["asked_days"]) == (0.12, 7.0)
    worker.stop()


def test_readings_wait_until_the_database_knows_their_points(engine: sa.Engine, tmp_path: Path) -> None:
    worker = Worker(engine, tmp_path)
    worker.spool.append(register("main.kwh", 9))
    worker.poll(Fleet())
    try:
        until(lambda: worker.polling._loop is not None, name="the polling thread")
        with engine.begin() as connection:
            sites.sync(connection, config.parse(SITE).fleet)
        worker.work()
        until(lambda: len(worker.spool) == 0, name="an empty spool")
    finally:
        worker.stop()
    assert scalar(engine, "SELECT count(*) FROM readings") == 9
    assert scalar(engine, "SELECT count(*) FROM dropped_readings") == 0
