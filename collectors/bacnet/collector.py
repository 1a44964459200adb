"""BACnet/IP devices: analog objects and accumulators, polled together, or notified by the device (COV)."""

from __future__ import annotations

import asyncio
import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.domain.quantity import NUMBER
from app.errors import CollectError, DecodeError
from collectors.bacnet.codec import (
    OBJECT_TYPES,
    PRESENT_VALUE,
    RELIABILITY,
    SCALE,
    STATUS_FLAGS,
    SUBSCRIBE_COV,
    UNITS,
    Malformed,
    ObjectId,
    Read,
    Refused,
    Result,
    Station,
    Value,
    changes_in,
    subscribe,
    unsubscribe,
)
from collectors.bacnet.session import Access, Session, refusal
from collectors.bacnet.units import NO_UNITS
from collectors.bacnet.units import UNITS as UNIT_NAMES
from collectors.base import Binding, Poll
from collectors.config import NetworkConfig, Port
from collectors.first_polls import FirstPolls
from collectors.profiles.profile import (
    Channel,
    channel_for,
    channel_name,
    delivered,
    delivered_unit,
    refuse_doubles,
)
from collectors.registry import CollectorKind

LOOK_AGAIN_AFTER = 60
"""Polls after which units and scales are read again: devices are configured while they are read."""
FLAGS = ("in alarm", "faulty", "overridden by hand", "out of service")
"""Bits of Status_Flags; all but the first mean that the value is not measured."""
_OBJECT = re.compile(rf"({'|'.join(name for name in OBJECT_TYPES if name != 'device')}),(\d{{1,7}})")
_SUBSCRIBED_FROM = 1


class BacnetChannel(Channel):
    """The present value of an object."""

    object: str
    """Type and instance. E.g. ``"analog-input,3"``."""
    device_unit: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Number of the engineering unit that the device states, where it is not the true one: `unit` holds
    then. E.g. ``95``."""

    @field_validator("object")
    @classmethod
    def _is_object(cls, text: str) -> str:
        if not _OBJECT.fullmatch(text):
            allowed = ", ".join(name for name in OBJECT_TYPES if name != "device")
            raise ValueError(f"{text!r} is no object; write TYPE,INSTANCE with one of the types {allowed}")
        return text

    @property
    def object_id(self) -> ObjectId:
        """The object."""
        kind, _, instance = self.object.partition(",")
        return ObjectId(OBJECT_TYPES[kind], int(instance))


class BacnetConfig(NetworkConfig):
    """``collector: {kind: bacnet, ...}``: a BACnet/IP device, or one behind a BACnet router."""

    kind: Literal["bacnet"]
    """A BACnet/IP device."""
    port: Port = 47_808
    """UDP port. E.g. ``47808``."""
    network: Annotated[int, Field(ge=1, le=65_534)] | None = None
    """Number of the network behind the router `host`, for devices on MS/TP and the like. E.g. ``2001``."""
    station: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2}){1,7}$")] | None = None
    """Address of the device on that network, hexadecimal, in quotes. E.g. ``"0C"``."""
    channels: Annotated[tuple[BacnetChannel, ...], Field(min_length=1)]
    """Objects that are read."""
    cov_lifetime_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Subscribe to changes for so long, again and again; objects without subscriptions are polled. 0: poll
    all. [s] E.g. ``300``."""
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    """How often a lost answer is asked again. E.g. ``2``."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.network is None) != (self.station is None):
            raise ValueError("network and station belong together; give both or neither")
        refuse_doubles(channel.name for channel in self.channels)
        return self

    def device_profile(self) -> Self:
        """What has the channels."""
        return self

    @property
    def gateway(self) -> str:
        """Devices behind one router take turns."""
        return "" if self.network is None else f"{self.host}:{self.port}"

    def access(self, device: str) -> Access:
        """Where the device is."""
        station = None
        if self.network is not None and self.station is not None:
            station = Station(self.network, bytes.fromhex(self.station))
        return Access(device, self.host, self.port, station, self.timeout_s, self.retries)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an object beside its values."""

    factor: float = 1.0
    """Scale of an accumulator."""
    unit: int | None = None
    """Number of its engineering unit."""
    properties: tuple[int, ...] = (PRESENT_VALUE,)
    """What is read at every poll."""


