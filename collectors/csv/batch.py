"""The last step of every format: checks on finished readings, and the batch that goes out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from app.domain.quantity import ReadingKind
from app.domain.reading import FUTURE_ALLOWED, OLDEST, ReadingColumns, refusal
from collectors.csv.pattern import Pattern
from collectors.csv.plan import ColumnPlan, Understanding
from collectors.csv.rows import Reject
from collectors.csv.time import SECOND_US, Bools, Int64s

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_LONGEST_INTERVAL_S = 400 * 86_400
_FOOTER = re.compile(
    r"""\W*(\*{3,}.*|end.of.(report|file|data)\b.*|(grand.)?total\b.*|sum\b.*|average\b.*|min(imum)?\b|max(imum)?\b
    |(gesamt|summe|mittelwert|durchschnitt|minimum|maximum|somme|moyenne|media|promedio)\b.*|mean\b.*
    |id:.*|report.(generated|created|by)\b.*|generated\b.*|printed\b.*|\d+\s+(rows|records)\b.*|\(\d+\s+rows.*
    |合计.*|合計.*|总计.*|總計.*|小计.*|平均.*|最大.*|最小.*|共\s*\d+\s*[条笔筆].*|报表.*|報表.*|制表.*|製表.*)""",
    re.IGNORECASE | re.VERBOSE,
)
"""Closing lines of reports; a row that begins so is passed over, not refused."""


@dataclass(frozen=True, slots=True)
class ParsedBatch:
    """Part of a file as readings. ``columns.point_id`` counts in ``points``.

    ``missing`` counts, by column, the cells that say nothing was measured; ``duplicates`` the readings
    that only repeat the one before; ``packed_bytes`` how far into the file this batch reaches.
    """

    points: tuple[str, ...]
    columns: ReadingColumns
    rejects: list[Reject]
    missing: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    packed_bytes: int = 0
    places: dict[str, int] = field(default_factory=dict)
    """In which column of the table each name stands that a reject may have."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Readings of one point in the order of the file; values in house units, NaN where nothing was measured.

    ``start_us`` equals ``at_us`` for kinds without an interval.
    """

    line: Int64s
    at_us: Int64s
    start_us: Int64s
    value: npt.NDArray[np.float64]
    valid_s: npt.NDArray[np.float64]
    """Valid part; NaN where the source states none: the whole interval. [s]"""

    def take(self, rows: npt.NDArray[np.intp] | Bools | slice) -> Bulk:
        """The chosen rows."""
        return Bulk(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def concat(cls, a: Bulk, b: Bulk) -> Bulk:
        """Both after each other."""
        return cls(*(np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.line)


@dataclass
class _Last:
    """The reading of a point that was taken over last."""

    line: int
    start_us: int
    at_us: int
    value: float


class Batcher:
    """Checks readings and packs them; remembers the last reading of each point from batch to batch."""

    def __init__(self, plan: Understanding, now: datetime) -> None:
        self._plan, self._now = plan, now
        self._oldest_us = (OLDEST - _EPOCH) // _MICRO
        self._newest_us = (now + FUTURE_ALLOWED - _EPOCH) // _MICRO
        self._last: dict[int, _Last] = {}
        self._missing: Counter[str] = Counter()
        self._duplicates = 0
        self._footer = Pattern(plan.footer) if plan.footer else _FOOTER

    def is_footer(self, text: str) -> bool:
        """Whether a row that begins so only closes the report."""
        return bool(self._footer.match(text.strip()))

    def count_missing(self, column: str, count: int) -> None:
        """Counts cells that say nothing was measured."""
        if count:
            self._missing[column] += count

    def pack(self, bulks: dict[int, Bulk], rejects: list[Reject], packed_bytes: int) -> ParsedBatch:
        """One batch of the checked readings of each point; refused ones go to `rejects`."""
        kept = [(i, self._checked(i, bulk, rejects)) for i, bulk in bulks.items()]
        missing, self._missing = dict(self._missing), Counter()
        duplicates, self._duplicates = self._duplicates, 0
        rejects.sort(key=lambda r: r.line)
        columns = ReadingColumns.concat([_columns(i, self._plan.columns[i], b) for i, b in kept if len(b)])
        return ParsedBatch(self._plan.points, columns, rejects, missing, duplicates, packed_bytes)

    def _checked(self, index: int, bulk: Bulk, rejects: list[Reject]) -> Bulk:
        column = self._plan.columns[index]
        bulk = bulk.take(~np.isnan(bulk.value)) if np.isnan(bulk.value).any() else bulk
        bulk = self._in_range(column, bulk, rejects)
        if column.is_interval:
            bulk = self._in_interval(column, bulk, rejects)
        return self._without_repeats(index, column, bulk, rejects)

    def _in_range(self, column: ColumnPlan, bulk: Bulk, rejects: list[Reject]) -> Bulk:
        quantity = column.point.quantity
        good = (bulk.value >= quantity.lowest) & (bulk.value <= quantity.highest)
        good &= (bulk.at_us >= self._oldest_us) & (bulk.at_us <= self._newest_us)
        negative = column.point.kind is ReadingKind.REGISTER and not column.allow_negative
        if negative:
            good &= bulk.value >= 0
        for row in np.flatnonzero(~good).tolist():
            at = _instant(int(bulk.at_us[row]))
            value = float(bulk.value[row])
            reason = "it is out of range" if at is None else refusal(at, value, quantity, self._now)
            reason = (
                reason or "a register that counts up is never negative (allow_negative: true if it may be)"
            )
            rejects.append(Reject(int(bulk.line[row]), column.name, reason, f"{value:g}"))
        return bulk if good.all() else bulk.take(good)

    def _in_interval(self, column: ColumnPlan, bulk: Bulk, rejects: list[Reject]) -> Bulk:
        """Intervals of a possible length, with a valid part within it."""
        length_s = (bulk.at_us - bulk.start_us) / SECOND_US
        checks = (
            (length_s <= 0, "its interval has no length: the row before it has the same time"),
            (length_s > _LONGEST_INTERVAL_S, "its interval is longer than 400 days"),
            (bulk.valid_s > length_s + 1, "more is valid than the interval is long"),
            (bulk.valid_s < 0, "its valid part is negative"),
        )
        bad = np.logical_or.reduce([b for b, _ in checks])
        for row in np.flatnonzero(bad).tolist():
            reason = next(r for b, r in checks if b[row])
            rejects.append(Reject(int(bulk.line[row]), column.name, reason, f"{bulk.value[row]:g}"))
        nothing = bulk.valid_s == 0
        self.count_missing(column.name, int((nothing & ~bad).sum()))
        return bulk.take(~bad & ~nothing) if bad.any() or nothing.any() else bulk

    def _without_repeats(self, index: int, column: ColumnPlan, bulk: Bulk, rejects: list[Reject]) -> Bulk:
        """Without readings that repeat, contradict or overlap the one before them in the file."""
        if not len(bulk):
            return bulk
        last = self._last.get(index)
        if self._is_clean(bulk, last):
            good = bulk
        else:
            keep = np.array(list(self._judge(column, bulk, last, rejects)), np.bool_)
            good = bulk.take(keep)
        if len(good):
            self._last[index] = _last_of(good, len(good) - 1)
        return good

    @staticmethod
    def _is_clean(bulk: Bulk, last: _Last | None) -> bool:
        at = bulk.at_us if last is None else np.concatenate(([last.at_us], bulk.at_us))
        start = bulk.start_us if last is None else np.concatenate(([last.start_us], bulk.start_us))
        overlap = (start[1:] < at[:-1]) & (at[1:] > start[:-1])
        return not ((at[1:] == at[:-1]) | overlap).any()

    def _judge(
        self, column: ColumnPlan, bulk: Bulk, last: _Last | None, rejects: list[Reject]
    ) -> Iterator[bool]:
        for row in range(len(bulk)):
            here = _last_of(bulk, row)
            reason = _conflict(here, last)
            if reason == "":
                self._duplicates += 1
            elif reason is not None:
                rejects.append(Reject(here.line, column.name, reason, f"{here.value:g}"))
            else:
                last = here
            yield reason is None


def _last_of(bulk: Bulk, row: int) -> _Last:
    return _Last(int(bulk.line[row]), int(bulk.start_us[row]), int(bulk.at_us[row]), float(bulk.value[row]))


def _conflict(here: _Last, before: _Last | None) -> str | None:
    """None: it goes on; "": it repeats the reading before; else why it is refused."""
    if before is None:
        return None
    if here.at_us == before.at_us and here.start_us == before.start_us:
        same = here.value == before.value
        return "" if same else f"another value for the same time as line {before.line} ({before.value:g})"
    if here.start_us < before.at_us and here.at_us > before.start_us:
        return f"its interval overlaps that of line {before.line}"
    return None


def _instant(at_us: int) -> datetime | None:
    try:
        return _EPOCH + at_us * _MICRO
    except OverflowError:
        return None


def _columns(index: int, column: ColumnPlan, bulk: Bulk) -> ReadingColumns:
    n = len(bulk)
    if column.is_interval:
        interval = np.round((bulk.at_us - bulk.start_us) / SECOND_US).astype(np.int32)
        valid = np.where(np.isnan(bulk.valid_s), interval, np.minimum(np.nan_to_num(bulk.valid_s), interval))
    else:
        interval, valid = np.zeros(n, np.int32), np.zeros(n, np.int32)
    return ReadingColumns(
        np.full(n, index, np.int32), bulk.at_us, bulk.value, interval, np.round(valid).astype(np.int32)
    )
