"""Recognise an unknown Modbus meter by safe reads, and propose its configuration.

Only functions 3, 4 and 43 are used: nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any, Literal

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import CollectError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors.base import Binding
from collectors.found import Found, Outcome, Target
from collectors.modbus.codec import NoValue, Raw, raw_decoder
from collectors.modbus.collector import ModbusCollector, ModbusConfig
from collectors.modbus.link import LINKS, Endpoint, Link, Requester
from collectors.modbus.sunspec import models
from collectors.plausibility import contradictions, withheld
from collectors.profiles.profile import (
    WORDS_OF_TYPE,
    ModbusChannel,
    ModbusProfile,
    ModbusRecognition,
    load_profile,
    modbus_profile,
    profile_names,
)

Transport = Literal["tcp", "rtu_over_tcp"]
Table = Literal["holding", "input"]
SCALES = (1.0, 0.1, 0.01, 0.001, 10.0, 100.0, 1000.0)
LARGEST_DIFFERENCE_RATIO = 0.02
"""A value on a panel has moved a little by the time it is read."""
MOST_REGISTERS = 4


@dataclass(frozen=True, slots=True)
class Recognised:
    """A profile that fits a device, and what it reads there."""

    profile: str
    vendor: str
    model: str
    device_id: int
    why: str
    certain: bool
    """False where only a plausible value speaks for it: compare with the display."""
    values: dict[str, float]
    """By channel, in the unit its name ends in; without those that contradict each other."""
    contradictions: tuple[str, ...]
    """What cannot be so: the map may be another model's."""
    problems: dict[str, str]
    """Channels that could not be read, and why."""
    yaml: str
    """The meter, to paste into the site file."""
    profile_notes: str = ""
    """What an installer must know of the model."""


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to read registers that comes close to the value on the panel."""

    type: str
    word_order: str
    byte_order: str
    scale: float
    value: float
    difference_ratio: float


async def probe(
    host: str,
    port: int = 502,
    device_ids: Sequence[int] = (1,),
    *,
    transport: Transport = "tcp",
    timeout_s: float = 1.0,
    profile: str = "",
    table: Table = "holding",
) -> list[Recognised]:
    """Profiles that fit the device, certain ones first; empty where none does.

    Parameters
    ----------
    profile : str
        Read through this profile whether it fits or not; empty: through those that fit.
    table : str
        Registers that are read to distinguish a silent device from one without function 43.

    Raises
    ------
    DeviceUnreachable
        If nothing answers there.
    """
    found: list[Recognised] = []
    silent: list[DeviceUnreachable] = []
    with LINKS.using(Endpoint(transport, host, port)) as link:
        for device_id in device_ids:
            requester = Requester(f"{host}:{port} unit {device_id}", device_id, timeout_s)
            config = _config(host, port, device_id, transport, timeout_s)
            try:
                found += await _probe_unit(link, requester, config, profile, table)
            except DeviceUnreachable as error:
                silent.append(error)
    if silent and len(silent) == len(device_ids):
        raise silent[0]
    return sorted(found, key=lambda one: (bool(one.contradictions), not one.certain, -len(one.values)))


async def _probe_unit(
    link: Link, requester: Requester, config: dict[str, Any], profile: str, table: Table
) -> list[Recognised]:
    traits = _DeviceTraits(link, requester, table)
    if profile:
        await traits.plain_read()
        chosen = modbus_profile(profile)
        return [await _described(chosen, ModbusConfig(**config, profile=profile), "profile as chosen", True)]
    await traits.gather()
    return [
        await _described(fitting, ModbusConfig(**config, profile=fitting.name), why, certain)
        for fitting, why, certain in await traits.fitting()
    ]


def _config(host: str, port: int, device_id: int, transport: Transport, timeout_s: float) -> dict[str, Any]:
    return {
        "kind": "modbus",
        "host": host,
        "port": port,
        "device_id": device_id,
        "transport": transport,
        "timeout_s": timeout_s,
    }


class _DeviceTraits:
    """What a device tells of itself; every register is read once."""

    def __init__(self, link: Link, requester: Requester, table: Table) -> None:
        self._link, self._requester, self._table = link, requester, table
        self._texts = ""
        self._sunspec: frozenset[int] = frozenset()
        self._registers: dict[tuple[str, int, int], bytes | None] = {}

    async def gather(self) -> None:
        """Read the device id and the SunSpec map, where there are any."""
        try:
            self._texts = " ".join(await self._link.device_id(self._requester))
        except (DeviceRefused, DecodeError):
            self._texts = ""
        except CollectError:
            # Some meters do not answer unknown functions at all: only a silent plain read counts as absent.
            await self.plain_read()
        try:
            self._sunspec = frozenset(await models(self._link, self._requester))
        except CollectError:
            self._sunspec = frozenset()

    async def plain_read(self) -> None:
        """Read one register; a refusal is an answer.

        Raises
        ------
        CollectError
            If nothing answers.
        """
        try:
            await self._link.read(self._requester, self._table, 0, 1)
        except DeviceRefused:
            return

    async def fitting(self) -> list[tuple[ModbusProfile, str, bool]]:
        """Profiles with the reason they fit and whether that is certain."""
        fits: list[tuple[ModbusProfile, str, bool]] = []
        for name in profile_names("modbus"):
            profile = load_profile(name)
            assert isinstance(profile, ModbusProfile)
            for sign in profile.recognise:
                why = await self._why(sign)
                if why:
                    fits.append((profile, why, sign.between is None))
                    break
        return fits

    async def _why(self, sign: ModbusRecognition) -> str:
        """Why this sign is there; empty where it is not."""
        if sign.device_id_text is not None:
            match = re.search(sign.device_id_text, self._texts)
            return f"device identifies itself as {self._texts!r}" if match else ""
        if sign.sunspec_model is not None:
            there = sign.sunspec_model in self._sunspec
            return f"device has SunSpec model {sign.sunspec_model}" if there else ""
        return await self._register_sign(sign)

    async def _register_sign(self, sign: ModbusRecognition) -> str:
        value = await self._value(sign)
        if value is None or not await self._has_nothing(sign):
            return ""
        if value in sign.equals:
            return f"{sign.table} register {sign.address} holds {value:g}"
        if sign.between is not None and sign.between[0] <= value <= sign.between[1]:
            return f"{sign.table} register {sign.address} holds a plausible {value:g}"
        return ""

    async def _has_nothing(self, sign: ModbusRecognition) -> bool:
        """Whether the registers that must be empty are."""
        for address in sign.nothing_at:
            if await self._value(sign.model_copy(update={"address": address})):
                return False
        return True

    async def _value(self, sign: ModbusRecognition) -> Raw | None:
        if sign.address is None:
            return None
        key = (sign.table, sign.address, WORDS_OF_TYPE[sign.type])
        if key not in self._registers:
            self._registers[key] = await self._read(*key)
        data = self._registers[key]
        if data is None:
            return None
        try:
            return raw_decoder(_channel(sign.type, sign.word_order, "big"))(data)
        except NoValue:
            return None

    async def _read(self, table: str, address: int, count: int) -> bytes | None:
        try:
            return await self._link.read(self._requester, table, address, count)
        except CollectError:
            return None


async def _described(profile: ModbusProfile, config: ModbusConfig, why: str, certain: bool) -> Recognised:
    points = tuple(_point(channel) for channel in profile.channels)
    collector = ModbusCollector(config, Binding(config.host, points))
    try:
        poll = await collector.poll(datetime.now(UTC))
    finally:
        await collector.close()
    read = {reading.point: reading.value for reading in poll.readings}
    contradicting = contradictions(read)
    values = {name: value for name, value in read.items() if name not in withheld(contradicting)}
    problems = {failure.point: failure.problem for failure in poll.failures}
    yaml = meter_yaml(profile, config, values)
    return Recognised(
        profile.name,
        profile.vendor,
        profile.model,
        config.device_id,
        why,
        certain and profile.verified and not contradicting,
        values,
        tuple(one.text for one in contradicting),
        problems,
        yaml,
        profile.notes,
    )


def _point(channel: ModbusChannel) -> Point:
    role = Role.NONE if channel.kind == "gauge" else Role.OTHER
    return Point(id=channel.name, role=role, kind=ReadingKind(channel.kind), channel=channel.name)


def meter_yaml(profile: ModbusProfile, config: ModbusConfig, channels: Iterable[str]) -> str:
    """The meter as the site file has it, with a point for its total energy and power."""
    there = set(channels)
    name = re.sub(r"[^A-Za-z0-9.-]", "-", f"{config.host}-{config.device_id}").strip("-")
    lines = [
        f"- id: {name}",
        f"  name: {profile.vendor} {profile.model.split('/')[0].split(' (')[0]}",
        f'  collector: {{kind: modbus, host: "{config.host}", port: {config.port}, '
        f"device_id: {config.device_id}, transport: {config.transport}, profile: {config.profile}}}",
        "  points:  # role: facility, it_ups_output, it_pdu_output, cooling, lighting ...",
    ]
    offered = [one for one in (("energy_import_kwh", "register"), ("power_kw", "power")) if one[0] in there]
    if not offered:
        lines[-1] = "  points: []  # nothing here can be proposed; see the notes"
    for channel, kind in offered:
        short = channel.split("_")[0]
        lines.append(f"  - {{id: {name}-{short}, role: other, kind: {kind}, channel: {channel}}}")
    return "\n".join(lines) + "\n"


async def try_orders(
    host: str,
    port: int,
    device_id: int,
    address: int,
    shown: float,
    *,
    table: Table = "holding",
    transport: Transport = "tcp",
    timeout_s: float = 1.0,
) -> list[Interpretation]:
    """Ways to read the registers at `address` that give about what the panel shows, closest first.

    Parameters
    ----------
    shown : float
        The number on the meter's panel, in any unit.

    Raises
    ------
    CollectError
        If the registers cannot be read.
    """
    requester = Requester(f"{host}:{port} unit {device_id}", device_id, timeout_s)
    with LINKS.using(Endpoint(transport, host, port)) as link:
        return interpretations(await _as_many_as_possible(link, requester, table, address), shown)


async def _as_many_as_possible(link: Link, requester: Requester, table: str, address: int) -> bytes:
    for count in range(MOST_REGISTERS, 1, -1):
        try:
            return await link.read(requester, table, address, count)
        except DeviceRefused:
            continue
    return await link.read(requester, table, address, 1)


def interpretations(registers: bytes, shown: float) -> list[Interpretation]:
    """Types, orders and scales under which `registers` begin with about `shown`, closest first."""
    found: list[Interpretation] = []
    for kind, words in WORDS_OF_TYPE.items():
        if 2 * words > len(registers) or kind.startswith("acc"):
            continue
        for word_order, byte_order in product(
            ("big", "little") if words > 1 else ("big",), ("big", "little")
        ):
            raw = _raw(kind, word_order, byte_order, registers[: 2 * words])
            found += _scaled(kind, word_order, byte_order, raw, shown)
    found.sort(key=lambda one: (one.difference_ratio > 1e-4, one.scale != 1.0, one.difference_ratio))
    return found


def _raw(kind: str, word_order: str, byte_order: str, registers: bytes) -> Raw | None:
    try:
        return raw_decoder(_channel(kind, word_order, byte_order))(registers)
    except NoValue:
        return None


def _scaled(
    kind: str, word_order: str, byte_order: str, raw: Raw | None, shown: float
) -> list[Interpretation]:
    close = []
    for scale in SCALES if raw else ():
        value = float(raw or 0) * scale
        ratio = abs(value - shown) / max(abs(shown), 1e-9)
        if ratio <= LARGEST_DIFFERENCE_RATIO:
            close.append(Interpretation(kind, word_order, byte_order, scale, value, ratio))
    return close


def _channel(kind: str, word_order: str, byte_order: str) -> ModbusChannel:
    settings: dict[str, Any] = {"name": "probe", "kind": "gauge", "unit": "1", "address": 0}
    return ModbusChannel(**settings, type=kind, word_order=word_order, byte_order=byte_order)  # type: ignore[arg-type]


async def answers(target: Target, port: int) -> Outcome:
    """What the unit at a target is."""
    seen = await probe(
        target.host,
        target.port or port,
        [target.unit],
        timeout_s=target.timeout_s or 1.0,
        profile=target.profile,
        table="input" if target.input_registers else "holding",
    )
    return Outcome(tuple(map(_found, seen)))


def _found(one: Recognised) -> Found:
    doubt = () if one.certain else ("identification is uncertain: compare the values with the display",)
    problems = tuple(f"{name}: {problem}" for name, problem in one.problems.items())
    model = f"{one.vendor} {one.model} (Modbus {one.device_id})"
    said = (one.profile_notes,) if one.profile_notes else ()
    notes = (one.why, *one.contradictions, *said, *doubt, *problems)
    return Found(one.profile, model, one.values, notes, one.yaml)
