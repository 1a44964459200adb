"""The detectors on real recordings: they find what is known to be there, and hardly anything else."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from app.domain.energy import Series
from app.domain.quality.detect import meter_findings, point_findings
from app.domain.quality.finding import Finding, FindingKind
from app.domain.quality.values import bad_minutes
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point

PACIFIC = ZoneInfo("America/Los_Angeles")


def as_series(index: pd.DatetimeIndex, values: pd.Series, interval_s: int = 0, valid_s: object = 0) -> Series:
    number = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    good = np.isfinite(number)
    at_us = index.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
    valid = np.broadcast_to(np.asarray(valid_s, np.int32), good.shape)
    return Series(at_us[good], number[good], np.full(good.sum(), interval_s, np.int32), valid[good])


def newest_first(file: Path, column: str) -> Series:
    frame = pd.read_csv(file)[::-1].reset_index(drop=True)
    local = pd.DatetimeIndex(pd.to_datetime(frame["DateTime"], format="%m/%d/%Y %H:%M"))
    return as_series(local.tz_localize(PACIFIC, ambiguous="infer"), frame[column])


def local(instant: datetime) -> str:
    return f"{instant.astimezone(PACIFIC):%Y-%m-%d %H:%M}"


def power(name: str = "kw", **more: object) -> Point:
    return Point(id=name, role=Role.FACILITY, kind=ReadingKind.POWER, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["TotalCampusLoad", "OnCampusGeneration"])
def test_campus_mains_stood_still_once(shared_data: Path, column: str) -> None:
    series = newest_first(shared_data / "timeseries/ucsd/DemandCharge_2018.csv", column)
    (found,) = point_findings(power(), series)
    assert found.kind is FindingKind.STUCK
    assert found.evidence["readings"] == 70
    assert local(found.start) == "2018-10-05 07:00"


def test_a_clean_feeder_has_its_two_gaps_and_nothing_else(shared_data: Path) -> None:
    series = newest_first(shared_data / "timeseries/ucsd/EastCampus.csv", "RealPower")
    first, second = point_findings(power(), series)
    assert first.kind is second.kind is FindingKind.GAP
    assert (local(first.start), local(first.end)) == ("2017-07-18 12:30", "2017-07-18 13:00")
    assert (local(second.start), local(second.end)) == ("2017-12-03 03:45", "2017-12-03 04:15")


def test_a_laboratory_misses_two_days(shared_data: Path) -> None:
    frame = pd.read_csv(shared_data / "timeseries/esif/esif_daily_2016-06-12_2016-08-28.csv")
    ends = pd.DatetimeIndex(frame["day"]).tz_localize("America/Denver") + pd.Timedelta(days=1)
    for column in ("it_kw", "cooling_kw", "hvac_kw", "pump_kw", "plug_kw"):
        point = Point(id=column, role=Role.OTHER, kind=ReadingKind.INTERVAL_MEAN_POWER, interval_s=86_400)
        found = point_findings(point, as_series(ends, frame[column], 86_400, frame["n_hours"] * 3600))
        assert [(f.kind, f.start.date().isoformat()) for f in found] == [
            (FindingKind.GAP, "2016-07-08"),
            (FindingKind.GAP, "2016-08-20"),
        ]


@pytest.fixture(scope="module")
def breaker(shared_data: Path) -> list[Finding]:
    """Findings of the hospital's main breaker."""
    file = shared_data / "timeseries/kmuh/TR_KH_MMCB_161010-161210.csv"
    lines = file.read_text("latin-1").splitlines()
    skip = next(i for i, line in enumerate(lines) if line.startswith('"<>Date"'))
    names = ["date", "time", "kw", "kwh", "r", "s", "t"]
    frame = pd.read_csv(file, skiprows=skip + 1, names=names, encoding="latin-1", dtype=str)
    frame = frame[frame["date"].str.match(r"\d{4}/", na=False)]
    index = pd.DatetimeIndex(pd.to_datetime(frame["date"] + " " + frame["time"])).tz_localize("Asia/Taipei")
    register = Point(id="kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER)
    series = {"kw": as_series(index, frame["kw"]), "kwh": as_series(index, frame["kwh"])}
    return meter_findings(Meter(id="mmcb", points=(register, power())), series)


def test_a_breaker_counts_in_tens(breaker: list[Finding]) -> None:
    (unit,) = [f for f in breaker if f.kind is FindingKind.UNIT_SUSPECTED]
    assert (unit.point, unit.evidence["likely_factor"]) == ("kwh", "10")
    assert 10.2 < float(unit.evidence["factor"]) < 10.7


def test_the_breaker_lost_its_power_for_more_than_a_day(breaker: list[Finding]) -> None:
    rest = [f for f in breaker if f.kind is not FindingKind.UNIT_SUSPECTED]
    assert {(f.kind, f.point) for f in rest} == {(FindingKind.GAP, "kw")}
    hours = sum(float(f.evidence["hours"]) for f in rest)
    assert hours == pytest.approx(130 / 4, abs=1)


@pytest.mark.parametrize(
    ("name", "lowest", "highest"), [("30-days", -31.512, 23.116), ("24-hours", None, None)]
)
def test_a_public_feed_has_bad_minutes_inside_good_buckets(
    shared_data: Path, name: str, lowest: float | None, highest: float | None
) -> None:
    rows = json.loads((shared_data / f"timeseries/facebook/{name}.json").read_text())
    frame = pd.DataFrame(rows).sort_values("timestamp")
    at_us = frame["timestamp"].to_numpy(np.int64) * 1000
    low, high = frame["min_pue"].to_numpy(float), frame["max_pue"].to_numpy(float)
    found = bad_minutes("pue", at_us, low, high, least=1.0, most=5.0)
    assert len(found) == int(((low < 1) | (high > 5)).sum())
    if lowest is None or highest is None:
        assert len(found) < len(frame) / 10
        return
    assert min(float(f.evidence["lowest"]) for f in found) == lowest
    assert max(float(f.evidence["highest"]) for f in found) == highest
    good_mean = frame["pue"].between(1.0, 1.2).to_numpy()[(low < 1) | (high > 5)]
    assert good_mean.any()
