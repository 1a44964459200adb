"""``wattline probe`` and ``wattline poll``: talk to one device."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
import yaml

from app.cli.console import say, show, show_json, show_table
from app.cli.environment import settings, site_file
from app.cli.opening import opened
from app.domain.reading import Reading
from app.domain.site import Fleet, Meter, Point
from app.errors import ConfigError, NotFound
from app.store.breakdown import text_of
from collectors import probe as probing
from collectors import registry
from collectors.base import Binding, Poll
from collectors.found import Outcome, Target, Unknown
from collectors.modbus import probe as modbus_probe
from collectors.profiles import folders


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is probed; without protocol and port those that any address may speak, on their usual ones."""

    host: str
    modbus: int | None
    snmp: int | None
    device_id: int
    community: str
    register: int | None = None
    shown: float | None = None
    timeout_s: float | None = None
    profile: str = ""
    input_registers: bool = False
    access: Mapping[str, Any] = field(default_factory=dict)
    """Keys of SNMPv3 access."""
    protocol: str = ""
    port: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the collector, as the site file has them."""


def collector_options(texts: Sequence[str]) -> dict[str, Any]:
    """Keys of a collector from ``--option KEY=VALUE``; lists and mappings are YAML, all else is text.

    Raises
    ------
    ConfigError
        If one is not of that form.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{text!r} is not understood; give KEY=VALUE", key="--option")
        found[key.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    """An address such as 000000000017 stays a text: YAML takes it for a number."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{text!r} is no YAML; give a list or a mapping", key="--option") from None


def snmp_access(user: str | None, auth: str | None, privacy: str | None) -> dict[str, Any]:
    """Keys of SNMPv3 access from ``--snmp-user``, ``--snmp-auth`` and ``--snmp-privacy``.

    Raises
    ------
    ConfigError
        If one is not of the form PROTOCOL:FILE, or there is no user.
    """
    if not (user or auth or privacy):
        return {}
    if not user:
        raise ConfigError("is missing; SNMPv3 needs a user", key="--snmp-user")
    found: dict[str, Any] = {"version": "3", "user": user}
    for option, text, name in (("--snmp-auth", auth, "auth"), ("--snmp-privacy", privacy, "priv")):
        if text is not None:
            protocol, colon, file = text.partition(":")
            if not colon or not file:
                raise ConfigError(f"{text!r} is not understood; give PROTOCOL:FILE", key=option)
            found |= {f"{name}_protocol": protocol.lower().replace("-", ""), f"{name}_password_file": file}
    return found


def probe(target: Wanted, *, as_json: bool) -> None:
    """Recognise a device, or find out how one of its registers is to be read; exits 1 without a result.

    Raises
    ------
    CollectError
        If a register was named and cannot be read.
    """
    settings()  # says which networks may be reached, and where own profiles lie
    if target.register is not None and target.shown is not None:
        _try_orders(target, target.register, target.shown, as_json=as_json)
        return
    if probing.is_range(target.host):
        _probe_range(target, as_json=as_json)
        return
    outcome = asyncio.run(_probe(target))
    if as_json:
        show_json({"host": target.host, **_document(outcome)})
    else:
        _show(target.host, outcome)
    if not outcome.found:
        raise typer.Exit(1)


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "recognised": [asdict(one) for one in outcome.found],
        "unknown": [asdict(one) for one in outcome.unknown],
        "problems": list(outcome.problems),
    }


async def _probe(target: Wanted) -> Outcome:
    """What was recognised; says why anything else was not."""
    outcome = probing.joined(await asyncio.gather(*map(probing.probe, _targets(target))))
    for problem in outcome.problems:
        say(problem)
    return outcome


def _targets(target: Wanted, host: str = "") -> list[Target]:
    """Protocols whose port was named; else the one that was named, or both."""
    ports: dict[str, int | None] = {
        "modbus": target.modbus,
        "snmp": target.snmp,
        target.protocol: target.port,
    }
    named = {protocol: port for protocol, port in ports.items() if protocol and port is not None}
    asked: dict[str, int | None] = {**named} or {target.protocol or probing.BOTH: target.port}
    return [
        Target(
            host or target.host,
            protocol,
            port,
            target.device_id,
            target.community,
            target.timeout_s,
            target.profile,
            target.input_registers,
            target.access,
            target.options,
        )
        for protocol, port in asked.items()
    ]


def _show(host: str, outcome: Outcome) -> None:
    for unknown in outcome.unknown:
        _show_unknown(host, unknown)
    if not outcome.found and not outcome.unknown:
        say(
            f"{host}: nothing was recognised; name the port with --modbus or --snmp, and the --community; "
            f"or name another protocol with --protocol: {', '.join(probing.PROTOCOLS)}"
        )
        return
    if not outcome.found:
        return
    best = outcome.found[0]
    show(f"{host}: {best.model}{f' (profile {best.profile})' if best.profile else ''}")
    for note in best.notes:
        show(f"note: {note}")
    show_table(["channel", ">value"], ([name, f"{value:,.3f}"] for name, value in best.values.items()))
    show("# paste this under meters: in the site file")
    show(best.yaml)
    if others := ", ".join(one.profile for one in outcome.found[1:]):
        show(f"# these profiles fit too: {others}")


def _show_unknown(host: str, unknown: Unknown) -> None:
    """An unknown device: what it says, what of it may be power, which profiles to try, how to describe it."""
    show(f"{host}: no profile gives its power or energy")
    show(f"sysDescr: {unknown.sys_descr}")
    show(f"sysObjectID: {unknown.sys_object_id}")
    rows = [
        [c.oid, c.looks_like, str(len(c.values)), ", ".join(f"{v:g}" for v in c.values)]
        for c in unknown.columns
    ]
    if rows:
        show_table(["column", "looks like", ">rows", "values"], rows)
    if unknown.nearest:
        show(f"nearest profiles: {', '.join(unknown.nearest)}; read the device through one of them with")
        show(f"  wattline profiles try {unknown.nearest[0]} {host}")
    show(f"To describe it, put this into a file in {folders.SETTING}, with the columns of the vendor's MIB:")
    show(unknown.description)


def _probe_range(target: Wanted, *, as_json: bool) -> None:
    """One row for each address that answers; exits 1 where none does."""
    outcomes = asyncio.run(_probe_all(target, probing.addresses(target.host)))
    answering = {host: outcome for host, outcome in outcomes.items() if probing.answers(outcome)}
    if as_json:
        show_json(
            {"range": target.host, "hosts": [{"host": h, **_document(o)} for h, o in answering.items()]}
        )
    else:
        show_table(["address", "model", "profile", ">kW", ">kWh", "note"], map(_row, answering.items()))
        say(f"{len(answering)} of {len(outcomes)} addresses answer")
    if not any(outcome.found for outcome in answering.values()):
        raise typer.Exit(1)


async def _probe_all(target: Wanted, hosts: Sequence[str]) -> dict[str, Outcome]:
    async def one(host: str) -> Outcome:
        return probing.joined([await probing.probe(asked) for asked in _targets(target, host)])

    return await probing.each(hosts, one)


def _row(entry: tuple[str, Outcome]) -> list[str]:
    one = probing.Answer.of(*entry)
    figures = ["" if v is None else f"{v:,.3f}" for v in (one.power_kw, one.energy_kwh)]
    return [one.host, one.model or "unknown", one.profile, *figures, one.note[:60]]


def _try_orders(target: Wanted, register: int, shown: float, *, as_json: bool) -> None:
    port = target.modbus or registry.KINDS["modbus"].port
    table: modbus_probe.Table = "input" if target.input_registers else "holding"
    ways = asyncio.run(
        modbus_probe.try_orders(target.host, port, target.device_id, register, shown, table=table)
    )
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
    at = datetime.now(UTC)
    meter = _meter(_fleet(config_path).at(at), meter_id)
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
    times = {p.id: p.multiplier for p in meter.points}
    return {
        "meter": meter.id,
        "at": text_of(at),
        "readings": [_reading_document(r, at, times[r.point]) for r in _newest(outcome)],
        "failures": [{"point": f.point, "problem": f.problem} for f in outcome.failures],
    }


def _newest(outcome: Poll) -> list[Reading]:
    """The newest reading of every point: sources with a memory give all that they hold."""
    newest: dict[str, Reading] = {}
    for one in outcome.readings:
        if one.point not in newest or one.at >= newest[one.point].at:
            newest[one.point] = one
    return list(newest.values())


def _reading_document(reading: Reading, at: datetime, multiplier: float) -> dict[str, Any]:
    """What the device says, and what the multiplier makes of it."""
    own = {} if reading.at == at else {"at": text_of(reading.at)}
    value = reading.value
    return {
        "point": reading.point,
        "value": value,
        "multiplier": multiplier,
        "multiplied": value * multiplier,
        **own,
    }


def _show_poll(meter: Meter, outcome: Poll) -> None:
    newest, points = _newest(outcome), {p.id: p for p in meter.points}
    rows = [[r.point, *_figures(r.value, points[r.point])] for r in newest]
    if outcome.dated:
        rows = [[*row, text_of(r.at)] for row, r in zip(rows, newest, strict=True)]
    if rows:
        heads = ["point", ">meter says", ">multiplier", ">value", "unit", "measured at"]
        show_table(heads[: len(rows[0])], rows)
    if len(outcome.dated) > len(rows):
        show(f"the newest of {len(outcome.dated)} readings that were read")
    for failure in outcome.failures:
        say(str(failure))


def _figures(value: float, point: Point) -> list[str]:
    """What the device says, the multiplier, and both multiplied, in the unit of the house."""
    multiplied = f"{value * point.multiplier:,.3f}"
    return [f"{value:,.3f}", f"{point.multiplier:g}", multiplied, point.quantity.house_unit]
