"""Energy saving measures as people declare them: what was done, where, when, and against which baseline.

Days are local days of the site; every span is half-open: its end is the first day that is no longer in it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Self

from app.domain.quantity import ENERGY_KINDS, IT_ROLES, OVERHEAD_ROLES, Role
from app.domain.site import Point, Site
from app.errors import SeriesError

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
_MOST = 1e12
"""Largest amount that can be declared; more is a slip of the keyboard."""
_FIRST, _LAST = date(1990, 1, 1), date(2199, 12, 30)
_FACILITY = "facility"


class Scope(StrEnum):
    """What the measurement boundary of a measure encloses."""

    FACILITY = _FACILITY
    """The non-IT energy of the whole data centre."""
    LOAD_CLASS = "class"
    """One overhead class, such as cooling."""
    METER = "meter"
    """The equipment behind one meter."""


class Option(StrEnum):
    """Option of the International Performance Measurement and Verification Protocol (IPMVP)."""

    B = "B"
    """Retrofit isolation, all parameters measured: the equipment has meters of its own."""
    C = "C"
    """Whole facility."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Measurement boundary: the energy in which a saving is looked for."""

    scope: Scope
    name: str = ""
    """The load class or the meter; empty for the whole facility."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The boundary that ``facility``, ``class:cooling`` or ``meter:ID`` names.

        Raises
        ------
        SeriesError
            If the text has none of these forms.
        """
        scope, _, name = text.strip().partition(":")
        if scope not in list(Scope) or (scope == _FACILITY) == bool(name):
            raise SeriesError(f"where: {text!r}; allowed are facility, class:CLASS and meter:ID")
        return cls(Scope(scope), name)

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}" if self.name else str(self.scope)

    @property
    def option(self) -> Option:
        """IPMVP option that measuring at this boundary is."""
        return Option.C if self.scope is Scope.FACILITY else Option.B

    def check(self, site: Site) -> None:
        """Refuse what the site does not have.

        Raises
        ------
        SeriesError
            If there is no such class or meter; the text says which there are.
        """
        if self.scope is Scope.LOAD_CLASS and self.name not in {role.value for role in OVERHEAD_ROLES}:
            known = ", ".join(role.value for role in OVERHEAD_ROLES)
            raise SeriesError(f"where: {self.name!r} is no class of non-IT energy; allowed are {known}")
        if self.scope is Scope.METER and self.name not in {m.id for m in site.meters}:
            raise SeriesError(f"where: site {site.id} has no meter {self.name!r}")
        if self.scope is Scope.METER and not self.points(site):
            raise SeriesError(
                f"where: meter {self.name!r} measures no non-IT energy; choose class: or facility"
            )

    def points(self, site: Site) -> tuple[Point, ...]:
        """The points whose energies sum to that of the class or of the meter, at an instant of the site.

        Of a meter these are the ones that count; of one that counts nowhere the first that has energy. Empty
        where the meter carries IT energy or that of the whole facility: a saving shows in neither.
        """
        if self.scope is Scope.LOAD_CLASS:
            return site.carriers(Role(self.name))
        own = [p for m in site.meters if m.id == self.name for p in m.points if p.kind in ENERGY_KINDS]
        if any(p.role not in (*OVERHEAD_ROLES, Role.NONE) for p in own):
            return ()
        return tuple(p for p in own if p.role is not Role.NONE) or tuple(own[:1])

    def meets(self, other: Boundary, site: Site) -> bool:
        """Whether energy can lie in both, so that a measure in one shows in the other."""
        if Scope.FACILITY in (self.scope, other.scope) or self == other:
            return True
        if self.scope is other.scope is Scope.METER:
            return self.name in _behind(site, other.name) or other.name in _behind(site, self.name)
        mine, others = self._classes(site), other._classes(site)
        return not mine or not others or bool(mine & others)

    def encloses(self, other: Boundary, site: Site) -> bool:
        """Whether all energy of the other one lies in this one."""
        if self.scope is Scope.FACILITY or self == other:
            return True
        if self.scope is other.scope is Scope.METER:
            return other.name in _behind(site, self.name)
        return self.scope is Scope.LOAD_CLASS and other._classes(site) == {self.name}

    def _classes(self, site: Site) -> set[str]:
        """Load classes in which its energy can lie; empty: in any."""
        if self.scope is Scope.LOAD_CLASS:
            return {self.name}
        behind = _behind(site, self.name)
        roles = {p.role for m in site.meters if m.id in behind for p in m.points}
        return set() if Role.FACILITY in roles else {role.value for role in roles & _CLASSES}


_CLASSES = {*OVERHEAD_ROLES, *IT_ROLES}


