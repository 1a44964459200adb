"""Readings from databases: PostgreSQL and SQLite with rows as historians have them."""

from __future__ import annotations

import asyncio
import math
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point, Stamp
from app.errors import ConfigError, DeviceRefused, DeviceUnreachable
from collectors import network, registry
from collectors.base import Binding, Poll
from collectors.found import Target
from collectors.probe import probe

KWH = Point(id="a.kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER, channel="a_kwh")
KW = Point(id="a.kw", role=Role.FACILITY, kind=ReadingKind.POWER, channel="a_kw")
NOW = datetime.now(UTC).replace(microsecond=0, second=0)
WIDE = [{"name": "a_kwh", "column": "Kwh", "unit": "kWh"}, {"name": "a_kw", "column": "watts", "unit": "W"}]
LONG = [
    {"name": "a_kwh", "where": {"meter": "A", "quantity": "energy"}, "unit": "kWh"},
    {"name": "a_kw", "where": {"meter": "A", "quantity": "power"}, "unit": "kW"},
]
QUERY = "SELECT ts, kwh, watts FROM wide WHERE ts > :since AND ts <= :until ORDER BY ts"


def collector_of(url: str, points: tuple[Point, ...] = (KWH, KW), **more: Any) -> Any:
    given = {"kind": "sql", "url": url, "query": QUERY, "channels": WIDE, "timeout_s": 20, **more}
    return registry.build(registry.parse(given), Binding("pme", points))


async def polled(collector: Any, times: int = 1) -> list[Poll]:
    try:
        return [await collector.poll(datetime.now(UTC)) for _ in range(times)]
    finally:
        await collector.close()


def values(poll: Poll, point: str = "a.kwh") -> dict[datetime, float]:
    return {r.at: r.value for r in poll.dated if r.point == point}


@pytest.fixture
def postgres(empty_database_url: str) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """URL without password, and a connection that writes."""
    with psycopg.connect(empty_database_url, autocommit=True) as writer:
        writer.execute("CREATE TABLE wide (ts timestamptz, kwh numeric, watts double precision)")
        columns = "id bigserial, ts timestamp, meter text, quantity text, value numeric"
        writer.execute(f"CREATE TABLE long ({columns})")
        yield empty_database_url, writer


@pytest.fixture
def access(postgres: tuple[str, psycopg.Connection[Any]], tmp_path: Path) -> Callable[..., Any]:
    """Makes a collector of the database, whose password is in a file."""
    import sqlalchemy as sa

    url = sa.make_url(postgres[0])
    file = tmp_path / "password"
    file.write_text(url.password or "", encoding="utf-8")
    plain = sa.URL.create("postgresql", url.username, None, url.host, url.port, url.database)

    def make(**more: Any) -> Any:
        return collector_of(plain.render_as_string(), password_file=str(file), **more)

    return make


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[tuple[str, sqlite3.Connection]]:
    """URL of an SQLite file, and a connection that writes."""
    path = tmp_path / "historian.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("CREATE TABLE wide (ts TEXT, kwh REAL, watts REAL)")
    columns = "id INTEGER PRIMARY KEY, ts TEXT, meter TEXT, quantity TEXT, value REAL"
    writer.execute(f"CREATE TABLE long ({columns})")
    yield f"sqlite:///{path}", writer
    writer.close()


# -- PostgreSQL --------------------------------------------------------------------------------------


async def test_wide_rows_of_postgresql_are_read_once(
    access: Callable[..., Any], postgres: tuple[str, psycopg.Connection[Any]]
) -> None:
    writer = postgres[1]
    for n in range(10):
        row = (NOW - timedelta(minutes=15 * (10 - n)), 100 + n, 1000.0 * n)
        writer.execute("INSERT INTO wide VALUES (%s, %s, %s)", row)
    collector = access(late_s=3600)
    first, second = await collector.poll(NOW), await collector.poll(NOW)
    assert first.failures == ()
    assert sorted(values(first).values()) == [100.0 + n for n in range(10)]
    assert sorted(values(first, "a.kw").values()) == [float(n) for n in range(10)]
    assert second.dated == ()
    writer.execute("INSERT INTO wide VALUES (%s, 99.5, NULL)", (NOW - timedelta(minutes=20),))
    late = await collector.poll(NOW)
    assert [(r.point, r.value) for r in late.dated] == [("a.kwh", 99.5)], "a row that comes late"
    await collector.close()


async def test_a_restart_goes_on_and_another_query_begins_anew(
    access: Callable[..., Any], postgres: tuple[str, psycopg.Connection[Any]]
) -> None:
    writer = postgres[1]
    for hours, value in ((3, 0), (2, 1)):
        writer.execute("INSERT INTO wide VALUES (%s, %s, 1)", (NOW - timedelta(hours=hours), value))
    (first,) = await polled(access(late_s=60))
    writer.execute("INSERT INTO wide VALUES (%s, 2, 2)", (NOW - timedelta(hours=1),))
    again = access(late_s=60)
    again.resume(first.cursor[1])
    assert list(values((await polled(again))[0]).values()) == [1.0, 2.0], "the last one is known to the store"
    other = access(late_s=60, query=QUERY.replace("<=", "<"))
    other.resume(first.cursor[1])
    assert list(values((await polled(other))[0]).values()) == [0.0, 1.0, 2.0]


async def test_ties_at_the_end_of_a_page_are_whole(
    access: Callable[..., Any], postgres: tuple[str, psycopg.Connection[Any]]
) -> None:
    writer = postgres[1]
    for n in range(8):
        at = (NOW - timedelta(hours=8 - n)).replace(tzinfo=None)
        for meter in ("A", *"BCDEFGHIJKLMNO"):
            writer.execute("INSERT INTO long (ts, meter, quantity, value) VALUES (%s, %s, 'energy', %s)",
                           (at, meter, n))  # fmt: skip
    query = "SELECT ts, meter, quantity, value FROM long WHERE ts > :since ORDER BY ts"
    collector = access(query=query, channels=LONG, time_zone="UTC", page_rows=10, late_s=0)
    (poll,) = await polled(collector)
    assert list(values(poll).values()) == [float(n) for n in range(8)]
    assert collector._database.queries == 8


async def test_a_watermark_may_be_a_number(
    access: Callable[..., Any], postgres: tuple[str, psycopg.Connection[Any]]
) -> None:
    writer = postgres[1]
    old, new = NOW - timedelta(days=30), NOW - timedelta(hours=1)
    for at, value in ((old, 1), (new, 2), (new - timedelta(minutes=5), 1.5)):
        row = (at.astimezone(ZoneInfo("Asia/Shanghai")).replace(tzinfo=None), value)
        writer.execute("INSERT INTO long (ts, meter, quantity, value) VALUES (%s, 'A', 'energy', %s)", row)
    query = "SELECT id, ts, meter, quantity, value FROM long WHERE id > :since ORDER BY id"
    how = {"query": query, "channels": LONG, "time_zone": "Asia/Shanghai", "watermark": "id"}
    (poll,) = await polled(access(**how))
    assert values(poll) == {new: 2.0, new - timedelta(minutes=5): 1.5}, "no older than catch_up_s"
    resumed = access(**how)
    resumed.resume(poll.cursor[1])
    ahead = "INSERT INTO long (ts, meter, quantity, value) VALUES (%s, 'A', 'energy', 3)"
    writer.execute(ahead, (NOW.replace(tzinfo=None) + timedelta(hours=9),))
    (after,) = await polled(resumed)
    assert 3.0 not in values(after).values()
    assert "lies ahead; check time_zone" in str(after.failures)


async def test_the_session_is_read_only_and_ends_in_time(
    access: Callable[..., Any], postgres: tuple[str, psycopg.Connection[Any]]
) -> None:
    writer = postgres[1]
    body = "INSERT INTO wide VALUES (now()) RETURNING 1"
    writer.execute(f"CREATE FUNCTION harm() RETURNS int LANGUAGE sql AS '{body}'")
    (poll,) = await polled(access(query="SELECT now() AS ts, harm() AS kwh, 1 AS watts WHERE now() > :since"))
    assert poll.dated == ()
    assert "read-only" in str(poll.failures[0])
    slow = "SELECT now() AS ts, 1 AS kwh, 1 AS watts FROM pg_sleep(60) WHERE now() > :since"
    (poll,) = await polled(access(query=slow, timeout_s=0.3))
    assert isinstance(poll.failures[0], DeviceUnreachable | DeviceRefused)
    assert "statement timeout" in str(poll.failures[0]) or "no answer" in str(poll.failures[0])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"query": "SELECT ts, kwh FROM nothing WHERE ts > :since"}, "does not exist"),
        ({"query": "SELECT kwh, watts FROM wide WHERE ts > :since"}, "no column ts, but kwh, watts"),
        ({"query": "SELECT ts, kwh AS k FROM wide WHERE ts > :since"}, "no column Kwh, but ts, k"),
        ({"query": "SELECT ts, kwh, watts FROM wide WHERE ts > :since ORDER BY ts DESC"}, "add ORDER BY ts"),
        ({"query": "SELECT ts, 'x' AS kwh, 1 AS watts FROM wide WHERE ts > :since"}, "is 'x', no number"),
        ({"query": "SELECT ts, 'NaN'::float AS kwh, 1 AS watts FROM wide WHERE ts > :since"}, "no number"),
        ({"query": "SELECT ts::timestamp, kwh, watts FROM wide WHERE ts > :since"}, "set time_zone"),
        (
            {"query": "SELECT ts + '3h' AS ts, kwh, watts FROM wide WHERE ts > :since ORDER BY 1"},
            "check time_zone",
        ),
        ({"query": "SELECT 5 AS ts, kwh, watts FROM wide WHERE ts > :since"}, "set time_format"),
    ],
)
async def test_what_is_wrong_is_said(
    access: Callable[..., Any],
    postgres: tuple[str, psycopg.Connection[Any]],
    changed: dict[str, Any],
    said: str,
) -> None:
    for minutes in (90, 20):
        postgres[1].execute("INSERT INTO wide VALUES (%s, 1, 1)", (NOW - timedelta(minutes=minutes),))
    (poll,) = await polled(access(**changed))
    assert said in "; ".join(map(str, poll.failures))
    assert all(reading.point == "a.kw" or reading.at < NOW for reading in poll.dated)


