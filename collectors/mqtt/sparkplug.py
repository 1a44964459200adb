"""Sparkplug B: payloads decoded, and the aliases of each edge node.

Decoded here and not by a generated module: of the protocol buffer only a dozen scalar fields are wanted, the
library for it is ten times the size of this room, and what strangers publish has to be bounded anyway.
Field numbers are those of the Sparkplug 3.0 specification (Eclipse Foundation).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

PREFIX = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
MOST_METRICS = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
"""Data type -> bits, of types whose numbers are negative where the highest bit is set."""
_Fields = dict[int, int | bytes]


class Broken(ValueError):
    """A payload that is no Sparkplug."""


class Metric(NamedTuple):
    """One metric of a payload."""

    name: str
    """Empty where only the alias is given."""
    alias: int | None
    at: datetime | None
    datatype: int
    """0 where only the birth says it."""
    is_historical: bool
    is_null: bool
    value: float | bool | str | None


class Payload(NamedTuple):
    """A message."""

    at: datetime | None
    seq: int | None
    metrics: list[Metric]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift <= 63:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise Broken("cut off")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and raw value of every field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise Broken(f"wire type {wire}")
        if at + length > len(data):
            raise Broken("cut off")
        yield key >> 3, data[at : at + length]
        at += length


def decoded(data: bytes) -> Payload:
    """A payload.

    Raises
    ------
    Broken
        If it is none.
    """
    at: datetime | None = None
    seq: int | None = None
    metrics: list[Metric] = []
    for number_, raw in _fields(data):
        if number_ == 1:
            at = _instant(raw)
        elif number_ == 2 and isinstance(raw, bytes):
            metrics.append(_metric(dict(_fields(raw))))
        elif number_ == 3 and isinstance(raw, int):
            seq = raw
        if len(metrics) > MOST_METRICS:
            raise Broken(f"more than {MOST_METRICS} metrics")
    return Payload(at, seq, metrics)


def _metric(found: _Fields) -> Metric:
    return Metric(
        _text(found.get(1)),
        _count(found.get(2)),
        _instant(found.get(3)),
        _count(found.get(4)) or 0,
        bool(found.get(5)),
        bool(found.get(7)),
        _value(found),
    )


def _count(raw: object) -> int | None:
    return raw if isinstance(raw, int) else None


def _instant(count_ms: object) -> datetime | None:
    try:
        return _EPOCH + timedelta(milliseconds=count_ms) if isinstance(count_ms, int) else None
    except OverflowError:
        return None


def _text(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""


def _value(found: _Fields) -> float | bool | str | None:
    """The value as it stands; what a data type makes of it is known with the birth."""
    for key, raw in found.items():
        if key in (10, 11) and isinstance(raw, int):
            return raw
        if key == 12 and isinstance(raw, bytes) and len(raw) == 4:
            return float(struct.unpack("<f", raw)[0])
        if key == 13 and isinstance(raw, bytes) and len(raw) == 8:
            return float(struct.unpack("<d", raw)[0])
        if key == 14:
            return bool(raw)
        if key == 15:
            return _text(raw)
    return None


def number(value: float | bool | str | None, datatype: int) -> float | None:
    """A metric's value as a finite number; None where it is none."""
    if value is None or isinstance(value, bool | str):
        return None
    bits = _SIGNED_BITS.get(datatype)
    if bits and isinstance(value, int):
        value &= (1 << bits) - 1
        value -= (1 << bits) if value >> (bits - 1) else 0
    return float(value) if math.isfinite(value) else None


class Known(NamedTuple):
    """What a birth says of a metric."""

    device: str
    """Empty: the node itself."""
    name: str
    datatype: int


@dataclass
class Node:
    """An edge node as its messages describe it; no alias is known before its birth."""

    by_alias: dict[int, Known] = field(default_factory=dict)
    datatypes: dict[tuple[str, str], int] = field(default_factory=dict)
    _seq: int | None = None
    _bd_seq: float | None = None

    def take(self, kind: str, device: str, payload: Payload) -> bool:
        """Follow a message: births name aliases; a gap in the sequence ends what is known.

        Returns False for a death that an earlier session left behind.
        """
        if kind == "NDEATH":
            return self._die(payload)
        if kind == "NBIRTH":
            self._forget()
            self._bd_seq = _bd_seq(payload)
        elif self._seq is not None and payload.seq is not None and payload.seq != (self._seq + 1) % 256:
            self._forget()
        if payload.seq is not None:
            self._seq = payload.seq
        if kind in ("NBIRTH", "DBIRTH"):
            self._learn(device, payload)
        return True

    def _learn(self, device: str, payload: Payload) -> None:
        for metric in payload.metrics:
            self.datatypes[device, metric.name] = metric.datatype
            if metric.alias is not None:
                self.by_alias[metric.alias] = Known(device, metric.name, metric.datatype)

    def _forget(self) -> None:
        self.by_alias.clear()
        self.datatypes.clear()
        self._seq = None

    def _die(self, payload: Payload) -> bool:
        said = _bd_seq(payload)
        if said is not None and self._bd_seq is not None and said != self._bd_seq:
            return False
        self._forget()
        return True

    def known(self, device: str, metric: Metric) -> Known | None:
        """Device, name and type of a metric; None where its alias is not known."""
        if metric.name:
            datatype = metric.datatype or self.datatypes.get((device, metric.name), 0)
            return Known(device, metric.name, datatype)
        return self.by_alias.get(metric.alias) if metric.alias is not None else None


def _bd_seq(payload: Payload) -> float | None:
    return next((number(m.value, m.datatype) for m in payload.metrics if m.name == "bdSeq"), None)


class Place(NamedTuple):
    """What a topic names."""

    group: str
    kind: str
    node: str
    device: str

    @property
    def edge(self) -> str:
        """Group and node."""
        return f"{self.group}/{self.node}"


def place(topic: str) -> Place | None:
    """The parts of a Sparkplug topic; None where it is another's."""
    parts = topic.split("/")
    if parts[0] != PREFIX or len(parts) not in (4, 5):
        return None
    return Place(parts[1], parts[2], parts[3], parts[4] if len(parts) == 5 else "")


def rebirth(now: datetime) -> bytes:
    """The command by which a node is asked for its births."""
    at = varint(int(now.timestamp() * 1000))
    name = REBIRTH.encode()
    metric = b"\x0a" + varint(len(name)) + name + b"\x18" + at + b"\x20\x0b\x70\x01"
    return b"\x08" + at + b"\x12" + varint(len(metric)) + metric


def varint(value: int) -> bytes:
    """A number as it travels."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
