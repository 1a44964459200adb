"""Every SQL query of every board against the figure that the HTTP interface gives for the same time.

Three sites: Shanghai; Berlin, whose clocks change in the middle; Kolkata, half an hour off. The queries run
as the reading role, over a range that begins and ends inside a day.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import conninfo

from app import config
from app.domain.measure import Boundary, Measure
from app.domain.reading import Reading
from app.jobs import close_month, evaluate, findings, outlook, rollup
from app.store import measures, reader, readings, sites, tables
from grafana.__main__ import FOLDER
from grafana.ask import Span, panels, sql_of, variables_of
from tests.integration.api_helpers import client, own_database

Json = dict[str, Any]
Rows = list[dict[str, Any]]

FIRST = datetime(2026, 9, 28, tzinfo=UTC)
NOW = datetime(2026, 11, 1, 6, tzinfo=UTC)
SPAN = Span(datetime(2026, 10, 2, 5, 15, tzinfo=UTC), datetime(2026, 10, 28, 7, 30, tzinfo=UTC))
WINDOW = {"start": SPAN.start.isoformat(), "end": SPAN.end.isoformat()}
ZONES = {"sh": "Asia/Shanghai", "be": "Europe/Berlin", "ko": "Asia/Kolkata"}
GONE = (datetime(2026, 10, 14, 2, tzinfo=UTC), datetime(2026, 10, 15, 9, tzinfo=UTC))
"""The feed's readings of these hours are missing: there is no PUE."""
CLASSES = ("cooling", "power_distribution", "lighting", "other")
FACTORS = """
emission_factors: [{region: CN, year: 2026, basis: grid_average, kg_per_kwh: 0.5, source: announcement}]
"""

SITE = """
  - id: {s}
    institution: bank
    time_zone: {zone}
    jurisdiction: CN-BJ
    profiles: [cbrc_13fyp]
    design: {{it_capacity_kw: 900, pue: 1.3}}
    tariffs: [{{valid_from: 2020-01-01, price_per_kwh: 0.5}}]
    declared: [{{indicator: iso_50001, value: 1, date: 2026-01-02, evidence: certificate}}]
    meters:
      - {{id: {s}.main, stage: utility, rated_power_kw: 1500, points: [
          {{id: {s}.main.kwh, role: facility, kind: interval_energy, interval_s: 900}}]}}
      - {{id: {s}.in, stage: ups, fed_by: [{s}.main], rated_power_kw: 900, points: [
          {{id: {s}.in.kwh, role: none, kind: register}}]}}
      - {{id: {s}.out, stage: ups, room: hall, fed_by: [{s}.in], rated_power_kw: 900, points: [
          {{id: {s}.out.kwh, role: it_ups_output, kind: register}},
          {{id: {s}.out.load, role: none, kind: gauge, channel: load_percent}},
          {{id: {s}.out.battery, role: none, kind: gauge, channel: battery_charge_percent}},
          {{id: {s}.out.runtime, role: none, kind: gauge, channel: battery_runtime_min}}]}}
      - {{id: {s}.rack, stage: rack, room: hall, fed_by: [{s}.out], rated_power_kw: 900, points: [
          {{id: {s}.rack.kwh, role: it_equipment_input, kind: register}},
          {{id: {s}.rack.l1, role: none, kind: gauge, channel: current_l1_a}},
          {{id: {s}.rack.l2, role: none, kind: gauge, channel: current_l2_a}},
          {{id: {s}.rack.l3, role: none, kind: gauge, channel: current_l3_a}}]}}
      - {{id: {s}.chiller, room: hall, rated_power_kw: 500, fed_by: [{s}.main], points: [
          {{id: {s}.chiller.kwh, role: cooling, kind: register}}]}}
      - {{id: {s}.hall, room: hall, points: [
          {{id: {s}.hall.c, role: temperature, kind: gauge, unit: C}},
          {{id: {s}.hall.rh, role: humidity, kind: gauge, unit: percent}}]}}
      - {{id: {s}.roof, points: [{{id: {s}.roof.c, role: temperature, kind: gauge, unit: C}}]}}
"""
ESTATE = "institutions: [{id: bank, institution_class: joint_stock}]\nsites:" + "".join(
    SITE.format(s=site, zone=zone) for site, zone in ZONES.items()
)
LOADS_KW = {"main": 900.0, "in": 540.0, "out": 500.0, "rack": 490.0, "chiller": 250.0}
GAUGES = {
    "out.load": 55.0,
    "out.battery": 98.0,
    "out.runtime": 24.0,
    "rack.l1": 100.0,
    "rack.l2": 110.0,
    "rack.l3": 90.0,
    "hall.c": 24.0,
    "hall.rh": 45.0,
    "roof.c": 12.0,
}


