"""Device profiles: what a model of meter offers, and where in it each value stands.

One YAML file per model under ``profiles/<protocol>/``; the file's stem is the profile's name. A
profile is a list of *channels*; a point of the site file names one. Names are shared by all
protocols and end in the house unit the channel is delivered in::

    energy_import_kwh  energy_export_kwh  power_kw  apparent_power_kva  power_factor_ratio
    energy_import_l1_kwh  power_l1_kw  current_l1_a  voltage_l1_v       phase 1 (l2, l3 alike)
    outlet_{n}_energy_kwh  outlet_{n}_power_kw                          outlet n, counted from 1
    infeed_{n}_energy_kwh  infeed_{n}_power_kw  bank_{n}_power_kw       inlet or bank n
    frequency_hz  temperature_c  humidity_percent  load_percent  volume_m3
    battery_runtime_s  battery_charge_percent  battery_temperature_c    of a UPS, at its present load

To add a model, write its YAML from the vendor's document and name that document in ``source``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from app.domain.quantity import ESTIMATE_KINDS, UNITS, Quantity, ReadingKind, Role, canonical_unit, to_house
from app.domain.site import Point, Stage
from app.errors import ConfigError
from collectors.profiles.folders import own_files, own_folders
from collectors.yaml_lines import YamlLines, dotted

FOLDER = Path(__file__).parent
MOST_VALUES = 50_000
"""Values in one profile."""

GAUGE_UNITS: dict[str, tuple[str, float]] = {
    "va": ("kva", 1e-3),
    "kva": ("kva", 1.0),
    "mva": ("kva", 1e3),
    "var": ("kvar", 1e-3),
    "kvar": ("kvar", 1.0),
    "varh": ("kvarh", 1e-3),
    "kvarh": ("kvarh", 1.0),
    "vah": ("kvah", 1e-3),
    "kvah": ("kvah", 1.0),
    "ma": ("a", 1e-3),
    "a": ("a", 1.0),
    "mv": ("v", 1e-3),
    "v": ("v", 1.0),
    "hz": ("hz", 1.0),
    "s": ("s", 1.0),
    "min": ("s", 60.0),
    "pf": ("ratio", 1.0),
}
"""Units that only gauges have, with the unit they are delivered in; the vocabulary counts them as numbers."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_([a-z0-9]+|l?\{[a-z]\}))*")
_FIRST_UNIT = "unit_{u}_"
_KIND_OF_UNIT = {"kwh": "register", "kw": "power", "m3": "register"}
_DEFAULT_CHANNEL = {ReadingKind.REGISTER: "energy_import_kwh", ReadingKind.POWER: "power_kw"}


