"""Siblings of recorded devices: other model numbers, fewer phases, other outlet counts, unknown vendors.

The recordings lie outside the repository; without them the tests skip.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from collectors.profiles.profile import SnmpProfile, load_profile
from collectors.snmp.probe import Recognised, probe_agent
from collectors.snmp.session import Value
from collectors.snmp.table import Cell, survey
from tests.protocol.snmp_objects import Objects, Recorded

DATA = Path(__file__).parents[3] / "shared" / "data"
RECORDINGS = sorted(path.stem for path in DATA.glob("snmprec/*.snmprec"))
if not RECORDINGS:
    pytest.skip("no recordings: ../shared/data/snmprec is absent", allow_module_level=True)

SYS_DESCR, SYS_OBJECT_ID = "1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.2.0"
UPS_OUTPUT = "1.3.6.1.2.1.33.1.4.4.1"
TABLES = 3
"""Of every recording, changed one by one."""
ACCESS = {"host": "192.0.2.1"}


@cache
def recording(name: str) -> Objects:
    lines = (DATA / "snmprec" / f"{name}.snmprec").read_bytes().split(b"\n")
    rows = [line.rstrip(b"\r").split(b"|", 2) for line in lines if line.count(b"|") >= 2]
    return {oid.decode().lstrip("."): _value(tag.decode(), raw) for oid, tag, raw in rows}


def _value(tag: str, raw: bytes) -> Value:
    if tag.endswith("x"):
        return bytes.fromhex(raw.decode())
    if tag in ("2", "65", "66", "67", "70"):
        return int(raw)
    return raw.decode().lstrip(".") if tag == "6" else raw


async def best(objects: Objects) -> Recognised:
    found = await probe_agent(Recorded(objects), ACCESS)
    assert found, "no profile fits"
    return found[0]


def numbered(template: str, seen: Mapping[str, Cell]) -> dict[int, Cell]:
    """Cells of the last unit of a template, by n."""
    cells = [(cell.channel.indices(name) or {}, cell) for name, cell in seen.items()]
    of_it = [(indices, cell) for indices, cell in cells if cell.channel.name == template and "n" in indices]
    others = [{k: v for k, v in indices.items() if k != "n"} for indices, _ in of_it]
    return {indices["n"]: cell for indices, cell in of_it if {**indices, **others[-1]} == indices}


def row_of(cell: Cell) -> tuple[list[str], str]:
    """Table entries that say something about a cell, and its row in them."""
    row = cell.oid.removeprefix(f"{cell.channel.oid}.")
    columns = [cell.channel.oid or ""]
    columns += [o.removesuffix(f".{row}") for o in (cell.digits_oid, cell.si_oid, cell.valid_oid) if o]
    return [column.rpartition(".")[0] for column in columns], row


def in_row(objects: Objects, cell: Cell) -> dict[str, str]:
    """Objects of a cell's row, each with the OID it would have in row ``{}``."""
    entries, row = row_of(cell)
    pattern = re.compile(rf"({'|'.join(map(re.escape, entries))})\.(\d+)\.{re.escape(row)}")
    return {oid: f"{m[1]}.{m[2]}.{{}}" for oid in objects if (m := pattern.fullmatch(oid))}


async def surveyed(objects: Objects) -> tuple[Recognised, dict[str, Cell]]:
    found = await best(objects)
    profile = load_profile(found.profile)
    assert isinstance(profile, SnmpProfile)
    sources = (await survey(Recorded(objects), profile)).sources
    return found, {name: s for name, s in sources.items() if isinstance(s, Cell) and name in found.values}


every_recording = pytest.mark.parametrize("name", RECORDINGS)


STANDARD_ONLY = {"eatonupsm2_9px"}
"""Cards that serve nothing but RFC 1628: without the vendor's number the generic profile reads them."""


async def assert_read_alike(objects: Objects, name: str) -> None:
    """The device is read as the recorded one is, by the same profile."""
    known, found = await best(recording(name)), await best(objects)
    if name in STANDARD_ONLY:
        assert found.profile in ("ups_mib", known.profile)
        assert found.values["power_kw"] == known.values["power_kw"]
    else:
        assert (found.profile, found.values) == (known.profile, known.values)


@every_recording
async def test_another_model_of_a_family_is_read_by_its_profile(name: str) -> None:
    there = recording(name)
    own = str(there[SYS_OBJECT_ID])
    descr = b"new model " + bytes(there[SYS_DESCR])  # type: ignore[arg-type]
    for object_id in (f"{own.rpartition('.')[0]}.77", f"{own}.5.1"):
        await assert_read_alike({**there, SYS_OBJECT_ID: object_id, SYS_DESCR: descr}, name)


UNREADABLE_WITHOUT_ITS_NAME = {"huaweiups_ups2000": "only the name tells that its watts are kilowatts"}


@every_recording
@pytest.mark.parametrize("object_id", ["1.3.6.1.4.1.8072.3.2.10", None])
async def test_a_card_that_names_another_vendor_is_known_by_its_tables(
    name: str, object_id: str | None
) -> None:
    if name in UNREADABLE_WITHOUT_ITS_NAME:
        pytest.skip(UNREADABLE_WITHOUT_ITS_NAME[name])
    renamed = {k: v for k, v in recording(name).items() if k not in (SYS_OBJECT_ID, SYS_DESCR)}
    await assert_read_alike(renamed if object_id is None else {**renamed, SYS_OBJECT_ID: object_id}, name)


