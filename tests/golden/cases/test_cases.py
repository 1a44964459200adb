"""Every hand-made case about figures: the right answer, or an explicit unknown with a finding.

The inputs stand beside the repository (``../shared/data/cases``, with their right answers in its README).
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import config
from app.domain.period import Period
from app.domain.quality.detect import point_findings
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Direction, Meter, Point, Site
from app.errors import ConfigError, FileNotUnderstood
from collectors.csv.mapping import MappingNeeded, parse_mapping
from collectors.csv.reader import understand
from tests.plant import Plant, read_csv


@pytest.fixture
def cases(shared_data: Path) -> Path:
    return shared_data / "cases"


def one_point(**changes: object) -> Site:
    point = replace(Point(id="m.kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER), **changes)  # type: ignore[arg-type]
    return Site(id="s", institution="b", time_zone="UTC", meters=(Meter(id="m", points=(point,)),))


def imported(cases: Path, name: str, tmp_path: Path, column: str = "value", **changes: object) -> Plant:
    mapping = tmp_path / "map.yaml"
    mapping.write_text(f"columns: {{{column}: m.kwh}}\n", encoding="utf-8")
    site = one_point(**changes)
    return Plant(site, read_csv(cases / "import" / f"{name}.csv", site, mapping))


def site_of(path: Path, site_id: str) -> Site:
    return config.load(path).fleet.site[site_id]


def kinds(plant: Plant) -> list[str]:
    return sorted(f.kind.value for f in plant.findings)


def test_a06_an_unrated_register_that_jumps(cases: Path, tmp_path: Path) -> None:
    plant = imported(cases, "a06_replaced_higher_unrated", tmp_path)
    assert plant.kwh("m.kwh") == 80
    assert plant.known_s("m.kwh") == 8 * 3600
    assert kinds(plant) == ["replacement_suspected"]


def test_a09_a_stuck_day_is_spread(cases: Path, tmp_path: Path) -> None:
    plant = imported(cases, "a09_stuck_day_catches_up", tmp_path)
    cells = plant.cells["m.kwh"]
    assert plant.kwh("m.kwh") == pytest.approx(2397.5)
    assert cells.energy_kwh.max() * 4 == pytest.approx(10.0, rel=0.05)
    assert 90 <= cells.estimated_ratio.sum() <= 100
    assert kinds(plant) == ["stuck"]


def test_a11_two_sources_are_one_finding(cases: Path, tmp_path: Path) -> None:
    plant = imported(cases, "a11_two_sources_one_point", tmp_path)
    assert plant.kwh("m.kwh") == pytest.approx(80)
    assert kinds(plant) == ["two_sources"]


def test_a15_months_are_estimated_within(cases: Path, tmp_path: Path) -> None:
    plant = imported(cases, "a15_monthly", tmp_path, interval_s=2_592_000)
    assert plant.kwh("m.kwh") == pytest.approx(43_200)
    assert (plant.cells["m.kwh"].estimated_ratio == 1).all()


def test_a18_dither_is_no_alarm(cases: Path, tmp_path: Path) -> None:
    plant = imported(cases, "a18_dither", tmp_path)
    assert plant.kwh("m.kwh") == pytest.approx(0.4)
    assert kinds(plant) == []


def test_a21_a_wrap_may_hide_in_a_gap(cases: Path, tmp_path: Path) -> None:
    plant = imported(cases, "a21_hidden_wraps", tmp_path, modulus_kwh=1000.0, max_power_kw=100.0)
    assert plant.kwh("m.kwh") == pytest.approx(110)
    (gap,) = [f for f in plant.findings if f.kind == "gap"]
    assert gap.effect_kwh is None
    assert gap.severity == "warning"


def test_c01_interval_energy_below_zero(cases: Path, tmp_path: Path) -> None:
    interval = {"kind": ReadingKind.INTERVAL_ENERGY, "interval_s": 3600}
    declared = imported(
        cases, "c01_interval_energy_exporting", tmp_path, direction=Direction.BOTH, **interval
    )
    assert declared.kwh("m.kwh") == pytest.approx(-10)
    assert kinds(declared) == []
    plain = imported(cases, "c01_interval_energy_exporting", tmp_path, **interval)
    assert plain.known_s("m.kwh") == 5 * 3600
    assert kinds(plain) == ["exporting"]


def test_c04_power_below_zero(cases: Path, tmp_path: Path) -> None:
    power = {"kind": ReadingKind.POWER}
    declared = imported(cases, "c04_power_export_15min", tmp_path, direction=Direction.BOTH, **power)
    assert declared.kwh("m.kwh") == pytest.approx(255)
    assert kinds(declared) == []
    plain = imported(cases, "c04_power_export_15min", tmp_path, **power)
    assert plain.known_s("m.kwh") < 4 * 3600
    assert [k for k in kinds(plain) if k != "gap"] == ["exporting"]


def test_c05_dates_without_a_time_are_the_days_themselves(cases: Path, tmp_path: Path) -> None:
    daily = {"kind": ReadingKind.INTERVAL_ENERGY, "interval_s": 86_400}
    plant = imported(cases, "c05_daily_dates_default_stamp", tmp_path, **daily)
    known = plant.spans["m.kwh"]
    assert datetime.fromtimestamp(known.start_us[0] / 1e6, UTC) == datetime(2026, 5, 1, tzinfo=UTC)
    assert known.energy_kwh[0] == 101
    assert plant.kwh("m.kwh") == 3596


def test_registers_of_another_scale_are_warned_of(cases: Path) -> None:
    mapping = parse_mapping("columns: {总进线读数: main.kwh, PDU-A 有功电度: pdu.kwh}")
    for rated_kw, warned in ((100, ["总进线读数", "PDU-A 有功电度"]), (150, ["总进线读数"]), (math.inf, [])):
        points = (
            Point(
                id="main.kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER, max_power_kw=max(rated_kw, 250)
            ),
            Point(id="pdu.kwh", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, max_power_kw=rated_kw),
        )
        site = Site(
            id="s", institution="b", time_zone="Asia/Shanghai", meters=(Meter(id="m", points=points),)
        )
        plan = understand(cases / "import" / "unknown_columns.csv", site, mapping)
        assert plan.unused == ("备注编号",)
        assert [w.split(":")[0].removeprefix("column ") for w in plan.warnings] == warned
        assert all(w.endswith("can carry; check unit and scale") for w in plan.warnings)


def test_d01_a_feed_that_names_no_unit_is_asked_about(cases: Path) -> None:
    site = one_point(kind=ReadingKind.INTERVAL_ENERGY)
    with pytest.raises(MappingNeeded, match="say it in a mapping"):
        read_csv(cases / "import" / "d01_prefixed_feed.xml", site)


def test_e01_two_stages_without_a_tree(cases: Path) -> None:
    with pytest.raises(ConfigError, match=r"may measure the energy of zups\.kwh"):
        config.load(cases / "import" / "e01_site.yaml")


def test_e01_two_stages_decided(cases: Path, tmp_path: Path) -> None:
    text = (cases / "import" / "e01_site.yaml").read_text("utf-8")
    for decided in (
        text.replace("time_zone:", "it_energy_at: it_pdu_output\n    time_zone:"),
        re.sub(r"\{id: (zrpp\d),", r"{id: \1, fed_by: [zups],", text),
    ):
        site = config.parse(decided).fleet.site["dc3"]
        readings = read_csv(cases / "import" / "e01_it_at_two_stages.csv", site)
        found = Plant(site, readings).pue()
        assert found.it_kwh == pytest.approx(3840, rel=0.02)
        assert found.pue == pytest.approx(2.5)
        assert found.verdicts[0].verdict == "fail"


def test_03_a_log_that_is_written_on_change_holds_its_values(cases: Path) -> None:
    folder = cases / "plant" / "03-change-of-value-log"
    text = (folder / "site.yaml").read_text("utf-8")
    told = text.replace("kind: power", "kind: power, sampling: on_change, longest_hold_s: 57600")
    plant = _chiller(folder, told)
    assert plant.kwh("chiller.kw") == pytest.approx(120 * 6 + 180 * 16 + 120 * 2)
    assert plant.known_s("chiller.kw") == 24 * 3600
    assert kinds(plant) == []
    short = _chiller(folder, told.replace("57600", "36000"))
    assert short.kwh("chiller.kw") == pytest.approx(120 * 6 + 180 * 10 + 120 * 2)
    assert short.known_s("chiller.kw") == 18 * 3600
    assert kinds(short) == ["gap"]
    untold = _chiller(folder, text)
    assert untold.known_s("chiller.kw") == 0
    point = next(p for p in untold.site.points() if p.id == "chiller.kw")
    assert {f.evidence.get("hint") for f in point_findings(point, untold.readings["chiller.kw"])} == {
        "if the source only writes changes, set sampling: on_change and longest_hold_s"
    }


def _chiller(folder: Path, text: str) -> Plant:
    """The chiller's log alone."""
    site = config.parse(text).fleet.site["s03"]
    return Plant(site, read_csv(folder / "chiller.csv", site))


