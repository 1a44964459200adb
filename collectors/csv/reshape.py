"""Exports that are no plain table, reshaped into one while they are read.

A shape gives rows of (line, cells) under one of two headings: readings of an instant, or of an interval.
Each row keeps the line of the file that it is from. ``layouts`` says which layout is of which shape.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from app.errors import FileNotUnderstood
from collectors.csv import epw
from collectors.csv.number import is_no_value, looks_measured
from collectors.csv.rows import MAX_COLUMNS, split_record
from collectors.csv.source import Block, Source, blocks
from collectors.csv.time import parse_text, time_format
from collectors.csv.time_formats import formats_of

INSTANTS = ("time", "point", "value", "unit")
INTERVALS = ("start", "end", "point", "value", "unit")

_DELIMITERS = (",", ";", "\t", "|")
_AT_START = 400
"""Rows that are looked at before the first is handed on."""

Row = tuple[int, list[str]]
Rows = Iterator[Row]


@dataclass(frozen=True)
class Opened:
    """A file to reshape."""

    source: Source
    encoding: str
    file: str

    def refused(self, problem: str, line: int = 1) -> FileNotUnderstood:
        """The error that names the file."""
        return FileNotUnderstood(problem, file=self.file, line=line)


@dataclass(frozen=True)
class Shape:
    """How one kind of file becomes rows under a heading."""

    heading: tuple[str, ...]
    rows: Callable[[Opened], Rows]


def reshaped_blocks(
    source: Source, encoding: str, shape: Shape, *, file: str, block_bytes: int
) -> Iterator[Block]:
    """The reshaped table in blocks of whole lines; the last block may be empty.

    Raises
    ------
    FileNotUnderstood
        If the file is not of that shape, or is damaged.
    """
    text, lines = io.StringIO(), [1]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(shape.heading)
    for line, cells in shape.rows(Opened(source, encoding, file)):
        writer.writerow([_plain(c) for c in cells])
        lines.append(max(line, 2))
        if text.tell() >= block_bytes:
            yield _block(text, lines, source)
            text.seek(0)
            text.truncate()
            lines = []
    yield _block(text, lines, source)


def _block(text: io.StringIO, lines: list[int], source: Source) -> Block:
    data = text.getvalue().encode("utf-8", "replace")
    return Block(1, data, source.packed_bytes, np.array(lines, np.int64))


def _plain(text: str) -> str:
    return " ".join(text.replace("\0", " ").replace("\ufffd", "?").replace('"', "'").split())


# -- rows of a text -----------------------------------------------------------------------------------


def _lines(opened: Opened) -> Iterator[tuple[int, bytes]]:
    for block in blocks(opened.source, opened.encoding, file=opened.file):
        for i, data in enumerate(block.data.split(b"\n")):
            yield block.first_line + i, data


def _cut(line: int, data: bytes, delimiter: str) -> Row:
    """The cells of a line; of one that cannot be cut, its text as the only cell."""
    _, cells, reject = split_record(data, line, delimiter)
    return line, [reject.text] if reject else [c.strip().lstrip("\ufeff") for c in cells]


def _opened_rows(opened: Opened) -> tuple[list[Row], Rows]:
    """The first rows, and all of them, cut at the delimiter that the first lines have most of."""
    lines = _lines(opened)
    first = list(islice(lines, _AT_START))
    delimiter = max(_DELIMITERS, key=lambda d: sum(data.count(d.encode()) for _, data in first))
    head = [_cut(line, data, delimiter) for line, data in first]
    return head, chain(head, (_cut(line, data, delimiter) for line, data in lines))


def _cell(cells: Sequence[str], index: int | None) -> str:
    return cells[index] if index is not None and index < len(cells) else ""


def _index(cells: Sequence[str], *names: str) -> int | None:
    lower = [c.lower() for c in cells]
    return next((lower.index(n) for n in names if n in lower), None)


# -- time and value side by side, for each series -------------------------------------------------------


def are_pairs(rows: Sequence[Row]) -> int | None:
    """Line of the first row of (time, value) pairs, two at least; None where the rows are no such."""
    counts = [(line, _pairs_in(cells)) for line, cells in rows if any(c.strip() for c in cells)]
    first = next((line for line, count in counts if count >= 2), None)
    if first is None:
        return None
    after = [count for line, count in counts if line >= first]
    is_so = sum(c >= 2 for c in after) >= min(2, len(after)) and sum(c >= 1 for c in after) >= 0.8 * len(
        after
    )
    return first if is_so else None


def _pairs_in(cells: Sequence[str]) -> int:
    """How many times with a value beside them the row is made of; 0 where it has anything else."""
    pairs = [(a.strip(), b.strip()) for a, b in zip(cells[0::2], cells[1::2], strict=False)]
    filled = [(a, b) for a, b in pairs if a or b]
    return len(filled) if all(map(_is_pair, filled)) and len(cells) >= 4 else 0


def _is_pair(pair: tuple[str, str]) -> bool:
    at, value = pair
    return bool(formats_of(at)) and not looks_measured(at) and (looks_measured(value) or is_no_value(value))


def _pairs(opened: Opened) -> Rows:
    head, rows = _opened_rows(opened)
    first = are_pairs(head)
    if first is None:
        raise opened.refused("expected a time and a value side by side for each series")
    width = max(len(cells) for line, cells in head if line >= first)
    above = [cells for line, cells in head if line < first and sum(map(bool, cells)) >= 1]
    names = _pair_names(above[-1] if above else [], above[0] if above else [], width // 2)
    for line, cells in rows:
        if line >= first and _are_names(cells):
            names = _pair_names(cells, [], width // 2) if _names_any(cells) else names
        elif line >= first:
            for i, name in enumerate(names):
                at, value = _cell(cells, 2 * i), _cell(cells, 2 * i + 1)
                if at or value:
                    yield line, [at, name, value, ""]


def _are_names(cells: Sequence[str]) -> bool:
    """Whether a row is another heading: texts only, two at least."""
    filled = [c for c in cells if c]
    return len(filled) >= 2 and not any(looks_measured(c) or formats_of(c) or is_no_value(c) for c in filled)


def _names_any(cells: Sequence[str]) -> bool:
    """Whether a heading names its series, not only times and values."""
    return any(not _NO_NAMES.fullmatch(c) for c in cells)


_NO_NAMES = re.compile(r"(?:date|time|time ?stamp|date ?/? ?time|value|时间|数值|值|)", re.IGNORECASE)


def _pair_names(nearest: Sequence[str], topmost: Sequence[str], count: int) -> list[str]:
    """The name of each pair: above its time or its value, in the nearest row that names anything."""
    out = []
    for i in range(count):
        named = [_cell(row, k) for row in (nearest, topmost) for k in (2 * i, 2 * i + 1)]
        names = [n for n in named if not _NO_NAMES.fullmatch(n)]
        out.append(
            re.sub(r"[\s_.-]*(?:date|time ?stamp|time|value)$", "", names[0], flags=re.I)
            if names
            else str(i + 1)
        )
    return out


# -- a row an entity, a column an hour or day (Home Assistant) -------------------------------------------


def _entities(opened: Opened) -> Rows:
    head, rows = _opened_rows(opened)
    times = _times_of(next((row for row in head if _index(row[1], "entity_id") == 0), (1, [])), opened)
    for line, cells in rows:
        name = _cell(cells, 0)
        if name == "entity_id":
            times = _times_of((line, cells), opened)
        elif name:
            for (start, end), value in zip(times, cells[3:], strict=False):
                yield line, [start, end, name, value, _cell(cells, 2)]


def _times_of(heading: Row, opened: Opened) -> list[tuple[str, str]]:
    """Start and end of each column of a heading."""
    line, cells = heading
    starts = [_instant(c) for c in cells[3:]]
    if len(starts) < 2 or None in starts or len(cells) > MAX_COLUMNS:
        raise opened.refused("expected entity_id, type, unit and at least two times as columns", line)
    begins = [s for s in starts if s is not None]
    ends = [*begins[1:], _next(begins)]
    return [(_iso(a), _iso(b)) for a, b in zip(begins, ends, strict=True)]


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.replace(tzinfo=at.tzinfo or UTC)


def _next(starts: Sequence[datetime]) -> datetime:
    """End of the last interval: as long as the one before, or to the end of its month."""
    last, step = starts[-1], starts[-1] - starts[-2]
    if not timedelta(days=27) < step < timedelta(days=32):
        return last + step
    shift = timedelta(days=1 if last.day > 27 else 0)  # midnight of the 1st elsewhere is a last day in UTC
    first = last + shift
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1) - shift


def _iso(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- statistics of Home Assistant: what a period ended with, stamped with its start ------------------------


def _statistics(opened: Opened) -> Rows:
    head, rows = _opened_rows(opened)
    place = _places_of(next((r for r in head if _starts_at(r[1]) is not None), (1, [])), opened)
    read = _reader_of([_cell(c, place.at) for _, c in head], opened)
    period = _period(head, place.at, place.name, read)
    if period is None:
        raise opened.refused("one time a statistic does not tell how long its periods are")
    for line, cells in rows:
        if _starts_at(cells) is not None:
            place = _places_of((line, cells), opened)
        elif any(cells):
            text = _cell(cells, place.at)
            start, value = read(text), _cell(cells, place.total) or _cell(cells, place.mean)
            bounds = [text, text] if start is None else [_stamp(start), _stamp(start + period)]
            yield line, [*bounds, _cell(cells, place.name), value, _cell(cells, place.unit)]


class _Places(NamedTuple):
    """Where the columns of such a table are."""

    at: int
    name: int
    total: int | None
    mean: int | None
    unit: int | None


def _starts_at(heading: Sequence[str]) -> int | None:
    """The column of the start of each period, if the row is a heading."""
    return _index(heading, "start_ts", "start")


def _places_of(heading: Row, opened: Opened) -> _Places:
    line, cells = heading
    at, name = _starts_at(cells), _index(cells, "statistic_id", "metadata_id")
    total, mean = _index(cells, "sum"), _index(cells, "mean")
    if at is None or name is None or (total is None and mean is None):
        raise opened.refused("expected statistic_id, start, and sum or mean as columns", line)
    return _Places(at, name, total, mean, _index(cells, "unit"))


def _stamp(at: datetime) -> str:
    return _iso(at) if at.tzinfo else f"{at:%Y-%m-%d %H:%M:%S}"


def _reader_of(cells: Sequence[str], opened: Opened) -> Callable[[str], datetime | None]:
    """What reads the times of a column: seconds since 1970, or dates that can be read in one way."""
    if any(re.fullmatch(r"\d{9,11}(?:\.\d+)?", c) for c in cells):
        return _of_epoch
    options = [set(formats_of(c)) for c in cells if formats_of(c)]
    common = set.intersection(*options) if options else set()
    if len(common) != 1:
        raise opened.refused("its times can be read in several ways, or none")
    wanted = time_format(common.pop())

    def read(text: str) -> datetime | None:
        parsed = parse_text(text, wanted)
        if parsed is None:
            return None
        at_us, offset_us = parsed
        at = datetime(1970, 1, 1) + timedelta(microseconds=at_us)  # noqa: DTZ001 - the file's own clock
        return at if offset_us is None else (at - timedelta(microseconds=offset_us)).replace(tzinfo=UTC)

    return read


def _of_epoch(text: str) -> datetime | None:
    return datetime.fromtimestamp(float(text), UTC) if re.fullmatch(r"\d{9,11}(?:\.\d+)?", text) else None


def _period(
    head: Sequence[Row], at: int, name: int, read: Callable[[str], datetime | None]
) -> timedelta | None:
    last: dict[str, datetime] = {}
    steps = []
    for _, cells in head:
        start = read(_cell(cells, at))
        if start is None:
            continue
        before = last.get(_cell(cells, name))
        if before is not None and before != start:
            steps.append(abs(start - before))
        last[_cell(cells, name)] = start
    return min(steps, default=None)


# -- a row a circuit, a column an hour, day or month ------------------------------------------------------

_HOUR = re.compile(
    r"(\d{1,2})\s*(?:时|時|点|點|h|:00(?::00)?)(?:\s*[-~–—至到]\s*\d{1,2}\s*(?:时|時|点|點|h|:00(?::00)?)?)?"
)
_DAY = re.compile(r"(\d{1,2})\s*(?:日|号|號)")
_MONTH = re.compile(r"(\d{1,2})\s*月(?:份)?")
_OF_DAYS = ("年", "月", "日")
_LEAST = {"hour": 12, "day": 20, "month": 6}
_DATED = re.compile(r"(20\d\d)\s*[-/.年]\s*(\d{1,2})(?:\s*[-/.月]\s*(\d{1,2}))?")
_YEAR = re.compile(r"(20\d\d)\s*年?")
_NAMED = re.compile(
    r"(?:回路|仪表|支路|表计|电表|设备|测点|区域|项目|用户|节点)?(?:名称|编号|名|号)?|name|meter|circuit",
    re.I,
)
_WHEN = re.compile(r"日期|时间|月份|年份|年月|date|month|year", re.I)
_UNIT = re.compile(r"(?:单位|單位)\s*[:：]?\s*([^\s,，;；)）]+)")
_BRACKETED = re.compile(r"[(（]\s*([万千兆]?[A-Za-z\u4e00-\u9fff]{1,5})\s*[)）]")


@dataclass(frozen=True)
class Calendar:
    """The heading of such a report."""

    line: int
    step: str
    columns: tuple[tuple[int, int], ...]
    """(column, hour, day or month)."""
    name: int
    when: int | None = None
    unit: int | None = None
    base: date | None = None
    """The month that the heading itself names."""


def calendar_of(rows: Sequence[Row]) -> Calendar | None:
    """The heading whose columns are hours, days or months; None where there is none."""
    for i, (line, cells) in enumerate(rows[:40]):
        month = _of_month(cells, rows[i + 1]) if i + 1 < len(rows) else None
        if month is not None:
            return month
        for step, pattern in (("hour", _HOUR), ("day", _DAY), ("month", _MONTH)):
            found = [(i, int(m[1])) for i, c in enumerate(cells[:200]) if (m := pattern.fullmatch(c.strip()))]
            if len(found) >= _LEAST[step] and _run_on([n for _, n in found]):
                others = [i for i, c in enumerate(cells) if i < found[0][0]]
                when = next((i for i in others if _WHEN.search(cells[i])), None)
                unit = next(
                    (i for i, c in enumerate(cells) if c.strip() in ("单位", "單位", "unit", "Unit")), None
                )
                names = [i for i in others if i not in (when, unit)]
                best = next((i for i in names if cells[i] and _NAMED.fullmatch(cells[i])), None)
                name = best if best is not None else names[-1] if names else None
                if name is not None:
                    return Calendar(line, step, tuple(found), name, when, unit)
    return None


def _of_month(names: Sequence[str], numbers: Row) -> Calendar | None:
    """A heading of two rows: year, month and day, and below them which (MyEMS, offline meters)."""
    line, cells = numbers
    if not set(_OF_DAYS) <= {c.strip() for c in names}:
        return None
    found = [(name.strip(), i, _whole(_cell(cells, i))) for i, name in enumerate(names[:200])]
    days = [(i, n) for name, i, n in found if name == "日" and n is not None]
    year, month = (next((n for name, _, n in found if name == wanted), None) for wanted in "年月")
    if len(days) < _LEAST["day"] or not _run_on([n for _, n in days]) or year is None or month is None:
        return None
    name = next(i for name, i, _ in found if name == "月")
    try:
        return Calendar(line, "day", tuple(days), name, base=date(year, month, 1))
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    """A whole number, also as a spreadsheet writes it (2023.0)."""
    found = re.fullmatch(r"(\d{1,4})(?:\.0)?(?:e0)?", text.strip())
    return int(found[1]) if found else None


def _run_on(numbers: Sequence[int]) -> bool:
    return all(b == a + 1 for a, b in pairwise(numbers))


def _calendar(opened: Opened) -> Rows:
    head, rows = _opened_rows(opened)
    heading = calendar_of(head)
    if heading is None:
        raise opened.refused("expected a heading of hours, days or months")
    above = " ".join(c for line, cells in head if line < heading.line for c in cells)
    base, unit = heading.base or _base(above, heading.step), _unit_of(above)
    between: list[Row] = []
    for line, cells in rows:
        if line <= heading.line:
            continue
        if set(_OF_DAYS) <= set(cells):  # the upper row of a heading of two
            between.append((line, cells))
            continue
        found = _heading_again(heading, between, (line, cells))
        if found is not None:
            heading, base, unit = _next_page(heading, base, unit, found, between)
            between = []
            continue
        name = _cell(cells, heading.name)
        is_title = _is_title(cells, heading)
        between = [*between[-20:], (line, cells)] if is_title else []
        if is_title or not name or name in _SUMS:
            continue
        own = base if heading.when is None else _base(_cell(cells, heading.when), heading.step) or base
        if own is None:
            raise opened.refused(
                f"neither the rows nor the lines above say which {_WHOLE[heading.step]} its columns are of",
                line,
            )
        for index, number in heading.columns:
            bounds = _bounds(own, heading.step, number, heading.columns[0][1])
            if _cell(cells, index):
                own_unit = _cell(cells, heading.unit) or unit
                yield line, [*bounds, name, _cell(cells, index), own_unit]


def _is_title(cells: Sequence[str], heading: Calendar) -> bool:
    """Whether a row stands above a page: nothing in it is measured, or a unit or a date is all it says."""
    inside = [c for i, _ in heading.columns if (c := _cell(cells, i))]
    if any(map(looks_measured, inside)):
        return False
    text = " ".join(cells)
    return not inside or bool(_UNIT.search(text) or _base(text, heading.step))


def _heading_again(before: Calendar, between: Sequence[Row], row: Row) -> Calendar | None:
    """The row as another heading; None where it is none."""
    if between and set(_OF_DAYS) <= set(between[-1][1]):
        return calendar_of([between[-1], row])
    return None if looks_measured(_cell(row[1], before.columns[0][0])) else calendar_of([row])


def _next_page(
    before: Calendar, base: date | None, unit: str, found: Calendar, between: Sequence[Row]
) -> tuple[Calendar, date | None, str]:
    """Another heading with its day, month or year, and unit: what stands above it, else as they were.

    Where nothing is said and the columns are others, the day, month or year is not known any more.
    """
    above = " ".join(c for _, cells in between for c in cells)
    is_same = found.step == before.step and found.columns == before.columns
    own = found.base or _base(above, found.step) or (base if is_same else None)
    return found, own, _unit_of(above) or unit


_SUMS = ("合计", "合計", "总计", "總計", "小计", "小計", "平均", "最大值", "最小值", "Total", "total", "Sum")
_WHOLE = {"hour": "day", "day": "month", "month": "year"}


def _base(text: str, step: str) -> date | None:
    """The day, month or year that a text names."""
    dated = [m for m in _DATED.finditer(text) if step != "hour" or m[3]]
    try:
        if dated:
            year, month, day = dated[0].groups()
            return date(int(year), int(month), int(day) if day and step == "hour" else 1)
        found = _YEAR.search(text) if step == "month" else None
        return date(int(found[1]), 1, 1) if found else None
    except ValueError:
        return None


def _unit_of(text: str) -> str:
    found = _UNIT.search(text) or _BRACKETED.search(text)
    return found[1] if found else ""


def _bounds(base: date, step: str, number: int, first: int) -> list[str]:
    """Start and end of a column, as local times; no times for a day that its month does not have."""
    midnight = datetime(base.year, base.month, base.day)  # noqa: DTZ001 - the report's own clock
    if step == "hour":
        start = midnight + timedelta(hours=number - (1 if first == 1 else 0))
        end = start + timedelta(hours=1)
    else:
        try:
            start = midnight.replace(day=number) if step == "day" else midnight.replace(month=number, day=1)
        except ValueError:
            return [f"{base:%Y-%m}-{number} 00:00"] * 2
        longer = start + timedelta(days=1 if step == "day" else 32)
        end = longer if step == "day" else longer.replace(day=1)
    return [f"{start:%Y-%m-%d %H:%M}", f"{end:%Y-%m-%d %H:%M}"]


# -- annotated CSV of InfluxDB --------------------------------------------------------------------------

_ANNOTATIONS = ("#datatype", "#group", "#default", "#constant")
_NUMBERS = ("double", "long", "unsignedlong")


def is_annotated(head: bytes) -> bool:
    """Whether the file begins like an answer of InfluxDB."""
    start = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().replace(b'"', b"")
    return start.startswith((b"#datatype,", b"#group,", b"#default,", b",result,table,"))


@dataclass
class _Table:
    """One table of an annotated file."""

    annotations: dict[str, list[str]] = field(default_factory=dict)
    heading: list[str] = field(default_factory=list)

    def cell(self, cells: Sequence[str], name: str) -> str:
        """The cell of a column, or its default."""
        if name not in self.heading:
            return ""
        i = self.heading.index(name)
        return _cell(cells, i) or _cell(self.annotations.get("#default", []), i)

    def kind(self, index: int) -> str:
        """Type of a column."""
        return _cell(self.annotations.get("#datatype", []), index).lower()

    def values(self) -> list[str]:
        """The columns that hold values: ``_value``, or the numeric ones of a pivoted table."""
        if "_value" in self.heading:
            i = self.heading.index("_value")
            return [] if self.kind(i) in ("string", "boolean") else ["_value"]
        named = ("", "result", "table", *_ANNOTATIONS)
        return [
            n
            for i, n in enumerate(self.heading)
            if n not in named and not n.startswith("_") and self.kind(i) in _NUMBERS
        ]

    def series(self, cells: Sequence[str], value: str) -> str:
        """Name of a row's series: measurement, field and tags."""
        skipped = {"", "result", "table", *self.values()}
        tags = [self.cell(cells, n) for n in self.heading if n not in skipped and not n.startswith("_")]
        field_name = self.cell(cells, "_field") if value == "_value" else value
        parts = [self.cell(cells, "_measurement"), "" if field_name == "value" else field_name, *tags]
        return " ".join(p for p in parts if p)


