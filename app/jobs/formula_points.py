"""Points with a formula follow the points that they are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from app.domain import formula, timeline
from app.domain.energy import QuarterHours
from app.domain.period import QUARTER_HOUR_US
from app.store import energy, energy_batch
from app.store.energy_batch import Cells, Intervals
from app.store.engine import Connection
from app.store.readings import from_us
from app.store.sites import Stored

_TABLE = "energy_15m"
Ints = npt.NDArray[np.int64]


def recompute(
    connection: Connection, stored: Stored, replaced: Sequence[tuple[str, Intervals]], asked: Intervals
) -> list[tuple[str, Intervals]]:
    """Compute points with a formula again wherever one of their points was, and where it was asked for.

    Parameters
    ----------
    replaced : sequence of (str, Intervals)
        Intervals that were computed again, by table.
    asked : Intervals
        Those of points with a formula whose definition changed.

    Returns
    -------
    list of (str, Intervals)
        The intervals that were computed, as `replaced`.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found: list[tuple[str, Intervals]] = []
    for point, one in stored.formulas.by_point.items():
        number = stored.point_id[point]
        inputs = [stored.point_id[p] for p in one.points]
        touched = [i.at_us[np.isin(i.point_id, inputs)] for t, i in (*replaced, *found) if t == _TABLE]
        at_us = np.unique(np.concatenate([*touched, asked.at_us[asked.point_id == number]]))
        for start_us, end_us in _runs(at_us):
            cells = computed(connection, stored, point, start_us, end_us)
            owned, low_us, high_us = Cells(np.full(len(cells.at_us), number), cells), [start_us], [end_us]
            energy_batch.replace(connection, _TABLE, [number], np.array(low_us), np.array(high_us), owned)
        if len(at_us):
            found.append((_TABLE, Intervals(np.full(len(at_us), number), at_us)))
    return found


def computed(connection: Connection, stored: Stored, point: str, start_us: int, end_us: int) -> QuarterHours:
    """Energies of a point with a formula between two 15-minute boundaries, from those of its points.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    one = stored.formulas.by_point[point]
    numbers = {stored.point_id[p]: p for p in one.points}
    known = energy.load_quarter_hours(connection, list(numbers), from_us(start_us), from_us(end_us))
    cells = formula.compute(one, {numbers[n]: c for n, c in known.items()})
    there = np.ones(len(cells.at_us), np.bool_)
    for first_us, last_us in timeline.gaps(stored.timeline(stored.point_id[point]), start_us, end_us):
        there &= (cells.at_us < first_us) | (cells.at_us >= last_us)
    return cells.take(there)


def _runs(at_us: Ints) -> Iterator[tuple[int, int]]:
    """Stretches of intervals that follow each other."""
    if len(at_us):
        for part in np.split(at_us, np.flatnonzero(np.diff(at_us) > QUARTER_HOUR_US) + 1):
            yield int(part[0]), int(part[-1]) + QUARTER_HOUR_US