def test_04b_a_counter_of_the_day_restarts_in_a_gap(cases: Path) -> None:
    folder = cases / "plant" / "04b-daily-counter-with-a-gap"
    site = site_of(folder / "site.yaml", "s04b")
    plant = Plant(site, read_csv(folder / "down.csv", site))
    assert plant.kwh("pdu4b.today_kwh") == pytest.approx(600 + 2000 + 100)
    assert plant.known_s("pdu4b.today_kwh") == 27 * 3600
    assert "gap" in kinds(plant)


@pytest.mark.parametrize("point", ["board.kw", "board.import_kwh"])
def test_07_a_reversed_transformer(cases: Path, point: str) -> None:
    folder = cases / "plant" / "07-reversed-ct"
    site = site_of(folder / "site.yaml", "s07")
    plain = Plant(site, read_csv(folder / "week.csv", site))
    assert plain.pue().pue is None
    assert "reversed" in kinds(plain)
    text = (
        (folder / "site.yaml").read_text("utf-8").replace(f"id: {point}", f"direction: reversed, id: {point}")
    )
    turned = config.parse(text).fleet.site["s07"]
    week = Period(datetime(2026, 9, 30, 16, tzinfo=UTC), datetime(2026, 10, 7, 16, tzinfo=UTC))
    assert Plant(turned, plain.readings).pue(week).pue == pytest.approx(1.5)


