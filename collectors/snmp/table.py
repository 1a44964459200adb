"""Which instances of a profile's channels an agent has, and what their raw values mean.

:func:`survey` walks the tables a profile names and says, for every channel found, from which OIDs its
value is made. The result asks for nothing more than plain GETs afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from collectors.profiles.profile import SnmpChannel, SnmpProfile, delivered, delivered_unit
from collectors.snmp.session import Value

_NUMBER = re.compile(r"\s*([-+]?(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:[eE][-+]?\d+)?)\s*(%|%RH|[A-Za-z°]{1,4})?\s*")
_SI_NONE = 9
_HEEDED = {"w", "kw", "wh", "kwh", "va", "kva", "v", "mv", "a", "ma"}
"""Units in a text that count for more than the profile's; ``mw`` may be milli or mega, so it does not."""
LIMITS_OF_TYPES = frozenset({2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, 2**64 - 1})
"""What an agent answers that has no value: the first or last number of a type."""
ALIKE_RATIO = 0.05
"""Values of one quantity that a device lists twice may differ so far: they are read one after another."""


class NoValue(ValueError):
    """The agent answered, but said that it has no value, or none that is a number."""


class InstanceMissing(LookupError):
    """The agent no longer has the instance."""


class TableReader(Protocol):
    """What a survey needs of an agent."""

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Values of those OIDs that exist."""

    async def walk(self, oid: str) -> dict[str, Value]:
        """Every value under an OID, by what follows it."""


def text(raw: Value) -> str:
    """A text as an agent gives it, without what fills it up."""
    return raw.decode("utf-8", "replace").strip("\0") if isinstance(raw, bytes) else str(raw)


def number(raw: Value) -> float:
    """The number an agent means; texts may hold one, with a unit behind it.

    Raises
    ------
    NoValue
        If it is none, or not finite.
    """
    if type(raw) is int:
        return float(raw)
    if isinstance(raw, bytes | str):
        written = raw.decode("latin-1") if isinstance(raw, bytes) else raw
        match = _NUMBER.fullmatch(written.strip("\0"))
        if match is None:
            raise NoValue(f"{written[:40]!r} is not a number")
        raw = float(match[1].replace(",", "."))
    if not math.isfinite(raw):
        raise NoValue(f"{raw} is not a number")
    return float(raw)


def stated_unit(raw: Value) -> str:
    """Unit behind a number in a text, where it is one of power, energy, volts or amperes; else empty."""
    match = _NUMBER.fullmatch(text(raw)) if isinstance(raw, bytes | str) else None
    unit = (match[2] or "").lower() if match else ""
    return unit if unit in _HEEDED else ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One instance of a channel: an OID, and where its scale stands."""

    channel: SnmpChannel
    oid: str
    digits_oid: str = ""
    si_oid: str = ""
    valid_oid: str = ""
    unit_oid: str = ""
    exponent_oid: str = ""
    _line: tuple[float, float] = field(init=False, repr=False)
    """Factor and offset from the raw value to the delivered unit."""

    def __post_init__(self) -> None:
        scale, unit = self.channel.scale, self.channel.unit
        offset = delivered(0.0, unit)
        object.__setattr__(self, "_line", ((delivered(1.0, unit) - offset) * scale, offset))

    def oids(self) -> Iterable[str]:
        """OIDs needed for the value."""
        return filter(
            None,
            [
                self.oid,
                self.digits_oid,
                self.si_oid,
                self.valid_oid,
                self.unit_oid,
                self.exponent_oid,
            ],
        )

    def value(self, values: Mapping[str, Value]) -> float:
        """Value in the channel's delivered unit.

        Raises
        ------
        InstanceMissing
            If an OID is not among the values.
        NoValue
            If the raw value is no number or a sentinel of the channel, or the device calls it invalid.
        """
        if self.valid_oid:
            self._check_valid(values)
        raw = _present(values, self.oid)
        if type(raw) is not int:
            stated = "" if self.unit_oid or self.channel.scale != 1 else stated_unit(raw)
            raw = number(raw)
            if stated and raw not in self.channel.sentinels:
                return self._in_unit(raw, stated)
        if raw in self.channel.sentinels or raw in LIMITS_OF_TYPES:
            raise NoValue(f"{raw:.10g} means that the device has no value")
        if self.unit_oid:
            return self._instated_unit(raw, values)
        factor, offset = self._line
        if self.digits_oid or self.si_oid or self.exponent_oid:
            factor *= self._scale(values)
        return raw * factor + offset

    def _instated_unit(self, raw: Value, values: Mapping[str, Value]) -> float:
        return self._in_unit(number(raw), text(_present(values, self.unit_oid)).strip())

    def _in_unit(self, raw: float, unit: str) -> float:
        try:
            if delivered_unit(unit) != delivered_unit(self.channel.unit):
                raise NoValue(f"unit {unit!r} is none of {self.channel.name}")
            return delivered(raw * self.channel.scale, unit)
        except KeyError:
            raise NoValue(f"unit {unit!r} is not known") from None

    def _check_valid(self, values: Mapping[str, Value]) -> None:
        (allowed,) = self.channel.valid.values()
        state = _present(values, self.valid_oid)
        if state not in allowed:
            raise NoValue(f"the device calls the value invalid (state {state!r})")

    def _scale(self, values: Mapping[str, Value]) -> float:
        scale = 1.0
        if self.digits_oid:
            scale /= 10.0 ** number(_present(values, self.digits_oid))
        if self.exponent_oid:
            scale *= 10.0 ** number(_present(values, self.exponent_oid))
        if self.si_oid:
            scale *= 10.0 ** (3 * (number(_present(values, self.si_oid)) - _SI_NONE))
        return scale


