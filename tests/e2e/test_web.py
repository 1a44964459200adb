"""The pages over HTTP: what they show, who may see and change what, and in which language."""

from __future__ import annotations

import asyncio
import csv
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from html import unescape
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import httpx
import pytest
import sqlalchemy as sa

from app import config
from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.domain.quality.finding import Finding, FindingKind, Severity
from app.jobs import evaluate
from app.store import findings, identity, readings, sites
from app.web import router as pages
from app.web.access import missing_page
from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.integration.api_helpers import NOW, START, a_day, client, own_database
from tests.protocol.test_modbus_probe import plausible

SHANGHAI = ZoneInfo("Asia/Shanghai")
PATHS = (
    "/",
    "/sites/sh1",
    "/sites/sh1?window=7d",
    "/sites/sh1?month=2026-03&compare=previous",
    "/sites/sh1?start=2026-03-01&end=2026-03-02&compare=year",
    "/sites/sh1/computed?window=24h",
    "/sites/sh1/trend?window=24h&compare=previous",
    "/?month=2026-03",
    "/sites/sh1/outlook",
    "/sites/sh1/meters",
    "/sites/sh1/findings",
    "/sites/sh1/findings?state=all",
    "/sites/sh1/reports",
    "/sites/sh1/imports",
    "/meters/main",
    "/meters/chiller?window=7d",
    "/meters/chiller?year=2026&compare=2026-02-01..2026-03-01",
    "/alarms",
    "/alarms?state=all&severity=critical&rule=pue_1h",
    "/?view=table&group=institution&sort=pue",
    "/sites/sh1/capacity?window=24h",
    "/sites/sh1/capacity?window=24h&without=ups",
    "/sites/sh1/balance?window=24h",
    "/sites/sh1/balance?window=24h&node=main",
    "/?compare=previous",
    "/?window=24h&compare=previous&view=table",
    "/sites/sh1/meters?month=2026-03",
    "/sites/sh1/first",
    "/sites/sh1/flow?window=24h",
    "/docs",
    "/runbook",
    "/sites/sh1/indicators?month=2026-03&compare=previous",
    "/sites/sh1/opportunities",
    "/sites/sh1/opportunities?month=2026-03&compare=previous",
    "/sites/sh1/costs?month=2026-03",
    "/sites/sh1/compliance?window=24h",
    "/sites/sh1/coverage?window=7d",
    "/sites/sh1/events",
    "/sites/sh1/events?month=2026-03&meter=ups",
    "/settings/keys",
    "/settings/sessions",
    "/settings/edges",
    "/settings/audit",
    "/settings/site-file",
    "/settings/site-file/keys?q=rated_power_kw",
    "/wall",
    "/wall?mode=rotate&at=1",
    "/reports",
    "/imports",
    "/connect",
    "/sign-in",
)


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet, a day of readings and its figures."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        evaluate.run(engine, NOW)
        yield engine


@pytest.fixture(scope="module")
def open_pages(database: sa.Engine) -> Iterator[httpx.Client]:
    """The pages as the only visitor of this machine sees them."""
    with client(database, extra=(pages.router,), missing_page=missing_page) as http:
        yield http


@pytest.fixture(scope="module")
def locked(database: sa.Engine) -> Iterator[httpx.Client]:
    """The pages where keys are asked."""
    authenticator = KeyAuthenticator(database, clock=lambda: NOW)
    with client(database, authenticator=authenticator, extra=(pages.router,)) as http:
        yield http


