"""Rules that make the electricity of data centres above a PUE limit dearer, as dated data.

To add one: a row in ``data/surcharges.py``, or the same record under ``surcharges`` in the site file. The
*excess part* of a period is the facility energy above what the limit allows for the IT energy of the same
period: ``E_DC - limit x E_IT``. It is a difference of sums, never a sum over the days that were above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import NamedTuple

from app.domain.jurisdiction import check_jurisdiction, lies_in

_STRICT = {"extra": "forbid"}

_SAME = 1e-9
"""A PUE that differs from a limit by less than this share meets it exactly: sums are rounded. [ratio]"""


@dataclass(frozen=True, kw_only=True)
class SurchargeTier:
    """Price on top, from a PUE on."""

    __pydantic_config__ = _STRICT
    above_pue: float
    """The tier begins above this PUE; a PUE that equals it still belongs below. [ratio] E.g. ``1.35``."""
    price_per_kwh: float
    """Price on top of the tariff, for energy of the excess part. [currency/kWh] E.g. ``0.2``."""


@dataclass(frozen=True, kw_only=True)
class SurchargeRule:
    """A dated rule that makes the electricity above a PUE limit dearer."""

    __pydantic_config__ = _STRICT
    id: str
    """Identifier; a row of the site file with the id of a built-in one takes its place. E.g.
    ``cn_bj_2026``."""
    jurisdictions: tuple[str, ...]
    """Countries (ISO 3166-1) or parts of them (ISO 3166-2) where it holds. E.g. ``[CN-BJ]``."""
    limit_pue: float
    """Limit above which energy is excess; met exactly: no surcharge. [ratio] E.g. ``1.35``."""
    tiers: tuple[SurchargeTier, ...] = ()
    """Prices by PUE, lowest first, the first one from the limit on; empty: the prices are not known, and no
    amount is said."""
    marginal: bool = False
    """False: the tier that the site's PUE reaches prices the whole excess part. True: each tier prices only
    the energy between its own PUE and that of the next."""
    currency: str = "CNY"
    """Currency of the prices (ISO 4217). E.g. ``CNY``."""
    valid_from: date
    """First day on which it holds, local. E.g. ``2026-01-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2028-01-01``."""
    source: str
    """Regulation or document it comes from. E.g. ``Work plan of 2024``."""
    verified: bool = False
    """Whether somebody compared it with its source."""
    note: str = ""
    """Shown beside it. E.g. ``Of existing data centres``."""

    def __post_init__(self) -> None:
        for place in self.jurisdictions:
            check_jurisdiction(place)
        if not 1 <= self.limit_pue < math.inf:
            raise ValueError(f"limit_pue {self.limit_pue}; allowed is a number from 1")
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        starts = [tier.above_pue for tier in self.tiers]
        if starts and (starts[0] != self.limit_pue or any(b <= a for a, b in pairwise(starts))):
            raise ValueError("tiers must begin at limit_pue and rise; the lowest above_pue comes first")
        if any(not 0 <= tier.price_per_kwh < math.inf for tier in self.tiers):
            raise ValueError("price_per_kwh of a tier must be a number from 0")

    def amount(self, facility_kwh: float, it_kwh: float) -> float | None:
        """Surcharge on the energies of a period; None where the rule's prices are not known. [currency]"""
        excess_kwh = excess(facility_kwh, it_kwh, self.limit_pue)
        if excess_kwh == 0:
            return 0.0
        if not self.tiers:
            return None
        if self.marginal:
            return self._amount_by_part(facility_kwh, it_kwh)
        return excess_kwh * self._price(facility_kwh, it_kwh)

    def _price(self, facility_kwh: float, it_kwh: float) -> float:
        """Price of the highest tier that the period's PUE is above."""
        reached = [t for t in self.tiers if excess(facility_kwh, it_kwh, t.above_pue) > 0]
        return reached[-1].price_per_kwh if reached else 0.0

    def _amount_by_part(self, facility_kwh: float, it_kwh: float) -> float:
        above_kwh = [*(excess(facility_kwh, it_kwh, t.above_pue) for t in self.tiers), 0.0]
        parts = zip(self.tiers, pairwise(above_kwh), strict=True)
        return math.fsum((low - high) * tier.price_per_kwh for tier, (low, high) in parts)


def excess(facility_kwh: float, it_kwh: float, limit_pue: float) -> float:
    """The excess part: facility energy above ``limit x E_IT``; zero where the limit is met exactly. [kWh]"""
    above_kwh = facility_kwh - limit_pue * it_kwh
    return above_kwh if above_kwh > _SAME * facility_kwh else 0.0


class RuleSpan(NamedTuple):
    """A rule and the local days of a period on which it holds, `last` included."""

    rule: SurchargeRule
    first: date
    last: date


def rules_between(
    rules: Iterable[SurchargeRule], jurisdiction: str, first: date, last: date
) -> tuple[RuleSpan, ...]:
    """Rules that hold at a place on the days from `first` to `last`, each with its own days, in order.

    Where two hold on one day, the later `valid_from` counts. Empty where the place is not stated.
    """
    local = sorted(
        (r for r in rules if lies_in(jurisdiction, r.jurisdictions)), key=lambda r: (r.valid_from, r.id)
    )
    turns = {d for r in local for d in (r.valid_from, r.valid_to) if d is not None and first < d <= last}
    found = []
    for start, end in pairwise([first, *sorted(turns), last + timedelta(days=1)]):
        holding = [r for r in local if r.valid_from <= start and (r.valid_to is None or start < r.valid_to)]
        if holding:
            found.append(RuleSpan(holding[-1], start, end - timedelta(days=1)))
    return tuple(_joined(found))


def _joined(spans: Sequence[RuleSpan]) -> list[RuleSpan]:
    """Neighbouring spans of one rule as one: another rule began and ended, or was overruled."""
    joined: list[RuleSpan] = []
    for span in spans:
        before = joined[-1] if joined else None
        if before and before.rule is span.rule and before.last + timedelta(days=1) == span.first:
            joined[-1] = RuleSpan(span.rule, before.first, span.last)
        else:
            joined.append(span)
    return joined
