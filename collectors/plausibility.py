"""Do the values that a device gives at one moment agree with each other, and can they be at all?

A register map that is read on a sibling of its model gives numbers too. What shows it are the laws that
hold for every meter: the phases sum to the total, power is not more than volts times amperes, what leaves by
the outlets came in by the inlet, and some values no sensor has. :func:`contradictions` names the channels
that cannot be right, and says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

AGREE_RATIO, AGREE_KW, AGREE_KWH = 0.05, 0.05, 1.0
"""Sums may differ so far: values of one device are not read at the same instant."""
MOST_ABOVE_APPARENT = 1.1
"""Active power is at most so many times volts times amperes, within the accuracy of all three."""
LEAST_FACTOR = 0.02
"""Below this power factor the device means another unit."""
LEAST_KVA = 0.2
"""Apparent power from which a power factor says something. [kVA]"""
CLIMATE_C = (-50.0, 120.0)
"""Temperatures of rooms, racks, batteries and transformers. [C]"""
MAINS_HZ = (40.0, 70.0)
LOW_VOLTAGE_V = (80.0, 300.0)
"""Phase voltages of low-voltage mains; ten times as much is a wrong scale. [V]"""
FASTER, LEAST_STEPS = 10.0, 5
"""A register is wrong that rises so many times faster than the power, by more than so many of its steps."""
MOST = {"power": 1e6, "apparent_power": 1e6, "energy": 1e11, "voltage": 1e6, "current": 1e5}
MOST_OF_OUTLET = {"power": 50.0, "apparent_power": 50.0, "current": 250.0}
"""More than any device has, and than a plug can carry. [kW, kVA, kWh, V, A]"""
FOURTH = 4
"""A fourth conductor is the neutral, or another circuit; totals are given with and without it."""

_CHANNEL = re.compile(
    r"(?P<scope>(?:[a-z0-9]+_)*?)"
    r"(?P<quantity>apparent_power|reactive_power|power_factor|power|energy_import|energy_export|reactive_energy"
    r"|energy|voltage|current|temperature|humidity|frequency)"
    r"(?:_l(?P<phase>\d+))?_(?P<unit>[a-z0-9]+)"
)
_PART = re.compile(r"(?:unit_\d+_)?(phase|bank|group|segment|module)_\d+_")
_UNIT = re.compile(r"unit_\d+_")
_OUTLET = re.compile(r"(.*?)outlet_\d+_")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Channels whose values cannot all be right."""

    channels: tuple[str, ...]
    text: str
    """What contradicts, with the values."""


@dataclass(frozen=True, slots=True)
class _Side:
    """What one inlet, outlet or meter says of itself."""

    scope: str
    values: Mapping[tuple[str, int], float]
    """By quantity and phase; phase 0 is the whole."""
    names: Mapping[tuple[str, int], str]

    def phases(self, quantity: str) -> dict[int, float]:
        return {n: v for (q, n), v in self.values.items() if q == quantity and n}

    def named(self, *quantities: str) -> tuple[str, ...]:
        """Channels of these quantities, the whole and its phases."""
        return tuple(name for (q, _), name in self.names.items() if q in quantities)


def contradictions(values: Mapping[str, float]) -> list[Contradiction]:
    """What cannot be right of the values of one device, all read at about the same time.

    Parameters
    ----------
    values : mapping of str to float
        By channel, in the unit its name ends in.

    Returns
    -------
    list of Contradiction
        Empty where nothing contradicts; a channel may stand in several.
    """
    found = list(_impossible(values))
    sound = {name: v for name, v in values.items() if name not in withheld(found)}
    sides = _sides(sound)
    for side in sides.values():
        found += _sums(side)
        found += _power_by_amperes(side)
    found += _inlets_against_outlets(sides)
    found += _totals_against_their_parts(sides)
    return found


