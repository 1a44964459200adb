"""Who may see and do what: keys, roles, sites, tokens of a sign-in provider, the audit log."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.api.auth import KeyAuthenticator, OpenToLoopback, authenticator_for
from app.api.oidc import OidcSettings, OidcVerifier
from app.domain.access import Grant, Role
from app.errors import ConfigError, SeriesError
from app.store import audit, identity, receipts
from app.store.audit import Entry
from app.telemetry import Telemetry
from tests.integration.api_helpers import NOW, START, a_day, client, declare, own_database, sent

ISSUER, AUDIENCE = "https://login.example", "wattline"


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet and a day of readings."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        yield engine


def make_key(engine: sa.Engine, *grants: str, expires_at: datetime | None = None) -> str:
    with engine.begin() as connection:
        return identity.create(
            connection,
            f"test {grants}",
            [Grant.parse(g) for g in grants],
            created_by="test",
            expires_at=expires_at,
        )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def trail(engine: sa.Engine) -> list[audit.Written]:
    with engine.connect() as connection:
        return audit.listing(connection)


@pytest.fixture
def http(database: sa.Engine) -> Iterator[httpx.Client]:
    """The application, which asks for keys."""
    asks = KeyAuthenticator(database, clock=lambda: NOW, requests_per_minute=6000, failures_per_minute=1000)
    with client(database, authenticator=asks) as http:
        yield http


# -- no, garbage, expired, revoked keys ---------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer garbage"},
        {"Authorization": "Basic d2w6eA=="},
        {"Authorization": "Bearer wl_000000000000_00000000000000000000000000000000"},
        {"Authorization": "Bearer wl_' OR 1=1--"},
        {"Authorization": "Bearer " + "x" * 20_000},
    ],
)
def test_without_a_good_key_the_answer_is_401_and_audited(
    http: httpx.Client, database: sa.Engine, header: dict[str, str]
) -> None:
    answer = http.get("/api/v1/sites", headers=header)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    last = trail(database)[0]
    assert (last.action, last.target, last.source) == ("login.failed", "/api/v1/sites", "127.0.0.1")


def test_a_key_expires(http: httpx.Client, database: sa.Engine) -> None:
    still = make_key(database, "viewer", expires_at=NOW + timedelta(seconds=1))
    gone = make_key(database, "viewer", expires_at=NOW)
    assert http.get("/api/v1/sites", headers=bearer(still)).status_code == 200
    assert http.get("/api/v1/sites", headers=bearer(gone)).status_code == 401


def test_a_revoked_key_opens_nothing_at_once(http: httpx.Client, database: sa.Engine) -> None:
    admin, key = make_key(database, "admin"), make_key(database, "viewer")
    assert http.get("/api/v1/sites", headers=bearer(key)).status_code == 200
    public_id = key.split("_")[1]
    assert http.post(f"/api/v1/keys/{public_id}/revoke", headers=bearer(key)).status_code == 403
    assert http.post(f"/api/v1/keys/{public_id}/revoke", headers=bearer(admin)).status_code == 200
    assert http.get("/api/v1/sites", headers=bearer(key)).status_code == 401
    assert http.post(f"/api/v1/keys/{public_id}/revoke", headers=bearer(admin)).status_code == 404


def test_a_wrong_secret_for_a_known_key_is_refused(http: httpx.Client, database: sa.Engine) -> None:
    key = make_key(database, "admin")
    forged = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert http.get("/api/v1/sites", headers=bearer(forged)).status_code == 401


def test_no_key_stands_in_the_database(database: sa.Engine) -> None:
    key = make_key(database, "admin")
    secret = key.split("_")[2]
    assert len(secret) == 32
    with database.connect() as connection:
        tables = connection.execute(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for name in list(tables.scalars()):
            rows = connection.execute(sa.text(f'SELECT t::text FROM "{name}" t')).scalars()
            assert not any(secret in row for row in rows)


def test_the_first_start_makes_one_administrator(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        keys = identity.first_keys(connection, is_separate=False)
        assert list(keys) == ["admin"]
        assert identity.first_keys(connection, is_separate=False) == {}
        found = identity.find(connection, keys[Role.ADMIN], NOW)
    assert found is not None
    assert found.grants == (Grant.parse("admin"),)


@pytest.mark.parametrize("name", ["key", "api_key", "token", "access_token", "Authorization"])
def test_a_key_in_the_address_is_refused_and_not_logged(
    http: httpx.Client, database: sa.Engine, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    key = make_key(database, "admin")
    answer = http.get("/api/v1/sites", params={name: key}, headers=bearer(key))
    assert answer.status_code == 401
    assert key not in answer.text
    out, err = capfd.readouterr()
    assert key not in out + err
    assert not any(key in str(entry) for entry in trail(database))


def test_every_operation_but_the_open_ones_asks_for_a_key(http: httpx.Client) -> None:
    for path, operations in http.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            address = re.sub(r"{[^}]*}", "1", path)
            status = http.request(method, address, params={"start": "x", "point": "x"}).status_code
            asks = operation.get("security") == [{"key": []}]
            assert (status == 401) is asks, (method, path, status)


# -- other people's sites -----------------------------------------------------------------------------

FOREIGN = [
    "/sites/bj1",
    "/sites/bj1/meters",
    "/sites/bj1/pue",
    "/sites/bj1/pue/series",
    "/sites/bj1/energy",
    "/sites/bj1/utilisation",
    "/sites/bj1/capacity",
    "/sites/bj1/findings",
    "/sites/bj1/events",
    "/sites/bj1/imports",
    "/sites/bj1/budget",
    "/sites/bj1/balance",
    "/sites/bj1/exhaustion",
    "/sites/bj1/reports",
    "/sites/bj1/reports/2026-02",
    "/sites/bj1/reports/2026-02?format=csv",
    "/meters/bj.main",
    "/readings?point=bj.main.kwh&start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z",
    "/readings?point=bj.main.kwh&start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z&format=csv",
    "/sites/bj1/attribution?start=2026-03-01T12:00:00Z&end=2026-03-02T00:00:00Z"
    "&baseline_start=2026-03-01T00:00:00Z&baseline_end=2026-03-01T12:00:00Z",
]


@pytest.mark.parametrize("grant", ["admin:site/sh1", "viewer:institution/bank"])
@pytest.mark.parametrize("path", FOREIGN)
def test_what_is_outside_ones_sites_does_not_exist(
    http: httpx.Client, database: sa.Engine, grant: str, path: str
) -> None:
    key = make_key(database, grant)
    answer = http.get(f"/api/v1{path}", headers=bearer(key))
    nothing = http.get(f"/api/v1{path.replace('bj', 'zz')}", headers=bearer(key))
    assert (answer.status_code, nothing.status_code) == (404, 404)
    assert answer.json()["detail"].replace("bj", "zz") == nothing.json()["detail"]


def test_lists_and_sums_hold_only_ones_own_sites(http: httpx.Client, database: sa.Engine) -> None:
    key = make_key(database, "viewer:site/sh1")
    sites = http.get("/api/v1/sites", headers=bearer(key)).json()["sites"]
    assert [s["id"] for s in sites] == ["sh1"]
    fleet = http.get("/api/v1/fleet/pue", headers=bearer(key)).json()
    assert (fleet["counted"], fleet["left_out"]) == (["sh1"], [])
    assert http.get("/api/v1/sites", headers=bearer(make_key(database, "viewer:site/zz"))).json() == {
        "sites": [],
        "next_cursor": None,
    }


def test_metrics_hold_only_ones_own_sites(http: httpx.Client, database: sa.Engine) -> None:
    assert http.get("/metrics").status_code == 401
    page = http.get("/metrics", headers=bearer(make_key(database, "viewer:site/sh1"))).text
    assert 'site="sh1"' in page
    assert "bj" not in page
    assert "process_" not in page
    whole = http.get("/metrics", headers=bearer(make_key(database, "viewer"))).text
    assert 'site="bj1"' in whole
    assert "process_" in whole


def test_sending_to_other_peoples_points_tells_nothing(http: httpx.Client, database: sa.Engine) -> None:
    key = make_key(database, "operator:site/sh1")
    rows = [{"point": p, "at": NOW.isoformat(), "value": 1} for p in ("bj.main.kwh", "nobody")]
    answer = http.post("/api/v1/readings", json={"readings": rows}, headers=bearer(key)).json()
    assert answer["accepted"] == 0
    assert len({r["reason"] for r in answer["rejected"]}) == 1
    upload = {"file": ("a.csv", "Time,bj.main.kwh\n2026-03-01 10:00,1\n")}
    for site in ("bj1", "zz"):
        answer = http.post("/api/v1/imports", files=upload, data={"site": site}, headers=bearer(key))
        assert answer.status_code == 404
    body = {"kind": "reset", "start": "2026-03-01T12:00:00Z", "note": "x"}
    assert http.post("/api/v1/meters/bj.main/events", json=body, headers=bearer(key)).status_code == 404


# -- roles --------------------------------------------------------------------------------------------


def test_a_viewer_changes_nothing(http: httpx.Client, database: sa.Engine) -> None:
    key = bearer(make_key(database, "viewer"))
    body = {"kind": "reset", "start": "2026-03-01T12:00:00Z", "note": "x"}
    upload = {"file": ("a.csv", "Time,main.kwh\n2026-03-01 10:00,1\n")}
    answers = [
        http.post("/api/v1/readings", json=sent([15]), headers=key),
        http.post("/api/v1/imports", files=upload, data={"site": "sh1"}, headers=key),
        http.post("/api/v1/meters/main/events", json=body, headers=key),
        http.post("/api/v1/sites/sh1/events/1/withdraw", headers=key),
        http.post("/api/v1/sites/sh1/findings/1/acknowledge", headers=key),
        http.post("/api/v1/keys", json={"name": "x", "grants": ["admin"]}, headers=key),
        http.get("/api/v1/keys", headers=key),
        http.get("/api/v1/audit", headers=key),
    ]
    assert [a.status_code for a in answers] == [403] * len(answers)


def test_an_operator_is_no_administrator_and_a_site_admin_not_of_all(
    http: httpx.Client, database: sa.Engine
) -> None:
    for grant in ("operator", "admin:site/sh1", "admin:institution/bank"):
        key = bearer(make_key(database, grant))
        answer = http.post("/api/v1/keys", json={"name": "x", "grants": ["admin"]}, headers=key)
        assert answer.status_code == 403


def test_a_viewer_of_one_site_may_be_operator_of_another(http: httpx.Client, database: sa.Engine) -> None:
    key = bearer(make_key(database, "viewer:site/sh1", "operator:site/bj1"))
    rows = [{"point": p, "at": NOW.isoformat(), "value": 17_000.0} for p in ("main.kwh", "bj.main.kwh")]
    answer = http.post("/api/v1/readings", json={"readings": rows}, headers=key).json()
    assert answer["accepted"] + answer["duplicate"] == 1
    assert answer["rejected"] == [{"row": 0, "reason": "you may not send readings of this site"}]


def test_keys_are_made_over_http(http: httpx.Client, database: sa.Engine) -> None:
    admin = bearer(make_key(database, "admin"))
    body = {"name": "gateway", "grants": ["operator:site/sh1"], "expires_at": "2027-01-01T00:00:00Z"}
    key = http.post("/api/v1/keys", json=body, headers=admin).json()["key"]
    assert http.get("/api/v1/sites/sh1", headers=bearer(key)).status_code == 200
    listed = http.get("/api/v1/keys", headers=admin)
    assert key.split("_")[2] not in listed.text
    for grants in (["root"], ["viewer:site/zz"], []):
        answer = http.post("/api/v1/keys", json={"name": "x", "grants": grants}, headers=admin)
        assert answer.status_code in (404, 422)


# -- rate ---------------------------------------------------------------------------------------------


def test_a_key_that_is_over_is_not_made(http: httpx.Client, database: sa.Engine) -> None:
    admin = bearer(make_key(database, "admin"))
    body = {"name": "late", "grants": ["viewer"], "expires_at": NOW.isoformat()}
    answer = http.post("/api/v1/keys", json=body, headers=admin)
    assert answer.status_code == 422
    assert "is over" in answer.json()["detail"]


def test_the_last_administrator_stays(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        first = identity.create(connection, "first", [Grant(Role.ADMIN)], created_by="test")
        identity.create(connection, "viewer", [Grant(Role.VIEWER)], created_by="test")
        with pytest.raises(SeriesError, match="last administrator"):
            identity.revoke(connection, first, "test")
        identity.create(connection, "second", [Grant(Role.ADMIN)], created_by="test")
        assert identity.revoke(connection, first, "test").revoked_by == "test"


def test_ten_times_the_rate_is_told_to_wait_and_health_still_answers(database: sa.Engine) -> None:
    key = bearer(make_key(database, "viewer"))
    asks = KeyAuthenticator(database, clock=lambda: NOW, requests_per_minute=60)
    with client(database, authenticator=asks) as http:
        answers = [http.get("/api/v1/sites", headers=key) for _ in range(60)]
        refused = [a for a in answers if a.status_code == 429]
        assert len(refused) > 40
        assert int(refused[0].headers["retry-after"]) >= 1
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").status_code == 200


def test_guessing_keys_is_told_to_wait_and_does_not_flood_the_log(engine: sa.Engine) -> None:
    asks = KeyAuthenticator(engine, clock=lambda: NOW, failures_per_minute=40)
    with client(engine, authenticator=asks) as http:
        codes = [http.get("/api/v1/sites", headers=bearer(f"wl_{n}")).status_code for n in range(80)]
    assert codes[0] == 401
    assert codes[-1] == 429
    assert 0 < len(trail(engine)) < 40


# -- tokens of a sign-in provider ---------------------------------------------------------------------


class Provider:
    """A sign-in provider with one RSA and one EC key; counts what is fetched from it."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.fetched: list[str] = []

    def fetch(self, url: str) -> Any:
        self.fetched.append(url)
        if url.endswith("/.well-known/openid-configuration"):
            return {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        rsa_key = json.loads(RSAAlgorithm.to_jwk(self.rsa.public_key()))
        ec_key = json.loads(ECAlgorithm.to_jwk(self.ec.public_key()))
        return {
            "keys": [
                {**rsa_key, "kid": "r", "alg": "RS256", "use": "sig"},
                {**ec_key, "kid": "e", "alg": "ES256"},
                {**rsa_key, "kid": "enc", "alg": "RS256", "use": "enc"},
                {"kid": "broken", "kty": "RSA"},
                {"kid": "hmac", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
            ]
        }

    def token(self, *, key: Any = None, alg: str = "RS256", kid: str = "r", **change: Any) -> str:
        headers = {"kid": kid, **change.pop("headers", {})}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "anna",
            "iat": now,
            "exp": now + 600,
            "wattline_grants": ["viewer:site/sh1", "something else", 7],
        }
        claims = {k: v for k, v in {**claims, **change}.items() if v is not None}
        return jwt.encode(claims, key if key is not None else self.rsa, algorithm=alg, headers=headers)


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture
def signed_in(database: sa.Engine, provider: Provider) -> Iterator[httpx.Client]:
    """The application, which believes the provider's tokens."""
    provider.fetched.clear()
    verifier = OidcVerifier(OidcSettings(issuer=ISSUER, audience=AUDIENCE), fetch=provider.fetch)
    asks = KeyAuthenticator(database, oidc=verifier, clock=lambda: NOW, failures_per_minute=1000)
    with client(database, authenticator=asks) as http:
        yield http


def test_a_token_of_the_provider_opens_what_it_grants(signed_in: httpx.Client, provider: Provider) -> None:
    for token in (provider.token(), provider.token(key=provider.ec, alg="ES256", kid="e")):
        sites = signed_in.get("/api/v1/sites", headers=bearer(token)).json()["sites"]
        assert [s["id"] for s in sites] == ["sh1"]
    assert provider.fetched == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]