@every_recording
async def test_a_sibling_with_fewer_rows_gives_the_others(name: str) -> None:
    """Fewer phases, outlets, breakers or sensors."""
    there = recording(name)
    before, cells = await surveyed(there)
    for rows in some_tables(name, cells, at_least=2):
        kept = random.Random(name).randint(1, len(rows) - 1)
        gone = {oid for n in sorted(rows)[kept:] for oid in in_row(there, rows[n])}
        found = await best({oid: value for oid, value in there.items() if oid not in gone})
        assert found.profile == before.profile
        for channel, cell in cells.items():
            assert (channel in found.values) == (cell.oid not in gone), channel
            assert cell.oid in gone or found.values[channel] == before.values[channel]
        assert {"power_kw", "energy_import_kwh"} & before.values.keys() <= found.values.keys() | cells.keys()


@every_recording
async def test_a_sibling_with_more_rows_gives_them_too(name: str) -> None:
    there = recording(name)
    before, cells = await surveyed(there)
    for rows in some_tables(name, cells):
        last, more = max(rows), max(rows) + random.Random(name).randint(1, 40)
        cell = rows[last]
        indices = next(i for n, c in cells.items() if c is cell and (i := c.channel.indices(n)))
        row = filled(cell.channel.index or "", {**indices, "n": more}, row_of(cell)[1])
        new = {place.format(row): there[oid] for oid, place in in_row(there, cell).items()}
        found = await best({**there, **new})
        assert found.profile == before.profile
        added, old = (cell.channel.name_for({**indices, "n": n}) for n in (more, last))
        assert found.values[added] == before.values[old], added


def some_tables(name: str, cells: Mapping[str, Cell], at_least: int = 1) -> list[dict[int, Cell]]:
    """Cells by their n of a few of the tables that have that many rows; skips where there is none."""
    templates = dict.fromkeys(cell.channel.name for cell in cells.values())
    tables = [rows for t in templates if len(rows := numbered(t, cells)) >= at_least]
    if not tables:
        pytest.skip("it has no such table")
    return random.Random(name).sample(tables, min(TABLES, len(tables)))


def filled(index: str, indices: Mapping[str, int], row: str) -> str:
    """The row of other indices; what the pattern leaves open stays as in `row`."""
    parts = zip(index.split("."), row.split("."), strict=True)
    return ".".join(old if p == "*" else _part(p, indices) for p, old in parts)


def _part(part: str, indices: Mapping[str, int]) -> str:
    variable = re.fullmatch(r"\{([a-z])(\+1)?\}", part)
    return str(indices[variable[1]] - bool(variable[2])) if variable else part


UPS = [n for n in RECORDINGS if any(oid.startswith(f"{UPS_OUTPUT}.4.") for oid in recording(n))]


@pytest.mark.parametrize("name", UPS)
async def test_a_ups_of_an_unknown_vendor_is_read_by_the_standard_mib(name: str) -> None:
    standard = {k: v for k, v in recording(name).items() if not k.startswith("1.3.6.1.4.1.")}
    found = await best({**standard, SYS_OBJECT_ID: "1.3.6.1.4.1.99999.7.1"})
    powers = [v for oid, v in standard.items() if oid.startswith(f"{UPS_OUTPUT}.4.") and v not in (-1, b"")]
    assert found.profile == "ups_mib"
    if name in UNREADABLE_WITHOUT_ITS_NAME:
        assert "power_kw" not in found.values
        assert any("the device may mean kW" in text for text in found.findings)
    elif powers:
        assert found.values["power_kw"] == pytest.approx(sum(map(float, powers)) / 1000)


@every_recording
async def test_a_vendors_card_without_its_vendors_power_is_read_by_the_standard_mib(name: str) -> None:
    """Cards leave their vendor's tables half empty and serve RFC 1628 instead."""
    if name in UNREADABLE_WITHOUT_ITS_NAME:
        pytest.skip("its card means kilowatts")
    vendor = {k: v for k, v in recording(name).items() if not k.startswith("1.3.6.1.2.1.33.")}
    found = await probe_agent(Recorded(vendor), ACCESS)
    if any(n.endswith(("_kw", "_kwh")) for one in found for n in one.values):
        pytest.skip("it says its power itself")
    ups = {f"{UPS_OUTPUT}.4.{n}": watts for n, watts in ((1, 1200), (2, 1300), (3, 1400))}
    assert (await best({**vendor, **ups})).values["power_kw"] == pytest.approx(3.9)


async def test_an_unknown_device_is_read_by_its_sensors() -> None:
    """RFC 3433: type watts (6), scales kilo (10) and units (9), decimals, one sensor out of order."""
    entry = "1.3.6.1.2.1.99.1.1.1"
    sensors = {1: (6, 9, 1, 12_345, 1), 2: (6, 10, 3, 1_234, 1), 3: (6, 9, 0, 7, 2), 4: (8, 9, 1, 235, 1)}
    objects: Objects = {SYS_OBJECT_ID: "1.3.6.1.4.1.99999.3", SYS_DESCR: b"thing"}
    for n, columns in sensors.items():
        objects |= {f"{entry}.{column}.{n}": value for column, value in enumerate(columns, 1)}
    found = await best(objects)
    assert found.profile == "entity_sensor"
    assert found.values == pytest.approx(
        {"sensor_1_power_kw": 1.2345, "sensor_2_power_kw": 1.234, "sensor_4_temperature_c": 23.5}
    )
