"""Which regulations apply to a site, what they are on a day, and what is to come."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.data.regulations import REGULATIONS
from app.domain.data.surcharges import SURCHARGES
from app.domain.limits import merged_profiles
from app.domain.regulations import (
    Applied,
    Cause,
    Condition,
    Milestone,
    Regulation,
    Status,
    applying,
    values_of,
)
from app.domain.site import Declared, Design, Institution, InstitutionClass, Site, SiteTrait
from app.domain.targets import Standing

BANK = Institution(id="bank", institution_class=InstitutionClass.JOINT_STOCK)
PROFILES = merged_profiles(LIMIT_PROFILES)
TODAY = date(2026, 11, 30)
BY_ID = {r.id: r for r in REGULATIONS}


def site(jurisdiction: str = "CN-BJ", **values: Any) -> Site:
    zone = {"time_zone": "Asia/Shanghai"}
    return Site(id="s1", institution="bank", jurisdiction=jurisdiction, **zone, **values)


def found(where: Site, on: date = TODAY, pue: float | None = None) -> dict[str, Applied]:
    values = values_of(pue, where, BANK, PROFILES, on)
    return {a.regulation.id: a for a in applying(REGULATIONS, where, BANK, PROFILES, on, values=values)}


def test_every_row_names_what_exists_and_has_both_languages() -> None:
    assert len(BY_ID) == len(REGULATIONS)
    for row in REGULATIONS:
        assert row.says, row.id
        assert row.says_zh, row.id
        assert not row.profile or row.profile in PROFILES
        assert not row.surcharge or row.surcharge in {s.id for s in SURCHARGES}
        assert row.source


def test_what_was_not_found_is_in_no_row() -> None:
    texts = " ".join(f"{r.name} {r.says} {r.says_zh} {r.source}" for r in REGULATIONS)
    for never in ("JR/T", "PBOC", "人民银行", "32910.4"):
        assert never not in texts


def test_a_site_in_beijing_has_the_rules_of_beijing_and_of_the_country() -> None:
    there = found(site())
    assert {"cn_bj_2026", "gb40879_2021", "cbrc_13fyp", "cn_national_green_2025"} <= set(there)
    assert not {"cn_sh", "de_enefg", "eu_label", "sg_green_mark", "cn_bj_2021"} & set(there)
    assert all(not a.missing for a in there.values())


def test_the_older_rule_of_beijing_applies_to_days_before_2026() -> None:
    assert found(site(), date(2025, 12, 31))["cn_bj_2021"].status is Status.IN_FORCE
    before = found(site(), date(2025, 12, 31))["cn_bj_2026"]
    assert before.status is Status.ADOPTED
    assert [(t.on, t.cause) for t in before.turns] == [("2026-01-01", Cause.IN_FORCE)]
    assert found(site(), date(2026, 1, 1))["cn_bj_2026"].status is Status.IN_FORCE
    assert "cn_bj_2021" not in found(site(), date(2026, 1, 1))


def test_a_site_that_states_no_place_is_asked_for_it() -> None:
    nowhere = found(site("", profiles=("cbrc_13fyp",)))
    assert nowhere["iso_30134_2_2026"].missing == ()
    assert nowhere["cbrc_13fyp"].missing == ("jurisdiction",)
    assert set(nowhere) == {"iso_30134_2_2026", "cbrc_13fyp"}  # and not the law of every country
    assert found(site("CN"))["cn_bj_2026"].missing == ("jurisdiction",)
    assert found(site("CN"))["gb40879_2021"].missing == ()


def test_a_draft_stays_a_draft_and_is_not_judged_by() -> None:
    german = found(site("DE", design=Design(it_capacity_kw=900)))
    assert german["eu_label"].status is Status.DRAFT
    assert german["de_enefg_amendment"].status is Status.DRAFT
    assert [(t.on, t.cause) for t in german["eu_label"].turns] == [("2030", Cause.MILESTONE)]
    assert german["de_enefg_amendment"].limit_pue is None


@pytest.mark.parametrize(
    ("started", "limit", "turns"),
    [
        (date(2017, 6, 1), None, [("2027-07-01", 1.5), ("2030-07-01", 1.3)]),
        (date(2026, 8, 1), None, [("2028-08-01", 1.2)]),
        (None, None, []),
    ],
)
def test_dates_of_limits_follow_from_the_profile(
    started: date | None, limit: float | None, turns: list[tuple[str, float]]
) -> None:
    law = found(site("DE", started_on=started, profiles=("de_enefg",)))["de_enefg"]
    assert law.limit_pue == limit
    assert [(t.on, t.pue) for t in law.turns if t.cause is Cause.LIMIT] == turns
    assert law.is_judged is True


def test_the_limit_in_force_changes_with_the_day() -> None:
    old = site("DE", started_on=date(2017, 6, 1))
    assert found(old, date(2027, 6, 30))["de_enefg"].limit_pue is None
    assert found(old, date(2027, 7, 1))["de_enefg"].limit_pue == 1.5
    assert found(old, date(2030, 7, 1))["de_enefg"].limit_pue == 1.3


def test_a_report_that_is_due_every_year_is_due_again_after_its_day() -> None:
    where = site("DE", design=Design(it_capacity_kw=500))
    due = [found(where, on)["eu_2024_1364"].turns[0].on for on in (date(2027, 5, 14), date(2027, 5, 15))]
    assert due == ["2027-05-15", "2028-05-15"]


def test_size_decides_and_is_asked_for_where_it_is_not_stated() -> None:
    assert "eu_2024_1364" not in found(site("DE", design=Design(it_capacity_kw=499.9)))
    assert found(site("DE"))["eu_2024_1364"].missing == ("design.it_capacity_kw",)
    edge = {"traits": (SiteTrait.EDGE,)}
    assert "gb40879_2021" not in found(site(design=Design(racks_total=100), **edge))
    assert found(site(design=Design(racks_total=101), **edge))["gb40879_2021"].missing == ()
    assert found(site(**edge))["gb40879_2021"].missing == ("design.racks_total",)


def test_conditions_of_the_national_programme_are_held_against_the_sites_figures() -> None:
    told = (
        Declared(indicator="racks_in_use", value=144, date=date(2026, 6, 30), evidence="inventory"),
        Declared(indicator="gbt44989_grade", value=3, date=date(2026, 6, 30), evidence="certificate"),
    )
    where = site(design=Design(racks_total=240), declared=told)
    judged = {j.condition.indicator: j for j in found(where, pue=1.3)["cn_national_green_2025"].conditions}
    assert {name: j.standing for name, j in judged.items()} == {
        "annual_pue": Standing.MET,  # met exactly
        "gb40879_grade": Standing.MET,
        "gbt44989_grade": Standing.MISSED,
        "racks_used_ratio": Standing.MET,  # 144 of 240 is 60 %
    }
    unknown = {j.condition.indicator: j for j in found(site())["cn_national_green_2025"].conditions}
    assert {j.standing for j in unknown.values()} == {Standing.UNKNOWN}


def test_the_grade_is_the_best_that_pue_reaches() -> None:
    for pue, grade in ((1.2, 1), (1.21, 2), (1.3, 2), (1.5, 3), (1.51, None)):
        assert values_of(pue, site(), BANK, PROFILES, TODAY)["gb40879_grade"] == grade


def test_a_pue_that_reaches_no_grade_misses_it() -> None:
    (judged,) = found(site(), pue=1.51)["gb40879_2021"].conditions
    assert (judged.value, judged.standing) == (None, Standing.MISSED)


def test_a_row_that_nobody_verified_is_not_judged_by() -> None:
    row = Regulation(
        id="x", name="X", conditions=(Condition(indicator="annual_pue", at_most=1.3),), source="hearsay"
    )
    (applied,) = applying([row], site(), BANK, PROFILES, TODAY, values={"annual_pue": 1.2})
    assert applied.conditions[0].standing == "unverified"
    assert not BY_ID["cn_sh"].verified
    assert not BY_ID["gb40879_revision"].verified


def test_dates_and_milestones_are_checked() -> None:
    with pytest.raises(ValueError, match="valid_to must be after"):
        Regulation(id="x", name="X", valid_from=TODAY, valid_to=TODAY, source="x")
    with pytest.raises(ValueError, match="month and day"):
        Regulation(id="x", name="X", yearly_on="15 May", source="x")
    with pytest.raises(ValueError, match="needs at_least or at_most"):
        Condition(indicator="annual_pue")
    with pytest.raises(ValueError, match="write a day, month or year"):
        Milestone(on="soon", says="x")
