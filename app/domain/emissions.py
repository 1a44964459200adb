"""Which emission factors a site uses."""

from __future__ import annotations

from dataclasses import dataclass

_STRICT = {"extra": "forbid"}


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
