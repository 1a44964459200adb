"""Hand-made cases that take a database and the command line: plants that change, what a person confirms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.domain.quality.finding import WITHHOLDING, FindingKind
from app.store import engine as stores
from grafana.queries import WITHHELD
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


TWO_UPS = """
institutions: [{id: b, institution_class: joint_stock}]
sites:
  - id: s
    institution: b
    time_zone: UTC
    meters:
      - {id: main, rated_power_kw: 400, points: [
          {id: main.kwh, role: facility, kind: register, interval_s: 3600}]}
      - {id: a, fed_by: [main], rated_power_kw: 200, points: [
          {id: a.kwh, role: it_ups_output, kind: register, interval_s: 3600}]}
      - {id: b, fed_by: [main], rated_power_kw: 200, points: [
          {id: b.kwh, role: it_ups_output, kind: register, interval_s: 3600}]}
"""
MONTHS = ("2026-05", "2026-06", "2026-07", "2026-08", "2026-09")


def hours(main: float, a: float, b: float, *, from_15_may: tuple[float, float, float]) -> str:
    """Five months of three registers, other powers from 15 May on, with a daily swing. [kW]"""
    start, first = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 15, 10, tzinfo=UTC)
    counts, lines = [1000.0, 2000.0, 3000.0], ["time,main.kwh,a.kwh,b.kwh"]
    for n in range(153 * 24 + 1):
        at = start + timedelta(hours=n)
        lines.append(f"{at:%Y-%m-%dT%H:%M:%SZ}," + ",".join(f"{c:.2f}" for c in counts))
        swing = 1 + 0.2 * sin(n * pi / 12)
        powers = (main, a, b) if at < first else from_15_may
        counts = [c + kw * swing for c, kw in zip(counts, powers, strict=True)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("later", "kind"),
    [((150, 0, 40), "it_missing"), ((150, 25, 20), "ratio_changed"), ((300, 60, 40), "ratio_changed")],
    ids=["bypass", "ratio of IT", "ratio of the facility"],
)
def test_what_lasts_for_months_withholds_every_one_of_them(
    wattline: Wattline, tmp_path: Path, engine: sa.Engine, later: tuple[float, float, float], kind: str
) -> None:
    site, file = tmp_path / "site.yaml", tmp_path / "months.csv"
    site.write_text(TWO_UPS)
    file.write_text(hours(150, 60, 40, from_15_may=later))
    load(wattline, file, "s", site)
    for month in MONTHS:
        found = wattline("pue", "s", "--month", month, "--json").document
        assert found["pue"] is None, month
        assert found["reason_code"] == "waits", month
    listed = wattline("findings", "list", "s", "--json").document["findings"]
    assert sorted(f["start"][:7] for f in listed if f["kind"] == kind) == list(MONTHS)
    said, by_day = _on_boards(engine)
    assert said[:13] == by_day[:13] == [1.5] * 13  # days before 15 May
    assert said[15:] == by_day[15:] == [None] * 138
    assert by_day[14] is None
    assert len(by_day) == 153


def _on_boards(engine: sa.Engine) -> tuple[list[float | None], list[float | None]]:
    """PUE by day of the views: of the intervals, and of sums as the boards form it."""
    query = f"""
        SELECT round(avg(pue)::numeric, 3)::float8,
            CASE WHEN NOT {WITHHELD} THEN round((sum(facility_kwh) / sum(it_kwh))::numeric, 2)::float8 END
        FROM v_pue WHERE site = 's' AND room = '' GROUP BY date_trunc('day', at AT TIME ZONE 'UTC')
        ORDER BY min(at)
    """
    with stores.connect(engine) as connection:
        rows = connection.exec_driver_sql(query).all()
    return [row[0] for row in rows], [row[1] for row in rows]


def test_the_views_withhold_for_the_kinds_for_which_figures_wait(engine: sa.Engine) -> None:
    with stores.connect(engine) as connection:
        texts = {
            view: connection.exec_driver_sql(f"SELECT pg_get_viewdef('{view}'::regclass)").scalar_one()
            for view in ("v_findings", "v_withheld", "v_pue")
        }
    kinds = {kind for kind in FindingKind if f"'{kind.value}'" in texts["v_findings"]}
    assert kinds == set(WITHHOLDING)
    assert "FROM v_findings" in texts["v_withheld"]
    assert "FROM v_withheld" in texts["v_pue"]