@dataclass(frozen=True, slots=True)
class ComputedCell:
    """A channel made of others: their sum or their product."""

    channel: SnmpChannel
    parts: tuple[Source, ...]

    def oids(self) -> Iterable[str]:
        """OIDs needed for the value."""
        return (oid for part in self.parts for oid in part.oids())

    def value(self, values: Mapping[str, Value]) -> float:
        """Value in the channel's delivered unit.

        Raises
        ------
        InstanceMissing, NoValue
            As for a part; parts without a value are left out only where the channel allows.
        """
        if self.channel.product_of:
            product = math.prod(part.value(values) for part in self.parts)
            return delivered(product * self.channel.scale, self.channel.unit)
        known = [v for part in self.parts if (v := self._part(part, values)) is not None]
        if not known:
            raise NoValue("no part of the sum has a value")
        return math.fsum(known) * self.channel.scale

    def _part(self, part: Source, values: Mapping[str, Value]) -> float | None:
        try:
            return part.value(values)
        except NoValue:
            if self.channel.skip_missing:
                return None
            raise


Source = Cell | ComputedCell


def _present(values: Mapping[str, Value], oid: str) -> Value:
    try:
        return values[oid]
    except KeyError:
        raise InstanceMissing(f"nothing came for {oid}: the device refuses it or no longer has it") from None


@dataclass(frozen=True, slots=True)
class Survey:
    """What an agent has of a profile: for every channel its source, and the values seen on the way."""

    sources: dict[str, Source]
    values: dict[str, Value]
    doubled: tuple[str, ...] = ()
    """What the device says more than once, and not alike."""

    def readings(self) -> dict[str, float]:
        """Every channel that has a value now."""
        found = {name: _usable(source, self.values) for name, source in self.sources.items()}
        return {name: value for name, value in found.items() if value is not None}


async def survey(agent: TableReader, profile: SnmpProfile, names: Iterable[str] | None = None) -> Survey:
    """Find the instances of a profile's channels, or of the named ones and what they are made of.

    Raises
    ------
    CollectError
        If the agent cannot be read.
    """
    wanted = _needed(profile, None if names is None else set(names))
    rows = _Rows(agent)
    await rows.fetch_scalars(wanted)
    finder = _Finder(wanted, {id(c): await rows.cells(c) for c in wanted if c.oid}, rows.values)
    templates = dict.fromkeys(channel.name for channel in wanted)
    options: dict[str, list[Source]] = {}
    for template in templates:
        for name, source in finder.of(template).items():
            options.setdefault(name, []).append(source)
    asked = options if names is None else [name for name in names if name in options]
    chosen = {name: _choice(options[name], rows.values) for name in asked}
    return Survey(chosen, rows.values, tuple(rows.doubled.values()))


