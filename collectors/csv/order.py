"""Which way the rows of a table go in time, and how far they are apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.csv.dialect import RANGE, Sheet, TimeColumns
from collectors.csv.mapping import Interval, interval_of_seconds
from collectors.csv.plan import ASCENDING, DESCENDING, MIXED, TimePlan
from collectors.csv.time import DAY_US, NO_OFFSET, SECOND_US, parse_times


def time_cells(sheet: Sheet, where: TimeColumns) -> list[list[str]]:
    if where.place == "joined":
        parts = [sheet.column(i) for i in where.columns]
        return [[" ".join(p.strip() for p in row) for row in zip(*parts, strict=False)]]
    if where.place == "range":
        split = [_split_range(c) for c in sheet.column(where.columns[0])]
        return [[a for a, _ in split if a], [b for _, b in split if b]]
    return [list(sheet.column(i)) for i in where.columns]


def _split_range(cell: str) -> tuple[str, str]:
    match = re.match(RANGE, cell)
    return (match["a"], match["b"]) if match else ("", "")


def sample_times(
    sheet: Sheet, time: TimePlan
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[int]]:
    """Local times of the sample's rows (of the end, if there are two), and which rows they are."""
    key = (time.place, time.columns, time.formats, time.zone)
    if key not in sheet.times:
        sheet.times[key] = _sample_times(sheet, time)
    found: tuple[npt.NDArray[np.int64], list[int]] = sheet.times[key]
    return found


def _sample_times(sheet: Sheet, time: TimePlan) -> tuple[npt.NDArray[np.int64], list[int]]:
    cells = time_cells(sheet, TimeColumns(time.place, time.columns))[-1]
    got = parse_times(pa.array(cells, pa.string()), time.formats, time.zone)
    us = got.us - np.where(got.offset_us == NO_OFFSET, 0, got.offset_us)
    return us[got.ok], np.flatnonzero(got.ok).tolist()


def find_order(sheet: Sheet, time: TimePlan) -> str:
    """Whether the sample's rows go forwards or backwards in time."""
    us, _ = sample_times(sheet, time)
    steps = np.diff(us)
    if (steps < 0).sum() > (steps > 0).sum():
        return DESCENDING if _runs_on(-steps) else MIXED
    return ASCENDING if _runs_on(steps) else MIXED


_DOUBLED_US = 2 * 3600 * SECOND_US
"""A clock that is put back makes rows step back by no more than this."""


def _runs_on(steps: npt.NDArray[np.int64]) -> bool:
    """Whether the rows go one way, but for a few short steps back where a clock was changed."""
    on, back, far_back = ((steps > 0).sum(), (steps < 0).sum(), (steps < -_DOUBLED_US).sum())
    return bool(on >= 4 * far_back and back <= max(2, on / 4)) if far_back or back else True


def regular_step(sheet: Sheet, time: TimePlan, texts: Sequence[str] | None) -> Interval | None:
    """The distance that most rows have to the next, if there is one; `texts` says which point each is of."""
    us, rows = sample_times(sheet, time)
    if texts is not None:
        first = next((texts[r] for r in rows), "")
        us = us[[i for i, r in enumerate(rows) if texts[r] == first]]
    steps = np.abs(np.diff(us))
    steps = steps[steps > 0]
    if len(steps) < 3:
        return None
    if ((steps >= 28 * DAY_US) & (steps <= 31 * DAY_US)).mean() >= 0.8:
        return Interval(months=1)
    values, counts = np.unique(steps, return_counts=True)
    best = int(values[counts.argmax()])
    if counts.max() < 0.8 * len(steps) or best % SECOND_US or best > 28 * DAY_US:
        return None
    return interval_of_seconds(best // SECOND_US)