def counted_kwh(load_kw: float, at: datetime) -> float:
    """A register under a load that swings by 30 % in a day and grows by 1 % in a day."""
    hours = (at - FIRST) / timedelta(hours=1)
    swing = 0.3 * 24 / math.tau * (1 - math.cos(math.tau * hours / 24))
    return 1000 + load_kw * (hours + swing + 0.01 * hours**2 / 48)


def history() -> Iterator[Reading]:
    steps = int((NOW - FIRST) / timedelta(minutes=15)) + 1
    for n, site in enumerate(ZONES):
        for at in (FIRST + timedelta(minutes=15 * i) for i in range(steps)):
            for meter, load_kw in LOADS_KW.items():
                value = counted_kwh(load_kw * (1 + n / 10), at)
                if meter == "main":
                    value -= counted_kwh(load_kw * (1 + n / 10), at - timedelta(minutes=15))
                if meter != "main" or not GONE[0] <= at < GONE[1]:
                    yield Reading(f"{site}.{meter}.kwh", at, value)
            if at >= SPAN.end - timedelta(days=2):
                wave = math.sin(at.hour / 4)
                yield from (Reading(f"{site}.{name}", at, value + wave) for name, value in GAUGES.items())


@dataclass(frozen=True)
class World:
    """The boards' way to the figures, and the other way."""

    http: httpx.Client
    connection: psycopg.Connection[Any]
    boards: Mapping[str, Json]
    engine: sa.Engine
    """As the owner of the database."""

    def sql(self, board: str, title: str, site: str, letter: str = "A", span: Span = SPAN) -> Rows:
        """What a query of a panel gives."""
        document = self.boards[board]
        (panel,) = (p for p in panels(document) if p["title"] == title)
        (query,) = (t for t in panel["targets"] if t["refId"] == letter)
        values = variables_of(document, self.connection, site)
        cursor = self.connection.execute(sql_of(query["rawSql"], values, span).encode())
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def value(self, board: str, title: str, site: str, letter: str = "A") -> Any:
        """The one figure of a panel."""
        (row,) = self.sql(board, title, site, letter)
        (value,) = row.values()
        return value

    def get(self, path: str, **query: Any) -> Any:
        """A document of the HTTP interface."""
        answer = self.http.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def days(self, site: str) -> dict[str, Json]:
        """Bars of the site's own days that the range touches, whole, by date."""
        zone = ZoneInfo(ZONES[site])
        first, last = (at.astimezone(zone).date() for at in (SPAN.start, SPAN.end))
        start, end = (
            datetime(d.year, d.month, d.day, tzinfo=zone) for d in (first, last + timedelta(days=1))
        )
        bars = self.get(f"/sites/{site}/pue/series", start=start.isoformat(), end=end.isoformat(), step="1d")[
            "bars"
        ]
        return {f"{instant(bar['start']).astimezone(zone):%Y-%m-%d}": bar for bar in bars}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture(scope="module")
