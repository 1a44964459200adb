"""``wattline serve`` as a process: starting without a database, stopping, sharing work between two."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import psycopg.conninfo
import pytest

from tests.e2e.processes import running
from tests.waiting import until

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        collector: {kind: modbus, host: 127.0.0.1, port: 1, profile: schneider_iem3000, timeout_s: 0.5,
                    interval_s: 1}
        points: [{id: main.kwh, role: facility, kind: register}]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(SITE)
    return file


@pytest.fixture
def environment(site: Path, tmp_path: Path) -> dict[str, str]:
    return {"WATTLINE_CONFIG": str(site), "WATTLINE_DATA_DIR": str(tmp_path / "data")}


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_serves_and_stops(
    environment: dict[str, str], database_url: str, tmp_path: Path, sign: signal.Signals
) -> None:
    environment["WATTLINE_DATABASE_URL"] = database_url
    with running(["serve", "--port", "0"], environment, tmp_path) as service:
        service.until_status("/readyz", 200)
        assert service.json_of("/api/v1/sites")["sites"][0]["id"] == "sh1"
        meter = 'wattline_meter_up{site="sh1",meter="main"} 0'
        until(lambda: meter in service.get("/metrics").text, name="the silent meter in /metrics")
        until(lambda: "main" in service.log.read_text(), name="the silent meter in the log")
        assert service.stop(sign) == 0


def test_without_a_database_it_waits_and_says_so(
    environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    at = psycopg.conninfo.conninfo_to_dict(database_url)
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
        environment["WATTLINE_DATABASE_URL"] = database_url.replace(f":{at['port']}/", f":{port}/")
        with running(["serve", "--port", "0"], environment, tmp_path) as service:
            assert service.until_status("/readyz", 503).headers["content-type"] == "application/problem+json"
            assert service.get("/healthz").status_code == 200
            until(lambda: "waiting for the database" in service.log.read_text(), name="a message")
            assert service.process.poll() is None
            assert service.stop() == 0


def test_api_and_worker_apart(environment: dict[str, str], database_url: str, tmp_path: Path) -> None:
    environment["WATTLINE_DATABASE_URL"] = database_url
    with running(["serve", "--port", "0", "--role", "api"], environment, tmp_path) as api:
        api.until_status("/readyz", 200)
        rows = [
            {"point": "main.kwh", "at": f"2026-03-01T00:{minute:02d}:00Z", "value": minute * 2.0}
            for minute in (0, 15, 30, 45)
        ]
        answer = httpx.post(api.base + "/api/v1/readings", json={"readings": rows}, timeout=10)
        assert answer.json()["accepted"] == 4
        window = "start=2026-03-01T00:00:00Z&end=2026-03-01T01:00:00Z&by=point"

        def energy_kwh() -> float:
            rows = api.json_of(f"/api/v1/sites/sh1/energy?{window}")["rows"]
            return sum(float(row["energy_kwh"]) for row in rows)

        assert energy_kwh() == 0
        worker = {**environment, "WATTLINE_DATA_DIR": str(tmp_path / "worker")}
        with running(["serve", "--role", "worker"], worker, tmp_path, waits_for_address=False):
            until(lambda: energy_kwh() == pytest.approx(90.0), name="the rollup by the worker")


def test_a_taken_port_and_an_open_address_are_refused(
    environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    environment |= {"WATTLINE_DATABASE_URL": database_url, "WATTLINE_REQUIRE_KEYS": "false"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, said in (
            (["--port", port], "--port: "),
            (["--host", "0.0.0.0", "--port", "0"], "REQUIRE_KEYS"),
        ):
            with running(["serve", *arguments], environment, tmp_path, waits_for_address=False) as refused:
                assert refused.process.wait(60) == 1
            assert said in refused.log.read_text()


def test_the_first_start_with_keys_shows_one_once(
    environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    environment |= {"WATTLINE_DATABASE_URL": database_url, "WATTLINE_REQUIRE_KEYS": "true"}
    keys = []
    for _ in range(2):
        with running(["serve", "--port", "0", "--role", "api"], environment, tmp_path) as service:
            service.until_status("/readyz", 200)
            assert service.get("/api/v1/sites").status_code == 401
            service.stop()
        keys += [word for word in service.log.read_text().split() if word.startswith("wl_")]
    assert len(keys) == 1
