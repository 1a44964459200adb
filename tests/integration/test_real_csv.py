"""Every real export beside the repository, at the level of the parser: read right, or refused with a reason.

The answers are those of EXPECTED.md and of the expected files, found without this code.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydantic import TypeAdapter

from app.domain.reading import ReadingColumns
from app.domain.site import Site
from app.errors import FileNotUnderstood
from collectors.csv.mapping import parse_mapping
from collectors.csv.reader import ParsedBatch, Reject, Understanding, read, understand

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Parsed:
    """A whole file as one batch."""

    plan: Understanding
    columns: ReadingColumns
    rejects: list[Reject]
    batches: list[ParsedBatch]

    def of(self, point: str) -> ReadingColumns:
        return self.columns.take(self.columns.point_id == self.plan.points.index(point))

    @property
    def missing(self) -> int:
        return sum(sum(b.missing.values()) for b in self.batches)


def _site(zone: str, points: Sequence[dict[str, Any]]) -> Site:
    told = {"id": "dc", "institution": "bank", "time_zone": zone, "meters": [{"id": "m", "points": points}]}
    return TypeAdapter(Site).validate_python(told)


def _point(name: str, kind: str, role: str = "none", **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": kind, "role": role, **more}


def _parse(path: Path, zone: str, points: Sequence[dict[str, Any]], mapping: str = "{}") -> Parsed:
    plan = understand(path, _site(zone, points), parse_mapping(mapping))
    batches = list(read(path, plan, now=NOW))
    columns = ReadingColumns.concat([b.columns for b in batches])
    return Parsed(plan, columns, [r for b in batches for r in b.rejects], batches)


def _energy_kwh(c: ReadingColumns) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Energy of mean powers over the valid parts of their intervals. [kWh]"""
    return c.value * c.valid_s / 3600


# --- the four statements -----------------------------------------------------------------------------


def test_esif_is_a_ratio_of_energies_over_valid_hours(shared_data: Path) -> None:
    classes = ["it_kw", "cooling_kw", "hvac_kw", "pump_kw", "plug_kw"]
    points = [_point(c, "interval_mean_power", stamp="start", interval_s=86_400) for c in classes]
    path = shared_data / "timeseries/esif/esif_daily_2016-06-12_2016-08-28.csv"
    got = _parse(path, "America/Denver", points)
    energy = {c: _energy_kwh(got.of(c)).sum() for c in classes}
    assert sum(energy.values()) / energy["it_kw"] == pytest.approx(1.035333, abs=1e-6)
    assert energy["it_kw"] / 1000 == pytest.approx(1399.8, abs=0.05)
    assert got.rejects == []
    assert got.plan.valid is not None
    assert got.plan.valid.name == "n_hours"


def test_kmuh_register_runs_on_through_data_loss(shared_data: Path) -> None:
    points = [_point("kw", "power"), _point("kwh", "register")]
    mapping = "columns: {MMCB.KW: kw, MMCB.KWH: kwh}"
    got = _parse(shared_data / "timeseries/kmuh/TR_KH_MMCB_161010-161210.csv", "Asia/Taipei", points, mapping)
    register = got.of("kwh")
    assert len(register) == 5952
    assert register.value[-1] - register.value[0] == 712_545
    assert got.missing == 130
    assert got.rejects == []
    power = got.of("kw")
    step_h = np.diff(power.at_us) / 3.6e9
    whole = step_h == 0.25
    assert whole.sum() == 5820
    energy_kwh = ((power.value[1:] + power.value[:-1]) / 2 * step_h)[whole].sum()
    assert energy_kwh == pytest.approx(7_305_808.6, abs=0.1)


@pytest.mark.parametrize(
    ("file", "column", "day", "count", "energy_kwh"),
    [
        ("DemandCharge_2018", "TotalCampusLoad", "2018-03-11", 92, 722_756.300),
        ("DemandCharge_2018", "TotalCampusLoad", "2018-11-04", 100, 807_822.835),
        ("DemandCharge_2018", "TotalCampusLoad", "2018-06-01", 96, 854_768.580),
        ("EastCampus", "RealPower", "2018-03-11", 92, 1965.981),
        ("EastCampus", "RealPower", "2018-11-04", 100, 2228.342),
        ("EastCampus", "RealPower", "2019-03-10", 92, 2003.728),
        ("EastCampus", "RealPower", "2019-11-03", 100, 2561.699),
    ],
)
def test_ucsd_days_of_23_and_25_hours(
    shared_data: Path, file: str, column: str, day: str, count: int, energy_kwh: float
) -> None:
    points = [_point(column, "interval_mean_power", stamp="start")]
    got = _parse(shared_data / f"timeseries/ucsd/{file}.csv", "America/Los_Angeles", points)
    assert len(np.unique(got.columns.at_us)) == len(got.columns)
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("America/Los_Angeles"))
    end = begin + timedelta(days=1)
    at = got.columns.at_us
    chosen = got.columns.take((at > begin.timestamp() * 1e6) & (at <= end.timestamp() * 1e6))
    assert len(chosen) == count
    assert _energy_kwh(chosen).sum() == pytest.approx(energy_kwh, abs=0.001)


