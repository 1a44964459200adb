"""The demo's 13 months through the real ingest, rollup, quality checks and alarm rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import collectors.simulated
from app import config
from app.domain import capacity
from app.domain import pue as figures
from app.domain.period import QUARTER_HOUR, Period, floor
from app.domain.site import Fleet
from app.jobs import demo, imports, rollup
from app.jobs.alarms import backfill
from app.jobs.demo import DemoHistory
from app.store import alarms, deployment, pue, sites
from app.store import findings as stored_findings
from app.store.alarms import StoredAlarm
from app.store.audit import Actor
from app.store.engine import Engine, make_engine
from collectors.simulated import defects
from collectors.simulated.exports import write_late_file
from collectors.simulated.history import Simulation
from collectors.simulated.physics import instants
from tests.integration.test_alarms_golden import check, replayed

NOW = datetime(2025, 11, 23, 16, 20, tzinfo=UTC)
"""DemoHistory on every clock: the import refuses readings from the future."""
YEAR = Period(floor(NOW) - timedelta(days=390), floor(NOW))
SITES = ("sh1", "nb1")
WHOLE = pytest.mark.timeout(900)
"""For the first test that needs the whole history."""


def declared(engine: Engine) -> Fleet:
    fleet = config.load(Path(collectors.simulated.__file__).parent / "demo_site.yaml").fleet
    with engine.begin() as connection:
        sites.sync(connection, fleet)
    return fleet


def pue_of(engine: Engine, site: str, start: datetime, end: datetime) -> pue.PueDocument:
    with engine.begin() as connection:
        stored, profiles = sites.load(connection), deployment.limit_profiles(connection)
        return pue.document(connection, stored, site, Period(start, end), profiles)


def found(engine: Engine) -> list[tuple[str, str]]:
    with engine.begin() as connection:
        numbers = sites.load(connection).site_id.values()
        listed = [f for number in numbers for f in stored_findings.listing(connection, number)]
    return sorted((f.kind, f.point) for f in listed)


@dataclass(frozen=True)
class Loaded:
    """The whole history, and what was found before and after the late file came."""

    engine: Engine
    fleet: Fleet
    simulation: Simulation
    before: list[tuple[str, str]]
    after: list[tuple[str, str]]


@pytest.fixture(scope="module")
def year(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    engine, simulation = make_engine(module_database_url, statement_timeout_s=300), Simulation(NOW)
    fleet = declared(engine)
    demo.load(engine, fleet, simulation, DemoHistory.load_or_begin(engine, NOW))
    imports.settle(engine)
    before = found(engine)
    folder = tmp_path_factory.mktemp("late")
    import_late_file(engine, write_late_file(folder, simulation, fleet.site["sh1"]))
    demo.declare_measures(engine, NOW)
    demo.freeze_baseline(engine, fleet, DemoHistory.load_or_begin(engine, NOW))
    yield Loaded(engine, fleet, simulation, before, found(engine))
    engine.dispose()


def import_late_file(engine: Engine, path: Path) -> None:
    with engine.begin() as connection:
        stored = sites.load(connection)
    imported = imports.import_file(engine, stored, stored.fleet.site["sh1"], path, by=Actor("test"))
    assert (imported.accepted, imported.rejected) == (96, 0)
    imports.settle(engine)


def test_a_few_days_have_a_pue_of_each_category(engine: Engine) -> None:
    fleet = declared(engine)
    demo.load(engine, fleet, Simulation(NOW), DemoHistory.load_or_begin(engine, NOW), days=2)
    rollup.run(engine)
    start, end = NOW - timedelta(hours=25, minutes=20), NOW - timedelta(hours=1, minutes=20)
    for site, expected, label in (("sh1", 1.40, "PUE2"), ("nb1", 1.70, "PUE1")):
        document = pue_of(engine, site, start, end)
        assert document.pue == pytest.approx(expected, abs=0.15)
        assert (document.label, document.coverage_ratio) == (label, pytest.approx(1))


@WHOLE
def test_the_findings_name_exactly_the_defects(year: Loaded) -> None:
    expected = expected_findings()
    assert year.before == sorted([*expected, ("gap", "sh1-epms.kwh")])
    assert year.after == expected
    document = pue_of(year.engine, "sh1", NOW - timedelta(days=365), NOW - timedelta(minutes=20))
    assert document.pue == pytest.approx(1.44, abs=0.02)
    assert document.coverage_ratio == pytest.approx(1, abs=1e-4)


def expected_findings() -> list[tuple[str, str]]:
    return sorted((e.kind.value, e.point) for e in defects.expected_findings(NOW))


# -- alarms ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lists(year: Loaded) -> dict[str, list[dict[str, Any]]]:
    """What the rules say of the year, by site."""
    return {site: replayed(year.engine, site, YEAR) for site in SITES}


@pytest.fixture(scope="module")
def record(year: Loaded) -> list[StoredAlarm]:
    """The alarms of the year, put on record."""
    counts = [backfill.record(year.engine, site, YEAR) for site in SITES]
    with year.engine.begin() as connection:
        listed = alarms.listing(connection, sites.load(connection).site_key, "all")
    assert len(listed) == sum(counts)
    return listed


@WHOLE
@pytest.mark.parametrize("site", SITES)
def test_the_alarms_are_those_on_the_reviewed_list(lists: dict[str, list[dict[str, Any]]], site: str) -> None:
    check(f"demo-{site}", lists[site])


@WHOLE
def test_the_record_has_the_same_alarms_and_a_second_time_adds_none(
    year: Loaded, lists: dict[str, list[dict[str, Any]]], record: list[StoredAlarm]
) -> None:
    listed = {(one["fired_at"], one["rule"], one["subject"]) for found in lists.values() for one in found}
    assert listed == {(a.fired_at.isoformat(), a.rule, a.subject) for a in record}
    assert {a.state for a in record} <= {"firing", "recovering", "resolved"}
    assert backfill.record(year.engine, "sh1", Period(YEAR.end - timedelta(days=60), YEAR.end)) == 0
    with year.engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM v_alarms")).scalar_one() == len(record)
        assert connection.execute(sa.text("SELECT count(*) FROM outbox")).scalar_one() == 0
        kept = alarms.memories(connection).values()
    going = {(a.rule, a.subject) for a in record if a.resolved_at is None}
    assert {(k.rule, k.subject) for k in kept if k.memory.state.is_active} == going


@WHOLE
def test_the_hour_of_failing_cooling_is_on_record_and_names_cooling(
    year: Loaded, record: list[StoredAlarm]
) -> None:
    failing = defects.cooling_failure(NOW)
    (breach,) = (a for a in record if a.rule == "pue_1h" and failing.start <= a.fired_at < failing.end)
    assert (breach.severity, breach.state, breach.document["moved"]) == ("critical", "resolved", "cooling")
    assert "sh1-chiller-1" in breach.document["meters"]
    with year.engine.begin() as connection:
        steps = [(s.after, s.severity) for s in alarms.history(connection, breach.id)]
    assert steps == [("firing", "critical"), ("recovering", "critical"), ("resolved", "critical")]


@WHOLE
def test_no_alarm_came_from_a_gap_a_reset_or_a_late_file(year: Loaded, record: list[StoredAlarm]) -> None:
    """Every value that fired is that of the plant itself, which knows neither meters nor their defects."""
    assert {a.rule for a in record} == {"pue_1h", "pue_24h", "feed_load", "plant_drift"}
    for alarm in record:
        if alarm.rule == "plant_drift":
            continue
        true = feed_ratio(year, alarm) if alarm.rule == "feed_load" else plant_pue(year, alarm.document)
        assert alarm.value == pytest.approx(true, abs=0.003), alarm
        assert true > (alarm.limit_value or 0.0) - 0.003


@WHOLE
def test_the_fouled_condenser_is_found_and_named(year: Loaded, record: list[StoredAlarm]) -> None:
    fouling = defects.retrofit(NOW).fouling
    (alarm,) = (a for a in record if a.rule == "plant_drift")
    assert fouling < alarm.fired_at < fouling + timedelta(days=40)
    assert alarm.document["drift"]["mostly"] == "sh1-chiller-2"
    assert alarm.document["drift"]["onset"] >= fouling.date().isoformat()
    assert alarm.document["moved"] == "cooling"
    assert alarm.state == "firing", "in cold weather, too"


def energy_kwh(year: Loaded, site: str, meter_id: str, start: datetime, end: datetime) -> float:
    """What really flowed through a meter."""
    meter = next(m for m in year.fleet.site[site].meters if m.id == meter_id)
    simulated = year.simulation.meter(site, meter)
    return float(simulated.energy(instants([start]), instants([end]))[0])


def plant_pue(year: Loaded, document: dict[str, Any]) -> float:
    """PUE of the plant over the window of an alarm."""
    site = year.fleet.site[document["site"]]
    parts = figures.boundary(site)
    start, end = (datetime.fromisoformat(document[key]) for key in ("start", "end"))

    def total(weights: dict[str, float]) -> float:
        return sum(w * energy_kwh(year, site.id, site.meter_of[p].id, start, end) for p, w in weights.items())

    return total(parts.facility) / total({p.id: p.weight for p in parts.it})


def feed_ratio(year: Loaded, alarm: StoredAlarm) -> float:
    """Highest quarter-hour of the last hour by what the feed may carry."""
    end = floor(datetime.fromisoformat(alarm.document["at"]))
    members = [m for m in year.fleet.site[alarm.site].meters if m.id in alarm.subject.split("+")]
    usable_kw = capacity.usable_kw([m.rated_power_kw for m in members], capacity.redundancy(members))
    starts = [end - n * QUARTER_HOUR for n in range(1, 5)]
    peaks_kw = [
        4 * sum(energy_kwh(year, alarm.site, m.id, start, start + QUARTER_HOUR) for m in members)
        for start in starts
    ]
    return max(peaks_kw) / usable_kw
