"""PUE categories by place and by the interval at which points were read (ISO/IEC 30134-2)."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain import pue
from app.domain.energy import QuarterHours
from app.domain.period import QUARTER_HOUR_US
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site

COUNT = 4


def site(role: Role) -> Site:
    grid = Meter(id="grid", points=(Point(id="grid.e", role=Role.FACILITY, kind=ReadingKind.REGISTER),))
    it = Meter(id="it", points=(Point(id="it.e", role=role, kind=ReadingKind.REGISTER),))
    return Site(id="s", institution="b", time_zone="UTC", meters=(grid, it))


def cells(energy_kwh: float, interval_s: int) -> QuarterHours:
    ones = np.ones(COUNT)
    return QuarterHours(
        np.arange(COUNT) * QUARTER_HOUR_US,
        energy_kwh * ones,
        ones,
        0 * ones,
        np.zeros(COUNT, np.int8),
        np.full(COUNT, interval_s, np.int32),
    )


@pytest.mark.parametrize(
    ("interval_s", "category"),
    [(60, 3), (900, 3), (960, 3), (961, 2), (1800, 2), (86_400, 2), (90_000, 2), (90_001, 1), (200_000, 1)],
)
def test_a_category_asks_for_readings_often_enough(interval_s: int, category: int) -> None:
    """15 minutes for category 3 and a day for category 2, each with room for a late reading."""
    found = pue.pair(
        pue.boundary(site(Role.IT_EQUIPMENT_INPUT)),
        {"grid.e": cells(15.0, 60), "it.e": cells(10.0, interval_s)},
        0,
        COUNT * QUARTER_HOUR_US,
    )
    assert found.category.tolist() == [category] * COUNT
    assert pue.Totals.of(found).category() == category


@pytest.mark.parametrize(
    ("role", "category"),
    [(Role.IT_UPS_OUTPUT, 1), (Role.IT_PDU_OUTPUT, 2), (Role.IT_EQUIPMENT_INPUT, 3)],
)
def test_the_place_bounds_the_category(role: Role, category: int) -> None:
    found = pue.pair(
        pue.boundary(site(role)),
        {"grid.e": cells(15.0, 60), "it.e": cells(10.0, 60)},
        0,
        COUNT * QUARTER_HOUR_US,
    )
    assert found.category.tolist() == [category] * COUNT


def test_a_few_late_readings_cost_no_category() -> None:
    """95 % of the covered time decide."""
    totals = pue.Totals(covered_s=1000.0, covered_s_by_category={3: 950.0, 2: 50.0, 1: 0.0})
    assert totals.category() == 3
    assert pue.Totals(covered_s=1000.0, covered_s_by_category={3: 949.0, 2: 51.0}).category() == 2
    assert pue.Totals().category() is None


def test_cells_of_points_are_the_same_joined_and_apart() -> None:
    limits, it = pue.boundary(site(Role.IT_PDU_OUTPUT)), cells(10.0, 60)
    apart = {"it.e": it.take(slice(1, None)), "grid.e": cells(15.0, 60).take(slice(0, 3))}
    joined = pue.JoinedCells.of({**apart, "else": it}, ["else", "grid.e", "it.e", "nowhere"])
    one, other = (pue.pair(limits, known, 0, COUNT * QUARTER_HOUR_US) for known in (apart, joined))
    assert one.at_us.tolist() == other.at_us.tolist() == [QUARTER_HOUR_US, 2 * QUARTER_HOUR_US]
    assert one.it_kwh.tolist() == other.it_kwh.tolist() == [10.0, 10.0]
    assert one.facility_kwh.tolist() == other.facility_kwh.tolist() == [15.0, 15.0]


def test_without_any_cells_nothing_is_known() -> None:
    limits = pue.boundary(site(Role.IT_PDU_OUTPUT))
    for nothing in ({}, {"else": cells(1.0, 60)}, pue.JoinedCells.of({}, ["grid.e"])):
        assert not len(pue.pair(limits, nothing, 0, COUNT * QUARTER_HOUR_US).at_us)
