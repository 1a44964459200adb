"""Orders, revisions and declarations in the pages, over HTTP without script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.domain.evidence import Frozen
from app.jobs import evaluate
from app.store import audit, identity, sites
from app.store.reports.revisions import Shelf
from app.web import router as pages
from tests.integration.api_helpers import NOW, a_day, client, own_database
from tests.waiting import until


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A day of readings, and a month with two revisions."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        evaluate.run(engine, NOW)
        with engine.begin() as connection:
            shelf = Shelf.of_site(sites.load(connection), "sh1")
            for number, pue in ((1, 1.41), (2, 1.38), (3, 1.39)):
                shelf.freeze(connection, Frozen("2026-02", number, _document(pue), "0" * 64, NOW))
            shelf.freeze(connection, Frozen("2026-01", 1, _document(1.45, wue=1.7), "0" * 64, NOW))
        yield engine


def _document(pue: float, wue: float = 1.5) -> dict[str, Any]:
    return {
        "pue": {"period": {"pue": pue, "label": "PUE2"}},
        "indicators": [
            {"name": "wue", "value": wue, "inputs": {}},
            {"name": "cue", "value": None, "inputs": {}},
        ],
        "compliance": [{"indicator": "wue", "at_least": None, "at_most": 1.6}],
        "revision": {"changes": []},
    }


def test_indicators_have_a_trend_with_their_target(http: httpx.Client) -> None:
    page = http.get("/sites/sh1/indicators?window=24h&lang=en").text
    assert "PUE 1.390 – 1.450" in page  # of the newest revision of each month
    assert "target or limit 1.60" in page
    assert "1.500 – 1.700 L/kWh" in page
    assert "CUE 0" not in page  # never known


@pytest.fixture(scope="module")
def http(database: sa.Engine) -> Iterator[httpx.Client]:
    with client(database, extra=(pages.router,)) as found:
        yield found


def sent(http: httpx.Client, page: str, path: str, **values: str) -> httpx.Response:
    """The answer to a form of a page."""
    token = re.search(r'name="form_id" value="([^"]+)"', http.get(page).text)
    assert token
    return http.post(path, data={"form_id": token[1], **values})


def test_a_report_is_ordered_followed_and_fetched(http: httpx.Client) -> None:
    page = "/sites/sh1/reports"
    ordered = sent(http, page, f"{page}/orders", period="2026-03", form="json", tongue="en")
    assert ordered.headers["location"] == page
    path = until(
        lambda: re.search(r'href="(/api/v1/reports/orders/[^"]+/file)"', http.get(page).text), 60, "file"
    )
    assert http.get(path[1]).json()["period"]["name"] == "2026-03"
    assert http.post(f"{page}/orders", data={"period": "2026-03"}).status_code == 403  # no page made it
    assert sent(http, page, f"{page}/orders", period="2031-03").status_code in (303, 422)


def test_any_two_revisions_are_compared(http: httpx.Client) -> None:
    path = "/sites/sh1/reports/2026-02/compare"
    shown = http.get(path, params={"first": 1, "second": 3}).text
    assert re.search(r"pue\.period\.pue</td><td class=\"n\">1\.41</td><td class=\"n\">1\.39<", shown)
    assert "PUE2" not in shown  # the same in both
    assert "No figure differs." in http.get(path, params={"first": 2, "second": 2}).text
    assert http.get(path, params={"first": 1, "second": 9}).status_code == 404
    assert f"{path}?first=2&amp;second=3" in http.get("/sites/sh1/reports").text


def test_the_maturity_level_is_declared_with_evidence_and_withdrawn(
    http: httpx.Client, database: sa.Engine
) -> None:
    page, path = "/sites/sh1/compliance?window=24h", "/sites/sh1/declarations"
    values = {"indicator": "maturity_level", "value": "3", "dated": "2026-02-10"}
    assert sent(http, page, path, **values, evidence=" ").status_code == 422
    assert sent(http, page, path, **{**values, "dated": "2026-03-20"}, evidence="later").status_code == 422
    assert sent(http, page, path, **values, evidence="DCMM audit 2026-02").status_code == 303
    shown = http.get(page).text
    assert re.search(r"≥ 3\.00</td><td class=\"state fresh\">.*?DCMM audit 2026-02", shown, re.DOTALL)
    targets = http.get("/api/v1/sites/sh1/indicators?window=24h").json()["targets"]
    assert {t["indicator"]: t["value"] for t in targets}[
        "maturity_level"
    ] == 3.0  # reports and API say it, too
    entry = re.search(rf"{path}/(\d+)/withdraw", shown)
    assert entry
    assert sent(http, page, f"{path}/{entry[1]}/withdraw").status_code == 303
    assert "withdrawn by" in http.get(page).text
    assert sent(http, page, f"{path}/{entry[1]}/withdraw").status_code == 404
    with database.begin() as connection:
        done = [e.action for e in audit.listing(connection) if e.action.startswith("indicator.")]
    assert done == ["indicator.withdraw", "indicator.declare"]


def test_viewers_declare_nothing(database: sa.Engine) -> None:
    with database.begin() as connection:
        key = identity.create(connection, "v", [Grant.parse("viewer")], created_by="test")
    authenticator = KeyAuthenticator(database, clock=lambda: NOW)
    with client(database, authenticator=authenticator, extra=(pages.router,)) as http:
        http.headers["Authorization"] = f"Bearer {key}"
        assert 'action="/sites/sh1/declarations"' not in http.get("/sites/sh1/compliance?window=24h").text
        values = {"indicator": "maturity_level", "value": "3", "dated": "2026-02-10", "evidence": "x"}
        answer = sent(http, "/sites/sh1/reports", "/sites/sh1/declarations", **values)
        assert answer.status_code == 403
