"""What is refused stands in the audit log, and a flood of one hides nothing of another."""

from __future__ import annotations

import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.api.recorder import Recorder, network_of
from app.domain.access import Grant
from app.store import audit, identity
from app.store.audit import Entry, Written
from tests.integration.api_helpers import NOW, a_day, client


def trail(engine: sa.Engine, action: str) -> list[Written]:
    with engine.connect() as connection:
        return [row for row in audit.listing(connection) if row.action == action]


def test_what_a_caller_may_not_do_is_written_down(engine: sa.Engine) -> None:
    a_day(engine)
    with engine.begin() as connection:
        key = identity.create(connection, "looker", [Grant.parse("viewer")], created_by="test")
    with client(engine, authenticator=KeyAuthenticator(engine), clock=lambda: NOW) as http:
        asked = http.get("/api/v1/audit", headers={"Authorization": f"Bearer {key}"})
        foreign = http.post("/api/v1/readings", headers={"Origin": "https://evil.example"})
    assert (asked.status_code, foreign.status_code) == (403, 403)
    denied = {(row.actor, row.target) for row in trail(engine, "access.denied")}
    assert denied == {("looker", "GET /api/v1/audit"), ("nobody", "POST /api/v1/readings")}
    assert key[3:15] in trail(engine, "access.denied")[-1].detail + trail(engine, "access.denied")[0].detail


def test_a_flood_of_one_hides_no_failure_of_another(engine: sa.Engine) -> None:
    recorder = Recorder(engine, lambda: NOW, each_per_minute=1, each_burst=5)
    for _ in range(500):
        recorder.record(Entry("nobody", "login.failed", "/", "198.51.100.1"))
    recorder.record(Entry("nobody", "login.failed", "/", "203.0.113.9"))
    found = [row.source for row in trail(engine, "login.failed")]
    assert found.count("198.51.100.1") == 5
    assert found.count("203.0.113.9") == 1


def test_what_was_not_written_is_counted(engine: sa.Engine) -> None:
    at_s = [0.0]
    recorder = Recorder(engine, lambda: NOW, each_per_minute=1, each_burst=1, monotonic_s=lambda: at_s[0])
    for _ in range(50):
        recorder.record(Entry("nobody", "login.failed", "/", "198.51.100.1"))
    at_s[0] = 61.0
    recorder.record(Entry("nobody", "login.failed", "/", "198.51.100.1"))
    assert [row.detail for row in trail(engine, "login.failed")] == ['{"not_recorded_before": 49}', "{}"]


def test_one_sender_of_ipv6_is_a_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") == "2001:db8::/64"
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("testclient") == "testclient"
