"""Rounding that keeps sums: parts add up to their rounded total, each at most one digit away from itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

COARSE_FROM_KWH = 10_000.0
"""From this facility energy on, energies have one decimal; below it three."""


def energy_decimals(facility_kwh: float) -> int:
    """Decimals of the energies of a report, by the size of the site."""
    return 1 if abs(facility_kwh) >= COARSE_FROM_KWH else 3


def rounded(value: float | None, decimals: int) -> float | None:
    """`value` to so many decimals, never a negative zero; None and not-a-number become None."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), decimals) + 0.0


def number(value: float, decimals: int) -> float:
    """As :func:`rounded`, for what is always a number."""
    return round(float(value), decimals) + 0.0


def apportioned(values: Sequence[float], decimals: int, total: float | None = None) -> list[float]:
    """`values` rounded so that they sum to the rounded `total` (default: their own sum).

    The digits that rounding down loses go to the values that lose most (largest remainder).
    """
    scale = 10**decimals
    wanted = round(
        number(math.fsum(values) if total is None else total, decimals) * scale
    )  # as it is printed
    floors = [math.floor(v * scale + 1e-9) for v in values]
    left = wanted - sum(floors)
    order = sorted(range(len(values)), key=lambda i: floors[i] - values[i] * scale)
    for i in order[: max(0, min(left, len(order)))]:
        floors[i] += 1
    for i in order[::-1][: max(0, min(-left, len(order)))]:
        floors[i] -= 1
    return [f / scale + 0.0 for f in floors]


def instant(at: datetime) -> str:
    """An instant in UTC, to the second."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
