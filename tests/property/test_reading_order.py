"""Readings are put in order as by comparing all of them, however few, many or far apart they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.reading import ReadingColumns, order_by_point
from app.store.readings import first_per_key

POINTS = st.one_of(st.integers(1, 5), st.integers(1, 2**31 - 1))
INSTANTS = st.one_of(st.integers(0, 6), st.integers(-(2**53), 2**53))
KEYS = st.lists(st.tuples(POINTS, INSTANTS), max_size=30)


def columns(keys: list[tuple[int, int]]) -> ReadingColumns:
    points = np.array([point for point, _ in keys], np.int32)
    lengths = np.zeros(len(keys), np.int32)
    at_us = np.array([at for _, at in keys], np.int64)
    return ReadingColumns(points, at_us, np.arange(len(keys), dtype=np.float64), lengths, lengths)


@given(KEYS)
def test_rows_stand_by_point_then_time_then_as_they_came(keys: list[tuple[int, int]]) -> None:
    made = columns(keys)
    wanted = np.lexsort((made.at_us, made.point_id)).tolist()
    assert order_by_point(made.point_id, made.at_us).tolist() == wanted
    assert made.by_point().value.tolist() == wanted


@given(KEYS, st.booleans())
def test_the_first_of_each_key_stays_and_all_later_ones_are_apart(
    keys: list[tuple[int, int]], is_sorted: bool
) -> None:
    keys = sorted(keys, key=lambda key: key[::-1]) if is_sorted else keys
    first, rest = first_per_key(columns(keys))
    stood: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(keys):
        stood.setdefault(key[::-1], []).append(row)
    assert first.value.tolist() == [stood[key][0] for key in sorted(stood)]
    assert rest.value.tolist() == [row for key in sorted(stood) for row in stood[key][1:]]
