"""Sources with a memory from the site file to the store: check, poll, restart, and what is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from app import config
from app.errors import ConfigError
from app.jobs.worker import Worker
from app.store import sites
from collectors.polling import devices, readings_per_s
from tests.integration.conftest import Wattline
from tests.waiting import until

NOW = datetime.now(UTC).replace(microsecond=0, second=0)
SITE = """
institutions: [{{id: bank, institution_class: joint_stock}}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        collector:
          kind: sql
          url: sqlite:///{path}
          interval_s: 1
          query: SELECT ts, kwh FROM meters WHERE ts > :since ORDER BY ts
          time_zone: UTC
          channels: [{{name: energy_import_kwh, column: kwh, unit: kWh}}]
        points: [{{id: main.kwh, role: facility, kind: register, interval_s: 900}}]
"""
SOURCES = {
    "prometheus": "url: http://127.0.0.1:1, channels: [{name: energy_import_kwh, query: x, unit: J}]",
    "sql": "url: 'sqlite:////x', query: 'SELECT ts, value FROM t WHERE ts > :since', "
    "channels: [{name: energy_import_kwh, unit: kWh}]",
    "mqtt": "url: mqtt://127.0.0.1, time: ts, channels: [{name: energy_import_kwh, topic: a, unit: Wh}]",
    "redfish": "url: https://127.0.0.1, channels: [{name: energy_import_kwh, path: /redfish/v1/Chassis/1, "
    "value: EnergykWh/Reading, unit: kWh}]",
}
ONE = """institutions: [{{id: bank, institution_class: joint_stock}}]
sites:
- id: sh1
  institution: bank
  time_zone: Asia/Shanghai
  meters:
  - id: main
    collector: {{kind: {kind}, {settings}}}
    points: [{{id: main.kwh, role: facility, kind: register}}]
"""


@pytest.fixture
def historian(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    path = tmp_path / "historian.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("CREATE TABLE meters (ts TEXT, kwh REAL)")
    yield path, writer
    writer.close()


def written(writer: sqlite3.Connection, quarter: int) -> None:
    at = NOW - timedelta(minutes=15 * (60 - quarter))
    writer.execute("INSERT INTO meters VALUES (?, ?)", (f"{at:%Y-%m-%d %H:%M:%S}", 1000.0 + quarter))


def stored(engine: sa.Engine) -> list[float]:
    with engine.begin() as connection:
        return list(connection.execute(sa.text("SELECT value FROM readings ORDER BY at")).scalars())


def test_rows_reach_the_store_once_over_restarts_of_the_worker(
    engine: sa.Engine, historian: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = historian
    file = config.parse(SITE.format(path=path))
    with engine.begin() as connection:
        sites.sync(connection, file.fleet)
    for turn in range(3):
        for quarter in range(20 * turn, 20 * (turn + 1)):
            written(writer, quarter)
        worker = Worker(engine, tmp_path / "data")
        worker.poll(file.fleet)
        worker.work()
        try:
            wanted = 20 * (turn + 1)
            until(lambda: len(stored(engine)) >= wanted, name="the rows in the store")  # noqa: B023
        finally:
            worker.stop()
    assert stored(engine) == [1000.0 + quarter for quarter in range(60)]
    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM reading_conflicts")).scalar() == 0


def test_poll_once_shows_the_newest_reading_with_its_time(
    wattline: Wattline, historian: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = historian
    for quarter in (57, 58, 59):
        written(writer, quarter)
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(path=path), encoding="utf-8")
    document = wattline("poll", "--once", "main", "--config", site, "--json").document
    at = f"{NOW - timedelta(minutes=15):%Y-%m-%dT%H:%M:%SZ}"
    (reading,) = document["readings"]
    assert (reading["point"], reading["value"]) == ("main.kwh", 1059.0)
    assert reading["at"].replace("+00:00", "Z") == at
    shown = wattline("poll", "--once", "main", "--config", site).out
    assert "measured at" in shown
    assert "the newest of 3 readings" in shown


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_a_site_file_with_a_source_is_checked(kind: str) -> None:
    file = config.parse(ONE.format(kind=kind, settings=SOURCES[kind]))
    (device,) = devices(file.fleet)
    assert device.config.kind == kind
    expected = 1 / 900 if kind in ("sql", "mqtt") else 1 / 60
    assert readings_per_s(file.fleet) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("prometheus", ("unit: J", "unit: hp"), r"yaml:8: .*channels\[0\]\.unit: unknown unit 'hp'"),
        ("prometheus", ("unit: J", "unit: W"), r"site\.yaml:8: .*main\.kwh\.channel: .*takes kwh"),
        ("sql", ("SELECT ts", "DELETE ts"), r"site\.yaml:8: .*collector\.query: .*single SELECT"),
        (
            "sql",
            ("sqlite:////x", "mssql+pymssql://u@10.0.0.1/x"),
            r"collector\.url: needs the driver pymssql",
        ),
        ("mqtt", ("mqtt://127", "mqqt://127"), r"site\.yaml:8: .*collector\.url: is no broker"),
        ("mqtt", ("topic: a", "topic: a/+"), r"collector\.channels\[0\]: topic: has \+ or #"),
        ("redfish", ("https:", "ftp:"), r"site\.yaml:8: .*collector\.url: is no address"),
        ("redfish", ("name: energy_import_kwh", "name: b"), r"main\.kwh\.channel: .*allowed are b"),
        ("redfish", ("https://127.0.0.1", "https://169.254.169.254"), r"url: .*WATTLINE_COLLECTOR_NETWORKS"),
    ],
)
def test_faults_are_said_with_file_line_and_key(kind: str, changed: tuple[str, str], said: str) -> None:
    text = ONE.format(kind=kind, settings=SOURCES[kind].replace(*changed))
    with pytest.raises(ConfigError, match=said):
        config.parse(text, "site.yaml")


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_one_value_is_not_read_twice_under_two_names(kind: str) -> None:
    meter = ONE.partition("meters:\n")[2]
    other = SOURCES[kind].replace("energy_import_kwh", "b_kwh")
    first, second = ONE.format(kind=kind, settings=SOURCES[kind]), meter.format(kind=kind, settings=other)
    second = second.replace("main", "other").replace("kind: register", "kind: register, channel: b_kwh")
    with pytest.raises(
        ConfigError, match=r"other\.kwh reads the same value of the same device as point main"
    ):
        config.parse(first + second)
