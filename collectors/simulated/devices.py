"""The demo's devices: every meter with a ``collector:`` section, answering on loopback.

Meters that name the same address stand behind one simulated gateway. The addresses of the site file
are only names for these groups: :meth:`SimulatedDevices.patched` puts in the ports really taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

from app.domain.site import Fleet, Meter, Site
from app.errors import NotFound
from collectors.profiles.profile import SnmpProfile, load_profile
from collectors.simulated.device import DeviceFaults, now_utc
from collectors.simulated.exports import Exporter
from collectors.simulated.history import Simulation
from collectors.simulated.meters import SimulatedMeter, channel_of
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from collectors.simulated.physics import NODE_S, Event, Upset
from collectors.simulated.snmp_agent import SimulatedSnmp, SnmpUser

Clock = Callable[[], datetime]
"""Tells the simulated devices what time it is."""

LOOPBACK = "127.0.0.1"


def accelerated(start: datetime, factor: float, clock: Clock = now_utc) -> Clock:
    """A clock that runs `factor` times as fast, beginning at `start` now.

    Whoever polls must read the same clock, or registers rise faster than any circuit allows.
    """
    begin = clock()
    return lambda: start + (clock() - begin) * factor


class Server(Protocol):
    """What serves one address."""

    port: int

    async def close(self) -> None:
        """Stop serving."""


class SimulatedDevices:
    """All devices of an fleet that are polled, on free ports of the loopback interface.

    ::

        async with SimulatedDevices(fleet, Simulation(anchor)) as devices:
            ...  # poll the meters of devices.patched(fleet)
            devices.faults("sh1-pdu-a1").silent = True
            devices.fail_cooling("sh1")

    Parameters
    ----------
    fleet : Fleet
        Meters without a collector, or read in a way that is not simulated, are left alone.
    simulation : Simulation
        What the meters measure.
    clock : callable
        Clock of the devices.
    exports : Path, optional
        Folder under which files are exported, one folder by site; absent: none are written.
    since : datetime, optional
        Readings before this instant are not exported; default: the simulation's anchor.
    """

    def __init__(
        self,
        fleet: Fleet,
        simulation: Simulation,
        clock: Clock = now_utc,
        *,
        exports: Path | None = None,
        since: datetime | None = None,
    ) -> None:
        self._fleet, self._simulation, self._clock = fleet, simulation, clock
        self._exports, self._since = exports, since or simulation.anchor
        self._exporters: list[Exporter] = []
        self._exporting: list[asyncio.Task[None]] = []
        self._meters: dict[str, SimulatedMeter] = {}
        self._units: dict[str, SimulatedUnit] = {}
        self._agents: dict[str, SimulatedSnmp] = {}
        self._servers: dict[tuple[str, int], Server] = {}

    async def start(self) -> Self:
        """Start every device; ``ports`` then says where."""
        self._place_meters()
        for (kind, port), meters in self._by_address().items():
            self._servers[kind, port] = await _STARTERS[kind](self, meters)
        self._exporters = list(self._make_exporters())
        self._exporting = [asyncio.create_task(e.run(self._clock)) for e in self._exporters]
        return self

    async def close(self) -> None:
        """Stop every device."""
        for task in self._exporting:
            task.cancel()
        await asyncio.gather(*self._exporting, return_exceptions=True)
        async with contextlib.AsyncExitStack() as stack:
            for server in self._servers.values():
                stack.push_async_callback(server.close)
        self._servers = {}

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def ports(self) -> dict[str, int]:
        """Port of every polled meter."""
        return {
            meter.id: server.port
            for address, server in self._servers.items()
            for meter in self._by_address()[address]
        }

    def patched(self, fleet: Fleet) -> Fleet:
        """The fleet with the addresses at which the devices really listen, and the folders of exports."""
        return dataclasses.replace(fleet, sites=tuple(self._patched_site(s) for s in fleet.sites))

    def _patched_site(self, site: Site) -> Site:
        ports = self.ports
        settings: dict[str, dict[str, Any]] = {
            m: {"host": LOOPBACK, "port": port} for m, port in ports.items()
        }
        if self._exports is not None:
            folder = str(self._exports / site.id)
            settings |= {m.id: {"folder": folder} for m in site.meters if _kind(m) == "csv_folder"}
        return dataclasses.replace(site, meters=tuple(_patched(m, settings.get(m.id)) for m in site.meters))

    def _make_exporters(self) -> Iterator[Exporter]:
        for site in self._fleet.sites:
            if self._exports is not None and any(_kind(m) == "csv_folder" for m in site.meters):
                yield Exporter(self._exports / site.id, self._simulation, site, self._since)

    def agent(self, meter: str) -> SimulatedSnmp:
        """The agent of an SNMP meter, with its faults.

        Raises
        ------
        NotFound
            If no such meter is served.
        """
        if meter not in self._agents:
            raise NotFound(f"no SNMP meter {meter!r} is served; served are {', '.join(sorted(self._agents))}")
        return self._agents[meter]

    def faults(self, meter: str) -> DeviceFaults:
        """The faults of a meter, to be changed while it serves; what they are called depends on no protocol.

        Raises
        ------
        NotFound
            If no such meter is served.
        """
        served = self._units | self._agents
        if meter not in served:
            raise NotFound(f"no meter {meter!r} is served; served are {', '.join(sorted(served))}")
        return served[meter].faults

    def fail_cooling(self, site: str, length: timedelta = timedelta(hours=1)) -> Event:
        """Let the cooling of a site fail from the next node of the model on; what will happen."""
        seconds = self._clock().timestamp() // NODE_S * NODE_S + NODE_S
        start = datetime.fromtimestamp(seconds, self._clock().tzinfo)
        event = Event(Upset.COOLING_FAILURE, start, start + length)
        self._simulation = self._simulation.with_event(site, event)
        self._place_meters()
        for exporter in self._exporters:
            exporter.simulation = self._simulation
        return event

    def _place_meters(self) -> None:
        self._meters = {m.id: self._simulation.meter(s.id, m) for s, m in self._polled()}

    def _polled(self) -> Iterator[tuple[Site, Meter]]:
        for site in self._fleet.sites:
            for meter in site.meters:
                if _kind(meter) in _STARTERS:
                    yield site, meter

    def _by_address(self) -> dict[tuple[str, int], list[Meter]]:
        groups: dict[tuple[str, int], list[Meter]] = {}
        for _, meter in self._polled():
            config = _config(meter)
            groups.setdefault((config["kind"], int(config["port"])), []).append(meter)
        return groups

    def _values(self, meter: str) -> Callable[[str, datetime], float]:
        """Value source of a meter; asks for the meter anew, since an upset exchanges it."""
        return lambda channel, at: self._meters[meter].offered(channel, at)

    async def _start_snmp(self, meters: list[Meter]) -> Server:
        (meter,) = meters
        config = _config(meter)
        profile = load_profile(config["profile"])
        assert isinstance(profile, SnmpProfile)
        agent = SimulatedSnmp(
            profile,
            [channel_of(point) for point in meter.points],
            self._values(meter.id),
            community=str(config.get("community", "")),
            users=_users(config),
            clock=self._clock,
        )
        self._agents[meter.id] = agent
        return await agent.start()

    async def _start_modbus(self, meters: list[Meter]) -> Server:
        units: dict[int, SimulatedUnit] = {}
        for meter in meters:
            config = _config(meter)
            unit = SimulatedUnit(load_profile(config["profile"]), self._values(meter.id), clock=self._clock)
            units[int(config.get("device_id", 1))] = self._units[meter.id] = unit
        return await SimulatedModbus(units).start()


_STARTERS = {"modbus": SimulatedDevices._start_modbus, "snmp": SimulatedDevices._start_snmp}
"""Kind of collector -> what starts the devices behind one address."""


def _config(meter: Meter) -> dict[str, Any]:
    assert meter.collector is not None
    return meter.collector


def _users(config: dict[str, Any]) -> tuple[SnmpUser, ...]:
    if not config.get("user"):
        return ()
    auth, priv = config.get("auth_password", ""), config.get("priv_password", "")
    return (SnmpUser(config["user"], config.get("auth_protocol", "sha256"), auth, priv),)


def _kind(meter: Meter) -> str:
    return str(meter.collector["kind"]) if meter.collector else ""


def _patched(meter: Meter, settings: dict[str, Any] | None) -> Meter:
    if settings is None:
        return meter
    return dataclasses.replace(meter, collector={**_config(meter), **settings})
