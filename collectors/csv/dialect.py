"""Finding the table in a text: delimiter, first row, the names of its columns, where the time stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from functools import cached_property, lru_cache
from itertools import islice, zip_longest
from typing import Any

import pyarrow.compute as pc

from app.errors import FileNotUnderstood
from collectors.csv.mapping import Mapping
from collectors.csv.number import is_no_value, known_unit, looks_like_number, looks_measured
from collectors.csv.rows import MAX_COLUMNS, Cells, records
from collectors.csv.time import EPOCHS_US, parse_text, time_format
from collectors.csv.time_formats import formats_of, is_clock
from collectors.csv.units import bare_name, unit_of_preamble

DELIMITERS = (",", ";", "\t", "|")
_SNIFFED_ROWS = 200

_GAP = "[\\s\u00a0]"
RANGE = rf"^{_GAP}*(?P<a>\d.*?){_GAP}+(?:to|bis|until|至|~|–|-){_GAP}+(?P<b>\d.*?){_GAP}*$"
"""An interval in one cell: ``2020-05-01 00:00:00 to 2020-05-01 00:15:00``."""

_RANGE = re.compile(RANGE)
_POINT_NAME = re.compile(r"(?:<>)?(Point[_ ]?\d+):?", re.IGNORECASE)
_EPOCH = re.compile(r"(?:1\d|[89])\d{8}(?:(?:\d{3}){1,3}|\.\d+)?")

Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Sheet:
    """A table inside a text file. ``rows`` are the (line, cells) of the sample, from its first reading on."""

    delimiter: str
    skip: int
    header_rows: int
    names: tuple[str, ...]
    width: int
    full_width: int
    rows: tuple[Row, ...]
    aliases: dict[str, str]
    """Name in the header (``Point_1``) -> name that the preamble gives it."""
    unit: str = ""
    """Unit that a line above the table states for all of it."""

    @property
    def first_line(self) -> int:
        """Line of the first reading."""
        return self.rows[0][0] if self.rows else self.skip + self.header_rows + 1

    @cached_property
    def times(self) -> dict[Any, Any]:
        """What was read of its times already, by the way of reading them."""
        return {}

    @cached_property
    def _columns(self) -> list[tuple[str, ...]]:
        return list(zip_longest(*(cells for _, cells in self.rows), fillvalue=""))

    def column(self, index: int) -> tuple[str, ...]:
        """The sample's cells of one column, one for each row; empty where a row is too short."""
        return self._columns[index] if index < len(self._columns) else ("",) * len(self.rows)

    def index(self, name: str) -> int | None:
        """The column of that name (as in the header or the preamble, or its number from 1)."""
        wanted = name.strip()
        for i, known in enumerate(self.names):
            if wanted == known or self.aliases.get(wanted) == known:
                return i
        return int(wanted) - 1 if wanted.isdecimal() and 0 < int(wanted) <= len(self.names) else None


def find_sheet(text: str, mapping: Mapping, *, file: str, zone: tzinfo = UTC) -> Sheet:
    """The table in the first part of a file.

    Raises
    ------
    FileNotUnderstood
        If no row holds a time and a value; it says what was looked for.
    """
    data = text.encode("utf-8")
    tried = [mapping.delimiter] if mapping.delimiter else [d for d in DELIMITERS if d in text] or [","]
    found = [(d, _rows_in_shape(rows, mapping, zone), rows) for d in tried for rows in [records(data, d)]]
    delimiter, shaped, rows = max(found, key=lambda f: (len(f[1]), f[1] and len(f[1][0][1])))
    if not shaped:
        raise _nothing_found(found[0][2], mapping, file)
    return _sheet(delimiter, rows, _with_earlier(shaped, rows, mapping, zone), mapping, file)


