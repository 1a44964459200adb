"""Readings that contradict each other at the first polls of a meter are failures that say why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from collectors.base import Poll
from collectors.first_polls import FIRST_POLLS, FirstPolls

AT = datetime(2026, 11, 30, tzinfo=UTC)
SOUND = {"power_kw": 6.0, "power_l1_kw": 1.0, "power_l2_kw": 2.0, "power_l3_kw": 3.0}


def meter(*channels: str) -> FirstPolls:
    points = [Point(id=f"m.{c}", role=Role.NONE, kind=ReadingKind.GAUGE, unit="1") for c in channels]
    return FirstPolls("m", points, {p.id: p.id.removeprefix("m.") for p in points})


def poll(values: dict[str, float]) -> Poll:
    return Poll(AT, tuple(f"m.{c}" for c in values), tuple(values.values()))


def test_what_agrees_is_stored_and_later_polls_are_not_looked_at() -> None:
    check = meter(*SOUND)
    for _ in range(FIRST_POLLS):
        assert check.checked(poll(SOUND)) == poll(SOUND)
    wrong = poll({**SOUND, "power_kw": 60.0})
    assert check.checked(wrong) is wrong


@pytest.mark.parametrize("sound", range(FIRST_POLLS))
def test_what_contradicts_is_a_failure_until_it_agrees(sound: int) -> None:
    check = meter(*SOUND, "frequency_hz")
    for _ in range(sound):
        check.checked(poll(SOUND))
    for _ in range(5):
        found = check.checked(poll({**SOUND, "power_kw": 60.0, "frequency_hz": 50.0}))
        assert (found.points, found.values, found.at) == (("m.frequency_hz",), (50.0,), AT)
        assert {failure.point for failure in found.failures} == {f"m.{c}" for c in SOUND}
        assert "the phases sum to 6.000 kW, the total is 60.000 kW" in str(found.failures[0])
        assert "check profile and wiring" in str(found.failures[0])
    assert check.checked(poll(SOUND)) == poll(SOUND)


def test_a_sensor_that_is_taken_out_is_seen_at_any_time() -> None:
    check = meter("power_kw", "temperature_c")
    for _ in range(10):
        assert check.checked(poll({"power_kw": 1.0, "temperature_c": 21.0})).failures == ()
    found = check.checked(poll({"power_kw": 1.0, "temperature_c": -273.0}))
    assert (found.points, found.values) == (("m.power_kw",), (1.0,))
    assert str(found.failures[0]).startswith("m: m.temperature_c: temperature_c of -273: ")


def test_failures_of_the_device_stay_and_a_silent_device_is_not_trusted() -> None:
    check = meter(*SOUND)
    for _ in range(10):
        assert check.checked(Poll(AT)) == Poll(AT)
    assert len(check.checked(poll({**SOUND, "power_kw": 60.0})).failures) == 4


def test_a_single_point_has_nothing_to_contradict_it() -> None:
    one = poll({"power_kw": -5.0})
    assert meter("power_kw").checked(one) is one


def read_every_minute(*energies: float, kw: float = 1.0) -> list[bool]:
    """Whether the register of each poll is kept."""
    check = meter("power_kw", "energy_import_kwh")
    kept = []
    for minute, energy in enumerate(energies):
        one = poll({"power_kw": kw, "energy_import_kwh": energy})._replace(at=AT + timedelta(minutes=minute))
        kept.append("m.energy_import_kwh" in check.checked(one).points)
    return kept


def test_a_register_in_wh_that_is_taken_for_kwh_is_seen_at_the_second_poll() -> None:
    assert read_every_minute(123_456_000, 123_456_017, 123_456_033) == [True, False, False]


@pytest.mark.parametrize(
    "energies",
    [
        [1000.000, 1000.017, 1000.033],  # fine steps
        [1000.0, 1000.0, 1001.0],  # whole kWh: one step
        [12_000, 12_000, 12_010],  # tens of kWh
        [1000.0, 1000.0, 1000.1],
        [1000.5, 0.0, 0.017],  # reset
    ],
)
def test_a_register_that_rises_as_the_power_says_is_kept(energies: list[float]) -> None:
    assert read_every_minute(*energies) == [True, True, True]


def test_a_register_without_load_may_move_a_little() -> None:
    assert read_every_minute(1000.0, 1000.001, 1000.002, kw=0.0) == [True, True, True]
