"""Readings over HTTP: what is answered is true, row by row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tests.integration.api_helpers import NOW, START, a_day, client, declare, own_database, sent


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet and a day of readings."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        yield engine


@pytest.fixture
def http(database: sa.Engine) -> Iterator[httpx.Client]:
    """The application; what the last test sent is gone."""
    with database.begin() as connection:
        connection.execute(
            sa.text("DELETE FROM readings WHERE at > :at"), {"at": START + timedelta(hours=24)}
        )
        connection.execute(sa.text("TRUNCATE reading_conflicts, rollup_queue"))
    with client(database, clock=lambda: NOW + timedelta(days=1)) as http:
        yield http


MINUTES = [24 * 60 + 15 * i for i in range(1, 4)]
"""After the day that is stored."""


def post(http: httpx.Client, rows: list[dict[str, object]]) -> dict[str, object]:
    answer = http.post("/api/v1/readings", json={"readings": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored(http: httpx.Client, point: str) -> list[dict[str, object]]:
    """What the interface gives back of a point after the day."""
    query = {"point": point, "start": "2026-03-02T00:00:01Z", "end": "2026-04-01T00:00:00Z"}
    return http.get("/api/v1/readings", params=query).json()["readings"]


def test_sent_twice_is_stored_once(http: httpx.Client) -> None:
    body = sent(MINUTES)
    assert http.post("/api/v1/readings", json=body).json() == {"accepted": 3, "duplicate": 0, "rejected": []}
    assert http.post("/api/v1/readings", json=body).json() == {"accepted": 0, "duplicate": 3, "rejected": []}
    assert [r["value"] for r in stored(http, "main.kwh")] == [3455.0, 3470.0, 3485.0]


def test_each_bad_row_has_its_reason_and_the_batch_survives(http: httpx.Client) -> None:
    at = "2026-03-02T01:00:00Z"
    good = {"point": "main.kwh", "at": at, "value": 1}
    text = json.dumps(
        {
            "readings": [
                good,
                {"point": "nobody", "at": at, "value": 1},
                {**good, "value": float("nan")},
                {**good, "value": float("inf")},
                {**good, "value": 1e308},
                {**good, "at": "9999-12-31T23:59:59Z"},
                {**good, "at": "2026-03-02T01:00:00"},
                {**good, "value": "12"},
                {**good, "value": None},
                {**good, "value": 10**400},
                {**good, "at": "1970-01-01T00:00:00Z"},
                {**good, "interval_s": 900},
                {**good, "value": 2},
                {**good, "point": "ups.kwh"},
            ]
        }
    )
    answer = http.post("/api/v1/readings", content=text, headers={"content-type": "application/json"}).json()
    assert answer["accepted"] == 2
    reasons = {r["row"]: r["reason"] for r in answer["rejected"]}
    assert sorted(reasons) == list(range(1, 13))
    assert reasons[1] == "unknown point"
    assert "not a finite number" in reasons[2]
    assert "outside" in reasons[4]
    assert "in the future" in reasons[5]
    assert "with a zone" in reasons[6]
    assert reasons[12] == "2 contradicts 1, which was stored for this time first"


def test_units_and_stamps_are_the_points(http: httpx.Client) -> None:
    at = "2026-03-02T01:00:00Z"
    answer = post(
        http,
        [
            {"point": "ups.wh", "at": at, "value": 5000},
            {"point": "chiller.mean", "at": at, "value": 150},
            {
                "point": "chiller.mean",
                "at": "2026-03-02T02:00:00Z",
                "value": 150,
                "interval_s": 60,
                "valid_s": 30,
            },
            {"point": "hall.c", "at": at, "value": 212},
        ],
    )
    assert answer["rejected"] == []
    assert stored(http, "ups.wh")[0]["value"] == 5.0
    first, second = stored(http, "chiller.mean")
    assert (first["at"], first["interval_s"], first["valid_s"]) == ("2026-03-02T01:15:00Z", 900, 900)
    assert (second["at"], second["interval_s"], second["valid_s"]) == ("2026-03-02T02:01:00Z", 60, 30)
    assert stored(http, "hall.c")[0]["value"] == pytest.approx(100)


def test_ndjson_streams_in_batches(http: httpx.Client) -> None:
    lines = [
        json.dumps(
            {"point": "main.kwh", "at": (START + timedelta(days=1, seconds=s)).isoformat(), "value": s}
        )
        for s in range(1, 12_001)
    ]
    lines[7] = "no json"

    def chunks() -> Iterator[bytes]:
        text = "\n".join(lines).encode()
        for i in range(0, len(text), 10_007):
            yield text[i : i + 10_007]

    headers = {"content-type": "application/x-ndjson"}
    answer = http.post("/api/v1/readings", content=chunks(), headers=headers).json()
    assert answer["accepted"] == 11_999
    assert [r["row"] for r in answer["rejected"]] == [7]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"[]", "application/json", 422),
        (b"{", "application/json", 422),
        (b'{"readings": [], "site_id": 1}', "application/json", 422),
        (b'{"readings": [{"point": "a", "at": "b", "value": 1, "role": "admin"}]}', "application/json", 422),
        (b'{"readings": [{"point": "a"}]}', "application/json", 422),
        (b'{"readings": [{"point": "a", "at": "b", "value": true}]}', "application/json", 422),
        (b"[" * 200_000, "application/json", 422),
        (b'{"readings": []}', "text/plain", 415),
        (b"x" * 100_000, "application/x-ndjson", 413),
    ],
)
def test_bodies_that_are_no_readings(http: httpx.Client, body: bytes, kind: str, status: int) -> None:
    answer = http.post("/api/v1/readings", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_pages_follow_each_other_without_loss(http: httpx.Client) -> None:
    query = {"point": ["main.kwh", "ups.kwh"], "end": "2026-03-02T00:00:01Z", "limit": "50"}
    start: str | None = START.isoformat()
    rows: list[dict[str, object]] = []
    while start:
        page = http.get("/api/v1/readings", params={**query, "start": start}).json()
        rows += page["readings"]
        start = page["next_start"]
    assert len(rows) == 2 * 97
    assert len({(r["at"], r["point"]) for r in rows}) == len(rows)
    assert [r["at"] for r in rows] == sorted(r["at"] for r in rows)


def test_exports_hold_every_reading(http: httpx.Client) -> None:
    query = {"point": ["main.kwh", "ups.kwh"], "start": START.isoformat(), "end": NOW.isoformat()}
    answer = http.get("/api/v1/readings", params={**query, "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 2 * 97
    assert rows[0]["unit"] == "kwh"
    assert {float(r["value"]) for r in rows if r["at"] == START.isoformat()} == {1000.0}
    answer = http.get("/api/v1/readings", params={**query, "format": "parquet"})
    table = pq.read_table(io.BytesIO(answer.content)).to_pandas()
    assert len(table) == 2 * 97
    assert table["value"].sum() == pytest.approx(sum(float(r["value"]) for r in rows))


def test_ten_years_are_too_much_for_one_export(http: httpx.Client) -> None:
    query = {"point": [f"{m}.kwh" for m in ("main", "ups", "chiller")] * 1, "format": "csv"}
    span = {"start": "1991-01-01T00:00:00Z", "end": "2199-01-01T00:00:00Z"}
    answer = http.get("/api/v1/readings", params={**query, **span})
    assert answer.status_code == 422
    assert "shorter period" in answer.json()["detail"]


FILE = "Time,main.kwh,ups.kwh\n" + "".join(
    f"2026-03-02 {8 + i // 4:02}:{i % 4 * 15:02},{4000 + i},{9000 + i}\n" for i in range(1, 20)
)


def test_import_answers_after_the_commit_and_twice_changes_nothing(http: httpx.Client) -> None:
    for expected in ((38, 0), (0, 38)):
        answer = http.post("/api/v1/imports", files={"file": ("old.csv", FILE)}, data={"site": "sh1"})
        assert answer.status_code == 200, answer.text
        record = answer.json()
        assert (record["accepted"], record["duplicate"], record["status"]) == (*expected, "done")
    assert http.get(f"/api/v1/imports/{record['id']}").json()["file_name"] == "old.csv"
    assert len(http.get("/api/v1/sites/sh1/imports").json()["imports"]) >= 2
    assert len(stored(http, "main.kwh")) == 19


def test_import_rejects_a_row_and_keeps_the_rest(http: httpx.Client) -> None:
    text = FILE.replace("4003", "four")
    record = http.post("/api/v1/imports", files={"file": ("a.csv", text)}, data={"site": "sh1"}).json()
    assert (record["accepted"], record["rejected"]) == (37, 1)
    assert record["rejects"][0]["text"] == "four"


def test_import_can_be_tried(http: httpx.Client) -> None:
    data = {"site": "sh1", "dry_run": "true"}
    preview = http.post("/api/v1/imports", files={"file": ("a.csv", FILE)}, data=data).json()
    assert preview["points"] == ["main.kwh", "ups.kwh"]
    assert "columns" in preview["understood"]
    assert (preview["accepted"], preview["duplicate"], preview["rejected"]) == (38, 0, 0)
    assert stored(http, "main.kwh") == []
    http.post("/api/v1/imports", files={"file": ("a.csv", FILE)}, data={"site": "sh1"})
    other = FILE.replace(",4003,", ",4003.5,")
    again = http.post("/api/v1/imports", files={"file": ("b.csv", other)}, data=data).json()
    assert [again[k] for k in ("accepted", "duplicate", "conflicting", "rejected")] == [0, 37, 1, 0]


def test_a_preview_asks_where_a_file_does_not_go_on_from_what_is_stored(http: httpx.Client) -> None:
    http.post("/api/v1/imports", files={"file": ("a.csv", FILE)}, data={"site": "sh1"})
    later = "Time,main.kwh\n" + "".join(f"2026-03-03 00:{m:02},{9e6 + 200 * m}\n" for m in range(0, 60, 15))
    data = {"site": "sh1", "dry_run": "true"}
    preview = http.post("/api/v1/imports", files={"file": ("b.csv", later)}, data=data).json()
    assert any("main.kwh would rise by 8,99" in w for w in preview["warnings"]), preview["warnings"]


BAD_MAPPINGS = (
    "time: {format: '%Q'}",
    "time: {format: '%Y-%m-%d %H:%M:%S:%f:%f'}",
    "time: {zone: Mars/Olympus}",
    "time: {column: nowhere}",
    "time: {start: Time}",
    "time: 5",
    "columns: {main.kwh: nobody}",
    "columns: {main.kwh: {point: main.kwh, unit: bananas}}",
    "columns: {main.kwh: {point: main.kwh, unit: l}}",
    "columns: {nowhere: main.kwh}",
    "columns: [1]",
    "long: {point: [], value: main.kwh}",
    "long: {point: Time, value: nowhere}",
    "footer: '('",
    "layout: niagra",
    "layout: niagara",
    "layout: influxdb",
    "layout: prometheus",
    "layout: pi_datalink",
    "layout: calendar_report",
    "layout: nem12",
    "layout: espi",
    "layout: json",
    "encoding: klingon",
    "decimal: ';'",
    "delimiter: ''",
    "skip: -1",
    "header: 1000000",
    "sheet: 5",
    "interval: 1d",
    "- a",
    "{",
    "a: &a [*a]",
    "long: {point: {a: b}, value: main.kwh}",
    "valid: {column: Time, unit: weeks}",
    "status: {column: nowhere, good: [x]}",
)


@pytest.mark.parametrize("mapping", BAD_MAPPINGS)
def test_a_bad_mapping_is_answered_with_the_reason(http: httpx.Client, mapping: str) -> None:
    for dry_run in ("true", "false"):
        data = {"site": "sh1", "map": mapping, "dry_run": dry_run}
        answer = http.post("/api/v1/imports", files={"file": ("a.csv", FILE)}, data=data)
        if mapping == "sheet: 5":  # says nothing about a file that is no workbook
            continue
        assert 400 <= answer.status_code < 500, (mapping, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.json()["detail"]) > 10
        assert "/tmp" not in answer.text
    if mapping != "sheet: 5":
        assert stored(http, "main.kwh") == []


def test_a_corrected_export_shows_the_difference_and_corrects(http: httpx.Client) -> None:
    http.post("/api/v1/imports", files={"file": ("old.csv", FILE)}, data={"site": "sh1"})
    new = FILE.replace(",4003,", ",4003.5,")
    data = {"site": "sh1", "replace": "true", "reason": "display photographed"}
    shown = http.post("/api/v1/imports", files={"file": ("new.csv", new)}, data={**data, "dry_run": "true"})
    assert shown.status_code == 200, shown.text
    assert shown.json()["changes"] == []  # a register in between moves energy, it adds none
    record = http.post("/api/v1/imports", files={"file": ("new.csv", new)}, data=data).json()
    assert (record["accepted"], record["duplicate"], record["conflicting"]) == (0, 37, 0)
    assert record["detail"]["corrected"] == 1
    (entry,) = http.get("/api/v1/sites/sh1/events").json()["events"]
    assert (entry["kind"], entry["old_value"], entry["new_value"]) == ("correction", 4003.0, 4003.5)
    assert entry["note"] == "display photographed (corrected export new.csv)"


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 5000, b"hello world", b"PK\x03\x04" + b"\x00" * 100, b"a," * 200_000]
)
def test_import_of_something_else_stores_nothing(http: httpx.Client, content: bytes) -> None:
    answer = http.post("/api/v1/imports", files={"file": ("x.csv", content)}, data={"site": "sh1"})
    assert answer.status_code == 422, answer.text
    assert "x.csv" in answer.json()["detail"]
    assert "/tmp" not in answer.text
    assert stored(http, "main.kwh") == []


def test_an_event_moves_the_figures_and_can_be_withdrawn(http: httpx.Client) -> None:
    body = {
        "kind": "replaced",
        "start": "2026-03-01T12:00:00Z",
        "old_value": 9400.0,
        "new_value": 0.0,
        "note": "protocol 118",
    }
    answer = http.post("/api/v1/meters/main/events", json=body)
    assert answer.status_code == 201, answer.text
    entry = answer.json()["events"][0]
    assert (entry["author"], entry["point"], entry["withdrawn_at"]) == ("local", "main.kwh", None)
    taken = http.post(f"/api/v1/sites/sh1/events/{entry['id']}/withdraw").json()
    assert taken["withdrawn_by"] == "local"
    assert http.post(f"/api/v1/sites/sh1/events/{entry['id']}/withdraw").status_code == 404
    listed = http.get("/api/v1/sites/sh1/events").json()["events"]
    assert [event["id"] for event in listed if event["kind"] == "replaced"] == [entry["id"]]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "eaten"},
        {"note": ""},
        {"site_id": "bj1"},
        {"point": "bj.main.kwh"},
        {"end": "2026-01-01T00:00:00Z"},
    ],
)
def test_events_that_make_no_sense(http: httpx.Client, change: dict[str, str]) -> None:
    body = {"kind": "replaced", "start": "2026-03-01T12:00:00Z", "note": "x", **change}
    assert http.post("/api/v1/meters/main/events", json=body).status_code == 422


def test_nothing_is_answered_while_the_database_is_away(engine: sa.Engine) -> None:
    declare(engine)
    with client(engine) as http:
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE readings RENAME TO readings_away"))
        broken = http.post("/api/v1/readings", json=sent([15]))
        assert broken.status_code == 500
        assert "readings_away" not in broken.text
        assert set(broken.json()) == {"type", "title", "status", "detail", "instance", "request_id"}
