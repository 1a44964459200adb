"""Plant indicators and opportunities from a real store: API, command line, pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.domain.period import Period
from app.reports import build, canonical, output
from app.reports.document import as_data
from app.store import plant, sites
from app.store.reports import revisions
from app.web import router
from tests.integration import api_helpers, plant_helpers
from tests.integration.api_helpers import a_day, client, own_database
from tests.integration.conftest import Wattline
from tests.integration.plant_helpers import NOW, START


@pytest.fixture(scope="module")
def filled(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A plant with four months of readings."""
    with own_database(server_url, _template) as engine:
        plant_helpers.fill(engine)
        yield engine


@pytest.fixture(scope="module")
def http(filled: sa.Engine) -> Iterator[httpx.Client]:
    with client(filled, clock=lambda: NOW) as http:
        yield http


def get(http: httpx.Client, path: str, **query: str) -> Any:
    answer = http.get(f"/api/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(document: Any) -> dict[str, Any]:
    return {f"{i['name']} {i['subject']}".strip(): i for i in document["indicators"]}


@pytest.mark.parametrize("window", [{"month": "2026-03"}, {"window": "12mo"}])
def test_indicators_by_quarters_and_by_hours(http: httpx.Client, window: dict[str, str]) -> None:
    """A month is read by 15 minutes, a year by hours; the year is not covered well enough here."""
    found = rows(get(http, "/sites/s/plant-indicators", **window))
    if window == {"window": "12mo"}:
        assert {i["reason"] for i in found.values()} == {"coverage"}
        return
    assert found["cooling_load_factor"]["value"] == pytest.approx(200 / 600, rel=0.01)
    assert found["electrical_loss_component"]["value"] == pytest.approx(0.06, rel=0.01)
    assert found["ups_efficiency_ratio ups-a-in"]["value"] == pytest.approx(0.96, abs=1e-3)
    assert found["ups_efficiency_ratio ups-a-in"]["regions"]
    assert found["rti_percent"]["value"] == pytest.approx(75, rel=0.01)
    assert found["chilled_water_delta_k"]["value"] == pytest.approx(5, rel=0.01)
    assert found["it_load_ratio"]["value"] == pytest.approx(0.6, rel=0.01)
    for one in found.values():
        assert one["value"] is not None or one["reason"], one
        assert one["meters"]


def test_opportunities_of_four_months(http: httpx.Client) -> None:
    end = {"start": "2026-01-01", "end": "2026-05-01"}
    document = get(http, "/sites/s/opportunities", **end)
    found = {o["kind"]: o for o in document["opportunities"]}
    assert document["currency"] == "CNY"
    lights = found["lighting"]
    assert lights["state"] == "found"
    assert lights["kwh_per_year"] == pytest.approx(4 * (8760 - 261 * 16), rel=0.05)
    assert lights["amount_low"] < lights["amount_per_year"] < lights["amount_high"]
    missed = found["free_cooling"]
    assert (missed["state"], missed["whole_year"], missed["kwh_high"]) == ("found", False, None)
    assert missed["evidence"]["missed_h"] > 1000
    worth = [o["amount_per_year"] for o in document["opportunities"] if o["amount_per_year"]]
    assert worth == sorted(worth, reverse=True)


def test_what_is_not_a_site_or_not_begun(http: httpx.Client) -> None:
    assert http.get("/api/v1/sites/nowhere/opportunities").status_code == 404
    answer = http.get("/api/v1/sites/s/opportunities", params={"month": "2027-01"})
    assert answer.status_code == 422
    assert "not over yet" in answer.json()["detail"]


def test_an_open_finding_holds_back_what_rests_on_its_meter(filled: sa.Engine) -> None:
    """As for PUE: until somebody has acknowledged it."""
    with filled.begin() as connection:
        stored = sites.load(connection)
        connection.execute(
            sa.text(
                "INSERT INTO findings (site_id, point_id, kind, start_at, end_at, severity, state, evidence,"
                " first_seen_at, last_seen_at)"
                " VALUES (:site, :point, 'unit_changed', :start, :end, 'error', 'open', '{}', :end, :end)"
            ),
            {
                "site": stored.site_id["s"],
                "point": stored.point_id["tower.kwh"],
                "start": START,
                "end": NOW,
            },
        )
        site = stored.fleet.site["s"]
        series = plant.of_site(connection, stored, site, Period(START, NOW), NOW)
        connection.rollback()
    assert [(f.point, f.text) for f in series.findings] == [("tower.kwh", "tower.kwh (unit_changed)")]


@pytest.fixture(scope="module")
def pages(filled: sa.Engine) -> Iterator[httpx.Client]:
    with client(filled, clock=lambda: NOW, extra=(router.router,)) as http:
        yield http


SPAN = "start=2026-01-01&end=2026-05-01"


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ("1. ", "Missed free-cooling hours", "at least", "Lights at night", "not verified")),
        ("zh", ("错失的自然冷却时数", "至少", "夜间照明", "未核实")),
    ],
)
def test_the_page_ranks_savings_with_their_evidence(
    pages: httpx.Client, language: str, texts: tuple[str, ...]
) -> None:
    page = pages.get(f"/sites/s/opportunities?{SPAN}&lang={language}")
    assert page.status_code == 200
    for text in texts:
        assert text in page.text
    assert page.text.index('href="/meters/chiller') > 0


