"""Lines to columns of cells: two ways that give the same cells.

Regular blocks (every row of the right width, every quote where it belongs) go through Arrow's CSV
parser; any other block goes through the careful way, line by line, so that one odd row is refused
with its line number and the rest is kept.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from collectors.csv.source import Block

MAX_COLUMNS = 4096
_MAX_JOINED_LINES = 50
"""A quoted cell that runs over more lines is taken for a stray quote."""

csv.field_size_limit(2 << 20)


@dataclass(frozen=True, slots=True)
class Reject:
    """What was not taken over: where it stands, why, and its text.

    ``cell`` is its place in a workbook as Excel names it.
    """

    line: int
    column: str
    reason: str
    text: str
    cell: str = ""


@dataclass(frozen=True, slots=True)
class Cells:
    """Some rows of a file: the line of each, and the wanted columns as Arrow string arrays."""

    line: npt.NDArray[np.int64]
    columns: dict[int, Any]

    def __len__(self) -> int:
        return len(self.line)

    def take(self, rows: npt.NDArray[np.bool_]) -> Cells:
        """The chosen rows."""
        if rows.all():
            return self
        mask = pa.array(rows)
        return Cells(self.line[rows], {i: c.filter(mask) for i, c in self.columns.items()})


@dataclass
class RowParser:
    """Cuts blocks into cells.

    ``width`` is the number of cells of a right row; ``full_width`` counts the empty cells that this
    file's rows usually have behind them as well.
    """

    delimiter: str
    width: int
    full_width: int
    wanted: Sequence[int]
    careful_only: bool = False
    _left_over: list[bytes] = field(default_factory=list)
    _left_line: int = 0

    def parse(self, block: Block) -> tuple[Cells, list[tuple[int, list[str]]], list[Reject]]:
        """(right rows, (line, cells) of rows with another width, refused lines) of one block."""
        cells, odd, rejects = self._parse(block)
        if block.lines is None:
            return cells, odd, rejects
        of_file = block.lines.tolist()
        return (
            replace(cells, line=block.lines[cells.line - block.first_line]),
            [(of_file[line - block.first_line], row) for line, row in odd],
            [replace(r, line=of_file[r.line - block.first_line]) for r in rejects],
        )

    def _parse(self, block: Block) -> tuple[Cells, list[tuple[int, list[str]]], list[Reject]]:
        if not self.careful_only and not self._left_over and is_regular(block.data, self.delimiter):
            cells = self._fast(block)
            if cells is not None:
                return cells, [], []
        return self._careful(block)

    def finish(self) -> tuple[Cells, list[tuple[int, list[str]]], list[Reject]]:
        """The lines after a quote that never was closed."""
        left, self._left_over = self._left_over, []
        return self._sorted_out(self._records(left, self._left_line, final=True))

    def _fast(self, block: Block) -> Cells | None:
        data = block.data
        names = [str(i) for i in range(self.full_width)]
        kept = [*self.wanted, *range(self.width, self.full_width)]
        wanted = [names[i] for i in kept]
        try:
            table = pa_csv.read_csv(
                io.BytesIO(data),
                pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
                pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=False),
                pa_csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    strings_can_be_null=False,
                    null_values=[],
                ),
            )
        except pa.ArrowInvalid:
            return None
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        if table.num_rows != lines:
            return None
        columns = {i: _one(table.column(n).combine_chunks()) for n, i in enumerate(kept)}
        if any(pc.max(pc.binary_length(columns[i])).as_py() for i in range(self.width, self.full_width)):
            return None
        return Cells(block.first_line + np.arange(lines), {i: columns[i] for i in self.wanted})

    def _careful(self, block: Block) -> tuple[Cells, list[tuple[int, list[str]]], list[Reject]]:
        lines = self._left_over + block.data.split(b"\n")
        first = self._left_line if self._left_over else block.first_line
        if lines and not lines[-1]:
            lines.pop()
        self._left_over = []
        return self._sorted_out(self._records(lines, first))

    def _sorted_out(self, found: Iterable[Record]) -> tuple[Cells, list[tuple[int, list[str]]], list[Reject]]:
        lines: list[int] = []
        rows: list[list[str]] = []
        odd: list[tuple[int, list[str]]] = []
        rejects: list[Reject] = []
        for line, cells, reject in found:
            if reject is not None:
                rejects.append(reject)
            elif not any(c.strip() for c in cells):
                continue
            elif self._is_right(cells):
                lines.append(line)
                rows.append(cells)
            else:
                odd.append((line, cells))
        return self._cells(lines, rows), odd, rejects

    def _is_right(self, cells: list[str]) -> bool:
        return len(cells) >= self.width and not any(c.strip() for c in cells[self.width :])

    def _cells(self, lines: list[int], rows: list[list[str]]) -> Cells:
        columns = {i: pa.array([row[i] for row in rows], pa.string()) for i in self.wanted}
        return Cells(np.array(lines, np.int64), columns)

    def _records(self, lines: list[bytes], first: int, *, final: bool = False) -> Iterator[Record]:
        i = 0
        while i < len(lines):
            taken = self._record_length(lines, i, final)
            if taken == 0:
                self._left_over, self._left_line = lines[i:], first + i
                return
            record = split_record(b"\n".join(lines[i : i + taken]), first + i, self.delimiter)
            if taken > 1 and self.width and not self._is_right(record[1]):
                record, taken = (first + i, [], _stray(first + i, lines[i])), 1
            yield record
            i += taken

    def _record_length(self, lines: list[bytes], i: int, final: bool) -> int:
        """Lines of the record that starts here; 0 if the block ends within it."""
        quotes = lines[i].count(b'"')
        if quotes % 2 == 0 or not _opens_cell(lines[i], self.delimiter):
            return 1
        for more in range(1, _MAX_JOINED_LINES):
            if i + more >= len(lines):
                return 1 if final else 0
            quotes += lines[i + more].count(b'"')
            if quotes % 2 == 0:
                return more + 1
        return 1


Record = tuple[int, list[str], Reject | None]
"""Line, cells, and why there are none."""


def records(data: bytes, delimiter: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of every record of a text, blank ones as well; refused lines are left out."""
    if b'"' not in data and is_regular(data, delimiter):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return [(n, line.rstrip("\r").split(delimiter)) for n, line in enumerate(text.split("\n"), 1)]
    parser = RowParser(delimiter, 0, 0, ())
    lines = data.split(b"\n")
    return [(n, cells) for n, cells, reject in parser._records(lines, 1, final=True) if reject is None]


