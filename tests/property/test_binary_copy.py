"""Readings survive the way into PostgreSQL's binary format and back, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.domain.reading import ReadingColumns
from app.errors import SeriesError
from app.store import binary_copy

LENGTHS = st.integers(0, 40)


@st.composite
def batches(draw: st.DrawFn) -> ReadingColumns:
    n = draw(LENGTHS)
    instants = st.integers(-(2**60), 2**60)
    return ReadingColumns(
        draw(arrays(np.int32, n)),
        draw(arrays(np.int64, n, elements=instants)),
        draw(arrays(np.float64, n)),
        draw(arrays(np.int32, n)),
        draw(arrays(np.int32, n)),
    )


@given(rows=batches())
def test_there_and_back(rows: ReadingColumns) -> None:
    back = binary_copy.unpack(binary_copy.pack(rows))
    for name in ("point_id", "at_us", "interval_s", "valid_s"):
        assert np.array_equal(getattr(back, name), getattr(rows, name))
    assert back.value.tobytes() == rows.value.tobytes()


@given(rows=batches())
def test_fields_without_the_frame_of_a_stream(rows: ReadingColumns) -> None:
    framed = np.frombuffer(binary_copy.pack(rows)[19:-2], np.uint8).reshape(-1, 50)
    bare = np.delete(
        framed, [0, 1, *(i for start in (2, 14, 22, 34, 42) for i in range(start, start + 4))], 1
    )
    back = binary_copy.unpack_fields(bare.tobytes())
    assert np.array_equal(back.at_us, rows.at_us)
    assert np.array_equal(back.valid_s, rows.valid_s)
    with pytest.raises(SeriesError, match="whole readings"):
        binary_copy.unpack_fields(bare.tobytes() + b"x")


@given(rows=batches())
def test_readings_of_one_window_come_in_two_parts(rows: ReadingColumns) -> None:
    columns = (rows.at_us - binary_copy.EPOCH_SHIFT_US, rows.value, rows.interval_s, rows.valid_s)
    packed = [c.astype(c.dtype.newbyteorder(">")).view(np.uint8).reshape(-1, c.itemsize) for c in columns]
    short, long = np.hstack(packed[:2]).tobytes(), np.hstack(packed).tobytes()
    back = binary_copy.unpack_of(7, short, long)
    n = len(rows)
    assert back.point_id.tolist() == [7] * (2 * n)
    assert back.at_us.tolist() == 2 * rows.at_us.tolist()
    assert back.value.tobytes() == 2 * rows.value.tobytes()
    assert back.interval_s.tolist() == [0] * n + rows.interval_s.tolist()
    assert back.valid_s.tolist() == [0] * n + rows.valid_s.tolist()
    with pytest.raises(SeriesError, match="whole readings"):
        binary_copy.unpack_of(7, short + b"x", long)


@given(rows=batches(), cut=st.integers(1, 49))
def test_a_stream_that_is_cut_within_a_row_is_refused(rows: ReadingColumns, cut: int) -> None:
    body = binary_copy.pack(rows)[19:-2]
    if body:
        with pytest.raises(SeriesError, match="whole readings"):
            binary_copy.unpack(body[:-cut])
