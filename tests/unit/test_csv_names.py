"""One mapping for many files: other names, patterns, optional columns, and one proposal for all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.errors import ConfigError, FileNotUnderstood
from app.jobs.dry_run import Seen, dry_run
from collectors.csv.mapping import MappingNeeded, parse_mapping
from collectors.csv.proposal import Proposal, merged, of_plan
from collectors.csv.reader import read, understand

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SITE = Site(
    id="dc",
    institution="bank",
    time_zone="UTC",
    meters=(
        Meter(
            id="main",
            rated_power_kw=600,
            points=(Point(id="main.kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER),),
        ),
        Meter(
            id="ups",
            rated_power_kw=300,
            points=(Point(id="ups.kwh", role=Role.IT_UPS_OUTPUT, kind=ReadingKind.REGISTER),),
        ),
        Meter(id="ch", points=(Point(id="ch.kw", role=Role.COOLING, kind=ReadingKind.POWER),)),
    ),
)


def table(path: Path, *names: str, day: int = 1, step: float = 100.0) -> Path:
    numbers = range(1, len(names) + 1)
    rows = "".join(
        f"2026-05-{day:02} {h:02}:00,{','.join(f'{1000 * k + step * h:.1f}' for k in numbers)}\n"
        for h in range(8)
    )
    path.write_text(f"Time,{','.join(names)}\n{rows}", encoding="utf-8")
    return path


def points(path: Path, mapping: str) -> dict[str, int]:
    plan = understand(path, SITE, parse_mapping(mapping))
    found: dict[str, int] = {}
    for batch in read(path, plan, now=NOW):
        for n in batch.columns.point_id.tolist():
            found[batch.points[n]] = found.get(batch.points[n], 0) + 1
    return found


RENAMED = """
columns:
  Main energy: {point: main.kwh, also: ["Main meter", "/^Haupt.*kWh/"]}
  UPS*: ups.kwh
  Chiller: {point: ch.kw, optional: true}
