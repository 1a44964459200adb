"""Understanding a file before a single reading is taken: everything found out, or a question asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.energy import GAP_FACTOR
from app.domain.quantity import ENERGY, POWER, ReadingKind
from app.domain.site import Point, Sampling, Site
from app.errors import FileNotUnderstood
from collectors.csv import epw, match
from collectors.csv.columns import (
    LongColumns,
    find_long,
    is_empty,
    may_have_values,
    usual_status,
    valid_unit,
)
from collectors.csv.dialect import (
    DELIMITERS,
    Sheet,
    TimeColumns,
    column_index,
    epoch_format,
    find_sheet,
    find_time,
    is_epoch,
    normal,
    serial_column,
    time_texts,
)
from collectors.csv.green_button import is_espi, understand_espi
from collectors.csv.json_export import is_json, table_blocks
from collectors.csv.layouts import BY_NAME, filled, of_head, of_rows, recognise, reshaped, shape_of
from collectors.csv.mapping import (
    SHAPE_NAMES,
    VALID_UNITS_S,
    Ambiguous,
    ColumnMapping,
    Mapping,
    MappingNeeded,
    OffsetColumn,
    ValidMapping,
)
from collectors.csv.match import Named, may_fill
from collectors.csv.names import resolve
from collectors.csv.nem import is_nem, understand_nem
from collectors.csv.number import NUMBER, Numbers, NumberStyle, known_unit, parse_numbers
from collectors.csv.number_marks import MarkChoice, MarkVotes, choose_marks, count_marks, may_have_marks
from collectors.csv.order import find_order, regular_step, sample_times, time_cells
from collectors.csv.plan import ColumnPlan, SidePlan, TimePlan, Understanding
from collectors.csv.proposal import Shape, propose
from collectors.csv.rows import RowParser, records
from collectors.csv.saved_mapping import Findings, full_mapping
from collectors.csv.sheets import understand_workbook
from collectors.csv.source import encoding_of, open_source
from collectors.csv.stamps import is_inclusive, stamp_of
from collectors.csv.time import SECOND_US, parse_times, time_format
from collectors.csv.time_formats import FormatChoice, choose_formats, formats_of
from collectors.csv.units import stated_unit
from collectors.csv.workbook import SheetText, is_workbook
from collectors.csv.zone import zone_of

_SAMPLE_BYTES = 1 << 18
_SAMPLE_CELLS = 300
_HEADING_ROWS = 60
_SAMPLE_MARKS = 2000
_MOST_DAYS = 5000
_MOST_SHAPES = 200
_FAR_SHARE = 0.2
_DAY_CHARACTERS = 8
"""The first characters of a time, enough to tell its day from other days of the same format."""


def understand(path: Path, site: Site, mapping: Mapping | None = None) -> Understanding:
    """How the file is to be read into the site's points.

    What the mapping says is taken as said; the rest is found out where only one reading is possible.

    Raises
    ------
    FileNotUnderstood
        If the file is no table of readings, or something must be said in a mapping (``MappingNeeded``
        carries a template, ``Ambiguous`` the choices). Nothing was read.
    """
    mapping = mapping or Mapping()
    if is_workbook(path):
        return understand_workbook(path, mapping, lambda sheet, told: _understand_sheet(sheet, site, told))
    head = _head(path)
    layout = mapping.layout or _layout_of(head)
    if layout in ("nem12", "nem13"):
        return understand_nem(path, site, mapping, layout)
    if layout == "espi":
        return understand_espi(path, site, mapping)
    if layout == "json":
        return _Table(path, site, mapping, "utf-8", "json").understand()
    told = mapping.model_copy(update={"layout": layout})
    encoding = "utf-8" if layout == "prometheus" else mapping.encoding or encoding_of(path)
    return _Table(path, site, told, encoding).understand()


def _understand_sheet(sheet: SheetText, site: Site, mapping: Mapping) -> Understanding:
    """How one sheet is read; its text is our own, so that encoding and delimiter are known."""
    told = mapping.model_copy(update={"encoding": None, "delimiter": ","})
    found = _Table(sheet.text, site, told, "utf-8", named=sheet.label, title=sheet.name).understand()
    saved = found.mapping.model_copy(
        update={
            "encoding": None,
            "delimiter": mapping.delimiter,
            "sheet": (sheet.name,) if sheet.name else (),
        }
    )
    return replace(found, path=sheet.workbook, sheet=sheet, mapping=saved)


def _head(path: Path) -> bytes:
    with open_source(path) as source:
        return source.read(1 << 16)


def _layout_of(head: bytes) -> str | None:
    """The format, if the file begins like one that is no plain table."""
    return is_nem(head) or of_head(head) or ("espi" if is_espi(head) else "json" if is_json(head) else None)


@dataclass
class _Table:
    """Works out one text table step by step."""

    path: Path
    site: Site
    mapping: Mapping
    encoding: str
    layout: str = ""
    named: str = ""
    """What errors call the file, where that is not its path."""
    title: str = ""
    """Name of the sheet; it may be that of a meter."""
    keys: dict[str, str] = field(default_factory=dict)
    """Names of columns here -> their names in the mapping."""

    @property
    def file(self) -> str:
        """The file's name in errors."""
        return self.named or str(self.path)

    def understand(self) -> Understanding:
        noted = self._by_layout()
        found, notes = self._find()
        named = self._named(found)
        columns, more = self._columns(found, named)
        sheet, long = found.sheet, found.long
        return Understanding(
            path=self.path,
            layout=found.layout,
            encoding=self.encoding,
            mapping=full_mapping(found, columns, self.mapping, self.site, self.encoding, self.keys),
            time=found.time,
            columns=columns,
            delimiter=sheet.delimiter,
            decimal=found.marks.decimal,
            header=sheet.names,
            first_line=2 if shape_of(found.layout) else sheet.first_line,
            width=sheet.width,
            full_width=sheet.full_width,
            long_point=long.point if long else None,
            long_unit=long.unit if long else None,
            long_more=long.more if long else (),
            leaves_out=bool(self.mapping.columns),
            valid=found.valid,
            status=found.status,
            footer=self.mapping.footer or "",
            unused=found.unused(columns),
            sample=tuple(tuple(cells) for _, cells in sheet.rows[:5]),
            warnings=tuple(dict.fromkeys([*noted, *notes, *more])),
        )

    def _by_layout(self) -> list[str]:
        """Fills the mapping with what a named layout knows, if the file is of one; says which.

        Raises
        ------
        FileNotUnderstood
            If the mapping names a layout that the file is not of.
        """
        if self.layout or self.mapping.layout in SHAPE_NAMES:
            return []
        name = self.mapping.layout or ""
        rows = [] if shape_of(name) else self._first_rows()
        found = recognise(rows, name)
        layout = BY_NAME.get(name) or (found.layout if found else BY_NAME.get(of_rows(rows) or ""))
        if layout is None or (not name and found and not found.is_whole(self.mapping)):
            return []
        if layout.shape is not None:
            self.layout, self.mapping = layout.name, reshaped(self.mapping, layout)
        elif found is not None:
            self.layout, self.mapping = layout.name, filled(self.mapping, found)
        else:
            raise FileNotUnderstood(
                f"no row is the heading of layout {name}, for example {layout.heading}",
                file=self.file,
                line=1,
            )
        return (
            []
            if name == layout.name and self.mapping.columns
            else [f"read as {layout.title} ({layout.name})"]
        )

    def _first_rows(self) -> list[tuple[int, list[str]]]:
        """The first rows, cut at the delimiter that gives the longest of them."""
        data = "\n".join(self._sample().split("\n", _HEADING_ROWS)[:_HEADING_ROWS]).encode()
        tried = [self.mapping.delimiter] if self.mapping.delimiter else DELIMITERS
        cut = [records(data, d) for d in tried]
        return max(cut, key=lambda rows: sum(len(cells) for _, cells in rows))

    def _find(self) -> tuple[Findings, list[str]]:
        """Everything but the points, and what was assumed."""
        file = self.file
        zone = zone_of(self.mapping.time.zone) if self.mapping.time.zone else self.site.zone
        sheet, more = self._sheet(zone)
        is_long = self.mapping.layout == "long" or self.mapping.long is not None
        resolved = resolve(self.mapping, sheet, self.title, file=file, long=is_long)
        self.mapping, self.keys = resolved.mapping, resolved.keys
        where = find_time(sheet, self.mapping, file=file, zone=zone)
        time, notes = self._time_plan(sheet, where, zone)
        long = self._long(sheet, where)
        layout = self.layout or ("long" if long else "wide")
        valid, status, marks = self._valid(sheet), self._status(sheet), self._marks(sheet, where)
        offset = self._offset_column(sheet)
        return Findings(layout, sheet, where, time, long, valid, status, marks, offset), [*more, *notes]

    def _sheet(self, zone: tzinfo) -> tuple[Sheet, list[str]]:
        """The table in the file; its times may be a spreadsheet's day numbers, which only a name tells."""
        text, file = self._sample(), self.file
        try:
            return find_sheet(text, self.mapping, file=file, zone=zone), []
        except FileNotUnderstood:
            found = None if self.mapping.time.format else serial_column(text, self.mapping)
            if found is None:
                raise
        delimiter, name = found
        time = self.mapping.time.model_copy(update={"format": ("excel",)})
        if not time.is_placed:
            time = time.model_copy(update={"column": name})
        self.mapping = self.mapping.model_copy(update={"time": time, "delimiter": delimiter})
        note = f"{name}: its numbers are taken for a spreadsheet's days since 1899-12-30, in local time"
        return find_sheet(text, self.mapping, file=file, zone=zone), [note]

    def _sample(self) -> str:
        block = next(table_blocks(self.path, self.encoding, self.layout, _SAMPLE_BYTES), None)
        return block.data.decode("utf-8", "replace") if block else ""

    # --- time ---

    def _time_plan(self, sheet: Sheet, where: TimeColumns, zone: tzinfo) -> tuple[TimePlan, list[str]]:
        given = self.mapping.time
        cells = [c for column in time_cells(sheet, where) for c in column]
        notes: list[str] = []
        if given.format:
            formats: tuple[str, ...] = given.format
        elif where.place == "single" and _are_epochs(cells[:_SAMPLE_MARKS]):
            formats = (epoch_format(cells),)
        else:
            formats, notes = self._found_formats(sheet, where, cells, zone)
        offset_column = self._offset_column(sheet)
        plan = TimePlan(
            where.place,
            where.columns,
            tuple(time_format(f) for f in formats),
            zone,
            offset_column=column_index(sheet, offset_column.column, "time: offset", self.file)
            if offset_column
            else None,
            offset_unit_us={"minutes": 60, "hours": 3600, "seconds": 1}[offset_column.unit] * SECOND_US
            if offset_column
            else 0,
        )
        order = given.order or find_order(sheet, plan)
        inclusive, more = is_inclusive(sheet, where, plan, self.mapping)
        return replace(plan, order=order, inclusive=inclusive), [*notes, *more]

    def _offset_column(self, sheet: Sheet) -> OffsetColumn | None:
        if self.mapping.time.offset or self.mapping.time.zone:
            return self.mapping.time.offset
        found = [n for n in sheet.names if normal(n).startswith("utcoffset")]
        return (
            OffsetColumn(column=found[0], unit="minutes")
            if len(found) == 1 and "minute" in found[0]
            else None
        )

    def _found_formats(
        self, sheet: Sheet, where: TimeColumns, cells: list[str], zone: tzinfo
    ) -> tuple[tuple[str, ...], list[str]]:
        good = [c for c in _telling(cells) if formats_of(c, zone)]
        choice = choose_formats(good, zone)
        if choice is None:
            raise FileNotUnderstood(
                "its times are not understood; say time: format in the mapping, e.g. '%d.%m.%Y %H:%M'",
                file=self.file,
                line=sheet.first_line,
                column=sheet.names[where.columns[0]],
            )
        if choice.rivals:
            choice = choose_formats(self._deciding(sheet, where, choice, good), zone) or choice
        if choice.rivals:
            raise self._ask_order(sheet, where, choice.formats, choice.rivals, good)
        notes = [f"times read as {' or '.join(choice.formats)}: {choice.reason}"] if choice.reason else []
        return choice.formats, notes

    def _ask_order(
        self,
        sheet: Sheet,
        where: TimeColumns,
        found: tuple[str, ...],
        rivals: tuple[str, ...],
        cells: list[str],
    ) -> Ambiguous:
        texts = pa.array(cells, pa.string())
        read = [parse_times(texts, [time_format(f) for f in formats]).us for formats in (found, rivals)]
        row = int(np.argmax(read[0] != read[1]))
        shown = [
            f"{cells[row].strip()!r} as {np.datetime64(int(us[row]), 'us').astype('datetime64[D]')}"
            for us in read
        ]
        return Ambiguous(
            "day and month cannot be distinguished in any of its times",
            "time: format",
            [(repr(f[0]), s) for f, s in zip((found, rivals), shown, strict=True)],
            file=self.file,
            line=sheet.first_line,
            column=sheet.names[where.columns[0]],
        )

    def _deciding(self, sheet: Sheet, where: TimeColumns, choice: FormatChoice, good: list[str]) -> list[str]:
        """The sample's times and one of each further day, up to the first that only reads one way."""
        rivals = [[time_format(f) for f in fs] for fs in (choice.formats, choice.rivals)]
        seen = {c.strip()[:_DAY_CHARACTERS] for c in good}
        for cells in self._time_columns(sheet, where):
            keys = pc.utf8_slice_codeunits(cells, 0, _DAY_CHARACTERS).to_numpy(zero_copy_only=False)
            days, first = np.unique(keys, return_index=True)
            rows = [i for day, i in zip(days, first, strict=True) if day not in seen]
            new = cells.take(pa.array(rows, pa.int64()))
            seen.update(days)
            parsed = [parse_times(new, r) for r in rivals]
            readable = np.logical_or.reduce([p.ok for p in parsed])
            good = good + [c for c, ok in zip(new.to_pylist(), readable, strict=True) if ok]
            if len(seen) > _MOST_DAYS or not all((p.ok | ~readable).all() for p in parsed):
                break
        return good

    def _time_columns(self, sheet: Sheet, where: TimeColumns) -> Iterator[Any]:
        """The first time of every row of the file, as Arrow arrays."""
        parser = RowParser(sheet.delimiter, sheet.width, sheet.full_width, where.columns)
        for block in table_blocks(self.path, self.encoding, self.layout):
            cells, _, _ = parser.parse(block)
            yield time_texts(cells, where.place, where.columns)[0]

    # --- columns beside the values ---

    def _valid(self, sheet: Sheet) -> SidePlan | None:
        given = self.mapping.valid
        if given is None:
            found = [(n, u) for n in sheet.names for u in [valid_unit(n)] if u]
            if len(found) != 1 or self.mapping.columns:
                return None
            given = ValidMapping.model_validate({"column": found[0][0], "unit": found[0][1]})
        index = column_index(sheet, given.column, "valid: column", self.file)
        return SidePlan(index, sheet.names[index], unit_s=VALID_UNITS_S[given.unit])

    def _status(self, sheet: Sheet) -> SidePlan | None:
        given = self.mapping.status or usual_status(sheet)
        if given is None:
            return None
        index = column_index(sheet, given.column, "status: column", self.file)
        return SidePlan(index, sheet.names[index], good=frozenset(g.strip() for g in given.good))

    # --- numbers ---

    def _marks(self, sheet: Sheet, where: TimeColumns) -> NumberStyle:
        given = self.mapping
        if given.decimal is not None:
            other = {",": ".", ".": ","}[given.decimal]
            thousands = given.thousands if given.thousands is not None else other
            return NumberStyle(given.decimal, thousands.strip(" '"), frozenset(given.no_value))
        choice = self._mark_choice(sheet, where)
        if choice.examples:
            raise self._ask_marks(sheet, choice)
        return NumberStyle(choice.decimal, choice.thousands, frozenset(given.no_value))

    def _mark_choice(self, sheet: Sheet, where: TimeColumns) -> MarkChoice:
        """The marks by the sample's numbers; where those leave it open, by the file's, block by block."""
        beside = self._value_columns(sheet, where)
        votes = MarkVotes()
        for i in beside:
            votes += count_marks(pa.array(sheet.column(i)[:_SAMPLE_MARKS], pa.string()))
        choice = choose_marks(votes, sheet.delimiter)
        if votes.has_marks and not choice.examples:
            return choice
        parser = RowParser(sheet.delimiter, sheet.width, sheet.full_width, beside)
        for block in table_blocks(self.path, self.encoding, self.layout):
            if votes.has_marks or may_have_marks(block.data, sheet.delimiter):
                cells, _, _ = parser.parse(block)
                for column in cells.columns.values():
                    votes += count_marks(column)
                choice = choose_marks(votes, sheet.delimiter)
            if votes.has_marks and not choice.examples:
                break
        return choice

    def _value_columns(self, sheet: Sheet, where: TimeColumns) -> list[int]:
        """The columns that fill a point; where their names do not tell, all that hold numbers."""
        filled = [i for i in range(sheet.width) if i not in where.columns and may_have_values(sheet, i)]
        named = [_as_mapped(Named(i, sheet.names[i]), sheet, self.mapping, self.title) for i in filled]
        matched = match.match_columns(named, self.site, self.mapping, file=self.file)
        return [n.index for n in matched] or filled

    def _ask_marks(self, sheet: Sheet, choice: MarkChoice) -> Ambiguous:
        one, other = choice.examples[0], {",": ".", ".": ","}
        mark = "," if "," in one else "."
        readings = {mark: one.replace(",", "."), other[mark]: one.replace(",", "").replace(".", "")}
        problem = f"numbers such as {one!r} can be read in two ways"
        if len(choice.examples) > 1:
            readings = {",": choice.examples[0], ".": choice.examples[1]}
            problem = "some numbers have a decimal comma, others a decimal point"
        choices = [(f"'{m}'", shown) for m, shown in readings.items()]
        return Ambiguous(problem, "decimal", choices, file=self.file, line=sheet.first_line)

    # --- points ---

    def _long(self, sheet: Sheet, where: TimeColumns) -> LongColumns | None:
        given = self.mapping.long
        if given is not None:
            points = [column_index(sheet, n, "long", self.file) for n in given.points]
            value = column_index(sheet, given.value, "long", self.file)
            unit = column_index(sheet, given.unit, "long", self.file) if given.unit else None
            return LongColumns(points[0], value, unit, tuple(points[1:]))
        if self.mapping.layout == "wide" or (self.mapping.columns and self.mapping.layout != "long"):
            return None
        return find_long(sheet, where, self.site)

    def _named(self, found: Findings) -> list[Named]:
        """What carries values: columns, or the texts of a long file's point column."""
        sheet, long = found.sheet, found.long
        if long is None:
            columns = [Named(i, n) for i, n in enumerate(sheet.names) if i not in found.beside]
            ids = {normal(p.id) for p in self.site.points()}
            filled = [n for n in columns if may_have_values(sheet, n.index) or normal(n.name) in ids]
            named = [_as_mapped(n, sheet, self.mapping, self.title) for n in filled]
            is_only = self.title and len(named) == 1
            return [replace(n, longer=(*n.longer, self.title)) for n in named] if is_only else named
        units: dict[str, str] = {}
        if long.unit is not None:
            pairs = list(zip(found.texts, sheet.column(long.unit), strict=False))
            units = dict(reversed(pairs))
        given = [t for k, c in self.mapping.columns.items() for t in (k, *c.also)]
        texts = dict.fromkeys([*given, *found.texts])
        named = [_of_text(t, long.value, units.get(t, ""), sheet.unit) for t in texts if t]
        return named if self.mapping.columns else [*named, *self._further(named, long.value)]

    def _further(self, named: list[Named], index: int) -> list[Named]:
        """Ids of the points that the sample does not show: they may come later in the file."""
        seen = {p.id for n in named for p in [match.only_point(n, self.site)] if p is not None}
        texts = {n.name for n in named}
        return [Named(index, p.id) for p in self.site.points() if p.id not in seen | texts]

    def _columns(self, found: Findings, named: list[Named]) -> tuple[tuple[ColumnPlan, ...], list[str]]:
        """How each column fills its point, and what was assumed."""
        file = self.file
        warnings: list[str] = []
        matched = match.match_columns(named, self.site, self.mapping, file=file)
        if not matched and not self.mapping.columns and (only := self._only_pair(named)):
            matched = dict([only])
            warnings.append(f"the file's only column of values is taken for {only[1].point}")
        if not matched:
            raise self._mapping_needed(found, named)
        if self.layout == "epw":
            warnings += self._weather([c for n, c in matched.items() if n.name in found.texts])
        step = regular_step(found.sheet, found.time, found.texts if found.long else None)
        step = step if found.where.place in ("single", "joined") else None
        plans = [
            match.column_plan(n, c, self.site, self.mapping, found.marks, step, file=file)
            for n, c in matched.items()
        ]
        warnings += [note for _, notes in plans for note in notes]
        stamped = [self._stamped(found, plan) for plan, _ in plans]
        warnings += [note for _, note in stamped if note]
        columns = tuple(p for p, _ in stamped)
        return columns, warnings + list(self._odd_sizes(found, columns))

    def _weather(self, columns: Sequence[ColumnMapping]) -> Iterator[str]:
        """What is to be said of a weather file.

        Raises
        ------
        FileNotUnderstood
            If it would fill a point that the site says to measure.
        """
        for column in columns:
            meter = self.site.meter_of[column.point]
            if not meter.imported_from:
                raise FileNotUnderstood(
                    f"a weather file is no measurement of the site: say imported_from at meter {meter.id}, "
                    "such as the name of the station",
                    file=self.file,
                    column=column.point,
                )
        years = epw.years(self.path)
        if len(years) > 2:
            shown = ", ".join(str(year) for year in years)
            yield (
                f"a typical year, made of months of {shown}: every value keeps its year, so it is the "
                "weather of no other day; a baseline needs the file of an actual year"
            )

    def _odd_sizes(self, found: Findings, columns: Sequence[ColumnPlan]) -> Iterator[str]:
        """Columns whose numbers mean more than their point can carry, or stand too far apart to integrate."""
        rated = {p.id: self.site.effective(m, p).max_power_kw for m in self.site.meters for p in m.points}
        shapes = self._shapes(found, [Named(c.index, c.name) for c in columns])
        for column in columns:
            point, shape = column.point, shapes.get(column.name)
            if shape is None or point.quantity not in (ENERGY, POWER):
                continue
            size_kw = abs(shape.power_kw(point, column.factor * point.multiplier))
            if size_kw > rated[point.id]:
                yield (
                    f"column {column.name}: its numbers mean about {size_kw:,.0f} kW, more than the "
                    f"{rated[point.id]:,.0f} kW that point {point.id} can carry; check unit and scale"
                )
            if point.kind is ReadingKind.POWER and point.sampling is Sampling.PERIODIC:
                yield from _far_apart(column.name, point, shape)

    def _stamped(self, found: Findings, plan: ColumnPlan) -> tuple[ColumnPlan, str]:
        """The column with the end of its intervals that times name, and what was assumed."""
        told = stamp_of(found.sheet, found.time, plan.interval, plan.point, self.mapping, file=self.file)
        return replace(plan, stamp=told.stamp), told.note

    def _only_pair(self, named: list[Named]) -> tuple[Named, ColumnMapping] | None:
        points = list(self.site.points())
        filled = [n for n in named if not n.is_empty]
        if len(filled) != 1 or len(points) != 1 or not may_fill(filled[0], points[0]):
            return None
        return filled[0], ColumnMapping(point=points[0].id)

    def _mapping_needed(self, found: Findings, named: list[Named]) -> MappingNeeded:
        """Which column fills which point must be said; with a mapping that says all the rest."""
        sheet, long = found.sheet, found.long
        start = full_mapping(found, (), self.mapping, self.site, self.encoding, self.keys)
        if self.title:
            start = start.model_copy(update={"encoding": None, "delimiter": None})
        ids = {p.id for p in self.site.points()}
        shown = [n for n in named if n.name not in ids and not n.is_empty] or named
        proposal = propose(shown, self._shapes(found, shown), self.site, start, is_long=long is not None)
        return MappingNeeded(
            match.nothing_matches(shown, self.site),
            proposal.text(self.site),
            file=self.file,
            line=sheet.skip + 1,
            proposal=proposal,
        )

    def _shapes(self, found: Findings, named: list[Named]) -> dict[str, Shape]:
        """The numbers of each column in the sample, with their times."""
        at_us, rows = sample_times(found.sheet, found.time)
        texts = np.array([found.texts[r] for r in rows], object) if found.long else None
        parsed: dict[int, Numbers] = {}
        shapes = {}
        for one in named[:_MOST_SHAPES]:
            if one.index not in parsed:
                column = found.sheet.column(one.index)
                parsed[one.index] = parse_numbers(
                    pa.array([column[r] for r in rows], pa.string()), found.marks
                )
            numbers = parsed[one.index]
            good = numbers.state == NUMBER
            if texts is not None:
                good = good & (texts == one.name)
            shapes[one.name] = Shape(at_us[good], numbers.values[good])
        return shapes


