"""A point that counts in another unit from an instant on: its energy is not known until a person decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.period import Period
from app.domain.reading import Reading
from app.jobs import findings as job
from app.jobs import imports, rollup
from app.jobs.verify import verify
from app.store import deployment, findings, pue, readings, sites
from app.store.findings import StoredFinding
from app.store.pue import PueDocument
from app.store.sites import Stored

START = datetime(2026, 10, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
DAY = 96
TURN = 40
"""Reading from which the unit is another one."""

HEAD = "institutions: [{id: bank, institution_class: joint_stock}]\nsites:\n"


def declare(engine: sa.Engine, kind: str, extra: str = "", rated: str = "") -> Stored:
    unit = {"register": "kwh", "power": "kw", "interval_energy": "kwh"}[kind]
    meters = "".join(
        f"      - {{id: {m}, {rated}points: [{{id: {m}.{unit}, kind: {kind}, interval_s: 900, {more}}}]}}\n"
        for m, more in (("main", f"role: facility{extra}"), ("ups", "role: it_ups_output"))
    )
    text = f"{HEAD}  - id: s\n    institution: bank\n    time_zone: UTC\n    meters:\n{meters}"
    with engine.begin() as connection:
        sites.sync(connection, config.parse(text).fleet)
        return sites.load(connection)


def course(kind: str, kw: float, count: int = DAY) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(7)
    load = kw * (1 + 0.2 * np.sin(np.arange(count) / 15)) * (1 + 0.01 * rng.standard_normal(count))
    if kind == "register":
        return 5000 + np.concatenate([[0.0], np.cumsum(load / 4)[:-1]])
    return load if kind == "power" else load / 4


def put(engine: sa.Engine, stored: Stored, point: str, values: np.ndarray, first: int = 0) -> None:  # type: ignore[type-arg]
    rows = [Reading(point, START + (first + n) * STEP, float(v)) for n, v in enumerate(values)]
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))


def both(kind: str, factor: float) -> tuple[str, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    unit = "kw" if kind == "power" else "kwh"
    main, ups = course(kind, 150), course(kind, 100)
    main[TURN:] *= factor
    return f"main.{unit}", {f"main.{unit}": main, f"ups.{unit}": ups}


def figure(engine: sa.Engine, first: int = 0, last: int = DAY - 1) -> PueDocument:
    with engine.connect() as connection:
        stored = sites.load(connection)
        span = Period(START + first * STEP, START + last * STEP)
        return pue.document(connection, stored, "s", span, deployment.limit_profiles(connection))


def found(engine: sa.Engine, stored: Stored) -> list[StoredFinding]:
    with engine.connect() as connection:
        return findings.listing(connection, stored.site_id["s"])


def live(engine: sa.Engine) -> None:
    """What the worker does with readings that come in."""
    rollup.run(engine)
    job.run(engine)
    rollup.run(engine)


@pytest.mark.parametrize("kind", ["register", "power", "interval_energy"])
@pytest.mark.parametrize("factor", [1000.0, 0.001, 40.0])
@pytest.mark.parametrize("is_live", [False, True])
def test_its_energy_is_not_known_from_there_on(
    engine: sa.Engine, kind: str, factor: float, is_live: bool
) -> None:
    stored = declare(engine, kind)
    point, values = both(kind, factor)
    if is_live:
        for key, column in values.items():
            put(engine, stored, key, column[: TURN - 2])
        live(engine)
        for first in range(TURN - 2, DAY, 3):
            for key, column in values.items():
                put(engine, stored, key, column[first : first + 3], first)
            live(engine)
    else:
        for key, column in values.items():
            put(engine, stored, key, column)
        imports.settle(engine)

    (one,) = [f for f in found(engine, stored) if f.state == "open" and f.severity == "error"]
    assert (one.kind, one.point, one.start) == ("unit_changed", point, START + TURN * STEP)
    assert [f.kind for f in found(engine, stored) if f.state == "open"] == ["unit_changed"]
    whole = figure(engine)
    assert whole.pue is None
    assert f"{point} (unit_changed)" in (whole.reason or "")
    assert whole.coverage_ratio == pytest.approx((TURN - 1) / (DAY - 1), abs=0.03)
    assert figure(engine, 0, TURN - 2).pue == pytest.approx(1.5, rel=1e-3)
    after = figure(engine, TURN + 1)
    assert (after.pue, after.coverage_ratio) == (None, 0)
    assert verify(engine).breaches == ()


def test_the_multiplier_from_that_day_on_makes_it_count(engine: sa.Engine) -> None:
    stored = declare(engine, "power")
    _, values = both("power", 1000)
    for key, column in values.items():
        put(engine, stored, key, column)
    imports.settle(engine)
    turn = (START + TURN * STEP).isoformat()
    dated = f", multiplier: [{{value: 1}}, {{from: '{turn}', value: 0.001}}]"
    stored = declare(engine, "power", dated)
    imports.settle(engine)
    assert [f.kind for f in found(engine, stored)] == []
    assert figure(engine).pue == pytest.approx(1.5, rel=1e-3)
    assert figure(engine).coverage_ratio == pytest.approx(1)
    assert verify(engine).breaches == ()


def test_who_acknowledges_the_finding_lets_the_readings_count(engine: sa.Engine) -> None:
    stored = declare(engine, "power")
    _, values = both("power", 40)
    for key, column in values.items():
        put(engine, stored, key, column)
    imports.settle(engine)
    (one,) = found(engine, stored)
    with engine.begin() as connection:
        findings.acknowledge(connection, stored.site_id["s"], one.id)
    imports.settle(engine)
    (one,) = found(engine, stored)
    assert one.state == "acknowledged"
    assert figure(engine).facility_kwh > 40 * 150 * 10
    assert verify(engine).breaches == ()


def test_the_way_back_ends_it(engine: sa.Engine) -> None:
    stored = declare(engine, "register")
    _, values = both("register", 1000)
    values["main.kwh"][TURN + 20 :] /= 1000
    for key, column in values.items():
        put(engine, stored, key, column)
    imports.settle(engine)
    (one,) = found(engine, stored)
    assert (one.kind, one.end) == ("unit_changed", START + (TURN + 20) * STEP)
    assert figure(engine, TURN + 21).pue == pytest.approx(1.5, rel=1e-3)
    assert verify(engine).breaches == ()


def test_a_rated_meter_says_unit_and_not_spike(engine: sa.Engine) -> None:
    stored = declare(engine, "power", rated="rated_power_kw: 400, ")
    _, values = both("power", 1000)
    for key, column in values.items():
        put(engine, stored, key, column)
    imports.settle(engine)
    assert [f.kind for f in found(engine, stored)] == ["unit_changed"]


def test_a_load_that_is_switched_on_and_off_is_no_change_of_unit(engine: sa.Engine) -> None:
    stored = declare(engine, "power")
    _, values = both("power", 1)
    values["main.kw"][10:30] /= 20
    values["main.kw"][50:70] /= 20
    for key, column in values.items():
        put(engine, stored, key, column)
    imports.settle(engine)
    assert [f.kind for f in found(engine, stored) if f.kind == "unit_changed"] == []