async def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    (poll,) = await polled(collector_of("postgresql://u@127.0.0.1:1/db", timeout_s=2))
    assert isinstance(poll.failures[0], DeviceUnreachable)
    (poll,) = await polled(collector_of(f"sqlite:///{tmp_path}/no.db"))
    assert isinstance(poll.failures[0], DeviceUnreachable)


async def test_a_silent_database_is_given_up_and_leaves_no_thread() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db"
        (poll,) = await polled(collector_of(url, timeout_s=1))
    assert isinstance(poll.failures[0], DeviceUnreachable)
    for thread in threading.enumerate():
        if thread.name == "sql source":
            await asyncio.to_thread(thread.join, 20)
            assert not thread.is_alive()


async def test_other_networks_are_not_reached() -> None:
    with pytest.raises(ConfigError, match="WATTLINE_COLLECTOR_NETWORKS"):
        collector_of("postgresql://u@169.254.169.254/db")
    network.allow("10.0.0.0/8")
    try:
        with pytest.raises(ConfigError, match="WATTLINE_COLLECTOR_NETWORKS"):
            collector_of("postgresql://u@/db")
        (poll,) = await polled(collector_of("postgresql://u@localhost/db"))
    finally:
        network.allow("")
    assert "WATTLINE_COLLECTOR_NETWORKS" in str(poll.failures[0])


