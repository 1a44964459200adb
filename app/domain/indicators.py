"""Indicators beside PUE (ISO/IEC 30134 family), emissions, money and saving potential.

Every ratio is None where its denominator is not above zero: there is then nothing to say. Energies are
sums over one period, covered by all that enter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain.emissions import Conversion, EmissionFactor
from app.domain.site import BusinessLine
from app.domain.tariff import Tariff, TariffBand
from app.errors import NotFound, SeriesError


def ratio(numerator: float, denominator: float) -> float | None:
    """Quotient, or None where the denominator is not above zero."""
    return numerator / denominator if denominator > 0 else None


def wue(water_m3: float, it_kwh: float) -> float | None:
    """Water usage effectiveness (ISO/IEC 30134-9): water input per IT energy. [m3/MWh = l/kWh]"""
    return ratio(water_m3 * 1000, it_kwh)


def cue(emissions_kg: float, it_kwh: float) -> float | None:
    """Carbon usage effectiveness (ISO/IEC 30134-8): emissions per IT energy. [kgCO2e/kWh]"""
    return ratio(emissions_kg, it_kwh)


def ref(renewable_kwh: float, facility_kwh: float, *, export_kwh: float = 0.0) -> float | None:
    """Renewable energy factor (ISO/IEC 30134-3): at most 1, surplus renewable energy does not count.

    What is sold is taken from the renewable energy first.
    """
    share = ratio(max(renewable_kwh - export_kwh, 0.0), facility_kwh)
    return None if share is None else min(share, 1.0)


def erf(reused_kwh: float, facility_kwh: float) -> float | None:
    """Energy reuse factor (ISO/IEC 30134-6): energy reused outside the data centre, by facility energy."""
    return ratio(reused_kwh, facility_kwh)


def cer(heat_removed_kwh: float, cooling_kwh: float) -> float | None:
    """Cooling efficiency ratio (ISO/IEC 30134-7): heat removed by energy of the cooling."""
    return ratio(heat_removed_kwh, cooling_kwh)


def itee_sv_utilisation(utilisation_percent: pd.DataFrame) -> float | None:
    """ITEUsv (ISO/IEC 30134-5): mean CPU utilisation of the servers.

    Parameters
    ----------
    utilisation_percent : DataFrame of float64, shape (t, servers)
        Readings of a period. [%] NaN: not read. Every server counts alike, however often it was read.

    Returns
    -------
    float or None
        [%] None where nothing was read.
    """
    means = utilisation_percent.mean()
    return None if means.isna().all() else float(means.mean())


def overhead_shares(
    facility_kwh: float, it_kwh: float, overhead_kwh: Mapping[str, float]
) -> dict[str, float] | None:
    """E_c / E_IT of every overhead class and of the ``unmetered`` rest; PUE is 1 + their sum.

    None without IT energy.
    """
    if it_kwh <= 0:
        return None
    unmetered = facility_kwh - it_kwh - sum(overhead_kwh.values())
    return {name: kwh / it_kwh for name, kwh in {**overhead_kwh, "unmetered": unmetered}.items()}


def emissions_kg(
    facility_kwh: float,
    factor: EmissionFactor,
    *,
    renewable_kwh: float = 0.0,
    generator_kwh: float = 0.0,
    export_kwh: float = 0.0,
    generator_kg_per_kwh: float | None = None,
) -> float | None:
    """Emissions of the facility energy: grid by its factor, own generators by theirs, own renewables none.

    Parameters
    ----------
    facility_kwh, renewable_kwh, generator_kwh : float
        Facility energy, and the energy made on site by renewables and by generators. [kWh]
    export_kwh : float
        Energy that was sold: it was bought or made, and is no part of the facility energy. [kWh]
    generator_kg_per_kwh : float or None
        Per kWh at the generators' output. [kgCO2e/kWh]

    Returns
    -------
    float or None
        [kgCO2e] None where generators ran and their factor is unknown.
    """
    if generator_kwh > 0 and generator_kg_per_kwh is None:
        return None
    grid_kwh = max(facility_kwh + export_kwh - renewable_kwh - generator_kwh, 0.0)
    return grid_kwh * factor.kg_per_kwh + generator_kwh * (generator_kg_per_kwh or 0.0)


def fuel_kwh(amount: float, what: str, conversions: Iterable[Conversion]) -> float:
    """Energy content of an amount of fuel. [kWh]

    Raises
    ------
    NotFound
        If no conversion is known; its text lists those that are.
    """
    known = {c.what: c for c in conversions}
    if what not in known:
        raise NotFound(f"no conversion for {what!r}; known are {', '.join(sorted(known))}")
    return amount * known[what].factor


def source_weighted_pue(
    energies_kwh: Mapping[str, float], it_kwh: float, weights: Iterable[Conversion]
) -> float | None:
    """PUE with every energy carrier weighted by its source energy; off unless a site asks for it.

    Raises
    ------
    NotFound
        If a carrier has no weight.
    """
    return ratio(sum(fuel_kwh(kwh, carrier, weights) for carrier, kwh in energies_kwh.items()), it_kwh)


def prices_per_kwh(tariffs: Sequence[Tariff], index: pd.DatetimeIndex, zone: ZoneInfo) -> pd.Series[float]:
    """Price of each interval by the tariff of its local day and hour.

    Parameters
    ----------
    tariffs : sequence of Tariff
        Where two hold on one day, the later `valid_from` counts.
    index : DatetimeIndex, shape (n,)
        Interval starts, UTC.

    Returns
    -------
    Series of float64, shape (n,)
        [currency/kWh] NaN where no tariff holds.

    Raises
    ------
    SeriesError
        If the index is naive.
    """
    if index.tz is None:
        raise SeriesError("naive index; every instant needs a zone")
    local = index.tz_convert(zone)
    day = local.tz_localize(None).normalize()
    prices = np.full(len(index), np.nan)
    for tariff in sorted(tariffs, key=lambda t: t.valid_from):
        rows = np.asarray(day >= pd.Timestamp(tariff.valid_from))
        if tariff.valid_to is not None:
            rows &= np.asarray(day < pd.Timestamp(tariff.valid_to))
        prices[rows] = _tariff_prices(tariff, local[rows])
    return pd.Series(prices, index)


def _tariff_prices(tariff: Tariff, local: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
    prices = np.full(len(local), tariff.price_per_kwh)
    for band in reversed(tariff.bands):
        prices[_in_band(band, local)] = band.price_per_kwh
    return prices


def _in_band(band: TariffBand, local: pd.DatetimeIndex) -> npt.NDArray[np.bool_]:
    """Rows inside the band. A band over midnight belongs to the day on which it began."""
    minute = np.asarray(local.hour * 60 + local.minute)
    start, end = _minutes(band.start), _minutes(band.end)
    after_midnight = (minute < end) & (start >= end)
    inside = (minute >= start) & (minute < end) if start < end else (minute >= start) | after_midnight
    began = local.tz_localize(None).normalize() - pd.to_timedelta(after_midnight.astype(int), unit="D")
    if band.months:
        inside &= np.isin(began.month, band.months)
    if band.weekdays:
        inside &= np.isin(began.day_of_week + 1, band.weekdays)
    return np.asarray(inside, np.bool_)


def _minutes(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of an energy by dated tariffs."""

    amount: float
    """[currency]"""
    priced_kwh: float
    unpriced_kwh: float
    """Energy at times without a tariff: not in `amount`. [kWh]"""

    @property
    def mean_price_per_kwh(self) -> float | None:
        """Mean price, weighted by the energy. None where nothing was priced."""
        return ratio(self.amount, self.priced_kwh)