def unsigned(provider: Provider) -> str:
    return jwt.encode(
        jwt.decode(provider.token(), options={"verify_signature": False}), None, algorithm="none"
    )


def keyed_with_the_public_key(provider: Provider) -> str:
    return provider.token(key="x" * 64, alg="HS256")


WRONG: dict[str, Callable[[Provider], str]] = {
    "alg=none": unsigned,
    "alg=HS256": keyed_with_the_public_key,
    "alg of another key": lambda p: p.token(alg="PS256"),
    "other audience": lambda p: p.token(aud="somebody"),
    "no audience": lambda p: p.token(aud=None),
    "other issuer": lambda p: p.token(iss="https://evil.example"),
    "expired": lambda p: p.token(exp=int(time.time()) - 3600),
    "never expires": lambda p: p.token(exp=None),
    "not yet": lambda p: p.token(nbf=int(time.time()) + 3600),
    "no subject": lambda p: p.token(sub=None),
    "signed by somebody else": lambda p: p.token(key=Provider().rsa),
    "unknown key": lambda p: p.token(kid="zz"),
    "key for encryption": lambda p: p.token(kid="enc"),
    "symmetric key": lambda p: p.token(key=b"secret" * 8, alg="HS256", kid="hmac"),
    "attacker's jku": lambda p: p.token(
        key=Provider().rsa, kid="x", headers={"jku": "http://127.0.0.1:1/keys"}
    ),
    "critical header": lambda p: p.token(headers={"crit": ["exp"]}),
    "no token": lambda p: "a.b.c",
    "cut": lambda p: p.token()[:-20],
}


