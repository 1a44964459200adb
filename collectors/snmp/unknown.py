"""What an SNMP device that no profile fits says of itself, and how to describe it.

Its own vendor's tree is walked within bounds. Without the MIB a number has no meaning, but a row that holds
volts, amperes and their product does: such columns are named, with the factors that make them agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product

from app.errors import CollectError
from collectors.found import Column, Unknown
from collectors.profiles.profile import SnmpProfile, load_profile, profile_names
from collectors.snmp.session import Value
from collectors.snmp.table import NoValue, TableReader, number, stated_unit

ENTERPRISES = "1.3.6.1.4.1"
_UPS_OUTPUT, _SENSORS = "1.3.6.1.2.1.33.1.4.4.1", "1.3.6.1.2.1.99.1.1.1"
_STANDARD = {f"{_UPS_OUTPUT}.2": "V x 1", f"{_UPS_OUTPUT}.3": "A x 0.1", f"{_UPS_OUTPUT}.4": "W x 1"}
"""What RFC 1628 says of its output table."""
_OF_NO_VENDOR = {"0", "1", "2021", "8072"}
"""Numbers of agents' software (UCD and NET-SNMP), and what a vendor leaves who has none."""
_WRITTEN = {"w": "W", "kw": "kW", "wh": "Wh", "kwh": "kWh", "va": "VA", "kva": "kVA", "v": "V"}
_WRITTEN |= {"mv": "mV", "a": "A", "ma": "mA"}
MOST_COLUMNS, MOST_VALUES = 24, 6
"""Columns that are told, and values of each."""
MOST_ROWS = 200
"""A column with more rows is no table of inlets or outlets."""
_LINE_V = ((100.0, 130.0), (195.0, 265.0), (340.0, 430.0))
_VOLT_SCALES, _AMPERE_SCALES = (1.0, 0.1, 0.01, 0.001), (1.0, 0.1, 0.01, 0.001)
_WATT_SCALES = (1.0, 0.1, 0.01, 0.001, 10.0, 100.0, 1000.0)
_FACTOR = (0.5, 1.02)
"""Power factors between which a product of volts and amperes is taken for power."""
_AMPERES = (0.5, 80.0)
"""What the most loaded outlet or circuit takes. [A]"""
LEAST_ROWS, DIFFERENT, ALIKE, LEAST_W = 3, 1.5, 1.3, 20.0
"""So many loaded rows must agree, of which the powers differ by this factor and the power factors do not."""


async def describe(agent: TableReader, sys_descr: str, object_id: str) -> Unknown:
    """What an unknown agent has that may be power.

    Raises
    ------
    CollectError
        If the agent cannot be read.
    """
    numbers: dict[str, float] = {}
    units: dict[str, str] = {}
    for root in _roots(object_id):
        try:
            rows = await agent.walk(root)
        except CollectError:
            continue  # a tree that is too large or too slow tells nothing
        numbers |= {f"{root}.{row}": n for row, value in rows.items() if (n := _number(value)) is not None}
        units |= {f"{root}.{row}": unit for row, value in rows.items() if (unit := stated_unit(value))}
    columns = _columns(numbers, units)
    lines = _five_lines(columns, sys_descr)
    return Unknown(sys_descr, object_id, columns, nearest(sys_descr, object_id), lines)


def _roots(object_id: str) -> list[str]:
    """Where a device may keep its power: its vendor's tree and the standard MIBs.

    An agent that gives no number of a vendor, or that of the agent's software, is looked through whole.
    """
    vendor = re.match(rf"{re.escape(ENTERPRISES)}\.(\d+)", object_id.lstrip("."))
    known = vendor is not None and vendor[1] not in _OF_NO_VENDOR
    return [vendor[0] if vendor and known else ENTERPRISES, _UPS_OUTPUT, _SENSORS]


def _number(value: Value) -> float | None:
    try:
        return number(value)
    except NoValue:
        return None


def _columns(numbers: Mapping[str, float], units: Mapping[str, str]) -> tuple[Column, ...]:
    """Numbers by column; a row is told by as many arcs as make volts, amperes and power agree, or one.

    Where the texts of a column state a unit, that is what it looks like.
    """
    tables = {arcs: _table(numbers, arcs) for arcs in (1, 2, 3)}
    fits = {arcs: dict(_volts_amperes_watts(_of_a_vendor(table))) for arcs, table in tables.items()}
    arcs = next((n for n, meant in fits.items() if meant), 1)
    table, meant = tables[arcs], fits[arcs]
    meant |= {oid: unit for oid, unit in _STANDARD.items() if oid in table}
    for oid, rows in table.items():
        stated = {units.get(f"{oid}.{row}", "") for row in rows}
        if len(stated) == 1 and (unit := stated.pop()):
            meant[oid] = f"{_WRITTEN[unit]} x 1"
    ordered = sorted(table, key=lambda oid: (oid not in meant, _order(oid)))
    return tuple(
        Column(
            oid, tuple(table[oid])[:MOST_VALUES], tuple(table[oid].values())[:MOST_VALUES], meant.get(oid, "")
        )
        for oid in ordered[:MOST_COLUMNS]
    )