def world(server_url: str, _template: str) -> Iterator[World]:
    with own_database(server_url, _template) as engine:
        fill(engine)
        role = f"reader_boards_{os.getpid()}"
        reader.ensure_reader(engine, "reads-only", role)
        with engine.connect() as connection:
            name = connection.execute(sa.text("SELECT current_database()")).scalar_one()
        parts = {**conninfo.conninfo_to_dict(server_url), "dbname": name}
        own = conninfo.make_conninfo("", **{**parts, "user": role, "password": "reads-only"})
        boards = {p.stem: json.loads(p.read_text("utf-8")) for p in (FOLDER / "en").glob("*.json")}
        with client(engine, clock=lambda: NOW) as http, psycopg.connect(own, autocommit=True) as connection:
            yield World(http, connection, boards, engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")


def fill(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(ESTATE + FACTORS).fleet)
        stored = sites.load(connection)
        readings.ingest_readings(connection, list(history()), dict(stored.point_id))
        noted = {
            "site_id": stored.site_id["sh"],
            "meter_id": stored.meter_id["sh.chiller"],
            "kind": "maintenance",
            "start_at": GONE[0],
            "end_at": GONE[1],
            "author": "somebody",
            "note": "pump off",
        }
        connection.execute(sa.insert(tables.events).values(noted))
        alarm = {
            "site_id": stored.site_id["sh"],
            "rule": "pue_24h",
            "severity": "critical",
            "fingerprint": "f",
            "limit_value": 1.5,
            "value": 1.8,
        }
        for state, fired, over in (
            ("resolved", NOW - timedelta(days=5), NOW - timedelta(days=4)),
            ("firing", NOW - timedelta(days=9), None),
        ):
            times = {"started_at": fired, "fired_at": fired, "resolved_at": over}
            connection.execute(sa.insert(tables.alarms).values({**alarm, "state": state, **times}))
        fans = Measure.declared(
            key="fans",
            what="EC fans",
            where=Boundary.parse("facility"),
            implementation_start=date(2026, 10, 20),
            evidence="order 7",
        )
        for number in stored.site_id.values():
            measures.add(connection, number, fans, "somebody")
    rollup.run(engine)
    findings.run(engine)
    evaluate.run(engine, NOW)
    outlook.run(engine, NOW)
    close_month.run(engine, NOW + timedelta(days=15))


EACH = pytest.mark.parametrize("site", ZONES)
near = pytest.approx


def known(bar: Json, name: str) -> float:
    """A class of a bar or document."""
    found: float = bar[f"{name}_kwh"] if f"{name}_kwh" in bar else bar["overhead_kwh"].get(name, 0.0)
    return found


def by(rows: Rows, *names: str) -> dict[Any, dict[str, Any]]:
    """Rows by the values of some columns."""
    keys = [tuple(row[name] for name in names) for row in rows]
    return {key[0] if len(key) == 1 else key: row for key, row in zip(keys, rows, strict=True)}


@EACH
def test_days_are_the_sites_own_and_whole(world: World, site: str) -> None:
    days = world.days(site)
    for board, title in (("site", "Energy by day and load class"), ("balance", DAILY)):
        rows = by(world.sql(board, title, site), "day")
        assert set(rows) == set(days)
        for day, row in rows.items():
            for name in ("it", *CLASSES):
                assert row[name] == near(known(days[day], name)), (day, name)
            if board == "balance":
                assert sum(v for k, v in row.items() if k != "day" and v) == near(days[day]["facility_kwh"])
    assert len({round(bar["it_kwh"]) for bar in days.values()}) > 20


DAILY = "Daily energy including unmetered"


@EACH
def test_the_day_of_the_change_of_clocks_has_its_length(world: World, site: str) -> None:
    hours = {"be": 25}.get(site, 24)
    rows = by(world.sql("site", "Energy by day and load class", site), "day")
    zone = ZoneInfo(ZONES[site])
    start = datetime(2026, 10, 25, tzinfo=zone).astimezone(UTC)
    end = start + timedelta(hours=hours)
    assert end.astimezone(zone).date() == date(2026, 10, 26)
    whole = world.get(f"/sites/{site}/pue", start=start.isoformat(), end=end.isoformat())
    assert rows["2026-10-25"]["it"] == near(whole["it_kwh"])


@EACH
def test_pue_over_the_range_is_that_of_the_interface(world: World, site: str) -> None:
    bars = world.get(f"/sites/{site}/pue/series", **WINDOW, step="1h")["bars"]
    expected = {instant(b["start"]).replace(minute=0): b["pue"] for b in bars}
    shown = {row["time"]: row["pue"] for row in world.sql("site", "PUE against limit and design", site)}
    both = world.sql("site", "PUE and outdoor temperature", site)
    assert {r["time"]: r["value"] for r in both if r["metric"] == "pue"} == shown
    assert any(r["metric"] == "outdoor" and 10 < r["value"] < 14 for r in both)
    assert {at: value for at, value in shown.items() if value is not None} == near(
        {at: value for at, value in expected.items() if value is not None}
    )
    assert any(value is None for value in shown.values()), "hours of which the feed is missing"


@EACH
def test_daily_pue_of_the_fleet_board(world: World, site: str) -> None:
    zone = ZoneInfo(ZONES[site])
    first = SPAN.start.astimezone(zone).replace(hour=0, minute=0).isoformat()
    bars = world.get(f"/sites/{site}/pue/series", start=first, end=SPAN.end.isoformat(), step="1d")["bars"]
    rows = [r for r in world.sql("fleet", "PUE by day and site", site) if r["metric"] == site]
    shown = {row["time"].date().isoformat(): row["value"] for row in rows}
    assert {row["time"].hour for row in rows} == {12}
    expected = {f"{instant(b['start']).astimezone(zone):%Y-%m-%d}": b["pue"] for b in bars}
    assert set(shown) == set(expected)
    for day, value in shown.items():
        assert value == (None if expected[day] is None else near(expected[day])), day
    assert None in shown.values()


@EACH
def test_sums_of_the_balance_board(world: World, site: str) -> None:
    document = world.get(f"/sites/{site}/pue", **WINDOW)
    for title, name in (("Facility energy", "facility"), ("IT energy", "it")):
        assert world.value("balance", title, site) == near(document[f"{name}_kwh"])
    losses = document["overhead_kwh"].get("power_distribution", 0.0)
    assert world.value("balance", "Power distribution losses", site) == near(losses)
    assert world.value("balance", "Unmetered", site) == near(document["unmetered_kwh"])
    share = document["unmetered_kwh"] / document["facility_kwh"]
    assert world.value("balance", "Unmetered share", site) == near(share)
    assert world.value("balance", "Generators", site) == 0
    sources = world.sql("balance", "Energy sources and energy reported separately", site)
    assert {row["day"] for row in sources} == set(world.days(site))
    assert all(value == 0 for row in sources for name, value in row.items() if name != "day")


@EACH
def test_overhead_by_class_and_its_change(world: World, site: str) -> None:
    now = world.get(f"/sites/{site}/pue", **WINDOW)
    shares = {row["load_class"]: row["share"] for row in world.sql("site", "Overhead by load class", site)}
    assert shares["Cooling"] == near(now["overhead_kwh"]["cooling"] / now["it_kwh"])
    assert 1 + sum(shares.values()) == near(now["pue"])
    span = SPAN.end - SPAN.start
    half = Span(SPAN.end - span / 2, SPAN.end)
    sides = [
        world.get(f"/sites/{site}/pue", start=at.isoformat(), end=(at + span / 2).isoformat())
        for at in (SPAN.start, half.start)
    ]
    rows = by(world.sql("site", "Change from the previous period", site, span=half), "load_class")
    before, after = (one["pue"] for one in sides)
    assert (rows["PUE"]["share_before"], rows["PUE"]["share"]) == (near(before), near(after))
    assert rows["PUE"]["change"] == near(after - before)


@EACH
def test_energy_by_point(world: World, site: str) -> None:
    days = sorted(world.days(site))
    zone = ZoneInfo(ZONES[site])
    edges = [datetime.fromisoformat(d).replace(tzinfo=zone) for d in (days[0], days[-1])]
    span = {"start": edges[0].isoformat(), "end": (edges[1] + timedelta(days=1)).isoformat()}
    expected = {r["name"]: r for r in world.get(f"/sites/{site}/energy", **span, by="point")["rows"]}
    rows = by(world.sql("balance", "Energy by point", site), "point")
    assert set(rows) == set(expected)
    for point, row in rows.items():
        assert row["energy_kwh"] == near(expected[point]["energy_kwh"])


@EACH
def test_coverage_and_estimates_by_day(world: World, site: str) -> None:
    zone, days = ZoneInfo(ZONES[site]), sorted(world.days(site))
    rows = world.sql("quality", "Coverage by meter and day", site)
    assert {row["time"].date().isoformat() for row in rows} <= set(days)
    assert {row["time"].hour for row in rows} == {12}
    start = datetime.fromisoformat(days[0]).replace(tzinfo=zone)
    end = datetime.fromisoformat(days[-1]).replace(tzinfo=zone) + timedelta(days=1)
    span = {"start": start.isoformat(), "end": end.isoformat(), "step": "1d"}
    expected = {
        (f"{instant(r['start']).astimezone(zone):%Y-%m-%d}", r["name"].removesuffix(".kwh")): r
        for r in world.get(f"/sites/{site}/energy", **span, by="point")["rows"]
    }
    for row in rows:
        bar = expected[row["time"].date().isoformat(), row["metric"]]
        assert row["value"] == near(bar["coverage_ratio"], abs=1e-6)
    assert min(row["value"] for row in rows if row["metric"] == f"{site}.main") < 0.5
    estimates = world.sql("quality", "Estimated share by load class", site)
    assert {row["time"].date().isoformat() for row in estimates} == set(days)
    assert all(0 <= row["value"] <= 1 for row in estimates)


@EACH
def test_months_are_the_sites_own(world: World, site: str) -> None:
    shown = by(world.sql("compliance", "Month by month", site), "month")
    document = world.get(f"/sites/{site}/pue", month="2026-10")
    assert set(shown) == {"2026-10"}
    row = shown["2026-10"]
    assert (row["facility_kwh"], row["it_kwh"]) == (near(document["facility_kwh"]), near(document["it_kwh"]))
    assert row["pue"] == near(document["pue"])
    assert row["covered"] == near(document["coverage_ratio"], abs=1e-6)
    assert row["limit_pue"] == min(v["limit"] for v in document["verdicts"])
    assert row["plain"] == document["verdicts"][0]["plain"]
    (bar,) = world.sql("compliance", "PUE by month against the strictest limit", site)
    assert (bar["time"].isoformat(), bar["pue"]) == ("2026-10-01T12:00:00+00:00", near(document["pue"]))
    failed = world.value("compliance", "Months above the limit", site)
    assert failed == (document["verdicts"][0]["plain"] == "fail")
    report = world.get(f"/sites/{site}/reports/2026-10", format="json")
    assert row["revision"] == 1
    assert row["report"] == "closed"
    money = by(world.sql("site", "Cost and emissions by month", site), "month")["2026-10"]
    expected = report["money"]
    assert money["cost"] == expected["cost"] > 0
    assert money["price"] == expected["mean_price_per_kwh"] == 0.5
    assert (money["grid_kwh"], money["emissions_kg"]) == (expected["grid_kwh"], expected["emissions_kg"])
    assert money["emissions_kg"] > 0
    listed = world.get(f"/sites/{site}/reports")["reports"]
    closed = {one["period"] for one in listed if one["revision"]}
    assert world.value("compliance", "Finalised reports", site) == len(closed) > 0
    assert world.value("compliance", "Revisions after finalisation", site) == 0


def test_months_of_all_sites(world: World) -> None:
    (row,) = world.sql("fleet", "Energy by month and load class, all sites", "sh")
    documents = [world.get(f"/sites/{site}/pue", month="2026-10") for site in ZONES]
    assert row["month"] == "2026-10"
    assert row["it"] == near(sum(d["it_kwh"] for d in documents))
    assert row["cooling"] == near(sum(d["overhead_kwh"]["cooling"] for d in documents))


def test_the_fleet_and_its_limits(world: World) -> None:
    fleet = world.get("/fleet/pue", window="ytd")
    assert world.value("fleet", "Fleet PUE, $window", "sh") == near(fleet["ratio_of_sums"])
    rows = by(world.sql("fleet", "Sites and limits, $window", "sh"), "site", "profile")
    expected = {(d["site"], v["profile"]): (d, v) for d in fleet["sites"] for v in d["verdicts"]}
    assert set(rows) == set(expected)
    for key, (document, verdict) in expected.items():
        row = rows[key]
        assert (row["pue"], row["limit_pue"]) == (near(document["pue"]), verdict["limit"])
        assert (row["verdict"], row["plain"]) == (verdict["verdict"], verdict["plain"])
        assert row["coverage_ratio"] == near(document["coverage_ratio"])
        assert row["it_kwh"] == near(document["it_kwh"])
    used = by(world.sql("fleet", "Overhead energy budget used", "sh"), "site")
    for site, row in used.items():
        budgets = world.get(f"/sites/{site}/budget")["budgets"]
        assert row["used"] == near(max(b["used_kwh"] / b["allowed_kwh"] for b in budgets if b["allowed_kwh"]))


@EACH
def test_windows_and_verdicts(world: World, site: str) -> None:
    day = world.get(f"/sites/{site}/pue", window="24h")
    missing = world.value("site", "Not covered, 24 hours", site)
    assert missing == near(1 - day["coverage_ratio"], abs=1e-9)
    assert world.value("site", "Not covered, 24 hours", site, "B") == near(0.1)
    matrix = world.sql("compliance", "Verdicts by window and profile", site)
    assert len(matrix) >= 6
    for row in matrix:
        document = world.get(f"/sites/{site}/pue", window=row["window"])
        (verdict,) = (v for v in document["verdicts"] if v["profile"] == row["profile"])
        assert row["pue"] == (None if document["pue"] is None else near(document["pue"]))
        assert (row["verdict"], row["plain"]) == (verdict["verdict"], verdict["plain"])
    assert world.value("compliance", "Strictest limit", site) == min(v["limit"] for v in day["verdicts"])


@pytest.fixture
def redefined(world: World) -> Iterator[Span]:
    """The definition of a point of Berlin has changed; its figures from then on wait to be computed again."""
    span = Span(datetime(2026, 10, 20, 3, tzinfo=UTC), NOW)
    values = {"point": "be.chiller.kwh", "start": span.start, "end": span.end}
    with world.engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO rollup_queue (point_id, start_at, end_at, redefined) "
                "SELECT id, :start, :end, true FROM points WHERE key = :point"
            ),
            values,
        )
    yield span
    with world.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM rollup_queue WHERE redefined")


