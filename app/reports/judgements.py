"""Verdicts, breaches, comparisons with earlier periods, compliance, projection, and the EU's fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import numpy as np
import pandas as pd

from app.domain.attribution import Causes, EnergySplit, attribute
from app.domain.evidence import LAST_MONTH, LAST_YEAR, PERIOD, TRAILING, Basis, Evidence
from app.domain.forecast import budgets, project_year
from app.domain.limits import Outcome, governing
from app.domain.quantity import OVERHEAD_ROLES
from app.domain.site import Declared, Institution
from app.domain.targets import Standing, Target, declared_on, targets_for
from app.reports import charges
from app.reports.document import (
    Alarm,
    Breach,
    BudgetRow,
    Comparison,
    ComplianceRow,
    DutyRow,
    EuField,
    GradeRow,
    Part,
    VerdictRow,
    YearEnd,
)
from app.reports.energies import KW, RATIO, is_waiting, local_days, local_span
from app.reports.load import local_text, merged
from app.reports.money import indicators
from app.reports.rounding import apportioned, energy_decimals, number, rounded

IT_LOAD = "it_load_ratio"


def verdicts(e: Evidence) -> list[VerdictRow]:
    """Every window's PUE against every limit that holds."""
    rows = []
    for window, d in e.pue.items():
        for limit, v in zip(e.limits, d.verdicts, strict=False):
            rows.append(
                VerdictRow(
                    window=window,
                    profile=v.profile,
                    source=limit.source,
                    verified=limit.verified,
                    grade=limit.grade,
                    reason=limit.reason,
                    limit=v.limit,
                    pue=rounded(d.pue, RATIO),
                    verdict=v.verdict.value,
                    plain=v.plain.value,
                )
            )
    return rows


def grades(e: Evidence) -> list[GradeRow]:
    """Every window's grade on the scale of every profile with grades."""
    return [
        GradeRow(
            window=window,
            profile=g.profile,
            pue=rounded(d.pue, RATIO),
            grade=g.grade,
            is_certain=g.is_certain,
        )
        for window, d in e.pue.items()
        for g in d.grades
    ]


def reporting_duties(e: Evidence) -> list[DutyRow]:
    """Duties to report that the site's profiles know."""
    return [
        DutyRow(profile=d.profile, from_it_kw=d.from_it_kw, applies=d.applies)
        for d in e.pue[PERIOD].reporting_duties
    ]


def comparisons(e: Evidence) -> list[Comparison]:
    """The change of PUE, as printed, against last month and the same month of last year, by load class."""
    wanted = (LAST_YEAR,) if len(e.name) == 4 else (LAST_MONTH, LAST_YEAR)
    return [_comparison(e, against) for against in wanted]


def _comparison(e: Evidence, against: str) -> Comparison:
    current, baseline = e.splits.get(PERIOD), e.splits.get(against)
    if current is None or baseline is None:
        return Comparison(against=against, baseline_pue=None, change=None, parts=[], moved=None)
    found = attribute(baseline, current)
    before = number(found.baseline_pue, RATIO)
    change = number(number(found.pue, RATIO) - before, RATIO)
    parts = apportioned(list(found.parts.values()), RATIO, change)
    return Comparison(
        against=against,
        baseline_pue=before,
        change=change,
        parts=[Part(name=name, change=part) for name, part in zip(found.parts, parts, strict=True)],
        moved=found.moved,
        causes=_causes(e, against, change),
    )


def _causes(e: Evidence, against: str, change: float) -> list[Part]:
    """The same change by weather, IT load and the plant itself; empty where they cannot be told apart."""
    if e.savings is None:
        return []
    spans = (e.days_of(against), e.days_of())
    found = e.savings.plant.causes(e.splits[against], e.splits[PERIOD], spans)
    if not isinstance(found, Causes):
        return []
    names = ("weather", "it_load", "plant")
    parts = apportioned([getattr(found, name) for name in names], RATIO, change)
    return [Part(name=name, change=part) for name, part in zip(names, parts, strict=True)]


def breaches(e: Evidence) -> list[Breach]:
    """Runs of days above the governing limit, each with the load class that rose most."""
    limit = governing(e.limits)
    if limit is None or e.quarters.empty:
        return []
    table = _daily(e)
    known = table[(table["coverage_ratio"] >= e.site.minimum_coverage_ratio) & (table["it_kwh"] > 0)]
    days = (at.date() for at in pd.DatetimeIndex(known.index))
    known = known[np.array([not is_waiting(e, local_span(e, day)) for day in days], np.bool_)]
    above = known["facility_kwh"] > limit.pue * known["it_kwh"]
    return [_breach(known, above, run, limit.pue) for run in _runs(pd.DatetimeIndex(known.index[above]))]


