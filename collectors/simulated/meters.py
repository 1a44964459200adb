"""Simulated meters: what each channel of a meter says at an instant, defects included.

A meter ``sh1-chiller-1`` measures signal ``chiller_1`` of plant ``sh1``. Its history and its live
values come from the same function, so they meet without a step.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from app.domain.quantity import TEMPERATURE, ReadingKind, Role
from app.domain.site import Meter, Point
from app.errors import NotFound
from collectors.simulated.defects import Defect, DefectKind
from collectors.simulated.physics import Floats, Instants, Plant, instants

OUTLET_SHARES = (0.31, 0.22, 0.17, 0.12, 0.08, 0.05, 0.03, 0.02)
"""Share of each outlet of a rack PDU in its inlet's power."""

PHASE_SHARES = (0.345, 0.335, 0.320)
"""Share of each phase in the total."""

_PARTS = re.compile(r"(?P<part>unit|infeed|outlet|bank|sensor)_(?P<n>\d+)_")
_CHANNEL = re.compile(
    r"(?:energy|energy_import|energy_import_float|energy_total|power|apparent_power|current)"
    r"(?:_l(?P<phase>[123]))?_(?:kwh|kw|kva|a)"
)

_STEADY = {
    "frequency_hz": 50.0,
    "power_factor_ratio": 0.97,
    "load_percent": 41.0,
    "energy_export_kwh": 0.0,
}

_POWER_FACTOR = 0.97
_MAINS_V = 230.0

_DEFAULT_CHANNEL = {
    ReadingKind.REGISTER: "energy_import_kwh",
    ReadingKind.POWER: "power_kw",
    ReadingKind.INTERVAL_ENERGY: "energy_import_kwh",
    ReadingKind.INTERVAL_MEAN_POWER: "energy_import_kwh",
}

_GAUGE_CHANNEL = {
    Role.HUMIDITY: "humidity_percent",
    Role.OUTDOOR_RELATIVE_HUMIDITY: "humidity_percent",
    Role.UTILISATION: "cpu_percent",
}


def channel_of(point: Point) -> str:
    """The channel a point reads: the one it names, else by its kind and role."""
    if point.channel:
        return point.channel
    if point.role is Role.WATER:
        return "volume_m3"
    if point.kind is ReadingKind.GAUGE:
        return "temperature_c" if point.quantity is TEMPERATURE else _GAUGE_CHANNEL[point.role]
    return _DEFAULT_CHANNEL[point.kind]


