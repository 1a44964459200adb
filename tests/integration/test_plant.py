"""Plant indicators and opportunities from a real store: API, command line, pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.domain.period import Period
from app.store import plant, sites
from tests.integration import plant_helpers
from tests.integration.api_helpers import client, own_database
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