def known_of(object_id: ObjectId, found: Result) -> Known:
    """What a survey says of an object."""
    unit = found.get((object_id, UNITS, None))
    there = [
        name
        for name in (STATUS_FLAGS, RELIABILITY)
        if not isinstance(found.get((object_id, name, None), Refused(2, 32)), Refused)
    ]
    return Known(
        scale_of(found.get((object_id, SCALE, None))),
        unit if isinstance(unit, int) else None,
        (PRESENT_VALUE, *there),
    )


def scale_of(value: Value | Refused) -> float:
    """Factor of an accumulator: a float, or a power of ten; 1 where the object has none."""
    match value:
        case (0, bytes(data)) if len(data) == 4:
            return float(f"{struct.unpack('>f', data)[0]:.7g}")  # 0.1, not 0.100000001
        case (1, bytes(data)):
            return float(10.0 ** max(-30, min(30, int.from_bytes(data, "big", signed=True))))
    return 1.0


def survey_of(objects: Iterable[ObjectId]) -> list[Read]:
    """What is asked once of objects."""
    return [
        (one, name, None)
        for one in objects
        for name in (UNITS, STATUS_FLAGS, RELIABILITY, *([SCALE] if _has_scale(one) else []))
    ]


def _has_scale(one: ObjectId) -> bool:
    return one.type == OBJECT_TYPES["accumulator"]


class NoValue(ValueError):
    """The object has no usable value; the text says why."""


def question_of_units(channel: BacnetChannel, unit: int | None) -> str:
    """Why the device's unit and the channel's do not go together; empty where they do, or none is known."""
    if unit in (None, NO_UNITS, channel.device_unit):
        return ""
    name = UNIT_NAMES.get(unit or 0)
    if name is not None and _meaning(name) == _meaning(channel.unit):
        return ""
    said = f"{name} (unit {unit})" if name else f"unit {unit}, which Wattline does not know"
    return f"is in {said}, the channel in {channel.unit}: change unit, or confirm with device_unit: {unit}"


def _meaning(unit: str) -> tuple[str, float, float]:
    return delivered_unit(unit), delivered(0.0, unit), delivered(1.0, unit)


def value_in(channel: BacnetChannel, known: Known, read: dict[int, Value | Refused]) -> float:
    """The delivered value of a channel.

    Parameters
    ----------
    read : dict
        Properties of its object by number.

    Raises
    ------
    NoValue
        If it is refused, not measured, or no number that a meter can mean.
    """
    flags, reliability = read.get(STATUS_FLAGS), read.get(RELIABILITY)
    if isinstance(reliability, int) and reliability:
        raise NoValue(f"is not reliable (reliability {reliability})")
    if isinstance(flags, bytes) and any(flags[1:4]):
        raise NoValue(f"is {', '.join(t for t, bit in zip(FLAGS[1:], flags[1:4], strict=False) if bit)}")
    raw = read.get(PRESENT_VALUE)
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise NoValue(f"holds {raw!r}, which is no number")
    if raw in channel.sentinels:
        raise NoValue(f"holds the sentinel {raw:g}, which means no value")
    value = delivered(raw * known.factor * channel.scale, channel.unit)
    quantity = channel.quantity or NUMBER
    if not quantity.lowest <= value <= quantity.highest:
        raise NoValue(f"holds {value:g}, which no meter can mean; check unit and scale")
    return value


@dataclass(slots=True)
class _Told:
    """What the device notified of an object."""

    values: dict[int, Value | Refused]
    at_s: float
    """When, by the loop's clock. [s]"""


