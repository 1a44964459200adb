"""Numbers, their marks, and the many ways of saying that nothing was measured."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from collectors.csv.number import (
    BAD,
    MISSING,
    NUMBER,
    NumberStyle,
    parse_number,
    parse_numbers,
)
from collectors.csv.number_marks import MarkChoice, choose_marks, count_marks

COMMA = NumberStyle(",", ".")


@pytest.mark.parametrize(
    ("text", "style", "value"),
    [
        (" 12.5 ", NumberStyle(), 12.5),
        ("+5", NumberStyle(), 5.0),
        (".5", NumberStyle(), 0.5),
        ("1.44e2", NumberStyle(), 144.0),
        ("-0.2", NumberStyle(), -0.2),
        ("1,234.5", NumberStyle(".", ","), 1234.5),
        ("1 234.5", NumberStyle(), 1234.5),
        ("1\u00a0234", NumberStyle(), 1234.0),
        ("1'234.5", NumberStyle(), 1234.5),
        ("12,5", COMMA, 12.5),
        ("1.234.567,25", COMMA, 1234567.25),
        ("1.234", COMMA, 1234.0),
        ("110.5 kWh {ok}", NumberStyle(unit="kwh"), 110.5),
        ("21.5°C", NumberStyle(unit="c"), 21.5),
        ("１２", NumberStyle(), 12.0),
        ("(12.5)", NumberStyle(), -12.5),
        ("(1.234,5)", COMMA, -1234.5),
        ("12.5-", NumberStyle(), -12.5),
        ("−12.5", NumberStyle(), -12.5),
        ("(2.5) kWh", NumberStyle(unit="kwh"), -2.5),
        ('="1234.5"', NumberStyle(), 1234.5),
        ("1’234.5", NumberStyle(), 1234.5),
        ("45,2 %", NumberStyle(",", ".", unit="percent"), 45.2),
    ],
)
def test_numbers(text: str, style: NumberStyle, value: float) -> None:
    assert parse_number(text, style) == (value, NUMBER)
    got = parse_numbers(pa.array([text, "No Data"]), style)
    assert got.values[0] == value
    assert got.state.tolist() == [NUMBER, MISSING]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-", "--", "N/A", "#N/A", "#VALUE!", "#DIV/0!", "null", "No Data", "NO_DATA", "Data Loss"),
        *("Error", "Calc Failed", "[-11059] No Good Data For Calculation", "Bad Input", "I/O Timeout"),
        *("Comm Fail", "offline", "{down,stale}", "无数据", "資料遺失", "unavailable", "***"),
    ],
)
def test_nothing_was_measured(text: str) -> None:
    value, state = parse_number(text, NumberStyle())
    assert state == MISSING
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("240.x", NumberStyle()),
        ("9a", NumberStyle()),
        ("NaN", NumberStyle()),
        ("inf", NumberStyle()),
        ("1e999", NumberStyle()),
        ("1,5", NumberStyle()),
        ("12,34.5", NumberStyle(".", ",")),
        ("1.5", NumberStyle(",")),
        ("1.5 MWh", NumberStyle(unit="kwh")),
        ("0x10", NumberStyle()),
        ("0,123", NumberStyle(".", ",")),
        ("--5", NumberStyle()),
        ("(-5)", NumberStyle()),
        ("()", NumberStyle()),
        ("1,23,456.5", NumberStyle(".", ",")),
        ("1_000", NumberStyle()),
        ("=1+1", NumberStyle()),
        ("' OR 1=1--", NumberStyle()),
    ],
)
def test_neither(text: str, style: NumberStyle) -> None:
    assert parse_number(text, style)[1] == BAD
    got = parse_numbers(pa.array([text, "1"]), style)
    assert got.state.tolist() == [BAD, NUMBER]
    assert np.isnan(got.values[0])


def test_a_declared_text_counts_as_nothing_measured() -> None:
    style = NumberStyle(no_value=frozenset({"-9999", "NaN"}))
    got = parse_numbers(pa.array(["-9999", "NaN", "5"]), style)
    assert got.state.tolist() == [MISSING, MISSING, NUMBER]


@pytest.mark.parametrize(
    ("cells", "delimiter", "choice"),
    [
        (["1.5", "2"], ",", MarkChoice(".", ",")),
        (["1,5", "2"], ";", MarkChoice(",", ".")),
        (["1.234,5"], ";", MarkChoice(",", ".")),
        (["1,234.5"], ",", MarkChoice(".", ",")),
        (["1,234,567"], ",", MarkChoice(".", ",")),
        (["1.234.567"], ";", MarkChoice(",", ".")),
        (["1,234", "0,5"], ";", MarkChoice(",", ".")),
        (["1,234", "5.5"], ",", MarkChoice(".", ",")),
        (["1,234"], ",", MarkChoice(".", ",", ("1,234",))),
        (["1.234", "999"], ";", MarkChoice(".", ",", ("1.234",))),
        (["1.234", "0.999"], ";", MarkChoice(".", ",")),
        (["761.569", "737.201"], ",", MarkChoice(".", ",")),
        (["1e5", "abc", "12:30"], ",", MarkChoice(".", ",")),
        (["12,5 kWh", "(0,5)", "45,2%"], ";", MarkChoice(",", ".")),
        # one odd cell turns nothing
        ([*["1.5"] * 4, "1,5", "1.2.3", "1..5"], ";", MarkChoice(".", ",")),
        ([*["1,5"] * 4, "1.5", "1,2,3", "1.2.3"], ";", MarkChoice(",", ".")),
        ([*["1.234"] * 60, "1,5"], "\t", MarkChoice(".", ",", ("1.234",))),
        # nor does it bring in a thousands mark that large numbers do without
        ([*["1234.5"] * 9, "1,234,567"], ";", MarkChoice(".", "")),
        # files that contradict themselves are asked about
        (["1.5", "2,5"], ";", MarkChoice(".", ",", ("2,5", "1.5"))),
        ([*["761.569"] * 9, "7,5"], "\t", MarkChoice(".", ",", ("761.569",))),
    ],
)
def test_marks(cells: list[str], delimiter: str, choice: MarkChoice) -> None:
    assert choose_marks(count_marks(pa.array(cells)), delimiter) == choice
