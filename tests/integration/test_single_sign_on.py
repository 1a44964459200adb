"""Signing in at a provider: the whole way over HTTP, and what goes wrong on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.api.oidc import OidcSettings, OidcVerifier
from app.api.single_sign_on import Client, SingleSignOn, challenge
from app.store import audit, identity
from app.store.identity import SESSION_LIFE
from app.web import router as pages
from tests.integration.api_helpers import NOW, client, declare, own_database
from tests.integration.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, provider


class Clock:
    """The application's time, which a test moves on."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with provider() as one:
        yield one


@pytest.fixture
def idp(running: Provider) -> Iterator[Provider]:
    before = dict(running.claims)
    yield running
    running.claims, running.refuses = before, False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet."""
    with own_database(server_url, _template) as engine:
        declare(engine)
        yield engine


@pytest.fixture
def http(database: sa.Engine, idp: Provider, clock: Clock) -> Iterator[httpx.Client]:
    """The pages, which know the provider; the client is a browser that follows no redirect by itself."""
    verifier = OidcVerifier(OidcSettings(issuer=idp.issuer, audience="api"))
    asks = KeyAuthenticator(
        database, oidc=verifier, client=Client(id=CLIENT_ID, secret=CLIENT_SECRET), clock=clock
    )
    with client(database, authenticator=asks, extra=(pages.router,), clock=clock) as browser:
        yield browser


def begun(http: httpx.Client, next: str = "/sites/sh1") -> str:
    """Address at the provider to which the browser is sent."""
    answer = http.get("/sign-in/start", params={"next": next})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def back(address: str) -> str:
    """Address at which the provider sends the browser back."""
    return str(httpx.get(address).headers["location"])


def changed(address: str, **change: str) -> str:
    parts = urlsplit(address)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **change})).geturl()


def test_the_whole_way_and_back_to_the_page(
    http: httpx.Client, database: sa.Engine, idp: Provider, clock: Clock
) -> None:
    page = http.get("/sign-in?next=/sites/sh1&lang=en")
    assert "Sign in with single sign-on" in page.text
    answer = http.get(back(begun(http)))
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/sites/sh1"
    cookies = answer.headers.get_list("set-cookie")
    key = next(c for c in cookies if c.startswith("wattline_key=wl_"))
    assert "HttpOnly" in key
    assert "SameSite=lax" in key
    assert any(c.startswith('wattline_pending=""') for c in cookies)
    site = http.get("/sites/sh1?lang=en")
    assert site.status_code == 200
    assert "Sign out" in site.text
    assert http.get("/api/v1/sites").status_code == 200
    with database.connect() as connection:
        login = audit.listing(connection)[0]
    assert (login.action, login.actor) == ("login", "oidc:4711")
    assert "anna" in login.detail
    clock.now = NOW + SESSION_LIFE + timedelta(seconds=1)
    assert http.get("/sites/sh1").status_code == 303


def test_signing_out_ends_the_session_everywhere(http: httpx.Client, database: sa.Engine) -> None:
    http.get(back(begun(http)))
    http.get("/alarms")
    key = http.cookies["wattline_key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{http.base_url}/api/v1/sites", headers=headers).status_code == 200
    http.post("/sign-out", data={"form_id": http.cookies["wattline_form"]})
    assert "wattline_key" not in http.cookies
    assert httpx.get(f"{http.base_url}/api/v1/sites", headers=headers).status_code == 401
    http.get(back(begun(http)))
    with database.connect() as connection:
        assert all(one.revoked_at is None for one in identity.listing(connection))  # it is forgotten


def test_what_is_asked_of_the_provider_can_be_answered_by_nobody_else(http: httpx.Client) -> None:
    asked = parse_qs(urlsplit(begun(http)).query)
    other = parse_qs(urlsplit(begun(http)).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{http.base_url}/sign-in/callback".replace("//sign", "/sign")]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name][0]) >= 43
        assert asked[name] != other[name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "guessed"}, "not started in this browser"),
        ({"code": "guessed"}, "did not confirm"),
        ({"iss": "https://evil.example"}, "another sign-in provider"),
    ],
)
def test_an_answer_that_was_changed_on_the_way_signs_nobody_in(
    http: httpx.Client, database: sa.Engine, change: dict[str, str], said: str
) -> None:
    answer = http.get(changed(back(begun(http)), **change), params=None)
    assert answer.status_code == 401
    assert said in answer.text
    assert "wattline_key" not in http.cookies
    with database.connect() as connection:
        assert audit.listing(connection)[0].action == "login.failed"


def test_a_code_of_somebody_elses_sign_in_signs_nobody_in(http: httpx.Client) -> None:
    stolen = dict(parse_qsl(urlsplit(back(begun(http))).query))["code"]
    own = back(begun(http))
    assert http.get(changed(own, code=stolen)).status_code == 401  # PKCE: made for another verifier
    assert http.get(own).status_code == 401  # and each sign-in has one try


def test_an_answer_without_a_question_signs_nobody_in(http: httpx.Client) -> None:
    address = back(begun(http))
    assert httpx.get(address).status_code == 401
    assert httpx.get(address, cookies={"wattline_pending": "bm9uc2Vuc2U="}).status_code == 401


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"nonce": "replayed"}, "another sign-in"),
        ({"aud": "somebody"}, "was rejected"),
        ({"iss": "https://evil.example"}, "was rejected"),
        ({"exp": 1}, "was rejected"),
        ({"wattline_grants": []}, "grants no role"),
    ],
)
def test_a_token_that_is_not_for_this_sign_in_signs_nobody_in(
    http: httpx.Client, idp: Provider, claims: dict[str, Any], said: str
) -> None:
    idp.claims = {**idp.claims, **claims}
    answer = http.get(back(begun(http)))
    assert answer.status_code == 401
    assert said in answer.text


def test_a_refusal_of_the_provider_is_told(http: httpx.Client, idp: Provider) -> None:
    idp.refuses = True
    answer = http.get(back(begun(http)))
    assert answer.status_code == 401
    assert "access_denied" in answer.text


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_signing_in_leads_to_own_pages_only(http: httpx.Client, next: str) -> None:
    assert http.get(back(begun(http, next))).headers["location"] == "/"


def test_without_a_provider_there_is_no_such_way(database: sa.Engine) -> None:
    with client(database, authenticator=KeyAuthenticator(database), extra=(pages.router,)) as http:
        assert "single sign-on</a>" not in http.get("/sign-in?lang=en").text
        assert http.get("/sign-in/start").status_code == 404
        assert http.get("/sign-in/callback").status_code == 404


def test_a_provider_that_is_away_is_told(database: sa.Engine) -> None:
    verifier = OidcVerifier(OidcSettings(issuer="http://127.0.0.1:9", audience="api"))
    asks = KeyAuthenticator(database, oidc=verifier, client=Client(id="x"))
    with client(database, authenticator=asks, extra=(pages.router,)) as http:
        answers = [http.get("/sign-in/start") for _ in range(40)]
    assert answers[0].status_code == 401
    assert "cannot be reached" in answers[0].text
    assert answers[-1].status_code == 429, "nobody makes it ask a provider that is away without end"


def test_behind_a_proxy_the_way_back_is_the_public_address(database: sa.Engine, idp: Provider) -> None:
    verifier = OidcVerifier(OidcSettings(issuer=idp.issuer, audience="api"))
    known = Client(id=CLIENT_ID, public_url="https://dc.example/")
    address, pending = SingleSignOn(verifier, known, database).begin("http://10.0.0.1:8080/", "/", "10.0.0.9")
    assert pending.callback == "https://dc.example/sign-in/callback"
    assert urlencode({"redirect_uri": pending.callback}) in address


def test_the_challenge_is_that_of_the_standard() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
