"""Targets of the indicators beside PUE."""

from __future__ import annotations

from datetime import date

import pytest

from app.domain.data.indicator_targets import INDICATOR_TARGETS
from app.domain.emissions import EmissionChoice, EmissionFactor, emission_factor
from app.domain.limits import ScoringBand, bands_on
from app.domain.reference import BUILT_IN, Reference
from app.domain.site import Declared, Institution, InstitutionClass
from app.domain.targets import Standing, Target, declared_on, targets_for

TODAY = date(2026, 10, 31)


def bank(kind: str) -> Institution:
    return Institution(id="b", institution_class=InstitutionClass(kind))


@pytest.mark.parametrize(("kind", "level"), [("state_owned", 3), ("joint_stock", 3), ("other", 2)])
def test_the_class_of_the_institution_sets_the_maturity_level(kind: str, level: int) -> None:
    targets = targets_for(INDICATOR_TARGETS, bank(kind), TODAY)
    assert targets["maturity_level"].at_least == level
    assert targets["automation_share_percent"].at_least == 75


def test_standing_against_both_ends() -> None:
    band = Target(indicator="x", at_least=30, at_most=60, valid_from=TODAY, source="s")
    standings = [band.standing(v) for v in (29.9, 30, 60, 60.1, None)]
    assert standings == [Standing.MISSED, Standing.MET, Standing.MET, Standing.MISSED, Standing.UNKNOWN]


def test_a_later_target_replaces_the_earlier_one_from_its_first_day() -> None:
    old = Target(indicator="x", at_least=1, valid_from=date(2020, 1, 1), source="s")
    new = Target(indicator="x", at_least=2, valid_from=TODAY, valid_to=date(2030, 1, 1), source="s")
    assert targets_for([new, old], bank("other"), TODAY)["x"] is new
    assert targets_for([new, old], bank("other"), date(2026, 10, 30))["x"] is old
    assert targets_for([new, old], bank("other"), date(2030, 1, 1))["x"] is old


def test_the_latest_declaration_up_to_the_day_counts() -> None:
    first, second = (
        Declared(indicator="x", value=v, date=d, evidence="e")
        for v, d in ((1.0, date(2025, 1, 1)), (2.0, TODAY))
    )
    assert declared_on([second, first], TODAY)["x"].value == 2
    assert declared_on([second, first], date(2026, 1, 1))["x"].value == 1
    assert declared_on([second], date(2026, 1, 1)) == {}


def test_a_target_without_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="at_least or at_most"):
        Target(indicator="x", valid_from=TODAY, source="s")


def test_an_operators_rows_take_the_place_of_the_built_in_ones() -> None:
    of_2023 = EmissionFactor(region="CN", year=2023, basis="grid_average", kg_per_kwh=0.5, source="corrected")
    of_2024 = EmissionFactor(region="CN", year=2024, basis="grid_average", kg_per_kwh=0.4, source="new")
    more = Target(indicator="automation_share_percent", at_least=80, valid_from=TODAY, source="own")
    own = BUILT_IN.with_own(Reference(emission_factors=(of_2023, of_2024), indicator_targets=(more,)))
    used = [
        emission_factor(own.emission_factors, EmissionChoice(), year) for year in (2022, 2023, 2024, 2026)
    ]
    assert [f.kg_per_kwh for f in used] == [0.5366, 0.5, 0.4, 0.4]
    assert targets_for(own.indicator_targets, bank("other"), TODAY)["automation_share_percent"] is more
    before = targets_for(own.indicator_targets, bank("other"), date(2026, 10, 30))
    assert before["automation_share_percent"].at_least == 75
    assert own.scoring_bands == BUILT_IN.scoring_bands


def test_scoring_bands_are_dated() -> None:
    own = ScoringBand(indicator="pue", none_at=1.4, full_at=1.2, valid_from=TODAY, source="own")
    bands = BUILT_IN.with_own(Reference(scoring_bands=(own,))).scoring_bands
    assert bands_on(bands, TODAY)["pue"] is own
    assert bands_on(bands, date(2026, 10, 30))["pue"].none_at == 1.30
    assert bands_on(bands, date(2024, 1, 1)) == {}


def test_an_emission_factor_is_a_number_of_a_year() -> None:
    good = {"region": "CN", "basis": "own", "source": "s"}
    for kg in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="allowed is a number from 0"):
            EmissionFactor(**good, year=2024, kg_per_kwh=kg)
    for year in (1989, 2200):
        with pytest.raises(ValueError, match="allowed are 1990 to 2199"):
            EmissionFactor(**good, year=year, kg_per_kwh=0.5)
    assert [EmissionFactor(**good, year=y, kg_per_kwh=0).year for y in (1990, 2199)] == [1990, 2199]