def _annotated(opened: Opened) -> Rows:
    table = _Table()
    for line, data in _lines(opened):
        _, cells = _cut(line, data, ",")
        if not any(cells):
            table = _Table()
        elif cells[0] in _ANNOTATIONS:
            table = _Table() if table.heading else table
            table.annotations[cells[0]] = ["", *cells[1:]]
        elif not table.heading:
            table.heading = ["", *cells[1:]]
            if cells[:2] == ["error", "reference"] or cells[1:2] == ["error"]:
                raise opened.refused("an answer of InfluxDB that reports an error instead of data", line)
        else:
            for value in table.values():
                unit = table.cell(cells, "_measurement")
                at = table.cell(cells, "_time") or table.cell(cells, "_stop")
                yield line, [at, table.series(cells, value), table.cell(cells, value), unit]


# -- answers of Prometheus ------------------------------------------------------------------------------

_RESULT = re.compile(r'"result"\s*:\s*\[')
_MOST_CHARACTERS = 64 << 20
_READ_BYTES = 1 << 20
_STALE = ("NaN", "+Inf", "-Inf")


def is_prometheus(head: bytes) -> bool:
    """Whether the file begins like an answer of the query API."""
    start = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"{") and b'"resultType"' in start


def _prometheus(opened: Opened) -> Rows:
    count = 1
    for one in _series_of(opened):
        name, values = _promql(one.get("metric")), one.get("values", [one.get("value")])
        for sample in values if isinstance(values, list) else []:
            count += 1
            if isinstance(sample, list) and len(sample) == 2:
                value = str(sample[1])
                yield count, [str(sample[0]), name, "" if value in _STALE else value, _unit_of_metric(one)]


