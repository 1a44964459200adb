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
    start: str
    """Local time at which the band begins, quoted: ``"08:00"``."""
    end: str
    """Local time at which it ends; not after `start` means on the next day."""
    price_per_kwh: float
    months: tuple[int, ...] = ()
    """1 to 12; empty: all."""
    weekdays: tuple[int, ...] = ()
    """1 (Monday) to 7; empty: all."""

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
    valid_to: date | None = None
    """First day on which it no longer holds."""
    price_per_kwh: float
    """Outside every band."""
    bands: tuple[TariffBand, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        if not math.isfinite(self.price_per_kwh):
            raise ValueError("price_per_kwh must be a number")
