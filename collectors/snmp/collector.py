"""Meters, PDUs and UPS read over SNMP.

The first poll surveys the device: which rows of the profile's tables it has. Later polls are plain
GETs of exactly the OIDs that the bound points need, many in a PDU. When an instance disappears, or
a point's channel was not found, the device is surveyed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from app.errors import CollectError, DecodeError, DeviceRefused
from collectors.base import Binding, Poll
from collectors.first_polls import FirstPolls
from collectors.profiles.profile import SnmpProfile, channel_for, channel_name, snmp_profile
from collectors.registry import CollectorKind
from collectors.snmp.session import Agent, SnmpAccess, Value
from collectors.snmp.table import InstanceMissing, NoValue, Source, survey

_SURVEY_AGAIN_AFTER = 20
"""Polls after which a device that lacks a bound channel is looked through again."""


class SnmpConfig(SnmpAccess):
    """``collector: {kind: snmp, ...}``: a meter, PDU or UPS read over SNMP."""

    kind: Literal["snmp"]
    """A device with an SNMP agent."""
    profile: str = Field(min_length=1)
    """Name of a shipped profile, or path of a YAML file of your own. E.g. ``eaton_epdu_g3``."""

    def device_profile(self) -> SnmpProfile:
        """The profile.

        Raises
        ------
        ConfigError
            If it does not exist, is broken, or is for another protocol.
        """
        return snmp_profile(self.profile)


class SnmpCollector:
    """TableReader the bound points of one agent."""

    def __init__(self, config: SnmpConfig, binding: Binding) -> None:
        self.device = binding.meter
        self._profile = config.device_profile()
        self._points = {point: channel_name(point) for point in binding.points}
        for point in self._points:
            channel_for(point, self._profile.channels)
        self._names = frozenset(self._points.values())
        self._agent = Agent(config, binding.meter)
        self._sources: dict[str, Source] = {}
        self._oids: list[str] = []
        self._polls_since_survey = 0
        self._check = FirstPolls(binding.meter, binding.points, {p.id: n for p, n in self._points.items()})

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once; see the contract in ``base.py``."""
        values: dict[str, Value] = {}
        try:
            await self._read(values)
        except CollectError as failure:
            partial = self._poll(values, at) if values else Poll(at)
            return partial._replace(failures=(failure,))
        poll = self._poll(values, at)
        if self._missing(values):
            self._sources, self._oids = {}, []
        return poll

    async def close(self) -> None:
        """Release the socket."""
        self._agent.close()

    async def _read(self, values: dict[str, Value]) -> None:
        """Fill `values` with what the bound points need; what was read before a failure stays."""
        if self._survey_is_due():
            seen = await survey(self._agent, self._profile, self._names)
            self._sources, self._polls_since_survey = seen.sources, 0
            self._oids = list(dict.fromkeys(oid for s in seen.sources.values() for oid in s.oids()))
            values.update(seen.values)
        self._polls_since_survey += 1
        await self._agent.get_into(values, self._missing(values))

    def _survey_is_due(self) -> bool:
        if not self._sources:
            return True
        return self._polls_since_survey >= _SURVEY_AGAIN_AFTER and self._sources.keys() != self._names

    def _missing(self, values: Mapping[str, Value]) -> list[str]:
        return [oid for oid in self._oids if oid not in values] if values else self._oids

    def _poll(self, values: Mapping[str, Value], at: datetime) -> Poll:
        read: dict[str, float] = {}
        failures: list[CollectError] = []
        for point, name in self._points.items():
            source = self._sources.get(name)
            if source is None:
                text = f"the device has no {name}; `wattline probe` lists what it has"
                failures.append(DeviceRefused(self.device, text, point=point.id))
                continue
            try:
                read[point.id] = source.value(values)
            except NoValue as error:
                failures.append(DecodeError(self.device, f"{name}: {error}", point=point.id))
            except InstanceMissing as error:
                failures.append(DeviceRefused(self.device, f"{name}: {error}", point=point.id))
        return self._check.checked(Poll(at, tuple(read), tuple(read.values()), tuple(failures)))


KIND = CollectorKind(SnmpConfig, SnmpCollector)