class Strict(BaseModel):
    """Frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def delivered_unit(unit: str) -> str:
    """House unit in which a channel of `unit` is delivered.

    Raises
    ------
    KeyError
        If the unit is not known.
    """
    text = unit.strip().lower()
    return GAUGE_UNITS[text][0] if text in GAUGE_UNITS else UNITS[canonical_unit(unit)][0].house_unit


def delivered(value: float, unit: str) -> float:
    """`value` given in `unit`, in the unit the channel is delivered in.

    Raises
    ------
    KeyError
        If the unit is not known.
    """
    text = unit.strip().lower()
    return value * GAUGE_UNITS[text][1] if text in GAUGE_UNITS else to_house(value, unit)


class Channel(Strict):
    """One value a device offers, whatever the protocol."""

    name: str
    """Shared name; ends in the house unit. ``{n}`` stands for the index where a table is read. E.g.
    ``energy_import_kwh``."""
    unit: str
    """Unit of the raw value times `scale`. E.g. ``Wh``."""
    kind: Literal["register", "power", "gauge"]
    """Follows from the unit: kWh and m3 are registers, kW is power, anything else a gauge."""
    scale: float = 1.0
    """Factor on the raw value: value in `unit` = raw * scale. E.g. ``0.1``."""
    modulus: Annotated[float, Field(gt=0)] | None = None
    """Raw count at which a register wraps to zero; absent where it never does. E.g. ``4294967296``."""
    sentinels: tuple[int | float, ...] = ()
    """Raw values (as the type decodes them) that mean "no value". E.g. ``[-32768]``."""
    notes: str = ""
    """Traps: what a reader of the vendor's document gets wrong. E.g. ``Counts in units of 0.1 kWh``."""

    @field_validator("name")
    @classmethod
    def _name_is_shared(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a channel name; allowed are lower case, digits, _ and {{n}}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _kind_by_unit(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "kind" in data or not isinstance(data.get("unit"), str):
            return data
        try:
            return {**data, "kind": _KIND_OF_UNIT.get(delivered_unit(data["unit"]), "gauge")}
        except KeyError:
            return {**data, "kind": "gauge"}

    @model_validator(mode="after")
    def _unit_fits(self) -> Self:
        try:
            unit = delivered_unit(self.unit)
        except KeyError:
            known = ", ".join(sorted({*UNITS, *GAUGE_UNITS}))
            raise ValueError(f"unknown unit {self.unit!r}; known are {known}") from None
        if unit != "1" and not self.name.endswith(f"_{unit}"):
            raise ValueError(f"unit {self.unit} is delivered in {unit}, so the name must end in _{unit}")
        expected = _KIND_OF_UNIT.get(unit, "gauge")
        if self.kind != expected:
            raise ValueError(f"a channel in {unit} is of kind {expected}, not {self.kind}")
        return self

    def indices(self, name: str) -> dict[str, int] | None:
        """What the variables of the name stand for in `name`, or None where the name is another's.

        ``unit_{u}_`` is left out for the first of chained units.
        """
        match = re.fullmatch(_pattern_of(self.name), name)
        if match is None:
            return None
        return {variable: int(text or 1) for variable, text in match.groupdict().items()}

    def name_for(self, indices: Mapping[str, int]) -> str:
        """The channel's name with its variables filled in."""
        name = self.name.removeprefix(_FIRST_UNIT) if indices.get("u") == 1 else self.name
        return re.sub(r"\{([a-z])\}", lambda match: str(indices[match[1]]), name)

    @property
    def modulus_delivered(self) -> float:
        """Value at which the register wraps to zero, in the delivered unit; infinite where it never does."""
        return math.inf if self.modulus is None else delivered(self.modulus * abs(self.scale), self.unit)

    @property
    def quantity(self) -> Quantity | None:
        """Quantity of the vocabulary, or None for units that only gauges have."""
        return None if self.unit.lower() in GAUGE_UNITS else UNITS[canonical_unit(self.unit)][0]


_Channel = TypeVar("_Channel", bound=Channel)

ModbusType = Literal[
    "int16", "uint16", "int32", "uint32", "int48", "uint48", "int64", "uint64",
    "float32", "float64", "acc32", "acc64", "mod10", "bcd",
]  # fmt: skip
WORDS_OF_TYPE: dict[str, int] = {
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "acc32": 2,
    "float32": 2,
    "int48": 3,
    "uint48": 3,
    "int64": 4,
    "uint64": 4,
    "acc64": 4,
    "float64": 4,
}
"""Registers a value occupies; the decimal types say their own number."""
DECIMAL_TYPES = ("mod10", "bcd")
MOST_REGISTERS = 125
"""Registers in one answer."""
Address = Annotated[int, Field(ge=0, le=65_535)]


class ModbusChannel(Channel):
    """A value in Modbus registers, or the sum of others."""

    address: Address = 0
    """Register, counted from 0; for SunSpec, counted from the model's ID register. Needed unless
    `sum_of` is given. E.g. ``2699``.

    Vendors that count from 1, or write 4xxxx for holding registers, mean the register before: 42700 is
    2699."""
    table: Literal["holding", "input"] = "holding"
    """``holding`` registers (function code 3) or ``input`` registers (4)."""
    type: ModbusType = "uint16"
    """How the registers are decoded; needed unless `sum_of` is given. ``acc`` are SunSpec accumulators,
    ``mod10`` holds a number up to 9999 in each register, ``bcd`` four decimal digits of four bits."""
    words: Annotated[int, Field(ge=1, le=4)] | None = None
    """Registers of a ``mod10`` or ``bcd`` value. E.g. ``3``."""
    word_order: Literal["big", "little"] = "big"
    """``big``: most significant register first."""
    byte_order: Literal["big", "little"] = "big"
    """``little``: the two bytes of every register are swapped."""
    scale_from: Address | None = None
    """Register of a SunSpec scale factor (a signed power of ten), counted like `address`. E.g. ``45``."""
    scale_byte: Literal["both", "low", "high"] = "both"
    """Byte of that register that holds the power of ten, where the other means something else."""
    factor_from: Address | None = None
    """Register of a whole number that multiplies the value, such as the ratio of the current
    transformers. E.g. ``6``."""
    factor_words: Annotated[int, Field(ge=1, le=2)] = 1
    """Registers of that number, most significant first. E.g. ``2``."""
    sum_of: tuple[str, ...] = ()
    """Channels described before it that this one is the sum of: a whole number and its fraction in
    registers of their own, or phases of a meter without a total. They are read in one request, so they must
    lie within 125 registers of one table. E.g. ``[energy_whole_kwh, energy_fraction_kwh]``."""
    _parts: tuple[ModbusChannel, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _has_an_origin(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("sum_of"):
            for key in ("address", "type"):
                if key not in data:
                    raise ValueError(f"{key} is needed, or sum_of")
        return data

    @model_validator(mode="after")
    def _words_fit(self) -> Self:
        if (self.type in DECIMAL_TYPES) != (self.words is not None):
            raise ValueError("words: is needed for types mod10 and bcd and allowed for no other")
        if self.scale_from is not None and self.factor_from is not None:
            raise ValueError("one of scale_from and factor_from")
        if self.sum_of and {"address", "type", "scale_from", "factor_from"} & self.model_fields_set:
            raise ValueError("a sum has no registers of its own: give either sum_of or address and type")
        if self.address + self.length > 65_536:
            raise ValueError(f"{self.length} registers from {self.address} end beyond 65535")
        return self

    @property
    def parts(self) -> tuple[ModbusChannel, ...]:
        """Channels it is the sum of."""
        return self._parts

    def made_of(self, parts: tuple[ModbusChannel, ...]) -> Self:
        """The same channel, knowing the channels it is the sum of.

        Raises
        ------
        ValueError
            If they cannot be read in one request, or are not of its unit.
        """
        if len({part.table for part in parts}) > 1:
            raise ValueError(f"channel {self.name} is the sum of holding and of input registers")
        spans = [part.span for part in parts]
        apart = max(end for _, end in spans) - min(start for start, _ in spans)
        if apart > MOST_REGISTERS:
            raise ValueError(
                f"the parts of channel {self.name} lie {apart} registers apart; at most 125 are read"
            )
        for part in parts:
            if part.sum_of or delivered_unit(part.unit) != delivered_unit(self.unit):
                raise ValueError(
                    f"channel {self.name} cannot be made of {part.name}: a sum, or of another unit"
                )
        self._parts = parts
        return self

    @property
    def span(self) -> tuple[int, int]:
        """First register of the value and its scale, and the one behind the last."""
        starts, ends = [self.address], [self.address + self.length]
        for at, length in ((self.scale_from, 1), (self.factor_from, self.factor_words)):
            if at is not None:
                starts.append(at)
                ends.append(at + length)
        return min(starts), max(ends)

    @property
    def length(self) -> int:
        """Registers the value occupies."""
        return self.words or WORDS_OF_TYPE[self.type]


Oid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)+$")]


class SnmpChannel(Channel):
    """A value behind an OID, in the rows of a table, or made of other channels.

    A profile may describe one name several times: the first that an agent can answer is used.
    """

    oid: Oid | None = None
    """Instance; with `index`, the column of a table. E.g. ``1.3.6.1.2.1.33.1.4.4.1.4``."""
    index: (
        Annotated[str, Field(pattern=r"^(\d+|\*|\{[a-z](\+1|\*)?\})(\.(\d+|\*|\{[a-z](\+1|\*)?\}))*$")] | None
    ) = None
    """What follows the column in the rows that belong: numbers, ``*`` for any, ``{n}`` for a number that
    names the channel, ``{n+1}`` where the device counts from 0, ``{u*}`` for a name of several numbers (a
    serial number), of which the first in order is 1. E.g. ``"{n}"``."""
    where: dict[Oid, tuple[int, ...]] = Field(default_factory=dict)
    """Column -> values it must hold in the same row. E.g. ``{1.3.6.1.4.1.318.1.1.26.6.3.1.5: [2]}``."""
    where_text: dict[Oid, str] = Field(default_factory=dict)
    """Column -> regular expression that the whole text in the same row matches, in any case: tables of label,
    value and unit. E.g. ``{1.3.6.1.4.1.476.1.42.3.9.20.1.10: System Output Power}``."""
    unit_oid: Oid | None = None
    """Column of a text with the unit of the value in the same row, in place of `unit`. E.g.
    ``1.3.6.1.4.1.476.1.42.3.9.20.1.30``."""
    valid: dict[Oid, tuple[int, ...]] = Field(default_factory=dict, max_length=1)
    """Column -> values it must hold in the same row *whenever* the value is read; where the device lacks
    the column, its values are accepted. E.g. ``{1.3.6.1.2.1.99.1.1.1.5: [1]}``."""
    digits_oid: Oid | None = None
    """Column (or instance) of a number of decimal digits d: the raw value is multiplied by ``10**-d``.
    E.g. ``1.3.6.1.2.1.99.1.1.1.3``."""
    si_oid: Oid | None = None
    """Column of a prefix as ENTITY-SENSOR-MIB counts them: 8 is milli, 9 none, 10 kilo. E.g.
    ``1.3.6.1.2.1.99.1.1.1.2``."""
    exponent_oid: Oid | None = None
    """Column of a power of ten that the raw value is multiplied by, as ENERGY-OBJECT-MIB has it. E.g.
    ``1.3.6.1.2.1.229.1.2.1.3``."""
    sum_of: tuple[str, ...] = ()
    """Channels this one is the sum of; a variable that is not in this name runs over all there are. E.g.
    ``["outlet_{n}_power_kw"]``."""
    product_of: tuple[str, ...] = ()
    """Channels this one is the product of. E.g. ``[voltage_l1_v, current_l1_a]``."""
    skip_missing: bool = False
    """For a sum: rows without a value do not count (unused phases); else they leave the sum unknown."""
    doubt: str = ""
    """Why an installer should compare the value with the panel. E.g. ``Apparent, not active power``."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(map(bool, (self.oid, self.sum_of, self.product_of))) != 1:
            raise ValueError("one of oid, sum_of and product_of is needed")
        for pattern in self.where_text.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        named = set(re.findall(r"\{([a-z])\}", self.name))
        if self.oid and named != set(re.findall(r"\{([a-z])", self.index or "")):
            raise ValueError("index and name must have the same variables")
        return self


Identifier = Annotated[str, Field(pattern=r"^[0-9A-F]{4}([0-9A-F]{4})?$")]


class Dlt645Channel(Channel):
    """A value behind an identifier of DL/T 645."""

    identifier: Identifier
    """Eight hexadecimal digits (2007, DI3 first) or four (1997), in quotes. E.g. ``"00010000"``."""
    digits: Annotated[int, Field(ge=2, le=16, multiple_of=2)]
    """Decimal digits of the value, two a byte. E.g. ``8``."""
    decimals: Annotated[int, Field(ge=0, le=8)] = 0
    """How many of them stand behind the decimal point; `scale` and the rollover follow. E.g. ``2``."""
    sign: Literal["none", "minus", "direction"] = "none"
    """What the highest bit means: `none`, it is part of the digits; `minus`; `direction`, which is left out
    (currents are given without)."""
    followed_by: Annotated[int, Field(ge=0, le=200)] = 0
    """Bytes behind the value that are not read, such as the time of a maximum. E.g. ``5``."""
    block: Identifier | None = None
    """Identifier that gives this value together with its neighbours. E.g. ``"0201FF00"``."""
    place: Annotated[int, Field(ge=0, le=63)] = 0
    """Where the value stands in the block, counted from 0. E.g. ``1``."""

    @model_validator(mode="before")
    @classmethod
    def _scale_by_decimals(cls, data: Any) -> Any:
        """The scale that the decimals mean, and for a register the count at which its digits are used up."""
        if not isinstance(data, dict) or not isinstance(data.get("identifier"), str):
            if isinstance(data, dict) and isinstance(data.get("identifier"), int):
                raise ValueError("write the identifier in quotes: YAML takes its digits for a number")
            return data
        decimals, digits = data.get("decimals", 0), data.get("digits")
        if not isinstance(decimals, int) or not isinstance(digits, int) or not 0 <= decimals <= 8:
            return data
        counts = _is_register(data) and data.get("sign", "none") == "none"
        return {"scale": 10.0**-decimals, **({"modulus": 10.0**digits} if counts else {}), **data}

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return self.digits // 2


def _is_register(data: Mapping[str, Any]) -> bool:
    try:
        return _KIND_OF_UNIT.get(delivered_unit(str(data.get("unit")))) == "register"
    except KeyError:
        return False


class ModbusRecognition(Strict):
    """One safe read that tells the model."""

    device_id_text: str | None = None
    """Regular expression searched in the texts of function 43 (vendor, product, revision). E.g.
    ``PM5[0-9]+``."""
    sunspec_model: int | None = None
    """Number of a SunSpec model in the device's chain. E.g. ``203``."""
    address: Address | None = None
    """Register that is read. E.g. ``88``."""
    table: Literal["holding", "input"] = "holding"
    """``holding`` or ``input`` registers."""
    type: ModbusType = "uint16"
    """How it is decoded; not a decimal type."""
    word_order: Literal["big", "little"] = "big"
    """``big``: most significant register first."""
    equals: tuple[float, ...] = ()
    """Values that mean this model. E.g. ``[15200]``."""
    between: tuple[float, float] | None = None
    """Inclusive bounds a plausible value lies in (mains frequency): a weak sign. E.g. ``[45, 65]``."""
    nothing_at: tuple[Address, ...] = ()
    """Registers of `type` that this model refuses or leaves zero, unlike its siblings. E.g. ``[2, 4]``."""


class SnmpRecognition(Strict):
    """What tells the model of an SNMP agent; all that is given must be so."""

    sys_object_id: tuple[str, ...] = ()
    """Prefixes of sysObjectID.0. E.g. ``[1.3.6.1.4.1.534]``."""
    sys_descr: str | None = None
    """Regular expression searched in sysDescr.0. E.g. ``ePDU``."""
    present: tuple[str, ...] = ()
    """OIDs under which the agent must have something. E.g. ``[1.3.6.1.2.1.33]``."""
    absent: tuple[str, ...] = ()
    """OIDs under which it must have nothing. E.g. ``[1.3.6.1.4.1.318]``."""


class Profile(Strict):
    """What every profile says, whatever the protocol."""

    model: str
    """Models it is for, as the vendor writes them. E.g. ``PM5110, PM5310``."""
    vendor: str
    """Vendor. E.g. ``Schneider Electric``."""
    source: Annotated[str, Field(min_length=1)]
    """Document the numbers come from. E.g. ``PM5000 register list, 2022-05``."""
    verified: bool = True
    """False where no vendor document or second source confirmed the numbers."""
    evidence: Literal["recording", "document"] = "document"
    """What it was tested with: the ``recording`` of a real device, or only what its ``document`` says."""
    notes: str = ""
    """What an installer must know. E.g. ``Set the CT ratio at the meter``."""
    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """Name of the profile: the stem of its file."""
        return self._name

    def named(self, name: str) -> Self:
        """The same profile, knowing its name."""
        self._name = name
        return self


class Blocks(Strict):
    """How registers may be read together."""

    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    """Most registers the device returns in one answer. E.g. ``60``."""
    max_hole: Annotated[int, Field(ge=0, le=124)] = 16
    """Unused registers that may be read along to save a request. E.g. ``0``."""
    single: bool = False
    """One request per value: devices that refuse any other grouping."""
    holes: tuple[tuple[Address, Address], ...] = ()
    """Inclusive ranges that answer with an error and must never be read along. E.g. ``[[100, 119]]``."""


class ModbusProfile(Profile):
    """Register map of a model."""

    protocol: Literal["modbus"]
    """Protocol of the profile."""
    recognise: tuple[ModbusRecognition, ...] = ()
    """Safe reads that tell the model; any one of them is enough."""
    blocks: Blocks = Blocks()
    """How registers may be read together."""
    sunspec_models: tuple[int, ...] = ()
    """Addresses count from the ID register of the first of these models found in the SunSpec chain. E.g.
    ``[203, 213]``."""
    channels: Annotated[tuple[ModbusChannel, ...], Field(min_length=1)]
    """What the model offers."""

    @model_validator(mode="after")
    def _channels_differ(self) -> Self:
        refuse_doubles(c.name for c in self.channels)
        known: dict[str, ModbusChannel] = {}
        for channel in self.channels:
            for part in channel.sum_of:
                if part not in known:
                    raise ValueError(_not_before(channel.name, part))
            if channel.sum_of:
                channel.made_of(tuple(known[part] for part in channel.sum_of))
            known[channel.name] = channel
        return self


class SnmpProfile(Profile):
    """OIDs of a family of agents."""

    protocol: Literal["snmp"]
    """Protocol of the profile."""
    recognise: tuple[SnmpRecognition, ...] = ()
    """What tells the model; any one of them is enough."""
    generic: bool = False
    """A standard MIB: chosen only where no profile of the vendor's fits."""
    role: Role = Role.NONE
    """Role the probe proposes for the device's energy."""
    stage: Stage = Stage.LOAD
    """Stage the probe proposes for the meter."""
    channels: Annotated[tuple[SnmpChannel, ...], Field(min_length=1)]
    """What the family offers; of several with one name, the first that an agent can answer."""

    @model_validator(mode="after")
    def _made_of_known(self) -> Self:
        names: set[str] = set()
        for channel in self.channels:
            names.add(channel.name)
            for part in (*channel.sum_of, *channel.product_of):
                if part not in names - {channel.name}:
                    raise ValueError(_not_before(channel.name, part))
        return self


class Dlt645Profile(Profile):
    """Identifiers of DL/T 645 meters."""

    protocol: Literal["dlt645"]
    """Protocol of the profile."""
    channels: Annotated[tuple[Dlt645Channel, ...], Field(min_length=1)]
    """What the meters offer."""

    @model_validator(mode="after")
    def _channels_differ(self) -> Self:
        refuse_doubles(c.name for c in self.channels)
        return self


AnyProfile: TypeAlias = ModbusProfile | SnmpProfile | Dlt645Profile
MODELS: dict[str, type[AnyProfile]] = {
    "modbus": ModbusProfile,
    "snmp": SnmpProfile,
    "dlt645": Dlt645Profile,
}
"""Model of a profile by its protocol, which is also the folder of the shipped ones."""


class HasChannels(Protocol):
    """A profile, or a collector's settings with channels of its own."""

    @property
    def channels(self) -> Sequence[Channel]:
        """What is offered."""


@cache
def _pattern_of(name: str) -> str:
    pattern = re.escape(name).replace(re.escape(_FIRST_UNIT), r"(?:unit_\{u\}_)?")
    return re.sub(r"\\\{([a-z])\\\}", r"(?P<\1>\\d+)", pattern)


def _not_before(channel: str, part: str) -> str:
    return f"channel {channel} is made of {part!r}, which is not described before it"


def refuse_doubles(names: Iterable[str]) -> None:
    """Raise ValueError if a channel name stands twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"channel {name} is described twice")
        seen.add(name)


def broken_profiles() -> list[ConfigError]:
    """What is wrong with own profiles that cannot be used, the first fault of each."""
    found = []
    for path in own_files():
        try:
            _read(path)
        except ConfigError as error:
            found.append(error)
    return found


def profile_names(protocol: str = "") -> tuple[str, ...]:
    """Names of the usable profiles, shipped and own, sorted; of one protocol where it is given."""
    return tuple(sorted({*(path.stem for path in shipped_files(protocol)), *_own_names(protocol)}))


def _own_names(protocol: str) -> Iterable[str]:
    for path in own_files():
        try:
            profile = _read(path)
        except ConfigError:
            continue
        if protocol in ("", profile.protocol):
            yield path.stem


def shipped_files(protocol: str = "") -> list[Path]:
    """Files of the shipped profiles, sorted; of one protocol where it is given."""
    folders = [protocol] if protocol else list(MODELS)
    return [path for folder in folders for path in sorted((FOLDER / folder).glob("*.yaml"))]


def load_profile(name: str | Path) -> AnyProfile:
    """The profile of that name, or the one in a YAML file of the user's.

    Parameters
    ----------
    name : str or Path
        Stem of a file in one of the own folders or of a shipped one (``schneider_pm5xxx``), or a path that
        ends in ``.yaml`` or ``.yml``: as it stands, or in one of the own folders.

    Raises
    ------
    ConfigError
        If there is no such profile, or its file breaks the model; with file, line and key.
    """
    return _read(profile_file(name))


def profile_file(name: str | Path) -> Path:
    """The file that a profile's name stands for.

    Raises
    ------
    ConfigError
        If there is no such profile.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return _named(str(name))
    if path.is_absolute() or path.exists():
        return path
    places = [place / path for folder in own_folders() for place in (folder, folder.parent)]
    return next((place for place in places if place.exists()), path)


def _named(name: str) -> Path:
    for path in (*own_files(), *shipped_files()):
        if path.stem == name:
            return path
    raise ConfigError(
        f"there is no profile {name!r}; allowed are a .yaml file of your own or {', '.join(profile_names())}",
        key="profile",
    )


_Profile = TypeVar("_Profile", bound=Profile)


def profile_of(model: type[_Profile], name: str | Path) -> _Profile:
    """The profile of that name, of one protocol.

    Raises
    ------
    ConfigError
        If there is none, or it is of another protocol.
    """
    profile = load_profile(name)
    if not isinstance(profile, model):
        problem = f"{str(name)!r} is a profile for another protocol; use kind: {profile.protocol}"
        raise ConfigError(problem, key="profile")
    return profile


def snmp_profile(name: str) -> SnmpProfile:
    """The SNMP profile of that name; raises as `profile_of`."""
    return profile_of(SnmpProfile, name)


def modbus_profile(name: str | Path) -> ModbusProfile:
    """The Modbus profile of that name; raises as `profile_of`."""
    return profile_of(ModbusProfile, name)


def _read(path: Path) -> AnyProfile:
    """The profile of a file; read again when the file has changed."""
    try:
        state = path.stat()
    except OSError:
        return _read_cached(path, 0, 0)
    return _read_cached(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1000)
def _read_cached(path: Path, changed_ns: int, size: int) -> AnyProfile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}; give a readable YAML file", file=str(path)) from None
    return read_profile(text, file=str(path)).named(path.stem)


def read_profile(text: str, *, file: str = "profile") -> AnyProfile:
    """The profile in a YAML text.

    Raises
    ------
    ConfigError
        With file, line, key, what is wrong and what is allowed.
    """
    lines = YamlLines(text, file, "protocol, model and channels", most_values=MOST_VALUES)
    protocol = lines.data.get("protocol")
    if not isinstance(protocol, str) or protocol not in MODELS:
        allowed = " or ".join(MODELS)
        raise lines.error(("protocol",), f"{protocol!r} is not known; allowed is {allowed}")
    try:
        return MODELS[protocol].model_validate(lines.data)
    except ValidationError as error:
        raise config_error(error, lines) from None


def config_error(error: ValidationError, lines: YamlLines | None = None) -> ConfigError:
    """The first fault pydantic found, as a ConfigError with key, and file and line where they are known."""
    first = error.errors(include_url=False)[0]
    problem = first["msg"].removeprefix("Value error, ")
    if lines is not None:
        return lines.error(first["loc"], problem)
    return ConfigError(problem, key=dotted(first["loc"]))


def channel_name(point: Point) -> str:
    """Channel a point reads: the one it names, else total energy or power by its kind.

    Raises
    ------
    ConfigError
        If the point names none and its kind does not tell.
    """
    name = point.channel or _DEFAULT_CHANNEL.get(point.kind, "")
    if not name:
        raise ConfigError(
            f"a {point.kind} point must name the profile's channel it reads", key=f"{point.id}.channel"
        )
    return name


def find_channel(channels: Iterable[_Channel], name: str) -> tuple[_Channel, int] | None:
    """The channel of that name and its index n (0 where it has none), or None.

    A channel ``outlet_{n}_power_kw`` answers to ``outlet_7_power_kw`` with n = 7.
    """
    for channel in channels:
        indices = channel.indices(name)
        if indices is not None:
            return channel, indices.get("n", 0)
    return None


def channel_for(point: Point, channels: Sequence[_Channel]) -> tuple[_Channel, int]:
    """The channel a point reads and its index n.

    Raises
    ------
    ConfigError
        If there is none of that name, or its kind or unit is not the point's.
    """
    name = channel_name(point)
    found = find_channel(channels, name)
    if found is None:
        offered = ", ".join(c.name for c in channels)
        raise ConfigError(f"{name!r} is not offered; allowed are {offered}", key=f"{point.id}.channel")
    _refuse_other_kind(point, found[0])
    return found


def _refuse_other_kind(point: Point, channel: Channel) -> None:
    if point.kind in ESTIMATE_KINDS:
        wanted = point.quantity.house_unit
        if delivered_unit(channel.unit) != wanted:
            problem = f"channel {channel.name} is not delivered in {wanted}, which {point.kind} takes"
            raise ConfigError(problem, key=f"{point.id}.channel")
        return
    if channel.kind != point.kind:
        raise ConfigError(f"channel {channel.name} is {channel.kind}; use that kind", key=f"{point.id}.kind")
    if point.unit and point.source_unit != point.quantity.house_unit:
        raise ConfigError(
            f"leave unit out: channel {channel.name} is delivered in {delivered_unit(channel.unit)}",
            key=f"{point.id}.unit",
        )
    if channel.quantity is not None and channel.quantity is not point.quantity:
        raise ConfigError(
            f"channel {channel.name} is {channel.quantity.name}, the point is {point.quantity.name}",
            key=f"{point.id}.channel",
        )


def defaults_for(point: Point, profile: HasChannels) -> Point:
    """The point, with the register modulus of its channel where the site file gives none.

    Raises
    ------
    ConfigError
        If the profile does not offer the point's channel.
    """
    channel, _ = channel_for(point, profile.channels)
    if math.isfinite(point.modulus_kwh) or math.isinf(channel.modulus_delivered):
        return point
    return dataclasses.replace(point, modulus_kwh=channel.modulus_delivered)
