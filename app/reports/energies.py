"""PUE, energy, and their course over hours, days and months."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pandas as pd

from app.domain.attribution import UNMETERED
from app.domain.evidence import PERIOD, Basis, Evidence
from app.domain.limits import is_too_low
from app.domain.period import Period, midnight
from app.domain.pue import DOUBTFUL_CODES, PueDocument, doubts_within
from app.domain.quantity import IT_LOAD_CLASS, OVERHEAD_ROLES
from app.reports.document import ClassEnergy, DayRow, Energy, HourRow, PueFigure
from app.reports.rounding import apportioned, energy_decimals, number, rounded

RATIO = 6
"""Decimals of every ratio."""
KW = 2
"""Decimals of every power."""


def pue_figure(document: PueDocument) -> PueFigure:
    """One window's PUE, rounded."""
    places = energy_decimals(document.facility_kwh)
    return PueFigure(
        start=document.start,
        end=document.end,
        pue=rounded(document.pue, RATIO),
        reason=document.reason_code,
        label=document.label,
        category=document.category,
        kind=document.kind,
        facility_kwh=number(document.facility_kwh, places),
        it_kwh=number(document.it_kwh, places),
        coverage_ratio=number(document.coverage_ratio, RATIO),
        estimated_ratio=number(document.estimated_ratio, RATIO),
        uncertainty=rounded(document.uncertainty, RATIO),
        waits_for=list(document.waits_for),
    )


def is_doubtful(document: PueDocument) -> bool:
    """Whether no PUE is said because its energies may be wrong: no other ratio of them is then."""
    return document.reason_code in DOUBTFUL_CODES


def energy(e: Evidence) -> Energy:
    """Energy of the period by class and by source; both sum to the facility energy to the printed digit."""
    d = e.pue[PERIOD]
    places = energy_decimals(d.facility_kwh)
    overhead = {r.value: d.overhead_kwh[r.value] for r in OVERHEAD_ROLES}
    classes = {IT_LOAD_CLASS: d.it_kwh, **overhead, UNMETERED: d.unmetered_kwh}
    made = {name: d.apart_kwh.get(name, 0.0) for name in ("renewable", "generator")}
    non_dc = d.apart_kwh.get("non_dc", 0.0)
    sold = d.apart_kwh.get("export", 0.0)
    bought = d.facility_kwh - sum(made.values()) + non_dc + sold
    grid = {"grid": bought, **made, "non_dc": -non_dc, **({"export": -sold} if sold else {})}
    reused = {"heat_reuse": d.apart_kwh.get("heat_reuse", 0.0)}
    return Energy(
        facility_kwh=number(d.facility_kwh, places),
        classes=_rows(classes, d, places, d.facility_kwh),
        sources=_rows(grid, d, places, d.facility_kwh),
        apart=_rows(reused, d, places),
    )


def _rows(
    energies: dict[str, float], d: PueDocument, places: int, total: float | None = None
) -> list[ClassEnergy]:
    kwh = apportioned(list(energies.values()), places, total)
    return [
        ClassEnergy(
            name=name,
            energy_kwh=value,
            share_of_it=None if d.pue is None else rounded(exact / d.it_kwh, RATIO),
        )
        for (name, exact), value in zip(energies.items(), kwh, strict=True)
    ]


def days(e: Evidence, total: Energy) -> list[DayRow]:
    """Every local day of the known period, also those of which nothing is known."""
    if e.quarters.empty:
        table = pd.DataFrame(columns=["facility_kwh", "it_kwh", "covered_s"], dtype=float)
    else:
        table = _sums(e, local_days(e))
    first, last = _local_bounds(e)
    wanted = pd.date_range(first, last)
    return _day_rows(e, table.reindex(wanted).fillna(0.0), energy_decimals(total.facility_kwh))


def local_days(e: Evidence) -> pd.DatetimeIndex:
    """Naive local day of every quarter-hour."""
    return pd.DatetimeIndex(e.quarters.index).tz_convert(e.site.zone).tz_localize(None).normalize()


def _local_bounds(e: Evidence) -> tuple[date, date]:
    zone = e.site.zone
    last = (e.known.end - timedelta(microseconds=1)).astimezone(zone).date()
    return e.known.start.astimezone(zone).date(), last


def _sums(e: Evidence, by: pd.DatetimeIndex) -> pd.DataFrame:
    table = e.quarters[["facility_kwh", "it_kwh"]].copy()
    table["covered_s"] = e.quarters["coverage_ratio"] * 900
    return table.groupby(by).sum()


