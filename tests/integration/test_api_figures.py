"""Figures over HTTP: the documents of the interface, on a real store."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api_helpers import a_day, client, own_database


@pytest.fixture(scope="module")
def http(server_url: str, _template: str) -> Iterator[httpx.Client]:
    """The application on an fleet with a day of readings; nothing here changes it."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        with client(engine) as http:
            yield http


def get(http: httpx.Client, path: str, **query: object) -> dict[str, object]:
    """The JSON answer of a request that succeeds."""
    answer = http.get(f"/api/v1{path}", params={k: str(v) for k, v in query.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_sites_and_meters(http: httpx.Client) -> None:
    sites = get(http, "/sites")["sites"]
    assert [s["id"] for s in sites] == ["sh1", "bj1"]
    assert sites[0]["limits"] == {"cbrc_13fyp": 1.5}
    assert get(http, "/sites/bj1")["limits"] == {"cbrc_13fyp": 2.0}
    meters = get(http, "/sites/sh1/meters")["meters"]
    assert [m["id"] for m in meters] == ["main", "ups", "chiller"]
    ups = get(http, "/meters/ups")
    assert ups["points"][0]["last_value"] == 13000.0
    assert ups["points"][1]["unit"] == "wh"


def test_power_now_by_point(http: httpx.Client) -> None:
    points = {p["point"]: p for p in get(http, "/sites/sh1/power")["points"]}
    known = {p: one for p, one in points.items() if one["power_kw"] is not None}
    assert {p: round(one["power_kw"], 6) for p, one in known.items()} == {
        "main.kwh": 700,
        "ups.kwh": 500,
        "chiller.kwh": 150,
    }
    assert {(one["start"], one["coverage_ratio"]) for one in known.values()} == {
        ("2026-03-01T23:45:00Z", 1.0)
    }
    unknown = [one for p, one in points.items() if p not in known]
    assert [(one["start"], one["coverage_ratio"]) for one in unknown] == [(None, 0.0)] * len(unknown)
    assert unknown


def test_pue_document(http: httpx.Client) -> None:
    figure = get(http, "/sites/sh1/pue", window="24h")
    assert figure["pue"] == pytest.approx(1.4)
    assert (figure["start"], figure["end"]) == ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
    assert (figure["label"], figure["kind"], figure["site"]) == ("PUE1", "interim", "sh1")
    assert figure["verdicts"][0]["plain"] == "pass"
    assert "reason" not in figure
    same = get(http, "/sites/sh1/pue", start="2026-03-01T08:00:00+08:00", end="2026-03-02T00:00:00Z")
    assert same["pue"] == figure["pue"]


def test_pue_without_an_answer_says_why(http: httpx.Client) -> None:
    figure = get(http, "/sites/sh1/pue", month="2026-01")
    assert figure["pue"] is None
    assert "no reading covers" in figure["reason"]


def test_partial_pue_of_a_room(http: httpx.Client) -> None:
    assert get(http, "/sites/sh1/pue", room="hall-1")["pue"] == pytest.approx(1.3)


def test_pue_series(http: httpx.Client) -> None:
    bars = get(http, "/sites/sh1/pue/series", step="1h")["bars"]
    assert len(bars) == 24
    assert {round(bar["pue"], 9) for bar in bars} == {1.4}
    assert bars[0]["overhead_kwh"]["cooling"] == pytest.approx(150)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("load_class", {"facility": 16800, "it": 12000, "cooling": 3600}),
        ("room", {"hall-1": 15600}),
        ("point", {"main.kwh": 16800, "ups.kwh": 12000, "chiller.kwh": 3600}),
    ],
)
def test_energy(http: httpx.Client, by: str, expected: dict[str, float]) -> None:
    rows = get(http, "/sites/sh1/energy", by=by)["rows"]
    found = {row["name"]: row["energy_kwh"] for row in rows if row["energy_kwh"]}
    assert found == pytest.approx(expected)
    bars = get(http, "/sites/sh1/energy", by=by, step="1h")["rows"]
    assert sum(bar["energy_kwh"] for bar in bars) == pytest.approx(sum(expected.values()))


def test_utilisation_and_capacity(http: httpx.Client) -> None:
    use = get(http, "/sites/sh1/utilisation")
    assert use["it_load"]["mean_kw"] == pytest.approx(500)
    assert use["it_load"]["mean_ratio"] == pytest.approx(0.5)
    assert use["rooms"]["hall-1"]["headroom_kw"] == pytest.approx(300)
    feeds = {tuple(f["meters"]): f for f in get(http, "/sites/sh1/capacity", window="24h")["feeds"]}
    assert feeds[("main",)]["load"]["peak_kw"] == pytest.approx(700)