def _behind(site: Site, meter: str) -> set[str]:
    """A meter and all that it feeds."""
    found, fed = set[str](), {meter}
    while fed - found:
        found |= fed
        fed = {m.id for m in site.meters if found & set(m.fed_by)}
    return found


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure, as it was declared."""

    key: str
    """Short name, unique among the measures of the site. E.g. ``fans-2026``."""
    what: str
    where: Boundary
    implementation_start: date
    """First day of the work; from here on the plant is no longer that of the baseline."""
    implementation_end: date
    """First day on which the work is done."""
    baseline_start: date
    baseline_end: date
    reporting_start: date
    reporting_end: date | None = None
    """None: until further notice."""
    cost: float | None = None
    """[currency of the site] None: not stated."""
    expected_kwh_per_year: float | None = None
    """Saving that was expected when it was decided. [kWh/a]"""
    evidence: str = ""
    """Order, acceptance record, protocol."""

    @classmethod
    def declared(
        cls,
        *,
        implementation_start: date,
        implementation_end: date | None = None,
        baseline_start: date | None = None,
        baseline_end: date | None = None,
        reporting_start: date | None = None,
        **stated: Any,
    ) -> Self:
        """A measure with the usual spans where none are stated.

        Work of one day; the year before it as baseline; reporting from the day on which it is done.

        Raises
        ------
        SeriesError
            If a day is out of reach.
        """
        given = (implementation_start, implementation_end, baseline_start, baseline_end, reporting_start)
        _check_days(*given, stated.get("reporting_end"))
        done = implementation_end or implementation_start + timedelta(days=1)
        before = baseline_end or implementation_start
        return cls(
            implementation_start=implementation_start,
            implementation_end=done,
            baseline_start=baseline_start or before - timedelta(days=365),
            baseline_end=before,
            reporting_start=reporting_start or done,
            **stated,
        )

    def check(self) -> None:
        """Refuse what cannot be verified.

        Raises
        ------
        SeriesError
            If a text is missing, spans are empty or run into each other, or an amount is no number.
        """
        if not _KEY.fullmatch(self.key):
            raise SeriesError(f"key: {self.key!r}; allowed are small letters, digits, '.', '_' and '-'")
        for name, text in (("what", self.what), ("evidence", self.evidence)):
            if not text.strip():
                raise SeriesError(f"{name}: is empty; say {_ASKED[name]}")
        self._check_spans()
        _check_amount("cost", self.cost, least=0.0)
        _check_amount("expected_kwh_per_year", self.expected_kwh_per_year, least=-_MOST)

    def _check_spans(self) -> None:
        if self.implementation_end < self.implementation_start:
            raise SeriesError("implementation_end: is before implementation_start")
        if self.baseline_end <= self.baseline_start:
            raise SeriesError("baseline_end: must be after baseline_start")
        if self.baseline_end > self.implementation_start:
            raise SeriesError(
                "baseline_end: must not be after implementation_start; the work changes the plant"
            )
        if self.reporting_start < self.implementation_end:
            raise SeriesError("reporting_start: must not be before implementation_end; the work is not done")
        if self.reporting_end is not None and self.reporting_end <= self.reporting_start:
            raise SeriesError("reporting_end: must be after reporting_start")


_ASKED = {
    "what": "what is done",
    "evidence": "what supports it, such as an order or an acceptance record",
}


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """A non-routine adjustment: energy that changed for another reason than measure, weather or IT load."""

    measure: str
    """Key of the measure whose saving it adjusts."""
    start: date
    end: date
    energy_kwh: float
    """Over the whole span, evenly by day. [kWh] Above zero: used for another reason; the baseline rises."""
    reason: str
    author: str = ""

    def check(self, measure: Measure) -> None:
        """Refuse what does not fit its measure.

        Raises
        ------
        SeriesError
            If the span is empty or outside of the reporting period, the reason missing, or no number given.
        """
        _check_days(self.start, self.end)
        if self.end <= self.start:
            raise SeriesError("end: must be after start")
        after = measure.reporting_end is not None and self.end > measure.reporting_end
        if self.start < measure.reporting_start or after:
            raise SeriesError(
                f"start, end: must lie in the reporting period of {measure.key}, "
                f"{measure.reporting_start} to {measure.reporting_end or 'further notice'}"
            )
        if not self.reason.strip():
            raise SeriesError("reason: is empty; say what changed, and on whose word")
        _check_amount("energy_kwh", self.energy_kwh, least=-_MOST)

    def share_kwh(self, day: date) -> float:
        """The part that falls on a day. [kWh]"""
        return self.energy_kwh / (self.end - self.start).days if self.start <= day < self.end else 0.0


def _check_days(*days: date | None) -> None:
    for day in days:
        if day is not None and not _FIRST <= day <= _LAST:
            raise SeriesError(f"{day} is no day of a measure; allowed are {_FIRST} to {_LAST}")


def _check_amount(name: str, amount: float | None, *, least: float) -> None:
    if amount is not None and not (math.isfinite(amount) and least <= amount <= _MOST):
        raise SeriesError(f"{name}: {amount} is no amount; allowed are {least:g} to {_MOST:g}")