@pytest.mark.parametrize("attack", WRONG)
def test_a_token_that_is_not_right_is_refused_and_audited(
    signed_in: httpx.Client, provider: Provider, database: sa.Engine, attack: str
) -> None:
    before = len(trail(database))
    answer = signed_in.get("/api/v1/sites", headers=bearer(WRONG[attack](provider)))
    assert answer.status_code == 401
    assert trail(database)[0].action == "login.failed"
    assert len(trail(database)) == before + 1
    assert all(url.startswith(ISSUER) for url in provider.fetched)


def test_unknown_keys_do_not_make_us_ask_the_provider_each_time(
    signed_in: httpx.Client, provider: Provider
) -> None:
    for n in range(10):
        signed_in.get("/api/v1/sites", headers=bearer(provider.token(kid=f"k{n}")))
    assert len(provider.fetched) == 2


def test_a_provider_that_is_away_does_not_open_the_door(database: sa.Engine, provider: Provider) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    verifier = OidcVerifier(OidcSettings(issuer=address, audience=AUDIENCE))
    with client(database, authenticator=KeyAuthenticator(database, oidc=verifier)) as http:
        assert http.get("/api/v1/sites", headers=bearer(provider.token())).status_code == 401


@pytest.mark.parametrize("issuer", ["http://login.example", "file:///etc/passwd", ""])
def test_a_provider_without_tls_is_refused_at_start(issuer: str) -> None:
    with pytest.raises(ConfigError, match="https"):
        OidcSettings(issuer=issuer, audience=AUDIENCE)


