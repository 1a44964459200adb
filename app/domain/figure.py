"""How figures and times are written for people: digits that the uncertainty allows, times with their zone."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

USUAL, FEWEST, MOST = 3, 2, 4


def decimals(uncertainty: float | None) -> int:
    """Decimals at which a ratio and its uncertainty are written for people.

    The uncertainty keeps one significant digit, two where the first is a 1: ``1.470 ± 0.006``. Limits
    have two decimals, so a figure never has fewer. Files for machines keep full precision.

    Parameters
    ----------
    uncertainty : float or None
        Half width of the interval. [ratio]

    Returns
    -------
    int
        Between 2 and 4; 3 where the uncertainty is unknown or zero.
    """
    if uncertainty is None or not math.isfinite(uncertainty) or uncertainty <= 0:
        return USUAL
    exponent = math.floor(math.log10(uncertainty))
    starts_with_one = uncertainty / 10.0**exponent < 2
    return min(max(-exponent + starts_with_one, FEWEST), MOST)


def percentage(ratio: float, digits: int = 1) -> tuple[float, int]:
    """A share in per cent and the decimals with which it is written for people, everywhere.

    A hundred per cent is whole, ``100 %``; what is less is never rounded up to it, so ``99.9 %`` is not all.

    Parameters
    ----------
    ratio : float
        Share. [0..1]
    digits : int
        Decimals of all but a hundred.
    """
    value = ratio * 100
    if math.isclose(value, 100, rel_tol=1e-9):
        return 100.0, 0
    return (min(value, 100 - 10.0**-digits) if value < 100 else value), digits


def percent(ratio: float) -> str:
    """A share as an English text writes it, such as ``98.0 %``."""
    value, digits = percentage(ratio)
    return f"{value:.{digits}f} %"


def utc_offset(at: datetime) -> str:
    """Offset of an aware instant from UTC, such as ``UTC+8``, ``UTC+5:30`` or ``UTC``."""
    minutes = int((at.utcoffset() or timedelta()).total_seconds()) // 60
    hours, rest = divmod(abs(minutes), 60)
    amount = f"{hours}:{rest:02}" if rest else str(hours)
    return f"UTC{'-' if minutes < 0 else '+'}{amount}" if minutes else "UTC"
