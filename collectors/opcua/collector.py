"""OPC UA servers: variables read many at a time, or notified by the server (subscriptions)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from app.domain.quantity import NUMBER
from app.domain.reading import Reading
from app.errors import CollectError, ConfigError, DecodeError, DeviceRefused
from collectors.base import Binding, Poll
from collectors.config import NetworkConfig, Port
from collectors.first_polls import FirstPolls
from collectors.opcua.session import Access, Given, Session
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
"""Polls after which engineering units are read again."""
MISSING = ("BadNodeIdUnknown", "BadNodeIdInvalid", "BadAttributeIdInvalid")
_NODE = r"^(ns=\d{1,5};)?([isgb])=.{1,500}$"


class OpcUaChannel(Channel):
    """The value of a variable."""

    node: Annotated[str, Field(pattern=_NODE)]
    """NodeId. E.g. ``"ns=2;s=Main.Power"``."""
    device_unit: Annotated[str, Field(max_length=100)] = ""
    """Text of the engineering unit that the server states, where it is not the true one: `unit` holds then.
    E.g. ``"kilo"``."""


class OpcUaConfig(NetworkConfig):
    """``collector: {kind: opcua, ...}``: an OPC UA server (opc.tcp), read only."""

    kind: Literal["opcua"]
    """An OPC UA server."""
    port: Port = 4840
    """TCP port. E.g. ``4840``."""
    path: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9._~/-]*$")] = ""
    """Path of the endpoint's address. E.g. ``UA/Server``."""
    security_policy: Literal["none", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = "none"
    """How the connection is secured; all but `none` need `certificate_file`, `key_file` and
    `server_certificate_file`."""
    security_mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    """Whether messages are signed only, or encrypted too."""
    certificate_file: Path | None = None
    """Our certificate (PEM or DER), which the server has to trust. E.g. ``/etc/wattline/opcua.pem``."""
    key_file: Path | None = None
    """Its key; readable to the service alone. E.g. ``/etc/wattline/opcua.key``."""
    server_certificate_file: Path | None = None
    """The server's certificate, the only one that is trusted. E.g. ``/etc/wattline/bms.der``."""
    application_uri: Annotated[str, Field(max_length=500)] = ""
    """Name of this application in our certificate. E.g. ``urn:dc.example:wattline``."""
    user: Annotated[str, Field(max_length=200)] = ""
    """User; empty: anonymous. E.g. ``wattline``."""
    password: SecretStr | None = None
    """Password of the user; better in a file. E.g. ``user-secret``."""
    password_file: Path | None = None
    """File that holds the password. E.g. ``/run/secrets/opcua_password``."""
    channels: Annotated[tuple[OpcUaChannel, ...], Field(min_length=1)]
    """Variables that are read."""
    subscribe: bool = False
    """Whether the server tells changes by itself; what it has not notified is read."""
    stamp: Literal["poll", "source"] = "poll"
    """Which time a reading has: that of the poll, or the source's time stamp; with `source` a value is stored
    once for each time stamp."""
    max_age_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """A value whose source time stamp is older is none; 0: no limit, as servers may leave the stamp of what
    does not change. [s] E.g. ``300``."""

    @field_validator("channels")
    @classmethod
    def _differ(cls, channels: tuple[OpcUaChannel, ...]) -> tuple[OpcUaChannel, ...]:
        refuse_doubles(channel.name for channel in channels)
        return channels

    @model_validator(mode="after")
    def _whole(self) -> Self:
        files = (self.certificate_file, self.key_file, self.server_certificate_file)
        if (self.security_policy != "none") != all(files) or (self.security_policy == "none" and any(files)):
            raise ValueError(
                "security_policy, certificate_file, key_file and server_certificate_file belong together"
            )
        if (self.password or self.password_file) and not self.user:
            raise ValueError("password and password_file need user")
        if self.user and self.security_policy == "none" and not (self.password or self.password_file):
            raise ValueError("user needs password_file")
        if self.password and self.password_file:
            raise ValueError("give either password or password_file")
        return self

    @property
    def stamps_polls(self) -> bool:
        """Whether readings have the poll's time."""
        return self.stamp == "poll"

    def device_profile(self) -> Self:
        """What has the channels."""
        return self

    def access(self, device: str) -> Access:
        """Where the server is, and who we are.

        Raises
        ------
        ConfigError
            If a file cannot be read.
        """
        return Access(
            device,
            self.host,
            self.port,
            self.path,
            self.timeout_s,
            "" if self.security_policy == "none" else self.security_policy,
            self.security_mode,
            _there("certificate_file", self.certificate_file),
            _there("key_file", self.key_file),
            _there("server_certificate_file", self.server_certificate_file),
            self.user,
            self._secret(),
            self.application_uri,
        )

    def _secret(self) -> str | None:
        if self.password_file is None:
            return None if self.password is None else self.password.get_secret_value()
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot be read: {error}", key="password_file") from None


def _there(key: str, path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise ConfigError(f"{path} is no file; name one in PEM or DER", key=key)
    return path


class NoValue(ValueError):
    """The variable has no usable value; the text says why."""


def question_of_units(channel: OpcUaChannel, said: str) -> str:
    """Why the server's unit and the channel's do not go together; empty where they do, or none is stated."""
    if not said or said == channel.device_unit:
        return ""
    try:
        if _meaning(said) == _meaning(channel.unit):
            return ""
    except KeyError:
        pass
    confirm = f"change unit, or confirm with device_unit: {said!r}"
    return f"is in {said!r}, the channel in {channel.unit}: {confirm}"


def _meaning(unit: str) -> tuple[str, float, float]:
    return delivered_unit(unit), delivered(0.0, unit), delivered(1.0, unit)


def value_in(channel: OpcUaChannel, one: Given, now: datetime, max_age_s: float) -> float:
    """The delivered value of a channel.

    Raises
    ------
    NoValue
        If its status is not good, it is too old, or no number that a meter can mean.
    """
    if one.status:
        raise NoValue(f"has status {one.status}")
    if max_age_s and (one.at is None or (now - one.at).total_seconds() > max_age_s):
        raise NoValue(f"is of {one.at}, older than {max_age_s:g} s")
    raw = one.value
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise NoValue(f"holds {str(raw)[:50]}, which is no number")
    if raw in channel.sentinels:
        raise NoValue(f"holds the sentinel {raw:g}, which means no value")
    value = delivered(raw * channel.scale, channel.unit)
    quantity = channel.quantity or NUMBER
    if not quantity.lowest <= value <= quantity.highest:
        raise NoValue(f"holds {value:g}, which no meter can mean; check unit and scale")
    return value


class OpcUaCollector:
    """Reads one server; see `collectors.base.Collector`."""

    def __init__(self, config: OpcUaConfig, binding: Binding) -> None:
        self.device = binding.meter
        self._config = config
        self._points = [(p.id, channel_for(p, config.channels)[0]) for p in binding.points]
        self._nodes = list(dict.fromkeys(channel.node for _, channel in self._points))
        self._session = Session(config.access(self.device))
        self._units: dict[str, str] = {}
        self._polls_left = 0
        self._last: dict[str, datetime] = {}
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
        poll = self._check.checked(self._poll(at, found))
        return poll if self._config.stamps_polls else self._dated(poll, found)

    async def _look(self) -> None:
        """Read the engineering units, at first and now and then."""
        if self._polls_left > 0:
            self._polls_left -= 1
            return
        self._units = await self._session.units(self._nodes)
        self._polls_left = LOOK_AGAIN_AFTER

    async def _read(self) -> dict[str, Given]:
        if not self._config.subscribe:
            return await self._session.read(self._nodes)
        told = await self._session.told(self._nodes, 1000 * min(self._config.interval_s, 60.0))
        missing = [node for node in self._nodes if node not in told]
        return {**told, **(await self._session.read(missing) if missing else {})}

    def _poll(self, at: datetime, found: Mapping[str, Given]) -> Poll:
        read: dict[str, float] = {}
        failed: list[CollectError] = []
        now = datetime.now(UTC)
        for point, channel in self._points:
            one = found[channel.node]
            try:
                if question := question_of_units(channel, self._units.get(channel.node, "")):
                    raise NoValue(question)
                read[point] = value_in(channel, one, now, self._config.max_age_s)
            except NoValue as error:
                kind = DeviceRefused if one.status in MISSING else DecodeError
                failed.append(kind(self.device, f"{channel.node} {error}", point=point))
        return Poll(at, tuple(read), tuple(read.values()), tuple(failed))

    def _dated(self, poll: Poll, found: Mapping[str, Given]) -> Poll:
        """The same with the source's time stamps: without one is a failure, one seen before is left out."""
        nodes = {point: channel.node for point, channel in self._points}
        dated: list[Reading] = []
        failed = list(poll.failures)
        for point, value in zip(poll.points, poll.values, strict=True):
            at = found[nodes[point]].at
            if at is None:
                failed.append(DecodeError(self.device, f"{nodes[point]} has no time stamp", point=point))
            elif at != self._last.get(point):
                self._last[point] = at
                dated.append(Reading(point, at, value))
        return Poll(poll.at, failures=tuple(failed), dated=tuple(dated))

    async def close(self) -> None:
        """Leave the server; harmless when repeated."""
        await self._session.close()


KIND = CollectorKind(OpcUaConfig, OpcUaCollector)
