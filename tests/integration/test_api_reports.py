"""Reports over HTTP: listing, every form, caching, and who may see an institution's."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.errors import TooBusy
from app.jobs import close_month, findings
from app.reports import canonical
from app.store import identity
from app.store.reports import orders
from app.store.reports.orders import Wanted
from tests.integration.api_helpers import NOW, a_day, client, own_database
from tests.waiting import until

LATER = NOW + timedelta(days=45)
PATH = "/api/v1/sites/sh1/reports"


@pytest.fixture(scope="module")
def engine_with_reports(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """An fleet whose March is frozen, with one day of readings in it."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        findings.run(engine)
        close_month.run(engine, LATER)
        yield engine


@pytest.fixture(scope="module")
def http(engine_with_reports: sa.Engine) -> Iterator[httpx.Client]:
    """The application, when March is over."""
    with client(engine_with_reports, clock=lambda: LATER) as http:
        yield http


def test_frozen_revisions_are_listed(http: httpx.Client) -> None:
    listed = http.get(PATH).json()["reports"]
    assert [(r["period"], r["revision"]) for r in listed] == [("2026-03", 1)]
    frozen = http.get(f"{PATH}/2026-03").json()
    assert frozen["sha256"] == listed[0]["sha256"]
    assert canonical.is_intact(frozen)
    assert frozen["revision"]["closed"] is True
    assert http.get(f"{PATH}/2026-03", params={"revision": 2}).status_code == 404