# -- without keys -------------------------------------------------------------------------------------


def test_without_keys_only_on_loopback(engine: sa.Engine) -> None:
    assert isinstance(authenticator_for(engine, "127.0.0.1"), OpenToLoopback)
    assert isinstance(authenticator_for(engine, "::1"), OpenToLoopback)
    assert isinstance(authenticator_for(engine, "127.0.0.1", require_keys=True), KeyAuthenticator)
    assert isinstance(authenticator_for(engine, "0.0.0.0"), KeyAuthenticator)
    with pytest.raises(ConfigError, match="can be reached by others"):
        authenticator_for(engine, "0.0.0.0", require_keys=False)


def test_without_keys_a_page_in_the_browser_gets_nothing(engine: sa.Engine) -> None:
    declare(engine)
    with client(engine) as http:
        assert http.get("/api/v1/sites").status_code == 200
        assert http.get("/api/v1/sites", headers={"Host": "rebound.example"}).status_code == 401
        foreign = {"Origin": "https://evil.example"}
        answer = http.post("/api/v1/readings", json=sent([15]), headers=foreign)
        assert answer.status_code == 403


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"])
def test_without_keys_nothing_that_came_through_a_proxy_is_served(engine: sa.Engine, name: str) -> None:
    declare(engine)
    with client(engine) as http:
        answer = http.get("/api/v1/sites", headers={name: "for=127.0.0.1"})
        assert answer.status_code == 401
        assert "WATTLINE_REQUIRE_KEYS" in answer.json()["detail"]


