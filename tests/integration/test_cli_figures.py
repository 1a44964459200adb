"""``wattline pue``, ``energy``, ``report``, ``meter event``, ``findings``, ``verify`` and ``db``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.jobs import close_month
from tests.integration.conftest import Wattline

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    jurisdiction: CN-BJ
    meters:
      - id: main
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        room: hall-1
        points: [{id: ups.kwh, role: it_pdu_output, kind: register}]
      - id: chiller
        room: hall-1
        points: [{id: chiller.kwh, role: cooling, kind: register}]
"""
DAY = ("--start", "2026-03-01", "--end", "2026-03-02")


@pytest.fixture
def filled(wattline: Wattline, tmp_path: Path) -> Wattline:
    """A database with one day of a site: 160 kW in, 100 kW IT, 40 kW cooling."""
    site, export = tmp_path / "site.yaml", tmp_path / "export.csv"
    site.write_text(SITE)
    powers_kw = {"main.kwh": 160.0, "ups.kwh": 100.0, "chiller.kwh": 40.0}
    lines = [",".join(["time", *powers_kw])]
    for i in range(97):
        at = f"2026-03-{1 + i // 96:02d}T{i % 96 // 4:02d}:{i % 4 * 15:02d}:00+08:00"
        lines.append(",".join([at, *(str(1000 + kw * i / 4) for kw in powers_kw.values())]))
    export.write_text("\n".join(lines) + "\n")
    done = wattline("import", export, "--site", "sh1", "--config", site)
    assert done.code == 0, done.err
    return wattline


def test_pue_for_people(filled: Wattline) -> None:
    out = filled("pue", "sh1", *DAY).out
    assert "sh1: 2026-03-01 00:00 .. 2026-03-02 00:00 Asia/Shanghai" in out
    assert "PUE2 = 1.60 ± 0.02 (Interim PUE)" in out
    assert "Coverage 100 %" in out
    assert "Limit 1.50, Bank IT guideline 2016–2020: above limit" in out
    assert "Unmetered" in out


def test_pue_of_a_month_says_why_it_is_unknown(filled: Wattline) -> None:
    document = filled("pue", "sh1", "--month", "2026-03", "--json").document
    assert document["pue"] is None
    assert "coverage" in document["reason"]
    assert document["start"] == "2026-02-28T16:00:00Z"


def test_without_a_window_the_last_day_is_meant_and_known_times_are_named(filled: Wattline) -> None:
    done = filled("pue", "sh1", "--json")
    assert done.code == 0
    assert done.document["pue"] is None
    assert "is known from 2026-03-01 00:00 .. 2026-03-02 00:00 Asia/Shanghai" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--window", "25h"), "allowed are 15m, 1h"),
        (("--month", "2026-13"), "write it like 2026-10"),
        (("--start", "yesterday"), "write 2026-10-01 or"),
        (("--start", "2026-03-01T00:00:00", "--end", "2026-03-02"), "has no zone"),
        (("--start", "2026-03-02", "--end", "2026-03-01"), "must be after"),
        (("--end", "2026-03-01"), "--end needs --start"),
        (("--start", "2026-03-01T00:07:00Z", "--end", "2026-03-02"), "multiples of 15 minutes"),
        (("--window", "24h", "--month", "2026-03"), "say one of"),
    ],
)
def test_periods_that_are_not_understood(filled: Wattline, options: tuple[str, ...], said: str) -> None:
    done = filled("pue", "sh1", *options, "--json")
    assert done.code == 2
    assert said in done.err
    assert said in done.document["error"]


def test_energy_by_load_class_point_and_room(filled: Wattline) -> None:
    def by(what: str) -> dict[str, float]:
        rows = filled("energy", "sh1", *DAY, "--by", what, "--json").document["rows"]
        return {r["name"]: r["energy_kwh"] for r in rows}

    assert by("load_class") == pytest.approx({"facility": 3840.0, "it": 2400.0, "cooling": 960.0})
    assert by("point") == pytest.approx({"main.kwh": 3840.0, "ups.kwh": 2400.0, "chiller.kwh": 960.0})
    assert by("room") == pytest.approx({"hall-1": 3360.0})
    hours = filled("energy", "sh1", *DAY, "--step", "1h", "--json").document["rows"]
    assert len(hours) == 24 * 3
    assert hours[0]["start"] == "2026-02-28T16:00:00Z"
    assert "hall-1" in filled("energy", "sh1", *DAY, "--by", "room").out


def test_partial_pue_of_a_room(filled: Wattline) -> None:
    document = filled("pue", "sh1", *DAY, "--room", "hall-1", "--json").document
    assert document["label"] == "pPUE2"
    assert document["pue"] == pytest.approx(1.4)
    assert filled("pue", "sh1", "--room", "hall-9").code == 1


def test_indicators_and_fleet(filled: Wattline) -> None:
    document = filled("indicators", "sh1", *DAY, "--json").document
    assert document["money"]["emissions_kg"] == pytest.approx(3840 * 0.5306, abs=0.1)
    text = filled("indicators", "sh1", *DAY).out
    assert "cue [kgCO2e/kWh]" in text
    assert "at least 75" in text
    together = filled("fleet", "--window", "12mo", "--json").document
    assert [s["site"] for s in together["sites"]] == ["sh1"]
    assert "ratio of sums" in filled("fleet").out
    assert filled("fleet", "--window", "soon").code == 2
    assert "surcharge cn_bj_2026, 2026-03-01 to 2026-03-01, PUE above 1.35: 120.00 CNY" in text
    assert filled("indicators", "sh1", "--month", "2198-01").code == 2


