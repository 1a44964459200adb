"""Prices of electricity: dated tariffs with bands of hours."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date

_STRICT = {"extra": "forbid"}

_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


@dataclass(frozen=True, kw_only=True)
class TariffBand:
    """Hours with a price of their own, e.g. the peak hours of working days in summer."""

    __pydantic_config__ = _STRICT
    name: str
    """Name in cost tables. E.g. ``peak``."""
    start: str
    """Local time at which the band begins, quoted. E.g. ``"08:00"``."""
    end: str
    """Local time at which it ends, quoted; not after `start` means on the next day. E.g. ``"11:00"``."""
    price_per_kwh: float
    """Price inside the band, in the site's currency. [currency/kWh] E.g. ``1.12``."""
    months: tuple[int, ...] = ()
    """1 to 12; empty: all. E.g. ``[7, 8]``."""
    weekdays: tuple[int, ...] = ()
    """1 (Monday) to 7; empty: all. E.g. ``[1, 2, 3, 4, 5]``."""

    def __post_init__(self) -> None:
        for text in (self.start, self.end):
            if not _CLOCK.fullmatch(text):
                raise ValueError(f'{text!r} is no time of day; write it quoted, like "08:00"')
        if not set(self.months) <= set(range(1, 13)) or not set(self.weekdays) <= set(range(1, 8)):
            raise ValueError("months are 1 to 12 and weekdays 1 (Monday) to 7")
        if not math.isfinite(self.price_per_kwh):
            raise ValueError("price_per_kwh must be a number")


@dataclass(frozen=True, kw_only=True)
class Tariff:
    """Price of electricity from a day on; of several bands that fit, the first one counts."""

    __pydantic_config__ = _STRICT
    valid_from: date
    """First day on which it holds, local. E.g. ``2026-01-01``."""
    valid_to: date | None = None
    """First day on which it no longer holds. E.g. ``2027-01-01``."""
    price_per_kwh: float
    """Price outside every band, in the site's currency. [currency/kWh] E.g. ``0.7``."""
    demand_price_per_kw_month: float | None = None
    """Price of the maximum demand: of each kW of the highest 15-minute mean power that was bought in a month.
    [currency/(kW·month)] E.g. ``40.8``."""
    bands: tuple[TariffBand, ...] = ()
    """Hours with prices of their own; of several that fit, the first one counts."""
    source: str = ""
    """Contract or price list. E.g. ``Supply contract 2026``."""

    def __post_init__(self) -> None:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        if not math.isfinite(self.price_per_kwh):
            raise ValueError("price_per_kwh must be a number")
        demand = self.demand_price_per_kw_month
        if demand is not None and not 0 <= demand < math.inf:
            raise ValueError("demand_price_per_kw_month must be a number from 0")
