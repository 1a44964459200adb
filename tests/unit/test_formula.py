"""Formulas over points: what is understood, what is refused, and what they give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app import config
from app.domain import formula
from app.domain.energy import QuarterHours, Tag
from app.domain.period import QUARTER_HOUR_US
from app.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("main.kwh - hall1.kwh", 60.0),
        ("2*(main.kwh-0.5 * hall1.kwh)", 160.0),
        ("-hall1.kwh + main.kwh / 4", -15.0),
        ("main.kwh * (hall1.kwh / (hall1.kwh + main.kwh))", 100 * 40 / 140),
        ("1e1 * main.kwh", 1000.0),
    ],
)
def test_a_formula_gives_what_it_says(text: str, value: float) -> None:
    # "main.kwh-0.5" reads as one name, so the second case is written with its spaces
    found = formula.parse(text.replace("main.kwh-0.5", "main.kwh - 0.5"))
    assert found.value({"main.kwh": 100.0, "hall1.kwh": 40.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a point or a number is missing"),
        ("main.kwh -", "a point or a number is missing"),
        ("(main.kwh", "a parenthesis is not closed"),
        ("main.kwh hall1.kwh", "'hall1.kwh' is not expected there"),
        ("main.kwh ^ 2", "'^' is not understood"),
        ("2 * 3", "names no point"),
        ("main.kwh + 3", "an energy and a number"),
        ("main.kwh * hall1.kwh", "does not give an energy"),
        ("main.kwh / hall1.kwh", "does not give an energy"),
    ],
)
def test_what_gives_no_energy_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("^", r"\^")):
        formula.parse(text)


def cells(
    energy: list[float], coverage: list[float], *, first: int = 0, estimated: float = 0.0
) -> QuarterHours:
    count = len(energy)
    tag = np.full(count, Tag.ESTIMATED if estimated else Tag.MEASURED, np.int8)
    return QuarterHours(
        (first + np.arange(count)) * QUARTER_HOUR_US,
        np.array(energy),
        np.array(coverage),
        np.full(count, estimated),
        tag,
        np.full(count, 900, np.int32),
    )


def test_only_the_time_that_all_points_cover_counts() -> None:
    """The hall is not covered in the first interval, and half of the second: 25 - 10 in that half."""
    known = {
        "main": cells([50.0, 50.0, 50.0], [1.0, 1.0, 1.0]),
        "hall": cells([10.0, 30.0], [0.5, 1.0], first=1),
    }
    found = formula.compute(formula.parse("main - hall"), known)
    assert found.at_us.tolist() == [QUARTER_HOUR_US, 2 * QUARTER_HOUR_US]
    assert found.energy_kwh.tolist() == [15.0, 20.0]
    assert found.coverage_ratio.tolist() == [0.5, 1.0]
    assert formula.compute(formula.parse("main - other"), known).at_us.tolist() == []


def test_what_is_estimated_of_a_point_is_estimated_of_the_formula() -> None:
    known = {"main": cells([50.0], [1.0]), "hall": cells([10.0], [1.0], estimated=1.0)}
    found = formula.compute(formula.parse("main - hall"), known)
    assert (found.estimated_ratio.tolist(), found.tag.tolist()) == ([1.0], [Tag.ESTIMATED])


def test_a_division_by_nothing_is_not_known() -> None:
    known = {"a": cells([1.0, 1.0], [1.0, 1.0]), "b": cells([0.0, 2.0], [1.0, 1.0])}
    found = formula.compute(formula.parse("a * (a / b)"), known)
    assert found.at_us.tolist() == [QUARTER_HOUR_US]


def test_the_class_of_a_difference_follows_from_its_points() -> None:
    one = formula.parse("main - hall")
    percent = formula.class_percent(one, {"main": 1000.0, "hall": 600.0}, {"main": 1.0, "hall": 1.0})
    assert percent == pytest.approx(math.hypot(10, 6) / 4, rel=1e-6)
    assert formula.class_percent(one, {"main": 5.0, "hall": 5.0}, {"main": 1.0, "hall": 1.0}) == math.inf


SITE = """institutions: [{id: b, institution_class: joint_stock}]
sites:
  - id: s
    institution: b
    time_zone: UTC
    meters:
      - {id: main, points: [{id: main.kwh, role: facility, kind: register}]}
      - id: calc
        points:
          - id: hall.kwh
            role: it_pdu_output
            FORMULA
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "formula: main.kwh - other.kwh",
            "site.yaml:12: sites[0].meters[1].points[0].formula: there is no point 'other.kwh'",
        ),
        (
            "formula: main.kwh - hall.kwh",
            "site.yaml:12: sites[0].meters[1].points[0].formula: formula leads back to itself",
        ),
        (
            "formula: main.kwh +",
            "site.yaml:12: sites[0].meters[1].points[0].formula: formula 'main.kwh +': a point",
        ),
        ("formula: main.kwh\n            multiplier: 2", "formula takes no multiplier"),
        ("kind: estimate_from_current", "accuracy_class_percent is missing"),
        ("{kind: estimate_from_load, accuracy_class_percent: 10}", "rated_power_kw is missing"),
        ("{kind: estimate_from_current, accuracy_class_percent: 10}", "voltage_v is missing"),
    ],
)
def test_a_site_file_with_a_formula_or_estimate_that_cannot_be_is_refused(line: str, said: str) -> None:
    text = SITE.replace("FORMULA", line.strip("{}").replace(", ", "\n            "))
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "site.yaml")
    assert said in str(caught.value)


def test_a_point_with_a_formula_needs_no_kind() -> None:
    file = config.parse(SITE.replace("FORMULA", "formula: 0.5 * main.kwh"))
    assert file.sites[0].meters[1].points[0].formula == "0.5 * main.kwh"
