"""What must not break the store: poison, silence, kill -9, failover. What was acknowledged is there once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import config
from app.domain.reading import Reading, ReadingColumns
from app.errors import StoreUnavailable
from app.store import engine as stores
from app.store import migrate, readings, sites
from app.store.drop_ledger import Drop
from app.store.embedded.server import EmbeddedServer
from app.store.quarantine import ingest_safely
from app.store.sites import Stored
from collectors.simulated.fault_proxy import FaultProxy
from tests.integration.api_helpers import client
from tests.integration.test_engine import address, through
from tests.integration.test_readings import batch, everything, ingest, queue
from tests.servers import copy_cluster

MakeEngine = Callable[..., sa.Engine]
KILLS = int(os.environ.get("WATTLINE_TEST_KILLS", "8"))


# -- any order, any repetition -----------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 6).map(lambda d: d * 5 * 1440), st.sampled_from([1.0, 2.0])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(ROWS, max_size=5))
def test_any_interleaving_keeps_the_first_value_of_every_key(
    engine: sa.Engine, batches: list[list[tuple[int, int, float]]]
) -> None:
    with stores.begin(engine) as connection:
        connection.execute(sa.text("TRUNCATE readings, rollup_queue, reading_conflicts"))
    expected: dict[tuple[int, float], float] = {}
    for rows in batches:
        new = len({(p, m) for p, m, _ in rows} - set(expected))
        for point, minute, value in rows:
            expected.setdefault((point, minute), value)
        differing = sum(expected[p, m] != v for p, m, v in rows)
        assert ingest(engine, batch(*rows)) == (new, len(rows) - new - differing, differing)
    assert everything(engine) == [(p, m, v) for (p, m), v in sorted(expected.items())]
    spans = queue(engine)
    assert all(any(p == q and start <= m <= end for q, start, end in spans) for p, m in expected)


# -- poison ------------------------------------------------------------------------------------------


ESTATE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters: [{id: main, points: [{id: main.kwh, role: facility, kind: register}]}]
"""


def declared(engine: sa.Engine) -> Stored:
    """The fleet of these tests, in the store."""
    with stores.begin(engine) as connection:
        sites.sync(connection, config.parse(ESTATE).fleet)
        return sites.load(connection)


def register(count: int) -> list[Reading]:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    return [Reading("main.kwh", start + timedelta(minutes=m), float(m)) for m in range(count)]


def test_a_reading_that_cannot_be_stored_does_not_hold_up_the_others(engine: sa.Engine) -> None:
    stored, rows = declared(engine), register(100)
    rows[17] = rows[17]._replace(interval_s=2**40)
    assert ingest_safely(engine, stored, rows[:1], "modbus").stored.accepted == 1
    with stores.begin(engine) as connection:
        connection.execute(sa.text("ALTER TABLE readings ADD CHECK (value <> 60)"))

    done = ingest_safely(engine, stored, rows, "modbus", [Drop("gone.kwh", "unknown_point", 1)])
    assert (done.stored.accepted, done.stored.duplicate, len(done.quarantined)) == (97, 1, 2)
    with stores.connect(engine) as connection:
        ledger = connection.execute(
            sa.text("SELECT collector, reason, readings, detail FROM dropped_readings ORDER BY id")
        ).all()
    assert {r.collector for r in ledger} == {"modbus"}
    assert [(r.reason, r.readings, r.detail["point"]) for r in ledger] == [
        ("unknown_point", 1, "gone.kwh"),
        ("store_refused", 1, "main.kwh"),
        ("store_refused", 1, "main.kwh"),
    ]
    assert "value=17.0" in ledger[1].detail["why"]
    assert "value=60.0" in ledger[2].detail["why"]
    assert "check" in ledger[2].detail["why"]


def test_a_fault_of_the_server_is_not_blamed_on_readings(engine: sa.Engine) -> None:
    stored = declared(engine)
    with stores.begin(engine) as connection:
        connection.execute(sa.text("DROP TABLE rollup_queue CASCADE"))
    with pytest.raises(StoreUnavailable, match=r"cannot take readings: .*rollup_queue"):
        ingest_safely(engine, stored, register(2), "modbus")
    assert everything(engine) == []


def test_the_ledger_takes_any_text(engine: sa.Engine) -> None:
    drop = Drop("main\0.kwh", "refused", 1, "nan \0 \ud800".encode("utf-8", "replace").decode())
    ingest_safely(engine, declared(engine), [], "api", [drop])
    with stores.connect(engine) as connection:
        detail = connection.execute(sa.text("SELECT detail FROM dropped_readings")).scalar_one()
    assert detail == {"point": "main.kwh", "why": "nan  ?"}


# -- silence -----------------------------------------------------------------------------------------


