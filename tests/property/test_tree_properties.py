"""What holds for any metering tree and any ratings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.capacity import RatedFeeds, feed_loads, usable_kw
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.domain.tree import BalanceState, balances, feeds


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Meters fed by any of the meters before them: no cycles, many shapes."""
    meters = []
    for i in range(draw(st.integers(1, 8))):
        parents = draw(st.sets(st.integers(0, i - 1), max_size=2)) if i else set()
        points = (Point(id=f"p{i}", role=Role.NONE, kind=ReadingKind.REGISTER),)
        meters.append(Meter(id=f"m{i}", points=points, fed_by=tuple(f"m{p}" for p in sorted(parents))))
    return Site(id="s", institution="b", time_zone="UTC", meters=tuple(meters))


@given(sites())
def test_every_meter_is_in_one_feed_and_every_link_in_one_balance(site: Site) -> None:
    found = feeds(site)
    assert sorted(m for feed in found for m in feed.meters) == sorted(m.id for m in site.meters)
    for meter in site.meters:
        above = [feed for feed in found if set(feed.meters) & set(meter.fed_by)]
        assert len(above) == (1 if meter.fed_by else 0)


@given(sites(), st.floats(0.1, 100))
def test_a_tree_that_loses_nothing_balances(site: Site, leaf_kwh: float) -> None:
    flows: dict[str, float] = {}
    for feed in reversed(feeds(site)):
        flows.update(dict.fromkeys(feed.meters, 0.0))
    for meter in reversed(site.meters):
        flows[meter.id] += 0.0 if any(meter.id in m.fed_by for m in site.meters) else leaf_kwh
        for parent in meter.fed_by:
            flows[parent] += flows[meter.id] / len(meter.fed_by)
    frame = pd.DataFrame({f"p{name[1:]}": [kwh] for name, kwh in flows.items()})
    for balance in balances(site, frame):
        if balance.feed.children:
            assert balance.remainder.state is BalanceState.BALANCED
            assert balance.remainder.remainder_kwh == pytest.approx(0, abs=1e-6)


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=6), st.sampled_from(["N", "N+1", "2N"]))
def test_a_feed_survives_what_its_redundancy_is_for(ratings: list[float], redundancy: str) -> None:
    usable = usable_kw(ratings, redundancy)
    assert 0 <= usable <= sum(ratings) * (1 + 1e-12)
    if redundancy != "N" and len(ratings) > 1:
        assert usable <= (sum(ratings) - max(ratings)) * (1 + 1e-12)


@given(sites(), st.data())
def test_peaks_of_rated_feeds_are_those_of_all_feeds(site: Site, data: st.DataObject) -> None:
    def drawn(meter: Meter) -> Meter:
        more = (Point(id=f"{meter.id}.more", role=Role.NONE, kind=ReadingKind.REGISTER),)
        points = data.draw(st.sampled_from([meter.points, (), meter.points + more]))
        rated_kw = data.draw(st.sampled_from([10.0, 25.0, math.inf]))
        redundancy = data.draw(st.sampled_from(["N", "N+1", "2N"]))
        return replace(meter, points=points, rated_power_kw=rated_kw, redundancy=redundancy)

    site = replace(site, meters=tuple(map(drawn, site.meters)))
    points = [p.id for m in site.meters for p in m.points]
    kwh = st.one_of(st.just(math.nan), st.floats(0, 10))
    rows = [[data.draw(kwh) for _ in points] for _ in range(4)]
    index = pd.date_range("2026-01-01", periods=4, freq="15min", tz="UTC")
    table = pd.DataFrame(np.array(rows, np.float64).reshape(4, len(points)), index, points)
    loads = [one for one in feed_loads(site, table) if one.load.capacity_kw is not None]
    found = RatedFeeds(site)
    assert found.names == tuple("+".join(one.feed.meters) for one in loads)
    ratios = found.peak_ratios(table[list(found.points)].to_numpy())
    wanted = [math.nan if one.load.peak_ratio is None else one.load.peak_ratio for one in loads]
    np.testing.assert_allclose(ratios, wanted, rtol=1e-12)  # added up in another order
