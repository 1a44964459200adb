"""PUE limits as dated data, the uncertainty of a PUE, and the verdict between the two.

To add a limit: a row in ``data/limit_profiles.py``, or the same record under ``limit_profiles`` in the
configuration. A limit is never a constant in code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.domain.figure import percent
from app.domain.site import Institution, InstitutionClass, Meter, Point, Site, SiteTrait
from app.errors import NotFound, SeriesError

_STRICT = {"extra": "forbid"}

SITE_PROFILE = "site"
"""Profile name under which the site's own limit is shown."""
SITE_SOURCE = "configuration of the site"
"""Where that limit comes from."""


@dataclass(frozen=True, kw_only=True)
class LimitRule:
    """One limit and the conditions under which it holds; conditions left out do not matter."""

    __pydantic_config__ = _STRICT
    pue: float
    """Highest PUE that still passes. [ratio] E.g. ``1.5``."""
    valid_from: date
    """First day on which it holds. E.g. ``2022-11-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2030-07-01``."""
    grade: str = ""
    """Name of the grade this limit stands for, in profiles with grades. E.g. ``"2"``."""
    mandatory: bool = True
    """False: a better grade to be shown, not a limit to be judged against."""
    institution_classes: tuple[InstitutionClass, ...] = ()
    """Classes of institution it holds for; empty: all. E.g. ``[other]``."""
    started_from: date | None = None
    """For sites that started operation on this day or later. E.g. ``2026-07-01``."""
    started_before: date | None = None
    """For sites that started operation before this day. E.g. ``2026-07-01``."""
    grace_years: int = 0
    """Years after the start of operation from which it holds. [a] E.g. ``2``."""
    with_trait: SiteTrait | None = None
    """Only for sites with this trait. E.g. ``hub_node``."""
    without_trait: SiteTrait | None = None
    """Only for sites without this trait. E.g. ``hub_node``."""
    excludes_edge_racks: int | None = None
    """Not for edge sites of at most so many racks. E.g. ``100``."""

    def __post_init__(self) -> None:
        if not 1 <= self.pue < math.inf:
            raise ValueError(f"pue limit {self.pue}; allowed is a number from 1")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")

    @property
    def needs_start(self) -> bool:
        """Whether it cannot be applied without the day on which the site started operation."""
        return self.started_from is not None or self.started_before is not None or self.grace_years > 0

    def holds(self, site: Site, institution: Institution, on: date) -> bool:
        """Whether this limit holds for the site on the day."""
        return (
            self._holds_on(on)
            and (not self.institution_classes or institution.institution_class in self.institution_classes)
            and self._fits_start(site.started_on, on)
            and (self.with_trait is None or self.with_trait in site.traits)
            and (self.without_trait is None or self.without_trait not in site.traits)
            and not self._is_excluded_edge(site)
        )

    def _holds_on(self, on: date) -> bool:
        return self.valid_from <= on and (self.valid_to is None or on < self.valid_to)

    def _fits_start(self, started_on: date | None, on: date) -> bool:
        if not self.needs_start:
            return True
        return (
            started_on is not None
            and (self.started_from is None or started_on >= self.started_from)
            and (self.started_before is None or started_on < self.started_before)
            and on >= _years_later(started_on, self.grace_years)
        )

    def _is_excluded_edge(self, site: Site) -> bool:
        racks = site.design.racks_total
        return (
            self.excludes_edge_racks is not None
            and SiteTrait.EDGE in site.traits
            and racks is not None
            and racks <= self.excludes_edge_racks
        )


@dataclass(frozen=True, kw_only=True)
class LimitProfile:
    """A regulation or programme: where it comes from, and its dated limits."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier; sites name it under `profiles`. E.g. ``group_2027``."""
    name: str
    """Name on pages and reports. E.g. ``Group rule 7, PUE``."""
    source: str
    """Regulation or document it comes from. E.g. ``Group rule 7 of 2026``."""
    rules: tuple[LimitRule, ...] = ()
    """The dated limits; a site is judged against every one that holds for it."""
    verified: bool = False
    """Whether somebody compared the rows with the source."""
    note: str = ""
    """Shown beside the profile. E.g. ``For new sites``."""
    reporting_from_it_kw: float | None = None
    """A duty to report from this installed IT power on. [kW] E.g. ``500``."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that holds for one site on one day."""

    profile: str
    pue: float
    valid_from: date | None
    valid_to: date | None
    source: str
    verified: bool
    grade: str = ""
    reason: str = ""
    """Why the site's own limit is laxer than the others, where it is."""


