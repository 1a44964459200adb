"""Which regulations apply to a site, as data of a document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from app.domain.evidence import TRAILING, Basis
from app.domain.limits import LimitProfile
from app.domain.reference import Reference
from app.domain.regulations import Applied, applying, values_of
from app.domain.site import Institution, Site
from app.reports.document import ConditionRow, RegulationRow, Regulations, TurnRow
from app.reports.energies import RATIO
from app.reports.rounding import rounded


def regulations(e: Basis) -> Regulations:
    """What applies to the site on the last day of the period, and what is to come."""
    trailing = e.pue.get(TRAILING)
    pue = trailing.pue if trailing is not None and trailing.kind == "annual" else None
    return told(e.site, e.institution, e.profiles, e.reference, e.last_day, pue)


def told(
    site: Site,
    institution: Institution,
    profiles: Mapping[str, LimitProfile],
    reference: Reference,
    on: date,
    pue: float | None,
) -> Regulations:
    """The same for any day.

    Parameters
    ----------
    pue : float or None
        Of the 12 months before; None: not known, or of less than 12 months.
    """
    values = values_of(pue, site, institution, profiles, on)
    found = applying(reference.regulations, site, institution, profiles, on, values=values)
    return Regulations(on=on.isoformat(), jurisdiction=site.jurisdiction, rows=[row(one) for one in found])


def row(one: Applied) -> RegulationRow:
    """One of them."""
    rule = one.regulation
    return RegulationRow(
        id=rule.id,
        name=rule.name,
        name_zh=rule.name_zh or rule.name,
        says=rule.says,
        says_zh=rule.says_zh or rule.says,
        status=one.status.value,
        missing=list(one.missing),
        announced_on=_text(rule.announced_on),
        valid_from=_text(rule.valid_from),
        next_review=_text(rule.next_review),
        limit_pue=one.limit_pue,
        profile=rule.profile,
        is_judged=one.is_judged,
        conditions=[
            ConditionRow(
                indicator=j.condition.indicator,
                at_least=j.condition.at_least,
                at_most=j.condition.at_most,
                value=rounded(j.value, RATIO),
                standing=j.standing.value,
            )
            for j in one.conditions
        ],
        turns=[
            TurnRow(on=t.on, cause=t.cause.value, pue=t.pue, says=t.says, says_zh=t.says_zh or t.says)
            for t in one.turns
        ],
        source=rule.source,
        verified=rule.verified,
    )


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
