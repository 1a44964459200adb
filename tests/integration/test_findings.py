"""Findings follow the readings and the ledger: found, acknowledged, cleared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
from app.store import energy, events, findings, readings, sites
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
        return energy.by_point(connection, stored.fleet.site["sh1"], [number], span)[number].energy_kwh


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
        Reading(p, START + timedelta(minutes=15 * i), 10.0 * i)
        for p in ("main.kwh", "second.kwh")
        for i in (1, 2)
    ]
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))
    rollup.run(engine)
    looked: list[str] = []

    def stumbling(meter: Meter, *_: object) -> list[Finding]:
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
