"""What ``wattline doctor`` calls a warning and what a fault, at the bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.domain import checkup
from app.domain.checkup import Check, Outcome

NOW = datetime(2026, 11, 30, tzinfo=UTC)
OK, WARNING, FAULT = Outcome


@pytest.mark.parametrize(
    ("offset_s", "doubt_s", "outcome"),
    [(0, 0, OK), (2, 0, OK), (-2.1, 0, WARNING), (61, 0, FAULT), (-61, 2, WARNING), (5, 5, OK)],
)
def test_a_clock_is_forgiven_what_the_measurement_may_be_off(
    offset_s: float, doubt_s: float, outcome: Outcome
) -> None:
    found = checkup.clock("clock", offset_s, doubt_s)
    assert found.outcome is outcome
    assert bool(found.remedy) is (outcome is not OK)


def test_a_clock_says_which_way_it_is_off() -> None:
    assert checkup.clock("clock", -3600).found == "3600 s slow"
    assert checkup.clock("clock", 3600).found == "3600 s fast"


@pytest.mark.parametrize(
    ("days", "outcome"), [(90, OK), (30, OK), (29.9, WARNING), (3, WARNING), (2.9, FAULT), (-1, FAULT)]
)
def test_a_certificate_that_ends_soon_is_told(days: float, outcome: Outcome) -> None:
    found = checkup.certificate("c", NOW + timedelta(days=days), NOW)
    assert found.outcome is outcome
    assert found.found.startswith("ended on" if days < 0 else "valid until")


@pytest.mark.parametrize(("lag_s", "outcome"), [(0, OK), (300, OK), (301, WARNING), (3601, FAULT)])
def test_figures_that_are_behind_are_told(lag_s: float, outcome: Outcome) -> None:
    assert checkup.lag("figures", lag_s).outcome is outcome


@pytest.mark.parametrize(("free", "outcome"), [(50, OK), (15, OK), (14, WARNING), (3, WARNING), (2, FAULT)])
def test_a_disk_that_fills_is_told(free: int, outcome: Outcome) -> None:
    assert checkup.disk("disk", free, 100).outcome is outcome


def test_another_version_is_a_warning() -> None:
    assert checkup.version("cell", "1.0", "1.0").outcome is OK
    assert checkup.version("cell", "1.1", "1.0").outcome is WARNING
    assert checkup.version("cell", None, "1.0").found == "unknown, here 1.0"


def test_the_worst_counts() -> None:
    assert checkup.worst([]) is OK
    assert checkup.worst([Check("a", WARNING, ""), Check("b", OK, "")]) is WARNING
    assert checkup.worst([Check("a", WARNING, ""), Check("b", FAULT, ""), Check("c", OK, "")]) is FAULT
