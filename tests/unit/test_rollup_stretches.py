"""Which stretches of points a rollup computes together, and how intervals are put together."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from app.domain.energy import Series
from app.domain.period import QUARTER_HOUR_US
from app.domain.reading import LATEST, ReadingColumns
from app.jobs import rollup
from app.jobs.rollup import RollupResult, take
from app.store.energy_batch import Intervals
from app.store.readings import to_us
from app.store.rollup_queue import Waiting
from app.store.sites import Stored

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
BUCKET_US = rollup.BUCKET_READINGS * 900 * 1_000_000


def stored(*declared: int, interval_s: int = 900) -> Stored:
    """Only what is asked of it: which points are declared."""
    point = (None, SimpleNamespace(interval_s=interval_s))
    return cast(Stored, SimpleNamespace(measured=lambda number: point if number in declared else None))


def waiting(*rows: tuple[int, int, int], recent_us: int = 1 << 62) -> Waiting:
    point, start, end = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Waiting(np.arange(len(rows), dtype=np.int64) + 100, point, start, end, recent_us)


def taken(found: Waiting, known: Stored, readings_at_once: int = 400_000) -> list[tuple[int, int, int]]:
    chosen, _ = take(found, known, readings_at_once)
    return list(zip(*(c.tolist() for c in chosen[:3]), strict=True))


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        pytest.param((1, 0, 10), (1, 10, 20), [(1, 0, 20)], id="touch"),
        pytest.param((1, 0, HOUR_US), (1, 5 * HOUR_US, 6 * HOUR_US), [(1, 0, 6 * HOUR_US)], id="near"),
        pytest.param(
            (1, 0, HOUR_US),
            (1, 5 * HOUR_US + 1000, 6 * HOUR_US),
            [(1, 0, HOUR_US), (1, 5 * HOUR_US + 1000, 6 * HOUR_US)],
            id="apart",
        ),
        pytest.param((1, 0, HOUR_US), (2, 0, HOUR_US), [(1, 0, HOUR_US), (2, 0, HOUR_US)], id="two points"),
        pytest.param((1, 0, 9 * HOUR_US), (1, HOUR_US, 2 * HOUR_US), [(1, 0, 9 * HOUR_US)], id="inside"),
        pytest.param(
            (1, BUCKET_US - HOUR_US, BUCKET_US - 1000),
            (1, BUCKET_US, BUCKET_US + HOUR_US),
            [(1, BUCKET_US - HOUR_US, BUCKET_US - 1000), (1, BUCKET_US, BUCKET_US + HOUR_US)],
            id="near, in another batch",
        ),
        pytest.param(
            (1, BUCKET_US - HOUR_US, BUCKET_US),
            (1, BUCKET_US, BUCKET_US + HOUR_US),
            [(1, BUCKET_US - HOUR_US, BUCKET_US + HOUR_US)],
            id="touch, in another batch",
        ),
    ],
)
def test_stretches_of_a_point_that_are_near_each_other_go_together(
    first: tuple[int, int, int], second: tuple[int, int, int], joined: list[tuple[int, int, int]]
) -> None:
    assert taken(waiting(first, second), stored(1, 2)) == joined
    assert taken(waiting(second, first), stored(1, 2)) == joined
    behind = [(number + 5, *bounds) for number, *bounds in (first, second)]
    both = taken(waiting(first, second, *behind), stored(1, 2, 6, 7))
    assert both == joined + [(number + 5, *bounds) for number, *bounds in joined]


def test_a_long_stretch_reaches_over_those_that_begin_in_it() -> None:
    for long in (1, 2):
        rows = [(long, 0, 20 * HOUR_US), (long, HOUR_US, 2 * HOUR_US), (long, 19 * HOUR_US, 19 * HOUR_US)]
        found = taken(waiting(*rows, (3 - long, 0, 5)), stored(1, 2))
        assert sorted(found) == sorted([(long, 0, 20 * HOUR_US), (3 - long, 0, 5)])


def test_a_stretch_is_compared_with_the_one_before_it() -> None:
    later = BUCKET_US + HOUR_US
    rows = [(1, 0, HOUR_US), (1, later, later + HOUR_US), (1, later + 4 * HOUR_US, later + 5 * HOUR_US)]
    assert taken(waiting(*rows), stored(1)) == [(1, 0, HOUR_US), (1, later, later + 5 * HOUR_US)]


def test_a_long_stretch_of_one_point_joins_nothing_of_the_next() -> None:
    rows = [(1, 0, 90 * DAY_US), (2, 0, HOUR_US), (2, 10 * HOUR_US, 11 * HOUR_US)]
    assert len(taken(waiting(*rows), stored(1, 2))) == 3


def test_what_is_no_longer_declared_is_settled_without_work() -> None:
    chosen, ids = take(waiting((1, 0, 10), (7, 0, 10), (1, 20, 30)), stored(1))
    assert (chosen.point_id.tolist(), sorted(ids.tolist())) == ([1], [100, 101, 102])


def test_what_is_no_longer_declared_takes_no_room() -> None:
    found = waiting((7, 0, 10), (1, 1000, DAY_US + 1000))
    assert taken(found, stored(1), 152) == [(1, 1000, DAY_US + 1000)]


def test_recent_stretches_go_first_then_the_oldest() -> None:
    """A stretch of a day costs 96 readings of a quarter-hour and 40 around it; a late one 16 more."""
    rows = [(1, 0, DAY_US), (2, DAY_US, 2 * DAY_US), (3, 100 * DAY_US, 101 * DAY_US)]
    found, known = waiting(*rows, recent_us=101 * DAY_US), stored(1, 2, 3)
    for budget, points in ((1, [3]), (136, [3]), (287, [3]), (288, [1, 3]), (439, [1, 3]), (440, [1, 2, 3])):
        chosen, ids = take(found, known, budget)
        assert (chosen.point_id.tolist(), (ids - 99).tolist()) == (points, points), budget
    assert chosen.is_recent.tolist() == [False, False, True]


def test_results_are_summed_and_the_first_change_of_a_site_counts() -> None:
    total = RollupResult(2, False, 1, {"a": 5, "b": 7}, 1) + RollupResult(3, True, 4, {"b": 6, "c": 9}, 2)
    assert total == RollupResult(5, True, 5, {"a": 5, "b": 6, "c": 9}, 3)
    assert total + RollupResult(0, False, 0, {"b": 8}) == RollupResult(
        5, False, 5, {"a": 5, "b": 6, "c": 9}, 3
    )


def test_every_interval_of_some_ranges() -> None:
    starts = np.array([0, 10, 20]) * QUARTER_HOUR_US
    ends = np.array([2, 10, 23]) * QUARTER_HOUR_US
    found = rollup._all_of(np.array([4, 5, 6]), starts, ends)
    assert found.point_id.tolist() == [4, 4, 6, 6, 6]
    assert (found.at_us // QUARTER_HOUR_US).tolist() == [0, 1, 20, 21, 22]


def test_windows_hold_the_readings_of_each_stretch_in_order_of_time() -> None:
    point, at_us = np.array([2, 0, 2, 0], np.int32), np.array([8, 9, 3, 1])
    zero = np.zeros(4, np.int32)
    found = rollup._windows(ReadingColumns(point, at_us, at_us * 1.0, zero, zero), 3)
    assert found[0].tolist() == [0, 2, 2, 4]
    assert found[1].at_us.tolist() == [1, 9, 3, 8]


@pytest.mark.parametrize(
    ("at_us", "horizon_us", "whole_us"),
    [
        ([0, HOUR_US, HOUR_US + 1], HOUR_US, HOUR_US),
        ([0, HOUR_US, HOUR_US + 1], HOUR_US + 1, HOUR_US + QUARTER_HOUR_US),
        ([0], 1, to_us(LATEST)),
    ],
)
def test_raw_readings_are_whole_from_the_first_that_retention_left(
    at_us: list[int], horizon_us: int, whole_us: int
) -> None:
    zero = np.zeros(len(at_us), np.int32)
    series = Series(np.array(at_us), np.zeros(len(at_us)), zero, zero)
    assert rollup._whole_from_us(series, horizon_us) == whole_us


def test_instants_are_rounded_to_quarter_hours_that_hold_them() -> None:
    at_us = np.array([0, 1, QUARTER_HOUR_US - 1, QUARTER_HOUR_US])
    assert rollup._floor(at_us).tolist() == [0, 0, 0, QUARTER_HOUR_US]
    assert rollup._ceil(at_us).tolist() == [0, *[QUARTER_HOUR_US] * 3]


def test_intervals_are_of_local_days_also_where_one_has_twenty_three_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = [(28, 22, 45), (28, 23, 0), (29, 21, 45), (29, 22, 0), (31, 12, 0)]
    at_us = np.array([to_us(datetime(2026, 3, *hour, tzinfo=UTC)) for hour in hours])
    days = rollup._local_days(at_us, berlin)
    assert [day.day for day in days] == [date(2026, 3, n) for n in (28, 29, 30, 31)]
    assert [(day.end_us - day.start_us) // HOUR_US for day in days] == [24, 23, 24, 24]
    points = Intervals(np.array([5, 5, 8, 5, 8]), at_us)
    found = [(number, day.day.day) for number, day in rollup._days_of(points, days)]
    assert found == [(5, 28), (5, 29), (5, 30), (8, 29), (8, 31)]


def test_sites_are_summed_in_runs_of_intervals_that_are_not_too_long() -> None:
    at_us = np.array([0, 1, 2, 5, 6, 9]) * QUARTER_HOUR_US
    runs = [(a // QUARTER_HOUR_US, b // QUARTER_HOUR_US) for a, b in rollup._runs(at_us)]
    assert runs == [(0, 3), (5, 7), (9, 10)]
    assert list(rollup._runs(at_us[:0])) == []
    longest = rollup.SITE_CHUNK_US // QUARTER_HOUR_US
    assert longest == 32 * 96
    for n in (longest, longest + 1):
        spans = list(rollup._runs(np.arange(n) * QUARTER_HOUR_US))
        assert [(b - a) // QUARTER_HOUR_US for a, b in spans] == [longest, n - longest][: 1 + (n > longest)]
