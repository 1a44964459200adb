"""What bounds a point without a rating: its meter's other points, its feeders, the site's supply."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from app.domain import energy
from app.domain.quality.detect import point_findings
from app.domain.quality.units import unit_changes
from app.domain.quantity import ReadingKind, Role
from app.domain.site import RATING_MARGIN, Meter, Point, Site
from tests.plant import series

HOUR_US = 3_600_000_000


def meter(name: str, role: Role, *, fed_by: tuple[str, ...] = (), rated_kw: float = math.inf) -> Meter:
    point = Point(id=f"{name}.kwh", role=role, kind=ReadingKind.REGISTER, interval_s=3600)
    return Meter(id=name, points=(point,), fed_by=fed_by, rated_power_kw=rated_kw)


def ceiling_kw(site: Site, point_id: str) -> float:
    owner = site.meter_of[point_id]
    return site.effective(owner, next(p for p in owner.points if p.id == point_id)).ceiling_kw


def site(*meters: Meter) -> Site:
    return Site(id="s", institution="b", time_zone="UTC", meters=meters)


def test_what_feeds_a_meter_bounds_it() -> None:
    plant = site(
        meter("main", Role.FACILITY, rated_kw=1000),
        meter("a", Role.IT_UPS_OUTPUT, fed_by=("main",), rated_kw=200),
        meter("b", Role.IT_UPS_OUTPUT, fed_by=("main",), rated_kw=300),
        meter("pdu", Role.NONE, fed_by=("a", "b")),
        meter("rack", Role.NONE, fed_by=("pdu",)),
        meter("pump", Role.COOLING),
    )
    assert ceiling_kw(plant, "rack.kwh") == ceiling_kw(plant, "pdu.kwh") == 500 * RATING_MARGIN
    assert ceiling_kw(plant, "pump.kwh") == 1000 * RATING_MARGIN
    assert math.isinf(ceiling_kw(plant, "a.kwh"))  # its own rating counts


def test_nothing_bounds_what_is_made_on_the_site_or_is_fed_by_an_unknown_supply() -> None:
    plant = site(
        meter("main", Role.FACILITY, rated_kw=1000),
        meter("pv", Role.RENEWABLE, rated_kw=math.inf),
        meter("ups", Role.IT_UPS_OUTPUT, fed_by=("main",)),
        meter("pump", Role.COOLING),
    )
    assert ceiling_kw(plant, "ups.kwh") == 1000 * RATING_MARGIN
    assert math.isinf(ceiling_kw(plant, "pv.kwh"))
    assert math.isinf(ceiling_kw(plant, "pump.kwh"))  # the sun may feed it as well


def test_the_meters_other_points_bound_it() -> None:
    kw = Point(id="m.kw", role=Role.COOLING, kind=ReadingKind.POWER, max_power_kw=60)
    both = replace(meter("m", Role.COOLING), points=(*meter("m", Role.COOLING).points, kw))
    assert ceiling_kw(site(both), "m.kwh") == 60


def test_an_effective_point_is_one_that_could_be_declared() -> None:
    plant = site(meter("main", Role.FACILITY, rated_kw=100), meter("m", Role.COOLING, fed_by=("main",)))
    for owner in plant.meters:
        found = plant.effective(owner, owner.points[0])
        assert found == replace(found)


@pytest.mark.parametrize("values", [[50_040.0, 900_000.0], [50_040.0, 50_050.0, 900_000.0, 900_010.0]])
def test_a_jump_with_hardly_any_history_is_not_booked(values: list[float]) -> None:
    plant = site(meter("main", Role.FACILITY, rated_kw=100), meter("m", Role.COOLING, fed_by=("main",)))
    owner = plant.meter_of["m.kwh"]
    point = plant.effective(owner, owner.points[0])
    readings = series(np.arange(len(values)) * HOUR_US, np.array(values))
    assert energy.spans(readings, point).energy_kwh.sum() == pytest.approx(10 * (len(values) - 2))
    assert [f.kind for f in point_findings(point, readings)] == ["replacement_suspected"]


def test_power_beyond_what_feeds_the_meter_is_a_spike() -> None:
    plant = site(meter("main", Role.FACILITY, rated_kw=100), meter("m", Role.COOLING, fed_by=("main",)))
    owner = replace(
        plant.meter_of["m.kwh"], points=(Point(id="m.kw", role=Role.COOLING, kind=ReadingKind.POWER),)
    )
    plant = site(plant.meters[0], owner)
    point = plant.effective(owner, owner.points[0])
    readings = series(np.arange(3) * 900_000_000, np.array([10.0, 130.0, 10.0]))
    assert len(energy.spans(readings, point).energy_kwh) == 0
    assert "spike" in [f.kind for f in point_findings(point, readings)]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_every_second_change_of_unit_is_the_way_back(times: int) -> None:
    value = 5000 + 25.0 * np.arange(96 * times)
    for n in range(times):
        value[96 * n + 20 : 96 * n + 60] *= 1000
    point = meter("m", Role.COOLING).points[0]
    found = unit_changes(point, series(np.arange(len(value)) * 900_000_000, value))
    assert [f.evidence["factor"] for f in found] == ["1000"] * times
    assert not any("goes_on" in f.evidence for f in found)
