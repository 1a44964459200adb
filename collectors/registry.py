"""Every kind of collector, in one table: what ``collector: {kind: ...}`` may say.

To add one, write a module that defines ``KIND = CollectorKind(Config, build)`` and name it in `KINDS`; it
must pass the checklist in ``collectors/README.md``. Site file, schema, reference, probe, page and HTTP
interface have it from there. A module is imported when its kind is first used, and a library that is an
extra when its collector is built or probed: others can be read without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

from pydantic import ValidationError

from app.domain.site import Point
from app.errors import ConfigError
from collectors import network
from collectors.base import Binding, Collector
from collectors.config import CollectorConfig
from collectors.profiles.profile import HasChannels, config_error, defaults_for


@dataclass(frozen=True, slots=True)
class Entry:
    """A kind in the table, before any of its modules is imported."""

    module: str
    """Module with ``KIND``."""
    title: str
    """The protocol's name for people."""
    probe: str = ""
    """Module with ``answers(target, port)``, which says what is there; empty where nothing can be asked."""
    port: int = 0
    """Port that is asked where none is named."""
    schemes: tuple[str, ...] = ()
    """How addresses begin that are of this kind, before ``://``."""
    is_tried: bool = False
    """Whether a probe without a protocol tries it."""
    options: tuple[str, ...] = ()
    """Keys of the settings that somebody from elsewhere (page, HTTP interface) may say in a probe: none that
    name a file or a port of this machine."""
    packages: tuple[str, ...] = ()
    """Modules it needs that not every installation has; `extra` installs them."""
    extra: str = ""


KINDS: dict[str, Entry] = {
    "bacnet": Entry(
        "collectors.bacnet.collector",
        "BACnet/IP",
        "collectors.bacnet.probe",
        47_808,
        options=("network", "station"),
    ),
    "csv_folder": Entry("collectors.csv.folder", "CSV"),
    "dlt645": Entry(
        "collectors.dlt645.collector",
        "DL/T 645",
        "collectors.dlt645.probe",
        4001,
        options=("address", "wake_up", "gap_s"),
    ),
    "modbus": Entry("collectors.modbus.collector", "Modbus", "collectors.modbus.probe", 502, is_tried=True),
    "mqtt": Entry(
        "collectors.mqtt.collector",
        "MQTT",
        "collectors.mqtt.probe",
        1883,
        schemes=("mqtt", "mqtts"),
        packages=("aiomqtt",),
        extra="mqtt",
    ),
    "opcua": Entry(
        "collectors.opcua.collector",
        "OPC UA",
        "collectors.opcua.probe",
        4840,
        options=("path", "user", "password"),
        packages=("asyncua",),
        extra="opcua",
    ),
    "prometheus": Entry("collectors.prometheus.collector", "Prometheus", "collectors.prometheus.probe", 9090),
    "redfish": Entry("collectors.redfish.collector", "Redfish", "collectors.redfish.probe", 443),
    "snmp": Entry("collectors.snmp.collector", "SNMP", "collectors.snmp.probe", 161, is_tried=True),
    "sql": Entry(
        "collectors.sql.collector",
        "SQL",
        "collectors.sql.probe",
        5432,
        schemes=("postgresql", "sqlite", "mssql", "mysql", "mariadb", "oracle"),
    ),
}
"""Every kind, by the name that ``collector: {kind: ...}`` says."""


@runtime_checkable
class HasProfile(Protocol):
    """Settings of a collector that reads channels: of a profile, or written in the site file."""

    def device_profile(self) -> HasChannels:
        """The profile, or what has the channels."""


_Config = TypeVar("_Config", bound=CollectorConfig)


@dataclass(frozen=True, slots=True)
class CollectorKind(Generic[_Config]):
    """What a collector's module offers."""

    config: type[_Config]
    """Model of the ``collector:`` mapping."""
    build: Callable[[_Config, Binding], Collector]
    """Makes the collector; raises ConfigError where a point cannot be read. Opens no connection."""


def kind_of(name: str) -> CollectorKind[CollectorConfig]:
    """The kind of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in KINDS:
        raise ConfigError(f"{name!r} is not known; allowed are {', '.join(sorted(KINDS))}", key="kind")
    return cast("CollectorKind[CollectorConfig]", importlib.import_module(KINDS[name].module).KIND)


def require_packages(name: str) -> None:
    """See that what a kind needs is installed.

    Raises
    ------
    ConfigError
        If not, with the command that installs it.
    """
    entry = KINDS[name]
    for package in entry.packages:
        if importlib.util.find_spec(package) is None:
            how = f"install it with pip install 'wattline[{entry.extra}]'"
            raise ConfigError(f"{name} needs the package {package}; {how}", key="kind")


def parse(mapping: Mapping[str, Any]) -> CollectorConfig:
    """A meter's ``collector:`` mapping, checked.

    Raises
    ------
    ConfigError
        With the key, what is wrong and what is allowed; the caller knows file and line.
    """
    kind = kind_of(str(mapping.get("kind", "")))
    try:
        return kind.config.model_validate(dict(mapping))
    except ValidationError as error:
        raise config_error(error) from None


def build(config: CollectorConfig, binding: Binding) -> Collector:
    """The collector of one meter. Opens no connection.

    Raises
    ------
    ConfigError
        If a point of the binding cannot be read by it (no such channel, other kind or unit), or if its
        host is outside of the networks that collectors may reach.
    """
    for key, host in config.hosts.items():
        if why := network.refusal(host):
            raise ConfigError(why, key=key)
    require_packages(config.kind)
    return kind_of(config.kind).build(config, binding)


def with_defaults(
    config: CollectorConfig, points: Sequence[Point], stated: Collection[str]
) -> tuple[Point, ...]:
    """Points with what the collector knows about them: register modulus and reading interval.

    Parameters
    ----------
    config : CollectorConfig
        The meter's collector.
    points : sequence of Point
        As the site file has them.
    stated : collection of str
        Ids of the points whose ``interval_s`` stands in the site file; it is left as it is.

    Raises
    ------
    ConfigError
        If the profile does not offer a point's channel.
    """
    profile = config.device_profile() if isinstance(config, HasProfile) else None
    known = points if profile is None else [defaults_for(point, profile) for point in points]
    if not config.stamps_polls:
        return tuple(known)
    every_s = math.ceil(config.interval_s)
    return tuple(p if p.id in stated else replace(p, interval_s=every_s) for p in known)
