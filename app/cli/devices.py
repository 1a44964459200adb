"""``wattline probe`` and ``wattline poll``: talk to one device."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from app.cli.console import say, show, show_json, show_table
from app.cli.environment import settings, site_file
from app.cli.opening import opened
from app.domain.site import Fleet, Meter
from app.errors import NotFound
from app.store.breakdown import text_of
from collectors import probe as probing
from collectors import registry
from collectors.base import Binding, Poll
from collectors.modbus import probe as modbus_probe
from collectors.probe import Found, Protocol, Target


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is probed; without a port both protocols are tried on their usual ones."""

    host: str
    modbus: int | None
    snmp: int | None
    device_id: int
    community: str
    register: int | None = None
    shown: float | None = None


def probe(target: Wanted, *, as_json: bool) -> None:
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
        show_json({"host": target.host, "recognised": [asdict(one) for one in found]})
    else:
        _show(target.host, found)
    if not found:
        raise typer.Exit(1)


async def _probe(target: Wanted) -> list[Found]:
    """What was recognised; says why anything else was not."""
    outcomes = await asyncio.gather(*(probing.probe(one) for one in _targets(target)))
    for problem in (problem for outcome in outcomes for problem in outcome.problems):
        say(problem)
    return [found for outcome in outcomes for found in outcome.found]


def _targets(target: Wanted) -> list[Target]:
    """Protocols whose port was named; else both, on their usual ones."""
    ports: dict[Protocol, int | None] = {"modbus": target.modbus, "snmp": target.snmp}
    named = {protocol: port for protocol, port in ports.items() if port is not None}
    asked: dict[Protocol, int | None] = {**named} or {"both": None}
    return [
        Target(target.host, protocol, port, target.device_id, target.community)
        for protocol, port in asked.items()
    ]


def _show(host: str, found: Sequence[Found]) -> None:
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
    if others := ", ".join(one.profile for one in found[1:]):
        show(f"# these profiles fit too: {others}")


def _try_orders(target: Wanted, register: int, shown: float, *, as_json: bool) -> None:
    port = target.modbus or probing.MODBUS_PORT
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
    meter = _meter(_fleet(config_path), meter_id)
    at = datetime.now(UTC)
    outcome = asyncio.run(_poll(meter, at))
    if as_json:
        show_json(_poll_document(meter, at, outcome))
    else:
        _show_poll(meter, outcome)
    if outcome.failures:
        raise typer.Exit(1)


def _fleet(config_path: Path | None) -> Fleet:
    """The site file's fleet, which needs no database; else the database's."""
    file = site_file(config_path, settings())
    if file is not None:
        return file.fleet
    with opened() as here:
        return here.stored.fleet


def _meter(fleet: Fleet, meter_id: str) -> Meter:
    if meter_id not in fleet.meter:
        raise NotFound(f"there is no meter {meter_id!r}; known are {', '.join(fleet.meter) or 'none'}")
    meter = fleet.meter[meter_id][1]
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