@dataclass(frozen=True, kw_only=True)
class ScoringBand:
    """Range in which an indicator earns points: none at one end, all at the other."""

    __pydantic_config__ = _STRICT
    indicator: str
    """Name of the indicator: `pue`, `it_load_ratio`, `racks_used_ratio` or a declared one. E.g. ``pue``."""
    none_at: float
    """Value that earns no points. E.g. ``1.3``."""
    full_at: float
    """Value that earns all points. E.g. ``1.1``."""
    valid_from: date
    """First day on which it holds. E.g. ``2027-01-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2029-01-01``."""
    source: str
    """Where it comes from. E.g. ``Programme of 2027``."""
    verified: bool = False
    """Whether somebody compared it with its source."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.none_at) and math.isfinite(self.full_at)):
            raise ValueError("none_at and full_at must be numbers")
        if self.none_at == self.full_at:
            raise ValueError("none_at and full_at must differ")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")

    def score(self, value: float) -> float:
        """Share of the points earned, 0 to 1, linear between the ends."""
        return min(1.0, max(0.0, (value - self.none_at) / (self.full_at - self.none_at)))


class Outcome(StrEnum):
    """Answer of a comparison with a limit."""

    PASS = "pass"
    FAIL = "fail"
    INDETERMINATE = "indeterminate"
    """The limit lies inside the band of uncertainty, or too little was covered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A PUE against one limit, with and without regard to its uncertainty."""

    profile: str
    limit: float
    verdict: Outcome
    plain: Outcome
    """The bare comparison that regulators use; indeterminate only where there is no PUE."""


def rule_begins(rule: LimitRule, site: Site, institution: Institution) -> date | None:
    """First day on which a limit holds for a site; None: never, or the start of operation is not declared."""
    first = rule.valid_from
    if rule.grace_years and site.started_on is not None:
        first = max(first, _years_later(site.started_on, rule.grace_years))
    return first if rule.holds(site, institution, first) else None


def bands_on(bands: Iterable[ScoringBand], on: date) -> dict[str, ScoringBand]:
    """Bands that hold on a day, by indicator; of several for one indicator the latest counts."""
    holding = [b for b in bands if b.valid_from <= on and (b.valid_to is None or on < b.valid_to)]
    return {b.indicator: b for b in sorted(holding, key=lambda b: b.valid_from)}


def merged_profiles(*layers: Iterable[LimitProfile]) -> dict[str, LimitProfile]:
    """Profiles by id; a later layer replaces the profile of the same id."""
    return {profile.id: profile for layer in layers for profile in layer}


def limits_for(
    site: Site, institution: Institution, profiles: dict[str, LimitProfile], on: date
) -> tuple[Limit, ...]:
    """Limits that hold for a site on a day: the site's own first, then by its profiles in order.

    A limit of the site's own that is laxer than another one and gives no reason is left out;
    :func:`limit_problems` names it.

    Parameters
    ----------
    profiles : dict
        Known profiles by id, see :func:`merged_profiles`.
    on : date
        Local day; for a period, its last day.

    Raises
    ------
    NotFound
        If the site names a profile that does not exist.
    """
    limits = tuple(
        _as_limit(profile, rule)
        for profile in _chosen(site, profiles)
        for rule in profile.rules
        if rule.mandatory and rule.holds(site, institution, on)
    )
    own = site.limit
    if own is None or (_is_laxer(own.pue, limits) and not own.reason.strip()):
        return limits
    reason = own.reason.strip()
    return (
        Limit(SITE_PROFILE, own.pue, None, None, SITE_SOURCE, True, reason=reason),
        *limits,
    )


def governing(limits: Sequence[Limit]) -> Limit | None:
    """The limit that alarms and budgets use: the site's own where there is one, else the lowest."""
    own = [limit for limit in limits if limit.profile == SITE_PROFILE]
    return own[0] if own else min(limits, key=lambda limit: limit.pue, default=None)