def test_no_board_says_a_pue_of_an_earlier_definition(world: World, redefined: Span) -> None:
    test_pue_over_the_range_is_that_of_the_interface(world, "be")
    shown = {row["time"]: row["pue"] for row in world.sql("site", "PUE against limit and design", "be")}
    bars = world.get("/sites/be/pue/series", **WINDOW, step="1h")["bars"]
    assert {at for at, value in shown.items() if value is None} == {
        instant(bar["start"]).replace(minute=0) for bar in bars if bar["pue"] is None
    }
    assert not [at for at, value in shown.items() if at >= redefined.start and value is not None]
    assert any(value is not None for value in shown.values())
    test_daily_pue_of_the_fleet_board(world, "be")
    test_windows_and_verdicts(world, "be")
    matrix = by(world.sql("compliance", "Verdicts by window and profile", "be"), "window", "profile")
    row = matrix["30d", "cbrc_13fyp"]
    assert (row["pue"], row["verdict"], row["plain"]) == (None, "indeterminate", "indeterminate")
    document = world.get("/sites/be/pue", month="2026-10")
    month = by(world.sql("compliance", "Month by month", "be"), "month")["2026-10"]
    assert (document["reason_code"], document["pue"]) == ("redefined", None)
    assert (month["pue"], month["plain"]) == (None, "indeterminate")
    shares = world.sql("site", "Overhead by load class", "be")
    assert {row["share"] for row in shares} == {None}
    limits = by(world.sql("fleet", "Sites and limits, $window", "be"), "site", "profile")
    assert limits["be", "cbrc_13fyp"]["pue"] is None
    said = world.connection.execute("SELECT site, pue FROM v_pue_window WHERE \"window\" = '30d'").fetchall()
    assert {site for site, pue in said if pue is not None} == {"sh", "ko"}, "the others of the fleet are said"
    (newest,) = world.connection.execute(
        "SELECT count(pue) FROM v_pue WHERE site = 'be' AND at >= %s", [redefined.start]
    ).fetchone() or ("",)
    assert newest == 0
    for site in ("sh", "ko"):
        test_windows_and_verdicts(world, site)


