"""What a probe is asked, and what it finds: the same for every protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed; without a port each protocol's usual one."""

    host: str = ""
    protocol: str = "both"
    """Name of a kind that can be probed (`registry.KINDS`), or ``both``: those that any address may speak."""
    port: int | None = None
    unit: int = 1
    community: str = "public"
    timeout_s: float | None = None
    """Longest wait for one answer; a probe waits ten times as long in all. None: the usual one. [s]"""
    profile: str = ""
    """Profile through which the device is read, whether it fits or not; empty: those that fit."""
    input_registers: bool = False
    """Whether a Modbus device is asked for input registers only, as some refuse others."""
    snmp: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of SNMP access: ``version``, ``user``, ``auth_protocol``, ``auth_password_file`` ..."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the collector, as the site file has them."""

    def collector(self, kind: str, port: int) -> dict[str, Any]:
        """The ``collector:`` mapping that reaches the target, with `port` where none was named."""
        mapping: dict[str, Any] = {"kind": kind, "host": self.host, "port": self.port or port}
        if self.timeout_s is not None:
            mapping["timeout_s"] = self.timeout_s
        return {**mapping, **({"profile": self.profile} if self.profile else {}), **self.options}


@dataclass(frozen=True, slots=True)
class Found:
    """A device as a probe recognised it."""

    profile: str
    """Empty where the kind has none."""
    model: str
    values: dict[str, float]
    """By channel, in the unit its name ends in."""
    notes: tuple[str, ...]
    """Why it is taken for this model, and what the installer should look at."""
    yaml: str
    """A meter for the site file."""


@dataclass(frozen=True, slots=True)
class Column:
    """Numbers of one column of a table, or of single objects side by side."""

    oid: str
    rows: tuple[str, ...]
    values: tuple[float, ...]
    looks_like: str = ""
    """What it may be, with the factors under which volts, amperes and power agree with each other."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A device that answers and is not known."""

    sys_descr: str
    sys_object_id: str
    columns: tuple[Column, ...]
    """Those that look like power first."""
    nearest: tuple[str, ...]
    """Profiles of the same vendor, or whose vendor's name the device says."""
    description: str
    """A profile of five lines to begin with."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What answered, and why the rest did not."""

    found: tuple[Found, ...]
    problems: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    """What a device says of itself of which no profile gives power or energy."""
