"""Reading kinds, roles, load classes and units: the vocabulary of every other module.

Units and plausible limits are data on each quantity. Inside the house there is one unit per
quantity; a collector converts with :func:`to_house` and nobody converts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReadingKind(StrEnum):
    """What one reading of a point means."""

    REGISTER = "register"
    """Cumulative count, e.g. an energy register. [kWh]"""
    POWER = "power"
    """Instantaneous power. [kW]"""
    INTERVAL_ENERGY = "interval_energy"
    """Energy of the stated interval that ends at the reading's instant. [kWh]"""
    INTERVAL_MEAN_POWER = "interval_mean_power"
    """Mean power over (the valid part of) the stated interval that ends at the reading's instant. [kW]"""
    ESTIMATE_FROM_CURRENT = "estimate_from_current"
    """Current, from which power is estimated with a declared voltage and power factor. [A]"""
    ESTIMATE_FROM_LOAD = "estimate_from_load"
    """Load in percent of the rating, from which power is estimated. [percent]"""
    GAUGE = "gauge"
    """Any other instantaneous value: temperature, humidity, utilisation."""


class Role(StrEnum):
    """What a point measures, seen from the data centre's boundary (ISO/IEC 30134-2)."""

    FACILITY = "facility"
    """Energy that enters the data centre from the grid, at the boundary."""
    NON_DC = "non_dc"
    """Load behind the facility meter that is not the data centre's (offices ...); subtracted."""
    GENERATOR = "generator"
    """Output of the generators; part of facility energy."""
    RENEWABLE = "renewable"
    """On-site renewable energy that is used inside; part of facility energy."""
    EXPORT = "export"
    """Energy that leaves through the boundary and is sold; part of what was bought or made, not of E_DC."""
    IT_UPS_OUTPUT = "it_ups_output"
    """IT energy at the output of the UPS (PUE category 1)."""
    IT_PDU_OUTPUT = "it_pdu_output"
    """IT energy at the output of the PDU (PUE category 2)."""
    IT_EQUIPMENT_INPUT = "it_equipment_input"
    """IT energy at the input of the IT equipment (PUE category 3)."""
    COOLING = "cooling"
    """Overhead: chillers, pumps, towers, air handlers."""
    POWER_DISTRIBUTION = "power_distribution"
    """Overhead: losses of UPS, transformers and switchgear, where metered as such."""
    LIGHTING = "lighting"
    """Overhead: lighting."""
    OTHER = "other"
    """Overhead: security, fire protection, offices of the data centre ..."""
    WATER = "water"
    """Water that the site takes in, for WUE. [m3]"""
    HEAT_REUSE = "heat_reuse"
    """Heat that leaves the boundary and is used elsewhere, for ERF; no electricity. [kWh]"""
    HEAT_REMOVED = "heat_removed"
    """Heat that the cooling carries out of the rooms, for CER; no electricity. [kWh]"""
    TEMPERATURE = "temperature"
    """A temperature, of a room where its meter names one. [C]"""
    HUMIDITY = "humidity"
    """A relative humidity. [%]"""
    UTILISATION = "utilisation"
    """CPU utilisation of a server, for ITEUsv. [%]"""
    OUTDOOR_DRY_BULB = "outdoor_dry_bulb"
    """Outdoor air temperature (dry bulb). [C]"""
    OUTDOOR_WET_BULB = "outdoor_wet_bulb"
    """Outdoor wet-bulb temperature. [C]"""
    OUTDOOR_RELATIVE_HUMIDITY = "outdoor_relative_humidity"
    """Outdoor relative humidity; with the dry bulb it gives the wet bulb. [%]"""
    CHILLED_WATER_SUPPLY = "chilled_water_supply"
    """Chilled water that leaves the chillers. [C]"""
    CHILLED_WATER_RETURN = "chilled_water_return"
    """Chilled water that comes back to the chillers. [C]"""
    CHILLED_WATER_FLOW = "chilled_water_flow"
    """Flow of chilled water. [m3/h]"""
    CONDENSER_SUPPLY = "condenser_supply"
    """Condenser water from the cooling tower to the chillers. [C]"""
    CONDENSER_RETURN = "condenser_return"
    """Condenser water from the chillers back to the cooling tower. [C]"""
    RACK_INLET = "rack_inlet"
    """Air at the inlet of the racks. [C]"""
    RACK_OUTLET = "rack_outlet"
    """Air at the outlet of the racks. [C]"""
    CRAC_SUPPLY = "crac_supply"
    """Air that leaves the room air conditioner (CRAC, CRAH). [C]"""
    CRAC_RETURN = "crac_return"
    """Air that comes back to the room air conditioner (CRAC, CRAH). [C]"""
    CHILLER_RUNNING = "chiller_running"
    """State of a chiller: 1 while it runs, 0 while it stands. [1]"""
    CHILLER_RUNNING_HOURS = "chiller_running_hours"
    """Running hours of a chiller, a count that only grows. [h]"""
    NONE = "none"
    """Stored and balanced, counted nowhere: e.g. a UPS input beside its output."""


