"""Settings that every collector shares; a collector's own settings extend this model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class CollectorConfig(BaseModel):
    """The ``collector:`` mapping of a meter: ``kind`` and how often it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """Which collector reads the meter."""
    interval_s: Seconds = 60.0
    """Time between polls; they fall on multiples of it in UTC. [s] E.g. ``30``."""
    timeout_s: Seconds = 3.0
    """Longest wait for one answer. [s] E.g. ``5``."""

    @property
    def stamps_polls(self) -> bool:
        """Whether a reading's time is that of its poll, so that polls are as far apart as readings."""
        return True

    @property
    def hosts(self) -> dict[str, str]:
        """Hosts that are connected to, by the key that names each; see ``collectors.network``."""
        return {"host": str(getattr(self, "host", ""))}

    @property
    def gateway(self) -> str:
        """Polls with the same non-empty name share a line: the poller caps how many run at once."""
        return ""

    @property
    def gateway_concurrency(self) -> int:
        """How many polls may run at once on that line."""
        return 1

    @property
    def poll_limit_s(self) -> float:
        """Time after which a poll asks for nothing more and returns what it has. [s]"""
        return max(self.interval_s, self.timeout_s)

    @property
    def give_up_s(self) -> float:
        """Time after which a poll is cancelled, should the collector itself not end it. [s]"""
        return self.poll_limit_s + 8 * self.timeout_s


class NetworkConfig(CollectorConfig):
    """A collector that connects to a device on the network."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:%-]+$")]
    """Name or address of the device or of its gateway. E.g. ``10.0.4.17``."""
