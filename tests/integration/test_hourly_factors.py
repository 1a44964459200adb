"""Hourly emission factors from a file to the figures of a site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Wattline
from tests.integration.test_cli_figures import DAY, filled

__all__ = ["filled"]


def factors(path: Path, hours: int = 24) -> Path:
    """Half the day 0.4, the other half 0.6."""
    lines = [f"2026-03-01T{h:02d}:00:00+08:00,{0.4 if h < 12 else 0.6}" for h in range(hours)]
    path.write_text("\n".join(["start,kg_per_kwh", *lines]) + "\n")
    return path


def test_factors_of_a_day_give_emissions_beside_those_of_the_year(filled: Wattline, tmp_path: Path) -> None:
    assert filled("indicators", "sh1", *DAY, "--json").document["money"]["hourly"] is None
    file = factors(tmp_path / "factors.csv")
    done = filled("factors", "import", file, "--region", "CN", "--source", "Grid operator, March", "--json")
    assert (done.document["import"], done.document["hours"]) == (1, 24)
    cash = filled("indicators", "sh1", *DAY, "--json").document["money"]
    assert cash["emissions_kg"] == pytest.approx(160 * 24 * 0.5306, abs=0.05)
    assert cash["hourly"] == {
        "region": "CN",
        "basis": "grid_average",
        "emissions_kg": pytest.approx(160 * 24 * 0.5),
        "known_ratio": 1.0,
        "mean_kg_per_kwh": 0.5,
        "sources": ["Grid operator, March"],
        "verified": False,
    }
    assert "Grid operator, March, not verified" in filled("indicators", "sh1", *DAY).out
    assert filled("factors", "withdraw", "1").code == 0
    assert filled("indicators", "sh1", *DAY, "--json").document["money"]["hourly"] is None
    (listed,) = filled("factors", "list", "--json").document["imports"]
    assert listed["withdrawn_by"]
    assert "withdrawn by" in filled("factors", "list").out
    actions = [json.loads(line)["action"] for line in filled("audit", "export").out.splitlines()]
    assert {"hourly_factors.add", "hourly_factors.withdraw"} <= set(actions)


def test_factors_of_too_few_hours_give_no_figure_and_say_so(filled: Wattline, tmp_path: Path) -> None:
    file = factors(tmp_path / "factors.csv", hours=6)
    filled("factors", "import", file, "--region", "CN", "--source", "x", "--verified")
    found = filled("indicators", "sh1", *DAY, "--json").document["money"]["hourly"]
    assert (found["emissions_kg"], found["known_ratio"], found["verified"]) == (None, 0.25, True)
    assert "emissions by hourly factors unknown; 25.0 %" in filled("indicators", "sh1", *DAY).out


def test_what_is_no_file_of_factors_is_refused(filled: Wattline, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("start,kg_per_kwh\n2026-03-01T00:00:00+08:00,480\n")
    refused = filled("factors", "import", bad, "--region", "CN", "--source", "x")
    assert refused.code == 2
    assert f"{bad}:2: kg_per_kwh: 480; allowed are 0 to 3 kg per kWh" in refused.err
    good = factors(tmp_path / "good.csv")
    for basis in ("carbon_footprint",):
        mixed = filled("factors", "import", good, "--region", "CN", "--source", "x", "--basis", basis)
        assert mixed.code == 2
        assert "another series" in mixed.err
    assert filled("factors", "withdraw", "7").code != 0
