"""Connections find the server, notice when it is gone, and say so in one way."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import engine as stores
from collectors.simulated.fault_proxy import FaultProxy

MakeEngine = Callable[..., sa.Engine]


def address(url: str) -> tuple[str, int]:
    parts = psycopg.conninfo.conninfo_to_dict(url)
    return str(parts["host"]), int(str(parts["port"]))


def through(url: str, port: int) -> str:
    """`url` with another port on the loopback."""
    host, old = address(url)
    return url.replace(f"@{host}:{old}", f"@127.0.0.1:{port}")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one(engine: sa.Engine, query: str = "SELECT 1") -> object:
    with stores.connect(engine) as connection:
        return connection.execute(sa.text(query)).scalar()


@pytest.mark.parametrize("scheme", ["postgresql://", "postgres://", "postgresql+psycopg://"])
def test_every_spelling_of_the_url(database_url: str, make_test_engine: MakeEngine, scheme: str) -> None:
    assert one(make_test_engine(database_url.replace("postgresql://", scheme))) == 1


def test_what_every_session_has(engine: sa.Engine) -> None:
    assert one(engine, "SHOW statement_timeout") == "1min"
    assert one(engine, "SHOW lock_timeout") == "10s"
    assert one(engine, "SHOW timezone") == "UTC"
    assert one(engine, "SHOW application_name") == "wattline"


def test_tcp_limits_are_set_and_the_url_wins() -> None:
    ours = stores.connect_parameters("postgresql://u:p@h/d?connect_timeout=2")
    assert (ours["tcp_user_timeout"], ours["keepalives"], ours["connect_timeout"]) == (20_000, 1, "2")
    assert "target_session_attrs" not in ours


def test_several_hosts_seek_the_writable_one() -> None:
    ours = stores.connect_parameters("postgresql://u:p@a:1,b:2/d")
    assert (ours["host"], ours["port"], ours["target_session_attrs"]) == ("a,b", "1,2", "read-write")
    theirs = stores.connect_parameters("postgresql://u:p@a:1,b:2/d?target_session_attrs=any")
    assert theirs["target_session_attrs"] == "any"


def test_a_dead_first_host_does_not_matter(database_url: str, make_test_engine: MakeEngine) -> None:
    host, port = address(database_url)
    both = database_url.replace(f"@{host}:{port}", f"@127.0.0.1:{closed_port()},{host}:{port}")
    assert one(make_test_engine(both)) == 1


@pytest.mark.parametrize("url", ["mysql://h/d", "postgresql://h:port:1/d", "nonsense"])
def test_a_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match=r"WATTLINE_DATABASE_URL.*write postgresql://user"):
        stores.make_engine(url)


def test_a_refused_url_keeps_its_password_to_itself() -> None:
    with pytest.raises(ConfigError) as caught:
        stores.make_engine("mysql://u:secret-word@h/d")
    assert "secret-word" not in str(caught.value)


def test_no_server_is_store_unavailable(make_test_engine: MakeEngine) -> None:
    engine = make_test_engine(f"postgresql://u:p@127.0.0.1:{closed_port()}/d")
    with pytest.raises(StoreUnavailable, match=r"does not answer.*refused"):
        one(engine)
    with pytest.raises(StoreUnavailable), engine.connect():
        pass


def test_waiting_says_why_once_and_gives_up(make_test_engine: MakeEngine) -> None:
    engine = make_test_engine(f"postgresql://u:p@127.0.0.1:{closed_port()}/d")
    said: list[str] = []
    with pytest.raises(StoreUnavailable):
        stores.wait_until_up(engine, 0.3, said.append, pause_s=0.05)
    assert len(said) == 1
    assert said[0].startswith("waiting for the database: ")


def test_waiting_ends_when_the_server_is_there(engine: sa.Engine) -> None:
    said: list[str] = []
    stores.wait_until_up(engine, 5, said.append)
    assert said == []


def test_a_statement_that_takes_too_long_is_stopped(database_url: str, make_test_engine: MakeEngine) -> None:
    engine = make_test_engine(database_url, statement_timeout_s=0.1)
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        one(engine, "SELECT pg_sleep(60)")


def test_a_lock_that_takes_too_long_is_given_up(database_url: str, make_test_engine: MakeEngine) -> None:
    engine = make_test_engine(database_url, lock_timeout_s=0.1)
    with stores.begin(engine) as holder:
        holder.execute(sa.text("LOCK TABLE readings"))
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            one(engine, "SELECT count(*) FROM readings")


def test_a_wrong_query_is_no_outage(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.ProgrammingError):
        one(engine, "SELECT nonsense")


def test_a_session_ended_by_the_server_is_replaced(engine: sa.Engine) -> None:
    with pytest.raises(StoreUnavailable), stores.begin(engine) as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert one(engine) == 1


def test_a_clock_that_was_ahead_during_an_outage_makes_no_connection_stale(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ahead:
        now_s = time.time
        ahead.setattr("sqlalchemy.pool.base.time.time", lambda: now_s() + 108_000)
        with pytest.raises(StoreUnavailable), stores.begin(engine) as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
    sessions = [one(engine, "SELECT pg_backend_pid()") for _ in range(6)]
    assert len(set(sessions[2:])) == 1


def test_idle_sessions_ended_by_the_server_are_not_noticed(engine: sa.Engine) -> None:
    with stores.connect(engine) as first, stores.connect(engine) as second:
        pid = second.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        second.rollback()
        first.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    assert [one(engine), one(engine)] == [1, 1]


def test_a_session_that_answered_just_now_is_not_asked_whether_it_is_there(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(engine)
    asked: list[object] = []
    monkeypatch.setattr(psycopg.Cursor, "execute", noting(asked, psycopg.Cursor.execute))
    one(engine)
    monkeypatch.setattr(stores, "FRESH_S", 0.0)
    one(engine)
    assert asked == ["SELECT 1", ";", "SELECT 1"]


def noting(seen: list[object], execute: Callable[..., Any]) -> Callable[..., Any]:
    """As before, and keeps the statements."""

    def noted(self: psycopg.Cursor[Any], query: object, *args: Any, **options: Any) -> Any:
        seen.append(query)
        return execute(self, query, *args, **options)

    return noted


def test_what_is_prepared_stays_prepared_after_reading(engine: sa.Engine) -> None:
    for _ in range(8):
        one(engine, "SELECT 12345")
    with stores.begin(engine) as connection:
        found = connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").scalars()
        assert "SELECT 12345" in set(found)


def test_what_failed_is_prepared_anew(
    engine: sa.Engine, database_url: str, make_test_engine: MakeEngine
) -> None:
    with stores.begin(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE shaped AS SELECT 1 AS a")
    for _ in range(8):
        one(engine, "SELECT * FROM shaped")
    with stores.begin(make_test_engine(database_url)) as other:
        other.exec_driver_sql("ALTER TABLE shaped ADD COLUMN b int")
    with pytest.raises(sa.exc.NotSupportedError, match="must not change result type"):
        one(engine, "SELECT * FROM shaped")
    assert one(engine, "SELECT * FROM shaped") == 1


def test_a_glance_begins_no_transaction(engine: sa.Engine) -> None:
    with stores.glance(engine) as connection:
        begun = [connection.exec_driver_sql("SELECT now()").scalar_one() for _ in range(2)]
    assert begun[0] < begun[1]
    with stores.begin(engine) as connection:
        begun = [connection.exec_driver_sql("SELECT now()").scalar_one() for _ in range(2)]
    assert begun[0] == begun[1]


def test_a_server_that_only_reads_is_store_unavailable(engine: sa.Engine) -> None:
    with stores.connect(engine) as connection:
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        with pytest.raises(StoreUnavailable, match="read-only"):
            connection.execute(sa.text("INSERT INTO horizons VALUES ('readings', now())"))


def test_every_connection_in_use_is_said(database_url: str, make_test_engine: MakeEngine) -> None:
    engine = make_test_engine(database_url, pool_size=1)
    engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    with stores.connect(engine), stores.connect(engine), pytest.raises(StoreUnavailable, match="in use"):
        one(engine)


async def test_a_half_open_socket_is_given_up(
    database_url: str, make_test_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PATIENCE_MARGIN_S", 0.2)
    async with FaultProxy(*address(database_url)) as proxy:
        engine = make_test_engine(through(database_url, proxy.port), statement_timeout_s=0.2)
        with await asyncio.to_thread(engine.connect) as connection:
            await asyncio.to_thread(connection.execute, sa.text("SELECT 1"))
            proxy.faults.half_open = True
            with pytest.raises(StoreUnavailable, match="no answer from the server"):
                await asyncio.to_thread(connection.execute, sa.text("SELECT 1"))
        proxy.faults.half_open = False
        assert await asyncio.to_thread(one, engine) == 1


@pytest.mark.parametrize("lost", ["question", "answer"])
async def test_what_was_lost_on_the_way_is_not_waited_for(
    database_url: str, make_test_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(stores, "QUIET_S", 0.2)
    async with FaultProxy(*address(database_url)) as proxy:
        url = through(database_url, proxy.port) + "?connect_timeout=2"
        engine = make_test_engine(url, statement_timeout_s=3600)
        with await asyncio.to_thread(engine.connect) as connection:
            await asyncio.to_thread(connection.execute, sa.text("SELECT 1"))
            proxy.faults.half_open, proxy.faults.drop = lost == "question", lost == "answer"
            asked = asyncio.create_task(asyncio.to_thread(connection.execute, sa.text("SELECT 1")))
            done, _ = await asyncio.wait([asked], timeout=0.5)
            assert not done  # nobody can be asked either: the server may be busy
            proxy.faults.half_open = proxy.faults.drop = False
            with pytest.raises(StoreUnavailable, match="does not work on one"):
                await asked
        assert await asyncio.to_thread(one, engine) == 1


def test_a_server_that_works_for_long_is_waited_for(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "QUIET_S", 0.1)
    assert one(engine, "SELECT 1 FROM pg_sleep(0.6)") == 1


async def test_a_server_that_never_says_hello_is_given_up(
    database_url: str, make_test_engine: MakeEngine
) -> None:
    async with FaultProxy(*address(database_url)) as proxy:
        proxy.faults.half_open = True
        engine = make_test_engine(through(database_url, proxy.port) + "?connect_timeout=2")
        with pytest.raises(StoreUnavailable, match="timeout"):
            await asyncio.to_thread(one, engine)
