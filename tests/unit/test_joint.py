"""Measures that overlap are stated together and counted once."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app import config
from app.domain.joint import statements
from app.domain.measure import Boundary, Measure
from tests.integration.api_helpers import ESTATE

SITE = config.parse(ESTATE).fleet.site["sh1"]
UNTIL = date(2027, 1, 1)


def measure(key: str, start: date, where: str = "facility", **stated: Any) -> Measure:
    return Measure.declared(
        key=key,
        what=key,
        evidence="order",
        where=Boundary.parse(where),
        implementation_start=start,
        **stated,
    )


def said(*measures: Measure) -> list[tuple[str, str, str, bool]]:
    return [
        ("+".join(s.keys), str(s.where), " ".join(f"{a}..{b}" for a, b in s.spans), s.in_total)
        for s in statements(measures, SITE, UNTIL)
    ]


def test_one_measure_reports_from_the_day_its_work_is_done() -> None:
    one = measure("setpoint", date(2026, 4, 1))
    assert said(one) == [("setpoint", "facility", "2026-04-02..2027-01-01", True)]


def test_a_second_measure_within_a_year_is_stated_with_the_first() -> None:
    spring, autumn = measure("setpoint", date(2026, 4, 1)), measure("fans", date(2026, 9, 10))
    assert said(autumn, spring) == [
        ("setpoint", "facility", "2026-04-02..2026-09-10", True),
        ("setpoint+fans", "facility", "2026-09-11..2027-01-01", True),
    ]


def test_a_measure_with_a_baseline_after_the_other_stands_alone_but_counts_once() -> None:
    spring = measure("setpoint", date(2026, 4, 1))
    autumn = measure("fans", date(2026, 9, 10), baseline_start=date(2026, 4, 2))
    assert said(spring, autumn) == [
        ("setpoint", "facility", "2026-04-02..2026-09-10", True),
        ("fans", "facility", "2026-09-11..2027-01-01", False),
        ("setpoint+fans", "facility", "2026-09-11..2027-01-01", True),
    ]


def test_measures_at_boundaries_that_share_no_energy_stand_alone() -> None:
    lights, chiller = (
        measure("lights", date(2026, 4, 1), "class:lighting"),
        measure("chiller", date(2026, 6, 1), "meter:chiller"),
    )
    assert [(keys, total) for keys, _, _, total in said(lights, chiller)] == [
        ("lights", True),
        ("chiller", True),
    ]


def test_the_widest_boundary_holds_for_all() -> None:
    fans, chiller = (
        measure("fans", date(2026, 4, 1), "class:cooling"),
        measure("chiller", date(2026, 6, 1), "meter:chiller"),
    )
    assert ("fans+chiller", "class:cooling", "2026-06-02..2027-01-01", True) in said(fans, chiller)


def test_a_measure_whose_reporting_has_ended_still_changes_the_plant() -> None:
    ended = measure("setpoint", date(2026, 4, 1), reporting_end=date(2026, 8, 1))
    assert said(ended, measure("fans", date(2026, 9, 10)))[-1][0] == "setpoint+fans"


@st.composite
def ledgers(draw: st.DrawFn) -> list[Measure]:
    found = []
    for n in range(draw(st.integers(1, 5))):
        start = date(2026, 1, 1) + timedelta(days=draw(st.integers(0, 400)))
        length = draw(st.integers(0, 20))
        where = draw(
            st.sampled_from(["facility", "class:cooling", "class:lighting", "meter:chiller", "meter:ups"])
        )
        done = start + timedelta(days=length)
        baseline = start - timedelta(days=draw(st.sampled_from([30, 90, 365])))
        found.append(measure(f"m{n}", start, where, implementation_end=done, baseline_start=baseline))
    return found


@given(ledgers())
def test_no_energy_counts_twice(measures: list[Measure]) -> None:
    made = [s for s in statements(measures, SITE, UNTIL) if s.in_total]
    for n, one in enumerate(made):
        for other in made[n + 1 :]:
            if one.where.meets(other.where, SITE):
                assert all(
                    end <= first or last <= start for start, end in one.spans for first, last in other.spans
                )


@given(ledgers())
def test_no_day_of_work_is_reported_and_no_baseline_has_foreign_work(measures: list[Measure]) -> None:
    for statement in statements(measures, SITE, UNTIL):
        for start, end in statement.spans:
            assert start < end <= UNTIL
            for one in statement.measures:
                assert end <= one.implementation_start or start >= one.implementation_end
        others = [m for m in measures if m.where.meets(statement.where, SITE) and m not in statement.measures]
        for one in others:
            begun_later = all(one.implementation_start >= end for _, end in statement.spans)
            assert begun_later or one.implementation_end <= statement.base.baseline_start
