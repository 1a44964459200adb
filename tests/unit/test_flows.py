"""Loads that vanish: seen also where they are away all month."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from app.domain.pue import boundary
from app.domain.quality.flows import it_missing
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