def _far_apart(name: str, point: Point, shape: Shape) -> Iterator[str]:
    """Power between readings that stand further apart than the point's interval is not known."""
    spacing_s = np.diff(np.sort(shape.at_us)) / SECOND_US
    longest_s = GAP_FACTOR * point.interval_s
    if len(spacing_s) and float(np.mean(np.greater(spacing_s, longest_s))) > _FAR_SHARE:
        yield (
            f"column {name}: rows stand up to {spacing_s.max() / 3600:.3g} h apart; between rows more than "
            f"{longest_s / 60:.3g} min apart the power of point {point.id} is not known; if the source only "
            "writes changes, set sampling: on_change and longest_hold_s in the site file, else interval_s"
        )


def _are_epochs(cells: Sequence[str]) -> bool:
    return bool(cells) and sum(map(is_epoch, cells)) > len(cells) / 2


def _telling(cells: Sequence[str]) -> list[str]:
    """The first cells, and from the others one of each day."""
    days = {c.strip()[:_DAY_CHARACTERS]: c for c in reversed(cells[_SAMPLE_CELLS:])}
    return [*cells[:_SAMPLE_CELLS], *reversed(days.values())]


def _of_text(text: str, index: int, unit: str, sheet_unit: str) -> Named:
    """One text of a long file's point column, with the unit of its rows."""
    known = known_unit(unit)
    return Named(index, text, known, other_unit="" if known else unit.strip(), sheet_unit=sheet_unit)


def _as_mapped(named: Named, sheet: Sheet, mapping: Mapping, title: str = "") -> Named:
    """The column under the name the mapping uses for it (number, header or preamble name)."""
    name = sheet.names[named.index]
    key = next((k for k in mapping.columns if sheet.index(k) == named.index), named.name)
    longer = [alias for alias, known in sheet.aliases.items() if known == name]
    if title:
        longer.append(f"{title} {name}")
    stated = stated_unit(name)
    empty = is_empty(sheet, named.index)
    return Named(named.index, key, stated.unit, empty, tuple(longer), stated.other, sheet.unit)