def cost(energy_kwh: pd.Series[float], tariffs: Sequence[Tariff], zone: ZoneInfo) -> Cost:
    """Cost of an energy series.

    Parameters
    ----------
    energy_kwh : Series of float64, shape (n,)
        Energy per interval, indexed by its start in UTC. [kWh] NaN: not known, costs nothing here.
    """
    index = pd.DatetimeIndex(energy_kwh.index)
    prices = prices_per_kwh(tariffs, index, zone)
    energy = energy_kwh.fillna(0.0)
    priced = prices.notna()
    amount = float((energy * prices).sum())
    return Cost(amount, float(energy[priced].sum()), float(energy[~priced].sum()))


@dataclass(frozen=True, slots=True)
class Shared:
    """Part of the energy, the cost and the emissions of a site that falls to one load class."""

    energy_kwh: float
    amount: float
    """[currency]"""
    emissions_kg: float | None
    """None without a factor."""


def shared_cost(
    grid_kwh: pd.Series[float],
    facility_kwh: pd.Series[float],
    parts_kwh: Mapping[str, pd.Series[float]],
    tariffs: Sequence[Tariff],
    zone: ZoneInfo,
    emissions_kg: float | None,
) -> dict[str, Shared]:
    """Cost and emissions of the grid electricity by load class, and of what no class has.

    In every interval the cost is shared in proportion to the energy at that time, so a class that runs
    at night pays the price of the night. Emissions are shared in proportion to the energy of the period.

    Parameters
    ----------
    grid_kwh, facility_kwh : Series of float64, shape (n,)
        Bought and used energy per interval, indexed by its start in UTC. [kWh]
    parts_kwh : mapping of str to Series of float64, shape (n,)
        Energy by load class per interval. [kWh]
    emissions_kg : float or None
        Emissions of the period. [kg]

    Returns
    -------
    dict of str to Shared
        The classes in their order, and ``unmetered``; the amounts sum to :func:`cost`.
    """
    prices = prices_per_kwh(tariffs, pd.DatetimeIndex(grid_kwh.index), zone).fillna(0.0)
    rest_kwh = facility_kwh - sum(part.fillna(0.0) for part in parts_kwh.values())
    every = {**parts_kwh, "unmetered": rest_kwh}
    amount = (grid_kwh * prices).fillna(0.0)
    used_kwh, total_kwh = facility_kwh.where(facility_kwh > 0), float(facility_kwh.sum())
    return {
        name: Shared(
            float(part.sum()),
            float((amount * (part / used_kwh)).fillna(0.0).sum()),
            None if emissions_kg is None or total_kwh <= 0 else emissions_kg * float(part.sum()) / total_kwh,
        )
        for name, part in every.items()
    }