def _with_earlier(shaped: list[Row], rows: Sequence[Row], mapping: Mapping, zone: tzinfo) -> list[Row]:
    """The rows in shape, and before them those that are readings too, only damaged ones."""
    width, sample = len(shaped[0][1]), shaped[:50]
    votes = Counter(i for _, cells in sample for i in range(width) if is_time(cells[i], mapping, zone))
    times = [i for i, n in votes.items() if n >= 0.5 * len(sample)]
    start = (mapping.skip or 0) + (mapping.header or 0)
    before = [row for row in rows if start < row[0] < shaped[0][0]]
    if mapping.skip is not None and mapping.header is not None:
        return [row for row in before if any(c.strip() for c in row[1])] + shaped
    count = 0
    for _, cells in reversed(before):
        is_timed = bool(times) and all(i < len(cells) and is_time(cells[i], mapping, zone) for i in times)
        has_numbers = len(cells) == width and any(looks_measured(c) for c in cells)
        if not (is_timed or has_numbers):
            break
        count += 1
    return before[len(before) - count :] + shaped


def _nothing_found(rows: Sequence[Row], mapping: Mapping, file: str) -> FileNotUnderstood:
    first = next((line for line, cells in rows if any(c.strip() for c in cells)), 0)
    if not first:
        return FileNotUnderstood("the file is empty; expected rows of a time and values", file=file, line=1)
    expected = "expected rows of a time and at least one value, separated by comma, semicolon, tab or |"
    if mapping.delimiter or mapping.skip is not None:
        expected += f"; with delimiter {mapping.delimiter!r} and skip {mapping.skip} of the mapping"
    return FileNotUnderstood(expected, file=file, line=first)


def _rows_in_shape(rows: Sequence[Row], mapping: Mapping, zone: tzinfo) -> list[Row]:
    """The rows that could be readings, of the commonest width among them."""
    start = (mapping.skip or 0) + (mapping.header or 0)
    body = (row for row in rows if row[0] > start and len(row[1]) >= 2)
    likely = [row for row in islice(body, _SNIFFED_ROWS) if _is_reading(row[1], mapping, zone)]
    if not likely:
        return []
    width = Counter(len(cells) for _, cells in likely).most_common(1)[0][0]
    return [row for row in likely if len(row[1]) == width]


def _is_reading(cells: Sequence[str], mapping: Mapping, zone: tzinfo) -> bool:
    times = [i for i, c in enumerate(cells[:MAX_COLUMNS]) if is_time(c, mapping, zone)]
    values = sum(looks_measured(c) or bool(c.strip() and is_no_value(c)) for c in cells)
    if _is_number_format(mapping):
        return len(times) >= 1 and values >= 2
    return bool(times) and values > sum(looks_measured(cells[i]) for i in times)


def _is_number_format(mapping: Mapping) -> bool:
    return any(f in EPOCHS_US for f in mapping.time.format)


def is_time(cell: str, mapping: Mapping, zone: tzinfo = UTC) -> bool:
    """Whether the cell may be the time of a row."""
    if not cell or len(cell) > 80:
        return False
    if not mapping.time.format:
        return bool(formats_of(cell, zone) or is_epoch(cell) or is_range(cell))
    first = [f.split(" ")[0] for f in mapping.time.format] if mapping.time.columns else []
    formats = [time_format(f) for f in (*mapping.time.format, *first)]
    return any(parse_text(cell, f, zone) for f in formats) or bool(_RANGE.match(cell))


def is_range(cell: str) -> bool:
    """Whether the cell is an interval written as two times."""
    match = _RANGE.match(cell)
    return bool(match and formats_of(match["a"]) and formats_of(match["b"]))


def is_epoch(cell: str) -> bool:
    """Whether the cell may be seconds, or thousandths down to nanoseconds, since 1970 (from 1995 on)."""
    return bool(_EPOCH.fullmatch(cell.strip()))


