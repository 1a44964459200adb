"""The mapping file: what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigError
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
