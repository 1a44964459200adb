"""Emission factors of electricity, fuel conversions, source-energy weights and survey benchmarks."""

from __future__ import annotations

from app.domain.emissions import Conversion, EmissionFactor

_OF_2021 = "Announcement 12 of 2024, Ministry of Ecology and Environment and National Bureau of Statistics"
_OF_2022 = "Announcement of 2024-12-20, Ministry of Ecology and Environment and National Bureau of Statistics"
_OF_2023 = "Announcement on 2023, Ministry of Ecology and Environment and National Bureau of Statistics"

EMISSION_FACTORS: tuple[EmissionFactor, ...] = (
    EmissionFactor(
        region="CN", year=2021, basis="grid_average", kg_per_kwh=0.5568, source=_OF_2021, verified=True
    ),
    EmissionFactor(
        region="CN", year=2021, basis="residual_mix", kg_per_kwh=0.5942, source=_OF_2021, verified=True
    ),
    EmissionFactor(
        region="CN", year=2022, basis="grid_average", kg_per_kwh=0.5366, source=_OF_2022, verified=True
    ),
    EmissionFactor(
        region="CN", year=2023, basis="grid_average", kg_per_kwh=0.5306, source=_OF_2023, verified=False
    ),
    EmissionFactor(
        region="CN", year=2023, basis="residual_mix", kg_per_kwh=0.6096, source=_OF_2023, verified=False
    ),
)
"""Factors of data years; ``residual_mix`` leaves out non-fossil energy that was traded on the market."""

FUEL_KWH_PER_UNIT: tuple[Conversion, ...] = (
    Conversion(what="diesel", unit="l", factor=9.9, source="EN 50600-4", verified=True),
    Conversion(what="natural_gas", unit="m3", factor=10.5, source="EN 50600-4", verified=True),
    Conversion(what="hydrogen", unit="kg", factor=38.9, source="EN 50600-4", verified=True),
    Conversion(what="bioethanol", unit="l", factor=6.0, source="EN 50600-4", verified=True),
)
"""Energy content of fuels. [kWh per unit]"""

SOURCE_ENERGY_WEIGHTS: tuple[Conversion, ...] = tuple(
    Conversion(what=what, unit="kwh", factor=factor, source="The Green Grid", verified=False)
    for what, factor in (
        ("electricity", 1.0),
        ("gas", 0.31),
        ("fuel_oil", 0.30),
        ("chilled_water", 0.31),
        ("hot_water", 0.40),
        ("steam", 0.43),
    )
)
"""Weights by which an energy carrier counts against electricity. Off unless a site asks for them."""

SURVEY_MEAN_PUE: dict[int, float] = {
    2007: 2.50,
    2014: 1.65,
    2019: 1.67,
    2020: 1.59,
    2021: 1.57,
    2022: 1.55,
    2023: 1.58,
    2025: 1.54,
}
"""Mean PUE by year in the survey of the Uptime Institute, for context in a report."""
