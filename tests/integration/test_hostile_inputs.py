"""Whatever stands in an address, a header or a form: a declared answer, with its security headers."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.auth import KeyAuthenticator
from app.api.oidc import OidcSettings, OidcVerifier
from app.api.single_sign_on import Client, Pending
from app.domain.access import Grant
from app.store import identity
from app.web import router as pages
from tests.integration.api_helpers import NOW, a_day, client, own_database
from tests.integration.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, provider

PLENTY = 1_000_000
ODD = [
    "9" * 30,
    "-1",
    "1e999",
    "NaN",
    "0x10",
    "\x00",
    "a\x00b",
    "\u0661",
    "\ud83d\ude00",
    "%",
    "..",
    "' OR 1=1--",
]
FORMS = ("/sign-in", "/sign-out", "/language")


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet and a day of readings."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        yield engine


@pytest.fixture(scope="module")
def idp() -> Iterator[Provider]:
    """A sign-in provider."""
    with provider() as one:
        yield one


@pytest.fixture(scope="module")
def http(database: sa.Engine, idp: Provider) -> Iterator[httpx.Client]:
    """An administrator's way in."""
    with application(database, idp) as http:
        yield http


@contextmanager
def application(database: sa.Engine, idp: Provider) -> Iterator[httpx.Client]:
    """The application with its pages, and an administrator who may ask as often as he likes."""
    with database.begin() as connection:
        key = identity.create(connection, "odd", [Grant.parse("admin")], created_by="test")
    asks = KeyAuthenticator(
        database,
        oidc=OidcVerifier(OidcSettings(issuer=idp.issuer, audience="api")),
        client=Client(id=CLIENT_ID, secret=CLIENT_SECRET),
        requests_per_minute=PLENTY,
        failures_per_minute=PLENTY,
    )
    with client(database, authenticator=asks, clock=lambda: NOW, extra=(pages.router,)) as http:
        http.headers["Authorization"] = f"Bearer {key}"
        yield http


def declared(answer: httpx.Response) -> None:
    """No error that nobody expected; refusals are problem documents or pages; headers are there."""
    where = f"{answer.request.method} {answer.request.url}"
    assert answer.status_code < 500, f"{where}: {answer.status_code} {answer.text[:300]}"
    assert answer.headers["X-Content-Type-Options"] == "nosniff", where
    assert answer.headers["X-Frame-Options"] == "DENY", where
    if answer.status_code >= 400:
        kind = answer.headers["Content-Type"]
        assert kind.startswith(("application/problem+json", "text/html")), f"{where}: {kind}"


def operations(http: httpx.Client) -> list[tuple[str, str, list[dict[str, Any]]]]:
    paths = http.get("/openapi.json").json()["paths"]
    return [
        (method, path, operation.get("parameters", []))
        for path, methods in paths.items()
        for method, operation in methods.items()
        if operation["operationId"] != "probe_address"
    ]


@pytest.mark.parametrize("odd", ODD)
def test_odd_values_in_paths_and_queries_are_answered(http: httpx.Client, odd: str) -> None:
    text = quote(odd, safe="", errors="surrogatepass")
    for method, path, parameters in operations(http):
        address = re.sub(r"{[^}]*}", text, path)
        names = [p["name"] for p in parameters if p["in"] == "query"]
        declared(http.request(method, address))
        if names and method == "get":
            good = re.sub(r"{site}", "sh1", path)
            declared(http.get(f"{re.sub(r'{[^}]*}', text, good)}?" + "&".join(f"{n}={text}" for n in names)))


