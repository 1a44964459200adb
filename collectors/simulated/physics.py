"""The simulated data centres: one physical model each, a pure function of time.

Weather drives the cooling, business drives the IT load, and the losses follow from both; the grid
delivers the sum of everything. All signals are given at nodes 300 s apart and are straight lines in
between, so a cumulative register is the *exact* integral of its power, sums that hold at the nodes
hold at every instant, and a history computed today meets live values without a step.

Noise is hashed from the seed and the absolute time, never drawn in sequence: evaluating one instant
or a whole year gives the same numbers, in any order, on any machine.

Where do I go to add a load? Into :func:`headquarters` or :func:`branch`: give it a name and add it to
what the sources must deliver. A meter ``sh1-chiller-1`` of the site file measures signal ``chiller_1``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from app.errors import SeriesError

Floats: TypeAlias = npt.NDArray[np.float64]
Instants: TypeAlias = npt.NDArray[np.datetime64]
Nodes: TypeAlias = npt.NDArray[np.int64]
Signals: TypeAlias = dict[str, Floats]

NODE_S = 300
"""Distance of the nodes between which every signal is a straight line. [s]"""

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
LOCAL_OFFSET_S = 8 * 3600.0
"""Both sites keep China Standard Time, which has no daylight saving. [s]"""

_STRETCH = 8 * 288
"""Nodes that are computed together: 8 days."""
_KEPT_STRETCHES = 6
"""Stretches that stay in memory; the others are computed anew where they are asked for."""


class Upset(StrEnum):
    """Something that really happens in the plant (unlike a defect of a meter)."""

    COOLING_FAILURE = "cooling_failure"
    """A stuck tower bypass: chillers and fans run flat out and the rooms still warm up."""
    OUTAGE_B = "outage_b"
    """Utility feed B is dead; the bus tie closes and feed A carries everything."""
    SET_POINT_RAISED = "set_point_raised"
    """A measure: chilled water is supplied warmer, chillers work less and towers alone suffice more often."""
    FANS_EXCHANGED = "fans_exchanged"
    """A measure: the air handlers get electronically commutated fans."""
    CONDENSER_FOULED = "condenser_fouled"
    """The tubes of the second chiller's condenser scale up, a little more every day."""