def limit_problems(
    site: Site, institution: Institution, profiles: dict[str, LimitProfile], on: date
) -> tuple[str, ...]:
    """What keeps the configured limits of a site from being applied; empty where nothing does."""
    unknown = [
        f"unknown limit profile {p!r}; known are {_names(profiles)}"
        for p in site.profiles
        if p not in profiles
    ]
    if unknown:
        return tuple(unknown)
    return (*_missing_start(site, profiles), *_laxer_without_reason(site, institution, profiles, on))


def grade_for(
    pue: float, site: Site, institution: Institution, profile: LimitProfile, on: date
) -> str | None:
    """Best grade of a graded profile that `pue` reaches on a day; None where it reaches none."""
    reached = [r for r in profile.rules if r.grade and r.holds(site, institution, on) and pue <= r.pue]
    return min(reached, key=lambda rule: rule.pue).grade if reached else None


@dataclass(frozen=True, slots=True)
class GradeReached:
    """Where a PUE stands on the scale of a profile with grades."""

    profile: str
    grade: str | None
    """Best grade reached by the plain comparison; None: none."""
    is_certain: bool
    """Whether every PUE within the uncertainty reaches the same one."""


def grades_reached(
    pue: float | None,
    uncertainty: float | None,
    site: Site,
    institution: Institution,
    profiles: dict[str, LimitProfile],
    on: date,
) -> tuple[GradeReached, ...]:
    """Best grade of each graded profile of the site; empty where no PUE can be said.

    Parameters
    ----------
    uncertainty : float or None
        Standard uncertainty of the PUE; None: not known, so no grade is certain.
    profiles : dict
        Known profiles by id, see :func:`merged_profiles`.
    on : date
        Local day; for a period, its last day.

    Raises
    ------
    NotFound
        If the site names a profile that does not exist.
    """
    if pue is None:
        return ()
    found = []
    for profile in _chosen(site, profiles):
        if not any(r.grade and not r.mandatory and r.holds(site, institution, on) for r in profile.rules):
            continue
        grade, low, high = (
            grade_for(value, site, institution, profile, on)
            for value in (pue, pue - (uncertainty or 0.0), pue + (uncertainty or 0.0))
        )
        found.append(GradeReached(profile.id, grade, uncertainty is not None and low == high))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ReportingDuty:
    """A duty to report that a profile of the site knows."""

    profile: str
    from_it_kw: float
    """Installed IT power from which it holds. [kW]"""
    applies: bool | None
    """None: the site's installed IT power is not declared."""


def reporting_duties(site: Site, profiles: dict[str, LimitProfile]) -> tuple[ReportingDuty, ...]:
    """Duties to report of the site's profiles, and whether each falls on the site.

    Raises
    ------
    NotFound
        If the site names a profile that does not exist.
    """
    return tuple(
        ReportingDuty(profile.id, profile.reporting_from_it_kw, must_report(site, profile))
        for profile in _chosen(site, profiles)
        if profile.reporting_from_it_kw is not None
    )


def must_report(site: Site, profile: LimitProfile) -> bool | None:
    """Whether the profile's reporting duty falls on the site; None where its IT power is unknown."""
    if profile.reporting_from_it_kw is None:
        return False
    capacity_kw = site.design.it_capacity_kw
    return None if capacity_kw is None else capacity_kw >= profile.reporting_from_it_kw


def accuracy_percent(meter: Meter, point: Point) -> float:
    """Accuracy class of a point: its own, else that of its meter. [%]"""
    return meter.accuracy_percent_of(point)


def combined_class_percent(energies_kwh: npt.ArrayLike, classes_percent: npt.ArrayLike) -> float:
    """Accuracy of a sum of meters whose errors are independent.

    ``sqrt(sum((E_i * c_i)^2)) / |sum(E_i)|``; a subtracted meter has a negative energy.

    Parameters
    ----------
    energies_kwh : array_like of float, shape (n,)
        Energy of each meter over the period, weighted and signed. [kWh]
    classes_percent : array_like of float, shape (n,)
        Accuracy class of each meter. [%]

    Returns
    -------
    float
        [%] NaN where the energies sum to zero: the relative error is then without meaning.

    Raises
    ------
    SeriesError
        If the two differ in length.
    """
    energies, classes = np.asarray(energies_kwh, float), np.asarray(classes_percent, float)
    if energies.shape != classes.shape:
        raise SeriesError(f"{energies.size} energies but {classes.size} accuracy classes; give one per meter")
    total = abs(float(energies.sum()))
    return math.sqrt(float(((energies * classes) ** 2).sum())) / total if total > 0 else math.nan


