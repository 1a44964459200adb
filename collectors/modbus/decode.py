"""From the registers of one answer to values: compiled once per request, run at every poll."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import ge, le, mul

from app.domain.quantity import NUMBER, Quantity
from app.errors import CollectError, DecodeError
from collectors.base import Poll, joined
from collectors.modbus.codec import NoValue, decoder, factor, linear, scale_factor
from collectors.modbus.plan import Block, Field
from collectors.profiles.profile import ModbusChannel

_CODES = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "acc32": "I",
    "int64": "q",
    "uint64": "Q",
    "acc64": "Q",
    "float32": "f",
    "float64": "d",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One point: the registers it needs, and how they become its value."""

    point: str
    field: Field
    """The value's registers; where a scale factor belongs to it, everything from one to the other."""
    channel: ModbusChannel
    value_of: Callable[[bytes], float]
    """Delivered value from the field's registers; raises NoValue."""

    def moved(self, offset: int) -> Item:
        """The same item with its address shifted."""
        field = Field(self.field.table, self.field.address + offset, self.field.length)
        return Item(self.point, field, self.channel, self.value_of)


def item(point: str, channel: ModbusChannel) -> Item:
    """The item of a point that reads `channel`."""
    if channel.parts:
        return _summed(point, channel)
    start, end = channel.span
    field = Field(channel.table, start, end - start)
    plain = channel.scale_from is None and channel.factor_from is None
    decode = decoder(channel) if plain else _scaled(channel, start)
    return Item(point, field, channel, _bounded(channel, decode))


def _scaled(channel: ModbusChannel, start: int) -> Callable[[bytes], float]:
    decode = decoder(channel)
    value_at, size = 2 * (channel.address - start), 2 * channel.length
    if channel.factor_from is not None:
        at, scale_size, read_scale = 2 * (channel.factor_from - start), 2 * channel.factor_words, factor
    else:
        at, scale_size, read_scale = 2 * ((channel.scale_from or 0) - start), 2, scale_factor
        if channel.scale_byte != "both":
            at, scale_size = at + (channel.scale_byte == "low"), 1
    return lambda data: decode(data[value_at : value_at + size]) * read_scale(data[at : at + scale_size])


def _summed(point: str, channel: ModbusChannel) -> Item:
    """All parts in one field: a fraction that is read later may belong to the next whole."""
    parts = [item(point, part) for part in channel.parts]
    start = min(part.field.address for part in parts)
    field = Field(parts[0].field.table, start, max(part.field.end for part in parts) - start)
    places = [(part, 2 * (part.field.address - start), 2 * (part.field.end - start)) for part in parts]

    def decode(data: bytes) -> float:
        return math.fsum(part.value_of(data[first:last]) for part, first, last in places) * channel.scale

    return Item(point, field, channel, _bounded(channel, decode))


def _bounded(channel: ModbusChannel, decode: Callable[[bytes], float]) -> Callable[[bytes], float]:
    quantity = quantity_of(channel)

    def value_of(data: bytes) -> float:
        value = decode(data)
        if not quantity.lowest <= value <= quantity.highest:
            raise NoValue(f"holds {value:g}, which no meter can mean; check type, word order and scale")
        return value

    return value_of


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the plain numbers of a block are read, all at once.

    Meters of one model share it: at thousands of polls a second it is memory that counts, and a layout of
    each meter's own would never be in the processor's cache.
    """

    plain: tuple[int, ...]
    """Which of the block's values are plain, in order of address."""
    unpack: Callable[[bytes], tuple[float, ...]]
    factors: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    sentinels: frozenset[float]


class BlockDecoder:
    """Turns one request's registers into values.

    Plain big-endian numbers are unpacked, scaled and checked all at once, without a Python loop. Where the
    check finds anything (NaN, a sentinel, an impossible value), and for numbers that are not plain, every
    item is decoded by itself.
    """

    __slots__ = ("_block", "_device", "_layout", "_other", "_points", "items")

    def __init__(self, device: str, block: Block, items: Iterable[Item]) -> None:
        self._device, self._block = device, block
        here = set(block.fields)
        self.items = sorted((i for i in items if i.field in here), key=lambda i: i.field)
        self._layout = _layout(block, tuple((i.field, i.channel) for i in self.items))
        plain = self._layout.plain
        self._points = tuple(self.items[n].point for n in plain)
        self._other = [one for n, one in enumerate(self.items) if n not in plain]

    def poll(self, data: bytes, at: datetime) -> Poll:
        """What the registers say, and which points they say nothing usable of."""
        layout = self._layout
        raws = layout.unpack(data)
        values = tuple(map(mul, raws, layout.factors))
        # Comparisons with NaN are false.
        sound = all(map(le, layout.lowest, values)) and all(map(ge, layout.highest, values))
        if not sound or (layout.sentinels and not layout.sentinels.isdisjoint(raws)):
            return self._one_by_one(self.items, data, at)
        if self._other:
            others = self._one_by_one(self._other, data, at)
            return joined(at, (Poll(at, self._points, values), others))
        return Poll(at, self._points, values)

    def _one_by_one(self, items: Iterable[Item], data: bytes, at: datetime) -> Poll:
        read: dict[str, float] = {}
        failed: list[CollectError] = []
        for one in items:
            start = 2 * (one.field.address - self._block.address)
            try:
                read[one.point] = one.value_of(data[start : start + 2 * one.field.length])
            except NoValue as error:
                failed.append(DecodeError(self._device, str(error), point=one.point))
        return Poll(at, tuple(read), tuple(read.values()), tuple(failed))


@lru_cache(maxsize=1024)
def _layout(block: Block, values: tuple[tuple[Field, ModbusChannel], ...]) -> _Layout:
    """Plain numbers that can be unpacked together; one that overlaps the number before it cannot."""
    plain: list[int] = []
    end = block.address
    for n, (field, channel) in enumerate(values):
        if _code(channel) and field.address >= end:
            plain.append(n)
            end = field.end
    channels = [values[n][1] for n in plain]
    quantities = [quantity_of(channel) for channel in channels]
    return _Layout(
        plain=tuple(plain),
        unpack=struct.Struct(_format(block, [values[n] for n in plain])).unpack,
        factors=tuple(linear(channel)[0] for channel in channels),
        lowest=tuple(quantity.lowest for quantity in quantities),
        highest=tuple(quantity.highest for quantity in quantities),
        sentinels=frozenset(sentinel for channel in channels for sentinel in channel.sentinels),
    )


def quantity_of(channel: ModbusChannel) -> Quantity:
    """What bounds the values of a channel."""
    return channel.quantity or NUMBER


def _code(channel: ModbusChannel) -> str:
    """Letter of `struct` that reads the channel in one go; empty where there is none."""
    plain = channel.word_order == "big" or channel.length == 1
    plain = (
        plain and channel.byte_order == "big" and channel.scale_from is None and channel.factor_from is None
    )
    plain = plain and not channel.parts
    plain = plain and not linear(channel)[1]
    return _CODES.get(channel.type, "") if plain else ""


def _format(block: Block, values: Iterable[tuple[Field, ModbusChannel]]) -> str:
    text, end = ">", block.address
    for field, channel in values:
        text += f"{2 * (field.address - end)}x{_code(channel)}"
        end = field.end
    return f"{text}{2 * (block.address + block.count - end)}x"
