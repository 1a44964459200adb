"""Synthetic plants with known truth, for the plant indicators and the opportunities."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain.period import Period
from app.domain.plant_series import OpenFinding, PlantSeries
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Design, Equipment, Meter, Point, Site, Stage
from app.domain.tariff import Tariff, TariffBand

Floats = npt.NDArray[np.float64]


def energy(meter: str, role: Role, **keys: Any) -> Meter:
    """A meter with one register, ``<meter>.kwh``."""
    point = Point(id=f"{meter}.kwh", role=role, kind=ReadingKind.REGISTER)
    return Meter(id=meter, points=(point,), accuracy_class_percent=0.5, **keys)


def sensor(meter: str, *roles: Role, **keys: Any) -> Meter:
    """A meter with one sensor per role, ``<meter>.<role>``."""
    points = tuple(Point(id=f"{meter}.{r.value}", role=r, kind=ReadingKind.GAUGE) for r in roles)
    return Meter(id=meter, points=points, **keys)


_UPS: Any = {"stage": Stage.UPS, "redundancy": "2N"}

METERS = (
    energy("ups-a-in", Role.NONE, **_UPS),
    energy("ups-b-in", Role.NONE, **_UPS),
    energy(
        "ups-a",
        Role.IT_UPS_OUTPUT,
        stage=Stage.UPS,
        fed_by=("ups-a-in",),
        rated_power_kw=800,
        redundancy="2N",
    ),
    energy(
        "ups-b",
        Role.IT_UPS_OUTPUT,
        stage=Stage.UPS,
        fed_by=("ups-b-in",),
        rated_power_kw=800,
        redundancy="2N",
    ),
    energy("losses", Role.POWER_DISTRIBUTION),
    energy("chiller", Role.COOLING, equipment=Equipment.CHILLER, rated_power_kw=300),
    energy("pump", Role.COOLING, equipment=Equipment.PUMP),
    energy("tower", Role.COOLING, equipment=Equipment.COOLING_TOWER),
    energy("fans", Role.COOLING, equipment=Equipment.AIR_HANDLER),
    energy("lights", Role.LIGHTING),
    sensor("water", Role.CHILLED_WATER_SUPPLY, Role.CHILLED_WATER_RETURN, Role.CHILLED_WATER_FLOW),
    sensor("tower-water", Role.CONDENSER_SUPPLY),
    sensor("roof", Role.OUTDOOR_WET_BULB),
    sensor("rack-1", Role.RACK_INLET, Role.RACK_OUTLET),
    sensor("rack-2", Role.RACK_INLET, Role.RACK_OUTLET),
    sensor("crah", Role.CRAC_SUPPLY, Role.CRAC_RETURN),
    sensor("server", Role.UTILISATION),
)

TARIFF = Tariff(
    valid_from=date(2026, 1, 1),
    price_per_kwh=1.0,
    bands=(TariffBand(name="night", start="22:00", end="06:00", price_per_kwh=0.5),),
)


def hourly(meter: Meter) -> Meter:
    """The meter, read every hour."""
    return replace(meter, points=tuple(replace(p, interval_s=3600) for p in meter.points))


def site(*meters: Meter, **keys: Any) -> Site:
    """A site of some meters, or of all of them."""
    chosen = {"design": Design(it_capacity_kw=1000), "tariffs": (TARIFF,), **keys}
    return Site(id="s", institution="b", time_zone="UTC", meters=meters or METERS, **chosen)


def without(*gone: str) -> Site:
    """The whole site but some meters."""
    return site(*(m for m in METERS if m.id not in gone))


def truth(index: pd.DatetimeIndex, seed: int = 1) -> dict[str, Floats]:
    """Power [kW] by meter and values by sensor of a plant whose indicators are known.

    Cooling 0.2 x IT: COP 5 of the chiller while the wet bulb plus 7 K exceeds 15 C, half of that where not
    (the chiller runs although it need not). UPS: 96 % at A, 94 % at B.
    """
    rng = np.random.default_rng(seed)
    hour = np.asarray(index.hour + index.minute / 60)
    it = 600 + 30 * np.sin(hour / 24 * 2 * np.pi) + rng.normal(0, 2, len(index))
    season = np.cos((np.asarray(index.day_of_year) - 200) / 365 * 2 * np.pi)
    wet = 10 + 10 * season + rng.normal(0, 1, len(index))
    a_share = 0.5 + 0.1 * np.sin(np.arange(len(index)) / 500)
    jitter = rng.normal(0, 0.01, len(index))
    staffed = (np.asarray(index.day_of_week) < 5) & (hour >= 9) & (hour < 17)
    return {
        "ups-a": it * a_share,
        "ups-b": it * (1 - a_share),
        "ups-a-in": it * a_share / 0.96,
        "ups-b-in": it * (1 - a_share) / 0.94,
        "losses": it * 0.06,
        "chiller": it / 5,
        "pump": it * 0.03,
        "tower": it * 0.02,
        "fans": np.full(len(index), 50.0),
        "lights": np.where(staffed, 20.0, 10.0),
        "water.chilled_water_supply": 15 + jitter,
        "water.chilled_water_return": 20 + jitter,
        "water.chilled_water_flow": it / (5 * 1.163),
        "tower-water.condenser_supply": wet + 4,
        "roof.outdoor_wet_bulb": wet,
        "rack-1.rack_inlet": 21 + jitter,
        "rack-2.rack_inlet": 23 + jitter,
        "rack-1.rack_outlet": 33 + jitter,
        "rack-2.rack_outlet": 35 + jitter,
        "crah.crac_supply": 20 + jitter,
        "crah.crac_return": 29 + jitter,
        "server.utilisation": np.where(hour < 6, 3.0, 30.0) + jitter,
    }


def plant(
    days: int = 365,
    of: Site | None = None,
    *,
    start: str = "2026-01-01",
    step: str = "1h",
    values: dict[str, Floats] | None = None,
    findings: tuple[OpenFinding, ...] = (),
) -> PlantSeries:
    """The readings of a site over some days; `values` take the place of the truth."""
    index = pd.date_range(start, periods=days * (24 if step == "1h" else 96), freq=step, tz="UTC")
    chosen, known = of or site(), {**truth(index), **(values or {})}
    per_hour = 1 if step == "1h" else 4
    ids = {p.id for p in chosen.points()}
    energies = {f"{m}.kwh": kw / per_hour for m, kw in known.items() if f"{m}.kwh" in ids}
    gauges = {p: v for p, v in known.items() if p in ids}
    period = Period(index[0].to_pydatetime(), (index[-1] + pd.Timedelta(step)).to_pydatetime())
    return PlantSeries(
        chosen,
        period,
        pd.DataFrame(energies, index),
        pd.DataFrame(gauges, index, dtype=float),
        findings,
    )


def masked(plant_: PlantSeries, point: str, rows: slice) -> PlantSeries:
    """The same without some readings of a point."""
    energies, gauges = plant_.energy_kwh.copy(), plant_.gauges.copy()
    for table in (energies, gauges):
        if point in table:
            table.iloc[rows, table.columns.get_loc(point)] = np.nan
    return replace(plant_, energy_kwh=energies, gauges=gauges)
