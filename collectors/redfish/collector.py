"""Power and energy of servers, racks and PDUs over Redfish.

Values of one collection, such as the outlets of a PDU, are read with one request where the service expands
collections; all else resource by resource.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.domain.site import Point
from app.errors import CollectError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors.base import Binding, Poll
from collectors.first_polls import FirstPolls
from collectors.http import HttpAccess
from collectors.redfish.service import Resource, Service, released, shared
from collectors.registry import CollectorKind
from collectors.source import SourceChannel, channel_of, number, refuse_doubles

ABSENT = ("Absent", "Disabled", "UnavailableOffline")
"""States in which a number says nothing."""
SILENCES_TO_STOP = 2
LEAST_TO_EXPAND = 2
"""So many wanted members make it worth to read a whole collection."""


class RedfishChannel(SourceChannel):
    """One value: a property of a resource."""

    path: Annotated[str, Field(pattern=r"^/redfish/v1/[^?#\s]+$", max_length=500)]
    """The resource. E.g. ``/redfish/v1/PowerEquipment/RackPDUs/1/Outlets/A1``."""
    value: Annotated[str, Field(min_length=1, max_length=200)]
    """The property, with ``/`` between levels and positions counted from 0. E.g. ``EnergykWh/Reading``."""

    @field_validator("path")
    @classmethod
    def _path_is_plain(cls, path: str) -> str:
        if ".." in path:
            raise ValueError("has .. in it; give the resource's own path")
        return path.rstrip("/")


class RedfishConfig(HttpAccess):
    """``collector: {kind: redfish, ...}``: a BMC, rack manager or PDU with Redfish."""

    kind: Literal["redfish"]
    """A Redfish service."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Longest wait for one answer; management controllers are slow. [s] E.g. ``20``."""
    auth: Literal["session", "basic"] = "session"
    """`session` logs in once and ends the session when polling stops; `basic` sends user and password with
    every request, for services without sessions."""
    channels: Annotated[tuple[RedfishChannel, ...], Field(min_length=1)]
    """What points read; `wattline probe` lists what a service has."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        refuse_doubles(self.channels)
        return self

    @property
    def gateway(self) -> str:
        """Meters behind one service take turns: management controllers answer one request at a time."""
        return f"redfish {self.url}"


class RedfishCollector:
    """Reads the points of one meter; see `collectors.base.Collector`."""

    def __init__(self, config: RedfishConfig, binding: Binding) -> None:
        config.check()
        self.device, self._config = binding.meter, config
        self._wants: dict[str, list[tuple[Point, RedfishChannel]]] = {}
        names = {}
        for point in binding.points:
            channel = channel_of(point, config.channels)
            names[point.id] = channel.name
            self._wants.setdefault(channel.path, []).append((point, channel))
        self._collections = _collections(self._wants)
        self._check = FirstPolls(binding.meter, binding.points, names)
        self._service: Service | None = None

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once; stops early when the service stays silent or time runs out."""
        if self._service is None:
            self._service = shared(self.device, self._config, by_session=self._config.auth == "session")
        reading = _Round(self.device, self._service, self._wants, self._config.poll_limit_s)
        for collection, members in self._collections.items():
            await reading.read_collection(collection, members)
        for path in self._wants:
            await reading.read(path)
        return self._check.checked(
            Poll(at, tuple(reading.values), tuple(reading.values.values()), tuple(reading.failures))
        )

    async def close(self) -> None:
        """End the session; harmless when repeated."""
        service, self._service = self._service, None
        if service is not None:
            await released(service)


def _collections(wants: Mapping[str, object]) -> dict[str, set[str]]:
    """Collections of which several members are wanted."""
    found: dict[str, set[str]] = {}
    for path in wants:
        found.setdefault(path.rpartition("/")[0], set()).add(path)
    return {parent: members for parent, members in found.items() if len(members) >= LEAST_TO_EXPAND}


class _Round:
    """The requests of one poll, made one after the other."""

    def __init__(
        self,
        device: str,
        service: Service,
        wants: Mapping[str, list[tuple[Point, RedfishChannel]]],
        limit_s: float,
    ) -> None:
        self.values: dict[str, float] = {}
        self.failures: list[CollectError] = []
        self._device, self._service, self._wants, self._limit_s = device, service, wants, limit_s
        self._ends = asyncio.get_running_loop().time() + limit_s
        self._done: set[str] = set()
        self._silences = 0

    async def read_collection(self, collection: str, wanted: set[str]) -> None:
        """Members that come with their collection; those that do not are read by themselves."""
        try:
            self._may_ask()
            async for path, resource in self._service.members(collection):
                path = path.rstrip("/")
                if resource is not None and path in wanted:
                    self._take(path, resource)
        except DeviceUnreachable:
            self._silences += 1
        except CollectError:
            pass  # no collection by that path: each is asked for

    async def read(self, path: str) -> None:
        """One resource."""
        if path in self._done:
            return
        try:
            self._may_ask()
            self._take(path, await self._service.get(path))
            self._silences = 0
        except CollectError as error:
            self._silences += isinstance(error, DeviceUnreachable)
            kind, text = type(error), error.problem
            self.failures += (kind(self._device, text, point=point.id) for point, _ in self._wants[path])

    def _may_ask(self) -> None:
        if self._silences >= SILENCES_TO_STOP:
            raise DeviceUnreachable(self._device, "not asked any more in this poll: it was silent")
        if asyncio.get_running_loop().time() > self._ends:
            text = f"not asked any more: the poll took {self._limit_s:g} s"
            raise DeviceUnreachable(self._device, text)

    def _take(self, path: str, resource: Resource) -> None:
        self._done.add(path)
        for point, channel in self._wants[path]:
            try:
                self.values[point.id] = self._value(resource, channel)
            except CollectError as error:
                self.failures.append(type(error)(self._device, error.problem, point=point.id))

    def _value(self, resource: Resource, channel: RedfishChannel) -> float:
        state = state_of(resource)
        if state in ABSENT:
            raise DecodeError(self._device, f"{channel.path} is {state}")
        raw = at_pointer(resource, channel.value)
        if raw is _NOTHING:
            has = ", ".join(key for key in resource if "@" not in key)[:300]
            raise DeviceRefused(self._device, f"{channel.path} has no {channel.value}, but {has}")
        value = number(raw)
        if value is None:
            raise DecodeError(
                self._device, f"{channel.value} of {channel.path} is {str(raw)[:60]}, no number"
            )
        return channel.delivered(value)


_NOTHING = object()


def at_pointer(document: Any, pointer: str) -> Any:
    """What stands at levels such as ``PowerControl/0/PowerConsumedWatts``; a mark where nothing does."""
    for part in pointer.split("/"):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return _NOTHING
    return document


def state_of(resource: Resource) -> str:
    """``Status.State`` of a resource; empty where it says none."""
    status = resource.get("Status")
    return str(status.get("State", "")) if isinstance(status, dict) else ""


KIND = CollectorKind(RedfishConfig, RedfishCollector)