@dataclass(frozen=True, slots=True)
class Event:
    """An upset from `start` to `end` (half-open)."""

    upset: Upset
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an assembly needs to know: when, from when on, and what goes wrong."""

    t_s: Floats
    """Instants, seconds since 1970. [s]"""
    origin_s: float
    """Instant from which the load grows. [s]"""
    seed: int
    events: Sequence[Event] = ()

    @property
    def years(self) -> Floats:
        """Time since the origin. [years]"""
        return (self.t_s - self.origin_s) / YEAR_S

    @property
    def local_s(self) -> Floats:
        """Local wall-clock time as seconds since 1970. [s]"""
        return self.t_s + LOCAL_OFFSET_S

    @property
    def hour(self) -> Floats:
        """Local hour of the day, 0..24. [h]"""
        return (self.local_s % DAY_S) / 3600.0

    def active(self, upset: Upset, rise_s: float, fall_s: float) -> Floats:
        """Strength 0..1 of an upset: rises from its start, falls after its end, exponentially."""
        strength = np.zeros_like(self.t_s)
        for event in self.events:
            if event.upset is upset:
                strength = np.maximum(strength, _pulse(self.t_s, event, rise_s, fall_s))
        return strength

    def lasted_s(self, upset: Upset) -> Floats:
        """How long an upset has been going on; 0 before it. [s]"""
        starts = [event.start.timestamp() for event in self.events if event.upset is upset]
        return np.clip(self.t_s - min(starts, default=math.inf), 0, None)

    def noise(self, stream: int, period_s: float) -> Floats:
        """Smooth noise in -1..1 that changes over `period_s`; streams are independent."""
        return noise(self.t_s, period_s, self.seed * 1000 + stream)


def _pulse(t_s: Floats, event: Event, rise_s: float, fall_s: float) -> Floats:
    since_start, since_end = t_s - event.start.timestamp(), t_s - event.end.timestamp()
    rising = 1 - np.exp(-np.clip(since_start, 0, None) / rise_s)
    return np.where(since_end > 0, rising * np.exp(-np.clip(since_end, 0, None) / fall_s), rising)


def _hash01(index: npt.NDArray[np.int64], stream: int) -> Floats:
    """Uniform numbers in 0..1 from integers (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        x = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64((stream * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


def noise(t_s: Floats, period_s: float, stream: int) -> Floats:
    """Value noise: random values every `period_s`, joined smoothly; a pure function of time.

    Returns
    -------
    ndarray of float64
        In -1..1, mean about 0.
    """
    position = t_s / period_s
    index = np.floor(position).astype(np.int64)
    part = position - index
    ease = part * part * (3 - 2 * part)
    before, after = _hash01(index, stream), _hash01(index + 1, stream)
    return 2 * (before + (after - before) * ease) - 1


# --- weather ---------------------------------------------------------------------------------


def dry_bulb_c(conditions: Conditions) -> Floats:
    """Outdoor air temperature at the mouth of the Yangtze: 5 C in January, 29 C in July. [C]"""
    season = -12.2 * np.cos(2 * math.pi * (conditions.local_s - 22 * DAY_S) / YEAR_S)
    day = 3.2 * np.cos(2 * math.pi * (conditions.hour - 14.5) / 24)
    fronts = 4.5 * conditions.noise(1, 3.2 * DAY_S) + 0.8 * conditions.noise(2, 6 * 3600)
    return 17.2 + season + day + fronts


def relative_humidity_percent(conditions: Conditions) -> Floats:
    """Outdoor relative humidity; highest before dawn. [%]"""
    day = -9 * np.cos(2 * math.pi * (conditions.hour - 14.5) / 24)
    return np.clip(75 + day + 14 * conditions.noise(3, 2.1 * DAY_S), 25, 99)


def wet_bulb_c(temperature_c: Floats, humidity_percent: Floats) -> Floats:
    """Wet-bulb temperature from temperature and relative humidity. [C]

    R. Stull, Journal of Applied Meteorology and Climatology 50 (2011) 2267; good to 1 K.
    """
    t, rh = temperature_c, humidity_percent
    return np.asarray(
        t * np.arctan(0.151977 * np.sqrt(rh + 8.313659))
        + np.arctan(t + rh)
        - np.arctan(rh - 1.676331)
        + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh)
        - 4.686035
    )


def sun_ratio(conditions: Conditions) -> Floats:
    """Output of a flat photovoltaic roof over its peak power, clouds included; 31 degrees north."""
    declination = math.radians(-23.44) * np.cos(2 * math.pi * (conditions.local_s + 10 * DAY_S) / YEAR_S)
    hour_angle = (conditions.hour - 12) * math.pi / 12
    latitude = math.radians(31.2)
    height = np.sin(latitude) * np.sin(declination) + (
        np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    )
    clouds = 0.58 + 0.34 * conditions.noise(4, 0.9 * DAY_S) + 0.08 * conditions.noise(5, 1800)
    return np.asarray(np.clip(height, 0, None) ** 1.15 * clouds)


# --- business --------------------------------------------------------------------------------


def _bump(hour: Floats, start_h: float, end_h: float, edge_h: float) -> Floats:
    """1 between two hours of the day, 0 outside, with soft edges."""
    rise = 1 / (1 + np.exp(-(hour - start_h) / edge_h))
    fall = 1 / (1 + np.exp((hour - end_h) / edge_h))
    return np.asarray(rise * fall)


def workday(conditions: Conditions) -> Floats:
    """1 from Monday to Friday, 0 at the weekend (local days)."""
    # 1970-01-01 was a Thursday: day 0 is weekday 3 counted from Monday.
    weekday = (np.floor(conditions.local_s / DAY_S) + 3) % 7
    return (weekday < 5).astype(np.float64)


def business(conditions: Conditions) -> Floats:
    """Office hours: 1 at noon of a working day, near 0 at night and on Sundays."""
    return (0.12 + 0.88 * workday(conditions)) * _bump(conditions.hour, 8.4, 18.3, 0.45)


def it_load_ratio(conditions: Conditions, growth_per_year: float) -> Floats:
    """IT load over its level at the origin: growth, counters open by day, batch by night, noise."""
    batch = _bump(conditions.hour, 1.0, 4.2, 0.25)
    shape = 1 + 0.055 * business(conditions) + 0.03 * batch + 0.015 * workday(conditions)
    wander = 1 + 0.015 * conditions.noise(10, 2.3 * DAY_S) + 0.008 * conditions.noise(11, 2700)
    return shape * wander * (1 + growth_per_year * conditions.years)


def generator_test(conditions: Conditions) -> Floats:
    """1 during the monthly test run: first Wednesday of the month, 10:05 to 10:45 local."""
    days = np.floor(conditions.local_s / DAY_S).astype(np.int64)
    unique, where = np.unique(days, return_inverse=True)
    is_test = np.array([_first_wednesday(int(d)) for d in unique], dtype=bool)
    return (is_test[where] & _between(conditions.hour, 10 + 5 / 60, 10.75)).astype(np.float64)


def _between(hour: Floats, start_h: float, end_h: float) -> npt.NDArray[np.bool_]:
    """Inside two hours of the day, both included whatever the rounding."""
    return (hour > start_h - 1e-6) & (hour < end_h + 1e-6)


def _first_wednesday(days_since_1970: int) -> bool:
    day = date(1970, 1, 1) + timedelta(days=days_since_1970)
    return day.weekday() == 2 and day.day <= 7


# --- equipment -------------------------------------------------------------------------------


def ups_loss_kw(load_kw: Floats, rated_kw: float) -> Floats:
    """Loss of a double-conversion UPS: idle, proportional and quadratic part. [kW]"""
    return 0.009 * rated_kw + 0.019 * load_kw + 0.024 * load_kw**2 / rated_kw


def transformer_loss_kw(load_kw: Floats, rated_kw: float) -> Floats:
    """Iron loss and copper loss of the supply transformer and its bus bars. [kW]"""
    return 0.0016 * rated_kw + 0.0095 * load_kw**2 / rated_kw


def cable_loss_kw(load_kw: Floats) -> Floats:
    """Loss between UPS output and PDU output. [kW]"""
    return 0.3 + 0.009 * load_kw


def free_cooling_ratio(wet_bulb: Floats, supply_c: Floats) -> Floats:
    """Share of the heat that the towers carry off without chillers; more of it with warmer chilled water."""
    x = np.clip((10.0 + 0.6 * (supply_c - 14.5) - wet_bulb) / 9.0, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))


def chiller_cop(wet_bulb: Floats, supply_c: Floats) -> Floats:
    """Coefficient of performance of a water-cooled chiller at part load: 3 % more per kelvin of supply."""
    return np.asarray(np.clip(6.5 - 0.088 * wet_bulb, 2.8, 6.2) * (1 + 0.03 * (supply_c - 14.5)))


_SUPPLY_C, _RAISED_K = 13.0, 3.0
"""Chilled water before the set point was raised, and by how much it was. [C, K]"""
_OLD_FANS, _NEW_FANS = 1.02, 0.74
"""Power of the air handlers before and after the exchange of their fans, by that of the model."""
_FOULED, _FOULING_S = 0.5, 45 * DAY_S
"""What a fouled condenser costs its chiller in the end, and how long it takes to foul."""
_LOST = 0.7
"""Share of the free cooling that is lost behind a fouled condenser in the end."""


def chilled_water_supply_c(conditions: Conditions) -> Floats:
    """Temperature at which chilled water is supplied. [C]"""
    return np.asarray(_SUPPLY_C + _RAISED_K * (conditions.lasted_s(Upset.SET_POINT_RAISED) > 0), np.float64)


def fouling_ratio(conditions: Conditions) -> Floats:
    """How far the second chiller's condenser is fouled. [0..1]"""
    return np.asarray(np.clip(conditions.lasted_s(Upset.CONDENSER_FOULED) / _FOULING_S, 0, 1))


# --- the two data centres --------------------------------------------------------------------


def headquarters(conditions: Conditions) -> Signals:
    """The 1.2 MW data centre of a joint-stock bank: 2N UPS, two halls, chilled water, PV roof.

    Returns
    -------
    dict of ndarray
        Power by name of the meter [kW]; ``water`` [m3/h]; gauges as ``meter.channel``.
    """
    signals = _halls(conditions)
    wet_bulb = wet_bulb_c(dry_bulb_c(conditions), relative_humidity_percent(conditions))
    signals |= _ups_pair(signals)
    signals |= _house_loads(conditions, dry_bulb_c(conditions))
    signals |= _chilled_water(conditions, signals, wet_bulb)
    signals |= _sources(conditions, signals)
    signals |= _rooms(conditions, dry_bulb_c(conditions))
    signals |= _weather(conditions)
    return signals | _plant_gauges(conditions, signals, wet_bulb)


def _weather(conditions: Conditions) -> Signals:
    """What the sensor on the roof shows. [C, %]"""
    return {
        "weather.temperature_c": dry_bulb_c(conditions),
        "weather.humidity_percent": relative_humidity_percent(conditions),
    }


def _plant_gauges(conditions: Conditions, signals: Signals, wet_bulb: Floats) -> Signals:
    """Temperatures of water and air [C] and the flow of chilled water [m3/h] in the log of the controls."""
    supply = chilled_water_supply_c(conditions) + 0.2 * conditions.noise(60, 3000)
    delta_k = 4.6 + 0.3 * conditions.noise(61, 9000)
    tower = np.clip(wet_bulb, 4.0, None) + 3.8 + 0.3 * conditions.noise(62, 5000)
    inlet = 22.6 + 0.4 * conditions.noise(63, 6000)
    air = {
        "crac_supply_c": inlet - 2.1,
        "crac_return_c": inlet + 7.2 + 0.4 * conditions.noise(64, 7000),
        "rack_inlet_c": inlet,
        "rack_outlet_c": inlet + 10.8 + 0.5 * conditions.noise(65, 7000),
    }
    water = {
        "chilled_water_supply_c": supply,
        "chilled_water_return_c": supply + delta_k,
        "chilled_water_flow_m3h": signals["chilled_water"] / (_WATER_KWH_PER_M3_K * delta_k),
        "condenser_supply_c": tower,
        "condenser_return_c": tower + 4.9 + 1.6 * fouling_ratio(conditions),
    }
    return {f"bms.{name}": value for name, value in (water | air).items()}


_WATER_KWH_PER_M3_K = 1.163
"""Heat that a cubic metre of water takes up by a kelvin. [kWh/(m3 K)]"""


def _halls(conditions: Conditions) -> Signals:
    """IT power at the four PDUs, and at three metered racks behind them. [kW]"""
    hall_1 = 372.0 * it_load_ratio(conditions, 0.035)
    hall_2 = 236.0 * it_load_ratio(conditions, 0.13) * (1 + 0.01 * conditions.noise(12, 5400))
    a_share = 0.5 + 0.012 * conditions.noise(13, 1.7 * DAY_S)
    signals = {
        "pdu_a1": hall_1 * a_share,
        "pdu_b1": hall_1 * (1 - a_share),
        "pdu_a2": hall_2 * a_share,
        "pdu_b2": hall_2 * (1 - a_share),
    }
    for name, feed, share, stream in _RACKS:
        signals[name] = signals[feed] * share * (1 + 0.05 * conditions.noise(stream, 3600))
    return signals


_RACKS = (
    ("rack_101", "pdu_a1", 0.026, 14),
    ("rack_102", "pdu_b1", 0.022, 15),
    ("rack_201", "pdu_a2", 0.034, 16),
)
"""Metered racks: name, PDU that feeds it, share of its power, stream of its noise."""

_UPS_RATED_KW = 800.0
_TRANSFORMER_RATED_KW = 3200.0


def _ups_pair(signals: Signals) -> Signals:
    """Output and input of both UPS of the 2N pair, and what is lost on the way. [kW]"""
    out: Signals = {}
    lost = np.zeros_like(signals["pdu_a1"])
    for side in "ab":
        pdu_kw = signals[f"pdu_{side}1"] + signals[f"pdu_{side}2"]
        output = pdu_kw + cable_loss_kw(pdu_kw)
        out[f"ups_{side}_out"] = output
        out[f"ups_{side}_in"] = output + ups_loss_kw(output, _UPS_RATED_KW)
        lost = lost + out[f"ups_{side}_in"] - pdu_kw
    return out | {"ups_and_cable_loss": lost}


def _house_loads(conditions: Conditions, dry_bulb: Floats) -> Signals:
    """Everything else in the building, but the cooling. [kW]"""
    comfort = np.abs(dry_bulb - 20) * 0.9
    return {
        "lighting": 5.2 + 5.5 * business(conditions) + 0.2 * conditions.noise(20, 1200),
        "misc": 9.0 + 0.08 * np.abs(dry_bulb - 18) + 0.7 * conditions.noise(21, 2400),
        "office": 13.0 + (38.0 + comfort) * business(conditions) + 1.6 * conditions.noise(22, 1500),
        "unmetered": 2.4 + 0.3 * conditions.noise(23, 4000),
    }


def _chilled_water(conditions: Conditions, signals: Signals, wet_bulb: Floats) -> Signals:
    """Chillers, room fans, pumps with towers [kW], their water [m3/h], heat removed and reused [kW]."""
    it_kw = _it_kw(signals)
    failing = conditions.active(Upset.COOLING_FAILURE, 420.0, 540.0)
    supply = chilled_water_supply_c(conditions)
    kind = np.where(conditions.lasted_s(Upset.FANS_EXCHANGED) > 0, _NEW_FANS, _OLD_FANS)
    fans = [0.067 * kind * hall * (0.9 + 0.1 * (hall / level) ** 2) for hall, level in _hall_loads(signals)]
    heat = it_kw + 0.85 * signals["ups_and_cable_loss"] + fans[0] + fans[1] + signals["lighting"]
    standby = 7.0 + 0.6 * conditions.noise(32, 2100)
    work = heat * (1 - free_cooling_ratio(wet_bulb, supply)) / chiller_cop(wet_bulb, supply)
    chilled = work + standby
    lead = 0.56 + 0.05 * conditions.noise(30, 6 * DAY_S)
    fouled = (1 - lead) * _fouled_kw(heat, wet_bulb, supply, fouling_ratio(conditions))
    rejected = heat + chilled + fouled
    return {
        "chiller_1": chilled * lead + 0.21 * it_kw * failing,
        "chiller_2": chilled * (1 - lead) + fouled + 0.18 * it_kw * failing,
        "crah_1": fans[0] + 0.052 * it_kw * failing,
        "crah_2": fans[1] + 0.042 * it_kw * failing,
        "pumps": 0.044 * heat + (0.008 + 0.0004 * np.clip(wet_bulb, 0, None)) * rejected,
        "water": 0.00135 * rejected * (0.8 + 0.012 * np.clip(wet_bulb, 0, None)),
        "chilled_water": heat,
        "heat": 7.0
        + conditions.noise(33, 5000)
        + 0.08 * it_kw * np.clip((15 - dry_bulb_c(conditions)) / 12, 0, 1),
    }


def _fouled_kw(heat: Floats, wet_bulb: Floats, supply: Floats, fouling: Floats) -> Floats:
    """What a fouled condenser costs beyond the clean one, for all of the heat: in cold weather, too. [kW]

    The chiller works harder, and takes over heat that the towers would carry off without it.
    """
    free, cop = free_cooling_ratio(wet_bulb, supply), chiller_cop(wet_bulb, supply)
    clean = heat * (1 - free) / cop
    return np.asarray(heat * (1 - free * (1 - _LOST * fouling)) / cop * (1 + _FOULED * fouling) - clean)


def _it_kw(signals: Signals) -> Floats:
    return signals["pdu_a1"] + signals["pdu_b1"] + signals["pdu_a2"] + signals["pdu_b2"]


def _hall_loads(signals: Signals) -> tuple[tuple[Floats, float], tuple[Floats, float]]:
    """IT power of each hall, and the power at which its fans were balanced. [kW]"""
    return (
        (signals["pdu_a1"] + signals["pdu_b1"], 380.0),
        (signals["pdu_a2"] + signals["pdu_b2"], 250.0),
    )


_LOADS = (
    "ups_a_in",
    "ups_b_in",
    "chiller_1",
    "chiller_2",
    "crah_1",
    "crah_2",
    "pumps",
    "lighting",
    "misc",
    "office",
    "unmetered",
)
"""What hangs on the main switchboard of the headquarters."""


def _sources(conditions: Conditions, signals: Signals) -> Signals:
    """Roof, generator and the two utility feeds share the load of the main switchboard. [kW]"""
    load = np.sum([signals[name] for name in _LOADS], axis=0)
    loss = transformer_loss_kw(load, _TRANSFORMER_RATED_KW)
    pv = 150.0 * sun_ratio(conditions)
    wanted = load + loss - pv
    generator = wanted * generator_test(conditions)
    a_share = np.where(
        _dead(conditions, Upset.OUTAGE_B), 1.0, 0.515 + 0.01 * conditions.noise(40, 0.8 * DAY_S)
    )
    return {
        "pv": pv,
        "generator": generator,
        "utility_a": (wanted - generator) * a_share,
        "utility_b": (wanted - generator) * (1 - a_share),
        "epms": loss + signals["ups_and_cable_loss"],
    }


def _dead(conditions: Conditions, upset: Upset) -> npt.NDArray[np.bool_]:
    dead = np.zeros(conditions.t_s.shape, dtype=bool)
    for event in conditions.events:
        if event.upset is upset:
            dead |= (conditions.t_s >= event.start.timestamp()) & (conditions.t_s <= event.end.timestamp())
    return dead


def _rooms(conditions: Conditions, dry_bulb: Floats) -> Signals:
    """Climate of the two halls [C, %] and the mean processor utilisation of the servers [%]."""
    warm = 7.5 * conditions.active(Upset.COOLING_FAILURE, 2400.0, 1800.0)
    rooms: Signals = {}
    for hall, base_c in ((1, 23.4), (2, 22.8)):
        drift = 0.5 * conditions.noise(50 + hall, 5000) + 0.02 * (dry_bulb - 17)
        rooms[f"env_{hall}.temperature_c"] = base_c + drift + warm
        rooms[f"env_{hall}.humidity_percent"] = 48 + 4 * conditions.noise(53 + hall, 20000) - 1.2 * warm
    load = 0.2 * business(conditions) + 0.12 * _bump(conditions.hour, 1.0, 4.2, 0.25)
    rooms["servers.cpu_percent"] = 24 + 50 * load + 2.5 * conditions.noise(56, 1500)
    return rooms


def branch(conditions: Conditions) -> Signals:
    """The 180 kW machine room of a city bank inside an office tower: one UPS, direct expansion.

    The tower's condenser-water plant serves the whole building; a fixed share belongs to the room.

    Returns
    -------
    dict of ndarray
        Power by name of the meter [kW]; gauges as ``meter.channel``.
    """
    dry_bulb = dry_bulb_c(conditions)
    it_kw = 94.0 * it_load_ratio(conditions, 0.02)
    ups_in = it_kw + ups_loss_kw(it_kw, 240.0)
    heat = 1.08 * it_kw + 4.0
    dx_kw = heat / np.clip(4.1 - 0.045 * dry_bulb, 2.2, 3.9) + 0.15 * it_kw
    lead = 0.55 + 0.04 * conditions.noise(31, 5 * DAY_S)
    lighting = 2.6 + 1.2 * business(conditions)
    unmetered = 1.1 + 0.15 * conditions.noise(23, 4000)
    return {
        "ups_out": it_kw,
        "ups_in": ups_in,
        "crac_1": dx_kw * lead,
        "crac_2": dx_kw * (1 - lead),
        "lighting": lighting,
        "incomer": ups_in + dx_kw + lighting + unmetered,
        "plant": 26.0 + 0.6 * np.clip(dry_bulb, 0, None) + 14.0 * business(conditions),
        "env.temperature_c": 22.6 + 0.6 * conditions.noise(51, 5000) + 0.03 * (dry_bulb - 17),
        "env.humidity_percent": 50 + 5 * conditions.noise(54, 20000),
    }


ASSEMBLIES: dict[str, tuple[Callable[[Conditions], Signals], int]] = {
    "sh1": (headquarters, 1),
    "nb1": (branch, 2),
}
"""Site id -> what it is made of, and its seed."""


def site_wet_bulb_c(site: str, t_s: Floats) -> Floats:
    """Wet-bulb temperature outside a site; `t_s` in seconds since 1970. [C]"""
    conditions = Conditions(t_s, 0.0, ASSEMBLIES[site][1])
    return wet_bulb_c(dry_bulb_c(conditions), relative_humidity_percent(conditions))


# --- evaluation ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stretch:
    """The nodes of some days, both ends included, and their running integrals where asked for."""

    values: Signals
    integrals: Signals = field(default_factory=dict)

    def integral(self, signal: str) -> Floats:
        """Integral from the first node to each."""
        if signal not in self.integrals:
            y = self.values[signal]
            self.integrals[signal] = np.concatenate([[0.0], np.cumsum(_trapezia(y))])
        return self.integrals[signal]

    def sums(self) -> dict[str, float]:
        """Integral over the whole stretch, by signal."""
        # As `integral` adds them, so that a register that stands does not move between two stretches.
        return {name: float(np.cumsum(_trapezia(y))[-1]) for name, y in self.values.items()}


def _trapezia(y: Floats) -> Floats:
    return 0.5 * (y[1:] + y[:-1]) * (NODE_S / 3600)


class Plant:
    """One simulated site: every signal and its integral at any instant from the epoch on.

    Parameters
    ----------
    site : str
        One of ``ASSEMBLIES``.
    epoch : datetime
        Beginning of the simulation; integrals count from here. Two plants with the same epoch, origin and
        events agree exactly.
    events : sequence of Event
        Upsets and lasting changes of the plant.
    origin : datetime, optional
        When the IT load is at its level, from which it grows; default: the epoch.

    Raises
    ------
    SeriesError
        If the epoch is naive.
    """

    def __init__(
        self, site: str, epoch: datetime, events: Sequence[Event] = (), origin: datetime | None = None
    ) -> None:
        if epoch.tzinfo is None:
            raise SeriesError("naive epoch; every instant needs a zone")
        self._assemble, self._seed = ASSEMBLIES[site]
        # Nodes lie on whole multiples of their distance, whatever the epoch's minutes say.
        self._epoch_s = math.floor(epoch.timestamp() / NODE_S) * float(NODE_S)
        self._origin_s = self._epoch_s if origin is None else origin.timestamp()
        self.epoch = datetime.fromtimestamp(self._epoch_s, UTC)
        self._events = tuple(events)
        self._stretches: OrderedDict[int, _Stretch] = OrderedDict()
        self._before: list[dict[str, float]] = []

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals."""
        return tuple(self._stretch(0).values)

    def values(self, signal: str, at: Instants) -> Floats:
        """Instantaneous value of a signal: [kW], [m3/h], [C] or [%].

        Raises
        ------
        SeriesError
            If an instant lies before the epoch.
        KeyError
            If there is no such signal.
        """
        found = np.empty(at.shape)
        for stretch, own, index, part in self._located(at):
            y = self._stretch(stretch).values[signal]
            found[own] = y[index] + (y[index + 1] - y[index]) * part
        return found

    def integrals(self, signal: str, at: Instants) -> Floats:
        """Exact integral of a signal since the epoch: [kWh] for a power, [m3] for a flow.

        Raises
        ------
        SeriesError
            If an instant lies before the epoch.
        KeyError
            If there is no such signal.
        """
        total = np.empty(at.shape)
        for stretch, own, index, part in self._located(at):
            y, so_far = self._stretch(stretch).values[signal], self._stretch(stretch).integral(signal)
            inside = part * (y[index] + 0.5 * part * (y[index + 1] - y[index]))
            total[own] = self._total_before(stretch, signal) + so_far[index] + inside * (NODE_S / 3600)
        return total

    def value(self, signal: str, at: datetime) -> float:
        """As `values`, at one instant."""
        return float(self.values(signal, instants([at]))[0])

    def integral(self, signal: str, at: datetime) -> float:
        """As `integrals`, at one instant."""
        return float(self.integrals(signal, instants([at]))[0])

    def _located(self, at: Instants) -> Iterator[tuple[int, npt.NDArray[np.bool_], Nodes, Floats]]:
        """The stretches that hold some instants: number, which instants, their nodes, and the parts after."""
        since_us = at.astype("datetime64[us]").astype(np.int64) - int(self._epoch_s * 1_000_000)
        if since_us.size and since_us.min() < 0:
            raise SeriesError(f"the simulation begins at {self.epoch.isoformat()}; ask for later instants")
        index, rest_us = np.divmod(since_us, NODE_S * 1_000_000)
        stretches, part = index // _STRETCH, rest_us / (NODE_S * 1_000_000)
        for stretch in np.unique(stretches).tolist():
            own = stretches == stretch
            yield stretch, own, index[own] - stretch * _STRETCH, part[own]

    def _stretch(self, number: int) -> _Stretch:
        """The nodes of a stretch: computed anew where they were not asked for lately."""
        known = self._stretches.get(number)
        if known is None:
            nodes = np.arange(number * _STRETCH, (number + 1) * _STRETCH + 1, dtype=np.float64)
            t_s = self._epoch_s + NODE_S * nodes
            known = _Stretch(self._assemble(Conditions(t_s, self._origin_s, self._seed, self._events)))
            self._stretches[number] = known
            while len(self._stretches) > _KEPT_STRETCHES:
                self._stretches.popitem(last=False)
        self._stretches.move_to_end(number)
        return known

    def _total_before(self, number: int, signal: str) -> float:
        """Integral from the epoch to the beginning of a stretch."""
        while len(self._before) <= number:
            last = len(self._before) - 1
            before = self._before[last] if self._before else {}
            sums = self._stretch(last).sums() if self._before else dict.fromkeys(self.signals, 0.0)
            self._before.append({name: before.get(name, 0.0) + one for name, one in sums.items()})
        return self._before[number][signal]


def instants(times: Sequence[datetime]) -> Instants:
    """Times as an array of datetime64[us].

    Raises
    ------
    SeriesError
        If a time is naive.
    """
    if any(t.tzinfo is None for t in times):
        raise SeriesError("naive datetime; every instant needs a zone")
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return np.array([(t - start) // timedelta(microseconds=1) for t in times], np.int64).view(
        "datetime64[us]"
    )
