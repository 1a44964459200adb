"""The metering tree: does every node get what its children take?

Meters that share a child (the two sides of a 2N feed, or the grid and a generator) cannot be
distinguished by their energy; they form one *feed* and are balanced together. Balances use the energy that
flows, before any point's weight: a shared chiller draws all of its energy through the incomer, whatever
part of it counts for the data centre.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from app.domain.limits import accuracy_percent
from app.domain.quantity import IT_ROLES, Role
from app.domain.site import Meter, Point, Site, Stage
from app.errors import SeriesError

COVERAGE_FACTOR = 2.0
"""Standard uncertainties that a remainder must exceed before the tree is called wrong."""

LEAST_EFFICIENCY = 0.5

LEAST_HOURS, FIT_RATIO, FITTING_HOURS_RATIO = 6, 0.03, 0.9
"""Hours from which a meter is compared with a remainder; by how much it may exceed it, and in how many."""

NOT_A_FLOW = (Role.WATER, Role.HEAT_REUSE, Role.HEAT_REMOVED)


class BalanceState(StrEnum):
    """What a balance says about a node."""

    BALANCED = "balanced"
    """Nothing is left beyond the accuracy of the meters."""
    REMAINDER = "remainder"
    """Losses or loads without a meter."""
    NEGATIVE = "negative"
    """The children take more than goes in: the tree, a sign, a factor or a meter is wrong."""
    UNKNOWN = "unknown"
    """No time at which all of the meters are covered."""


@dataclass(frozen=True, slots=True)
class Metered:
    """Energy of one meter over a period, with its accuracy."""

    energy_kwh: float
    class_percent: float


@dataclass(frozen=True, slots=True)
class Remainder:
    """What goes in less what comes out."""

    in_kwh: float
    out_kwh: float
    tolerance_kwh: float
    """Remainder that the accuracy of the meters explains. [kWh]"""

    @property
    def remainder_kwh(self) -> float:
        """Energy that goes in and does not come out at a meter. [kWh]"""
        return self.in_kwh - self.out_kwh

    @property
    def state(self) -> BalanceState:
        """The remainder against its tolerance."""
        if math.isnan(self.remainder_kwh):
            return BalanceState.UNKNOWN
        if abs(self.remainder_kwh) <= self.tolerance_kwh:
            return BalanceState.BALANCED
        return BalanceState.REMAINDER if self.remainder_kwh > 0 else BalanceState.NEGATIVE


@dataclass(frozen=True, slots=True)
class Feed:
    """Meters that together feed the same children."""

    meters: tuple[str, ...]
    children: tuple[str, ...]
    stage: Stage


@dataclass(frozen=True, slots=True)
class FeedBalance:
    """Balance of one feed over the time at which all of its meters are covered."""

    feed: Feed
    remainder: Remainder
    coverage_ratio: float
    """Share of the intervals that entered."""


@dataclass(frozen=True, slots=True)
class StageLoss:
    """What is lost, or used without a meter, behind one stage of the chain."""

    stage: Stage
    in_kwh: float
    out_kwh: float

    @property
    def efficiency_ratio(self) -> float | None:
        """Share of the energy that reaches the next meters.

        None where none went in, and below :data:`LEAST_EFFICIENCY`: no equipment of the chain loses so
        much, so most of what it feeds has no meter.
        """
        ratio = self.out_kwh / self.in_kwh if self.in_kwh > 0 else 0.0
        return ratio if ratio >= LEAST_EFFICIENCY else None


def remainder(inputs: Iterable[Metered], outputs: Iterable[Metered]) -> Remainder:
    """Remainder between two sets of meters with independent errors.

    Its tolerance is :data:`COVERAGE_FACTOR` times ``sqrt(sum((E_i * c_i / 100)^2))`` over all meters.
    """
    ins, outs = tuple(inputs), tuple(outputs)
    spread = math.sqrt(sum((m.energy_kwh * m.class_percent / 100) ** 2 for m in (*ins, *outs)))
    return Remainder(
        sum(m.energy_kwh for m in ins), sum(m.energy_kwh for m in outs), COVERAGE_FACTOR * spread
    )


def feeds(site: Site) -> tuple[Feed, ...]:
    """The meters of a site in feeds, in the order of the site file; every meter is in one of them."""
    leader = {meter.id: meter.id for meter in site.meters}
    for meter in site.meters:
        for parent in meter.fed_by:
            _join(leader, meter.fed_by[0], parent)
    groups: dict[str, list[Meter]] = {}
    below: dict[str, list[str]] = {}
    for meter in site.meters:
        groups.setdefault(_find(leader, meter.id), []).append(meter)
        if meter.fed_by:
            below.setdefault(_find(leader, meter.fed_by[0]), []).append(meter.id)
    return tuple(_feed(members, below.get(first, ())) for first, members in groups.items())


def inflow_points(meter: Meter) -> tuple[Point, ...]:
    """Points whose energy flows into a meter from above, none counted twice.

    Of several IT roles the most upstream one is taken, so an inlet is not added to its outlets; where
    there is a facility point it is the whole, and other roles are parts or other views of it. Points
    without a role count only where the meter has no others.
    """
    points = [p for p in meter.carriers() if p.role not in NOT_A_FLOW]
    whole = tuple(p for p in points if p.role is Role.FACILITY)
    if whole:
        return whole
    used = {p.role for p in points}
    first_it = next((role for role in IT_ROLES if role in used), None)
    chosen = tuple(
        p for p in points if p.role is first_it or (p.role not in IT_ROLES and p.role is not Role.NONE)
    )
    return chosen or tuple(points)


def by_state(site: Site, table: pd.DataFrame) -> Iterator[tuple[Site, pd.DataFrame]]:
    """The rows of a table, indexed by instants, with the constant site of their time; in order."""
    if not site.is_dated:
        yield site, table
        return
    starts = pd.DatetimeIndex(table.index).searchsorted(pd.DatetimeIndex(site.turns))
    for state, first, last in zip(site.states, [0, *starts], [*starts, len(table)], strict=True):
        if first < last:
            yield state, table.iloc[first:last]


def meter_flows(site: Site, energy_kwh: pd.DataFrame) -> pd.DataFrame:
    """Energy that flows into each meter.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        Energy per interval by point, before weights. [kWh] NaN or no column: not known.

    Returns
    -------
    DataFrame of float64, shape (n, meters)
        [kWh] NaN where one of the meter's points is not known.
    """
    points = {meter.id: [p.id for p in inflow_points(meter)] for meter in site.meters}
    return sums(energy_kwh, {meter: ids for meter, ids in points.items() if ids})


def sums(table: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Sums of groups of columns, row by row.

    Parameters
    ----------
    table : DataFrame of float64, shape (n, columns)
        NaN or no column: not known.
    groups : mapping of str to sequence of str
        Names of the columns that belong together.

    Returns
    -------
    DataFrame of float64, shape (n, groups)
        NaN where one of the group is not known.
    """
    values, position = table.to_numpy(), {name: n for n, name in enumerate(table.columns)}
    out = np.full((len(table), len(groups)), np.nan, order="F")
    for column, names in zip(out.T, groups.values(), strict=True):
        if names and position.keys() >= set(names):
            column[:] = values[:, [position[name] for name in names]].sum(axis=1)
    return pd.DataFrame(out, table.index, list(groups), copy=False)


