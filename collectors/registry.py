"""Every kind of collector, in one table: what ``collector: {kind: ...}`` may say.

To add one, write a module that defines ``KIND = CollectorKind(Config, build)`` and name it here; it
must pass the checklist in ``collectors/README.md``. A module is imported when its kind is first
used, so a platform without one protocol's library can still read the others.
"""

from __future__ import annotations

import importlib
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
from collectors.profiles.profile import ModbusProfile, SnmpProfile, config_error, defaults_for

KINDS: dict[str, str] = {
    "csv_folder": "collectors.csv.folder",
    "modbus": "collectors.modbus.collector",
    "snmp": "collectors.snmp.collector",
}
"""Kind -> module."""


@runtime_checkable
class HasProfile(Protocol):
    """Settings of a collector that reads a device through a profile."""

    def device_profile(self) -> ModbusProfile | SnmpProfile:
        """The profile."""


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
    return cast("CollectorKind[CollectorConfig]", importlib.import_module(KINDS[name]).KIND)


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
    if why := network.refusal(getattr(config, "host", "")):
        raise ConfigError(why, key="host")
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
