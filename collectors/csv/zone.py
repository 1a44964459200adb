"""Local time to UTC: zones, the doubled and the missing hour, days and months of the calendar."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from collectors.csv.mapping import OFFSET, Interval
from collectors.csv.time import DAY_US, SECOND_US, Int64s


def zone_of(text: str) -> tzinfo:
    """A zone by IANA name or fixed offset (``UTC``, ``+08:00``).

    Raises
    ------
    ValueError
        If it is neither.
    """
    match = OFFSET.fullmatch(text)
    if not match:
        return UTC if text in ("UTC", "GMT", "Z") else ZoneInfo(text)
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes))


@dataclass(frozen=True)
class Transitions:
    """Changes of a zone's offset: ``utc_us`` of each, the offset before it and after it. [us]"""

    utc_us: Int64s
    before_us: Int64s
    after_us: Int64s
    first_us: int
    """Offset before the first change."""


_SCAN_FROM = datetime(1985, 1, 1, tzinfo=UTC)
_SCAN_DAYS = 60 * 365


@cache
def transitions(zone: tzinfo) -> Transitions:
    """Every change of the zone's offset from 1985 to 2045, found by looking at each day."""

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    found: list[tuple[datetime, timedelta, timedelta]] = []
    day, here = _SCAN_FROM, offset(_SCAN_FROM)
    steps = 1 if isinstance(zone, timezone) else _SCAN_DAYS // 7
    for _ in range(steps):
        after, there = day + timedelta(days=7), offset(day + timedelta(days=7))
        if there != here:
            found.append((_bisect(day, after, offset), here, there))
        day, here = after, there
    micro = timedelta(microseconds=1)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return Transitions(
        np.array([(at - epoch) // micro for at, _, _ in found], np.int64),
        np.array([b // micro for _, b, _ in found], np.int64),
        np.array([a // micro for _, _, a in found], np.int64),
        offset(_SCAN_FROM) // micro,
    )


def _bisect(low: datetime, high: datetime, offset: Any) -> datetime:
    before = offset(low)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        low, high = (middle, high) if offset(middle) == before else (low, middle)
    return high.replace(microsecond=0)


ABSENT, CLEAR, DOUBLED = 0, 1, 2


@dataclass
class LocalClock:
    """Turns local times of one file into UTC; it remembers, per series, where in a doubled hour it is.

    Of a local time that occurs twice, the earlier instant comes first in an ascending file and last
    in a descending one: the second pass begins when the clock steps against the order of the file,
    or when a time comes a second time.
    """

    zone: tzinfo
    descending: bool = False
    _passes: dict[tuple[int, int], _Pass] = field(default_factory=dict)

    def to_utc(
        self,
        local_us: Int64s,
        series: npt.NDArray[np.integer[Any]] | None = None,
        *,
        lenient: bool = False,
    ) -> tuple[Int64s, npt.NDArray[np.int8]]:
        """(UTC microseconds, ABSENT, CLEAR or DOUBLED) of local times in the order of the file.

        `lenient` takes a local time that does not exist for the instant of the change: a day begins
        then where there is no midnight.
        """
        table = transitions(self.zone)
        if not len(table.utc_us):
            return local_us - table.first_us, np.full(len(local_us), CLEAR, np.int8)
        utc, state, which = _split_local(local_us, table)
        for row in np.flatnonzero(state == DOUBLED).tolist():
            key = (int(series[row]) if series is not None else 0, int(which[row]))
            second = self._passes.setdefault(key, _Pass()).is_second(int(local_us[row]), self.descending)
            if second != self.descending:
                utc[row] = local_us[row] - table.after_us[which[row]]
        if lenient:
            utc = np.where(state == ABSENT, table.utc_us[which], utc)
            state = np.where(state == ABSENT, CLEAR, state)
        return utc, state


def _split_local(local_us: Int64s, table: Transitions) -> tuple[Int64s, npt.NDArray[np.int8], Int64s]:
    """UTC by the earlier reading, whether the time is missing, clear or doubled, and by which change."""
    last = (
        np.searchsorted(table.utc_us + np.minimum(table.before_us, table.after_us), local_us, side="right")
        - 1
    )
    which = np.maximum(last, 0)
    offset = np.where(last < 0, table.first_us, table.after_us[which])
    in_change = (last >= 0) & (local_us < (table.utc_us + np.maximum(table.before_us, table.after_us))[which])
    back = table.after_us[which] < table.before_us[which]
    offset = np.where(in_change & back, table.before_us[which], offset)
    state = np.where(in_change, np.where(back, DOUBLED, ABSENT), CLEAR).astype(np.int8)
    return local_us - offset, state, which


@dataclass
class _Pass:
    seen: set[int] = field(default_factory=set)
    last_us: int | None = None
    second: bool = False

    def is_second(self, local_us: int, descending: bool) -> bool:
        if self.last_us is not None:
            step = local_us - self.last_us
            self.second = self.second or (step > 0 if descending else step < 0)
        again = local_us in self.seen
        self.seen.add(local_us)
        self.last_us = local_us
        return self.second or again


def shift_local(local_us: Int64s, interval: Interval, sign: int) -> Int64s:
    """Local times moved by an interval of days, months or seconds."""
    if not interval.months:
        return local_us + sign * (interval.days * DAY_US + interval.seconds * SECOND_US)
    months = local_us.astype("datetime64[us]").astype("datetime64[M]")
    within = local_us - months.astype("datetime64[us]").astype(np.int64)
    moved = (months + sign * interval.months).astype("datetime64[us]").astype(np.int64)
    shifted: Int64s = moved + within
    return shifted