def balances(site: Site, energy_kwh: pd.DataFrame) -> tuple[FeedBalance, ...]:
    """Balance of every feed that has children.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        Energy per interval by point, before weights. [kWh] Each feed is compared only over the intervals
        in which all of its meters and children are known.

    Raises
    ------
    SeriesError
        If the frame is empty.
    """
    if energy_kwh.empty:
        raise SeriesError("no energy to balance; choose a period with readings")
    known: dict[Feed, list[tuple[Mapping[str, float], pd.DataFrame]]] = {}
    for state, table in by_state(site, energy_kwh):
        flows, classes = meter_flows(state, table), _flow_classes(state)
        for feed in feeds(state):
            if feed.children:
                whole = flows.reindex(columns=[*feed.meters, *feed.children]).dropna()
                known.setdefault(feed, []).append((classes, whole))
    return tuple(_balance(feed, parts, len(energy_kwh)) for feed, parts in known.items())


def remainder_course(site: Site, energy_kwh: pd.DataFrame, feed: Feed) -> pd.Series[float]:
    """What goes into a feed less what comes out of it, interval by interval.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        As for :func:`balances`.

    Returns
    -------
    Series of float64, shape (n,)
        [kWh] NaN where one of its meters or children is not known.
    """
    flows = meter_flows(site, energy_kwh)
    both = flows.reindex(columns=[*feed.meters, *feed.children])
    ins, outs = both[list(feed.meters)], both[list(feed.children)]
    return ins.sum(axis=1, skipna=False) - outs.sum(axis=1, skipna=False)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A meter elsewhere in the tree whose energy could be part of a remainder."""

    meter: str
    share_ratio: float
    """Its energy by the remainder's."""
    correlation: float | None
    """Of the hours of both; None where one of them does not change."""