def pue_uncertainty(pue: float, facility_class_percent: float, it_class_percent: float) -> float:
    """Standard uncertainty of a PUE whose two sides are metered independently.

    ``u(PUE) / PUE = sqrt(c_DC^2 + c_IT^2) / 100``; 1 % and 1 % at 1.50 give 0.021.
    """
    return pue * math.hypot(facility_class_percent, it_class_percent) / 100


def pue_uncertainty_of_sum(pue: float, overhead_class_percent: float, it_class_percent: float) -> float:
    """Standard uncertainty of a PUE whose facility energy is IT plus metered overheads.

    The IT meters stand on both sides, so their error moves only the overhead's share:
    ``u(PUE) = (PUE - 1) * sqrt(c_overhead^2 + c_IT^2) / 100``.
    """
    return (pue - 1) * math.hypot(overhead_class_percent, it_class_percent) / 100


def is_too_low(coverage_ratio: float, minimum_ratio: float) -> bool:
    """Whether a coverage is below the least that is enough, both as they are printed: to 0.1 %."""
    return coverage_ratio < minimum_ratio and percent(coverage_ratio) != percent(minimum_ratio)


def verdict(
    pue: float | None,
    uncertainty: float | None,
    coverage_ratio: float,
    limit: Limit,
    minimum_coverage_ratio: float,
) -> Verdict:
    """Compare a PUE with a limit.

    ``pass`` if PUE + u <= limit, ``fail`` if PUE - u > limit, else ``indeterminate``; also
    ``indeterminate`` below the minimum coverage or without a PUE or an uncertainty.

    Parameters
    ----------
    pue, uncertainty : float or None
        The ratio and its standard uncertainty; None where it is not said.
    coverage_ratio, minimum_coverage_ratio : float
        Share of the period over which both sides are covered, and the least that is enough. [0..1]
    """
    if pue is None or math.isnan(pue):
        return Verdict(limit.profile, limit.pue, Outcome.INDETERMINATE, Outcome.INDETERMINATE)
    plain = Outcome.PASS if pue <= limit.pue else Outcome.FAIL
    known = uncertainty is not None and not is_too_low(coverage_ratio, minimum_coverage_ratio)
    band = uncertainty if known and uncertainty is not None else math.inf
    return Verdict(limit.profile, limit.pue, _outside_band(pue, band, limit.pue), plain)


def _outside_band(pue: float, band: float, limit: float) -> Outcome:
    if pue + band <= limit:
        return Outcome.PASS
    return Outcome.FAIL if pue - band > limit else Outcome.INDETERMINATE


def _chosen(site: Site, profiles: dict[str, LimitProfile]) -> list[LimitProfile]:
    for name in site.profiles:
        if name not in profiles:
            raise NotFound(f"site {site.id}: unknown limit profile {name!r}; known are {_names(profiles)}")
    return [profiles[name] for name in site.profiles]


def _as_limit(profile: LimitProfile, rule: LimitRule) -> Limit:
    return Limit(
        profile.id, rule.pue, rule.valid_from, rule.valid_to, profile.source, profile.verified, rule.grade
    )


def _is_laxer(pue: float, limits: Sequence[Limit]) -> bool:
    return any(pue > limit.pue for limit in limits)


def _missing_start(site: Site, profiles: dict[str, LimitProfile]) -> list[str]:
    if site.started_on is not None:
        return []
    dated = [p.id for p in _chosen(site, profiles) if any(rule.needs_start for rule in p.rules)]
    return [
        f"profile {name} depends on the start of operation; add started_on to site {site.id}"
        for name in dated
    ]


def _laxer_without_reason(
    site: Site, institution: Institution, profiles: dict[str, LimitProfile], on: date
) -> list[str]:
    own = site.limit
    if own is None or own.reason.strip():
        return []
    laxer_than = [limit for limit in limits_for(site, institution, profiles, on) if own.pue > limit.pue]
    return [
        f"limit {own.pue} is laxer than {limit.pue} of {limit.profile}; lower it or record a reason"
        for limit in laxer_than
    ]


def _names(profiles: dict[str, LimitProfile]) -> str:
    return ", ".join(sorted(profiles))


def _years_later(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February in a year without one
        return date(day.year + years, 3, 1)
