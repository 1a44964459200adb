"""What the Modbus tests share: a meter described in YAML, and a collector for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from collectors import registry
from collectors.base import Binding, Collector, Poll
from collectors.profiles.profile import Channel, ModbusProfile, read_profile
from collectors.simulated.modbus_server import SimulatedUnit

AT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)

PLAIN = """\
model: plain
vendor: test
protocol: modbus
source: made up for the tests
channels:
  - {name: power_kw, kind: power, unit: W, address: 10, type: int32, sentinels: [0x7FFFFFFF]}
  - {name: energy_import_kwh, kind: register, unit: kWh, address: 12, type: float32}
  - {name: energy_export_kwh, kind: register, unit: kWh, address: 60, type: uint32, sentinels: [0xFFFFFFFF]}
"""
VALUES = {"power_kw": 4.5, "energy_import_kwh": 1234.5, "energy_export_kwh": 77.0}


def plain_profile(text: str = PLAIN) -> ModbusProfile:
    """The profile of the tests' meter."""
    profile = read_profile(text)
    assert isinstance(profile, ModbusProfile)
    return profile


def values(channel: str, at: datetime) -> float:
    """Steady values of the tests' meter."""
    return VALUES[channel]


def unit(
    *, profile: ModbusProfile | None = None, source: Callable[[str, datetime], float] = values
) -> SimulatedUnit:
    """A simulated meter."""
    return SimulatedUnit(profile or plain_profile(), source)


def point_of(channel: Channel, name: str = "") -> Point:
    """A point that reads a channel of any kind."""
    name = name or channel.name
    role = Role.NONE if channel.kind == "gauge" else Role.COOLING
    return Point(id=name, role=role, kind=ReadingKind(channel.kind), channel=name)


def collector(port: int, *, model: ModbusProfile | None = None, **settings: object) -> Collector:
    """A collector for a simulated meter, through the registry as the service makes it."""
    channels = (model or plain_profile()).channels
    given: dict[str, object] = {"kind": "modbus", "timeout_s": 0.3, "retries": 0, **settings}
    if "serial_port" not in given:
        given |= {"host": "127.0.0.1", "port": port}
    if "profile" not in given:
        given["channels"] = [c.model_dump() for c in channels]
    points = tuple(point_of(channel) for channel in channels)
    return registry.build(registry.parse(given), Binding("meter-1", points))


def read(poll: Poll) -> dict[str, float]:
    """Values of a poll by point."""
    return {reading.point: reading.value for reading in poll.readings}


def failed(poll: Poll) -> dict[str, str]:
    """Names of the failures' classes, by point."""
    return {failure.point: type(failure).__name__ for failure in poll.failures}
