"""Reading an understood file: batches of readings and what was refused, in flat memory.

``understand(path, site, mapping)`` finds out how the file is to be read (or asks); ``read`` then
goes through it once. Values arrive in house units, times in UTC, ``at`` at the end of the interval
for the interval kinds. The way of a file::

    csv_source      bytes, unpacked; encoding; blocks of whole lines
    csv_rows        blocks to cells: fast where regular, line by line where not
    csv_dialect     where the table begins, its columns' names, where the time stands
    csv_new_heading another row of names in the middle of it
    csv_formats     which time format; csv_order: which way the rows go and how far apart
    csv_columns     what the columns beside the time are; csv_match: which point each fills
    csv_understand  all of that together -> csv_plan.Understanding, csv_saved: as a mapping
    csv_time        cells to times; csv_zone: local time to UTC; csv_number: cells to numbers;
                    csv_marks: which mark is the decimal one
    csv_batch       the last checks, and the batch

To add a format that is no table of cells, write a module like ``csv_nem`` (streams of readings) or
``csv_json`` (records as a table), and name it in ``_SPECIAL`` here and in ``csv_understand``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.site import Stamp
from collectors.csv.batch import Batcher, Bulk, ParsedBatch
from collectors.csv.columns import JOIN
from collectors.csv.dialect import time_texts
from collectors.csv.green_button import read_espi
from collectors.csv.json_export import table_blocks
from collectors.csv.layouts import shape_of
from collectors.csv.mapping import fits, name_pattern
from collectors.csv.nem import read_nem
from collectors.csv.new_heading import MOST as MOST_HEADINGS
from collectors.csv.new_heading import NewHeading
from collectors.csv.new_heading import find as find_heading
from collectors.csv.number import BAD, MISSING, NUMBER, NumberStyle, known_unit, parse_numbers, why_no_number
from collectors.csv.plan import DESCENDING, MIXED, ColumnPlan, Understanding
from collectors.csv.rows import Cells, Reject, RowParser
from collectors.csv.source import BLOCK_BYTES, Block
from collectors.csv.time import DAY_US, NO_OFFSET, SECOND_US, Bools, Int64s, Times, parse_times
from collectors.csv.understand import understand
from collectors.csv.workbook import SheetText, open_workbook
from collectors.csv.zone import ABSENT, DOUBLED, LocalClock, shift_local

__all__ = ["ParsedBatch", "Reject", "Understanding", "read", "understand"]


def read(
    path: Path,
    understanding: Understanding,
    *,
    now: datetime | None = None,
    block_bytes: int = BLOCK_BYTES,
    careful_only: bool = False,
) -> Iterator[ParsedBatch]:
    """Every reading of the file, block by block, in the order of the file.

    Parameters
    ----------
    path : Path
        The file; usually the one that was understood, or another of the same source.
    understanding : Understanding
        What :func:`understand` returned.
    now : datetime, optional
        Readings too far ahead of it are refused. Default: the clock.
    block_bytes : int
        How much of the file is looked at at once. [B]
    careful_only : bool
        Read every line the careful way; the result is the same, only slower.

    Yields
    ------
    ParsedBatch
        Readings in house units and refused cells.

    Raises
    ------
    FileNotUnderstood
        If the file is damaged or has a line without end.
    """
    now = now or datetime.now(UTC)
    if understanding.sheet is not None:
        yield from _read_sheets(path, understanding, now, block_bytes, careful_only)
        return
    batcher = Batcher(understanding, now)
    reader = _SPECIAL.get(understanding.layout)
    if reader is not None:
        yield from reader(path, understanding, batcher)
        return
    yield from _read_table(path, understanding, batcher, block_bytes, careful_only)


def _read_table(
    path: Path, understanding: Understanding, batcher: Batcher, block_bytes: int, careful_only: bool
) -> Iterator[ParsedBatch]:
    table = _TableReader(understanding, batcher, careful_only)
    packed_bytes = 0
    for block in table_blocks(path, understanding.encoding, understanding.layout, block_bytes):
        yield from table.block(block)
        packed_bytes = block.packed_bytes
    yield table.finish(packed_bytes)


def _read_sheets(
    path: Path, understanding: Understanding, now: datetime, block_bytes: int, careful_only: bool
) -> Iterator[ParsedBatch]:
    """The sheets one after the other; rejects with the cell, progress as a share of the workbook."""
    parts = understanding.sheets
    if path != understanding.path:
        names = [p.sheet.name for p in parts if p.sheet]
        opened = {s.name: s for s in open_workbook(path, names).sheets}
        parts = tuple(replace(p, sheet=opened[p.sheet.name]) for p in parts if p.sheet)
    texts = [(p, p.sheet) for p in parts if p.sheet is not None]
    share = path.stat().st_size / max(1, sum(s.text.stat().st_size for _, s in texts))
    done_bytes = 0
    for plan, sheet in texts:
        for batch in _read_table(sheet.text, plan, Batcher(plan, now), block_bytes, careful_only):
            rejects = [replace(r, cell=_cell(r, plan, sheet, batch.places)) for r in batch.rejects]
            packed_bytes = round((done_bytes + batch.packed_bytes) * share)
            yield replace(batch, rejects=rejects, packed_bytes=packed_bytes)
        done_bytes += sheet.text.stat().st_size


def _cell(reject: Reject, plan: Understanding, sheet: SheetText, places: dict[str, int]) -> str:
    if shape_of(plan.layout) is not None:  # its columns are not those of the sheet
        return sheet.cell(reject.line, None)
    return sheet.cell(reject.line, places.get(reject.column))


_SPECIAL = {"nem12": read_nem, "nem13": read_nem, "espi": read_espi}


@dataclass(frozen=True)
class _RowTimes:
    """Times of each row; ``utc_us`` is the start where the row states two (then ``end_us`` is set)."""

    local_us: Int64s
    utc_us: Int64s
    is_local: Bools
    end_us: Int64s | None
    ok: Bools
    problem: npt.NDArray[np.int8]
    """Why a row has no time; 0 where it has one."""


class _TableReader:
    """Turns the blocks of one text table into batches; remembers what one block must tell the next."""

    def __init__(self, plan: Understanding, batcher: Batcher, careful_only: bool) -> None:
        self._batcher, self._careful_only, self._first = batcher, careful_only, plan
        descending = plan.time.order == DESCENDING
        self._clocks = (LocalClock(plan.time.zone, descending), LocalClock(plan.time.zone, descending))
        self._held: dict[int, Bulk] = {}
        self._ends = LocalClock(plan.time.zone)
        self._texts: dict[str, int] = {c.name: i for i, c in enumerate(plan.columns)}
        self._patterns = list(_patterns(plan))
        self._heads: set[bytes] = set()
        self._heading: NewHeading | None = None
        self._turns = 0
        self._follow(plan)

    def _follow(self, plan: Understanding) -> None:
        """Cut the rows from here on as this plan says."""
        self._plan = plan
        side = [s.index for s in (plan.valid, plan.status) if s]
        wanted = {*plan.time.columns, *(c.index for c in plan.columns), *side, *plan.long_more}
        wanted |= {i for i in (plan.time.offset_column, plan.long_point, plan.long_unit) if i is not None}
        rows = sorted(wanted - {-1}) or [0]
        self._rows = RowParser(plan.delimiter, plan.width, plan.full_width, rows, self._careful_only)

    def block(self, block: Block) -> Iterator[ParsedBatch]:
        """The readings of one block; several batches where it holds other headings."""
        rest: Block | None = block
        while rest is not None:
            batch, rest = self._up_to_heading(rest)
            yield batch

    def _up_to_heading(self, block: Block) -> tuple[ParsedBatch, Block | None]:
        """The readings up to the next other heading, and what follows it."""
        if block.lines is None and block.first_line < self._first.first_line:
            head = block.data.split(b"\n", self._first.first_line - block.first_line)[:-1]
            self._heads |= {line.strip() for line in head}
        cells, odd, rejects = self._rows.parse(block)
        heading = find_heading(block, cells, odd, self._plan, self._first, self._heads)
        if heading is not None:
            line = heading.found.line
            cells = cells.take(cells.line < line)
            odd, rejects = [o for o in odd if o[0] < line], [r for r in rejects if r.line < line]
        self._judge_odd(odd, rejects)
        if block.first_line < self._plan.first_line:
            cells, rejects = self._without_head(cells, rejects)
        batch = self._batch(cells, rejects, block.packed_bytes, last=False)
        if heading is None:
            return batch, None
        self._turn(heading)
        lines = block.data.split(b"\n", heading.found.end - block.first_line)
        data = lines[-1] if len(lines) > heading.found.end - block.first_line else b""
        return batch, Block(heading.found.end, data, block.packed_bytes) if data else None

    def _turn(self, heading: NewHeading) -> None:
        """Follow another heading from here on; after too many of them nothing more is taken."""
        self._turns += 1
        if self._turns > MOST_HEADINGS:
            heading = replace(
                heading, refused=f"more than {MOST_HEADINGS} other headings stand above this row"
            )
        self._heading, self._heads = heading, set(heading.found.texts)
        self._follow(heading.plan)

    def finish(self, packed_bytes: int) -> ParsedBatch:
        """What was held back until the end of the file."""
        cells, odd, rejects = self._rows.finish()
        self._judge_odd(odd, rejects)
        return self._batch(cells, rejects, packed_bytes, last=True)

    def _without_head(self, cells: Cells, rejects: list[Reject]) -> tuple[Cells, list[Reject]]:
        first = self._plan.first_line
        return cells.take(cells.line >= first), [r for r in rejects if r.line >= first]

    def _judge_odd(self, odd: list[tuple[int, list[str]]], rejects: list[Reject]) -> None:
        """Rows with another number of cells: footers pass, all others are refused."""
        for line, cells in odd:
            text = self._plan.delimiter.join(cells)
            if line >= self._plan.first_line and not self._batcher.is_footer(cells[0]):
                reason = f"{len(cells)} cells where {self._plan.width} were expected"
                rejects.append(Reject(line, "", reason, text[:200]))

    def _batch(self, cells: Cells, rejects: list[Reject], packed_bytes: int, *, last: bool) -> ParsedBatch:
        bulks: dict[int, Bulk] = {}
        if self._heading is not None and self._heading.refused:
            self._refuse_all(cells, self._heading, rejects)
        elif len(cells):
            series = self._series(cells, rejects)
            if series is not None:
                cells, series = cells.take(series >= 0), series[series >= 0]
            times = self._times(cells, series)
            self._refuse_times(cells, times, rejects)
            self._refuse_missing(cells, times, rejects)
            bulks = self._bulks(cells, series, times, rejects)
        if last:
            self._refuse_held(rejects)
        names = {name: i for i, name in enumerate(self._plan.header)}
        places = names | {c.name: c.index for c in self._plan.columns if c.index >= 0}
        return replace(self._batcher.pack(bulks, rejects, packed_bytes), places=places)

    def _refuse_all(self, cells: Cells, heading: NewHeading, rejects: list[Reject]) -> None:
        """Refuse every row after a heading that does not name what is needed to read them."""
        (first, *_) = cells.columns.values()
        for line, text in zip(cells.line.tolist(), first.to_pylist(), strict=True):
            if not self._batcher.is_footer(text):
                rejects.append(Reject(line, "", heading.refused, text[:200]))

    def _refuse_missing(self, cells: Cells, times: _RowTimes, rejects: list[Reject]) -> None:
        """Refuse the columns that another heading does not name any more, row by row."""
        if self._heading is None or not self._heading.missing:
            return
        names = ", ".join(self._heading.missing)
        reason = f"the heading in line {self._heading.line} has no such column"
        rejects += [Reject(line, names, reason, "") for line in cells.line[times.ok].tolist()]

    def _refuse_held(self, rejects: list[Reject]) -> None:
        """In a descending file whose intervals reach back to the row before, the oldest row has none."""
        held = self._held.items() if self._plan.time.order == DESCENDING else ()
        for index, bulk in held:
            if not np.isnan(bulk.value[0]):
                name = self._plan.columns[index].name
                rejects.append(Reject(int(bulk.line[0]), name, _NO_START, f"{bulk.value[0]:g}"))

    # --- long files: the point of each row ---

    def _series(self, cells: Cells, rejects: list[Reject]) -> npt.NDArray[np.int32] | None:
        """Index of each row's point, -1 where it is none of those taken over."""
        if self._plan.long_point is None:
            return None
        coded = self._point_texts(cells).dictionary_encode()
        texts = [t.strip() for t in coded.dictionary.to_pylist()]
        known = np.array([self._place_of(t) for t in texts], np.int32)
        codes = coded.indices.to_numpy(zero_copy_only=False)
        series: npt.NDArray[np.int32] = known[codes]
        unknown = () if self._plan.leaves_out else np.flatnonzero(series < 0).tolist()
        for row in unknown:
            if not self._batcher.is_footer(texts[codes[row]]):
                name = self._plan.header[self._plan.long_point]
                rejects.append(Reject(int(cells.line[row]), name, "unknown point", texts[codes[row]]))
        self._refuse_units(cells, series, rejects)
        return series

    def _point_texts(self, cells: Cells) -> Any:
        """What names the point of each row, as an Arrow array."""
        columns = [cells.columns[i] for i in (self._plan.long_point, *self._plan.long_more) if i is not None]
        if len(columns) == 1:
            return columns[0]
        return pc.binary_join_element_wise(*map(pc.utf8_trim_whitespace, columns), JOIN)

    def _place_of(self, text: str) -> int:
        """Index of the point that a text of the point column means, by name or by a pattern; -1: none."""
        if text not in self._texts:
            fits = (i for how, i in self._patterns if how(text))
            self._texts[text] = next(fits, -1)
        return self._texts[text]

    def _refuse_units(self, cells: Cells, series: npt.NDArray[np.int32], rejects: list[Reject]) -> None:
        """Rows whose unit is not the one their point was understood with are left out."""
        column = self._plan.long_unit
        if column is None:
            return
        coded = cells.columns[column].dictionary_encode()
        texts = [t.strip() for t in coded.dictionary.to_pylist()]
        known = [known_unit(t) for t in texts]
        odd = texts if any(known) else [""] * len(texts)  # units that a mapping says are not judged
        units = np.array([k or o for k, o in zip(known, odd, strict=True)], object)[
            coded.indices.to_numpy(zero_copy_only=False)
        ]
        wanted = np.array([*(c.unit for c in self._plan.columns), ""], object)[series]
        for row in np.flatnonzero((units != wanted) & (units != "") & (series >= 0)).tolist():
            reason = f"its unit is not the {wanted[row]} of the point's other rows"
            rejects.append(Reject(int(cells.line[row]), self._plan.header[column], reason, units[row]))
            series[row] = -1

    # --- times ---

    def _times(self, cells: Cells, series: npt.NDArray[np.int32] | None) -> _RowTimes:
        time = self._plan.time
        texts = time_texts(cells, time.place, time.columns)
        parsed = [parse_times(t, time.formats, time.zone) for t in texts]
        if time.inclusive and len(parsed) == 2:
            parsed[1] = replace(parsed[1], us=parsed[1].us + DAY_US)
        problem = np.where(np.logical_and.reduce([p.ok for p in parsed]), 0, _NOT_A_TIME).astype(np.int8)
        offset = self._offsets(cells, problem)
        pairs = zip(parsed, self._clocks, strict=False)
        utc = [self._utc(p, series, clock, offset, problem) for p, clock in pairs]
        if len(utc) == 2:
            problem[(problem == 0) & (utc[0] >= utc[1])] = _BACKWARDS
        is_local = (parsed[0].offset_us == NO_OFFSET) & (offset is None)
        end_us = utc[1] if len(utc) == 2 else None
        return _RowTimes(parsed[0].us, utc[0], is_local, end_us, problem == 0, problem)

    def _utc(
        self,
        times: Times,
        series: npt.NDArray[np.int32] | None,
        clock: LocalClock,
        offset: Int64s | None,
        problem: npt.NDArray[np.int8],
    ) -> Int64s:
        """UTC of every row with a time; rows whose local time is none, or two, get their problem."""
        if offset is not None:
            return times.us - offset
        out: Int64s = times.us - np.where(times.offset_us == NO_OFFSET, 0, times.offset_us)
        rows = np.flatnonzero((problem == 0) & (times.offset_us == NO_OFFSET))
        of = None if series is None else series[rows]
        out[rows], state = clock.to_utc(times.us[rows], of, lenient=self._plan.time.is_date_only)
        problem[rows[state == ABSENT]] = _ABSENT
        if self._plan.time.order == MIXED:
            problem[rows[state == DOUBLED]] = _DOUBLED
        return out

    def _offsets(self, cells: Cells, problem: npt.NDArray[np.int8]) -> Int64s | None:
        """Each row's difference from UTC, if a column states it; rows that leave it out are a problem."""
        column = self._plan.time.offset_column
        if column is None:
            return None
        numbers = parse_numbers(cells.columns[column], NumberStyle())
        offset_us = numbers.values * self._plan.time.offset_unit_us
        is_possible = np.abs(offset_us) <= DAY_US
        problem[(problem == 0) & ~is_possible] = _NO_OFFSET
        return np.where(is_possible, offset_us, 0).astype(np.int64)

    def _refuse_times(self, cells: Cells, times: _RowTimes, rejects: list[Reject]) -> None:
        """Rejects for rows without a usable time; footers and repeated headers pass."""
        columns = self._plan.time.columns
        names = " ".join(self._plan.header[i] for i in columns)
        header = [self._plan.header[i] for i in columns]
        for row in np.flatnonzero(~times.ok).tolist():
            texts = [cells.columns[i][row].as_py().strip() for i in columns]
            is_blank = not any(c[row].as_py().strip() for c in cells.columns.values())
            if is_blank or texts == header or self._batcher.is_footer(texts[0]):
                continue
            reason = self._reason(int(times.problem[row]))
            rejects.append(Reject(int(cells.line[row]), names, reason, " ".join(texts)[:200]))

    def _reason(self, problem: int) -> str:
        zone = self._plan.time.zone
        if problem == _ABSENT:
            return (
                f"this local time does not exist in {zone}: the clocks went forward over it "
                "(if the source keeps standard time all year, say time: zone: +hh:mm)"
            )
        if problem == _DOUBLED:
            return (
                f"this local time occurs twice in {zone}, and rows in no order do not tell which is meant "
                "(say time: order, or name a column with the offset from UTC)"
            )
        if problem == _NO_OFFSET:
            return "its difference from UTC is missing or more than a day"
        if problem == _BACKWARDS:
            return "its start is not before its end"
        return "not a time of the form " + " or ".join(f.text for f in self._plan.time.formats)

    # --- values ---

    def _status_good(self, cells: Cells) -> Bools:
        status = self._plan.status
        assert status is not None
        text = pc.utf8_trim_whitespace(cells.columns[status.index])
        good: Bools = pc.is_in(text, pa.array(sorted(status.good), pa.string())).to_numpy(
            zero_copy_only=False
        )
        return good

    def _bulks(
        self,
        cells: Cells,
        series: npt.NDArray[np.int32] | None,
        times: _RowTimes,
        rejects: list[Reject],
    ) -> dict[int, Bulk]:
        """The readings of each point, by the point's index."""
        valid_s = self._valid_s(cells, times, rejects)
        unusable = ~self._status_good(cells) if self._plan.status is not None else None
        if series is None:
            parts = [(i, np.flatnonzero(times.ok)) for i in range(len(self._plan.columns))]
        else:
            parts = _by_series(series, times.ok, len(self._plan.columns))
        parsed: dict[int, npt.NDArray[np.float64]] = {}
        bulks: dict[int, Bulk] = {}
        for i, rows in parts:
            column = self._plan.columns[i]
            if column.index < 0:
                continue
            if column.index not in parsed:
                parsed[column.index] = self._values(cells, column, times.ok, unusable, rejects)
            value = parsed[column.index][rows] * column.factor + column.offset
            start_us, at_us = self._span(column, times, rows)
            bulk = Bulk(cells.line[rows], at_us, start_us, value, valid_s[rows])
            if self._plan.valid is not None and self._plan.valid.unit_s == 0:
                bulk = replace(bulk, valid_s=bulk.valid_s * (at_us - start_us) / SECOND_US)
            if column.is_interval and column.interval.from_previous and times.end_us is None:
                bulk = self._since_previous(i, bulk, rejects)
            bulks[i] = bulk
        return bulks

    def _values(
        self, cells: Cells, column: ColumnPlan, ok: Bools, unusable: Bools | None, rejects: list[Reject]
    ) -> npt.NDArray[np.float64]:
        """The column's numbers, NaN where there is none; cells that are neither are refused."""
        texts = cells.columns[column.index]
        numbers = parse_numbers(texts, column.numbers)
        values, state = numbers.values, numbers.state
        if unusable is not None and unusable.any():
            state = np.where(unusable, MISSING, state)
            values = np.where(unusable, np.nan, values)
        if state.any():
            self._batcher.count_missing(column.name, int(((state == MISSING) & ok).sum()))
            for row in np.flatnonzero((state == BAD) & ok).tolist():
                text = texts[row].as_py()
                reason = why_no_number(text, column.numbers)
                rejects.append(Reject(int(cells.line[row]), column.name, reason, text[:200]))
        return values

    def _valid_s(self, cells: Cells, times: _RowTimes, rejects: list[Reject]) -> npt.NDArray[np.float64]:
        """Valid part of each row's interval [s], or its share where the file gives that; NaN: the whole."""
        valid = self._plan.valid
        if valid is None:
            return np.full(len(cells), np.nan)
        numbers = parse_numbers(cells.columns[valid.index], self._plan.columns[0].numbers)
        for row in np.flatnonzero((numbers.state == BAD) & times.ok).tolist():
            text = cells.columns[valid.index][row].as_py()
            rejects.append(Reject(int(cells.line[row]), valid.name, "not a number", text[:200]))
        stated = np.where(numbers.state == NUMBER, numbers.values, 0.0)
        return stated * (valid.unit_s or 1.0)

    def _span(
        self, column: ColumnPlan, times: _RowTimes, rows: npt.NDArray[np.intp]
    ) -> tuple[Int64s, Int64s]:
        """Start and end of each row's interval; twice the instant for the other kinds."""
        utc = times.utc_us[rows]
        if times.end_us is not None:
            end = times.end_us[rows]
            return (utc if column.is_interval else end), end
        if not column.is_interval:
            return utc, utc
        local_us = times.local_us[rows]
        if self._plan.time.inclusive:
            local_us = local_us + DAY_US
            utc, _ = self._ends.to_utc(local_us, lenient=True)
        if column.interval.from_previous:
            return utc, utc
        sign = 1 if column.stamp is Stamp.START else -1
        other = utc + sign * column.interval.seconds * SECOND_US
        if column.interval.days or column.interval.months:
            local = shift_local(local_us, column.interval, sign)
            moved, _ = self._ends.to_utc(local, lenient=True)
            fixed = shift_local(utc, column.interval, sign)
            other = np.where(times.is_local[rows], moved, fixed)
        return (utc, other) if sign > 0 else (other, utc)

    def _since_previous(self, index: int, bulk: Bulk, rejects: list[Reject]) -> Bulk:
        """Each interval begins where the row before it in time ended; the file's first row has no start."""
        held = self._held.get(index)
        bulk = bulk if held is None else Bulk.concat(held, bulk)
        if not len(bulk):
            return bulk
        self._held[index] = bulk.take(slice(-1, None))
        if self._plan.time.order == DESCENDING:
            return replace(bulk.take(slice(0, -1)), start_us=bulk.at_us[1:])
        if held is None and not np.isnan(bulk.value[0]):
            name = self._plan.columns[index].name
            rejects.append(Reject(int(bulk.line[0]), name, _NO_START, f"{bulk.value[0]:g}"))
        return replace(bulk.take(slice(1, None)), start_us=bulk.at_us[:-1])


def _patterns(plan: Understanding) -> Iterator[tuple[Callable[[str], object], int]]:
    """Tests of the mapping's patterns, and which of the plan's columns a text that passes them is."""
    for text, i in ((c.name, i) for i, c in enumerate(plan.columns) if plan.long_point is not None):
        if name_pattern(text) is not None:
            yield partial(fits, text), i


_NOT_A_TIME, _ABSENT, _DOUBLED, _BACKWARDS, _NO_OFFSET = 1, 2, 3, 4, 5
_NO_START = "the first interval's start is not known: no row comes before it"


def _by_series(
    series: npt.NDArray[np.int32], ok: Bools, count: int
) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """(point, its rows in the order of the file) for every point of a long block."""
    good = np.flatnonzero(ok)
    keys = series[good].astype(np.int16 if count < 32_000 else np.int32)
    order = np.argsort(keys, kind="stable")
    edges = np.searchsorted(keys[order], np.arange(count + 1))
    return [(i, good[order[edges[i] : edges[i + 1]]]) for i in range(count) if edges[i + 1] > edges[i]]
