"""Energy on its way through the metering tree: from the supply to the last meters, and what has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from app.domain.period import Period
from app.domain.site import Site, Stage
from app.domain.tree import Feed, by_state, feeds, meter_flows


@dataclass(frozen=True, slots=True)
class FlowNode:
    """Meters that stand side by side, with the energy that flows into them."""

    meters: tuple[str, ...]
    stage: Stage
    depth: int
    """Steps from the supply."""
    energy_kwh: float
    unmetered_kwh: float | None
    """What goes in and reaches no meter below: losses, and loads without a meter. None where nothing below is
    metered, or a meter below is not known; never below zero."""


@dataclass(frozen=True, slots=True)
class FlowLink:
    """Energy from one node into a meter below it."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    energy_kwh: float


@dataclass(frozen=True, slots=True)
class EnergyFlow:
    """The metering tree with the energy of a period."""

    nodes: tuple[FlowNode, ...]
    links: tuple[FlowLink, ...]
    unknown: tuple[str, ...]
    """Meters of which no energy is known."""
    period: Period | None
    """Time over which the site is what is shown; None where nothing is known."""


def energy_flow(site: Site, energy_kwh: pd.DataFrame, period: Period) -> EnergyFlow:
    """Energy through the tree as it stood at the end of a period.

    Parameters
    ----------
    energy_kwh : DataFrame of float64, shape (n, points)
        Energy per 15-minute interval by point, before weights, indexed by start in UTC. [kWh] NaN: not known.
    period : Period
        The time of the table.
    """
    parts = list(by_state(site, energy_kwh))
    if not parts or not len(energy_kwh):
        return EnergyFlow((), (), (), None)
    state, table = parts[-1]
    sums = meter_flows(state, table).sum(min_count=1)
    known = {str(meter): float(kwh) for meter, kwh in sums.items() if math.isfinite(kwh)}
    shown = [feed for feed in feeds(state) if any(m in known for m in feed.meters)]
    depth = {feed.meters: max(len(state.upstream(m)) for m in feed.meters) for feed in shown}
    levels = {length: level for level, length in enumerate(sorted(set(depth.values())))}
    of_meter = {m: feed.meters for feed in shown for m in feed.meters}
    links = tuple(_links(shown, known, of_meter))
    nodes = tuple(_node(feed, levels[depth[feed.meters]], known) for feed in shown)
    unknown = tuple(m for m in map(str, sums.index) if m not in known)
    since = max(period.start, table.index[0].to_pydatetime())
    return EnergyFlow(nodes, links, unknown, Period(since, period.end))


def _node(feed: Feed, level: int, known: Mapping[str, float]) -> FlowNode:
    inside = sum(known.get(m, 0.0) for m in feed.meters)
    below = [known.get(m) for m in feed.children]
    is_known = bool(below) and all(kwh is not None for kwh in below) and all(m in known for m in feed.meters)
    rest = max(inside - sum(kwh or 0.0 for kwh in below), 0.0) if is_known else None
    return FlowNode(feed.meters, feed.stage, level, inside, rest)


def _links(
    shown: list[Feed], known: Mapping[str, float], of_meter: Mapping[str, tuple[str, ...]]
) -> list[FlowLink]:
    """One link for each node below another, however many of its meters hang there."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], float] = {}
    for feed in shown:
        for child in feed.children:
            if child in known and child in of_meter:
                key = feed.meters, of_meter[child]
                found[key] = found.get(key, 0.0) + known[child]
    return [FlowLink(source, target, kwh) for (source, target), kwh in found.items() if kwh > 0]
