"""``docs/reference/regulations.md``: the dated data by which sites are judged and charged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from app.domain.data.emission_factors import EMISSION_FACTORS
from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.data.regulations import REGULATIONS
from app.domain.data.surcharges import SURCHARGES
from app.domain.regulations import Regulation
from app.domain.terms import term
from tools.reference.markdown import page as whole_page
from tools.reference.markdown import table, wrapped

_HEAD = """\
Regulations, standards and programmes that are shipped. Whether one is in force follows from its
dates; a draft is marked as one. A row that is not verified was not compared with its source: it is marked on
pages and in reports, and nothing is judged by it. Each row can be replaced, and others added, under
`regulations`, `surcharges`, `limit_profiles` and `emission_factors` in the [site file](site-file.md).
How they are used: [method](../METHOD.md)."""

_NEVER = """\
Nobody found a source for these, so no page says them: the PUE values of PBOC documents (JR/T),
targets of 1.3 or 1.25 for banks, and clauses of GB/T 32910.3 and GB/T 32910.4."""


def page() -> str:
    """The page."""
    return whole_page(
        "Regulations, limits, surcharges and factors",
        wrapped(_HEAD),
        table(["Regulation", "Place", "Dates", "Verified", "What it says", "Source"], map(_row, REGULATIONS)),
        "## PUE limits",
        table(["Profile", "Grade", "PUE", "From", "Until", "Verified"], _limits()),
        "## Surcharges",
        table(["Rule", "Place", "Limit", "Prices", "From", "Until", "Verified"], _surcharges()),
        "## Emission factors of electricity",
        table(["Region", "Data year", "Basis", "kgCO2/kWh", "Verified", "Source"], _factors()),
        "## Not on file",
        wrapped(_NEVER),
    )


def _row(one: Regulation) -> list[str]:
    stated = {"published": one.announced_on, "in force from": one.valid_from, "until": one.valid_to}
    dates = [f"{what} {day}" for what, day in stated.items() if day is not None]
    dates += [f"every year on {one.yearly_on}"] if one.yearly_on else []
    dates += [f"{mark.on}: {mark.says}" for mark in one.milestones]
    name = f"{one.name} (draft)" if one.is_draft else one.name
    places = ", ".join(one.jurisdictions) or "everywhere"
    return [name, places, "; ".join(dates) or "-", _yes(one.verified), one.says, one.source]


def _limits() -> Iterator[list[str]]:
    for profile in LIMIT_PROFILES:
        for rule in profile.rules:
            until = _day(rule.valid_to)
            yield [
                profile.id,
                rule.grade,
                f"{rule.pue:g}",
                _day(rule.valid_from),
                until,
                _yes(profile.verified),
            ]


def _surcharges() -> Iterator[list[str]]:
    for rule in SURCHARGES:
        prices = [f"above {t.above_pue:g}: {t.price_per_kwh:g} {rule.currency}/kWh" for t in rule.tiers]
        dates = [_day(rule.valid_from), _day(rule.valid_to)]
        places = ", ".join(rule.jurisdictions)
        yield [rule.id, places, f"{rule.limit_pue:g}", "; ".join(prices) or "-", *dates, _yes(rule.verified)]


def _factors() -> Iterator[list[str]]:
    for one in EMISSION_FACTORS:
        basis = term("en", "basis", one.basis, one.basis)
        yield [one.region, str(one.year), basis, f"{one.kg_per_kwh:g}", _yes(one.verified), one.source]


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()


def _yes(verified: bool) -> str:
    return "yes" if verified else "**no**"
