"""``wattline import``: what it stores, what it refuses, and what it says."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.conftest import Wattline

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        points: [{id: ups.kwh, role: it_pdu_output, kind: register}]
"""
HEADER = "time,main.kwh,ups.kwh\n"
DAY = ("--start", "2026-03-01", "--end", "2026-03-02")


def rows(count: int = 97, *, facility_kw: float = 144.0, it_kw: float = 100.0) -> list[str]:
    """Quarter-hourly registers from local midnight on."""
    start = datetime(2026, 3, 1)  # noqa: DTZ001 - what a file says, without a zone
    return [
        f"{start + timedelta(minutes=15 * i)},{facility_kw / 4 * i},{it_kw / 4 * i}\n" for i in range(count)
    ]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(SITE)
    return file


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "export.csv"
    file.write_text(HEADER + "".join(rows()))
    return file


def counts(engine: sa.Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_a_file_becomes_figures(wattline: Wattline, site: Path, export: Path) -> None:
    done = wattline("import", export, "--site", "sh1", "--config", site)
    assert done.code == 0, done.err
    assert "194" in done.out
    document = wattline("pue", "sh1", *DAY, "--json").document
    assert document["pue"] == pytest.approx(1.44, abs=1e-9)
    assert document["label"] == "PUE2"
    assert document["coverage_ratio"] == 1.0
    energy = wattline("energy", "sh1", *DAY, "--step", "15m", "--json").document
    assert len([r for r in energy["rows"] if r["name"] == "facility"]) == 96


def test_assumptions_and_the_end_of_old_readings_are_said(
    wattline: Wattline, site: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.csv"
    days = (f"{45_000 + i / 96:.5f},{100 + i}.5\n" for i in range(96))
    old.write_text("time,main.kwh\n" + "".join(days))
    done = wattline("import", old, "--site", "sh1", "--config", site)
    assert "note: old.csv: time: its numbers are taken for a spreadsheet's days" in done.out
    until = (datetime.now(UTC) + timedelta(days=90)).date()
    assert f"the old raw readings are kept until {until}" in done.out
    again = wattline("import", old, "--site", "sh1", "--json").document
    assert (again["old_readings_kept_until"], again["files"][0]["accepted"]) == (None, 0)


def test_importing_twice_changes_nothing(
    wattline: Wattline, site: Path, export: Path, engine: sa.Engine
) -> None:
    first = wattline("import", export, "--site", "sh1", "--config", site, "--json").document["files"][0]
    before = wattline("pue", "sh1", *DAY, "--json").out
    stored = counts(engine, "readings")
    again = wattline("import", export, "--site", "sh1", "--json").document["files"][0]
    assert (first["accepted"], first["duplicate"]) == (194, 0)
    assert (again["accepted"], again["duplicate"], again["conflicting"]) == (0, 194, 0)
    assert counts(engine, "readings") == stored
    assert counts(engine, "rollup_queue") == 0
    assert wattline("pue", "sh1", *DAY, "--json").out == before
    assert counts(engine, "imports") == 2


def test_one_bad_row_is_refused_with_its_line_and_the_rest_is_stored(
    wattline: Wattline, site: Path, tmp_path: Path
) -> None:
    lines = rows()
    lines[10] = "2026-03-01 02:30:00,garbage,250.0\n"
    file, rejects = tmp_path / "bad.csv", tmp_path / "rejects.csv"
    file.write_text(HEADER + "".join(lines))
    done = wattline("import", file, "--site", "sh1", "--config", site, "--rejects", rejects, "--json")
    assert done.code == 0
    assert done.document["files"][0]["accepted"] == 193
    assert done.document["files"][0]["rejected"] == 1
    assert done.document["rejects_file"] == str(rejects)
    with rejects.open(encoding="utf-8-sig", newline="") as stream:
        (refused,) = csv.DictReader(stream)
    assert (refused["line"], refused["column"], refused["text"]) == ("12", "main.kwh", "garbage")
    assert refused["reason"]


def test_formulas_in_refused_cells_are_made_harmless(wattline: Wattline, site: Path, tmp_path: Path) -> None:
    lines = rows()
    lines[3] = "2026-03-01 00:45:00,=1+cmd|' /C calc'!A0,75.0\n"
    file, rejects = tmp_path / "evil.csv", tmp_path / "rejects.csv"
    file.write_text(HEADER + "".join(lines))
    assert wattline("import", file, "--site", "sh1", "--config", site, "--rejects", rejects).code == 0
    assert ",'=1+cmd" in rejects.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("just one line of prose\n", "not_a_table.csv:"),
        ("a,b\n1,2\n3,4\n", "not_a_table.csv:"),
        ("time,unknown\n2026-03-01 00:00:00,1\n2026-03-01 00:15:00,2\n", "columns:"),
    ],
)
def test_a_file_that_cannot_be_understood_stores_nothing(
    wattline: Wattline, site: Path, tmp_path: Path, engine: sa.Engine, text: str, said: str
) -> None:
    file = tmp_path / "not_a_table.csv"
    file.write_text(text)
    done = wattline("import", file, "--site", "sh1", "--config", site)
    assert done.code == 1
    assert said in done.err
    assert counts(engine, "readings") == 0