def test_a_year_of_which_four_months_are_known_is_assessed_from_these(pages: httpx.Client) -> None:
    page = pages.get("/sites/s/opportunities?lang=en").text
    assert "1. Missed free-cooling hours" in page
    assert "not scaled to a year" in page


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        (
            "en",
            ("Chiller (equipment `chiller`)", "Rack inlet air (role `rack_inlet`)", "No saving was found"),
        ),
        ("zh", ("冷水机组（equipment `chiller`）", "本期仪表数据未显示节能机会")),
    ],
)
def test_the_page_says_which_meter_would_tell(
    engine: sa.Engine, language: str, texts: tuple[str, ...]
) -> None:
    a_day(engine)
    with client(engine, extra=(router.router,)) as http:
        page = http.get(f"/sites/sh1/opportunities?lang={language}").text
    for text in texts:
        assert text in page


def test_the_page_of_indicators_has_those_of_the_plant(pages: httpx.Client) -> None:
    page = pages.get("/sites/s/indicators?month=2026-03&compare=previous&lang=zh").text
    for text in ("电气损耗分量（ELC）", "各负载率下的效率", "冷水机组性能系数", "较差"):
        assert text in page
    assert 'class="error"' not in page


def test_command_line(wattline: Wattline, engine: sa.Engine) -> None:
    plant_helpers.fill(engine, days=20)
    span = ("--start", "2026-01-01", "--end", "2026-01-21")
    out = wattline("opportunities", "s", *span).out
    assert "savings overlap" in out
    assert out.index("Missed free-cooling hours") < out.index("Nothing" if "Nothing" in out else "none")
    rows = wattline("plant-indicators", "s", *span, "--json").document["indicators"]
    assert {r["name"]: r["value"] for r in rows}["electrical_loss_component"] == pytest.approx(0.06, rel=0.01)
    text = wattline("plant-indicators", "s", *span).out
    assert "chiller_cop" in text
    unknown = wattline("opportunities", "nowhere")
    assert unknown.code == 1
    assert "nowhere" in unknown.err


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_has_both_sections(filled: sa.Engine, language: str) -> None:
    with filled.connect() as connection:
        stored = sites.load(connection)
        evidence = revisions.gather(connection, stored, stored.fleet.site["s"], "2026-03", NOW)
    report = build.build(evidence)
    assert report.plant is not None
    assert report.opportunities is not None
    assert canonical.is_intact(as_data(report))
    page = output.render(report, "html", language).decode()
    for code in ("plant", "opportunities", "plant_lacking"):
        assert {"en": EN_TITLES, "zh": ZH_TITLES}[language][code] in page
    assert output.render(report, "pdf", language).startswith(b"%PDF")


EN_TITLES = {
    "plant": "Plant indicators",
    "opportunities": "Opportunities",
    "plant_lacking": "Plant indicators without a value",
}
ZH_TITLES = {"plant": "设备能效指标", "opportunities": "节能机会", "plant_lacking": "无数值的设备能效指标"}


def test_a_site_that_describes_no_plant_reports_none(engine: sa.Engine) -> None:
    stored = a_day(engine)
    with engine.connect() as connection:
        report = build.build(
            revisions.gather(connection, stored, stored.fleet.site["sh1"], "2026-03", api_helpers.NOW)
        )
    assert "plant" not in as_data(report)
    assert "opportunities" not in as_data(report)