async def test_a_socket_that_goes_silent_within_a_batch_ends_in_an_error_and_nothing_is_doubled(
    database_url: str, engine: sa.Engine, make_test_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PATIENCE_MARGIN_S", 0.2)
    rows = batch(*((1, m, 1.0) for m in range(50)))
    async with FaultProxy(*address(database_url)) as proxy:
        shaky = make_test_engine(through(database_url, proxy.port), statement_timeout_s=0.5)
        await asyncio.to_thread(ingest, shaky, batch((9, 0, 1.0)))

        @sa.event.listens_for(shaky, "commit")
        def _lose_the_answer(_: sa.Connection) -> None:
            proxy.faults.drop = True

        with pytest.raises(StoreUnavailable, match="no answer"):
            await asyncio.to_thread(ingest, shaky, rows)
    again = ingest(engine, rows)

    assert again in [(0, 50, 0), (50, 0, 0)]
    assert len(everything(engine)) == 51


# -- the first start ---------------------------------------------------------------------------------


def test_before_the_tables_are_made_requests_are_told_to_wait(
    empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    with client(make_test_engine(empty_database_url, awaits_tables=True)) as http:
        row = {"point": "main.kwh", "at": "2026-03-01T00:00:00Z", "value": 1.0}
        for answer in (
            http.get("/api/v1/sites"),
            http.post("/api/v1/readings", json={"readings": [row]}),
        ):
            assert answer.status_code == 503, answer.text
            assert "no tables yet" in answer.json()["detail"]


# -- kill -9 -----------------------------------------------------------------------------------------


@pytest.fixture
def lasting_server(data_dir: Path) -> Iterator[EmbeddedServer]:
    """A server of the test's own, as durable as the real one."""
    with EmbeddedServer(data_dir) as server:
        yield server


def until_stored(engine: sa.Engine, rows: ReadingColumns) -> None:
    """Send a batch as the service does: again after every outage."""
    while True:
        try:
            ingest(engine, rows)
        except StoreUnavailable:
            stores.wait_until_up(engine, 60, pause_s=0.05)
        else:
            return


@pytest.mark.timeout(60 + 5 * KILLS)
def test_postgres_is_killed_again_and_again_during_ingest(
    lasting_server: EmbeddedServer, make_test_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes before another statement of the batch each time, the commit included."""
    engine = make_test_engine(lambda: lasting_server.url)
    stores.wait_until_up(engine)
    migrate.upgrade(engine)
    countdown = [-1]

    def kill_in_time(*_: object) -> None:
        countdown[0] -= 1
        if countdown[0] == 0 and lasting_server.pid:
            os.kill(lasting_server.pid, signal.SIGKILL)

    execute = stores.ImpatientConnection.execute

    def watched(self: stores.ImpatientConnection, query: str, *rest: Any, **more: Any) -> Any:
        kill_in_time()
        return execute(self, query, *rest, **more)

    monkeypatch.setattr(stores.ImpatientConnection, "execute", watched)
    sa.event.listen(engine, "commit", kill_in_time)
    for number in range(KILLS):
        countdown[0] = 1 + number % 3
        until_stored(engine, batch(*((p, number * 10 + m, float(m)) for p in (1, 2) for m in range(10))))
        assert countdown[0] <= 0

    until_stored(engine, batch((3, 0, 0.0)))  # the last kill may still be on its way
    expected = [(p, 10.0 * n + m, float(m)) for p in (1, 2) for n in range(KILLS) for m in range(10)]
    assert everything(engine) == [*expected, (3, 0.0, 0.0)]
    covered = {(p, minute) for p, start, end in queue(engine) for minute in np.arange(start, end + 1)}
    assert covered >= {(p, minute) for p, minute, _ in expected}


# -- failover ----------------------------------------------------------------------------------------


@pytest.fixture
def pair(data_dir: Path) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """A primary and its synchronous standby, by streaming replication."""
    first, second = data_dir / "a", data_dir / "b"
    with EmbeddedServer(first) as primary:
        copy_cluster(primary, second, standby=True)
        admin = primary.owner_url
        with EmbeddedServer(second, settings={"primary_conninfo": admin}) as standby:
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            yield primary, standby


def both(primary: EmbeddedServer, standby: EmbeddedServer) -> str:
    (host, port), (_, other) = address(primary.url), address(standby.url)
    return primary.url.replace(f"@{host}:{port}", f"@{host}:{port},{host}:{other}")


def test_a_failover_in_the_middle_of_a_batch_loses_nothing(
    pair: tuple[EmbeddedServer, EmbeddedServer], make_test_engine: MakeEngine
) -> None:
    primary, standby = pair
    engine = make_test_engine(both(primary, standby))
    migrate.upgrade(engine)
    ingest(engine, batch((1, 0, 1.0)))
    with stores.connect(engine) as connection:
        readings.ingest(connection, batch((1, 1, 2.0)))
        primary.stop()
        with pytest.raises(StoreUnavailable):
            connection.commit()
    with pytest.raises(StoreUnavailable, match=r"read-only|standby|writable"):
        stores.wait_until_up(engine, 0.1, pause_s=0.05)
    with psycopg.connect(standby.owner_url, autocommit=True) as admin:
        admin.execute("SELECT pg_promote()")
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        admin.execute("SELECT pg_reload_conf()")
    until_stored(engine, batch((1, 1, 2.0)))
    until_stored(engine, batch((1, 0, 1.0), (1, 2, 3.0)))

    assert everything(engine) == [(1, 0, 1.0), (1, 1, 2.0), (1, 2, 3.0)]
