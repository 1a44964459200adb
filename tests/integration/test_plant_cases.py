"""Hand-made cases that take a database and the command line: plants that change, what a person confirms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Wattline

REGISTER = """
institutions: [{id: b, institution_class: joint_stock}]
sites:
  - {id: s, institution: b, time_zone: UTC, meters: [{id: m, points: [
      {id: m.kwh, role: facility, kind: register, interval_s: 3600}]}]}
"""
WEEK = ("--start", "2026-05-04T00:00:00Z", "--end", "2026-05-05T00:00:00Z")


@pytest.fixture
def cases(shared_data: Path) -> Path:
    return shared_data / "cases"


def october(wattline: Wattline, site: str, config: Path) -> dict[str, object]:
    return wattline("pue", site, "--month", "2026-10", "--json", "--config", config).document


def load(wattline: Wattline, file: Path, site: str, config: Path) -> None:
    done = wattline("import", file, "--site", site, "--config", config)
    assert done.code == 0, done.err


def test_25_a_meter_moves(wattline: Wattline, cases: Path, tmp_path: Path) -> None:
    folder = cases / "plant" / "25-meter-moves"
    for site in ("north", "south"):
        load(wattline, folder / f"{site}.csv", site, folder / "site-before.yaml")
    for site in ("north", "south"):
        assert october(wattline, site, folder / "site-before.yaml")["pue"] == pytest.approx(1.5)

    after = tmp_path / "site.yaml"
    before_text = (folder / "site-before.yaml").read_text("utf-8")
    left = before_text.replace("{id: rackpdu,", "{id: rackpdu, valid_to: 2026-11-01,")
    line = next(x for x in before_text.splitlines() if "id: rackpdu," in x)
    after.write_text(
        left.rstrip() + "\n" + line.replace("rackpdu,", "rackpdu, valid_from: 2026-11-01,", 1) + "\n"
    )
    for site in ("north", "south"):
        assert october(wattline, site, after)["pue"] == pytest.approx(1.5)


def test_26_a_point_gets_a_better_name(wattline: Wattline, cases: Path, tmp_path: Path) -> None:
    before, after = (
        cases / "plant" / "25-meter-moves" / "site-before.yaml",
        cases / "plant" / "26-point-renamed" / "site-after.yaml",
    )
    for site in ("north", "south"):
        load(wattline, before.parent / f"{site}.csv", site, before)
    renamed = tmp_path / "site.yaml"
    renamed.write_text(
        after.read_text("utf-8").replace("{id: main-energy,", "{id: main-energy, formerly: [nmain.kwh],")
    )
    assert october(wattline, "north", renamed)["pue"] == pytest.approx(1.5)


def test_26_a_rename_that_is_not_declared_is_unknown_and_names_the_point(
    wattline: Wattline, cases: Path
) -> None:
    before = cases / "plant" / "25-meter-moves" / "site-before.yaml"
    load(wattline, before.parent / "north.csv", "north", before)
    found = october(wattline, "north", cases / "plant" / "26-point-renamed" / "site-after.yaml")
    assert found["pue"] is None
    assert "main-energy 0.0 %" in str(found["reason"])


def test_a_jump_counts_once_a_person_confirmed_it(wattline: Wattline, cases: Path, tmp_path: Path) -> None:
    site, mapping = tmp_path / "site.yaml", tmp_path / "map.yaml"
    site.write_text(REGISTER)
    mapping.write_text("columns: {value: m.kwh}\n")
    file = cases / "import" / "a06_replaced_higher_unrated.csv"
    assert wattline("import", file, "--site", "s", "--map", mapping, "--config", site).code == 0

    def kwh() -> tuple[float, list[str]]:
        (row,) = wattline("energy", "s", *WEEK, "--by", "point", "--json").document["rows"]
        listed = wattline("findings", "list", "s", "--json").document["findings"]
        return row["energy_kwh"], [f["kind"] for f in listed if f["state"] == "open"]

    assert kwh() == (pytest.approx(80), ["replacement_suspected"])
    jump = wattline("findings", "list", "s", "--json").document["findings"][0]
    said = ("--at", jump["end"], "--kind", "confirmed", "--note", "read on site by two people")
    assert wattline("meter", "event", "m", *said).code == 0
    energy, kinds = kwh()
    assert energy == pytest.approx(850_040, rel=1e-3)
    assert kinds == []
    entry = wattline("meter", "events", "s", "--json").document["events"][0]
    assert wattline("meter", "withdraw", "s", entry["id"]).code == 0
    assert kwh() == (pytest.approx(80), ["replacement_suspected"])
