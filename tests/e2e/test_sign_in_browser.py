"""Signing in at a provider on another site, in a real browser with its own idea of cookies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.api.oidc import OidcSettings, OidcVerifier
from app.api.single_sign_on import Client
from app.domain.access import Grant
from app.store import identity
from app.web import router as pages
from tests.integration.api_helpers import NOW, client, declare
from tests.integration.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, provider

sync_api = pytest.importorskip("playwright.sync_api", reason="install the development packages: make install")

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent; install the package chromium"),
]


@pytest.fixture
def idp() -> Iterator[Provider]:
    """A provider under another name of this machine: for a browser that is another site."""
    with provider() as one:
        one.issuer = one.issuer.replace("127.0.0.1", "localhost")
        yield one


def test_a_link_from_elsewhere_asks_once_and_finds_the_session_the_next_time(
    engine: sa.Engine, idp: Provider
) -> None:
    declare(engine)
    verifier = OidcVerifier(OidcSettings(issuer=idp.issuer, audience="api"))
    known = Client(id=CLIENT_ID, secret=CLIENT_SECRET)
    asks = KeyAuthenticator(engine, oidc=verifier, client=known)
    with (
        client(engine, authenticator=asks, extra=(pages.router,)) as http,
        sync_api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(locale="en").new_page()
        page.set_default_timeout(60_000)
        here = str(http.base_url).rstrip("/")
        elsewhere = f"{idp.issuer}/keys"

        def follow_a_link() -> None:
            page.goto(elsewhere)
            page.evaluate("url => { location.href = url }", f"{here}/alarms")
            page.wait_for_url(f"{here}/**")

        follow_a_link()
        page.click("a[href^='/sign-in/start']")
        page.wait_for_url(f"{here}/alarms*")
        follow_a_link()
        assert page.url == f"{here}/alarms"
        page.click("details:has(form[action='/silences']) summary")
        page.fill("form[action='/silences'] input[name=comment]", "works")
        with page.expect_navigation():
            page.click("form[action='/silences'] button[type=submit]")
        assert page.url == f"{here}/alarms"
        browser.close()
    assert silenced(engine)


def silenced(engine: sa.Engine) -> bool:
    """Whether the form of a page that was reached from elsewhere was taken."""
    with engine.connect() as connection:
        return bool(connection.execute(sa.text("SELECT count(*) FROM silences")).scalar_one())


def test_a_display_signs_itself_in_with_the_key_behind_the_number_sign(engine: sa.Engine) -> None:
    declare(engine)
    with engine.begin() as connection:
        key = identity.create(connection, "lobby", [Grant.parse("viewer:site/sh1")], created_by="test")
    asks = KeyAuthenticator(engine, clock=lambda: NOW)
    with (
        client(engine, authenticator=asks, extra=(pages.router,)) as http,
        sync_api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(locale="en").new_page()
        page.set_default_timeout(60_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        here = str(http.base_url).rstrip("/")
        page.goto(f"{here}/wall?mode=rotate#{key}")
        page.wait_for_selector("article.wall-site")
        assert page.url == f"{here}/wall?mode=rotate"
        assert page.locator("article").count() == 1
        page.goto(f"{here}/wall")
        assert page.locator("article").count() == 1  # it sees one site, and no other
        assert not any(key in url.partition("#")[0] for url in asked)
        page.context.clear_cookies()
        page.goto(f"{here}/sign-in?next=/#{key}")
        sync_api.expect(page.locator("[name=secret]")).to_have_value("")  # only for the wall
        browser.close()
