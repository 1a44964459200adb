"""Reports over the real store: frozen once, revised with a list of changes, never altered."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from app import config
from app.domain.energy import Event, EventKind
from app.domain.period import Period
from app.domain.quality.finding import Finding, FindingKind, Severity
from app.domain.reading import Reading
from app.errors import SeriesError
from app.jobs import close_month, findings, imports, rollup
from app.jobs.close_month import Closed
from app.reports import canonical, indicators, output
from app.reports.build import build
from app.reports.document import Report, as_data, read
from app.reports.render import csv as as_csv
from app.reports.render import json as as_json
from app.store import deployment, events, readings, sites
from app.store import findings as stored_findings
from app.store.audit import Actor
from app.store.findings import Scope
from app.store.reports import revisions
from app.store.reports.revisions import Shelf
from app.store.sites import Stored
from tests.paper import pages_of

START = datetime(2026, 1, 31, 16, tzinfo=UTC)
"""First of February in Shanghai."""
NOW = datetime(2026, 3, 9, tzinfo=UTC)
SITE = """
institutions: [{id: bank, name: "=cmd", institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    design: {it_capacity_kw: 800, pue: 1.3}
    tariffs: [{valid_from: 2020-01-01, price_per_kwh: 0.5}]
    meters:
      - id: main
        rated_power_kw: 1000
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        name: "@ups\\r\\nx"
        room: hall-1
        rated_power_kw: 800
        points: [{id: ups.kwh, role: it_ups_output, kind: register}]
      - id: chiller
        rated_power_kw: 400
        points: [{id: chiller.kwh, role: cooling, kind: register}]
"""
FACTOR = """
emission_factors: [{region: CN, year: 2026, basis: grid_average, kg_per_kwh: 0.5, source: announcement}]
indicator_targets: [{indicator: wue, at_most: 1.6, valid_from: 2026-01-01, source: group rule}]
"""
HEAT = "{id: heat.kwh, role: heat_removed, kind: register}]"
LOAD_KW = {"main.kwh": 700.0, "ups.kwh": 500.0, "chiller.kwh": 150.0}


@pytest.fixture
def stored(engine: sa.Engine) -> Stored:
    """The site with its February, rolled up; the first day of March, too."""
    known = declared(engine)
    put(engine, known, [r for point, kw in LOAD_KW.items() for r in register(point, kw, 29)])
    return known


def declared(engine: sa.Engine) -> Stored:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE).fleet)
        return sites.load(connection)


def register(point: str, power_kw: float, days: float, start: datetime = START) -> list[Reading]:
    hours = int(days * 24)
    return [Reading(point, start + timedelta(hours=h), 1000 + power_kw * h) for h in range(hours + 1)]


def put(engine: sa.Engine, stored: Stored, rows: list[Reading]) -> None:
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))
    rollup.run(engine)
    findings.run(engine)


def report(engine: sa.Engine, stored: Stored, name: str = "2026-02", now: datetime = NOW) -> Report:
    with engine.connect() as connection:
        return build(revisions.gather(connection, stored, stored.fleet.site["sh1"], name, now))


def test_the_figures_of_a_month(engine: sa.Engine, stored: Stored) -> None:
    found = report(engine, stored)
    figure = found.pue["period"]
    assert (figure.pue, figure.label, figure.facility_kwh) == (1.4, "PUE1", 470_400.0)
    assert {c.name: c.energy_kwh for c in found.energy.classes} == {
        "it": 336_000.0,
        "cooling": 100_800.0,
        "power_distribution": 0.0,
        "lighting": 0.0,
        "other": 0.0,
        "unmetered": 33_600.0,
    }
    assert (len(found.days), sum(d.facility_kwh for d in found.days)) == (28, pytest.approx(470_400))
    assert found.money.cost == pytest.approx(235_200)
    assert [s.energy_kwh for s in found.savings] == [0.0, pytest.approx(33_600)]
    assert found.loads[0].mean_ratio == pytest.approx(500 / 800)
    assert not found.revision.closed


def test_a_month_is_frozen_some_days_after_its_end(engine: sa.Engine, stored: Stored) -> None:
    assert close_month.run(engine, datetime(2026, 3, 5, 15, tzinfo=UTC)) == []
    assert close_month.run(engine, datetime(2026, 3, 5, 17, tzinfo=UTC)) == [
        Closed("sh1", "2026-02", 1, 0),
        Closed("bank", "2026-02", 1, 0),
    ]
    assert close_month.run(engine, NOW) == []
    with engine.connect() as connection:
        frozen = Shelf.of_site(stored, "sh1").newest(connection, "2026-02")
        whole = Shelf.of_institution(connection, "bank").newest(connection, "2026-02")
    assert frozen is not None
    assert whole is not None
    assert canonical.is_intact(frozen.document)
    assert canonical.is_intact(whole.document)
    assert frozen.sha256 == frozen.document["sha256"] == whole.document["sites"][0]["sha256"]


def test_late_data_makes_a_revision_that_lists_what_changed(engine: sa.Engine) -> None:
    stored = declared(engine)
    whole = {point: register(point, kw, 29) for point, kw in LOAD_KW.items()}
    late = whole["main.kwh"][26 * 24 + 1 :]
    put(engine, stored, [r for rows in whole.values() for r in rows if r not in late])
    close_month.run(engine, NOW)
    put(engine, stored, late)
    done = {(c.of, c.revision): c.changes for c in close_month.run(engine, NOW)}
    assert set(done) == {("sh1", 2), ("bank", 2)}
    with engine.connect() as connection:
        shelf = Shelf.of_site(stored, "sh1")
        first, second = (shelf.newest(connection, "2026-02", n) for n in (1, 2))
    assert first is not None
    assert second is not None
    changed = {c["figure"]: (c["before"], c["after"]) for c in second.document["revision"]["changes"]}
    assert changed["energy.facility_kwh"] == (436_800.0, 470_400.0)
    assert changed["days[2026-02-28].facility_kwh"] == (0.0, 16_800.0)
    assert "pue.period.pue" not in changed
    assert len(changed) == done["sh1", 2]
    assert canonical.is_intact(second.document)


DAY_5 = START + timedelta(days=5)
BESIDE = """
      - {id: cooling-tower, points: [{id: water.m3, role: water, kind: register}]}
      - {id: sensor, points: [{id: hall.temperature, role: temperature, kind: gauge, interval_s: 3600}]}
"""


@pytest.mark.parametrize(
    ("late", "figure"),
    [
        (Reading("water.m3", START + timedelta(days=27), 3000.0), "indicators[wue].value"),
        (Reading("hall.temperature", START + timedelta(days=20, minutes=40), 31.5), "gauges"),
        (Reading("ups.kwh", DAY_5 + timedelta(minutes=30), 1000 + 500 * 120 + 400), "loads[0].peak_kw"),
        (Reading("ups.kwh", DAY_5, 1000 + 500 * 119), "quality.conflicting_readings"),
    ],
    ids=["water", "temperature", "the same energy at other times", "a contradiction"],
)
def test_late_data_of_every_kind_makes_a_revision(engine: sa.Engine, late: Reading, figure: str) -> None:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE + BESIDE.lstrip("\n")).fleet)
        stored = sites.load(connection)
    hours = [START + timedelta(hours=h) for h in range(28 * 24)]
    beside = [Reading("hall.temperature", at, 24.0) for at in hours]
    beside += [Reading("water.m3", at, 100.0 + h) for h, at in enumerate(hours[: 20 * 24])]
    put(engine, stored, [*beside, *(r for point, kw in LOAD_KW.items() for r in register(point, kw, 29))])
    close_month.run(engine, NOW)
    put(engine, stored, [late])
    assert {(c.of, c.revision) for c in close_month.run(engine, NOW)} >= {("sh1", 2)}
    with engine.connect() as connection:
        second = Shelf.of_site(stored, "sh1").newest(connection, "2026-02")
    assert second is not None
    changed = [c["figure"] for c in second.document["revision"]["changes"]]
    assert any(figure in one for one in changed), changed
    assert close_month.run(engine, NOW) == []


def test_an_event_declared_late_is_in_the_next_revision(engine: sa.Engine, stored: Stored) -> None:
    close_month.run(engine, NOW)
    start, end = DAY_5, DAY_5 + timedelta(hours=2)
    with engine.begin() as connection:
        events.add(
            connection,
            site_id=stored.site_id["sh1"],
            meter_id=stored.meter_id["chiller"],
            point_ids=[stored.point_id["chiller.kwh"]],
            event=Event(EventKind.MAINTENANCE, readings.to_us(start), readings.to_us(end)),
            start=start,
            end=end,
            author="li",
            note="condenser cleaned",
        )
    rollup.run(engine)
    findings.run(engine)
    assert {(c.of, c.revision) for c in close_month.run(engine, NOW)} >= {("sh1", 2)}


def test_the_end_of_a_finding_that_goes_on_is_that_of_the_month(engine: sa.Engine, stored: Stored) -> None:
    with engine.begin() as connection:
        put_finding(connection, stored, START + timedelta(days=20), START + timedelta(days=33))
        evidence = revisions.gather(connection, stored, stored.fleet.site["sh1"], "2026-02", NOW)
    (found,) = evidence.findings
    assert (found.start, found.end) == (START + timedelta(days=20), START + timedelta(days=28))


def put_finding(connection: sa.Connection, stored: Stored, start: datetime, end: datetime) -> None:
    number = stored.point_id["chiller.kwh"]
    scope = Scope(stored.site_id["sh1"], [number], (FindingKind.GAP,), start, end)
    gap = Finding(FindingKind.GAP, "chiller.kwh", start, end, Severity.WARNING, 10.0)
    stored_findings.replace(connection, scope, [gap], {"chiller.kwh": number})


def test_a_factor_that_the_operator_adds_revises_the_frozen_report(engine: sa.Engine, stored: Stored) -> None:
    close_month.run(engine, NOW)
    own = config.parse(SITE + FACTOR).reference
    with engine.begin() as connection:
        deployment.save_reference(connection, own)
    assert {(c.of, c.revision) for c in close_month.run(engine, NOW)} == {("sh1", 2), ("bank", 2)}
    with engine.connect() as connection:
        second = Shelf.of_site(stored, "sh1").newest(connection, "2026-02")
    assert second is not None
    document = read(second.document)
    assert isinstance(document, Report)
    assert document.money.emissions_kg == pytest.approx(470_400 * 0.5)
    assert "money.factor.source" in {c.figure for c in document.revision.changes}
    declared_row = next(row for row in document.compliance if row.indicator == "wue")
    assert (declared_row.at_most, declared_row.source) == (1.6, "group rule")
    assert close_month.run(engine, NOW) == []


def test_indicators_of_a_month_are_those_of_its_report(engine: sa.Engine) -> None:
    text = SITE.replace("role: cooling, kind: register}]", "role: cooling, kind: register}, " + HEAT)
    with engine.begin() as connection:
        sites.sync(connection, config.parse(text).fleet)
        stored = sites.load(connection)
    loads_kw = {**LOAD_KW, "heat.kwh": 450.0}
    put(engine, stored, [r for point, kw in loads_kw.items() for r in register(point, kw, 29)])
    site = stored.fleet.site["sh1"]
    month = Period(START, START + timedelta(days=28))
    with engine.connect() as connection:
        found = indicators.build(revisions.basis(connection, stored, site, month, NOW))
        day = indicators.build(
            revisions.basis(connection, stored, site, Period(START, START + timedelta(days=1)), NOW)
        )
    whole = report(engine, stored)
    assert (found.indicators, found.money, found.savings) == (whole.indicators, whole.money, whole.savings)
    assert found.it_load_ratio == pytest.approx(500 / 800)
    values = {i.name: i.value for i in found.indicators}
    assert values["cer"] == pytest.approx(450 / 150)
    assert values["wue"] is None
    assert day.facility_kwh == pytest.approx(700 * 24)
    assert {i.name: i.value for i in day.indicators}["cer"] == pytest.approx(3.0)
    assert {s.indicator: s.score_ratio for s in day.scores}["it_load_ratio"] == 1.0
    with engine.connect() as connection, pytest.raises(SeriesError, match="has begun"):
        revisions.basis(connection, stored, site, Period(NOW, NOW + timedelta(days=1)), NOW)


def test_a_month_waits_for_its_own_readings_and_not_for_todays(engine: sa.Engine, stored: Stored) -> None:
    late = Reading("main.kwh", START + timedelta(days=3, minutes=7), 1000 + 700 * 72 + 80)
    queue(engine, stored, late)
    assert close_month.run(engine, NOW) == []
    rollup.run(engine)
    assert close_month.run(engine, NOW) == [], "its quality is not looked at yet"
    findings.run(engine)
    queue(engine, stored, Reading("main.kwh", NOW, 2_000_000.0))
    assert [c.of for c in close_month.run(engine, NOW)] == ["sh1", "bank"]


def queue(engine: sa.Engine, stored: Stored, reading: Reading) -> None:
    """Store a reading; its energy is not computed yet."""
    with engine.begin() as connection:
        readings.ingest_readings(connection, [reading], dict(stored.point_id))


@pytest.mark.parametrize(
    "change", ["UPDATE reports SET sha256 = ''", "DELETE FROM reports", "TRUNCATE reports"]
)
def test_a_frozen_report_cannot_be_changed(engine: sa.Engine, stored: Stored, change: str) -> None:
    close_month.run(engine, NOW)
    with (
        pytest.raises(sqlalchemy.exc.DBAPIError, match="a frozen report is never changed"),
        engine.begin() as c,
    ):
        c.execute(sa.text(change))


def test_the_json_reads_back_and_the_csv_says_the_same(engine: sa.Engine, stored: Stored) -> None:
    found = report(engine, stored)
    data = json.loads(as_json.render(found))
    assert read(data) == found
    assert canonical.is_intact(data)
    text = as_csv.render(found).decode("utf-8-sig")
    assert "pue,,period.pue,1.4,1" in text
    assert "institution,,name,'=cmd," in text
    assert as_data(found)["pue"]["period"]["pue"] == 1.4


ESIF = """
institutions: [{id: lab, institution_class: other}]
sites:
  - id: esif
    institution: lab
    time_zone: America/Denver
    facility_is: sum_of_classes
    minimum_coverage_ratio: 0.1
    meters:
      - id: export
        points:
          - {id: it_kw, role: it_ups_output, kind: interval_mean_power, stamp: start, interval_s: 86400}
          - {id: cooling_kw, role: cooling, kind: interval_mean_power, stamp: start, interval_s: 86400}
          - {id: hvac_kw, role: cooling, kind: interval_mean_power, stamp: start, interval_s: 86400}
          - {id: pump_kw, role: cooling, kind: interval_mean_power, stamp: start, interval_s: 86400}
          - {id: plug_kw, role: other, kind: interval_mean_power, stamp: start, interval_s: 86400}
"""


def test_a_published_year_has_its_figure_in_every_form(engine: sa.Engine, shared_data: Path) -> None:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(ESIF).fleet)
        stored = sites.load(connection)
    site = stored.fleet.site["esif"]
    path = shared_data / "timeseries/esif/esif_daily_2016-06-12_2016-08-28.csv"
    imports.import_file(engine, stored, site, path, by=Actor("test"))
    imports.settle(engine)
    with engine.connect() as connection:
        found = build(revisions.gather(connection, stored, site, "2016", NOW))
    assert found.pue["period"].pue == 1.035333
    assert found.pue["period"].it_kwh == pytest.approx(1_399_800, abs=100)
    for form in ("json", "csv"):
        assert b"1.035333" in output.render(found, form, "zh")
    with zipfile.ZipFile(io.BytesIO(output.render(found, "xlsx", "zh"))) as book:
        sheets = [book.read(n).decode() for n in book.namelist() if n.startswith("xl/worksheets/")]
    assert any("<v>1.035333</v>" in sheet for sheet in sheets)
    assert "1.035" in pages_of(output.render(found, "pdf", "zh"))[0]
    assert "1.035" in output.render(found, "html", "en").decode()