def rises_too_fast(
    before: Mapping[str, float], now: Mapping[str, float], hours: float
) -> list[Contradiction]:
    """Registers that rose far more in a time than the power explains: their scale is another.

    Parameters
    ----------
    before, now : mapping of str to float
        Values of one device by channel, `hours` apart.
    hours : float
        [h]
    """
    found = []
    for side in _sides(now).values():
        energy = next((key for key in (("energy_import", 0), ("energy", 0)) if key in side.values), None)
        name = side.names.get(energy, "") if energy else ""
        power = side.names.get(("power", 0), "")
        if not name or not power or name not in before or power not in before or hours <= 0:
            continue
        rose, most = now[name] - before[name], max(abs(before[power]), abs(now[power]), AGREE_KW)
        if rose > LEAST_STEPS * _step(before[name], now[name]) and rose > FASTER * most * hours:
            says = f"rose by {rose:g} kWh in {hours * 3600:.0f} s, the power is {now[power]:.3f} kW"
            found.append(Contradiction((name,), f"{name} {says}: the register has another scale"))
    return found


def _step(one: float, other: float) -> float:
    """The coarsest power of ten that both are whole multiples of: a register moves in such steps."""
    for exponent in range(3, -4, -1):
        step = 10.0**exponent
        if all(abs(v / step - round(v / step)) < 1e-6 for v in (one, other)):
            return step
    return 0.0


def withheld(found: Iterable[Contradiction]) -> set[str]:
    """Channels that stand in any of the contradictions."""
    return {name for one in found for name in one.channels}


def _sides(values: Mapping[str, float]) -> dict[str, _Side]:
    parts: dict[str, tuple[dict[tuple[str, int], float], dict[tuple[str, int], str]]] = {}
    for name, value in values.items():
        match = _CHANNEL.fullmatch(name)
        if match is not None:
            key = (match["quantity"], int(match["phase"] or 0))
            of_side = parts.setdefault(match["scope"], ({}, {}))
            of_side[0].setdefault(key, value)
            of_side[1].setdefault(key, name)
    return {scope: _Side(scope, *of_side) for scope, of_side in parts.items()}


# -- single values -----------------------------------------------------------------------------------


def _impossible(values: Mapping[str, float]) -> Iterator[Contradiction]:
    for name, value in values.items():
        why = impossible(name, value)
        if why:
            yield Contradiction((name,), f"{name} of {value:g} is withheld: {why}")


def impossible(name: str, value: float) -> str:
    """Why a channel cannot have a value, whatever the others say; empty where it can."""
    match = _CHANNEL.fullmatch(name)
    quantity = "" if match is None else match["quantity"]
    if quantity == "temperature" and not CLIMATE_C[0] <= value <= CLIMATE_C[1]:
        return "the device has no sensor there, or the value has another scale"
    if quantity == "humidity" and not 0 <= value <= 100:
        return "humidity is 0 to 100 %"
    if quantity == "frequency" and value != 0 and not MAINS_HZ[0] <= value <= MAINS_HZ[1]:
        return f"mains have {MAINS_HZ[0]:g} to {MAINS_HZ[1]:g} Hz"
    if quantity == "power_factor" and abs(value) > 1.005:
        return "a power factor is -1 to 1"
    if quantity in ("apparent_power", "voltage", "current") and value < 0:
        return f"{quantity.replace('_', ' ')} is never negative"
    if quantity.startswith("energy") and value < 0:
        return "a register of energy is never negative"
    of_outlet = match is not None and _OUTLET.fullmatch(match["scope"]) is not None
    return _too_much(quantity.split("_")[0] if quantity.startswith("energy") else quantity, value, of_outlet)


def _too_much(quantity: str, value: float, of_outlet: bool) -> str:
    if of_outlet and abs(value) > MOST_OF_OUTLET.get(quantity, math.inf):
        return f"an outlet carries at most {MOST_OF_OUTLET[quantity]:g}; the value has another scale"
    if abs(value) > MOST.get(quantity, math.inf):
        return "no device has so much; the value has another scale, or means that there is none"
    return ""


