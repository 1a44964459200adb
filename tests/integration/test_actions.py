"""What a person does is recorded and refused alike by HTTP, on a page and on the command line."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.domain.alarms.notification import Silence
from app.domain.energy import Event, EventKind
from app.domain.quality.finding import Finding, FindingKind, Severity
from app.store import alarms, audit, events, findings, identity, sites, tables
from app.store.readings import to_us
from app.store.sites import Stored
from app.web import router as pages
from tests.integration.api_helpers import NOW, client, declare
from tests.integration.conftest import Wattline
from tests.waiting import until

START = NOW - timedelta(hours=3)
_SERIAL = count()
"""Tells one thing that is made for a test from the next."""


@dataclass(frozen=True)
class Doors:
    """The three ways in, for one caller; the command line is the administrator's."""

    engine: sa.Engine
    http: httpx.Client
    wattline: Wattline

    def key(self, grant: str) -> str:
        with self.engine.begin() as connection:
            return identity.create(connection, "li", [Grant.parse(grant)], created_by="test")

    def api(self, method: str, path: str, body: Any = None, *, grant: str = "admin") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key(grant)}"}
        return self.http.request(method, f"/api/v1{path}", json=body, headers=headers)

    def page(self, path: str, form: dict[str, str] | None = None, *, grant: str = "admin") -> httpx.Response:
        cookies = {"wattline_key": self.key(grant), "wattline_form": "f" * 32, "wattline_lang": "en"}
        with httpx.Client(base_url=self.http.base_url, cookies=cookies) as visitor:
            return visitor.post(path, data={"form_id": "f" * 32, **(form or {})})

    def entries(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Action, target and detail of everything done, oldest first; without the key that was shown."""
        with self.engine.connect() as connection:
            rows = audit.listing(connection)[::-1]
        details = [{k: v for k, v in json.loads(row.detail).items() if k != "key"} for row in rows]
        return [(row.action, row.target, detail) for row, detail in zip(rows, details, strict=True)]


@pytest.fixture
def doors(engine: sa.Engine, wattline: Wattline) -> Iterator[Doors]:
    declare(engine)
    asks = KeyAuthenticator(engine, clock=lambda: NOW, requests_per_minute=6000, failures_per_minute=1000)
    with client(engine, authenticator=asks, extra=(pages.router,)) as http:
        yield Doors(engine, http, wattline)


def stored_of(engine: sa.Engine) -> Stored:
    with engine.connect() as connection:
        return sites.load(connection)


def an_alarm(engine: sa.Engine, site: str) -> int:
    number = stored_of(engine).site_id[site] if site else alarms.DEPLOYMENT
    row = {"rule": "meter_silent", "severity": "warning", "state": "firing", "subject": "main"}
    row["fingerprint"] = f"x{next(_SERIAL)}"
    with engine.begin() as connection:
        made = sa.insert(tables.alarms).values(**row, site_id=number, started_at=START, fired_at=START)
        return int(connection.execute(made.returning(tables.alarms.c.id)).scalar_one())


def a_silence(engine: sa.Engine, site: str) -> int:
    number = stored_of(engine).site_id[site] if site else alarms.DEPLOYMENT
    wanted = Silence(START, NOW + timedelta(days=3650), site, "", "", "works")
    with engine.begin() as connection:
        return alarms.add_silence(connection, wanted, number, "li")


def a_finding(engine: sa.Engine, site: str) -> int:
    stored, point = stored_of(engine), {"sh1": "main.kwh", "bj1": "bj.main.kwh"}[site]
    number, start = stored.site_id[site], START + timedelta(minutes=next(_SERIAL))
    found = Finding(FindingKind.GAP, point, start, NOW, Severity.WARNING, 1.0, {})
    scope = findings.Scope(number, [stored.point_id[point]], [FindingKind.GAP], start, NOW)
    with engine.begin() as connection:
        findings.replace(connection, scope, [found], stored.point_id)
        return next(f.id for f in findings.listing(connection, number) if f.start == start)


def an_event(engine: sa.Engine, site: str) -> int:
    stored, meter = stored_of(engine), {"sh1": "main", "bj1": "bj.main"}[site]
    span = (to_us(START), to_us(NOW))
    with engine.begin() as connection:
        return events.add(
            connection,
            site_id=stored.site_id[site],
            meter_id=stored.meter_id[meter],
            point_ids=[stored.point_id[f"{meter}.kwh"]],
            event=Event(EventKind.TEST, *span),
            start=START,
            end=NOW,
            author="li",
            note="generator",
        )[0]


@dataclass(frozen=True)
class Act:
    """Something done to a numbered thing of a site, by every door it has."""

    make: Callable[[sa.Engine, str], int]
    action: str
    target: str
    detail: Callable[[int], dict[str, Any]]
    missing: str
    """How a door says that there is no such thing; {n}: its number."""
    api: Callable[[int, str], tuple[str, str, Any]]
    cli: Callable[[int, str], tuple[object, ...]]
    page: Callable[[int, str], tuple[str, dict[str, str]]] | None = None


ACTS = {
    "acknowledge": Act(
        an_alarm,
        "alarm.acknowledge",
        "sh1",
        lambda n: {"alarm": n},
        "there is no alarm {n}",
        lambda n, _: ("POST", f"/alarms/{n}/acknowledge", {"comment": "on my way"}),
        lambda n, _: ("alarms", "acknowledge", n, "--comment", "on my way"),
        lambda n, _: (f"/alarms/{n}/acknowledge", {"comment": "on my way"}),
    ),
    "comment": Act(
        an_alarm,
        "alarm.comment",
        "sh1",
        lambda n: {"alarm": n},
        "there is no alarm {n}",
        lambda n, _: ("POST", f"/alarms/{n}/comments", {"comment": "cable"}),
        lambda n, _: ("alarms", "comment", n, "cable"),
        lambda n, _: (f"/alarms/{n}/comments", {"comment": "cable"}),
    ),
    "end a silence": Act(
        a_silence,
        "silence.end",
        "sh1",
        lambda n: {"silence": n},
        "there is no silence {n} that is not over",
        lambda n, _: ("DELETE", f"/silences/{n}", None),
        lambda n, _: ("alarms", "end-silence", n),
        lambda n, _: (f"/silences/{n}/end", {}),
    ),
    "acknowledge a finding": Act(
        a_finding,
        "finding.acknowledge",
        "sh1",
        lambda n: {"finding": n},
        "there is no open finding {n}",
        lambda n, site: ("POST", f"/sites/{site}/findings/{n}/acknowledge", None),
        lambda n, site: ("findings", "acknowledge", site, n),
        lambda n, site: (f"/sites/{site}/findings/{n}/acknowledge", {}),
    ),
    "withdraw": Act(
        an_event,
        "event.withdraw",
        "sh1",
        lambda n: {"entry": n},
        "there is no event {n} at site sh1",
        lambda n, site: ("POST", f"/sites/{site}/events/{n}/withdraw", None),
        lambda n, site: ("meter", "withdraw", site, n),
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_every_door_writes_the_same_into_the_audit_log(doors: Doors, name: str) -> None:
    act = ACTS[name]
    numbers = [act.make(doors.engine, "sh1")]
    answer = doors.api(*act.api(numbers[0], "sh1"), grant="operator:site/sh1")
    assert answer.status_code in (200, 204), answer.text
    numbers.append(act.make(doors.engine, "sh1"))
    done = doors.wattline(*act.cli(numbers[1], "sh1"))
    assert done.code == 0, done.err
    if act.page:
        numbers.append(act.make(doors.engine, "sh1"))
        assert doors.page(*act.page(numbers[2], "sh1"), grant="operator:site/sh1").status_code == 303
    assert doors.entries() == [(act.action, act.target, act.detail(n)) for n in numbers]


@pytest.mark.parametrize("name", ACTS)
def test_a_foreign_site_is_refused_like_what_does_not_exist(doors: Doors, name: str) -> None:
    act, nothing = ACTS[name], 4242
    foreign = act.make(doors.engine, "bj1")
    by_site = "/sites/" in act.api(foreign, "sh1")[1]
    if by_site:  # the caller names the site himself
        assert doors.api(*act.api(foreign, "bj1"), grant="operator:site/sh1").json()["detail"] == (
            "there is no site 'bj1'"
        )
    for number in (foreign, nothing):
        wanted = act.missing.format(n=number)
        answer = doors.api(*act.api(number, "sh1"), grant="operator:site/sh1")
        assert (answer.status_code, answer.json()["detail"]) == (404, wanted)
        if act.page:
            page = doors.page(*act.page(number, "sh1"), grant="operator:site/sh1")
            assert page.status_code == 404
            assert wanted in html.unescape(page.text)
            assert "bj1" not in page.text
    done = doors.wattline(*act.cli(nothing, "sh1"))
    assert done.code == 1
    assert act.missing.format(n=nothing) in done.err
    assert doors.entries() == []


@pytest.mark.parametrize("name", ACTS)
def test_a_viewer_is_refused_in_the_same_words(doors: Doors, name: str) -> None:
    act = ACTS[name]
    number = act.make(doors.engine, "sh1")
    words = "this needs the role operator on site sh1"
    answer = doors.api(*act.api(number, "sh1"), grant="viewer:site/sh1")
    assert (answer.status_code, words in answer.json()["detail"]) == (403, True)
    if act.page:
        page = doors.page(*act.page(number, "sh1"), grant="viewer:site/sh1")
        assert (page.status_code, words in html.unescape(page.text)) == (403, True)
    # refusals are written by a thread of their own
    until(lambda: {action for action, _, _ in doors.entries()} == {"access.denied"}, name="the refusals")


@pytest.mark.parametrize("make", [an_alarm, a_silence])
def test_what_belongs_to_the_deployment_needs_the_role_on_all_of_it(
    doors: Doors, make: Callable[[sa.Engine, str], int]
) -> None:
    number = make(doors.engine, "")
    act = ACTS["acknowledge" if make is an_alarm else "end a silence"]
    assert act.page is not None
    expected = {"operator:site/sh1": 404 if make is an_alarm else 403, "viewer": 403, "operator": 204}
    for grant, status in expected.items():
        page_status = 303 if status == 204 else status
        again = make(doors.engine, "") if status == 204 else number
        assert doors.page(*act.page(again, ""), grant=grant).status_code == page_status
        assert doors.api(*act.api(number, ""), grant=grant).status_code == status


# -- what is made anew -------------------------------------------------------------------------------


def test_a_silence_is_checked_and_recorded_alike(doors: Doors) -> None:
    end = (NOW + timedelta(hours=4)).isoformat()
    body = {"site": "sh1", "rule": "meter_silent", "end": end, "comment": "works"}
    form = {"site": "sh1", "rule": "meter_silent", "hours": "4", "comment": "works"}
    command = ("alarms", "silence", "works", "--site", "sh1", "--rule", "meter_silent", "--hours", 4)
    assert doors.api("POST", "/silences", body).status_code == 201
    assert doors.page("/silences", form).status_code == 303
    assert doors.wattline(*command).code == 0
    found = doors.entries()
    assert [(action, target) for action, target, _ in found] == [("silence.add", "sh1")] * 3
    assert [set(detail) for *_, detail in found] == [{"silence", "rule", "subject", "end"}] * 3
    listed = doors.wattline("alarms", "silences", "--json").document["silences"]
    assert [one["comment"] for one in listed] == ["works"] * len(listed)

    wrong = {"rule": "meter_loud"}
    words = "there is no rule 'meter_loud'"
    assert words in doors.api("POST", "/silences", body | wrong).json()["detail"]
    assert words in html.unescape(doors.page("/silences", form | wrong).text)
    assert words in doors.wattline(*command[:5], "--rule", "meter_loud").err
    words = "comment: is empty; say why nobody is notified"
    assert words in html.unescape(doors.page("/silences", form | {"comment": " "}).text)
    assert words in doors.api("POST", "/silences", body | {"comment": " "}).json()["detail"]
    assert words in doors.wattline("alarms", "silence", "", "--site", "sh1").err
    words = "there is no site 'bj1'"
    grant = "operator:site/sh1"
    assert doors.api("POST", "/silences", body | {"site": "bj1"}, grant=grant).json()["detail"] == words
    assert words in html.unescape(doors.page("/silences", form | {"site": "bj1"}, grant=grant).text)
    assert "there is no site 'xx'" in doors.wattline("alarms", "silence", "works", "--site", "xx").err
    assert len(doors.entries()) == 3


def test_an_event_is_about_the_same_points_however_it_is_declared(doors: Doors) -> None:
    body = {"kind": "test", "start": START.isoformat(), "end": NOW.isoformat(), "note": "generator"}
    command = ("meter", "event", "chiller", "--at", body["start"], "--end", body["end"], "--note", "x")
    answer = doors.api("POST", "/meters/chiller/events", body)
    assert {e["point"] for e in answer.json()["events"]} == {"chiller.kwh", "chiller.mean"}
    made = doors.wattline(*command, "--kind", "test", "--json").document["entries"]
    assert len(made) == 2
    estimate = {**body, "kind": "estimate", "energy_kwh": 12.0}
    answer = doors.api("POST", "/meters/chiller/events", estimate)
    assert [e["point"] for e in answer.json()["events"]] == ["chiller.kwh"]
    done = doors.wattline(*command, "--kind", "estimate", "--energy-kwh", 12, "--json")
    assert len(done.document["entries"]) == 1
    found = doors.entries()
    assert [(action, target) for action, target, _ in found] == [("event.add", "chiller")] * 4
    assert [detail["kind"] for *_, detail in found] == ["test", "test", "estimate", "estimate"]

    words = "point: a replacement needs a register; hall.c is not one"
    wrong = {**body, "kind": "replaced", "point": "hall.c"}
    assert doors.api("POST", "/meters/chiller/events", wrong).json()["detail"] == words
    assert words in doors.wattline(*command, "--kind", "replaced", "--point", "hall.c").err
    words = "end: is before the start"
    wrong = {**body, "end": (START - timedelta(hours=1)).isoformat()}
    assert doors.api("POST", "/meters/chiller/events", wrong).json()["detail"] == words
    early = ("meter", "event", "chiller", "--at", body["end"], "--end", body["start"], "--note", "x")
    assert words in doors.wattline(*early, "--kind", "test").err
    assert len(doors.entries()) == 4


def test_a_key_is_made_and_revoked_alike(doors: Doors) -> None:
    body = {"name": "gateway", "grants": ["operator:site/sh1"]}
    key = doors.api("POST", "/keys", body).json()["key"]
    made = doors.wattline("keys", "create", "gateway", "--grant", "operator:site/sh1", "--json").document
    assert doors.api("POST", f"/keys/{key[3:15]}/revoke").status_code == 200
    assert doors.wattline("keys", "revoke", made["key"][3:15]).code == 0
    assert doors.entries() == [
        ("key.create", "gateway", {"grants": ["operator:site/sh1"]}),
        ("key.create", "gateway", {"grants": ["operator:site/sh1"]}),
        ("key.revoke", "gateway", {"id": key[3:15]}),
        ("key.revoke", "gateway", {"id": made["key"][3:15]}),
    ]
    for grant, words in (
        ("operator:site/xx", "there is no site 'xx'"),
        ("operator:institution/xx", "there is no institution 'xx'"),
        ("emperor", "grants: 'emperor' is no grant"),
    ):
        assert words in doors.api("POST", "/keys", {"name": "x", "grants": [grant]}).json()["detail"]
        assert words in doors.wattline("keys", "create", "x", "--grant", grant).err


def test_an_order_of_a_foreign_report_is_no_order(doors: Doors) -> None:
    path = doors.api("POST", "/sites/bj1/reports/2026-02", {}).json()["path"].removeprefix("/api/v1")
    answer = doors.api("GET", path, grant="operator:site/sh1")
    nothing = f"/reports/orders/{'0' * 8}-0000-4000-8000-{'0' * 12}"
    missing = doors.api("GET", nothing, grant="operator:site/sh1")
    assert (answer.status_code, missing.status_code) == (404, 404)
    assert answer.json()["detail"].replace(path.rsplit("/")[-1], "") == (
        missing.json()["detail"].replace(nothing.rsplit("/")[-1], "")
    )