class SimulatedMeter:
    """One meter on a plant.

    Parameters
    ----------
    plant : Plant
        What it measures.
    meter : Meter
        Its definition; the id without the site's prefix names the signal.
    defects : sequence of Defect
        Those of the demo; others' are ignored.
    """

    def __init__(self, plant: Plant, meter: Meter, defects: Sequence[Defect] = ()) -> None:
        self._plant = plant
        self._signal = meter.id.split("-", 1)[1].replace("-", "_")
        self._defects = tuple(d for d in defects if d.meter == meter.id)
        self._installed = _start_value(meter)
        self._counts: dict[datetime, float] = {}

    def read(self, channel: str, at: Instants) -> Floats:
        """Values of a channel; NaN where the meter does not answer.

        Returns
        -------
        ndarray of float64
            In the unit the channel's name ends in.

        Raises
        ------
        NotFound
            If the meter has no such channel.
        SeriesError
            If an instant lies before the simulation begins.
        """
        shown = [d for d in self._defects if d.touches(channel)]
        asked = _held(at, shown)
        if channel.endswith(("_kwh", "_m3")) and channel not in _STEADY:
            values = self._register(channel, asked, shown)
        else:
            values = self._instantaneous(channel, asked)
        return _spoilt(values, at, shown)

    def energy(self, start: Instants, end: Instants) -> Floats:
        """Exact energy of intervals, as a device computes it that states intervals. [kWh]"""
        return self._plant.integrals(self._signal, end) - self._plant.integrals(self._signal, start)

    def value(self, channel: str, at: datetime) -> float:
        """As `read`, at one instant.

        Raises
        ------
        NotFound
            If the meter has no such channel.
        SeriesError
            If `at` is naive or lies before the simulation begins.
        """
        return float(self.read(channel, instants([at]))[0])

    def offered(self, channel: str, at: datetime) -> float:
        """As `value`, but NaN for channels the model knows nothing of: a device that has no such value."""
        try:
            return self.value(channel, at)
        except NotFound:
            return math.nan

    def _register(self, channel: str, at: Instants, shown: Sequence[Defect]) -> Floats:
        share = self._share(channel)
        total = share * (self._installed + self._plant.integrals(self._signal, at))
        for defect in shown:
            if defect.kind in (DefectKind.RESET, DefectKind.REPLACED):
                total = np.where(at >= _instant(defect.start), total - self._count(defect, share), total)
            elif defect.kind is DefectKind.ROLLOVER:
                total = (total + defect.amount - self._count(defect, share)) % defect.amount
        # Counted in Wh and multiplied last, as a collector does: equal to the last bit, so that a standing
        # register does not seem to fall between history and device.
        return np.floor(total * 1000) * 1e-3

    def _count(self, defect: Defect, share: float) -> float:
        """What the register had counted when the defect happened. [kWh]"""
        if defect.start not in self._counts:
            self._counts[defect.start] = self._plant.integral(self._signal, defect.start)
        return share * (self._installed + self._counts[defect.start])

    def _instantaneous(self, channel: str, at: Instants) -> Floats:
        gauge = f"{self._signal}.{_PARTS.sub('', channel)}"
        if gauge in self._plant.signals:
            return np.round(self._plant.values(gauge, at), 1)
        if channel in _STEADY or channel.startswith("voltage"):
            level = _STEADY.get(channel, _MAINS_V)
            return np.full(at.shape, level)
        power_kw = self._share(channel) * self._plant.values(self._signal, at)
        if channel.endswith("_kva"):
            return np.round(power_kw / _POWER_FACTOR, 3)
        if channel.endswith("_a"):
            phases = 1 if re.search(r"_l[123]_", channel) else 3
            return np.round(1000 * power_kw / (_POWER_FACTOR * _MAINS_V * phases), 2)
        return np.round(power_kw, 3)

    def _share(self, channel: str) -> float:
        """Part of the signal that the channel shows: a phase, an outlet, or all of it."""
        if channel == "volume_m3":
            return 1.0
        found = _CHANNEL.fullmatch(_PARTS.sub("", channel))
        if found is None or self._signal not in self._plant.signals:
            raise NotFound(f"the simulated meter of {self._signal} has no channel {channel}")
        share = PHASE_SHARES[int(found["phase"]) - 1] if found["phase"] else 1.0
        return share * math.prod(_part_share(m["part"], int(m["n"])) for m in _PARTS.finditer(channel))


def _part_share(part: str, n: int) -> float:
    """Share of the n-th outlet, or of the n-th inlet or unit, of which there is one."""
    if part == "outlet":
        return OUTLET_SHARES[n - 1] if n <= len(OUTLET_SHARES) else 0.0
    return 1.0 if n == 1 else 0.0


def _instant(at: datetime) -> Instants:
    return instants([at])


def _inside(at: Instants, defect: Defect) -> npt.NDArray[np.bool_]:
    return (at >= _instant(defect.start)) & (at < _instant(defect.end))


def _held(at: Instants, shown: Sequence[Defect]) -> Instants:
    """The instants whose values are shown: a stuck meter goes on showing those of its start."""
    for defect in shown:
        if defect.kind is DefectKind.STUCK:
            at = np.where(_inside(at, defect), _instant(defect.start), at)
    return at


def _spoilt(values: Floats, at: Instants, shown: Sequence[Defect]) -> Floats:
    for defect in shown:
        inside = _inside(at, defect)
        if defect.kind is DefectKind.GAP:
            values = np.where(inside, np.nan, values)
        elif defect.kind is DefectKind.SPIKE:
            values = np.where(inside, values + defect.amount, values)
        elif defect.kind is DefectKind.TRANSIENT_ZERO:
            values = np.where(inside, 0.0, values)
        elif defect.kind is DefectKind.NEGATIVE_POWER:
            values = np.where(inside, defect.amount, values)
    return values


def _start_value(meter: Meter) -> float:
    """What the register showed when the simulation began: the meter is some years old. [kWh]"""
    size = min(meter.rated_power_kw, 400.0)
    return round(size * (150 + zlib.crc32(meter.id.encode()) % 350), 0)
