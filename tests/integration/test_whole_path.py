"""Readings in, PUE out: the path over the real store, from any order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.period import Period, Step
from app.domain.reading import Reading
from app.jobs import rollup
from app.store import deployment, energy, pue, readings, sites, sums
from app.store.sites import Stored

START = datetime(2026, 3, 1, tzinfo=UTC)

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    profiles: [cbrc_13fyp, gb40879_2021]
    meters:
      - id: main
        rated_power_kw: 1000
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        room: hall-1
        rated_power_kw: 800
        points: [{id: ups.kwh, role: it_ups_output, kind: register}]
      - id: chiller
        room: hall-1
        rated_power_kw: 400
        points:
          - {id: chiller.kwh, role: cooling, kind: register}
          - {id: chiller.kw, role: cooling, kind: power}
"""


@pytest.fixture
def stored(engine: sa.Engine) -> Stored:
    """The site, declared."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE).fleet)
        return sites.load(connection)


def register(point: str, power_kw: float, hours: int, start_kwh: float = 1000.0) -> list[Reading]:
    """Quarter-hourly readings of a register under constant load."""
    step_kwh = power_kw / 4
    return [
        Reading(point, START + timedelta(minutes=15 * i), start_kwh + step_kwh * i)
        for i in range(hours * 4 + 1)
    ]


def put(engine: sa.Engine, stored: Stored, rows: Sequence[Reading]) -> None:
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))


def document(engine: sa.Engine, stored: Stored, hours: int, room: str = "") -> pue.PueDocument:
    period = Period(START, START + timedelta(hours=hours))
    with engine.connect() as connection:
        profiles = deployment.limit_profiles(connection)
        return pue.document(connection, stored, "sh1", period, profiles, room)


ALL = [
    *register("main.kwh", 700, 24),
    *register("ups.kwh", 500, 24),
    *register("chiller.kwh", 150, 24),
    *(Reading("chiller.kw", START + timedelta(minutes=15 * i), 150.0) for i in range(97)),
]


def test_pue_of_a_day_is_the_ratio_of_the_registers(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, ALL)
    assert rollup.run(engine).stretches == 4
    figure = document(engine, stored, 24)
    assert figure.pue == pytest.approx(1.4, rel=1e-12)
    assert (figure.facility_kwh, figure.it_kwh) == (pytest.approx(16_800), pytest.approx(12_000))
    assert figure.overhead_kwh["cooling"] == pytest.approx(3_600)
    assert figure.unmetered_kwh == pytest.approx(1_200)
    assert (figure.label, figure.category, figure.kind) == ("PUE1", 1, "interim")
    assert figure.coverage_ratio == 1.0
    assert figure.uncertainty == pytest.approx(1.4 * 2**0.5 / 100)
    verdicts = {v.profile: (v.limit, v.verdict.value, v.plain.value) for v in figure.verdicts}
    assert verdicts["cbrc_13fyp"] == (1.5, "pass", "pass")


def test_partial_pue_of_a_room_sums_its_classes(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, ALL)
    rollup.run(engine)
    figure = document(engine, stored, 24, room="hall-1")
    assert figure.pue == pytest.approx(650 / 500)
    assert figure.label == "pPUE1"


def test_readings_in_random_batches_give_the_same_intervals(engine: sa.Engine, stored: Stored) -> None:
    order = np.random.default_rng(7).permutation(len(ALL))
    for batch in np.array_split(order, 9):
        put(engine, stored, [ALL[i] for i in batch])
        rollup.run(engine)
    assert document(engine, stored, 24).pue == pytest.approx(1.4, rel=1e-9)
    with engine.connect() as connection:
        cells = energy.load_quarter_hours(
            connection, [stored.point_id["main.kwh"]], START, START + timedelta(days=2)
        )
    assert cells[stored.point_id["main.kwh"]].energy_kwh == pytest.approx([175.0] * 96)


def test_the_same_readings_again_change_and_queue_nothing(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, ALL)
    rollup.run(engine)
    put(engine, stored, ALL)
    assert rollup.run(engine).stretches == 0


def test_days_of_the_sites_zone_add_up(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, ALL)
    rollup.run(engine)
    number = stored.point_id["main.kwh"]
    site = stored.fleet.site["sh1"]
    for start_h, end_h in ((0, 24), (3, 20), (17, 18)):
        period = Period(START + timedelta(hours=start_h), START + timedelta(hours=end_h))
        with engine.connect() as connection:
            found = sums.by_point(connection, site, [number], period)[number]
            bars = energy.series_by_point(connection, site, [number], period, Step.DAY)
        assert found.energy_kwh == pytest.approx(700 * (end_h - start_h))
        assert sum(bar.energy.energy_kwh for bar in bars) == pytest.approx(found.energy_kwh)


def test_without_facility_readings_no_pue_is_said(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, register("ups.kwh", 500, 24))
    rollup.run(engine)
    figure = document(engine, stored, 24)
    assert figure.pue is None
    assert (
        figure.reason
        == "no reading covers facility and IT energy at the same time in this period: main.kwh 0.0 %"
    )


def test_a_ratio_below_one_is_a_metering_fault(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, [*register("main.kwh", 400, 24), *register("ups.kwh", 500, 24)])
    rollup.run(engine)
    figure = document(engine, stored, 24)
    assert figure.pue is None
    assert "metering fault" in (figure.reason or "")


def test_a_changed_definition_computes_the_history_again(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, ALL)
    rollup.run(engine)
    changed = SITE.replace(
        "kind: register}]\n      - id: ups", "kind: register, multiplier: 1.1}]\n      - id: ups"
    )
    with engine.begin() as connection:
        sites.sync(connection, config.parse(changed).fleet)
    rollup.run(engine)
    assert document(engine, stored, 24).pue == pytest.approx(1.54)


def test_retention_of_raw_readings_leaves_the_old_figures_alone(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, ALL)
    rollup.run(engine)
    horizon = START + timedelta(hours=12)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM readings WHERE at < :at"), {"at": horizon})
        connection.execute(sa.text("INSERT INTO horizons VALUES ('readings', :at)"), {"at": horizon})
    put(engine, stored, [Reading("main.kwh", START + timedelta(hours=3, minutes=1), 99.0)])
    rollup.run(engine)
    assert document(engine, stored, 24).pue == pytest.approx(1.4, rel=1e-9)
    assert document(engine, stored, 24).coverage_ratio == 1.0


def test_imports_older_than_retention_still_add_figures(engine: sa.Engine, stored: Stored) -> None:
    with engine.begin() as connection:
        later = START + timedelta(days=30)
        connection.execute(sa.text("INSERT INTO horizons VALUES ('readings', :at)"), {"at": later})
    for part in (ALL[::2], ALL[1::2]):
        put(engine, stored, part)
        rollup.run(engine)
    assert document(engine, stored, 24).pue == pytest.approx(1.4, rel=1e-9)
