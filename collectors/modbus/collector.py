"""Modbus meters: TCP, RTU over TCP, RTU on a serial port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field as Setting
from pydantic import ValidationError, model_validator

from app.errors import CollectError, DeviceRefused, DeviceUnreachable
from collectors.base import Binding, Poll, joined
from collectors.config import CollectorConfig, Port
from collectors.first_polls import FirstPolls
from collectors.modbus.decode import BlockDecoder, Item, item
from collectors.modbus.link import (
    LINKS,
    Endpoint,
    Link,
    ModbusRefused,
    Requester,
    registers_in,
    request_pdu,
)
from collectors.modbus.plan import Block, plan, split
from collectors.modbus.sunspec import model_address
from collectors.modbus.tls import PORT, Tls
from collectors.profiles.profile import (
    Blocks,
    ModbusChannel,
    ModbusProfile,
    channel_for,
    channel_name,
    config_error,
    modbus_profile,
)
from collectors.registry import CollectorKind
from collectors.serial import Line

SILENCES_TO_STOP = 2
"""A device that was silent for this many requests in a row is not asked the rest of the poll."""

Order = Literal["big", "little"]


class ModbusConfig(CollectorConfig):
    """``collector: {kind: modbus, ...}``: a Modbus meter over TCP, RTU over TCP or a serial port."""

    kind: Literal["modbus"]
    """A Modbus meter."""
    transport: Literal["tcp", "rtu_over_tcp", "rtu"] = "tcp"
    """How the meter is reached.

    `tcp`: Modbus TCP, also of a gateway that translates; `rtu_over_tcp`: RTU frames through a transparent
    serial server; `rtu`: a serial port of this machine."""
    host: Annotated[str, Setting(max_length=253, pattern=r"^[A-Za-z0-9._:%-]*$")] = ""
    """Name or address of the meter or its gateway (tcp, rtu_over_tcp). E.g. ``10.0.4.17``."""
    port: Port = 502
    """TCP port; 802 with `tls`, unless said. E.g. ``502``."""
    tls: Tls | None = None
    """Modbus/TCP Security (tcp), for devices that have it; the port is 802 then, unless said."""
    serial_port: str = ""
    """Device file of the serial port (rtu). E.g. ``/dev/ttyUSB0``."""
    baud_rate: Annotated[int, Setting(ge=300, le=4_000_000)] = 9600
    """Speed of the serial line, as set at the meter (rtu). [Bd] E.g. ``19200``."""
    parity: Literal["none", "even", "odd"] = "none"
    """Parity of the serial line (rtu)."""
    stop_bits: Literal[1, 2] = 1
    """Stop bits of the serial line (rtu)."""
    device_id: Annotated[int, Setting(ge=0, le=255)] = 1
    """Unit number (slave address) of the meter on its line. E.g. ``1``."""
    profile: str | Path | None = None
    """Name of a shipped profile, or the path of a YAML file of your own; this or `channels` is needed.
    E.g. ``schneider_pm5xxx``."""
    channels: tuple[ModbusChannel, ...] = ()
    """Registers written here instead of in a profile."""
    blocks: Blocks | None = None
    """How registers may be read together; overrides the profile's."""
    word_order: Order | None = None
    """Order of the registers of one value; overrides the profile's, for meters where it is a setting."""
    byte_order: Order | None = None
    """Order of the bytes in a register; overrides the profile's."""
    retries: Annotated[int, Setting(ge=0, le=5)] = 1
    """How often a lost answer is asked again. E.g. ``2``."""
    concurrent_requests: Annotated[int, Setting(ge=1, le=16)] = 1
    """Requests the device or gateway takes at once (tcp); a gateway to RTU takes one. E.g. ``4``."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.transport == "rtu") != bool(self.serial_port):
            raise ValueError("serial_port is needed for transport rtu and allowed for no other")
        if (self.transport == "rtu") == bool(self.host):
            raise ValueError("host is needed for transports tcp and rtu_over_tcp and not allowed for rtu")
        if self.tls is not None and self.transport != "tcp":
            raise ValueError("tls is for transport tcp")
        if (self.profile is None) == (not self.channels):
            raise ValueError("give either profile or channels")
        return self

    @property
    def endpoint(self) -> Endpoint:
        """The line to the meter."""
        if self.transport == "rtu":
            line = Line(self.serial_port, self.baud_rate, self.parity, self.stop_bits)
            return Endpoint("rtu", line=line)
        port = PORT if self.tls is not None and "port" not in self.model_fields_set else self.port
        return Endpoint(self.transport, self.host, port, tls=self.tls)

    @property
    def gateway(self) -> str:
        """Meters behind one address share its line."""
        return str(self.endpoint)

    @property
    def gateway_concurrency(self) -> int:
        """Polls that may run at once on that line."""
        return self.concurrent_requests if self.transport == "tcp" else 1

    def device_profile(self) -> ModbusProfile:
        """The profile, or one made of the channels written in the site file.

        Raises
        ------
        ConfigError
            If the profile does not exist, is broken, or is for another protocol.
        """
        if self.profile is None:
            own = {"model": "own", "vendor": "own", "protocol": "modbus", "source": "site file"}
            try:
                return ModbusProfile.model_validate({**own, "channels": self.channels})
            except ValidationError as error:
                raise config_error(error) from None
        return modbus_profile(self.profile)


class _Step(NamedTuple):
    """One request of a poll, ready to be made."""

    block: Block
    decoder: BlockDecoder
    pdu: bytes


class _Round:
    """The requests of one poll, made one after the other."""

    __slots__ = (
        "_at",
        "_deadline",
        "_limit_s",
        "_link",
        "_requester",
        "_silences",
        "polls",
        "refused_everything",
    )

    def __init__(self, link: Link, requester: Requester, limit_s: float, at: datetime) -> None:
        self.polls: list[Poll] = []
        """What every request brought."""
        # True where the device answers, but has nothing at these addresses.
        self.refused_everything = True
        self._link, self._requester, self._limit_s, self._at = link, requester, limit_s, at
        self._deadline = asyncio.get_running_loop().time() + limit_s
        self._silences = 0

    async def read(self, step: _Step) -> list[Block]:
        """Read one block; returns it, or the smaller blocks to try because it was refused as a whole."""
        block, decoder, pdu = step
        try:
            self._check_limits()
            answer = await self._link.ask(self._requester, pdu)
            data = registers_in(answer, self._requester, block.count)
        except ModbusRefused as refusal:
            self._silences = 0
            if refusal.address_refused and len(block.fields) > 1:
                return split(block)
            self._fail(decoder, refusal)
        except CollectError as error:
            self.refused_everything = False
            self._silences = self._silences + 1 if isinstance(error, DeviceUnreachable) else 0
            self._fail(decoder, error)
        else:
            self.refused_everything = False
            self._silences = 0
            self.polls.append(decoder.poll(data, self._at))
        return [block]

    def _fail(self, decoder: BlockDecoder, error: CollectError) -> None:
        self.polls.append(_nothing(decoder.items, error, self._at))

    def _check_limits(self) -> None:
        """Raise where this poll is not to ask for any more."""
        if self._silences >= SILENCES_TO_STOP:
            raise DeviceUnreachable(self._requester.device, "not asked any more in this poll: it was silent")
        if self._link.time() > self._deadline:
            raise DeviceUnreachable(
                self._requester.device, f"not asked any more: the poll took {self._limit_s:g} s"
            )


class ModbusCollector:
    """Reads one Modbus unit; see `collectors.base.Collector`.

    What a refused block taught (its holes, or that values stand alone) is kept for the next polls.
    """

    __slots__ = (
        "_check",
        "_config",
        "_items",
        "_limit_s",
        "_link",
        "_profile",
        "_requester",
        "_steps",
        "_sunspec_at",
        "device",
    )

    def __init__(self, config: ModbusConfig, binding: Binding) -> None:
        if config.tls is not None:
            config.tls.check()
        self.device = binding.meter
        self._config = config
        self._profile = config.device_profile()
        self._items = [
            item(point.id, self._ordered(channel_for(point, self._profile.channels)[0]))
            for point in binding.points
        ]
        self._requester = Requester(self.device, config.device_id, config.timeout_s, config.retries)
        self._limit_s = config.poll_limit_s
        self._link: Link | None = None
        self._check: FirstPolls | None = None
        self._sunspec_at = 0
        self._steps: list[_Step] = [] if self._profile.sunspec_models else self._plan()

    def _ordered(self, channel: ModbusChannel) -> ModbusChannel:
        """The channel with the orders that the site file sets."""
        orders = {"word_order": self._config.word_order, "byte_order": self._config.byte_order}
        changes = {key: value for key, value in orders.items() if value}
        changed = channel.model_copy(update=changes)
        return changed.made_of(tuple(map(self._ordered, channel.parts))) if channel.parts else changed

    def _plan(self) -> list[_Step]:
        rules = self._config.blocks or self._profile.blocks
        return [self._step(block) for block in plan((one.field for one in self._items), rules)]

    def _step(self, block: Block) -> _Step:
        pdu = request_pdu(block.table, block.address, block.count)
        return _Step(block, BlockDecoder(self.device, block, self._items), pdu)

    def check(self, first_polls: FirstPolls | None) -> Self:
        """Let implausible readings be failures; None: let them pass."""
        self._check = first_polls
        return self

    async def poll(self, at: datetime) -> Poll:
        """Read every bound point once; stops early when the device stays silent or time runs out."""
        poll = await self._read(at)
        return poll if self._check is None else self._check.checked(poll)

    async def _read(self, at: datetime) -> Poll:
        link = self._link or self._linked()
        if len(self._steps) != 1:
            return await self._poll_in_steps(link, at)
        block, decoder, pdu = self._steps[0]
        try:
            data = registers_in(await link.ask(self._requester, pdu), self._requester, block.count)
        except CollectError as error:
            if isinstance(error, ModbusRefused) and self._learn_from(error, block):
                return await self._poll_in_steps(link, at)
            return _nothing(self._items, error, at)
        return decoder.poll(data, at)

    def _linked(self) -> Link:
        link = self._link = LINKS.take(self._config.endpoint, concurrency=self._config.concurrent_requests)
        return link

    async def _poll_in_steps(self, link: Link, at: datetime) -> Poll:
        try:
            await self._find_steps(link)
        except CollectError as error:
            return _nothing(self._items, error, at)
        reading = _Round(link, self._requester, self._limit_s, at)
        await self._read_all(reading)
        return joined(at, reading.polls)

    def _learn_from(self, refusal: ModbusRefused, block: Block) -> bool:
        """Plan anew after the only request was refused; True where its parts are worth trying now."""
        if refusal.address_refused and len(block.fields) > 1:
            self._steps = [self._step(part) for part in split(block)]
            return True
        if self._profile.sunspec_models:
            self._steps = []
        return False

    async def _find_steps(self, link: Link) -> None:
        """Find out at which address the device has its SunSpec model, where that is not known."""
        if self._steps or not self._items:
            return
        address = await model_address(link, self._requester, self._profile.sunspec_models)
        self._items = [one.moved(address - self._sunspec_at) for one in self._items]
        self._sunspec_at = address
        self._steps = self._plan()

    async def _read_all(self, reading: _Round) -> None:
        todo, done = self._steps, []
        while todo:
            parts = await reading.read(todo[0])
            if len(parts) == 1:
                done.append(todo[0])
                todo = todo[1:]
            else:
                todo = [*map(self._step, parts), *todo[1:]]
                self._steps = [*done, *todo]
        if self._profile.sunspec_models and reading.refused_everything:
            self._steps = []

    async def close(self) -> None:
        """Give the line back; harmless when repeated."""
        if self._link is not None:
            LINKS.release(self._link)
            self._link = None


def _nothing(items: Iterable[Item], error: CollectError, at: datetime) -> Poll:
    """The same failure of every point."""
    return Poll(at, failures=tuple(_said_of(one.point, error) for one in items))


def _said_of(point: str, error: CollectError) -> CollectError:
    """The same failure, said of one point."""
    kind = DeviceRefused if isinstance(error, DeviceRefused) else type(error)
    return kind(error.device, error.problem, point=point)


def _build(config: ModbusConfig, binding: Binding) -> ModbusCollector:
    collector = ModbusCollector(config, binding)
    channels = {point.id: channel_name(point) for point in binding.points}
    return collector.check(FirstPolls(binding.meter, binding.points, channels))


KIND = CollectorKind(ModbusConfig, _build)