IT_ROLES = (Role.IT_UPS_OUTPUT, Role.IT_PDU_OUTPUT, Role.IT_EQUIPMENT_INPUT)
"""Roles that carry IT energy, lowest PUE category first."""

CATEGORY_OF_IT_ROLE = {Role.IT_UPS_OUTPUT: 1, Role.IT_PDU_OUTPUT: 2, Role.IT_EQUIPMENT_INPUT: 3}
"""PUE category by the place at which IT energy is measured (ISO/IEC 30134-2)."""

OVERHEAD_ROLES = (Role.COOLING, Role.POWER_DISTRIBUTION, Role.LIGHTING, Role.OTHER)
"""Metered overhead; the names of the roles are the names of the load classes."""

IT_LOAD_CLASS = "it"
"""Load class under which the energy of all IT roles is summed."""

ENERGY_ROLES = (
    Role.FACILITY,
    Role.NON_DC,
    Role.GENERATOR,
    Role.RENEWABLE,
    Role.EXPORT,
    *IT_ROLES,
    *OVERHEAD_ROLES,
    Role.HEAT_REUSE,
    Role.HEAT_REMOVED,
    Role.NONE,
)

ENERGY_KINDS = (
    ReadingKind.REGISTER,
    ReadingKind.INTERVAL_ENERGY,
    ReadingKind.INTERVAL_MEAN_POWER,
    ReadingKind.POWER,
    ReadingKind.ESTIMATE_FROM_LOAD,
    ReadingKind.ESTIMATE_FROM_CURRENT,
)
"""Kinds from which energy follows, the one to trust most first."""


def load_class(role: Role) -> str:
    """Load class of a role: ``it`` for every IT role, else the role's own name."""
    return IT_LOAD_CLASS if role in IT_ROLES else role.value


@dataclass(frozen=True, slots=True)
class Quantity:
    """A physical quantity with its house unit and the values a meter can plausibly report."""

    name: str
    house_unit: str
    lowest: float
    highest: float


ENERGY = Quantity("energy", "kwh", -1e12, 1e12)
POWER = Quantity("power", "kw", -1e7, 1e7)
CURRENT = Quantity("current", "a", -1e6, 1e6)
VOLUME = Quantity("volume", "m3", -1e12, 1e12)
TEMPERATURE = Quantity("temperature", "c", -273.15, 1000.0)
FRACTION = Quantity("fraction", "percent", -1e3, 1e4)
FLOW = Quantity("flow", "m3/h", -1e6, 1e6)
DURATION = Quantity("duration", "h", 0.0, 1e7)
NUMBER = Quantity("number", "1", -1e15, 1e15)

UNITS: dict[str, tuple[Quantity, float, float]] = {
    "wh": (ENERGY, 1e-3, 0.0),
    "kwh": (ENERGY, 1.0, 0.0),
    "mwh": (ENERGY, 1e3, 0.0),
    "gwh": (ENERGY, 1e6, 0.0),
    "万kwh": (ENERGY, 1e4, 0.0),
    "ws": (ENERGY, 1 / 3.6e6, 0.0),
    "j": (ENERGY, 1 / 3.6e6, 0.0),
    "kj": (ENERGY, 1 / 3.6e3, 0.0),
    "mj": (ENERGY, 1 / 3.6, 0.0),
    "gj": (ENERGY, 1e3 / 3.6, 0.0),
    "w": (POWER, 1e-3, 0.0),
    "kw": (POWER, 1.0, 0.0),
    "mw": (POWER, 1e3, 0.0),
    "a": (CURRENT, 1.0, 0.0),
    "ma": (CURRENT, 1e-3, 0.0),
    "m3": (VOLUME, 1.0, 0.0),
    "l": (VOLUME, 1e-3, 0.0),
    "t": (VOLUME, 1.0, 0.0),
    "m3/h": (FLOW, 1.0, 0.0),
    "l/s": (FLOW, 3.6, 0.0),
    "l/min": (FLOW, 0.06, 0.0),
    "h": (DURATION, 1.0, 0.0),
    "min": (DURATION, 1 / 60, 0.0),
    "s": (DURATION, 1 / 3600, 0.0),
    "c": (TEMPERATURE, 1.0, 0.0),
    "f": (TEMPERATURE, 5 / 9, -160 / 9),
    "k": (TEMPERATURE, 1.0, -273.15),
    "percent": (FRACTION, 1.0, 0.0),
    "ratio": (FRACTION, 100.0, 0.0),
    "1": (NUMBER, 1.0, 0.0),
}
"""Unit (lower case) -> quantity, factor, offset: ``house = value * factor + offset``.

A tonne is one of water.
"""

