"""``wattline import --replace``: a corrected export becomes ledger corrections, and figures follow."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.jobs import close_month
from app.store import sites
from tests.integration.conftest import Wattline

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: UTC
    meters:
      - {id: main, points: [{id: main.kwh, role: facility, kind: interval_energy, interval_s: 3600}]}
      - {id: ups, points: [{id: ups.kwh, role: it_pdu_output, kind: interval_energy, interval_s: 3600}]}
"""
HOURS = 31 * 24


def export(
    file: Path, main: dict[int, float] | None = None, *, hours: int = HOURS, load: float = 150
) -> Path:
    """August 2026 in hours that end at the stamp: `load` and 100 kWh, but for `main` by hour."""
    start = datetime(2026, 8, 1, tzinfo=UTC)
    rows = (
        f"{start + timedelta(hours=i + 1):%Y-%m-%d %H:%M},{(main or {}).get(i, load)},100\n"
        for i in range(hours)
    )
    file.write_text("time,main.kwh,ups.kwh\n" + "".join(rows))
    return file


@pytest.fixture
def imported(wattline: Wattline, tmp_path: Path) -> Path:
    site = tmp_path / "site.yaml"
    site.write_text(SITE)
    done = wattline("import", export(tmp_path / "first.csv"), "--site", "sh1", "--config", site)
    assert done.code == 0, done.err
    return tmp_path


def energy(wattline: Wattline) -> float:
    document = wattline("energy", "sh1", "--start", "2026-08-01", "--end", "2026-09-01", "--json").document
    return sum(r["energy_kwh"] for r in document["rows"] if r["name"] == "facility")


def ledger(wattline: Wattline) -> list[dict[str, Any]]:
    return list(wattline("meter", "events", "sh1", "--json").document["events"])


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_the_difference_is_shown_first_and_nothing_is_stored(
    wattline: Wattline, imported: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    file = export(imported / "second.csv", {0: 250.0, 5: 50.0, 6: 140.0})
    shown = wattline("import", file, "--site", "sh1", "--replace", "--dry-run", "--json").document
    assert shown["corrected"] == 3
    (change,) = shown["changes"]
    assert (change["point"], change["month"]) == ("main.kwh", "2026-08")
    assert change["difference_kwh"] == pytest.approx(-10.0)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    asked = wattline("import", file, "--site", "sh1", "--replace")
    assert asked.code == 1
    assert "-10.000" in asked.out
    assert "nothing was stored" in asked.err
    assert energy(wattline) == pytest.approx(150 * HOURS)
    assert ledger(wattline) == []


def test_corrections_keep_both_values_with_author_and_reason(
    wattline: Wattline, imported: Path, engine: sa.Engine
) -> None:
    file = export(imported / "second.csv", {0: 250.0, 5: 50.0})
    options = ("--site", "sh1", "--replace", "--yes", "--reason", "CT ratio was wrong")
    done = wattline("import", file, *options, "--json").document
    assert done["files"][0]["corrected"] == 2
    assert (done["files"][0]["accepted"], done["files"][0]["conflicting"]) == (0, 0)
    assert energy(wattline) == pytest.approx(150 * HOURS)
    (entry,) = ledger(wattline)
    assert entry["kind"] == "correction"
    assert entry["corrected_readings"] == 2
    assert [(c["old_value"], c["new_value"]) for c in entry["corrections"]] == [(150.0, 250.0), (150.0, 50.0)]
    assert "CT ratio was wrong" in str(entry["note"])
    assert entry["author"]
    with engine.connect() as connection:
        query = sa.text("SELECT old_value, new_value FROM reading_corrections ORDER BY at")
        kept = [tuple(row) for row in connection.execute(query)]
        raw = connection.execute(sa.text("SELECT max(value) FROM readings")).scalar_one()
    assert kept == [(150.0, 250.0), (150.0, 50.0)]
    assert raw == 150.0
    again = wattline("import", file, "--site", "sh1", "--replace", "--yes", "--json").document
    assert again["files"][0]["corrected"] == 0
    assert len(ledger(wattline)) == 1


def test_a_correction_of_a_correction_and_back(wattline: Wattline, imported: Path) -> None:
    for number, value in enumerate((250.0, 350.0, 150.0)):
        file = export(imported / f"{number}.csv", {0: value})
        assert wattline("import", file, "--site", "sh1", "--replace", "--yes").code == 0
        assert energy(wattline) == pytest.approx(150 * HOURS + value - 150)
    first, second, third = ledger(wattline)
    assert wattline("meter", "withdraw", "sh1", third["id"]).code == 0
    assert energy(wattline) == pytest.approx(150 * HOURS + 200)
    assert wattline("meter", "withdraw", "sh1", second["id"]).code == 0
    assert energy(wattline) == pytest.approx(150 * HOURS + 100)
    assert wattline("meter", "withdraw", "sh1", first["id"]).code == 0
    assert energy(wattline) == pytest.approx(150 * HOURS)


def test_a_plain_import_before_leaves_no_contradiction_behind(
    wattline: Wattline, imported: Path, engine: sa.Engine
) -> None:
    file = export(imported / "second.csv", {0: 250.0})
    plain = wattline("import", file, "--site", "sh1", "--json").document["files"][0]
    assert plain["conflicting"] == 1
    wattline("import", file, "--site", "sh1", "--replace", "--yes")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM reading_conflicts")).scalar_one() == 0


def test_a_closed_month_gets_a_revision(wattline: Wattline, imported: Path, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        stored = sites.load(connection)
    closed = close_month.close_site(engine, stored, stored.fleet.site["sh1"], datetime.now(UTC))
    assert "2026-08" in [c.period for c in closed]
    file = export(imported / "second.csv", load=160)
    shown = wattline("import", file, "--site", "sh1", "--replace", "--dry-run", "--json").document
    assert shown["revised"] == ["2026-08"]
    assert shown["corrected"] == HOURS
    done = wattline("import", file, "--site", "sh1", "--replace", "--yes", "--json").document
    assert {"of": "sh1", "period": "2026-08", "revision": 2} in done["revised"]
    assert energy(wattline) == pytest.approx(160 * HOURS)
    report = wattline("reports", "sh1", "--json")
    assert '"revision": 2' in report.out


def test_new_readings_are_stored_and_other_intervals_are_conflicts(
    wattline: Wattline, imported: Path
) -> None:
    longer = export(imported / "second.csv", hours=HOURS + 24)
    done = wattline("import", longer, "--site", "sh1", "--replace", "--yes", "--json").document["files"][0]
    assert (done["accepted"], done["corrected"], done["duplicate"]) == (48, 0, 2 * HOURS)
    days = imported / "days.csv"
    days.write_text("time,main.kwh\n" + "".join(f"2026-08-{d:02d} 00:00,3600\n" for d in range(3, 20)))
    mapping = imported / "days.yaml"
    mapping.write_text("time: {interval: 1d, stamp: end}\n")
    done = wattline("import", days, "--site", "sh1", "--map", mapping, "--replace", "--yes", "--json")
    assert (done.document["files"][0]["corrected"], done.document["files"][0]["conflicting"]) == (0, 17)


def test_reason_without_replace_is_refused(wattline: Wattline, imported: Path) -> None:
    done = wattline("import", imported / "first.csv", "--site", "sh1", "--reason", "x")
    assert done.code == 2
    assert "--replace" in done.err
