"""Units in headings: what is known, what is another quantity, what has to be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import FileNotUnderstood
from collectors.csv.mapping import parse_mapping
from collectors.csv.reader import understand
from collectors.csv.units import bare_name, stated_unit


@pytest.mark.parametrize(
    ("heading", "unit"),
    [
        ("电量(万kWh)", "万kwh"),
        ("电量（万度）", "万kwh"),
        ("用电量 万千瓦时", "万kwh"),
        ("用电量（万 度）", "万kwh"),
        ("电量/度", "kwh"),
        ("电量:兆瓦时", "mwh"),
        ("有功功率kW", "kw"),
        ("Energy (kW·h)", "kwh"),
        ("MWh main", "mwh"),
        ("Energy [Wh]", "wh"),
        ("冷量 GJ", "gj"),
        ("Water m³", "m3"),
        ("用水量(吨)", "t"),
        ("T (°C)", "c"),
    ],
)
def test_a_known_unit(heading: str, unit: str) -> None:
    assert stated_unit(heading).unit == unit


@pytest.mark.parametrize(
    "heading",
    [
        *("P (mW)", "P mW", "E mWh", "Total kVAh", "无功电能", "Q kvar", "Energy (MMBtu)", "E [foo]"),
        *("Energy (x10 kWh)", "Energy therms", "Cooling (RT)", "电量(百kWh)", "Energy (kWh/h)", "I (kA)"),
    ],
)
def test_a_unit_that_is_none_of_ours(heading: str) -> None:
    stated = stated_unit(heading)
    assert stated.unit is None
    assert stated.other


@pytest.mark.parametrize(
    "heading", ["总有功电度", "PDU-A (hall 1)", "Main (IT)", "Phase A", "温度", "UPS (L1)", "main"]
)
def test_no_unit(heading: str) -> None:
    stated = stated_unit(heading)
    assert (stated.unit, stated.other) == (None, "")


def test_the_name_without_its_unit() -> None:
    assert [bare_name(n) for n in ("Main_kWh", "电量/度", "UPS 1 (kW)", "温度")] == [
        "Main",
        "电量",
        "UPS 1",
        "温度",
    ]


def _site(kind: ReadingKind = ReadingKind.REGISTER) -> Site:
    point = Point(id="m.kwh", role=Role.FACILITY, kind=kind)
    return Site(id="s", institution="b", time_zone="UTC", meters=(Meter(id="m", points=(point,)),))


def _file(tmp_path: Path, heading: str, preamble: str = "") -> Path:
    path = tmp_path / "a.csv"
    rows = "".join(f"2026-05-0{d} 00:00,{1000 + d}\n" for d in range(1, 6))
    path.write_text(f"{preamble}Time,{heading}\n{rows}", encoding="utf-8")
    return path


@pytest.mark.parametrize("key", ["{heading}", "2"])
def test_an_energy_point_refuses_what_is_none_whatever_the_mapping_calls_the_column(
    tmp_path: Path, key: str
) -> None:
    for heading in ("Total kVAh", "Total (kvarh)", "Total (MMBtu)", "Total (zzz)"):
        told = parse_mapping(f"columns: {{'{key.format(heading=heading)}': m.kwh}}")
        with pytest.raises(FileNotUnderstood, match=r"the column states .* or say what its numbers are"):
            understand(_file(tmp_path, heading), _site(), told)
        said = parse_mapping(f"columns: {{'{key.format(heading=heading)}': {{point: m.kwh, unit: kWh}}}}")
        assert understand(_file(tmp_path, heading), _site(), said).columns[0].unit == "kwh"


@pytest.mark.parametrize(
    ("line", "factor"),
    [("单位：万kWh", 1e4), ("Unit: MWh", 1e3), ("报表,单位,兆瓦时", 1e3), ("Report of May", 1.0)],
)
def test_a_unit_above_the_table_holds_for_columns_without_one(
    tmp_path: Path, line: str, factor: float
) -> None:
    plan = understand(_file(tmp_path, "m.kwh"[:1], f"{line}\n"), _site())
    assert plan.columns[0].factor == factor


def test_an_unknown_unit_above_the_table_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotUnderstood, match="the column states MMBtu"):
        understand(_file(tmp_path, "m", "Unit: MMBtu\n"), _site())
