"""Factors by which units and connections are commonly mistaken."""

from __future__ import annotations

import math

COMMON_FACTORS: tuple[tuple[float, str], ...] = (
    (1e-6, "0.000001"),
    (1e-3, "0.001"),
    (0.01, "0.01"),
    (0.1, "0.1"),
    (1 / 3.6, "1/3.6 (MJ)"),
    (1 / math.sqrt(3), "1/sqrt(3)"),
    (1 / 3, "1/3 (one phase)"),
    (0.5, "0.5"),
    (math.sqrt(3), "sqrt(3)"),
    (2.0, "2"),
    (3.0, "3 (one phase)"),
    (3.6, "3.6 (MJ)"),
    (10.0, "10"),
    (100.0, "100"),
    (1e3, "1000"),
    (1e6, "1000000"),
)
"""Factor, and how it is written."""

NEAR = 0.1
"""Difference of the logarithms within which a factor is taken for a common one."""


def nearest(factor: float) -> str:
    """The common factor that is meant, else the factor itself to four places."""
    common, text = min(COMMON_FACTORS, key=lambda known: abs(math.log(known[0] / factor)))
    return text if abs(math.log(common / factor)) < NEAR else f"{factor:.4g}"