_SPELLINGS = {
    "°c": "c",
    "degc": "c",
    "°f": "f",
    "degf": "f",
    "%": "percent",
    "%rh": "percent",
    "m³": "m3",
    "m³/h": "m3/h",
    "立方米/小时": "m3/h",
    "小时": "h",
    "分钟": "min",
    "秒": "s",
    "立方米": "m3",
    "立方": "m3",
    "方": "m3",
    "吨": "t",
    "噸": "t",
    "升": "l",
    "": "1",
    "度": "kwh",
    "千瓦时": "kwh",
    "千瓦·时": "kwh",
    "万度": "万kwh",
    "万千瓦时": "万kwh",
    "兆瓦时": "mwh",
    "吉瓦时": "gwh",
    "瓦时": "wh",
    "千瓦": "kw",
    "兆瓦": "mw",
    "瓦": "w",
}


_MILLI = {"mW": "MW", "mWh": "MWh", "mJ": "MJ"}
"""Units that differ from the known ones by the size of a letter, and by nine orders of magnitude."""


def canonical_unit(unit: str) -> str:
    """The table's spelling of a unit.

    Raises
    ------
    KeyError
        If the unit is not known; its text lists those that are.
    """
    text = unit.strip()
    if text in _MILLI:
        raise KeyError(f"unit {unit!r} is a thousandth; write {_MILLI[text]} for the million, or convert it")
    text = text.lower()
    text = _SPELLINGS.get(text, text)
    if text not in UNITS:
        raise KeyError(f"unknown unit {unit!r}; known are {', '.join(sorted(UNITS))}")
    return text


def to_house(value: float, unit: str) -> float:
    """`value` given in `unit`, in the house unit of the unit's quantity.

    Raises
    ------
    KeyError
        If the unit is not known.
    """
    _, factor, offset = UNITS[canonical_unit(unit)]
    return value * factor + offset


_GAUGES = {
    Role.TEMPERATURE: TEMPERATURE,
    Role.HUMIDITY: FRACTION,
    Role.UTILISATION: FRACTION,
    Role.OUTDOOR_DRY_BULB: TEMPERATURE,
    Role.OUTDOOR_WET_BULB: TEMPERATURE,
    Role.OUTDOOR_RELATIVE_HUMIDITY: FRACTION,
    Role.CHILLED_WATER_SUPPLY: TEMPERATURE,
    Role.CHILLED_WATER_RETURN: TEMPERATURE,
    Role.CHILLED_WATER_FLOW: FLOW,
    Role.CONDENSER_SUPPLY: TEMPERATURE,
    Role.CONDENSER_RETURN: TEMPERATURE,
    Role.RACK_INLET: TEMPERATURE,
    Role.RACK_OUTLET: TEMPERATURE,
    Role.CRAC_SUPPLY: TEMPERATURE,
    Role.CRAC_RETURN: TEMPERATURE,
    Role.CHILLER_RUNNING: NUMBER,
    Role.CHILLER_RUNNING_HOURS: DURATION,
}
SENSOR_ROLES = tuple(_GAUGES)
"""Roles of sensors: their points take readings of kind gauge."""
WEATHER_ROLES = (Role.OUTDOOR_DRY_BULB, Role.OUTDOOR_WET_BULB, Role.OUTDOOR_RELATIVE_HUMIDITY)
"""Roles of the weather at the site."""


_ESTIMATES = {
    ReadingKind.ESTIMATE_FROM_CURRENT: CURRENT,
    ReadingKind.ESTIMATE_FROM_LOAD: FRACTION,
}
ESTIMATE_KINDS = tuple(_ESTIMATES)
"""Kinds of which energy is an estimate by a declared rule."""


def quantity_of(role: Role, kind: ReadingKind) -> Quantity:
    """The quantity that readings of such a point are stored in."""
    if kind is ReadingKind.GAUGE:
        return _GAUGES.get(role, NUMBER)
    if kind in _ESTIMATES:
        return _ESTIMATES[kind]
    if kind in (ReadingKind.POWER, ReadingKind.INTERVAL_MEAN_POWER):
        return POWER
    return VOLUME if role is Role.WATER else ENERGY