# -- the audit log ------------------------------------------------------------------------------------


def entry(action: str) -> Entry:
    return Entry("anna", action, "sh1", "10.0.0.1", {"n": 1.0, "text": "é\n"})


def test_what_is_done_is_written_down(engine: sa.Engine) -> None:
    declare(engine)
    admin = bearer(make_key(engine, "admin"))
    with client(engine, authenticator=KeyAuthenticator(engine, clock=lambda: NOW)) as http:
        http.post("/api/v1/readings", json=sent([15]), headers=admin)
        key = http.post("/api/v1/keys", json={"name": "k", "grants": ["viewer"]}, headers=admin).json()["key"]
        query = {"point": "main.kwh", "start": START.isoformat(), "end": NOW.isoformat(), "format": "csv"}
        http.get("/api/v1/readings", params=query, headers=bearer(key))
        body = {"kind": "test", "start": "2026-03-01T12:00:00Z", "note": "generator"}
        http.post("/api/v1/meters/main/events", json=body, headers=admin)
        entries = http.get("/api/v1/audit", headers=admin).json()["entries"]
    actions = [e["action"] for e in entries]
    assert actions == ["readings.add", "event.add", "readings.export", "key.create"]
    assert {e["source"] for e in entries} == {"127.0.0.1"}
    assert {entries[0]["actor"], entries[1]["actor"]} == {"test ('admin',)"}
    for entry in entries[:2]:
        assert json.loads(entry["detail"])["key"] == admin["Authorization"].split("_")[1]