# -- SQLite ------------------------------------------------------------------------------------------


async def test_rows_of_sqlite_are_read_as_they_are(lite: tuple[str, sqlite3.Connection]) -> None:
    url, writer = lite
    for n in range(5):
        at = NOW - timedelta(hours=5 - n)
        writer.execute("INSERT INTO wide VALUES (?, ?, ?)", (f"{at:%Y-%m-%d %H:%M:%S}", n, None))
    collector = collector_of(url, time_zone="UTC")
    first, second = await polled(collector, 2)
    assert values(first) == {NOW - timedelta(hours=5 - n): float(n) for n in range(5)}
    assert first.failures == second.dated == ()


async def test_a_file_is_never_written(lite: tuple[str, sqlite3.Connection]) -> None:
    collector = collector_of(lite[0])
    with collector._database._connected("") as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("CREATE TABLE x (y)")
    await collector.close()


async def test_interval_energy_ends_when_its_interval_does(lite: tuple[str, sqlite3.Connection]) -> None:
    url, writer = lite
    start = NOW - timedelta(hours=2)
    writer.execute("INSERT INTO wide VALUES (?, 5, 0)", (f"{start:%Y-%m-%dT%H:%M:%SZ}",))
    point = Point(
        id="q", role=Role.FACILITY, kind=ReadingKind.INTERVAL_ENERGY, channel="a_kwh", stamp=Stamp.START
    )
    (poll,) = await polled(collector_of(url, points=(point,)))
    (reading,) = poll.dated
    assert (reading.at, reading.interval_s, reading.valid_s) == (start + timedelta(seconds=900), 900, 900)


