"""``verify`` is silent about a sound store and names every kind of damage."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from app.jobs import rollup
from app.jobs.verify import verify
from app.store import readings
from app.store.sites import Stored
from tests.integration.test_whole_path import ALL, START, put, register, stored

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