@pytest.mark.parametrize("origin", ["http://[", "null", "https://evil.example", "\x80", "http://a:b:c"])
def test_an_origin_that_is_foreign_or_none_is_refused(http: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin.encode("latin-1")}
    answer = http.post("/api/v1/readings", headers=headers, json={"readings": []})
    declared(answer)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "mapping",
    ["{time: {format: '%Q'}}", "[" * 300, "a: &a [*a]", "time: 5", "\x00", "- 1", "columns: {x: {unit: 1e}}"],
)
def test_an_odd_mapping_is_refused(http: httpx.Client, mapping: str) -> None:
    files = {"file": ("a.csv", b"time,a\n2026-03-01 00:00,1\n")}
    answer = http.post("/api/v1/imports", data={"site": "sh1", "map": mapping}, files=files)
    declared(answer)
    assert answer.status_code == 422


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PENDING = [*Pending.__dataclass_fields__]
CLAIMS = ["sub", "aud", "exp", "iat", "nbf", "nonce", "preferred_username", "wattline_grants"]
FORM_TOKEN = "of-this-browser"
AS_FORM = {"Authorization": "", "Content-Type": "application/x-www-form-urlencoded"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/sign-in", "/sign-out", "/sign-in/start", "/sign-in/callback"]),
    form=st.dictionaries(
        st.sampled_from(["secret", "next", "state", "code", "iss", "error", "error_description"]) | TEXT,
        TEXT,
        max_size=4,
    ),
    pending=st.binary(max_size=60)
    | st.dictionaries(st.sampled_from([*Pending.__dataclass_fields__]) | TEXT, JSON),
    body=st.none() | st.binary(max_size=200),
    is_own_form=st.booleans(),
)
def test_whatever_comes_to_the_sign_in(
    http: httpx.Client,
    path: str,
    form: dict[str, str],
    pending: bytes | dict[str, Any],
    body: bytes | None,
    is_own_form: bool,
) -> None:
    raw = pending if isinstance(pending, bytes) else urlsafe_b64encode(json.dumps(pending).encode())
    cookies = b"wattline_pending=" + re.sub(rb"[^\x21-\x7e]|;", b"", raw)
    cookies += f"; wattline_form={FORM_TOKEN}".encode()
    fields = form | ({"form_id": FORM_TOKEN} if is_own_form else {})
    content = body if body is not None else str(httpx.QueryParams(fields)).encode()
    declared(http.post(path, content=content, headers={**AS_FORM, "Cookie": cookies}))
    declared(http.get(path, params=form, headers={"Authorization": "", "Cookie": cookies}))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    claims=st.dictionaries(
        st.sampled_from(
            ["sub", "aud", "exp", "iat", "nbf", "nonce", "preferred_username", "wattline_grants"]
        ),
        JSON | st.lists(st.sampled_from(["viewer", "admin", "operator:site/sh1", "admin:site/"]) | TEXT),
        max_size=4,
    ),
    change=st.dictionaries(st.sampled_from(["state", "code", "iss"]), TEXT, max_size=1),
)
def test_whatever_the_provider_says_at_the_end_of_a_sign_in(
    http: httpx.Client, idp: Provider, claims: dict[str, Any], change: dict[str, str]
) -> None:
    idp.claims = {"sub": "4711", "wattline_grants": ["viewer"], **claims}
    began = http.get("/sign-in/start", headers={"Authorization": ""})
    assert began.status_code == 303, began.text
    answered = httpx.URL(str(httpx.get(began.headers["location"]).headers["location"]))
    pending = began.headers["set-cookie"].partition(";")[0]
    asked = {**dict(answered.params), **change}
    ended = http.get("/sign-in/callback", params=asked, headers={"Authorization": "", "Cookie": pending})
    declared(ended)
    if change:
        assert ended.status_code == 401


def test_silences_say_nothing_about_other_sites(http: httpx.Client, database: sa.Engine) -> None:
    with database.begin() as connection:
        key = identity.create(connection, "own", [Grant.parse("operator:site/sh1")], created_by="test")
    end = (NOW + timedelta(days=30)).isoformat()
    for body in (
        {"site": "bj1", "comment": "work at bj1"},
        {"rule": "pue_1h", "comment": "secret of bj1"},
        {"rule": "pue_1h", "subject": "bj.main.kwh", "comment": "meter of bj1"},
        {"site": "sh1", "comment": "own work"},
    ):
        made = http.post("/api/v1/silences", json={**body, "end": end})
        assert made.status_code == 201, made.text
    mine = {"Authorization": f"Bearer {key}"}
    api = http.get("/api/v1/silences", headers=mine)
    assert [s["comment"] for s in api.json()["silences"]] in (["", "own work"], ["own work", ""])
    for answer in (
        api,
        http.get("/alarms", headers=mine),
        http.get("/api/v1/alarms?state=all", headers=mine),
    ):
        assert answer.status_code == 200
        assert not re.search(r"bj1|bj\.", answer.text)
    for number in range(1, 5):
        assert http.delete(f"/api/v1/silences/{number}", headers=mine).status_code in (204, 403, 404)