def _of_a_vendor(table: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Columns whose meaning no standard settles."""
    return {oid: rows for oid, rows in table.items() if not oid.startswith((_UPS_OUTPUT, _SENSORS))}


def _table(numbers: Mapping[str, float], arcs: int) -> dict[str, dict[str, float]]:
    """Columns of numbers by row, where a row is named by the last `arcs` of an OID; none that is all zero."""
    found: dict[str, dict[str, float]] = {}
    for oid, value in numbers.items():
        parts = oid.split(".")
        found.setdefault(".".join(parts[:-arcs]), {})[".".join(parts[-arcs:])] = value
    return {
        o: rows for o, rows in found.items() if len(rows) <= MOST_ROWS and any(v > 0 for v in rows.values())
    }


def _order(oid: str) -> tuple[int, ...]:
    return tuple(map(int, oid.split(".")))


def _volts_amperes_watts(found: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    """Three columns of one entry whose rows agree as volts, amperes and their product."""
    entries: dict[str, list[str]] = {}
    for oid in found:
        entries.setdefault(oid.rpartition(".")[0], []).append(oid)
    for columns in entries.values():
        for oid, (unit, scales) in (_fit(found, columns) if 3 <= len(columns) <= 60 else {}).items():
            yield oid, f"{unit} x {' or '.join(f'{scale:g}' for scale in scales)}"


def _fit(found: Mapping[str, Mapping[str, float]], columns: list[str]) -> dict[str, tuple[str, list[float]]]:
    """The first three columns that agree, each with every factor under which they do."""
    for volts, scale_v in product(columns, _VOLT_SCALES):
        lines = [v * scale_v for v in found[volts].values() if v]
        if not lines or not all(any(low <= v <= high for low, high in _LINE_V) for v in lines):
            continue
        for amperes, watts in product(columns, columns):
            scales = [
                (scale_a, scale_w)
                for scale_a, scale_w in product(_AMPERE_SCALES, _WATT_SCALES)
                if len({volts, amperes, watts}) == 3
                and _AMPERES[0] <= max(found[amperes].values()) * scale_a <= _AMPERES[1]
                and _agree(found, (volts, scale_v), (amperes, scale_a), (watts, scale_w))
            ]
            if scales:
                return {
                    volts: ("V", [scale_v]),
                    amperes: ("A", [scale_a for scale_a, _ in scales]),
                    watts: ("W", [scale_w for _, scale_w in scales]),
                }
    return {}


def _agree(found: Mapping[str, Mapping[str, float]], *columns: tuple[str, float]) -> bool:
    """Whether enough rows of different load agree; a few alike agree by chance under some factors."""
    (volts, scale_v), (amperes, scale_a), (watts, scale_w) = columns
    powers, factors = [], []
    for row, value in found[watts].items():
        apparent = found[volts].get(row, 0.0) * scale_v * found[amperes].get(row, 0.0) * scale_a
        power = value * scale_w
        if max(power, apparent) < LEAST_W:
            continue
        if not apparent or not _FACTOR[0] <= power / apparent <= _FACTOR[1]:
            return False
        powers.append(power)
        factors.append(power / apparent)
    if len(powers) < LEAST_ROWS or max(powers) < DIFFERENT * min(powers):
        return False
    return max(factors) <= ALIKE * min(factors)


def nearest(sys_descr: str, object_id: str) -> tuple[str, ...]:
    """Profiles whose signs begin with the same vendor's number, or whose vendor the device names."""
    vendor = ".".join(object_id.lstrip(".").split(".")[:7])
    said = sys_descr.casefold()
    names = []
    for name in profile_names("snmp"):
        profile = load_profile(name)
        assert isinstance(profile, SnmpProfile)
        oids = [o for s in profile.recognise for o in (*s.sys_object_id, *s.present)]
        same = vendor.startswith(f"{ENTERPRISES}.") and any(f"{o}.".startswith(f"{vendor}.") for o in oids)
        words = [w for w in re.split(r"[^a-z0-9]+", profile.vendor.casefold()) if len(w) > 3]
        if same or any(word in said for word in words if word != "generic"):
            names.append(name)
    return tuple(names)


def _five_lines(columns: tuple[Column, ...], sys_descr: str) -> str:
    """A profile to begin with: the likeliest power, its table, and a place for the energy."""
    power = next((c for c in columns if c.looks_like.startswith(("W x", "kW x"))), None)
    oid = power.oid if power else f"{ENTERPRISES}.VENDOR.TABLE.COLUMN"
    unit, _, scales = power.looks_like.partition(" x ") if power else ("W", "", "1")
    scale, *others = scales.split(" or ")
    meant = f"unit: {unit.lower()}, scale: {scale}"
    compare = f"; scale may be {' or '.join(others)}: compare with the panel" if others else ""
    model = re.sub(r"[^A-Za-z0-9 .-]", " ", sys_descr)[:40].strip() or "my device"
    return (
        f"{{model: {model!r}, vendor: my vendor, protocol: snmp, source: the vendor's MIB, "
        f"recognise: [{{present: [{oid}]}}], channels: [\n"
        f'  {{name: "outlet_{{n}}_power_kw", {meant}, oid: {oid}, index: "{{n}}"}},\n'
        f'  {{name: power_kw, unit: kw, sum_of: ["outlet_{{n}}_power_kw"]}},\n'
        f"  # {{name: energy_import_kwh, unit: wh, oid: {ENTERPRISES}.VENDOR.ENERGY.0}}{compare}\n"
        f"]}}\n"
    )
