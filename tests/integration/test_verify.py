"""``verify`` is silent about a sound store and names every kind of damage."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.reading import Reading
from app.jobs import rollup
from app.jobs.verify import verify
from app.store import readings, sites
from app.store.sites import Stored
from tests.integration.test_whole_path import ALL, START, document, put, register, stored

__all__ = ["stored"]


@pytest.fixture
def sound(engine: sa.Engine, stored: Stored) -> Stored:
    put(engine, stored, ALL)
    rollup.run(engine)
    return stored


def test_a_sound_store_has_no_breach(engine: sa.Engine, sound: Stored) -> None:
    outcome = verify(engine)
    assert outcome.breaches == ()
    assert (outcome.points, outcome.intervals, outcome.pending) == (4, 4 * 96, 0)


@pytest.mark.parametrize(
    ("damage", "rules"),
    [
        (
            "UPDATE energy_15m SET energy_kwh = energy_kwh + 0.1 WHERE point_id = 1 AND at = :at",
            {"rollup", "day", "site"},
        ),
        ("DELETE FROM energy_15m WHERE point_id = 2 AND at = :at", {"rollup", "day", "site"}),
        ("UPDATE energy_day SET energy_kwh = energy_kwh * 2 WHERE point_id = 1", {"day"}),
        ("UPDATE site_15m SET it_kwh = it_kwh - 1 WHERE room = '' AND at = :at", {"site"}),
        ("INSERT INTO energy_day VALUES (999, '2026-03-01', 1, 1, 0)", {"orphan"}),
        ("UPDATE readings SET value = value + 5 WHERE point_id = 1 AND at = :at", {"rollup"}),
    ],
)
def test_damage_is_named(engine: sa.Engine, sound: Stored, damage: str, rules: set[str]) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(damage), {"at": START + timedelta(hours=5)} if ":at" in damage else {})
    assert {b.rule for b in verify(engine).breaches} == rules


def test_readings_that_wait_for_their_rollup_are_no_breach(engine: sa.Engine, sound: Stored) -> None:
    late = register("main.kwh", 700, 30)[-20:]
    with engine.begin() as connection:
        readings.ingest_readings(connection, late, dict(sound.point_id))
    outcome = verify(engine)
    assert outcome.breaches == ()
    assert outcome.pending == 1


def test_children_that_take_more_than_goes_in_are_a_breach(engine: sa.Engine, stored: Stored) -> None:
    put(engine, stored, [*register("main.kwh", 400, 24), *register("ups.kwh", 500, 24)])
    rollup.run(engine)
    assert {b.rule for b in verify(engine).breaches} == {"pue"}


WRONG_CLOCK = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - {id: main, points: [{id: main.kwh, role: facility, kind: register, interval_s: 900}]}
      - {id: office, points: [{id: office.kw, role: non_dc, kind: power, interval_s: 900}]}
      - {id: ups, points: [{id: ups.kwh, role: it_ups_output, kind: register, interval_s: 900}]}
"""


def test_a_clock_30_h_ahead_for_seconds_leaves_days_that_are_not_judged(engine: sa.Engine) -> None:
    """Registers that moved for two seconds over 30 h, beside a power that is known for those alone."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(WRONG_CLOCK).fleet)
        known = sites.load(connection)
    true_s = np.arange(0, 16, 2)
    stamped_s = np.where(true_s > 10, true_s + 30 * 3600, true_s)
    for point, value in (
        ("main.kwh", 1000 + true_s * 1080 / 3600),
        ("ups.kwh", 1000 + true_s * 700 / 3600),
        ("office.kw", np.full(len(true_s), 54.0)),
    ):
        at = [START + timedelta(seconds=float(s)) for s in stamped_s]
        put(engine, known, [Reading(point, t, float(v)) for t, v in zip(at, value, strict=True)])
    rollup.run(engine)
    told = document(engine, known, 24)
    assert told.facility_kwh < told.it_kwh
    assert told.pue is None
    assert "coverage" in (told.reason or "")
    assert verify(engine).breaches == ()