@EACH
def test_the_outlook_of_the_year(world: World, site: str) -> None:
    budget = world.get(f"/sites/{site}/budget")
    projected = budget["projection"]
    for board in ("site", "compliance"):
        shown = world.value(board, "Projected year-end PUE", site)
        assert shown == (None if projected["pue"] is None else near(projected["pue"]))
        limit = world.value(board, "Projected year-end PUE", site, "B")
        assert limit == min(b["limit"] for b in budget["budgets"])
    rows = by(world.sql("site", "Overhead energy budget for the year", site), "profile")
    for one in budget["budgets"]:
        row = rows[one["profile"]]
        for name in ("used_kwh", "allowed_kwh", "left_kwh"):
            assert row[name] == (None if one[name] is None else near(one[name]))
    left = [b["left_kwh"] for b in budget["budgets"] if b["left_kwh"] is not None]
    assert world.value("compliance", "Overhead energy remaining this year", site) == (
        near(min(left)) if left else None
    )
    (year,) = world.sql("compliance", "Year-end projection", site)
    assert (year["year"], year["measured_days"]) == (str(budget["year"]), projected["measured_days"])


@EACH
def test_savings_and_the_normalised_pue(world: World, site: str) -> None:
    """No weather is known: the measured PUE stands alone, and the measure has no figure."""
    document = world.get(f"/sites/{site}/savings")
    months = world.sql("compliance", "PUE, measured and normalised", site)
    assert [f"{row['time']:%Y-%m}" for row in months] == [m["period"] for m in document["normalised_pue"]]
    for row, month in zip(months, document["normalised_pue"], strict=True):
        assert row["measured_pue"] == pytest.approx(month["measured_pue"], abs=1e-6)
        assert row["pue"] is month["pue"] is None
    (row,) = world.sql("compliance", "Verified savings", site)
    (statement,) = document["statements"]
    assert (row["what"], row["saving_kwh"], statement["energy_kwh"]) == ("EC fans", None, None)
    assert (row["result"], statement["result"]) == ("No figure", "unknown")
    assert (row["days"], row["counted_days"]) == (statement["days"], statement["counted_days"])


