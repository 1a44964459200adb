"""Dated values to which the figures of a plant are compared: typical ones, and assumptions behind estimates.

The built-in rows are in ``domain/data/plant_values.py``; the site file may replace and add rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from app.errors import NotFound

_STRICT = {"extra": "forbid"}


class Standing(StrEnum):
    """A value against the typical ones."""

    GOOD = "good"
    BETWEEN = "between"
    POOR = "poor"


@dataclass(frozen=True, kw_only=True)
class PlantTypical:
    """Typical good and poor values of a plant indicator."""

    __pydantic_config__ = _STRICT
    indicator: str
    """Name of the plant indicator. E.g. ``cooling_load_factor``."""
    good: float
    """Value from which it counts as good, in the indicator's unit. E.g. ``0.15``."""
    poor: float | None = None
    """Value from which it counts as poor; absent: none is poor. E.g. ``0.32``."""
    lower_is_better: bool = True
    """Whether a smaller value is the better one."""
    valid_from: date
    """First day on which it holds. E.g. ``2026-01-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2029-01-01``."""
    source: str
    """Where it comes from. E.g. ``Acceptance test of 2025``."""
    verified: bool = False
    """Whether somebody compared it with its source."""

    def __post_init__(self) -> None:
        sign = 1 if self.lower_is_better else -1
        if not math.isfinite(self.good) or not math.isfinite(self.poor or 0.0):
            raise ValueError(f"good and poor of {self.indicator} must be numbers")
        if self.poor is not None and sign * self.poor <= sign * self.good:
            side = "above" if self.lower_is_better else "below"
            raise ValueError(f"poor of {self.indicator} must be {side} good")
        _check_dates(self.valid_from, self.valid_to)

    def standing(self, value: float) -> Standing:
        """A value against good and poor; the ends belong to them."""
        sign = 1 if self.lower_is_better else -1
        if sign * value <= sign * self.good:
            return Standing.GOOD
        is_poor = self.poor is not None and sign * value >= sign * self.poor
        return Standing.POOR if is_poor else Standing.BETWEEN


@dataclass(frozen=True, kw_only=True)
class PlantAssumption:
    """A quantity that the meters do not tell, with the range in which it lies."""

    __pydantic_config__ = _STRICT
    name: str
    """Name of the assumption. E.g. ``set_point_saving_percent_per_k``."""
    low: float
    """Least value. E.g. ``1.5``."""
    typical: float
    """Value of the estimate. E.g. ``2.5``."""
    high: float
    """Largest value. E.g. ``3.5``."""
    valid_from: date
    """First day on which it holds. E.g. ``2026-01-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2029-01-01``."""
    source: str
    """Where it comes from. E.g. ``Data sheet of the chillers``."""
    verified: bool = False
    """Whether somebody compared it with its source."""

    def __post_init__(self) -> None:
        if not self.low <= self.typical <= self.high < math.inf or self.low == -math.inf:
            raise ValueError(f"{self.name} must be numbers with low <= typical <= high")
        _check_dates(self.valid_from, self.valid_to)


def typical_on(rows: Iterable[PlantTypical], indicator: str, on: date) -> PlantTypical | None:
    """The row of an indicator that holds on a day; of several the latest; None where there is none."""
    holding = [r for r in rows if r.indicator == indicator and _holds(r, on)]
    return max(holding, key=lambda row: row.valid_from, default=None)


def assumption_on(rows: Iterable[PlantAssumption], name: str, on: date) -> PlantAssumption:
    """The assumption that holds on a day; of several the latest.

    Raises
    ------
    NotFound
        If none holds.
    """
    holding = [r for r in rows if r.name == name and _holds(r, on)]
    if not holding:
        raise NotFound(f"no {name} holds on {on}; add one under plant_assumptions in the site file")
    return max(holding, key=lambda row: row.valid_from)


def _holds(row: PlantTypical | PlantAssumption, on: date) -> bool:
    return row.valid_from <= on and (row.valid_to is None or on < row.valid_to)


def _check_dates(valid_from: date, valid_to: date | None) -> None:
    if valid_to is not None and valid_to <= valid_from:
        raise ValueError("valid_to must be after valid_from")
