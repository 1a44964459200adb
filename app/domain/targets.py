"""Targets of indicators beside PUE, for the compliance matrix: measured and declared ones alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from app.domain.site import Declared, Institution, InstitutionClass

_STRICT = {"extra": "forbid"}


class Standing(StrEnum):
    """How an indicator stands against its target."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"
    """Neither measured nor declared."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Target of an indicator, with its scope and validity."""

    __pydantic_config__ = _STRICT
    indicator: str
    """Name under which it is declared or measured; the unit is part of it. E.g. ``wue``."""
    at_least: float | None = None
    """Lowest value that meets it; this or `at_most` is needed. E.g. ``3``."""
    at_most: float | None = None
    """Highest value that meets it. E.g. ``1.6``."""
    institution_classes: tuple[InstitutionClass, ...] = ()
    """Classes it holds for; empty: all. E.g. ``[state_owned, joint_stock]``."""
    valid_from: date
    """First day on which it holds. E.g. ``2027-01-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2029-01-01``."""
    source: str
    """Where it comes from. E.g. ``Group rule 7``."""
    verified: bool = False
    """Whether somebody compared it with its source."""

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"target of {self.indicator} needs at_least or at_most")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")

    def holds(self, institution: Institution, on: date) -> bool:
        """Whether it holds for the institution on the day."""
        return (
            self.valid_from <= on
            and (self.valid_to is None or on < self.valid_to)
            and (not self.institution_classes or institution.institution_class in self.institution_classes)
        )

    def standing(self, value: float | None) -> Standing:
        """A value against the target; the ends count as met."""
        if value is None:
            return Standing.UNKNOWN
        low_enough = self.at_most is None or value <= self.at_most
        high_enough = self.at_least is None or value >= self.at_least
        return Standing.MET if low_enough and high_enough else Standing.MISSED


def targets_for(targets: Iterable[Target], institution: Institution, on: date) -> dict[str, Target]:
    """Targets that hold, by indicator; of several for one indicator the latest counts."""
    holding = (t for t in targets if t.holds(institution, on))
    return {t.indicator: t for t in sorted(holding, key=lambda t: t.valid_from)}


def declared_on(declared: Iterable[Declared], on: date) -> dict[str, Declared]:
    """The latest declaration of each indicator up to and including a day."""
    known = (d for d in declared if d.date <= on)
    return {d.indicator: d for d in sorted(known, key=lambda d: d.date)}
