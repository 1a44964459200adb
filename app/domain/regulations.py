"""Regulations, standards and programmes as dated data, and which of them apply to a site.

To add one: a row in ``data/regulations.py``, or the same record under ``regulations`` in the site file.
Whether it is in force is never stored: it follows from its dates and the day that is asked about; only that a
text is a draft is said. What was not compared with its source is not judged by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from app.domain.jurisdiction import check_jurisdiction, lies_in
from app.domain.limits import LimitProfile, LimitRule, grade_for, rule_begins
from app.domain.site import Institution, InstitutionClass, Site
from app.domain.surcharge_rule import SurchargeRule
from app.domain.targets import Standing, declared_on

_STRICT = {"extra": "forbid"}
_PART_OF_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
_DAY_OF_YEAR = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")

PUE, GB40879_GRADE, RACKS_USED = "annual_pue", "gb40879_grade", "racks_used_ratio"
"""Indicators of conditions that are worked out; any other is a declared one."""
GB40879 = "gb40879_2021"


class Status(StrEnum):
    """What a regulation is on a day."""

    IN_FORCE = "in_force"
    ADOPTED = "adopted"
    """Adopted, but not in force yet."""
    DRAFT = "draft"
    ENDED = "ended"


class Unjudged(StrEnum):
    """Why a condition has no standing."""

    UNVERIFIED = "unverified"
    NOT_IN_FORCE = "not_in_force"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that a regulation or programme sets, over the 12 months before."""

    __pydantic_config__ = _STRICT
    indicator: str
    """`annual_pue`, `gb40879_grade`, `racks_used_ratio`, or a declared indicator. E.g. ``annual_pue``."""
    at_least: float | None = None
    """Lowest value that meets it; this or `at_most` is needed. E.g. ``0.6``."""
    at_most: float | None = None
    """Highest value that meets it. E.g. ``1.3``."""

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"condition on {self.indicator} needs at_least or at_most")

    def standing(self, value: float | None) -> Standing:
        """A value against the condition; the ends count as met."""
        if value is None:
            return Standing.UNKNOWN
        low_enough = self.at_most is None or value <= self.at_most
        return Standing.MET if low_enough and value >= (self.at_least or value) else Standing.MISSED


@dataclass(frozen=True, kw_only=True)
class Milestone:
    """A later date of a regulation, and what changes then."""

    __pydantic_config__ = _STRICT
    on: str
    """Day, month or year, as far as it is known, quoted. E.g. ``"2030"``."""
    says: str
    """What changes. E.g. ``PUE at most 1.3``."""
    says_zh: str = ""
    """The same in Chinese. E.g. ``PUE 不高于 1.3``."""

    def __post_init__(self) -> None:
        if not _PART_OF_DATE.fullmatch(self.on):
            raise ValueError(
                f'on {self.on!r}; write a day, month or year, quoted, like "2030" or "2027-07-01"'
            )