def _needed(profile: SnmpProfile, names: set[str] | None) -> tuple[SnmpChannel, ...]:
    """Channels that answer to the names, with all they are made of."""
    if names is None:
        return profile.channels
    todo = {c.name for c in profile.channels if any(c.indices(n) is not None for n in names)}
    needed: set[str] = set()
    while todo:
        needed |= todo
        parts = {p for c in profile.channels if c.name in todo for p in (*c.sum_of, *c.product_of)}
        todo = parts - needed
    return tuple(c for c in profile.channels if c.name in needed)


class _Rows:
    """Tables of one agent, each walked once."""

    def __init__(self, agent: TableReader) -> None:
        self._agent = agent
        self._walked: dict[str, dict[str, Value]] = {}
        self.values: dict[str, Value] = {}
        """Every value seen, by its OID."""
        self.doubled: dict[str, str] = {}
        """Channels that stand in several rows with different values."""

    async def fetch_scalars(self, channels: Iterable[SnmpChannel]) -> None:
        """Read all instances that need no walk in as few requests as possible."""
        oids = [
            o for c in channels if c.oid and c.index is None for o in (c.oid, c.digits_oid, c.si_oid) if o
        ]
        self.values.update(await self._agent.get(list(dict.fromkeys(oids))))

    async def cells(self, channel: SnmpChannel) -> dict[str, Cell]:
        """The channel's instances by their names, in the agent's order."""
        assert channel.oid is not None
        if channel.index is None:
            scale = {"digits_oid": channel.digits_oid or "", "si_oid": channel.si_oid or ""}
            there = channel.oid in self.values
            return {channel.name: Cell(channel, channel.oid, **scale)} if there else {}
        found: dict[str, list[Cell]] = {}
        for row, indices in _rows(channel.index, await self._column(channel.oid)):
            if await self._belongs(channel, row):
                found.setdefault(channel.name_for(indices), []).append(await self._cell(channel, row))
        return {name: cells[0] for name, cells in found.items() if not self._differ(name, cells)}

    def _differ(self, name: str, cells: Sequence[Cell]) -> bool:
        """Whether rows that would have one name say different things: then none of them is it."""
        if len(cells) == 1:
            return False
        known = [v for v in (_usable(cell, self.values) for cell in cells) if v is not None]
        if known and max(known) - min(known) > ALIKE_RATIO * max(map(abs, known)):
            said = " and ".join(f"{v:g}" for v in known[:3])
            self.doubled[name] = f"{name} stands in {len(cells)} rows with {said}; none of them is taken"
        return name in self.doubled

    async def _cell(self, channel: SnmpChannel, row: str) -> Cell:
        for column in filter(None, _beside(channel)):
            await self._column(column)
        digits, si = (f"{c}.{row}" if c else "" for c in (channel.digits_oid, channel.si_oid))
        given = [f"{c}.{row}" for c in channel.valid if row in await self._column(c)]
        unit = f"{channel.unit_oid}.{row}" if channel.unit_oid else ""
        exponent = f"{channel.exponent_oid}.{row}" if channel.exponent_oid else ""
        return Cell(channel, f"{channel.oid}.{row}", digits, si, "".join(given), unit, exponent)

    async def _belongs(self, channel: SnmpChannel, row: str) -> bool:
        for column, allowed in channel.where.items():
            if (await self._column(column)).get(row) not in allowed:
                return False
        for column, pattern in channel.where_text.items():
            label = text((await self._column(column)).get(row, "")).strip()
            if not re.fullmatch(pattern, label, re.IGNORECASE):
                return False
        return True

    async def _column(self, oid: str) -> dict[str, Value]:
        if oid not in self._walked:
            rows = await self._agent.walk(oid)
            self._walked[oid] = rows
            self.values.update({f"{oid}.{row}": value for row, value in rows.items()})
        return self._walked[oid]


