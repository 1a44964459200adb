"""Australian meter data files: NEM12 (intervals) and NEM13 (registers).

Records are named by their first cell: 100 header, 200 a stream, 300 one day of it, 400 the quality of
part of that day, 250 a stream with two register readings, 900 end. Times are the market's, which
keeps standard time all year; the site's standard offset is used unless the mapping names a zone.
Source: AEMO, Meter Data File Format Specification NEM12 & NEM13.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from app.domain.quantity import ReadingKind
from app.domain.site import Site
from app.errors import FileNotUnderstood
from collectors.csv.batch import Batcher, ParsedBatch
from collectors.csv.mapping import Mapping
from collectors.csv.number import NUMBER, NumberStyle, known_unit, parse_number
from collectors.csv.plan import Understanding
from collectors.csv.rows import Reject, split_record
from collectors.csv.source import blocks, open_source
from collectors.csv.streams import DELIVERED, RECEIVED, Rows, Stream, understand_streams
from collectors.csv.time import SECOND_US, parse_text, time_format

_DAY = time_format("%Y%m%d")
_DAY_MINUTES = 1440
_BATCH_READINGS = 50_000
_STYLE = NumberStyle()
_FLOWS = {"E": DELIVERED, "B": RECEIVED}
"""First letter of a stream's suffix -> its direction; others are reactive or demand."""
Record = tuple[int, list[str]]