def test_indicators(http: httpx.Client) -> None:
    found = get(http, "/sites/sh1/indicators", window="24h")
    values = {i["name"]: i["value"] for i in found["indicators"]}
    assert values["cue"] == pytest.approx(16_800 * 0.5306 / 12_000)
    assert [name for name, value in values.items() if value is None] == [
        "wue",
        "ref",
        "erf",
        "cer",
        "iteu_sv_percent",
    ]
    assert found["money"]["factor"]["year"] == 2023
    assert found["savings"][0] == {
        "against": "cbrc_13fyp",
        "comparable_month": None,
        "pue": 1.5,
        "energy_kwh": 0.0,
        "cost": None,
    }
    standings = {row["indicator"]: row["standing"] for row in found["targets"]}
    assert standings["maturity_level"] == "unknown"
    assert found["it_load_ratio"] == pytest.approx(0.5)


def test_what_applies_to_a_site_is_told_for_any_day(http: httpx.Client) -> None:
    found = get(http, "/sites/sh1/compliance")
    assert (found["site"], found["jurisdiction"]) == ("sh1", "CN-BJ")
    rows = {row["id"]: row for row in found["regulations"]}
    assert rows["cn_bj_2026"]["status"] == "in_force"
    assert rows["gb40879_revision"]["status"] == "draft"
    assert not rows["gb40879_revision"]["verified"]
    assert "de_enefg" not in rows
    assert rows["cbrc_13fyp"]["limit_pue"] == 1.5
    assert found["pue"]["verdicts"][0]["profile"] == "cbrc_13fyp"
    assert http.get("/api/v1/sites/sh1/compliance", params={"on": "0001-01-01"}).status_code == 422
    assert http.get("/api/v1/sites/sh1/compliance", params={"on": "9999-12-31"}).status_code == 422
    assert http.get("/api/v1/sites/sh1/compliance", params={"on": "2199-12-31"}).status_code == 200
    before = {row["id"]: row for row in get(http, "/sites/sh1/compliance", on="2025-06-01")["regulations"]}
    assert before["cn_bj_2026"]["status"] == "adopted"
    assert before["cn_bj_2026"]["turns"][0]["on"] == "2026-01-01"


def test_a_site_that_pays_by_pue_and_demand_is_told_both(http: httpx.Client) -> None:
    found = get(http, "/sites/sh1/indicators", window="24h")["money"]
    assert [(s["rule"], s["pue"], s["excess_kwh"], s["amount"]) for s in found["surcharges"]] == [
        ("cn_bj_2026", 1.4, pytest.approx(600.0), pytest.approx(120.0))
    ]
    year = get(http, "/sites/sh1/budget")["surcharges"]
    assert [(s["rule"], s["amount"]) for s in year] == [("cn_bj_2026", None)]
    assert year[0]["reason"]


def test_too_short_a_history_gives_no_projection_but_a_reason(http: httpx.Client) -> None:
    dates = get(http, "/sites/sh1/exhaustion")
    assert "90 are needed" in dates["it"]["reason"]
    year = get(http, "/sites/sh1/budget")
    assert (year["year"], year["projection"]["pue"]) == (2026, None)
    assert "days of history" in year["projection"]["reason"]
    assert year["budgets"][0]["profile"] == "cbrc_13fyp"


def test_attribution_of_no_change_is_zero(http: httpx.Client) -> None:
    figure = get(
        http,
        "/sites/sh1/attribution",
        start="2026-03-01T12:00:00Z",
        end="2026-03-02T00:00:00Z",
        baseline_start="2026-03-01T00:00:00Z",
        baseline_end="2026-03-01T12:00:00Z",
    )
    assert figure["change"] == pytest.approx(0, abs=1e-12)
    assert sum(figure["parts"].values()) == pytest.approx(0, abs=1e-12)


def test_fleet_is_a_ratio_of_sums(http: httpx.Client) -> None:
    figure = get(http, "/fleet/pue", window="24h")
    assert figure["ratio_of_sums"] == pytest.approx(860 / 600)
    assert figure["counted"] == ["sh1", "bj1"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sites/nowhere", 404),
        ("/sites/sh1/pue?room=nowhere", 404),
        ("/meters/nowhere", 404),
        ("/sites/sh1/pue?window=1y", 422),
        ("/sites/sh1/pue?start=2026-03-01T00:00:00Z", 422),
        ("/sites/sh1/pue?window=1h&month=2026-01", 422),
        ("/sites/sh1/pue?start=yesterday&end=today", 422),
        ("/sites/sh1/pue?start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z", 422),
        ("/sites/sh1/pue?start=2026-03-01T00:00:00&end=2026-03-02T00:00:00", 422),
        ("/sites/sh1/energy?start=2016-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&step=1s", 422),
        ("/sites/sh1/energy?start=2016-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&step=15m", 422),
        ("/sites/' OR 1=1--/pue", 422),
        ("/nowhere", 404),
    ],
)
def test_refusals_are_problem_documents(http: httpx.Client, path: str, status: int) -> None:
    answer = http.get(f"/api/v1{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_health_and_documents(http: httpx.Client) -> None:
    assert http.get("/healthz").json()["status"] == "ok"
    assert http.get("/readyz").json()["database"]["engine"] == "postgresql"
    document = http.get("/openapi.json").json()
    ids = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
    assert {"get_pue", "post_readings", "get_metrics"} <= set(ids)
