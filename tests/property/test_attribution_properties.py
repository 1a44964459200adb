"""The parts of a change of PUE sum to the whole, whatever the periods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.attribution import EnergySplit, attribute

_power_kw = st.floats(0, 1e4)
_classes = st.dictionaries(st.sampled_from(["cooling", "power_distribution", "lighting", "other"]), _power_kw)


@st.composite
def splits(draw: st.DrawFn) -> EnergySplit:
    hours = draw(st.floats(0.25, 8784))
    it_kw, classes = draw(st.floats(1, 1e4)), draw(_classes)
    unmetered_kw = draw(st.floats(-10, 1e3))
    facility_kw = it_kw + sum(classes.values()) + unmetered_kw
    return EnergySplit(
        facility_kw * hours, it_kw * hours, hours, {n: kw * hours for n, kw in classes.items()}
    )


@given(splits(), splits())
def test_parts_sum_to_the_whole(before: EnergySplit, after: EnergySplit) -> None:
    found = attribute(before, after)
    size = before.pue + after.pue + sum(abs(part) for part in found.parts.values())
    assert sum(found.parts.values()) == pytest.approx(found.change, abs=1e-9 * size)
    assert sum(found.share_change.values()) == pytest.approx(found.change, abs=1e-9 * size)


@given(splits(), splits())
def test_the_way_back_is_the_way_there_with_the_sign_turned(before: EnergySplit, after: EnergySplit) -> None:
    there, back = attribute(before, after), attribute(after, before)
    for name, part in there.parts.items():
        assert back.parts[name] == pytest.approx(-part, rel=1e-9, abs=1e-9)
