"""Dated data beside the PUE limits: emission factors, targets, scoring bands, values of the plant.

The built-in rows are in ``domain/data``; the site file may replace and add rows, each with its source.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from app.domain.data.emission_factors import EMISSION_FACTORS
from app.domain.data.indicator_targets import INDICATOR_TARGETS
from app.domain.data.limit_profiles import SCORING_BANDS
from app.domain.data.plant_values import PLANT_ASSUMPTIONS, PLANT_TYPICALS
from app.domain.data.regulations import REGULATIONS
from app.domain.data.surcharges import SURCHARGES
from app.domain.emissions import EmissionFactor
from app.domain.limits import ScoringBand
from app.domain.regulations import Regulation
from app.domain.surcharge_rule import SurchargeRule
from app.domain.targets import Target
from app.domain.typical import PlantAssumption, PlantTypical

_STRICT = {"extra": "forbid"}
_Row = TypeVar("_Row")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Rows with which figures are computed and judged."""

    __pydantic_config__ = _STRICT
    emission_factors: tuple[EmissionFactor, ...] = ()
    indicator_targets: tuple[Target, ...] = ()
    scoring_bands: tuple[ScoringBand, ...] = ()
    plant_typicals: tuple[PlantTypical, ...] = ()
    plant_assumptions: tuple[PlantAssumption, ...] = ()
    surcharges: tuple[SurchargeRule, ...] = ()
    regulations: tuple[Regulation, ...] = ()

    def with_own(self, own: Reference) -> Reference:
        """These rows with an operator's own: one for the same thing and day or year takes the place."""
        return Reference(
            emission_factors=_merged(
                self.emission_factors, own.emission_factors, lambda f: (f.region, f.basis, f.year)
            ),
            indicator_targets=_merged(
                self.indicator_targets,
                own.indicator_targets,
                lambda t: (t.indicator, frozenset(t.institution_classes), t.valid_from),
            ),
            scoring_bands=_merged(
                self.scoring_bands, own.scoring_bands, lambda b: (b.indicator, b.valid_from)
            ),
            plant_typicals=_merged(
                self.plant_typicals, own.plant_typicals, lambda t: (t.indicator, t.valid_from)
            ),
            plant_assumptions=_merged(
                self.plant_assumptions, own.plant_assumptions, lambda a: (a.name, a.valid_from)
            ),
            surcharges=_merged(self.surcharges, own.surcharges, lambda r: r.id),
            regulations=_merged(self.regulations, own.regulations, lambda r: r.id),
        )


def _merged(
    rows: tuple[_Row, ...], own: tuple[_Row, ...], key: Callable[[_Row], Hashable]
) -> tuple[_Row, ...]:
    return tuple({key(row): row for row in (*rows, *own)}.values())


BUILT_IN = Reference(
    emission_factors=EMISSION_FACTORS,
    indicator_targets=INDICATOR_TARGETS,
    scoring_bands=SCORING_BANDS,
    plant_typicals=PLANT_TYPICALS,
    plant_assumptions=PLANT_ASSUMPTIONS,
    surcharges=SURCHARGES,
    regulations=REGULATIONS,
)
"""What is shipped."""
