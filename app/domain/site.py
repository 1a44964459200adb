"""Institutions, sites, meters and points: what is measured, and what it means.

These are plain frozen dataclasses; ``config.py`` reads them from the site file and the store keeps
them. Identifiers are unique in a deployment, so a reading names its point and nothing else.

A plant changes: meters and points come and go (``valid_from``, ``valid_to``) and some of their values
hold from an instant on (``changes``). What is in force at an instant is a *constant* site, meter or point,
without any dates: :meth:`Site.at`, :meth:`Site.segments`. Code that asks which points count, the feeds or how
much a point weighs asks a constant one; a site without dates is its own.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from app.domain import gateways
from app.domain.emissions import EmissionChoice
from app.domain.jurisdiction import check_jurisdiction
from app.domain.period import Period, ceil, floor
from app.domain.quantity import (
    ENERGY,
    ENERGY_KINDS,
    ENERGY_ROLES,
    ESTIMATE_KINDS,
    IT_ROLES,
    POWER,
    UNITS,
    Quantity,
    ReadingKind,
    Role,
    canonical_unit,
    quantity_of,
)
from app.domain.tariff import Tariff

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_STRICT = {"extra": "forbid"}

ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
"""Start and end of what is always there."""

SOURCE_ROLES = (Role.GENERATOR, Role.RENEWABLE, Role.EXPORT)
"""Roles of meters at which energy is made or leaves: the rating of the supply does not bound them."""
RATING_MARGIN = 1.25
"""Power of a circuit above this multiple of its rating is implausible."""


def check_id(text: str) -> None:
    """Raise ValueError unless `text` can name an institution, site, meter or point."""
    if not _ID.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an identifier; allowed are 1 to 100 of letters, digits and . _ : - , "
            "starting with a letter or digit"
        )


class InstitutionClass(StrEnum):
    """Class of a banking institution; it sets the guideline's PUE limit."""

    STATE_OWNED = "state_owned"
    """State-owned commercial bank."""
    JOINT_STOCK = "joint_stock"
    """Joint-stock commercial bank."""
    OTHER = "other"
    """Any other institution."""


class FacilityIs(StrEnum):
    """Where facility energy comes from."""

    METERED = "metered"
    """Meters with the role `facility` (and generators, less `non_dc`) measure it."""
    SUM_OF_CLASSES = "sum_of_classes"
    """No such meter: the sum of IT energy and every metered overhead class."""


class Stamp(StrEnum):
    """Which end of its interval a source writes as the time of an interval reading."""

    START = "start"
    """The interval begins at the written time."""
    END = "end"
    """The interval ends at the written time."""


class Falls(StrEnum):
    """What a fall of a register means where no wrap explains it."""

    SUSPECT = "suspect"
    """A transient reading or a replaced meter: energy across it is unknown until declared."""
    RESET_TO_ZERO = "reset_to_zero"
    """This register is known to restart from zero (e.g. daily): the new value counts in full."""


class RestartsEvery(StrEnum):
    """Calendar by which a counter restarts from zero, at midnight of its clock."""

    DAY = "day"
    """At every midnight."""
    MONTH = "month"
    """At midnight of the first day of every month."""


class Sampling(StrEnum):
    """When a source writes a reading of power."""

    PERIODIC = "periodic"
    """At regular intervals; between two readings power goes straight from the one to the other."""
    ON_CHANGE = "on_change"
    """When the value changes; until the next reading it stays what it is."""


class Direction(StrEnum):
    """Which way energy flows where a point shows it positive."""

    FORWARD = "forward"
    """Towards the load; less than zero is not believed."""
    REVERSED = "reversed"
    """The transformer is the wrong way round: the sign is turned."""
    BOTH = "both"
    """Energy flows both ways and negative values count (not for registers)."""


@dataclass(frozen=True, kw_only=True)
class Institution:
    """A bank; every site belongs to one."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier; 1 to 100 letters, digits and ``. _ : -``, starting with a letter or digit. E.g.
    ``bank``."""
    name: str = ""
    """Name on pages and reports. E.g. ``Jiangnan Joint-Stock Bank``."""
    institution_class: InstitutionClass
    """Class of the institution; limits and targets may depend on it."""

    def __post_init__(self) -> None:
        check_id(self.id)


@dataclass(frozen=True, kw_only=True)
class PointChange:
    """Values of a point from an instant on; None: as before. Written in the site file as dated lists."""

    __pydantic_config__ = _STRICT
    at: datetime
    role: Role | None = None
    weight: float | None = None
    multiplier: float | None = None
    max_power_kw: float | None = None
    accuracy_class_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class MeterChange:
    """Values of a meter from an instant on; None: as before. Written in the site file as dated lists."""

    __pydantic_config__ = _STRICT
    at: datetime
    room: str | None = None
    fed_by: tuple[str, ...] | None = None
    rated_power_kw: float | None = None
    accuracy_class_percent: float | None = None


