"""The demo's 13 months: golden figures, and every defect of the table seen, and no other."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import collectors.simulated
from app import config
from app.domain.energy import Event, EventKind, Series
from app.domain.quality.detect import site_findings
from app.domain.quality.finding import Finding
from app.domain.quantity import ReadingKind
from app.domain.reading import ReadingColumns
from app.domain.register import StepKind, walk
from app.domain.site import Fleet, Point, Site
from app.errors import NotFound, SeriesError
from collectors.simulated import defects
from collectors.simulated.defects import DefectKind
from collectors.simulated.history import Simulation
from collectors.simulated.meters import channel_of
from collectors.simulated.physics import Plant, instants

ANCHOR = datetime(2026, 11, 23, 16, 20, tzinfo=UTC)
ANCHORS = [datetime(2026, 1, 3, 1, tzinfo=UTC) + timedelta(days=d, hours=d % 24) for d in range(0, 420, 37)]
EXPECTED_STEPS = {
    "sh1-crah-2.kwh": {StepKind.FALL: 1},
    "sh1-pdu-b2.kwh": {StepKind.FALL: 1},
    "sh1-pumps.kwh": {StepKind.ROLLOVER: 1},
    "sh1-chiller-1.kwh": {StepKind.SPIKE: 1},
    "sh1-rack-102.kwh": {StepKind.TRANSIENT: 1},
}
FACILITY = ("utility_a", "utility_b", "generator", "pv")
IT = ("pdu_a1", "pdu_b1", "pdu_a2", "pdu_b2")


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return config.load(Path(collectors.simulated.__file__).parent / "demo_site.yaml").fleet


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(ANCHOR)


@pytest.fixture(scope="module")
def sh1(fleet: Fleet, simulation: Simulation) -> dict[str, ReadingColumns]:
    return by_point(fleet.site["sh1"], simulation)


def by_point(site: Site, simulation: Simulation) -> dict[str, ReadingColumns]:
    batches = [c for _, c in simulation.history(site, defects.history_start(ANCHOR), ANCHOR)]
    columns = ReadingColumns.concat(batches)
    return {p.id: columns.take(columns.point_id == i) for i, p in enumerate(site.points())}


def at(columns: ReadingColumns) -> np.ndarray:
    return columns.at_us.view("datetime64[us]")


def during(columns: ReadingColumns, kind: DefectKind) -> np.ndarray:
    (defect,) = (d for d in defects.defects(ANCHOR) if d.kind is kind)
    start, end = instants([defect.start, defect.end])
    return columns.value[(at(columns) >= start) & (at(columns) < end)]


def registers(site: Site) -> list[Point]:
    return [p for p in site.points() if p.kind is ReadingKind.REGISTER]


@pytest.mark.parametrize(
    ("site", "pue"), [("sh1", 1.438458), ("nb1", 1.729035)], ids=["joint-stock bank", "other institution"]
)
def test_annual_pue_is_golden(simulation: Simulation, site: str, pue: float) -> None:
    assert annual_pue(simulation, site, datetime(2026, 11, 1, tzinfo=UTC)) == pytest.approx(pue, abs=1e-6)


def annual_pue(simulation: Simulation, site: str, end: datetime) -> float:
    return energy(simulation, site, "facility", end - timedelta(days=365), end) / energy(
        simulation, site, "it", end - timedelta(days=365), end
    )


def energy(simulation: Simulation, site: str, what: str, start: datetime, end: datetime) -> float:
    def of(*signals: str) -> float:
        plant = simulation.plant(site)
        return sum(plant.integral(s, end) - plant.integral(s, start) for s in signals)

    if site == "sh1":
        return of(*FACILITY) - of("office") if what == "facility" else of(*IT)
    return of("incomer") + 0.35 * of("plant") if what == "facility" else of("ups_out")


def pue(simulation: Simulation, start: datetime, end: datetime) -> float:
    return energy(simulation, "sh1", "facility", start, end) / energy(simulation, "sh1", "it", start, end)


def test_summer_months_cross_the_limit_and_winter_months_do_not(simulation: Simulation) -> None:
    july = pue(simulation, datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 8, 1, tzinfo=UTC))
    january = pue(simulation, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    assert january < 1.37 < 1.5 < july < 1.56


def test_only_the_declared_defects_disturb_the_registers(
    fleet: Fleet, sh1: dict[str, ReadingColumns]
) -> None:
    for point in registers(fleet.site["sh1"]):
        assert odd_steps(point, sh1[point.id]) == EXPECTED_STEPS.get(point.id, {}), point.id


def test_the_branch_has_no_defect(fleet: Fleet, simulation: Simulation) -> None:
    site = fleet.site["nb1"]
    readings = by_point(site, simulation)
    assert all(odd_steps(p, readings[p.id]) == {} for p in registers(site))


def odd_steps(point: Point, columns: ReadingColumns) -> dict[StepKind, int]:
    steps = walk(columns.at_us, columns.value, max_power=point.max_power_kw, modulus=point.modulus_kwh)
    counted = Counter(StepKind(k) for k in steps.kind.tolist())
    return {k: n for k, n in counted.items() if k not in (StepKind.FIRST, StepKind.NORMAL)}


def test_energy_of_the_registers_is_that_of_the_plant(
    simulation: Simulation, sh1: dict[str, ReadingColumns]
) -> None:
    for point, signal in (("sh1-utility-a.kwh", "utility_a"), ("sh1-rack-101.kwh", "rack_101")):
        columns = sh1[point]
        start, end = (datetime.fromtimestamp(columns.at_us[i] / 1e6, UTC) for i in (0, -1))
        true_kwh = simulation.plant("sh1").integral(signal, end) - simulation.plant("sh1").integral(
            signal, start
        )
        assert columns.value[-1] - columns.value[0] == pytest.approx(true_kwh, abs=1)


def test_a_gap_leaves_no_readings(sh1: dict[str, ReadingColumns]) -> None:
    for point, hours in (("sh1-chiller-2.kwh", 7.25), ("sh1-misc.kw", 5.25)):
        longest_s = np.diff(sh1[point].at_us).max() / 1e6
        assert hours * 3600 <= longest_s <= hours * 3600 + 900


def test_a_stuck_meter_repeats_itself(sh1: dict[str, ReadingColumns]) -> None:
    held = during(sh1["sh1-office.kw"], DefectKind.STUCK)
    assert len(held) == 104
    assert len(set(held.tolist())) == 1


def test_a_dead_feed_shows_its_offset_while_the_register_stands_still(sh1: dict[str, ReadingColumns]) -> None:
    assert set(during(sh1["sh1-utility-b.kw"], DefectKind.NEGATIVE_POWER).tolist()) == {-8.4}
    assert np.ptp(during(sh1["sh1-utility-b.kwh"], DefectKind.NEGATIVE_POWER)) <= 0.5


def test_a_drifting_clock_stays_in_order_and_is_set_right(sh1: dict[str, ReadingColumns]) -> None:
    ahead_s = sh1["sh1-heat.kwh"].at_us // 10**6 % 900
    assert ahead_s.max() in range(350, 361)
    assert (np.diff(sh1["sh1-heat.kwh"].at_us) > 0).all()
    assert ahead_s[-1] == 0


def test_a_late_file_holds_what_history_lacks(
    fleet: Fleet, simulation: Simulation, sh1: dict[str, ReadingColumns]
) -> None:
    ids, late = simulation.late_file(fleet.site["sh1"])
    assert {ids[i] for i in late.point_id.tolist()} == {"sh1-epms.kwh"}
    assert len(late) == 96
    both = np.sort(np.concatenate([sh1["sh1-epms.kwh"].at_us, late.at_us]))
    assert set(np.diff(both).tolist()) == {900 * 10**6}


def test_history_and_live_values_meet(
    fleet: Fleet, simulation: Simulation, sh1: dict[str, ReadingColumns]
) -> None:
    site = fleet.site["sh1"]
    for meter in site.meters:
        live = simulation.meter("sh1", meter)
        for point in meter.points:
            if point.kind in (ReadingKind.REGISTER, ReadingKind.POWER):
                last = sh1[point.id]
                moment = datetime.fromtimestamp(last.at_us[-1] / 1e6, UTC)
                assert live.value(channel_of(point), moment) == last.value[-1]


def test_a_restarted_demo_goes_on_where_it_stopped(fleet: Fleet, simulation: Simulation) -> None:
    meter = fleet.meter["sh1-pdu-b2"][1]
    later = ANCHOR + timedelta(days=3)
    assert Simulation(ANCHOR).meter("sh1", meter).value("energy_import_kwh", later) == simulation.meter(
        "sh1", meter
    ).value("energy_import_kwh", later)


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
def test_every_defect_lies_inside_the_history_whatever_the_date(anchor: datetime) -> None:
    start, end = defects.history_start(anchor), defects.local_midnight(anchor)
    assert all(start < d.start <= d.end <= end for d in defects.defects(anchor))
    assert all(start < e.start < e.end <= end for e in defects.upsets("sh1", anchor))


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
def test_both_measures_have_a_year_before_and_some_months_after_whatever_the_date(anchor: datetime) -> None:
    done = defects.retrofit(anchor)
    assert (done.set_point.month, done.fans.month) == (4, 9)
    assert done.first - defects.baseline_start(anchor) >= timedelta(days=365)
    assert anchor - done.last >= timedelta(days=75)
    assert done.last + timedelta(days=28) < done.fouling < anchor - timedelta(days=40)
    assert anchor - defects.baseline_start(anchor) < timedelta(days=815)


def plant_kw(simulation: Simulation, signals: tuple[str, ...], at: datetime, days: int) -> float:
    """Mean power of some signals over days that begin at an instant. [kW]"""
    plant, end = simulation.plant("sh1"), at + timedelta(days=days)
    return sum(plant.integral(s, end) - plant.integral(s, at) for s in signals) / days / 24


def test_measures_save_and_the_fouled_condenser_costs(simulation: Simulation) -> None:
    done, plain = defects.retrofit(ANCHOR), Simulation(ANCHOR)
    events = (defects.cooling_failure(ANCHOR),)
    plain._plants["sh1"] = Plant("sh1", defects.epoch(ANCHOR), events, defects.origin(ANCHOR))
    overhead = (
        "chiller_1",
        "chiller_2",
        "crah_1",
        "crah_2",
        "pumps",
        "ups_and_cable_loss",
        "lighting",
        "misc",
    )

    def saved(signals: tuple[str, ...], at: datetime, days: int) -> float:
        return 1 - plant_kw(simulation, signals, at, days) / plant_kw(plain, signals, at, days)

    before = timedelta(days=10)
    assert saved(overhead, done.set_point - before, 10) == pytest.approx(0, abs=1e-12)
    assert 0.03 < saved(overhead, done.set_point, 60) < 0.12
    assert saved(("crah_1", "crah_2"), done.fans, 25) == pytest.approx(1 - 0.74 / 1.02, abs=1e-3)
    later = done.fouling + timedelta(days=30)
    assert saved(("chiller_2",), later, 4) < saved(("chiller_1",), later, 4) - 0.1


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
def test_the_hour_of_failed_cooling_alone_crosses_the_limit(anchor: datetime) -> None:
    simulation, failure = Simulation(anchor), defects.cooling_failure(anchor)
    before = pue(simulation, failure.start - timedelta(hours=6), failure.start)
    assert before < 1.45
    assert pue(simulation, failure.start, failure.end) > 1.6
    after = failure.end + timedelta(hours=2)
    assert pue(simulation, after, after + timedelta(hours=3)) < 1.45


@pytest.mark.parametrize("anchor", ANCHORS[3::7], ids=str)
def test_the_quality_checks_find_exactly_the_table(fleet: Fleet, anchor: datetime) -> None:
    simulation = Simulation(anchor)
    found = [f for site in fleet.sites for f in findings(site, simulation)]
    expected = list(defects.expected_findings(anchor))
    assert sorted((f.kind.value, f.point) for f in found) == sorted((e.kind.value, e.point) for e in expected)
    for e in expected:
        (f,) = (f for f in found if (f.kind.value, f.point) == (e.kind.value, e.point))
        assert f.start <= e.end + timedelta(minutes=15)
        assert f.end >= e.start - timedelta(minutes=15)


def findings(site: Site, simulation: Simulation) -> list[Finding]:
    start = defects.history_start(simulation.anchor)
    batches = [c for _, c in simulation.history(site, start, simulation.anchor)]
    columns = ReadingColumns.concat([*batches, simulation.late_file(site)[1]])
    columns = columns.take(np.argsort(columns.at_us, kind="stable"))
    series = {p.id: series_of(columns, i) for i, p in enumerate(site.points())}
    return site_findings(site, series, {e.point: [event_of(e)] for e in simulation.ledger(site)})


def series_of(columns: ReadingColumns, index: int) -> Series:
    own = columns.take(columns.point_id == index)
    return Series(own.at_us, own.value, own.interval_s, own.valid_s)


def event_of(declared: defects.DeclaredEvent) -> Event:
    start_us, end_us = (int(t.timestamp() * 1e6) for t in (declared.start, declared.end))
    return Event(EventKind(declared.kind), start_us, end_us, declared.old_value, declared.new_value)


def test_findings_name_points_of_the_site(fleet: Fleet) -> None:
    found = defects.expected_findings(ANCHOR)
    assert {f.point for f in found} <= set(fleet.point)
    assert {f.kind for f in found} == set(DefectKind) - {DefectKind.LATE_FILE}


def test_the_ledger_declares_the_exchange_and_the_tests(fleet: Fleet) -> None:
    kinds = Counter(e.kind for e in defects.declared_events(ANCHOR))
    assert kinds == {"replaced": 1, "test": 13}
    assert all(e.point in fleet.point for e in defects.declared_events(ANCHOR))


def test_the_generator_runs_when_a_test_is_declared(simulation: Simulation) -> None:
    tests = [e for e in defects.declared_events(ANCHOR) if e.kind == "test"]
    for event in tests:
        middle = event.start + (event.end - event.start) / 2
        assert simulation.plant("sh1").value("generator", middle) > 500
        assert simulation.plant("sh1").value("utility_a", middle) == pytest.approx(0, abs=1e-9)


def test_a_meter_refuses_a_channel_it_has_not(fleet: Fleet, simulation: Simulation) -> None:
    with pytest.raises(NotFound, match="no channel"):
        simulation.meter("sh1", fleet.meter["sh1-misc"][1]).value("ripeness_percent", ANCHOR)


def test_a_step_must_be_whole_seconds(fleet: Fleet, simulation: Simulation) -> None:
    site = fleet.site["nb1"]
    with pytest.raises(SeriesError, match="whole seconds"):
        list(simulation.history(site, ANCHOR - timedelta(hours=1), ANCHOR, timedelta(milliseconds=1.5)))
