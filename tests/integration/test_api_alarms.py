"""Alarms over HTTP and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app import config
from app.domain.reading import Reading
from app.jobs.alarms import judge
from app.store import readings, sites
from app.store.engine import Engine, begin
from tests.integration import api_helpers
from tests.integration.conftest import Wattline
from tests.integration.test_notify import METER, SITE

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.fixture
def client(engine: Engine) -> Iterator[httpx.Client]:
    """The interface over a site with one silent meter."""
    with begin(engine) as connection:
        sites.sync(connection, config.parse(SITE + METER.format(n=0, port=502)).fleet)
        stored = sites.load(connection)
        said = [Reading("m0.kwh", NOW - timedelta(hours=1), 1.0)]
        readings.ingest_readings(connection, said, stored.point_id)
    for seconds in (0, 61):
        judge.run(engine, NOW + timedelta(seconds=seconds))
    with api_helpers.client(engine, clock=lambda: NOW + timedelta(minutes=2)) as http:
        yield http


def listed(client: httpx.Client, state: str = "active") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        client.get("/api/v1/alarms", params={"state": state}).raise_for_status().json()["alarms"]
    )
    return found


def test_an_alarm_is_seen_acknowledged_and_commented(client: httpx.Client) -> None:
    (alarm,) = listed(client)
    assert (alarm["rule"], alarm["subject"], alarm["state"], alarm["severity"]) == (
        "meter_silent",
        "m0",
        "firing",
        "warning",
    )
    assert alarm["document"]["links"]["runbook"].endswith("#meter_silent")
    path = f"/api/v1/alarms/{alarm['id']}"
    assert listed(client, "acknowledged") == []
    assert client.post(f"{path}/acknowledge", json={"comment": "on my way"}).status_code == 204
    assert client.post(f"{path}/comments", json={"comment": "cable"}).status_code == 204
    assert [a["id"] for a in listed(client, "acknowledged")] == [alarm["id"]]
    course = client.get(path).json()
    assert [c["text"] for c in course["comments"]] == ["on my way", "cable"]
    assert [t["after"] for t in course["transitions"]] == ["firing"]
    assert client.post("/api/v1/alarms/999/acknowledge").status_code == 404
    assert client.get("/api/v1/alarms", params={"state": "loud"}).status_code == 422
    assert client.get("/api/v1/alarms", params={"site": "no"}).status_code == 404


def test_a_silence_is_made_listed_and_ended(client: httpx.Client) -> None:
    wanted = {"site": "sh1", "rule": "meter_silent", "end": "2026-03-02T20:00:00+08:00", "comment": "works"}
    made = client.post("/api/v1/silences", json=wanted)
    assert made.status_code == 201
    assert [s["id"] for s in client.get("/api/v1/silences").json()["silences"]] == [made.json()["id"]]
    assert client.delete(f"/api/v1/silences/{made.json()['id']}").status_code == 204
    assert client.get("/api/v1/silences").json()["silences"] == []
    assert client.delete(f"/api/v1/silences/{made.json()['id']}").status_code == 404
    assert client.post("/api/v1/silences", json={**wanted, "end": "2026-03-01T20:00:00Z"}).status_code == 422
    assert client.post("/api/v1/silences", json={**wanted, "site": "no"}).status_code == 404
    assert client.get("/api/v1/deliveries").json() == {"deliveries": []}


def test_the_command_line_does_the_same(client: httpx.Client, wattline: Wattline) -> None:
    (alarm,) = listed(client)
    assert wattline("alarms", "list", "--json").document["alarms"][0]["id"] == alarm["id"]
    assert "meter_silent" in wattline("alarms", "list").out
    assert wattline("alarms", "acknowledge", alarm["id"], "--comment", "seen").code == 0
    assert wattline("alarms", "comment", alarm["id"], "cable").code == 0
    assert wattline("alarms", "silence", "works", "--site", "sh1", "--hours", 1).code == 0
    assert wattline(
        "alarms", "replay", "sh1", "--start", "2026-03-01", "--end", "2026-03-02", "--json"
    ).document == {
        "site": "sh1",
        "alarms": [],
    }
    assert wattline("notify", "test", "nobody").code == 1
    assert wattline("notify", "log", "--json").document == {"deliveries": []}
