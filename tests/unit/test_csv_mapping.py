"""The mapping file: what it may say, and how it is refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import ConfigError, FileNotUnderstood
from app.web.words import Words
from collectors.csv import layouts
from collectors.csv.mapping import (
    Interval,
    Mapping,
    interval_text,
    load_mapping,
    mapping_yaml,
    parse_interval,
    parse_mapping,
)
from collectors.csv.reader import read, understand

EVERYTHING = r"""
encoding: gbk
delimiter: "\t"
decimal: ","
thousands: "."
layout: long
skip: 10
header: 1
time:
  columns: [Date, Time]
  format: ["%Y/%m/%d %H:%M:%S", "%d.%m.%Y"]
  zone: "+08:00"
  offset: {column: Offset, unit: minutes}
  stamp: start
  interval: 15min
  order: descending
columns:
  A: a
  2: {point: b, unit: MWh, scale: 0.5, no_value: ["-9999"], allow_negative: true}
long: {point: Meter, value: Value, unit: Unit}
valid: {column: n, unit: hours}
status: {column: s, good: ["{ok}"]}
no_value: ["-1"]
footer: "^Total"
"""


def test_every_key_is_understood_and_written_back() -> None:
    mapping = parse_mapping(EVERYTHING)
    assert mapping.encoding == "gb18030"
    assert mapping.columns["A"].point == "a"
    assert mapping.columns["2"].unit == "mwh"
    assert parse_mapping(mapping_yaml(mapping)) == mapping


def test_an_empty_mapping_says_nothing() -> None:
    assert parse_mapping("{}") == Mapping()


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("delimiter: ';'\nwrong: 1\n", 2, "wrong", "unknown key; allowed are encoding, delimiter"),
        ("time:\n  column: t\n  zoen: UTC\n", 3, "time.zoen", "allowed are column, columns"),
        ("columns:\n  a: {point: p, units: kwh}\n", 2, "columns.a.units", "allowed are point, unit"),
        ("time:\n  zone: Mars\n", 2, "time.zone", "use an IANA name"),
        ("columns:\n  a: {point: p, unit: furlong}\n", 2, "columns.a.unit", "known are"),
        ("encoding: klingon\n", 1, "encoding", "allowed are utf-8"),
        ("time:\n  interval: soon\n", 2, "time.interval", "write e.g. 900s, 15min"),
        ("time: {column: a, range: b}\n", 1, "time", "one of column, columns, range"),
        ("time: {start: a}\n", 1, "time", "start needs end"),
        ("footer: '(?=a)b'\n", 1, "footer", "no regular expression"),
        ("footer: '('\n", 1, "footer", "no regular expression"),
        ("decimal: ','\nthousands: ','\n", 1, "", "the same mark"),
        ("- a\n", 1, "", "must be a mapping with keys such as time"),
        ("a: [\n", 2, "", ""),
    ],
)
def test_refusals_name_line_key_and_what_is_allowed(text: str, line: int, key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mapping(text, file="m.yaml")
    assert caught.value.line == line
    assert caught.value.key == key
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"m.yaml:{line}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_mapping(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("900s", Interval(seconds=900)),
        ("15min", Interval(seconds=900)),
        ("2h", Interval(seconds=7200)),
        ("1d", Interval(days=1)),
        ("1mo", Interval(months=1)),
        ("previous", Interval(from_previous=True)),
    ],
)
def test_intervals(text: str, interval: Interval) -> None:
    assert parse_interval(text) == interval


def test_seconds_in_the_mapping_s_spelling() -> None:
    assert [interval_text(s) for s in (1, 90, 900, 3600, 86_400)] == ["1s", "90s", "15min", "1h", "1d"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("%Q", "%Q in '%Q' is no known directive"),
        ("", "needs year, month and day"),
        ("%Y-%m-%d %d", "has %d twice"),
        ("%Y-%m-%d %I:%M", "%I needs %p"),
    ],
)
def test_a_time_format_that_is_none_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mapping(f"time:\n  format: '{text}'\n", file="bms.yaml")
    assert str(caught.value).startswith("bms.yaml:2: time.format")
    assert problem in str(caught.value)


@pytest.mark.parametrize("layout", layouts.LAYOUTS, ids=lambda one: one.name)
def test_every_layout_has_a_sample_and_a_source(layout: layouts.Layout) -> None:
    sample = Path(__file__).parents[1] / "golden" / "csv" / f"layout_{layout.name}"
    assert next(sample.glob("input.*")).stat().st_size > 100
    assert layout.source
    assert layout.columns or layout.shape
    assert Words("zh").message(layout.title) != layout.title


def test_a_layout_that_is_none_names_those_that_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"mapping:1: layout: 'niagra' is not known; allowed are wide, .*niagara"
    ):
        parse_mapping("layout: niagra")


def test_a_heading_is_not_recognised_where_the_mapping_places_the_time() -> None:
    rows = [(1, ["Timestamp", "Trend Flags", "Status", "Value"])]
    found = layouts.recognise(rows)
    assert found is not None
    assert found.layout.name == "niagara"
    assert found.is_whole(parse_mapping(""))
    assert not found.is_whole(parse_mapping("time: {column: Timestamp}"))


@pytest.mark.parametrize(
    "mapping",
    [
        'columns: {"/(a+)+$/": a}',
        'footer: "(a+)+$"\ncolumns: {a: a}',
        'columns: {b: {point: a, also: ["/(a|a)*b$/"]}}',
    ],
)
def test_no_pattern_takes_exponential_time(tmp_path: Path, mapping: str) -> None:
    """Python's own expressions would need 2**40 steps, and hold up the whole service meanwhile."""
    point = Point(id="a", role=Role.NONE, kind=ReadingKind.GAUGE)
    site = Site(id="dc", institution="b", time_zone="UTC", meters=(Meter(id="m", points=(point,)),))
    file = tmp_path / "a.csv"
    long = "a" * 40 + "!"
    file.write_text(f"time,{long},a\n2026-01-01 00:00,1,1\n2026-01-01 01:00,2,2\n{long},,\n")
    with suppress(FileNotUnderstood):
        plan = understand(file, site, parse_mapping(mapping))
        for _ in read(file, plan, now=datetime(2027, 1, 1, tzinfo=UTC)):
            pass


def test_a_pattern_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 1000 characters"):
        parse_mapping(f"footer: '{'a' * 1001}'")
