"""Emission factors of electricity, conversions of fuels, and which of them a site uses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import NotFound

_STRICT = {"extra": "forbid"}


CARBON_FOOTPRINT = "carbon_footprint"


def check_basis(basis: str) -> None:
    """Raise ValueError for the carbon footprint of electricity: another series, never mixed with factors."""
    if basis.strip().lower().replace("-", "_").replace(" ", "_") == CARBON_FOOTPRINT:
        raise ValueError(
            f"basis {basis!r}: the carbon footprint of electricity counts its whole life and is another "
            "series; emissions go by an emission factor, such as grid_average or residual_mix"
        )


@dataclass(frozen=True, kw_only=True)
class EmissionChoice:
    """Which emission factors a site uses."""

    __pydantic_config__ = _STRICT
    region: str = "CN"
    """Region of the grid factor. E.g. ``CN``."""
    basis: str = "grid_average"
    """``grid_average`` or ``residual_mix``, or one that `emission_factors` adds. E.g. ``residual_mix``."""
    generator_kg_per_kwh: float | None = None
    """Emissions of the generators per kWh at their output. [kgCO2e/kWh] E.g. ``0.8``."""

    def __post_init__(self) -> None:
        check_basis(self.basis)


@dataclass(frozen=True, kw_only=True)
class EmissionFactor:
    """Emissions per kWh of electricity in one data year."""

    __pydantic_config__ = _STRICT
    region: str
    """Region, as the sites' `emissions.region` names it. E.g. ``CN``."""
    year: int
    """Year of the data, not of the announcement. E.g. ``2024``."""
    basis: str
    """``grid_average``, ``residual_mix`` or a name of your own. E.g. ``grid_average``."""
    kg_per_kwh: float
    """Emissions per kWh of electricity. [kgCO2e/kWh] E.g. ``0.52``."""
    source: str
    """Announcement or document. E.g. ``Announcement 1 of 2027``."""
    verified: bool = False
    """Whether somebody compared it with its source."""

    def __post_init__(self) -> None:
        check_basis(self.basis)
        if not 0 <= self.kg_per_kwh < math.inf:
            raise ValueError(f"kg_per_kwh {self.kg_per_kwh}; allowed is a number from 0")
        if not 1990 <= self.year <= 2199:
            raise ValueError(f"year {self.year}; allowed are 1990 to 2199, the year of the data")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Factor from an amount of an energy carrier to kWh."""

    __pydantic_config__ = _STRICT
    what: str
    unit: str
    factor: float
    source: str
    verified: bool = False


def emission_factor(factors: Iterable[EmissionFactor], choice: EmissionChoice, year: int) -> EmissionFactor:
    """The factor to use for the energy of a year: of its own data year, else of the latest before.

    Factors appear years after their data year; the one that was used stands beside the figure.

    Raises
    ------
    NotFound
        If there is none of this region and basis up to that year.
    """
    fitting = [f for f in factors if (f.region, f.basis) == (choice.region, choice.basis) and f.year <= year]
    if not fitting:
        raise NotFound(
            f"no emission factor {choice.basis} of {choice.region} up to {year}; "
            "add one under emission_factors, or choose another region or basis"
        )
    return max(fitting, key=lambda factor: factor.year)