def allotted_kwh(
    facility_kwh: pd.Series[float], keys_kwh: Mapping[str, pd.Series[float]]
) -> dict[str, pd.Series[float]]:
    """The energy of a site by the IT energy of its rooms: who uses more IT bears more of all.

    Parameters
    ----------
    facility_kwh : Series of float64, shape (n,)
        Energy of the site per interval. [kWh]
    keys_kwh : mapping of str to Series of float64
        IT energy by room per interval. [kWh] NaN: not known.

    Returns
    -------
    dict of str to Series of float64, shape (n,)
        By room; the sum is that of the site where the IT energy of any room is known, else 0. [kWh]
    """
    keys = {name: key.reindex(facility_kwh.index).fillna(0.0) for name, key in keys_kwh.items()}
    total = sum(keys.values(), pd.Series(0.0, index=facility_kwh.index))
    share = {name: (key / total.where(total > 0)).fillna(0.0) for name, key in keys.items()}
    return {name: facility_kwh * one for name, one in share.items()}


def weighted_kwh(
    rooms_kwh: Mapping[str, pd.Series[float]], lines: Sequence[BusinessLine]
) -> dict[str, pd.Series[float]]:
    """The energy of rooms by the business lines that bear a share of each. [kWh]"""
    return {
        line.id: sum(
            (rooms_kwh[room] * weight for room, weight in line.weights.items() if room in rooms_kwh),
            pd.Series(0.0, index=next(iter(rooms_kwh.values())).index),
        )
        for line in lines
        if rooms_kwh
    }