@EACH
def test_what_the_year_costs_and_what_could_be_saved(world: World, site: str) -> None:
    """No baseline is frozen, so there is no drift; test_drifts.py has a plant that drifts."""
    (state,) = world.sql("compliance", "Drift of the plant", site)
    assert (state["state"], state["excess_ratio"]) == ("No baseline frozen", None)
    assert world.sql("compliance", "Drift: overhead power against the frozen baseline", site) == []
    known = world.get(f"/sites/{site}/budget")["surcharges"]
    rows = by(world.sql("compliance", "Surcharge expected for the year", site), "rule")
    assert rows.keys() == {one["rule"] for one in known} != set()
    for one in known:
        row = rows[one["rule"]]
        for name in ("excess_kwh", "amount", "low", "high", "chance"):
            assert row[name] == (None if one[name] is None else near(one[name], rel=1e-3, abs=0.01)), name
        assert (row["limit_pue"], row["currency"]) == (one["limit_pue"], one["currency"])
    found = world.get(f"/sites/{site}/opportunities")["opportunities"]
    shown = world.sql("compliance", "Opportunities", site)
    assert [row["subject"] or "" for row in shown] == [one["subject"] for one in found]
    for row, one in zip(shown, found, strict=True):
        for name in ("kwh_per_year", "kwh_low", "kwh_high", "amount_per_year"):
            assert row[name] == (None if one[name] is None else near(one[name], abs=0.06)), name