DATED_POINT_KEYS = ("role", "weight", "multiplier", "max_power_kw", "accuracy_class_percent")
"""Keys of a point that may be lists of ``{from, value}``."""
DERIVED_KEYS = ("estimates", "ceiling_kw")
"""Keys of a point that no file states."""
DATED_METER_KEYS = ("room", "fed_by", "rated_power_kw", "accuracy_class_percent")
"""Keys of a meter that may be lists of ``{from, value}``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measured series of a meter."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier, unique in the deployment; readings are stored under it. E.g. ``ups-a.kwh``."""
    role: Role
    """What the point measures, seen from the boundary of the data centre."""
    kind: ReadingKind
    """What one reading means: a running count, an instantaneous value, or a value of an interval."""
    name: str = ""
    """Name on pages and reports. E.g. ``UPS A output``."""
    unit: str = ""
    """Unit the source delivers; converted on arrival. Default: the house unit (kWh, kW, m3, C, percent).
    Leave it out for a point that a collector reads through a profile: the profile knows the unit. E.g.
    ``Wh``."""
    channel: str = ""
    """Name of the value in the collector's device profile. Default: `energy_import_kwh` for a register,
    `power_kw` for power. E.g. ``outlet_7_energy_kwh``."""
    weight: float = 1.0
    """Documented share of this point that belongs to the data centre. [ratio] E.g. ``0.35``.

    For shared plant: of a chiller that also cools offices, 0.35 of the energy counts. The weight applies
    to sums (PUE, load classes), not to the balance of the metering tree, which compares what the meters
    themselves say."""
    multiplier: float = 1.0
    """Factor on the readings when energy is computed; raw readings stay as they came. E.g. ``40``.

    The meter constant of a meter behind instrument transformers that it does not know of: 200/5 A
    transformers make 40. Leave 1 where the meter or its profile already gives primary values; compare one
    reading with the panel (`wattline poll --once METER`)."""
    modulus_kwh: float = math.inf
    """Register value at which it wraps to zero, before `multiplier`. [kWh] E.g. ``1000000``.

    A meter with six digits of kWh wraps at 1000000. A fall of the register is then one wrap if that
    explains it: energy = new + modulus - old. Without a modulus a fall is never taken as a wrap. A profile
    that knows its meter's modulus supplies it."""
    max_power_kw: float = math.inf
    """Most power the circuit can carry, with margin, after `multiplier`; more is implausible. [kW] E.g.
    ``750``.

    The meter's `rated_power_kw` with a margin of 25 % holds as well; the smaller of the two counts."""
    falls: Falls = Falls.SUSPECT
    """What a fall of the register means where no wrap explains it.

    Meters that restart from zero every day or at every power loss say `reset_to_zero`; for all others a
    fall is suspect until somebody declares it (`wattline meter event`)."""
    restarts: RestartsEvery | None = None
    """Calendar by which the counter restarts from zero; stands for `falls: reset_to_zero`. E.g. ``day``.

    What fell between the last reading and the restart is an estimate, or not known; a restart that is due is
    seen also where the next reading is higher."""
    clock: str = ""
    """Time zone by whose midnights it restarts. Default: the site's. E.g. ``Asia/Shanghai``."""
    direction: Direction = Direction.FORWARD
    """Which way energy flows where the readings are positive. E.g. ``reversed``.

    `reversed` turns the sign of a meter whose transformers are the wrong way round; `both` lets power and
    interval energy be negative, as at a feed that also exports."""
    interval_s: int = 900
    """Interval at which the point is read, or the length of its stated interval. [s] Default for a polled
    point: the collector's `interval_s`. E.g. ``900``."""
    stamp: Stamp = Stamp.END
    """Which end of its interval a time names that the source writes (interval kinds only)."""
    sampling: Sampling = Sampling.PERIODIC
    """Whether readings of power come at regular intervals, or when the value changes (a change-of-value
    log): each then holds until the next one. E.g. ``on_change``."""
    longest_hold_s: int = 86_400
    """Longest time for which a value holds that no other follows (`sampling: on_change`); beyond it the
    power is not known. [s] E.g. ``57600``."""
    accuracy_class_percent: float | None = None
    """Accuracy class of this point, where it differs from the meter's. [%] E.g. ``0.5``."""
    formula: str = ""
    """Energy computed from other points instead of readings. E.g. ``main.kwh - hall1.kwh``.

    + - * / and parentheses over points of any site and numbers; a - between points stands between spaces.
    Its coverage is the least of its points', its accuracy class follows from theirs unless it is stated,
    and `kind` may be left out."""
    voltage_v: float | None = None
    """Phase voltage by which a current counts (`estimate_from_current`). [V] E.g. ``230``."""
    power_factor: float = 1.0
    """Power factor by which a current counts (`estimate_from_current`). [ratio] E.g. ``0.95``."""
    phases: int = 1
    """Conductors that carry the current that is read, each at `voltage_v` (`estimate_from_current`). Three
    where the reading is the mean of three phases. E.g. ``3``."""
    valid_from: datetime | None = None
    """From when the point is there: a date is the site's midnight. Default: as long as its meter. E.g.
    ``2026-10-12``."""
    valid_to: datetime | None = None
    """Until when, not included: at this instant it is gone. Default: as long as its meter. E.g.
    ``2026-10-12``."""
    formerly: tuple[str, ...] = ()
    """Earlier ids of this point: their readings, energies and ledger are its own. E.g. ``[row-3.kwh]``."""
    estimates: bool = False
    """Whether its energy is an estimate whatever its readings; follows from the kind."""
    ceiling_kw: float = math.inf
    """Most that its meter's other points, its feeders or the supply allow where it has no rating. [kW]"""
    changes: tuple[PointChange, ...] = ()
    """Later values of what the site file writes as dated lists, oldest first."""

    def __post_init__(self) -> None:
        check_id(self.id)
        for former in self.formerly:
            check_id(former)
        if self.id in self.formerly:
            raise ValueError(f"formerly names {self.id!r} itself; list the earlier ids only")
        self._check_values()
        _check_dates(self.valid_from, self.valid_to, self.changes)
        for change in self.changes:
            if quantity_of(change.role or self.role, self.kind) is not self.quantity:
                raise ValueError(f"role {change.role} measures another quantity; declare a second point")
            self.at(change.at)  # its checks see every state

    def _check_values(self) -> None:
        if self.kind is not ReadingKind.GAUGE and self.role not in (*ENERGY_ROLES, Role.WATER):
            raise ValueError(f"role {self.role} takes readings of kind gauge, not {self.kind}")
        if self.kind is ReadingKind.GAUGE and self.role in ENERGY_ROLES and self.role is not Role.NONE:
            raise ValueError(f"role {self.role} needs energy or power, not a gauge")
        for name in ("modulus_kwh", "max_power_kw", "interval_s", "longest_hold_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        if self.sampling is Sampling.ON_CHANGE:
            self._check_sampling()
        if not math.isfinite(self.multiplier) or self.multiplier <= 0:
            raise ValueError("multiplier must be a number above 0")
        if not math.isfinite(self.weight):
            raise ValueError("weight must be a finite number")
        if self.kind in ESTIMATE_KINDS:
            self._check_estimate()
        if self.formula and (self.kind not in ENERGY_KINDS or self.quantity not in (ENERGY, POWER)):
            raise ValueError("formula gives an energy; use an energy role, and leave kind out")
        if self.formula and (self.multiplier != 1 or self.channel):
            raise ValueError("formula takes no multiplier and no channel; write the factor into it")
        if self.restarts is not None:
            object.__setattr__(self, "falls", Falls.RESET_TO_ZERO)
        if self.clock and self.clock not in time_zones():
            raise ValueError(f"clock {self.clock!r}; use an IANA name such as Asia/Shanghai")
        if self.direction is Direction.BOTH and self.kind is ReadingKind.REGISTER:
            raise ValueError(
                "direction both; a register counts one way: give one point for each of its registers"
            )
        self._check_unit()

    def _check_sampling(self) -> None:
        """The longest hold is the longest time between readings, and so their interval."""
        if self.kind is not ReadingKind.POWER and self.kind not in ESTIMATE_KINDS:
            raise ValueError(
                f"sampling on_change is for readings of power; readings of kind {self.kind} have none"
            )
        object.__setattr__(self, "interval_s", self.longest_hold_s)

    def _check_estimate(self) -> None:
        if self.accuracy_class_percent is None:
            raise ValueError(f"accuracy_class_percent is missing: say how good an {self.kind} is, e.g. 10")
        if self.kind is ReadingKind.ESTIMATE_FROM_CURRENT and not (self.voltage_v or 0) > 0:
            raise ValueError("voltage_v is missing: a current counts by the phase voltage, e.g. 230")
        if not 0 < self.power_factor <= 1:
            raise ValueError(f"power_factor {self.power_factor}; allowed is above 0, up to 1")
        if not 1 <= self.phases <= 3:
            raise ValueError(f"phases {self.phases}; allowed are 1, 2 and 3")

    def _check_unit(self) -> None:
        if not self.unit:
            return
        try:
            quantity = UNITS[canonical_unit(self.unit)][0]
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None
        if quantity is not self.quantity:
            raise ValueError(
                f"unit {self.unit} is {quantity.name}, but {self.role}/{self.kind} needs {self.quantity.name}"
            )

    @property
    def is_dated(self) -> bool:
        """Whether it is not always there, or not always the same."""
        return self.valid_from is not None or self.valid_to is not None or bool(self.changes)

    def is_there(self, instant: datetime) -> bool:
        """Whether the point is there at an instant."""
        return _is_within(instant, self.valid_from, self.valid_to)

    def at(self, instant: datetime) -> Point:
        """The point as it is at an instant: constant."""
        if not self.is_dated:
            return self
        return replace(self, **_in_force(self, DATED_POINT_KEYS, instant))

    @property
    def quantity(self) -> Quantity:
        """Quantity the readings are stored in."""
        return quantity_of(self.role, self.kind)

    @property
    def source_unit(self) -> str:
        """Unit the source delivers, in the spelling of ``quantity.UNITS``."""
        return canonical_unit(self.unit) if self.unit else self.quantity.house_unit


class Stage(StrEnum):
    """Place of a meter in the chain from the grid to the load."""

    UTILITY = "utility"
    """Incoming supply from the grid."""
    GENERATOR = "generator"
    """Generator set or on-site generation."""
    TRANSFORMER = "transformer"
    """Transformer or main switchboard."""
    UPS = "ups"
    """Uninterruptible power supply."""
    PDU = "pdu"
    """Power distribution unit, remote power panel or busway."""
    RACK = "rack"
    """Rack PDU or outlet."""
    LOAD = "load"
    """A consumer: chiller, pump, lighting, equipment."""


class Equipment(StrEnum):
    """What kind of plant a meter supplies, for the plant indicators."""

    CHILLER = "chiller"
    """Chiller: the compressors that make chilled water."""
    PUMP = "pump"
    """Pumps of chilled and condenser water."""
    COOLING_TOWER = "cooling_tower"
    """Cooling towers and dry coolers: their fans."""
    PUMPS_AND_TOWERS = "pumps_and_towers"
    """Pumps and cooling towers behind one meter."""
    AIR_HANDLER = "air_handler"
    """Fans of the room air conditioners (CRAH), without compressors."""
    DIRECT_EXPANSION = "direct_expansion"
    """Room air conditioners with compressors (CRAC, direct expansion)."""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """A device with one or more points."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier, unique in the deployment; 1 to 100 letters, digits and ``. _ : -``, starting with a
    letter or digit. E.g. ``ups-a``."""
    points: tuple[Point, ...]
    """What the meter measures; at least one for a meter that is read."""
    name: str = ""
    """Name on pages and reports. E.g. ``UPS A``."""
    room: str = ""
    """Room it stands in or serves; gives energy by room and partial PUE. E.g. ``hall-1``."""
    stage: Stage = Stage.LOAD
    """Place in the chain from the grid to the load."""
    equipment: Equipment | None = None
    """Kind of plant that it supplies: needed for the plant indicators and the opportunities. E.g.
    ``chiller``."""
    fed_by: tuple[str, ...] = ()
    """Meters directly upstream of this one: the metering tree. E.g. ``[utility-a, utility-b]``.

    Name the next meter on the way to the grid, not all of them. Meters that feed the same meter form one
    feed and are balanced together: what they measure less what their children measure is losses and
    unmetered load. A load with two supplies names both. Energy along one path is never counted twice: IT
    energy is taken at the uppermost IT meters."""
    rated_power_kw: float = math.inf
    """Rating of the circuit or equipment. [kW] E.g. ``600``.

    Gives load ratios, headroom and the plausibility limit: more than 125 % of it is implausible. For a
    UPS the active power on its plate (kW, not kVA); for a breaker its rated current times voltage times
    the expected power factor."""
    redundancy: str = "N"
    """``N``, ``N+1`` or ``2N``: how much of the rating of the meter's feed may be used. E.g. ``2N``.

    N: the sum of the ratings; N+1: all but the largest unit; 2N: the weaker half of the units, or half of
    a single one. A feed has the strictest redundancy that one of its meters states."""
    accuracy_class_percent: float = 1.0
    """Accuracy class of the meter, instrument transformers included. [%] E.g. ``0.5``.

    Class 0.5S is 0.5; an active meter of class 1 is 1. Together with class 0.5 current transformers enter
    the root of the sum of squares: sqrt(0.5^2 + 0.5^2) = 0.71. It gives the uncertainty of PUE and the
    tolerance of the balance."""
    collector: dict[str, Any] | None = None
    """How the meter is read: ``kind`` and the settings of that collector. Absent: from files or over HTTP.
    E.g. ``{kind: modbus, host: 10.0.0.7, profile: schneider_pm5xxx}``."""
    imported_from: str = ""
    """Who measured it where the site did not: the station and source of a weather file. E.g. ``Hongqiao
    (ZSSS), NOAA ISD``.

    What rests on its readings says that they are imported, and from where."""
    valid_from: datetime | None = None
    """From when the meter is there: a date is the site's midnight, RFC 3339 an instant. Default: always.
    E.g. ``2026-10-12``."""
    valid_to: datetime | None = None
    """Until when, not included; a meter that is not there has no energy. Default: for ever. E.g.
    ``2026-10-12``.

    No figure waits for a meter that is not there, and what it fed is fed by what fed it. A meter that moved
    stands in both sites under the same ids, with `valid_to` in one and `valid_from` in the other; one that
    was exchanged for another model is two meters, or the same one twice in its site."""
    changes: tuple[MeterChange, ...] = ()
    """Later values of what the site file writes as dated lists, oldest first."""

    def __post_init__(self) -> None:
        check_id(self.id)
        self._check_values()
        _check_dates(self.valid_from, self.valid_to, self.changes)
        for change in self.changes:
            replace(self, points=(), **_in_force(self, DATED_METER_KEYS, change.at))

    def _check_values(self) -> None:
        if self.redundancy not in ("N", "N+1", "2N"):
            raise ValueError(f"redundancy {self.redundancy!r}; allowed are N, N+1, 2N")
        if not self.rated_power_kw > 0:
            raise ValueError("rated_power_kw must be above 0")
        if not 0 <= self.accuracy_class_percent <= 100:
            raise ValueError("accuracy_class_percent must be between 0 and 100")
        for point in self.points:
            if point.kind is ReadingKind.ESTIMATE_FROM_LOAD and not math.isfinite(self.rated_power_kw):
                raise ValueError(f"rated_power_kw is missing: the load of {point.id} is a share of it")

    def accuracy_percent_of(self, point: Point) -> float:
        """Accuracy class of one of its points: its own, else that of the meter. [%]"""
        own = point.accuracy_class_percent
        return self.accuracy_class_percent if own is None else own

    @cached_property
    def is_dated(self) -> bool:
        """Whether it, or one of its points, is not always there or not always the same."""
        own = self.valid_from is not None or self.valid_to is not None or bool(self.changes)
        return own or any(p.is_dated for p in self.points)

    def is_there(self, instant: datetime) -> bool:
        """Whether the meter is there at an instant."""
        return _is_within(instant, self.valid_from, self.valid_to)

    def at(self, instant: datetime) -> Meter:
        """The meter as it is at an instant, with the points that it has then: constant."""
        if not self.is_dated:
            return self
        points = tuple(p.at(instant) for p in self.points if p.is_there(instant))
        return replace(self, points=points, **_in_force(self, DATED_METER_KEYS, instant))

    def segments(self, period: Period) -> Iterator[tuple[Period, Meter]]:
        """Parts of a period in which the meter is there, each with the constant meter."""
        dated: list[Meter | Point] = [self, *self.points]
        inner = {at for d in dated for at in (d.valid_from, d.valid_to, *(c.at for c in d.changes)) if at}
        cuts = sorted(at for at in inner if period.start < at < period.end)
        for start, end in pairwise((period.start, *cuts, period.end)):
            if self.is_there(start):
                yield Period(start, end), self.at(start)

    def latest(self, now: datetime) -> Meter:
        """The meter as it is now, or as it was last, or will be first, where it is not there now."""
        start, end = self.valid_from or ALWAYS[0], self.valid_to or ALWAYS[1]
        then = max(start, min(now, end - timedelta(microseconds=1)))
        points = tuple(p.at(then) for p in self.points)
        return replace(self.at(then), points=points) if self.is_dated else self

    def validity(self, point: Point) -> tuple[datetime, datetime]:
        """From when to when a point is there with this meter; half-open, and empty where never."""
        start = max(at or ALWAYS[0] for at in (self.valid_from, point.valid_from))
        return start, min(at or ALWAYS[1] for at in (self.valid_to, point.valid_to))

    @property
    def read_points(self) -> tuple[Point, ...]:
        """Points that have readings: those without a formula."""
        return tuple(p for p in self.points if not p.formula)

    def effective(self, point: Point) -> Point:
        """`point` with the meter's rating, and a margin on it, as the most it can carry.

        One of the estimating kinds becomes power samples: current x `voltage_v` x `power_factor` x
        `phases`, or load x rating.
        """
        if point.kind in ESTIMATE_KINDS:
            kw_of_one = self._kw_of_one(point)
            point = replace(point, kind=ReadingKind.POWER, unit="", multiplier=kw_of_one, estimates=True)
        if point.quantity not in (ENERGY, POWER):
            return point
        rated_kw = self.rated_power_kw * RATING_MARGIN
        turned = Direction.REVERSED if point.role in self._reversed else point.direction
        return _with(point, max_power_kw=min(point.max_power_kw, rated_kw), direction=turned)

    def others_kw(self, point: Point) -> float:
        """Largest `max_power_kw` of the meter's other points; inf where none states one. [kW]"""
        stated = (p.max_power_kw for p in self.points if p.id != point.id and p.quantity in (ENERGY, POWER))
        return max((kw for kw in stated if math.isfinite(kw)), default=math.inf)

    def _kw_of_one(self, point: Point) -> float:
        """Power that one ampere, or one percent, stands for. [kW]"""
        if point.kind is ReadingKind.ESTIMATE_FROM_LOAD:
            return point.multiplier * self.rated_power_kw / 100
        return point.multiplier * (point.voltage_v or 0.0) * point.power_factor * point.phases / 1000

    def carriers(self) -> tuple[Point, ...]:
        """Points whose energy counts.

        Of the points of one role, those of the most trusted kind carry the energy (register before
        interval energy, interval mean power and power); the others only show it. Behind a reversed
        transformer power comes first: the register of the right direction stands still.
        """
        return self._carriers

    @cached_property
    def _carriers(self) -> tuple[Point, ...]:
        best: dict[Role, int] = {}
        for point in self.points:
            if point.kind in ENERGY_KINDS:
                rank = self._rank(point)
                best[point.role] = min(rank, best.get(point.role, rank))
        return tuple(p for p in self.points if p.kind in ENERGY_KINDS and self._rank(p) == best[p.role])

    def _rank(self, point: Point) -> int:
        rank = ENERGY_KINDS.index(point.kind)
        return -rank if point.role in self._reversed and point.role is not Role.NONE else rank

    @cached_property
    def _reversed(self) -> frozenset[Role]:
        """Roles of which a point says that its transformer is the wrong way round: all of them are then."""
        return frozenset(p.role for p in self.points if p.direction is Direction.REVERSED)


class SiteTrait(StrEnum):
    """What a limit profile may ask about a site beside its size and age."""

    EDGE = "edge"
    """An edge data centre."""
    HUB_NODE = "hub_node"
    """Stands in a cluster of a national computing hub."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What the site was built for."""

    __pydantic_config__ = _STRICT
    it_capacity_kw: float | None = None
    """Designed IT power of the site. [kW] E.g. ``1000``."""
    pue: float | None = None
    """Designed PUE (dPUE). [ratio] E.g. ``1.4``."""
    racks_total: int | None = None
    """Racks the site was built for. E.g. ``240``."""
    floor_area_m2: float | None = None
    """Floor area of the data centre. [m2] E.g. ``5200``."""
    computer_room_area_m2: float | None = None
    """Area of the computer rooms. [m2] E.g. ``1900``."""
    room_it_capacity_kw: dict[str, float] = field(default_factory=dict)
    """Designed IT power by room. [kW] E.g. ``{hall-1: 560, hall-2: 440}``."""


@dataclass(frozen=True, kw_only=True)
class SiteLimit:
    """A limit of the site's own; a laxer one than the class sets needs a reason."""

    __pydantic_config__ = _STRICT
    pue: float
    """Highest PUE that still passes; from 1. [ratio] E.g. ``1.45``."""
    reason: str = ""
    """Why it is laxer than the limit of the class, where it is. E.g. ``Board decision 2026-14``."""

    def __post_init__(self) -> None:
        if not 1 <= self.pue < math.inf:
            raise ValueError(f"limit {self.pue}; allowed is a number from 1, which no site can go below")


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A declared indicator (maturity level, automation share, racks in use ...)."""

    __pydantic_config__ = _STRICT
    indicator: str
    """Name of the indicator: `maturity_level`, `automation_share_percent`, `racks_in_use`, or one that a
    target names. E.g. ``racks_in_use``."""
    value: float
    """The declared value, in the unit that the name says. E.g. ``171``."""
    date: date
    """Day of the declaration; the latest up to a report's last day counts. E.g. ``2026-06-30``."""
    evidence: str
    """What supports it. E.g. ``Half-year inventory of the halls``."""


@dataclass(frozen=True, kw_only=True)
class BusinessLine:
    """A part of the bank that bears a share of the cost of some rooms."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier, unique in the site. E.g. ``retail``."""
    name: str = ""
    """Name on pages. E.g. ``Retail banking``."""
    weights: dict[str, float]
    """Share of each room that it bears, 0 to 1; those of all lines sum up to 1 at most. [ratio] E.g.
    ``{hall-1: 0.7, hall-2: 0.25}``."""

    def __post_init__(self) -> None:
        check_id(self.id)
        for room, weight in self.weights.items():
            if not 0 <= weight <= 1:
                raise ValueError(f"weights of {self.id}: {room} has {weight}; allowed are 0 to 1")


@cache
def time_zones() -> frozenset[str]:
    """Names of all time zones; to find them the whole zone database is walked, so this is done once."""
    return frozenset(available_timezones())


@dataclass(frozen=True, kw_only=True)
class Site:
    """A data centre: the boundary over which PUE is computed."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier, unique in the deployment; 1 to 100 letters, digits and ``. _ : -``, starting with a
    letter or digit. E.g. ``sh1``."""
    name: str = ""
    """Name on pages and reports. E.g. ``Shanghai Data Centre``."""
    institution: str
    """Id of the institution it belongs to. E.g. ``bank``."""
    time_zone: str
    """IANA name; days and months of the site are of this zone. E.g. ``Asia/Shanghai``."""
    region: str = ""
    """Where it lies, to group the sites of a fleet by. E.g. ``East China``."""
    jurisdiction: str = ""
    """Whose law applies: a country (ISO 3166-1) or a part of one (ISO 3166-2); regulations and surcharges go
    by it. E.g. ``CN-BJ``."""
    facility_is: FacilityIs = FacilityIs.METERED
    """Where facility energy comes from."""
    it_energy_at: Role | None = None
    """IT role that carries the IT energy where several are metered. Default: the uppermost in the tree.
    E.g. ``it_pdu_output``."""
    profiles: tuple[str, ...] = ("cbrc_13fyp",)
    """Limit profiles the site is judged by: built-in ones or those of this file. E.g.
    ``[cbrc_13fyp, gb40879_2021]``."""
    traits: tuple[SiteTrait, ...] = ()
    """What limit profiles ask about beside size and age. E.g. ``[edge]``."""
    limit: SiteLimit | None = None
    """A limit of the site's own; alarms and budgets go by it."""
    design: Design = field(default_factory=Design)
    """What the site was built for."""
    started_on: date | None = None
    """First day of operation; some limits depend on it. E.g. ``2017-06-01``."""
    close_month_after_days: int = 5
    """Days after its end at which a month's report is frozen. [d] E.g. ``5``."""
    minimum_coverage_ratio: float = 0.9
    """Below this share of covered time a PUE is not said. [ratio] E.g. ``0.95``."""
    declared: tuple[Declared, ...] = ()
    """Declared indicators, each with its evidence."""
    currency: str = "CNY"
    """Currency of the tariffs (ISO 4217). E.g. ``CNY``."""
    tariffs: tuple[Tariff, ...] = ()
    """Dated prices of electricity; energy without a tariff is stated apart."""
    emissions: EmissionChoice = field(default_factory=EmissionChoice)
    """Which emission factors the site uses."""
    business_lines: tuple[BusinessLine, ...] = ()
    """Parts of the bank among which the cost of the rooms is shared."""
    meters: tuple[Meter, ...] = ()
    """The meters, in any order; `fed_by` makes the tree."""

    def __post_init__(self) -> None:
        check_id(self.id)
        if self.time_zone not in time_zones():
            raise ValueError(f"unknown time zone {self.time_zone!r}; use an IANA name such as Asia/Shanghai")
        if self.it_energy_at is not None and self.it_energy_at not in IT_ROLES:
            raise ValueError(f"it_energy_at {self.it_energy_at}; allowed are {', '.join(IT_ROLES)}")
        if not 0 <= self.minimum_coverage_ratio <= 1:
            raise ValueError("minimum_coverage_ratio must be between 0 and 1")
        check_jurisdiction(self.jurisdiction)
        self._check_business_lines()
        self._check_tree()

    def _check_business_lines(self) -> None:
        ids = [line.id for line in self.business_lines]
        for text in sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"business_lines: id {text!r} is used twice")
        for room in sorted({room for line in self.business_lines for room in line.weights}):
            total = math.fsum(line.weights.get(room, 0.0) for line in self.business_lines)
            if total > 1 + 1e-9:
                raise ValueError(f"business_lines: weights of room {room} sum up to {total:g}, not 1 at most")

    def _check_tree(self) -> None:
        known = {m.id for m in self.meters}
        for meter in self.meters:
            fed_by = {*meter.fed_by, *(f for c in meter.changes for f in c.fed_by or ())}
            for parent in sorted(fed_by - known):
                raise ValueError(f"meter {meter.id}: fed_by names {parent!r}, which is no meter of this site")
        for state in self.states:
            state._check_constant()

    def _check_constant(self) -> None:
        ids = [m.id for m in self.meters] + [p.id for p in self.points()]
        for text in sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) != len(ids) else ():
            raise ValueError(f"id {text!r} is used twice in site {self.id}")
        for meter in self.meters:
            if meter.id in self.upstream(meter.id):
                raise ValueError(f"meter {meter.id}: fed_by leads back to itself")

    @cached_property
    def is_dated(self) -> bool:
        """Whether its meters and points are not always there, or not always the same."""
        return any(m.is_dated for m in self.meters)

    @cached_property
    def turns(self) -> tuple[datetime, ...]:
        """Instants at which something about the meters changes, in order of time. UTC."""
        dated: list[Meter | Point] = [*self.meters, *self.points()]
        ends = {d.valid_from for d in dated} | {d.valid_to for d in dated}
        found = ends | {c.at for d in dated for c in d.changes}
        return tuple(sorted(at.astimezone(UTC) for at in found if at is not None))

    @cached_property
    def states(self) -> tuple[Site, ...]:
        """The constant sites before, between and after the turns; one without dates is its own."""
        if not self.is_dated:
            return (self,)
        return tuple(self._constant(at) for at in (ALWAYS[0], *self.turns))

    def _constant(self, instant: datetime) -> Site:
        there = [m for m in self.meters if m.is_there(instant)]
        now = {m.id: m.at(instant) for m in there}
        above = {m.id: m.at(instant).fed_by for m in self.meters if m.id not in now} | {
            m.id: m.fed_by for m in now.values()
        }
        if len(now) != len(there):
            twice = next(m.id for m in there if m is not next(x for x in there if x.id == m.id))
            raise ValueError(f"meter {twice!r} is declared twice for the same time")
        return replace(self, meters=tuple(_fed(m, now, above) for m in now.values()))

    def at(self, instant: datetime) -> Site:
        """The site as it is at an instant: constant.

        Meters that are not there are left out, and what they feed is fed by what feeds them.
        """
        return self.states[bisect_right(self.turns, instant)] if self.is_dated else self

    def segments(self, period: Period) -> tuple[Segment, ...]:
        """The period in parts over each of which the site is constant, in order of time."""
        if not self.is_dated:
            return (Segment(period, self),)
        inner = [at for at in self.turns if period.start < at < period.end]
        parts = [Period(a, b) for a, b in pairwise((period.start, *inner, period.end))]
        return tuple(Segment(part, self.at(part.start)) for part in parts)

    def interval_segments(self, period: Period) -> tuple[Segment, ...]:
        """The same in whole 15-minute intervals, to which energies are kept.

        An interval in which something changes belongs to what comes after, and one in which a point leaves
        still to the point: none of its energy is left out.
        """
        return self._in_intervals.segments(period)

    @cached_property
    def _in_intervals(self) -> Site:
        if all(floor(at) == at for at in self.turns):
            return self
        ids = [m.id for m in self.meters]
        return replace(self, meters=tuple(_in_intervals(m, stays=ids.count(m.id) == 1) for m in self.meters))

    def during(self, period: Period) -> Site:
        """The site as a period saw it: without what was not there, and what changed before or after it.

        What does not touch the period leaves no trace in it, so a closed month stays as it was.
        """
        if not self.is_dated:
            return self
        meters = tuple(cut for m in self.meters if (cut := _cut_meter(m, period)) is not None)
        known, above = {m.id for m in meters}, {m.id: m.fed_by for m in self.meters}
        return replace(self, meters=tuple(_fed(m, known, above) for m in meters))

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.time_zone)

    def effective(self, meter: Meter, point: Point) -> Point:
        """`point` as its energy is computed: with what its meter and this site say about it."""
        own, point = point, meter.effective(point)
        if point.falls is Falls.RESET_TO_ZERO and not point.clock:
            point = replace(point, clock=self.time_zone)
        if math.isfinite(point.max_power_kw) or point.quantity not in (ENERGY, POWER):
            return point
        ceiling_kw = min(meter.others_kw(own), self._ceilings_kw.get(meter.id, math.inf))
        return _with(point, ceiling_kw=ceiling_kw) if math.isfinite(ceiling_kw) else point

    @cached_property
    def gateways(self) -> dict[str, list[Meter]]:
        """The polled meters behind each address that several of them share."""
        return gateways.shared(self.meters)

    @cached_property
    def _ceilings_kw(self) -> dict[str, float]:
        """Most that what feeds a meter could ever carry, with the margin of ratings; inf: it is not known."""
        found: dict[str, float] = {}
        for state in self.states:
            known: dict[str, float] = {}
            for meter in state.meters:
                most = RATING_MARGIN * state._fed_kw(meter, known)
                found[meter.id] = max(found.get(meter.id, 0.0), most)
        return found

    def _fed_kw(self, meter: Meter, known: dict[str, float]) -> float:
        """Sum of the ratings of a meter's feeders; of one without any, of the site's supply. [kW]"""
        if meter.id not in known:
            supply = self._supply
            is_source = meter.id in supply or any(p.role in SOURCE_ROLES for p in meter.points)
            feeders = meter.fed_by or (() if is_source else supply)
            by_id = {m.id: m for m in self.meters}
            known[meter.id] = sum(self._carried_kw(by_id[f], known) for f in feeders) or math.inf
        return known[meter.id]

    def _carried_kw(self, meter: Meter, known: dict[str, float]) -> float:
        rated = meter.rated_power_kw
        return rated if math.isfinite(rated) else self._fed_kw(meter, known)

    @cached_property
    def _supply(self) -> tuple[str, ...]:
        """Meters at which energy comes in or is made; none where nothing measures the facility."""
        facility = {self.meter_of[p.id].id for p in self.carriers(Role.FACILITY)}
        made = {m.id for m in self.meters if any(p.role in SOURCE_ROLES for p in m.points)}
        return tuple(sorted(facility | made)) if facility else ()

    @cached_property
    def boundaries(self) -> dict[str, Any]:
        """What counts, by room; kept here by ``pue.boundary``."""
        return {}

    @cached_property
    def accuracy_percent(self) -> Mapping[str, float]:
        """Accuracy class of each point. [%]"""
        return {p.id: m.accuracy_percent_of(p) for m in self.meters for p in m.points}

    @cached_property
    def classless(self) -> tuple[str, ...]:
        """Points that are computed and state no accuracy class."""
        return tuple(p.id for p in self.points() if p.formula and p.accuracy_class_percent is None)

    def points(self) -> Iterator[Point]:
        """Every point of the site."""
        for meter in self.meters:
            yield from meter.points

    @cached_property
    def is_rated(self) -> bool:
        """Whether a meter ever has a rating."""
        return any(math.isfinite(m.rated_power_kw) for state in self.states for m in state.meters)

    @cached_property
    def rooms(self) -> tuple[str, ...]:
        """Names of all rooms that a meter ever stood in, sorted."""
        named = {m.room for m in self.meters} | {c.room for m in self.meters for c in m.changes}
        return tuple(sorted(filter(None, named)))

    @cached_property
    def meter_of(self) -> dict[str, Meter]:
        """Meter by the id of its point."""
        return {p.id: m for m in self.meters for p in m.points}

    @cached_property
    def _fed_by(self) -> dict[str, tuple[str, ...]]:
        return {m.id: m.fed_by for m in self.meters}

    def upstream(self, meter_id: str) -> set[str]:
        """Ids of all meters above this one in the tree."""
        parents = self._fed_by
        seen: set[str] = set()
        todo = list(parents[meter_id])
        while todo:
            current = todo.pop()
            if current not in seen:
                seen.add(current)
                todo.extend(parents.get(current, ()))
        return seen

    def it_carriers(self) -> tuple[Point, ...]:
        """Points that carry the IT energy, none counted twice along the tree."""
        return self._it_carriers

    @cached_property
    def _it_carriers(self) -> tuple[Point, ...]:
        carriers = {m.id: [p for p in m.carriers() if p.role in IT_ROLES] for m in self.meters}
        if self.it_energy_at is not None:
            return tuple(p for points in carriers.values() for p in points if p.role is self.it_energy_at)
        with_it = {meter_id for meter_id, points in carriers.items() if points}
        return tuple(
            p
            for meter_id, points in carriers.items()
            if not self.upstream(meter_id) & with_it
            for p in points
        )

    def carriers(self, *roles: Role) -> tuple[Point, ...]:
        """Points of the given roles (not IT) that carry energy; of facility meters in a row the uppermost."""
        return tuple(p for p in self._carrying if p.role in roles)

    @cached_property
    def _carrying(self) -> tuple[Point, ...]:
        return tuple(
            p
            for m in self.meters
            for p in m.carriers()
            if not (p.role is Role.FACILITY and self.upstream(m.id) & self._with_facility)
        )

    @cached_property
    def _with_facility(self) -> set[str]:
        return {m.id for m in self.meters if any(p.role is Role.FACILITY for p in m.carriers())}


