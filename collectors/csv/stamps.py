"""Which end of its interval a time names, and whether a last day belongs to its interval.

A date without a time of day is that day: it names the start of its interval, and as the end of one it is the
last day or the day after, which the neighbouring intervals tell. Whatever is assumed is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.domain.site import Point, Stamp
from collectors.csv.dialect import Sheet, TimeColumns
from collectors.csv.mapping import Ambiguous, Interval, Mapping
from collectors.csv.order import time_cells
from collectors.csv.plan import INTERVAL_KINDS, TimePlan
from collectors.csv.time import DAY_US, Int64s, parse_times

_STARTS = re.compile(r"\b(start|begin|from|von|beginn|desde|début)|开始|起始|開始", re.IGNORECASE)
_ENDS = re.compile(r"\b(end|ending|ended|until|bis|ende|hasta|fin)\b|结束|截止|結束|終了", re.IGNORECASE)
_MOST = 0.8


@dataclass(frozen=True)
class Stamping:
    """How times name intervals; `note` says what was assumed, empty where it was stated."""

    stamp: Stamp
    note: str = ""


def stamp_of(
    sheet: Sheet, time: TimePlan, interval: Interval, point: Point, mapping: Mapping, *, file: str
) -> Stamping:
    """Which end of its interval a single time names.

    Raises
    ------
    Ambiguous
        If dates in the middle of months may be the first day of a month's interval as well as the last.
    """
    if mapping.time.stamp is not None or point.kind not in INTERVAL_KINDS:
        return Stamping(mapping.time.stamp or Stamp.END)
    if time.place not in ("single", "joined"):
        return Stamping(Stamp.END)
    name = " ".join(sheet.names[i] for i in time.columns)
    named = [s for s, words in ((Stamp.START, _STARTS), (Stamp.END, _ENDS)) if words.search(name)]
    if len(named) == 1:
        return Stamping(named[0], f"{name}: its name says that times are the {named[0]} of their intervals")
    if time.is_date_only:
        return _of_dates(sheet, time, interval, point, file)
    other = Stamp.START if point.stamp is Stamp.END else Stamp.END
    return Stamping(
        point.stamp,
        f"point {point.id}: times are taken for the {point.stamp} of their intervals (stamp); "
        f"say time: stamp: {other} if they are the {other}",
    )


def _of_dates(sheet: Sheet, time: TimePlan, interval: Interval, point: Point, file: str) -> Stamping:
    if point.stamp is Stamp.START or time.inclusive:
        stamp = Stamp.START if point.stamp is Stamp.START and not time.inclusive else Stamp.END
        how = "the last day" if time.inclusive else "the first day"
        return Stamping(stamp, f"point {point.id}: dates are taken for {how} of their intervals")
    if interval.months and not _are_firsts(_dates(sheet, time)[-1]):
        raise Ambiguous(
            "its dates may be the first day of a month's interval or the day after its last",
            "time: stamp",
            [("start", "each date to the next"), ("end", "the date before to each date")],
            file=file,
            line=sheet.first_line,
            column=" ".join(sheet.names[i] for i in time.columns),
        )
    return Stamping(
        Stamp.START,
        f"point {point.id}: dates without a time of day are taken for the day (or the first day) they name; "
        "say time: stamp: end if they are the day after",
    )


def is_inclusive(
    sheet: Sheet, where: TimeColumns, time: TimePlan, mapping: Mapping
) -> tuple[bool, list[str]]:
    """Whether the last day that a date names belongs to its interval, and what was assumed of it.

    Bills do that: an end one day before the next start, or from the first to the last of a month.
    """
    if mapping.time.last_day is not None:
        return mapping.time.last_day == "included", []
    if not time.is_date_only:
        return False, []
    dates = _dates(sheet, time)
    if where.place in ("bounds", "range") and len(dates) == 2:
        found = _ends_inclusive(*dates)
        return found, ["the last day of each interval is taken to belong to it"] if found else []
    found = where.place in ("single", "joined") and _are_lasts(dates[-1])
    return found, ["dates are the last of their months, which are taken to belong to them"] if found else []


def _dates(sheet: Sheet, time: TimePlan) -> list[Int64s]:
    """Local dates of the sample's rows, of the start and of the end where there are two. [us]"""
    columns = time_cells(sheet, TimeColumns(time.place, time.columns))
    parsed = [parse_times(pa.array(c, pa.string()), time.formats, time.zone) for c in columns]
    length = min(len(p.us) for p in parsed)
    ok = np.logical_and.reduce([p.ok[:length] for p in parsed])
    return [p.us[:length][ok] for p in parsed]


def _ends_inclusive(start_us: Int64s, end_us: Int64s) -> bool:
    if not len(start_us):
        return False
    order = np.argsort(start_us, kind="stable")
    start, end = start_us[order], end_us[order]
    steps = (start[1:] - end[:-1]) // DAY_US
    follow = steps[(steps == 0) | (steps == 1)]
    if len(follow):
        return bool((follow == 1).mean() >= _MOST)
    return bool(((start == end) | (_are_first(start) & _are_last(end))).mean() >= _MOST)


def _are_first(us: Int64s) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    days = us.astype("datetime64[us]").astype("datetime64[D]")
    first: np.ndarray[tuple[int], np.dtype[np.bool_]] = days == days.astype("datetime64[M]").astype(
        days.dtype
    )
    return first


def _are_last(us: Int64s) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return _are_first(us + DAY_US)


def _are_firsts(us: Int64s) -> bool:
    return bool(len(us) and _are_first(us).mean() >= _MOST)


def _are_lasts(us: Int64s) -> bool:
    return bool(len(us) >= 2 and _are_last(us).mean() >= _MOST)
