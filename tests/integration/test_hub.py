"""Edges and a cell with a real hub between them: three NATS servers on loopback, killed and emptied."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.domain.edge_message import Claim, Dropped, Message, State
from app.domain.hub_message import Subjects, address, seal
from app.domain.reading import Reading
from app.domain.signed import secret_of, verified
from app.edge.hub import PART_BYTES, Hub
from app.errors import EdgeReplaced, Forbidden, StoreUnavailable, TooBusy, WorkTooLarge
from app.hub_link import Link
from app.jobs.edge_intake import Intake
from app.jobs.hub_intake import HubIntake
from app.store import edges, identity
from app.store.engine import make_engine
from tests.hub import Cluster
from tests.integration.api_helpers import declare
from tests.integration.test_edges import NOW, SPOOL, key_of, stored
from tests.waiting import until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three servers."""
    with Cluster(tmp_path_factory.mktemp("hub")) as found:
        yield found


@pytest.fixture
def database(database_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(database_url)
    declare(engine)
    yield engine
    engine.dispose()


_cells = iter(range(1000))


@pytest.fixture
def cell() -> str:
    """A cell of its own for each test, so that nothing of one is in the streams of another."""
    return f"cell{next(_cells)}"


@contextmanager
def listening(cluster: Cluster, cell: str, engine: sa.Engine, replicas: int = 3) -> Iterator[HubIntake]:
    """A cell that takes what comes through the hub."""
    link = Link(address(f"{cluster.url}/{cell}", "url"), None, None)
    intake = HubIntake(link, cell, engine, Intake(engine), replicas=replicas)
    intake.start()
    try:
        until(lambda: intake.tally.is_connected, timeout_s=60)
        yield intake
    finally:
        intake.stop()


@contextmanager
def an_edge(cluster: Cluster, cell: str, key: str) -> Iterator[Hub]:
    """An edge on the hub."""
    hub = Hub(f"{cluster.url}/{cell}", key)
    try:
        yield hub
    finally:
        hub.close()


def batch(claim: Claim, *values: float, first: int = 0) -> Message:
    """Readings of one point, a minute apart."""
    rows = [
        Reading("main.kwh", NOW - timedelta(minutes=600 - first - n), value) for n, value in enumerate(values)
    ]
    return Message(claim, State(SPOOL, datetime.now(UTC), clock_offset_s=0.0), tuple(rows))


def sent(hub: Hub, message: Message) -> None:
    """Send until the cell has it, as an edge does."""

    def try_it() -> bool:
        try:
            hub.send(message)
        except (StoreUnavailable, TooBusy):
            return False
        return True

    until(try_it, timeout_s=120)


def test_a_batch_is_answered_after_its_commit_and_stored_once(
    cluster: Cluster, cell: str, database: sa.Engine
) -> None:
    key = key_of(database, "box", "sh1")
    with listening(cluster, cell, database) as intake, an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        answer = hub.send(batch(claim, 5.0, 6.0))
        assert (answer.stored, answer.duplicate) == (2, 0)
        assert stored(database) == [("main.kwh", 5.0), ("main.kwh", 6.0)]
        assert hub.send(batch(claim, 5.0, 6.0)).duplicate == 2
        until(lambda: intake.tally.batches == 2)
        assert (intake.tally.again, intake.tally.poison) == (0, 0)
        definitions = verified(hub.definitions(), secret_of(key))
        assert "main.kwh" in definitions.site_file
        with pytest.raises(EdgeReplaced):
            hub.begin("second")
        with pytest.raises(EdgeReplaced):
            hub.send(batch(Claim("second", claim.epoch), 7.0, first=9))
        hub.release(claim)
        assert hub.begin("second").epoch == claim.epoch + 1
        with pytest.raises(EdgeReplaced):
            hub.send(batch(claim, 7.0, first=9))
    assert len(stored(database)) == 2


def test_after_a_connection_that_the_hub_ended_answers_come_over_the_next(
    cluster: Cluster, cell: str, database: sa.Engine
) -> None:
    key = key_of(database, "box", "sh1")
    with listening(cluster, cell, database), an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        assert hub.send(batch(claim, 5.0)).stored == 1
        hub._link.run(_closed(hub._link), 5.0)  # as after a user was taken out of the hub's configuration
        assert hub.send(batch(claim, 5.0, 6.0)).stored == 1


async def _closed(link: Link) -> None:
    await (await link.client()).close()


def test_a_cell_that_is_away_has_it_later_and_the_edge_keeps_it_until_then(
    cluster: Cluster, cell: str, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.edge.hub.TIMEOUT_S", 3.0)
    key = key_of(database, "box", "sh1")
    with an_edge(cluster, cell, key) as hub:
        with listening(cluster, cell, database):
            claim = hub.begin("first")
        with pytest.raises(StoreUnavailable):
            hub.send(batch(claim, 1.0, 2.0))
        with pytest.raises(StoreUnavailable, match="not connected"):
            hub.definitions()
        with listening(cluster, cell, database):
            until(lambda: len(stored(database)) == 2, timeout_s=60)
            sent(hub, batch(claim, 1.0, 2.0))
    assert stored(database) == [("main.kwh", 1.0), ("main.kwh", 2.0)]


def test_a_database_that_is_away_gives_the_batch_back_to_the_hub(
    cluster: Cluster, cell: str, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.hub_intake._AGAIN_S", 0.2)
    key, is_away = key_of(database, "box", "sh1"), threading.Event()
    with listening(cluster, cell, database) as intake, an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        take = intake._intake.take

        def refusing(key_id: str, message: Message) -> object:
            if is_away.is_set():
                raise StoreUnavailable("the database is away")
            return take(key_id, message)

        monkeypatch.setattr(intake._intake, "take", refusing)
        is_away.set()
        threading.Timer(2.0, is_away.clear).start()
        assert hub.send(batch(claim, 1.0)).stored == 1
        assert intake.tally.again > 0
    assert stored(database) == [("main.kwh", 1.0)]


def test_killed_between_commit_and_acknowledgement_it_is_delivered_again_and_stored_once(
    cluster: Cluster, cell: str, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next consumer finds is what a kill at that moment leaves: committed, not acknowledged."""
    monkeypatch.setattr("app.jobs.hub_intake._ACK_WAIT_S", 1.0)
    key = key_of(database, "box", "sh1")
    with listening(cluster, cell, database) as intake, an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        store, cut = intake._stored, threading.Semaphore(20)

        def cut_off(message: object) -> object:
            found = store(message)
            if cut.acquire(blocking=False):
                raise KeyboardInterrupt
            return found

        async def die(client: object, stream: object, message: object) -> None:
            try:
                await asyncio.to_thread(cut_off, message)
            except KeyboardInterrupt:
                return
            await original(client, stream, message)

        original = intake._take
        monkeypatch.setattr(intake, "_take", die)
        for n in range(20):
            sent(hub, batch(claim, float(n), first=n))
    assert [value for _, value in stored(database)] == [float(n) for n in range(20)]


def test_without_its_leader_the_hub_pauses_and_without_two_servers_edges_keep_their_readings(
    tmp_path: Path, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.edge.hub.TIMEOUT_S", 3.0)
    key = key_of(database, "box", "sh1")
    with (
        Cluster(tmp_path) as own,
        listening(own, "north", database),
        an_edge(own, "north", key) as hub,
    ):
        claim = hub.begin("first")
        sent(hub, batch(claim, 0.0))
        leader = own.leader("READINGS_north")
        own.kill(leader)
        sent(hub, batch(claim, 1.0, first=1))
        other = next(n for n in range(3) if n != leader)
        own.kill(other)
        with pytest.raises((StoreUnavailable, TooBusy)):
            hub.send(batch(claim, 2.0, first=2))
        own.start(leader)
        own.start(other)
        sent(hub, batch(claim, 2.0, first=2))
        for n in range(3):
            own.kill(n)
            own.lose_disk(n)
        for n in range(3):
            own.start(n)
        sent(hub, batch(claim, 3.0, first=3))
    assert [value for _, value in stored(database)] == [0.0, 1.0, 2.0, 3.0]


def test_what_is_forged_or_damaged_is_set_aside_and_holds_nothing_up(
    cluster: Cluster, cell: str, database: sa.Engine
) -> None:
    key, other = key_of(database, "box", "sh1"), key_of(database, "other", "bj1")
    subject = Subjects(cell, key.split("_")[1]).readings
    with listening(cluster, cell, database) as intake, an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")

        async def publish(payload: bytes, to: str = subject) -> None:
            client = await hub._link.client()
            await client.jetstream().publish(to, payload)

        for payload, to in (
            (b"", subject),
            (b"x" * 100, subject),
            (seal(b"0" * 24 + b"rubbish", subject, secret_of(key)), subject),
            (seal(b"0" * 24, subject, secret_of(other)), subject),
            (seal(b"0" * 24, subject, secret_of(key)), f"readings.{cell}.000000000000"),
        ):
            hub._link.run(publish(payload, to), 10)
        assert hub.send(batch(claim, 1.0)).stored == 1
        until(lambda: intake.tally.poison == 5, timeout_s=30)

        async def kept() -> int:
            client = await hub._link.client()
            return int((await client.jetstream().stream_info(f"POISON_{cell}")).state.messages)

        assert hub._link.run(kept(), 10) == 5
    assert stored(database) == [("main.kwh", 1.0)]


def test_a_revoked_key_opens_nothing(cluster: Cluster, cell: str, database: sa.Engine) -> None:
    key = key_of(database, "box", "sh1")
    with listening(cluster, cell, database), an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        with database.begin() as connection:
            identity.revoke(connection, edges.named(connection, "box").key_id, "test")
        with pytest.raises(Forbidden, match="was revoked"):
            hub.send(batch(claim, 1.0))
        with pytest.raises(Forbidden):
            hub.begin("second")
    assert stored(database) == []


def test_a_file_travels_in_parts(cluster: Cluster, cell: str, database: sa.Engine, tmp_path: Path) -> None:
    """Refused here, since no meter has a folder: but whole, and by the importer."""
    key, file = key_of(database, "box", "sh1"), tmp_path / "export.csv"
    file.write_bytes(b"time;value\n" * (PART_BYTES // 5))
    with listening(cluster, cell, database), an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        with pytest.raises(Exception, match="main"):
            hub.send_file(claim, "main", file)


def bounded(database: sa.Engine, table: str, most: int) -> None:
    """Have the database refuse more than `most` rows of a table in one transaction."""
    with database.begin() as connection:
        connection.exec_driver_sql(
            f"""
            CREATE FUNCTION bound_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE rows int := coalesce(nullif(current_setting('bound.{table}', true), ''), '0')::int + 1;
            BEGIN
                PERFORM set_config('bound.{table}', rows::text, true);
                IF rows > {most} THEN
                    RAISE 'tuple decompression limit exceeded by operation' USING ERRCODE = '53400';
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER bound BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION bound_{table}()
            """
        )


def test_a_batch_that_the_database_refuses_as_too_large_is_stored_in_parts(
    cluster: Cluster, cell: str, database: sa.Engine
) -> None:
    key, at = key_of(database, "box", "sh1"), NOW - timedelta(hours=1)
    for table in ("readings", "edge_unknown_readings", "dropped_readings"):
        bounded(database, table, 6)
    unheard = tuple(Reading(f"unheard.{n % 3}", at + timedelta(seconds=n), 1.0) for n in range(20))
    dropped = tuple(Dropped("main.kwh", f"reason-{n}", 1) for n in range(10))
    with listening(cluster, cell, database) as intake, an_edge(cluster, cell, key) as hub:
        message = batch(hub.begin("first"), *range(40))
        state = replace(message.state, dropped=dropped)
        answer = hub.send(replace(message, state=state, readings=message.readings + unheard))
        assert (answer.stored, answer.unknown, answer.refused) == (40, 20, 0)
        assert (intake.tally.again, intake.tally.poison) == (0, 0)
    assert [value for _, value in stored(database)] == [float(n) for n in range(40)]
    with database.connect() as connection:
        count = "SELECT count(*) FROM {}"
        assert connection.exec_driver_sql(count.format("edge_unknown_readings")).scalar_one() == 20
        assert connection.exec_driver_sql(count.format("dropped_readings")).scalar_one() == 10


def test_what_the_cell_cannot_take_even_in_parts_the_edge_learns_at_once_and_keeps(
    cluster: Cluster, cell: str, database: sa.Engine
) -> None:
    key = key_of(database, "box", "sh1")
    with listening(cluster, cell, database) as intake, an_edge(cluster, cell, key) as hub:
        claim = hub.begin("first")
        with database.begin() as connection:
            connection.exec_driver_sql(
                """
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE 'so much is refused' USING ERRCODE = '53400'; END $$;
                CREATE TRIGGER refuse BEFORE UPDATE OF newest_sha256 ON edges
                FOR EACH ROW EXECUTE FUNCTION refuse()
                """
            )
        with pytest.raises(WorkTooLarge, match="so much is refused"):
            hub.send(batch(claim, 1.0, 2.0))
        with database.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER refuse ON edges")
        assert hub.send(batch(claim, 1.0)).duplicate == 1
        assert (intake.tally.again, intake.tally.poison) == (0, 0)


def test_an_edge_knows_within_seconds_that_its_hub_is_gone(tmp_path: Path, database: sa.Engine) -> None:
    key = key_of(database, "box", "sh1")
    with (
        Cluster(tmp_path, size=1) as own,
        listening(own, "north", database, replicas=1) as intake,
        an_edge(own, "north", key) as hub,
    ):
        claim = hub.begin("first")
        assert hub.send(batch(claim, 0.0)).stored == 1
        assert hub.problem == ""
        assert intake.tally.is_connected
        own.kill(0)
        until(lambda: hub.problem == "the connection to the hub is lost")
        until(lambda: not intake.tally.is_connected)
        with pytest.raises(StoreUnavailable, match="the hub cannot be reached"):
            hub.send(batch(claim, 1.0, first=1))
        own.start(0)
        until(lambda: hub.problem == "" and intake.tally.is_connected, timeout_s=60)
        sent(hub, batch(claim, 1.0, first=1))
