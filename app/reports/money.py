"""Cost, emissions, saving potential, and the indicators beside PUE."""

from __future__ import annotations

from datetime import date

import pandas as pd

from app.domain import hourly_factors as hourly
from app.domain import indicators as domain
from app.domain.emissions import EmissionFactor, emission_factor
from app.domain.evidence import PERIOD, Basis
from app.domain.limits import is_too_low
from app.domain.quantity import Role
from app.domain.site import Site
from app.domain.tariff import Tariff
from app.errors import NotFound
from app.reports import charges as extras
from app.reports.document import Factor, HourlyEmissions, Indicator, Money, SavingRow, TariffRow
from app.reports.energies import RATIO, is_doubtful, month_table
from app.reports.rounding import energy_decimals, number, rounded

MONEY = 2
KG = 1


def money(e: Basis) -> Money:
    """Cost and emissions of the grid electricity, with the tariffs and the factor that were used."""
    grid = grid_kwh(e)
    priced = domain.cost(grid, e.site.tariffs, e.site.zone)
    factor = _factor(e)
    emitted = None if factor is None else _emissions(e, factor)
    places = energy_decimals(e.pue[PERIOD].facility_kwh)
    charges = extras.charges(e, grid, priced.amount if priced.priced_kwh > 0 else None)
    return Money(
        grid_kwh=number(float(grid.sum()), places),
        cost=rounded(priced.amount, MONEY) if priced.priced_kwh > 0 else None,
        priced_kwh=number(priced.priced_kwh, places),
        unpriced_kwh=number(priced.unpriced_kwh, places),
        mean_price_per_kwh=rounded(priced.mean_price_per_kwh, RATIO),
        tariffs=[_tariff(t) for t in e.site.tariffs if _holds(e, t)],
        emissions_kg=rounded(emitted, KG),
        factor=None if factor is None else _as_factor(factor),
        generator_kg_per_kwh=e.site.emissions.generator_kg_per_kwh,
        hourly=_hourly(e, grid),
        **charges,
    )


def _hourly(e: Basis, grid: pd.Series[float]) -> HourlyEmissions | None:
    """Emissions by hourly factors; those of generators as in the figure of the year."""
    if not e.hourly_factors:
        return None
    found = hourly.hourly_emissions(grid, hourly.series(e.hourly_factors))
    generator_kwh = e.pue[PERIOD].apart_kwh.get("generator", 0.0)
    per_kwh = e.site.emissions.generator_kg_per_kwh
    is_known = not is_too_low(found.known_ratio, e.site.minimum_coverage_ratio)
    is_said = is_known and e.pue[PERIOD].coverage_ratio > 0 and (per_kwh is not None or generator_kwh <= 0)
    return HourlyEmissions(
        region=e.site.emissions.region,
        basis=e.site.emissions.basis,
        emissions_kg=rounded(found.kg + generator_kwh * (per_kwh or 0.0), KG) if is_said else None,
        known_ratio=number(found.known_ratio, RATIO),
        mean_kg_per_kwh=rounded(domain.ratio(found.kg, found.known_kwh), RATIO),
        sources=list(hourly.sources(e.hourly_factors)),
        verified=all(one.verified for one in e.hourly_factors),
    )


def grid_kwh(e: Basis) -> pd.Series[float]:
    """Grid electricity that was bought for the data centre, per quarter-hour. [kWh]"""
    q = e.quarters
    return q["facility_kwh"] + q["export_kwh"] - q["renewable_kwh"] - q["generator_kwh"]


def _holds(e: Basis, tariff: Tariff) -> bool:
    zone = e.site.zone
    first, last = e.known.start.astimezone(zone).date(), e.known.end.astimezone(zone).date()
    return tariff.valid_from <= last and (tariff.valid_to is None or tariff.valid_to > first)


def _tariff(tariff: Tariff) -> TariffRow:
    bands = [f"{b.name} {b.start}-{b.end} {b.price_per_kwh:g}" for b in tariff.bands]
    return TariffRow(
        valid_from=tariff.valid_from.isoformat(),
        price_per_kwh=tariff.price_per_kwh,
        bands=bands,
        source=tariff.source,
        demand_price_per_kw_month=tariff.demand_price_per_kw_month,
    )


def _factor(e: Basis) -> EmissionFactor | None:
    year = e.known.start.astimezone(e.site.zone).year
    try:
        return emission_factor(e.reference.emission_factors, e.site.emissions, year)
    except NotFound:  # another region or basis: the report says that there is none
        return None


def _as_factor(f: EmissionFactor) -> Factor:
    return Factor(
        region=f.region,
        basis=f.basis,
        year=f.year,
        kg_per_kwh=f.kg_per_kwh,
        source=f.source,
        verified=f.verified,
    )


def _emissions(e: Basis, factor: EmissionFactor) -> float | None:
    d = e.pue[PERIOD]
    if d.coverage_ratio <= 0:
        return None
    return domain.emissions_kg(
        d.facility_kwh,
        factor,
        renewable_kwh=d.apart_kwh.get("renewable", 0.0),
        generator_kwh=d.apart_kwh.get("generator", 0.0),
        export_kwh=d.apart_kwh.get("export", 0.0),
        generator_kg_per_kwh=e.site.emissions.generator_kg_per_kwh,
    )


