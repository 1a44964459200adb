"""The declared fleet goes into the database and comes back the same; changes queue what they move."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa

from app.domain.quantity import ReadingKind, Role
from app.domain.site import (
    Declared,
    Design,
    FacilityIs,
    Fleet,
    Institution,
    InstitutionClass,
    Meter,
    Point,
    Site,
    SiteLimit,
)
from app.jobs import rollup
from app.store import engine as stores
from app.store import readings, sites
from tests.integration.test_readings import batch

UTILITY = Meter(
    id="m1",
    rated_power_kw=900,
    room="A",
    collector={"kind": "modbus", "host": "10.0.0.1", "unit": 3},
    points=(
        Point(id="m1.register", role=Role.FACILITY, kind=ReadingKind.REGISTER, modulus_kwh=1e6),
        Point(id="m1.power", role=Role.FACILITY, kind=ReadingKind.POWER, unit="W"),
    ),
)
PDU = Meter(
    id="m2",
    fed_by=("m1",),
    points=(Point(id="m2.register", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, weight=0.5),),
)
SITE = Site(
    id="sh1",
    institution="bank",
    time_zone="Asia/Shanghai",
    limit=SiteLimit(pue=1.4),
    design=Design(it_capacity_kw=500, room_it_capacity_kw={"A": 250}),
    started_on=date(2020, 5, 1),
    declared=(Declared(indicator="maturity", value=3, date=date(2026, 1, 1), evidence="audit"),),
    meters=(UTILITY, PDU),
)
OTHER = Site(id="bj1", institution="bank", time_zone="Europe/Berlin", meters=())
BANK = Institution(id="bank", name="A bank", institution_class=InstitutionClass.JOINT_STOCK)
ESTATE = Fleet(institutions=(BANK,), sites=(SITE, OTHER))


def sync(engine: sa.Engine, *declared: Site) -> sites.SyncResult:
    with stores.begin(engine) as connection:
        return sites.sync(connection, Fleet(institutions=(BANK,), sites=declared))


def load(engine: sa.Engine) -> sites.Stored:
    with stores.connect(engine) as connection:
        return sites.load(connection)


def with_point(**changes: object) -> Site:
    register, power = UTILITY.points
    changed = replace(UTILITY, points=(replace(register, **changes), power))  # type: ignore[arg-type]
    return replace(SITE, meters=(changed, PDU))


def test_what_goes_in_comes_out(engine: sa.Engine) -> None:
    sync(engine, SITE, OTHER)

    stored = load(engine)
    assert stored.fleet == ESTATE
    assert sorted(stored.point_id) == ["m1.power", "m1.register", "m2.register"]
    assert stored.point_key[stored.point_id["m1.power"]] == "m1.power"


def test_numbers_stay_when_the_order_changes(engine: sa.Engine) -> None:
    sync(engine, SITE, OTHER)
    before = load(engine)
    sync(engine, OTHER, replace(SITE, meters=(PDU, UTILITY)))

    after = load(engine)
    assert after.point_id == before.point_id
    assert [s.id for s in after.fleet.sites] == ["bj1", "sh1"]
    assert [m.id for m in after.fleet.site["sh1"].meters] == ["m2", "m1"]


def test_the_same_again_recomputes_nothing(engine: sa.Engine) -> None:
    assert sync(engine, SITE).recomputed_points == ("m1.power", "m1.register", "m2.register")
    assert sync(engine, SITE) == sites.SyncResult()


@pytest.mark.parametrize("change", [{"multiplier": 10.0}, {"modulus_kwh": 1e7}, {"interval_s": 60}])
def test_a_setting_that_moves_the_energy_of_a_point_queues_its_history(
    engine: sa.Engine, change: dict[str, object]
) -> None:
    sync(engine, SITE)
    number = load(engine).point_id["m1.register"]
    with stores.begin(engine) as connection:
        readings.ingest(connection, batch((number, 0, 1.0), (number, 6000, 2.0)))
        connection.execute(sa.text("DELETE FROM rollup_queue"))

    assert sync(engine, with_point(**change)).recomputed_points == ("m1.register",)
    with stores.connect(engine) as connection:
        rows = connection.execute(sa.text("SELECT point_id, end_at - start_at FROM rollup_queue")).all()
    assert [(n, span.total_seconds()) for n, span in rows] == [(number, 360_000)]


def test_a_history_of_years_is_queued_in_parts(engine: sa.Engine) -> None:
    """One transaction for all of it would be more than TimescaleDB decompresses at once."""
    sync(engine, SITE)
    number = load(engine).point_id["m1.register"]
    with stores.begin(engine) as connection:
        readings.ingest(connection, batch(*((number, d * 1440, float(d)) for d in range(0, 1095, 5))))
        connection.execute(sa.text("DELETE FROM rollup_queue"))
    sync(engine, with_point(multiplier=10.0))
    with stores.connect(engine) as connection:
        query = "SELECT start_at, end_at FROM rollup_queue ORDER BY start_at"
        parts = [tuple(row) for row in connection.execute(sa.text(query))]
    assert 34 <= len(parts) <= 36
    assert max(end - start for start, end in parts) < timedelta(days=32)
    assert {start - end for (_, end), (start, _) in pairwise(parts)} == {timedelta(milliseconds=2)}
    assert parts[-1][1] - parts[0][0] == timedelta(days=1090)
    days = rollup.BUCKET_READINGS * 900 / 86_400
    assert rollup.run(engine).stretches in (math.floor(1090 / days) + 1, math.ceil(1090 / days) + 1)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SITE, time_zone="UTC"),
        replace(SITE, facility_is=FacilityIs.SUM_OF_CLASSES),
        with_point(weight=0.9),
        with_point(role=Role.NONE),
    ],
)
def test_a_setting_that_moves_the_site_queues_all_its_points(engine: sa.Engine, changed: Site) -> None:
    sync(engine, SITE)

    assert sync(engine, changed).recomputed_points == ("m1.power", "m1.register", "m2.register")


@pytest.mark.parametrize("changed", [replace(SITE, name="x"), with_point(unit="MWh"), with_point(name="x")])
def test_a_name_moves_nothing(engine: sa.Engine, changed: Site) -> None:
    sync(engine, SITE)

    assert sync(engine, changed).recomputed_points == ()
    assert load(engine).fleet.site["sh1"] == changed


def test_what_is_not_declared_any_more_is_retired_and_can_come_back(engine: sa.Engine) -> None:
    sync(engine, SITE)
    before = load(engine).point_id

    result = sync(engine, replace(SITE, meters=(UTILITY,)))
    assert result.retired_points == ("m2.register",)
    assert [m.id for m in load(engine).fleet.site["sh1"].meters] == ["m1"]

    sync(engine, SITE)
    assert load(engine).point_id == before


def test_latest_reading_of_every_point(engine: sa.Engine) -> None:
    sync(engine, SITE)
    stored = load(engine)
    old, new = stored.point_id["m1.register"], stored.point_id["m1.power"]
    with stores.begin(engine) as connection:
        now = connection.execute(sa.text("SELECT now()")).scalar_one()
        minutes = (now - readings.from_us(int(batch((1, 0, 0)).at_us[0]))).total_seconds() / 60
        readings.ingest(connection, batch((old, 0, 1.0), (new, 0, 2.0), (new, minutes, 3.0)))
        found = readings.latest(connection, "sh1")

    assert [(one.point, one.value) for one in found] == [("m1.register", 1.0), ("m1.power", 3.0)]


def test_thousands_of_points(engine: sa.Engine) -> None:
    many = tuple(
        Meter(id=f"r{i}", points=(Point(id=f"r{i}.e", role=Role.NONE, kind=ReadingKind.REGISTER),))
        for i in range(5000)
    )
    sync(engine, replace(SITE, meters=many))

    assert len(load(engine).point_id) == 5000