def test_a_damaged_archive_stores_nothing(
    wattline: Wattline, site: Path, tmp_path: Path, engine: sa.Engine
) -> None:
    whole = gzip.compress((HEADER + "".join(rows(20_000))).encode())
    file = tmp_path / "cut.csv.gz"
    file.write_bytes(whole[: len(whole) // 2])
    done = wattline("import", file, "--site", "sh1", "--config", site)
    assert done.code == 1
    assert str(file) in done.err
    assert counts(engine, "readings") == 0


def test_of_two_files_the_good_one_is_stored(
    wattline: Wattline, site: Path, export: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("nothing\n")
    done = wattline("import", bad, export, "--site", "sh1", "--config", site, "--json")
    assert done.code == 1
    assert [f["status"] for f in done.document["files"]] == ["failed", "done"]


def test_dry_run_shows_what_is_understood_and_stores_nothing(
    wattline: Wattline, site: Path, export: Path, tmp_path: Path, engine: sa.Engine
) -> None:
    done = wattline("import", export, "--site", "sh1", "--config", site, "--dry-run", "--json")
    (file,) = done.document["files"]
    assert file["readings"] == 194
    assert [c["point"] for c in file["columns"]] == ["main.kwh", "ups.kwh"]
    assert counts(engine, "readings") == 0
    mapping = tmp_path / "map.yaml"
    mapping.write_text(file["mapping"])
    assert wattline("import", export, "--site", "sh1", "--config", site, "--map", mapping).code == 0
    assert counts(engine, "readings") == 194
    shown = wattline("import", export, "--site", "sh1", "--config", site, "--dry-run").out
    assert "Asia/Shanghai" in shown


def test_dry_run_counts_what_is_stored_already_as_the_import_does(
    wattline: Wattline, site: Path, tmp_path: Path, engine: sa.Engine
) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("time,main.kwh\n2026-03-01 00:00,10\n2026-03-01 00:15,11\n2026-03-01 00:30,12\n")
    second.write_text("time,main.kwh\n2026-03-01 00:15,11\n2026-03-01 00:30,12.5\n2026-03-01 00:45,13\n")
    of_site = ("--site", "sh1", "--config", site, "--json")
    wattline("import", first, *of_site)
    told = [wattline("import", second, *of_site, *more).document["files"][0] for more in (["--dry-run"], [])]
    for file in told:
        assert (file["accepted"], file["duplicate"], file["conflicting"]) == (1, 1, 1)
    assert counts(engine, "readings") == 4


def test_mapping_errors_name_file_line_and_key(
    wattline: Wattline, site: Path, export: Path, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("columns:\n  main.kwh: main.kwh\ntime: {colum: time}\n")
    done = wattline("import", export, "--site", "sh1", "--config", site, "--map", mapping)
    assert done.code == 2
    assert done.err.startswith(f"{mapping}:3: time.colum: unknown key; allowed are column")


def test_unknown_site_and_file_are_named(wattline: Wattline, site: Path, export: Path) -> None:
    done = wattline("import", export, "--site", "sh2", "--config", site)
    assert done.code == 1
    assert "'sh2'; known are sh1" in done.err
    done = wattline("import", "absent.csv", "--site", "sh1", "--config", site)
    assert done.code == 1
    assert "absent.csv" in done.err
    assert wattline("import", "--site", "sh1").code == 2


def test_a_bad_mapping_is_wrong_use_and_names_file_line_and_key(
    wattline: Wattline, site: Path, export: Path, tmp_path: Path
) -> None:
    mapping = tmp_path / "bad.yaml"
    mapping.write_text("time: {format: '%Q'}\n")
    for more in ([], ["--dry-run"]):
        done = wattline("import", export, "--site", "sh1", "--config", site, "--map", mapping, *more)
        assert done.code == 2
        assert f"{mapping}:1: time.format: %Q" in done.err
