"""DL/T 645 meters: over serial servers (TCP) and on serial ports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from app.domain.quantity import NUMBER
from app.errors import CollectError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors.base import Binding, Poll, joined
from collectors.config import CollectorConfig, Port
from collectors.dlt645.codec import ADDRESS, WILDCARD, NoValue, number
from collectors.dlt645.link import LINKS, Endpoint, Link, Requester
from collectors.first_polls import FirstPolls
from collectors.profiles.profile import (
    Dlt645Channel,
    Dlt645Profile,
    channel_for,
    channel_name,
    delivered,
    profile_of,
)
from collectors.registry import CollectorKind
from collectors.serial import Line

SILENCES_TO_STOP = 2
"""A meter that was silent for this many requests in a row is not asked the rest of the poll."""


class Dlt645Config(CollectorConfig):
    """``collector: {kind: dlt645, ...}``: a meter of DL/T 645 (2007 or 1997), read only."""

    kind: Literal["dlt645"]
    """A meter of DL/T 645."""
    address: str
    """The meter's twelve digits, in quotes; leading zeros may be left out. E.g. ``"202311000042"``.

    `AAAAAAAAAAAA` reads whichever meter is alone on its line."""
    host: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9._:%-]*$")] = ""
    """Name or address of the serial server; without it `serial_port` is needed. E.g. ``10.0.4.17``."""
    port: Port = 4001
    """TCP port of the line at the serial server. E.g. ``4001``."""
    serial_port: str = ""
    """Device file of a serial port of this machine, in place of `host`. E.g. ``/dev/ttyUSB0``."""
    baud_rate: Annotated[int, Field(ge=300, le=4_000_000)] = 2400
    """Speed of the serial port, as set at the meter. [Bd] E.g. ``9600``."""
    parity: Literal["none", "even", "odd"] = "even"
    """Parity of the serial port."""
    stop_bits: Literal[1, 2] = 1
    """Stop bits of the serial port."""
    profile: str | Path = "dlt645_2007"
    """Name of a shipped profile (`dlt645_2007`, `dlt645_1997`), or the path of a YAML file of your own. E.g.
    ``dlt645_1997``."""
    channels: tuple[Dlt645Channel, ...] = ()
    """Identifiers beside those of the profile, or in place of those of the same name."""
    blocks: bool = True
    """Whether neighbouring values are read together; a meter that refuses it is read one by one."""
    wake_up: Annotated[int, Field(ge=0, le=16)] = 4
    """Wake-up bytes (FEH) before a request. E.g. ``0``."""
    gap_s: Annotated[float, Field(ge=0, le=5)] = 0.02
    """Silence on the line before a request. [s] E.g. ``0.1``."""
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    """How often a lost answer is asked again. E.g. ``2``."""

    @field_validator("address", mode="before")
    @classmethod
    def _twelve_digits(cls, address: object) -> object:
        if isinstance(address, int):
            raise ValueError("write the address in quotes: YAML takes its digits for a number")
        text = str(address).upper()
        if not ADDRESS.fullmatch(text):
            raise ValueError(f"{address!r} is no address; allowed are up to twelve digits, or {WILDCARD}")
        return text.zfill(12)

    @model_validator(mode="after")
    def _one_line(self) -> Self:
        if bool(self.host) == bool(self.serial_port):
            raise ValueError("give either host or serial_port")
        return self

    @property
    def endpoint(self) -> Endpoint:
        """The line to the meter."""
        if self.serial_port:
            line = Line(self.serial_port, self.baud_rate, self.parity, self.stop_bits)
            return Endpoint(line=line, gap_s=self.gap_s)
        return Endpoint(self.host, self.port, gap_s=self.gap_s)

    @property
    def gateway(self) -> str:
        """Meters on one line take turns."""
        return str(self.endpoint)

    def device_profile(self) -> Dlt645Profile:
        """The profile, with the channels that the site file adds.

        Raises
        ------
        ConfigError
            If the profile does not exist, is broken, or is for another protocol.
        """
        profile = profile_of(Dlt645Profile, self.profile)
        own = {channel.name for channel in self.channels}
        kept = tuple(channel for channel in profile.channels if channel.name not in own)
        return profile.model_copy(update={"channels": (*self.channels, *kept)}).named(profile.name)


class Item(NamedTuple):
    """A point and the channel that it reads."""

    point: str
    channel: Dlt645Channel
    value_of: Callable[[bytes], float]
    """Delivered value of the channel's bytes; raises NoValue."""


