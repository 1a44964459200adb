"""Edges at the cell: keys, epochs, what is stored and what waits, definitions, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app import config
from app.api.auth import KeyAuthenticator
from app.domain.access import Grant, Role
from app.domain.edge_message import Claim, Dropped, Message, SetAside, State, encode
from app.domain.reading import Reading
from app.domain.signed import secret_of, verified
from app.jobs.edge_findings import EdgeFindings
from app.jobs.edge_intake import Intake
from app.store import edges, identity, sites
from app.store.engine import make_engine
from app.telemetry import Telemetry
from app.web import router as pages
from tests.integration.api_helpers import ESTATE, client, declare
from tests.integration.conftest import Wattline

NOW = datetime.now(UTC).replace(microsecond=0)
SPOOL = "0b6e4c0a-6a58-4a29-9d5a-5d7f7a2b2d11"


@pytest.fixture
def database(database_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(database_url)
    declare(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def centre(database: sa.Engine) -> Iterator[httpx.Client]:
    asks = KeyAuthenticator(database, requests_per_minute=6000)
    with client(database, authenticator=asks, clock=lambda: datetime.now(UTC)) as http:
        yield http


def key_of(database: sa.Engine, name: str, *site_ids: str) -> str:
    with database.begin() as connection:
        grants = [Grant(Role.EDGE, site) for site in site_ids]
        key = identity.create(connection, f"edge {name}", grants, created_by="test")
        edges.create(connection, name, identity.public_id_of(key), site_ids)
    return key


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def begin(centre: httpx.Client, key: str, process: str) -> httpx.Response:
    return centre.post("/api/v1/edges/begin", json={"process": process}, headers=of(key))


def began(centre: httpx.Client, key: str, process: str = "p1") -> Claim:
    answer = begin(centre, key, process)
    assert answer.status_code == 200, answer.text
    return Claim(process, answer.json()["epoch"])


def send(centre: httpx.Client, key: str, claim: Claim, *rows: Reading, **state: Any) -> httpx.Response:
    said = State(**{"spool": SPOOL, "sent_at": datetime.now(UTC), "clock_offset_s": 0.0} | state)
    body = encode(Message(claim, said, rows))
    return centre.post("/api/v1/edges/readings", content=body, headers=of(key))


def reading(point: str, minutes: float, value: float = 1.0) -> Reading:
    return Reading(point, NOW - timedelta(minutes=60 - minutes), value)


def stored(database: sa.Engine) -> list[tuple[str, float]]:
    query = "SELECT p.key, r.value FROM readings r JOIN points p ON p.id = r.point_id ORDER BY 1, r.at"
    with database.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def shown(centre: httpx.Client, database: sa.Engine, name: str = "box") -> dict[str, Any]:
    with database.begin() as connection:
        key = identity.create(connection, "viewer", [Grant(Role.VIEWER)], created_by="test")
    answer = centre.get("/api/v1/fleet/edges", headers=of(key))
    assert answer.status_code == 200, answer.text
    assert answer.json()["missing"] == []
    (edge,) = (one for one in answer.json()["edges"] if one["name"] == name)
    return dict(edge)


def test_what_is_answered_is_stored_and_stored_once(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    claim = began(centre, key)
    first = send(centre, key, claim, reading("main.kwh", 0, 5.0), reading("main.kwh", 1, 6.0), waiting=9)
    again = send(centre, key, claim, reading("main.kwh", 0, 5.0), reading("main.kwh", 1, 7.0), waiting=9)
    counts = ("stored", "duplicate", "conflicting", "unknown", "refused")
    assert [first.json()[c] for c in counts] == [2, 0, 0, 0, 0]
    assert [again.json()[c] for c in counts] == [0, 1, 1, 0, 0]
    assert stored(database) == [("main.kwh", 5.0), ("main.kwh", 6.0)]
    edge = shown(centre, database)
    assert edge["is_online"]
    assert edge["spool_readings"] == 9


def test_a_second_process_with_the_same_key_is_refused_until_the_first_is_gone(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key = key_of(database, "box", "sh1")
    first = began(centre, key, "first")
    assert send(centre, key, first, reading("main.kwh", 0)).status_code == 200
    refused = begin(centre, key, "second")
    assert refused.status_code == 409
    assert "another process speaks for edge 'box'" in refused.json()["detail"]
    assert shown(centre, database)["second_process_refused_at"] is not None
    assert send(centre, key, Claim("second", first.epoch), reading("main.kwh", 1)).status_code == 409
    assert begin(centre, key, "first").json()["epoch"] == first.epoch

    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE edges SET lease_until = now() - interval '1 s'")
    second = began(centre, key, "second")
    assert second.epoch == first.epoch + 1
    late = send(centre, key, first, reading("main.kwh", 2), reading("unheard.of", 3))
    assert late.status_code == 409
    assert send(centre, key, second, reading("main.kwh", 4, 4.0)).status_code == 200
    assert stored(database) == [("main.kwh", 1.0), ("main.kwh", 4.0)]
    with database.connect() as connection:
        assert not edges.unknown_points(connection)


def test_a_process_that_ends_in_order_lets_the_next_one_begin_at_once(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key = key_of(database, "box", "sh1")
    claim = began(centre, key, "first")
    body = {"process": claim.process, "epoch": claim.epoch}
    assert centre.post("/api/v1/edges/release", json=body, headers=of(key)).status_code == 200
    assert began(centre, key, "second").epoch == claim.epoch + 1


def test_what_no_site_declares_waits_is_shown_and_stored_once_declared(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key = key_of(database, "box", "sh1")
    claim = began(centre, key)
    rows = [reading("new.kwh", 0, 3.0), reading("main.kwh", 0), reading("bj.main.kwh", 0)]
    for _ in range(2):
        assert send(centre, key, claim, *rows).json()["unknown"] == 2
    edge = shown(centre, database)
    assert (edge["unknown_readings"], edge["unknown_points"]) == (2, ["bj.main.kwh", "new.kwh"])
    assert stored(database) == [("main.kwh", 1.0)]

    intake = Intake(database)
    assert intake.adopt() == 0
    new = "- id: new\n        points: [{id: new.kwh, role: other, kind: register}]\n"
    text = ESTATE.replace("- id: ups\n", f"{new}      - id: ups\n")
    with database.begin() as connection:
        sites.sync(connection, config.parse(text).fleet)
    assert intake.adopt() == 1
    assert intake.adopt() == 0
    assert stored(database) == [("main.kwh", 1.0), ("new.kwh", 3.0)]
    edge = shown(centre, database)  # the other site's point is not this edge's to fill
    assert (edge["unknown_readings"], edge["unknown_points"]) == (1, ["bj.main.kwh"])


def test_acknowledged_is_stored_or_in_the_ledger(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    claim = began(centre, key)
    rows = [
        reading("main.kwh", 0),
        reading("main.kwh", 1, float("inf")),
        Reading("main.kwh", NOW + timedelta(days=9), 1.0),
    ]
    dropped = (Dropped("main.kwh", "too_old", 7), Dropped("bj.main.kwh", "too_old", 5))
    for _ in range(2):
        answer = send(centre, key, claim, *rows, dropped=dropped).json()
        assert (answer["stored"] + answer["duplicate"], answer["refused"]) == (1, 2)
    query = "SELECT reason, sum(readings)::int FROM dropped_readings GROUP BY 1 ORDER BY 1"
    with database.connect() as connection:
        ledger = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert ledger == [("refused", 2), ("too_old", 7)]


@pytest.mark.parametrize(("offset_s", "is_off"), [(600.0, True), (-43_200.0, True), (2.0, False)])
def test_a_clock_that_is_off_is_flagged_and_counted(
    database: sa.Engine, centre: httpx.Client, offset_s: float, is_off: bool
) -> None:
    key = key_of(database, "box", "sh1")
    claim = began(centre, key)
    shifted = [Reading("main.kwh", NOW + timedelta(seconds=offset_s + n), float(n)) for n in range(3)]
    for _ in range(2):
        send(centre, key, claim, *shifted, clock_offset_s=offset_s)
    edge = shown(centre, database)
    assert (edge["clock_offset_s"], edge["is_clock_off"]) == (offset_s, is_off)
    assert edge["clock_off_readings"] == (3 if is_off else 0)
    assert len(stored(database)) == 3


def test_a_clock_is_judged_before_the_edge_has_measured_it(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    ahead = datetime.now(UTC) + timedelta(minutes=10)
    send(centre, key, began(centre, key), clock_offset_s=None, sent_at=ahead)
    assert shown(centre, database)["clock_offset_s"] == pytest.approx(600, abs=30)


def test_definitions_are_those_of_the_edges_sites_and_signed_for_its_key(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key, other = key_of(database, "box", "sh1"), key_of(database, "bj-box", "bj1")
    signed = centre.get("/api/v1/edges/definitions", headers=of(key)).json()
    said = verified(signed, secret_of(key))
    fleet = config.restore(said.site_file).fleet
    assert (said.edge, said.revision, list(fleet.site), list(fleet.institution)) == (
        "box",
        1,
        ["sh1"],
        ["bank"],
    )
    with database.connect() as connection:
        own = sites.load(connection).fleet.site["sh1"]
    assert fleet.site["sh1"] == own
    assert send(centre, key, began(centre, key), revision=1).json()["revision"] == 1
    assert shown(centre, database)["is_current"]

    edited = ESTATE.replace("id: bj.main\n", "id: bj.main\n        rated_power_kw: 5\n")
    with database.begin() as connection:
        sites.sync(connection, config.parse(edited).fleet)
    assert send(centre, key, Claim("p1", 1), revision=1).json()["revision"] == 1
    assert send(centre, other, began(centre, other), revision=1).json()["revision"] == 1
    renewed = verified(centre.get("/api/v1/edges/definitions", headers=of(other)).json(), secret_of(other))
    assert (renewed.edge, renewed.revision) == ("bj-box", 1)
    with database.begin() as connection:
        sites.sync(connection, config.parse(ESTATE).fleet)
    assert send(centre, other, Claim("p1", 1), revision=1, problem="why").json()["revision"] == 2
    edge = shown(centre, database, "bj-box")
    assert (edge["revision"], edge["newest_revision"], edge["is_current"], edge["problem"]) == (
        1,
        2,
        False,
        "why",
    )


def test_an_edge_that_cannot_be_reached_is_shown_with_its_old_revision(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key, other = (key_of(database, f"{site}-box", site) for site in ("sh1", "bj1"))
    for one in (key, other):
        assert send(centre, one, began(centre, one), revision=1).json()["revision"] == 1
    intake = Intake(database)
    intake.note_revisions()
    edited = ESTATE.replace("id: bj.main\n", "id: bj.main\n        rated_power_kw: 5\n")
    with database.begin() as connection:
        sites.sync(connection, config.parse(edited).fleet)
    for _ in range(2):
        intake.note_revisions()
    revisions = {
        name: (edge["revision"], edge["newest_revision"], edge["is_current"])
        for name in ("sh1-box", "bj1-box")
        if (edge := shown(centre, database, name))
    }
    assert revisions == {"sh1-box": (1, 1, True), "bj1-box": (1, 2, False)}


def test_the_pace_of_the_backlog_is_shared_by_the_edges_that_have_one(
    database: sa.Engine, centre: httpx.Client
) -> None:
    paces = []
    for n, site in enumerate(("sh1", "bj1")):
        key = key_of(database, f"box{n}", site)
        paces.append(send(centre, key, began(centre, key), waiting=100_000).json()["backlog_per_s"])
    assert paces == [5000.0, 2500.0]


def test_the_key_of_an_edge_opens_nothing_else(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    assert centre.get("/api/v1/sites", headers=of(key)).json()["sites"] == []
    assert centre.get("/api/v1/sites/sh1/pue", headers=of(key)).status_code == 404
    assert centre.get("/api/v1/fleet/edges", headers=of(key)).json()["edges"] == []
    row = {"point": "main.kwh", "at": NOW.isoformat(), "value": 1.0}
    assert centre.post("/api/v1/readings", json={"readings": [row]}, headers=of(key)).status_code == 403
    assert (
        centre.post("/api/v1/keys", json={"name": "x", "grants": ["admin"]}, headers=of(key)).status_code
        == 403
    )


def test_other_keys_and_revoked_ones_speak_for_no_edge(database: sa.Engine, centre: httpx.Client) -> None:
    with database.begin() as connection:
        operator = identity.create(connection, "op", [Grant(Role.OPERATOR)], created_by="test")
    assert begin(centre, operator, "p").status_code == 403
    key = key_of(database, "box", "sh1")
    claim = began(centre, key)
    with database.begin() as connection:
        identity.revoke(connection, identity.public_id_of(key), "test")
    assert send(centre, key, claim, reading("main.kwh", 0)).status_code == 401
    assert stored(database) == []
    assert shown(centre, database)["is_revoked"]


def test_what_is_no_message_is_refused(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    answer = centre.post("/api/v1/edges/readings", content=b"{}", headers=of(key))
    assert answer.status_code == 422
    assert "not a message of an edge" in answer.json()["detail"]


def test_a_viewer_of_one_site_sees_that_sites_edge_only(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    key_of(database, "bj-box", "bj1")
    aside = (SetAside("sh1", "a.csv", "no table", NOW), SetAside("bj1", "b.csv", "no table", NOW))
    send(centre, key, began(centre, key), set_aside=aside)
    with database.begin() as connection:
        viewer = identity.create(connection, "v", [Grant(Role.VIEWER, "sh1")], created_by="test")
    (edge,) = centre.get("/api/v1/fleet/edges", headers=of(viewer)).json()["edges"]
    assert (edge["name"], [f["file"] for f in edge["files_set_aside"]]) == ("box", ["a.csv"])


FOLDER = ESTATE.replace(
    "      - id: ups\n",
    "      - id: files\n        collector: {kind: csv_folder, folder: /nowhere, pattern: '*.csv'}\n"
    "        points: [{id: file.kwh, role: other, kind: register}]\n      - id: ups\n",
)


def test_a_file_of_an_edge_is_imported_or_told_why_not(database: sa.Engine, centre: httpx.Client) -> None:
    with database.begin() as connection:
        sites.sync(connection, config.parse(FOLDER).fleet)
    key = key_of(database, "box", "sh1")
    claim = began(centre, key)
    query = {"meter": "files", "name": "día 1.csv", "process": "p1", "epoch": str(claim.epoch)}

    def sent(content: bytes, **changed: str) -> httpx.Response:
        return centre.post(
            "/api/v1/edges/imports", params={**query, **changed}, content=content, headers=of(key)
        )

    good = b"time,file.kwh\n2026-03-01T00:00:00Z,1\n2026-03-01T00:15:00Z,2\n"
    assert sent(good).json() == {"accepted": 2, "duplicate": 0, "rejected": 0, "problem": ""}
    assert sent(good).json()["duplicate"] == 2
    assert [v for p, v in stored(database) if p == "file.kwh"] == [1.0, 2.0]
    bad = sent(b"\x00\x01nothing\n").json()
    assert bad["accepted"] == 0
    assert "día 1.csv" in bad["problem"]
    assert sent(good, meter="ups").status_code == 404
    assert sent(good, name="../x.csv").status_code == 422
    assert sent(good, epoch="99").status_code == 409


def test_edges_on_the_command_line(wattline: Wattline, database: sa.Engine, tmp_path: Path) -> None:
    made = wattline("edges", "create", "box", "--site", "sh1", "--json").document
    assert made["key"].startswith("wl_")
    taken = wattline("edges", "create", "box2", "--site", "sh1")
    assert (taken.code, taken.err) == (2, "site sh1 has the edge 'box'; revoke that first\n")
    assert wattline("edges", "create", "box", "--site", "bj1").err.startswith(
        "there is an edge 'box' already"
    )
    assert wattline("edges", "create", "b", "--site", "nowhere").err == "there is no site 'nowhere'\n"
    assert wattline("keys", "create", "k", "--grant", "edge:site/bj1").code == 2
    (edge,) = wattline("edges", "list", "--json").document["edges"]
    assert (edge["name"], edge["is_revoked"], edge["last_seen_at"]) == ("box", False, None)
    assert "never" in wattline("edges", "list").out
    assert wattline("edges", "revoke", "box").code == 0
    assert wattline("edges", "revoke", "box").code == 1
    assert wattline("edges", "create", "box2", "--site", "sh1").code == 0
    with database.connect() as connection:
        actions = connection.exec_driver_sql("SELECT action, target FROM audit ORDER BY seq").all()
    assert [tuple(a) for a in actions][:2] == [("edge.create", "box"), ("edge.revoke", "box")]
    assert json.dumps(made["key"]) not in str(actions)


def test_an_edges_site_is_left_to_it_once_it_has_begun(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    with database.connect() as connection:
        assert edges.measured_sites(connection) == set()
    began(centre, key)
    with database.connect() as connection:
        assert edges.measured_sites(connection) == {"sh1"}
    with database.begin() as connection:
        identity.revoke(connection, identity.public_id_of(key), "test")
    with database.connect() as connection:
        assert edges.measured_sites(connection) == set()


def _open(database: sa.Engine, site: str) -> list[tuple[str, datetime, datetime, dict[str, Any]]]:
    query = sa.text(
        "SELECT kind, start_at, end_at, evidence FROM findings f JOIN sites s ON s.id = f.site_id"
        " WHERE s.key = :site AND state = 'open' ORDER BY kind, start_at"
    )
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(query, {"site": site})]


def test_a_clock_that_is_off_is_a_finding_over_the_times_that_the_readings_state(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key = key_of(database, "box", "sh1")
    claim, look = began(centre, key), EdgeFindings(database)
    send(centre, key, claim, clock_offset_s=-43_200.0)
    for seconds in (0, 30, 60):
        look.run(NOW + timedelta(seconds=seconds))
    ((kind, start, end, evidence),) = _open(database, "sh1")
    shift = timedelta(hours=-12)
    assert (kind, start, end) == ("clock_drift", NOW + shift, NOW + timedelta(seconds=60) + shift)
    assert evidence == {"edge": "box", "clock_offset_s": -43_200.0}
    send(centre, key, claim, clock_offset_s=0.1)
    look.run(NOW + timedelta(seconds=90))
    assert len(_open(database, "sh1")) == 1  # those readings stay where they are
    assert _open(database, "bj1") == []


def test_files_that_an_edge_set_aside_are_findings_until_they_are_gone(
    database: sa.Engine, centre: httpx.Client
) -> None:
    key = key_of(database, "box", "sh1")
    claim, look = began(centre, key), EdgeFindings(database)
    files = (SetAside("sh1", "a.csv", "no table", NOW), SetAside("sh1", "b.csv", "no time", NOW))
    send(centre, key, claim, set_aside=files)
    look.run(NOW)
    send(centre, key, claim)  # says nothing of files: as before
    look.run(NOW)
    assert [e["file"] for _, _, _, e in _open(database, "sh1")] == ["a.csv", "b.csv"]
    send(centre, key, claim, set_aside=files[1:])
    look.run(NOW)
    assert [e["reason"] for _, _, _, e in _open(database, "sh1")] == ["no time"]
    send(centre, key, claim, set_aside=())
    look.run(NOW)
    assert _open(database, "sh1") == []


def test_metrics_have_the_edge_of_each_site(database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    key_of(database, "silent", "bj1")
    send(centre, key, began(centre, key), reading("nowhere", 0), waiting=12, clock_offset_s=600.0)
    telemetry = Telemetry()
    telemetry.look_at_progress(database)
    text = telemetry.exposition().decode()
    for sample in (
        'wattline_edge_clock_offset_seconds{site="sh1"} 600.0',
        'wattline_edge_spool_readings{site="sh1"} 12.0',
        'wattline_edge_unknown_readings{site="sh1"} 1.0',
        'wattline_edge_clock_off_readings_total{site="sh1"} 0.0',
        'wattline_edge_definitions_current{site="sh1"} 0.0',
    ):
        assert sample in text
    assert 'wattline_edge_last_seen_timestamp_seconds{site="sh1"} 1' in text
    assert 'wattline_edge_spool_readings{site="bj1"}' not in text
    assert "wattline_edge_" not in telemetry.exposition(visible={"bj1"}).decode()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_shows_edges(database: sa.Engine, centre: httpx.Client, language: str) -> None:
    key = key_of(database, "box", "sh1")
    claim = began(centre, key, "first")
    begin(centre, key, "second")
    aside = (SetAside("sh1", "<a>.csv", "no table", NOW),)
    send(centre, key, claim, reading("no.where", 0), waiting=4321, clock_offset_s=600.0, set_aside=aside)
    with client(database, extra=(pages.router,), clock=lambda: datetime.now(UTC)) as http:
        page = http.get("/settings/edges", params={"lang": language}).text
    shown = {"en": ("Online", "second process"), "zh": ("在线", "第二个进程")}[language]
    for text in (*shown, "box", "4,321", "600", "no.where", "&lt;a&gt;.csv"):
        assert text in page


def test_doctor_looks_at_edges(wattline: Wattline, database: sa.Engine, centre: httpx.Client) -> None:
    key = key_of(database, "box", "sh1")
    send(centre, key, began(centre, key), reading("nowhere", 0), clock_offset_s=600.0, version="0.0.1")
    key_of(database, "silent", "bj1")
    checks = {c["subject"]: c for c in wattline("doctor", "--json").document["checks"]}
    outcomes = {subject: c["outcome"] for subject, c in checks.items() if subject.find("edge ") >= 0}
    assert outcomes == {
        "edge box": "ok",
        "version of edge box": "warning",
        "clock of edge box": "fault",
        "definitions of edge box": "warning",
        "undeclared points of edge box": "warning",
        "edge silent": "warning",
    }
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE edges SET last_seen_at = now() - interval '1 day'")
    checks = {c["subject"]: c for c in wattline("doctor", "--json").document["checks"]}
    assert checks["edge box"]["outcome"] == "fault"