def test_an_address_that_nothing_has_is_a_page_for_browsers_and_a_problem_for_programs(
    open_pages: httpx.Client,
) -> None:
    browser = {"Accept": "text/html,*/*;q=0.8"}
    page = open_pages.get("/import?lang=zh", headers=browser)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "页面不存在" in page.text
    for path, headers in (("/import", {}), ("/api/v1/nothing", browser)):
        answer = open_pages.get(path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def form_id(page: httpx.Response) -> str:
    found = re.search(r'name="form_id" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


@contextmanager
def signed_in(http: httpx.Client, engine: sa.Engine, *grants: str) -> Iterator[httpx.Client]:
    """A visitor of their own, signed in with a new key."""
    with engine.begin() as connection:
        made = identity.create(connection, "ann", [Grant.parse(g) for g in grants], created_by="test")
    with httpx.Client(base_url=http.base_url, timeout=30) as visitor:
        page = visitor.get("/sign-in")
        sent = {"form_id": form_id(page), "secret": made, "next": "/"}
        answer = visitor.post("/sign-in", data=sent)
        assert answer.status_code == 303, answer.text
        yield visitor


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_is_whole_small_and_strict(open_pages: httpx.Client, path: str, language: str) -> None:
    mark = "&" if "?" in path else "?"
    page = open_pages.get(f"{path}{mark}lang={language}", follow_redirects=True)
    assert page.status_code == 200, page.text
    assert len(page.content) < 100_000
    assert f'<html lang="{"zh-CN" if language == "zh" else "en"}"' in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\bstyle=|\bon[a-z]+=\"|javascript:", page.text)
    assert not re.search(r"(src|href|action)=\"(https?:)?//", page.text)
    assert not re.search(r">[a-z_]+:[a-z]\w*<", page.text)


PERIODS = (
    "window=24h",
    "window=12mo",
    "month=2026-03",
    "year=2026",
    "start=2026-03-01&end=2026-03-02",
    "start=2026-03-01T08:00:00%2B08:00&end=2026-03-01T20:00:00%2B08:00",
)


@pytest.mark.parametrize("query", PERIODS)
def test_a_page_and_the_api_show_the_same_period(open_pages: httpx.Client, query: str) -> None:
    said = open_pages.get(f"/api/v1/sites/sh1/pue?{query}").json()
    for path in ("/sites/sh1", "/sites/sh1/computed"):
        page = open_pages.get(f"{path}?{query}&lang=en")
        assert page.status_code == 200, page.text
        ends = [datetime.fromisoformat(said[name]).astimezone(SHANGHAI) for name in ("start", "end")]
        assert "{:%Y-%m-%d %H:%M} to {:%Y-%m-%d %H:%M} (UTC+8)".format(*ends) in page.text
        shown = f"{said['pue']:.3f}" if said["pue"] else "PUE unavailable"
        assert shown in page.text


REFUSED = {
    "months=2026-03": "months: this page has no such parameter",
    "month=2026-3": "is no month",
    "month=2026-03&month=2026-02": "month: is given 2 times",
    "window=25h": "is no window",
    "window=24h&month=2026-03": "not window and month",
    "start=2026-03-01": "give both",
    "start=2026-03-02&end=2026-03-01": "must be after the start",
    "month=2026-03&compare=best": "is no comparison",
    "start=1990-01-01&end=2190-01-01": "at most 20 years",
}


@pytest.mark.parametrize("path", ["/sites/sh1", "/meters/main", "/sites/sh1/computed", "/"])
@pytest.mark.parametrize(("query", "said"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_shown_is_refused(open_pages: httpx.Client, path: str, query: str, said: str) -> None:
    page = open_pages.get(f"{path}?{query}&lang=en")
    assert page.status_code == 422, page.text
    assert said in unescape(page.text)


def test_forms_of_the_period_lead_to_an_address_that_says_the_same(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url) as visitor:
        bar = {"to": "/sites/sh1", "lang": "en", "first": "2026-03-01", "last": "2026-03-07"}
        answer = visitor.get("/period", params=bar)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sites/sh1?lang=en&start=2026-03-01&end=2026-03-08"
        page = visitor.get(answer.headers["location"]).text
        assert 'href="/sites/sh1?start=2026-02-22&amp;end=2026-03-01&amp;lang=en"' in page
        month = {"to": "/sites/sh1", "month": "2026-03", "compare": "2025-12"}
        found = open_pages.get("/period", params=month).headers["location"]
        assert found == "/sites/sh1?month=2026-03&compare=2025-12-01..2026-01-01"
        days = {"to": "/sites/sh1", "month": "2026-03", "compare": "days"}
        days |= {"compare_first": "2026-01-01", "compare_last": "2026-01-31"}
        found = visitor.get("/period", params=days).headers["location"]
        assert found == "/sites/sh1?month=2026-03&compare=2026-01-01..2026-02-01"
        assert visitor.get("/period", params={**bar, "last": "2026-02-28"}).status_code == 422
        assert visitor.get("/period", params={**bar, "to": "//evil.example"}).status_code == 422


def test_the_period_chosen_last_is_remembered_and_stands_in_the_address(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url) as visitor:
        assert visitor.get("/sites/sh1").status_code == 200
        visitor.get("/sites/sh1?month=2026-03")
        answer = visitor.get("/meters/main?lang=zh")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/meters/main?month=2026-03&lang=zh"
        assert visitor.get("/sites/sh1?window=7d").status_code == 200


def test_how_a_figure_was_computed_names_every_point_with_its_energy(open_pages: httpx.Client) -> None:
    page = open_pages.get("/sites/sh1/computed?start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z&lang=en")
    rows = re.findall(
        r'id="point-([\w.]+)".*?<td class="n">([\d.,−]+)</td><td class="n">([\d.,−–]+)</td>', page.text
    )
    assert [row for row in rows if row[0] != "chiller.mean"] == [
        ("main.kwh", "1.000", "16,800.0"),
        ("ups.kwh", "1.000", "12,000.0"),
        ("chiller.kwh", "1.000", "3,600.0"),
    ]
    assert "16,800.0 kWh / 12,000.0 kWh = <b>1.4000</b>" in page.text


def test_what_is_drawn_can_be_had_as_a_table_and_as_files(open_pages: httpx.Client) -> None:
    query = "start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z"
    series = open_pages.get(f"/api/v1/sites/sh1/pue/series?{query}&step=15m").json()["bars"]
    answer = open_pages.get(f"/sites/sh1/trend.csv?{query}")
    assert answer.headers["content-disposition"] == 'attachment; filename="sh1-trend.csv"'
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [float(row["pue"]) for row in rows] == [bar["pue"] for bar in series]
    assert rows[0]["start"] == "2026-03-01T08:00:00+08:00"
    assert {float(row["it_kw"]) for row in rows} == {500.0}
    table = open_pages.get(f"/sites/sh1/trend?{query}&lang=en").text
    assert table.count("<tr><td>2026-03-0") == len(rows) == 96
    for chart in ("pue", "power"):
        drawing = open_pages.get(f"/sites/sh1/trend.svg?{query}&chart={chart}")
        assert drawing.headers["content-type"] == "image/svg+xml"
        ElementTree.fromstring(drawing.text)


def test_a_replacement_is_declared_and_withdrawn_by_operators_only(
    database: sa.Engine, locked: httpx.Client
) -> None:
    sent = {
        "meter": "ups",
        "kind": "test",
        "start": "2026-03-01T08:15",
        "end": "2026-03-01T08:30",
        "note": "load bank, technician Li",
    }
    with signed_in(locked, database, "viewer:site/sh1") as viewer:
        page = viewer.get("/sites/sh1/events")
        assert 'name="kind"' not in page.text
        refused = viewer.post("/sites/sh1/events", data={**sent, "form_id": form_id(page)})
        assert refused.status_code == 403
    with signed_in(locked, database, "operator:site/sh1") as operator:
        token = form_id(operator.get("/sites/sh1/events?meter=ups"))
        for wrong, said in (("start", "is no instant"), ("end", "before the start"), ("note", "is empty")):
            bad = {"start": "yesterday", "end": "2026-03-01T08:00", "note": " "}[wrong]
            answer = operator.post("/sites/sh1/events?lang=en", data={**sent, "form_id": token, wrong: bad})
            assert (answer.status_code, said in answer.text) == (422, True), answer.text
        assert operator.post("/sites/sh1/events", data={**sent, "form_id": token}).status_code == 303
        (entry,) = [
            e
            for e in operator.get("/api/v1/sites/sh1/events").json()["events"]
            if e["note"] == sent["note"] and e["point"] == "ups.kwh"
        ]
        assert (entry["start"], entry["end"]) == ("2026-03-01T00:15:00Z", "2026-03-01T00:30:00Z")
        page = operator.get("/sites/sh1/events?start=2026-03-01&end=2026-03-02&lang=en").text
        assert "load bank, technician Li" in page
        assert "load bank" not in operator.get("/sites/sh1/events?month=2026-02").text
        for one in re.findall(r'action="(/sites/sh1/events/\d+/withdraw)"', page):
            assert operator.post(one, data={"form_id": token}).status_code == 303
        assert "/withdraw" not in operator.get("/sites/sh1/events").text


def test_an_administrator_gives_read_access_to_one_site(database: sa.Engine, locked: httpx.Client) -> None:
    with signed_in(locked, database, "admin") as admin:
        page = admin.get("/settings/keys?lang=en")
        sent = {"form_id": form_id(page), "name": "Wang", "role": "viewer", "scope": "site/sh1", "days": "30"}
        made = admin.post("/settings/keys?lang=en", data=sent)
        key = re.search(r"<pre id=\"new-key\"[^>]*>(wl_[^<]+)</pre>", made.text)
        assert key is not None, made.text
        bearer = {"Authorization": f"Bearer {key[1]}"}
        seen = httpx.get(f"{locked.base_url}/api/v1/sites", headers=bearer).json()["sites"]
        assert [site["id"] for site in seen] == ["sh1"]
        assert key[1] not in admin.get("/settings/keys").text
        assert "key.create" in admin.get("/settings/audit").text
        form = r'action="(/settings/keys/\w+/revoke)"[^>]*>(?:(?!</form>).)*of Wang'
        revoke = re.search(form, made.text, re.DOTALL)
        assert revoke is not None
        assert admin.post(revoke[1], data={"form_id": form_id(made)}).status_code == 303
        assert httpx.get(f"{locked.base_url}/api/v1/sites", headers=bearer).status_code == 401
    with signed_in(locked, database, "operator") as operator:
        assert operator.get("/settings/keys").status_code == 403
        assert operator.get("/settings/audit").status_code == 403


def test_capacity_says_whether_the_others_carry_all_and_coverage_shows_every_day(
    open_pages: httpx.Client,
) -> None:
    page = open_pages.get("/sites/sh1/capacity?window=24h&without=ups&lang=en").text
    assert "Nothing else feeds in the place of ups" in page
    assert open_pages.get("/sites/sh1/capacity?window=24h&without=none").status_code == 404
    shown = open_pages.get("/sites/sh1/coverage?start=2026-02-28&end=2026-03-02&lang=en").text
    first = re.search(r'>main</a></td><td class="n">([\d.]+) %</td>.*?<svg.*?</svg>', shown, re.DOTALL)
    assert first is not None
    assert re.findall(r'class="(c-\w+)"', first[0]) == ["c-none", "c-low"]  # 16 of 24 h of the local day
    assert open_pages.get("/sites/sh1/coverage?year=2025").status_code == 422


def test_limits_and_balance_are_shown(open_pages: httpx.Client) -> None:
    page = open_pages.get("/sites/sh1/compliance?window=24h&lang=en").text
    assert ">1.400</a>" in page
    assert page.count("✓ Within limit") >= 2
    balance = open_pages.get("/sites/sh1/balance?window=24h&lang=en").text
    assert "16.80 MWh" in balance
    assert "Losses or unmetered loads" in balance


def test_the_overview_says_verdict_reason_and_belief(open_pages: httpx.Client) -> None:
    page = open_pages.get("/?lang=en").text
    assert "Within limit" in page
    assert "Limit 1.50." in page
    assert "Largest overhead: Cooling" in page
    assert "Data quality: good. Coverage " in page


def test_a_page_without_a_site_leads_to_the_first_steps(engine: sa.Engine) -> None:
    with client(engine, extra=(pages.router,)) as http:
        page = http.get("/?lang=en").text
    assert "No data yet" in page
    assert 'href="/start' in page


async def test_the_first_meter_comes_with_a_whole_site_file(engine: sa.Engine) -> None:
    def asked(http: httpx.Client, port: int) -> str:
        token = form_id(http.get("/connect"))
        target = {"form_id": token, "host": "127.0.0.1", "protocol": "modbus", "port": str(port)}
        return http.post("/connect?lang=en", data=target).text

    unit = SimulatedUnit(load_profile("schneider_pm5xxx"), lambda channel, at: plausible(channel))
    with client(engine, extra=(pages.router,)) as http:
        async with SimulatedModbus({1: unit}) as meter:
            page = await asyncio.to_thread(asked, http, meter.port)
    shown = re.search(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert shown is not None, page
    (site,) = config.parse(unescape(shown[1])).fleet.sites
    assert [meter.collector["kind"] for meter in site.meters if meter.collector] == ["modbus"]


def test_what_is_not_there_is_a_page_too(open_pages: httpx.Client) -> None:
    for path in ("/sites/none", "/meters/none", "/alarms/999", "/alarms/x", "/static/none.css"):
        page = open_pages.get(path, follow_redirects=True)
        assert page.status_code == 404
        assert "text/html" in page.headers["content-type"]


def test_links_keep_the_language_and_the_choice_is_remembered(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url) as visitor:
        assert 'href="/sites/sh1?lang=zh"' in visitor.get("/?lang=zh").text
        assert '<html lang="zh-CN"' in visitor.get("/").text


def test_a_form_of_another_page_changes_nothing(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url) as visitor:
        visitor.get("/alarms")
        wrong = {"form_id": "guessed", "site": "sh1", "rule": "", "hours": "1", "comment": "works"}
        assert visitor.post("/silences", data=wrong).status_code == 403
        right = {**wrong, "form_id": visitor.cookies["wattline_form"]}
        foreign = visitor.post("/silences", data=right, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert visitor.post("/silences", data=right).status_code == 303


def test_a_silence_is_listed_and_can_be_ended(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url) as visitor:
        token = form_id(visitor.get("/alarms"))
        made = {"form_id": token, "site": "sh1", "rule": "", "hours": "4", "comment": "chiller service"}
        assert visitor.post("/silences", data=made).status_code == 303
        page = visitor.get("/alarms").text
        assert "chiller service" in page
        number = re.findall(r"/silences/(\d+)/end", page)[-1]
        assert visitor.post(f"/silences/{number}/end", data={"form_id": token}).status_code == 303
        assert f"/silences/{number}/end" not in visitor.get("/alarms").text


def test_a_finding_is_marked_as_seen(database: sa.Engine, open_pages: httpx.Client) -> None:
    found = Finding(FindingKind.GAP, "main.kwh", START, NOW, Severity.WARNING, 12.0, {"hours": 3.5})
    with database.begin() as connection:
        stored = sites.load(connection)
        scope = findings.Scope(
            stored.site_id["sh1"], [stored.point_id["main.kwh"]], list(FindingKind), START, NOW
        )
        findings.replace(connection, scope, [found], dict(stored.point_id))
    with httpx.Client(base_url=open_pages.base_url) as visitor:
        page = visitor.get("/sites/sh1/findings?lang=en")
        assert ">Data gap<" in page.text
        action = re.search(r'action="(/sites/sh1/findings/\d+/acknowledge)"', page.text)
        assert action is not None
        assert visitor.post(action[1], data={"form_id": form_id(page)}).status_code == 303
        assert action[1] not in visitor.get("/sites/sh1/findings").text


# -- import ---------------------------------------------------------------------------------------------

FILE = b"time,main kWh\n2026-02-01 00:00,10\n2026-02-01 00:15,12\n2026-02-01 00:30,abc\n"


def uploaded(visitor: httpx.Client) -> tuple[httpx.Response, str, str]:
    token = form_id(visitor.get("/sites/sh1/imports"))
    page = visitor.post(
        "/sites/sh1/imports?lang=en", data={"form_id": token}, files={"file": ("old.csv", FILE)}
    )
    assert page.status_code == 200, page.text
    ticket = re.search(r'action="(/sites/sh1/imports/[\w-]+)"', page.text)
    assert ticket is not None
    return page, ticket[1], token


def stored_rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        number = sites.load(connection).point_id["main.kwh"]
        return len(readings.load(connection, number, START.replace(month=1), START))


def test_an_upload_is_looked_at_corrected_and_confirmed(
    database: sa.Engine, open_pages: httpx.Client
) -> None:
    with httpx.Client(base_url=open_pages.base_url, timeout=30) as visitor:
        page, address, token = uploaded(visitor)
        assert 'name="column.1" value="main kWh"' in page.text
        chosen = {
            "form_id": token,
            "mapping": "",
            "column.1": "main kWh",
            "before.1": "?",
            "point.1": "main.kwh",
            "action": "look",
        }
        look = visitor.post(address, data=chosen)
        assert "2 readings accepted, 0 duplicates, 0 conflicts, 1 rows or cells rejected" in look.text
        assert "abc" in look.text
        assert stored_rows(database) == 0
        done = visitor.post(address, data={**chosen, "action": "import"})
        assert done.status_code == 200, done.text
        assert " imported</h2>" in done.text
        assert stored_rows(database) == 2
        again = visitor.post(address, data=chosen)
        assert (again.status_code, again.headers["location"]) == (303, address)
        refused = visitor.get(f"{address}/rejects.csv")
        assert refused.headers["content-type"].startswith("text/csv")
        assert "old.csv" in refused.text
        assert "abc" in refused.text


def test_a_mapping_that_is_no_yaml_is_answered_with_the_reason(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url, timeout=30) as visitor:
        _, address, token = uploaded(visitor)
        look = visitor.post(address, data={"form_id": token, "mapping": "columns: [", "action": "look"})
        assert "not valid YAML" in look.text
        for mapping, choice in (("columns: [1]", "x"), ("time: x", "'%Y'"), ("", "[")):
            asked = {
                "mapping": mapping,
                "key": "time: format",
                "choice": choice,
                "column.0": "a",
                "point.0": "b",
            }
            look = visitor.post(address, data={"form_id": token, "action": "look", **asked})
            assert look.status_code == 200, mapping
            assert "must be a mapping" in look.text or "not valid YAML" in look.text, mapping
        assert visitor.post(address, data={"form_id": token, "action": "drop"}).status_code == 303


def test_a_file_of_nothing_is_answered_with_the_reason(open_pages: httpx.Client) -> None:
    with httpx.Client(base_url=open_pages.base_url, timeout=30) as visitor:
        token = form_id(visitor.get("/sites/sh1/imports"))
        page = visitor.post("/sites/sh1/imports", data={"form_id": token}, files={"file": ("x.csv", b"")})
        assert page.status_code == 200
        assert "x.csv" in page.text
        assert visitor.post("/sites/sh1/imports", data={"form_id": token}).status_code == 422


def test_several_files_go_in_with_one_mapping(database: sa.Engine, open_pages: httpx.Client) -> None:
    rows = "Time,Haupt\n" + "".join(f"2026-01-{day:02d} 00:00,{{}}{day}\n" for day in range(2, 5))
    before = stored_rows(database)
    with httpx.Client(base_url=open_pages.base_url, timeout=60) as visitor:
        token = form_id(visitor.get("/sites/sh1/imports"))
        files = [
            ("file", ("one.csv", rows.format(*"111"))),
            ("file", ("two.csv", rows.replace("2026-01", "2026-02").format("2", "2", "x"))),
            ("file", ("none.csv", "hello")),
        ]
        page = visitor.post("/sites/sh1/imports?lang=en", data={"form_id": token}, files=files)
        assert "3 files" in page.text
        assert 'name="column.1" value="Haupt"' in page.text
        ticket = re.search(r'action="(/sites/sh1/imports/[\w-]+)"', page.text)
        assert ticket is not None
        chosen = {"form_id": token, "mapping": "columns: {Haupt: main.kwh}"}
        look = visitor.post(ticket[1], data={**chosen, "action": "look"})
        assert "expected rows of a time" in look.text
        assert "two.csv" in visitor.get(f"{ticket[1]}/rejects.csv").text
        done = visitor.post(ticket[1], data={**chosen, "action": "import"}, follow_redirects=True)
        assert "2 of 3 files imported" in done.text
        assert done.text.count('class="state done"') == 2
        assert done.text.count('class="state failed"') == 1
        assert stored_rows(database) == before + 5
        again = visitor.get(ticket[1])
        assert "2 of 3 files imported" in again.text
        refused = visitor.get(f"{ticket[1]}/rejects.csv").text
        assert "two.csv" in refused
        assert "x4" in refused


def test_a_corrected_file_shows_its_difference_before_it_is_stored(
    database: sa.Engine, open_pages: httpx.Client
) -> None:
    def sent(visitor: httpx.Client, value: int, **asked: str) -> httpx.Response:
        token = form_id(visitor.get("/sites/sh1/imports"))
        text = f"Time,main.kwh\n2025-12-01 00:00,100\n2025-12-01 01:00,{value}\n"
        file = {"file": ("c.csv", text)}
        page = visitor.post("/sites/sh1/imports?lang=en", data={"form_id": token}, files=file)
        ticket = re.search(r'action="(/sites/sh1/imports/[\w-]+)"', page.text)
        assert ticket is not None
        data = {"form_id": token, "mapping": "", "action": "import", **asked}
        return visitor.post(ticket[1], data=data, follow_redirects=True)

    with httpx.Client(base_url=open_pages.base_url, timeout=60) as visitor:
        assert " imported</h2>" in sent(visitor, 200).text
        asked = sent(visitor, 150, replace="1", reason="wrong ratio")
        assert "1 stored readings would be corrected, 0 new ones stored" in asked.text
        assert "Difference [kWh]" in asked.text
        assert "2025-12" in asked.text
        assert 'name="agreed"' in asked.text
        done = sent(visitor, 150, replace="1", reason="wrong ratio", agreed="1")
        assert " imported</h2>" in done.text
    with database.connect() as connection:
        query = sa.text("SELECT note, old_value, new_value FROM events WHERE corrected_readings = 1")
        assert list(connection.execute(query)) == [("wrong ratio (corrected export c.csv)", 200.0, 150.0)]


# -- connect --------------------------------------------------------------------------------------------


def test_an_address_where_nothing_answers_says_so(open_pages: httpx.Client, free_port: int) -> None:
    with httpx.Client(base_url=open_pages.base_url, timeout=60) as visitor:
        token = form_id(visitor.get("/connect"))
        asked = {"form_id": token, "host": "127.0.0.1", "protocol": "modbus", "port": str(free_port)}
        page = visitor.post("/connect?lang=en", data=asked)
    assert page.status_code == 200
    assert "No device detected" in page.text


def test_a_range_is_shown_as_one_table(open_pages: httpx.Client, free_port: int) -> None:
    with httpx.Client(base_url=open_pages.base_url, timeout=60) as visitor:
        form = visitor.get("/connect")
        for field in ("timeout_s", "profile", "input_registers", "snmp_user", "snmp_priv_password"):
            assert f'name="{field}"' in form.text
        asked = {
            "form_id": form_id(form),
            "host": "127.0.0.0/30",
            "protocol": "modbus",
            "port": str(free_port),
        }
        page = visitor.post("/connect?lang=en", data={**asked, "timeout_s": "1", "snmp_user": "watt"})
        assert page.status_code == 200
        assert "Answering addresses: 0" in page.text
        assert 'name="snmp_user" value="watt"' in page.text
        large = visitor.post("/connect?lang=en", data={**asked, "host": "127.0.0.0/16"})
        assert "65536 addresses; a range may have 64 here" in large.text


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# -- who ------------------------------------------------------------------------------------------------


def test_strangers_are_sent_to_the_sign_in_and_back(locked: httpx.Client) -> None:
    answer = locked.get("/sites/sh1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=/sites/sh1"
    assert locked.get("/sign-in?next=/sites/sh1").status_code == 200


def test_a_wrong_key_is_told_and_gives_no_cookie(locked: httpx.Client) -> None:
    with httpx.Client(base_url=locked.base_url) as visitor:
        token = form_id(visitor.get("/sign-in"))
        for secret in ("wl_wrong_key", "nonsense", "wl_a; b", ""):
            answer = visitor.post("/sign-in", data={"form_id": token, "secret": secret})
            assert answer.status_code == 401
            assert "wattline_key" not in visitor.cookies


def test_a_key_signs_in_with_a_cookie_that_scripts_and_other_sites_do_not_get(
    database: sa.Engine, locked: httpx.Client
) -> None:
    with signed_in(locked, database, "viewer") as visitor:
        cookie = next(c for c in visitor.cookies.jar if c.name == "wattline_key")
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "lax"
        page = visitor.get("/sites/sh1?lang=en")
        assert page.status_code == 200
        assert "Sign out" in page.text
        assert visitor.post("/sign-out", data={"form_id": form_id(page)}).status_code == 303
        assert visitor.get("/").status_code == 303


def test_other_sites_do_not_exist_and_viewers_change_nothing(
    database: sa.Engine, locked: httpx.Client
) -> None:
    with signed_in(locked, database, "viewer:site/sh1") as visitor:
        assert visitor.get("/sites/bj1").status_code == 404
        assert visitor.get("/meters/bj.main").status_code == 404
        assert "/sites/bj1" not in visitor.get("/").text
        token = visitor.cookies["wattline_form"]
        silence = {"form_id": token, "site": "sh1", "hours": "1"}
        assert visitor.post("/silences", data=silence).status_code == 403
        assert visitor.post("/connect", data={"form_id": token, "host": "127.0.0.1"}).status_code == 403
        file = {"file": ("old.csv", FILE)}
        assert visitor.post("/sites/sh1/imports", data={"form_id": token}, files=file).status_code == 403
        assert 'type="file"' not in visitor.get("/sites/sh1/imports").text
        assert 'action="/silences"' not in visitor.get("/alarms").text


def test_who_comes_with_a_key_does_not_reach_this_machine_through_the_probe(
    database: sa.Engine, locked: httpx.Client
) -> None:
    with socket.socket() as inside, signed_in(locked, database, "operator") as visitor:
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        inside.settimeout(0)
        for host in ("127.0.0.1", "localhost", "169.254.169.254"):
            asked = {"host": host, "protocol": "modbus", "port": str(inside.getsockname()[1])}
            page = visitor.post(
                "/connect?lang=en", data={**asked, "form_id": visitor.cookies["wattline_form"]}
            )
            assert "WATTLINE_COLLECTOR_NETWORKS" in page.text, host
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_the_overview_compares_every_site(open_pages: httpx.Client) -> None:
    day = "2026-03-01T00:00:00Z..2026-03-01T12:00:00Z"
    cards = open_pages.get(f"/?window=24h&compare={day}&lang=en").text
    assert cards.count("Compared with 1.") == 2
    table = open_pages.get(f"/?window=24h&compare={day}&view=table&lang=en").text
    assert re.search(r'<b>1\.400</b></td><td class="n">1\.400</td><td class="n">.?0\.000', table)
    assert open_pages.get("/?compare=never").status_code == 422


def test_what_has_no_meter_has_a_history(open_pages: httpx.Client) -> None:
    page = open_pages.get("/sites/sh1/balance?window=24h&node=main&lang=en").text
    assert 'id="rest"' in page
    assert "Meters that could explain it" in page
    assert open_pages.get("/sites/sh1/balance?window=24h&node=none").status_code == 404


def test_meters_are_listed_by_their_energy_and_have_a_daily_profile(open_pages: httpx.Client) -> None:
    listed = re.findall(
        r'href="/meters/([a-z]+)\?', open_pages.get("/sites/sh1/meters?month=2026-03&lang=en").text
    )
    assert list(dict.fromkeys(listed)) == ["main", "ups", "chiller"]
    page = open_pages.get(
        "/meters/bj.ups?month=2026-03&lang=en"
    ).text  # no other test declares anything there
    assert "Mean power by hour of the day 100.0 – 100.0 kW" in page


def test_cost_is_shared_among_rooms(open_pages: httpx.Client) -> None:
    page = open_pages.get("/sites/sh1/costs?month=2026-03&lang=en").text
    assert re.search(r"<td>hall-1</td><td class=\"n\">16\.80 MWh", page)
