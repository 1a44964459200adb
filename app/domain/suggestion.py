"""What feeds what, suggested from energies, names and roles, for a person to confirm.

Energies say most: the meters below a node take, hour by hour, what the node takes less a small loss. Where
several sets of meters would fit, names decide; where those do not, nothing is suggested rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pandas as pd

from app.domain.pue import boundary
from app.domain.quantity import CATEGORY_OF_IT_ROLE, IT_ROLES, OVERHEAD_ROLES, ReadingKind, Role
from app.domain.site import Site

LEAST_HOURS = 6
"""Hours in common from which sums are compared."""
MOST_LOSS_RATIO = 0.15
"""Largest share of a node that is lost, or has no meter, below it."""
EXCESS_RATIO = 0.03
"""By so much the meters below may exceed their node: clocks and accuracy differ."""
FITTING_HOURS_RATIO = 0.9
"""Share of the hours in which a sum has to fit."""
MOST_SPREAD_RATIO, AS_GOOD_RATIO = 0.03, 0.005
"""How much the share that is lost may change from hour to hour; and by how much less is no better."""
_MOST_TRIED = 12
"""Meters of which every set is tried; of more, the largest."""
_UPSTREAM = {Role.FACILITY: 0, Role.IT_UPS_OUTPUT: 1, Role.IT_PDU_OUTPUT: 2, Role.IT_EQUIPMENT_INPUT: 3}
_LAST = 4
_WORD = re.compile(r"[a-z]+|\d+|[^\W\d_a-z]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Better:
    """What the next better category of a PUE needs."""

    category: int
    places: tuple[str, ...]
    """Points that measure IT energy too far from the equipment."""
    is_rarely_read: bool
    """Whether readings come too rarely for it."""


def for_better_category(site: Site, category: int | None) -> Better | None:
    """What is missing for the category above; None where there is none, or no IT energy is measured."""
    it = boundary(site).it
    if not it or category == 3:
        return None
    wanted = (category or 0) + 1
    places = tuple(p.id for p in it if CATEGORY_OF_IT_ROLE[p.role] < wanted)
    return Better(wanted, places, not places)


class Basis(StrEnum):
    """Why a link is suggested."""

    ENERGY = "energy"
    """The meters below take together what the node takes."""
    NAME = "name"
    """The name begins with that of the node."""
    ROLE = "role"
    """All that is used comes from the only supply."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A meter of which it is not said what feeds it."""

    id: str
    name: str
    role: Role
    energy_kwh: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=float))
    """By hour, indexed by its start in UTC; NaN where it is not known. [kWh]"""

    @property
    def stage(self) -> int:
        """How far from the supply its role stands."""
        return _UPSTREAM.get(self.role, _LAST)

    @property
    def mean_kwh(self) -> float:
        """Mean energy of an hour; NaN where none is known. [kWh]"""
        return float(self.energy_kwh.mean())


@dataclass(frozen=True, slots=True)
class Link:
    """A suggestion: what feeds a meter, and why."""

    fed_by: str
    basis: Basis
    loss_ratio: float | None = None
    """Share of the node that does not arrive at the meters below, where energies say so."""


def hourly_kwh(kind: ReadingKind, at: pd.DatetimeIndex, value: Sequence[float]) -> pd.Series[float]:
    """Energy by hour of plain readings, to compare meters with; not for figures: nothing is checked.

    Parameters
    ----------
    kind : ReadingKind
        Registers are taken at the full hours, power is averaged, energies of intervals are summed.
    at : DatetimeIndex, shape (n,)
        Instants in UTC; of an interval its end.
    value : sequence of float, shape (n,)
        Readings. [kWh or kW]

    Returns
    -------
    Series of float64
        Indexed by the start of the hour. [kWh]
    """
    series = pd.Series(np.asarray(value, dtype=float), index=at).sort_index().dropna()
    series = series[~series.index.duplicated(keep="last")]
    if series.empty:
        return series
    if kind is ReadingKind.REGISTER:
        hours = pd.date_range(series.index[0].ceil("h"), series.index[-1].floor("h"), freq="h")
        known = series.reindex(series.index.union(hours)).interpolate("time").reindex(hours)
        return known.diff().shift(-1).dropna()
    if kind is ReadingKind.INTERVAL_ENERGY:
        series.index = pd.DatetimeIndex(series.index) - pd.to_timedelta(1, "ns")
        return series.resample("h").sum(min_count=1).dropna()
    return series.resample("h").mean().dropna()


