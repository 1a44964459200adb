"""The baseline that is proposed to people, and when it is not."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from app.domain.baseline import Baseline, NoBaseline
from app.domain.measure import Boundary, Measure
from app.domain.proposal import proposal
from tests import baseline_plants as plants

FIRST = plants.FIRST_DAY.astype("datetime64[D]").item()
rng = np.random.default_rng(4)
IT_KW, WET_C = plants.random_load_kw(rng, 800), plants.random_weather_c(rng, 800)
PLANT = plants.Plant.random(rng).overhead_kw(IT_KW, WET_C)


def rows(count: int) -> plants.Conditions:
    noise = 1 + plants.persistent(np.random.default_rng(5), count, 0.3, 0.02)
    return plants.days(PLANT[:count] * noise, IT_KW[:count], WET_C[:count])


def measure(on: date, key: str = "fans") -> Measure:
    return Measure.declared(
        key=key, what=key, where=Boundary.parse("facility"), implementation_start=on, evidence="x"
    )


def day(number: int) -> date:
    found: date = FIRST + timedelta(days=number)
    return found


def test_the_last_year_is_proposed() -> None:
    found = proposal(rows(700), [], day(700))
    assert found is not None
    assert (found.start, found.end, found.is_ready) == (day(335), day(700), True)
    assert isinstance(found.baseline, Baseline)
    assert found.baseline.row_count == 365


def test_a_measure_within_the_year_moves_it_before_the_work() -> None:
    found = proposal(rows(700), [measure(day(600), "fans"), measure(day(500), "set-point")], day(700))
    assert found is not None
    assert (found.start, found.end) == (day(135), day(500))
    before = proposal(rows(700), [measure(day(100))], day(700))
    assert before is not None
    assert before.start == day(335), "work of long ago is no reason"


def test_a_short_history_is_proposed_as_it_is_or_not_ready() -> None:
    found = proposal(rows(200), [], day(200))
    assert found is not None
    assert (found.start, found.end) == (FIRST, day(200))
    early = proposal(rows(40), [], day(40))
    assert early is not None
    assert not early.is_ready
    assert isinstance(early.baseline, NoBaseline)
    assert [r.code for r in early.baseline.reasons] == ["too_little_history"]
    assert proposal(rows(1).take(np.zeros(1, np.bool_)), [], day(1)) is None
