"""What an import would do with files, counted as the import counts; nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain.reading import ReadingColumns
from app.domain.site import Site
from app.jobs.imports import RejectsFile
from collectors.csv.batch import ParsedBatch
from collectors.csv.mapping import Mapping
from collectors.csv.reader import Understanding, read, understand

MOST_REMEMBERED = 20_000_000
"""Readings of one command that are remembered, to tell repetitions between its files; 320 MB of them."""


@dataclass
class Trialled:
    """A file as it is understood, and what would become of its readings."""

    understood: Understanding
    accepted: int = 0
    duplicate: int = 0
    conflicting: int = 0
    rejected: int = 0
    missing: Counter[str] = field(default_factory=Counter)


Held = Callable[[str, int, int], ReadingColumns]
"""Stored readings of a point from one instant to another [us], both included, oldest first."""


class Seen:
    """The readings of the files so far: a repeated one is a duplicate, another value a conflict.

    With `held`, so are those that are stored already.
    """

    def __init__(self, held: Held | None = None) -> None:
        self._held = held
        self._stored: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        self._count = 0

    def count(self, batch: ParsedBatch) -> tuple[int, int, int]:
        """New readings, repetitions and contradictions of a batch, which is remembered."""
        columns = batch.columns
        accepted = duplicate = conflicting = 0
        for number in np.unique(columns.point_id).tolist():
            rows = columns.point_id == number
            if self._held is not None:
                self._recall(batch.points[number], columns, np.flatnonzero(rows), self._held)
            new, same, other = self._of_point(batch.points[number], columns.at_us[rows], columns.value[rows])
            accepted, duplicate, conflicting = accepted + new, duplicate + same, conflicting + other
        return accepted, duplicate, conflicting

    def _recall(self, point: str, columns: ReadingColumns, rows: npt.NDArray[np.intp], held: Held) -> None:
        """Remember the stored readings of the same instants; one of another length contradicts any value."""
        at_us = columns.at_us[rows]
        stored = held(point, int(at_us.min()), int(at_us.max()))
        known_us, known = self._stored.get(point, (np.empty(0, np.int64), np.empty(0)))
        if not len(stored):
            return
        place = np.minimum(np.searchsorted(stored.at_us, at_us), len(stored) - 1)
        is_there = (stored.at_us[place] == at_us) & ~np.isin(at_us, known_us)
        place, rows = place[is_there], rows[is_there]
        is_other = stored.interval_s[place] != columns.interval_s[rows]
        is_other |= stored.valid_s[place] != columns.valid_s[rows]
        found_us, first = np.unique(stored.at_us[place], return_index=True)
        values = np.where(is_other, np.nan, stored.value[place])[first]
        order = np.argsort(all_us := np.concatenate([known_us, found_us]), kind="stable")
        self._stored[point] = all_us[order], np.concatenate([known, values])[order]

    def _of_point(
        self, point: str, at_us: npt.NDArray[np.int64], value: npt.NDArray[np.float64]
    ) -> tuple[int, int, int]:
        none = np.empty(0, np.int64), np.empty(0, np.float64)
        known_us, known = self._stored.get(point, none)
        first_us, first = np.unique(at_us, return_index=True)
        place = np.searchsorted(known_us, first_us)
        is_known = np.zeros(len(first_us), np.bool_)
        inside = place < len(known_us)
        is_known[inside] = known_us[place[inside]] == first_us[inside]
        fresh = first[~is_known]
        all_us = np.concatenate([known_us, at_us[fresh]])
        all_values = np.concatenate([known, value[fresh]])
        order = np.argsort(all_us, kind="stable")
        all_us, all_values = all_us[order], all_values[order]
        again = np.ones(len(at_us), np.bool_)
        again[fresh] = False
        differs = all_values[np.searchsorted(all_us, at_us[again])] != value[again]
        if self._count < MOST_REMEMBERED:
            self._stored[point] = all_us, all_values
            self._count += len(fresh)
        return len(fresh), int((~differs).sum()), int(differs.sum())


def dry_run(
    path: Path,
    site: Site,
    mapping: Mapping | None = None,
    *,
    rejects: RejectsFile | None = None,
    seen: Seen | None = None,
) -> Trialled:
    """What would become of a file; of several files with one `seen`, what they repeat is counted.

    Raises
    ------
    FileNotUnderstood
        If the file is no table of readings.
    """
    seen = seen or Seen()
    found = Trialled(understand(path, site, mapping))
    for batch in read(path, found.understood):
        accepted, duplicate, conflicting = seen.count(batch)
        found.accepted += accepted
        found.duplicate += duplicate + batch.duplicates
        found.conflicting += conflicting
        found.rejected += len(batch.rejects)
        found.missing.update(batch.missing)
        if rejects is not None:
            rejects.write(str(path), batch.rejects)
    return found