def links(meters: Sequence[Unlinked]) -> dict[str, Link]:
    """What feeds each meter, for those of which something can be said; without circles.

    Parameters
    ----------
    meters : sequence of Unlinked
        In any order; the answer does not depend on it.
    """
    known = sorted(meters, key=lambda m: (m.stage, -_or_zero(m.mean_kwh), m.id))
    found: dict[str, Link] = {}
    for node in sorted(known, key=lambda m: (-_or_zero(m.mean_kwh), m.stage, m.id)):
        open_ = [m for m in known if m.id not in found and _may_be_below(m, node, found)]
        for child, loss in _summing_up(node, open_):
            found[child] = Link(node.id, Basis.ENERGY, loss)
    _by_name(known, found)
    _by_role(known, found)
    return found


def _or_zero(value: float) -> float:
    return 0.0 if np.isnan(value) else value


def _may_be_below(meter: Unlinked, node: Unlinked, found: Mapping[str, Link]) -> bool:
    """Whether the node may feed the meter: it is no further from the supply, and not below it."""
    if meter.id == node.id or meter.role is Role.FACILITY or meter.stage < node.stage:
        return False
    above: str | None = node.id
    while above is not None:
        above = found[above].fed_by if above in found else None
        if above == meter.id:
            return False
    return True


def _summing_up(node: Unlinked, others: Sequence[Unlinked]) -> Iterator[tuple[str, float]]:
    """The only set of meters that takes, hour by hour, what the node takes; with what is lost on the way."""
    table = _comparable(node, others)
    names = sorted(name for name in table.columns if name != node.id)
    if not names or len(table) < LEAST_HOURS:
        return
    sets = (np.arange(1, 2 ** len(names))[:, None] >> np.arange(len(names))) & 1
    loss = 1 - sets @ table[names].to_numpy().T / table[node.id].to_numpy()
    fitting = ((loss >= -EXCESS_RATIO) & (loss <= MOST_LOSS_RATIO)).mean(axis=1) >= FITTING_HOURS_RATIO
    spread = np.where(fitting, loss.std(axis=1), np.inf)
    good = spread <= min(MOST_SPREAD_RATIO, spread.min() + AS_GOOD_RATIO)
    stages = {m.id: m.stage for m in others}
    good &= (sets.sum(axis=1) > 1) | np.array([stages[names[int(s.argmax())]] > node.stage for s in sets])
    if not good.any():
        return
    fewest = sets.sum(axis=1) == sets[good].sum(axis=1).min()
    best = list(np.flatnonzero(good & fewest))
    if len(best) > 1:
        named = [_is_named_after(name, node, others) for name in names]
        best = [row for row in best if all(np.array(named)[sets[row] == 1])]
    if len(best) == 1:
        share = float(np.median(loss[best[0]]))
        yield from ((name, share) for name, is_in in zip(names, sets[best[0]], strict=True) if is_in)


def _comparable(node: Unlinked, others: Sequence[Unlinked]) -> pd.DataFrame:
    """Energies of the node and of the largest meters that fit into it, over the hours of all of them."""
    own = node.energy_kwh.dropna()
    own = own[own > 0]
    table = pd.DataFrame({node.id: own})
    fitting = [m for m in others if _or_zero(m.mean_kwh) <= node.mean_kwh * (1 + EXCESS_RATIO)]
    for meter in sorted(fitting, key=lambda m: (-_or_zero(m.mean_kwh), m.id)):
        if len(meter.energy_kwh.dropna().index.intersection(own.index)) >= LEAST_HOURS:
            table[meter.id] = meter.energy_kwh
        if len(table.columns) > _MOST_TRIED:
            break
    return table.dropna()


def _is_named_after(name: str, node: Unlinked, others: Sequence[Unlinked]) -> bool:
    meter = next(m for m in others if m.id == name)
    return bool(_shared_words(meter, node))


def _shared_words(meter: Unlinked, node: Unlinked) -> int:
    """Words with which the name of the meter begins as that of the node, all of them; 0 where it does not."""
    words, own = (_WORD.findall((m.name or m.id).casefold()) for m in (node, meter))
    return len(words) if words and own[: len(words)] == words and len(own) > len(words) else 0


def _by_name(meters: Sequence[Unlinked], found: dict[str, Link]) -> None:
    for meter in meters:
        if meter.id in found or meter.role is Role.FACILITY:
            continue
        fitting = [n for n in meters if _may_be_below(meter, n, found) and _shared_words(meter, n)]
        longest = max((_shared_words(meter, n) for n in fitting), default=0)
        nearest = [n for n in fitting if _shared_words(meter, n) == longest]
        if len(nearest) == 1:
            found[meter.id] = Link(nearest[0].id, Basis.NAME)


def _by_role(meters: Sequence[Unlinked], found: dict[str, Link]) -> None:
    """What is left hangs below the only supply."""
    supplies = [m for m in meters if m.role is Role.FACILITY]
    if len(supplies) != 1:
        return
    for meter in meters:
        is_load = meter.role in IT_ROLES or meter.role in OVERHEAD_ROLES
        if is_load and meter.id not in found:
            found[meter.id] = Link(supplies[0].id, Basis.ROLE)