@dataclass(frozen=True, kw_only=True)
class Regulation:
    """A regulation, standard or programme: what it says, where and from when it holds."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier; a row of the site file with the id of a built-in one takes its place. E.g.
    ``group_rule_7``."""
    name: str
    """Name on pages and reports. E.g. ``Group rule 7``."""
    name_zh: str = ""
    """The same in Chinese. E.g. ``集团制度第 7 号``."""
    says: str = ""
    """What it asks for, in a sentence. E.g. ``PUE at most 1.4 from 2027 on``."""
    says_zh: str = ""
    """The same in Chinese. E.g. ``2027 年起 PUE 不高于 1.4``."""
    is_draft: bool = False
    """Whether it is only a draft, whatever its dates."""
    jurisdictions: tuple[str, ...] = ()
    """Countries (ISO 3166-1), parts of them (ISO 3166-2) or `EU` where it applies; empty: everywhere. E.g.
    ``[CN-BJ]``."""
    institution_classes: tuple[InstitutionClass, ...] = ()
    """Classes of institution it applies to; empty: all. E.g. ``[other]``."""
    from_it_kw: float | None = None
    """Applies from this installed IT power on. [kW] E.g. ``500``."""
    excludes_edge_racks: int | None = None
    """Does not apply to edge sites of at most so many racks. E.g. ``100``."""
    announced_on: date | None = None
    """Day on which it was published. E.g. ``2026-06-24``."""
    valid_from: date | None = None
    """First day on which it is in force; absent: it has long been. E.g. ``2027-01-01``."""
    valid_to: date | None = None
    """First day on which it is no longer in force. E.g. ``2030-01-01``."""
    next_review: date | None = None
    """Day on which it is to be looked at again. E.g. ``2028-01-01``."""
    yearly_on: str = ""
    """Day of every year on which something is due, quoted. E.g. ``"05-15"``."""
    yearly_says: str = ""
    """What is due then. E.g. ``Report of the year before``."""
    yearly_says_zh: str = ""
    """The same in Chinese. E.g. ``上一年度报告``."""
    milestones: tuple[Milestone, ...] = ()
    """Later dates, and what changes then."""
    conditions: tuple[Condition, ...] = ()
    """Conditions that the site's figures are held against."""
    profile: str = ""
    """Limit profile that holds its PUE limits. E.g. ``gb40879_2021``."""
    surcharge: str = ""
    """Surcharge rule that holds its prices. E.g. ``cn_bj_2026``."""
    source: str
    """Document it comes from. E.g. ``Group rule 7 of 2026``."""
    verified: bool = False
    """Whether somebody compared the row with its source; what is not is marked and not judged by."""

    def __post_init__(self) -> None:
        for place in self.jurisdictions:
            check_jurisdiction(place)
        if self.valid_to is not None and self.valid_from is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        if self.yearly_on and not _DAY_OF_YEAR.fullmatch(self.yearly_on):
            raise ValueError(f'yearly_on {self.yearly_on!r}; write month and day, quoted, like "05-15"')

    def status(self, on: date) -> Status:
        """What it is on a day."""
        if self.is_draft:
            return Status.DRAFT
        if self.valid_from is not None and on < self.valid_from:
            return Status.ADOPTED
        return Status.ENDED if self.valid_to is not None and on >= self.valid_to else Status.IN_FORCE


class Cause(StrEnum):
    """What happens on a date of a regulation."""

    IN_FORCE = "in_force"
    ENDS = "ends"
    REVIEW = "review"
    LIMIT = "limit"
    """Its PUE limit of this site changes; `pue` is the new one."""
    YEARLY = "yearly"
    MILESTONE = "milestone"


@dataclass(frozen=True, slots=True)
class Turn:
    """A date to come at which something changes."""

    on: str
    """Day, or month or year where no more is known."""
    cause: Cause
    pue: float | None = None
    says: str = ""
    says_zh: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A condition, the site's value, and how it stands."""

    condition: Condition
    value: float | None
    standing: Standing | Unjudged


@dataclass(frozen=True, slots=True)
class Applied:
    """A regulation that applies to a site, or may."""

    regulation: Regulation
    status: Status
    missing: tuple[str, ...]
    """Keys of the site file without which it cannot be said whether it applies; empty: it applies."""
    limit_pue: float | None
    """Limit of its profile that holds for the site on the day."""
    is_judged: bool | None
    """Whether the site names its profile; None: it has none."""
    conditions: tuple[Judged, ...]
    turns: tuple[Turn, ...]
    """Dates to come, the nearest first."""


def applying(
    regulations: Iterable[Regulation],
    site: Site,
    institution: Institution,
    profiles: Mapping[str, LimitProfile],
    on: date,
    *,
    values: Mapping[str, float | None],
) -> tuple[Applied, ...]:
    """Regulations that apply to a site on a day, or may, those in force first; none that ended.

    Parameters
    ----------
    profiles : mapping
        Limit profiles by id.
    on : date
        Local day.
    values : mapping
        Indicators that are measured, such as ``annual_pue``; see :func:`values_of`.
    """
    found = []
    for one in regulations:
        missing = _missing(one, site, institution)
        status = one.status(on)
        if missing is None or status is Status.ENDED:
            continue
        found.append(
            Applied(
                one,
                status,
                missing,
                _limit(one, site, institution, profiles, on),
                (one.profile in site.profiles) if one.profile in profiles else None,
                tuple(_judged(one, status, c, values) for c in one.conditions),
                tuple(sorted(_turns(one, site, institution, profiles, on), key=lambda t: t.on)),
            )
        )
    order = list(Status)
    return tuple(sorted(found, key=lambda a: (bool(a.missing), order.index(a.status))))


