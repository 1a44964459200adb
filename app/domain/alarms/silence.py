"""How long meters that are polled, and the addresses they share, have been silent; by columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from app.domain.alarms.alarm import Indicator
from app.domain.alarms.resting import Floats, Ints, Subjects
from app.domain.gateways import addresses_of, is_polled
from app.domain.site import Meter, Site

NEVER_US = np.iinfo(np.int64).min
"""In place of the newest reading of a point that has none. [us]"""
LEAST_INTERVAL_S = 60
"""A meter that is polled more often is silent by the minute. [s]"""
_UNKNOWN = "never reported"


class PolledMeters:
    """The polled meters of a constant site and the addresses that several of them share, as columns.

    Hosts come before their ports.
    """

    def __init__(self, site: Site) -> None:
        meters = list(filter(is_polled, site.meters))
        self._place = {meter.id: n for n, meter in enumerate(meters)}
        self.points = tuple(p.id for m in meters for p in m.points)
        """Points whose readings end the silence of a meter."""
        self._meter_of = np.repeat(np.arange(len(meters)), [len(m.points) for m in meters])
        self._interval_s = np.array([_interval_s(m) for m in meters], np.float64)
        shared = site.gateways
        self._behind = [np.array([self._place[m.id] for m in own], np.int64) for own in shared.values()]
        within = {m.id: tuple(a for a in addresses_of(m) if a in shared) for m in meters}
        self.meters = Subjects(site.id, tuple(self._place), _UNKNOWN, within)
        self.gateways = Subjects(site.id, tuple(shared), _UNKNOWN, _hosts(shared))

    def subjects(self, indicator: Indicator) -> Subjects:
        """The meters, or the addresses."""
        return self.meters if indicator is Indicator.METER_SILENT_INTERVALS else self.gateways

    def intervals(self, indicator: Indicator, at_us: int, newest_us: Ints) -> Floats:
        """Time since the newest reading of every subject, in the intervals of its meters; NaN: never.

        The shortest of all meters behind an address.

        Parameters
        ----------
        at_us : int
            Instant. [us since 1970]
        newest_us : int64 array, shape (points,)
            Newest reading of every point, or :data:`NEVER_US`.
        """
        last_us, is_known = self._last_us(newest_us)
        silent = np.where(is_known, np.maximum(at_us - last_us, 0) / 1e6 / self._interval_s, np.nan)
        return self._of(indicator, silent, np.fmin)

    def crossed_us(self, indicator: Indicator, newest_us: Ints, threshold: float) -> Floats:
        """When the silence of every subject reaches a threshold if nothing more comes; NaN: never."""
        last_us, is_known = self._last_us(newest_us)
        at_us = np.where(is_known, last_us + threshold * self._interval_s * 1e6, np.nan)
        return self._of(indicator, at_us, np.fmax)

    def points_of(self, indicator: Indicator, numbers: Ints) -> Ints:
        """Places of the points of some subjects."""
        meters = numbers
        if indicator is not Indicator.METER_SILENT_INTERVALS:
            meters = np.concatenate([self._behind[n] for n in numbers]) if len(numbers) else numbers
        return np.flatnonzero(np.isin(self._meter_of, meters))

    def _last_us(self, newest_us: Ints) -> tuple[Ints, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Newest reading of each meter, and whether there is one."""
        last_us = np.full(len(self._interval_s), NEVER_US)
        np.maximum.at(last_us, self._meter_of, newest_us)
        is_known = last_us != NEVER_US
        return np.where(is_known, last_us, 0), is_known

    def _of(self, indicator: Indicator, of_meters: Floats, best: np.ufunc) -> Floats:
        if indicator is Indicator.METER_SILENT_INTERVALS:
            return of_meters
        return np.array([best.reduce(of_meters[own]) for own in self._behind], np.float64)


def _interval_s(meter: Meter) -> float:
    own_s = (meter.collector or {}).get("interval_s")
    return max(LEAST_INTERVAL_S, own_s or min((p.interval_s for p in meter.points), default=LEAST_INTERVAL_S))


def _hosts(shared: Mapping[str, list[Meter]]) -> dict[str, tuple[str, ...]]:
    """The host of each address that is a port of one."""
    host_of = {address: addresses_of(meters[0])[0] for address, meters in shared.items()}
    return {address: (host,) for address, host in host_of.items() if host != address}