@dataclass(frozen=True, slots=True)
class Saving:
    """Energy and money that a lower PUE would have saved at the same IT energy."""

    against: str
    """Profile of the limit, or the comparable month."""
    pue: float
    """PUE to be reached."""
    energy_kwh: float
    """Zero where it is reached already. [kWh]"""
    amount: float | None
    """[currency] None without a price."""


def saving(
    against: str, target_pue: float, facility_kwh: float, it_kwh: float, price_per_kwh: float | None
) -> Saving:
    """Saving potential: facility energy above `target_pue` x IT energy.

    Parameters
    ----------
    facility_kwh, it_kwh : float
        Energies of the period. [kWh]
    price_per_kwh : float or None
        Mean price of the site's energy in the period. [currency/kWh]
    """
    energy_kwh = max(facility_kwh - target_pue * it_kwh, 0.0)
    amount = None if price_per_kwh is None else energy_kwh * price_per_kwh
    return Saving(against, target_pue, energy_kwh, amount)


def best_comparable_month(
    months: pd.DataFrame,
    month: date,
    *,
    minimum_coverage_ratio: float = 0.9,
    it_load_tolerance: float = 0.25,
) -> tuple[date, float] | None:
    """The site's own best month that can be compared with `month`, and its PUE.

    Comparable is a month of the same season (the same month of the year or one beside it), covered
    well enough, with a mean IT load that differs by at most `it_load_tolerance`.

    Parameters
    ----------
    months : DataFrame
        Indexed by the first day of each month (``datetime64``); columns facility_kwh, it_kwh [kWh] and
        coverage_ratio.
    month : date
        First day of the month to be judged; it must stand in `months`.
    it_load_tolerance : float
        Relative.

    Returns
    -------
    tuple of date and float, or None
        None where no other month compares.

    Raises
    ------
    NotFound
        If `month` is not in `months`.
    """
    index = pd.DatetimeIndex(months.index)
    here = pd.Timestamp(month)
    if here not in index:
        raise NotFound(f"no figures of {month:%Y-%m}; choose a month that has been measured")
    it_kw = months["it_kwh"] / (index.days_in_month * 24) / months["coverage_ratio"]
    apart = np.asarray((index.month - here.month) % 12)
    comparable = (
        np.isin(apart, (0, 1, 11))
        & np.asarray(index != here)
        & (months["coverage_ratio"] >= minimum_coverage_ratio)
        & (months["it_kwh"] > 0)
        & ((it_kw / it_kw[here] - 1).abs() <= it_load_tolerance)
    )
    if not comparable.any():
        return None
    pue = (months["facility_kwh"] / months["it_kwh"])[comparable]
    return pd.Timestamp(index[comparable][int(pue.to_numpy().argmin())]).date(), float(pue.min())


@dataclass(frozen=True, slots=True)
class FleetPue:
    """PUE of several sites together, by both averages in use."""

    ratio_of_sums: float | None
    """Sum of the facility energies by sum of the IT energies: the house figure."""
    facility_weighted: float | None
    """Mean of the sites' PUE weighted by facility energy, as in public averages of the EU."""
    facility_kwh: float
    it_kwh: float
    sites: tuple[str, ...]
    """Sites that entered."""
    left_out: tuple[str, ...]
    """Sites without a PUE in the period."""


def fleet_pue(sites: pd.DataFrame) -> FleetPue:
    """PUE of a fleet.

    Parameters
    ----------
    sites : DataFrame
        Indexed by site; columns facility_kwh and it_kwh over the same period. [kWh] A site of which
        either is unknown (NaN), without IT energy or with a PUE below 1 is left out and named.
    """
    known = (sites["it_kwh"] > 0) & (sites["facility_kwh"] >= sites["it_kwh"])
    facility, it = sites.loc[known, "facility_kwh"], sites.loc[known, "it_kwh"]
    total, total_it = float(facility.sum()), float(it.sum())
    return FleetPue(
        ratio(total, total_it),
        ratio(float((facility / it * facility).sum()), total),
        total,
        total_it,
        tuple(str(site) for site in sites.index[known]),
        tuple(str(site) for site in sites.index[~known]),
    )
