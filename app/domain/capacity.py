"""How much of the capacity is used: the site, its rooms, and every feed down to the rack.

Power is the mean of each 15-minute interval; a peak is the highest of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.domain.site import Meter, Site, Stage
from app.domain.tree import Feed, by_state, feeds, inflow_points, meter_flows, sums

Floats = npt.NDArray[np.float64]

INTERVALS_PER_HOUR = 4

LOW_RATIO = 0.3
"""Mean load below this share of the usable capacity is called low."""
TIGHT_RATIO = 0.9
"""Peak load above this share of the usable capacity is called tight."""


class LoadState(StrEnum):
    """What a load says about its capacity."""

    LOW = "low"
    NORMAL = "normal"
    TIGHT = "tight"
    OVER = "over"
    """More than usable: with redundancy, the loss of one unit would not be survived."""
    UNKNOWN = "unknown"
    """Nothing measured, or no capacity stated."""


@dataclass(frozen=True, slots=True)
class Load:
    """Use of one capacity over a period."""

    capacity_kw: float | None
    mean_kw: float | None
    peak_kw: float | None
    peak_at: datetime | None
    """Start of the interval of the peak."""
    coverage_ratio: float

    @property
    def mean_ratio(self) -> float | None:
        """Mean load by capacity; for IT against design this is the IT load rate."""
        return _by(self.mean_kw, self.capacity_kw)

    @property
    def peak_ratio(self) -> float | None:
        """Peak load by capacity."""
        return _by(self.peak_kw, self.capacity_kw)

    @property
    def headroom_kw(self) -> float | None:
        """Capacity that the peak left unused, not below zero. [kW]"""
        if self.capacity_kw is None or self.peak_kw is None:
            return None
        return max(self.capacity_kw - self.peak_kw, 0.0)

    @property
    def state(self) -> LoadState:
        """The peak against the capacity, and the mean against low use."""
        if self.mean_ratio is None or self.peak_ratio is None:
            return LoadState.UNKNOWN
        if self.peak_ratio > 1:
            return LoadState.OVER
        if self.peak_ratio > TIGHT_RATIO:
            return LoadState.TIGHT
        return LoadState.LOW if self.mean_ratio < LOW_RATIO else LoadState.NORMAL


@dataclass(frozen=True, slots=True)
class FeedLoad:
    """Load of the meters that feed the same children, against what their redundancy lets them carry."""

    feed: Feed
    redundancy: str
    rated_kw: float | None
    """Sum of the ratings. [kW] None where one is not stated."""
    load: Load
    """Its capacity is the usable part of the ratings."""
    stranded_kw: float | None
    """Headroom of the feeds below that this feed cannot supply. [kW] None where either is unknown."""

    @property
    def state(self) -> LoadState:
        """State of the load; low use is remarkable in the chain of supply, not of a chiller or a lamp."""
        is_idle_equipment = self.load.state is LoadState.LOW and self.feed.stage is Stage.LOAD
        return LoadState.NORMAL if is_idle_equipment else self.load.state


def load(power_kw: pd.Series[float], capacity_kw: float | None) -> Load:
    """Use of a capacity.

    Parameters
    ----------
    power_kw : Series of float64, shape (n,)
        Mean power per interval, indexed by its start. [kW] NaN: not known.
    capacity_kw : float or None
        [kW] None or infinite: not stated.
    """
    return _load(np.asarray(power_kw, np.float64), pd.DatetimeIndex(power_kw.index), capacity_kw)


def _load(values: Floats, index: pd.DatetimeIndex, capacity_kw: float | None) -> Load:
    stated = capacity_kw if capacity_kw is not None and math.isfinite(capacity_kw) else None
    known = values[~np.isnan(values)]
    if not len(known):
        return Load(stated, None, None, None, 0.0)
    peak = int(np.nanargmax(values))
    peak_at = index[peak].to_pydatetime()
    return Load(stated, float(known.mean()), float(values[peak]), peak_at, len(known) / len(values))


def it_load(it_energy_kwh: pd.Series[float], site: Site) -> Load:
    """IT load against the design capacity of the site.

    Parameters
    ----------
    it_energy_kwh : Series of float64, shape (n,)
        IT energy per 15-minute interval. [kWh] NaN: not known.
    """
    return load(it_energy_kwh * INTERVALS_PER_HOUR, site.design.it_capacity_kw)


def room_it_loads(site: Site, energy_kwh: pd.DataFrame) -> dict[str, Load]:
    """IT load by room, for every room with IT meters or a design capacity.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        Energy per 15-minute interval by point, before weights. [kWh] NaN: not known.
    """
    capacity_kw = site.design.room_it_capacity_kw
    parts = [sums(table, _by_room(state)) for state, table in by_state(site, energy_kwh)]
    power_kw = _joined(parts, energy_kwh.index) * INTERVALS_PER_HOUR
    return {str(room): load(power_kw[room], capacity_kw.get(str(room))) for room in power_kw.columns}


def _by_room(site: Site) -> dict[str, list[str]]:
    """Points that carry the IT energy of each room of a constant site."""
    by_room: dict[str, list[str]] = {room: [] for room in site.design.room_it_capacity_kw}
    for point in site.it_carriers():
        by_room.setdefault(site.meter_of[point.id].room, []).append(point.id)
    by_room.pop("", None)
    return by_room


def _joined(parts: Sequence[pd.DataFrame], index: pd.Index) -> pd.DataFrame:
    """Tables that follow each other as one; NaN where one has no such column."""
    if not parts:
        return pd.DataFrame(index=index)
    return parts[0] if len(parts) == 1 else pd.concat(parts)


def feed_loads(site: Site, energy_kwh: pd.DataFrame) -> tuple[FeedLoad, ...]:
    """Load of every feed of the tree that meters electricity: incomers, UPS, PDU, racks, equipment.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        Energy per 15-minute interval by point, before weights. [kWh] NaN: not known.
    """
    parts = list(by_state(site, energy_kwh))
    members = _metered_feeds(parts[-1][0] if parts else site.states[-1])
    power_kw = _power_as_it_is(members, parts, energy_kwh.index)
    index = pd.DatetimeIndex(power_kw.index)
    loads = {
        feed: _load(column, index, _usable_kw(own))
        for column, (feed, own) in zip(power_kw.to_numpy().T, members.items(), strict=True)
    }
    of_meter = {meter: loads[feed] for feed in members for meter in feed.meters}
    return tuple(
        FeedLoad(feed, redundancy(own), _rated_kw(own), loads[feed], stranded_kw(feed, of_meter))
        for feed, own in members.items()
    )


def _metered_feeds(site: Site) -> dict[Feed, list[Meter]]:
    """Feeds of a constant site that meter electricity, with their meters."""
    meters = {meter.id: meter for meter in site.meters}
    members = {feed: [meters[m] for m in feed.meters] for feed in feeds(site)}
    return {feed: own for feed, own in members.items() if any(map(inflow_points, own))}


def _power_as_it_is(
    members: Mapping[Feed, list[Meter]], parts: Sequence[tuple[Site, pd.DataFrame]], index: pd.Index
) -> pd.DataFrame:
    """Power of feeds over the time up to the end in which they are what they are at the end. [kW]

    Columns are the feeds' first meters, in the order of `members`.
    """
    found: list[pd.DataFrame] = []
    alike, names = dict(members), [feed.meters[0] for feed in members]
    for state, table in reversed(parts):
        then = members if state is parts[-1][0] else _metered_feeds(state)
        alike = {feed: own for feed, own in alike.items() if _same_capacity(own, then.get(feed))}
        found.insert(0, _feed_power_kw(state, alike, table).reindex(columns=names))
    return _joined(found, index).reindex(columns=names).astype(float)


def _same_capacity(now: Sequence[Meter], then: Sequence[Meter] | None) -> bool:
    if then is None or then is now:
        return then is now
    before, after = (
        [(m.rated_power_kw, m.redundancy, inflow_points(m)) for m in members] for members in (then, now)
    )
    return before == after


def stranded_kw(feed: Feed, of_meter: Mapping[str, Load]) -> float | None:
    """Headroom that the feeds directly below have together beyond the headroom of this one. [kW]

    Parameters
    ----------
    of_meter : mapping of str to Load
        For each meter the load of its feed.

    Returns
    -------
    float or None
        None where one of the headrooms is not known, or nothing is below.
    """
    own = of_meter[feed.meters[0]].headroom_kw
    loads = {
        id(of_meter[m]): of_meter[m] for m in feed.children if m in of_meter
    }  # meters of a feed share one
    below = [load.headroom_kw for load in loads.values()]
    known = [headroom for headroom in below if headroom is not None]
    if own is None or not known or len(known) != len(below):
        return None
    return max(sum(known) - own, 0.0)


def peak_ratios(site: Site, energy_kwh: pd.DataFrame) -> dict[tuple[str, ...], pd.Series[float]]:
    """Highest power of the last hour by the usable capacity, for every feed with ratings.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        As for :func:`feed_loads`.

    Returns
    -------
    dict of tuple of str to Series of float64, shape (n,)
        By the meters of the feed; each interval with the three before it. NaN where all four are not known.
    """
    found: dict[tuple[str, ...], list[pd.Series[float]]] = {}
    for state, table in by_state(site, energy_kwh):
        usable_kw = {feed: _usable_kw(own) for feed, own in _metered_feeds(state).items()}
        rated = {feed: usable for feed, usable in usable_kw.items() if math.isfinite(usable)}
        power_kw = _feed_power_kw(state, rated, table)
        for feed, usable in rated.items():
            found.setdefault(feed.meters, []).append(power_kw[feed.meters[0]] / usable)
    return {
        meters: pd.concat(ratios).reindex(energy_kwh.index).rolling(INTERVALS_PER_HOUR, min_periods=1).max()
        for meters, ratios in found.items()
    }


class RatedFeeds:
    """Feeds of a constant site whose ratings are stated, as columns: their peaks are looked at often."""

    def __init__(self, site: Site) -> None:
        own = [(f, m, _usable_kw(m)) for f, m in _metered_feeds(site).items()]
        rated = [(feed, members, usable_kw) for feed, members, usable_kw in own if math.isfinite(usable_kw)]
        self.names = tuple("+".join(feed.meters) for feed, _, _ in rated)
        """The meters of each feed."""
        self._usable_kw = np.array([usable_kw for _, _, usable_kw in rated], np.float64)
        flows = [[[p.id for p in inflow_points(m)] for m in members] for _, members, _ in rated]
        self._is_metered = np.array([all(meters) for meters in flows], np.bool_)
        metered = [meters for meters in flows if all(meters)]
        self.points = tuple(dict.fromkeys(p for meters in metered for points in meters for p in points))
        """Points from which their loads follow."""
        place = {point: n for n, point in enumerate(self.points)}
        self._columns = np.array([place[p] for ms in metered for ps in ms for p in ps], np.int64)
        self._meters = _starts([len(points) for meters in metered for points in meters])
        self._feeds = _starts([len(meters) for meters in metered])

    def peak_ratios(self, energy_kwh: Floats) -> Floats:
        """Highest power by the usable capacity, as :attr:`Load.peak_ratio`.

        Parameters
        ----------
        energy_kwh : float64 array, shape (intervals, points)
            Energy per 15-minute interval of each of :attr:`points`. [kWh] NaN: not known.

        Returns
        -------
        float64 array, shape (feeds,)
            NaN where no interval is known.
        """
        ratios = np.full(len(self.names), math.nan)
        if self._is_metered.any():
            of_meters = np.add.reduceat(energy_kwh[:, self._columns], self._meters, axis=1)
            power_kw = np.add.reduceat(of_meters, self._feeds, axis=1) * INTERVALS_PER_HOUR
            ratios[self._is_metered] = np.fmax.reduce(power_kw, axis=0)
        return ratios / self._usable_kw


def _starts(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *lengths[:-1]], dtype=np.int64) if lengths else np.zeros(0, np.int64)


def _feed_power_kw(site: Site, every: Iterable[Feed], energy_kwh: pd.DataFrame) -> pd.DataFrame:
    """Power of feeds, by the first of their meters; NaN where one of these is not known. [kW]"""
    groups = {feed.meters[0]: feed.meters for feed in every}
    return sums(meter_flows(site, energy_kwh), groups) * INTERVALS_PER_HOUR


def usable_kw(ratings_kw: Sequence[float], redundancy: str) -> float:
    """Power that a feed can carry and still survive the loss its redundancy is for.

    ``N``: all ratings. ``N+1``: all but the largest; a single meter's rating is taken as that of the N
    units. ``2N``: the weaker half of the units; a single meter is one side, which must be able to take
    over the other's load and may therefore carry half of its rating.

    Parameters
    ----------
    ratings_kw : sequence of float
        [kW]
    """
    ordered = sorted(ratings_kw)
    if redundancy == "2N":
        return sum(ordered[: len(ordered) // 2]) if len(ordered) > 1 else ordered[0] / 2
    if redundancy == "N+1" and len(ordered) > 1:
        return sum(ordered[:-1])
    return sum(ordered)


def _usable_kw(members: Sequence[Meter]) -> float:
    return usable_kw([meter.rated_power_kw for meter in members], redundancy(members))


def redundancy(members: Sequence[Meter]) -> str:
    """The strictest redundancy that a meter of the feed states."""
    stated = {meter.redundancy for meter in members}
    return next(level for level in ("2N", "N+1", "N") if level in stated)


def _rated_kw(members: Sequence[Meter]) -> float | None:
    total = sum(meter.rated_power_kw for meter in members)
    return total if math.isfinite(total) else None


def _by(load_kw: float | None, capacity_kw: float | None) -> float | None:
    return load_kw / capacity_kw if load_kw is not None and capacity_kw else None


@dataclass(frozen=True, slots=True)
class Failure:
    """What the rest of a feed would have to carry without one of its meters."""

    lost: str
    taking_over: tuple[str, ...]
    """Meters that are taken to carry its load: those of its feed, else those of its place and room."""
    rated_kw: float | None
    """Sum of their ratings. [kW] None where one is not stated."""
    load: Load
    """Load of all of them together with that of the lost one, against those ratings."""


def failure(site: Site, energy_kwh: pd.DataFrame, lost: str) -> Failure | None:
    """Whether the others carry all if one meter's supply fails, by the loads of a period.

    The site is taken as it is at the end of the period.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        As for :func:`feed_loads`.
    lost : str
        Id of the meter whose supply fails.

    Returns
    -------
    Failure or None
        None where no meter feeds electricity in its place.
    """
    parts = list(by_state(site, energy_kwh))
    if not parts:
        return None
    state, table = parts[-1]
    meters = {m.id: m for m in state.meters if inflow_points(m)}
    others = _in_place_of(state, meters, lost) if lost in meters else ()
    if not others:
        return None
    rated_kw = _rated_kw([meters[m] for m in others])
    together = sums(meter_flows(state, table), {"all": (lost, *others)})["all"] * INTERVALS_PER_HOUR
    return Failure(lost, others, rated_kw, load(together, rated_kw))


def _in_place_of(site: Site, meters: Mapping[str, Meter], lost: str) -> tuple[str, ...]:
    """Meters that feed what the lost one feeds; else redundant ones of its stage, depth and, if any, room."""
    own = meters[lost]
    (feed,) = [f.meters for f in feeds(site) if lost in f.meters] or [(lost,)]
    if len(feed) > 1:
        return tuple(m for m in feed if m != lost and m in meters)
    depth = len(site.upstream(lost))
    alike = [
        m
        for m in meters.values()
        if m.id != lost
        and (m.stage, m.redundancy) == (own.stage, own.redundancy)
        and m.redundancy != "N"
        and len(site.upstream(m.id)) == depth
    ]
    of_room = [m for m in alike if m.room == own.room]
    return tuple(m.id for m in of_room or alike)