async def test_the_hour_that_comes_twice(lite: tuple[str, sqlite3.Connection]) -> None:
    """A register by its values; power is named and left out, as nothing tells which hour it is of."""
    url, writer = lite
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
    instants = [start + timedelta(minutes=15 * n) for n in range(24)]
    rows = [
        (f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}", 100 + n, 1000 * (n % 7)) for n, at in enumerate(instants)
    ]
    for row in sorted(rows, key=lambda row: row[0]):
        writer.execute("INSERT INTO wide VALUES (?, ?, ?)", row)
    collector = collector_of(url, time_zone="Europe/Berlin", catch_up_s=40 * 86_400)
    (poll,) = await polled(collector)
    assert values(poll) == {at: 100.0 + n for n, at in enumerate(instants)}
    twice = [at for at in instants if 0 <= (at - datetime(2026, 10, 25, tzinfo=UTC)).total_seconds() < 7200]
    told = {at for at in twice if values(poll, "a.kw").get(at) is not None}
    assert len(twice) == 8
    assert not told
    (failure,) = poll.failures
    assert failure.point == "a.kw"
    assert "4 rows come at a local time that comes twice, such as 2026-10-25 02:00" in str(failure)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=60, unique=True),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_nothing_is_lost_or_doubled_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]], cuts: list[int]
) -> None:
    """Rows appear in any order within `late_s`; polls, restarts and pages fall anywhere between."""
    path = tmp_path_factory.mktemp("any") / "h.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("CREATE TABLE long (ts INTEGER, meter TEXT, value REAL)")
    points = tuple(
        Point(id=f"m{n}", role=Role.NONE, kind=ReadingKind.POWER, channel=f"m{n}") for n in range(6)
    )
    channels = [{"name": f"m{n}", "where": {"meter": str(n)}, "unit": "kW"} for n in range(6)]
    query = "SELECT ts, meter, value FROM long WHERE ts > :since ORDER BY ts"
    how = {"query": query, "channels": channels, "time_format": "epoch_s", "page_rows": 10, "late_s": 3600}
    begin = math.floor(NOW.timestamp()) - 3000
    taken: list[tuple[str, datetime]] = []
    cursor = ""

    async def scenario() -> None:
        nonlocal cursor
        collector = collector_of(f"sqlite:///{path}", points, **how)
        for n, (step, meter) in enumerate(rows):
            writer.execute("INSERT INTO long VALUES (?, ?, ?)", (begin + 60 * step, str(meter), n))
            if n in cuts or n == len(rows) - 1:
                poll = await collector.poll(datetime.now(UTC))
                assert not poll.failures
                taken.extend((r.point, r.at) for r in poll.dated)
                cursor = poll.cursor[1]
        await collector.close()
        again = collector_of(f"sqlite:///{path}", points, **how)
        again.resume(cursor)
        (poll,) = await polled(again)
        assert {(r.point, r.at) for r in poll.dated} <= set(taken), "known to the store"

    with asyncio.Runner() as runner:
        runner.run(scenario())
    writer.close()
    expected = {(f"m{m}", datetime.fromtimestamp(begin + 60 * s, tz=UTC)) for s, m in rows}
    assert len(taken) == len(set(taken))
    assert set(taken) == expected