class Segment(NamedTuple):
    """Part of a period over which the site is constant."""

    period: Period
    site: Site


class Placement(NamedTuple):
    """A point with the meter and site that it belongs to for a time, half-open."""

    start: datetime
    end: datetime
    site: Site
    meter: Meter
    point: Point


_D = TypeVar("_D", Point, Meter)


def _check_dates(start: datetime | None, end: datetime | None, changes: tuple[Any, ...]) -> None:
    dates = [d for d in (start, end, *(c.at for c in changes)) if d is not None]
    if any(d.tzinfo is None for d in dates):
        raise ValueError("dates need a zone, e.g. 2026-10-01T00:00:00+08:00")
    if start is not None and end is not None and end <= start:
        raise ValueError(f"valid_to {end.isoformat()} is not after valid_from {start.isoformat()}")
    if any(b.at <= a.at for a, b in pairwise(changes)):
        raise ValueError("changes must be in order of time, one for each instant")


_POINT_FIELDS = tuple(f.name for f in fields(Point))


def _with(point: Point, **values: Any) -> Point:
    """The point with values that need no check: each point of a fleet is asked for this, at each change."""
    other = object.__new__(Point)
    for name in _POINT_FIELDS:
        object.__setattr__(other, name, values[name] if name in values else getattr(point, name))
    return other