def test_an_open_period_is_provisional(http: httpx.Client) -> None:
    for period, query in (("2026", {}), ("2026-03", {"revision": 0})):
        document = http.get(f"{PATH}/{period}", params=query).json()
        assert document["revision"]["closed"] is False
    page = http.get(f"{PATH}/2026", params={"format": "html", "lang": "zh"}).text
    assert "暂定" in page
    assert http.get(f"{PATH}/2027").status_code == 422


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("pdf", "sh1-2026-03-r1-zh.pdf"),
        ("xlsx", "sh1-2026-03-r1-zh.xlsx"),
        ("csv", "sh1-2026-03-r1.csv"),
        ("json", "sh1-2026-03-r1.json"),
        ("html", "sh1-2026-03-r1-zh.html"),
    ],
)
def test_every_form_has_a_name_and_a_tag(http: httpx.Client, form: str, name: str) -> None:
    query = {"format": form, "lang": "zh"}
    first = http.get(f"{PATH}/2026-03", params=query)
    assert first.status_code == 200
    assert f'filename="{name}"' in first.headers["content-disposition"]
    again = http.get(f"{PATH}/2026-03", params=query, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_pdf_is_the_same_bytes_every_time(http: httpx.Client) -> None:
    one, two = (http.get(f"{PATH}/2026-03", params={"format": "pdf"}).content for _ in range(2))
    assert one == two


def test_what_there_is_not(http: httpx.Client) -> None:
    assert http.get(f"{PATH}/2026-03", params={"lang": "xx"}).status_code == 404
    assert http.get(f"{PATH}/2026-13").status_code == 422
    assert http.get("/api/v1/sites/nowhere/reports").status_code == 404
    assert http.get(f"{PATH}/2026-03", params={"format": "eu-csv"}).status_code == 422
    assert http.get(f"{PATH}/2026", params={"format": "eu-csv"}).text.count("E_DC") == 2


def test_the_report_of_an_institution(http: httpx.Client) -> None:
    path = "/api/v1/institutions/bank/reports"
    assert http.get(path).json()["reports"][0]["period"] == "2026-03"
    document = http.get(f"{path}/2026-03").json()
    assert [s["id"] for s in document["sites"]] == ["sh1"]
    rows = list(csv.DictReader(io.StringIO(http.get(f"{path}/2026-03", params={"format": "csv"}).text)))
    assert float(rows[0]["facility_kwh"]) == document["sites"][0]["facility_kwh"] == 16_800.0
    assert http.get("/api/v1/institutions/nowhere/reports").status_code == 404


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_period_that_has_not_begun_is_refused_before_the_answer_begins(
    http: httpx.Client, form: str
) -> None:
    answer = http.get("/api/v1/institutions/bank/reports/2031-01", params={"format": form})
    assert answer.status_code == 422
    assert "2031-01 has not begun at sh1" in answer.json()["detail"]


def test_the_schema_is_published(http: httpx.Client) -> None:
    assert "pue" in http.get("/api/v1/reports/schema").json()["properties"]
    assert "sites" in http.get("/api/v1/reports/schema", params={"of": "institution"}).json()["properties"]


# -- made in the background ---------------------------------------------------------------------------


def made(http: httpx.Client, order: dict[str, Any]) -> dict[str, Any]:
    """The order when it has ended."""

    def ended() -> dict[str, Any]:
        found: dict[str, Any] = http.get(order["path"]).raise_for_status().json()
        return found if found["state"] in ("done", "failed") else {}

    return until(ended, name="the ordered report")


def test_a_report_is_made_in_the_background(http: httpx.Client) -> None:
    asked = http.post(f"{PATH}/2026-03", json={"format": "xlsx", "lang": "zh"})
    assert asked.status_code == 202
    order = asked.json()
    assert asked.headers["location"] == order["path"]
    assert (order["of"], order["period"], order["file_path"]) == ("sh1", "2026-03", None)
    done = made(http, order)
    assert (done["state"], done["steps_done"], done["steps_total"]) == ("done", 2, 2)
    file = http.get(done["file_path"])
    assert 'filename="sh1-2026-03-r1-zh.xlsx"' in file.headers["content-disposition"]
    assert file.content == http.get(f"{PATH}/2026-03", params={"format": "xlsx", "lang": "zh"}).content


def test_the_report_of_an_institution_tells_how_many_sites_are_done(http: httpx.Client) -> None:
    path = "/api/v1/institutions/bank/reports/2026-03"
    done = made(http, http.post(path, json={"format": "json", "revision": 0}).json())
    assert (done["state"], done["steps_total"]) == ("done", 2)
    assert [s["id"] for s in http.get(done["file_path"]).json()["sites"]] == ["sh1"]


def test_an_order_that_cannot_be_made_says_why(http: httpx.Client) -> None:
    done = made(http, http.post(f"{PATH}/2026-03", json={"format": "json", "revision": 7}).json())
    assert (done["state"], done["file_path"]) == ("failed", None)
    assert "there is no revision 7 of 2026-03" in done["problem"]
    assert http.get(f"{done['path']}/file").status_code == 404
    assert http.post(f"{PATH}/2026-03", json={"lang": "xx"}).status_code == 404
    assert http.post(f"{PATH}/2026-03", json={"form": "pdf"}).status_code == 422
    assert http.get(f"/api/v1/reports/orders/{uuid.uuid4()}").status_code == 404


def test_an_order_of_a_site_of_others_does_not_exist(
    engine_with_reports: sa.Engine, http: httpx.Client
) -> None:
    order = made(http, http.post(f"{PATH}/2026-03", json={"format": "json"}).json())
    whole = made(http, http.post("/api/v1/institutions/bank/reports/2026-03", json={"format": "csv"}).json())
    with engine_with_reports.begin() as connection:
        key = identity.create(connection, "other", [Grant.parse("viewer:site/bj1")], created_by="test")
    asks = KeyAuthenticator(engine_with_reports)
    with client(engine_with_reports, authenticator=asks, clock=lambda: LATER) as strange:
        strange.headers["Authorization"] = f"Bearer {key}"
        for path in (order["path"], order["file_path"], whole["path"], whole["file_path"]):
            assert strange.get(path).status_code == 404
        assert strange.post(f"{PATH}/2026-03", json={}).status_code == 404


def test_an_order_whose_maker_died_is_made_by_another(engine: sa.Engine) -> None:
    wanted = Wanted("sh1", "bank", "2026-03", None, "pdf", "en")
    with engine.begin() as connection:
        first = orders.put(connection, wanted, "test", NOW)
        assert orders.put(connection, wanted, "test", NOW).id == first.id
    for begun in range(4):
        now = NOW + begun * timedelta(hours=1)
        with engine.begin() as connection:
            claimed = orders.claim(connection, now)
            assert orders.claim(connection, now) is None
        assert claimed is not None
        assert (claimed.id, claimed.state) == (first.id, "running" if begun < 3 else "failed")
    with engine.begin() as connection:
        assert orders.forget(connection, NOW + timedelta(hours=26)) == 0
        assert orders.forget(connection, NOW + timedelta(hours=28)) == 1


def test_an_order_of_before_the_clock_was_set_back_is_made(engine: sa.Engine) -> None:
    wanted = Wanted("sh1", "bank", "2026-03", None, "pdf", "en")
    with engine.begin() as connection:
        order = orders.put(connection, wanted, "test", NOW)
        assert orders.claim(connection, NOW + timedelta(hours=12)) is not None
        assert orders.claim(connection, NOW + timedelta(hours=12)) is None
        again = orders.claim(connection, NOW)
    assert again is not None
    assert again.id == order.id


def _wanted(n: int, bank: str = "bank") -> Wanted:
    return Wanted("sh1", bank, f"{2000 + n}", None, "pdf", "en")


def test_only_so_many_orders_wait(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for n in range(orders.MOST_OPEN_OF_CALLER):
            orders.put(connection, _wanted(n), "test", NOW)
        with pytest.raises(TooBusy, match="20 reports that you ordered are waiting"):
            orders.put(connection, _wanted(999), "test", NOW)


def test_orders_of_many_leave_room_for_whoever_has_none(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "MOST_OPEN", 6)
    monkeypatch.setattr(orders, "MOST_OPEN_OF_INSTITUTION", 4)
    with engine.begin() as connection:
        for n in range(4):
            orders.put(connection, _wanted(n), f"caller {n % 2}", NOW)
        with pytest.raises(TooBusy):
            orders.put(connection, _wanted(4), "caller 0", NOW)
        for n in range(2):
            orders.put(connection, _wanted(n, "other-bank"), "caller 2", NOW)
        with pytest.raises(TooBusy):
            orders.put(connection, _wanted(2, "other-bank"), "caller 2", NOW)
        assert orders.put(connection, _wanted(9, "third-bank"), "caller 3", NOW).state == "waiting"


def test_institutions_and_callers_take_turns(engine: sa.Engine) -> None:
    """54 orders of one viewer held up everybody else's until they were made."""
    with engine.begin() as connection:
        for n in range(10):
            orders.put(connection, _wanted(n), "busy", NOW + timedelta(seconds=n))
        for n in range(2):
            orders.put(connection, _wanted(100 + n), "other of bank", NOW + timedelta(minutes=1, seconds=n))
            late = NOW + timedelta(minutes=2, seconds=n)
            orders.put(connection, _wanted(n, "other-bank"), "elsewhere", late)
    turns = []
    for n in range(8):
        with engine.begin() as connection:
            order = orders.claim(connection, NOW + timedelta(minutes=5, seconds=n))
        assert order is not None
        turns.append((order.wanted.institution, order.asked_by))
    assert turns[:4] == [
        ("bank", "busy"),
        ("other-bank", "elsewhere"),
        ("bank", "other of bank"),
        ("other-bank", "elsewhere"),
    ]
    assert turns[4:6] == [("bank", "busy"), ("bank", "other of bank")]
