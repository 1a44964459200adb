"""Sums of periods: the same to the last bit alone, together, and with what nothing changed kept."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.period import QUARTER_HOUR, WINDOWS, Period, midnight, window
from app.domain.reading import Reading
from app.jobs import rollup
from app.jobs.evaluate import Evaluator
from app.store import computed_hours, deployment, pue, readings, sites
from app.store.kept_sums import Kept
from app.store.period_parts import cut
from app.store.sums import OfPoints, OfSite, Sums, read_quarters, site_totals

START, NOW = datetime(2026, 1, 30, tzinfo=UTC), datetime(2026, 4, 17, 10, 7, tzinfo=UTC)
SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Europe/Berlin
    meters:
      - id: main
        points: [{id: main.kwh, role: facility, kind: register, interval_s: 3600}]
      - id: ups
        points: [{id: ups.kwh, role: it_pdu_output, kind: register, interval_s: 3600}]
"""
LATE_UNTIL = START + timedelta(days=10)
HOURS = int((NOW - START) / timedelta(hours=1))


@pytest.fixture
def stored(engine: sa.Engine) -> sites.Stored:
    """Eleven weeks of two meters, computed; the first days of one of them come later."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE).fleet)
        stored = sites.load(connection)
        known = [r for r in registers() if r.point == "main.kwh" or r.at >= LATE_UNTIL]
        readings.ingest_readings(connection, known, dict(stored.point_id))
    rollup.run(engine)
    return stored


def registers() -> Iterator[Reading]:
    random = Random(16)
    for point, least in (("main.kwh", 90.1), ("ups.kwh", 60.3)):
        at_kwh = 1000.0
        for hour in range(HOURS):
            at_kwh += least + random.random()
            yield Reading(point, START + timedelta(hours=hour), at_kwh)


def spans(stored: sites.Stored, now: datetime = NOW) -> list[Period]:
    return [window(name, now, stored.fleet.site["sh1"].zone) for name in WINDOWS]


def hours_read(engine: sa.Engine) -> dict[str, list[float]]:
    """By table, filled with the hours of each stretch that is summed from now on."""
    seen: dict[str, list[float]] = defaultdict(list)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, values: dict[str, list[Any]], *___: object) -> None:
        if "run.start_at" in statement:
            table = next(t for t in ("energy_15m", "energy_day", "site_15m") if f"FROM {t}" in statement)
            lengths = zip(values["starts"], values["ends"], strict=True)
            seen[table] += [(end - start) / timedelta(hours=1) for start, end in lengths]

    return seen


ZONE = ZoneInfo("Europe/Berlin")


def test_a_period_is_cut_where_days_and_months_begin() -> None:
    span = Period(datetime(2026, 1, 30, 22, 30, tzinfo=UTC), datetime(2026, 4, 2, 3, 17, tzinfo=UTC))
    assert [(str(p.first)[:16], str(p.last)[:16]) for p in cut(ZONE, span)] == [
        ("2026-01-30 22:30", "2026-01-30 22:45"),
        ("2026-01-30 22:45", "2026-01-30 23:00"),
        ("2026-01-31", "2026-02-01"),
        ("2026-02-01", "2026-03-01"),
        ("2026-03-01", "2026-04-01"),
        ("2026-04-01", "2026-04-02"),
        ("2026-04-01 22:00", "2026-04-01 23:00"),
        ("2026-04-01 23:00", "2026-04-02 00:00"),
        ("2026-04-02 00:00", "2026-04-02 01:00"),
        ("2026-04-02 01:00", "2026-04-02 02:00"),
        ("2026-04-02 02:00", "2026-04-02 03:00"),
        ("2026-04-02 03:00", "2026-04-02 03:15"),
        ("2026-04-02 03:15", "2026-04-02 03:17"),
    ]


def test_what_is_left_of_a_day_is_cut_into_stretches_of_four_hours() -> None:
    span = Period(datetime(2026, 4, 1, 6, 45, tzinfo=UTC), datetime(2026, 4, 1, 22, tzinfo=UTC))
    lengths = [(p.last - p.first) / timedelta(hours=1) for p in cut(ZONE, span)]
    assert lengths == [0.25, 1, 4, 4, 4, 1, 1]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
@pytest.mark.parametrize("hours", [range(0, 24 * 70, 113), range(5, 24 * 70, 239)])
def test_the_parts_of_a_period_cover_it_once(hours: range, zone: str) -> None:
    own = ZoneInfo(zone)
    for first in hours:
        for last in hours[hours.index(first) + 1 :]:
            span = Period(START + timedelta(hours=first), START + timedelta(hours=last, minutes=last % 60))
            parts = cut(own, span)
            edges = [span.start, *(_instant(own, p.last) for p in parts)]
            assert [_instant(own, p.first) for p in parts] == edges[:-1]
            assert edges[-1] == span.end


def _instant(zone: ZoneInfo, edge: Any) -> datetime:
    return edge if isinstance(edge, datetime) else midnight(edge, zone)


def test_alone_together_and_kept_are_the_same_to_the_last_bit(
    engine: sa.Engine, stored: sites.Stored
) -> None:
    site, number, kept = stored.fleet.site["sh1"], stored.site_id["sh1"], Kept()
    points, periods = sorted(stored.point_id.values()), spans(stored)
    read = hours_read(engine)
    for turn in range(3):
        with engine.begin() as connection:
            newest, changed = computed_hours.since(connection, {number: kept.seen(points)})[number]
            kept.forget(points, newest, changed)
            read.clear()
            read_quarters(connection, [OfPoints(site, points, periods, kept)])
            together = Sums(connection, site, points, periods, kept)
            [totals] = site_totals(connection, [OfSite(site, number, periods, kept)])
            assert set(read) == (set() if turn else {"energy_15m", "energy_day", "site_15m"})
            for span, total in zip(periods, totals, strict=True):
                alone = Sums(connection, site, points, [span])
                assert together.columns(span).tolist() == alone.columns(span).tolist()
                assert [[total]] == site_totals(connection, [OfSite(site, number, [span])])
    year = together.columns(periods[-1])
    assert (year[0] > 0).all()
    assert year[1, 0] > totals[-1].facility_kwh > 1e5  # of the site: where both meters are known


def documents(
    engine: sa.Engine, stored: sites.Stored, now: datetime, kept: Kept | None = None
) -> list[dict[str, Any]]:
    """Those of all windows that end at an instant."""
    with engine.begin() as connection:
        profiles = deployment.limit_profiles(connection)
        asked = pue.Asked("sh1", spans(stored, now), kept=kept)
        [found] = pue.documents(connection, stored, [asked], profiles)
    return [document.as_dict() for document in found]


def test_windows_that_move_on_read_what_is_new(engine: sa.Engine, stored: sites.Stored) -> None:
    kept, read, least = Kept(), hours_read(engine), []
    documents(engine, stored, NOW - timedelta(hours=26), kept)
    for quarter in range(26 * 4):
        at = NOW - timedelta(hours=26) + quarter * QUARTER_HOUR
        read.clear()
        moved = documents(engine, stored, at, kept)
        least.append(sum(read["energy_15m"]))
        assert moved == documents(engine, stored, at)
        read.clear()
        assert documents(engine, stored, at, kept) == moved
        assert not read
    assert statistics.median(least) <= 1  # of some sixty hours at the edges of the windows


def test_what_comes_in_meanwhile_is_in_the_sums_at_once(engine: sa.Engine, stored: sites.Stored) -> None:
    kept, read, random = Kept(), hours_read(engine), Random(7)
    late = [reading for reading in registers() if reading.at < LATE_UNTIL]
    random.shuffle(late)
    for part in range(0, len(late), 40):
        at = NOW + timedelta(minutes=part // 8)
        fresh = [Reading("main.kwh", at + timedelta(minutes=m), 4e5 + part + m) for m in (1, 2)]
        with engine.begin() as connection:
            readings.ingest_readings(connection, [*late[part : part + 40], *fresh], dict(stored.point_id))
        rollup.run(engine)
        assert documents(engine, stored, at, kept) == documents(engine, stored, at)
        read.clear()
        assert documents(engine, stored, at, kept) == documents(engine, stored, at)
        assert read


OTHER = SITE.split("sites:\n")[1].replace("Europe/Berlin", "Asia/Kathmandu")
OTHER = OTHER.replace("sh1", "kt1").replace("main", "main2").replace("ups", "ups2")


def test_sites_together_and_kept_are_the_same_as_each_alone(engine: sa.Engine) -> None:
    """While readings come late, at the edges of windows as well."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE + OTHER).fleet)
        stored = sites.load(connection)
    random, found = Random(3), [stored.fleet.site[name] for name in ("sh1", "kt1")]
    asked = [OfPoints(s, sorted(stored.numbers_of(s)), [], Kept()) for s in found]
    every = [Reading(p, r.at, r.value) for r in registers() for p in (r.point, r.point.replace(".", "2."))]
    random.shuffle(every)
    edges = [NOW - timedelta(days=days) for days in (0, 1, 7, 30)]
    late = [r for r in every if any(abs(r.at - edge) < timedelta(hours=12) for edge in edges)]
    first = [r for r in every if r not in late]
    for turn in range(40):
        at = NOW - (40 - turn) * QUARTER_HOUR
        with engine.begin() as connection:
            some = late[turn * 9 : turn * 9 + 9] if turn else first
            readings.ingest_readings(connection, some, dict(stored.point_id))
        rollup.run(engine)
        asked = [one._replace(spans=[window(w, at, one.site.zone) for w in WINDOWS]) for one in asked]
        with engine.begin() as connection:
            numbers = {stored.site_id[one.site.id]: one for one in asked}
            seen = {number: one.kept.seen(one.points) for number, one in numbers.items()}
            for number, noted in computed_hours.since(connection, seen).items():
                numbers[number].kept.forget(numbers[number].points, *noted)
            read_quarters(connection, asked)
            for one in asked:
                together = Sums(connection, one.site, one.points, one.spans, one.kept)
                alone = Sums(connection, one.site, one.points, one.spans)
                for span in one.spans:
                    assert together.columns(span).tolist() == alone.columns(span).tolist()
                    assert turn == 0 or span.duration_s < 9e4 or together.columns(span)[1].all()