@EACH
def test_capacities(world: World, site: str) -> None:
    usage = world.get(f"/sites/{site}/capacity", window="30d")
    rows = by(world.sql("capacity", "Capacities and expected date of reaching them", site), "name")
    for feed in usage["feeds"]:
        row = rows.get(" + ".join(feed["meters"])) or rows.get(", ".join(feed["meters"]))
        if row is not None and feed["load"]["peak_kw"] is not None:
            assert row["peak_kw"] == near(feed["load"]["peak_kw"], rel=1e-6), feed
    assert world.value("capacity", "IT peak, 30 days", site) == near(usage["it_load"]["peak_kw"])
    assert world.value("capacity", "Design IT capacity", site) == 900
    headroom = max(900 - usage["it_load"]["peak_kw"], 0)
    assert world.value("capacity", "Headroom", site) == near(headroom)
    stranded = sum(f["stranded_kw"] or 0 for f in usage["feeds"])
    assert (world.value("capacity", "Unusable capacity", site) or 0) == near(stranded)
    states = [row["state"] for row in rows.values()]
    assert world.value("capacity", "Feeds tight or over", site) == sum(s in ("tight", "over") for s in states)
    use = by(world.sql("capacity", "Peak relative to usable capacity", site), "name")
    assert {n: r["peak_ratio"] for n, r in use.items()} == {n: rows[n]["peak_ratio"] for n in use}


@EACH
def test_daily_peaks_and_loads(world: World, site: str) -> None:
    zone, expected = ZoneInfo(ZONES[site]), defaultdict(list)
    days = sorted(world.days(site))
    start = datetime.fromisoformat(days[0]).replace(tzinfo=zone)
    end = datetime.fromisoformat(days[-1]).replace(tzinfo=zone) + timedelta(days=1)
    bars = world.get(f"/sites/{site}/pue/series", start=start.isoformat(), end=end.isoformat(), step="15m")[
        "bars"
    ]
    for bar in bars:
        if bar["coverage_ratio"] >= 0.5:
            at = instant(bar["start"]).astimezone(zone)
            expected[at.date()].append(bar["it_kwh"] / bar["coverage_ratio"] * 4)
    rows = world.sql("capacity", "IT power: daily mean and peak against capacity", site)
    shown = {row["time"].date(): row for row in rows}
    assert set(shown) == set(expected)
    for day, powers_kw in expected.items():
        assert shown[day]["peak_kw"] == near(max(powers_kw))
        assert shown[day]["mean_kw"] == near(sum(powers_kw) / len(powers_kw))
    (rack,) = world.sql("capacity", "Racks and PDUs by power, ten highest", site)
    hour = {"start": (SPAN.end - timedelta(hours=1)).isoformat(), "end": SPAN.end.isoformat()}
    known = {r["name"]: r for r in world.get(f"/sites/{site}/energy", **hour, by="point")["rows"]}
    assert (rack["name"], rack["power_kw"]) == (f"{site}.rack", near(known[f"{site}.rack.kwh"]["energy_kwh"]))
    last = world.sql("capacity", "Power by PDU and rack, last 3 days", site)
    full = next(r for r in last if r["time"] == SPAN.end.replace(minute=0) - timedelta(hours=1))
    hour = {"start": full["time"].isoformat(), "end": (full["time"] + timedelta(hours=1)).isoformat()}
    known = {r["name"]: r for r in world.get(f"/sites/{site}/energy", **hour, by="point")["rows"]}
    assert full["value"] == near(known[f"{site}.rack.kwh"]["energy_kwh"])
    room = world.sql("capacity", "IT power by room, last 60 days", site)
    assert {row["metric"] for row in room} == {"hall"}
    whole = next(row for row in room if row["time"] == datetime(2026, 10, 20, 12, tzinfo=UTC))
    six = {"start": whole["time"].isoformat(), "end": (whole["time"] + timedelta(hours=6)).isoformat()}
    hall = world.get(f"/sites/{site}/pue", **six, room="hall")
    assert whole["value"] == near(hall["it_kwh"] / 6)


