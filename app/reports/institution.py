"""The report of all sites of an institution, from the reports of its sites, one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime

import pandas as pd

from app.domain.evidence import PERIOD
from app.domain.indicators import fleet_pue
from app.domain.site import Declared, Institution
from app.domain.targets import Target
from app.reports.build import institution_head, version
from app.reports.canonical import sealed
from app.reports.document import (
    Change,
    ComplianceRow,
    FleetFigure,
    InstitutionReport,
    Report,
    SiteLine,
    Span,
)
from app.reports.energies import RATIO
from app.reports.judgements import declared_rows
from app.reports.rounding import energy_decimals, number, rounded


def line(report: Report) -> SiteLine:
    """One site's line, from its own report."""
    figure = report.pue[PERIOD]
    verdict = min((v for v in report.verdicts if v.window == PERIOD), key=lambda v: v.limit, default=None)
    it_load = next((row for row in report.loads if row.kind == "it"), None)
    return SiteLine(
        id=report.site.id,
        name=report.site.name,
        revision=report.revision.number,
        sha256=report.sha256 if report.revision.closed else "",
        pue=figure.pue,
        reason=figure.reason,
        label=figure.label,
        kind=figure.kind,
        facility_kwh=figure.facility_kwh,
        it_kwh=figure.it_kwh,
        coverage_ratio=figure.coverage_ratio,
        it_load_ratio=None if it_load is None else it_load.mean_ratio,
        cost=report.money.cost,
        currency=report.site.currency,
        emissions_kg=report.money.emissions_kg,
        limit=None if verdict is None else verdict.limit,
        verdict=None if verdict is None else verdict.verdict,
        plain=None if verdict is None else verdict.plain,
        breach_days=sum(b.days for b in report.breaches),
        findings=len(report.quality.findings),
    )


def build(
    institution: Institution,
    span: Span,
    lines: Iterable[SiteLine],
    now: datetime,
    *,
    targets: Sequence[Target],
    declared: Sequence[Declared] = (),
    revision: int = 0,
    changes: Sequence[Change] = (),
) -> InstitutionReport:
    """The institution's report, sealed with its hash.

    Parameters
    ----------
    span : Span
        The period, in the zone of the first site.
    lines : iterable of SiteLine
        One per site, see :func:`line`.
    targets : sequence of Target
        What its declared indicators are judged against.
    declared : sequence of Declared
        Declarations of all its sites; of each indicator the latest counts.
    """
    sites = list(lines)
    report = InstitutionReport(
        kind="institution_year" if len(span.name) == 4 else "institution_month",
        sha256="",
        institution=institution_head(institution),
        period=span,
        revision=version(revision, now, changes),
        fleet=_fleet(sites),
        sites=sites,
        compliance=declared_rows(tuple(declared), institution, date.fromisoformat(span.end[:10]), targets),
    )
    return sealed(report)


def together(
    reports: Sequence[InstitutionReport], missing: Sequence[str], now: datetime
) -> InstitutionReport:
    """One report of an institution whose sites several cells have: provisional, since no cell froze it.

    Parameters
    ----------
    reports : sequence of InstitutionReport
        Of each cell that has sites of it, at least one.
    missing : sequence of str
        Cells that did not answer.
    """
    sites = [line for report in reports for line in report.sites]
    return sealed(
        replace(
            reports[0],
            revision=version(0, now, ()),
            fleet=_fleet(sites, missing),
            sites=sites,
            compliance=_latest(reports),
        )
    )


def _latest(reports: Sequence[InstitutionReport]) -> list[ComplianceRow]:
    """Of each indicator the row that was declared last."""
    rows: dict[str, ComplianceRow] = {}
    for row in (row for report in reports for row in report.compliance):
        known = rows.get(row.indicator)
        if known is None or (row.dated or "") > (known.dated or ""):
            rows[row.indicator] = row
    return list(rows.values())


def _fleet(sites: Sequence[SiteLine], missing: Sequence[str] = ()) -> FleetFigure:
    nothing, counts = float("nan"), Counter(s.id for s in sites)
    single = {s.id: s for s in sites}
    known = {key: s.pue is not None and counts[key] == 1 for key, s in single.items()}
    table = pd.DataFrame(
        {
            "facility_kwh": [s.facility_kwh if known[key] else nothing for key, s in single.items()],
            "it_kwh": [s.it_kwh if known[key] else nothing for key, s in single.items()],
        },
        index=list(single),
        dtype=float,
    )
    found = fleet_pue(table)
    emitted = [s.emissions_kg for key, s in single.items() if counts[key] == 1]
    stated = [kg for kg in emitted if kg is not None]
    places = energy_decimals(found.facility_kwh)
    return FleetFigure(
        ratio_of_sums=rounded(found.ratio_of_sums, RATIO),
        facility_weighted=rounded(found.facility_weighted, RATIO),
        facility_kwh=number(found.facility_kwh, places),
        it_kwh=number(found.it_kwh, places),
        emissions_kg=number(sum(stated), 1) if stated and len(stated) == len(emitted) else None,
        counted=list(found.sites),
        left_out=list(found.left_out),
        missing_cells=list(missing),
        in_two_cells=sorted(key for key, count in counts.items() if count > 1),
    )