# --- OED: cumulative registers, resets, gaps, intervals ------------------------------------------------


def _oed(shared_data: Path, case: str, *, cumulative: bool, end_only: bool) -> tuple[list[str], list[Reject]]:
    """(energy, start, end) by plain arithmetic, as the expected files write it, and the refused cells."""
    folder = shared_data / "csv_dialects/oed_pipeline"
    kind = "register" if cumulative else "interval_energy"
    mapping = "time: {interval: previous}" if end_only and not cumulative else "{}"
    got = _parse(next(folder.glob(f"{case}Input.csv*")), "UTC", [_point("e", kind)], mapping)
    c = got.columns.take(np.argsort(got.columns.at_us))
    if not cumulative:
        starts = c.at_us - c.interval_s.astype(np.int64) * 1_000_000
        return _lines(c.value, starts, c.at_us), got.rejects
    rise = np.diff(c.value)
    energy = np.where(rise < 0, c.value[1:], rise)
    return _lines(energy, c.at_us[:-1], c.at_us[1:]), got.rejects


def _lines(energy: Any, start_us: Any, end_us: Any) -> list[str]:
    def at(us: int) -> str:
        return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")

    return [f"{e:g},{at(s)},{at(t)}" for e, s, t in zip(energy, start_us, end_us, strict=True)]


def _expected(shared_data: Path, case: str) -> list[str]:
    text = (shared_data / f"csv_dialects/oed_pipeline/{case}Expected.csv").read_text()
    return [line for line in text.splitlines() if line]


OED_AS_EXPECTED = {
    **{f"pipe{n}": (False, False) for n in (1, 2, 14, 15, 16, 17, 18, 19, 28, 34)},
    **{f"pipe{n}": (True, False) for n in (3, 4, 5, 6, 8, 10, 12, 20, 21, 40)},
    **{f"pipe{n}": (False, True) for n in (23, 24, 35)},
    "pipe25": (True, True),
}
"""Case -> cumulative, end only."""


@pytest.mark.parametrize("case", OED_AS_EXPECTED)
def test_oed_as_expected(shared_data: Path, case: str) -> None:
    cumulative, end_only = OED_AS_EXPECTED[case]
    energy, _ = _oed(shared_data, case, cumulative=cumulative, end_only=end_only)
    assert energy == _expected(shared_data, case)


OED_OTHERWISE = {
    # a reset that was not declared: the parser hands the register on, the domain calls it suspect
    "pipe7": (True, 4, []),
    "pipe9": (True, 4, []),
    "pipe11": (True, 4, []),
    "pipe13": (True, 4, []),
    # one bad row is refused and the rest is kept; there the whole file is refused
    "pipe22": (True, 3, [(4, "never negative")]),
    "pipe26": (False, 4, [(2, "not a time")]),
    "pipe27": (False, 4, [(2, "not a time")]),
    "pipe29": (True, 3, [(4, "not a number")]),
    "pipe30": (False, 4, [(4, "not a number")]),
    "pipe33": (True, 3, [(3, "never negative")]),
    # stated starts of registers say nothing: the register counted on through gap and overlap
    "pipe31": (True, 4, []),
    "pipe32": (True, 4, []),
}
"""Case -> cumulative, intervals of energy, refused (line, reason); see docs/decisions for why."""


@pytest.mark.parametrize("case", OED_OTHERWISE)
def test_oed_where_we_decide_otherwise(shared_data: Path, case: str) -> None:
    cumulative, count, refused = OED_OTHERWISE[case]
    energy, rejects = _oed(shared_data, case, cumulative=cumulative, end_only=False)
    assert len(energy) == count
    assert [r.line for r in rejects] == [line for line, _ in refused]
    assert all(reason in r.reason for r, (_, reason) in zip(rejects, refused, strict=True))


def test_every_oed_case_is_listed(shared_data: Path) -> None:
    files = (shared_data / "csv_dialects/oed_pipeline").glob("pipe*Input.csv*")
    assert {f.name.split("Input")[0] for f in files} == {*OED_AS_EXPECTED, *OED_OTHERWISE}


# --- all other dialects --------------------------------------------------------------------------------