class Step(NamedTuple):
    """One request of a poll."""

    identifier: str
    items: tuple[Item, ...]

    @property
    def is_block(self) -> bool:
        """Whether it reads a block."""
        return self.identifier == self.items[0].channel.block


def plan(items: Sequence[Item], *, blocks: bool) -> list[Step]:
    """Requests that read the items; those of a block together where more than one is wanted."""
    together: dict[str, list[Item]] = {}
    for item in items:
        if blocks and item.channel.block:
            together.setdefault(item.channel.block, []).append(item)
    shared = {item for found in together.values() if len(found) > 1 for item in found}
    steps = [Step(block, tuple(found)) for block, found in together.items() if len(found) > 1]
    return [*steps, *singles(item for item in items if item not in shared)]


def singles(items: Iterable[Item]) -> list[Step]:
    """One request for each identifier."""
    by_identifier: dict[str, list[Item]] = {}
    for item in items:
        by_identifier.setdefault(item.channel.identifier, []).append(item)
    return [Step(identifier, tuple(found)) for identifier, found in by_identifier.items()]


def decoder(channel: Dlt645Channel) -> Callable[[bytes], float]:
    """What turns the bytes of a channel into its delivered value.

    The function returned raises NoValue where they hold no number, or one that no meter can mean.
    """
    offset = delivered(0.0, channel.unit)
    factor = delivered(channel.scale, channel.unit) - offset
    quantity = channel.quantity or NUMBER
    lowest, highest, sentinels = quantity.lowest, quantity.highest, frozenset(channel.sentinels)
    is_signed, has_direction = channel.sign != "none", channel.sign == "direction"

    def value_of(data: bytes) -> float:
        raw = number(data, signed=is_signed)
        if raw in sentinels:
            raise NoValue(f"holds the sentinel {raw}, which means no value")
        value = (abs(raw) if has_direction else raw) * factor + offset
        if not lowest <= value <= highest:
            raise NoValue(f"holds {value:g}, which no meter can mean; check digits and decimals")
        return value

    return value_of


class _TooShort(Exception):
    """A block has no place for a value."""


