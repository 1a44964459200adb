"""What a Redfish service measures, as channels for the site file."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from app.errors import CollectError
from collectors.found import Found, Outcome, Target
from collectors.http import HttpAccess, url_of
from collectors.profiles.profile import config_error, delivered, delivered_unit
from collectors.redfish.collector import ABSENT, at_pointer, state_of
from collectors.redfish.service import ROOT, Resource, Service
from collectors.source import number

LASTS_S = 24.0
"""Time after which no more is asked. [s]"""
MOST_CHANNELS = 500
EXCERPTS = {
    "PowerWatts": "W",
    "EnergykWh": "kWh",
    "CurrentAmps": "A",
    "Voltage": "V",
    "FrequencyHz": "Hz",
    "TemperatureCelsius": "C",
    "HumidityPercent": "percent",
}
"""Properties whose ``Reading`` is a sensor's, with their unit."""
_SENSORS = {"Power": "W", "EnergykWh": "kWh", "EnergyJoules": "J", "Temperature": "C", "Humidity": "percent"}
_EQUIPMENT = ("RackPDUs", "FloorPDUs", "PowerShelves", "TransferSwitches", "Switchgear", "ElectricalBuses")
_PARTS = ("Mains", "Feeders", "Branches", "Subfeeds", "Outlets")


async def answers(target: Target, port: int) -> Outcome:
    """Power, energy and climate of chassis and power equipment.

    Raises
    ------
    CollectError
        If no Redfish service answers.
    ConfigError
        If the access is not understood.
    """
    given = {"kind": "redfish", **target.options, "url": url_of(target, port, "https")}
    by_session = given.pop("auth", "session") == "session"
    try:
        access = HttpAccess.model_validate({"timeout_s": target.timeout_s or 10.0, **given})
    except ValidationError as error:
        raise config_error(error) from None
    access.check()
    service = Service(access.host, access, by_session)
    walk = _Walk(service)
    try:
        root = await service.get(ROOT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LASTS_S):
                await walk.power_equipment(root)
                await walk.chassis(root)
                walk.is_whole = True
    finally:
        await service.close()
    return walk.outcome(root, given if by_session else {**given, "auth": "basic"})


class _Walk:
    """Goes through a service and keeps what it measures."""

    def __init__(self, service: Service) -> None:
        self.is_whole = False
        self._service = service
        self._channels: list[dict[str, Any]] = []
        self._values: dict[str, float] = {}
        self._notes: list[str] = []

    async def power_equipment(self, root: Resource) -> None:
        place = _link(root, "PowerEquipment")
        equipment = await self._get(place) if place else None
        for kind in _EQUIPMENT if equipment else ():
            async for path, unit in self._members(_link(equipment or {}, kind)):
                self._notes.append(f"{path}: {_model(unit)}")
                if metrics := await self._get(_link(unit, "Metrics")):
                    self._keep(_link(unit, "Metrics"), metrics)
                for part in _PARTS:
                    async for place, resource in self._members(_link(unit, part)):
                        self._keep(place, resource)

    async def chassis(self, root: Resource) -> None:
        async for path, chassis in self._members(_link(root, "Chassis")):
            self._notes.append(f"{path}: {_model(chassis)}")
            metrics = await self._get(_link(chassis, "EnvironmentMetrics"))
            if metrics:
                self._keep(_link(chassis, "EnvironmentMetrics"), metrics)
            power = await self._get(_link(chassis, "Power"))
            if power:
                self._keep(_link(chassis, "Power"), power)
            async for place, sensor in self._members(_link(chassis, "Sensors")):
                self._keep(place, sensor)

    async def _get(self, path: str) -> Resource | None:
        if not path:
            return None
        try:
            return await self._service.get(path)
        except CollectError as error:
            self._notes.append(f"{path}: {error.problem}")
            return None

    async def _members(self, path: str) -> Any:
        if not path:
            return
        try:
            async for place, resource in self._service.members(path):
                whole = resource if resource is not None else await self._get(place)
                if whole is not None:
                    yield place, whole
        except CollectError as error:
            self._notes.append(f"{path}: {error.problem}")

    def _keep(self, path: str, resource: Resource) -> None:
        if state_of(resource) in ABSENT:
            return
        for pointer, unit in _properties(resource):
            value = number(at_pointer(resource, pointer))
            if value is not None and len(self._channels) < MOST_CHANNELS:
                name = _name(path, pointer, delivered_unit(unit))
                self._values[name] = delivered(value, unit)
                self._channels.append({"name": name, "path": path, "value": pointer, "unit": unit})

    def outcome(self, root: Resource, given: dict[str, Any]) -> Outcome:
        """What was found."""
        if not self._values:
            why = "; ".join(self._notes) or "nothing is measured"
            return Outcome((), (f"Redfish: it answers, but {why}",))
        product = root.get("Product") or root.get("Name") or "service"
        notes = list(dict.fromkeys(self._notes))
        if not self.is_whole:
            notes.append(f"stopped after {LASTS_S:g} s: the service has more")
        meter = {"id": "redfish", "collector": {**given, "channels": self._channels}, "points": []}
        text = yaml.safe_dump(
            [meter], allow_unicode=True, sort_keys=False, default_flow_style=None, width=110
        )
        return Outcome((Found("", f"Redfish {product}", self._values, tuple(notes), text),))


def _properties(resource: Resource) -> Iterator[tuple[str, str]]:
    """Where a resource has numbers, and their unit."""
    for name, unit in EXCERPTS.items():
        if isinstance(resource.get(name), dict):
            yield f"{name}/Reading", unit
    controls = resource.get("PowerControl")
    for index in range(len(controls) if isinstance(controls, list) else 0):
        yield f"PowerControl/{index}/PowerConsumedWatts", "W"
    if sensed := _SENSORS.get(str(resource.get("ReadingType"))):
        yield "Reading", sensed


def _name(path: str, pointer: str, unit: str) -> str:
    place = path.removeprefix("/redfish/v1/").removeprefix("PowerEquipment/")
    what = re.sub(r"(Watts|kWh|Amps|Hz|Celsius|Percent)?(/Reading)?$", "", pointer)
    return re.sub(r"[^0-9a-z]+", "_", f"{place}/{what}/{unit}".lower().replace("/reading", "")).strip("_")


def _link(resource: Resource, name: str) -> str:
    found = resource.get(name)
    path = found.get("@odata.id", "") if isinstance(found, dict) else ""
    return path.rstrip("/") if isinstance(path, str) and path.startswith("/redfish/v1/") else ""


def _model(resource: Resource) -> str:
    said = [resource.get(key) for key in ("Manufacturer", "Model", "SerialNumber")]
    return " ".join(str(one) for one in said if one) or str(resource.get("Name", "unnamed"))
