"""What a simulated SNMP agent shows: the OIDs of a profile's channels, with values from a source."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from app.errors import ConfigError
from collectors.profiles.profile import SnmpChannel, SnmpProfile, delivered
from collectors.snmp.ber import COUNTER64, GAUGE32, INTEGER, TIMETICKS, integer, octets, oid, parse_oid

Oid = tuple[int, ...]
Values = Callable[[str, datetime], float]
"""Value of a channel in its delivered unit, at an instant; NaN where there is none."""
Encoder = Callable[[datetime], bytes]

_SYSTEM = "1.3.6.1.2.1.1"
_SI_NONE = 9


class View:
    """Everything an agent has, in the order of the OIDs."""

    def __init__(self, profile: SnmpProfile, channels: Iterable[str], values: Values) -> None:
        self._profile, self._values = profile, values
        self._shown: dict[Oid, Encoder] = {}
        self._add_system()
        names = list(dict.fromkeys(channels))
        placed = {name: self._place(name) for name in names}
        for name in sorted(names, key=lambda n: placed[n][2]):
            channel, indices, _ = placed[name]
            self._add(name, channel, indices)
        self._order = sorted(self._shown)

    def value(self, name: Oid, at: datetime) -> bytes | None:
        """Encoded value of an instance, or None where there is no such instance."""
        encoder = self._shown.get(name)
        return None if encoder is None else encoder(at)

    def following(self, name: Oid) -> Oid | None:
        """The next instance in order, or None at the end."""
        at = bisect_right(self._order, name)
        return self._order[at] if at < len(self._order) else None

    def _add_system(self) -> None:
        signs = [prefix for sign in self._profile.recognise for prefix in sign.sys_object_id]
        descr = f"{self._profile.vendor} {self._profile.model} (simulated)".encode()
        self._constant(f"{_SYSTEM}.1.0", octets(descr))
        self._constant(f"{_SYSTEM}.2.0", oid(parse_oid(signs[0] if signs else "1.3.6.1.4.1.8072")))
        self._shown[parse_oid(f"{_SYSTEM}.3.0")] = lambda at: integer(
            int(at.timestamp() * 100) % 2**32, TIMETICKS
        )
        self._constant(f"{_SYSTEM}.5.0", octets(b"simulated"))

    def _constant(self, name: str, encoded: bytes) -> None:
        self._shown[parse_oid(name)] = lambda _: encoded

    def _place(self, name: str) -> tuple[SnmpChannel, Mapping[str, int], int]:
        """The channel that holds a name's value, its indices, and how many sums lie between."""
        for channel in self._profile.channels:
            indices = channel.indices(name)
            if indices is not None and channel.oid:
                return channel, indices, 0
        for channel in self._profile.channels:
            indices = channel.indices(name)
            if indices is not None and channel.sum_of:
                inner, inner_indices, depth = self._place(_filled(channel.sum_of[0], indices))
                return inner, inner_indices, depth + 1
        raise ConfigError(f"{name!r} cannot be simulated with profile {self._profile.name}", key="channel")

    def _add(self, name: str, channel: SnmpChannel, indices: Mapping[str, int]) -> None:
        row = _row(channel.index, indices)
        instance = parse_oid(f"{channel.oid}.{row}" if row else str(channel.oid))
        if instance in self._shown:
            return  # a part is shown by itself; its sum follows from it
        self._shown[instance] = lambda at: _encoded(channel, self._values(name, at))
        columns = {column: allowed[0] for column, allowed in (channel.where | channel.valid).items()}
        columns |= {channel.digits_oid or "": 0, channel.si_oid or "": _SI_NONE}
        for column, value in columns.items():
            if column:
                self._constant(f"{column}.{row}" if row else column, integer(value))


def _filled(template: str, indices: Mapping[str, int]) -> str:
    """A part's name: with the indices of its sum, and the first of what the sum runs over."""
    return re.sub(r"\{([a-z])\}", lambda match: str(indices.get(match[1], 1)), template)


def _row(index: str | None, indices: Mapping[str, int]) -> str:
    """Index of the row that shows a channel."""
    if index is None:
        return ""
    filled = re.sub(r"\{([a-z])(\+1|\*)?\}", lambda m: str(indices[m[1]] - (m[2] == "+1")), index)
    return filled.replace("*", "1")


def _encoded(channel: SnmpChannel, value: float) -> bytes:
    """A value as the device would send it: a whole number of its steps, or its sign of "no value"."""
    if not math.isfinite(value):
        return integer(int(channel.sentinels[0])) if channel.sentinels else octets(b"n/a")
    offset = delivered(0.0, channel.unit)
    raw = round((value - offset) / (delivered(channel.scale, channel.unit) - offset))
    if channel.modulus is not None:
        raw %= int(channel.modulus)
    if -(2**31) <= raw < 2**31:
        return integer(raw, INTEGER)
    return integer(raw, GAUGE32 if 0 <= raw < 2**32 else COUNTER64)


def channels_shown(profile: SnmpProfile, most: int = 8) -> Sequence[str]:
    """Names of all a profile's channels that can be shown, tables with `most` rows: a full device."""
    names: list[str] = []
    for channel in profile.channels:
        if not channel.oid:
            continue
        variables = re.findall(r"\{([a-z])\}", channel.name)
        rows = [{"u": 1, "i": 1} | dict.fromkeys(set(variables) - {"u", "i"}, n) for n in range(1, most + 1)]
        names += [channel.name_for(row) for row in (rows if "n" in variables else rows[:1])]
    return list(dict.fromkeys(names))