def _has(site: Site, role: Role) -> bool:
    return any(state.carriers(role) for state in site.states)


def indicators(e: Basis) -> list[Indicator]:
    """WUE, CUE, REF, ERF, CER and ITEUsv; those without data have no value."""
    d, factor = e.pue[PERIOD], _factor(e)
    places = energy_decimals(d.facility_kwh)
    renewable, reused = d.apart_kwh.get("renewable", 0.0), d.apart_kwh.get("heat_reuse", 0.0)
    share = domain.ref(renewable, d.facility_kwh, export_kwh=d.apart_kwh.get("export", 0.0))
    has_renewable, has_reuse = (_has(e.site, r) for r in (Role.RENEWABLE, Role.HEAT_REUSE))
    emitted = None if factor is None else _emissions(e, factor)
    utilisation, is_sound = _servers(e), not is_doubtful(d)
    it, facility = number(d.it_kwh, places), number(d.facility_kwh, places)
    return [
        _wue(e, it),
        Indicator(
            name="cue",
            value=rounded(domain.cue(emitted, d.it_kwh), RATIO) if emitted is not None and is_sound else None,
            inputs={} if emitted is None else {"emissions_kg": number(emitted, KG), "it_kwh": it},
        ),
        Indicator(
            name="ref",
            value=rounded(share, RATIO) if has_renewable and is_sound else None,
            inputs={"renewable_kwh": number(renewable, places), "facility_kwh": facility}
            if has_renewable
            else {},
        ),
        Indicator(
            name="erf",
            value=rounded(domain.erf(reused, d.facility_kwh), RATIO) if has_reuse and is_sound else None,
            inputs={"reused_kwh": number(reused, places), "facility_kwh": facility} if has_reuse else {},
        ),
        _cer(e),
        Indicator(name="iteu_sv_percent", value=rounded(utilisation, MONEY), inputs={}),
    ]


def _wue(e: Basis, it_kwh: float) -> Indicator:
    """WUE where the water meters cover the period as well as PUE must be covered."""
    water = e.water
    covered = 0.0 if water is None else water.covered_s / e.known.duration_s
    is_known = not is_too_low(covered, e.site.minimum_coverage_ratio)
    if water is None or not is_known or is_doubtful(e.pue[PERIOD]):
        return Indicator(name="wue", value=None, inputs={})
    value = rounded(domain.wue(water.volume_m3, e.pue[PERIOD].it_kwh), RATIO)
    inputs = {
        "water_m3": number(water.volume_m3, 3),
        "it_kwh": it_kwh,
        "coverage_ratio": number(covered, RATIO),
    }
    return Indicator(name="wue", value=value, inputs=inputs)


def _cer(e: Basis) -> Indicator:
    """CER where the heat meters and the facility cover the period well enough."""
    heat, d = e.heat_removed, e.pue[PERIOD]
    covered = 0.0 if heat is None else heat.covered_s / e.known.duration_s
    is_known = not is_too_low(min(covered, d.coverage_ratio), e.site.minimum_coverage_ratio)
    if heat is None or not is_known or is_doubtful(d):
        return Indicator(name="cer", value=None, inputs={})
    cooling_kwh = d.overhead_kwh.get(Role.COOLING.value, 0.0)
    places = energy_decimals(d.facility_kwh)
    inputs = {
        "heat_removed_kwh": number(heat.energy_kwh, places),
        "cooling_kwh": number(cooling_kwh, places),
        "coverage_ratio": number(covered, RATIO),
    }
    value = rounded(domain.cer(heat.energy_kwh, cooling_kwh), RATIO)
    return Indicator(name="cer", value=value, inputs=inputs if value is not None else {})


def _servers(e: Basis) -> float | None:
    roles = {p.id: p.role for p in e.site.points()}
    means = {p: g.mean for p, g in e.gauges.items() if roles[p] is Role.UTILISATION}
    return domain.itee_sv_utilisation(pd.DataFrame([means], dtype=float)) if means else None


def savings(e: Basis, cash: Money) -> list[SavingRow]:
    """Saving potential against every limit, the designed PUE, and the site's own best comparable month."""
    targets: list[tuple[str, str | None, float]] = [(x.profile, None, x.pue) for x in e.limits]
    if e.site.design.pue is not None:
        targets.append(("design", None, e.site.design.pue))
    best = _best_month(e)
    if best is not None:
        targets.append(("best_month", f"{best[0]:%Y-%m}", best[1]))
    d = e.pue[PERIOD]
    if d.pue is None:
        return []
    places = energy_decimals(d.facility_kwh)
    rows = []
    for against, month, pue in targets:
        one = domain.saving(against, pue, d.facility_kwh, d.it_kwh, cash.mean_price_per_kwh)
        rows.append(
            SavingRow(
                against=against,
                comparable_month=month,
                pue=number(pue, RATIO),
                energy_kwh=number(one.energy_kwh, places),
                cost=rounded(one.amount, MONEY),
            )
        )
    return rows


def _best_month(e: Basis) -> tuple[date, float] | None:
    if e.month is None:
        return None
    table, month = month_table(e), e.month
    if pd.Timestamp(month) not in table.index or not table["it_kwh"].get(pd.Timestamp(month)):
        return None
    least = e.site.minimum_coverage_ratio
    return domain.best_comparable_month(table, month, minimum_coverage_ratio=least)