def _day_rows(e: Evidence, table: pd.DataFrame, places: int) -> list[DayRow]:
    facility = apportioned(table["facility_kwh"].tolist(), places)
    it = apportioned(table["it_kwh"].tolist(), places)
    rows = []
    for i, day in enumerate(pd.DatetimeIndex(table.index)):
        length_s = _length_s(e, day.date(), day.date() + timedelta(days=1))
        coverage = min(float(table["covered_s"].iloc[i]) / length_s, 1.0)
        exact = table.iloc[i]
        rows.append(
            DayRow(
                day=day.date().isoformat(),
                facility_kwh=facility[i],
                it_kwh=it[i],
                pue=_pue(e, exact["facility_kwh"], exact["it_kwh"], coverage, local_span(e, day.date())),
                coverage_ratio=number(coverage, RATIO),
            )
        )
    return rows


def local_span(e: Basis, first: date, days: int = 1) -> Period:
    """Some local days."""
    zone = e.site.zone
    return Period(midnight(first, zone), midnight(first + timedelta(days=days), zone))


def _length_s(e: Basis, first: date, after: date) -> float:
    """Length of some local days, as far as they have passed. [s]"""
    end = min(midnight(after, e.site.zone), e.known.end)
    return (end - midnight(first, e.site.zone)).total_seconds()


def _pue(e: Evidence, facility_kwh: float, it_kwh: float, coverage: float, span: Period) -> float | None:
    """PUE of one bar by the rules of a document: only where it is covered and possible, and nothing waits."""
    if is_too_low(coverage, e.site.minimum_coverage_ratio) or coverage <= 0 or not 0 < it_kwh <= facility_kwh:
        return None
    if is_waiting(e, span):
        return None
    return rounded(facility_kwh / it_kwh, RATIO)


def is_waiting(e: Evidence, span: Period) -> bool:
    """Whether findings of a time wait for a person, so that no PUE of it is said."""
    return bool(doubts_within(e.doubts, span.start, span.end))


def months(e: Evidence) -> list[DayRow]:
    """The months of the year, or the 12 months that end with a month; only those with any figures."""
    table = month_table(e)
    if table.empty:
        return []
    _, last = _local_bounds(e)
    first = date(int(e.name), 1, 1) if len(e.name) == 4 else _months_before(last, 11)
    table = table[table.index >= pd.Timestamp(first)]
    places = energy_decimals(float(table["facility_kwh"].max())) if len(table) else 1
    facility = apportioned(table["facility_kwh"].tolist(), places)
    it = apportioned(table["it_kwh"].tolist(), places)
    return [
        DayRow(
            day=f"{at:%Y-%m}",
            facility_kwh=facility[i],
            it_kwh=it[i],
            pue=_pue(
                e,
                table["facility_kwh"].iloc[i],
                table["it_kwh"].iloc[i],
                coverage,
                local_span(e, at.date(), at.days_in_month),
            ),
            coverage_ratio=number(coverage, RATIO),
        )
        for i, (at, coverage) in enumerate(
            zip(pd.DatetimeIndex(table.index), table["coverage_ratio"].tolist(), strict=True)
        )
    ]


def _months_before(day: date, months: int) -> date:
    at = day.year * 12 + day.month - 1 - months
    return date(at // 12, at % 12 + 1, 1)


def month_table(e: Basis) -> pd.DataFrame:
    """Sums per local month of the whole history, indexed by the first day: energies and coverage."""
    columns = ["facility_kwh", "it_kwh", "coverage_ratio"]
    if e.history.empty:
        return pd.DataFrame(columns=columns, dtype=float)
    days = pd.DatetimeIndex(e.history.index)
    lengths_s = [_length_s(e, d.date(), d.date() + timedelta(days=1)) for d in days]
    table = e.history[["facility_kwh", "it_kwh"]].copy()
    table["covered_s"] = e.history["coverage_ratio"].to_numpy() * np.array(lengths_s)
    sums = table.groupby(days.to_period("M").to_timestamp()).sum()
    firsts = [at.date() for at in pd.DatetimeIndex(sums.index)]
    whole_s = [_length_s(e, first, _months_before(first, -1)) for first in firsts]
    sums["coverage_ratio"] = np.minimum(sums.pop("covered_s").to_numpy() / np.array(whole_s), 1.0)
    return sums


def hours(e: Evidence) -> list[HourRow]:
    """Mean facility power by hour of the local day: a row per day of a month, per month of a year."""
    if e.quarters.empty:
        return []
    local = pd.DatetimeIndex(e.quarters.index).tz_convert(e.site.zone)
    of = local.strftime("%Y-%m" if len(e.name) == 4 else "%Y-%m-%d")
    hours_known = e.quarters["coverage_ratio"].to_numpy() / 4
    table = pd.DataFrame(
        {"kwh": e.quarters["facility_kwh"].to_numpy(), "h": hours_known, "of": of, "hour": local.hour}
    )
    sums = table.groupby(["of", "hour"])[["kwh", "h"]].sum()
    known = sums[sums["h"] > 0]
    power = (known["kwh"] / known["h"]).unstack("hour").reindex(columns=range(24))
    return [
        HourRow(of=str(name), mean_kw=[None if math.isnan(v) else number(v, KW) for v in row])
        for name, row in zip(power.index, power.to_numpy(), strict=True)
    ]
