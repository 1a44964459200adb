"""Several ``wattline serve --role worker`` on one database: every site is measured, every meter once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.store.engine import make_engine
from collectors.profiles.profile import ModbusProfile, read_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.e2e.processes import Running, running
from tests.waiting import until

PROFILE = """
model: counted
vendor: test
protocol: modbus
source: made up for the tests
channels: [{name: energy_kwh, kind: register, unit: kWh, address: 0, type: uint32}]
"""
SITE = """
  - id: {site}
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: {site}.main
        rated_power_kw: 1000
        collector: {{kind: modbus, host: 127.0.0.1, port: {port}, interval_s: 1, channels:
                    [{{name: energy_kwh, kind: register, unit: kWh, address: 0, type: uint32}}]}}
        points: [{{id: {site}.kwh, role: facility, kind: register, channel: energy_kwh}}]
"""
HEAD = "institutions: [{id: bank, institution_class: joint_stock}]\nsites:"


class Meters:
    """Two Modbus meters that count how often they are read."""

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self.ports: dict[str, int] = {}
        self._started, self._ended = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._meter("north") as north, self._meter("south") as south:
            self.ports = {"north": north.port, "south": south.port}
            self._started.set()
            await self._ended.wait()

    @contextmanager
    def serving(self) -> Iterator[Meters]:
        thread = threading.Thread(target=self.run)
        thread.start()
        assert self._started.wait(30)
        yield self
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        thread.join()

    def _meter(self, site: str) -> SimulatedModbus:
        def value(channel: str, at: datetime) -> float:
            self.reads[site] += 1
            return at.timestamp() % 1e6

        profile = read_profile(PROFILE)
        assert isinstance(profile, ModbusProfile)
        return SimulatedModbus({1: SimulatedUnit(profile, value)})


@pytest.fixture(scope="module")
def meters() -> Iterator[Meters]:
    with Meters().serving() as serving:
        yield serving


@pytest.fixture
def database(database_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


def stored(database: sa.Engine) -> Counter[str]:
    """Readings by site."""
    query = (
        "SELECT split_part(p.key, '.', 1), count(*) FROM readings r"
        " JOIN points p ON p.id = r.point_id GROUP BY 1"
    )
    with database.connect() as connection:
        if not sa.inspect(connection).has_table("readings"):
            return Counter()
        return Counter(dict(connection.exec_driver_sql(query).all()))


@contextmanager
def worker(name: str, sites: list[str], meters: Meters, url: str, folder: Path) -> Iterator[Running]:
    text = HEAD + "".join(SITE.format(site=site, port=meters.ports[site]) for site in sites)
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "site.yaml").write_text(text)
    environment = {
        "WATTLINE_CONFIG": str(folder / name / "site.yaml"),
        "WATTLINE_DATA_DIR": str(folder / name / "data"),
        "WATTLINE_DATABASE_URL": url,
    }
    arguments = ["serve", "--role", "worker"]
    with running(arguments, environment, folder / name, waits_for_address=False) as service:
        yield service


def until_more(database: sa.Engine, more: int, *sites: str) -> None:
    before = stored(database)
    until(lambda: all(stored(database)[s] >= before[s] + more for s in sites), name=f"{more} more of {sites}")


def read_once(database: sa.Engine, meters: Meters) -> bool:
    """Whether each meter was read about as often as readings of it were stored, over a while."""
    reads, rows = Counter(meters.reads), stored(database)
    until_more(database, 8, "north", "south")
    new_reads, new_rows = meters.reads - reads, stored(database) - rows
    return all(new_reads[site] <= new_rows[site] + 4 for site in ("north", "south"))


def test_two_workers_with_their_own_files_measure_their_own_sites(
    database: sa.Engine, database_url: str, meters: Meters, tmp_path: Path
) -> None:
    with worker("north", ["north"], meters, database_url, tmp_path):
        until_more(database, 2, "north")
        with worker("south", ["south"], meters, database_url, tmp_path):
            until_more(database, 2, "south")
            assert read_once(database, meters)
            with database.connect() as connection:
                retired = connection.exec_driver_sql(
                    "SELECT key FROM sites WHERE retired_at IS NOT NULL"
                ).all()
    assert retired == []


def test_two_workers_with_one_file_read_each_meter_once_and_stand_in_for_each_other(
    database: sa.Engine, database_url: str, meters: Meters, tmp_path: Path
) -> None:
    both = ["north", "south"]
    with worker("one", both, meters, database_url, tmp_path) as one:
        until_more(database, 2, *both)
        with worker("two", both, meters, database_url, tmp_path):
            with database.connect() as connection:
                query = "SELECT count(*) FROM workers"
                until(lambda: connection.exec_driver_sql(query).scalar() == 2, name="both workers")
            until_more(database, 2, *both)
            assert read_once(database, meters)
            one.process.send_signal(signal.SIGKILL)
            until_more(database, 5, *both)
            assert read_once(database, meters)
