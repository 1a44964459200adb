"""``wattline serve`` while one of its jobs hangs: nothing else waits, and it stops soon, losing nothing."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.store.engine import make_engine
from tests.e2e.processes import PROGRAM, Running, running
from tests.waiting import until

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - {id: main, rated_power_kw: 1000, points: [{id: main.kwh, role: facility, kind: register}]}
      - id: quick
        collector: {kind: modbus, host: 127.0.0.1, port: 1, profile: schneider_iem3000, timeout_s: 0.5,
                    interval_s: 60}
        points: [{id: quick.kwh, role: none, kind: register, interval_s: 60}]
alarms:
  rules: [{id: meter_silent, indicator: meter_silent_intervals, warning: 5, for_s: 0}]
"""
START = datetime(2026, 3, 1, tzinfo=UTC)
HANGS_S = 3600


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "site.yaml").write_text(SITE)
    return {
        "WATTLINE_CONFIG": str(tmp_path / "site.yaml"),
        "WATTLINE_DATA_DIR": str(tmp_path / "data"),
        "WATTLINE_DATABASE_URL": database_url,
    }


@pytest.fixture
def database(database_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@contextmanager
def hanging(engine: sa.Engine, table: str) -> Iterator[None]:
    """While the block lasts, every statement that adds to a table takes an hour."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({HANGS_S}); RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER hangs BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION hang()"
        )
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TRIGGER hangs ON {table}")


def hangs(engine: sa.Engine) -> bool:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    with engine.connect() as connection:
        return bool(connection.exec_driver_sql(query).scalar())


def count(engine: sa.Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def send(service: Running, point: str, hours: Sequence[int]) -> int:
    rows = [
        {"point": point, "at": (START + timedelta(hours=h)).isoformat(), "value": 10.0 * h} for h in hours
    ]
    answer = httpx.post(service.base + "/api/v1/readings", json={"readings": rows}, timeout=60)
    return int(answer.json()["accepted"])


def last_success(service: Running) -> dict[str, float]:
    """When each job last ended well."""
    page = service.get("/metrics").text
    found = re.findall(r'wattline_job_last_success_timestamp_seconds\{job="([^"]*)"\} (\S+)', page)
    return {job: float(at) for job, at in found}


OTHERS = {"alarms", "evaluate", "findings", "findings of history", "notify", "outlook", "progress", "reports"}


def test_a_rollup_that_hangs_holds_up_nothing_else(
    environment: dict[str, str], database: sa.Engine, tmp_path: Path
) -> None:
    with running(["serve", "--port", "0"], environment, tmp_path) as service:
        service.until_status("/readyz", 200)
        with hanging(database, "energy_day"):
            assert send(service, "main.kwh", range(100)) == 100
            until(lambda: hangs(database), name="a rollup that hangs")
            before = last_success(service)
            assert send(service, "main.kwh", [-28 * 24]) == 1, "readings of a week without a partition"
            at = datetime.now(UTC) - timedelta(minutes=20)
            row = {"point": "quick.kwh", "at": at.isoformat(), "value": 1.0}
            httpx.post(service.base + "/api/v1/readings", json={"readings": [row]}, timeout=60)
            until(lambda: "quick" in service.get("/api/v1/alarms").text, 180, "the alarm of the silent meter")

            def moved() -> bool:
                at = last_success(service)
                return all(at.get(job, 0.0) > before.get(job, 0.0) for job in OTHERS)

            until(moved, 180, "a good end of every other job")
            assert last_success(service).get("rollup") == before.get("rollup")
            assert hangs(database)
            assert service.json_of("/api/v1/sites")["sites"]
            assert service.stop() == 0


def start_work(service: Running, table: str) -> None:
    """Make the service do what hangs at a table."""
    if table == "energy_day":
        assert send(service, "main.kwh", range(100)) == 100
    elif table == "findings":
        assert send(service, "main.kwh", range(100)) + send(service, "main.kwh", range(400, 500)) == 200
    else:
        rows = "".join(f"{START + timedelta(hours=h):%Y-%m-%d %H:%M},{h}\n" for h in range(2000))
        post = {
            "data": {"site": "sh1"},
            "files": {"file": ("a.csv", "time,main.kwh\n" + rows)},
            "timeout": 90,
        }
        url = service.base + "/api/v1/imports"
        threading.Thread(target=lambda: _suppressed(url, post), daemon=True).start()


def _suppressed(url: str, post: dict[str, object]) -> None:
    with suppress(httpx.TransportError):  # the service is stopped meanwhile
        httpx.post(url, **post)  # type: ignore[arg-type]


@pytest.mark.parametrize("table", ["energy_day", "findings", "imports"])
def test_it_stops_under_load_and_loses_nothing(
    environment: dict[str, str], database: sa.Engine, tmp_path: Path, table: str
) -> None:
    with running(["serve", "--port", "0"], environment, tmp_path) as service:
        service.until_status("/readyz", 200)
        with hanging(database, table):
            start_work(service, table)
            until(lambda: hangs(database), name=f"work that hangs at {table}")
            sent = count(database, "readings")
            assert service.stop() == 0
            until(lambda: not hangs(database), name="an end of the statement in the server, too")
    assert count(database, "readings") == sent
    with running(["serve", "--port", "0"], environment, tmp_path) as again:
        again.until_status("/readyz", 200)
        until(lambda: count(database, "rollup_queue") + count(database, "check_queue") == 0, name="the rest")
        assert count(database, "energy_day") > 0 or table == "imports"
        assert count(database, "findings") == (1 if table == "findings" else 0)
        assert again.stop() == 0
    verified = subprocess.run(
        [PROGRAM, "verify"], env=environment, capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