# -- sums --------------------------------------------------------------------------------------------


def _sums(side: _Side) -> Iterator[Contradiction]:
    """Phases that do not sum to their total; the map is then another model's, so its energy falls too."""
    for quantity, unit, least in (("power", "kW", AGREE_KW), ("energy_import", "kWh", AGREE_KWH)):
        total, phases = side.values.get((quantity, 0)), side.phases(quantity)
        if total is None or len(phases) < 2 or not any(phases.values()):  # all zero: they are not measured
            continue
        three = math.fsum(v for n, v in phases.items() if n < FOURTH)
        four = math.fsum(phases.values())
        if {1, 2, 3} <= phases.keys():
            apart = min(abs(three - total), abs(four - total))
        else:  # a phase may be missing: only more than the total contradicts
            apart = min(three, four) - total
        if apart > max(least, AGREE_RATIO * abs(total)):
            names = side.named("power", "energy_import", "energy_export") if unit == "kW" else ()
            sums = f"the phases sum to {three:.3f} {unit}, the total is {total:.3f} {unit}"
            text = f"{side.scope}{quantity}: {sums}"
            yield Contradiction(names or side.named(quantity), text)


# -- volts times amperes -----------------------------------------------------------------------------


def _power_by_amperes(side: _Side) -> Iterator[Contradiction]:
    """Power that is more than volts times amperes, or so little of it that a unit is wrong."""
    numbers = sorted({n for _, n in side.values})
    wrong_scale = [n for n in numbers if _has_ten_times_the_voltage(side, n)]
    if wrong_scale:
        names = side.named("voltage", "apparent_power")
        volts = side.values["voltage", wrong_scale[0]]
        yield Contradiction(names, f"{side.scope}voltage of {volts:g} V is withheld: a tenth fits the power")
        return
    for n in numbers:
        power, apparent = side.values.get(("power", n)), _apparent_kva(side, n)
        why = "" if power is None or apparent is None else _no_power_of(power, apparent)
        if why:
            where = f" of phase {n}" if n else ""
            text = f"{side.scope}power{where} of {power:.3f} kW is withheld: {why}"
            alone = n and not power  # a phase of zero says nothing about the total
            yield Contradiction((side.names["power", n],) if alone else side.named("power"), text)
            if not alone:
                return


def _apparent_kva(side: _Side, phase: int) -> float | None:
    """As the device states it, else volts times amperes; of the whole the sum over all phases with power."""
    stated = side.values.get(("apparent_power", phase))
    if stated:
        return stated
    volts, amperes = (side.values.get((q, phase)) for q in ("voltage", "current"))
    if volts and amperes:  # zero: it is not measured
        return volts * amperes / 1000
    if phase:
        return None
    parts = [_apparent_kva(side, n) for n in side.phases("power")]
    return math.fsum(p for p in parts if p is not None) if parts and None not in parts else None


def _no_power_of(power_kw: float, apparent_kva: float) -> str:
    """Why there is no such power at an apparent power; empty where there is."""
    if abs(power_kw) > apparent_kva * MOST_ABOVE_APPARENT + AGREE_KW:
        return f"it is more than the apparent power of {apparent_kva:.3f} kVA (volts times amperes)"
    if apparent_kva > LEAST_KVA and abs(power_kw) < apparent_kva * LEAST_FACTOR:
        return f"against {apparent_kva:.3f} kVA; it is not measured, or the device may mean kW where W is due"
    return ""


def _has_ten_times_the_voltage(side: _Side, phase: int) -> bool:
    volts, amperes, power = (side.values.get((q, phase)) for q in ("voltage", "current", "power"))
    if volts is None or not amperes or not power or not LOW_VOLTAGE_V[0] <= volts / 10 <= LOW_VOLTAGE_V[1]:
        return False
    factor = abs(power) / (volts * amperes / 1000)
    return LEAST_FACTOR * 2 < factor <= MOST_ABOVE_APPARENT / 10 and volts * amperes / 1000 > LEAST_KVA


