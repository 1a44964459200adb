"""Settings of the MQTT collector."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from app.errors import ConfigError
from collectors.config import CollectorConfig
from collectors.mqtt.broker import Context, Session
from collectors.mqtt.payload import is_filter
from collectors.mqtt.sparkplug import PREFIX
from collectors.source import SourceChannel, refuse_doubles
from collectors.times import Zone


class MqttChannel(SourceChannel):
    """One value: a place in the messages of a topic, or a metric of Sparkplug B."""

    topic: str = ""
    """Topic; ``+`` and ``#`` stand for levels, and then `where` tells the messages apart. E.g.
    ``dc/row7/pm1/power``."""
    path: str = ""
    """Where the value stands in a JSON payload; empty: the payload is a number. E.g.
    ``data.power[0].value``."""
    where: dict[str, str | int | float] = Field(default_factory=dict)
    """Path -> value that the payload must hold there. E.g. ``{device: PM-7}``."""
    metric: str = ""
    """Name of the Sparkplug metric. E.g. ``Power/Active``."""
    device: str = ""
    """Sparkplug group, node and device, with ``/`` between; without a device a metric of the node. E.g.
    ``dc1/gateway3/pm7``."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.topic) == bool(self.metric):
            raise ValueError("one of topic and metric is needed")
        if self.metric and self.device.count("/") not in (1, 2):
            raise ValueError("device: give group/node or group/node/device")
        if self.topic and not is_filter(self.topic):
            raise ValueError(f"topic: {self.topic!r} is none; + and # stand alone between /, # at the end")
        if ("+" in self.topic or "#" in self.topic) and not self.where:
            raise ValueError("topic: has + or #, so where: must tell the messages apart")
        return self

    @property
    def filters(self) -> tuple[str, ...]:
        """Topics that are subscribed to: of a Sparkplug node all, as its births name the aliases."""
        if self.topic:
            return (self.topic,)
        group, node, *_ = self.device.split("/")
        own = (f"{PREFIX}/{group}/{kind}/{node}" for kind in ("NBIRTH", "NDEATH", "NDATA"))
        return (*own, *(f"{PREFIX}/{group}/{kind}/{node}/+" for kind in ("DBIRTH", "DDATA", "DDEATH")))


class MqttAccess(CollectorConfig):
    """Where a broker is and how we show who we are."""

    url: Annotated[str, Field(min_length=1, max_length=500)]
    """The broker: ``mqtts://`` with TLS, ``mqtt://`` without. E.g. ``mqtts://broker.dc.example:8883``."""
    interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    """How often messages that arrived are kept and acknowledged. [s] E.g. ``2``."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Longest wait for the connection. [s] E.g. ``20``."""
    user: str = ""
    """User, with `password_file`. E.g. ``wattline``."""
    password: SecretStr | None = None
    """Password of the user; better in a file. E.g. ``user-secret``."""
    password_file: Path | None = None
    """File that holds the password. E.g. ``/run/secrets/mqtt_password``."""
    ca_file: Path | None = None
    """Certificates of the authorities that are trusted, in PEM, in place of the system's. E.g.
    ``/etc/wattline/ca.pem``."""
    version: Literal["5", "3.1.1"] = "5"
    """Version of MQTT."""

    @field_validator("version", mode="before", json_schema_input_type=Literal["5", "3.1.1", 5])
    @classmethod
    def _version_as_text(cls, version: object) -> object:
        return str(version) if isinstance(version, int) else version

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            ok = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.port != 0
        except ValueError:
            ok = False
        if not ok or parts.username or parts.path.strip("/") or parts.query:
            raise ValueError(
                "is no broker; give mqtts://host:8883 or mqtt://host:1883, the user in its own key"
            )
        return url

    @model_validator(mode="after")
    def _access_fits(self) -> Self:
        if bool(self.user) != bool(self.password or self.password_file):
            raise ValueError("user: and password_file belong together")
        if self.ca_file and self.parts.scheme == "mqtt":
            raise ValueError("url: is without TLS, so nothing is verified; use mqtts://")
        return self

    @property
    def parts(self) -> SplitResult:
        """The parts of the address."""
        return urlsplit(self.url)

    @property
    def hosts(self) -> dict[str, str]:
        """The broker."""
        return {"url": self.parts.hostname or ""}

    def passing_session(self) -> Session:
        """A session of this moment, of which the broker keeps nothing."""
        port = self.parts.port or (8883 if self.parts.scheme == "mqtts" else 1883)
        return Session(self.parts.hostname or "", port, self.user, "", self.version, 0)

    def context(self) -> Context | None:
        """How certificates are verified; None without TLS.

        Raises
        ------
        ConfigError
            If the file of authorities cannot be read.
        """
        if self.parts.scheme == "mqtt":
            return None
        context = Context(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.peer = self.parts.hostname or ""
        try:
            if self.ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca_file)
        except OSError as error:
            problem = f"{self.ca_file} cannot be read: {error}; give certificates in PEM"
            raise ConfigError(problem, key="ca_file") from None
        return context


class MqttConfig(MqttAccess):
    """``collector: {kind: mqtt, ...}``: values that are published to a broker."""

    kind: Literal["mqtt"]
    """An MQTT broker."""
    client_id: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9_.:-]*$")] = ""
    """Name of our session at the broker. Default: `wattline-` and the site. E.g. ``wattline-test``."""
    session_expiry_s: Annotated[int, Field(ge=60, le=400 * 86_400)] = 7 * 86_400
    """How long the broker keeps messages for us while we are not connected. [s] E.g. ``86400``."""
    time: str = ""
    """Where the time of measurement stands in a JSON payload. Without it a reading has the time of its
    arrival, and messages that waited at the broker are left out. E.g. ``ts``."""
    time_format: str = ""
    """How that time is written: `epoch_s`, `epoch_ms`, `epoch_us`, a pattern of strptime; default: ISO 8601.
    E.g. ``epoch_ms``."""
    time_zone: Zone = ""
    """Zone of times that have none themselves. E.g. ``Asia/Shanghai``."""
    rebirth: bool = True
    """Whether a Sparkplug node whose aliases are not known is asked for its births (NCMD `Node
    Control/Rebirth`): all that is ever published."""
    channels: Annotated[tuple[MqttChannel, ...], Field(min_length=1)]
    """What points read."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        refuse_doubles(self.channels)
        return self

    @property
    def stamps_polls(self) -> bool:
        """Messages come when they want, and say when they were made."""
        return False

    def session(self, site: str) -> Session:
        """The lasting session of a site, where every message says when its values were measured.

        Messages without a time of their own are of no use once they waited, so nothing is kept of those.
        """
        passing = self.passing_session()
        if not all(channel.metric or self.time for channel in self.channels):
            return passing
        name = self.client_id or f"wattline-{site or 'meters'}"
        return passing._replace(client_id=name, expiry_s=self.session_expiry_s)
