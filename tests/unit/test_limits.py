"""Limits as dated data, uncertainty and verdicts."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import pytest

from app.domain.data.limit_profiles import LIMIT_PROFILES, SCORING_BANDS
from app.domain.limits import (
    GradeReached,
    Limit,
    LimitProfile,
    LimitRule,
    Outcome,
    ReportingDuty,
    ScoringBand,
    bands_on,
    combined_class_percent,
    governing,
    grade_for,
    grades_reached,
    limit_problems,
    limits_for,
    merged_profiles,
    must_report,
    pue_uncertainty,
    pue_uncertainty_of_sum,
    reporting_duties,
    verdict,
)
from app.domain.site import Design, Institution, InstitutionClass, Site, SiteLimit, SiteTrait
from app.errors import NotFound, SeriesError

PROFILES = merged_profiles(LIMIT_PROFILES)
TODAY = date(2026, 10, 31)


def site(**changes: object) -> Site:
    return replace(Site(id="sh1", institution="bank", time_zone="Asia/Shanghai"), **changes)


def bank(kind: str = "joint_stock") -> Institution:
    return Institution(id="bank", institution_class=InstitutionClass(kind))


def pues(a_site: Site, on: date = TODAY, kind: str = "joint_stock") -> list[float]:
    return [limit.pue for limit in limits_for(a_site, bank(kind), PROFILES, on)]


@pytest.mark.parametrize(("kind", "limit"), [("state_owned", 1.5), ("joint_stock", 1.5), ("other", 2.0)])
def test_the_class_of_the_institution_sets_the_limit(kind: str, limit: float) -> None:
    assert pues(site(), kind=kind) == [limit]


def test_a_profile_with_grades_judges_by_its_mandatory_one_and_names_the_grade_reached() -> None:
    gb = PROFILES["gb40879_2021"]
    assert pues(site(profiles=("gb40879_2021",))) == [1.5]
    assert [grade_for(p, site(), bank(), gb, TODAY) for p in (1.19, 1.2, 1.29, 1.5, 1.51)] == [
        "1",
        "1",
        "2",
        "3",
        None,
    ]


@pytest.mark.parametrize(
    ("pue", "uncertainty", "grade", "is_certain"),
    [(1.25, 0.01, "2", True), (1.29, 0.02, "2", False), (1.6, 0.01, None, True), (1.25, None, "2", False)],
)
def test_a_grade_is_certain_where_the_uncertainty_stays_within_it(
    pue: float, uncertainty: float | None, grade: str | None, is_certain: bool
) -> None:
    graded = site(profiles=("cbrc_13fyp", "gb40879_2021"))
    found = grades_reached(pue, uncertainty, graded, bank(), PROFILES, TODAY)
    assert found == (GradeReached("gb40879_2021", grade, is_certain),)
    assert grades_reached(None, None, graded, bank(), PROFILES, TODAY) == ()
    assert grades_reached(pue, uncertainty, site(), bank(), PROFILES, TODAY) == ()
    edge = replace(graded, traits=(SiteTrait.EDGE,), design=Design(racks_total=100))
    assert grades_reached(pue, uncertainty, edge, bank(), PROFILES, TODAY) == ()


def test_a_small_edge_site_is_outside_the_national_standard() -> None:
    edge = site(profiles=("gb40879_2021",), traits=(SiteTrait.EDGE,))
    assert pues(replace(edge, design=Design(racks_total=100))) == []
    assert pues(replace(edge, design=Design(racks_total=101))) == [1.5]
    assert pues(site(profiles=("gb40879_2021",), design=Design(racks_total=50))) == [1.5]


def test_nothing_holds_before_its_first_day() -> None:
    assert pues(site(profiles=("gb40879_2021",)), date(2022, 10, 31)) == []
    assert pues(site(profiles=("gb40879_2021",)), date(2022, 11, 1)) == [1.5]


@pytest.mark.parametrize(
    ("started_on", "on", "expected"),
    [
        (date(2020, 1, 1), date(2027, 6, 30), []),
        (date(2020, 1, 1), date(2027, 7, 1), [1.5]),
        (date(2026, 6, 30), date(2030, 6, 30), [1.5]),
        (date(2026, 6, 30), date(2030, 7, 1), [1.3]),
        (date(2026, 7, 1), date(2028, 6, 30), []),
        (date(2026, 7, 1), date(2028, 7, 1), [1.2]),
        (date(2028, 2, 29), date(2030, 2, 28), []),
        (date(2028, 2, 29), date(2030, 3, 1), [1.2]),
    ],
)
def test_the_start_of_operation_decides(started_on: date, on: date, expected: list[float]) -> None:
    assert pues(site(profiles=("de_enefg",), started_on=started_on), on) == expected


def test_a_profile_that_needs_the_start_says_so() -> None:
    problems = limit_problems(site(profiles=("de_enefg",)), bank(), PROFILES, TODAY)
    assert problems == ("profile de_enefg depends on the start of operation; add started_on to site sh1",)


def test_one_rule_that_needs_the_start_is_enough_to_ask_for_it() -> None:
    always = LimitRule(pue=1.5, valid_from=date(2026, 1, 1))
    dated = replace(always, pue=1.3, started_from=date(2026, 7, 1))
    mixed = LimitProfile(id="own", name="Own", source="s", rules=(always, dated))
    said = limit_problems(site(profiles=("own",)), bank(), {"own": mixed}, TODAY)
    assert said == ("profile own depends on the start of operation; add started_on to site sh1",)
    assert (
        limit_problems(site(profiles=("own",)), bank(), {"own": replace(mixed, rules=(always,))}, TODAY) == ()
    )


def test_a_hub_node_has_the_lower_limit() -> None:
    new = site(profiles=("cn_new_large_2024",))
    assert pues(new) == [1.25]
    assert pues(replace(new, traits=(SiteTrait.HUB_NODE,))) == [1.2]


def test_several_profiles_judge_one_site() -> None:
    several = site(profiles=("cbrc_13fyp", "gb40879_2021", "cn_national_green_2025", "eu_2024_1364"))
    assert pues(several, kind="other") == [2.0, 1.5, 1.3]


def test_a_stricter_site_limit_stands_first_and_governs() -> None:
    limits = limits_for(site(limit=SiteLimit(pue=1.4)), bank(), PROFILES, TODAY)
    assert [(limit.profile, limit.pue) for limit in limits] == [("site", 1.4), ("cbrc_13fyp", 1.5)]
    assert governing(limits) == limits[0]


def test_a_laxer_site_limit_needs_a_reason() -> None:
    lax = site(limit=SiteLimit(pue=1.8))
    assert pues(lax) == [1.5]
    assert limit_problems(lax, bank(), PROFILES, TODAY) == (
        "limit 1.8 is laxer than 1.5 of cbrc_13fyp; lower it or record a reason",
    )
    as_strict = site(limit=SiteLimit(pue=1.5))
    assert pues(as_strict) == [1.5, 1.5]
    assert limit_problems(as_strict, bank(), PROFILES, TODAY) == ()
    agreed = site(limit=SiteLimit(pue=1.8, reason="Exemption until the move, letter of 2026-03-02"))
    assert pues(agreed) == [1.8, 1.5]
    assert limit_problems(agreed, bank(), PROFILES, TODAY) == ()
    governed_by = governing(limits_for(agreed, bank(), PROFILES, TODAY))
    assert governed_by is not None
    assert governed_by.reason.startswith("Exemption")


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="from 1"):
        SiteLimit(pue=0.9)
    with pytest.raises(ValueError, match="from 1"):
        LimitRule(pue=math.nan, valid_from=TODAY)


def test_an_unknown_profile_names_the_known_ones() -> None:
    wrong = site(profiles=("cbrc",))
    with pytest.raises(NotFound, match="known are cbrc_13fyp, cn_national"):
        limits_for(wrong, bank(), PROFILES, TODAY)
    assert "unknown limit profile 'cbrc'" in limit_problems(wrong, bank(), PROFILES, TODAY)[0]


def test_the_operator_replaces_a_profile_by_its_id() -> None:
    own = LimitProfile(
        id="cbrc_13fyp", name="n", source="letter", rules=(LimitRule(pue=1.4, valid_from=date(2026, 1, 1)),)
    )
    profiles = merged_profiles(LIMIT_PROFILES, [own])
    (limit,) = limits_for(site(), bank(), profiles, TODAY)
    assert (limit.pue, limit.source, limit.verified) == (1.4, "letter", False)


def test_without_limits_nothing_governs() -> None:
    assert governing(()) is None


@pytest.mark.parametrize(("capacity_kw", "duty"), [(None, None), (499.0, False), (500.0, True)])
def test_reporting_duty(capacity_kw: float | None, duty: bool | None) -> None:
    designed = site(design=Design(it_capacity_kw=capacity_kw))
    assert must_report(designed, PROFILES["eu_2024_1364"]) is duty
    assert must_report(designed, PROFILES["cbrc_13fyp"]) is False
    named = replace(designed, profiles=("cbrc_13fyp", "eu_2024_1364"))
    assert reporting_duties(named, PROFILES) == (ReportingDuty("eu_2024_1364", 500.0, duty),)
    assert reporting_duties(designed, PROFILES) == ()


def test_uncertainty_of_one_percent_on_both_sides() -> None:
    assert pue_uncertainty(1.5, 1, 1) == pytest.approx(0.0212, abs=1e-4)
    assert pue_uncertainty_of_sum(1.5, 1, 1) == pytest.approx(0.00707, abs=1e-5)


def test_independent_meters_average_out() -> None:
    assert combined_class_percent([100, 100, 100, 100], [1, 1, 1, 1]) == pytest.approx(0.5)
    assert combined_class_percent([300, -100], [1, 1]) == pytest.approx(math.hypot(3, 1) / 2)
    assert math.isnan(combined_class_percent([1, -1], [1, 1]))
    with pytest.raises(SeriesError, match="one per meter"):
        combined_class_percent([1], [1, 2])


LIMIT = Limit("cbrc_13fyp", 1.5, None, None, "", True)


@pytest.mark.parametrize(
    ("pue", "uncertainty", "coverage", "expected", "plain"),
    [
        (1.42, 0.02, 1.0, "pass", "pass"),
        (1.49, 0.02, 1.0, "indeterminate", "pass"),
        (1.51, 0.02, 1.0, "indeterminate", "fail"),
        (1.53, 0.02, 1.0, "fail", "fail"),
        (1.5, 0.0, 1.0, "pass", "pass"),
        (1.2, 0.0, 0.89, "indeterminate", "pass"),
        (1.2, None, 1.0, "indeterminate", "pass"),
        (None, None, 1.0, "indeterminate", "indeterminate"),
        (math.nan, 0.1, 1.0, "indeterminate", "indeterminate"),
    ],
)
def test_verdicts(
    pue: float | None, uncertainty: float | None, coverage: float, expected: str, plain: str
) -> None:
    found = verdict(pue, uncertainty, coverage, LIMIT, 0.9)
    assert (found.verdict, found.plain) == (Outcome(expected), Outcome(plain))


def test_scoring_bands_are_linear_and_clipped() -> None:
    by_name = {band.indicator: band for band in SCORING_BANDS}
    assert [by_name["pue"].score(v) for v in (1.4, 1.3, 1.2, 1.1, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert by_name["it_load_ratio"].score(0.45) == pytest.approx(0.5)


def test_a_limit_is_a_number_from_one() -> None:
    for bad in (0.99, math.inf, math.nan):
        with pytest.raises(ValueError, match="allowed is a number from 1"):
            LimitRule(pue=bad, valid_from=date(2026, 1, 1))
    assert LimitRule(pue=1, valid_from=date(2026, 1, 1)).pue == 1


@pytest.mark.parametrize("ends", [(math.inf, 1.1), (1.3, -math.inf), (math.nan, 1.1), (1.3, math.nan)])
def test_a_scoring_band_reaches_from_a_number_to_a_number(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be numbers"):
        ScoringBand(
            indicator="pue", none_at=ends[0], full_at=ends[1], valid_from=date(2025, 1, 1), source="s"
        )


def test_a_scoring_band_ends_on_its_last_day() -> None:
    first = ScoringBand(
        indicator="pue",
        none_at=1.3,
        full_at=1.1,
        valid_from=date(2025, 1, 1),
        valid_to=date(2026, 1, 1),
        source="s",
    )
    later = replace(first, full_at=1.05, valid_from=date(2026, 1, 1), valid_to=None)
    assert bands_on([first], date(2024, 12, 31)) == {}
    assert bands_on([first, later], date(2025, 1, 1)) == {"pue": first}
    assert bands_on([first, later], date(2025, 12, 31)) == {"pue": first}
    assert bands_on([first, later], date(2026, 1, 1)) == {"pue": later}
    assert bands_on([first], date(2026, 1, 1)) == {}