def _one(column: Any) -> Any:
    """A chunked column of one or no chunk as a plain array."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks else pa.array([], pa.string())
    return column


def _opens_cell(line: bytes, delimiter: str) -> bool:
    """Whether some quote of the line stands where a quoted cell may begin."""
    return line.startswith(b'"') or delimiter.encode() + b'"' in line


def split_record(data: bytes, line: int, delimiter: str) -> tuple[int, list[str], Reject | None]:
    """The cells of one record, or why there are none."""
    try:
        text = data.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        shown = data.decode("utf-8", "replace")
        return line, [], Reject(line, "", f"bytes that are not of the encoding at {error.start}", shown[:200])
    if "\ufffd" in text:
        return line, [], Reject(line, "", "bytes that are not of the encoding", text[:200])
    if "\0" in text:
        return line, [], Reject(line, "", "NUL byte", text.replace("\0", "\\0")[:200])
    if '"' not in text:
        if "\r" in text:
            return line, [], Reject(line, "", "a carriage return in the middle of the line", text[:200])
        return line, text.split(delimiter), None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        return line, [], Reject(line, "", f"not a CSV record: {error}", text[:200])
    if len(rows) > 1 or _unclosed(text):
        return line, [], _stray(line, data)
    return line, rows[0] if rows else [], None


def _unclosed(text: str) -> bool:
    return text.count('"') % 2 == 1


def _stray(line: int, data: bytes) -> Reject:
    return Reject(line, "", "a quote that is not closed", data.decode("utf-8", "replace")[:200].rstrip("\r"))


def is_regular(data: bytes, delimiter: str) -> bool:
    """Whether Arrow's parser and the careful one are sure to cut this block alike."""
    if b"\0" in data or b"\xef\xbf\xbd" in data or data.startswith(b"\xef\xbb\xbf"):
        return False
    if data.count(b"\r") != data.count(b"\r\n"):
        return False
    return b'"' not in data or _quotes_in_place(data, ord(delimiter))


def _quotes_in_place(data: bytes, delimiter: int) -> bool:
    """Whether quotes pair up within a line, next to a delimiter or line end on their outer side."""
    octets = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(octets == 34)
    if len(quotes) % 2:
        return False
    before = np.where(quotes[0::2] > 0, octets[quotes[0::2] - 1], 10)
    after = octets[np.minimum(quotes[1::2] + 1, len(octets) - 1)]
    at_end = quotes[1::2] + 1 >= len(octets)
    if not (np.isin(before, (10, delimiter)).all() and (at_end | np.isin(after, (10, 13, delimiter))).all()):
        return False
    line_ends = np.flatnonzero(octets == 10)
    return bool((np.searchsorted(quotes, line_ends) % 2 == 0).all())