ENERGY = [_point("main", "interval_energy", "facility")]
REGISTER = [_point("main", "register", "facility")]
READ = {
    "csv_dialects/nem12/Example_NEM12_actual_interval.csv": ("Australia/Sydney", ENERGY, "{}", 48, 53.328),
    "csv_dialects/nem12/Example_NEM12_different_interval_length.csv": (
        "Australia/Sydney",
        [_point("C123.E1", "interval_energy"), _point("C123.E2", "interval_energy")],
        "{}",
        96,
        374.0,
    ),
    "csv_dialects/nem12/Example_NEM12_multiple_quality.csv": ("Australia/Sydney", ENERGY, "{}", 48, 896.99),
    "csv_dialects/nem12/Example_NEM13_consumption_data.csv": (
        "Australia/Sydney",
        REGISTER,
        "{}",
        2,
        13_997.7,
    ),
    "csv_dialects/nem12/Example_WesternPower.csv": (
        "Australia/Perth",
        ENERGY,
        "columns: {9999999999.E1: main}",
        48,
        0.0,
    ),
    "csv_dialects/myems/offline_meter_data.xlsx": (
        "Asia/Shanghai",
        ENERGY,
        "columns: {Example Offline Meter: main}",
        31,
        11_713.2,
    ),
    "csv_dialects/greenbutton/sample_greenbutton_data.xml": (
        "America/Los_Angeles",
        ENERGY,
        "{}",
        362,
        291.018,
    ),
    "csv_dialects/siemens_insight/TR_KH_ZWP_slice400rows.csv": (
        "Asia/Taipei",
        [_point("ZWP-8.F", "gauge"), _point("ZON1.WDP", "gauge")],
        "{}",
        400,
        None,
    ),
    "csv_dialects/utility_csv/sce_one_day_constant_power.csv": (
        "America/Los_Angeles",
        ENERGY,
        "{}",
        96,
        24.0,
    ),
    "csv_dialects/utility_csv/mamac-log.csv": ("America/New_York", ENERGY, "{}", 20, 5.0),
    "timeseries/facebook/24-hours.json": (
        "America/Los_Angeles",
        [_point("pue", "gauge")],
        "{}",
        186,
        1.0641 * 186,
    ),
    "timeseries/facebook/30-days.json": (
        "America/Los_Angeles",
        [_point("pue", "gauge")],
        "{}",
        144,
        1.0660 * 144,
    ),
    "timeseries/facebook/puewue_csv_contract_sample.csv": (
        "America/Los_Angeles",
        [_point("util", "interval_energy"), _point("it", "interval_energy")],
        "columns: {UtilKWh: util, ITKWh: it}",
        4,
        297.56 + 275.16 + 349.98 + 324.95,
    ),
    "timeseries/esif/esif_raw_head_sample.csv": ("America/Denver", [_point("pue", "gauge")], "{}", 5, None),
}
"""File -> zone, points, mapping, readings, sum of the values."""

REFUSED = {
    "csv_dialects/greenbutton/ESPIIntervalBlock.xml": "no ReadingType says in which unit",
    "csv_dialects/greenbutton/ESPILocalTimeParameters.xml": "without interval readings",
    "csv_dialects/greenbutton/ESPIReadingTypes.xml": "without interval readings",
}

ELSEWHERE = {
    "timeseries/esif/esif_daily_2016-06-12_2016-08-28.csv",
    "timeseries/kmuh/TR_KH_MMCB_161010-161210.csv",
    "timeseries/ucsd/DemandCharge_2018.csv",
    "timeseries/ucsd/EastCampus.csv",
}


@pytest.mark.parametrize("file", READ)
def test_reads(shared_data: Path, file: str) -> None:
    zone, points, mapping, count, total = READ[file]
    got = _parse(shared_data / file, zone, points, mapping)
    assert got.rejects == []
    assert len(got.columns) == count
    if total is not None:
        assert got.columns.value.sum() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("file", REFUSED)
def test_refuses_with_a_reason(shared_data: Path, file: str) -> None:
    with pytest.raises(FileNotUnderstood, match=REFUSED[file]):
        _parse(shared_data / file, "UTC", ENERGY)


def test_a_published_pue_is_refused_as_energy(shared_data: Path) -> None:
    with pytest.raises(FileNotUnderstood, match="pue, wue: a ratio that somebody computed"):
        _parse(shared_data / "timeseries/facebook/24-hours.json", "UTC", REGISTER)


def test_interval_blocks_alone_are_read_once_their_unit_is_said(shared_data: Path) -> None:
    path = shared_data / "csv_dialects/greenbutton/ESPIIntervalBlock.xml"
    got = _parse(path, "America/New_York", ENERGY, "columns: {MeterReading/1: {point: main, unit: wh}}")
    assert set(got.columns.interval_s.tolist()) == {82_800, 86_400, 90_000}
    assert got.rejects == []


def test_nem13_register_difference(shared_data: Path) -> None:
    path = shared_data / "csv_dialects/nem12/Example_NEM13_consumption_data.csv"
    got = _parse(path, "Australia/Sydney", REGISTER)
    assert got.columns.value[1] - got.columns.value[0] == pytest.approx(1312.1)


def test_every_file_is_listed(shared_data: Path) -> None:
    files = {
        str(f.relative_to(shared_data))
        for folder in ("csv_dialects", "timeseries")
        for f in (shared_data / folder).rglob("*.*")
        if "oed_pipeline" not in f.parts
    }
    assert files == {*READ, *REFUSED, *ELSEWHERE}


def test_the_index_of_oed_cases_was_not_overlooked(shared_data: Path) -> None:
    with (shared_data / "csv_dialects/oed_pipeline/INDEX.csv").open(newline="") as file:
        told = {r["case"]: "cumulative=true" in r["params"] for r in csv.DictReader(file)}
    ours = {c: k[0] for c, k in {**OED_AS_EXPECTED, **OED_OTHERWISE}.items()}
    assert {c: ours[c] for c in told} == told