def _promql(metric: Any) -> str:
    """A series as PromQL writes it, without quotes: ``name{label=value}``."""
    labels = dict(metric) if isinstance(metric, dict) else {}
    name = str(labels.pop("__name__", ""))
    inner = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name or "series"


_SUFFIXES = {"kwh": "kwh", "wh": "wh", "joules": "j", "watts": "w", "kw": "kw", "kilowatts": "kw"}


def _unit_of_metric(one: Mapping[str, Any]) -> str:
    """The unit that the name of a metric ends in, by the conventions of Prometheus."""
    metric = one.get("metric")
    name = str(metric.get("__name__", "")) if isinstance(metric, dict) else ""
    words = name.lower().removesuffix("_total").split("_")
    if words[-2:] == ["watt", "hours"]:
        return "kwh" if words[-3:-2] == ["kilo"] else "wh"
    return "kwh" if words[-2:] == ["kilowatt", "hours"] else _SUFFIXES.get(words[-1], "")


def _series_of(opened: Opened) -> Iterator[dict[str, Any]]:
    """The series of the answer one by one."""
    decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode
    reader = codecs.getincrementaldecoder("utf-8")("replace")
    text, is_end, wanted = "", False, 0
    begun = False
    while not is_end:
        data = opened.source.read(_READ_BYTES)
        text, is_end = text + reader.decode(data, final=not data), not data
        if not begun:
            found = _RESULT.search(text)
            if found is None:
                if is_end or len(text) > _READ_BYTES:
                    raise opened.refused(_why_no_result(text))
                continue
            text, begun = text[found.end() :], True
        while len(text) >= wanted or is_end:
            text = text.lstrip(" \r\n\t,")
            if not text.startswith("{"):
                if text or is_end:
                    return
                break
            try:
                one, at = decode(text)
            except (json.JSONDecodeError, RecursionError) as error:
                wanted = 2 * len(text)  # so that a long series is tried a few times only
                if is_end or len(text) > _MOST_CHARACTERS:
                    raise opened.refused(
                        f"a series of the answer is cut short or too long: {error}"
                    ) from None
                break
            text, wanted = text[at:], 0
            if isinstance(one, dict):
                yield one


def _why_no_result(text: str) -> str:
    found = re.search(r'"error"\s*:\s*"([^"]{1,200})', text)
    return f"Prometheus reports an error: {found[1]}" if found else "an answer of Prometheus without a result"


def _epw(opened: Opened) -> Rows:
    return epw.rows(_lines(opened), opened.refused)


SHAPES: dict[str, Shape] = {
    "pairs": Shape(INSTANTS, _pairs),
    "entities": Shape(INTERVALS, _entities),
    "statistics": Shape(INTERVALS, _statistics),
    "calendar": Shape(INTERVALS, _calendar),
    "influxdb": Shape(INSTANTS, _annotated),
    "prometheus": Shape(INSTANTS, _prometheus),
    "epw": Shape(INSTANTS, _epw),
}