def test_readings_stand_in_the_audit_log_by_caller_site_and_hour(engine: sa.Engine) -> None:
    """A batch neither waits for the chain nor is an entry, and is in the sum that the chain holds."""
    declare(engine)
    now = [NOW]
    sender, admin = bearer(make_key(engine, "operator:site/sh1")), bearer(make_key(engine, "admin"))
    offset = NOW.replace(minute=0, second=0, microsecond=0) - NOW
    with client(
        engine, authenticator=KeyAuthenticator(engine, clock=lambda: NOW), clock=lambda: now[0]
    ) as http:
        bodies = [sent([15 * n]) for n in range(1, 6)]
        with engine.begin() as other:
            audit.append(other, entry("held"), NOW)  # holds the lock of the chain
            for n, body in enumerate(bodies):
                now[0] = NOW + offset + timedelta(minutes=n * 14)
                assert http.post("/api/v1/readings", json=body, headers=sender).json()["accepted"] == 1
            assert http.post("/api/v1/readings", json=bodies[0], headers=sender).json()["duplicate"] == 1
        assert receipts.settle(engine, NOW + offset + timedelta(hours=1)) == 1
        assert receipts.settle(engine, NOW + offset + timedelta(hours=1)) == 0
        entries = http.get("/api/v1/audit", headers=admin).json()["entries"]
    hour, held = entries[0], entries[-1]
    assert (hour["action"], hour["target"], held["action"]) == ("readings.add", "sh1", "held")
    detail = json.loads(hour["detail"])
    digests = [receipts.digest(body["readings"]) for body in bodies]
    assert (detail["accepted"], detail["batches"]) == (5, 5)
    assert detail["sha256_sum"] == f"{sum(digests) % receipts.MODULUS:064x}"
    with engine.connect() as connection:
        assert audit.verify(connection).problems == ()


def test_the_chain_holds_and_shows_what_was_done_to_it(engine: sa.Engine) -> None:
    for n in range(5):
        with engine.begin() as connection:
            audit.append(connection, entry(f"a{n}"), datetime.now(UTC))
    with engine.connect() as connection:
        found = audit.verify(connection)
    assert (found.entries, found.first_seq, found.problems) == (5, 1, ())
    attacks = {
        "UPDATE audit SET actor = 'eve' WHERE seq = 3": "entry 3",
        "DELETE FROM audit WHERE seq = 3": "3 to 3 are missing",
    }
    for statement, problem in attacks.items():
        with engine.connect() as connection:
            connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER ALL"))
            connection.execute(sa.text(statement))
            assert problem in " ".join(audit.verify(connection).problems)
            connection.rollback()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "TRUNCATE audit"],
)
def test_the_application_cannot_change_the_log(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        audit.append(connection, entry("a"), datetime.now(UTC))
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="audit log is never changed"):
        connection.execute(sa.text(statement))


def test_old_entries_may_be_forgotten_but_not_too_early(engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        for age_days in (400, 200, 10):
            audit.append(connection, entry("a"), now - timedelta(days=age_days))
        with pytest.raises(ConfigError, match="180"):
            audit.forget(connection, now, 179)
        assert audit.forget(connection, now, 365) == 1
        found = audit.verify(connection)
    assert (found.entries, found.first_seq, found.problems) == (3, 2, ())  # how far it went is written down


def test_a_snapshot_is_not_shown_to_those_who_may_not_see_it() -> None:
    assert b"site=" not in Telemetry().exposition(visible=())