def is_nem(head: bytes) -> str | None:
    """``nem12`` or ``nem13`` if the file begins like one; the 100 record may be missing.

    Blank lines before the first record and quotes round cells do not matter.
    """
    lines = head[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n")
    rows = [[c.strip(b' \t"') for c in line.split(b",")] for line in lines if line.strip(b' \t"')]
    first, *more = rows or [[b""]]
    if first[0] == b"100" and len(first) > 1 and first[1].upper() in (b"NEM12", b"NEM13"):
        return first[1].lower().decode()
    if _is_stream(first) and (not more or any(r[0] in (b"300", b"400") for r in more[:_MOST_EMPTY_STREAMS])):
        return "nem12"
    if first[0] == b"300" and _is_day(first):
        return "nem12"
    return "nem13" if first[0] == b"250" and len(first) >= 20 else None


_HEAD_BYTES = 1 << 15
_MOST_EMPTY_STREAMS = 20


def _is_stream(cells: Sequence[bytes]) -> bool:
    return cells[0] == b"200" and len(cells) >= 9 and cells[8] in (b"1", b"5", b"10", b"15", b"30", b"60")


def _is_day(cells: Sequence[bytes]) -> bool:
    """A 300 record: a date, and at least the 24 values of a day of hours."""
    return len(cells) >= 26 and bool(re.fullmatch(rb"20\d{6}", cells[1]))


def understand_nem(path: Path, site: Site, mapping: Mapping, layout: str) -> Understanding:
    """The streams of the file, matched to points.

    Raises
    ------
    FileNotUnderstood
        If none of them can be matched.
    """
    streams: dict[str, Stream] = {}
    has_head = has_end = False
    for _, cells in _records(path):
        has_head, has_end = has_head or cells[0] == "100", has_end or cells[0] == "900"
        stream = _stream(cells)
        if stream is not None:
            streams.setdefault(stream.name, stream)
    if not streams and layout == "nem12":
        raise FileNotUnderstood(
            "its 300 records have no 200 record before them that says which meter and interval they are of; "
            "export the file again with it",
            file=str(path),
            line=1,
        )
    zone = mapping.time.zone or standard_offset(site)
    given = mapping.model_copy(update={"time": mapping.time.model_copy(update={"zone": zone})})
    notes = [f"times are taken as {zone} all year"] if mapping.time.zone is None else []
    notes += [] if has_head else [f"there is no 100 record: taken for {layout.upper()} by its other records"]
    notes += [] if has_end else ["there is no 900 record: the file may have been cut short"]
    return understand_streams(path, site, given, list(_with_short_names(streams)), layout, notes)


def standard_offset(site: Site) -> str:
    """The site's offset from UTC outside daylight saving, as a zone."""
    year = [datetime(2024, month, 1, tzinfo=UTC).astimezone(site.zone) for month in (1, 7)]
    minutes = min((at.utcoffset() or timedelta()) // timedelta(minutes=1) for at in year)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _stream(cells: Sequence[str]) -> Stream | None:
    if cells[0] == "200" and len(cells) >= 9:
        unit = known_unit(cells[7])
        kinds: tuple[ReadingKind, ...] = (ReadingKind.INTERVAL_ENERGY,)
        flow = _FLOWS.get(cells[4][:1].upper(), "")
        return Stream(f"{cells[1]}.{cells[4]}", unit, kinds, 1.0, (cells[6],), flow)
    if cells[0] == "250" and len(cells) >= 20:
        kinds = (ReadingKind.REGISTER, ReadingKind.INTERVAL_ENERGY)
        return Stream(f"{cells[1]}.{cells[4]}", known_unit(cells[19]), kinds, 1.0, (cells[6],))
    return None


def _with_short_names(streams: dict[str, Stream]) -> Iterator[Stream]:
    """The metering point's number alone names its energy, if it has one stream of energy."""
    energy = [s.name.split(".")[0] for s in streams.values() if s.unit]
    serials = [s.aliases[0] for s in streams.values() if s.unit]
    for stream in streams.values():
        number = stream.name.split(".")[0]
        short = [number] if stream.unit and energy.count(number) == 1 else []
        short += [a for a in stream.aliases if a and stream.unit and serials.count(a) == 1]
        yield replace(stream, aliases=tuple(short))


def _records(path: Path) -> Iterator[Record]:
    """(line, trimmed cells) of every record that can be cut into cells."""
    with open_source(path) as source:
        for block in blocks(source, "utf-8", file=str(path)):
            for i, text in enumerate(block.data.split(b"\n")):
                line, cells, reject = split_record(text, block.first_line + i, ",")
                if reject is None and cells and cells[0].strip():
                    yield line, [c.strip() for c in cells]


def read_nem(path: Path, plan: Understanding, batcher: Batcher) -> Iterator[ParsedBatch]:
    """The readings of the streams that were matched."""
    reader = _Reader(plan, batcher)
    for line, cells in _records(path):
        reader.record(line, cells)
        if reader.count >= _BATCH_READINGS:
            yield reader.pack()
    reader.end_of_day()
    yield reader.pack()


@dataclass
class _Day:
    line: int
    cells: list[str]
    quality: list[Record] = field(default_factory=list)


class _Reader:
    def __init__(self, plan: Understanding, batcher: Batcher) -> None:
        self._plan, self._batcher = plan, batcher
        self._by_name = {name: i for i, c in enumerate(plan.columns) for name in (c.name,)}
        self._offset_us = _offset_us(plan)
        self._rows: dict[int, Rows] = {}
        self._rejects: list[Reject] = []
        self._index: int | None = None
        self._minutes = 0
        self._has_stream = False
        self._day: _Day | None = None
        self.count = 0

    def pack(self) -> ParsedBatch:
        """What was collected so far."""
        bulks = {i: rows.bulk(self._plan.columns[i]) for i, rows in self._rows.items()}
        rejects, self._rejects, self._rows, self.count = self._rejects, [], {}, 0
        return self._batcher.pack(bulks, rejects, 0)

    def record(self, line: int, cells: list[str]) -> None:
        """One record; a day is finished by whatever follows its quality records."""
        if cells[0] == "400":
            self._quality(line, cells)
            return
        self.end_of_day()
        if cells[0] == "200":
            self._stream(line, cells)
        elif cells[0] == "300":
            self._begin_day(line, cells)
        elif cells[0] == "250":
            self._registers(line, cells)
        elif cells[0] not in ("100", "500", "550", "900"):
            self._reject(line, "", "unknown record; expected 100, 200, 250, 300, 400, 500, 550 or 900", cells)

    def _reject(self, line: int, column: str, reason: str, cells: Sequence[str]) -> None:
        self._rejects.append(Reject(line, column, reason, ",".join(cells)[:200]))

    def _stream(self, line: int, cells: list[str]) -> None:
        self._index, self._has_stream, self._minutes = None, True, 0
        if len(cells) < 9 or not cells[8].isdecimal() or int(cells[8]) not in (1, 5, 10, 15, 30, 60):
            self._reject(line, "", "a 200 record needs an interval length of 5, 15 or 30 minutes", cells)
            return
        self._minutes = int(cells[8])
        number, suffix, serial = cells[1], cells[4], cells[6]
        names = (f"{number}.{suffix}", number, serial)
        self._index = next((self._by_name[n] for n in names if n in self._by_name), None)
        if known_unit(cells[7]) is None and f"{number}.{suffix}" not in self._by_name:
            self._index = None

    def _begin_day(self, line: int, cells: list[str]) -> None:
        if not self._has_stream:
            self._reject(line, "", "a 300 record without a 200 record before it", cells)
        elif self._minutes and self._index is not None:
            self._day = _Day(line, cells)

    def _quality(self, line: int, cells: list[str]) -> None:
        if self._day is not None:
            self._day.quality.append((line, cells))

    def end_of_day(self) -> None:
        """Takes over the day that is complete now."""
        day, self._day = self._day, None
        if day is None or self._index is None:
            return
        count = _DAY_MINUTES // self._minutes
        start = parse_text(day.cells[1] if len(day.cells) > 1 else "", _DAY)
        values = day.cells[2 : 2 + count]
        name = self._plan.columns[self._index].name
        if start is None:
            self._reject(day.line, name, "its date is not of the form YYYYMMDD", day.cells)
        elif len(day.cells) < 3 + count or not day.cells[2 + count][:1].isalpha():
            reason = f"a day of {self._minutes}-minute intervals needs {count} values and a quality"
            self._reject(day.line, name, reason, day.cells)
        else:
            missing = self._missing(day, count)
            self._take(day.line, name, start[0] - self._offset_us, values, missing)

    def _missing(self, day: _Day, count: int) -> set[int]:
        """Intervals (from 0) whose quality is N: there is no value."""
        if day.cells[2 + count].upper().startswith("N"):
            return set(range(count))
        found: set[int] = set()
        for line, cells in day.quality:
            good = len(cells) > 3 and cells[1].isdecimal() and cells[2].isdecimal()
            if not good or not 1 <= int(cells[1]) <= int(cells[2]) <= count:
                self._reject(line, "", f"a 400 record needs a first and last interval of 1 to {count}", cells)
            elif cells[3].upper().startswith("N"):
                found.update(range(int(cells[1]) - 1, int(cells[2])))
        return found

    def _take(self, line: int, name: str, start_us: int, values: list[str], missing: set[int]) -> None:
        assert self._index is not None
        rows = self._rows.setdefault(self._index, Rows())
        step_us = self._minutes * 60 * SECOND_US
        for i, text in enumerate(values):
            value, state = parse_number(text, _STYLE)
            if i in missing or state != NUMBER:
                if i in missing or not text:
                    self._batcher.count_missing(name, 1)
                else:
                    self._reject(line, name, f"interval {i + 1} is not a number", [text])
                continue
            at = start_us + (i + 1) * step_us
            rows.add(line, at - step_us, at, value)
            self.count += 1

    def _registers(self, line: int, cells: list[str]) -> None:
        """A 250 record: the register before and now, and the energy between."""
        if len(cells) < 20:
            self._reject(line, "", "a 250 record has at least 20 cells", cells)
            return
        names = (f"{cells[1]}.{cells[4]}", cells[1], cells[6])
        index = next((self._by_name[n] for n in names if n in self._by_name), None)
        if index is None:
            return
        column = self._plan.columns[index]
        times = [parse_text(cells[i], time_format("%Y%m%d%H%M%S")) for i in (9, 14)]
        numbers = [parse_number(cells[i], _STYLE) for i in (8, 13, 18)]
        if None in times or any(state != NUMBER for _, state in numbers):
            self._reject(
                line, column.name, "its readings or their times (YYYYMMDDhhmmss) are not understood", cells
            )
            return
        before_us, now_us = (t[0] - self._offset_us for t in times if t is not None)
        if before_us >= now_us:
            self._reject(line, column.name, "its start is not before its end", cells)
            return
        rows = self._rows.setdefault(index, Rows())
        if column.is_interval:
            rows.add(line, before_us, now_us, numbers[2][0])
            return
        for at, (value, _) in zip((before_us, now_us), numbers, strict=False):
            rows.add(line, at, at, value)


def _offset_us(plan: Understanding) -> int:
    zone = plan.time.zone
    if not isinstance(zone, timezone):
        offset = datetime(2024, 1, 1, tzinfo=UTC).astimezone(zone).utcoffset()
        summer = datetime(2024, 7, 1, tzinfo=UTC).astimezone(zone).utcoffset()
        if offset != summer:
            raise FileNotUnderstood(
                f"NEM files keep one offset all year, {zone} does not; write the zone as +10:00",
                file=str(plan.path),
            )
        return math.floor((offset or timedelta()).total_seconds()) * SECOND_US
    return math.floor(zone.utcoffset(None).total_seconds()) * SECOND_US
