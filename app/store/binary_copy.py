"""Rows in PostgreSQL's binary COPY format, packed and (for readings) unpacked by NumPy.

Every row has the same length because no column may be NULL: a field count, then a length before each
field, all big-endian. Times travel as microseconds since 2000-01-01.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.reading import ReadingColumns
from app.errors import SeriesError

Column = npt.NDArray[Any]

EPOCH_SHIFT_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970-01-01."""

COLUMNS = "at, point_id, value, interval_s, valid_s"
"""Order of the columns in the packed rows."""

_FIELDS = (("at", ">i8"), ("point_id", ">i4"), ("value", ">f8"), ("interval_s", ">i4"), ("valid_s", ">i4"))
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

INT2, INT4, FLOAT8, TIMESTAMPTZ = ">i2", ">i4", ">f8", "timestamptz"
"""Kinds of columns; an instant is given in microseconds since 1970."""


def _row(kinds: Sequence[str]) -> np.dtype[Any]:
    parts = [(f"{n}_len", ">i4", f"{n}", ">i8" if k == TIMESTAMPTZ else k) for n, k in enumerate(kinds)]
    return np.dtype([("n", ">i2"), *(pair for a, b, c, d in parts for pair in ((a, b), (c, d)))])


_ROW = _row([kind for _, kind in _FIELDS])
_BARE_ROW, _INSTANT = np.dtype(list(_FIELDS)), np.dtype(list(_FIELDS[:3]))
_OWN_ROW, _OWN_INSTANT = (
    np.dtype([field for field in fields if field[0] != "point_id"]) for fields in (_FIELDS, _FIELDS[:3])
)


def pack_rows(*columns: tuple[str, npt.NDArray[Any]]) -> bytes:
    """A whole COPY stream of columns of equal length, each given with its kind.

    Raises
    ------
    SeriesError
        If the columns differ in length.
    """
    if len({len(column) for _, column in columns}) != 1:
        raise SeriesError("columns of a batch differ in length")
    rows = np.empty(len(columns[0][1]), _row([kind for kind, _ in columns]))
    rows["n"] = len(columns)
    for n, (kind, column) in enumerate(columns):
        rows[f"{n}_len"] = rows[str(n)].dtype.itemsize
        rows[str(n)] = column - EPOCH_SHIFT_US if kind == TIMESTAMPTZ else column
    return _HEADER + rows.tobytes() + _TRAILER


def pack(columns: ReadingColumns) -> bytes:
    """A whole COPY stream with these readings."""
    return pack_rows(
        (TIMESTAMPTZ, columns.at_us),
        (INT4, columns.point_id),
        (FLOAT8, columns.value),
        (INT4, columns.interval_s),
        (INT4, columns.valid_s),
    )


def unpack(stream: bytes) -> ReadingColumns:
    """The readings of a whole COPY stream, or of rows cut from one at row borders.

    Raises
    ------
    SeriesError
        If the stream is not made of such rows.
    """
    body = stream.removeprefix(_HEADER).removesuffix(_TRAILER)
    if len(body) % _ROW.itemsize:
        raise SeriesError("the stream is not made of whole readings")
    rows = np.frombuffer(body, _ROW)
    return _readings(*(rows[str(n)] for n in range(len(_FIELDS))))


def unpack_fields(data: bytes) -> ReadingColumns:
    """The readings of a run of the fields' binary values alone, in the order of ``COLUMNS``.

    Raises
    ------
    SeriesError
        If the data are not made of such rows.
    """
    if len(data) % _BARE_ROW.itemsize:
        raise SeriesError("the data are not made of whole readings")
    rows = np.frombuffer(data, _BARE_ROW)
    return _readings(*(rows[name] for name, _ in _FIELDS))


def unpack_instants(data: bytes) -> ReadingColumns:
    """As :func:`unpack_fields`, of rows of the first three fields: of readings that speak of an instant.

    Raises
    ------
    SeriesError
        If the data are not made of such rows.
    """
    if len(data) % _INSTANT.itemsize:
        raise SeriesError("the data are not made of whole readings")
    rows = np.frombuffer(data, _INSTANT)
    zero = np.zeros(len(rows), np.int32)
    return _readings(rows["at"], rows["point_id"], rows["value"], zero, zero)


def unpack_of(number: int, instants: bytes, intervals: bytes) -> ReadingColumns:
    """The readings of one point or window: those of an instant (time and value), then those of an interval.

    Raises
    ------
    SeriesError
        If the data are not made of such rows.
    """
    if len(instants) % _OWN_INSTANT.itemsize or len(intervals) % _OWN_ROW.itemsize:
        raise SeriesError("the data are not made of whole readings")
    short, long = np.frombuffer(instants, _OWN_INSTANT), np.frombuffer(intervals, _OWN_ROW)
    at, value = (np.concatenate([short[name], long[name]]) for name in ("at", "value"))
    lengths = (np.concatenate([np.zeros(len(short), ">i4"), long[n]]) for n in ("interval_s", "valid_s"))
    return _readings(at, np.full(len(at), number, ">i4"), value, *lengths)


def _readings(
    at: Column, point_id: Column, value: Column, interval_s: Column, valid_s: Column
) -> ReadingColumns:
    return ReadingColumns(
        _native(point_id), _native(at) + EPOCH_SHIFT_US, _native(value), _native(interval_s), _native(valid_s)
    )


def _native(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return column.astype(column.dtype.newbyteorder("="))


def array_text(column: Column | Sequence[int]) -> str:
    """Numbers as PostgreSQL writes an array, to the last bit; many times as fast as through psycopg."""
    numbers = column.tolist() if isinstance(column, np.ndarray) else column
    return "{" + ",".join(map(str, numbers)) + "}"
