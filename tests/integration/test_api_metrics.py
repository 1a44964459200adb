"""``/metrics``: the names that boards and rules rely on, in a form that Prometheus accepts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from app import config
from app.domain.quality.finding import Finding, FindingKind, Severity
from app.domain.reading import LATEST, OLDEST, Reading
from app.jobs import evaluate, rollup
from app.jobs.scheduler import JobTally
from app.store import deployment, findings, metrics_snapshot, progress, readings, sites, tables
from app.store.engine import make_engine
from app.store.findings import Scope
from app.store.metrics_snapshot import SiteFigures
from app.telemetry import MeterState, Telemetry
from tests.integration.api_helpers import ESTATE, NOW, a_day, client, own_database, sent
from tests.programs import need_program

Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet, a day of readings and its evaluation."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        evaluate.run(engine, NOW)
        yield engine


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def http(database: sa.Engine, telemetry: Telemetry) -> Iterator[httpx.Client]:
    with client(database, telemetry=telemetry) as http:
        yield http


def scrape(http: httpx.Client) -> dict[str, Samples]:
    """Samples by name, then by label values in the order of the label names."""
    answer = http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, Samples] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            values = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[values] = sample.value
    return found


def test_figures_are_in_base_units(http: httpx.Client) -> None:
    page = scrape(http)
    assert page["wattline_site_pue_ratio"]["sh1", "24h"] == pytest.approx(1.4)
    assert page["wattline_site_pue_limit_ratio"]["cbrc_13fyp", "sh1"] == 1.5
    assert page["wattline_site_pue_limit_ratio"]["cbrc_13fyp", "bj1"] == 2.0
    assert page["wattline_site_power_watts"]["it", "sh1"] == pytest.approx(500_000)
    assert page["wattline_site_energy_joules_total"]["facility", "sh1"] == pytest.approx(16_800 * 3.6e6)
    assert page["wattline_site_coverage_ratio"]["sh1", "24h"] == 1.0
    assert page["wattline_site_it_load_ratio"]["sh1",] == pytest.approx(0.5)
    assert page["wattline_meter_up"]["main", "sh1"] == 1.0
    last = page["wattline_meter_last_reading_timestamp_seconds"]["main", "sh1"]
    assert last == (NOW - timedelta(minutes=3)).timestamp()
    thresholds = page["wattline_alarm_threshold"]
    assert thresholds["coverage_low", "critical", "sh1"] == 0.5
    assert thresholds["pue_24h", "warning", "bj1"] == pytest.approx(1.98), "counted from the site's own limit"
    assert "wattline_build_info" in page


def test_a_pue_that_cannot_be_said_is_absent(http: httpx.Client) -> None:
    page = scrape(http)
    assert ("sh1", "12mo") not in page["wattline_site_pue_ratio"]
    assert page["wattline_site_coverage_ratio"]["sh1", "12mo"] < 0.01


def test_what_lives_in_the_process_is_added_at_the_scrape(http: httpx.Client, telemetry: Telemetry) -> None:
    scrape(http)
    telemetry.meter_states = lambda: {"main": MeterState(up=False, poll_duration_s=0.25)}
    telemetry.spools = lambda: {"poller": (7, 0.25, False)}
    telemetry.jobs = lambda: {"rollup": JobTally().after(1.2, 0.5, 1_700_000_000.0).after(0.3, 0.1, None)}
    telemetry.busy_ratio = lambda: 0.25
    http.post("/api/v1/readings", json=sent([24 * 60 + 1], start_kwh=16_800))
    page = scrape(http)
    assert page["wattline_meter_up"]["main", "sh1"] == 0.0
    assert page["wattline_meter_poll_duration_seconds"]["main", "sh1"] == 0.25
    assert page["wattline_spool_readings"]["poller",] == 7
    assert page["wattline_spool_fill_ratio"]["poller",] == 0.25
    assert page["wattline_spool_written"]["poller",] == 0
    assert page["wattline_job_duration_seconds_count"]["rollup",] == 2
    assert page["wattline_job_duration_seconds_sum"]["rollup",] == pytest.approx(1.5)
    assert page["wattline_job_duration_seconds_bucket"]["rollup", "1.0"] == 1
    assert page["wattline_job_duration_seconds_bucket"]["rollup", "+Inf"] == 2
    assert page["wattline_job_processor_seconds_total"]["rollup",] == pytest.approx(0.6)
    assert page["wattline_job_last_success_timestamp_seconds"]["rollup",] == 1_700_000_000
    assert page["wattline_worker_busy_ratio"][()] == 0.25
    assert page["wattline_readings_stored_total"]["sh1",] == 1
    assert page["wattline_http_requests_total"]["POST", "/readings", "200"] == 1


def test_what_waits_and_how_far_figures_are_behind(
    http: httpx.Client, database: sa.Engine, telemetry: Telemetry
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("TRUNCATE rollup_queue, check_queue"))
    telemetry.look_at_progress(database)
    before = scrape(http)
    assert before["wattline_figures_lag_seconds"]["sh1",] == 0
    assert before["wattline_queue_entries"] == {
        ("rollup",): 0,
        ("findings",): 0,
        ("messages",): 0,
        ("reports",): 0,
    }

    http.post("/api/v1/readings", json=sent([24 * 60 + 2], start_kwh=16_800))
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE rollup_queue SET queued_at = now() - interval '50 minutes'"))
    telemetry.look_at_progress(database)
    page = scrape(http)
    assert 3000 <= page["wattline_figures_lag_seconds"]["sh1",] < 3060
    assert page["wattline_queue_entries"]["rollup",] == 1
    assert http.get("/readyz").status_code == 200

    with database.begin() as connection:
        connection.execute(sa.text("UPDATE rollup_queue SET queued_at = now() - interval '61 minutes'"))
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert "figures are 61 minutes behind the readings" in answer.json()["detail"]


def test_of_a_long_queue_only_the_oldest_entries_are_looked_at(
    http: httpx.Client, database: sa.Engine, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("TRUNCATE rollup_queue"))
        connection.execute(
            sa.text(
                "INSERT INTO rollup_queue (point_id, start_at, end_at, queued_at)"
                " SELECT -n, now(), now(), now() - n * interval '1 minute' FROM generate_series(40, 1, -1) n"
            )
        )
    monkeypatch.setattr(progress, "LOOKED_AT", 10)
    telemetry.look_at_progress(database)
    lag_s = scrape(http)["wattline_figures_lag_seconds"]["sh1",]
    assert 31 * 60 <= lag_s < 32 * 60, "a site may be as far behind as the newest entry that was looked at"


def test_alarms_and_drops_are_counted(engine: sa.Engine) -> None:
    a_day(engine)
    with engine.begin() as connection:
        for site, fired, resolved in ((1, NOW, None), (1, NOW, NOW), (1, None, None), (0, NOW, None)):
            alarm = {
                "site_id": site,
                "rule": "limit",
                "severity": "critical",
                "state": "firing",
                "fingerprint": f"{site} {fired} {resolved}",
                "started_at": NOW,
                "fired_at": fired,
                "resolved_at": resolved,
            }
            connection.execute(sa.insert(tables.alarms).values(alarm))
        for site_id in (1, None):
            drop = {"site_id": site_id, "collector": "poller", "reason": "full", "readings": 5}
            connection.execute(sa.insert(tables.dropped_readings).values(drop))
    with client(engine) as http:
        page = scrape(http)
    assert page["wattline_alarms_active"] == {("limit", "critical", "sh1"): 1, ("limit", "critical", ""): 1}
    assert page["wattline_readings_dropped_total"] == {("full", "sh1"): 5, ("full", ""): 5}


def test_counters_do_not_fall_when_the_past_is_corrected(http: httpx.Client, telemetry: Telemetry) -> None:
    before = scrape(http)["wattline_site_energy_joules_total"]["facility", "sh1"]
    lower = [replace(f, energy_kwh={"facility": 1.0}) for f in telemetry.figures()]
    telemetry.show(lower, NOW)
    assert scrape(http)["wattline_site_energy_joules_total"]["facility", "sh1"] == before


def test_a_snapshot_that_follows_what_changed_is_what_a_fresh_one_is(engine: sa.Engine) -> None:
    a_day(engine)
    with engine.connect() as connection:
        stored = sites.load(connection)
    known, numbers = metrics_snapshot.Known(), dict(stored.point_id)

    def both(now: datetime) -> tuple[list[SiteFigures], list[SiteFigures]]:
        with engine.connect() as connection:
            profiles = deployment.limit_profiles(connection)
            kept = metrics_snapshot.collect(connection, stored, profiles, now, known)
            return kept, metrics_snapshot.collect(connection, stored, profiles, now)

    def arrives(at: datetime, value: float) -> None:
        with engine.begin() as connection:
            readings.ingest_readings(connection, [Reading("main.kwh", at, value)], numbers)
        rollup.run(engine)

    kept, fresh = both(NOW)
    assert kept == fresh
    arrives(NOW + timedelta(seconds=20), 17_000.0)
    kept, fresh = both(NOW + timedelta(seconds=31))
    assert kept == fresh, "new readings are seen"
    arrives(NOW - timedelta(days=70), 1.0)
    arrives(NOW - timedelta(days=69), 2401.0)
    kept, fresh = both(NOW + timedelta(seconds=62))
    assert kept == fresh, "energy of a past month that was computed again is summed again"
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM readings WHERE at > :at"), {"at": NOW})
    kept, fresh = both(NOW + metrics_snapshot.LOOK_AT_ALL_EVERY)
    assert kept == fresh


def test_gone_meters_disappear(engine: sa.Engine, telemetry: Telemetry) -> None:
    a_day(engine)
    with client(engine, telemetry=telemetry) as http:
        assert ("chiller", "sh1") in scrape(http)["wattline_meter_up"]
        shorter = ESTATE[: ESTATE.index("      - id: chiller")] + ESTATE[ESTATE.index("  - id: bj1") :]
        with engine.begin() as connection:
            sites.sync(connection, config.parse(shorter).fleet)
        telemetry.refresh(engine, NOW)
        assert ("chiller", "sh1") not in scrape(http)["wattline_meter_up"]


def test_promtool_finds_nothing_to_say(http: httpx.Client) -> None:
    promtool = str(need_program("promtool", "prometheus"))
    page = http.get("/metrics").content
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_last_figures_stay_while_the_database_is_away(
    http: httpx.Client, database: sa.Engine, telemetry: Telemetry
) -> None:
    before = scrape(http)["wattline_site_pue_ratio"]
    away = make_engine("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    with client(away, telemetry=telemetry) as broken:
        assert scrape(broken)["wattline_site_pue_ratio"] == before
    with client(away, telemetry=telemetry, clock=lambda: NOW + timedelta(hours=1)) as broken:
        assert scrape(broken)["wattline_site_pue_ratio"] == before
    away.dispose()


def test_what_is_refused_or_withheld_is_counted(engine: sa.Engine) -> None:
    stored = a_day(engine)
    doubt = Finding(FindingKind.IT_MISSING, "ups.kwh", NOW - timedelta(hours=8), NOW, Severity.ERROR)
    with engine.begin() as connection:
        scope = Scope(stored.site_id["sh1"], [stored.point_id["ups.kwh"]], (doubt.kind,), OLDEST, LATEST)
        findings.replace(connection, scope, [doubt], dict(stored.point_id))
        file = {"id": uuid4(), "site_id": stored.site_id["sh1"], "file_name": "a.csv", "sha256": "0"}
        counts = {"status": "done", "rejected": 3, "conflicting": 2}
        connection.execute(sa.insert(tables.imports).values({**file, **counts}))
    evaluate.run(engine, NOW)
    with client(engine) as http:
        http.post("/api/v1/readings", json=sent([24 * 60], point="nowhere.kwh"))
        http.post("/api/v1/readings", json=sent([24 * 60, 0], start_kwh=5.0))
        page = scrape(http)
        document = http.get("/api/v1/sites/sh1/pue", params={"window": "24h"}).json()
    assert page["wattline_findings_open"] == {("it_missing", "error", "sh1"): 1}
    assert page["wattline_site_pue_withheld"]["waits", "sh1", "24h"] == 1
    assert ("sh1", "24h") not in page["wattline_site_pue_ratio"]
    assert page["wattline_site_pue_withheld"]["low_coverage", "bj1", "12mo"] == 1
    assert page["wattline_import_refused_total"] == {("rejected", "sh1"): 3, ("conflicting", "sh1"): 2}
    assert page["wattline_readings_rejected_total"] == {("unknown_point",): 1, ("conflicting",): 2}
    assert (document["reason_code"], document["waits_for"]) == ("waits", ["ups.kwh (it_missing)"])


def test_answers_about_a_site_say_that_definitions_are_being_applied(engine: sa.Engine) -> None:
    a_day(engine)
    register = "role: cooling, kind: register"
    with engine.begin() as connection:
        sites.sync(connection, config.parse(ESTATE.replace(register, f"{register}, multiplier: 2")).fleet)
    paths = ("capacity", "indicators", "budget", "exhaustion", "utilisation", "energy", "pue/series?step=1h")
    with client(engine) as http:
        for path in paths:
            note = http.get(f"/api/v1/sites/sh1/{path}").headers["Wattline-Pending"]
            assert note == "definitions changed, 1 stretches are being recomputed"
        assert "Wattline-Pending" not in http.get("/api/v1/sites/bj1/capacity").headers
        rollup.run(engine)
        assert "Wattline-Pending" not in http.get("/api/v1/sites/sh1/capacity").headers
