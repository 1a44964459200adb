"""Measures as they are declared: boundaries, spans, adjustments."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from app import config
from app.domain.measure import Adjustment, Boundary, Measure, Option
from app.errors import SeriesError
from tests.integration.api_helpers import ESTATE

SITE = config.parse(ESTATE).fleet.site["sh1"]
MEASURE = Measure.declared(
    key="fans-2026",
    what="fans exchanged",
    where=Boundary.parse("facility"),
    implementation_start=date(2026, 3, 1),
    implementation_end=date(2026, 3, 8),
    evidence="order 7",
)


def test_the_usual_spans() -> None:
    assert (MEASURE.baseline_start, MEASURE.baseline_end) == (date(2025, 3, 1), date(2026, 3, 1))
    assert (MEASURE.reporting_start, MEASURE.reporting_end) == (date(2026, 3, 8), None)
    MEASURE.check()


@pytest.mark.parametrize("day", [date(1, 1, 1), date(9999, 12, 31)])
def test_days_out_of_reach_are_refused(day: date) -> None:
    with pytest.raises(SeriesError, match="is no day of a measure"):
        Measure.declared(key="m", what="w", where=MEASURE.where, implementation_start=day, evidence="e")


@pytest.mark.parametrize("text", ["facility", "class:cooling", "meter:ups"])
def test_boundaries_are_written_as_they_are_read(text: str) -> None:
    assert str(Boundary.parse(text)) == text


@pytest.mark.parametrize("text", ["", "cooling", "class:", "facility:x", "meter"])
def test_other_boundaries_are_refused(text: str) -> None:
    with pytest.raises(SeriesError, match="allowed are facility, class:CLASS and meter:ID"):
        Boundary.parse(text)


@pytest.mark.parametrize(("text", "said"), [("class:it", "allowed are cooling"), ("meter:x", "no meter 'x'")])
def test_boundaries_of_another_site_are_refused(text: str, said: str) -> None:
    with pytest.raises(SeriesError, match=said):
        Boundary.parse(text).check(SITE)


def test_option_c_is_the_whole_facility() -> None:
    options = [Boundary.parse(text).option for text in ("facility", "class:cooling", "meter:ups")]
    assert options == [Option.C, Option.B, Option.B]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("facility", "meter:ups", True),
        ("class:cooling", "meter:chiller", True),
        ("class:cooling", "class:lighting", False),
        ("class:lighting", "meter:chiller", False),
        ("meter:chiller", "meter:chiller", True),
        ("meter:chiller", "meter:ups", False),
    ],
)
def test_boundaries_that_enclose_the_same_energy_meet(one: str, other: str, *, meet: bool) -> None:
    assert Boundary.parse(one).meets(Boundary.parse(other), SITE) is meet
    assert Boundary.parse(other).meets(Boundary.parse(one), SITE) is meet


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "Fans 2026"}, "key: 'Fans 2026'"),
        ({"what": " "}, "what: is empty"),
        ({"evidence": ""}, "evidence: is empty"),
        ({"implementation_end": date(2026, 2, 1)}, "implementation_end: is before"),
        ({"baseline_start": date(2026, 3, 1)}, "baseline_end: must be after"),
        ({"baseline_end": date(2026, 3, 2)}, "baseline_end: must not be after implementation_start"),
        ({"reporting_start": date(2026, 3, 7)}, "reporting_start: must not be before"),
        ({"reporting_end": date(2026, 3, 8)}, "reporting_end: must be after"),
        ({"cost": -1.0}, "cost: -1.0"),
        ({"expected_kwh_per_year": float("nan")}, "expected_kwh_per_year: nan"),
    ],
)
def test_measures_that_cannot_be_verified_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(SeriesError, match=said):
        replace(MEASURE, **change).check()  # type: ignore[arg-type]


def test_an_adjustment_falls_evenly_on_its_days() -> None:
    one = Adjustment(
        measure="fans-2026",
        start=date(2026, 4, 1),
        end=date(2026, 4, 5),
        energy_kwh=-8.0,
        reason="a room left",
    )
    one.check(MEASURE)
    days = [date(2026, 3, 31), date(2026, 4, 1), date(2026, 4, 4), date(2026, 4, 5)]
    assert [one.share_kwh(day) for day in days] == [0.0, -2.0, -2.0, 0.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"end": date(2026, 4, 1)}, "end: must be after start"),
        ({"start": date(2026, 3, 7)}, "must lie in the reporting period of fans-2026, 2026-03-08 to further"),
        ({"reason": " "}, "reason: is empty"),
        ({"energy_kwh": float("inf")}, "energy_kwh: inf"),
    ],
)
def test_adjustments_that_fit_no_measure_are_refused(change: dict[str, object], said: str) -> None:
    one = Adjustment(
        measure="fans-2026", start=date(2026, 4, 1), end=date(2026, 4, 5), energy_kwh=1.0, reason="x"
    )
    with pytest.raises(SeriesError, match=said):
        replace(one, **change).check(MEASURE)  # type: ignore[arg-type]