def epoch_format(cells: Sequence[str]) -> str:
    """``epoch_s``, ``_ms``, ``_us`` or ``_ns``, by the number of digits that most of the cells have."""
    lengths = Counter(len(c.strip().split(".")[0]) // 3 for c in cells if is_epoch(c))
    return {3: "epoch_s", 4: "epoch_ms", 5: "epoch_us", 6: "epoch_ns"}[lengths.most_common(1)[0][0]]


def _sheet(delimiter: str, rows: list[Row], shaped: list[Row], mapping: Mapping, file: str) -> Sheet:
    full_width = len(shaped[-1][1])
    if full_width > MAX_COLUMNS:
        raise FileNotUnderstood(
            f"{full_width} columns; at most {MAX_COLUMNS} are read", file=file, line=shaped[-1][0]
        )
    first = shaped[0][0]
    before = [row for row in rows if row[0] < first]
    header = _header(before, full_width, mapping)
    names, whole = names_of([cells for _, cells in header], full_width)
    aliases = _aliases(before)
    width = _trimmed_width(names, [row for row in shaped if len(row[1]) == full_width])
    body = tuple(row for row in rows if row[0] >= first)
    skip = header[0][0] - 1 if header else first - 1 if mapping.header is None else (mapping.skip or 0)
    distinct = _distinct([aliases.get(n, n) or str(i) for i, n in enumerate(names[:width], 1)])
    longer = {w: n for w, n in zip(whole, distinct, strict=False) if w != n and whole.count(w) == 1}
    unit = next((u for _, cells in before for u in [unit_of_preamble(cells)] if u), "")
    return Sheet(delimiter, skip, len(header), distinct, width, full_width, body, {**longer, **aliases}, unit)


def _header(before: list[Row], width: int, mapping: Mapping) -> list[Row]:
    """The rows that name the columns; none if the first reading has no fitting row above it."""
    if mapping.header is not None:
        from_line = (mapping.skip or 0) + 1
        return [row for row in before if row[0] >= from_line][: mapping.header]
    text = [row for row in before if any(c.strip() for c in row[1])]
    if mapping.skip is not None:
        text = [row for row in text if row[0] > mapping.skip]
    above = _without_titles(_rows_of_names(text, width))
    if not above:
        return []
    heads = [cells for _, cells in above]
    is_whole = all(low.strip() or not any(tops) for low, *tops in _stacked(heads, width))
    return above[-1:] if _is_enough(heads[-1]) and is_whole else above


def _is_enough(lowest: Sequence[str]) -> bool:
    """Whether the lowest row of names tells the columns apart by itself."""
    filled = [c.strip() for c in lowest if c.strip()]
    return len(filled) >= 2 and len(set(filled)) == len(filled) and not _is_unit_row(lowest)


def _stacked(heads: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The texts above each column, the lowest first."""
    return [[row[i].strip() if i < len(row) else "" for row in reversed(heads)] for i in range(width)]


def _without_titles(rows: list[Row]) -> list[Row]:
    """Rows of names without the report's title above them: one text, over the first column or all."""
    while len(rows) > 1 and _is_title(rows[0][1], rows[-1][1]):
        rows = rows[1:]
    return rows


def _is_title(cells: Sequence[str], lowest: Sequence[str]) -> bool:
    filled = [i for i, c in enumerate(cells) if c.strip()]
    left = next((i for i, c in enumerate(lowest) if c.strip()), 0)
    return bool(filled) and len({cells[i].strip() for i in filled}) == 1 and filled[0] <= left


def _rows_of_names(text: list[Row], width: int) -> list[Row]:
    """The rows of names that stand directly above each other, the last of them above the readings."""
    found: list[Row] = []
    for row in reversed(text):
        fits = len(row[1]) >= width - 1 if not found else len(row[1]) == len(found[0][1])
        apart = bool(found) and found[0][0] - row[0] > 1 + max(c.count("\n") for c in row[1])
        if not fits or len(row[1]) > width or apart or any(looks_like_number(c) for c in row[1] if c.strip()):
            break
        found.insert(0, row)
    return found if any(sum(bool(c.strip()) for c in cells) >= 2 for _, cells in found) else []


def _is_unit_row(cells: Sequence[str]) -> bool:
    filled = [c.strip() for c in cells if c.strip()]
    return len(filled) > 1 and all(re.fullmatch(r"[(\[].*[)\]]", c) or known_unit(c) for c in filled[1:])


def names_of(heads: Sequence[Sequence[str]], width: int) -> tuple[list[str], list[str]]:
    """The name of each column, and the whole of what stands above it.

    The lowest row is the name where it tells the columns apart, else all rows together are. A text over
    several columns (a merged cell) is that of each.
    """
    if not heads:
        numbers = [str(i) for i in range(1, width + 1)]
        return numbers, numbers
    spread = [*(_spread(upper, heads[-1]) for upper in heads[:-1]), heads[-1]]
    columns = [[" ".join(t.split()) for t in column] for column in _stacked(spread, width)]
    whole = [_joined(reversed(column)) for column in columns]
    lowest = [next((t for t in column if t), "") for column in columns]
    is_enough = _is_enough(heads[-1]) and len({n for n in lowest if n}) == sum(map(bool, lowest))
    return ([_plain_name(n) for n in lowest] if is_enough else whole), whole


def _spread(upper: Sequence[str], lowest: Sequence[str]) -> list[str]:
    """A row above the names, its texts spread over the columns to their right."""
    out: list[str] = []
    for i, text in enumerate(upper):
        is_named = i < len(lowest) and bool(lowest[i].strip())
        out.append(text if text.strip() or not out or not is_named else out[-1])
    return out


def _joined(texts: Iterable[str]) -> str:
    return _plain_name(" ".join(dict.fromkeys(t for t in texts if t)))


def _plain_name(name: str) -> str:
    return name.removeprefix("<>")


def _trimmed_width(names: Sequence[str], shaped: Sequence[Row]) -> int:
    """Columns up to the last one that has a name or a value."""
    used = [i for i, n in enumerate(names, 1) if n]
    filled = [i for _, cells in shaped for i, c in enumerate(cells, 1) if c.strip()]
    return max([*used, *filled])


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(out)


def _aliases(before: Sequence[Row]) -> dict[str, str]:
    """``Point_1`` -> the name that a line ``Point_1:, NAME`` of the preamble gives it."""
    found = {}
    for _, cells in before:
        match = _POINT_NAME.fullmatch(cells[0].strip()) if len(cells) > 1 else None
        if match and cells[1].strip() and not _POINT_NAME.fullmatch(cells[1].strip()):
            found[match[1]] = cells[1].strip()
    return found


# --- what a column is -----------------------------------------------------------------------------


def normal(name: str) -> str:
    """A name for comparing: lower case, letters and digits only."""
    return _normal(name) if len(name) <= _NAME_LENGTH else _normal.__wrapped__(name)


_NAME_LENGTH = 200
"""Longer ones are no names, and not kept."""


@lru_cache(maxsize=1 << 14)
def _normal(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


@dataclass(frozen=True)
class TimeColumns:
    """Where the time of a row stands: `place` is single, joined, range or bounds (start and end)."""

    place: str
    columns: tuple[int, ...]


_START = re.compile(r"start|begin|from|von|desde|début|开始|起始|開始|起|自", re.IGNORECASE)
_END = re.compile(r"end|until|stop|bis$|\bto\b|hasta|\bfin\b|结束|截止|結束|終|至|止", re.IGNORECASE)


def find_time(sheet: Sheet, mapping: Mapping, *, file: str, zone: tzinfo = UTC) -> TimeColumns:
    """The columns of the time, as mapped or else by their cells.

    Raises
    ------
    FileNotUnderstood
        If none or several could be it.
    """
    time = mapping.time
    if time.is_placed:
        return _mapped_time(sheet, mapping, file)
    sheet = replace(sheet, rows=sheet.rows[:_SNIFFED_ROWS])
    share = {i: _share(sheet, i, lambda c: bool(formats_of(c, zone))) for i in range(sheet.width)}
    full = [i for i, s in share.items() if s >= 0.5]
    full = [i for i in full if not _is_bare_digits(sheet, i)] or full
    ranges = [i for i in range(sheet.width) if _share(sheet, i, is_range) >= 0.5]
    clocks = [i for i in range(sheet.width) if _share(sheet, i, is_clock) >= 0.5]
    epochs = [i for i in range(sheet.width) if _share(sheet, i, is_epoch) >= 0.5]
    if len(ranges) == 1:
        return TimeColumns("range", (ranges[0],))
    if len(full) == 1 and len(clocks) == 1 and _is_date_only(sheet, full[0], zone):
        return TimeColumns("joined", (full[0], clocks[0]))
    if len(full) == 2:
        return _bounds(sheet, full, file, zone)
    if len(full) == 1:
        _refuse_hours_apart(sheet, full[0], file, zone)
        return TimeColumns("single", (full[0],))
    if not full and len(epochs) == 1:
        return TimeColumns("single", (epochs[0],))
    several = ", ".join(repr(sheet.names[i]) for i in full or epochs)
    problem = f"the time could stand in {several}" if several else "no column holds times"
    raise FileNotUnderstood(f"{problem}; say time: column in the mapping", file=file, line=sheet.first_line)


def _share(sheet: Sheet, index: int, test: object) -> float:
    cells = [c for c in sheet.column(index) if c.strip()]
    return sum(map(test, cells)) / len(cells) if cells and callable(test) else 0.0


_HOUR_NAMES = {"hour", "hours", "hr", "he", "hourending", "period", "stunde", "heure", "hora"} | {
    *("小时", "小時", "时", "時", "时段", "時段", "点"),
}


def _refuse_hours_apart(sheet: Sheet, date: int, file: str, zone: tzinfo) -> None:
    """Days with a column of hours beside them: which end of the hour it counts must be said."""
    hours = [i for i in range(sheet.width) if normal(sheet.names[i]) in _HOUR_NAMES and i != date]
    if not hours or not _is_date_only(sheet, date, zone):
        return
    names = f"{sheet.names[date]}, {sheet.names[hours[0]]}"
    raise FileNotUnderstood(
        f"the day and the hour stand in columns of their own; say in the mapping what the hour counts: "
        f"time: {{columns: [{names}], format: '%Y-%m-%d %H'}}, with stamp: start if hours begin there",
        file=file,
        line=sheet.first_line,
    )


_TIME_NAMES = {
    "time",
    "date",
    "datetime",
    "timestamp",
    "zeit",
    "datum",
    "zeitstempel",
    "datumzeit",
    "dateheure",
} | {
    *(
        "fecha",
        "fechahora",
        "horodatage",
        "localtime",
        "datetimelocal",
        "时间",
        "時間",
        "日期",
        "日期时间",
        "日期時間",
    ),
}


def is_time_name(name: str) -> bool:
    """Whether a column that is called so is a time, whatever unit or zone stands behind the name."""
    return normal(bare_name(name)) in _TIME_NAMES


_SERIAL = re.compile(r"[2-6]\d{4}(?:[.,]\d+)?")
"""A spreadsheet's day number (1954 to 2091), with the time of day behind the mark."""


def serial_column(text: str, mapping: Mapping) -> tuple[str, str] | None:
    """(delimiter, column) of a column that is called a time and holds a spreadsheet's day numbers."""
    data = text.encode("utf-8")
    for delimiter in [mapping.delimiter] if mapping.delimiter else DELIMITERS:
        rows = [cells for _, cells in islice(records(data, delimiter), _SNIFFED_ROWS) if len(cells) > 1]
        for i, names in enumerate(rows):
            at = next((k for k, n in enumerate(names) if is_time_name(n)), None)
            if at is not None and _is_serial(rows[i + 1 :], at):
                return delimiter, names[at].strip()
    return None


def _is_serial(rows: Sequence[Sequence[str]], index: int) -> bool:
    cells = [row[index].strip() for row in rows if index < len(row) and row[index].strip()]
    return sum(bool(_SERIAL.fullmatch(c)) for c in cells) > len(cells) / 2


def _is_bare_digits(sheet: Sheet, index: int) -> bool:
    """Whether the column may be dates such as 20240131, but registers just as well."""
    return _share(sheet, index, lambda c: c.strip().isdecimal()) >= 0.9


def _is_date_only(sheet: Sheet, index: int, zone: tzinfo) -> bool:
    found = [formats for c in sheet.column(index) if (formats := formats_of(c, zone))]
    dates = sum(not any("%H" in f or "%I" in f for f in formats) for formats in found)
    return dates > len(found) / 2


def _bounds(sheet: Sheet, pair: list[int], file: str, zone: tzinfo) -> TimeColumns:
    """Start and end of an interval in two columns."""
    starts = [i for i in pair if _START.search(sheet.names[i])]
    ends = [i for i in pair if _END.search(sheet.names[i])]
    if len(starts) == 1 and len(ends) == 1 and starts != ends:
        return TimeColumns("bounds", (starts[0], ends[0]))
    before = [
        _first_us(a, zone) < _first_us(b, zone) for a, b in _pairs(sheet, pair) if a.strip() and b.strip()
    ]
    if sheet.header_rows == 0 and before and sum(before) >= 0.5 * len(before):
        return TimeColumns("bounds", (pair[0], pair[1]))
    raise FileNotUnderstood(
        f"two columns of times, {sheet.names[pair[0]]!r} and {sheet.names[pair[1]]!r}; "
        "say time: column, or time: start and end, in the mapping",
        file=file,
        line=sheet.first_line,
    )


def _pairs(sheet: Sheet, pair: list[int]) -> list[tuple[str, str]]:
    return list(zip(sheet.column(pair[0]), sheet.column(pair[1]), strict=False))


def _first_us(cell: str, zone: tzinfo) -> int:
    for text in formats_of(cell, zone)[:1]:
        parsed = parse_text(cell, time_format(text), zone)
        return parsed[0] if parsed else 0
    return 0


def _mapped_time(sheet: Sheet, mapping: Mapping, file: str) -> TimeColumns:
    time = mapping.time
    if time.range is not None:
        return TimeColumns("range", (column_index(sheet, time.range, "time: range", file),))
    if time.columns:
        found = tuple(column_index(sheet, c, "time: columns", file) for c in time.columns)
        return TimeColumns("joined" if len(found) > 1 else "single", found)
    if time.start is not None and time.end is not None:
        return TimeColumns(
            "bounds", tuple(column_index(sheet, c, "time: start/end", file) for c in (time.start, time.end))
        )
    name = time.column if time.column is not None else time.end
    return TimeColumns("single", (column_index(sheet, str(name), "time: column", file),))


def column_index(sheet: Sheet, name: str, key: str, file: str) -> int:
    """The column the mapping names.

    Raises
    ------
    FileNotUnderstood
        If the file has no such column; it lists those it has.
    """
    index = sheet.index(name)
    if index is None:
        shown = ", ".join(repr(n) for n in sheet.names[:40])
        raise FileNotUnderstood(
            f"the mapping's {key} names {name!r}, which is no column here; the file has {shown}",
            file=file,
            line=max(sheet.skip + 1, 1),
            column=name,
        )
    return index


def time_texts(cells: Cells, place: str, columns: Sequence[int]) -> list[Any]:
    """The texts of each row's one or two times (start and end), as Arrow arrays."""
    if place == "joined":
        parts = [pc.utf8_trim_whitespace(cells.columns[i]) for i in columns]
        return [pc.binary_join_element_wise(*parts, " ")]
    if place == "range":
        found = pc.extract_regex(cells.columns[columns[0]], RANGE)
        return [pc.struct_field(found, name).fill_null("") for name in ("a", "b")]
    return [cells.columns[i] for i in columns]
