"""The importer's two ways agree on anything; times and numbers come back as they were written."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.quantity import ReadingKind, Role
from app.domain.reading import ReadingColumns
from app.domain.site import Meter, Point, Site
from collectors.csv.mapping import parse_mapping
from collectors.csv.number import NUMBER, NumberStyle, parse_numbers
from collectors.csv.reader import Reject, Understanding, read, understand
from collectors.csv.time import parse_times, time_format
from collectors.csv.zone import LocalClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2027, 1, 1, tzinfo=UTC)
ZONES = ["Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Shanghai", "Africa/Casablanca"]

# --- the fast and the careful way ------------------------------------------------------------------

MAPPING = """
encoding: utf-8
delimiter: ","
decimal: "."
skip: 0
header: 1
time: {column: t, format: "%Y-%m-%d %H:%M", order: ascending}
columns: {a: a, b: b}
"""
HEAD = b"t,a,b\n2024-01-01 00:00,0,0\n"


def _site() -> Site:
    points = tuple(Point(id=p, role=Role.NONE, kind=ReadingKind.GAUGE) for p in ("a", "b"))
    return Site(
        id="dc", institution="bank", time_zone="Europe/Berlin", meters=(Meter(id="m", points=points),)
    )


@cache
def _plan() -> Understanding:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.csv"
        path.write_bytes(HEAD)
        return understand(path, _site(), parse_mapping(MAPPING))


def _read(path: Path, **how: int | bool) -> tuple[list[tuple[object, ...]], list[Reject], int]:
    batches = list(read(path, _plan(), now=NOW, **how))  # type: ignore[arg-type]
    c = ReadingColumns.concat([b.columns for b in batches])
    rows = zip(c.point_id.tolist(), c.at_us.tolist(), c.value.tolist(), strict=True)
    rejects = sorted((r for b in batches for r in b.rejects), key=lambda r: (r.line, r.column, r.reason))
    return sorted(rows), rejects, sum(sum(b.missing.values()) for b in batches)


good_cell = st.one_of(
    st.integers(-999, 9999).map(str),
    st.floats(-1e6, 1e6).map(repr),
    st.sampled_from(["", " ", "No Data", '"7"', '"1,5"', "x", "nan", "1e400", '"a ""b"""', "=1", " 3 "]),
)
wild_cell = st.text(alphabet='",\r\n\0 1x-:é\ufeff\ufffd', max_size=6)
times = st.integers(0, 60_000).map(
    lambda m: f"{datetime(2024, 3, 30, tzinfo=UTC) + timedelta(minutes=15 * m):%Y-%m-%d %H:%M}"
)
good_row = st.tuples(times, good_cell, good_cell).map(",".join)
wild_row = st.lists(st.one_of(wild_cell, good_cell, times), max_size=5).map(",".join)
texts = st.tuples(
    st.lists(st.one_of(good_row, good_row, good_row, wild_row), max_size=12), st.sampled_from(["\n", "\r\n"])
).map(lambda t: t[1].join(t[0]).encode())
damage = st.sampled_from([b"", b"\n", b"\xff\n", b'"', b"\r", b"\n\n\n"])


@given(texts, damage, st.integers(16, 400))
@settings(max_examples=300, deadline=None)
def test_fast_and_careful_way_agree_whatever_the_file(text: bytes, tail: bytes, block_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.csv"
        path.write_bytes(HEAD + text + tail)
        whole = _read(path)
        assert whole == _read(path, careful_only=True)
        assert whole == _read(path, block_bytes=block_bytes)


# --- times -----------------------------------------------------------------------------------------

FORMATS = [
    "%Y-%m-%d %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d.%m.%y %H:%M:%S",
    "%Y%m%d %H:%M:%S",
    "%d-%b-%Y %I:%M:%S %p",
]
moments = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1))  # noqa: DTZ001


def _written(at: datetime, form: str, padded: bool) -> str:
    text = at.strftime(form)
    return text if padded else "/".join(p.removeprefix("0") for p in text.split("/"))


@given(st.lists(moments, min_size=1, max_size=20), st.sampled_from(FORMATS), st.booleans())
@settings(deadline=None)
def test_times_come_back_as_they_were_written(at: list[datetime], form: str, padded: bool) -> None:
    cells = [_written(t, form, padded) for t in at]
    got = parse_times(pa.array(cells), [time_format(form)])
    expected = [datetime.strptime(t.strftime(form), form).replace(tzinfo=UTC) for t in at]
    assert got.ok.all()
    assert got.us.tolist() == [(t - EPOCH) // timedelta(microseconds=1) for t in expected]


@given(
    st.sampled_from(ZONES),
    st.integers(0, 365 * 24 * 30),
    st.sampled_from([5, 15, 30]),
    st.integers(1, 400),
    st.booleans(),
    st.integers(1, 50),
)
@settings(deadline=None)
def test_local_times_in_file_order_give_back_every_instant(
    zone: str, first_hour: int, step_min: int, count: int, descending: bool, cut: int
) -> None:
    start = datetime(1995, 1, 1, tzinfo=UTC) + timedelta(hours=first_hour)
    utc = [start + timedelta(minutes=step_min * i) for i in range(count)]
    local = [t.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC) for t in utc]
    order = slice(None, None, -1 if descending else 1)
    local_us = np.array([(t - EPOCH) // timedelta(microseconds=1) for t in local], np.int64)[order]
    utc_us = np.array([(t - EPOCH) // timedelta(microseconds=1) for t in utc], np.int64)[order]
    assume(not _is_doubled(local[0], zone) and not _is_doubled(local[-1], zone))
    # of a series that begins or ends within the doubled hour nothing tells which pass it is
    clock = LocalClock(ZoneInfo(zone), descending)
    got = [clock.to_utc(part)[0] for part in (local_us[:cut], local_us[cut:])]
    assert np.concatenate(got).tolist() == utc_us.tolist()


def _is_doubled(local: datetime, zone: str) -> bool:
    first, second = (local.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    return first != second


# --- numbers ---------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_come_back_exactly(values: list[float]) -> None:
    got = parse_numbers(pa.array([repr(v) for v in values]), NumberStyle())
    assert (got.state == NUMBER).all()
    assert got.values.tolist() == values


@given(st.lists(st.decimals(-(10**9), 10**9, places=3), min_size=1, max_size=20))
def test_marks_do_not_change_numbers(values: list[object]) -> None:
    english = [f"{v:,}" for v in values]
    german = [t.translate(str.maketrans(",.", ".,")) for t in english]
    plain = [float(str(v)) for v in values]
    assert parse_numbers(pa.array(english), NumberStyle(".", ",")).values.tolist() == plain
    assert parse_numbers(pa.array(german), NumberStyle(",", ".")).values.tolist() == plain
