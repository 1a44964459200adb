"""PUE limits by profile. The shape of a row is :class:`app.domain.limits.LimitProfile`."""

from __future__ import annotations

from datetime import date

from app.domain.limits import LimitProfile, LimitRule, ScoringBand
from app.domain.site import InstitutionClass, SiteTrait

CBRC_13FYP = LimitProfile(
    id="cbrc_13fyp",
    name="Bank IT guideline 2016-2020, chapter on green and efficient data centres",
    source="Supervisory guideline on information technology of banking institutions, 13th five-year plan",
    verified=True,
    note="The plan ended in 2020; its limits stay the yardstick until another profile replaces them.",
    rules=(
        LimitRule(
            pue=1.5,
            valid_from=date(2016, 7, 15),
            institution_classes=(InstitutionClass.STATE_OWNED, InstitutionClass.JOINT_STOCK),
        ),
        LimitRule(pue=2.0, valid_from=date(2016, 7, 15), institution_classes=(InstitutionClass.OTHER,)),
    ),
)

GB40879_2021 = LimitProfile(
    id="gb40879_2021",
    name="GB 40879-2021, maximum allowable values of energy efficiency for data centres",
    source="GB 40879-2021",
    verified=True,
    rules=(
        LimitRule(
            grade="1", pue=1.20, valid_from=date(2022, 11, 1), excludes_edge_racks=100, mandatory=False
        ),
        LimitRule(
            grade="2", pue=1.30, valid_from=date(2022, 11, 1), excludes_edge_racks=100, mandatory=False
        ),
        LimitRule(grade="3", pue=1.50, valid_from=date(2022, 11, 1), excludes_edge_racks=100),
    ),
)

CN_NATIONAL_GREEN_2025 = LimitProfile(
    id="cn_national_green_2025",
    name="National green data centre programme, 2025",
    source="National green data centre evaluation 2025; asks GB 40879 grade 2 or better as well",
    verified=True,
    rules=(LimitRule(grade="gb40879_2021:2", pue=1.30, valid_from=date(2025, 1, 1)),),
)

CN_NEW_LARGE_2024 = LimitProfile(
    id="cn_new_large_2024",
    name="New large data centres, by the end of 2025",
    source="Special action plan for green and low-carbon data centres, 2024",
    verified=True,
    note="Name it only for a site that is new and large; hub nodes carry the trait hub_node.",
    rules=(
        LimitRule(pue=1.25, valid_from=date(2025, 12, 31), without_trait=SiteTrait.HUB_NODE),
        LimitRule(pue=1.20, valid_from=date(2025, 12, 31), with_trait=SiteTrait.HUB_NODE),
    ),
)

DE_ENEFG = LimitProfile(
    id="de_enefg",
    name="Energieeffizienzgesetz, data centres",
    source="Energieeffizienzgesetz (EnEfG), Germany",
    verified=True,
    rules=(
        LimitRule(
            pue=1.5,
            valid_from=date(2027, 7, 1),
            valid_to=date(2030, 7, 1),
            started_before=date(2026, 7, 1),
        ),
        LimitRule(pue=1.3, valid_from=date(2030, 7, 1), started_before=date(2026, 7, 1)),
        LimitRule(pue=1.2, valid_from=date(2026, 7, 1), started_from=date(2026, 7, 1), grace_years=2),
    ),
)

EU_2024_1364 = LimitProfile(
    id="eu_2024_1364",
    name="EU data centre reporting",
    source="Commission Delegated Regulation (EU) 2024/1364",
    verified=True,
    reporting_from_it_kw=500.0,
    note="A duty to report; no limit.",
)

LIMIT_PROFILES: tuple[LimitProfile, ...] = (
    CBRC_13FYP,
    GB40879_2021,
    CN_NATIONAL_GREEN_2025,
    CN_NEW_LARGE_2024,
    DE_ENEFG,
    EU_2024_1364,
)
"""Every profile that is shipped."""

SCORING_BANDS: tuple[ScoringBand, ...] = tuple(
    ScoringBand(
        indicator=indicator,
        none_at=none_at,
        full_at=full_at,
        valid_from=date(2025, 1, 1),
        source="National green data centre programme, second-hand",
        verified=False,
    )
    for indicator, none_at, full_at in (
        ("pue", 1.30, 1.10),
        ("it_load_ratio", 0.30, 0.60),
        ("racks_used_ratio", 0.60, 0.80),
    )
)
"""Bands of the national green data centre programme; neither they nor their day were compared with it."""