async def test_a_cancelled_poll_is_read_again(lite: tuple[str, sqlite3.Connection]) -> None:
    url, writer = lite
    writer.execute("INSERT INTO wide VALUES (?, 1, 1)", (f"{NOW - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",))
    collector = collector_of(url)
    task = asyncio.create_task(collector.poll(NOW))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while not (poll := await collector.poll(NOW)).dated:
        assert "not finished yet" in str(poll.failures)
    await collector.close()
    await collector.close()


async def test_a_probe_shows_rows_and_proposes_channels(lite: tuple[str, sqlite3.Connection]) -> None:
    url, writer = lite
    for meter, quantity, value in (("PM-1", "kWh", 1234.5), ("PM-1", "kW", 56.0), ("PM-2", "kWh", 99.0)):
        at = f"{NOW - timedelta(minutes=30):%Y-%m-%d %H:%M:%S}"
        row = (at, meter, quantity, value)
        writer.execute("INSERT INTO long (ts, meter, quantity, value) VALUES (?, ?, ?, ?)", row)
    query = "SELECT ts, meter, quantity, value FROM long WHERE ts > :since ORDER BY ts"
    outcome = await probe(Target(url, "sql", options={"query": query, "time_zone": "UTC"}))
    (found,) = outcome.found
    energies = {"value_pm_1_kwh_kwh": 1234.5, "value_pm_2_kwh_kwh": 99.0}
    assert found.values == {**energies, "value_pm_1_kw_kw": 56.0}
    assert "rows are told apart by: meter, quantity" in found.notes
    (meter,) = yaml.safe_load(found.yaml)
    registry.parse(meter["collector"])
    with pytest.raises(ConfigError, match="query: is missing"):
        await probe(Target(url, "sql"))
    with pytest.raises(ConfigError, match="url: is missing"):
        await probe(Target("10.0.0.1", "sql", options={"query": query}))


@pytest.mark.parametrize(
    ("wrong", "key", "said"),
    [
        ({"url": "nonsense"}, "url", "postgresql://user@host/database"),
        ({"url": "postgresql://u:secret@h/db"}, "url", "password_file"),
        ({"url": "postgresql://u@h/db?host=evil"}, "url", "'host' is not allowed"),
        ({"url": "sqlite://"}, "url", "names no file"),
        ({"query": "DROP TABLE x"}, "query", "single SELECT"),
        ({"time_zone": "Mars"}, "time_zone", "IANA"),
        ({"channels": WIDE[:1] * 2}, "", "described twice"),
        ({"page_rows": 1}, "page_rows", "greater than or equal"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], key: str, said: str) -> None:
    given = {"kind": "sql", "url": "sqlite:////x", "query": QUERY, "channels": WIDE, **wrong}
    with pytest.raises(ConfigError, match=said) as caught:
        registry.parse(given)
    assert caught.value.key == key
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mssql+pymssql://u@10.0.0.1/db", "needs the driver pymssql; install it beside Wattline"),
        ("oracle+oracledb://u@10.0.0.1/db", "needs the driver oracledb"),
        ("telex://u@10.0.0.1/db", "is not known"),
    ],
)
def test_a_driver_that_is_absent_is_named(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        collector_of(url)
    assert caught.value.key == "url"