# -- inlets and outlets ------------------------------------------------------------------------------


def _inlets_against_outlets(sides: Mapping[str, _Side]) -> Iterator[Contradiction]:
    """Inlets that give less than leaves by the outlets behind them."""
    groups: dict[str, list[_Side]] = {}
    for scope, side in sides.items():
        match = _OUTLET.fullmatch(scope)
        if match is not None:
            groups.setdefault(re.sub(r"(infeed|inlet)_\d+_$", "", match[1]), []).append(side)
    for unit, outlets in groups.items():
        inlet = [s for s in sides.values() if _is_inlet(s.scope, unit)]
        for quantities, unit_name, least in ((("power",), "kW", AGREE_KW), (_ENERGY, "kWh", AGREE_KWH)):
            out = math.fsum(v for o in outlets for (q, n), v in o.values.items() if q in quantities and not n)
            into = _largest(inlet, quantities)
            if into is not None and out > least and into < _least_inlet(out, least, unit_name):
                dead = () if into > 0 else _dead(inlet)
                names = tuple(name for side in inlet for name in side.named(*quantities, *dead))
                says = f"outlets sum to {out:.3f} {unit_name}, the inlet says {into:.3f} {unit_name}"
                yield Contradiction(names, f"{says}: {_why_inlet(into)}")


_ENERGY = ("energy", "energy_import")


def _totals_against_their_parts(sides: Mapping[str, _Side]) -> Iterator[Contradiction]:
    """Phases or banks in a table of their own that together take more than all units say.

    Less is no contradiction: not every circuit of a unit need have a meter.
    """
    parts: dict[str, list[_Side]] = {}
    for scope, side in sides.items():
        match = _PART.fullmatch(scope)
        if match is not None:
            parts.setdefault(match[1], []).append(side)
    totals = [s for s in sides.values() if s.scope == "" or _UNIT.fullmatch(s.scope)]
    whole = [s.values["power", 0] for s in totals if ("power", 0) in s.values]
    for kind, several in parts.items():
        known = [s.values["power", 0] for s in several if ("power", 0) in s.values]
        if not whole or not known:
            continue
        total, apart = math.fsum(whole), math.fsum(known) - math.fsum(whole)
        if apart > max(AGREE_KW, 2 * AGREE_RATIO * abs(total)):
            names = tuple(name for side in totals for name in side.named("power"))
            sums = f"the {kind}s sum to {total + apart:.3f} kW, the total is {total:.3f} kW"
            yield Contradiction(names, f"power: {sums}; one of them is counted twice or has another scale")


def _dead(inlets: Iterable[_Side]) -> tuple[str, ...]:
    """Quantities of which no inlet shows anything."""
    parts: dict[str, float] = {}
    for side in inlets:
        for (quantity, _), value in side.values.items():
            parts[quantity] = max(parts.get(quantity, value), value)
    return tuple(q for q in ("power", "apparent_power", *_ENERGY) if parts.get(q, 0.0) <= 0)


def _is_inlet(scope: str, unit: str) -> bool:
    return scope == unit or re.fullmatch(rf"{re.escape(unit)}(infeed|inlet)_\d+_", scope) is not None


def _largest(inlets: Iterable[_Side], quantities: tuple[str, ...]) -> float | None:
    """The whole, else the sum of the inlets, each by its phases where it has no total."""
    wholes = [v for side in inlets for (q, n), v in side.values.items() if q in quantities and not n] or [
        v for side in inlets for (q, n), v in side.values.items() if q in quantities
    ]
    return max(wholes, default=None)


def _least_inlet(out: float, least: float, unit: str) -> float:
    """Registers may have been reset apart: of energies only an inlet that counts nothing contradicts."""
    return out * LEAST_FACTOR if unit == "kWh" else out - max(least, AGREE_RATIO * out)


def _why_inlet(into: float) -> str:
    return "it is not measured there" if into <= 0 else "one of them is wrong"
