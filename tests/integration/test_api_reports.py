"""Reports over HTTP: listing, every form, caching, and who may see an institution's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from app.jobs import close_month
from app.reports import canonical
from tests.integration.api_helpers import NOW, a_day, client, own_database

LATER = NOW + timedelta(days=45)
PATH = "/api/v1/sites/sh1/reports"


@pytest.fixture(scope="module")
def engine_with_reports(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """An estate whose March is frozen, with one day of readings in it."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
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


def test_the_schema_is_published(http: httpx.Client) -> None:
    assert "pue" in http.get("/api/v1/reports/schema").json()["properties"]
    assert "sites" in http.get("/api/v1/reports/schema", params={"of": "institution"}).json()["properties"]