def test_11_sold_energy(cases: Path) -> None:
    folder = cases / "plant" / "11-pv-export"
    text = (folder / "site.yaml").read_text("utf-8").replace("role: non_dc", "role: export")
    site = config.parse(text).fleet.site["s11"]
    month = Period(datetime(2026, 9, 30, 16, tzinfo=UTC), datetime(2026, 10, 31, 16, tzinfo=UTC))
    found = Plant(site, read_csv(folder / "october.csv", site)).pue(month)
    assert found.facility_kwh == pytest.approx(89_280)
    assert found.pue == pytest.approx(1.5)
    made, sold = found.apart_kwh["renewable"], found.apart_kwh["export"]
    assert found.facility_kwh - made + sold == pytest.approx(74_400)
    assert (made - sold) / found.facility_kwh == pytest.approx(0.1667, abs=1e-4)


def test_12_units_in_the_heading(cases: Path) -> None:
    folder = cases / "plant" / "12-unit-in-heading"
    site = site_of(folder / "site.yaml", "s12")
    plant = Plant(site, read_csv(folder / "day.csv", site, folder / "map.yaml"))
    assert plant.kwh("chill12.kwh") == pytest.approx(2400)
    assert plant.kwh("main12.kwh") == pytest.approx(3600)
    assert plant.kwh("ups12.kwh") == pytest.approx(2400)


def test_14_a_ups_in_bypass(cases: Path) -> None:
    folder = cases / "plant" / "14-ups-bypass"
    site = site_of(folder / "site.yaml", "s14")
    plant = Plant(site, read_csv(folder / "day.csv", site))
    found = plant.pue()
    assert "it_missing" in kinds(plant)
    assert found.pue is None
    assert found.reason is not None
    assert "ups14.kwh" in found.reason
    assert found.verdicts[0].verdict == "indeterminate"


def test_15_one_device_twice(cases: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(cases / "plant" / "15-one-device-twice" / "site.yaml")
    assert "write MW for the million" in str(refused.value)
    text = (cases / "plant" / "15-one-device-twice" / "site.yaml").read_text("utf-8").replace("mW", "MW")
    with pytest.raises(ConfigError) as refused:
        config.parse(text)
    assert "dupb.kwh reads the same value of the same device as point dupa.kwh" in str(refused.value)
    assert "dupd.kwh reads the same value of the same device as point dupc.kwh" in str(refused.value)


def test_27_apparent_energy_is_no_energy(cases: Path) -> None:
    folder = cases / "plant" / "27-kvah"
    site = site_of(folder / "site.yaml", "s27")
    with pytest.raises(FileNotUnderstood, match="kVAh"):
        read_csv(folder / "day.csv", site, folder / "map.yaml")
