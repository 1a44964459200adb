"""A browser holds a session and never the key: it ends by itself, with its key, or when it is revoked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.store import audit, identity
from app.web import router as pages
from tests.integration.api_helpers import NOW, client

FORM = "f" * 32


class Clock:
    """A time that the test sets."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def http(engine: sa.Engine, clock: Clock) -> Iterator[httpx.Client]:
    asks = KeyAuthenticator(engine, clock=clock, failures_per_minute=5)
    with client(engine, authenticator=asks, clock=clock, extra=(pages.router,)) as http:
        yield http


@pytest.fixture
def key(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        return identity.create(connection, "ann", [Grant.parse("admin")], created_by="test")


def sign_in(http: httpx.Client, key: str) -> str:
    """The session's cookie."""
    http.cookies.set("wattline_form", FORM)
    answer = http.post("/sign-in", data={"form_id": FORM, "secret": key})
    assert answer.status_code == 303, answer.text
    return http.cookies["wattline_key"]


def is_in(http: httpx.Client) -> bool:
    return http.get("/api/v1/sites").status_code == 200


def actions(engine: sa.Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        return [(row.actor, row.action) for row in audit.listing(connection)]


def test_the_cookie_is_no_key(http: httpx.Client, engine: sa.Engine, key: str) -> None:
    session = sign_in(http, key)
    assert session != key
    assert is_in(http)
    assert actions(engine) == [("ann", "login")]
    listed = http.get("/api/v1/keys").json()["keys"]
    assert [(one["is_session"], one["created_by"]) for one in listed] == [
        (False, "test"),
        (True, "sign-in with a key"),
    ]
    assert session not in http.get("/api/v1/keys").text


def test_a_session_that_is_not_used_is_over(http: httpx.Client, key: str, clock: Clock) -> None:
    sign_in(http, key)
    for _ in range(4):
        clock.now += timedelta(minutes=20)
        assert is_in(http)
    clock.now += timedelta(minutes=31)
    assert not is_in(http)


def test_a_session_is_over_after_a_working_day(http: httpx.Client, key: str, clock: Clock) -> None:
    sign_in(http, key)
    for _ in range(35):
        clock.now += timedelta(minutes=20)
        assert is_in(http)
    clock.now += timedelta(minutes=25)
    assert not is_in(http)


def test_a_session_ends_with_its_key(http: httpx.Client, key: str, engine: sa.Engine) -> None:
    sign_in(http, key)
    with engine.begin() as connection:
        identity.create(connection, "other", [Grant.parse("admin")], created_by="test")
        identity.revoke(connection, key, "test")
    assert not is_in(http)


def test_one_session_is_revoked_and_the_key_stays(http: httpx.Client, key: str) -> None:
    session = sign_in(http, key)
    mine = {"Authorization": f"Bearer {key}"}
    [found] = [k for k in http.get("/api/v1/keys", headers=mine).json()["keys"] if k["is_session"]]
    assert found["id"] == session[3:15]
    assert http.post(f"/api/v1/keys/{found['id']}/revoke", headers=mine).status_code == 200
    assert not is_in(http)
    assert http.get("/api/v1/sites", headers=mine).status_code == 200


def test_signing_out_ends_the_session(http: httpx.Client, key: str, engine: sa.Engine) -> None:
    session = sign_in(http, key)
    assert http.post("/sign-out", data={"form_id": FORM}).status_code == 303
    assert http.get("/api/v1/sites", headers={"Authorization": f"Bearer {session}"}).status_code == 401
    assert http.get("/api/v1/sites", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert ("ann", "logout") in actions(engine)


def test_the_last_administrators_key_is_no_session(http: httpx.Client, key: str) -> None:
    sign_in(http, key)
    answer = http.post(f"/api/v1/keys/{key[3:15]}/revoke")
    assert answer.status_code == 422
    assert "last administrator" in answer.text


def test_who_fails_too_often_is_locked_out_and_it_is_told(
    http: httpx.Client, key: str, engine: sa.Engine
) -> None:
    wrong = [
        http.get("/api/v1/sites", headers={"Authorization": f"Bearer wl_{n:012x}_{0:032x}"}).status_code
        for n in range(12)
    ]
    assert wrong[:5] == [401] * 5
    assert 429 in wrong
    assert actions(engine).count(("lock-out", "login.locked")) == 1


def test_an_administrator_sees_who_is_signed_in_and_ends_a_session(
    engine: sa.Engine, http: httpx.Client, key: str, clock: Clock
) -> None:
    with engine.begin() as connection:
        other = identity.create(connection, "bob", [Grant.parse("viewer")], created_by="test")
    theirs = sign_in(http, other)
    assert http.get("/settings/sessions").status_code == 403
    http.cookies.clear()
    mine = sign_in(http, key)
    page = http.get("/settings/sessions?lang=en").text
    assert (theirs[3:15] in page, mine[3:15] in page, "key of bob" in page) == (True, True, True)
    assert theirs not in page
    assert theirs[3:15] not in http.get("/settings/keys").text, "keys are keys"
    end = f"/settings/sessions/{theirs[3:15]}/revoke"
    assert http.post(end, data={"form_id": "0" * 32}).status_code == 403, "not from our page"
    assert http.post(end, data={"form_id": FORM}).status_code == 303
    assert theirs[3:15] not in http.get("/settings/sessions").text
    assert http.post(end, data={"form_id": FORM}).status_code == 404
    assert http.post(f"/settings/sessions/{key[3:15]}/revoke", data={"form_id": FORM}).status_code == 404
    assert actions(engine)[0] == ("ann", "session.end")
    http.cookies.clear()
    assert not http.get("/api/v1/sites", headers={"Cookie": f"wattline_key={theirs}"}).is_success
    assert http.get("/api/v1/sites", headers={"Cookie": f"wattline_key={mine}"}).is_success


def test_a_session_that_was_not_used_for_long_is_listed_as_ended(
    http: httpx.Client, key: str, clock: Clock
) -> None:
    idle = sign_in(http, key)
    assert is_in(http)
    http.cookies.clear()
    clock.now = NOW + timedelta(minutes=40)
    own = sign_in(http, key)
    rows = {
        row[0]: row[1]
        for row in re.findall(
            r"<small>([0-9a-f]{12})</small>.*?<td>(active|ended, not used)</td>",
            http.get("/settings/sessions?lang=en").text,
        )
        if row[0] in (idle[3:15], own[3:15])
    }
    assert rows == {idle[3:15]: "ended, not used", own[3:15]: "active"}
    opens = {k["id"]: k["opens"] for k in http.get("/api/v1/keys").json()["keys"] if k["is_session"]}
    assert opens == {idle[3:15]: False, own[3:15]: True}
    assert not http.get("/api/v1/sites", headers={"Cookie": f"wattline_key={idle}"}).is_success


def test_the_list_of_sessions_has_none_that_is_over(engine: sa.Engine, http: httpx.Client, key: str) -> None:
    session = sign_in(http, key)[3:15]

    def listed(hours: int) -> list[str]:
        with engine.connect() as connection:
            return [s.public_id for s in identity.sessions(connection, NOW + timedelta(hours=hours))]

    assert (listed(11), listed(13)) == ([session], [])
    with engine.begin() as connection:
        identity.create(connection, "other", [Grant.parse("admin")], created_by="test")
        identity.revoke(connection, key, "test")
    assert listed(1) == []
