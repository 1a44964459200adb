"""Typical values of plant indicators, and assumptions behind estimates of savings.

The shapes of the rows are :class:`app.domain.typical.PlantTypical` and ``PlantAssumption``. Values whose
source was not at hand are marked as not verified; an operator's own data sheet or test is the better row.
"""

from __future__ import annotations

from datetime import date

from app.domain.typical import PlantAssumption, PlantTypical

_FROM = date(2010, 1, 1)
_LBNL = "Lawrence Berkeley National Laboratory, cooling plants (HPAC, May 2009): 0.8 good, 0.6 better"
_HERRLIN_RCI = "M. Herrlin, ASHRAE Transactions 111 (2005), Rack Cooling Index"
_ASHRAE_AIR = "ASHRAE thermal guidelines for data processing environments, class A1"
_VENDOR = "Vendor's reference values at full load"
_PRACTICE = "Common practice, no single source"

PLANT_TYPICALS: tuple[PlantTypical, ...] = (
    PlantTypical(
        indicator="cooling_load_factor",
        good=0.15,
        poor=0.32,
        valid_from=_FROM,
        source=_VENDOR,
        verified=True,
    ),
    PlantTypical(indicator="chiller_kw_per_ton", good=0.8, valid_from=_FROM, source=_LBNL, verified=True),
    PlantTypical(
        indicator="chiller_cop",
        good=4.4,
        lower_is_better=False,
        valid_from=_FROM,
        source=f"{_LBNL}; COP = 3.517 / (kW per ton)",
        verified=True,
    ),
    PlantTypical(
        indicator="ups_efficiency_ratio",
        good=0.96,
        poor=0.92,
        lower_is_better=False,
        valid_from=_FROM,
        source="Double-conversion UPS of current make, second-hand",
    ),
    PlantTypical(
        indicator="it_load_ratio",
        good=0.7,
        poor=0.3,
        lower_is_better=False,
        valid_from=_FROM,
        source="Points of the older national green data centre programme",
        verified=True,
    ),
    PlantTypical(
        indicator="rci_hi_percent",
        good=96,
        poor=90,
        lower_is_better=False,
        valid_from=_FROM,
        source=_HERRLIN_RCI,
    ),
    PlantTypical(
        indicator="rci_lo_percent",
        good=96,
        poor=90,
        lower_is_better=False,
        valid_from=_FROM,
        source=_HERRLIN_RCI,
    ),
    PlantTypical(
        indicator="tower_approach_k", good=5, valid_from=_FROM, source="Design practice, second-hand"
    ),
)
"""Indicators without a row are shown without a judgement."""


def _assumed(
    name: str, low: float, typical: float, high: float, source: str = _PRACTICE, *, verified: bool = False
) -> PlantAssumption:
    return PlantAssumption(
        name=name,
        low=low,
        typical=typical,
        high=high,
        valid_from=_FROM,
        source=source,
        verified=verified,
    )


PLANT_ASSUMPTIONS: tuple[PlantAssumption, ...] = (
    _assumed("rack_inlet_recommended_c", 18, 22.5, 27, _ASHRAE_AIR),
    _assumed("rack_inlet_allowable_c", 15, 22.5, 32, _ASHRAE_AIR),
    _assumed("free_cooling_approach_k", 5, 7, 9, "Tower approach of 5 K and heat exchanger, design practice"),
    _assumed("free_cooling_saved_ratio", 0.7, 0.85, 0.95),
    _assumed("set_point_saving_percent_per_k", 1.5, 2.5, 3.5, "Rule of thumb: 1 to 2 % per degree F"),
    _assumed("set_point_step_k", 1, 2, 3),
    _assumed("ups_poor_load_ratio", 0.4, 0.4, 0.4, "Efficiency falls below 40 % load, second-hand"),
    _assumed("fan_exponent", 1, 2, 3, "Fan laws: 3 without, about 2 with a constant pressure"),
    _assumed("fan_lowest_speed_ratio", 0.5, 0.5, 0.5),
    _assumed("lighting_unattended_ratio", 0.1, 0.3, 0.5),
    _assumed("idle_utilisation_percent", 5, 10, 15),
)
"""The range of a saving is computed from the ends of these ranges."""
