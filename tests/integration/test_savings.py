"""Verified savings of a site of which the truth is known: by store, HTTP, command line and page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from app.domain.attribution import Causes, EnergySplit
from app.domain.baseline import Baseline, Conditions, Resolution, canonical
from app.domain.savings import Result
from app.domain.tariff import Tariff, TariffBand
from app.domain.verification import SiteSavings
from app.reports.build import build
from app.reports.document import as_data
from app.store import savings
from app.store.reports import revisions
from app.store.sites import Stored
from app.web import router as pages
from tests.integration.api_helpers import client, own_database
from tests.integration.conftest import Wattline
from tests.integration.savings_plant import AUTUMN, NOW, UNTIL, declare, fill, rows, truth_kw


@pytest.fixture(scope="module")
def filled(server_url: str, _template: str) -> Iterator[tuple[sa.Engine, Stored]]:
    """The site with its measures; the tests of this module only read."""
    with own_database(server_url, _template) as engine:
        stored = fill(engine)
        declare(engine, stored)
        yield engine, stored


@pytest.fixture(scope="module")
def found(filled: tuple[sa.Engine, Stored]) -> SiteSavings:
    engine, stored = filled
    with engine.connect() as connection:
        return savings.gather(connection, stored, stored.fleet.site["sh1"], UNTIL)


def test_the_interval_of_each_statement_holds_the_truth(found: SiteSavings) -> None:
    days, kw = rows(), truth_kw(rows())
    assert [one.statement.keys for one in found.verified] == [("setpoint",), ("setpoint", "fans")]
    for one in found.verified:
        own = np.isin(days.local_days, one.period.rows.local_days)
        energy = one.saving.energy_kwh
        assert energy is not None
        assert energy.low < float((kw * 24)[own].sum()) < energy.high
        assert one.saving.result is Result.SAVED
        assert one.saving.money is not None
        assert one.saving.money.value == pytest.approx(0.8 * energy.value)
    assert found.verified[0].statement.spans[0][1] == AUTUMN - timedelta(days=5)


def test_each_hour_has_its_price(engine: sa.Engine) -> None:
    """The plant uses three times as much by day; the tariff has a price by night."""
    stored = fill(engine)
    with engine.begin() as connection:
        by_day = "extract(hour FROM at) >= 12"
        connection.execute(
            sa.text(
                "UPDATE site_15m SET facility_kwh = it_kwh + (facility_kwh - it_kwh)"
                f" * CASE WHEN {by_day} THEN 1.5 ELSE 0.5 END"
            )
        )
    declare(engine, stored)
    night = TariffBand(name="night", start="00:00", end="12:00", price_per_kwh=0.4)
    tariff = Tariff(valid_from=date(2020, 1, 1), price_per_kwh=0.8, bands=(night,))
    site = replace(stored.fleet.site["sh1"], tariffs=(tariff,))
    with engine.connect() as connection:
        one = savings.gather(connection, stored, site, UNTIL).verified[0]
    assert one.period.price_per_kwh == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)
    assert one.saving.money is not None
    assert one.saving.energy_kwh is not None
    assert one.saving.money.value == pytest.approx(0.7 * one.saving.energy_kwh.value)


def test_equipment_with_a_meter_is_verified_by_that_meter(engine: sa.Engine) -> None:
    stored = fill(engine)
    declare(engine, stored, where="meter:chiller")
    with engine.connect() as connection:
        one = savings.gather(connection, stored, stored.fleet.site["sh1"], UNTIL).verified[0]
    days = rows()
    own = np.isin(days.local_days, one.period.rows.local_days)
    assert one.period.rows.overhead_kw == pytest.approx(days.overhead_kw[own] - 20, abs=1e-6)
    energy = one.saving.energy_kwh
    assert energy is not None
    assert energy.low < float((truth_kw(days) * 24)[own].sum()) < energy.high


def test_the_plant_moved_the_pue_and_not_the_weather(found: SiteSavings) -> None:
    before, after = (date(2025, 6, 1), date(2025, 7, 1)), (date(2026, 6, 1), date(2026, 7, 1))
    splits = tuple(energies(found.plant.between(*span)) for span in (before, after))
    why = found.plant.causes(splits[0], splits[1], (before, after))
    assert isinstance(why, Causes)
    assert why.plant < -0.01
    june = [found.plant.normalised(*span).pue for span in (before, after)]
    assert june[0] is not None
    assert june[1] is not None
    assert june[1].high < june[0].low


def energies(days: Conditions) -> EnergySplit:
    it, overhead = float((days.it_kw * days.hours).sum()), float((days.overhead_kw * days.hours).sum())
    return EnergySplit(it + overhead, it, float(days.hours.sum()), {"cooling": overhead})


def test_over_http(filled: tuple[sa.Engine, Stored]) -> None:
    engine, _ = filled
    with client(engine, clock=lambda: NOW) as http:
        document = http.get("/api/v1/sites/sh1/savings").json()
        assert [s["result"] for s in document["statements"]] == ["saved", "saved"]
        one = document["statements"][0]
        assert (one["ipmvp_option"], one["level"], one["counted_days"]) == ("C", 0.9, one["days"])
        assert document["total_kwh"]["value"] == pytest.approx(
            sum(s["energy_kwh"]["value"] for s in document["statements"]), abs=0.2
        )
        spans = {"start": "2026-06-01T00:00:00Z", "end": "2026-07-01T00:00:00Z"}
        spans |= {"baseline_start": "2025-06-01T00:00:00Z", "baseline_end": "2025-07-01T00:00:00Z"}
        moved = http.get("/api/v1/sites/sh1/attribution", params=spans).json()
    assert sum(moved["causes"].values()) == pytest.approx(moved["change"], abs=1e-12)
    assert moved["no_causes"] == []


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            (
                "Saved 37.",
                "With 90 % confidence",
                "stated together and counted once",
                "no longer chance",
                "measured at the site, roof.c",
            ),
        ),
        (
            "zh",
            ("已节电 37.", "90% 置信区间", "合并给出，只计一次", "不能用偶然波动解释", "现场实测, roof.c"),
        ),
    ],
)
def test_the_page_says_it_in_words(
    filled: tuple[sa.Engine, Stored], language: str, said: tuple[str, ...]
) -> None:
    engine, _ = filled
    with client(engine, clock=lambda: NOW, extra=(pages.router,)) as http:
        page = http.get("/sites/sh1/savings", params={"lang": language})
        figures = http.get("/sites/sh1", params={"lang": language, "month": "2026-06"}).text
    assert page.status_code == 200
    for text in said:
        assert text in page.text
    assert {"en": "Without weather and load (normalised): 1.2", "zh": "归一化）：1.2"}[language] in figures
    assert {"en": "The plant itself", "zh": "设施自身"}[language] in figures


def test_on_the_command_line(engine: sa.Engine, wattline: Wattline) -> None:
    declare(engine, fill(engine))
    shown = wattline("savings", "sh1")
    assert shown.code == 0, shown.err
    for text in ("setpoint + fans", "option C, facility", "2026-06", "intervals at 90 %"):
        assert text in shown.out
    one = wattline("savings", "sh1", "--measure", "setpoint", "--json").document
    assert len(one["statements"]) == 2
    assert one["statements"][0]["energy_kwh"]["value"] == pytest.approx(37_000, rel=0.05)
    unknown = wattline("savings", "sh1", "--measure", "lamps")
    assert (unknown.code, "known: setpoint, fans" in unknown.err) == (1, True)


def test_a_frozen_month_is_computed_again_by_hand(filled: tuple[sa.Engine, Stored]) -> None:
    """With nothing but the JSON of the report and the four rules of arithmetic."""
    engine, stored = filled
    with engine.connect() as connection:
        evidence = revisions.gather(connection, stored, stored.fleet.site["sh1"], "2026-06", NOW)
    document = json.loads(json.dumps(as_data(build(evidence))))
    (one,) = document["verified_savings"]
    fitted = {name: c["value"] for name, c in one["baseline"]["coefficients"].items()}
    assert one["baseline"]["form"] == "load_weather_rise"
    saved = expected = 0.0
    for day in one["rows"]:
        above = max(day["wet_bulb_c"] - fitted["change_point_c"], 0.0)
        kw = fitted["base_kw"] + fitted["per_it_kw"] * day["it_kw"] + fitted["per_c_above"] * above
        assert day["expected_kwh"] == pytest.approx(kw * day["hours"], abs=0.001)
        expected += kw * day["hours"]
        saved += kw * day["hours"] + day["adjustment_kwh"] - day["actual_kwh"]
    assert len(one["rows"]) == 30
    assert one["expected_kwh"] == pytest.approx(expected, abs=0.1)
    assert one["energy_kwh"]["value"] == pytest.approx(saved, abs=0.1)
    assert one["baseline_sha256"] == sha256(canonical(one["baseline"]).encode()).hexdigest()
    again = Baseline.from_json(canonical(one["baseline"]))
    half = (one["energy_kwh"]["high"] - one["energy_kwh"]["low"]) / 2
    days = found_rows(one["rows"])
    figures = again.expected(days)
    assert half == pytest.approx(figures.total()[1] * figures.critical(one["level"]), abs=0.1)
    causes = document["comparisons"][1]
    assert sum(c["change"] for c in causes["causes"]) == pytest.approx(causes["change"], abs=1e-9)
    assert document["normalised_pue"][0]["period"] == "2026-06"


def found_rows(listed: list[dict[str, Any]]) -> Conditions:
    days = np.array([one["day"] for one in listed], "datetime64[D]")
    columns = {
        name: np.array([one[name] for one in listed], float) for name in ("hours", "it_kw", "wet_bulb_c")
    }
    kw = np.array([one["actual_kwh"] for one in listed]) / columns["hours"]
    starts = days.astype("datetime64[us]")
    return Conditions(
        Resolution.DAY,
        starts,
        days,
        columns["hours"],
        kw,
        columns["it_kw"],
        columns["wet_bulb_c"],
        np.ones(len(days)),
    )