def _daily(e: Evidence) -> pd.DataFrame:
    names = ["facility_kwh", "it_kwh", *(f"{r.value}_kwh" for r in OVERHEAD_ROLES)]
    table = e.quarters[names].copy()
    table["covered_h"] = e.quarters["coverage_ratio"] / 4
    days = table.groupby(local_days(e)).sum()
    days["coverage_ratio"] = (days["covered_h"] / 24).clip(upper=1.0)
    return days


def _runs(days: pd.DatetimeIndex) -> list[pd.DatetimeIndex]:
    """Consecutive days together."""
    runs: list[list[pd.Timestamp]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    return [pd.DatetimeIndex(run) for run in runs]


def _breach(known: pd.DataFrame, above: pd.Series[bool], run: pd.DatetimeIndex, limit: float) -> Breach:
    rows, rest = known.loc[run], known.loc[~above]
    facility, it = float(rows["facility_kwh"].sum()), float(rows["it_kwh"].sum())
    moved = attribute(_split(rest), _split(rows)).moved if len(rest) else None
    return Breach(
        first_day=run[0].date().isoformat(),
        last_day=run[-1].date().isoformat(),
        days=len(run),
        limit=limit,
        pue=number(facility / it, RATIO),
        highest_pue=number(float((rows["facility_kwh"] / rows["it_kwh"]).max()), RATIO),
        excess_kwh=number(facility - limit * it, energy_decimals(facility)),
        moved=moved,
    )


def _split(rows: pd.DataFrame) -> EnergySplit:
    total = rows.sum()
    overhead = {r.value: float(total[f"{r.value}_kwh"]) for r in OVERHEAD_ROLES}
    return EnergySplit(
        float(total["facility_kwh"]), float(total["it_kwh"]), float(total["covered_h"]), overhead
    )


def alarms(e: Evidence) -> list[Alarm]:
    """Alarms that fired in the period."""
    zone = e.site.zone
    return [
        Alarm(
            rule=a.rule,
            severity=a.severity,
            started_at=local_text(a.started_at, zone) or "",
            resolved_at=local_text(a.resolved_at, zone),
            value=rounded(a.value, RATIO),
            limit=rounded(a.limit, RATIO),
            cause=a.cause,
            subject=a.subject,
            watched=a.watched,
        )
        for a in e.alarms
    ]


def compliance(e: Evidence) -> list[ComplianceRow]:
    """The guideline's matrix: measured indicators first, then what the institution declared."""
    last_day = min(e.period.end, e.now) - timedelta(microseconds=1)
    on = last_day.astimezone(e.site.zone).date()
    rows = [
        row
        for window, indicator in ((PERIOD, "pue"), (TRAILING, "annual_pue"))
        if indicator == "pue" or e.pue[window].kind == "annual"
        for row in _against_limits(e, window, indicator)
    ]
    return [*rows, *targeted(e, on)]


def targeted(e: Basis, on: date) -> list[ComplianceRow]:
    """IT load rate, targets of measured indicators, and what the institution declared."""
    rate = it_load_ratio(e)
    measured = {i.name: i.value for i in indicators(e)} | {IT_LOAD: rate}
    rows = declared_rows(e.site.declared, e.institution, on, e.reference.indicator_targets, measured)
    is_targeted = any(row.indicator == IT_LOAD for row in rows)
    return rows if rate is None or is_targeted else [_without_target(IT_LOAD, rate), *rows]


def it_load_ratio(e: Basis) -> float | None:
    """Mean IT power over the period by design capacity."""
    return rounded(merged(e.loads, [p.it for p in e.loads]).mean_ratio, RATIO)


_MEANING = {
    Outcome.PASS: Standing.MET,
    Outcome.FAIL: Standing.MISSED,
    Outcome.INDETERMINATE: Standing.UNKNOWN,
}


def _against_limits(e: Evidence, window: str, indicator: str) -> list[ComplianceRow]:
    d = e.pue[window]
    return [
        ComplianceRow(
            indicator=indicator,
            measured=True,
            value=rounded(d.pue, RATIO),
            at_least=None,
            at_most=v.limit,
            standing=_MEANING[v.plain].value,
            dated=None,
            evidence=v.profile,
            source=limit.source,
        )
        for limit, v in zip(e.limits, d.verdicts, strict=False)
    ]


def _without_target(indicator: str, value: float | None) -> ComplianceRow:
    return ComplianceRow(
        indicator=indicator,
        measured=True,
        value=value,
        at_least=None,
        at_most=None,
        standing="no_target",
        dated=None,
        evidence="",
        source="",
    )


def declared_rows(
    declared: tuple[Declared, ...],
    institution: Institution,
    on: date,
    targets: Iterable[Target],
    measured: Mapping[str, float | None] | None = None,
) -> list[ComplianceRow]:
    """Declared indicators against the targets that hold, and targets for which nothing is declared.

    A target of a `measured` indicator is held against its value.
    """
    found = measured or {}
    known, wanted = declared_on(declared, on), targets_for(targets, institution, on)
    rows = []
    for name in [*wanted, *(n for n in known if n not in wanted)]:
        target, own = wanted.get(name), known.get(name)
        value = found.get(name) if own is None else own.value
        rows.append(
            ComplianceRow(
                indicator=name,
                measured=own is None and name in found,
                value=value,
                at_least=None if target is None else target.at_least,
                at_most=None if target is None else target.at_most,
                standing="no_target" if target is None else target.standing(value).value,
                dated=None if own is None else own.date.isoformat(),
                evidence="" if own is None else own.evidence,
                source="" if target is None else target.source,
            )
        )
    return rows


def year_end(e: Evidence) -> YearEnd:
    """Where the calendar year of the report will end, and what each limit still allows."""
    year = int(e.name[:4])
    history = _whole_days(e)
    least = e.site.minimum_coverage_ratio
    found = project_year(history, year, minimum_coverage_ratio=least)
    limits = [(x.profile, x.pue) for x in e.limits]
    allowed = budgets(history, year, [pue for _, pue in limits], minimum_coverage_ratio=least)
    places = energy_decimals(float(history["facility_kwh"].sum()) if len(history) else 0.0)
    return YearEnd(
        year=year,
        measured_days=found.measured_days,
        projected_days=found.projected_days,
        pue=rounded(found.pue, RATIO),
        low=rounded(found.low, RATIO),
        high=rounded(found.high, RATIO),
        level=found.level,
        budgets=[
            BudgetRow(
                profile=profile,
                limit=pue,
                used_kwh=number(b.used_kwh, places),
                margin_kwh=number(b.margin_kwh, places),
                allowed_kwh=rounded(b.allowed_kwh, places),
                left_kwh=rounded(b.left_kwh, places),
                crossed_in=None if b.crossed_in is None else f"{b.crossed_in:%Y-%m}",
            )
            for (profile, pue), b in zip(limits, allowed, strict=True)
        ],
        surcharges=charges.expected(
            history, year, e.reference.surcharges, e.site.jurisdiction, least, places
        ),
    )


def _whole_days(e: Evidence) -> pd.DataFrame:
    """The history without a last day that has not ended."""
    last = e.known.end.astimezone(e.site.zone)
    table = e.history[["facility_kwh", "it_kwh", "coverage_ratio"]]
    return table[pd.DatetimeIndex(table.index) < pd.Timestamp(last.date())]


def annex_ii(e: Evidence) -> list[EuField]:
    """Energy fields of Annex II of regulation (EU) 2024/1364; what is not measured has no value."""
    d, design = e.pue[PERIOD], e.site.design
    places = energy_decimals(d.facility_kwh)
    partial = d.kind != "annual" or d.coverage_ratio < e.site.minimum_coverage_ratio
    water = None if e.water is None else number(e.water.volume_m3, 3)
    renewable = max(d.apart_kwh.get("renewable", 0.0) - d.apart_kwh.get("export", 0.0), 0.0)
    kwh = {
        "E_DC": d.facility_kwh,
        "E_DC-BG": d.apart_kwh.get("generator", 0.0),
        "E_IT": d.it_kwh,
        "E_REUSE": d.apart_kwh.get("heat_reuse", 0.0),
        "E_RES-OS": renewable,
        "E_RES-TOT": renewable,
    }
    fixed = {"P_DIT": ("kW", design.it_capacity_kw), "S_DC": ("m2", design.floor_area_m2)}
    fixed["S_CR"] = ("m2", design.computer_room_area_m2)
    absent = {
        "W_IN-POT": "m3",
        "T_WH": "C",
        "T_IN": "C",
        "CDD": "K d",
        "E_RES-GOO": "kWh",
        "E_RES-PPA": "kWh",
    }
    return [
        *(EuField(field=f, unit=u, value=rounded(v, KW), partial=False) for f, (u, v) in fixed.items()),
        *(EuField(field=f, unit="kWh", value=number(v, places), partial=partial) for f, v in kwh.items()),
        EuField(field="W_IN", unit="m3", value=water, partial=partial),
        *(EuField(field=f, unit=u, value=None, partial=partial) for f, u in absent.items()),
    ]