"""


def test_a_renamed_column_a_pattern_and_one_that_may_be_absent(tmp_path: Path) -> None:
    before = table(tmp_path / "a.csv", "Main energy", "UPS out", "Chiller")
    after = table(tmp_path / "b.csv", "UPS output", "Main meter")
    german = table(tmp_path / "c.csv", "Hauptzähler [kWh]", "UPS")
    assert points(before, RENAMED) == {"main.kwh": 8, "ups.kwh": 8, "ch.kw": 8}
    assert points(after, RENAMED) == {"main.kwh": 8, "ups.kwh": 8}
    assert points(german, RENAMED) == {"main.kwh": 8, "ups.kwh": 8}


def test_what_is_missing_and_what_fits_twice_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotUnderstood, match=r"no column here nor as 'Main meter'.*optional: true"):
        points(table(tmp_path / "a.csv", "Other", "UPS"), RENAMED)
    with pytest.raises(FileNotUnderstood, match=r"pattern 'UPS\*' fits several columns: 'UPS 1', 'UPS 2'"):
        points(table(tmp_path / "b.csv", "Main meter", "UPS 1", "UPS 2"), RENAMED)
    with pytest.raises(FileNotUnderstood, match="none of the mapping's columns stands here"):
        points(table(tmp_path / "c.csv", "Other"), "columns: {Chiller: {point: ch.kw, optional: true}}")


def test_a_column_that_is_renamed_within_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(
        f"2026-05-01 {h:02}:00,{1000 + h if h < 4 else ''},{1000 + h if h >= 4 else ''}\n" for h in range(8)
    )
    path.write_text(f"Time,Old,New\n{rows}", encoding="utf-8")
    assert points(path, "columns: {New: {point: main.kwh, also: Old}}") == {"main.kwh": 8}


def test_texts_of_a_long_file_by_pattern_even_when_they_come_late(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    early = "".join(f"2026-05-{1 + h // 24:02} {h % 24:02}:00,M1,{1000 + h}\n" for h in range(600))
    late = "".join(f"2026-06-{1 + h // 24:02} {h % 24:02}:00,UPS 7,{1000 + h}\n" for h in range(10))
    path.write_text(f"Time,Meter,Value\n{early}{late}", encoding="utf-8")
    told = "long: {point: Meter, value: Value}\ncolumns: {M1: main.kwh, 'UPS ?': ups.kwh}"
    assert points(path, told) == {"main.kwh": 600, "ups.kwh": 10}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("columns:\n  A: {point: a, also: ['/[/']}", 2, "no regular expression"),
        ("time:\n  also: B", 1, "name that too"),
        ("columns:\n  '/(/': a", 1, "no regular expression"),
        ("time:\n  format: '%Q'", 2, "%Q"),
        ("time:\n  zone: Mars/Base", 2, "unknown time zone"),
    ],
)
def test_bad_patterns_formats_and_zones_are_refused_with_line_and_key(
    text: str, line: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_mapping(text, file="map.yaml")
    assert str(caught.value).startswith(f"map.yaml:{line}: ") or f"map.yaml:{line + 1}: " in str(caught.value)


# -- proposals ---------------------------------------------------------------------------------------


def proposal(path: Path) -> Proposal:
    try:
        return of_plan(understand(path, SITE).mapping)
    except MappingNeeded as needed:
        return cast(Proposal, needed.proposal)


def test_columns_are_proposed_by_resemblance_with_a_confidence(tmp_path: Path) -> None:
    found = proposal(table(tmp_path / "a.csv", "总进线读数", "UPS 输出电度", "备注编号", step=80))
    assert {n: g.point for n, g in found.guesses.items()} == {
        "总进线读数": "main.kwh",
        "UPS 输出电度": "ups.kwh",
        "备注编号": "?",
    }
    assert 0.5 <= found.guesses["总进线读数"].confidence < 1
    text = found.text(SITE)
    assert "总进线读数: main.kwh  # 7" in text
    assert "#   备注编号: '?'" in text
    assert set(parse_mapping(text).columns) == {"总进线读数", "UPS 输出电度"}


def test_numbers_beyond_the_rating_are_no_likely_readings(tmp_path: Path) -> None:
    found = proposal(table(tmp_path / "a.csv", "Main incoming", "other", step=9000))
    assert found.guesses["Main incoming"].confidence < 0.5


def test_one_proposal_for_all_files_can_be_pasted(tmp_path: Path) -> None:
    files = [
        table(tmp_path / "a.csv", "Main incoming kWh", "UPS output kWh"),
        table(tmp_path / "b.csv", "Main (kWh)", day=2),
        table(tmp_path / "c.csv", "main.kwh", "ups.kwh", day=3),
    ]
    told = merged([proposal(f) for f in files]).text(SITE)
    mapping = parse_mapping(told)
    assert {c.point for c in mapping.columns.values()} == {"main.kwh", "ups.kwh"}
    assert [sum(points(f, told).values()) for f in files] == [16, 8, 16]


def test_a_column_of_another_scale_is_warned_of(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "x", step=51_000)
    plan = understand(path, SITE, parse_mapping("columns: {x: main.kwh}"))
    assert any("51,000 kW, more than the 750 kW that point main.kwh can carry" in w for w in plan.warnings)


def test_the_dry_run_counts_what_files_repeat(tmp_path: Path) -> None:
    seen = Seen()
    first = dry_run(table(tmp_path / "a.csv", "main.kwh"), SITE, seen=seen)
    again = dry_run(table(tmp_path / "b.csv", "main.kwh"), SITE, seen=seen)
    other = dry_run(table(tmp_path / "c.csv", "main.kwh", step=50), SITE, seen=seen)
    assert (first.accepted, first.duplicate, first.conflicting) == (8, 0, 0)
    assert (again.accepted, again.duplicate, again.conflicting) == (0, 8, 0)
    assert (other.accepted, other.duplicate, other.conflicting) == (0, 1, 7)
