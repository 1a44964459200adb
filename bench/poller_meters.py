"""The devices of the poller bench, all real peers, in a process of their own.

Prints one line of JSON, a list with an object for each device: ``kind`` for people, ``is`` (``well``: always;
``sick``: at times; ``neighbour``: behind the gateway of a sick one), ``collector`` as a site file has it, and
the ``channels`` to read. Then every line read says whether the sick ones are ``sick`` or ``well``. Ends with
its input.

Every tenth line or agent is sick, in turn dead (takes what it is sent and says nothing), slow (answers after
`SLOW_S`) and noisy (answers with bytes that are no frame). One more gateway has one dead meter among well
ones.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import uvloop

from collectors.profiles.profile import Profile, SnmpProfile, load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from collectors.simulated.snmp_agent import SimulatedSnmp, SnmpUser
from tests.protocol.bacnet_device import Device as BacnetDevice
from tests.protocol.dlt645_meter import PLAIN, Bus, Meter, SerialServer

MODBUS_TCP = 150
RTU_GATEWAYS, RTU_UNITS = 30, 5
SNMP_V2C, SNMP_V3 = 90, 30
SERIAL_SERVERS, DLT645_METERS = 30, 2
BACNET = 20
MIXED_GATEWAY = 5
"""The gateway with one dead meter among well ones."""
SLOW_S = 0.3
NOISE = bytes.fromhex("deadbeef00ff68161603fe")
DEAD, SLOW, NOISY = "dead", "slow", "noisy"
ILLS = (DEAD, SLOW, NOISY)

MODBUS_PROFILE, SNMP_PROFILE = "eastron_sdm120", "apc_rpdu2"
CHANNELS = ("energy_import_kwh", "power_kw")
USER = SnmpUser("bench", "sha256", "benchauth", "benchpriv")
BACNET_CHANNEL = {"name": "power_kw", "unit": "kW", "object": "analog-input,100"}

T = TypeVar("T")
Become = Callable[[bool], None]
"""Makes a device sick, or well again."""


class _Modbus(SimulatedModbus):
    """Modbus units behind one address, which may send noise instead of every answer."""

    noisy = False

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        unit: SimulatedUnit | None,
        frame: bytes,
    ) -> bool:
        return await super()._send(reader, writer, unit, NOISE if self.noisy else frame)


class _Serial(Bus):
    """A line of DL/T 645 meters that may answer late."""

    slow_s = 0.0

    async def heard(self, data: bytes, write: Callable[[bytes], None]) -> None:
        """Bytes on the line."""
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        await super().heard(data, write)


class _Room:
    """All devices, and what makes the sick ones sick."""

    def __init__(self) -> None:
        self.devices: list[dict[str, Any]] = []
        self._sick: list[Become] = []
        self._keep: list[object] = []

    def become(self, *, sick: bool) -> None:
        """Make the sick devices sick, or well again."""
        for one in self._sick:
            one(sick)

    def add(self, kind: str, collector: dict[str, Any], channels: Sequence[str], state: str = "well") -> None:
        """A device to be polled."""
        mapping = {"host": "127.0.0.1", **collector}
        self.devices.append({"kind": kind, "is": state, "collector": mapping, "channels": channels})

    def ail(self, number: int, peer: T, become: Callable[[T, str], Become]) -> str:
        """``sick`` for every tenth line or agent, else ``well``; keeps the peer alive."""
        self._keep.append(peer)
        if number % 10:
            return "well"
        self._sick.append(become(peer, ILLS[number // 10 % len(ILLS)]))
        return "sick"

    def ail_with(self, become: Become) -> None:
        """One more that is sick at times."""
        self._sick.append(become)


async def _modbus_tcp(room: _Room) -> None:
    for n in range(MODBUS_TCP):
        server = await _Modbus({1: _unit()}).start()
        state = room.ail(n, server, _modbus_ail)
        mapping = {"kind": "modbus", "port": server.port, "profile": MODBUS_PROFILE}
        room.add("Modbus TCP", mapping, CHANNELS, state)


async def _rtu_over_tcp(room: _Room) -> None:
    for n in range(RTU_GATEWAYS):
        units = {u: _unit() for u in range(1, RTU_UNITS + 1)}
        server = await _Modbus(units, framing="rtu").start()
        state = room.ail(n, server, _modbus_ail)
        if n == MIXED_GATEWAY:
            room.ail_with(_silence(units[1]))
        for u in units:
            mapping = {"kind": "modbus", "transport": "rtu_over_tcp", "port": server.port, "device_id": u}
            told = state if n != MIXED_GATEWAY else "sick" if u == 1 else "neighbour"
            room.add("Modbus RTU over TCP", {**mapping, "profile": MODBUS_PROFILE}, CHANNELS, told)


def _unit() -> SimulatedUnit:
    return SimulatedUnit(_profile(MODBUS_PROFILE), lambda channel, at: 50.0, keep_requests=1)


_profiles: dict[str, Profile] = {}


def _profile(name: str) -> Profile:
    if name not in _profiles:
        _profiles[name] = load_profile(name)
    return _profiles[name]


def _silence(unit: SimulatedUnit) -> Become:
    return lambda sick: setattr(unit.faults, "silent", sick)


def _modbus_ail(server: _Modbus, ill: str) -> Become:
    def become(sick: bool) -> None:
        server.noisy = sick and ill == NOISY
        for unit in server.units.values():
            unit.faults.half_open = sick and ill == DEAD
            unit.faults.slow_s = SLOW_S if sick and ill == SLOW else 0.0

    return become


async def _snmp(room: _Room) -> None:
    secrets = {"user": USER.name, "auth_password": USER.auth_password, "priv_password": USER.priv_password}
    for kind, count, access in (
        ("SNMP v2c", SNMP_V2C, {"version": "2c", "community": "public"}),
        ("SNMP v3 authPriv", SNMP_V3, {"version": "3", **secrets}),
    ):
        for n in range(count):
            agent = await _agent()
            state = room.ail(n, agent, _snmp_ail)
            mapping = {"kind": "snmp", "port": agent.port, "profile": SNMP_PROFILE, **access}
            room.add(kind, mapping, CHANNELS, state)


async def _agent() -> SimulatedSnmp:
    profile = _profile(SNMP_PROFILE)
    assert isinstance(profile, SnmpProfile)
    return await SimulatedSnmp(profile, CHANNELS, lambda channel, at: 50.0, users=[USER]).start()


def _snmp_ail(agent: SimulatedSnmp, ill: str) -> Become:
    def become(sick: bool) -> None:
        agent.faults.silent = sick and ill == DEAD
        agent.faults.slow_s = SLOW_S if sick and ill == SLOW else 0.0
        agent.faults.malformed = NOISE if sick and ill == NOISY else b""

    return become


async def _dlt645(room: _Room) -> None:
    for n in range(SERIAL_SERVERS):
        addresses = [f"{202311000000 + n * DLT645_METERS + m}" for m in range(DLT645_METERS)]
        bus = _Serial(*(Meter(address, PLAIN) for address in addresses))
        server = await SerialServer(bus).__aenter__()
        state = room.ail(n, bus, _serial_ail)
        for address in addresses:
            mapping = {"kind": "dlt645", "port": server.port, "address": address, "gap_s": 0}
            room.add("DL/T 645", mapping, CHANNELS, state)


def _serial_ail(bus: _Serial, ill: str) -> Become:
    def become(sick: bool) -> None:
        bus.silent = {meter.address for meter in bus.meters} if sick and ill == DEAD else set()
        bus.slow_s = SLOW_S if sick and ill == SLOW else 0.0
        noise = sick and ill == NOISY
        bus.spoil = (lambda _: [NOISE]) if noise else (lambda said: [said])

    return become


async def _bacnet(room: _Room) -> None:
    for n in range(BACNET):
        device = await BacnetDevice(many=1, instance=1000 + n).__aenter__()
        state = room.ail(n, device, _bacnet_ail)
        mapping = {"kind": "bacnet", "port": device.port, "channels": [BACNET_CHANNEL]}
        room.add("BACnet/IP", mapping, ["power_kw"], state)


def _bacnet_ail(device: BacnetDevice, _: str) -> Become:
    """BACnet devices are dead only."""
    serve = device.app.indication

    async def swallow(_: object) -> None:
        return

    def become(sick: bool) -> None:
        device.app.indication = swallow if sick else serve

    return become


async def main() -> None:
    """Serve until the input ends."""
    room = _Room()
    for make in (_modbus_tcp, _rtu_over_tcp, _snmp, _dlt645, _bacnet):
        await make(room)
    print(json.dumps(room.devices), flush=True)
    while said := await asyncio.to_thread(sys.stdin.readline):
        room.become(sick=said.strip() == "sick")
        print("done", flush=True)


if __name__ == "__main__":
    uvloop.run(main())