def test_a_site_that_fails_holds_up_no_other(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE + OTHER).fleet)
    real, evaluator = pue.documents, Evaluator(engine)

    def failing(
        connection: sa.Connection, stored: sites.Stored, asked: Sequence[pue.Asked], *more: Any
    ) -> Any:
        if any(one.site_id == "sh1" for one in asked):
            raise ArithmeticError("no figures of sh1")
        return real(connection, stored, asked, *more)

    monkeypatch.setattr(pue, "documents", failing)
    with pytest.raises(ExceptionGroup) as caught:
        evaluator.run(NOW)
    assert [str(error) for error in caught.value.exceptions] == ["no figures of sh1"]
    query = sa.text("SELECT DISTINCT s.key FROM evaluations e JOIN sites s ON s.id = e.site_id ORDER BY 1")
    with engine.begin() as connection:
        assert connection.execute(query).scalars().all() == ["kt1"]
    monkeypatch.undo()
    assert evaluator.run(NOW)
    with engine.begin() as connection:
        assert connection.execute(query).scalars().all() == ["kt1", "sh1"]


def test_a_change_of_now_leaves_earlier_days_kept(engine: sa.Engine, stored: sites.Stored) -> None:
    kept, read = Kept(), hours_read(engine)
    documents(engine, stored, NOW, kept)
    at_first = sum(read["energy_15m"])
    with engine.begin() as connection:
        last = [reading for reading in registers() if reading.point == "ups.kwh"][-1]
        fresh = [Reading("ups.kwh", NOW + timedelta(minutes=m), last.value + 60 + m) for m in (0, 1)]
        readings.ingest_readings(connection, fresh, dict(stored.point_id))
    rollup.run(engine)
    read.clear()
    documents(engine, stored, NOW, kept)
    assert 0 < sum(read["energy_15m"]) < at_first / 2