class Dlt645Collector:
    """Reads one meter; see `collectors.base.Collector`.

    What a poll taught is kept for the next ones: blocks that the meter refuses, or in which a value is
    missing, are read one by one; what it is silent about is asked last.
    """

    __slots__ = ("_check", "_config", "_limit_s", "_link", "_requester", "_steps", "device")

    def __init__(self, config: Dlt645Config, binding: Binding) -> None:
        self.device = binding.meter
        self._config = config
        channels = config.device_profile().channels
        bound = [(point.id, channel_for(point, channels)[0]) for point in binding.points]
        items = [Item(point, channel, decoder(channel)) for point, channel in bound]
        self._steps = plan(items, blocks=config.blocks)
        self._requester = Requester(
            self.device, config.address, config.timeout_s, config.retries, config.wake_up
        )
        self._limit_s = config.poll_limit_s
        self._link: Link | None = None
        names = {point.id: channel_name(point) for point in binding.points}
        self._check = FirstPolls(binding.meter, binding.points, names)

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once; stops early when the meter stays silent or time runs out."""
        if self._link is None:
            self._link = LINKS.take(self._config.endpoint)
        reading = _Round(self._link, self._requester, self._limit_s, at)
        self._steps = await reading.read_all(self._steps)
        return self._check.checked(joined(at, reading.polls))

    async def close(self) -> None:
        """Give the line back; harmless when repeated."""
        if self._link is not None:
            LINKS.release(self._link)
            self._link = None


class _Round:
    """The requests of one poll, made one after the other."""

    __slots__ = ("_at", "_deadline", "_heard", "_limit_s", "_link", "_requester", "_silences", "polls")

    def __init__(self, link: Link, requester: Requester, limit_s: float, at: datetime) -> None:
        self.polls: list[Poll] = []
        self._link, self._requester, self._limit_s, self._at = link, requester, limit_s, at
        self._deadline = link.time() + limit_s
        self._silences = 0
        self._heard = False

    async def read_all(self, steps: Sequence[Step]) -> list[Step]:
        """Read what the steps say; returns the steps of the next poll."""
        todo, done, silent = list(steps), list[Step](), list[Step]()
        while todo:
            step = todo.pop(0)
            if why := self._end():
                self._fail(step, DeviceUnreachable(self._requester.device, why))
                done.append(step)
                continue
            try:
                self._decode(step, await self._link.read(self._requester, step.identifier))
            except (DeviceRefused, _TooShort) as error:
                self._silences = 0
                if step.is_block:
                    todo = [*singles(step.items), *todo]
                    continue
                self._fail(step, error)
            except CollectError as error:
                self._silences = self._silences + 1 if isinstance(error, DeviceUnreachable) else 0
                self._fail(step, error)
                silent.append(step)
                continue
            self._silences = 0
            self._heard = True
            done.append(step)
        return [*done, *self._later(silent)]

    def _later(self, silent: Iterable[Step]) -> list[Step]:
        """What was met with silence comes last, and one by one if the meter answers anything else."""
        if not self._heard:
            return list(silent)
        return [part for step in silent for part in (singles(step.items) if step.is_block else [step])]

    def _decode(self, step: Step, data: bytes) -> None:
        read: dict[str, float] = {}
        failed: list[CollectError] = []
        for point, channel, value_of in step.items:
            try:
                read[point] = value_of(_part(step, channel, data))
            except NoValue as error:
                problem = f"{channel.name} {error}"
                failed.append(DecodeError(self._requester.device, problem, point=point))
        self.polls.append(Poll(self._at, tuple(read), tuple(read.values()), tuple(failed)))

    def _fail(self, step: Step, error: Exception) -> None:
        """The same failure, said of every point of the step."""
        kind = type(error) if isinstance(error, CollectError) else DecodeError
        problem = error.problem if isinstance(error, CollectError) else str(error)
        failed = tuple(kind(self._requester.device, problem, point=one.point) for one in step.items)
        self.polls.append(Poll(self._at, failures=failed))

    def _end(self) -> str:
        """Why this poll is not to ask for any more; empty where it is."""
        if self._silences >= SILENCES_TO_STOP:
            return "not asked any more in this poll: it was silent"
        if self._link.time() > self._deadline:
            return f"not asked any more: the poll took {self._limit_s:g} s"
        return ""


def _part(step: Step, channel: Dlt645Channel, data: bytes) -> bytes:
    """The bytes of a channel in what a step brought.

    Raises
    ------
    _TooShort
        If a block ends before its place, or its values have another size.
    NoValue
        If a value has another length than the channel.
    """
    if step.is_block:
        start = channel.place * channel.size
        if len(data) < start + channel.size or len(data) % channel.size:
            raise _TooShort(f"{step.identifier} has no place {channel.place}")
        return data[start : start + channel.size]
    if len(data) != channel.size + channel.followed_by:
        wanted = channel.size + channel.followed_by
        raise NoValue(f"has {len(data)} bytes where {wanted} are expected; is it another edition?")
    return data[: channel.size]


KIND = CollectorKind(Dlt645Config, Dlt645Collector)