def _beside(channel: SnmpChannel) -> tuple[str | None, ...]:
    """Columns that say how the value in the same row is meant."""
    return channel.digits_oid, channel.si_oid, channel.unit_oid, channel.exponent_oid


def _rows(pattern: str, column: Iterable[str]) -> Iterable[tuple[str, dict[str, int]]]:
    """Rows that belong to an index pattern, with the numbers that its variables stand for."""
    matches = [m for m in map(_index_pattern(pattern).fullmatch, column) if m is not None]
    texts = {text for m in matches for name, text in m.groupdict().items() if name.endswith("_")}
    order = {text: n for n, text in enumerate(sorted(texts, key=_arcs), 1)}
    for match in matches:
        groups = match.groupdict().items()
        yield (
            match[0],
            {n[0]: order[text] if n.endswith("_") else int(text) + n.endswith("1") for n, text in groups},
        )


def _arcs(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@cache
def _index_pattern(pattern: str) -> re.Pattern[str]:
    parts = []
    for part in pattern.split("."):
        variable = re.fullmatch(r"\{([a-z])(\+1|\*)?\}", part)
        if variable:
            name = variable[1] + {None: "0", "+1": "1", "*": "_"}[variable[2]]
            parts.append(rf"(?P<{name}>\d+(?:\.\d+)*)" if variable[2] == "*" else rf"(?P<{name}>\d+)")
        else:
            parts.append(r"\d+" if part == "*" else re.escape(part))
    return re.compile(r"\.".join(parts))


class _Finder:
    """Sources of channels by the name as the profile writes it."""

    def __init__(
        self, channels: Sequence[SnmpChannel], cells: dict[int, dict[str, Cell]], values: Mapping[str, Value]
    ) -> None:
        self._channels, self._cells, self._values = channels, cells, values
        self._known: dict[str, dict[str, Source]] = {}

    def of(self, template: str) -> dict[str, Source]:
        """Instances of all channels of that name; of several descriptions, the one the agent answers."""
        if template not in self._known:
            options: dict[str, list[Source]] = {}
            for channel in self._channels:
                if channel.name == template:
                    for name, source in self._instances(channel).items():
                        options.setdefault(name, []).append(source)
            self._known[template] = {n: _choice(several, self._values) for n, several in options.items()}
        return self._known[template]

    def _instances(self, channel: SnmpChannel) -> Mapping[str, Source]:
        if channel.oid:
            return self._cells[id(channel)]
        groups = [self._grouped(channel, part) for part in (*channel.sum_of, *channel.product_of)]
        names = list(dict.fromkeys(name for group in groups for name in group))
        if channel.product_of:
            names = [name for name in names if all(name in group for group in groups)]
        return {
            n: ComputedCell(channel, tuple(s for group in groups for s in group.get(n, ()))) for n in names
        }

    def _grouped(self, channel: SnmpChannel, part: str) -> dict[str, list[Source]]:
        """Instances of a part by the name of the channel they belong to."""
        described = next(c for c in self._channels if c.name == part)
        groups: dict[str, list[Source]] = {}
        for name, source in self.of(part).items():
            indices = described.indices(name) or {}
            groups.setdefault(channel.name_for(indices), []).append(source)
        return groups


def _choice(options: list[Source], values: Mapping[str, Value]) -> Source:
    """The first that has a value now. A register's origin must not change from one start to the next
    with a passing lack of a value, so there the first that exists is taken."""
    if options[0].channel.kind == "register":
        return options[0]
    return next((o for o in options if _usable(o, values) is not None), options[0])


def _usable(source: Source, values: Mapping[str, Value]) -> float | None:
    try:
        return source.value(values)
    except (NoValue, InstanceMissing):
        return None
