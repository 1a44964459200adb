"""``wattline probe`` and ``wattline poll``: talk to one device."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from app.cli.console import say, show, show_json, show_table
from app.cli.opening import opened, settings, site_file
from app.domain.site import Estate, Meter
from app.errors import CollectError, NotFound
from app.store.breakdown import text_of
from collectors import modbus_probe, registry, snmp_probe
from collectors.base import Binding, Poll

MODBUS_PORT, SNMP_PORT = 502, 161


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as one of the probes recognised it."""

    profile: str
    model: str
    values: dict[str, float]
    notes: tuple[str, ...]
    """Why it is taken for this model, and what the installer should look at."""
    yaml: str
    """A meter for the site file."""

    @classmethod
    def on_modbus(cls, found: modbus_probe.Recognised) -> Seen:
        """What the Modbus probe found."""
        doubt = () if found.certain else ("this is not certain: compare the values with the display",)
        problems = tuple(f"{name}: {problem}" for name, problem in found.problems.items())
        model = f"{found.vendor} {found.model}, unit {found.device_id}"
        return cls(found.profile, model, found.values, (found.why, *doubt, *problems), found.yaml)

    @classmethod
    def on_snmp(cls, found: snmp_probe.Recognised) -> Seen:
        """What the SNMP probe found."""
        return cls(found.profile, found.model, found.values, (found.sys_descr, *found.findings), found.yaml)


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed; without a port both protocols are tried on their usual ones."""

    host: str
    modbus: int | None
    snmp: int | None
    device_id: int
    community: str
    register: int | None = None
    shown: float | None = None


def probe(target: Target, *, as_json: bool) -> None:
    """Recognise a device, or find out how one of its registers is to be read; exits 1 without a result.

    Raises
    ------
    CollectError
        If a register was named and cannot be read.
    """
    settings()  # says which networks may be reached
    if target.register is not None and target.shown is not None:
        _try_orders(target, target.register, target.shown, as_json=as_json)
        return
    found = asyncio.run(_probe(target))
    if as_json:
        show_json({"host": target.host, "recognised": [asdict(seen) for seen in found]})
    else:
        _show(target.host, found)
    if not found:
        raise typer.Exit(1)


async def _probe(target: Target) -> list[Seen]:
    both = target.modbus is None and target.snmp is None
    asked: list[Coroutine[Any, Any, list[Seen]]] = []
    if both or target.modbus is not None:
        asked.append(_probe_modbus(target))
    if both or target.snmp is not None:
        asked.append(_probe_snmp(target))
    return [seen for found in await asyncio.gather(*asked) for seen in found]


async def _probe_modbus(target: Target) -> list[Seen]:
    port = target.modbus or MODBUS_PORT
    try:
        found = await modbus_probe.probe(target.host, port, [target.device_id])
    except CollectError as error:
        say(f"Modbus: {error}")
        return []
    return [Seen.on_modbus(one) for one in found]


async def _probe_snmp(target: Target) -> list[Seen]:
    port = target.snmp or SNMP_PORT
    try:
        found = await snmp_probe.probe(target.host, port, target.community)
    except CollectError as error:
        say(f"SNMP: {error}")
        return []
    return [Seen.on_snmp(one) for one in found]


def _show(host: str, found: Sequence[Seen]) -> None:
    if not found:
        say(f"{host}: nothing was recognised; name the port with --modbus or --snmp, and the --community")
        return
    best = found[0]
    show(f"{host}: {best.model} (profile {best.profile})")
    for note in best.notes:
        show(f"note: {note}")
    show_table(["channel", ">value"], ([name, f"{value:,.3f}"] for name, value in best.values.items()))
    show("# paste this under meters: in the site file")
    show(best.yaml)
    if others := ", ".join(seen.profile for seen in found[1:]):
        show(f"# these profiles fit too: {others}")


def _try_orders(target: Target, register: int, shown: float, *, as_json: bool) -> None:
    port = target.modbus or MODBUS_PORT
    ways = asyncio.run(modbus_probe.try_orders(target.host, port, target.device_id, register, shown))
    if as_json:
        show_json({"host": target.host, "register": register, "ways": [asdict(way) for way in ways]})
    elif ways:
        columns = ["type", "word order", "byte order", ">scale", ">value"]
        show_table(
            columns, ([w.type, w.word_order, w.byte_order, f"{w.scale:g}", f"{w.value:,.3f}"] for w in ways)
        )
    else:
        say(f"no way to read register {register} gives about {shown:g}")
    if not ways:
        raise typer.Exit(1)


# -- poll --------------------------------------------------------------------------------------------


def poll(meter_id: str, *, config_path: Path | None, as_json: bool) -> None:
    """Read one meter once; exits 1 where any point could not be read.

    Raises
    ------
    NotFound
        If there is no such meter, or it is not polled.
    """
    meter = _meter(_estate(config_path), meter_id)
    at = datetime.now(UTC)
    outcome = asyncio.run(_poll(meter, at))
    if as_json:
        show_json(_poll_document(meter, at, outcome))
    else:
        _show_poll(meter, outcome)
    if outcome.failures:
        raise typer.Exit(1)


def _estate(config_path: Path | None) -> Estate:
    """The site file's estate, which needs no database; else the database's."""
    file = site_file(config_path, settings())
    if file is not None:
        return file.estate
    with opened() as here:
        return here.stored.estate


def _meter(estate: Estate, meter_id: str) -> Meter:
    if meter_id not in estate.meter:
        raise NotFound(f"there is no meter {meter_id!r}; known are {', '.join(estate.meter) or 'none'}")
    meter = estate.meter[meter_id][1]
    if meter.collector is None:
        raise NotFound(f"meter {meter_id} has no collector: section; it is read from files or the API")
    return meter


async def _poll(meter: Meter, at: datetime) -> Poll:
    collector = registry.build(registry.parse(meter.collector or {}), Binding(meter.id, meter.points))
    try:
        return await collector.poll(at)
    finally:
        await collector.close()


def _poll_document(meter: Meter, at: datetime, outcome: Poll) -> dict[str, Any]:
    return {
        "meter": meter.id,
        "at": text_of(at),
        "readings": [{"point": r.point, "value": r.value} for r in outcome.readings],
        "failures": [{"point": f.point, "problem": f.problem} for f in outcome.failures],
    }


def _show_poll(meter: Meter, outcome: Poll) -> None:
    points = {p.id: p for p in meter.points}
    rows = [[r.point, f"{r.value:,.3f}", points[r.point].quantity.house_unit] for r in outcome.readings]
    if rows:
        show_table(["point", ">value", "unit"], rows)
    for failure in outcome.failures:
        say(str(failure))