def explanations(site: Site, energy_kwh: pd.DataFrame, feed: Feed) -> list[Explanation]:
    """Meters that may hang below a feed without being declared so: they fit into its remainder hour by hour.

    Those of the feed, below it or above it are none. The most alike come first.
    """
    hours = energy_kwh.groupby(pd.DatetimeIndex(energy_kwh.index).floor("h")).sum(min_count=1)
    rest, flows = remainder_course(site, hours, feed), meter_flows(site, hours)
    related = {*feed.meters, *(a for m in feed.meters for a in site.upstream(m))}
    found = []
    for meter in flows.columns:
        if meter in related or set(feed.meters) & set(site.upstream(str(meter))):
            continue
        both = pd.DataFrame({"part": flows[meter], "rest": rest}).dropna()
        if _fits_into(both):
            share = float(both["part"].sum() / both["rest"].sum())
            found.append(Explanation(str(meter), share, _correlation(both)))
    return sorted(found, key=lambda e: (-(e.correlation or 0.0), -e.share_ratio, e.meter))


def _fits_into(both: pd.DataFrame) -> bool:
    """Whether the part is within the rest in nearly all hours, and enough of them are known."""
    if len(both) < LEAST_HOURS or both["part"].sum() <= 0:
        return False
    return bool((both["part"] <= both["rest"] * (1 + FIT_RATIO)).mean() >= FITTING_HOURS_RATIO)


def _correlation(both: pd.DataFrame) -> float | None:
    spread = both.std()
    if not (spread > 1e-9 * both.mean().abs()).all():
        return None
    return float(both["part"].corr(both["rest"]))


def stage_losses(found: Sequence[FeedBalance]) -> tuple[StageLoss, ...]:
    """Energy in and out per stage of the chain, over the feeds whose balance is known."""
    sums: dict[Stage, tuple[float, float]] = {}
    for balance in found:
        if balance.remainder.state is not BalanceState.UNKNOWN:
            ins, outs = sums.get(balance.feed.stage, (0.0, 0.0))
            both = balance.remainder
            sums[balance.feed.stage] = (ins + both.in_kwh, outs + both.out_kwh)
    return tuple(StageLoss(stage, *sums[stage]) for stage in Stage if stage in sums)


def _balance(
    feed: Feed, parts: Sequence[tuple[Mapping[str, float], pd.DataFrame]], count: int
) -> FeedBalance:
    """Balance of a feed over the times in which it was the same, each with the classes of the meters then."""
    rows = sum(len(known) for _, known in parts)
    if not rows:
        return FeedBalance(feed, Remainder(math.nan, math.nan, math.nan), 0.0)
    energies: dict[str, float] = defaultdict(float)
    for _, known in parts:
        for name, kwh in {str(name): float(kwh) for name, kwh in known.sum().items()}.items():
            energies[name] += kwh
    classes = {m: max(of_meter[m] for of_meter, _ in parts) for m in energies}
    left = remainder(
        (Metered(energies[m], classes[m]) for m in feed.meters),
        (Metered(energies[m], classes[m]) for m in feed.children),
    )
    return FeedBalance(feed, left, rows / count)


def _flow_classes(site: Site) -> dict[str, float]:
    """Accuracy class by meter: that of the weakest of its points, whose errors may have one cause."""
    return {
        meter.id: max((accuracy_percent(meter, p) for p in inflow_points(meter)), default=0.0)
        for meter in site.meters
    }


def _feed(members: Sequence[Meter], children: Sequence[str]) -> Feed:
    stages = [meter.stage for meter in members]
    main = next((stage for stage in stages if stage is not Stage.GENERATOR), stages[0])
    return Feed(tuple(meter.id for meter in members), tuple(children), main)


def _find(leader: dict[str, str], meter_id: str) -> str:
    while leader[meter_id] != meter_id:
        meter_id = leader[meter_id]
    return meter_id


def _join(leader: dict[str, str], first: str, second: str) -> None:
    leader[_find(leader, second)] = _find(leader, first)
