"""The change of PUE, by what moved it."""

from __future__ import annotations

import pytest

from app.domain.attribution import Attribution, EnergySplit, attribute
from app.errors import SeriesError


def split(
    it: float, cooling: float, lighting: float = 5.0, unmetered: float = 5.0, h: float = 1.0
) -> EnergySplit:
    overhead = {"cooling": cooling * h, "lighting": lighting * h}
    return EnergySplit((it + cooling + lighting + unmetered) * h, it * h, h, overhead)


def moved(before: EnergySplit, after: EnergySplit) -> Attribution:
    found = attribute(before, after)
    assert sum(found.parts.values()) == pytest.approx(found.change, abs=1e-12)
    assert sum(found.share_change.values()) == pytest.approx(found.change, abs=1e-12)
    return found


def test_failing_cooling_is_named() -> None:
    found = moved(split(100, 30), split(100, 60))
    assert found.change == pytest.approx(0.3)
    assert found.parts["cooling"] == pytest.approx(0.3)
    assert found.moved == "cooling"


def test_retired_servers_raise_pue_and_the_it_load_is_named() -> None:
    found = moved(split(100, 30), split(80, 28))
    assert found.change > 0
    assert found.moved == "it"


def test_a_class_that_follows_the_load_is_not_blamed() -> None:
    found = moved(split(100, 30, 5, 5), split(110, 33, 10, 5.5))
    assert found.moved == "lighting"


def test_periods_of_different_length_are_compared_by_mean_power() -> None:
    found = moved(split(100, 30, h=744), split(100, 30, h=672))
    assert found.change == pytest.approx(0)
    assert all(abs(part) < 1e-12 for part in found.parts.values())


def test_a_class_metered_only_later_leaves_the_remainder() -> None:
    found = moved(
        EnergySplit(150, 100, 1, {"cooling": 30}), EnergySplit(150, 100, 1, {"cooling": 30, "lighting": 20})
    )
    assert found.parts["lighting"] == pytest.approx(0.2)
    assert found.parts["unmetered"] == pytest.approx(-0.2)


def test_nothing_moved_names_nothing() -> None:
    assert moved(split(100, 30), split(100, 30)).moved is None


@pytest.mark.parametrize("bad", [split(0, 30), EnergySplit(2, 1, 0)])
def test_a_period_without_it_energy_or_time_is_refused(bad: EnergySplit) -> None:
    with pytest.raises(SeriesError, match="choose others"):
        attribute(split(100, 30), bad)