def test_a_late_reading_in_an_earlier_month_is_in_the_sums_at_once(
    engine: sa.Engine, stored: sites.Stored
) -> None:
    kept = Kept()
    before = documents(engine, stored, NOW, kept)
    assert documents(engine, stored, NOW, kept) == before == documents(engine, stored, NOW)
    late = [reading for reading in registers() if reading.at < LATE_UNTIL]
    with engine.begin() as connection:
        readings.ingest_readings(connection, late, dict(stored.point_id))
    rollup.run(engine)
    after = documents(engine, stored, NOW, kept)
    assert after == documents(engine, stored, NOW)
    assert after != before


def test_notes_of_hours_grow_and_name_what_was_computed(engine: sa.Engine, stored: sites.Stored) -> None:
    number = stored.site_id["sh1"]
    with engine.begin() as connection:
        begun, _ = computed_hours.since(connection, {number: None})[number]
        noted = np.array([5, 3, 3, 30]) * 3_600_000_000 + 900_000_000
        computed_hours.note(connection, {number: noted}, [(number, date(1970, 1, 1))])
        second, changed = computed_hours.since(connection, {number: begun})[number]
        assert changed == [3, 5, 30]
        computed_hours.note(connection, {number: noted[:1]}, [(number, date(1970, 1, 1))])
        third, changed = computed_hours.since(connection, {number: second})[number]
        assert (begun < second < third, changed) == (True, [5])
        assert computed_hours.since(connection, {number: begun})[number] == (third, [3, 5, 30])
        assert computed_hours.since(connection, {number: third})[number] == (third, [])


def test_sums_are_forgotten_when_the_notes_begin_anew(engine: sa.Engine, stored: sites.Stored) -> None:
    kept, read = Kept(), hours_read(engine)
    documents(engine, stored, NOW, kept)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM site_hours"))  # as an older copy of the database has fewer
    read.clear()
    documents(engine, stored, NOW, kept)
    assert sum(read["energy_15m"]) > 50
