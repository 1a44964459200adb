"""System, security and audit administration in different hands (GB/T 22239-2019, level 3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator, OpenToLoopback
from app.api.oidc import OidcSettings, OidcVerifier
from app.api.single_sign_on import Client
from app.cli import serving
from app.domain.access import Grant
from app.errors import ConfigError, SeriesError
from app.store import administration, audit, identity
from app.store.engine import Engine
from app.web import router as pages
from tests.integration.api_helpers import NOW, client, declare
from tests.integration.conftest import Wattline
from tests.integration.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, provider

DUTIES = ("system", "security", "audit")
ASKED = {
    "security": [("GET", "/api/v1/keys"), ("GET", "/settings/keys"), ("GET", "/settings/sessions")],
    "audit": [("GET", "/api/v1/audit"), ("GET", "/settings/audit")],
    "system": [("GET", "/settings/site-file"), ("GET", "/api/v1/sites/sh1"), ("GET", "/sites/sh1/events")],
}
"""What only one of the three may look at, and the others are refused (or do not find)."""


def keys_of(engine: Engine, *grants: str, **more: datetime) -> dict[str, str]:
    with engine.begin() as connection:
        return {
            grant: identity.create(connection, grant, [Grant.parse(grant)], created_by="test", **more)
            for grant in grants
        }


def separate(engine: Engine) -> None:
    with engine.begin() as connection:
        identity.separate(connection, datetime.now(UTC))


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def http(engine: Engine) -> Iterator[httpx.Client]:
    declare(engine)
    asks = KeyAuthenticator(engine, clock=lambda: NOW)
    with client(engine, authenticator=asks, extra=(pages.router,)) as http:
        yield http


def test_each_administrator_has_one_duty_and_no_other(engine: Engine, http: httpx.Client) -> None:
    keys = keys_of(engine, *DUTIES)
    separate(engine)
    for duty, wanted in ASKED.items():
        for method, path in wanted:
            for own, key in keys.items():
                status = http.request(method, path, headers=with_key(key)).status_code
                assert status == 200 if own == duty else status in (403, 404), (duty, path, own, status)


def test_security_administrators_see_no_figure_and_make_keys_for_every_site(
    engine: Engine, http: httpx.Client
) -> None:
    headers = with_key(keys_of(engine, *DUTIES)["security"])
    assert http.get("/api/v1/sites", headers=headers).json()["sites"] == []
    body = {"name": "gateway", "grants": ["operator:site/sh1"]}
    assert http.post("/api/v1/keys", headers=headers, json=body).status_code == 201
    assert "site/sh1" in http.get("/settings/keys", headers=headers).text
    nowhere = {**body, "grants": ["operator:site/none"]}
    assert http.post("/api/v1/keys", headers=headers, json=nowhere).status_code == 404
    row = {"point": "main.kwh", "at": "2026-03-01T00:00:00Z", "value": 1.0}
    assert http.post("/api/v1/readings", headers=headers, json={"readings": [row]}).status_code == 403


@pytest.mark.parametrize(
    "grants",
    [
        ["admin"],
        ["admin:site/sh1"],
        ["system", "security"],
        ["system", "audit"],
        ["security", "audit"],
        ["security", "operator:site/sh1"],
        ["audit", "operator"],
    ],
)
def test_no_key_has_two_duties_once_they_are_separate(
    engine: Engine, http: httpx.Client, grants: list[str]
) -> None:
    headers = with_key(keys_of(engine, *DUTIES)["security"])
    body = {"name": "both", "grants": grants}
    made = http.post("/api/v1/keys", headers=headers, json=body)
    assert made.status_code == 201, made.text
    with pytest.raises(SeriesError, match="these keys have the role admin or several"):
        separate(engine)
    listed = http.get("/api/v1/keys", headers=headers).json()
    assert listed["is_administration_separate"] is False
    combined = next(key["id"] for key in listed["keys"] if key["name"] == "both")
    assert http.post(f"/api/v1/keys/{combined}/revoke", headers=headers).status_code == 200
    separate(engine)
    refused = http.post("/api/v1/keys", headers=headers, json=body)
    assert refused.status_code == 422
    assert "administration is separate" in refused.json()["detail"]
    assert http.get("/api/v1/keys", headers=headers).json()["is_administration_separate"] is True


def test_a_key_with_two_duties_that_came_some_other_way_opens_nothing(
    engine: Engine, http: httpx.Client
) -> None:
    keys = keys_of(engine, *DUTIES, "admin:site/sh1")
    with engine.begin() as connection:
        administration.keep(connection, is_separate=True)
        connection.execute(
            sa.text("UPDATE api_keys SET grants = '{security,audit}' WHERE grants = '{security}'")
        )
    for name in ("security", "admin:site/sh1"):
        answer = http.get("/api/v1/sites", headers=with_key(keys[name]))
        assert (answer.status_code, "administration is separate" in answer.text) == (401, True)
    with engine.connect() as connection:
        assert audit.listing(connection)[0].action == "login.failed"


def test_the_switch_wants_somebody_left_for_security_and_for_the_audit(engine: Engine) -> None:
    with pytest.raises(SeriesError, match="no key that does not expire has the role audit or security"):
        separate(engine)
    keys_of(engine, "security")
    keys_of(engine, "audit", expires_at=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(SeriesError, match="has the role audit;"):
        separate(engine)
    keys_of(engine, "audit")
    separate(engine)


@pytest.mark.parametrize("duty", ["security", "audit"])
def test_the_last_of_each_stays(engine: Engine, http: httpx.Client, duty: str) -> None:
    headers = with_key(keys_of(engine, *DUTIES)["security"])
    separate(engine)
    keys_of(engine, duty, expires_at=datetime.now(UTC) + timedelta(days=1))
    listed = http.get("/api/v1/keys", headers=headers).json()["keys"]
    last = next(key for key in listed if key["grants"] == [duty] and key["expires_at"] is None)
    refused = http.post(f"/api/v1/keys/{last['id']}/revoke", headers=headers)
    assert refused.status_code == 422
    assert f"--grant {duty}" in refused.json()["detail"]
    passing = next(key for key in listed if key["grants"] == [duty] and key["expires_at"] is not None)
    assert http.post(f"/api/v1/keys/{passing['id']}/revoke", headers=headers).status_code == 200
    keys_of(engine, duty)
    assert http.post(f"/api/v1/keys/{last['id']}/revoke", headers=headers).status_code == 200


def test_whoever_leads_system_administration_may_go(engine: Engine) -> None:
    keys = keys_of(engine, *DUTIES)
    with engine.begin() as connection:
        assert identity.revoke(connection, keys["system"], "test").name == "system"


def test_one_administrator_for_all_may_go_when_others_have_the_duties(engine: Engine) -> None:
    admin = keys_of(engine, "admin", "security")["admin"]
    with engine.begin() as connection, pytest.raises(SeriesError, match="the last administrator's key"):
        identity.revoke(connection, admin, "test")
    keys_of(engine, "audit")
    with engine.begin() as connection:
        identity.revoke(connection, admin, "test")
    separate(engine)


# -- the first start -------------------------------------------------------------------------------------


def test_the_first_start_hands_out_a_key_for_each_duty(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    serving._prepare_keys(engine, is_separate=True)
    said = capsys.readouterr().err
    for duty in DUTIES:
        assert f"first start: the {duty} administrator's key is wl_" in said
    serving._prepare_keys(engine, is_separate=True)
    assert capsys.readouterr().err == ""
    with engine.connect() as connection:
        assert administration.is_separate(connection)
        assert [[str(g) for g in key.grants] for key in identity.listing(connection)] == [
            [duty] for duty in DUTIES
        ]
        assert [entry.action for entry in audit.listing(connection)] == ["key.create"] * 3


def test_a_later_start_separates_or_says_who_stands_in_the_way(engine: Engine) -> None:
    serving._prepare_keys(engine, is_separate=False)
    keys_of(engine, "security", "audit")
    with pytest.raises(ConfigError, match="first administrator"):
        serving._prepare_keys(engine, is_separate=True)
    with engine.begin() as connection:
        admin = identity.listing(connection)[0].public_id
        identity.revoke(connection, admin, "test")
    serving._prepare_keys(engine, is_separate=True)
    serving._prepare_keys(engine, is_separate=False)
    with engine.connect() as connection:
        assert administration.is_separate(connection), "a start without the setting changes nothing"
        assert audit.listing(connection)[0].action == "administration.separate"


def test_without_keys_there_is_nobody_to_tell_apart(engine: Engine) -> None:
    declare(engine)
    keys_of(engine, *DUTIES)
    with client(engine, authenticator=OpenToLoopback(engine)) as http:
        assert http.get("/api/v1/sites").status_code == 200
        separate(engine)
        refused = http.get("/api/v1/sites")
    assert refused.status_code == 401
    assert "WATTLINE_REQUIRE_KEYS=true" in refused.json()["detail"]


# -- a sign-in provider ----------------------------------------------------------------------------------


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as one:
        yield one


@pytest.mark.parametrize(
    ("claimed", "status"), [(["security"], 200), (["security", "audit"], 401), (["admin"], 401)]
)
def test_a_provider_grants_one_duty_at_most(
    engine: Engine, idp: Provider, claimed: list[str], status: int
) -> None:
    declare(engine)
    keys_of(engine, *DUTIES)
    separate(engine)
    asks = KeyAuthenticator(
        engine,
        oidc=OidcVerifier(OidcSettings(issuer=idp.issuer, audience=CLIENT_ID)),
        client=Client(id=CLIENT_ID, secret=CLIENT_SECRET),
        clock=lambda: NOW,
    )
    idp.claims = {"sub": "4711", "wattline_grants": claimed}
    token = idp.id_token("")
    assert jwt.decode(token, options={"verify_signature": False})["wattline_grants"] == claimed
    with client(engine, authenticator=asks, extra=(pages.router,)) as http:
        assert http.get("/api/v1/keys", headers=with_key(token)).status_code == status
        began = http.get("/sign-in/start")
        ended = http.get(httpx.get(began.headers["location"]).headers["location"])
        assert (ended.status_code == 303) is (status == 200), ended.text


# -- commands --------------------------------------------------------------------------------------------


def test_on_the_machine_the_other_duties_need_a_key(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for duty in DUTIES:
        made = wattline("keys", "create", f"{duty} one", "--grant", duty)
        files[duty] = tmp_path / duty
        files[duty].write_text(made.out)
    assert wattline("keys", "separate").code == 0
    for command in (("keys", "list"), ("audit", "verify"), ("audit", "export"), ("keys", "combine")):
        refused = wattline(*command)
        assert (refused.code, "WATTLINE_KEY_FILE" in refused.err) == (1, True), refused.err
    assert wattline("alarms", "list").code == 0

    monkeypatch.setenv("WATTLINE_KEY_FILE", str(files["audit"]))
    assert wattline("audit", "verify").code == 0
    assert '"action": "administration.separate"' in wattline("audit", "export").out
    assert wattline("keys", "list").code == 1
    monkeypatch.setenv("WATTLINE_KEY_FILE", str(files["security"]))
    assert wattline("audit", "export").code == 1
    assert len(wattline("keys", "list", "--json").document["keys"]) == 3
    assert wattline("keys", "create", "x", "--grant", "admin").code == 2
    assert wattline("keys", "combine").code == 0
    assert wattline("keys", "create", "x", "--grant", "admin").code == 0
    monkeypatch.setenv("WATTLINE_KEY_FILE", str(files["audit"]))
    last = [line for line in wattline("audit", "export").out.splitlines() if "administration.combine" in line]
    assert '"actor": "security one"' in last[0]
    assert " by " in last[0]


def test_a_key_file_that_opens_nothing_is_named(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("WATTLINE_KEY_FILE", str(file))
    assert "WATTLINE_KEY_FILE" in wattline("keys", "list").err
    file.write_text("wl_000000000000_00000000000000000000000000000000")
    refused = wattline("keys", "list")
    assert (refused.code, "is unknown" in refused.err) == (1, True)