class BacnetCollector:
    """Reads one device; see `collectors.base.Collector`."""

    def __init__(self, config: BacnetConfig, binding: Binding) -> None:
        self.device = binding.meter
        self._points = [(p.id, channel_for(p, config.channels)[0]) for p in binding.points]
        self._objects = list(dict.fromkeys(channel.object_id for _, channel in self._points))
        self._session = Session(config.access(self.device))
        self._known: dict[ObjectId, Known] = {}
        self._polls_left = 0
        self._changes = Changes(self._session, self._objects, config.cov_lifetime_s)
        names = {point.id: channel_name(point) for point in binding.points}
        self._check = FirstPolls(binding.meter, binding.points, names)

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once."""
        try:
            await self._look()
            found = await self._read()
        except CollectError as error:
            failed = tuple(type(error)(self.device, error.problem, point=point) for point, _ in self._points)
            return Poll(at, failures=failed)
        return self._check.checked(self._poll(at, found))

    async def _look(self) -> None:
        """Read units and scales, at first and now and then."""
        if self._polls_left > 0:
            self._polls_left -= 1
            return
        found = await self._session.read(survey_of(self._objects))
        self._known = {one: known_of(one, found) for one in self._objects}
        self._polls_left = LOOK_AGAIN_AFTER

    async def _read(self) -> dict[ObjectId, dict[int, Value | Refused]]:
        told = await self._changes.fresh()
        asked = [one for one in self._objects if one not in told]
        found = await self._session.read(
            [(one, name, None) for one in asked for name in self._known[one].properties]
        )
        values: dict[ObjectId, dict[int, Value | Refused]] = dict(told)
        for (one, name, _), value in found.items():
            values.setdefault(one, {})[name] = value
        return values

    def _poll(self, at: datetime, found: dict[ObjectId, dict[int, Value | Refused]]) -> Poll:
        read: dict[str, float] = {}
        failed: list[CollectError] = []
        for point, channel in self._points:
            known, values = self._known[channel.object_id], found.get(channel.object_id, {})
            raw = values.get(PRESENT_VALUE)
            if isinstance(raw, Refused):
                failed.append(refusal(self.device, raw, point=point))
                continue
            try:
                if question := question_of_units(channel, known.unit):
                    raise NoValue(question)
                read[point] = value_in(channel, known, values)
            except NoValue as error:
                failed.append(DecodeError(self.device, f"{channel.object} {error}", point=point))
        return Poll(at, tuple(read), tuple(read.values()), tuple(failed))

    async def close(self) -> None:
        """End the subscriptions and release the socket; harmless when repeated."""
        await self._changes.end()
        self._session.close()


class Changes:
    """Subscriptions to changes: made again at half of their life; what is older than a life is not used.

    A device tells an object's values when it is subscribed to, and then whenever they change. What it
    refuses to subscribe, or does not tell, is polled.
    """

    def __init__(self, session: Session, objects: Sequence[ObjectId], lifetime_s: int) -> None:
        self._session, self._lifetime_s = session, lifetime_s
        self._objects = dict(enumerate(objects, _SUBSCRIBED_FROM)) if lifetime_s else {}
        self._told: dict[ObjectId, _Told] = {}
        self._subscribed: dict[ObjectId, float] = {}
        self._refused: set[ObjectId] = set()
        session.changed = self._changed if lifetime_s else None

    async def fresh(self) -> dict[ObjectId, dict[int, Value | Refused]]:
        """Values that the device tells by itself, and did within the life of a subscription."""
        if not self._objects:
            return {}
        now = _now_s()
        for process, one in self._objects.items():
            due = now - self._subscribed.get(one, -math.inf) > self._lifetime_s / 2
            if due and one not in self._refused:
                await self._subscribe(process, one)
        oldest = _now_s() - self._lifetime_s
        alive = {one for one, at_s in self._subscribed.items() if at_s > oldest}
        return {one: told.values for one, told in self._told.items() if told.at_s > oldest and one in alive}

    async def _subscribe(self, process: int, one: ObjectId) -> None:
        if await self._session.command(SUBSCRIBE_COV, subscribe(process, one, self._lifetime_s)):
            self._subscribed[one] = _now_s()
        else:
            self._refused.add(one)

    def _changed(self, body: bytes) -> None:
        try:
            process, one, values = changes_in(body)
        except Malformed:
            return
        if self._objects.get(process) == one and PRESENT_VALUE in values:
            self._told[one] = _Told({**values}, _now_s())

    async def end(self) -> None:
        """Tell the device that nobody listens any more; it notices by itself otherwise."""
        for process, one in self._objects.items():
            if one not in self._subscribed:
                continue
            try:
                await self._session.command(SUBSCRIBE_COV, unsubscribe(process, one))
            except CollectError:
                break
        self._subscribed.clear()
        self._told.clear()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


KIND = CollectorKind(BacnetConfig, BacnetCollector)
