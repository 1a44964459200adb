"""The grade that a PUE reaches and the duty to report: in the document, on the page and in reports."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from app import config
from app.jobs import rollup
from app.reports import canonical, output
from app.reports.build import build
from app.reports.document import Report, as_data, read
from app.store import readings, sites
from app.store.reports import revisions
from app.web import router as pages
from tests.integration.api_helpers import ESTATE, NOW, client, own_database, register

PROFILES = "profiles: [cbrc_13fyp, gb40879_2021, eu_2024_1364]"


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A site that is judged by GB 40879-2021 and reports to the EU, at a PUE of 1.4."""
    with own_database(server_url, _template) as engine:
        with engine.begin() as connection:
            sites.sync(connection, config.parse(ESTATE.replace("profiles: [cbrc_13fyp]", PROFILES)).fleet)
            stored = sites.load(connection)
            rows = [*register("main.kwh", 700), *register("ups.kwh", 500), *register("chiller.kwh", 150)]
            readings.ingest_readings(connection, rows, dict(stored.point_id))
        rollup.run(engine)
        yield engine


@pytest.fixture(scope="module")
def http(database: sa.Engine) -> Iterator[httpx.Client]:
    with client(database, extra=(pages.router,)) as http:
        yield http


@pytest.fixture(scope="module")
def report(database: sa.Engine) -> Report:
    with database.connect() as connection:
        stored = sites.load(connection)
        evidence = revisions.gather(connection, stored, stored.fleet.site["sh1"], "2026-03", NOW)
    return build(evidence, revision=0, changes=[])


def test_the_document_says_the_grade_and_the_duty(http: httpx.Client) -> None:
    figure = http.get("/api/v1/sites/sh1/pue", params={"window": "24h"}).json()
    assert figure["pue"] == pytest.approx(1.4)
    (grade,) = figure["grades"]
    assert (grade["profile"], grade["grade"]) == ("gb40879_2021", "3")
    assert grade["is_certain"] is (1.4 - figure["uncertainty"] > 1.3 and 1.4 + figure["uncertainty"] <= 1.5)
    assert figure["reporting_duties"] == [{"profile": "eu_2024_1364", "from_it_kw": 500.0, "applies": True}]
    room = http.get("/api/v1/sites/sh1/pue", params={"window": "24h", "room": "hall-1"}).json()
    assert (room["grades"], room["reporting_duties"]) == ([], [])
    unknown = http.get("/api/v1/sites/sh1/pue", params={"month": "2026-01"}).json()
    assert (unknown["pue"], unknown["grades"]) == (None, [])
    other = http.get("/api/v1/sites/bj1/pue", params={"window": "24h"}).json()
    assert (other["grades"], other["reporting_duties"]) == ([], [])


@pytest.mark.parametrize(("lang", "grade", "duty"), [("en", "grade 3", "applies"), ("zh", "3 级", "适用")])
def test_the_page_says_them(http: httpx.Client, lang: str, grade: str, duty: str) -> None:
    page = http.get("/sites/sh1", params={"lang": lang}).raise_for_status().text
    assert grade in page
    assert duty in page
    assert grade not in http.get("/sites/bj1", params={"lang": lang}).text


@pytest.mark.parametrize(
    ("lang", "grade", "duty"),
    [("en", "grade 3", "the duty to report applies"), ("zh", "3 级", "适用报告义务")],
)
def test_reports_say_them(report: Report, lang: str, grade: str, duty: str) -> None:
    page = output.render(report, "html", lang).decode()
    assert grade in page
    assert duty in page


def test_a_report_from_before_reads_and_compares_as_ever(report: Report) -> None:
    old = {k: v for k, v in as_data(report).items() if k not in ("grades", "reporting_duties")}
    again = read(old)
    assert isinstance(again, Report)
    assert (again.grades, again.reporting_duties) == ([], [])
    assert canonical.changes(old, as_data(report)) == []
