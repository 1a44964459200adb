"""Real recordings through the command line, against answers computed by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Wattline

ESIF = """
institutions: [{id: lab, institution_class: other}]
sites:
  - id: esif
    institution: lab
    time_zone: America/Denver
    facility_is: sum_of_classes
    meters:
      - id: building
        points:
          - {id: it, role: it_pdu_output, kind: interval_mean_power, interval_s: 86400, stamp: start}
          - {id: cooling, role: cooling, kind: interval_mean_power, interval_s: 86400, stamp: start}
          - {id: pumps, role: cooling, kind: interval_mean_power, interval_s: 86400, stamp: start}
          - {id: air, role: other, kind: interval_mean_power, interval_s: 86400, stamp: start}
          - {id: plugs, role: lighting, kind: interval_mean_power, interval_s: 86400, stamp: start}
"""
ESIF_MAP = """
time: {column: day, interval: 1d, stamp: start}
valid: {column: n_hours, unit: hours}
columns:
  it_kw: {point: it, unit: kw}
  cooling_kw: {point: cooling, unit: kw}
  hvac_kw: {point: air, unit: kw}
  pump_kw: {point: pumps, unit: kw}
  plug_kw: {point: plugs, unit: kw}
"""
KMUH = """
institutions: [{id: hospital, institution_class: other}]
sites:
  - id: kmuh
    institution: hospital
    time_zone: Asia/Taipei
    meters:
      - id: mmcb
        points:
          - {id: mmcb.kwh, role: facility, kind: register}
          - {id: mmcb.kw, role: facility, kind: power}
"""
UCSD = """
institutions: [{id: campus, institution_class: other}]
sites:
  - id: ucsd
    institution: campus
    time_zone: America/Los_Angeles
    meters:
      - id: campus
        points: [{id: load, role: facility, kind: interval_mean_power, interval_s: 900, stamp: start}]
"""


def taken(wattline: Wattline, folder: Path, file: Path, site: str, mapping: str) -> dict[str, object]:
    """Import `file` into the site that `site` declares; the outcome."""
    site_file, map_file = folder / "site.yaml", folder / "map.yaml"
    site_file.write_text(site)
    map_file.write_text(mapping)
    name = site.split("sites:")[1].split("id: ")[1].split()[0]
    done = wattline("import", file, "--site", name, "--config", site_file, "--map", map_file, "--json")
    assert done.code == 0, done.err
    return dict(done.document["files"][0])


def energies(wattline: Wattline, site: str, *options: str) -> dict[str, float]:
    rows = wattline("energy", site, *options, "--json").document["rows"]
    return {row["name"]: row["energy_kwh"] for row in rows}


def test_esif_pue_is_a_ratio_of_energies(wattline: Wattline, shared_data: Path, tmp_path: Path) -> None:
    (file,) = (shared_data / "timeseries" / "esif").glob("esif_daily_*.csv")
    taken(wattline, tmp_path, file, ESIF, ESIF_MAP)
    whole = ("--start", "2016-06-12", "--end", "2016-08-29")
    document = wattline("pue", "esif", *whole, "--json").document
    assert document["pue"] == pytest.approx(1.035333, abs=1e-6)
    assert document["it_kwh"] == pytest.approx(1_399_845.18, abs=0.01)
    by_hand = {"it": 0.0, "cooling": 0.0, "other": 0.0, "lighting": 0.0}
    for line in file.read_text().splitlines()[1:]:
        hours, it, cooling, air, pump, plug = map(float, line.split(",")[1:7])
        for name, kw in (("it", it), ("cooling", cooling + pump), ("other", air), ("lighting", plug)):
            by_hand[name] += kw * hours
    found = energies(wattline, "esif", *whole)
    assert found.pop("facility") == pytest.approx(sum(by_hand.values()), rel=1e-9)
    assert found == pytest.approx(by_hand, rel=1e-9)
    assert wattline("verify").code == 0


def test_kmuh_register_counts_on_through_lost_data_and_its_unit_is_a_finding(
    wattline: Wattline, shared_data: Path, tmp_path: Path
) -> None:
    (file,) = (shared_data / "timeseries" / "kmuh").glob("*.csv")
    outcome = taken(wattline, tmp_path, file, KMUH, "columns: {MMCB.KWH: mmcb.kwh, MMCB.KW: mmcb.kw}\n")
    assert outcome["missing"] == {"MMCB.KW": 130}
    found = energies(wattline, "kmuh", "--by", "point", "--start", "2016-10-10", "--end", "2016-12-11")
    assert found["mmcb.kwh"] == pytest.approx(712_545, abs=1e-6)
    assert found["mmcb.kw"] == pytest.approx(7_305_808.6, abs=0.05)
    findings = wattline("findings", "list", "kmuh", "--json").document["findings"]
    assert ("mmcb.kwh", "unit_suspected") in {(f["point"], f["kind"]) for f in findings}


@pytest.mark.parametrize(
    ("day", "after", "intervals", "kwh"),
    [
        ("2018-03-11", "2018-03-12", 92, 722_756.300),
        ("2018-06-01", "2018-06-02", 96, 854_768.580),
        ("2018-11-04", "2018-11-05", 100, 807_822.835),
    ],
)
def test_ucsd_days_when_the_clocks_change(
    wattline: Wattline, ucsd: None, day: str, after: str, intervals: int, kwh: float
) -> None:
    options = ("--by", "point", "--start", day, "--end", after)
    assert energies(wattline, "ucsd", *options)["load"] == pytest.approx(kwh, abs=0.0005)
    rows = wattline("energy", "ucsd", *options, "--step", "15m", "--json").document["rows"]
    assert len(rows) == intervals


@pytest.fixture
def ucsd(wattline: Wattline, shared_data: Path, tmp_path: Path) -> None:
    """The campus in 2018."""
    file = shared_data / "timeseries" / "ucsd" / "DemandCharge_2018.csv"
    taken(wattline, tmp_path, file, UCSD, "columns: {TotalCampusLoad: {point: load, unit: kw}}\n")