@EACH
def test_phases_and_ups(world: World, site: str) -> None:
    (row,) = world.sql("capacity", "Phase currents, newest of the last hour", site)
    newest = {
        name: world.get(
            "/readings",
            point=f"{site}.{name}",
            start=(SPAN.end - timedelta(minutes=15)).isoformat(),
            end=SPAN.end.isoformat(),
        )["readings"][-1]["value"]
        for name in GAUGES
    }
    currents = [newest[f"rack.l{n}"] for n in (1, 2, 3)]
    assert [row[f"l{n}_a"] for n in (1, 2, 3)] == near(currents)
    mean = sum(currents) / 3
    assert row["imbalance"] == near(max(abs(c - mean) for c in currents) / mean)
    ups = by(world.sql("capacity", "UPS", site), "meter")
    out = ups[f"{site}.out"]
    assert out["load"] == near(newest["out.load"] / 100)
    assert out["battery"] == near(newest["out.battery"] / 100)
    assert out["runtime_s"] == near(newest["out.runtime"] * 60)
    nodes = world.get(f"/sites/{site}/balance", window="30d")["nodes"]
    (ups_in,) = (n for n in nodes if n["meters"] == [f"{site}.in"])
    assert ups[f"{site}.in"]["efficiency"] == near(ups_in["out_kwh"] / ups_in["in_kwh"], rel=1e-3)
    assert out["efficiency"] is None, "between UPS and rack no UPS loses anything"
    rows = by(world.sql("balance", "Incoming and outgoing energy, 30 days", site), "name")
    assert rows[f"{site}.in"]["in_kwh"] == near(ups_in["in_kwh"], rel=1e-3)
    assert rows[f"{site}.in"]["state"] == ups_in["state"]
    flows = by(world.sql("balance", "Metering tree, 30 days", site), "id")
    assert flows[f"{site}.in"]["mainstat"] == near(ups_in["in_kwh"], rel=1e-3)
    edges = {(r["source"], r["target"]) for r in world.sql("balance", "Metering tree, 30 days", site, "B")}
    assert edges == {
        (f"{site}.main", f"{site}.in"),
        (f"{site}.main", f"{site}.chiller"),
        (f"{site}.in", f"{site}.out"),
        (f"{site}.out", f"{site}.rack"),
    }


@EACH
def test_climate(world: World, site: str) -> None:
    for title, name in (("Room temperature", "hall.c"), ("Room humidity", "hall.rh")):
        rows = world.sql("site", title, site)
        (at,) = {SPAN.end.replace(minute=0) - timedelta(hours=3)}
        found = world.get(
            "/readings",
            point=f"{site}.{name}",
            start=at.isoformat(),
            end=(at + timedelta(hours=1)).isoformat(),
        )["readings"]
        (row,) = (r for r in rows if r["time"] == at and r["metric"] == f"{site}.{name}")
        assert row["value"] == near(sum(r["value"] for r in found) / len(found), rel=0.02)


@EACH
def test_lists(world: World, site: str) -> None:
    found = world.get(f"/sites/{site}/findings", state="all")["findings"]
    still = [f for f in found if f["state"] == "open"]
    assert world.value("quality", "Open data quality issues", site) == len(still)
    listed = world.sql("quality", "Data quality issues", site)
    assert sorted(r["kind"] for r in listed) == sorted(f["kind"] for f in found)
    kinds = by(world.sql("quality", "Data quality issues by type", site), "kind")
    assert sum(row["open"] for row in kinds.values()) == len(still)
    health = by(world.sql("quality", "Meters", site), "meter")
    meters = world.get(f"/sites/{site}/meters")["meters"]
    assert {name: row["points"] for name, row in health.items()} == {
        m["id"]: len(m["points"]) for m in meters
    }
    (declared,) = world.sql("compliance", "Declared indicators", site)
    assert (declared["indicator"], declared["value"]) == ("iso_50001", 1)


def test_alarms_firing_first_and_marks(world: World) -> None:
    alarms = world.get("/alarms", state="all")["alarms"]
    rows = world.sql("fleet", "Alarms of all sites", "sh")
    assert {row["id"] for row in rows} == {alarm["id"] for alarm in alarms}
    assert [row["state"] for row in rows] == ["firing", "resolved"], "the older one still fires"
    both = world.sql("site", "Alarms and data quality issues", "sh")
    assert both[0]["state"] == "firing"
    for board in ("site", "fleet"):
        marks = {m["name"]: m["target"]["rawSql"] for m in world.boards[board]["annotations"]["list"]}
        values = {"site": ["sh"]}
        span = Span(SPAN.start, NOW)
        alarm, *_ = world.connection.execute(sql_of(marks["Alarms"], values, span).encode()).fetchall()
        assert alarm[:2] == (NOW - timedelta(days=9), NOW)
        assert alarm[2].endswith("PUE, 24 hours")
        (event,) = world.connection.execute(sql_of(marks["Meter events"], values, span).encode()).fetchall()
        assert event[:2] == GONE
        assert event[2].endswith("sh.chiller Maintenance pump off")
    events = world.get("/sites/sh/events")["events"]
    assert [e["note"] for e in events] == ["pump off"]


CONSTANTS = {("capacity", "Feeds tight or over", "B"), ("compliance", "Months above the limit", "B")}


def test_every_sql_query_is_checked(world: World) -> None:
    """By its title in this file; the ones left over are constants that colour a panel."""
    text = Path(__file__).read_text("utf-8")
    unchecked = {
        (board, panel["title"], target["refId"])
        for board, document in world.boards.items()
        for panel in panels(document)
        for target in panel["targets"]
        if "rawSql" in target and f'"{panel["title"]}"' not in text
    }
    assert unchecked == set()
    for board, title, letter in CONSTANTS:
        assert world.value(board, title, "sh", letter) == 1
    assert not re.search(r"timeGroup|timeFilter", json.dumps(world.boards)), "cut by no other clock"
