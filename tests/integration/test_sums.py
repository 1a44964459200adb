"""Sums of periods: the same to the last bit alone, together, and with earlier months kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import sqlalchemy as sa

from app import config
from app.domain.period import WINDOWS, Period, window
from app.domain.reading import Reading
from app.jobs import rollup
from app.store import deployment, pue, readings, sites
from app.store.sums import Kept, Piece, Sums, _cut, site_totals

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


def spans(stored: sites.Stored) -> list[Period]:
    return [window(name, NOW, stored.fleet.site["sh1"].zone) for name in WINDOWS]


def days_read(engine: sa.Engine) -> list[int]:
    """Filled with the number of days of each stretch of days that is read from now on."""
    seen: list[int] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, values: dict[str, list[datetime]], *___: object) -> None:
        if "FROM energy_day" in statement:
            seen.extend(
                (end - start).days for start, end in zip(values["starts"], values["ends"], strict=True)
            )

    return seen


def test_a_period_is_cut_where_days_and_months_begin() -> None:
    site = config.parse(SITE).fleet.site["sh1"]
    span = Period(datetime(2026, 1, 30, 22, tzinfo=UTC), datetime(2026, 4, 2, 1, tzinfo=UTC))
    assert [(str(p.first), str(p.last)) for p in _cut(site, span)] == [
        ("2026-01-30 22:00:00+00:00", "2026-01-30 23:00:00+00:00"),
        ("2026-01-31", "2026-02-01"),
        ("2026-02-01", "2026-03-01"),
        ("2026-03-01", "2026-04-01"),
        ("2026-04-01", "2026-04-02"),
        ("2026-04-01 22:00:00+00:00", "2026-04-02 01:00:00+00:00"),
    ]


@pytest.mark.parametrize("hours", [range(0, 24 * 70, 113), range(5, 24 * 70, 239)])
def test_the_parts_of_a_period_cover_it_once(hours: range) -> None:
    site = config.parse(SITE).fleet.site["sh1"]
    for first in hours:
        for last in hours[hours.index(first) + 1 :]:
            span = Period(START + timedelta(hours=first), START + timedelta(hours=last))
            for parts in (list(_cut(site, span)), list(_months_within(site, span))):
                edges = [span.start, *(_until(p) for p in parts)]
                assert [_since(p) for p in parts] == edges[:-1]
                assert edges[-1] == span.end


def _since(piece: Piece) -> datetime:
    return _midnight(piece.first) if piece.is_days else piece.first


def _until(piece: Piece) -> datetime:
    return _midnight(piece.last) if piece.is_days else piece.last


def _midnight(day: datetime) -> datetime:
    zone = config.parse(SITE).fleet.site["sh1"].zone
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def test_alone_together_and_kept_are_the_same_to_the_last_bit(
    engine: sa.Engine, stored: sites.Stored
) -> None:
    site, number, kept = stored.fleet.site["sh1"], stored.site_id["sh1"], Kept()
    points, periods = sorted(stored.point_id.values()), spans(stored)
    seen = days_read(engine)
    for turn in range(3):
        with engine.begin() as connection:
            kept.look(connection, number, points)
            together = Sums(connection, site, points, periods, kept)
            totals = site_totals(connection, site, number, "", periods, kept)
            read, seen[:] = sorted(seen), []
            assert read == ([6, 16] if turn else [6, 13, 13, 16, 28, *[30] * 3, *[31] * 7])
            for span, total in zip(periods, totals, strict=True):
                alone = Sums(connection, site, points, [span])
                assert together.columns(span).tolist() == alone.columns(span).tolist()
                assert [total] == site_totals(connection, site, number, "", [span])
            seen.clear()
    year = together.columns(periods[-1])
    assert (year[0] > 0).all()
    assert year[1, 0] > totals[-1].facility_kwh > 1e5  # of the site: where both meters are known


def test_a_late_reading_in_an_earlier_month_is_in_the_sums_at_once(
    engine: sa.Engine, stored: sites.Stored
) -> None:
    kept = Kept()

    def documents(kept: Kept | None) -> list[object]:
        with engine.begin() as connection:
            profiles = deployment.limit_profiles(connection)
            found = pue.documents(connection, stored, "sh1", spans(stored), profiles, kept=kept)
        return [document.as_dict() for document in found]

    before = documents(kept)
    assert documents(kept) == before == documents(None)
    late = [reading for reading in registers() if reading.at < LATE_UNTIL]
    with engine.begin() as connection:
        readings.ingest_readings(connection, late, dict(stored.point_id))
    rollup.run(engine)
    after = documents(kept)
    assert after == documents(None)
    assert after != before
