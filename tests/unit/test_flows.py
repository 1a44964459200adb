"""Loads that vanish, also all month, and meters whose ratio changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from app.domain.pue import boundary
from app.domain.quality.finding import Finding, FindingKind
from app.domain.quality.flows import flow_findings, it_missing
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site

MONTH = datetime(2026, 10, 1, tzinfo=UTC)


def plant(*away: tuple[str, str]) -> tuple[Site, pd.DataFrame]:
    """Two UPS of 60 and 40 kW and their site over September and October; UPS A reads zero over a time."""
    meters = tuple(
        Meter(id=name, points=(Point(id=f"{name}.kwh", role=role, kind=ReadingKind.REGISTER),))
        for name, role in (("main", Role.FACILITY), ("a", Role.IT_UPS_OUTPUT), ("b", Role.IT_UPS_OUTPUT))
    )
    index = pd.date_range("2026-09-01", "2026-11-01", freq="15min", inclusive="left", tz="UTC")
    wave = 1 + 0.1 * np.sin(np.arange(len(index)) / 15)
    table = pd.DataFrame({"main.kwh": 37.5 * wave, "a.kwh": 15 * wave, "b.kwh": 10 * wave}, index)
    for start, end in away:
        table.loc[
            (index >= pd.Timestamp(start, tz="UTC")) & (index < pd.Timestamp(end, tz="UTC")), "a.kwh"
        ] = 0
    return Site(id="s", institution="b", time_zone="UTC", meters=meters), table


def test_a_load_that_is_away_all_month_is_missed() -> None:
    site, table = plant(("2026-10-01", "2026-11-01"))
    (found,) = it_missing(boundary(site), table, MONTH)
    assert (found.point, found.start, found.end) == ("a.kwh", MONTH, datetime(2026, 11, 1, tzinfo=UTC))
    assert "goes_on" not in found.evidence
    (found,) = it_missing(boundary(site), table, MONTH, is_now=True)
    assert found.evidence["goes_on"] == "yes"


def test_what_began_before_the_month_is_a_finding_of_the_month_from_its_start_on() -> None:
    site, table = plant(("2026-09-20", "2026-10-10"))
    (found,) = it_missing(boundary(site), table, MONTH, is_now=True)
    assert (found.start, found.end) == (MONTH, datetime(2026, 10, 10, tzinfo=UTC))
    assert "goes_on" not in found.evidence
    site, table = plant(("2026-09-10", "2026-09-20"))
    assert it_missing(boundary(site), table, MONTH) == []


def months(table: pd.DataFrame, site: Site, kind: FindingKind) -> list[list[Finding]]:
    """Findings of each of four months, as the job looks at them: 35 days before it, and what lasted."""
    found: list[list[Finding]] = []
    for first, after in pairwise(STARTS):
        memory = first - timedelta(days=35)
        seen = table[(table.index >= memory) & (table.index < after)]
        lasting = [f for one in found for f in one if f.end >= memory]
        now = flow_findings(site, boundary(site), seen, first, lasting=lasting)
        found.append([f for f in now if f.kind is kind])
    return found


STARTS = [datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11, 12)] + [
    datetime(2027, 1, 1, tzinfo=UTC)
]


def long(site_table: tuple[Site, pd.DataFrame]) -> tuple[Site, pd.DataFrame]:
    """Over four months."""
    site, table = site_table
    index = pd.date_range("2026-09-01", "2027-01-01", freq="15min", inclusive="left", tz="UTC")
    repeated = np.resize(table.to_numpy(), (len(index), table.shape[1]))
    return site, pd.DataFrame(repeated, index, table.columns)


@pytest.mark.parametrize("gap", [None, ("2026-11-30 22:00", "2026-12-01 03:00")])
def test_a_bypass_that_lasts_is_found_in_every_month(gap: tuple[str, str] | None) -> None:
    site, table = long(plant())
    table.loc["2026-09-15":"2026-12-20 11:45", "a.kwh"] = 0.0  # type: ignore[misc]
    if gap:
        table.loc[gap[0] : gap[1]] = np.nan  # type: ignore[misc]
    found = months(table, site, FindingKind.IT_MISSING)
    assert [f.point for one in found for f in one[-1:]] == ["a.kwh"] * 4
    assert found[-1][-1].end == datetime(2026, 12, 20, 12, tzinfo=UTC)
    assert found[2][0].start == STARTS[2]


def test_a_load_that_is_back_is_missed_no_longer() -> None:
    site, table = long(plant())
    table.loc["2026-09-15":"2026-10-31 23:45", "a.kwh"] = 0.0  # type: ignore[misc]
    assert [len(one) for one in months(table, site, FindingKind.IT_MISSING)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("last", "expected"), [(None, [1, 1, 1, 1]), ("2026-11-20", [1, 1, 1, 0])])
@pytest.mark.parametrize("began", ["2026-09-15", "2026-09-30 23:00"])
def test_a_ratio_that_stays_changed_is_found_in_every_month(
    began: str, last: str | None, expected: list[int]
) -> None:
    site, table = long(plant())
    table["b.kwh"] = 0.001
    table["main.kwh"] = 20 + 0.8 * table["a.kwh"]
    table.loc[began:last, "a.kwh"] *= 0.5  # type: ignore[misc]
    found = months(table, site, FindingKind.RATIO_CHANGED)
    counts = [len(one) for one in found]
    assert counts[1:] == expected[1:]
    assert began.endswith("23:00") or counts[0] == 1
    assert {f.point for one in found for f in one} == {"a.kwh"}


def test_a_live_look_keeps_a_missing_load_that_began_before_all_it_sees() -> None:
    site, table = plant(("2026-10-20", "2026-11-01"))
    (begun,) = it_missing(boundary(site), table, MONTH, is_now=True)
    assert it_missing(boundary(site), table.iloc[-192:], is_now=True) == []
    (found,) = it_missing(boundary(site), table.iloc[-192:], is_now=True, lasting=[begun])
    assert found.start == begun.start
    assert found.evidence["goes_on"] == "yes"


def changed(point: str, factor: float, first: int = 3000, last: int | None = None) -> list[Finding]:
    site, table = plant()
    table = table.copy()
    if point == "a.kwh":
        table["b.kwh"] = 0.001
        table["main.kwh"] = 20 + 0.8 * table["a.kwh"]
    table.iloc[first:last, list(table.columns).index(point)] *= factor
    return [f for f in flow_findings(site, boundary(site), table) if f.kind is FindingKind.RATIO_CHANGED]


@pytest.mark.parametrize("factor", [0.5, 2.0, 40.0])
@pytest.mark.parametrize("point", ["main.kwh", "a.kwh"])
def test_a_transformer_ratio_that_changes_is_found(point: str, factor: float) -> None:
    (found,) = changed(point, factor)
    assert found.point == point
    assert abs((found.start - datetime(2026, 9, 1, tzinfo=UTC)) / timedelta(minutes=15) - 3000) <= 1


def test_the_way_back_of_a_ratio_ends_it() -> None:
    (found,) = changed("main.kwh", 2.0, 2000, 3000)
    assert abs((found.end - datetime(2026, 9, 1, tzinfo=UTC)) / timedelta(minutes=15) - 3000) <= 1


def test_a_chiller_that_starts_and_a_load_that_doubles_are_no_change_of_ratio() -> None:
    site, table = plant()
    chiller, load = table.copy(), table.copy()
    chiller.iloc[3000:, 0] += 20.0
    load.iloc[3000:] *= 2
    for odd in (chiller, load, table):
        assert flow_findings(site, boundary(site), odd) == []