def test_report_in_both_forms(filled: Wattline, tmp_path: Path) -> None:
    for form in ("json", "csv"):
        done = filled("report", "sh1", "2026-03", "--format", form, "-o", tmp_path / f"r.{form}")
        assert done.code == 0, done.err
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["pue"]["period"]["facility_kwh"] == pytest.approx(3840.0)
    assert "period.facility_kwh,3840.0" in (tmp_path / "r.csv").read_text()
    assert filled("report", "sh1", "2026-03", "-o", tmp_path / "no" / "r.json").code == 1


def test_a_declared_replacement_moves_the_energy(filled: Wattline) -> None:
    event = ("--at", "2026-03-01T12:00:00+08:00", "--kind", "replaced", "--note", "new meter, protocol 17")
    done = filled("meter", "event", "chiller", *event, "--old", 1480, "--new", 1470, "--json")
    assert done.code == 0, done.err
    assert len(done.document["entries"]) == 1
    rows = filled("energy", "sh1", *DAY, "--by", "point", "--json").document["rows"]
    assert {r["name"]: r["energy_kwh"] for r in rows}["chiller.kwh"] == pytest.approx(970.0)
    assert filled("meter", "event", "nothing", *event).code == 1
    foreign = filled("meter", "event", "chiller", *event, "--point", "main.kwh")
    assert foreign.code == 2
    assert "meter chiller has no point main.kwh" in foreign.err


def test_the_ledger_is_listed_and_entries_are_withdrawn(filled: Wattline) -> None:
    event = ("--at", "2026-03-01T12:00:00+08:00", "--kind", "correction", "--note", "misread")
    assert filled("meter", "event", "chiller", *event, "--new", 1600).code == 0
    changed = filled("pue", "sh1", *DAY, "--json").document["overhead_kwh"]["cooling"]
    (entry,) = filled("meter", "events", "sh1", "--json").document["events"]
    assert (entry["kind"], entry["point"], entry["new_value"]) == ("correction", "chiller.kwh", 1600)
    assert entry["author"]
    assert "misread" in filled("meter", "events", "sh1").out
    assert filled("meter", "withdraw", "sh1", entry["id"]).code == 0
    assert filled("meter", "withdraw", "sh1", entry["id"]).code == 1
    restored = filled("pue", "sh1", *DAY, "--json").document["overhead_kwh"]["cooling"]
    assert restored == pytest.approx(960.0)
    assert changed != pytest.approx(960.0)
    assert "withdrawn by" in filled("meter", "events", "sh1").out


def test_frozen_reports_are_listed_with_what_changed(filled: Wattline, engine: sa.Engine) -> None:
    later = datetime(2026, 4, 20, tzinfo=UTC)
    close_month.run(engine, later)
    event = ("--at", "2026-03-01T12:00:00+08:00", "--end", "2026-03-01T13:00:00+08:00", "--kind", "estimate")
    assert filled("meter", "event", "chiller", *event, "--energy-kwh", 60, "--note", "by hand").code == 0
    close_month.run(engine, later)
    listed = filled("reports", "sh1", "--json").document["reports"]
    assert [(r["period"], r["revision"]) for r in listed] == [("2026-03", 2), ("2026-03", 1)]
    (second, first) = filled("reports", "sh1", "--period", "2026-03", "--json").document["reports"]
    assert first["changes"] == []
    assert "energy.classes[cooling].energy_kwh" in [c["figure"] for c in second["changes"]]
    assert "changed with revision 2" in filled("reports", "sh1", "--period", "2026-03").out
    assert filled("reports", "bank", "--period", "2026-03").code == 0
    assert filled("reports", "sh1", "--period", "2026-02").code == 1


def test_verify_finds_a_figure_that_does_not_follow(filled: Wattline, engine: sa.Engine) -> None:
    assert filled("verify").code == 0
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE energy_15m SET energy_kwh = energy_kwh + 1 WHERE point_id = 1"))
    done = filled("verify", "--site", "sh1", "--json")
    assert done.code == 1
    assert not done.document["ok"]
    assert "breaches" in filled("verify").out


def test_findings_list(filled: Wattline) -> None:
    assert filled("findings", "list", "sh1", "--json").document == {
        "site": "sh1",
        "findings": [],
        "deployment": [],
    }
    assert "nothing was found" in filled("findings", "list", "sh1").out


def test_database_status(filled: Wattline) -> None:
    assert filled("db", "upgrade", "--json").document["up_to_date"]
    assert filled("db", "status", "--json").document["kind"] == "native partitions"
    assert "up to date: revision" in filled("db", "status").out


def test_database_away(wattline: Wattline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.opening._COMMAND_WAIT_S", 0.0)
    monkeypatch.setenv("WATTLINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    done = wattline("pue", "sh1")
    assert done.code == 1
    assert "the database does not answer" in done.err
