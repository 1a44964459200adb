"""From the evidence of a period to the report document: the one place where it is put together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from app.domain.evidence import Evidence
from app.domain.site import Institution, Site
from app.reports import drift, energies, judgements, load, method, money, plant, regulations, savings
from app.reports.canonical import sealed
from app.reports.document import Change, InstitutionHead, Report, Revision, SiteHead, Span
from app.reports.rounding import instant


def build(evidence: Evidence, revision: int = 0, changes: tuple[Change, ...] = ()) -> Report:
    """The report of a site over a month or year, sealed with its hash.

    Parameters
    ----------
    evidence : Evidence
        What the store knows of the period.
    revision : int
        Its number; 0 for a provisional report.
    changes : tuple of Change
        What differs from the revision before.
    """
    e = evidence
    is_year, total, cash = len(e.name) == 4, energies.energy(e), money.money(e)
    report = Report(
        kind="year" if is_year else "month",
        sha256="",
        institution=institution_head(e.institution),
        site=_site(e.site),
        period=span(e),
        revision=version(revision, e.now, changes),
        pue={window: energies.pue_figure(d) for window, d in e.pue.items()},
        verdicts=judgements.verdicts(e),
        grades=judgements.grades(e),
        reporting_duties=judgements.reporting_duties(e),
        energy=total,
        days=[] if is_year else energies.days(e, total),
        hours=energies.hours(e),
        months=energies.months(e),
        comparisons=judgements.comparisons(e),
        loads=load.loads(e),
        exhaustion=load.exhausted(e),
        indicators=money.indicators(e),
        plant=None if e.plant is None else plant.plant_indicators(e.plant),
        opportunities=None if e.plant_year is None else plant.opportunities(e.plant_year),
        money=cash,
        savings=money.savings(e, cash),
        verified_savings=savings.of_report(e.savings, *e.days_of(), rows=not is_year),
        normalised_pue=savings.normalised_of_report(e.savings, e.name, *e.days_of()),
        drift=drift.drift(e.drift, *e.days_of()),
        breaches=judgements.breaches(e),
        alarms=judgements.alarms(e),
        gauges=method.gauges(e),
        quality=method.quality(e),
        method=method.method(e),
        compliance=judgements.compliance(e),
        regulations=regulations.regulations(e),
        year_end=judgements.year_end(e),
        eu_annex_ii=judgements.annex_ii(e) if is_year else [],
    )
    return sealed(report)


def version(number: int, now: datetime, changes: Sequence[Change]) -> Revision:
    """The revision of that number; 0 is provisional."""
    return Revision(number=number, closed=number > 0, created_at=instant(now), changes=list(changes))


def institution_head(bank: Institution) -> InstitutionHead:
    """The bank as the document names it."""
    return InstitutionHead(
        id=bank.id, name=bank.name or bank.id, institution_class=bank.institution_class.value
    )


def _site(site: Site) -> SiteHead:
    design = site.design
    return SiteHead(
        id=site.id,
        name=site.name or site.id,
        time_zone=site.time_zone,
        started_on=day_text(site.started_on),
        currency=site.currency,
        it_capacity_kw=design.it_capacity_kw,
        designed_pue=design.pue,
        racks_total=design.racks_total,
        floor_area_m2=design.floor_area_m2,
        computer_room_area_m2=design.computer_room_area_m2,
        minimum_coverage_ratio=site.minimum_coverage_ratio,
    )


def span(e: Evidence) -> Span:
    """The part of the period that is reported on."""
    zone = e.site.zone
    last = (e.known.end - timedelta(microseconds=1)).astimezone(zone).date()
    return Span(
        name=e.name,
        start=e.known.start.astimezone(zone).isoformat(),
        end=e.known.end.astimezone(zone).isoformat(),
        whole=e.known == e.period,
        days=(last - e.known.start.astimezone(zone).date()).days + 1,
    )


def day_text(day: date | None) -> str | None:
    """A day as ISO text; None stays."""
    return None if day is None else day.isoformat()
