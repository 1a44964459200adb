"""A table written in any dialect comes back value for value, and an odd cell costs its own row only."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.quantity import ReadingKind, Role
from app.domain.reading import ReadingColumns
from app.domain.site import Meter, Point, Site
from collectors.csv.mapping import Ambiguous, Mapping
from collectors.csv.reader import Reject, read, understand

NOW = datetime(2027, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")
NAMES = ("main", "ups", "冷机")
POINTS = {"main": "main", "ups": "ups", "冷机": "chiller"}


def _point(name: str) -> Point:
    return Point(id=POINTS[name], name=name, role=Role.OTHER, kind=ReadingKind.POWER)


SITE = Site(
    id="dc",
    institution="bank",
    time_zone="Europe/Berlin",
    meters=(Meter(id="m", points=tuple(_point(n) for n in NAMES)),),
)
TIMES = (
    *("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M"),
    *("%m/%d/%Y %I:%M %p", "%d-%b-%Y %H:%M", "%Y年%m月%d日 %H时%M分", "%Y%m%d %H:%M", "%Y-%m-%dT%H:%M:%S"),
    *("epoch_s", "epoch_ms", "excel"),
)
ODD = ("1.2.3", "1,2,3", "1..5", "1,,5", "x1", "12:30", "0x1F", "NaN", "=1+1", "1-2", "1/2", "½")
TOTALS = ("", "Total", "Summe", "Average", "合计", "*** End of Report ***")


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    time: str
    delimiter: str
    decimal: str
    grouping: str
    encoding: str
    newline: str
    quote_all: bool
    trailing: bool
    preamble: tuple[str, ...]
    unit_row: bool
    total: str
    descending: bool

    @property
    def told(self) -> Mapping:
        """What has to be said where the file leaves it open."""
        marks = {"decimal": self.decimal, "thousands": self.grouping.strip("\u00a0") or None}
        return Mapping.model_validate({"encoding": self.encoding.removesuffix("-sig"), **marks})

    def number(self, value: int, places: int) -> str:
        """`value` thousandths, or whatever `places` says, in this dialect."""
        text = f"{value / 10**places:,.{places}f}"
        return text.translate({ord(","): self.grouping, ord("."): self.decimal})

    def at(self, at: datetime) -> str:
        """An instant as this dialect's local time, or as seconds or days."""
        local = at.astimezone(ZONE)
        if self.time == "excel":
            days = (local.replace(tzinfo=UTC) - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1)
            return f"{days:.10f}".replace(".", self.decimal)
        if self.time.startswith("epoch"):
            return str(int(at.timestamp()) * (1 if self.time == "epoch_s" else 1000))
        return local.strftime(self.time)

    def row(self, cells: Sequence[str]) -> str:
        """Cells between delimiters, quoted where they have to be."""
        needs = (self.quote_all or self.delimiter in c for c in cells)
        shown = [f'"{c}"' if quoted else c for c, quoted in zip(cells, needs, strict=True)]
        return self.delimiter.join(shown) + self.delimiter * self.trailing

    def file(self, rows: Sequence[Sequence[str]], names: Sequence[str]) -> bytes:
        """The whole file."""
        head = [*self.preamble, self.row(["time", *names])]
        head += [self.row(["", *["(kW)"] * len(names)])] * self.unit_row
        total = [self.row([self.total, *["1"] * len(names)])] if self.total else []
        lines = [*head, *map(self.row, rows[:: -1 if self.descending else 1]), *total]
        return self.newline.join([*lines, ""]).encode(self.encoding)


def _dialect(**parts: object) -> Dialect:
    marks = parts.pop("marks")
    assert isinstance(marks, str)
    return Dialect(decimal=marks[0], grouping=marks[1:], **parts)  # type: ignore[arg-type]


dialects = st.builds(
    _dialect,
    time=st.sampled_from(TIMES),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    marks=st.sampled_from([".", ",", ".,", ",.", ". ", ", ", ".'", ",\u00a0"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030"]),
    newline=st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]),
    quote_all=st.booleans(),
    trailing=st.booleans(),
    preamble=st.sampled_from([(), ("Report",), ("Bericht 3", "", "Exportiert am 01.02.2024"), ("",)]),
    unit_row=st.booleans(),
    total=st.sampled_from(TOTALS),
    descending=st.booleans(),
)


@dataclass(frozen=True)
class Table:
    """Readings of some points, and cells that are no numbers: (row, column) -> text."""

    names: tuple[str, ...]
    places: int
    at: tuple[datetime, ...]
    values: tuple[tuple[int, ...], ...]
    odd: dict[tuple[int, int], str]

    def written(self, dialect: Dialect) -> bytes:
        """The table as a file."""
        rows = [
            [
                dialect.at(at),
                *(self.odd.get((r, c), dialect.number(v, self.places)) for c, v in enumerate(row)),
            ]
            for r, (at, row) in enumerate(zip(self.at, self.values, strict=True))
        ]
        return dialect.file(rows, self.names)

    def readings(self) -> set[tuple[str, datetime, float]]:
        """What must be stored."""
        return {
            (POINTS[name], at, self.values[r][c] / 10**self.places)
            for r, at in enumerate(self.at)
            for c, name in enumerate(self.names)
            if (r, c) not in self.odd
        }


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Hourly rows over more than twelve days, so that day and month are distinguished."""
    names = NAMES[: draw(st.integers(2, 3))]
    count, places = draw(st.integers(14, 30)), draw(st.integers(0, 3))
    start = datetime(2024, 1, 2, 23, tzinfo=UTC)
    at = tuple(start + timedelta(days=i, hours=7 * i % 24) for i in range(count))
    value = st.one_of(st.integers(0, 5000), st.integers(0, 9_000_000))
    row = st.tuples(*[value] * len(names))
    values = tuple(draw(st.lists(row, min_size=count, max_size=count)))
    where = st.tuples(st.integers(0, count - 1), st.integers(0, len(names) - 1))
    odd = draw(st.dictionaries(where, st.sampled_from(ODD), max_size=2))
    return Table(names, places, at, values, odd)


def _stored(path: Path, mapping: Mapping | None) -> tuple[set[tuple[str, datetime, float]], list[Reject]]:
    plan = understand(path, SITE, mapping)
    batches = list(read(path, plan, now=NOW))
    c = ReadingColumns.concat([b.columns for b in batches])
    rows = zip(c.point_id.tolist(), c.at_us.tolist(), c.value.tolist(), strict=True)
    found = {(plan.points[p], EPOCH + timedelta(microseconds=at), v) for p, at, v in rows}
    return found, [r for b in batches for r in b.rejects]


@given(tables(), dialects)
@settings(max_examples=40, deadline=None)
def test_a_table_in_any_dialect_comes_back(table: Table, dialect: Dialect) -> None:
    # Whole numbers grouped by dots tell nothing; only beside semicolons does that leave the dot open.
    assume(table.places or dialect.grouping != "." or dialect.delimiter == ";")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.csv"
        path.write_bytes(table.written(dialect))
        try:
            stored, rejects = _stored(path, None)
        except Ambiguous as question:
            if question.key not in ("decimal", "encoding"):
                raise
            stored, rejects = _stored(path, dialect.told)
        assert stored == table.readings()
        assert sorted(r.text for r in rejects) == sorted(table.odd.values())
