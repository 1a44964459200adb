"""A plant that changes: every part of a month by what was there, and an edit moves only what it touches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app import config
from app.cli.opening import synchronised
from app.domain.period import Period, month
from app.domain.reading import Reading
from app.jobs import close_month, findings, rollup
from app.jobs.verify import verify
from app.store import breakdown, deployment, pue, readings, sites
from app.store.breakdown import By
from app.store.reports.revisions import Shelf
from app.store.sites import Stored, SyncResult

START = datetime(2026, 10, 1, tzinfo=UTC)
HOURS = 62 * 24
"""October and most of November."""

HEAD = "institutions: [{id: bank, institution_class: joint_stock}]\nsites:\n"


def site(name: str, *meters: str) -> str:
    lines = "".join(f"      - {meter}\n" for meter in meters)
    return f"  - id: {name}\n    institution: bank\n    time_zone: UTC\n    meters:\n{lines}"


def meter(name: str, role: str, dates: str = "", extra: str = "") -> str:
    point = f"{{id: {name}.kwh, role: {role}, kind: register, interval_s: 3600{extra}}}"
    return f"{{id: {name}, {dates}points: [{point}]}}"


def declare(engine: sa.Engine, *parts: str) -> tuple[SyncResult, Stored]:
    with engine.begin() as connection:
        result = sites.sync(connection, config.parse(HEAD + "".join(parts)).fleet)
        return result, sites.load(connection)


def hourly(point: str, *loads_kw: tuple[int, float]) -> list[Reading]:
    """Hourly register under loads that each hold from an hour on."""
    out, value = [], 1000.0
    for hour in range(HOURS + 1):
        out.append(Reading(point, START + timedelta(hours=hour), value))
        value += next(kw for since, kw in reversed(loads_kw) if hour >= since)
    return out


def put(engine: sa.Engine, stored: Stored, *series: Sequence[Reading]) -> None:
    with engine.begin() as connection:
        for rows in series:
            readings.ingest_readings(connection, rows, dict(stored.point_id))
    rollup.run(engine)


def figure(engine: sa.Engine, name: str, period: str | Period) -> pue.PueDocument:
    with engine.connect() as connection:
        stored = sites.load(connection)
        span = month(period, stored.fleet.site[name].zone) if isinstance(period, str) else period
        return pue.document(connection, stored, name, span, deployment.limit_profiles(connection))


def energies(engine: sa.Engine, name: str, by: By, period: str) -> dict[str, float]:
    with engine.connect() as connection:
        stored = sites.load(connection)
        span = month(period, stored.fleet.site[name].zone)
        rows = breakdown.rows(connection, stored, stored.fleet.site[name], span, by)
        return {row.name: row.energy_kwh for row in rows}


def closed(engine: sa.Engine, now: datetime) -> list[int]:
    return [c.revision for c in close_month.run(engine, now) if c.of == "s"]


def queued(engine: sa.Engine) -> list[tuple[str, datetime, datetime]]:
    query = "SELECT p.key, q.start_at, q.end_at FROM rollup_queue q JOIN points p ON p.id = q.point_id"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(f"{query} ORDER BY 1, 2"))]


MAIN, UPS = meter("main", "facility"), meter("ups", "it_pdu_output")


def test_a_meter_that_joins_or_leaves_gates_nothing_while_it_is_not_there(engine: sa.Engine) -> None:
    joins = meter("rack", "it_pdu_output", "valid_from: 2026-10-11, ")
    leaves = meter("old", "it_pdu_output", "valid_to: 2026-10-11, ")
    _, stored = declare(engine, site("s", MAIN, UPS, joins, leaves))
    rack = [r for r in hourly("rack.kwh", (0, 20.0)) if r.at >= START + timedelta(days=10)]
    old = [r for r in hourly("old.kwh", (0, 10.0)) if r.at <= START + timedelta(days=10)]
    put(engine, stored, hourly("main.kwh", (0, 150.0)), hourly("ups.kwh", (0, 70.0)), rack, old)

    found = figure(engine, "s", "2026-10")
    assert found.coverage_ratio == pytest.approx(1.0)
    assert found.estimated_ratio == 0
    assert found.it_kwh == pytest.approx(70 * 744 + 10 * 240 + 20 * 504)
    assert found.pue == pytest.approx(150 * 744 / found.it_kwh)
    across = Period(START + timedelta(days=9), START + timedelta(days=12))
    assert figure(engine, "s", across).pue == pytest.approx(150 * 72 / (70 * 72 + 10 * 24 + 20 * 48))
    assert verify(engine).breaches == ()


def test_the_category_is_that_of_the_meters_that_were_there(engine: sa.Engine) -> None:
    ups = meter("first", "it_ups_output", "valid_to: 2026-11-01, ")
    pdu = meter("second", "it_pdu_output", "valid_from: 2026-11-01, ")
    _, stored = declare(engine, site("s", MAIN, ups, pdu))
    put(
        engine,
        stored,
        hourly("main.kwh", (0, 150.0)),
        hourly("first.kwh", (0, 90.0)),
        hourly("second.kwh", (0, 80.0)),
    )
    assert (figure(engine, "s", "2026-10").label, figure(engine, "s", "2026-11").label) == ("PUE1", "PUE2")
    assert figure(engine, "s", "2026-10").it_kwh == pytest.approx(90 * 744)


def test_a_transformer_ratio_that_changes_in_the_month_counts_each_part_by_its_own(engine: sa.Engine) -> None:
    ratio = ", multiplier: [{value: 40}, {from: 2026-10-16, value: 80}]"
    _, stored = declare(engine, site("s", meter("main", "facility", extra=ratio), UPS))
    put(engine, stored, hourly("main.kwh", (0, 4.0), (360, 2.0)), hourly("ups.kwh", (0, 100.0)))
    found = figure(engine, "s", "2026-10")
    assert (found.pue, found.estimated_ratio) == (pytest.approx(1.6), 0)
    assert verify(engine).breaches == ()


def test_an_edit_with_a_date_queues_from_that_date_on(engine: sa.Engine) -> None:
    _, stored = declare(engine, site("s", MAIN, UPS))
    put(engine, stored, hourly("main.kwh", (0, 150.0)), hourly("ups.kwh", (0, 100.0)))
    ratio = ", multiplier: [{value: 1}, {from: 2026-11-05, value: 2}]"
    result, _ = declare(engine, site("s", meter("main", "facility", extra=ratio), UPS))

    assert result.recomputed_points == ("main.kwh",)
    assert [(e.what, e.start, e.end) for e in result.edits] == [
        ("point main.kwh", datetime(2026, 11, 5, tzinfo=UTC), None)
    ]
    assert queued(engine) == [("main.kwh", datetime(2026, 11, 5, tzinfo=UTC), START + timedelta(hours=HOURS))]
    rollup.run(engine)
    assert figure(engine, "s", "2026-10").pue == pytest.approx(1.5)
    assert figure(engine, "s", "2026-11").facility_kwh == pytest.approx(150 * 96 + 300 * 624)


def test_a_meter_that_moves_leaves_the_month_before_as_it_was(engine: sa.Engine) -> None:
    rack = meter("rack", "it_pdu_output")
    south = site("south", meter("smain", "facility"), meter("sups", "it_pdu_output"))
    _, stored = declare(engine, site("north", MAIN, UPS, rack), south)
    put(
        engine,
        stored,
        hourly("main.kwh", (0, 150.0), (744, 105.0)),
        hourly("ups.kwh", (0, 70.0)),
        hourly("rack.kwh", (0, 30.0)),
        hourly("smain.kwh", (0, 90.0), (744, 135.0)),
        hourly("sups.kwh", (0, 60.0)),
    )
    before = [energies(engine, name, By.LOAD_CLASS, "2026-10") for name in ("north", "south")]
    stood = meter("rack", "it_pdu_output", "valid_to: 2026-11-01, ")
    stands = meter("rack", "it_pdu_output", "valid_from: 2026-11-01, ")
    _, after = declare(
        engine,
        site("north", MAIN, UPS, stood),
        site("south", meter("smain", "facility"), meter("sups", "it_pdu_output"), stands),
    )
    assert all(start >= datetime(2026, 11, 1, tzinfo=UTC) for _, start, _ in queued(engine))
    assert after.point_id["rack.kwh"] == stored.point_id["rack.kwh"]
    rollup.run(engine)

    assert [energies(engine, name, By.LOAD_CLASS, "2026-10") for name in ("north", "south")] == before
    for name in ("north", "south"):
        for period in ("2026-10", "2026-11"):
            assert figure(engine, name, period).pue == pytest.approx(1.5), (name, period)
    assert "rack.kwh" not in energies(engine, "south", By.POINT, "2026-10")
    assert "rack.kwh" not in energies(engine, "north", By.POINT, "2026-11")
    assert verify(engine).breaches == ()


def test_weight_room_and_role_hold_from_their_dates(engine: sa.Engine) -> None:
    dated = (
        "{id: chiller, room: [{value: a}, {from: 2026-10-11, value: b}],"
        " points: [{id: chiller.kwh, kind: register, interval_s: 3600, "
        "role: [{value: cooling}, {from: 2026-10-21, value: other}],"
        " weight: [{value: 1}, {from: 2026-10-16, value: 0.5}]}]}"
    )
    _, stored = declare(engine, site("s", MAIN, UPS, dated))
    loads = {"main.kwh": 150, "ups.kwh": 100, "chiller.kwh": 24}
    put(engine, stored, *(hourly(point, (0, kw)) for point, kw in loads.items()))
    classes, rooms = (energies(engine, "s", by, "2026-10") for by in (By.LOAD_CLASS, By.ROOM))
    assert classes["cooling"] == pytest.approx(24 * 360 + 12 * 120)
    assert classes["other"] == pytest.approx(12 * 264)
    assert rooms["a"] == pytest.approx(24 * 240)
    assert rooms["b"] == pytest.approx(24 * 120 + 12 * 384)
    assert figure(engine, "s", "2026-10").overhead_kwh["cooling"] == pytest.approx(classes["cooling"])
    assert verify(engine).breaches == ()


def test_a_renamed_point_keeps_its_history_and_nothing_is_computed_again(engine: sa.Engine) -> None:
    _, before = declare(engine, site("s", MAIN, UPS))
    put(engine, before, hourly("main.kwh", (0, 150.0)), hourly("ups.kwh", (0, 100.0)))
    point = "{id: main-energy, role: facility, kind: register, interval_s: 3600, formerly: [main.kwh]}"
    result, after = declare(engine, site("s", f"{{id: incomer, points: [{point}]}}", UPS))

    assert (result.edits, queued(engine)) == ((), [])
    assert after.point_id["main-energy"] == before.point_id["main.kwh"]
    assert after.meter_id["incomer"] == before.meter_id["main"]
    assert figure(engine, "s", "2026-10").pue == pytest.approx(1.5)
    assert declare(engine, site("s", f"{{id: incomer, points: [{point}]}}", UPS))[0].edits == ()


def test_a_rename_that_is_said_later_joins_both_histories(engine: sa.Engine) -> None:
    _, stored = declare(engine, site("s", MAIN, UPS))
    rows = hourly("main.kwh", (0, 150.0))
    put(engine, stored, rows[:745], hourly("ups.kwh", (0, 100.0)))
    renamed = "{{id: main, points: [{{id: new.kwh, role: facility, kind: register, interval_s: 3600{}}}]}}"
    result, stored = declare(engine, site("s", renamed.format(""), UPS))
    assert result.retired_points == ("main.kwh",)
    put(engine, stored, [Reading("new.kwh", r.at, r.value) for r in rows[740:]])
    assert figure(engine, "s", "2026-10").pue is None

    _, stored = declare(engine, site("s", renamed.format(", formerly: [main.kwh]"), UPS))
    assert sorted(stored.point_id) == ["new.kwh", "ups.kwh"]
    rollup.run(engine)
    for period in ("2026-10", "2026-11"):
        assert figure(engine, "s", period).pue == pytest.approx(1.5)
        assert figure(engine, "s", period).coverage_ratio == pytest.approx(1.0)
    assert verify(engine).breaches == ()


def test_figures_of_an_earlier_definition_are_not_shown_without_a_word(engine: sa.Engine) -> None:
    _, stored = declare(engine, site("s", MAIN, UPS))
    put(engine, stored, hourly("main.kwh", (0, 150.0)), hourly("ups.kwh", (0, 100.0)))
    declare(engine, site("s", meter("main", "facility", extra=", multiplier: 2"), UPS))

    old = figure(engine, "s", "2026-10")
    assert (old.pue, old.pending) == (None, 1)
    assert old.reason == "definitions changed, 1 stretches are being recomputed"
    assert {v.verdict.value for v in old.verdicts} == {"indeterminate"}
    rollup.run(engine)
    assert figure(engine, "s", "2026-10").as_dict().keys() & {"pending", "reason"} == set()
    assert figure(engine, "s", "2026-10").pue == pytest.approx(3.0)


def test_a_revision_names_the_definition_that_moved_it_and_a_rename_makes_none(
    engine: sa.Engine,
) -> None:
    first = site("s", MAIN, UPS)
    _, stored = declare(engine, first)
    put(engine, stored, hourly("main.kwh", (0, 150.0)), hourly("ups.kwh", (0, 100.0)))
    now = datetime(2026, 11, 20, tzinfo=UTC)
    findings.run(engine)
    assert closed(engine, now) == [1]
    rename = site("s", meter("main", "facility"), meter("ups", "it_pdu_output").replace("ups", "pdu"))
    rename = rename.replace("id: pdu.kwh,", "id: pdu.kwh, formerly: [ups.kwh],")
    declare(engine, rename)
    rollup.run(engine)
    findings.run(engine)
    assert closed(engine, now) == []

    file = config.parse(HEAD + rename.replace("id: main.kwh,", "id: main.kwh, weight: 0.9,"))
    synchronised(engine, config.parse(HEAD + rename))
    synchronised(engine, file)
    rollup.run(engine)
    findings.run(engine)
    assert closed(engine, now) == [2]
    with engine.connect() as connection:
        shelf = Shelf.of_site(sites.load(connection), "s")
        frozen = shelf.newest(connection, "2026-10")
    assert frozen is not None
    causes = frozen.document["revision"]["causes"]
    assert [c["definition"] for c in causes] == ["site s"]
    assert causes[0]["edited_by"]


def test_a_formula_follows_its_points(engine: sa.Engine) -> None:
    hall = "{id: hall, points: [{id: hall.kwh, role: it_pdu_output, formula: main.kwh - 0.5 * other.kwh}]}"
    _, stored = declare(engine, site("s", MAIN, meter("other", "cooling"), hall))
    put(engine, stored, hourly("main.kwh", (0, 150.0)), hourly("other.kwh", (0, 100.0)))
    found = figure(engine, "s", "2026-10")
    assert (found.it_kwh, found.pue) == (pytest.approx(100 * 744), pytest.approx(1.5))
    class_percent = (150**2 + 50**2) ** 0.5 / 100
    assert found.uncertainty == pytest.approx(1.5 * (1 + class_percent**2) ** 0.5 / 100)
    assert verify(engine).breaches == ()

    dearer = meter("other", "cooling", extra=", multiplier: [{value: 1}, {from: 2026-10-11, value: 2}]")
    declare(engine, site("s", MAIN, dearer, hall))
    rollup.run(engine)
    assert figure(engine, "s", "2026-10").it_kwh == pytest.approx(100 * 240 + 50 * 504)
    declare(engine, site("s", MAIN, dearer, hall.replace("0.5", "0.25")))
    rollup.run(engine)
    assert figure(engine, "s", "2026-10").it_kwh == pytest.approx(125 * 240 + 100 * 504)
    assert verify(engine).breaches == ()


def test_current_and_load_give_estimates_that_say_so(engine: sa.Engine) -> None:
    amps = (
        "{id: feed, points: [{id: feed.a, role: it_pdu_output, kind: estimate_from_current, interval_s: 3600,"
        " voltage_v: 230, power_factor: 0.9, phases: 3, accuracy_class_percent: 10}]}"
    )
    load = (
        "{id: ups2, rated_power_kw: 200, points: [{id: ups2.load, role: it_pdu_output, interval_s: 3600,"
        " kind: estimate_from_load, accuracy_class_percent: 5}]}"
    )
    _, stored = declare(engine, site("s", MAIN, amps, load))
    hours = [START + timedelta(hours=h) for h in range(HOURS + 1)]
    put(
        engine,
        stored,
        hourly("main.kwh", (0, 150.0)),
        [Reading("feed.a", at, 100.0) for at in hours],
        [Reading("ups2.load", at, 20.0) for at in hours],
    )
    found = figure(engine, "s", "2026-10")
    assert found.it_kwh == pytest.approx((100 * 230 * 0.9 * 3 / 1000 + 40) * 744)
    assert (found.estimated_ratio, found.label) == (pytest.approx(1.0), "PUE2 (estimated)")
    assert found.uncertainty is not None
    assert found.uncertainty > 0.06
    assert verify(engine).breaches == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (", direction: reversed", ""),
        (", restarts: month", ", restarts: day"),
        (", restarts: day", ", restarts: day, clock: Asia/Tokyo"),
    ],
)
def test_every_edit_that_moves_energy_is_computed_again(engine: sa.Engine, before: str, after: str) -> None:
    _, stored = declare(engine, site("s", meter("main", "facility", extra=before), UPS))
    put(engine, stored, hourly("main.kwh", (0, 150.0)), hourly("ups.kwh", (0, 100.0)))
    result, _ = declare(engine, site("s", meter("main", "facility", extra=after), UPS))
    assert "main.kwh" in result.recomputed_points
