"""A site moves to another cell with its history: two real databases, the real command."""

from __future__ import annotations

import itertools
import os
import random
import signal
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg import sql

from app import config
from app.api.auth import KeyAuthenticator
from app.domain.access import Grant, Role
from app.domain.edge_message import Message, State
from app.domain.period import Period
from app.domain.reading import Reading
from app.edge.following import Following
from app.edge.transport import Https
from app.errors import StoreUnavailable
from app.fleet import moves as fleet_moves
from app.fleet.moves import Way
from app.jobs import rollup, verify
from app.jobs.alarms import judge
from app.jobs.ingest import Ingest
from app.store import deployment, edges, identity, pue, readings, sites, slices
from app.store.audit import Actor
from app.store.engine import ImpatientConnection, begin, driver, make_engine
from app.store.site_move import opening, parts, sealing
from tests.integration.api_helpers import ESTATE, NOW, START, a_day, client
from tests.integration.conftest import Done, Wattline

OTHERS = """
institutions: [{id: theirs, institution_class: other}, {id: bank, institution_class: joint_stock}]
sites:
  - id: elsewhere
    institution: theirs
    time_zone: Asia/Shanghai
    meters: [{id: their, points: [{id: their.kwh, role: facility, kind: register}]}]
"""


@pytest.fixture
def here(database_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def there(other_database_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(other_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def cells(tmp_path: Path, other_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "north.url").write_text(other_database_url)
    (tmp_path / "north.key").write_text("a-key")
    file = tmp_path / "cells.yaml"
    file.write_text(
        f"cells:\n  - id: north\n    url: https://north.example\n    key_file: {tmp_path}/north.key\n"
        f"    database_url_file: {tmp_path}/north.url\n"
    )
    monkeypatch.setenv("WATTLINE_CELLS_FILE", str(file))
    monkeypatch.setenv("WATTLINE_CELL_ID", "south")
    return file


def rows(engine: sa.Engine, query: str, **values: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query), values)]


# -- every table is decided ------------------------------------------------------------------------------


def test_for_every_table_it_is_decided_whose_its_rows_are(here: sa.Engine) -> None:
    with here.connect() as connection:
        known = set(slices.tables(connection))
    decided = {part.table for part in parts.PARTS} | set(parts.STAYS)
    assert known - decided == set(), "decide in app/store/site_move/parts.py whether a site's rows move"
    assert decided - known == set()
    assert {part.table for part in parts.PARTS} & set(parts.STAYS) == set()


def test_every_column_that_names_another_row_is_given_the_number_there(here: sa.Engine) -> None:
    query = """
        SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('int4'::regtype, 'int8'::regtype)
          AND (a.attname = 'id' OR a.attname LIKE '%\\_id' OR EXISTS (
              SELECT FROM pg_constraint f
              WHERE f.conrelid = c.oid AND f.contype = 'f' AND a.attnum = ANY(f.conkey)))
    """
    for table, column in rows(here, query):
        part = parts.BY_TABLE.get(table)
        if part is not None and column == "id":
            assert part.is_numbered, f"{table}.id is made by the database: is_numbered"
        elif part is not None:
            assert column in part.numbers, f"{table}.{column}: of which kind is the number?"


# -- a site with a row of everything ----------------------------------------------------------------------

OF_EVERYTHING = """
INSERT INTO reading_conflicts (at, point_id, value, stored_value) VALUES ('2026-03-01 01:00Z', {point}, 9, 1);
INSERT INTO dropped_readings (site_id, collector, reason, readings, detail)
    VALUES ({site}, 'edge:1', 'refused', 3, '{{"point": "{key}.x", "reading": "one"}}');
INSERT INTO volume_15m VALUES ({point}, date_trunc('hour', now()), 1.5, 1, 0, 900, 1);
INSERT INTO gauge_15m VALUES ({point}, date_trunc('hour', now()), 20, 19, 21, 15);
INSERT INTO imports (id, site_id, file_name, sha256, status)
    VALUES (gen_random_uuid(), {site}, 'a.csv', 'x', 'done');
INSERT INTO reading_corrections SELECT id, '2026-03-01 02:00Z', 1, 2 FROM events WHERE site_id = {site};
INSERT INTO findings (point_id, site_id, kind, start_at, end_at, severity, state) VALUES
    (0, {site}, 'ratio', '2026-03-01', '2026-03-02', 'warning', 'acknowledged'),
    ({point}, {site}, 'stuck', '2026-03-01', '2026-03-02', 'info', 'open');
INSERT INTO reports VALUES ({site}, '2026-02', 1, '{{"pue": 1.4}}', 'abc', now(), true);
INSERT INTO alarms (site_id, rule, severity, state, fingerprint, started_at, fired_at)
    VALUES ({site}, 'pue', 'warning', 'firing', '{key}', now(), now());
INSERT INTO alarm_memory VALUES ('{key}', {site}, 'pue', '', '{{}}', now());
INSERT INTO alarm_transitions (alarm_id, fingerprint, site_id, rule, subject, at, before, after)
    SELECT id, '{key}', {site}, 'pue', '', now(), 'ok', 'firing' FROM alarms WHERE site_id = {site};
INSERT INTO alarm_comments (alarm_id, at, author, text)
    SELECT id, now(), 'a person', 'seen' FROM alarms WHERE site_id = {site};
INSERT INTO silences (site_id, rule, subject, start_at, end_at, author, comment)
    VALUES ({site}, 'pue', '', now(), now() + interval '1 day', 'a person', 'works');
INSERT INTO outbox (dedup_key, channel, site_id, alarm_id, what, payload, created_at, not_before)
    SELECT id || ':fired', 'mail', {site}, id, 'fired', jsonb_build_object('alarm', id), now(), now()
    FROM alarms WHERE site_id = {site};
INSERT INTO site_months VALUES ({site}, '2026-02-01', 1) ON CONFLICT DO NOTHING;
INSERT INTO declarations (site_id, indicator, value, dated, evidence, author)
    VALUES ({site}, 'maturity', 3, '2026-01-01', 'audit', 'a person');
INSERT INTO measures (site_id, key, what, boundary, implementation_start, implementation_end, baseline_start,
        baseline_end, reporting_start, evidence, author)
    VALUES ({site}, 'fans', 'EC fans', 'facility', '2026-01-01', '2026-01-02', '2025-01-01', '2026-01-01',
        '2026-01-02', 'invoice', 'a person');
INSERT INTO measure_adjustments (measure_id, start_on, end_on, energy_kwh, reason, author)
    SELECT id, '2026-02-01', '2026-02-02', 5, 'a test', 'a person' FROM measures WHERE site_id = {site};
INSERT INTO baselines VALUES ({site}, 1, 'abc', '{{}}', '[]', 'a person', now());
"""


def with_everything(engine: sa.Engine, site: str) -> None:
    """A row of each table for a site, raw: what counts is that all of it goes along."""
    with engine.begin() as connection:
        stored = sites.load(connection)
        number = stored.site_id[site]
        point = stored.point_id[next(iter(stored.fleet.site[site].points())).id]
        meter = stored.meter_id[stored.fleet.site[site].meters[0].id]
        connection.exec_driver_sql(
            "INSERT INTO events (site_id, meter_id, point_id, kind, start_at, end_at, author, note)"
            f" VALUES ({number}, {meter}, {point}, 'maintenance', '2026-02-01', '2026-02-02', 'a', 'b')"
        )
        text = OF_EVERYTHING.format(site=number, point=point, key=site)
        connection.exec_driver_sql(text.replace("%", "%%"))
        key = identity.create(connection, f"edge {site}", [Grant(Role.EDGE, site)], created_by="test")
        edges.create(connection, f"box-{site}", identity.public_id_of(key), [site])
        edge = edges.named(connection, f"box-{site}")
        edges.keep_unknown(connection, edge, [Reading("nobody.kwh", START, 5.0)])


def without_numbers(engine: sa.Engine, site: str) -> dict[str, list[str]]:
    """All rows of a site, without what is another number in another database."""
    with engine.connect() as connection:
        own = sealing.own_of(connection, site)
        assert own is not None
        found = {}
        for part in parts.PARTS:
            plain = sorted({*part.numbers, *part.changed, *(["id"] if part.is_numbered else [])})
            query = sql.SQL("SELECT (to_jsonb(t) - {}::text[])::text FROM {} t WHERE {} ORDER BY 1").format(
                sql.Literal(plain), sql.Identifier(part.table), parts.condition(part.of, own)
            )
            found[part.table] = [text for (text,) in driver(connection).execute(query).fetchall()]
        return found


def document_of(engine: sa.Engine, site: str) -> dict[str, Any]:
    with engine.connect() as connection:
        stored, span = sites.load(connection), Period(START, START + timedelta(hours=24))
        return dict(
            pue.document(connection, stored, site, span, deployment.limit_profiles(connection)).as_dict()
        )


def moves(wattline: Wattline, *options: str) -> Done:
    return wattline("cells", "move", "sh1", "--to", "north", *options)


# -- the whole way ---------------------------------------------------------------------------------------


def test_a_site_moves_with_all_that_is_known_of_it(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline
) -> None:
    a_day(here)
    with_everything(here, "sh1")
    with there.begin() as connection:  # its numbers are taken at the target
        sites.sync(connection, config.parse(OTHERS).fleet)
    with_everything(there, "elsewhere")
    others, before = without_numbers(there, "elsewhere"), without_numbers(here, "sh1")
    assert {table for table, found in before.items() if not found} == set()
    figures = document_of(here, "sh1")
    assert figures["pue"] == pytest.approx(1.4)

    done = moves(wattline, "--json")
    assert done.code == 0, done.err
    assert done.document["copied"] == sum(map(len, before.values()))

    assert without_numbers(there, "sh1") == before
    assert without_numbers(there, "elsewhere") == others
    assert document_of(there, "sh1") == figures
    assert verify.verify(here).breaches == ()
    assert verify.verify(there).breaches == ()
    with there.connect() as connection:
        found = sites.load(connection)
    assert set(found.fleet.site) == {"sh1", "elsewhere"}
    query = "SELECT alarm_id::text, dedup_key, payload ->> 'alarm', state FROM outbox WHERE site_id = :site"
    ((alarm, dedup, payload, state),) = rows(there, query, site=found.site_id["sh1"])
    assert (dedup, payload, state) == (f"{alarm}:fired", alarm, "waiting")
    joined = "SELECT count(*) FROM {0} c JOIN {1} p ON p.id = c.{2} WHERE p.site_id = :site"
    for child, parent, column in (
        ("reading_corrections", "events", "event_id"),
        ("alarm_comments", "alarms", "alarm_id"),
        ("alarm_transitions", "alarms", "alarm_id"),
        ("measure_adjustments", "measures", "measure_id"),
    ):
        query = joined.format(child, parent, column)
        assert rows(there, query, site=found.site_id["sh1"]) == [(1,)], child
    actions = "SELECT action, target FROM audit WHERE action LIKE 'site.move%'"
    assert rows(here, actions) == [("site.move_out", "sh1")]
    assert rows(there, actions) == [("site.move_in", "sh1")]


def test_the_source_says_where_the_site_is_and_writes_it_no_more(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline
) -> None:
    stored = a_day(here)
    with_everything(here, "sh1")
    assert moves(wattline).code == 0
    kept = without_numbers(here, "sh1")
    number = stored.site_id["sh1"]
    late = Reading("main.kwh", START + timedelta(days=2), 99_000.0)
    with pytest.raises(StoreUnavailable, match="sh1 moves to cell north"), begin(here) as connection:
        readings.ingest_readings(connection, [late], dict(stored.point_id))  # a stale worker
    for statement in (
        "UPDATE findings SET state = 'cleared'",
        "DELETE FROM alarms",
        "UPDATE sites SET retired_at = NULL",
        "UPDATE points SET retired_at = NULL",
    ):
        with here.begin() as connection:
            connection.exec_driver_sql(statement)
    with pytest.raises(StoreUnavailable, match="moved to cell north"), begin(here) as connection:
        connection.exec_driver_sql(
            f"INSERT INTO findings (site_id, kind, start_at, end_at, severity, state)"
            f" VALUES ({number}, 'x', now(), now(), 'info', 'open')"
        )
    with here.begin() as connection:  # a worker that starts with the site file of before
        synced = sites.sync(connection, config.parse(ESTATE).fleet, "a file")
    assert [move.cell for move in synced.moved_sites] == ["north"]
    assert without_numbers(here, "sh1") == kept
    with here.connect() as connection:
        assert set(sites.load(connection).fleet.site) == {"bj1"}
    judge.run(here, datetime.now(UTC))
    assert rows(here, "SELECT state FROM alarms") == [("firing",)]
    with client(here) as http:
        answer = http.get("/api/v1/sites/sh1/pue?window=24h")
        assert answer.status_code == 421
        assert answer.json()["moved"] == {"site": "sh1", "cell": "north", "url": "https://north.example"}
        row = {"point": "main.kwh", "at": "2026-03-01T05:00:00Z", "value": 1.0}
        mine = {"point": "bj.main.kwh", "at": "2026-03-01T05:01:00Z", "value": 1165.0}
        assert http.post("/api/v1/readings", json={"readings": [row]}).status_code == 421
        assert http.post("/api/v1/readings", json={"readings": [mine]}).status_code == 200
    done = wattline("pue", "sh1")
    assert (done.code, done.err.strip()) == (
        1,
        "site sh1 is in cell north now, at https://north.example; ask and send there",
    )


def test_a_site_file_at_the_target_takes_the_site_over(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline
) -> None:
    a_day(here)
    with there.begin() as connection:
        sites.sync(connection, config.parse(OTHERS).fleet, "the target's file")
    assert moves(wattline).code == 0
    with there.begin() as connection:  # a worker with the file of before retires nothing of others
        sites.sync(connection, config.parse(OTHERS).fleet, "the target's file")
        assert set(sites.load(connection).fleet.site) == {"sh1", "elsewhere"}
    with there.begin() as connection:
        sites.sync(connection, config.parse(ESTATE).fleet, "another file")
    owners = "SELECT owner FROM site_sources o JOIN sites s ON s.id = o.site_id WHERE s.key = 'sh1'"
    assert rows(there, owners) == [("another file",)]
    assert rows(there, "SELECT count(*) FROM rollup_queue") == [(0,)]  # it says the same: nothing moves


# -- what is on its way meanwhile --------------------------------------------------------------------------


def test_readings_that_a_worker_still_had_are_sent_after_the_site(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline
) -> None:
    a_day(here)
    ingest = Ingest(here, "poller", clock=lambda: NOW)
    ingest.stow([Reading("main.kwh", START, 1000.0)])  # knows the fleet of before
    assert moves(wattline).code == 0
    late = [Reading(p, START + timedelta(hours=24, minutes=1), 90_000.0) for p in ("main.kwh", "bj.main.kwh")]
    with pytest.raises(StoreUnavailable):
        ingest.stow(late)
    ingest.forget_fleet()
    stowed = ingest.stow(late)
    assert stowed.by_site == {"bj1": 1}
    assert stowed.drops == []
    assert "1 readings wait" in moves(wattline, "--check").out
    assert "has not" not in moves(wattline, "--drop-source").out
    done = moves(wattline, "--json")
    assert done.document["sent_after"] == 1
    query = "SELECT count(*) FROM readings r JOIN points p ON p.id = r.point_id WHERE r.value = 90000"
    assert (rows(there, query), rows(here, query)) == ([(1,)], [(1,)])


def test_an_edge_is_sent_on_with_its_claim(
    here: sa.Engine, there: sa.Engine, cells: Path, tmp_path: Path, wattline: Wattline
) -> None:
    a_day(here)
    with here.begin() as connection:
        key = identity.create(connection, "edge box", [Grant(Role.EDGE, "sh1")], created_by="test")
        edges.create(connection, "box", identity.public_id_of(key), ["sh1"])
    asks = {"clock": lambda: datetime.now(UTC)}
    with (
        client(here, authenticator=KeyAuthenticator(here, requests_per_minute=6000), **asks) as south,
        client(there, authenticator=KeyAuthenticator(there, requests_per_minute=6000), **asks) as north,
    ):
        way = Following(lambda url: Https(url, key), str(south.base_url), tmp_path / "edge" / "centre.json")
        claim = way.begin("p1")
        state = State("spool", datetime.now(UTC))
        batch = [Reading("main.kwh", START + timedelta(hours=25 + n), 80_000.0) for n in range(2)]
        unknown = Reading("nobody.kwh", START, 1.0)
        assert way.send(Message(claim, state, (batch[0], unknown))).stored == 1
        before = way.definitions()
        done = moves(wattline, "--edges-url", str(north.base_url))
        assert done.code == 0, done.err
        with pytest.raises(StoreUnavailable, match="in cell north now"):
            way.send(Message(claim, state, tuple(batch)))
        answer = way.send(Message(claim, state, (*batch, unknown)))
        assert (answer.stored, answer.duplicate, answer.unknown) == (1, 1, 1)
        assert way.definitions() == before
        way.close()
        again = Following(lambda url: Https(url, key), str(south.base_url), tmp_path / "edge" / "centre.json")
        assert again.url == str(north.base_url).rstrip("/")
        again.close()
    assert rows(there, "SELECT point FROM edge_unknown_readings") == [("nobody.kwh",)]


# -- what stands in the way, and the way back ---------------------------------------------------------------


def test_what_stands_in_the_way_is_said_before_anything_is_done(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline
) -> None:
    a_day(here)
    with here.begin() as connection:
        key = identity.create(connection, "edge both", [Grant(Role.EDGE, "sh1")], created_by="test")
        edges.create(connection, "both", identity.public_id_of(key), ["sh1", "bj1"])
        connection.exec_driver_sql(
            "INSERT INTO imports (id, site_id, file_name, sha256, status)"
            " SELECT gen_random_uuid(), id, 'big.csv', 'x', 'running' FROM sites WHERE key = 'sh1'"
        )
    with there.begin() as connection:
        taken = config.parse(OTHERS.replace("their.kwh", "main.kwh")).fleet
        sites.sync(connection, taken)
        connection.exec_driver_sql("INSERT INTO deployment VALUES ('reference', '{}')")
    done = moves(wattline, "--check", "--json")
    assert done.code == 1
    obstacles = done.document["obstacles"]
    assert [one for one in obstacles if "points of the same id: main.kwh" in one]
    assert [one for one in obstacles if "edge both also measures bj1" in one]
    assert [one for one in obstacles if "big.csv is being imported" in one]
    assert len(obstacles) == 3
    assert done.document["rows"]["readings"] == 291
    done = moves(wattline)
    assert done.code == 1
    assert done.err.count("\n") == 3
    assert rows(here, "SELECT * FROM site_moves") == []
    assert rows(there, "SELECT * FROM site_moves") == []

    assert wattline("cells", "move", "sh1", "--to", "west").err == (
        "--to: there is no cell 'west'; known are north\n"
    )
    assert "no site 'sh9'" in wattline("cells", "move", "sh9", "--to", "north").err
    assert wattline("cells", "move", "sh1", "--to", "north", "--check", "--cancel").code == 2
    with there.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0036'")
    assert "the schema of cell north is 0036" in moves(wattline, "--check").out


def test_a_move_is_cancelled_or_the_rows_that_are_left_removed_and_the_site_comes_back(
    here: sa.Engine, there: sa.Engine, cells: Path, tmp_path: Path, wattline: Wattline,
    monkeypatch: pytest.MonkeyPatch, database_url: str, other_database_url: str,
) -> None:  # fmt: skip
    a_day(here)
    with_everything(here, "sh1")
    before = without_numbers(here, "sh1")

    def broken(*_: object) -> None:
        raise StoreUnavailable("the target is away")

    with monkeypatch.context() as patch:
        patch.setattr(opening, "open_there", broken)
        assert moves(wattline).code == 1
    assert rows(here, "SELECT state FROM site_moves") == [("sealed",)]
    assert moves(wattline, "--cancel").code == 0
    assert without_numbers(here, "sh1") == before
    assert rows(there, "SELECT count(*) FROM readings") == [(0,)]
    assert moves(wattline, "--drop-source").code == 1

    done = moves(wattline)
    assert done.code == 0, done.err
    again = moves(wattline)  # nothing is left to do
    assert again.code == 0, again.err
    assert moves(wattline, "--cancel").code == 1
    assert moves(wattline, "--drop-source").code == 0
    with here.connect() as connection:
        assert sealing.own_of(connection, "sh1") is None
    assert rows(here, "SELECT count(*) FROM readings r JOIN points p ON p.id = r.point_id") == [(194,)]
    assert rows(here, "SELECT count(*) FROM readings") == [(194,)]

    cells.write_text(cells.read_text().replace("north", "south").replace("south.url", "back.url")
                     .replace("south.key", "north.key"))  # fmt: skip
    (tmp_path / "back.url").write_text(database_url)
    monkeypatch.setenv("WATTLINE_DATABASE_URL", other_database_url)
    monkeypatch.setenv("WATTLINE_CELL_ID", "north")
    done = wattline("cells", "move", "sh1", "--to", "south")
    assert done.code == 0, done.err
    assert without_numbers(here, "sh1") == before
    assert verify.verify(here).breaches == ()


def test_what_was_kept_for_a_site_that_stays_after_all_is_stored_here(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_day(here)
    worker = Ingest(here, "poller")

    def stow(*minutes: int) -> None:
        worker.stow([Reading("main.kwh", NOW - timedelta(minutes=n, seconds=7), 1e6 - n) for n in minutes])

    def broken(*_: object) -> None:
        raise StoreUnavailable("the target is away")

    with monkeypatch.context() as patch:
        patch.setattr(opening, "open_there", broken)
        assert moves(wattline).code == 1
    stow(4, 3)
    assert rows(here, "SELECT count(*) FROM site_move_readings") == [(2,)]
    stored = "SELECT count(*) FROM readings WHERE value > 900000"
    assert moves(wattline, "--cancel").code == 0
    assert (rows(here, "SELECT count(*) FROM site_move_readings"), rows(here, stored)) == ([(0,)], [(2,)])
    stow(2)  # a worker that has not heard of it yet
    assert rows(here, "SELECT count(*) FROM site_move_readings") == [(1,)]
    with here.connect() as connection:
        assert opening.take_back(connection) == 1
    assert rows(here, stored) == [(3,)]
    assert rows(here, "SELECT count(*) FROM rollup_queue")[0][0] > 0


def test_other_sites_of_a_worker_do_not_wait_while_one_is_closed(
    here: sa.Engine, there: sa.Engine, cells: Path, wattline: Wattline, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_day(here)
    worker = Ingest(here, "poller")
    batch = [Reading(p, NOW - timedelta(seconds=7), 1e6) for p in ("main.kwh", "bj.main.kwh")]

    def broken(*_: object) -> None:
        raise StoreUnavailable("the rollup is away")

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "seal", broken)
        assert moves(wattline).code == 1
    assert rows(here, "SELECT state FROM site_moves") == [("closed",)]
    with pytest.raises(StoreUnavailable):
        worker.stow(batch)
    worker.stow(batch)
    assert rows(here, "SELECT point FROM site_move_readings") == [("main.kwh",)]
    stored = "SELECT p.key FROM readings r JOIN points p ON p.id = r.point_id WHERE r.value = 1e6"
    assert rows(here, stored) == [("bj.main.kwh",)]
    with here.connect() as connection:
        assert opening.take_back(connection) == 0, "it is on its way"
    done = moves(wattline)
    assert done.code == 0, done.err
    assert rows(there, stored) == [("main.kwh",)]
    assert rows(here, "SELECT point FROM site_move_readings") == []


# -- interrupted -----------------------------------------------------------------------------------------

SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_any_statement_and_started_again_it_ends_the_same(
    here: sa.Engine, there: sa.Engine, database_url: str, other_database_url: str, seed: int
) -> None:
    stored = a_day(here)
    with_everything(here, "sh1")
    chance, at, told, killed = random.Random(seed), START + timedelta(hours=30), set(), 0
    while True:
        late = Reading("main.kwh", at, 80_000.0 + killed)
        try:
            with begin(here) as connection:
                readings.ingest_readings(connection, [late], dict(stored.point_id))
            told.add(at)
        except StoreUnavailable:
            assert rows(here, "SELECT state <> 'copying' FROM site_moves") == [(True,)]
        at += timedelta(minutes=1)
        if run_and_kill(database_url, other_database_url, chance.randrange(1, 300 * (killed + 2))):
            break
        killed += 1
    assert killed >= 2
    query = "SELECT r.at FROM readings r JOIN points p ON p.id = r.point_id WHERE r.value >= 80000"
    assert {at for (at,) in rows(there, query)} == told
    before, after = without_numbers(here, "sh1"), without_numbers(there, "sh1")
    assert after == before
    assert verify.verify(there).breaches == ()


def run_and_kill(source: str, target: str, statement: int) -> bool:
    """Move in a process of its own that is killed before it says so many statements; whether it was done."""
    child = os.fork()
    if child == 0:
        try:
            left = itertools.count(statement, -1)

            def counted(*_: object) -> None:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            said = ImpatientConnection.wait
            ImpatientConnection.wait = lambda self, *a, **o: (counted(), said(self, *a, **o))[1]  # type: ignore[method-assign]
            one, other = make_engine(source), make_engine(target)
            way = Way("sh1", "south", "north", "https://north.example")
            fleet_moves.move(one, other, way, Actor("test"), work_off=lambda: rollup.run(one))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - it must not go on as a second pytest
            traceback.print_exc()
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)