def _is_within(instant: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or start <= instant) and (end is None or instant < end)


def _in_force(thing: Point | Meter, keys: tuple[str, ...], instant: datetime) -> dict[str, Any]:
    """Values of `keys` at an instant, and no dates: what makes a point or meter constant."""
    values: dict[str, Any] = {"valid_from": None, "valid_to": None, "changes": ()}
    for change in thing.changes:
        if change.at <= instant:
            values |= {key: v for key in keys if (v := getattr(change, key)) is not None}
    return values


def _present(
    fed_by: tuple[str, ...], there: Container[str], above: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The nearest meters upstream that are there."""
    found: dict[str, None] = {}
    todo, seen = list(fed_by), set[str]()
    while todo:
        parent = todo.pop(0)
        if parent in there:
            found[parent] = None
        elif parent not in seen:
            todo.extend(above.get(parent, ()))
        seen.add(parent)
    return tuple(found)


def _in_intervals(meter: Meter, *, stays: bool) -> Meter:
    own = replace(meter, points=(), **_rounded(meter, stays=stays))
    return replace(own, points=tuple(replace(p, **_rounded(p, stays=stays)) for p in meter.points))


def _rounded(thing: Meter | Point, *, stays: bool) -> dict[str, Any]:
    """Dates on 15-minute boundaries, down; ends up, where what `stays` meets no other of its name."""
    start, end = thing.valid_from, thing.valid_to
    changes = {floor(c.at): c for c in thing.changes}
    return {
        "valid_from": None if start is None else floor(start),
        "valid_to": None if end is None else ceil(end) if stays else floor(end),
        "changes": tuple(replace(c, at=at) for at, c in changes.items()),
    }


def _fed(meter: Meter, there: Container[str], above: Mapping[str, tuple[str, ...]]) -> Meter:
    """The meter, fed by the nearest meters upstream that are there."""
    fed_by = _present(meter.fed_by, there, above)
    changes = tuple(
        c if c.fed_by is None else replace(c, fed_by=_present(c.fed_by, there, above)) for c in meter.changes
    )
    same = fed_by == meter.fed_by and changes == meter.changes
    return meter if same else replace(meter, fed_by=fed_by, changes=changes)


def _cut_meter(meter: Meter, period: Period) -> Meter | None:
    own = _cut(meter, DATED_METER_KEYS, period)
    if own is None:
        return None
    points = (_cut(p, DATED_POINT_KEYS, period) for p in meter.points)
    return replace(own, points=tuple(p for p in points if p is not None))


def _cut(thing: _D, keys: tuple[str, ...], period: Period) -> _D | None:
    """A meter or point with only those dates that lie within a period; None where it is not there."""
    start, end = thing.valid_from, thing.valid_to
    if (start is not None and start >= period.end) or (end is not None and end <= period.start):
        return None
    dates = {
        "valid_from": start if start is not None and start > period.start else None,
        "valid_to": end if end is not None and end < period.end else None,
        "changes": tuple(c for c in thing.changes if period.start < c.at < period.end),
    }
    return replace(thing, **{**_in_force(thing, keys, period.start), **dates})


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Everything that is measured: the institutions and their sites."""

    __pydantic_config__ = _STRICT
    institutions: tuple[Institution, ...] = ()
    sites: tuple[Site, ...] = ()

    def __post_init__(self) -> None:
        _refuse_twice("institution", (i.id for i in self.institutions))
        _refuse_twice("site", (s.id for s in self.sites))
        problems = list(overlaps(self.sites))
        if problems:
            raise ValueError(problems[0].problem)
        for site in self.sites:
            if site.institution not in self.institution:
                raise ValueError(
                    f"site {site.id}: institution {site.institution!r} is not declared; "
                    f"declared are {', '.join(sorted(self.institution)) or 'none'}"
                )

    @cached_property
    def institution(self) -> dict[str, Institution]:
        """Institution by id."""
        return {i.id: i for i in self.institutions}

    @cached_property
    def site(self) -> dict[str, Site]:
        """Site by id."""
        return {s.id: s for s in self.sites}

    def at(self, instant: datetime) -> Fleet:
        """What is measured at an instant: constant; the same object as long as nothing changes."""
        there = tuple(s.at(instant) for s in self.sites)
        if all(now is declared for now, declared in zip(there, self.sites, strict=True)):
            return self
        key = tuple(map(id, there))  # of objects that the sites keep
        if key not in self._there:
            self._there.clear()
            self._there[key] = replace(self, sites=there)
        return self._there[key]

    @cached_property
    def _there(self) -> dict[tuple[int, ...], Fleet]:
        return {}

    @cached_property
    def meter(self) -> dict[str, tuple[Site, Meter]]:
        """Meter, with the site it stands in, by the meter's id; of one that moved, where it went last."""
        standing = sorted(
            ((s, m) for s in self.sites for m in s.meters), key=lambda x: x[1].valid_from or ALWAYS[0]
        )
        latest = {m.id: (s, m) for s, m in standing}
        return {m.id: latest[m.id] for s in self.sites for m in s.meters}

    @cached_property
    def declared(self) -> dict[str, dict[str, tuple[Meter, ...]]]:
        """Every declaration of a meter, by the meter's id and that of the site it stands or stood in."""
        found: dict[str, dict[str, tuple[Meter, ...]]] = {}
        for site in self.sites:
            for meter in site.meters:
                of_site = found.setdefault(meter.id, {})
                of_site[site.id] = (*of_site.get(site.id, ()), meter)
        return found

    @cached_property
    def point(self) -> dict[str, tuple[Site, Meter, Point]]:
        """Point, with its site and meter, by the point's id; of one that moved, where it went last."""
        return {key: placed[-1][2:] for key, placed in self.placements.items()}

    @cached_property
    def placements(self) -> dict[str, tuple[Placement, ...]]:
        """Where a point is and was, by its id, in order of time; their times do not overlap."""
        found: dict[str, list[Placement]] = {}
        for site in self.sites:
            for meter in site.meters:
                for point in meter.points:
                    placed = Placement(*meter.validity(point), site, meter, point)
                    found.setdefault(point.id, []).append(placed)
        return {key: tuple(sorted(placed, key=lambda p: p.start)) for key, placed in found.items()}


class Overlap(NamedTuple):
    """A meter or point that is declared twice for the same time: positions of the second declaration."""

    site: int
    meter: int
    point: int | None
    problem: str


def overlaps(sites: tuple[Site, ...]) -> Iterator[Overlap]:
    """Ids that are used twice: by two meters or points at the same time, or by points of two meters."""
    meters: dict[str, list[Meter]] = {}
    points: dict[str, list[tuple[Meter, Point]]] = {}
    for n, site in enumerate(sites):
        for m, meter in enumerate(site.meters):
            if any(_overlap(meter, other) for other in meters.get(meter.id, ())):
                yield Overlap(n, m, None, _twice("meter", meter.id))
                continue
            meters.setdefault(meter.id, []).append(meter)
            for p, point in enumerate(meter.points):
                for other, same in points.get(point.id, ()):
                    if other.id != meter.id or _meet(meter.validity(point), other.validity(same)):
                        yield Overlap(n, m, p, _twice("point", point.id))
                        break
                else:
                    points.setdefault(point.id, []).append((meter, point))


def _twice(what: str, name: str) -> str:
    hint = "; a meter that moved has valid_to in one place and valid_from in the other"
    return f"{what} {name!r} is used twice for the same time; ids are unique in a deployment{hint}"


def _overlap(one: Meter, other: Meter) -> bool:
    first, second = ((m.valid_from or ALWAYS[0], m.valid_to or ALWAYS[1]) for m in (one, other))
    return _meet(first, second)


def _meet(one: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _refuse_twice(what: str, ids: Iterator[str]) -> None:
    seen: set[str] = set()
    for text in ids:
        if text in seen:
            raise ValueError(f"{what} id {text!r} is used twice; identifiers are unique in a deployment")
        seen.add(text)
