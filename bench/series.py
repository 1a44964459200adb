"""Readings as real meters send them, for the benches."""

from __future__ import annotations

import numpy as np

from app.domain.reading import ReadingColumns

START_US = 1_772_409_600_000_000
"""2026-03-02T00:00Z, a Monday. [us since 1970-01-01]"""


def register_series(points: int, days: float, interval_s: int, *, seed: int = 1) -> ReadingColumns:
    """Energy registers of circuits with a daily swing and noise, read together, in steps of 0.1 kWh.

    Parameters
    ----------
    points : int
    days : float
    interval_s : int
        Between readings. [s]
    seed : int

    Returns
    -------
    ReadingColumns
        Ordered by time, then point.
    """
    random = np.random.default_rng(seed)
    count = round(days * 86_400 / interval_s)
    time_s = np.arange(count, dtype=np.int64) * interval_s
    mean_kw = random.uniform(2, 200, points)
    swing = 1 + 0.2 * np.sin(2 * np.pi * time_s / 86_400)
    power_kw = mean_kw * swing[:, None] * random.normal(1, 0.02, (count, points))
    register_kwh = random.uniform(0, 1e6, points) + np.cumsum(power_kw * interval_s / 3600, axis=0)
    zeros = np.zeros(count * points, np.int32)
    return ReadingColumns(
        np.tile(np.arange(1, points + 1, dtype=np.int32), count),
        np.repeat(START_US + time_s * 1_000_000, points),
        np.round(register_kwh, 1).ravel(),
        zeros,
        zeros,
    )