def values_of(
    pue: float | None, site: Site, institution: Institution, profiles: Mapping[str, LimitProfile], on: date
) -> dict[str, float | None]:
    """Values that conditions ask for: PUE of 12 months, its grade by GB 40879, and what was declared.

    Parameters
    ----------
    pue : float or None
        Of the 12 months before; None: not known, and so is the grade.
    """
    declared = {name: one.value for name, one in declared_on(site.declared, on).items()}
    used, total = declared.get("racks_in_use"), site.design.racks_total
    profile = profiles.get(GB40879)
    grade = None if pue is None or profile is None else grade_for(pue, site, institution, profile, on)
    return {
        **declared,
        PUE: pue,
        GB40879_GRADE: float(grade) if grade is not None and grade.isdigit() else None,
        RACKS_USED: None if used is None or not total else used / total,
    }


def _missing(one: Regulation, site: Site, institution: Institution) -> tuple[str, ...] | None:
    """Keys that are needed to say whether it applies; None where it does not.

    Of a site that states no place, only what applies everywhere or what it names itself may apply.
    """
    here = lies_in(site.jurisdiction, one.jurisdictions)
    racks, power_kw = site.design.racks_total, site.design.it_capacity_kw
    is_edge = one.excludes_edge_racks is not None and "edge" in site.traits
    is_unplaced = not site.jurisdiction and one.profile not in site.profiles
    excluded = (
        here is False
        or (here is None and is_unplaced)
        or (one.institution_classes and institution.institution_class not in one.institution_classes)
        or (one.from_it_kw is not None and power_kw is not None and power_kw < one.from_it_kw)
        or (is_edge and racks is not None and racks <= (one.excludes_edge_racks or 0))
    )
    if excluded:
        return None
    needed = {
        "jurisdiction": here is None,
        "design.it_capacity_kw": one.from_it_kw is not None and power_kw is None,
        "design.racks_total": is_edge and racks is None,
    }
    return tuple(key for key, is_missing in needed.items() if is_missing)


def _limit(
    one: Regulation,
    site: Site,
    institution: Institution,
    profiles: Mapping[str, LimitProfile],
    on: date,
) -> float | None:
    holding = [r.pue for r in _rules(one, profiles) if r.holds(site, institution, on)]
    return min(holding, default=None)


def _rules(one: Regulation, profiles: Mapping[str, LimitProfile]) -> tuple[LimitRule, ...]:
    profile = profiles.get(one.profile)
    return () if profile is None else tuple(r for r in profile.rules if r.mandatory)


def _judged(
    one: Regulation, status: Status, condition: Condition, values: Mapping[str, float | None]
) -> Judged:
    value = values.get(condition.indicator)
    if not one.verified:
        return Judged(condition, value, Unjudged.UNVERIFIED)
    if status is not Status.IN_FORCE:
        return Judged(condition, value, Unjudged.NOT_IN_FORCE)
    if value is None and condition.indicator == GB40879_GRADE and values.get(PUE) is not None:
        return Judged(condition, None, Standing.MISSED)  # PUE is known, and reaches no grade
    return Judged(condition, value, condition.standing(value))


def _turns(
    one: Regulation,
    site: Site,
    institution: Institution,
    profiles: Mapping[str, LimitProfile],
    on: date,
) -> Iterator[Turn]:
    """What is to come after a day."""
    dated = ((one.valid_from, Cause.IN_FORCE), (one.valid_to, Cause.ENDS), (one.next_review, Cause.REVIEW))
    for day, cause in dated:
        if day is not None and day > on and not (cause is Cause.IN_FORCE and one.is_draft):
            yield Turn(day.isoformat(), cause)
    for rule in _rules(one, profiles):
        begins = rule_begins(rule, site, institution)
        if begins is not None and begins > on:
            yield Turn(begins.isoformat(), Cause.LIMIT, pue=rule.pue)
    for mark in one.milestones:
        if mark.on > on.isoformat()[: len(mark.on)]:
            yield Turn(mark.on, Cause.MILESTONE, says=mark.says, says_zh=mark.says_zh)
    if one.yearly_on and one.status(on) is not Status.DRAFT:
        year = on.year + (one.yearly_on <= f"{on:%m-%d}")
        yield Turn(f"{year}-{one.yearly_on}", Cause.YEARLY, says=one.yearly_says, says_zh=one.yearly_says_zh)


def surcharge_of(one: Regulation, rules: Iterable[SurchargeRule]) -> SurchargeRule | None:
    """The surcharge rule that a regulation names."""
    return next((rule for rule in rules if one.surcharge and rule.id == one.surcharge), None)
