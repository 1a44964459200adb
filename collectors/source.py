"""What sources share that give values under names of their own: databases, brokers, monitoring systems.

Such a source has no profile. The meter's ``collector:`` lists *channels* instead: a name that points refer
to, the unit in which the source gives the value, and where it is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from pydantic import Field, field_validator

from app.domain.quantity import UNITS, ReadingKind
from app.domain.reading import Reading
from app.domain.site import Point, Stamp
from app.errors import ConfigError
from collectors.profiles.profile import GAUGE_UNITS, Strict, channel_name, delivered, delivered_unit

INTERVAL_KINDS = (ReadingKind.INTERVAL_ENERGY, ReadingKind.INTERVAL_MEAN_POWER)
_DEFAULT = {
    ReadingKind.INTERVAL_ENERGY: "energy_import_kwh",
    ReadingKind.INTERVAL_MEAN_POWER: "power_kw",
}


class SourceChannel(Strict):
    """One value that a source gives."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Name by which points refer to it (`channel`). A register without one takes ``energy_import_kwh``, power
    takes ``power_kw``. E.g. ``rack_7_kw``."""
    unit: str
    """Unit of the source's value times `scale`. E.g. ``W``."""
    scale: float = 1.0
    """Factor on the source's value: value in `unit` = value * scale. E.g. ``0.1``."""

    @field_validator("unit")
    @classmethod
    def _unit_is_known(cls, unit: str) -> str:
        try:
            delivered_unit(unit)
        except KeyError as error:
            known = ", ".join(sorted({*UNITS, *GAUGE_UNITS}))
            text = (
                str(error.args[0])
                if "thousandth" in str(error)
                else f"unknown unit {unit!r}; known are {known}"
            )
            raise ValueError(text) from None
        return unit

    def delivered(self, raw: float) -> float:
        """The source's value in the house unit."""
        return delivered(raw * self.scale, self.unit)


Channel = TypeVar("Channel", bound=SourceChannel)


def refuse_doubles(channels: Sequence[SourceChannel]) -> None:
    """Raise ValueError if a name stands twice."""
    seen: set[str] = set()
    for channel in channels:
        if channel.name in seen:
            raise ValueError(f"channels: {channel.name!r} is described twice")
        seen.add(channel.name)


def channel_of(point: Point, channels: Sequence[Channel]) -> Channel:
    """The channel a point reads.

    Raises
    ------
    ConfigError
        If there is none of that name, or its unit is not the point's.
    """
    name = point.channel or _DEFAULT.get(point.kind) or channel_name(point)
    found = next((channel for channel in channels if channel.name == name), None)
    if found is None:
        offered = ", ".join(channel.name for channel in channels)
        raise ConfigError(f"{name!r} is not offered; allowed are {offered}", key=f"{point.id}.channel")
    wanted, given = point.quantity.house_unit, delivered_unit(found.unit)
    if given != wanted and not (wanted == "1" and found.unit.strip().lower() in GAUGE_UNITS):
        problem = (
            f"channel {name} is delivered in {given}, a point of {point.role} and {point.kind} takes {wanted}"
        )
        raise ConfigError(problem, key=f"{point.id}.channel")
    if point.unit and point.source_unit != wanted:
        raise ConfigError("leave unit out: the channel has it", key=f"{point.id}.unit")
    return found


def reading(point: Point, at: datetime, value: float) -> Reading:
    """A value as a reading: one of an interval is stamped at its end, whatever end the source names."""
    if point.kind not in INTERVAL_KINDS:
        return Reading(point.id, at, value)
    end = at + timedelta(seconds=point.interval_s) if point.stamp is Stamp.START else at
    return Reading(point.id, end, value, point.interval_s, point.interval_s)


def number(raw: object) -> float | None:
    """A source's value as a finite number; None where it is none."""
    if isinstance(raw, bool) or raw is None:
        return None
    try:
        value = float(raw)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
