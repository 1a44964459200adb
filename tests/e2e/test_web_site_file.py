"""The site file in the browser, over HTTP without script: check, difference, apply, undo, two editors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.actions.site_file import Place
from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.store import audit, identity
from app.web import router as pages
from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.integration.api_helpers import ESTATE, NOW, client, declare, own_database
from tests.protocol.test_modbus_probe import plausible

PAGE = "/settings/site-file"


@pytest.fixture
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """An empty database."""
    with own_database(server_url, _template) as engine:
        yield engine


def token(http: httpx.Client, path: str = PAGE) -> str:
    found = re.search(r'name="form_id" value="([^"]+)"', http.get(path).text)
    assert found, path
    return found[1]


def base(http: httpx.Client) -> str:
    found = re.search(r'name="base" value="([^"]*)"', http.get(PAGE).text)
    assert found
    return found[1]


def drafted(http: httpx.Client, text: str, of: str) -> str:
    """Address of the draft of a text."""
    sent = {"form_id": token(http), "base": of, "text": text.replace("\n", "\r\n")}
    answer = http.post(PAGE, data=sent)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def applied(http: httpx.Client, draft: str, note: str = "") -> httpx.Response:
    return http.post(f"{draft}/apply", data={"form_id": token(http, draft), "note": note})


def test_a_text_is_checked_compared_applied_and_undone(database: sa.Engine) -> None:
    with client(database, extra=(pages.router,)) as http:
        wrong = drafted(http, ESTATE.replace("Asia/Shanghai", "Asia/Shangai", 1), base(http))
        shown = http.get(wrong).text
        assert 'data-line="9"' in shown  # as `check-config` names it
        assert "Asia/Shangai" in shown
        assert f"{wrong}/apply" not in shown
        assert http.post(f"{wrong}/apply", data={"form_id": token(http)}).status_code == 422

        first = drafted(http, ESTATE, base(http))
        assert applied(http, first, "first").status_code == 303
        assert http.get("/api/v1/sites/sh1").status_code == 200
        more = ESTATE.replace("rated_power_kw: 400", "rated_power_kw: 450")
        second = drafted(http, more, base(http))
        difference = http.get(second).text
        assert re.search(r'class="gone".*rated_power_kw: 400', difference)
        assert re.search(r'class="added".*rated_power_kw: 450', difference)
        assert "chiller.kwh" in difference  # computed again
        assert applied(http, second, "new breaker").status_code == 303
        assert "new breaker" in http.get(PAGE).text

        revision = first.replace("drafts", "revisions")
        restored = http.post(f"{revision}/restore", data={"form_id": token(http, revision)})
        assert applied(http, restored.headers["location"]).status_code == 303
        assert http.get(f"{PAGE}/text").text == ESTATE
        with database.begin() as connection:
            done = [e for e in audit.listing(connection) if e.action == "site_file.edit"]
        assert len(done) == 3
        assert "new breaker" in done[1].detail


def test_two_editors_do_not_overwrite_each_other(database: sa.Engine) -> None:
    with client(database, extra=(pages.router,)) as http:
        applied(http, drafted(http, ESTATE, ""))
        seen = base(http)
        one = drafted(http, ESTATE.replace("rated_power_kw: 400", "rated_power_kw: 410"), seen)
        other = drafted(http, ESTATE.replace("rated_power_kw: 800", "rated_power_kw: 810"), seen)
        assert applied(http, one).status_code == 303
        refused = applied(http, other)
        assert refused.status_code == 409
        assert "was changed meanwhile" in refused.text
        assert re.search(r'class="gone".*rated_power_kw: 410', refused.text)  # what would be lost is seen
        assert "rated_power_kw: 410" in http.get(f"{PAGE}/text").text


def test_a_file_on_disk_is_edited_unless_it_is_managed_from_outside(
    database: sa.Engine, tmp_path: Path
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(ESTATE)
    file.chmod(0o640)
    place = Place(file, f"one:{file}")
    with client(database, extra=(pages.router,), site_file=place) as http:
        draft = drafted(http, "# by Li\n" + ESTATE, base(http))
        assert applied(http, draft, "a remark").status_code == 303
        assert file.read_text() == "# by Li\n" + ESTATE
        assert file.stat().st_mode & 0o777 == 0o640
        assert "changed outside of these pages" in http.get(PAGE).text  # what was there before is kept
        assert [one.name for one in tmp_path.iterdir()] == ["site.yaml"]
    with client(database, extra=(pages.router,), site_file=Place(file, place.owner, is_managed=True)) as http:
        page = http.get(PAGE).text
        assert "managed from outside" in page
        assert "<textarea" not in page
        sent = {"form_id": token(http, "/settings/keys"), "base": "", "text": ESTATE}
        assert http.post(PAGE, data=sent).status_code == 403


def test_only_administrators_see_the_text(database: sa.Engine) -> None:
    declare(database)
    with database.begin() as connection:
        key = identity.create(connection, "op", [Grant.parse("operator")], created_by="test")
    authenticator = KeyAuthenticator(database, clock=lambda: NOW)
    with client(database, authenticator=authenticator, extra=(pages.router,)) as http:
        bearer = {"Authorization": f"Bearer {key}"}
        for path in (PAGE, f"{PAGE}/text", f"{PAGE}/revisions/1", f"{PAGE}/drafts/1"):
            assert http.get(path, headers=bearer).status_code == 403, path
        assert http.get(f"{PAGE}/keys?q=rated_power_kw", headers=bearer).status_code == 200


def test_a_site_of_another_file_is_not_described_twice(database: sa.Engine) -> None:
    from app import config
    from app.store import sites

    with database.begin() as connection:
        sites.sync(connection, config.parse(ESTATE).fleet, "two:/etc/site.yaml")
    with client(database, extra=(pages.router,)) as http:
        assert "sh1" in http.get(PAGE).text
        refused = applied_of(http, ESTATE)
        assert refused.status_code == 422
        assert "described by another site file" in refused.text


def applied_of(http: httpx.Client, text: str) -> httpx.Response:
    """What applying a text is answered, whether its page offers it or not."""
    draft = drafted(http, text, base(http))
    return http.post(f"{draft}/apply", data={"form_id": token(http), "note": ""})


async def test_a_device_becomes_a_meter_of_the_first_site(database: sa.Engine) -> None:
    def steps(http: httpx.Client, port: int) -> str:
        known = {"institution": "Bank", "site": "Pudong", "time_zone": "Asia/Shanghai"}
        probed = {"host": "127.0.0.1/32", "protocol": "modbus", "port": str(port), "action": "probe"}
        page = http.post("/start", data={"form_id": token(http, "/start"), **known, **probed}).text
        carried = unescape(re.findall(r'name="plan" value="([^"]*)"', page)[0])
        sent = {"form_id": token(http, "/start"), "plan": carried, "m.0.role": "facility", "action": "draft"}
        draft = http.post("/start", data=sent).headers["location"]
        return http.get(draft).text

    unit = SimulatedUnit(load_profile("schneider_pm5xxx"), lambda channel, at: plausible(channel))
    with client(database, extra=(pages.router,)) as http:
        async with SimulatedModbus({1: unit}) as meter:
            page = await asyncio.to_thread(steps, http, meter.port)
    assert "The text is understood." in page
    assert "role: facility" in page
    assert f"port: {meter.port}" in page


def test_what_a_step_cannot_use_is_said_and_nothing_is_lost(database: sa.Engine) -> None:
    with client(database, extra=(pages.router,)) as http:
        half = {"institution": "Bank", "site": "", "time_zone": "Asia/Shanghai"}
        shown = http.post("/start", data={"form_id": token(http, "/start"), **half}).text
        assert "name the institution and the data centre" in shown
        assert 'value="Bank"' in shown
        odd = {**half, "site": "P", "time_zone": "Mars/Base"}
        assert "is not known" in http.post("/start", data={"form_id": token(http, "/start"), **odd}).text
        assert http.post("/start", data={**half, "site": "P"}).status_code == 403  # no page made it
        declared = {**half, "site": "P", "action": "upload", "form_id": token(http, "/start")}
        assert "choose a file first" in http.post("/start", data=declared).text


FILES = (
    "collector: {kind: http, url: 'https://10.0.0.9/', user: u, password_file: /var/lib/wattline/audit.key}",
    "collector: {kind: csv_folder, folder: /var/lib/wattline}",
    "collector: {kind: modbus, host: 10.0.0.9, profile: ../../etc/passwd}",
    "collector: {kind: sql, url: 'sqlite:////var/lib/wattline/x.db', query: select 1}",
)


@pytest.mark.parametrize("naming", FILES)
def test_nobody_from_elsewhere_names_files_of_the_machine(
    database: sa.Engine, tmp_path: Path, naming: str
) -> None:
    """The service would read them, send what stands in them to an address of the text, or move them."""
    file = tmp_path / "site.yaml"
    good = ESTATE.replace("      - id: main\n", f"      - id: main\n        {FILES[1]}\n", 1)
    file.write_text(good)
    with database.begin() as connection:
        key = identity.create(connection, "curious", [Grant.parse("admin")], created_by="test")
    asks = KeyAuthenticator(database, clock=lambda: NOW)
    named = good.replace("      - id: ups\n", f"      - id: ups\n        {naming}\n", 1)
    with client(database, authenticator=asks, extra=(pages.router,), site_file=Place(file)) as http:
        http.headers["Authorization"] = f"Bearer {key}"
        sent = {"form_id": token(http), "base": base(http), "text": named}
        answer = http.post(PAGE, data=sent)
        if naming == FILES[1]:
            assert answer.status_code == 303, "it stands there already"
        else:
            assert (answer.status_code, "names a file of" in answer.text) == (422, True)
            assert "root:" not in answer.text
        sent["text"] = good.replace("rated_power_kw: 400", "rated_power_kw: 450")
        assert http.post(PAGE, data=sent).status_code == 303
    with client(database, extra=(pages.router,), site_file=Place(file)) as http:
        sent = {"form_id": token(http), "base": base(http), "text": named}
        assert http.post(PAGE, data=sent).status_code == 303, "who is on the machine may"
