"""Findings follow the readings and the ledger: found, acknowledged, cleared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.energy import Event, EventKind
from app.domain.period import Period
from app.domain.quality.finding import Finding
from app.domain.reading import Reading
from app.domain.site import Meter
from app.jobs import findings as job
from app.jobs import rollup
from app.store import events, findings, readings, sites, sums
from app.store.sites import Stored

START = datetime(2026, 3, 1, tzinfo=UTC)
SITE = """
institutions: [{id: bank, institution_class: other}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        rated_power_kw: 1000
        points: [{id: main.kwh, role: facility, kind: register}]
"""


@pytest.fixture
def stored(engine: sa.Engine) -> Stored:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE).fleet)
        return sites.load(connection)


def replaced_register(swap_at: int, count: int) -> list[Reading]:
    return [
        Reading(
            "main.kwh",
            START + timedelta(minutes=15 * i),
            50_000.0 + 100 * i if i < swap_at else 700.0 + 100 * (i - swap_at),
        )
        for i in range(count)
    ]


def work(engine: sa.Engine, stored: Stored, rows: list[Reading]) -> list[findings.StoredFinding]:
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))
    return look(engine, stored)


def look(engine: sa.Engine, stored: Stored) -> list[findings.StoredFinding]:
    rollup.run(engine)
    job.run(engine)
    with engine.connect() as connection:
        return findings.listing(connection, stored.site_id["sh1"])


def total_kwh(engine: sa.Engine, stored: Stored) -> float:
    span = Period(START - timedelta(days=1), START + timedelta(days=10))
    with engine.connect() as connection:
        number = stored.point_id["main.kwh"]
        return sums.by_point(connection, stored.fleet.site["sh1"], [number], span)[number].energy_kwh


def test_an_undeclared_swap_is_found_and_its_energy_is_unknown(engine: sa.Engine, stored: Stored) -> None:
    found = work(engine, stored, replaced_register(100, 400))
    assert [(f.kind, f.point, f.state) for f in found] == [("replacement_suspected", "main.kwh", "open")]
    assert total_kwh(engine, stored) == pytest.approx(398 * 100)


def test_declaring_the_swap_restores_the_energy_and_withdrawing_takes_it_back(
    engine: sa.Engine, stored: Stored
) -> None:
    work(engine, stored, replaced_register(100, 400))
    at = START + timedelta(minutes=15 * 99 + 5)
    with engine.begin() as connection:
        (entry,) = events.add(
            connection,
            site_id=stored.site_id["sh1"],
            meter_id=stored.meter_id["main"],
            point_ids=[stored.point_id["main.kwh"]],
            event=Event(EventKind.REPLACED, readings.to_us(at), readings.to_us(at), 59_930.0, 630.0),
            start=at,
            end=at,
            author="installer",
            note="display broken",
        )
    assert [f.kind for f in look(engine, stored)] == ["replaced"]
    assert total_kwh(engine, stored) == pytest.approx(398 * 100 + 30 + 70)
    with engine.begin() as connection:
        events.withdraw(connection, entry, "installer")
    assert [f.kind for f in look(engine, stored)] == ["replacement_suspected"]
    assert total_kwh(engine, stored) == pytest.approx(398 * 100)


def test_late_readings_clear_a_gap(engine: sa.Engine, stored: Stored) -> None:
    rows = replaced_register(10_000, 400)
    hole = slice(150, 190)
    found = work(engine, stored, rows[: hole.start] + rows[hole.stop :])
    assert [f.kind for f in found] == ["gap"]
    assert work(engine, stored, rows[hole]) == []


def test_live_readings_after_a_finding_leave_it(engine: sa.Engine, stored: Stored) -> None:
    rows = replaced_register(100, 800)
    first = work(engine, stored, rows[:790])
    with engine.begin() as connection:
        findings.acknowledge(connection, stored.site_id["sh1"], first[0].id)
    again = work(engine, stored, rows[790:])
    assert [(f.id, f.kind, f.state) for f in again] == [
        (first[0].id, "replacement_suspected", "acknowledged")
    ]


def test_a_contradicting_reading_is_a_finding(engine: sa.Engine, stored: Stored) -> None:
    rows = replaced_register(10_000, 300)
    work(engine, stored, rows)
    wrong = Reading("main.kwh", rows[50].at, rows[50].value + 3)
    with engine.begin() as connection:
        result = readings.ingest_readings(connection, [wrong], dict(stored.point_id))
    assert (result.accepted, result.conflicting) == (0, 1)
    assert [f.kind for f in look(engine, stored)] == ["conflicting_duplicate"]


def test_a_meter_that_cannot_be_looked_at_does_not_keep_the_others_from_it(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = "      - {id: second, points: [{id: second.kwh, role: none, kind: register}]}\n"
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE + second).fleet)
        stored = sites.load(connection)
    rows = [
        Reading(p, START + timedelta(minutes=15 * i), 100.0 - 10.0 * i)
        for p in ("main.kwh", "second.kwh")
        for i in (1, 2)
    ]
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))
    rollup.run(engine)
    looked: list[str] = []

    def stumbling(meter: Meter, *_: object, **__: object) -> list[Finding]:
        if meter.id == "main":
            raise ArithmeticError("odd readings")
        looked.append(meter.id)
        return []

    with monkeypatch.context() as patched:
        patched.setattr(job, "meter_findings", stumbling)
        with pytest.raises(ExceptionGroup) as raised:
            job.run(engine)
    assert looked == ["second"]
    assert [str(e) for e in raised.value.exceptions] == ["odd readings"]
    assert job.run(engine) == 1, "the meter at which it failed is still queued"


# -- what is new, and all of it ----------------------------------------------------------------------

TWO_KINDS = """
institutions: [{id: bank, institution_class: other}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        rated_power_kw: 1000
        points:
          - {id: main.kwh, role: facility, kind: register, modulus_kwh: 100000}
          - {id: main.kw, role: facility, kind: power}
      - {id: free, points: [{id: free.kwh, role: none, kind: register}]}
"""
DAYS = 24
STEP = timedelta(minutes=15)


def odd_registers(rng: np.random.Generator) -> list[Reading]:
    """Days of readings of three points with everything that can be found in a stretch of time."""
    count = DAYS * 96
    kw = 400 + 100 * rng.random(count)
    register = 50_000 + np.cumsum(kw) / 4 + (rng.random() < 0.5) * 30_000
    register = np.where(register >= 100_000, register - 100_000, register)
    free = 100 + np.cumsum(rng.random(count))
    kept = np.ones((3, count), np.bool_)
    for values in (register, free):
        at, length = rng.integers(20, count - 60, 6), rng.integers(1, 3, 6)
        values[at[0] : at[0] + length[0]] = 0.0
        values[at[1] : at[1] + length[1]] += 1e6
        values[at[2] :] -= 2000.0 * (rng.random() < 0.7)
    kw[(start := rng.integers(0, count)) : start + rng.integers(1, 400)] *= -1
    kw[rng.integers(0, count, 3)] = 5000.0
    for row in kept:
        for start in rng.integers(0, count, 3):
            row[start : start + rng.choice([1, 9, 60, 500])] = rng.random() < 0.3
    series = {"main.kwh": register, "main.kw": kw, "free.kwh": free}
    return [
        Reading(point, START + STEP * i, float(values[i]))
        for (point, values), row in zip(series.items(), kept, strict=True)
        for i in np.flatnonzero(row).tolist()
    ]


def batches(rng: np.random.Generator, rows: list[Reading]) -> list[list[Reading]]:
    """The readings in the order in which they arrive: by time, in parts of any length; some come late."""
    late = rng.random(len(rows)) < 0.02
    hours = np.array([(r.at - START).total_seconds() / 3600 for r in rows])
    arrival = hours + late * rng.exponential(60, len(rows))
    cuts = np.unique(np.concatenate([[0, 1e9], rng.random(14) * DAYS * 24]))
    place = np.searchsorted(cuts, arrival, "right")
    parts = [[rows[i] for i in np.flatnonzero(place == p).tolist()] for p in np.unique(place)]
    for part in parts:
        if rng.random() < 0.3:
            part.append(part[0]._replace(value=part[0].value + 1))
    return parts


def local(connection: sa.Connection, stored: Stored) -> list[tuple[object, ...]]:
    """What stands of the kinds that a stretch of time shows."""
    kinds = {kind.value for kind in job.LOCAL_KINDS}
    listed = findings.listing(connection, stored.site_id["sh1"])
    return sorted(
        (f.point, f.kind, f.start, f.end, f.severity, repr(f.effect_kwh), repr(sorted(f.evidence.items())))
        for f in listed
        if f.kind in kinds
    )


@pytest.mark.parametrize("seed", range(8))
def test_looks_at_what_is_new_find_what_a_look_at_everything_finds(
    engine: sa.Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(TWO_KINDS).fleet)
        stored = sites.load(connection)
    rng = np.random.default_rng(seed)
    whole: list[str] = []
    look_at_history = job._look_at_history
    monkeypatch.setattr(job, "_look_at_history", lambda *a: (whole.append(a[3].id), look_at_history(*a)))
    monkeypatch.setattr(job, "LIVE", timedelta(days=400))
    states = set()
    for part in batches(rng, odd_registers(rng)):
        with engine.begin() as connection:
            readings.ingest_readings(connection, part, dict(stored.point_id))
        rollup.run(engine)
        job.run(engine)
        with engine.connect() as connection:
            states.add(tuple(local(connection, stored)))
    assert whole == []
    with engine.connect() as connection:
        piecemeal = local(connection, stored)
    assert job.look_at_everything(engine) == 2
    with engine.connect() as connection:
        assert piecemeal == local(connection, stored)
    assert len({kind for _, kind, *_ in piecemeal}) >= 4
    assert len(states) > 5


def test_a_history_looked_at_in_parts_gives_what_it_gives_whole(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(TWO_KINDS).fleet)
        stored = sites.load(connection)
    rng = np.random.default_rng(99)
    with engine.begin() as connection:
        readings.ingest_readings(connection, odd_registers(rng), dict(stored.point_id))
    rollup.run(engine)
    job.look_at_everything(engine)
    with engine.connect() as connection:
        whole = local(connection, stored)
    monkeypatch.setattr(job, "SLICE_READINGS", 500)
    job.look_at_everything(engine)
    with engine.connect() as connection:
        assert local(connection, stored) == whole


def test_plain_readings_cost_no_look_at_each_meter(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters = "".join(
        f"      - {{id: m{n}, points: [{{id: m{n}.kwh, role: none, kind: register, interval_s: 60}}]}}\n"
        for n in range(40)
    )
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE + meters).fleet)
        stored = sites.load(connection)
    looked: list[str] = []
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda c, u, s, *_: statements.append(s))
    look_around = job._look_around
    monkeypatch.setattr(job, "_look_around", lambda *a: (looked.append(a[3].id), look_around(*a)))
    for minutes in (range(90), range(90, 95)):
        rows = [
            Reading(f"m{n}.kwh", START + timedelta(minutes=m), 5.0 * m - 40 * (n == 7 and m == 93))
            for n in range(40)
            for m in minutes
        ]
        looked.clear()
        with engine.begin() as connection:
            readings.ingest_readings(connection, rows, dict(stored.point_id))
        rollup.run(engine)
        statements.clear()
        assert job.run(engine) == 40
    assert looked == ["m7"]
    assert len(statements) < 40, "no statement for each of the meters"
